"""The front door: the command line. Reads arguments, calls the packages, prints; contains no logic."""

from __future__ import annotations

import atexit
import gc
import os
import signal
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from analysis.command import app as analysis_commands
from cluster.command import app as cluster_commands
from cluster.command import job_status
from study.command import app as study_commands
from study.errors import UserError
from study.options import Address, Json, SweepFile, interrupt, without_key
from study.terminal import say, show_json, show_rows, show_warning

if TYPE_CHECKING:
    from cluster.process import Process
    from study.spec import Sweep

app = typer.Typer(
    name="manypaths",
    help="How much of the hyperparameter space does a GAN training method survive, and does another survive more?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(analysis_commands)
app.add_typer(study_commands)
app.add_typer(cluster_commands)


def main() -> None:
    """Run the command line; a user's mistake is one sentence on standard error and exit code 2."""
    warnings.showwarning = show_warning
    # looking for garbage takes a tenth of the start, for modules are many objects, and as long again at the end
    gc.set_threshold(100_000, 20, 20)
    atexit.register(gc.disable)
    try:
        app()
        sys.stdout.flush()
    except UserError as error:
        say(f"error: {error}")
        sys.exit(2)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except OSError as error:
        what = f" {error.filename}" if error.filename else ""
        say(f"error: cannot read or write{what}: {error.strerror or error}")
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the end would try to write it again
        sys.exit(2)


@app.command()
def plan(
    file: SweepFile,
    detect: Annotated[
        float | None, typer.Option(metavar="DIFFERENCE", help="Say what finding such a difference of success takes.")
    ] = None,
    discordance: Annotated[
        float, typer.Option(metavar="SHARE", help="With --detect: pairs in which one method only succeeds.")
    ] = 0.4,
    confirm_region: Annotated[
        str | None,
        typer.Option(
            metavar="RUN",
            help="Print the sweep file that puts the safe region of this sweep's run to the test.",
            callback=without_key,
        ),
    ] = None,
    method: Annotated[str | None, typer.Option(help="With --confirm-region: the method whose region it is.")] = None,
    task: Annotated[str | None, typer.Option(help="With --confirm-region: the task, where there are several.")] = None,
    json_: Json = False,
) -> None:
    """Say what a sweep would run, what it would cost, and how sharp the answers would be. Runs nothing."""
    if confirm_region is not None:
        _print_confirmation(file, confirm_region, method, task, json_=json_)
        return
    from analysis.outlook import needed, needed_lines, outlook, sharpness_lines, size_lines
    from study.claims import region_rows
    from study.sweep_run import load, packs_of, resolve_device

    sweep, trials = load(file)
    device = resolve_device(sweep)
    found = outlook(sweep, packs_of(sweep, trials), workers=_workers(sweep), device=device)
    found["claims"] = region_rows(sweep.stated, trials)
    wanted = None if detect is None else needed(sweep, found, detect, discordance)
    if json_:
        show_json(found if wanted is None else found | {"needed": wanted})
        return
    if wanted is not None:
        print("\n".join(needed_lines(sweep, wanted)))
        return
    show_rows(found["cells"])
    print("\n".join(["", *size_lines(found), *sharpness_lines(found)]))
    if found["claims"]:
        print("\nclaims, and the design points that they are about:")
        show_rows(found["claims"])
    for remark in found["remarks"]:
        print(f"note: {remark}", file=sys.stderr)


@app.command()
def run(
    file: SweepFile,
    out: Annotated[
        str | None,
        typer.Option(help="Run directory, a path or URI.", show_default="runs/NAME", callback=without_key),
    ] = None,
    address: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="A Ray cluster; without it a local Ray is started.")
    ] = None,
    in_process: Annotated[bool, typer.Option("--in-process", help="Train here, without Ray, pack after pack.")] = False,
    trial: Annotated[
        str | None, typer.Option(metavar="ID", help="Train this one trial again, alone, and print its row.")
    ] = None,
    json_: Json = False,
) -> None:
    """Run whatever a sweep lacks: all of it, the rest after a stop, or nothing. Exit code 1 if trials were lost."""
    from cluster.process import ahead

    with ahead(address, wanted=not in_process and trial is None) as process:
        _run(file, out, address, trial, process, in_process=in_process, json_=json_)


@app.command()
def status(
    run_directory: Annotated[
        str | None,
        typer.Argument(
            metavar="[TARGET]", help="A run directory; with --address a job or a sweep file.", callback=without_key
        ),
    ] = None,
    address: Address = None,
    json_: Json = False,
) -> None:
    """Say how a run stands: counts by task and method, coverage, and interim success with its interval.

    With --address: how a cluster's jobs stand, or one of them.
    """
    if address is not None:
        job_status(address, run_directory, json_=json_)
        return
    if run_directory is None:
        raise UserError("status of what? Name a run directory, or give --address URL of a cluster")
    from analysis.status import lines_of, rows_of
    from analysis.status import status as status_of
    from study.store import RunDirectory

    found = status_of(RunDirectory(run_directory))
    if json_:
        show_json(found)
        return
    show_rows(rows_of(found))
    print("\n".join(["", *lines_of(found)]))


def _run(
    file: Path,
    out: str | None,
    address: str | None,
    trial: str | None,
    process: Process | None,
    *,
    in_process: bool,
    json_: bool,
) -> None:
    """As `run`, while the process of a driver gets ready."""
    from cluster.executors import executor_of
    from study.choice import slower
    from study.progress import live
    from study.replay import replay
    from study.store import RunDirectory
    from study.sweep_run import load, lost, resolve_device, run_sweep

    sweep, trials = load(file)
    directory = RunDirectory(out or f"runs/{sweep.name}")
    if trial is not None:
        row, same = replay(directory, sweep, trials, trial)
        show_json(row) if json_ else show_rows([{"column": name, "value": value} for name, value in row.items()])
        equal = "equal" if same else "NOT equal"
        say("no stored row to compare with" if same is None else f"{equal}, to the bit, to the stored row")
        raise typer.Exit(1 if same is False else 0)
    for name in {"SIGTERM", "SIGUSR1"} & set(dir(signal)):  # the second is what SLURM sends before it takes a node away
        signal.signal(getattr(signal, name), interrupt)
    try:
        executor = executor_of(sweep, address, in_process=in_process, ahead=process)
        note = None if address else slower(sweep.execution.program, trials.kinds, resolve_device(sweep))
        if note:
            say(note)
        prepared, tally = run_sweep(directory, sweep, trials, executor, watch=live, say=say)
    except KeyboardInterrupt as stop:
        say(f"stopped: what is finished is kept in {directory}; the same command goes on from there")
        raise typer.Exit(128 + int(stop.args[0] if stop.args else signal.SIGINT)) from None
    missing = lost(prepared)
    if json_:
        show_json(
            {"out": str(directory), "planned": tally.planned, "done": tally.done, "lost": missing} | tally.statuses
        )
    else:
        print(directory)
    if missing:
        say(f"{missing} trials were lost: {directory}/attempts says why, and the same command tries them again")
        raise typer.Exit(1)


def _print_confirmation(file: Path, run_directory: str, method: str | None, task: str | None, *, json_: bool) -> None:
    """The confirmation sweep on standard output, so that it can be sent to a file; what to know of it beside."""
    from analysis.confirmation import confirm_region
    from analysis.runs import load_results
    from study.spec import read_sweep
    from study.store import RunDirectory

    if method is None:
        raise UserError("--confirm-region needs --method: the method whose region it is")
    results = load_results(RunDirectory(run_directory))
    text, sentences = confirm_region(read_sweep(file), results, method=method, task=task)
    if json_:
        show_json({"sweep": text, "words": sentences})
        return
    print(text, end="")
    say(sentences)


def _workers(sweep: Sweep) -> int:
    from cluster.resources import cores

    return sweep.execution.workers if isinstance(sweep.execution.workers, int) else cores()


if __name__ == "__main__":
    main()

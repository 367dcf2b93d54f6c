"""The front door: the command line. Reads arguments, calls the packages, prints; contains no logic."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from study.executor import Executor
    from study.spec import Sweep

app = typer.Typer(
    name="manypaths",
    help="How much of the hyperparameter space does a GAN training method survive, and does another survive more?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]
SweepFile = Annotated[Path, typer.Argument(metavar="FILE", help="The sweep file (TOML).")]
RunDir = Annotated[str, typer.Argument(metavar="RUN", help="A run directory, a path or URI.")]
Name = Annotated[str | None, typer.Argument(metavar="[NAME]", help="One entry, in full.")]


def main() -> None:
    """Run the command line; a user's mistake is one sentence on standard error and exit code 2."""
    from study.errors import UserError  # one small module: --help stays instant

    try:
        app()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)


@app.command()
def plan(file: SweepFile, json_: Json = False) -> None:
    """Say what a sweep would run, what it would cost, and how sharp the answers would be. Runs nothing."""
    from analysis.outlook import outlook
    from study.progress import duration
    from study.sweep_run import load, packs_of, resolve_device

    sweep, trials = load(file)
    found = outlook(sweep, packs_of(sweep, trials), workers=_workers(sweep), device=resolve_device(sweep))
    if json_:
        _print_json(found)
        return
    _print_rows(found["cells"])
    expected = f"about {duration(found['seconds'])}" if found["seconds"] is not None else "not measured for this sweep"
    print(
        f"\n{found['trials']} trials in {found['packs']} packs ({found['filled']:.0%} of slots filled), "
        f"prior {found['prior']}, {found['points']} points\n"
        f"expected time: {expected} on {found['workers']} {found['device']} workers\n"
        f"95 % intervals to come: success +-{found['success_half_width']:.2f} at most, "
        f"whole profile +-{found['profile_half_width']:.2f}"
    )
    for remark in found["remarks"]:
        print(f"note: {remark}", file=sys.stderr)


@app.command()
def run(
    file: SweepFile,
    out: Annotated[str | None, typer.Option(help="Run directory, a path or URI.", show_default="runs/NAME")] = None,
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
    from study.progress import live
    from study.store import RunDirectory
    from study.sweep_run import load, lost, replay, run_sweep

    sweep, trials = load(file)
    directory = RunDirectory(out or f"runs/{sweep.name}")
    if trial is not None:
        row, same = replay(directory, sweep, trials, trial)
        _print_json(row) if json_ else _print_rows([{"column": name, "value": value} for name, value in row.items()])
        equal = "equal" if same else "NOT equal"
        _say("no stored row to compare with" if same is None else f"{equal}, to the bit, to the stored row")
        raise typer.Exit(1 if same is False else 0)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        prepared, tally = run_sweep(
            directory, sweep, trials, _executor(sweep, address, in_process=in_process), watch=live, say=_say
        )
    except KeyboardInterrupt as stop:
        _say(f"stopped: what is finished is kept in {directory}; the same command goes on from there")
        raise typer.Exit(128 + int(stop.args[0] if stop.args else signal.SIGINT)) from None
    missing = lost(prepared)
    if json_:
        _print_json(
            {"out": str(directory), "planned": tally.planned, "done": tally.done, "lost": missing} | tally.statuses
        )
    else:
        print(directory)
    if missing:
        _say(f"{missing} trials were lost: {directory}/attempts says why, and the same command tries them again")
        raise typer.Exit(1)


@app.command()
def status(run_directory: RunDir, json_: Json = False) -> None:
    """Say how a run stands: counts by task and method, coverage, and interim success with its interval."""
    from analysis.status import status as status_of
    from study.store import RunDirectory

    found = status_of(RunDirectory(run_directory))
    if json_:
        _print_json(found)
        return
    rows = []
    for row in found["methods"]:
        low, high, value = row.pop("success_low"), row.pop("success_high"), row.pop("success")
        rows.append(row | {"success": "-" if value is None else f"{value:.2f} [{low:.2f}, {high:.2f}]"})
    _print_rows(rows)
    driver = found["driver"]
    print(
        f"\n{found['done']} of {found['planned']} trials done ({found['coverage']:.0%}); "
        + (f"being run by process {driver['pid']} on {driver['host']}" if driver else "nobody is running it")
    )


@app.command()
def report(run_directory: RunDir, json_: Json = False) -> None:
    """Write tables, figures and report.html into a run directory, from its Parquet alone."""
    from analysis.load import load
    from analysis.report import write_report
    from study.errors import UserError
    from study.store import RunDirectory

    directory = RunDirectory(run_directory)
    if not directory.local:
        raise UserError(f"{directory} is not on a local disk: copy the run directory here to report on it")
    try:
        paths = write_report(load(directory), Path(directory.root))
    except OSError as error:
        raise UserError(f"cannot write the report into {directory}: {error.strerror or error}") from None
    figures = [path for path in paths.figures if path.suffix == ".png"]
    if json_:
        written = {"html": paths.html, "summary": paths.summary, "comparisons": paths.comparisons}
        _print_json(
            {name: str(path) for name, path in written.items()} | {"figures": [str(path) for path in paths.figures]}
        )
        return
    tables = (("summary", paths.summary), ("comparisons", paths.comparisons))
    for label, path in (("report", paths.html), *tables, *(("plot", path) for path in figures)):
        print(f"{label}: {path}")


@app.command()
def methods(name: Name = None, json_: Json = False) -> None:
    """List losses, penalties and techniques, or print one method in full."""
    from study.catalogue import method_page, methods_list

    _print_entries(method_page(name) if name else methods_list(), json_=json_)


@app.command()
def tasks(name: Name = None, json_: Json = False) -> None:
    """List tasks, or print one in full: metric, threshold, anchors, controls and the reasoning."""
    from study.catalogue import task_page, tasks_list

    _print_entries(task_page(name) if name else tasks_list(), json_=json_)


@app.command()
def spaces(name: Name = None, json_: Json = False) -> None:
    """List named priors, or print one in full with the source of each range."""
    from study.catalogue import space_page, spaces_list

    _print_entries(space_page(name) if name else spaces_list(), json_=json_)


def _executor(sweep: Sweep, address: str | None, *, in_process: bool) -> Executor:
    from study.sweep_run import resolve_device

    device = resolve_device(sweep)
    if in_process:
        from study.executor import InProcess

        return InProcess(device=device)
    from cluster.tune import RayTune
    from study.spec import DATA_ROOT

    workers = None if sweep.execution.workers == "auto" else sweep.execution.workers
    data = os.environ.get(DATA_ROOT) if sweep.execution.data else None
    return RayTune(device=device, workers=workers, address=address, data=data)


def _workers(sweep: Sweep) -> int:
    return sweep.execution.workers if isinstance(sweep.execution.workers, int) else os.cpu_count() or 1


def _interrupt(number: int, _frame: object) -> None:
    raise KeyboardInterrupt(number)


def _say(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)


def _print_json(content: object) -> None:
    print(json.dumps(content, indent=1, allow_nan=False))


def _print_entries(entries: list[dict[str, Any]], *, json_: bool) -> None:
    if json_:
        _print_json(entries)
        return
    for entry in entries:
        head, *rest = entry.items()
        print(head[1])
        for key, value in rest:
            for line in value if isinstance(value, list) else [value]:
                print(f"    {key}: {line}")


def _print_rows(rows: Iterable[Mapping[str, Any]]) -> None:
    """Print a table with aligned columns."""
    rows = [{key: "-" if value is None else str(value) for key, value in row.items()} for row in rows]
    if not rows:
        return
    widths = {key: max(len(key), *(len(row[key]) for row in rows)) for key in rows[0]}
    for row in [{key: key for key in widths}, *rows]:
        print("  ".join(row[key].ljust(width) for key, width in widths.items()).rstrip())


if __name__ == "__main__":
    main()

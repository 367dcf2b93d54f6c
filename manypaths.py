"""The front door: the command line. Reads arguments, calls the packages, prints; contains no logic."""

from __future__ import annotations

import json
import os
import signal
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from analysis.imported.command import app as imports
from study.errors import UserError
from study.terminal import deliver, say, show_entries, show_json, show_rows, show_warning

if TYPE_CHECKING:
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
OutFile = Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Write there, not to standard output.")]
TableName = Annotated[str, typer.Option("--table", metavar="NAME", help="Which table.")]
exports = typer.Typer(help="Write a run's tables for elsewhere.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(exports, name="export")
app.add_typer(imports, name="import")


def main() -> None:
    """Run the command line; a user's mistake is one sentence on standard error and exit code 2."""
    warnings.showwarning = show_warning
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
            metavar="RUN", help="Print the sweep file that puts the safe region of this sweep's run to the test."
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
    found = outlook(sweep, packs_of(sweep, trials), workers=_workers(sweep), device=resolve_device(sweep))
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
    from cluster.executors import executor_of
    from study.progress import live
    from study.store import RunDirectory
    from study.sweep_run import load, lost, replay, run_sweep

    sweep, trials = load(file)
    directory = RunDirectory(out or f"runs/{sweep.name}")
    if trial is not None:
        row, same = replay(directory, sweep, trials, trial)
        show_json(row) if json_ else show_rows([{"column": name, "value": value} for name, value in row.items()])
        equal = "equal" if same else "NOT equal"
        say("no stored row to compare with" if same is None else f"{equal}, to the bit, to the stored row")
        raise typer.Exit(1 if same is False else 0)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        executor = executor_of(sweep, address, in_process=in_process)
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


@app.command()
def status(run_directory: RunDir, json_: Json = False) -> None:
    """Say how a run stands: counts by task and method, coverage, and interim success with its interval."""
    from analysis.status import lines_of, rows_of
    from analysis.status import status as status_of
    from study.store import RunDirectory

    found = status_of(RunDirectory(run_directory))
    if json_:
        show_json(found)
        return
    show_rows(rows_of(found))
    print("\n".join(["", *lines_of(found)]))


@app.command()
def report(run_directory: RunDir, json_: Json = False) -> None:
    """Write tables, figures and report.html into a run directory, from its Parquet alone."""
    from analysis.report import write_report
    from analysis.runs import load_results
    from study.store import RunDirectory

    directory = RunDirectory(run_directory)
    if not directory.local:
        raise UserError(f"{directory} is not on a local disk: copy the run directory here to report on it")
    try:
        paths = write_report(load_results(directory), Path(directory.root), processes=min(2, os.cpu_count() or 1))
    except OSError as error:
        raise UserError(f"cannot write the report into {directory}: {error.strerror or error}") from None
    figures = [path for path in paths.figures if path.suffix == ".png"]
    if json_:
        written = {"html": paths.html, "summary": paths.summary, "comparisons": paths.comparisons}
        show_json(
            {name: str(path) for name, path in written.items()} | {"figures": [str(path) for path in paths.figures]}
        )
        return
    tables = (("summary", paths.summary), ("comparisons", paths.comparisons))
    for label, path in (("report", paths.html), *tables, *(("plot", path) for path in figures)):
        print(f"{label}: {path}")


@app.command()
def query(
    run_directory: RunDir,
    sql: Annotated[
        str | None, typer.Argument(metavar="SQL", help="One reading statement; without it: the views and columns.")
    ] = None,
    format_: Annotated[
        str, typer.Option("--format", metavar="FORM", help="table, markdown, csv, json or parquet.")
    ] = "table",
    out: OutFile = None,
) -> None:
    """Ask a run's tables in SQL (DuckDB). Reads the Parquet in place and changes nothing."""
    from analysis.query import check_format, listing, write
    from analysis.query import query as ask
    from study.store import RunDirectory

    check_format(format_)
    if format_ == "parquet" and out is None and sys.stdout.isatty():
        raise UserError("--format parquet is not for a terminal: give --out FILE, or a pipe")
    directory = RunDirectory(run_directory)
    if sql is None:
        rows = listing(directory)
        show_json(rows) if format_ == "json" else show_rows(rows)
        return
    deliver(write(ask(directory, sql), format_), out)


@app.command()
def figures(
    run_directory: RunDir,
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME...", help="Figures, all without any.")] = None,
    format_: Annotated[
        str, typer.Option("--format", metavar="FORM,...", help="What to write, of csv, png, svg and pdf.")
    ] = "csv,png,svg,pdf",
    out: Annotated[Path | None, typer.Option(help="Folder to write into.", show_default="RUN/figures")] = None,
    list_: Annotated[bool, typer.Option("--list", help="Name the figures and what they show; draw nothing.")] = False,
) -> None:
    """Draw the figures again from a run's tables, all of them or some; the numbers are saved beside each picture."""
    from analysis.figures.table import FIGURES
    from analysis.pictures import write_figures
    from study.store import RunDirectory

    if list_:
        show_rows({"figure": name, "shows": picture.alt} for name, picture in FIGURES.items())
        return
    forms = [form.strip() for form in format_.split(",")]
    drawn = write_figures(RunDirectory(run_directory), names or (), forms=forms, out=out)
    for path in drawn.paths:
        print(path)
    for name, reason in drawn.empty.items():
        say(f"{name}: {reason}")
    if names and drawn.empty:
        raise typer.Exit(1)


@exports.command("csv")
def export_csv(run_directory: RunDir, table: TableName = "trials", out: OutFile = None) -> None:
    """A tidy table: trials (a row per planned trial), summary, comparisons or claims."""
    _export(run_directory, "csv", table, out)


@exports.command("latex")
def export_latex(run_directory: RunDir, table: TableName = "summary", out: OutFile = None) -> None:
    """A table for a paper in LaTeX (booktabs): summary, comparisons or claims."""
    _export(run_directory, "latex", table, out)


@exports.command("markdown")
def export_markdown(run_directory: RunDir, table: TableName = "summary", out: OutFile = None) -> None:
    """A table for a paper in Markdown: summary, comparisons or claims."""
    _export(run_directory, "markdown", table, out)


def _export(run_directory: str, form: str, table: str, out: Path | None) -> None:
    from analysis.export import export
    from analysis.runs import load_results
    from study.store import RunDirectory

    deliver(export(load_results(RunDirectory(run_directory)), form, table).encode(), out)


@app.command()
def watch(
    run_directory: RunDir,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of this machine; 0 takes any free one.")] = 0,
    once: Annotated[bool, typer.Option("--once", help="End when the page has been shown once.")] = False,
    json_: Json = False,
) -> None:
    """Show the report of a run in the browser while it goes on: prints an address that only this machine can reach."""
    from analysis.watch import Watched, address, server
    from study.store import RunDirectory

    signal.signal(signal.SIGTERM, _interrupt)
    try:
        with server(Watched(RunDirectory(run_directory)), port=port, once=once) as found:
            print(json.dumps({"address": address(found)}) if json_ else address(found), flush=True)
            found.serve_forever()
    except KeyboardInterrupt as stop:
        raise typer.Exit(128 + int(stop.args[0] if stop.args else signal.SIGINT)) from None


@app.command()
def compare(
    run_directory: RunDir,
    first: Annotated[str, typer.Argument(metavar="FIRST", help="A method; differences are positive for it.")],
    second: Annotated[str, typer.Argument(metavar="SECOND", help="The other method.")],
    task: Annotated[str | None, typer.Option(help="One task; without it, all that both are planned on.")] = None,
    where: Annotated[
        str | None, typer.Option(metavar="CONDITION", help="Only there, e.g. 'n_critic == 1 and lr > 1e-3'.")
    ] = None,
    figures: Annotated[Path | None, typer.Option(metavar="DIR", help="Write the pair's figures there.")] = None,
    json_: Json = False,
) -> None:
    """Say everything a run shows about two methods: who survives more, by how much, where, and what it rests on."""
    from analysis import pair_report
    from analysis.pair_words import paragraph, rows
    from analysis.runs import load_results
    from study.store import RunDirectory

    results = load_results(RunDirectory(run_directory))
    reports = pair_report.pair_reports(results, first, second, task=task, where=where)
    paths = [] if figures is None else pair_report.save_figures(results, reports, where, figures)
    if json_:
        pairs = [pair_report.data(report) for report in reports]
        show_json({"pairs": pairs, "figures": [str(path) for path in paths]})
        return
    for report in reports:
        print(report.comparison.task)
        show_rows(rows(report))
        print(f"\n{paragraph(report)}\n")
    for path in paths:
        print(f"figure: {path}")


@app.command()
def claims(run_directory: RunDir, json_: Json = False) -> None:
    """Judge the claims that a sweep stated: supported, refuted or inconclusive, with the number that decided."""
    from analysis.claims import as_json, table
    from analysis.questions import verdicts
    from analysis.runs import load_results
    from study.store import RunDirectory

    found = verdicts(load_results(RunDirectory(run_directory)))
    if json_:
        show_json(as_json(found))
        return
    show_rows(table(found))
    if not found:
        say(f"{run_directory} states no claims: docs/claims.md says how a sweep file states one")


@app.command()
def methods(name: Name = None, json_: Json = False) -> None:
    """List losses, penalties and techniques, or print one method in full."""
    from study.catalogue import method_page, methods_list

    show_entries(method_page(name) if name else methods_list(), json_=json_)


@app.command()
def tasks(name: Name = None, json_: Json = False) -> None:
    """List tasks, or print one in full: metric, threshold, anchors, controls and the reasoning."""
    from study.catalogue import task_page, tasks_list

    show_entries(task_page(name) if name else tasks_list(), json_=json_)


@app.command()
def spaces(name: Name = None, json_: Json = False) -> None:
    """List named priors, or print one in full with the source of each range."""
    from study.catalogue import space_page, spaces_list

    show_entries(space_page(name) if name else spaces_list(), json_=json_)


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
    return sweep.execution.workers if isinstance(sweep.execution.workers, int) else os.cpu_count() or 1


def _interrupt(number: int, _frame: object) -> None:
    raise KeyboardInterrupt(number)


if __name__ == "__main__":
    main()

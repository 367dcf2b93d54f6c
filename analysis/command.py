"""The commands that ask results: read arguments, call the package, print; light to import."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from analysis.imported.command import app as imports
from study.errors import UserError
from study.options import Json, OutFile, RunDir, interrupt
from study.terminal import deliver, say, show_json, show_rows

TableName = Annotated[str, typer.Option("--table", metavar="NAME", help="Which table.")]
app = typer.Typer(rich_markup_mode=None)
exports = typer.Typer(help="Write a run's tables for elsewhere.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(exports, name="export")
app.add_typer(imports, name="import")


@app.command()
def report(
    run_directory: RunDir,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Where to.", show_default="RUN")] = None,
    json_: Json = False,
) -> None:
    """Write tables, figures and report.html into a run directory, or elsewhere, from its Parquet alone."""
    from analysis.origin import origin
    from analysis.report import write_report
    from analysis.runs import load_results
    from study.store import RunDirectory

    directory = RunDirectory(run_directory)
    if out is None and not directory.local:
        raise UserError(f"{directory} is not on a local disk: say with --out where the report goes")
    results, folder = load_results(directory), out or Path(directory.root)
    try:
        paths = write_report(results, folder, processes=min(2, os.cpu_count() or 1), origin=origin(directory))
    except OSError as error:
        raise UserError(f"cannot write the report into {folder}: {error.strerror or error}") from None
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


@exports.command("optuna")
def export_optuna(
    run_directory: RunDir,
    storage: Annotated[str, typer.Argument(metavar="STORAGE", help="sqlite:///x.db, or a journal file.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace studies of these names that differ.")] = False,
    json_: Json = False,
) -> None:
    """Optuna studies, one per task and method, with failed trials and the prior; optuna-dashboard opens them."""
    from analysis.optuna_export import as_json, export_studies, sentences
    from analysis.runs import load_results
    from study.store import RunDirectory

    results = load_results(RunDirectory(run_directory))
    found = export_studies(results, storage, overwrite=overwrite)
    for sentence in sentences(results, found):
        say(sentence)
    if json_:
        show_json(as_json(found))
        return
    for entry in found:
        print(entry.study)


def _export(run_directory: str, form: str, table: str, out: Path | None) -> None:
    from analysis.export import export
    from analysis.runs import load_results
    from study.store import RunDirectory

    deliver(export(load_results(RunDirectory(run_directory)), form, table).encode(), out)


@app.command()
def failures(run_directory: RunDir, json_: Json = False) -> None:
    """Group what diverged, ran out of memory or was lost by cause, with examples and the command that re-runs one."""
    from analysis.failures import failures as failures_of
    from analysis.failures import lines_of
    from study.store import RunDirectory

    found = failures_of(RunDirectory(run_directory))
    if json_:
        show_json(found)
        return
    for line in lines_of(found):
        print(line)
    if not found["groups"]:
        say(f"nothing diverged, ran out of memory or was lost in {run_directory}")


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

    signal.signal(signal.SIGTERM, interrupt)
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

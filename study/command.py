"""The commands that say what there is to study: read arguments, call the package, print; light to import."""

from __future__ import annotations

from typing import Annotated

import typer

from study.options import Json, RunDir
from study.terminal import say, show_entries, show_json, show_rows

Name = Annotated[str | None, typer.Argument(metavar="[NAME]", help="One entry, in full.")]
app = typer.Typer(rich_markup_mode=None)


@app.command()
def methods(name: Name = None, json_: Json = False) -> None:
    """List losses, penalties and techniques, or print one method in full."""
    from study.catalogue import method_page, methods_list
    from study.user_files import provide_here

    provide_here(name or "")
    show_entries(method_page(name) if name else methods_list(), json_=json_)


@app.command()
def tasks(name: Name = None, json_: Json = False) -> None:
    """List tasks, or print one in full: metric, threshold, anchors, controls and the reasoning."""
    from study.catalogue import task_page, tasks_list
    from study.user_files import provide_here

    provide_here(name or "")
    show_entries(task_page(name) if name else tasks_list(), json_=json_)


@app.command()
def spaces(name: Name = None, json_: Json = False) -> None:
    """List named priors, or print one in full with the source of each range."""
    from study.catalogue import space_page, spaces_list

    show_entries(space_page(name) if name else spaces_list(), json_=json_)


@app.command()
def compact(run_directory: RunDir, json_: Json = False) -> None:
    """Merge the many small files of a run into few. Whoever reads it meanwhile is not disturbed."""
    from dataclasses import asdict

    from study.compaction import compact as compact_run
    from study.store import RunDirectory

    rows = [asdict(table) for table in compact_run(RunDirectory(run_directory))]
    if json_:
        show_json(rows)
        return
    show_rows(rows)


@app.command()
def doctor(
    run_directory: RunDir,
    repair: Annotated[
        bool, typer.Option("--repair", help="Remove what is left over and what cannot be read, and say so.")
    ] = False,
    json_: Json = False,
) -> None:
    """Check a run directory and say what `run` would do next. Exit code 1 if something is wrong."""
    from study import doctor as checks
    from study.store import RunDirectory

    directory = RunDirectory(run_directory)
    found = checks.repair(directory, say) if repair else checks.examine(directory)
    if json_:
        show_json(found.as_json())
    else:
        for finding in found.findings:
            mark = "repaired" if finding.repaired else finding.kind
            print(f"{mark}: {finding.where}: {finding.words}")
        print(f"{found.rows} of {found.planned} planned trials have a row; {found.next}")
    if not found.sound:
        raise typer.Exit(1)

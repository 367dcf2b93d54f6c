"""The commands that say what there is to study: read arguments, call the package, print; light to import."""

from __future__ import annotations

from typing import Annotated

import typer

from study.options import Json
from study.terminal import show_entries

Name = Annotated[str | None, typer.Argument(metavar="[NAME]", help="One entry, in full.")]
app = typer.Typer(rich_markup_mode=None)


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

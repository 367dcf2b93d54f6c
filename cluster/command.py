"""The commands for clusters: read arguments, call the package, print; light to import."""

from __future__ import annotations

import typer

app = typer.Typer(rich_markup_mode=None)

"""Arguments and options that several commands share; light to import."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]
SweepFile = Annotated[Path, typer.Argument(metavar="FILE", help="The sweep file (TOML).")]
RunDir = Annotated[str, typer.Argument(metavar="RUN", help="A run directory, a path or URI.")]
Address = Annotated[
    str | None, typer.Option(metavar="URL", help="A cluster's dashboard, e.g. http://HEAD:8265: asks of its jobs.")
]
OutFile = Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Write there, not to standard output.")]


def interrupt(number: int, _frame: object) -> None:
    """A signal handler that ends a command as Ctrl-C does; the number of the signal goes with it."""
    raise KeyboardInterrupt(number)

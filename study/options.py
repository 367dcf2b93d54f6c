"""Arguments and options that several commands share; light to import."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from study.errors import UserError

Given = TypeVar("Given", str, str | None)
KEY = re.compile(
    r"""s3://[^/?#]*(:[^?#]*)?@             # s3://KEY:SECRET@..., and secrets may hold a /
    | [\w.+-]+://[^/?#]*:(?!\d*/)[^?#]*@   # likewise, but abfs://CONTAINER@ACCOUNT and hdfs://HOST:PORT/ hold none
    | [^?]*\?.*(secret|password|access_key)\w*=""",
    re.IGNORECASE | re.VERBOSE,
)
"""A URI with a key or password in it."""


def without_key(run: Given) -> Given:
    """A run directory as it was given, if it may be printed.

    Raises:
        UserError: If it holds a key or password; the sentence does not repeat it.
    """
    if run is not None and "://" in run and KEY.match(run):
        raise UserError(
            "the address of the run directory holds a key or password, and addresses are printed: leave it out, and "
            "give it to each machine in its environment, e.g. as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    return run


Json = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]
SweepFile = Annotated[Path, typer.Argument(metavar="FILE", help="The sweep file (TOML).")]
RunDir = Annotated[str, typer.Argument(metavar="RUN", help="A run directory, a path or URI.", callback=without_key)]
Address = Annotated[
    str | None, typer.Option(metavar="URL", help="A cluster's dashboard, e.g. http://HEAD:8265: asks of its jobs.")
]
OutFile = Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Write there, not to standard output.")]


def interrupt(number: int, _frame: object) -> None:
    """A signal handler that ends a command as Ctrl-C does; the number of the signal goes with it."""
    raise KeyboardInterrupt(number)

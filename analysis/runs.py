"""From a run directory to `Results`: the one place where analysis meets files."""

from __future__ import annotations

import tomllib

import pandas as pd

from analysis.results import Results
from study.errors import UserError
from study.spec import Sweep, parse_sweep
from study.store import SWEEP, RunDirectory


def load_sweep(directory: RunDirectory) -> Sweep:
    """The sweep that a run directory belongs to.

    Raises:
        UserError: If it is not a run directory.
    """
    try:
        text = directory.read(SWEEP)
    except OSError as error:
        raise UserError(f"cannot read the run directory {directory}: {error.strerror or error}") from None
    if text is None or not directory.parts("plan"):
        raise UserError(f"{directory} is not a run directory: it has no {SWEEP} and plan; `manypaths run` makes one")
    try:
        return parse_sweep(tomllib.loads(text.decode()), source=f"{directory}/{SWEEP}", stored=True)
    except ValueError as error:
        raise UserError(f"{directory}/{SWEEP} is not TOML: {error}") from None


def load(directory: RunDirectory) -> Results:
    """Read a run's plan and trials.

    Raises:
        UserError: If it is not a run directory, or its tables were written by a newer version or contradict themselves.
    """
    sweep = load_sweep(directory)
    try:
        return Results(
            name=sweep.name,
            plan=_frame(directory, "plan"),
            trials=_frame(directory, "trials"),
            confirmatory=sweep.confirmatory,
            notice=sweep.notice,
            prior=sweep.space.title,
        )
    except ValueError as error:
        raise UserError(f"the tables of {directory} cannot be trusted: {error}") from None


def _frame(directory: RunDirectory, table: str) -> pd.DataFrame:
    frame: pd.DataFrame = directory.read_table(table).to_pandas()
    return frame

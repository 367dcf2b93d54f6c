"""What a reader of somebody's results hands on: trials as they were found, before anything is decided about them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from search_spaces.domains import Domain, When
from study.errors import UserError
from study.schema import Status

LOST, PENDING = "lost", "pending"
"""Endings that are no outcomes: such trials are planned and have no row."""

ENDINGS = (*(status.value for status in Status), LOST, PENDING)
"""How a trial may have ended."""


@dataclass(frozen=True)
class Source:
    """Trials as they were found; frames and arrays have an entry per trial, in the order in which they were found.

    Attributes:
        kind: "table", "optuna" or "ray".
        origin: The path or address that was read.
        name: What to call the run unless told otherwise.
        cells: Everything that a trial has a name for: hyperparameters, and what may say its method, task or seed.
            Values are Python's, None where a trial has none.
        hyperparameters: The columns of `cells` that are hyperparameters, unless told otherwise.
        metric: Name of the metric.
        ends: `value` of the metric in its own unit (NaN without one), `status` (one of `ENDINGS`; None where the value
            decides), `reason` (a text or None), `steps` (NaN if not counted), `drawn` (False for a configuration that
            somebody put in by hand).
        maximise: Whether the source says that higher is better; None where it says nothing.
        sampler: What the source shows of how configurations were chosen, or None.
        budget: Unit and number of steps of a whole trial, or None.
        history: `trial` (its place), `step` and `value`, a row per evaluation; None without evaluations.
        domains: What the source says of its search space.
        remarks: What the user should know about how it was read, a sentence each.
    """

    kind: str
    origin: str
    name: str
    cells: pd.DataFrame
    hyperparameters: tuple[str, ...]
    metric: str
    ends: pd.DataFrame
    maximise: bool | None = None
    sampler: str | None = None
    budget: tuple[str, int] | None = None
    history: pd.DataFrame | None = None
    domains: Mapping[str, Domain | When] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()


def ends_of(
    values: Sequence[float],
    *,
    statuses: Sequence[str | None] | None = None,
    reasons: Sequence[str | None] | None = None,
    steps: Sequence[float] | None = None,
    drawn: Sequence[bool] | None = None,
) -> pd.DataFrame:
    """The frame `Source.ends`; what is left out is unknown."""
    nothing = [None] * len(values)
    return pd.DataFrame(
        {
            "value": np.array(values, dtype=np.float64),
            "status": pd.Series(list(statuses or nothing), dtype=object),
            "reason": pd.Series(list(reasons or nothing), dtype=object),
            "steps": np.array(steps if steps is not None else [math.nan] * len(values), dtype=np.float64),
            "drawn": np.array(drawn if drawn is not None else [True] * len(values), dtype=bool),
        }
    )


def cells_of(rows: Sequence[Mapping[str, object]]) -> pd.DataFrame:
    """Rows with different keys as one frame of Python values, columns in order of appearance, None where absent."""
    names = dict.fromkeys(name for row in rows for name in row)
    return pd.DataFrame({name: pd.Series([row.get(name) for row in rows], dtype=object) for name in names})


def flat(nested: Mapping[str, object], above: str = "") -> dict[str, object]:
    """Tables inside tables as one table, names joined by a slash."""
    found: dict[str, object] = {}
    for name, value in nested.items():
        if isinstance(value, Mapping) and value:
            found |= flat(value, f"{above}{name}/")
        else:
            found[f"{above}{name}"] = value
    return found


def trials(count: int) -> str:
    """A number of trials in words."""
    return f"{count} trial" if count == 1 else f"{count} trials"


def is_missing(value: object) -> bool:
    """True for None and NaN."""
    return value is None or (isinstance(value, float) and math.isnan(value)) or value is pd.NA


def as_text(value: object) -> str:
    """A value as a label: texts as they are, whole numbers without a point, everything else as JSON says it."""
    if isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return json.dumps(value, sort_keys=True, default=str)


def is_number(value: object) -> bool:
    """True for a number that is not a truth value."""
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def as_float(value: object) -> float:
    """A cell as a number: NaN where it is empty or no number."""
    if is_missing(value) or isinstance(value, bool):
        return math.nan
    try:
        return float(value)  # type: ignore[arg-type]  # whatever it is: that is the question
    except (TypeError, ValueError):
        return math.nan


def measured(value: object, where: str) -> float:
    """A cell of the metric as a number: NaN where it is empty or says so.

    Args:
        value: The cell.
        where: What to call it.

    Raises:
        UserError: If it is anything else than a number.
    """
    found = as_float(value)
    if math.isnan(found) and not is_missing(value) and str(value).strip().lower() not in ("", "nan", "+nan", "-nan"):
        raise UserError(
            f"{where} is {value!r}: the metric must be a number everywhere; empty, nan and inf count as diverged"
        )
    return found

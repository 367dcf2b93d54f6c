"""The frames that users work with: every planned trial, typed so that counting and averaging do not mislead.

Whole numbers and truth values are nullable, so that one missing value does not turn a column into floats or objects;
measured numbers are plain floats, as numpy and matplotlib want them; `run`, `task`, `method` and `status` are
categories in the order of the plan, so that tables and plots come out in that order.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from analysis.columns import CODED, RUN, VIEWS, describe
from analysis.outcomes import code
from analysis.results import Results
from study.schema import Status

TYPES = {"int32": "Int32", "int64": "Int64", "float64": "float64", "bool": "boolean", "string": "str"}
"""Arrow type of the schema to pandas type."""

ORDERED = ("run", "task", "method", "status")
"""Columns that are categories."""


def trials(runs: Mapping[str, Results]) -> pd.DataFrame:
    """One row per run and planned trial, in plan order; a trial without a row has a missing status.

    Args:
        runs: Name of each run to its results.

    Returns:
        The columns of `VIEWS["planned"]` after `run`, and one per metric. `success` is False for a failure and missing
        while undecided; `outcome` is +inf for a failure and NaN while undecided.
    """
    return _together("planned", {name: _outcomes(results) for name, results in runs.items()})


def plan(runs: Mapping[str, Results]) -> pd.DataFrame:
    """One row per run and planned trial, in plan order."""
    return _together("plan", {name: results.plan for name, results in runs.items()})


def history(runs: Mapping[str, Results]) -> pd.DataFrame:
    """One row per run, trial and evaluation; read from disk now."""
    return _together("history", {name: results.history() for name, results in runs.items()})


def columns(runs: Mapping[str, Results]) -> pd.DataFrame:
    """What the columns of `trials` and `history` mean, with their types: a row each. Reads no history."""
    fixed = {column.name for column in VIEWS["trials"]}
    measured = [str(name) for results in runs.values() for name in results.trials.columns if name not in fixed]
    tables = {
        "trials": [str(name) for name in trials(runs).columns],
        "history": [RUN.name, *(column.name for column in VIEWS["history"]), *dict.fromkeys(measured)],
    }
    facts = pd.concat([results.plan[["metric", "task"]] for results in runs.values()]).drop_duplicates()
    primary = {str(metric): tuple(map(str, rows["task"])) for metric, rows in facts.groupby("metric", sort=False)}
    views = {"trials": "planned"}
    rows = [
        (table, column.name, TYPES[column.type] if column.name not in ORDERED else "category", column.meaning)
        for table, names in tables.items()
        for column in describe(views.get(table, table), names, primary=primary)
    ]
    return pd.DataFrame(rows, columns=["table", "column", "type", "meaning"])


def _outcomes(results: Results) -> pd.DataFrame:
    news = [name for name in results.trials.columns if name == "trial_id" or name not in results.plan.columns]
    joined = results.plan.merge(results.trials[news], on="trial_id", how="left", validate="one_to_one")
    coded = code(joined["status"].to_numpy(dtype=object), joined["primary"].to_numpy(dtype=np.float64))
    reached = pd.array(coded <= joined["threshold"].to_numpy(dtype=np.float64), dtype="boolean")
    reached[np.isnan(coded)] = pd.NA
    joined[CODED.name], joined["success"] = coded, reached
    return joined


def _together(table: str, frames: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The runs' frames below each other, typed; what an older run's files lack is null."""
    fixed = {column.name: TYPES[column.type] for column in (RUN, *VIEWS[table])}
    whole = pd.concat([_typed(frame, fixed).assign(run=run) for run, frame in frames.items()], ignore_index=True)
    others = [str(name) for name in whole.columns if name not in fixed]
    found = whole.reindex(columns=[*fixed, *others])
    known = {"status": [status.value for status in Status]}
    for name in ORDERED:
        if name in found.columns:
            found[name] = pd.Categorical(found[name], categories=known.get(name) or list(found[name].unique()))
    return found


def _typed(frame: pd.DataFrame, fixed: Mapping[str, str]) -> pd.DataFrame:
    absent = [name for name in fixed if name not in frame.columns and name != RUN.name]
    whole = frame.reindex(columns=[*frame.columns, *absent])
    return whole.astype({name: kind for name, kind in fixed.items() if name in whole.columns})

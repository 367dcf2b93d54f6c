"""The data behind the interactive part of the report: every trial with its configuration, compact enough for a page.

The page recomputes profiles from it as `profiles.steps` does: points averaged, failures in the denominator, what is
undecided in none.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special

from analysis.axes import Axis, axes_of
from analysis.figures import style
from analysis.intervals import LEVEL
from analysis.outcomes import IntArray
from analysis.results import Results, TaskFacts
from study.schema import Status

ROWS = 20_000
"""Most trials on one page, over all tasks; beyond it whole points are left out, and the page says so."""

SEED = 20_240_518
"""Seed of the choice of points that stay: the same results give the same page."""

ENDINGS = (*(status.value for status in Status), "missing")
"""How a planned trial stands, as the page counts them."""


def explorer(results: Results, *, rows: int = ROWS) -> list[dict[str, Any]]:
    """What the page needs to show and filter trials.

    Args:
        results: The results.
        rows: Most trials over all tasks.

    Returns:
        JSON data, an entry per task: `task`, `adaptive` (`Results.adaptive`, null for none: with it there are no
        intervals), `metric`, `threshold`, `anchors`, `z` (quantile of Wilson's interval), `endings` (names of
        `status`), `methods` (name, colour, line and marker), `axes` (column, word, whether logarithmic, levels, ends,
        trials without it), `points` (kept and planned), and one list per column with an entry per trial: `id`,
        `method`, `status` and `point` as indices, `seed`, `value` (the primary metric, null unless completed) and
        `settings` (per axis; a level's index where it has levels, null where a method does not have the
        hyperparameter).
    """
    return [_task(results, task, share=rows / max(1, len(results.plan))) for task in results.tasks]


def _task(results: Results, task: str, *, share: float) -> dict[str, Any]:
    outcomes, facts, axes = results.outcomes(task), results.facts(task), axes_of(results, task)
    points, planned = _points(outcomes)
    chosen = _chosen(planned, share)
    kept = np.isin(points, chosen)
    rows, index = outcomes[kept].reset_index(drop=True), np.searchsorted(chosen, points[kept])
    order = np.lexsort((rows["trial_id"].astype(str), index))
    rows, index = rows.iloc[order].reset_index(drop=True), index[order]
    methods = results.methods_of(task)
    return {
        "task": task,
        "adaptive": results.adaptive,
        **_facts(facts),
        "endings": list(ENDINGS),
        "methods": [_method(name, results.methods.index(name)) for name in methods],
        "axes": [_axis(axis, rows) for axis in axes],
        "points": [len(chosen), planned],
        "id": [str(name) for name in rows["trial_id"]],
        "method": rows["method"].map({name: i for i, name in enumerate(methods)}).tolist(),
        "status": rows["status"].fillna("missing").map(ENDINGS.index).tolist(),
        "point": index.tolist(),
        "seed": rows["seed"].tolist(),
        "value": _values(rows["primary"], facts.threshold),
        "settings": [_settings(axis, rows) for axis in axes],
    }


def _facts(facts: TaskFacts) -> dict[str, Any]:
    return {
        "metric": facts.metric,
        "threshold": facts.threshold,
        "anchors": [facts.anchor_low, facts.anchor_high],
        "z": -float(special.ndtri((1 - LEVEL) / 2)),
    }


def _points(outcomes: pd.DataFrame) -> tuple[IntArray, int]:
    """The index of each trial's point, and the number of points."""
    keys = outcomes[["replicate", "point"]].to_numpy(dtype=np.int64)
    found, index = np.unique(keys, axis=0, return_inverse=True)
    return index.reshape(-1).astype(np.int64), len(found)


def _chosen(planned: int, share: float) -> IntArray:
    """The points that stay, ascending; at random, since every n-th of a Sobol sequence or a grid is no fair sample."""
    if share >= 1:
        return np.arange(planned)
    rng = np.random.default_rng(SEED)
    return np.sort(rng.permutation(planned)[: max(1, int(planned * share))])


def _method(name: str, order: int) -> dict[str, Any]:
    return {"name": name, "colour": style.colour(order), "line": style.line(order), "marker": style.marker(order)}


def _axis(axis: Axis, rows: pd.DataFrame) -> dict[str, Any]:
    return {
        "name": axis.name,
        "word": axis.word,
        "log": axis.log,
        "levels": list(axis.levels),
        "ends": [] if axis.levels else [axis.low, axis.high],
        "absent": int(axis.of(rows).isna().sum()),
    }


def _values(primary: pd.Series, threshold: float) -> list[float | None]:
    """Four significant digits, more where fewer would carry a value over the threshold."""
    exact: npt.NDArray[np.float64] = primary.to_numpy(dtype=np.float64)
    short = [None if value != value else float(f"{value:.4g}") for value in exact]
    return [
        float(value) if text is not None and (text <= threshold) != (value <= threshold) else text
        for text, value in zip(short, exact, strict=True)
    ]


def _settings(axis: Axis, rows: pd.DataFrame) -> list[float | int | None]:
    if axis.levels:
        return [None if value != value else int(value) for value in axis.scaled(axis.of(rows))]
    numbers = axis.of(rows).to_numpy(dtype=np.float64)
    return [None if value != value else float(f"{value:.6g}") for value in numbers]

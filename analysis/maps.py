"""Success and failure over two hyperparameters: counts in cells that are equally likely under the prior."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pandas as pd

from analysis.axes import Axis, axes_of, axis_named, tally
from analysis.intervals import wilson
from analysis.outcomes import FloatArray, IntArray, Sample, sample
from analysis.results import Results
from study.errors import UserError, unknown

CELLS = (3, 6)
"""Fewest and most bins of each range."""

PER_CELL = 8
"""Points that a cell should hold before cells become smaller."""

USUAL = ("lr", "beta1")
"""The pair of hyperparameters that is looked at where both vary."""

EVENTS = ("success", "failure")
"""What is counted: the metric at or below the threshold, or diverged and out of memory."""

COLUMNS = (
    *("task", "method", "order", "event", "x", "y", "x_bin", "y_bin", "x_label", "y_label"),
    *("x_low", "x_high", "y_low", "y_high", "count", "points", "share", "low", "high", "undecided", "visited"),
)
"""Columns of a map; `count` sums points, a point counting by the share of its trials in the cell."""


def success_map(
    results: Results,
    task: str,
    method: str,
    x: str,
    y: str,
    *,
    cells: int | None = None,
    event: str = "success",
    outcomes: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Success over two hyperparameters, a row per cell, cells without trials too.

    Args:
        results: The results.
        task: Name of a task.
        method: Name of a method planned on it.
        x: A hyperparameter that varies for the method there, by the sweep file's word.
        y: Another one.
        cells: Bins of each range; 3 to 6, by the number of points, without it. Levels are their own.
        event: What is counted, one of `EVENTS`.
        outcomes: `Results.outcomes` of the task, where they are at hand.

    Returns:
        Columns `COLUMNS`. `share` is NaN and the interval (Wilson's) all of [0, 1] where no trial is decided.

    Raises:
        UserError: The hyperparameter does not vary for the method there, or x and y are the same.
    """
    if event not in EVENTS:
        raise ValueError(f"a map counts one of {EVENTS}, got {event!r}")
    if x == y:
        raise UserError(f"a map has two different sides, got {x} for both")
    axes = axes_of(results, task, method)
    sides = [axis for axis in (axis_named(axes, name) for name in (x, y)) if axis is not None]
    if len(sides) < 2:
        strange = x if axis_named(axes, x) is None else y
        words = [axis.word for axis in axes] or ["none: nothing varies there"]
        raise unknown(f"hyperparameter that varies for {method} on {task}:", strange, words)
    found = results.outcomes(task) if outcomes is None else outcomes
    rows = found[found["method"] == method]
    table = _cells(rows, sides[0], sides[1], cells, event, results.facts(task).threshold)
    order = results.methods.index(method)
    named = table.assign(task=task, method=method, order=order, event=event, visited=results.adaptive)
    return named[list(COLUMNS)]


def failure_map(
    results: Results, task: str, method: str, x: str = "lr", y: str = "beta1", *, cells: int | None = None
) -> pd.DataFrame:
    """Failures over two hyperparameters: `success_map` counting the trials that diverged or ran out of memory."""
    return success_map(results, task, method, x, y, cells=cells, event="failure")


def usual_pair(results: Results, task: str) -> tuple[str, str] | None:
    """The two hyperparameters to look at on a task: learning rate and beta1, else the two that most methods vary.

    None where fewer than two vary.
    """
    used = Counter(axis.word for method in results.methods_of(task) for axis in axes_of(results, task, method))
    ordered = [name for name in USUAL if name in used]
    ordered += [name for name, _ in used.most_common() if name not in ordered]
    return (ordered[0], ordered[1]) if len(ordered) > 1 else None


def cells_for(points: int) -> int:
    """How many bins each range of a map is cut into: 3 to 6, such that a cell holds 8 points where that is possible."""
    return int(min(CELLS[1], max(CELLS[0], math.isqrt(points // PER_CELL))))


def _cells(rows: pd.DataFrame, x: Axis, y: Axis, cells: int | None, event: str, threshold: float) -> pd.DataFrame:
    trials = sample(rows)
    cut = cells or cells_for(len(trials.clusters()[1]))
    across, up = x.count(cut), y.count(cut)
    x_bin, y_bin = x.bin(x.of(rows), cut), y.bin(y.of(rows), cut)
    where = np.where((x_bin < 0) | (y_bin < 0), -1, x_bin * up + y_bin)
    count, points = tally(where, across * up, _happened(trials, event, threshold), trials)
    undecided = np.bincount(where[(where >= 0) & ~trials.known()], minlength=across * up)
    ends = np.array([wilson(float(k), int(n)) if n else (0.0, 1.0) for k, n in zip(count, points, strict=True)])
    share = np.divide(count, points, out=np.full(len(points), math.nan), where=points > 0)
    found = {"count": count, "points": points, "share": share, "low": ends[:, 0], "high": ends[:, 1]}
    i, j = np.divmod(np.arange(across * up), up)
    return pd.DataFrame(_side("x", x, i, cut) | _side("y", y, j, cut) | found | {"undecided": undecided})


def _happened(trials: Sample, event: str, threshold: float) -> FloatArray:
    met = trials.values <= threshold if event == "success" else np.isinf(trials.values)
    return np.where(trials.known(), met, np.nan)


def _side(side: str, axis: Axis, bins: IntArray, cut: int) -> dict[str, object]:
    """Where the cells lie along one side; ends are NaN for texts."""
    labels = [axis.label(place, cut) for place in range(axis.count(cut))]
    if axis.text:
        ends = np.full((2, len(labels)), math.nan)
    elif axis.levels:
        ends = np.array([axis.levels, axis.levels], dtype=np.float64)
    else:
        edges = axis.edges(cut)
        ends = np.array([edges[:-1], edges[1:]])
    found: dict[str, object] = {side: axis.word, f"{side}_bin": bins}
    found |= {f"{side}_label": [labels[place] for place in bins]}
    return found | {f"{side}_low": ends[0][bins], f"{side}_high": ends[1][bins]}

"""How success depends on one hyperparameter at a time: S(threshold | hyperparameter in a bin), and its basin's width.

Bins are equally likely under the prior, so that a bin's success is that of a slice of the prior; all other
hyperparameters vary in it as they do everywhere. After the learning-rate sensitivity of Wortsman et al. 2023.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.axes import Axis, axes_of, shown, tally
from analysis.intervals import LEVEL, TINY, wilson
from analysis.outcomes import FloatArray, IntArray, Sample, sample
from analysis.results import Results

BINS = (5, 8)
"""Fewest and most bins of a range."""

PER_BIN = 16
"""Points that a further bin takes."""

HALF = 0.5
"""The success that a basin is made of."""

COLUMNS = (
    *("task", "method", "order", "axis", "log", "bin", "label", "low", "high", "centre"),
    *("success", "success_low", "success_high", "points", "undecided"),
    *("basin", "basin_low", "basin_high", "basin_of", "unit", "visited"),
)
"""Columns of `sensitivity`; `low` to `centre` are NaN for texts, `visited` is the sampler that looked at results."""


@dataclass(frozen=True)
class Basin:
    """Where along a hyperparameter a method succeeds at least half of the time, at the resolution of the bins.

    Attributes:
        word: The hyperparameter.
        width: Measure of the bins whose success is at least one half, in `unit`.
        low: The least that measure may be at 95 %: the bins whose success is certainly at least one half.
        high: The most it may be: all but those whose success is certainly lower.
        of: Measure of the whole range, same unit.
        unit: "decades", "units" (of the hyperparameter itself) or "levels".
        bins: The bins that the width is made of, in words; neighbours are joined.
        open: Whether it reaches an end of the range, and may go on beyond.
    """

    word: str
    width: float
    low: float
    high: float
    of: float
    unit: str
    bins: tuple[str, ...]
    open: bool

    @property
    def words(self) -> str:
        """The basin as a sentence."""
        span = f"{self.width:.2g} of {self.of:.2g} {self.unit} [{self.low:.2g}, {self.high:.2g}]"
        if not self.bins:
            return f"{self.word}: success is at least one half nowhere, {span}"
        beyond = "; it reaches an end of the range and may go on beyond it" if self.open else ""
        return f"{self.word}: success is at least one half over {span}: {', '.join(self.bins)}{beyond}"


def sensitivity(results: Results) -> pd.DataFrame:
    """One row per task, method, varied hyperparameter and bin, columns `COLUMNS`; no rows where nothing varies."""
    frames = [
        _table(results, task, method, outcomes[outcomes["method"] == method])
        for task in results.tasks
        for outcomes in [results.outcomes(task)]
        for method in results.methods_of(task)
    ]
    found = [frame for frame in frames if len(frame)]
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=list(COLUMNS))


def along(rows: pd.DataFrame, axis: Axis, threshold: float, *, bins: int | None = None) -> pd.DataFrame:
    """Success in the bins of one hyperparameter, with Wilson's interval for each.

    Args:
        rows: Rows of `Results.outcomes` of one method.
        axis: The hyperparameter; levels are their own bins.
        threshold: Success is primary <= threshold.
        bins: Bins of a range; 5 to 8, by the number of points, without it.

    Returns:
        One row per bin: `bin`, `label`, `low`, `high`, `centre` (in the hyperparameter's unit), `success` (NaN for an
        empty bin), `success_low`, `success_high`, `points` (that hold a decided trial there) and `undecided` trials.
    """
    trials = sample(rows)
    cut = bins or bins_for(len(trials.clusters()[1]))
    count = axis.count(cut)
    cells = axis.bin(axis.of(rows), cut)
    successes, points = _successes(cells, count, threshold, trials)
    undecided = np.bincount(cells[(cells >= 0) & np.isnan(trials.values)], minlength=count)
    return _places(axis, cut).assign(**_estimates(successes, points), points=points, undecided=undecided)


def bins_for(points: int) -> int:
    """How many bins a range is cut into: 5 to 8, one for each 16 points."""
    return int(min(BINS[1], max(BINS[0], points // PER_BIN)))


def basins(results: Results, task: str, method: str) -> tuple[Basin, ...]:
    """The basin of every hyperparameter that a method varies on a task.

    Raises:
        ValueError: The configurations were chosen by a sampler that looked at results: its bins are no slices of a
            prior.
    """
    if results.adaptive:
        raise ValueError(
            f"configurations were chosen by {results.adaptive}, which looked at results: a basin of theirs says "
            "nothing of the prior"
        )
    outcomes = results.outcomes(task)
    rows, threshold = outcomes[outcomes["method"] == method], results.facts(task).threshold
    return tuple(basin(along(rows, axis, threshold), axis) for axis in axes_of(results, task, method))


def basin(table: pd.DataFrame, axis: Axis) -> Basin:
    """The basin of one hyperparameter, from its table of `along`.

    The interval joins one of Wilson per bin, each at a level that makes all of them hold together (Bonferroni): with
    95 % confidence the bins whose lower end reaches one half are in the basin and those whose upper end does not are
    outside.
    """
    share, points = table["success"].to_numpy(dtype=np.float64), table["points"].to_numpy(dtype=np.int64)
    level = 1 - (1 - LEVEL) / max(1, len(table))
    ends = np.array([_wilson(p * n if n else 0.0, int(n), level) for p, n in zip(share, points, strict=True)])
    inside = share >= HALF - TINY
    unit = "levels" if axis.levels else "decades" if axis.log else "units"
    each = 1.0 if axis.levels else axis.span() / len(table)
    return Basin(
        word=axis.word,
        width=each * int(inside.sum()),
        low=each * int((ends[:, 0] >= HALF).sum()),
        high=each * int((ends[:, 1] >= HALF).sum()),
        of=each * len(table),
        unit=unit,
        bins=tuple(_joined(table, inside, axis)),
        open=not axis.levels and bool(inside[0] or inside[-1]),
    )


def _table(results: Results, task: str, method: str, rows: pd.DataFrame) -> pd.DataFrame:
    threshold = results.facts(task).threshold
    frames = []
    for axis in axes_of(results, task, method):
        table = along(rows, axis, threshold)
        found = basin(table, axis)
        frames.append(
            table.assign(
                task=task,
                method=method,
                order=results.methods.index(method),
                axis=axis.word,
                log=axis.log,
                basin=found.width,
                basin_low=found.low,
                basin_high=found.high,
                basin_of=found.of,
                unit=found.unit,
                visited=results.adaptive,
            )
        )
    return pd.concat(frames, ignore_index=True)[list(COLUMNS)] if frames else pd.DataFrame(columns=list(COLUMNS))


def _successes(cells: IntArray, count: int, threshold: float, trials: Sample) -> tuple[FloatArray, IntArray]:
    reached = np.where(trials.known(), trials.values <= threshold, np.nan)
    return tally(cells, count, reached, trials)


def _estimates(successes: FloatArray, points: IntArray) -> dict[str, FloatArray]:
    ends = np.array([_wilson(float(s), int(n), LEVEL) for s, n in zip(successes, points, strict=True)])
    share = np.divide(successes, points, out=np.full(len(points), math.nan), where=points > 0)
    return {"success": share, "success_low": ends[:, 0], "success_high": ends[:, 1]}


def _wilson(successes: float, n: int, level: float) -> tuple[float, float]:
    """Wilson's interval; of an empty bin nothing is known."""
    return wilson(successes, n, level=level) if n else (0.0, 1.0)


def _places(axis: Axis, bins: int) -> pd.DataFrame:
    count = axis.count(bins)
    low, high, centre = (np.full(count, math.nan) for _ in range(3))
    if not axis.levels:
        edges = axis.edges(bins)
        low, high = edges[:-1], edges[1:]
        centre = np.sqrt(low * high) if axis.log else (low + high) / 2
    elif not axis.text:
        low = high = centre = np.array(axis.levels, dtype=np.float64)
    labels = [axis.label(place, bins) for place in range(count)]
    return pd.DataFrame({"bin": range(count), "label": labels, "low": low, "high": high, "centre": centre})


def _joined(table: pd.DataFrame, inside: Iterable[np.bool_], axis: Axis) -> list[str]:
    """The bins of a basin in words, neighbours of a range as one."""
    places = [place for place, kept in enumerate(inside) if kept]
    if axis.levels:
        return [str(table["label"].iloc[place]) for place in places]
    starts = [place for place in places if place - 1 not in places]
    stops = [place for place in places if place + 1 not in places]
    low, high = table["low"], table["high"]
    return [
        f"{shown(float(low.iloc[start]))} to {shown(float(high.iloc[stop]))}"
        for start, stop in zip(starts, stops, strict=True)
    ]

"""Which hyperparameters decide, and whether that is more than chance: PED-ANOVA with a null line, and fANOVA.

Failures count: every decided trial has a finite loss, the worst one for a failure. Logarithmic axes enter as log10,
few levels and texts as categories. One row is a configuration, the mean over its seeds; what is resampled and permuted
is the design point. Optuna's evaluators know none of this: they drop failures and integrate over linear scales.

References: Hutter, Hoos and Leyton-Brown 2014 (fANOVA); Watanabe, Bansal and Hutter 2023 (PED-ANOVA).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.special import ndtr

from analysis.axes import Axis, axes_of
from analysis.outcomes import FloatArray, IntArray, code
from analysis.profiles import utility
from analysis.results import Results, TaskFacts

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

RESAMPLES = 50
"""Bootstrap resamples of the design points."""

PERMUTATIONS = 199
"""Permutations of a column: with them the line that chance crosses in 5 % of cases is exact."""

FALSE_ALARMS = 0.05
"""How often a hyperparameter without any effect rises above its null line."""

TOP = 0.1
"""The best share of the configurations, whose density PED-ANOVA holds against that of all."""

CELLS = 50
"""Cells that a range is cut into."""

LEAST = 30
"""Fewer decided configurations say nothing about importance."""

NORMAL = 1.959964
"""The normal quantile of a two-sided interval of 95 %."""

FOREST_ROWS, FOREST_DEPTH = 500, 8
"""Most configurations, and levels of a tree, of fANOVA: its time grows with the square of the leaves."""

COLUMNS = ("task", "method", "value", "axis", "share", "low", "high", "null", "above", "n", "undecided")
"""Columns of `shares`."""


@dataclass(frozen=True)
class Sheet:
    """What importance is computed from: a row per configuration, in an order that no input order moves.

    Attributes:
        axes: The hyperparameters that vary.
        columns: Each axis in its scale, shape (rows,); NaN where a configuration has not that hyperparameter.
        losses: shape (rows,), lower is better, all finite.
        points: shape (rows,), the design point of each row, counted from 0.
        undecided: Planned trials without a known outcome, which are in no row.
    """

    axes: tuple[Axis, ...]
    columns: tuple[FloatArray, ...]
    losses: FloatArray
    points: IntArray
    undecided: int


def _utility_loss(values: FloatArray, facts: TaskFacts) -> FloatArray:
    return 1.0 - utility(values, low=facts.anchor_low, high=facts.anchor_high)


def _log_metric(values: FloatArray, facts: TaskFacts) -> FloatArray:
    positive = values[np.isfinite(values) & (values > 0)]
    floor = min(facts.anchor_low, float(positive.min(initial=facts.anchor_low)))
    return np.asarray(np.log(np.clip(values, floor, facts.anchor_high)), dtype=np.float64)


def _failure(values: FloatArray, facts: TaskFacts) -> FloatArray:
    return np.asarray(~(values <= facts.threshold), dtype=np.float64)


VALUES: dict[str, Callable[[FloatArray, TaskFacts], FloatArray]] = {
    "utility": _utility_loss,
    "log_metric": _log_metric,
    "success": _failure,
}
"""What importance may be asked for: 1 - utility, log metric capped at the upper anchor, 1 - success."""


def shares(
    results: Results,
    task: str,
    method: str,
    *,
    rng: np.random.Generator,
    value: str = "utility",
    resamples: int = RESAMPLES,
) -> pd.DataFrame:
    """PED-ANOVA: each hyperparameter's share in what sets the best tenth of the configurations apart.

    Args:
        results: The results.
        task: Name of a task.
        method: Name of a method planned on it.
        rng: Source of the resampling and of the permutations.
        value: One of `VALUES`.
        resamples: Bootstrap resamples of the design points.

    Returns:
        A row per hyperparameter that varies, largest share first, columns `COLUMNS`: `share` (all sum to 1) with the
        ends of its 95 % interval, the `null` share that its column, shuffled, exceeds in 5 % of cases (NaN where a
        sampler looked at results: nothing may be shuffled there), `above` where the share exceeds that, `n`
        configurations and the trials still `undecided`. No row where fewer than `LEAST`
        configurations are decided, fewer than two hyperparameters vary, or all configurations score the same.
    """
    rows = sheet(results, task, method, value=value)
    if len(rows.axes) < 2 or len(rows.losses) < LEAST or np.ptp(rows.losses) == 0:
        return pd.DataFrame(columns=list(COLUMNS))
    found = divergences(rows, np.ones((1, len(rows.losses))))[0]
    spread = divergences(rows, _resampled(rows.points, resamples, rng))
    low, high = _ends(_normalised(found[None])[0], _normalised(spread))
    null = null_lines(rows, rng) if results.adaptive is None else np.full(len(rows.axes), np.nan)
    total = found.sum() or 1.0
    frame = pd.DataFrame(
        {
            "task": task,
            "method": method,
            "value": value,
            "axis": [axis.word for axis in rows.axes],
            "share": found / total,
            "low": low,
            "high": high,
            "null": null / total,
            "above": found > null,
            "n": len(rows.losses),
            "undecided": rows.undecided,
        }
    )
    return frame.sort_values(["share", "axis"], ascending=[False, True], ignore_index=True)


def fanova(
    results: Results, task: str, method: str, *, rng: np.random.Generator, value: str = "utility"
) -> dict[str, float]:
    """fANOVA: the share of the variance that each hyperparameter explains by itself, by a random forest of Optuna's.

    Args:
        results: The results.
        task: Name of a task.
        method: Name of a method planned on it.
        rng: Draws the configurations where there are more than `FOREST_ROWS`, and the forest's seed.
        value: One of `VALUES`.

    Returns:
        The hyperparameter's word to its main effect's share, a point estimate; 1 minus their sum are interactions.
        Hyperparameters that some configurations have not are left out. Empty where `shares` is.
    """
    rows = sheet(results, task, method, value=value)
    whole = [i for i, column in enumerate(rows.columns) if not np.isnan(column).any()]
    seed = int(rng.integers(2**31))
    if len(whole) < 2 or len(rows.losses) < LEAST or np.ptp(rows.losses) == 0:
        return {}
    kept = np.sort(rng.permutation(len(rows.losses))[:FOREST_ROWS])
    return main_effects(
        {rows.axes[i].word: rows.columns[i][kept] for i in whole},
        rows.losses[kept],
        levels={rows.axes[i].word: len(rows.axes[i].levels) for i in whole if rows.axes[i].levels},
        seed=seed,
    )


def main_effects(
    columns: Mapping[str, FloatArray], losses: FloatArray, *, levels: Mapping[str, int] | None = None, seed: int
) -> dict[str, float]:
    """The fANOVA of a table: each column's main effect as a share of the variance.

    Args:
        columns: Name to values, shape (rows,), in the scale in which equal steps are equally likely.
        losses: shape (rows,), finite.
        levels: Columns of equally likely levels to their number; their values are indices from 0. They enter as equal
            cells of an interval: as Optuna's own categories, trees integrate over combinations that cannot be, and an
            additive 2 x 2 table loses an eighth of its variance to interactions.
        seed: Seed of the forest.
    """
    import optuna  # slow to import, and only this needs it

    counts = levels or {}
    distributions = {name: _distribution(values, counts.get(name)) for name, values in columns.items()}
    trials = [
        optuna.trial.create_trial(
            params={name: float(values[row]) for name, values in columns.items()},
            distributions=distributions,
            value=float(loss),
        )
        for row, loss in enumerate(losses)
    ]
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        study = optuna.create_study()
        study.add_trials(trials)
        evaluator = optuna.importance.FanovaImportanceEvaluator(max_depth=FOREST_DEPTH, seed=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            found = optuna.importance.get_param_importances(study, evaluator=evaluator, normalize=False)
    finally:
        optuna.logging.set_verbosity(before)
    return {name: float(found[name]) for name in columns}


def _distribution(values: FloatArray, levels: int | None) -> BaseDistribution:
    from optuna.distributions import FloatDistribution

    low, high = (float(values.min()), float(values.max())) if levels is None else (-0.5, levels - 0.5)
    return FloatDistribution(low, high)


def sheet(results: Results, task: str, method: str, *, value: str = "utility") -> Sheet:
    """The decided configurations of a method on a task, failures included.

    Raises:
        ValueError: For an unknown value or method.
    """
    if value not in VALUES:
        raise ValueError(f"unknown value {value!r}: choose from {', '.join(VALUES)}")
    if method not in results.methods_of(task):
        raise ValueError(f"method {method!r} is not planned on {task}; planned: {list(results.methods_of(task))}")
    axes = axes_of(results, task, method)
    outcomes = results.outcomes(task)
    mine = outcomes[outcomes["method"] == method]
    values = code(mine["status"].to_numpy(dtype=object), mine["primary"].to_numpy(dtype=np.float64))
    known = mine.assign(loss=VALUES[value](values, results.facts(task)))[~np.isnan(values)]
    first = known.sort_values("trial_id").groupby("config", sort=True)
    rows = first.first()
    _, points = np.unique(rows[["replicate", "point"]].to_numpy(dtype=np.int64), axis=0, return_inverse=True)
    return Sheet(
        axes=axes,
        columns=tuple(axis.scaled(axis.of(rows)) for axis in axes),
        losses=first["loss"].mean().to_numpy(dtype=np.float64),
        points=points.reshape(-1).astype(np.int64),
        undecided=int(np.isnan(values).sum()),
    )


def _resampled(points: IntArray, resamples: int, rng: np.random.Generator) -> FloatArray:
    """How often each row is in each resample of the points, shape (resamples, rows)."""
    count = int(points.max()) + 1
    weights = rng.multinomial(count, np.full(count, 1 / count), size=resamples)
    return weights[:, points].astype(np.float64)


def _normalised(divergences: FloatArray) -> FloatArray:
    """Divergences as shares of their sum, shape (resamples, axes)."""
    total = divergences.sum(axis=1, keepdims=True)
    return divergences / np.where(total > 0, total, 1.0)


def _ends(share: FloatArray, spread: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Both ends of each share's interval, shape (axes,), from its resamples, shape (resamples, axes).

    The resamples' standard deviation around the share, not their quantiles: a divergence is never negative, so that
    resamples of a hyperparameter without effect all lie above its true share of 0 and their quantiles never cover it.
    """
    half = NORMAL * spread.std(axis=0, ddof=1)
    return np.maximum(share - half, 0.0), np.minimum(share + half, 1.0)


def null_lines(rows: Sheet, rng: np.random.Generator) -> FloatArray:
    """For each axis, the divergence that its column exceeds in at most 5 % of cases when it is shuffled.

    A column that is one value per point moves with the points, since rows of a point have more in common; one that the
    points are crossed with moves inside each point.
    """
    best = np.flatnonzero(_top(rows.losses, np.ones((1, len(rows.losses))))[0])
    order = np.argsort(rows.points, kind="stable")
    first = order[np.r_[True, np.diff(rows.points[order]) > 0]]
    moved = first[rng.permuted(np.tile(np.arange(len(first)), (PERMUTATIONS, 1)), axis=1)][:, rows.points[best]]
    inside = np.empty((PERMUTATIONS, len(order)), dtype=np.int64)
    inside[:, order] = np.argsort(rows.points + rng.random((PERMUTATIONS, len(order))), axis=1)
    found = []
    for axis, column in zip(rows.axes, rows.columns, strict=True):
        cells, count = _cells(axis, column)
        one_per_point = np.array_equal(cells, cells[first][rows.points])
        found.append(_null_line(cells, count, moved if one_per_point else inside[:, best], ordered=not axis.levels))
    return np.array(found)


def _null_line(cells: IntArray, count: int, sources: IntArray, *, ordered: bool) -> float:
    """The line of one column, from where the best rows take their values in each shuffle, shape (shuffles, best)."""
    shuffled = cells[sources]
    top = np.stack([np.bincount(row[row >= 0], minlength=count) for row in shuffled]).astype(np.float64)
    region = np.bincount(cells[cells >= 0], minlength=count)[None].astype(np.float64)
    sizes = np.array([float(shuffled.shape[1])]), np.array([float(len(cells))])
    found = np.sort(_pearson(top, region, *sizes, ordered=ordered))
    return float(found[int(np.ceil((1 - FALSE_ALARMS) * (len(found) + 1))) - 1])


def divergences(rows: Sheet, weights: FloatArray) -> FloatArray:
    """Each axis' divergence under each weighting of the rows, shape (weightings, axes)."""
    tops = _top(rows.losses, weights)
    sizes = tops.sum(axis=1), weights.sum(axis=1)
    found = []
    for axis, column in zip(rows.axes, rows.columns, strict=True):
        cells, count = _cells(axis, column)
        top, region = _counted(tops, cells, count), _counted(weights, cells, count)
        found.append(_pearson(top, region, *sizes, ordered=not axis.levels))
    return np.stack(found, axis=1)


def _counted(weights: FloatArray, cells: IntArray, count: int) -> FloatArray:
    """The weight in each cell, shape (weightings, cells). No matrix product: its threads stall on a busy machine."""
    present = cells >= 0
    places = np.arange(len(weights))[:, None] * count + cells[present]
    found = np.bincount(places.ravel(), weights=weights[:, present].ravel(), minlength=len(weights) * count)
    return np.asarray(found.reshape(-1, count), dtype=np.float64)


def _top(losses: FloatArray, weights: FloatArray) -> FloatArray:
    """The weights of the rows whose loss is among the best tenth, others 0; shape (weightings, rows).

    All rows tied with the last of them are in. The worst loss is never among the best, however many have it: where
    fewer than a tenth do better, the best are those.
    """
    order = np.argsort(losses, kind="stable")
    ranked = losses[order]
    reached = np.cumsum(weights[:, order], axis=1)
    needed = np.ceil(TOP * reached[:, -1:])
    cutoff = ranked[np.argmax(reached >= needed, axis=1)]
    return np.where((losses <= cutoff[:, None]) & (losses < ranked[-1]), weights, 0.0)


def _cells(axis: Axis, column: FloatArray) -> tuple[IntArray, int]:
    """Each row's cell, -1 for a missing value, and the number of cells: one per level, or `CELLS` over the range."""
    if axis.levels:
        return np.where(np.isnan(column), -1, column).astype(np.int64), len(axis.levels)
    low, high = np.nanmin(column), np.nanmax(column)
    step = (high - low) / (CELLS - 1) or 1.0
    found = np.clip(np.ceil((np.nan_to_num(column, nan=low) - low) / step - 0.5), 0, CELLS - 1)
    return np.where(np.isnan(column), -1, found).astype(np.int64), CELLS


def _pearson(
    top: FloatArray, region: FloatArray, top_size: FloatArray, region_size: FloatArray, *, ordered: bool
) -> FloatArray:
    """Pearson's divergence of the best rows' density from that of all, shape (weightings,), as Optuna scales it.

    Args:
        top: Weight of the best rows in each cell, shape (weightings, cells).
        region: The same of all rows, or shape (1, cells) where it is the same in every weighting.
        top_size: Weight of the best rows, with those that lack the hyperparameter, shape (weightings,) or (1,).
        region_size: The same of all rows.
        ordered: True for cells of a range, False for levels.
    """
    smooth = _smoothed if ordered else _shrunk
    held, present = top.sum(axis=1), region.sum(axis=1)
    best, whole = smooth(top) + 1e-12, smooth(region) + 1e-12
    divergence = np.sum(whole * (best / whole - 1) ** 2, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):  # no best row, or none with the hyperparameter: 0 below
        alpha, beta = held / top_size, present / region_size
        found = (top_size / region_size) ** 2 * alpha**2 / beta * divergence
    return np.asarray(np.where((held > 0) & (present >= 2), found, 0.0), dtype=np.float64)


def _smoothed(counts: FloatArray) -> FloatArray:
    """Densities over the cells of a range: a truncated normal at each, Scott's bandwidth, and one broad one."""
    count = counts.shape[1]
    cells = np.arange(count, dtype=np.float64)
    total = counts.sum(axis=1)
    some = np.maximum(total, 1.0)
    mean = counts @ cells / some
    variance = np.sum(counts * (cells - mean[:, None]) ** 2, axis=1) / np.maximum(1, total - 1)
    reached = np.cumsum(counts, axis=1)
    lower = np.argmax(reached >= np.maximum(1, total // 4)[:, None], axis=1)
    upper = np.argmax(reached > (total * 3 // 4)[:, None], axis=1)
    width = 1.059 * np.minimum((upper - lower) / 1.34, np.sqrt(variance)) * some**-0.2
    apart = np.arange(-count, count + 1) - 0.5  # from the middle of a cell to the edges of all others
    below = ndtr(apart / np.maximum(width, 0.5 / 1.64)[:, None])
    start = count - np.arange(count)
    edges = start[:, None] + np.arange(count + 1)
    held = counts / (below[:, edges[:, -1]] - below[:, edges[:, 0]])
    mixed = np.diff(np.einsum("wi,wij->wj", held, below[:, edges]), axis=1)
    broad = np.diff(ndtr((np.arange(count + 1) - count / 2) / count))
    return np.asarray((mixed + broad / broad.sum()) / (total + 1)[:, None], dtype=np.float64)


def _shrunk(counts: FloatArray) -> FloatArray:
    """Densities over levels: what was counted, drawn towards equality as by one more row and a kernel's own share."""
    levels = counts.shape[1]
    kernels = np.sum(counts > 0, axis=1, keepdims=True) + 1
    total = counts.sum(axis=1, keepdims=True)
    mixed = (total / kernels + counts) / (1 + levels / kernels) + 1 / levels
    return np.asarray(mixed / (total + 1), dtype=np.float64)

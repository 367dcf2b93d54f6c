"""The best of a few configurations, compared between methods: a jackknife over design points, in closed form.

The expected best of m configurations is the mean over all choices of m points of the highest score among them, a
U-statistic. Its pseudo-values (what it would be without each point, turned into one number per point whose mean is the
statistic) say what each point contributes; the interval follows from them by `analysis.tilting`, points being
independent. Student's t over them errs in up to 13 % at one end where scores are skewed, of two values, or mostly 0.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from analysis import intervals
from analysis.budgets import TRUSTED, draw_weights
from analysis.intervals import Estimate
from analysis.outcomes import FloatArray, IntArray, Points
from analysis.pairing import Pairs
from analysis.tilting import Arm, tilted

SIZES = (1, 5, 25)
"""Configurations that somebody tries: takes what comes, searches a little, searches well."""

COMPARED = 16
"""Points per configuration from which on a difference of two methods has an interval; with 8, an end of scores of two
values errs in up to 6 %. One method by itself takes `budgets.TRUSTED`."""

BLOCKS = 8
"""Ways to begin with another trial of each point, where points hold several."""


@dataclass(frozen=True)
class BestOf:
    """The expected best score of some configurations, of two methods.

    Attributes:
        size: Configurations tried.
        first: The first method's, 0 to 1; NaN with fewer points than configurations.
        second: The second method's.
        difference: First less second over the same points; no interval below 16 points per configuration.
    """

    size: int
    first: float
    second: float
    difference: Estimate


def best_of(pairs: Pairs, first: FloatArray, second: FloatArray, size: int) -> BestOf:
    """The expected best of some configurations for two methods on the same points.

    Where points hold several pairs of trials, a draw takes one of each, as `budgets.best_score` does.

    Args:
        pairs: The decided pairs.
        first: shape (pairs,), scores of the first method, 0 to 1, higher is better.
        second: Scores of the second, in the same order.
        size: Configurations tried, at least 1.
    """
    index, replicates = pairs.clusters
    n = len(replicates)
    if n < size:
        return BestOf(size, np.nan, np.nan, replace(intervals.NOTHING, n=n, method=f"fewer than {size} points"))
    if size == 1:  # the mean over points, however many trials each holds
        a, b = pairs.means(first).values, pairs.means(second).values
        found = replace(intervals.difference(Points(a - b, replicates)), p_value=None)
        return BestOf(size, float(a.mean()), float(b.mean()), _unless(found, enough(n, size, 2)))
    rows = assignments(index)
    a, b = (np.mean([pseudo_values(scores[row], size) for row in rows], axis=0) for scores in (first, second))
    found = Estimate(float((a - b).mean()), np.nan, np.nan, n, enough(n, size, 2) or _alike(a - b))
    if not found.method:
        near = tilted([Arm(1, first[rows]), Arm(-1, second[rows])], a - b, size)
        found = Estimate(near.value, near.end(-1), near.end(1), n, f"tilting, {intervals.counted(n)}")
    return BestOf(size, float(a.mean()), float(b.mean()), found)


def enough(n: int, size: int, methods: int) -> str:
    """Why so many points are too few for an interval of the best of `size`; nothing where they are enough."""
    least = size * (TRUSTED if methods == 1 or size == 1 else COMPARED)
    return f"no interval below {least} points" if n < least else ""


def _alike(influence: FloatArray) -> str:
    n = len(influence)
    few = f"no interval: fewer than {min(intervals.DIFFERING, n // 2)} of {n} points differ from the most common"
    return "" if intervals.vary(influence) else few


def _unless(found: Estimate, why: str) -> Estimate:
    return replace(found, low=np.nan, high=np.nan, method=why) if why else found


def pseudo_values(scores: FloatArray, size: int) -> FloatArray:
    """The jackknife's pseudo-values of the expected highest of some scores; their mean is that expectation.

    Args:
        scores: shape (points,), higher is better.
        size: Scores among which the highest is taken, 1 to points.

    Returns:
        shape (points,), in the order given. Reference: Arvesen 1969.
    """
    n = len(scores)
    if size == 1:
        return np.array(scores, dtype=np.float64)
    if size == n:  # of a choice of all points none can be left out
        return np.full(n, np.max(scores))
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    total = float(draw_weights(n, size) @ ranked)
    others = draw_weights(n - 1, size - 1)
    found_better = np.concatenate([[0.0], np.cumsum(others)])
    their_score = np.concatenate([[0.0], np.cumsum(others * ranked[:-1])])
    within = their_score + (1 - found_better) * ranked  # the mean over the choices that hold this point
    without = (total - size / n * within) / (1 - size / n)
    found = np.empty(n)
    found[order] = n * total - (n - 1) * without
    return found


def assignments(index: IntArray) -> IntArray:
    """One trial for each point in turn: indices of trials, shape (assignments, points).

    Every trial of a point appears as often as the others where all points hold equally many; where in its turn a point
    begins follows the golden ratio, so that seeds and crossed structures are mixed among points, not taken in step.

    Args:
        index: shape (trials,), each trial's point, 0 to points - 1, each with at least one.
    """
    held = np.bincount(index)
    order = np.argsort(index, kind="stable")
    first = np.cumsum(held) - held
    most = int(held.max(initial=1))
    golden = (np.sqrt(5.0) - 1) / 2
    blocks = np.arange(BLOCKS if most > 1 else 1)[:, None]
    start = ((np.arange(len(held)) * golden + blocks * np.sqrt(2.0)) % 1.0 * held).astype(np.int64)
    turns = (start[:, None, :] + np.arange(most)[None, :, None]) % held
    return np.asarray(order[(first + turns).reshape(-1, len(held))], dtype=np.int64)

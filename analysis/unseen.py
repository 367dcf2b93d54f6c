"""Intervals that hold whatever the distribution: the part of a prior that no design point has shown is in them.

A bootstrap draws again from what was seen, so that it ends too early wherever few points decide: rare failures of good
configurations, or the best of many. Here every point has a random share of the prior, as Bayes' bootstrap gives it
(the gaps between ordered uniform numbers), and what was not seen has another, which lies where it is worst: at one end
of the range of a score for the lower end of an interval, at the other for the upper. For the mean of numbers in [0, 1]
this is the bound of Gaffke 2005, which for zeros and ones is that of Clopper and Pearson, errs in no more than the
promised share of samples of any distribution known, and has the width of a t interval when there are many points.
References: Rubin 1981; Gaffke 2005; Learned-Miller and Thomas 2020.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import special

from analysis.intervals import LEVEL, Estimate, counted
from analysis.outcomes import FloatArray, IntArray

DRAWS = 2000
"""Random shares, where there are up to a thousand points..."""

NUMBERS = 4_000_000
"""...and fewer of more points, so that no more numbers are drawn than this..."""

LEAST = 400
"""...but no fewer than so many."""

APART = 128
"""So many of the best have a share of their own; the others are in groups whose ranks differ by 2 %."""


def shares(sizes: npt.ArrayLike, *, rng: np.random.Generator) -> FloatArray:
    """Random shares of a prior that some groups of points stand for, and of what none of them has shown.

    Args:
        sizes: shape (groups,), the points in each group; a fraction for a trial of a point that holds several.
        rng: Source of the shares.

    Returns:
        shape (draws, groups + 1), rows that sum to 1; the last column is the share of what was not seen, as large as a
        point's.
    """
    held = np.append(np.asarray(sizes, dtype=np.float64), 1.0)
    draws = max(LEAST, min(DRAWS, NUMBERS // len(held)))
    drawn = rng.standard_gamma(held, size=(draws, len(held)))
    return np.asarray(drawn / drawn.sum(axis=1, keepdims=True), dtype=np.float64)


def ends(value: float, lowest: FloatArray, highest: FloatArray) -> tuple[float, float]:
    """Both ends of the interval of a statistic, which the estimate lies in.

    Args:
        value: The estimate.
        lowest: shape (draws,), the statistic with what was not seen where it is lowest.
        highest: With it where it is highest.
    """
    low = np.quantile(lowest, (1 - LEVEL) / 2)
    high = np.quantile(highest, (1 + LEVEL) / 2)
    return min(value, float(low)), max(value, float(high))


def group_of(rank: npt.ArrayLike) -> IntArray:
    """The group that each rank from the best is in, shape of the ranks, which count from 0: fine where bests decide."""
    ranks = np.asarray(rank, dtype=np.int64)
    tail = APART + np.floor(np.log(np.maximum(ranks, APART) / APART) / np.log(1.02)).astype(np.int64)
    return np.where(ranks < APART, ranks, tail)


def choice(
    chosen_by: FloatArray, score: FloatArray, shares: FloatArray, first: FloatArray, worth: float, size: int
) -> FloatArray:
    """The expected score of the one of `size` independent draws from a prior that is chosen as the best.

    Args:
        chosen_by: shape (configs,), the highest is chosen; among equal ones each is as likely.
        score: shape (configs,), what it is worth.
        shares: shape (draws, configs), the part of the prior that each configuration stands for.
        first: shape (draws, 1), the part that is chosen before all of them.
        worth: What that part is worth.
        size: Configurations drawn.

    Returns:
        shape (draws,). What of the prior remains is chosen last and is worth nothing. Configurations of a `group_of`
        count as equal; no time goes into a copy where `shares` is the transpose of a contiguous array.
    """
    from scipy import sparse  # slow to import, and only this needs it

    order = np.argsort(-chosen_by, kind="stable")
    rank = np.arange(len(order))
    tied = np.maximum.accumulate(np.where(np.r_[True, np.diff(chosen_by[order]) != 0], rank, 0))
    bounds = np.append(np.flatnonzero(np.r_[True, np.diff(group_of(tied)) != 0]), len(order))
    held, totals = (
        sparse.csr_array((part, order, bounds), shape=(len(bounds) - 1, len(order))) @ shares.T
        for part in (np.ones(len(order)), score[order])
    )
    reached = np.concatenate([first.T, held]).cumsum(axis=0)
    none_better = np.maximum(1.0 - reached, 0.0) ** size
    likely = none_better[:-1] - none_better[1:]
    means = totals / np.maximum(held, np.finfo(float).tiny)
    return np.asarray((1.0 - none_better[0]) * worth + (likely * means).sum(axis=0), dtype=np.float64)


def exact(values: FloatArray) -> Estimate:
    """The exact interval of a proportion, which errs in no more than the promised share of samples of any size.

    Args:
        values: shape (points,), at least one, each 0 or 1; a mean of such where a point holds several trials, for which
            it is wider than need be.

    Returns:
        The share of the points with its interval. Reference: Clopper and Pearson 1934.
    """
    n, successes = len(values), float(np.sum(values))
    tail = (1 - LEVEL) / 2
    low = float(special.betaincinv(successes, n - successes + 1, tail)) if successes > 0 else 0.0
    high = float(special.betaincinv(successes + 1, n - successes, 1 - tail)) if successes < n else 1.0
    return Estimate(successes / n, low, high, n, f"Clopper-Pearson, {counted(n)}")

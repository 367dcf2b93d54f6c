"""Differences between methods on shared configurations, with an interval and the p-value of every value of theirs.

One number per trial and method (NaN where it is undecided or undefined), joined with weights, averaged over the trials
of a design point and then over points; or read off the distribution of points' scores and bootstrapped over points. The
intervals are those of `analysis.intervals`; the p-value of a value is the level at which the interval ends there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import special

from analysis import intervals
from analysis.budgets import TRUSTED, draw_weights
from analysis.intervals import LEVEL, TINY, Estimate
from analysis.outcomes import FloatArray, IntArray, Points, Sample, point_means

BoolArray = npt.NDArray[np.bool_]

RESAMPLES = 2000
"""Bootstrap resamples of what is read off a distribution."""

FEWER, MOST = 500, 2_000_000
"""At least so many resamples, and no more points than that in all of them, of designs with thousands of points."""


@dataclass(frozen=True)
class Measured:
    """A number with its interval.

    Attributes:
        estimate: The number; NaN where nothing is decided.
        p_value: The p-value of each value that the number could have: the level at which the interval ends there.
        least: The same if every undecided trial lowered it most; None where none is undecided or that cannot be said.
        greatest: The same if every undecided trial raised it most.
        trials: Planned trials, or pairs, or configurations, in the region.
        undecided: Those of them without an outcome.
    """

    estimate: Estimate
    p_value: Callable[[float], float]
    trials: int
    undecided: int = 0
    least: Measured | None = None
    greatest: Measured | None = None


@dataclass(frozen=True)
class Numbers:
    """Numbers of some methods side by side.

    Attributes:
        values: shape (methods, trials); NaN where undecided or undefined.
        undecided: shape (methods, trials).
        weights: shape (methods,), how the methods enter the difference.
        place: The trials' points and replicates.
    """

    values: FloatArray
    undecided: BoolArray
    weights: FloatArray
    place: Sample

    def filled(self, low: float, high: float) -> Numbers:
        """Every undecided number replaced: by `low` where it enters with plus, by `high` where with minus."""
        ends = np.where(self.weights > 0, low, high)[:, None]
        return replace(
            self,
            values=np.where(self.undecided, ends, self.values),
            undecided=np.zeros_like(self.undecided),
        )

    def known(self) -> Numbers:
        """The trials with a number for every method."""
        kept = np.asarray(~np.isnan(self.values).any(axis=0))
        return Numbers(self.values[:, kept], self.undecided[:, kept], self.weights, _take(self.place, kept))


def contrast(count: int) -> FloatArray:
    """How so many methods enter: one by itself, the first minus the second, or (1st - 2nd) - (3rd - 4th)."""
    return np.array({1: [1.0], 2: [1.0, -1.0], 4: [1.0, -1.0, -1.0, 1.0]}[count])


def _take(place: Sample, kept: BoolArray) -> Sample:
    return Sample(place.values[kept], place.replicates[kept], place.points[kept])


def averaged(numbers: Numbers, low: float, high: float, *, proportion: bool) -> Measured:
    """The mean over points of a difference of numbers, each between `low` and `high`."""
    trials = numbers.values.shape[1]
    if trials == 0:
        return Measured(intervals.NOTHING, _anything, 0)
    means = [point_means(values, numbers.place) for values in numbers.values]
    total = Points(numbers.weights @ np.stack([points.values for points in means]), means[0].replicates)
    if len(means) == 1 and proportion:
        estimate, start, width = intervals.proportion(total), 0.0, 1.0
    elif len(means) == 1:
        start, width = low, high - low
        estimate = _scaled(intervals.bounded_mean(_shifted(total, start, width)), start, width)
    elif len(means) == 2 and proportion:
        estimate, start, width = intervals.difference_of_proportions(*means), 0.0, 1.0
    else:
        start, width = 0.0, (high - low) * len(means) / 2
        estimate = _scaled(intervals.difference(_shifted(total, 0.0, width)), 0.0, width)
    shares = [float(points.values.mean()) for points in means]
    return Measured(estimate, _p_value(estimate, total, shares, width * (1 if len(means) == 1 else 2)), trials)


def _shifted(points: Points, start: float, width: float) -> Points:
    return Points((points.values - start) / width, points.replicates)


def _scaled(found: Estimate, start: float, width: float) -> Estimate:
    return replace(
        found, value=start + width * found.value, low=start + width * found.low, high=start + width * found.high
    )


def _p_value(estimate: Estimate, points: Points, shares: Sequence[float], span: float) -> Callable[[float], float]:
    """The p-value of every value, from the same interval as the estimate's.

    Args:
        estimate: The estimate.
        points: What it is the mean of.
        shares: The means of the methods, for differences of proportions.
        span: Length of the range of a point's number.
    """
    n = estimate.n

    def student(value: float) -> float:
        tested = intervals.difference(_shifted(points, value, span)).p_value
        return 1.0 if tested is None else tested

    def wilson(value: float) -> float:
        error = math.sqrt(max(value * (1 - value), 0.0) / n)
        return 2 * float(special.ndtr(-abs(estimate.value - value) / error)) if error > 0 else 0.0

    def hoeffding(value: float) -> float:
        return min(1.0, 2 * math.exp(-2 * n * ((estimate.value - value) / span) ** 2))

    def newcombe(value: float) -> float:
        return _level_reaching(lambda level: intervals.newcombe(shares[0], shares[1], n, level=level), value)

    chosen = {"t": student, "Wilson": wilson, "Hoeffding": hoeffding, "Newcombe": newcombe}
    found = chosen[estimate.method.replace(",", "").split()[0]]
    return lambda value: 1.0 if abs(value - estimate.value) <= TINY else found(value)


def _level_reaching(interval: Callable[[float], tuple[float, float]], value: float) -> float:
    """1 minus the confidence at which a nested family of intervals first reaches a value, by bisection."""
    inside, outside = -14 * math.log(10), 0.0  # logarithms of tail probabilities
    for _ in range(50):
        middle = (inside + outside) / 2
        low, high = interval(-math.expm1(middle))
        inside, outside = (middle, outside) if low <= value <= high else (inside, middle)
    return math.exp(outside)


Functional = Callable[[FloatArray, IntArray], FloatArray]
"""Takes scores (points,), ascending, and how often each and all before it were drawn (resamples, points)."""


def best_of(size: int) -> Functional:
    """Expected best score of so many points drawn without replacement. Reference: Tang et al. 2020."""

    def best(scores: FloatArray, drawn: IntArray) -> FloatArray:
        n = len(scores)
        beaten = np.concatenate([[0.0], np.cumsum(draw_weights(n, size)[::-1])])  # best is among the lowest so many
        return np.asarray(np.diff(beaten[drawn], axis=1, prepend=0.0) @ scores, dtype=np.float64)

    return best


def quartile_range(scores: FloatArray, drawn: IntArray) -> FloatArray:
    """Third less first quartile, by the inverse of the distribution function."""
    last = len(scores) - 1
    first, third = (
        scores[np.minimum((drawn < share * len(scores) - TINY).sum(axis=1), last)] for share in (0.25, 0.75)
    )
    return np.asarray(third - first, dtype=np.float64)


def bootstrapped(numbers: Numbers, functional: Functional, *, size: int, rng: np.random.Generator) -> Measured:
    """A number read off the distribution of points' mean scores, with its percentile bootstrap over points.

    Args:
        numbers: Scores, 0 to 1.
        functional: What is read off.
        size: Points that it needs; from an eighth of the points on a bootstrap covers too little, and none is given.
        rng: Source of the resampling; all methods see the same resamples.

    Returns:
        The difference. Measured coverage of the bootstrap of the best of 16 among 128: .93 to .95.
    """
    trials = numbers.values.shape[1]
    n = len(numbers.place.clusters()[1])
    if n < size:
        return Measured(intervals.NOTHING, _anything, trials)
    means = np.stack([point_means(values, numbers.place).values for values in numbers.values])
    once = np.arange(1, n + 1)[None]
    drawn = rng.multinomial(n, np.full(n, 1 / n), size=min(RESAMPLES, max(FEWER, MOST // n)))
    order = [np.argsort(scores, kind="stable") for scores in means]
    arms = list(zip(means, order, strict=True))
    value = float(numbers.weights @ [functional(scores[at], once)[0] for scores, at in arms])
    spread = np.sort(numbers.weights @ [functional(scores[at], np.cumsum(drawn[:, at], axis=1)) for scores, at in arms])
    if size * TRUSTED > n or np.ptp(spread) <= TINY:
        why = f"no interval: {size} is more than an eighth of {n} points" if size * TRUSTED > n else "no variance"
        return Measured(Estimate(value, math.nan, math.nan, n, why), _anything, trials)
    low, high = np.quantile(spread, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])

    def p_value(other: float) -> float:
        below = int(np.searchsorted(spread, other, side="right"))
        above = len(spread) - int(np.searchsorted(spread, other, side="left"))
        return min(1.0, 2 * (1 + min(below, above)) / (len(spread) + 1))

    method = f"bootstrap over {intervals.counted(n)}"
    return Measured(Estimate(value, float(low), float(high), n, method), p_value, trials)


def _anything(_value: float) -> float:
    return 1.0

"""Differences between methods on shared configurations, with an interval and the p-value of every value of theirs.

One number per trial and method (NaN where it is undecided or undefined), joined with weights, averaged over the trials
of a design point and then over points; or read off the distribution of points' scores, the best of some by tilting and
the rest by a bootstrap over points. The other intervals are those of `analysis.intervals`; the p-value of a value is
the level at which the interval ends there.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from analysis import intervals
from analysis.best_of import enough, pseudo_values
from analysis.intervals import LEVEL, TINY, Estimate
from analysis.outcomes import FloatArray, IntArray, Points, Sample, point_means
from analysis.tilting import Arm, tilted

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
    """The mean over points of a difference of numbers, each between `low` and `high`.

    One proportion is compared with a constant, and the exact interval decides: Wilson's errs in up to 7.5 %.
    """
    trials = numbers.values.shape[1]
    if trials == 0:
        return Measured(intervals.NOTHING, _anything, 0)
    means = [point_means(values, numbers.place) for values in numbers.values]
    total = Points(numbers.weights @ np.stack([points.values for points in means]), means[0].replicates)
    if len(means) == 1:
        start, width = low, high - low
        rule = intervals.exact_proportion if proportion else intervals.bounded_mean
    else:
        start, width = 0.0, (high - low) * len(means) / 2
        rule = intervals.difference
    scaled = _shifted(total, start, width)
    estimate = rule(scaled)
    least = 0.0 if len(means) == 1 else -1.0
    return Measured(_scaled(estimate, start, width), _p_value(estimate, scaled, start, width, least), trials)


def _shifted(points: Points, start: float, width: float) -> Points:
    return Points((points.values - start) / width, points.replicates)


def _scaled(found: Estimate, start: float, width: float) -> Estimate:
    return replace(
        found, value=start + width * found.value, low=start + width * found.low, high=start + width * found.high
    )


def _p_value(scaled: Estimate, points: Points, start: float, width: float, least: float) -> Callable[[float], float]:
    """The p-value of every value, from the same interval as the estimate's.

    Args:
        scaled: The mean, in units of `width` from `start`.
        points: What it is the mean of, in the same units.
        start: What is 0 there.
        width: What is 1 there.
        least: The least that a point can have there, 0 or -1.
    """
    total, n = float(points.values.sum()), scaled.n
    up, down = intervals.ups_and_downs(points.values)
    tests: dict[str, Callable[[float], float]] = {
        "t": lambda value: intervals.student_p(points, value, low=least, high=1.0),
        "Clopper-Pearson": lambda value: intervals.exact_p(total, n, value),
        "Wilson": lambda value: intervals.wilson_p(total, n, value),
        "Tango": lambda value: intervals.tango_p(up, down, n, value),
    }
    found = tests[scaled.method.replace(",", "").split()[0]]

    def p_value(value: float) -> float:
        tested = (value - start) / width
        return 1.0 if abs(tested - scaled.value) <= TINY else found(tested)

    return p_value


Functional = Callable[[FloatArray, IntArray], FloatArray]
"""Takes scores (points,), ascending, and how often each and all before it were drawn (resamples, points)."""


def best(numbers: Numbers, size: int) -> Measured:
    """Expected best score of so many points, of one method or the difference of two, by `analysis.tilting`.

    Args:
        numbers: Scores, 0 to 1.
        size: Points among which the best is taken, at least 1; of one point it is the mean.

    Returns:
        The number, without an interval below 8 points for each of `size` (16 for a difference), or where fewer than 10
        points of a method differ from its most common score.
    """
    if size == 1:
        return averaged(numbers, 0.0, 1.0, proportion=False)
    trials = numbers.values.shape[1]
    n = len(numbers.place.clusters()[1])
    if n < size:
        return Measured(intervals.NOTHING, _anything, trials)
    means = np.stack([point_means(values, numbers.place).values for values in numbers.values])
    pseudo = numbers.weights @ np.stack([pseudo_values(scores, size) for scores in means])
    why = enough(n, size, len(means)) or _alike(means, pseudo)
    if why:
        return Measured(Estimate(float(pseudo.mean()), math.nan, math.nan, n, why), _anything, trials)
    arms = [Arm(int(sign), scores[None]) for sign, scores in zip(numbers.weights, means, strict=True)]
    found = tilted(arms, pseudo, size)
    estimate = Estimate(found.value, found.end(-1), found.end(1), n, f"tilting, {intervals.counted(n)}")
    return Measured(estimate, found.p_value, trials)


def quartile_range(scores: FloatArray, drawn: IntArray) -> FloatArray:
    """Third less first quartile, by the inverse of the distribution function."""
    last = len(scores) - 1
    first, third = (
        scores[np.minimum((drawn < share * len(scores) - TINY).sum(axis=1), last)] for share in (0.25, 0.75)
    )
    return np.asarray(third - first, dtype=np.float64)


def bootstrapped(numbers: Numbers, functional: Functional, *, rng: np.random.Generator) -> Measured:
    """A number read off the distribution of points' mean scores, with its percentile bootstrap over points.

    Args:
        numbers: Scores, 0 to 1.
        functional: What is read off.
        rng: Source of the resampling; all methods see the same resamples.

    Returns:
        The difference, without an interval where fewer than 10 points of a method differ from its most common score.
    """
    trials = numbers.values.shape[1]
    n = len(numbers.place.clusters()[1])
    if n == 0:
        return Measured(intervals.NOTHING, _anything, trials)
    means = np.stack([point_means(values, numbers.place).values for values in numbers.values])
    once = np.arange(1, n + 1)[None]
    order = [np.argsort(scores, kind="stable") for scores in means]
    arms = list(zip(means, order, strict=True))
    value = float(numbers.weights @ [functional(scores[at], once)[0] for scores, at in arms])
    drawn = rng.multinomial(n, np.full(n, 1 / n), size=min(RESAMPLES, max(FEWER, MOST // n)))
    spread = np.sort(numbers.weights @ [functional(scores[at], np.cumsum(drawn[:, at], axis=1)) for scores, at in arms])
    why = _alike(means, spread)
    if why:
        return Measured(Estimate(value, math.nan, math.nan, n, why), _anything, trials)
    low, high = (float(end) for end in np.quantile(spread, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]))
    method = f"bootstrap over {intervals.counted(n)}"
    return Measured(Estimate(value, low, high, n, method), lambda other: _percentile_p(spread, other), trials)


def _alike(means: FloatArray, spread: FloatArray) -> str:
    """Why the points of some methods give no interval; nothing where they do."""
    n = means.shape[1]
    if np.ptp(spread) <= TINY:
        return "no variance"
    if not all(intervals.vary(scores) for scores in means):
        return f"no interval: fewer than {min(intervals.DIFFERING, n // 2)} of {n} points differ from the most common"
    return ""


def _percentile_p(spread: FloatArray, value: float) -> float:
    """The level at which the percentile interval of sorted resamples ends at a value."""
    below = int(np.searchsorted(spread, value, side="right"))
    above = len(spread) - int(np.searchsorted(spread, value, side="left"))
    return min(1.0, 2 * (1 + min(below, above)) / (len(spread) + 1))


def _anything(_value: float) -> float:
    return 1.0

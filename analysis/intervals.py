"""Intervals for means over design points, and the rule that says which one decides.

The rule: a variance is believed only where at least 10 points (or half of fewer than 20) differ from the most common
value: of successes and failures, so many of the rarer; of paired outcomes, so many that disagree. Then

- with at least 8 independent replicates whose means differ, t over the replicate means, which is the only interval
  that profits from a quasi-random design;
- otherwise the points are treated as independent, which is safe but wide under such a design: Wilson for a
  proportion, t over the points for everything else.

Where fewer points differ, the few that were not drawn decide, and t ends too early: the interval is Wilson's for a mean
and Tango's for a mean of paired differences, whatever the design. Both take the variance from the mean that is tested
instead of the sample, the largest that numbers in their range can have, so they also hold for numbers between 0 and 1.

Wilson's inner end errs in up to 7.5 % of samples (20 points, truth .05). It describes; where a verdict rests on one
proportion against a constant, Clopper and Pearson's exact interval decides and is shown.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy import special

from analysis.outcomes import FloatArray, IntArray, Points

LEVEL = 0.95
"""Confidence of every interval."""

REPLICATES = 8
"""Replicates from which on t over their means is used; with fewer it covers .81 to .90 instead of .95."""

DIFFERING = 10
"""Points off the most common value from which on their variance is believed; with 1 to 5 of 64, t errs in 10 to 13 %
of samples at the end of a region instead of 2.5 %."""

NEAR = 0.1
"""Part of the points' range within which a value is like their median."""

TINY = 1e-12
"""Differences below this are rounding, not variance."""


@dataclass(frozen=True)
class Estimate:
    """A number with its interval.

    Attributes:
        value: The estimate, NaN when nothing is decided.
        low: Lower end of the interval.
        high: Upper end of the interval.
        n: Design points it rests on.
        method: Name of the interval.
        p_value: Two-sided, of no difference, from the same interval; None unless the estimate is a difference.
    """

    value: float
    low: float
    high: float
    n: int
    method: str
    p_value: float | None = None


NOTHING = Estimate(math.nan, math.nan, math.nan, 0, "no trials")
"""The estimate when no outcome is known."""


@dataclass(frozen=True)
class _Error:
    """A standard error, its degrees of freedom, and what it was taken over."""

    error: float
    freedom: int
    name: str


def counted(n: int) -> str:
    """A number of points in words."""
    return f"{n} point" if n == 1 else f"{n} points"


def wilson(successes: float, n: int, *, level: float = LEVEL) -> tuple[float, float]:
    """Wilson's score interval of a proportion.

    Args:
        successes: Number of successes, 0 to n; fractional when points are means over several trials.
        n: Number of independent units, at least 1.
        level: Confidence.

    Returns:
        Both ends, inside [0, 1]. Reference: Wilson 1927.
    """
    if n < 1 or not 0 <= successes <= n * (1 + TINY):
        raise ValueError(f"wilson needs n >= 1 and 0 <= successes <= n, got {successes} of {n}")
    return _wilson(min(successes / n, 1.0), n, -float(special.ndtri((1 - level) / 2)))


def clopper_pearson(successes: float, n: float, *, level: float = LEVEL) -> tuple[float, float]:
    """Exact interval of a proportion: neither end errs more often than in half of what the level leaves.

    Args:
        successes: Number of successes, 0 to n; fractional when points are means over several trials, which is on the
            safe side (simulated: an end errs in 2.5 % at most).
        n: Number of independent units, above 0; fractional when it is an effective one.
        level: Confidence.

    Returns:
        Both ends, inside [0, 1]. Reference: Clopper and Pearson 1934; fractional counts, Korn and Graubard 1998.
    """
    if n <= 0 or not 0 <= successes <= n * (1 + TINY):
        raise ValueError(f"clopper_pearson needs n > 0 and 0 <= successes <= n, got {successes} of {n}")
    tail, failures = (1 - level) / 2, max(n - successes, 0.0)
    low = float(special.betaincinv(successes, failures + 1, tail)) if successes > TINY * n else 0.0
    high = float(special.betaincinv(successes + 1, failures, 1 - tail)) if failures > TINY * n else 1.0
    return low, high


def exact_p(successes: float, n: int, share: float) -> float:
    """Two-sided p-value of a proportion: the level at which the exact interval ends there; 0 of what is none."""
    if not 0 <= share <= 1:
        return 0.0
    if share < successes / n:  # chance of so many successes or more
        return min(1.0, 2 * float(special.betainc(successes, n - successes + 1, share)))
    if share > successes / n:
        return min(1.0, 2 * float(special.betainc(n - successes, successes + 1, 1 - share)))
    return 1.0


def missed(n: int, *, level: float = LEVEL) -> float:
    """The largest part of the prior that n independent points have all missed with more than half the level's rest."""
    return float(1 - ((1 - level) / 2) ** (1 / n))


def missed_p(n: int, part: float) -> float:
    """Two-sided p-value of what takes that part of the prior to be in none of n points: the level of `missed`."""
    return min(1.0, 2 * max(0.0, 1 - part) ** n)


def dkw(n: int, *, level: float = LEVEL) -> float:
    """Half-width of the simultaneous band of a distribution function of n independent values.

    Reference: Dvoretzky, Kiefer and Wolfowitz 1956 with the constant of Massart 1990; valid with mass at +inf.
    """
    return math.sqrt(math.log(2 / (1 - level)) / (2 * n))


def hoeffding(n: int, *, width: float = 1.0, level: float = LEVEL) -> float:
    """Half-width of the interval of the mean of n independent values in a range of the given width."""
    return width * math.sqrt(math.log(2 / (1 - level)) / (2 * n))


def wilson_p(successes: float, n: int, share: float) -> float:
    """Two-sided p-value of a proportion: the level at which Wilson's interval ends there."""
    error = math.sqrt(max(share * (1 - share), 0.0) / n)
    gap = abs(successes / n - share)
    return 1.0 if gap <= TINY else 2 * float(special.ndtr(-gap / error)) if error > 0 else 0.0


def tango(up: float, down: float, n: int) -> tuple[float, float]:
    """Score interval of the mean of paired differences, each -1, 0 or 1.

    Args:
        up: Sum of the positive differences; fractional when points are means over several trials.
        down: Sum of the negative ones, without their sign; up + down <= n.
        n: Number of independent pairs, at least 1.

    Returns:
        Both ends, inside [-1, 1]. Reference: Tango 1998.
    """
    return -_tango_end(down, up, n), _tango_end(up, down, n)


def tango_p(up: float, down: float, n: int, gap: float) -> float:
    """Two-sided p-value of a mean difference: the level at which Tango's interval ends there; McNemar's test at 0."""
    return 2 * float(special.ndtr(-abs(_tango_score(up, down, n, gap))))


def proportion(points: Points) -> Estimate:
    """A mean of indicators, averaged within points, with the interval that the rule gives."""
    error = _over_replicates(points)
    if error is not None:
        return _student(points.values, error, low=0.0, high=1.0)
    return wilson_mean(points)


def wilson_mean(points: Points) -> Estimate:
    """A mean of numbers in [0, 1], averaged within points, with Wilson's interval whatever the design."""
    n = len(points.values)
    if n == 0:
        return NOTHING
    low, high = wilson(min(max(float(points.values.sum()), 0.0), n), n)
    return Estimate(float(points.values.mean()), low, high, n, f"Wilson, {counted(n)}")


def exact_proportion(points: Points) -> Estimate:
    """A mean of indicators, averaged within points, with the exact interval whatever the design.

    It takes points as independent, and is what decides where a single proportion is held against a constant.
    """
    n = len(points.values)
    if n == 0:
        return NOTHING
    low, high = clopper_pearson(min(max(float(points.values.sum()), 0.0), n), n)
    return Estimate(float(points.values.mean()), low, high, n, f"Clopper-Pearson, {counted(n)}")


def bounded_mean(points: Points) -> Estimate:
    """A mean of numbers in [0, 1], averaged within points, with the interval that the rule gives."""
    error = _over_replicates(points) or _over_points(points)
    if error is not None:
        return _student(points.values, error, low=0.0, high=1.0)
    return wilson_mean(points)


def difference(points: Points) -> Estimate:
    """A mean of paired differences in [-1, 1], averaged within points, with its interval and p-value."""
    n = len(points.values)
    if n == 0:
        return NOTHING
    error = _over_replicates(points) or _over_points(points)
    if error is not None:
        p_value = student_p(points, 0.0, low=-1.0, high=1.0)
        return replace(_student(points.values, error, low=-1.0, high=1.0), p_value=p_value)
    up, down = ups_and_downs(points.values)
    low, high = tango(up, down, n)
    return Estimate((up - down) / n, low, high, n, f"Tango, {counted(n)}", tango_p(up, down, n, 0.0))


def difference_of_proportions(first: Points, second: Points) -> Estimate:
    """The difference of two paired proportions over the same points, with its interval and p-value."""
    return difference(Points(first.values - second.values, first.replicates))


def ups_and_downs(differences: FloatArray) -> tuple[float, float]:
    """The sum of the positive differences, and that of the negative ones without their sign."""
    return float(np.maximum(differences, 0.0).sum()), float(np.maximum(-differences, 0.0).sum())


def student_p(points: Points, value: float, *, low: float, high: float) -> float:
    """Two-sided p-value of a mean: the level at which the t interval that the rule gives ends there.

    Args:
        points: Points whose variance is believed.
        value: The mean that is tested.
        low: The least that a point can have.
        high: The most.
    """
    error = _over_replicates(points) or _over_points(points)
    if error is None:
        raise ValueError("student_p needs points whose variance is believed")
    mean = float(points.values.mean())
    worst = low if value < mean else high
    part = 1.0 if abs(mean - worst) <= TINY else abs(mean - value) / abs(mean - worst)
    of_t = 2 * float(special.stdtr(error.freedom, -abs(mean - value) / error.error))
    return max(of_t, missed_p(len(points.values), part))


def vary(values: FloatArray) -> bool:
    """Whether enough points differ from the median to believe their variance; shape (points,)."""
    n = len(values)
    if n < 2 or np.ptp(values) <= TINY:
        return False
    differ = np.abs(values - np.median(values)) > max(TINY, NEAR * float(np.ptp(values)))
    return int(differ.sum()) >= min(DIFFERING, n // 2)


def _over_replicates(points: Points) -> _Error | None:
    """The error of the mean from its replicates, or None where the rule does not allow them to decide.

    With equal replicates this is the standard deviation of their means over the root of their number; with unequal
    ones (an unfinished sweep) each counts by its points, as the mean itself does.
    """
    _, index = np.unique(points.replicates, return_inverse=True)
    sizes: IntArray = np.bincount(index).astype(np.int64)
    count = len(sizes)
    if count < REPLICATES or not vary(points.values):
        return None
    means: FloatArray = np.bincount(index, weights=points.values) / sizes
    if np.ptp(means) <= TINY:
        return None
    residuals = sizes / sizes.sum() * (means - points.values.mean())
    error = math.sqrt(count / (count - 1) * float(np.sum(residuals**2)))
    return _Error(error, count - 1, f"t over {count} replicates")


def _over_points(points: Points) -> _Error | None:
    n = len(points.values)
    if not vary(points.values):
        return None
    return _Error(float(points.values.std(ddof=1)) / math.sqrt(n), n - 1, f"t over {counted(n)}")


def _student(values: FloatArray, error: _Error, *, low: float, high: float) -> Estimate:
    mean, part = float(values.mean()), missed(len(values))
    half = -float(special.stdtrit(error.freedom, (1 - LEVEL) / 2)) * error.error
    below, above = max(half, part * (mean - low)), max(half, part * (high - mean))
    return Estimate(mean, max(low, mean - below), min(high, mean + above), len(values), error.name)


def _wilson(share: float, n: int, z: float) -> tuple[float, float]:
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(max(0.0, share * (1 - share)) / n + z * z / (4 * n * n))
    low = 0.0 if share <= TINY else max(0.0, centre - half)  # exact at the ends, where rounding would leave 1e-18
    high = 1.0 if share >= 1 - TINY else min(1.0, centre + half)
    return low, high


def _tango_score(up: float, down: float, n: int, gap: float) -> float:
    """The standardised distance of the observed mean difference from a hypothetical one, falling in the latter."""
    distance = (up - down) / n - gap
    if abs(distance) <= TINY:
        return 0.0
    b = (2 * n - up + down) * gap - up - down
    negative = (math.sqrt(max(b * b + 8 * n * down * gap * (1 - gap), 0.0)) - b) / (4 * n)  # the likeliest share of -1
    variance = (2 * negative + gap * (1 - gap)) / n
    return distance / math.sqrt(variance) if variance > TINY**2 else math.copysign(math.inf, distance)


def _tango_end(up: float, down: float, n: int) -> float:
    """The upper end, by bisection."""
    z = -float(special.ndtri((1 - LEVEL) / 2))
    inside, outside = (up - down) / n, 1.0
    for _ in range(60):
        middle = (inside + outside) / 2
        inside, outside = (inside, middle) if _tango_score(up, down, n, middle) < -z else (middle, outside)
    return outside

"""Intervals for means over design points, and the rule that says which one decides.

The rule: with at least 8 independent replicates whose means differ, t over the replicate means, which is the only
interval that profits from a quasi-random design. Otherwise the points are treated as independent, which is safe but
wide under such a design: Wilson for a proportion, t over the points for everything else. No variance is never
taken for no uncertainty: then Hoeffding's inequality holds for a bounded mean, and Newcombe's square-and-add for a
difference of proportions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import special

from analysis.outcomes import FloatArray, IntArray, Points

LEVEL = 0.95
"""Confidence of every interval."""

REPLICATES = 8
"""Replicates from which on t over their means is used; with fewer it covers .81 to .90 instead of .95."""

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


def dkw(n: int, *, level: float = LEVEL) -> float:
    """Half-width of the simultaneous band of a distribution function of n independent values.

    Reference: Dvoretzky, Kiefer and Wolfowitz 1956 with the constant of Massart 1990; valid with mass at +inf.
    """
    return math.sqrt(math.log(2 / (1 - level)) / (2 * n))


def hoeffding(n: int, *, width: float = 1.0, level: float = LEVEL) -> float:
    """Half-width of the interval of the mean of n independent values in a range of the given width."""
    return width * math.sqrt(math.log(2 / (1 - level)) / (2 * n))


def newcombe(first: float, second: float, n: int, *, level: float = LEVEL) -> tuple[float, float]:
    """Square-and-add interval of `first - second`, two proportions of n units each. Reference: Newcombe 1998."""
    return _newcombe(first, second, n, -float(special.ndtri((1 - level) / 2)))


def proportion(points: Points) -> Estimate:
    """A mean of indicators, averaged within points, with the interval that the rule gives."""
    n = len(points.values)
    if n == 0:
        return NOTHING
    error = _over_replicates(points)
    if error is not None:
        return _student(points.values, error, low=0.0, high=1.0)
    return wilson_mean(points)


def wilson_mean(points: Points) -> Estimate:
    """A mean of indicators, averaged within points, with Wilson's interval whatever the design."""
    n = len(points.values)
    if n == 0:
        return NOTHING
    low, high = wilson(float(points.values.sum()), n)
    return Estimate(float(points.values.mean()), low, high, n, f"Wilson, {counted(n)}")


def bounded_mean(points: Points) -> Estimate:
    """A mean of numbers in [0, 1], averaged within points, with the interval that the rule gives."""
    if len(points.values) == 0:
        return NOTHING
    error = _over_replicates(points) or _over_points(points)
    if error is not None:
        return _student(points.values, error, low=0.0, high=1.0)
    return _hoeffding_estimate(points.values, low=0.0, high=1.0)


def difference(points: Points) -> Estimate:
    """A mean of paired differences in [-1, 1], averaged within points, with its interval and p-value."""
    if len(points.values) == 0:
        return NOTHING
    error = _over_replicates(points) or _over_points(points)
    if error is not None:
        return _tested(_student(points.values, error, low=-1.0, high=1.0), error)
    found = _hoeffding_estimate(points.values, low=-1.0, high=1.0)
    p_value = min(1.0, 2 * math.exp(-found.n * found.value**2 / 2))  # the level at which the interval reaches 0
    return Estimate(found.value, found.low, found.high, found.n, found.method, p_value)


def difference_of_proportions(first: Points, second: Points) -> Estimate:
    """The difference of two paired proportions over the same points, with its interval and p-value."""
    points = Points(first.values - second.values, first.replicates)
    n = len(points.values)
    if n == 0 or _over_replicates(points) or _over_points(points):
        return difference(points)
    a, b = float(first.values.mean()), float(second.values.mean())
    low, high = newcombe(a, b, n)
    return Estimate(a - b, low, high, n, f"Newcombe, {counted(n)}", _newcombe_p(a, b, n))


def _over_replicates(points: Points) -> _Error | None:
    """The error of the mean from its replicates, or None where the rule does not allow them to decide.

    With equal replicates this is the standard deviation of their means over the root of their number; with unequal
    ones (an unfinished sweep) each counts by its points, as the mean itself does.
    """
    _, index = np.unique(points.replicates, return_inverse=True)
    sizes: IntArray = np.bincount(index).astype(np.int64)
    count = len(sizes)
    if count < REPLICATES:
        return None
    means: FloatArray = np.bincount(index, weights=points.values) / sizes
    if np.ptp(means) <= TINY:
        return None
    residuals = sizes / sizes.sum() * (means - points.values.mean())
    error = math.sqrt(count / (count - 1) * float(np.sum(residuals**2)))
    return _Error(error, count - 1, f"t over {count} replicates")


def _over_points(points: Points) -> _Error | None:
    n = len(points.values)
    if n < 2 or np.ptp(points.values) <= TINY:
        return None
    return _Error(float(points.values.std(ddof=1)) / math.sqrt(n), n - 1, f"t over {counted(n)}")


def _student(values: FloatArray, error: _Error, *, low: float, high: float) -> Estimate:
    mean = float(values.mean())
    half = -float(special.stdtrit(error.freedom, (1 - LEVEL) / 2)) * error.error
    return Estimate(mean, max(low, mean - half), min(high, mean + half), len(values), error.name)


def _tested(found: Estimate, error: _Error) -> Estimate:
    p_value = 2 * float(special.stdtr(error.freedom, -abs(found.value) / error.error))
    return Estimate(found.value, found.low, found.high, found.n, found.method, p_value)


def _hoeffding_estimate(values: FloatArray, *, low: float, high: float) -> Estimate:
    n, mean = len(values), float(values.mean())
    half = hoeffding(n, width=high - low)
    return Estimate(mean, max(low, mean - half), min(high, mean + half), n, f"Hoeffding, {counted(n)}")


def _wilson(share: float, n: int, z: float) -> tuple[float, float]:
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(max(0.0, share * (1 - share)) / n + z * z / (4 * n * n))
    low = 0.0 if share <= TINY else max(0.0, centre - half)  # exact at the ends, where rounding would leave 1e-18
    high = 1.0 if share >= 1 - TINY else min(1.0, centre + half)
    return low, high


def _newcombe(first: float, second: float, n: int, z: float) -> tuple[float, float]:
    low_a, high_a = _wilson(first, n, z)
    low_b, high_b = _wilson(second, n, z)
    gap = first - second
    return gap - math.hypot(first - low_a, high_b - second), gap + math.hypot(high_a - first, second - low_b)


def _newcombe_p(first: float, second: float, n: int) -> float:
    """The level at which the interval reaches 0, found on the scale of the normal quantile."""
    upper, lower = max(first, second), min(first, second)
    if upper - lower <= TINY:
        return 1.0
    furthest = 37.0  # beyond it the tail of the normal is 0 in double precision
    if _newcombe(upper, lower, n, furthest)[0] > 0:
        return 0.0
    from scipy.optimize import brentq  # slow to import, and only a comparison needs it

    return 2 * float(special.ndtr(-brentq(lambda z: _newcombe(upper, lower, n, z)[0], 0.0, furthest)))

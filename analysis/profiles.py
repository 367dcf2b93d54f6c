"""Robustness profiles: what fraction of the prior ends at or below each value of the metric, and what sums it up.

`R(tau) = P(Y <= tau)` over configurations drawn from the prior, with Y = +inf for a failed trial: a distribution
function that levels off at one minus the failure rate. All functions work on the decided trials of a sample; what is
not decided shows in `success_bounds`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from analysis import intervals
from analysis.intervals import LEVEL, Estimate
from analysis.outcomes import FloatArray, Sample, point_means, trial_weights

RESAMPLES = 2000
"""Bootstrap resamples of a band."""

GRID = 512
"""Most thresholds that a bootstrap band looks at; more only cost memory."""


@dataclass(frozen=True)
class Profile:
    """A robustness profile with a simultaneous band; all arrays have shape (steps,).

    Attributes:
        thresholds: Where the profile steps up, ascending: the finite values of the sample.
        fraction: R at and right of each threshold, until the next one.
        low: Lower edge of the band.
        high: Upper edge of the band.
        plateau: R at infinity: the fraction of the prior that did not fail.
        half_width: Half-width of the band before it is cut to [0, 1].
        band: Name of the band.
        n: Design points.
    """

    thresholds: FloatArray
    fraction: FloatArray
    low: FloatArray
    high: FloatArray
    plateau: float
    half_width: float
    band: str
    n: int


def profile(sample: Sample, *, rng: np.random.Generator) -> Profile:
    """The robustness profile of a sample with its bootstrap band."""
    known = sample.decided()
    thresholds, fraction = steps(known)
    half, band = half_width(known, rng=rng)
    n = len(known.clusters()[1])
    low, high = np.clip(fraction - half, 0.0, 1.0), np.clip(fraction + half, 0.0, 1.0)
    plateau = float("nan") if n == 0 else float(fraction[-1]) if len(fraction) else 0.0
    return Profile(thresholds, fraction, low, high, plateau, half, band, n)


def steps(sample: Sample) -> tuple[FloatArray, FloatArray]:
    """The finite values of a sample, ascending without repetition, and R at each."""
    known = sample.decided()
    if len(known.values) == 0:
        return np.empty(0), np.empty(0)
    values, index = np.unique(known.values, return_inverse=True)
    fraction = np.cumsum(np.bincount(index, weights=trial_weights(known)))
    finite = np.isfinite(values)
    return values[finite], np.minimum(fraction[finite], 1.0)


def fraction_at(sample: Sample, tau: npt.ArrayLike) -> FloatArray:
    """R at the given thresholds, in their shape; NaN when nothing is decided."""
    known = sample.decided()
    where = np.asarray(tau, dtype=np.float64)
    if len(known.values) == 0:
        return np.full(where.shape, np.nan)
    thresholds, fraction = steps(known)
    return np.concatenate([[0.0], fraction])[np.searchsorted(thresholds, where, side="right")]


def half_width(sample: Sample, *, rng: np.random.Generator, resamples: int = RESAMPLES) -> tuple[float, str]:
    """Half-width and name of the simultaneous band: the bootstrap's, or Dvoretzky-Kiefer-Wolfowitz where that is 0.

    Points are resampled, never trials: pooling nested seeds as if independent covers .75 where .95 is promised.

    Args:
        sample: The outcomes.
        rng: Source of the resampling.
        resamples: Number of resamples.
    """
    known = sample.decided()
    n = len(known.clusters()[1])
    if n == 0:
        return float("nan"), "no trials"
    deviation = _deviations(known, rng=rng, resamples=resamples)
    half = float(np.quantile(deviation, LEVEL, method="inverted_cdf"))
    if half <= intervals.TINY:  # all points alike: resampling sees no variance, which does not mean there is none
        return intervals.dkw(n), f"DKW, {intervals.counted(n)}"
    return half, f"bootstrap over {intervals.counted(n)}"


def success(sample: Sample, threshold: float) -> Estimate:
    """The success fraction S: the share of the prior that ends at or below the threshold."""
    known = sample.decided()
    return intervals.proportion(point_means(known.values <= threshold, known))


def success_bounds(sample: Sample, threshold: float) -> tuple[float, float]:
    """The success fraction if every undecided trial failed, and if every one succeeded; NaN without trials."""
    planned = len(sample.values)
    if planned == 0:
        return float("nan"), float("nan")
    successes = int(np.sum(sample.values <= threshold))
    return successes / planned, (successes + int(np.isnan(sample.values).sum())) / planned


def utility(values: npt.ArrayLike, *, low: float, high: float) -> FloatArray:
    """Score of each outcome: 1 at or below the anchor `low`, 0 at or above `high` and for +inf, linear in log between.

    The mean of this is the area under the profile over log tau between the anchors, without a grid.
    """
    held = np.clip(np.asarray(values, dtype=np.float64), low, high)  # before the logarithm: no log of 0, of a failure
    return np.asarray(np.log(high / held) / np.log(high / low), dtype=np.float64)


def log_auc(sample: Sample, *, low: float, high: float) -> Estimate:
    """Area under the profile over log tau between two anchors, 0 to 1."""
    known = sample.decided()
    return intervals.bounded_mean(point_means(utility(known.values, low=low, high=high), known))


def quantile(sample: Sample, p: float) -> float:
    """The smallest tau with R(tau) >= p: +inf where failures reach below p, NaN when nothing is decided."""
    known = sample.decided()
    if len(known.values) == 0:
        return float("nan")
    thresholds, fraction = steps(known)
    reached = np.flatnonzero(fraction >= p - intervals.TINY)
    return float(thresholds[reached[0]]) if len(reached) else float("inf")


def _deviations(known: Sample, *, rng: np.random.Generator, resamples: int) -> FloatArray:
    """The largest deviation of each resampled profile from the profile, shape (resamples,)."""
    index, replicates = known.clusters()
    n = len(replicates)
    finite = np.unique(known.values[np.isfinite(known.values)])
    if len(finite) == 0:
        return np.zeros(resamples)
    grid = finite[np.unique(np.linspace(0, len(finite) - 1, min(GRID, len(finite))).astype(np.int64))]
    below = np.zeros((n, len(grid)))
    np.add.at(below, index, (known.values[:, None] <= grid) / np.bincount(index)[index][:, None])
    weights = rng.multinomial(n, np.full(n, 1 / n), size=resamples) / n
    return np.asarray(np.abs(weights @ below - below.mean(axis=0)).max(axis=1), dtype=np.float64)

"""Robustness profiles: what fraction of the prior ends at or below each value of the metric, and what sums it up.

`R(tau) = P(Y <= tau)` over configurations drawn from the prior, with Y = +inf for a failed trial: a distribution
function that levels off at one minus the failure rate. All functions work on the decided trials of a sample; what is
not decided shows in `success_bounds`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special

from analysis import intervals
from analysis.intervals import LEVEL, Estimate
from analysis.outcomes import FloatArray, Sample, point_means, trial_weights

RESAMPLES = 2000
"""Bootstrap resamples of a band."""

GRID = 512
"""Most thresholds that a bootstrap band looks at: between them it can miss 2 % of its width, which nobody sees."""

BANDS = ("bootstrap", "dkw")
"""Simultaneous bands: over resampled points, and Dvoretzky-Kiefer-Wolfowitz, which is wider and always valid."""

BLOCK = 4_000_000
"""Numbers of resampling that are in memory at a time."""


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


def profile(sample: Sample, *, rng: np.random.Generator, band: str = "bootstrap") -> Profile:
    """The robustness profile of a sample with a simultaneous band, one of `BANDS`; see `half_width`."""
    known = sample.decided()
    thresholds, fraction = steps(known)
    half, name = half_width(known, rng=rng, band=band)
    n = len(known.clusters()[1])
    low, high = np.clip(fraction - half, 0.0, 1.0), np.clip(fraction + half, 0.0, 1.0)
    plateau = float("nan") if n == 0 else float(fraction[-1]) if len(fraction) else 0.0
    return Profile(thresholds, fraction, low, high, plateau, half, name, n)


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


def half_width(
    sample: Sample, *, rng: np.random.Generator, resamples: int = RESAMPLES, band: str = "bootstrap"
) -> tuple[float, str]:
    """Half-width and name of a simultaneous band.

    Points are resampled, never trials: pooling nested seeds as if independent covers .75 where .95 is promised.
    Measured coverage of the bootstrap at 32, 64 and 128 points: .933, .940 and .949, 10 % narrower than DKW, which
    covers at least what it promises, with mass at +inf too, and is conservative for several trials per point.
    References: Dvoretzky, Kiefer and Wolfowitz 1956, Massart 1990.

    Args:
        sample: The outcomes.
        rng: Source of the resampling.
        resamples: Number of resamples.
        band: One of `BANDS`. Where all points are alike a bootstrap sees no variance, which does not mean that there
            is none: the band is DKW's then.

    Raises:
        ValueError: For an unknown band.
    """
    if band not in BANDS:
        raise ValueError(f"a band is {' or '.join(BANDS)}, got {band!r}")
    known = sample.decided()
    n = len(known.clusters()[1])
    if n == 0:
        return float("nan"), "no trials"
    deviation = deviations(known, rng=rng, resamples=resamples) if band == "bootstrap" else np.zeros(1)
    half = float(np.quantile(deviation, LEVEL, method="inverted_cdf"))
    if half <= intervals.TINY:
        return intervals.dkw(n), f"DKW, {intervals.counted(n)}"
    return half, f"bootstrap over {intervals.counted(n)}"


def success(sample: Sample, threshold: float) -> Estimate:
    """The success fraction S: the share of the prior that ends at or below the threshold."""
    known = sample.decided()
    return intervals.proportion(point_means(known.values <= threshold, known))


def success_bounds(sample: Sample, threshold: float) -> tuple[float, float]:
    """The success fraction if every undecided trial failed, and if every one succeeded; NaN without trials.

    Trials are averaged inside their points first, as `success` does, which so lies between the two.
    """
    if len(sample.values) == 0:
        return float("nan"), float("nan")
    reached, unknown = sample.values <= threshold, np.isnan(sample.values)
    worst, best = (point_means(ending, sample).values for ending in (reached, reached | unknown))
    return float(worst.mean()), float(best.mean())


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
    return float(quantiles(sample, p))


def quantiles(sample: Sample, p: npt.ArrayLike) -> FloatArray:
    """`quantile` at several fractions, in their shape; +inf also for those above 1."""
    wanted = np.asarray(p, dtype=np.float64)
    known = sample.decided()
    if len(known.values) == 0:
        return np.full(wanted.shape, np.nan)
    thresholds, fraction = steps(known)
    return np.append(thresholds, np.inf)[np.searchsorted(fraction, wanted - intervals.TINY)]


def quantile_interval(sample: Sample, p: float) -> Estimate:
    """A quantile of the metric with the interval between two order statistics, free of any distribution.

    With one trial per point the ends are the values of the ranks of `order_ranks`, failures ranking last as +inf.
    With several, the ends are where the profile reaches those ranks divided by the number of points. That is
    conservative: the mean of a point's indicators varies no more than the single indicator that the ranks allow for.
    Points count as independent, which is safe but wide under a quasi-random design.

    Args:
        sample: The outcomes.
        p: Which quantile, inside (0, 1); .5 for the median.

    Returns:
        The quantile in units of the metric; -inf or +inf for an end that so few points cannot give.
        References: David and Nagaraja 2003, section 7.1; Woodruff 1952 for several trials per point.
    """
    n = len(sample.decided().clusters()[1])
    if n == 0:
        return intervals.NOTHING
    lower, upper = order_ranks(n, p)
    low = quantile(sample, lower / n) if lower >= 1 else -float("inf")
    high = quantile(sample, upper / n) if upper <= n else float("inf")
    return Estimate(quantile(sample, p), low, high, n, f"order statistics, {intervals.counted(n)}")


def order_ranks(n: int, p: float, *, level: float = LEVEL) -> tuple[int, int]:
    """The ranks, from 1, of the two order statistics of n values that hold their p-quantile.

    The lower is the greatest, the upper the least that misses the quantile with probability (1 - level)/2 at most; 0 or
    n + 1 where no rank does. For the median at 95 %: 10 and 23 of 32, 24 and 41 of 64, 40 and 61 of 100.

    Raises:
        ValueError: If p is not inside (0, 1).
    """
    if not 0 < p < 1:
        raise ValueError(f"an order-statistic interval needs 0 < p < 1, got {p}")
    at_most = special.bdtr(np.arange(n + 1), n, p)  # P(at most so many of n values lie below the quantile)
    tail = (1 - level) / 2
    lower = int(np.searchsorted(at_most, tail, side="right"))
    upper = int(np.searchsorted(at_most, 1 - tail, side="left")) + 1
    return lower, upper


def point_draws(n: int, *, rng: np.random.Generator, resamples: int) -> Iterator[FloatArray]:
    """How often each of n points is drawn in bootstrap resamples: blocks of shape (some resamples, n).

    All blocks together have `resamples` rows; a block holds at most `BLOCK` numbers, or one row.
    """
    rows = max(1, BLOCK // n)
    for start in range(0, resamples, rows):
        count = min(rows, resamples - start)
        drawn = rng.integers(n, size=(count, n)) + n * np.arange(count)[:, None]
        yield np.bincount(drawn.ravel(), minlength=count * n).reshape(count, n).astype(np.float64)


def deviations(sample: Sample, *, rng: np.random.Generator, resamples: int = RESAMPLES) -> FloatArray:
    """The largest deviation of each resampled profile from the profile, shape (resamples,).

    Where each point holds one trial, the resampled profile is a cumulated multinomial over the cells between
    thresholds: the cells are drawn and not the points, in a time that the number of points does not enter.

    Args:
        sample: The outcomes, all decided.
        rng: Source of the resampling.
        resamples: Number of resamples.
    """
    finite = np.unique(sample.values[np.isfinite(sample.values)])
    if len(finite) == 0:
        return np.zeros(resamples)
    grid = finite[np.unique(np.linspace(0, len(finite) - 1, min(GRID, len(finite))).astype(np.int64))]
    cells = np.searchsorted(grid, sample.values)  # the first threshold at or above; failures are beyond the last
    index, replicates = sample.clusters()
    n = len(replicates)
    share = np.bincount(cells, weights=trial_weights(sample), minlength=len(grid) + 1)
    if n == len(cells):
        drawn = iter([rng.multinomial(n, share / share.sum(), size=resamples) / n])
    else:
        from scipy import sparse  # only several trials per point need it

        pattern = sparse.csr_array((1 / np.bincount(index)[index], (cells, index)), shape=(len(grid) + 1, n))
        drawn = (np.asarray(pattern @ counts.T).T / n for counts in point_draws(n, rng=rng, resamples=resamples))
    blocks = [np.abs(np.cumsum(block - share, axis=1)[:, :-1]).max(axis=1) for block in drawn]
    return np.asarray(np.concatenate(blocks), dtype=np.float64)

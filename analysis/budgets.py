"""What tuning gets one method within a budget: the best of so many configurations drawn from the prior.

All numbers are without replacement: the mean over every way to draw `size` different design points out of those that
ran, which is unbiased where the resampling of the founding papers is not (Lucic et al. 2018; Dodge et al. 2019; Tang
et al. 2020). Where points hold several trials (seeds, crossed structures), a draw takes different points and one trial
of each, at random: two seeds of one configuration are never two tries. That mean is taken over up to `ASSIGNMENTS`
random choices of a trial for each point, in which a point's trials appear equally often.

The interval holds whatever the distribution of scores, see `unseen`: the best of a few hangs on few points, and a
configuration better than all that ran may be among the next ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from analysis import intervals, unseen
from analysis.intervals import LEVEL, Estimate
from analysis.outcomes import FloatArray, IntArray, Sample, trial_weights
from analysis.profiles import quantiles, utility
from analysis.results import TaskFacts

SHOWN = 4
"""A curve ends at a budget of this part of the points: beyond it one lucky point decides."""

TRUSTED = 8
"""The difference of two methods has an interval up to a budget of this part of the points, where a jackknife holds."""

FAMILIAR = (5, 25, 100)
"""Budgets of the founding papers, shown beside the powers of two."""

ASSIGNMENTS = 64
"""Random choices of one trial per point, where points hold several: at least so many..."""

PICKS = 40_000
"""...unless their number times that of the points exceeds this: with many points a few choices are as good."""

METHOD = "Gaffke"
"""Name of the interval of the expected best score."""


@dataclass(frozen=True)
class BudgetCurve:
    """What a budget of configurations gets, one method on one task; arrays have shape (sizes,).

    Attributes:
        sizes: Budgets, in configurations: ascending, up to a quarter of the points.
        score: Expected best score, 0 to 1.
        low: Lower end of its interval.
        high: Upper end.
        metric: The value of the metric that scores as much, between the anchors.
        success: Probability that at least one configuration succeeds.
        median: Median of the best metric: half of all draws do at least as well.
        median_low: Lower edge of its simultaneous band, -inf where it has none.
        median_high: Upper edge, +inf where it has none.
        n: Design points.
        method: Name of the score's interval.
    """

    sizes: IntArray
    score: FloatArray
    low: FloatArray
    high: FloatArray
    metric: FloatArray
    success: FloatArray
    median: FloatArray
    median_low: FloatArray
    median_high: FloatArray
    n: int
    method: str


def expected_best(values: npt.ArrayLike, size: int) -> float:
    """Expected lowest of `size` values drawn without replacement: `sum_i x_(i) C(n-i, size-1) / C(n, size)`.

    The only unbiased symmetric estimate from n values of the expected best of `size` new ones.
    Reference: Tang et al. 2020.

    Args:
        values: shape (n,), lower is better; a failure is +inf.
        size: How many are drawn, 1 to n.

    Returns:
        The mean, +inf where a draw can be all failures.

    Raises:
        ValueError: For a size that cannot be drawn, or a value that is NaN.
    """
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    if np.isnan(ordered).any():
        raise ValueError("expected_best needs decided outcomes, got NaN")
    weights = draw_weights(len(ordered), size)
    finite = np.isfinite(ordered)
    if len(ordered) - int(finite.sum()) >= size:
        return math.inf
    return float(weights[finite] @ ordered[finite])


def draw_weights(n: int, size: int) -> FloatArray:
    """Probability that each of n ranked values is the best of `size` drawn without replacement, shape (n,).

    By the ratio of neighbours, `(n - i - size + 1) / (n - i)`, so that no binomial coefficient overflows.

    Raises:
        ValueError: For a size that cannot be drawn.
    """
    _check(n, size)
    rank = np.arange(1, n)
    ratios = np.maximum(n - rank - size + 1, 0) / (n - rank)
    return np.asarray(size / n * np.cumprod(np.concatenate([[1.0], ratios])), dtype=np.float64)


def success_within(successes: float, n: int, size: int) -> float:
    """Probability that `size` of n units, drawn without replacement, hold a success: `1 - C(n-k, size) / C(n, size)`.

    Args:
        successes: How many of the units are successes, 0 to n; a fraction, as points averaged over seeds give, is
            interpolated by the same product.
        n: Number of units.
        size: How many are drawn, 1 to n.

    Raises:
        ValueError: For a size that cannot be drawn, or a count that is not between 0 and n.
    """
    _check(n, size)
    if not 0 <= successes <= n * (1 + intervals.TINY):
        raise ValueError(f"successes must lie between 0 and {n}, got {successes}")
    drawn = np.arange(size)
    return float(1.0 - np.prod(np.maximum(n - successes - drawn, 0.0) / (n - drawn)))


def needed(success: float, level: float = LEVEL) -> float:
    """Configurations after which at least one succeeds with probability `level`: `ceil(ln(1-level) / ln(1-success))`.

    Args:
        success: The success fraction, 0 to 1.
        level: That probability, inside (0, 1).

    Returns:
        A whole number of configurations; +inf without successes, NaN for NaN.

    Raises:
        ValueError: For a fraction outside [0, 1] or a level outside (0, 1).
    """
    if math.isnan(success):
        return math.nan
    if not 0 <= success <= 1 or not 0 < level < 1:
        raise ValueError(f"needed takes 0 <= success <= 1 and 0 < level < 1, got {success} and {level}")
    if success in (0.0, 1.0):
        return math.inf if success == 0 else 1.0
    exact = math.log1p(-level) / math.log1p(-success)
    return float(max(1, math.ceil(exact * (1 - intervals.TINY))))  # rounding must not cost a configuration


def shown_sizes(n: int) -> IntArray:
    """The budgets of a curve over n points: powers of two and `FAMILIAR` ones up to a quarter, and always 1."""
    powers = [2**power for power in range(max(1, n).bit_length())]
    return np.array([size for size in sorted({*powers, *FAMILIAR}) if size <= max(1, n // SHOWN)], dtype=np.int64)


def best_score(sample: Sample, size: int, *, facts: TaskFacts, rng: np.random.Generator) -> Estimate:
    """Expected best score of `size` configurations drawn from the prior, 0 to 1; for one it is the log-AUC.

    Args:
        sample: The outcomes.
        size: The budget, at least 1.
        facts: The task's anchors.
        rng: Source of the choices of trials, and of the shares that the interval draws.

    Returns:
        The estimate with its interval, NaN where there are fewer points than the budget. The interval covers at least
        what it promises, whatever the distribution of scores: in simulations .95 to .98 where scores use the range
        between the anchors, and nearer to 1 where they lie close together far from 1, since the unseen best scores 1.
        Several trials per point make it wider than need be. Reference: Gaffke 2005, for the mean.
    """
    known = sample.decided()
    n = len(known.clusters()[1])
    if n == 0:
        return intervals.NOTHING
    if size > n:
        return Estimate(math.nan, math.nan, math.nan, n, f"a budget of {size} needs as many points, not {n}")
    scores = utility(known.values, low=facts.anchor_low, high=facts.anchor_high)
    value = float(np.mean(_best_scores(_assigned(known, rng), scores, [size])))
    low, high = _interval(known, scores, [size], [value], rng)
    return Estimate(value, float(low[0]), float(high[0]), n, f"{METHOD}, {intervals.counted(n)}")


def budget_curve(sample: Sample, facts: TaskFacts, rng: np.random.Generator) -> BudgetCurve:
    """What every budget up to a quarter of the points gets; empty where nothing is decided.

    Args:
        sample: The outcomes of one method on one task.
        facts: The task's threshold and anchors.
        rng: Source of the resampling.
    """
    known = sample.decided()
    n = len(known.clusters()[1])
    if n == 0:
        none = np.empty(0)
        nothing = intervals.NOTHING.method
        return BudgetCurve(none.astype(np.int64), none, none, none, none, none, none, none, none, 0, nothing)
    sizes = shown_sizes(n)
    chosen = _assigned(known, rng)
    scores = utility(known.values, low=facts.anchor_low, high=facts.anchor_high)
    score = _best_scores(chosen, scores, list(sizes)).mean(axis=0)
    low, high = _interval(known, scores, list(sizes), list(score), rng)
    reached = np.sum((known.values <= facts.threshold)[chosen], axis=1)
    success = np.array([_hits(n, size)[reached].mean() for size in sizes])
    method = f"{METHOD}, {intervals.counted(n)}"
    metric = facts.anchor_high * (facts.anchor_low / facts.anchor_high) ** score
    return BudgetCurve(sizes, score, low, high, metric, success, *median_of_best(known, sizes), n=n, method=method)


def median_of_best(sample: Sample, sizes: npt.ArrayLike) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Median of the best metric of each number of configurations, and its simultaneous band, shape (sizes,) each.

    The best of B has the distribution function `1 - (1 - R)^B`, so its median is the quantile `1 - 2^(-1/B)` of the
    profile R; the band is what the Dvoretzky-Kiefer-Wolfowitz band of R leaves to it, at every B at once and without a
    bootstrap. Reference: Lourie, Cho and He 2024 (opda), with several trials per point averaged first, as for R.

    Returns:
        The median, the lower and the upper edge, in units of the metric; -inf or +inf where the band is open, +inf
        for a median that is a failure, NaN when nothing is decided.
    """
    known = sample.decided()
    wanted = -np.expm1(-math.log(2) / np.asarray(sizes, dtype=np.float64))
    n = len(known.clusters()[1])
    half = intervals.dkw(n) if n else math.nan
    low = np.where(wanted <= half, -np.inf, quantiles(known, wanted - half))
    return quantiles(known, wanted), low, quantiles(known, wanted + half)


def _check(n: int, size: int) -> None:
    if not 1 <= size <= n:
        raise ValueError(f"a budget lies between 1 and the {n} units that ran, got {size}")


def _hits(n: int, size: int) -> FloatArray:
    """`success_within` of 0, 1, ... n successes, shape (n + 1,): the best of the draw is one of the first so many."""
    hits: FloatArray = np.minimum(np.concatenate([[0.0], np.cumsum(draw_weights(n, size))]), 1.0)
    return hits


def _assigned(known: Sample, rng: np.random.Generator) -> IntArray:
    """One trial for each point, at random and independently: indices of trials, shape (assignments, points).

    In every block of as many rows as the largest point has trials, a point's trials take turns from a random start.
    """
    index, replicates = known.clusters()
    order = np.lexsort((known.values, index))  # by point, then by value: the order of rows must not matter
    held = np.bincount(index)
    first = np.cumsum(held) - held
    most = int(held.max())
    blocks = 1 if most == 1 else math.ceil(min(ASSIGNMENTS, PICKS / len(held)) / most)
    start = rng.integers(held, size=(blocks, len(replicates))) if most > 1 else np.zeros((1, len(held)), dtype=np.int64)
    turns = (start[:, None, :] + np.arange(most)[None, :, None]) % held
    return np.asarray(order[(first + turns).reshape(blocks * most, -1)], dtype=np.int64)


def _best_scores(chosen: IntArray, scores: FloatArray, sizes: list[int]) -> FloatArray:
    """Expected best score for every assignment and budget, shape (assignments, sizes)."""
    ordered = -np.sort(-scores[chosen], axis=1)
    weights = np.stack([draw_weights(chosen.shape[1], int(size)) for size in sizes], axis=1)
    return np.asarray(ordered @ weights, dtype=np.float64)


def _interval(
    known: Sample, scores: FloatArray, sizes: list[int], values: list[float], rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """Both ends of the interval of the expected best score for each budget."""
    n = len(known.clusters()[1])
    grouped, share = _grouped(scores, trial_weights(known))
    drawn = unseen.shares(n * share, rng=rng)
    below = np.cumsum(drawn[:, :-1], axis=1)
    below = np.concatenate([np.zeros_like(below[:, :1]), below], axis=1)  # what was not seen scores 0
    above = below + drawn[:, -1:]  # or 1
    found = [
        unseen.ends(value, _best_of(below, grouped, size), _best_of(above, grouped, size))
        for size, value in zip(sizes, values, strict=True)
    ]
    low, high = np.array(found, dtype=np.float64).T
    return low, high


def _best_of(reached: FloatArray, scores: FloatArray, size: int) -> FloatArray:
    """Expected best of `size` draws, shape (draws,).

    Args:
        reached: shape (draws, scores + 1), the part of the prior that scores more than the first, that scores the
            first or more, and so on.
        scores: shape (scores,), from the best to the worst.
        size: The budget.
    """
    worse = np.maximum(1.0 - reached, 0.0) ** int(size)
    levels = np.concatenate([[1.0], scores, [0.0]])
    found: FloatArray = 1.0 - worse @ (levels[:-1] - levels[1:])
    return found


def _grouped(scores: FloatArray, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Mean score and share of groups of trials, best first: fine where the best of a budget is decided."""
    order = np.lexsort((weights, -scores))  # the order of rows must not matter
    _, group = np.unique(unseen.group_of(np.arange(len(scores))), return_inverse=True)
    share = np.asarray(np.bincount(group, weights=weights[order]), dtype=np.float64)
    mean: FloatArray = np.bincount(group, weights=(weights * scores)[order]) / share
    return mean, share

"""Importance weights from the sampled prior to a range inside it, and weighted means with their intervals.

A weight is p'/p, the density of a configuration under the target over that under the prior that it was drawn from. A
weighted mean is a ratio of two sums over points, whose variance is linearised: point i contributes
`(sum_t w_t v_t - R sum_t w_t) / total weight` (Hesterberg 1995; Owen, Monte Carlo theory, chapter 9).

Where all points weigh the same, as in a part of the sampled prior, they are a smaller sample with the intervals of
`analysis.intervals`. Otherwise a few heavy points carry the variance, so that Student's t errs at one end in up to 40 %
of samples where the outcome is rare, and in 5 to 10 % where it is not. Then points are treated as independent, and the
interval is that of Korn and Graubard for a proportion; for other means and for differences it is the likelihood ratio
of a tilted sample to which one effective point at the end of the range was added.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special

from analysis import intervals
from analysis.axes import RATIO, WORDS, parts_where, ratio
from analysis.intervals import LEVEL, TINY, Estimate
from analysis.outcomes import FloatArray, IntArray, Points, Sample
from analysis.results import Results
from search_spaces.domains import Choice, Cross, Domain, Fixed, LogUniform, Published, Uniform, Value, When
from search_spaces.hyperparameters import HYPERPARAMETERS
from study.errors import UserError, unknown
from study.forms import write_domain

Target = Mapping[str, Domain | When]
"""Hyperparameter, by the sweep file's word, to its domain; what is absent stays as it was sampled."""

REACH = 7.0
"""Where a method declared no prior of its own, as in an imported table: values must come so many mean gaps near to a
target's ends; draws from all of it stay farther with chance e^-7."""


@dataclass(frozen=True)
class Weighted:
    """A weighted mean over points.

    Attributes:
        totals: shape (points,), the sum over a point's trials of weight times value, over its number of trials.
        weights: shape (points,), the mean weight of a point's trials.
        replicates: shape (points,), the independent scrambling of each point.
    """

    totals: FloatArray
    weights: FloatArray
    replicates: IntArray

    @property
    def value(self) -> float:
        """The weighted mean, NaN without weight."""
        total = float(self.weights.sum())
        return float(self.totals.sum()) / total if total > 0 else math.nan

    @property
    def points(self) -> int:
        """Points that have any weight."""
        return int((self.weights > 0).sum())

    @property
    def effective(self) -> float:
        """Kish's effective number of points, (sum w)^2 / sum w^2; 0 without weight."""
        squares = float(np.sum(self.weights**2))
        return float(self.weights.sum()) ** 2 / squares if squares > 0 else 0.0

    def influence(self) -> FloatArray:
        """What each point adds to the linearised deviation of the mean, shape (points,); they sum to 0."""
        return np.asarray((self.totals - self.value * self.weights) / self.weights.sum(), dtype=np.float64)


def weighted(values: npt.ArrayLike, weights: FloatArray, trials: Sample) -> Weighted:
    """The weighted mean of a number over the trials of a sample, all of them decided.

    Args:
        values: shape (trials,), a number per trial; none may be NaN.
        weights: shape (trials,), at least 0.
        trials: The sample that says which trial belongs to which point.
    """
    index, replicates = trials.clusters()
    each = weights / np.bincount(index, minlength=len(replicates))[index]
    numbers = np.asarray(values, dtype=np.float64)
    totals, sums = (np.bincount(index, weights=part, minlength=len(replicates)) for part in (each * numbers, each))
    return Weighted(totals.astype(np.float64), sums.astype(np.float64), replicates)


def proportion(mean: Weighted) -> Estimate:
    """A weighted mean of indicators with its interval: the exact one at the effective number of points.

    That number is Kish's, or Korn and Graubard's (1998) where it is smaller because success and weight go together.
    """
    if mean.points == 0 or _alike(mean):
        return intervals.proportion(_points(mean))
    variance = float(np.sum(mean.influence() ** 2))
    kish, value = mean.effective, min(1.0, max(0.0, mean.value))
    size = kish if variance <= TINY**2 else min(kish, value * (1 - value) / variance)
    low, high = intervals.clopper_pearson(value * size, size)
    return Estimate(mean.value, low, high, mean.points, f"Korn-Graubard, {size:.0f} effective of {counted(mean)}")


def bounded_mean(mean: Weighted) -> Estimate:
    """A weighted mean of numbers in [0, 1] with its interval."""
    if mean.points == 0 or _alike(mean):
        return intervals.bounded_mean(_points(mean))
    return _likely(_Tilts(mean.value, mean.influence(), mean.weights / mean.weights.sum()), mean.points, low=0.0)


def difference(first: Weighted, second: Weighted) -> Estimate:
    """The difference of two weighted means over the same points in the same order, with its interval and p-value.

    Each mean has its own weights; that the points are the same shows in the difference of their influences. The values
    lie in [0, 1].
    """
    points = min(first.points, second.points)
    if points == 0:
        return intervals.NOTHING
    share, another = first.weights / first.weights.sum(), second.weights / second.weights.sum()
    if _alike(first) and np.allclose(share, another, rtol=0.0, atol=TINY):
        one, other = _points(first), _points(second)
        return intervals.difference(Points(one.values - other.values, one.replicates))
    influence = first.influence() - second.influence()
    return _likely(_Tilts(first.value - second.value, influence, (share + another) / 2), points, low=-1.0)


def importance(results: Results, rows: pd.DataFrame, target: Target) -> FloatArray:
    """The weight of each trial for a target range.

    Args:
        results: The results, whose prior was sampled; of a variant, its own.
        rows: Rows of the plan or of `Results.outcomes` of one method.
        target: The range. A hyperparameter that the method does not have changes nothing.

    Returns:
        shape (rows,), the density of each configuration under the target over that under the prior.

    Raises:
        UserError: There is no prior (a table, an imported study, a sampler that looked at results), the target names
            an unknown hyperparameter, or it is not inside what was sampled.
    """
    _check_prior(results)
    weights = np.ones(len(rows))
    for name, domain in target.items():
        values = column(rows, name)
        if values is None and name not in HYPERPARAMETERS:
            raise unknown("hyperparameter in the target range:", name, HYPERPARAMETERS)
        if values is not None:
            weights *= _along(results, rows, name, domain, values)
    return weights


def column(rows: pd.DataFrame, name: str) -> pd.Series | None:
    """The values of a hyperparameter, by the sweep file's word; None where there is no such column or nothing in it."""
    if name == RATIO and {"lr_g", "lr_d"} <= {*rows.columns}:
        return ratio(rows)
    found = next((key for key in (name, *(key for key, word in WORDS.items() if word == name)) if key in rows), None)
    return None if found is None or rows[found].isna().all() else rows[found]


def counted(mean: Weighted) -> str:
    """The points that have weight, in words."""
    return intervals.counted(mean.points)


@dataclass(frozen=True)
class _Tilts:
    """A weighted number and the samples in which it would be another: each point's weight times exp(t x).

    Reference: Efron 1981 (exponential tilting); one added point, Chen, Variyath and Abraham 2008.
    """

    value: float
    influence: FloatArray
    shares: FloatArray

    @property
    def effective(self) -> float:
        return 1 / float(np.sum(self.shares**2))

    def root(self, other: float, end: float) -> float:
        """The signed root of the likelihood ratio of another value, without its sign.

        Args:
            other: The value, between the number and `end`.
            end: The end of the range on its side, where one effective point is added.
        """
        there = self.shares > 0
        about = self.influence[there] + (self.value - other) * self.shares[there]
        points = np.append(about, (end - other) / self.effective)
        side = 1.0 if end > self.value else -1.0
        return math.sqrt(2 * len(about) * _least(side * points))

    def end(self, end: float) -> float:
        """The end of the interval on the side of an end of the range."""
        from scipy.optimize import brentq

        wanted = -float(special.stdtrit(self.effective - 1, (1 - LEVEL) / 2))
        if self.root(end, end) <= wanted or abs(end - self.value) <= TINY:
            return end
        return float(brentq(lambda other: self.root(other, end) - wanted, self.value, end, xtol=1e-10))


def _least(points: FloatArray) -> float:
    """The likelihood ratio of a sample in which some numbers, whose sum is negative, have the mean 0; per point.

    Minus the least of `log mean exp(t x)` over t > 0, by Newton's method between bounds; 0 where the sum is positive.
    """
    scale = math.sqrt(float(np.mean(points**2)))
    if points.sum() >= -TINY * scale:
        return 0.0
    x = points / scale
    low, high, tilt = 0.0, 1e3, 0.0
    for _ in range(60):
        weights = np.exp(tilt * (x - x.max()))
        mean = float(weights @ x / weights.sum())
        low, high = (low, tilt) if mean > 0 else (tilt, high)
        if abs(mean) <= TINY or high - low <= TINY:
            break
        newton = tilt - mean / max(float(weights @ (x - mean) ** 2 / weights.sum()), TINY)
        tilt = newton if low < newton < high else (low + high) / 2
    return -(tilt * float(x.max()) + math.log(float(np.exp(tilt * (x - x.max())).mean())))


def _alike(mean: Weighted) -> bool:
    """Whether all points that have weight have the same."""
    return bool(np.ptp(mean.weights[mean.weights > 0]) <= TINY * mean.weights.max())


def _points(mean: Weighted) -> Points:
    """The points that have weight, with the means of their trials."""
    kept = mean.weights > 0
    return Points(mean.totals[kept] / mean.weights[kept], mean.replicates[kept])


def _likely(tilts: _Tilts, points: int, *, low: float) -> Estimate:
    size = tilts.effective
    name = f"weighted likelihood ratio, {size:.0f} effective of {intervals.counted(points)}"
    if size <= 1 + TINY:
        return Estimate(tilts.value, low, 1.0, points, name, None if low == 0 else 1.0)
    p_value = None
    if low < 0:
        root = tilts.root(0.0, math.copysign(1.0, -tilts.value)) if abs(tilts.value) > TINY else 0.0
        p_value = 2 * float(special.stdtr(size - 1, -root))
    return Estimate(tilts.value, tilts.end(low), tilts.end(1.0), points, name, p_value)


def _check_prior(results: Results) -> None:
    if results.adaptive:
        raise UserError(
            f"configurations were chosen by {results.adaptive}, which looked at results: they are no draws from a "
            "prior that could be weighted to another: run that range"
        )
    if not results.domains or "table" in set(results.plan["sampler"]):
        raise UserError(f"{results.name} was not drawn from a declared prior that could be weighted: run that range")


def _along(results: Results, rows: pd.DataFrame, name: str, target: Domain | When, column: pd.Series) -> FloatArray:
    """Weights along one hyperparameter; 1 where a trial does not have it."""
    weights = np.ones(len(rows))
    known = column.notna().to_numpy()
    method = rows["method"].iloc[0]
    for sampled, here in parts_where(results.domains_of(method).get(name), rows):
        for wanted, there in parts_where(target, rows):
            where = known & here & there
            if where.any():
                before = _visited(sampled, results, column[known & here])
                weights[where] = _ratio(name, before, wanted, column[where], declared=method in results.priors)
    return weights


def _visited(sampled: Domain | None, results: Results, column: pd.Series) -> Domain | None:
    """What was drawn from: of a grid's range, its levels."""
    if isinstance(sampled, Uniform | LogUniform) and "grid" in set(results.plan["sampler"]):
        return Choice(tuple(float(value) for value in np.unique(column.to_numpy(dtype=np.float64))))
    return sampled


def _ratio(
    name: str, sampled: Domain | None, target: Domain | None, values: pd.Series, *, declared: bool
) -> FloatArray:
    if isinstance(target, Published) and isinstance(sampled, Published):
        return np.ones(len(values))
    if isinstance(sampled, Uniform | LogUniform) and isinstance(target, Uniform | LogUniform):
        return _densities(name, sampled, target, values.to_numpy(dtype=np.float64), declared=declared)
    if isinstance(sampled, Uniform | LogUniform) or isinstance(target, Uniform | LogUniform | Published | None):
        raise _refused(name, sampled, target, "one has a density where the other has single values")
    keys = [_key(value) for value in values]
    before, after = _masses(sampled, keys), _masses(target, keys)
    if not (after.keys() <= before.keys() and set(keys) <= before.keys()):
        raise _refused(name, sampled, target, "it is not inside")
    return np.array([after.get(key, 0.0) / before[key] for key in keys])


def _densities(
    name: str, sampled: Uniform | LogUniform, target: Uniform | LogUniform, values: FloatArray, *, declared: bool
) -> FloatArray:
    slack = 1e-9 * (sampled.high - sampled.low)
    if target.low < sampled.low - slack or target.high > sampled.high + slack:
        raise _refused(name, sampled, target, "it is not inside")
    if values.min() < sampled.low - slack or values.max() > sampled.high + slack:
        raise _refused(name, sampled, target, "the method's values lie beyond it (a variant of its own?)")
    if not declared and not _reached(sampled, target, values):
        raise _refused(name, sampled, target, "the method's own values do not fill it (a variant of its own?)")
    inside = (values >= target.low) & (values <= target.high)
    return np.where(inside, _density(target, values) / _density(sampled, values), 0.0)


def _reached(sampled: Uniform | LogUniform, target: Uniform | LogUniform, values: FloatArray) -> bool:
    """Whether values come so near to the target's ends as draws from the sampled range would."""
    scale = np.log if isinstance(sampled, LogUniform) else np.asarray
    low, high = (float(scale(end)) for end in (sampled.low, sampled.high))
    seen = scale(np.unique(values))
    gap = REACH / len(seen) * (high - low)
    first, last = (float(scale(end)) for end in (max(target.low, sampled.low), target.high))
    return bool(seen[0] <= first + gap and seen[-1] >= last - gap)


def _density(domain: Uniform | LogUniform, values: FloatArray) -> FloatArray:
    if isinstance(domain, Uniform):
        return np.full(len(values), 1 / (domain.high - domain.low))
    return np.asarray(1 / (values * math.log(domain.high / domain.low)), dtype=np.float64)


def _masses(domain: Domain | None, seen: list[float | str]) -> dict[float | str, float]:
    """The probability of each value; where the prior gives none, as for a published one, of the only one seen."""
    match domain:
        case Fixed(value):
            values: list[float | str] = [_key(value)]
        case Choice(several) | Cross(several):
            values = [_key(value) for value in several]
        case _:
            values = list(dict.fromkeys(seen)) if len(set(seen)) == 1 else []
    return {value: 1 / len(values) for value in values}


def _key(value: Value | float) -> float | str:
    """A value as it can be looked up: numbers were rounded to twelve digits before they were kept."""
    return value if isinstance(value, str) else float(f"{value:.9g}")


def _refused(name: str, sampled: Domain | None, target: Domain | None, why: str) -> UserError:
    forms = [json.dumps(write_domain(domain)) if domain is not None else "nothing" for domain in (target, sampled)]
    return UserError(f"{name} = {forms[0]} cannot be had from {name} = {forms[1]} by weights: {why}: run that range")

"""Importance weights from the sampled prior to a range inside it, and weighted means with their intervals.

A weight is p'/p, the density of a configuration under the target over that under the prior that it was drawn from. A
weighted mean is a ratio of two sums over points, whose variance is linearised: point i contributes
`(sum_t w_t v_t - R sum_t w_t) / total weight` (Hesterberg 1995; Owen, Monte Carlo theory, chapter 9).
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
from analysis.intervals import LEVEL, REPLICATES, TINY, Estimate
from analysis.outcomes import FloatArray, IntArray, Sample
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
    """A weighted mean of indicators with its interval, by the rule of `intervals.proportion`.

    With 8 replicates or more that have weight, t over them; otherwise Wilson's interval at the effective number of
    points: Kish's, or Korn and Graubard's (1998) where that is smaller because success and weight go together.
    """
    if mean.points == 0:
        return intervals.NOTHING
    spread = _over_replicates([mean])
    if spread is not None:
        return _student(mean.value, spread, mean.points, low=0.0)
    variance = float(np.sum(mean.influence() ** 2))
    kish = mean.effective
    size = kish if variance <= TINY**2 else min(kish, mean.value * (1 - mean.value) / variance)
    n = max(1, math.floor(size + 1e-9))
    low, high = intervals.wilson(min(1.0, max(0.0, mean.value)) * n, n)
    return Estimate(mean.value, low, high, mean.points, f"weighted Wilson, {n} effective of {counted(mean)}")


def bounded_mean(mean: Weighted) -> Estimate:
    """A weighted mean of numbers in [0, 1] with its interval, by the rule of `intervals.bounded_mean`."""
    return _bounded([mean], mean.value, low=0.0)


def difference(first: Weighted, second: Weighted) -> Estimate:
    """The difference of two weighted means over the same points in the same order, with its interval and p-value.

    Each mean has its own weights; that the points are the same shows in the variance of the difference of their
    influences. The values lie in [0, 1].
    """
    return _bounded([first, second], first.value - second.value, low=-1.0)


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
class _Spread:
    error: float
    freedom: float
    name: str


def _bounded(means: list[Weighted], value: float, *, low: float) -> Estimate:
    points = min(mean.points for mean in means)
    if points == 0:
        return intervals.NOTHING
    spread = _over_replicates(means) or _over_points(means)
    if spread is not None:
        return _student(value, spread, points, low=low)
    n = math.floor(min(mean.effective for mean in means) + 1e-9)
    half = intervals.hoeffding(n, width=1 - low)
    p_value = min(1.0, 2 * math.exp(-n * value**2 / 2)) if low < 0 else None
    return Estimate(value, max(low, value - half), min(1.0, value + half), points, f"weighted Hoeffding, {n}", p_value)


def _influence(means: list[Weighted]) -> FloatArray:
    found = means[0].influence()
    return found if len(means) == 1 else found - means[1].influence()


def _over_replicates(means: list[Weighted]) -> _Spread | None:
    _, index = np.unique(means[0].replicates, return_inverse=True)
    present = np.bincount(index, weights=sum((mean.weights for mean in means), np.zeros(len(index)))) > 0
    count = int(present.sum())
    sums = np.bincount(index, weights=_influence(means))[present]
    if count < REPLICATES or np.ptp(sums) <= TINY / count:
        return None
    error = math.sqrt(count / (count - 1) * float(np.sum(sums**2)))
    return _Spread(error, count - 1, f"weighted t over {count} replicates")


def _over_points(means: list[Weighted]) -> _Spread | None:
    size = min(mean.effective for mean in means)
    influence = _influence(means)
    if size < 2 or np.ptp(influence) <= TINY / len(influence):
        return None
    error = math.sqrt(size / (size - 1) * float(np.sum(influence**2)))
    return _Spread(error, size - 1, f"weighted t over {counted(means[0])}, {size:.0f} effective")


def _student(value: float, spread: _Spread, n: int, *, low: float) -> Estimate:
    half = -float(special.stdtrit(spread.freedom, (1 - LEVEL) / 2)) * spread.error
    p_value = 2 * float(special.stdtr(spread.freedom, -abs(value) / spread.error)) if low < 0 else None
    return Estimate(value, max(low, value - half), min(1.0, value + half), n, spread.name, p_value)


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

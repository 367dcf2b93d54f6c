"""The numbers that claims are about, of single trials, of pairs of trials, or of configurations with their seeds.

An undecided trial has no number, and the least and the greatest that it could have bound the mean; so they do for a
trial with too few evaluations for a correlation, as one that diverged early, which is no matter of chance. A trial
without such a number by its nature, say the way to a success that it never had, is left out. At an earlier budget all
trials are measured at the same steps, see `horizon`; where some were evaluated too seldom for that there is no number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from analysis.axes import word_columns
from analysis.contrasts import (
    BoolArray,
    Measured,
    Numbers,
    averaged,
    best,
    bootstrapped,
    contrast,
    quartile_range,
)
from analysis.horizon import curves, last_at, outcomes_at, planned_steps, tail_at, too_coarse, unmeasured, whole
from analysis.intervals import Estimate
from analysis.outcomes import FloatArray, Sample, code
from analysis.pairing import KEY, improvement
from analysis.profiles import utility
from analysis.results import Results, TaskFacts
from search_spaces.conditions import parse_condition
from study.claims import MEASURES, Check
from study.records import TAIL_LEAST

QUARTILES = 64
"""Points from which on the bootstrap of an interquartile range errs in 5 % at most at its upper end; of 20 points with
skewed scores it errs in 8 to 12 % there instead of 2.5 %."""


@dataclass(frozen=True)
class Look:
    """One method's trials in a check's region on a task.

    Attributes:
        results: The results.
        task: Name of the task.
        check: The check.
        facts: The task's threshold and anchors.
        rows: Rows of `Results.outcomes` at the check's budget, in the order that all methods of the check share.
    """

    results: Results
    task: str
    check: Check
    facts: TaskFacts
    rows: pd.DataFrame

    def decided(self) -> BoolArray:
        """Which trials have an outcome, shape (trials,)."""
        return ~np.isnan(self.coded(np.zeros(len(self.rows))))

    def coded(self, values: FloatArray) -> FloatArray:
        """Values of completed trials, +inf for failures, NaN for undecided trials; shape (trials,)."""
        return code(self.rows["status"].to_numpy(dtype=object), values)


def measure(results: Results, task: str, check: Check, methods: Sequence[str], *, rng: np.random.Generator) -> Measured:
    """What a check measures on a task.

    Args:
        results: The results.
        task: Name of the task.
        check: The check, resolved.
        methods: The methods of one comparison: one, two, or the four of an interaction.
        rng: Source of the resampling, of measures that need it.

    Raises:
        ValueError: A method is not planned or plans a configuration twice, or the results lack a column.
    """
    looks = _looks(results, task, check, methods)
    refused = _refused(looks)
    if refused is not None:
        return refused
    numbers = _NUMBERS[check.measure](looks)
    low, high = MEASURES[check.measure].low, MEASURES[check.measure].high
    found = _estimated(numbers, check, rng)
    undecided = int(numbers.undecided.any(axis=0).sum())
    found = replace(found, trials=numbers.values.shape[1], undecided=undecided)
    if not undecided or check.measure in _NOT_MONOTONE:
        return found
    ends = [_estimated(numbers.filled(*pair), check, rng) for pair in ((low, high), (high, low))]
    return replace(found, least=ends[0], greatest=ends[1])


def _refused(looks: list[Look]) -> Measured | None:
    """No number, with the reason, at an earlier budget that some trials do not reach, or do not say enough about."""
    check, rows = looks[0].check, pd.concat([look.rows for look in looks], ignore_index=True)
    if check.steps is None:
        return None
    unknown = int(unmeasured(looks[0].results, looks[0].task, rows).sum())
    reason = too_coarse(unknown, len(rows), check.steps, check.unit)
    planned = planned_steps(rows, check.unit)
    short = (planned < check.steps) & (rows["budget_unit"] != check.unit)
    if short.any():
        reason = f"{short.sum()} of {len(rows)} trials end before {check.steps} {check.unit}, after {planned.min():.0f}"
    elif not unknown:
        return None
    points = len(_place(looks[0].rows).clusters()[1])
    return Measured(Estimate(np.nan, np.nan, np.nan, points, reason), lambda _value: 1.0, len(looks[0].rows))


def _estimated(numbers: Numbers, check: Check, rng: np.random.Generator) -> Measured:
    known, measured = numbers.known(), MEASURES[check.measure]
    if check.measure == "best_of":
        return best(known, int(check.k or 1))
    if check.measure == "spread":
        return _spread(known, rng)
    return averaged(known, measured.low, measured.high, proportion=check.measure in _PROPORTIONS)


def _spread(known: Numbers, rng: np.random.Generator) -> Measured:
    """The interquartile range; without an interval below `QUARTILES` points, where the bootstrap ends too early."""
    found = bootstrapped(known, quartile_range, rng=rng)
    if found.estimate.n == 0 or found.estimate.n >= QUARTILES:
        return found
    why = f"no interval: an interquartile range needs {QUARTILES} points, not {found.estimate.n}"
    estimate = replace(found.estimate, low=np.nan, high=np.nan, method=why)
    return replace(found, estimate=estimate, p_value=lambda _value: 1.0)


def _looks(results: Results, task: str, check: Check, methods: Sequence[str]) -> list[Look]:
    """Each method's trials in the region, those on configurations and seeds that all have, in one order."""
    outcomes = (
        results.outcomes(task) if check.steps is None else outcomes_at(results, task, check.steps, unit=check.unit)
    )
    arms = []
    for method in methods:
        rows = outcomes[outcomes["method"] == method]
        if rows.empty or rows.duplicated(KEY).any():
            fault = "is not planned" if rows.empty else "plans a configuration and seed more than once"
            raise ValueError(f"method {method!r} {fault} on {task}")
        arms.append(rows.set_index(KEY, drop=False))
    inside = _inside(check, arms[0])
    shared = arms[0].index[inside]
    for arm in arms[1:]:
        shared = shared.intersection(arm.index)
    shared = shared.sort_values()
    facts = results.facts(task)
    return [Look(results, task, check, facts, arm.loc[shared].reset_index(drop=True)) for arm in arms]


def _inside(check: Check, rows: pd.DataFrame) -> BoolArray:
    if check.where is None:
        return np.ones(len(rows), dtype=np.bool_)
    return parse_condition(check.where).holds(word_columns(rows))


def _place(rows: pd.DataFrame) -> Sample:
    return Sample(
        np.zeros(len(rows)), rows["replicate"].to_numpy(dtype=np.int64), rows["point"].to_numpy(dtype=np.int64)
    )


def _by_trial(number: Callable[[Look], FloatArray], *, of_all: bool = False) -> Callable[[list[Look]], Numbers]:
    """Numbers of single trials, one per method; where each has one, `of_all`, a decided trial without is undecided."""

    def numbers(looks: list[Look]) -> Numbers:
        values = np.stack([np.where(look.decided(), number(look), np.nan) for look in looks])
        undecided = np.isnan(values) if of_all else np.stack([~look.decided() for look in looks])
        return Numbers(values, undecided, contrast(len(looks)), _place(looks[0].rows))

    return numbers


def _by_pair(looks: list[Look]) -> Numbers:
    """1/2 where the first of a pair is better, -1/2 where the second is, 0 where they tie or both failed."""
    sign = 1.0 if looks[0].check.better == "lower" else -1.0
    first, second = (np.where(np.isinf(values), np.inf, sign * values) for values in map(_value, looks))
    undecided = np.isnan(first) | np.isnan(second)
    values = np.where(undecided, np.nan, improvement(first, second) - 0.5)
    return Numbers(values[None], undecided[None], contrast(1), _place(looks[0].rows))


def _by_configuration(looks: list[Look]) -> Numbers:
    """The standard deviation of the score over the seeds of each configuration, one per method."""
    _, first, index = np.unique(looks[0].rows["config"].to_numpy(dtype=str), return_index=True, return_inverse=True)
    count = np.bincount(index)
    spreads, undecided = [], []
    for look in looks:
        score = _score(look)
        mean = np.bincount(index, weights=score) / count
        square = np.bincount(index, weights=(score - mean[index]) ** 2)
        spreads.append(np.where(count > 1, np.sqrt(square / np.maximum(count - 1, 1)), np.nan))
        undecided.append(np.bincount(index, weights=~look.decided()) > 0)
    return Numbers(np.stack(spreads), np.stack(undecided), contrast(len(looks)), _place(looks[0].rows.iloc[first]))


def _value(look: Look) -> FloatArray:
    """The check's metric of each trial, +inf for a failure, NaN for an undecided one."""
    return look.coded(_column(look))


def _column(look: Look) -> FloatArray:
    check, rows = look.check, look.rows
    name = check.metric or "primary"
    if check.at == "best":
        name = "primary_best"
    elif check.at == "last" and check.steps is None and name == "primary":
        name = "primary_last"
    elif check.steps is not None and (check.at, name) != ("tail", "primary"):
        return _earlier(look, name)
    elif check.at == "last":
        found = _history(look, name).groupby("trial_id")[name].last()
        return rows["trial_id"].map(found).to_numpy(dtype=np.float64)
    if name not in rows.columns:
        raise ValueError(f"the results of {look.task} have no column {name!r}")
    return rows[name].to_numpy(dtype=np.float64)


def _earlier(look: Look, name: str) -> FloatArray:
    """A metric at the check's budget, by the rule of `horizon`."""
    check, steps = look.check, float(look.check.steps or 0)
    others = () if name == "primary" else (name,)
    found = curves(look.results, look.task, *others, unit=check.unit)
    values = (tail_at if check.at == "tail" else last_at)(found, steps, *others)
    if check.at == "tail" and name in found.rows.columns:
        values = np.where(whole(found, steps), found.rows[name].to_numpy(dtype=np.float64), values)
    known = pd.Series(values, index=found.rows["trial_id"])
    return np.asarray(look.rows["trial_id"].map(known), dtype=np.float64)


def _history(look: Look, *columns: str) -> pd.DataFrame:
    """The history of a method's trials up to the check's budget, in the order of evaluations."""
    check = look.check
    found = look.results.history(*dict.fromkeys(("trial_id", "evaluation", check.unit, *columns)))
    kept = found["trial_id"].isin(look.rows["trial_id"])
    if check.steps is not None:
        kept &= found[check.unit] <= check.steps
    return found[kept].sort_values(["trial_id", "evaluation"], kind="stable")


def _success(look: Look) -> FloatArray:
    values, check = _value(look), look.check
    boundless = check.at_most is None and check.at_least is None
    most = look.facts.threshold if boundless else np.inf if check.at_most is None else check.at_most
    least = -np.inf if check.at_least is None else check.at_least
    return ((values >= least) & (values <= most) & np.isfinite(values)).astype(np.float64)


def _score(look: Look) -> FloatArray:
    good, bad = look.check.anchors or (look.facts.anchor_low, look.facts.anchor_high)
    values = _value(look)
    score = utility(values, low=min(good, bad), high=max(good, bad))
    return np.where(np.isinf(values), 0.0, score if good < bad else 1.0 - score)


def _failed(look: Look) -> FloatArray:
    return np.isinf(look.coded(np.zeros(len(look.rows)))).astype(np.float64)


def _rising(look: Look) -> FloatArray:
    """The share of intervals up to the first success in which the metric rises; NaN without such a success."""
    name = look.check.metric or "primary"
    history = _history(look, "primary", name)
    trial = history["trial_id"]
    arrived = (history["primary"] <= look.facts.threshold).astype(np.int64)
    first = arrived.groupby(trial, sort=False).cumsum() == arrived  # the first success and whatever comes before it
    previous = history[name].groupby(trial, sort=False).shift()
    interval = first & previous.notna()
    risen = interval & (history[name] > previous * (1 + look.check.tolerance))
    counts = pd.DataFrame({"all": interval, "risen": risen}).astype(np.float64).groupby(trial).sum()
    share = counts["risen"] / counts["all"].where(counts["all"] > 0)
    ended = look.coded(look.rows["primary"].to_numpy(dtype=np.float64)) <= look.facts.threshold
    return np.where(ended, look.rows["trial_id"].map(share).to_numpy(dtype=np.float64), np.nan)


def _trend(look: Look) -> FloatArray:
    name = look.check.metric or "primary"
    history = _history(look, name)
    return _correlation(look, history["trial_id"], history["evaluation"], history[name])


def _association(look: Look) -> FloatArray:
    name, later = str(look.check.metric), str(look.check.later)
    history = _history(look, name, later)
    ahead = history.groupby("trial_id", sort=False)[later].shift(-look.check.lag)
    gain = (ahead - history[later]).dropna()
    return _correlation(look, history.loc[gain.index, "trial_id"], history.loc[gain.index, name], gain)


def _correlation(look: Look, trial: pd.Series, first: pd.Series, second: pd.Series) -> FloatArray:
    """Spearman's correlation within each trial: 0 where one of both never changes, NaN below five evaluations."""
    ranks = pd.DataFrame({"a": first.groupby(trial).rank(), "b": second.groupby(trial).rank()})
    ranks -= ranks.groupby(trial).transform("mean")
    products = pd.DataFrame({"ab": ranks["a"] * ranks["b"], "aa": ranks["a"] ** 2, "bb": ranks["b"] ** 2})
    sums = products.groupby(trial).sum()
    scale = (sums["aa"] * sums["bb"]) ** 0.5
    found = (sums["ab"] / scale.where(scale > 0)).fillna(0.0).where(trial.groupby(trial).size() >= TAIL_LEAST)
    return look.rows["trial_id"].map(found).to_numpy(dtype=np.float64)


_NUMBERS: dict[str, Callable[[list[Look]], Numbers]] = {
    "success": _by_trial(_success),
    "log_auc": _by_trial(_score),
    "failures": _by_trial(_failed),
    "improvement": _by_pair,
    "best_of": _by_trial(_score),
    "spread": _by_trial(_score),
    "seed_spread": _by_configuration,
    "rising": _by_trial(_rising),
    "trend": _by_trial(_trend, of_all=True),
    "association": _by_trial(_association, of_all=True),
}
"""What a number is, for every key of `study.claims.MEASURES`."""

_PROPORTIONS = ("success", "failures")
_NOT_MONOTONE = ("spread",)

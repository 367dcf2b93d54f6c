"""Which of two methods survives more of the prior: paired differences, their p-values, and verdicts.

Pairs that the sweep file declared before it ran are confirmatory: their p-values are adjusted together within a task
and they get a verdict. All others are exploratory: described, never judged.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from itertools import combinations, product

import numpy as np
import pandas as pd

from analysis import intervals
from analysis.intervals import Estimate
from analysis.outcomes import FloatArray, Sample, point_means
from analysis.pairing import Pairs, Record, discordance, holm, improvement, mcnemar, pair, record
from analysis.profiles import utility
from analysis.results import Results, TaskFacts

SIGNIFICANT = 0.05
"""Adjusted p below which a confirmatory comparison gets a direction."""

INTERIM = "interim"
CENSORED = "censored"
NO_DIFFERENCE = "no difference shown"

PLAIN = ("planned", "pairs", "points", "unpaired", "missing", "stopped")
SIDES = ("log_auc", "success", "failures")
ESTIMATES = ("log_auc_difference", "success_difference", "improvement")
COLUMNS = (
    *("task", "first", "second", "family", "verdict", "p_adjusted"),
    *PLAIN,
    *(f"{name}_{side}" for name in SIDES for side in ("first", "second")),
    *(f"{name}{end}" for name in ESTIMATES for end in ("", "_low", "_high", "_method", "_p")),
    *("bounds_low", "bounds_high"),
    *(field.name for field in fields(Record)),
    "mcnemar_p",
)
"""Columns of `table`."""


@dataclass(frozen=True)
class Comparison:
    """Two methods on one task, over the pairs whose outcomes are both known.

    Attributes:
        task: Name of the task.
        first: Name of the method that differences are positive for when it survives more.
        second: Name of the other method.
        confirmatory: Whether the pair was declared before the sweep ran.
        metric: Name of the primary metric.
        threshold: Success is primary <= threshold.
        setting: Budget and design in words.
        planned: Planned pairs.
        pairs: Decided pairs; everything but `bounds` is over these.
        points: Design points of the decided pairs.
        unpaired: Planned trials of either method without a partner.
        missing: Planned trials of either method without a row.
        stopped: Trials of either method stopped by a pruner.
        log_auc: Log-AUC of the first and of the second method.
        log_auc_difference: Paired difference of the log-AUC; its p-value decides.
        bounds: Least and greatest that difference could be, whatever the undecided trials turn out to be.
        success: Success fraction of the first and of the second method.
        success_difference: Paired difference of the success fractions.
        failures: Failure rate of the first and of the second method.
        record: Wins, ties and losses.
        improvement: Paired probability that the first is lower than the second, ties counting half.
        mcnemar: Exact p of McNemar's test, a description; None when points hold several trials.
        p_adjusted: Holm's p of the log-AUC difference; None for an exploratory or undecided comparison.
        verdict: What the adjusted p allows to say; None for an exploratory comparison.
    """

    task: str
    first: str
    second: str
    confirmatory: bool
    metric: str
    threshold: float
    setting: str
    planned: int
    pairs: int
    points: int
    unpaired: int
    missing: int
    stopped: int
    log_auc: tuple[float, float]
    log_auc_difference: Estimate
    bounds: tuple[float, float]
    success: tuple[float, float]
    success_difference: Estimate
    failures: tuple[float, float]
    record: Record
    improvement: Estimate
    mcnemar: float | None
    p_adjusted: float | None = None
    verdict: str | None = None


EVERY_PAIR = 12
"""Up to so many methods, 66 pairs, every pair is compared; a thousand intervals would tell nobody anything."""


def compare_all(results: Results) -> tuple[Comparison, ...]:
    """The pairs of methods of every task, confirmatory pairs first, with Holm's adjustment within each task.

    An exploratory pair without a shared configuration is left out, as there is nothing to compare.

    Raises:
        ValueError: A confirmatory pair shares no configuration.
    """
    return tuple(comparison for task in results.tasks for comparison in compare_task(results, task))


def compare_task(results: Results, task: str) -> tuple[Comparison, ...]:
    """Every pair of methods on one task, confirmatory pairs first, adjusted.

    Of more than `EVERY_PAIR` methods, exploratory pairs are those with the first method alone.
    """
    outcomes, facts, setting = results.outcomes(task), results.facts(task), results.setting(task)
    methods = results.methods_of(task)
    declared = [names for names in results.confirmatory if set(names) <= set(methods)]
    others = [
        names
        for names in (combinations(methods, 2) if len(methods) <= EVERY_PAIR else product(methods[:1], methods[1:]))
        if set(names) not in [set(declared_names) for declared_names in declared] and _share(outcomes, *names)
    ]
    found = [
        replace(compare(outcomes, *names, facts=facts), confirmatory=index < len(declared), setting=setting, task=task)
        for index, names in enumerate([*declared, *others])
    ]
    return (*_judged(found[: len(declared)]), *found[len(declared) :])


def compare(outcomes: pd.DataFrame, first: str, second: str, *, facts: TaskFacts) -> Comparison:
    """Two methods on one task, unadjusted and without a verdict.

    Args:
        outcomes: `Results.outcomes` of the task.
        first: Name of a method.
        second: Name of another.
        facts: The task's metric, threshold and anchors.

    Raises:
        ValueError: A method is not planned, or the methods share no configuration.
    """
    planned = pair(outcomes, first, second)
    pairs = planned.decided()
    a, b = pairs.first, pairs.second
    scores = [utility(arm.values, low=facts.anchor_low, high=facts.anchor_high) for arm in (a, b)]
    reached = [point_means(arm.values <= facts.threshold, arm) for arm in (a, b)]
    points = len(a.clusters()[1])
    return Comparison(
        task=str(outcomes["task"].iloc[0]),
        first=first,
        second=second,
        confirmatory=False,
        metric=facts.metric,
        threshold=facts.threshold,
        setting="",
        planned=len(planned.first.values),
        pairs=len(a.values),
        points=points,
        unpaired=pairs.unpaired,
        missing=pairs.missing,
        stopped=pairs.stopped,
        log_auc=(_mean(scores[0], a), _mean(scores[1], b)),
        log_auc_difference=intervals.difference(point_means(scores[0] - scores[1], a)),
        bounds=bounds(planned, facts),
        success=(_mean(a.values <= facts.threshold, a), _mean(b.values <= facts.threshold, b)),
        success_difference=intervals.difference_of_proportions(reached[0], reached[1]),
        failures=(_mean(np.isinf(a.values), a), _mean(np.isinf(b.values), b)),
        record=record(a.values, b.values),
        improvement=intervals.bounded_mean(point_means(improvement(a.values, b.values), a)),
        mcnemar=mcnemar(*discordance(a.values, b.values, facts.threshold)) if points == len(a.values) else None,
    )


def bounds(planned: Pairs, facts: TaskFacts) -> tuple[float, float]:
    """The least and the greatest paired difference of the log-AUC that the undecided trials still allow."""

    def scored(arm: Sample, unknown: float) -> FloatArray:
        scores = utility(arm.values, low=facts.anchor_low, high=facts.anchor_high)
        return np.where(np.isnan(arm.values), unknown, scores)

    a, b = planned.first, planned.second
    return _mean(scored(a, 0.0) - scored(b, 1.0), a), _mean(scored(a, 1.0) - scored(b, 0.0), a)


def table(comparisons: tuple[Comparison, ...]) -> pd.DataFrame:
    """One row per comparison, columns of plain numbers and words."""
    return pd.DataFrame([_flat(comparison) for comparison in comparisons], columns=list(COLUMNS))


def _mean(values: FloatArray | np.ndarray[tuple[int, ...], np.dtype[np.bool_]], trials: Sample) -> float:
    means = point_means(values, trials).values
    return float(means.mean()) if len(means) else float("nan")


def _share(outcomes: pd.DataFrame, first: str, second: str) -> bool:
    keys = [set(zip(rows["config"], rows["seed"], strict=True)) for rows in _split(outcomes, first, second)]
    return not keys[0].isdisjoint(keys[1])


def _split(outcomes: pd.DataFrame, *methods: str) -> list[pd.DataFrame]:
    return [outcomes[outcomes["method"] == method] for method in methods]


def _judged(declared: list[Comparison]) -> list[Comparison]:
    """Adjust a task's confirmatory comparisons and say what they allow.

    An unfinished one counts with p = 1, which can only raise the others' adjusted p: a verdict given before the whole
    family is finished stays true when it is.
    """
    raw = [item.log_auc_difference.p_value if _unfinished(item) is None else 1.0 for item in declared]
    adjusted = holm([1.0 if p is None else p for p in raw])
    return [_verdict(item, float(p)) for item, p in zip(declared, adjusted, strict=True)]


def _unfinished(comparison: Comparison) -> str | None:
    if comparison.missing:
        return INTERIM
    return CENSORED if comparison.stopped else None


def _verdict(comparison: Comparison, adjusted: float) -> Comparison:
    unfinished = _unfinished(comparison)
    if unfinished is not None:
        return replace(comparison, verdict=unfinished)
    if adjusted >= SIGNIFICANT:
        return replace(comparison, p_adjusted=adjusted, verdict=NO_DIFFERENCE)
    better = comparison.first if comparison.log_auc_difference.value > 0 else comparison.second
    return replace(comparison, p_adjusted=adjusted, verdict=f"{better} survives more")


def _flat(comparison: Comparison) -> dict[str, object]:
    row: dict[str, object] = {
        "task": comparison.task,
        "first": comparison.first,
        "second": comparison.second,
        "family": "confirmatory" if comparison.confirmatory else "exploratory",
        "verdict": comparison.verdict,
        "p_adjusted": comparison.p_adjusted,
    }
    row |= {name: getattr(comparison, name) for name in PLAIN}
    for name in SIDES:
        row[f"{name}_first"], row[f"{name}_second"] = getattr(comparison, name)
    for name in ESTIMATES:
        estimate: Estimate = getattr(comparison, name)
        row |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
        row |= {f"{name}_method": estimate.method, f"{name}_p": estimate.p_value}
    row["bounds_low"], row["bounds_high"] = comparison.bounds
    row |= {field.name: getattr(comparison.record, field.name) for field in fields(Record)}
    return row | {"mcnemar_p": comparison.mcnemar}

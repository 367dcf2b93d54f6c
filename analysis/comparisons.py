"""Which of two methods survives more of the prior: paired differences, their p-values, and verdicts.

Pairs that the sweep file declared before it ran are confirmatory: their p-values are adjusted together within a task
and they get a verdict. All others are exploratory: described, never judged; so are pairs that were declared
after results. Configurations that a search chose are no
draws from a prior: of an adaptive sweep nothing is claimed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from itertools import combinations, product

import numpy as np
import pandas as pd

from analysis import intervals
from analysis.best_of import SIZES, BestOf, best_of
from analysis.intervals import Estimate
from analysis.judging import explored, judged
from analysis.outcomes import FloatArray, Sample
from analysis.pairing import (
    Arms,
    FourWay,
    Pairs,
    Record,
    align,
    four_way,
    improvement,
    mcnemar,
    pair,
    population_improvement,
    record,
)
from analysis.profiles import utility
from analysis.results import Results, TaskFacts
from analysis.summary import stated

ADAPTIVE = "adaptive: no claim"

SEARCH = "a search"
"""What chose the configurations of an adaptive sweep."""

EVERY_PAIR = 12
"""Up to so many methods, 66 pairs, every pair is compared; a thousand intervals would tell nobody anything."""

ROOM = 6
"""Pairs with the first method that a figure shows where none is confirmatory."""

PLAIN = ("planned", "pairs", "points", "unpaired", "missing", "stopped")
SAID = ("standing", "verdict", "p_adjusted", "p_discovery", "spread")
SIDES = ("log_auc", "success", "failures")
ESTIMATES = ("log_auc_difference", "success_difference", "poi_paired", "poi_pop")
FOUR_WAYS = ("finished", "reached")
ENDS = ("", "_low", "_high", "_method")
COLUMNS = (
    *("task", "first", "second", "family", "standing", "verdict", "p_adjusted", "p_discovery"),
    *PLAIN,
    *(f"{name}_{side}" for name in SIDES for side in ("first", "second")),
    *(f"{name}{end}" for name in ESTIMATES for end in (*ENDS, "_p")),
    *("bounds_low", "bounds_high", "spread"),
    *(f"best_{size}_{end}" for size in SIZES for end in ("first", "second", *(f"difference{end}" for end in ENDS))),
    *(field.name for field in fields(Record)),
    *(f"{name}_{field.name}" for name in FOUR_WAYS for field in fields(FourWay)),
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
        spread: Standard deviation, over points, of the paired differences of the log-AUC; NaN below two points.
        success: Success fraction of the first and of the second method.
        success_difference: Paired difference of the success fractions.
        failures: Failure rate of the first and of the second method.
        best: Expected best score of a few configurations, of both methods; none of an adaptive sweep.
        record: Wins, ties and losses.
        finished: Pairs in which both, one or none did not fail.
        reached: Pairs in which both, one or none succeeded.
        poi_paired: Probability, on a shared configuration, that the first is lower than the second, ties counting half.
        poi_pop: The same for two configurations drawn apart: another quantity.
        mcnemar: Exact p of McNemar's test, a description; None when points hold several trials.
        p_adjusted: Holm's p of the log-AUC difference; None for an exploratory or undecided comparison.
        p_discovery: Benjamini and Hochberg's p among the task's exploratory pairs; None for others, or undecided.
        verdict: What the adjusted p allows to say; None for an exploratory comparison.
        standing: When the pair was declared, as `Results.standing` says it; None for a pair that never was.
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
    spread: float
    success: tuple[float, float]
    success_difference: Estimate
    failures: tuple[float, float]
    best: tuple[BestOf, ...]
    record: Record
    finished: FourWay
    reached: FourWay
    poi_paired: Estimate
    poi_pop: Estimate
    mcnemar: float | None
    p_adjusted: float | None = None
    p_discovery: float | None = None
    verdict: str | None = None
    standing: str | None = None


def compare_all(results: Results) -> tuple[Comparison, ...]:
    """The pairs of methods of every task, confirmatory pairs first, with Holm's adjustment within each task.

    An exploratory pair without a shared configuration is left out, as there is nothing to compare.

    Raises:
        ValueError: A confirmatory pair shares no configuration, though the sweep is not adaptive.
    """
    return tuple(comparison for task in results.tasks for comparison in compare_task(results, task))


def compare_task(results: Results, task: str) -> tuple[Comparison, ...]:
    """Every pair of methods on one task, confirmatory pairs first, adjusted.

    Of more than `EVERY_PAIR` methods, exploratory pairs are those with the first method alone.
    """
    arms, facts, setting = align(results.outcomes(task)), results.facts(task), results.setting(task)
    adaptive = results.adaptive is not None
    declared = declared_pairs(results, task)
    found = [
        replace(
            _compared(_planned_pairs(arms, *names, empty=adaptive), *names, task=task, facts=facts),
            confirmatory=index < len(declared),
            setting=setting,
            standing=results.standing(task, *names),
        )
        for index, names in enumerate([*declared, *_others(arms, declared, results.late)])
    ]
    if adaptive:
        return tuple(unclaimed(item) for item in found)
    withdrawn = sum(set(names) <= set(arms.methods) for names in results.withdrawn)
    return (*judged(found[: len(declared)], withdrawn=withdrawn), *explored(found[len(declared) :]))


def compare_pair(results: Results, task: str, first: str, second: str) -> Comparison:
    """Two methods on one task in the order given, adjusted within the task's family.

    Raises:
        ValueError: A method is not planned on the task, or the methods share no configuration.
    """
    found = replace(
        compare(results.outcomes(task), first, second, facts=results.facts(task)),
        setting=results.setting(task),
        standing=results.standing(task, first, second),
    )
    for item in compare_task(results, task):
        if {item.first, item.second} == {first, second}:
            found = replace(
                found,
                confirmatory=item.confirmatory,
                p_adjusted=item.p_adjusted,
                p_discovery=item.p_discovery,
                verdict=item.verdict,
            )
    return found if results.adaptive is None else unclaimed(found)


def declared_pairs(results: Results, task: str) -> list[tuple[str, str]]:
    """The confirmatory pairs whose methods are both planned on a task; a pair and its reverse count once."""
    methods = set(results.methods_of(task))
    once = {frozenset(names): names for names in reversed(results.confirmatory) if set(names) <= methods}
    return [names for names in results.confirmatory if once.get(frozenset(names)) is names]


def shown_pairs(results: Results, task: str) -> list[tuple[str, str]]:
    """The pairs that a figure has room for: the confirmatory ones, or where none is declared the first method's."""
    methods = results.methods_of(task)
    return declared_pairs(results, task) or [(methods[0], other) for other in methods[1 : ROOM + 1]]


def drawn_pairs(
    results: Results, pairs: Sequence[tuple[str, str]] | None = None
) -> Iterator[tuple[str, tuple[str, str], Pairs]]:
    """Task, methods and planned pairs of what a figure shows; nothing of an adaptive sweep.

    Args:
        results: The results.
        pairs: Pairs of methods, left out where they are not planned or share nothing; None for `shown_pairs`.
    """
    for task in results.tasks if results.adaptive is None else ():
        arms = align(results.outcomes(task))
        for names in shown_pairs(results, task) if pairs is None else pairs:
            if set(names) <= set(arms.methods) and arms.share(*names):
                yield task, names, arms.pairs(*names)


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
    return _compared(pair(outcomes, first, second), first, second, task=str(outcomes["task"].iloc[0]), facts=facts)


def bounds(planned: Pairs, facts: TaskFacts) -> tuple[float, float]:
    """The least and the greatest paired difference of the log-AUC that the undecided trials still allow."""

    def scored(arm: Sample, unknown: float) -> FloatArray:
        return np.where(np.isnan(arm.values), unknown, _scores(arm, facts))

    a, b = planned.first, planned.second
    least, most = scored(a, 0.0) - scored(b, 1.0), scored(a, 1.0) - scored(b, 0.0)
    return _mean(planned, least), _mean(planned, most)


def table(comparisons: tuple[Comparison, ...]) -> pd.DataFrame:
    """One row per comparison, columns of plain numbers and words."""
    return pd.DataFrame([flat(comparison) for comparison in comparisons], columns=list(COLUMNS))


def flat(comparison: Comparison) -> dict[str, object]:
    """A comparison as numbers and words by column name, `COLUMNS`; NaN for what it does not have."""
    row: dict[str, object] = dict.fromkeys(COLUMNS, float("nan")) | {
        "task": comparison.task,
        "first": comparison.first,
        "second": comparison.second,
        "family": "confirmatory" if comparison.confirmatory else "exploratory",
    }
    row |= {name: getattr(comparison, name) for name in (*SAID, *PLAIN)}
    for name in SIDES:
        row[f"{name}_first"], row[f"{name}_second"] = getattr(comparison, name)
    for name in ESTIMATES:
        row |= _columns(name, getattr(comparison, name)) | {f"{name}_p": getattr(comparison, name).p_value}
    for item in comparison.best:
        row |= {f"best_{item.size}_first": item.first, f"best_{item.size}_second": item.second}
        row |= _columns(f"best_{item.size}_difference", item.difference)
    row["bounds_low"], row["bounds_high"] = comparison.bounds
    row |= vars(comparison.record) | {"mcnemar_p": comparison.mcnemar}
    for name in FOUR_WAYS:
        row |= {f"{name}_{key}": count for key, count in vars(getattr(comparison, name)).items()}
    return row


def _columns(name: str, estimate: Estimate) -> dict[str, object]:
    ends = (estimate.value, estimate.low, estimate.high, estimate.method)
    return {f"{name}{end}": value for end, value in zip(ENDS, ends, strict=True)}


def _others(arms: Arms, declared: Sequence[tuple[str, str]], late: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    methods = arms.methods
    every = combinations(methods, 2) if len(methods) <= EVERY_PAIR else product(methods[:1], methods[1:])
    known = [names for names in late if set(names) <= set(methods)]
    once = {frozenset(names): names for names in [*known, *every]}
    return [names for key, names in once.items() if key not in set(map(frozenset, declared)) and arms.share(*names)]


def _planned_pairs(arms: Arms, first: str, second: str, *, empty: bool) -> Pairs:
    """The planned pairs, which only an adaptive sweep may lack."""
    if not empty and not arms.share(first, second):
        raise ValueError(f"{first!r} and {second!r} share no configuration and seed: they cannot be compared in pairs")
    return arms.pairs(first, second)


def _compared(planned: Pairs, first: str, second: str, *, task: str, facts: TaskFacts) -> Comparison:
    pairs = planned.decided()
    a, b = pairs.first, pairs.second
    score_a, score_b = _scores(a, facts), _scores(b, facts)
    gaps = pairs.means(score_a - score_b)
    reached = [pairs.means(arm.values <= facts.threshold) for arm in (a, b)]
    success = four_way(a.values, b.values, facts.threshold)
    points = len(gaps.values)
    return Comparison(
        task=task,
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
        log_auc=(_mean(pairs, score_a), _mean(pairs, score_b)),
        log_auc_difference=intervals.difference(gaps),
        bounds=bounds(planned, facts),
        spread=float(gaps.values.std(ddof=1)) if points > 1 else float("nan"),
        success=(_average(reached[0].values), _average(reached[1].values)),
        success_difference=intervals.difference_of_proportions(reached[0], reached[1]),
        failures=(_mean(pairs, np.isinf(a.values)), _mean(pairs, np.isinf(b.values))),
        best=tuple(best_of(pairs, score_a, score_b, size) for size in SIZES),
        record=record(a.values, b.values),
        finished=four_way(a.values, b.values),
        reached=success,
        poi_paired=intervals.bounded_mean(pairs.means(improvement(a.values, b.values))),
        poi_pop=intervals.bounded_mean(population_improvement(pairs)),
        mcnemar=mcnemar(success.only_first, success.only_second) if points == len(a.values) else None,
    )


def _scores(arm: Sample, facts: TaskFacts) -> FloatArray:
    return utility(arm.values, low=facts.anchor_low, high=facts.anchor_high)


def _mean(pairs: Pairs, values: FloatArray | np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> float:
    return _average(pairs.means(values).values)


def _average(values: FloatArray) -> float:
    return float(values.mean()) if len(values) else float("nan")


def unclaimed(item: Comparison) -> Comparison:
    """A comparison as an adaptive sweep allows it: what was seen on the shared configurations, without inference.

    No interval and no p, and no best of a few configurations: that is an expectation over draws from the prior.
    """
    return replace(
        item,
        log_auc_difference=stated(item.log_auc_difference, SEARCH),
        success_difference=stated(item.success_difference, SEARCH),
        poi_paired=stated(item.poi_paired, SEARCH),
        poi_pop=stated(item.poi_pop, SEARCH),
        best=(),
        mcnemar=None,
        p_adjusted=None,
        p_discovery=None,
        verdict=ADAPTIVE,
    )

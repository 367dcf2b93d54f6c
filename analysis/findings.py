"""What the report says in words: its verdicts, its comparisons, and how much of the prior each method survives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis import words
from analysis.axes import axes_of
from analysis.budgets import best_score
from analysis.claims import REFUTED, SUPPORTED, Verdict
from analysis.comparisons import Comparison
from analysis.intervals import Estimate
from analysis.outcomes import sample
from analysis.pair_report import pair_reports
from analysis.pair_words import further
from analysis.questions import verdicts
from analysis.regions import safe_region
from analysis.results import Reference, Results, TaskFacts
from analysis.trajectories import untrained_share
from search_spaces.domains import Choice, Cross, Domain, LogUniform, Uniform, When
from study.statements import AFTER, BEFORE, WITHDRAWN
from study.trial import BUDGET_UNITS, Budget

SEED = 20_240_519
"""Seed of what is resampled for a sentence: the same results give the same page."""

OWN, CHANGED = "own", " with its own "
"""What `Results.prior` calls a prior without a preset, and what it says before the names of changed ranges."""

TRIED = 25
"""Configurations that somebody tries who searches well."""


@dataclass(frozen=True)
class Finding:
    """A statement with its grounds.

    Attributes:
        title: What it is about.
        verdict: What it comes to, or None where nothing is judged.
        settled: Whether the verdict is final.
        sentences: The grounds.
    """

    title: str
    verdict: str | None
    settled: bool
    sentences: tuple[str, ...]


@dataclass(frozen=True)
class Findings:
    """All that a report says in words; mappings are by task.

    Attributes:
        silence: Why there is no verdict at all, or None where there is one.
        claims: The sweep file's claims.
        designs: What any statement about a task has to name.
        confirmatory: Comparisons declared before the sweep ran.
        exploratory: All others.
        survival: How much each method survives, a sentence each.
        breaks: Where each method is safe, a sentence each.
    """

    silence: str | None
    claims: tuple[Finding, ...]
    designs: Mapping[str, str]
    confirmatory: Mapping[str, tuple[Finding, ...]]
    exploratory: Mapping[str, tuple[Finding, ...]]
    survival: Mapping[str, tuple[str, ...]]
    breaks: Mapping[str, tuple[str, ...]]


def find(results: Results, comparisons: Sequence[Comparison], *, brief: bool = False) -> Findings:
    """What some results come to.

    Args:
        results: The results.
        comparisons: Their comparisons.
        brief: Only what is cheap, for a page that is made anew every few seconds.
    """
    whole = not brief
    judged = {task: _of(comparisons, task, confirmatory=True) for task in results.tasks}
    others = {task: _of(comparisons, task, confirmatory=False) if whole else [] for task in results.tasks}
    return Findings(
        silence=_silence(results, judged=any(judged.values()), brief=brief),
        claims=tuple(_claimed(verdict) for verdict in verdicts(results)) if whole else (),
        designs={task: design(results, task) for task in results.tasks},
        confirmatory={
            task: tuple(_judged(item, grounds(results, item) if whole else ()) for item in items)
            for task, items in judged.items()
        },
        exploratory={task: tuple(_described(item) for item in items) for task, items in others.items()},
        survival={task: survival(results, task) if whole else () for task in results.tasks},
        breaks={task: breaks(results, task) if whole else () for task in results.tasks},
    )


def _of(comparisons: Sequence[Comparison], task: str, *, confirmatory: bool) -> list[Comparison]:
    return [item for item in comparisons if item.task == task and item.confirmatory == confirmatory]


def _judged(item: Comparison, more: tuple[str, ...]) -> Finding:
    settled = item.p_adjusted is not None and item.standing in (None, BEFORE)
    return Finding(_pair(item), item.verdict, settled, (words.sentence(item), *more))


def _described(item: Comparison) -> Finding:
    return Finding(_pair(item), None, False, (words.sentence(item),))


def _pair(item: Comparison) -> str:
    return f"{item.first} vs {item.second}"


def _claimed(verdict: Verdict) -> Finding:
    """A claim with its reason, and every number that it was checked by."""
    others = tuple(
        f"{found.number} is {_ends(found.estimate)}; stated: {found.statement}." for found in verdict.findings
    )
    extended = verdict.standing not in (BEFORE, AFTER, WITHDRAWN)
    when = f"{BEFORE}, {verdict.standing}" if extended else verdict.standing
    told = f"{verdict.statement.rstrip('.')} ({verdict.source}; stated {when})."
    settled = verdict.verdict in (SUPPORTED, REFUTED) and verdict.standing == BEFORE
    shown = f"{verdict.verdict} ({verdict.standing})" if extended else verdict.verdict or verdict.standing
    return Finding(verdict.id, shown, settled, (told, f"{verdict.reason.rstrip('.')}.", *others))


def _ends(found: Estimate) -> str:
    ends = "" if np.isnan(found.low) else f" [{words.number(found.low)}, {words.number(found.high)}]"
    return f"{words.number(found.value)}{ends}"


# A comparison


def grounds(results: Results, item: Comparison) -> tuple[str, ...]:
    """What else a reader has to know to judge a comparison.

    The pairs that tell the two methods apart; from `pair_words.further` the best of a few configurations, where the
    profiles stand apart, the sign in parts of the prior, the difference that the design could have detected and the
    same at equal discriminator steps; the share of failures that were never trained within the budget; and whether not
    all trials were trained by the same program.

    Args:
        results: The results.
        item: One of their comparisons.
    """
    if not item.pairs:
        return ()
    (report,) = pair_reports(results, item.first, item.second, task=item.task)
    said = (_discordance(item), further(report), _untrained(results, item), _programs(results, item))
    return tuple(sentence for sentence in said if sentence)


def _discordance(item: Comparison) -> str:
    reached = item.reached
    return (
        f"Discordance: of {item.pairs} pairs, {item.first} alone succeeded in {reached.only_first} and {item.second} "
        f"alone in {reached.only_second}, both in {reached.both}, neither in {reached.neither}."
    )


def _untrained(results: Results, item: Comparison) -> str | None:
    shares = {name: untrained_share(results, item.task, name) for name in (item.first, item.second)}
    said = [f"{_estimate(share)} of {name}" for name, share in shares.items() if share is not None]
    if not said:
        return None
    return f"Of the trials that missed the threshold, never trained within the budget: {', '.join(said)}."


def _programs(results: Results, item: Comparison) -> str | None:
    """As when a run goes on where there is no compiler any more."""
    rows = results.trials
    if "program" not in rows.columns:  # of an earlier version
        return None
    rows = rows[(rows["task"] == item.task) & rows["method"].isin([item.first, item.second])]
    if rows["program"].nunique() < 2:
        return None
    counts = rows.groupby(["method", "program"], observed=True).size().reset_index(name="count")
    said = [f"{row['count']} of {row['method']} by {row['program']}" for row in counts.to_dict("records")]
    return f"Not all trials were trained by the same program, and programs differ by rounding: {', '.join(said)}."


def _estimate(found: Estimate) -> str:
    ends = "" if np.isnan(found.low) else f" {words.interval(found)}"
    return f"{words.share(found.value)}{ends}"


# A task


def survival(results: Results, task: str) -> tuple[str, ...]:
    """How much of the prior each method survives, beyond the table: the best of 25, and what was never trained."""
    facts, outcomes = results.facts(task), results.outcomes(task)
    best, never = [], []
    for method in results.methods_of(task):
        rng = np.random.default_rng(SEED)
        found = best_score(sample(outcomes[outcomes["method"] == method]), TRIED, facts=facts, rng=rng)
        best += [] if np.isnan(found.value) or results.adaptive else [f"{method} {_estimate(found)}"]
        share = untrained_share(results, task, method)
        never += [] if share is None else [f"{method} {_estimate(share)}"]
    return tuple(
        f"{lead}: {', '.join(items)}."
        for lead, items in (
            (f"Expected score of the best of {TRIED} configurations", best),
            ("Of the trials that missed the threshold, the share never trained within the budget", never),
        )
        if items
    )


def breaks(results: Results, task: str) -> tuple[str, ...]:
    """Where each method is safe, a sentence each."""
    found = (safe_region(results, task, method, rng=np.random.default_rng(SEED)) for method in results.methods_of(task))
    return tuple(f"{region.words.rstrip('.')}." for region in found)


def _silence(results: Results, *, judged: bool, brief: bool) -> str | None:
    if results.claims:
        return f"{_counted(len(results.claims), 'claim')} will be judged by `manypaths report`." if brief else None
    if judged or not len(results.plan):
        return None
    if results.adaptive:
        return f"There is no verdict: {results.adaptive} chose configurations after seeing results."
    if len(results.methods) < 2:
        return f"There is no verdict: {results.methods[0]} is the only method, and nothing is there to compare it with."
    if results.late:
        return "There is no verdict: every comparison that was to be decided was declared after results existed."
    return (
        "There is no verdict: the sweep file declares no comparison or claim that was to be decided "
        "(confirmatory, claims). What follows describes."
    )


def design(results: Results, task: str) -> str:
    """What any statement about a task has to name: prior, configurations, budget, metric, threshold and controls."""
    planned = results.plan[results.plan["task"] == task]
    facts = results.facts(task)
    parts = [
        f"{_prior(results, planned)}: {_configurations(planned)}",
        f"budget {_budget(planned)}",
        f"{facts.metric}: {_controls(results.references.get(task, ()), facts)}",
        f"log-AUC between {facts.anchor_low:.4g} (scores 1) and {facts.anchor_high:.4g} (scores 0)",
    ]
    return "; ".join(parts) + "."


def _prior(results: Results, planned: pd.DataFrame) -> str:
    sampler = "/".join(str(name) for name in planned["sampler"].unique())
    if results.adaptive:
        return f"Configurations chosen by {sampler}"
    name = f"Prior {results.prior} ({sampler})" if results.prior else f"Prior {sampler}"
    ranges = ranges_of(results, [str(planned["task"].iloc[0])])
    return f"{name}, {ranges}" if ranges else name


def prior_of(results: Results, tasks: Sequence[str]) -> str | None:
    """The prior with the ranges of what varied on some tasks, as a statement has to name it; None where it has none."""
    name = (results.prior or "").partition(CHANGED)[0]
    ranges = ranges_of(results, tasks)
    return ", ".join(part for part in (name if name != OWN or not ranges else "", ranges) if part) or None


def ranges_of(results: Results, tasks: Sequence[str]) -> str:
    """What was drawn from which range, for some tasks, in words; what a variant draws otherwise stands after it."""
    varied = {axis.word: None for task in tasks for axis in axes_of(results, task) if axis.word in results.domains}
    said = [f"{word} {_range(results.domains[word])}" for word in varied]
    methods = dict.fromkeys(method for task in tasks for method in results.methods_of(task))
    for method in methods:
        own = results.domains_of(method)
        said += [
            f"{word} of {method} {_range(own[word])}"
            for word in own
            if word in varied and own[word] != results.domains[word]
        ]
    return ", ".join(said)


def _range(domain: Domain | When) -> str:
    """A domain as a sentence names it."""
    match domain:
        case Uniform(low, high):
            return f"{low:g} to {high:g}"
        case LogUniform(low, high):
            return f"{low:g} to {high:g} (logarithmic)"
        case Choice(values) | Cross(values):
            return " or ".join(map(str, values))
        case When(name=name):
            return f"by {name}"
        case _:
            return "as published"


def _configurations(planned: pd.DataFrame) -> str:
    points = planned[["replicate", "point"]].drop_duplicates()
    replicates, seeds = points["replicate"].nunique(), planned["seed"].nunique()
    configurations = planned["config"].nunique()
    crossed = f" ({len(points)} points crossed with structures)" if configurations != len(points) else ""
    return (
        f"{_counted(configurations, 'configuration')}{crossed} in {_counted(replicates, 'replicate')}, "
        f"{_counted(seeds, 'seed')} each"
    )


def _budget(planned: pd.DataFrame) -> str:
    """The budget in steps of both players, for each number of discriminator steps to a generator step."""
    rows = planned[["budget_unit", "budget_steps", "n_critic"]].drop_duplicates().sort_values("n_critic")
    return " or ".join(_steps(str(unit), int(steps), critic) for unit, steps, critic in rows.itertuples(index=False))


def _steps(unit: str, steps: int, critic: float) -> str:
    if unit not in BUDGET_UNITS:
        return f"{steps} {unit}"
    each = 1 if np.isnan(critic) else int(critic)
    made = Budget(unit=unit, steps=steps, evaluations=1).generator_steps(each)
    return f"{made} generator and {made * each} discriminator steps"


def _controls(references: Sequence[Reference], facts: TaskFacts) -> str:
    """Floor, threshold and the control closest above it, in words."""
    passing = sorted((item for item in references if item.must == "pass"), key=lambda item: item.value)
    failing = sorted((item for item in references if item.must == "fail"), key=lambda item: item.value)
    floor = f"floor {words.number(passing[0].value)} ({passing[0].name}), " if passing else ""
    control = f", control that fails {words.number(failing[0].value)} ({failing[0].name})" if failing else ""
    return f"{floor}success at or below {words.number(facts.threshold)}{control}"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"

"""Everything that a run shows about two methods on a task: gathered, as data and as figures."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from analysis import power
from analysis.axes import hyperparameters, word_columns
from analysis.comparisons import Comparison, compare_pair, flat
from analysis.dominance import Dominance, ProfileDifference, dominance, profile_difference
from analysis.pair_words import paragraph
from analysis.pairing import KEY, pair
from analysis.parity import EqualSteps, equal_discriminator_steps, equal_generator_steps
from analysis.ranges import BoxDifference, signs
from analysis.results import Results
from search_spaces.conditions import Condition, ConditionError, parse_condition
from study.errors import UserError, unknown

SEED = 20_240_520
"""Seed of the bands: the same results give the same report."""

LEAST = 20
"""Points below which a region is too small to compare anything in."""


@dataclass(frozen=True)
class PairReport:
    """Two methods on one task.

    Attributes:
        comparison: Their paired comparison at the whole budget.
        region: The condition that configurations were restricted to afterwards, or None.
        equal_steps: The same at equal discriminator steps, or why there is no such view.
        equal_generator_steps: The same at equal generator steps, or why there is no such view.
        difference: The difference of their profiles with its band, which an adaptive sweep does not have.
        dominance: What that band shows; None for an adaptive sweep, whose curves are no profiles of a prior.
        parts: The difference of the log-AUC in parts of the prior, all of it first; none for an adaptive sweep.
        success_detectable: The least difference of success that so many points find with 80 % power, at the discordance
            seen; NaN where none is, and for an adaptive sweep.
        log_auc_detectable: The least difference of the log-AUC, at the standard deviation seen; NaN below two points,
            and for an adaptive sweep.
    """

    comparison: Comparison
    region: str | None
    equal_steps: EqualSteps
    equal_generator_steps: EqualSteps
    difference: ProfileDifference
    dominance: Dominance | None
    parts: tuple[BoxDifference, ...]
    success_detectable: float
    log_auc_detectable: float


def pair_reports(
    results: Results,
    first: str,
    second: str,
    *,
    task: str | None = None,
    where: str | None = None,
) -> tuple[PairReport, ...]:
    """Two methods on every task that both are planned on, or on one.

    Args:
        results: The results.
        first: Name of the method that differences are positive for when it survives more.
        second: Name of the other.
        task: Name of a task, None for all.
        where: A condition on hyperparameters that configurations have to meet; the comparison is then exploratory.

    Raises:
        UserError: An unknown method, task or condition, methods that share no configuration, or a region with fewer
            than 20 points.
    """
    condition = _condition(where)
    tasks = _tasks(results, first, second, task)
    parts = {name: in_region(results, name, first, second, condition) if condition else results for name in tasks}
    return tuple(_report(part, name, first, second, where) for name, part in parts.items())


def in_region(results: Results, task: str, first: str, second: str, condition: Condition) -> Results:
    """A task's configurations that meet a condition; nothing in it is confirmatory, as it was chosen afterwards.

    A hyperparameter that only one method has, such as a penalty's weight, restricts the configurations of both.

    Raises:
        UserError: The condition names what is not there, or leaves fewer than 20 points.
    """
    planned = results.plan[results.plan["task"] == task]
    own = planned[planned["method"].isin([first, second])].reset_index(drop=True)
    known = [word for word, column in _columns(results, own).items() if column.notna().any()]
    for word in condition.names:
        if word not in _columns(results, own):
            raise unknown("hyperparameter in --where:", word, known)
    met = [_meeting(_columns(results, own[own["method"] == method]), own, condition) for method in (first, second)]
    inside = None if met == [None, None] else set.intersection(*(keys for keys in met if keys is not None))
    if inside is None:
        raise UserError(f"--where {condition.text!r}: neither {first} nor {second} has all of what it names")
    kept = planned[[key in inside for key in zip(planned["config"], planned["seed"], strict=True)]]
    points, every = (len(rows[["replicate", "point"]].drop_duplicates()) for rows in (kept, planned))
    if points < LEAST:
        raise UserError(
            f"--where {condition.text!r} leaves {points} of {every} points on {task}: at least {LEAST} are needed"
        )
    trials = results.trials[results.trials["trial_id"].isin(kept["trial_id"])]
    return dataclasses.replace(results, plan=kept, trials=trials, confirmatory=())


def data(report: PairReport) -> object:
    """The report as JSON data; NaN is null."""
    found = report.comparison
    return _plain(
        flat(found)
        | {
            "setting": found.setting,
            "metric": found.metric,
            "threshold": found.threshold,
            "region": report.region,
            "equal_discriminator_steps": _view(report.equal_steps),
            "equal_generator_steps": _view(report.equal_generator_steps),
            "dominance": None if report.dominance is None else vars(report.dominance),
            "band": {"half_width": report.difference.half_width, "name": report.difference.band},
            "parts": [
                {"part": part.box, "points": part.points} | vars(part.difference) | {"reason": part.reason}
                for part in report.parts
            ],
            "detectable": {
                "power": power.POWER,
                "success": report.success_detectable,
                "log_auc": report.log_auc_detectable,
            },
            "paragraph": paragraph(report),
        }
    )


def _view(found: EqualSteps) -> dict[str, object]:
    compared = None if found.comparison is None else flat(found.comparison)
    return {"steps": found.steps, "words": found.words, "comparison": compared}


def save_figures(
    results: Results, reports: tuple[PairReport, ...], where: str | None, folder: Path
) -> tuple[Path, ...]:
    """Write the figures of some reports into a folder, which is made: both profiles, their difference, the counts.

    Args:
        results: The results that the reports came from.
        reports: Reports of one pair.
        where: The condition that they were restricted to, if any.
        folder: The folder.

    Raises:
        UserError: The folder cannot be written.
    """
    from analysis.figures import style  # matplotlib takes half a second, which the text does not need
    from analysis.figures.curves import profile_numbers
    from analysis.figures.differences import profile_difference_numbers
    from analysis.figures.mcnemar import discordance_numbers
    from analysis.figures.table import FIGURES

    first, second = reports[0].comparison.first, reports[0].comparison.second
    condition, tables, pair_here = _condition(where), [], [(first, second)]
    for report in reports:
        task = report.comparison.task
        part = in_region(results, task, first, second, condition) if condition else results
        own = _only(part, task, first, second)
        curves = profile_numbers(own, rng=np.random.default_rng(SEED))
        curves["order"] = curves["method"].map(results.methods.index)  # the colours of the whole run
        rng = np.random.default_rng(SEED)
        differences = profile_difference_numbers(own, rng=rng, pairs=pair_here, order=results.methods)
        counts = discordance_numbers(own, pairs=pair_here, order=results.methods)
        tables.append({"profiles": curves, "profile_differences": differences, "discordance": counts})
    numbers = {name: pd.concat([each[name] for each in tables], ignore_index=True) for name in tables[0]}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return tuple(path for name in numbers for path in style.save(name, FIGURES[name], numbers[name], folder))
    except OSError as error:
        raise UserError(f"cannot write figures into {folder}: {error.strerror or error}") from None


def _only(results: Results, task: str, *methods: str) -> Results:
    plan = results.plan[(results.plan["task"] == task) & results.plan["method"].isin(methods)]
    trials = results.trials[results.trials["trial_id"].isin(plan["trial_id"])]
    declared = tuple(names for names in results.confirmatory if set(names) == set(methods))
    return dataclasses.replace(results, plan=plan, trials=trials, confirmatory=declared)


def _report(results: Results, task: str, first: str, second: str, where: str | None) -> PairReport:
    try:
        comparison = compare_pair(results, task, first, second)
    except ValueError as error:
        why = f" ({results.adaptive} asked for each method's own)" if results.adaptive else ""
        raise UserError(f"{task}: {error}{why}") from None
    facts, adaptive = results.facts(task), results.adaptive is not None
    difference = profile_difference(pair(results.outcomes(task), first, second), rng=np.random.default_rng(SEED))
    if adaptive:
        difference = dataclasses.replace(difference, half_width=math.nan, band=f"no band: chosen by {results.adaptive}")
    return PairReport(
        comparison=comparison,
        region=where,
        equal_steps=equal_discriminator_steps(results, task, first, second),
        equal_generator_steps=equal_generator_steps(results, task, first, second),
        difference=difference,
        dominance=None if adaptive else dominance(difference, low=facts.anchor_low, high=facts.anchor_high),
        parts=() if adaptive else signs(results, task, first, second),
        success_detectable=math.nan if adaptive else _detectable_success(comparison),
        log_auc_detectable=math.nan if adaptive else _detectable_log_auc(comparison),
    )


def _detectable_success(found: Comparison) -> float:
    differ = (found.reached.only_first + found.reached.only_second) / max(1, found.pairs)
    return power.detectable(found.points, discordance=differ) if differ else math.nan


def _detectable_log_auc(found: Comparison) -> float:
    return power.detectable_mean(found.points, spread=found.spread) if found.points > 1 else math.nan


def _condition(where: str | None) -> Condition | None:
    try:
        return None if where is None else parse_condition(where)
    except ConditionError as error:
        raise UserError(f"--where: {error}") from None


def _tasks(results: Results, first: str, second: str, task: str | None) -> list[str]:
    for method in (first, second):
        if method not in results.methods:
            raise unknown("method", method, results.methods)
    if first == second:
        raise UserError(f"{first} cannot be compared with itself: name two of {', '.join(results.methods)}")
    if task is not None and task not in results.tasks:
        raise unknown("task", task, results.tasks)
    together = [name for name in results.tasks if {first, second} <= set(results.methods_of(name))]
    if not together or (task is not None and task not in together):
        where = f"not on {task} but on {', '.join(together)}" if together else "on no task"
        raise UserError(f"{first} and {second} are planned together {where}")
    return together if task is None else [task]


def _columns(results: Results, rows: pd.DataFrame) -> Mapping[str, pd.Series]:
    """The hyperparameters of some rows, by the sweep file's words."""
    return word_columns(rows[list(hyperparameters(results))])


def _meeting(
    columns: Mapping[str, pd.Series], own: pd.DataFrame, condition: Condition
) -> set[tuple[object, object]] | None:
    """Configurations and seeds of a method that meet a condition; None for a method without what it names."""
    if any(columns[name].isna().all() for name in condition.names):
        return None
    try:
        kept = next(iter(columns.values())).index[condition.holds(columns)]
    except ConditionError as error:
        raise UserError(f"--where: {error}") from None
    return set(zip(*(own.loc[kept, name] for name in KEY), strict=True))


def _plain(value: object) -> object:
    """Data without what JSON lacks."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

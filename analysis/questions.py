"""The questions that `Runs` passes on: each names the statistic, its table and how that is drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
import pandas as pd

from analysis import budgets, claims, comparisons, intervals, profiles, ranges, summary, variance
from analysis.answers import Answer, Look, chosen, of_a_prior, setting, without
from analysis.axes import axes_of, axis_named
from analysis.budgets import BudgetCurve
from analysis.claims import Finding, Verdict
from analysis.comparisons import Comparison
from analysis.dominance import Dominance, ProfileDifference, dominance, profile_difference
from analysis.intervals import Estimate
from analysis.outcomes import Sample, sample
from analysis.pairing import pair
from analysis.profiles import Profile
from analysis.ranges import BoxDifference
from analysis.regions import Region, safe_region
from analysis.results import Results
from analysis.sensitivity import Basin, along, basin
from analysis.variance import Components, Decomposition
from study.errors import UserError, unknown

SEED = 20_240_517
"""Seed of what is drawn at random where no generator is given: the one of the report's bands."""

ENDS = ("value", "low", "high", "interval", "points")
"""Columns of an estimate."""

Item = TypeVar("Item")
Draws = np.random.Generator | None


def overview(results: Results, tasks: Sequence[str]) -> Answer[dict[str, object]]:
    """How many trials each method had, how they ended, and the numbers that sum it up."""
    table = summary.summary(results)
    rows = table[table["task"].isin(tasks)].reset_index(drop=True)
    rows["order"] = [results.methods.index(str(method)) for method in rows["method"]]
    items = tuple({str(name): value for name, value in row.items()} for row in rows.to_dict("records"))
    look = Look("dots", "success", "success_low", "success_high", ("task", "method"), "success fraction")
    return Answer("How much of the prior each method survives", setting(results, tasks), items, rows, look)


def profile(results: Results, task: str, methods: Sequence[str], *, band: str, rng: Draws) -> Answer[Profile]:
    """Robustness profiles; tau = +inf is the plateau, the fraction that did not fail."""
    facts, names = results.facts(task), chosen(results, task, methods)
    items = tuple(_profile(results, drawn, band, _fresh(rng)) for drawn in _samples(results, task, names))
    tables = [
        pd.DataFrame(
            {
                "tau": np.append(item.thresholds, np.inf),
                "fraction": np.append(item.fraction, item.plateau),
                "low": np.append(item.low, np.maximum(0.0, item.plateau - item.half_width)),
                "high": np.append(item.high, np.minimum(1.0, item.plateau + item.half_width)),
                "interval": item.band,
                "points": item.n,
            }
        )
        for item in items
    ]
    of = "trials" if results.adaptive else "prior"
    look = Look(
        *("steps", "fraction", "low", "high", ("method",), f"fraction of the {of} at or below"),
        along="tau",
        along_label=f"{facts.metric} (lower is better)",
        log=True,
    )
    table = _tall(results, task, names, tables)
    question = "Robustness profiles" + ("" if results.adaptive else " with simultaneous bands")
    return _answer(question, results, task, items, table, look)


def _profile(results: Results, drawn: Sample, band: str, rng: np.random.Generator) -> Profile:
    """A profile; of configurations that a search chose without its band."""
    found = profiles.profile(drawn, rng=rng, band=band)
    if not results.adaptive:
        return found
    none = np.full(len(found.thresholds), np.nan)
    name = f"no band: configurations chosen by {results.adaptive}"
    return replace(found, low=none, high=none, half_width=float("nan"), band=name)


def success(results: Results, task: str, methods: Sequence[str]) -> Answer[Estimate]:
    """Success fractions at the task's threshold."""
    facts = results.facts(task)
    label = f"success fraction: {facts.metric} <= {facts.threshold:.4g}"
    return _estimates(results, task, methods, label, lambda drawn: profiles.success(drawn, facts.threshold))


def log_auc(results: Results, task: str, methods: Sequence[str]) -> Answer[Estimate]:
    """Areas under the profiles over the logarithm of the metric, between the task's anchors."""
    facts = results.facts(task)
    low, high = facts.anchor_low, facts.anchor_high
    label = f"log-AUC between {facts.metric} {low:.4g} (scores 1) and {high:.4g} (scores 0)"
    return _estimates(results, task, methods, label, lambda drawn: profiles.log_auc(drawn, low=low, high=high))


def budget(results: Results, task: str, methods: Sequence[str], *, rng: Draws) -> Answer[BudgetCurve]:
    """What the best of so many configurations gets."""
    of_a_prior(results, "budget curve")
    facts, names = results.facts(task), chosen(results, task, methods)
    items = tuple(budgets.budget_curve(drawn, facts, _fresh(rng)) for drawn in _samples(results, task, names))
    columns = ("score", "low", "high", "metric", "success", "median", "median_low", "median_high")
    tables = [
        pd.DataFrame({"size": item.sizes} | {name: getattr(item, name) for name in columns}).assign(
            interval=item.method, points=item.n
        )
        for item in items
    ]
    look = Look(
        *("lines", "score", "low", "high", ("method",), "expected score of the best"),
        along="size",
        along_label="configurations tried",
        log=True,
    )
    question = "What the best of so many configurations, drawn from the prior, gets"
    return _answer(question, results, task, items, _tall(results, task, names, tables), look)


def compare(results: Results, task: str, methods: Sequence[str]) -> Answer[Comparison]:
    """Paired differences: of two methods, or of all pairs where none is named."""
    if methods and (len(methods) != 2 or len(set(methods)) != 2):
        raise UserError(f"compare takes two methods, or none for all pairs, got {', '.join(methods)}")
    names = chosen(results, task, methods) if methods else ()
    try:
        found = comparisons.compare_task(results, task)
        if names:  # of many methods not every pair is in the table
            found = tuple(item for item in found if {item.first, item.second} == set(names)) or (
                comparisons.compare_pair(results, task, names[0], names[1]),
            )
    except ValueError as error:
        raise UserError(f"{task}: {error}") from None
    label = "paired difference of log-AUC; right of 0 the first survives more"
    ends = [f"log_auc_difference{end}" for end in ("", "_low", "_high")]
    look = Look("dots", ends[0], ends[1], ends[2], ("first", "second"), label, mark=0.0)
    table = comparisons.table(found)
    return _answer("Paired differences of methods, first minus second", results, task, found, table, look)


def difference(
    results: Results, task: str, first: str, second: str, *, rng: Draws
) -> Answer[ProfileDifference | Dominance]:
    """The difference of two profiles at every threshold, and whether one method is ahead at all of them."""
    of_a_prior(results, "difference of profiles")
    facts = results.facts(task)
    names = chosen(results, task, (first, second))
    curve = profile_difference(pair(results.outcomes(task), *names), rng=_fresh(rng))
    shown = dominance(curve, low=facts.anchor_low, high=facts.anchor_high)
    leader = f" ({names[shown.leader]})" if shown.leader is not None else ""
    table = pd.DataFrame(
        {"tau": curve.thresholds, "difference": curve.value, "low": curve.low, "high": curve.high}
    ).assign(task=task, first=first, second=second, interval=curve.band, points=curve.n)
    look = Look(
        *("steps", "difference", "low", "high", ("first", "second"), f"profile of {first} minus that of {second}"),
        along="tau",
        along_label=f"{facts.metric} (lower is better)",
        log=True,
        mark=0.0,
    )
    question = f"Difference of two profiles with a simultaneous band: {shown.kind}{leader}"
    return _answer(question, results, task, (curve, shown), table, look)


def sensitivity(results: Results, task: str, word: str, methods: Sequence[str]) -> Answer[Basin]:
    """Success along one hyperparameter, for the methods that vary it."""
    axes = {name: axes_of(results, task, name) for name in chosen(results, task, methods)}
    found = {name: axis for name, those in axes.items() for axis in [axis_named(those, word)] if axis}
    if not found:
        raise unknown("varied hyperparameter", word, {axis.word for those in axes.values() for axis in those})
    outcomes, threshold = results.outcomes(task), results.facts(task).threshold
    tables = [along(outcomes[outcomes["method"] == name], axis, threshold) for name, axis in found.items()]
    items = () if results.adaptive else tuple(map(basin, tables, found.values()))
    first = next(iter(found.values()))
    ends = ("success", "success_low", "success_high")
    look = (
        Look("dots", *ends, ("method", "label"), f"success fraction at each {first.word}")
        if first.levels
        else Look("lines", *ends, ("method",), "success fraction", "centre", first.word, first.log)
    )
    table = without(_tall(results, task, tuple(found), tables).assign(axis=first.word), ends[1:], results)
    return _answer(f"Success along {first.word}", results, task, items, table, look)


def importance(results: Results, task: str, methods: Sequence[str], *, value: str, rng: Draws) -> Answer[object]:
    """Which hyperparameters set the best configurations apart, with the share that chance reaches."""
    from analysis.importance import VALUES, shares  # optuna takes half a second, which nothing else here needs

    if value not in VALUES:
        raise unknown("value", value, VALUES)
    names = chosen(results, task, methods)
    tables = [
        shares(results, task, name, rng=_fresh(rng), value=value).drop(columns=["task", "method"]) for name in names
    ]
    label = "share of the importance (PED-ANOVA)"
    look = Look("dots", "share", "low", "high", ("method", "axis"), label, chance="null")
    table = without(_tall(results, task, names, tables), ("low", "high"), results)
    return _answer("Which hyperparameters decide", results, task, (), table, look)


def parts(results: Results, task: str, first: str, second: str) -> Answer[BoxDifference]:
    """The paired difference of the log-AUC in parts of the prior: whether its sign depends on the range."""
    of_a_prior(results, "part of the prior")
    items = ranges.signs(results, task, *chosen(results, task, (first, second)))
    said = [{"part": item.box, "few": item.few, "reason": item.reason} for item in items]
    rows = [_estimate_row(item.difference) | words for item, words in zip(items, said, strict=True)]
    table = pd.DataFrame(rows, columns=["part", *ENDS, "few", "reason"]).assign(task=task, first=first, second=second)
    label = f"paired difference of log-AUC; right of 0 {first} survives more"
    look = Look("dots", "value", "low", "high", ("part",), label, mark=0.0)
    question = f"{first} against {second} in parts of the prior, unadjusted"
    return _answer(question, results, task, items, table, look)


def learning(results: Results, task: str, methods: Sequence[str]) -> Answer[object]:
    """The success fraction as it was at earlier budgets, from the history."""
    from analysis.trajectories import success_by_budget

    names = chosen(results, task, methods)
    found = success_by_budget(results, task)
    tables = [found[found["method"] == name].drop(columns=["task", "method"]) for name in names]
    unit = str(found["unit"].iloc[0]) if len(found) else "steps"
    look = Look("lines", "value", "low", "high", ("method",), "success fraction", "steps", unit.replace("_", " "))
    table = _tall(results, task, names, tables)
    return _answer("Success as it was at earlier budgets", results, task, (), table, look)


def spread(results: Results, task: str, methods: Sequence[str], *, rng: Draws) -> Answer[Decomposition]:
    """The variance of the score, split into that of configurations and of seeds."""
    names = chosen(results, task, methods)
    items = tuple(_split(results, task, name, _fresh(rng)) for name in names)
    tables = []
    for item in items:
        split = vars(item.components) if item.components else {}
        rows = [_estimate_row(estimate) | {"component": name, "note": item.note} for name, estimate in split.items()]
        tables.append(pd.DataFrame(rows, columns=["component", *ENDS, "note"]))
    look = Look("dots", "value", "low", "high", ("method", "component"), "variance of the score; icc: their share")
    table = _tall(results, task, names, tables)
    return _answer("What spreads the scores: configurations or seeds", results, task, items, table, look)


def _split(results: Results, task: str, method: str, rng: np.random.Generator) -> Decomposition:
    """A decomposition; of configurations that a search chose without intervals."""
    found = variance.decompose(results, task, method, rng=rng)
    if not results.adaptive:
        return found
    parts = found.components and Components(
        **{name: summary.stated(item, results.adaptive) for name, item in vars(found.components).items()}
    )
    noise = found.evaluation and summary.stated(found.evaluation, results.adaptive)
    return replace(found, components=parts, evaluation=noise)


def region(results: Results, task: str, methods: Sequence[str], *, rng: Draws) -> Answer[Region]:
    """The safe region of each method: where in the prior it succeeds nine times in ten."""
    names = chosen(results, task, methods)
    items = tuple(safe_region(results, task, name, rng=_fresh(rng)) for name in names)
    tables = [
        pd.DataFrame(
            [
                {
                    "region": " and ".join(side.words for side in item.sides if not side.whole),
                    "fraction": item.fraction,
                    "success": item.success,
                    "held_out": item.held_out.value,
                    "low": item.held_out.low,
                    "high": item.held_out.high,
                    "points": item.points,
                    "words": item.words,
                }
            ]
        )
        for item in items
    ]
    look = Look(
        "dots", "held_out", "low", "high", ("method",), "success in the box of half of the points, judged by the others"
    )
    table = _tall(results, task, names, tables)
    return _answer("The largest box of the prior that is safe", results, task, items, table, look)


def verdicts(results: Results) -> tuple[Verdict, ...]:
    """The verdict on every claim that the sweep stated; of an adaptive sweep without intervals and p-values."""
    found = claims.evaluate_claims(results)
    return found if results.adaptive is None else tuple(_described(item, results.adaptive) for item in found)


def _described(verdict: Verdict, adaptive: str) -> Verdict:
    bare = tuple(
        replace(item, estimate=summary.stated(item.estimate, adaptive), p_value=float("nan"))
        for item in verdict.findings
    )
    deciding = None if verdict.deciding is None else bare[verdict.findings.index(verdict.deciding)]
    return replace(verdict, findings=bare, deciding=deciding, p_value=None, p_adjusted=None)


def claimed(results: Results) -> Answer[Verdict]:
    """The verdict on every claim that the sweep stated: a row for each number that it was checked by, on each task."""
    items = verdicts(results)
    rows = [_claim_row(item, found) for item in items for found in item.findings or (None,)]
    columns = ["claim", "statement", "stated", "verdict", "p_adjusted", "decides", "task", "number", *ENDS, "reason"]
    look = Look("dots", "value", "low", "high", ("claim", "verdict", "number"), "what was stated about", mark=0.0)
    question = "What the sweep says of the claims that it stated"
    return Answer(question, setting(results, results.tasks), items, pd.DataFrame(rows, columns=columns), look)


def _claim_row(item: Verdict, found: Finding | None) -> dict[str, object]:
    """A number that a claim was checked by, and whether it decided; None of a claim that was withdrawn."""
    return {
        "claim": item.id,
        "statement": item.statement,
        "stated": item.standing,
        "verdict": item.verdict,
        "p_adjusted": item.p_adjusted,
        "decides": found is not None and found is item.deciding,
        "task": found.task if found else None,
        "number": found.number if found else None,
        **_estimate_row(found.estimate if found else intervals.NOTHING),
        "reason": item.reason,
    }


def _answer(
    question: str, results: Results, task: str, items: Iterable[Item], table: pd.DataFrame, look: Look
) -> Answer[Item]:
    return Answer(question, setting(results, [task]), tuple(items), table, look)


def _estimates(
    results: Results, task: str, methods: Sequence[str], label: str, work: Callable[[Sample], Estimate]
) -> Answer[Estimate]:
    """One estimate per method."""
    names = chosen(results, task, methods)
    items = tuple(summary.stated(work(drawn), results.adaptive) for drawn in _samples(results, task, names))
    table = _tall(results, task, names, [pd.DataFrame([_estimate_row(item)]) for item in items])
    look = Look("dots", "value", "low", "high", ("method",), label)
    return _answer(label[0].upper() + label[1:], results, task, items, table, look)


def _samples(results: Results, task: str, methods: Sequence[str]) -> list[Sample]:
    outcomes = results.outcomes(task)
    return [sample(outcomes[outcomes["method"] == method]) for method in methods]


def _estimate_row(estimate: Estimate) -> dict[str, object]:
    values = (estimate.value, estimate.low, estimate.high, estimate.method, estimate.n)
    return dict(zip(ENDS, values, strict=True))


def _tall(results: Results, task: str, methods: Sequence[str], tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The methods' tables below each other; `order` is a method's place in the plan, which decides its colour."""
    keyed = [
        table.assign(task=task, method=method, order=results.methods.index(method))
        for method, table in zip(methods, tables, strict=True)
    ]
    full = [table for table in keyed if len(table)] or keyed[:1]
    whole = pd.concat(full, ignore_index=True)
    return whole[["task", "method", "order", *(name for name in tables[0].columns)]]


def _fresh(rng: Draws) -> np.random.Generator:
    """The given generator, or a new one: then each method's numbers do not depend on which others are asked for."""
    return np.random.default_rng(SEED) if rng is None else rng

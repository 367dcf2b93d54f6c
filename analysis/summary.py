"""One row per task and method: what was planned, how it ended, and the numbers that sum it up."""

from __future__ import annotations

import math

import pandas as pd

from analysis import profiles
from analysis.intervals import Estimate, wilson_mean
from analysis.outcomes import FAILURES, Sample, point_means, sample
from analysis.results import Results, TaskFacts
from study.schema import Status

ESTIMATES = ("success", "log_auc", "failure_rate", "median")
COLUMNS = (
    *("task", "method", "planned", *(status.value for status in Status), "missing", "points"),
    *(f"{name}{end}" for name in ESTIMATES for end in ("", "_low", "_high", "_method")),
    *("success_worst", "success_best"),
)
"""Columns of `summary`: counts, and estimates with their intervals, of which `median` is in the metric's unit.

`success_worst` and `success_best` bound success over all endings of the undecided trials.
"""


def summary(results: Results) -> pd.DataFrame:
    """One row per task and method, in plan order, columns `COLUMNS`; numbers are NaN where nothing is decided yet.

    Where a sampler that looked at results chose the configurations, shares describe its trials and have no interval.
    """
    rows = [
        row(outcomes[outcomes["method"] == method], results.facts(task), adaptive=results.adaptive)
        for task in results.tasks
        for outcomes in [results.outcomes(task)]
        for method in results.methods_of(task)
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def row(outcomes: pd.DataFrame, facts: TaskFacts, *, adaptive: str | None = None) -> dict[str, object]:
    """The summary of one method on one task.

    Args:
        outcomes: Its rows of `Results.outcomes`.
        facts: The task's threshold and anchors.
        adaptive: `Results.adaptive`.
    """
    trials = sample(outcomes)
    counts = outcomes["status"].value_counts()
    found: dict[str, object] = {
        "task": outcomes["task"].iloc[0],
        "method": outcomes["method"].iloc[0],
        "planned": len(outcomes),
        "missing": int(outcomes["status"].isna().sum()),
        "points": len(trials.decided().clusters()[1]),
    }
    found |= {status.value: int(counts.get(status.value, 0)) for status in Status}
    estimates = (
        profiles.success(trials, facts.threshold),
        profiles.log_auc(trials, low=facts.anchor_low, high=facts.anchor_high),
        failure_rate(outcomes, FAILURES),
        profiles.quantile_interval(trials, 0.5),
    )
    for name, given in zip(ESTIMATES, estimates, strict=True):
        estimate = stated(given, adaptive)
        found |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
        found[f"{name}_method"] = estimate.method
    found["success_worst"], found["success_best"] = profiles.success_bounds(trials, facts.threshold)
    return found


def stated(estimate: Estimate, adaptive: str | None) -> Estimate:
    """An estimate as it may be stated: without an interval where configurations were chosen by their results."""
    if adaptive is None or estimate.n == 0:
        return estimate
    method = f"no interval: configurations chosen by {adaptive}"
    return Estimate(estimate.value, math.nan, math.nan, estimate.n, method)


def failure_rate(outcomes: pd.DataFrame, causes: tuple[str, ...]) -> Estimate:
    """The share of decided trials that ended by one of some causes, with Wilson's interval.

    Args:
        outcomes: Rows of `Results.outcomes` of one method.
        causes: Values of `Status`.
    """
    trials = sample(outcomes)
    failed = outcomes["status"].isin(causes).to_numpy()[trials.known()]
    known: Sample = trials.decided()
    return wilson_mean(point_means(failed, known))

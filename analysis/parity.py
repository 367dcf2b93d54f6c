"""Two methods at equal discriminator steps, beside equal generator steps: neither budget is the only fair one.

With several discriminator steps for each generator step, a whole budget of generator steps is a different amount of
work for different n_critic. Where the evaluations allow, both views stand side by side.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from analysis.comparisons import Comparison, compare, unclaimed
from analysis.horizon import common_discriminator_steps, outcomes_at
from analysis.results import Results

UNIT = "discriminator_steps"


@dataclass(frozen=True)
class EqualSteps:
    """How two methods stood when all their trials had made equally many discriminator steps.

    Attributes:
        steps: Discriminator steps; None where there is no such view.
        comparison: The methods there, unadjusted and without a verdict; None where there is no such view.
        words: What the view is, or why there is none.
    """

    steps: int | None
    comparison: Comparison | None
    words: str


def equal_discriminator_steps(results: Results, task: str, first: str, second: str) -> EqualSteps:
    """Two methods at the most discriminator steps that every trial of theirs was planned to make.

    Args:
        results: The results, with their history.
        task: Name of a task.
        first: Name of a method.
        second: Name of another.

    Raises:
        ValueError: A method is not planned on the task, or the methods share no configuration.
    """
    plan = results.plan[(results.plan["task"] == task) & results.plan["method"].isin([first, second])]
    trials = results.trials[results.trials["trial_id"].isin(plan["trial_id"])]
    own = replace(results, plan=plan, trials=trials, confirmatory=())
    steps = common_discriminator_steps(own, task)
    if steps is None:
        return _none("all trials make the same number of discriminator steps: both budgets are the same view")
    if own.history("trial_id").empty:
        return _none(f"no history was kept: how trials stood after {steps} discriminator steps is not known")
    then, now = outcomes_at(own, task, steps, unit=UNIT), own.outcomes(task)
    unknown = int((then["status"].isna().to_numpy() & now["status"].notna().to_numpy()).sum())
    if unknown:
        return _none(
            f"after {steps} discriminator steps, the most that all trials make, {unknown} of {len(now)} trials had "
            "fewer than five evaluations"
        )
    found = compare(then, first, second, facts=own.facts(task))
    found = found if results.adaptive is None else unclaimed(found)
    return EqualSteps(steps, found, f"after {steps} discriminator steps each")


def _none(reason: str) -> EqualSteps:
    return EqualSteps(None, None, reason)

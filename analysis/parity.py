"""Two methods at equal discriminator steps, beside equal generator steps: neither budget is the only fair one.

With several discriminator steps for each generator step, a whole budget of generator steps is a different amount of
work for different n_critic, and a whole budget of discriminator steps a different number of moves of the generator.
Where the evaluations allow, both views stand side by side; all trials are measured at the same steps, see `horizon`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from analysis import words
from analysis.comparisons import Comparison, compare, unclaimed
from analysis.horizon import STEPS, common_steps, outcomes_at, too_coarse, unmeasured
from analysis.results import Results

GENERATOR, DISCRIMINATOR = STEPS


@dataclass(frozen=True)
class EqualSteps:
    """How two methods stood when all their trials had made equally many steps of one player.

    Attributes:
        steps: Steps; None where there is no such view.
        comparison: The methods there, unadjusted and without a verdict; None where there is no such view.
        words: What the view is, or why there is none.
    """

    steps: int | None
    comparison: Comparison | None
    words: str


def equal_discriminator_steps(results: Results, task: str, first: str, second: str) -> EqualSteps:
    """Two methods at the most discriminator steps that every trial of theirs was planned to make.

    Where those are what the budget counts, there is no second view of them; the words say how the methods stood at
    equal generator steps.

    Args:
        results: The results, with their history.
        task: Name of a task.
        first: Name of a method.
        second: Name of another.

    Raises:
        ValueError: A method is not planned on the task, or the methods share no configuration.
    """
    own = _own(results, task, first, second)
    if not own.plan["budget_unit"].eq(DISCRIMINATOR).all():
        return _equal(own, task, first, second, DISCRIMINATOR)
    other = _equal(own, task, first, second, GENERATOR)
    return _none(f"the budget counts discriminator steps, so this is that view; at equal generator steps{_told(other)}")


def equal_generator_steps(results: Results, task: str, first: str, second: str) -> EqualSteps:
    """The same at the most generator steps that every trial of theirs was planned to make.

    Raises:
        ValueError: A method is not planned on the task, or the methods share no configuration.
    """
    own = _own(results, task, first, second)
    if own.plan["budget_unit"].eq(GENERATOR).all():
        return _none("the budget counts generator steps, so this is that view")
    return _equal(own, task, first, second, GENERATOR)


def _own(results: Results, task: str, first: str, second: str) -> Results:
    plan = results.plan[(results.plan["task"] == task) & results.plan["method"].isin([first, second])]
    trials = results.trials[results.trials["trial_id"].isin(plan["trial_id"])]
    return replace(results, plan=plan, trials=trials, confirmatory=())


def _equal(own: Results, task: str, first: str, second: str, unit: str) -> EqualSteps:
    player, steps = unit.replace("_", " "), common_steps(own, task, unit)
    if steps is None:
        return _none(f"all trials make the same number of {player}: both budgets are the same view")
    if own.history("trial_id").empty:
        return _none(f"no history was kept: how trials stood after {steps} {player} is not known")
    then = outcomes_at(own, task, steps, unit=unit)
    unknown = int(unmeasured(own, task, then).sum())
    if unknown:
        return _none(too_coarse(unknown, len(then), steps, unit))
    found = compare(then, first, second, facts=own.facts(task))
    found = found if own.adaptive is None else unclaimed(found)
    return EqualSteps(steps, found, f"after {steps} {player} each")


def _told(view: EqualSteps) -> str:
    if view.comparison is None:
        return f": {view.words}"
    found = view.comparison
    scores = [
        f"{name} {words.share(a)} vs {words.share(b)}"
        for name, (a, b) in (("log-AUC", found.log_auc), ("success", found.success))
    ]
    return f", {view.words}: {', '.join(scores)}; difference of log-AUC {words.difference(found.log_auc_difference)}"


def _none(reason: str) -> EqualSteps:
    return EqualSteps(None, None, reason)

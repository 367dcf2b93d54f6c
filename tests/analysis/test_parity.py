import dataclasses

import numpy as np
import pandas as pd
import pytest

from analysis import words
from analysis.comparisons import compare
from analysis.parity import equal_discriminator_steps, equal_generator_steps

TASK = "manifold-d2"


def with_history(results, *, evaluations=25, value=lambda steps, place: 100.0 / steps * (1 + place)):
    """Every trial is evaluated evenly over 1000 generator steps; its metric is a function of discriminator steps."""
    place = {method: i for i, method in enumerate(results.methods)}
    rows = []
    for trial in results.plan.itertuples():
        for evaluation in range(evaluations):
            steps = 1000 * (evaluation + 1) // evaluations
            d_steps = int(steps * trial.n_critic)
            row = {"trial_id": trial.trial_id, "evaluation": evaluation, "generator_steps": steps}
            rows.append(row | {"discriminator_steps": d_steps, "primary": value(d_steps, place[trial.method])})
    history = pd.DataFrame(rows)

    def read(columns):
        return history if columns is None else history[list(columns)]

    n_critic = results.plan.set_index("trial_id")["n_critic"]
    done = results.trials["trial_id"].map(n_critic).astype(float) * 1000
    primary = results.trials["trial_id"].map(
        history.groupby("trial_id").tail(5).groupby("trial_id")["primary"].median()
    )
    trials = results.trials.assign(status="completed", primary=primary, generator_steps=1000, discriminator_steps=done)
    return dataclasses.replace(results, trials=trials, read_history=read)


def test_trials_are_compared_where_all_made_equally_many_steps(build):
    """n_critic 1 makes 1000 discriminator steps, 5 makes 5000: there all are measured at 840, 880 .. 1000 steps.

    At n_critic 1 those are evaluations, median 920: 1/9.2 and 2/9.2. At n_critic 5 920 is .6 of the way from 800 to
    1000, in the logarithm of the metric: 100 / (800**.4 1000**.6) for the first method and twice that for the second.
    """
    results = with_history(build(critics=(1, 5), points=4))
    view = equal_discriminator_steps(results, TASK, "ns+gp1", "wgan+gp1")
    assert view.steps == 1000
    assert view.words == "after 1000 discriminator steps each"
    threshold = 0.2  # .109 and 1/9.2 are below it, twice that is above
    coarse = 100 / (800**0.4 * 1000**0.6)
    assert (results.facts(TASK).threshold, view.comparison.success) == (threshold, (1.0, 0.0))
    scores = [np.log(2.0 / y) / np.log(100) for y in (coarse, 1 / 9.2, 2 * coarse, 2 / 9.2)]
    assert view.comparison.log_auc == pytest.approx((np.mean(scores[:2]), np.mean(scores[2:])))
    whole = compare(results.outcomes(TASK), "ns+gp1", "wgan+gp1", facts=results.facts(TASK))
    scores[2] = np.log(2.0 / (2 / 46)) / np.log(100)  # after the whole budget, n_critic 5 has its median at 4600
    assert whole.log_auc[1] == pytest.approx(np.mean(scores[2:]))


def arms_of_critics(build):
    """Method ns with n_critic 5 throughout, the others with 1."""
    results = build()
    critic = results.plan["method"].map({"ns": 5.0}).fillna(1.0)
    return dataclasses.replace(results, plan=results.plan.assign(n_critic=critic))


@pytest.mark.parametrize(
    ("value", "widest"),
    [
        # linear in logarithms: nothing is lost
        (lambda steps, _: np.exp(-steps / 400), 1e-12),
        # log(1/x) from 800 to 1000: at most 200**2 / 8 times its second derivative, 1 / 800**2; log(100) scores 1
        (lambda steps, _: 100 / steps, 200**2 / 8 / 800**2 / np.log(100)),
    ],
)
def test_a_metric_that_is_one_function_of_discriminator_steps_is_the_same_for_all(build, value, widest):
    results = with_history(arms_of_critics(build), value=value)
    found = equal_discriminator_steps(results, TASK, "ns+gp1", "ns").comparison
    assert found.success == (1.0, 1.0)
    assert abs(found.log_auc_difference.value) <= widest


def test_a_budget_of_discriminator_steps_is_that_view_and_offers_the_other(build):
    """n_critic 5 makes 200 generator steps of 1000 discriminator steps, n_critic 1 makes 1000."""
    results = with_history(arms_of_critics(build))
    plan = results.plan.assign(budget_unit="discriminator_steps")
    history = results.history().merge(plan[["trial_id", "n_critic"]])
    history = history.assign(discriminator_steps=history["generator_steps"])
    history = history.assign(generator_steps=history["generator_steps"] / history["n_critic"])
    critic = results.trials["trial_id"].map(plan.set_index("trial_id")["n_critic"])
    trials = results.trials.assign(generator_steps=1000 / critic, discriminator_steps=1000.0)
    results = dataclasses.replace(results, plan=plan, trials=trials, read_history=lambda names: history[list(names)])
    view = equal_discriminator_steps(results, TASK, "ns+gp1", "ns")
    assert (view.steps, view.comparison) == (None, None)
    other = equal_generator_steps(results, TASK, "ns+gp1", "ns")
    assert (other.steps, other.words) == (200, "after 200 generator steps each")
    assert view.words.startswith(
        "the budget counts discriminator steps, so this is that view; at equal generator steps, after 200 generator "
        f"steps each: log-AUC {words.share(other.comparison.log_auc[0])} vs "
    )
    none = equal_discriminator_steps(results, TASK, "ns+gp1", "wgan+gp1").words
    assert none.endswith("all trials make the same number of generator steps: both budgets are the same view")
    generator = equal_generator_steps(with_history(build(critics=(1, 5))), TASK, "ns+gp1", "ns")
    assert generator.words == "the budget counts generator steps, so this is that view"


def test_equal_n_critic_needs_no_second_view(build):
    view = equal_discriminator_steps(with_history(build()), TASK, "ns+gp1", "ns")
    assert (view.steps, view.comparison) == (None, None)
    assert view.words == "all trials make the same number of discriminator steps: both budgets are the same view"


def test_a_third_method_does_not_matter(build):
    """Only it has n_critic 5."""
    results = with_history(arms_of_critics(build))
    assert equal_discriminator_steps(results, TASK, "ns+gp1", "wgan+gp1").steps is None
    assert equal_discriminator_steps(results, TASK, "ns+gp1", "ns").steps == 1000


def test_without_history_there_is_no_second_view(build):
    view = equal_discriminator_steps(build(critics=(1, 5)), TASK, "ns+gp1", "ns")
    assert view.comparison is None
    assert view.words == "no history was kept: how trials stood after 1000 discriminator steps is not known"


def test_too_few_evaluations_are_no_second_view(build):
    """Of ten evaluations, n_critic 5 has two by 1000 discriminator steps."""
    results = with_history(build(critics=(1, 5)), evaluations=10)
    view = equal_discriminator_steps(results, TASK, "ns+gp1", "ns")
    assert view.comparison is None
    assert view.words == (
        "64 of 128 trials were evaluated too seldom, at distances above 25% of the budget or not at all, to say how "
        "they stood after 1000 discriminator steps"
    )


def test_an_adaptive_sweep_has_no_p_there_either(build):
    results = with_history(build(critics=(1, 5)))
    results = dataclasses.replace(results, plan=results.plan.assign(sampler="tpe"))
    found = equal_discriminator_steps(results, TASK, "ns+gp1", "ns").comparison
    assert found.log_auc_difference.p_value is None
    assert found.verdict == "adaptive: no claim"

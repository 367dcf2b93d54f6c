"""A sweep as it stood at earlier budgets, against hand-made histories and a slow loop."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis import horizon
from analysis.outcomes import code
from analysis.results import Results
from study.records import tail_median

TASK = "manifold-d2"


@pytest.fixture
def four(ended, with_history):
    """Four trials of ten evaluations: two that completed, one that diverged after step 630, one without a row."""
    results = ended({"ns": [0.1, 3.0, np.inf, None]}, replicates=4, points=1)
    ids = list(results.plan["trial_id"])
    done = results.trials.assign(
        generator_steps=[1000, 1000, 629], discriminator_steps=[1000, 1000, 629], updates=[2000, 2000, 1258]
    )
    histories = {
        ids[0]: [9, 8, 7, 6, 5, 4, 3, 2, 1, 0.1],
        ids[1]: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10],
        ids[2]: [5, 5, 5, 5, 5, 7],
        ids[3]: [1, 1, 1],  # written, but its pack was never committed
    }
    return with_history(results, histories, trials=done)


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        # at step 500 each has five evaluations, and the median is of all five
        (500, [7, 3, 5, math.nan]),
        # six by 629, the last five of them: 8 7 6 5 4, 2 3 4 5 6, 5 5 5 5 7; the third is sound up to 629
        (629, [6, 4, 5, math.nan]),
        (630, [6, 4, math.inf, math.nan]),
        (999, [3, 7, math.inf, math.nan]),  # nine: 5 4 3 2 1 and 5 6 7 8 9
        (1000, [0.1, 3.0, math.inf, math.nan]),  # the end: as the table says
        (400, [math.nan, math.nan, math.nan, math.nan]),  # four evaluations are too few
    ],
)
def test_outcomes_by_hand(four, steps, expected):
    found = horizon.outcomes_at(four, TASK, steps)
    assert code(found["status"], found["primary"]).tolist() == pytest.approx(expected, nan_ok=True)


def test_at_the_end_everything_is_as_it_was(four):
    pd.testing.assert_frame_equal(horizon.outcomes_at(four, TASK, 1000), four.outcomes(TASK))


def test_a_stopped_trial_was_sound_before_it_was_stopped(ended, with_history):
    results = ended({"ns": ["stopped"]}, replicates=1, points=1)
    done = results.trials.assign(generator_steps=700, discriminator_steps=700, updates=1400)
    results = with_history(results, {results.plan["trial_id"][0]: [3, 3, 3, 2, 2, 1, 1]}, trials=done)
    before, after = (horizon.outcomes_at(results, TASK, steps) for steps in (600, 800))
    assert before[["status", "primary"]].to_numpy().tolist() == [["completed", 2]]
    assert after["status"].tolist() == ["stopped"]
    assert after["primary"].isna().all()


def test_a_failure_whose_row_does_not_say_when_came_after_its_last_evaluation(ended, with_history):
    results = ended({"ns": [np.inf, np.inf]}, replicates=2, points=1)
    results = with_history(results, {results.plan["trial_id"][0]: [1] * 6})
    assert horizon.outcomes_at(results, TASK, 600)["status"].tolist() == ["completed", "diverged"]
    assert horizon.outcomes_at(results, TASK, 601)["status"].tolist() == ["diverged", "diverged"]


def test_units_count_different_steps(four):
    critics = horizon.curves(four, TASK, unit="updates")
    assert critics.steps[0].tolist() == [200 * (i + 1) for i in range(10)]
    assert critics.done.tolist() == [2000, 2000, 1258, 600]
    same = horizon.outcomes_at(four, TASK, 1258, unit="updates"), horizon.outcomes_at(four, TASK, 629)
    pd.testing.assert_frame_equal(*same)


@pytest.mark.parametrize(("steps", "unit"), [(0, "generator_steps"), (10, "epochs")])
def test_a_budget_that_is_none_is_refused(four, steps, unit):
    with pytest.raises(ValueError, match="a budget is at least 1 of generator_steps or discriminator_steps or updates"):
        horizon.outcomes_at(four, TASK, steps, unit=unit)


def test_an_unknown_column_is_refused(four):
    for name in ("w3", "lr_g"):
        with pytest.raises(ValueError, match=f"no column '{name}'"):
            horizon.curves(four, TASK, name)
    with pytest.raises(ValueError, match="is counted in"):
        horizon.curves(four, TASK, unit="epochs")


# Curves


def test_curves_are_the_history_in_order(four):
    found = horizon.curves(four, TASK)
    assert found.counts.tolist() == [10, 10, 6, 3]
    assert found.values[0].tolist() == [9, 8, 7, 6, 5, 4, 3, 2, 1, 0.1]
    assert found.steps[2, :6].tolist() == [100, 200, 300, 400, 500, 600]
    assert np.isnan(found.values[2, 6:]).all()
    assert np.isnan(found.steps[2, 6:]).all()
    assert found.done.tolist() == [1000, 1000, 629, 300]


def test_curves_are_made_once(four):
    assert horizon.curves(four, TASK) is horizon.curves(four, TASK)
    assert horizon.curves(four, TASK, unit="updates") is not horizon.curves(four, TASK)


def test_further_columns_stand_beside(four):
    trials = four.trials.assign(other=1.0)
    results = Results(four.name, four.plan, trials, (), None, read_history=four.read_history)
    found = horizon.curves(results, TASK, "other")
    np.testing.assert_array_equal(found.others["other"], -found.values)


def test_a_task_sees_its_own_trials_alone(build, with_history):
    results = build(tasks=("a", "b"), methods=("ns",), confirmatory=(), replicates=2, points=1)
    histories = {trial_id: [float(i)] * 5 for i, trial_id in enumerate(results.plan["trial_id"])}
    found = horizon.curves(with_history(results, histories), "b")
    assert found.values[:, 0].tolist() == [2.0, 3.0]
    assert list(found.rows["task"]) == ["b", "b"]


def test_without_a_history_nothing_is_known_before_the_end(build):
    results = build()
    found = horizon.curves(results, TASK)
    assert found.values.shape == (len(results.plan), 0)
    assert not found.counts.any()
    assert horizon.budgets_of(found).size == 0
    assert np.isnan(horizon.tail_at(found, 10)).all()


@pytest.mark.parametrize(
    ("unit", "expected"), [("discriminator_steps", "discriminator_steps"), ("seconds", "generator_steps")]
)
def test_the_unit_is_the_plans(build, unit, expected):
    results = build()
    plan = results.plan.assign(budget_unit=unit)
    assert horizon.unit_of(Results("x", plan, results.trials, (), None), TASK) == expected


# Tails


@pytest.mark.parametrize(("count", "length"), [(1, 1), (4, 4), (5, 5), (24, 5), (25, 5), (26, 6), (30, 6), (101, 21)])
def test_the_tail_is_a_fifth_and_five_at_least(count, length):
    # ceil(26 / 5) = 6, ceil(101 / 5) = 21
    assert horizon.tail_length(count) == length


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=60), st.integers(1, 70))
def test_tails_are_the_primary_value_of_a_shorter_trial(values, budget):
    found = horizon.Curves(
        rows=pd.DataFrame({"status": ["completed"]}),
        unit="generator_steps",
        steps=np.arange(1.0, len(values) + 1)[None],
        values=np.array([values]),
        counts=np.array([len(values)]),
        done=np.array([float(len(values))]),
        others={},
    )
    seen = np.array(values[:budget])
    expected = tail_median(seen) if len(seen) >= 5 else math.nan
    assert horizon.tail_at(found, budget).tolist() == pytest.approx([expected], nan_ok=True)


def test_tail_medians_of_a_frame_are_those_of_the_matrix(four):
    frame = four.history("trial_id", "evaluation", "primary", "generator_steps")
    found = horizon.tail_medians(frame[frame["generator_steps"] <= 700])
    at = horizon.tail_at(horizon.curves(four, TASK), 700)
    assert found.reindex(four.plan["trial_id"]).tolist() == pytest.approx(at.tolist(), nan_ok=True)


def slow(results, steps):
    """One trial after the other, as the words say."""
    history = results.history().sort_values("evaluation")
    past = dict(list(history[history["generator_steps"] <= steps].groupby("trial_id")["primary"]))
    found = []
    for row in results.outcomes(TASK)[["trial_id", "status", "primary", "generator_steps"]].to_dict("records"):
        seen = past.get(row["trial_id"], pd.Series(dtype=float)).to_numpy()
        if not isinstance(row["status"], str):
            found.append(math.nan)
        elif row["status"] == "completed" and row["generator_steps"] <= steps:
            found.append(row["primary"])
        elif row["status"] in ("diverged", "oom") and row["generator_steps"] < steps:
            found.append(math.inf)
        elif row["status"] == "stopped" and row["generator_steps"] < steps:
            found.append(math.nan)
        else:
            found.append(float(np.median(seen[-max(5, math.ceil(0.2 * len(seen))) :])) if len(seen) >= 5 else math.nan)
    return found


@pytest.mark.parametrize("seed", range(3))
def test_all_budgets_agree_with_a_slow_loop(build, with_history, seed):
    rng = np.random.default_rng(seed)
    results = build(keep=80, seed=seed)
    total, step = 3000, 100
    planned = dict(results.trials[["trial_id", "status"]].itertuples(index=False))
    done = {t: total if s == "completed" else int(rng.integers(0, total)) for t, s in planned.items()}
    values = {t: rng.lognormal(size=done[t] // step) for t in planned}
    trials = results.trials.assign(
        generator_steps=results.trials["trial_id"].map(done), discriminator_steps=1, updates=1
    )
    trials["primary"] = [
        tail_median(values[t]) if s == "completed" else np.nan for t, s in trials[["trial_id", "status"]].to_numpy()
    ]
    results = with_history(results, values, steps=step, trials=trials)
    curves = horizon.curves(results, TASK)
    for steps in (50, 499, 500, 1234, 2999, 3000, 5000):
        np.testing.assert_array_equal(horizon.coded_at(curves, steps), slow(results, steps))


# Budgets


def test_budgets_begin_where_all_that_are_sound_have_five_evaluations(four):
    found = horizon.curves(four, TASK)
    assert horizon.budgets_of(found).tolist() == [500, 600, 700, 800, 900, 1000]
    assert horizon.budgets_of(found, most=3).tolist() == [500, 700, 1000]  # places 0, 2.5 -> 2, 5


def test_a_short_schedule_has_its_end_alone(ended, with_history):
    results = ended({"ns": [0.1]}, replicates=1, points=1)
    results = with_history(results, {results.plan["trial_id"][0]: [3, 2, 1]})
    assert horizon.budgets_of(horizon.curves(results, TASK)).tolist() == [300]


# Equal work of the discriminator


def test_the_common_discriminator_steps_are_those_of_the_least(build):
    results = build(critics=(1, 5))  # 1000 generator steps
    assert horizon.common_discriminator_steps(results, TASK) == 1000
    assert horizon.common_discriminator_steps(build(), TASK) is None
    same = Results("x", results.plan.assign(budget_unit="discriminator_steps"), results.trials, (), None)
    assert horizon.common_discriminator_steps(same, TASK) is None
    updates = Results("x", results.plan.assign(budget_unit="updates"), results.trials, (), None)
    assert horizon.common_discriminator_steps(updates, TASK) == 500  # of 1000 updates, 1 in 2 at n_critic 1

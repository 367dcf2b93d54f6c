"""A sweep as it stood at earlier budgets, against hand-made histories and a slow loop."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis import horizon
from analysis.outcomes import code
from analysis.results import Results
from study.records import tail_median
from study.trial import Budget

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
        # ten evaluations, the last five at 6/10 to 10/10: at step 500 those are 300, 350 .. 500, whose middle is 400
        (500, [6, 4, 5, math.nan]),
        # the middle of 629 is 503.2, .032 of the way from 500 to 600, in logarithms; the third is sound up to 629
        (629, [5**0.968 * 4**0.032, 5**0.968 * 6**0.032, 5**0.968 * 7**0.032, math.nan]),
        (630, [5**0.96 * 4**0.04, 5**0.96 * 6**0.04, math.inf, math.nan]),
        (999, [3**0.008 * 2**0.992, 7**0.008 * 8**0.992, math.inf, math.nan]),  # 799.2, from 700 to 800
        (1000, [0.1, 3.0, math.inf, math.nan]),  # the end: as the table says
        (400, [7**0.8 * 6**0.2, 3**0.8 * 4**0.2, 5, math.nan]),  # 320; 100 steps apart is a quarter of 400
        (399, [math.nan, math.nan, math.nan, math.nan]),  # and more than a quarter of 399
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
@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=60), st.integers(0, 70))
def test_at_the_end_the_tail_is_the_primary_value(values, later):
    found = horizon.Curves(
        rows=pd.DataFrame({"status": ["completed"]}),
        unit="generator_steps",
        even=len(values),
        steps=np.arange(1.0, len(values) + 1)[None],
        values=np.array([values]),
        counts=np.array([len(values)]),
        done=np.array([float(len(values))]),
        others={},
    )
    assert horizon.tail_at(found, len(values)).tolist() == [tail_median(np.array(values))]
    assert horizon.tail_at(found, len(values) + later).tolist() == [tail_median(np.array(values))]
    assert horizon.last_at(found, len(values)).tolist() == [values[-1]]


@settings(max_examples=60, deadline=None)
@given(st.integers(5, 60), st.integers(1, 5), st.floats(-3, 3), st.floats(0.05, 1))
def test_a_metric_that_is_one_function_of_steps_is_measured_alike_by_all(count, critic, slope, share):
    """One trial makes `critic` times the steps of another; the metric of both is exp(slope * steps), linear in logs."""
    total = 100.0 * count
    steps = 100.0 * np.arange(1, count + 1) * np.array([[1.0], [critic]])
    found = horizon.Curves(
        rows=pd.DataFrame({"status": ["completed"] * 2}),
        unit="discriminator_steps",
        even=count,
        steps=steps,
        values=np.exp(slope * steps / total),
        counts=np.array([count, count]),
        done=np.array([total, critic * total]),
        others={},
    )
    one, other = horizon.tail_at(found, share * total)
    if not math.isnan(other):
        assert one == pytest.approx(other, rel=1e-9)
    first = count - horizon.tail_length(count) + 1
    unknown = 100 * critic > horizon.COARSEST * share * total or 100 * critic > share * total * first / count
    assert unknown or not math.isnan(other)


def test_behind_the_last_evaluation_the_value_is_the_last_and_signs_are_linear(four):
    trials = four.trials.assign(other=1.0)
    four = Results(four.name, four.plan, trials, (), None, read_history=four.read_history)
    found = horizon.curves(four, TASK, "other")
    assert horizon.last_at(found, 650, "other")[2] == -7  # evaluated up to 600
    assert horizon.last_at(found, 250, "other")[0] == pytest.approx(math.nan, nan_ok=True)  # 100 is over 250 / 4
    assert horizon.last_at(found, 450, "other")[0] == -5.5


def slow(results, steps):
    """One trial after the other, as the words say."""
    history = results.history().sort_values("evaluation")
    past = dict(list(history.groupby("trial_id")))
    most = max(len(frame) for frame in past.values())
    found = []
    for row in results.outcomes(TASK)[["trial_id", "status", "primary", "generator_steps"]].to_dict("records"):
        if not isinstance(row["status"], str):
            found.append(math.nan)
        elif row["status"] == "completed" and row["generator_steps"] <= steps:
            found.append(row["primary"])
        elif row["status"] in ("diverged", "oom") and row["generator_steps"] < steps:
            found.append(math.inf)
        elif row["status"] == "stopped" and row["generator_steps"] < steps:
            found.append(math.nan)
        else:
            seen = past[row["trial_id"]] if row["trial_id"] in past else history.iloc[:0]
            first = most - max(5, math.ceil(0.2 * most)) + 1
            found.append(np.median([slow_value(seen, steps * k / most, steps / 4) for k in range(first, most + 1)]))
    return found


def slow_value(seen, place, widest):
    at, values = seen["generator_steps"].to_numpy(dtype=float), seen["primary"].to_numpy()
    if place in at:
        return values[at == place][0]
    if not (at < place).any():
        return math.nan
    end = at[at > place].min() if (at > place).any() else place
    if end - at[at < place].max() > widest:
        return math.nan
    return math.exp(np.interp(place, at, np.log(values)))


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
        np.testing.assert_allclose(horizon.coded_at(curves, steps), slow(results, steps), rtol=1e-12)


# Budgets


def test_budgets_begin_where_evaluations_are_a_quarter_apart(four):
    found = horizon.curves(four, TASK)
    assert horizon.budgets_of(found).tolist() == [400, 500, 600, 700, 800, 900, 1000]
    assert horizon.budgets_of(found, most=3).tolist() == [400, 700, 1000]  # places 0, 3, 6


def test_a_short_schedule_has_its_end_alone(ended, with_history):
    results = ended({"ns": [0.1]}, replicates=1, points=1)
    results = with_history(results, {results.plan["trial_id"][0]: [3, 2, 1]})
    assert horizon.budgets_of(horizon.curves(results, TASK)).tolist() == [300]


# Schedules


def test_late_evaluations_are_measured_at_their_places_in_any_budget(ended, with_history):
    """Of 1,000 steps at 200, 400, 600 and 800, then at 840 to 1,000; the metric is e^(steps / 100)."""
    results = ended({"ns": [1.0, None]}, replicates=2, points=1)
    late = Budget(unit="generator_steps", steps=1000, evaluations=9, schedule="late").stops(1)
    first, second = results.plan["trial_id"]
    results = with_history(results, {name: [math.exp(stop / 100) for stop in late] for name in (first, second)})
    read, places = results.read_history, np.array(late)
    results = replace(
        results,
        plan=results.plan.assign(schedule="late"),
        read_history=lambda names: read([]).assign(generator_steps=places[read([])["evaluation"]])[list(names)],
    )
    found = horizon.curves(results, TASK)
    # 200 apart is a quarter of 800, whose places are .84, .88 .. 1 of it: the middle one is 736
    assert horizon.budgets_of(found).tolist() == [800, 840, 880, 920, 960, 1000]
    assert horizon.tail_at(found, 800).tolist() == pytest.approx([math.exp(7.36)] * 2)
    assert np.isnan(horizon.tail_at(found, 799)).all()
    # of nine even ones the middle of the last five would lie at 7 / 9
    even = horizon.curves(replace(results, plan=results.plan.assign(schedule="even")), TASK)
    assert horizon.tail_at(even, 900).tolist() == pytest.approx([math.exp(7)] * 2)


# Equal work of the discriminator


def test_the_common_steps_are_those_of_the_least(build):
    results = build(critics=(1, 5))  # 1000 generator steps
    generator, discriminator = horizon.STEPS
    assert horizon.common_steps(results, TASK, discriminator) == 1000
    assert horizon.common_steps(results, TASK, generator) is None
    assert horizon.common_steps(build(), TASK, discriminator) is None
    same = Results("x", results.plan.assign(budget_unit="discriminator_steps"), results.trials, (), None)
    assert horizon.common_steps(same, TASK, discriminator) is None
    assert horizon.common_steps(same, TASK, generator) == 200
    updates = Results("x", results.plan.assign(budget_unit="updates"), results.trials, (), None)
    assert horizon.common_steps(updates, TASK, discriminator) == 500  # of 1000 updates, 1 in 2 at n_critic 1
    assert horizon.common_steps(updates, TASK, generator) == 166  # 1 in 6 at n_critic 5

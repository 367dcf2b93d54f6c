import dataclasses

import numpy as np
import pandas as pd
import pytest

from analysis.results import Results, TaskFacts
from study import schema


def changed(results, **fields):
    return dataclasses.replace(results, **fields)


def test_tasks_methods_and_facts_come_in_plan_order(build):
    results = build(tasks=("ring8", "digits"), methods=("ns", "hinge", "a"), confirmatory=())
    assert results.tasks == ("ring8", "digits")
    assert results.methods == ("ns", "hinge", "a") == results.methods_of("digits")
    assert results.facts("ring8") == TaskFacts("w2sq", 0.2, 0.02, 2.0)


def test_a_planned_trial_without_a_row_stays_visible(build):
    results = build(keep=5)
    outcomes = results.outcomes("manifold-d2")
    assert list(outcomes["trial_id"]) == list(results.plan["trial_id"])
    assert outcomes["status"].isna().sum() == len(results.plan) - 5
    assert outcomes["status"].notna().sum() == 5


def test_outcomes_follow_the_trial_id_not_the_row(build):
    results = build()
    shuffled = changed(results, trials=results.trials.sample(frac=1, random_state=1))
    pd.testing.assert_frame_equal(shuffled.outcomes("manifold-d2"), results.outcomes("manifold-d2"))


def test_an_empty_table_of_trials_is_fine(build):
    results = build()
    columns = [column.name for column in schema.TABLES["trials"]]
    empty = changed(results, trials=pd.DataFrame(columns=columns))
    assert empty.outcomes("manifold-d2")["status"].isna().all()


@pytest.mark.parametrize(
    ("column", "value", "complaint"),
    [
        ("status", "exploded", r"unknown status 'exploded'; known: \['completed'"),
        ("status", np.nan, "unknown status nan"),
        ("trial_id", "stranger", "1 trials are not in the plan, the first is 'stranger'"),
    ],
)
def test_bad_rows_are_refused(build, column, value, complaint):
    results = build()
    trials = results.trials.copy()
    trials.loc[3, column] = value
    with pytest.raises(ValueError, match=complaint):
        changed(results, trials=trials)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_completed_trial_needs_a_finite_metric(ended, value):
    results = ended({"a": [1.0, 2.0]}, replicates=1, points=2)
    with pytest.raises(ValueError, match="completed trial 'manifold-d2/a/c1n1/0' has no finite primary"):
        changed(results, trials=results.trials.assign(primary=[1.0, value]))


@pytest.mark.parametrize("status", ["diverged", "oom", "stopped"])
def test_only_a_completed_trial_has_a_metric(ended, status):
    results = ended({"a": [1.0, 2.0]}, replicates=1, points=2)
    with pytest.raises(ValueError, match="'manifold-d2/a/c0n1/0' did not complete but has a primary"):
        changed(results, trials=results.trials.assign(status=[status, "completed"]))


@pytest.mark.parametrize("table", ["plan", "trials"])
def test_an_id_that_comes_twice_is_refused(build, table):
    results = build()
    frame = getattr(results, table)
    with pytest.raises(ValueError, match=f"{table} has trial_id 'manifold-d2/ns.gp1/c0n1/0' more than once"):
        changed(results, **{table: pd.concat([frame, frame.iloc[[0]]])})


def test_a_task_has_one_set_of_facts(build):
    results = build()
    plan = results.plan.copy()
    plan.loc[0, "threshold"] = 0.3
    with pytest.raises(ValueError, match="'manifold-d2' needs one metric, threshold and pair of anchors, found 2"):
        changed(results, plan=plan)


@pytest.mark.parametrize("anchors", [(0.0, 1.0), (2.0, 1.0), (1.0, 1.0), (1.0, np.inf), (np.nan, 1.0)])
def test_anchors_must_be_a_range_on_the_log_scale(anchors):
    with pytest.raises(ValueError, match=f"0 < anchor_low < anchor_high, got {anchors[0]} and {anchors[1]}"):
        TaskFacts("w2sq", 0.2, *anchors)


def test_a_threshold_is_finite():
    with pytest.raises(ValueError, match="threshold must be finite, got nan"):
        TaskFacts("w2sq", np.nan, 0.1, 1.0)


@pytest.mark.parametrize("pair", [("ns", "ns"), ("ns", "unknown")])
def test_a_confirmatory_pair_names_two_planned_methods(build, pair):
    with pytest.raises(ValueError, match=r"needs two planned methods; planned: \['ns\+gp1'"):
        build(confirmatory=(pair,))


@pytest.mark.parametrize("table", ["plan", "trials"])
def test_an_absent_column_is_named(build, table):
    results = build()
    with pytest.raises(ValueError, match=rf"{table} lacks the columns \['trial_id'\]"):
        changed(results, **{table: getattr(results, table).drop(columns="trial_id")})


def test_an_unplanned_task_is_refused(build):
    with pytest.raises(ValueError, match=r"'mnist' is not planned; planned: \['manifold-d2'\]"):
        build().outcomes("mnist")


def test_the_setting_states_budget_and_design(build):
    assert build(replicates=2, points=16).setting("manifold-d2") == (
        "budget 1000 generator_steps, prior sobol 2x16 points"
    )
    crossed = build(replicates=2, points=4, critics=(1, 5), seeds=3).setting("manifold-d2")
    assert crossed == "budget 1000 generator_steps, prior sobol 2x4 points, n_critic 1 and 5, 3 seeds"


def test_unequal_replicates_are_not_written_as_a_product(build):
    results = build(replicates=2, points=4)
    assert isinstance(results, Results)
    fewer = changed(results, plan=results.plan[results.plan["point"] != 7], trials=results.trials.iloc[:0])
    assert "sobol 7 (in 2 replicates) points" in fewer.setting("manifold-d2")


def test_outcomes_may_be_written_into(build):
    results = build()
    first = results.outcomes("manifold-d2")
    first["primary"] = -1.0
    first.loc[first.index[0], "status"] = "oom"
    second = results.outcomes("manifold-d2")
    assert (second["primary"].dropna() > 0).all()
    assert second["status"].iloc[0] == results.outcomes("manifold-d2")["status"].iloc[0]
    np.testing.assert_array_equal(second["trial_id"], results.plan["trial_id"])

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis import explorer as module
from analysis import profiles
from analysis.explorer import ENDINGS, explorer
from analysis.outcomes import Sample, sample
from search_spaces.domains import LogUniform

LISTS = ("id", "method", "status", "point", "seed", "value")
FACTS = ("methods", "axes", "metric", "threshold", "anchors", "endings")


@pytest.fixture(scope="module")
def results(build):
    """Two tasks, 32 points crossed with two n_critic and two seeds; a learning rate, and a weight of gp1 methods."""
    found = build(tasks=("ring8", "digits"), critics=(1, 5), seeds=2, keep=700)
    plan = found.plan
    rate = 10 ** (-4 + 3 * ((plan["point"] * 0.618) % 1))
    weight = np.where(plan["method"] == "ns", np.nan, 1.0 + plan["point"])
    plan = plan.assign(lr_g=rate, lr_d=rate, penalty_weight=weight, optimiser="adam")
    return dataclasses.replace(found, plan=plan, domains={"lr": LogUniform(1e-4, 1e-1)})


@pytest.fixture(scope="module")
def data(results):
    return explorer(results)


def decoded(one, method):
    """The outcomes of one method as the page has them."""
    rows = [i for i, m in enumerate(one["method"]) if one["methods"][m]["name"] == method]
    values = []
    for i in rows:
        ending = one["endings"][one["status"][i]]
        values.append(np.inf if ending in ("diverged", "oom") else np.nan if ending == "missing" else one["value"][i])
    points = np.array([one["point"][i] for i in rows])
    return Sample(np.array(values, dtype=float), np.zeros(len(rows), dtype=np.int64), points)


def test_an_entry_per_task_with_an_entry_per_planned_trial(results, data):
    assert [one["task"] for one in data] == ["ring8", "digits"]
    for one in data:
        planned = results.plan[results.plan["task"] == one["task"]]
        assert {len(one[name]) for name in LISTS} | {len(column) for column in one["settings"]} == {len(planned)}
        assert sorted(one["id"]) == sorted(planned["trial_id"])
        assert one["points"] == [32, 32]
        assert max(one["point"]) == 31


def test_it_is_json_without_nan(data):
    assert json.loads(json.dumps(data, allow_nan=False)) == data


def test_each_trial_has_its_own_values(results, data):
    for one in data:
        outcomes = results.outcomes(one["task"]).set_index("trial_id")
        axes = {axis["name"]: axis for axis in one["axes"]}
        assert list(axes) == ["lr_g", "n_critic", "penalty_weight"]
        assert (axes["lr_g"]["word"], axes["lr_g"]["log"], axes["lr_g"]["ends"]) == ("lr", True, [1e-4, 1e-1])
        assert (axes["n_critic"]["levels"], axes["n_critic"]["absent"]) == ([1.0, 5.0], 0)
        assert axes["penalty_weight"]["absent"] == len(one["id"]) / 3  # one of three methods has none
        rate, critic, weight = one["settings"]
        for i, name in enumerate(one["id"]):
            row = outcomes.loc[name]
            assert one["methods"][one["method"][i]]["name"] == row["method"]
            assert one["endings"][one["status"][i]] == ("missing" if pd.isna(row["status"]) else row["status"])
            assert one["seed"][i] == row["seed"]
            assert rate[i] == pytest.approx(row["lr_g"], rel=1e-5)
            assert axes["n_critic"]["levels"][critic[i]] == row["n_critic"]
            assert (weight[i] is None) == (row["method"] == "ns")


def test_trials_of_a_point_share_its_index(results, data):
    for one in data:
        points = results.plan.set_index("trial_id").loc[one["id"], "point"]
        pairs = set(zip(one["point"], points, strict=True))
        assert len(pairs) == 32


def test_profiles_and_success_are_those_of_the_results(results, data):
    for one in data:
        facts = results.facts(one["task"])
        outcomes = results.outcomes(one["task"])
        for method in results.methods_of(one["task"]):
            mine, exact = decoded(one, method), sample(outcomes[outcomes["method"] == method])
            assert profiles.success(mine, facts.threshold).value == profiles.success(exact, facts.threshold).value
            taus = np.geomspace(0.01, 10, 50) * 1.00001  # off the four-digit grid
            np.testing.assert_allclose(profiles.fraction_at(mine, taus), profiles.fraction_at(exact, taus), atol=0.01)
            low, high = facts.anchor_low, facts.anchor_high
            scores = [profiles.log_auc(arm, low=low, high=high).value for arm in (mine, exact)]
            assert scores[0] == pytest.approx(scores[1], abs=2e-4)


@given(
    st.lists(st.floats(1e-6, 1e6) | st.just(np.nan), max_size=8),
    st.floats(1e-3, 1e3),
    st.floats(-1e-4, 1e-4),
)
def test_rounding_never_carries_a_value_over_the_threshold(values, threshold, nudge):
    exact = pd.Series([*values, threshold, threshold * (1 + nudge)], dtype=float)
    short = module._values(exact, threshold)
    for value, text in zip(exact, short, strict=True):
        if np.isnan(value):
            assert text is None
        else:
            assert (text <= threshold) == (value <= threshold)
            assert text == pytest.approx(value, rel=5.1e-4)


def test_row_order_does_not_matter(results, data):
    shuffled = dataclasses.replace(results, trials=results.trials.sample(frac=1, random_state=3))
    assert explorer(shuffled) == data
    assert explorer(shuffled, rows=200) == explorer(results, rows=200)


def test_a_page_too_small_for_all_keeps_whole_points_evenly(results, data):
    # 768 trials of 64 points (32 on each task); of 200, a share of .26 is 8.3 points of each task, 12 trials each
    some = explorer(results, rows=200)
    for one, whole in zip(some, data, strict=True):
        assert one["points"] == [8, 32]
        assert len(one["id"]) == 8 * 12
        assert set(one["id"]) < set(whole["id"])
        sizes = pd.Series(one["point"]).value_counts()
        assert (sizes == 12).all()
        assert sorted(sizes.index) == list(range(8))
        assert {name: one[name] for name in FACTS} == {
            **{name: whole[name] for name in FACTS},
            "axes": [{**axis, "absent": axis["absent"] // 4} for axis in whole["axes"]],
        }
    assert sum(len(one["id"]) for one in some) <= 200


def test_points_are_not_every_nth():
    kept = module._chosen(256, 0.25)
    assert len(kept) == 64
    assert len(set(np.diff(kept))) > 3
    assert list(module._chosen(4, 1.0)) == [0, 1, 2, 3]
    assert len(module._chosen(4, 0.01)) == 1


def test_texts_are_levels(results):
    plan = results.plan.assign(norm_g=np.where(results.plan["point"] % 2 == 0, "batch", "layer"))
    one = explorer(dataclasses.replace(results, plan=plan))[0]
    place = [axis["name"] for axis in one["axes"]].index("norm_g")
    assert one["axes"][place]["levels"] == ["batch", "layer"]
    levels = plan.set_index("trial_id").loc[one["id"], "norm_g"]
    assert [one["axes"][place]["levels"][code] for code in one["settings"][place]] == list(levels)


@pytest.mark.parametrize("keep", [0, 1])
def test_a_sweep_that_has_hardly_begun(build, keep):
    (one,) = explorer(build(keep=keep))
    assert one["axes"] == []
    assert [ENDINGS[code] for code in one["status"]].count("missing") == 96 - keep
    json.dumps(one, allow_nan=False)


def test_nothing_planned(build):
    found = build(confirmatory=())
    assert explorer(dataclasses.replace(found, plan=found.plan.iloc[:0], trials=found.trials.iloc[:0])) == []


def test_the_quantile_is_that_of_95_percent(data):
    assert data[0]["z"] == pytest.approx(1.959963984540054)

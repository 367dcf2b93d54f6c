"""Endings, success over the budget, times to the threshold and rising steps, against hand-made histories."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from analysis import horizon, intervals, profiles
from analysis import trajectories as module
from analysis.outcomes import point_means, sample
from analysis.results import Results
from analysis.trajectories import Arm

TASK = "manifold-d2"
# threshold 0.2, anchors 0.02 and 2: a quarter of the way from 2 in logarithms is 2 * 100**-0.25 = 0.632
HISTORIES = {
    "success": (0.1, [3, 2, 1, 0.1, 0.1]),
    "at the threshold": (0.2, [3, 2, 1, 0.2, 0.2]),
    "never": (1.0, [3, 2, 1, 1, 1]),
    "lost": (1.0, [0.2, 2, 1, 1, 1]),
    "collapsed": (2.0, [3, 0.63, 2, 2, 2]),
    "collapsed from the threshold": (5.0, [3, 0.1, 5, 5, 5]),
    "barely better": (2.5, [3, 0.64, 2, 3, 3]),
    "diverged": (np.inf, [3, 0.1]),
    "oom": ("oom", []),
    "stopped": ("stopped", [3, 3]),
    "missing": (None, [3, 3]),
    "unknown": (1.0, []),
}
EXPECTED = {
    "success": "success",
    "at the threshold": "success",
    "never": "never reached",
    "lost": "reached and lost",
    "collapsed": "collapsed",
    "collapsed from the threshold": "collapsed",
    "barely better": "never reached",
    "diverged": "diverged",
    "oom": "oom",
    "stopped": "undecided",
    "missing": "undecided",
    "unknown": "undecided",
}


@pytest.fixture
def zoo(ended, with_history):
    """One trial of every ending."""
    results = ended({"ns": [ending for ending, _ in HISTORIES.values()]}, replicates=12, points=1)
    ids = results.plan["trial_id"]
    return with_history(results, dict(zip(ids, [values for _, values in HISTORIES.values()], strict=True)))


def shuffled(results):
    """The same results with the rows of both tables in another order."""
    plan, trials = (frame.sample(frac=1, random_state=3) for frame in (results.plan, results.trials))
    return Results(results.name, plan, trials, (), None, read_history=results.read_history)


def chosen_by(results, sampler):
    plan = results.plan.assign(sampler=sampler)
    return Results(results.name, plan, results.trials, (), None, read_history=results.read_history)


# Endings


def test_every_ending_by_hand(zoo):
    found = module.endings(zoo, TASK)
    assert dict(zip(EXPECTED, found["ending"], strict=True)) == EXPECTED
    assert set(found["ending"]) == set(module.ENDINGS)
    assert list(found.columns) == ["trial_id", "method", "ending"]


def test_endings_do_not_see_the_order_of_rows(zoo):
    one, other = (module.endings(results, TASK).set_index("trial_id")["ending"] for results in (zoo, shuffled(zoo)))
    assert one.sort_index().equals(other.sort_index())


def test_without_a_history_only_what_the_table_says_is_known(build):
    results = build()
    found = module.endings(results, TASK).merge(results.outcomes(TASK), on="trial_id")
    above = (found["status"] == "completed") & (found["primary"] > 0.2)
    assert set(found.loc[above, "ending"]) == {"undecided"}
    assert set(found.loc[~above, "ending"]) == {"success", "diverged", "oom"}


def test_what_was_hardly_looked_at_is_not_called_never_reached(ended, with_history):
    """Of 1,000 steps, evaluations from 500 on hide no more than half of them; those from 501 on do."""
    results = ended({"ns": [1.0, 1.0, 1.0, 0.1]}, replicates=2, points=2)
    ids, stops = list(results.plan["trial_id"]), {0: [500, 1000], 1: [501, 1000], 2: [840, 1000], 3: [840, 1000]}
    values = {ids[0]: [1.0, 1.0], ids[1]: [1.0, 1.0], ids[2]: [0.1, 1.0], ids[3]: [0.1, 0.1]}
    done = results.trials.assign(generator_steps=1000, discriminator_steps=1000, updates=2000)
    read = with_history(results, values).read_history
    places = {(ids[trial], index): stop for trial, found in stops.items() for index, stop in enumerate(found)}

    def history(names):
        frame = read([])
        frame["generator_steps"] = [places[key] for key in zip(frame["trial_id"], frame["evaluation"], strict=True)]
        return frame[list(names)] if names else frame

    results = replace(results, trials=done, read_history=history)
    found = module.endings(results, TASK).set_index("trial_id")["ending"]
    assert found[ids].tolist() == ["never reached", "undecided", "reached and lost", "success"]
    assert module.untrained_share(results, TASK, "ns") is None
    places[ids[1], 0] = 500
    share = module.untrained_share(replace(results), TASK, "ns")
    assert share.value == pytest.approx(2 / 3)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(1e-3, 1e2), min_size=1, max_size=12), st.sampled_from(["completed", "diverged"]))
def test_a_trial_has_one_ending_and_success_is_the_tables(values, status):
    primary = float(np.median(values[-5:]))
    found = horizon.Curves(
        rows=pd.DataFrame({"status": [status], "primary": [primary if status == "completed" else math.nan]}),
        unit="generator_steps",
        even=len(values),
        steps=np.arange(len(values), dtype=float)[None],
        values=np.array([values]),
        counts=np.array([len(values)]),
        done=np.array([1.0]),
        others={},
    )
    facts = type("Facts", (), {"threshold": 0.2, "anchor_low": 0.02, "anchor_high": 2.0})()
    (ending,) = module._endings(found, facts)
    assert ending in module.ENDINGS
    assert (ending == "success") == (status == "completed" and primary <= 0.2)
    if ending == "never reached":
        assert min(values) > 0.2
    if ending == "reached and lost":
        assert min(values) <= 0.2 < primary


def test_the_untrained_share_by_hand(zoo):
    # failures: never, lost, 2 collapsed, barely better, diverged, oom; never reached are 2 of these 7
    found = module.untrained_share(zoo, TASK, "ns")
    assert (found.value, found.n) == (pytest.approx(2 / 7), 7)
    assert (found.low, found.high) == intervals.wilson(2, 7)


def test_the_untrained_share_averages_seeds_first(ended, with_history):
    # point 0: two failures, one of them never there; point 1: one failure that never was; (1/2 + 1) / 2
    results = ended({"ns": [1.0, 1.0, 1.0, 0.1]}, replicates=1, points=2, seeds=2)
    ids = list(results.plan["trial_id"])
    results = with_history(results, {ids[0]: [3] * 5, ids[1]: [0.1, 3, 3], ids[2]: [3] * 5, ids[3]: [0.1] * 5})
    assert module.untrained_share(results, TASK, "ns").value == 0.75


def test_there_is_no_untrained_share_without_failures_or_history(ended, with_history, build):
    results = ended({"ns": [0.1, 0.1]}, replicates=2, points=1)
    assert module.untrained_share(with_history(results, {}), TASK, "ns") is None
    assert module.untrained_share(build(), TASK, "ns") is None


def test_chosen_configurations_give_shares_without_intervals(zoo):
    found = module.untrained_share(chosen_by(zoo, "tpe"), TASK, "ns")
    assert found.value == pytest.approx(2 / 7)
    assert math.isnan(found.low)
    assert found.method == "no interval: configurations chosen by tpe"
    assert module.success_by_budget(chosen_by(zoo, "tpe"), TASK)[["low", "high"]].isna().all(axis=None)


# Means over points


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3), st.floats(0, 1)), min_size=1, max_size=40), st.data())
def test_means_are_those_of_the_known_trials(sampled, rows, data):
    replicates, points, values = (np.array(column) for column in zip(*rows, strict=True))
    known = np.array(data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows))))
    trials = sampled(values, points=points, replicates=replicates)
    found = Arm(trials).means(values, known)
    expected = point_means(values[known], sampled(values[known], points=points[known], replicates=replicates[known]))
    np.testing.assert_allclose(found.values, expected.values)
    np.testing.assert_array_equal(found.replicates, expected.replicates)


# Over the budget


@pytest.fixture(scope="module")
def drawn(build, with_history):
    """Three methods of 32 points and two seeds with random histories of 20 evaluations; some fail on the way."""
    results = build(seeds=2, keep=180)
    rng = np.random.default_rng(0)
    status = dict(results.trials[["trial_id", "status"]].itertuples(index=False))
    done = {t: 2000 if s == "completed" else int(rng.integers(0, 2000)) for t, s in status.items()}
    falling = np.linspace(1, -2.5, 20)
    values = {t: np.exp(falling + rng.normal(0, 0.8, 20))[: done[t] // 100] for t in status}
    trials = results.trials.assign(generator_steps=results.trials["trial_id"].map(done))
    trials = trials.assign(discriminator_steps=trials["generator_steps"], updates=2 * trials["generator_steps"])
    trials["primary"] = [
        np.median(values[t][-5:]) if s == "completed" else np.nan for t, s in trials[["trial_id", "status"]].to_numpy()
    ]
    return with_history(results, values, trials=trials)


def test_success_by_budget_is_the_success_of_each_budget(drawn):
    found = module.success_by_budget(drawn, TASK)
    assert found["steps"].min() == 400  # evaluations, 100 apart, are a quarter of it apart
    for row in found.to_dict("records"):
        then = horizon.outcomes_at(drawn, TASK, int(row["steps"]))
        expected = profiles.success(sample(then[then["method"] == row["method"]]), 0.2)
        assert (row["value"], row["low"], row["high"], row["points"], row["interval"]) == pytest.approx(
            (expected.value, expected.low, expected.high, expected.n, expected.method), abs=1e-12
        )


def test_the_last_budget_is_the_result(drawn):
    last = module.success_by_budget(drawn, TASK).groupby("method", sort=False).last()
    outcomes = drawn.outcomes(TASK)
    for method in drawn.methods:
        expected = profiles.success(sample(outcomes[outcomes["method"] == method]), 0.2)
        assert last.loc[method, "value"] == pytest.approx(expected.value)
        assert last.loc[method, "undecided"] == outcomes.loc[outcomes["method"] == method, "status"].isna().sum()


def test_budgets_may_be_given(drawn):
    found = module.success_by_budget(drawn, TASK, budgets=[700, 1500])
    assert set(found["steps"]) == {700.0, 1500.0}
    assert len(found) == 2 * len(drawn.methods)


@pytest.mark.parametrize("table", [module.success_by_budget, module.time_to_threshold])
def test_without_a_history_there_is_no_row(build, table):
    assert table(build(), TASK).empty


@pytest.fixture
def runs(ended, with_history):
    """Success at 10, success at 20, crash at 5, never by 30."""
    results = ended({"ns": [0.1, 0.1, np.inf, 3.0]}, replicates=4, points=1)
    ids = list(results.plan["trial_id"])
    steps = [30, 30, 5, 30]
    trials = results.trials.assign(generator_steps=steps, discriminator_steps=steps, updates=2 * np.array(steps))
    histories = {ids[0]: [3, 0.1, 0.1, 0.1, 0.1, 0.1], ids[1]: [3, 3, 3, 0.1, 0.1, 0.1], ids[3]: [3] * 6}
    return with_history(results, histories, steps=5, trials=trials)


def test_a_crash_is_a_competing_event(runs):
    found = module.time_to_threshold(runs, TASK).set_index("steps")
    # of four trials one is there from 10 on, two from 20 on; one has crashed after step 5
    assert found["value"].to_dict() == {5: 0, 10: 0.25, 15: 0.25, 20: 0.5, 25: 0.5, 30: 0.5}
    assert found["failed"].to_dict() == {5: 0, 10: 0.25, 15: 0.25, 20: 0.25, 25: 0.25, 30: 0.25}
    assert (found.loc[20, "low"], found.loc[20, "high"]) == intervals.wilson(2, 4)


def test_kaplan_and_meier_agree_once_a_crash_is_never_and_not_before(runs):
    ours = module.time_to_threshold(runs, TASK, budgets=[20])["value"].item()
    never = stats.ecdf(stats.CensoredData(uncensored=[10, 20], right=[30, 30])).cdf.evaluate(20)
    censored = stats.ecdf(stats.CensoredData(uncensored=[10, 20], right=[5, 30])).cdf.evaluate(20)
    assert ours == pytest.approx(never) == 0.5
    assert censored == pytest.approx(2 / 3)


def test_a_trial_that_was_there_before_it_crashed_was_there(ended, with_history):
    results = ended({"ns": [np.inf]}, replicates=1, points=1)
    trials = results.trials.assign(generator_steps=350, discriminator_steps=350, updates=700)
    results = with_history(results, {results.plan["trial_id"][0]: [3, 0.1, 3]}, trials=trials)
    found = module.time_to_threshold(results, TASK, budgets=[100, 200, 400])
    assert found["value"].tolist() == [0, 1, 1]
    assert found["failed"].tolist() == [0, 0, 0]


def test_incidence_grows_and_leaves_room_for_failures(drawn):
    for _, found in module.time_to_threshold(drawn, TASK).groupby("method"):
        assert found["value"].is_monotonic_increasing
        assert found["failed"].is_monotonic_increasing
        assert (found["value"] + found["failed"] <= 1 + 1e-12).all()
        assert (found["undecided"] == found["undecided"].iloc[0]).all()


def test_incidence_covers(ended, with_history):
    """300 arms of 40 points, of which 30 % crash and 40 % get there by step 300: Wilson's interval covers 0.4.

    At .95 of 300 arms the count of covering intervals is binomial: below 272 (.907) or above 297 in 1 of 1000 cases.
    """
    arms, points = 300, 40
    kind = np.random.default_rng(5).choice(3, p=[0.4, 0.3, 0.3], size=(arms, points))
    # the primary value is above the threshold for all: the first time there is what counts
    endings = {f"m{i}": [np.inf if one == 1 else 1.0 for one in row] for i, row in enumerate(kind)}
    results = ended(endings, replicates=1, points=points)
    there = dict(zip(results.plan["trial_id"], kind.ravel(), strict=True))
    values = {t: [3, 3, 0.1, 3, 3] if one == 0 else [3] if one == 1 else [3] * 5 for t, one in there.items()}
    found = module.time_to_threshold(with_history(results, values), TASK, budgets=[300])
    assert found["value"].mean() == pytest.approx(0.4, abs=3 * math.sqrt(0.24 / (arms * points)))
    covered = ((found["low"] <= 0.4) & (found["high"] >= 0.4)).sum()
    assert 272 <= covered <= 297


# Rising steps


def one_trial(ended, with_history, values, *, primary=1.0, others=1):
    """Results of one method whose first trial has a history; `others` more have none."""
    results = ended({"ns": [primary] + [1.0] * others}, replicates=1 + others, points=1)
    return with_history(results, {results.plan["trial_id"][0]: values})


LOGS = [5, 4, 6, 3, 2, 2.0, 2.1, 2.0, 2.1, 2.0]


def test_rising_steps_by_hand(ended, with_history):
    found = module.rising_steps(one_trial(ended, with_history, np.exp(LOGS)), TASK)
    # changes -1 2 -3 -1 0 .1 -.1 .1 -.1; noise: the root mean square of the last four, .1, times t(.95; 4) = 2.132
    assert found["intervals"].tolist() == [9, 0]
    assert found["share"].tolist() == pytest.approx([1 / 9, math.nan], nan_ok=True)
    assert found["raw"].tolist() == pytest.approx([3 / 9, math.nan], nan_ok=True)


@pytest.mark.parametrize(("jump", "rises"), [(0.212, 0), (0.214, 1)])
def test_what_counts_as_noise(ended, with_history, jump, rises):
    assert special.stdtrit(4, 0.95) == pytest.approx(2.1318, abs=1e-4)
    values = np.exp([5, 5 + jump, 3, 2, 2.0, 2.1, 2.0, 2.1, 2.0])
    found = module.rising_steps(one_trial(ended, with_history, values), TASK)
    assert found["share"].iloc[0] * 8 == pytest.approx(rises)


def test_rising_steps_are_counted_up_to_the_first_success(ended, with_history):
    # up to 0.1, the fourth evaluation: changes down, up, down; what it does there afterwards is not looked at
    found = module.rising_steps(
        one_trial(ended, with_history, [3, 1, 9, 0.1, 90, 0.1, 90, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1]), TASK
    )
    assert found["intervals"].iloc[0] == 3
    assert found["share"].iloc[0] == pytest.approx(1 / 3)


def test_a_trial_that_succeeds_at_once_has_no_share(ended, with_history):
    found = module.rising_steps(one_trial(ended, with_history, [0.1] * 8, primary=0.1), TASK)
    assert found["ending"].iloc[0] == "success"
    assert found["share"].isna().all()


def test_four_evaluations_say_nothing_of_noise(ended, with_history):
    assert module.rising_steps(one_trial(ended, with_history, [1, 2, 3, 4]), TASK)["share"].isna().all()


def test_a_metric_with_other_signs_is_taken_as_it_is(ended, with_history):
    results = one_trial(ended, with_history, LOGS)
    trials = results.trials.assign(other=1.0)
    results = Results(results.name, results.plan, trials, (), None, read_history=results.read_history)
    found = module.rising_steps(results, TASK, metric="other")
    # -5 -4 -6 -3 -2 -2 -2.1 -2 -2.1 -2: up by 1, 3 and 1 beyond noise, and by .1 twice
    assert found["share"].iloc[0] == pytest.approx(3 / 9)
    assert found["raw"].iloc[0] == pytest.approx(5 / 9)


@settings(max_examples=15, deadline=None)
@given(scale=st.floats(1e-3, 1e3), values=st.lists(st.integers(1, 50), min_size=5, max_size=12))
def test_the_unit_of_the_metric_does_not_matter(ended, with_history, scale, values):
    results = one_trial(ended, with_history, values, others=0)
    larger = one_trial(ended, with_history, np.array(values) * scale, others=0)
    plan = larger.plan.assign(
        **{name: larger.plan[name] * scale for name in ("threshold", "anchor_low", "anchor_high")}
    )
    trials = larger.trials.assign(primary=larger.trials["primary"] * scale)
    larger = Results("x", plan, trials, (), None, read_history=larger.read_history)
    columns = ["intervals", "share", "raw"]
    pd.testing.assert_frame_equal(*(module.rising_steps(each, TASK)[columns] for each in (results, larger)))


def test_pure_noise_seldom_rises(ended, with_history):
    """Lognormal noise about a constant, 25 evaluations: the false-alarm rate of an interval.

    The changes of independent values are negatively correlated, so that the limit is not exactly Student's: .059 of
    the intervals before the last five evaluations, fewer among those, which make the limit; .05 of all, as is nominal.
    A fall by a tenth at each evaluation leaves less.
    """
    rng = np.random.default_rng(0)
    results = ended({"ns": [3.0] * 2000}, replicates=1, points=2000)
    noise = np.exp(1 + rng.normal(0, 0.2, (2000, 25)))
    ids = results.plan["trial_id"]
    still = module.rising_steps(with_history(results, dict(zip(ids, noise, strict=True))), TASK)
    falling = noise * 0.9 ** np.arange(25) * 20
    moving = module.rising_steps(with_history(results, dict(zip(ids, falling, strict=True))), TASK)
    assert still["share"].mean() == pytest.approx(0.05, abs=0.005)
    assert moving["share"].mean() < still["share"].mean() / 1.5
    assert still["raw"].mean() == pytest.approx(0.5, abs=0.01)


def test_real_detours_are_seen(ended, with_history):
    rng = np.random.default_rng(0)
    results = ended({"ns": [3.0] * 200}, replicates=1, points=200)
    logs = 2 + np.where(np.arange(25) < 16, np.sin(np.arange(25) * np.pi / 4), 0) + rng.normal(0, 0.02, (200, 25))
    found = module.rising_steps(
        with_history(results, dict(zip(results.plan["trial_id"], np.exp(logs), strict=True))), TASK
    )
    # a sine of period 8 over 16 evaluations rises from 0 to 2, 6 to 10 and 14 to 16 (to 0): 8 of 24 intervals
    assert found["share"].mean() == pytest.approx(8 / 24, abs=0.01)


@pytest.fixture
def arms(ended, with_history):
    """Two methods on four points; `ns` rises in 1/4 of its intervals when it succeeds and in 1/2 when it fails."""
    flat = [1.0] * 5
    shapes = {
        "quarter": [9, 8, 9, 8, *flat],  # 8 intervals, one up in fact: 9 8 9 8 1 1 1 1 1
        "half": [8, 9, 8, 9, *flat],
        "down": [9, 8, 7, 6, *flat],
    }
    endings = {"ns": [0.1, 0.1, 3.0, 3.0], "energy": [0.1, 0.1, 3.0, None]}
    results = ended(endings, replicates=1, points=4)
    ids = list(results.plan["trial_id"])
    names = ["quarter", "quarter", "half", "half", "down", "down", "quarter", "down"]
    return with_history(results, {t: shapes[name] for t, name in zip(ids, names, strict=True)})


def test_rising_shares_by_group(arms):
    found = module.rising_shares(arms, TASK).set_index(["method", "group"])
    # of 8 intervals "quarter" rises in 1, "half" in 2, "down" in none
    assert found.loc[("ns", "all"), "value"] == pytest.approx((2 * 1 / 8 + 2 * 2 / 8) / 4)
    assert found.loc[("ns", "successful"), "value"] == pytest.approx(1 / 8)
    assert found.loc[("ns", "failed"), "value"] == pytest.approx(2 / 8)
    assert found["trials"].to_dict() == {
        **{("ns", "all"): 4, ("ns", "successful"): 2, ("ns", "failed"): 2},
        **{("energy", "all"): 3, ("energy", "successful"): 2, ("energy", "failed"): 1},
    }
    expected = intervals.bounded_mean(
        point_means([1 / 8, 1 / 8, 2 / 8, 2 / 8], sample(arms.outcomes(TASK).query("method == 'ns'")))
    )
    assert (found.loc[("ns", "all"), "low"], found.loc[("ns", "all"), "high"]) == (expected.low, expected.high)


def test_a_control_is_compared_in_pairs(arms):
    found = module.rising_difference(arms, TASK, "ns", "energy")
    # pairs with both shares: 1/8 - 0, 1/8 - 0, 2/8 - 1/8; the fourth control is missing
    assert (found.value, found.n) == (pytest.approx(1 / 8), 3)
    only = module.rising_difference(arms, TASK, "ns", "energy", group="failed")
    assert (only.value, only.n) == (pytest.approx(1 / 8), 1)
    back = module.rising_difference(arms, TASK, "energy", "ns")
    assert back.value == pytest.approx(-1 / 8)


def test_without_pairs_there_is_no_difference(ended, with_history):
    results = ended({"ns": [3.0], "energy": [None]}, replicates=1, points=1)
    results = with_history(results, {results.plan["trial_id"][0]: [3] * 6})
    assert module.rising_difference(results, TASK, "ns", "energy") == intervals.NOTHING


def test_what_does_not_exist_is_named(arms):
    with pytest.raises(ValueError, match=r"method 'wgan' is not planned on manifold-d2; planned: \['ns', 'energy'\]"):
        module.rising_difference(arms, TASK, "ns", "wgan")
    with pytest.raises(ValueError, match="unknown group 'lucky'"):
        module.rising_difference(arms, TASK, "ns", "energy", group="lucky")
    with pytest.raises(ValueError, match="no column 'w3'"):
        module.rising_shares(arms, TASK, metric="w3")


def test_nothing_depends_on_the_order_of_rows(drawn):
    other = shuffled(drawn)
    for table, key in (
        (module.success_by_budget, ["method", "steps"]),
        (module.time_to_threshold, ["method", "steps"]),
        (module.rising_shares, ["method", "group"]),
    ):
        one, two = (table(results, TASK).set_index(key).sort_index() for results in (drawn, other))
        pd.testing.assert_frame_equal(one, two, check_exact=False, rtol=1e-12)


def test_nothing_planned_gives_empty_tables(build):
    results = build(keep=0)
    assert set(module.endings(results, TASK)["ending"]) == {"undecided"}
    assert module.rising_shares(results, TASK)["value"].isna().all()

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from analysis import intervals
from analysis.collection import Runs
from analysis.performance_score import Performance, performance, points_of, ratios, reached, score
from analysis.results import Results
from study.errors import UserError

INF, NAN = np.inf, np.nan
cost = st.one_of(st.sampled_from([1.0, 2.0, INF]), st.floats(0.5, 50))
table = st.integers(1, 4).flatmap(lambda tasks: st.lists(st.lists(cost, min_size=tasks, max_size=tasks), min_size=1))


@pytest.mark.parametrize(
    ("of_tasks", "expected"),
    [
        ([1, 1], 1),
        ([1, 2], 5 / 6),  # (1 + 2/3) / 2
        ([1, 4], 0.5),
        ([INF, 1], 0.5),
        ([2.5, 2.5], 0.5),  # halfway between 1 and 4
    ],
)
def test_the_score_by_hand(of_tasks, expected):
    assert score(points_of(np.array(of_tasks, dtype=float))).value == pytest.approx(expected)


@given(table, st.floats(1.5, 10))
def test_the_score_is_the_area_under_the_profile(rows, r_max):
    found = ratios(np.array(rows))
    for row in found:
        item = Performance("m", row, row, intervals.NOTHING, 0.0, 0.0)
        edges = np.unique(np.concatenate([[1.0, r_max], row[(row > 1) & (row < r_max)]]))  # where the profile steps
        area = sum(float(item.share(a)) * (b - a) for a, b in itertools.pairwise(edges)) / (r_max - 1)
        assert score(points_of(row, r_max=r_max)).value == pytest.approx(area, abs=1e-9)


@given(table)
def test_ratios_are_those_of_a_slow_loop(rows):
    found = ratios(np.array(rows))
    for i, row in enumerate(rows):
        for t, value in enumerate(row):
            least = min(other[t] for other in rows)
            assert found[i, t] == pytest.approx(INF if value == INF else value / least)


@given(table)
def test_an_added_method_never_raises_the_score_of_another(rows):
    before, after = ratios(np.array(rows)), ratios(np.array([*rows, rows[0][::-1]]))
    assert (points_of(after[: len(rows)]) <= points_of(before) + 1e-12).all()


@given(table, st.floats(0.1, 10))
def test_the_unit_of_the_cost_does_not_matter(rows, factor):
    np.testing.assert_allclose(ratios(np.array(rows) * factor), ratios(np.array(rows)), rtol=1e-9)


def test_what_nobody_solved_and_what_costs_nothing():
    np.testing.assert_array_equal(
        ratios(np.array([[INF, 0.0], [INF, 0.0], [NAN, 5.0]])), [[INF, 1], [INF, 1], [NAN, INF]]
    )


def test_the_profile_counts_tasks_within_a_ratio():
    item = Performance("m", np.zeros(4), np.array([1, 2, INF, NAN]), intervals.NOTHING, 0.0, 0.0)
    assert item.share([0.5, 1, 2, 100]).tolist() == pytest.approx([0, 1 / 3, 2 / 3, 2 / 3])


@pytest.mark.parametrize("r_max", [1.0, 0.0, INF, NAN])
def test_a_largest_ratio_that_is_none_is_refused(r_max):
    with pytest.raises(ValueError, match="r_max must be a finite number above 1"):
        points_of(np.ones(2), r_max=r_max)


def test_the_interval_of_the_score_speaks_of_tasks():
    found = score(np.array([1.0, 0.5, 0.0]))
    assert (found.value, found.n, found.method) == (0.5, 3, "Wilson, 3 tasks")
    assert (found.low, found.high) == pytest.approx(intervals.wilson(1.5, 3))
    assert score(np.array([1.0])).method == "Wilson, 1 task"
    assert score(np.array([NAN])).n == 0


def drawn(kind, rng, n):
    ratio = np.exp(np.abs(rng.normal(0, 0.6, n)))
    if kind == "fastest mostly":
        ratio = np.where(rng.random(n) < 0.7, 1.0, ratio)
    if kind == "never mostly":
        ratio = np.where(rng.random(n) < 0.7, INF, ratio)
    return points_of(ratio)


@pytest.mark.parametrize("kind", ["skewed", "fastest mostly", "never mostly"])
@pytest.mark.parametrize("tasks", [3, 6, 20])
def test_the_interval_covers_over_tasks_and_t_would_not(kind, tasks):
    """The larger of both errors is .00 to .03; t over 3 to 12 tasks errs in .07 to .11 with skewed ratios."""
    rng, repeats = np.random.default_rng(23), 1000
    true = drawn(kind, rng, 1_000_000).mean()
    wrong = np.zeros((2, 2))
    for _ in range(repeats):
        area = drawn(kind, rng, tasks)
        found = score(area)
        half = stats.t.ppf(0.975, tasks - 1) * area.std(ddof=1) / np.sqrt(tasks)
        for row, (low, high) in enumerate(((found.low, found.high), (area.mean() - half, area.mean() + half))):
            wrong[row] += true < low, true > high
    assert wrong[0].max() / repeats <= 0.05
    if kind == "skewed" and tasks < 20:
        assert wrong[1].max() / repeats > 0.06


# Costs of runs


@pytest.fixture(scope="module")
def timed(build, with_history):
    """A function making `Results`: {task: {method: step of the first success per point}}; inf never, None no row."""

    def make(times) -> Results:
        methods = tuple(next(iter(times.values())))
        count = len(next(iter(times[next(iter(times))].values())))
        base = build(tasks=tuple(times), methods=methods, confirmatory=(), replicates=1, points=count)
        flat = [time for task in times.values() for those in task.values() for time in those]
        exists = np.array([time is not None for time in flat])
        ends = np.array([1.0 if time in (None, INF) else 0.1 for time in flat])
        trials = base.trials.assign(status="completed", primary=ends)[exists]
        histories = {
            trial_id: [0.1 if time <= 100 * (i + 1) else 1.0 for i in range(10)]
            for trial_id, time in zip(base.plan["trial_id"], flat, strict=True)
            if time is not None
        }
        return with_history(Results("timed", base.plan, trials, (), None), histories)

    return make


def test_the_cost_is_the_median_time_of_the_best_of_some(timed):
    # the best of one configuration: the smallest time that half of the trials have met
    times = {"one": {"ns": [100, 200, 300, 400], "ns+gp1": [400, 400, INF, INF]}}
    slow, fast = performance(timed(times), tries=1)[::-1]
    assert (fast.method, fast.costs.tolist(), fast.ratios.tolist()) == ("ns", [200], [1])
    assert (slow.costs.tolist(), slow.ratios.tolist()) == ([400], [2])
    assert slow.score.value == pytest.approx(2 / 3)
    # of two: the quantile 1 - sqrt(1/2) = .29, the second of four for ns and the first of gp1
    assert [item.costs.tolist() for item in performance(timed(times), tries=2)] == [[200], [400]]
    # of five .13: the fastest
    assert [item.costs.tolist() for item in performance(timed(times))] == [[100], [400]]
    assert performance(timed(times))[1].score.value == 0


def test_the_cost_is_the_median_of_many_searches(timed):
    rng = np.random.default_rng(5)
    times = (rng.integers(1, 11, 64) * 100).astype(float)
    times[rng.random(64) < 0.7] = INF
    (found,) = performance(timed({"one": {"ns": list(times)}}), tries=5)
    best = np.min(rng.choice(times, (20_000, 5)), axis=1)
    assert np.mean(best <= found.costs[0]) >= 0.49
    assert np.mean(best < found.costs[0]) <= 0.51


def test_a_task_that_was_never_solved_stays_in_the_denominator(timed):
    times = {"one": {"ns": [100, 100], "ns+gp1": [100, 100]}, "two": {"ns": [INF, INF], "ns+gp1": [200, 200]}}
    found = performance(timed(times))
    assert [item.score.value for item in found] == [0.5, 1.0]
    assert found[0].ratios.tolist() == [1, INF]


def test_undecided_trials_are_in_no_cost_and_show_in_bounds(timed):
    times = {"one": {"ns": [200, None], "ns+gp1": [400, 400]}}
    ns, gp1 = performance(timed(times), tries=1)
    assert (ns.costs.tolist(), gp1.costs.tolist()) == ([200], [400])
    # at once: ns costs 0, and the other is no multiple of it; never: half of the trials are still there at 200
    assert (ns.worst, ns.best) == (1.0, 1.0)
    assert (gp1.worst, gp1.best) == (0.0, pytest.approx(2 / 3))
    whole = performance(timed({"one": {"ns": [200, 200], "ns+gp1": [400, 400]}}), tries=1)
    assert [(item.worst, item.best) for item in whole] == [(item.score.value,) * 2 for item in whole]


def test_meeting_the_threshold_counts_though_a_trial_breaks_later(timed):
    results = timed({"one": {"ns": [200, INF, 300]}})
    trials = results.trials.assign(status=["diverged", "diverged", "oom"], primary=[NAN] * 3)
    methods, found = reached(dataclasses.replace(results, trials=trials), "one")
    assert methods.tolist() == ["ns"] * 3
    assert found.values.tolist() == [200, INF, 300]


def test_a_stopped_trial_is_undecided_whether_it_had_met_the_threshold_or_not(timed):
    """To count only those that had would make a method faster the earlier its trials are stopped."""
    results = timed({"one": {"ns": [200, INF, 300, 400], "ns+gp1": [400] * 4}})
    status = ["stopped", "stopped", "completed", "completed", *["completed"] * 4]
    primary = np.where(np.array(status) == "stopped", NAN, results.trials["primary"])
    stopped = dataclasses.replace(results, trials=results.trials.assign(status=status, primary=primary))
    np.testing.assert_array_equal(reached(stopped, "one")[1].values[:4], [NAN, NAN, 300, 400])
    ns, gp1 = performance(stopped, tries=1)
    assert (ns.costs.tolist(), gp1.costs.tolist()) == ([300], [400])
    # at once: half of ns are there at 0, and the other is no multiple of it; never: half of ns are there at 400
    assert (ns.worst, ns.best) == (1.0, 1.0)
    assert (gp1.worst, gp1.best) == (0.0, 1.0)
    assert gp1.score.value == pytest.approx((4 - 4 / 3) / 3)


def test_a_trial_that_is_still_running_is_undecided_too(timed):
    results = timed({"one": {"ns": [200, INF, 300]}})
    running = dataclasses.replace(results, trials=results.trials.iloc[1:])
    np.testing.assert_array_equal(reached(running, "one")[1].values, [NAN, INF, 300])


def test_runs_answer_with_a_table_and_a_plot(timed):
    times = {"one": {"ns": [100] * 8, "ns+gp1": [200] * 8}, "two": {"ns": [INF] * 8, "ns+gp1": [200] * 8}}
    runs = Runs({"a": timed(times)})
    answer = runs.performance_score()
    frame = answer.frame().set_index(["method", "task"])
    assert frame.loc[("ns", "all tasks"), "score"] == 0.5
    assert frame.loc[("ns+gp1", "one"), ["cost", "ratio", "score"]].tolist() == pytest.approx([200, 2, 2 / 3])
    assert answer.plot().has_data()
    alone = runs.performance_score("ns+gp1")
    assert [item.method for item in alone.items] == ["ns+gp1"]
    assert alone.items[0].ratios.tolist() == [2, 1]  # to the fastest of all, shown or not
    assert runs.performance_score(r_max=2.0).items[1].score.value == 0.5
    assert runs.performance_score(unit="updates").items[0].costs.tolist() == [200, INF]


def test_the_order_of_rows_does_not_matter(timed):
    results = timed({"one": {"ns": [100, INF, 300, 400], "ns+gp1": [200, 200, INF, INF]}})
    shuffled = dataclasses.replace(results, trials=results.trials.sample(frac=1, random_state=3))
    first, second = (Runs({"a": found}).performance_score().frame() for found in (results, shuffled))
    assert first.equals(second)


def test_nothing_decided_and_all_failed_are_answers(timed):
    nothing = timed({"one": {"ns": [None, None, 100], "ns+gp1": [None, None, None]}})
    items = Runs({"a": nothing}).performance_score().items
    assert np.isnan(items[1].score.value)
    assert (items[1].worst, items[1].best) == (0.0, 1.0)
    failed = timed({"one": {"ns": [INF, INF], "ns+gp1": [INF, INF]}})
    assert [item.score.value for item in Runs({"a": failed}).performance_score().items] == [0, 0]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tries": 0}, "tries = 0: a search tries at least 1 configuration"),
        ({"r_max": 1.0}, "r_max = 1.0: the ratio that scores nothing is a finite number above 1"),
        ({"unit": "hours"}, "unknown unit 'hours': choose from discriminator_steps, gen"),
    ],
)
def test_a_wrong_number_is_one_sentence(timed, options, words):
    runs = Runs({"a": timed({"one": {"ns": [100, 200]}})})
    with pytest.raises(UserError, match=words):
        runs.performance_score(**options)
    with pytest.raises(UserError, match="unknown method 'gan': choose from ns"):
        runs.performance_score("gan")


def test_without_a_history_and_of_chosen_configurations_there_is_none(timed, build):
    with pytest.raises(UserError, match="there is no performance score: no history says"):
        Runs({"a": build()}).performance_score()
    results = timed({"one": {"ns": [100, 200]}})
    adaptive = dataclasses.replace(results, plan=results.plan.assign(sampler="tpe"))
    with pytest.raises(UserError, match="there is no performance score: the configurations were chosen by tpe"):
        Runs({"a": adaptive}).performance_score()

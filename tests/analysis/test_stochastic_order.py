import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis import intervals
from analysis import stochastic_order as module
from analysis.collection import Runs
from analysis.outcomes import Sample
from analysis.pairing import Pairs
from analysis.stochastic_order import ahead, of_pairs, stochastic_order, violation
from study.errors import UserError

scores = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=30)


def array(values):
    return np.array(values, dtype=float)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ([3, 4], [1, 2], 0),  # ahead at both quantiles
        ([1, 2], [3, 4], 1),
        ([1, 4], [2, 3], 0.5),  # gaps -1 and 1: 1 / (1 + 1)
        ([0, 5, 10], [1, 2, 3], 1 / 59),  # gaps -1, 3, 7: 1 / (1 + 9 + 49)
        ([2, 1], [1, 2], 0.5),  # equal samples, by convention
    ],
)
def test_the_violation_by_hand(first, second, expected):
    assert violation(array(first), array(second)) == pytest.approx(expected)


def slowly(first, second):
    """An integral over t of the squared difference of two quantile functions, step by step."""
    n, whole, against = len(first), 0.0, 0.0
    for i in range(n):
        t = (i + 0.5) / n
        a, b = (min(y for y in side if np.mean([x <= y for x in side]) >= t) for side in (first, second))
        whole += (a - b) ** 2 / n
        against += (a - b) ** 2 / n * (a < b)
    return against / whole if whole > 1e-24 else 0.5


@settings(deadline=None)
@given(scores)
def test_the_violation_is_the_integral_over_quantiles(rows):
    a, b = (array(side) for side in zip(*rows, strict=True))
    assert violation(a, b) == pytest.approx(slowly(a, b), abs=1e-9)


@given(scores)
def test_both_orders_share_the_distance_between_them(rows):
    a, b = (array(side) for side in zip(*rows, strict=True))
    assert violation(a, b) + violation(b, a) == pytest.approx(1)
    assert 0 <= violation(a, b) <= 1


@given(scores, st.integers(0, 29))
def test_a_failure_of_the_first_never_helps_it_where_it_was_ahead(rows, place):
    a, b = (array(side) for side in zip(*rows, strict=True))
    b = np.minimum(a, b)  # the first is ahead everywhere
    worse = a.copy()
    worse[place % len(a)] = 0.0
    assert violation(worse, b) >= violation(a, b) or np.array_equal(np.sort(a), np.sort(b))


def test_many_samples_at_once_are_each_by_itself():
    a, b = np.random.default_rng(0).random((2, 4, 9))
    assert violation(a, b) == pytest.approx([float(violation(x, y)) for x, y in zip(a, b, strict=True)])


@pytest.mark.parametrize("sides", [([1.0], [1.0, 2.0]), ([], [])])
def test_samples_of_other_sizes_are_refused(sides):
    with pytest.raises(ValueError, match="two samples of one size are compared"):
        violation(*map(array, sides))


def found(first, second, seed=0):
    return stochastic_order(array(first), array(second), rng=np.random.default_rng(seed))


def test_the_interval_joins_percentiles_and_the_normal_bound(monkeypatch):
    """A slow loop over the same resamples."""
    monkeypatch.setattr(module, "RESAMPLES", 200)
    rng = np.random.default_rng(3)
    a, b = rng.random((2, 30))
    ours = found(a, b, seed=5)
    order, draws, each = np.lexsort((b, a)), np.random.default_rng(5), []
    for _ in range(200):
        rows = order[draws.integers(0, 30, size=30, dtype=np.int64)]
        each.append(slowly(a[rows], b[rows]))
    half = 1.959964 * np.std(each, ddof=1)
    below, above = np.quantile(each, [0.025, 0.975])
    assert ours.value == pytest.approx(slowly(a, b))
    assert ours.low == pytest.approx(max(0, min(below, ours.value - half)), abs=1e-6)
    assert ours.high == pytest.approx(min(1, max(above, ours.value + half)), abs=1e-6)
    assert ours.method == "bootstrap over 30 points, joined with its normal bound"


def test_chunks_are_as_one(monkeypatch):
    a, b = np.random.default_rng(3).random((2, 50))
    at_once = found(a, b)
    monkeypatch.setattr(module, "CELLS", 10_000)
    assert found(a, b) == at_once


def test_the_order_of_points_does_not_matter():
    rng = np.random.default_rng(2)
    a, b = rng.random((2, 40))
    order = rng.permutation(40)
    assert found(a, b) == found(a[order], b[order])


@pytest.mark.parametrize(
    ("first", "second", "value", "why"),
    [
        ([], [], np.nan, "no trials"),
        ([0.5], [0.2], 0.0, "no interval: 1 point"),
        ([0.0] * 30, [0.0] * 30, 0.5, "no interval: fewer than 10 of 30 points differ from the most common"),
        ([0.0] * 30, [1.0] * 30, 1.0, "no interval: fewer than 10 of 30 points differ from the most common"),
    ],
)
def test_too_little_has_no_interval(first, second, value, why):
    ours = found(first, second)
    np.testing.assert_equal(ours.value, value)
    assert np.isnan([ours.low, ours.high]).all()
    assert ours.method == why
    assert ahead(ours, "a", "b") == "undecided"


def test_a_points_trials_are_averaged_and_a_failure_scores_nothing():
    # points 0 and 1, two trials each: utilities of 1, inf, 100, 10 with anchors 1 and 100 are 1, 0, 0, .5
    points, zeros = np.array([0, 0, 1, 1]), np.zeros(4, dtype=np.int64)
    sides = [array([1, np.inf, 100, 10]), array([10, 10, 10, np.nan])]
    pairs = Pairs(*(Sample(side, zeros, points) for side in sides), 0, 0, 0)
    # the undecided pair goes: means .5 and 0 against .5 and .5, sorted gaps -.5 and 0
    ours = of_pairs(pairs, low=1.0, high=100.0, rng=np.random.default_rng(0))
    assert (ours.value, ours.n) == (1.0, 2)


def law(rng, n, shared, *, shift=0.0):
    """Scores of two methods with configurations in common as far as `shared` says; a fifth fails."""
    level = shared * rng.normal(size=n)
    sides = [0.5 + 0.15 * (level + rng.normal(size=n)) for _ in range(2)]
    sides[0] += shift
    return [np.where(rng.random(n) < 0.2, 0.0, np.clip(side, 0, 1)) for side in sides]


def readings(shared, shift, repeats):
    rng = np.random.default_rng(17)
    return [ahead(found(*law(rng, 64, shared, shift=shift), seed=1), "first", "second") for _ in range(repeats)]


@pytest.mark.parametrize("shared", [0.0, 1.5])
def test_false_alarms_of_equal_methods(monkeypatch, shared):
    """Two equal methods: in .04 to .08 of sweeps one is called ahead, where 2.5 % at either end are meant."""
    monkeypatch.setattr(module, "RESAMPLES", 300)
    said = readings(shared, 0.0, 400)
    assert np.mean([word != "undecided" for word in said]) <= 0.08 + 3 * np.sqrt(0.08 * 0.92 / 400)


def test_the_published_bound_alone_would_alarm_far_more_often(monkeypatch):
    monkeypatch.setattr(module, "RESAMPLES", 300)
    rng, alarms = np.random.default_rng(19), 0
    for _ in range(300):
        a, b = law(rng, 64, 0.0)
        drawn = module._resampled(a, b, rng)
        alarms += abs(float(violation(a, b)) - 0.5) > 1.96 * drawn.std(ddof=1)
    assert alarms / 300 > 0.12


def test_a_method_that_is_ahead_is_found(monkeypatch):
    monkeypatch.setattr(module, "RESAMPLES", 300)
    said = readings(1.5, 0.2, 100)
    assert said.count("first") > 60
    assert said.count("second") == 0


# Asked of runs


def test_runs_answer_with_a_table_and_a_plot(build):
    runs = Runs({"a": build()})
    answer = runs.stochastic_order("ns+gp1", "ns")
    (row,) = answer.frame().to_dict("records")
    (item,) = answer.items
    assert (row["violation"], row["low"], row["high"], row["points"]) == (item.value, item.low, item.high, 32)
    assert row["ahead"] in ("ns+gp1", "ns", "undecided")
    assert answer.plot().has_data()
    other = runs.stochastic_order("ns", "ns+gp1").items[0]
    assert other.value == pytest.approx(1 - item.value)
    again = runs.stochastic_order("ns+gp1", "ns", rng=np.random.default_rng(module.SEED)).items[0]
    assert again == item


def test_almost_nothing_and_all_failed_are_answers(build, replaced):
    for results in (build(keep=0), build(keep=1), replaced(build(), "diverged", np.nan)):
        answer = Runs({"a": results}).stochastic_order("ns+gp1", "ns")
        assert answer.frame()["ahead"].tolist() == ["undecided"]
        assert answer.plot() is not None


def test_configurations_chosen_by_results_and_unknown_methods_are_refused(build):
    results = build()
    adaptive = dataclasses.replace(results, plan=results.plan.assign(sampler="tpe"))
    with pytest.raises(UserError, match="there is no stochastic order: the configurations were chosen by tpe"):
        Runs({"a": adaptive}).stochastic_order("ns+gp1", "ns")
    with pytest.raises(UserError, match="unknown method of manifold-d2 'gan'"):
        Runs({"a": results}).stochastic_order("ns+gp1", "gan")


def test_a_reading_needs_the_whole_interval_on_one_side():
    for low, high, word in ((0.0, 0.4, "a"), (0.6, 1.0, "b"), (0.4, 0.6, "undecided")):
        assert ahead(dataclasses.replace(intervals.NOTHING, low=low, high=high), "a", "b") == word

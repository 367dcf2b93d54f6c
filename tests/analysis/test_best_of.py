import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from analysis import budgets
from analysis.best_of import assignments, best_of, pseudo_values
from analysis.outcomes import Sample
from analysis.pairing import Pairs


def joined(size, points=None):
    values = np.ones(size)
    at = np.arange(size) if points is None else np.asarray(points, dtype=np.int64)
    sample = Sample(values, np.zeros(size, dtype=np.int64), at)
    return Pairs(sample, sample, 0, 0, 0)


def every_choice(scores, size):
    return np.mean([max(choice) for choice in itertools.combinations(scores, size)])


def test_the_expected_best_of_two_of_three_by_hand():
    """Scores 0, .4, 1: the pairs' best are .4, 1, 1, mean .8; without the 1 it is .4, without another 1."""
    found = pseudo_values(np.array([0.4, 1.0, 0.0]), 2)
    np.testing.assert_allclose(found, [3 * 0.8 - 2 * 1.0, 3 * 0.8 - 2 * 0.4, 3 * 0.8 - 2 * 1.0])
    assert found.mean() == pytest.approx(0.8)


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), min_size=2, max_size=7), st.integers(1, 6))
def test_pseudo_values_are_those_of_leaving_out_each_point(scores, size):
    if size >= len(scores):
        size = len(scores) - 1
    whole, n = every_choice(scores, size), len(scores)
    without = [every_choice(scores[:i] + scores[i + 1 :], size) for i in range(n)]
    found = pseudo_values(np.array(scores), size)
    np.testing.assert_allclose(found, [n * whole - (n - 1) * left for left in without], atol=1e-9)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60), st.integers(1, 60))
def test_their_mean_is_the_expected_best(scores, size):
    size = min(size, len(scores))
    expected = -budgets.expected_best([-score for score in scores], size)
    assert pseudo_values(np.array(scores), size).mean() == pytest.approx(expected, abs=1e-9)


def test_the_best_of_all_is_the_best():
    np.testing.assert_array_equal(pseudo_values(np.array([0.2, 0.9, 0.5]), 3), [0.9] * 3)


def test_both_sides_and_their_difference():
    rng = np.random.default_rng(1)
    a, b = rng.random((2, 80))
    found = best_of(joined(80), a, b, 5)
    assert found.first == pytest.approx(-budgets.expected_best(-a, 5))
    assert found.second == pytest.approx(-budgets.expected_best(-b, 5))
    assert found.difference.value == pytest.approx(found.first - found.second)
    assert found.difference.low < found.difference.value < found.difference.high
    assert found.difference.p_value is None
    mirrored = best_of(joined(80), b, a, 5).difference
    assert (mirrored.low, mirrored.high) == pytest.approx((-found.difference.high, -found.difference.low))


@pytest.mark.parametrize(("points", "size", "ends"), [(80, 5, True), (79, 5, False), (8, 1, True), (7, 1, False)])
def test_an_interval_takes_sixteen_points_per_configuration(points, size, ends):
    a, b = np.random.default_rng(2).random((2, points))
    found = best_of(joined(points), a, b, size)
    assert np.isfinite(found.difference.low) == ends
    assert np.isfinite(found.first)
    assert ends or found.difference.method == f"no interval below {80 if size == 5 else 8} points"


def test_fewer_points_than_configurations_have_no_best():
    found = best_of(joined(4), np.ones(4), np.zeros(4), 5)
    assert np.isnan([found.first, found.second, found.difference.value]).all()
    assert found.difference.method == "fewer than 5 points"


def test_two_seeds_of_a_point_are_never_two_tries():
    """Points (0, 1), (.5, .5): of two tries both points, once with the 0 and once with the 1: (.5 + 1) / 2."""
    scores = np.array([0.0, 1.0, 0.5, 0.5])
    assert best_of(joined(4, points=[0, 0, 1, 1]), scores, scores, 2).first == pytest.approx(0.75)


@pytest.mark.parametrize("held", [[2] * 40, [1] * 10, [3, 3, 3]])
def test_assignments_take_one_trial_of_each_point_equally_often(held):
    index = np.repeat(np.arange(len(held)), held)
    rows = assignments(index)
    np.testing.assert_array_equal(index[rows], np.tile(np.arange(len(held)), (len(rows), 1)))
    counts = np.bincount(rows.ravel(), minlength=len(index))
    assert (counts == counts[0]).all()


def test_assignments_mix_seeds_among_points():
    rows = assignments(np.repeat(np.arange(256), 2)) % 2
    assert 0.35 < rows.mean(axis=1).min() <= rows.mean(axis=1).max() < 0.65


def scores_of(rng, n):
    """Two methods with a common level; failures score 0."""
    level = rng.normal(0, 1, n)
    sides = []
    for middle, failing in ((0.08, 0.15), (0.13, 0.3)):
        y = np.exp(np.log(middle) + level + rng.normal(0, 0.5, n))
        score = np.clip(np.log(2 / np.clip(y, 0.02, 2)) / np.log(100), 0, 1)
        sides.append(np.where(rng.random(n) < failing, 0.0, score))
    return sides


@pytest.mark.parametrize(("points", "size", "repeats"), [(80, 5, 400), (400, 25, 150)])
def test_no_end_of_the_difference_errs_more_often_than_promised(points, size, repeats):
    rng = np.random.default_rng(7)
    many = scores_of(rng, 400_000)
    chunks = [side.reshape(-1, 2000) for side in many]
    truth = np.mean(
        [pseudo_values(a, size).mean() - pseudo_values(b, size).mean() for a, b in zip(*chunks, strict=True)]
    )
    found = [best_of(joined(points), *scores_of(rng, points), size).difference for _ in range(repeats)]
    most = stats.binom.ppf(1 - 1e-4, repeats, 0.025)
    assert sum(one.high < truth for one in found) <= most
    assert sum(one.low > truth for one in found) <= most

"""Contrasts: their intervals are those of `intervals`, and the p of a value is the level at which they reach it."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from analysis import intervals
from analysis.contrasts import Numbers, averaged, best, bootstrapped, contrast, quartile_range
from analysis.outcomes import Sample


def numbers(*arms, replicates=None, points=None, undecided=None) -> Numbers:
    values = np.array(arms, dtype=float)
    size = values.shape[1]
    place = Sample(
        np.zeros(size),
        np.zeros(size, dtype=np.int64) if replicates is None else np.asarray(replicates),
        np.arange(size) if points is None else np.asarray(points),
    )
    missing = np.zeros(values.shape, dtype=bool) if undecided is None else np.asarray(undecided)
    return Numbers(values, missing, contrast(len(arms)), place)


def test_how_methods_enter():
    assert contrast(1).tolist() == [1.0]
    assert contrast(2).tolist() == [1.0, -1.0]
    assert contrast(4).tolist() == [1.0, -1.0, -1.0, 1.0]


def test_an_interaction_by_hand():
    # (.9 - .5) - (.6 - .4) = .2 on the first point, (.5 - .5) - (.3 - .5) = .2 on the second, mean .2
    found = averaged(numbers([0.9, 0.5], [0.5, 0.5], [0.6, 0.3], [0.4, 0.5]), 0, 1, proportion=False)
    assert found.estimate.value == pytest.approx(0.2)


def test_seeds_are_averaged_inside_a_point_first():
    # point 0 holds .2 and .4, mean .3; point 1 holds .9: the mean is .6, not .5
    found = averaged(numbers([0.2, 0.4, 0.9], points=[0, 0, 1]), 0, 1, proportion=False)
    assert found.estimate.value == pytest.approx(0.6)
    assert found.estimate.n == 2


def test_a_difference_of_means_is_student_s():
    first, second = np.tile([0.1, 0.4, 0.7, 0.2, 0.6], 24), np.tile([0.3, 0.1, 0.5, 0.2, 0.1], 24)
    found = averaged(numbers(first, second), 0, 1, proportion=False)
    assert found.p_value(0.12) == pytest.approx(stats.ttest_1samp(first - second, 0.12).pvalue)
    low, high = stats.ttest_1samp(first - second, 0.0).confidence_interval()
    assert (found.estimate.low, found.estimate.high) == pytest.approx((low, high))


def test_a_range_of_two_gives_the_same_t_as_a_range_of_one():
    first, second = np.tile([-0.9, 0.4, 0.7, -0.2], 40), np.tile([0.3, -0.8, 0.5, 0.2], 40)
    found = averaged(numbers(first, second), -1, 1, proportion=False)
    assert found.p_value(0.3) == pytest.approx(stats.ttest_1samp(first - second, 0.3).pvalue)


def test_a_share_is_clopper_and_pearson_s_and_its_p_that_of_the_binomial_test():
    found = averaged(numbers([1.0] * 7 + [0.0] * 3), 0, 1, proportion=True)
    exact = stats.binomtest(7, 10).proportion_ci(method="exact")
    assert (found.estimate.low, found.estimate.high) == pytest.approx((exact.low, exact.high))
    assert found.p_value(0.4) == pytest.approx(2 * stats.binom.sf(6, 10, 0.4))
    assert found.p_value(0.7) == 1.0
    assert averaged(numbers([0.0] * 10), 0, 1, proportion=True).p_value(0.0) == 1.0


def test_no_variance_is_not_taken_for_no_uncertainty():
    # Tango for 10 equal differences of .2, as 2 of 10 up and none down; McNemar at 0: (2 - 0)^2 / (2 + 0) = 2
    found = averaged(numbers([0.7] * 10, [0.5] * 10), 0, 1, proportion=False)
    assert found.estimate.method.startswith("Tango")
    assert found.p_value(0.0) == pytest.approx(stats.chi2.sf(2, 1))
    # up from .2 it is the score test of the share 2 of 10: against .5, z = .3 / sqrt(.5 * .5 / 10)
    assert found.p_value(0.5) == pytest.approx(2 * stats.norm.sf(0.3 / math.sqrt(0.025)))


def test_a_number_between_minus_one_and_one_is_judged_as_a_share_of_that_range():
    # 12 numbers of .5 in [-1, 1] are .75 of the range: Wilson of 9 of 12, stretched
    found = averaged(numbers([0.5] * 12), -1, 1, proportion=False)
    low, high = intervals.wilson(9, 12)
    assert (found.estimate.low, found.estimate.high) == pytest.approx((2 * low - 1, 2 * high - 1))
    assert found.p_value(2 * low - 1) == pytest.approx(0.05)


def test_nothing_decided_is_no_number():
    found = averaged(numbers(np.empty(0), np.empty(0)), 0, 1, proportion=True)
    assert math.isnan(found.estimate.value)
    assert found.p_value(0.0) == 1.0


KINDS = {
    "share": (1, True, 0.0, 1.0),
    "mean": (1, False, 0.0, 1.0),
    "correlation": (1, False, -1.0, 1.0),
    "difference of shares": (2, True, 0.0, 1.0),
    "difference": (2, False, 0.0, 1.0),
    "difference of correlations": (2, False, -1.0, 1.0),
    "interaction": (4, False, 0.0, 1.0),
}


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
@settings(deadline=None)
def test_p_is_five_percent_exactly_where_the_interval_ends(kind, data):
    arms, proportion, low, high = KINDS[kind]
    size = data.draw(st.integers(2, 24))
    values = st.sampled_from([low, high]) if proportion else st.floats(low, high)
    given_ = [data.draw(st.lists(values, min_size=size, max_size=size)) for _ in range(arms)]
    replicates = np.arange(size) % data.draw(st.sampled_from([1, 8]))
    found = averaged(numbers(*given_, replicates=replicates), low, high, proportion=proportion)
    estimate = found.estimate
    widest = (high - low) if arms == 1 else (high - low) * arms / 2
    bottom, top = (low, high) if arms == 1 else (-widest, widest)
    for end in (estimate.low, estimate.high):
        if bottom + 1e-9 < end < top - 1e-9 and abs(end - estimate.value) > 1e-6:
            assert found.p_value(end) == pytest.approx(0.05, rel=1e-3)
    assert found.p_value(estimate.value) == 1.0
    ladder = [found.p_value(estimate.value + step * widest) for step in (0.0, 0.1, 0.3, 0.9)]
    assert ladder == sorted(ladder, reverse=True)


def drawn(value: np.ndarray) -> np.ndarray:
    return np.arange(1, len(value) + 1)[None]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_the_quartile_range_is_that_of_the_inverted_distribution(scores):
    ordered = np.sort(scores)
    low, high = np.quantile(ordered, [0.25, 0.75], method="inverted_cdf")
    assert quartile_range(ordered, drawn(ordered))[0] == pytest.approx(high - low)


@given(st.lists(st.floats(0, 1), min_size=4, max_size=12), st.data())
def test_resamples_are_counted_as_if_they_were_drawn(scores, data):
    ordered = np.sort(scores)
    n = len(ordered)
    chosen = data.draw(st.lists(st.integers(0, n - 1), min_size=n, max_size=n))
    counts = np.cumsum(np.bincount(chosen, minlength=n))[None]
    resample = np.sort(ordered[chosen])
    assert quartile_range(ordered, counts)[0] == pytest.approx(quartile_range(resample, drawn(resample))[0])


def test_the_best_of_some_is_the_mean_over_all_draws():
    scores = np.random.default_rng(1).random((2, 9))
    drawn_ = [np.mean([max(draw) for draw in itertools.combinations(row, 3)]) for row in scores]
    assert best(numbers(scores[0]), 3).estimate.value == pytest.approx(drawn_[0])
    assert best(numbers(*scores), 3).estimate.value == pytest.approx(drawn_[0] - drawn_[1])


def test_the_best_of_one_is_the_mean():
    first, second = np.random.default_rng(3).random((2, 64))
    found = best(numbers(first, second), 1).estimate
    assert found == averaged(numbers(first, second), 0, 1, proportion=False).estimate


@pytest.mark.parametrize(("arms", "points", "given_"), [(1, 32, True), (1, 31, False), (2, 64, True), (2, 63, False)])
def test_the_best_of_some_takes_points_enough_for_each_of_them(arms, points, given_):
    found = best(numbers(*np.random.default_rng(0).random((arms, points))), 4)
    assert math.isnan(found.estimate.low) != given_
    assert given_ or found.estimate.method == f"no interval below {32 * arms} points"
    assert given_ or found.p_value(0.0) == 1.0


def test_without_points_or_variance_the_best_has_no_interval():
    assert best(numbers(np.ones(3)), 4).estimate == intervals.NOTHING
    assert best(numbers(np.full(40, 0.5)), 2).estimate.method == "no variance"


@pytest.mark.parametrize("off", [9, 10])
def test_the_best_of_scores_that_are_nearly_all_zero_has_an_interval_from_ten_others_on(off):
    scores = np.r_[np.linspace(0.3, 1.0, off), np.zeros(64 - off)]
    found = best(numbers(scores), 4)
    assert math.isnan(found.estimate.low) == (off < 10)
    assert off == 10 or found.estimate.method == "no interval: fewer than 10 of 64 points differ from the most common"


def test_the_bootstrap_covers_and_its_p_agrees_with_its_interval():
    rng = np.random.default_rng(11)
    hits, agree, simulations = 0, 0, 150
    for _ in range(simulations):
        shared = rng.normal(size=64)
        scores = [1 / (1 + np.exp(-(shared + rng.normal(size=64)))) for _ in range(2)]
        found = bootstrapped(numbers(*scores), quartile_range, rng=rng)
        inside = found.estimate.low <= 0.0 <= found.estimate.high  # both methods have the same law
        hits += inside
        agree += inside == (found.p_value(0.0) >= 0.05)
    # 150 at .95: the binomial interval of .9999 begins at 131
    assert hits >= 131
    assert agree >= 0.97 * simulations


def test_without_points_there_is_nothing_to_resample():
    nothing = bootstrapped(numbers(np.empty(0)), quartile_range, rng=np.random.default_rng(0))
    assert nothing.estimate == intervals.NOTHING


def test_what_is_undecided_can_be_filled_from_both_sides():
    given_ = numbers([0.2, np.nan], [np.nan, 0.6], undecided=[[False, True], [True, False]])
    assert given_.filled(0.0, 1.0).values.tolist() == [[0.2, 0.0], [1.0, 0.6]]
    assert given_.filled(1.0, 0.0).values.tolist() == [[0.2, 1.0], [0.0, 0.6]]
    assert given_.known().values.shape == (2, 0)

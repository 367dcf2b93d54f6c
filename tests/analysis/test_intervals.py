"""Expected numbers are worked out by hand or from the published tables named beside them."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from analysis import intervals
from analysis.outcomes import Points

FALSE_ALARM = 1e-6
"""Chance that a coverage test fails although the interval covers as it should, with a fresh seed."""


def points(values, replicates=None):
    values = np.asarray(values, dtype=float)
    return Points(values, np.zeros(len(values), dtype=np.int64) if replicates is None else np.asarray(replicates))


def replicated(means, size=1):
    """Points of which each replicate has `size`, all equal to the replicate's mean."""
    return points(np.repeat(means, size), np.repeat(np.arange(len(means)), size))


def covers(hits, of, *, alternative="two-sided"):
    return stats.binomtest(hits, of, intervals.LEVEL, alternative=alternative).pvalue > FALSE_ALARM


@pytest.mark.parametrize(
    ("k", "n", "low", "high"),
    [
        (7, 10, 0.396778, 0.892209),
        (0, 10, 0.0, 0.277533),
        (10, 10, 0.722467, 1.0),
        (50, 100, 0.403832, 0.596168),
        (3, 64, 0.016069, 0.128997),
    ],
)
def test_wilson(k, n, low, high):
    assert intervals.wilson(k, n) == pytest.approx((low, high), abs=5e-7)


def test_wilson_touches_the_ends_exactly():
    assert intervals.wilson(0, 7)[0] == 0.0
    assert intervals.wilson(7, 7)[1] == 1.0


def test_wilson_takes_fractional_counts_between_whole_ones():
    low, middle, high = (intervals.wilson(k, 10) for k in (3, 3.5, 4))
    assert low[0] < middle[0] < high[0]
    assert low[1] < middle[1] < high[1]


@pytest.mark.parametrize(("k", "n"), [(1, 0), (-1, 5), (6, 5)])
def test_wilson_refuses_what_is_no_proportion(k, n):
    with pytest.raises(ValueError, match=f"got {k} of {n}"):
        intervals.wilson(k, n)


@pytest.mark.parametrize(("p", "coverage"), [(0.05, 0.94), (0.02, 0.98)])
def test_wilson_covers_exactly_as_tabulated_at_thirty(p, coverage):
    inside = [k for k in range(31) if intervals.wilson(k, 30)[0] <= p <= intervals.wilson(k, 30)[1]]
    assert stats.binom.pmf(inside, 30, p).sum() == pytest.approx(coverage, abs=0.005)


@pytest.mark.parametrize(("n", "epsilon"), [(10, 0.429469), (32, 0.240081), (64, 0.169763), (100, 0.135810)])
def test_dkw(n, epsilon):
    """sqrt(ln 40 / 2n), with ln 40 = 3.688879."""
    assert intervals.dkw(n) == pytest.approx(epsilon, abs=5e-7)


def test_dkw_needs_185_points_for_a_tenth():
    assert next(n for n in range(1, 1000) if intervals.dkw(n) <= 0.10) == 185


def test_hoeffding_by_hand():
    assert intervals.hoeffding(8) == pytest.approx(math.sqrt(math.log(40) / 16))
    assert intervals.hoeffding(8, width=2) == pytest.approx(2 * intervals.hoeffding(8))


def likelihood_score(up, down, n, gap):
    """Tango's score with the likeliest share of -1 found by a search instead of the quadratic's root."""

    def against(share):
        chances = share + gap, share, 1 - 2 * share - gap
        counts = up, down, n - up - down
        return -sum(k * math.log(max(p, 1e-300)) for k, p in zip(counts, chances, strict=True) if k > 0)

    bounds = max(0.0, -gap), (1 - gap) / 2
    share = optimize.minimize_scalar(against, bounds=bounds, method="bounded", options={"xatol": 1e-12}).x
    return ((up - down) / n - gap) / math.sqrt((2 * share + gap * (1 - gap)) / n)


@pytest.mark.parametrize(("up", "down", "n"), [(7, 2, 40), (1, 1, 20), (3, 8, 64), (2.5, 1.5, 30), (20, 4, 30)])
def test_tango_ends_where_the_score_of_the_likelihood_does(up, down, n):
    low, high = intervals.tango(up, down, n)
    z = stats.norm.ppf(0.975)
    assert likelihood_score(up, down, n, low) == pytest.approx(z, abs=1e-4)
    assert likelihood_score(up, down, n, high) == pytest.approx(-z, abs=1e-4)


def test_tango_without_disagreement_by_hand():
    # n g^2 = z^2 g (1 - g) at the upper end: g = z^2 / (n + z^2)
    z_2 = stats.norm.ppf(0.975) ** 2
    assert intervals.tango(0, 0, 64) == pytest.approx((-z_2 / (64 + z_2), z_2 / (64 + z_2)))


@pytest.mark.parametrize("up", [1, 3, 9, 12])
def test_tango_with_one_direction_ends_at_wilson_s_outer_end(up):
    assert intervals.tango(up, 0, 12)[1] == pytest.approx(intervals.wilson(up, 12)[1])
    assert intervals.tango(0, up, 12)[0] == pytest.approx(-intervals.wilson(up, 12)[1])


def test_tango_at_zero_is_mcnemar_s_test():
    # (7 - 2)^2 / (7 + 2) = 25 / 9 as a chi-square of one degree of freedom, whatever the number of pairs
    assert intervals.tango_p(7, 2, 40, 0.0) == pytest.approx(stats.chi2.sf(25 / 9, 1))


# ---- which interval decides


def test_eight_replicates_decide_by_t():
    found = intervals.proportion(replicated(np.arange(1, 9) / 10, size=4))
    half = 2.364624 * 0.2449490 / math.sqrt(8)  # t(.975, 7), standard deviation of .1 to .8
    assert (found.value, found.low, found.high) == pytest.approx((0.45, 0.45 - half, 0.45 + half), abs=1e-6)
    assert (found.n, found.method) == (32, "t over 8 replicates")


def test_seven_replicates_do_not():
    found = intervals.proportion(replicated([0.0, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0], size=2))
    assert found.method == "Wilson, 14 points"
    assert (found.low, found.high) == pytest.approx(intervals.wilson(10, 14))


def test_replicates_with_equal_means_do_not_decide_either():
    found = intervals.proportion(points([0.0, 1.0] * 8, np.repeat(np.arange(8), 2)))
    assert found.method == "Wilson, 16 points"
    assert intervals.bounded_mean(points([0.0, 1.0] * 8, np.repeat(np.arange(8), 2))).method == "t over 16 points"


def test_unequal_replicates_count_by_their_points():
    equal = replicated(np.arange(1, 9) / 10, size=2)
    fewer = points(equal.values[:-1], equal.replicates[:-1])
    found = intervals.bounded_mean(fewer)
    assert found.value == pytest.approx(fewer.values.mean())
    assert found.low < found.value < found.high


def test_a_mean_is_decided_by_t_over_points():
    found = intervals.bounded_mean(points([0.2, 0.4, 0.6]))
    half = 4.302653 * 0.2 / math.sqrt(3)  # t(.975, 2)
    assert (found.low, found.high) == pytest.approx((max(0, 0.4 - half), 0.4 + half), abs=1e-6)
    assert found.method == "t over 3 points"


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("count", [1, 8])
def test_no_variance_is_not_no_uncertainty(value, count):
    alike = replicated([value] * count)
    mean, share = intervals.bounded_mean(alike), intervals.proportion(alike)
    assert mean.method == f"Wilson, {intervals.counted(count)}"
    assert share.method == f"Wilson, {intervals.counted(count)}"
    assert mean.low < mean.high
    assert share.low < share.high
    assert mean.low >= 0
    assert mean.high <= 1


@pytest.mark.parametrize(("off", "believed"), [(9, False), (10, True)])
@pytest.mark.parametrize("count", [1, 8])
def test_a_variance_is_believed_from_ten_points_off_the_most_common_value(off, believed, count):
    values = np.r_[np.ones(off), np.zeros(64 - off)]
    spread = np.random.default_rng(0).permutation(64)
    replicates = np.arange(64) % count
    indicators = points(values[spread], replicates)
    student = "t over 8 replicates" if count == 8 else "t over 64 points"
    assert intervals.bounded_mean(indicators).method == (student if believed else "Wilson, 64 points")
    assert intervals.difference(indicators).method == (student if believed else "Tango, 64 points")
    share = intervals.proportion(indicators)
    assert share.method == (student if believed and count == 8 else "Wilson, 64 points")
    failing = intervals.proportion(points(1 - indicators.values, replicates))
    assert (failing.low, failing.high, failing.method) == pytest.approx((1 - share.high, 1 - share.low, share.method))


def test_of_fewer_than_twenty_points_half_have_to_differ():
    assert intervals.bounded_mean(points([0.5] * 4 + [0.1, 0.2, 0.3, 0.4])).method == "t over 8 points"
    assert intervals.bounded_mean(points([0.5] * 5 + [0.1, 0.2, 0.3])).method == "Wilson, 8 points"


def test_one_pair_of_64_that_disagrees_does_not_show_a_difference_below_five_percent():
    """t: -1/64 with half-width 2/64 (1.998 / 64), which ends above -.05. So few of 64 at a true .05: chance .126."""
    first, second = points(np.zeros(64)), points(np.eye(64)[0])
    assert stats.t.ppf(0.975, 63) / 64 < 0.05 - 1 / 64
    found = intervals.difference_of_proportions(first, second)
    assert found.method == "Tango, 64 points"
    assert found.low == pytest.approx(-intervals.wilson(1, 64)[1])
    assert found.low < -0.05
    assert found.p_value == pytest.approx(stats.chi2.sf(1, 1))  # McNemar: (0 - 1)^2 / 1


def test_student_s_p_needs_a_variance():
    with pytest.raises(ValueError, match="variance"):
        intervals.student_p(points([0.5] * 20), 0.4, low=0.0, high=1.0)


def test_what_points_can_miss_by_hand():
    # (1 - .25)^n = .025 needs n = ln .025 / ln .75 = 12.82; of 1 point, 97.5 % can be missed
    assert intervals.missed(1) == pytest.approx(0.975)
    assert intervals.missed(13) < 0.25 < intervals.missed(12)
    assert intervals.missed_p(2, 0.5) == pytest.approx(0.5)  # 2 (1 - .5)^2
    assert intervals.missed_p(100, intervals.missed(100)) == pytest.approx(0.05)


def test_scores_that_are_all_alike_do_not_rule_out_a_rare_failure():
    values = [0.79, 0.81] * 32  # t would end at .8 +- .0025
    found = intervals.bounded_mean(points(values))
    part = 1 - 0.025 ** (1 / 64)
    assert (found.low, found.high) == pytest.approx((0.8 - 0.8 * part, 0.8 + 0.2 * part))
    assert intervals.student_p(points(values), found.low, low=0.0, high=1.0) == pytest.approx(0.05)
    assert intervals.student_p(points(values), found.high, low=0.0, high=1.0) == pytest.approx(0.05)


def test_noise_around_a_common_value_does_not_make_a_variance():
    chance = np.random.default_rng(0)
    values = 0.8 + 0.01 * chance.standard_normal(64)
    values[:9] = 0.0
    assert not intervals.vary(values)
    values[9] = 0.0
    assert intervals.vary(values)


@pytest.mark.parametrize(("n", "replicates"), [(20, 1), (64, 1), (64, 8), (128, 8), (256, 1)])
@pytest.mark.parametrize("share", [0.02, 0.05, 0.1])
def test_rare_failures_among_like_scores_give_no_wrong_direction(n, replicates, share):
    """A scores .8 but fails in a few cases, B as much on average. False alarm: binomial beyond .999 999 at .025."""
    chance = np.random.default_rng([n, replicates, int(100 * share)])
    wrong = 0
    for _ in range(400):
        gaps = 0.8 - 0.8 * (1 - share) + 0.01 * chance.standard_normal(n)
        gaps[chance.random(n) < share] -= 0.8
        wrong += intervals.difference(Points(gaps, np.arange(n) % replicates)).low > 0
    assert wrong <= stats.binom.ppf(1 - 1e-6, 400, 0.025)


def test_equal_constant_proportions_differ_by_nothing_within_their_interval():
    found = intervals.difference_of_proportions(points([1.0] * 10), points([1.0] * 10))
    assert (found.value, found.p_value) == (0.0, 1.0)
    assert (found.low, found.high) == pytest.approx((-0.277533, 0.277533), abs=1e-6)


def test_a_difference_of_proportions_by_hand():
    """12 pairs for the first, 4 for the second, 34 alike: .16 with variance (16/50 - .16^2) 50/49."""
    first, second = np.zeros(50), np.zeros(50)
    first[:12], second[12:16] = 1, 1
    found = intervals.difference_of_proportions(points(first), points(second))
    error = math.sqrt((16 / 50 - 0.16**2) / 49)
    assert found.value == pytest.approx(0.16)
    assert (found.low, found.high) == pytest.approx((0.16 - 2.009575 * error, 0.16 + 2.009575 * error), abs=1e-6)
    assert found.p_value == pytest.approx(2 * stats.t.sf(0.16 / error, 49))


def test_nothing_gives_no_numbers():
    none = points([])
    for found in (
        intervals.proportion(none),
        intervals.wilson_mean(none),
        intervals.bounded_mean(none),
        intervals.difference(none),
        intervals.difference_of_proportions(none, none),
    ):
        assert math.isnan(found.value)
        assert math.isnan(found.low)
        assert (found.n, found.method, found.p_value) == (0, "no trials", None)


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(-1, 1), st.integers(0, 9)), min_size=1, max_size=40))
def test_p_is_below_five_percent_exactly_when_the_interval_leaves_zero_out(rows):
    found = intervals.difference(points([v for v, _ in rows], [r for _, r in rows]))
    if abs(found.p_value - 0.05) > 1e-6:
        assert (found.p_value < 0.05) == (found.low > 0 or found.high < 0)


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from([0.0, 0.5, 1.0]), st.integers(0, 9)), min_size=1, max_size=40))
def test_every_interval_has_width_and_holds_its_value(rows):
    given_points = points([v for v, _ in rows], [r for _, r in rows])
    for found in (intervals.proportion(given_points), intervals.bounded_mean(given_points)):
        assert 0 <= found.low <= found.value + 1e-12
        assert found.value - 1e-12 <= found.high <= 1
        assert found.high - found.low > 1e-6


# ---- coverage: how often the truth is inside, over simulated studies


def test_replicate_t_covers_a_proportion():
    rng = np.random.default_rng(1)
    truth, studies, replicates = 0.4, 1500, np.repeat(np.arange(8), 16)
    hits = 0
    for drawn in rng.random((studies, 128)) < truth:
        found = intervals.proportion(points(drawn, replicates))
        hits += found.low <= truth <= found.high
    assert covers(hits, studies)


def test_points_are_the_unit_of_independence():
    """33 points of 3 seeds that mostly agree: t over points covers, t over pooled trials does not (about .75)."""
    rng = np.random.default_rng(2)
    studies, hits, pooled = 1500, 0, 0
    for level in rng.normal(size=(studies, 33)):
        scores = stats.norm.cdf(0.9 * level[:, None] + math.sqrt(1 - 0.81) * rng.normal(size=(33, 3)))
        found = intervals.bounded_mean(points(scores.mean(axis=1)))
        wrong = intervals.bounded_mean(points(scores.ravel()))
        hits += found.low <= 0.5 <= found.high
        pooled += wrong.low <= 0.5 <= wrong.high
    assert covers(hits, studies)
    assert pooled / studies < 0.85


def test_the_p_value_is_below_five_percent_one_time_in_twenty():
    rng = np.random.default_rng(3)
    studies = 1500
    gaps = rng.random((studies, 64)) - rng.random((studies, 64))
    kept = sum(intervals.difference(points(row)).p_value >= 0.05 for row in gaps)
    assert covers(kept, studies)


def test_hoeffding_covers_at_least_as_promised():
    rng = np.random.default_rng(4)
    half = intervals.hoeffding(20)
    misses = np.abs((rng.random((4000, 20)) < 0.5).mean(axis=1) - 0.5) > half
    assert covers(int((~misses).sum()), 4000, alternative="less")


# ---- each end by itself: a claim's verdict rests on one


def binomial_errors(truth, replicates, size, *, studies=2000):
    """How often each end of an interval of a proportion is on the wrong side: (high < truth, truth < low)."""
    rng = np.random.default_rng(7)
    place = np.repeat(np.arange(replicates), size)
    found = [intervals.proportion(points(row, place)) for row in rng.random((studies, replicates * size)) < truth]
    return np.mean([one.high < truth for one in found]), np.mean([truth < one.low for one in found])


MOST = 0.055
"""Errors simulated with 20,000 studies reach .045; 2000 stay below .0625 then in all but one of 10,000 tests."""


@pytest.mark.parametrize(
    ("truth", "replicates", "size"), [(0.08, 8, 8), (0.03, 8, 16), (0.93, 8, 8), (0.06, 8, 8), (0.06, 1, 64)]
)
def test_no_end_of_a_rare_proportion_is_wrong_much_more_often_than_promised(truth, replicates, size):
    """t over replicates whatever the counts: .096, .099, .056, .097 where 2.5 % is promised."""
    assert max(binomial_errors(truth, replicates, size)) < MOST


@pytest.mark.parametrize(("first", "second"), [(0.0, 0.05), (0.05, 0.0), (0.02, 0.1), (0.05, 0.05)])
@pytest.mark.parametrize("replicates", [1, 8])
def test_no_end_of_a_rare_difference_is_either(first, second, replicates):
    """Of 64 points, t whatever the counts: .124 at 0 against .05."""
    rng = np.random.default_rng(8)
    place, truth = np.arange(64) % replicates, first - second
    outcomes = zip(rng.random((1000, 64)) < first, rng.random((1000, 64)) < second, strict=True)
    found = [intervals.difference_of_proportions(points(a, place), points(b, place)) for a, b in outcomes]
    assert np.mean([one.high < truth for one in found]) < MOST
    assert np.mean([one.low > truth for one in found]) < MOST


@pytest.mark.parametrize("zeros", [0.97, 0.95, 0.85])
def test_no_end_of_a_mean_that_is_mostly_zero_is_either(zeros):
    """Scores that are 0 but for some in (.3, 1), as where most of a sweep fails: t whatever the counts errs in .09."""
    rng = np.random.default_rng(9)
    scores = np.where(rng.random((1500, 64)) < zeros, 0.0, rng.uniform(0.3, 1.0, size=(1500, 64)))
    truth = 0.65 * (1 - zeros)
    for rule in (intervals.bounded_mean, intervals.difference):
        found = [rule(points(row)) for row in scores]
        assert np.mean([one.high < truth for one in found]) < MOST
        assert np.mean([one.low > truth for one in found]) < MOST


# ---- the exact interval, which decides where one proportion is held against a constant


@pytest.mark.parametrize(("successes", "n"), [(0, 20), (3, 20), (19, 20), (64, 64)])
def test_the_exact_interval_is_scipy_s(successes, n):
    exact = stats.binomtest(successes, n).proportion_ci(method="exact")
    assert intervals.clopper_pearson(successes, n) == pytest.approx((exact.low, exact.high))


def test_of_no_successes_the_exact_interval_ends_where_none_come_up_in_one_of_forty():
    # (1 - p)^10 = .025
    assert intervals.clopper_pearson(0, 10) == pytest.approx((0.0, 1 - 0.025**0.1))


def test_the_exact_p_is_five_percent_where_the_interval_ends():
    for successes in (0.5, 3, 7.25):
        for end in intervals.clopper_pearson(successes, 20):
            assert intervals.exact_p(successes, 20, end) == pytest.approx(0.05)
        assert intervals.exact_p(successes, 20, successes / 20) == 1.0
    assert intervals.exact_p(0, 20, 0.0) == 1.0
    assert intervals.exact_p(2, 20, 0.0) == 0.0
    assert intervals.exact_p(0, 160, -0.05) == intervals.exact_p(160, 160, 1.05) == 0.0  # which no share can be


def test_the_exact_interval_needs_counts_that_can_be():
    with pytest.raises(ValueError, match="clopper_pearson needs"):
        intervals.clopper_pearson(3, 2)


@pytest.mark.parametrize("n", [20, 64])
@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("alike", [0.1, 0.99])
def test_no_end_of_an_exact_interval_errs_more_often_than_promised(n, seeds, alike):
    """Points of several seeds that agree little or nearly always: 6000 samples of each rate, .0268 at most."""
    rng, studies = np.random.default_rng(12), 1500
    for truth in (0.05, 0.2, 0.5):
        rates = rng.beta(truth * (1 - alike) / alike, (1 - truth) * (1 - alike) / alike, size=(studies, n))
        found = [intervals.exact_proportion(points(row / seeds)) for row in rng.binomial(seeds, rates)]
        most = stats.binom.ppf(1 - 1e-5, studies, 0.025)
        assert sum(one.high < truth for one in found) <= most
        assert sum(one.low > truth for one in found) <= most

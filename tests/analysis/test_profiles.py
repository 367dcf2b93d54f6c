import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from analysis import intervals, profiles
from analysis.outcomes import Sample

FALSE_ALARM = 1e-6
LOW, HIGH = 10.0, 1000.0

outcome = st.one_of(st.floats(1e-3, 1e5), st.just(math.inf))
trials = st.lists(st.tuples(outcome, st.integers(0, 6)), min_size=1, max_size=40)


def made(rows):
    values, points = zip(*rows, strict=True)
    return Sample(np.array(values, dtype=float), np.zeros(len(rows), dtype=np.int64), np.array(points, dtype=np.int64))


# ---- tables worked out by hand


@pytest.mark.parametrize(("arm", "tau", "expected"), [("A", 50, 0.5), ("B", 50, 0.3), ("A", 1e9, 0.7), ("B", 1e9, 0.5)])
def test_profile_of_the_reference_arms(arms, sampled, arm, tau, expected):
    assert profiles.fraction_at(sampled(arms[arm]), tau) == pytest.approx(expected, abs=1e-12)


def test_the_profile_of_failures_is_zero(sampled):
    assert profiles.fraction_at(sampled([np.inf] * 4), 1e9) == 0


def test_the_profile_steps_at_its_values_from_the_right(sampled):
    found = profiles.fraction_at(sampled([1.0, 2.0]), [0.999, 1.0, 1.999, 2.0])
    np.testing.assert_array_equal(found, [0.0, 0.5, 0.5, 1.0])


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([10, 100, 1000, np.inf], 0.375),
        ([10, 10, 10, 10], 1.0),
        ([np.inf, np.inf], 0.0),
        ([5, 2000], 0.5),
        ([math.sqrt(1000)], 0.75),
    ],
)
def test_log_auc(sampled, values, expected):
    assert profiles.log_auc(sampled(values), low=LOW, high=HIGH).value == pytest.approx(expected, abs=1e-12)


def test_a_metric_of_zero_or_below_scores_one():
    np.testing.assert_array_equal(profiles.utility([0.0, -3.0], low=LOW, high=HIGH), [1.0, 1.0])


@pytest.mark.parametrize(
    ("values", "p", "expected"),
    [("A", 0.5, 50), ("B", 0.5, 300), ("B", 0.75, np.inf), ([1, 2, 3, 4], 0.5, 2), ([7, np.inf, np.inf], 0.5, np.inf)],
)
def test_quantile(arms, sampled, values, p, expected):
    assert profiles.quantile(sampled(arms[values] if isinstance(values, str) else values), p) == expected


def test_success_counts_the_threshold_itself(arms, sampled):
    found = profiles.success(sampled(arms["A"]), 50)
    assert found.value == pytest.approx(0.5)
    assert (found.low, found.high) == pytest.approx(intervals.wilson(5, 10))


def test_points_weigh_the_same_however_many_trials_they_have(sampled):
    crossed = sampled([1.0, 1.0, 1.0, 9.0], points=[0, 0, 0, 1])
    assert profiles.fraction_at(crossed, 1.0) == pytest.approx(0.5)
    assert profiles.success(crossed, 1.0).value == pytest.approx(0.5)
    assert profiles.quantile(crossed, 0.6) == 9.0


def test_bounds_hold_what_is_undecided(sampled):
    """3 of 10 succeeded, 2 are unknown: from 3/10 to 5/10."""
    found = profiles.success_bounds(sampled([1, 1, 1, 9, 9, 9, np.inf, np.inf, np.nan, np.nan]), 2.0)
    assert found == pytest.approx((0.3, 0.5))


def test_bounds_count_points_as_success_does(sampled):
    """40 points, by turns one trial that succeeds and five that fail: 20 of 40 points, though 20 of 120 trials."""
    values = np.concatenate([[1.0], [9.0] * 5] * 20)
    points = np.concatenate([[2 * k] + [2 * k + 1] * 5 for k in range(20)])
    found = sampled(values, points=points)
    assert profiles.success_bounds(found, 2.0) == (0.5, 0.5)
    assert profiles.success(found, 2.0).value == 0.5


def test_bounds_of_a_point_that_is_decided_in_part(sampled):
    """Points of 2, 2 and 1 trials: (1 + ?)/2, (0 + 0)/2 and ?; from (1/2 + 0 + 0)/3 to (1 + 0 + 1)/3."""
    found = sampled([1.0, np.nan, 9.0, np.inf, np.nan], points=[0, 0, 1, 1, 2])
    assert profiles.success_bounds(found, 2.0) == pytest.approx((1 / 6, 2 / 3))


def test_undecided_trials_leave_the_estimate_to_the_others(sampled):
    assert profiles.success(sampled([1.0, 9.0, np.nan]), 2.0).value == 0.5


def test_two_failures_of_eight_are_seen_where_a_trimmed_mean_is_blind(sampled):
    """The interquartile mean of 1..8 and of 1..6 with two failures is (3 + 4 + 5 + 6) / 4 both times."""
    fine, failing = np.arange(1.0, 9.0), np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, np.inf, np.inf])
    assert stats.trim_mean(fine, 0.25) == stats.trim_mean(failing, 0.25) == 4.5
    aucs = [profiles.log_auc(sampled(values), low=1.0, high=10.0).value for values in (fine, failing)]
    lost = sum(math.log(10 / value) for value in (7, 8)) / math.log(10) / 8
    assert aucs[0] - aucs[1] == pytest.approx(lost, abs=1e-12)
    assert profiles.fraction_at(sampled(failing), 1e300) == 0.75


# ---- degenerate inputs


@pytest.mark.parametrize("values", [[], [np.nan, np.nan]])
def test_nothing_decided_gives_no_numbers(sampled, values):
    nothing = sampled(values)
    found = profiles.profile(nothing, rng=np.random.default_rng(0))
    assert (found.n, found.band, len(found.thresholds)) == (0, "no trials", 0)
    assert math.isnan(found.plateau)
    assert math.isnan(profiles.fraction_at(nothing, 1.0))
    assert math.isnan(profiles.quantile(nothing, 0.5))
    assert math.isnan(profiles.success(nothing, 1.0).value)
    assert math.isnan(profiles.log_auc(nothing, low=LOW, high=HIGH).value)


def test_bounds_of_nothing_known_are_everything(sampled):
    assert profiles.success_bounds(sampled([np.nan] * 3), 1.0) == (0.0, 1.0)
    assert all(math.isnan(end) for end in profiles.success_bounds(sampled([]), 1.0))


@pytest.mark.parametrize("values", [[np.inf] * 32, [1.0] * 32, [1.0]])
def test_a_band_without_variance_is_dkw(sampled, values):
    found = profiles.profile(sampled(values), rng=np.random.default_rng(0))
    assert found.band == f"DKW, {intervals.counted(len(values))}"
    assert found.half_width == pytest.approx(intervals.dkw(len(values)))


# ---- properties


@settings(deadline=None)
@given(trials)
def test_the_profile_is_monotone_and_bounded(rows):
    sample = made(rows)
    found = profiles.profile(sample, rng=np.random.default_rng(0))
    assert np.all(np.diff(found.fraction) > 0)
    assert np.all((found.low >= 0) & (found.low <= found.fraction + 1e-12))
    assert np.all((found.high <= 1) & (found.high >= found.fraction - 1e-12))
    assert found.plateau == pytest.approx(profiles.fraction_at(sample, 1e300))


@settings(deadline=None)
@given(trials, st.data())
def test_a_failure_never_raises_anything(rows, data):
    """In place of any outcome, and as a further point."""
    before = made(rows)
    where = data.draw(st.integers(0, len(rows) - 1))
    for worse in ([*rows[:where], (math.inf, rows[where][1]), *rows[where + 1 :]], [*rows, (math.inf, 99)]):
        after = made(worse)
        assert profiles.success(after, 50.0).value <= profiles.success(before, 50.0).value + 1e-12
        gain = profiles.log_auc(after, low=LOW, high=HIGH).value - profiles.log_auc(before, low=LOW, high=HIGH).value
        assert gain <= 1e-12
        assert profiles.quantile(after, 0.5) >= profiles.quantile(before, 0.5)


@settings(deadline=None)
@given(trials, st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(rows, random):
    shuffled = list(rows)
    random.shuffle(shuffled)
    first, second = (profiles.profile(made(given), rng=np.random.default_rng(3)) for given in (rows, shuffled))
    np.testing.assert_array_equal(first.thresholds, second.thresholds)
    np.testing.assert_allclose(first.fraction, second.fraction, atol=1e-12)
    np.testing.assert_allclose(first.high, second.high, atol=1e-12)
    left, right = (profiles.log_auc(made(given), low=LOW, high=HIGH) for given in (rows, shuffled))
    assert (left.value, left.low, left.high) == pytest.approx((right.value, right.low, right.high), abs=1e-9)


@given(st.lists(st.tuples(st.sampled_from([1.0, 9.0, math.inf, math.nan]), st.integers(0, 5)), min_size=1))
def test_success_lies_between_its_bounds(rows):
    drawn = made(rows)
    worst, best = profiles.success_bounds(drawn, 2.0)
    assert 0 <= worst <= best <= 1
    found = profiles.success(drawn, 2.0).value
    assert math.isnan(found) or worst - 1e-12 <= found <= best + 1e-12


@settings(deadline=None)
@given(trials)
def test_log_auc_is_the_integral_of_the_profile(rows):
    """Exactly: the profile is constant between its steps, so the integral over log tau is a finite sum."""
    sample = made(rows)
    inside = sorted({LOW, HIGH, *(value for value, _ in rows if LOW < value < HIGH)})
    integral = sum(
        float(profiles.fraction_at(sample, left)) * (math.log(right) - math.log(left))
        for left, right in itertools.pairwise(inside)
    )
    auc = profiles.log_auc(sample, low=LOW, high=HIGH).value
    assert auc == pytest.approx(integral / math.log(HIGH / LOW), abs=1e-9)


@settings(deadline=None)
@given(trials, st.floats(1e-4, 1e4))
def test_the_unit_of_the_metric_does_not_matter(rows, scale):
    scaled = [(value * scale, point) for value, point in rows]
    first = profiles.log_auc(made(rows), low=LOW, high=HIGH).value
    second = profiles.log_auc(made(scaled), low=LOW * scale, high=HIGH * scale).value
    assert second == pytest.approx(first, abs=1e-9)


def test_a_band_is_a_function_of_its_generator_alone(arms, sampled):
    widths = []
    for disturbance in (1, 2):
        np.random.seed(disturbance)  # noqa: NPY002 - it is there to be disturbed
        widths.append(profiles.half_width(sampled(arms["A"]), rng=np.random.default_rng(7))[0])
    assert widths[0] == widths[1]
    few = {profiles.half_width(sampled(arms["A"]), rng=np.random.default_rng(seed), resamples=5) for seed in range(20)}
    assert len(few) > 1


def test_a_band_resamples_points_not_trials(sampled):
    """Three seeds that agree tell no more than one: the band keeps the width of 20 points, not of 60 trials."""
    values = np.random.default_rng(0).lognormal(size=20)
    once = profiles.half_width(sampled(values), rng=np.random.default_rng(5))[0]
    thrice, name = profiles.half_width(
        sampled(np.repeat(values, 3), points=np.repeat(np.arange(20), 3)), rng=np.random.default_rng(6)
    )
    assert thrice == pytest.approx(once, abs=0.05)  # one step of 20 points
    assert name == "bootstrap over 20 points"


@pytest.mark.parametrize(
    ("values", "points"),
    [
        ([1.0, 2.0, 2.0, np.inf], [0, 1, 2, 3]),
        ([1.0, 2.0, 2.0, np.inf, 1.0, np.inf], [0, 0, 1, 1, 2, 2]),
        ([1.0, 3.0, np.inf, 2.0, 2.0, 1.0], [0, 1, 1, 2, 2, 2]),
    ],
    ids=["one trial per point", "two", "one to three"],
)
def test_the_bootstrap_is_that_of_all_resamples_of_points(sampled, values, points):
    """All n^n resamples of n points, one by one, give the probability of each deviation."""
    sample = sampled(values, points=points)
    held = [np.array(values)[np.array(points) == point] for point in range(max(points) + 1)]
    inside = np.array([[np.mean(trials <= tau) for tau in (1.0, 2.0, 3.0)] for trials in held])
    all_of_them = [
        round(float(np.abs(inside[list(drawn)].mean(axis=0) - inside.mean(axis=0)).max()), 9)
        for drawn in itertools.product(range(len(held)), repeat=len(held))
    ]
    seen = np.round(profiles.deviations(sample, rng=np.random.default_rng(1), resamples=20_000), 9)
    kinds, expected = np.unique(all_of_them, return_counts=True)
    found = np.array([np.sum(seen == kind) for kind in kinds])
    assert found.sum() == 20_000
    assert stats.chisquare(found, expected / expected.sum() * 20_000).pvalue > FALSE_ALARM


def test_few_thresholds_are_enough_for_many_points(sampled, monkeypatch):
    """512 of 4,000 thresholds: between two of them the profile moves by less than 2 % of the band's width."""
    sample = sampled(np.random.default_rng(3).lognormal(size=4000))
    few = profiles.half_width(sample, rng=np.random.default_rng(4))[0]
    monkeypatch.setattr(profiles, "GRID", 10_000)
    every = profiles.half_width(sample, rng=np.random.default_rng(5))[0]
    assert few == pytest.approx(every, rel=0.08)  # twice the error of a 95 % quantile of 2,000 draws
    assert every == pytest.approx(intervals.dkw(4000), rel=0.08)  # exact for a continuous law of so many points


@pytest.mark.parametrize(("n", "resamples", "block"), [(7, 20, 50), (7, 20, 3), (1, 5, 10)])
def test_draws_come_in_blocks_of_bounded_size(monkeypatch, n, resamples, block):
    monkeypatch.setattr(profiles, "BLOCK", block)
    blocks = list(profiles.point_draws(n, rng=np.random.default_rng(0), resamples=resamples))
    assert sum(len(counts) for counts in blocks) == resamples
    assert all(counts.shape[1] == n and counts.size <= max(block, n) for counts in blocks)
    assert all((counts.sum(axis=1) == n).all() for counts in blocks)


def test_the_other_band_is_dkw(arms, sampled):
    """n = 10: sqrt(ln(40) / 20) = .429469."""
    found = profiles.profile(sampled(arms["A"]), rng=np.random.default_rng(0), band="dkw")
    assert found.half_width == pytest.approx(0.429469, abs=1e-6)
    assert found.band == "DKW, 10 points"


def test_an_unknown_band_is_refused(arms, sampled):
    with pytest.raises(ValueError, match="bootstrap or dkw"):
        profiles.profile(sampled(arms["A"]), rng=np.random.default_rng(0), band="ks")


# ---- quantiles between order statistics


@pytest.mark.parametrize(("n", "ranks"), [(32, (10, 23)), (64, (24, 41)), (100, (40, 61)), (6, (1, 6)), (5, (0, 6))])
def test_ranks_of_the_median(n, ranks):
    """The table of David and Nagaraja; six values are the fewest: 2 / 2^6 = 3 % lie on one side, 2 / 2^5 = 6 %."""
    assert profiles.order_ranks(n, 0.5) == ranks


@given(st.integers(1, 200), st.floats(0.01, 0.99))
def test_ranks_hold_what_they_promise_and_no_closer_ones_do(n, p):
    lower, upper = profiles.order_ranks(n, p)
    below = stats.binom(n, p)
    assert below.cdf(lower - 1) <= 0.025 + 1e-12
    assert below.cdf(lower) > 0.025 - 1e-12
    assert below.sf(upper - 1) <= 0.025 + 1e-12
    assert below.sf(upper - 2) > 0.025 - 1e-12


def test_the_interval_of_a_quantile_is_two_of_the_values(sampled):
    """Of 1..32: ranks 10 and 23 around the 16th; with the last 12 failed the 23rd value is a failure."""
    values = np.arange(1.0, 33.0)
    found = profiles.quantile_interval(sampled(values), 0.5)
    assert (found.value, found.low, found.high, found.n) == (16.0, 10.0, 23.0, 32)
    values[20:] = np.inf
    found = profiles.quantile_interval(sampled(values), 0.5)
    assert (found.value, found.low, found.high) == (16.0, 10.0, np.inf)


def test_too_few_points_leave_a_quantile_open(sampled):
    found = profiles.quantile_interval(sampled([1.0, 2.0, 3.0]), 0.5)
    assert (found.value, found.low, found.high) == (2.0, -np.inf, np.inf)
    assert profiles.quantile_interval(sampled([np.nan]), 0.5) == intervals.NOTHING


@pytest.mark.parametrize("p", [0.0, 1.0, -1.0])
def test_a_quantile_outside_is_refused(sampled, p):
    with pytest.raises(ValueError, match="0 < p < 1"):
        profiles.quantile_interval(sampled([1.0, 2.0]), p)


def test_quantiles_are_one_quantile_each(arms, sampled):
    sample = sampled(arms["A"])
    found = profiles.quantiles(sample, [0.1, 0.5, 0.75, 1.1])
    assert list(found) == [profiles.quantile(sample, 0.1), 50.0, np.inf, np.inf]


@pytest.mark.parametrize("p", [0.25, 0.5])
def test_intervals_of_quantiles_cover(p):
    """One trial in five fails; the quantile q of the rest has R(q) = p, so .8 P(Y <= q) = p."""
    studies, rng = 1500, np.random.default_rng(8)
    truth = math.exp(stats.norm.ppf(p / 0.8))
    covered = 0
    for values in np.where(rng.random((studies, 64)) < 0.2, np.inf, rng.lognormal(size=(studies, 64))):
        found = profiles.quantile_interval(Sample(values, np.zeros(64, dtype=np.int64), np.arange(64)), p)
        covered += found.low <= truth <= found.high
    lower, upper = profiles.order_ranks(64, p)
    exact = stats.binom.cdf(upper - 1, 64, p) - stats.binom.cdf(lower - 1, 64, p)
    assert exact >= 0.95
    assert stats.binomtest(covered, studies, exact).pvalue > FALSE_ALARM


def test_intervals_of_quantiles_are_conservative_for_nested_seeds():
    studies, rng = 600, np.random.default_rng(9)
    points = np.repeat(np.arange(40), 3)
    covered = 0
    for _ in range(studies):
        values = np.exp(np.repeat(rng.normal(size=40), 3) + rng.normal(size=120))
        found = profiles.quantile_interval(Sample(values, np.zeros(120, dtype=np.int64), points), 0.5)
        covered += found.low <= 1.0 <= found.high  # the median of a normal of mean 0 is 0
    assert stats.binomtest(covered, studies, 0.95, alternative="less").pvalue > FALSE_ALARM


# ---- coverage


def band_coverage(n, *, studies, seed, resamples):
    """How often the bootstrap band and the DKW band hold the true profile, which fails one time in five."""
    rng = np.random.default_rng(seed)
    bootstrap = dkw = 0
    for _ in range(studies):
        values = np.where(rng.random(n) < 0.2, np.inf, rng.lognormal(size=n))
        sample = Sample(values, np.zeros(n, dtype=np.int64), np.arange(n))
        thresholds, fraction = profiles.steps(sample)
        truth = 0.8 * stats.norm.cdf(np.log(thresholds))
        before = np.concatenate([[0.0], fraction[:-1]])
        plateau = abs(fraction[-1] - 0.8)
        deviation = max(np.abs(fraction - truth).max(), np.abs(before - truth).max(), plateau)
        bootstrap += deviation <= profiles.half_width(sample, rng=rng, resamples=resamples)[0]
        dkw += deviation <= intervals.dkw(n)
    return bootstrap, dkw


def test_both_bands_cover():
    studies = 400
    bootstrap, dkw = band_coverage(64, studies=studies, seed=0, resamples=400)
    assert stats.binomtest(bootstrap, studies, 0.94).pvalue > FALSE_ALARM
    assert stats.binomtest(dkw, studies, 0.95, alternative="less").pvalue > FALSE_ALARM


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("n", "nominal"), [(32, 0.933), (64, 0.940), (128, 0.949)])
def test_the_bootstrap_band_covers_as_measured(n, nominal):
    studies = 1000
    bootstrap, _ = band_coverage(n, studies=studies, seed=n, resamples=2000)
    assert stats.binomtest(bootstrap, studies, nominal).pvalue > FALSE_ALARM

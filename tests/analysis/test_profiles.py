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


def test_undecided_trials_leave_the_estimate_to_the_others(sampled):
    assert profiles.success(sampled([1.0, 9.0, np.nan]), 2.0).value == 0.5


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
    rng = np.random.default_rng(0)
    values = rng.lognormal(size=20)
    once = profiles.half_width(sampled(values), rng=np.random.default_rng(5))[0]
    thrice = profiles.half_width(
        sampled(np.repeat(values, 3), points=np.repeat(np.arange(20), 3)), rng=np.random.default_rng(5)
    )[0]
    assert thrice == pytest.approx(once)


def test_the_bootstrap_band_against_a_slow_loop(sampled):
    values = np.array([1.0, 2.0, 2.0, 5.0, np.inf, np.inf])
    rng = np.random.default_rng(11)
    deviations = []
    for counts in rng.multinomial(6, np.full(6, 1 / 6), size=300):
        drawn = np.repeat(values, counts)
        deviations.append(max(abs(np.mean(drawn <= tau) - np.mean(values <= tau)) for tau in (1.0, 2.0, 5.0)))
    expected = sorted(deviations)[math.ceil(0.95 * 300) - 1]
    found, _ = profiles.half_width(sampled(values), rng=np.random.default_rng(11), resamples=300)
    assert found == pytest.approx(expected)


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

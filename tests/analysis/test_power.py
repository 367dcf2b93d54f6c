import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from analysis import power
from analysis.intervals import dkw, wilson


@pytest.mark.parametrize(
    ("half_width", "share", "points"),
    [(0.1, 0.5, 97), (0.1, 0.8, 62), (0.1, 0.9, 35), (0.05, 0.5, 385), (0.05, 0.8, 246), (0.05, 0.9, 139)],
)
def test_points_for_a_success_fraction(half_width, share, points):
    assert power.half_width_needed(half_width, share=share) == points


def test_points_for_a_profile():
    assert power.band_needed(0.1) == 185  # ln(40) / (2 * .01) = 184.4
    assert dkw(185) <= 0.1 < dkw(184)


@pytest.mark.parametrize(
    ("difference", "discordance", "pairs"),
    [(0.2, 0.3, 57), (0.2, 0.4, 77), (0.2, 0.5, 96), (0.3, 0.4, 33), (0.3, 0.5, 42)],
)
def test_pairs_for_a_paired_difference(difference, discordance, pairs):
    assert power.pairs_needed(difference, discordance=discordance) == pairs


@pytest.mark.parametrize(
    ("first", "second", "points"),
    [(0.4, 0.6, 97), (0.3, 0.5, 93), (0.5, 0.7, 93), (0.5, 0.6, 388), (0.6, 0.9, 32), (0.2, 0.8, 10)],
)
def test_points_for_an_unpaired_difference(first, second, points):
    assert power.unpaired_needed(first, second) == power.unpaired_needed(second, first) == points


@pytest.mark.parametrize(("probability", "pairs"), [(0.6, 181), (0.65, 81), (0.7, 46), (0.75, 29), (0.8, 21)])
def test_pairs_for_a_probability_of_improvement(probability, pairs):
    assert power.noether(probability) == pairs


@given(st.integers(10, 5000), st.floats(0.05, 1.0), st.floats(0.6, 0.95))
def test_what_is_detected_is_the_inverse_of_what_is_needed(points, discordance, strength):
    found = power.detectable(points, discordance=discordance, power=strength)
    if math.isnan(found):
        assert power.pairs_needed(discordance, discordance=discordance, power=strength) > points
        return
    assert 0 < found <= discordance
    needed = power.pairs_needed(found, discordance=discordance, power=strength)
    assert needed in (points, points + 1)  # one more where rounding falls that way


@given(st.integers(10, 2000), st.floats(0.1, 0.9))
def test_more_points_detect_less(points, discordance):
    less, more = (power.detectable(n, discordance=discordance) for n in (points, 2 * points))
    assert math.isnan(less) or more < less


def test_the_difference_of_log_auc_by_hand():
    # (1.959964 + .841621) * .25 / sqrt(100)
    assert power.detectable_mean(100, spread=0.25) == pytest.approx(0.0700396, abs=1e-7)
    # ten points miss 1 - .025^(1/10) = .308497 of the prior: (1 - .308497) d = .308497 at d = .446125
    assert power.detectable_mean(10, spread=0.0) == pytest.approx(0.446125, abs=1e-6)


def test_sharpness_is_the_formulas():
    found = power.sharpness(128)
    low, high = wilson(64, 128)
    assert found.success[0.5] == pytest.approx((high - low) / 2)
    assert found.profile == dkw(128)
    assert found.success_difference[0.4] == power.detectable(128, discordance=0.4)
    assert found.log_auc_difference[0.3] == power.detectable_mean(128, spread=0.3)
    assert math.isnan(power.sharpness(2).success_difference[0.3])


@pytest.mark.parametrize(("difference", "discordance"), [(0.2, 0.4), (0.2, 0.3), (0.3, 0.5)])
def test_the_promised_power_is_what_happens(difference, discordance):
    """At the points of the formula McNemar's test finds the difference about 80 times in 100; so does t over points."""
    n, repeats = power.pairs_needed(difference, discordance=discordance), 20_000
    rng = np.random.default_rng(31)
    shares = [(discordance + difference) / 2, (discordance - difference) / 2, 1 - discordance]
    first, second, _ = rng.multinomial(n, shares, size=repeats).T
    apart, sum_ = first - second, np.maximum(first + second, 1)
    score = apart**2 / sum_ > stats.chi2.ppf(0.95, 1)
    mean = apart / n
    error = np.sqrt(((first + second) / n - mean**2) / (n - 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        student = np.abs(mean / error) > stats.t.ppf(0.975, n - 1)
    for found in (score, student):  # counts are whole: a threshold between two of them costs or gives some points
        assert 0.78 <= found.mean() <= 0.86


def test_the_promised_power_for_means_is_what_happens():
    rng, n, repeats = np.random.default_rng(37), 64, 20_000
    shift = power.detectable_mean(n, spread=0.3)
    draws = rng.normal(shift, 0.3, size=(repeats, n))
    found = np.abs(stats.ttest_1samp(draws, 0, axis=1).statistic) > stats.t.ppf(0.975, n - 1)
    assert found.mean() == pytest.approx(0.8, abs=0.015)  # t in place of the normal costs a hair


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: power.detectable(0, discordance=0.4),
        lambda: power.detectable(10, discordance=0.0),
        lambda: power.detectable(10, discordance=1.1),
        lambda: power.detectable(10, discordance=0.4, power=0.5),
        lambda: power.pairs_needed(0.5, discordance=0.4),
        lambda: power.pairs_needed(0.0, discordance=0.4),
        lambda: power.unpaired_needed(0.4, 0.4),
        lambda: power.unpaired_needed(-0.1, 0.4),
        lambda: power.noether(0.5),
        lambda: power.detectable_mean(10, spread=-1),
        lambda: power.half_width_needed(0, share=0.5),
        lambda: power.half_width_needed(0.1, share=1.0),
        lambda: power.band_needed(1.0),
    ],
)
def test_numbers_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match="got"):
        wrong()

import math

import numpy as np
import pytest
import scipy.stats
import torch

from study.metrics.divergence import kl_to_uniform
from study.metrics.modes import (
    HIGH_QUALITY_CEILING,
    TRUNCATED_VARIANCE,
    high_quality_ceiling,
    lowest_variance_ratio,
    mode_counts,
    mode_shares,
    mode_variance_ratios,
    nearest_mode,
    ring_modes,
    truncated_variance,
    typical_variance_ratio,
    w2sq_by_modes,
    w2sq_to_modes,
)
from study.metrics.samples import w2sq_samples

CENTRES = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]], dtype=torch.float64)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_w2sq_by_modes_matches_an_assignment_of_points_on_modes():
    # Samples that sit on the centres: the first step is free, the second an assignment to two points per mode.
    index = torch.randint(4, (6, 8), generator=torch.Generator().manual_seed(0))
    x = CENTRES[index]
    torch.testing.assert_close(w2sq_by_modes(x, CENTRES), w2sq_samples(x, CENTRES.repeat(2, 1)), atol=1e-12, rtol=0)


def test_w2sq_by_modes_adds_the_distance_to_the_nearest_mode():
    x = (CENTRES + torch.tensor([0.1, 0.2], dtype=torch.float64))[None]
    assert float(w2sq_by_modes(x, CENTRES)[0]) == pytest.approx(0.05, abs=1e-12)
    all_on_one = CENTRES[:1].expand(8, 2)[None]
    # Two neighbours at squared distance 2, the opposite mode at 4: (0 + 2 + 2 + 4) / 4.
    assert float(w2sq_by_modes(all_on_one, CENTRES)[0]) == pytest.approx(2, abs=1e-12)


def slow_members(x, centres, sd):
    members = [[] for _ in centres]
    for point in x.tolist():
        distances = [math.dist(point, centre) for centre in centres.tolist()]
        nearest = min(range(len(distances)), key=distances.__getitem__)
        if distances[nearest] <= 3 * sd:
            members[nearest].append(point)
    return members


def slow_modes(x, centres, sd, minimum):
    members = slow_members(x, centres, sd)
    squares, freedom = 0.0, 0
    for points in members:
        if len(points) > 1:
            mean = np.mean(points, axis=0)
            squares += float(((np.array(points) - mean) ** 2).sum())
            freedom += 2 * (len(points) - 1)
    captured = sum(len(points) >= minimum for points in members)
    variance = squares / freedom if freedom else 0.0
    return captured, sum(map(len, members)) / len(x), variance / (TRUNCATED_VARIANCE * sd**2)


@pytest.mark.parametrize("minimum", [1, 4])
@pytest.mark.parametrize("sd", [0.01, 0.1, 0.4])
def test_ring_modes_match_a_slow_loop(sd, minimum):
    x = 0.7 * normal(4, 60, 2)
    captured, high_quality, ratio = ring_modes(x, CENTRES, sd=sd, minimum=minimum)
    for i, trial in enumerate(x):
        expected = slow_modes(trial, CENTRES, sd, minimum)
        got = (float(captured[i]), float(high_quality[i]), float(ratio[i]))
        assert got == pytest.approx(expected, rel=1e-12)


def test_perfect_sampler_reaches_the_ceilings_of_ring_modes():
    n, sd = 40_000, 0.05
    index = torch.randint(4, (n,), generator=torch.Generator().manual_seed(0))
    captured, high_quality, ratio = ring_modes((CENTRES[index] + sd * normal(n, 2))[None], CENTRES, sd=sd)
    assert pytest.approx(0.9889, abs=5e-5) == HIGH_QUALITY_CEILING
    assert float(captured[0]) == 4
    assert float(high_quality[0]) == pytest.approx(HIGH_QUALITY_CEILING, abs=4 * math.sqrt(0.0111 / n))
    # 2 n squares of a normal have a relative error of 1 / sqrt(n); truncation makes it smaller.
    assert float(ratio[0]) == pytest.approx(1, abs=4 / math.sqrt(n))


def test_truncated_variance_is_that_of_a_truncated_normal():
    x = normal(400_000, 2)
    inside = x[x.square().sum(1) <= 9]
    assert float(inside.square().mean()) == pytest.approx(TRUNCATED_VARIANCE, rel=4 / math.sqrt(len(inside)))


def test_ring_modes_without_any_near_sample_are_zero_not_nan():
    values = ring_modes(torch.zeros(1, 10, 2), CENTRES, sd=0.01)
    assert [float(value) for value in values] == [0, 0, 0]


GRID = torch.cartesian_prod(*[torch.arange(-4.0, 5, 2, dtype=torch.float64)] * 2)


def perfect(centres, n, sd, *, seed=0):
    index = torch.randint(len(centres), (n,), generator=torch.Generator().manual_seed(seed))
    return (centres[index] + sd * normal(n, centres.shape[1], seed=seed + 1))[None]


@pytest.mark.parametrize("d", [1, 2, 3, 4, 7])
def test_ceiling_and_truncated_variance_in_any_dimension_are_those_of_chi_squared(d):
    assert high_quality_ceiling(d) == pytest.approx(scipy.stats.chi2.cdf(9, d), rel=1e-13)
    # E[x_1^2; |x|^2 < 9] = P(chi2_{d+2} < 9).
    expected = scipy.stats.chi2.cdf(9, d + 2) / scipy.stats.chi2.cdf(9, d)
    assert truncated_variance(d) == pytest.approx(expected, rel=1e-13)
    assert (high_quality_ceiling(2), truncated_variance(2)) == (HIGH_QUALITY_CEILING, TRUNCATED_VARIANCE)


@pytest.mark.parametrize("centres", [GRID, 3 * torch.eye(5).double(), torch.arange(4.0).double()[:, None]])
def test_perfect_sampler_reaches_the_ceilings_of_any_mixture(centres):
    n, sd, d = 25_000, 0.05, centres.shape[1]
    x = perfect(centres, n, sd)
    found = ring_modes(x, centres, sd=sd)
    ceiling = high_quality_ceiling(d)
    assert float(found.captured[0]) == len(centres)
    assert float(found.high_quality[0]) == pytest.approx(ceiling, abs=4 * math.sqrt(ceiling * (1 - ceiling) / n))
    # d n squares of a normal have a relative error of sqrt(2 / (d n)); truncation makes it smaller.
    assert float(found.variance_ratio[0]) == pytest.approx(1, abs=4 * math.sqrt(2 / (d * n)))
    per_mode = mode_variance_ratios(x, centres, sd=sd)
    least = float(mode_counts(x, centres, sd=sd).min())
    # Five standard deviations, for up to 25 modes are looked at.
    assert float((per_mode - 1).abs().max()) < 5 * math.sqrt(2 / (d * least))
    # The logarithm of a mean of v squares is 1 / v too low on average.
    pooled = 4 * math.sqrt(2 / (d * n)) + len(centres) * 2 / (d * n)
    assert float(typical_variance_ratio(per_mode)[0]) == pytest.approx(1, abs=pooled)
    m = len(centres)
    excess = 2 * n * float(kl_to_uniform(mode_counts(x, centres, sd=sd))[0])  # nearly chi-squared
    assert excess < m - 1 + 5 * math.sqrt(2 * (m - 1)) + 1


@pytest.mark.parametrize("minimum", [1, 3])
def test_modes_in_space_match_a_slow_loop(minimum):
    centres = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [-1, 0, 0], [4, 4, 4]], dtype=torch.float64)
    sd = 0.3
    x = 0.7 * normal(3, 60, 3)
    found, counts = ring_modes(x, centres, sd=sd, minimum=minimum), mode_counts(x, centres, sd=sd)
    ratios = mode_variance_ratios(x, centres, sd=sd)
    unit = truncated_variance(3) * sd**2
    for i, trial in enumerate(x):
        members = slow_members(trial, centres, sd)
        assert counts[i].tolist() == [len(points) for points in members]
        assert float(found.captured[i]) == sum(len(points) >= minimum for points in members)
        per_mode = [np.var(points, axis=0, ddof=1).mean() / unit if len(points) > 1 else 0.0 for points in members]
        assert ratios[i].tolist() == pytest.approx(per_mode, rel=1e-12)
        freedom = [max(len(points) - 1, 0) for points in members]
        pooled = sum(ratio * f for ratio, f in zip(per_mode, freedom, strict=True)) / sum(freedom)
        assert float(found.variance_ratio[i]) == pytest.approx(pooled, rel=1e-12)


def test_one_collapsed_and_one_missed_mode_show_in_the_summaries():
    x = perfect(CENTRES, 4000, 0.05)
    right, inner = x[0, :, 0] > 0.5, x[0, :, 1] > 0.5
    collapsed = x.clone()
    collapsed[0, right] = CENTRES[0] + 0.1 * (x[0, right] - CENTRES[0])
    ratios = mode_variance_ratios(
        torch.cat([x, collapsed, collapsed[:, ~inner].repeat(1, 2, 1)[:, :4000]]), CENTRES, sd=0.05
    )
    assert lowest_variance_ratio(ratios).tolist() == [
        pytest.approx(1, abs=0.2),
        pytest.approx(0.01, rel=0.2),
        0,
    ]
    # One of four modes, then one of the three that are left, with a hundredth of the variance.
    expected = [1, 0.01 ** (1 / 4), 0.01 ** (1 / 3)]
    assert typical_variance_ratio(ratios).tolist() == pytest.approx(expected, rel=0.1)


def test_no_mode_at_all_has_no_ratio_and_no_kl():
    x = torch.zeros(1, 10, 2)
    assert lowest_variance_ratio(mode_variance_ratios(x, CENTRES, sd=0.01)).tolist() == [0]
    assert typical_variance_ratio(mode_variance_ratios(x, CENTRES, sd=0.01)).tolist() == [0]
    assert kl_to_uniform(mode_counts(x, CENTRES, sd=0.01)).isnan().all()


@pytest.mark.parametrize("spread", [0.05, 0.7, 20.0])
def test_w2sq_to_modes_is_the_assignment_to_copies_of_them(spread):
    x = CENTRES[torch.randint(4, (5, 32), generator=torch.Generator().manual_seed(0))] + spread * normal(5, 32, 2)
    x[3] = x[3, :1]  # all samples in one place
    x[4, :20] = 0  # as near to all modes
    # 32 costs of up to 4 (spread + 1)^2, each rounded to 2^-46 of the largest
    tolerance = 36 * (spread + 1) ** 2 * 2**-46
    expected = w2sq_samples(x, CENTRES.repeat(8, 1))
    torch.testing.assert_close(w2sq_to_modes(x, CENTRES), expected, rtol=0, atol=tolerance)
    torch.testing.assert_close(w2sq_to_modes(x.float(), CENTRES), w2sq_samples(x.float(), CENTRES.repeat(8, 1)))


def test_samples_that_are_no_multiple_of_the_modes_are_shared_out():
    x = CENTRES[:3][None]
    # each of three samples is 4/12: 3/12 stay, and 1/12 of each goes to the fourth mode, at squares 2, 4 and 2
    assert float(w2sq_to_modes(x, CENTRES)[0]) == pytest.approx((2 + 4 + 2) / 12, abs=1e-12)


def test_w2sq_to_modes_has_no_value_where_a_square_overflows():
    x = CENTRES.expand(3, 4, 2).clone()
    x[1, 0, 0] = 1e200
    assert w2sq_to_modes(x, CENTRES).isnan().tolist() == [False, True, False]


def test_shares_of_modes_count_every_sample():
    x = torch.tensor([[[1.0, 0.1], [0.9, 0.0], [0.0, 3.0]], [[-5.0, 0.0]] * 3])
    assert mode_shares(nearest_mode(x, CENTRES), 4).tolist() == [[2, 1, 0, 0], [0, 0, 3, 0]]

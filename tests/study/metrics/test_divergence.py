import math

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon

from study.metrics.divergence import (
    entropy,
    histogram,
    histogram_of_ordered,
    jsd,
    jsd_on_grid,
    kl,
    kl_on_grid,
    kl_to_uniform,
    mean_kl_to_uniform,
)

weights = st.lists(st.integers(0, 50), min_size=6, max_size=6).filter(any)


def shares(counts):
    x = torch.tensor(counts, dtype=torch.float64)
    return (x / x.sum())[None]


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def slow_kl(p, q):
    total = 0.0
    for a, b in zip(p.tolist(), q.tolist(), strict=True):
        if a > 0:
            total += math.inf if b == 0 else a * math.log(a / b)
    return total


@settings(deadline=None)
@given(weights, weights)
def test_kl_and_jsd_match_slow_loops_and_scipy(a, b):
    p, q = shares(a), shares(b)
    # Six terms of at most 4 (log 300 times a share) each rounded to a relative 2^-52, a few times over.
    assert float(kl(p, q)[0]) == pytest.approx(slow_kl(p[0], q[0]), abs=1e-14)
    mean = (p[0] + q[0]) / 2
    assert float(jsd(p, q)[0]) == pytest.approx((slow_kl(p[0], mean) + slow_kl(q[0], mean)) / 2, abs=1e-14)
    # scipy takes the root, which turns an error of 1e-16 at 0 into one of 1e-8.
    assert float(jsd(p, q)[0]) == pytest.approx(jensenshannon(p[0], q[0]) ** 2, abs=1e-14)
    assert float(entropy(p)[0]) == pytest.approx(scipy.stats.entropy(p[0]), abs=1e-14)


@settings(deadline=None)
@given(weights, weights)
def test_identity_symmetry_and_bounds(a, b):
    p, q = shares(a), shares(b)
    assert float(kl(p, p)[0]) == float(jsd(p, p)[0]) == 0
    assert float(kl(p, q)[0]) >= 0
    assert torch.equal(jsd(p, q), jsd(q, p))
    assert 0 <= float(jsd(p, q)[0]) <= math.log(2)


def test_nothing_in_common_and_points():
    p, q = shares([1, 1, 0, 0]), shares([0, 0, 3, 1])
    assert float(jsd(p, q)[0]) == pytest.approx(math.log(2), abs=1e-15)
    assert float(kl(p, q)[0]) == math.inf
    assert entropy(torch.cat([p, shares([0, 5, 0, 0])])).tolist() == [pytest.approx(math.log(2), abs=1e-15), 0]


def test_a_negative_entry_is_nan_on_either_side_alone():
    p = torch.tensor([[0.5, 0.5, 0.0], [1.5, -0.5, 0.0]])
    q = torch.tensor([0.2, 0.3, 0.5])
    for divergence in (kl, jsd):
        assert divergence(p, q).isnan().tolist() == [False, True]
        assert divergence(q.expand(2, 3), p).isnan().tolist() == [False, True]
    assert entropy(p).isnan().tolist() == [False, True]
    assert kl_to_uniform(p).isnan().tolist() == [False, True]


def density(x, mean, sd):
    return torch.exp(-((x - mean) ** 2) / (2 * sd**2)) / (sd * math.sqrt(2 * math.pi))


def test_kl_on_a_grid_is_the_closed_form_between_gaussians():
    step = 0.01
    x = torch.arange(-12, 12, step, dtype=torch.float64)
    value = float(kl_on_grid(density(x, 0.5, 1.0)[None], density(x, 0.0, 1.5), step)[0])
    # log(s2 / s1) + (s1^2 + (m1 - m2)^2) / (2 s2^2) - 1/2. The midpoint sum over a smooth function that vanishes at the
    # ends has no error to speak of, and beyond 12 there are 1e-15 of q's mass and none of p's.
    assert value == pytest.approx(math.log(1.5) + 1.25 / 4.5 - 0.5, abs=1e-12)


def test_jsd_on_a_grid_in_the_plane_follows_the_overlap():
    step = 0.25
    x = torch.arange(-10, 10, step, dtype=torch.float64)
    here = density(x, 0, 0.5)[:, None] * density(x, 0, 0.5)
    half = (here + density(x, 6, 0.5)[:, None] * density(x, 0, 0.5)) / 2
    values = jsd_on_grid(torch.stack([here, half]), here, step**2)
    # p and (p + r) / 2 for r far from p: the mean is 3/4 p + 1/4 r, so JSD = (log 4/3) / 2 + (log 2/3 + log 2) / 4.
    # Twelve standard deviations apart they share 2 Phi(-6) = 2e-9 of mass, and as much lies outside.
    expected = math.log(4 / 3) / 2 + (math.log(2 / 3) + math.log(2)) / 4
    assert values.tolist() == [0, pytest.approx(expected, abs=1e-8)]


def test_goodfellow_value_of_the_optimal_discriminator():
    # E_p log D + E_q log(1 - D) with D = p / (p + q) is 2 JSD - log 4.
    p, q = shares([1, 2, 3, 4]), shares([4, 3, 2, 2])
    best = p / (p + q)
    value = (p * best.log() + q * (1 - best).log()).sum()
    assert float(value) == pytest.approx(2 * float(jsd(p, q)[0]) - math.log(4), abs=1e-14)


@pytest.mark.parametrize("bins", [(6,), (5, 3)])
def test_histogram_is_numpys_with_the_rest_in_one_more_cell(bins):
    d = len(bins)
    edges = [torch.linspace(-1.5, 1.0, size + 1, dtype=torch.float64) for size in bins]
    x = normal(2, 200, d)
    x[0, :5, 0], x[0, 5:9, -1] = edges[0][0], edges[-1][-1]  # points on the lowest and on the last edge
    x[0, 9:12, 0] = edges[0][1]
    values = histogram(x, edges)
    for trial, value in zip(x, values, strict=True):
        counts, _ = np.histogramdd(trial.numpy(), bins=[edge.numpy() for edge in edges])
        np.testing.assert_array_equal(value[:-1].numpy(), counts.ravel() / 200)
        assert float(value[-1]) == (200 - counts.sum()) / 200


def test_jsd_of_samples_against_exact_cells_has_the_stated_bias():
    edges = torch.linspace(-2, 2, 10, dtype=torch.float64)
    inside = torch.special.ndtr(edges).diff()
    exact = torch.cat([inside, 1 - inside.sum(keepdim=True, dim=0)])
    n, trials, k = 2000, 300, 10
    value = jsd(histogram(normal(trials, n, 1), [edges]), exact)
    # 8 n JSD is chi-squared with k - 1 degrees of freedom to leading order: mean k - 1, variance 2 (k - 1).
    mean, sd = (k - 1) / (8 * n), math.sqrt(2 * (k - 1)) / (8 * n)
    assert float(value.mean()) == pytest.approx(mean, abs=4 * sd / math.sqrt(trials))


def test_kl_to_uniform_of_counts():
    counts = torch.tensor([[5.0, 5, 5, 5], [20, 0, 0, 0], [10, 10, 0, 0], [0, 0, 0, 0]])
    expected = [0, math.log(4), math.log(2)]
    assert kl_to_uniform(counts)[:3].tolist() == pytest.approx(expected, abs=1e-15)
    assert kl_to_uniform(counts)[3].isnan()


def test_mean_kl_to_uniform_of_few_samples_by_hand():
    assert mean_kl_to_uniform(1, 7) == pytest.approx(math.log(7), rel=1e-12)  # all in one mode
    assert mean_kl_to_uniform(2, 2) == pytest.approx(math.log(2) / 2, rel=1e-12)  # in one mode every other time
    # of three in three modes 1 of 9 times one mode, 6 of 9 times two, 2 of 9 times all
    of_two = 2 / 3 * math.log(2)  # log 3 less the entropy of 2/3 and 1/3
    assert mean_kl_to_uniform(3, 3) == pytest.approx(math.log(3) / 9 + 6 / 9 * of_two, rel=1e-12)


@pytest.mark.parametrize(("n", "modes", "trials"), [(26_000, 1000, 16), (3_000, 1000, 40), (500, 8, 400)])
def test_a_perfect_sampler_reaches_the_mean_of_its_kl(n, modes, trials):
    draws = torch.randint(modes, (trials, n), generator=torch.Generator().manual_seed(0))
    value = kl_to_uniform(torch.stack([torch.bincount(row, minlength=modes) for row in draws]))
    assert float(value.mean()) == pytest.approx(
        mean_kl_to_uniform(n, modes), abs=4 * float(value.std()) / math.sqrt(trials)
    )


def test_the_mean_of_a_perfect_samplers_kl_tends_to_the_leading_orders():
    modes, n = 1000, 26_000
    # of the mean entropy, by Harris (1975); what follows is of the order of (m / n)^4
    mean = (modes - 1) / (2 * n) + (modes**2 - 1) / (12 * n**2) + (modes**3 - modes**2) / (12 * n**3)
    assert mean_kl_to_uniform(n, modes) == pytest.approx(mean, abs=(modes / n) ** 4)


def test_numbers_in_order_have_the_histogram_of_any_order():
    edges = torch.linspace(-1.5, 1.0, 8, dtype=torch.float64)
    x = normal(4, 300, 1)
    x[0, :8, 0], x[0, 8:16, 0] = edges, edges  # on every edge, the last included
    x[1, :, 0] = 0.25  # all in one cell
    x[2, :, 0] = 9.0  # all outside
    for samples in (x, x.float()):
        ordered = samples[..., 0].sort(1).values
        assert torch.equal(histogram_of_ordered(ordered, edges), histogram(samples, [edges]))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_histogram_of_numbers_that_are_not_finite_is_nan(bad):
    x = normal(2, 50)
    x[1, 7] = bad
    values = histogram_of_ordered(x.sort(1).values, torch.linspace(-1, 1, 4))
    assert values.isnan().all(1).tolist() == [False, True]

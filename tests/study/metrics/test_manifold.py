import math

import numpy as np
import pytest
import torch

from study.metrics.gaussian import Gaussian, distance_sq_affine, frechet, spread_affine, w2sq_affine
from study.metrics.manifold import (
    distance_sq_samples,
    lowest_spread_samples,
    spread_of,
    spread_samples,
    w2sq_moments,
)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


BASIS = torch.linalg.qr(normal(6, 2, seed=9))[0]


def standardised(n, k, *, seed=0):
    """Samples with mean 0 and unbiased covariance I, exactly but for rounding."""
    x = normal(n, k, seed=seed)
    x = x - x.mean(0)
    return x @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(x.T))).T


def test_all_match_slow_numpy():
    for x in normal(4, 30, 6):
        a, points = BASIS.numpy(), x.numpy()
        off = np.mean([sum(r * r for r in point - a @ (a.T @ point)) for point in points])
        along = np.cov((points @ a).T, ddof=1)
        assert float(distance_sq_samples(x[None], BASIS)[0]) == pytest.approx(off, rel=1e-13)
        assert float(spread_samples(x[None], BASIS)[0]) == pytest.approx(np.trace(along) / 2, rel=1e-13)
        assert float(lowest_spread_samples(x[None], BASIS)[0]) == pytest.approx(np.linalg.eigvalsh(along)[0], rel=1e-12)


def test_moments_of_an_affine_generator_give_its_closed_forms():
    weight, bias = normal(1, 6, 3), normal(1, 6, seed=1)
    z = standardised(50, 3, seed=2)
    x = (z @ weight[0].T + bias[0])[None]
    close = {"rtol": 1e-11, "atol": 0}
    torch.testing.assert_close(w2sq_moments(x, BASIS), w2sq_affine(weight, bias, BASIS), **close)
    torch.testing.assert_close(spread_samples(x, BASIS), spread_affine(weight, BASIS), **close)
    # The mean square is over n, the covariance of z over n - 1.
    expected = distance_sq_affine(weight * math.sqrt(49 / 50), bias, BASIS)
    torch.testing.assert_close(distance_sq_samples(x, BASIS), expected, **close)


def test_w2sq_of_moments_is_the_frechet_distance_to_the_data():
    x = normal(3, 40, 6)
    data = Gaussian(torch.zeros(6).double(), BASIS @ BASIS.T)
    # The general formula takes the root of eigenvalues that are 0 but for rounding: 6 sqrt(2^-52) at the scale of 1.
    torch.testing.assert_close(w2sq_moments(x, BASIS), frechet(x, data), rtol=0, atol=2e-7)


def test_what_each_of_the_four_sees():
    u = standardised(60, 2)
    offset = torch.linalg.qr(torch.cat([BASIS, normal(6, 1, seed=4)], 1))[0][:, 2]
    x = torch.stack([u, u * 0.5, u * torch.tensor([1.0, 0.0]), u * 0, u]) @ BASIS.T
    x[4] += 2 * offset
    k = 2
    close = {"rtol": 0, "atol": 1e-13}
    expected = {
        distance_sq_samples: [0, 0, 0, 0, 4],
        spread_samples: [1, 0.25, 0.5, 0, 1],
        lowest_spread_samples: [1, 0.25, 0, 0, 1],
    }
    for metric, values in expected.items():
        torch.testing.assert_close(metric(x, BASIS), torch.tensor(values).double(), **close)
    # The root of an eigenvalue that is 0 but for 1e-16 is off by 1e-8.
    values = torch.tensor([0, 0.25 * k, 1, k, 4]).double()
    torch.testing.assert_close(w2sq_moments(x, BASIS), values, rtol=0, atol=1e-7)


def test_perfect_sampler_has_the_stated_mean_and_variance():
    n, k, trials = 400, 2, 300
    x = normal(trials, n, k) @ BASIS.T
    value = w2sq_moments(x, BASIS)
    # The terms left out are smaller than those kept by 1 / n.
    expected = k / n + k * (k + 1) / (4 * n)
    assert float(value.mean()) == pytest.approx(expected, abs=4 * float(value.std()) / trials**0.5 + 4 * expected / n)
    assert float(spread_samples(x, BASIS).mean()) == pytest.approx(1, abs=4 * math.sqrt(2 / (k * n * trials)))


def test_no_spread_is_never_below_zero():
    x = normal(200, 30, 1) @ normal(1, 2, seed=1) @ BASIS.T  # one dimension of two
    assert (lowest_spread_samples(x, BASIS) >= 0).all()
    assert float(lowest_spread_samples(x, BASIS).max()) < 1e-12


def test_what_is_known_of_the_spread_is_used():
    x = normal(3, 40, 2) @ BASIS.T + 0.3
    spread = spread_of(x, BASIS)
    for metric in (spread_samples, lowest_spread_samples, w2sq_moments):
        assert torch.equal(metric(x, BASIS, spread), metric(x, BASIS))
        assert not torch.equal(metric(x, BASIS, spread._replace(along=4 * spread.along)), metric(x, BASIS))

import math

import numpy as np
import pytest
import scipy.stats
import torch

from study import kernels
from study.metrics.samples import (
    energy_distance,
    mean_nearest_distance,
    mean_pairwise_distance,
    mean_spacing,
    mmd2_unbiased,
    w2sq_samples,
)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_w2sq_samples_closed_forms():
    y = normal(30, 2)
    order = torch.randperm(30, generator=torch.Generator().manual_seed(0))
    shift = torch.tensor([3.0, 4.0])
    values = w2sq_samples(torch.stack([y, y[order], y[order] + shift]), y)
    torch.testing.assert_close(values, torch.tensor([0.0, 0, 25]).double(), atol=1e-13, rtol=0)


def test_w2sq_samples_on_the_line_matches_sorted_points():
    x, y = normal(3, 25, 1), normal(25, 1, seed=1)
    expected = (x.sort(1).values - y.sort(0).values).square().mean((1, 2))
    torch.testing.assert_close(w2sq_samples(x, y), expected, atol=1e-14, rtol=0)


def test_w2sq_samples_is_symmetric():
    x, y = normal(25, 2), normal(25, 2, seed=1)
    torch.testing.assert_close(w2sq_samples(x[None], y), w2sq_samples(y[None], x), atol=1e-14, rtol=0)


def slow_distances(x, y):
    return np.array([[math.dist(a, b) for b in y.tolist()] for a in x.tolist()])


def test_neighbour_metrics_match_slow_loops():
    x, y = normal(20, 3), normal(15, 3, seed=1)
    between, within = slow_distances(x, y), slow_distances(x, x)
    assert float(mean_nearest_distance(x[None], y)[0]) == pytest.approx(between.min(1).mean(), rel=1e-14)
    assert float(mean_pairwise_distance(x[None])[0]) == pytest.approx(within.sum() / (20 * 19), rel=1e-14)
    np.fill_diagonal(within, math.inf)
    assert float(mean_spacing(x[None])[0]) == pytest.approx(within.min(1).mean(), rel=1e-14)


def test_copies_are_seen_exactly():
    y = normal(30, 4).float()
    copies = y[torch.arange(60) % 30][None]
    assert float(mean_nearest_distance(copies, y)[0]) == 0
    assert float(mean_spacing(copies)[0]) == 0
    assert float(mean_pairwise_distance(y[:1].expand(10, 4)[None])[0]) == 0


def test_energy_distance_of_unequal_samples_matches_a_slow_loop():
    x, y = normal(20, 3), normal(15, 3, seed=1)
    expected = 2 * slow_distances(x, y).mean() - slow_distances(x, x).mean() - slow_distances(y, y).mean()
    assert float(energy_distance(x[None], y)[0]) == pytest.approx(expected, rel=1e-13)


def test_energy_distance_on_the_line_is_scipys_squared():
    x, y = normal(40, 1), 1 + normal(25, 1, seed=1)
    expected = scipy.stats.energy_distance(x[:, 0], y[:, 0]) ** 2
    assert float(energy_distance(x[None], y)[0]) == pytest.approx(expected, rel=1e-12)


def test_energy_distance_of_points_is_twice_their_distance():
    x, y = torch.zeros(1, 7, 2), torch.tensor([[3.0, 4.0]]).expand(3, 2)
    assert float(energy_distance(x, y)[0]) == pytest.approx(10, rel=1e-15)


def test_energy_distance_is_0_on_itself_symmetric_and_grows_with_a_shift():
    x, y = normal(1500, 2), normal(700, 2, seed=1)
    assert float(energy_distance(x[None], x)[0]) == 0
    assert float(energy_distance(x[None], y)[0]) == pytest.approx(float(energy_distance(y[None], x)[0]), rel=1e-9)
    values = energy_distance(torch.stack([x, x + 0.3, x + 1, x + 3]), y)
    assert (values.diff() > 0).all()


def test_energy_distance_of_a_perfect_sampler_has_the_stated_mean():
    n, m, trials = 60, 40, 400
    x = normal(trials, n, 1)
    values = torch.cat([energy_distance(x[i : i + 1], normal(m, 1, seed=1 + i)) for i in range(trials)])
    # E|x - x'| of two standard normals is 2 / sqrt(pi).
    expected = 2 / math.sqrt(math.pi) * (1 / n + 1 / m)
    assert float(values.mean()) == pytest.approx(expected, abs=4 * float(values.std()) / math.sqrt(trials))


def test_mmd_of_a_batch_is_that_of_its_trials_and_unbiased():
    n, m, trials = 40, 25, 400
    x = normal(trials, n, 2)
    assert float(mmd2_unbiased(x[:3], x[7], kernels.gaussian)[2]) == float(
        kernels.mmd2_unbiased(kernels.gaussian, x[2], x[7])
    )
    values = torch.cat(
        [mmd2_unbiased(x[i : i + 1], normal(m, 2, seed=1 + i), kernels.rational_quadratic) for i in range(trials)]
    )
    assert float(values.mean()) == pytest.approx(0, abs=4 * float(values.std()) / math.sqrt(trials))
    far = mmd2_unbiased(torch.stack([x[0], x[0] + 1, x[0] + 3]), x[1], kernels.gaussian)
    assert (far.diff() > 0).all()

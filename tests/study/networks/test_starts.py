"""How parameters start: moments and ranges, on an even grid of the unit interval."""

import math

import pytest
import torch

from study.networks.starts import gain, glorot, he, normal, of_doubling, of_weight, one, spread, zero

GRID = (torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000


def test_uniform_starts_fill_their_range_with_the_stated_variance():
    # the grid's extremes are 1 - 1e-5 of the bound, its variance 1 - 1e-10 of bound^2 / 3
    cases = [
        (spread(16), 1 / 48),
        (glorot(30, 10), 2 / 40),
        (he(30, 10), 4 / 40),
        # Gulrajani et al.'s code: fan_out over the squared stride
        (of_weight(he, (3, 3, 8, 16)), 4 / (9 * 8 + 9 * 16)),
        (of_weight(glorot, (4, 4, 8, 16), 2), 2 / (16 * 8 + 16 * 16 / 4)),
        (of_doubling(he, (4, 4, 8, 16)), 4 / (16 * 8 / 4 + 16 * 16)),
    ]
    for start, variance in cases:
        values = start(GRID)
        assert abs(values.mean().item()) < 1e-12
        assert values.var(correction=0).item() == pytest.approx(variance, rel=1e-9)
        assert values.max().item() == pytest.approx(math.sqrt(3 * variance), rel=2e-5)


def test_normal_starts_are_quantiles_of_the_normal_distribution():
    quantiles = torch.tensor([0.025, 0.5, 0.975], dtype=torch.float64)
    # the 97.5 % quantile of N(0, 1) is 1.959963984540054
    expected = torch.tensor([-1.959963984540054, 0, 1.959963984540054], dtype=torch.float64)
    assert torch.allclose(normal(0.02)(quantiles), 0.02 * expected, rtol=1e-12)
    assert torch.allclose(gain(quantiles), 1 + 0.02 * expected, rtol=1e-12)


def test_constant_starts():
    assert zero(GRID).unique().tolist() == [0]
    assert one(GRID).unique().tolist() == [1]

import math

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from study.metrics.samples import w2sq_samples
from study.metrics.sliced import (
    coupled,
    planar_directions,
    random_directions,
    sliced_w1,
    sliced_w2sq,
    sliced_w2sq_to_each,
    w1_line,
    w2sq_line,
)

points = st.lists(st.floats(-100, 100), min_size=1, max_size=12)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def column(values):
    return torch.tensor(values, dtype=torch.float64)[:, None]


def slow_line(x, y, power):
    """Every point copied until the samples are of equal size, sorted, matched."""
    copies = math.lcm(len(x), len(y))
    a, b = (sorted(v for v in side for _ in range(copies // len(side))) for side in (x, y))
    return sum(abs(s - t) ** power for s, t in zip(a, b, strict=True)) / copies


@settings(deadline=None)
@given(points, points)
def test_the_line_at_unequal_sizes_is_a_matching_of_copies(x, y):
    a, b = column(x), column(y)
    # Sums of at most 132 terms of at most 200 or 200^2, relative error 2^-53 each.
    assert float(w1_line(a[None], b)[0]) == pytest.approx(slow_line(x, y, 1), abs=1e-10)
    assert float(w2sq_line(a[None], b)[0]) == pytest.approx(slow_line(x, y, 2), abs=1e-8)
    assert float(w1_line(a[None], b)[0]) == pytest.approx(scipy.stats.wasserstein_distance(x, y), abs=1e-10)


@settings(deadline=None)
@given(points, points)
def test_the_line_is_symmetric_and_0_for_the_same_points_in_any_order(x, y):
    a, b = column(x), column(y)
    for distance in (w1_line, w2sq_line):
        assert float(distance(a.flip(0)[None], a)[0]) == 0
        assert float(distance(a[None], b)[0]) == pytest.approx(float(distance(b[None], a)[0]), rel=1e-12, abs=1e-12)


def test_copies_of_a_sample_change_nothing():
    x, y = normal(10, 1), normal(7, 1, seed=1)
    assert float(w1_line(x.repeat(3, 1)[None], y)[0]) == pytest.approx(float(w1_line(x[None], y)[0]), rel=1e-13)
    assert float(w1_line(x.repeat(3, 1)[None], x)[0]) == 0


@pytest.mark.parametrize("count", [2, 3, 16])
def test_a_shift_of_the_plane_costs_half_of_its_square(count):
    # The mean of cos^2 over at least two equal steps of a half turn is exactly 1/2.
    x = normal(30, 2)
    directions, shift = planar_directions(count), torch.tensor([3.0, 4.0])
    assert float(sliced_w2sq((x + shift)[None], x, directions)[0]) == pytest.approx(25 / 2, rel=1e-13)


def test_a_shift_costs_the_mean_of_its_coordinates():
    x = normal(30, 5)
    directions = random_directions(5, 40, generator=torch.Generator().manual_seed(3))
    shift = normal(5, seed=7)
    coordinates = (directions @ shift).abs()
    assert float(sliced_w1((x + shift)[None], x, directions)[0]) == pytest.approx(float(coordinates.mean()), rel=1e-12)
    squares = float(coordinates.square().mean())
    assert float(sliced_w2sq((x + shift)[None], x, directions)[0]) == pytest.approx(squares, rel=1e-12)


def test_slices_match_a_slow_loop_over_directions():
    x, y, directions = normal(9, 3), normal(6, 3, seed=1), random_directions(3, 5, generator=torch.Generator())
    for distance, power in ((sliced_w1, 1), (sliced_w2sq, 2)):
        expected = np.mean([slow_line((x @ u).tolist(), (y @ u).tolist(), power) for u in directions])
        assert float(distance(x[None], y, directions)[0]) == pytest.approx(expected, rel=1e-12)


def test_slices_are_never_longer_than_the_distance_itself():
    # Projections shorten: each slice costs at most the assignment in the plane, which costs at most all.
    x, y = normal(4, 30, 2), 0.5 * normal(30, 2, seed=1)
    assert (sliced_w2sq(x, y, planar_directions(8)) <= w2sq_samples(x, y)).all()


def test_sliced_distance_between_round_gaussians_is_the_square_of_the_difference_of_spreads():
    n = 20_000
    x, y = 3 * normal(1, n, 2), normal(n // 2, 2, seed=1)
    # W2^2 between N(0, 9) and N(0, 1) is 4. The spreads err by 3 / sqrt(2 n) and 1 / sqrt(n), times 2 * 2.
    tolerance = 4 * 4 * math.hypot(3 / math.sqrt(2 * n), 1 / math.sqrt(n))
    assert float(sliced_w2sq(x, y, planar_directions(4))[0]) == pytest.approx(4, abs=tolerance)


def test_directions_are_unit_vectors_and_the_same_for_the_same_seed():
    planar = planar_directions(4)
    angles = torch.atan2(planar[:, 1], planar[:, 0])
    torch.testing.assert_close(angles, (torch.arange(4).double() + 0.5) * math.pi / 4)
    first, again = (random_directions(7, 500, generator=torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(first, again)
    torch.testing.assert_close(first.square().sum(1), torch.ones(500).double())
    # The mean of u u^T is I / d; entries of one direction vary by less than 1.
    torch.testing.assert_close(first.T @ first / 500, torch.eye(7).double() / 7, rtol=0, atol=4 / 500**0.5)


@pytest.mark.parametrize(("n", "m"), [(6, 9), (9, 6), (8, 16), (7, 7), (1, 5), (5, 1)])
def test_distances_to_several_references_are_those_to_each(n, m):
    x, directions = normal(3, n, 2), planar_directions(5)
    references = [normal(m, 2, seed=seed) for seed in (1, 2)]
    found = sliced_w2sq_to_each(x, [coupled(n, reference, directions) for reference in references], directions)
    for values, reference in zip(found, references, strict=True):
        for value, trial in zip(values, x, strict=True):
            slow = np.mean([slow_line((trial @ u).tolist(), (reference @ u).tolist(), 2) for u in directions])
            assert float(value) == pytest.approx(slow, rel=1e-12)


def test_a_sample_is_at_no_distance_from_itself():
    x, directions = 1e3 + normal(50, 3), random_directions(3, 4, generator=torch.Generator().manual_seed(1))
    assert coupled(50, x, directions).spread == 0
    assert float(sliced_w2sq(x[None], x, directions)[0]) == 0


def test_what_is_coupled_to_a_point_has_a_mean_and_a_spread():
    found = coupled(1, column([1.0, 2.0, 6.0]), torch.ones(1, 1))
    assert found.mean.tolist() == [[pytest.approx(3, rel=1e-15)]]
    assert float(found.spread) == pytest.approx((4 + 1 + 9) / 3, rel=1e-15)
    # each of two points meets one and a half of three: (1, 1, 2) / 3 and (2, 6, 6) / 3
    found = coupled(2, column([1.0, 2.0, 6.0]), torch.ones(1, 1))
    assert found.mean[0].tolist() == pytest.approx([4 / 3, 14 / 3], rel=1e-14)
    assert float(found.spread) == pytest.approx((2 / 9 + 32 / 9) / 2, rel=1e-14)

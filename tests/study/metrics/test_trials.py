import math

import torch

from study.metrics.trials import (
    ROWS,
    distances,
    each,
    eigenvalues,
    finite_or_nan,
    nearest_distances,
    nuclear_norm,
    rows,
)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_ill_matrices_give_nan_where_lapack_raises():
    x = torch.eye(3, dtype=torch.float64).repeat(3, 1, 1)
    x[1, 0, 0] = math.nan
    assert eigenvalues(x).isnan().all(-1).tolist() == [False, True, False]
    assert nuclear_norm(x).isnan().tolist() == [False, True, False]
    assert nuclear_norm(x)[0] == 3


def test_each_hands_over_one_trial_of_every_argument():
    x, y = normal(3, 4, 2).float(), normal(3, 5, 2).float()
    values = each(lambda a, b: a.sum() + 10 * b.sum(), x, y)
    assert values.dtype == torch.float64
    expected = [float(a.double().sum() + 10 * b.double().sum()) for a, b in zip(x, y, strict=True)]
    assert values.tolist() == expected


def test_rows_in_parts_are_the_rows():
    x = torch.arange(2.0 * ROWS + 3)[:, None]
    assert torch.equal(rows(lambda part: part[:, 0] + len(part), x)[ROWS:-3], x[ROWS:-3, 0] + ROWS)
    assert torch.equal(rows(lambda part: part.square(), x), x.square())


def test_a_trial_that_is_not_finite_is_nan_in_all_its_values():
    x = normal(3, 4)
    x[1, 2] = math.inf
    assert finite_or_nan(torch.ones(3), x).isnan().tolist() == [False, True, False]
    assert finite_or_nan(torch.ones(3, 2, 2), x).isnan().flatten(1).all(1).tolist() == [False, True, False]


def test_distances_of_far_and_equal_points_are_exactly_0():
    x = 1e8 + normal(50, 3)
    assert float(distances(x, x).diagonal().abs().max()) == 0


def test_nearest_distances_are_those_of_all_pairs():
    a, b = normal(300, 20), normal(200, 20, seed=1) + 5
    # the same differences of the same row, summed in another order: 20 terms of order 25
    assert torch.allclose(nearest_distances(a, b), distances(a, b).amin(1), rtol=20 * 2**-52, atol=0)
    apart = distances(a, a).fill_diagonal_(math.inf).amin(1)
    assert torch.allclose(nearest_distances(a, a, others=True), apart, rtol=20 * 2**-52, atol=0)


def test_copies_are_at_distance_0_exactly():
    a = normal(50, 7) * 1e3
    assert torch.equal(nearest_distances(a, a.flip(0)), torch.zeros(50, dtype=torch.float64))
    assert torch.equal(nearest_distances(torch.cat([a, a]), torch.cat([a, a]), others=True), torch.zeros(100).double())


def test_nearest_distances_of_huge_numbers_are_taken_by_differences():
    # their squares overflow, in which no row would be nearest
    a, b = torch.tensor([[1e200], [0.0]], dtype=torch.float64), torch.tensor([[3.0], [1e200]], dtype=torch.float64)
    assert nearest_distances(a, b).tolist() == [0, 3]


def test_numbers_that_cancel_or_overflow_are_told_from_those_that_are_not_finite():
    x = torch.tensor([[3e38, 3e38], [math.inf, -math.inf], [math.nan, 0.0], [-math.inf, 0.0], [1.0, 2.0]])
    assert finite_or_nan(torch.ones(5), x).isnan().tolist() == [False, True, True, True, False]

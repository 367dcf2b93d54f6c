import math

import numpy as np
import pytest
import torch

from study.metrics.trials import (
    FEW,
    ROWS,
    all_finite_or_nan,
    by_rows,
    distances,
    each,
    eigenvalues,
    finite_or_nan,
    in_order,
    nearest_distances,
    nearest_point,
    nuclear_norm,
    rows,
)
from tests.study.native_case import needs_compiler


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


def slow_nearest(x, rows=None):
    """Distances (c, n) by differences of all pairs."""
    if rows is not None:
        return torch.stack([distances(trial, rows).amin(1) for trial in x])
    return torch.stack([distances(trial, trial).fill_diagonal_(math.inf).amin(1) for trial in x])


either = pytest.mark.usefixtures("with_and_without_compiled_code")


@either
@pytest.mark.parametrize("d", [1, 5, 20, 64, 131])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_nearest_distances_are_those_of_all_pairs(d, dtype):
    x, rows = normal(3, 77, d).to(dtype), (normal(45, d, seed=1) + 5).to(dtype)
    # the same differences of the same row, summed in another order: d terms, all of one sign
    tolerance = {"rtol": d * 2**-52, "atol": 0}
    assert torch.allclose(nearest_distances(x, rows), slow_nearest(x.double(), rows.double()), **tolerance)
    assert torch.allclose(nearest_distances(x), slow_nearest(x.double()), **tolerance)
    assert torch.allclose(nearest_distances(x, rows.double()), slow_nearest(x.double(), rows.double()), **tolerance)


@either
@pytest.mark.parametrize(("offset", "spread"), [(1e3, 1e-3), (1e6, 1e-6), (0, 1e-30)])
def test_nearest_rows_are_found_where_products_of_matrices_lose_them(offset, spread):
    # in float32 all rows would be equally near; the differences of what was rounded to float64 are exact
    x, rows = offset + spread * normal(2, 30, 6), offset + spread * normal(40, 6, seed=1)
    assert torch.allclose(nearest_distances(x, rows), slow_nearest(x, rows), rtol=6 * 2**-52, atol=0)
    assert torch.allclose(nearest_distances(x), slow_nearest(x), rtol=6 * 2**-52, atol=0)


@either
def test_copies_are_at_distance_0_exactly():
    a = normal(50, 7) * 1e3
    assert torch.equal(nearest_distances(a[None], a.flip(0)), torch.zeros(1, 50, dtype=torch.float64))
    assert torch.equal(nearest_distances(torch.cat([a, a])[None]), torch.zeros(1, 100, dtype=torch.float64))
    assert torch.equal(nearest_distances(a[:1].expand(1, 300, 7)), torch.zeros(1, 300, dtype=torch.float64))


@either
def test_nearest_distances_of_huge_numbers_are_taken_by_differences():
    # their squares overflow, in which no row would be nearest
    a, b = torch.tensor([[1e200], [0.0]], dtype=torch.float64), torch.tensor([[3.0], [1e200]], dtype=torch.float64)
    assert nearest_distances(a[None], b).tolist() == [[0, 3]]


@either
def test_a_trial_without_distances_leaves_the_others_theirs():
    x = normal(4, 20, 6)
    x[1, 3, 2], x[2, 0, 0] = math.nan, 1e300
    kept = [0, 3]
    assert torch.equal(nearest_distances(x)[kept], nearest_distances(x[kept]))
    assert torch.equal(nearest_distances(x, x[0])[kept], nearest_distances(x[kept], x[0]))


@either
def test_a_point_alone_has_no_other():
    assert nearest_distances(normal(2, 1, 5)).tolist() == [[math.inf], [math.inf]]
    assert nearest_distances(normal(0, 4, 5)).shape == (0, 4)
    assert nearest_distances(normal(3, 0, 5)).shape == nearest_distances(normal(3, 0, 5), normal(2, 5)).shape == (3, 0)


@either
@pytest.mark.parametrize("d", [1, 2, 3, 5])
@pytest.mark.parametrize("n", [1, 31, 32, 33, 100])
def test_nearest_point_is_the_first_of_the_nearest(d, n):
    x, points = normal(3, n, d), normal(9, d, seed=1)
    points = torch.cat([points, points])
    square, index = nearest_point(x, points)
    slow = torch.stack([sum((x[..., k, None] - points[:, k]).square() for k in range(d))])[0]
    assert torch.equal(square, slow.amin(-1))
    assert torch.equal(index, slow[..., :9].argmin(-1))
    assert torch.equal(nearest_point(x.float(), points)[1], nearest_point(x.float().double(), points)[1])


def test_points_of_other_coordinates_are_refused():
    for look in (nearest_point, nearest_distances):
        with pytest.raises(ValueError, match="as many coordinates"):
            look(normal(2, 5, 3), normal(4, 2))


def test_in_order_is_sorted_with_nan_last():
    x = normal(3, 5, 7)
    x[1, 2, 3], x[0, 0, 1], x[2, 0, 5] = math.nan, -math.inf, math.inf
    assert torch.equal(in_order(x).nan_to_num(nan=7e7), x.sort(-1).values.nan_to_num(nan=7e7))
    assert x[1, 2, 3].isnan()  # itself unchanged


def test_one_look_says_nan_for_all_values_of_a_trial():
    x, y = normal(4, 3), normal(4, 2, 2)
    x[1, 2], y[3, 0, 1] = math.inf, math.nan
    found = all_finite_or_nan({"a": torch.ones(4), "b": torch.ones(4, 2)}, x, y, torch.empty(4, 0))
    assert found["a"].isnan().tolist() == [False, True, False, True]
    assert found["b"].isnan().tolist() == [[False] * 2, [True] * 2, [False] * 2, [True] * 2]


@pytest.mark.parametrize("native", [False, pytest.param(True, marks=needs_compiler)])
def test_by_rows_gives_what_the_function_gives(native):
    x = normal(3, 200, 4).float()
    assert torch.allclose(by_rows(doubled, x, native=native), 2 * x, rtol=2**-23, atol=0)
    assert by_rows(doubled, x[:0], native=native).shape == (0, 200, 4)


def doubled(x):
    return x + x


@needs_compiler
def test_a_function_that_is_not_translated_is_called_as_it_is():
    x = normal(2, 3, 4)
    assert torch.equal(by_rows(by_numpy, x, native=True), torch.stack([by_numpy(trial) for trial in x]))


def by_numpy(x):
    return torch.from_numpy(np.cbrt(x.numpy()))


def test_sums_along_a_dense_last_axis_round_alike_for_any_number_of_rows():
    for k in (1, 2, 3, 7, 8, 9, 31, 32, 33, 50, 51, 64, 127, 128, 129, 451, 1000, 4097):
        x = normal(33, k)
        singly = torch.stack([row.clone().sum() for row in x]), torch.stack([row.clone().mean() for row in x])
        for count in (1, 2, 3, 4, 5, 8, 16, 17, 32, 33):
            some = x[:count].clone()
            assert torch.equal(some.sum(-1), singly[0][:count])
            assert torch.equal(some.mean(-1), singly[1][:count])


@pytest.mark.parametrize("width", [2, FEW])
def test_numbers_that_cancel_or_overflow_are_told_from_those_that_are_not_finite(width):
    x = torch.zeros(5, width)
    x[:, :2] = torch.tensor([[3e38, 3e38], [math.inf, -math.inf], [math.nan, 0.0], [-math.inf, 0.0], [1.0, 2.0]])
    assert finite_or_nan(torch.ones(5), x).isnan().tolist() == [False, True, True, True, False]

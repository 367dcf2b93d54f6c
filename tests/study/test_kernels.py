"""Kernels and MMD against slow loops, exact small cases and the closed form between Gaussians."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.func import grad, vmap

from study.kernels import (
    BANDWIDTHS,
    EXPONENTS,
    ROOT_EPSILON,
    energy,
    gaussian,
    mmd2_unbiased,
    rational_quadratic,
    squared_distances,
    witness,
)

KERNELS = {"rbf": gaussian, "rq": rational_quadratic, "energy": energy}
KERNEL = pytest.mark.parametrize("kernel", KERNELS.values(), ids=KERNELS)


def plain(kernel, x, y):
    """The kernel from two rows of numbers, written out from its definition."""
    s = sum((a - b) ** 2 for a, b in zip(x, y, strict=True))
    if kernel is gaussian:
        return sum(math.exp(-s / (2 * sigma**2)) for sigma in (2, 5, 10, 20, 40, 80))
    if kernel is rational_quadratic:
        return sum(math.pow(1 + s / (2 * a), -a) for a in (0.1, 1, 10))
    return -math.sqrt(s + 1e-5)


def slow_mmd2(kernel, x, y):
    def within(sample):
        pairs = [(i, j) for i in range(len(sample)) for j in range(len(sample)) if i != j]
        return sum(plain(kernel, sample[i], sample[j]) for i, j in pairs) / len(pairs)

    return within(x) + within(y) - 2 * sum(plain(kernel, a, b) for a in x for b in y) / (len(x) * len(y))


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def column(*values):
    return torch.tensor(values, dtype=torch.float64)[:, None]


features = st.lists(st.lists(st.floats(-20, 20), min_size=3, max_size=3), min_size=2, max_size=5)


@KERNEL
@settings(deadline=None)
@given(features, features)
def test_mmd_equals_the_sum_over_pairs(kernel, x, y):
    ours = mmd2_unbiased(kernel, *(torch.tensor(rows, dtype=torch.float64) for rows in (x, y))).item()
    # squared distances of up to 3 * 40^2 lose 5e-13 in inner products, which the root at 1e-5 raises 160-fold
    assert ours == pytest.approx(slow_mmd2(kernel, x, y), abs=1e-9)


@pytest.mark.parametrize(("kernel", "at_zero"), [(gaussian, 6.0), (rational_quadratic, 3.0), (energy, -(1e-5**0.5))])
def test_kernels_at_distance_zero(kernel, at_zero):
    assert kernel(torch.zeros((), dtype=torch.float64)).item() == pytest.approx(at_zero, abs=1e-15)


def test_constants_are_those_of_the_published_code():
    assert (BANDWIDTHS, EXPONENTS, ROOT_EPSILON) == ((2, 5, 10, 20, 40, 80), (0.1, 1, 10), 1e-5)


def test_rational_quadratic_at_a_point():
    # d^2 = 2: (1 + 10)^-.1 + (1 + 1)^-1 + (1 + .1)^-10 = .786793 + .5 + .385543
    assert rational_quadratic(torch.tensor(2.0, dtype=torch.float64)).item() == pytest.approx(1.672336, abs=1e-6)


def test_energy_distance_of_two_pairs():
    # {0, 2} and {1, 5}: cross distances 1, 5, 1, 3, mean 2.5; within 2 and 4: 2 * 2.5 - 2 - 4 = -1
    # each of the distances is off by at most 1e-5 / 2
    assert mmd2_unbiased(energy, column(0, 2), column(1, 5)).item() == pytest.approx(-1, abs=2e-5)


@KERNEL
def test_mmd_of_two_point_masses(kernel):
    # k(0) - 2 k(d^2) + k(0), at d = 3
    at = {s: kernel(torch.tensor(s, dtype=torch.float64)).item() for s in (0.0, 9.0)}
    ours = mmd2_unbiased(kernel, column(1, 1, 1), column(4, 4)).item()
    assert ours == pytest.approx(2 * at[0.0] - 2 * at[9.0], abs=1e-12)
    assert ours > 0
    assert mmd2_unbiased(kernel, column(2, 2, 2), column(2, 2)).item() == pytest.approx(0, abs=1e-14)


@KERNEL
@settings(deadline=None)
@given(features, features, st.permutations(range(5)), st.floats(-1e3, 1e3))
def test_mmd_is_symmetric_and_blind_to_order_and_place(kernel, x, y, order, shift):
    x, y = (torch.tensor(rows, dtype=torch.float64) for rows in (x, y))
    value = mmd2_unbiased(kernel, x, y).item()
    # moving by 1e3 rounds a coordinate by 1e-13, a squared distance by 1e-11 and its root at 1e-5 by 2e-9
    moved = x[[i for i in order if i < len(x)]] + shift
    assert mmd2_unbiased(kernel, y + shift, moved).item() == pytest.approx(value, abs=1e-7)
    assert mmd2_unbiased(kernel, x, x).item() <= 1e-12  # the diagonal is left out within, not across


@pytest.mark.parametrize("sample", [gaussian, rational_quadratic])
def test_bounded_kernels_bound_mmd(sample):
    top = sample(torch.zeros(()))
    for scale in (1e-3, 1.0, 1e3, 1e6):
        assert mmd2_unbiased(sample, scale * normal(8, 3), scale * normal(8, 3, seed=1)).abs() <= 2 * top


def test_energy_distance_grows_with_the_features_and_so_needs_a_bounded_critic():
    x, y = normal(8, 3), normal(8, 3, seed=1) + 1
    one, thousand = mmd2_unbiased(energy, x, y).item(), mmd2_unbiased(energy, 1000 * x, 1000 * y).item()
    assert thousand == pytest.approx(1000 * one, rel=1e-4)


def replicates(kernel, shift, *, count=2000, n=8, d=4):
    """MMD^2 of samples of N(0, I) and N(shift, I): mean over replicates and its standard error."""
    x, y = normal(count, n, d), normal(count, n, d, seed=1) + shift
    values = vmap(lambda a, b: mmd2_unbiased(kernel, a, b))(x, y)
    return values.mean().item(), values.std().item() / count**0.5


@pytest.mark.parametrize("shift", [0.5, 2.0])
def test_mmd_between_gaussians_is_unbiased_for_the_closed_form(shift):
    # x - y ~ N(m, 2 I): E exp(-|x - y|^2 / (2 s^2)) = (s^2 / (s^2 + 2))^(d/2) exp(-|m|^2 / (2 (s^2 + 2)))
    d, m2 = 4, 4 * shift**2
    exact = sum(
        2 * (s**2 / (s**2 + 2)) ** (d / 2) * (1 - math.exp(-m2 / (2 * (s**2 + 2)))) for s in (2, 5, 10, 20, 40, 80)
    )
    mean, error = replicates(gaussian, shift)
    assert abs(mean - exact) < 5 * error
    assert 5 * error < exact / 5


@KERNEL
def test_mmd_of_equal_distributions_has_mean_zero(kernel):
    mean, error = replicates(kernel, 0.0)
    assert abs(mean) < 5 * error
    # with the diagonal, the mean would be 2 (k(0) - E k) / n
    apart = kernel(squared_distances(normal(2000, 4), normal(2000, 4, seed=1))).mean()
    bias = 2 * (kernel(torch.zeros(())) - apart).item() / 8
    assert 5 * error < bias / 3


def test_squared_distances_by_hand():
    x, y = torch.tensor([[0.0, 0.0], [1.0, 2.0]]), torch.tensor([[3.0, 4.0], [1.0, 2.0], [0.0, 1.0]])
    assert torch.allclose(squared_distances(x, y), torch.tensor([[25.0, 5.0, 1.0], [8.0, 0.0, 2.0]]), atol=1e-5)


def test_a_common_offset_does_not_cost_digits():
    x, y = normal(16, 4, dtype=torch.float32), normal(16, 4, seed=1, dtype=torch.float32)
    exact = squared_distances(x.double(), y.double())
    # near 1000 a float32 is rounded by 3e-5, so the square of a distance below 10 by 2 * 10 * sqrt(4) * 6e-5
    assert (squared_distances(x + 1000, y + 1000).double() - exact).abs().max() < 5e-3


def test_rounding_makes_no_distance_negative():
    # the inner products of far features cancel on the diagonal, to either side of 0 and by more than ROOT_EPSILON
    far = 1000 * normal(64, 4, dtype=torch.float32)
    assert squared_distances(far, far).min() >= 0
    assert torch.isfinite(mmd2_unbiased(energy, far, far.flip(0)))


@KERNEL
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_are_finite_where_samples_coincide(kernel, dtype):
    same = torch.ones(4, 3, dtype=dtype)

    def value(y):
        return mmd2_unbiased(kernel, same, y)

    slope = grad(value)(same)
    curvature = grad(lambda y: grad(value)(y).square().sum())(same)
    assert torch.isfinite(slope).all()
    assert torch.isfinite(curvature).all()
    assert slope.abs().max() < 1e-5
    assert slope.dtype == dtype


@KERNEL
def test_mmd_and_witness_have_the_derivatives_they_say(kernel):
    points, x, y = (normal(4, 2, seed=seed).requires_grad_() for seed in range(3))
    torch.autograd.gradcheck(lambda *at: mmd2_unbiased(kernel, *at), (x, y))
    torch.autograd.gradgradcheck(lambda *at: mmd2_unbiased(kernel, *at), (x, y))
    torch.autograd.gradcheck(lambda *at: witness(kernel, *at), (points, x, y))
    torch.autograd.gradgradcheck(lambda *at: witness(kernel, *at), (points, x, y))


@KERNEL
def test_witness_equals_its_sums_and_forgets_what_is_the_same(kernel):
    points, x, y = normal(3, 2), normal(4, 2, seed=1), normal(5, 2, seed=2)
    slow = [
        sum(plain(kernel, p, a) for a in x.tolist()) / 4 - sum(plain(kernel, p, b) for b in y.tolist()) / 5
        for p in points.tolist()
    ]
    assert witness(kernel, points, x, y).tolist() == pytest.approx(slow, abs=1e-10)
    assert witness(kernel, points, x, x).abs().max() == 0


@KERNEL
def test_mean_witness_gap_is_mmd_with_the_diagonal(kernel):
    x, y = normal(6, 2), normal(6, 2, seed=1) + 1
    gap = witness(kernel, x, x, y).mean() - witness(kernel, y, x, y).mean()
    within = sum(kernel(squared_distances(s, s)).mean() for s in (x, y))
    assert gap.item() == pytest.approx((within - 2 * kernel(squared_distances(x, y)).mean()).item(), abs=1e-12)
    assert gap > 0


@pytest.mark.parametrize(
    "shapes", [((4,), (4, 1)), ((4, 1), (4,)), ((4,), (4,)), ((4, 2), (4, 3)), ((2, 4, 3), (4, 3))]
)
def test_features_that_are_not_two_matrices_of_one_width_are_refused(shapes):
    with pytest.raises(ValueError, match=r"a kernel needs features \(m, k\) and \(n, k\), got"):
        mmd2_unbiased(gaussian, *(torch.zeros(shape) for shape in shapes))


def test_one_sample_has_no_pairs():
    with pytest.raises(ValueError, match="two samples or more on either side, got 1 and 3"):
        mmd2_unbiased(gaussian, torch.zeros(1, 2), torch.zeros(3, 2))

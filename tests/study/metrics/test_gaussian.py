import math

import numpy as np
import pytest
import scipy.linalg
import torch

from study.metrics.gaussian import (
    Gaussian,
    distance_sq_affine,
    frechet,
    moments_ddof1,
    moments_of_trials,
    root,
    spread_affine,
    w2sq_affine,
    w2sq_gaussian,
)
from tests.study.native_case import needs_compiler

EPS = 2.0**-52


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gaussian(c, k, *, seed=0):
    x = normal(c, 3 * k, k, seed=seed)
    return Gaussian(normal(c, k, seed=seed + 1), moments_ddof1(x).covariance)


BASIS = torch.linalg.qr(normal(6, 2, seed=9))[0]


def test_w2sq_gaussian_closed_forms():
    eye, zero = torch.eye(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    unit = Gaussian(zero, eye)
    others = Gaussian(torch.stack([zero, eye[0], zero]), torch.stack([eye, 4 * eye, 0 * eye]))
    # |e1|^2 + tr(I + 4 I - 2 * 2 I) = 1 + 3 = 4; a point has the distance tr I = 3.
    torch.testing.assert_close(w2sq_gaussian(unit, others), torch.tensor([0.0, 4, 3]).double(), atol=20 * EPS, rtol=0)


def test_w2sq_gaussian_of_commuting_covariances_compares_standard_deviations():
    q = torch.linalg.qr(normal(5, 5))[0]
    a, b = normal(5, seed=1).abs(), normal(5, seed=2).abs()
    zero = torch.zeros(5, dtype=torch.float64)
    value = w2sq_gaussian(Gaussian(zero, q @ a.diag() @ q.T), Gaussian(zero[None], (q @ b.diag() @ q.T)[None]))
    torch.testing.assert_close(value, (a.sqrt() - b.sqrt()).square().sum()[None], atol=1e-12, rtol=0)


def test_w2sq_gaussian_is_zero_on_itself_symmetric_and_never_negative():
    a, b = gaussian(6, 5), gaussian(6, 5, seed=3)
    # The root of an eigenvalue in error by EPS times the scale (here up to 10) is in error by EPS over the smallest.
    assert float(w2sq_gaussian(a, a).max()) < 1e-12
    torch.testing.assert_close(w2sq_gaussian(a, b), w2sq_gaussian(b, a), atol=0, rtol=1e-12)
    assert (w2sq_gaussian(a, b) > 0).all()


def test_w2sq_gaussian_matches_a_general_matrix_square_root():
    a, b = gaussian(4, 5), gaussian(4, 5, seed=3)
    for i, value in enumerate(w2sq_gaussian(a, b)):
        cross = scipy.linalg.sqrtm((a.covariance[i] @ b.covariance[i]).numpy()).real
        mean = (a.mean[i] - b.mean[i]).square().sum()
        expected = float(mean + a.covariance[i].trace() + b.covariance[i].trace()) - 2 * np.trace(cross)
        assert float(value) == pytest.approx(expected, rel=1e-10)


def test_root_of_a_singular_covariance():
    x = normal(7, 2) @ normal(2, 5, seed=1)
    covariance = moments_ddof1(x).covariance
    half = root(covariance)
    torch.testing.assert_close(half @ half, covariance, atol=1e-13, rtol=0)


def test_moments_match_numpy():
    x = normal(3, 20, 4)
    for trial, mean, covariance in zip(x, *moments_ddof1(x), strict=True):
        np.testing.assert_allclose(mean, trial.mean(0), atol=1e-15)
        np.testing.assert_allclose(covariance, np.cov(trial.numpy(), rowvar=False, ddof=1), atol=1e-14)


def test_frechet_of_standardised_features_is_exactly_the_oracle():
    # Features rescaled to have the moments of N(e1, 4 I_3) exactly; against N(0, I_3) the distance is 4.
    x = normal(50, 3)
    mean, covariance = moments_ddof1(x)
    white = (x - mean) @ torch.linalg.inv(root(covariance))
    shifted = 2 * white + torch.tensor([1.0, 0, 0])
    reference = Gaussian(torch.zeros(3), torch.eye(3))
    assert float(frechet(shifted[None], reference)[0]) == pytest.approx(4, abs=1e-12)
    assert float(frechet(white[None], reference)[0]) == pytest.approx(0, abs=1e-12)


def test_frechet_depends_on_dtype_only_by_the_rounding_of_its_input():
    x = normal(2, 100, 4)
    reference = moments_ddof1(normal(100, 4, seed=1))
    torch.testing.assert_close(frechet(x.float(), reference), frechet(x, reference), rtol=1e-5, atol=1e-6)


def test_w2sq_affine_is_the_gaussian_formula():
    weight, bias = normal(5, 6, 3), normal(5, 6, seed=1)
    data = Gaussian(torch.zeros(6, dtype=torch.float64), BASIS @ BASIS.T)
    expected = w2sq_gaussian(data, Gaussian(bias, weight @ weight.mT))
    # The Gaussian formula takes the root of eigenvalues that are 0 but for rounding: 6 sqrt(EPS) at the scale of 10.
    torch.testing.assert_close(w2sq_affine(weight, bias, BASIS), expected, rtol=0, atol=2e-6)


def test_affine_closed_forms():
    k = BASIS.shape[1]
    normal_direction = normal(6, seed=4)
    normal_direction -= BASIS @ (BASIS.T @ normal_direction)
    offset = 2 * normal_direction / normal_direction.norm()
    rotation = torch.linalg.qr(normal(k, k, seed=7))[0]
    zero = torch.zeros(6, dtype=torch.float64)
    weight = torch.stack([BASIS, BASIS @ rotation, 0.5 * BASIS, 0 * BASIS, BASIS])
    bias = torch.stack([zero, zero, zero, zero, offset])
    close = {"atol": 30 * EPS, "rtol": 0}
    torch.testing.assert_close(w2sq_affine(weight, bias, BASIS), torch.tensor([0, 0, 0.25 * k, k, 4]).double(), **close)
    torch.testing.assert_close(distance_sq_affine(weight, bias, BASIS), torch.tensor([0, 0, 0, 0, 4]).double(), **close)
    torch.testing.assert_close(spread_affine(weight, BASIS), torch.tensor([1, 1, 0.25, 0, 1]).double(), **close)


def test_affine_distance_and_spread_are_those_of_samples():
    weight, bias, n = normal(6, 3), normal(6, seed=1), 200_000
    x = normal(n, 3, seed=2) @ weight.T + bias
    off = (x - x @ BASIS @ BASIS.T).square().sum(1)
    along = (x @ BASIS).var(0)
    distance = float(distance_sq_affine(weight[None], bias[None], BASIS)[0])
    assert distance == pytest.approx(float(off.mean()), abs=4 * float(off.std()) / n**0.5)
    assert float(spread_affine(weight[None], BASIS)[0]) == pytest.approx(float(along.mean()), rel=4 * (2 / n) ** 0.5)


@pytest.mark.parametrize("native", [False, pytest.param(True, marks=needs_compiler)])
def test_moments_of_trials_are_those_of_each(native):
    x = normal(4, 50, 7) + 3
    found = moments_of_trials(x, native=native)
    for i, trial in enumerate(x):
        one = moments_ddof1(trial)
        # sums of 50 products of order 10, in another order
        torch.testing.assert_close(found.mean[i], one.mean, rtol=0, atol=50 * 10 * EPS)
        torch.testing.assert_close(found.covariance[i], one.covariance, rtol=0, atol=50 * 10 * EPS)
    none = moments_of_trials(x[:0], native=native)
    assert (none.mean.shape, none.covariance.shape) == ((0, 7), (0, 7, 7))


@needs_compiler
def test_a_compiled_distance_is_that_of_the_same_moments():
    x, reference = normal(3, 400, 5), moments_ddof1(normal(100, 5, seed=1))
    x[1, 7, 2] = math.nan
    found, expected = frechet(x, reference, native=True), frechet(x, reference)
    assert found.isnan().tolist() == [False, True, False]
    # moments to 1e-13, roots of eigenvalues of order 1
    torch.testing.assert_close(found[[0, 2]], expected[[0, 2]], rtol=0, atol=1e-12)

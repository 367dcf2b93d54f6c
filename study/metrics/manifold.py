"""Distance to an affine manifold and spread along it, from samples; for generators without a closed form.

The data are A u, u ~ N(0, I_k), with orthonormal columns A (d, k). For affine generators `gaussian.w2sq_affine` and its
neighbours are exact.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from study.metrics.gaussian import moments_ddof1
from study.metrics.trials import each, eigenvalues, finite_or_nan

if TYPE_CHECKING:
    from torch import Tensor


def distance_sq_samples(x: Tensor, basis: Tensor) -> Tensor:
    """Mean squared distance |(I - A A^T) x|^2 of samples (c, n, d) to the span of A (d, k), shape (c,); unbiased."""
    basis = basis.double()
    return finite_or_nan(each(lambda trial: (trial - trial @ basis @ basis.T).square().sum(1).mean(), x), x)


def spread_samples(x: Tensor, basis: Tensor) -> Tensor:
    """Mean variance of samples (c, n, d) along the columns of A (d, k), shape (c,): 1 is right, 0 is collapsed.

    The trace of the covariance of A^T x over k; unbiased.
    """
    return finite_or_nan(each(lambda trial: _along(trial, basis).diagonal().mean(), x), x)


def lowest_spread_samples(x: Tensor, basis: Tensor) -> Tensor:
    """Smallest eigenvalue of the covariance of A^T x, shape (c,): 0 if one dimension of the manifold is missing.

    Args:
        x: Shape (c, n, d).
        basis: A, shape (d, k).

    Returns:
        Never below 0. For a perfect sampler it is below 1, by about sqrt(k / n) for large k.
    """
    return finite_or_nan(each(lambda trial: eigenvalues(_along(trial, basis)).amin().clamp(min=0), x), x)


def w2sq_moments(x: Tensor, basis: Tensor) -> Tensor:
    """Squared W2 distance between a Gaussian with the samples' moments and A u, u ~ N(0, I_k).

    |mean|^2 + tr(S) + k - 2 tr((A^T S A)^1/2), S the covariance with n - 1 degrees of freedom. It bounds the squared
    W2 distance of the sampled distribution from below (Gelbrich 1990), with equality for Gaussians. For a perfect
    sampler it is k / n + k (k + 1) / (4 n) on average, to leading order.

    Args:
        x: Shape (c, n, d).
        basis: A, shape (d, k).

    Returns:
        Shape (c,). Rounding can make it slightly negative; it is clipped at 0.
    """

    def one(trial: Tensor) -> Tensor:
        mean = trial.mean(0)
        total = (trial - mean).square().sum() / (len(trial) - 1)
        cross = eigenvalues(_along(trial, basis)).clamp(min=0).sqrt().sum()
        return mean.square().sum() + total + basis.shape[1] - 2 * cross

    return finite_or_nan(each(one, x).clamp(min=0), x)


def _along(trial: Tensor, basis: Tensor) -> Tensor:
    """Covariance (k, k) of the coordinates along the manifold of samples (n, d)."""
    return moments_ddof1(trial @ basis.double()).covariance

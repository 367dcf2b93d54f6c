"""Distance to an affine manifold and spread along it, from samples; for generators without a closed form.

The data are A u, u ~ N(0, I_k), with orthonormal columns A (d, k). For affine generators `gaussian.w2sq_affine` and its
neighbours are exact.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from study.lazy import torch
from study.metrics.trials import each, eigenvalues, finite_or_nan

if TYPE_CHECKING:
    from torch import Tensor


class Spread(NamedTuple):
    """Moments of samples that the metrics here are made of, float64; by `spread_of`, for them to share.

    Attributes:
        square: Squared length of the mean, (c,).
        total: Trace of the covariance, (c,), with n - 1 degrees of freedom as the next.
        along: Covariance of the coordinates along the manifold, (c, k, k).
    """

    square: Tensor
    total: Tensor
    along: Tensor


def spread_of(x: Tensor, basis: Tensor) -> Spread:
    """The moments of samples (c, n, d) for the manifold spanned by the columns of A (d, k)."""
    basis, freedom, k = basis.double(), x.shape[1] - 1, basis.shape[1]

    def one(trial: Tensor) -> Tensor:
        mean = trial.mean(0)
        centred = trial - mean
        along = centred @ basis
        covariance = along.T @ along / freedom
        total = centred.square().sum() / freedom
        return torch.cat([mean.square().sum()[None], total[None], covariance.flatten()])

    found = each(one, x).reshape(len(x), 2 + k * k)
    return Spread(found[:, 0], found[:, 1], found[:, 2:].view(-1, k, k))


def distance_sq_samples(x: Tensor, basis: Tensor) -> Tensor:
    """Mean squared distance |(I - A A^T) x|^2 of samples (c, n, d) to the span of A (d, k), shape (c,); unbiased."""
    basis = basis.double()
    return finite_or_nan(each(lambda trial: (trial - trial @ basis @ basis.T).square().sum(1).mean(), x), x)


def spread_samples(x: Tensor, basis: Tensor, spread: Spread | None = None) -> Tensor:
    """Mean variance of samples (c, n, d) along the columns of A (d, k), shape (c,): 1 is right, 0 is collapsed.

    The trace of the covariance of A^T x over k; unbiased. `spread` is their `spread_of`, if it is known.
    """
    spread = spread or spread_of(x, basis)
    return finite_or_nan(spread.along.diagonal(dim1=1, dim2=2).sum(-1) / basis.shape[1], x)


def lowest_spread_samples(x: Tensor, basis: Tensor, spread: Spread | None = None) -> Tensor:
    """Smallest eigenvalue of the covariance of A^T x, shape (c,): 0 if one dimension of the manifold is missing.

    Args:
        x: Shape (c, n, d).
        basis: A, shape (d, k).
        spread: Their `spread_of`, if it is known.

    Returns:
        Never below 0. For a perfect sampler it is below 1, by about sqrt(k / n) for large k.
    """
    spread = spread or spread_of(x, basis)
    return finite_or_nan(eigenvalues(spread.along).amin(-1).clamp(min=0), x)


def w2sq_moments(x: Tensor, basis: Tensor, spread: Spread | None = None) -> Tensor:
    """Squared W2 distance between a Gaussian with the samples' moments and A u, u ~ N(0, I_k).

    |mean|^2 + tr(S) + k - 2 tr((A^T S A)^1/2), S the covariance with n - 1 degrees of freedom. It bounds the squared
    W2 distance of the sampled distribution from below (Gelbrich 1990), with equality for Gaussians. For a perfect
    sampler it is k / n + k (k + 1) / (4 n) on average, to leading order.

    Args:
        x: Shape (c, n, d).
        basis: A, shape (d, k).
        spread: Their `spread_of`, if it is known.

    Returns:
        Shape (c,). Rounding can make it slightly negative; it is clipped at 0.
    """
    spread = spread or spread_of(x, basis)
    cross = eigenvalues(spread.along).clamp(min=0).sqrt().sum(-1)
    return finite_or_nan((spread.square + spread.total + basis.shape[1] - 2 * cross).clamp(min=0), x)

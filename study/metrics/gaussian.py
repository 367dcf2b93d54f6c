"""Distances between Gaussians, and to one: by moments of samples, or by the parameters of an affine generator."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from study.lazy import torch
from study.metrics import compiled
from study.metrics.trials import eigenvalues, finite_or_nan, nuclear_norm

if TYPE_CHECKING:
    from torch import Tensor


class Gaussian(NamedTuple):
    """Moments: `mean` of shape (..., k), `covariance` of shape (..., k, k)."""

    mean: Tensor
    covariance: Tensor


def root(covariance: Tensor) -> Tensor:
    """Symmetric square root (..., k, k) of finite positive semidefinite matrices; negative eigenvalues count as 0."""
    values, vectors = torch.linalg.eigh(covariance.double())
    product: Tensor = (vectors * values.clamp(min=0).sqrt()[..., None, :]) @ vectors.mT
    return product


def moments_ddof1(x: Tensor) -> Gaussian:
    """Mean and unbiased covariance (divided by n - 1) of samples (..., n, k)."""
    x = x.double()
    mean = x.mean(-2)
    centred = x - mean[..., None, :]
    return Gaussian(mean, centred.mT @ centred / (x.shape[-2] - 1))


def w2sq_gaussian(a: Gaussian, b: Gaussian) -> Tensor:
    """Squared 2-Wasserstein distance between Gaussians (Dowson and Landau 1982).

    Args:
        a: The reference, finite, one (k,) or one per trial (c, k).
        b: One per trial, mean (c, k), covariance (c, k, k).

    Returns:
        |m_a - m_b|^2 + tr(S_a + S_b - 2 (S_a^1/2 S_b S_a^1/2)^1/2), shape (c,). Rounding can make the eigenvalues and
        the result slightly negative; both are clipped at 0.
    """
    mean_a, covariance_a, mean_b, covariance_b = (t.double() for t in (*a, *b))
    root_a = root(covariance_a).expand_as(covariance_b)
    # one by one: a batch of products rounds by how many there are
    product = torch.stack([r @ b @ r for r, b in zip(root_a, covariance_b, strict=True)]) if len(root_a) else root_a
    cross = eigenvalues(product).clamp(min=0).sqrt().sum(-1)
    shift = (mean_a - mean_b).square().sum(-1)
    traces = (covariance_a.diagonal(dim1=-2, dim2=-1) + covariance_b.diagonal(dim1=-2, dim2=-1)).sum(-1)
    return finite_or_nan((shift + traces - 2 * cross).clamp(min=0), covariance_b)


def moments_of_trials(x: Tensor, *, native: bool = False) -> Gaussian:
    """`moments_ddof1` of every trial's samples (c, n, k): (c, k) and (c, k, k), float64.

    Args:
        x: Samples.
        native: True to sum up by code compiled for this CPU, in an order of its own, where there is such code.
    """
    found = compiled.covariance(x) if native else None
    if found:
        return Gaussian(*found)
    moments = [moments_ddof1(trial) for trial in x]
    if not moments:
        return Gaussian(*(torch.empty(0, *(x.shape[2:] * often), dtype=torch.float64) for often in (1, 2)))
    return Gaussian(*(torch.stack(part) for part in zip(*moments, strict=True)))


def frechet(features: Tensor, reference: Gaussian, *, native: bool = False) -> Tensor:
    """Frechet distance of features (c, n, k) to a reference's moments, shape (c,).

    The distance `w2sq_gaussian` between Gaussians of the same moments, with covariances of n - 1 degrees of freedom as
    in Heusel et al. (2017). It falls with n, so n belongs in the name of a metric made of it. The moments are those of
    `moments_of_trials`.
    """
    return w2sq_gaussian(reference, moments_of_trials(features, native=native))


def w2sq_affine(weight: Tensor, bias: Tensor, basis: Tensor) -> Tensor:
    """Squared 2-Wasserstein distance between x = W z + b, z ~ N(0, I), and x = A u, u ~ N(0, I_k).

    |b|^2 + |W|_F^2 + k - 2 |A^T W|_*, the Gaussian formula with S_r = A A^T, for which the trace of the root is a
    nuclear norm, so no rounding error passes through a square root.

    Args:
        weight: W, shape (c, d, l).
        bias: b, shape (c, d).
        basis: A with orthonormal columns, shape (d, k).

    Returns:
        Shape (c,).
    """
    weight, bias, basis = weight.double(), bias.double(), basis.double()
    square = bias.square().sum(-1) + weight.square().sum((-2, -1)) + basis.shape[1]
    return (square - 2 * nuclear_norm(project(weight, basis))).clamp(min=0)


def project(weight: Tensor, basis: Tensor) -> Tensor:
    """Coordinates A^T W (c, k, l) of columns W (c, d, l) along orthonormal columns A (d, k)."""
    return (basis.double().mT[:, :, None] * weight.double()[:, None]).sum(2)


def distance_sq_affine(weight: Tensor, bias: Tensor, basis: Tensor) -> Tensor:
    """Mean squared distance E |(I - A A^T)(W z + b)|^2 of a sample to the subspace; arguments as in `w2sq_affine`."""
    columns = torch.cat([weight, bias[..., None]], -1).double()
    along = project(columns, basis)
    return (columns - (basis.double()[:, :, None] * along[:, None]).sum(2)).square().sum((-2, -1))


def spread_affine(weight: Tensor, basis: Tensor) -> Tensor:
    """Variance of W z + b along the subspace over the data's, |A^T W|_F^2 / k: 1 is right, 0 is collapsed."""
    return project(weight, basis).square().sum((-2, -1)) / basis.shape[1]

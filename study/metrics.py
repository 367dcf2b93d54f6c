"""Distances between distributions, in float64, for all trials of a pack at once.

Every function takes the trials along the leading axis c and returns float64 values of shape (c,). A trial whose samples
or parameters are not finite gets nan, raises nothing and leaves the others alone. What a trial gets depends on that
trial only: anything whose rounding could change with the number of rows is computed trial by trial.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from study.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor


HIGH_QUALITY_SD = 3.0
"""A sample is of high quality within this many standard deviations of its nearest mode (Lin et al. 2018, PacGAN)."""

HIGH_QUALITY_CEILING = 1 - math.exp(-(HIGH_QUALITY_SD**2) / 2)
"""Share of high-quality samples of a perfect sampler in the plane: P(chi2_2 < 9) = 98.89 %."""

TRUNCATED_VARIANCE = 1 - HIGH_QUALITY_SD**2 / 2 * (1 / HIGH_QUALITY_CEILING - 1)
"""Variance along one axis of N(0, I_2) given that it lies within 3 sd, 0.949."""


class Gaussian(NamedTuple):
    """Moments: `mean` of shape (..., k), `covariance` of shape (..., k, k)."""

    mean: Tensor
    covariance: Tensor


class Modes(NamedTuple):
    """What `ring_modes` returns, each of shape (c,).

    Attributes:
        captured: Modes that are nearest to at least `minimum` high-quality samples.
        high_quality: Share of high-quality samples; a perfect sampler has `HIGH_QUALITY_CEILING`.
        variance_ratio: Variance of the high-quality samples about their mode's sample mean, pooled over the modes,
            over that of a perfect sampler; 0 where no mode has two of them, for then no spread was seen.
    """

    captured: Tensor
    high_quality: Tensor
    variance_ratio: Tensor


def each(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Apply a function of one trial (n, d) to each of the trials (c, n, d), with the memory of one; float64."""
    x = x.double()
    if len(x) == 0:
        return x.new_empty(0)
    return torch.stack([function(trial) for trial in x])


def finite_or_nan(value: Tensor, x: Tensor) -> Tensor:
    """The values (c,), nan where the trial's x (c, ...) is not finite throughout."""
    return torch.where(torch.isfinite(x).flatten(1).all(1), value, math.nan)


def eigenvalues(matrix: Tensor) -> Tensor:
    """Eigenvalues (..., k) of symmetric matrices (..., k, k), nan for a matrix that is not finite.

    LAPACK raises on such a matrix, and would take the whole batch down with it.
    """
    finite = torch.isfinite(matrix).all(-1).all(-1)
    values = torch.linalg.eigvalsh(torch.where(finite[..., None, None], matrix, 0.0))
    return torch.where(finite[..., None], values, math.nan)


def nuclear_norm(matrix: Tensor) -> Tensor:
    """Sum of the singular values (...,) of matrices (..., m, n), nan for a matrix that is not finite."""
    finite = torch.isfinite(matrix).all(-1).all(-1)
    values = torch.linalg.svdvals(torch.where(finite[..., None, None], matrix, 0.0))
    return torch.where(finite, values.sum(-1), math.nan)


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
    root_a = root(covariance_a)
    cross = eigenvalues(root_a @ covariance_b @ root_a).clamp(min=0).sqrt().sum(-1)
    shift = (mean_a - mean_b).square().sum(-1)
    traces = (covariance_a.diagonal(dim1=-2, dim2=-1) + covariance_b.diagonal(dim1=-2, dim2=-1)).sum(-1)
    return finite_or_nan((shift + traces - 2 * cross).clamp(min=0), covariance_b)


def frechet(features: Tensor, reference: Gaussian) -> Tensor:
    """Frechet distance of features (c, n, k) to a reference's moments, shape (c,).

    The distance `w2sq_gaussian` between Gaussians of the same moments, with covariances of n - 1 degrees of freedom as
    in Heusel et al. (2017). It falls with n, so n belongs in the name of a metric made of it.
    """
    moments = [moments_ddof1(trial) for trial in features]
    if not moments:
        return features.new_empty(0, dtype=torch.float64)
    return w2sq_gaussian(reference, Gaussian(*(torch.stack(part) for part in zip(*moments, strict=True))))


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


def w2sq_samples(x: Tensor, reference: Tensor) -> Tensor:
    """Squared 2-Wasserstein distance between samples of equal size, by optimal assignment.

    Args:
        x: Shape (c, n, d).
        reference: Shape (n, d), finite.

    Returns:
        Mean squared distance of matched pairs, shape (c,), nan also where a square overflows.
    """
    from scipy.optimize import linear_sum_assignment  # slow to import, and only some tasks need it

    other = reference.double().cpu()

    def one(trial: Tensor) -> Tensor:
        cost = (trial.cpu()[:, None] - other).square().sum(-1)
        if not torch.isfinite(cost).all():
            return trial.new_tensor(math.nan)
        return cost[linear_sum_assignment(cost.numpy())].mean().to(trial.device)

    return each(one, x)


def nearest_mode(x: Tensor, centres: Tensor) -> tuple[Tensor, Tensor]:
    """Squared distance to the nearest of the centres (m, d), and which it is, both (c, n), for samples (c, n, d)."""
    squares = (x.double()[:, :, None] - centres.double()).square().sum(-1)
    nearest: tuple[Tensor, Tensor] = squares.min(-1)
    return nearest[0], nearest[1]


def w2sq_by_modes(x: Tensor, centres: Tensor) -> Tensor:
    """Squared transport cost, in two steps, of turning samples into an equal mixture of narrow modes.

    The first step moves each sample to its nearest centre and costs the mean squared distance. The second moves mass
    between centres until they weigh the same and costs the squared W2 distance between those discrete distributions.
    The work grows linearly with n, so n can be large, where the assignment of `w2sq_samples` has to make do with a few
    hundred samples and mostly measures chance in the counts per mode.

    Args:
        x: Shape (c, n, d).
        centres: Shape (m, d).

    Returns:
        Sum of the two, shape (c,). For a perfect sampler of modes with covariance sd^2 I: d sd^2 and chance.
    """
    square, index = nearest_mode(x, centres)
    within = each(torch.mean, square)
    cost = (centres[:, None] - centres).double().square().sum(-1).cpu().numpy()
    between = [transport_to_uniform(torch.bincount(i, minlength=len(centres)).cpu().numpy(), cost) for i in index]
    return finite_or_nan(within + torch.tensor(between, dtype=torch.float64, device=x.device), x)


def transport_to_uniform(counts: NDArray[np.int64], cost: NDArray[np.float64]) -> float:
    """Least cost per unit of mass of evening out counts (m,) under a cost matrix (m, m), by linear programming."""
    from scipy.optimize import linprog  # slow to import, and only some tasks need it

    m = len(counts)
    sources, targets = np.kron(np.eye(m), np.ones(m)), np.kron(np.ones(m), np.eye(m))
    # The last constraint follows from the others; with it, rounding could make them contradict each other.
    constraints = np.concatenate([sources, targets])[:-1]
    masses = np.concatenate([counts / counts.sum(), np.full(m, 1 / m)])[:-1]
    result = linprog(cost.ravel(), A_eq=constraints, b_eq=masses, method="highs-ds")
    return math.nan if result.fun is None else float(result.fun)


def ring_modes(x: Tensor, centres: Tensor, *, sd: float, minimum: int = 1) -> Modes:
    """Mode metrics of planar mixtures (PacGAN, Lin et al. 2018).

    Args:
        x: Shape (c, n, 2).
        centres: Shape (m, 2).
        sd: Standard deviation of a mode.
        minimum: High-quality samples that make a mode captured.
    """
    square, index = nearest_mode(x, centres)
    labels = torch.arange(len(centres), device=x.device)
    member = ((index[..., None] == labels) & (square <= (HIGH_QUALITY_SD * sd) ** 2)[..., None]).double()
    counts = member.sum(1)
    offsets = torch.where(member[..., None] > 0, x.double()[:, :, None] - centres.double(), 0.0)
    means = offsets.sum(1) / counts.clamp(min=1)[..., None]
    residuals = (offsets - means[:, None]) * member[..., None]
    freedom = 2 * (counts - 1).clamp(min=0).sum(-1)
    variance = residuals.square().sum((1, 2, 3)) / freedom.clamp(min=1)
    return Modes(
        captured=finite_or_nan((counts >= minimum).double().sum(-1), x),
        high_quality=finite_or_nan(member.sum((1, 2)) / x.shape[1], x),
        variance_ratio=finite_or_nan(variance / (TRUNCATED_VARIANCE * sd**2), x),
    )


def mean_nearest_distance(x: Tensor, reference: Tensor) -> Tensor:
    """Mean Euclidean distance of samples (c, n, d) to their nearest point of a reference (m, d), shape (c,).

    Against the training set it sees memorisation, which a distance between distributions rewards.
    """
    reference = reference.double()
    return finite_or_nan(each(lambda trial: _distances(trial, reference).amin(1).mean(), x), x)


def mean_spacing(x: Tensor) -> Tensor:
    """Mean Euclidean distance of samples (c, n, d) to the nearest other one of the same trial, shape (c,).

    It is 0 for copies of a few points, whose mean pairwise distance looks right.
    """

    def one(trial: Tensor) -> Tensor:
        return _distances(trial, trial).fill_diagonal_(math.inf).amin(1).mean()

    return finite_or_nan(each(one, x), x)


def mean_pairwise_distance(x: Tensor) -> Tensor:
    """Mean Euclidean distance between distinct samples of a trial (c, n, d), shape (c,)."""
    n = x.shape[1]
    return finite_or_nan(each(lambda trial: _distances(trial, trial).sum() / (n * (n - 1)), x), x)


def _distances(a: Tensor, b: Tensor) -> Tensor:
    """Distances (n, m) by differences: the usual shortcut of a matrix product is wrong near 0."""
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")

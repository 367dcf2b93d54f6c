"""Distances between samples and samples."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from study import kernels
from study.lazy import torch
from study.metrics.trials import distances, each, finite_or_nan, nearest_distances, nearest_point, rows

if TYPE_CHECKING:
    from torch import Tensor


FEW = 4
"""Coordinates up to which differences of all pairs are faster than products of matrices."""


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


def energy_distance(x: Tensor, reference: Tensor) -> Tensor:
    """Energy distance 2 E|x - y| - E|x - x'| - E|y - y'| of samples to a reference; the square, no root is taken.

    The V-statistic: pairs of a point with itself count, so it is 0 for equal samples and never negative. For a perfect
    sampler it is E|x - x'| (1/n + 1/m) on average. Székely and Rizzo (2013).

    Args:
        x: Shape (c, n, d).
        reference: Shape (m, d), finite.

    Returns:
        Shape (c,). Rounding can make it slightly negative; it is clipped at 0.
    """
    reference = reference.double()
    own = _mean_distance(reference, reference)

    def one(trial: Tensor) -> Tensor:
        return 2 * _mean_distance(trial, reference) - _mean_distance(trial, trial) - own

    return finite_or_nan(each(one, x).clamp(min=0), x)


def _mean_distance(a: Tensor, b: Tensor) -> Tensor:
    return rows(lambda part: distances(part, b).mean(1), a).mean()


def mmd2_unbiased(x: Tensor, reference: Tensor, kernel: kernels.Kernel) -> Tensor:
    """Unbiased squared maximum mean discrepancy, which can be negative, of samples to a reference.

    Args:
        x: Shape (c, n, d), n at least 2.
        reference: Shape (m, d), finite, m at least 2.
        kernel: One of `study.kernels`, such as `gaussian`.

    Returns:
        Shape (c,).
    """
    reference = reference.double()
    return finite_or_nan(each(lambda trial: kernels.mmd2_unbiased(kernel, trial, reference), x), x)


def mean_nearest_distance(x: Tensor, reference: Tensor) -> Tensor:
    """Mean Euclidean distance of samples (c, n, d) to their nearest point of a reference (m, d), shape (c,).

    Against the training set it sees memorisation, which a distance between distributions rewards.
    """
    if x.shape[-1] > FEW:
        return finite_or_nan(nearest_distances(x, reference).mean(-1), x)
    values = nearest_point(x, reference)[0].sqrt().mean(-1)
    for i in (~torch.isfinite(values)).nonzero().flatten().tolist():  # squares that overflow
        values[i] = nearest_distances(x[i : i + 1], reference).mean()
    return finite_or_nan(values, x)


def mean_spacing(x: Tensor) -> Tensor:
    """Mean Euclidean distance of samples (c, n, d) to the nearest other one of the same trial, shape (c,).

    It is 0 for copies of a few points, whose mean pairwise distance looks right.
    """
    return finite_or_nan(nearest_distances(x).mean(-1), x)


def mean_pairwise_distance(x: Tensor) -> Tensor:
    """Mean Euclidean distance between distinct samples of a trial (c, n, d), shape (c,)."""
    n = x.shape[1]
    return finite_or_nan(each(lambda trial: distances(trial, trial).sum() / (n * (n - 1)), x), x)

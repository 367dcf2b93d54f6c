"""Distances between samples and samples."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from study.lazy import torch
from study.metrics.trials import each, finite_or_nan

if TYPE_CHECKING:
    from torch import Tensor


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

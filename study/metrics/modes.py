"""How a mixture of narrow modes is covered."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from study.lazy import torch
from study.metrics.trials import each, finite_or_nan

if TYPE_CHECKING:
    from torch import Tensor


HIGH_QUALITY_SD = 3.0
"""A sample is of high quality within this many standard deviations of its nearest mode (Lin et al. 2018, PacGAN)."""

HIGH_QUALITY_CEILING = 1 - math.exp(-(HIGH_QUALITY_SD**2) / 2)
"""Share of high-quality samples of a perfect sampler in the plane: P(chi2_2 < 9) = 98.89 %."""

TRUNCATED_VARIANCE = 1 - HIGH_QUALITY_SD**2 / 2 * (1 / HIGH_QUALITY_CEILING - 1)
"""Variance along one axis of N(0, I_2) given that it lies within 3 sd, 0.949."""


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

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


def high_quality_ceiling(d: int) -> float:
    """Share of high-quality samples of a perfect sampler in d dimensions, P(chi2_d < 9)."""
    half = HIGH_QUALITY_SD**2 / 2
    shape, share = (1.0, HIGH_QUALITY_CEILING) if d % 2 == 0 else (0.5, math.erf(math.sqrt(half)))
    while 2 * shape < d:
        share -= half**shape * math.exp(-half) / math.gamma(shape + 1)
        shape += 1
    return share


def truncated_variance(d: int) -> float:
    """Variance along one axis of N(0, I_d) given that it lies within 3 sd."""
    return TRUNCATED_VARIANCE if d == 2 else high_quality_ceiling(d + 2) / high_quality_ceiling(d)


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
    squares = x.new_zeros((), dtype=torch.float64)
    # one coordinate after the other: sums over a short last axis are slow
    for coordinate, centre in zip(x.double().unbind(-1), centres.double().unbind(-1), strict=True):
        squares = squares + (coordinate[..., None] - centre).square()
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
    """Mode metrics of mixtures of round modes, wherever their centres are (PacGAN, Lin et al. 2018).

    Args:
        x: Shape (c, n, d).
        centres: Shape (m, d).
        sd: Standard deviation of a mode along each axis.
        minimum: High-quality samples that make a mode captured: 1 in PacGAN, 11 in Thanh-Tung et al. (2019).
    """
    d = centres.shape[1]
    member = _members(x, centres, sd)
    counts = member.sum(1)
    offsets = torch.where(member[..., None] > 0, x.double()[:, :, None] - centres.double(), 0.0)
    means = offsets.sum(1) / counts.clamp(min=1)[..., None]
    residuals = (offsets - means[:, None]) * member[..., None]
    freedom = d * (counts - 1).clamp(min=0).sum(-1)
    variance = residuals.square().sum((1, 2, 3)) / freedom.clamp(min=1)
    return Modes(
        captured=finite_or_nan((counts >= minimum).double().sum(-1), x),
        high_quality=finite_or_nan(member.sum((1, 2)) / x.shape[1], x),
        variance_ratio=finite_or_nan(variance / (truncated_variance(d) * sd**2), x),
    )


def mode_counts(x: Tensor, centres: Tensor, *, sd: float) -> Tensor:
    """High-quality samples (c, m) nearest to each mode; arguments as in `ring_modes`.

    Their `divergence.kl_to_uniform` says how evenly the modes are hit.
    """
    return finite_or_nan(_members(x, centres, sd).sum(1), x)


def mode_variance_ratios(x: Tensor, centres: Tensor, *, sd: float) -> Tensor:
    """For each mode, what `Modes.variance_ratio` pools: shape (c, m), 0 for a mode with fewer than two samples.

    Arguments as in `ring_modes`. The ratio of a perfect sampler with n samples in a mode has a relative standard
    deviation of sqrt(2 / (d n)) at most.
    """
    m, d = centres.shape

    def one(trial: Tensor) -> Tensor:
        ratios = []
        for j, inside in enumerate(_members(trial[None], centres, sd)[0].bool().unbind(1)):
            offsets = trial[inside] - centres[j].double()
            squares = (offsets - offsets.mean(0)).square().sum()
            ratios.append(squares / (d * (len(offsets) - 1)) if len(offsets) > 1 else trial.new_zeros(()))
        return torch.stack(ratios)

    variances = each(one, x).reshape(len(x), m)
    return finite_or_nan(variances / (truncated_variance(d) * sd**2), x)


def lowest_variance_ratio(ratios: Tensor) -> Tensor:
    """Least of the ratios (c, m) of `mode_variance_ratios`, shape (c,): 0 as soon as one mode is missed."""
    return ratios.amin(-1)


def typical_variance_ratio(ratios: Tensor) -> Tensor:
    """Geometric mean of the ratios (c, m) that are not 0, shape (c,): blur and collapse by one factor weigh the same.

    0 where all are. Modes that are missed are for `Modes.captured` to count.
    """
    seen = ratios > 0
    logarithms = torch.where(seen, ratios.log(), 0.0)

    def one(row: Tensor, some: Tensor) -> Tensor:
        return torch.where(some.any(), torch.exp(row.sum() / some.sum().clamp(min=1)), 0.0)

    return torch.where(ratios.isnan().any(-1), math.nan, each(one, logarithms, seen))


def _members(x: Tensor, centres: Tensor, sd: float) -> Tensor:
    """1 where a sample is of high quality and the mode is the nearest, else 0: shape (c, n, m), float64."""
    square, index = nearest_mode(x, centres)
    labels = torch.arange(len(centres), device=x.device)
    return ((index[..., None] == labels) & (square <= (HIGH_QUALITY_SD * sd) ** 2)[..., None]).double()

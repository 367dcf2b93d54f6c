"""How a mixture of narrow modes is covered."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from study.lazy import torch
from study.metrics import compiled
from study.metrics.transport import least_costs
from study.metrics.trials import each, finite_or_nan, nearest_point

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


class Nearest(NamedTuple):
    """The mode nearest to each sample, on the CPU; made by `nearest_mode` for metrics of the same samples to share.

    Attributes:
        square: Squared distance (c, n), float64.
        mode: Which it is, (c, n), int64; the first of those equally near.
    """

    square: Tensor
    mode: Tensor

    def part(self, samples: slice) -> Nearest:
        """What belongs to some of the samples."""
        return Nearest(self.square[:, samples], self.mode[:, samples])


def nearest_mode(x: Tensor, centres: Tensor) -> Nearest:
    """The nearest of the centres (m, d) to samples (c, n, d)."""
    return Nearest(*nearest_point(x.cpu(), centres.cpu()))


def mode_shares(nearest: Nearest, modes: int) -> Tensor:
    """How many samples are nearest to each mode, int64 (c, modes), whatever their distance."""
    trials = torch.arange(len(nearest.mode))[:, None] * modes
    counts = torch.bincount((nearest.mode + trials).flatten(), minlength=len(nearest.mode) * modes)
    return counts.view(len(nearest.mode), modes)


def w2sq_by_modes(x: Tensor, centres: Tensor, nearest: Nearest | None = None) -> Tensor:
    """Squared transport cost, in two steps, of turning samples into an equal mixture of narrow modes.

    The first step moves each sample to its nearest centre and costs the mean squared distance. The second moves mass
    between centres until they weigh the same and costs the squared W2 distance between those discrete distributions.
    The work grows linearly with n, so n can be large, where `w2sq_to_modes` has to make do with a few hundred samples
    and mostly measures chance in the counts per mode.

    Args:
        x: Shape (c, n, d).
        centres: Shape (m, d).
        nearest: Their `nearest_mode`, if it is known.

    Returns:
        Sum of the two, shape (c,). For a perfect sampler of modes with covariance sd^2 I: d sd^2 and chance.
    """
    nearest = nearest or nearest_mode(x, centres)
    modes, samples = len(centres), x.shape[1]
    cost = (centres[:, None] - centres).double().square().sum(-1).cpu().numpy()
    counts = mode_shares(nearest, modes).numpy()
    between = _per_sample(counts, cost, samples)
    return finite_or_nan((nearest.square.mean(1) + torch.from_numpy(between)).to(x.device), x)


def w2sq_to_modes(x: Tensor, centres: Tensor, nearest: Nearest | None = None) -> Tensor:
    """Squared 2-Wasserstein distance between samples and the centres, all of the same weight.

    Args:
        x: Shape (c, n, d).
        centres: Shape (m, d).
        nearest: Their `nearest_mode`, if it is known.

    Returns:
        Shape (c,), nan also where a square overflows. For m centres repeated n / m times it is `samples.w2sq_samples`.
    """
    nearest = nearest or nearest_mode(x, centres)
    samples, modes = x.shape[1], len(centres)
    costs = np.zeros((len(x), samples, modes))
    with np.errstate(invalid="ignore", over="ignore"):  # of numbers that are not finite, or whose squares are not
        for coordinate, centre in zip(x.cpu().double().unbind(-1), centres.cpu().double().unbind(-1), strict=True):
            costs += np.square(coordinate.numpy()[..., None] - centre.numpy())
        # every sample goes somewhere: what is left to be decided is how much more than the least it costs
        costs -= nearest.square.numpy()[..., None]
    more = _per_sample(np.ones((len(x), samples), dtype=np.int64), costs, samples)
    return finite_or_nan((nearest.square.mean(1) + torch.from_numpy(more)).to(x.device), x)


def _per_sample(counts: NDArray[np.int64], costs: NDArray[np.float64], samples: int) -> NDArray[np.float64]:
    """Least mean cost (c,) of moving counts (c, n) of so many samples in all to m modes, as many to each."""
    modes = costs.shape[-1]
    unit = math.gcd(samples, modes)  # parts of a sample in which all masses are whole numbers
    total = least_costs(counts * (modes // unit), costs, np.full(modes, samples // unit))
    mean: NDArray[np.float64] = total / (samples * modes // unit)
    return mean


def ring_modes(x: Tensor, centres: Tensor, *, sd: float, minimum: int = 1, nearest: Nearest | None = None) -> Modes:
    """Mode metrics of mixtures of round modes, wherever their centres are (PacGAN, Lin et al. 2018).

    Args:
        x: Shape (c, n, d).
        centres: Shape (m, d).
        sd: Standard deviation of a mode along each axis.
        minimum: High-quality samples that make a mode captured: 1 in PacGAN, 11 in Thanh-Tung et al. (2019).
        nearest: Their `nearest_mode`, if it is known.
    """
    d = centres.shape[1]
    counts, squares = _moments(x, centres, sd, nearest)
    freedom = d * (counts - 1).clamp(min=0).sum(-1)
    variance = squares.sum(-1) / freedom.clamp(min=1)
    return Modes(
        captured=finite_or_nan((counts >= minimum).sum(-1).double(), x),
        high_quality=finite_or_nan(counts.sum(-1).double() / x.shape[1], x),
        variance_ratio=finite_or_nan(variance / (truncated_variance(d) * sd**2), x),
    )


def mode_counts(x: Tensor, centres: Tensor, *, sd: float, nearest: Nearest | None = None) -> Tensor:
    """High-quality samples (c, m) nearest to each mode; arguments as in `ring_modes`.

    Their `divergence.kl_to_uniform` says how evenly the modes are hit.
    """
    return finite_or_nan(_moments(x, centres, sd, nearest)[0].double(), x)


def mode_variance_ratios(x: Tensor, centres: Tensor, *, sd: float, nearest: Nearest | None = None) -> Tensor:
    """For each mode, what `Modes.variance_ratio` pools: shape (c, m), 0 for a mode with fewer than two samples.

    Arguments as in `ring_modes`. The ratio of a perfect sampler with n samples in a mode has a relative standard
    deviation of sqrt(2 / (d n)) at most.
    """
    d = centres.shape[1]
    counts, squares = _moments(x, centres, sd, nearest)
    variances = squares / (d * (counts - 1)).clamp(min=1)
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


def _moments(x: Tensor, centres: Tensor, sd: float, nearest: Nearest | None) -> tuple[Tensor, Tensor]:
    """High-quality samples of each mode, int64 (c, m), and the sum of their squares about their mean, (c, m)."""
    nearest, limit = nearest or nearest_mode(x, centres), (HIGH_QUALITY_SD * sd) ** 2
    found = compiled.moments(x.cpu(), centres, nearest.square, nearest.mode, limit)
    if not found:
        pairs = [_moments_of_one(*trial, centres.cpu(), limit) for trial in zip(x.cpu(), *nearest, strict=True)]
        counts = torch.cat([torch.empty(0, len(centres), dtype=torch.int64), *(pair[0][None] for pair in pairs)])
        squares = torch.cat([torch.empty(0, len(centres), dtype=torch.float64), *(pair[1][None] for pair in pairs)])
        found = counts, squares
    return found[0].to(x.device), found[1].to(x.device)


def _moments_of_one(x: Tensor, square: Tensor, index: Tensor, centres: Tensor, limit: float) -> tuple[Tensor, Tensor]:
    inside = square <= limit
    index, modes = index[inside], len(centres)
    counts, squares = torch.bincount(index, minlength=modes), torch.zeros(1, dtype=torch.float64)
    for coordinate, centre in zip(x[inside].double().unbind(-1), centres.double().unbind(-1), strict=True):
        offsets = coordinate - centre[index]
        means = torch.bincount(index, offsets, minlength=modes) / counts.clamp(min=1)  # sums go from first to last
        squares = squares + (offsets - means[index]).square()
    return counts, torch.bincount(index, squares.expand(len(index)), minlength=modes)

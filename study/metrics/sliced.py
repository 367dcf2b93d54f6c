"""Wasserstein distances on the line, which are exact at any sample size, and their means over directions."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from study.lazy import torch
from study.metrics.trials import each, finite_or_nan

if TYPE_CHECKING:
    from torch import Tensor


def w1_line(x: Tensor, reference: Tensor) -> Tensor:
    """1-Wasserstein distance on the line between samples (c, n, 1) and a reference (m, 1), shape (c,)."""
    return sliced_w1(x, reference, x.new_ones(1, 1))


def w2sq_line(x: Tensor, reference: Tensor) -> Tensor:
    """Squared 2-Wasserstein distance on the line between samples (c, n, 1) and a reference (m, 1), shape (c,)."""
    return sliced_w2sq(x, reference, x.new_ones(1, 1))


def sliced_w1(x: Tensor, reference: Tensor, directions: Tensor) -> Tensor:
    """Mean over directions of the 1-Wasserstein distance between projected samples; as `sliced_w2sq`."""
    return _sliced(x, reference, directions, power=1)


def sliced_w2sq(x: Tensor, reference: Tensor, directions: Tensor) -> Tensor:
    """Mean over directions of the squared 2-Wasserstein distance between projected samples (Bonneel et al. 2015).

    A shift by v costs |v|^2 / d on average over all directions, since each of them sees one coordinate only.

    Args:
        x: Shape (c, n, d).
        reference: Shape (m, d), finite; m need not be n.
        directions: Unit vectors, shape (s, d), the same for whatever is to be compared.

    Returns:
        Shape (c,). For a perfect sampler it is not 0 but falls with n and m.
    """
    return _sliced(x, reference, directions, power=2)


def planar_directions(count: int) -> Tensor:
    """Unit vectors (count, 2) at equal angles over a half turn; the other half would see the same distances."""
    angles = (torch.arange(count, dtype=torch.float64) + 0.5) * (math.pi / count)
    return torch.stack([angles.cos(), angles.sin()], -1)


def random_directions(d: int, count: int, *, generator: torch.Generator) -> Tensor:
    """Unit vectors (count, d), float64, uniform on the sphere and independent."""
    normal = torch.randn(count, d, generator=generator, dtype=torch.float64)
    return normal / normal.square().sum(1, keepdim=True).sqrt()


def _sliced(x: Tensor, reference: Tensor, directions: Tensor, *, power: int) -> Tensor:
    directions = directions.to(x.device, torch.float64)
    own, other, mass = (part.to(x.device) for part in _coupling(x.shape[1], len(reference)))
    sorted_reference = (reference.double() @ directions.T).sort(0).values[other]

    def one(trial: Tensor) -> Tensor:
        gaps = ((trial @ directions.T).sort(0).values[own] - sorted_reference).abs() ** power
        return (mass[:, None] * gaps).sum(0).mean()

    return finite_or_nan(each(one, x), x)


def _coupling(n: int, m: int) -> tuple[Tensor, Tensor, Tensor]:
    """Which of n sorted points of mass 1/n meets which of m of mass 1/m, and the mass they share, each (r,)."""
    # In units of 1 / (n m) all masses are whole numbers, so nothing is rounded and no piece of mass is lost.
    ends = torch.unique(torch.cat([torch.arange(1, n + 1) * m, torch.arange(1, m + 1) * n]))
    starts = torch.cat([ends.new_zeros(1), ends[:-1]])
    return starts // m, starts // n, (ends - starts).double() / (n * m)

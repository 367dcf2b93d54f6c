"""Wasserstein distances on the line, which are exact at any sample size, and their means over directions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from study.lazy import torch
from study.metrics.trials import each, finite_or_nan, in_order

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
    directions = directions.to(x.device, torch.float64)
    own, other, mass = (part.to(x.device) for part in _coupling(x.shape[1], len(reference)))
    sorted_reference = _projected(reference, directions)[:, other]

    def one(trial: Tensor) -> Tensor:
        gaps = (_projected(trial, directions)[:, own] - sorted_reference).abs()
        return (mass * gaps).sum(1).mean()

    return finite_or_nan(each(one, x), x)


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
    return sliced_w2sq_to_each(x, (coupled(x.shape[1], reference, directions),), directions)[0]


class Coupled(NamedTuple):
    """What samples are coupled to on each direction, made by `coupled` once for all that are compared with it.

    Attributes:
        mean: Mean (s, n) of what the i-th smallest of n samples is coupled to.
        spread: Mean variance () about it: what samples cost at least.
    """

    mean: Tensor
    spread: Tensor


def sliced_w2sq_to_each(x: Tensor, references: Sequence[Coupled], directions: Tensor) -> tuple[Tensor, ...]:
    """`sliced_w2sq` of samples (c, n, d) to several references, for which they are projected and sorted once."""
    directions = directions.to(x.device, torch.float64)
    known = [Coupled(*(part.to(x.device) for part in reference)) for reference in references]

    def one(trial: Tensor) -> Tensor:
        projected = _projected(trial, directions)
        costs = [(projected - to.mean).square_().mean(1).mean() + to.spread for to in known]
        return torch.stack(costs)

    values = each(one, x).reshape(len(x), len(known))
    return tuple(finite_or_nan(values, x).unbind(1))


def coupled(n: int, reference: Tensor, directions: Tensor) -> Coupled:
    """What n samples are coupled to, of a reference (m, d) and directions (s, d).

    A point that shares its mass 1/n between some partners pays 1/n times its squared distance to their mean, and their
    variance, which does not depend on it.
    """
    own, other, mass = _coupling(n, len(reference))
    first = torch.searchsorted(own, torch.arange(n))
    met = _projected(reference.cpu(), directions.to("cpu", torch.float64))[:, other]
    offset = met - met[:, first][:, own]  # a sole partner is its own mean, to the last bit
    mean = torch.zeros(len(met), n, dtype=torch.float64).index_add_(1, own, mass * n * offset)
    spread = (mass * (offset - mean[:, own]).square()).sum(1).mean()
    return Coupled(met[:, first] + mean, spread)


def _projected(x: Tensor, directions: Tensor) -> Tensor:
    """Projections (s, n) of samples (n, d) on directions (s, d), each in order."""
    return in_order(directions @ x.double().T)


def planar_directions(count: int) -> Tensor:
    """Unit vectors (count, 2) at equal angles over a half turn; the other half would see the same distances."""
    angles = (torch.arange(count, dtype=torch.float64) + 0.5) * (math.pi / count)
    return torch.stack([angles.cos(), angles.sin()], -1)


def random_directions(d: int, count: int, *, generator: torch.Generator) -> Tensor:
    """Unit vectors (count, d), float64, uniform on the sphere and independent."""
    normal = torch.randn(count, d, generator=generator, dtype=torch.float64)
    return normal / normal.square().sum(1, keepdim=True).sqrt()


def _coupling(n: int, m: int) -> tuple[Tensor, Tensor, Tensor]:
    """Which of n sorted points of mass 1/n meets which of m of mass 1/m, and the mass they share, each (r,)."""
    # In units of 1 / (n m) all masses are whole numbers, so nothing is rounded and no piece of mass is lost.
    ends = torch.unique(torch.cat([torch.arange(1, n + 1) * m, torch.arange(1, m + 1) * n]))
    starts = torch.cat([ends.new_zeros(1), ends[:-1]])
    return starts // m, starts // n, (ends - starts).double() / (n * m)

"""Divergences between distributions over finitely many cells: histograms, counts per mode, densities on a grid.

Natural logarithms throughout. A row that is not finite or has a negative entry gets nan.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from study.lazy import torch
from study.metrics.trials import finite_or_nan

if TYPE_CHECKING:
    from torch import Tensor


def entropy(p: Tensor) -> Tensor:
    """Entropy -sum p log p in nats, shape (c,), of probabilities (c, k): 0 for one cell, log k for all alike."""
    p = p.double()
    return _checked(-_product(p, p).sum(-1), p)


def kl(p: Tensor, q: Tensor) -> Tensor:
    """Kullback-Leibler divergence sum p log(p / q) in nats.

    Args:
        p: Probabilities, shape (c, k), each row summing to 1.
        q: Probabilities, shape (k,) or (c, k).

    Returns:
        Shape (c,); infinite where q misses a cell of p. Rounding can make it slightly negative; it is clipped at 0.
    """
    p, q = p.double(), q.double().expand(p.shape).contiguous()
    return _checked(_product(p, p / q).sum(-1).clamp(min=0), p, q)


def jsd(p: Tensor, q: Tensor) -> Tensor:
    """Jensen-Shannon divergence KL(p || m) / 2 + KL(q || m) / 2, m = (p + q) / 2, in nats; no root is taken.

    Of a histogram of n samples from q itself it is (k - 1) / (8 n) on average, to leading order.

    Args:
        p: Probabilities, shape (c, k), each row summing to 1.
        q: Probabilities, shape (k,) or (c, k).

    Returns:
        Shape (c,), between 0 and log 2, which it is for distributions without a cell in common.
    """
    p, q = p.double(), q.double().expand(p.shape).contiguous()
    total = p + q
    value = (_product(p, 2 * p / total).sum(-1) + _product(q, 2 * q / total).sum(-1)) / 2
    return _checked(value.clamp(min=0, max=math.log(2)), p, q)


def kl_on_grid(p: Tensor, q: Tensor, volume: float) -> Tensor:
    """`kl` of densities p (c, ...) and q (...) or (c, ...) at the centres of cells of equal volume; (c,)."""
    return _on_grid(kl, p, q, volume)


def jsd_on_grid(p: Tensor, q: Tensor, volume: float) -> Tensor:
    """`jsd` of densities p (c, ...) and q (...) or (c, ...) at the centres of cells of equal volume; (c,).

    Mass outside the grid is left out, which takes off at most log 2 times the mean of what p and q have there.
    """
    return _on_grid(jsd, p, q, volume)


def kl_to_uniform(counts: Tensor) -> Tensor:
    """KL(counts / n || uniform) in nats, shape (c,), of counts per mode (c, m); nan where nothing was counted.

    Called the reverse KL (Srivastava et al. 2017, VEEGAN; PacGAN), for the samples come first. Of n samples of a
    perfect sampler it is (m - 1) / (2 n) on average, to leading order, so n belongs in the name of a metric made of it;
    `mean_kl_to_uniform` is exact.
    """
    counts = counts.double()
    return kl(counts / counts.sum(-1, keepdim=True), counts.new_full((1,), 1 / counts.shape[-1]))


def mean_kl_to_uniform(samples: int, modes: int) -> float:
    """The mean of `kl_to_uniform` of so many samples of a perfect sampler of so many modes, two or more, in nats.

    Where few samples fall on a mode it is more than (modes - 1) / (2 samples): those of one are binomial.
    """
    share, whole = 1 / modes, math.lgamma(samples + 1)
    total = 0.0
    for count in range(1, samples + 1):
        ways = whole - math.lgamma(count + 1) - math.lgamma(samples - count + 1)
        chance = math.exp(ways + count * math.log(share) + (samples - count) * math.log1p(-share))
        total += chance * count / samples * math.log(count * modes / samples)
    return modes * total


def histogram(x: Tensor, edges: Sequence[Tensor]) -> Tensor:
    """Shares of samples in the cells of a grid, and as one more cell the share outside of it.

    Args:
        x: Shape (c, n, d).
        edges: For each of the d coordinates its increasing edges, shape (b_i + 1,). A cell holds its lower edge, the
            last one of a row also its upper edge, as in numpy.

    Returns:
        Shape (c, b_1 * ... * b_d + 1), the last coordinate's cells running fastest.
    """
    sizes = [len(edge) - 1 for edge in edges]
    cells = functools.reduce(operator.mul, sizes)
    flat = torch.zeros_like(x[..., 0], dtype=torch.long)
    inside = torch.ones_like(flat, dtype=torch.bool)
    for axis, (size, edge) in enumerate(zip(sizes, edges, strict=True)):
        values, edge = x[..., axis].double().contiguous(), edge.double().to(x.device)
        index = torch.bucketize(values, edge, right=True) - 1
        index = torch.where(values == edge[-1], size - 1, index)
        inside = inside & (index >= 0) & (index < size)
        flat = flat * size + index
    flat = torch.where(inside, flat, cells)
    first = torch.arange(len(x), device=x.device)[:, None] * (cells + 1)
    counts = torch.bincount((flat + first).flatten(), minlength=len(x) * (cells + 1)).double()
    return finite_or_nan(counts.view(len(x), cells + 1) / x.shape[1], x)


def histogram_of_ordered(x: Tensor, edges: Tensor) -> Tensor:
    """`histogram` of numbers on the line, (c, b + 1), from x (c, n) in increasing order and b + 1 edges."""
    values, edges = x.double().contiguous(), edges.double().to(x.device).expand(len(x), -1)
    below = torch.searchsorted(values, edges.contiguous())
    below[:, -1] = torch.searchsorted(values, edges[:, -1:].contiguous(), right=True)[:, 0]
    inside = below.diff(dim=1)
    outside = x.shape[1] - inside.sum(1, keepdim=True)
    return finite_or_nan(torch.cat([inside, outside], 1).double() / x.shape[1], x)


def _product(p: Tensor, ratio: Tensor) -> Tensor:
    """Terms p log(ratio), 0 where p is 0."""
    return torch.where(p == 0, 0.0, p * torch.log(ratio))


def _on_grid(divergence: Callable[[Tensor, Tensor], Tensor], p: Tensor, q: Tensor, volume: float) -> Tensor:
    q = q.expand(p.shape)
    return divergence(volume * p.double().flatten(1), volume * q.double().flatten(1))


def _checked(value: Tensor, *distributions: Tensor) -> Tensor:
    for p in distributions:
        value = finite_or_nan(torch.where((p >= 0).all(-1), value, math.nan), p)
    return value

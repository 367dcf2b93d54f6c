"""What all metrics share: many trials at once, and a nan for the one that is broken.

Every metric takes the trials along the leading axis c and returns float64 values of shape (c,). A trial whose samples
or parameters are not finite gets nan, raises nothing and leaves the others alone. What a trial gets depends on that
trial only: anything whose rounding could change with the number of rows is computed trial by trial.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from study.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor


ROWS = 256
"""Rows of a matrix of pairs that are held at once: few enough that a block of some thousand columns stays in cache."""


def each(function: Callable[..., Tensor], x: Tensor, *others: Tensor) -> Tensor:
    """Apply a function of one trial (n, d) to each of the trials (c, n, d), with the memory of one; float64.

    Others, also of length c, are cast and handed over trial by trial as further arguments.
    """
    x = x.double()
    if len(x) == 0:
        return x.new_empty(0)
    return torch.stack([function(*parts) for parts in zip(x, *(other.double() for other in others), strict=True)])


def rows(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Apply a function that treats the rows of x (n, d) one by one to `ROWS` of them at a time; joined, (n, ...)."""
    return torch.cat([function(part) for part in torch.split(x, ROWS)])


def finite_or_nan(value: Tensor, x: Tensor) -> Tensor:
    """The values (c, ...), nan where the trial's x (c, ...) is not finite throughout."""
    if not x[:1].numel():
        return value
    # the extremes tell as much as a look at every number, in a quarter of the time, and nan is both
    lowest, highest = torch.aminmax(x.flatten(1), dim=1)
    finite = torch.isfinite(lowest) & torch.isfinite(highest)
    return torch.where(finite.view(-1, *[1] * (value.ndim - 1)), value, math.nan)


def distances(a: Tensor, b: Tensor) -> Tensor:
    """Euclidean distances (n, m) by differences: the usual shortcut of a matrix product is wrong near 0."""
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")


def nearest_distances(a: Tensor, b: Tensor, *, others: bool = False) -> Tensor:
    """Euclidean distance (n,) of each row of a (n, d) to the nearest row of b (m, d); to another row, if `others`.

    The nearest row is found by a matrix product, some ten times faster than by differences, and its distance taken by
    differences. Of two rows whose squared distances agree to 15 digits of the squares, either may be found.
    """
    centre = b.mean(0)
    squares = (b - centre).square().sum(1) - 2 * ((a - centre) @ (b - centre).T)
    if not torch.isfinite(squares.sum()):
        exact = distances(a, b)
        return (exact.fill_diagonal_(math.inf) if others else exact).amin(1)
    if others:
        squares.fill_diagonal_(math.inf)
    found: Tensor = torch.linalg.vector_norm(a - b[squares.argmin(1)], dim=1)
    return found


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

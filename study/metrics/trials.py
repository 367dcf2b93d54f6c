"""What all metrics share: many trials at once, and a nan for the one that is broken.

Every metric takes the trials along the leading axis c and returns float64 values of shape (c,). A trial whose samples
or parameters are not finite gets nan, raises nothing and leaves the others alone. What a trial gets depends on that
trial only: anything whose rounding could change with the number of rows, as products of matrices do, is computed trial
by trial. Sums along a dense last axis round alike for any number of rows, by one thread.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from study.lazy import torch
from study.metrics import compiled

if TYPE_CHECKING:
    from torch import Tensor


FEW = 2**10
"""Numbers that are looked at one by one: fewer operations."""
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


def by_rows(function: Callable[[Tensor], Tensor], x: Tensor, *, native: bool = False) -> Tensor:
    """Results (c, n, ...) of a function of points (n, d), row by row, for those of all trials (c, n, d).

    Args:
        function: The function, the same object every time.
        x: Points.
        native: True to compile it for this CPU, where its operations can be translated.
    """
    if native and x.device.type == "cpu" and len(x) and x.shape[1]:
        from study.native.mapped import of_points

        made = of_points(function, x.shape[2:], x.dtype)
        if made:
            return made({"points": x})["results"]
    if len(x):
        return torch.stack([function(trial) for trial in x])
    none = function(x.flatten(0, 1))
    return none.new_empty(0, x.shape[1], *none.shape[1:])


def rows(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Apply a function that treats the rows of x (n, d) one by one to `ROWS` of them at a time; joined, (n, ...)."""
    return torch.cat([function(part) for part in torch.split(x, ROWS)])


def finite_or_nan(value: Tensor, x: Tensor) -> Tensor:
    """The values (c, ...), nan where the trial's x (c, ...) is not finite throughout."""
    return all_finite_or_nan({"": value}, x)[""]


def all_finite_or_nan(values: Mapping[str, Tensor], *evidence: Tensor) -> dict[str, Tensor]:
    """Values (c, ...) by name, all nan for a trial of which some evidence, each (c, ...), is not finite throughout.

    Where all is finite, they may be the very tensors.
    """
    # no number that is not finite leaves a finite sum
    if all(x.numel() <= FEW and x.device.type == "cpu" and math.isfinite(x.sum().item()) for x in evidence):
        return dict(values)
    finite = functools.reduce(operator.and_, [_finite(x) for x in evidence])
    if finite.device.type == "cpu" and finite.all():
        return dict(values)
    return {
        name: torch.where(finite.view(-1, *[1] * (value.ndim - 1)), value, math.nan) for name, value in values.items()
    }


def _finite(x: Tensor) -> Tensor:
    """Whether a trial's numbers (c, ...) are all finite, (c,)."""
    if not x[:1].numel():
        return torch.ones(len(x), dtype=torch.bool, device=x.device)
    flat = x.flatten(1)
    if x.numel() <= FEW:
        return torch.isfinite(flat).all(1)
    if x.device.type == "cpu":
        # as above; and a sum takes half the time of both extremes
        found = torch.isfinite(flat.sum(1))
        if found.all():
            return found
    # a sum can overflow; the extremes tell as much as a look at every number, in a tenth of the time, and nan is both
    return torch.isfinite(flat.amin(1)) & torch.isfinite(flat.amax(1))


def in_order(x: Tensor) -> Tensor:
    """Numbers (..., n) sorted along the last axis, nan last."""
    if x.device.type != "cpu":
        return x.sort(-1).values
    return torch.from_numpy(np.sort(x.numpy(), axis=-1))  # a tenth of the time of torch's, which sorts indices too


def nearest_point(x: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """Squared distance and number of the nearest of the points (m, d) to x (c, n, d): (c, n), float64 and int64.

    By differences, one coordinate after the other, which for a few coordinates is fast; of points equally near it is
    the first.

    Raises:
        ValueError: The points have not as many coordinates.
    """
    _refuse_others(x, points)
    found = compiled.nearest(x, points)
    if found:
        return found
    squares = x.new_zeros((), dtype=torch.float64)
    # sums over a short last axis are slow
    for coordinate, centre in zip(x.double().unbind(-1), points.to(x.device).double().unbind(-1), strict=True):
        squares = squares + (coordinate[..., None] - centre).square()
    nearest: tuple[Tensor, Tensor] = squares.min(-1)
    return nearest[0], nearest[1]


def distances(a: Tensor, b: Tensor) -> Tensor:
    """Euclidean distances (n, m) by differences: the usual shortcut of a matrix product is wrong near 0."""
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")


def _refuse_others(x: Tensor, points: Tensor) -> None:
    if x.shape[-1] != points.shape[-1]:
        raise ValueError(f"points must have as many coordinates, got {x.shape[-1]} and {points.shape[-1]}")


def nearest_distances(x: Tensor, rows: Tensor | None = None) -> Tensor:
    """Euclidean distance (c, n), float64, of points (c, n, d) to the nearest of rows (m, d), else to another point.

    Which rows can be nearest is told by a product of matrices, some ten times faster than by differences, and all that
    it can err by; of these the distances are taken by differences.

    Raises:
        ValueError: The rows have not as many coordinates.
    """
    if rows is not None:
        _refuse_others(x, rows)

    def one(of_trial: Callable[..., Tensor], trial: Tensor) -> Tensor:
        return of_trial(trial.double(), (trial if rows is None else rows).double(), others=rows is None)

    if not x.shape[0] * x.shape[1]:
        return x.new_empty(x.shape[:2], dtype=torch.float64)
    found = compiled.nearest_rows(x, rows)
    if found is None:
        return torch.stack([one(_by_product, trial) for trial in x])
    distance, fine = found
    for i in (~fine).nonzero().flatten().tolist():
        distance[i] = one(_by_differences, x[i])
    return distance


LARGEST = 1e37
"""Squares up to which products are taken in float32."""
PAIRS = 2**14
"""Pairs of points that are looked at more closely at once."""


def _by_product(a: Tensor, b: Tensor, *, others: bool) -> Tensor:
    centre, dtype = b.mean(0), torch.float32 if a.device.type == "cpu" else torch.float64
    left, right = a - centre, b - centre
    lengths, squares = left.square().sum(1).sqrt(), right.square().sum(1)
    # d products and sums, and the roundings of the factors, each by half a unit in the last place
    size = lengths * squares.amax().sqrt() + squares.amax() / 2
    if not (size < LARGEST).all():
        return _by_differences(a, b, others=others)
    error = (a.shape[1] + 8) * torch.finfo(dtype).eps / 2 * size + 1e-36
    some = (squares / 2).to(dtype) - left.to(dtype) @ right.to(dtype).T
    if others:
        some.fill_diagonal_(math.inf)
    near = some <= (some.amin(1) + 2.1 * error)[:, None]
    if others:
        near.fill_diagonal_(False)
    found = torch.full_like(lengths, math.inf)
    for pairs in torch.split(near.nonzero(), PAIRS):
        point, row = pairs.unbind(1)
        total = found.new_zeros(len(pairs))
        for coordinate in (a[point] - b[row]).unbind(1):  # from the first to the last
            total = total + coordinate.square()
        found = found.scatter_reduce(0, point, total, "amin")
    return found.sqrt()


def _by_differences(a: Tensor, b: Tensor, *, others: bool) -> Tensor:
    exact = distances(a, b)
    return (exact.fill_diagonal_(math.inf) if others else exact).amin(1)


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

"""Compiled code for metrics.

All but `covariance` is used wherever there is a compiler, and the same to the last bit as what runs without it, but for
the roots of `nearest_rows`: torch's can be off by one unit in the last place.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from study.lazy import torch
from study.native.build import CompilerFailed, NoCompiler, library, missing

if TYPE_CHECKING:
    from torch import Tensor


SOURCES = ("compiled.cpp", "transport.cpp")
"""Files beside this one that make one program, in this order."""


@functools.cache
def code() -> ctypes.CDLL | None:
    """The compiled functions; None where nothing can be compiled."""
    if missing():  # which is known sooner than that these cannot be
        return None
    try:
        return library("\n".join(Path(__file__).with_name(name).read_text() for name in SOURCES))
    except (NoCompiler, CompilerFailed):
        return None


def nearest(x: Tensor, centres: Tensor) -> tuple[Tensor, Tensor] | None:
    """Squared distance (c, n), float64, and number (c, n), int64, of the nearest centre (m, d) to points (c, n, d).

    The distances are sums, one coordinate after the other, of squared differences in float64; of centres equally near
    it is the first. None where there is no compiled code for it.
    """
    _refuse("as many coordinates", x.shape[-1:], centres.shape[-1:])
    if not _usable(x) or not len(centres):
        return None
    x, apart = _rows(x)
    square = torch.empty(x.shape[:2], dtype=torch.float64)
    index = torch.empty(x.shape[:2], dtype=torch.int64)
    sizes = *x.shape[:2], len(centres), x.shape[2], apart
    _run("nearest", x.dtype, sizes, (x, centres.to("cpu", torch.float64).contiguous(), square, index))
    return square, index


def moments(x: Tensor, centres: Tensor, square: Tensor, index: Tensor, limit: float) -> tuple[Tensor, Tensor] | None:
    """Of points (c, n, d) within the limit of their nearest centre: their number, and their squares about their mean.

    Args:
        x: The points.
        centres: The centres (m, d).
        square: Of `nearest`, or a part of it.
        index: The same.
        limit: Largest squared distance.

    Returns:
        Both (c, m), int64 and float64, the squares summed up from the first point to the last; None where there is no
        compiled code for it.
    """
    _refuse("as many coordinates", x.shape[-1:], centres.shape[-1:])
    _refuse("a nearest centre each", x.shape[:2], square.shape, index.shape)
    if index.numel() and int(index.amax()) >= len(centres):
        raise ValueError(f"there are {len(centres)} centres and no number {int(index.amax())}")
    if not _usable(x):
        return None
    x, apart = _rows(x)
    (square, near_apart), (index, _) = _rows(square), _rows(index)
    counts = torch.empty(len(x), len(centres), dtype=torch.int64)
    squares = torch.empty(len(x), len(centres), dtype=torch.float64)
    sizes = *x.shape[:2], len(centres), x.shape[2], apart, near_apart
    bound = torch.tensor(limit, dtype=torch.float64)
    arrays = x, centres.to("cpu", torch.float64).contiguous(), square, index, bound, counts, squares
    _run("moments", x.dtype, sizes, arrays)
    return counts, squares


def nearest_rows(x: Tensor, rows: Tensor | None) -> tuple[Tensor, Tensor] | None:
    """Distance (c, n) of points (c, n, d) to the nearest of rows (m, d), or without them to another point.

    The root of the sum, from the first coordinate to the last, of squared differences in float64.

    Returns:
        The distances, float64, and whether they could be found (c,): not where numbers are too large or not finite.
        None where there is no compiled code for it.
    """
    if not _usable(x):
        return None
    if rows is not None:
        _refuse("as many coordinates", x.shape[-1:], rows.shape[-1:])
    if rows is not None and rows.dtype is not x.dtype:
        x, rows = x.double(), rows.double()
    x, apart = _rows(x)
    to, count, rows_apart = (x, x.shape[1], apart) if rows is None else (rows.contiguous(), len(rows), 0)
    found = torch.empty(x.shape[:2], dtype=torch.float64)
    fine = torch.empty(len(x), dtype=torch.bool)
    sizes = *x.shape[:2], count, x.shape[2], apart, rows_apart, int(rows is None)
    _run("nearest_rows", x.dtype, sizes, (x, to, found, fine))
    return found, fine


def largest(x: Tensor) -> Tensor | None:
    """Which of the last axis's numbers is the largest, int64 (...), of x (..., k); the first of those equally large.

    Of numbers that are all finite; None where there is no compiled code for it.
    """
    if not _usable(x) or not x.numel():
        return None
    x = x.contiguous()
    index = torch.empty(x.shape[:-1], dtype=torch.int64)
    _run("largest", x.dtype, (index.numel(), x.shape[-1]), (x, index))
    return index


def covariance(x: Tensor) -> tuple[Tensor, Tensor] | None:
    """Means (c, d) and unbiased covariances (c, d, d), float64, of points (c, n, d), summed up in an order of its own.

    None where there is no compiled code for it.
    """
    if not _usable(x):
        return None
    x, apart = _rows(x)
    mean = torch.empty(len(x), x.shape[2], dtype=torch.float64)
    found = torch.empty(len(x), x.shape[2], x.shape[2], dtype=torch.float64)
    _run("covariance", x.dtype, (*x.shape, apart), (x, mean, found))
    return mean, found


def _refuse(what: str, *shapes: torch.Size) -> None:
    """Compiled code would read on beyond the end of what is too small."""
    if len(set(shapes)) > 1:
        raise ValueError(f"points must have {what}, got {' and '.join(str(tuple(shape)) for shape in shapes)}")


def _usable(x: Tensor) -> bool:
    return x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64) and code() is not None


def _rows(x: Tensor) -> tuple[Tensor, int]:
    """A tensor whose trials are dense, copied if they are not, and how far apart they lie."""
    dense = x[:1].is_contiguous()
    x = x if dense else x.contiguous()
    return x, x.stride(0)


def _run(name: str, dtype: torch.dtype, sizes: Sequence[int], tensors: Sequence[Tensor]) -> None:
    function = getattr(code(), f"{name}_{'float' if dtype is torch.float32 else 'double'}")
    function(*map(ctypes.c_int64, sizes), *(ctypes.c_void_p(tensor.data_ptr()) for tensor in tensors))


def transport(
    masses: NDArray[np.int64], costs: NDArray[np.int64], capacities: NDArray[np.int64]
) -> NDArray[np.int64] | None:
    """Least costs (c,) of moving masses (c, n) at costs (c, n, m) to sinks of capacities (m,); None without a compiler.

    The capacities of a problem add up to its masses.
    """
    found = code()
    if found is None:
        return None
    problems, n, m = costs.shape
    if masses.shape != (problems, n) or capacities.shape != (m,) or (masses.sum(1) != capacities.sum()).any():
        raise ValueError("masses must fill the sinks")
    totals = np.empty(problems, dtype=np.int64)
    arrays = [np.ascontiguousarray(array, dtype=np.int64) for array in (masses, costs, capacities)]
    sizes = (ctypes.c_int64(size) for size in (problems, n, m, n * m))
    found.transport(*sizes, *(ctypes.c_void_p(array.ctypes.data) for array in (*arrays, totals)))
    return totals

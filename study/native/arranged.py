"""Views of values, values side by side, and places in zeros."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from study.native.builder import hollow
from study.native.context import Context
from study.native.statements import ADDRESS
from study.native.views import Filled, Unsupported, Value, View, part

aten = torch.ops.aten


def _same(_at: Context, x: Value, *_: object, **__: object) -> Value:
    return x


def _reshape(at: Context, x: Value, *_: object, **__: object) -> Value:
    return at.builder.reshaped(x, at.shape)


def _expand(at: Context, x: Value, *_: object, **__: object) -> Value:
    return x.expanded(at.shape)


def _permute(at: Context, x: Value, order: Sequence[int]) -> Value:
    if isinstance(x, Filled):
        return x.expanded(at.shape)
    return x.permuted(tuple(d % len(x.shape) for d in order))


def _transpose(at: Context, x: Value, first: int = 0, second: int = 1) -> Value:
    order = list(range(len(x.shape)))
    if len(order) < 2:
        return x
    order[first], order[second] = order[second], order[first]
    return _permute(at, x, order)


def _slice(
    at: Context, x: Value, dim: int = 0, start: int | None = None, _end: int | None = None, step: int = 1
) -> Value:
    size = x.shape[dim]
    return part(x, dim % len(x.shape), _start(start or 0, size), at.shape[dim], step)


def _start(start: int, size: int) -> int:
    """The first index of a slice, counted from the front."""
    return max(0, min(start + size if start < 0 else start, size))


def _split(_at: Context, x: Value, sizes: int | Sequence[int], dim: int = 0) -> list[Value]:
    whole = x.shape[dim]
    each = [min(sizes, whole - i) for i in range(0, whole, sizes)] if isinstance(sizes, int) else list(sizes)
    return [part(x, dim % len(x.shape), sum(each[:i]), size) for i, size in enumerate(each)]


def _select(at: Context, x: Value, dim: int, index: int) -> Value:
    if isinstance(x, Filled):
        return x.expanded(at.shape)
    d = dim % len(x.shape)
    return x.cut(d, index % x.shape[d], 1).without(d)


def _unbind(at: Context, x: Value, dim: int = 0) -> list[Value]:
    d = dim % len(x.shape)
    shape = (*x.shape[:d], *x.shape[d + 1 :])
    return [_select(Context(at.builder, at.dtype, shape), x, d, i) for i in range(x.shape[d])]


def _unsqueeze(at: Context, x: Value, dim: int) -> Value:
    return x.expanded(at.shape) if isinstance(x, Filled) else x.with_one(dim % (len(x.shape) + 1))


def _diagonal(at: Context, x: Value, offset: int = 0, first: int = 0, second: int = 1) -> Value:
    if isinstance(x, Filled):
        return x.expanded(at.shape)
    if len(x.shape) != 2 or offset or (first % 2, second % 2) != (0, 1):
        raise Unsupported("aten.diagonal of other than a matrix")
    return View(x.buffer, at.shape, (sum(x.strides),), x.offset)


def _filled(number: float | None) -> Callable[..., Value]:
    def make(at: Context, *args: Any, **_: object) -> Value:  # noqa: ANN401
        return Filled(args[-1] if number is None else number, at.shape, at.dtype)

    return make


def _known(function: Callable[..., torch.Tensor]) -> Callable[..., Value]:
    def make(at: Context, *args: Any, **_: object) -> Value:  # noqa: ANN401
        return at.builder.constant(function(*args, dtype=at.dtype))

    return make


def _index(at: Context, table: Value, places: Sequence[Value | None]) -> Value:
    """Rows of a table by their numbers."""
    if len(places) != 1 or not isinstance(table, View) or places[0] is None or places[0].dtype is not torch.int64:
        raise Unsupported("aten.index by other than one tensor of whole numbers")
    rows, wide = table.shape[0], at.builder.contiguous(table)
    number = at.builder.reshaped(places[0], (*places[0].shape, *(1,) * (len(table.shape) - 1)))
    # of the first row, and so many rows on; what lies outside stays inside of memory
    first = wide.cut(0, 0, 1).without(0).expanded(at.shape)
    inside = f"larger(smaller({{1}} < 0 ? {{1}} + {rows} : {{1}}, int64_t({rows - 1})), int64_t(0))"
    form = f"{ADDRESS}0}})[{inside} * {wide.strides[0]}]"
    return at.builder.pointwise(at.dtype, form, first, number)


# joining, and places in zeros


def _cat(at: Context, pieces: Sequence[Value], dim: int = 0) -> Value:
    return at.builder.joined(pieces, dim % len(at.shape), at.dtype)


def _stack(at: Context, pieces: Sequence[Value], dim: int = 0) -> Value:
    d = dim % len(at.shape)
    shape = (*at.shape[:d], 1, *at.shape[d + 1 :])
    return at.builder.joined([at.builder.reshaped(piece, shape) for piece in pieces], d, at.dtype)


def _repeat(at: Context, x: Value, repeats: Sequence[int]) -> Value:
    sizes = (1,) * (len(repeats) - len(x.shape)) + x.shape
    pairs = [number for pair in zip(repeats, sizes, strict=True) for number in pair]
    apart = at.builder.reshaped(x, tuple(number for size in sizes for number in (1, size)))
    return at.builder.reshaped(apart.expanded(tuple(pairs)), at.shape)


def _slice_back(at: Context, x: Value, _sizes: object, dim: int, start: int, _end: int, step: int) -> Value:
    out = hollow(at.builder, at.dtype, at.shape)
    first = _start(start, at.shape[dim])
    at.builder.copy_into(out.cut(dim % len(at.shape), first, x.shape[dim], step), x)
    return out


def _select_back(at: Context, x: Value, _sizes: object, dim: int, index: int) -> Value:
    out, d = hollow(at.builder, at.dtype, at.shape), dim % len(at.shape)
    at.builder.copy_into(out.cut(d, index % at.shape[d], 1).without(d), x)
    return out


def _diagonal_back(at: Context, x: Value, _sizes: object, offset: int, first: int, second: int) -> Value:
    out = hollow(at.builder, at.dtype, at.shape)
    place = _diagonal(Context(at.builder, at.dtype, x.shape), out, offset, first, second)
    at.builder.copy_into(place, x)  # type: ignore[arg-type]  # a view of a view
    return out


ARRANGED: dict[object, Callable[..., Any]] = {
    aten.alias.default: _same,
    aten.detach.default: _same,
    aten.lift_fresh.default: _same,
    aten.view.default: _reshape,
    aten._unsafe_view.default: _reshape,
    aten.reshape.default: _reshape,
    aten.squeeze.dim: _reshape,
    aten.squeeze.dims: _reshape,
    aten.squeeze.default: _reshape,
    aten.expand.default: _expand,
    aten.unsqueeze.default: _unsqueeze,
    aten.permute.default: _permute,
    aten.transpose.int: _transpose,
    aten.t.default: _transpose,
    aten.slice.Tensor: _slice,
    aten.select.int: _select,
    aten.split.Tensor: _split,
    aten.split_with_sizes.default: _split,
    aten.unbind.int: _unbind,
    aten.diagonal.default: _diagonal,
    aten.ones.default: _filled(1),
    aten.zeros.default: _filled(0),
    aten.empty.memory_format: _filled(0),
    aten.zeros_like.default: _filled(0),
    aten.ones_like.default: _filled(1),
    aten.new_zeros.default: _filled(0),
    aten.scalar_tensor.default: _filled(None),
    aten.full.default: _filled(None),
    aten.full_like.default: _filled(None),
    aten.arange.default: _known(torch.arange),
    aten.arange.start: _known(torch.arange),
    aten.arange.start_step: _known(torch.arange),
    aten.eye.default: _known(torch.eye),
    aten.eye.m: _known(torch.eye),
    aten.linspace.default: _known(torch.linspace),
    aten.index.Tensor: _index,
    aten.cat.default: _cat,
    aten.stack.default: _stack,
    aten.repeat.default: _repeat,
    aten.slice_backward.default: _slice_back,
    aten.select_backward.default: _select_back,
    aten.diagonal_backward.default: _diagonal_back,
}
"""Each gets a context, then the recorded arguments."""

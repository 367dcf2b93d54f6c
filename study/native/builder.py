"""Making statements: where results go, in which order of indices, and by which kernel."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from itertools import count
from typing import Literal

import torch

from study.native.statements import Narrow, Pointwise, Product, Reduction, RowSum, Statement, Transposition
from study.native.views import Buffer, Filled, Unsupported, Value, View, dense, part

FEW = 4
"""Terms of a sum up to which it is written out as an expression, and columns of a product that make it narrow."""
COSTLY = re.compile(r"\b(exp_of|log_of|sine|cosine|softplus|softplus_slope|tanh_of|sigmoid|quantile)\(")
"""Functions of kernels.h that are long, and inlined where they are called."""
SEVERAL = 1024
"""Numbers up to which a further pass over them costs nothing beside such a function."""
MANY = 64
"""Numbers from which on reading them out of order is worth a transposition."""


class Builder:
    """Statements so far, and the buffers they use."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.statements: list[Statement] = []
        self._numbers = count()
        self._ordered: dict[View, View] = {}

    def scratch(self, dtype: torch.dtype, shape: Sequence[int]) -> View:
        """A new buffer in a shape."""
        return dense(Buffer(f"b{next(self._numbers)}", dtype, math.prod(shape)), tuple(shape))

    def constant(self, tensor: torch.Tensor) -> View:
        """A buffer of known numbers."""
        kept = tensor.detach().contiguous()
        buffer = Buffer(f"k{next(self._numbers)}", kept.dtype, kept.numel(), "constant", tensor=kept)
        return dense(buffer, tuple(kept.shape))

    def pointwise(self, dtype: torch.dtype, form: str, *inputs: Value) -> View:
        """An expression of inputs that are broadcast against each other.

        Indices along which nothing changes are computed once; memory follows the order of the largest input.
        """
        shape = _broadcast([value.shape for value in inputs])
        wide = [value.expanded(shape) for value in inputs]
        views = [value for value in wide if isinstance(value, View)]
        needed = tuple(
            size if any(view.strides[d] for view in views) or not views else 1 for d, size in enumerate(shape)
        )
        order = _order(views, needed)
        sizes = tuple(needed[d] for d in order)
        out = self.scratch(dtype, sizes)
        arranged = [_arranged(value, order, sizes) for value in wide]
        if COSTLY.search(form) and 1 < math.prod(sizes) <= SEVERAL:
            self._add_costly(out, form, arranged)
        else:
            self._add_pointwise(out, form, arranged)
        back = tuple(order.index(d) for d in range(len(order)))
        return out.permuted(back).expanded(shape)

    def _add_costly(self, out: View, form: str, inputs: Sequence[Value]) -> None:
        """An expression that takes long to compile: in a loop of its own, the same for all that have it."""
        count = math.prod(out.shape)
        flat = tuple(self._in_line(value, count) for value in inputs)
        self.statements.append(Pointwise(View(out.buffer, (count,), (1,)), form, flat, alone=True))

    def _in_line(self, value: Value, count: int) -> Value:
        """Numbers in the order of their indices, in one dimension."""
        if isinstance(value, Filled):
            return value.expanded((count,))
        if not any(value.squeezed().strides):
            return View(value.buffer, (count,), (0,), value.offset)
        return View(self.contiguous(value).buffer, (count,), (1,), self.contiguous(value).offset)

    def _add_pointwise(self, out: View, form: str, inputs: Iterable[Value]) -> None:
        read = [self._in_order(value) if isinstance(value, View) else value for value in inputs]
        self.statements.append(Pointwise(out.squeezed(), form, tuple(_squeezed(value, out.shape) for value in read)))

    def _in_order(self, view: View) -> View:
        """The same, transposed in memory if reading it would jump about."""
        small = view.squeezed()
        if len(small.shape) < 2 or small.strides[-1] <= 1 or math.prod(small.shape) < MANY or 0 in small.strides:
            return view
        found = self.contiguous(small).reshaped(view.shape)
        return view if found is None else found

    def copy_into(self, target: View, value: Value) -> None:
        """Write a value to a view of a buffer."""
        order = _order([target], target.shape)
        sizes = tuple(target.shape[d] for d in order)
        arranged = _arranged(value.expanded(target.shape), order, sizes)
        self._add_pointwise(target.permuted(order), "{0}", [arranged])

    def contiguous(self, value: Value) -> View:
        """The same numbers side by side, the last index fastest."""
        if isinstance(value, View) and value.contiguous:
            return value
        if isinstance(value, View) and value in self._ordered:
            return self._ordered[value]
        out = self.scratch(value.dtype, value.shape)
        turned = isinstance(value, View) and _turned(value)
        if turned:
            self.statements.append(Transposition(out, turned))
        else:
            copied = (_squeezed(value, value.shape),)
            self.statements.append(Pointwise(out.squeezed(), "{0}", copied))
        if isinstance(value, View):
            self._ordered[value] = out
        return out

    def reshaped(self, value: Value, shape: tuple[int, ...]) -> Value:
        """The same numbers in another shape."""
        if isinstance(value, Filled):
            return value.expanded(shape)
        found = value.reshaped(shape)
        return found if found is not None else dense(self.contiguous(value).buffer, shape)

    def joined(self, pieces: Sequence[Value], dim: int, dtype: torch.dtype) -> View:
        """Values side by side along a dimension; what was made for this alone is made in its place."""
        shape = list(pieces[0].shape)
        shape[dim] = sum(piece.shape[dim] for piece in pieces)
        out = self.scratch(dtype, shape)
        first = 0
        for piece in (piece for piece in pieces if math.prod(piece.shape)):
            place = out.cut(dim, first, piece.shape[dim])
            first += piece.shape[dim]
            if isinstance(piece, View) and _can_move(piece, place):
                piece.buffer.home = (out.buffer, place.offset)
            else:
                self.copy_into(place, piece)
        return out

    def product(self, left: Value, right: Value, start: Value | None = None) -> View:
        """The sum start + left (m, k) right (k, n), with numbers of `start` broadcast."""
        (m, k), n = left.shape, right.shape[1]
        kinds = {value.dtype for value in (left, right, start) if value is not None}
        if len(kinds) > 1 or not left.dtype.is_floating_point:
            raise Unsupported(f"a product of {left.dtype} and {right.dtype}")
        if not m * n * k:
            raise Unsupported("a product of nothing")
        begin = None if start is None else self._start(start, (m, n))
        if k <= FEW:
            return self._written_out(left, right, begin)
        one, other = (value if isinstance(value, View) else self.contiguous(value) for value in (left, right))
        if n <= FEW and one.strides[1] == 1:
            return self._narrow(one, other, begin)
        lying = other.strides[1] == 1
        if one.strides[0] == 1 and (n <= FEW < m or not lying):
            turned = self._wide(other.permuted((1, 0)), one.permuted((1, 0)), begin and begin.permuted((1, 0)))
            return turned.permuted((1, 0))
        return self._wide(one, other, begin)

    def _start(self, start: Value, shape: tuple[int, int]) -> View:
        return self.contiguous(start) if isinstance(start, Filled) else start.expanded(shape)

    def _written_out(self, left: Value, right: Value, start: View | None) -> View:
        terms: list[str] = []
        inputs: list[Value] = []
        for i in range(left.shape[1]):
            terms.append(f"{{{len(inputs)}}} * {{{len(inputs) + 1}}}")
            inputs += [part(left, 1, i, 1), part(right, 0, i, 1)]
        if start is not None:
            terms.insert(0, f"{{{len(inputs)}}}")
            inputs.append(start)
        return self.pointwise(left.dtype, " + ".join(terms), *inputs)

    def _narrow(self, left: View, right: View, start: View | None) -> View:
        out = self.scratch(left.dtype, (left.shape[0], right.shape[1]))
        columns = right.permuted((1, 0))
        if columns.strides[1] != 1:
            columns = self.contiguous(columns)
        self.statements.append(Narrow(out, left, columns.permuted((1, 0)), start))
        return out

    def _wide(self, left: View, right: View, start: View | None) -> View:
        if right.shape[1] > 1 and right.strides[1] != 1:
            right = self.contiguous(right)
        if start is not None and start.strides[1] not in (0, 1):
            start = self.contiguous(start)
        out = self.scratch(left.dtype, (left.shape[0], right.shape[1]))
        self.statements.append(Product(out, left, right, start))
        return out

    def reduced(self, value: Value, dims: Sequence[int], kind: Literal["sum", "largest", "squares"]) -> View:
        """A value reduced over some dimensions, which keep size one."""
        if not math.prod(value.shape):
            raise Unsupported("a sum of nothing")
        view = value if isinstance(value, View) else self.contiguous(value)
        kept = [d for d in range(len(view.shape)) if d not in dims]
        sizes = tuple(1 if d in dims else size for d, size in enumerate(view.shape))
        rows, length = math.prod(sizes), math.prod(view.shape[d] for d in dims)
        if kind == "sum" and len(dims) == 1 and rows > 1 and length <= 2 * FEW:
            parts = [view.cut(dims[0], i, 1) for i in range(length)]
            return self.pointwise(view.dtype, " + ".join(f"{{{i}}}" for i in range(length)), *parts)
        out = self.scratch(view.dtype, (rows,))
        by_rows = view.permuted((*dims, *kept))
        if kind == "sum" and rows > 1 and by_rows.contiguous:
            self.statements.append(RowSum(out, View(view.buffer, (length, rows), (rows, 1), view.offset)))
        else:
            source = self.contiguous(view.permuted((*kept, *dims)))
            flat = View(source.buffer, (rows, length), (length, 1), source.offset)
            self.statements.append(Reduction(out, flat, kind))
        return dense(out.buffer, sizes)


def _broadcast(shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """The shape of numbers of some shapes that are taken together; `torch.broadcast_shapes` is slow."""
    length = max(map(len, shapes))
    sizes = zip(*((1,) * (length - len(shape)) + shape for shape in shapes), strict=True)
    found = tuple(next((size for size in each if size != 1), 1) for each in sizes)
    if any(size not in (1, wide) for shape in shapes for size, wide in zip(shape[::-1], found[::-1], strict=False)):
        raise Unsupported(f"numbers of shapes {', '.join(map(str, shapes))} together")
    return found


def _order(views: Sequence[View], shape: tuple[int, ...]) -> tuple[int, ...]:
    """Dimensions from the slowest to the fastest in memory, for the view that changes along most of a shape."""
    if not views:
        return tuple(range(len(shape)))
    largest = max(views, key=lambda view: math.prod(s for s, step in zip(shape, view.strides, strict=True) if step))
    strides = largest.strides
    changing = [d for d in range(len(shape)) if strides[d]]
    sorted_ones = iter(sorted(changing, key=lambda d: (-strides[d], d)))
    return tuple(next(sorted_ones) if strides[d] else d for d in range(len(shape)))


def _arranged(value: Value, order: tuple[int, ...], sizes: tuple[int, ...]) -> Value:
    """Dimensions in another order, cut to sizes."""
    if isinstance(value, Filled):
        return value.expanded(sizes)
    turned = value.permuted(order)
    return View(turned.buffer, sizes, turned.strides, turned.offset)


def _squeezed(value: Value, shape: tuple[int, ...]) -> Value:
    if isinstance(value, Filled):
        return value.expanded(tuple(size for size in shape if size != 1))
    return value.squeezed()


def _turned(view: View) -> View | None:
    """A view of two dimensions whose columns lie side by side, as such, or None for any other."""
    small = view.squeezed()
    if len(small.shape) != 2 or small.strides[0] != 1 or small.strides[1] < small.shape[0]:
        return None
    return small


def _can_move(piece: View, place: View) -> bool:
    """True if a piece can be made in its place: nothing else holds it, and both lie in order."""
    if not piece.whole or piece.dtype is not place.dtype:
        return False
    return place.contiguous and piece.buffer.kind == "scratch" and piece.buffer.home is None


def hollow(builder: Builder, dtype: torch.dtype, shape: Sequence[int]) -> View:
    """A buffer of zeros."""
    out = builder.scratch(dtype, shape)
    builder.copy_into(out, Filled(0, tuple(shape), dtype))
    return out

"""Recorded operations of one trial as statements on buffers; views cost nothing, the rest is a few kinds of loops."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.fx import GraphModule, Node

from study.native.builder import Builder, hollow
from study.native.operations import form_of
from study.native.statements import TYPES, Statement
from study.native.tidy import tidy
from study.native.views import Buffer, Filled, Unsupported, Value, View, dense, part

aten = torch.ops.aten


@dataclass(frozen=True)
class Lowered:
    """A translated program.

    Attributes:
        statements: In an order in which they can run.
        inputs: The buffers of the arguments that are read, by their position.
        outputs: Views of the results by name, each the whole of an output buffer of its own.
    """

    statements: list[Statement]
    inputs: dict[int, Buffer]
    outputs: dict[str, View]


def lower(module: GraphModule) -> Lowered:
    """Translate a recorded program, see `study.record.record`; it is tidied in place.

    Raises:
        Unsupported: For an operation that is not known here.
    """
    tidy(module)
    lowering = _Lowering(module)
    for node in module.graph.nodes:
        lowering.visit(node)
    return Lowered(lowering.builder.statements, lowering.inputs, lowering.outputs)


class _Lowering:
    def __init__(self, module: GraphModule) -> None:
        self.module, self.builder = module, Builder()
        self.values: dict[Node, Any] = {}
        self.inputs: dict[int, Buffer] = {}
        self.outputs: dict[str, View] = {}

    def visit(self, node: Node) -> None:
        """Translate a node."""
        if node.op == "placeholder":
            if node.users:
                self.values[node] = self._input(node)
        elif node.op == "get_attr":
            self.values[node] = self.builder.constant(getattr(self.module, str(node.target)))
        elif node.op == "output":
            for name, result in node.args[0].items():  # type: ignore[union-attr]  # a dictionary, from `record`
                self.outputs[str(name)] = self._output(str(name), self.values[result])  # type: ignore[index]
        else:
            self.values[node] = self._operation(node)

    def _input(self, node: Node) -> View:
        value, position = node.meta["val"], int(node.name.rsplit("_", 1)[1])
        whole = dense(Buffer(f"in{position}", value.dtype, _size(value.shape), "input"), value.shape)
        self.inputs[position] = whole.buffer
        return whole

    def _output(self, name: str, value: Value) -> View:
        free = isinstance(value, View) and value.whole and value.buffer.kind == "scratch" and not value.buffer.home
        if not free:
            copy = self.builder.scratch(value.dtype, value.shape)
            self.builder.copy_into(copy, value)
            value = copy
        value.buffer.kind, value.buffer.name = "output", f"out_{name}"
        return value

    def _operation(self, node: Node) -> Any:  # noqa: ANN401  # a value, or several
        args, kwargs = (self._resolved(part) for part in (node.args, dict(node.kwargs)))
        if node.target is operator.getitem:
            return args[0][args[1]]
        dtype = node.meta["val"].dtype if "val" in node.meta else None
        if node.target in STRUCTURE:
            shape = node.meta["val"].shape if "val" in node.meta else ()
            return STRUCTURE[node.target](_Context(self.builder, dtype, shape), *args, **kwargs)
        return self._pointwise(node, args, kwargs, dtype)

    def _pointwise(self, node: Node, args: tuple[Any, ...], kwargs: Mapping[str, Any], dtype: torch.dtype) -> Value:
        found = form_of(node.target, args)
        options = {key: value for key, value in kwargs.items() if key not in IGNORED}
        if found is None or options:
            raise Unsupported(f"{node.target}" + (f" with {', '.join(options)}" if options else ""))
        form, inputs = found
        kinds = [value.dtype for value in inputs if isinstance(value, View | Filled)]
        kind = dtype if dtype is not torch.bool else torch.promote_types(kinds[0], kinds[-1])
        values = [_as_value(value, kind) for value in inputs]
        if dtype.is_floating_point:  # whole numbers first become what the result is: their quotient is none of them
            whole = {f"{{{i}}}": f"{TYPES[dtype]}({{{i}}})" for i, value in enumerate(values) if value.dtype is torch.int64}
            for place, converted in whole.items():
                form = form.replace(place, converted)
        return self.builder.pointwise(dtype, form, *values)

    def _resolved(self, part: Any) -> Any:  # noqa: ANN401
        if isinstance(part, Node):
            if part not in self.values:
                raise Unsupported(f"the result of {part.target}")
            return self.values[part]
        if isinstance(part, Mapping):
            return {key: self._resolved(value) for key, value in part.items()}
        if isinstance(part, list | tuple):
            return tuple(self._resolved(value) for value in part)
        return part


IGNORED = {"dtype", "device", "layout", "pin_memory", "memory_format", "non_blocking"}
"""Options that the recorded result speaks for."""


@dataclass(frozen=True)
class _Context:
    """What an operation needs beside its arguments: the builder, and the form of its result."""

    builder: Builder
    dtype: torch.dtype
    shape: tuple[int, ...]

    def do(self, form: str, *inputs: Value) -> View:
        """An expression of numbers at the same index."""
        return self.builder.pointwise(inputs[0].dtype, form, *inputs)


def _as_value(value: Any, dtype: torch.dtype) -> Value:  # noqa: ANN401
    if isinstance(value, View | Filled):
        return value
    if isinstance(value, bool | int | float):
        return Filled(value, (), dtype)
    return Filled(0, (), dtype)  # an argument left out, which the expression does not have


def _size(shape: Sequence[int]) -> int:
    return int(torch.Size(shape).numel())


def _all(value: Value, dims: Sequence[int] | int | None) -> tuple[int, ...]:
    """Dimensions counted from the front, all if none are named."""
    if dims is None or dims == ():
        return tuple(range(len(value.shape)))
    listed = (dims,) if isinstance(dims, int) else dims
    return tuple(sorted(d % len(value.shape) for d in listed))


# views


def _same(_at: _Context, x: Value, *_: object, **__: object) -> Value:
    return x


def _reshape(at: _Context, x: Value, *_: object, **__: object) -> Value:
    return at.builder.reshaped(x, at.shape)


def _expand(at: _Context, x: Value, *_: object, **__: object) -> Value:
    return x.expanded(at.shape)


def _permute(at: _Context, x: Value, order: Sequence[int]) -> Value:
    if isinstance(x, Filled):
        return x.expanded(at.shape)
    return x.permuted(tuple(d % len(x.shape) for d in order))


def _transpose(at: _Context, x: Value, first: int = 0, second: int = 1) -> Value:
    order = list(range(len(x.shape)))
    if len(order) < 2:
        return x
    order[first], order[second] = order[second], order[first]
    return _permute(at, x, order)


def _slice(
    at: _Context, x: Value, dim: int = 0, start: int | None = None, _end: int | None = None, step: int = 1
) -> Value:
    size = x.shape[dim]
    first = 0 if start is None else min(start + size if start < 0 else start, size)
    return part(x, dim % len(x.shape), first, at.shape[dim], step)


def _split(_at: _Context, x: Value, sizes: int | Sequence[int], dim: int = 0) -> list[Value]:
    whole = x.shape[dim]
    each = [min(sizes, whole - i) for i in range(0, whole, sizes)] if isinstance(sizes, int) else list(sizes)
    return [part(x, dim % len(x.shape), sum(each[:i]), size) for i, size in enumerate(each)]


def _select(at: _Context, x: Value, dim: int, index: int) -> Value:
    if isinstance(x, Filled):
        return x.expanded(at.shape)
    d = dim % len(x.shape)
    return x.cut(d, index % x.shape[d], 1).without(d)


def _unbind(at: _Context, x: Value, dim: int = 0) -> list[Value]:
    d = dim % len(x.shape)
    shape = (*x.shape[:d], *x.shape[d + 1 :])
    return [_select(_Context(at.builder, at.dtype, shape), x, d, i) for i in range(x.shape[d])]


def _unsqueeze(at: _Context, x: Value, dim: int) -> Value:
    return x.expanded(at.shape) if isinstance(x, Filled) else x.with_one(dim % (len(x.shape) + 1))


def _diagonal(at: _Context, x: Value, offset: int = 0, first: int = 0, second: int = 1) -> Value:
    if isinstance(x, Filled):
        return x.expanded(at.shape)
    if len(x.shape) != 2 or offset or (first % 2, second % 2) != (0, 1):
        raise Unsupported("aten.diagonal of other than a matrix")
    return View(x.buffer, at.shape, (sum(x.strides),), x.offset)


def _filled(number: float | None) -> Callable[..., Value]:
    def make(at: _Context, *args: Any, **_: object) -> Value:  # noqa: ANN401
        return Filled(args[-1] if number is None else number, at.shape, at.dtype)

    return make


def _known(function: Callable[..., torch.Tensor]) -> Callable[..., Value]:
    def make(at: _Context, *args: Any, **_: object) -> Value:  # noqa: ANN401
        return at.builder.constant(function(*args).to(at.dtype))

    return make


def _index(at: _Context, table: Value, places: Sequence[Value | None]) -> Value:
    """Rows of a table by their numbers."""
    if len(places) != 1 or not isinstance(table, View) or places[0] is None:
        raise Unsupported("aten.index by other than one tensor")
    rows, wide = table.shape[0], at.builder.contiguous(table)
    number = at.builder.reshaped(places[0], (*places[0].shape, *(1,) * (len(table.shape) - 1)))
    # of the first row, and so many rows on; what lies outside stays inside of memory
    first = wide.cut(0, 0, 1).without(0).expanded(at.shape)
    inside = f"larger(smaller({{1}} < 0 ? {{1}} + {rows} : {{1}}, int64_t({rows - 1})), int64_t(0))"
    form = f"(&{{0}})[{inside} * {wide.strides[0]}]"
    return at.builder.pointwise(at.dtype, form, first, number)


# joining, and places in zeros


def _cat(at: _Context, pieces: Sequence[Value], dim: int = 0) -> Value:
    return at.builder.joined(pieces, dim % len(at.shape), at.dtype)


def _stack(at: _Context, pieces: Sequence[Value], dim: int = 0) -> Value:
    d = dim % len(at.shape)
    shape = (*at.shape[:d], 1, *at.shape[d + 1 :])
    return at.builder.joined([at.builder.reshaped(piece, shape) for piece in pieces], d, at.dtype)


def _repeat(at: _Context, x: Value, repeats: Sequence[int]) -> Value:
    sizes = (1,) * (len(repeats) - len(x.shape)) + x.shape
    pairs = [number for pair in zip(repeats, sizes, strict=True) for number in pair]
    apart = at.builder.reshaped(x, tuple(number for size in sizes for number in (1, size)))
    return at.builder.reshaped(apart.expanded(tuple(pairs)), at.shape)


def _slice_back(
    at: _Context, x: Value, _sizes: object, dim: int, start: int, _end: int, step: int
) -> Value:
    out = hollow(at.builder, at.dtype, at.shape)
    first = start + at.shape[dim] if start < 0 else start
    at.builder.copy_into(out.cut(dim % len(at.shape), first, x.shape[dim], step), x)
    return out


def _select_back(at: _Context, x: Value, _sizes: object, dim: int, index: int) -> Value:
    out, d = hollow(at.builder, at.dtype, at.shape), dim % len(at.shape)
    at.builder.copy_into(out.cut(d, index % at.shape[d], 1).without(d), x)
    return out


def _diagonal_back(at: _Context, x: Value, _sizes: object, offset: int, first: int, second: int) -> Value:
    out = hollow(at.builder, at.dtype, at.shape)
    place = _diagonal(_Context(at.builder, at.dtype, x.shape), out, offset, first, second)
    at.builder.copy_into(place, x)  # type: ignore[arg-type]  # a view of a view
    return out


# sums and products


def _matrix_product(at: _Context, left: Value, right: Value) -> Value:
    return at.builder.product(left, right)


def _product_and_sum(at: _Context, start: Value, left: Value, right: Value) -> Value:
    return at.builder.product(left, right, start)


def _sum(at: _Context, x: Value, dims: Any = None, _keep: object = False, **_: object) -> Value:  # noqa: ANN401, FBT002
    return at.builder.reshaped(at.builder.reduced(x, _all(x, dims), "sum"), at.shape)


def _mean(at: _Context, x: Value, dims: Any = None, keep: object = False, **_: object) -> Value:  # noqa: ANN401, FBT002
    found = _sum(at, x, dims, keep)
    count = Filled(_size(x.shape) / _size(at.shape), (), x.dtype)
    return at.do("{0} / {1}", found, count)


def _largest(at: _Context, x: Value, dims: Any = None, _keep: object = False) -> Value:  # noqa: ANN401, FBT002
    return at.builder.reshaped(at.builder.reduced(x, _all(x, dims), "largest"), at.shape)


def _norm(at: _Context, x: Value, order: float = 2, dims: Any = None, _keep: object = False, **_: object) -> Value:  # noqa: ANN401, FBT002
    if order != 2:
        raise Unsupported(f"a norm of order {order}")
    return at.builder.reshaped(at.do("std::sqrt({0})", at.builder.reduced(x, _all(x, dims), "squares")), at.shape)


def _std(at: _Context, x: Value, dims: Any = None, *, correction: float = 1, keepdim: object = False) -> Value:  # noqa: ANN401
    listed = _all(x, dims)
    count = _size([x.shape[d] for d in listed])
    mean = at.do("{0} / {1}", at.builder.reduced(x, listed, "sum"), Filled(count, (), x.dtype))
    squares = at.builder.reduced(at.do("{0} - {1}", x, mean), listed, "squares")
    return at.builder.reshaped(at.do("std::sqrt({0} / {1})", squares, Filled(count - correction, (), x.dtype)), at.shape)


def _exponentials(at: _Context, x: Value, dim: int) -> tuple[Value, Value, Value]:
    """x less its largest number along a dimension, the exponentials, and their sum."""
    dims = _all(x, dim)
    shifted = at.do("{0} - {1}", x, at.builder.reduced(x, dims, "largest"))
    powers = at.do("exp_of({0})", shifted)
    return shifted, powers, at.builder.reduced(powers, dims, "sum")


def _softmax(at: _Context, x: Value, dim: int, _half: object) -> Value:
    _, powers, total = _exponentials(at, x, dim)
    return at.do("{0} / {1}", powers, total)


def _log_softmax(at: _Context, x: Value, dim: int, _half: object) -> Value:
    shifted, _, total = _exponentials(at, x, dim)
    return at.do("{0} - log_of({1})", shifted, total)


def _log_sum_exp(at: _Context, x: Value, dims: Sequence[int], _keep: object = False) -> Value:  # noqa: FBT002
    listed = _all(x, dims)
    largest = at.do("(std::isinf({0}) ? 0 : {0})", at.builder.reduced(x, listed, "largest"))
    total = at.builder.reduced(at.do("exp_of({0} - {1})", x, largest), listed, "sum")
    return at.builder.reshaped(at.do("{0} + log_of({1})", largest, total), at.shape)


def _softmax_back(at: _Context, slope: Value, result: Value, dim: int, _type: object) -> Value:
    weighted = at.do("{0} * {1}", slope, result)
    return at.do("{0} - {1} * {2}", weighted, result, at.builder.reduced(weighted, _all(slope, dim), "sum"))


def _log_softmax_back(at: _Context, slope: Value, result: Value, dim: int, _type: object) -> Value:
    return at.do("{0} - exp_of({1}) * {2}", slope, result, at.builder.reduced(slope, _all(slope, dim), "sum"))


def _addc(sign: str) -> Callable[..., Value]:
    def make(at: _Context, x: Value, y: Value, z: Value, *, value: float = 1) -> Value:
        return at.do(f"{{0}} + {{1}} {sign} {{2}} * {{3}}", x, y, z, Filled(value, (), at.dtype))

    return make


def _scaled_sum(sign: str) -> Callable[..., Value]:
    def make(at: _Context, x: Any, y: Any, *, alpha: float = 1) -> Value:  # noqa: ANN401
        kinds = [value.dtype for value in (x, y) if isinstance(value, View | Filled)]
        first, second = _as_value(x, kinds[0]), _as_value(y, kinds[0])
        if isinstance(second, Filled) and second.number == 0 and first.shape == at.shape:
            return first
        if alpha == 1:
            return at.builder.pointwise(at.dtype, f"{{0}} {sign} {{1}}", first, second)
        return at.builder.pointwise(at.dtype, f"{{0}} {sign} {{1}} * {{2}}", first, second, Filled(alpha, (), at.dtype))

    return make


STRUCTURE: dict[object, Callable[..., Any]] = {
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
    aten.eye.default: _known(torch.eye),
    aten.index.Tensor: _index,
    aten.cat.default: _cat,
    aten.stack.default: _stack,
    aten.repeat.default: _repeat,
    aten.slice_backward.default: _slice_back,
    aten.select_backward.default: _select_back,
    aten.diagonal_backward.default: _diagonal_back,
    aten.mm.default: _matrix_product,
    aten.addmm.default: _product_and_sum,
    aten.sum.default: _sum,
    aten.sum.dim_IntList: _sum,
    aten.mean.default: _mean,
    aten.mean.dim: _mean,
    aten.amax.default: _largest,
    aten.linalg_vector_norm.default: _norm,
    aten.std.correction: _std,
    aten._softmax.default: _softmax,
    aten._log_softmax.default: _log_softmax,
    aten.logsumexp.default: _log_sum_exp,
    aten._softmax_backward_data.default: _softmax_back,
    aten._log_softmax_backward_data.default: _log_softmax_back,
    aten.add.Tensor: _scaled_sum("+"),
    aten.sub.Tensor: _scaled_sum("-"),
    aten.addcmul.default: _addc("*"),
    aten.addcdiv.default: _addc("/"),
}
"""Operations of other shapes than number by number: each gets a context, then the recorded arguments."""

"""Products of matrices, sums, norms, and what is made of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from study.native.context import Context, as_value, listed, size
from study.native.views import Filled, Unsupported, Value, View

aten = torch.ops.aten


def _matrix_product(at: Context, left: Value, right: Value) -> Value:
    return at.builder.product(left, right)


def _product_and_sum(at: Context, start: Value, left: Value, right: Value) -> Value:
    return at.builder.product(left, right, start)


def _vector_product(at: Context, left: Value, right: Value) -> Value:
    row = left if len(left.shape) == 2 else at.builder.reshaped(left, (1, *left.shape))
    column = at.builder.reshaped(right, (*right.shape, 1))
    return at.builder.reshaped(at.builder.product(row, column), at.shape)


def _sum(at: Context, x: Value, dims: Any = None, _keep: object = False, **_: object) -> Value:  # noqa: ANN401
    x = _converted(at, x)
    return at.builder.reshaped(at.builder.reduced(x, listed(x, dims), "sum"), at.shape)


def _converted(at: Context, x: Value) -> Value:
    return x if x.dtype is at.dtype else at.builder.pointwise(at.dtype, "{0}", x)


def _mean(at: Context, x: Value, dims: Any = None, keep: object = False, **_: object) -> Value:  # noqa: ANN401
    found = _sum(at, x, dims, keep)
    count = Filled(size(x.shape) / size(at.shape), (), x.dtype)
    return at.do("{0} / {1}", found, count)


def _largest(at: Context, x: Value, dims: Any = None, _keep: object = False) -> Value:  # noqa: ANN401
    return at.builder.reshaped(at.builder.reduced(x, listed(x, dims), "largest"), at.shape)


def _norm(at: Context, x: Value, order: float = 2, dims: Any = None, _keep: object = False, **_: object) -> Value:  # noqa: ANN401
    if order != 2:
        raise Unsupported(f"a norm of order {order}")
    x = _converted(at, x)
    return at.builder.reshaped(at.do("root({0})", at.builder.reduced(x, listed(x, dims), "squares")), at.shape)


def _std(at: Context, x: Value, dims: Any = None, *, correction: float = 1, keepdim: object = False) -> Value:  # noqa: ANN401
    which = listed(x, dims)
    count = size([x.shape[d] for d in which])
    mean = at.do("{0} / {1}", at.builder.reduced(x, which, "sum"), Filled(count, (), x.dtype))
    squares = at.builder.reduced(at.do("{0} - {1}", x, mean), which, "squares")
    return at.builder.reshaped(at.do("root({0} / {1})", squares, Filled(count - correction, (), x.dtype)), at.shape)


def _exponentials(at: Context, x: Value, dim: int) -> tuple[Value, Value, Value]:
    """A value less its largest number along a dimension, the exponentials, and their sum."""
    dims = listed(x, dim)
    shifted = at.do("{0} - {1}", x, at.builder.reduced(x, dims, "largest"))
    powers = at.do("exp_of({0})", shifted)
    return shifted, powers, at.builder.reduced(powers, dims, "sum")


def _softmax(at: Context, x: Value, dim: int, _half: object) -> Value:
    _, powers, total = _exponentials(at, x, dim)
    return at.do("{0} / {1}", powers, total)


def _log_softmax(at: Context, x: Value, dim: int, _half: object) -> Value:
    shifted, _, total = _exponentials(at, x, dim)
    return at.do("{0} - log_of({1})", shifted, total)


def _log_sum_exp(at: Context, x: Value, dims: Sequence[int], _keep: object = False) -> Value:
    which = listed(x, dims)
    largest = at.do("(__builtin_isinf({0}) ? 0 : {0})", at.builder.reduced(x, which, "largest"))
    total = at.builder.reduced(at.do("exp_of({0} - {1})", x, largest), which, "sum")
    return at.builder.reshaped(at.do("{0} + log_of({1})", largest, total), at.shape)


def _chosen(at: Context, classes: Value, wanted: Value) -> Value:
    """Ones (b, k) at the wanted classes (b,), zeros elsewhere."""
    numbers = at.builder.constant(torch.arange(classes.shape[1]))
    column = at.builder.reshaped(wanted, (*wanted.shape, 1))
    return at.builder.pointwise(torch.bool, "{0} == {1}", column, numbers)


def _class_loss(
    at: Context, classes: Value, wanted: Value, weight: object, reduction: int, _ignored: int
) -> tuple[Value, None]:
    if weight is not None or reduction != 0 or len(classes.shape) != 2:
        raise Unsupported("aten.nll_loss_forward with weights or a mean")
    picked = at.builder.pointwise(classes.dtype, "({1} ? -{0} : 0)", classes, _chosen(at, classes, wanted))
    found = at.builder.reduced(picked, (1,), "sum")
    return at.builder.reshaped(found, wanted.shape), None


def _class_loss_back(
    at: Context, slope: Value, classes: Value, wanted: Value, weight: object, reduction: int, *_: object
) -> Value:
    if weight is not None or reduction != 0 or len(classes.shape) != 2:
        raise Unsupported("aten.nll_loss_backward with weights or a mean")
    column = at.builder.reshaped(slope, (*wanted.shape, 1))
    return at.builder.pointwise(at.dtype, "({1} ? -{0} : 0)", column, _chosen(at, classes, wanted))


def _softmax_back(at: Context, slope: Value, result: Value, dim: int, _type: object) -> Value:
    weighted = at.do("{0} * {1}", slope, result)
    return at.do("{0} - {1} * {2}", weighted, result, at.builder.reduced(weighted, listed(slope, dim), "sum"))


def _log_softmax_back(at: Context, slope: Value, result: Value, dim: int, _type: object) -> Value:
    return at.do("{0} - exp_of({1}) * {2}", slope, result, at.builder.reduced(slope, listed(slope, dim), "sum"))


def _addc(sign: str) -> Callable[..., Value]:
    def make(at: Context, x: Value, y: Value, z: Value, *, value: float = 1) -> Value:
        inputs = (*(_converted(at, part) for part in (x, y, z)), Filled(value, (), at.dtype))
        return at.do(f"{{0}} + {{1}} {sign} {{2}} * {{3}}", *inputs)

    return make


def _scaled_sum(sign: str) -> Callable[..., Value]:
    def make(at: Context, x: Any, y: Any, *, alpha: float = 1) -> Value:  # noqa: ANN401
        kinds = [value.dtype for value in (x, y) if isinstance(value, View | Filled)]
        first, second = as_value(x, kinds[0]), as_value(y, kinds[0])
        if isinstance(second, Filled) and second.number == 0 and (first.shape, first.dtype) == (at.shape, at.dtype):
            return first
        if alpha == 1:
            return at.builder.pointwise(at.dtype, f"{{0}} {sign} {{1}}", first, second)
        return at.builder.pointwise(at.dtype, f"{{0}} {sign} {{1}} * {{2}}", first, second, Filled(alpha, (), at.dtype))

    return make


SUMMED: dict[object, Callable[..., Any]] = {
    aten.mm.default: _matrix_product,
    aten.addmm.default: _product_and_sum,
    aten.mv.default: _vector_product,
    aten.dot.default: _vector_product,
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
    aten.nll_loss_forward.default: _class_loss,
    aten.nll_loss_backward.default: _class_loss_back,
    aten.add.Tensor: _scaled_sum("+"),
    aten.sub.Tensor: _scaled_sum("-"),
    aten.addcmul.default: _addc("*"),
    aten.addcdiv.default: _addc("/"),
}
"""Each gets a context, then the recorded arguments."""

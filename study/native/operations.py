"""Operations of single numbers, as expressions of C++."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import torch

from study.native.views import Unsupported

aten = torch.ops.aten
PLACES = re.compile(r"{\d}")

FORMS: dict[object, str] = {
    aten.add.Tensor: "{0} + {1}",
    aten.add.Scalar: "{0} + {1}",
    aten.sub.Tensor: "{0} - {1}",
    aten.rsub.Scalar: "{1} - {0}",
    aten.mul.Tensor: "{0} * {1}",
    aten.mul.Scalar: "{0} * {1}",
    aten.div.Tensor: "{0} / {1}",
    aten.div.Scalar: "{0} / {1}",
    aten.neg.default: "-{0}",
    aten.abs.default: "size_of({0})",
    aten.sgn.default: "sign({0})",
    aten.sign.default: "sign({0})",
    aten.reciprocal.default: "1 / {0}",
    aten.sqrt.default: "root({0})",
    aten.rsqrt.default: "1 / root({0})",
    aten.exp.default: "exp_of({0})",
    aten.log.default: "log_of({0})",
    aten.sin.default: "sine({0})",
    aten.cos.default: "cosine({0})",
    aten.log1p.default: "log1p_of({0})",
    aten.expm1.default: "expm1_of({0})",
    aten.erf.default: "erf_of({0})",
    aten.atan.default: "arc_tangent({0})",
    aten.tanh.default: "tanh_of({0})",
    aten.tanh_backward.default: "{0} * (1 - {1} * {1})",
    aten.sigmoid.default: "sigmoid({0})",
    aten.sigmoid_backward.default: "{0} * ((1 - {1}) * {1})",
    aten.special_ndtri.default: "quantile({0})",
    aten.relu.default: "({0} <= 0 ? 0 : {0})",
    aten.threshold_backward.default: "({1} <= {2} ? 0 : {0})",
    aten.leaky_relu.default: "({0} > 0 ? {0} : {0} * {1})",
    aten.leaky_relu_.default: "({0} > 0 ? {0} : {0} * {1})",
    aten.softplus.default: "softplus({0}, {1}, {2})",
    aten.softplus_backward.default: "softplus_slope({0}, {1}, {2}, {3})",
    aten.lerp.Tensor: "between({0}, {1}, {2})",
    aten.lerp.Scalar: "between({0}, {1}, {2})",
    aten.addcmul.default: "{0} + {1} * {2}",
    aten.addcdiv.default: "{0} + {1} / {2}",
    aten.maximum.default: "larger({0}, {1})",
    aten.minimum.default: "smaller({0}, {1})",
    aten.where.self: "({0} ? {1} : {2})",
    aten.eq.Tensor: "{0} == {1}",
    aten.eq.Scalar: "{0} == {1}",
    aten.ne.Tensor: "{0} != {1}",
    aten.ne.Scalar: "{0} != {1}",
    aten.lt.Tensor: "{0} < {1}",
    aten.lt.Scalar: "{0} < {1}",
    aten.le.Tensor: "{0} <= {1}",
    aten.le.Scalar: "{0} <= {1}",
    aten.gt.Tensor: "{0} > {1}",
    aten.gt.Scalar: "{0} > {1}",
    aten.ge.Tensor: "{0} >= {1}",
    aten.ge.Scalar: "{0} >= {1}",
    aten.bitwise_and.Tensor: "{0} & {1}",
    aten.bitwise_and.Scalar: "{0} & {1}",
    aten.bitwise_or.Tensor: "{0} | {1}",
    aten.bitwise_or.Scalar: "{0} | {1}",
    aten.bitwise_xor.Tensor: "{0} ^ {1}",
    aten.bitwise_xor.Scalar: "{0} ^ {1}",
    aten.logical_and.default: "bool({0}) & bool({1})",
    aten.logical_or.default: "bool({0}) | bool({1})",
    aten.logical_not.default: "!{0}",
    aten.__rshift__.Scalar: "{0} >> {1}",
    aten.clone.default: "{0}",
    aten._to_copy.default: "{0}",
}
"""Arguments in order, tensors and numbers alike, for {0}, {1} and so on."""

OPTIONAL: dict[object, tuple[float, ...]] = {
    aten.leaky_relu.default: (0.01,),
    aten.leaky_relu_.default: (0.01,),
    aten.softplus.default: (1, 20),
}
"""Numbers that may be left out at the end, and what they are then."""

POWERS = {0.5: "root({0})", 1.0: "{0}", 2.0: "{0} * {0}", 3.0: "{0} * {0} * {0}", -1.0: "1 / {0}"}
"""Powers that are no calls."""


def _power(base: Any, exponent: float, **_: object) -> tuple[str, int]:  # noqa: ANN401
    if not base.dtype.is_floating_point and exponent not in (1, 2, 3):
        raise Unsupported(f"whole numbers to the power of {exponent}")
    return POWERS.get(float(exponent), "power({0}, {1})"), 2


def _power_of_tensors(base: Any, exponent: Any) -> tuple[str, int]:  # noqa: ANN401
    if not (base.dtype.is_floating_point or exponent.dtype.is_floating_point):
        raise Unsupported("whole numbers to the power of whole numbers")
    return "power({0}, {1})", 2


def _leaky_slope(_slope: object, _x: object, _negative: object, _of_result: object) -> tuple[str, int]:
    return "({1} > 0 ? {0} : {0} * {2})", 3


def _clamp(_x: object, low: float | None = None, high: float | None = None) -> tuple[str, int]:
    form = "{0}"
    if low is not None:
        form = f"larger({form}, {{1}})"
    if high is not None:
        form = f"smaller({form}, {{{2}}})"
    return form, 3


def _remainder(x: Any, divisor: float) -> tuple[str, int]:  # noqa: ANN401
    if isinstance(divisor, int) and not x.dtype.is_floating_point:
        return "({0} % {1} + {1}) % {1}", 2
    return "{0} - floor_of({0})" if divisor == 1 else "remainder_of({0}, {1})", 2


def _inverted(x: Any) -> tuple[str, int]:  # noqa: ANN401
    return "!{0}" if x.dtype is torch.bool else "~{0}", 1


CHOSEN: dict[object, Callable[..., tuple[str, int]]] = {
    aten.pow.Tensor_Scalar: _power,
    aten.pow.Tensor_Tensor: _power_of_tensors,
    aten.leaky_relu_backward.default: _leaky_slope,
    aten.clamp.default: _clamp,
    aten.bitwise_not.default: _inverted,
    aten.remainder.Scalar: _remainder,
}
"""Expressions that depend on arguments, which are given; how many of these stand in them."""


def form_of(target: object, args: tuple[Any, ...]) -> tuple[str, tuple[Any, ...]] | None:
    """The expression of an operation and its inputs, or None if it is not one of single numbers.

    Raises:
        Unsupported: If it has arguments that the expression does not have, or the other way round.
    """
    if target in CHOSEN:
        form, used = CHOSEN[target](*args)
        return form, args[:used]
    if target not in FORMS:
        return None
    filled = args
    if target in OPTIONAL:
        defaults = OPTIONAL[target]
        missing = 1 + len(defaults) - len(args)
        filled = (*args, *(defaults[len(defaults) - missing :] if missing else ()))
    form = FORMS[target]
    if len(set(PLACES.findall(form))) != len(filled):
        raise Unsupported(f"{target} of {len(args)} arguments")
    return form, filled

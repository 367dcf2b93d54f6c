"""What operations of other kinds than number by number share: the form of their result, and how arguments are read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from study.native.builder import Builder
from study.native.views import Filled, Value, View


@dataclass(frozen=True)
class Context:
    """What an operation needs beside its arguments: the builder, and the form of its result."""

    builder: Builder
    dtype: torch.dtype
    shape: tuple[int, ...]

    def do(self, form: str, *inputs: Value) -> View:
        """An expression of numbers at the same index."""
        return self.builder.pointwise(inputs[0].dtype, form, *inputs)


def as_value(value: Any, dtype: torch.dtype) -> Value:  # noqa: ANN401  # a tensor, a number, or nothing
    """An argument as a value."""
    if isinstance(value, View | Filled):
        return value
    if isinstance(value, float) and not dtype.is_floating_point:
        return Filled(value, (), torch.float64)
    if isinstance(value, bool | int | float):
        return Filled(value, (), dtype)
    return Filled(0, (), dtype)  # an argument left out, which the expression does not have


def size(shape: Sequence[int]) -> int:
    """Numbers in a shape."""
    return int(torch.Size(shape).numel())


def listed(value: Value, dims: Sequence[int] | int | None) -> tuple[int, ...]:
    """Dimensions counted from the front, all if none are named."""
    if dims is None or dims == ():
        return tuple(range(len(value.shape)))
    listed = (dims,) if isinstance(dims, int) else dims
    return tuple(sorted(d % len(value.shape) for d in listed))

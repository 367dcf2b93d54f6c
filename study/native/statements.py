"""What a translated program does, one after the other: each statement reads views and writes one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch

from study.native.views import Filled, Unsupported, Value, View

TYPES = {torch.float32: "float", torch.float64: "double", torch.int64: "int64_t", torch.bool: "bool"}
"""Names of number types in C++."""


@dataclass(frozen=True)
class Pointwise:
    """An expression of numbers at the same index, for every index of a shape.

    Attributes:
        out: Where results go; its shape is the loop's, without sizes of one.
        form: The expression, {0}, {1} and so on standing for the inputs.
        inputs: In the shape of `out`.
    """

    out: View
    form: str
    inputs: tuple[Value, ...]

    @property
    def reads(self) -> list[View]:
        """Views whose numbers it needs."""
        return [value for value in self.inputs if isinstance(value, View)]


@dataclass(frozen=True)
class Product:
    """out (M, N) = start + left (M, K) right (K, N); columns of `out`, `right` and `start` lie side by side."""

    out: View
    left: View
    right: View
    start: View | None

    @property
    def reads(self) -> list[View]:
        """Views whose numbers it needs."""
        return [self.left, self.right, *([self.start] if self.start else [])]

    def text(self) -> str:
        """The call."""
        (m, k), n = self.left.shape, self.right.shape[1]
        begin, of_start = start_of(self.start)
        numbers = (m, n, k, *self.left.strides, self.right.strides[0], self.out.strides[0])
        shape = ", ".join(map(str, numbers))
        return f"product<{type_of(self.out)}, {begin}, {shape}>({pointers(self.left, self.right, of_start, self.out)});"


@dataclass(frozen=True)
class Narrow:
    """The same for few columns: rows of `left` and columns of `right` lie side by side in memory."""

    out: View
    left: View
    right: View
    start: View | None

    @property
    def reads(self) -> list[View]:
        """Views whose numbers it needs."""
        return [self.left, self.right, *([self.start] if self.start else [])]

    def text(self) -> str:
        """The call."""
        (m, k), n = self.left.shape, self.right.shape[1]
        begin, of_start = start_of(self.start)
        shape = ", ".join(map(str, (m, n, k, self.left.strides[0], self.right.strides[1], *self.out.strides)))
        return f"narrow<{type_of(self.out)}, {begin}, {shape}>({pointers(self.left, self.right, of_start, self.out)});"


@dataclass(frozen=True)
class Reduction:
    """out (m,) of the rows of a source (m, n), contiguous: their sums, largest numbers or squared norms."""

    out: View
    source: View
    kind: Literal["sum", "largest", "squares"]

    @property
    def reads(self) -> list[View]:
        """Views whose numbers it needs."""
        return [self.source]

    def text(self) -> str:
        """A loop of calls."""
        (m, n), kind = self.source.shape, type_of(self.out)
        row = f"{pointer(self.source)} + {n} * i"
        call = f"dot<{kind}, {n}>({row}, {row})" if self.kind == "squares" else f"{self.kind}<{kind}, {n}>({row})"
        return f"for (int i = 0; i < {m}; ++i) ({pointer(self.out)})[i] = {call};"


@dataclass(frozen=True)
class RowSum:
    """out (n,) = the sum of the rows of a source (m, n), contiguous."""

    out: View
    source: View

    @property
    def reads(self) -> list[View]:
        """Views whose numbers it needs."""
        return [self.source]

    def text(self) -> str:
        """The call."""
        m, n = self.source.shape
        return f"sum_rows<{type_of(self.out)}, {m}, {n}>({pointers(self.source, self.out)});"


@dataclass(frozen=True)
class Transposition:
    """out (m, n), contiguous, of a source (m, n) whose rows' numbers lie strides apart, its columns' side by side."""

    out: View
    source: View

    @property
    def reads(self) -> list[View]:
        """Views whose numbers it needs."""
        return [self.source]

    def text(self) -> str:
        """The call."""
        m, n = self.source.shape
        numbers = f"{m}, {n}, {self.source.strides[1]}"
        return f"transpose<{type_of(self.out)}, {numbers}>({pointers(self.source, self.out)});"


Call: TypeAlias = Product | Narrow | Reduction | RowSum | Transposition
Statement: TypeAlias = Pointwise | Call


def start_of(start: View | None) -> tuple[str, View | None]:
    """How a product begins, as a type, and its numbers."""
    if start is None:
        return "None", None
    rows, columns = start.strides
    return f"From<{rows}, {columns}>", start


def type_of(view: View) -> str:
    """The type of its numbers."""
    if view.dtype not in TYPES:
        raise Unsupported(f"numbers of type {view.dtype}")
    return TYPES[view.dtype]


def pointer(view: View | None) -> str:
    """Where its first number lies."""
    if view is None:
        return "nullptr"
    first = view.offset + view.buffer.first()
    name = view.buffer.root().name
    return f"{name} + {first}" if first else name


def pointers(*views: View | None) -> str:
    """Where first numbers lie, as arguments."""
    return ", ".join(pointer(view) for view in views)


def element(view: View, collapsed: Sequence[int]) -> str:
    """A number of a buffer at the loop's indices, for strides along them."""
    first = view.offset + view.buffer.first()
    terms = [f"i{d}" if step == 1 else f"{step} * i{d}" for d, step in enumerate(collapsed) if step]
    index = " + ".join([*terms, *([str(first)] if first or not terms else [])])
    return f"{view.buffer.root().name}[{index}]"


def literal(value: Filled) -> str:
    """A number as C++ writes it."""
    return number(value.number, value.dtype)


def number(value: float, dtype: torch.dtype) -> str:
    """A number of a type as C++ writes it."""
    if dtype is torch.bool:
        return "true" if value else "false"
    if dtype is torch.int64:
        return f"int64_t({int(value)})"
    kind = TYPES[dtype]
    if math.isnan(value):
        return f"{kind}(NAN)"
    if math.isinf(value):
        return f"{kind}({'-' if value < 0 else ''}HUGE_VAL)"
    return f"{kind}({float(value)!r})"


def constant(name: str, tensor: torch.Tensor) -> str:
    """The definition of a constant's numbers."""
    numbers = ", ".join(number(value, tensor.dtype) for value in tensor.flatten().tolist())
    return f"static const {TYPES[tensor.dtype]} {name}[] = {{{numbers}}};"

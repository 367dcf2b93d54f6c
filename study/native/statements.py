"""What a translated program does, one after the other: each statement reads views and writes one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch

from study.native.views import Filled, Unsupported, Value, View

ADDRESS = "(&{"
"""In an expression that looks up memory around a number."""
TYPES = {torch.float32: "float", torch.float64: "double", torch.int64: "int64_t", torch.bool: "bool"}
"""Names of number types in C++."""


@dataclass(frozen=True)
class Pointwise:
    """An expression of numbers at the same index, for every index of a shape.

    Attributes:
        out: Where results go; its shape is the loop's, without sizes of one.
        form: The expression, {0}, {1} and so on standing for the inputs.
        inputs: In the shape of `out`.
        alone: True if no other expression may share its loop.
    """

    out: View
    form: str
    inputs: tuple[Value, ...]
    alone: bool = False

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
        row, column = self.start.strides if self.start else (0, 1)
        layout = _listed(k, *self.left.strides, self.right.strides[0], self.out.strides[0], row)
        kind = f"{type_of(self.out)}, {'Beside' if column else 'Alone'}, {m}, {n}"
        return f"product<{kind}>({pointers(self.left, self.right, self.start, self.out)}, {{{layout}}});"


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
        start = self.start.strides if self.start else (0, 0)
        layout = _listed(m, self.left.strides[0], self.right.strides[1], *self.out.strides, *start)
        places = pointers(self.left, self.right, self.start, self.out)
        return f"narrow<{type_of(self.out)}, {n}, {k}>({places}, {layout});"


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
        """The call."""
        sizes = _listed(*self.source.shape)
        return f"{KERNELS[self.kind]}<{type_of(self.out)}>({pointers(self.source, self.out)}, {sizes});"


KERNELS = {"sum": "sums", "largest": "largest", "squares": "square_sums"}
"""Names of reductions in C++."""


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
        return f"sum_rows<{type_of(self.out)}>({pointers(self.source, self.out)}, {_listed(*self.source.shape)});"


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
        numbers = _listed(*self.source.shape, self.source.strides[1])
        return f"transpose<{type_of(self.out)}>({pointers(self.source, self.out)}, {numbers});"


Call: TypeAlias = Product | Narrow | Reduction | RowSum | Transposition
Statement: TypeAlias = Pointwise | Call


def _listed(*numbers: int) -> str:
    return ", ".join(map(str, numbers))


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


def element(name: str, first: int, steps: Sequence[int]) -> str:
    """A number of a pointer at the loop's indices, for strides along them."""
    terms = [f"i{d}" if step == 1 else f"{step} * i{d}" for d, step in enumerate(steps) if step]
    return f"{name}[{' + '.join([*terms, *([str(first)] if first or not terms else [])])}]"


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
        return f'{kind}(__builtin_nan(""))'
    if math.isinf(value):
        return f"{kind}({'-' if value < 0 else ''}__builtin_inf())"
    return f"{kind}({float(value)!r})"


def constant(name: str, tensor: torch.Tensor) -> str:
    """The definition of a constant's numbers."""
    numbers = ", ".join(number(value, tensor.dtype) for value in tensor.flatten().tolist())
    return f"static const {TYPES[tensor.dtype]} {name}[] = {{{numbers}}};"

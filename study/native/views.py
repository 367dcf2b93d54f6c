"""Where the numbers of a value lie: a buffer with an offset and strides, or one number for all of them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal, TypeAlias

import torch


class Unsupported(Exception):
    """A recorded program has an operation that is not translated; the message names it."""


@dataclass(eq=False)
class Buffer:
    """A piece of memory.

    Attributes:
        name: Its name in the program.
        dtype: Of its numbers.
        size: How many there are.
        kind: Where it comes from.
        home: A buffer that it is a part of, and the first number there.
        tensor: Of a constant.
    """

    name: str
    dtype: torch.dtype
    size: int
    kind: Literal["input", "scratch", "output", "constant"] = "scratch"
    home: tuple[Buffer, int] | None = None
    tensor: torch.Tensor | None = field(default=None, repr=False)

    def root(self) -> Buffer:
        """The buffer that is allocated for it."""
        return self.home[0].root() if self.home else self

    def first(self) -> int:
        """The first number within the root."""
        return self.home[1] + self.home[0].first() if self.home else 0


@dataclass(frozen=True)
class View:
    """Numbers of a buffer in a shape; strides in numbers, 0 where one number is repeated."""

    buffer: Buffer
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int = 0

    @property
    def dtype(self) -> torch.dtype:
        """Of the numbers."""
        return self.buffer.dtype

    @property
    def whole(self) -> bool:
        """True if it is all of its buffer, in order."""
        return self.offset == 0 and self.contiguous and math.prod(self.shape) == self.buffer.size

    @property
    def contiguous(self) -> bool:
        """True if the numbers lie side by side, the last index fastest."""
        return all(
            size == 1 or stride == dense
            for size, stride, dense in zip(self.shape, self.strides, dense_strides(self.shape), strict=True)
        )

    def permuted(self, order: tuple[int, ...]) -> View:
        """Indices in another order."""
        shape, strides = (tuple(numbers[d] for d in order) for numbers in (self.shape, self.strides))
        return View(self.buffer, shape, strides, self.offset)

    def expanded(self, shape: tuple[int, ...]) -> View:
        """Repeated along leading and along size-one dimensions."""
        missing = len(shape) - len(self.shape)
        old = (1,) * missing + self.shape
        strides = (0,) * missing + self.strides
        kept = tuple(stride if size == new else 0 for size, new, stride in zip(old, shape, strides, strict=True))
        return View(self.buffer, shape, kept, self.offset)

    def cut(self, dim: int, start: int, length: int, step: int = 1) -> View:
        """Some indices of a dimension."""
        shape, strides = list(self.shape), list(self.strides)
        shape[dim], strides[dim] = length, strides[dim] * step
        return View(self.buffer, tuple(shape), tuple(strides), self.offset + start * self.strides[dim])

    def without(self, dim: int) -> View:
        """The first index of a dimension."""
        shape, strides = (numbers[:dim] + numbers[dim + 1 :] for numbers in (self.shape, self.strides))
        return View(self.buffer, shape, strides, self.offset)

    def with_one(self, dim: int) -> View:
        """A further dimension of size one."""
        shape = (*self.shape[:dim], 1, *self.shape[dim:])
        return View(self.buffer, shape, (*self.strides[:dim], 0, *self.strides[dim:]), self.offset)

    def squeezed(self) -> View:
        """Without dimensions of size one."""
        kept = [d for d, size in enumerate(self.shape) if size != 1]
        return self.permuted(tuple(kept))

    def reshaped(self, shape: tuple[int, ...]) -> View | None:
        """The same numbers in another shape, or None where strides cannot say so."""
        if shape == self.shape:
            return self
        strides = reshaped_strides(self.squeezed(), shape)
        return None if strides is None else View(self.buffer, shape, strides, self.offset)


@dataclass(frozen=True)
class Filled:
    """One number in a shape."""

    number: float
    shape: tuple[int, ...]
    dtype: torch.dtype

    def expanded(self, shape: tuple[int, ...]) -> Filled:
        """The same number in another shape."""
        return Filled(self.number, shape, self.dtype)


Value: TypeAlias = View | Filled


def part(value: Value, dim: int, start: int, length: int, step: int = 1) -> Value:
    """Some indices of a dimension."""
    if isinstance(value, View):
        return value.cut(dim, start, length, step)
    return value.expanded((*value.shape[:dim], length, *value.shape[dim + 1 :]))


def dense_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Strides of numbers that lie side by side."""
    return tuple(math.prod(shape[d + 1 :]) for d in range(len(shape)))


def dense(buffer: Buffer, shape: tuple[int, ...]) -> View:
    """A whole buffer in a shape."""
    return View(buffer, shape, dense_strides(shape))


def reshaped_strides(view: View, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """Strides of a view without size-one dimensions in another shape, None if there are none."""
    strides = [0] * len(shape)
    new = [d for d, size in enumerate(shape) if size != 1]
    while_old = list(range(len(view.shape)))
    while new and while_old:
        group = [while_old.pop()]
        taken = [new.pop()]
        while (sizes := _sizes(view.shape, group, shape, taken))[0] != sizes[1]:
            if sizes[0] < sizes[1]:
                group.append(while_old.pop())
            else:
                taken.append(new.pop())
        for inner, outer in pairwise(group):
            if view.strides[outer] != view.strides[inner] * view.shape[inner]:
                return None
        step = view.strides[group[0]]
        for d in taken:
            strides[d] = step
            step *= shape[d]
    return tuple(strides)


def _sizes(old: tuple[int, ...], group: list[int], new: tuple[int, ...], taken: list[int]) -> tuple[int, int]:
    return math.prod(old[d] for d in group), math.prod(new[d] for d in taken)

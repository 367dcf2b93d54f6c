"""How parameters start: what makes them of uniform numbers in (0, 1), one for each."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from study.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

Start: TypeAlias = "Callable[[Tensor], Tensor]"

SD = 0.02
"""Spread of weights around zero and of gains around one in DCGANs (Radford et al. 2016); of gains in Salimans et al.'s
code as well."""


def zero(uniform: Tensor) -> Tensor:
    """All zeros."""
    return torch.zeros_like(uniform)


def one(uniform: Tensor) -> Tensor:
    """All ones."""
    return torch.ones_like(uniform)


def gain(uniform: Tensor) -> Tensor:
    """N(1, SD), SD being a standard deviation."""
    return torch.add(1, torch.special.ndtri(uniform), alpha=SD)


def normal(sd: float) -> Start:
    """N(0, sd), with sd a standard deviation."""
    return lambda uniform: sd * torch.special.ndtri(uniform)


def spread(fan_in: int) -> Start:
    """Uniform in +-1/sqrt(fan_in), torch.nn.Linear's default."""
    return lambda uniform: (2 * uniform - 1) / math.sqrt(fan_in)


def glorot(fan_in: float, fan_out: float) -> Start:
    """Uniform with variance 2 / (fan_in + fan_out) (Glorot and Bengio 2010)."""
    bound = math.sqrt(6 / (fan_in + fan_out))
    return lambda uniform: bound * (2 * uniform - 1)


def he(fan_in: float, fan_out: float) -> Start:
    """Uniform with variance 4 / (fan_in + fan_out): He initialisation as Gulrajani et al.'s code has it."""
    return glorot(fan_in / 2, fan_out / 2)


def of_weight(rule: Callable[[float, float], Start], shape: tuple[int, int, int, int], stride: int = 1) -> Start:
    """`glorot` or `he` for a convolution's weight (rows, columns, inputs, outputs), fans as Gulrajani et al.'s code."""
    rows, columns, inputs, outputs = shape
    return rule(rows * columns * inputs, rows * columns * outputs / stride**2)


def of_doubling(rule: Callable[[float, float], Start], shape: tuple[int, int, int, int]) -> Start:
    """The same for a transposed convolution of stride 2."""
    rows, columns, inputs, outputs = shape
    return rule(rows * columns * inputs / 4, rows * columns * outputs)

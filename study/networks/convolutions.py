"""Layers of convolutions, and the doubling and halving of maps."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from study.lazy import torch
from study.networks.parts import Layer, Part, weighted
from study.networks.starts import Start, zero

if TYPE_CHECKING:
    from torch import Tensor

Weight: TypeAlias = tuple[int, int, int, int]
"""The shape of a weight: (rows, columns, inputs, outputs)."""


def convolution(name: str, shape: Weight, start: Start, *, bias: Start | None = zero) -> Layer:
    """Maps (b, inputs, s, s) to maps (b, outputs, s, s), by an odd number of rows and columns.

    Args:
        name: Of the parameters "weight{name}" and "bias{name}".
        shape: Of the weight.
        start: Of the weight.
        bias: Its start; None for no bias.
    """
    padding = shape[0] // 2

    def product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return torch.nn.functional.conv2d(x, weight.permute(3, 2, 0, 1), bias, padding=padding)

    return weighted(product, name, Part(shape, start), bias)


def halving(name: str, shape: Weight, start: Start, *, bias: Start | None = zero) -> Layer:
    """Maps (b, inputs, 2 s, 2 s) to maps (b, outputs, s, s): 4 x 4 at stride 2, the rest as `convolution`."""
    return weighted(_halved, name, Part(shape, start), bias)


def doubling(name: str, shape: Weight, start: Start, *, bias: Start | None = zero) -> Layer:
    """Maps (b, inputs, s, s) to maps (b, outputs, 2 s, 2 s): 4 x 4, transposed, at stride 2."""
    return weighted(_doubled, name, Part(shape, start), bias)


def convolution_then_means(name: str, shape: Weight, start: Start, *, bias: Start | None = zero) -> Layer:
    """`convolution` of 3 x 3, then `pooled`: as the one convolution of 4 x 4 at stride 2 that this is.

    In less than half the time, and the large maps between the two are never made.
    """

    def product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return _halved(x, _spread(weight) / 4, bias)

    return weighted(product, name, Part(shape, start), bias)


def copies_then_convolution(name: str, shape: Weight, start: Start, *, bias: Start | None = zero) -> Layer:
    """`upsampled`, then `convolution` of 3 x 3: as the one transposed convolution that this is."""

    def product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return _doubled(x, _spread(weight.flip(0, 1)), bias)

    return weighted(product, name, Part(shape, start), bias)


def upsampled(x: Tensor) -> Tensor:
    """Maps (b, c, h, w) to (b, c, 2 h, 2 w): every value four times."""
    b, c, h, w = x.shape
    return x[:, :, :, None, :, None].expand(b, c, h, 2, w, 2).reshape(b, c, 2 * h, 2 * w)


def pooled(x: Tensor) -> Tensor:
    """Maps (b, c, 2 h, 2 w) to (b, c, h, w): means of two by two."""
    return torch.nn.functional.avg_pool2d(x, 2)


def _halved(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return torch.nn.functional.conv2d(x, weight.permute(3, 2, 0, 1), bias, stride=2, padding=1)


def _doubled(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return torch.nn.functional.conv_transpose2d(x, weight.permute(2, 3, 0, 1), bias, stride=2, padding=1)


def _spread(weight: Tensor) -> Tensor:
    """The sum of a weight (3, 3, ...) in the four corners of (4, 4, ...)."""
    for axis in (0, 1):
        nothing = torch.zeros_like(weight.narrow(axis, 0, 1))
        weight = torch.cat([weight, nothing], axis) + torch.cat([nothing, weight], axis)
    return weight

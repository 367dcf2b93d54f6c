"""Images that are drawn by index: what a task's `sample` and `label` are made of."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from study.data.images import ImageSet, Split
from study.lazy import torch
from study.tasks import labelling

if TYPE_CHECKING:
    from torch import Tensor


BLOCK = 4096
"""Images that go to another device at once."""


class Drawn(NamedTuple):
    """A split, on the device of the indices it is asked with.

    Attributes:
        size: Number of images.
        images: Maps indices (...) to images (..., d), float32 in [-1, 1].
        labels: Maps indices (...) to classes (...), int64.
    """

    size: int
    images: Callable[[Tensor], Tensor]
    labels: Callable[[Tensor], Tensor]

    def every(self, limit: int) -> Tensor:
        """Indices of all images or, if there are more than `limit`, of that many at even distances."""
        many = min(limit, self.size)
        return torch.arange(many) * self.size // many

    def rank(self, uniforms: Tensor) -> Tensor:
        """Places (...,) of what is drawn by uniforms (...,) in the order in which labels become known, int64."""
        return _places(self).to(uniforms.device)[self.drawn(uniforms)]

    def drawn(self, uniforms: Tensor) -> Tensor:
        """Indices (...,) by uniforms (...,). They are multiples of 2^-24, so those of a million are not quite alike."""
        return (uniforms.double() * self.size).long().clamp(max=self.size - 1)


@functools.cache
def _places(drawn: Drawn) -> Tensor:
    return torch.tensor(labelling.places(drawn.labels(torch.arange(drawn.size)).numpy()))


def floats(pixels: Tensor) -> Tensor:
    """Bytes as float32 in [-1, 1]."""
    return torch.sub(torch.div(pixels, 127.5), 1)


def split(images: ImageSet, name: str, *, side: int | None = None) -> Drawn:
    """A split, "train", "selection" or "test", of an image set, read from the memory map image by image.

    Args:
        images: The set.
        name: Of the split.
        side: Side of the frame that images are put in the middle of, black around them; None for their own.
    """
    part: Split = getattr(images, name)
    c, h, w = images.shape
    side = side or h
    top, left = (side - h) // 2, (side - w) // 2

    @functools.cache
    def on(device: torch.device) -> tuple[Tensor, Tensor]:
        pixels = torch.empty(part.pixels.shape, dtype=torch.uint8, device=device)
        for first in range(0, len(pixels), BLOCK):
            pixels[first : first + BLOCK] = torch.tensor(part.pixels[first : first + BLOCK], device=device)
        return pixels, torch.tensor(part.labels, device=device)

    def gathered(index: Tensor) -> Tensor:
        if index.device.type != "cpu":
            return on(index.device)[0][index]
        return torch.from_numpy(part.pixels[index.flatten().numpy()].reshape(*index.shape, c, h, w))

    def image(index: Tensor) -> Tensor:
        found = floats(gathered(index))
        if side != h:
            framed = found.new_full((*index.shape, c, side, side), -1)
            framed[..., top : top + h, left : left + w] = found
            found = framed
        return found.flatten(-3)

    def label(index: Tensor) -> Tensor:
        if index.device.type != "cpu":
            return on(index.device)[1][index]
        return torch.from_numpy(part.labels[index.flatten().numpy()].reshape(index.shape))

    return Drawn(len(part.pixels), image, label)


def say(text: str) -> None:
    """A line on the standard error, for what takes long."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()

"""What the networks of images have in common: the forms they come in, their first and their last layers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from study.networks.base import ACTIVATIONS, NORMS, identity, known, tanh
from study.networks.parts import KERNEL_DIMENSIONS, KERNELS, Layer, linear, plain, sequence, similarities
from study.networks.starts import Start

if TYPE_CHECKING:
    pass

SMALLEST = 4
"""Rows and columns of the smallest maps."""


@dataclass(frozen=True, kw_only=True)
class GeneratorForm:
    """A generator of images. What fields share a name with changes of `Network.rebuild` is what it can change.

    Attributes:
        latent: Numbers in a latent.
        shape: Of an image, (channels, rows, columns).
        bounded: Whether images are in [-1, 1].
    """

    latent: int
    shape: tuple[int, ...]
    bounded: bool
    width: int
    norm: str = "batch"
    activation: str = "relu"
    labels: int = 0

    def __post_init__(self) -> None:
        """Refuse what there is not."""
        _refuse(self)


@dataclass(frozen=True, kw_only=True)
class DiscriminatorForm:
    """A discriminator of images of a shape (channels, rows, columns), as `GeneratorForm`."""

    shape: tuple[int, ...]
    width: int
    norm: str = "none"
    activation: str = "leaky_relu"
    outputs: int = 1
    minibatch: bool = False

    def __post_init__(self) -> None:
        """Refuse what there is not."""
        _refuse(self)
        if self.norm == "virtual":
            raise ValueError("virtual batch normalisation is for generators")


def _refuse(form: GeneratorForm | DiscriminatorForm) -> None:
    known(form.norm, NORMS, "normalisation")
    known(form.activation, ACTIVATIONS, "activation")
    doublings(form.shape)


def doublings(shape: tuple[int, ...]) -> int:
    """How often maps of SMALLEST rows are doubled to the size of images of this shape.

    Raises:
        ValueError: If they are no square images with a power of two, 8 or more, of rows.
    """
    side = shape[-1]
    if len(shape) != 3 or shape[1] != side or side < 2 * SMALLEST or side & (side - 1):
        raise ValueError(f"it needs images of (channels, s, s), s a power of two from 8, and not of the shape {shape}")
    return side.bit_length() - SMALLEST.bit_length()


def projection(form: GeneratorForm, width: int, start: Callable[[int, int], Start]) -> Callable[..., Layer]:
    """The product, wanting a name and a `bias`, of inputs to the smallest maps (b, width, SMALLEST, SMALLEST).

    Its inputs are latents, beside them the label's embedding where there are labels: see `labelled`.
    """
    inputs, outputs = 2 * form.latent if form.labels else form.latent, width * SMALLEST**2
    maps = plain(lambda x: x.reshape(len(x), width, SMALLEST, SMALLEST))

    def product(name: str, *, bias: Start | None) -> Layer:
        return sequence(linear(name, inputs, outputs, start(inputs, outputs), bias=bias), maps)

    return product


def image(form: GeneratorForm) -> Layer:
    """The end of a generator: the activation that keeps images in their range, and flat samples."""
    bound = tanh if form.bounded else identity
    return plain(lambda x: bound(x.flatten(1)))


def unflattened(form: DiscriminatorForm) -> Layer:
    """The beginning of a discriminator: flat samples to maps."""
    return plain(lambda x: x.reshape(len(x), *form.shape))


def verdict(name: str, form: DiscriminatorForm, width: int, start: Callable[[int, int], Start]) -> Layer:
    """The end of a discriminator: (b, width) to (b, outputs), perhaps with minibatch discrimination."""
    seen = width + KERNELS if form.minibatch else width
    last = linear(name, seen, form.outputs, start(seen, form.outputs))
    if not form.minibatch:
        return last
    return sequence(similarities(width, start(width, KERNELS * KERNEL_DIMENSIONS)), last)

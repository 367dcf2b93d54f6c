"""Deep convolutional GANs, and the family of random architectures that grows out of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import NamedTuple, TypeAlias

from study.networks.base import ACTIVATIONS, Network, Pair, rebuilding
from study.networks.convolutions import Weight, convolution, doubling, halving
from study.networks.images import (
    SMALLEST,
    DiscriminatorForm,
    GeneratorForm,
    doublings,
    image,
    projection,
    unflattened,
    verdict,
)
from study.networks.parts import Layer, assemble, hidden_layer, labelled, plain, sequence
from study.networks.starts import SD, Start, gain, glorot, he, normal, of_doubling, of_weight, one

Plan: TypeAlias = list[tuple[Callable[..., Layer], int]]
"""Hidden layers to be: the product of each, wanting a name and a `bias`, and its number of channels."""


class Starts(NamedTuple):
    """How parameters of each kind start, by their shapes."""

    linear: Callable[[int, int], Start]
    convolution: Callable[[Weight, int], Start]
    doubling: Callable[[Weight], Start]
    gain: Start


RADFORD = Starts(lambda *_: normal(SD), lambda *_: normal(SD), lambda *_: normal(SD), gain)
"""Weights from N(0, 0.02), gains from N(1, 0.02); biases zero."""
GULRAJANI = Starts(glorot, partial(of_weight, he), partial(of_doubling, he), one)
"""The defaults of the layers in Gulrajani et al.'s code: Glorot for matrices, He for convolutions, biases zero."""


@dataclass(frozen=True, kw_only=True)
class DeepGeneratorForm(GeneratorForm):
    """A generator of a number of layers with weights, first and last included."""

    depth: int


@dataclass(frozen=True, kw_only=True)
class DeepDiscriminatorForm(DiscriminatorForm):
    """A discriminator of a number of layers with weights, first and last included."""

    depth: int


def dcgan(latent: int, shape: tuple[int, ...], *, bounded: bool) -> Pair:
    """Radford et al. 2016: strides in place of pooling, batch normalisation and ReLU in the generator.

    The generator projects to maps of 4 x 4 and doubles their size by transposed convolutions of 4 x 4, each of half the
    filters; the discriminator halves it by convolutions of 4 x 4, each of twice the filters, with leaky ReLU 0.2, and
    ends in a matrix product. `width` is the number of filters beside the image, the smallest.

    Not as published: the discriminator has no batch normalisation unless asked for, so that gradients may be penalised,
    and its first layer never has one (as published, like the generator's last). By size, `width` is 16 for 8 pixels, 32
    for 16 and 64 above. Biases where no normalisation follows.

    Raises:
        ValueError: If the shape is not that of square images with a power of two, 8 or more, of rows.
    """
    doublings(shape)
    width = default_width(shape)
    return Pair(
        _dcgan_generator(GeneratorForm(latent=latent, shape=shape, bounded=bounded, width=width)),
        _dcgan_discriminator(DiscriminatorForm(shape=shape, width=width)),
    )


def random_architecture(latent: int, shape: tuple[int, ...], *, bounded: bool) -> Pair:
    """Gulrajani et al. 2017, section 4.1: DCGANs of any depth, width, activation and normalisation for each player.

    Theirs, at 32 pixels, had depths of 4, 8, 12 and 20, 32, 64 and 128 base filters, all ACTIVATIONS, batch
    normalisation or none in the generator, and the same in the discriminator, layer normalisation with WGAN-GP. What
    the paper leaves open is ours: `depth` counts all layers with weights, so that 4 is a DCGAN at 32 pixels; layers
    beyond a DCGAN's are convolutions of 3 x 3 at stride 1, shared out over the sizes of maps, the smallest first;
    starts are GULRAJANI; the discriminator's first layer and both players' last are not normalised. Without a change
    it is a DCGAN but for the starts.

    Raises:
        ValueError: As `dcgan`, and for a depth that leaves no layer for each size.
    """
    depth, width = doublings(shape) + 1, default_width(shape)
    return Pair(
        _random_generator(DeepGeneratorForm(latent=latent, shape=shape, bounded=bounded, width=width, depth=depth)),
        _random_discriminator(DeepDiscriminatorForm(shape=shape, width=width, depth=depth)),
    )


def default_width(shape: tuple[int, ...]) -> int:
    """Base filters by the size of images: small images, small networks."""
    return min(64, 2 * shape[-1])


def _dcgan_generator(form: GeneratorForm) -> Network:
    return _generator(form, RADFORD, depth=doublings(form.shape) + 1, rebuild=rebuilding(_dcgan_generator, form))


def _dcgan_discriminator(form: DiscriminatorForm) -> Network:
    rebuild = rebuilding(_dcgan_discriminator, form)
    return _discriminator(form, RADFORD, depth=doublings(form.shape) + 1, rebuild=rebuild)


def _random_generator(form: DeepGeneratorForm) -> Network:
    return _generator(form, GULRAJANI, depth=form.depth, rebuild=rebuilding(_random_generator, form))


def _random_discriminator(form: DeepDiscriminatorForm) -> Network:
    return _discriminator(form, GULRAJANI, depth=form.depth, rebuild=rebuilding(_random_discriminator, form))


def _between(depth: int, sizes: int) -> list[int]:
    """Layers beyond those that change the size of maps, at each size, the smallest first."""
    extra = depth - sizes - 1
    if extra < 0:
        raise ValueError(f"its depth must be at least {sizes + 1} for images of this size, got {depth}")
    return [extra // sizes + (i < extra % sizes) for i in range(sizes)]


def _generator(form: GeneratorForm, starts: Starts, *, depth: int, rebuild: Callable[..., Network]) -> Network:
    widths = [form.width * 2**i for i in reversed(range(doublings(form.shape)))]
    plan: Plan = [(projection(form, widths[0], starts.linear), widths[0])]
    for i, (width, extra) in enumerate(zip(widths, _between(depth, len(widths)), strict=True)):
        if i:
            plan.append((_doubled(widths[i - 1], width, starts), width))
        plan += [(_same(width, starts), width)] * extra
    last = _doubled(widths[-1], form.shape[0], starts)(str(len(plan)))
    body = sequence(labelled(form.latent, form.labels), *_hidden(form, plan, starts))
    return assemble(body, sequence(last, image(form)), rebuild=rebuild, virtual=form.norm == "virtual")


def _discriminator(form: DiscriminatorForm, starts: Starts, *, depth: int, rebuild: Callable[..., Network]) -> Network:
    widths = [form.shape[0], *(form.width * 2**i for i in range(doublings(form.shape)))]
    plan: Plan = []
    for (inputs, width), extra in zip(pairwise(widths), reversed(_between(depth, len(widths) - 1)), strict=True):
        plan.append((_halved(inputs, width, starts), width))
        plan += [(_same(width, starts), width)] * extra
    if form.norm != "none" and len(plan) == 1:
        raise ValueError("there is no layer to normalise: the first never is, and there is no other")
    body = sequence(unflattened(form), *_hidden(form, plan, starts, bare=1), plain(lambda x: x.flatten(1)))
    return assemble(body, verdict(str(len(plan)), form, widths[-1] * SMALLEST**2, starts.linear), rebuild=rebuild)


def _same(width: int, starts: Starts) -> Callable[..., Layer]:
    weight = (3, 3, width, width)
    return partial(convolution, shape=weight, start=starts.convolution(weight, 1))


def _halved(inputs: int, outputs: int, starts: Starts) -> Callable[..., Layer]:
    weight = (4, 4, inputs, outputs)
    return partial(halving, shape=weight, start=starts.convolution(weight, 2))


def _doubled(inputs: int, outputs: int, starts: Starts) -> Callable[..., Layer]:
    weight = (4, 4, inputs, outputs)
    return partial(doubling, shape=weight, start=starts.doubling(weight))


def _hidden(form: GeneratorForm | DiscriminatorForm, plan: Plan, starts: Starts, *, bare: int = 0) -> list[Layer]:
    """The layers of a plan, the first `bare` of them without normalisation."""
    activation = ACTIVATIONS[form.activation]
    return [
        hidden_layer(
            product,
            str(i),
            width,
            norm="none" if i < bare else form.norm,
            gain=starts.gain,
            activation=activation,
        )
        for i, (product, width) in enumerate(plan)
    ]

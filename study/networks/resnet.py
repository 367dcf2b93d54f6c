"""Residual networks for images."""

from __future__ import annotations

from collections.abc import Callable

from study.networks.base import ACTIVATIONS, Network, Pair, identity, rebuilding
from study.networks.convolutions import (
    Weight,
    convolution,
    convolution_then_means,
    copies_then_convolution,
    pooled,
    upsampled,
)
from study.networks.images import (
    DiscriminatorForm,
    GeneratorForm,
    doublings,
    image,
    projection,
    unflattened,
    verdict,
)
from study.networks.parts import Layer, assemble, labelled, normalisation, noted, plain, residual, sequence
from study.networks.starts import Start, glorot, he, of_weight, one, zero


def resnet(latent: int, shape: tuple[int, ...], *, bounded: bool) -> Pair:
    """The residual networks of Gulrajani et al. 2017 for CIFAR-10, as in their code without labels.

    The generator projects to maps of 4 x 4 and has one block for each doubling, then normalisation, activation and a
    convolution; the discriminator has halving blocks down to maps of 8 x 8, two blocks more, an activation and the mean
    over positions. Blocks are normalisation, activation, convolution of 3 x 3, twice, beside a shortcut, which is a
    convolution of 1 x 1 where the size of maps changes; the discriminator's first has no normalisation and no first
    activation. Maps are doubled by repeating values, before a convolution, and halved by means, after it. ReLU; batch
    normalisation in the generator, none in the discriminator. Weights start as there: He in blocks, Glorot in
    shortcuts, matrices and the last convolution; gains one, biases zero.

    Ours: other sizes than 32 pixels, `width` 32 for 8 and 64 for 16 and 128 filters above, and at least one halving
    block; no bias where a normalisation follows; shortcuts before the doubling and after the halving, where they give
    the same with a quarter of the work.

    Raises:
        ValueError: If the shape is not that of square images with a power of two, 8 or more, of rows.
    """
    doublings(shape)
    width = min(128, 4 * shape[-1])
    return Pair(
        _generator(GeneratorForm(latent=latent, shape=shape, bounded=bounded, width=width)),
        _discriminator(DiscriminatorForm(shape=shape, width=width, activation="relu")),
    )


def _generator(form: GeneratorForm) -> Network:
    width, steps = form.width, doublings(form.shape)
    last = str(steps + 1)
    body = sequence(
        labelled(form.latent, form.labels),
        projection(form, width, glorot)("0", bias=zero),
        *(_block(form, str(i + 1), resampling="double") for i in range(steps)),
        _activated_norm(form, last),
    )
    weight = (3, 3, width, form.shape[0])
    head = sequence(convolution(last, weight, of_weight(glorot, weight)), image(form))
    rebuild = rebuilding(_generator, form)
    return assemble(body, head, rebuild=rebuild, virtual=form.norm == "virtual")


def _discriminator(form: DiscriminatorForm) -> Network:
    halvings = max(doublings(form.shape) - 1, 1)
    plan = ["halve"] * halvings + ["keep"] * 2
    body = sequence(
        unflattened(form),
        _first_block(form, "0", form.shape[0]),
        *(_block(form, str(i), resampling=plan[i]) for i in range(1, len(plan))),
        plain(ACTIVATIONS[form.activation]),
        noted(lambda x: x.mean((2, 3))),
    )
    return assemble(body, verdict(str(len(plan)), form, form.width, glorot), rebuild=rebuilding(_discriminator, form))


def _first_block(form: DiscriminatorForm, name: str, inputs: int) -> Layer:
    main = sequence(
        _weight(convolution, f"{name}a", (3, 3, inputs, form.width), bias=zero),
        plain(ACTIVATIONS[form.activation]),
        _weight(convolution_then_means, f"{name}b", (3, 3, form.width, form.width), bias=zero),
    )
    return sequence(residual(main, _shortcut(name, (1, 1, inputs, form.width), resampling="halve")), noted(identity))


def _block(form: GeneratorForm | DiscriminatorForm, name: str, *, resampling: str) -> Layer:
    weight, between = (3, 3, form.width, form.width), zero if form.norm == "none" else None
    first, second = _CONVOLUTIONS[resampling]
    main = sequence(
        _activated_norm(form, f"{name}a"),
        _weight(first, f"{name}a", weight, bias=between),
        _activated_norm(form, f"{name}b"),
        _weight(second, f"{name}b", weight, bias=zero),
    )
    shortcut = _shortcut(name, (1, 1, form.width, form.width), resampling=resampling)
    return sequence(residual(main, shortcut), noted(identity))


_CONVOLUTIONS: dict[str, tuple[Callable[..., Layer], Callable[..., Layer]]] = {
    "double": (copies_then_convolution, convolution),
    "halve": (convolution, convolution_then_means),
    "keep": (convolution, convolution),
}
"""The two convolutions of a block."""


def _weight(kind: Callable[..., Layer], name: str, shape: Weight, *, bias: Start | None) -> Layer:
    return kind(name, shape, of_weight(he, shape), bias=bias)


def _activated_norm(form: GeneratorForm | DiscriminatorForm, name: str) -> Layer:
    names = (f"gain{name}", f"shift{name}", name)
    return sequence(normalisation(form.norm, names, form.width, one), plain(ACTIVATIONS[form.activation]))


def _shortcut(name: str, shape: Weight, *, resampling: str) -> Layer:
    if resampling == "keep":
        return sequence()
    # of 1 x 1: on the smaller maps it gives the same
    mixing = convolution(f"{name}s", shape, of_weight(glorot, shape))
    return sequence(mixing, plain(upsampled)) if resampling == "double" else sequence(plain(pooled), mixing)

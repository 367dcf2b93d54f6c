"""What networks are put together from: layers with their parameters, and what they do to a batch on its way.

Layers are pure functions of one trial. Weights are stored with their outputs last. A layer that a normalisation follows
directly has no bias of its own: batch normalisation would cancel it, and the normalisation has one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from study.layers import (
    batch_norm,
    batch_norm_by,
    batch_norm_self,
    instance_norm,
    layer_norm,
    minibatch_similarity,
    virtual_batch_norm,
)
from study.lazy import torch
from study.networks.base import NORMS, Network, Parameters, known, split
from study.networks.starts import Start, normal, zero

if TYPE_CHECKING:
    from torch import Tensor

KERNELS = 16
"""Similarities per sample in minibatch discrimination; for small networks, the published code has 100."""
KERNEL_DIMENSIONS = 5
"""Dimensions in which each similarity is measured; as published."""


class Part(NamedTuple):
    """A parameter: its shape, and what makes its start of uniforms of that shape."""

    shape: tuple[int, ...]
    start: Start


@dataclass
class Passage:
    """A batch on its way through a network.

    Attributes:
        parameters: By name.
        reference: How many of the first rows are the reference batch of virtual batch normalisation.
        features: Activations (b, width) of the hidden layers passed so far, reference batch included.
        statistics: Means and variances (k,) at the batch normalisations passed so far.
    """

    parameters: Parameters
    reference: int = 0
    features: list[Tensor] = field(default_factory=list)
    statistics: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A layer, or several in one.

    Attributes:
        run: What it does to a batch.
        parts: Its parameters by name.
        statistics: Names and shapes of the statistics it leaves in a passage.
        coupled: Whether samples see the others of their batch.
        hidden: Hidden layers in it, whose activations it leaves in a passage.
    """

    run: Callable[[Passage, Tensor], Tensor]
    parts: Mapping[str, Part] = field(default_factory=dict)
    statistics: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    coupled: bool = False
    hidden: int = 0


def sequence(*layers: Layer) -> Layer:
    """One layer after the other."""

    def run(passage: Passage, x: Tensor) -> Tensor:
        for layer in layers:
            x = layer.run(passage, x)
        return x

    return _joined(run, *layers)


def residual(main: Layer, shortcut: Layer) -> Layer:
    """The sum of what two layers make of the same batch."""
    return _joined(lambda passage, x: main.run(passage, x) + shortcut.run(passage, x), main, shortcut)


def _joined(run: Callable[[Passage, Tensor], Tensor], *layers: Layer) -> Layer:
    return Layer(
        run=run,
        parts={name: part for layer in layers for name, part in layer.parts.items()},
        statistics={name: shape for layer in layers for name, shape in layer.statistics.items()},
        coupled=any(layer.coupled for layer in layers),
        hidden=sum(layer.hidden for layer in layers),
    )


def plain(function: Callable[[Tensor], Tensor]) -> Layer:
    """A layer without parameters."""
    return Layer(run=lambda _, x: function(x))


def noted(function: Callable[[Tensor], Tensor]) -> Layer:
    """The end of a hidden layer: a function without parameters, whose result is noted as a feature of the batch."""

    def run(passage: Passage, x: Tensor) -> Tensor:
        x = function(x)
        passage.features.append(x.flatten(1) if x.ndim > 2 else x)
        return x

    return Layer(run=run, hidden=1)


def weighted(
    product: Callable[[Tensor, Tensor, Tensor | None], Tensor], name: str, weight: Part, bias: Start | None
) -> Layer:
    """A product of a batch with "weight{name}", outputs last, and "bias{name}" (outputs,), or None for no bias."""
    parts = {f"weight{name}": weight}
    if bias:
        parts[f"bias{name}"] = Part(weight.shape[-1:], bias)

    def run(passage: Passage, x: Tensor) -> Tensor:
        return product(x, passage.parameters[f"weight{name}"], passage.parameters[f"bias{name}"] if bias else None)

    return Layer(run=run, parts=parts)


def _product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return x @ weight if bias is None else torch.addmm(bias, x, weight)


def linear(name: str, inputs: int, outputs: int, start: Start, *, bias: Start | None = zero) -> Layer:
    """Vectors (b, inputs) to vectors (b, outputs), by "weight{name}" (inputs, outputs) and "bias{name}" (outputs,)."""
    return weighted(_product, name, Part((inputs, outputs), start), bias)


def normalisation(kind: str, names: tuple[str, str, str], width: int, gain: Start) -> Layer:
    """One of NORMS for vectors (b, width) or maps (b, width, h, w).

    Args:
        kind: Which; "none" is no layer at all.
        names: Of the gain (width,), of the bias (width,), which starts at zero, and what follows "mean" and "variance"
            in the names of the statistics.
        width: Number of channels.
        gain: The gain's start.
    """
    if known(kind, NORMS, "normalisation") == "none":
        return sequence()
    gains, biases, number = names
    normalise = _NORMALISERS[kind]

    def run(passage: Passage, x: Tensor) -> Tensor:
        return normalise(passage, number, x, passage.parameters[gains], passage.parameters[biases])

    return Layer(
        run=run,
        parts={biases: Part((width,), zero), gains: Part((width,), gain)},
        statistics={f"mean{number}": (width,), f"variance{number}": (width,)} if kind == "batch" else {},
        coupled=kind == "batch",
    )


def _batch(passage: Passage, number: str, x: Tensor, gain: Tensor, bias: Tensor) -> Tensor:
    mean, variance = f"mean{number}", f"variance{number}"
    if mean in passage.parameters:
        return batch_norm_by(x, passage.parameters[mean], passage.parameters[variance], gain, bias)
    x, passage.statistics[mean], passage.statistics[variance] = batch_norm(x, gain, bias)
    return x


def _virtual(passage: Passage, _number: str, x: Tensor, gain: Tensor, bias: Tensor) -> Tensor:
    reference, live = x[: passage.reference], x[passage.reference :]
    return torch.cat([batch_norm_self(reference, gain, bias), virtual_batch_norm(live, reference, gain, bias)])


_NORMALISERS: dict[str, Callable[[Passage, str, Tensor, Tensor, Tensor], Tensor]] = {
    "batch": _batch,
    "layer": lambda _passage, _number, x, gain, bias: layer_norm(x, gain, bias),
    "instance": lambda _passage, _number, x, gain, bias: instance_norm(x, gain, bias),
    "virtual": _virtual,
}


def hidden_layer(
    product: Callable[..., Layer],
    name: str,
    width: int,
    *,
    norm: str,
    gain: Start,
    activation: Callable[[Tensor], Tensor],
    bias: Start = zero,
) -> Layer:
    """A product, its normalisation and its activation.

    Args:
        product: Gives the layer of weights for a name and, as the keyword `bias`, a start or None for no bias.
        name: Of the product; the normalisation's parameters are "gain{name}" and "bias{name}".
        width: Number of channels or units.
        norm: One of NORMS.
        gain: The start of the normalisation's gain.
        activation: What comes last.
        bias: The start of the product's bias, if it has one.
    """
    names = (f"gain{name}", f"bias{name}", name)
    return sequence(
        product(name, bias=bias if norm == "none" else None),
        normalisation(norm, names, width, gain),
        noted(activation),
    )


def similarities(width: int, start: Start) -> Layer:
    """Minibatch discrimination (Salimans et al. 2016): f (b, width) becomes (b, width + KERNELS).

    Appended is the `minibatch_similarity` of the kernels M = f T, with T the parameter "tensor" of shape (width,
    KERNELS * KERNEL_DIMENSIONS). It starts like any weight; the published code normalises it, with a learned scale, and
    scales it to the first batch.
    """

    def run(passage: Passage, f: Tensor) -> Tensor:
        kernels = (f @ passage.parameters["tensor"]).view(len(f), KERNELS, KERNEL_DIMENSIONS)
        return torch.cat([f, minibatch_similarity(kernels)], 1)

    return Layer(run=run, parts={"tensor": Part((width, KERNELS * KERNEL_DIMENSIONS), start)}, coupled=True)


def labelled(latent: int, labels: int) -> Layer:
    """Class-conditional input (b, latent + labels), latents beside one-hot labels, to (b, 2 latent).

    As in the code of Mescheder, Geiger and Nowozin 2018: a label's row of the parameter "embedding" (labels, latent),
    which starts from N(0, 1), is divided by its length and put beside the latent. `labels` of 0 leaves latents alone.
    """
    if not labels:
        return sequence()

    def run(passage: Passage, x: Tensor) -> Tensor:
        row = x[:, latent:] @ passage.parameters["embedding"]
        # bounded inside the root: a norm has no derivative at zero
        return torch.cat([x[:, :latent], row * torch.rsqrt(row.square().sum(1, keepdim=True).clamp(min=1e-24))], 1)

    return Layer(run=run, parts={"embedding": Part((labels, latent), normal(1))})


def assemble(body: Layer, head: Layer, *, rebuild: Callable[..., Network], virtual: bool = False) -> Network:
    """A network of a body, which holds the normalisations, and of a head.

    Virtual batch normalisation: the parameters that `apply` and `features` get must then hold the reference batch (n,
    inputs) as "reference", which is not trained and not in `shapes`; it goes through the body at each call, normalised
    by itself.
    """
    whole = sequence(body, head)
    shapes = {name: part.shape for name, part in whole.parts.items()}

    def initialise(uniform: Tensor) -> dict[str, Tensor]:
        return {name: whole.parts[name].start(piece) for name, piece in split(uniform, shapes).items()}

    def through(parameters: Parameters, x: Tensor) -> tuple[Passage, Tensor]:
        passage = Passage(parameters)
        if virtual:
            if "reference" not in parameters:
                raise ValueError("virtual batch normalisation needs a batch of inputs as the parameter 'reference'")
            passage.reference = len(parameters["reference"])
            x = torch.cat([parameters["reference"], x])
        return passage, _live(passage, body.run(passage, x))

    def apply(parameters: Parameters, x: Tensor) -> Tensor:
        return head.run(*through(parameters, x))

    def features(parameters: Parameters, x: Tensor) -> tuple[Tensor, ...]:
        passage, _ = through(parameters, x)
        return tuple(_live(passage, feature) for feature in passage.features)

    def statistics(parameters: Parameters, x: Tensor) -> dict[str, Tensor]:
        own = {name: value for name, value in parameters.items() if name not in body.statistics}
        return through(own, x)[0].statistics

    return Network(
        shapes=shapes,
        initialise=initialise,
        apply=apply,
        features=features,
        rebuild=rebuild,
        hidden=body.hidden,
        batch_coupled=whole.coupled,
        statistics_shapes=body.statistics,
        statistics=statistics,
    )


def _live(passage: Passage, x: Tensor) -> Tensor:
    return x[passage.reference :] if passage.reference else x

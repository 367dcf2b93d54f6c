"""Multilayer perceptrons."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

from study.networks.base import ACTIVATIONS, NORMS, Network, Pair, identity, known, leaky_relu, tanh
from study.networks.parts import (
    KERNELS,
    Layer,
    assemble,
    hidden_layer,
    labelled,
    linear,
    plain,
    sequence,
    similarities,
)
from study.networks.starts import gain, spread

if TYPE_CHECKING:
    from torch import Tensor


def mlp(
    sizes: Sequence[int],
    *,
    hidden: Callable[[Tensor], Tensor] = leaky_relu,
    output: Callable[[Tensor], Tensor] = identity,
    minibatch: bool = False,
    norm: str = "none",
    labels: int = 0,
) -> Network:
    """A multilayer perceptron.

    Args:
        sizes: Width of the input, of each hidden layer, and of the output.
        hidden: Activation between layers.
        output: Activation after the last layer.
        minibatch: Whether samples see how similar the others of their batch are, before the last layer.
        norm: What normalises every hidden layer before its activation: "none", "batch", "layer" or "virtual". The bias
            of a normalised layer is added after the normalisation and starts at zero, its gains start from N(1, 0.02).
        labels: Classes of a generator, as in `labelled`; 0 for none.

    Returns:
        A network whose weights and biases start uniform in +-1/sqrt(fan_in), torch.nn.Linear's default.

    Raises:
        ValueError: If there is no such normalisation, or no hidden layer for it.
    """
    _refuse(sizes, norm)
    layers = list(pairwise((2 * sizes[0] if labels else sizes[0], *sizes[1:])))

    def hidden_one(i: int, inputs: int, width: int) -> Layer:
        product = partial(linear, inputs=inputs, outputs=width, start=spread(inputs))
        return hidden_layer(product, str(i), width, norm=norm, gain=gain, activation=hidden, bias=spread(inputs))

    within = [hidden_one(i, *layer) for i, layer in enumerate(layers[:-1])]
    last, (inputs, outputs) = len(within), layers[-1]
    seen = inputs + KERNELS if minibatch else inputs
    head = [linear(str(last), seen, outputs, spread(seen), bias=spread(seen)), plain(output)]
    if minibatch:
        head.insert(0, similarities(inputs, spread(inputs)))

    def rebuild(
        *,
        outputs: int = outputs,
        minibatch: bool = minibatch,
        norm: str = norm,
        depth: int | None = None,
        width: int | None = None,
        activation: str | None = None,
        labels: int = labels,
    ) -> Network:
        changed = (*_resized(sizes[:-1], depth=depth, width=width), outputs)
        function = hidden if activation is None else ACTIVATIONS[known(activation, ACTIVATIONS, "activation")]
        return mlp(changed, hidden=function, output=output, minibatch=minibatch, norm=norm, labels=labels)

    body = sequence(labelled(sizes[0], labels), *within)
    return assemble(body, sequence(*head), rebuild=rebuild, virtual=norm == "virtual")


def perceptrons(latent: int, shape: tuple[int, ...], *, bounded: bool) -> Pair:
    """Two perceptrons with two hidden layers of 64 units, as the tasks on vectors have."""
    width = math.prod(shape)
    return Pair(mlp([latent, 64, 64, width], output=tanh if bounded else identity), mlp([width, 64, 64, 1]))


def _refuse(sizes: Sequence[int], norm: str) -> None:
    if known(norm, NORMS, "normalisation") == "instance":
        raise ValueError("instance normalisation needs maps, and the layers of a perceptron have none")
    if norm != "none" and len(sizes) == 2:
        raise ValueError("there is no hidden layer to normalise")


def _resized(sizes: Sequence[int], *, depth: int | None, width: int | None) -> tuple[int, ...]:
    """Widths of the input and of the hidden layers, of which there are to be `depth`, all of them `width` wide."""
    first, *hidden = sizes
    if width is not None:
        hidden = [width] * len(hidden)
    if depth is None:
        return (first, *hidden)
    widths = {width} if width is not None else set(hidden)
    if depth and len(widths) != 1:
        raise ValueError("another depth needs a width too: the hidden layers have none in common")
    return (first, *list(widths) * depth)

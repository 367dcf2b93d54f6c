"""Multilayer perceptrons."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from study.layers import batch_norm_self, minibatch_similarity, virtual_batch_norm
from study.lazy import torch
from study.networks.base import Network, Parameters, identity, leaky_relu, split

if TYPE_CHECKING:
    from torch import Tensor


KERNELS = 16
"""Similarities per sample in minibatch discrimination; for small networks, the published code has 100."""
KERNEL_DIMENSIONS = 5
"""Dimensions in which each similarity is measured; as published."""
GAIN_SD = 0.02
"""Spread around one of the gains of virtual batch normalisation at the start; Salimans et al.'s code."""


def mlp(
    sizes: Sequence[int],
    *,
    hidden: Callable[[Tensor], Tensor] = leaky_relu,
    output: Callable[[Tensor], Tensor] = identity,
    minibatch: bool = False,
    virtual_batch: bool = False,
) -> Network:
    """A multilayer perceptron.

    Minibatch discrimination: the kernels M = f T of `minibatch_similarity`, with f the activations (b, A) that would
    enter the last layer and T the parameter `tensor` of shape (A, KERNELS * KERNEL_DIMENSIONS); the last layer sees f
    and the similarities. T starts like any weight; the published code normalises it, with a learned scale, and scales
    it to the first batch.

    Virtual batch normalisation: of every hidden layer, before its activation. The parameters that `apply` and
    `features` get must then hold the reference batch (n, inputs) as "reference", which is not trained and not in
    `shapes`; it goes through all layers at each call, normalised by itself. A layer's bias is added after the
    normalisation, which would cancel any added before, and starts at zero; its gains start from N(1, GAIN_SD).

    Args:
        sizes: Width of the input, of each hidden layer, and of the output.
        hidden: Activation between layers.
        output: Activation after the last layer.
        minibatch: Whether samples see how similar the others of their batch are, before the last layer.
        virtual_batch: Whether hidden layers are normalised by a reference batch; for generators.

    Returns:
        A network whose weights and biases start uniform in +-1/sqrt(fan_in), torch.nn.Linear's default.
    """
    last = len(sizes) - 2
    parts = _parts(sizes, minibatch=minibatch, virtual_batch=virtual_batch)
    shapes = {name: shape for name, (shape, _) in parts.items()}

    def initialise(uniform: Tensor) -> dict[str, Tensor]:
        return {name: parts[name][1](piece) for name, piece in split(uniform, shapes).items()}

    def features(parameters: Parameters, x: Tensor) -> tuple[Tensor, ...]:
        if virtual_batch:
            return _virtual_features(parameters, x, hidden=hidden, count=last)
        reached = []
        for i in range(last):
            x = hidden(torch.addmm(parameters[f"bias{i}"], x, parameters[f"weight{i}"]))
            reached.append(x)
        return tuple(reached)

    def apply(parameters: Parameters, x: Tensor) -> Tensor:
        f = (x, *features(parameters, x))[-1]
        if minibatch:
            kernels = (f @ parameters["tensor"]).view(len(f), KERNELS, KERNEL_DIMENSIONS)
            f = torch.cat([f, minibatch_similarity(kernels)], 1)
        return output(torch.addmm(parameters[f"bias{last}"], f, parameters[f"weight{last}"]))

    def rebuild(
        *, outputs: int | None = None, minibatch: bool = minibatch, virtual_batch: bool = virtual_batch
    ) -> Network:
        changed = (*sizes[:-1], sizes[-1] if outputs is None else outputs)
        return mlp(changed, hidden=hidden, output=output, minibatch=minibatch, virtual_batch=virtual_batch)

    return Network(shapes=shapes, initialise=initialise, apply=apply, features=features, rebuild=rebuild, hidden=last)


def _parts(
    sizes: Sequence[int], *, minibatch: bool, virtual_batch: bool
) -> dict[str, tuple[tuple[int, ...], Callable[[Tensor], Tensor]]]:
    """Each parameter's shape, and what makes its start of uniforms of that shape."""
    parts: dict[str, tuple[tuple[int, ...], Callable[[Tensor], Tensor]]] = {}
    layers = list(pairwise(sizes))
    for i, (width, outputs) in enumerate(layers):
        inputs, normalised = width, virtual_batch and i < len(layers) - 1
        if minibatch and i == len(layers) - 1:
            parts["tensor"] = ((width, KERNELS * KERNEL_DIMENSIONS), _spread(width))
            inputs = width + KERNELS
        parts[f"weight{i}"] = ((inputs, outputs), _spread(inputs))
        parts[f"bias{i}"] = ((outputs,), _zero if normalised else _spread(inputs))
        if normalised:
            parts[f"gain{i}"] = ((outputs,), _gain)
    return parts


def _spread(fan_in: int) -> Callable[[Tensor], Tensor]:
    return lambda uniform: (2 * uniform - 1) / math.sqrt(fan_in)


def _zero(uniform: Tensor) -> Tensor:
    return torch.zeros_like(uniform)


def _gain(uniform: Tensor) -> Tensor:
    return torch.add(1, torch.special.ndtri(uniform), alpha=GAIN_SD)


def _virtual_features(
    parameters: Parameters, x: Tensor, *, hidden: Callable[[Tensor], Tensor], count: int
) -> tuple[Tensor, ...]:
    if "reference" not in parameters:
        raise ValueError("virtual batch normalisation needs a batch of inputs as the parameter 'reference'")
    reference = parameters["reference"]
    reached = []
    for i in range(count):
        weight, gain, bias = (parameters[f"{name}{i}"] for name in ("weight", "gain", "bias"))
        x, reference = x @ weight, reference @ weight
        x, reference = virtual_batch_norm(x, reference, gain, bias), batch_norm_self(reference, gain, bias)
        x, reference = hidden(x), hidden(reference)
        reached.append(x)
    return tuple(reached)

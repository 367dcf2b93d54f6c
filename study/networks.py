"""Networks as plain functions of a dictionary of tensors, so that a whole pack of them can be trained at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, TypeAlias

from study.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor


Parameters: TypeAlias = "Mapping[str, Tensor]"


@dataclass(frozen=True)
class Network:
    """A network of one trial.

    Attributes:
        shapes: Parameter name to shape, in the order that the flat parameter vector holds them.
        initialise: Maps uniform draws of shape (size,) in (0, 1) to parameters; `size` is the number of parameters.
        apply: Maps parameters and a batch of shape (b, inputs) to a batch of shape (b, outputs).
    """

    shapes: Mapping[str, tuple[int, ...]]
    initialise: Callable[[Tensor], dict[str, Tensor]]
    apply: Callable[[Parameters, Tensor], Tensor]

    @property
    def size(self) -> int:
        """Number of parameters."""
        return sum(math.prod(shape) for shape in self.shapes.values())


def split(flat: Tensor, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Cut a vector of shape (size,) into consecutive tensors of the given shapes."""
    pieces = torch.split(flat, [math.prod(shape) for shape in shapes.values()])
    return {name: piece.view(shape) for (name, shape), piece in zip(shapes.items(), pieces, strict=True)}


def flatten(pieces: Mapping[str, Tensor]) -> Tensor:
    """Join tensors into one vector, in the order `split` cuts it."""
    return torch.cat([piece.reshape(-1) for piece in pieces.values()])


def leaky_relu(x: Tensor) -> Tensor:
    """Leaky ReLU with slope 0.2, the usual choice for discriminators (Radford et al. 2016)."""
    return torch.nn.functional.leaky_relu(x, 0.2)


def tanh(x: Tensor) -> Tensor:
    """Hyperbolic tangent, for data in [-1, 1]."""
    return torch.tanh(x)


def identity(x: Tensor) -> Tensor:
    """Return the argument."""
    return x


def mlp(
    sizes: Sequence[int],
    *,
    hidden: Callable[[Tensor], Tensor] = leaky_relu,
    output: Callable[[Tensor], Tensor] = identity,
) -> Network:
    """A multilayer perceptron.

    Args:
        sizes: Width of the input, of each hidden layer, and of the output.
        hidden: Activation between layers.
        output: Activation after the last layer.

    Returns:
        A network whose weights and biases start uniform in +-1/sqrt(fan_in), torch.nn.Linear's default.
    """
    layers = list(pairwise(sizes))
    shapes: dict[str, tuple[int, ...]] = {}
    for i, (inputs, outputs) in enumerate(layers):
        shapes[f"weight{i}"] = (inputs, outputs)
        shapes[f"bias{i}"] = (outputs,)

    def initialise(uniform: Tensor) -> dict[str, Tensor]:
        return {
            name: (2 * piece - 1) / math.sqrt(layers[int(name[-1])][0])
            for name, piece in split(uniform, shapes).items()
        }

    def apply(parameters: Parameters, x: Tensor) -> Tensor:
        for i in range(len(layers)):
            x = torch.addmm(parameters[f"bias{i}"], x, parameters[f"weight{i}"])
            x = output(x) if i == len(layers) - 1 else hidden(x)
        return x

    return Network(shapes=shapes, initialise=initialise, apply=apply)

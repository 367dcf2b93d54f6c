"""What a network is: plain functions of a dictionary of tensors, so that a whole pack can be trained at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from study.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor


Parameters: TypeAlias = "Mapping[str, Tensor]"


def _no_features(_parameters: Parameters, _x: Tensor) -> tuple[Tensor, ...]:
    return ()


def _no_rebuild(**_changes: object) -> Network:
    raise ValueError("this network comes in one form only")


@dataclass(frozen=True)
class Network:
    """A network of one trial.

    Attributes:
        shapes: Parameter name to shape, in the order that the flat parameter vector holds them.
        initialise: Maps uniform draws of shape (size,) in (0, 1) to parameters; `size` is the number of parameters.
        apply: Maps parameters and a batch of shape (b, inputs) to a batch of shape (b, outputs).
        features: Maps the same to the activations (b, width) of the hidden layers, first to last. The similarities
            that minibatch discrimination appends to the last of them are not among them.
        rebuild: Gives the same network with changes: `outputs` (int, the width of the last layer), `minibatch` and
            `virtual_batch` (bool, as in `mlp`); what is not named stays. ValueError where there is no such form.
        hidden: Number of hidden layers.
    """

    shapes: Mapping[str, tuple[int, ...]]
    initialise: Callable[[Tensor], dict[str, Tensor]]
    apply: Callable[[Parameters, Tensor], Tensor]
    features: Callable[[Parameters, Tensor], tuple[Tensor, ...]] = _no_features
    rebuild: Callable[..., Network] = _no_rebuild
    hidden: int = 0

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

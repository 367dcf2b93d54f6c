"""What a network is: plain functions of a dictionary of tensors, so that a whole pack can be trained at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, NamedTuple, TypeAlias, TypeVar

from study.lazy import torch

if TYPE_CHECKING:
    from _typeshed import DataclassInstance
    from torch import Tensor


Parameters: TypeAlias = "Mapping[str, Tensor]"


def _no_features(_parameters: Parameters, _x: Tensor) -> tuple[Tensor, ...]:
    return ()


def _no_statistics(_parameters: Parameters, _x: Tensor) -> dict[str, Tensor]:
    return {}


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
        rebuild: Gives the same network with changes; what is not named stays. ValueError where there is no such form.
            `outputs` (int) is the width of the last layer, `minibatch` (bool) minibatch discrimination before it,
            `norm` a name of NORMS, `depth` (int) the number of layers as the family counts them, `width` (int) the
            number of units or base filters, `activation` a name of ACTIVATIONS, `labels` (int) the number of classes
            of a generator, whose inputs then end in one-hot labels, and 0 for none.
        hidden: Number of hidden layers.
        batch_coupled: Whether outputs depend on the other samples of the batch: under batch normalisation, without
            statistics among the parameters, and minibatch discrimination.
        statistics_shapes: Names and shapes of what `statistics` gives; empty without batch normalisation.
        statistics: Maps the same as `apply` to the mean and the biased variance of the batch in every channel, at every
            batch normalisation: "mean{i}" and "variance{i}". Where parameters hold them, `apply` and `features` use
            these, which is evaluation, in place of the batch's own.
    """

    shapes: Mapping[str, tuple[int, ...]]
    initialise: Callable[[Tensor], dict[str, Tensor]]
    apply: Callable[[Parameters, Tensor], Tensor]
    features: Callable[[Parameters, Tensor], tuple[Tensor, ...]] = _no_features
    rebuild: Callable[..., Network] = _no_rebuild
    hidden: int = 0
    batch_coupled: bool = False
    statistics_shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    statistics: Callable[[Parameters, Tensor], dict[str, Tensor]] = _no_statistics

    @property
    def size(self) -> int:
        """Number of parameters."""
        return sum(math.prod(shape) for shape in self.shapes.values())


class Pair(NamedTuple):
    """The networks of both players."""

    generator: Network
    discriminator: Network


CHANGES = ("outputs", "minibatch", "norm", "depth", "width", "activation", "labels")
"""What `Network.rebuild` may be asked to change."""
Form = TypeVar("Form", bound="DataclassInstance")


def rebuilding(build: Callable[[Form], Network], form: Form) -> Callable[..., Network]:
    """The `rebuild` of a network built from a form, a frozen dataclass: fields of it named in CHANGES can change."""
    possible = [f.name for f in fields(form) if f.name in CHANGES]

    def rebuild(**changes: object) -> Network:
        for name in changes:
            if name in CHANGES and name not in possible:
                raise ValueError(f"this network has no {name} to change, only {', '.join(possible)}")
        return build(replace(form, **changes))

    return rebuild


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


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    # not torch's functions themselves, which would import torch with this module
    "relu": lambda x: torch.relu(x),
    "leaky_relu": leaky_relu,
    # Gulrajani et al. 2017, section 4.1
    "softplus": lambda x: torch.nn.functional.softplus(2 * x + 2) / 2 - 1,
    "tanh": tanh,
}
"""What follows a hidden layer, by name."""
NORMS = ("none", "batch", "layer", "instance", "virtual")
"""What normalises hidden layers; "virtual" is virtual batch normalisation, for generators."""


def known(name: str, choices: Iterable[str], kind: str) -> str:
    """Return a name if it is one of the choices; ValueError that lists them if not."""
    if name not in choices:
        raise ValueError(f"there is no {kind} '{name}', only {', '.join(choices)}")
    return name

"""Optimisers as pure functions of one flat parameter vector, every hyperparameter a tensor.

Under vmap the hyperparameters get a trial axis; shapes below are those of one trial, with p parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from study.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor


State: TypeAlias = "tuple[Tensor, Tensor, Tensor]"
"""Parameters, first moment, second moment; each of shape (p,)."""

Update: TypeAlias = "Callable[[State, Tensor, Tensor, Tensor, Tensor, Tensor], State]"
"""Maps (state, gradient (p,), count (), lr (), beta1 (), beta2 ()) to the next state; count starts at 1."""

_EPSILON = 1e-8


def adam(state: State, gradient: Tensor, count: Tensor, lr: Tensor, beta1: Tensor, beta2: Tensor) -> State:
    """Adam (Kingma and Ba 2015, algorithm 1), epsilon 1e-8, as torch.optim.Adam."""
    parameters, first, second = state
    first = torch.lerp(gradient, first, beta1)
    second = torch.lerp(gradient.square(), second, beta2)
    # -step * first / (sqrt(second) * scale + epsilon), with the step drawn into the denominator: fewer passes
    inverse = -(1 - beta1**count) / lr
    scale = torch.rsqrt(1 - beta2**count)
    denominator = torch.addcmul(_EPSILON * inverse, second.sqrt(), scale * inverse)
    return torch.addcdiv(parameters, first, denominator), first, second


def rmsprop(state: State, gradient: Tensor, _count: Tensor, lr: Tensor, _beta1: Tensor, beta2: Tensor) -> State:
    """RMSprop (Tieleman and Hinton 2012), epsilon 1e-8, as torch.optim.RMSprop with alpha = beta2 and no momentum."""
    parameters, first, second = state
    second = torch.lerp(gradient.square(), second, beta2)
    return parameters - lr * gradient / (second.sqrt() + _EPSILON), first, second


def sgd(state: State, gradient: Tensor, _count: Tensor, lr: Tensor, beta1: Tensor, _beta2: Tensor) -> State:
    """Gradient descent with momentum beta1 (Polyak 1964), as torch.optim.SGD with dampening 0."""
    parameters, first, second = state
    first = beta1 * first + gradient
    return parameters - lr * first, first, second


OPTIMISERS: dict[str, Update] = {"adam": adam, "rmsprop": rmsprop, "sgd": sgd}

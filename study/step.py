"""The training step of one GAN, and the one place that turns it into the step of a whole pack.

`discriminator_update` and `generator_update` are single-trial mathematics: they read like the papers' algorithms.
`vectorise` maps them over a leading trial axis with `torch.func.vmap` and records the result once as a flat program of
tensor operations, which runs without the overhead of tracing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import vmap

from study.methods import Method
from study.networks import Network, flatten, split
from study.optimisers import State, Update
from study.penalties import squared_slope
from study.record import grad_and_value, record
from study.tasks.base import Task
from study.trim import trim

Tensors = dict[str, Tensor]
TRAINED = ("theta", "theta_first", "theta_second", "phi", "phi_first", "phi_second")
"""What a trial carries from step to step: generator (theta) and discriminator (phi) with their moments, flat."""
SHARED = ("count",)
"""Inputs that all trials of a pack have in common."""


@dataclass(frozen=True)
class Game:
    """What the trials of a pack have in common: the program, as opposed to the numbers in it."""

    task: Task
    method: Method
    update: Update
    n_critic: int


def logits(network: Network, phi: Mapping[str, Tensor], x: Tensor) -> Tensor:
    """Discriminator output as shape (b,), so that no (b,) ever meets a (b, 1)."""
    return network.apply(phi, x).squeeze(-1)


def discriminator_update(game: Game, trial: Mapping[str, Tensor]) -> Tensors:
    """One discriminator update of one trial.

    Args:
        game: The program.
        trial: Tensors of one trial: those of TRAINED (p,); `real` (b, d), `latent` (b, z), `noise` (b, draws);
            scalars `lr_d`, `beta1`, `beta2`, `penalty_weight`, `noise_scale`, `clip`, `sound_d`, and `count`, the
            number of this update from 1.

    Returns:
        The new `phi`, `phi_first`, `phi_second`, and the scalars `loss_d`, `grad_norm_d` and `sound_d`.
    """
    method, network = game.method, game.task.discriminator
    real = trial["real"]
    fake = game.task.generator.apply(split(trial["theta"], game.task.generator.shapes), trial["latent"])

    def loss(phi: Tensors) -> Tensor:
        both = logits(network, phi, torch.cat([real, fake]))
        total = method.loss_entry.discriminator(*torch.split(both, len(real))).mean()
        penalty = method.penalty_entry
        if penalty:
            points = penalty.points(real, fake, trial["noise"], trial["noise_scale"])
            squared = squared_slope(lambda x: logits(network, phi, x), points)
            total = total + trial["penalty_weight"] * penalty.value(squared).mean()
        return total

    gradients, value = grad_and_value(loss)(split(trial["phi"], network.shapes))
    gradient = flatten(gradients)
    state: State = (trial["phi"], trial["phi_first"], trial["phi_second"])
    phi, first, second = game.update(state, gradient, trial["count"], trial["lr_d"], trial["beta1"], trial["beta2"])
    phi = constrain(method, phi, trial)
    return {
        "phi": phi,
        "phi_first": first,
        "phi_second": second,
        "loss_d": value,
        "grad_norm_d": torch.linalg.vector_norm(gradient),
        "sound_d": extend(trial["sound_d"], trial["count"], torch.isfinite(value) & torch.isfinite(phi.sum())),
    }


def extend(sound: Tensor, count: Tensor, finite: Tensor) -> Tensor:
    """Length of the unbroken run of finite updates: `count` if this one is finite and all before it were."""
    return torch.where(finite & (sound == count - 1), count, sound)


def constrain(method: Method, phi: Tensor, trial: Mapping[str, Tensor]) -> Tensor:
    """Apply the method's constraint to a discriminator's parameters (p,)."""
    return torch.maximum(torch.minimum(phi, trial["clip"]), -trial["clip"]) if "clip" in method.techniques else phi


def generator_update(game: Game, trial: Mapping[str, Tensor]) -> Tensors:
    """One generator update of one trial; arguments as `discriminator_update`, with `lr_g` and no `real` or `noise`.

    Returns:
        The new `theta`, `theta_first`, `theta_second`, and the scalars `loss_g`, `grad_norm_g` and `sound_g`.
    """
    generator, discriminator = game.task.generator, game.task.discriminator
    phi = split(trial["phi"], discriminator.shapes)

    def loss(theta: Tensors) -> Tensor:
        fake = generator.apply(theta, trial["latent"])
        return game.method.loss_entry.generator(logits(discriminator, phi, fake)).mean()

    gradients, value = grad_and_value(loss)(split(trial["theta"], generator.shapes))
    gradient = flatten(gradients)
    state: State = (trial["theta"], trial["theta_first"], trial["theta_second"])
    theta, first, second = game.update(state, gradient, trial["count"], trial["lr_g"], trial["beta1"], trial["beta2"])
    return {
        "theta": theta,
        "theta_first": first,
        "theta_second": second,
        "loss_g": value,
        "grad_norm_g": torch.linalg.vector_norm(gradient),
        "sound_g": extend(trial["sound_g"], trial["count"], torch.isfinite(value) & torch.isfinite(theta.sum())),
    }


def vectorise(update: Callable[[Tensors], Tensors], example: Mapping[str, Tensor]) -> Callable[[Tensors], Tensors]:
    """Turn the update of one trial into the update of a pack.

    Args:
        update: Maps the tensors of one trial to results.
        example: Tensors of a pack: a leading trial axis everywhere but in SHARED. Values do not matter.

    Returns:
        The same function with a leading trial axis, for tensors of the example's shapes, dtypes and device. It reads
        only the tensors it needs from its argument.
    """
    names = list(example)
    axes = tuple(None if name in SHARED else 0 for name in names)

    def packed(*tensors: Tensor) -> Tensors:
        return vmap(lambda *single: update(dict(zip(names, single, strict=True))), in_dims=axes)(*tensors)

    graph = trim(record(packed, list(example.values())))
    return lambda tensors: _run(graph, [tensors[name] for name in names])


@torch.no_grad()
def _run(graph: nn.Module, tensors: list[Tensor]) -> Tensors:
    result: Tensors = graph(*tensors)
    return result

"""The training step of one GAN, and the one place that turns it into the step of a whole pack.

`discriminator_update`, `generator_update` and `joint_update` are the ways to play the game of `study/game.py`:
single-trial mathematics that reads like the papers' algorithms. `vectorise` maps an update over a leading trial axis
with `torch.func.vmap` and records the result once as a flat program of tensor operations, which runs without the
overhead of tracing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.func import vmap

from study.game import (
    Batch,
    Game,
    batch_of,
    components,
    discriminator_loss,
    generator_input,
    generator_loss,
    generator_parameters,
)
from study.layers import clip_gradients, power_iterate, power_shapes, running_mean
from study.methods import Method
from study.networks.base import Network, flatten, split
from study.optimisers import State
from study.record import grad, grad_and_value, record
from study.trim import trim

Tensors = dict[str, Tensor]
SHARED = ("count_d", "count_g", "progress")
"""Inputs that all trials of a pack have in common."""
MOMENTUM = 0.1
"""Share of the newest batch in running means and variances; PyTorch's default."""
MEASURED = ("loss_d", "loss_g", "grad_norm_d", "grad_norm_g", "sound_d", "sound_g")
"""What the updates say of themselves; see `discriminator_update`."""


def slope(
    game: Game, trial: Mapping[str, Tensor], player: str, theta: Tensor, phi: Tensor, batch: Batch
) -> tuple[Tensor, Tensor]:
    """A player's gradient (p,) at a point, consensus and clipping included, and its loss ()."""

    def loss_d(theta: Tensor, phi: Tensor) -> Tensor:
        return discriminator_loss(game, trial, theta, phi, batch)

    def loss_g(theta: Tensor, phi: Tensor) -> Tensor:
        return generator_loss(game, trial, theta, phi, batch)

    def energy(theta: Tensor, phi: Tensor) -> Tensor:
        v = (grad(lambda theta: loss_g(theta, phi))(theta), grad(lambda phi: loss_d(theta, phi))(phi))
        return (v[0].square().sum() + v[1].square().sum()) / 2

    def of_own(function: Callable[[Tensor, Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        if player == "d":
            return grad_and_value(lambda phi: function(theta, phi))(phi)
        return grad_and_value(lambda theta: function(theta, phi))(theta)

    gradient, value = of_own(loss_d if player == "d" else loss_g)
    if game.method.has("consensus"):
        gradient = gradient + trial["consensus_weight"] * of_own(energy)[0]
    if game.method.has("gradclip"):
        network = game.discriminator if player == "d" else game.generator
        gradient = _clipped(game, network, gradient, trial["grad_clip"])
    return gradient, value


def _clipped(game: Game, network: Network, gradient: Tensor, bound: Tensor) -> Tensor:
    if game.components == 1:
        return _of_one(gradient, network, bound)
    count = game.components
    networks = [_of_one(part, network, bound) for part in gradient[:-count].chunk(count)]
    return torch.cat([*networks, clip_gradients({"weights": gradient[-count:]}, bound)["weights"]])


def _of_one(gradient: Tensor, network: Network, bound: Tensor) -> Tensor:
    return flatten(clip_gradients(split(gradient, network.shapes), bound))


def discriminator_update(game: Game, trial: Mapping[str, Tensor], at: tuple[Tensor, Tensor] | None = None) -> Tensors:
    """One discriminator update of one trial.

    Args:
        game: The program.
        trial: Tensors of one trial: `theta`, `phi` (p,) and what `start` puts beside them; `real_d` (b, d), `latent_d`
            (b, z), `noise_d` (b, noise_draws), `label_d` (b,) where the loss looks at labels; the hyperparameters,
            scalars; `count_d`, the number of this update from 1, and `progress`, the share of the budget spent.
        at: Parameters (theta, phi) to take the gradient at, if not those of the trial.

    Returns:
        New values of `phi` and what belongs to it, and the scalars `loss_d`, `grad_norm_d` and `sound_d`.
    """
    power = iterated(game, trial)
    return power | _discriminator_move(game, {**trial, **power}, at)


def _discriminator_move(game: Game, trial: Mapping[str, Tensor], at: tuple[Tensor, Tensor] | None) -> Tensors:
    theta, phi = at or (trial["theta"], trial["phi"])
    gradient, value = slope(game, trial, "d", theta, phi, batch_of(trial, "d"))
    kept = _move(game, trial, "phi", gradient, lr=trial["lr_d"], count=trial["count_d"])
    return kept | _said(trial, "d", value, gradient, kept["phi"])


def generator_update(game: Game, trial: Mapping[str, Tensor], at: tuple[Tensor, Tensor] | None = None) -> Tensors:
    """One generator update of one trial; as `discriminator_update`, with `_g` for `_d` and `theta` for `phi`.

    `real_g` and `noise_g` are looked at only where the method says so.
    """
    theta, phi = at or (trial["theta"], trial["phi"])
    gradient, value = slope(game, trial, "g", theta, phi, batch_of(trial, "g"))
    kept = _move(game, trial, "theta", gradient, lr=trial["lr_g"], count=trial["count_g"])
    if game.method.has("ema"):
        kept["theta_average"] = torch.lerp(kept["theta"], trial["theta_average"], trial["ema_decay"])
    elif game.method.has("average"):
        kept["theta_average"] = running_mean(trial["theta_average"], kept["theta"], trial["count_g"])
    if game.generator.statistics_shapes:
        measured = kept.get("theta_average", kept["theta"])
        kept["statistics"] = torch.lerp(trial["statistics"], statistics(game, trial, measured), MOMENTUM)
    return kept | _said(trial, "g", value, gradient, kept["theta"])


def statistics(game: Game, trial: Mapping[str, Tensor], theta: Tensor) -> Tensor:
    """Batch means and variances (s,) of the batch normalisations of a generator (p,), on the update's own latents."""
    generators = (theta,) if game.components == 1 else components(theta, game.components)[0]
    batch = batch_of(trial, "g")
    shown = generator_input(game, batch.latent, batch.label)
    found = [game.generator.statistics(generator_parameters(game, trial, flat), shown) for flat in generators]
    return torch.cat([flatten(pieces) for pieces in found])


def joint_update(game: Game, trial: Mapping[str, Tensor]) -> Tensors:
    """The discriminator's last update of a step and the generator's, both from the same point."""
    at, power = None, iterated(game, trial)
    trial = {**trial, **power}
    if game.method.has("extragradient"):
        ahead = _discriminator_move(game, trial, None) | generator_update(game, trial)
        at = (ahead["theta"], ahead["phi"])
    return power | _discriminator_move(game, trial, at) | generator_update(game, trial, at)


def _move(
    game: Game, trial: Mapping[str, Tensor], name: str, gradient: Tensor, *, lr: Tensor, count: Tensor
) -> Tensors:
    """New parameters, moments and memories of one player."""
    before = trial[name]
    state: State = (before, trial[f"{name}_first"], trial[f"{name}_second"])
    after, first, second = game.update(state, gradient, count, lr, trial["beta1"], trial["beta2"])
    kept: Tensors = {f"{name}_first": first, f"{name}_second": second}
    if game.method.has("optimistic"):
        step = after - before
        kept[f"{name}_step"] = step
        after = torch.where(count == 1, after, after + step - trial[f"{name}_step"])
    if name == "phi":
        after = constrain(game.method, after, trial)
    if game.method.has("history"):
        kept[f"{name}_mean"] = running_mean(trial[f"{name}_mean"], after, count)
    return kept | {name: after}


def _said(trial: Mapping[str, Tensor], player: str, value: Tensor, gradient: Tensor, after: Tensor) -> Tensors:
    finite = torch.isfinite(value) & torch.isfinite(after.sum())
    return {
        f"loss_{player}": value,
        f"grad_norm_{player}": torch.linalg.vector_norm(gradient),
        f"sound_{player}": extend(trial[f"sound_{player}"], trial[f"count_{player}"], finite),
    }


def extend(sound: Tensor, count: Tensor, finite: Tensor) -> Tensor:
    """Length of the unbroken run of finite updates: `count` if this one is finite and all before it were."""
    return torch.where(finite & (sound == count - 1), count, sound)


def constrain(method: Method, phi: Tensor, trial: Mapping[str, Tensor]) -> Tensor:
    """Apply the method's constraint to a discriminator's parameters (p,)."""
    if not method.has("clip"):
        return phi
    count = method.components
    if count == 1:
        return torch.maximum(torch.minimum(phi, trial["clip"]), -trial["clip"])
    networks = phi[:-count]  # not the mixture's weights
    return torch.cat([torch.maximum(torch.minimum(networks, trial["clip"]), -trial["clip"]), phi[-count:]])


def iterated(game: Game, trial: Mapping[str, Tensor]) -> Tensors:
    """`power` of a trial after one power iteration, for one discriminator or a mixture of them; nothing without sn."""
    if not game.method.has("sn"):
        return {}
    phi, shapes = trial["phi"], game.discriminator.shapes
    networks = phi.chunk(1) if game.components == 1 else components(phi, game.components)[0]
    pieces = zip(networks, trial["power"].chunk(game.components), strict=True)
    after = [flatten(power_iterate(split(p, shapes), split(u, power_shapes(shapes)))) for p, u in pieces]
    return {"power": torch.cat(after)}


def vectorise(update: Callable[[Tensors], Tensors], example: Mapping[str, Tensor]) -> Callable[[Tensors], Tensors]:
    """Turn the update of one trial into the update of a pack.

    Args:
        update: Maps the tensors of one trial to results.
        example: Tensors of a pack: a leading trial axis everywhere but in SHARED. Values do not matter.

    Returns:
        The same function with a leading trial axis, for tensors of the example's shapes, dtypes and device. It reads
        only the example's names from its argument.
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

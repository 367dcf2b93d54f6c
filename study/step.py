"""The training step of one GAN, and the one place that turns it into the step of a whole pack.

`discriminator_loss` and `generator_loss` are the game, `discriminator_update`, `generator_update` and `joint_update`
the ways to play it: single-trial mathematics that reads like the papers' algorithms. `vectorise` maps an update over a
leading trial axis with `torch.func.vmap` and records the result once as a flat program of tensor operations, which
runs without the overhead of tracing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor, nn
from torch.func import vmap

from study.layers import (
    clip_gradients,
    feature_distance,
    historical_distance,
    mixture_entropy,
    mixture_weights,
    power_iterate,
    power_shapes,
    running_mean,
    spectrally_normalised,
)
from study.methods import Method
from study.networks import Network, flatten, split
from study.optimisers import State, Update
from study.penalties import POINTS, penalty_value
from study.record import grad, grad_and_value, record
from study.tasks.base import Task
from study.techniques import MIXTURE
from study.trim import trim

Tensors = dict[str, Tensor]
SHARED = ("count_d", "count_g", "progress")
"""Inputs that all trials of a pack have in common."""
MEASURED = ("loss_d", "loss_g", "grad_norm_d", "grad_norm_g", "sound_d", "sound_g")
"""What the updates say of themselves; see `discriminator_update`."""
FEATURE_MATCHING: dict[str, tuple[int, Literal["squared", "absolute"]]] = {
    "fm": (-1, "squared"),
    "fm-l1": (-1, "absolute"),
    "fm-first": (0, "squared"),
}
"""Feature matching: which hidden layer of the discriminator, in which norm."""


@dataclass(frozen=True)
class Game:
    """What the trials of a pack have in common: the program, as opposed to the numbers in it."""

    task: Task
    method: Method
    update: Update
    n_critic: int

    @cached_property
    def generator(self) -> Network:
        """One generator."""
        network = self.task.generator
        return network.rebuild(virtual_batch=True) if self.method.has("vbn") else network

    @cached_property
    def discriminator(self) -> Network:
        """One discriminator."""
        network, outputs = self.task.discriminator, self.outputs
        if outputs == 1 and not self.method.has("minibatch"):
            return network
        return network.rebuild(outputs=outputs, minibatch=self.method.has("minibatch"))

    @property
    def outputs(self) -> int:
        """Width of the discriminator's last layer."""
        outputs = self.method.loss_entry.outputs
        return self.task.classes if outputs is None else outputs

    @property
    def components(self) -> int:
        """Generators, and discriminators, of the game."""
        return MIXTURE if self.method.has("mix") else 1

    @property
    def at_once(self) -> bool:
        """True where both players move together at the end of a step."""
        return self.method.has("simultaneous", "extragradient")

    @property
    def generator_sees_real(self) -> bool:
        """True where the generator's update needs real samples."""
        return self.method.loss_entry.sees_real or self.method.has(*FEATURE_MATCHING, "consensus")

    @property
    def penalty_draws(self) -> int:
        """Uniform numbers that the penalty needs per sample."""
        penalty = self.method.penalty_entry
        return POINTS[penalty.where].draws(self.task.data_width) if penalty else 0

    @property
    def noise_draws(self) -> int:
        """Uniform numbers per sample for everything: the penalty's points, then noise on real and generated samples."""
        return self.penalty_draws + (2 * self.task.data_width if self.method.has("noise") else 0)

    @property
    def noise_draws_g(self) -> int:
        """The same for a generator update, where the discriminator's loss plays no part but in the consensus term."""
        return self.noise_draws if self.method.has("noise", "consensus") else 0


@dataclass(frozen=True)
class Batch:
    """What one update sees: latents (b, z), real samples (b, d), uniforms (b, noise_draws), labels (b,) or None."""

    latent: Tensor
    real: Tensor
    noise: Tensor
    label: Tensor | None


def batch_of(trial: Mapping[str, Tensor], player: str) -> Batch:
    """The batch of an update of player "d" or "g"."""
    return Batch(
        trial[f"latent_{player}"], trial[f"real_{player}"], trial[f"noise_{player}"], trial.get(f"label_{player}")
    )


def generate(game: Game, trial: Mapping[str, Tensor], theta: Tensor, latent: Tensor) -> Tensor:
    """Samples (b, d) of one generator, parameters (p,)."""
    parameters = split(theta, game.generator.shapes)
    if game.method.has("vbn"):
        parameters = parameters | {"reference": trial["reference"]}
    return game.generator.apply(parameters, latent)


class Critic:
    """One discriminator with its parameters: outputs, and hidden layers."""

    def __init__(self, game: Game, phi: Tensor, power: Tensor | None) -> None:
        """Take parameters (p,), and the vectors of spectral normalisation if the method has it."""
        self.game = game
        self.parameters = split(phi, game.discriminator.shapes)
        if power is not None:
            vectors = split(power, power_shapes(game.discriminator.shapes))
            self.parameters = spectrally_normalised(self.parameters, vectors)

    def __call__(self, x: Tensor) -> Tensor:
        """Outputs (b, k) for samples (b, d), or (b,) for a loss of logits: no (b,) ever meets a (b, 1)."""
        outputs = self.game.discriminator.apply(self.parameters, x)
        return outputs.squeeze(-1) if self.game.method.loss_entry.outputs == 1 else outputs

    def both(self, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs on two batches: in one pass, unless samples of a batch see each other."""
        if self.game.method.has("minibatch"):
            return self(real), self(fake)
        first, second = torch.split(self(torch.cat([real, fake])), len(real))
        return first, second

    def features(self, x: Tensor, layer: int) -> Tensor:
        """Activations (b, k) of a hidden layer."""
        return self.game.discriminator.features(self.parameters, x)[layer]


def inputs(
    game: Game, trial: Mapping[str, Tensor], theta: Tensor, batch: Batch, *, real: bool = True
) -> tuple[Tensor, Tensor]:
    """Real and generated samples as a discriminator gets them; real ones are not touched if nobody looks at them."""
    fake = generate(game, trial, theta, batch.latent)
    if not game.method.has("noise"):
        return batch.real, fake
    width = game.task.data_width
    scale = trial["instance_noise"] * (1 - trial["progress"])
    first = batch.noise[:, game.penalty_draws :]
    seen = batch.real + scale * torch.special.ndtri(first[:, :width]) if real else batch.real
    return seen, fake + scale * torch.special.ndtri(first[:, width:])


def discriminator_loss(game: Game, trial: Mapping[str, Tensor], theta: Tensor, phi: Tensor, batch: Batch) -> Tensor:
    """The discriminator's loss (), penalty included, for all parameters of both players."""

    def against(theta: Tensor, phi: Tensor, power: Tensor | None) -> Tensor:
        entry, penalty = game.method.loss_entry, game.method.penalty_entry
        critic = Critic(game, phi, power)
        real, fake = inputs(game, trial, theta, batch)
        on_real, on_fake = critic.both(real, fake)
        if entry.smoothed and game.method.has("smooth"):
            total = entry.smoothed(on_real, on_fake, trial["smoothing"]).mean()
        else:
            total = entry.discriminator(on_real, on_fake).mean()
        if entry.supervised and batch.label is not None:
            total = total + entry.supervised(on_real, batch.label)
        if penalty:
            total = total + trial["penalty_weight"] * penalty_value(
                penalty,
                lambda x: entry.scalar(critic(x), on_real, on_fake),
                real,
                fake,
                batch.noise[:, : game.penalty_draws],
                trial["noise_scale"],
            )
        return total

    return _mixed(game, trial, theta, phi, against, own=phi) + _history(game, trial, "phi", phi)


def generator_loss(game: Game, trial: Mapping[str, Tensor], theta: Tensor, phi: Tensor, batch: Batch) -> Tensor:
    """The generator's loss (), for all parameters of both players."""

    def against(theta: Tensor, phi: Tensor, power: Tensor | None) -> Tensor:
        entry = game.method.loss_entry
        critic = Critic(game, phi, power)
        matching = next((found for name, found in FEATURE_MATCHING.items() if game.method.has(name)), None)
        real, fake = inputs(game, trial, theta, batch, real=entry.sees_real or matching is not None)
        if matching:
            layer, norm = matching
            return feature_distance(critic.features(real, layer), critic.features(fake, layer), norm=norm)
        if entry.sees_real:
            on_real, on_fake = critic.both(real, fake)
            return entry.generator(on_fake, on_real).mean()
        on_fake = critic(fake)
        return entry.generator(on_fake, on_fake).mean()

    return _mixed(game, trial, theta, phi, against, own=theta) + _history(game, trial, "theta", theta)


def _mixed(
    game: Game,
    trial: Mapping[str, Tensor],
    theta: Tensor,
    phi: Tensor,
    against: Callable[[Tensor, Tensor, Tensor | None], Tensor],
    *,
    own: Tensor,
) -> Tensor:
    """The loss of a pair of networks, or its mean over a mixture of pairs and the player's entropy term."""
    if game.components == 1:
        return against(theta, phi, trial.get("power"))
    generators, w = components(theta)
    discriminators, v = components(phi)
    powers = trial["power"].chunk(MIXTURE) if "power" in trial else (None,) * MIXTURE
    total = trial["mix_entropy"] * mixture_entropy(own[-MIXTURE:])
    for i, generator in enumerate(generators):
        for j, discriminator in enumerate(discriminators):
            total = total + w[i] * v[j] * against(generator, discriminator, powers[j])
    return total


def components(flat: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
    """The parameters (p,) of each network of a mixture, and their weights (MIXTURE,)."""
    return flat[:-MIXTURE].chunk(MIXTURE), mixture_weights(flat[-MIXTURE:])


def _history(game: Game, trial: Mapping[str, Tensor], name: str, own: Tensor) -> Tensor | float:
    if not game.method.has("history"):
        return 0.0
    return trial["history_weight"] * historical_distance(own, trial[f"{name}_mean"])


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
    networks = [_of_one(part, network, bound) for part in gradient[:-MIXTURE].chunk(MIXTURE)]
    return torch.cat([*networks, clip_gradients({"weights": gradient[-MIXTURE:]}, bound)["weights"]])


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
    kept: Tensors = {}
    if game.method.has("sn"):
        kept["power"] = iterated(game, trial["phi"], trial["power"])
        trial = {**trial, **kept}
    theta, phi = at or (trial["theta"], trial["phi"])
    gradient, value = slope(game, trial, "d", theta, phi, batch_of(trial, "d"))
    kept |= _move(game, trial, "phi", gradient, lr=trial["lr_d"], count=trial["count_d"])
    kept["phi"] = constrain(game.method, kept["phi"], trial)
    return kept | _said(trial, "d", value, gradient, kept["phi"])


def iterated(game: Game, phi: Tensor, power: Tensor) -> Tensor:
    """The vectors of spectral normalisation after one power iteration, for one discriminator or a mixture of them."""
    shapes = game.discriminator.shapes
    networks = phi.chunk(1) if game.components == 1 else components(phi)[0]
    pieces = zip(networks, power.chunk(game.components), strict=True)
    return torch.cat([flatten(power_iterate(split(p, shapes), split(u, power_shapes(shapes)))) for p, u in pieces])


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
    return kept | _said(trial, "g", value, gradient, kept["theta"])


def joint_update(game: Game, trial: Mapping[str, Tensor]) -> Tensors:
    """The discriminator's last update of a step and the generator's, both from the same point."""
    at = None
    if game.method.has("extragradient"):
        ahead = discriminator_update(game, trial) | generator_update(game, trial)
        at = (ahead["theta"], ahead["phi"])
    return discriminator_update(game, trial, at) | generator_update(game, trial, at)


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
    if not method.has("mix"):
        return torch.maximum(torch.minimum(phi, trial["clip"]), -trial["clip"])
    networks = phi[:-MIXTURE]  # not the mixture's weights
    return torch.cat([torch.maximum(torch.minimum(networks, trial["clip"]), -trial["clip"]), phi[-MIXTURE:]])


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

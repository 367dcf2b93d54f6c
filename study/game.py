"""The game that one GAN plays: the networks of a method, what they see, and the losses of both players.

Single-trial mathematics: everything here is a function of the parameters of both players, one flat vector each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from study.layers import (
    feature_distance,
    historical_distance,
    mixture_entropy,
    mixture_weights,
    power_shapes,
    spectrally_normalised,
)
from study.methods import Method
from study.networks.base import Network, split
from study.optimisers import Update
from study.penalties import POINTS, penalty_value
from study.tasks.base import Task
from study.techniques import FEATURE_MATCHING, MIXTURE


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
    def instance_draws(self) -> int:
        """Uniform numbers per sample for the noise on real and on generated inputs."""
        return 2 * self.task.data_width if self.method.has("noise") else 0

    @property
    def noise_draws(self) -> int:
        """Uniform numbers per sample for everything: the penalty's points, then noise on real and generated samples."""
        return self.penalty_draws + self.instance_draws

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

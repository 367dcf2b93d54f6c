"""The game that one GAN plays: the networks of a method, what they see, and the losses of both players.

Single-trial mathematics: everything here is a function of the parameters of both players, one flat vector each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from study.architecture import networks
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
from study.techniques import FEATURE_MATCHING
from study.trial import Architecture


@dataclass(frozen=True)
class Game:
    """What the trials of a pack have in common: the program, as opposed to the numbers in it.

    The fingerprint tells games apart whose users' files have the same names.
    """

    task: Task
    method: Method
    update: Update
    n_critic: int
    architecture: Architecture = ()
    fingerprint: str | None = None

    @cached_property
    def of_one(self) -> Game:
        """The same with one update of the discriminator: what programs are made for, however many a step has."""
        return self if self.n_critic == 1 else replace(self, n_critic=1)

    @cached_property
    def generator(self) -> Network:
        """One generator."""
        network = networks(self.task, self.architecture).generator
        changes: dict[str, object] = {"norm": "virtual"} if self.method.has("vbn") else {}
        if self.conditional:
            changes["labels"] = self.task.classes
        return network.rebuild(**changes) if changes else network

    @cached_property
    def discriminator(self) -> Network:
        """One discriminator."""
        network = networks(self.task, self.architecture).discriminator
        changes: dict[str, object] = {"minibatch": True} if self.method.has("minibatch") else {}
        if self.outputs != 1:
            changes["outputs"] = self.outputs
        return network.rebuild(**changes) if changes else network

    @property
    def outputs(self) -> int:
        """Width of the discriminator's last layer."""
        outputs = self.method.loss_entry.outputs
        return self.task.classes if outputs is None or self.conditional else outputs

    @property
    def conditional(self) -> bool:
        """True where both players are told the class."""
        return self.method.has("cond")

    @property
    def labels(self) -> bool:
        """True where batches come with the classes of their real samples."""
        return self.conditional or (self.method.loss_entry.supervised is not None and self.task.label is not None)

    @cached_property
    def components(self) -> int:
        """Generators, and discriminators, of the game."""
        return self.method.components

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
    """What one update sees: latents (b, z), real samples (b, d), uniforms (b, noise_draws), labels (b,) or None.

    The labels are the real samples'; of a conditional game, those of the generated ones too.
    """

    latent: Tensor
    real: Tensor
    noise: Tensor
    label: Tensor | None


def batch_of(trial: Mapping[str, Tensor], player: str) -> Batch:
    """The batch of an update of player "d" or "g"."""
    return Batch(
        trial[f"latent_{player}"], trial[f"real_{player}"], trial[f"noise_{player}"], trial.get(f"label_{player}")
    )


def generate(
    game: Game, trial: Mapping[str, Tensor], theta: Tensor, latent: Tensor, label: Tensor | None = None
) -> Tensor:
    """Samples (b, d) of one generator, parameters (p,), for latents (b, z) and, if it is conditional, labels (b,)."""
    return game.generator.apply(generator_parameters(game, trial, theta), generator_input(game, latent, label))


def generator_parameters(game: Game, trial: Mapping[str, Tensor], theta: Tensor) -> dict[str, Tensor]:
    """One generator's parameters by name, with what else it needs."""
    parameters = split(theta, game.generator.shapes)
    return parameters | ({"reference": trial["reference"]} if game.method.has("vbn") else {})


def generator_input(game: Game, latent: Tensor, label: Tensor | None) -> Tensor:
    """Latents, and beside them one-hot labels if the generator is conditional."""
    if not game.conditional or label is None:
        return latent
    return torch.cat([latent, one_hot(label, game.task.classes, latent.dtype)], 1)


def one_hot(label: Tensor, classes: int, dtype: torch.dtype) -> Tensor:
    """Rows (b, classes) with a one where the label (b,) says."""
    return (label[:, None] == torch.arange(classes, device=label.device)).to(dtype)


class Critic:
    """One discriminator with its parameters: outputs, and hidden layers."""

    def __init__(self, game: Game, phi: Tensor, power: Tensor | None, label: Tensor | None = None) -> None:
        """Take parameters (p,), the vectors of spectral normalisation if the method has it, and labels (b,).

        The labels belong to whatever the critic is shown, in order, again and again: batches of b, real and generated.
        """
        self.game, self.label = game, label
        self.parameters = split(phi, game.discriminator.shapes)
        if power is not None:
            vectors = split(power, power_shapes(game.discriminator.shapes))
            self.parameters = spectrally_normalised(self.parameters, vectors)

    def __call__(self, x: Tensor) -> Tensor:
        """Outputs (b, k) for samples (b, d), or (b,) for a loss of logits: no (b,) ever meets a (b, 1)."""
        if self.game.method.loss_entry.direct:
            return x
        outputs = self.game.discriminator.apply(self.parameters, x)
        if self.game.conditional and self.label is not None:
            own = one_hot(self.label, self.game.task.classes, outputs.dtype)
            return (outputs * own.repeat(len(x) // len(own), 1)).sum(1)
        return outputs.squeeze(-1) if self.game.method.loss_entry.outputs == 1 else outputs

    def both(self, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs on two batches: in one pass, unless samples of a batch see each other."""
        if self.game.discriminator.batch_coupled:
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
    fake = generate(game, trial, theta, batch.latent, batch.label)
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
        critic = Critic(game, phi, power, batch.label)
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
        critic = Critic(game, phi, power, batch.label)
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
    generators, w = components(theta, game.components)
    discriminators, v = components(phi, game.components)
    powers = trial["power"].chunk(game.components) if "power" in trial else (None,) * game.components
    total = trial["mix_entropy"] * mixture_entropy(own[-game.components :])
    for i, generator in enumerate(generators):
        for j, discriminator in enumerate(discriminators):
            total = total + w[i] * v[j] * against(generator, discriminator, powers[j])
    return total


def components(flat: Tensor, count: int) -> tuple[tuple[Tensor, ...], Tensor]:
    """The parameters (p,) of each network of a mixture of so many, and their weights (count,)."""
    return flat[:-count].chunk(count), mixture_weights(flat[-count:])


def _history(game: Game, trial: Mapping[str, Tensor], name: str, own: Tensor) -> Tensor | float:
    if not game.method.has("history"):
        return 0.0
    return trial["history_weight"] * historical_distance(own, trial[f"{name}_mean"])

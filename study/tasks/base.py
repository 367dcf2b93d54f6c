"""What a task is: data, networks, a primary metric with a threshold, anchors, and controls that must fail or pass."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from study.networks.base import Network, Parameters
from study.networks.table import NETWORKS

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Control:
    """A generator of known quality and what the primary metric says of it.

    Attributes:
        name: What stands in for the generator, e.g. "one mode missing".
        value: The primary metric's value, measured once and checked by a test.
        must: "pass" or "fail" the threshold; None where either is acceptable.
        why: One sentence.
    """

    name: str
    value: float
    must: str | None
    why: str


OF_FAMILY = Network(shapes={}, initialise=lambda _uniform: {}, apply=lambda _parameters, x: x)
"""Stands for the network that the task's family makes."""


def _no_critic(_x: Tensor) -> Tensor:
    raise ValueError("this snapshot holds no discriminator")


@dataclass(frozen=True)
class Snapshot:
    """What an evaluation looks at: c trials at one moment.

    Attributes:
        parameters: The generators' parameters (c, ...); empty for a mixture of generators.
        samples: Generated samples (c, evaluation_samples, d).
        labels: Classes (c, evaluation_samples), int64, that a conditional generator was asked for; None for others.
        critic: Maps samples (c, m, d) to the discriminators' outputs (c, m, k).
        slope: Maps samples (c, m, d) to the gradient (c, m, d) of the discriminators' only output there.
        critic_and_slope: Maps samples to both, for less than both cost apart; without it, they are asked for apart.
        whole: True where discriminators are best shown all points at once, for none sees another.
        native: True where numbers may be computed by programs compiled for this CPU, which round in a way of their own.
    """

    parameters: Parameters
    samples: Tensor
    labels: Tensor | None = None
    critic: Callable[[Tensor], Tensor] = _no_critic
    slope: Callable[[Tensor], Tensor] = _no_critic
    critic_and_slope: Callable[[Tensor], tuple[Tensor, ...]] | None = None
    whole: bool = False
    native: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """A task. All functions are pure and work on any device.

    Attributes:
        name: The name sweep files use; filled in for a task of a user's file.
        version: Raised when data, networks or metrics change; part of every trial id.
        summary: One line.
        source: Where the task comes from.
        fingerprint: Content hash of the files that the task is made of; None where it is made of this package alone.
            Part of every trial id.
        shape: Shape of a sample: (d,), or (channels, height, width) of an image, which is kept flat, d numbers.
        bounded: True where samples lie in [-1, 1]: generators end in tanh then.
        latent: Width of the generator's input, drawn from N(0, I).
        batch: Real samples (and as many fakes) per update.
        family: Key of NETWORKS: which networks the task has, unless they are given.
        generator: Maps (b, latent) to (b, d).
        discriminator: Maps (b, d) to logits (b, 1).
        draws: Uniform numbers consumed by one real sample.
        sample: Maps uniforms of shape (..., draws) in (0, 1) to real training samples (..., d).
        over_time: True where the data change during training: `sample` and `label` then get one number more, last, the
            share of the budget spent.
        label: Maps the same uniforms to the samples' classes (...,), int64; None where the data have none.
        classes: Number of classes; 1 where the data have none.
        rank: Maps the same uniforms to the samples' places (...,) in the order in which labels become known, int64, for
            losses that see the labels of the first few only; None where all labels are known.
        metrics: Names of the values that `evaluate` returns, each naming its protocol, in column order.
        primary: The metric that decides, lower is better.
        evaluation_samples: Generated samples that an evaluation looks at; 0 if it looks at parameters alone.
        evaluation_steps: Steps with n_critic 1 and no penalty that take as long as an evaluation, about: how many
            evaluations a trial has by default follows from it.
        evaluate: Maps a snapshot of c trials to float64 values of shape (c,): one per metric, and "selection", the
            primary metric on the selection split (without it, the primary metric itself), of fewer points where that
            is cheaper: it is compared with itself alone.
        looks_at_critic: True where it looks at the discriminator; methods with several then do not go.
        losses: Names of the only losses that make sense here; None for any but "zerosum".
        threshold: Success is primary <= threshold.
        anchors: The primary metric's values that score 1 and 0 in the log-AUC.
        reasoning: Why this metric, this threshold, these anchors.
        controls: The table of controls; the threshold lies below every control that must fail.
    """

    name: str = ""
    version: int = 1
    summary: str = ""
    source: str = ""
    fingerprint: str | None = None
    shape: tuple[int, ...]
    bounded: bool = False
    latent: int = 16
    batch: int = 64
    family: str = "mlp"
    generator: Network = OF_FAMILY
    discriminator: Network = OF_FAMILY
    draws: int
    sample: Callable[[Tensor], Tensor]
    over_time: bool = False
    label: Callable[[Tensor], Tensor] | None = None
    classes: int = 1
    rank: Callable[[Tensor], Tensor] | None = None
    metrics: tuple[str, ...]
    primary: str
    evaluation_samples: int = 2048
    evaluation_steps: int = 30
    evaluate: Callable[[Snapshot], dict[str, Tensor]]
    looks_at_critic: bool = False
    losses: tuple[str, ...] | None = None
    threshold: float
    anchors: tuple[float, float]
    reasoning: str = ""
    controls: tuple[Control, ...] = ()

    def __post_init__(self) -> None:
        """Give a task without networks those of its family."""
        pair = NETWORKS[self.family](self.latent, self.shape, bounded=self.bounded)
        for player in ("generator", "discriminator"):
            if getattr(self, player) is OF_FAMILY:
                object.__setattr__(self, player, getattr(pair, player))

    @property
    def data_width(self) -> int:
        """Coordinates of one sample."""
        return math.prod(self.shape)

    @property
    def facts(self) -> Mapping[str, float | str]:
        """What analysis needs to know of the task."""
        return {
            "metric": self.primary,
            "threshold": self.threshold,
            "anchor_low": self.anchors[0],
            "anchor_high": self.anchors[1],
        }

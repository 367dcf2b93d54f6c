"""What a task is: data, networks, a primary metric with a threshold, anchors, and controls that must fail or pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from study.lazy import torch
from study.networks.base import Network, Parameters

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


@dataclass(frozen=True, kw_only=True)
class Task:
    """A task. All functions are pure and work on any device.

    Attributes:
        name: The name sweep files use.
        version: Raised when data, networks or metrics change; part of every trial id.
        summary: One line.
        source: Where the task comes from.
        latent: Width of the generator's input, drawn from N(0, I).
        batch: Real samples (and as many fakes) per update.
        generator: Maps (b, latent) to (b, d).
        discriminator: Maps (b, d) to logits (b, 1).
        draws: Uniform numbers consumed by one real sample.
        sample: Maps uniforms of shape (..., draws) in (0, 1) to real training samples (..., d).
        label: Maps the same uniforms to the samples' classes (...,), int64; None where the data have none.
        classes: Number of classes; 1 where the data have none.
        metrics: Names of the values that `evaluate` returns, each naming its protocol, in column order.
        primary: The metric that decides, lower is better.
        evaluation_samples: Generated samples that an evaluation looks at; 0 if it looks at parameters alone.
        evaluate: Maps generator parameters (c, ...) and generated samples (c, evaluation_samples, d) of c trials to
            float64 values of shape (c,): one per metric, and "selection", the primary metric on the selection split.
        threshold: Success is primary <= threshold.
        anchors: The primary metric's values that score 1 and 0 in the log-AUC.
        reasoning: Why this metric, this threshold, these anchors.
        controls: The table of controls; the threshold lies below every control that must fail.
    """

    name: str
    version: int
    summary: str
    source: str
    latent: int
    batch: int
    generator: Network
    discriminator: Network
    draws: int
    sample: Callable[[Tensor], Tensor]
    label: Callable[[Tensor], Tensor] | None = None
    classes: int = 1
    metrics: tuple[str, ...]
    primary: str
    evaluation_samples: int
    evaluate: Callable[[Parameters, Tensor], dict[str, Tensor]]
    threshold: float
    anchors: tuple[float, float]
    reasoning: str
    controls: tuple[Control, ...]

    @property
    def data_width(self) -> int:
        """Coordinates of one sample."""
        return int(self.sample(torch.full((1, self.draws), 0.5)).shape[-1])

    @property
    def facts(self) -> Mapping[str, float | str]:
        """What analysis needs to know of the task."""
        return {
            "metric": self.primary,
            "threshold": self.threshold,
            "anchor_low": self.anchors[0],
            "anchor_high": self.anchors[1],
        }

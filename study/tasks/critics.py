"""What tasks that look at the discriminator share: how it is shown points, and generators that stand still."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from study.lazy import torch
from study.losses import LOSSES
from study.networks.base import Network, Parameters

if TYPE_CHECKING:
    from torch import Tensor

    from study.tasks.base import Snapshot


ONE_LOGIT = tuple(name for name, loss in LOSSES.items() if loss.outputs == 1 and not (loss.direct or loss.value))
"""Losses whose discriminator gives one number per sample, larger for real ones."""
PROBABILITY = tuple(name for name in ONE_LOGIT if LOSSES[name].probability)
"""Those among them whose number is the logit of a probability of "real"."""


def standing(points: Callable[[Tensor], Tensor], shift: Sequence[float]) -> Network:
    """A generator that does not learn: G(z) = points(z) + shift.

    No gradient reaches its one parameter, so that no optimiser moves it: learning rate, momentum and steps of the
    generator are without effect. Tasks with it say `evaluation_samples=0`, with which no other networks are allowed:
    those of a family would learn.

    Args:
        points: Maps latents (b, z) to points (b, d).
        shift: The parameter `shift`, d numbers.
    """

    def initialise(uniform: Tensor) -> dict[str, Tensor]:
        return {"shift": torch.tensor(shift, dtype=uniform.dtype, device=uniform.device)}

    def apply(parameters: Parameters, latent: Tensor) -> Tensor:
        return points(latent) + parameters["shift"].detach()

    return Network(shapes={"shift": (len(shift),)}, initialise=initialise, apply=apply)


def index(uniforms: Tensor, count: int) -> Tensor:
    """Places (...,), int64, among `count` things, all equally likely, by uniforms (...,)."""
    return (uniforms * count).long().clamp(max=count - 1)


def show(at: Snapshot, look: Callable[[Tensor], Tensor], points: Tensor, *, trials: int, batch: int) -> Tensor:
    """What discriminators make of points, in float64.

    Args:
        at: The snapshot.
        look: Its `critic` or `slope`.
        points: Shape (m, d), or (c, m, d) if every trial has its own.
        trials: Their number c.
        batch: Points that are shown at once, at most: where samples of a batch see each other, as many as in training
            matter. All batches have this size or one less of some smaller one.

    Returns:
        Shape (c, m, k) or (c, m, d).
    """
    each = points.expand(trials, *points.shape[-2:])
    if at.whole:
        return look(each).double()
    parts = each.tensor_split(math.ceil(each.shape[1] / batch), 1)
    return torch.cat([look(part) for part in parts], 1).double()


def lengths(slope: Tensor) -> Tensor:
    """Euclidean lengths (c, n), float64, of vectors (c, n, d); on a CPU trial by trial: squares stay in its cache."""
    if not len(slope) or slope.device.type != "cpu":
        return slope.double().square().sum(-1).sqrt()
    return torch.stack([trial.double().square().sum(-1) for trial in slope]).sqrt()


def show_both(at: Snapshot, points: Tensor, *, trials: int, batch: int) -> tuple[Tensor, Tensor]:
    """What `show` gives for `critic` and for `slope`; slopes may come in the discriminators' own precision."""
    if at.whole and at.critic_and_slope:
        outputs, slope = at.critic_and_slope(points.expand(trials, *points.shape[-2:]))
        return outputs.double(), slope
    outputs, slope = (show(at, look, points, trials=trials, batch=batch) for look in (at.critic, at.slope))
    return outputs, slope

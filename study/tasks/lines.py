"""Parallel lines (Arjovsky, Chintala and Bottou 2017, WGAN, example 1): where a divergence says nothing of the way.

The data are (0, U), the generator's samples (theta, U), U uniform on (0, 1), and theta is all there is to learn. The
Jensen-Shannon divergence is log 2 at any distance but 0, W1 is the distance. What the critic of a training run says of
the way is measured too: the slope of each loss of the generator in theta.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from study.errors import UserError
from study.lazy import torch
from study.metrics.trials import all_finite_or_nan, each
from study.networks.base import Network, Parameters
from study.networks.mlp import mlp
from study.tasks.base import Control, Snapshot, Task
from study.tasks.critics import show_both

if TYPE_CHECKING:
    from torch import Tensor


SAMPLES = 1024
"""Samples whose mean gives the slopes."""


def line_generator(offset: float) -> Network:
    """G(z) = (theta, Phi(z)) with theta started at the offset, whatever the draw, and Phi the normal CDF."""

    def initialise(uniform: Tensor) -> dict[str, Tensor]:
        return {"theta": torch.full_like(uniform, offset)}

    def apply(parameters: Parameters, latent: Tensor) -> Tensor:
        along = torch.special.ndtr(latent)
        return torch.cat([parameters["theta"].expand(len(latent), 1), along], 1)

    return Network(shapes={"theta": (1,)}, initialise=initialise, apply=apply)


def sample(uniforms: Tensor) -> Tensor:
    """Real samples (..., 2) for uniforms (..., 1): the line x = 0, from y = 0 to 1."""
    return torch.cat([torch.zeros_like(uniforms), uniforms], -1)


def evaluate(at: Snapshot) -> dict[str, Tensor]:
    """Closed-form distances of generator parameters (c, 1), and slopes at generated samples (c, 1024, 2), each (c,).

    grad_mm, grad_ns and grad_wgan are derivatives in theta, at the present critic C, of the generator's losses
    -E log(1 + exp C), E log(1 + exp -C) and -E C. Descent moves theta against them. With nothing to overfit in a
    closed form, the selection metric is the primary itself.
    """
    theta = at.parameters["theta"].double()[:, 0]
    shown = show_both(at, at.samples, trials=len(theta), batch=SAMPLES)
    output, slope = (found[..., 0] for found in shown)
    apart = torch.where(theta == 0, theta, math.log(2))
    values = {
        "w1": theta.abs(),
        "jsd": apart,
        "grad_mm_n1024": each(torch.mean, -torch.sigmoid(output) * slope),
        "grad_ns_n1024": each(torch.mean, -torch.sigmoid(-output) * slope),
        "grad_wgan_n1024": each(torch.mean, -slope),
        "selection": theta.abs(),
    }
    return all_finite_or_nan(values, theta[:, None])


def lines(*, offset: float = 1.0) -> Task:
    """The task `lines`.

    Args:
        offset: Distance of the lines at the start; threshold, anchors and controls are shares of it.

    Raises:
        UserError: If the offset is not positive.
    """
    if offset <= 0:
        raise UserError(f"offset = {offset:g}: the lines must start at a positive distance")
    return Task(
        name="lines",
        version=1,
        summary=f"a line has to reach a parallel one, {offset:g} away: which losses show it the way?",
        source=(
            "Arjovsky, Chintala and Bottou (2017), WGAN, example 1; the start, the critic, the slopes, the threshold "
            "and the anchors are ours"
        ),
        shape=(2,),
        latent=1,
        batch=64,
        generator=line_generator(offset),
        discriminator=mlp([2, 64, 64, 1]),
        draws=1,
        sample=sample,
        metrics=("w1", "jsd", "grad_mm_n1024", "grad_ns_n1024", "grad_wgan_n1024"),
        primary="w1",
        evaluation_samples=SAMPLES,
        evaluation_steps=10,
        evaluate=evaluate,
        looks_at_critic=True,
        threshold=0.1 * offset,
        anchors=(0.01 * offset, offset),
        reasoning=REASONING,
        controls=controls(offset),
    )


REASONING = (
    "W1 between the lines is |theta|, exact; the Jensen-Shannon divergence is log 2 until theta is 0 to the last bit "
    "and tells nothing apart. The threshold is a tenth of the distance at the start: a generator that swings through "
    "the data has a median far above it, one that settles passes. Score 0 is the start; the floor being 0, score 1 is "
    "a convention, a hundredth of the distance at the start."
)


def controls(offset: float) -> tuple[Control, ...]:
    """The table of controls; all values are exact."""
    return (
        Control(name="at the data", value=0.0, must="pass", why="the equilibrium; the only point where jsd is 0"),
        Control(
            name="a hundredth of the way left", value=0.01 * offset, must="pass", why="there, though jsd is still log 2"
        ),
        Control(name="half way", value=0.5 * offset, must="fail", why="on the way, or stuck there"),
        Control(name="start", value=offset, must="fail", why="untrained"),
        Control(
            name="circle through the start",
            value=offset * math.sqrt(0.5),
            must="fail",
            why="the median of |theta| on a circle about the equilibrium, the orbit of an unpenalised game",
        ),
        Control(name="as far on the other side", value=offset, must="fail", why="overshot"),
    )

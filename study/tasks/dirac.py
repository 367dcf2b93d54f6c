"""The Dirac-GAN (Mescheder, Geiger and Nowozin 2018): the smallest game in which training can fail to converge.

The data are the point 0, the generator is the point theta, the discriminator the slope psi. Whether a method converges
at all, for which step sizes and how fast, has closed forms here; nothing else about it shows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from study.lazy import torch
from study.networks.base import Network, Parameters
from study.tasks.base import Control, Snapshot, Task

if TYPE_CHECKING:
    from torch import Tensor


START = 1.0
"""Distance of the generator from the data at the start, on either side."""
THRESHOLD = 1e-4
STEP, TIME = 0.01, 1000.0
"""For the controls: a step size, and a time (step size times steps), below and above what one would train with."""


def point_generator() -> Network:
    """G(z) = theta, which starts at `START` on a random side of the data: close to them, every start would succeed."""

    def initialise(uniform: Tensor) -> dict[str, Tensor]:
        side = torch.where(uniform < 0.5, -START, START)
        return {"theta": side.to(uniform.dtype)}

    def apply(parameters: Parameters, latent: Tensor) -> Tensor:
        return parameters["theta"].expand(len(latent), 1)

    return Network(shapes={"theta": (1,)}, initialise=initialise, apply=apply)


def slope_discriminator() -> Network:
    """C(x) = psi x, with psi a weight of shape (1, 1) that starts uniform in (-1, 1), as in `mlp`; no bias."""

    def initialise(uniform: Tensor) -> dict[str, Tensor]:
        return {"psi": 2 * uniform[:, None] - 1}

    def apply(parameters: Parameters, x: Tensor) -> Tensor:
        return x @ parameters["psi"]

    return Network(shapes={"psi": (1, 1)}, initialise=initialise, apply=apply)


def sample(uniforms: Tensor) -> Tensor:
    """Real samples (..., 1), all 0; the uniforms (..., 1) give the shape alone."""
    return torch.zeros_like(uniforms)


def evaluate(at: Snapshot) -> dict[str, Tensor]:
    """Closed-form metrics of generator parameters (c, 1), each (c,); samples are not looked at.

    There is nothing to overfit in a closed form, so the selection metric is the primary itself.
    """
    theta = at.parameters["theta"].double()[:, 0]
    return {"w2sq": theta.square(), "theta": theta, "selection": theta.square()}


def dirac() -> Task:
    """The task `dirac`."""
    return Task(
        name="dirac",
        version=1,
        summary="a point has to reach another, told the way by a slope: does training converge at all?",
        source="Mescheder, Geiger and Nowozin (2018); the start, the threshold and the anchors are ours",
        shape=(1,),
        latent=1,
        batch=8,
        generator=point_generator(),
        discriminator=slope_discriminator(),
        draws=1,
        sample=sample,
        metrics=("w2sq", "theta"),
        primary="w2sq",
        evaluation_samples=0,
        evaluation_steps=10,
        evaluate=evaluate,
        threshold=THRESHOLD,
        anchors=(1e-6, START**2),
        reasoning=REASONING,
        controls=CONTROLS,
    )


REASONING = (
    "The squared W2 distance between the two points is theta^2. Unpenalised players circle the equilibrium, so theta "
    "is small now and then; the median over evaluations, r^2 / 2 on a circle of radius r, tells that from convergence. "
    "The threshold, a hundredth of the distance at the start, lies below what circling reaches, also where the circle "
    "shrinks: ns comes in as 8 / t and needs t = 40000, r1 of weight w below 1 needs t = 9.2 / w. Score 0 is the "
    "start; the floor being 0, score 1 is a convention, a thousandth of the distance at the start."
)

CONTROLS = (
    Control(name="at the data", value=0.0, must="pass", why="the equilibrium"),
    Control(
        name="half of the start's distance", value=0.25 * START**2, must="fail", why="on the way, or passing through"
    ),
    Control(name="start", value=START**2, must="fail", why="untrained, on either side"),
    Control(
        name="circle through the start",
        value=START**2 / 2,
        must="fail",
        why="the median on the orbit of the unpenalised game that starts at slope 0, the smallest",
    ),
    Control(
        name="ring of ns at a step of 0.01",
        value=STEP,
        must="fail",
        why="both players at once settle at r^2 = 2 lr; the median is half of it",
    ),
    Control(
        name="shrinking circle of ns at t = 1000",
        value=4 / TIME,
        must="fail",
        why="in the limit of small steps r^2 comes in as 8 / t; the median is half of it",
    ),
)

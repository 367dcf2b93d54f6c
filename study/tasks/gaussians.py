"""Two fixed samples of Gaussians: does a discriminator that sees a hundred points of each come near the optimal one?

The study of Thanh-Tung and Tran (2019). The generator emits the points of one sample and does not learn; p_r / (p_r +
p_g) is known in closed form, so what the discriminator says anywhere can be compared with what it should say.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, NamedTuple

from study.lazy import torch
from study.metrics.trials import all_finite_or_nan
from study.networks.base import tanh
from study.networks.mlp import mlp
from study.prng import Role, key_words, root_key, uniform
from study.tasks.base import Control, Snapshot, Task
from study.tasks.critics import PROBABILITY, index, show, show_both, standing

if TYPE_CHECKING:
    from torch import Tensor


MEANS = ((0.4, 0.9), (1.3, 1.2))
CORRELATIONS = (0.5, 0.7)
"""Of the real and of the generated points; both coordinates have variance 1."""
TRAINING = 100
FRESH, KEPT = 377, 89
"""Points of either Gaussian that an evaluation looks at, the same for every trial, and others for selection, which only
has to tell a trial's evaluations apart: numbers of Fibonacci's, which make them lattices."""
BEFORE = {FRESH: 233, KEPT: 55}
"""Fibonacci's number before each."""
BATCH = 20
SHOWN = 16 * BATCH
"""Points that a discriminator is shown at once; its network here knows no batch to depend on."""


class Points(NamedTuple):
    """Points of both Gaussians, (n, 2) each, float32."""

    real: Tensor
    fake: Tensor


@functools.cache
def points(which: str) -> Points:
    """Fixed points: "training", which are draws, or "test" or "selection"; the same numbers on every machine."""
    return Points(*(gaussian(_uniform(which, side), side) for side in (0, 1)))


def _uniform(which: str, side: int) -> Tensor:
    """Points (n, 2) of the unit square, float64."""

    def drawn(count: int) -> Tensor:
        keys = key_words([root_key(f"two-gaussians {which} {side}")])
        numbers = uniform(keys, role=Role.DATA, steps=range(1), updates=1, count=2 * count)
        return numbers.view(count, 2).double()

    return drawn(TRAINING) if which == "training" else lattice(drawn(1), FRESH if which == "test" else KEPT)


def lattice(shift: Tensor, count: int) -> Tensor:
    """Fibonacci's lattice (count, 2), moved around the unit square by (1, 2): Cranley and Patterson (1976).

    Means over it are near those over the square, and over all shifts they are these. With `FRESH` points errors of the
    mean squared error are about those of 2,048 draws where discriminators are steep or jump, and a fraction of them
    where they are gentle; those of the mean slope are up to nearly twice as large where a network has learned points by
    heart.
    """
    steps = torch.arange(count, dtype=torch.float64)[:, None]
    return (steps * torch.tensor([1, BEFORE[count]]) / count + shift) % 1


def gaussian(uniforms: Tensor, side: int) -> Tensor:
    """Points of one Gaussian, float32, for points (n, 2) of the unit square."""
    first, second = torch.special.ndtri(uniforms).unbind(1)
    slanted = CORRELATIONS[side] * first + math.sqrt(1 - CORRELATIONS[side] ** 2) * second
    found: Tensor = torch.stack([first, slanted], 1) + torch.tensor(MEANS[side], dtype=torch.float64)
    return found.float()


def optimal(x: Tensor) -> Tensor:
    """The best discriminator's logit, log p_r(x) - log p_g(x), for points (..., 2), shape (...,), float64."""
    real, fake = (_log_density(x.double(), side) for side in (0, 1))
    return real - fake


def _log_density(x: Tensor, side: int) -> Tensor:
    """The log density at points (..., 2) but for a constant that both have."""
    a, b = (x - torch.tensor(MEANS[side], dtype=x.dtype, device=x.device)).unbind(-1)
    rho = CORRELATIONS[side]
    return -(a.square() + b.square() - 2 * rho * a * b) / (2 * (1 - rho**2)) - math.log(1 - rho**2) / 2


def sample(uniforms: Tensor) -> Tensor:
    """Points (..., 2) of the fixed real sample, drawn with replacement by uniforms (..., 1)."""
    drawn = points("training").real.to(uniforms.device)
    return drawn[index(uniforms[..., 0], TRAINING)]


def fakes(latent: Tensor) -> Tensor:
    """Points (b, 2) of the fixed generated sample, drawn with replacement by latents (b, 1)."""
    drawn = points("training").fake.to(latent.device, latent.dtype)
    return drawn[index(torch.special.ndtr(latent[:, 0]), TRAINING)]


def evaluate(at: Snapshot) -> dict[str, Tensor]:
    """Metrics of discriminators, each (c,), against the optimal one on points that training never saw."""
    shift = at.parameters["shift"]

    def shown(which: str) -> Tensor:
        """Real points (2 n, 2) first."""
        return torch.cat(points(which)).to(shift.device)

    fresh, slope = show_both(at, shown("test"), trials=len(shift), batch=SHOWN)
    fresh = fresh[..., 0]
    kept, seen = (
        show(at, at.critic, shown(which), trials=len(shift), batch=SHOWN)[..., 0] for which in ("selection", "training")
    )
    error = fresh.sigmoid() - best("test", shift.device)
    values = {
        "d_mse_n754": error.square().mean(-1),
        "d_mae_n754": error.abs().mean(-1),
        "loss_gap_n754": _loss(fresh) - _loss(seen),
        # sums over a short last axis are slow
        "slope_mean_n754": torch.add(*slope.double().square().unbind(-1)).sqrt().mean(-1),
        "selection": (kept.sigmoid() - best("selection", shift.device)).square().mean(-1),
    }
    return all_finite_or_nan(values, fresh, kept, seen, slope, shift)


@functools.cache
def best(which: str, device: torch.device) -> Tensor:
    """The best discriminator's probabilities of "real" at the points (2 n,), float64."""
    return optimal(torch.cat(points(which)).to(device)).sigmoid()


def _loss(logit: Tensor) -> Tensor:
    """The cross-entropy of both sides, log 4 for D = 1/2, of logits whose first half belongs to real points."""
    real, fake = (part.contiguous() for part in logit.chunk(2, -1))
    softplus = torch.nn.functional.softplus
    return softplus(-real).mean(-1) + softplus(fake).mean(-1)


def two_gaussians() -> Task:
    """The task `two-gaussians`."""
    return Task(
        name="two-gaussians",
        version=3,
        summary="a hundred fixed points of each of two Gaussians: how far is the discriminator from the optimal one?",
        source=(
            "Thanh-Tung and Tran (2019), the authors' code: Gaussians, sizes, network and batch; which of them is "
            "real, the fixed points, primary metric, threshold and anchors: ours"
        ),
        shape=(2,),
        latent=1,
        batch=BATCH,
        generator=standing(fakes, (0.0, 0.0)),
        discriminator=mlp([2, 64, 64, 1], hidden=tanh),
        draws=1,
        sample=sample,
        metrics=("d_mse_n754", "d_mae_n754", "loss_gap_n754", "slope_mean_n754"),
        primary="d_mse_n754",
        evaluation_samples=0,
        evaluation_steps=20,
        evaluate=evaluate,
        looks_at_critic=True,
        losses=PROBABILITY,
        threshold=0.02,
        anchors=(5e-4, 0.0507),
        reasoning=REASONING,
        controls=CONTROLS,
    )


REASONING = (
    "The mean squared error of D against p_r / (p_r + p_g) is 0 for the optimum alone, whereas the loss on the points "
    "seen is best for whoever learned them by heart. The points looked at are others, so that counts as an error. "
    "Success is an error of 0.14 in the root mean square: the threshold lies between what follows the points smoothly "
    "(a logistic regression on them, their twenty nearest neighbours) and what is blunted or sharpened out of shape, a "
    "quarter or three times the right logit; a large penalty does the one, none the other. The generator does not "
    "learn: its hyperparameters are without effect, and mm and ns are the same training. loss_gap_n754 is the "
    "cross-entropy on those other points minus that on the points seen. Score 0 is D = 1/2, score 1, the floor being "
    "0, by convention a hundredth of it."
)

CONTROLS = (
    Control(name="optimal", value=0.0, must="pass", why="p_r / (p_r + p_g)"),
    Control(
        name="logistic regression", value=0.0059, must="pass", why="fitted to the points, though the logit is quadratic"
    ),
    Control(name="twenty nearest neighbours", value=0.0150, must="pass", why="the share of real ones among the points"),
    Control(name="half of the logit", value=0.0086, must="pass", why="blunted, by a penalty say"),
    Control(name="a quarter of the logit", value=0.0237, must="fail", why="blunted too far"),
    Control(name="three times the logit", value=0.0281, must="fail", why="too sure: the right side, the wrong odds"),
    Control(name="D = 1/2", value=0.0507, must="fail", why="sees nothing; the start is close"),
    Control(name="nearest point by heart", value=0.2119, must="fail", why="1 nearest to a real point, 0 to another"),
    Control(name="the wrong way round", value=0.2029, must="fail", why="minus the optimal logit"),
)

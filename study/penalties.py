"""Gradient penalties: the squared norm of grad_x C at chosen points, turned into a value per point.

L_D gains weight * mean(value). All act on the logit C, all build their points from detached samples, and none enters
the generator's loss.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from study.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Penalty:
    """A gradient penalty.

    Attributes:
        points: Maps real (b, d), generated (b, d), uniforms (b, draws(d)) and a noise scale () to points (b, d).
        draws: Uniform numbers needed per point, as a function of d.
        value: Maps squared gradient norms (b,) to penalties (b,).
        weight: The published weight, in the convention of `formula`.
        group: Penalties of one group (equal centre, points and target) share the drawn weight.
        noisy: True where `noise_scale` is a hyperparameter.
        formula: In a line, with the weight's convention.
        source: Paper and section.
    """

    points: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
    draws: Callable[[int], int]
    value: Callable[[Tensor], Tensor]
    weight: float
    group: str
    noisy: bool = False
    formula: str
    source: str


def squared_slope(critic: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Squared gradient norm, over all inputs of a sample, of a critic at points (b, d): shape (b,).

    Differentiable once more. Samples must not see each other inside the critic (no batch normalisation).
    """
    from study.record import grad

    slope = grad(lambda points: critic(points).sum())(x)
    return slope.flatten(1).square().sum(1)


def _line(real: Tensor, fake: Tensor, uniform: Tensor, _scale: Tensor) -> Tensor:
    return uniform * real + (1 - uniform) * fake


def _real(real: Tensor, _fake: Tensor, _uniform: Tensor, _scale: Tensor) -> Tensor:
    return real


def _around_real(real: Tensor, _fake: Tensor, uniform: Tensor, scale: Tensor) -> Tensor:
    return real + uniform[:, :1] * scale * real.std(correction=0) * uniform[:, 1:]


def _one_centred(squared: Tensor) -> Tensor:
    # inside the root: its derivative at zero is infinite, and 0 * inf would be NaN
    return (torch.sqrt(squared + 1e-12) - 1).square()


def _zero_centred(squared: Tensor) -> Tensor:
    return squared


PENALTIES: dict[str, Penalty] = {
    "gp1": Penalty(
        points=_line,
        draws=lambda _: 1,
        value=_one_centred,
        weight=10.0,
        group="one-centred, line, logit",
        formula="weight * E (|grad C(x)| - 1)^2, x = e real + (1 - e) fake, e ~ U(0,1) per sample",
        source="Gulrajani et al. 2017, eq. 3 and algorithm 1; on ns it is Fedus et al.'s GAN-GP",
    ),
    "gp0": Penalty(
        points=_line,
        draws=lambda _: 1,
        value=_zero_centred,
        weight=10.0,
        group="zero-centred, line, logit",
        formula="weight * E |grad C(x)|^2, x = e real + (1 - e) fake, e ~ U(0,1) per sample; no factor 1/2",
        source="Thanh-Tung, Tran and Venkatesh 2019; weight 10 is their toy code's; on the logit here",
    ),
    "r1": Penalty(
        points=_real,
        draws=lambda _: 0,
        value=lambda squared: squared / 2,
        weight=10.0,
        group="zero-centred, real, logit, halved",
        formula="weight / 2 * E |grad C(x)|^2, x = real; weight is the paper's gamma",
        source="Mescheder, Geiger and Nowozin 2018; their code applies 10 without the 1/2, which is weight 20 here",
    ),
    "dragan": Penalty(
        points=_around_real,
        draws=lambda d: 1 + d,
        value=_one_centred,
        weight=10.0,
        group="one-centred, around real, logit",
        noisy=True,
        formula=(
            "weight * E (|grad C(x)| - 1)^2, x = real + a * noise_scale * std(batch) * u, "
            "a ~ U(0,1) per sample, u ~ U(0,1) per coordinate"
        ),
        source="Kodali et al. 2017, in the form of the authors' code; on ns it is Fedus et al.'s DRAGAN-NS",
    ),
}
NOISE_SCALE = 0.5
"""The DRAGAN authors' code multiplies the batch's standard deviation by this."""

"""Gradient penalties: a centre, the points at which it is taken, and what the gradient is of.

L_D gains weight * factor * mean over the points of centre(|grad_x f(x)|^2), where f is the discriminator's logit C, its
probability D = sigmoid(C), or an MMD witness. Points are built from detached samples, and no penalty enters the
generator's loss. A discriminator under a penalty must not let samples see each other (no batch normalisation).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from study.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Points:
    """Where a gradient is taken.

    Attributes:
        build: Maps real (b, d), generated (b, d), uniforms in the open unit interval (b, draws(d)) and a noise scale ()
            to points (m, d). Samples may have several dimensions, of d numbers in all.
        draws: Uniforms needed per sample, as a function of d.
    """

    build: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
    draws: Callable[[int], int]


@dataclass(frozen=True, kw_only=True)
class Penalty:
    """A published gradient penalty.

    Attributes:
        centre: Key of CENTRES.
        where: Key of POINTS.
        on: Key of TARGETS.
        factor: What the weight is multiplied by, so that it is the one of `formula`.
        weight: The published weight, in the convention of `formula`.
        noise_scale: The published scale of the perturbation; None where the points have none.
        losses: Names of the losses it is for; None for any.
        formula: In a line, with the weight's convention.
        source: Paper and section.
        pitfalls: What makes two programs of this name differ, or this one misleading.
    """

    centre: str
    where: str
    on: str = "logit"
    factor: float = 1.0
    weight: float
    noise_scale: float | None = None
    losses: tuple[str, ...] | None = None
    formula: str
    source: str
    pitfalls: str


def squared_slope(critic: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Squared gradient norm, over all inputs of a sample, of a critic at points (b, d): shape (b,).

    Differentiable once more. Samples must not see each other inside the critic (no batch normalisation).
    """
    from study.record import grad

    slope = grad(lambda points: critic(points).sum())(x)
    return slope.flatten(1).square().sum(1)


def penalty_value(
    penalty: Penalty, scalar: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, uniforms: Tensor, scale: Tensor
) -> Tensor:
    """What a penalty adds to the discriminator's loss, before its weight.

    Args:
        penalty: The penalty.
        scalar: Maps points (m, d) to logits (m,), or to the witness (m,).
        real: Real samples (b, d).
        fake: As many generated samples (b, d). Points are made of both without their derivatives: a penalty must not
            teach the generator.
        uniforms: Numbers in the open unit interval (b, draws(d)).
        scale: Noise scale (); without effect where the points have none.

    Returns:
        The value ().
    """
    target = TARGETS[penalty.on]
    points = POINTS[penalty.where].build(real.detach(), fake.detach(), uniforms, scale)
    return penalty.factor * CENTRES[penalty.centre](squared_slope(lambda x: target(scalar(x)), points)).mean()


def _norm(squared: Tensor) -> Tensor:
    # inside the root: its derivative at zero is infinite, and 0 * inf would be NaN
    return torch.sqrt(squared + 1e-12)


CENTRES: dict[str, Callable[[Tensor], Tensor]] = {
    "one": lambda squared: (_norm(squared) - 1).square(),
    "zero": lambda squared: squared,
    "one-sided": lambda squared: torch.relu(_norm(squared) - 1).square(),
}
"""Penalty of squared gradient norms (m,), one each."""

TARGETS: dict[str, Callable[[Tensor], Tensor]] = {
    "logit": lambda logits: logits,
    # not torch.sigmoid itself, which would import torch with this module
    "probability": lambda logits: torch.sigmoid(logits),
}
"""What the gradient is of, from logits (m,)."""


def _coefficient(uniforms: Tensor, samples: Tensor) -> Tensor:
    """The first uniform of every sample (b,), shaped to be the same in all numbers of the sample."""
    return uniforms[:, 0].reshape(-1, *(1 for _ in samples.shape[1:]))


def _line(real: Tensor, fake: Tensor, uniforms: Tensor, _scale: Tensor) -> Tensor:
    share = _coefficient(uniforms, real)
    return share * real + (1 - share) * fake


def _spread(real: Tensor) -> Tensor:
    # over the whole batch and all coordinates at once, divided by n: numpy's std() in the DRAGAN authors' code
    return real.std(correction=0)


def _around_uniform(real: Tensor, _fake: Tensor, uniforms: Tensor, scale: Tensor) -> Tensor:
    noise = uniforms[:, 1:].reshape(real.shape)
    return real + _coefficient(uniforms, real) * scale * _spread(real) * noise


def _around_gauss(real: Tensor, _fake: Tensor, uniforms: Tensor, scale: Tensor) -> Tensor:
    normal: Tensor = torch.special.ndtri(uniforms)
    return real + scale * normal.reshape(real.shape)


def _around_symmetric(real: Tensor, _fake: Tensor, uniforms: Tensor, scale: Tensor) -> Tensor:
    return real + scale * _spread(real) * (uniforms.reshape(real.shape) - 0.5)


POINTS: dict[str, Points] = {
    "line": Points(build=_line, draws=lambda _: 1),
    "real": Points(build=lambda real, _fake, _uniforms, _scale: real, draws=lambda _: 0),
    "fake": Points(build=lambda _real, fake, _uniforms, _scale: fake, draws=lambda _: 0),
    "both": Points(build=lambda real, fake, _uniforms, _scale: torch.cat([real, fake]), draws=lambda _: 0),
    "around-uniform": Points(build=_around_uniform, draws=lambda d: 1 + d),
    "around-gauss": Points(build=_around_gauss, draws=lambda d: d),
    "around-symmetric": Points(build=_around_symmetric, draws=lambda d: d),
}

NOISE_SCALE = 0.5
"""The DRAGAN authors' code multiplies the batch's standard deviation by this."""
_LINE = "x = e real + (1 - e) fake, e ~ U(0,1) per sample"
_AROUND = "x = real + a * noise_scale * std(batch) * u, a ~ U(0,1) per sample, u ~ U(0,1) per coordinate"

PENALTIES: dict[str, Penalty] = {
    "gp1": Penalty(
        centre="one",
        where="line",
        weight=10.0,
        formula=f"weight * E (|grad C(x)| - 1)^2, {_LINE}",
        source="Gulrajani et al. 2017, eq. 3 and algorithm 1; on ns it is Fedus et al.'s GAN-GP",
        pitfalls="weight 10 throughout the paper, 0.1 in the authors' toy script; the weight's meaning follows the "
        "scale of the data, for the centre does not scale with them",
    ),
    "gp1-real": Penalty(
        centre="one",
        where="real",
        weight=10.0,
        formula="weight * E (|grad C(x)| - 1)^2, x = real",
        source="named in the discussion of Thanh-Tung, Tran and Venkatesh 2019; formula and weight by analogy with gp1",
        pitfalls="demands a slope of 1 at the data, where the optimal discriminator is flat once p_g = p_r",
    ),
    "gp0": Penalty(
        centre="zero",
        where="line",
        weight=10.0,
        formula=f"weight * E |grad C(x)|^2, {_LINE}; no factor 1/2",
        source="Thanh-Tung, Tran and Venkatesh 2019; weight 10 is their toy code's; on the logit here",
        pitfalls="the authors' discriminator ends in a sigmoid and their penalty is on the probability "
        "(gp0-prob): at "
        "C = 0 theirs is a sixteenth of this",
    ),
    "gp0-prob": Penalty(
        centre="zero",
        where="line",
        on="probability",
        weight=100.0,
        formula=f"weight * E |grad D(x)|^2, D = sigmoid(C), {_LINE}; no factor 1/2",
        source="Thanh-Tung, Tran and Venkatesh 2019, authors' MNIST code; 100 as in its plots, its default is 500",
        pitfalls="grad D = D (1 - D) grad C: weight 100 is 6.25 on the logit at C = 0, and nearly nothing where the "
        "discriminator is confident",
    ),
    "gp0-real": Penalty(
        centre="zero",
        where="real",
        weight=10.0,
        formula="weight * E |grad C(x)|^2, x = real; no factor 1/2",
        source="Thanh-Tung, Tran and Venkatesh 2019, 0-GP-sample: alpha = 1 in their toy code, weight 10, which "
        "acts on D; on the logit here",
        pitfalls="r1 at twice the weight: the two differ by the convention alone",
    ),
    "lp": Penalty(
        centre="one-sided",
        where="line",
        weight=10.0,
        formula=f"weight * E max(0, |grad C(x)| - 1)^2, {_LINE}",
        source="Gulrajani et al. 2017, appendix C: the one-sided penalty",
        pitfalls="leaves slopes below 1 alone, so a flat discriminator feels nothing; programs offering it have been "
        "two-sided by mistake",
    ),
    "r1": Penalty(
        centre="zero",
        where="real",
        factor=0.5,
        weight=20.0,
        formula="weight / 2 * E |grad C(x)|^2, x = real; weight is the paper's gamma",
        source="Mescheder, Geiger and Nowozin 2018; weight from their code, 10 without the 1/2 (the text's was "
        "not checked)",
        pitfalls="published gammas span three decades with resolution; alone it lets gradients at generated samples "
        "grow",
    ),
    "r2": Penalty(
        centre="zero",
        where="fake",
        factor=0.5,
        weight=20.0,
        formula="weight / 2 * E |grad C(x)|^2, x = fake, detached; weight is the paper's gamma",
        source="Mescheder, Geiger and Nowozin 2018; weight as r1",
        pitfalls="generated samples must be detached, or the generator is trained to flatten the discriminator",
    ),
    # the mean over 2b rows is the mean of the two expectations: weight / 2 of each is weight of it
    "r1+r2": Penalty(
        centre="zero",
        where="both",
        weight=1.0,
        formula="weight / 2 * (E |grad C(real)|^2 + E |grad C(fake)|^2), which is weight times the mean over all "
        "2b points",
        source="Huang et al. 2024 (R3GAN); 1 is gamma on stacked MNIST at the start of training",
        pitfalls="gamma falls tenfold during their training and is 0.05 to 150 on other data; here it is constant",
    ),
    "dragan": Penalty(
        centre="one",
        where="around-uniform",
        weight=10.0,
        noise_scale=NOISE_SCALE,
        formula=f"weight * E (|grad C(x)| - 1)^2, {_AROUND}",
        source="Kodali et al. 2017, in the form of the authors' code; the noise of Fedus et al.'s DRAGAN-NS is "
        "not known",
        pitfalls="its noise is one-sided: every coordinate moves up; four programs of this name have four noises",
    ),
    "dragan-gauss": Penalty(
        centre="one",
        where="around-gauss",
        weight=10.0,
        noise_scale=0.5,
        formula="weight * E (|grad C(x)| - 1)^2, x = real + noise_scale * N(0, I); noise_scale^2 is the paper's c",
        source="Kodali et al. 2017, eq. 1, k = 1; noise_scale 0.5 is ours",
        pitfalls="noise_scale is in the data's unit, not in standard deviations of the batch; a c of 10, "
        "reported for "
        "the paper, assumes pixels far wider than data of unit scale",
    ),
    "dragan-prob": Penalty(
        centre="one",
        where="around-uniform",
        on="probability",
        weight=10.0,
        noise_scale=NOISE_SCALE,
        formula=f"weight * E (|grad D(x)| - 1)^2, D = sigmoid(C), {_AROUND}",
        source="Lucic et al. 2018, authors' code (compare_gan v1)",
        pitfalls="grad D = D (1 - D) grad C: a slope of 1 of the probability is 4 or more of the logit; that "
        "code has "
        "1e-4 inside the root, 1e-12 here",
    ),
    "dragan-sym": Penalty(
        centre="one",
        where="around-symmetric",
        weight=10.0,
        noise_scale=1.0,
        formula="weight * E (|grad C(x)| - 1)^2, x = real + noise_scale * std(batch) * (u - 1/2), "
        "u ~ U(0,1) per coordinate",
        source="Kurach et al. 2019, authors' code (compare_gan v2); weight as dragan",
        pitfalls="that code clips x to [0, 1], which assumes a range of pixels: not done here; and it has 1e-4 "
        "inside "
        "the root, 1e-12 here",
    ),
    "witness": Penalty(
        centre="one",
        where="line",
        weight=1.0,
        losses=("mmd-rbf", "mmd-rq", "mmd-energy"),
        formula=f"weight * E (|grad w(x)| - 1)^2, w(x) = E k(f(x), f(real)) - E k(f(x), f(fake)), {_LINE}",
        source="Binkowski et al. 2018, in the form of the authors' code",
        pitfalls="the gradient is with respect to the sample, through the features f; that code takes the norm along "
        "one axis of an image, here over all of it, and adds a penalty on the features that is not part of this; "
        "gp1 on these losses is the same but for its weight",
    ),
}

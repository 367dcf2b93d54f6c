"""Twenty-five Gaussians on a square grid, at the scale of the WGAN-GP authors' toy script unless another is asked for.

Centres 2 apart and noise of standard deviation 0.05, all of it divided by 2.828 and multiplied by `scale`: at scale 1
centres 0.707 apart and standard deviation 0.0177. Thanh-Tung and Tran's script has scale 10, PacGAN (and before it
VEEGAN) scale 2.828. The share of the spread in the grid is the same at any scale.
"""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import TYPE_CHECKING

from study.errors import UserError
from study.lazy import torch
from study.metrics.divergence import kl_to_uniform
from study.metrics.modes import mode_counts, mode_shares, nearest_mode, ring_modes, w2sq_by_modes
from study.metrics.trials import all_finite_or_nan
from study.networks.mlp import mlp
from study.tasks.base import Control, Snapshot, Task

if TYPE_CHECKING:
    from torch import Tensor


SIDE = 5
MODES = SIDE**2
STEP = 2 / 2.828
"""Distance of neighbouring centres at scale 1."""
SD = 0.05 / 2.828
"""Standard deviation of a mode at scale 1."""
SAMPLES = 6000
"""Samples per value of the primary metric; with 2500, chance alone comes near one mode missing."""
FEW = 2500
"""Samples that the mode metrics look at, as many as in PacGAN; a perfect sampler has 99 of high quality in a mode. As
many others for selection, which only has to tell a trial's evaluations apart."""
SURELY = 11
"""High-quality samples that make a mode captured by a stricter rule, that of Thanh-Tung and Tran for stacked MNIST."""


@functools.cache
def centres(scale: float = 1.0) -> Tensor:
    """Centres of the modes, shape (25, 2), float64."""
    axis = (torch.arange(SIDE, dtype=torch.float64) - SIDE // 2) * (STEP * scale)
    return torch.cartesian_prod(axis, axis)


def sample(uniforms: Tensor, *, scale: float = 1.0) -> Tensor:
    """Real samples (..., 2) for uniforms (..., 3): the first chooses the mode, the others make the noise."""
    means = centres(scale).to(uniforms.device, uniforms.dtype)[label(uniforms)]
    return torch.add(means, torch.mul(torch.special.ndtri(uniforms[..., 1:]), SD * scale))


def label(uniforms: Tensor) -> Tensor:
    """The modes (...,) that `sample` chooses by the same uniforms."""
    return (uniforms[..., 0] * MODES).long().clamp(max=MODES - 1)


def evaluate(at: Snapshot, *, scale: float = 1.0) -> dict[str, Tensor]:
    """Metrics of generated samples (c, 6000 + 2500, 2), each (c,); parameters are not looked at.

    As for `ring8`, the reference is the mixture itself and the selection metric looks at samples of its own.
    """
    samples, means, sd = at.samples, centres(scale).to(at.samples.device), SD * scale
    nearest, few = nearest_mode(samples, means), samples[:, :FEW]
    near = nearest.part(slice(FEW))
    modes = ring_modes(few, means, sd=sd, nearest=near)
    sure = (mode_counts(few, means, sd=sd, nearest=near) >= SURELY).double().sum(-1)
    first, second = slice(SAMPLES), slice(SAMPLES, None)
    values = {
        "w2sq_by_modes_n6000": w2sq_by_modes(samples[:, first], means, nearest.part(first)),
        "modes_n2500": modes.captured,
        "modes_min11_n2500": sure,
        "high_quality_n2500": modes.high_quality,
        "variance_ratio_n2500": modes.variance_ratio,
        "reverse_kl_n2500": kl_to_uniform(mode_shares(near, MODES)).to(samples.device),
        "selection": w2sq_by_modes(samples[:, second], means, nearest.part(second)),
    }
    return all_finite_or_nan(values, samples)


def grid25(*, scale: float = 1.0) -> Task:
    """The task `grid25`.

    Args:
        scale: What the WGAN-GP authors' data are multiplied by; the primary metric, the threshold, the anchors and the
            controls change with its square.

    Raises:
        UserError: If the scale is not positive.
    """
    if scale <= 0:
        raise UserError(f"scale = {scale:g}: the scale of grid25 must be positive")
    area = scale**2
    return Task(
        name="grid25",
        version=2,
        summary=(
            "twenty-five narrow Gaussians on a square grid: are all covered evenly, and is little between? "
            f"Centres {STEP * scale:.4g} apart, standard deviation {SD * scale:.3g}"
        ),
        source=(
            "data: Gulrajani et al. (2017), Thanh-Tung and Tran (2019); mode metrics: Lin et al. (2018); primary "
            "metric and networks: ours"
        ),
        shape=(2,),
        latent=2,
        batch=64,
        generator=mlp([2, 64, 64, 2]),
        discriminator=mlp([2, 64, 64, 1]),
        draws=3,
        sample=functools.partial(sample, scale=scale),
        label=label,
        classes=MODES,
        metrics=METRICS,
        primary=METRICS[0],
        evaluation_samples=SAMPLES + FEW,
        evaluation_steps=20,
        evaluate=functools.partial(evaluate, scale=scale),
        threshold=0.04 * area,
        anchors=(ANCHORS[0] * area, ANCHORS[1] * area),
        reasoning=REASONING if area == 1 else f"{REASONING} All these values are to be multiplied by {area:g}.",
        controls=tuple(replace(control, value=control.value * area) for control in CONTROLS),
    )


METRICS = (
    "w2sq_by_modes_n6000",
    "modes_n2500",
    "modes_min11_n2500",
    "high_quality_n2500",
    "variance_ratio_n2500",
    "reverse_kl_n2500",
)

REASONING = (
    "As for ring8: to the nearest mode, then between modes until all weigh the same, which makes a single mode of 25 "
    "hard to see behind the chance in the counts. At 6000 samples real ones score 0.022 (sd of one evaluation 0.005) "
    "and the mildest failure, the mode in the middle missing, 0.054 (sd 0.005); the threshold lies about three "
    "deviations from either. Blur of five standard deviations (0.037) passes; high_quality_n2500 sees it. "
    "modes_n2500 counts a mode from one high-quality sample on (PacGAN), modes_min11_n2500 from eleven on. "
    "reverse_kl_n2500, of the counts of nearest modes, is 24 / 5000 = 0.0048 for a perfect sampler. Score 1 is the "
    "mean of real samples, score 0 all samples on the middle mode."
)

ANCHORS = (0.022, 4 * STEP**2)

CONTROLS = (
    Control(name="real", value=0.022, must="pass", why="chance in the counts per mode is all that is left"),
    Control(name="modes without spread", value=0.021, must=None, why="only variance_ratio_n2500 sees it"),
    Control(
        name="ten times the spread",
        value=0.078,
        must=None,
        why="blurred, yet every mode apart; high_quality_n2500 sees it",
    ),
    Control(name="middle mode missing", value=0.054, must="fail", why="a 25th of the mass comes from all around"),
    Control(name="corner mode missing", value=0.085, must="fail", why="the mass has further to go"),
    Control(name="two opposite corners missing", value=0.106, must="fail", why="two modes missing"),
    Control(name="one row missing", value=0.259, must="fail", why="five modes missing, on one side"),
    Control(name="every other mode missing", value=0.241, must="fail", why="a chequerboard of 13 modes"),
    Control(name="first half twice as heavy", value=0.238, must="fail", why="every mode there, 13 of them twice"),
    Control(name="lines", value=0.065, must="fail", why="the modes of a row are joined up"),
    Control(name="filled square", value=0.105, must="fail", why="uniform, cells of the grid included"),
    Control(
        name="one Gaussian", value=0.372, must="fail", why="right mean and covariance but for the spread, no modes"
    ),
    Control(name="one mode only", value=2.001, must="fail", why="full collapse to the middle: 4 step^2 and the spread"),
    Control(name="corner mode only", value=6.002, must="fail", why="full collapse to a corner: 12 step^2"),
)

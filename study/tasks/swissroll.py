"""The swiss roll of the WGAN-GP authors' toy script: a spiral, a curved line that no set of modes describes.

scikit-learn's roll, noise of standard deviation 0.25, without the coordinate along its axis, divided by 7.5: one and a
half turns at radius 0.63 to 1.89, neighbouring turns 0.84 apart, standard deviation of the noise 0.033. Thanh-Tung and
Tran's script multiplies that by 10.
"""

from __future__ import annotations

import functools
import math
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from study.errors import UserError
from study.lazy import torch
from study.metrics.samples import mean_nearest_distance
from study.metrics.sliced import Coupled, coupled, planar_directions, sliced_w2sq_to_each
from study.metrics.trials import all_finite_or_nan
from study.networks.mlp import mlp
from study.prng import Role, key_words, root_key, uniform
from study.tasks.base import Control, Snapshot, Task

if TYPE_CHECKING:
    from torch import Tensor


SD = 0.25 / 7.5
"""Standard deviation of the noise along each axis at scale 1."""
SAMPLES = 4096
REFERENCE = 8192
"""Real samples of each split."""
DIRECTIONS = 16
FEW = 512
"""Samples whose distance to the curve is measured."""
POINTS = 1024
"""Points of the curve for that, 0.012 apart: a third of the noise, which adds 2 % to a distance of the noise's size."""


class References(NamedTuple):
    """What generated samples are measured against, float64: two draws (8192, 2) as coupled, the curve (1024, 2)."""

    test: Coupled
    selection: Coupled
    curve: Tensor


def curve(uniforms: Tensor) -> Tensor:
    """Points (..., 2) of the curve at scale 1 for uniforms (...,): angle t = 1.5 pi (1 + 2 u), radius t / 7.5."""
    t = 1.5 * math.pi * (1 + 2 * uniforms)
    return torch.stack([t * t.cos(), t * t.sin()], -1) / 7.5


def sample(uniforms: Tensor, *, scale: float = 1.0) -> Tensor:
    """Real samples (..., 2) for uniforms (..., 3): the first says where on the curve, the others make the noise.

    As `sklearn.datasets.make_swiss_roll`, whose first and third coordinate these are.
    """
    noise = torch.mul(torch.special.ndtri(uniforms[..., 1:]), SD)
    return torch.mul(torch.add(curve(uniforms[..., 0]), noise), scale)


@functools.cache
def draws() -> tuple[Tensor, Tensor]:
    """The two draws of real samples at scale 1, always the same, float64 (8192, 2)."""
    key = key_words([root_key("swissroll")])
    drawn = uniform(key, role=Role.REFERENCE, steps=range(2), updates=1, count=3 * REFERENCE)
    test, selection = sample(drawn.double().view(2, REFERENCE, 3))
    return test, selection


@functools.cache
def references(scale: float = 1.0) -> References:
    """Prepare the draws and the curve for comparison."""
    test, selection = (coupled(SAMPLES, scale * part, planar_directions(DIRECTIONS)) for part in draws())
    points = curve((torch.arange(POINTS, dtype=torch.float64) + 0.5) / POINTS)
    return References(test, selection, scale * points)


def evaluate(at: Snapshot, *, scale: float = 1.0) -> dict[str, Tensor]:
    """Metrics of generated samples (c, 4096, 2), each (c,); parameters are not looked at."""
    real, directions = references(scale), planar_directions(DIRECTIONS)
    to_test, to_selection = sliced_w2sq_to_each(at.samples, (real.test, real.selection), directions)
    blur = mean_nearest_distance(at.samples[:, :FEW], real.curve.to(at.samples.device)) / (
        scale * SD * math.sqrt(2 / math.pi)
    )
    values = {
        "sliced_w2sq_n4096": to_test,
        "blur_n512": blur,
        "selection": to_selection,
    }
    return all_finite_or_nan(values, at.samples)


def swissroll(*, scale: float = 1.0) -> Task:
    """The task `swissroll`.

    Args:
        scale: What the WGAN-GP authors' data are multiplied by; the primary metric, the threshold, the anchors and the
            controls change with its square.

    Raises:
        UserError: If the scale is not positive.
    """
    if scale <= 0:
        raise UserError(f"scale = {scale:g}: the scale of swissroll must be positive")
    area = scale**2
    return Task(
        name="swissroll",
        version=1,
        summary=(
            "a spiral in the plane: does the generator follow it from end to end? "
            f"Radius up to {scale * 3 * math.pi * 1.5 / 7.5:.4g}, standard deviation {SD * scale:.3g}"
        ),
        source="data: Gulrajani et al. (2017), Thanh-Tung and Tran (2019); metric and networks: ours",
        shape=(2,),
        latent=2,
        batch=64,
        generator=mlp([2, 64, 64, 2]),
        discriminator=mlp([2, 64, 64, 1]),
        draws=3,
        sample=functools.partial(sample, scale=scale),
        metrics=("sliced_w2sq_n4096", "blur_n512"),
        primary="sliced_w2sq_n4096",
        evaluation_samples=SAMPLES,
        evaluation_steps=20,
        evaluate=functools.partial(evaluate, scale=scale),
        threshold=THRESHOLD * area,
        anchors=(ANCHORS[0] * area, ANCHORS[1] * area),
        reasoning=REASONING if area == 1 else f"{REASONING} All these values are to be multiplied by {area:g}.",
        controls=tuple(replace(control, value=control.value * area) for control in CONTROLS),
    )


THRESHOLD = 0.006

REASONING = (
    "The squared W2 distance of projections, the mean over 16 directions, to a fixed draw of 8192 real samples; "
    "selection looks at another draw. An optimal assignment in the plane does with a few hundred samples and mostly "
    "measures chance in where along the curve they lie. Real samples score 0.0006 (sd of one evaluation 0.0004); the "
    "threshold lies below the mildest failure, the first tenth of the curve missing (0.0111, sd 0.0017). A few times "
    "the noise is small next to the gap between turns and passes; blur_n512, the mean distance to the curve over that "
    "of the data, sees it: 1 is right, 0 without noise. Score 1 is the mean of real samples, score 0 all samples at "
    "the data's mean, half of their total variance since a direction sees half of it."
)

ANCHORS = (0.0006, 0.82)

CONTROLS = (
    Control(name="real", value=0.0006, must="pass", why="chance in where along the curve the samples lie"),
    Control(name="no noise", value=0.0006, must=None, why="the curve itself; only blur_n512 sees it"),
    Control(name="five times the noise", value=0.0027, must=None, why="blurred, yet turns apart; blur_n512 sees it"),
    Control(name="first tenth missing", value=0.0111, must="fail", why="the inner end, where a tenth is shortest"),
    Control(name="last tenth missing", value=0.0293, must="fail", why="the outer end"),
    Control(name="a tenth in the middle missing", value=0.0250, must="fail", why="a gap in the curve"),
    Control(name="first half missing", value=0.136, must="fail", why="half of the roll: the outer turn alone"),
    Control(name="second half missing", value=0.157, must="fail", why="half of the roll: the inner turn alone"),
    Control(
        name="even along the curve",
        value=0.0123,
        must="fail",
        why="right shape, wrong density: the data are even in angle",
    ),
    Control(name="filled disc", value=0.0486, must="fail", why="uniform within the outermost radius"),
    Control(
        name="right radii, any angle", value=0.0486, must="fail", why="a spread of rings with the density of the data"
    ),
    Control(name="one Gaussian", value=0.0398, must="fail", why="right mean and covariance, no curve"),
    Control(name="constant mean", value=0.821, must="fail", why="collapse to the data's mean"),
    Control(name="constant start of the curve", value=1.071, must="fail", why="collapse to a point on the curve"),
)

"""Digits with some training images on the wrong side: does the discriminator learn a mistaken label by heart?

Most generated samples are blends, the mean of two training images; a few are training images themselves, always the
same ones, which never come as real. Nothing but memory can tell these from real images.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from study.errors import UserError
from study.lazy import torch
from study.metrics.trials import all_finite_or_nan, each
from study.networks.mlp import mlp
from study.prng import Role, key_words, root_key, uniform
from study.tasks import digits_data
from study.tasks.base import Control, Snapshot, Task
from study.tasks.critics import PROBABILITY, index, show, standing

if TYPE_CHECKING:
    from torch import Tensor


FLIPPED = 90
"""Training images that come as generated ones, a tenth, nine of each class."""
BLENDS = 512
"""Blends that an evaluation looks at, the same for every trial."""
BATCH = 64
WIDTH = 64


@functools.cache
def flipped_images() -> Tensor:
    """The images on the wrong side, (90, 64)."""
    return digits_data.load().train.images[digits_data.places() < FLIPPED]


@functools.cache
def real_images() -> Tensor:
    """The other training images, (811, 64)."""
    return digits_data.load().train.images[digits_data.places() >= FLIPPED]


def sample(uniforms: Tensor) -> Tensor:
    """Real images (..., 64), drawn with replacement by uniforms (..., 1)."""
    images = real_images().to(uniforms.device)
    return images[index(uniforms[..., 0], len(images))]


def blend(uniforms: Tensor) -> Tensor:
    """Means (..., 64) of two different real images, all pairs equally likely, by uniforms (..., 2)."""
    images = real_images().to(uniforms.device)
    first = index(uniforms[..., 0], len(images))
    second = (first + 1 + index(uniforms[..., 1], len(images) - 1)) % len(images)
    return (images[first] + images[second]) / 2


def fakes(latent: Tensor, *, share: float) -> Tensor:
    """Generated images (b, 64) for latents (b, 3): flipped ones with probability `share`, blends otherwise."""
    uniforms = torch.special.ndtr(latent)
    wrong = flipped_images().to(latent.device, latent.dtype)
    flipped = wrong[index(uniforms[:, 1], FLIPPED)]
    return torch.where(uniforms[:, :1] < share, flipped, blend(uniforms[:, 1:]).to(latent.dtype))


@functools.cache
def fixed_blends() -> Tensor:
    """The blends of every evaluation, (512, 64)."""
    key = key_words([root_key("flipped blends")])
    return blend(uniform(key, role=Role.DATA, steps=range(1), updates=1, count=2 * BLENDS).view(BLENDS, 2))


def evaluate(at: Snapshot) -> dict[str, Tensor]:
    """Shares of images on which discriminators err, each (c,); of the parameters only whether they are finite."""
    shift = at.parameters["shift"]
    data = digits_data.load()

    def logits(images: Tensor) -> Tensor:
        return show(at, at.critic, images.to(shift.device), trials=len(shift), batch=BATCH)[..., 0]

    wrong, seen, blends = logits(flipped_images()), logits(real_images()), logits(fixed_blends())
    fresh, kept = logits(data.test.images), logits(data.selection.images)
    memorised, false_alarm = each(_called_fake, wrong), 1 - each(_called_fake, blends)
    values = {
        "worst_error": torch.stack([memorised, each(_called_fake, fresh), false_alarm]).amax(0),
        "flipped_called_fake": memorised,
        "train_called_fake": each(_called_fake, seen),
        "heldout_called_fake_n445": each(_called_fake, fresh),
        "blends_called_real_n512": false_alarm,
        "selection": torch.stack([memorised, each(_called_fake, kept), false_alarm]).amax(0),
    }
    return all_finite_or_nan(values, wrong, seen, blends, fresh, kept, shift)


def _called_fake(logit: Tensor) -> Tensor:
    return (logit <= 0).double().mean()


def flipped(share: float = 0.02) -> Task:
    """The task `flipped`, where a generated sample is a flipped image with probability `share`.

    Raises:
        UserError: For a share that is no probability or leaves nothing else.
    """
    if not 0 < share < 1:
        raise UserError(f"flipped[share={share:g}]: share is a probability and must lie between 0 and 1")
    return Task(
        name="flipped",
        version=1,
        summary="digits, of which 90 training images come as generated: does the discriminator learn them by heart?",
        source="the claim: Thanh-Tung and Tran (2019); images, blends, share, metrics, threshold and anchors: ours",
        shape=(1, 8, 8),
        latent=3,
        batch=BATCH,
        generator=standing(functools.partial(fakes, share=share), (0.0,) * WIDTH),
        discriminator=mlp([WIDTH, 64, 64, 1]),
        draws=1,
        sample=sample,
        metrics=(
            "worst_error",
            "flipped_called_fake",
            "train_called_fake",
            "heldout_called_fake_n445",
            "blends_called_real_n512",
        ),
        primary="worst_error",
        evaluation_samples=0,
        evaluation_steps=10,
        evaluate=evaluate,
        looks_at_critic=True,
        losses=PROBABILITY,
        threshold=0.2,
        anchors=(0.01, 1.0),
        reasoning=REASONING,
        controls=CONTROLS,
    )


REASONING = (
    "The primary is the largest of three shares: flipped images called fake, held-out images called fake, blends "
    "called real. The first alone would praise a discriminator that calls everything real. Of what looks real a small "
    "part comes as generated, so the best answer for such an image, unless it is known by heart, is real: the shares "
    "of a discriminator that does not memorise are those of fresh images. The threshold lies above what one number, "
    "the contrast, does (0.07) and below a quarter of the flipped images learned. The generator does not learn: its "
    "hyperparameters are without effect, and mm and ns are the same training. Score 0 is to be all wrong about one of "
    "the three, score 1, the floor being 0, by convention 1 %."
)

CONTROLS = (
    Control(
        name="contrast",
        value=0.07,
        must="pass",
        why="calls fake whose mean square is below the middle between real images and blends; remembers nothing",
    ),
    Control(
        name="pixels and their squares",
        value=0.059,
        must="pass",
        why="least squares on real images and 811 blends, without the flipped ones",
    ),
    Control(
        name="a quarter learned", value=0.25, must="fail", why="every fourth flipped image called fake, else right"
    ),
    Control(name="all learned", value=1.0, must="fail", why="right but for the flipped images, which are called fake"),
    Control(name="nearest image by heart", value=1.0, must="fail", why="calls an image what the nearest one came as"),
    Control(name="everything real", value=1.0, must="fail", why="memorises nothing, and sees nothing"),
    Control(name="everything fake", value=1.0, must="fail", why="the same"),
)

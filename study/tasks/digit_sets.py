"""Grey digits with a classifier, and what is made of them: three stacked as the channels of an image, or one tinted."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from study.lazy import torch
from study.metrics.gaussian import Gaussian, moments_ddof1, moments_of_trials, w2sq_gaussian
from study.metrics.samples import mean_nearest_distance
from study.metrics.trials import by_rows
from study.tasks import digits_classifier, digits_data
from study.tasks.base import Snapshot
from study.tasks.drawing import Drawn

if TYPE_CHECKING:
    from torch import Tensor


CLASSES = 10
NEIGHBOURS = 128
"""Generated images whose digits are compared with all training digits."""
BLOCK = 512
"""Images that are looked at together."""
TURN = (math.sqrt(5) - 1) / 2
"""Golden section: its multiples modulo 1 are spread evenly, whatever their number."""


class DigitSet(NamedTuple):
    """Grey digits; all functions read their files when they are called and not before.

    Attributes:
        side: Pixels of a side.
        net: What metrics call the classifier.
        split: Maps "train", "selection" or "test" to images.
        logits: Maps images (n, side * side) in [-1, 1] to the classifier's logits (n, 10).
        few: There are so few training digits that a generated one can be compared with each of them.
    """

    side: int
    net: str
    split: Callable[[str], Drawn]
    logits: Callable[[Tensor], Tensor]
    few: bool = False


class Reference(NamedTuple):
    """What generated images are measured against.

    Attributes:
        test: Moments of the 30 logits of the three channels, of images made of the test split.
        selection: The same of the selection split.
        variance: Total variance of those of the training split.
        train: Training digits (m, side * side); none of them where they are not few.
        fresh: Mean distance of a test digit to the nearest of them, or nan.
    """

    test: Gaussian
    selection: Gaussian
    variance: float
    train: Tensor
    fresh: float


@functools.cache
def _split(name: str) -> Drawn:
    part: digits_data.Split = getattr(digits_data.load(), name)
    images, labels = part
    return Drawn(len(labels), lambda i: images.to(i.device)[i], lambda i: labels.to(i.device)[i])


DIGITS = DigitSet(8, "digitsnet", _split, digits_classifier.logits, few=True)
"""The 8 x 8 digits that scikit-learn ships, and the classifier that this package ships."""


def channel_logits(digits: DigitSet, images: Tensor) -> Tensor:
    """Logits (n, 3, 10) of the channels of one trial's images (n, 3 * side * side)."""
    return digits.logits(images.reshape(-1, digits.side**2)).reshape(len(images), 3, CLASSES)


def logits_of(digits: DigitSet, at: Snapshot) -> Tensor:
    """Logits (c, n, 3, 10) of the channels of a snapshot's images."""
    samples = at.samples
    rows = by_rows(digits.logits, samples.reshape(len(samples), -1, digits.side**2), native=at.native)
    return rows.reshape(*samples.shape[:2], 3, CLASSES)


def distances(logits: Tensor, real: Reference, *, native: bool) -> tuple[Tensor, Tensor]:
    """Frechet distances (c,) of the 30 logits (c, n, 3, 10) to the test and to the selection split.

    They are in hundredths of the training split's total variance.
    """
    found = moments_of_trials(logits.flatten(2), native=native)
    to_test, to_selection = (
        100 / real.variance * w2sq_gaussian(Gaussian(*(moment.to(logits.device) for moment in moments)), found)
        for moments in (real.test, real.selection)
    )
    return to_test, to_selection


def novelty(digits: Tensor, reference: Reference) -> Tensor:
    """Mean distance of digits (c, n, d) to the nearest training digit, over that of fresh digits; 0 for copies."""
    return mean_nearest_distance(digits, reference.train.to(digits.device)) / reference.fresh


def refer(digits: DigitSet, moments: Callable[[Drawn], Gaussian]) -> Reference:
    """Measure the real data, given what maps a split to the moments of its 30 logits."""
    train, selection, test = (digits.split(name) for name in ("train", "selection", "test"))
    near = train.images(torch.arange(train.size if digits.few else 0))
    fresh = mean_nearest_distance(test.images(torch.arange(test.size))[None], near)[0] if digits.few else math.nan
    return Reference(
        test=moments(test),
        selection=moments(selection),
        variance=float(moments(train).covariance.trace()),
        train=near,
        fresh=float(fresh),
    )


def stacked_moments(digits: DigitSet, part: Drawn, limit: int) -> Gaussian:
    """Moments of the 30 logits of three independent digits: those of one, three times, and no covariance between."""
    one = moments_ddof1(digits.logits(part.images(part.every(limit))))
    return Gaussian(one.mean.repeat(3), torch.block_diag(*[one.covariance] * 3))  # type: ignore[no-untyped-call]  # torch's lack


def tinted_moments(digits: DigitSet, part: Drawn, limit: int) -> Gaussian:
    """Moments of the 30 logits of `limit` tinted digits: all of a split in turn, in colours all round the circle."""
    number = torch.arange(limit)
    images = tint(part.images(number % part.size), TURN * number.double() % 1)
    return moments_ddof1(channel_logits(digits, images).flatten(1))


def tint(images: Tensor, hue: Tensor) -> Tensor:
    """Grey images (..., d) in a colour (...,): 0 red, 1/3 green, 2/3 blue, 1 red again; (..., 3 d), float32.

    Full saturation and brightness, on black: the largest of the three channels is the grey image.
    """
    thirds = hue[..., None].float() * 3 - torch.arange(3, device=hue.device)
    away = (thirds - 3 * torch.round(thirds / 3)).abs()  # from the channel's own hue, round the circle
    weight = (2 - 2 * away).clamp(0, 1)
    return ((images[..., None, :] + 1) * weight[..., None] - 1).flatten(-2)


def channels(images: Tensor) -> Tensor:
    """Channels (..., 3, d) of images (..., 3 d)."""
    return images.reshape(*images.shape[:-1], 3, -1)


def value(images: Tensor) -> Tensor:
    """Largest channel (..., d) of images (..., 3 d): of tinted digits, the digits."""
    return channels(images).amax(-2)


def colours(images: Tensor) -> Tensor:
    """Colours (..., 3) of images (..., 3 d): what their channels' means, from black 0 to 1, have above their mean."""
    means = (channels(images.double()).mean(-1) + 1) / 2
    return torch.sub(means, means.mean(-1, keepdim=True))


def colour_variance(images: Tensor) -> Tensor:
    """Total variance (c,) of the colours of images (c, n, 3 d)."""
    if not len(images):
        return images.new_empty(0, dtype=torch.float64)
    # few at a time, so that what is computed of them stays in the cache
    found = [torch.cat([colours(some) for some in torch.split(trial, BLOCK)]) for trial in images]
    return torch.stack([of_trial.var(0).sum() for of_trial in found])

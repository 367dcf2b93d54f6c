"""One digit in a random colour: digits and colours, both to be covered."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, NamedTuple

from study.lazy import torch
from study.metrics.classes import class_counts, labels
from study.metrics.divergence import kl_to_uniform
from study.metrics.trials import all_finite_or_nan, by_rows
from study.tasks.base import Snapshot
from study.tasks.digit_sets import (
    CLASSES,
    NEIGHBOURS,
    TURN,
    DigitSet,
    Reference,
    colour_variance,
    distances,
    logits_of,
    novelty,
    refer,
    tint,
    tinted_moments,
    value,
)

if TYPE_CHECKING:
    from torch import Tensor


LIMIT = 10000
"""Real images that are made of a split and measured."""


class Tinted(NamedTuple):
    """Tinted digits, and the number of generated ones that an evaluation looks at.

    Attributes:
        digits: What is tinted.
        samples: How many generated images the primary metric looks at.
        few: How many of them the others do; None for all.
    """

    digits: DigitSet
    samples: int
    few: int | None = None

    def sample(self, uniforms: Tensor) -> Tensor:
        """Real images (..., 3 d) by uniforms (..., 2): a training digit and a hue."""
        train = self.digits.split("train")
        return tint(train.images(train.drawn(uniforms[..., 0])), uniforms[..., 1])

    def label(self, uniforms: Tensor) -> Tensor:
        """Their digits (...,)."""
        train = self.digits.split("train")
        return train.labels(train.drawn(uniforms[..., 0]))

    def rank(self, uniforms: Tensor) -> Tensor:
        """Their digits' places (...,) in the order in which labels become known."""
        return self.digits.split("train").rank(uniforms[..., 0])

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of what `evaluate` gives."""
        n, few = self.samples, self.few or self.samples
        near = [f"novelty_n{NEIGHBOURS}"] if self.digits.few else []
        return (f"fd_{self.digits.net}_logits30_n{n}", f"kl_digits_n{few}", f"colour_spread_n{few}", *near)

    def evaluate(self, at: Snapshot) -> dict[str, Tensor]:
        """Metrics of generated samples (c, n, 3 d), each (c,)."""
        samples, real = at.samples, reference(self.digits)
        some = samples[:, : self.few]
        grey = value(some)
        to_test, to_selection = distances(logits_of(self.digits, at), real, native=at.native)
        of_grey = by_rows(self.digits.logits, grey, native=at.native)
        values = [
            to_test,
            kl_to_uniform(class_counts(labels(of_grey), CLASSES)),
            colour_variance(some) / spread(self.digits),
        ]
        if self.digits.few:
            values.append(novelty(grey[:, :NEIGHBOURS], real))
        named = dict(zip(self.metrics, values, strict=True))
        named["selection"] = to_selection
        return all_finite_or_nan(named, samples)


@functools.cache
def reference(digits: DigitSet) -> Reference:
    """What generated images are measured against."""
    return refer(digits, lambda part: tinted_moments(digits, part, LIMIT))


@functools.cache
def spread(digits: DigitSet) -> float:
    """Total variance of the colours of the training digits."""
    train, number = digits.split("train"), torch.arange(LIMIT)
    images = tint(train.images(number % train.size), TURN * number.double() % 1)
    return float(colour_variance(images[None])[0])

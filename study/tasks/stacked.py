"""Three digits as red, green and blue: a thousand modes, counted by a classifier (Metz et al. 2017; PacGAN; VEEGAN)."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, NamedTuple

from study.lazy import torch
from study.metrics.classes import class_counts, covered, labels, modes_of_digits
from study.metrics.divergence import kl_to_uniform
from study.metrics.trials import all_finite_or_nan
from study.tasks.base import Snapshot
from study.tasks.digit_sets import (
    DigitSet,
    Reference,
    channels,
    distances,
    logits_of,
    novelty,
    refer,
    stacked_moments,
)

if TYPE_CHECKING:
    from torch import Tensor


MODES = 1000
CONFIDENT, MINIMUM = 0.5, 11
"""The stricter rule of Thanh-Tung et al. (2019): a mode needs more than ten samples that the classifier is sure of."""
ENOUGH = 20 * MODES
"""Samples from which that rule makes sense: of 20 a mode, a perfect sampler misses 1 % of the modes by it."""
NEIGHBOURS = 64
"""Generated images whose digits, three each, are compared with all training digits."""
LIMIT = 10000
"""Real digits of a split that are measured, at most."""


class Stacked(NamedTuple):
    """Stacked digits, and the number of generated ones that an evaluation looks at.

    Attributes:
        digits: What is stacked.
        samples: How many generated images are looked at.
        limits: Of the reverse KL and of the Frechet distance; with them the first metric is the worse of both, each
            over its limit. Without, it is the reverse KL.
    """

    digits: DigitSet
    samples: int
    limits: tuple[float, float] | None = None

    def sample(self, uniforms: Tensor) -> Tensor:
        """Real images (..., 3 d) by uniforms (..., 3), one for each channel's training digit."""
        train = self.digits.split("train")
        return train.images(train.drawn(uniforms)).flatten(-2)

    def label(self, uniforms: Tensor) -> Tensor:
        """Their modes (...,), 0 to 999: 100 red + 10 green + blue."""
        train = self.digits.split("train")
        return modes_of_digits(*train.labels(train.drawn(uniforms)).unbind(-1))

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of what `evaluate` gives."""
        n = self.samples
        strict = [f"modes_over10_sure_n{n}"] if n >= ENOUGH else []
        near = [f"novelty_n{NEIGHBOURS}"] if self.digits.few else []
        worst = [f"worst_of_kl_and_fd_n{n}"] if self.limits else []
        return (*worst, f"kl_modes_n{n}", f"modes_n{n}", *strict, f"fd_{self.digits.net}_logits30_n{n}", *near)

    def evaluate(self, at: Snapshot) -> dict[str, Tensor]:
        """Metrics of generated samples (c, n, 3 d), each (c,)."""
        samples, real = at.samples, reference(self.digits)
        logits = logits_of(self.digits, at)
        to_test, to_selection = distances(logits, real, native=at.native)
        counts = class_counts(modes_of_digits(*labels(logits).unbind(-1)), MODES)
        values = [kl_to_uniform(counts), covered(counts)]
        if self.samples >= ENOUGH:
            sure = modes_of_digits(*labels(logits, confidence=CONFIDENT).unbind(-1))
            values.append(covered(class_counts(sure, MODES), minimum=MINIMUM))
        values.append(to_test)
        chosen = values[0]
        if self.limits:
            pair = (values[0], to_test), (values[0], to_selection)
            worst, chosen = (torch.maximum(kl / self.limits[0], fd / self.limits[1]) for kl, fd in pair)
            values.insert(0, worst)
        if self.digits.few:
            values.append(novelty(channels(samples[:, :NEIGHBOURS]).flatten(1, 2), real))
        named = dict(zip(self.metrics, values, strict=True)) | {"selection": chosen}
        return all_finite_or_nan(named, samples)


@functools.cache
def reference(digits: DigitSet) -> Reference:
    """What generated images are measured against."""
    return refer(digits, lambda part: stacked_moments(digits, part, LIMIT))

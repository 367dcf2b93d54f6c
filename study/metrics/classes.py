"""Coverage of classes, by what a classifier says of samples; the modes of stacked digits among them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from study.lazy import torch
from study.metrics import compiled

if TYPE_CHECKING:
    from torch import Tensor


UNSURE = -1
"""Label of a sample whose most probable class is not probable enough."""
BROKEN = -2
"""Label of a sample whose logits are not finite."""


def labels(logits: Tensor, *, confidence: float = 0.0) -> Tensor:
    """Most probable classes, int64 of shape (...), from logits (..., k).

    Args:
        logits: Before the softmax.
        confidence: Least probability; below it the label is `UNSURE`. 0.5 in Thanh-Tung et al. (2019), 0 in PacGAN.

    Returns:
        Classes 0 to k - 1, `UNSURE`, or `BROKEN` where the logits are not finite.
    """
    found = compiled.largest(logits)
    label = logits.argmax(-1) if found is None else found
    if confidence:
        probability = logits.double().softmax(-1).amax(-1)
        label = torch.where(probability < confidence, UNSURE, label)
    if not logits.numel() or (torch.isfinite(logits.amin()) and torch.isfinite(logits.amax())):
        return label  # which is the rule, and found in a tenth of the time
    return torch.where(torch.isfinite(logits).all(-1), label, BROKEN)


def modes_of_digits(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Modes 0 to 999 of stacked digits from the labels of their three channels: 100 a + 10 b + c.

    `BROKEN` where one channel is, else `UNSURE` where one is; int64 of the labels' shape.
    """
    lowest = torch.minimum(torch.minimum(a, b), c)
    return torch.where(lowest < 0, lowest, 100 * a + 10 * b + c)


def class_counts(labels: Tensor, classes: int) -> Tensor:
    """Samples of each class, float64 (c, classes), from labels (c, n); `UNSURE` ones are left out.

    A row is nan if one of its labels is `BROKEN`. `divergence.kl_to_uniform` of the counts is the reverse KL of stacked
    MNIST.
    """
    bins = classes - BROKEN
    first = torch.arange(len(labels), device=labels.device)[:, None] * bins - BROKEN
    counts = torch.bincount((labels + first).flatten(), minlength=len(labels) * bins).view(len(labels), bins)
    broken = counts[:, :1] > 0
    return torch.where(broken, math.nan, counts[:, -BROKEN:].double())


def covered(counts: Tensor, *, minimum: int = 1) -> Tensor:
    """Classes with at least `minimum` samples, float64 (c,), from counts (c, k); nan where a count is.

    The minimum belongs in a metric's name: 1 of 26,000 samples in PacGAN and VEEGAN, 11 of 100,000 in Thanh-Tung et al.
    (2019). By the errors of a classifier alone a few samples fall in every class.
    """
    return torch.where(counts.isnan().any(-1), math.nan, (counts >= minimum).double().sum(-1))

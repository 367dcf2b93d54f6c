"""Similarity of images: multi-scale structural similarity, and how alike generated images are by it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from study.lazy import torch
from study.metrics.trials import each, finite_or_nan

if TYPE_CHECKING:
    from torch import Tensor


RANGE = 255.0
"""Largest value of a pixel, from 0."""
C1, C2 = (0.01 * RANGE) ** 2, (0.03 * RANGE) ** 2
"""Keep the ratios of means and of variances away from 0 / 0 (Wang et al. 2004)."""
WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of the scales, finest first, as published; they sum to 1.0001 (Wang et al. 2003)."""
WINDOW_SD = 1.5
"""Standard deviation of the Gaussian window, in pixels of any scale (Wang et al. 2004)."""


class Level(NamedTuple):
    """Images at one scale.

    Attributes:
        image: Pixels from 0 to 255, shape (b, channels, h, w).
        mean: Their weighted means over windows, shape (b, channels, h', w').
        square: The same of their squares.
    """

    image: Tensor
    mean: Tensor
    square: Tensor


def quantise(images: Tensor) -> Tensor:
    """Images in [-1, 1] as the nearest bytes, uint8 of the same shape; clipped beyond the ends; nan becomes grey."""
    return ((images.nan_to_num() + 1) * (RANGE / 2)).round().clamp(0, RANGE).to(torch.uint8)


def ms_ssim(x: Tensor, y: Tensor, *, window: int = 11, scales: int = 5) -> Tensor:
    """Multi-scale structural similarity of images with images (Wang, Simoncelli and Bovik 2003).

    As compare_gan has it: the window shrinks to the image where a scale is smaller than it, an odd last row or column
    is repeated before a scale is halved, negative terms count as 0, channels are averaged last. Implementations that
    do otherwise give other numbers, so window and scales belong in a name.

    Args:
        x: Shape (b, channels, h, w), in [-1, 1].
        y: The same, or b = 1, to be compared with all of x.
        window: Width of the Gaussian window in pixels.
        scales: Images are halved one time fewer, and the smaller side must keep two pixels: 17 for five scales, 9 for
            four, 5 for three. Fewer than five share the weight of all in the published proportions.

    Returns:
        Shape (b,): 1 for equal images, at least 0; nan for a pair that is not finite.

    Raises:
        ValueError: If the images are too small for that many scales, or there are no such scales.
    """
    y = y.expand(x.shape)

    def one(a: Tensor, b: Tensor) -> Tensor:
        return _similarity(_levels(a[None], window, scales), _levels(b[None], window, scales))[0]

    return finite_or_nan(finite_or_nan(each(one, x, y), x), y)


def ms_ssim_diversity(x: Tensor, *, batch: int = 64, batches: int = 5, window: int = 11, scales: int = 5) -> Tensor:
    """Mean `ms_ssim` over the pairs of different images in each of the first batches: the lower, the more diverse.

    The protocol of Fedus et al. (2018), section 5.3, by compare_gan. To be compared with the same number for real
    images only: noise scores lower than any of them, and 1 is one image over and over.

    Args:
        x: Images in [-1, 1], shape (c, n, channels, h, w), n at least batch * batches.
        batch: Images that are paired with each other.
        batches: How many batches; their means are averaged.
        window: As in `ms_ssim`.
        scales: As in `ms_ssim`.

    Returns:
        Shape (c,).

    Raises:
        ValueError: If there are too few images, or a batch holds no pair, or as in `ms_ssim`.
    """
    if x.shape[1] < batch * batches or batch < 2:
        raise ValueError(f"{batches} batches of {batch} images need two each and {batch * batches}, got {x.shape[1]}")

    def one(trial: Tensor) -> Tensor:
        return torch.stack([_mean_of_pairs(part, window, scales) for part in torch.split(trial, batch)]).mean()

    return finite_or_nan(each(one, x[:, : batch * batches]), x)


def _mean_of_pairs(images: Tensor, window: int, scales: int) -> Tensor:
    levels = _levels(images, window, scales)
    values = [
        _similarity(
            [Level(*(part[i : i + 1] for part in level)) for level in levels],
            [Level(*(part[i + 1 :] for part in level)) for level in levels],
        )
        for i in range(len(images) - 1)
    ]
    return torch.cat(values).mean()


def _levels(images: Tensor, window: int, scales: int) -> list[Level]:
    side = min(images.shape[-2:])
    if not 1 <= scales <= len(WEIGHTS):
        raise ValueError(f"MS-SSIM has 1 to {len(WEIGHTS)} scales, not {scales}")
    if side <= 2 ** (scales - 1):
        raise ValueError(f"{scales} scales need images of more than {2 ** (scales - 1)} pixels a side, got {side}")
    x, levels = (images + 1) * (RANGE / 2), []
    for scale in range(scales):
        x = _halve(x) if scale else x
        levels.append(Level(x, _blur(x, window), _blur(x.square(), window)))
    return levels


def _halve(x: Tensor) -> Tensor:
    """Means of 2 x 2 pixels; an odd last row or column is repeated first."""
    even = torch.nn.functional.pad(x, (0, x.shape[-1] % 2, 0, x.shape[-2] % 2), mode="replicate")
    return torch.nn.functional.avg_pool2d(even, 2)


def _blur(x: Tensor, window: int) -> Tensor:
    """Gaussian means over the windows that fit into images (b, channels, h, w)."""
    h, w = x.shape[-2:]
    size = min(window, h, w)
    offsets = torch.arange(size, dtype=x.dtype, device=x.device) - (size - 1) / 2
    weights = (offsets.square() / (-2 * WINDOW_SD**2)).softmax(0)
    # Products with banded matrices: in float64 several times as fast as convolutions.
    across, down = (torch.eye(n, dtype=x.dtype, device=x.device).unfold(0, size, 1) @ weights for n in (w, h))
    blurred: Tensor = down @ x @ across.mT
    return blurred


def _similarity(a: list[Level], b: list[Level]) -> Tensor:
    """MS-SSIM (b,) of images with images at all scales."""
    total = sum(WEIGHTS) / sum(WEIGHTS[: len(a)])
    result = torch.ones(())
    for scale, (p, q) in enumerate(zip(a, b, strict=True)):
        product, squares = p.mean * q.mean, p.mean.square() + q.mean.square()
        covariance = _blur(p.image * q.image, p.image.shape[-1] - p.mean.shape[-1] + 1) - product
        value = (2 * covariance + C2) / (p.square + q.square - squares + C2)
        if scale == len(a) - 1:  # luminance counts at the coarsest scale only
            value = value * (2 * product + C1) / (squares + C1)
        result = result * value.mean((-2, -1)).clamp(min=0) ** (WEIGHTS[scale] * total)
    return result.mean(-1)

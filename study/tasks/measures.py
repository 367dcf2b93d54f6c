"""What images are compared by: pooled pixels, a digit classifier's logits, or an extractor's features."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from study.errors import UserError
from study.lazy import torch
from study.metrics.features import inception_score, kid, precision_recall
from study.metrics.fidelity import features
from study.metrics.gaussian import Gaussian, frechet, moments_ddof1
from study.metrics.images import quantise
from study.metrics.samples import mean_spacing
from study.tasks.base import Control
from study.tasks.drawing import Drawn
from study.tasks.kept import kept

if TYPE_CHECKING:
    from torch import Tensor


GRID, COARSE = 8, 4
"""Pooled images have GRID x GRID pixels; the blurred control has COARSE x COARSE."""
LIMIT = 50000
"""Images of a split that are measured, at most; more are thinned out evenly."""
PAIRS = 2048
"""Samples and real images, at most, that metrics of pairs look at."""
SPACED = 512
"""Samples whose neighbours are looked for."""
BLOCK = 512
APART = 3
"""A control must fail if it is so many times the floor; below, the data cannot tell it from a perfect sampler."""
DIGITS = 3
"""Significant digits that measured values are kept to, so that rounding does not change a threshold."""
VERSION = 1
"""Of what is kept; raised when any of it changes."""


@dataclass(frozen=True, eq=False)
class Measure:
    """Features of images, and what they are called.

    Attributes:
        name: In the names of metrics.
        shape: Of an image.
        features: Maps images (n, d) in [-1, 1] to features (n, k).
        extractor: Name of the extractor, which has no measured threshold; "" for features that are cheap.
    """

    name: str
    shape: tuple[int, int, int]
    features: Callable[[Tensor], Tensor]
    extractor: str = ""


class Real(NamedTuple):
    """The sets that a task measures by, and what its files are known by."""

    train: Drawn
    selection: Drawn
    test: Drawn
    fingerprint: str


def pooled(images: Tensor, shape: tuple[int, int, int], side: int = GRID) -> Tensor:
    """Means of squares of pixels: images (n, d) to (n, channels, side, side), float64."""
    return torch.nn.functional.adaptive_avg_pool2d(images.double().reshape(-1, *shape), side)


def pixels(shape: tuple[int, int, int]) -> Measure:
    """Pixels of all channels, pooled to 8 x 8."""
    return Measure(f"pixels{GRID}", shape, lambda images: pooled(images, shape).flatten(1))


def extracted(extractor: str, shape: tuple[int, int, int]) -> Measure:
    """Features of an extractor."""

    def of(images: Tensor) -> Tensor:
        return _extract(extractor, shape, images)[0]

    return Measure(extractor, shape, of, extractor)


def _extract(extractor: str, shape: tuple[int, int, int], images: Tensor) -> tuple[Tensor, Tensor | None]:
    found = features(quantise(images).reshape(-1, *shape), extractor, device=images.device)
    logits = None if found.logits is None else found.logits.to(images.device)
    return found.features.to(images.device), logits


def _features(measure: Measure, part: Drawn, limit: int) -> Tensor:
    """Features of real images of a split."""
    return torch.cat([measure.features(part.images(some)) for some in torch.split(part.every(limit), BLOCK)])


def _in_parts(measure: Measure, images: Tensor) -> Tensor:
    return torch.cat([measure.features(some) for some in torch.split(images, BLOCK)])


def reference(measure: Measure, real: Real) -> dict[str, Tensor]:
    """Moments of both held-out splits and, for metrics of pairs, features of the test split; kept on disk."""
    key = f"{VERSION} {measure.name} {measure.shape} {real.fingerprint}"
    return _reference(measure, real, key)


@functools.cache
def _reference(measure: Measure, real: Real, key: str) -> dict[str, Tensor]:
    def make() -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for name, part in {"test": real.test, "selection": real.selection}.items():
            moments = moments_ddof1(_features(measure, part, LIMIT))
            found |= {f"{name}_mean": moments.mean, f"{name}_covariance": moments.covariance}
        if measure.extractor:
            return found | {"pairs": _features(measure, real.test, PAIRS)}
        train = _features(measure, real.train, LIMIT)
        spread = train[torch.arange(min(SPACED, len(train))) * len(train) // min(SPACED, len(train))]
        return found | {"variance": train.var(0).sum(), "spacing": mean_spacing(spread[None])[0]}

    return kept("reference", key, make)[0]


def distance(found: Tensor, known: dict[str, Tensor], split: str) -> Tensor:
    """Frechet distance (1,) of features (n, k) to a split; in hundredths of the total variance where it is known."""
    moments = Gaussian(*(known[f"{split}_{part}"].to(found.device) for part in Gaussian._fields))
    return frechet(found[None], moments) * (100 / float(known["variance"]) if "variance" in known else 1)


def cheap_metrics(measure: Measure, samples: int, tests: int) -> tuple[str, ...]:
    """Names of what `cheap` gives."""
    return f"fd_{measure.name}_n{samples}_test{tests}", f"diversity_{measure.name}_n{min(SPACED, samples)}"


def cheap(measure: Measure, known: dict[str, Tensor], images: Tensor) -> list[Tensor]:
    """Metrics (1,) of one trial's images (n, d), and last the distance to the selection split."""
    found = _in_parts(measure, images)
    spread = mean_spacing(found[None, :SPACED]) / known["spacing"].to(found.device)
    return [distance(found, known, "test"), spread, distance(found, known, "selection")]


def extractor_metrics(measure: Measure, samples: int, tests: int) -> tuple[str, ...]:
    """Names of what `by_extractor` gives; FID, KID and Inception score are Inception's only."""
    few, some = min(samples, PAIRS), min(tests, PAIRS)
    pairs = f"n{few}_test{some}"
    if measure.extractor != "inception":
        names = [f"fd_{measure.name}_n{samples}_test{tests}"]
        return (*names, *(f"{what}_{measure.name}_k3_{pairs}" for what in ("precision", "recall")))
    own = f"fid_n{samples}_test{tests}", f"kid_{pairs}", f"inception_score_n{samples}_splits10"
    return (*own, f"precision_k3_{pairs}", f"recall_k3_{pairs}")


def by_extractor(measure: Measure, known: dict[str, Tensor], images: Tensor) -> list[Tensor]:
    """Metrics (1,) of one trial's images (n, d), and last the distance to the selection split."""
    parts = [_extract(measure.extractor, measure.shape, some) for some in torch.split(images, BLOCK)]
    found, logits = torch.cat([part[0] for part in parts]), [part[1] for part in parts if part[1] is not None]
    few, real = found[None, :PAIRS], known["pairs"].to(found.device)
    near = precision_recall(few, real)
    values = [distance(found, known, "test")]
    if measure.extractor == "inception":
        values += [kid(few, real), inception_score(torch.cat(logits)[None])]
    return [*values, near.precision, near.recall, distance(found, known, "selection")]


def controls(measure: Measure, real: Real, samples: int, classes: int) -> tuple[Control, ...]:
    """Generators of known quality, measured on the user's data in a fixed way; kept on disk.

    Raises:
        UserError: The test split is too small to tell a perfect sampler from a single image.
    """
    key = f"{VERSION} {measure.name} {measure.shape} {real.fingerprint} {samples} {classes}"

    def make() -> dict[str, Tensor]:
        return {name: torch.tensor(value) for name, value in _measured(measure, real, samples, classes).items()}

    found = {name: _rounded(float(value)) for name, value in sorted(kept("controls", key, make)[0].items())}
    floor = found.pop(FLOOR)
    if found[CONSTANT] < APART * floor:
        raise UserError(
            f"the mean image scores {found[CONSTANT]} by {measure.name}, and {samples} training images score {floor}: "
            "too near to tell; the test split needs more images"
        )
    first = Control(name=FLOOR, value=floor, must="pass", why="a perfect sampler of the training set")
    return (first, *(_control(name, value, floor) for name, value in found.items()))


FLOOR, CONSTANT = "training images", "mean image"
WHY = {
    "blurred images": f"training images of {COARSE} x {COARSE} pixels, made as large as the others",
    "half of the classes": "the first half of the classes is missing",
    "half of the images": "of the pooled pixels' first principal component, what lies below the median is missing",
    CONSTANT: "the training set's mean and nothing else",
}


def _control(name: str, value: float, floor: float) -> Control:
    apart = value >= APART * floor
    why = WHY[name] if apart else f"{WHY[name]}; on these data it is too near the floor to tell"
    return Control(name=name, value=value, must="fail" if apart else None, why=why)


def _measured(measure: Measure, real: Real, samples: int, classes: int) -> dict[str, float]:
    train, known = real.train, reference(measure, real)
    every = train.every(LIMIT)
    found = _features(measure, train, LIMIT)
    generator = torch.Generator().manual_seed(0)

    def score(of: Tensor) -> float:
        return float(distance(of[torch.randint(len(of), (samples,), generator=generator)], known, "test"))

    values = {FLOOR: score(found)}
    blurred, small, total = [], [], torch.zeros(1)
    for some in torch.split(every, BLOCK):  # as floats, all images of a set may not fit into memory
        images = train.images(some)
        blurred.append(measure.features(_blurred(measure, images)))
        small.append(pooled(images, measure.shape))
        total = total + images.double().sum(0, keepdim=True)
    values["blurred images"] = score(torch.cat(blurred))
    above = _first_component(torch.cat(small))
    values["half of the images"] = score(found[above >= above.median()])
    labels = train.labels(every)
    present = sorted(set(labels.tolist()))
    if classes > 1 and len(present) > 1:
        values["half of the classes"] = score(found[labels >= present[len(present) // 2]])
    return values | {CONSTANT: score(measure.features(total / len(every)))}


def _blurred(measure: Measure, images: Tensor) -> Tensor:
    """Images (n, d) of COARSE x COARSE pixels, in their own size."""
    return torch.nn.functional.interpolate(pooled(images, measure.shape, COARSE), measure.shape[1]).flatten(1)


def _first_component(x: Tensor) -> Tensor:
    """Projections (n,) of points on their first principal component; its largest entry is positive."""
    flat = x.flatten(1)
    axis = torch.linalg.eigh(moments_ddof1(flat).covariance).eigenvectors[:, -1]
    projection: Tensor = flat @ (axis * axis[axis.abs().argmax()].sign())
    return projection


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def threshold(found: tuple[Control, ...]) -> float:
    """Geometric mean of the floor and the mildest control that must fail."""
    mildest = min(control.value for control in found if control.must == "fail")
    return _rounded(math.sqrt(found[0].value * mildest))

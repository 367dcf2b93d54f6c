"""Tasks on a user's image sets: files are read, and what they need is measured, when a task is asked for."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, NamedTuple

from study.data.images import ImageSet, load
from study.errors import UserError, unknown
from study.lazy import torch
from study.metrics.fidelity import EXTRACTORS, check
from study.metrics.images import ms_ssim_diversity
from study.metrics.trials import finite_or_nan
from study.tasks import measures
from study.tasks.base import Control, Snapshot, Task
from study.tasks.drawing import split
from study.tasks.measures import Measure, Real

if TYPE_CHECKING:
    from torch import Tensor


LEAST = 10
"""Samples and test images: what an Inception score in ten parts needs."""
SIMILAR = 5 * 64
"""Samples that MS-SSIM looks at."""


class Data(NamedTuple):
    """What a task on an image set has besides the images.

    Attributes:
        name: Of the task.
        source: Of the data.
        fid: Threshold on the FID.
        anchors: FIDs that score 1 and 0.
        why: Where these come from.
        family: Networks.
        latent: Width of the generator's input.
        similarity: Also measure MS-SSIM.
    """

    name: str
    source: str
    fid: float
    anchors: tuple[float, float]
    why: str
    family: str = "dcgan"
    latent: int = 100
    similarity: bool = False


def _imagenet(side: int) -> Data:
    why = (
        "no reference has this protocol: the threshold and an FID of 300 for a bad start are ours, the floor CIFAR-10's"
    )
    source = "ImageNet (Deng et al. 2009)"
    return Data(f"imagenet{side}", source, 60.0, (5.19, 300.0), why, family="resnet", latent=128)


DATA = {
    "mnist": Data(
        "mnist",
        "MNIST (LeCun et al. 1998), 28 x 28 on 32 x 32 black",
        10.0,
        (1.0, 300.0),
        "the best of Lucic et al. (2018), 10k samples against 10k test images, are 6.7 to 20.3; both anchors are ours",
    ),
    "cifar10": Data(
        "cifar10",
        "CIFAR-10 (Krizhevsky 2009)",
        30.0,
        (5.19, 300.0),
        "10k samples against 10k test images: training images score 5.19 (Kurach et al. 2019), a good DCGAN 28 to 29 "
        "(mimicry); an FID of 300 for a bad start is ours",
    ),
    "celeba": Data(
        "celeba",
        "CelebA (Liu et al. 2015), the middle 108 x 108 resized to 64 x 64",
        45.0,
        (12.6, 300.0),
        "the best of Lucic et al. (2018), 10k samples against 10k images, are 30.0 (WGAN-GP) to 55.0 (NS); the floor "
        "is that of CelebA-HQ at 128 pixels and 3k images (Kurach et al. 2019); an FID of 300 for a bad start is ours",
        similarity=True,
    ),
    **{f"imagenet{side}": _imagenet(side) for side in (32, 64, 128)},
}
OWN = Data("images", "the user's own", 50.0, (5.0, 300.0), "nothing is known of these images: all three are ours")


def from_set(name: str, *, features: str = "inception", samples: int = 10000, threshold: float = 0.0) -> Task:
    """The task of an image set of `DATA`.

    Args:
        name: Of the set.
        features: "pixels", means over 8 x 8 squares of all channels, which need no weights; or one of `EXTRACTORS`.
        samples: Generated images that are measured.
        threshold: Success is a primary metric up to it; 0 for the one that comes with the features.

    Raises:
        UserError: A file or the extractor's weights are missing, or an option is not one.
    """
    refuse_options(name, features, samples, threshold)
    images = load(name)
    return task_of(DATA[name], images, real_of(images), images.shape, features, samples, threshold)


def from_path(
    name: str, *, size: int = 0, features: str = "inception", samples: int = 10000, threshold: float = 0.0
) -> Task:
    """The task `images:PATH` of a folder, an .npz or a Parquet file; options as for `from_set`.

    Args:
        name: "images:PATH".
        size: Side that images are resized to; 0 for the one that they have.
        features: As there.
        samples: As there.
        threshold: As there.
    """
    refuse_options(name, features, samples, threshold)
    images = load(name, size=size or None)
    side = images.shape[1]
    if side < 8 or side & (side - 1):
        raise UserError(f"{name} has images of {side} x {side}: networks need a power of two from 8, such as [size=32]")
    return task_of(OWN._replace(name=name), images, real_of(images), images.shape, features, samples, threshold)


@functools.cache
def real_of(images: ImageSet) -> Real:
    """The splits of a set, once in a process."""
    return Real(split(images, "train"), split(images, "selection"), split(images, "test"), images.fingerprint)


def refuse_options(name: str, features: str, samples: int, threshold: float, *others: str) -> None:
    """Refuse what cannot be, before anything is read; `others` are features that only this task has.

    Raises:
        UserError: An option has such a value.
    """
    if features not in ("pixels", *others, *EXTRACTORS):
        raise unknown(f"features of {name}", features, ["pixels", *others, *EXTRACTORS])
    if samples < LEAST:
        raise UserError(f"{name}: samples = {samples} must be at least {LEAST}")
    if threshold < 0:
        raise UserError(f"{name}: threshold = {threshold:g} must be above 0, or 0 for the one that the features have")
    if features in EXTRACTORS and features != "inception" and not threshold:
        raise UserError(f"{name}: features={features} has no reference: say which threshold, as threshold=100")


def task_of(
    data: Data,
    images: ImageSet,
    real: Real,
    shape: tuple[int, int, int],
    features: str,
    samples: int,
    threshold: float,
) -> Task:
    """The task of images, by pooled pixels or by an extractor."""
    if features == "pixels":
        return measured(data, images, real, measures.pixels(shape), samples, threshold)
    _enough(data, real)
    try:
        check(features)
    except UserError as error:
        raise UserError(f"{error}; features=pixels needs none") from None
    measure = measures.extracted(features, shape)
    metrics = measures.extractor_metrics(measure, samples, real.test.size)
    known = features == "inception" and not threshold
    return _task(
        data,
        images,
        real,
        measure,
        samples,
        metrics=(*metrics, *_similarity(data, samples)),
        threshold=threshold or data.fid,
        anchors=data.anchors if features == "inception" else (threshold / 10, threshold * 10),
        reasoning=data.why if known else "The threshold is the user's; without a reference, anchors are tenfold apart.",
        controls=(Control(name="training images", value=data.anchors[0], must="pass", why=data.why),) if known else (),
    )


def measured(data: Data, images: ImageSet, real: Real, measure: Measure, samples: int, threshold: float = 0.0) -> Task:
    """The task of images by cheap features, with threshold, anchors and controls measured on the user's data."""
    _enough(data, real)
    found = measures.controls(measure, real, samples, images.classes)
    values = {control.name: control.value for control in found}
    return _task(
        data,
        images,
        real,
        measure,
        samples,
        metrics=measures.cheap_metrics(measure, samples, real.test.size),
        threshold=threshold or measures.threshold(found),
        anchors=(values[measures.FLOOR], values[measures.CONSTANT]),
        reasoning=(
            f"Frechet distance of {measure.name} to the test split, in hundredths of the training images' total "
            "variance. It is no FID. The threshold is the geometric mean of the floor, training images at random, "
            "and the mildest control that must fail, all measured on these data; score 1 is the floor, score 0 the "
            "mean image. A Gaussian of the same moments scores 0: pooled pixels see no shapes."
        ),
        controls=() if threshold else found,
    )


def _enough(data: Data, real: Real) -> None:
    fewest = min(real.test.size, real.selection.size)
    if fewest < LEAST:
        raise UserError(
            f"{data.name} has {fewest} images in a held-out split: metrics need at least {LEAST}, so where splits are "
            f"tenths of the images, {10 * LEAST} in all"
        )


def _similarity(data: Data, samples: int) -> list[str]:
    return ["ms_ssim_b64x5_window11_scales5"] if data.similarity and samples >= SIMILAR else []


def _task(
    data: Data,
    images: ImageSet,
    real: Real,
    measure: Measure,
    samples: int,
    *,
    metrics: tuple[str, ...],
    threshold: float,
    anchors: tuple[float, float],
    reasoning: str,
    controls: tuple[Control, ...],
) -> Task:
    def index(uniforms: Tensor) -> Tensor:
        return real.train.drawn(uniforms[..., 0])

    def evaluate(at: Snapshot) -> dict[str, Tensor]:
        known = measures.reference(measure, real)
        values = measures.by_extractor if measure.extractor else measures.cheap
        rows = []
        for one in at.samples:
            *found, selection = values(measure, known, one)
            if len(found) < len(metrics):
                found.append(ms_ssim_diversity(one[None].unflatten(2, measure.shape)))
            rows.append(torch.cat([*found, selection]))
        columns = finite_or_nan(torch.stack(rows).double(), at.samples).unbind(1)
        return dict(zip((*metrics, "selection"), columns, strict=True))

    return Task(
        name=data.name,
        summary=(
            f"{data.source}: {real.train.size} train, {real.selection.size} selection, {real.test.size} test, "
            f"{' x '.join(map(str, measure.shape))}, values in [-1, 1]"
        ),
        source=f"{data.source}; {images.description}",
        fingerprint=real.fingerprint,
        shape=measure.shape,
        bounded=True,
        latent=data.latent,
        batch=64,
        family=data.family,
        draws=1,
        sample=lambda uniforms: real.train.images(index(uniforms)),
        label=(lambda uniforms: real.train.labels(index(uniforms))) if images.classes > 1 else None,
        classes=images.classes,
        rank=(lambda uniforms: real.train.rank(uniforms[..., 0])) if images.classes > 1 else None,
        metrics=metrics,
        primary=metrics[0],
        evaluation_samples=samples,
        evaluate=evaluate,
        threshold=threshold,
        anchors=anchors,
        reasoning=reasoning,
        controls=controls,
    )

"""Handwritten digits, 8 x 8 pixels: real data small enough for thousands of trials on a laptop.

The primary metric is a Frechet distance between the logits of a small classifier (`digits_classifier`). It is no FID:
another network, another scale. Logits rather than the hidden layer before them, because they hold what tells digits
apart and little else: there the gap between well-trained generators and a missing digit is widest.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, NamedTuple

from study.metrics.gaussian import Gaussian, moments_ddof1, moments_of_trials, w2sq_gaussian
from study.metrics.samples import mean_nearest_distance, mean_spacing
from study.metrics.trials import all_finite_or_nan, by_rows
from study.networks.base import tanh
from study.networks.mlp import mlp
from study.tasks import digits_data
from study.tasks.base import Control, Snapshot, Task
from study.tasks.digits_classifier import logits

if TYPE_CHECKING:
    from torch import Tensor


SAMPLES = 2048
HALF = 1024
"""Samples that the distance on pixels looks at, which is there for comparison with the primary metric."""
NEIGHBOURS = 256
"""Samples that the metrics of nearest neighbours look at."""


class References(NamedTuple):
    """What generated samples are measured against.

    Attributes:
        logits: Moments of the test split's logits.
        logits_selection: Those of the selection split.
        logits_variance: Total variance of the training split's logits, the unit of the distance (as 100).
        pixels: Moments of the test split's pixels.
        pixels_variance: Total variance of the training split's pixels.
        fresh: Mean distance of a test image to the nearest training image.
        spacing: Mean distance to the nearest other one among `NEIGHBOURS` training images.
    """

    logits: Gaussian
    logits_selection: Gaussian
    logits_variance: float
    pixels: Gaussian
    pixels_variance: float
    fresh: float
    spacing: float


@functools.cache
def references() -> References:
    """Measure the real data once."""
    train, selection, test = (split.images for split in digits_data.load())
    return References(
        logits=moments_ddof1(logits(test)),
        logits_selection=moments_ddof1(logits(selection)),
        logits_variance=float(moments_ddof1(logits(train)).covariance.trace()),
        pixels=moments_ddof1(test),
        pixels_variance=float(moments_ddof1(train).covariance.trace()),
        fresh=float(mean_nearest_distance(test[None], train)[0]),
        spacing=float(mean_spacing(train[None, :NEIGHBOURS])[0]),
    )


def sample(uniforms: Tensor) -> Tensor:
    """Training images (..., 64), drawn with replacement by uniforms (..., 1)."""
    images = digits_data.load().train.images.to(uniforms.device)
    return images[_index(uniforms, len(images))]


def label(uniforms: Tensor) -> Tensor:
    """The digits (...,) that `sample` draws by the same uniforms (..., 1)."""
    labels = digits_data.load().train.labels.to(uniforms.device)
    return labels[_index(uniforms, len(labels))]


def rank(uniforms: Tensor) -> Tensor:
    """Places (...,) of the same images in the order of `digits_data.places`: labels become known class by class."""
    places = digits_data.places().to(uniforms.device)
    return places[_index(uniforms, len(places))]


def _index(uniforms: Tensor, count: int) -> Tensor:
    return (uniforms[..., 0] * count).long().clamp(max=count - 1)


def evaluate(at: Snapshot) -> dict[str, Tensor]:
    """Metrics of generated samples (c, 2048, 64), each (c,); parameters are not looked at."""
    samples, few, native = at.samples, at.samples[:, :NEIGHBOURS], at.native
    real = references()
    of_logits = moments_of_trials(by_rows(logits, samples, native=native), native=native)
    of_pixels = moments_of_trials(samples[:, :HALF], native=native)
    train = digits_data.load().train.images.to(samples.device)

    def distance(found: Gaussian, reference: Gaussian, variance: float) -> Tensor:
        return 100 / variance * w2sq_gaussian(Gaussian(*(moment.to(samples.device) for moment in reference)), found)

    values = {
        "fd_digitsnet_logits_n2048": distance(of_logits, real.logits, real.logits_variance),
        "fd_pixels_n1024": distance(of_pixels, real.pixels, real.pixels_variance),
        "diversity_n256": mean_spacing(few) / real.spacing,
        "novelty_n256": mean_nearest_distance(few, train) / real.fresh,
        "selection": distance(of_logits, real.logits_selection, real.logits_variance),
    }
    return all_finite_or_nan(values, samples)


def digits() -> Task:
    """The task `digits`; the data are read when it is sampled or evaluated, not before."""
    return Task(
        name="digits",
        version=2,
        summary="8 x 8 images of handwritten digits, values in [-1, 1]; 901 train, 451 selection, 445 test",
        source="data: Alpaydin and Kaynak (1998), shipped with scikit-learn; networks, classifier and protocol: ours",
        shape=(1, 8, 8),
        latent=16,
        batch=64,
        generator=mlp([16, 64, 64, 64], output=tanh),
        discriminator=mlp([64, 64, 64, 1]),
        draws=1,
        sample=sample,
        label=label,
        classes=10,
        rank=rank,
        metrics=("fd_digitsnet_logits_n2048", "fd_pixels_n1024", "diversity_n256", "novelty_n256"),
        primary="fd_digitsnet_logits_n2048",
        evaluation_samples=SAMPLES,
        evaluation_steps=20,
        evaluate=evaluate,
        threshold=0.9,
        anchors=ANCHORS,
        reasoning=REASONING,
        controls=CONTROLS,
    )


ANCHORS = (0.37, 103.0)

REASONING = (
    "The unit is a hundredth of the total variance of real logits. On pixels a fitted Gaussian scores little "
    "worse than a missing digit; the classifier tells it from digits. The threshold lies below the mildest "
    "control that must fail, images without the digit 8 (1.03, sd 0.12 of one evaluation, and a trial is judged "
    "by the median of several). Score 1 is a perfect sampler of the training set, score 0 a constant image. "
    "Memorisation passes, being the best fit to the training data; novelty_n256, the distance to the nearest "
    "training image over that of fresh images, is 0 then and near 1 for new images. diversity_n256, the distance "
    "between neighbours over that in the training set, is 0 for copies, and near 0 where few are lone."
)

CONTROLS = (
    Control(
        name="memorised training set",
        value=0.37,
        must="pass",
        why="the best fit to the training data; novelty_n256 is 0",
    ),
    Control(name="fresh images", value=0.32, must="pass", why="the selection split, drawn with replacement"),
    Control(name="no 8", value=1.03, must="fail", why="one digit missing, the one it is least visible for"),
    Control(name="no 9", value=1.60, must="fail", why="one digit missing"),
    Control(name="no 1", value=1.58, must="fail", why="one digit missing"),
    Control(name="no 4", value=4.10, must="fail", why="one digit missing, the one it is most visible for"),
    Control(name="noisy images", value=1.36, must="fail", why="training images and noise of standard deviation 0.3"),
    Control(name="ten class means", value=1.98, must="fail", why="ten images in all; diversity_n256 is 0"),
    Control(
        name="50 images copied",
        value=4.8,
        must="fail",
        why="fifty images in all; depends on which (sd 3), diversity_n256 is near 0 for any",
    ),
    Control(
        name="Gaussian fitted to pixels", value=6.8, must="fail", why="right mean and covariance of pixels, no digits"
    ),
    Control(name="uniform noise", value=60.2, must="fail", why="no structure at all"),
    Control(name="constant image", value=102.7, must="fail", why="the training set's mean"),
    Control(name="untrained generator", value=107.7, must="fail", why="the start"),
    Control(name="one class only", value=198.6, must="fail", why="zeros and nothing else"),
)

"""The user's MNIST: as it is, stacked to a thousand modes, and tinted. Files are read when a task is asked for.

Images of 28 x 28 pixels are put in the middle of 32 x 32, black around them, as convolutional networks need it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from study.data.images import load
from study.errors import UserError
from study.lazy import torch
from study.metrics.divergence import mean_kl_to_uniform
from study.tasks import measures, mnist_classifier
from study.tasks.base import Control, Snapshot, Task
from study.tasks.digit_sets import CLASSES, DigitSet
from study.tasks.kept import kept
from study.tasks.measures import Measure, Real
from study.tasks.mnist_classifier import SIDE
from study.tasks.pictures import DATA, measured, refuse_options, task_of
from study.tasks.stacked import MODES, Stacked
from study.tasks.tinted import Tinted

if TYPE_CHECKING:
    from torch import Tensor


LATENT = 100
"""As in Radford et al. (2016)."""
DIGITS = DigitSet(SIDE, "mnistnet", mnist_classifier.mnist, mnist_classifier.logits)
CONSTRUCTIONS = ("stacked", "tinted")


def mnist(*, features: str = "classifier", samples: int = 10000, threshold: float = 0.0) -> Task:
    """MNIST padded to 32 x 32, grey.

    Args:
        features: "classifier", the logits of a classifier trained on the same files; or as for other image sets.
        samples: Generated images that are measured.
        threshold: Success is a primary metric up to it; 0 for the one that comes with the features.
    """
    refuse_options("mnist", features, samples, threshold, "classifier")
    images = load("mnist")
    train, selection, test = (mnist_classifier.mnist(name) for name in ("train", "selection", "test"))
    real = Real(train, selection, test, images.fingerprint)
    if features != "classifier":
        return task_of(DATA["mnist"], images, real, (1, SIDE, SIDE), features, samples, threshold)
    found = mnist_classifier.classifier()
    real = real._replace(fingerprint=f"{images.fingerprint}+{found.sha256[:16]}")
    measure = Measure("mnistnet_logits", (1, SIDE, SIDE), mnist_classifier.logits)
    return measured(DATA["mnist"], images, real, measure, samples, threshold)


def stacked_mnist(*, samples: int = 26000) -> Task:
    """Three random MNIST digits as red, green and blue, 32 x 32: 1,000 modes, counted among `samples` images."""
    _at_least(samples, MODES, "stacked-mnist")
    made, images, floor = Stacked(DIGITS, samples), load("mnist"), round(mean_kl_to_uniform(samples, MODES), 4)
    return Task(
        name="stacked-mnist",
        summary="three handwritten digits as red, green and blue, 28 x 28 on 32 x 32 black: 1,000 modes",
        source="Metz et al. (2017); protocol of PacGAN and VEEGAN, the stricter count of Thanh-Tung et al. (2019)",
        fingerprint=f"{images.fingerprint}+{mnist_classifier.classifier().sha256[:16]}",
        shape=(3, SIDE, SIDE),
        bounded=True,
        latent=LATENT,
        family="dcgan",
        draws=3,
        sample=made.sample,
        label=made.label,
        classes=MODES,
        metrics=made.metrics,
        primary=made.metrics[0],
        evaluation_samples=samples,
        evaluate=made.evaluate,
        threshold=0.6,
        anchors=(floor, 6.91),
        reasoning=(
            f"As stacked-digits. Of {samples} samples of a perfect sampler the reverse KL is {floor} nats on average "
            "(score 1), and clearly less means an error; one mode is log 1000 (score 0). The threshold lies below log "
            "2, half of the modes missing; the classifier's errors put a few samples into missing ones."
        ),
        controls=(
            Control(name="perfect sampler", value=floor, must="pass", why="the mean of so many samples"),
            Control(name="500 modes", value=0.693, must="fail", why="log 2, if the classifier makes no error"),
            Control(name="100 modes", value=2.303, must="fail", why="log 10, if the classifier makes no error"),
            Control(name="one mode", value=6.908, must="fail", why="log 1000"),
        ),
    )


def color_mnist(*, construction: str = "stacked", samples: int = 10000) -> Task:
    """Color MNIST, of which it is not known how Fedus et al. (2018) made it.

    Args:
        construction: "stacked", three digits as the channels, which is `stacked-mnist`; or "tinted", one digit in a
            random colour.
        samples: Generated images that are measured.
    """
    if construction not in CONSTRUCTIONS:
        raise UserError(f"color-mnist: construction = {construction!r} must be {' or '.join(CONSTRUCTIONS)}")
    if construction == "stacked":
        return stacked_mnist(samples=samples)
    _at_least(samples, 2, "color-mnist")
    made, images = Tinted(DIGITS, samples), load("mnist")
    fingerprint = f"{images.fingerprint}+{mnist_classifier.classifier().sha256[:16]}"
    controls = _tinted_controls(made, fingerprint)
    values = {control.name: control.value for control in controls}
    return Task(
        name="color-mnist",
        summary="handwritten digits in a colour of their own, 28 x 28 on 32 x 32 black",
        source="idea: Fedus et al. (2018), whose construction is not known",
        fingerprint=fingerprint,
        shape=(3, SIDE, SIDE),
        bounded=True,
        latent=LATENT,
        family="dcgan",
        draws=2,
        sample=made.sample,
        label=made.label,
        classes=CLASSES,
        rank=made.rank,
        metrics=made.metrics,
        primary=made.metrics[0],
        evaluation_samples=samples,
        evaluate=made.evaluate,
        threshold=measures.threshold(controls),
        anchors=(values[measures.FLOOR], values[measures.CONSTANT]),
        reasoning=(
            "As color-digits, in hundredths of the variance of the classifier's logits. The controls are measured on "
            "these files; the threshold is the geometric mean of the floor and the mildest control that must fail, "
            "score 1 is a perfect sampler of the training digits, score 0 their mean."
        ),
        controls=controls,
    )


def _tinted_controls(made: Tinted, fingerprint: str) -> tuple[Control, ...]:
    """Tinted digits of known quality, measured in a fixed way and kept on disk."""

    def make() -> dict[str, Tensor]:
        uniforms = torch.rand(4 * made.samples, 2, generator=torch.Generator().manual_seed(0)).clamp(1e-6, 1 - 1e-6)
        others = uniforms[made.label(uniforms) != MISSING]
        plain = torch.stack([uniforms[:, 0], torch.full_like(uniforms[:, 0], 0.5)], -1)
        mean = made.sample(uniforms[: made.samples]).mean(0)
        shown = {
            measures.FLOOR: made.sample(uniforms[: made.samples]),
            f"no {MISSING}": made.sample(others[: made.samples]),
            "one colour": made.sample(plain[: made.samples]),
            measures.CONSTANT: mean.expand(made.samples, -1),
        }
        return {name: made.evaluate(Snapshot({}, x[None]))[made.metrics[0]][0] for name, x in shown.items()}

    tensors, _ = kept("tinted", f"{fingerprint} {made.samples}", make)
    found = {name: float(f"{float(value):.3g}") for name, value in tensors.items()}
    floor = found[measures.FLOOR]
    return tuple(
        Control(
            name=name,
            value=value,
            must="pass" if name == measures.FLOOR else "fail" if value >= measures.APART * floor else None,
            why=TINTED[name],
        )
        for name, value in sorted(found.items(), key=lambda pair: (pair[0] != measures.FLOOR, pair[1]))
    )


MISSING = 8
"""Of all digits of color-digits the one whose absence shows least."""
TINTED = {
    measures.FLOOR: "a perfect sampler of the training set",
    f"no {MISSING}": "one digit missing",
    "one colour": "all digits, in one colour",
    measures.CONSTANT: "the training set's mean and nothing else",
}


def _at_least(samples: int, least: int, name: str) -> None:
    if samples < least:
        raise UserError(f"{name}: samples = {samples} must be at least {least}")

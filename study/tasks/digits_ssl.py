"""Digits with few labels: the discriminator is a classifier, which the unlabelled images and the game are to help.

Semi-supervised learning of Salimans et al. (2016) with the loss `ssl`. Data and networks are those of `digits`; the
labels that are known belong to the first `labelled` training images in an order that takes the classes in turn.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from study.metrics.trials import all_finite_or_nan
from study.tasks import digits_data
from study.tasks.base import Control, Snapshot, Task
from study.tasks.critics import show
from study.tasks.digits import digits
from study.tasks.digits_critic import frechet_to_test
from study.tasks.digits_data import Split

if TYPE_CHECKING:
    from torch import Tensor


def evaluate(at: Snapshot) -> dict[str, Tensor]:
    """Errors of the discriminators as classifiers, and the generators' distance as in `digits`, each (c,)."""
    samples, data = at.samples, digits_data.load()

    def classes(split: Split) -> Tensor:
        return show(at, at.critic, split.images.to(samples.device), trials=len(samples), batch=digits().batch)

    def error(outputs: Tensor, split: Split) -> Tensor:
        right = split.labels.to(outputs.device)
        return (outputs.argmax(-1) != right).double().mean(-1)

    test, kept, train = classes(data.test), classes(data.selection), classes(data.train)
    values = {
        "error_n445": error(test, data.test),
        "error_train": error(train, data.train),
        FRECHET: frechet_to_test(at),
        "selection": error(kept, data.selection),
    }
    return all_finite_or_nan(values, test, kept, train)


FRECHET = "fd_digitsnet_logits_n2048"


def digits_ssl() -> Task:
    """The task `digits-ssl`: data and networks are those of `digits`."""
    return replace(
        digits(),
        name="digits-ssl",
        version=1,
        summary="digits of which only some have a known label: how well does the discriminator classify?",
        source="after Salimans et al. (2016), section 5; data and networks as digits, protocol and anchors: ours",
        metrics=("error_n445", "error_train", FRECHET),
        primary="error_n445",
        evaluation_steps=15,
        evaluate=evaluate,
        looks_at_critic=True,
        losses=("ssl",),
        threshold=0.1,
        anchors=(0.01, 0.9),
        reasoning=REASONING,
        controls=CONTROLS,
    )


REASONING = (
    "The error on images held out is what the labels were wanted for. The threshold lies below what the 100 labels "
    "give that are known by default, without the other images (nearest neighbours 0.15, this network 0.18), and above "
    "what spreading them over the other images gives (0.07), which shows that these help. With another number of "
    "labels it is the same threshold and another question. Score 0 is guessing, score 1 about the error with all 901 "
    "labels. The distance of generated images is that of digits: a better classifier may come with worse images."
)

CONTROLS = (
    Control(name="digits classifier", value=0.0135, must="pass", why="the shipped network, trained with all labels"),
    Control(name="nearest of all", value=0.0157, must="pass", why="the nearest training image's label, all known"),
    Control(
        name="labels spread",
        value=0.0697,
        must="pass",
        why="100 labels, spread over a graph of the training images' ten nearest neighbours (Zhou et al. 2004)",
    ),
    Control(name="nearest of 100", value=0.1506, must="fail", why="the nearest labelled image's label"),
    Control(
        name="network on 100",
        value=0.179,
        must="fail",
        why="the discriminator's network, 1000 steps on the 100 labels alone; sd 0.005 over starts",
    ),
    Control(name="one class for all", value=0.901, must="fail", why="chance"),
)

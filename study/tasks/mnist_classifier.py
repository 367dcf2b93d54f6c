"""The classifier that the tasks on MNIST count digits with: trained on the user's own files when it is first needed.

Unlike the one for 8 x 8 digits it is not shipped, as the data are not. Another machine may round its training
differently, so its hash is part of the trials' fingerprint. What accuracy the real MNIST gives was not measured; the
same kind of network on its pixels, without noise, is known to reach about 98 %.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, NamedTuple

from study.data.images import ImageSet, cache_folder, load, root
from study.errors import UserError
from study.lazy import torch
from study.networks.base import Network
from study.networks.mlp import mlp
from study.tasks.digits_classifier import BATCH, fit
from study.tasks.digits_data import Split
from study.tasks.drawing import Drawn, say, split
from study.tasks.kept import kept

if TYPE_CHECKING:
    from torch import Tensor


SIDE = 32
"""Side that MNIST's images of 28 are brought to, by two pixels of black all round: convolutions halve powers of two."""
RECIPE = 1
"""Raised when anything below changes."""
SEED = 1
EPOCHS, UPDATES = 8, 1500
"""At least so many, both; the second is what few images need."""
LEAST = 0.9
"""Share of the selection split that it must get right. The errors of 10 % put every third triple into another mode."""
BLOCK = 4096


class Classifier(NamedTuple):
    """A trained classifier.

    Attributes:
        parameters: Float64.
        sha256: Of its file.
        accuracy: Share of the selection split that it gets right.
    """

    parameters: dict[str, Tensor]
    sha256: str
    accuracy: float


def network() -> Network:
    """256-128-32-10 with ReLU, from means of 2 x 2 pixels (b, 256) to logits (b, 10)."""
    return mlp([(SIDE // 2) ** 2, 128, 32, 10], hidden=torch.relu)


def halved(images: Tensor) -> Tensor:
    """Means of 2 x 2 pixels, (n, 256), of images (n, 1024)."""
    return torch.nn.functional.avg_pool2d(images.reshape(-1, 1, SIDE, SIDE), 2).flatten(1)


def logits(images: Tensor) -> Tensor:
    """Logits (n, 10), float64, of images (n, 1024) in [-1, 1]."""
    parameters = {name: value.to(images.device) for name, value in classifier().parameters.items()}
    parts = [network().apply(parameters, halved(part.double())) for part in torch.split(images, BLOCK)]
    return torch.cat(parts)


def mnist(name: str) -> Drawn:
    """A split of the user's MNIST, 32 x 32."""
    return _mnist(name, _images())


@functools.cache
def _mnist(name: str, images: ImageSet) -> Drawn:
    return split(images, name, side=SIDE)


def _images() -> ImageSet:
    return load("mnist")


def classifier() -> Classifier:
    """The classifier of the user's MNIST, trained if the cache folder has none.

    Raises:
        UserError: There is no MNIST, or the classifier gets too little of its selection split right.
    """
    return _classifier(str(root()), str(cache_folder()))


@functools.cache
def _classifier(_root: str, _cache: str) -> Classifier:
    key = f"{_images().fingerprint} {RECIPE}"
    found, sha256 = kept("mnist-classifier", key, _train)
    accuracy = float(found.pop("accuracy"))
    about = f"the digit classifier of this MNIST gets {accuracy:.2%} of its selection split right"
    if accuracy < LEAST:
        raise UserError(f"{about}: counting modes by it needs {LEAST:.0%}; are images and labels those of MNIST?")
    say(f"{about}; sha256 {sha256}")
    return Classifier({name: value.double() for name, value in found.items()}, sha256, accuracy)


def _train() -> dict[str, Tensor]:
    train, selection = (_all(mnist(name)) for name in ("train", "selection"))
    say(f"training a digit classifier on {len(train.labels)} images")
    epochs = max(EPOCHS, math.ceil(UPDATES * BATCH / len(train.labels)))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # sums in another order would give another classifier
    try:
        parameters = fit(network(), train, seed=SEED, epochs=epochs)
    finally:
        torch.set_num_threads(threads)
    right = network().apply(parameters, selection.images).argmax(1) == selection.labels
    return parameters | {"accuracy": right.double().mean()}


def _all(part: Drawn) -> Split:
    index = torch.arange(part.size)
    images = torch.cat([halved(part.images(some)) for some in torch.split(index, BLOCK)])
    return Split(images, part.labels(index))

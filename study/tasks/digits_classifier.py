"""The small classifier whose logits the digits task compares distributions in.

Its weights are shipped, because training rounds differently on other machines and a metric must not. To train it anew:
`python -m study.tasks.digits_classifier`, then raise the task's version, record the new hash and measure the controls.
"""

from __future__ import annotations

import functools
import hashlib
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from study.errors import UserError
from study.lazy import torch
from study.networks.base import Network
from study.networks.mlp import mlp
from study.tasks import digits_data
from study.tasks.digits_data import Split

if TYPE_CHECKING:
    from torch import Tensor


PATH = Path(__file__).with_suffix(".safetensors")
SHA256 = "6bc5c97a24ae94c42ffb580fab86f649e5cc8bba33c8cec45e4590fcc4347109"

SEED = 1
EPOCHS = 60
BATCH = 64
GAIN = math.sqrt(6)
"""Over the default start, which is narrow: with it the weights of a ReLU layer start as He et al. (2015) have them."""
LEARNING_RATE = 2e-3
WEIGHT_DECAY = 1e-3
NOISE = 0.5
"""Standard deviation of the noise on training images: it makes the logits smooth enough to compare generators by."""


def network() -> Network:
    """The classifier: 64-128-32-10 with ReLU, from images (b, 64) to logits (b, 10)."""
    return mlp([64, 128, 32, 10], hidden=torch.relu)


def logits(images: Tensor) -> Tensor:
    """The shipped classifier's logits (n, 10), float32, for images (n, 64)."""
    parameters = {name: value.to(images.device) for name, value in _single().items()}
    return network().apply(parameters, images.float())


@functools.cache
def _single() -> dict[str, Tensor]:
    return {name: value.float() for name, value in load().items()}


def train(split: Split, *, seed: int) -> dict[str, Tensor]:
    """Train the classifier on a split with Adam and noisy images; the same bits for the same seed and machine."""
    return fit(network(), split, seed=seed, epochs=EPOCHS)


def fit(net: Network, split: Split, *, seed: int, epochs: int) -> dict[str, Tensor]:
    """Train a network to classify a split as `train` does; its parameters start as an `mlp`'s, `GAIN` times as wide."""
    generator = torch.Generator().manual_seed(seed)
    start = net.initialise(torch.rand(net.size, generator=generator))
    parameters = {name: (GAIN * value).requires_grad_() for name, value in start.items()}
    optimiser = torch.optim.Adam(parameters.values(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    for _ in range(epochs):
        order = torch.randperm(len(split.images), generator=generator)
        for first in range(0, len(order), BATCH):
            index = order[first : first + BATCH]
            images = split.images[index]
            noisy = images + NOISE * torch.randn(images.shape, generator=generator)
            loss = torch.nn.functional.cross_entropy(net.apply(parameters, noisy), split.labels[index])
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
    return {name: value.detach() for name, value in parameters.items()}


def accuracy(parameters: dict[str, Tensor], split: Split) -> float:
    """Share of a split's images that are classified correctly."""
    images = split.images.to(next(iter(parameters.values())).dtype)
    return float((network().apply(parameters, images).argmax(1) == split.labels).double().mean())


def read(path: Path, sha256: str) -> dict[str, Tensor]:
    """Read parameters as float64.

    Raises:
        UserError: The file is missing or is not the one of that hash.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(
            f"the digits classifier {path} cannot be read ({error.strerror}): reinstall manypaths"
        ) from error
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise UserError(
            f"the digits classifier {path} has sha256 {found}, not {sha256}: metrics made with it would not be "
            "comparable; reinstall manypaths"
        )
    from safetensors.torch import load

    return {name: value.double() for name, value in load(content).items()}


@functools.cache
def load() -> dict[str, Tensor]:
    """The shipped parameters, float64, read once."""
    return read(PATH, SHA256)


def main() -> None:
    """Train on the training split, write the weights beside this file, and say their hash and accuracy."""
    torch.set_num_threads(1)
    data = digits_data.load()
    parameters = train(data.train, seed=SEED)
    from safetensors.torch import save

    content = save(parameters)
    PATH.write_bytes(content)
    report = f"sha256 {hashlib.sha256(content).hexdigest()}, test accuracy {accuracy(parameters, data.test):.4f}\n"
    sys.stdout.write(report)


if __name__ == "__main__":
    main()

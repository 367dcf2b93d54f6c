"""The families of networks, by the name that a sweep's `network` says."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from study.networks.base import Pair as Pair
from study.networks.dcgan import dcgan, random_architecture
from study.networks.mlp import perceptrons
from study.networks.resnet import resnet

Family: TypeAlias = Callable[..., Pair]
"""Called as family(latent, shape, bounded=...): the numbers in a latent, the shape of a sample, and whether samples are
in [-1, 1], where generators end in a tanh. ValueError, in one sentence, where it does not fit the shape."""

NETWORKS: dict[str, Family] = {
    "mlp": perceptrons,
    "dcgan": dcgan,
    "resnet": resnet,
    "random": random_architecture,
}

"""The 1797 handwritten digits that scikit-learn ships, split in a fixed way; read when first asked for."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from study.lazy import torch
from study.tasks import labelling

if TYPE_CHECKING:
    from torch import Tensor


FOLD_OF = (0, 1, 0, 2)
"""Fold (train 0, selection 1, test 2) of a class's images in turn, so that folds match in class and in writers."""


class Split(NamedTuple):
    """Images of shape (n, 64), float32 in [-1, 1] row by row, and labels of shape (n,)."""

    images: Tensor
    labels: Tensor


class Digits(NamedTuple):
    """The three splits: 901, 451 and 445 images."""

    train: Split
    selection: Split
    test: Split


@functools.cache
def load() -> Digits:
    """Read and split the images (Alpaydin and Kaynak 1998, 8 x 8 pixels, 17 grey levels)."""
    from sklearn.datasets import load_digits

    pixels, classes = load_digits(return_X_y=True)
    fold = np.asarray(FOLD_OF)[labelling.turns(classes) % len(FOLD_OF)]
    images = torch.tensor(pixels / 8 - 1, dtype=torch.float32)
    labels = torch.tensor(classes)
    return Digits(*(Split(images[fold == i], labels[fold == i]) for i in range(3)))


@functools.cache
def places() -> Tensor:
    """Each training image's place (901,), int64, in the order in which labels become known."""
    return torch.tensor(labelling.places(load().train.labels.numpy()))

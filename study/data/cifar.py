"""CIFAR-10 in the three forms that are about."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from study.data.arrays import npz
from study.data.contents import Contents, Part, Pixels, Source, chunks, file_at, gather, missing
from study.data.pickles import read_pickle
from study.data.pictures import Form
from study.data.tables import parquet
from study.errors import UserError

SHAPE, CLASSES = (3, 32, 32), 10
BATCHES = {"train": [f"data_batch_{i}" for i in range(1, 6)], "test": ["test_batch"]}


def cifar10(root: Path) -> Source:
    """CIFAR-10 (Krizhevsky 2009), 32 x 32, colour, ten classes; its test images are the test split.

    The first that is there of `cifar-10-batches-py/` (the published pickles, read without running them), `cifar10/`
    (Parquet files, see `tables.parquet`) and `cifar10.npz` (see `arrays.npz`).

    Raises:
        UserError: If none is there, or a batch is missing.
    """
    pickles, folder, arrays = root / "cifar-10-batches-py", root / "cifar10", root / "cifar10.npz"
    if pickles.is_dir():
        return _pickles(root, pickles)
    form = Form(expected=(SHAPE[2], SHAPE[1]), channels=3)
    if any(folder.glob("*.parquet")):
        source = parquet("cifar10", folder, form, CLASSES)
    elif arrays.is_file():
        source = npz("cifar10", arrays, form, CLASSES)
    else:
        raise missing("cifar10", root, "cifar-10-batches-py/data_batch_1", "cifar10/*.parquet", "cifar10.npz")

    def read() -> Contents:
        contents = source.read()
        if contents.shape != SHAPE or contents.classes != CLASSES:
            raise UserError(f"{source.place} has grey images or no labels: cifar10 is in colour and has ten classes")
        return contents

    return replace(source, read=read)


def _pickles(root: Path, folder: Path) -> Source:
    """The published files."""
    for path in (folder / name for names in BATCHES.values() for name in names):
        if not path.is_file():
            raise missing("cifar10", root, str(path.relative_to(root)))

    def read() -> Contents:
        parts = {}
        for split, names in BATCHES.items():
            pixels, labels = zip(*(_batch(folder / name) for name in names), strict=True)
            joined = np.concatenate(pixels)
            parts[split] = Part(len(joined), [label for some in labels for label in some], chunks(joined))
        return gather(folder, SHAPE, parts, CLASSES)

    files = [file_at(folder / name, folder) for names in BATCHES.values() for name in names]
    return Source("pickles", "cifar10", "as published", folder, files, "", read)


def _batch(path: Path) -> tuple[Pixels, list[int | str]]:
    """Pixels (n, 3, 32, 32) and labels of one pickle."""
    content = read_pickle(path)
    data, labels = (content.get(key) if isinstance(content, dict) else None for key in (b"data", b"labels"))
    if not isinstance(data, np.ndarray) or data.ndim != 2 or data.shape[1] != 3072 or not isinstance(labels, list):
        raise UserError(
            f"{path} is no batch of CIFAR-10: a dict is needed, of data, uint8 (n, 3072), and labels, a list"
        )
    if len(data) != len(labels) or any(type(label) is not int for label in labels):
        raise UserError(f"{path} has {len(data)} images and {len(labels)} labels: one whole number for each is needed")
    return data.reshape(-1, *SHAPE), labels

"""Images in NumPy's .npz files."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from study.data.contents import Contents, Part, Pixels, Source, chunks, file_at, gather, missing, reason
from study.data.pictures import Form, array, picture
from study.errors import UserError

BROKEN = (OSError, ValueError, EOFError, TypeError, RuntimeError, MemoryError, zipfile.BadZipFile, zlib.error)
"""What NumPy and zipfile raise for files that are no .npz files, or half of one."""


def npz(name: str, path: Path, form: Form, classes: int | None = None) -> Source:
    """The arrays `images` and `labels`, and, for a test split of its own, `test_images` and `test_labels`.

    Images are uint8 of shape (n, h, w), (n, h, w, c) or (n, c, h, w) with 1 or 3 channels; labels, if any, whole
    numbers or texts of shape (n,).
    """

    def read() -> Contents:
        arrays = members(path, ["images"], ["labels", "test_images", "test_labels"])
        parts, shapes = {}, {}
        for split, before in {"train": "", "test": "test_"}.items():
            images, labels = arrays.get(f"{before}images"), arrays.get(f"{before}labels")
            if images is None:
                continue
            pixels = channels_first(f"{before}images of {path}", images)
            shapes[split] = _side(f"{before}images of {path}", pixels, form)
            parts[split] = Part(len(pixels), _listed(f"{before}labels of {path}", labels), _cut(pixels, form))
        if len(set(shapes.values())) > 1:
            raise UserError(
                f"{path} has images of {shapes['train']} and test_images of {shapes['test']}: one is needed"
            )
        return gather(path, shapes["train"], parts, classes)

    return Source("npz", name, str(form), path, [file_at(path, path.parent)], f"{form!r} {classes}", read)


def members(path: Path, needed: Sequence[str], others: Sequence[str] = ()) -> dict[str, NDArray[Any]]:
    """Arrays of an .npz file by name: those that are needed, and of the others those that are there.

    Raises:
        UserError: If it is not a whole .npz file, or an array is missing or one of Python objects, which only a pickle
            can hold.
    """
    try:
        with path.open("rb") as file:
            if not zipfile.is_zipfile(file):
                raise UserError(f"{path} is not a whole .npz file")
            file.seek(0)
            with np.load(file, allow_pickle=False) as arrays:
                lacking = [name for name in needed if name not in arrays]
                if lacking:
                    raise UserError(f"{path} has no array {lacking[0]}: it has {', '.join(arrays) or 'none'}")
                return {name: arrays[name] for name in (*needed, *others) if name in arrays}
    except BROKEN as error:
        raise UserError(f"{path} is not a whole .npz file of numbers and texts: {reason(error)}") from None


def channels_first(what: str, images: NDArray[Any]) -> Pixels:
    """Images as (n, c, h, w).

    Raises:
        UserError: If they are not uint8, or it cannot be told which axis holds the channels.
    """
    rule = "images are uint8 of shape (n, h, w), (n, h, w, c) or (n, c, h, w) with 1 or 3 channels"
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or not images.size:
        raise UserError(f"{what} are {images.dtype} of shape {images.shape}: {rule}")
    if images.ndim == 3:
        return images[:, None]
    first, last = (images.shape[axis] in (1, 3) for axis in (1, 3))
    if first == last:
        found = "both" if first else "neither"
        raise UserError(f"{what} have shape {images.shape}, where {found} of the axes 1 and 3 may be channels: {rule}")
    return images if first else images.transpose(0, 3, 1, 2)


def _side(what: str, pixels: Pixels, form: Form) -> tuple[int, int, int]:
    """The shape that images (n, c, h, w) get."""
    side = form.side(what, pixels.shape[3], pixels.shape[2])
    return pixels.shape[1], side, side


def _cut(pixels: Pixels, form: Form) -> Iterator[Pixels]:
    """Images (n, c, h, w), cropped and resized, in blocks."""
    for block in chunks(pixels):
        if form.size or form.crop:
            yield np.stack([array(form.cut(picture(image))) for image in block])
        else:
            yield block


def _listed(what: str, labels: NDArray[Any] | None) -> list[int | str] | None:
    """Labels as Python's own numbers or texts.

    Raises:
        UserError: If they are neither.
    """
    if labels is None:
        return None
    if labels.ndim != 1 or labels.dtype.kind not in "iuU":
        raise UserError(f"{what} are {labels.dtype} of shape {labels.shape}: labels are whole numbers or texts, (n,)")
    listed: list[int | str] = labels.tolist()
    return listed


def batches(root: Path, side: int) -> Source:
    """ImageNet as Chrabaszcz, Loshchilov and Hutter (2017) resized it, in `imagenet<side>/`: 10 .npz files and one.

    train_data_batch_1.npz to 10 and val_data.npz, with `data`, uint8 of shape (n, 3 * side * side), and `labels` from
    1 on. Their numbering of classes is their own, not the order of WordNet numbers; val_data is the test split.
    """
    name = f"imagenet{side}"
    folder = root / name
    paths = {"train": [folder / f"train_data_batch_{i}.npz" for i in range(1, 11)], "test": [folder / "val_data.npz"]}
    for path in chain(*paths.values()):
        if not path.is_file():
            raise missing(name, root, str(path.relative_to(root)))

    def pixels(split: str, counts: Sequence[int]) -> Iterator[Pixels]:
        for path, count in zip(paths[split], counts, strict=True):
            data = members(path, ["data"])["data"]
            if data.dtype != np.uint8 or data.shape != (count, 3 * side * side):
                rule = f"uint8, ({count}, {3 * side * side}), is needed for its {count} labels"
                raise UserError(f"data of {path} is {data.dtype} of shape {data.shape}: {rule}")
            yield from chunks(data.reshape(-1, 3, side, side))

    def read() -> Contents:
        parts = {}
        for split in paths:
            labels = [_listed(f"labels of {path}", members(path, ["labels"])["labels"]) or [] for path in paths[split]]
            counts = [len(some) for some in labels]
            parts[split] = Part(sum(counts), list(chain(*labels)), pixels(split, counts))
        return gather(folder, (3, side, side), parts)

    files = [file_at(path, folder) for path in chain(*paths.values())]
    return Source("batches", name, "as published by Chrabaszcz et al.", folder, files, str(side), read)

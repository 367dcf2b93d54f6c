"""Image sets by name, or `images:PATH` for any folder, .npz or Parquet file of pictures.

Files lie below one folder, the data root (`root`), and are only read. They are decoded once per node into the cache
folder (`cache_folder`) and mapped into memory from there, so that all processes share one copy. Every set has a
training, a selection and a test split: its own where it has them, else fixed tenths of the training images
(`splits.assign`). Duplicates are not looked for.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from study.data.arrays import npz
from study.data.cache import Split as Split
from study.data.cache import entry
from study.data.cifar import cifar10
from study.data.contents import Source
from study.data.idx import mnist
from study.data.pictures import Form
from study.data.tables import parquet
from study.data.trees import celeba, imagenet, pictures
from study.errors import UserError, unknown

SETS: dict[str, Callable[..., Source]] = {
    "mnist": mnist,
    "cifar10": cifar10,
    "celeba": celeba,
    "imagenet32": functools.partial(imagenet, side=32),
    "imagenet64": functools.partial(imagenet, side=64),
    "imagenet128": functools.partial(imagenet, side=128),
}
PREFIX = "images:"


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images in three splits that share none.

    Attributes:
        name: What the user called it.
        shape: (c, h, w) of every image; h = w; c is 1 or 3.
        classes: Number of classes; 1 where there are no labels.
        train: What to train on.
        selection: What to choose by.
        test: What to report.
        fingerprint: Of decoded pixels, labels and splits, 16 hex digits: the same for the same pictures in the same
            order, whatever their file format.
        description: What became of the pictures (crop, size), in words.
    """

    name: str
    shape: tuple[int, int, int]
    classes: int
    train: Split
    selection: Split
    test: Split
    fingerprint: str
    description: str


def root() -> Path:
    """The folder that image sets lie in: environment variable MANYPATHS_DATA, else `data` in the current folder."""
    return Path(os.environ.get("MANYPATHS_DATA") or "data").expanduser().absolute()


def cache_folder() -> Path:
    """Where prepared sets are kept: environment variable MANYPATHS_CACHE, else ~/.cache/manypaths."""
    return Path(os.environ.get("MANYPATHS_CACHE") or "~/.cache/manypaths").expanduser().absolute()


def load(source: str, *, size: int | None = None, crop: int | None = None) -> ImageSet:
    """An image set, prepared if it is not, its arrays mapped into memory read-only.

    `images:PATH`, PATH relative to the data root or absolute, is a folder of pictures or of one folder per class
    (`trees.pictures`), an .npz file (`arrays.npz`), or a Parquet file or folder of them (`tables.parquet`).
    Pictures are grey if all are, and RGB if one is not; by the file, not by what colours occur in it.

    Args:
        source: A name in `SETS` or `images:PATH`.
        size: Side to resize to, for celeba (64 if None) and images:PATH; None: all need one square size.
        crop: Side of the square cut from the middle before, for celeba (108 if None) and images:PATH.

    Raises:
        UserError: If a file is missing or is not what it should be; one sentence says which, and what it should be.
    """
    return _load(source, size, crop, root(), cache_folder())


@functools.cache
def _load(source: str, size: int | None, crop: int | None, folder: Path, cache: Path) -> ImageSet:
    found = find(source, folder, size, crop)
    return ImageSet(source, *entry(found, cache), found.description)


def find(source: str, folder: Path, size: int | None = None, crop: int | None = None) -> Source:
    """A set's files below a data root, as in `load`."""
    options = {name: value for name, value in {"size": size, "crop": crop}.items() if value is not None}
    for name, value in options.items():
        if value < 1:
            raise UserError(f"{source}: {name} = {value}: a side is at least 1 pixel")
    if source in SETS:
        if options and source != "celeba":
            raise UserError(f"{source} has one size and takes no {next(iter(options))}: celeba and images:PATH do")
        return SETS[source](folder, **options)
    if not source.startswith(PREFIX):
        raise unknown("image set", source, [*SETS, "images:PATH"])
    path = folder / Path(source.removeprefix(PREFIX)).expanduser()
    form = Form(size, crop)
    if path.is_dir():
        return pictures(source, path, form)
    if not path.is_file():
        raise UserError(f"{source}: there is no {path}; a relative PATH is looked for in MANYPATHS_DATA")
    if path.suffix not in READERS:
        raise UserError(f"{source}: {path} is a file of another kind: a folder, {' or '.join(READERS)} is needed")
    return READERS[path.suffix](source, path, form)


READERS: dict[str, Callable[[str, Path, Form], Source]] = {".npz": npz, ".parquet": parquet}

"""What a reader of image files gives: pictures in their order, with labels, in the splits that the source has."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from study.errors import UserError

Pixels = NDArray[np.uint8]
Labels = NDArray[np.int64]

SPLITS = ("train", "selection", "test")
SPLIT_WORDS = {"train": "train", "val": "selection", "valid": "selection", "validation": "selection", "test": "test"}
"""What folders and Parquet files that hold one split are called, and which one."""
BLOCK = 256
"""Images decoded and written at a time."""


class File(NamedTuple):
    """A source file: its path, its name below the source's folder, bytes, and time of change in nanoseconds."""

    path: str
    name: str
    size: int
    mtime_ns: int


class Part(NamedTuple):
    """Images of one split: their number, their labels if any, and pixels in blocks (k, c, h, w), in order."""

    number: int
    labels: Sequence[int | str] | None
    blocks: Iterable[Pixels]


class Contents(NamedTuple):
    """Decoded images: shape (c, h, w), number of classes, "train" and the splits that the source has of its own."""

    shape: tuple[int, int, int]
    classes: int
    labels: dict[str, Labels]
    blocks: dict[str, Iterable[Pixels]]


@dataclass(frozen=True)
class Source:
    """Image files that were found and not yet read.

    Attributes:
        kind: Which reader it is for.
        name: What the user called it.
        description: What becomes of the pictures, in words.
        place: The file or folder that was found.
        files: All files that are read.
        options: Whatever else decides on the pixels, as text.
        read: Checks and opens the files; raises UserError.
    """

    kind: str
    name: str
    description: str
    place: Path
    files: Sequence[File]
    options: str
    read: Callable[[], Contents]


CLUTTER = ("thumbs.db", "desktop.ini")
"""What file managers leave in folders."""


def scan(folder: Path, base: Path) -> tuple[list[File], list[Path]]:
    """The files and folders in a folder, each in order of their names; hidden ones and clutter are left out.

    Raises:
        UserError: If the folder cannot be read.
    """
    files, folders = [], []
    within = folder.relative_to(base)
    try:
        with os.scandir(folder) as entries:
            seen = (e for e in entries if not e.name.startswith(".") and e.name.lower() not in CLUTTER)
            for entry in sorted(seen, key=lambda e: e.name):
                if entry.is_dir():
                    folders.append(Path(entry.path))
                else:
                    status = entry.stat()
                    files.append(File(entry.path, f"{within}/{entry.name}", status.st_size, status.st_mtime_ns))
    except OSError as error:
        raise UserError(f"cannot read {error.filename or folder}: {error.strerror}") from None
    return files, folders


def file_at(path: Path, base: Path) -> File:
    """One file, named as seen from a folder above it."""
    status = path.stat()
    return File(str(path), str(path.relative_to(base)), status.st_size, status.st_mtime_ns)


def reason(error: BaseException) -> str:
    """What went wrong, in one line."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def missing(name: str, root: Path, *expected: str) -> UserError:
    """The error for a set whose files are not below the data root: names what is expected where."""
    places = " or ".join(str(root / place) for place in expected)
    return UserError(f"{name}: there is no {places}; MANYPATHS_DATA names the folder that such data lies in")


def gather(
    place: str | Path, shape: tuple[int, int, int], parts: Mapping[str, Part], classes: int | None = None
) -> Contents:
    """Put parts together and number their labels.

    Args:
        place: What messages call the source.
        shape: (c, h, w) of every image.
        parts: By split; "train" is needed. Either all have labels or none.
        classes: Labels are class numbers below this; None: the training set's labels, whole numbers or texts, are
            numbered in sorted order, as class folders are.

    Raises:
        UserError: For labels that are neither, or that the training set does not have.
    """
    without = [split for split, part in parts.items() if part.labels is None]
    if without and len(without) < len(parts):
        raise UserError(f"{place} has labels in some splits and none in {without[0]}: all have them or none")
    for split, part in parts.items():
        if part.labels is not None and len(part.labels) != part.number:
            raise UserError(f"{place} has {part.number} images and {len(part.labels)} labels in {split}")
    blocks = {split: part.blocks for split, part in parts.items()}
    if without:
        return Contents(shape, 1, {s: np.zeros(p.number, dtype=np.int64) for s, p in parts.items()}, blocks)
    kinds = {type(label) for part in parts.values() for label in part.labels or ()}
    if kinds not in ({int}, {str}, set()):
        found = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise UserError(f"{place} has labels of type {found}: all are whole numbers, or all are texts")
    known = range(classes) if classes else sorted(set(parts["train"].labels or ()))
    numbers = {label: number for number, label in enumerate(known)}
    labels = {}
    for split, part in parts.items():
        foreign = set(part.labels or ()).difference(numbers)
        if foreign:
            rule = f"labels are 0 to {classes - 1}" if classes else "the training images have no such label"
            raise UserError(f"{place} has the label {min(foreign, key=str)!r} in {split}: {rule}")
        labels[split] = np.array([numbers[label] for label in part.labels or ()], dtype=np.int64)
    return Contents(shape, len(numbers), labels, blocks)


def chunks(pixels: Pixels) -> Iterator[Pixels]:
    """An array of images in blocks."""
    for start in range(0, len(pixels), BLOCK):
        yield pixels[start : start + BLOCK]

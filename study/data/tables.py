"""Images in Parquet files, as the Hugging Face hub has them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from study.data.contents import SPLIT_WORDS, Contents, Part, Source, file_at, gather
from study.data.pictures import Form, Picture, blocks, survey
from study.errors import UserError
from study.parquet import parquet_header, read_columns

IMAGE, LABEL = ("image", "img"), ("label", "labels")
"""What the columns are called; the first that a file has counts."""


def parquet(name: str, place: Path, form: Form, classes: int | None = None) -> Source:
    """A Parquet file, or a folder of them.

    Column `image` or `img`: an encoded picture, or a struct whose field `bytes` is one. Column `label` or `labels`, if
    there is one: a whole number or text. Files named after a split up to the first `-`, `_` or `.` (train, val, valid,
    validation or test) are that split if there is one of train; else all files together are the training set.
    """
    paths = sorted(place.glob("*.parquet")) if place.is_dir() else [place]
    parts = _by_split(paths)

    def read() -> Contents:
        channels, side = survey(_pictures(paths), form)
        shape = (channels, side, side)
        found = {}
        for split, some in parts.items():
            labels = _labels(some)
            count = sum(parquet_header(path)[0] for path in some)
            found[split] = Part(count, labels, blocks(_pictures(some), form, shape))
        return gather(place, shape, found, classes)

    base = place if place.is_dir() else place.parent
    return Source("parquet", name, str(form), place, [file_at(p, base) for p in paths], f"{form!r} {classes}", read)


def _by_split(paths: Sequence[Path]) -> Mapping[str, list[Path]]:
    """The files of each split."""
    words = [SPLIT_WORDS.get(re.split(r"[-_.]", path.name)[0]) for path in paths]
    if "train" not in words or None in words:
        return {"train": list(paths)}
    parts: dict[str, list[Path]] = {}
    for word, path in zip(words, paths, strict=True):
        parts.setdefault(str(word), []).append(path)
    return parts


def _pictures(paths: Sequence[Path]) -> Iterator[Picture]:
    """The encoded pictures of some files, row by row."""
    for path in paths:
        column = _column(path, IMAGE)
        if column is None:
            names = ", ".join(parquet_header(path)[1])
            raise UserError(f"{path} has no column {' or '.join(IMAGE)}: it has {names}")
        for row, value in enumerate(v for batch in read_columns(path, [column]) for v in batch[column]):
            data = value.get("bytes") if isinstance(value, dict) else value
            if not isinstance(data, bytes):
                raise UserError(f"{path} has no bytes of a picture in column {column}, row {row + 1}")
            yield Picture(f"row {row + 1} of {path}", data)


def _labels(paths: Sequence[Path]) -> list[int | str] | None:
    """The labels of some files, row by row; None if they have none."""
    columns = {path: _column(path, LABEL) for path in paths}
    if None in columns.values() and set(columns.values()) != {None}:
        lacking = next(path for path, column in columns.items() if column is None)
        raise UserError(f"{lacking} has no column {' or '.join(LABEL)}, and other files beside it do")
    labels: list[int | str] = []
    for path, column in columns.items():
        if column is None:
            return None
        labels += [value for batch in read_columns(path, [column]) for value in batch[column]]
    return labels


def _column(path: Path, names: Sequence[str]) -> str | None:
    """The first of some columns that a file has."""
    present = parquet_header(path)[1]
    return next((name for name in names if name in present), None)

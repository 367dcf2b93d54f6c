"""Prepared image sets: decoded once per node, published whole, mapped into memory by everyone else.

An entry is a folder `<key>` of `{train,selection,test}_{pixels,labels}.npy` and `meta.json`. It is written under
another name and renamed, so an entry is whole or absent; a lock, which a dead process cannot keep, has others wait for
the one that is at work instead of decoding the same files.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import shutil
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from study.data.contents import SPLITS, Labels, Pixels, Source
from study.data.write import FORMAT, META, Patience, write
from study.errors import UserError

POLL_SECONDS = 0.05


class Split(NamedTuple):
    """Images: pixels, uint8 of shape (n, c, h, w), and labels, int64 of shape (n,), 0 where there are none."""

    pixels: Pixels
    labels: Labels


class Entry(NamedTuple):
    """A prepared set, as in `images.ImageSet`."""

    shape: tuple[int, int, int]
    classes: int
    train: Split
    selection: Split
    test: Split
    fingerprint: str


def key(source: Source) -> str:
    """The entry's name: another one when a file changes in name, size or time, or the options do; 32 hex digits."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(json.dumps([FORMAT, source.kind, str(source.place), source.options]).encode())
    for file in source.files:
        digest.update(f"\n{file.name}\0{file.size}\0{file.mtime_ns}".encode(errors="surrogateescape"))
    return digest.hexdigest()


def entry(source: Source, folder: Path) -> Entry:
    """A source's prepared images; prepares them if no whole entry is there.

    Args:
        source: The files.
        folder: The cache folder; made if it is missing.

    Raises:
        UserError: For a file that is not what it should be, and for a cache folder that cannot be written to.
    """
    target = folder / key(source)
    found = read(target)
    if found is not None:
        return found
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with at_work(target, source.name) as alone:
            if read(target) is None:
                _prepare(target, source, alone=alone)
        found = read(target)
    except OSError as error:
        raise UserError(
            f"cannot keep the prepared images of {source.name} in {folder}: {error.strerror or error}; MANYPATHS_CACHE "
            "names another folder, with room for them"
        ) from None
    if found is None:
        raise UserError(f"the prepared images of {source.name} in {target} changed while they were being written")
    return found


def read(target: Path) -> Entry | None:
    """Map an entry into memory; None if it is missing, not whole or not one.

    Sizes and shapes are checked, not every byte: files are on the disk before the entry gets its name.
    """
    try:
        meta = json.loads((target / META).read_bytes())
        (c, h, w), counts = meta["shape"], meta["counts"]
        train, selection, test = (
            Split(
                _mapped(target / f"{split}_pixels.npy", (counts[split], c, h, w), np.uint8),
                _mapped(target / f"{split}_labels.npy", (counts[split],), np.int64),
            )
            for split in SPLITS
        )
        return Entry((c, h, w), int(meta["classes"]), train, selection, test, str(meta["fingerprint"]))
    except (OSError, ValueError, KeyError, TypeError, EOFError):
        return None


def _mapped(path: Path, shape: tuple[int, ...], kind: type[Any]) -> Any:  # noqa: ANN401 - an array of that kind
    """An array of a known shape and kind in a file; ValueError if it is another."""
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    if (array.shape, array.dtype) != (shape, kind):
        raise ValueError(path)
    return array


@contextlib.contextmanager
def at_work(target: Path, name: str) -> Iterator[bool]:
    """Be the only process of this node that makes something; others wait.

    Args:
        target: What is made, in a folder that exists.
        name: What it is called, for a process that waits long to say.

    Yields:
        False on a file system that knows no locks, where others may be at it too.
    """
    patience = Patience()
    with target.with_name(f".{target.name}.lock").open("w") as file:
        while (held := _try_lock(file)) is None:
            patience.say(f"waiting for another process to prepare {name}")
            time.sleep(POLL_SECONDS)
        yield held


def _try_lock(file: IO[str]) -> bool | None:
    """True if the lock is ours, None if it is another's, False if there are no locks here."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return None
    except OSError:
        return False
    return True


def _prepare(target: Path, source: Source, *, alone: bool) -> None:
    """Write an entry under another name and give it its own.

    Args:
        target: The entry's folder.
        source: The files.
        alone: No other process is at it, so what a killed one left can go.
    """
    if alone:
        for left in target.parent.glob(f".{target.name}.*.tmp"):
            shutil.rmtree(left, ignore_errors=True)
    temporary, aside = (target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp") for _ in range(2))
    try:
        temporary.mkdir()
        write(temporary, source)
        if target.exists() and read(target) is None:
            target.rename(aside)
        try:
            temporary.rename(target)
        except OSError:
            if not target.exists():  # if it does, another process was there first, and its entry is as good
                raise
    finally:
        for left in (temporary, aside):
            shutil.rmtree(left, ignore_errors=True)

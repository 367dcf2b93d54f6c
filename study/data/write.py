"""Writing a prepared image set: a source's blocks poured into one file per split, as they are decoded."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from study.data.contents import SPLITS, Contents, Labels, Pixels, Source
from study.data.splits import assign
from study.errors import UserError

FORMAT = 1
"""Raised when the same files would be prepared differently."""
META = "meta.json"
PATIENCE = 2.0
"""Seconds of waiting that nobody has to be told about."""


class Patience:
    """Says one thing on standard error, once, if it takes long."""

    def __init__(self) -> None:
        """Start the clock."""
        self._began: float | None = time.monotonic()

    def say(self, sentence: str) -> None:
        """Say it if it has taken long by now and nothing has been said yet."""
        if self._began is not None and time.monotonic() - self._began > PATIENCE:
            self._began = None
            print(sentence, file=sys.stderr, flush=True)  # noqa: T201 - says why nothing else happens


class Output:
    """The pixels of a split on their way to a file, and the hash of what went there.

    Pixels are appended rather than stored through a memory map: on a full disk a write fails with an error that can be
    told, where a map ends the process.
    """

    def __init__(self, file: IO[bytes], split: str, shape: tuple[int, ...], labels: Labels) -> None:
        """Begin a file of pixels, shape (n, c, h, w), that go with labels (n,)."""
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        self.file = file
        self.hash = hashlib.blake2b(f"{split} {shape}\n".encode())
        self.hash.update(labels.astype("<i8").tobytes())

    def add(self, pixels: Pixels) -> None:
        """Append images, shape (k, c, h, w)."""
        data = np.ascontiguousarray(pixels).tobytes()
        self.file.write(data)
        self.hash.update(data)


def write(folder: Path, source: Source) -> None:
    """Decode a source into an empty folder, block by block; `meta.json` comes last.

    The fingerprint is over shapes, labels and pixels of the three splits: the same in every file format.

    Raises:
        UserError: For a file that is not what it should be, and too few images.
        OSError: If the folder cannot be written to.
    """
    patience = Patience()
    contents = source.read()
    sent = assign(str(source.place), {split: len(labels) for split, labels in contents.labels.items()})
    labels = _labels(contents, sent)
    sentence = f"preparing {source.name}: {sum(map(len, sent.values()))} images, once"
    with contextlib.ExitStack() as stack:
        outputs = []
        for split in SPLITS:
            np.save(stack.enter_context(_durable(folder / f"{split}_labels.npy")), labels[split], allow_pickle=False)
            file = stack.enter_context(_durable(folder / f"{split}_pixels.npy"))
            outputs.append(Output(file, split, (len(labels[split]), *contents.shape), labels[split]))
        for origin, blocks in contents.blocks.items():
            _pour(origin, blocks, sent[origin], outputs, partial(patience.say, sentence))
    meta = {
        "name": source.name,
        "description": source.description,
        "format": FORMAT,
        "shape": contents.shape,
        "classes": contents.classes,
        "counts": {split: len(labels[split]) for split in SPLITS},
        "fingerprint": hashlib.blake2b(b"".join(o.hash.digest() for o in outputs), digest_size=8).hexdigest(),
    }
    with _durable(folder / META) as file:
        file.write((json.dumps(meta, indent=1, sort_keys=True) + "\n").encode())


def _labels(contents: Contents, sent: dict[str, NDArray[np.int8]]) -> dict[str, Labels]:
    """The labels of the three splits, each of which comes from one split of the source."""
    origin = {split: split if split in sent else "train" for split in SPLITS}
    return {s: contents.labels[origin[s]][sent[origin[s]] == i] for i, s in enumerate(SPLITS)}


def _pour(
    origin: str, blocks: Iterable[Pixels], to: NDArray[np.int8], outputs: list[Output], tick: Callable[[], None]
) -> None:
    """Send each image of a source's split to its output."""
    done = 0
    for block in blocks:
        places = to[done : done + len(block)]
        done += len(block)
        for i in np.unique(places):
            outputs[i].add(block[: len(places)][places == i])
        tick()
    if done != len(to):
        raise UserError(f"{origin} gave {done} images, and {len(to)} were counted: the files changed meanwhile")


@contextlib.contextmanager
def _durable(path: Path) -> Iterator[IO[bytes]]:
    """A new file that is on the disk when it is closed."""
    with path.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())

"""MNIST in its own idx files."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np

from study.data.contents import Contents, Part, Pixels, Source, chunks, file_at, gather, missing, reason
from study.errors import UserError

FOLDERS = ("mnist", "MNIST/raw")
STEMS = {"train": "train", "test": "t10k"}
SIDE, CLASSES = 28, 10
UNSIGNED_BYTES = 0x08


def mnist(root: Path) -> Source:
    """MNIST (LeCun et al. 1998), 28 x 28, grey, ten classes; its test images are the test split.

    Four idx files, each perhaps with .gz, in `mnist/` or `MNIST/raw/`: train-images-idx3-ubyte (or with a dot before
    idx3), train-labels-idx1-ubyte, and the same with t10k.

    Raises:
        UserError: If one is missing.
    """
    folder = next((root / name for name in FOLDERS if (root / name).is_dir()), None)
    if folder is None:
        raise missing("mnist", root, *(f"{name}/train-images-idx3-ubyte" for name in FOLDERS))
    paths = {
        (split, what): _find(folder, f"{stem}-{what}")
        for split, stem in STEMS.items()
        for what in ("images-idx3", "labels-idx1")
    }

    def read() -> Contents:
        parts = {}
        for split in STEMS:
            images, labels = (paths[split, what] for what in ("images-idx3", "labels-idx1"))
            pixels, numbers = read_idx(images, axes=3), read_idx(labels, axes=1)
            if pixels.shape[1:] != (SIDE, SIDE):
                raise UserError(f"{images} holds images of {pixels.shape[1]} x {pixels.shape[2]}: mnist's are 28 x 28")
            if len(pixels) != len(numbers):
                raise UserError(f"{images} holds {len(pixels)} images and {labels} {len(numbers)} labels: one for each")
            parts[split] = Part(len(pixels), numbers.tolist(), chunks(pixels[:, None]))
        return gather(folder, (1, SIDE, SIDE), parts, CLASSES)

    files = [file_at(path, folder) for path in paths.values()]
    return Source("idx", "mnist", "28 x 28 as published", folder, files, "", read)


def _find(folder: Path, name: str) -> Path:
    """The file that holds some of MNIST, under one of its four spellings."""
    spellings = [f"{spelling}-ubyte{end}" for spelling in (name, name.replace("-idx", ".idx")) for end in ("", ".gz")]
    for spelling in spellings:
        if (folder / spelling).is_file():
            return folder / spelling
    raise UserError(f"mnist: there is no {folder / spellings[0]}, nor one called {', '.join(spellings[1:])}")


def read_idx(path: Path, *, axes: int) -> Pixels:
    """The array in an idx file of unsigned bytes, compressed if it is called .gz.

    Raises:
        UserError: If it is not a whole idx file with this number of axes.
    """
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"cannot read {path}: {reason(error)}") from None
    magic = bytes([0, 0, UNSIGNED_BYTES, axes])
    if data[:4] != magic:
        raise UserError(
            f"{path} starts with {data[:4].hex() or 'nothing'}: an idx file of this kind with {magic.hex()}"
        )
    header = 4 + 4 * axes
    shape = [int.from_bytes(data[i : i + 4], "big") for i in range(4, header, 4)]
    if len(data) != header + math.prod(shape):
        raise UserError(
            f"{path} has {len(data)} bytes, and its header, of {header}, says {' x '.join(map(str, shape))}: "
            "it is not whole, or not what it is called"
        )
    return np.frombuffer(data, dtype=np.uint8, offset=header).reshape(shape)

"""Reading a pickle without running anything in it: numbers, texts, lists, dicts and NumPy arrays of bytes.

A pickle is a program that may call whatever it names. Here each of the few names that such files contain stands for
something of ours that only keeps data; NumPy's own functions are not called either. Any other name is refused.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np

from study.data.contents import reason
from study.errors import UserError


class _Array:
    """Stands for an array while it is being read."""

    pixels: np.ndarray[Any, np.dtype[np.uint8]]

    def __setstate__(self, state: tuple[int, tuple[int, ...], _Kind, bool, bytes]) -> None:
        """Take what an array's pickle holds: version, shape, kind, order of axes, bytes."""
        _, shape, kind, fortran, data = state
        if kind.name not in (b"u1", "u1") or fortran:
            raise pickle.UnpicklingError(f"an array of kind {kind.name!r}, and only uint8 ('u1') in C order is read")
        self.pixels = np.frombuffer(data, dtype=np.uint8).reshape(shape)


class _Kind:
    """Stands for an array's dtype."""

    def __init__(self, name: object, *_: object) -> None:
        """Keep the name."""
        self.name = name

    def __setstate__(self, state: object) -> None:
        """Byte order and the like mean nothing for bytes."""


def _reconstruct(*_: object) -> _Array:
    """An array yet to be filled."""
    return _Array()


def _encode(text: str, encoding: str) -> bytes:
    """Bytes that Python 3 wrote for Python 2."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"text in the encoding {encoding!r}")
    return text.encode("latin1")


NAMES = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Kind,
    ("_codecs", "encode"): _encode,
}
"""What a pickle may name, with what it gets instead."""
BROKEN = (
    *(OSError, EOFError, ValueError, TypeError, AttributeError, IndexError, KeyError, ImportError),
    *(MemoryError, OverflowError, RecursionError),
)
"""What reading a file that is no pickle, or half of one, raises."""


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401 - as the base class has it
        """What stands for a name."""
        if (module, name) not in NAMES:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which data does not need")
        return NAMES[module, name]


def read_pickle(path: Path) -> Any:  # noqa: ANN401 - whatever is in it
    """What a pickle holds, arrays of uint8 included; texts of Python 2 are bytes.

    Raises:
        UserError: If it is not a whole pickle of these, or names anything else; nothing in it has been run.
    """
    try:
        with path.open("rb") as file:
            content = _Unpickler(file, encoding="bytes").load()
        if isinstance(content, dict):
            return {name: value.pixels if isinstance(value, _Array) else value for name, value in content.items()}
    except (pickle.UnpicklingError, *BROKEN) as error:
        raise UserError(f"cannot read the pickle {path}: {reason(error)}") from None
    return content

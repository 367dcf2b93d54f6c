"""A user's own tasks, losses, penalties and networks: objects in a Python file that the sweep file names.

A reference such as `my_tasks.py:rings3d` names a file, relative to the sweep file, and an object in it. The file's
content travels with the run, and each process makes a module of it under a name that shadows nothing. It is the user's
program and runs with the user's rights, like the sweep itself.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import re
import sys
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from study.errors import UserError

if TYPE_CHECKING:
    from study.store import RunDirectory

FILE = r"[^:\[\]+@\s]+\.py"
REFERENCE = re.compile(rf"(?P<file>{FILE}):(?P<name>[A-Za-z_]\w*)")
_provided: dict[str, bytes] = {}


def is_reference(text: str) -> bool:
    """True for a text of the form FILE.py:NAME."""
    return REFERENCE.fullmatch(text) is not None


def files_in(texts: Iterable[str]) -> list[str]:
    """The files that some texts refer to anywhere, each once, in the order met."""
    return list(dict.fromkeys(match["file"] for text in texts for match in REFERENCE.finditer(text)))


def provide(file: str, content: bytes) -> None:
    """Say what a file holds, before anything in it is asked for; takes the place of what it held before."""
    _provided[file] = content


def content_of(file: str) -> bytes:
    """What a file holds: as provided, or else read from the current folder.

    Raises:
        UserError: There is no such file.
    """
    if file not in _provided:
        provide_from(Path(), file)
    return _provided[file]


def provide_from(folder: Path, file: str) -> None:
    """Read a file relative to a folder, and provide it.

    Raises:
        UserError: It cannot be read.
    """
    own, kept = folder / file, folder / "files" / quote(file, safe="")  # a run keeps it there, beside its sweep file
    try:
        provide(file, (kept if kept.exists() and not own.exists() else own).read_bytes())
    except OSError as error:
        raise UserError(f"cannot read {file!r} in {folder.absolute()}: {error.strerror}") from None


def ship(directory: RunDirectory, files: Iterable[str]) -> None:
    """Put files into a run directory, where workers find them."""
    for file in files:
        name = f"files/{quote(file, safe='')}"
        if directory.read(name) != content_of(file):
            directory.publish(name, content_of(file))


def receive(directory: RunDirectory) -> None:
    """Provide the files of a run directory, whatever else lies under their names."""
    for name in directory.names("files", suffix=".py"):
        content = _readable(directory, f"files/{name}")
        if content is not None:
            provide(unquote(name), content)


def _readable(directory: RunDirectory, name: str) -> bytes | None:
    try:
        return directory.read(name)
    except OSError:  # a folder, say: not one of ours
        return None


def without_folders(text: str) -> str:
    """A text whose references keep the objects' names alone: where a file lies and what it is called is nothing."""
    return re.sub(rf"{FILE}:", ":", text)


def digest_of(reference: str) -> str:
    """Content hash of the file that a reference names, 16 hexadecimal digits."""
    return hashlib.blake2b(content_of(_parts(reference)[0]), digest_size=8).hexdigest()


def find(reference: str) -> object:
    """The object that a reference names.

    Raises:
        UserError: The file cannot be read or run, or holds no such name.
    """
    file, name = _parts(reference)
    module = _module(file, content_of(file))
    if not hasattr(module, name):
        known = ", ".join(key for key in vars(module) if not key.startswith("_")) or "nothing"
        raise UserError(f"{file!r} has no {name!r}: it has {known}")
    return getattr(module, name)


@contextlib.contextmanager
def aside() -> Iterator[None]:
    """Let a user's program print to standard error: standard output is data."""
    with contextlib.redirect_stdout(sys.stderr):
        yield


def _parts(reference: str) -> tuple[str, str]:
    match = REFERENCE.fullmatch(reference)
    if match is None:
        raise UserError(f"{reference!r} is not of the form FILE.py:NAME")
    return match["file"], match["name"]


@functools.cache
def _module(file: str, content: bytes) -> ModuleType:
    module = ModuleType(f"manypaths_user_{hashlib.blake2b(content, digest_size=8).hexdigest()}")
    module.__file__ = file
    sys.modules[module.__name__] = module  # where dataclasses look for the names in annotations
    try:
        with aside():
            exec(compile(content, file, "exec"), module.__dict__)
    except (Exception, SystemExit) as error:  # noqa: BLE001  # a user's program may raise anything
        raise UserError(f"{file!r} does not run: {sentence(error)}") from None
    return module


def sentence(error: BaseException) -> str:
    """An error in a few words, with the user's file and line that it came from, if it came from one."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename in _provided]
    if isinstance(error, SyntaxError):
        message, place = error.msg, [f"line {error.lineno}"]
    else:
        message, place = str(error), [f"{frame.filename}, line {frame.lineno}" for frame in frames[-1:]]
    first, _, _ = message.partition("\n")
    return f"{type(error).__name__}: {first}" + "".join(f" ({where})" for where in place)

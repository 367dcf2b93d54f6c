"""A user's own tasks, losses, penalties and networks: objects in a Python file that the sweep file names.

A reference such as `my_tasks.py:rings3d` names a file, relative to the sweep file, and an object in it. The file's
content travels with the run, and each process makes a module of it under a name that shadows nothing. It is the user's
program and runs with the user's rights, like the sweep itself.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import posixpath
import re
import sys
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from study.errors import UserError
from study.terminal import say

if TYPE_CHECKING:
    from study.store import RunDirectory

FILE = r"[^:\[\]+@\s]+\.py"
REFERENCE = re.compile(rf"(?P<file>{FILE}):(?P<name>[A-Za-z_]\w*)")
_provided: dict[str, bytes] = {}


def is_reference(text: str) -> bool:
    """True for a text of the form FILE.py:NAME."""
    return REFERENCE.fullmatch(text) is not None


def normalised(text: str) -> str:
    """A text whose references name each file in one way: `./own.py:x` is `own.py:x`. Absolute paths stay."""
    return re.sub(rf"{FILE}(?=:)", lambda match: normal_path(match[0]), text)


def normal_path(path: str) -> str:
    """A relative path without detours; an absolute one as it is."""
    return path if path.startswith("/") else posixpath.normpath(path)


def climbs(path: str) -> bool:
    """True for a relative path that leaves the folder it is relative to."""
    return normal_path(path).split("/")[0] == ".."


def files_in(texts: Iterable[str]) -> list[str]:
    """The files that some texts refer to anywhere, each once, in the order met."""
    return list(dict.fromkeys(normal_path(match["file"]) for text in texts for match in REFERENCE.finditer(text)))


def provide(file: str, content: bytes) -> None:
    """Say what a file holds, before anything in it is asked for; takes the place of what it held before."""
    _provided[normal_path(file)] = content


def content_of(file: str) -> bytes:
    """What a file holds, as provided; it is read from nowhere else, or a worker would take what lies about.

    Raises:
        UserError: It was not provided.
    """
    if file not in _provided:
        raise UserError(f"{file!r} is not among the files that the sweep names and the run keeps")
    return _provided[file]


def provide_from(folder: Path, file: str) -> None:
    """Read a file relative to the folder of a sweep file, and provide it; where a run keeps a copy there, that.

    Raises:
        UserError: It cannot be read, or its path leaves the folder.
    """
    if climbs(file):
        raise UserError(f"{file!r}: a relative path stays below the folder of the sweep file; give an absolute one")
    _read(folder, file)


def provide_here(text: str) -> None:
    """Read the files that a text of the command line refers to, relative to the current folder, and provide them.

    Raises:
        UserError: One cannot be read.
    """
    for file in files_in([text]):
        _read(Path(), file)


def _read(folder: Path, file: str) -> None:
    quoted = quote(file, safe="")
    given, kept = _content(folder / file), _content(folder / "files" / quoted)
    # "files/a%2Fown.py" is no user's name for anything, but "files/own.py" may well be, beside "own.py"
    if isinstance(kept, bytes) and (quoted != file or isinstance(given, OSError)):
        if isinstance(given, bytes) and given != kept:
            say(f"{file} was changed since {folder.absolute()} was given its copy: the copy is what is run")
        given = kept
    if isinstance(given, OSError):
        raise UserError(f"cannot read {file!r} in {folder.absolute()}: {given.strerror}")
    provide(file, given)


def _content(path: Path) -> bytes | OSError:
    try:
        return path.read_bytes()
    except OSError as error:
        return error


def ship(directory: RunDirectory, files: Iterable[str]) -> None:
    """Put files into a run directory, where workers find them."""
    for file in files:
        name = f"files/{quote(file, safe='')}"
        if directory.read(name) != content_of(file):
            directory.publish(name, content_of(file))


def receive(directory: RunDirectory) -> None:
    """Provide the files of a run directory, whatever else lies under their names."""
    for name in (entry.name for entry in directory.entries("files")):  # hidden ones too
        content = _readable(directory, f"files/{name}") if name.endswith(".py") else None
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
    return normal_path(match["file"]), match["name"]


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

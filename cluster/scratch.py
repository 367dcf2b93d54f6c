"""Folders for what a driver and a local Ray leave on disk, gone when these are, by whatever they ended."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PREFIX, LOCK = "mp", "lock"
"""The prefix is short, since Ray puts sockets below, whose paths have 107 bytes at most."""


@contextmanager
def scratch() -> Iterator[tuple[Path, int]]:
    """A new temporary folder while the block runs; those of processes that were killed are removed before.

    The folder is in use as long as anybody has its lock open, which the system closes for whoever is killed.

    Yields:
        The folder, and the descriptor of its lock, for processes that go on with it when this one is killed.
    """
    remove_abandoned()
    with tempfile.TemporaryDirectory(prefix=PREFIX, ignore_cleanup_errors=True) as name:
        folder = Path(name)
        taking = folder / f".{LOCK}"
        descriptor = os.open(taking, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            taking.rename(folder / LOCK)  # one that is not locked yet must not be seen
            yield folder, descriptor
        finally:
            os.close(descriptor)


def remove_abandoned() -> None:
    """Remove this user's folders that nobody uses any more."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError):
            if folder.lstat().st_uid == os.getuid() and _abandoned(folder):
                shutil.rmtree(folder, ignore_errors=True)


def _abandoned(folder: Path) -> bool:
    """Whether a folder was made by `scratch` and its lock is nobody's.

    Raises:
        OSError: If it was not.
    """
    inside = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)  # another's link would lead elsewhere
    try:
        descriptor = os.open(LOCK, os.O_RDWR | os.O_NOFOLLOW, dir_fd=inside)
    finally:
        os.close(inside)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True

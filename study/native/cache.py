"""Where compiled programs are kept: a folder of the user's that nobody else can write to, with a bound on its size."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

KEPT, KEPT_BYTES = 2000, 512 * 2**20
"""Programs that are kept, of some 50 kB each, and their size in all."""
ROOM = 2**20
"""Bytes that a folder must take for something to be compiled there."""
BEGUN, LEFT_SECONDS = ".begun-", 24 * 3600
"""How folders begin that programs are compiled in, and when one has been left behind."""
LOOK_SECONDS = 0.02
"""How often one looks whether a lock has been released."""


def cache_folders() -> list[Path]:
    """Where compiled programs may be kept: in the user's cache, or else in a folder of theirs among temporary ones."""
    found = [Path(tempfile.gettempdir(), f"manypaths-{os.getuid()}", "native")]
    with contextlib.suppress(RuntimeError):  # nobody's home
        base = os.environ.get("XDG_CACHE_HOME")
        found.insert(0, (Path(base) if base else Path.home() / ".cache") / "manypaths" / "native")
    return found


def private_folder(*, room: int = 0) -> Path:
    """The first of these that can be made, that takes so many bytes, and that nobody else can write to.

    What is in it is run.

    Raises:
        OSError: If there is none; of the first one, which it names.
    """
    refused: OSError | None = None
    for folder in cache_folders():
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            real = folder.resolve()  # links are followed once, before anything is looked at
            _refuse_others(real)
            with tempfile.TemporaryFile(dir=real) as file:
                file.write(bytes(room))
                file.flush()
                return real
        except OSError as error:
            named = (
                error if error.errno is None or error.filename else OSError(error.errno, error.strerror, str(folder))
            )
            refused = refused or named
    raise refused or OSError("no folder to keep programs in")


def _refuse_others(folder: Path) -> None:
    """Raise PermissionError if others could put files into a folder, or another folder in its place.

    The parent may belong to a group, as all folders do where the umask is 002: a folder that a member of it puts in
    the place of this one has another owner.
    """
    for place, others in ((folder.parent, stat.S_IWOTH), (folder, stat.S_IWOTH | stat.S_IWGRP)):
        found = place.stat()
        if found.st_uid != os.getuid():
            raise PermissionError(f"{place} belongs to somebody else")
        if found.st_mode & others:
            raise PermissionError(f"others may write to {place}")


@contextlib.contextmanager
def alone(path: Path, seconds: float) -> Iterator[None]:
    """Hold a lock, where the file system has locks; a dead process holds none.

    Whoever waited for so many seconds goes on without it: two that make the same are no harm.
    """
    with path.open("w") as file:
        end = time.monotonic() + seconds
        while not _locked(file.fileno()) and time.monotonic() < end:
            time.sleep(LOOK_SECONDS)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # no locks here
        return True
    return True


def publish(made: Path, folder: Path, key: str) -> Path:
    """Move a finished program to its place, whole or not at all, whatever happens to the machine."""
    path = folder / f"{key}.{_digest(made)}.so"
    with made.open("rb") as file:
        os.fsync(file.fileno())
    made.replace(path)  # whoever comes second replaces it by the same
    return path


def kept(key: str) -> Path | None:
    """The program of a key, from any of the folders, if it is still as it was published: a part of one is a crash."""
    for folder in cache_folders():
        with contextlib.suppress(OSError):
            real = folder.resolve()
            _refuse_others(real)
            for path in sorted(real.glob(f"{key}.*.so")):
                if path.suffixes[-2:] == [f".{_digest(path)}", ".so"]:
                    return path
                path.unlink(missing_ok=True)
    return None


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:32]


def use(path: Path) -> None:
    """Note that a program is in use."""
    with contextlib.suppress(OSError):
        os.utime(path)


def tidy(folder: Path) -> None:
    """Remove the programs that were used longest ago, beyond the bounds, and what killed processes left behind.

    Others may be at it too. A program that is removed while it runs goes on.
    """
    ages: list[tuple[float, int, Path]] = []
    for path in folder.iterdir():
        with contextlib.suppress(OSError):
            found = path.stat()
            if path.suffix == ".so":
                ages.append((found.st_mtime, found.st_size, path))
            elif path.name.startswith(".") and time.time() - found.st_mtime > LEFT_SECONDS:
                _remove(path)
    total = 0
    for count, (_, size, path) in enumerate(sorted(ages, reverse=True), start=1):
        total += size
        if count > KEPT or total > KEPT_BYTES:
            path.unlink(missing_ok=True)


def _remove(path: Path) -> None:
    """A folder that was compiled in, or the file of a lock."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)

"""From C++ text to a loaded library: the compiler of this machine, and a cache of what it made."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

COMPILERS = ("g++", "c++", "clang++")
FLAGS = (
    "-std=gnu++17",
    "-O3",
    "-march=native",
    "-ffp-contract=fast",
    # errors and traps of floating point are looked at nowhere; NaN and infinity keep their meaning
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fno-strict-aliasing",
    "-fwrapv",  # whole numbers overflow as those of tensors do
    "-fPIC",
    "-shared",
)
WIDE = ("-mprefer-vector-width=512",)
"""Of x86: compilers prefer half of what its widest registers hold."""
SECONDS = 300
"""A compiler that takes longer has failed."""

KEPT = 1000
"""Programs that are kept, of some 100 kB each."""

BEGUN, LEFT_SECONDS = ".begun-", 24 * 3600
"""How folders begin that programs are compiled in, and when one has been left behind."""


class NoCompiler(Exception):
    """There is no compiler here, or it failed, or what it made could not be kept or loaded; the message says which."""


@functools.cache
def compiler() -> tuple[str, ...]:
    """The command that compiles, with flags; $CXX first.

    Raises:
        NoCompiler: If there is none.
    """
    wanted = [os.environ["CXX"]] if os.environ.get("CXX") else []
    for name in (*wanted, *COMPILERS):
        found = shutil.which(name)
        if found:
            return (found, *FLAGS, *(WIDE if platform.machine() in ("x86_64", "AMD64") else ()))
    raise NoCompiler(f"no C++ compiler: neither {', '.join((*wanted, *COMPILERS))}")


def library(source: str) -> ctypes.CDLL:
    """Compile a program and load it, or load what an earlier process made of the same.

    Of the processes that want one at once, one compiles and the others wait.

    Raises:
        NoCompiler: If that is not possible here.
    """
    command = compiler()
    digest = hashlib.sha256("\0".join([source, *command, _version(command[0]), _processor()]).encode()).hexdigest()
    try:
        folder = _private_folder()
        path = folder / f"{digest[:32]}.so"
        if not path.exists():
            with _alone(folder / f".{path.name}.lock"):
                if not path.exists():
                    _compile(command, source, path)
                    _tidy(folder)
        return _loaded(path)
    except (OSError, subprocess.SubprocessError) as error:
        raise NoCompiler(f"{command[0]}: {error}") from error


def _loaded(path: Path) -> ctypes.CDLL:
    with contextlib.suppress(OSError):
        os.utime(path)  # what is in use is kept
    try:
        return ctypes.CDLL(str(path))
    except OSError:
        path.unlink(missing_ok=True)  # damaged: who comes next makes it anew
        raise


def cache_folders() -> list[Path]:
    """Where compiled programs may be kept: in the user's cache, or else in a folder of theirs among temporary ones."""
    found = [Path(tempfile.gettempdir(), f"manypaths-{os.getuid()}", "native")]
    with contextlib.suppress(RuntimeError):  # nobody's home
        base = os.environ.get("XDG_CACHE_HOME")
        found.insert(0, (Path(base) if base else Path.home() / ".cache") / "manypaths" / "native")
    return found


def _private_folder() -> Path:
    """The first of these that can be made and that nobody else can write to: what is in it is run.

    Raises:
        OSError: If there is none.
    """
    refused: OSError | None = None
    for folder in cache_folders():
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            for place in (folder.parent, folder):
                found = place.stat()
                if found.st_uid != os.getuid() or found.st_mode & 0o022:
                    raise PermissionError(f"others may write to {place}")
            with tempfile.TemporaryFile(dir=folder):
                return folder
        except OSError as error:
            refused = refused or error
    raise refused or OSError("no folder to keep programs in")


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold a lock, where the file system has locks; a dead process holds none."""
    with path.open("w") as file:
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
        path.unlink(missing_ok=True)


def _compile(command: tuple[str, ...], source: str, path: Path) -> None:
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=BEGUN) as scratch:
        text, made = Path(scratch, "program.cpp"), Path(scratch, "program.so")
        text.write_text(source)
        done = subprocess.run(
            [*command, str(text), "-o", str(made)], capture_output=True, text=True, timeout=SECONDS, check=False
        )
        if done.returncode:
            raise NoCompiler(f"{command[0]} failed: {done.stderr.strip()[:2000]}")
        made.replace(path)  # whoever comes second replaces it by the same


def _tidy(folder: Path) -> None:
    """Remove the programs that were used longest ago, beyond a number, and what killed processes left behind."""
    with contextlib.suppress(OSError):  # others may be at it
        used = sorted(folder.glob("*.so"), key=lambda path: -path.stat().st_mtime)
        for path in used[KEPT:]:
            path.unlink(missing_ok=True)
        for left in folder.glob(f"{BEGUN}*"):
            if time.time() - left.stat().st_mtime > LEFT_SECONDS:
                shutil.rmtree(left, ignore_errors=True)


@functools.cache
def _version(name: str) -> str:
    done = subprocess.run([name, "--version"], capture_output=True, text=True, timeout=SECONDS, check=False)
    return done.stdout


@functools.cache
def _processor() -> str:
    """What -march=native looks at, as far as this system says."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    named = ("flags", "Features", "model", "model name", "cpu family", "CPU part")
    return "\n".join(sorted({line for line in lines if line.split(":")[0].strip() in named}))


@functools.cache
def missing() -> str | None:
    """The reason why nothing can be compiled on this machine; None if it can."""
    try:
        library('extern "C" int answer() { return 42; }')
    except NoCompiler as error:
        return str(error)
    return None


def compiler_name() -> str:
    """The compiler and its version."""
    return _version(compiler()[0]).partition("\n")[0]

"""From C++ text to a loaded library: the compiler of this machine, and a cache of what it made."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from study.native.cache import BEGUN, ROOM, alone, kept, private_folder, publish, tidy, use

COMPILERS = ("g++", "c++", "clang++")
FLAGS = (
    "-std=gnu++17",
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
THOROUGH = ("-O3",)
QUICK = (
    "-O2",
    "-ftree-loop-vectorize",
    "-fvect-cost-model=dynamic",
    # a quarter of the time that is left, and nothing is gained by them
    "-fno-tree-slp-vectorize",
    "-fno-tree-pre",
    "-fno-gcse",
    "-fno-schedule-insns2",
)
"""Of GCC: all that generated programs, which are written for it, need to be as fast as by -O3."""
SECONDS, ANSWER_SECONDS = 300, 20
"""A compiler that takes longer for a program, or for its version and next to nothing, has failed."""
LINES = 10
"""Lines of a compiler's complaint that are told."""
TRIVIAL = 'extern "C" int answer() { return 42; }'


class NoCompiler(Exception):
    """Nothing can be compiled on this machine: no compiler, or one that fails, or no place; the message says which."""


class CompilerFailed(Exception):
    """One program could not be compiled, kept or loaded, though others can be: by too little time, memory or disk."""


@functools.cache
def compiler() -> tuple[str, ...]:
    """The command that compiles; $CXX first.

    Raises:
        NoCompiler: If there is none.
    """
    asked = os.environ.get("CXX", "")
    try:
        wanted = shlex.split(asked)
    except ValueError as error:
        raise NoCompiler(f"CXX = {asked!r}: {error}") from None
    for command in (wanted, *([name] for name in COMPILERS)):
        found = shutil.which(command[0]) if command else None
        if found:
            return (found, *command[1:])
    raise NoCompiler(f"no C++ compiler: neither {', '.join((*wanted[:1], *COMPILERS))}")


def compiler_name() -> str:
    """The compiler and its version, as it says them in its first line, and the options that come with $CXX.

    Raises:
        NoCompiler: If there is none that says anything.
    """
    try:
        return " ".join([_version(compiler()).partition("\n")[0], *compiler()[1:]])
    except (_Failure, OSError) as error:
        raise NoCompiler(str(error)) from error


@functools.cache
def missing() -> str | None:
    """The reason why nothing can be compiled on this machine, None if programs can be; asked once per process."""
    try:
        _library(TRIVIAL, quick=True, seconds=ANSWER_SECONDS)
        private_folder(room=ROOM)
    except (NoCompiler, _Failure, OSError) as error:
        return str(error)
    return None


def library(source: str, *, quick: bool = False) -> ctypes.CDLL:
    """Compile a program and load it, or load what an earlier process made of the same.

    Of the processes that want one at once, one compiles and the others wait.

    Args:
        source: The program.
        quick: True for generated programs, which need fewer of the compiler's optimisations.

    Raises:
        NoCompiler: If nothing can be compiled here.
        CompilerFailed: If others can be and this one cannot.
    """
    try:
        return _library(source, quick=quick, seconds=SECONDS)
    except _Failure as error:
        reason = missing()
        raise NoCompiler(reason) if reason else CompilerFailed(str(error)) from error


class _Failure(Exception):
    """A program could not be compiled, kept or loaded."""


def _library(source: str, *, quick: bool, seconds: float) -> ctypes.CDLL:
    command = compiler()
    try:
        command += _flags(_version(command), quick=quick)
        digest = hashlib.sha256("\0".join([source, *command, _version(compiler()), _processor()]).encode()).hexdigest()
        key = digest[:32]
        path = kept(key)
        if path:
            use(path)
            with contextlib.suppress(OSError):
                return ctypes.CDLL(str(path))
            path.unlink(missing_ok=True)  # removed by others just now, or of a system that is no more
        return ctypes.CDLL(str(_make(command, source, key, seconds)))
    except OSError as error:
        raise _Failure(f"{command[0]}: {error}") from error


def _flags(version: str, *, quick: bool) -> tuple[str, ...]:
    known_as_gcc = "Free Software Foundation" in version
    wide = WIDE if platform.machine() in ("x86_64", "AMD64") else ()
    return (*(QUICK if quick and known_as_gcc else THOROUGH), *FLAGS, *wide)


def _make(command: tuple[str, ...], source: str, key: str, seconds: float) -> Path:
    folder = private_folder(room=ROOM)
    with alone(folder / f".{key}.lock", seconds):
        path = kept(key)  # by whom was waited for
        if path is None:
            path = _compile(command, source, folder, key, seconds)
            tidy(folder)
        return path


def _compile(command: tuple[str, ...], source: str, folder: Path, key: str, seconds: float) -> Path:
    with tempfile.TemporaryDirectory(dir=folder, prefix=BEGUN) as scratch:
        text, made = Path(scratch, "program.cpp"), Path(scratch, "program.so")
        text.write_text(source)
        _said((*command, str(text), "-o", str(made)), seconds=seconds, scratch=scratch)
        return publish(made, folder, key)


def _said(command: tuple[str, ...], *, seconds: float, scratch: str | None = None) -> str:
    """What a command writes.

    Args:
        command: It and its arguments.
        seconds: How long it may take.
        scratch: A folder for what it writes besides.

    Raises:
        _Failure: If it fails or takes too long; then nothing that it started goes on.
    """
    name, pipe = command[0], subprocess.PIPE
    environment = os.environ | ({"TMPDIR": scratch} if scratch else {})
    with subprocess.Popen(
        command, stdout=pipe, stderr=pipe, text=True, errors="replace", start_new_session=True, env=environment
    ) as process:
        try:
            out, complaint = process.communicate(timeout=seconds)
        except BaseException as error:
            with contextlib.suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)
            if isinstance(error, subprocess.TimeoutExpired):
                raise _Failure(f"{name} took longer than {seconds:g} s") from None
            raise
    if process.returncode:
        lines = complaint.strip().splitlines()[:LINES] or [f"exit status {process.returncode}"]
        raise _Failure("\n".join([f"{name} failed: {lines[0]}", *lines[1:]]))
    return out


@functools.cache
def _version(command: tuple[str, ...]) -> str:
    return _said((*command, "--version"), seconds=ANSWER_SECONDS)


@functools.cache
def _processor() -> str:
    """What -march=native looks at, as far as this system says."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    named = ("flags", "Features", "model", "model name", "cpu family", "CPU part")
    return "\n".join(sorted({line for line in lines if line.split(":")[0].strip() in named}))

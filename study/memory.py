"""How much memory training may take, as the sweep file declares it: a rule about trials, the same on every machine."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from study.errors import UserError

AMOUNT = re.compile(r"(?P<number>\d+(\.\d+)?) ?(?P<unit>[kMGT]B|[KMGT]iB)")
UNITS = {f"{letter}B": 1000**i for i, letter in enumerate("kMGT", 1)} | {
    f"{letter}iB": 1024**i for i, letter in enumerate("KMGT", 1)
}


def bytes_of(amount: str) -> int:
    """An amount of memory such as "4 GiB" or "500 MB", in bytes.

    Raises:
        ValueError: If it is not one, or less than a byte.
    """
    match = AMOUNT.fullmatch(amount)
    found = int(float(match["number"]) * UNITS[match["unit"]]) if match else 0
    if not found:
        raise ValueError(f"{amount!r} is no amount of memory: a number and a unit, {', '.join(sorted(UNITS))}")
    return found


@contextmanager
def limited(amount: int | None, *, device: str) -> Iterator[Callable[[], None]]:
    """Refuse to take more than an amount of memory while a block runs.

    On a CPU it is what the process had in memory at most beyond what it had when it first trained. The system's own
    limit (RLIMIT_DATA) is not used: it stops every thread of the process alike, and those of Python and of Ray hang or
    end the process when they get none, where torch would have said so. On a GPU it is what torch takes there.

    Args:
        amount: Bytes; None for no limit.
        device: "cpu" or "cuda".

    Yields:
        To be called now and then: raises MemoryError if more was taken on the CPU since the block began.
    """
    if amount is None:
        yield lambda: None
    elif device == "cuda":
        with _limited_on_gpu(amount):
            yield lambda: None
    else:
        before = _taken_at_first()
        _give_back()
        exact = _forget_peak()

        def check() -> None:
            taken = _taken(peak=exact) - before
            if taken > amount:
                raise MemoryError(f"out of memory: training took {taken / 2**20:.0f} MiB")

        yield check


@contextmanager
def _limited_on_gpu(amount: int) -> Iterator[None]:
    import torch

    whole = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, amount / whole))
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


@cache
def _taken_at_first() -> int:
    """Bytes of this process; asked once, so that what packs leave behind is not taken for the process's own."""
    return _taken(peak=False)


def _taken(*, peak: bool) -> int:
    """Bytes of data of this process in memory, now or at most since `_forget_peak`; without files, such as programs."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        raise UserError("execution.memory: only Linux says how much memory training takes on a CPU") from None
    found = {name: int(size) * 1024 for name, size in re.findall(r"^(\w+):\s*(\d+) kB", status, re.MULTILINE)}
    return found["VmHWM" if peak else "VmRSS"] - found["RssFile"] - found["RssShmem"]


def _forget_peak() -> bool:
    """Have Linux count the most memory from now on; False where it does not let us, and only the present is known."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _give_back() -> None:
    """Have glibc return what earlier packs left; where there is no glibc, nothing happens."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)

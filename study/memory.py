"""How much memory training may take, as the sweep file declares it: a rule about trials, the same on every machine."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

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
def limited(amount: int | None, *, device: str, need: Callable[[], int]) -> Iterator[None]:
    """Refuse to take more than an amount of memory while a block runs.

    On a CPU what the block will take is known before. What the process has cannot be looked at instead: caches, data
    and the allocator's leftovers of earlier packs would enter. Nor is the system's own limit (RLIMIT_DATA) used: it
    stops every thread of the process alike, and those of Python and of Ray hang or end the process when they get none,
    where torch would have said so. On a GPU torch itself keeps within it.

    Args:
        amount: Bytes; None for no limit.
        device: "cpu" or "cuda".
        need: Bytes that the block will take on a CPU, `study.rehearsal.bytes_taken`.

    Raises:
        MemoryError: If it needs more on a CPU.
    """
    if amount is None:
        yield
    elif device == "cuda":
        with _limited_on_gpu(amount):
            yield
    else:
        taken = need()
        if taken > amount:
            raise MemoryError(f"out of memory: training takes {taken / 2**20:.1f} MiB")
        yield


@contextmanager
def _limited_on_gpu(amount: int) -> Iterator[None]:
    import torch

    whole = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, amount / whole))
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)

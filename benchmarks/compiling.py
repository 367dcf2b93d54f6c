"""python -m benchmarks.compiling METHOD PROGRAM: seconds until the program of a pack has made its first step."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator

from benchmarks.record import Line
from study.schema import NATIVE, RECORDED

CAPACITY = 32
ARMS = {
    "cold": (NATIVE, "native, nothing compiled before"),
    "warm": (NATIVE, "native, compiled before"),
    "recorded": (RECORDED, "recorded"),
}


def seconds(method: str, arms: Iterable[str] = ARMS) -> dict[str, dict[str, float]]:
    """Wall and processor seconds, the compiler's included, of processes of their own that share an empty cache."""
    with tempfile.TemporaryDirectory() as cache:
        return {arm: _process(method, ARMS[arm][0], cache) for arm in arms}


def lines(method: str, found: dict[str, dict[str, float]]) -> Iterator[Line]:
    for arm, part in found.items():
        yield Line(f"{method}, {ARMS[arm][1]}: processor time until the first step is done", part["processor"], "s")


def _process(method: str, program: str, cache: str) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.compiling", method, program]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"XDG_CACHE_HOME": cache})
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with exit code {done.returncode}:\n{done.stderr[-4000:]}")
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main(method: str, program: str) -> None:
    import torch

    from benchmarks.engine import stretch

    torch.set_num_threads(1)
    torch.ones(8) @ torch.ones(8)  # what torch itself does at first use
    begun, before = time.perf_counter(), _processor()
    stretch(method, CAPACITY, program, 1)
    print(json.dumps({"wall": time.perf_counter() - begun, "processor": _processor() - before}))


def _processor() -> float:
    """Processor seconds of this process and of those it has waited for."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


if __name__ == "__main__":
    main(*sys.argv[1:])

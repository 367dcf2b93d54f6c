"""Several processes that share a device, each training on its own: what Ray Tune does with fractions of a GPU.

`python -m benchmarks.gpu_process WHAT DEVICE SECONDS` is one of them. It says when it is ready, waits for a line, then
trains for a while and prints how many trial-steps it took in how many seconds. WHAT is `plain:NETWORKS` for one GAN in
a plain loop, or `pack:NETWORKS:CAPACITY`; NETWORKS are "mlp", "dcgan" or "resnet".
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

STRETCH = 16
"""Steps between two looks at the clock."""


def rate(what: str, count: int, device: str, *, lasting: float) -> float:
    """Trial-steps per second of so many processes in all."""
    command = [sys.executable, "-m", "benchmarks.gpu_process", what, device, str(lasting)]
    started: list[subprocess.Popen[Any]] = []
    try:
        for _ in range(count):
            started.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        for process in started:
            if process.stdout.readline() != "ready\n":
                raise RuntimeError(f"{' '.join(command)} did not get ready")
        for process in started:
            process.stdin.write("go\n")
            process.stdin.flush()
        found = [process.communicate()[0].split() for process in started]
    finally:
        for process in started:
            process.kill()
            process.wait()
    return sum(float(steps) / float(seconds) for steps, seconds in found)


def worker(what: str, device: str) -> tuple[Callable[[int], object], int]:
    """What trains for some steps, and how many trials that is."""
    kind, networks, *capacity = what.split(":")
    if kind == "plain":
        from benchmarks.gpu_plain import Plain

        return Plain(networks, device).train, 1
    from benchmarks.gpu_packs import game_of, images, pack_of

    count = int(capacity[0])
    way = "captured" if device == "cuda" else "recorded"
    return pack_of(game_of(None if networks == "mlp" else images(networks)), count, device, way=way).train, count


def main(what: str, device: str, lasting: float) -> None:
    import torch

    torch.set_num_threads(1)
    train, trials = worker(what, device)

    def stretch() -> None:
        train(STRETCH)
        if device == "cuda":
            torch.cuda.synchronize()

    stretch()
    print("ready", flush=True)
    sys.stdin.readline()
    done, begun = 0, time.perf_counter()
    while time.perf_counter() < begun + lasting:
        stretch()
        done += STRETCH
    print(trials * done, time.perf_counter() - begun, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]))

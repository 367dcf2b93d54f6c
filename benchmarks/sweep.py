"""Wall time of 256 trials x 1,000 steps: `manypaths run` against Ray Tune with one GAN in each trial.

Each arm is a process of its own and everything counts: imports, starting Ray, planning, compiling, training, writing.
The two others are what one would write without this project: Tune's function trainables around a plain PyTorch loop
that reports once, at the end, with Tune's loggers as they come, once with a new process for each trial (Tune's default)
and once with processes reused. Of ours, one kind of run finds no compiled program, another those of earlier sweeps.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.memory import toml
from benchmarks.record import Found, Line

CPUS, FEW = 2, 96
"""Workers of every arm; trials of the slowest arm unless told otherwise, some five minutes of it."""
EVALUATIONS = 5
ENVIRONMENT = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0"}
REQUIRED = {"new": ">= 20", "reused": ">= 7"}
WORDS = {"new": "a new process for each trial", "reused": "reuse_actors=True"}
ORDER = ("ours", "reused", "new", "warm", "reused", "ours", "warm")


@dataclass(frozen=True)
class Size:
    """What every arm does: so many trials of so many generator steps; the slowest so many of these trials."""

    trials: int
    steps: int
    few: int
    order: Sequence[str] = ORDER


QUICK = Size(1, 20, 1, ("ours", "reused"))


def sweep(size: Size) -> dict[str, Any]:
    return {
        "name": "benchmark",
        "tasks": ["manifold-d2"],
        "methods": ["ns+gp1"],
        "budget": {"steps": size.steps, "evaluations": EVALUATIONS},
        "space": {"override": {"lr": {"log_uniform": [1e-4, 1e-2]}, "beta1": {"uniform": [0.0, 0.9]}}},
        "design": {"kind": "random", "points": size.trials},
        "execution": {"workers": CPUS},
    }


def run(*, quick: bool = False, trials: int | None = None) -> Found:
    size = QUICK if quick else Size(256, 1000, min(trials or FEW, 256))
    seconds: dict[str, list[float]] = {arm: [] for arm in size.order}
    with tempfile.TemporaryDirectory() as cache:
        for arm in size.order:
            seconds[arm].append(_tune(arm, size) if arm in WORDS else _ours(size, cache if arm == "warm" else None))
            print(f"{arm}: {seconds[arm][-1]:.1f} s", flush=True)
    short = "new" in seconds and size.few < size.trials
    if short:
        start = _tune("new", Size(size.trials, size.steps, CPUS))
        seconds["new"] = [scaled(seconds["new"][0], start, size)]
    remark = (
        f"manifold-d2, ns+gp1, n_critic 1, {EVALUATIONS} evaluations, {CPUS} workers, whole processes; means of two "
        f"runs, one of the slowest arm, in the order {', '.join(size.order)}; the first of warm fills its cache, and "
        "does not count"
    )
    details = {"seconds": seconds, "trials_of_slowest_arm": size.few if "new" in seconds else 0}
    found = Found(tuple(_lines(seconds, size, short=short)), (remark,), details)
    found.show()
    return found


def scaled(some: float, start: float, size: Size) -> float:
    """Seconds of all trials from those of some, and of as many as there are workers: the start counts once."""
    return some + (some - start) / (size.few - CPUS) * (size.trials - size.few)


def _lines(seconds: Mapping[str, Sequence[float]], size: Size, *, short: bool) -> Iterator[Line]:
    ours = statistics.mean(seconds["ours"])
    what = f"{size.trials} trials x {size.steps:,} steps, manypaths run"
    yield Line(f"{what}, nothing compiled before", ours, "s")
    if "warm" in seconds:
        yield Line(f"{what}, compiled by an earlier sweep", seconds["warm"][-1], "s")
    for arm, words in WORDS.items():
        if arm in seconds:
            text = f"Ray Tune, {words}{f', EXTRAPOLATED from {size.few} trials' if arm == 'new' and short else ''}"
            mean = statistics.mean(seconds[arm])
            yield Line(text, mean, "s")
            yield Line(f"{text}, over manypaths run", mean / ours, "x", REQUIRED[arm])


def _ours(size: Size, cache: str | None) -> float:
    """`manypaths run`, with compiled programs in a folder, or in one of its own."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "sweep.toml")
        file.write_text(toml(sweep(size)))
        command = [sys.executable, "-m", "manypaths", "run", str(file), "--out", str(Path(folder, "run"))]
        return wall(command, {"XDG_CACHE_HOME": cache or str(Path(folder, "cache"))})


def _tune(arm: str, size: Size) -> float:
    with tempfile.TemporaryDirectory() as folder:
        count = size.few if arm == "new" else size.trials
        return wall([sys.executable, "-m", "benchmarks.tune_arm", arm, str(count), str(size.steps), folder], {})


def wall(command: list[str], settings: Mapping[str, str]) -> float:
    """Wall seconds of a process, which has to succeed; what it prints goes to a file that is shown if it does not."""
    with tempfile.TemporaryFile("w+") as output:
        begun = time.perf_counter()
        code = subprocess.call(
            command, stdout=output, stderr=subprocess.STDOUT, env=os.environ | ENVIRONMENT | settings
        )
        took = time.perf_counter() - begun
        if code:
            output.seek(0)
            raise RuntimeError(f"{' '.join(command)} ended with exit code {code}:\n{output.read()[-4000:]}")
    return took

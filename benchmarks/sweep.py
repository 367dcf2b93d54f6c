"""Wall time of 128 trials x 500 steps: `manypaths run` against Ray Tune with one GAN in each trial.

Each arm is a process of its own and everything counts: imports, starting Ray, planning, training, writing. The two
others are what one would write without this project: Tune's function trainables around a plain PyTorch loop that
reports once, at the end, with Tune's loggers as they come, once with a new process for each trial (Tune's default)
and once with processes reused.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.memory import toml
from benchmarks.record import Found, Line

TRIALS, STEPS, EVALUATIONS, CPUS = 128, 500, 5, 2
SWEEP = {
    "name": "benchmark",
    "tasks": ["manifold-d2"],
    "methods": ["ns+gp1"],
    "budget": {"steps": STEPS, "evaluations": EVALUATIONS},
    "space": {"override": {"lr": {"log_uniform": [1e-4, 1e-2]}, "beta1": {"uniform": [0.0, 0.9]}}},
    "design": {"kind": "random", "points": TRIALS},
    "execution": {"workers": CPUS},
}
ENVIRONMENT = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0"}
REQUIRED = {"new": ">= 10", "reused": ">= 2.5"}
WORDS = {"new": "a new process for each trial", "reused": "reuse_actors=True"}


def run(*, quick: bool = False, trials: int | None = None) -> Found:
    count = 4 if quick else TRIALS
    some = min(trials or count, count)
    seconds: dict[str, list[float]] = {"ours": [], "reused": [], "new": []}
    for arm in ("ours", "reused", "new", "reused", "ours"):
        seconds[arm].append(_ours(count) if arm == "ours" else _tune(arm, some if arm == "new" else count))
        print(f"{arm}: {seconds[arm][-1]:.1f} s", flush=True)
    note = ""
    if some < count:
        # the start counts once: only what each further trial adds is scaled
        each = (seconds["new"][0] - _tune("new", CPUS)) / (some - CPUS)
        seconds["new"] = [seconds["new"][0] + each * (count - some)]
        note = f", EXTRAPOLATED from {some} trials"
    mean = {arm: statistics.mean(values) for arm, values in seconds.items()}
    lines = [Line(f"{count} trials x {STEPS} steps, manypaths run", mean["ours"], "s")]
    for arm, words in WORDS.items():
        text = f"Ray Tune, {words}{note if arm == 'new' else ''}"
        lines.append(Line(text, mean[arm], "s"))
        lines.append(Line(f"{text}, over manypaths run", mean[arm] / mean["ours"], "x", REQUIRED[arm]))
    remark = (
        f"{SWEEP['tasks'][0]}, {SWEEP['methods'][0]}, n_critic 1, {CPUS} workers, whole processes; means of two runs, "
        "one of the slowest arm, in the order ours, reused, new, reused, ours"
    )
    found = Found(tuple(lines), (remark,), {"seconds": seconds, "trials_of_slowest_arm": some})
    found.show()
    return found


def _ours(trials: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "sweep.toml")
        file.write_text(toml(SWEEP | {"design": {"kind": "random", "points": trials}}))
        return _wall([sys.executable, "-m", "manypaths", "run", str(file), "--out", str(Path(folder, "run"))])


def _tune(arm: str, trials: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        return _wall([sys.executable, "-m", "benchmarks.tune_arm", arm, str(trials), folder])


def _wall(command: list[str]) -> float:
    """Wall seconds of a process, which has to succeed; what it prints goes to a file that is shown if it does not."""
    with tempfile.TemporaryFile("w+") as output:
        begun = time.perf_counter()
        code = subprocess.call(command, stdout=output, stderr=subprocess.STDOUT, env=os.environ | ENVIRONMENT)
        took = time.perf_counter() - begun
        if code:
            output.seek(0)
            raise RuntimeError(f"{' '.join(command)} ended with exit code {code}:\n{output.read()[-4000:]}")
    return took

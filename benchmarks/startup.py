"""What a sweep costs around its training: how long it takes to begin and to end, and the share of writing in a pack.

Small sweeps are run by `manypaths run`, whole processes. When an actor was ready and when it had trained its first step
is noted by its own process, which imports the marks below before anything else; when packs began and ended, and where,
is in the run's `attempts`. The shares are of the CPU time of a pack that is trained in this process.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.memory import toml
from benchmarks.record import Found, Line

ENVIRONMENT = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0"}
WORKERS = 2
MARKS = '''
import functools
import importlib.abc
import importlib.machinery
import os
import time


def after(owner, name, what):
    """Have a note written whenever a function has come to its end."""
    real = getattr(owner, name)

    @functools.wraps(real)
    def marked(*arguments, **options):
        try:
            return real(*arguments, **options)
        finally:
            with open(os.environ["MARKS"], "a") as file:
                file.write(f"{what} {os.getpid()} {time.time()}\\n")

    setattr(owner, name, marked)


WANTED = {
    "ray.tune.trainable.trainable": lambda module: after(module.Trainable, "__init__", "ready"),
    "study.program": lambda module: after(module, "advance", "step"),
}


class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        spec = importlib.machinery.PathFinder.find_spec(name, path) if name in WANTED else None
        if spec:
            execute = spec.loader.exec_module

            def executed(module):
                execute(module)
                WANTED[name](module)

            spec.loader.exec_module = executed
        return spec


import sys

sys.meta_path.insert(0, Finder())
'''
"""Put where Python imports it in every process."""


def run(*, quick: bool = False) -> Found:
    repeats = 1 if quick else 5
    with tempfile.TemporaryDirectory() as folder:
        runs = [_one(Path(folder), packs=4 if quick else 12) for _ in range(repeats)]
    least = {name: min(one[name] for one in runs) for name in runs[0]}
    shares = shares_of_a_pack(32, 1000, 25, packs=5) if not quick else shares_of_a_pack(4, 10, 5, packs=2)
    percent = {name: 100 * seconds / shares["all"] for name, seconds in shares.items()}
    lines = (
        Line("from the command to the end of the first training step", least["step"], "s", "<= 10"),
        Line("from an actor's being ready to the end of its first training step", least["ready_to_step"], "s", "<= 2"),
        Line("from the last pack's end to the end of the command", least["end"], "s"),
        Line("a sweep of 12 packs that train next to nothing, all of it", least["all"], "s"),
        Line("from the end of a pack to the begin of its worker's next", 1000 * least["between"], "ms"),
        Line("Parquet and progress: part of a pack's CPU time", percent["Parquet"] + percent["progress"], "%", "<= 1"),
        Line("making rows, and notes of tries: part of a pack's CPU time", percent["rows and notes"], "%"),
    )
    remarks = (
        f"wall times are the least of {repeats} runs, {WORKERS} workers: what others do on the machine adds to them",
        "ns+gp1 on manifold-d2; the share is of 32 trials x 1,000 steps with 25 evaluations, the least of some packs",
    )
    found = Found(lines, remarks, {"runs": runs, "cpu_seconds_of_a_pack": shares})
    found.show()
    return found


def sweep(*, trials: int, steps: int, evaluations: int, pack: int | str = "auto") -> dict[str, Any]:
    return {
        "name": "benchmark",
        "tasks": ["manifold-d2"],
        "methods": ["ns+gp1"],
        "budget": {"steps": steps, "evaluations": evaluations},
        "space": {"override": {"lr": {"log_uniform": [1e-4, 1e-2]}, "beta1": {"uniform": [0.0, 0.9]}}},
        "design": {"kind": "random", "points": trials},
        "execution": {"workers": WORKERS, "pack": pack},
    }


def _one(folder: Path, *, packs: int) -> dict[str, float]:
    """Seconds of one small sweep."""
    place = Path(tempfile.mkdtemp(dir=folder))
    marks, out = place / "marks", place / "run"
    (place / "sitecustomize.py").write_text(MARKS)
    file = place / "sweep.toml"
    file.write_text(toml(sweep(trials=2 * packs, steps=5, evaluations=5, pack=2)))
    paths = os.pathsep.join([str(place), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "manypaths", "run", str(file), "--out", str(out)]
    begun = time.time()
    done = subprocess.run(
        command,
        env=os.environ | ENVIRONMENT | {"PYTHONPATH": paths, "MARKS": str(marks)},
        capture_output=True,
        text=True,
        check=False,
    )
    ended = time.time()
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with exit code {done.returncode}:\n{done.stderr[-4000:]}")
    noted: dict[str, dict[str, float]] = defaultdict(dict)
    for what, pid, at in map(str.split, marks.read_text().splitlines()):
        noted[what].setdefault(pid, float(at))
    notes = [json.loads(note.read_text()) for note in sorted((out / "attempts").iterdir())]
    one = {
        "step": min(noted["step"].values()) - begun,
        "ready_to_step": max(at - noted["ready"][pid] for pid, at in noted["step"].items()),
        "end": ended - max(note["ended"] for note in notes),
        "all": ended - begun,
        "between": statistics.median(_between(notes)),
    }
    print(", ".join(f"{name} {seconds:.2f} s" for name, seconds in one.items()), flush=True)
    return one


def _between(notes: list[dict[str, Any]]) -> Iterator[float]:
    """Seconds between the packs of each worker."""
    last: dict[int, float] = {}
    for note in sorted(notes, key=lambda note: note["started"]):
        if note["pid"] in last:
            yield note["started"] - last[note["pid"]]
        last[note["pid"]] = note["ended"]


def shares_of_a_pack(trials: int, steps: int, evaluations: int, *, packs: int) -> dict[str, float]:
    """CPU seconds of the pack whose training takes least, all of it and what is not training; the first is not one."""
    import torch

    from study import worker
    from study.plan import expand
    from study.spec import parse_sweep
    from study.store import RunDirectory
    from study.sweep_run import prepare

    torch.set_num_threads(1)
    spent: dict[str, float] = defaultdict(float)
    parts = [
        (worker, "planned_pack", "Parquet"),
        (worker, "history_rows", "rows and notes"),
        (worker, "trial_rows", "rows and notes"),
        (worker, "build_table", "Parquet"),
        (RunDirectory, "write_part", "Parquet"),
        (worker, "_report", "progress"),
        (worker, "diverged", "progress"),
        (worker._Work, "note", "rows and notes"),
    ]
    found = []
    with tempfile.TemporaryDirectory() as folder, _timed(parts, spent):
        content = sweep(trials=trials * packs, steps=steps, evaluations=evaluations, pack=trials)
        plan = parse_sweep(content, source="benchmark")
        directory = RunDirectory(folder)
        for pack in prepare(directory, plan, expand(plan)).missing:
            spent.clear()
            before = time.thread_time()
            worker.run_pack(directory.root, pack)
            found.append(dict(spent) | {"all": time.thread_time() - before})
    return min(found[1:], key=lambda pack: pack["all"])


@contextmanager
def _timed(parts: list[tuple[Any, str, str]], spent: dict[str, float]) -> Iterator[None]:
    """Add up the CPU time of some functions while the block runs; what one calls of the others counts once."""
    inside = []

    def timed(real: Any, what: str) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            inside.append(what)
            before = time.thread_time()
            try:
                return real(*arguments, **options)
            finally:
                inside.pop()
                if not inside:
                    spent[what] += time.thread_time() - before

        return call

    before = [(owner, name, getattr(owner, name)) for owner, name, _ in parts]
    try:
        for owner, name, what in parts:
            setattr(owner, name, timed(getattr(owner, name), what))
        yield
    finally:
        for owner, name, real in before:
            setattr(owner, name, real)

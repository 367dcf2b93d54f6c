"""What a driver does for each pack, up to a million trials in 20,000 packs: planning, scheduling, storing.

Every number of a process is of one of its own: processor seconds and the peak of its memory as the kernel counts them.
Scheduling is measured with packs in which nothing is trained, so that nothing but Ray Tune's own work is left;
requests to storage are those that a server that speaks S3 has logged.
"""

from __future__ import annotations

import functools
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from benchmarks.memory import toml
from benchmarks.record import Found, Line
from benchmarks.scale_requests import requests_of_packs

PACKS, SLOTS = (1_000, 5_000, 20_000), 50
METHODS = ("ns", "ns+gp1", "ns+gp0", "ns+dragan", "wgan+gp1", "wgan+gp0", "wgan+clip", "hinge+gp1")
N_CRITIC = (1, 5)
SECONDS, MIB = "<= 10", "<= 2048"
"""What planning the largest sweep may take."""

SCHEDULED = (250, 1_000, 2_000)
"""Packs of which nothing is trained, given to Ray Tune."""

FINISHED = (1_000, 5_000)
"""Packs of finished runs that are looked at again; and what a table's folder on a server holds."""

STORED = 10
"""Packs that are really trained, for the requests that each makes."""

ENVIRONMENT = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0"}


def run(*, quick: bool = False) -> Found:
    sizes, scheduled, finished = ((16,), (8,), (16,)) if quick else (PACKS, SCHEDULED, FINISHED)
    found: dict[str, dict[int, dict[str, float]]] = {
        "plan": {packs: _process("plan", packs) for packs in sizes},
        "first": {packs: _process("first", packs) for packs in sizes},
        "again": {packs: _process("again", packs, before="finish") for packs in finished},
        "tune": {packs: _process("tune", packs) for packs in scheduled},
    }
    requests = requests_of_packs(sweep(1), *((2, 3) if quick else (STORED, 1500)))
    lines = [*_planning(found["plan"], required=not quick), *_running(found), *_scheduling(found["tune"])]
    lines += [Line(f"storage, {what}", value, "requests") for what, value in requests.items()]
    remarks = (
        f"{SLOTS} trials in a pack; {len(METHODS)} methods, n_critic {' and '.join(map(str, N_CRITIC))}, random "
        "points; processor: user and system seconds of the whole process; wall seconds grow with whatever else runs",
        "scheduling: one local Ray, packs of which nothing is trained, in reused worker processes; the driver's memory "
        "when Ray has started, and what each thousand of packs adds",
        "requests: of a pack with one task and two evaluations, on a server that speaks S3"
        if requests
        else "no requests were counted: the server that speaks S3 is not installed",
    )
    shown = Found(tuple(lines), remarks, {"processes": found, "requests": requests, "trials_per_pack": SLOTS})
    shown.show()
    return shown


def _planning(found: Mapping[int, Mapping[str, float]], *, required: bool) -> Iterator[Line]:
    for packs, part in found.items():
        bounds = (SECONDS, MIB) if required and packs == max(found) else ("", "")
        what = f"plan, {packs:,} packs, {packs * SLOTS:,} trials"
        yield Line(f"{what} (processor {part['processor']:.1f} s)", part["wall"], "s", bounds[0])
        yield Line(f"{what}, peak resident", part["mib"], "MiB", bounds[1])
    yield from _growth("plan", found)


def _running(found: Mapping[str, Mapping[int, Mapping[str, float]]]) -> Iterator[Line]:
    for packs, part in found["first"].items():
        what = f"run, {packs:,} packs"
        yield Line(f"{what}: until the first is submitted (processor {part['processor']:.1f} s)", part["wall"], "s")
        yield Line(f"{what}: peak resident", part["mib"], "MiB")
        yield Line(f"{what}: a worker finds its first pack in the plan", 1000 * part["find_first"], "ms")
        yield Line(f"{what}: and each further one", 1000 * part["find"], "ms")
        yield Line(f"{what}: the queue's own work for a pack", 1e6 * part["queue"] / packs, "us")
    yield from _growth("run, until the first is submitted", found["first"])
    for packs, part in found["again"].items():
        what = f"run of a finished sweep, {packs:,} packs (processor {part['processor']:.1f} s)"
        yield Line(what, part["wall"], "s")
    yield from _growth("run of a finished sweep", found["again"])


def _growth(what: str, found: Mapping[int, Mapping[str, float]]) -> Iterator[Line]:
    """What 1,000 packs more add, from the two largest sizes."""
    if len(found) < 2:
        return
    small, large = sorted(found)[-2:]
    thousands = (large - small) / 1000
    added = {name: (found[large][name] - found[small][name]) / thousands for name in ("processor", "mib")}
    yield Line(f"{what}: each further 1,000 packs, processor", added["processor"], "s")
    yield Line(f"{what}: each further 1,000 packs, memory", added["mib"], "MiB")


def _scheduling(found: Mapping[int, Mapping[str, float]]) -> Iterator[Line]:
    for packs, part in found.items():
        yield Line(f"Ray Tune, {packs:,} packs: wall of each", 1000 * part["wall_each"], "ms")
        yield Line(f"Ray Tune, {packs:,} packs: processor of the driver for each", 1000 * part["processor_each"], "ms")
        last = 1000 * part["processor_last"]
        yield Line(f"Ray Tune, {packs:,} packs: processor of the driver for each of the last fifth", last, "ms")
        yield Line(f"Ray Tune, {packs:,} packs: driver, resident before the first", part["before"], "MiB")
        yield Line(f"Ray Tune, {packs:,} packs: driver, resident for 1,000 more", part["mib_per_thousand"], "MiB")


# Processes


def _process(arm: str, packs: int, *, before: str | None = None) -> dict[str, float]:
    """What an arm measured in a process of its own, and the wall and processor seconds and the peak of memory of it."""
    with tempfile.TemporaryDirectory(prefix="mp") as folder:
        Path(folder, "sweep.toml").write_text(toml(sweep(packs)))
        if before is not None:
            _output([sys.executable, "-m", "benchmarks.scale", before, folder])
        begun = time.perf_counter()
        output = _output([sys.executable, "-m", "benchmarks.scale", arm, folder])
        found: dict[str, float] = {"wall": time.perf_counter() - begun} | json.loads(output.splitlines()[-1])
    print(f"{arm}, {packs:,} packs: {found}", flush=True)
    return found


def _output(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | ENVIRONMENT)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with exit code {done.returncode}:\n{done.stderr[-4000:]}")
    return done.stdout


def sweep(packs: int) -> dict[str, Any]:
    """A sweep of so many full packs."""
    return {
        "name": "scale",
        "tasks": ["manifold-d2"],
        "methods": list(METHODS),
        "budget": {"steps": 1000},
        "space": {
            "override": {
                "lr": {"log_uniform": [1e-5, 1e-2]},
                "beta1": {"uniform": [0.0, 0.9]},
                "penalty_weight": {"log_uniform": [0.1, 100.0]},
                "n_critic": {"cross": list(N_CRITIC)},
            }
        },
        "design": {"kind": "random", "points": packs * SLOTS // (len(METHODS) * len(N_CRITIC))},
        "execution": {"pack": SLOTS, "device": "cpu"},
    }


class _Nothing:
    """An executor that only notes what it took until it was given packs."""

    def __init__(self) -> None:
        self.begun = time.perf_counter()
        self.noted: dict[str, float] = {}

    def run(self, directory: Any, packs: Sequence[str], *, after: Any = None) -> None:
        self.noted = {"wall": time.perf_counter() - self.begun, "processor": _used(), "mib": _peak()}


def _first(folder: str) -> dict[str, float]:
    """A driver until its first pack is submitted, and a worker that looks for packs in the plan."""
    executor = _Nothing()
    prepared = _drive(folder, executor)
    from study.executor import Queue
    from study.records import planned_pack
    from study.store import RunDirectory

    root = RunDirectory(Path(folder, "run"))
    begun = time.perf_counter()
    planned_pack(root, prepared.missing[0])
    first = time.perf_counter() - begun
    places = range(0, len(prepared.missing), max(1, len(prepared.missing) // 10))
    times = [_wall(functools.partial(planned_pack, root, prepared.missing[place])) for place in places]

    def drain() -> None:
        queue = Queue(root, prepared.missing)
        while (pack := queue.next()) is not None:
            queue.ended(pack)

    return executor.noted | {"find_first": first, "find": statistics.median(times), "queue": _wall(drain)}


def _drive(folder: str, executor: _Nothing) -> Any:
    from study.progress import live
    from study.store import RunDirectory
    from study.sweep_run import load, run_sweep

    spec, trials = load(Path(folder, "sweep.toml"))
    directory = RunDirectory(Path(folder, "run"))
    return run_sweep(directory, spec, trials, executor, watch=live, say=lambda _: None)[0]


def _finish(folder: str) -> dict[str, float]:
    """Give a run the rows of all its packs, copies of one pack's."""
    prepared = _drive(folder, _Nothing())
    from study.schema import IDENTITY
    from study.store import build_table

    rows = prepared.directory.read_spans("plan", "0000", [(0, SLOTS)]).to_pylist()
    kept = [{column.name: row[column.name] for column in IDENTITY} | {"status": "completed"} for row in rows]
    for table, content in (("trials", kept), ("history", [{"trial_id": row["trial_id"]} for row in kept])):
        name, *others = prepared.missing
        prepared.directory.write_part(table, name, build_table(table, content))
        data = Path(folder, "run", table, f"{name}.parquet").read_bytes()
        for other in others:
            Path(folder, "run", table, f"{other}.parquet").write_bytes(data)
    return {}


def _command(*arguments: str) -> dict[str, float]:
    """What a command of ours takes in this process, which does nothing else."""
    from typer.testing import CliRunner

    import manypaths

    result = CliRunner().invoke(manypaths.app, list(arguments))
    if result.exit_code:
        raise RuntimeError(
            f"{arguments} ended with exit code {result.exit_code}: {result.output}"
        ) from result.exception
    return {"processor": _used(), "mib": _peak()}


def _plan(folder: str) -> dict[str, float]:
    return _command("plan", f"{folder}/sweep.toml", "--json")


def _again(folder: str) -> dict[str, float]:
    return _command("run", f"{folder}/sweep.toml", "--in-process", "--out", f"{folder}/run")


class _Line:
    """What a Ray driver talks to: has all packs from the beginning, and only counts what it hears."""

    def __init__(self, packs: int) -> None:
        self.packs = deque({"pack": f"{number:016x}", "gpu": 0.0, "halvings": 0} for number in range(packs))
        self.ended = True
        self.times: list[tuple[float, float, float]] = []

    def next_pack(self, *, wait: bool, meanwhile: Callable[[], None]) -> Mapping[str, Any] | None:
        meanwhile()
        return self.packs.popleft() if self.packs else None

    def send(self, kind: str, **content: object) -> None:
        if kind == "over":
            if content["fault"]:
                raise RuntimeError(str(content))
            self.times.append((time.perf_counter(), _used(), _resident()))


def _tune(folder: str) -> dict[str, float]:
    """Ray's driver with packs of which nothing is trained."""
    from cluster import driver, process

    count = _packs(folder)
    settings = {"root": folder, "device": "cpu", "data": None, "address": None, "workers": 2, "waiting": count}
    os.environ.update(process.SETTINGS | process.LOOPBACK)
    fault = driver.connect(settings | {"scratch": folder})
    if fault:
        raise RuntimeError(fault)
    line = _Line(count)
    vars(driver)["trainable"] = lambda _: nothing
    driver.fit(cast("driver.Line", line), settings | {"scratch": folder})
    import ray

    ray.shutdown()
    # the first packs start the workers
    begun = len(line.times) // 5
    (wall, used, resident), (last_wall, last_used, last_resident) = line.times[begun], line.times[-1]
    some = len(line.times) - 1 - begun
    return {
        "wall_each": (last_wall - wall) / some,
        "processor_each": (last_used - used) / some,
        "processor_last": (last_used - line.times[-1 - begun][1]) / begun,
        "before": line.times[0][2],
        "mib_per_thousand": 1000 * (last_resident - resident) / some,
    }


def nothing(_config: Mapping[str, Any]) -> dict[str, Any]:
    """A pack of which nothing is trained."""
    return {"share": 0.0}


def _packs(folder: str) -> int:
    points = tomllib.loads(Path(folder, "sweep.toml").read_text())["design"]["points"]
    return int(points * len(METHODS) * len(N_CRITIC)) // SLOTS


# Measures of this process


def _used() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _peak() -> float:
    """Of memory, in MiB, since this program began: getrusage would include what its parent had."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def _resident() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def _wall(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


ARMS = {"plan": _plan, "first": _first, "finish": _finish, "again": _again, "tune": _tune}

if __name__ == "__main__":
    print(json.dumps(ARMS[sys.argv[1]](sys.argv[2])))

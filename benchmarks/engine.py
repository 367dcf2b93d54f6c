"""CPU time of a trial-step in a full pack, against a plain PyTorch loop of the same mathematics, and against JAX.

Task: the networks and data of `ring8` (two MLPs, 64 wide), batch 64, n_critic 1, one thread, draws included,
evaluations left out on all sides. The pack's two programs, compiled ("native") and recorded, and the plain loop take
turns within one process. JAX (`benchmarks/jax_arm.py`: the same in vmap, jit and scan) is another Python's, named by
MANYPATHS_JAX_PYTHON, whose processes take turns with the compiled program's packs.
"""

from __future__ import annotations

import functools
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks import compiling, dissect
from benchmarks.plain import PlainGan
from benchmarks.record import Found, Line
from study.capacity import CPU_CAPACITY
from study.native.build import missing
from study.plan import expand
from study.schema import NATIVE, RECORDED
from study.spec import parse_sweep
from study.tasks.base import Snapshot
from study.tasks.ring import ring8
from study.tasks.table import TASKS
from study.train import train
from study.trial import Trial

METHODS = ("ns+gp1", "wgan+gp1")
CAPACITIES = {NATIVE: (1, 8, 32, 128), RECORDED: (1, 4, 8, 16, 32, 64, 128, 256)}
TRIAL_STEPS = {NATIVE: 8192, RECORDED: 1024}
"""In a stretch, which has ten steps of the pack at least."""
REQUIRED = {(method, NATIVE): dict.fromkeys(CAPACITIES[NATIVE], ">= 9") for method in METHODS} | {
    ("ns+gp1", RECORDED): {16: ">= 2", 128: ">= 4"}
}
"""Of the plain loop's time over a program's, by method, program and pack size."""
TASK = "ring8-without-evaluation"
PLAIN, PLAIN_STEPS = "plain loop's CPU time per trial-step over the pack's", 100

JAX_PYTHON = "MANYPATHS_JAX_PYTHON"
JAX_CAPACITIES = (1, 8, 16, 32, 128)
JAX_DRAWS = ("threefry2x32", "rbg")
"""JAX's generators of random numbers: its default, and its faster one. The better of the two counts."""
JAX_REQUIRED = "<= 1.2"


def run(*, quick: bool = False) -> Found:
    torch.set_num_threads(1)
    lacking, repeats = missing(), 2 if quick else 7
    programs = (RECORDED,) if lacking else (NATIVE, RECORDED)
    rows = []
    for method in METHODS[:1] if quick else METHODS:
        plain = PlainGan("ring8", lr=2e-4, beta1=0.5, loss=method.partition("+")[0])
        plain.train(20)
        for capacity in (CPU_CAPACITY,) if quick else CAPACITIES[RECORDED]:
            here = [name for name in programs if capacity in CAPACITIES[name]]
            rows.append(compare(method, capacity, plain, here, repeats=repeats, quick=quick))
            print(shown(rows[-1]), flush=True)
    jax = against_jax(programs[0], quick=quick)
    game = dissect.game_of(SILENT, METHODS[0])
    parts = dissect.recorded_parts(game, CPU_CAPACITY, repeats=3 if quick else 30)
    lines, remarks = [*_ratios(rows), *_of_jax(jax), *_products(parts)], [*_jax_remarks(jax)]
    details = {"capacities": rows, "jax": jax, "parts": parts, "products_needed": dissect.NEEDED}
    if lacking:
        remarks.append(f"native: not measured, {lacking}")
    else:
        step = next(row["ms"][NATIVE] for row in rows if row["capacity"] == CPU_CAPACITY)
        limit = dissect.limit(game, CPU_CAPACITY, step, repeats=1 if quick else 5)
        compiled = compiling.seconds(METHODS[0], ("cold",) if quick else compiling.ARMS)
        lines.append(Line("native: arithmetic needed, of what this core can do at most", 100 * limit["share"], "%"))
        lines += compiling.lines(METHODS[0], compiled)
        remarks += dissect.native_remarks(limit)
        details |= {"limit": limit, "compiling": compiled}
    found = Found(tuple(lines), (*remarks, *dissect.recorded_remarks(parts)), details)
    found.show()
    return found


def _nothing(at: Snapshot) -> dict[str, Tensor]:
    bias = at.parameters["bias0"]
    zero = bias.new_zeros(len(bias), dtype=torch.float64)
    return {"nothing": zero, "selection": zero}


SILENT = replace(
    ring8(), name=TASK, metrics=("nothing",), primary="nothing", evaluation_samples=0, evaluate=_nothing, controls=()
)


@functools.cache
def trials(method: str, capacity: int, steps: int) -> list[Trial]:
    TASKS[TASK] = lambda: SILENT
    sweep = {
        "name": "engine",
        "tasks": [TASK],
        "methods": [method],
        "budget": {"steps": steps, "evaluations": 1},
        "space": {"override": {"lr": {"log_uniform": [1e-4, 1e-3]}}},
        "design": {"kind": "random", "points": capacity},
    }
    return expand(parse_sweep(sweep, source="benchmark"))


def stretch(method: str, capacity: int, program: str, steps: int) -> float:
    """CPU milliseconds of a trial-step: a full pack is trained afresh for some steps."""
    pack = trials(method, capacity, steps)
    begun = time.process_time()
    train(pack, capacity=capacity, program=program)
    return (time.process_time() - begun) * 1000 / (capacity * steps)


def steps_of(program: str, capacity: int, *, quick: bool) -> int:
    return 2 if quick else max(10, TRIAL_STEPS[program] // capacity)


def compare(
    method: str, capacity: int, plain: PlainGan, programs: Sequence[str], *, repeats: int, quick: bool
) -> dict[str, Any]:
    """Train the plain trial and packs in turn. The first stretch of each does not count."""
    times: dict[str, list[float]] = {name: [] for name in ("plain", *programs)}
    steps = 5 if quick else PLAIN_STEPS
    for _ in range(repeats + 1):
        begun = time.process_time()
        plain.train(steps)
        times["plain"].append((time.process_time() - begun) * 1000 / steps)
        for name in programs:
            times[name].append(stretch(method, capacity, name, steps_of(name, capacity, quick=quick)))
    counted = {name: found[1:] for name, found in times.items()}
    ratios = {name: [a / b for a, b in zip(counted["plain"], counted[name], strict=True)] for name in programs}
    return {
        "method": method,
        "capacity": capacity,
        "ms": {name: statistics.median(found) for name, found in counted.items()},
        "ratio": {name: statistics.median(found) for name, found in ratios.items()},
        "ratio_range": {name: (min(found), max(found)) for name, found in ratios.items()},
    }


def shown(row: dict[str, Any]) -> str:
    """A row for who waits."""
    parts = [f"plain {row['ms']['plain']:.2f} ms"]
    for name, ratio in row["ratio"].items():
        low, high = row["ratio_range"][name]
        parts.append(f"{name} {row['ms'][name]:.4f} ms, {ratio:.2f} x ({low:.2f} to {high:.2f} over repeats)")
    return f"{row['method']}, capacity {row['capacity']:3}: {'; '.join(parts)}"


def _ratios(rows: Sequence[dict[str, Any]]) -> Iterator[Line]:
    for program in CAPACITIES:
        for row in rows:
            if program in row["ratio"]:
                required = REQUIRED.get((row["method"], program), {}).get(row["capacity"], "")
                what = f"{row['method']}, {program}, capacity {row['capacity']}: {PLAIN}"
                yield Line(what, row["ratio"][program], "x", required)


def _products(parts: dict[str, Any]) -> Iterator[Line]:
    """What is counted and not timed, and so has no noise."""
    needed = sum(map(len, dissect.NEEDED.values()))
    yield Line(
        "recorded: matrix products of a step over those needed", parts["calls"]["products"] / needed, "x", "<= 1.2"
    )


# JAX


def against_jax(program: str, *, quick: bool) -> list[dict[str, Any]]:
    """Processes of JAX and packs of ours in turn, twice; nothing where no Python with JAX is named."""
    python = os.environ.get(JAX_PYTHON)
    if not python:
        return []
    capacities, ours = ((8,), (8,)) if quick else (JAX_CAPACITIES, CAPACITIES[NATIVE])
    found = []
    with tempfile.TemporaryDirectory() as cache:
        for method in METHODS[:1] if quick else METHODS:
            for _ in range(1 if quick else 2):
                for draws in JAX_DRAWS[1:] if quick else JAX_DRAWS:
                    found += _jax(python, method, draws, capacities, cache)
                    found += _ours(method, program, ours, quick=quick)
    return found


def _jax(python: str, method: str, draws: str, capacities: Sequence[int], cache: str) -> list[dict[str, Any]]:
    """What a process of JAX prints; a program that was compiled in an earlier process is taken from a cache."""
    command = [python, str(Path(__file__).with_name("jax_arm.py")), method.partition("+")[0], *map(str, capacities)]
    settings = {
        "JAX_DEFAULT_PRNG_IMPL": draws,
        "JAX_COMPILATION_CACHE_DIR": cache,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | settings)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with exit code {done.returncode}:\n{done.stderr[-4000:]}")
    print(done.stdout, end="", flush=True)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    return [{"arm": "jax", "method": method, "draws": draws} | row for row in rows]


def _ours(method: str, program: str, capacities: Sequence[int], *, quick: bool) -> list[dict[str, Any]]:
    rows = []
    for capacity in capacities:
        steps = steps_of(program, capacity, quick=quick)
        times = [stretch(method, capacity, program, steps) for _ in range(6)][1:]
        rows.append({"arm": program, "method": method, "capacity": capacity, "milliseconds": statistics.median(times)})
    return rows


def best_of(rows: Sequence[dict[str, Any]], method: str, *, jax: bool) -> tuple[float, dict[str, Any]]:
    """The least milliseconds of a trial-step among pack sizes, a mean over processes, and one of its rows."""
    kinds: dict[tuple[object, ...], list[dict[str, Any]]] = {}
    for row in rows:
        if row["method"] == method and (row["arm"] == "jax") == jax:
            kinds.setdefault((row["capacity"], row.get("draws")), []).append(row)
    means = [(statistics.mean(row["milliseconds"] for row in found), found[0]) for found in kinds.values()]
    return min(means, key=lambda pair: pair[0])


def _of_jax(rows: Sequence[dict[str, Any]]) -> Iterator[Line]:
    for method in dict.fromkeys(row["method"] for row in rows):
        (theirs, jax), (ours, own) = best_of(rows, method, jax=True), best_of(rows, method, jax=False)
        ratio = "our CPU time per trial-step over JAX's, at the better pack size of each"
        yield Line(f"{method}, {own['arm']}: {ratio}", ours / theirs, "x", JAX_REQUIRED)
        yield Line(f"{method}, {own['arm']}, capacity {own['capacity']}: trial-step", ours, "ms")
        yield Line(f"{method}, JAX, capacity {jax['capacity']}, {jax['draws']}: trial-step", theirs, "ms")
    cold = [row["compiling_seconds"] for row in rows if row["arm"] == "jax" and row["draws"] == JAX_DRAWS[0]]
    if cold:
        yield Line("JAX, its default draws: until the first stretch is done (wall), longest", max(cold), "s")


def _jax_remarks(rows: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    if not rows:
        return (f"JAX: not measured, {JAX_PYTHON} does not name a Python that has it",)
    return (
        f"JAX {rows[0]['jax']} has the same networks, batches (64 real and 64 generated samples for the discriminator, "
        "64 mixed for the penalty, 64 new latents for the generator), losses, penalty and Adam; it starts from other "
        "weights, draws by Threefry or XLA's own generator and not by Philox, normal numbers by an inverse function "
        "and not by Box and Muller's way, and keeps no losses, gradient norms and first step that is not finite, as "
        "ours does",
    )

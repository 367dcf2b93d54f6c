"""CPU time of a trial-step of every method, relative to `ns`, in packs of one size.

Task: the networks and data of `ring8`, batch 64, n_critic 1, one thread, draws included, evaluations left out. Each
method is measured next to `ns`, in turn, so that a busy machine slows both. What a method may cost is counted by hand:
passes through the networks, forward or backward, of which `ns` makes NS_PASSES.
"""

from __future__ import annotations

import math
import statistics
import time
from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor

from benchmarks.engine import SILENT
from benchmarks.record import Found, Line
from study.losses import LOSSES
from study.native.build import missing
from study.penalties import PENALTIES
from study.plan import expand
from study.schema import NATIVE, RECORDED
from study.spec import Sweep, parse_sweep
from study.tasks.base import Snapshot
from study.tasks.table import TASKS
from study.techniques import TECHNIQUES
from study.train import PackState, train

TASK, CAPACITY = "ring8-timed", 32
REPEATS, STEPS = 5, {RECORDED: 10, NATIVE: 50}
NS_PASSES = 11
"""Its discriminator update runs the generator (1), and the discriminator forward and backward for its weights and inner
layers on two batches (2 x 3); its generator update runs both forward, then backward through the discriminator for its
inputs and through the generator for its weights (4)."""
PENALTY_PASSES = 5
"""On one batch of points: forward (1), the slope (1), and the way back through both for the weights (3)."""


def methods() -> list[str]:
    """Every loss, penalty and technique in one method each."""
    lipschitz = {name for name, loss in LOSSES.items() if loss.needs_lipschitz}
    of_losses = [f"{name}+clip" if name in lipschitz else name for name, loss in LOSSES.items() if not loss.value]
    of_penalties = [f"{p.losses[0] if p.losses else 'ns'}+{name}" for name, p in PENALTIES.items()]
    return [*of_losses, *of_penalties, *(f"ns+{name}" for name in TECHNIQUES)]


def run(*, quick: bool = False) -> Found:
    torch.set_num_threads(1)
    TASKS[TASK] = lambda: TIMED
    programs = (RECORDED,) if missing() else (RECORDED, NATIVE)
    lines: list[Line] = []
    details: dict[str, dict[str, dict[str, float]]] = {name: {} for name in programs}
    for name in dict.fromkeys(methods()[:3] if quick else methods()):
        for program in programs:
            cost = None if name == "ns" else milliseconds(name, program, quick=quick)
            if cost is None:
                continue
            base = milliseconds("ns", program, quick=quick) or math.nan
            details[program][name] = {"milliseconds": cost, "ns_milliseconds": base}
            what = f"{name}{'' if program == RECORDED else f', {program}'}: CPU time of a trial-step over that of ns"
            lines.append(Line(what, cost / base, "x", allowed(name)))
            print(
                f"{name:20} {program:8} {1000 / cost:7,.0f} trial-steps per second, {cost / base:.2f} x ns", flush=True
            )
    remarks = (
        f"capacity {CAPACITY}, medians of {REPEATS} stretches of {STEPS[RECORDED]} steps, {STEPS[NATIVE]} of compiled "
        "ones; ns is measured anew beside each method; where nothing is said of native, its step is not compiled",
        f"ns makes {NS_PASSES} passes through a network (forward, or backward for weights or inputs), a penalty "
        f"{PENALTY_PASSES} more for each batch of points",
    )
    found = Found(tuple(lines), remarks, details)
    found.show()
    return found


def allowed(name: str) -> str:
    """What the passes of a penalty on ns explain; nothing for other methods."""
    loss, _, penalty = name.partition("+")
    if loss != "ns" or penalty not in PENALTIES:
        return ""
    batches = 2 if PENALTIES[penalty].where == "both" else 1
    return f"<= {(NS_PASSES + PENALTY_PASSES * batches) / NS_PASSES:.2f}"


def milliseconds(method: str, program: str, *, quick: bool) -> float | None:
    """CPU milliseconds of a trial-step, the median over stretches; the first does not count.

    None where the program is not the one that trains the method.
    """
    repeats, steps = (1, 2) if quick else (REPEATS, STEPS[program])
    marks = [time.process_time()]

    def after(_state: PackState) -> None:
        marks.append(time.process_time())

    trials = expand(sweep(method, steps, repeats))
    if train(trials, capacity=CAPACITY, program=program, after_evaluation=after).program != program:
        return None
    spent = [b - a for a, b in pairwise(marks)][1:]
    return statistics.median(spent) * 1000 / (CAPACITY * steps)


def sweep(method: str, steps: int, repeats: int) -> Sweep:
    content = {
        "name": "methods",
        "tasks": [TASK],
        "methods": [method],
        "budget": {"steps": steps * (repeats + 1), "evaluations": repeats + 1},
        "space": {"override": {"lr": {"log_uniform": [1e-4, 1e-3]}}},
        "design": {"kind": "random", "points": CAPACITY},
    }
    return parse_sweep(content, source="benchmark")


def _nothing(at: Snapshot) -> dict[str, Tensor]:
    zero = at.samples.new_zeros(len(at.samples), dtype=torch.float64)
    return {"nothing": zero, "selection": zero}


TIMED = replace(SILENT, name=TASK, evaluation_samples=1, evaluate=_nothing)
"""Has samples, for mixtures are measured by nothing else."""

"""CPU time of a trial-step of every method, relative to `ns`, in packs of one size.

Task: the networks and data of `ring8`, batch 64, n_critic 1, one thread, draws included, evaluations left out. Each
method is measured next to `ns`, in turn, so that a busy machine slows both. What a method may cost is counted by hand:
passes through the networks, forward or backward, of which `ns` makes NS_PASSES.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor

from benchmarks.engine import SILENT, TASK
from benchmarks.record import Found, Line
from study.losses import LOSSES
from study.networks.base import Parameters
from study.penalties import PENALTIES
from study.plan import expand
from study.spec import parse_sweep
from study.tasks.table import TASKS
from study.techniques import TECHNIQUES
from study.train import PackState, train

CAPACITY = 32
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
    repeats, steps = (1, 2) if quick else (9, 10)
    lines, details = [], {}
    for name in dict.fromkeys(methods()):
        if name == "ns":
            continue
        base = milliseconds("ns", repeats=repeats, steps=steps)
        cost = milliseconds(name, repeats=repeats, steps=steps)
        details[name] = {"milliseconds": cost, "ns_milliseconds": base}
        lines.append(Line(f"{name}: CPU time of a trial-step over that of ns", cost / base, "x", allowed(name)))
        print(f"{name:20} {1000 / cost:7,.0f} trial-steps per second, {cost / base:.2f} x ns", flush=True)
    remarks = (
        f"capacity {CAPACITY}, medians of {repeats} stretches of {steps} steps; ns is measured anew before each method",
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


def milliseconds(method: str, *, repeats: int, steps: int) -> float:
    """CPU milliseconds of a trial-step, the median over stretches; the first does not count."""
    marks = [time.process_time()]

    def after(_state: PackState) -> None:
        marks.append(time.process_time())

    sweep = {
        "name": "methods",
        "tasks": [TASK],
        "methods": [method],
        "budget": {"steps": steps * (repeats + 1), "evaluations": repeats + 1},
        "space": {"override": {"lr": {"log_uniform": [1e-4, 1e-3]}}},
        "design": {"kind": "random", "points": CAPACITY},
    }
    train(expand(parse_sweep(sweep, source="benchmark")), capacity=CAPACITY, after_evaluation=after)
    spent = [b - a for a, b in pairwise(marks)][1:]
    return statistics.median(spent) * 1000 / (CAPACITY * steps)


def _no_metrics(_parameters: Parameters, samples: Tensor) -> dict[str, Tensor]:
    zero = samples.new_zeros(len(samples), dtype=torch.float64)
    return {"nothing": zero, "selection": zero}


TIMED = replace(SILENT, evaluation_samples=1, evaluate=_no_metrics)

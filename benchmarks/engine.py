"""CPU time of a trial-step in a full pack, against a plain PyTorch loop of one trial with the same mathematics.

Task: the networks and data of `ring8` (two MLPs, 64 wide), batch 64, `ns+gp1`, n_critic 1, one thread, draws included,
evaluations left out on both sides. The two are measured in turn, within one process.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.plain import PlainGan
from benchmarks.record import Found, Line
from study.capacity import CPU_CAPACITY
from study.game import Game
from study.methods import parse_method
from study.optimisers import OPTIMISERS
from study.plan import expand
from study.prng import key_words
from study.spec import parse_sweep
from study.step import Tensors, discriminator_update, generator_update, vectorise
from study.tasks.base import Snapshot
from study.tasks.ring import ring8
from study.tasks.table import TASKS
from study.train import PackState, blocks, draw, example_of, numbers_per_step, train
from study.trial import Trial

CAPACITIES = (1, 4, 8, 16, 32, 64, 128, 256)
REQUIRED = {16: ">= 2", 128: ">= 4"}
TASK, METHOD = "ring8-without-evaluation", "ns+gp1"
PLAIN_STEPS = 100
PRODUCTS = ("mm", "bmm", "addmm", "baddbmm", "mv", "dot")
VIEWS = (
    "view",
    "expand",
    "slice",
    "select",
    "split",
    "transpose",
    "t",
    "permute",
    "squeeze",
    "unsqueeze",
    "detach",
    "alias",
)

NEEDED = {
    "generated samples for the discriminator": 3,
    "discriminator on real, generated and mixed samples at once": 3,
    "slope at the mixed samples (the last layer's is its weight)": 2,
    "discriminator's gradient: 3 weights, 2 activations, the last layer's is its weight again": 4,
    "penalty's gradient, through the slope: 3 weights, 2 activations": 5,
    "generated samples for the generator": 3,
    "discriminator on them": 3,
    "gradient at them (the last layer's is its weight)": 2,
    "generator's gradient: 3 weights, 2 activations": 5,
}
"""Matrix products that one step of these networks needs, counted by hand; none are merged further."""

JAX_REFERENCE = (0.22, 0.30)
"""Milliseconds of a trial-step in JAX (vmap, jit and scan), measured elsewhere and earlier: an order of magnitude."""


def run(*, quick: bool = False) -> Found:
    torch.set_num_threads(1)
    TASKS[TASK] = lambda: SILENT
    plain = PlainGan("ring8", lr=2e-4, beta1=0.5)
    plain.train(20)
    rows = []
    for capacity in CAPACITIES[:3] if quick else CAPACITIES:
        row = compare(capacity, plain, repeats=2 if quick else 7, steps=2 if quick else max(10, 1024 // capacity))
        rows.append(row)
        print(
            f"capacity {capacity:3}: plain {row['plain_ms']:.2f} ms, pack {row['pack_ms']:.3f} ms per trial-step, "
            f"{row['ratio']:.2f} x ({row['ratio_low']:.2f} to {row['ratio_high']:.2f} over repeats)",
            flush=True,
        )
    parts = dissect(CPU_CAPACITY, repeats=3 if quick else 30)
    lines = tuple(
        Line(
            f"capacity {row['capacity']}: plain loop's CPU time per trial-step over the pack's",
            row["ratio"],
            "x",
            REQUIRED.get(row["capacity"], ""),
        )
        for row in rows
    )
    found = Found(lines, tuple(_remarks(parts)), {"capacities": rows, "parts": parts, "products_needed": NEEDED})
    found.show()
    return found


def _nothing(at: Snapshot) -> dict[str, Tensor]:
    bias = at.parameters["bias0"]
    zero = bias.new_zeros(len(bias), dtype=torch.float64)
    return {"nothing": zero, "selection": zero}


SILENT = replace(
    ring8(), name=TASK, metrics=("nothing",), primary="nothing", evaluation_samples=0, evaluate=_nothing, controls=()
)


def trials(capacity: int, *, steps: int, evaluations: int) -> list[Trial]:
    sweep = {
        "name": "engine",
        "tasks": [TASK],
        "methods": [METHOD],
        "budget": {"steps": steps * evaluations, "evaluations": evaluations},
        "space": {"override": {"lr": {"log_uniform": [1e-4, 1e-3]}}},
        "design": {"kind": "random", "points": capacity},
    }
    return expand(parse_sweep(sweep, source="benchmark"))


def compare(capacity: int, plain: PlainGan, *, repeats: int, steps: int) -> dict[str, float]:
    """Train a pack; between its evaluations, train the plain trial. The first stretch of each does not count."""
    pack_ms: list[float] = []
    plain_ms: list[float] = []
    begun = time.process_time()

    def after(state: PackState) -> None:
        nonlocal begun
        pack_ms.append((time.process_time() - begun) * 1000 / (capacity * steps))
        begun = time.process_time()
        plain.train(PLAIN_STEPS)
        plain_ms.append((time.process_time() - begun) * 1000 / PLAIN_STEPS)
        begun = time.process_time()

    train(trials(capacity, steps=steps, evaluations=repeats + 1), capacity=capacity, after_evaluation=after)
    ratios = [a / b for a, b in zip(plain_ms[1:], pack_ms[1:], strict=True)]
    return {
        "capacity": capacity,
        "pack_ms": statistics.median(pack_ms[1:]),
        "plain_ms": statistics.median(plain_ms[1:]),
        "ratio": statistics.median(ratios),
        "ratio_low": min(ratios),
        "ratio_high": max(ratios),
    }


@dataclass
class Tally(TorchDispatchMode):
    """Notes every tensor operation that runs, by kind: products, views (which only make a header), and others.

    Attributes:
        calls: Operations.
        seconds: Time they took, one by one.
        multiply_adds: Multiplications of the products.
        written: Bytes that the others wrote.
    """

    calls: Counter[str] = field(default_factory=Counter)
    seconds: Counter[str] = field(default_factory=Counter)
    multiply_adds: int = 0
    written: int = 0

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        begun = time.perf_counter()
        result = func(*args, **(kwargs or {}))
        took = time.perf_counter() - begun
        name = func.overloadpacket.__name__.lstrip("_")
        kind = "products" if name in PRODUCTS else "views" if name in VIEWS else "others"
        self.calls[kind] += 1
        self.seconds[kind] += took
        if kind == "products":
            left, right = [arg for arg in args if isinstance(arg, Tensor)][-2:]
            self.multiply_adds += left.numel() * right.shape[-1]
        elif kind == "others":
            outputs = result if isinstance(result, tuple | list) else [result]
            self.written += sum(x.numel() * x.element_size() for x in outputs if isinstance(x, Tensor))
        return result


def dissect(capacity: int, *, repeats: int) -> dict[str, Any]:
    """Where the CPU time of a pack's step goes: its three parts, and its operations by kind."""
    game = Game(SILENT, parse_method(METHOD), OPTIMISERS["adam"], 1)
    keys = key_words([trial.key for trial in trials(capacity, steps=1, evaluations=1)])
    ones = torch.ones(capacity)
    block = next(blocks(range(10_000), numbers_per_step(game) * capacity, "cpu"))
    example = example_of(game, capacity)
    updates = {
        "discriminator update": vectorise(lambda trial: discriminator_update(game, trial), example),
        "generator update": vectorise(lambda trial: generator_update(game, trial), example),
    }
    parts = {"draws": _cost(lambda: draw(game, keys, block, dtype=torch.float32), repeats) / (capacity * len(block))}
    parts |= {
        name: _cost(lambda update=update: update(example), repeats) / capacity for name, update in updates.items()
    }
    tallies = [_tally(updates.values(), example) for _ in range(repeats + 2)][2:]
    calls = tallies[0].calls
    return {
        "capacity": capacity,
        "milliseconds": parts,
        "calls": dict(calls),
        "milliseconds_by_kind": {
            kind: statistics.median(tally.seconds[kind] for tally in tallies) * 1000 / capacity for kind in calls
        },
        "dispatch_ms": _cost(lambda: [torch.add(ones, ones) for _ in range(calls.total())], repeats) / capacity,
        "multiply_adds": tallies[0].multiply_adds // capacity,
        "bytes_written": tallies[0].written // capacity,
    }


def _tally(updates: Iterable[Callable[[Tensors], Tensors]], example: Tensors) -> Tally:
    with Tally() as tally:
        for update in updates:
            update(example)
    return tally


def _cost(work: Callable[[], object], repeats: int) -> float:
    """CPU milliseconds of a call, median over repeats."""
    times = []
    for _ in range(repeats + 2):
        begun = time.process_time()
        with torch.no_grad():
            work()
        times.append((time.process_time() - begun) * 1000)
    return statistics.median(times[2:])


def _remarks(parts: dict[str, Any]) -> list[str]:
    times, kinds, calls = parts["milliseconds"], parts["milliseconds_by_kind"], parts["calls"]
    total, timed = sum(times.values()), sum(kinds.values())
    gigaflops = 2 * parts["multiply_adds"] / kinds["products"] / 1e6
    return [
        f"at capacity {parts['capacity']} a trial-step costs {total:.3f} ms: "
        + ", ".join(f"{name} {value:.3f} ({value / total:.0%})" for name, value in times.items()),
        f"timed one by one (which adds to each), the operations of both updates take {timed:.3f} ms: "
        + ", ".join(f"{calls[kind]} {kind} {value:.3f} ({value / timed:.0%})" for kind, value in kinds.items()),
        f"of {calls['products']} matrix products {sum(NEEDED.values())} are needed (counted by hand, none merged); "
        f"they run at {gigaflops:.0f} GFLOP/s",
        f"the others write {parts['bytes_written'] / 1e6:.2f} MB per trial-step in passes that a compiler would "
        f"fuse; as many operations on {parts['capacity']} numbers each take {parts['dispatch_ms']:.3f} ms, the "
        "price of dispatch alone",
        f"JAX needed {JAX_REFERENCE[0]:.2f} to {JAX_REFERENCE[1]:.2f} ms for a step of this kind (vmap, jit and scan) "
        "in another state of the machine: not part of this run, an order of magnitude only",
    ]

"""CPU time of a trial-step in a full pack, against a plain PyTorch loop of one trial with the same mathematics.

Task: the networks and data of `ring8` (two MLPs, 64 wide), batch 64, `ns+gp1`, n_critic 1, one thread, draws included,
evaluations left out on both sides. The two are measured in turn, within one process.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.plain import PlainGan
from benchmarks.record import Found, Line
from study.capacity import CPU_CAPACITY
from study.methods import parse_method
from study.optimisers import OPTIMISERS
from study.plan import expand
from study.prng import key_words
from study.spec import parse_sweep
from study.step import Game, discriminator_update, generator_update, vectorise
from study.tasks.ring import ring8
from study.tasks.table import TASKS
from study.train import PackState, blocks, draw, numbers_per_step, start, train
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
            f"engine, capacity {row['capacity']}: plain loop over pack, CPU time per trial-step",
            row["ratio"],
            "x",
            REQUIRED.get(row["capacity"], ""),
        )
        for row in rows
    )
    found = Found(lines, tuple(_remarks(parts)), {"capacities": rows, "parts": parts, "products_needed": NEEDED})
    found.show()
    return found


def _nothing(parameters: Any, samples: Tensor) -> dict[str, Tensor]:
    del samples
    zero = parameters["bias0"].new_zeros(len(parameters["bias0"]), dtype=torch.float64)
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
    """Notes every tensor operation that is run: its kind, and for matrix products their shapes.

    Attributes:
        kinds: Calls of products, other kernels, and views, which only make a new header.
        products: Shapes of the operands of each product.
        written: Bytes that the other kernels write.
    """

    kinds: Counter[str] = field(default_factory=Counter)
    products: list[list[torch.Size]] = field(default_factory=list)
    written: int = 0

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__.lstrip("_").removesuffix("_")
        if name in PRODUCTS:
            self.kinds["products"] += 1
            self.products.append([arg.shape for arg in args if isinstance(arg, Tensor)][-2:])
        elif name in VIEWS or name.startswith(("split", "unsafe_view")):
            self.kinds["views"] += 1
        else:
            self.kinds["others"] += 1
            outputs = result if isinstance(result, tuple | list) else [result]
            self.written += sum(x.numel() * x.element_size() for x in outputs if isinstance(x, Tensor))
        return result


def dissect(capacity: int, *, repeats: int) -> dict[str, Any]:
    """Where the CPU time of a pack's step goes: its three parts, and its matrix products and operations on their own."""
    game = Game(SILENT, parse_method(METHOD), OPTIMISERS["adam"], 1)
    keys = key_words([trial.key for trial in trials(capacity, steps=1, evaluations=1)])
    ones = torch.ones(capacity)
    names = ("lr_g", "lr_d", "beta1", "beta2", "penalty_weight", "clip", "noise_scale")
    constants = dict.fromkeys(names, ones * 1e-3)
    block = next(blocks(range(10_000), numbers_per_step(game) * capacity, "cpu"))
    example = start(game, keys, constants, dtype=torch.float32) | constants | {"count": torch.tensor(1.0)}
    draws = draw(game, keys, block, dtype=torch.float32)
    example |= {"real": draws["real"][:, 0, 0], "noise": draws["noise"][:, 0, 0], "latent": draws["latent_d"][:, 0, 0]}
    updates = {
        "discriminator update": vectorise(lambda trial: discriminator_update(game, trial), example),
        "generator update": vectorise(lambda trial: generator_update(game, trial), example),
    }
    parts = {"draws": _cost(lambda: draw(game, keys, block, dtype=torch.float32), repeats) / (capacity * len(block))}
    counts: dict[str, dict[str, int]] = {}
    shapes: list[list[torch.Size]] = []
    for name, update in updates.items():
        parts[name] = _cost(lambda update=update: update(example), repeats) / capacity
        with Tally() as tally:
            update(example)
        counts[name] = dict(tally.kinds) | {"written": tally.written}
        shapes += tally.products
    operands = [[torch.rand(shape) for shape in pair] for pair in shapes]
    products = _cost(lambda: [torch.matmul(a, b) for a, b in operands], repeats) / capacity
    calls = sum(count[kind] for count in counts.values() for kind in ("products", "others", "views"))
    dispatch = _cost(lambda: [torch.add(ones, ones) for _ in range(calls)], repeats) / capacity
    return {
        "capacity": capacity,
        "milliseconds": parts,
        "counts": counts,
        "products_ms": products,
        "dispatch_ms": dispatch,
        "multiply_adds": sum(_multiply_adds(pair) for pair in shapes) // capacity,
    }


def _multiply_adds(pair: Sequence[torch.Size]) -> int:
    return int(torch.Size(pair[0]).numel()) * int(pair[1][-1])


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
    times: dict[str, float] = parts["milliseconds"]
    total = sum(times.values())
    run_products = sum(count["products"] for count in parts["counts"].values())
    others = sum(count["others"] for count in parts["counts"].values())
    views = sum(count["views"] for count in parts["counts"].values())
    written = sum(count["written"] for count in parts["counts"].values())
    updates = total - times["draws"]
    products, dispatch = parts["products_ms"], parts["dispatch_ms"]
    rest = updates - products - dispatch
    return [
        f"at capacity {parts['capacity']} a trial-step costs {total:.3f} ms: "
        + ", ".join(f"{name} {value:.3f} ({value / total:.0%})" for name, value in times.items()),
        f"the two recorded updates run {run_products} matrix products where {sum(NEEDED.values())} are needed (counted "
        f"by hand, none merged); alone, products of those shapes take {products:.3f} ms of the updates' {updates:.3f}, "
        f"that is {2 * parts['multiply_adds'] / products / 1e6:.1f} GFLOP/s",
        f"beside them run {others} elementwise, copying and reducing operations, which write "
        f"{written / parts['capacity'] / 1e6:.2f} MB per trial-step, and {views} views; as many operations on "
        f"{parts['capacity']} numbers each take {dispatch:.3f} ms, the price of dispatch; what is left, {rest:.3f} ms, "
        "is their passes over memory, which a compiler would fuse",
        f"JAX needed {JAX_REFERENCE[0]:.2f} to {JAX_REFERENCE[1]:.2f} ms for a step of this kind (vmap, jit and scan) "
        "in another state of the machine: not part of this run, an order of magnitude only",
    ]

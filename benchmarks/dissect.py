"""Where the time of a step goes: recorded operations one by one, and a compiled step against the core's own limit.

The limit is arithmetic: the multiplications that the mathematics needs, at the speed of multiply-adds that wait for
nothing, measured on this core. Bytes are those of the operands and results of these products, each once, and of the
optimiser's state; all of a trial stays in the core's own cache meanwhile.
"""

from __future__ import annotations

import ctypes
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from study.draws import draw
from study.game import Game
from study.methods import parse_method
from study.native.build import library
from study.optimisers import OPTIMISERS
from study.prng import key_words
from study.schema import NATIVE
from study.step import Tensors, discriminator_update, generator_update, vectorise
from study.tasks.base import Task
from study.train import blocks, example_of, numbers_per_step, program_of

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

B, W = 64, 64
"""Batch, and width of the hidden layers; samples and latents have two numbers."""

NEEDED = {
    "generated samples for the discriminator": ((B, 2, W), (B, W, W), (B, W, 2)),
    "discriminator on real, generated and mixed samples at once": ((3 * B, 2, W), (3 * B, W, W), (3 * B, W, 1)),
    "slope at the mixed samples (the last layer's is its weight)": ((B, W, W), (B, W, 2)),
    "discriminator's gradient: 3 weights, 2 activations, the last layer's is its weight again": (
        *((1, 2 * B, W), (W, 2 * B, W), (2, 2 * B, W)),
        (2 * B, W, W),
    ),
    "penalty's gradient, through the slope: 3 weights, 2 activations": (
        *((W, B, 2), (W, B, W), (1, B, W)),
        *((B, 2, W), (B, W, W)),
    ),
    "generated samples for the generator": ((B, 2, W), (B, W, W), (B, W, 2)),
    "discriminator on them": ((B, 2, W), (B, W, W), (B, W, 1)),
    "gradient at them (the last layer's is its weight)": ((B, W, W), (B, W, 2)),
    "generator's gradient: 3 weights, 2 activations": (
        *((W, B, 2), (W, B, W), (2, B, W)),
        *((B, 2, W), (B, W, W)),
    ),
}
"""Matrix products that one step of these networks needs with a slope penalty, counted by hand, none merged further:
(m, k, n) for m x k numbers times k x n."""

PARAMETERS = (2 * W + W + W * W + W + 2 * W + 2) + (2 * W + W + W * W + W + W + 1)
"""Of both players."""

OPTIMISER = 7
"""Numbers that Adam reads and writes for each parameter: it, its gradient and two moments; and three of them again."""


def multiply_adds(needed: Iterable[tuple[tuple[int, int, int], ...]] = NEEDED.values()) -> int:
    """Multiplications, each with its addition, of some products."""
    return sum(m * k * n for products in needed for m, k, n in products)


def bytes_touched(needed: Iterable[tuple[tuple[int, int, int], ...]] = NEEDED.values()) -> int:
    """Bytes of a step: operands and results of its products, once for each product, and what the optimiser touches."""
    of_products = sum(m * k + k * n + m * n for products in needed for m, k, n in products)
    return 4 * (of_products + OPTIMISER * PARAMETERS)


# Recorded operations


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


def game_of(task: Task, method: str) -> Game:
    return Game(task, parse_method(method), OPTIMISERS["adam"], 1)


def recorded_parts(game: Game, capacity: int, *, repeats: int) -> dict[str, Any]:
    """Where the CPU time of a pack's recorded step goes: its three parts, and its operations by kind."""
    keys, ones = key_words([f"{i:016x}" for i in range(capacity)]), torch.ones(capacity)
    block = next(blocks(range(10_000), numbers_per_step(game) * capacity, "cpu"))
    example = example_of(game, capacity)
    made = {name: vectorise(update, example) for name, update in _updates(game).items()}
    parts = {"draws": _cost(lambda: draw(game, keys, block, dtype=torch.float32), repeats) / (capacity * len(block))}
    parts |= {name: _cost(lambda update=update: update(example), repeats) / capacity for name, update in made.items()}
    tallies = [_tally(made.values(), example) for _ in range(repeats + 2)][2:]
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


def _updates(game: Game) -> dict[str, Callable[[Tensors], Tensors]]:
    return {
        "discriminator update": lambda trial: discriminator_update(game, trial),
        "generator update": lambda trial: generator_update(game, trial),
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


def recorded_remarks(parts: dict[str, Any]) -> list[str]:
    times, kinds, calls = parts["milliseconds"], parts["milliseconds_by_kind"], parts["calls"]
    total, timed = sum(times.values()), sum(kinds.values())
    gigaflops = 2 * parts["multiply_adds"] / kinds["products"] / 1e6
    return [
        f"recorded, at capacity {parts['capacity']}: a trial-step costs {total:.3f} ms: {_shares(times, total)}",
        f"timed one by one (which adds to each), the operations of both updates take {timed:.3f} ms: "
        + ", ".join(f"{calls[kind]} {kind} {value:.3f} ({value / timed:.0%})" for kind, value in kinds.items()),
        f"of {calls['products']} matrix products {sum(map(len, NEEDED.values()))} are needed (counted by hand, none "
        f"merged); they run at {gigaflops:.0f} GFLOP/s",
        f"the others write {parts['bytes_written'] / 1e6:.2f} MB per trial-step in passes that a compiler would "
        f"fuse; as many operations on {parts['capacity']} numbers each take {parts['dispatch_ms']:.3f} ms, the "
        "price of dispatch alone",
    ]


def _shares(times: dict[str, float], total: float) -> str:
    return ", ".join(f"{name} {value:.3f} ({value / total:.0%})" for name, value in times.items())


# A compiled step

PEAK = r"""
#include <cstdint>
#if defined(__AVX512F__)
typedef float wide __attribute__((vector_size(64)));
#elif defined(__AVX__)
typedef float wide __attribute__((vector_size(32)));
#else
typedef float wide __attribute__((vector_size(16)));
#endif
constexpr int count = 12, lanes = sizeof(wide) / sizeof(float);
extern "C" int64_t multiply_adds(int64_t times, float factor, float* out) {
  wide sums[count];
  for (int i = 0; i < count; ++i) sums[i] = wide{} + float(i);
  const wide by = wide{} + factor, more = wide{} + 1.0f;
  for (int64_t time = 0; time < times; ++time) {
#pragma GCC unroll 12
    for (int i = 0; i < count; ++i) sums[i] = sums[i] * by + more;
  }
  for (int i = 0; i < count; ++i) for (int j = 0; j < lanes; ++j) out[0] += sums[i][j];
  return times * count * lanes;
}
"""
"""Multiply-adds on registers that do not wait for each other: what a core can do at most."""


def peak(repeats: int) -> float:
    """GFLOP/s of this core: the fastest of some runs of PEAK, of some ten milliseconds each."""
    run = library(PEAK).multiply_adds
    run.restype = ctypes.c_int64
    out, best = ctypes.c_float(0), 0.0
    for _ in range(repeats):
        begun = time.process_time()
        done = run(ctypes.c_int64(1_000_000), ctypes.c_float(0.5), ctypes.byref(out))
        best = max(best, 2 * done / (time.process_time() - begun) / 1e9)
    return best


def of_torch(repeats: int, size: int = 512) -> float:
    """GFLOP/s of torch.mm of two matrices of some size on one thread, the fastest of some runs."""
    left, right, out = torch.rand(size, size), torch.rand(size, size), torch.empty(size, size)
    best = 0.0
    for _ in range(repeats):
        begun = time.process_time()
        torch.mm(left, right, out=out)
        best = max(best, 2 * size**3 / (time.process_time() - begun) / 1e9)
    return best


def native_parts(game: Game, capacity: int, *, repeats: int, steps: int = 32) -> dict[str, float]:
    """CPU milliseconds of each update of a trial, its draws included: from steps of one and of three discriminator's.

    Raises:
        RuntimeError: If the step is not compiled here.
    """
    program = program_of(game, capacity, "cpu", torch.float32, NATIVE)
    run, example = program.blocks, example_of(game, capacity)
    if run is None:
        raise RuntimeError(f"not compiled: {program.why}")
    keys = key_words([f"{i:016x}" for i in range(capacity)])

    def step(updates: int) -> float:
        begun = time.process_time()
        run(example, keys, range(steps), total=steps, updates=updates)
        return (time.process_time() - begun) * 1000 / (capacity * steps)

    times = [(step(1), step(3)) for _ in range(repeats + 1)][1:]
    one, three = (statistics.median(column) for column in zip(*times, strict=True))
    discriminator = (three - one) / 2
    return {"discriminator update and its draws": discriminator, "generator update and its draws": one - discriminator}


def limit(game: Game, capacity: int, step_ms: float, *, repeats: int) -> dict[str, Any]:
    """How far a compiled step of so many milliseconds is from what the core can do."""
    flops, best = 2 * multiply_adds(), peak(20 * repeats)
    return {
        "capacity": capacity,
        "step_ms": step_ms,
        "milliseconds": native_parts(game, capacity, repeats=repeats),
        "flops": flops,
        "bytes": bytes_touched(),
        "gigaflops": flops / step_ms / 1e6,
        "peak_gigaflops": best,
        "torch_gigaflops": of_torch(20 * repeats),
        "limit_ms": flops / best / 1e6,
        "share": flops / step_ms / 1e6 / best,
    }


def native_remarks(found: dict[str, Any]) -> list[str]:
    times, bandwidth = found["milliseconds"], found["bytes"] / found["step_ms"] / 1e6
    return [
        f"native, at capacity {found['capacity']}: a trial-step costs {found['step_ms']:.4f} ms: "
        f"{_shares(times, sum(times.values()))}",
        f"{found['flops'] / 1e6:.2f} million floating point operations are needed in matrix products, which makes "
        f"{found['gigaflops']:.0f} GFLOP/s over the whole step",
        f"this core reaches {found['peak_gigaflops']:.0f} GFLOP/s in multiply-adds on registers that wait for nothing "
        f"and {found['torch_gigaflops']:.0f} in torch.mm of 512 x 512; at the former the products alone take "
        f"{found['limit_ms']:.4f} ms: the step runs at {found['share']:.0%} of the core's measured peak",
        f"{found['bytes'] / 1e6:.2f} MB are touched by products (operands and results once each) and optimiser, "
        f"{found['flops'] / found['bytes']:.1f} operations for each byte and {bandwidth:.0f} GB/s, "
        "nearly all in the core's own cache",
    ]

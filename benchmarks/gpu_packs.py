"""Packs on a device, to be timed: recorded or captured, of perceptrons or of convolutions computed in several ways."""

from __future__ import annotations

import contextlib
import functools
import gc
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.fx import Node
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from study.game import Game
from study.graphs import Captured, captured
from study.methods import parse_method
from study.optimisers import OPTIMISERS
from study.prng import key_words
from study.program import Program, advance, make_program
from study.record import record
from study.step import Tensors
from study.tasks.base import Task
from study.tasks.ring import ring8
from study.train import NUMBERS, blocks, example_of, numbers_per_step, start

METHOD, TOTAL = "ns+gp1", 1_000_000
aten = torch.ops.aten


class Again:
    """A graph where there is no CUDA device: it does the work again, which shows that it runs and measures nothing."""

    def capture(self, work: Callable[[], Tensors]) -> Tensors:
        self.work, self.made = work, work()
        return self.made

    def replay(self) -> None:
        for name, tensor in self.work().items():
            self.made[name].copy_(tensor)


@functools.cache
def _table(device: torch.device, width: int) -> Tensor:
    return torch.rand(4096, width, device=device) * 2 - 1


def images(family: str, *, side: int = 32, batch: int = 64) -> Task:
    """A task of any images, with the networks of a family."""
    width = 3 * side**2
    return Task(
        name=family,
        shape=(3, side, side),
        bounded=True,
        latent=128,
        batch=batch,
        family=family,
        draws=1,
        sample=lambda u: _table(u.device, width)[(u[..., 0] * 4096).long()],
        metrics=("nothing",),
        primary="nothing",
        evaluate=lambda _: {},
        threshold=0.0,
        anchors=(0.0, 1.0),
    )


def game_of(task: Task | None = None) -> Game:
    """`ns+gp1` with Adam and n_critic 1, on `ring8` unless another task is given."""
    return Game(task or ring8(), parse_method(METHOD), OPTIMISERS["adam"], 1)


@dataclass
class Pack:
    """A pack in training: what takes its steps, and where it is."""

    keys: Tensor
    tensors: Tensors
    run: Callable[..., Tensors]
    step: int = 0

    def train(self, steps: int) -> None:
        self.tensors = self.run(self.keys, self.tensors, range(self.step, self.step + steps), total=TOTAL)
        self.step += steps


def pack_of(game: Game, capacity: int, device: str, *, way: str, dtype: torch.dtype = torch.float32) -> Pack:
    """A pack; `way` is "recorded", "captured", or "channels-last" or "unfold", which are captured too."""
    keys = key_words([f"{i + 1:016x}" for i in range(capacity)], device=device)
    constants = {name: torch.full((capacity,), 0.5, dtype=dtype, device=device) for name in NUMBERS}
    constants["lr_g"] = constants["lr_d"] = torch.logspace(-4, -3, capacity, dtype=dtype, device=device)
    constants["beta2"], constants["penalty_weight"] = constants["beta2"] + 0.499, constants["penalty_weight"] * 20
    tensors = start(game, keys, constants, dtype=dtype) | constants
    example = example_of(game, capacity, device=device, dtype=dtype)
    with _convolved(way):
        program = make_program(game, example)
        run = partial(_recorded, program, game) if way == "recorded" else _captured(program, game, example, way)
    return Pack(keys, tensors, run)


def _recorded(program: Program, game: Game, keys: Tensor, tensors: Tensors, steps: range, *, total: int) -> Tensors:
    for block in blocks(steps, numbers_per_step(game) * len(keys), keys.device.type):
        tensors = advance(program, game, keys, tensors, block, total=total)
    return tensors


def _captured(program: Program, game: Game, example: Tensors, way: str) -> Captured:
    if way == "channels-last":
        changed = {name: channels_last(getattr(program, name), example) for name in ("discriminator", "generator")}
        program = replace(program, **changed)
    if example["theta"].device.type == "cuda":
        return captured(program, game, example)
    return captured(program, game, example, graph=Again)


# ways to convolve: as mapped, which is in groups; the same with channels last; and products of unfolded images


@contextlib.contextmanager
def _convolved(way: str) -> Iterator[None]:
    if way != "unfold":
        yield
        return
    with patch.multiple(functional, conv2d=unfolded, conv_transpose2d=refolded):
        yield


def unfolded(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, stride: int = 1, padding: int = 0) -> Tensor:
    """`conv2d` as one product."""
    size = (x.shape[-1] + 2 * padding - weight.shape[-1]) // stride + 1
    columns = functional.unfold(x, weight.shape[-1], padding=padding, stride=stride)
    return _with_bias((weight.flatten(1) @ columns).unflatten(-1, (size, size)), bias)


def refolded(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, stride: int = 1, padding: int = 0) -> Tensor:
    """`conv_transpose2d` as one product."""
    size = (x.shape[-1] - 1) * stride - 2 * padding + weight.shape[-1]
    columns = weight.flatten(1).T @ x.flatten(2)
    folded = functional.fold(columns, (size, size), weight.shape[-1], padding=padding, stride=stride)
    return _with_bias(folded, bias)


def _with_bias(x: Tensor, bias: Tensor | None) -> Tensor:
    return x if bias is None else x + bias[:, None, None]


INPUTS = {aten.convolution.default: 2, aten.convolution_backward.default: 3}
"""Of each operation, how many of its first arguments are maps or weights."""


def channels_last(update: Callable[[Tensors], Tensors], example: Tensors) -> Callable[[Tensors], Tensors]:
    """An update whose convolutions get their maps and weights with channels last in memory."""
    names = list(example)
    with torch.no_grad():
        module = record(lambda *given: update(dict(zip(names, given, strict=True))), list(example.values()))
    for node in list(module.graph.nodes):
        for argument in node.args[: INPUTS.get(node.target, 0)]:
            if isinstance(argument, Node):
                with module.graph.inserting_before(node):
                    form = {"memory_format": torch.channels_last}
                    node.replace_input_with(argument, module.graph.call_function(aten.clone.default, (argument,), form))
    module.recompile()
    return torch.no_grad()(lambda tensors: module(*(tensors[name] for name in names)))


# timing


def synchronise(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def seconds(work: Callable[[], object], device: str, *, repeats: int) -> float:
    """Wall seconds of some work on a device, the median over repeats; the first does not count."""
    taken = []
    for _ in range(repeats + 1):
        synchronise(device)
        begun = time.perf_counter()
        work()
        synchronise(device)
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken[1:])


def timed(game: Game, capacity: int, device: str, *, way: str, steps: int, repeats: int) -> dict[str, Any]:
    """Trial-steps per second of a pack, the memory that a trial takes, and how long making the program took.

    None in place of the numbers where the device's memory is too small.
    """
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    begun = time.perf_counter()
    row = {"capacity": capacity, "way": way}
    try:
        pack = pack_of(game, capacity, device, way=way)
        pack.train(1)
        synchronise(device)
        making = time.perf_counter() - begun
        rate = capacity * steps / seconds(partial(pack.train, steps), device, repeats=repeats)
    except torch.OutOfMemoryError:
        return row | dict.fromkeys(("rate", "bytes", "making"))
    peak = torch.cuda.max_memory_allocated() / capacity if device == "cuda" else None
    return row | {"rate": rate, "bytes": peak, "making": making}


def together(packs: Sequence[Pack], device: str, *, steps: int, repeats: int) -> float:
    """Steps per second of several packs of one process, all packs counted, each in a stream of its own."""
    aside = [torch.cuda.Stream() if device == "cuda" else None for _ in packs]

    def work() -> None:
        for pack, stream in zip(packs, aside, strict=True):
            with torch.cuda.stream(stream):
                pack.train(steps)

    return len(packs) * steps / seconds(work, device, repeats=repeats)


def operations(game: Game, device: str) -> int:
    """Additions and multiplications in the matrix products and convolutions of a trial-step."""
    pack = pack_of(game, 1, device, way="recorded")
    pack.train(1)
    with FlopCounterMode(display=False) as counter:
        pack.train(1)
    return counter.get_total_flops()


def peak(device: str, *, size: int) -> float:
    """What the device reaches in a large product in float32, additions and multiplications per second."""
    a, b = (torch.randn(size, size, device=device) for _ in range(2))
    return 2 * size**3 / seconds(lambda: a @ b, device, repeats=10)


def tf32(game: Game, capacity: int, device: str, *, steps: int, repeats: int) -> dict[str, Any]:
    """What products in tf32 gain, and how far generators are off after some steps from the same start, relatively."""

    def trained() -> tuple[float, Tensor]:
        pack = pack_of(game, capacity, device, way="captured")
        pack.train(steps)
        after = pack.tensors["theta"]
        return seconds(partial(pack.train, steps), device, repeats=repeats), after

    plain, expected = trained()
    torch.set_float32_matmul_precision("high")
    try:
        fast, found = trained()
    finally:
        torch.set_float32_matmul_precision("highest")
    off = (found - expected).norm(dim=1) / expected.norm(dim=1)
    return {"gain": plain / fast, "steps": steps, "off_median": float(off.median()), "off_most": float(off.max())}

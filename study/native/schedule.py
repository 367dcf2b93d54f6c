"""The order of a program's work: expressions of one shape share a loop, and memory is used again."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias, cast

import torch

from study.native.statements import Call, Pointwise, Statement
from study.native.views import Buffer, View

ALIGNMENT = 64
PAGE = 4096


@dataclass(eq=False)
class Loop:
    """Expressions over the same indices, computed together.

    Attributes:
        shape: The indices.
        statements: In an order in which they can run at each index.
        kept: Buffers that somebody else reads; all others are numbers within the loop.
    """

    shape: tuple[int, ...]
    statements: list[Pointwise] = field(default_factory=list)
    kept: set[Buffer] = field(default_factory=set)


Step: TypeAlias = Loop | Call


def schedule(statements: Sequence[Statement]) -> list[Step]:
    """Join expressions of one shape into loops, as early as what they read allows."""
    steps: list[Step] = []
    writers: dict[Buffer, list[int]] = defaultdict(list)
    for statement in statements:
        place = _place(statement, steps, writers)
        if isinstance(statement, Pointwise):
            loop = cast("Loop", steps[place]) if place < len(steps) else Loop(statement.out.shape)
            loop.statements.append(statement)
            step: Step = loop
        else:
            step = statement
        if place == len(steps):
            steps.append(step)
        for buffer in _and_homes(statement.out.buffer):
            writers[buffer].append(place)
    _keep(steps)
    return steps


def _place(statement: Statement, steps: list[Step], writers: dict[Buffer, list[int]]) -> int:
    """The first step that a statement can join, or one past the end."""
    if not isinstance(statement, Pointwise) or statement.alone:
        return len(steps)
    first = 0
    for view in statement.reads:
        for place in writers[view.buffer]:
            first = max(first, place if _within(view, statement, steps[place]) else place + 1)
    for place in writers[statement.out.buffer]:
        first = max(first, place + 1)
    for place in range(first, len(steps)):
        step = steps[place]
        if isinstance(step, Loop) and step.shape == statement.out.shape and not step.statements[0].alone:
            return place
    return len(steps)


def _within(view: View, reader: Pointwise, step: Step) -> bool:
    """True if a loop has just the number that a statement of its shape reads at the same index."""
    if not isinstance(step, Loop) or step.shape != reader.out.shape or step.statements[0].alone:
        return False
    return any(statement.out == view for statement in step.statements)


def _and_homes(buffer: Buffer) -> Iterable[Buffer]:
    """A buffer and those that it is a part of."""
    yield buffer
    if buffer.home:
        yield from _and_homes(buffer.home[0])


def _keep(steps: list[Step]) -> None:
    """Find out which results of loops are read outside of them."""
    for step in steps:
        if isinstance(step, Loop):
            own = {statement.out for statement in step.statements}
            step.kept = {out.buffer for out in own if out.buffer.kind == "output" or out.buffer.home}
            step.kept |= {out.buffer for out in own if not out.whole}
    makers: dict[Buffer, list[Loop]] = defaultdict(list)
    for step in steps:
        if isinstance(step, Loop):
            for statement in step.statements:
                makers[statement.out.buffer].append(step)
    for step in steps:
        for view in _reads(step):
            for loop in makers[view.buffer]:
                if not (loop is step and _made(view, loop)):
                    loop.kept.add(view.buffer)


def _reads(step: Step) -> list[View]:
    return [view for s in step.statements for view in s.reads] if isinstance(step, Loop) else step.reads


def _made(view: View, loop: Loop) -> bool:
    return any(statement.out == view for statement in loop.statements)


def allocate(steps: list[Step]) -> tuple[dict[Buffer, int], int]:
    """Places in bytes of scratch buffers that live in memory, and the bytes they need in all."""
    last: dict[Buffer, int] = {}
    for i, step in enumerate(steps):
        for view in [*_reads(step), *_written(step)]:
            last[view.buffer.root()] = i
    places: dict[Buffer, int] = {}
    live: list[tuple[int, int, Buffer]] = []
    for i, step in enumerate(steps):
        live = [entry for entry in live if last[entry[2]] >= i]
        for view in _written(step):
            root = view.buffer.root()
            if root.kind == "scratch" and root not in places:
                size = _bytes(root)
                places[root] = _first_gap(live, size)
                live.append((places[root], size, root))
    return places, max((place + _bytes(buffer) for buffer, place in places.items()), default=0)


def _written(step: Step) -> list[View]:
    if not isinstance(step, Loop):
        return [step.out]
    return [statement.out for statement in step.statements if statement.out.buffer in step.kept]


def _bytes(buffer: Buffer) -> int:
    """Whole cache lines, and not quite pages: buffers at equal places of pages would get into each other's way."""
    size = -(-buffer.size * torch.empty(0, dtype=buffer.dtype).element_size() // ALIGNMENT) * ALIGNMENT
    return size if size % PAGE else size + 2 * ALIGNMENT


def _first_gap(live: list[tuple[int, int, Buffer]], size: int) -> int:
    end = 0
    for place, taken, _ in sorted(live, key=lambda entry: entry[0]):
        if place - end >= size:
            return end
        end = max(end, place + taken)
    return end

"""Scheduled programs as C++ text: a function of pointers to one trial's tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from study.native.loops import outlined
from study.native.lower import Lowered
from study.native.schedule import ALIGNMENT, Loop, Step, allocate, schedule
from study.native.statements import TYPES, constant, type_of
from study.native.views import Buffer, Unsupported, View

MOST = 128
"""Numbers of a constant in the text."""


@dataclass(frozen=True, kw_only=True)
class Function:
    """A function in C++.

    Attributes:
        name: Its name; its arguments are pointers to the inputs, the outputs, the constants and memory to work in.
        text: Its definition.
        inputs: Positions of the recorded arguments that it reads.
        outputs: Names of its results.
        constants: Those that are arguments; small ones are part of the text.
        scratch: Bytes of memory that it works in.
        loops: Functions that it calls, by name.
    """

    name: str
    text: str
    inputs: tuple[int, ...]
    outputs: tuple[str, ...]
    constants: tuple[Tensor, ...]
    scratch: int
    loops: Mapping[str, str]


def emit(name: str, program: Lowered) -> Function:
    """Write a translated program as a function of a name."""
    steps = schedule(program.statements)
    places, size = allocate(steps)
    for view in [*program.outputs.values(), *(dense for dense in _all_views(steps))]:
        if view.dtype not in TYPES:
            raise Unsupported(f"numbers of type {view.dtype}")
    arguments = [f"const {TYPES[b.dtype]}* {b.name}" for b in program.inputs.values()]
    arguments += [f"{type_of(view)}* {view.buffer.name}" for view in program.outputs.values()]
    known = {buffer.name: buffer.tensor for buffer in _constants(steps) if buffer.tensor is not None}
    large = {name: tensor for name, tensor in known.items() if tensor.numel() > MOST}
    arguments += [f"const {TYPES[tensor.dtype]}* {name}" for name, tensor in large.items()]
    lines = [f"static APART void {name}({', '.join([*arguments, 'char* scratch'])}) {{"]
    lines += [f"  {constant(name, tensor)}" for name, tensor in known.items() if name not in large]
    lines += [
        f"  {TYPES[buffer.dtype]}* const {buffer.name} = reinterpret_cast<{TYPES[buffer.dtype]}*>(scratch + {place});"
        for buffer, place in places.items()
    ]
    loops = {step: outlined(step) for step in steps if isinstance(step, Loop)}
    lines += [f"  {loops[step].call if isinstance(step, Loop) else step.text()}" for step in steps]
    whole = -(-size // ALIGNMENT) * ALIGNMENT
    text = "\n".join([*lines, "}"])
    return Function(
        name=name,
        text=text,
        inputs=tuple(program.inputs),
        outputs=tuple(program.outputs),
        constants=tuple(large.values()),
        scratch=whole,
        loops={loop.name: loop.text for loop in loops.values()},
    )


def _all_views(steps: Sequence[Step]) -> list[View]:
    found: list[View] = []
    for step in steps:
        statements = step.statements if isinstance(step, Loop) else [step]
        for statement in statements:
            found += [statement.out, *statement.reads]
    return found


def _constants(steps: Sequence[Step]) -> list[Buffer]:
    buffers = [view.buffer for view in _all_views(steps) if view.buffer.kind == "constant"]
    return list(dict.fromkeys(buffers))

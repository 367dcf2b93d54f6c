"""Scheduled programs as C++ text: a function of pointers to one trial's tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from study.native.lower import Lowered
from study.native.schedule import ALIGNMENT, Loop, Step, allocate, schedule
from study.native.statements import TYPES, Pointwise, constant, element, literal, type_of
from study.native.views import Buffer, Filled, Unsupported, Value, View

MOST = 128
"""Numbers of a constant in the text."""


@dataclass(frozen=True)
class Function:
    """A function in C++.

    Attributes:
        name: Its name; its arguments are pointers to the inputs, the outputs, the constants and memory to work in.
        text: Its definition.
        inputs: Positions of the recorded arguments that it reads.
        outputs: Names of its results.
        constants: Those that are arguments; small ones are part of the text.
        scratch: Bytes of memory that it works in.
    """

    name: str
    text: str
    inputs: tuple[int, ...]
    outputs: tuple[str, ...]
    constants: tuple[Tensor, ...]
    scratch: int


def emit(name: str, program: Lowered) -> Function:
    """Write a translated program as a function of a name."""
    steps = schedule(program.statements)
    places, size = allocate(steps)
    for view in [*program.outputs.values(), *(dense for dense in _all_views(steps))]:
        if view.dtype not in TYPES:
            raise Unsupported(f"numbers of type {view.dtype}")
    arguments = [f"const {TYPES[b.dtype]}* __restrict {b.name}" for b in program.inputs.values()]
    arguments += [f"{type_of(view)}* __restrict {view.buffer.name}" for view in program.outputs.values()]
    known = {buffer.name: buffer.tensor for buffer in _constants(steps) if buffer.tensor is not None}
    large = {name: tensor for name, tensor in known.items() if tensor.numel() > MOST}
    arguments += [f"const {TYPES[tensor.dtype]}* __restrict {name}" for name, tensor in large.items()]
    lines = [f"static APART void {name}({', '.join([*arguments, 'char* __restrict scratch'])}) {{"]
    lines += [f"  {constant(name, tensor)}" for name, tensor in known.items() if name not in large]
    lines += [
        f"  {TYPES[buffer.dtype]}* __restrict const {buffer.name} = "
        f"reinterpret_cast<{TYPES[buffer.dtype]}*>(scratch + {place});"
        for buffer, place in places.items()
    ]
    for step in steps:
        lines += [f"  {line}" for line in (_loop(step) if isinstance(step, Loop) else [step.text()])]
    whole = -(-size // ALIGNMENT) * ALIGNMENT
    text = "\n".join([*lines, "}"])
    return Function(name, text, tuple(program.inputs), tuple(program.outputs), tuple(large.values()), whole)


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


def _loop(loop: Loop) -> list[str]:
    """Nested loops, neighbouring indices joined to one where every view allows it."""
    views = [view for s in loop.statements for view in (s.out, *s.reads)]
    groups = _groups(loop.shape, views)
    lines = []
    for depth, group in enumerate(groups):
        size = 1
        for d in group:
            size *= loop.shape[d]
        head = f"for (int i{depth} = 0; i{depth} < {size}; ++i{depth}) {{"
        lines.append("  " * depth + ("INDEPENDENT " if depth == len(groups) - 1 else "") + head)
    inner = "  " * len(groups)
    lines += [inner + line for line in _body(loop, groups)]
    lines += ["  " * depth + "}" for depth in reversed(range(len(groups)))]
    return lines if groups else ["{", *(f"  {line}" for line in lines), "}"]


def _groups(shape: tuple[int, ...], views: Sequence[View]) -> list[list[int]]:
    groups: list[list[int]] = []
    for d in range(len(shape)):
        inner = groups[-1][-1] if groups else None
        if inner is not None and all(view.strides[inner] == view.strides[d] * shape[d] for view in views):
            groups[-1].append(d)
        else:
            groups.append([d])
    return groups


def _body(loop: Loop, groups: list[list[int]]) -> list[str]:
    lines, made = [], dict[View, str]()

    def read(value: Value) -> str:
        if isinstance(value, Filled):
            return literal(value)
        return made.get(value) or element(value, _steps(value, groups))

    for i, statement in enumerate(loop.statements):
        name = f"v{i}"
        lines.append(f"const {type_of(statement.out)} {name} = {_expression(statement, read)};")
        made[statement.out] = name
        if statement.out.buffer in loop.kept:
            lines.append(f"{element(statement.out, _steps(statement.out, groups))} = {name};")
    return lines


def _expression(statement: Pointwise, read: Mapping[Value, str] | object) -> str:
    texts = [read(value) for value in statement.inputs]  # type: ignore[operator]
    return statement.form.format(*texts)


def _steps(view: View, groups: list[list[int]]) -> list[int]:
    return [view.strides[group[-1]] for group in groups]

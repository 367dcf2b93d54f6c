"""Recorded operations of one trial as statements on buffers; views cost nothing, the rest is a few kinds of loops."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.fx import GraphModule, Node

from study.native.arranged import ARRANGED
from study.native.builder import Builder
from study.native.context import Context, as_value, size
from study.native.operations import form_of
from study.native.statements import TYPES, Statement
from study.native.summed import SUMMED
from study.native.tidy import tidy
from study.native.views import Buffer, Filled, Unsupported, Value, View, dense

aten = torch.ops.aten
STRUCTURE = ARRANGED | SUMMED
MOST = 8000
"""Operations of an update; more of them compile for longer than five seconds."""


@dataclass(frozen=True)
class Lowered:
    """A translated program.

    Attributes:
        statements: In an order in which they can run.
        inputs: The buffers of the arguments that are read, by their position.
        outputs: Views of the results by name, each the whole of an output buffer of its own.
    """

    statements: list[Statement]
    inputs: dict[int, Buffer]
    outputs: dict[str, View]


def lower(module: GraphModule) -> Lowered:
    """Translate a recorded program, see `study.record.record`; it is tidied in place.

    Raises:
        Unsupported: For an operation that is not known here.
    """
    tidy(module)
    if len(module.graph.nodes) > MOST:
        raise Unsupported(f"{len(module.graph.nodes)} operations, of which at most {MOST} compile in reasonable time")
    lowering = _Lowering(module)
    for node in module.graph.nodes:
        lowering.visit(node)
    return Lowered(lowering.builder.statements, lowering.inputs, lowering.outputs)


class _Lowering:
    def __init__(self, module: GraphModule) -> None:
        self.module, self.builder = module, Builder()
        self.values: dict[Node, Any] = {}
        self.inputs: dict[int, Buffer] = {}
        self.outputs: dict[str, View] = {}

    def visit(self, node: Node) -> None:
        """Translate a node."""
        if node.op == "placeholder":
            if node.users:
                self.values[node] = self._input(node)
        elif node.op == "get_attr":
            self.values[node] = self.builder.constant(getattr(self.module, str(node.target)))
        elif node.op == "output":
            for name, result in node.args[0].items():  # type: ignore[union-attr]  # a dictionary, from `record`
                self.outputs[str(name)] = self._output(str(name), self.values[result])  # type: ignore[index]
        else:
            self.values[node] = self._operation(node)

    def _input(self, node: Node) -> View:
        value, position = node.meta["val"], int(node.name.rsplit("_", 1)[1])
        whole = dense(Buffer(f"in{position}", value.dtype, size(value.shape), "input"), value.shape)
        self.inputs[position] = whole.buffer
        return whole

    def _output(self, name: str, value: Value) -> View:
        if isinstance(value, View) and value.whole and value.buffer.kind == "scratch" and not value.buffer.home:
            found = value
        else:
            found = self.builder.scratch(value.dtype, value.shape)
            self.builder.copy_into(found, value)
        found.buffer.kind, found.buffer.name = "output", f"out_{name}"
        return found

    def _operation(self, node: Node) -> Any:  # noqa: ANN401  # a value, or several
        args, kwargs = (self._resolved(part) for part in (node.args, dict(node.kwargs)))
        if node.target is operator.getitem:
            return args[0][args[1]]
        known = node.meta.get("val")
        at = Context(self.builder, known.dtype if known else torch.float32, known.shape if known else ())
        try:
            if node.target in STRUCTURE:
                found = STRUCTURE[node.target](at, *args, **kwargs)
            else:
                found = _pointwise(at, node.target, args, kwargs)
        except (TypeError, ValueError, LookupError, AttributeError, RuntimeError) as error:
            # an operation known here, with arguments that are not
            raise Unsupported(f"{node.target}: {error}") from error
        if known and (found.shape, found.dtype) != (known.shape, known.dtype):
            raise Unsupported(f"{node.target} of {found.shape} {found.dtype}, not {known.shape} {known.dtype}")
        return found

    def _resolved(self, part: Any) -> Any:  # noqa: ANN401
        if isinstance(part, Node):
            if part not in self.values:
                raise Unsupported(f"the result of {part.target}")
            return self.values[part]
        if isinstance(part, Mapping):
            return {key: self._resolved(value) for key, value in part.items()}
        if isinstance(part, list | tuple):
            return tuple(self._resolved(value) for value in part)
        return part


IGNORED = {"dtype", "device", "layout", "pin_memory", "memory_format", "non_blocking"}
"""Options that the recorded result speaks for."""


def _pointwise(at: Context, target: object, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Value:
    found = form_of(target, args)
    options = [key for key in kwargs if key not in IGNORED]
    if found is None or options:
        raise Unsupported(f"{target}" + (f" with {', '.join(options)}" if options else ""))
    form, inputs = found
    kind = at.dtype if at.dtype is not torch.bool else _common(inputs)
    values = [as_value(value, kind) for value in inputs]
    for i, value in enumerate(values):  # first of all as the result is: a quotient of whole numbers is none of them
        if value.dtype is not kind and not (i == 0 and target is aten.where.self):
            form = form.replace(f"{{{i}}}", f"{TYPES.get(kind, kind)}({{{i}}})")
    return at.builder.pointwise(at.dtype, form, *values)


def _common(inputs: Sequence[Any]) -> torch.dtype:
    """The type that numbers are compared in."""
    kinds = [torch.empty((1,) * len(x.shape), dtype=x.dtype) if isinstance(x, View | Filled) else x for x in inputs]
    return torch.result_type(kinds[0], kinds[-1])

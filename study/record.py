"""Recording the tensor operations of a function once, as a flat program that runs without what produced it.

`torch.fx.experimental.proxy_tensor.make_fx` records the same program and `torch.func.grad_and_value` is the same
derivative, but each imports torch's compiler at its first use: three seconds in every worker process, for nothing
that is used here. Both are held against those two in the tests.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor
from torch._functorch import eager_transforms as functorch
from torch._ops import OpOverload
from torch.fx import Graph, GraphModule, Node
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

Tensors = dict[str, Tensor]


STRIDED = {torch.ops.aten.view.default: torch.ops.aten.reshape.default}
"""What works for certain layouts in memory alone, and what does the same for any: later arguments have their own."""


@dataclass(frozen=True)
class Shape:
    """What is known of a recorded value: its form, not its content."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device


def record(function: Callable[..., Tensors], examples: Sequence[Tensor]) -> GraphModule:
    """Record what a function does to some tensors.

    Args:
        function: Tensors to a dictionary of tensors, by torch operations alone; which ones may not depend on values.
        examples: Its arguments. Values do not matter, shapes, dtypes and devices do.

    Returns:
        A module with the same arguments and results, each node with its `Shape` as `meta["val"]`.

    Raises:
        TypeError: If the function reads a value out of a tensor.
    """
    inputs = [example.clone() for example in examples]  # told apart by identity: one tensor passed twice is two inputs
    function(*inputs)  # what it makes once and keeps, such as data that it reads, is no part of what is recorded
    recorder = _Recorder()
    for i, tensor in enumerate(inputs):
        recorder.bind(tensor, recorder.graph.placeholder(f"input_{i}"))
    with recorder:
        results = function(*inputs)
    recorder.graph.output({name: recorder.node(tensor) for name, tensor in results.items()})
    return GraphModule(recorder.constants, recorder.graph)


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves it untyped
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        self.graph = Graph()
        self.constants = torch.nn.Module()
        self.nodes: dict[int, Node] = {}
        self.alive: list[Tensor] = []  # so that no identity is used twice

    @classmethod
    def _should_skip_dynamo(cls) -> bool:  # skipping it would import it
        return False

    def bind(self, tensor: Tensor, node: Node) -> None:
        """Say which node makes a tensor."""
        node.meta["val"] = Shape(tuple(tensor.shape), tensor.dtype, tensor.device)
        self.nodes[id(tensor)] = node
        self.alive.append(tensor)

    def node(self, tensor: Tensor) -> Node:
        """The node that makes a tensor; one that was not made here is a constant of the program."""
        if id(tensor) not in self.nodes:
            name = f"constant_{len(self.nodes)}"
            self.constants.register_buffer(name, tensor)
            self.bind(tensor, self.graph.get_attr(name))
        return self.nodes[id(tensor)]

    def __torch_dispatch__(
        self, func: OpOverload, types: object, args: tuple[object, ...] = (), kwargs: Mapping[str, object] | None = None
    ) -> object:
        kwargs = kwargs or {}
        if func is torch.ops.aten._local_scalar_dense.default:
            raise TypeError("a recorded function may not read a value out of a tensor: .item(), if, float()")
        result = func(*args, **kwargs)
        if func is torch.ops.aten.detach.default:  # autograd is over when the program runs
            (source,) = args
            self.nodes[id(result)] = self.node(cast(Tensor, source))
            self.alive.append(result)
            return result

        def as_node(value: object) -> object:
            return self.node(value) if isinstance(value, Tensor) else value

        arguments = tree_map(as_node, args), tree_map(as_node, dict(kwargs))
        node = self.graph.call_function(STRIDED.get(func, func), *arguments)
        if isinstance(result, Tensor):
            self.bind(result, node)
        else:
            for i, part in enumerate(result):
                if isinstance(part, Tensor):
                    self.bind(part, self.graph.call_function(operator.getitem, (node, i)))
        return result


def grad_and_value(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """The gradient and value of a scalar function of one tensor; nests, and works under `torch.func.vmap`."""

    def derivative(point: Tensor) -> tuple[Tensor, Tensor]:
        with functorch.grad_increment_nesting() as level, torch.enable_grad():
            inner = functorch._wrap_all_tensors(point, level)
            functorch._create_differentiable(inner, level)
            value = function(inner)
            if value.requires_grad:
                (slope,) = torch.autograd.grad(value, [inner], create_graph=True, materialize_grads=True)
            else:
                slope = torch.zeros_like(inner)
            unwrap = torch._C._functorch._unwrap_for_grad
            return unwrap(slope, level), unwrap(value, level)

    return derivative


def grad(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """The gradient of a scalar function of one tensor; nests, and works under `torch.func.vmap`."""
    return lambda point: grad_and_value(function)(point)[0]

"""Taking out of a recorded program the work that changes nothing.

Autograd records products with tensors of zeros wherever a second derivative vanishes (a leaky ReLU's does), and vmap
splits a layer into a product and a sum. Neither is needed: zeros are followed through linear operations and dropped,
and a product that is only added to something becomes one operation.
"""

from __future__ import annotations

import torch
from torch.fx import Graph, GraphModule, Node

aten = torch.ops.aten

_ZEROS = {aten.zeros_like.default, aten.zeros.default, aten.new_zeros.default}
_LINEAR_IN_FIRST = {
    aten.view.default,
    aten._unsafe_view.default,
    aten.reshape.default,
    aten.expand.default,
    aten.transpose.int,
    aten.unsqueeze.default,
    aten.squeeze.dims,
    aten.squeeze.dim,
    aten.neg.default,
    aten.sum.dim_IntList,
    aten.mul.Scalar,
    aten.div.Scalar,
    aten.leaky_relu_backward.default,
}
"""Operations whose result is zero where their first argument is."""
_PRODUCTS = {aten.bmm.default, aten.mul.Tensor}


def trim(module: GraphModule) -> GraphModule:
    """Drop dead, zero and split operations from a recorded program, in place; the mathematics stays."""
    _drop_zeros(module.graph)
    module.graph.eliminate_dead_code()
    _join_product_and_sum(module.graph)
    module.graph.eliminate_dead_code()
    module.recompile()
    return module


def _drop_zeros(graph: Graph) -> None:
    zeros: set[Node] = set()
    for node in graph.nodes:
        inputs = [argument for argument in node.args if isinstance(argument, Node)]
        if (
            node.target in _ZEROS
            or (node.target in _LINEAR_IN_FIRST and inputs[0] in zeros)
            or (node.target in _PRODUCTS and zeros.intersection(inputs))
        ):
            zeros.add(node)
        elif node.target is aten.add.Tensor and len(inputs) == 2 and not node.kwargs and zeros.intersection(inputs):
            other = inputs[0] if inputs[1] in zeros else inputs[1]
            if other in zeros:
                zeros.add(node)
            elif _shape(other) == _shape(node):
                node.replace_all_uses_with(other)


def _join_product_and_sum(graph: Graph) -> None:
    for node in list(graph.nodes):
        if node.target is not aten.add.Tensor or len(node.args) != 2 or node.kwargs:
            continue
        for product, term in (node.args, node.args[::-1]):
            inner = _product_behind(product)
            if inner is None or not isinstance(term, Node) or _shape(inner) != _shape(node):
                continue
            with graph.inserting_before(node):
                joined = graph.call_function(aten.baddbmm.default, (term, *inner.args))
            joined.meta = dict(node.meta)
            node.replace_all_uses_with(joined)
            break


def _product_behind(node: object) -> Node | None:
    """The batched product that a node is, perhaps through a view that changes nothing, if nobody else uses it."""
    while isinstance(node, Node) and len(node.users) == 1:
        if node.target is aten.bmm.default:
            return node
        if node.target is not aten._unsafe_view.default or _shape(node) != _shape(node.args[0]):
            return None
        node = node.args[0]
    return None


def _shape(node: object) -> tuple[int, ...] | None:
    value = node.meta.get("val") if isinstance(node, Node) else None
    return tuple(value.shape) if isinstance(value, torch.Tensor) else None

"""Taking out of a recorded program the work that changes nothing.

Autograd records products with tensors of zeros wherever a second derivative vanishes (a leaky ReLU's does), and vmap
splits a layer into a product and a sum. Neither is needed: zeros are followed through linear operations and dropped,
a product that is only added to something becomes one operation, and a value computed for its shape alone goes too.
"""

from __future__ import annotations

import torch
from torch.fx import Graph, GraphModule, Node

from study.record import Shape

aten = torch.ops.aten

_ZEROS = {aten.zeros_like.default, aten.zeros.default, aten.new_zeros.default}
_LINEAR_IN_FIRST = {
    aten.view.default,
    aten._unsafe_view.default,
    aten.reshape.default,
    aten.expand.default,
    aten.transpose.int,
    aten.t.default,
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
_NEUTRAL_AT_ONE = {aten.mul.Scalar, aten.div.Scalar, aten.pow.Tensor_Scalar}
_PRODUCTS = {aten.mm.default, aten.bmm.default, aten.mul.Tensor}


def trim(module: GraphModule) -> GraphModule:
    """Drop dead, zero and split operations from a recorded program, in place; the mathematics stays."""
    _drop_identities(module.graph)
    _drop_zeros(module.graph)
    module.graph.eliminate_dead_code()
    _join_product_and_sum(module.graph)
    module.graph.eliminate_dead_code()
    _activate_in_place(module.graph)
    module.recompile()
    return module


def _drop_identities(graph: Graph) -> None:
    """Drop multiplications by one and first powers, and make tensors of ones from a shape instead of from a value."""
    for node in list(graph.nodes):
        if node.target in _NEUTRAL_AT_ONE and node.args[1] == 1 and not node.kwargs:
            node.replace_all_uses_with(node.args[0])
        elif node.target is aten.ones_like.default:
            value = node.meta["val"]
            options = {"dtype": value.dtype, "device": value.device}
            with graph.inserting_before(node):
                ones = graph.call_function(aten.ones.default, (list(value.shape),), options)
            ones.meta = dict(node.meta)
            node.replace_all_uses_with(ones)


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


def _activate_in_place(graph: Graph) -> None:
    """Write a leaky ReLU over its argument where only its derivative wants that: the sign of the result will do."""
    for node in list(graph.nodes):
        if node.target is not aten.leaky_relu.default or node.args[0].target is not aten.baddbmm.default:
            continue
        before = node.args[0]
        others = [user for user in before.users if user is not node]
        if all(_is_derivative(user) and user.args[1] is before for user in others):
            node.target = aten.leaky_relu_.default
            for user in others:
                user.args = (user.args[0], node, user.args[2], True)


def _is_derivative(node: Node) -> bool:
    return node.target is aten.leaky_relu_backward.default and not node.args[3]


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
    return value.shape if isinstance(value, Shape) else None

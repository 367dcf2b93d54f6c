"""What a recorded program of one trial needs before it is translated: no work twice, sums inside of products."""

from __future__ import annotations

import torch
from torch.fx import Graph, GraphModule, Node

from study.record import Shape
from study.trim import trim

aten = torch.ops.aten


def tidy(module: GraphModule) -> GraphModule:
    """Drop what changes nothing and what is computed twice, and join products with what is added to them, in place."""
    trim(module)
    _drop_double_transpositions(module.graph)
    _drop_repetitions(module.graph)
    module.graph.eliminate_dead_code()
    _join_products(module.graph)
    return module


def _drop_double_transpositions(graph: Graph) -> None:
    for node in list(graph.nodes):
        inner = node.args[0] if node.target is aten.t.default else None
        if isinstance(inner, Node) and inner.target is aten.t.default:
            node.replace_all_uses_with(inner.args[0])


def _drop_repetitions(graph: Graph) -> None:
    known: dict[object, Node] = {}
    for node in list(graph.nodes):
        if node.op != "call_function":
            continue
        key = (node.target, repr(node.args), repr(node.kwargs))
        earlier = known.setdefault(key, node)
        if earlier is not node:
            node.replace_all_uses_with(earlier)


def _join_products(graph: Graph) -> None:
    for node in list(graph.nodes):
        if node.target is not aten.add.Tensor or len(node.args) != 2 or node.kwargs:
            continue
        for product, term in (node.args, node.args[::-1]):
            if _alone(product) and isinstance(term, Node) and _form(term) == _form(node) == _form(product):
                with graph.inserting_before(node):
                    joined = graph.call_function(aten.addmm.default, (term, *product.args))
                joined.meta = dict(node.meta)
                node.replace_all_uses_with(joined)
                graph.erase_node(node)
                graph.erase_node(product)
                break


def _alone(node: object) -> bool:
    return isinstance(node, Node) and node.target is aten.mm.default and len(node.users) == 1


def _form(node: object) -> tuple[tuple[int, ...], torch.dtype] | None:
    value = node.meta.get("val") if isinstance(node, Node) else None
    return (value.shape, value.dtype) if isinstance(value, Shape) else None

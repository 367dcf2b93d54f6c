"""Steps of a pack as CUDA graphs: launched as a whole, on state that stays in its place, draws included.

On a GPU the step of small networks is some hundreds of kernels of a few microseconds each, and launching them one by
one from Python takes longer than they do. So one graph makes the draws of the next few steps and another takes one of
these steps. What they read and write are tensors at fixed addresses. The number of the step is one of them and is
counted on the device: within a block of steps nothing goes back and forth between host and device.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.fx import GraphModule, Node
from torch.fx.node import map_arg

from study.draws import OF_DISCRIMINATOR, OF_GENERATOR, draw_of
from study.game import Game
from study.program import Program
from study.record import record
from study.step import SHARED, Tensors

DRAWN = OF_DISCRIMINATOR | OF_GENERATOR
AHEAD, NUMBERS = 32, 2**24
"""Most steps, and about as many random numbers at most, that draws are made of at once: the counter-based generator
launches more kernels than a step does, for however many steps. Not measured yet. Does not change any result."""
WARM_UP = 3
"""Runs before a capture, in which libraries choose algorithms and take memory."""
SMALL = 2**16
"""Numbers in a constant that is kept rather than computed in every replay."""


class Graph(Protocol):
    """Work on a device that is launched as a whole, again and again."""

    def capture(self, work: Callable[[], Tensors]) -> Tensors:
        """Capture some work on tensors that stay where they are.

        Args:
            work: What to do; it may be done, too, and more than once.

        Returns:
            Its results. Each replay makes them anew, in the same place; before the first they have no values.
        """

    def replay(self) -> None:
        """Do the work on what the tensors hold now."""


class CudaGraph:
    """A graph of the current CUDA device."""

    def __init__(self) -> None:
        """Nothing is captured yet."""
        self._graph = torch.cuda.CUDAGraph()

    def capture(self, work: Callable[[], Tensors]) -> Tensors:
        """See `Graph.capture`. Memory comes from a pool of the graph's own."""
        aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(WARM_UP):
                work()
        torch.cuda.current_stream().wait_stream(aside)
        with torch.cuda.graph(self._graph):
            return work()

    def replay(self) -> None:
        """See `Graph.replay`; returns before the work is done."""
        self._graph.replay()


@dataclass(frozen=True)
class Captured:
    """The captured steps of a pack; for one pack at a time.

    Attributes:
        fixed: Tensors at fixed addresses: what a pack holds beside its draws, `key` (c, 2), `total` (), the number
            `step` () of the next step, and `place` (1,), where its draws are among those made.
        state: Names of those of a pack that a step changes.
        drawing: Makes the draws of `ahead` steps from `step` on.
        stepping: Takes one step.
        ahead: How many steps draws are made for.
    """

    fixed: Tensors
    state: tuple[str, ...]
    drawing: Graph
    stepping: Graph
    ahead: int

    def __call__(self, keys: Tensor, tensors: Tensors, steps: range, *, total: int) -> Tensors:
        """Take some steps of `total`, as `study.program.advance` does.

        Raises:
            ValueError: If a tensor has not the form that was captured.
        """
        for name, place in self.fixed.items():
            if name in ("step", "total"):
                place.fill_(steps.start if name == "step" else total)
            elif name != "place":
                _fill(name, place, keys if name == "key" else tensors[name])
        for number in range(len(steps)):
            if number % self.ahead == 0:
                self.drawing.replay()
            self.stepping.replay()
        return tensors | {name: self.fixed[name].clone() for name in self.state}


def _fill(name: str, place: Tensor, tensor: Tensor) -> None:
    if tensor.shape != place.shape or tensor.dtype is not place.dtype:
        found = f"{tuple(tensor.shape)} of {tensor.dtype}"
        raise ValueError(f"{name} was captured as {tuple(place.shape)} of {place.dtype}, got {found}")
    place.copy_(tensor)


def captured(program: Program, game: Game, example: Tensors, *, graph: Callable[[], Graph] = CudaGraph) -> Captured:
    """Capture the steps of a pack.

    Args:
        program: Its updates.
        game: What its trials have in common.
        example: Tensors of the right shapes, on the device, as `study.train.example_of` makes them.
        graph: Makes an empty graph.
    """
    fixed = {name: tensor.clone() for name, tensor in example.items() if name not in (*DRAWN, *SHARED)}
    fixed |= _numbers(len(example["theta"]), example["theta"].device)
    ahead = _ahead(game, example)
    draw = flat(lambda tensors: _draws(game, tensors, ahead), fixed)
    drawing, stepping = graph(), graph()

    def draw_ahead() -> Tensors:
        fixed["place"].zero_()
        return draw(fixed)

    drawn = drawing.capture(draw_ahead)
    drawing.replay()  # what follows looks up labels
    # records the program's updates, which is not to be part of what the next line records
    changed = one_step(program, game, fixed | drawn)
    step = flat(lambda tensors: one_step(program, game, tensors), fixed | drawn)

    def in_place() -> Tensors:
        for name, tensor in step(fixed | drawn).items():
            fixed[name].copy_(tensor)
        return {}

    stepping.capture(in_place)
    return Captured(fixed, tuple(name for name in changed if name in example), drawing, stepping, ahead)


def _numbers(capacity: int, device: torch.device) -> Tensors:
    one = torch.ones((), dtype=torch.int64, device=device)
    return {"key": one.repeat(capacity, 2), "step": one.clone(), "total": one.clone(), "place": 0 * one.repeat(1)}


def _ahead(game: Game, example: Tensors) -> int:
    numbers = sum(
        tensor.numel() * (game.n_critic if name in OF_DISCRIMINATOR else 1)
        for name, tensor in example.items()
        if name in DRAWN
    )
    return min(AHEAD, max(1, NUMBERS // max(1, numbers)))


def _draws(game: Game, tensors: Tensors, count: int) -> Tensors:
    """The draws of some steps, of shape (c, count, updates in the step, b, ...)."""
    keys, dtype = tensors["key"], tensors["theta"].dtype
    steps = tensors["step"] + torch.arange(count, device=keys.device)
    share = steps / tensors["total"]
    found: Tensors = {}
    for player, often in (("d", game.n_critic), ("g", 1)):
        updates = torch.arange(often, device=keys.device)
        labelled = tensors["labelled"]
        found |= draw_of(game, player, keys, steps, updates, dtype=dtype, share=share, labelled=labelled)
    return found


def one_step(program: Program, game: Game, tensors: Tensors) -> Tensors:
    """What one step changes, from the tensors of a pack, draws of several steps and the step's number among them."""
    step, dtype = tensors["step"], tensors["theta"].dtype
    drawn = {name: tensors[name].index_select(1, tensors["place"])[:, 0] for name in DRAWN & tensors.keys()}
    now = tensors | {name: drawn[name][:, 0] for name in OF_GENERATOR & drawn.keys()}
    # in double precision: what `advance` computes on the host
    now["progress"] = (step.double() / tensors["total"].double()).to(dtype)
    now["count_g"] = (step + 1).to(dtype)
    changed: Tensors = {}
    for update in range(game.n_critic):
        now |= {name: drawn[name][:, update] for name in OF_DISCRIMINATOR & drawn.keys()}
        now["count_d"] = (step * game.n_critic + update + 1).to(dtype)
        together = game.at_once and update == game.n_critic - 1
        changed |= program.both(now) if together else program.discriminator(now)
        now |= changed
    if not game.at_once:
        changed |= program.generator(now)
    # never beyond the draws that are there, however often the step is taken to warm up
    place = (tensors["place"] + 1) % tensors["latent_g"].shape[1]
    return changed | {"step": step + 1, "place": place}


def flat(function: Callable[[Tensors], Tensors], example: Mapping[str, Tensor]) -> Callable[[Tensors], Tensors]:
    """The same function as a recorded program that reads nothing from the host; for tensors of the example's form."""
    names = list(example)
    with torch.no_grad():
        recorded = record(lambda *given: function(dict(zip(names, given, strict=True))), list(example.values()))
    module = fold(recorded)

    @torch.no_grad()
    def run(tensors: Tensors) -> Tensors:
        result: Tensors = module(*(tensors[name] for name in names))
        return result

    return run


def fold(module: GraphModule) -> GraphModule:
    """Compute once what depends on no argument of a recorded program, in place.

    All that comes from the host, for a graph may copy nothing from there; of the rest only what is small.
    """
    graph, known = module.graph, dict[Node, Any]()
    changing = _changing(module)
    for node in graph.nodes:
        if node.op == "get_attr" and node not in changing:
            known[node] = getattr(module, node.target)
        elif node.op == "call_function" and node not in changing and known.keys() >= set(node.all_input_nodes):
            value = node.target(*map_arg(node.args, known.__getitem__), **map_arg(node.kwargs, known.__getitem__))
            if not isinstance(value, Tensor) or value.numel() <= SMALL or _from_host(node, known, value):
                known[node] = value
    for node in [node for node in known if node.op != "get_attr"]:
        if isinstance(known[node], Tensor) and any(user not in known for user in node.users):
            name = f"folded_{node.name}"
            module.register_buffer(name, known[node])
            with graph.inserting_before(node):
                node.replace_all_uses_with(graph.get_attr(name))
    for node in reversed(known):
        if not node.users:
            graph.erase_node(node)
    module.recompile()
    return module


def _from_host(node: Node, known: Mapping[Node, Any], value: Tensor) -> bool:
    inputs = [known[source] for source in node.all_input_nodes]
    return any(isinstance(source, Tensor) and source.device != value.device for source in inputs)


def _changing(module: GraphModule) -> set[Node]:
    """Nodes whose memory some operation writes to, itself or through a view."""
    found: set[Node] = set()
    for node in reversed(module.graph.nodes):
        schema = getattr(node.target, "_schema", None)
        if schema is None:  # an element of several results
            found |= {source for source in node.all_input_nodes if node in found}
            continue
        for argument, value in zip(schema.arguments, node.args, strict=False):
            alias = argument.alias_info
            if isinstance(value, Node) and alias is not None and (alias.is_write or node in found):
                found |= {node, value} if alias.is_write else {value}
    return found

"""Captured steps against the plain ones, with a graph that anyone can replay."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from study import graphs
from study import train as train_module
from study.graphs import captured, flat, fold
from study.program import advance, make_program
from study.record import record
from study.step import SHARED
from study.train import example_of, train
from tests.study.native_case import game_of, keys_of, middle

METHODS = [
    ("ns+gp1", 1),
    ("wgan+gp1", 2),
    ("ns+consensus", 1),
    ("wgan+gp1+extragradient", 2),
    ("ns+history+vbn+ema", 1),
    ("hinge+sn", 2),
    ("ns+noise", 2),
    ("rpgan+r1+r2+optimistic", 1),
]


class Tape(TorchDispatchMode):
    """A graph without a card: the very operations that were captured, with their numbers, on the very tensors."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func is not torch.ops.aten._local_scalar_dense.default
        result = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, result))
        return result

    def capture(self, work):
        for _ in range(graphs.WARM_UP):
            work()
        with self:
            found = work()
        for result in found.values():
            result.fill_(0)  # nothing is done yet
        return found

    def replay(self):
        for func, args, kwargs, result in self.calls:
            again = func(*args, **kwargs)
            pairs = zip(result, again, strict=True) if isinstance(result, list | tuple) else [(result, again)]
            for old, new in pairs:
                if old.data_ptr() != new.data_ptr():  # a view of the same memory holds it already
                    old.copy_(new)


def pack_of(game, *, lr=1e-3, capacity=3):
    tensors = middle(game, capacity, torch.float32, lr=lr)
    return {name: tensor for name, tensor in tensors.items() if name not in (*graphs.DRAWN, *SHARED)}


def made(game, capacity=3, graph=Tape):
    example = example_of(game, capacity)
    program = make_program(game, example)
    return program, captured(program, game, example, graph=graph)


def assert_same(found, expected, state):
    for name in state:
        assert torch.equal(found[name], expected[name]), name


@pytest.mark.parametrize(("method", "n_critic"), METHODS)
def test_captured_steps_are_the_plain_ones_to_the_bit(method, n_critic, monkeypatch):
    """Over several blocks, one resumed in the middle, with other tensors, keys, steps and budgets in between."""
    monkeypatch.setattr(graphs, "AHEAD", 2)
    game = game_of(method, n_critic=n_critic)
    program, steps = made(game)
    first = second = pack_of(game)
    other, keys = pack_of(game, lr=3e-3), keys_of(3)
    for block in (range(5), range(5, 6), range(6, 9)):
        first = steps(keys, first, block, total=20)
        second = advance(program, game, keys, second, block, total=20)
        assert_same(first, second, steps.state)
        found = steps(keys.flip(0), other, range(100, 103), total=1000)
        assert_same(found, advance(program, game, keys.flip(0), other, range(100, 103), total=1000), steps.state)
    assert {"theta", "phi", "theta_first", "phi_second", "loss_d", "loss_g", "sound_g"} <= {*steps.state}
    assert not torch.equal(first["theta"], pack_of(game)["theta"])


@pytest.mark.parametrize("method", ["ns+gp1", "wgan+gp1+ema"])
def test_training_by_captured_steps_changes_no_bit(small_pack, method, monkeypatch):
    """With everything that `train` does around steps: evaluations, blocks, a state that goes on from the middle."""
    pack = small_pack("ring8", method, points=2, capacity=4, steps=7, evaluations=2)
    expected, halves = train(pack.trials, capacity=4), []
    cache = {}

    def by_capture(program, game, keys, tensors, steps, *, total):
        if not cache:
            cache["run"] = captured(program, game, example_of(game, 4), graph=Tape)
        return cache["run"](keys, tensors, steps, total=total)

    monkeypatch.setattr(train_module, "advance", by_capture)
    monkeypatch.setitem(train_module.DRAWS_AT_ONCE, "cpu", 1)
    monkeypatch.setattr(graphs, "AHEAD", 2)
    found = train(pack.trials, capacity=4, after_evaluation=lambda state: halves.append(copy.copy(state)))
    middle_state = replace(halves[0], evaluations=halves[0].evaluations[:1])
    for state in (found, train(pack.trials, capacity=4, state=middle_state)):
        assert_same(state.tensors, expected.tensors, expected.tensors)
        for one, other in zip(state.evaluations, expected.evaluations, strict=True):
            assert one.step == other.step
            assert all(np.array_equal(one.values[name], value, equal_nan=True) for name, value in other.values.items())


@pytest.mark.parametrize("task", ["manifold-d2", "digits", "ring8-sequential", "digits-ssl", "lines"])
def test_so_they_are_on_every_kind_of_task(task):
    game = game_of("ssl" if task == "digits-ssl" else "ns", task, n_critic=2)
    program, steps = made(game)
    pack, keys = pack_of(game), keys_of(3)
    expected = advance(program, game, keys, pack, range(3, 7), total=9)
    assert_same(steps(keys, pack, range(3, 7), total=9), expected, steps.state)


def test_what_is_given_is_not_changed_and_what_is_returned_stays():
    game = game_of("ns")
    _, steps = made(game)
    pack, keys = pack_of(game), keys_of(3)
    before = {name: tensor.clone() for name, tensor in pack.items()}
    first = steps(keys, pack, range(2), total=10)
    kept = {name: first[name].clone() for name in steps.state}
    steps(keys, first, range(2, 4), total=10)
    assert_same(pack, before, pack)
    assert_same(first, kept, steps.state)


def test_a_pack_of_another_form_is_refused():
    game = game_of("ns")
    _, steps = made(game)
    with pytest.raises(ValueError, match=r"theta was captured as \(3, 4482\) of torch.float32, got \(2, 4482\)"):
        steps(keys_of(3), pack_of(game) | {"theta": torch.zeros(2, 4482)}, range(1), total=1)


# what a card wants of the programs


class Nothing:
    """A graph that is captured and never replayed, for tensors without values."""

    def capture(self, work):
        return work()

    def replay(self):
        pass


@pytest.mark.parametrize(
    ("task", "method"),
    [("ring8", method) for method, _ in METHODS]
    + [("ring8-sequential", "ns"), ("grid25", "wgan+clip"), ("digits", "ns+dragan"), ("digits-ssl", "ssl")]
    + [("flipped", "ns"), ("two-gaussians", "ns+gp1"), ("mixture1d", "mmd-rbf"), ("heusel", "zerosum")],
)
def test_nothing_comes_from_the_host_or_goes_there(task, method, monkeypatch):
    """On a device without memory, where nothing can be read; a number that a kernel gets with its launch is no copy."""
    modules = []
    monkeypatch.setattr(graphs, "fold", lambda module: modules.append(fold(module)) or modules[-1])
    game = game_of(method, task, n_critic=2)
    example = example_of(game, 3, device="meta")
    captured(make_program(game, example), game, example, graph=Nothing)
    assert len(modules) == 2
    for module in modules:
        nodes = [node for node in module.graph.nodes if node.op == "call_function" and "val" in node.meta]
        assert {node.meta["val"].device.type for node in nodes} == {"meta"}
        for node in module.graph.nodes:
            if node.op == "get_attr" and getattr(module, node.target).device.type != "meta":
                assert getattr(module, node.target).ndim == 0
                assert not {"_to_copy", "copy_"} & {user.target.overloadpacket.__name__ for user in node.users}


def operations(module):
    return [node.target.overloadpacket.__name__ for node in module.graph.nodes if node.op == "call_function"]


def test_what_depends_on_no_argument_is_computed_once():
    table = torch.arange(4.0)
    module = record(lambda x: {"y": x + torch.arange(4).double().exp().split(2)[1].sum() * table}, [torch.zeros(4)])
    expected = torch.ones(4) + torch.tensor([2.0, 3.0], dtype=torch.float64).exp().sum() * table
    assert operations(fold(module)) == ["add"]
    assert torch.equal(module(torch.ones(4))["y"], expected)


def test_memory_that_is_written_to_is_made_anew():
    def counted(x):
        counts = torch.zeros(4)
        counts[1:3].add_(x)
        return {"y": counts * 2}

    module = fold(record(counted, [torch.ones(2)]))
    for _ in range(2):
        assert module(torch.ones(2))["y"].tolist() == [0, 2, 2, 0]


def test_what_is_large_is_not_kept():
    def large(x):
        return {"y": x + torch.ones(graphs.SMALL + 1).sum()}

    module = fold(record(large, [torch.zeros(1)]))
    assert operations(module) == ["ones", "sum", "add"]
    assert module(torch.zeros(1))["y"] == graphs.SMALL + 1


def test_a_flat_function_is_the_function():
    given = {"x": torch.arange(3.0), "step": torch.tensor(2)}
    function = flat(lambda tensors: {"y": tensors["x"] * tensors["step"]}, given)
    assert function(given | {"step": torch.tensor(5)})["y"].tolist() == [0, 5, 10]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize(("method", "n_critic"), METHODS)
def test_on_a_card_captured_steps_are_the_plain_ones_to_the_bit(method, n_critic):
    game = game_of(method, n_critic=n_critic)
    example = example_of(game, 16, device="cuda")
    program = make_program(game, example)
    steps = captured(program, game, example)
    pack, keys = {name: tensor.cuda() for name, tensor in pack_of(game, capacity=16).items()}, keys_of(16).cuda()
    first = second = pack
    for block in (range(5), range(5, 45)):
        first = steps(keys, first, block, total=60)
        second = advance(program, game, keys, second, block, total=60)
        assert_same(first, second, steps.state)

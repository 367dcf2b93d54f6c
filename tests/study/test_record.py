"""Recording and derivatives against torch's own, which are the same but for what they import."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.func import vmap
from torch.fx.experimental.proxy_tensor import make_fx

from study.record import Shape, grad, grad_and_value, record

ROOT = Path(__file__).parents[2]


def tensors(*shapes):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]


def penalised(weight, x):
    """A loss with a derivative inside, as a gradient penalty has."""

    def critic(point):
        return torch.tanh(point @ weight).sum()

    return critic(x) + grad(critic)(x).square().sum()


def penalised_by_torch(weight, x):
    def critic(point):
        return torch.tanh(point @ weight).sum()

    return critic(x) + torch.func.grad(critic)(x).square().sum()


@settings(deadline=None)  # the first call imports torch's compiler
@given(st.integers(0, 2**32 - 1))
def test_gradient_and_value_are_those_of_torch_func_also_nested_and_mapped(seed):
    generator = torch.Generator().manual_seed(seed)
    weights, xs = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((5, 3), (5, 4, 3)))

    def ours(weight, x):
        return grad_and_value(lambda w: penalised(w, x))(weight)

    def theirs(weight, x):
        return torch.func.grad_and_value(lambda w: penalised_by_torch(w, x))(weight)

    for found, expected in zip(vmap(ours)(weights, xs), vmap(theirs)(weights, xs), strict=True):
        assert torch.equal(found, expected)


def test_gradient_of_what_does_not_depend_on_the_tensor_is_zero():
    (x,) = tensors((3,))
    assert torch.equal(grad(lambda _: torch.tensor(1.0))(x), torch.zeros_like(x))


def step(weight, x):
    slope, value = grad_and_value(lambda w: penalised(w, x))(weight)
    return {"weight": weight - 0.1 * slope, "value": value, "sorted": x.sort(-1)[0], "constant": x + CONSTANT}


CONSTANT = torch.arange(3, dtype=torch.float64)


def test_recorded_program_gives_what_the_function_gives_on_other_values():
    example, other = tensors((5, 3), (5, 4, 3)), [2 * t for t in tensors((5, 3), (5, 4, 3))]
    module = record(vmap(step), example)
    expected = vmap(step)(*other)
    by_torch = make_fx(vmap(step))(*example)(*other)
    found = module(*other)
    assert found.keys() == expected.keys() == by_torch.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name
        assert torch.equal(found[name], by_torch[name]), name


def test_nodes_know_their_shape_dtype_and_device():
    module = record(lambda x: {"y": (x > 0).sum(0)}, tensors((4, 3)))
    shapes = [node.meta["val"] for node in module.graph.nodes if node.op != "output"]
    assert shapes[0] == Shape((4, 3), torch.float64, torch.device("cpu"))
    assert shapes[-1] == Shape((3,), torch.int64, torch.device("cpu"))


def test_one_tensor_in_two_places_is_two_inputs():
    (x,) = tensors((3,))
    module = record(lambda a, b: {"difference": a - b}, [x, x])
    assert torch.equal(module(x, torch.zeros(3))["difference"], x)


def test_reading_a_value_is_refused():
    with pytest.raises(TypeError, match=r"may not read a value out of a tensor"):
        record(lambda x: {"y": x if x.sum() > 0 else -x}, tensors((3,)))


def test_training_imports_no_compiler():
    code = (
        "import sys\n"
        "from study.train import train\n"
        "from study.plan import expand\n"
        "from study.spec import parse_sweep\n"
        "budget, design = {'steps': 1, 'evaluations': 1}, {'points': 2}\n"
        "space = {'preset': 'lucic_wide', 'override': {'n_critic': 1}}\n"
        "what = {'name': 'n', 'tasks': ['manifold-d2'], 'methods': ['ns+gp1'], 'space': space}\n"
        "train(expand(parse_sweep(what | {'budget': budget, 'design': design}, source='test')), capacity=2)\n"
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_what_is_made_once_and_kept_is_no_part_of_the_program():
    kept = {}

    def table():
        """Read at its first use, as data are."""
        if not kept:
            kept["table"] = torch.arange(6.0, dtype=torch.float64)[torch.arange(5, -1, -1)]
        return kept["table"]

    (x,) = tensors((6,))
    module = record(lambda y: {"sum": y + table()}, [x])
    assert [node.target for node in module.graph.nodes if node.op == "call_function"] == [torch.ops.aten.add.Tensor]
    assert torch.equal(module(x)["sum"], x + table())

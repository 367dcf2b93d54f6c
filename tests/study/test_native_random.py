"""Random programs, compiled and held against what torch makes of them."""

import pytest
import torch

from study.native.program import compiled, translated
from study.native.views import Unsupported
from study.record import grad
from tests.study.native_case import needs_compiler
from tests.study.native_graphs import Graph, inputs

pytestmark = [needs_compiler, pytest.mark.filterwarnings("ignore")]  # of torch, about what is asked of it

SOME, MANY = range(10), range(10, 120)
TOLERANCE = 1e-6
"""A wrong translation is wrong altogether; rounding grows in a chain of a dozen operations, each by a thousand at most
and hardly ever."""


def assert_translated(function, tensors):
    """Returns False for a program with something that is not translated, or with numbers of no use."""
    expected = function(tensors)
    if not all(value.isfinite().all() and value.abs().max() < 1e6 for value in expected.values()):
        return False
    pack = {name: tensor[None] for name, tensor in tensors.items()}
    try:
        found = compiled(function, pack, ())(pack)
    except Unsupported:
        return False
    for name, value in expected.items():
        torch.testing.assert_close(found[name][0], value, rtol=TOLERANCE, atol=TOLERANCE)
    return True


def slopes(graph):
    """A function giving the slopes of a program's results with respect to two of its inputs."""

    def of(tensors):
        def total(name):
            return lambda x: sum(value.double().tanh().sum() for value in graph(tensors | {name: x}).values())

        return {f"slope_{name}": grad(total(name))(tensors[name]) for name in ("a", "c")}

    return of


@pytest.mark.parametrize("seed", [*SOME, *(pytest.param(seed, marks=pytest.mark.slow) for seed in MANY)])
def test_random_programs_are_translated_rightly(seed):
    if not assert_translated(Graph(seed), inputs(seed)):
        pytest.skip("it has something that is not translated")


@pytest.mark.parametrize("seed", [*SOME[:5], *(pytest.param(seed, marks=pytest.mark.slow) for seed in MANY)])
def test_so_are_their_derivatives(seed):
    if not assert_translated(slopes(Graph(1000 + seed)), inputs(seed)):
        pytest.skip("it has something that is not translated")


def test_most_random_programs_are_translated():
    """Otherwise the tests above would say little."""
    refused = 0
    for seed in range(100):
        try:
            translated("update", Graph(seed), {name: tensor[None] for name, tensor in inputs(seed).items()}, ())
        except Unsupported:
            refused += 1
    assert refused <= 10

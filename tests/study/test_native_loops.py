"""Loops of compiled programs: each is compiled once, and says no more of memory than is so."""

import pytest
import torch
from torch.nn.functional import leaky_relu, softplus

from study.native.program import compiled, translated
from tests.study.native_case import needs_compiler


def numbers(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def function_of(function, *tensors):
    pack = {f"x{i}": tensor[None] for i, tensor in enumerate(tensors)}
    return translated("update", lambda trial: {"y": function(*trial.values())}, pack, ())


def test_what_takes_long_to_compile_is_one_loop_for_all_that_have_it():
    found = function_of(
        lambda x, y: (softplus(x).sum() + softplus(2 * y) + softplus(-y)).sum(), *map(numbers, (64, 128))
    )
    assert sum("softplus" in text for text in found.loops.values()) == 1


def test_equal_loops_are_one_whatever_they_turn():
    def once(x, y):
        return leaky_relu(x @ x.t(), 0.2) @ x

    def twice(x, y):
        return torch.cat([once(x, y), once(y, x)])

    x, y = numbers(16, 8), numbers(48, 8)
    assert function_of(twice, x, y).loops.keys() == function_of(once, x, y).loops.keys()


def test_memory_that_is_used_again_is_not_said_to_be_apart():
    """A compiler may move what it is told does not overlap past each other."""
    found = function_of(lambda x: ((x @ x).tanh() @ x).tanh() @ x, numbers(16, 16))
    assert "__restrict" not in found.text
    assert all("__restrict" in text for text in found.loops.values())


SHAPES = [
    (1,),
    (5,),
    (16,),
    (48,),
    (50,),
    (7, 2),
    (16, 3),
    (3, 4),
    (4, 1),
    (2, 3, 2),
    (5, 6, 7),
    (16, 16),
    (1, 1, 1),
    (),
]


@needs_compiler
@pytest.mark.parametrize("turned", [False, True])
def test_loops_of_any_shape(turned):
    """Alone and within others, in order and not, with numbers that change along some indices only."""

    def function(trial):
        results = {}
        for i, x in enumerate(trial.values()):
            x = x.permute(tuple(reversed(range(x.ndim)))) if turned else x
            first, last = (x[:1], x[..., :1]) if x.ndim else (x, x)
            results[f"y{i}"] = softplus(x * first - last) + x.exp() * last
            results[f"z{i}"] = torch.where(x > first, x, last) / (1 + x.square())
        return results

    pack = {f"x{i}": numbers(2, *shape, seed=i) for i, shape in enumerate(SHAPES)}
    found = compiled(function, pack, ())(pack)
    for trial in range(2):
        for name, value in function({name: tensor[trial] for name, tensor in pack.items()}).items():
            torch.testing.assert_close(found[name][trial], value, rtol=1e-14, atol=1e-14)

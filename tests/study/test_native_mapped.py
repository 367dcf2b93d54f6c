"""Functions of points as compiled programs: any number of points, wherever they lie."""

import numpy as np
import pytest
import torch

import study.native.mapped as module
from study.native.mapped import LARGE, RESULTS, TOGETHER, mapped, of_points
from study.native.views import Unsupported
from tests.study.native_case import needs_compiler

pytestmark = needs_compiler

TABLE = torch.linspace(-1, 1, 300, dtype=torch.float64).view(3, 100)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def bent(trial):
    """Two results: one by the trial's weights, one by a table that all share."""
    x = trial["x"]
    return {"bent": torch.tanh(x @ trial["weight"]) + trial["label"][:, None], "looked_up": (x @ TABLE).sum(1)}


EXAMPLE = {"weight": normal(2, 3, 4), "x": normal(2, 5, 3), "label": torch.ones(2, 5, dtype=torch.int64)}


@pytest.fixture(scope="module")
def program():
    return mapped(bent, EXAMPLE, ("x", "label"))


@pytest.mark.parametrize("count", [1, 5, TOGETHER - 1, TOGETHER, TOGETHER + 1, 2 * TOGETHER, 3 * TOGETHER + 7])
def test_any_number_of_points_gives_the_functions_results(program, count):
    tensors = {"weight": normal(4, 3, 4), "x": normal(4, count, 3), "label": torch.arange(4 * count).view(4, count) % 3}
    found = program(tensors)
    for i in range(4):
        expected = bent({name: tensor[i] for name, tensor in tensors.items()})
        # sums of 3 and of 300 products of order 3
        torch.testing.assert_close(found["bent"][i], expected["bent"], rtol=0, atol=10 * 2**-52)
        torch.testing.assert_close(found["looked_up"][i], expected["looked_up"], rtol=0, atol=900 * 2**-52)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("width", [3, 70])
def test_how_many_points_are_taken_together_changes_no_bit(dtype, width):
    def outputs(trial):
        return {"y": torch.tanh(trial["x"] @ trial["weight"]) @ trial["weight"].T + trial["label"][:, None]}

    def given(count):
        label = torch.arange(4 * count).view(4, count) % 3
        weight, x = normal(4, width, 37).to(dtype), normal(4, count, width).to(dtype)
        return {"weight": weight, "x": x, "label": label}

    few, many = (mapped(outputs, given(2), ("x", "label"), together=together) for together in (4, TOGETHER))
    for count in (1, 2, 4, 7, 300):
        assert torch.equal(few(given(count))["y"], many(given(count))["y"])


def test_points_that_all_trials_share_and_points_of_a_larger_tensor_are_not_copied(program):
    weight, label = normal(4, 3, 4), torch.zeros(4, 200, dtype=torch.int64)
    points, wide = normal(200, 3), normal(4, 500, 3)
    for x in (points.expand(4, -1, -1), wide[:, 100:300], normal(4, 200, 6)[..., ::2]):
        found = program({"weight": weight, "x": x, "label": label})
        again = program({"weight": weight, "x": x.clone(), "label": label})
        assert all(torch.equal(found[name], again[name]) for name in found)


def test_no_trials_and_no_points_give_none(program):
    for trials, count in ((0, 7), (3, 0)):
        label = torch.zeros(trials, count, dtype=torch.int64)
        found = program({"weight": normal(trials, 3, 4), "x": normal(trials, count, 3), "label": label})
        assert found["bent"].shape == (trials, count, 4)
        assert found["looked_up"].shape == (trials, count)


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("weight", normal(2, 3, 5)),
        ("weight", normal(1, 3, 4)),
        ("weight", normal(2, 3, 4).float()),
        ("x", normal(2, 200, 2)),
        ("label", torch.zeros(2, 199, dtype=torch.int64)),
        ("label", torch.zeros(2, 200)),
    ],
)
def test_what_is_too_small_or_of_another_type_is_refused(program, name, other):
    tensors = {"weight": normal(2, 3, 4), "x": normal(2, 200, 3), "label": torch.zeros(2, 200, dtype=torch.int64)}
    program(tensors)
    with pytest.raises(ValueError, match=f"{name} must be"):
        program(tensors | {name: other})


def test_a_trials_results_do_not_depend_on_its_neighbours(program):
    tensors = {"weight": normal(3, 3, 4), "x": normal(3, 300, 3), "label": torch.zeros(3, 300, dtype=torch.int64)}
    together = program(tensors)
    for i in range(3):
        alone = program({name: tensor[i : i + 1] for name, tensor in tensors.items()})
        assert torch.equal(alone["bent"], together["bent"][i : i + 1])


def test_what_is_not_translated_is_said_or_none():
    def cubic(x):
        return torch.linalg.matrix_exp(x[:, :, None] * x[:, None])[:, 0]

    with pytest.raises(Unsupported):
        mapped(lambda trial: {"y": cubic(trial["x"])}, {"x": normal(1, 4, 3)}, ("x",))
    assert of_points(cubic, torch.Size([3]), torch.float64) is None


def test_memory_of_results_is_used_again_once_nothing_has_them(monkeypatch):
    monkeypatch.setattr(module, "_kept", [])
    double = mapped(lambda trial: {"y": 2 * trial["x"]}, {"x": normal(1, 5, 3)}, ("x",))
    x = normal(4, LARGE // 4 // 3 // 8 + 100, 3)
    first = double({"x": x})["y"]
    place, row = first.data_ptr(), first[1]
    del first
    other = double({"x": -x})["y"]  # a row is still referred to
    assert other.data_ptr() != place
    assert torch.equal(row, 2 * x[1])
    seen = row.numpy()
    del row
    third = double({"x": 3 * x})["y"]
    assert third.data_ptr() != place
    assert np.array_equal(seen, 2 * x[1].numpy())
    del seen
    fourth = double({"x": x[:, :-9]})["y"]  # a little less
    assert fourth.data_ptr() == place
    assert torch.equal(fourth, 2 * x[:, :-9])
    del fourth
    assert double({"x": x[:, : len(x[0]) // 2 - 9].repeat(3, 1, 1)})["y"].data_ptr() != place  # more
    small = double({"x": x[:, :9]})["y"]
    assert small.data_ptr() not in [array.ctypes.data for array, _ in module._kept]
    results = [double({"x": x})["y"] for _ in range(2 * RESULTS)]
    assert len(module._kept) == RESULTS
    assert all(torch.equal(result, 2 * x) for result in results)

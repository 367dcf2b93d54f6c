import pytest
import torch

from study.metrics.gaussian import Gaussian, moments_ddof1, w2sq_gaussian
from study.tasks.manifold import START_NOISE, evaluate, floor, frame, manifold, manifold_dimension, sample

DIMENSIONS = (2, 8, 32, 64)


def parameters(d, *, scale=(1.0, 1.0), offset=0.0):
    """One trial whose generator is the data's map with rescaled columns and an offset along the start's direction."""
    k = manifold_dimension(d)
    basis = frame(d)
    weight = basis[:, :k].T * torch.tensor(scale[:k])[:, None]
    return {"weight0": weight[None], "bias0": (offset * basis[:, k])[None]}


@pytest.mark.parametrize("d", DIMENSIONS)
def test_frame_is_orthonormal(d):
    basis = frame(d).double()
    assert basis.shape == (d, manifold_dimension(d) + 1)
    # Entries are rounded to float32, eps 1.2e-7, and d of them are summed with weights of 1 / d.
    torch.testing.assert_close(basis.T @ basis, torch.eye(basis.shape[1]).double(), atol=3e-7, rtol=0)


@pytest.mark.parametrize("d", DIMENSIONS)
def test_controls_measure_as_recorded(d):
    k = manifold_dimension(d)
    makers = {
        "half the spread": parameters(d, scale=(0.5, 0.5)),
        "one dimension missing": parameters(d, scale=(0.0, 1.0)),
        "collapsed to a point": parameters(d, scale=(0.0, 0.0)),
        "parallel manifold": parameters(d, offset=2.0),
    }
    recorded = {control.name: control.value for control in manifold(d).controls}
    assert set(recorded) == {*makers, "fitted to one batch"}
    for name, trial in makers.items():
        # The frame is rounded to float32, which W2^2 of order 4 inherits.
        assert float(evaluate(trial, torch.empty(1, 0, d), d=d)["w2sq"]) == pytest.approx(recorded[name], abs=4e-6)
    assert recorded["collapsed to a point"] == k


@pytest.mark.parametrize("k", [1, 2])
def test_low_anchor_is_what_one_batch_supports(k):
    n, repeats = 64, 4000
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(repeats, n, k, generator=generator, dtype=torch.float64)
    truth = Gaussian(torch.zeros(k, dtype=torch.float64), torch.eye(k, dtype=torch.float64))
    values = w2sq_gaussian(truth, moments_ddof1(x))
    # Four standard errors, and the next order of the expansion, O(1 / n) of the value, with a constant of at most 3.
    tolerance = 4 * float(values.std()) / repeats**0.5 + 3 / n * floor(k)
    assert float(values.mean()) == pytest.approx(floor(k), abs=tolerance)
    assert floor(1) == pytest.approx(1.5 / 64)
    assert floor(2) == pytest.approx(3.5 / 64)


@pytest.mark.parametrize("d", DIMENSIONS)
def test_start_is_a_noisy_parallel_manifold(d):
    task, k = manifold(d), manifold_dimension(d)
    uniform = torch.rand(task.generator.size, generator=torch.Generator().manual_seed(d))
    start = task.generator.initialise(uniform)
    noise = (start["weight0"] - frame(d)[:, :k].T) / START_NOISE
    # A sample standard deviation of k d normals has a relative error of 1 / sqrt(2 k d).
    assert float(noise.square().mean().sqrt()) == pytest.approx(1, abs=4 / (2 * k * d) ** 0.5)
    torch.testing.assert_close(start["bias0"], 2 * frame(d)[:, k])
    values = task.evaluate({name: value[None] for name, value in start.items()}, torch.empty(1, 0, d))
    # Noise adds k d 0.05^2 to the squared distance in expectation.
    assert float(values["distance_sq"]) == pytest.approx(4 + k * d * START_NOISE**2, rel=0.1)
    assert float(values["w2sq"]) > task.threshold


def test_distance_alone_is_fooled_by_collapse():
    values = evaluate(parameters(8, scale=(0.0, 0.0)), torch.empty(1, 0, 8), d=8)
    assert float(values["distance_sq"]) < 1e-12
    assert float(values["spread"]) == 0
    assert float(values["w2sq"]) > manifold(8).threshold


def test_spread_is_one_for_the_data_and_grows_with_scale():
    trial = parameters(8, scale=(1.0, 2.0))
    assert float(evaluate(trial, torch.empty(1, 0, 8), d=8)["spread"]) == pytest.approx((1 + 4) / 2, rel=1e-6)


@pytest.mark.parametrize("d", DIMENSIONS)
def test_real_samples_lie_on_the_manifold_with_unit_variance(d):
    k, n = manifold_dimension(d), 5000
    x = sample(torch.rand(n, k, generator=torch.Generator().manual_seed(0)), d=d).double()
    basis = frame(d)[:, :k].double()
    along = x @ basis
    assert float((x - along @ basis.T).abs().max()) < 1e-5
    torch.testing.assert_close(along.T.cov().reshape(k, k), torch.eye(k).double(), atol=4 * (2 / n) ** 0.5, rtol=0)

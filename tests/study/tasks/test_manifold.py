import math

import pytest
import torch

from study.errors import UserError
from study.metrics.gaussian import Gaussian, moments_ddof1, w2sq_gaussian
from study.networks.mlp import mlp
from study.tasks.base import Snapshot
from study.tasks.manifold import (
    NEAREST,
    SAMPLES,
    START_NOISE,
    THRESHOLD,
    controls,
    evaluate,
    evaluate_samples,
    fitted_samples,
    floor,
    frame,
    manifold,
    manifold_dimension,
    preset,
    sample,
)
from study.tasks.table import get_task

DIMENSIONS = (2, 8, 32, 64)


def parameters(d, k=0, *, latent=0, scale=1.0, first=1.0, offset=0.0):
    """One trial whose generator is the data's map, all columns and the first one rescaled, moved as the start is."""
    basis, k = frame(d, k), k or manifold_dimension(d)
    weight = torch.zeros(max(latent, k), d)
    weight[:k] = scale * basis[:, :k].T
    weight[0] *= first
    return Snapshot({"weight0": weight[None], "bias0": (offset * basis[:, k])[None]}, torch.empty(1, 0, d))


def makers(d, k=0, *, offset=2.0, **options):
    """The generators that the controls name, but for the fitted one."""
    return {
        "half the spread": parameters(d, k, scale=0.5, **options),
        "one dimension missing": parameters(d, k, first=0.0, **options),
        "collapsed to a point": parameters(d, k, scale=0.0, **options),
        "parallel manifold": parameters(d, k, offset=offset, **options),
    }


def random(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("d", DIMENSIONS)
def test_frame_is_orthonormal(d):
    basis = frame(d).double()
    assert basis.shape == (d, manifold_dimension(d) + 1)
    # Entries are rounded to float32, eps 1.2e-7, and d of them are summed with weights of 1 / d.
    torch.testing.assert_close(basis.T @ basis, torch.eye(basis.shape[1]).double(), atol=3e-7, rtol=0)


@pytest.mark.parametrize("d", DIMENSIONS)
def test_controls_measure_as_recorded(d):
    recorded = {control.name: control.value for control in preset(d).controls}
    made = makers(d)
    assert set(recorded) == {*made, "fitted to one batch"}
    for name, trial in made.items():
        # The frame is rounded to float32, which W2^2 of order 4 inherits.
        assert float(evaluate(trial, d=d)["w2sq"]) == pytest.approx(recorded[name], abs=4e-6)
    assert recorded["collapsed to a point"] == manifold_dimension(d)


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
    task, k = preset(d), manifold_dimension(d)
    uniform = torch.rand(task.generator.size, generator=torch.Generator().manual_seed(d))
    start = task.generator.initialise(uniform)
    noise = (start["weight0"] - frame(d)[:, :k].T) / START_NOISE
    # A sample standard deviation of k d normals has a relative error of 1 / sqrt(2 k d).
    assert float(noise.square().mean().sqrt()) == pytest.approx(1, abs=4 / (2 * k * d) ** 0.5)
    torch.testing.assert_close(start["bias0"], 2 * frame(d)[:, k])
    values = task.evaluate(Snapshot({name: value[None] for name, value in start.items()}, torch.empty(1, 0, d)))
    # Noise adds k d 0.05^2 to the squared distance in expectation.
    assert float(values["distance_sq"]) == pytest.approx(4 + k * d * START_NOISE**2, rel=0.1)
    assert float(values["w2sq"]) > task.threshold


def test_distance_alone_is_fooled_by_collapse():
    values = evaluate(parameters(8, scale=0.0), d=8)
    assert float(values["distance_sq"]) < 1e-12
    assert float(values["spread"]) == 0
    assert float(values["w2sq"]) > THRESHOLD


def test_spread_is_one_for_the_data_and_grows_with_scale():
    assert float(evaluate(parameters(8, first=2.0), d=8)["spread"]) == pytest.approx((4 + 1) / 2, rel=1e-6)


@pytest.mark.parametrize("d", DIMENSIONS)
def test_real_samples_lie_on_the_manifold_with_unit_variance(d):
    k, n = manifold_dimension(d), 5000
    x = sample(torch.rand(n, k, generator=torch.Generator().manual_seed(0)), d=d).double()
    basis = frame(d)[:, :k].double()
    along = x @ basis
    assert float((x - along @ basis.T).abs().max()) < 1e-5
    torch.testing.assert_close(along.T.cov().reshape(k, k), torch.eye(k).double(), atol=4 * (2 / n) ** 0.5, rtol=0)


@pytest.mark.parametrize("k", [1, 2, 3, 5, 6, 16, 64])
def test_low_anchor_is_below_the_threshold_in_any_dimension(k):
    n = fitted_samples(k)
    assert n == 64 or k > 2
    # k / n is at most 1 / 32, as n >= 64 k (k + 1) / 6 and n >= 64; the second part at most 6 / (4 * 64).
    assert 0 < floor(k, n) <= 1 / 32 + 6 / 256 < THRESHOLD
    assert controls(k)[0].value == floor(k, n)


@pytest.mark.parametrize("offset", [NEAREST, 2.0, 8.0])
def test_family_keeps_the_threshold_below_its_controls(offset):
    d, k = 16, 5
    task = get_task(f"manifold[d={d}, k={k}, latent=9" + (f", offset={offset:g}]" if offset != 2 else "]"))
    recorded = {control.name: control for control in task.controls}
    assert task.anchors == (floor(k, 64 * 5), offset**2)
    for name, trial in makers(d, k, latent=9, offset=offset).items():
        value = float(task.evaluate(trial)["w2sq"])
        # In float32 the frame and the offset are exact here; the formula rounds at 1e-15 of its terms, at most 64.
        assert value == pytest.approx(recorded[name].value, abs=1e-12)
        assert value > task.threshold == THRESHOLD


def test_over_complete_generator_can_be_exact_and_starts_no_noisier():
    d, k, latent = 16, 3, 12
    task = get_task(f"manifold[d={d}, k={k}, latent={latent}]")
    assert (task.latent, task.draws, task.generator.shapes["weight0"]) == (latent, k, (latent, d))
    mixed = torch.linalg.qr(random(latent, latent)).Q[:, :k] @ frame(d, k)[:, :k].T.double()
    exact = Snapshot({"weight0": mixed[None], "bias0": torch.zeros(1, d)}, torch.empty(1, 0, d))
    assert float(task.evaluate(exact)["w2sq"]) < 1e-12
    repeats = 200
    uniforms = torch.rand(repeats, task.generator.size, generator=torch.Generator().manual_seed(0))
    start = torch.func.vmap(task.generator.initialise)(uniforms)
    lifted = task.evaluate(Snapshot(start, torch.empty(repeats, 0, d)))["distance_sq"] - 4
    # latent (d - k) squared normals of variance k 0.05^2 / latent: four standard errors of a mean of chi-squares.
    mean, entries = k * (d - k) * START_NOISE**2, repeats * latent * (d - k)
    assert float(lifted.mean()) == pytest.approx(mean, rel=4 * math.sqrt(2 / entries))


@pytest.mark.parametrize("k", [1, 2, 4])
def test_perceptrons_are_measured_on_samples_as_recorded(k):
    d, repeats = 9, 6
    name = f"manifold[d={d}, {'' if k == 2 else f'k={k}, '}generator=mlp]"
    task = get_task(name)
    recorded = {control.name: control.value for control in task.controls}
    latent = random(repeats, 2 * SAMPLES, k)
    for control, trial in makers(d, k).items():
        weight, bias = trial.parameters["weight0"][0].double(), trial.parameters["bias0"][0].double()
        values = task.evaluate(Snapshot({}, latent @ weight + bias))
        # Chance adds at most the floor on average; a single moment of n samples has a deviation of sqrt(2 / n).
        tolerance = floor(k, SAMPLES) + 4 * math.sqrt(2 * k / (SAMPLES * repeats))
        for key in ("w2sq_n2048", "selection"):
            assert float(values[key].mean()) == pytest.approx(recorded[control], abs=tolerance), control
            assert (values[key] > task.threshold).all()
        missing = control in ("one dimension missing", "collapsed to a point")
        assert (float(values["lowest_spread_n2048"].max()) < 1e-12) == missing
        off = 4.0 if control == "parallel manifold" else 0.0
        assert values["distance_sq_n2048"].tolist() == pytest.approx([off] * repeats, abs=1e-10)


def test_perfect_sampler_scores_the_floor_of_its_sample():
    d, k, repeats = 6, 3, 60
    basis = frame(d, k)[:, :k].T.double()
    values = evaluate_samples(Snapshot({}, random(repeats, 2 * SAMPLES, k) @ basis), d=d, k=k)
    found = torch.cat([values["w2sq_n2048"], values["selection"]])
    # Four standard errors, and the next order of the expansion, as for the fitted batch.
    tolerance = 4 * float(found.std()) / math.sqrt(2 * repeats) + 3 / SAMPLES * floor(k, SAMPLES)
    assert float(found.mean()) == pytest.approx(floor(k, SAMPLES), abs=tolerance)
    # The variances of n samples have deviations of sqrt(2 / n), their mean over k columns one of sqrt(2 / (n k)).
    assert float(values["spread_n2048"].mean()) == pytest.approx(1, abs=4 * math.sqrt(2 / (SAMPLES * k * repeats)))
    assert float(values["lowest_spread_n2048"].max()) < 1.1


def test_perceptron_starts_moved_along_the_offset_in_any_form():
    task = get_task("manifold[d=8, generator=mlp, latent=5, offset=3]")
    network, plain = task.generator, mlp([5, 64, 64, 8])
    changed, usual = network.rebuild(depth=3, width=7), plain.rebuild(depth=3, width=7)
    for form, like in ((network, plain), (changed, usual)):
        uniform = torch.rand(form.size, generator=torch.Generator().manual_seed(0))
        latent = random(40, 5, dtype=torch.float32)
        off = form.apply(form.initialise(uniform), latent) - like.apply(like.initialise(uniform), latent)
        # outputs of order 3 in float32
        torch.testing.assert_close(off, 3 * frame(8)[:, 2].expand(40, 8), atol=2e-6, rtol=0)


@pytest.mark.parametrize(("generator", "like"), [("affine", mlp([2, 8])), ("mlp", mlp([2, 64, 64, 8]))])
def test_random_start_is_the_perceptrons_own(generator, like):
    options = "d=8, start=random" if generator == "affine" else "d=8, generator=mlp, start=random"
    task = get_task(f"manifold[{options}]")
    uniform = torch.rand(like.size, generator=torch.Generator().manual_seed(0))
    found, expected = task.generator.initialise(uniform), like.initialise(uniform)
    assert {*found} == {*expected}
    assert all(torch.equal(found[key], expected[key]) for key in expected)
    assert task.anchors[1] == 2


def test_right_moments_of_another_shape_pass_on_samples():
    signs = torch.where(random(1, 2 * SAMPLES, 2) < 0, -1.0, 1.0)
    values = evaluate_samples(Snapshot({}, signs.double() @ frame(8)[:, :2].T.double()), d=8, k=2)
    assert float(values["w2sq_n2048"]) < THRESHOLD


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ("d=1", "d = 1: a manifold needs an ambient dimension of 2 or more"),
        ("d=8, k=8", "k = 8: the manifold's dimension must be from 1 to 7, below d = 8"),
        ("d=8, k=-1", "k = -1: the manifold's dimension must be from 1 to 7"),
        ("d=8, k=2", "k = 2 is what d = 8 has anyway: leave it out"),
        ("generator=conv", "generator = 'conv': choose from affine, mlp"),
        ("k=4, latent=3", "latent = 3: it must be k = 4 or more"),
        ("latent=-1", "latent = -1: it must be k = 2 or more"),
        ("k=4, latent=4", "latent = 4 is k anyway: leave it out"),
        ("start=far", "start = 'far': choose from parallel, random"),
        ("start=random, offset=3", "offset = 3 is for start=parallel: leave it out"),
        ("offset=0.4", "offset = 0.4: the start must be off by 0.5 or more"),
        ("d=64", "d = 64 and nothing else is the task manifold-d64: write that"),
    ],
)
def test_what_cannot_be_is_refused(options, sentence):
    with pytest.raises(UserError, match=sentence):
        get_task(f"manifold[{options}]")


def test_presets_have_no_options():
    with pytest.raises(UserError, match="k"):
        get_task("manifold-d64[k=4]")


def test_presets_are_what_they_were():
    # Trials of earlier sweeps are found again by these.
    for d in DIMENSIONS:
        task, k = preset(d), manifold_dimension(d)
        assert (task.name, task.version, task.latent, task.draws, task.batch) == (f"manifold-d{d}", 1, k, k, 64)
        assert (task.metrics, task.threshold) == (("w2sq", "distance_sq", "spread"), 0.2)
        assert task.anchors == (k / 64 + k * (k + 1) / 256, 4.0)
        assert dict(task.generator.shapes) == {"weight0": (k, d), "bias0": (d,)}


def test_family_is_named_by_its_options():
    task = manifold(d=12, generator="mlp", latent=4)
    assert (task.shape, task.latent, task.evaluation_samples) == ((12,), 4, 2 * SAMPLES)
    assert "a perceptron has to reach a 2-dimensional Gaussian in 12 dimensions" in task.summary
    assert "with 4 latent dimensions" in task.summary


def test_random_basis_is_orthonormal_and_mixes_all_coordinates():
    columns = frame(64, 2, "random").double()
    # float32 columns: 64 products of rounding 2^-24
    assert torch.allclose(columns.T @ columns, torch.eye(3, dtype=torch.float64), atol=1e-6)
    assert columns.abs().max() < 0.6
    assert torch.equal(frame(64, 2, "random"), frame(64, 2, "random"))


@pytest.mark.parametrize("generator", ["affine", "mlp"])
def test_random_basis_is_that_of_data_start_and_metrics_alike(generator):
    task = manifold(d=8, generator=generator, basis="random")
    columns = frame(8, 2, "random")
    real = task.sample(torch.rand(1, 500, 2, generator=torch.Generator().manual_seed(0)))
    off = real - real @ columns[:, :2] @ columns[:, :2].T
    assert off.abs().max() < 1e-5
    start = task.generator.initialise(torch.full((task.generator.size,), 0.5))
    bias = start[f"bias{0 if generator == 'affine' else 2}"]
    assert torch.allclose(bias, 2 * columns[:, 2], atol=1e-6)
    exact = {"weight0": columns[:, :2].T[None], "bias0": torch.zeros(1, 8)}
    if generator == "affine":
        assert task.evaluate(Snapshot(exact, torch.empty(1, 0, 8)))["w2sq"].item() < 1e-6
    else:
        z = torch.randn(1, 4096, 2, generator=torch.Generator().manual_seed(1))
        values = task.evaluate(Snapshot({}, z @ columns[:, :2].T))
        assert values["distance_sq_n2048"].item() < 1e-10
        assert values["w2sq_n2048"].item() < 0.01

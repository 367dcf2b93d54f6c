"""Each function against numbers worked out by hand, closed forms, loops or torch's own."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.func import grad, vmap

from study.layers import (
    batch_norm,
    batch_norm_by,
    batch_norm_self,
    clip_gradients,
    feature_distance,
    historical_distance,
    instance_norm,
    layer_norm,
    minibatch_similarity,
    mixture_choice,
    mixture_entropy,
    mixture_weights,
    power_iterate,
    power_shapes,
    power_size,
    power_start,
    running_mean,
    spectrally_normalised,
    virtual_batch_norm,
)
from study.networks.base import flatten, split
from study.record import grad as derivative
from study.record import record


def double(values):
    return torch.tensor(values, dtype=torch.float64)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def uniform(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


SEEDS = st.integers(0, 2**32 - 1)


# minibatch discrimination


def test_similarity_of_three_samples():
    m = double([[[0, 0], [1, 0]], [[0.5, 0], [1, 1]], [[3, 0], [0, 0]]])
    e = math.exp
    # kernel 1: distances .5 (1,2), 3 (1,3), 2.5 (2,3); kernel 2: 1, 1, 2
    expected = [
        [e(-0.5) + e(-3), e(-1) + e(-1)],
        [e(-0.5) + e(-2.5), e(-1) + e(-2)],
        [e(-3) + e(-2.5), e(-1) + e(-2)],
    ]
    assert torch.allclose(minibatch_similarity(m), double(expected), rtol=1e-14)
    printed = [[0.656318, 0.735759], [0.688616, 0.503215], [0.131872, 0.503215]]
    assert torch.allclose(minibatch_similarity(m), double(printed), rtol=0, atol=5e-7)


@settings(deadline=None)
@given(st.integers(1, 7), SEEDS)
def test_similarity_follows_the_order_of_the_samples(n, seed):
    m = normal(n, 4, 3, seed=seed)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    found = minibatch_similarity(m)
    assert found.shape == (n, 4)
    assert torch.allclose(minibatch_similarity(m[order]), found[order], rtol=1e-12)
    assert (found >= 0).all()
    assert (found <= n - 1).all()


def test_equal_samples_are_similar_to_all_others_and_a_sample_alone_to_none():
    assert minibatch_similarity(torch.ones(5, 3, 2)).equal(torch.full((5, 3), 4.0))
    assert minibatch_similarity(torch.ones(1, 3, 2)).equal(torch.zeros(1, 3))


def test_small_similarities_are_not_rounded_away():
    m = torch.tensor([0.0, 30.0])[:, None, None]
    assert minibatch_similarity(m)[:, 0].tolist() == pytest.approx([math.exp(-30)] * 2, rel=1e-6)


def test_similarity_has_a_derivative_also_between_equal_samples():
    assert grad(lambda m: minibatch_similarity(m).sum())(torch.zeros(3, 2, 2)).equal(torch.zeros(3, 2, 2))
    # o_0 + o_1 = 2 exp(-|a - b|)
    slope = grad(lambda m: minibatch_similarity(m[:, None, None]).sum())(double([0.0, 2.0]))
    assert slope.tolist() == pytest.approx([2 * math.exp(-2), -2 * math.exp(-2)], rel=1e-14)


# virtual batch normalisation

GAIN, BIAS = double([1.5, -0.5, 1.0]), double([0.1, 0.2, -0.3])


def test_reference_batch_is_normalised_as_torch_does_in_training():
    x = 3 * normal(8, 3) + 2
    expected = torch.nn.functional.batch_norm(x, None, None, GAIN, BIAS, training=True, eps=1e-5)
    assert torch.allclose(batch_norm_self(x, GAIN, BIAS), expected, rtol=1e-12, atol=1e-12)


CASES = st.tuples(st.integers(2, 6), st.integers(1, 4), st.sampled_from([(), (1, 1), (2, 3), (4, 4)]), SEEDS)
# 2.2e-16 for sums of up to 96 terms, over variances that epsilon keeps above 1e-5
CLOSE = {"rtol": 0, "atol": 2.2e-16 * 96 * 316 * 10}


def layer_of(case):
    n, channels, positions, seed = case
    x = 3 * normal(n, channels, *positions, seed=seed) + 2
    return x, normal(channels, seed=seed + 1), normal(channels, seed=seed + 2)


@settings(deadline=None)
@given(CASES)
def test_batch_norm_is_torch_s_and_gives_the_moments_it_used(case):
    x, gain, bias = layer_of(case)
    found, mean, variance = batch_norm(x, gain, bias)
    expected = torch.nn.functional.batch_norm(x, None, None, gain, bias, training=True, eps=1e-5)
    assert torch.allclose(found, expected, **CLOSE)
    columns = x.transpose(0, 1).flatten(1)
    assert torch.allclose(mean, columns.mean(1), **CLOSE)
    assert torch.allclose(variance, columns.var(1, correction=0), **CLOSE)
    assert torch.equal(batch_norm_self(x, gain, bias), found)


@settings(deadline=None)
@given(CASES)
def test_batch_norm_by_given_moments_is_torch_s_in_evaluation(case):
    x, gain, bias = layer_of(case)
    mean, variance = 2 + normal(len(gain), seed=7), normal(len(gain), seed=8).square()
    expected = torch.nn.functional.batch_norm(x, mean, variance, gain, bias, training=False, eps=1e-5)
    assert torch.allclose(batch_norm_by(x, mean, variance, gain, bias), expected, **CLOSE)
    _, *own = batch_norm(x, gain, bias)
    assert torch.allclose(batch_norm_by(x, *own, gain, bias), batch_norm_self(x, gain, bias), **CLOSE)


@settings(deadline=None)
@given(CASES)
def test_layer_norm_is_torch_s_with_one_gain_and_bias_for_each_channel(case):
    x, gain, bias = layer_of(case)
    grouped = torch.nn.functional.group_norm(x, 1, gain, bias, eps=1e-5)
    assert torch.allclose(layer_norm(x, gain, bias), grouped, **CLOSE)
    ones, zeros = torch.ones_like(gain), torch.zeros_like(bias)
    plain = torch.nn.functional.layer_norm(x, x.shape[1:], eps=1e-5)
    assert torch.allclose(layer_norm(x, ones, zeros), plain, **CLOSE)


@settings(deadline=None)
@given(CASES.filter(lambda case: case[2] not in ((), (1, 1))))
def test_instance_norm_is_torch_s(case):
    x, gain, bias = layer_of(case)
    expected = torch.nn.functional.instance_norm(x, weight=gain, bias=bias, eps=1e-5)
    assert torch.allclose(instance_norm(x, gain, bias), expected, **CLOSE)


@settings(deadline=None)
@given(CASES, st.integers(1, 5))
def test_virtual_statistics_are_those_of_the_reference_batch_with_the_sample_added(case, n):
    x, gain, bias = layer_of(case)
    reference = 2 * normal(n, *x.shape[1:], seed=case[3] + 3) - 1
    rows = [batch_norm_self(torch.cat([row[None], reference]), gain, bias)[0] for row in x]
    assert torch.allclose(virtual_batch_norm(x, reference, gain, bias), torch.stack(rows), **CLOSE)


def test_live_samples_are_normalised_by_the_published_formula():
    x, reference = normal(4, 3), 3 * normal(8, 3, seed=1) + 2
    found = virtual_batch_norm(x, reference, GAIN, BIAS)
    for i in range(4):
        for k in range(3):
            value = x[i, k].item()
            column = [row[k].item() for row in reference]
            m = (value + sum(column)) / 9  # w = 1/9 of its own, 8/9 of the mean of eight
            s = (value**2 + sum(v**2 for v in column)) / 9
            expected = (value - m) / math.sqrt(1e-5 + s - m**2) * GAIN[k].item() + BIAS[k].item()
            assert found[i, k].item() == pytest.approx(expected, rel=1e-12)


@settings(deadline=None)
@given(SEEDS)
def test_samples_do_not_see_each_other(seed):
    x, reference = normal(4, 3, seed=seed), normal(5, 3, seed=seed + 1)
    together = virtual_batch_norm(x, reference, GAIN, BIAS)
    for i in range(4):
        alone = virtual_batch_norm(x[i : i + 1], reference, GAIN, BIAS)[0]
        assert torch.allclose(alone, together[i], rtol=1e-14)


def test_far_from_zero_a_variance_is_never_negative():
    # in float32 the mean of squares near 1e8 is known to +-8
    reference = 1e4 + torch.linspace(-0.1, 0.1, 8)[:, None]
    found = virtual_batch_norm(reference, reference, torch.ones(1), torch.zeros(1))
    assert torch.isfinite(found).all()
    assert found.abs().max() < 3


# spectral normalisation

TALL = double([[3, 0], [0, 1], [0, 0]])


def iterate(parameters, u, times):
    for _ in range(times):
        u = power_iterate(parameters, u)
    return u


def test_vectors_are_as_wide_as_the_outputs_of_matrices():
    shapes = {"weight0": (3, 4), "bias0": (4,), "weight1": (2, 5, 6)}
    assert power_shapes(shapes) == {"weight0": (4,), "weight1": (6,)}
    assert power_size(shapes) == 10
    state = power_start(split(uniform(10), power_shapes(shapes)))
    assert {name: tuple(piece.shape) for name, piece in state.items()} == power_shapes(shapes)
    assert [piece.norm().item() for piece in state.values()] == pytest.approx([1, 1], rel=1e-14)
    again = split(flatten(state), power_shapes(shapes))
    assert all(torch.equal(again[name], piece) for name, piece in state.items())


def test_starts_point_everywhere():
    starts = power_start({"weight0": uniform(2)})["weight0"]
    many = torch.stack([power_start({"w": uniform(2, seed=seed)})["w"] for seed in range(400)])
    assert starts.shape == (2,)
    # E of a coordinate is 0 and of its square 1/2; sd .71 and .36, and six standard errors
    assert many.mean(0).abs().max() < 6 * 0.71 / 20
    assert (many.square().mean(0) - 0.5).abs().max() < 6 * 0.36 / 20


@pytest.mark.parametrize("weight", [TALL, TALL.T], ids=["tall", "wide"])
def test_spectral_norm_of_three_and_one(weight):
    outputs = weight.shape[1]
    u = iterate({"w": weight}, {"w": torch.ones(outputs, dtype=torch.float64) / outputs**0.5}, 20)
    # the other direction shrinks by 9 in each iteration
    assert torch.allclose(spectrally_normalised({"w": weight}, u)["w"], weight / 3, atol=1e-15)


@settings(deadline=None)
@given(SEEDS)
def test_after_many_iterations_the_largest_singular_value_is_one(seed):
    left, _ = torch.linalg.qr(normal(5, 4, seed=seed))
    right, _ = torch.linalg.qr(normal(4, 4, seed=seed + 1))
    weight = left @ torch.diag(double([2.5, 1.5, 0.5, 0.1])) @ right.T
    u = iterate({"w": weight}, power_start({"w": uniform(4, seed=seed)}), 60)
    expected = weight / torch.linalg.matrix_norm(weight, ord=2)
    # the second direction shrinks by (1.5/2.5)^2 in each iteration: by 1e-26 in all, whatever the start
    assert torch.allclose(spectrally_normalised({"w": weight}, u)["w"], expected, atol=1e-10)


def test_weights_of_more_axes_are_read_as_outputs_by_the_rest():
    weight = normal(2, 3, 4)
    u = iterate({"w": weight}, power_start({"w": uniform(4)}), 500)
    expected = weight / torch.linalg.matrix_norm(weight.reshape(6, 4), ord=2)
    assert torch.allclose(spectrally_normalised({"w": weight}, u)["w"], expected, atol=1e-10)


def test_one_update_is_one_power_iteration():
    weight, u = normal(3, 2), double([0.6, 0.8])
    v = [sum(weight[i, j].item() * u[j].item() for j in range(2)) for i in range(3)]
    v = [value / math.hypot(*v) for value in v]
    new = [sum(weight[i, j].item() * v[i] for i in range(3)) for j in range(2)]
    expected = [value / math.hypot(*new) for value in new]
    assert power_iterate({"w": weight}, {"w": u})["w"].tolist() == pytest.approx(expected, rel=1e-13)


def test_biases_are_left_alone():
    parameters = {"weight0": normal(3, 2), "bias0": normal(2)}
    u = power_start({"weight0": uniform(2)})
    assert power_iterate(parameters, u).keys() == {"weight0"}
    normalised = spectrally_normalised(parameters, u)
    assert list(normalised) == list(parameters)
    assert torch.equal(normalised["bias0"], parameters["bias0"])


def test_gradient_flows_through_the_norm_and_not_through_its_vectors():
    weight, u, g = normal(3, 2), double([0.6, 0.8]), normal(3, 2, seed=1)
    v = weight @ u / (weight @ u).norm()
    sigma = (v @ weight @ u).item()
    # d<g, W/s> = g/s - <g, W>/s^2 ds/dW, and ds/dW = u v^T, here inputs by outputs
    expected = g / sigma - (g * weight).sum() / sigma**2 * torch.outer(v, u)

    def value(w, u):
        return (spectrally_normalised({"w": w}, {"w": u})["w"] * g).sum()

    assert torch.allclose(grad(value)(weight, u), expected, rtol=1e-12)
    assert grad(value, argnums=1)(weight, u).equal(torch.zeros(2, dtype=torch.float64))

    def carried(w, u):
        return power_iterate({"w": w}, {"w": u})["w"].sum()

    assert grad(carried)(weight, u).equal(torch.zeros(3, 2, dtype=torch.float64))
    assert grad(carried, argnums=1)(weight, u).equal(torch.zeros(2, dtype=torch.float64))


def test_vectors_are_constants_of_second_derivatives_too():
    # v turns with W, but the second derivative is that of the quotient with v fixed
    weight, u, g = normal(3, 2), {"w": double([0.6, 0.8])}, normal(3, 2, seed=1)
    direction = normal(3, 2, seed=2)
    v = weight @ u["w"] / (weight @ u["w"]).norm()

    def moved(t):
        return (spectrally_normalised({"w": weight + t * direction}, u)["w"] * g).sum()

    def fixed(t):
        moved = weight + t * direction
        return (moved / (v @ moved @ u["w"]) * g).sum()

    zero = torch.zeros((), dtype=torch.float64)
    assert torch.allclose(grad(grad(moved))(zero), grad(grad(fixed))(zero), rtol=1e-12)


def test_a_zero_weight_stays_zero_and_its_vector_stays_a_direction():
    zero, u = torch.zeros(3, 2), {"w": torch.tensor([0.6, 0.8])}
    assert spectrally_normalised({"w": zero}, u)["w"].equal(zero)
    assert power_iterate({"w": zero}, u)["w"].equal(u["w"])
    slope = grad(lambda w: (spectrally_normalised({"w": w}, u)["w"] - 1).square().sum())(zero)
    assert slope.equal(torch.full((3, 2), -2.0))


# gradient clipping


@settings(deadline=None)
@given(SEEDS, st.floats(1e-3, 1e3))
def test_clipped_norms_are_bounded_directions_kept_and_small_gradients_unchanged(seed, bound):
    gradients = {"weight0": 10 * normal(3, 2, seed=seed), "bias0": 0.1 * normal(2, seed=seed + 1)}
    clipped = clip_gradients(gradients, double(bound))
    for name, before in gradients.items():
        norm = before.norm().item()
        if norm <= bound:
            assert torch.equal(clipped[name], before)
        else:
            assert clipped[name].norm().item() == pytest.approx(bound, rel=1e-14)
            assert torch.allclose(clipped[name], before * (bound / norm), rtol=1e-14)


def test_each_variable_has_a_norm_of_its_own():
    clipped = clip_gradients({"a": double([3.0, 4.0]), "b": double([[0.6], [0.8]]), "c": double([0.0])}, double(2.0))
    assert clipped["a"].tolist() == pytest.approx([1.2, 1.6])
    assert clipped["b"].flatten().tolist() == [0.6, 0.8]
    assert clipped["c"].tolist() == [0.0]


# feature matching


def test_feature_distances():
    real, fake = double([[1, 2], [3, 0]]), double([[0, 1], [1, 1]])
    assert feature_distance(real, fake, "squared").item() == 2.25  # means (2, 1) and (.5, 1)
    assert feature_distance(real, fake, "absolute").item() == 0.75
    assert feature_distance(real, real.flip(0), "squared").item() == 0


@pytest.mark.parametrize("norm", ["squared", "absolute"])
def test_feature_distance_of_equal_means_has_gradient_zero(norm):
    x = normal(4, 3)
    assert grad(lambda fake: feature_distance(x, fake, norm))(x).abs().max() == 0


# mixtures


@settings(deadline=None)
@given(st.lists(st.floats(-20, 20), min_size=1, max_size=8))
def test_mixture_entropy_is_smallest_where_the_weights_are_equal(logits):
    weights = mixture_weights(double(logits))
    assert weights.sum().item() == pytest.approx(1, rel=1e-14)
    expected = -sum(math.log(w) for w in weights.tolist()) / len(logits)
    assert mixture_entropy(double(logits)).item() == pytest.approx(expected, rel=1e-12, abs=1e-12)
    assert mixture_entropy(double(logits)).item() >= math.log(len(logits)) - 1e-12


def test_mixture_of_five_equals():
    assert mixture_entropy(torch.zeros(5, dtype=torch.float64)).item() == pytest.approx(math.log(5), rel=1e-14)
    assert grad(mixture_entropy)(torch.full((5,), 0.7, dtype=torch.float64)).abs().max() < 1e-15


def test_choice_is_by_the_inverse_of_the_distribution_function():
    chosen = mixture_choice(double([0.25, 0.5, 0.25]), double([0.1, 0.2499, 0.25, 0.74, 0.75, 0.999]))
    assert chosen.tolist() == [[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1]]


@settings(deadline=None)
@given(st.lists(st.floats(-60, 60, width=32), min_size=1, max_size=9), st.floats(2.0**-24, 1 - 2.0**-24, width=32))
def test_exactly_one_member_is_chosen_whatever_the_rounding(logits, u):
    chosen = mixture_choice(mixture_weights(torch.tensor(logits)), torch.tensor([u, 1 - 2.0**-24]))
    assert chosen.sum(1).tolist() == [1, 1]
    assert set(chosen.flatten().tolist()) <= {0.0, 1.0}


def test_weights_short_of_one_still_choose():
    assert mixture_choice(torch.tensor([0.5, 0.4]), torch.tensor([0.95])).tolist() == [[0, 1]]


# historical averaging


def test_running_mean_is_the_mean_of_all_so_far():
    path = normal(10, 3)
    mean = torch.full((3,), 7.0, dtype=torch.float64)
    for count, flat in enumerate(path):
        mean = running_mean(mean, flat, count)
        assert torch.allclose(mean, path[: count + 1].mean(0), rtol=1e-12, atol=1e-14)
    counted = running_mean(path[:4].mean(0), path[4], torch.tensor(4))
    assert torch.allclose(counted, path[:5].mean(0), rtol=1e-12)


def test_historical_distance_pulls_back():
    flat, mean = double([1.0, 2.0, 4.0]), double([0.0, 4.0, 4.0])
    assert historical_distance(flat, mean).item() == 5
    assert grad(historical_distance)(flat, mean).tolist() == [2, -4, 0]


# together: mapped, differentiated twice and recorded

ONE_TRIAL = {
    "similarity": (lambda m: minibatch_similarity(m), [(4, 3, 2)]),
    "norm of itself": (batch_norm_self, [(6, 3), (3,), (3,)]),
    "norm of maps": (batch_norm_self, [(4, 3, 2, 2), (3,), (3,)]),
    "given norm": (lambda x, m, v, g, b: batch_norm_by(x, m, v.square(), g, b), [(4, 3, 2, 2), *[(3,)] * 4]),
    "layer norm": (layer_norm, [(4, 3, 2, 2), (3,), (3,)]),
    "instance norm": (instance_norm, [(2, 3, 2, 3), (3,), (3,)]),
    "virtual norm": (virtual_batch_norm, [(4, 3), (6, 3), (3,), (3,)]),
    "virtual norm of maps": (virtual_batch_norm, [(2, 3, 2, 2), (3, 3, 2, 2), (3,), (3,)]),
    "start": (lambda x: power_start({"w": x.sigmoid()})["w"], [(3,)]),
    "iterate": (lambda w, u: power_iterate({"w": w}, {"w": u})["w"], [(4, 3), (3,)]),
    "normalised": (lambda w, u: spectrally_normalised({"w": w}, {"w": u})["w"], [(4, 3), (3,)]),
    "clip": (lambda g, bound: clip_gradients({"g": g}, bound.exp())["g"], [(4, 3), ()]),
    "squared distance": (lambda a, b: feature_distance(a, b, "squared"), [(4, 3), (5, 3)]),
    "absolute distance": (lambda a, b: feature_distance(a, b, "absolute"), [(4, 3), (5, 3)]),
    "weights": (mixture_weights, [(4,)]),
    "entropy": (mixture_entropy, [(4,)]),
    "choice": (lambda logits, u: mixture_choice(mixture_weights(logits), u.sigmoid()), [(4,), (6,)]),
    "history": (historical_distance, [(4,), (4,)]),
    "mean": (lambda mean, flat, count: running_mean(mean, flat, count.square()), [(4,), (4,), ()]),
}


def twice(function):
    """The value, and the gradient of its squared length and of that's squared gradient, by all arguments."""

    def run(*arguments):
        shapes = {str(i): tuple(argument.shape) for i, argument in enumerate(arguments)}

        def length(flat):
            return function(*split(flat, shapes).values()).square().sum()

        flat = flatten(dict(zip(shapes, arguments, strict=True)))
        second = derivative(lambda flat: derivative(length)(flat).square().sum())
        return {"value": function(*arguments), "first": derivative(length)(flat), "second": second(flat)}

    return run


@pytest.mark.parametrize("name", ONE_TRIAL)
def test_mapped_and_recorded_is_one_trial_at_a_time_with_second_derivatives(name):
    function, shapes = ONE_TRIAL[name]
    trials = [normal(3, *shape, seed=i) for i, shape in enumerate(shapes)]
    copies = [trial.clone() for trial in trials]
    mapped = vmap(twice(function))(*trials)
    recorded = record(vmap(twice(function)), [torch.zeros_like(trial) for trial in trials])(*trials)
    for i in range(3):
        alone = twice(function)(*(trial[i] for trial in trials))
        for part, value in alone.items():
            assert torch.allclose(mapped[part][i], value, rtol=1e-12, atol=1e-12), part
            assert torch.allclose(recorded[part][i], value, rtol=1e-12, atol=1e-12), part
    assert all(torch.equal(*pair) for pair in zip(trials, copies, strict=True))


@pytest.mark.parametrize("name", ONE_TRIAL)
def test_derivatives_are_finite_where_everything_is_zero(name):
    function, shapes = ONE_TRIAL[name]
    for value in twice(function)(*(torch.zeros(shape) for shape in shapes)).values():
        assert torch.isfinite(value).all()

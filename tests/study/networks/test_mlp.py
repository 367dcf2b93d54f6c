"""Multilayer perceptrons: plain, with minibatch discrimination, normalised, and of other sizes."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.func import vmap

from study.networks.base import ACTIVATIONS, Network, flatten, identity, leaky_relu, split, tanh
from study.networks.mlp import mlp
from study.networks.table import NETWORKS
from study.record import grad, record
from study.trim import trim


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def started(network, seed=0):
    uniform = torch.rand(network.size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return network.initialise(uniform)


FORMS = {
    "plain": {},
    "minibatch": {"minibatch": True},
    "virtual": {"norm": "virtual"},
    "both": {"minibatch": True, "norm": "virtual"},
    "batch": {"norm": "batch"},
    "layer": {"norm": "layer"},
}
REFERENCE = normal(7, 2, seed=11)


def parameters_of(network, seed=0):
    return started(network, seed) | {"reference": REFERENCE}


def test_split_and_flatten_undo_each_other():
    shapes = {"a": (2, 3), "b": (4,), "c": ()}
    flat = normal(11)
    pieces = split(flat, shapes)
    assert {name: tuple(piece.shape) for name, piece in pieces.items()} == shapes
    assert torch.equal(flatten(pieces), flat)


def test_activations():
    x = torch.tensor([-1.0, 0.0, 2.0])
    assert leaky_relu(x).tolist() == pytest.approx([-0.2, 0, 2])
    assert tanh(x).tolist() == pytest.approx([math.tanh(-1), 0, math.tanh(2)])
    assert identity(x) is x


def test_plain_network_is_torch_s_layers_in_turn():
    network = mlp([2, 4, 3, 1], hidden=torch.relu, output=tanh)
    parameters, x = started(network), normal(5, 2)
    expected = x
    for i, activation in enumerate([torch.relu, torch.relu, torch.tanh]):
        expected = activation(torch.nn.functional.linear(expected, parameters[f"weight{i}"].T, parameters[f"bias{i}"]))
    assert torch.allclose(network.apply(parameters, x), expected, rtol=1e-12)
    assert network.shapes == {
        "weight0": (2, 4),
        "bias0": (4,),
        "weight1": (4, 3),
        "bias1": (3,),
        "weight2": (3, 1),
        "bias2": (1,),
    }


@pytest.mark.parametrize("form", FORMS)
def test_start_has_the_shapes_and_order_of_the_flat_vector(form):
    network = mlp([2, 4, 3, 1], **FORMS[form])
    start = started(network)
    assert {name: tuple(value.shape) for name, value in start.items()} == network.shapes
    assert list(start) == list(network.shapes)
    assert len(flatten(start)) == network.size


def test_weights_start_within_the_inverse_root_of_their_inputs():
    network = mlp([9, 4, 1], minibatch=True)
    highest = network.initialise(torch.ones(network.size))
    lowest = network.initialise(torch.zeros(network.size))
    inputs = {"weight0": 9, "bias0": 9, "tensor": 4, "weight1": 20, "bias1": 20}  # 4 units and 16 similarities
    for name, fan_in in inputs.items():
        assert highest[name].unique().item() == pytest.approx(fan_in**-0.5)
        assert lowest[name].unique().item() == pytest.approx(-(fan_in**-0.5))


def test_gains_start_around_one_and_normalised_biases_at_zero():
    network = mlp([2, 2000, 2], norm="virtual")
    start = started(network)
    assert start["bias0"].unique().item() == 0
    assert start["bias1"].unique().numel() == 2  # the last layer is not normalised
    # mean 1 and sd .02 of 2000, within six standard errors
    assert abs(start["gain0"].mean().item() - 1) < 6 * 0.02 / 2000**0.5
    assert abs(start["gain0"].std().item() - 0.02) < 6 * 0.02 / 4000**0.5
    assert "gain1" not in start


def test_features_of_a_plain_network_lead_to_its_output():
    network = mlp([2, 4, 3, 5], output=tanh)
    parameters, x = started(network), normal(6, 2)
    features = network.features(parameters, x)
    assert [tuple(f.shape) for f in features] == [(6, 4), (6, 3)]
    assert torch.equal(features[0], leaky_relu(torch.addmm(parameters["bias0"], x, parameters["weight0"])))
    last = torch.tanh(torch.addmm(parameters["bias2"], features[-1], parameters["weight2"]))
    assert torch.equal(network.apply(parameters, x), last)


def test_without_hidden_layers_there_are_no_features():
    for network in (mlp([2, 3]), Network(shapes={}, initialise=dict, apply=lambda _, x: x)):
        assert network.features(started(mlp([2, 3])), normal(4, 2)) == ()


@pytest.mark.parametrize(
    ("form", "sizes"),
    [(form, sizes) for form in FORMS for sizes in ([2, 4, 1], [2, 4, 3, 1])]
    + [(f, [2, 1]) for f in ("plain", "minibatch")],
)
def test_rebuilt_with_more_outputs_only_the_last_layer_differs(form, sizes):
    network = mlp(sizes, hidden=torch.relu, output=tanh, **FORMS[form])
    wider = network.rebuild(outputs=5)
    last = len(sizes) - 2
    changed = {f"weight{last}": (network.shapes[f"weight{last}"][0], 5), f"bias{last}": (5,)}
    assert wider.shapes == network.shapes | changed
    assert network.rebuild().shapes == wider.rebuild(outputs=1).shapes == network.shapes
    parameters, x = parameters_of(wider), normal(6, 2)
    assert wider.apply(parameters, x).shape == (6, 5)
    assert wider.apply(parameters, x).abs().max() <= 1
    for i in range(5):
        one = parameters | {name: parameters[name][..., i : i + 1] for name in changed}
        assert torch.allclose(network.apply(one, x), wider.apply(parameters, x)[:, i : i + 1], rtol=1e-12)


@pytest.mark.parametrize("form", FORMS)
def test_rebuilt_is_as_made_so(form):
    made, plain = mlp([2, 4, 3], **FORMS[form]), mlp([2, 4, 3])
    rebuilt = plain.rebuild(**FORMS[form])
    assert rebuilt.shapes == made.shapes
    parameters, x = parameters_of(made), normal(6, 2)
    assert torch.equal(rebuilt.apply(parameters, x), made.apply(parameters, x))
    back = made.rebuild(minibatch=False, norm="none")
    assert back.shapes == plain.shapes


def test_a_network_of_one_form_says_so():
    with pytest.raises(ValueError, match="one form only"):
        Network(shapes={}, initialise=dict, apply=lambda _, x: x).rebuild(outputs=2)


# minibatch discrimination


def test_last_layer_sees_activations_and_similarities():
    network = mlp([2, 3, 1], minibatch=True)
    assert network.shapes == {"weight0": (2, 3), "bias0": (3,), "tensor": (3, 80), "weight1": (19, 1), "bias1": (1,)}
    parameters, x = started(network), normal(4, 2)
    (f,) = network.features(parameters, x)
    assert f.shape == (4, 3)
    expected = torch.empty(4, 1, dtype=torch.float64)
    for i in range(4):
        similar = []
        for kernel in range(16):
            columns = parameters["tensor"][:, 5 * kernel : 5 * kernel + 5]
            distances = [(f[i] @ columns - f[j] @ columns).abs().sum().item() for j in range(4) if j != i]
            similar.append(sum(math.exp(-distance) for distance in distances))
        seen = torch.cat([f[i], torch.tensor(similar, dtype=torch.float64)])
        expected[i] = seen @ parameters["weight1"] + parameters["bias1"]
    assert torch.allclose(network.apply(parameters, x), expected, rtol=1e-12)


@settings(deadline=None)
@given(st.integers(2, 6), st.integers(0, 2**32 - 1))
def test_with_minibatch_discrimination_order_is_followed_and_company_matters(n, seed):
    network = mlp([2, 4, 1], minibatch=True)
    parameters, x = started(network), normal(n, 2, seed=seed)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    found = network.apply(parameters, x)
    assert found.shape == (n, 1)
    assert torch.allclose(network.apply(parameters, x[order]), found[order], rtol=1e-10, atol=1e-12)
    assert not torch.allclose(network.apply(parameters, x[:1]), found[:1], rtol=1e-10)
    plain = network.rebuild(minibatch=False)
    alone = plain.apply(started(plain), x[:1])
    assert torch.allclose(plain.apply(started(plain), x)[:1], alone, rtol=1e-12)


# virtual batch normalisation


def test_hidden_layers_are_normalised_by_the_reference_before_the_activation():
    network = mlp([2, 3, 4, 1], hidden=torch.tanh, norm="virtual")
    assert network.shapes == {
        "weight0": (2, 3),
        "bias0": (3,),
        "gain0": (3,),
        "weight1": (3, 4),
        "bias1": (4,),
        "gain1": (4,),
        "weight2": (4, 1),
        "bias2": (1,),
    }
    parameters = {name: normal(*shape, seed=i) for i, (name, shape) in enumerate(network.shapes.items())}
    x, reference = normal(5, 2, seed=20), REFERENCE
    for i in range(2):
        weight, gain, bias = (parameters[f"{name}{i}"] for name in ("weight", "gain", "bias"))
        # a live sample's statistics are those of the reference batch with the sample added to it
        rows = [
            torch.nn.functional.batch_norm(
                torch.cat([row[None], reference]) @ weight, None, None, gain, bias, training=True, eps=1e-5
            )[0]
            for row in x
        ]
        x = torch.tanh(torch.stack(rows))
        reference = torch.tanh(
            torch.nn.functional.batch_norm(reference @ weight, None, None, gain, bias, training=True, eps=1e-5)
        )
        found = network.features(parameters | {"reference": REFERENCE}, normal(5, 2, seed=20))[i]
        assert torch.allclose(found, x, rtol=1e-10, atol=1e-12)
    expected = x @ parameters["weight2"] + parameters["bias2"]
    found = network.apply(parameters | {"reference": REFERENCE}, normal(5, 2, seed=20))
    assert torch.allclose(found, expected, rtol=1e-10, atol=1e-12)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_with_virtual_batch_normalisation_samples_do_not_see_each_other(seed):
    network = mlp([2, 4, 3, 2], norm="virtual")
    parameters, x = parameters_of(network), normal(5, 2, seed=seed)
    alone = torch.cat([network.apply(parameters, row[None]) for row in x])
    assert torch.allclose(network.apply(parameters, x), alone, rtol=1e-10, atol=1e-12)


def test_scale_of_the_weights_before_a_normalisation_does_not_matter():
    network = mlp([2, 4, 2], norm="virtual")
    parameters, x = parameters_of(network), normal(5, 2)
    scaled = parameters | {"weight0": 1e3 * parameters["weight0"]}
    larger = parameters | {"weight0": 1e6 * parameters["weight0"]}
    # up to epsilon, 1e-5 over a variance of order 1e5
    assert torch.allclose(network.apply(scaled, x), network.apply(larger, x), rtol=1e-8, atol=1e-8)


def test_without_a_reference_batch_virtual_batch_normalisation_is_refused():
    network = mlp([2, 4, 2], norm="virtual")
    with pytest.raises(ValueError, match="needs a batch of inputs as the parameter 'reference'"):
        network.apply(started(network), normal(5, 2))


# other normalisations, sizes and activations


@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_hidden_layers_are_normalised_as_torch_does(norm):
    network = mlp([2, 3, 4, 1], hidden=torch.tanh, norm=norm)
    parameters = {name: normal(*shape, seed=i) for i, (name, shape) in enumerate(network.shapes.items())}
    x = normal(5, 2, seed=20)
    found = network.apply(parameters, x)
    for i in range(2):
        weight, gain, bias = (parameters[f"{name}{i}"] for name in ("weight", "gain", "bias"))
        if norm == "batch":
            x = torch.nn.functional.batch_norm(x @ weight, None, None, gain, bias, training=True, eps=1e-5)
        else:
            x = torch.nn.functional.layer_norm(x @ weight, gain.shape, gain, bias, eps=1e-5)
        x = torch.tanh(x)
    expected = x @ parameters["weight2"] + parameters["bias2"]
    assert torch.allclose(found, expected, rtol=1e-10, atol=1e-12)


def test_depth_is_the_number_of_hidden_layers_and_width_theirs():
    network = mlp([2, 4, 4, 1])
    sizes = {
        (): [2, 4, 4, 1],
        (("depth", 3),): [2, 4, 4, 4, 1],
        (("depth", 0),): [2, 1],
        (("width", 7),): [2, 7, 7, 1],
        (("depth", 1), ("width", 7)): [2, 7, 1],
    }
    for changes, expected in sizes.items():
        rebuilt = network.rebuild(**dict(changes))
        assert rebuilt.shapes == mlp(expected).shapes
        assert rebuilt.hidden == len(expected) - 2
    assert mlp([2, 4, 3, 1]).rebuild(width=5).shapes == mlp([2, 5, 5, 1]).shapes
    with pytest.raises(ValueError, match="another depth needs a width too"):
        mlp([2, 4, 3, 1]).rebuild(depth=3)


@pytest.mark.parametrize(
    ("name", "at_minus_one", "at_two"),
    [
        ("relu", 0, 2),
        ("leaky_relu", -0.2, 2),
        ("tanh", math.tanh(-1), math.tanh(2)),
        ("softplus", math.log(2) / 2 - 1, math.log1p(math.exp(6)) / 2 - 1),
    ],
)
def test_an_activation_by_name_stands_between_layers_only(name, at_minus_one, at_two):
    network = mlp([1, 1, 1], output=identity).rebuild(activation=name)
    one, zero = torch.ones(1, 1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    parameters = {"weight0": one, "bias0": zero, "weight1": one, "bias1": zero}
    found = network.apply(parameters, torch.tensor([[-1.0], [2.0]], dtype=torch.float64))
    assert found.flatten().tolist() == pytest.approx([at_minus_one, at_two], rel=1e-12)
    assert set(ACTIVATIONS) == {"relu", "leaky_relu", "tanh", "softplus"}


@pytest.mark.parametrize(
    ("sizes", "changes", "match"),
    [
        ([2, 4, 1], {"norm": "instance"}, "instance normalisation needs maps"),
        ([2, 4, 1], {"norm": "group"}, "there is no normalisation 'group', only none, batch, layer, instance, virtual"),
        ([2, 4, 1], {"activation": "elu"}, "there is no activation 'elu', only relu, leaky_relu, softplus, tanh"),
        ([2, 1], {"norm": "batch"}, "there is no hidden layer to normalise"),
    ],
)
def test_forms_that_there_are_not_are_refused(sizes, changes, match):
    with pytest.raises(ValueError, match=match):
        mlp(sizes).rebuild(**changes)


def test_perceptrons_of_the_table_have_two_hidden_layers_of_64_units():
    generator, discriminator = NETWORKS["mlp"](3, (2, 5), bounded=True)
    assert generator.shapes == mlp([3, 64, 64, 10]).shapes
    assert discriminator.shapes == mlp([10, 64, 64, 1]).shapes
    # 3 * 64 + 64 + 64 * 64 + 64 + 64 * 10 + 10
    assert generator.size == 5066


# together: mapped, differentiated twice and recorded


def penalised(network, parameters, x):
    """Output and features, and the gradient of a loss with a gradient penalty."""

    def loss(flat):
        everything = parameters | split(flat, network.shapes)

        def critic(point):
            return network.apply(everything, point).sum()

        return network.apply(everything, x).square().mean() + grad(critic)(x).square().sum()

    flat = flatten({name: parameters[name] for name in network.shapes})
    features = {f"feature{i}": f for i, f in enumerate(network.features(parameters, x))}
    return features | {"slope": grad(loss)(flat), "output": network.apply(parameters, x)}


@pytest.mark.parametrize("form", FORMS)
def test_mapped_recorded_and_trimmed_is_one_trial_at_a_time_with_second_derivatives(form):
    network = mlp([2, 4, 3, 1], **FORMS[form])
    names = [*network.shapes, "reference"]
    trials = [parameters_of(network, seed) for seed in range(3)]
    stacked = [torch.stack([trial[name] for trial in trials]) for name in names]
    x = normal(3, 5, 2, seed=30)

    def mapped(*tensors):
        return vmap(lambda *single: penalised(network, dict(zip(names, single[:-1], strict=True)), single[-1]))(
            *tensors
        )

    module = trim(record(mapped, [torch.zeros_like(tensor) for tensor in (*stacked, x)]))
    together, recorded = mapped(*stacked, x), module(*stacked, x)
    for i, trial in enumerate(trials):
        for name, value in penalised(network, trial, x[i]).items():
            assert torch.allclose(together[name][i], value, rtol=1e-12, atol=1e-12), name
            assert torch.allclose(recorded[name][i], value, rtol=1e-12, atol=1e-12), name


@pytest.mark.parametrize("form", FORMS)
def test_derivatives_are_finite_where_every_parameter_is_zero(form):
    network = mlp([2, 4, 3, 1], **FORMS[form])
    zeros = {name: torch.zeros(shape) for name, shape in network.shapes.items()}
    for value in penalised(network, zeros | {"reference": torch.zeros(7, 2)}, torch.zeros(5, 2)).values():
        assert torch.isfinite(value).all()

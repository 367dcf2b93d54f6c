"""What holds of every family and normalisation: derivatives in packs, recorded, and what samples see of each other."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.func import vmap

from study.networks.base import flatten, split
from study.networks.table import NETWORKS
from study.record import grad, record
from study.trim import trim

LATENT, SIDE, BATCH = 3, 8, 4


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def generator(family, norm, **changes):
    shape = (5,) if family == "mlp" else (2, SIDE, SIDE)
    network = NETWORKS[family](LATENT, shape, bounded=True).generator
    return network.rebuild(norm=norm, width=3, **changes)


def discriminator(family, norm, **changes):
    # of a DCGAN's discriminator at 8 pixels nothing is normalised
    shape = (5,) if family == "mlp" else (2, 2 * SIDE, 2 * SIDE) if family == "dcgan" else (2, SIDE, SIDE)
    deep = {"depth": 3} if family == "random" else {}
    network = NETWORKS[family](LATENT, shape, bounded=True).discriminator
    return network.rebuild(norm=norm, width=3, **deep, **changes)


FAMILIES = ("mlp", "dcgan", "resnet", "random")
NORMS = {"mlp": ("none", "batch", "layer", "virtual")} | dict.fromkeys(
    FAMILIES[1:], ("none", "batch", "layer", "instance", "virtual")
)
GENERATORS = [(family, norm) for family in FAMILIES for norm in NORMS[family]]
DISCRIMINATORS = [(family, norm) for family in FAMILIES for norm in NORMS[family] if norm != "virtual"]
WIDTHS = {"mlp": 5, "dcgan": 2 * (2 * SIDE) ** 2, "resnet": 2 * SIDE**2, "random": 2 * SIDE**2}
"""Numbers that a discriminator takes."""


def parameters_of(network, seed=0):
    """A start, moved off its zeros and ones."""
    uniform = torch.rand(network.size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    start = flatten(network.initialise(uniform))
    return start + 0.2 * normal(network.size, seed=seed + 1)


def with_reference(network, flat, reference):
    return split(flat, network.shapes) | {"reference": reference}


# mapped, differentiated twice, recorded


def generator_slope(network):
    """Samples, and the gradient of a consensus-like loss: it has the square of the loss's own gradient in it."""

    def run(flat, z, reference):
        def loss(flat):
            return network.apply(with_reference(network, flat, reference), z).square().mean()

        def consensus(flat):
            return loss(flat) + grad(loss)(flat).square().sum()

        return {"slope": grad(consensus)(flat), "samples": network.apply(with_reference(network, flat, reference), z)}

    return run


def discriminator_slope(network):
    """Outputs, and the gradient of a loss with a gradient penalty."""

    def run(flat, x, _):
        def loss(flat):
            parameters = split(flat, network.shapes)
            slope = grad(lambda points: network.apply(parameters, points).sum())(x)
            return torch.nn.functional.softplus(network.apply(parameters, x)).mean() + slope.square().sum(1).mean()

        return {"slope": grad(loss)(flat), "outputs": network.apply(split(flat, network.shapes), x)}

    return run


def plain_generator(network, flat, z, reference):
    flat = flat.clone().requires_grad_()
    loss = network.apply(with_reference(network, flat, reference), z).square().mean()
    (slope,) = torch.autograd.grad(loss, flat, create_graph=True)
    return torch.autograd.grad(loss + slope.square().sum(), flat)[0]


def plain_discriminator(network, flat, x, _):
    flat, points = flat.clone().requires_grad_(), x.clone().requires_grad_()
    parameters = split(flat, network.shapes)
    (slope,) = torch.autograd.grad(network.apply(parameters, points).sum(), points, create_graph=True)
    loss = torch.nn.functional.softplus(network.apply(parameters, x)).mean() + slope.square().sum(1).mean()
    return torch.autograd.grad(loss, flat)[0]


def equal_to_plain_autograd(network, function, plain, width):
    flats = torch.stack([parameters_of(network, seed) for seed in (10, 20)])
    x, reference = normal(2, BATCH, width, seed=30), normal(2, 5, width, seed=40)
    together = vmap(function)(flats, x, reference)
    examples = [torch.zeros_like(tensor) for tensor in (flats, x, reference)]
    recorded = trim(record(vmap(function), examples))(flats, x, reference)
    slopes = torch.stack([plain(network, *trial) for trial in zip(flats, x, reference, strict=True)])
    # 2.2e-16 for sums of up to 4 * 512 terms, some ten layers, and normalisations by no less than the root of 1e-5
    tolerance = 2.2e-16 * 2048 * 10 * 316 * slopes.abs().max()
    assert slopes.abs().max() > 1e-3
    assert (together["slope"] - slopes).abs().max() <= tolerance
    for name, value in together.items():
        assert (recorded[name] - value).abs().max() <= tolerance, name


@pytest.mark.parametrize(("family", "norm"), GENERATORS)
def test_a_pack_of_generators_equals_plain_autograd(family, norm):
    network = generator(family, norm)
    equal_to_plain_autograd(network, generator_slope(network), plain_generator, LATENT)


@pytest.mark.parametrize(("family", "norm"), DISCRIMINATORS)
def test_a_pack_of_discriminators_under_a_gradient_penalty_equals_plain_autograd(family, norm):
    network = discriminator(family, norm)
    equal_to_plain_autograd(network, discriminator_slope(network), plain_discriminator, WIDTHS[family])


@pytest.mark.parametrize("family", FAMILIES)
def test_a_slot_of_a_pack_has_the_same_bits_wherever_it_is_and_whatever_its_neighbours(family):
    for network, function, width in (
        (generator(family, "batch" if family != "mlp" else "none"), generator_slope, LATENT),
        (discriminator(family, "none"), discriminator_slope, WIDTHS[family]),
    ):
        flats = torch.stack([parameters_of(network, seed) for seed in range(3)]).float()
        x, reference = normal(3, BATCH, width).float(), normal(3, 5, width).float()
        run = trim(record(vmap(function(network)), [flats, x, reference]))
        order = [2, 0, 1]
        here, there = run(flats, x, reference), run(flats[order], x[order], reference[order])
        flats[1:] *= 2
        alone = run(flats, x, reference)
        for name in here:
            assert torch.equal(here[name][order], there[name])
            assert torch.equal(here[name][0], alone[name][0])


# what samples see of each other


def players():
    for family, norm in GENERATORS:
        yield pytest.param(generator(family, norm), LATENT, id=f"generator-{family}-{norm}")
    for family, norm in DISCRIMINATORS:
        for minibatch in (False, True):
            network = discriminator(family, norm, minibatch=minibatch)
            yield pytest.param(network, WIDTHS[family], id=f"discriminator-{family}-{norm}-{minibatch}")


@pytest.mark.parametrize(("network", "width"), [*players()])
@settings(deadline=None, max_examples=5)
@given(seed=st.integers(0, 2**32 - 10))
def test_a_sample_s_output_depends_on_the_rest_of_its_batch_where_the_network_says_so(network, width, seed):
    parameters = with_reference(network, parameters_of(network), normal(5, width, seed=1))
    x = normal(BATCH, width, seed=seed)
    other = torch.cat([x[:1], normal(BATCH - 1, width, seed=seed + 1)])
    found, changed = network.apply(parameters, x)[0], network.apply(parameters, other)[0]
    # the same operations on a row, but for the blocking of products: 2.2e-16 for each of 512 terms in ten layers
    same = (found - changed).abs().max() <= 2e-16 * 512 * 10 * found.abs().max()
    assert same != network.batch_coupled


@pytest.mark.parametrize(("family", "norm"), [pair for pair in GENERATORS + DISCRIMINATORS if pair[1] == "batch"])
def test_batch_normalisation_by_a_batch_s_own_statistics_is_what_it_does_in_training(family, norm):
    for network, width in (generator(family, norm), LATENT), (discriminator(family, norm), WIDTHS[family]):
        parameters = split(parameters_of(network), network.shapes)
        x = normal(BATCH, width)
        statistics = network.statistics(parameters, x)
        assert {name: tuple(value.shape) for name, value in statistics.items()} == network.statistics_shapes
        means = [name.removeprefix("mean") for name in statistics if name.startswith("mean")]
        assert len(statistics) == 2 * len(means) > 0
        assert all(f"gain{number}" in network.shapes for number in means)
        evaluated, trained = network.apply(parameters | statistics, x), network.apply(parameters, x)
        assert torch.allclose(evaluated, trained, rtol=1e-11, atol=1e-11)
        # with given statistics, samples are on their own, and the batch's own are still to be had
        alone = torch.cat([network.apply(parameters | statistics, row[None]) for row in x])
        assert torch.allclose(alone, trained, rtol=1e-11, atol=1e-11)
        strange = {name: value + 1 for name, value in statistics.items()}
        assert not torch.allclose(network.apply(parameters | strange, x), trained)
        again = network.statistics(parameters | strange, x)
        assert all(torch.equal(again[name], value) for name, value in statistics.items())


def test_statistics_are_the_moments_before_the_first_normalisation():
    network = generator("dcgan", "batch")
    parameters, z = split(parameters_of(network), network.shapes), normal(BATCH, LATENT)
    maps = (z @ parameters["weight0"]).reshape(BATCH, 3, 16)
    statistics = network.statistics(parameters, z)
    assert torch.allclose(statistics["mean0"], maps.mean((0, 2)), rtol=1e-12)
    assert torch.allclose(statistics["variance0"], maps.transpose(0, 1).flatten(1).var(1, correction=0), rtol=1e-12)


@pytest.mark.parametrize("family", FAMILIES)
def test_without_batch_normalisation_there_are_no_statistics(family):
    network = generator(family, "layer")
    assert network.statistics_shapes == {}
    assert network.statistics(split(parameters_of(network), network.shapes), normal(BATCH, LATENT)) == {}


# features, labels, outputs


@pytest.mark.parametrize(("family", "norm"), GENERATORS)
def test_features_are_one_flat_activation_for_each_hidden_layer_of_the_live_batch(family, norm):
    for network, width in (
        (generator(family, norm), LATENT),
        (discriminator(family, "none", minibatch=True), WIDTHS[family]),
    ):
        parameters = with_reference(network, parameters_of(network), normal(5, width, seed=1))
        features = network.features(parameters, normal(BATCH, width))
        assert len(features) == network.hidden > 0
        assert all(feature.shape[0] == BATCH and feature.ndim == 2 for feature in features)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_last_features_of_a_discriminator_lead_to_its_outputs(family):
    network = discriminator(family, "none", outputs=3)
    parameters, x = split(parameters_of(network), network.shapes), normal(BATCH, WIDTHS[family])
    last = network.features(parameters, x)[-1]
    weight, bias = list(network.shapes)[-2:]
    expected = last @ parameters[weight] + parameters[bias]
    assert torch.allclose(network.apply(parameters, x), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("family", FAMILIES)
def test_minibatch_discrimination_comes_before_the_last_layer(family):
    network = discriminator(family, "none", minibatch=True)
    parameters, x = split(parameters_of(network), network.shapes), normal(BATCH, WIDTHS[family])
    f = network.features(parameters, x)[-1]
    assert network.shapes["tensor"] == (f.shape[1], 80)
    kernels = (f @ parameters["tensor"]).view(BATCH, 16, 5)
    similar = torch.zeros(BATCH, 16, dtype=torch.float64)
    for i in range(BATCH):
        for j in set(range(BATCH)) - {i}:
            similar[i] += torch.exp(-(kernels[i] - kernels[j]).abs().sum(1))
    weight, bias = list(network.shapes)[-2:]
    expected = torch.cat([f, similar], 1) @ parameters[weight] + parameters[bias]
    assert torch.allclose(network.apply(parameters, x), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("family", "norm"), GENERATORS)
def test_a_class_s_embedding_of_length_one_stands_beside_the_latent(family, norm):
    network, plain = generator(family, norm, labels=7), generator(family, norm)
    assert network.shapes["embedding"] == (7, LATENT)
    first = network.shapes["weight0"]
    assert first == (2 * LATENT, plain.shapes["weight0"][1])
    rest = {name: shape for name, shape in network.shapes.items() if name not in ("embedding", "weight0")}
    assert rest == {name: shape for name, shape in plain.shapes.items() if name != "weight0"}
    parameters, z = split(parameters_of(network), network.shapes), normal(BATCH, LATENT)
    labels = torch.tensor([6, 0, 3, 3])
    rows = torch.nn.functional.embedding(labels, parameters["embedding"])
    seen = torch.cat([z, torch.nn.functional.normalize(rows)], 1)
    # the same network without labels, of twice the latents
    shape = (5,) if family == "mlp" else (2, SIDE, SIDE)
    wide = NETWORKS[family](2 * LATENT, shape, bounded=True).generator.rebuild(norm=norm, width=3)
    one_hot = torch.nn.functional.one_hot(labels, 7).double()
    x = torch.cat([z, one_hot], 1)
    found = network.apply(parameters | {"reference": x}, x)
    assert torch.allclose(found, wide.apply(parameters | {"reference": seen}, seen), rtol=1e-11, atol=1e-11)


def test_embeddings_start_from_a_standard_normal_distribution():
    network = NETWORKS["dcgan"](50, (1, 8, 8), bounded=True).generator.rebuild(labels=100)
    uniform = torch.rand(network.size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    values = network.initialise(uniform)["embedding"]
    # 5000 of them: within six standard errors
    assert abs(values.mean().item()) < 6 / 5000**0.5
    assert abs(values.var().item() - 1) < 6 * (2 / 5000) ** 0.5


def test_an_embedding_of_zero_has_finite_derivatives():
    network = generator("mlp", "none", labels=2)
    zeros = torch.zeros(network.size)
    x = torch.cat([torch.ones(2, LATENT), torch.eye(2)], 1)
    slope = grad(lambda flat: network.apply(split(flat, network.shapes), x).sum())(zeros)
    assert torch.isfinite(slope).all()


@pytest.mark.parametrize(("family", "norm"), GENERATORS)
def test_bounded_samples_are_in_the_range_of_images(family, norm):
    shape = (5,) if family == "mlp" else (2, SIDE, SIDE)
    z, reference = normal(BATCH, LATENT), normal(5, LATENT, seed=1)
    found = {}
    for bounded in (True, False):
        network = NETWORKS[family](LATENT, shape, bounded=bounded).generator.rebuild(norm=norm)
        flat = parameters_of(network)
        found[bounded] = network.apply(with_reference(network, flat, reference), z)
    assert torch.equal(found[True], torch.tanh(found[False]))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_rebuilt_network_keeps_what_is_not_named(family):
    network = generator(family, "layer", activation="tanh")
    again = network.rebuild(labels=2).rebuild(labels=0)
    flat, z = parameters_of(network), normal(BATCH, LATENT)
    assert again.shapes == network.shapes
    found = again.apply(split(flat, again.shapes), z)
    assert torch.equal(found, network.apply(split(flat, network.shapes), z))

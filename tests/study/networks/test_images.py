"""DCGANs, residual networks and random architectures: as torch.nn modules, their sizes, forms and starts."""

import pytest
import torch

from study.networks.base import ACTIVATIONS
from study.networks.table import NETWORKS
from tests.study.networks import modules

# float64: sums of at most 16 * 8 * 2 products, ten layers, and a normalisation by no less than the root of 1e-5
TOLERANCE = 2.3e-16 * 256 * 10 * 316


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def anything(network, seed=0):
    """Parameters of no special values: no zeros, no ones, of the size that keeps values of a size."""
    return {
        name: normal(*shape, seed=seed + i) / max(1, torch.Size(shape[:-1]).numel()) ** 0.5 + (len(shape) == 1) * 0.5
        for i, (name, shape) in enumerate(network.shapes.items())
    }


def pair(family, shape, *, width, bounded=True, latent=5, **changes):
    found = NETWORKS[family](latent, shape, bounded=bounded)
    return tuple(player.rebuild(width=width, **changes) for player in found)


GENERATORS = {
    # convolutions beyond a DCGAN's after maps of 4, 8, 16, ...: depth less the layers of a DCGAN, shared out
    ("dcgan", 8, None): lambda build: modules.dcgan_generator(build, size=8, extra=[0]),
    ("dcgan", 32, None): lambda build: modules.dcgan_generator(build, size=32, extra=[0, 0, 0]),
    ("random", 8, 4): lambda build: modules.dcgan_generator(build, size=8, extra=[2]),
    ("random", 32, 8): lambda build: modules.dcgan_generator(build, size=32, extra=[2, 1, 1]),
    ("resnet", 8, None): lambda build: modules.resnet_generator(build, size=8),
    ("resnet", 32, None): lambda build: modules.resnet_generator(build, size=32),
}
DISCRIMINATORS = {
    ("dcgan", 8, None): lambda build, shape: modules.dcgan_discriminator(build, shape=shape, extra=[0]),
    ("dcgan", 32, None): lambda build, shape: modules.dcgan_discriminator(build, shape=shape, extra=[0, 0, 0]),
    ("random", 8, 4): lambda build, shape: modules.dcgan_discriminator(build, shape=shape, extra=[2]),
    ("random", 32, 8): lambda build, shape: modules.dcgan_discriminator(build, shape=shape, extra=[1, 1, 2]),
    ("resnet", 8, None): lambda build, shape: modules.resnet_discriminator(build, shape=shape, plan=["keep"] * 2),
    ("resnet", 32, None): lambda build, shape: modules.resnet_discriminator(
        build, shape=shape, plan=["halve", "keep", "keep"]
    ),
}


@pytest.mark.parametrize("norm", ["none", "batch", "layer", "instance", "virtual"])
@pytest.mark.parametrize("case", GENERATORS, ids=lambda case: f"{case[0]}-{case[1]}")
def test_generators_are_the_same_modules_of_torch(case, norm):
    family, size, depth = case
    deep = {"depth": depth} if depth else {}
    network, _ = pair(family, (2, size, size), width=2, **deep)
    network = network.rebuild(norm=norm)
    parameters, z, reference = anything(network), normal(4, 5, seed=50), normal(6, 5, seed=51)
    n = 6 if norm == "virtual" else 0
    build = modules.Build(parameters, norm=norm, activation="relu", reference=n)
    module = GENERATORS[case](build)
    assert not build.left
    found = network.apply(parameters | ({"reference": reference} if n else {}), z)
    assert found.shape == (4, 2 * size * size)
    expected = module(torch.cat([reference, z]) if n else z)[n:]
    assert (found - expected).abs().max() <= TOLERANCE


@pytest.mark.parametrize(
    ("case", "norm"),
    [
        pytest.param(case, norm, id=f"{case[0]}-{case[1]}-{norm}")
        for case in DISCRIMINATORS
        for norm in ("none", "batch", "layer", "instance")
        if norm == "none" or case != ("dcgan", 8, None)  # whose one layer is never normalised
    ],
)
def test_discriminators_are_the_same_modules_of_torch(case, norm):
    family, size, depth = case
    deep = {"depth": depth} if depth else {}
    shape = (2, size, size)
    _, network = pair(family, shape, width=2, **deep)
    network = network.rebuild(norm=norm, outputs=3)
    parameters, x = anything(network), normal(4, 2 * size * size, seed=50)
    build = modules.Build(parameters, norm=norm, activation="relu" if family == "resnet" else "leaky_relu")
    module = DISCRIMINATORS[case](build, shape)
    assert not build.left
    found = network.apply(parameters, x)
    assert found.shape == (4, 3)
    assert (found - module(x)).abs().max() <= TOLERANCE


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("family", ["dcgan", "random", "resnet"])
def test_activations_are_torch_s_modules(family, activation):
    generator, discriminator = pair(family, (1, 8, 8), width=3, activation=activation, bounded=False)
    parameters, z = anything(generator), normal(4, 5, seed=50)
    kind = modules.resnet_generator if family == "resnet" else modules.dcgan_generator
    extra = {} if family == "resnet" else {"extra": [0]}
    build = modules.Build(parameters, norm="batch", activation=activation)
    # softplus beyond 20 is the identity in torch: less than 1e-8 of it
    tolerance = 1e-8 if activation == "softplus" else TOLERANCE
    module = kind(build, size=8, bounded=False, **extra)
    assert (generator.apply(parameters, z) - module(z)).abs().max() <= tolerance * module(z).abs().max()
    parameters, x = anything(discriminator), normal(4, 64, seed=50)
    build = modules.Build(parameters, norm="none", activation=activation)
    case = (family, 8, None)
    if family == "resnet":
        module = DISCRIMINATORS[case](build, (1, 8, 8))
    else:
        module = modules.dcgan_discriminator(build, shape=(1, 8, 8), extra=[0])
    assert (discriminator.apply(parameters, x) - module(x)).abs().max() <= tolerance


# sizes by hand


def test_a_dcgan_s_parameters_by_hand():
    generator, discriminator = NETWORKS["dcgan"](128, (3, 32, 32), bounded=True)
    assert generator.shapes == {
        "weight0": (128, 4096),  # 256 maps of 4 x 4
        "bias0": (256,),
        "gain0": (256,),
        "weight1": (4, 4, 256, 128),
        "bias1": (128,),
        "gain1": (128,),
        "weight2": (4, 4, 128, 64),
        "bias2": (64,),
        "gain2": (64,),
        "weight3": (4, 4, 64, 3),
        "bias3": (3,),
    }
    # 524288 + 512 + 524288 + 256 + 131072 + 128 + 3072 + 3
    assert generator.size == 1_183_619
    assert discriminator.shapes == {
        "weight0": (4, 4, 3, 64),
        "bias0": (64,),
        "weight1": (4, 4, 64, 128),
        "bias1": (128,),
        "weight2": (4, 4, 128, 256),
        "bias2": (256,),
        "weight3": (4096, 1),
        "bias3": (1,),
    }
    # 3072 + 64 + 131072 + 128 + 524288 + 256 + 4096 + 1
    assert discriminator.size == 662_977


def test_a_residual_network_s_size_by_hand():
    generator, discriminator = NETWORKS["resnet"](128, (3, 32, 32), bounded=True)
    conv, mixing = 9 * 128 * 128, 128 * 128 + 128
    # input; three blocks of two norms, a convolution without and one with a bias and a shortcut; a norm; the last
    assert generator.size == 129 * 2048 + 3 * (4 * 128 + 2 * conv + 128 + mixing) + 2 * 128 + 9 * 128 * 3 + 3
    # the first block; one that halves; two that keep; the last
    first = 9 * 3 * 128 + 128 + conv + 128 + 3 * 128 + 128
    assert discriminator.size == first + (2 * (conv + 128) + mixing) + 2 * 2 * (conv + 128) + 129


@pytest.mark.parametrize(("depth", "extra"), [(4, [0, 0, 0]), (8, [2, 1, 1]), (12, [3, 3, 2]), (20, [6, 5, 5])])
def test_depths_are_shared_out_from_the_smallest_maps_on(depth, extra):
    generator, discriminator = pair("random", (3, 32, 32), width=64, depth=depth)
    for network, widths, last_first in ((generator, [256, 128, 64], False), (discriminator, [256, 128, 64], True)):
        weights = [shape for name, shape in network.shapes.items() if name.startswith("weight")]
        assert len(weights) == depth
        kept = [weights.count((3, 3, width, width)) for width in widths]
        assert kept == extra
        thin = [shape[3] for shape in weights if shape[:2] == (3, 3)]
        assert thin == sorted(thin, reverse=not last_first)


def test_default_widths_follow_the_size_of_images():
    for side, filters in ((8, 16), (16, 32), (32, 64), (64, 64)):
        _, discriminator = NETWORKS["dcgan"](8, (1, side, side), bounded=True)
        assert discriminator.shapes["weight0"] == (4, 4, 1, filters)
    for side, filters in ((8, 32), (16, 64), (32, 128), (64, 128)):
        _, discriminator = NETWORKS["resnet"](8, (1, side, side), bounded=True)
        assert discriminator.shapes["weight0a"] == (3, 3, 1, filters)


# starts


def started(network, seed=0):
    uniform = torch.rand(network.size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return network.initialise(uniform)


def spread_is(values, sd):
    # of n numbers from a normal or a flatter distribution, the variance has a relative error below the root of 2 / n
    assert values.std(correction=0).item() == pytest.approx(sd, rel=6 * (2 / values.numel()) ** 0.5)
    assert abs(values.mean().item()) < 6 * sd / values.numel() ** 0.5


def test_a_dcgan_starts_as_published():
    for network in NETWORKS["dcgan"](16, (3, 16, 16), bounded=True):
        start = started(network)
        assert {name: tuple(value.shape) for name, value in start.items()} == network.shapes
        for name, value in start.items():
            if name.startswith("weight"):
                spread_is(value, 0.02)
            elif name.startswith("gain"):
                spread_is(value - 1, 0.02)
            else:
                assert value.unique().tolist() == [0]


def test_residual_networks_and_random_architectures_start_as_in_the_authors_code():
    generator, discriminator = (started(network) for network in NETWORKS["resnet"](16, (3, 16, 16), bounded=True))
    width = 64
    he, glorot = (4 / (9 * 2 * width)) ** 0.5, (2 / (2 * width)) ** 0.5
    for start in (generator, discriminator):
        spread_is(start["weight1a"], he)
        spread_is(start["weight1b"], he)
    spread_is(generator["weight1s"], glorot)
    spread_is(discriminator["weight0s"], (2 / (3 + width)) ** 0.5)
    spread_is(discriminator["weight0a"], (4 / (9 * (3 + width))) ** 0.5)
    spread_is(generator["weight0"], (2 / (16 + 16 * width)) ** 0.5)
    spread_is(generator["weight3"], (2 / (9 * (width + 3))) ** 0.5)
    spread_is(discriminator["weight3"], (2 / (width + 1)) ** 0.5)
    for name, value in (generator | discriminator).items():
        if not name.startswith("weight"):
            assert value.unique().tolist() == [1 if name.startswith("gain") else 0]
    generator, discriminator = (started(player) for player in pair("random", (3, 16, 16), width=32, depth=5, latent=16))
    spread_is(generator["weight0"], (2 / (16 + 64 * 16)) ** 0.5)
    spread_is(generator["weight1"], (4 / (9 * 2 * 64)) ** 0.5)
    spread_is(generator["weight2"], (4 / (16 * 64 / 4 + 16 * 32)) ** 0.5)
    spread_is(discriminator["weight0"], (4 / (16 * 3 + 16 * 32 / 4)) ** 0.5)
    assert generator["gain0"].unique().tolist() == [1]


# forms that there are not


@pytest.mark.parametrize("family", ["dcgan", "resnet", "random"])
@pytest.mark.parametrize("shape", [(2,), (8, 8), (1, 8, 16), (1, 4, 4), (3, 24, 24)])
def test_shapes_other_than_square_images_of_powers_of_two_are_refused(family, shape):
    with pytest.raises(ValueError, match=r"it needs images of \(channels, s, s\), s a power of two from 8"):
        NETWORKS[family](4, shape, bounded=True)


@pytest.mark.parametrize(
    ("family", "player", "changes", "match"),
    [
        ("dcgan", 0, {"depth": 5}, "no depth to change, only width, norm, activation, labels"),
        ("resnet", 1, {"depth": 5}, "no depth to change"),
        ("dcgan", 0, {"minibatch": True}, "no minibatch to change"),
        ("dcgan", 0, {"outputs": 2}, "no outputs to change"),
        ("random", 1, {"labels": 2}, "no labels to change"),
        ("random", 0, {"depth": 1}, "depth must be at least 2 for images of this size, got 1"),
        ("resnet", 1, {"norm": "virtual"}, "is for generators"),
        ("dcgan", 1, {"norm": "batch"}, "there is no layer to normalise"),
        ("resnet", 0, {"norm": "group"}, "no normalisation 'group', only none, batch, layer, instance, virtual"),
        ("random", 0, {"activation": "elu"}, "no activation 'elu', only relu, leaky_relu, softplus, tanh"),
    ],
)
def test_forms_that_there_are_not_are_refused(family, player, changes, match):
    with pytest.raises(ValueError, match=match):
        NETWORKS[family](4, (1, 8, 8), bounded=True)[player].rebuild(**changes)

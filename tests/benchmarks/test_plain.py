"""The plain loop and the JAX program do what the engine does: the same gradients on the same batches."""

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks import engine
from benchmarks.dissect import game_of
from benchmarks.plain import LOSSES, PlainGan
from study.networks.base import flatten
from study.step import SHARED, discriminator_update, generator_update
from study.tasks.table import get_task
from study.train import example_of

WEIGHT, BETA1, BETA2, LR = 10.0, 0.5, 0.999, 2e-4
CLOSE = 1e-4
"""Of the largest number: in float32 a gradient, a sum over 64 samples of products of layers, is good to some 1e-5, and
1 - 0.999, the factor of second moments, is off by 5e-5."""


def updated(loss, player, theta, phi, **batch):
    """First moments, second moments and parameters of a player after its first update by the engine."""
    game = game_of(get_task("ring8"), f"{loss}+gp1")
    trial = {name: value if name in SHARED else value[0] for name, value in example_of(game, 1).items()}
    constants = {"lr_d": LR, "lr_g": LR, "beta1": BETA1, "beta2": BETA2, "penalty_weight": WEIGHT}
    trial |= {name: torch.tensor(value) for name, value in constants.items()}
    trial |= {"count_d": torch.tensor(1.0), "count_g": torch.tensor(1.0), "theta": theta, "phi": phi} | batch
    found = {"d": discriminator_update, "g": generator_update}[player](game, trial)
    name = {"d": "phi", "g": "theta"}[player]
    return found[f"{name}_first"], found[f"{name}_second"], found[name]


def flat(layers):
    """Parameters of a network of modules, in the engine's order."""
    linear = [layer for layer in layers if isinstance(layer, nn.Linear)]
    return flatten({f"{i}{kind}": tensor for i, layer in enumerate(linear) for kind, tensor in parts(layer)}).clone()


def parts(layer):
    return (("weight", layer.weight.detach().T), ("bias", layer.bias.detach()))


def moments(optimiser, network):
    linear = [layer for layer in network if isinstance(layer, nn.Linear)]
    state = optimiser.state
    return [
        torch.cat([x.flatten() for layer in linear for x in (state[layer.weight][name].T, state[layer.bias][name])])
        for name in ("exp_avg", "exp_avg_sq")
    ]


def assert_close(found, expected):
    assert torch.isfinite(expected).all()
    assert expected.abs().max() > 0
    torch.testing.assert_close(found, expected, rtol=0, atol=CLOSE * expected.abs().max().item())


@pytest.mark.parametrize("loss", LOSSES)
def test_a_plain_discriminator_update_is_the_engines(loss):
    gan = PlainGan("ring8", lr=LR, beta1=BETA1, loss=loss, weight=WEIGHT)
    theta, phi = flat(gan.generator), flat(gan.discriminator)
    torch.manual_seed(3)
    gan.update_discriminator()
    torch.manual_seed(3)
    batch = {"real_d": gan.sample(64), "latent_d": torch.randn(64, 2), "noise_d": torch.rand(64, 1)}
    first, second, _ = updated(loss, "d", theta, phi, **batch)
    for found, expected in zip(moments(gan.adam_d, gan.discriminator), (first, second), strict=True):
        assert_close(found, expected)
    assert torch.equal(flat(gan.generator), theta)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_plain_generator_update_is_the_engines(loss):
    gan = PlainGan("ring8", lr=LR, beta1=BETA1, loss=loss, weight=WEIGHT)
    theta, phi = flat(gan.generator), flat(gan.discriminator)
    torch.manual_seed(4)
    gan.update_generator()
    torch.manual_seed(4)
    first, second, _ = updated(loss, "g", theta, phi, latent_g=torch.randn(64, 2))
    for found, expected in zip(moments(gan.adam_g, gan.generator), (first, second), strict=True):
        assert_close(found, expected)
    assert torch.equal(flat(gan.discriminator), phi)


JAX = """
import sys
folder, loss, out = sys.argv[1:]
sys.path.insert(0, folder)
import jax, jax.numpy as jnp, numpy as np
import jax_arm as arm

theta = arm.start(jax.random.key(0), (arm.LATENT, arm.WIDTH, arm.WIDTH, 2))[0]
phi = arm.start(jax.random.key(1), (2, arm.WIDTH, arm.WIDTH, 1))[0]
key, other = jax.random.split(jax.random.key(2))
one, two, three = jax.random.split(key, 3)
zeros = lambda tree: jax.tree.map(jnp.zeros_like, tree)
flat = lambda tree: np.concatenate([np.ravel(leaf) for layer in tree for leaf in layer])
found = {"theta": flat(theta), "phi": flat(phi)}
found |= {"real_d": arm.real_batch(one), "latent_d": jax.random.normal(two, (arm.BATCH, arm.LATENT))}
found |= {"noise_d": jax.random.uniform(three, (arm.BATCH, 1)), "latent_g": jax.random.normal(other, (arm.BATCH, 2))}
for player, own, gradient in (
    ("d", phi, jax.grad(arm.loss_d)(phi, theta, key, loss)),
    ("g", theta, jax.grad(arm.loss_g)(theta, phi, other, loss)),
):
    after = arm.adam((own, zeros(own), zeros(own)), gradient, 1.0, LR, BETA1)
    for name, tree in zip(("after", "first", "second"), after):
        found[f"{name}_{player}"] = flat(tree)
np.savez(out, **found)
"""


@pytest.mark.slow
@pytest.mark.skipif(engine.JAX_PYTHON not in os.environ, reason=f"{engine.JAX_PYTHON} names no Python that has JAX")
@pytest.mark.parametrize("loss", LOSSES)
def test_jaxs_updates_are_the_engines(loss, tmp_path):
    script = JAX.replace("LR", str(LR)).replace("BETA1", str(BETA1))
    folder, out = Path(engine.__file__).parent, tmp_path / "found.npz"
    command = [os.environ[engine.JAX_PYTHON], "-c", script, str(folder), loss, str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = {name: torch.from_numpy(value) for name, value in np.load(out).items()}
    batch = {name: found[name] for name in ("real_d", "latent_d", "noise_d", "latent_g")}
    for player, own in (("d", "phi"), ("g", "theta")):
        first, second, after = updated(loss, player, found["theta"], found["phi"], **batch)
        assert_close(found[f"first_{player}"], first)
        assert_close(found[f"second_{player}"], second)
        # Adam's first step is lr times gradient / (|gradient| + 1e-8): of those that are not next to nothing, lr
        large = first.abs() > 1e-2 * first.abs().max()
        step = (found[f"after_{player}"] - found[own])[large]
        torch.testing.assert_close(step, (after - found[own])[large], rtol=1e-3, atol=1e-3 * LR)
        assert len(step) > 100

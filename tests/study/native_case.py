"""What tests of compiled programs share: whether there is a compiler, and a pack in the middle of its training."""

from dataclasses import replace

import pytest
import torch

from study.draws import draw
from study.game import Game
from study.methods import parse_method
from study.native.build import missing
from study.optimisers import OPTIMISERS
from study.prng import key_words
from study.step import SHARED, discriminator_update, generator_update, joint_update
from study.tasks.table import get_task
from study.train import NUMBERS, example_of, start

needs_compiler = pytest.mark.skipif(missing() is not None, reason=missing() or "there is a compiler")


def game_of(method, task="ring8", optimiser="adam", n_critic=1):
    return Game(get_task(task), parse_method(method), OPTIMISERS[optimiser], n_critic)


def middle(game, capacity, dtype, *, lr=1e-3):
    """Tensors of a pack as they are in the middle of training, each trial with its own."""
    example = example_of(game, capacity, dtype=dtype)
    spread = torch.linspace(0.5, 1.5, capacity, dtype=torch.float64).to(dtype)
    constants = dict.fromkeys(NUMBERS, 0.5 * spread)
    constants |= {"lr_d": lr * spread, "lr_g": lr * spread, "beta1": 0.5 * spread, "beta2": 0.6 * spread}
    keys = keys_of(capacity)
    drawn = {name: tensor[:, 0, 0] for name, tensor in draw(game, keys, range(1), dtype=dtype).items()}
    found = example | constants | start(game, keys, constants, dtype=dtype) | drawn
    generator = torch.Generator().manual_seed(7)
    for name in ("theta", "phi"):
        for moment in ("first", "second", "step"):
            if f"{name}_{moment}" in found:
                noise = torch.rand(found[name].shape, generator=generator, dtype=torch.float64)
                found[f"{name}_{moment}"] = (0.1 * noise).to(dtype)
    return found | dict.fromkeys(SHARED, torch.tensor(3.0, dtype=dtype)) | {"progress": torch.tensor(0.3, dtype=dtype)}


def sound_until(tensors, step, n_critic):
    """Tensors of a pack whose trials were all sound up to a step."""
    like = tensors["sound_g"]
    return tensors | {"sound_d": torch.full_like(like, step * n_critic), "sound_g": torch.full_like(like, step)}


def keys_of(capacity):
    return key_words([f"{2**63 + 12345678901234567 * i:016x}" for i in range(capacity)])


def updates_of(game):
    if game.at_once:
        return {"both": lambda trial: joint_update(game, trial)}
    return {
        "discriminator": lambda trial: discriminator_update(game, trial),
        "generator": lambda trial: generator_update(game, trial),
    }


def with_critics(game, n_critic):
    return replace(game, n_critic=n_critic)

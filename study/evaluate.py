"""Measuring a pack: samples of every generator, on draws of the evaluation's own, and what the task says of them."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor
from torch.func import vmap

from study import evaluation_program as programs
from study.game import Game, components
from study.layers import mixture_choice
from study.prng import Role, uniform
from study.schema import NATIVE, RECORDED
from study.step import Tensors
from study.tasks.base import Snapshot

AT_ONCE = 2**19
"""Coordinates of generated samples of one trial that are made at once; beyond it, a generator runs several times."""

LAYER, FEWEST = {"cpu": 2**18, "cuda": 2**27}, 128
"""Numbers of one layer that are made at once of all trials, on a CPU few enough for its cache; samples at least."""

DRAWN = 2**18
"""Random numbers that are drawn at once on a CPU, few enough for its cache."""


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Products of large matrices round by how many threads share them."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@torch.no_grad()
@_one_thread()
def evaluate(
    game: Game,
    tensors: Tensors,
    keys: Tensor,
    *,
    index: int,
    look: Callable[[Tensor], None] = lambda _: None,
    program: str = RECORDED,
) -> dict[str, Tensor]:
    """Measure every slot of a pack.

    Args:
        game: What its trials have in common.
        tensors: What they carry along, each (c, ...).
        keys: Their keys (c, 2).
        index: Number of the evaluation, on which the draws depend.
        look: Is shown the samples (c, n, d).
        program: "native" to compute with networks by programs compiled for this CPU, where their operations can be
            translated; or "recorded".

    Returns:
        Values (c,), float64, by name.

    Raises:
        UserError: If a program is to be compiled and nothing can be on this machine.
    """
    task, theta = game.task, tensors.get("theta_average", tensors["theta"])
    native = program == NATIVE and theta.device.type == "cpu"
    game = game.of_one  # the number is nothing to an evaluation
    drawn = _draws(game, keys, index, theta.dtype, native=native)
    fixed = {name: tensors[name] for name in ("reference",) if name in tensors}
    known = tensors["statistics"].chunk(game.components, 1) if "statistics" in tensors else [None] * game.components

    def made(flat: Tensor, statistics: Tensor | None) -> Tensor:
        of_trials = fixed | {"theta": flat} | ({} if statistics is None else {"statistics": statistics})
        return _samples(game, of_trials, drawn, native=native)

    if game.components == 1:
        samples = made(theta, known[0])
        parameters = _by_name(theta, game.generator.shapes)
    else:
        count = task.evaluation_samples
        choices = uniform(keys, role=Role.MIXTURE, steps=range(index, index + 1), updates=1, count=count)[:, 0, 0]
        networks, weights = vmap(lambda flat: components(flat, game.components))(theta)
        member = vmap(mixture_choice)(weights, choices.to(theta.dtype))
        each = torch.stack([made(network, statistics) for network, statistics in zip(networks, known, strict=True)])
        samples = torch.einsum("cnt,tcnd->cnd", member, each)
        parameters = {}
    look(samples)
    held: Tensors = {name: tensors[name] for name in ("phi", "power") if name in tensors}
    values = task.evaluate(
        Snapshot(
            parameters=parameters,
            samples=samples,
            labels=drawn.get("label"),
            whole=native and not game.discriminator.batch_coupled,
            native=native,
            critic=lambda x: _shown(game, held, x, (programs.OUTPUTS,), native=native)[0],
            slope=lambda x: _shown(game, held, x, (programs.SLOPE,), native=native)[0],
            critic_and_slope=lambda x: _shown(game, held, x, (programs.OUTPUTS, programs.SLOPE), native=native),
        )
    )
    return values if "selection" in values else values | {"selection": values[task.primary]}


def _by_name(flat: Tensor, shapes: Mapping[str, tuple[int, ...]]) -> Tensors:
    """Parameters (c, ...) by name, of vectors (c, p), as `study.networks.base.split` cuts each."""
    pieces = torch.split(flat, [math.prod(shape) for shape in shapes.values()], 1) if len(shapes) > 1 else [flat]
    return {name: piece.reshape(len(flat), *shape) for (name, shape), piece in zip(shapes.items(), pieces, strict=True)}


def _draws(game: Game, keys: Tensor, index: int, dtype: torch.dtype, *, native: bool) -> Tensors:
    """Latents (c, n, z) and, for conditional generators, labels (c, n)."""
    if not game.task.evaluation_samples:
        return {"latent": torch.empty(len(keys), 0, game.task.latent, dtype=dtype, device=keys.device)}
    # in float64, which is for proofs, to the last bit the same draws as everywhere
    made = programs.drawing(game, len(keys)) if native and dtype is torch.float32 else None
    if made:
        return made({"key": keys, "step": torch.tensor(index)})
    numbers = game.task.evaluation_samples * game.task.latent
    trials = max(1, DRAWN // max(1, numbers)) if keys.device.type == "cpu" else len(keys)
    parts = [programs.draw(game, some, range(index, index + 1)) for some in torch.split(keys, trials)]
    drawn = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    return drawn | {"latent": drawn["latent"].to(dtype)}


def _samples(game: Game, of_trials: Tensors, drawn: Tensors, *, native: bool) -> Tensor:
    """Samples (c, n, d) of one generator per trial."""
    latent, task = drawn["latent"], game.task
    if not latent.shape[1]:
        return latent.new_empty(len(latent), 0, task.data_width)
    made = programs.sampling(game, latent.dtype) if native else None
    if made:
        return made(of_trials | drawn)["samples"]
    pieces = _pieces(latent.shape[1], task.data_width, _widest(game) * len(latent), LAYER[latent.device.type])
    parts = [
        vmap(lambda trial: programs.sample(game, trial))(
            of_trials | {name: tensor[:, piece] for name, tensor in drawn.items()}
        )
        for piece in pieces
    ]
    return torch.cat(parts, 1) if len(parts) > 1 else parts[0]


def _widest(game: Game) -> int:
    """Numbers in the widest layer of a sample, as far as matrices tell."""
    return max((shape[-1] for shape in game.generator.shapes.values() if len(shape) == 2), default=1)


def _pieces(count: int, width: int, layer: int, most: int) -> Iterator[slice]:
    """Cut samples, each of so many coordinates, into parts of bounded size.

    Args:
        count: Samples of a trial.
        width: Coordinates of one.
        layer: Numbers in a layer of one sample of every trial.
        most: Numbers of a layer at once.
    """
    size = max(FEWEST, most // layer) if count * width <= AT_ONCE else max(1, AT_ONCE // (4 * width))
    yield from (slice(first, first + size) for first in range(0, max(count, 1), size))


def _shown(game: Game, held: Tensors, points: Tensor, wanted: tuple[str, ...], *, native: bool) -> tuple[Tensor, ...]:
    """What discriminators make of points (c, m, d)."""
    shown = held | {"points": points.to(held["phi"].dtype)}
    few = points.shape[1] <= programs.PROBES
    made = programs.looking(game, held["phi"].dtype, wanted, few=few) if native else None
    if made:
        results = made(shown)
        return tuple(results[name] for name in wanted)
    return tuple(vmap(lambda trial, name=name: programs.LOOKS[name](game, trial))(shown) for name in wanted)

"""Measuring a pack: samples of every generator, on draws of the evaluation's own, and what the task says of them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.func import vmap

from study.game import Critic, Game, components, generator_input, generator_parameters
from study.layers import mixture_choice
from study.networks.base import Parameters, split
from study.prng import Role, normal, uniform
from study.record import grad
from study.step import Tensors
from study.tasks.base import Snapshot

AT_ONCE = 2**19
"""Coordinates of generated samples of one trial that are made at once; beyond it, a generator runs several times."""

LAYER, FEWEST = {"cpu": 2**20, "cuda": 2**27}, 128
"""Numbers of one layer that are made at once of all trials, on a CPU few enough for its cache; samples at least."""


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
    game: Game, tensors: Tensors, keys: Tensor, *, index: int, look: Callable[[Tensor], None] = lambda _: None
) -> dict[str, Tensor]:
    """Values (c,), float64, of the evaluation number `index` of every slot; `look` is shown the samples (c, n, d)."""
    task = game.task
    now, count = range(index, index + 1), task.evaluation_samples
    theta = tensors.get("theta_average", tensors["theta"])
    latent = normal(keys, role=Role.EVALUATION, steps=now, updates=1, count=count * task.latent)
    latent = latent.view(len(keys), count, task.latent).to(theta.dtype)
    label = None
    if game.conditional and task.label:
        numbers = uniform(keys, role=Role.EVALUATION_LABEL, steps=now, updates=1, count=count * task.draws)
        label = task.label(numbers.view(len(keys), count, task.draws))
    fixed = {name: tensors[name] for name in ("reference",) if name in tensors}
    known = tensors["statistics"].chunk(game.components, 1) if "statistics" in tensors else [None] * game.components
    if game.components == 1:
        samples = _samples(game, fixed, theta, latent, label, known[0])
        parameters = vmap(lambda flat: split(flat, game.generator.shapes))(theta)
    else:
        choices = uniform(keys, role=Role.MIXTURE, steps=now, updates=1, count=count)[:, 0, 0].to(theta.dtype)
        networks, weights = vmap(lambda flat: components(flat, game.components))(theta)
        member = vmap(mixture_choice)(weights, choices)
        pairs = zip(networks, known, strict=True)
        each = torch.stack([_samples(game, fixed, network, latent, label, statistics) for network, statistics in pairs])
        samples = torch.einsum("cnt,tcnd->cnd", member, each)
        parameters = {}
    look(samples)
    values = task.evaluate(_snapshot(game, tensors, parameters, samples, label))
    return values if "selection" in values else values | {"selection": values[task.primary]}


def _samples(
    game: Game, fixed: Tensors, theta: Tensor, latent: Tensor, label: Tensor | None, statistics: Tensor | None
) -> Tensor:
    """Samples (c, n, d) of one generator per trial; batch normalisation uses its running means and variances."""
    shapes = game.generator.statistics_shapes

    def one(trial: Tensors) -> Tensor:
        parameters: Parameters = generator_parameters(game, trial, trial["theta"])
        if "statistics" in trial:
            parameters = {**parameters, **split(trial["statistics"], shapes)}
        return game.generator.apply(parameters, generator_input(game, trial["latent"], trial.get("label")))

    made = []
    for piece in _pieces(latent.shape[1], game.task.data_width, _widest(game) * len(latent), LAYER[latent.device.type]):
        trial = fixed | {"theta": theta, "latent": latent[:, piece]}
        trial |= {} if label is None else {"label": label[:, piece]}
        trial |= {} if statistics is None else {"statistics": statistics}
        made.append(vmap(one)(trial))
    return torch.cat(made, 1) if len(made) > 1 else made[0]


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


def _snapshot(game: Game, tensors: Tensors, parameters: Parameters, samples: Tensor, label: Tensor | None) -> Snapshot:
    held: Tensors = {name: tensors[name] for name in ("phi", "power") if name in tensors}

    def of_each(function: Callable[[Critic, Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        def one(trial: Tensors, x: Tensor) -> Tensor:
            return function(Critic(game, trial["phi"], trial.get("power")), x)

        return lambda x: vmap(one)(held, x.to(tensors["phi"].dtype))

    return Snapshot(
        parameters=parameters,
        samples=samples,
        labels=label,
        critic=of_each(lambda critic, x: critic(x).reshape(len(x), -1)),
        slope=of_each(lambda critic, x: grad(lambda points: critic(points).sum())(x)),
    )

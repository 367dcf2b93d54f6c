"""What an evaluation computes with the networks of a pack, compiled for the machine's CPU.

Each of these is made once for a game, when it is first asked for, and is None where it has operations that are not
translated: then the recorded form stands.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache

import torch
from torch import Tensor

from study.game import Critic, Game, generator_input, generator_parameters
from study.layers import power_size
from study.native.mapped import TOGETHER, Mapped, compiled_or_none, mapped
from study.native.program import compiled
from study.networks.base import split
from study.prng import Role, normal, uniform
from study.record import grad
from study.step import Tensors

PROGRAMS = 32
"""Programs of each kind that are kept, as in `study.train`."""
SOME = 2
"""Points of an example."""
PROBES = 4
"""Points, at most, that are few: a program that takes more of them together does most of its work in vain."""


def draw(game: Game, keys: Tensor, steps: range | Tensor) -> Tensors:
    """What an evaluation draws: `latent` (c, n, z) and, for conditional generators, `label` (c, n).

    Args:
        game: What is played.
        keys: The trials' keys, (c, 2).
        steps: The number of the evaluation, one step of its own.
    """
    task, count = game.task, game.task.evaluation_samples
    numbers = normal(keys, role=Role.EVALUATION, steps=steps, updates=1, count=count * task.latent)
    found = {"latent": numbers.view(len(keys), count, task.latent)}
    if game.conditional and task.label:
        numbers = uniform(keys, role=Role.EVALUATION_LABEL, steps=steps, updates=1, count=count * task.draws)
        found["label"] = task.label(numbers.view(len(keys), count, task.draws))
    return found


def sample(game: Game, trial: Tensors) -> Tensor:
    """Samples (n, d) of one generator; batch normalisation uses its running means and variances."""
    parameters = generator_parameters(game, trial, trial["theta"])
    if "statistics" in trial:
        parameters = {**parameters, **split(trial["statistics"], game.generator.statistics_shapes)}
    return game.generator.apply(parameters, generator_input(game, trial["latent"], trial.get("label")))


def rate(game: Game, trial: Tensors) -> Tensor:
    """Outputs (m, k) of one discriminator for `points` (m, d)."""
    points = trial["points"]
    return Critic(game, trial["phi"], trial.get("power"))(points).reshape(len(points), -1)


def slope(game: Game, trial: Tensors) -> Tensor:
    """The gradient (m, d) of one discriminator's only output at `points` (m, d)."""
    critic = Critic(game, trial["phi"], trial.get("power"))
    return grad(lambda points: critic(points).sum())(trial["points"])


@lru_cache(maxsize=PROGRAMS)
def drawing(game: Game, trials: int) -> Callable[[Tensors], Tensors] | None:
    """`draw` for a pack: of `key` (c, 2) and `step` ()."""
    example = {"key": torch.zeros(trials, 2, dtype=torch.int64), "step": torch.zeros((), dtype=torch.int64)}

    def one(trial: Tensors) -> Tensors:
        return {name: drawn[0] for name, drawn in draw(game, trial["key"][None], trial["step"][None]).items()}

    return compiled_or_none(lambda: compiled(one, example, ("step",)))


@lru_cache(maxsize=PROGRAMS)
def sampling(game: Game, dtype: torch.dtype) -> Mapped | None:
    """`sample` for a pack: of `theta`, `latent` and what else it looks at; the result is named "samples"."""
    if game.generator.batch_coupled and not game.generator.statistics_shapes:
        return None  # it matters which samples are made together
    example = _like(game.generator.size, "theta", dtype)
    example["latent"] = torch.full((1, SOME, game.task.latent), 0.5, dtype=dtype)
    if game.conditional:
        example["label"] = torch.zeros(1, SOME, dtype=torch.int64)
    if game.method.has("vbn"):
        shape = game.task.batch, game.task.latent
        example["reference"] = _like(shape[0] * shape[1], "", dtype)[""].view(1, *shape)
    count = sum(torch.Size(shape).numel() for shape in game.generator.statistics_shapes.values())
    if count:
        example["statistics"] = torch.ones(1, count, dtype=dtype)
    points = tuple(name for name in ("latent", "label") if name in example)
    return compiled_or_none(lambda: mapped(lambda trial: {"samples": sample(game, trial)}, example, points))


OUTPUTS, SLOPE = "outputs", "slope"
LOOKS: Mapping[str, Callable[[Game, Tensors], Tensor]] = {OUTPUTS: rate, SLOPE: slope}
"""What can be asked of discriminators."""


@lru_cache(maxsize=PROGRAMS)
def looking(game: Game, dtype: torch.dtype, wanted: tuple[str, ...], *, few: bool = False) -> Mapped | None:
    """Some of `LOOKS` for a pack, results named so: of `phi`, `points` and what else is looked at.

    Fast for at most `PROBES` points of a trial, or for more; the results are the same.
    """
    if game.discriminator.batch_coupled:  # it matters which points it is shown together
        return None
    example = _like(game.discriminator.size, "phi", dtype)
    example["points"] = torch.full((1, SOME, game.task.data_width), 0.5, dtype=dtype)
    if game.method.has("sn"):
        example |= _like(power_size(game.discriminator.shapes), "power", dtype)

    def one(trial: Tensors) -> Tensors:
        return {name: LOOKS[name](game, trial) for name in wanted}  # what they have in common is computed once

    together = PROBES if few else TOGETHER
    return compiled_or_none(lambda: mapped(one, example, ("points",), together=together))


def _like(size: int, name: str, dtype: torch.dtype) -> Tensors:
    return {name: torch.linspace(-1, 1, size, dtype=dtype)[None]}

"""The random numbers of training: what each update sees, as functions of a trial's key, the step and the update."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from study.game import Game
from study.prng import Role, normal, uniform
from study.step import Tensors

OF_DISCRIMINATOR = {"real_d", "latent_d", "noise_d", "label_d"}
OF_GENERATOR = {"real_g", "latent_g", "noise_g", "label_g"}
"""Draws of a step; those with labels only where the method looks at them."""


def draw(
    game: Game, keys: Tensor, steps: range, *, dtype: torch.dtype, total: int = 1, labelled: Tensor | None = None
) -> Tensors:
    """All random numbers of some steps of `total`: tensors of shape (c, steps, updates in the step, b, ...).

    Labels are known of the first `labelled` (c,) samples of the data; of all, where it is not given.
    """
    numbers = torch.arange(steps.start, steps.stop, device=keys.device)
    whole = torch.full_like(numbers, total)  # by a number of the host, devices divide otherwise
    found: Tensors = {}
    for player, count in (("d", game.n_critic), ("g", 1)):
        updates = torch.arange(count, device=keys.device)
        found |= draw_of(game, player, keys, numbers, updates, dtype=dtype, share=numbers / whole, labelled=labelled)
    return found


def draw_of(
    game: Game,
    player: str,
    keys: Tensor,
    steps: Tensor,
    updates: Tensor,
    *,
    dtype: torch.dtype,
    share: Tensor,
    labelled: Tensor | None = None,
) -> Tensors:
    """The random numbers of a player's updates; steps (s,), shares of the budget (s,), and updates (u,) by number."""
    task, batch = game.task, game.task.batch
    data, latent, penalty, instance, wanted = ROLES[player]

    def numbers(kind: Callable[..., Tensor], role: Role, each: int) -> Tensor:
        shape = (len(keys), len(steps), len(updates), batch, each)
        if not each:
            return torch.empty(shape, device=keys.device)
        return kind(keys, role=role, steps=steps, updates=updates, count=batch * each).view(shape)

    found = {f"latent_{player}": numbers(normal, latent, task.latent).to(dtype)}
    # each by a role of its own, so that a method's penalty sees the same points with and without noise
    points = numbers(uniform, penalty, game.penalty_draws if wanted(game) else 0)
    noise = numbers(uniform, instance, game.instance_draws)
    found[f"noise_{player}"] = torch.cat([points, noise], -1).to(dtype)
    seen = player == "d" or game.generator_sees_real
    uniforms = numbers(uniform, data, task.draws if seen or game.labels else 0)
    if task.over_time:
        uniforms = torch.cat([uniforms, share[:, None, None, None].expand(*uniforms.shape[:-1], 1)], -1)
    if seen:
        found[f"real_{player}"] = task.sample(uniforms).to(dtype)
    else:
        found["real_g"] = torch.empty((len(keys), len(steps), 1, 0), device=keys.device, dtype=dtype)
    if game.labels:
        found[f"label_{player}"] = _known(game, uniforms, labelled)
    return found


ROLES: dict[str, tuple[Role, Role, Role, Role, Callable[[Game], int]]] = {
    "d": (Role.DATA, Role.LATENT_D, Role.PENALTY, Role.NOISE_D, lambda game: game.noise_draws),
    "g": (Role.DATA_G, Role.LATENT_G, Role.PENALTY_G, Role.NOISE_G, lambda game: game.noise_draws_g),
}
"""What a player's draws are for: data, latents, a penalty's points, noise on samples; and whether it has points."""


def _known(game: Game, uniforms: Tensor, labelled: Tensor | None) -> Tensor:
    """Classes of the samples that are drawn by some uniforms (c, ..., draws), -1 where they are not known."""
    task = game.task
    if task.label is None:
        raise ValueError(f"task {task.name!r} has no labels")
    labels = task.label(uniforms)
    if game.conditional or task.rank is None or labelled is None:
        return labels
    return torch.where(task.rank(uniforms) < labelled[:, None, None, None], labels, -1)

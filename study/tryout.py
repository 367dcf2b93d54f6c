"""Trying out what users bring, at the desk, on numbers that mean nothing: a task, and an update of both players."""

from __future__ import annotations

import math
import re

import torch
from torch import Tensor
from torch.func import vmap

from study.game import Game
from study.methods import Method
from study.optimisers import OPTIMISERS
from study.schema import TABLES
from study.tasks.base import Control, Snapshot, Task
from study.train import example_of, program_of
from study.trial import Architecture
from study.user_files import aside, sentence

TAKEN = {column.name for columns in TABLES.values() for column in columns}


def update_fault(task: Task, method: Method, architecture: Architecture) -> str | None:
    """What goes wrong in an update of a pack of two, with the user's line where there is one; None if nothing does."""
    # no cache: the user's file may change before the next look
    game = Game(task, method, OPTIMISERS["adam"], 1, architecture)
    try:
        example = example_of(game, 2)
        program = program_of.__wrapped__(game, 2, "cpu", example["theta"].dtype)
        for update in [program.both] if game.at_once else [program.discriminator, program.generator]:
            for name, value in update(example).items():
                if value.shape != example[name].shape:
                    wanted = tuple(example[name].shape)
                    return f"tried out, an update gives {name} of shape {tuple(value.shape)}: must be {wanted}"
    except (Exception, SystemExit) as error:  # noqa: BLE001  # a user's program may raise anything
        return f"tried out: {sentence(error)}"
    return None


def task_fault(task: Task) -> str | None:
    """What is wrong with a user's task; None if nothing."""
    fault = _field_fault(task)
    if fault:
        return fault
    try:
        with aside():
            return _sample_fault(task) or _label_fault(task) or _evaluation_fault(task)
    except (Exception, SystemExit) as error:  # noqa: BLE001  # a user's program may raise anything
        return f"tried on a few numbers: {sentence(error)}"


def _field_fault(task: Task) -> str | None:
    if not isinstance(task.metrics, tuple) or not all(re.fullmatch(r"\w+", str(name)) for name in task.metrics):
        return f"metrics = {task.metrics!r}: must be a tuple of names, of letters, digits and _"
    for metric in task.metrics:
        if metric in TAKEN:
            return f"metrics names {metric!r}, which is a column of the results already"
    if task.primary not in task.metrics:
        return f"primary = {task.primary!r}: must be one of {', '.join(task.metrics)}"
    numbers = [task.threshold, *task.anchors] if len(task.anchors) == 2 else [math.nan]
    if not all(isinstance(x, int | float) and math.isfinite(x) for x in numbers) or not 0 < numbers[1] < numbers[2]:
        return (
            f"threshold = {task.threshold!r}, anchors = {task.anchors!r}: must be a number, and two above 0 of which "
            "the first, which scores 1, is the smaller"
        )
    for name in ("batch", "latent", "draws", "version", "evaluation_steps"):
        if not isinstance(getattr(task, name), int) or getattr(task, name) < 1:
            return f"{name} = {getattr(task, name)!r}: must be a whole number from 1"
    if not all(isinstance(control, Control) for control in task.controls):
        return "controls must be a tuple of Control objects"
    return None


def _uniform(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0)).clamp(1e-6, 1 - 1e-6)


def _sample_fault(task: Task) -> str | None:
    real, wanted = task.sample(_uniform(2, 3, task.draws + task.over_time)), (2, 3, task.data_width)
    if real.shape != wanted:
        return f"sample gives {tuple(real.shape)} for uniforms (2, 3, {task.draws}): must be {wanted}"
    if not torch.isfinite(real).all() or (task.bounded and real.abs().max() > 1):
        return (
            f"sample gives {real.min():.3g} to {real.max():.3g}: must be {'in [-1, 1]' if task.bounded else 'finite'}"
        )
    again = task.sample(_uniform(2, 3, task.draws + task.over_time))
    return None if torch.equal(real, again) else "sample draws random numbers of its own: use the uniforms alone"


def _label_fault(task: Task) -> str | None:
    if task.label is None:
        return None if task.classes == 1 else f"classes = {task.classes} without label: give both or neither"
    labels = task.label(_uniform(2, 500, task.draws + task.over_time))
    if task.classes < 2:
        return f"label without classes: classes = {task.classes} must be 2 or more"
    if labels.dtype != torch.int64 or labels.shape != (2, 500):
        return f"label gives {labels.dtype} of {tuple(labels.shape)} for uniforms (2, 500, ...): must be int64 (2, 500)"
    if not (labels.min() >= 0 and labels.max() < task.classes):
        return f"label gives {int(labels.min())} to {int(labels.max())}: must be 0 to {task.classes - 1}"
    return None


def _evaluation_fault(task: Task) -> str | None:
    theta, phi = (vmap(player.initialise)(_uniform(2, player.size)) for player in (task.generator, task.discriminator))
    latent = torch.special.ndtri(_uniform(2, task.evaluation_samples, task.latent))
    critic = vmap(task.discriminator.apply)
    values = task.evaluate(
        Snapshot(
            theta,
            vmap(task.generator.apply)(theta, latent),
            critic=lambda x: critic(phi, x.float()),
            slope=torch.ones_like,
        )
    )
    if not isinstance(values, dict) or not all(isinstance(value, Tensor) for value in values.values()):
        return "evaluate must give a dictionary of metric names to tensors (trials,)"
    if {*values} - {"selection"} != {*task.metrics}:
        return f"evaluate gives {', '.join(map(str, values))}, and metrics names {', '.join(task.metrics)}"
    for key, value in values.items():
        if value.shape != (2,):
            return f"evaluate gives {key} of shape {tuple(value.shape)} for 2 trials: must be (2,)"
        if not torch.isfinite(value).all():
            return f"evaluate gives {key} = {value.tolist()} for networks that are not trained: must be finite"
    return None

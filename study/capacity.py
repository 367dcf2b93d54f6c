"""How many slots a pack has, and what a step costs: measured once, kept here."""

from __future__ import annotations

import math
from typing import NamedTuple

from study.architecture import networks
from study.schema import NATIVE, RECORDED
from study.tasks.base import Task
from study.tasks.table import get_task
from study.trial import Architecture, Trial

CPU_CAPACITY = 32
"""On a CPU, smaller packs are launch-bound; larger ones win little more and leave workers idle at the end of
a sweep (`make bench`, engine)."""

CUDA_CAPACITY = 256
"""On a GPU a step is launch-bound: a pack of hundreds costs about what one trial costs. Not measured finely yet."""

RECORDED_MILLISECONDS = {
    "dirac": (0.0073, 0.011, 0.011, 0.0044),
    "manifold-d2": (0.087, 0.14, 0.039, 0.022),
    "manifold-d8": (0.094, 0.15, 0.048, 0.024),
    "manifold-d32": (0.12, 0.18, 0.03, 0.027),
    "manifold-d64": (0.14, 0.25, 0.11, 0.035),
    "manifold": (0.24, 0.32, 0.059, 0.047),
    "lines": (0.086, 0.13, 0.037, 0.75),
    "ring8": (0.1, 0.15, 0.087, 2.1),
    "ring8-sequential": (0.11, 0.19, 0.11, 2.5),
    "grid25": (0.099, 0.19, 0.096, 2.3),
    "swissroll": (0.1, 0.15, 0.09, 1.4),
    "mixture1d": (0.096, 0.14, 0.094, 1.9),
    "digits": (0.2, 0.28, 0.13, 3.1),
    "color-digits": (0.28, 0.44, 0.33, 12),
    "stacked-digits": (0.31, 0.45, 0.34, 7.8),
    "digits-critic": (0.19, 0.27, 0.14, 3.4),
    "digits-ssl": (0.29, 0.42, 0.11, 3.1),
    "flipped": (0.16, 0.23, 0.05, 0.9),
    "frozen": (0.08, 0.14, 0.026, 0.59),
    "two-gaussians": (0.053, 0.091, 0.033, 1.2),
    "bilinear": (0.0072, 0.014, 0.012, 0.01),
    "salimans": (0.0079, 0.016, 0.015, 0.023),
    "heusel": (0.0078, 0.016, 0.014, 0.02),
    "finite": (0.011, 0.019, 0.016, 0.021),
}
"""Milliseconds of one core for each slot: a discriminator update without and with a penalty, a generator update, and an
evaluation, in packs of the capacity above; draws included (`make bench costs`)."""

NATIVE_MILLISECONDS = {
    "dirac": (0.00021, 0.00022, 0.00013, 0.0014),
    "manifold-d2": (0.019, 0.027, 0.0054, 0.028),
    "manifold-d8": (0.02, 0.033, 0.0066, 0.03),
    "manifold-d32": (0.022, 0.04, 0.0093, 0.033),
    "manifold-d64": (0.027, 0.049, 0.018, 0.049),
    "manifold": (0.041, 0.07, 0.016, 0.054),
    "lines": (0.017, 0.028, 0.0074, 0.16),
    "ring8": (0.021, 0.033, 0.015, 0.6),
    "ring8-sequential": (0.02, 0.031, 0.017, 0.61),
    "grid25": (0.021, 0.03, 0.016, 0.66),
    "swissroll": (0.021, 0.03, 0.016, 0.65),
    "mixture1d": (0.02, 0.03, 0.015, 0.52),
    "digits": (0.037, 0.056, 0.032, 1.2),
    "color-digits": (0.099, 0.14, 0.13, 3.9),
    "stacked-digits": (0.071, 0.11, 0.069, 2.5),
    "digits-critic": (0.037, 0.056, 0.032, 1.1),
    "digits-ssl": (0.054, 0.091, 0.035, 1.1),
    "flipped": (0.031, 0.053, 0.011, 0.31),
    "frozen": (0.018, 0.028, 0.003, 0.15),
    "two-gaussians": (0.01, 0.017, 0.0033, 0.24),
    "bilinear": (7.4e-05, 0.00016, 0.0001, 0.0028),
    "salimans": (0.0001, 0.00018, 8.3e-05, 0.0028),
    "heusel": (0.0001, 0.00018, 8.9e-05, 0.0029),
    "finite": (0.00014, 0.00022, 0.00015, 0.0043),
}

CPU_MILLISECONDS = {RECORDED: RECORDED_MILLISECONDS, NATIVE: NATIVE_MILLISECONDS}
"""The same by program."""

PART_COSTS = {
    RECORDED: {
        "mmd-rbf": 2.9,
        "mmd-rq": 3.2,
        "mmd-energy": 2.0,
        "gradclip": 1.3,
        "vbn": 1.6,
        "extragradient": 1.9,
        "consensus": 5.0,
        "minibatch": 19.0,
        "mix": 25.0,
        "mix3": 9.0,
    },
    NATIVE: {
        "mmd-rbf": 6.0,
        "mmd-rq": 16.0,
        "mmd-energy": 2.1,
        "vbn": 1.8,
        "extragradient": 1.9,
        "optimistic": 1.4,
        "consensus": 4.4,
        "minibatch": 74.0,
        "mix": 22.0,
        "mix3": 8.0,
    },
}
"""What some parts of a method multiply the cost of a step by, by program, with the networks of `ring8` (`make bench
methods`); others by little. Larger networks hide more of it: minibatch discrimination of `digits` about half."""

CONVOLUTIONAL = {"cpu": 16, "cuda": 64}
"""Slots where the networks convolve small images. On a CPU a pack of 16 DCGANs of 8 pixels takes half the time per slot
that single ones take; on a GPU not measured."""

LARGE = 3 * 16 * 16
"""Numbers in an image from which on a network that convolves fills the device alone: capacity 1. DCGAN at 32 pixels
takes 256 ms for a discriminator update on a CPU core, and 300 ms per slot in a pack of 4."""


def capacity_of(trial: Trial, device: str) -> int:
    """Slots of a trial's pack by task, networks and kind of device."""
    task = get_task(trial.task)
    if not _convolve(task, trial.hyperparameters.architecture):
        return CPU_CAPACITY if device == "cpu" else CUDA_CAPACITY
    return 1 if task.data_width >= LARGE else CONVOLUTIONAL[device]


def _convolve(task: Task, architecture: Architecture) -> bool:
    return any(len(shape) == 4 for network in networks(task, architecture) for shape in network.shapes.values())


def work_of(trial: Trial) -> float:
    """Multiplications of a trial's whole budget, roughly, as recorded operations: to start the costliest first."""
    task, h = get_task(trial.task), trial.hyperparameters
    each = [
        math.prod(shape) * (task.data_width if len(shape) == 4 else 1)
        for network in networks(task, h.architecture)
        for shape in network.shapes.values()
    ]
    return trial.generator_steps * (1 + h.n_critic) * relative_cost(trial.method, RECORDED) * sum(each)


def relative_cost(method: str, program: str) -> float:
    """What the parts of a method multiply the cost of a program's step by."""
    return math.prod(PART_COSTS[program].get(part, 1.0) for part in method.split("+"))


class Seconds(NamedTuple):
    """What a pack takes of a worker's time."""

    training: float
    evaluations: float


def seconds_of(trial: Trial, capacity: int, device: str, program: str) -> Seconds | None:
    """Expected wall seconds of a pack of such trials on one worker, compiling aside; None where nothing was measured.

    Args:
        trial: A trial.
        capacity: Slots of the pack.
        device: "cpu" or "cuda".
        program: "native" or "recorded".
    """
    if device != "cpu" or trial.task not in CPU_MILLISECONDS[program] or trial.hyperparameters.architecture:
        return None
    plain, penalised, generator, evaluation = CPU_MILLISECONDS[program][trial.task]
    discriminator = plain if trial.hyperparameters.penalty_weight is None else penalised
    step = (trial.hyperparameters.n_critic * discriminator + generator) * relative_cost(trial.method, program)
    slots = capacity / 1000
    return Seconds(slots * trial.generator_steps * step, slots * trial.budget.evaluations * evaluation)

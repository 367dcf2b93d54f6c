"""How many slots a pack has, and what a step costs: measured once, kept here."""

from __future__ import annotations

import math

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
    "dirac": (0.009, 0.015, 0.007),
    "manifold-d2": (0.14, 0.27, 0.08),
    "manifold-d8": (0.14, 0.27, 0.08),
    "manifold-d32": (0.19, 0.36, 0.12),
    "manifold-d64": (0.24, 0.48, 0.16),
    "manifold": (0.24, 0.48, 0.16),
    "lines": (0.11, 0.21, 0.04),
    "ring8": (0.16, 0.29, 0.12),
    "ring8-sequential": (0.16, 0.29, 0.12),
    "grid25": (0.16, 0.29, 0.14),
    "swissroll": (0.16, 0.25, 0.12),
    "mixture1d": (0.12, 0.2, 0.1),
    "digits": (0.25, 0.49, 0.2),
    "color-digits": (0.36, 0.6, 0.3),
    "stacked-digits": (0.35, 0.65, 0.3),
    "digits-critic": (0.28, 0.49, 0.25),
    "digits-ssl": (0.28, 0.5, 0.25),
    "flipped": (0.25, 0.4, 0.08),
    "frozen": (0.12, 0.2, 0.03),
    "two-gaussians": (0.1, 0.17, 0.03),
    "bilinear": (0.017, 0.03, 0.016),
    "salimans": (0.017, 0.03, 0.016),
    "heusel": (0.017, 0.03, 0.016),
    "finite": (0.017, 0.03, 0.016),
}
"""Milliseconds of one core for each slot: a discriminator update without and with a penalty, and a generator update,
in packs of the capacity above; draws included."""

CPU_MILLISECONDS = {RECORDED: RECORDED_MILLISECONDS, NATIVE: RECORDED_MILLISECONDS}
"""The same by program."""

EVALUATION = {
    "dirac": 0.15,
    "manifold-d2": 0.3,
    "manifold-d8": 0.3,
    "manifold-d32": 0.3,
    "manifold-d64": 0.3,
    "manifold": 0.3,
    "lines": 1.7,
    "ring8": 17.0,
    "ring8-sequential": 20.0,
    "grid25": 27.0,
    "swissroll": 17.0,
    "mixture1d": 10.0,
    "digits": 13.0,
    "color-digits": 48.0,
    "stacked-digits": 55.0,
    "digits-critic": 12.0,
    "digits-ssl": 7.0,
    "flipped": 1.4,
    "frozen": 1.0,
    "two-gaussians": 9.0,
    "bilinear": 0.1,
    "salimans": 0.1,
    "heusel": 0.1,
    "finite": 0.1,
}
"""Milliseconds of one core for each slot and evaluation."""


PART_COSTS = {
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
}
"""What some parts of a method multiply the cost of a step by (`make bench methods`); all others by little."""


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
    """Multiplications of a trial's whole budget, roughly: enough to start the costliest packs first."""
    task, h = get_task(trial.task), trial.hyperparameters
    each = [
        math.prod(shape) * (task.data_width if len(shape) == 4 else 1)
        for network in networks(task, h.architecture)
        for shape in network.shapes.values()
    ]
    return trial.generator_steps * (1 + h.n_critic) * relative_cost(trial.method) * sum(each)


def relative_cost(method: str) -> float:
    """What the parts of a method multiply the cost of a step by."""
    return math.prod(PART_COSTS.get(part, 1.0) for part in method.split("+"))


def seconds_of(trial: Trial, capacity: int, device: str, program: str) -> float | None:
    """Expected wall seconds of a pack of such trials on one worker, compiling aside; None where nothing was measured.

    Args:
        trial: A trial.
        capacity: Slots of the pack.
        device: "cpu" or "cuda".
        program: "native" or "recorded".
    """
    if device != "cpu" or trial.task not in CPU_MILLISECONDS[program] or trial.hyperparameters.architecture:
        return None
    plain, penalised, generator = CPU_MILLISECONDS[program][trial.task]
    discriminator = plain if trial.hyperparameters.penalty_weight is None else penalised
    step = (trial.hyperparameters.n_critic * discriminator + generator) * relative_cost(trial.method)
    return capacity * (trial.generator_steps * step + trial.budget.evaluations * EVALUATION[trial.task]) / 1000

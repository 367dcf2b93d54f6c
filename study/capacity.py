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
    "dirac": (0.0014, 0.012, 0.033),
    "manifold-d2": (0.11, 0.23, 0.06),
    "manifold-d8": (0.11, 0.17, 0.04),
    "manifold-d32": (0.14, 0.19, 0.04),
    "manifold-d64": (0.16, 0.25, 0.13),
    "manifold": (0.25, 0.37, 0.11),
    "lines": (0.12, 0.17, 0.032),
    "ring8": (0.18, 0.25, 0.15),
    "ring8-sequential": (0.14, 0.18, 0.11),
    "grid25": (0.13, 0.2, 0.12),
    "swissroll": (0.13, 0.23, 0.12),
    "mixture1d": (0.14, 0.16, 0.078),
    "digits": (0.22, 0.33, 0.18),
    "color-digits": (0.34, 0.48, 0.37),
    "stacked-digits": (0.34, 0.51, 0.37),
    "digits-critic": (0.22, 0.3, 0.17),
    "digits-ssl": (0.27, 0.42, 0.18),
    "flipped": (0.16, 0.28, 0.11),
    "frozen": (0.14, 0.19, 0.0093),
    "two-gaussians": (0.083, 0.12, 0.044),
    "bilinear": (0.015, 0.031, 0.028),
    "salimans": (0.01, 0.051, 0.021),
    "heusel": (0.016, 0.018, 0.018),
    "finite": (0.015, 0.025, 0.018),
}
"""Milliseconds of one core for each slot: a discriminator update without and with a penalty, and a generator update,
in packs of the capacity above; draws included (`make bench costs`)."""

NATIVE_MILLISECONDS = {
    "dirac": (0.00023, 0.00025, 0.00023),
    "manifold-d2": (0.019, 0.029, 0.0058),
    "manifold-d8": (0.02, 0.033, 0.0098),
    "manifold-d32": (0.027, 0.038, 0.0061),
    "manifold-d64": (0.029, 0.052, 0.016),
    "manifold": (0.04, 0.073, 0.021),
    "lines": (0.019, 0.033, 0.0069),
    "ring8": (0.028, 0.039, 0.018),
    "ring8-sequential": (0.025, 0.036, 0.016),
    "grid25": (0.021, 0.035, 0.025),
    "swissroll": (0.024, 0.035, 0.015),
    "mixture1d": (0.022, 0.032, 0.015),
    "digits": (0.041, 0.065, 0.038),
    "color-digits": (0.087, 0.16, 0.2),
    "stacked-digits": (0.082, 0.13, 0.082),
    "digits-critic": (0.041, 0.063, 0.039),
    "digits-ssl": (0.066, 0.093, 0.038),
    "flipped": (0.038, 0.06, 0.014),
    "frozen": (0.019, 0.028, 0.0035),
    "two-gaussians": (0.012, 0.024, 0.0049),
    "bilinear": (7.2e-05, 0.00011, 9.8e-05),
    "salimans": (7.5e-05, 0.00012, 0.00012),
    "heusel": (7.7e-05, 0.00012, 9.4e-05),
    "finite": (9.6e-05, 0.00015, 0.00012),
}

CPU_MILLISECONDS = {RECORDED: RECORDED_MILLISECONDS, NATIVE: NATIVE_MILLISECONDS}
"""The same by program."""

EVALUATION = {
    "dirac": 0.074,
    "manifold-d2": 0.079,
    "manifold-d8": 0.11,
    "manifold-d32": 0.089,
    "manifold-d64": 0.12,
    "manifold": 0.14,
    "lines": 0.21,
    "ring8": 0.85,
    "ring8-sequential": 0.74,
    "grid25": 1.2,
    "swissroll": 0.71,
    "mixture1d": 0.55,
    "digits": 1.9,
    "color-digits": 5.5,
    "stacked-digits": 5.6,
    "digits-critic": 1.5,
    "digits-ssl": 1.1,
    "flipped": 0.38,
    "frozen": 0.27,
    "two-gaussians": 1.8,
    "bilinear": 0.059,
    "salimans": 0.078,
    "heusel": 0.069,
    "finite": 0.083,
}
"""Milliseconds of one core for each slot and evaluation beside the compiled program; several times as much without."""


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

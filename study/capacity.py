"""How many slots a pack has, and what a step costs: measured once, kept here."""

from __future__ import annotations

import math

from study.trial import Trial

CPU_CAPACITY = 32
"""On a CPU, smaller packs are launch-bound; larger ones win little more and leave workers idle at the end of
a sweep (`make bench`, engine)."""

CUDA_CAPACITY = 256
"""On a GPU a step is launch-bound: a pack of hundreds costs about what one trial costs. Not measured finely yet."""

CPU_MILLISECONDS = {
    "dirac": (0.009, 0.015, 0.007, 0.15),
    "manifold-d2": (0.14, 0.27, 0.08, 0.3),
    "manifold-d8": (0.14, 0.27, 0.08, 0.3),
    "manifold-d32": (0.19, 0.36, 0.12, 0.3),
    "manifold-d64": (0.24, 0.48, 0.16, 0.3),
    "ring8": (0.16, 0.29, 0.23, 18.0),
    "digits": (0.25, 0.49, 0.28, 23.0),
}
"""Milliseconds of one core for each slot: a discriminator update without and with a penalty, a generator update, and an
evaluation, in packs of CPU_CAPACITY; all draws included."""


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
}
"""What some parts of a method multiply the cost of a step by (`make bench methods`); all others by little."""


def capacity_of(task: str, method: str, device: str) -> int:
    """Slots of a pack by task, method and kind of device; today's multilayer perceptrons need one number for all."""
    del task, method
    return CPU_CAPACITY if device == "cpu" else CUDA_CAPACITY


def relative_cost(method: str) -> float:
    """What the parts of a method multiply the cost of a step by."""
    return math.prod(PART_COSTS.get(part, 1.0) for part in method.split("+"))


def seconds_of(trial: Trial, capacity: int, device: str) -> float | None:
    """Expected wall seconds of a pack of such trials on one worker; None where nothing was measured."""
    if device != "cpu" or trial.task not in CPU_MILLISECONDS:
        return None
    plain, penalised, generator, evaluation = CPU_MILLISECONDS[trial.task]
    discriminator = plain if trial.hyperparameters.penalty_weight is None else penalised
    step = (trial.hyperparameters.n_critic * discriminator + generator) * relative_cost(trial.method)
    return capacity * (trial.generator_steps * step + trial.budget.evaluations * evaluation) / 1000

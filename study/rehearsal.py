"""How much memory training takes, found by trying a little of it: a number that belongs to a structure and a capacity.

What is in the memory of a process depends on what it ran before, on its allocator and on the system. What torch asks
for does not: the same steps ask for the same bytes, in whichever process.
"""

from __future__ import annotations

import gc
import os
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from typing import Any

from torch.autograd.profiler import profile

from study.train import NUMBERS, PackState, program_of, train
from study.trial import Budget, Trial

STEPS = 64
"""Steps tried at most; fewer where fewer are drawn at once, so that a block of large ones is tried alone."""

STRUCTURES = 256
"""Structures whose bytes are remembered."""


class _Enough(Exception):
    """The first block of steps is over."""


def bytes_taken(trial: Trial, *, capacity: int, samples: int) -> int:
    """Bytes that torch takes at most while a pack trains on a CPU: recording its program, first steps, an evaluation.

    Data that are read once in a process and what others than torch ask for are not in it. It is what training by
    recorded operations takes, whatever program trains: a compiled one takes less, but not every machine can compile.

    Args:
        trial: Any trial of the structure.
        capacity: Slots of the pack.
        samples: Generated samples that are kept of each trial.
    """
    # its own numbers and key would make it a matter of which trial came first; what learns nothing stays finite
    numbers: dict[str, Any] = dict.fromkeys(NUMBERS, 0.5) | {"lr_g": 0.0, "lr_d": 0.0}
    nobody: dict[str, Any] = {"key": "0" * 32, "config": "", "seed": 0, "point": 0, "replicate": 0, "sampler": ""}
    anyone = replace(trial, hyperparameters=replace(trial.hyperparameters, **numbers), **nobody)
    return _bytes_taken(anyone, capacity, samples)


@lru_cache(maxsize=STRUCTURES)
def _bytes_taken(trial: Trial, capacity: int, samples: int) -> int:
    def steps(count: int) -> list[Trial]:
        return [replace(trial, budget=Budget(unit="generator_steps", steps=count, evaluations=1))]

    def stop(_: PackState) -> None:
        raise _Enough

    train(steps(1), capacity=capacity, samples=samples)  # what is made once in a process is nobody's
    program_of.cache_clear()
    gc.collect()
    os.environ["KINETO_LOG_LEVEL"] = "99"  # it would tell the terminal that it begins and ends
    with profile(profile_memory=True) as watched:
        train(steps(1), capacity=capacity, samples=samples)
        with suppress(_Enough):
            train(steps(min(STEPS, trial.generator_steps)), capacity=capacity, samples=samples, after_block=stop)
    taken = most = 0
    for event in watched.kineto_results.events():
        if event.name() == "[memory]":
            taken += event.nbytes()
            most = max(most, taken)
    return most

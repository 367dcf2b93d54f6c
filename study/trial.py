"""A trial: the unit of result. Everything that decides its outcome, and nothing else, enters its id."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Final, Literal, TypeAlias

from search_spaces.hyperparameters import ARCHITECTURE
from study.schema import ENGINE_EPOCH
from study.user_files import without_folders

Architecture: TypeAlias = tuple[tuple[str, int | str], ...]

BUDGET_UNITS = ("generator_steps", "discriminator_steps", "updates")

EVEN: Final = "even"
LATE: Final = "late"
Schedule: TypeAlias = Literal["even", "late"]
"""How evaluations lie in a budget: evenly, the last at its end; or as those of the last fifth of `MOST` even ones, and
what is left of them evenly before, so that few of them are late enough to say how training ended."""

MOST, LAST = 25, 5
"""Evaluations from which on both are the same, and those of the last fifth of so many."""

STEP = {"generator_steps": 1.0, "discriminator_steps": 1.5, "updates": 2.0}
"""What a budget in each unit pays for a step's time with n_critic 1, of which the discriminator takes two thirds."""

SHARE = 0.1
"""Of the time of training, what evaluations may take by default."""


@dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    """The numbers a trial trains with; None where the method or the optimiser has no such number."""

    lr_g: float
    lr_d: float
    beta1: float
    beta2: float | None
    optimiser: str
    n_critic: int
    penalty_weight: float | None = None
    clip: float | None = None
    noise_scale: float | None = None
    smoothing: float | None = None
    instance_noise: float | None = None
    history_weight: float | None = None
    ema_decay: float | None = None
    grad_clip: float | None = None
    consensus_weight: float | None = None
    mix_entropy: float | None = None
    labelled: float | None = None
    network: str | None = None
    depth_g: int | None = None
    depth_d: int | None = None
    width_g: int | None = None
    width_d: int | None = None
    activation_g: str | None = None
    activation_d: str | None = None
    norm_g: str | None = None
    norm_d: str | None = None

    @property
    def architecture(self) -> Architecture:
        """What changes the task's networks, by name, in the registry's order."""
        return tuple((name, getattr(self, name)) for name in ARCHITECTURE if getattr(self, name) is not None)

    @property
    def given(self) -> dict[str, float | str]:
        """Those that are not None, so that a hyperparameter added later changes no id."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How long a trial trains, and how often and when it is measured."""

    unit: str
    steps: int
    evaluations: int
    schedule: Schedule = EVEN

    @property
    def given(self) -> dict[str, int | str]:
        """What decides the outcome; of schedules, one that is not even."""
        return {name: value for name, value in asdict(self).items() if (name, value) != ("schedule", EVEN)}

    def generator_steps(self, n_critic: int) -> int:
        """Generator updates that the budget pays for; a remainder too small for a whole step is not used."""
        cost = {"generator_steps": 1, "discriminator_steps": n_critic, "updates": n_critic + 1}[self.unit]
        return self.steps // cost

    def stops(self, n_critic: int) -> list[int]:
        """Generator steps after which a trial is evaluated, ascending, each once; the last is the budget's end."""
        whole, count = self.generator_steps(n_critic), self.evaluations
        if self.schedule == EVEN:
            return [whole * (i + 1) // count for i in range(count)]
        early = max(0, count - LAST)
        stops = [whole * (MOST - LAST) * (i + 1) // (MOST * early) for i in range(early)]
        stops += [whole * (MOST - LAST + i + 1) // MOST for i in range(LAST)][-count:]
        for i in reversed(range(count)):  # of few steps, each a step before the next, and none before the first
            after = stops[i + 1] if i + 1 < count else whole + 1
            stops[i] = max(i + 1, min(stops[i], after - 1))
        return stops


def default_evaluations(unit: str, steps: int, each: int) -> int:
    """Evaluations of a budget that does not say how many: few enough to take little time, enough for a median.

    Args:
        unit: Key of `STEP`.
        steps: The budget.
        each: Steps that take as long as an evaluation.
    """
    return min(MOST, max(LAST, int(SHARE * steps / STEP[unit] / each)))


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One planned training run.

    Attributes:
        task: Name of the task.
        task_version: Version of the task.
        fingerprint: Content hash of the user's files that task, method and networks are made of; None without any.
        method: Parsed part of the method's name, without a variant.
        label: The method's name as the sweep file writes it, with its variant.
        hyperparameters: What it trains with.
        budget: How long.
        seed: Seed index.
        config: Content hash of the hyperparameters shared by all methods.
        point: Index of the design point.
        replicate: Index of the design's independent replicate.
        key: Root key of its random draws, from the configuration and the seed: equal for all methods.
        sampler: How the configuration was chosen.
    """

    task: str
    task_version: int
    method: str
    label: str
    hyperparameters: Hyperparameters
    budget: Budget
    seed: int
    config: str
    point: int
    replicate: int
    key: str
    sampler: str
    fingerprint: str | None = None

    @cached_property
    def trial_id(self) -> str:
        """Hash of what decides the outcome: no name, index or neighbour enters."""
        return digest(self.identity)

    @property
    def identity(self) -> dict[str, object]:
        """What decides the outcome, as JSON data."""
        return {
            "task": [
                without_folders(self.task),
                self.task_version,
                *([self.fingerprint] if self.fingerprint else []),
            ],
            "method": without_folders(self.method),
            "hyperparameters": {
                name: without_folders(value) if isinstance(value, str) else value
                for name, value in self.hyperparameters.given.items()
            },
            "budget": self.budget.given,
            "key": self.key,
            "engine_epoch": ENGINE_EPOCH,
        }

    @property
    def generator_steps(self) -> int:
        """Generator updates of the whole budget."""
        return self.budget.generator_steps(self.hyperparameters.n_critic)

    @property
    def structure(self) -> tuple[object, ...]:
        """What trials of one pack have in common."""
        h = self.hyperparameters
        return (self.task, self.label, self.method, h.optimiser, h.n_critic, h.architecture, self.budget)


def canonical(content: object) -> str:
    """JSON data as the one text that its hash is of."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(content: object) -> str:
    """Content hash of JSON data, 16 hexadecimal digits."""
    (found,) = hashes([canonical(content)])
    return found


def hashes(texts: Iterable[str]) -> list[str]:
    """Content hashes of texts, 16 hexadecimal digits each."""
    blake2b = hashlib.blake2b
    joined = b"".join([blake2b(text.encode(), digest_size=8).digest() for text in texts]).hex()
    return [joined[start : start + 16] for start in range(0, len(joined), 16)]


def rounded(value: float) -> float:
    """A float at 12 significant digits, so that the same number written two ways is the same trial."""
    return float(f"{value:.12g}")


def shared_config(values: Mapping[str, object]) -> str:
    """Content hash of a configuration: the hyperparameters that all methods of a sweep share."""
    return digest(dict(values))

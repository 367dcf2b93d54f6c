"""How the trials of a pack ended: completed, or diverged at a step and for a reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from study.tasks.table import get_task
from study.trial import Trial

if TYPE_CHECKING:
    from study.train import Evaluation, PackState


@dataclass(frozen=True)
class Outcome:
    """How one trial ended: `diverged_step` and `reason` are None if it completed."""

    diverged_step: int | None
    reason: str | None


SOUND = Outcome(None, None)


def outcomes(state: PackState, trials: Sequence[Trial]) -> list[Outcome]:
    """How each trial stands: diverged at the first non-finite update or metric, or sound so far."""
    if not state.evaluations:
        return [SOUND] * len(trials)
    found = np.stack([unsound(evaluation, trials[0]) for evaluation in state.evaluations])[:, : len(trials)]
    first = np.where(found.any(0), found.argmax(0), -1)
    return [
        SOUND if at < 0 else _outcome(state.evaluations[at], slot, trial)
        for slot, (trial, at) in enumerate(zip(trials, first.tolist(), strict=True))
    ]


def diverged(state: PackState, trials: Sequence[Trial]) -> NDArray[np.bool_]:
    """Which trials have diverged so far, (c,)."""
    found = np.zeros(len(trials), np.bool_)
    for evaluation in state.evaluations:
        found |= unsound(evaluation, trials[0])[: len(trials)]
    return found


def unsound(evaluation: Evaluation, kind: Trial) -> NDArray[np.bool_]:
    """Which slots (c,) of a pack of trials like one of them had diverged by an evaluation, or are found so by it."""
    values = evaluation.values
    sound = np.minimum(values["sound_d"] // kind.hyperparameters.n_critic, values["sound_g"]) >= evaluation.step
    sound &= np.isfinite(np.array([values[name] for name in _judged(kind)])).all(axis=0)
    return np.logical_not(sound)


def _judged(kind: Trial) -> tuple[str, ...]:
    return (*get_task(kind.task).metrics, "selection")


def _outcome(evaluation: Evaluation, slot: int, trial: Trial) -> Outcome:
    """How a trial diverged that is not sound at an evaluation, and was until then."""
    steps_d = int(evaluation.values["sound_d"][slot]) // trial.hyperparameters.n_critic
    steps_g = int(evaluation.values["sound_g"][slot])
    if min(steps_d, steps_g) < evaluation.step:
        player = "discriminator" if steps_d <= steps_g else "generator"
        return Outcome(min(steps_d, steps_g) + 1, f"{player} loss or parameters not finite")
    metric = next(name for name in _judged(trial) if not np.isfinite(evaluation.values[name][slot]))
    return Outcome(evaluation.step, f"{metric} not finite")

"""How the trials of a pack ended: completed, or diverged at a step and for a reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from study.tasks.table import get_task
from study.trial import Trial

if TYPE_CHECKING:
    from study.train import PackState


@dataclass(frozen=True)
class Outcome:
    """How one trial ended: `diverged_step` and `reason` are None if it completed."""

    diverged_step: int | None
    reason: str | None


def outcomes(state: PackState, trials: Sequence[Trial]) -> list[Outcome]:
    """How each trial stands: diverged at the first non-finite update or metric, or sound so far."""
    return [_outcome(state, slot, trial) for slot, trial in enumerate(trials)]


def _outcome(state: PackState, slot: int, trial: Trial) -> Outcome:
    n_critic = trial.hyperparameters.n_critic
    metrics = (*get_task(trial.task).metrics, "selection")
    for evaluation in state.evaluations:
        steps_d = int(evaluation.values["sound_d"][slot]) // n_critic
        steps_g = int(evaluation.values["sound_g"][slot])
        if min(steps_d, steps_g) < evaluation.step:
            player = "discriminator" if steps_d <= steps_g else "generator"
            return Outcome(min(steps_d, steps_g) + 1, f"{player} loss or parameters not finite")
        for metric in metrics:
            if not np.isfinite(evaluation.values[metric][slot]):
                return Outcome(evaluation.step, f"{metric} not finite")
    return Outcome(None, None)

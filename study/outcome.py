"""How the trials of a pack ended: completed, or diverged at a step and for a reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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
    seen = state.evaluations
    if not seen:
        return [SOUND] * len(trials)
    steps = np.array([evaluation.step for evaluation in seen])[:, None]
    metrics = (*get_task(trials[0].task).metrics, "selection")
    done_d, done_g, *values = (_over_time(state, name, len(trials)) for name in ("sound_d", "sound_g", *metrics))
    unsound = np.minimum(done_d // [trial.hyperparameters.n_critic for trial in trials], done_g) < steps
    for value in values:
        unsound |= ~np.isfinite(value)
    first = np.where(unsound.any(0), unsound.argmax(0), -1)
    return [
        SOUND if at < 0 else _outcome(seen[at], slot, trial, metrics)
        for slot, (trial, at) in enumerate(zip(trials, first.tolist(), strict=True))
    ]


def _over_time(state: PackState, name: str, trials: int) -> NDArray[Any]:
    """What was evaluated, of shape (evaluations, trials)."""
    return np.stack([np.asarray(evaluation.values[name][:trials]) for evaluation in state.evaluations])


def _outcome(evaluation: Evaluation, slot: int, trial: Trial, metrics: Sequence[str]) -> Outcome:
    """How a trial diverged that is not sound at an evaluation, and was until then."""
    steps_d = int(evaluation.values["sound_d"][slot]) // trial.hyperparameters.n_critic
    steps_g = int(evaluation.values["sound_g"][slot])
    if min(steps_d, steps_g) < evaluation.step:
        player = "discriminator" if steps_d <= steps_g else "generator"
        return Outcome(min(steps_d, steps_g) + 1, f"{player} loss or parameters not finite")
    metric = next(name for name in metrics if not np.isfinite(evaluation.values[name][slot]))
    return Outcome(evaluation.step, f"{metric} not finite")

"""Trials as rows and back, and results as rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from study.errors import UserError
from study.methods import parse_method
from study.outcome import Outcome, outcomes
from study.plan import Pack, fingerprint
from study.schema import ENGINE_EPOCH, SCHEMA_VERSION, Status
from study.tasks.table import get_task
from study.trial import Budget, Hyperparameters, Trial

if TYPE_CHECKING:
    from study.train import PackState

Row = dict[str, Any]
TAIL_SHARE, TAIL_LEAST = 0.2, 5
"""The primary value is the median over this share of the evaluations, at least so many."""


def metric_columns(tasks: Sequence[str]) -> tuple[str, ...]:
    """The metric columns of some tasks, each once, in alphabetical order."""
    return tuple(sorted({metric for task in set(tasks) for metric in get_task(task).metrics}))


def plan_rows(pack: Pack, sweep: str) -> list[Row]:
    """Rows of `plan` for a pack."""
    return [
        _identity(trial, pack.name, pack.capacity, sweep)
        | dict(get_task(trial.task).facts)
        | {
            "slot": slot,
            "key": trial.key,
            "budget_unit": trial.budget.unit,
            "budget_steps": trial.budget.steps,
            "evaluations": trial.budget.evaluations,
        }
        for slot, trial in enumerate(pack.trials)
    ]


def _identity(trial: Trial, pack: str, capacity: int, sweep: str) -> Row:
    method = parse_method(trial.method)
    return asdict(trial.hyperparameters) | {
        "trial_id": trial.trial_id,
        "sweep": sweep,
        "task": trial.task,
        "method": trial.label,
        "loss": method.loss,
        "penalty": method.penalty,
        "technique": "+".join(method.techniques) or None,
        "config": trial.config,
        "point": trial.point,
        "replicate": trial.replicate,
        "seed": trial.seed,
        "pack": pack,
        "capacity": capacity,
        "sampler": trial.sampler,
        "engine_epoch": ENGINE_EPOCH,
        "schema_version": SCHEMA_VERSION,
    }


def trial_from_row(row: Mapping[str, Any]) -> Trial:
    """The trial of a `plan` row.

    Raises:
        UserError: If the row was planned by another version of its task or of the engine.
    """
    names = Hyperparameters.__dataclass_fields__
    trial = Trial(
        task=row["task"],
        task_version=get_task(row["task"]).version,
        fingerprint=fingerprint(row["task"], row["method"].partition("@")[0], row["network"]),
        method=row["method"].partition("@")[0],
        label=row["method"],
        hyperparameters=Hyperparameters(**{name: row[name] for name in names}),
        budget=Budget(unit=row["budget_unit"], steps=row["budget_steps"], evaluations=row["evaluations"]),
        seed=row["seed"],
        config=row["config"],
        point=row["point"],
        replicate=row["replicate"],
        key=row["key"],
        sampler=row["sampler"],
    )
    if trial.trial_id != row["trial_id"]:
        raise UserError(
            f"trial {row['trial_id']} was planned by another version of task {trial.task!r} or of the engine "
            f"(epoch {row['engine_epoch']}, here {ENGINE_EPOCH}): run the sweep with another --out"
        )
    return trial


def history_rows(state: PackState, trials: Sequence[Trial]) -> list[Row]:
    """Rows of `history`: every evaluation that a trial reached with finite values."""
    rows = []
    for slot, (trial, outcome) in enumerate(zip(trials, outcomes(state, trials), strict=True)):
        task = get_task(trial.task)
        n_critic = trial.hyperparameters.n_critic
        for index, evaluation in enumerate(state.evaluations):
            if outcome.diverged_step is not None and evaluation.step >= outcome.diverged_step:
                break
            values = {name: float(array[slot]) for name, array in evaluation.values.items()}
            rows.append(
                {name: values[name] for name in (*task.metrics, "loss_d", "loss_g", "grad_norm_d", "grad_norm_g")}
                | {
                    "trial_id": trial.trial_id,
                    "task": trial.task,
                    "method": trial.label,
                    "evaluation": index,
                    "generator_steps": evaluation.step,
                    "discriminator_steps": evaluation.step * n_critic,
                    "samples_seen": evaluation.step * n_critic * task.batch,
                    "primary": values[task.primary],
                    "primary_selection": values["selection"],
                }
            )
    return rows


def trial_rows(state: PackState, pack: Pack, *, sweep: str, name: str, capacity: int, device: str) -> list[Row]:
    """Rows of `trials` for a trained pack; `name` is the planned pack and `capacity` what it was trained at."""
    seconds = state.seconds / len(pack.trials)
    return [
        _identity(trial, name, capacity, sweep)
        | _steps(trial, outcome)
        | _measured(state, slot, trial, outcome)
        | {"train_seconds": seconds, "device": device}
        for slot, (trial, outcome) in enumerate(zip(pack.trials, outcomes(state, pack.trials), strict=True))
    ]


def oom_rows(pack: Pack, *, sweep: str, name: str, device: str, reason: str) -> list[Row]:
    """Rows of `trials` for a trial that does not fit in memory even alone."""
    nothing = {"generator_steps": 0, "discriminator_steps": 0, "updates": 0, "success": False}
    return [
        _identity(trial, name, 1, sweep) | nothing | {"status": Status.OOM.value, "reason": reason, "device": device}
        for trial in pack.trials
    ]


def _steps(trial: Trial, outcome: Outcome) -> Row:
    steps = trial.generator_steps if outcome.diverged_step is None else outcome.diverged_step - 1
    n_critic = trial.hyperparameters.n_critic
    return {
        "generator_steps": steps,
        "discriminator_steps": steps * n_critic,
        "updates": steps * (1 + n_critic),
        "status": (Status.COMPLETED if outcome.diverged_step is None else Status.DIVERGED).value,
        "reason": outcome.reason,
        "diverged_step": outcome.diverged_step,
    }


def _measured(state: PackState, slot: int, trial: Trial, outcome: Outcome) -> Row:
    if outcome.diverged_step is not None:
        return {"success": False}
    task = get_task(trial.task)
    series = {
        name: np.array([evaluation.values[name][slot] for evaluation in state.evaluations])
        for name in (*task.metrics, "selection")
    }
    primary = tail_median(series[task.primary])
    return {name: tail_median(series[name]) for name in task.metrics} | {
        "primary": primary,
        "primary_last": float(series[task.primary][-1]),
        "primary_best": float(series[task.primary][int(np.argmin(series["selection"]))]),
        "success": primary <= task.threshold,
    }


def tail_median(values: np.ndarray[Any, np.dtype[np.float64]]) -> float:
    """Median over the last fifth of the evaluations, at least five of them (all, if there are fewer)."""
    count = max(TAIL_LEAST, int(np.ceil(TAIL_SHARE * len(values))))
    return float(np.median(values[-count:]))

"""Trials as rows and back, and results as rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from study.errors import UserError
from study.methods import parse_method
from study.outcome import Outcome, outcomes
from study.plan import Pack, Packs, fingerprint
from study.schema import ENGINE_EPOCH, SCHEMA_VERSION, Status
from study.store import RunDirectory, table_of_columns
from study.tasks.table import get_task
from study.trial import EVEN, Budget, Hyperparameters, Trial

if TYPE_CHECKING:
    from study.train import PackState

Row = dict[str, Any]
TAIL_SHARE, TAIL_LEAST = 0.2, 5
"""The primary value is the median over this share of the evaluations, at least so many."""


def metric_columns(tasks: Sequence[str]) -> tuple[str, ...]:
    """The metric columns of some tasks, each once, in alphabetical order."""
    return tuple(sorted({metric for task in set(tasks) for metric in get_task(task).metrics}))


def plan_table(packs: Packs, sweep: str) -> Any:  # noqa: ANN401 - an Arrow table, whose name is the store's
    """The table `plan` of some packs, an Arrow table."""
    trials, kinds = packs.trials, packs.trials.kinds
    kind, of_pack = trials.columns["kind"], np.repeat(np.arange(len(packs)), packs.sizes)
    slots = np.arange(len(trials)) - packs.bounds[:-1][of_pack]
    by_kind = [_of_kind(trial, sweep) for trial in kinds]
    columns: dict[str, Any] = {name: (kind, [row[name] for row in by_kind]) for name in (by_kind[0] if by_kind else ())}
    columns |= {name: values for name, values in trials.columns.items() if name != "kind"}
    columns |= {"pack": (of_pack, packs.names), "capacity": packs.capacities[of_pack], "slot": slots}
    return table_of_columns("plan", columns)


def _of_kind(trial: Trial, sweep: str) -> Row:
    """What is the same in all rows of a kind; the rest has to be put over it."""
    return (
        _identity(trial, "", 0, sweep)
        | dict(get_task(trial.task).facts)
        | {
            "budget_unit": trial.budget.unit,
            "budget_steps": trial.budget.steps,
            "evaluations": trial.budget.evaluations,
            "schedule": trial.budget.schedule,
        }
    )


def _identity(trial: Trial, pack: str, capacity: int, sweep: str) -> Row:
    method = parse_method(trial.method)
    return {name: getattr(trial.hyperparameters, name) for name in Hyperparameters.__dataclass_fields__} | {
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
        budget=Budget(
            unit=row["budget_unit"],
            steps=row["budget_steps"],
            evaluations=row["evaluations"],
            schedule=row.get("schedule") or EVEN,  # of a plan that has no such column
        ),
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


def planned_pack(directory: RunDirectory, name: str) -> tuple[list[Row], tuple[str, ...]]:
    """The planned rows of a pack, in slot order, and the sweep's metric columns; of the plan, little else is read.

    Raises:
        KeyError: If there is no such pack.
    """
    places = {part: _places(directory.root, part) for part in directory.parts("plan")}
    metrics = metric_columns(sorted({task for *_, tasks in places.values() for task in tasks}))
    for part, (names, firsts, ends, _) in places.items():
        at = int(np.searchsorted(names, name.encode()))
        if at < len(names) and names[at] == name.encode():
            rows = directory.read_spans("plan", part, [(int(firsts[at]), int(ends[at] - firsts[at]))]).to_pylist()
            mine = [row for row in rows if row["pack"] == name]
            return sorted(mine, key=lambda row: int(row["slot"])), metrics
    raise KeyError(name)


@cache
def _places(root: str, part: str) -> tuple[Any, Any, Any, tuple[str, ...]]:
    """Where the packs of a part of a plan are: asked once per process, for a search adds a part with each batch.

    The names of its packs in order, the first row of each, the end of its rows, and the tasks.
    """
    table = RunDirectory(root).read_part("plan", part, ["pack", "task"])
    coded = table["pack"].combine_chunks().dictionary_encode()
    codes, names = coded.indices.to_numpy(), np.array(coded.dictionary.to_pylist(), np.bytes_)
    _, firsts = np.unique(codes, return_index=True)
    _, lasts = np.unique(codes[::-1], return_index=True)
    order = np.argsort(names)
    return names[order], firsts[order], len(codes) - lasts[order], tuple(table["task"].unique().to_pylist())


def history_rows(state: PackState, trials: Sequence[Trial]) -> list[Row]:
    """Rows of `history`: every evaluation that a trial reached with finite values."""
    rows = []
    evaluated = [
        {name: np.asarray(array, np.float64).tolist() for name, array in evaluation.values.items()}
        for evaluation in state.evaluations
    ]
    for slot, (trial, outcome) in enumerate(zip(trials, outcomes(state, trials), strict=True)):
        task = get_task(trial.task)
        n_critic = trial.hyperparameters.n_critic
        for index, evaluation in enumerate(state.evaluations):
            if outcome.diverged_step is not None and evaluation.step >= outcome.diverged_step:
                break
            values = {name: array[slot] for name, array in evaluated[index].items()}
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
    trained = {"train_seconds": state.seconds / len(pack.trials), "device": device, "program": state.program}
    series = _series(state, pack.trials[0])
    tails = {name: tail_median(values) for name, values in series.items()}
    return [
        _identity(trial, name, capacity, sweep)
        | _steps(state, trial, outcome)
        | _measured(series, tails, slot, trial, outcome)
        | trained
        for slot, (trial, outcome) in enumerate(zip(pack.trials, outcomes(state, pack.trials), strict=True))
    ]


def oom_rows(pack: Pack, *, sweep: str, name: str, device: str, reason: str) -> list[Row]:
    """Rows of `trials` for a trial that does not fit in memory even alone."""
    nothing = {"generator_steps": 0, "discriminator_steps": 0, "updates": 0, "success": False}
    return [
        _identity(trial, name, 1, sweep) | nothing | {"status": Status.OOM.value, "reason": reason, "device": device}
        for trial in pack.trials
    ]


def _steps(state: PackState, trial: Trial, outcome: Outcome) -> Row:
    done, n_critic, status, reason = len(state.evaluations), trial.hyperparameters.n_critic, Status.COMPLETED, None
    steps = trial.generator_steps
    if outcome.diverged_step is not None:
        steps, status, reason = outcome.diverged_step - 1, Status.DIVERGED, outcome.reason
    elif done < trial.budget.evaluations:
        reason = f"stopped by a pruner after {done} of {trial.budget.evaluations} evaluations"
        steps, status = state.evaluations[-1].step, Status.STOPPED
    return {
        "generator_steps": steps,
        "discriminator_steps": steps * n_critic,
        "updates": steps * (1 + n_critic),
        "status": status.value,
        "reason": reason,
        "diverged_step": outcome.diverged_step,
    }


def _series(state: PackState, trial: Trial) -> dict[str, NDArray[np.float64]]:
    """What a pack's evaluations measured, of shape (evaluations, trials); empty where there was none."""
    names = (*get_task(trial.task).metrics, "selection") if state.evaluations else ()
    return {name: np.array([evaluation.values[name] for evaluation in state.evaluations]) for name in names}


def _measured(
    series: Mapping[str, NDArray[np.float64]],
    tails: Mapping[str, NDArray[np.float64]],
    slot: int,
    trial: Trial,
    outcome: Outcome,
) -> Row:
    if outcome.diverged_step is not None:
        return {"success": False}
    task = get_task(trial.task)
    if not series or len(series["selection"]) < trial.budget.evaluations:
        return {}  # censored: what was measured is in its history
    primary = float(tails[task.primary][slot])
    return {name: float(tails[name][slot]) for name in task.metrics} | {
        "primary": primary,
        "primary_last": float(series[task.primary][-1, slot]),
        "primary_best": float(series[task.primary][int(np.argmin(series["selection"][:, slot])), slot]),
        "success": primary <= task.threshold,
    }


def tail_median(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Median over the last fifth of the evaluations, the first axis, at least five (all, if there are fewer)."""
    count = max(TAIL_LEAST, int(np.ceil(TAIL_SHARE * len(values))))
    with np.errstate(invalid="ignore"):  # of trials that diverged, whose medians nobody asks for
        return np.asarray(np.median(values[-count:], axis=0))

"""Training one trial again, to look at it or to see that it gives the same bits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from study.choice import chosen
from study.errors import UserError
from study.plan import Pack
from study.records import Row, history_rows, trial_from_row, trial_rows
from study.schema import Status
from study.spec import Sweep
from study.store import RunDirectory
from study.sweep_run import packs_of, resolve_device
from study.trials import Trials

if TYPE_CHECKING:
    from study.train import PackState
    from study.trial import Trial


def replay(directory: RunDirectory, sweep: Sweep, trials: Trials, trial_id: str) -> tuple[dict[str, Any], bool | None]:
    """Train one trial again, alone in its pack, and compare it with its stored row.

    One that a pruner stopped is trained up to there, and its history is compared too: its row has no metrics.

    Returns:
        The row, and whether every result in it equals the stored one to the bit; None if none is stored.

    Raises:
        UserError: If the sweep has no such trial.
    """
    import torch  # only here

    if sweep.search is not None:  # its trials are what it asked for
        trials = Trials.of(map(trial_from_row, directory.read_table("plan").to_pylist()))
    place = trials.find(trial_id)
    if place is None:
        raise UserError(
            f"unknown trial {trial_id!r}: the column trial_id of {directory}/plan has the sweep's {len(trials)} ids"
        )
    stored = next(
        (
            row
            for part in directory.readable_parts("trials")
            for row in part.table.to_pylist()
            if row["trial_id"] == trial_id
        ),
        None,
    )
    found, home = trials[place], packs_of(sweep, trials).holding(trial_id)
    capacity, device = (stored["capacity"], stored["device"]) if stored else (home.capacity, resolve_device(sweep))
    if device == "cpu":
        torch.set_num_threads(1)  # as workers do
    steps = stored["generator_steps"] if stored and stored["status"] == Status.STOPPED else None
    program = (stored and stored["program"]) or chosen(sweep.execution.program, found, device)
    state = _trained(found, capacity=capacity, device=device, program=program, steps=steps)
    name = stored["pack"] if stored else home.name
    alone = Pack((found,), capacity)
    row = trial_rows(state, alone, sweep=sweep.name, name=name, capacity=capacity, device=device)[0]
    if stored is None:
        return row, None
    same = _equal(stored, row)
    if steps is not None:
        measured, made = _history(directory, stored), history_rows(state, [found])
        same = same and len(measured) == len(made) and all(map(_equal, measured, made))
    return row, same


def _equal(stored: Row, made: Row) -> bool:
    """True if a stored row has all that a row has, but for the time that it took."""
    return all(stored[key] == value for key, value in made.items() if key != "train_seconds")


def _history(directory: RunDirectory, stored: Row) -> list[Row]:
    """The stored history of a trial, in order."""
    parts = directory.readable_parts("history", parts={stored["pack"]})
    rows = [row for part in parts for row in part.table.to_pylist() if row["trial_id"] == stored["trial_id"]]
    return sorted(rows, key=lambda row: int(row["evaluation"]))


class _Ended(Exception):
    """Training came to where it ended before, at a state."""

    def __init__(self, state: PackState) -> None:
        super().__init__()
        self.state = state


def _trained(trial: Trial, *, capacity: int, device: str, program: str, steps: int | None) -> PackState:
    """A trial trained alone: to its end, or to the evaluation after so many steps of the generator."""
    from study.train import train

    def after_evaluation(state: PackState) -> None:
        if state.step == steps:
            raise _Ended(state)

    try:
        return train([trial], capacity=capacity, device=device, program=program, after_evaluation=after_evaluation)
    except _Ended as ended:
        return ended.state

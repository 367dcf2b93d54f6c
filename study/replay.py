"""Training one trial again, to look at it or to see that it gives the same bits."""

from __future__ import annotations

from typing import Any

from study.errors import UserError
from study.plan import Pack
from study.records import trial_from_row, trial_rows
from study.spec import Sweep
from study.store import RunDirectory
from study.sweep_run import packs_of, resolve_device
from study.trials import Trials


def replay(directory: RunDirectory, sweep: Sweep, trials: Trials, trial_id: str) -> tuple[dict[str, Any], bool | None]:
    """Train one trial again, alone in its pack, and compare it with its stored row.

    Returns:
        The row, and whether every result in it equals the stored one to the bit; None if none is stored.

    Raises:
        UserError: If the sweep has no such trial.
    """
    import torch  # only here

    from study.train import train

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
    state = train([found], capacity=capacity, device=device)
    name = stored["pack"] if stored else home.name
    alone = Pack((found,), capacity)
    row = trial_rows(state, alone, sweep=sweep.name, name=name, capacity=capacity, device=device)[0]
    if stored is None:
        return row, None
    return row, all(stored[key] == value for key, value in row.items() if key != "train_seconds")

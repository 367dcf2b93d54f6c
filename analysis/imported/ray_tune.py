"""A Ray Tune experiment directory as a source: read without Ray, and without unpickling anything."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.imported.declared import Declaration
from analysis.imported.source import LOST, Source, as_float, cells_of, ends_of, flat, measured
from analysis.imported.source import trials as in_words
from analysis.outcomes import FloatArray
from study.errors import UserError, unknown
from study.records import TAIL_LEAST, TAIL_SHARE
from study.schema import Status

PARAMS, RESULTS, PROGRESS, ERROR = "params.json", "result.json", "progress.csv", "error.txt"
STEP = "training_iteration"

EXPERIMENT = "experiment"
"""The column with the experiment's name."""

OWN = ("config", "timestamp", "done", "trial_id", "date", "pid", "hostname", "node_ip", "checkpoint_dir_name")
"""What Ray writes into every result beside the metrics."""

MEMORY = re.compile(r"CUDA out of memory|torch(\.cuda)?\.OutOfMemoryError|\bMemoryError\b")
"""An error that is the configuration's own: it needs more memory than it was given."""

ACCIDENT = re.compile(
    r"\b(ActorDiedError|ActorUnavailableError|RayActorError|NodeDiedError|WorkerCrashedError|OwnerDiedError"
    r"|ObjectLostError|RuntimeEnvSetupError|RaySystemError|ray\.exceptions\.OutOfMemoryError)\b"
)
"""An error that says nothing of the configuration: a process, a node or the cluster died."""

NUMERIC = re.compile(r"\b(FloatingPointError|OverflowError)\b|(?i:\bnan\b|non-?finite)")


@dataclass(frozen=True)
class Found:
    """One trial's directory.

    Attributes:
        name: The directory's.
        params: Its hyperparameters, flat.
        results: Its results in order, flat; of an iteration that was repeated after a restart, the last.
        error: The text of its error file, "" without one.
        state: What the experiment's state says of it, e.g. "TERMINATED"; None where it says nothing.
    """

    name: str
    params: dict[str, Any]
    results: list[dict[str, Any]]
    error: str
    state: str | None


def read_experiments(paths: Sequence[Path], declaration: Declaration) -> Source:
    """Read one experiment, or several as methods of one run.

    Args:
        paths: Experiment directories: those with a directory for each trial.
        declaration: Names the metric, and decides about errors, trials that ended early, and which value counts.

    Raises:
        UserError: If there are no trials in a directory, or no result has the metric.
    """
    trials = [(path, trial) for path in paths for trial in _trials(path)]
    found = [trial for _, trial in trials]
    metric = _metric(found, declaration)
    series = [_series(trial, metric) for trial in found]
    whole, longest = _lengths(found, [steps for steps, _ in series])
    end = declaration.budget or whole
    failed = [_failed(trial, steps, end) for trial, (steps, _) in zip(found, series, strict=True)]
    rule = _VALUES[declaration.value or "last"]
    values = [rule(values) for _, values in series]
    ends = [
        _error(trial, value, has_value=bool(len(steps)), declaration=declaration)
        if broke
        else _ending(trial, steps, value, declaration.budget or longest, declaration)
        for trial, (steps, _), value, broke in zip(found, series, values, failed, strict=True)
    ]
    return Source(
        kind="ray",
        origin=", ".join(map(str, paths)),
        name="-".join(path.name for path in paths),
        cells=cells_of([trial.params | {EXPERIMENT: path.name} for path, trial in trials]),
        hyperparameters=tuple(dict.fromkeys(name for trial in found for name in trial.params)),
        metric=metric,
        ends=ends_of(
            values,
            statuses=[status for status, _ in ends],
            reasons=[reason for _, reason in ends],
            steps=[float(steps[-1]) if len(steps) else math.nan for steps, _ in series],
        ),
        sampler=_sampler(paths),
        budget=(STEP, longest) if longest else None,
        history=_history(series),
        remarks=_remarks(found, ends, values),
    )


def _lengths(trials: Sequence[Found], series: Sequence[FloatArray]) -> tuple[int, int]:
    """Iterations of the longest trial without an error file, 0 where there is none, and of the longest to go by."""
    lengths = [(trial, int(steps[-1])) for trial, steps in zip(trials, series, strict=True) if len(steps)]
    whole = max((length for trial, length in lengths if not trial.error), default=0)
    return whole, whole or max((length for _, length in lengths), default=0)


def _failed(trial: Found, steps: FloatArray, end: int) -> bool:
    """Whether a trial's error is how it ended.

    One that made all its steps finished, whatever error file an earlier attempt, or its cleaning up, left behind. How
    many those are, 0 where nothing says it, is known from the other trials or the budget, never from itself.
    """
    if trial.state is not None:
        return trial.state == "ERROR"
    return bool(trial.error) and not (end and _reaches(steps, end))


def _trials(path: Path) -> list[Found]:
    if not path.is_dir():
        raise UserError(f"{path} is not a directory: give a Ray Tune experiment, the folder that holds its trials")
    folders = sorted(found.parent for found in path.glob(f"*/{PARAMS}"))
    if not folders:
        raise UserError(f"{path} is no Ray Tune experiment: no folder in it has a {PARAMS}")
    states = _states(path)
    return [_trial(folder, states.get(folder.name)) for folder in folders]


def _trial(folder: Path, state: str | None) -> Found:
    try:
        params = json.loads((folder / PARAMS).read_text())
    except ValueError:
        raise UserError(f"{folder / PARAMS} is not JSON") from None
    rows = _lines(folder / RESULTS) or _rows(folder / PROGRESS)
    by_step = {as_float(row.get(STEP, place + 1)): row for place, row in enumerate(rows)}
    error = folder / ERROR
    text = (
        error.read_text(errors="replace") if error.is_file() else "unknown" if (folder / "error.pkl").is_file() else ""
    )
    return Found(folder.name, flat(params), [by_step[step] for step in sorted(by_step)], text, state)


def _lines(path: Path) -> list[dict[str, Any]]:
    """The results of a file with one JSON object per line; a last line cut off by a kill is left out."""
    rows = []
    for line in path.read_text().splitlines() if path.is_file() else []:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            rows.append(flat({name: value for name, value in row.items() if name != "config"}))
    return rows


def _rows(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return [{name: value for name, value in row.items() if value != ""} for row in csv.DictReader(file)]


def _states(path: Path) -> dict[str, str]:
    """Folder of a trial to its state, as the newest file that says so; what is pickled in it is not looked at."""
    for file in sorted(path.glob("experiment_state-*.json"), reverse=True):
        try:
            entries = [json.loads(entry[0]) for entry in json.loads(file.read_text())["trial_data"]]
            return {str(entry["relative_logdir"]): str(entry["status"]) for entry in entries}
        except (ValueError, KeyError, TypeError, IndexError):  # half written, or another version's
            continue
    return {}


def _metric(trials: Sequence[Found], declaration: Declaration) -> str:
    known = dict.fromkeys(
        name for trial in trials for row in trial.results[-1:] for name in row if name not in OWN and "time" not in name
    )
    names = [name for name in known if name not in (STEP, "iterations_since_restore")]
    if declaration.metric is None:
        raise UserError(f"no metric: give --metric NAME, one of {', '.join(names) or 'none: no trial has a result'}")
    if not any(declaration.metric in row for trial in trials for row in trial.results):
        raise unknown("metric", declaration.metric, names or ["none: no trial has a result"])
    return declaration.metric


def _series(trial: Found, metric: str) -> tuple[FloatArray, FloatArray]:
    """Iterations that have the metric, and its value at each."""
    rows = [
        (as_float(row.get(STEP, place + 1)), measured(row[metric], f"{metric} of trial {trial.name}"))
        for place, row in enumerate(trial.results)
        if metric in row
    ]
    steps, values = zip(*rows, strict=True) if rows else ((), ())
    return np.array(steps, dtype=np.float64), np.array(values, dtype=np.float64)


def _last(values: FloatArray) -> float:
    return float(values[-1]) if len(values) else math.nan


def _tail(values: FloatArray) -> float:
    """The median of the last fifth of the values, at least five; the last one where there are fewer."""
    if len(values) < TAIL_LEAST or not math.isfinite(values[-1]):
        return _last(values)
    return float(np.median(values[-max(TAIL_LEAST, math.ceil(TAIL_SHARE * len(values))) :]))


_VALUES: dict[str, Callable[[FloatArray], float]] = {"last": _last, "tail": _tail}


def _ending(
    trial: Found, steps: FloatArray, value: float, budget: int, declaration: Declaration
) -> tuple[str | None, str | None]:
    """How a trial without an error ended and why; None where its value decides."""
    if not len(steps):
        return LOST, "has no result"
    if _reaches(steps, budget) or not math.isfinite(value):
        return None, None
    if trial.state in ("RUNNING", "PENDING", "PAUSED"):
        return LOST, f"was {trial.state.lower()} when the experiment was last saved"
    early = declaration.early or Status.STOPPED.value
    return early, f"ended after {steps[-1]:g} of {budget} iterations" if early == Status.STOPPED.value else None


def _reaches(steps: FloatArray, budget: int) -> bool:
    return bool(len(steps)) and bool(steps[-1] >= budget)


def _error(trial: Found, value: float, *, has_value: bool, declaration: Declaration) -> tuple[str, str]:
    last = trial.error.strip().splitlines()[-1][:200] if trial.error.strip() else "error"
    if ACCIDENT.search(trial.error):
        return LOST, last
    if MEMORY.search(trial.error):
        return Status.OOM.value, last
    if NUMERIC.search(last) or (has_value and not math.isfinite(value)):
        return Status.DIVERGED.value, last
    return declaration.errors or LOST, last


def _sampler(paths: Sequence[Path]) -> str | None:
    """What the files show of how configurations were chosen: searchers and population based training leave some."""
    if any(any(path.glob("pbt_*")) for path in paths):
        return "pbt"
    if any(any(path.glob("searcher-state-*")) for path in paths):
        return "searcher"
    return "random" if all(any(path.glob("basic-variant-state-*")) for path in paths) else None


def _history(series: Sequence[tuple[FloatArray, FloatArray]]) -> pd.DataFrame | None:
    parts = [
        pd.DataFrame({"trial": place, "step": steps, "value": values})
        for place, (steps, values) in enumerate(series)
        if len(steps)
    ]
    return pd.concat(parts, ignore_index=True) if parts else None


def _remarks(
    trials: Sequence[Found], ends: Sequence[tuple[str | None, str | None]], values: Sequence[float]
) -> tuple[str, ...]:
    despite = sum(
        bool(trial.error) and status is None and math.isfinite(value)
        for trial, (status, _), value in zip(trials, ends, values, strict=True)
    )
    lost = sum(status == LOST for status, _ in ends)
    early = sum(status == Status.STOPPED.value for status, _ in ends)
    found = []
    if lost:
        found.append(
            f"{in_words(lost)} ended in an error that may be the machine's, or without a result, and counted as lost, "
            "which leaves the outcome open; --errors diverged makes failures of errors that are a trial's own"
        )
    if early:
        found.append(
            f"{in_words(early)} ended before the others and counted as stopped, which leaves the outcome open; "
            "--early completed takes the last value as final"
        )
    if despite:
        found.append(
            f"{in_words(despite)} with an error file reached the last iteration all the same: judged by the value, "
            "as the error is an earlier attempt's or came after the training"
        )
    return tuple(found)

"""Running one pack from its plan to its rows. What every executor calls, in whatever process it likes."""

from __future__ import annotations

import contextlib
import os
import socket
import time
import tomllib
import uuid
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import torch

from study import checkpoint, user_files
from study.outcome import outcomes
from study.plan import Pack
from study.records import Row, history_rows, metric_columns, oom_rows, trial_from_row, trial_rows
from study.samples import of_each_trial, real_row, sample_rows
from study.spec import DATA_ROOT, ExecutionTable
from study.store import SWEEP, RunDirectory, build_table
from study.train import PackState, train
from study.trial import Trial, digest

CHECKPOINT_ABOVE_SECONDS = 60.0
"""Packs expected to take longer keep a checkpoint."""


def run_pack(root: str, name: str, *, device: str = "cpu", data: str | None = None) -> Mapping[str, int]:
    """Train a planned pack and publish its rows, unless that has been done.

    Writing a pack twice is harmless: the content is the same and each file appears whole.

    Args:
        root: The run directory, a path or URI.
        name: The pack.
        device: "cpu" or "cuda".
        data: The folder with the user's data sets; None for this machine's own setting.

    Returns:
        Trials by status.
    """
    if data is not None:
        os.environ[DATA_ROOT] = data
    if device == "cpu":
        torch.set_num_threads(1)
    directory = RunDirectory(root)
    user_files.receive(directory)
    attempt = f"attempts/{name}.{uuid.uuid4().hex[:8]}.json"
    note = {"pack": name, "host": socket.gethostname(), "pid": os.getpid(), "device": device, "started": time.time()}
    directory.write_json(attempt, note | {"outcome": "started"})
    try:
        counts = _train_and_publish(directory, name, device)
    except BaseException as error:
        interrupted = isinstance(error, KeyboardInterrupt | SystemExit)
        outcome = {"outcome": "interrupted" if interrupted else "failed", "error": f"{type(error).__name__}: {error}"}
        with contextlib.suppress(OSError):  # where the disk is full, the reason to give is the first one
            directory.write_json(attempt, note | outcome | {"ended": time.time()})
        raise
    directory.write_json(attempt, note | {"outcome": "committed", "ended": time.time()})
    return counts


def _train_and_publish(directory: RunDirectory, name: str, device: str) -> Mapping[str, int]:
    rows, metrics = _plan(directory.root, tuple(directory.parts("plan")))
    planned = rows[name]
    pack = Pack(tuple(trial_from_row(row) for row in planned), planned[0]["capacity"])
    sweep = planned[0]["sweep"]
    history: list[Row] = []
    results: list[Row] = []
    made: list[Row] = []
    count = of_each_trial(planned[0]["task"], _samples(directory))
    for inner, state in halve_until_it_fits(directory, pack, name=name, device=device, samples=count):
        if isinstance(state, PackState):
            history += history_rows(state, inner.trials)
            made += sample_rows(state.kept, inner.trials)
            results += trial_rows(state, inner, sweep=sweep, name=name, capacity=inner.capacity, device=device)
        else:
            results += oom_rows(inner, sweep=sweep, name=name, device=device, reason=state)
    directory.write_part("history", name, build_table("history", history, metrics))
    if made:
        _keep_real(directory, planned[0]["task"], count)
        directory.write_part("samples", name, build_table("samples", made))
    directory.write_part("trials", name, build_table("trials", results, metrics))
    directory.remove(f"progress/{name}.json")
    for file in directory.names("checkpoints"):
        if file.startswith(name):
            directory.remove(f"checkpoints/{file}")
    counts: dict[str, int] = {}
    for row in results:
        counts[row["status"]] = counts.get(row["status"], 0) + 1
    return counts


@cache
def _plan(root: str, _parts: tuple[str, ...]) -> tuple[dict[str, list[dict[str, Any]]], tuple[str, ...]]:
    """Planned rows by pack, in slot order, and the sweep's metric columns. Read once per process and extension."""
    by_pack: dict[str, list[dict[str, Any]]] = {}
    for row in RunDirectory(root).read_table("plan").to_pylist():
        by_pack.setdefault(row["pack"], []).append(row)
    for rows in by_pack.values():
        rows.sort(key=lambda row: int(row["slot"]))
    tasks = [row["task"] for rows in by_pack.values() for row in rows]
    return by_pack, metric_columns(tasks)


def _samples(directory: RunDirectory) -> int:
    """What the run's sweep file says of samples."""
    content = tomllib.loads((directory.read(SWEEP) or b"").decode())
    return ExecutionTable.model_validate(content.get("execution", {})).samples


def _keep_real(directory: RunDirectory, task: str, count: int) -> None:
    """Publish real samples of a task, to look at beside generated ones; whoever is first, they are the same."""
    part = f"real-{digest([task])}"
    if directory.read(f"samples/{part}.parquet") is None:
        directory.write_part("samples", part, build_table("samples", [real_row(task, count)]))


def halve_until_it_fits(
    directory: RunDirectory, pack: Pack, *, name: str, device: str, samples: int = 0
) -> list[tuple[Pack, PackState | str]]:
    """Train a pack; if it runs out of memory, its halves; at capacity 1, give the reason instead of a state."""
    try:
        state = _train(directory, pack.trials, pack.capacity, name=name, device=device, samples=samples)
        return [(pack, state)]
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        reason = str(error).splitlines()[0] if str(error) else "out of memory"
    if device == "cuda":
        torch.cuda.empty_cache()
    if pack.capacity == 1:
        return [(pack, reason)]
    half = pack.capacity // 2
    halves = [Pack(pack.trials[i : i + half], half) for i in range(0, len(pack.trials), half)]
    return [
        part
        for inner in halves
        for part in halve_until_it_fits(directory, inner, name=name, device=device, samples=samples)
    ]


def out_of_memory(error: BaseException) -> bool:
    """True for torch's and Python's ways of saying that memory ran out."""
    words = ("out of memory", "can't allocate memory", "not enough memory")
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(word in str(error) for word in words)


def _train(
    directory: RunDirectory, trials: Sequence[Trial], capacity: int, *, name: str, device: str, samples: int
) -> PackState:
    """Train, showing progress at every evaluation, and checkpointing if it will take long."""
    file = f"checkpoints/{name}-{capacity}-{trials[0].trial_id}.safetensors"
    data = directory.read(file)
    total = trials[0].budget.evaluations
    _report(directory, name, len(trials), 0, 0, total)

    def after(state: PackState) -> None:
        done = len(state.evaluations)
        _report(
            directory, name, len(trials), sum(o.diverged_step is not None for o in outcomes(state, trials)), done, total
        )
        if state.seconds / done * total > CHECKPOINT_ABOVE_SECONDS and done < total:
            directory.publish(file, checkpoint.to_bytes(state))

    state = checkpoint.from_bytes(data, device=device) if data else None
    return train(trials, capacity=capacity, device=device, state=state, samples=samples, after_evaluation=after)


def _report(directory: RunDirectory, name: str, trials: int, diverged: int, done: int, total: int) -> None:
    directory.write_json(
        f"progress/{name}.json",
        {"pack": name, "trials": trials, "diverged": diverged, "evaluations": done, "of": total, "at": time.time()},
    )

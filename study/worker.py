"""Running one pack from its plan to its rows. What every executor calls, in whatever process it likes."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import time
import tomllib
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from study import checkpoint, user_files
from study.choice import chosen
from study.files import write_whole
from study.memory import bytes_of, limited
from study.outcome import diverged
from study.plan import Pack
from study.records import Row, history_rows, oom_rows, planned_pack, trial_from_row, trial_rows
from study.rehearsal import bytes_taken
from study.samples import of_each_trial, real_row, sample_rows
from study.schema import RECORDED
from study.spec import DATA_ROOT, ExecutionTable
from study.store import SWEEP, RunDirectory, build_table
from study.tasks.table import get_task
from study.train import PackState, train
from study.trial import Trial, digest

CHECKPOINT_ABOVE_SECONDS = 60.0
"""Packs expected to take longer keep a checkpoint, at every evaluation and at least as often as this."""

PROGRESS_SECONDS, PROGRESS_NOTES = 1.0, 25
"""Between two notes of progress, and how many there are at most: a request to a bucket takes many milliseconds."""

OF_STORAGE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ESTALE, errno.EIO}
"""Errors of storage itself, which may be over before it is asked again."""

Stop = Callable[[Trial, int, float], bool]
"""Told a trial, how many evaluations it had and its primary value at the last; True to end it there."""


class _Stopped(Exception):
    """Training was ended before its budget, at a state."""

    def __init__(self, state: PackState) -> None:
        super().__init__()
        self.state = state


@dataclass(frozen=True)
class Done:
    """What is known of a pack that was published.

    Attributes:
        statuses: Trials by status.
        share: The part of the GPU's memory that the pack took at most; 0 on a CPU.
    """

    statuses: Mapping[str, int]
    share: float


def run_pack(
    root: str,
    name: str,
    *,
    device: str = "cpu",
    data: str | None = None,
    halvings: int = 0,
    may_halve: bool = True,
    stop: Stop | None = None,
) -> Done:
    """Train a planned pack and publish its rows, again where they are there: whoever hands out packs knows which are.

    Writing a pack twice is harmless: the content is the same and each file appears whole.

    Args:
        root: The run directory, a path or URI.
        name: The pack.
        device: "cpu" or "cuda".
        data: The folder with the user's data sets; None for this machine's own setting.
        halvings: How often to halve the planned capacity before the first try, since the system had no memory for it;
            not below 1, where trials are alone. That the system ended them there is no result of theirs.
        may_halve: False to raise when memory runs out: the device is shared, and the pack may fit alone.
        stop: Asked after each evaluation of a pack of one, but the last; None to train to the end.
    """
    if data is not None:
        os.environ[DATA_ROOT] = data
    if device == "cpu":
        torch.set_num_threads(1)
    directory = RunDirectory(root)
    _check_present(directory)
    directory.makes = False
    user_files.receive(directory)
    work = _Work(directory, name, device, stop)
    work.note("started")
    try:
        counts = _train_and_publish(work, halvings=halvings, may_halve=may_halve)
    except BaseException as error:
        interrupted = isinstance(error, KeyboardInterrupt | SystemExit)
        with contextlib.suppress(OSError):  # where the disk is full, the reason to give is the first one
            _check_present(directory)
            work.note("interrupted" if interrupted else "failed", error=f"{type(error).__name__}: {error}")
        raise
    work.note("committed")
    return Done(counts, _share_taken(device))


@dataclass(frozen=True)
class _Work:
    """A try at a pack.

    Attributes:
        directory: The run directory.
        name: The pack.
        device: "cpu" or "cuda".
        stop: As `run_pack` takes it.
        file: Where the note about this try is.
        said: What the note says of any outcome.
    """

    directory: RunDirectory
    name: str
    device: str
    stop: Stop | None = None
    file: str = field(default_factory=lambda: uuid.uuid4().hex[:8])
    said: dict[str, Any] = field(default_factory=dict)

    def note(self, outcome: str, **more: str) -> None:
        """Publish how the try stands."""
        if not self.said:
            who = {"host": socket.gethostname(), "pid": os.getpid()}
            self.said.update({"pack": self.name, "device": self.device, "started": time.time()} | who)
        ended = {} if outcome == "started" else {"ended": time.time()}
        content = self.said | {"outcome": outcome} | more | ended
        self.directory.write_json(f"attempts/{self.name}.{self.file}.json", content)

    def remark(self, sentence: str) -> None:
        """Have the note say something more."""
        self.said.setdefault("remarks", []).append(sentence)


def _check_present(directory: RunDirectory) -> None:
    """Refuse to make a run directory anew that was removed, renamed or unmounted: half a one would be in its place."""
    if directory.local and not Path(directory.root, "plan").is_dir():
        raise FileNotFoundError(errno.ENOENT, "the run directory is gone", directory.root)


def _share_taken(device: str) -> float:
    """The part of the device's memory that was taken at most since the last question."""
    if device != "cuda":
        return 0.0
    most, whole = torch.cuda.max_memory_reserved(), torch.cuda.get_device_properties(0).total_memory
    torch.cuda.reset_peak_memory_stats()
    return float(most / whole)


def _train_and_publish(work: _Work, *, halvings: int, may_halve: bool) -> Mapping[str, int]:
    directory, name, device = work.directory, work.name, work.device
    planned, metrics = planned_pack(directory, name)
    pack = Pack(tuple(trial_from_row(row) for row in planned), planned[0]["capacity"])
    sweep, settings = planned[0]["sweep"], _settings(directory)
    history: list[Row] = []
    results: list[Row] = []
    made: list[Row] = []
    count = of_each_trial(planned[0]["task"], settings.samples)
    found = [
        outcome
        for part in _halved(pack, halvings)
        for outcome in _halve_until_it_fits(work, part, settings, samples=count, may_halve=may_halve)
    ]
    _check_present(directory)
    for inner, state in found:
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


def _settings(directory: RunDirectory) -> ExecutionTable:
    """What the run's sweep file says of execution."""
    content = tomllib.loads((directory.read(SWEEP) or b"").decode())
    return ExecutionTable.model_validate(content.get("execution", {}))


def _keep_real(directory: RunDirectory, task: str, count: int) -> None:
    """Publish real samples of a task, to look at beside generated ones; whoever is first, they are the same."""
    part = f"real-{digest([task])}"
    if directory.read(f"samples/{part}.parquet") is None:
        directory.write_part("samples", part, build_table("samples", [real_row(task, count)]))


def _halved(pack: Pack, times: int) -> list[Pack]:
    """A pack as packs of a capacity that was halved so many times, to 1 in the end."""
    if times == 0:
        return [pack]
    size = max(1, pack.capacity >> times)
    return [Pack(pack.trials[i : i + size], size) for i in range(0, len(pack.trials), size)]


def _halve_until_it_fits(
    work: _Work, pack: Pack, settings: ExecutionTable, *, samples: int, may_halve: bool = True
) -> list[tuple[Pack, PackState | str]]:
    """Train a pack; if it runs out of memory, its halves; at capacity 1, give the reason instead of a state."""
    memory = settings.memory

    def need() -> int:
        return bytes_taken(pack.trials[0], capacity=pack.capacity, samples=samples)

    try:
        with limited(bytes_of(memory) if memory else None, device=work.device, need=need):
            program = chosen(settings.program, pack.trials[0], work.device)
            return [(pack, _train(work, pack.trials, pack.capacity, samples=samples, program=program))]
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not may_halve or not out_of_memory(error):
            raise
        reason = str(error).splitlines()[0] if str(error) else "out of memory"
    if work.device == "cuda":
        torch.cuda.empty_cache()
    if pack.capacity == 1:
        return [(pack, f"{reason} (execution.memory = {memory!r})" if memory else reason)]
    return [part for inner in _halved(pack, 1) for part in _halve_until_it_fits(work, inner, settings, samples=samples)]


def out_of_memory(error: BaseException) -> bool:
    """True for torch's and Python's ways of saying that memory ran out."""
    words = ("out of memory", "can't allocate memory", "not enough memory")
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(word in str(error) for word in words)


def storage_fault(directory: RunDirectory, error: BaseException) -> bool:
    """True for an error of the run directory's storage: full, read-only, gone, out of reach; no fault of a pack's.

    Args:
        directory: The run directory.
        error: What ended a pack.
    """
    if not isinstance(error, OSError):
        return False
    if error.errno in OF_STORAGE and _may_lie_in(directory, error.filename):
        return True
    try:
        _probe(directory)
    except OSError:
        return True
    return False


def _may_lie_in(directory: RunDirectory, file: object) -> bool:
    if not directory.local or not isinstance(file, str | os.PathLike):
        return True
    return Path(file).is_relative_to(directory.root)


def _probe(directory: RunDirectory) -> None:
    """Write a file into the run directory and remove it; on a disk in no folder but one that is there."""
    _check_present(directory)
    name = f".probe.{uuid.uuid4().hex}.tmp"
    if directory.local:
        write_whole(Path(directory.root, name), name.encode(), durable=True)
    else:
        directory.publish(name, name.encode())
    directory.remove(name)


def _train(work: _Work, trials: Sequence[Trial], capacity: int, *, samples: int, program: str) -> PackState:
    """Train, showing progress now and then, and checkpointing if it will take long."""
    kept = _Kept(work, trials, capacity)
    total, whole = trials[0].budget.evaluations, trials[0].generator_steps
    state = kept.restored(program)
    told = [(time.monotonic(), state.step if state else 0)]

    def after_block(state: PackState) -> None:
        since, step = told[-1]
        if time.monotonic() - since >= PROGRESS_SECONDS and PROGRESS_NOTES * (state.step - step) >= whole:
            told.append((time.monotonic(), state.step))
            _report(work, trials, int(diverged(state, trials).sum()), state.step)
        kept.after(state)

    def after_evaluation(state: PackState) -> None:
        done = len(state.evaluations)
        kept.after(state, due=done < total)
        if work.stop is not None and done < total and not diverged(state, trials).any():
            value = float(state.evaluations[-1].values[get_task(trials[0].task).primary][0])
            if work.stop(trials[0], done, value):
                raise _Stopped(state)

    _report(work, trials, 0, told[0][1])
    try:
        return train(
            trials,
            capacity=capacity,
            device=work.device,
            program=state.program if state else program,
            state=state,
            samples=samples,
            after_evaluation=after_evaluation,
            after_block=after_block,
        )
    except _Stopped as stopped:
        return stopped.state
    except (KeyboardInterrupt, SystemExit):
        kept.keep_last()
        raise


class _Kept:
    """The checkpoint of some trials of a pack that takes long."""

    def __init__(self, work: _Work, trials: Sequence[Trial], capacity: int) -> None:
        self._work, self._trials, self._capacity = work, trials, capacity
        self._file = f"checkpoints/{work.name}-{capacity}-{trials[0].trial_id}.safetensors"
        self._last: PackState | None = None
        self._since = time.monotonic()

    def restored(self, program: str) -> PackState | None:
        """The state to go on from; None to begin anew, which the attempt's note has a remark about if it is a pity.

        One of recorded operations is gone on from by them, whatever `program` is: not every one can be compiled.
        """
        data = self._work.directory.read(self._file)
        if data is None:
            return None
        try:
            state = checkpoint.from_bytes(data, self._trials, capacity=self._capacity, device=self._work.device)
            if state.program not in (program, RECORDED):
                raise checkpoint.UnusableError(f"its program is {state.program}, {program} is asked for")
        except checkpoint.UnusableError as error:
            self._work.remark(f"begun anew, since {self._file} cannot be used: {error}")
            return None
        self._work.remark(f"went on at step {state.step} from {self._file}")
        return state

    def after(self, state: PackState, *, due: bool = False) -> None:
        """Remember a state, and keep it if it is time to; after an evaluation it is `due` in packs that take long."""
        # training goes on with this object; what is in it is replaced, never changed
        self._last = replace(state, evaluations=list(state.evaluations))
        if (due and self._long(state)) or time.monotonic() - self._since > CHECKPOINT_ABOVE_SECONDS:
            self._keep(state)

    def keep_last(self) -> None:
        """Keep what was remembered last, if it took long enough; the reason for stopping matters more than a fault."""
        if self._last is not None and self._long(self._last):
            with contextlib.suppress(OSError):
                self._keep(self._last)

    def _long(self, state: PackState) -> bool:
        whole = self._trials[0].generator_steps
        return state.seconds / state.step * whole > CHECKPOINT_ABOVE_SECONDS and state.step < whole

    def _keep(self, state: PackState) -> None:
        _check_present(self._work.directory)
        data = checkpoint.to_bytes(state, self._trials, capacity=self._capacity, device=self._work.device)
        self._work.directory.publish(self._file, data)
        self._since = time.monotonic()


def _report(work: _Work, trials: Sequence[Trial], diverged: int, done: int) -> None:
    _check_present(work.directory)
    counts = {"trials": len(trials), "diverged": diverged, "steps": done, "of": trials[0].generator_steps}
    work.directory.write_json(f"progress/{work.name}.json", {"pack": work.name} | counts | {"at": time.time()})

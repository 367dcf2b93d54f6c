"""How far a run is, read from its directory, and one live line that says so."""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from study.store import RunDirectory

POLL_SECONDS, PLAIN_SECONDS = 0.5, 15.0
FAR_SECONDS = 10.0
"""Between two looks at storage that is not a local disk, where each is some requests for every running pack."""

SPARING = 9
"""Looking takes a tenth of the time at most."""

SLOW = 0.1
"""Trials a second below which the speed is told by the minute."""

LAST_LOOK_SECONDS = 2.0
"""How long a look that is under way is waited for when the block fails or is asked to stop."""


@dataclass
class Tally:
    """Counts the trials of a run; each finished pack is counted once.

    Attributes:
        directory: The run directory.
        packs: Planned packs and their trials' number.
        statuses: Finished trials by status.
        seen: Packs counted in `statuses`.
        ended: Attempts that ended, and how: these are not read again.
    """

    directory: RunDirectory
    packs: Mapping[str, int]
    statuses: Counter[str] = field(default_factory=Counter)
    seen: set[str] = field(default_factory=set)
    ended: dict[str, str] = field(default_factory=dict)

    def update(self) -> None:
        """Count packs that finished since the last call."""
        fresh = set(self.directory.parts("trials")) - self.seen
        for part in self.directory.readable_parts("trials", ["status"], parts=fresh) if fresh else ():
            self.statuses.update(part.table["status"].to_pylist())
            self.seen.update(part.packs)

    @property
    def planned(self) -> int:
        """Planned trials."""
        return sum(self.packs.values())

    @property
    def done(self) -> int:
        """Trials with a row."""
        return self.statuses.total()

    def under_way(self) -> float:
        """Trials' worth of work done in packs that are not finished."""
        total = 0.0
        for content in self.directory.read_all_json("progress").values():
            if content["pack"] not in self.seen:
                # of a worker of an earlier version, evaluations
                total += content["trials"] * content.get("steps", content.get("evaluations", 0)) / content["of"]
        return total

    def failed_attempts(self) -> int:
        """Attempts at packs that ended in an error."""
        for name, note in self.directory.read_all_json("attempts", without=self.ended).items():
            if note.get("outcome") != "started":
                self.ended[name] = str(note.get("outcome"))
        return list(self.ended.values()).count("failed")


@contextmanager
def live(directory: RunDirectory, packs: Mapping[str, int], *, quiet: bool = False) -> Iterator[Tally]:
    """Show progress on standard error while the block runs: a live bar on a terminal, a line now and then elsewhere.

    A block that fails, or is asked to stop, is not counted at its end: storage may be why, and may not answer.
    """
    tally = Tally(directory, packs)
    tally.update()
    if quiet:
        yield tally
        tally.update()
        return
    console = Console(file=sys.stderr)
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[words]}"),
        TimeElapsedColumn(),
        console=console,
        transient=False,
        disable=not console.is_terminal,
    )
    task = progress.add_task("trials", total=tally.planned, words="", completed=tally.done)
    stop = threading.Event()
    watcher = threading.Thread(target=_watch, args=(tally, progress, task, stop), daemon=True, name="progress")
    with progress:
        watcher.start()
        try:
            yield tally
        except BaseException:
            stop.set()
            watcher.join(LAST_LOOK_SECONDS)
            raise
        stop.set()
        watcher.join()  # two that count would count twice; a signal ends the waiting
        tally.update()
        progress.update(task, completed=tally.done, words=words(tally, None, 0.0))
    if not console.is_terminal:
        print(words(tally, None, 0.0), file=sys.stderr, flush=True)  # noqa: T201 - the progress line itself


def _watch(tally: Tally, progress: Progress, task: TaskID, stop: threading.Event) -> None:
    begun, base = time.monotonic(), tally.done + tally.under_way()
    printed = begun
    pause = least = POLL_SECONDS if tally.directory.local else FAR_SECONDS
    while not stop.wait(pause):
        looked = time.monotonic()
        try:
            tally.update()
            work = tally.done + tally.under_way()
            elapsed = time.monotonic() - begun
            rate = (work - base) / elapsed
            line = words(tally, (tally.planned - work) / rate if rate > 0 else None, rate)
        except OSError:
            continue
        finally:
            pause = max(least, SPARING * (time.monotonic() - looked))
        if stop.is_set():
            return
        progress.update(task, completed=work, words=line)
        if progress.disable and time.monotonic() - printed > PLAIN_SECONDS:
            printed = time.monotonic()
            print(line, file=sys.stderr, flush=True)  # noqa: T201 - the progress line itself


def words(tally: Tally, seconds_left: float | None, rate: float) -> str:
    """The progress line."""
    parts = [f"{tally.done} of {tally.planned} trials done"]
    parts += [f"{count} {status}" for status, count in sorted(tally.statuses.items()) if status != "completed"]
    failed = tally.failed_attempts()
    parts += [f"{failed} failed attempts"] if failed else []
    parts += [_speed(rate)] if rate > 0 else []
    parts += [f"{duration(seconds_left)} left"] if seconds_left is not None else []
    return ", ".join(parts)


def _speed(rate: float) -> str:
    return f"{rate:.1f} trials/s" if rate >= SLOW else f"{60 * rate:.2g} trials/min"


def duration(seconds: float) -> str:
    """A duration in words, in two units at most."""
    whole = round(seconds)
    hours, minutes = whole // 3600, whole % 3600 // 60
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {whole % 60} s" if minutes else f"{whole} s"

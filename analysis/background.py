"""The pictures of a run that goes on, drawn by a process of the lowest priority beside the one that serves them.

It draws all of them from one reading of the run, hands them over and ends; it ends with its parent, too, however that
ends, since it holds nothing but memory.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Protocol

from analysis.page import Drawing
from study.errors import UserError
from study.store import RunDirectory

LOWEST = 19
"""What is added to the process's niceness: it gets what nobody else wants."""

Parts = list[list[str]]
"""Names of the parts of a run's tables: they change when there is news."""


@dataclass(frozen=True)
class Pictures:
    """Pictures of a run as it was at one time.

    Attributes:
        drawings: The pictures, in the order of the page.
        ended: Trials that had a row then.
        planned: Trials that were planned then.
        seconds: Processor seconds that they took, the start of the process included.
    """

    drawings: tuple[Drawing, ...]
    ended: int
    planned: int
    seconds: float

    @property
    def whole(self) -> bool:
        """Whether every planned trial had a row."""
        return self.ended == self.planned


class Job(Protocol):
    """Pictures that are being drawn."""

    def result(self, *, wait: bool = False) -> Pictures | str | None:
        """The pictures, or why there are none; None while they are being drawn, for which `wait` waits."""

    def stop(self) -> None:
        """End it, whether it has drawn them or not."""


class Painter:
    """Draws a run's pictures again and again, as sparingly as it is told, while somebody asks for them."""

    def __init__(
        self,
        directory: RunDirectory,
        *,
        sparing: float,
        clock: Callable[[], float] = time.monotonic,
        begin: Callable[[str], Job] | None = None,
    ) -> None:
        """Draw nothing yet.

        Args:
            directory: The run directory.
            sparing: Nothing is drawn anew before so many times the processor time has passed that it took to draw;
                a run that has ended is drawn once more at once, as nothing else wants the processors.
            clock: Seconds, from any beginning.
            begin: Begins to draw the pictures of the run at a root; in another process without it.
        """
        self._root, self._sparing, self._clock, self._begin = str(directory), sparing, clock, begin or Process
        self._job: Job | None = None
        self._of: Parts | None = None
        self._next = clock()
        self._begun = 0.0
        self.shown: Pictures | None = None
        self.trouble: str | None = None
        self.version = 0

    def look(self, parts: Parts, *, ended: bool) -> None:
        """Take over what has been drawn, and begin to draw what is new.

        Args:
            parts: What is there.
            ended: Whether every trial has its row.
        """
        self._take(wait=False)
        if self._job is None and parts != self._of and (ended or self._clock() >= self._next):
            self._job, self._of, self._begun = self._begin(self._root), parts, self._clock()

    def wait(self, parts: Parts) -> None:
        """Draw what is new, and come back when it is there."""
        self._take(wait=True)
        self.look(parts, ended=True)
        self._take(wait=True)

    def stop(self) -> None:
        """End whatever is being drawn."""
        if self._job is not None:
            self._job.stop()
            self._job = None

    def words(self, ended: int, planned: int) -> str:
        """What a page says above its pictures; empty where they are those of the whole run.

        Args:
            ended: Trials that have a row now.
            planned: Trials that are planned now.
        """
        if self.trouble is not None:
            return f"The pictures could not be drawn: {self.trouble.rstrip('.')}."
        if self.shown is None:
            return "The pictures are being drawn."
        if self.shown.whole and (self.shown.ended, self.shown.planned) == (ended, planned):
            return ""
        return f"Pictures of {self.shown.ended} of {self.shown.planned} trials."

    def _take(self, *, wait: bool) -> None:
        found = None if self._job is None else self._job.result(wait=wait)
        if found is None:
            return
        self.stop()
        self.version += 1
        if isinstance(found, str):
            self.trouble, seconds = found, self._clock() - self._begun
        else:
            self.shown, self.trouble, seconds = found, None, found.seconds
        self._next = self._clock() + self._sparing * seconds


class Process:
    """Pictures that another process draws."""

    def __init__(self, root: str) -> None:
        """Start it."""
        # fresh, not forked: threads that read Parquet, or answer a browser, may hold locks
        context = multiprocessing.get_context("spawn")
        self._news, theirs = context.Pipe(duplex=False)
        self._process = context.Process(target=_draw, args=(root, theirs), daemon=True)
        with _undisturbed():
            self._process.start()
        theirs.close()

    def result(self, *, wait: bool = False) -> Pictures | str | None:
        """The pictures, or why there are none; None while they are being drawn."""
        if not self._news.poll(None if wait else 0):
            return None
        try:
            found: Pictures | str = self._news.recv()
        except EOFError:
            self._process.join()
            return f"the process that draws them ended with exit code {self._process.exitcode}"
        return found

    def stop(self) -> None:
        """Kill it, which leaves nothing behind."""
        self._process.kill()
        self._process.join()
        self._process.close()
        self._news.close()


@contextmanager
def _undisturbed() -> Iterator[None]:
    """What is started here does not hear the interrupt from the keyboard, which is for the one that started it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _draw(root: str, news: Connection) -> None:
    """Draw a run's pictures and send them, or why there are none."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.nice(LOWEST)
    from analysis.report import drawings
    from analysis.runs import load_results

    try:
        results = load_results(RunDirectory(root))
        found: Pictures | str = Pictures(
            tuple(drawings(results)), len(results.trials), len(results.plan), time.process_time()
        )
    except (UserError, OSError) as error:
        found = str(error)
    with contextlib.suppress(BrokenPipeError):
        news.send(found)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)

"""A command that is asked to stop ends in time, whatever storage does meanwhile.

Python runs a signal's handler in the main thread, between two of its own steps: never while a call to storage that does
not answer lasts. So a thread listens too, and ends the process where the main thread does not.
"""

from __future__ import annotations

import functools
import math
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, Concatenate, NoReturn, ParamSpec, TypeVar

from study.store import RunDirectory

GRACE_SECONDS = 10.0
"""From a request to stop to the end of the process, at most: Kubernetes gives 30 s, a preempted node as many."""

SAME_SECONDS = 0.5
"""Signals within so long are one request: `timeout` and shells send theirs to the process and to its group."""

SHOW_CURSOR = b"\x1b[?25h"

P = ParamSpec("P")
T = TypeVar("T")

_groups: set[int] = set()
"""Process groups that end with this process."""


def requests() -> tuple[int, ...]:
    """The signals by which a process may be asked to stop; SIGUSR1 is what SLURM sends before it takes a node away."""
    names = ("SIGINT", "SIGTERM", "SIGUSR1")
    return tuple(getattr(signal, name) for name in names if hasattr(signal, name))


def in_time(run: Callable[Concatenate[RunDirectory, P], T]) -> Callable[Concatenate[RunDirectory, P], T]:
    """Bound how long a function that works in a run directory, and the process after it, outlast a request to stop.

    They end within GRACE_SECONDS of the request, and at once at a second one, with exit code 128 and the signal's
    number. Without effect outside the main thread, and where SIGTERM has no handler: a notebook ends as it likes.

    Args:
        run: The function.

    Returns:
        The function, bounded so.
    """

    @functools.wraps(run)
    def bounded(directory: RunDirectory, /, *args: P.args, **options: P.kwargs) -> T:
        words = f"stopped: what is finished is kept in {directory}; the same command goes on from there"
        with _listening(words):
            return run(directory, *args, **options)

    return bounded


def asked() -> bool:
    """Whether a request to stop has come while a function ran that ends `in_time`."""
    return _now is not None and _now.was_asked()


@contextmanager
def ends_too(group: int) -> Iterator[None]:
    """While the block runs, a process group is killed where this process ends without waiting."""
    _groups.add(group)
    try:
        yield
    finally:
        _groups.discard(group)


def interrupt_main(reason: str) -> None:
    """Ask the main thread to stop, as a user would.

    Args:
        reason: Why, a sentence; where the main thread does not end, the process does with it, and exit code 2.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        if callable(signal.getsignal(number)):
            if _now is not None:
                _now.own.append(f"error: {reason}")
            signal.pthread_kill(int(threading.main_thread().ident or 0), number)
            return


@dataclass
class _Listener:
    """Hears of signals in a thread of its own.

    Attributes:
        words: What to say where the process ends by a request.
        here: Where the system writes the numbers of signals as they come, and `was_asked` a 0.
        asked: Requests that came: signal and time.
        own: What to say where it ends by a signal that `interrupt_main` sends; of those that have not come yet.
        over: Whether the block is over, and the main thread has the last word.
        end: When to end the process.
        code: With which exit code.
    """

    words: str
    here: socket.socket
    asked: list[tuple[int, float]] = field(default_factory=list)
    own: list[str] = field(default_factory=list)
    over: bool = False
    end: float = math.inf
    code: int = 0
    _in_step: threading.Event = field(default_factory=threading.Event)
    _echo: int = 0

    def was_asked(self) -> bool:
        """Whether a request has come, those included that are on their way to the listening thread."""
        self._in_step.clear()
        with suppress(OSError):
            self.here.send(b"\0")
            self._in_step.wait(1.0)
        return bool(self.asked)

    def listen(self, there: socket.socket) -> None:
        """Listen until the other end is closed."""
        with there:
            while True:
                there.settimeout(None if self.end == math.inf else max(0.001, self.end - time.monotonic()))
                try:
                    numbers = there.recv(64)
                except TimeoutError:
                    self._end()
                if not numbers:
                    return
                for number in numbers:
                    self._hear(number)

    def _hear(self, number: int) -> None:
        now = time.monotonic()
        if number == 0:
            self._in_step.set()
        if number not in requests():
            return
        if self.own and not self.asked:
            self.words, self.code, self.end = self.own.pop(), 2, now + GRACE_SECONDS
            return
        if number == self._echo:
            self._echo = 0
            return
        if self.asked and now - self.asked[0][1] < SAME_SECONDS:
            return
        self.asked.append((number, now))
        self.code, self.end = 128 + number, min(self.end, now + GRACE_SECONDS)
        if len(self.asked) > 1:
            self._end()
        # any thread may have taken the signal, and the main one would sleep on
        self._echo = number
        signal.pthread_kill(int(threading.main_thread().ident or 0), number)

    def _end(self) -> NoReturn:
        for group in tuple(_groups):
            with suppress(OSError):
                os.killpg(group, signal.SIGKILL)
        with suppress(OSError):  # whatever holds the lock of Python's own stream
            cursor = SHOW_CURSOR if os.isatty(2) else b""
            os.write(2, cursor + (b"" if self.over else f"{self.words}\n".encode()))
        os._exit(self.code)


_now: _Listener | None = None


@contextmanager
def _listening(words: str) -> Iterator[None]:
    global _now
    main = threading.current_thread() is threading.main_thread()
    if not main or _now is not None or not callable(signal.getsignal(signal.SIGTERM)):
        yield
        return
    here, there = socket.socketpair()
    here.setblocking(False)
    listener = _now = _Listener(words, here)
    thread = threading.Thread(target=listener.listen, args=(there,), daemon=True, name="stopping")
    before = {*threading.enumerate(), thread}
    heard = signal.set_wakeup_fd(here.fileno(), warn_on_full_buffer=False)
    thread.start()
    handlers = _handled_once()
    try:
        yield
    except Exception:
        if listener.was_asked():  # whatever else failed on the way
            raise KeyboardInterrupt(listener.asked[0][0]) from None
        raise
    finally:
        listener.over = True
        # threads that wait for storage would have the process wait at its end: then it goes on being bounded
        if not (listener.was_asked() or listener.code) or not set(threading.enumerate()) - before:
            _now = None
            signal.set_wakeup_fd(heard)
            here.close()
            thread.join()
            for number, handler in handlers.items():
                signal.signal(number, handler)


def _handled_once() -> dict[int, Callable[[int, FrameType | None], Any]]:
    """Have the first request handled and no other, which would disturb what the first has brought about.

    Returns:
        The handlers that were there.
    """
    found = {number: signal.getsignal(number) for number in requests()}
    handlers = {number: handler for number, handler in found.items() if callable(handler)}
    handled: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        if not handled:
            handled.append(number)
            handlers[number](number, frame)

    for number in handlers:
        signal.signal(number, handle)
    return handlers

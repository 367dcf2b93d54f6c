"""Where packs run: the protocol, what is left to do, and the simplest executor, which runs packs here one by one."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from study.store import RunDirectory

After = Callable[[str], Sequence[str]]
"""Told the name of a pack that is over, with rows or without; names the packs that can be run now because of it."""

TRIES = {"failed": 3, "crowded": 2, "memory": 16, "killed": 8}
"""How often a pack is tried, by what ended it: an error of its own, no memory beside others on one device, the system's
want of memory, or a process, a node or a whole cluster that was lost."""


class Executor(Protocol):
    """Runs packs. A pack that fails is left without rows and with a note in `attempts`; it does not raise."""

    def run(self, directory: RunDirectory, packs: Sequence[str], *, after: After | None = None) -> None:
        """Run packs, each by `run_pack` on the run directory, and return when none is left to try.

        Args:
            directory: The run directory, reachable from wherever packs run.
            packs: Names of planned packs, costliest first.
            after: Told each pack that is over; what it names is run too.

        Raises:
            KeyboardInterrupt: If asked to stop; what was committed stays.
        """
        ...


class InProcess:
    """Runs packs in this process, for tests, debugging and machines without ray."""

    def __init__(self, *, device: str = "cpu") -> None:
        """Run on a kind of device, "cpu" or "cuda"."""
        self.device = device

    def run(self, directory: RunDirectory, packs: Sequence[str], *, after: After | None = None) -> None:
        """Run the packs one after the other."""
        from study.worker import run_pack  # and torch: not before there is something to train

        waiting = deque(packs)
        while waiting:
            pack = waiting.popleft()
            with contextlib.suppress(Exception):  # whatever it was, the attempt's note has it and the sweep goes on
                run_pack(directory.root, pack, device=self.device)
            waiting.extend(after(pack) if after else ())


class Queue:
    """The packs that are left to run, and how often each was tried.

    Attributes:
        running: Packs that were handed out and are not over.
        over: Packs that are over, with rows or given up.
        alone: Packs that need a device to themselves.
        halvings: How often a pack's capacity was halved because the system had no memory for it.
    """

    def __init__(self, directory: RunDirectory, packs: Sequence[str], after: After | None = None) -> None:
        """Begin with some packs.

        Args:
            directory: The run directory; how packs were lost is noted in its `attempts`.
            packs: Names of packs, in the order in which they are to run.
            after: As an executor's.
        """
        self.running: set[str] = set()
        self.over = 0
        self.alone: set[str] = set()
        self.halvings: Counter[str] = Counter()
        self._directory, self._waiting, self._after = directory, deque(packs), after
        self._tries: dict[str, Counter[str]] = {}

    @property
    def waiting(self) -> int:
        """Packs that wait."""
        return len(self._waiting)

    @property
    def left(self) -> bool:
        """Whether any pack waits or runs."""
        return bool(self._waiting or self.running)

    def next(self) -> str | None:
        """The next pack to run, from now on counted as running; None if none waits."""
        if not self._waiting:
            return None
        pack = self._waiting.popleft()
        self.running.add(pack)
        return pack

    def ended(self, pack: str, *, fault: str | None = None, reason: str = "") -> None:
        """Note how a pack ended; it waits again if something else than itself may have been the cause.

        Args:
            pack: A running pack.
            fault: None if its rows are there, otherwise a key of `TRIES`.
            reason: What is known of the fault, in a line.
        """
        if pack not in self.running:
            return
        self.running.remove(pack)
        if fault is not None and self._again(pack, fault, reason):
            self._waiting.append(pack)
            return
        self.over += 1
        self._waiting.extend(self._after(pack) if self._after else ())

    def lose(self, reason: str) -> None:
        """Note that whatever ran the running packs is gone."""
        for pack in sorted(self.running):
            self.ended(pack, fault="killed", reason=reason)

    def _again(self, pack: str, fault: str, reason: str) -> bool:
        if fault == "memory":
            self.halvings[pack] += 1
        if fault == "crowded":
            self.alone.add(pack)
        tries = self._tries.setdefault(pack, Counter())
        tries[fault] += 1
        again = tries[fault] < TRIES[fault]
        # a worker notes its own errors, but where it does not reach the run directory nobody sees that
        if fault != "failed" or not again:
            self._note(pack, fault, reason)
        return again

    def _note(self, pack: str, fault: str, reason: str) -> None:
        if self._directory.local and not Path(self._directory.root).is_dir():
            return  # gone while it was in use: a note would make another at its place
        content = {"pack": pack, "outcome": fault, "error": reason, "ended": time.time()}
        try:
            self._directory.write_json(f"attempts/{pack}.{uuid.uuid4().hex[:8]}.json", content)
        except OSError:
            return  # a full disk must not end the sweep

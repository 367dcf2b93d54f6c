"""Where packs run: the protocol, what is left to do, and the simplest executor, which runs packs here one by one."""

from __future__ import annotations

import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from study.outage import Outage
from study.store import RunDirectory

After = Callable[[str], Sequence[str]]
"""Told the name of a pack that is over, with rows or without; names the packs that can be run now because of it."""

TRIES = {"failed": 3, "crowded": 2, "memory": 16, "killed": 8, "storage": 16}
"""How often a pack is tried, by what ended it: an error of its own, no memory beside others on one device, the system's
want of memory, a process, a node or a whole cluster that was lost, or storage that failed, which ends the run before a
pack's tries, unless it fails for that pack alone."""

REST_SECONDS, MOST_REST_SECONDS = 1.0, 30.0
"""How long a pack rests after the system ended its process, twice as long each time: a machine that has no memory now
may have some then."""

LOOK_SECONDS = 0.1
"""Between two questions whether there is a pack to run."""


class Executor(Protocol):
    """Runs packs. A pack that fails is left without rows and with a note in `attempts`; it does not raise."""

    def run(self, directory: RunDirectory, packs: Sequence[str], *, after: After | None = None) -> None:
        """Run packs, each by `run_pack` on the run directory, and return when none is left to try.

        Storage that fails for a moment is waited for, and costs no pack a try.

        Args:
            directory: The run directory, reachable from wherever packs run.
            packs: Names of planned packs, costliest first.
            after: Told each pack that is over; what it names is run too.

        Raises:
            KeyboardInterrupt: If asked to stop; what was committed stays.
            UserError: If the run directory is gone, or cannot be written for a minute.
        """
        ...


class InProcess:
    """Runs packs in this process, for tests, debugging and machines without ray."""

    def __init__(self, *, device: str = "cpu") -> None:
        """Run on a kind of device, "cpu" or "cuda"."""
        self.device = device

    def run(self, directory: RunDirectory, packs: Sequence[str], *, after: After | None = None) -> None:
        """Run the packs one after the other."""
        from study.worker import run_pack, storage_fault  # and torch: not before there is something to train

        queue = Queue(directory, packs, after)
        while queue.left:
            pack = queue.next()
            if pack is None:  # storage fails
                time.sleep(LOOK_SECONDS)
                continue
            fault, reason = None, ""
            try:
                run_pack(directory.root, pack, device=self.device)
            except OSError as error:  # which may be over by now
                fault = "storage" if storage_fault(directory, error) else "failed"
                reason = f"{type(error).__name__}: {error}"
            except Exception:  # noqa: BLE001 - the same here each time: the attempt's note has it, the sweep goes on
                fault = None
            queue.ended(pack, fault=fault, reason=reason)


class Queue:
    """The packs that are left to run, and how often each was tried.

    Attributes:
        running: Packs that were handed out and are not over.
        over: Packs that are over, with rows or given up.
        alone: Packs that need a device to themselves.
        halvings: How often a pack's capacity was halved because the system had no memory for it.
    """

    def __init__(
        self,
        directory: RunDirectory,
        packs: Sequence[str],
        after: After | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin with some packs.

        Args:
            directory: The run directory; how packs were lost is noted in its `attempts`.
            packs: Names of packs, in the order in which they are to run.
            after: As an executor's.
            clock: Seconds, from wherever.
        """
        self.running: set[str] = set()
        self.over = 0
        self.alone: set[str] = set()
        self.halvings: Counter[str] = Counter()
        self._directory, self._waiting, self._after = directory, deque(packs), after
        self._tries: dict[str, Counter[str]] = {}
        self._clock, self._outage = clock, Outage(directory, clock)
        self._resting: dict[str, float] = {}

    @property
    def waiting(self) -> int:
        """Packs that wait, or rest."""
        return len(self._waiting) + len(self._resting)

    @property
    def left(self) -> bool:
        """Whether any pack waits or runs."""
        return bool(self.waiting or self.running)

    def next(self) -> str | None:
        """The next pack to run, from now on counted as running; None if none is to be run now.

        Raises:
            UserError: If the run directory is gone, or has not been writable for too long.
        """
        for pack in [pack for pack, until in self._resting.items() if until <= self._clock()]:
            del self._resting[pack]
            self._waiting.append(pack)
        if not self._waiting or not self._outage.over():
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

        Raises:
            UserError: If the fault is the storage's and the run directory is gone.
        """
        if pack not in self.running:
            return
        self.running.remove(pack)
        if fault is None:
            self._outage.forget()
        elif self._again(pack, fault, reason):
            if fault == "storage":
                self._outage.begins(reason)
            rest = self._rest(pack, fault)
            if rest:
                self._resting[pack] = self._clock() + rest
            else:
                self._waiting.append(pack)
            return
        self.over += 1
        self._waiting.extend(self._after(pack) if self._after else ())

    def lose(self, reason: str) -> None:
        """Note that whatever ran the running packs is gone."""
        for pack in sorted(self.running):
            self.ended(pack, fault="killed", reason=reason)

    def _rest(self, pack: str, fault: str) -> float:
        """Seconds until a pack may be tried again."""
        times = self._tries[pack][fault] if fault in ("memory", "killed") else 0
        return min(MOST_REST_SECONDS, REST_SECONDS * 2 ** (times - 1)) if times else 0.0

    def _again(self, pack: str, fault: str, reason: str) -> bool:
        if fault == "memory":
            self.halvings[pack] += 1
        if fault == "crowded":
            self.alone.add(pack)
        tries = self._tries.setdefault(pack, Counter())
        tries[fault] += 1
        again = tries[fault] < TRIES[fault]
        # a worker notes its own errors, but where it does not reach the run directory nobody sees that
        if fault not in ("failed", "storage") or not again:
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

"""One driver at a time per run directory: a lease that a dead driver cannot keep.

No two clocks have to agree. The holder counts on, every RENEW_SECONDS; whoever wants the lease looks whether it counts.
On the holder's own machine the holder's process, and the machine's clock since it started, tell at once.
"""

from __future__ import annotations

import json
import math
import os
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from study import stopping, terminal
from study.errors import UserError
from study.outage import gone, unwritable
from study.store import LEASE, MANIFEST, RunDirectory

RENEW_SECONDS, EXPIRE_SECONDS, POLL_SECONDS = 10.0, 60.0, 1.0
KINDS = {"token": str, "host": str, "pid": int, "renewed": float, "uptime": float}
SETTLE_SECONDS = 0.2
"""Two drivers may find the same dead lease: after so long the last to write has it."""

GIVE_BACK_SECONDS = 2.0
"""How long giving the lease back may take after a request to stop: without it, it ends by itself."""


@contextmanager
def lease(directory: RunDirectory, *, say: Callable[[str], None] = terminal.say) -> Iterator[None]:
    """Hold the run directory's lease, renewing it in the background.

    If it is lost while the block runs, the block is interrupted, by a signal, where it runs in the main thread.

    Args:
        directory: The run directory.
        say: Told, in a sentence, why taking the lease takes time.

    Raises:
        UserError: If another driver is at work, or if the lease was lost: to another driver while this process was
            suspended, because the run directory is gone, which is looked at when the block ends too, or because nothing
            can be written there any more.
    """
    held = _Held(directory, uuid.uuid4().hex)
    _acquire(held, say)
    stop = threading.Event()
    main = threading.current_thread() is threading.main_thread()
    thread = threading.Thread(target=_keep, args=(held, stop), kwargs={"main": main}, daemon=True, name="lease")
    thread.start()
    try:
        yield
    except BaseException as error:
        lost = held.lost  # what giving it back finds out is no reason any more
        stop.set()
        thread.join(GIVE_BACK_SECONDS)
        if lost and isinstance(error, KeyboardInterrupt | OSError | UserError) and not stopping.asked():
            raise UserError(lost) from None
        raise
    stop.set()
    thread.join(EXPIRE_SECONDS)
    if thread.is_alive():
        raise UserError(unwritable(directory, "it does not answer"))
    if held.lost:
        raise UserError(held.lost)


def holder(directory: RunDirectory) -> Mapping[str, Any] | None:
    """Who seems to hold the lease now, or None if nobody alive does: at once, by what can be known at once.

    Of a driver on another machine only its clock's word is at hand the first time. A process that asks again and again
    goes by whether the lease is renewed between its questions.
    """
    content = _read(directory)
    if content is None:
        return None
    known = _known(content)
    if known is not None:
        return content if known else None
    now, name = time.monotonic(), str(directory)
    beat = (content["token"], content.get("count"))
    before = _seen.get(name)
    if before is None or before[0] != beat:
        # of two looks that differ the second saw it move; of a first one the other's clock is all there is
        moved = before is not None and before[0][0] == beat[0]
        fresh = moved or time.time() - float(content["renewed"]) < EXPIRE_SECONDS
        before = _seen[name] = (beat, now if fresh else -math.inf)
    return content if now - before[1] < EXPIRE_SECONDS else None


_seen: dict[str, tuple[tuple[Any, Any], float]] = {}
"""By run directory: the last look at a lease from another machine, and since when it has been the same."""


@dataclass
class _Held:
    """A lease that this process has.

    Attributes:
        directory: The run directory.
        token: What tells it from any other.
        count: How often it was renewed.
        lost: Why it is held no more, a sentence; empty while it is.
    """

    directory: RunDirectory
    token: str
    count: int = 0
    lost: str = ""
    kept: float = field(default_factory=time.monotonic)

    def content(self) -> dict[str, Any]:
        """What to write now."""
        return _content(self.token, self.count)

    def renew(self) -> None:
        """Count on, or find out that the lease is lost.

        Raises:
            OSError: If the storage does not answer or cannot be written; the lease may still be held.
        """
        found = self.directory.read(LEASE)
        if found is None:
            if not self.directory.exists(MANIFEST):
                self.lost = gone(self.directory)
            elif not self.directory.create(LEASE, _encoded(self.content())):
                return  # somebody else was quicker, which the next look tells
        else:
            other = _decoded(found)
            if other is not None and other["token"] != self.token:
                self.lost = (
                    f"{self.directory} was taken over by process {other['pid']} on {other['host']} while this one was "
                    "suspended or could not reach it: this one stops, and what is finished is kept"
                )
                return
            self.count += 1
            self.directory.write_json(LEASE, self.content())
        self.kept = time.monotonic()

    def give_back(self) -> None:
        """Remove the lease, unless it is another's by now, or find out that the run directory is gone.

        Raises:
            OSError: If the storage does not answer or cannot be written.
        """
        found = self.directory.read(LEASE)
        if found is None:
            self.lost = "" if self.directory.exists(MANIFEST) else gone(self.directory)
        elif (_decoded(found) or {}).get("token") == self.token:
            self.directory.remove(LEASE)


def _keep(held: _Held, stop: threading.Event, *, main: bool) -> None:
    """Renew a lease until it is lost, or until told to stop, and then give it back."""
    while not stop.wait(RENEW_SECONDS):
        try:
            held.renew()
        except OSError as error:  # a disk that is full for a moment must not end the sweep
            if time.monotonic() - held.kept > EXPIRE_SECONDS:
                held.lost = unwritable(held.directory, error)
        if held.lost:
            if main and not stop.is_set() and not stopping.asked():
                stopping.interrupt_main(held.lost)
            return
    try:
        held.give_back()
    except OSError as error:
        held.lost = unwritable(held.directory, error)


def _acquire(held: _Held, say: Callable[[str], None]) -> None:
    directory = held.directory
    if directory.create(LEASE, _encoded(held.content())):  # whole at once: an empty lease would look abandoned
        return
    current = _read(directory)
    if current and _lives(directory, current, say):
        raise UserError(
            f"{directory} is being run by process {current['pid']} on {current['host']}: wait for it or stop it; "
            f"its lease ends {EXPIRE_SECONDS:.0f} s after it does"
        )
    directory.write_json(LEASE, held.content())
    time.sleep(SETTLE_SECONDS)
    if (directory.read_json(LEASE) or {}).get("token") != held.token:
        raise UserError(f"{directory} was taken over by another driver just now: wait for it or stop it")


def _lives(directory: RunDirectory, current: Mapping[str, Any], say: Callable[[str], None]) -> bool:
    """Whether somebody holds the lease, if need be by watching whether it changes."""
    known = _known(current)
    if known is not None:
        return known
    say(
        f"{directory} has a lease of process {current['pid']} on {current['host']}, of which only its renewal can tell "
        f"whether it is alive: watching for up to {EXPIRE_SECONDS:.0f} s"
    )
    before, until = directory.read(LEASE), time.monotonic() + EXPIRE_SECONDS
    while time.monotonic() < until:
        time.sleep(POLL_SECONDS)
        now = directory.read(LEASE)
        if now is None:
            return False
        if now != before:
            return True
    return False


def within_reach(content: Mapping[str, Any]) -> bool:
    """Whether the number that a lease gives its holder means the same process here: one system, one table of processes.

    Args:
        content: A lease, as `holder` gives it.
    """
    place = _place()
    told = all(place) or sys.platform != "linux"  # elsewhere there is one table
    return told and (content["host"], content.get("boot"), content.get("processes")) == (socket.gethostname(), *place)


def runs_still(content: Mapping[str, Any]) -> bool:
    """Whether the process of a lease that is `within_reach` is the one that took it, and not one with its number."""
    return _born(content["pid"]) == content.get("born")


def _known(content: Mapping[str, Any]) -> bool | None:
    """Whether a lease's holder is alive, where that can be known without waiting: on the holder's own machine."""
    boot, processes = _place()
    if (content["host"], content.get("boot")) != (socket.gethostname(), boot):
        return None
    if content.get("processes") == processes and not runs_still(content):
        return False
    return time.monotonic() - content["uptime"] < EXPIRE_SECONDS if boot else None  # one clock, which nobody sets


def _content(token: str, count: int = 0) -> dict[str, Any]:
    pid, (boot, processes) = os.getpid(), _place()
    who = {"token": token, "host": socket.gethostname(), "pid": pid, "born": _born(pid)}
    where = {"boot": boot, "processes": processes}
    return who | where | {"count": count, "renewed": time.time(), "uptime": time.monotonic()}


def _read(directory: RunDirectory) -> dict[str, Any] | None:
    """The lease; None if there is none, or none of ours."""
    return _decoded(directory.read(LEASE) or b"")


def _decoded(data: bytes) -> dict[str, Any] | None:
    with suppress(ValueError, TypeError, KeyError):
        content: dict[str, Any] = json.loads(data)
        if all(isinstance(content[name], kind) for name, kind in KINDS.items()) and content["pid"] > 0:
            return content
    return None


def _encoded(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content).encode()


def _place() -> tuple[str, str]:
    """This machine since it was started, and the processes that can be seen here; empty where that cannot be told."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return boot, os.readlink("/proc/self/ns/pid")  # noqa: PTH115 - what it points to is no path
    except OSError:
        return "", ""


def _born(pid: int) -> str | None:
    """When a process of this host started, so that a reused pid is not taken for the old process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        try:
            os.kill(pid, 0)
        except OSError:
            return "gone"
        return None

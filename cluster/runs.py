"""What can be asked of a run directory alone, with no cluster: what was tried, whether it goes on, that it stop."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping
from typing import Any

from study.checks import Examined
from study.errors import UserError
from study.lease import holder, runs_still, within_reach
from study.store import MANIFEST, RunDirectory

POLL_SECONDS = 1.0
STOP_SECONDS = 60.0


def opened(run: str) -> RunDirectory:
    """A run directory that exists.

    Raises:
        UserError: If there is none.
    """
    directory = RunDirectory(run)
    if directory.read_json(MANIFEST) is None:
        raise UserError(f"{run} is not a run directory, it has no {MANIFEST}: for a job of a cluster give --address")
    return directory


def attempts(directory: RunDirectory, seen: set[tuple[str, str]]) -> list[str]:
    """What became of the packs that were tried, a line each in order of time, without what was seen before.

    Args:
        directory: The run directory.
        seen: The attempts told so far and what was told of them; these are added.
    """
    notes = []
    for file in directory.names("attempts", ".json"):
        if (file, "over") in seen:
            continue
        note = directory.read_json(f"attempts/{file}")
        if note is None:
            continue
        stage = "started" if note.get("outcome") == "started" else "over"
        if (file, stage) not in seen:
            seen.add((file, stage))
            notes.append(note)
    return [_line(note) for note in sorted(notes, key=_time)]


def _time(note: Mapping[str, Any]) -> float:
    return float(note.get("ended") or note.get("started") or 0.0)


def _line(note: Mapping[str, Any]) -> str:
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(_time(note)))
    where = f" on {note['host']}" if "host" in note else ""
    why = " ".join(str(note["error"]).split()) if note.get("error") else ""
    return f"{at} {note.get('pack')} {note.get('outcome')}{where}" + (f": {why}" if why else "")


def follow(directory: RunDirectory, write: Callable[[str], None], *, wait: bool) -> bool:
    """Write the attempts, a line each; if asked to wait, also those to come, until nobody runs it any more.

    Returns:
        Whether there were any.
    """
    seen: set[tuple[str, str]] = set()
    while True:
        going_on = wait and holder(directory) is not None  # before the attempts, so that the last ones are told
        for line in attempts(directory, seen):
            write(line + "\n")
        if not going_on:
            return bool(seen)
        time.sleep(POLL_SECONDS)


def missing(directory: RunDirectory) -> int:
    """How many trials have no row, of the planned ones and of those that a search has still to ask for."""
    plan, rows = (directory.read_table(table, ["trial_id"])["trial_id"].to_pylist() for table in ("plan", "trials"))
    return len(set(plan) - set(rows)) + Examined(directory).unasked()


def stop(directory: RunDirectory) -> str:
    """Ask the process that runs a sweep, if it is one of this machine, to stop, and wait until it has.

    Returns:
        What came of it, in a sentence.

    Raises:
        UserError: If the process runs elsewhere, which a container of its own or a time before a restart is too, or may
            not be asked.
    """
    driver = holder(directory)
    if driver is None:
        return f"nobody is running {directory}"
    if not within_reach(driver):
        raise UserError(
            f"{directory} is being run by process {driver['pid']} on {driver['host']}, which is another machine or "
            "container than this one: stop it there, or, if it was submitted, with --address and the job's name or the "
            "sweep file"
        )
    try:
        _ask(directory, int(driver["pid"]))
    except ProcessLookupError:
        return f"process {driver['pid']} has just ended"
    except PermissionError:
        raise UserError(f"{directory} is being run by process {driver['pid']}, which is another user's") from None
    begun = time.monotonic()
    while (holder(directory) or {}).get("token") == driver["token"]:
        if time.monotonic() - begun > STOP_SECONDS:
            return f"process {driver['pid']} was asked to stop and has not ended yet"
        time.sleep(POLL_SECONDS / 4)
    return f"stopped process {driver['pid']}: what is finished is kept, and the same command goes on from there"


def _ask(directory: RunDirectory, pid: int) -> None:
    """Send SIGTERM to the process that holds the lease, and to no other that has its number by now or elsewhere."""
    handle = os.pidfd_open(pid) if hasattr(os, "pidfd_open") else None
    try:
        found = holder(directory)  # says so only while the number is still that process's
        if found is None or found["pid"] != pid or not (within_reach(found) and runs_still(found)):
            raise ProcessLookupError
        if handle is None:
            os.kill(pid, signal.SIGTERM)
        else:
            signal.pidfd_send_signal(handle, signal.SIGTERM)
    finally:
        if handle is not None:
            os.close(handle)

"""One driver at a time per run directory: a lease that a dead driver cannot keep."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from study.errors import UserError
from study.store import LEASE, RunDirectory

RENEW_SECONDS, EXPIRE_SECONDS = 10.0, 60.0


@contextmanager
def lease(directory: RunDirectory) -> Iterator[None]:
    """Hold the run directory's lease, renewing it in the background.

    Raises:
        UserError: If another driver is at work; a lease expires when it has not been renewed for a minute, and at once
            if its process on this host is gone.
    """
    token = uuid.uuid4().hex
    _acquire(directory, token)
    stop = threading.Event()

    def renew() -> None:
        while not stop.wait(RENEW_SECONDS):
            try:
                if (directory.read_json(LEASE) or {}).get("token") != token:
                    return  # suspended for longer than the lease: another driver has it now
                directory.write_json(LEASE, _content(token))
            except OSError:
                continue  # a full disk must not end the sweep; the workers will say so

    thread = threading.Thread(target=renew, daemon=True, name="lease")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        if (directory.read_json(LEASE) or {}).get("token") == token:
            directory.remove(LEASE)


def holder(directory: RunDirectory) -> Mapping[str, Any] | None:
    """Who holds the lease now, or None if nobody alive does."""
    content = directory.read_json(LEASE)
    return content if content and _alive(content) else None


def _acquire(directory: RunDirectory, token: str) -> None:
    content = _content(token)
    if directory.create(LEASE, json.dumps(content).encode()):  # whole at once: an empty lease would look abandoned
        return
    current = holder(directory)
    if current:
        raise UserError(
            f"{directory} is being run by process {current['pid']} on {current['host']}: wait for it or stop it; "
            f"its lease ends {EXPIRE_SECONDS:.0f} s after it does"
        )
    directory.write_json(LEASE, content)
    time.sleep(0.2)  # two drivers may have found the same dead lease: the last to write has it
    if (directory.read_json(LEASE) or {}).get("token") != token:
        raise UserError(f"{directory} was taken over by another driver just now: wait for it or stop it")


def _content(token: str) -> dict[str, Any]:
    pid = os.getpid()
    return {"token": token, "host": socket.gethostname(), "pid": pid, "born": _born(pid), "renewed": time.time()}


def _alive(content: Mapping[str, Any]) -> bool:
    if content.get("host") == socket.gethostname() and _born(int(content["pid"])) != content.get("born"):
        return False
    return time.time() - float(content["renewed"]) < EXPIRE_SECONDS


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

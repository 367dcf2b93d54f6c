"""The process that a driver is. It may be started before it is known what to run: it imports Ray meanwhile."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from cluster.address import cluster_address
from cluster.scratch import scratch

SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # half of Tune's cost per trial and most of its memory growth; rows do not pass through Tune
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",  # Tune's state, which is never read, would be written whole again and again
    "TUNE_MAX_PENDING_TRIALS_PG": "256",  # with a searcher, Tune would start one trial at a time
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
}
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""On Linux, Ray replaces 127.0.0.1 by the outward address unless this is set."""

ROOT = Path(__file__).parents[1]

CODE = """
import sys
sys.path.append(sys.argv.pop())
import cluster.driver
cluster.driver.main(int(sys.argv.pop()))
"""


class Process:
    """A process of `cluster.driver`, and with it the Ray that it may have started; both end where it is closed.

    Attributes:
        pid: Its number and its group's. Its session is its own, so that a terminal's Ctrl-C reaches this process alone.
        folder: Its own temporary folder.
        log: The file in there that its standard error goes to.
        connection: To it.
    """

    def __init__(self, address: str | None) -> None:
        """Start it; it does nothing but import until it is told what to run.

        Args:
            address: Of the cluster, as `cluster_address` gives it; None for a Ray of its own.
        """
        with contextlib.ExitStack() as opened:
            self.folder, lock = opened.enter_context(scratch())
            self.log = self.folder / "driver.log"
            here, there = socket.socketpair()
            self.connection = opened.enter_context(Connection(here.detach()))
            with there, self.log.open("wb") as words:
                self._process = subprocess.Popen(
                    # -P and a folder of its own: nothing in the user's folder may shadow what is imported
                    [sys.executable, "-P", "-c", CODE, str(there.fileno()), str(ROOT)],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,  # Tune's tables
                    stderr=words,
                    cwd=self.folder,
                    env=os.environ | environment(address),
                    pass_fds=[there.fileno(), lock],
                    start_new_session=True,
                )
            self.pid = self._process.pid
            opened.callback(self._end)
            self._opened = opened.pop_all()

    def begin(self, settings: Mapping[str, Any]) -> None:
        """Tell it what to run; if it is gone, the next question will tell."""
        with contextlib.suppress(OSError):
            self.connection.send_bytes(json.dumps({**settings, "scratch": str(self.folder)}).encode())

    def wait(self, seconds: float) -> None:
        """Give it time to end by itself."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=seconds)

    def close(self) -> None:
        """End it and remove its folder; once is enough."""
        self._opened.close()

    def _end(self) -> None:
        below = processes_below(self.pid)
        for end, pid in [(os.killpg, self.pid), *((os.kill, pid) for pid in below)]:
            with contextlib.suppress(ProcessLookupError):
                end(pid, signal.SIGKILL)
        self._process.wait()


def processes_below(top: int) -> set[int]:
    """Process ids of whatever a process has started, and these in turn; none where the system does not tell.

    Ray's workers are in groups of their own, and would notice the end of their raylet by themselves, a moment later.
    """
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    found = {top}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {top}


def environment(address: str | None) -> dict[str, str]:
    """The environment variables of a driver for the cluster at an address; Ray reads some when it is imported."""
    found = dict(SETTINGS)
    if address is None or address.startswith(("127.", "localhost", "[::1]")):
        found |= LOOPBACK
    if address is None:
        # otherwise Ray draws one and keeps it in the user's home, after which every Ray of that user asks for it
        found |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    return found


@contextlib.contextmanager
def ahead(given: str | None, *, wanted: bool = True) -> Iterator[Process | None]:
    """A driver's process for whoever wants one while the block runs, so that it imports while this process does.

    Args:
        given: The address of a cluster, as a user gave it.
        wanted: False for none.

    Raises:
        UserError: If it is no address.
    """
    process = None
    if wanted:
        address = cluster_address(given)
        with contextlib.suppress(OSError):  # whoever needs one will start one, and say why that cannot be
            process = Process(address)
    try:
        yield process
    finally:
        if process is not None:
            process.close()

"""Ray nodes on this machine's loopback, each a process group of its own that can be killed and started again."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from cluster.process import processes_below

START = """
import sys, types
import ray.scripts.scripts as scripts
from ray._private import ray_constants as known
scripts.ray_constants = types.SimpleNamespace(**vars(known) | {"ENABLE_RAY_CLUSTER": True})
sys.exit(scripts.main())
"""
"""`ray start`, which refuses a second node where the variable is set that keeps listeners on loopback."""

LOOPBACK = "127.0.0.1"
ENVIRONMENT = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # keeps listeners on loopback
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "disabled",
    "RAY_health_check_period_ms": "1000",  # so that a dead node is noticed in seconds
    "RAY_health_check_failure_threshold": "5",
}


def free_port() -> int:
    """A port that nothing listens on, outside those that Ray gives its workers."""
    while True:
        with socket.socket() as found:
            found.bind((LOOPBACK, 0))
            port: int = found.getsockname()[1]
        if not 10002 <= port <= 19999:
            return port


class Nodes:
    """A head without room for packs, and some nodes with one CPU each."""

    def __init__(self, count: int) -> None:
        self.port, self._count = free_port(), count
        # sockets live there, and their paths may have 107 bytes
        self._folder = Path(tempfile.mkdtemp(prefix="mpn", dir="/tmp" if Path("/tmp").is_dir() else None))
        self._groups: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def address(self) -> str:
        return f"{LOOPBACK}:{self.port}"

    def names(self) -> list[str]:
        return [f"node{i}" for i in range(self._count)]

    def __enter__(self) -> Nodes:
        self.start("head")
        for name in self.names():
            self.start(name)
        return self

    def __exit__(self, *_: object) -> None:
        for name in [*self._groups]:
            self.kill(name)
        shutil.rmtree(self._folder, ignore_errors=True)

    def start(self, name: str, *, seconds: float = 60) -> None:
        """Start a node and wait until it is up."""
        role = [f"--address={self.address}", "--num-cpus=1"]
        if name == "head":
            role = ["--head", f"--port={self.port}", "--num-cpus=0", "--include-dashboard=false"]
        with (self._folder / f"{name}.log").open("wb") as log:
            self._groups[name] = subprocess.Popen(
                [sys.executable, "-c", START, "start", "--block", "--node-ip-address", LOOPBACK]
                + ["--object-store-memory=80000000", "--min-worker-port=0", "--max-worker-port=0"]
                + [f"--dashboard-agent-listen-port={free_port()}", "--disable-usage-stats", *role]
                + ([f"--temp-dir={self._folder}"] if name == "head" else []),
                env=os.environ | ENVIRONMENT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + seconds
        while b"This command will now block" not in (self._folder / f"{name}.log").read_bytes():
            if time.monotonic() > deadline or self._groups[name].poll() is not None:
                raise RuntimeError((self._folder / f"{name}.log").read_text())
            time.sleep(0.2)

    def kill(self, name: str) -> None:
        """Kill every process of a node, as when its machine loses power."""
        process = self._groups.pop(name)
        for pid in [process.pid, *processes_below(process.pid)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()

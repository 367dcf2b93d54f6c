"""A local Ray without the processes that a sweep has no use for, which take most of the time that Ray needs to start.

Beside the store of the head (GCS), the raylet and the workers, Ray starts the autoscaler's monitor, a monitor of logs,
the dashboard with its modules, its agent, and an agent that makes runtime environments. Each imports Ray; the raylet
waits until the agents have said on which ports they listen, and workers wait for the raylet. No option of Ray's leaves
them out, so its class of a node is replaced while it starts: that of the minor version that this package asks for.
"""

from __future__ import annotations

import contextlib
import importlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

AGENTS = ("--dashboard_agent_command", "--runtime_env_agent_command")
"""Options of the raylet, which ends where what it starts by them does."""

STAND_IN = Path(__file__).with_name("stand_in.py")

NOBODY = -1
"""What Ray's own small installation says for the port of an agent that it does not have."""

KNOWN_SECONDS, LOOK_SECONDS = 10.0, 0.02
"""How long the raylet's registration is looked out for, and how often; Ray looks too, later and once a second."""


@contextlib.contextmanager
def small(workers: int | None) -> Iterator[None]:
    """While the block runs, a local Ray that is started is a small one.

    Args:
        workers: Worker processes that are started at once, others when there is something for them to do; None for as
            many as there are GPUs.
    """
    from ray._private import node

    with _replaced(node, "Node", _small_node(workers)):
        yield


def _small_node(workers: int | None) -> type:
    from ray._private import services, utils
    from ray._private.node import Node

    raylet: Any = importlib.import_module("ray._raylet")
    ports = ("METRICS_AGENT", "METRICS_EXPORT", "DASHBOARD_AGENT_LISTEN", "RUNTIME_ENV_AGENT")

    class SmallNode(Node):
        """A head of Ray's with a store and a raylet."""

        def start_monitor(self) -> None: ...

        def start_api_server(self, **_: object) -> None: ...

        def start_log_monitor(self) -> None: ...

        def start_raylet(self, *arguments: Any, **options: Any) -> None:
            for name in ports:
                port = getattr(raylet, f"{name}_PORT_NAME")
                raylet.persist_port(self._session_dir, self._node_id, port, NOBODY)
            start = services.start_ray_process
            count = max(1, int(self.get_resource_and_label_spec().num_gpus or 0)) if workers is None else workers

            def started(command: Sequence[str], *more: Any, **how: Any) -> Any:
                return start(_without_agents(command, count), *more, **how)

            with (
                _replaced(services, "start_ray_process", started),
                # whether the dashboard's packages are there is asked by importing them
                _replaced(utils, "get_dashboard_dependency_error", lambda: ImportError("not wanted")),
            ):
                super().start_raylet(*arguments, **options)
            end = time.monotonic() + KNOWN_SECONDS
            while not self.get_gcs_client().get_all_node_info() and time.monotonic() < end:
                time.sleep(LOOK_SECONDS)

    return SmallNode


def use_workers_as_they_are(*, small: bool) -> None:
    """Have Tune ask a small Ray for workers without environment variables of its own.

    It hands its own on to workers, that may be on other machines, which takes the agent that a small Ray lacks, and a
    new process in the place of each that waits. Those of a local Ray have all variables of the process that started it.

    Args:
        small: False to leave Tune as it is.
    """
    from ray.tune.execution import class_cache

    if small:
        class_cache.DEFAULT_ENV_VARS = {}
        class_cache.ENV_VARS_TO_PROPAGATE = set()


def _without_agents(command: Sequence[str], workers: int) -> list[str]:
    """The raylet's command with stand-ins for its agents, and so many workers from the beginning."""
    stand_in = subprocess.list2cmdline([sys.executable, "-I", "-S", str(STAND_IN)])
    instead = dict.fromkeys(AGENTS, stand_in) | {"--num_prestart_python_workers": str(workers)}
    parts = (part.partition("=") for part in command)
    return [f"{name}{sign}{instead.get(name, value)}" for name, sign, value in parts]


@contextlib.contextmanager
def _replaced(owner: Any, name: str, value: Callable[..., Any]) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)

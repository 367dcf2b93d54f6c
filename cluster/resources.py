"""What a pack asks of a node, and how much of it a cluster has."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

Node = tuple[float, float]
"""CPUs and GPUs of a node that is alive."""

HEADROOM = 1.25
"""What a pack is given beyond the largest share of a GPU's memory that any pack has taken so far."""

CROWD = 16
"""Packs on one GPU at most: each is a process with a context of its own."""


@dataclass(frozen=True)
class Ask:
    """What a pack needs of one node.

    Attributes:
        cpu: CPUs.
        gpu: GPUs: 0, a fraction of one, or 1.
    """

    cpu: float
    gpu: float

    def fits(self, node: Node) -> int:
        """How many such packs a node has room for, whatever it does at the moment."""
        cpus, gpus = node
        packs = math.floor(cpus / self.cpu)
        if self.gpu:  # one pack never has parts of two
            packs = min(packs, math.floor(gpus) * math.floor(1 / self.gpu + 1e-9))
        return packs


def cores(groups: Path = Path("/sys/fs/cgroup")) -> int:
    """CPUs that this process may use: those of the machine, fewer where it is bound to some or in a container.

    Args:
        groups: Where Linux tells the limits of the control group that a container is.
    """
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for names in (["cpu.max"], ["cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"]):  # versions 2 and 1
        with suppress(OSError, ValueError):  # there is no such file, or "max" in it
            quota, period = (int(word) for name in names for word in (groups / name).read_text().split())
            if quota > 0:
                return max(1, min(bound, quota // period))
    return bound


def ask_of(device: str, *, gpu: float | None = None, taken: float = 0.0) -> Ask:
    """What the next pack needs.

    Args:
        device: "cpu" or "cuda".
        gpu: The part of a GPU that the user gives each pack; None decides by what packs took.
        taken: The largest share of a GPU's memory that a pack has taken so far; 0 if none was measured yet, when a
            pack gets a GPU to itself.
    """
    if device != "cuda":
        return Ask(1.0, 0.0)
    if gpu is not None:
        return Ask(1.0, gpu)
    beside = math.floor(1 / (HEADROOM * taken)) if taken > 0 else 1
    return Ask(1.0, 1 / min(CROWD, max(1, beside)))


def room(ask: Ask, nodes: Sequence[Node]) -> int:
    """How many packs a cluster can run at once."""
    return sum(ask.fits(node) for node in nodes)


def refusal(ask: Ask, device: str, nodes: Sequence[Node], *, grows: bool) -> str | None:
    """Why packs can never run on a cluster, with what it has; None if they can.

    Args:
        ask: What each pack needs.
        device: The kind of device that the sweep asks for.
        nodes: The cluster's nodes.
        grows: Whether an autoscaler may add nodes.
    """
    if room(ask, nodes) or grows:
        return None
    each = "; ".join(f"{cpus:g} CPU and {gpus:g} GPU" for cpus, gpus in sorted(nodes, reverse=True)[:8])
    needs = f"{ask.cpu:g} CPU" + (f" and {ask.gpu:g} GPU" if ask.gpu else "")
    return (
        f"execution.device = {device!r}: a pack needs {needs} on one node, and none of the Ray cluster's {len(nodes)} "
        f"nodes has that: {each or 'there are none'}"
    )

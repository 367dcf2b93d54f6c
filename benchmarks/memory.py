"""Peak memory of the driver and of each worker of `manypaths run`, read from /proc while a small sweep runs."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from benchmarks.record import Found, Line

SWEEP = {
    "name": "memory",
    "tasks": ["manifold-d2", "ring8"],
    "methods": ["ns", "ns+gp1", "wgan+gp1", "ns+dragan"],
    "budget": {"steps": 200, "evaluations": 5},
    "space": {"preset": "lucic_wide", "override": {"n_critic": 1}},
    "design": {"kind": "sobol", "points": 64},
}
QUICK = {
    "tasks": ["manifold-d2"],
    "methods": ["ns"],
    "budget": {"steps": 10, "evaluations": 2},
    "design": {"kind": "sobol", "points": 2},
}
EVERY = 0.1
KINDS = {"driver": "driver", "worker": "largest worker", "ray": "largest of Ray's own processes"}


def run(*, quick: bool = False) -> Found:
    sweep = SWEEP | (QUICK if quick else {})
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "sweep.toml")
        file.write_text(toml(sweep))
        command = [sys.executable, "-m", "manypaths", "run", str(file), "--out", str(Path(folder, "run"))]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        peaks: dict[str, dict[int, int]] = defaultdict(dict)
        together = 0
        while process.poll() is None:
            now = 0
            for pid, kind in kinds(process.pid).items():
                peak, proportional = memory(pid)
                peaks[kind][pid] = max(peaks[kind].get(pid, 0), peak)
                now += proportional
            together = max(together, now)
            time.sleep(EVERY)
        if process.returncode:
            raise RuntimeError(f"manypaths run ended with exit code {process.returncode}")
    lines = [Line(f"{words}: peak resident", max(peaks[kind].values()) / 2**20, "MiB") for kind, words in KINDS.items()]
    lines.append(Line("all together, shared pages counted once: peak", together / 2**20, "MiB"))
    trials = len(sweep["tasks"]) * len(sweep["methods"]) * sweep["design"]["points"]
    remark = (
        f"{trials} trials; peaks as the kernel keeps them, read every {EVERY:g} s; workers: Ray's own spares included"
    )
    found = Found(tuple(lines), (remark,), {kind: sorted(peaks[kind].values()) for kind in KINDS})
    found.show()
    return found


def toml(content: dict[str, Any], prefix: str = "") -> str:
    """A sweep file of plain values, one dotted key in each line."""
    return "".join(
        toml(value, f"{prefix}{key}.") if isinstance(value, dict) else f"{prefix}{key} = {json.dumps(value)}\n"
        for key, value in content.items()
    )


def kinds(root: int) -> dict[int, str]:
    """The processes below one, and what each is."""
    parents = {pid: parent for pid in pids() if (parent := parent_of(pid)) is not None}
    found = {root: "driver"}
    grown = True
    while grown:
        children = [pid for pid, parent in parents.items() if parent in found and pid not in found]
        found |= {pid: "worker" if command(pid).startswith("ray::") else "ray" for pid in children}
        grown = bool(children)
    return found


def pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def parent_of(pid: int) -> int | None:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, IndexError):
        return None


def command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def memory(pid: int) -> tuple[int, int]:
    """Peak resident bytes so far, and the proportional share of the resident bytes now; 0 for a process that ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0, 0
    return _kib(status, "VmHWM:") * 1024, _kib(rollup, "Pss:") * 1024


def _kib(text: str, name: str) -> int:
    return next((int(line.split()[1]) for line in text.splitlines() if line.startswith(name)), 0)

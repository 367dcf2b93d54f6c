"""A sweep on three nodes under kills of every kind: the planned trials once each, equal to the bit, and what it costs.

The quiet arm is the same sweep on such nodes without a kill. A kill comes when at least one pack has been finished
since the last one, so every kind comes as often as is asked, whatever the machine's speed.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from benchmarks.memory import toml
from benchmarks.nodes import ENVIRONMENT, Nodes
from benchmarks.record import Found, Line
from cluster.process import processes_below

NODES, KILLS, PACK = 3, 10, 4
PATIENCE = 180.0
"""Seconds without a finished pack after which the next kill comes all the same."""

COMMAND = Path(sys.executable).parent / "manypaths"


def sweep(packs: int) -> dict[str, object]:
    """A sweep of so many small packs: each point is trained by two methods at two n_critic."""
    return {
        "name": "chaos",
        "tasks": ["manifold-d2"],
        "methods": ["ns", "ns+gp1"],
        "budget": {"steps": 60, "evaluations": 6},
        "space": {"preset": "lucic_wide"},
        "design": {"kind": "random", "points": packs * PACK // 4},
        "execution": {"pack": PACK},
    }


class Sweeping:
    """The command that runs the sweep, started again whenever it ends before the sweep does."""

    def __init__(self, file: Path, out: Path, nodes: Nodes) -> None:
        self._command = [COMMAND, "run", file, "--out", out, "--address", nodes.address]
        self._log, self.starts, self.out = out.with_suffix(".log"), 0, out
        self._start()

    def _start(self) -> None:
        self.starts += 1
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command, env=os.environ | ENVIRONMENT, stdout=log, stderr=log, start_new_session=True
            )

    def finished(self) -> bool:
        """Whether the sweep is done; the command is started again if it ended otherwise."""
        code = self.process.poll()
        if code is None:
            return False
        if code != 0:
            time.sleep(1)
            self._start()
        return code == 0

    def end(self) -> None:
        """Leave nothing behind."""
        for pid in [self.process.pid, *processes_below(self.process.pid)]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait()

    def parts(self) -> int:
        return sum(1 for _ in self.out.glob("trials/*.parquet"))

    def log(self) -> str:
        return self._log.read_text(errors="replace")


def kill_worker(sweeping: Sweeping, nodes: Nodes, chance: random.Random) -> bool:
    """A process that trains a pack."""
    busy = []
    for path in sweeping.out.glob("attempts/*.json"):
        note = json.loads(path.read_text())
        if note["outcome"] == "started" and Path(f"/proc/{note['pid']}").exists():
            busy.append(note["pid"])
    return bool(busy) and _kill(chance.choice(busy))


def kill_node(sweeping: Sweeping, nodes: Nodes, chance: random.Random) -> bool:
    """All of a machine's processes; it comes back two seconds later."""
    name = chance.choice(nodes.names())
    nodes.kill(name)
    time.sleep(2)
    nodes.start(name)
    return True


def kill_head(sweeping: Sweeping, nodes: Nodes, chance: random.Random) -> bool:
    """The head, and with it the cluster; a new one comes up at its address."""
    for name in ("head", *nodes.names()):
        nodes.kill(name)
    for name in ("head", *nodes.names()):
        nodes.start(name)
    return True


def kill_command(sweeping: Sweeping, nodes: Nodes, chance: random.Random) -> bool:
    """The command itself."""
    return _kill(sweeping.process.pid)


def kill_driver(sweeping: Sweeping, nodes: Nodes, chance: random.Random) -> bool:
    """The process in which the command talks to Ray."""
    below = processes_below(sweeping.process.pid)
    return bool(below) and _kill(min(below))


KINDS: dict[str, Callable[[Sweeping, Nodes, random.Random], bool]] = {
    "worker": kill_worker,
    "node": kill_node,
    "head": kill_head,
    "command": kill_command,
    "driver": kill_driver,
}


def run(*, quick: bool = False, seed: int = 0) -> Found:
    kills = 1 if quick else KILLS
    packs = 100 if quick else 600
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "sweep.toml")
        file.write_text(toml(sweep(packs)))
        quiet, _, _ = _arm(file, Path(folder, "quiet"), [], seed)
        order = [kind for kind in KINDS for _ in range(kills)]
        random.Random(seed).shuffle(order)
        wild, done, starts = _arm(file, Path(folder, "wild"), order, seed)
        _check(Path(folder, "quiet"), Path(folder, "wild"))
        attempts = Counter(
            json.loads(path.read_text())["outcome"] for path in Path(folder, "wild").glob("attempts/*.json")
        )
    lines = [Line(f"{packs} packs of {PACK} trials, {NODES} nodes, no kills", quiet, "s")]
    lines += [Line(f"killed: {kind}", done[kind], "times", f">= {kills}") for kind in KINDS]
    lines += [
        Line("the same under these kills", wild, "s"),
        Line("under kills, over without", wild / quiet, "x"),
        Line("starts of the command", starts, ""),
        Line("trials planned, there once, and equal to the bit", packs * PACK, "trials"),
    ]
    found = Found(tuple(lines), (f"seed of the kills: {seed}",), {"attempts": dict(attempts)})
    found.show()
    return found


def _arm(file: Path, out: Path, order: list[str], seed: int) -> tuple[float, Counter[str], int]:
    """Wall seconds, kills by kind and starts of the command of one run to the end."""
    chance, done = random.Random(seed), Counter[str]()
    with Nodes(NODES) as nodes:
        begun = time.monotonic()
        sweeping = Sweeping(file, out, nodes)
        try:
            for kind in order:
                _wait_for_a_pack(sweeping, chance)
                while not KINDS[kind](sweeping, nodes, chance):
                    if sweeping.finished():
                        raise RuntimeError(f"the sweep ended before {kind} could be killed: more packs are needed")
                    time.sleep(0.05)
                done[kind] += 1
                print(f"{time.monotonic() - begun:.0f} s: killed {kind}, {sweeping.parts()} packs done", flush=True)
            while not sweeping.finished():
                time.sleep(0.2)
        finally:
            sweeping.end()
        return time.monotonic() - begun, done, sweeping.starts


def _wait_for_a_pack(sweeping: Sweeping, chance: random.Random) -> None:
    before, deadline = sweeping.parts(), time.monotonic() + PATIENCE
    while sweeping.parts() == before and time.monotonic() < deadline:
        if sweeping.finished():
            raise RuntimeError(f"the sweep ended before all kills: more packs are needed\n{sweeping.log()[-2000:]}")
        time.sleep(0.1)
    time.sleep(chance.uniform(0, 1))


def _check(quiet: Path, wild: Path) -> None:
    """Raise unless both hold exactly the planned trials, once each, and the same results."""
    planned = pd.read_parquet(wild / "plan")["trial_id"]
    frames = [
        pd.read_parquet(out / "trials").set_index("trial_id").sort_index().drop(columns="train_seconds")
        for out in (quiet, wild)
    ]
    for frame in frames:
        if sorted(frame.index) != sorted(planned):
            raise AssertionError(f"{len(planned)} trials planned, {len(frame)} rows, {frame.index.nunique()} different")
    pd.testing.assert_frame_equal(*frames, check_exact=True)


def _kill(pid: int) -> bool:
    """Kill a process; False where there is none that lives, for one that is dead already would count twice."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        if state in "ZX":
            return False
        os.kill(pid, signal.SIGKILL)
    except OSError:
        return False
    return True

"""Running packs through Ray Tune, on a local Ray that is started for them or on a cluster that exists.

Tune schedules; it owns no truth. Workers write their rows to the run directory themselves, and what is missing is
planned again from there, so neither a killed worker nor a killed driver loses or repeats anything.

Ray lives in a process of its own (`cluster.driver`): when a raylet or a head dies, Ray may hang or end the process
that it is in. This one keeps the queue, watches that process, and starts another when it is gone.
"""

from __future__ import annotations

import contextlib
import json
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cluster.address import AUTO, cluster_address, fault_at, wait_for
from cluster.process import Process
from cluster.resources import Ask, Node, ask_of, refusal, room
from study.errors import UserError
from study.executor import After, Queue
from study.stopping import SAME_SECONDS, ends_too, requests
from study.store import RunDirectory

START_SECONDS = 180.0
"""A Ray that has not answered after so long is not going to: starting one takes 5 to 20 s on a busy machine."""

SILENCE_SECONDS = 120.0
"""Tune's loop turns ten times a second and says so; after so long without a word it hangs."""

GRACE_SECONDS = 6.0
"""How long a request to stop may take before the driver is killed; `study.stopping` has some time for the rest."""

DEATHS = 3
"""Drivers that may die one after the other without a pack in between."""

LATE_SECONDS = 5.0
"""After so long without a word it is asked whether the head of the cluster is still there."""

ROOMLESS_SECONDS = 300.0
"""How long a cluster that cannot grow may have no node for a pack any more: machines that were lost may come back."""

PACKS_OF_A_DRIVER = 5000
"""Tune keeps 40 kB of each trial for as long as it lives, so a driver is replaced after 200 MB."""

AHEAD = 4
"""Packs beyond what there is room for, and the part of the room that they are at least.

A worker that ends a pack finds the next one waiting. And where workers start anew: Tune gives a worker that is free to
any of the packs that wait, and ends the process that was being started for that one; among few, none would get ready.
"""

KEYS = {
    "ready": {"pids", "nodes", "grows", "address"},
    "beat": {"nodes"},
    "over": {"pack", "fault", "reason", "share"},
    "refused": {"reason"},
}
"""What a driver says, and what belongs to it."""

NONSENSE = "it said something that makes no sense"


class RayTune:
    """Runs packs as trials of one Ray Tune experiment, in reused worker processes."""

    def __init__(
        self,
        *,
        device: str = "cpu",
        workers: int | None = None,
        address: str | None = None,
        data: str | None = None,
        gpu: float | None = None,
        asked: bool = True,
        ahead: Process | None = None,
    ) -> None:
        """Choose where to run.

        Args:
            device: Kind of device that packs ask for, "cpu" or "cuda".
            workers: Packs that train at once at most; None means as many as the nodes of the moment have room for.
            address: Of a cluster, as `cluster.address.cluster_address` reads it; "local", and None where `RAY_ADDRESS`
                is not set, starts a Ray on this machine's loopback and ends it afterwards.
            data: The folder with the user's data sets, on every machine; None for each machine's own setting.
            gpu: The part of a GPU that each pack gets; None decides by the memory that packs take.
            asked: False if nobody asked for the device, which is then what this machine has.
            ahead: A driver's process that was started before, for this address.
        """
        self.device, self.workers, self.address, self.data, self.gpu = device, workers, address, data, gpu
        self.at: str | None = None
        self._ahead = ahead
        self._unsure = not asked and device == "cpu"
        self._taken = 0.0
        self._roomy = time.monotonic()
        self._had_room = False

    def ask(self, *, alone: bool = False) -> Ask:
        """What the next pack asks of a node; `alone` if it did not fit beside others."""
        return ask_of(self.device, gpu=1.0 if alone else self.gpu, taken=self._taken)

    def measured(self, share: float) -> None:
        """Remember the share of a GPU's memory that a pack took."""
        self._taken = max(self._taken, share)

    def room(self, nodes: Sequence[Node]) -> int:
        """How many packs may train at once on some nodes."""
        return self.workers or room(self.ask(), nodes)

    def in_flight(self, most: int) -> int:
        """How many packs to have handed out, where so many may train at once."""
        if self.workers and self.at:
            return most  # others' nodes have room for more: Tune starts whatever was handed out and fits
        return most + max(AHEAD, most // AHEAD) if most else 0

    def run(self, directory: RunDirectory, packs: Sequence[str], *, after: After | None = None) -> None:
        """Run the packs; see `study.executor.Executor`."""
        queue, deaths = Queue(directory, packs, after), 0
        self.at = cluster_address(self.address)
        if self.at not in (None, AUTO) and (fault := fault_at(self.at)):
            raise UserError(f"cannot reach the Ray cluster at {self.at}: {fault}")
        with _signals() as stop:
            while queue.left and not stop:
                before = queue.over
                reason = self._drive(directory, queue, stop)
                deaths = 0 if queue.over > before else deaths + 1
                if reason and not stop:
                    queue.lose(reason)
                    self._recover(queue, deaths, reason, stop)
        if stop:
            raise KeyboardInterrupt(stop[0])

    def _recover(self, queue: Queue, deaths: int, reason: str, stop: list[int]) -> None:
        """See whether it makes sense to go on after a driver was lost."""
        if queue.left and deaths >= DEATHS:
            where = f"the Ray cluster at {self.at}" if self.at else "the local Ray"
            raise UserError(
                f"{where} was lost {deaths} times without a finished pack in between ({reason}): what is finished is "
                "kept, and the same command goes on from there"
            )
        if queue.left and self.at not in (None, AUTO):
            wait_for(self.at, stop, reason)

    def look(self, nodes: Sequence[Node], *, grows: bool) -> None:
        """Look at what a cluster has now.

        Args:
            nodes: Its nodes.
            grows: Whether more may come.

        Raises:
            UserError: If packs cannot run there: at once if they never could, otherwise after a while. At the first
                look also if it has GPUs and nobody said whether to use them.
        """
        now, gpus = time.monotonic(), sum(node[1] for node in nodes)
        if self._unsure and gpus and self.at:
            raise UserError(
                "execution.device = 'auto' is what this machine has, the CPU, but the Ray cluster's nodes have "
                f"{gpus:g} GPUs: say 'cuda' or 'cpu', and take another --out, since packs are made to the device's "
                "measure"
            )
        self._unsure = False
        fault = refusal(self.ask(), self.device, nodes, grows=grows)
        if not fault:
            self._roomy, self._had_room = now, True
        elif not self._had_room or now - self._roomy > ROOMLESS_SECONDS:
            since = f" for {ROOMLESS_SECONDS:.0f} s" if self._had_room else ""
            raise UserError(f"{fault}{since}")

    def _drive(self, directory: RunDirectory, queue: Queue, stop: list[int]) -> str:
        """Let one driver run packs until none is left, it is asked to stop, or it dies; why it ended."""
        settings = {
            "root": directory.root,
            "device": self.device,
            "data": self.data,
            "address": self.at,
            "workers": self.workers,
            "waiting": queue.waiting,
        }
        process, self._ahead = self._ahead or Process(self.at), None
        with contextlib.closing(process), ends_too(process.pid):
            process.begin(settings)
            return _Driver(process).serve(self, queue, stop)


class _Driver:
    """A driver process, seen from here."""

    def __init__(self, process: Process) -> None:
        self._process, self._connection = process, process.connection
        self._heard, self._room, self._pids = time.monotonic(), 0, list[int]()
        self._patience, self._grows, self._handed = START_SECONDS, False, 0

    def serve(self, executor: RayTune, queue: Queue, stop: list[int]) -> str:
        """Hand out packs and note how they end; why that is over."""
        asked: float | None = None
        while queue.left and (queue.running or self._handed < PACKS_OF_A_DRIVER):
            if stop and asked is None:
                asked = time.monotonic()
                self._send({"kind": "stop"})
            if not stop:
                self._hand_out(executor, queue)
            message = self._receive()
            if message is not None and message["kind"] in KEYS:
                self._hear(message, executor, queue)
                continue
            gone = message["kind"] if message else self._missed(asked, executor.at)
            if gone:
                return f"{gone}{self._last_words()}"
        if executor.at:
            self._send({"kind": "end"})
            self._process.wait(GRACE_SECONDS)
        return ""  # a Ray of its own has nothing left to do, and nobody to say good-bye to

    def _hand_out(self, executor: RayTune, queue: Queue) -> None:
        while len(queue.running) < executor.in_flight(self._room) and self._handed < PACKS_OF_A_DRIVER:
            pack = queue.next()
            if pack is None:
                return
            self._handed += 1
            ask = executor.ask(alone=pack in queue.alone)
            self._send({"kind": "pack", "pack": pack, "gpu": ask.gpu, "halvings": queue.halvings[pack]})

    def _hear(self, message: Mapping[str, Any], executor: RayTune, queue: Queue) -> None:
        self._heard, self._patience = time.monotonic(), SILENCE_SECONDS
        if message["kind"] == "refused":
            raise UserError(message["reason"])
        if message["kind"] == "ready":
            self._pids = message["pids"]
            self._grows, executor.at = message["grows"], message["address"]
            executor.look(message["nodes"], grows=self._grows)
        elif message["kind"] == "beat":
            executor.look(message["nodes"], grows=self._grows)
            # where nodes may still come, one pack more than fits shows that they are wanted
            self._room = max(executor.room(message["nodes"]), 1)
        elif message["kind"] == "over":
            executor.measured(message["share"])
            queue.ended(message["pack"], fault=message["fault"], reason=message["reason"])

    def _missed(self, asked: float | None, address: str | None) -> str:
        """Why the driver has to be given up, or nothing."""
        if asked is not None and time.monotonic() - asked > GRACE_SECONDS:
            return "it did not stop when it was asked to"
        if any(_dead(pid) for pid in self._pids):
            return "one of Ray's own processes died"
        silent = time.monotonic() - self._heard
        if silent > self._patience:
            return f"it said nothing for {self._patience:.0f} s"
        if silent > LATE_SECONDS and address not in (None, AUTO) and fault_at(address, seconds=1.0):
            return "its head does not answer"
        return ""

    def _send(self, message: Mapping[str, Any]) -> None:
        with contextlib.suppress(OSError):  # then it is gone, which the next question will tell
            self._connection.send_bytes(json.dumps(message).encode())

    def _receive(self) -> dict[str, Any] | None:
        """A message, or one whose kind is why there will be none any more; None if there is none now."""
        try:
            if not self._connection.poll(0.25):
                return None
            message: dict[str, Any] = json.loads(self._connection.recv_bytes())
            return message if KEYS[message["kind"]] <= message.keys() else {"kind": NONSENSE}
        except (EOFError, OSError):
            return {"kind": "its process ended"}
        except (ValueError, KeyError, TypeError):
            return {"kind": NONSENSE}

    def _last_words(self) -> str:
        with contextlib.suppress(OSError):
            words = self._process.log.read_text(errors="replace")
            lines = [line.strip() for line in words.splitlines() if line.strip()]
            return f"; its last words: {lines[-1][:300]}" if lines else ""
        return ""


def _dead(pid: int) -> bool:
    """Whether a process is gone, or only waits for its parent to notice that it is."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return Path("/proc/self").exists()


@contextlib.contextmanager
def _signals() -> Iterator[list[int]]:
    """The stop signals received so far; a second request raises KeyboardInterrupt."""
    received: list[int] = []
    first = [0.0]

    def handle(number: int, _frame: object) -> None:
        received.append(number)
        if len(received) == 1:
            first[0] = time.monotonic()
        elif time.monotonic() - first[0] > SAME_SECONDS:
            raise KeyboardInterrupt(number)

    if threading.current_thread() is not threading.main_thread():
        yield received  # signals are the main thread's
        return
    before = {number: signal.signal(number, handle) for number in requests()}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

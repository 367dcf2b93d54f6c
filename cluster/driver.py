"""The process that Ray lives in: hands packs to Ray Tune as they are named, and tells how each ended.

It is started by `cluster.tune`, which keeps the queue; they talk in JSON over a socket. To here come `pack`, `end` (no
pack will follow) and `stop`; from here go `ready` and `beat` (with the nodes that the cluster has now), `over` and
`refused`.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import logging
import os
import re
import signal
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from cluster.address import AUTO
from cluster.auth import HOW, not_let_in
from cluster.head import small, use_workers_as_they_are
from cluster.pruning import pruner_of, pruning, question
from cluster.resources import Node, cores
from cluster.scheduling import sparing
from study.errors import UserError

SYSTEM: dict[str, Any] = {
    "preload_python_modules": ["cluster.preloaded"],  # where workers cannot import it, packs will say so
    # workers that wait for Tune, which takes a second or two, are not to be replaced meanwhile
    "idle_worker_killing_time_threshold_ms": 600_000,
}
"""What is asked of a local Ray's own processes."""

OVER = {"done": True}
"""Part of a pack's only report. Without it Tune asks once more, to hear that there is nothing more to report."""

BEAT_SECONDS = 1.0

ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
"""What makes a terminal show colours."""

NAMED = re.compile(r"[\w.]*(Error|Exception|Exit|Interrupt)\b.*")
"""The line of a traceback that says what was raised."""

NO_MEMORY = ("killed due to the node running low on memory", "OutOfMemoryError")
"""What Ray says where its memory monitor ended a worker; of any that was killed it says that it may have been so."""

NODE_GROUP = "ray.io/node-group"
"""The label of a node's type in the configuration of the second autoscaler, which starts none without."""


class Line:
    """The connection to the process that keeps the queue; when that is gone, this process ends."""

    def __init__(self, connection: Connection) -> None:
        """Begin to listen, in a thread of its own."""
        self._connection, self._lock = connection, threading.Lock()
        self.packs: deque[Mapping[str, Any]] = deque()
        self.ended = False
        self._news = threading.Event()
        threading.Thread(target=self._listen, daemon=True, name="line").start()

    def __reduce__(self) -> tuple[Callable[[], Line], tuple[()]]:
        """Tune pickles its callbacks into a state that nobody reads; a connection cannot be, and need not."""
        return _no_line, ()

    def __deepcopy__(self, _: object) -> Line:
        """There is one line."""
        return self

    def send(self, kind: str, **content: object) -> None:
        """Say something; if nobody listens any more, end."""
        try:
            with self._lock:
                self._connection.send_bytes(json.dumps({"kind": kind} | content).encode())
        except OSError:
            os._exit(1)

    def next_pack(self, *, wait: bool, meanwhile: Callable[[], None]) -> Mapping[str, Any] | None:
        """The next pack that was named, or None.

        Args:
            wait: Whether to wait until one is named or none will be.
            meanwhile: Called now and then while waiting.
        """
        while wait and not self.packs and not self.ended:
            meanwhile()
            self._news.wait(BEAT_SECONDS)
            self._news.clear()
        return self.packs.popleft() if self.packs else None

    def _listen(self) -> None:
        while True:
            try:
                message = json.loads(self._connection.recv_bytes())
            except (EOFError, OSError):
                os._exit(1)  # and with it the local Ray, whose processes share its fate
            if message["kind"] == "pack":
                self.packs.append(message)
            elif message["kind"] == "end":
                self.ended = True
            elif message["kind"] == "stop":
                self.packs.clear()
                self.ended = True
                os.kill(os.getpid(), signal.SIGUSR1)  # Tune's own request for a graceful stop
            self._news.set()


def _no_line() -> Line:
    raise RuntimeError("a driver's line cannot be had again")


def main(descriptor: int) -> None:
    """Run packs until there are no more.

    Args:
        descriptor: The file descriptor of the connection, over which it is said what to run.
    """
    gc.disable()  # looking for garbage takes a tenth of the time, again and again, and modules leave none
    # seconds that would otherwise be spent when it is known what to run, and while Ray starts, which is mostly waiting
    tune = threading.Thread(target=importlib.import_module, args=("ray.tune",), daemon=True)
    tune.start()
    connection = Connection(descriptor)
    try:
        settings = json.loads(connection.recv_bytes())
    except (EOFError, OSError):
        os._exit(1)
    line, address = Line(connection), settings["address"]
    fault = connect(settings)
    if fault:
        line.send("refused", reason=fault)
        return
    import ray

    gc.freeze()
    gc.enable()
    if address is None:
        line.send("ready", pids=own_pids(), nodes=nodes(), grows=False, address=None)
    else:
        known = ray.get_runtime_context().gcs_address if address == AUTO else address
        line.send("ready", pids=[], nodes=nodes(), grows=grows(), address=known)
    tune.join()  # two threads that import it may each find the other's half
    fit(line, settings)
    ray.shutdown()


def connect(settings: Mapping[str, Any]) -> str | None:
    """Start a local Ray, or join the cluster; what is wrong, in a sentence, if that cannot be."""
    import ray

    address, scratch = settings["address"], Path(settings["scratch"])
    cpus = settings["workers"] or cores()
    at_once = None
    if settings["device"] == "cpu":
        cpus = at_once = min(cpus, settings["waiting"])
    where: dict[str, Any] = (
        {"address": address}
        if address
        else {
            "address": "local",  # whatever RAY_ADDRESS says
            "num_cpus": cpus,
            "include_dashboard": False,
            "object_store_memory": 80 * 2**20,  # rows do not pass through it
            "_temp_dir": str(scratch / "r"),  # which Ray opens to everybody; what it lies in is its user's alone
            "_system_config": SYSTEM,
        }
    )
    # Ray puts the current folder on its workers' import path, before everything else: let it be an empty one
    empty = scratch / "empty"
    empty.mkdir()
    with contextlib.chdir(empty), contextlib.nullcontext() if address else small(at_once):
        try:
            ray.init(log_to_driver=False, logging_level=logging.ERROR, **where)
        except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
            return _refused(address, str(error))
    return None


def _refused(address: str | None, words: str) -> str:
    """Why Ray did not begin, in a sentence."""
    reason = next((line.strip() for line in words.splitlines() if line.strip()), "Ray does not say why")[:300]
    if address is None and "AF_UNIX path" in reason:
        return (
            f"cannot start a local Ray: {tempfile.gettempdir()}, the folder for temporary files, has too long a name "
            "for Ray's sockets: set TMPDIR to a folder with a shorter one, such as /tmp"
        )
    if address is None:
        return f"cannot start a local Ray: {reason}"
    if "authentication" in reason:
        return f"cannot join the Ray cluster at {address}: {reason.split('. ')[0].rstrip('.')}: {HOW}"
    if "Failed to connect" in reason:
        return (
            f"cannot join the Ray cluster at {address}: somebody answers there, but does not let this process in; "
            f"{not_let_in()}"
        )
    return f"cannot join the Ray cluster at {address}: {reason}"


def nodes() -> list[Node]:
    """The nodes that are alive; empty if this machine's is not, without which nothing goes on."""
    import ray

    alive = [node for node in ray.nodes() if node["Alive"]]
    if not any(node["NodeID"] == ray.get_runtime_context().get_node_id() for node in alive):
        sys.exit("the Ray node of this machine was lost")  # Tune would wait for ever
    return [(node["Resources"].get("CPU", 0.0), node["Resources"].get("GPU", 0.0)) for node in alive]


def grows(patience: float = 15.0) -> bool:
    """Whether an autoscaler watches over the cluster and may add nodes.

    Every cluster has Ray's monitor, which only looks on where the nodes were started by hand; then it calls each node's
    type `node_` and its id (`ray.autoscaler._private.util.format_readonly_node_type`).

    Args:
        patience: Seconds to wait for the first report of the monitor, which comes some seconds after its cluster.
    """
    import ray
    from ray.autoscaler.v2.utils import is_autoscaler_v2
    from ray.experimental.internal_kv import _internal_kv_get

    if is_autoscaler_v2(fetch_from_server=True):
        return any(node["Labels"].get(NODE_GROUP) for node in ray.nodes())
    end, kinds, status = time.monotonic() + patience, dict[str, int](), None
    while not kinds and time.monotonic() < end:
        status = _internal_kv_get("__autoscaling_status")
        kinds = json.loads(status or "{}").get("autoscaler_report", {}).get("active_nodes", {})
        time.sleep(0 if kinds else 0.2)
    return status is not None and not (kinds and all(kind.startswith("node_") for kind in kinds))


def own_pids() -> list[int]:
    """Process ids of the local Ray, without which nothing goes on."""
    from ray._private.worker import _global_node

    kinds: dict[str, list[Any]] = _global_node.all_processes if _global_node else {}
    return [entry.process.pid for kind in ("gcs_server", "raylet") for entry in kinds.get(kind, [])]


def fit(line: Line, settings: Mapping[str, Any]) -> None:
    """Let Tune run packs as they come, each a trial."""
    from ray import tune
    from ray.tune.search import Searcher

    class Packs(Searcher):
        """Suggests the packs in the order in which they were named."""

        def suggest(self, trial_id: str) -> Any:
            # while nothing runs, Tune would sleep for a second, and hear nothing
            message = line.next_pack(wait=not flying, meanwhile=beat)
            if message is None:
                return Searcher.FINISHED if line.ended else None
            flying.add(message["pack"])
            return {name: message[name] for name in ("pack", "gpu", "halvings")}

        def on_trial_complete(self, *_: object, **__: object) -> None: ...

        def save(self, *_: object) -> None: ...

        def restore(self, *_: object) -> None: ...

    class Told(tune.Callback):
        """Tells how trials end."""

        def on_step_begin(self, *_: object, **__: object) -> None:
            beat()

        def on_trial_complete(self, iteration: int, trials: Sequence[Any], trial: Any, **__: object) -> None:
            result = trial.last_result or {}
            found = {
                "fault": result.get("fault"),
                "reason": result.get("reason", ""),
                "share": result.get("share", 0.0),
            }
            over(trial, **found)

        def on_trial_error(self, iteration: int, trials: Sequence[Any], trial: Any, **__: object) -> None:
            fault, reason = why(trial.error_file)
            over(trial, fault=fault, reason=reason, share=0.0)

    def over(trial: Any, **found: object) -> None:
        flying.discard(trial.config["pack"])
        line.send("over", pack=trial.config["pack"], **found)

    use_workers_as_they_are(small=settings["address"] is None)
    outlive_system_errors()
    settings = {**settings, "pruner": pruner_of(settings["root"])}
    beat, flying = _beat(line), set[str]()
    tuner = tune.Tuner(
        tune.with_resources(
            trainable(settings),
            lambda config: tune.PlacementGroupFactory([{"CPU": 1} | ({"GPU": config["gpu"]} if config["gpu"] else {})]),
        ),
        tune_config=tune.TuneConfig(
            search_alg=Packs(),
            scheduler=pruning(sparing(), settings["pruner"]),
            num_samples=-1,
            reuse_actors=True,
            trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=tune.RunConfig(
            name="packs", storage_path=str(Path(settings["scratch"], "tune")), verbose=0, callbacks=[Told()]
        ),
    )
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # `attempts` says what happened to packs
    tuner.fit()


def outlive_system_errors() -> None:
    """Have Tune take whatever Ray's system says of a worker for that worker's end, which fails one trial.

    It knows errors of a worker and of its code. A worker that the memory monitor ends as it begins is reported by an
    error of neither kind, from which Tune ends the whole experiment.
    """
    from ray.air.execution._internal import actor_manager
    from ray.exceptions import RayActorError, RayError, RayTaskError

    managers: Any = actor_manager.RayActorManager
    failed = managers._actor_task_failed

    def told(manager: Any, tracked_actor_task: Any, exception: Exception) -> None:
        if isinstance(exception, RayError) and not isinstance(exception, RayActorError | RayTaskError):
            exception = RayActorError(error_msg=str(exception))
        failed(manager, tracked_actor_task, exception)

    managers._actor_task_failed = told


def trainable(settings: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """Tune's trainable: one pack, one report. An error of the pack's own is a report too, so Tune's are Ray's."""
    root, device, data = settings["root"], settings["device"], settings["data"]

    def train_pack(config: Mapping[str, Any]) -> dict[str, Any]:
        shares = 0 < config["gpu"] < 1
        try:
            from study import worker  # and torch, which the driver does without
        except Exception as error:  # noqa: BLE001 - what a node lacks is to be read, not Ray's account of it
            return OVER | {"fault": "failed", "reason": f"{type(error).__name__}: {error}"}
        try:
            stop = None if settings["pruner"] is None else question(config["pack"])
            how = {"halvings": config["halvings"], "may_halve": not shares, "stop": stop}
            done = worker.run_pack(root, config["pack"], device=device, data=data, **how)
        except Exception as error:  # noqa: BLE001 - the attempt's note has it, and the sweep goes on
            fault = "crowded" if shares and worker.out_of_memory(error) else fault_of(root, error)
            return OVER | {"fault": fault, "reason": f"{type(error).__name__}: {error}"}
        return OVER | {"share": done.share}

    return train_pack


def fault_of(root: str, error: Exception) -> str:
    """The kind of fault of an error that ended a pack: "storage" if the run directory's fails, otherwise "failed"."""
    if not isinstance(error, OSError | UserError):
        return "failed"
    from study.store import RunDirectory
    from study.worker import storage_fault

    try:
        return "storage" if storage_fault(RunDirectory(root), error) else "failed"
    except UserError:  # it cannot even be opened, which whoever sent the pack could
        return "storage"


def why(file: str | None) -> tuple[str, str]:
    """The kind of fault, and a line about it, from what Tune wrote of a trial that Ray lost."""
    text = ""
    with contextlib.suppress(OSError, TypeError):
        text = ESCAPES.sub("", Path(file or "").read_text(errors="replace"))
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("Failure #")]
    named = [line for line in lines if NAMED.match(line)] if "Traceback (most recent call last)" in text else []
    fault = "memory" if any(words in text for words in NO_MEMORY) else "killed"
    return fault, ([*named[-1:], *lines, "Ray lost it without a word"])[0][:300]


def _beat(line: Line) -> Callable[[], None]:
    """Tells now and then that this process is alive, and what the cluster has."""
    last = [-BEAT_SECONDS]

    def beat() -> None:
        now = time.monotonic()
        if now - last[0] >= BEAT_SECONDS:
            last[0] = now
            line.send("beat", nodes=nodes())

    return beat

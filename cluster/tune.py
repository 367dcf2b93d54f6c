"""Running packs through Ray Tune, on a local Ray that it starts itself or on a cluster that exists.

Tune schedules; it owns no truth. Workers write their rows to the run directory themselves, and what is missing is
planned again from there, so neither a killed worker nor a killed driver loses or repeats anything.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import os
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from study.errors import UserError
from study.store import RunDirectory

CONNECT_SECONDS = 5.0

ROUNDS = 3
"""How often a pack is tried. Tune's own retries are not used: it counts the death of a reused worker twice or more."""

SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # half of Tune's cost per trial and most of its memory growth; rows do not pass through Tune
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    # Tune's own handler would swallow the signal; ours remembers it
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
}
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""On Linux, Ray replaces 127.0.0.1 by the outward address unless this is set."""


def train_pack(config: Mapping[str, Any]) -> dict[str, int]:
    """Tune's trainable: one pack, one report."""
    from study.worker import run_pack  # and torch, which the driver does without

    return dict(run_pack(config["root"], config["pack"], device=config["device"], data=config["data"]))


class RayTune:
    """Runs packs as trials of one Ray Tune experiment, in reused worker processes."""

    def __init__(
        self,
        *,
        device: str = "cpu",
        workers: int | None = None,
        address: str | None = None,
        data: str | None = None,
    ) -> None:
        """Choose where to run.

        Args:
            device: Kind of device that packs ask for; "cuda" takes a whole GPU each.
            workers: Packs in flight; None means one for each CPU, or GPU, that Ray has.
            address: HOST:PORT of a cluster; None starts a Ray on this machine's loopback and ends it afterwards.
            data: The folder with the user's data sets, on every machine; None for each machine's own setting.
        """
        self.device, self.workers, self.address, self.data = device, workers, address, data

    def run(self, directory: RunDirectory, packs: Sequence[str]) -> None:
        """Run the packs; see `study.executor.Executor`."""
        os.environ.update(SETTINGS)
        with contextlib.ExitStack() as stack:
            scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mp", ignore_cleanup_errors=True)))
            stack.enter_context(_ray(self.address, self.workers, scratch, len(packs)))
            storage = Path(directory.root, "ray") if directory.local else scratch / "tune"
            stop = stack.enter_context(_graceful_stop())
            for _ in range(ROUNDS):
                shutil.rmtree(storage, ignore_errors=True)
                self._fit(directory, packs, storage)
                done = set(directory.parts("trials"))
                packs = [pack for pack in packs if pack not in done]
                if stop or not packs:
                    break
        if stop:
            raise KeyboardInterrupt(stop[0])

    def _fit(self, directory: RunDirectory, packs: Sequence[str], storage: Path) -> None:
        import ray
        from ray import tune

        resource = "GPU" if self.device == "cuda" else "CPU"
        available = int(ray.cluster_resources().get(resource, 0))
        if not available:
            raise UserError(f"execution.device = {self.device!r}: the Ray cluster has no {resource}")
        workers = min(self.workers or available, available)
        resources: dict[str, float] = {"cpu": 1, "gpu": 1} if self.device == "cuda" else {"cpu": 1}
        tuner = tune.Tuner(
            tune.with_resources(train_pack, resources),
            param_space={
                "root": directory.root,
                "device": self.device,
                "data": self.data,
                "pack": tune.grid_search(list(packs)),
            },
            tune_config=tune.TuneConfig(
                reuse_actors=True, max_concurrent_trials=workers, trial_dirname_creator=lambda trial: trial.trial_id
            ),
            run_config=tune.RunConfig(
                name="packs",
                storage_path=str(storage),
                verbose=0,
            ),
        )
        # standard output is data, and Tune prints tables there whatever `verbose` says
        with contextlib.redirect_stdout(io.StringIO()):
            tuner.fit()


@contextlib.contextmanager
def _ray(address: str | None, workers: int | None, scratch: Path, packs: int) -> Iterator[None]:
    if address is None or address.startswith(("127.", "localhost")):
        os.environ.update(LOOPBACK)
    if address is not None:
        _check_reachable(address)
    import ray

    # a second or two that would otherwise be spent after Ray has started, for which init only waits
    threading.Thread(target=importlib.import_module, args=("ray.tune",), daemon=True).start()
    if ray.is_initialized():  # somebody else's: use it and leave it
        yield
        return
    common: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    local: dict[str, Any] = {
        "num_cpus": min(workers or os.cpu_count() or 1, packs),
        "include_dashboard": False,
        "object_store_memory": 80 * 2**20,  # rows do not pass through it
        "_temp_dir": str(scratch),
    }
    # Ray puts the current folder on its workers' import path, before everything else: let it be an empty one
    empty = scratch / "empty"
    empty.mkdir()
    with contextlib.chdir(empty):
        try:
            ray.init(**(common | ({"address": address} if address else local)))
        except (ConnectionError, RuntimeError, ValueError) as error:
            where = f"the Ray cluster at {address}" if address else "a local Ray"
            raise UserError(f"cannot reach {where}: {str(error).splitlines()[0]}") from None
    # what happens to packs is told by `attempts` and in our own words
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        ray.shutdown()


def _check_reachable(address: str) -> None:
    """Knock at a cluster's door: Ray itself would try for minutes before it says anything."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise UserError(f"--address {address}: must be HOST:PORT of a Ray head, e.g. 10.0.0.1:6379")
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise UserError(f"cannot reach the Ray cluster at {address}: {error}") from None


@contextlib.contextmanager
def _graceful_stop() -> Iterator[list[int]]:
    """Turn the first SIGINT or SIGTERM into Tune's graceful stop, the second into a KeyboardInterrupt.

    Installed after ray.init, which puts its own SIGTERM handler in place; yields the list of signals received.
    """
    received: list[int] = []

    def handle(number: int, _frame: object) -> None:
        received.append(number)
        tune_listens = callable(signal.getsignal(signal.SIGUSR1))
        if len(received) > 1 or not tune_listens:
            raise KeyboardInterrupt(number)
        signal.raise_signal(signal.SIGUSR1)

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

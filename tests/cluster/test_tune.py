"""Packs through a real local Ray: the same rows as in this process, listeners on loopback, failures survived."""

import os
import socket
from pathlib import Path
from types import SimpleNamespace

import pytest

from cluster.process import processes_below
from cluster.tune import RayTune
from study.executor import InProcess
from study.plan import expand
from study.progress import live
from study.spec import parse_sweep
from study.store import RunDirectory
from study.sweep_run import run_sweep
from study.user_files import provide

pytestmark = [
    # Ray leaves sockets and files to the end of the process
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::FutureWarning"),
    pytest.mark.timeout(300),
]

MINE = b"""
from study.metrics.samples import energy_distance
from study.tasks.base import Task

points = Task(
    shape=(1,),
    draws=1,
    sample=lambda uniforms: uniforms.round(),
    evaluate=lambda at: {"m_n64": energy_distance(at.samples, at.samples.new_tensor([[0.0], [1.0]]))},
    evaluation_samples=64,
    metrics=("m_n64",),
    primary="m_n64",
    threshold=0.05,
    anchors=(0.01, 1.0),
)
"""


def sweep(**changes):
    raw = {
        "name": "small",
        "tasks": ["manifold-d2"],
        "methods": ["ns", "ns+gp1"],
        "budget": {"steps": 10, "evaluations": 2},
        "space": {"preset": "lucic_wide"},
        "design": {"points": 4},
        "execution": {"pack": 4},
    }
    return parse_sweep(raw | changes, source="test")


def run(root, spec, executor):
    directory = RunDirectory(root)
    prepared, tally = run_sweep(directory, spec, expand(spec), executor, watch=live, say=print)
    return directory, prepared, tally


def results(directory):
    frame = directory.read_table("trials").to_pandas().set_index("trial_id").sort_index()
    return frame.drop(columns="train_seconds")


def listening_addresses():
    """Local addresses on which this process and its descendants listen."""
    inodes = set()
    for pid in processes_below(os.getpid()) | {os.getpid()}:
        for link in Path(f"/proc/{pid}/fd").glob("*"):
            try:
                target = str(link.readlink())
            except OSError:
                continue
            if target.startswith("socket:["):
                inodes.add(target[8:-1])
    addresses = set()
    for table, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                packed = bytes.fromhex(fields[1].split(":")[0])
                words = b"".join(packed[i : i + 4][::-1] for i in range(0, len(packed), 4))
                addresses.add(socket.inet_ntop(family, words))
    return addresses


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="reads Linux's /proc")
def test_ray_gives_the_same_rows_as_this_process_and_listens_on_loopback_only(tmp_path, capsys, monkeypatch):
    provide("mine.py", MINE)  # to this process alone: workers have to find it in the run directory
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    spec, executor, addresses = sweep(tasks=["manifold-d2", "mine.py:points"]), RayTune(workers=2), set()
    real = executor.measured  # told after each pack, while Ray is up
    monkeypatch.setattr(executor, "measured", lambda share: (addresses.update(listening_addresses()), real(share)))
    directory, prepared, tally = run(tmp_path / "a run", spec, executor)
    assert addresses
    assert addresses <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
    assert not (tmp_path / "home").exists()  # where Ray would leave a token that other Rays then ask for
    written = {path for path in (tmp_path / "a run").rglob("*") if path.is_file()}
    assert {path.suffix for path in written} == {".json", ".parquet", ".py", ".toml"}  # nothing pickled
    assert tally.done == tally.planned == len(expand(spec)) == 32
    assert len(prepared.missing) == 8
    assert capsys.readouterr().out == ""
    here, _, _ = run(tmp_path / "here", spec, InProcess())
    assert results(directory).equals(results(here))
    _, again, _ = run(tmp_path / "a run", spec, executor)
    assert again.missing == ()


def test_what_the_system_says_of_a_worker_ends_one_trial_and_not_tune(monkeypatch):
    from ray.air.execution._internal import actor_manager
    from ray.exceptions import NodeDiedError, OutOfMemoryError, RayActorError

    from cluster.driver import outlive_system_errors

    manager = actor_manager.RayActorManager
    monkeypatch.setattr(manager, "_actor_task_failed", manager._actor_task_failed)
    outlive_system_errors()
    told = []
    actor = SimpleNamespace(actor_id="one", _on_error=None)
    task = SimpleNamespace(_tracked_actor=actor, _on_error=lambda _, error: told.append(error))
    stub = SimpleNamespace(_failed_actor_ids=set(), _cleanup_actor=lambda tracked_actor: None)
    known = RayActorError(error_msg="it died")
    for error in (OutOfMemoryError("low on memory"), NodeDiedError("no node"), known):
        manager._actor_task_failed(stub, task, error)
    assert [str(error) for error in told] == ["low on memory", "no node", "it died"]
    assert all(isinstance(error, RayActorError) for error in told)
    assert told[-1] is known
    with pytest.raises(RuntimeError, match="surprise"):
        manager._actor_task_failed(stub, task, ValueError("surprise"))

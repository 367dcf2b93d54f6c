"""What clusters do, done: workers, nodes and heads killed, slowed and added, GPUs asked for. Real Rays on loopback."""

import collections
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from cluster.tune import RayTune
from study import executor
from study.errors import UserError
from tests.cluster.rays import BIN, Nodes, Pretended, below, until

ROOT = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.faults,
    pytest.mark.timeout(240),
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds processes in Linux's /proc"),
]


class Sweep:
    """Packs that run through Ray in a thread; `lines` is what the executor's drivers said last."""

    def __init__(self, pretended, count, **options):
        self.packs = [f"p{i:02d}" for i in range(count)]
        self.over, self.error = [], None
        self.executor = RayTune(**options)
        self._pretended = pretended
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        try:
            self.executor.run(self._pretended.directory, self.packs, after=lambda pack: self.over.append(pack) or ())
        except BaseException as error:  # noqa: BLE001 - for the test to look at
            self.error = error

    def reaches(self, count, seconds=90):
        """Wait until so many packs are over."""
        until(lambda: len(self.over) >= count or not self._thread.is_alive(), seconds)
        assert self.error is None
        assert len(self.over) >= count

    def end(self, seconds=120):
        self._thread.join(seconds)
        assert not self._thread.is_alive()
        return self.error

    @property
    def waits(self):
        """Whether it is not over."""
        return self._thread.is_alive() and self.error is None

    def ends_well(self, seconds=120):
        """Each pack was over once, and came to its end at least once."""
        error = self.end(seconds)
        assert error is None, error
        assert sorted(self.over) == self.packs
        assert set(self._pretended.ended) == set(self.packs)


@pytest.fixture(scope="module")
def cluster(stand_in):
    """A head that trains nothing, a node with a CPU, and one with two CPUs and a GPU; no test takes any away."""
    nodes = Nodes(os.environ | {"PYTHONPATH": str(stand_in)})
    try:
        nodes.start(1, cpus=0)
        nodes.start(2, cpus=1)
        nodes.start(3, cpus=2, gpus=1)
        yield nodes
    finally:
        nodes.close()


@pytest.fixture
def own_cluster(stand_in):
    """A cluster to be broken: nothing but a head that trains nothing."""
    nodes = Nodes(os.environ | {"PYTHONPATH": str(stand_in)})
    try:
        nodes.start(1, cpus=0)
        yield nodes
    finally:
        nodes.close()


def running(pretended):
    """The notes of packs that are at it now."""
    return [note for note in pretended.ran if "ended" not in note and Path(f"/proc/{note['pid']}").exists()]


def at_once(notes):
    """How many packs that came to their end ran at the same time at most."""
    notes = [note for note in notes if "ended" in note]
    steps = sorted([(note["begun"], 1) for note in notes] + [(note["ended"], -1) for note in notes])
    most = count = 0
    for _, step in steps:
        count += step
        most = max(most, count)
    return most


# --- workers and nodes


def test_a_killed_worker_costs_one_try_of_one_pack(cluster, pretended):
    pretended.wish(seconds=0.7)
    sweep = Sweep(pretended, 12, address=cluster.address)
    sweep.reaches(2)
    victim = until(lambda: running(pretended))[0]
    os.kill(victim["pid"], signal.SIGKILL)
    sweep.ends_well()
    (pack,) = pretended.attempts
    assert [outcome for outcome, _ in pretended.attempts[pack]] == ["killed"]
    assert sum(note["pack"] == pack for note in pretended.ran) == 2


def test_a_pack_that_always_kills_its_worker_is_given_up_and_the_others_are_not(cluster, pretended, monkeypatch):
    monkeypatch.setattr(executor, "REST_SECONDS", 0.01)
    pretended.wish(p00={"dies": True}, p01={"fails": True})
    sweep = Sweep(pretended, 5, address=cluster.address)
    assert sweep.end() is None
    assert sorted(sweep.over) == sweep.packs
    assert set(pretended.ended) == {"p02", "p03", "p04"}
    tries = collections.Counter(note["pack"] for note in pretended.ran)
    assert (tries["p00"], tries["p01"]) == (8, 3)
    assert len(pretended.attempts["p00"]) == 8


def test_no_more_packs_than_workers_train_at_once_on_a_cluster_with_more_room(cluster, pretended):
    pretended.wish(seconds=0.7)
    sweep = Sweep(pretended, 6, address=cluster.address, workers=1)
    sweep.ends_well()
    assert at_once(pretended.ran) == 1


def test_a_slow_node_is_borne_and_its_packs_are_there_once(cluster, pretended):
    pretended.wish(seconds=1.0)
    sweep = Sweep(pretended, 12, address=cluster.address)
    sweep.reaches(1)
    node = cluster.processes[2].pid
    pids = [*below(node)]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(8)
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    sweep.ends_well()


def test_a_node_that_joins_late_is_used_and_one_that_dies_is_done_without(own_cluster, pretended):
    own_cluster.start(2, cpus=1)
    pretended.wish(seconds=1.5)
    sweep = Sweep(pretended, 40, address=own_cluster.address)
    sweep.reaches(2)
    own_cluster.start(3, cpus=1)
    (new,) = own_cluster.pids(3, "raylet")
    until(lambda: any(note["parent"] == new and "ended" in note for note in pretended.ran))
    busy = until(lambda: [note for note in running(pretended) if note["parent"] == new])[0]
    os.kill(new, signal.SIGKILL)
    sweep.ends_well()
    assert all(note["parent"] != new for note in pretended.ran if note["begun"] > busy["begun"] + 20)


def test_without_the_head_it_ends_in_one_sentence_and_goes_on_with_another(own_cluster, pretended):
    own_cluster.start(2, cpus=1)
    pretended.wish(seconds=0.5)
    sweep = Sweep(pretended, 40, address=own_cluster.address)
    sweep.reaches(2)
    began = time.monotonic()
    own_cluster.lose(1)
    error = sweep.end()
    assert isinstance(error, UserError)
    assert f"the Ray cluster at {own_cluster.address} was lost" in str(error)
    assert "has not come back (Connection refused): what is finished is kept, and the same command goes on" in str(
        error
    )
    assert "\n" not in str(error)
    assert time.monotonic() - began < 90
    kept = set(pretended.ended)
    own_cluster.close()
    own_cluster.start(1, cpus=1)
    again = Sweep(pretended, 0, address=own_cluster.address)
    assert again.end() is None
    rest = [pack for pack in sweep.packs if pack not in kept][:4]
    again.executor.run(pretended.directory, rest)
    assert set(pretended.ended) == kept | set(rest)


def test_a_head_that_is_started_again_is_gone_on_with(own_cluster, pretended):
    own_cluster.start(2, cpus=1)
    pretended.wish(seconds=1.0)
    sweep = Sweep(pretended, 10, address=own_cluster.address)
    sweep.reaches(2)
    own_cluster.close()
    own_cluster.start(1, cpus=1)
    sweep.ends_well()


# --- a cut network


ALONE = ["unshare", "--pid", "--net", "--mount", "--mount-proc", "--fork", "--kill-child"]
WIRED = """
set -eu
ip link set lo up
mount -t tmpfs none /run
ip netns add far
ip link add near type veth peer name end netns far
ip address add 10.0.0.1/24 dev near
ip link set near up
ip -n far address add 10.0.0.2/24 dev end
ip -n far link set end up
ip -n far link set lo up
exec "$@"
"""
CUT = """
import os, subprocess, sys, threading, time
from pathlib import Path
from cluster.tune import RayTune
from rays import Pretended, until
ray, root, cut = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3])
def node(*arguments, before=()):
    command = [*before, ray, "start", "--block", *arguments, "--object-store-memory=80000000"]
    with (root / "nodes").open("a") as log:
        subprocess.Popen(command, stdout=log, stderr=log)
node("--head", "--port=6379", "--node-ip-address=10.0.0.1", "--num-cpus=1", "--include-dashboard=false",
     "--temp-dir=" + sys.argv[4])
until(lambda: "will now block" in (root / "nodes").read_text())
node("--address=10.0.0.1:6379", "--node-ip-address=10.0.0.2", "--num-cpus=1", before=["ip", "netns", "exec", "far"])
until(lambda: (root / "nodes").read_text().count("will now block") == 2)
pretended = Pretended(root)
pretended.wish(seconds=1.5)
over, packs = [], [f"p{i}" for i in range(24)]
def disturb():
    until(lambda: len({note["parent"] for note in pretended.ran}) == 2)
    subprocess.run(["ip", "-n", "far", "link", "set", "end", "down"], check=True)
    time.sleep(cut)
    subprocess.run(["ip", "-n", "far", "link", "set", "end", "up"], check=True)
threading.Thread(target=disturb, daemon=True).start()
RayTune(address="10.0.0.1:6379").run(pretended.directory, packs, after=lambda pack: over.append(pack) or ())
assert sorted(over) == sorted(packs), over
assert set(pretended.ended) == set(packs), pretended.attempts
assert len({note["parent"] for note in pretended.ran}) == 2
print("all well")
"""


def can_be_alone():
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        return False
    return subprocess.run([*ALONE, "bash", "-c", WIRED, "bash", "true"], capture_output=True).returncode == 0


@pytest.mark.skipif(not can_be_alone(), reason="needs namespaces: unshare --pid --net --mount, and ip netns")
@pytest.mark.parametrize("seconds", [5, 100], ids=["that heals", "for long"])
def test_a_cut_network_is_borne(pretended, seconds):
    with tempfile.TemporaryDirectory(prefix="mp", ignore_cleanup_errors=True) as scratch:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        path = os.pathsep.join([kept["PYTHONPATH"], str(ROOT), str(Path(__file__).parent)])
        command = [sys.executable, "-c", CUT, str(BIN / "ray"), str(pretended.root), str(seconds), scratch]
        done = subprocess.run(
            [*ALONE, "bash", "-c", WIRED, "bash", *command],
            env=kept | {"PYTHONPATH": path, "HOME": scratch, "RAY_USAGE_STATS_ENABLED": "0"},
            capture_output=True,
            text=True,
            timeout=220,
        )
    assert (done.returncode, done.stdout) == (0, "all well\n"), done.stderr


# --- GPUs, logical ones: Ray counts them and hands them out as it does real ones


def places(cluster):
    return {cluster.pids(number, "raylet")[0]: number for number in cluster.processes}


def test_gpu_packs_run_on_gpu_nodes_one_on_each(cluster, pretended):
    pretended.wish(seconds=0.5)
    sweep, place = Sweep(pretended, 4, address=cluster.address, device="cuda"), places(cluster)
    sweep.ends_well()
    assert {(place[note["parent"]], note["cuda"], note["device"]) for note in pretended.ran} == {(3, "0", "cuda")}
    assert at_once(pretended.ran) == 1
    assert all(note["may_halve"] for note in pretended.ran)


def test_half_a_gpu_each_is_two_packs_at_once(cluster, pretended):
    pretended.wish(seconds=1.0)
    sweep, place = Sweep(pretended, 8, address=cluster.address, device="cuda", gpu=0.5), places(cluster)
    sweep.ends_well()
    assert {(place[note["parent"]], note["cuda"]) for note in pretended.ran} == {(3, "0")}
    assert at_once(pretended.ran) == 2
    assert not any(note["may_halve"] for note in pretended.ran)


def test_packs_share_a_gpu_once_one_was_measured_and_a_large_one_gets_it_alone(cluster, pretended):
    pretended.wish(seconds=1.0, share=0.3, p07={"crowded": True})
    sweep = Sweep(pretended, 14, address=cluster.address, device="cuda")
    sweep.ends_well()
    assert at_once(pretended.ran) == 2
    assert pretended.ran[0]["may_halve"]
    tries = [note["may_halve"] for note in pretended.ran if note["pack"] == "p07"]
    assert tries in ([False, True], [True])
    assert len(pretended.attempts["p07"]) == len(tries) - 1


def test_what_the_cluster_cannot_give_is_refused_at_once(own_cluster, pretended):
    began = time.monotonic()
    error = Sweep(pretended, 2, address=own_cluster.address, device="cuda").end()
    assert isinstance(error, UserError)
    assert "a pack needs 1 CPU and 1 GPU on one node" in str(error)
    assert "1 nodes has that: 0 CPU and 0 GPU" in str(error)
    assert time.monotonic() - began < 60
    assert pretended.ran == []


def test_a_node_gives_packs_only_the_gpus_that_it_was_shown(stand_in, pretended):
    nodes = Nodes(os.environ | {"PYTHONPATH": str(stand_in), "CUDA_VISIBLE_DEVICES": "1,3"})
    try:
        nodes.start(1, cpus=2, gpus=2)
        pretended.wish(seconds=1.0)
        Sweep(pretended, 6, address=nodes.address, device="cuda").ends_well()
    finally:
        nodes.close()
    assert {note["cuda"] for note in pretended.ran} == {"1", "3"}
    assert at_once(pretended.ran) == 2


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_local_ray_counts_what_cuda_visible_devices_shows(pretended, monkeypatch, device):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    sweep = Sweep(pretended, 2, device=device, workers=1)
    error = sweep.end()
    if device == "cuda":
        assert "and 0 GPU" in str(error)
    else:
        assert error is None
        assert {note["cuda"] for note in pretended.ran} == {""}


# --- a cluster that grows

HEAD = "fffffffffffffffffffffffffffffffffffffffffffffffffff00000"
NOTHING = {"auth": {}, "docker": {}, "file_mounts": {}, "file_mounts_sync_continuously": False}
NOTHING |= {"initialization_commands": [], "setup_commands": [], "cluster_synced_files": [], "rsync_exclude": []}
NOTHING |= {f"{kind}_{what}_commands": [] for kind in ("head", "worker") for what in ("setup", "start_ray")}
GROWING = NOTHING | {
    "cluster_name": "fake",
    "max_workers": 1,
    "rsync_filter": [],
    "provider": {"type": "fake_multinode", "use_node_id_as_ip": True},
    "available_node_types": {
        "small": {"resources": {"CPU": 1}, "node_config": {}, "min_workers": 0, "max_workers": 1},
        "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
    },
    "head_node_type": "ray.head.default",
    "upscaling_speed": 1.0,
    "idle_timeout_minutes": 5,
}


def test_where_an_autoscaler_watches_packs_wait_and_ask_for_nodes(pretended, stand_in):
    own = {"AUTOSCALER_UPDATE_INTERVAL_S": "1", "RAY_FAKE_CLUSTER": "1", "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD}
    nodes = Nodes(os.environ | {"PYTHONPATH": str(stand_in)}, **own)
    try:
        (nodes.scratch / "config.json").write_text(json.dumps(GROWING))
        nodes.start(1, f"--autoscaling-config={nodes.scratch / 'config.json'}", cpus=0)
        sweep = Sweep(pretended, 3, address=nodes.address)
        log = nodes.scratch / "r/session_latest/logs/monitor.log"
        until(lambda: "new nodes for launch" in log.read_text())
        assert sweep.waits
    finally:
        nodes.close()
    sweep.end()


# --- addresses and tokens


def test_ray_address_and_auto_find_the_cluster(cluster, pretended, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    Sweep(pretended, 1).ends_well()
    place = places(cluster)
    assert {place.get(note["parent"]) for note in pretended.ran} <= {2, 3}
    Sweep(Pretended(pretended.root), 1, address="auto").ends_well()


def test_a_local_ray_is_a_local_ray_whatever_ray_address_says(cluster, pretended, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    Sweep(pretended, 1, address="local", workers=1).ends_well()
    assert pretended.ran[0]["parent"] not in places(cluster)


@pytest.mark.parametrize("token", [None, "the-wrong-token"])
def test_a_token_that_is_missing_or_wrong_is_one_sentence(pretended, stand_in, monkeypatch, token):
    nodes = Nodes(os.environ | {"PYTHONPATH": str(stand_in)}, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN="the-right-token")
    try:
        nodes.start(1, cpus=1)
        monkeypatch.setenv("RAY_AUTH_MODE", "token")
        monkeypatch.setenv("HOME", str(pretended.root))
        if token:
            monkeypatch.setenv("RAY_AUTH_TOKEN", token)
        else:
            monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
        error = Sweep(pretended, 1, address=nodes.address).end()
        assert isinstance(error, UserError), error
        assert "token" in str(error)
        assert "\n" not in str(error)
        assert "right-token" not in str(error)
        assert "wrong-token" not in str(error)
        monkeypatch.setenv("RAY_AUTH_TOKEN", "the-right-token")
        Sweep(pretended, 1, address=nodes.address).ends_well()
    finally:
        nodes.close()

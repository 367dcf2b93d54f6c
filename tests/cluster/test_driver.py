"""The parent's side against drivers that misbehave, and the driver's own parts; no Ray."""

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace

import pytest

from cluster import address, process, tune
from cluster.address import cluster_address, fault_at
from cluster.driver import Line, nodes, trainable, why
from cluster.tune import RayTune
from study import outage
from study.errors import UserError
from study.store import MANIFEST, RunDirectory

# --- a driver that is a tiny program

SPEAK = """
import json, os, sys, time
from multiprocessing.connection import Connection
line = Connection(int(sys.argv[1]))
settings = json.loads(line.recv_bytes())
def say(kind, **content):
    line.send_bytes(json.dumps({"kind": kind} | content).encode())
def hear(seconds=60):
    return json.loads(line.recv_bytes()) if line.poll(seconds) else sys.exit("nobody spoke")
def ready(nodes=((2.0, 0.0),), grows=False, pids=()):
    say("ready", pids=list(pids), nodes=nodes, grows=grows, address=settings["address"])
    say("beat", nodes=nodes)
def over(pack, fault=None, reason="", share=0.0):
    say("over", pack=pack, fault=fault, reason=reason, share=share)
"""


@pytest.fixture
def driver(monkeypatch):
    """A function that puts a program in the place of the driver; what follows is its text."""

    real = subprocess.Popen

    def use(*texts):
        programs = iter([*texts[:-1], *[texts[-1]] * 100])

        def start(_, pass_fds, **options):
            descriptor, text = pass_fds[0], SPEAK + next(programs)
            return real([sys.executable, "-P", "-c", text, str(descriptor)], pass_fds=pass_fds, **options)

        monkeypatch.setattr(process.subprocess, "Popen", start)

    return use


GOOD = """
ready()
while (message := hear())["kind"] == "pack":
    over(message["pack"])
"""


@pytest.fixture
def directory(tmp_path):
    (tmp_path / "run").mkdir()
    return RunDirectory(tmp_path / "run")


def reasons(directory):
    return [directory.read_json(f"attempts/{name}")["error"] for name in directory.names("attempts")]


def run(directory, packs, **options):
    """The packs that were over, in that order."""
    over = []
    RayTune(**options).run(directory, packs, after=lambda pack: over.append(pack) or ())
    return over


def test_a_good_driver_runs_everything(driver, directory):
    driver(GOOD)
    assert run(directory, ["a", "b", "c", "d", "e", "f"]) == ["a", "b", "c", "d", "e", "f"]
    assert reasons(directory) == []


def test_a_driver_has_time_to_leave_a_cluster_and_one_with_a_ray_of_its_own_has_none(driver, directory, door, tmp_path):
    driver(GOOD + f"time.sleep(1); open({str(tmp_path / 'left')!r}, 'w').close()")
    assert run(directory, ["a"]) == ["a"]
    assert not (tmp_path / "left").exists()
    assert run(directory, ["a"], address=door[0]) == ["a"]
    assert (tmp_path / "left").exists()


def test_no_more_packs_are_handed_out_than_there_is_room_for_and_four(driver, directory):
    driver("""
ready([(2.0, 0.0), (3.0, 0.0)])
got = []
while line.poll(2.0):
    got.append(hear()["pack"])
for pack in got:
    over(pack, reason="", fault=None) if len(got) == 9 else over(pack, fault="failed", reason=str(len(got)))
while (message := hear())["kind"] == "pack":
    over(message["pack"])
""")
    assert len(run(directory, [f"{i}" for i in range(12)])) == 12
    assert reasons(directory) == []


def test_where_a_cluster_is_given_no_more_packs_than_workers_are_handed_out(driver, directory, door):
    driver("""
ready([(8.0, 0.0)])
while True:
    got = [hear()]
    while line.poll(1.0):
        got.append(hear())
    if got[0]["kind"] != "pack":
        break
    for message in got:
        over(message["pack"], fault=None if len(got) == 2 else "failed", reason=str(len(got)))
""")
    assert sorted(run(directory, list("abcd"), address=door[0], workers=2)) == list("abcd")
    assert reasons(directory) == []


def test_storage_that_fails_in_workers_costs_no_try_and_ends_the_run_if_it_lasts(driver, directory, monkeypatch):
    directory.write_json(MANIFEST, {})
    driver("""
ready()
for _ in range(12):
    over(hear()["pack"], fault="storage", reason="OSError: full")
while (message := hear())["kind"] == "pack":
    over(message["pack"])
""")
    monkeypatch.setattr(outage, "FIRST_SECONDS", 0.05)
    monkeypatch.setattr(outage, "MOST_SECONDS", 0.1)
    assert sorted(run(directory, ["a", "b", "c"])) == ["a", "b", "c"]
    assert reasons(directory) == []
    driver("""
ready()
while True:
    over(hear()["pack"], fault="storage", reason="PermissionError: trials")
""")
    monkeypatch.setattr(outage, "BEARABLE_SECONDS", 0.5)
    with pytest.raises(UserError, match=r"^cannot write to the run directory .*: PermissionError: trials; what is"):
        run(directory, ["a", "b", "c"])
    driver("""
ready()
os.rename(settings["root"], settings["root"] + "-away")
over(hear()["pack"], fault="storage", reason="FileNotFoundError: plan")
time.sleep(100)
""")
    with pytest.raises(UserError, match=r"^the run directory .*/run is gone, removed, renamed or unmounted while it"):
        run(directory, ["a"])


def test_a_driver_that_ends_is_replaced_and_its_packs_run_again(driver, directory):
    driver("ready(); over(hear()['pack']); hear(); print('the sky fell', file=sys.stderr); sys.exit(1)", GOOD)
    assert run(directory, ["a", "b", "c"]) == ["a", "b", "c"]
    assert reasons(directory) == ["its process ended; its last words: the sky fell"] * 2


def test_drivers_that_end_without_a_pack_are_given_up(driver, directory):
    driver("ready(); sys.exit('no luck')")
    with pytest.raises(UserError, match=r"the local Ray was lost 3 times .*last words: no luck.*same command"):
        run(directory, ["a"])


def test_a_driver_that_says_nothing_is_given_up(driver, directory, monkeypatch):
    monkeypatch.setattr(tune, "SILENCE_SECONDS", 1.0)
    driver("ready(); hear(); time.sleep(100)", GOOD)
    began = time.monotonic()
    assert run(directory, ["a"]) == ["a"]
    assert reasons(directory) == ["it said nothing for 1 s"]
    assert time.monotonic() - began < 30


def test_a_driver_that_never_gets_ready_is_given_up(driver, directory, monkeypatch):
    monkeypatch.setattr(tune, "START_SECONDS", 0.5)
    driver("time.sleep(100)")
    with pytest.raises(UserError, match=r"lost 3 times .*it said nothing for 0 s"):
        run(directory, ["a"])


@pytest.mark.parametrize(
    "words",
    ["b'no JSON'", "b'[1]'", "b'{}'", 'b\'{"kind": "over"}\'', "b'\\xff'"],
)
def test_a_driver_that_says_garbage_is_given_up(driver, directory, words):
    driver(f"ready(); hear(); line.send_bytes({words}); time.sleep(100)", GOOD)
    assert run(directory, ["a"]) == ["a"]
    assert ["it said something that makes no sense" in reason for reason in reasons(directory)] == [True]


def test_a_driver_that_refuses_ends_the_sweep_with_its_sentence(driver, directory):
    driver("say('refused', reason='no Ray today')")
    with pytest.raises(UserError, match=r"^no Ray today$"):
        run(directory, ["a"])


def test_a_driver_whose_ray_died_is_replaced_at_once(driver, directory):
    with subprocess.Popen([sys.executable, "-c", "pass"]) as gone:
        gone.wait()
        driver(f"ready(pids=[{gone.pid}]); hear(); time.sleep(100)", GOOD)
        assert run(directory, ["a"]) == ["a"]
    assert reasons(directory) == ["one of Ray's own processes died"]


def test_no_process_is_left_when_a_driver_is_given_up(driver, directory, monkeypatch, tmp_path):
    monkeypatch.setattr(tune, "SILENCE_SECONDS", 1.0)
    file = str(tmp_path / "pid")
    child = f"import subprocess; open({file!r}, 'w').write(str(subprocess.Popen(['sleep', '100']).pid))"
    driver(f"ready(); {child}; time.sleep(100)", GOOD)
    assert run(directory, ["a"]) == ["a"]
    left = Path(f"/proc/{(tmp_path / 'pid').read_text()}/stat")
    assert not left.exists() or left.read_text().rpartition(")")[2].split()[0] == "Z"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_stops_the_driver_and_is_passed_on(driver, directory, number):
    driver("ready(); pack = hear()['pack']; print(hear(), file=sys.stderr); over(pack)")
    threading.Timer(1.5, os.kill, (os.getpid(), number)).start()
    with pytest.raises(KeyboardInterrupt) as stop:
        run(directory, ["a", "b"], workers=1)
    assert stop.value.args == (number,)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_driver_that_does_not_stop_is_ended(driver, directory, monkeypatch):
    monkeypatch.setattr(tune, "GRACE_SECONDS", 1.0)
    driver("ready(); [hear() for _ in range(3)]; time.sleep(100)")
    threading.Timer(1.5, os.kill, (os.getpid(), signal.SIGTERM)).start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run(directory, ["a", "b"])
    assert time.monotonic() - began < 20


def test_a_driver_is_replaced_before_it_grows_large(driver, directory, monkeypatch, tmp_path):
    monkeypatch.setattr(tune, "PACKS_OF_A_DRIVER", 3)
    driver(f"open({str(tmp_path / 'begun')!r}, 'a').write('.')\n" + GOOD)
    assert run(directory, list("abcdefgh")) == list("abcdefgh")
    assert (tmp_path / "begun").read_text() == "..."
    assert reasons(directory) == []


# --- what a cluster has


def test_a_cluster_without_room_is_refused_at_once(driver, directory):
    driver("ready([(4.0, 0.0)]); time.sleep(100)")
    with pytest.raises(UserError, match=r"1 CPU and 1 GPU on one node.*4 CPU and 0 GPU$"):
        run(directory, ["a"], device="cuda")


def test_a_cluster_that_may_grow_is_shown_that_packs_wait(driver, directory):
    driver("""
ready([(0.0, 0.0)], grows=True)
pack = hear()["pack"]
say("beat", nodes=[(0.0, 0.0), (1.0, 0.0)])
over(pack)
while (message := hear())["kind"] == "pack":
    over(message["pack"])
""")
    assert run(directory, ["a", "b"]) == ["a", "b"]


def test_a_cluster_that_lost_its_nodes_is_waited_for_and_then_given_up(driver, directory, monkeypatch):
    lost = """
for _ in range(100):
    time.sleep(0.1)
    say("beat", nodes=[(0.0, 0.0)])
"""
    driver("ready()" + lost[:21].replace("100", "5") + lost[21:] + "over(hear()['pack'])\nhear()")
    assert run(directory, ["a"]) == ["a"]
    monkeypatch.setattr(tune, "ROOMLESS_SECONDS", 1.0)
    driver("ready()" + lost)
    with pytest.raises(UserError, match=r"none of the Ray cluster's 1 nodes has that: 0 CPU and 0 GPU for 1 s$"):
        run(directory, ["a"])


def test_gpus_that_nobody_decided_about_are_asked_about_once(driver, directory, door):
    driver("ready([(8.0, 4.0)])\nhear()")
    words = (
        r"^execution.device = 'auto' is what this machine has, the CPU, but the Ray cluster's nodes have 4 GPUs: say"
    )
    with pytest.raises(UserError, match=words):
        run(directory, ["a"], asked=False, address=door[0])
    driver("ready([(8.0, 4.0)])\nover(hear()['pack'])\nhear()")
    assert run(directory, ["a"], address=door[0]) == ["a"]  # it said "cpu"
    assert run(directory, ["b"], asked=False) == ["b"]  # a Ray of its own: torch decides whether it can use its GPUs
    late = "ready([(8.0, 0.0)])\npack = hear()['pack']\nsay('beat', nodes=[(8.0, 4.0)])\nover(pack)\nhear()"
    driver(late)
    assert run(directory, ["c"], asked=False, address=door[0]) == ["c"]


def test_packs_share_a_gpu_once_one_was_measured(driver, directory):
    driver("""
ready([(8.0, 1.0)])
shares = []
while (message := hear())["kind"] == "pack":
    shares.append(message["gpu"])
    with open(os.path.join(os.path.dirname(settings["root"]), "shares"), "w") as file:
        json.dump(shares, file)
    over(message["pack"], share=0.3)
""")
    assert len(run(directory, [f"{i}" for i in range(12)], device="cuda")) == 12
    shares = json.loads((Path(directory.root).parent / "shares").read_text())
    assert shares[0] == 1
    assert set(shares[6:]) == {1 / 2}  # 0.3 and a quarter more: two on each


def test_a_pack_that_did_not_fit_beside_others_gets_a_gpu_to_itself(driver, directory):
    driver("""
ready([(8.0, 1.0)])
while (message := hear())["kind"] == "pack":
    over(message["pack"], fault="crowded" if message["gpu"] < 1 else None)
""")
    assert sorted(run(directory, ["a", "b", "c"], device="cuda", gpu=0.5)) == ["a", "b", "c"]
    outcomes = [directory.read_json(f"attempts/{name}")["outcome"] for name in directory.names("attempts")]
    assert outcomes == ["crowded"] * 3


# --- addresses


@pytest.fixture
def door():
    """An address where somebody answers, and the socket."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}", server


def test_an_address_is_read_as_ray_does(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert cluster_address(None) is None
    assert cluster_address("local") is None
    assert cluster_address("auto") == "auto"
    assert cluster_address("[fd00::1]:6379") == "[fd00::1]:6379"
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert cluster_address(None) == cluster_address("auto") == "10.0.0.1:6379"
    assert cluster_address("head:6379") == "head:6379"
    assert cluster_address("local") is None
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    assert cluster_address(None) == cluster_address("auto") == "auto"
    monkeypatch.setenv("RAY_ADDRESS", "")
    assert cluster_address(None) is None


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("head", "must be HOST:PORT"),
        ("head:", "must be HOST:PORT"),
        (":6379", "must be HOST:PORT"),
        ("", "must be HOST:PORT"),
        ("head:65536", "must be HOST:PORT"),
        ("head:\u0663", "must be HOST:PORT"),
        ("http://head:8265", "must be HOST:PORT"),
        ("[]:6379", "must be HOST:PORT"),
        ("ray://head:10001", "client is not used; run on a machine of the cluster"),
        ("fd00::1:6379", "IPv6 address stands in brackets"),
    ],
)
def test_an_address_that_is_none_is_one_sentence(directory, given, words, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(UserError, match=f"^--address {given.replace('[', '.').replace(']', '.')}: .*{words}"):
        RayTune(address=given).run(directory, ["x"])
    if given:
        monkeypatch.setenv("RAY_ADDRESS", given)
        with pytest.raises(UserError, match=r"^RAY_ADDRESS "):
            RayTune().run(directory, ["x"])


def test_nobody_at_an_address_is_one_sentence(directory):
    with pytest.raises(UserError, match=r"^cannot reach the Ray cluster at 127\.0\.0\.1:1: Connection refused$"):
        run(directory, ["x"], address="127.0.0.1:1")
    with pytest.raises(UserError, match=r"^cannot reach the Ray cluster at nobody\.invalid:6379: \S+"):
        run(directory, ["x"], address="nobody.invalid:6379")
    assert fault_at("a" * 80 + ":6379")  # no name can be so long


def test_somebody_answers(door):
    assert fault_at(door[0]) is None


def test_a_head_that_is_gone_is_noticed_before_the_long_silence(driver, directory, door, monkeypatch):
    monkeypatch.setattr(tune, "LATE_SECONDS", 0.5)
    monkeypatch.setattr(address, "RETURN_SECONDS", 1.0)
    where, server = door
    driver("ready(); hear(); time.sleep(100)")
    threading.Timer(1.0, server.close).start()
    with pytest.raises(UserError, match=r"was lost \(its head does not answer\) and has not come back .*same command"):
        run(directory, ["a"], address=where)
    assert reasons(directory) == ["its head does not answer"]


def test_a_head_that_comes_back_is_gone_on_with(driver, directory, monkeypatch):
    monkeypatch.setattr(tune, "LATE_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:
        host, port = server.getsockname()
        driver("ready(); hear(); time.sleep(100)", GOOD)
        threading.Timer(1.0, server.close).start()
        again = []
        back = threading.Timer(3.0, lambda: again.append(socket.create_server((host, port))))
        back.start()
        assert run(directory, ["a"], address=f"{host}:{port}") == ["a"]
        back.join()
        again[0].close()


def test_a_silence_while_the_head_answers_is_borne(driver, directory, door, monkeypatch):
    monkeypatch.setattr(tune, "LATE_SECONDS", 0.2)
    driver("ready(); pack = hear()['pack']; time.sleep(2); over(pack); hear()")
    assert run(directory, ["a"], address=door[0]) == ["a"]
    assert reasons(directory) == []


# --- the driver's own parts


LOW_ON_MEMORY = """Failure # 1 (occurred at 2030-01-01_00-00-00)
1 worker(s) were killed due to the node running low on memory. Memory on the node (IP: 127.0.0.1, ID: 06517d) was \
1.31GB used / 23.54GB limit (0.055735)
OOM kill reason: Memory usage 1408790528B exceeded threshold of 25276512B (0.1% of 25276510208B limit)
Ray killed 1 worker(s) based on the killing policy
"""
"""Of Ray 2.60's memory monitor."""

KILLED = """Failure # 1 (occurred at 2030-01-01_00-00-00)
The actor died unexpectedly before finishing this task.
\tclass_name: ImplicitFunc
The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR Worker exit detail: Worker \
unexpectedly exits with a connection error code 2. End of file. There are some potential root causes. (1) The process \
is killed by SIGKILL by OOM killer due to high memory usage. (2) ray stop --force is called.
"""

TRACEBACK = """Failure # 1 (occurred at 2030-01-01_00-00-00)
\x1b[36mray::ImplicitFunc.train()\x1b[39m (pid=1760, ip=127.0.0.1, actor_id=9117f7, repr=train_pack)
  File "ray/tune/trainable/util.py", line 130, in train
Traceback (most recent call last):
  File "x.py", line 1, in <module>
KeyError: 'first'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "x.py", line 2, in <module>
\x1b[31mModuleNotFoundError: No module named 'cluster.pruning'\x1b[39m
  a note
"""


def test_why_a_trial_was_lost(tmp_path):
    file = tmp_path / "error.txt"
    file.write_text("Failure # 1 (occurred at 2030-01-01)\nThe actor died unexpectedly before finishing\nmore\n")
    assert why(str(file)) == ("killed", "The actor died unexpectedly before finishing")
    file.write_text(LOW_ON_MEMORY)
    assert why(str(file)) == ("memory", LOW_ON_MEMORY.splitlines()[1])
    file.write_text(KILLED)
    assert why(str(file)) == ("killed", "The actor died unexpectedly before finishing this task.")
    file.write_text(TRACEBACK)
    assert why(str(file)) == ("killed", "ModuleNotFoundError: No module named 'cluster.pruning'")
    file.write_text("Failure # 1\n\x1b[36mray::train()\x1b[39m (pid=1)\n")
    assert why(str(file)) == ("killed", "ray::train() (pid=1)")
    file.write_text("x" * 5000)
    assert why(str(file)) == ("killed", "x" * 300)
    file.write_bytes(b"\xff\xfe")
    assert why(str(file))[0] == "killed"
    file.write_text("Failure # 1\n")
    for lost in (str(file), str(tmp_path / "none"), None):
        assert why(lost) == ("killed", "Ray lost it without a word")


SETTINGS = {"device": "cpu", "data": None, "pruner": None}
CONFIG = {"pack": "a", "gpu": 0, "halvings": 0}


def ended_by(error, directory, monkeypatch, **config):
    """What the trainable says of a pack that an error ended."""

    def run_pack(*_, **__):
        raise error

    monkeypatch.setattr("study.worker.run_pack", run_pack)
    return trainable(SETTINGS | {"root": directory.root})(CONFIG | config)


def test_an_error_of_the_storage_is_not_the_packs(directory, monkeypatch):
    (Path(directory.root) / "plan").mkdir()
    full = OSError(errno.ENOSPC, "No space left on device")
    assert ended_by(full, directory, monkeypatch)["fault"] == "storage"
    missing = FileNotFoundError(errno.ENOENT, "No such file or directory", "/data/mnist.npz")
    found = ended_by(missing, directory, monkeypatch)
    assert found == {"done": True, "fault": "failed", "reason": f"FileNotFoundError: {missing}"}
    assert ended_by(ValueError("no"), directory, monkeypatch)["fault"] == "failed"
    assert ended_by(UserError("no"), directory, monkeypatch)["fault"] == "failed"
    assert ended_by(MemoryError("out of memory"), directory, monkeypatch, gpu=0.5)["fault"] == "crowded"
    Path(directory.root).rename(Path(directory.root).with_name("moved"))
    assert ended_by(missing, directory, monkeypatch)["fault"] == "storage"
    assert not Path(directory.root).exists()
    Path(directory.root).write_text("")  # what cannot even be opened, as an object store out of reach
    assert ended_by(UserError("cannot open"), directory, monkeypatch)["fault"] == "storage"


def test_what_cannot_be_imported_is_said(directory, monkeypatch):
    monkeypatch.setitem(sys.modules, "study.worker", None)
    monkeypatch.delattr("study.worker", raising=False)
    found = trainable(SETTINGS | {"root": directory.root})(CONFIG)
    assert found["fault"] == "failed"
    assert found["reason"].startswith("ModuleNotFoundError: ")


def test_a_driver_whose_node_was_lost_ends(monkeypatch):
    def cluster(*alive):
        found = [{"NodeID": name, "Alive": name in alive, "Resources": {"CPU": 2.0}} for name in ("here", "there")]
        context = SimpleNamespace(get_node_id=lambda: "here")
        monkeypatch.setitem(
            sys.modules, "ray", SimpleNamespace(nodes=lambda: found, get_runtime_context=lambda: context)
        )

    cluster("here", "there")
    assert nodes() == [(2.0, 0.0), (2.0, 0.0)]
    cluster("here")
    assert nodes() == [(2.0, 0.0)]
    cluster("there")
    with pytest.raises(SystemExit, match="the Ray node of this machine was lost"):
        nodes()


def test_a_driver_ends_with_whoever_keeps_the_queue():
    here, there = socket.socketpair()
    text = (
        "import sys, time; from multiprocessing.connection import Connection; from cluster.driver import Line; "
        "line = Line(Connection(int(sys.argv[1]))); time.sleep(100)"
    )
    with (
        there,
        subprocess.Popen(
            [sys.executable, "-c", text, str(there.fileno())], pass_fds=[there.fileno()], cwd=Path(__file__).parents[2]
        ) as process,
    ):
        there.close()
        time.sleep(1.0)
        assert process.poll() is None
        here.close()
        assert process.wait(timeout=20) == 1


def test_a_line_hears_packs_and_the_end():
    here, there = (Connection(end.detach()) for end in socket.socketpair())
    line = Line(there)
    for message in ({"kind": "pack", "pack": "a"}, {"kind": "pack", "pack": "b"}, {"kind": "end"}):
        here.send_bytes(json.dumps(message).encode())
    named = iter(lambda: line.next_pack(wait=True, meanwhile=lambda: None), None)
    assert [message["pack"] for message in named] == ["a", "b"]
    assert line.ended
    line.send("beat", nodes=[(1.0, 0.0)])
    assert json.loads(here.recv_bytes()) == {"kind": "beat", "nodes": [[1.0, 0.0]]}
    assert line.__deepcopy__({}) is line
    # the listening thread would end this process with its peer: both ends stay open
    test_a_line_hears_packs_and_the_end.ends = (here, there)

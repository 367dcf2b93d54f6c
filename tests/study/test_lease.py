import errno
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from study import lease as module
from study.errors import UserError
from study.lease import holder, lease
from study.store import LEASE, MANIFEST, RunDirectory

HOUR = 3600.0


@pytest.fixture
def directory(tmp_path):
    found = RunDirectory(tmp_path / "run")
    found.write_json(MANIFEST, {})
    return found


@pytest.fixture
def fast(monkeypatch):
    """All times a hundredth, the settling time too."""
    for name, seconds in (("RENEW", 0.1), ("EXPIRE", 0.6), ("POLL", 0.02), ("SETTLE", 0.02)):
        monkeypatch.setattr(module, f"{name}_SECONDS", seconds)


@pytest.fixture
def gone():
    """The pid of a process of this host that has ended."""
    child = subprocess.Popen([sys.executable, "-S", "-c", ""])
    child.wait()
    return child.pid


@pytest.fixture(autouse=True)
def _nothing_seen():
    module._seen.clear()
    yield
    module._seen.clear()


def left_by(directory, **changes):
    directory.write_json(LEASE, module._content("other") | changes)


ELSEWHERE = {"host": "elsewhere", "boot": "another machine's", "pid": 1, "born": "0"}


class Counting:
    """A driver on another machine, whose clock is wrong by `skew` seconds, renewing the lease until it is left."""

    def __init__(self, directory, *, skew=0.0):
        self.directory, self.skew, self.count, self.stop = directory, skew, 0, threading.Event()
        self.renew()
        self.thread = threading.Thread(target=self.go_on)

    def renew(self):
        self.count += 1
        left_by(self.directory, **ELSEWHERE, count=self.count, renewed=time.time() + self.skew)

    def go_on(self):
        while not self.stop.wait(module.RENEW_SECONDS):
            self.renew()

    def __enter__(self):
        self.thread.start()

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()


def test_a_lease_names_its_holder_and_ends_with_the_block(directory):
    with lease(directory):
        found = holder(directory)
        assert (found["host"], found["pid"]) == (socket.gethostname(), os.getpid())
    assert holder(directory) is None
    assert directory.read(LEASE) is None


def test_a_lease_ends_when_the_block_fails(directory):
    with pytest.raises(ZeroDivisionError, match="division"), lease(directory):
        1 / 0  # noqa: B018 - any error will do
    assert directory.read(LEASE) is None


def test_a_second_driver_is_refused_at_once_while_the_first_is_alive(directory):
    sentence = rf"is being run by process {os.getpid()} on {socket.gethostname()}: wait for it or stop it"
    begun = time.monotonic()
    with lease(directory):
        before = directory.read(LEASE)
        with pytest.raises(UserError, match=sentence), lease(directory, say=pytest.fail):
            raise AssertionError("two drivers")
        assert directory.read(LEASE) == before
    assert time.monotonic() - begun < module.RENEW_SECONDS


@pytest.mark.parametrize("content", [b"", b'{"token": "x', b"[]", b"7", b'{"token": "x"}', b"\xff"])
def test_a_broken_lease_is_taken_over(directory, content):
    directory.publish(LEASE, content)
    assert holder(directory) is None
    with lease(directory):
        assert holder(directory)["pid"] == os.getpid()


# On one machine


@pytest.mark.parametrize(
    "change",
    [
        {"uptime": time.monotonic() - module.EXPIRE_SECONDS - 1},
        {"born": "before this process"},
    ],
    ids=["suspended", "a reused pid"],
)
def test_a_lease_that_nobody_here_holds_is_taken_over_at_once(directory, change):
    left_by(directory, **change)
    assert holder(directory) is None
    with lease(directory, say=pytest.fail):
        assert holder(directory)["token"] != "other"
    assert directory.read(LEASE) is None


def test_a_dead_process_holds_nothing(directory, gone):
    left_by(directory, pid=gone)
    assert holder(directory) is None
    with lease(directory, say=pytest.fail):
        assert holder(directory)["pid"] == os.getpid()


@pytest.mark.parametrize("skew", [-HOUR, HOUR])
def test_setting_the_clock_of_this_machine_changes_nothing(directory, skew):
    left_by(directory, renewed=time.time() + skew)
    assert holder(directory)["token"] == "other"
    with pytest.raises(UserError, match="is being run by process"), lease(directory, say=pytest.fail):
        raise AssertionError("two drivers")


def test_a_process_that_cannot_be_seen_from_here_is_not_taken_for_dead(directory, gone):
    left_by(directory, pid=gone, processes="pid:[another container's]")
    assert holder(directory)["pid"] == gone


# On two machines


@pytest.mark.parametrize("skew", [-HOUR, 0.0, HOUR])
def test_a_driver_elsewhere_that_is_alive_keeps_its_lease_whatever_its_clock_says(directory, fast, skew):
    said = []
    with (
        Counting(directory, skew=skew),
        pytest.raises(UserError, match="is being run by process 1 on elsewhere"),
        lease(directory, say=said.append),
    ):
        raise AssertionError("two drivers")
    assert len(said) == 1
    assert "process 1 on elsewhere" in said[0]
    assert "watching for up to" in said[0]


@pytest.mark.parametrize("skew", [-HOUR, 0.0, HOUR])
def test_a_driver_elsewhere_that_is_dead_loses_its_lease_whatever_its_clock_says(directory, fast, skew):
    left_by(directory, **ELSEWHERE, renewed=time.time() + skew)
    begun = time.monotonic()
    with lease(directory, say=lambda _: None):
        assert holder(directory)["pid"] == os.getpid()
    assert module.EXPIRE_SECONDS <= time.monotonic() - begun < module.EXPIRE_SECONDS + 20


def test_a_lease_that_is_given_back_while_it_is_watched_is_free_at_once(directory, monkeypatch):
    monkeypatch.setattr(module, "POLL_SECONDS", 0.02)
    left_by(directory, **ELSEWHERE)
    threading.Timer(0.2, directory.remove, (LEASE,)).start()
    begun = time.monotonic()
    with lease(directory, say=lambda _: None):
        assert time.monotonic() - begun < module.EXPIRE_SECONDS / 2


def test_who_asks_again_goes_by_what_changes(directory, fast):
    left_by(directory, **ELSEWHERE, count=1, renewed=time.time() - HOUR)
    assert holder(directory) is None
    left_by(directory, **ELSEWHERE, count=2, renewed=time.time() - HOUR)
    assert holder(directory)["host"] == "elsewhere"
    left_by(directory, **ELSEWHERE, count=3, renewed=time.time() + HOUR)
    assert holder(directory)["host"] == "elsewhere"
    time.sleep(module.EXPIRE_SECONDS)
    assert holder(directory) is None


@pytest.mark.parametrize("others", [1, 4])
def test_of_several_who_find_a_dead_lease_one_has_it(directory, gone, others, monkeypatch):
    monkeypatch.setattr(module, "SETTLE_SECONDS", 1.0)
    left_by(directory, pid=gone)
    here, having, refused = threading.Barrier(others + 1), [], []

    def want():
        here.wait()
        try:
            with lease(directory):
                having.append(1)
                time.sleep(2)
        except UserError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=want) for _ in range(others + 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(having), len(refused)) == (1, others), refused


# Which process is meant


@pytest.mark.parametrize(
    "change",
    [
        {"host": "elsewhere"},
        {"boot": "before it was restarted"},
        {"processes": "pid:[another container's]"},
        {"boot": ""},
    ],
    ids=["another machine", "another start", "another container", "untold"],
)
def test_a_number_means_the_same_process_on_one_system_with_one_table_of_processes(change):
    content = module._content("token")
    assert module.within_reach(content)
    assert module.runs_still(content)
    assert not module.within_reach(content | change)
    assert not module.runs_still(content | {"born": "1"})


def test_where_linux_does_not_tell_no_number_means_anything(monkeypatch):
    monkeypatch.setattr(module, "_place", lambda: ("", ""))
    assert module.within_reach(module._content("token")) == (sys.platform != "linux")


@pytest.mark.parametrize("pid", [0, -1])
def test_a_lease_of_no_process_is_none(directory, pid):
    left_by(directory, pid=pid)
    assert holder(directory) is None


# While it is held


def test_a_lease_is_renewed(directory, fast):
    with lease(directory):
        first = holder(directory)["count"]
        deadline = time.monotonic() + 5
        while holder(directory)["count"] == first and time.monotonic() < deadline:
            time.sleep(0.01)
        assert holder(directory)["count"] > first


def while_held(directory, act):
    """Hold the lease, do something, and wait for what becomes of it."""
    with lease(directory):
        act()
        time.sleep(5)


def test_a_lease_that_was_taken_over_is_left_alone(directory, fast):
    with pytest.raises(UserError, match="was taken over by process 1 on elsewhere"):
        while_held(directory, lambda: left_by(directory, **ELSEWHERE))
    assert directory.read_json(LEASE)["token"] == "other"


def test_a_lease_that_somebody_removed_is_made_again(directory, fast):
    with lease(directory):
        directory.remove(LEASE)
        deadline = time.monotonic() + 5
        while holder(directory) is None and time.monotonic() < deadline:
            time.sleep(0.01)
        assert holder(directory)["pid"] == os.getpid()


def test_a_run_directory_that_vanishes_ends_the_block_and_is_not_made_again(directory, fast, tmp_path):
    with pytest.raises(UserError, match="run is gone, removed, renamed or unmounted"):
        while_held(directory, lambda: (tmp_path / "run").rename(tmp_path / "moved"))
    assert not (tmp_path / "run").exists()
    assert json.loads((tmp_path / "moved" / LEASE).read_text())["pid"] == os.getpid()


def test_a_run_directory_that_went_unnoticed_is_noticed_at_the_end(directory, tmp_path):
    with pytest.raises(UserError, match="run is gone, removed, renamed or unmounted"), lease(directory):
        (tmp_path / "run").rename(tmp_path / "moved")
    assert not (tmp_path / "run").exists()


def test_a_request_to_stop_is_the_reason_even_where_the_run_directory_is_gone(directory, tmp_path):
    def act():
        (tmp_path / "run").rename(tmp_path / "moved")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        while_held(directory, act)


@pytest.fixture
def hang(monkeypatch):
    """A function after which storage does not answer until the test is over."""
    answer = threading.Event()

    def never(*_):
        answer.wait()

    yield lambda: [monkeypatch.setattr(RunDirectory, name, never) for name in ("read", "write_json", "remove")]
    answer.set()


def test_giving_the_lease_back_to_storage_that_hangs_is_not_waited_for_after_a_fault(directory, hang, monkeypatch):
    monkeypatch.setattr(module, "GIVE_BACK_SECONDS", 0.3)
    begun = time.monotonic()
    with pytest.raises(ZeroDivisionError, match="division"):
        while_held(directory, lambda: hang() and 1 / 0)
    assert time.monotonic() - begun < 5


def test_storage_that_hangs_when_all_is_done_is_waited_for_and_then_named(directory, hang, monkeypatch):
    monkeypatch.setattr(module, "EXPIRE_SECONDS", 0.5)
    with pytest.raises(UserError, match=r"cannot write to the run directory .*: it does not answer"), lease(directory):
        hang()


@pytest.mark.parametrize("number", [errno.ESTALE, errno.EROFS, errno.ENOSPC])
def test_storage_that_fails_for_a_moment_is_borne_and_for_long_ends_the_block(directory, fast, monkeypatch, number):
    def broken(*_):
        raise OSError(number, os.strerror(number))

    with lease(directory):
        with monkeypatch.context() as patch:
            patch.setattr(RunDirectory, "publish", broken)
            time.sleep(module.EXPIRE_SECONDS / 2)
        before = holder(directory)["count"]
        time.sleep(module.RENEW_SECONDS * 3)
        assert holder(directory)["count"] > before
    with pytest.raises(UserError, match=f"cannot write to the run directory .*{os.strerror(number)}"):
        while_held(directory, lambda: monkeypatch.setattr(RunDirectory, "publish", broken))


HOLD = """
import sys, time
sys.path.insert(0, {root!r})
from study import lease
from study.errors import UserError
from study.store import RunDirectory
lease.RENEW_SECONDS, lease.EXPIRE_SECONDS = 0.2, 1.0
try:
    with lease.lease(RunDirectory({path!r})):
        print("held", flush=True)
        time.sleep(50)
except UserError as error:
    print(error, flush=True)
"""


def test_a_driver_that_was_suspended_for_too_long_learns_that_another_took_over(directory, fast, monkeypatch):
    monkeypatch.setattr(module, "EXPIRE_SECONDS", 1.0)
    root = os.path.dirname(os.path.dirname(module.__file__))  # noqa: PTH120 - a text for the child
    program = HOLD.format(root=root, path=directory.root)
    other = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(UserError, match=f"is being run by process {other.pid} "), lease(directory):
            raise AssertionError("two drivers")
        before = holder(directory)["count"]
        while holder(directory)["count"] == before:
            time.sleep(0.005)
        os.kill(other.pid, signal.SIGSTOP)  # it has just renewed: in the midst of that, it would win when it goes on
        time.sleep(1.5)
        with lease(directory, say=pytest.fail):
            os.kill(other.pid, signal.SIGCONT)
            out, _ = other.communicate(timeout=30)
            assert f"was taken over by process {os.getpid()} on {socket.gethostname()}" in out
            assert holder(directory)["pid"] == os.getpid()
    finally:
        other.kill()
        other.communicate()

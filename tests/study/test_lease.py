import os
import socket
import subprocess
import sys
import time

import pytest

from study import lease as module
from study.errors import UserError
from study.lease import holder, lease
from study.store import LEASE, RunDirectory


@pytest.fixture
def directory(tmp_path):
    return RunDirectory(tmp_path / "run")


@pytest.fixture
def gone():
    """The pid of a process of this host that has ended."""
    child = subprocess.Popen([sys.executable, "-S", "-c", ""])
    child.wait()
    return child.pid


def left_by(directory, **changes):
    content = {
        "token": "other",
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "born": module._born(os.getpid()),
        "renewed": time.time(),
    }
    directory.write_json(LEASE, content | changes)


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


def test_a_second_driver_is_refused_while_the_first_is_alive(directory):
    sentence = rf"is being run by process {os.getpid()} on {socket.gethostname()}: wait for it or stop it"
    with lease(directory):
        before = directory.read(LEASE)
        with pytest.raises(UserError, match=sentence), lease(directory):
            raise AssertionError("two drivers")
        assert directory.read(LEASE) == before


def test_a_driver_on_another_host_holds_until_its_lease_expires(directory):
    left_by(directory, host="elsewhere", pid=1, born="0")
    with pytest.raises(UserError, match="is being run by process 1 on elsewhere"), lease(directory):
        raise AssertionError("two drivers")


@pytest.mark.parametrize(
    "change",
    [
        {"host": "elsewhere", "renewed": time.time() - module.EXPIRE_SECONDS - 1},
        {"renewed": time.time() - module.EXPIRE_SECONDS - 1},
        {"born": "before the last boot"},
    ],
    ids=["expired elsewhere", "expired here", "a reused pid"],
)
def test_a_lease_that_nobody_holds_is_taken_over(directory, change):
    left_by(directory, **change)
    assert holder(directory) is None
    with lease(directory):
        assert holder(directory)["token"] != "other"
    assert directory.read(LEASE) is None


def test_a_dead_process_holds_nothing(directory, gone):
    left_by(directory, pid=gone)
    assert holder(directory) is None
    with lease(directory):
        assert holder(directory)["pid"] == os.getpid()


@pytest.mark.parametrize("content", [b"", b'{"token": "x'])
def test_a_broken_lease_is_taken_over(directory, content):
    directory.publish(LEASE, content)
    with lease(directory):
        assert holder(directory)["pid"] == os.getpid()


def test_a_lease_is_renewed(directory, monkeypatch):
    monkeypatch.setattr(module, "RENEW_SECONDS", 0.01)
    with lease(directory):
        first = holder(directory)["renewed"]
        deadline = time.monotonic() + 5
        while holder(directory)["renewed"] == first and time.monotonic() < deadline:
            time.sleep(0.01)
        assert holder(directory)["renewed"] > first


def test_a_lease_that_was_taken_over_is_left_alone(directory):
    with lease(directory):
        left_by(directory)
    assert directory.read_json(LEASE)["token"] == "other"

import os
import signal
import subprocess
import sys
import time

import pytest

from cluster import runs
from study.errors import UserError
from study.lease import _content, holder
from study.store import LEASE, MANIFEST, RunDirectory, build_table

DRIVER = """
import signal, sys, time
from study.lease import lease
from study.store import RunDirectory
def interrupt(*_): raise KeyboardInterrupt
signal.signal(signal.SIGTERM, interrupt)
with lease(RunDirectory(sys.argv[1])):
    time.sleep(60)
"""


@pytest.fixture
def directory(tmp_path, monkeypatch):
    monkeypatch.setattr(runs, "POLL_SECONDS", 0.05)
    found = RunDirectory(tmp_path / "run")
    found.write_json(MANIFEST, {"sweep": "small", "schema_version": 1})
    return found


@pytest.fixture
def driver(directory):
    """A process that holds the lease."""
    process = subprocess.Popen([sys.executable, "-c", DRIVER, directory.root], stderr=subprocess.DEVNULL)
    end = time.monotonic() + 30
    while holder(directory) is None:
        assert time.monotonic() < end
        time.sleep(0.05)
    yield process
    process.kill()
    process.wait()


def test_whoever_runs_it_here_is_asked_to_stop(directory, driver):
    assert runs.stop(directory).startswith(f"stopped process {driver.pid}: what is finished is kept")
    assert driver.wait(10) is not None
    assert runs.stop(directory) == f"nobody is running {directory}"


def test_who_does_not_end_is_left_alone(directory, driver, monkeypatch):
    monkeypatch.setattr(runs, "STOP_SECONDS", 0.2)
    os.kill(driver.pid, signal.SIGSTOP)
    assert "has not ended yet" in runs.stop(directory)


def test_a_process_elsewhere_is_named(directory):
    directory.write_json(LEASE, _content("token") | {"host": "another-host", "pid": 77})
    with pytest.raises(UserError, match="process 77 on another-host: stop it there, or, if it was submitted"):
        runs.stop(directory)


def test_a_number_that_is_another_processs_by_now_is_left_alone(directory):
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as bystander:
        directory.write_json(LEASE, _content("token") | {"pid": bystander.pid, "born": "1"})
        assert runs.stop(directory) == f"nobody is running {directory}"
        with pytest.raises(ProcessLookupError):
            runs._ask(directory, bystander.pid)
        assert bystander.poll() is None
        bystander.kill()


def test_attempts_are_told_once_and_in_order(directory):
    directory.write_json("attempts/p2.a.json", {"pack": "p2", "outcome": "started", "started": 20.0, "host": "h"})
    failed = {
        "pack": "p1",
        "outcome": "failed",
        "error": "OSError: no\ndisk",
        "started": 5.0,
        "ended": 10.0,
        "host": "h",
    }
    directory.write_json("attempts/p1.a.json", failed)
    directory.publish("attempts/p3.a.json", b"{")  # being written by something that is not atomic
    seen = set()
    assert runs.attempts(directory, seen) == [
        "1970-01-01T00:00:10Z p1 failed on h: OSError: no disk",
        "1970-01-01T00:00:20Z p2 started on h",
    ]
    assert runs.attempts(directory, seen) == []
    directory.write_json("attempts/p2.a.json", {"pack": "p2", "outcome": "committed", "ended": 30.0, "host": "h"})
    assert runs.attempts(directory, seen) == ["1970-01-01T00:00:30Z p2 committed on h"]
    assert runs.attempts(directory, seen) == []


def test_following_ends_with_the_driver(directory, driver):
    written = []

    def write(text):
        written.append(text)
        driver.terminate()

    directory.write_json("attempts/p1.a.json", {"pack": "p1", "outcome": "started", "started": 20.0})
    runs.follow(directory, write, wait=True)
    assert written == ["1970-01-01T00:00:20Z p1 started\n"]


def test_what_is_missing(directory):
    plan = [{"trial_id": name} for name in "abc"]
    directory.write_part("plan", "0000", build_table("plan", plan))
    assert runs.missing(directory) == 3
    directory.write_part("trials", "p", build_table("trials", plan[:2]))
    assert runs.missing(directory) == 1


def test_what_is_no_run_directory(tmp_path):
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(UserError, match=r"is not a run directory.*for a job of a cluster give --address"):
            runs.opened(str(path))

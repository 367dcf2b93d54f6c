import os
import shutil
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
    with pytest.raises(UserError, match=r"process 77 on another-host, which is another machine .*: stop it there, or"):
        runs.stop(directory)


def test_a_number_that_is_another_processs_by_now_is_left_alone(directory):
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as bystander:
        directory.write_json(LEASE, _content("token") | {"pid": bystander.pid, "born": "1"})
        assert runs.stop(directory) == f"nobody is running {directory}"
        with pytest.raises(ProcessLookupError):
            runs._ask(directory, bystander.pid)
        assert bystander.poll() is None
        bystander.kill()


INNER = DRIVER.replace("with lease", "print(__import__('os').getpid(), flush=True)\nwith lease")


@pytest.mark.skipif(not shutil.which("unshare") or os.geteuid() != 0, reason="needs to make a table of processes")
def test_a_process_of_another_container_is_not_asked_by_a_number_that_is_somebody_elses_here(directory):
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    last = f'echo {bystander.pid - 1} > /proc/sys/kernel/ns_last_pid && "$@" & wait'
    apart = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c", last, "sh"]
    inner = subprocess.Popen(
        [*apart, sys.executable, "-c", INNER, directory.root], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        if not (said := inner.stdout.readline()):
            pytest.skip(f"no table of processes of one's own: {inner.stderr.read()!r}")
        end = time.monotonic() + 30
        while (found := holder(directory)) is None:
            assert time.monotonic() < end
            time.sleep(0.05)
        if found["pid"] != bystander.pid:
            directory.write_json(LEASE, found | {"pid": bystander.pid})  # a number that the inner one might have had
        assert int(said) > 0
        with pytest.raises(UserError, match="which is another machine or container than this one: stop it there"):
            runs.stop(directory)
        with pytest.raises(ProcessLookupError):
            runs._ask(directory, bystander.pid)
        time.sleep(0.3)
        assert bystander.poll() is None
    finally:
        for process in (inner, bystander):
            process.kill()
            process.communicate()


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

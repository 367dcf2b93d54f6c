"""The process of a driver: what it does before it is told what to run, and that nothing of it is left."""

import errno
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from cluster import process
from cluster.process import Process, ahead, environment, processes_below
from study.errors import UserError
from tests.cluster.rays import below, until

linux = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds processes in Linux's /proc")

OF_WORKERS = """
import subprocess, sys, time
# as Ray's workers are: in a group of their own
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"], start_new_session=True)
open("child", "w").write(f"{child.pid}.")
time.sleep(100)
"""


@pytest.fixture(autouse=True)
def _own_temporary_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)


def lives(pid):
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@linux
def test_what_is_closed_is_gone_with_everything_it_started(monkeypatch, tmp_path):
    monkeypatch.setattr(process, "CODE", OF_WORKERS)
    with ahead("local") as started:
        told = started.folder / "child"
        until(lambda: told.exists() and told.read_text().endswith("."))
        child = int(told.read_text().rstrip("."))
        assert processes_below(started.pid) == {child}
        assert lives(child)
        started.close()
        until(lambda: not lives(child), 10)  # whoever adopted it has to notice
        assert not lives(started.pid)
        assert list(tmp_path.iterdir()) == []
    assert list(tmp_path.iterdir()) == []


@linux
def test_nothing_is_started_before_it_is_told_what_to_run():
    with ahead("local") as started:
        maps = Path(f"/proc/{started.pid}/maps")
        until(lambda: "pandas" in maps.read_text())  # the last that Tune imports of what can be seen so
        time.sleep(1.0)
        assert lives(started.pid)
        assert below(started.pid) == {}


@linux
def test_it_ends_with_whoever_started_it():
    code = (
        "import sys, time; from cluster.process import Process; print(Process(None).pid, flush=True); time.sleep(100)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[2], stdout=subprocess.PIPE, text=True
    ) as parent:
        pid = int(parent.stdout.readline())
        assert lives(pid)
        parent.kill()
        until(lambda: not lives(pid), 20)


def test_there_is_none_where_none_is_wanted(monkeypatch):
    monkeypatch.setattr(process, "Process", None)
    with ahead("no address", wanted=False) as started:
        assert started is None
    with pytest.raises(UserError, match=r"^--address no address: must be HOST:PORT"), ahead("no address"):
        pass


def test_where_none_can_be_started_yet_nothing_is_said_yet(monkeypatch, tmp_path):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(process.subprocess, "Popen", full)
    with ahead("local") as started:
        assert started is None
    with pytest.raises(OSError, match="No space left"):
        Process(None)
    assert list(tmp_path.iterdir()) == []


def test_what_is_begun_after_it_ended_is_noticed_at_the_next_question(monkeypatch):
    monkeypatch.setattr(process, "CODE", "")
    started = Process(None)
    try:
        started.wait(20.0)
        started.begin({"root": "x" * 10**6})
        with pytest.raises((EOFError, OSError)):
            started.connection.recv_bytes()
    finally:
        started.close()


def test_a_ray_of_ones_own_has_a_token_of_its_own_and_listens_on_loopback():
    one, other = environment(None), environment(None)
    assert one["RAY_AUTH_MODE"] == "token"
    assert len(one["RAY_AUTH_TOKEN"]) == 64
    assert one["RAY_AUTH_TOKEN"] != other["RAY_AUTH_TOKEN"]
    loopback = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
    assert one[loopback] == environment("127.0.0.1:6379")[loopback] == environment("localhost:6379")[loopback] == "0"
    far = environment("10.0.0.1:6379")
    assert {loopback, "RAY_AUTH_MODE", "RAY_AUTH_TOKEN"} & far.keys() == set()
    assert far.items() <= one.items()


def test_the_users_folder_is_on_no_import_path(monkeypatch, tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "json.py").write_text("raise SystemExit('shadowed')")
    monkeypatch.chdir(mine)
    monkeypatch.setattr(process, "CODE", "import json, os, sys; open('path', 'w').write(json.dumps(sys.path))")
    with ahead("local") as started:
        started.wait(20.0)
        assert (started.folder / "path").exists()
        assert str(mine) not in (started.folder / "path").read_text()
        assert os.getcwd() == str(mine)  # noqa: PTH109 - of this process

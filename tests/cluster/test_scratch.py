"""Folders of drivers: gone with them, and left alone while anybody uses them."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from cluster.scratch import remove_abandoned, scratch

HOLD = """
import subprocess, sys, time
from cluster.scratch import scratch
with scratch() as (folder, lock):
    (folder / "session").mkdir()
    (folder / "session" / "log").write_text("of a Ray")
    child = subprocess.Popen(["sleep", "100"], pass_fds=[lock], stdout=subprocess.DEVNULL)
    print(folder, child.pid, flush=True)
    time.sleep(100)
"""


@pytest.fixture(autouse=True)
def _own_temporary_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)


def test_a_folder_is_there_while_the_block_runs(tmp_path):
    with scratch() as (folder, _):
        assert folder.parent == tmp_path
        remove_abandoned()
        assert [path.name for path in folder.iterdir()] == ["lock"]
        assert folder.stat().st_mode & 0o077 == 0
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_whoever_was_killed_goes_when_the_last_who_used_it_has(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", HOLD], stdout=subprocess.PIPE, text=True)
    name, child = process.stdout.readline().split()
    remove_abandoned()
    assert Path(name, "session", "log").exists()
    process.kill()
    process.communicate()
    remove_abandoned()
    assert Path(name, "session", "log").exists()  # its driver has not ended yet
    os.kill(int(child), 9)
    while os.path.exists(f"/proc/{child}/fd/0"):  # noqa: PTH110 - a process, no file
        pass
    with scratch() as (folder, _):
        assert [path for path in tmp_path.iterdir() if path.name != "moved"] == [folder]


def test_what_was_not_made_here_is_left_alone(tmp_path):
    (tmp_path / "mpmine").mkdir()
    (tmp_path / "mpmine" / "thesis").write_text("years of work")
    (tmp_path / "mpfile").write_text("no folder")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "lock").write_text("")
    (tmp_path / "mplink").symlink_to(elsewhere)
    linked = tmp_path / "mplinked"
    linked.mkdir()
    (linked / "lock").symlink_to(elsewhere / "lock")
    before = sorted(tmp_path.rglob("*"))
    remove_abandoned()
    assert sorted(tmp_path.rglob("*")) == before

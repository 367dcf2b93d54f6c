import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from analysis.background import Painter, Process
from tests.analysis.stored import ENDINGS, finished

ROOT = Path(__file__).parents[2]

SERVER = """
import sys, time
from analysis import background

if __name__ == "__main__":
    job = background.Process(sys.argv[1])
    print(job._process.pid, flush=True)
    time.sleep(600)
"""
"""A server that has begun to draw and then does something else."""


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return finished(tmp_path_factory.mktemp("run") / "run", ENDINGS)


def contents(folder):
    return {path: path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def alive(pid):
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False


def test_another_process_draws_every_picture_and_writes_nothing(directory):
    before = contents(directory.root)
    job = Process(str(directory))
    found = job.result(wait=True)
    assert (found.ended, found.planned, found.whole) == (7, 8, False)
    assert {"success", "failures"} <= {drawing.name for drawing in found.drawings}
    assert all(drawing.svg.startswith(b"<?xml") for drawing in found.drawings)
    assert found.seconds > 0.5  # it has at least imported matplotlib
    job.stop()
    assert contents(directory.root) == before


def test_what_cannot_be_read_is_told(tmp_path):
    job = Process(str(tmp_path))
    assert "is not a run directory" in job.result(wait=True)
    job.stop()


def test_a_process_that_is_killed_is_told(directory):
    job = Process(str(directory))
    os.kill(job._process.pid, signal.SIGKILL)
    assert job.result(wait=True) == "the process that draws them ended with exit code -9"
    job.stop()


def test_it_is_stopped_at_once(directory):
    job = Process(str(directory))
    pid = job._process.pid
    assert job.result() is None
    job.stop()
    assert not alive(pid)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_it_ends_with_the_process_that_began_it(directory, tmp_path, number):
    program = tmp_path / "server.py"
    program.write_text(SERVER)
    command = [sys.executable, str(program), str(directory)]
    with subprocess.Popen(
        command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as parent:
        pid = int(parent.stdout.readline())
        assert alive(pid)
        parent.send_signal(number)
        parent.wait(30)
    while alive(pid):  # the test's own limit of time is the only one
        time.sleep(0.05)


class Slow:
    """A job that ends when it is told to."""

    def __init__(self, root):
        self.found = None

    def result(self, *, wait=False):
        return self.found

    def stop(self):
        pass


def test_nothing_new_is_not_drawn_again():
    begun = []

    def begin(root):
        begun.append(Slow(root))
        return begun[-1]

    painter = Painter("anywhere", sparing=2.0, clock=lambda: 0.0, begin=begin)
    painter.look([["a"]], ended=False)
    painter.look([["a"], ["b"]], ended=False)
    assert len(begun) == 1  # one at a time
    begun[0].found = "no"
    painter.look([["a"]], ended=True)
    assert len(begun) == 1
    assert painter.words(1, 2) == "The pictures could not be drawn: no."

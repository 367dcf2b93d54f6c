"""Requests to stop while storage does not answer: real processes, whose main thread Python cannot interrupt."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from study import stopping
from study.store import RunDirectory

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="blocks in a lock of Linux's C library")

HANG = """
import ctypes, os, signal, subprocess, sys, threading, time
from study import stopping
from study.errors import UserError
from study.options import interrupt
from study.store import RunDirectory
lock, libc = ctypes.create_string_buffer(64), ctypes.CDLL(None)
def hang():
    libc.pthread_mutex_lock(lock)
    libc.pthread_mutex_lock(lock)  # which no signal ends, as no call to storage that does not answer
signal.signal(signal.SIGTERM, interrupt)
signal.signal(signal.SIGUSR1, interrupt)
stopping.GRACE_SECONDS = 1.0
@stopping.in_time
def run(directory, what):
    print("running", flush=True)
    what()
"""

MAIN = """
try:
    run(RunDirectory({root!r}), {what})
except KeyboardInterrupt as stop:
    print("stopped", stop.args, flush=True)
    sys.exit(128 + stop.args[0])
"""


def asleep(pid):
    """Wait until a process has done nothing for half a second, or is gone."""
    before, same, stat = None, 0, Path(f"/proc/{pid}/stat")
    while same < 5:
        time.sleep(0.1)
        fields = stat.read_text().rpartition(")")[2].split()
        now = (fields[0], fields[11], fields[12])
        same = same + 1 if now == before and fields[0] in "SZ" else 0
        before = now


@pytest.fixture
def started(tmp_path):
    """A function that starts a program whose `run` does something, and waits until it does."""
    processes = []

    def start(what, before=""):
        program = HANG + before + MAIN.format(root=str(tmp_path / "run"), what=what)
        process = subprocess.Popen(
            [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        processes.append(process)
        assert process.stdout.readline() == "running\n", process.communicate()
        asleep(process.pid)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_a_main_thread_that_hangs_in_storage_is_ended_in_time(started, number, tmp_path):
    process, begun = started("hang"), time.monotonic()
    process.send_signal(number)
    out, words = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert time.monotonic() - begun < 5
    assert out == ""
    assert words == f"stopped: what is finished is kept in {tmp_path}/run; the same command goes on from there\n"


def test_a_second_request_ends_it_at_once_and_its_driver_too(started):
    process = started(
        "both",
        """
stopping.GRACE_SECONDS = 100.0
def both():
    other = subprocess.Popen(["sleep", "100"], start_new_session=True)
    print(other.pid, flush=True)
    with stopping.ends_too(other.pid):
        hang()
""",
    )
    other = int(process.stdout.readline())
    asleep(process.pid)
    process.send_signal(signal.SIGTERM)
    time.sleep(stopping.SAME_SECONDS + 0.3)
    assert process.poll() is None
    os.kill(other, 0)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=10)
    assert process.returncode == 128 + signal.SIGTERM
    end, stat = time.monotonic() + 10, Path(f"/proc/{other}/stat")
    while stat.exists() and stat.read_text().rpartition(")")[2].split()[0] not in "ZX":
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_request_that_is_sent_to_the_process_and_its_group_is_one(started):
    process = started("lambda: time.sleep(100)", "stopping.GRACE_SECONDS = 20.0")
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGUSR1)
    out, _ = process.communicate(timeout=10)
    assert process.returncode in (128 + signal.SIGTERM, 128 + signal.SIGUSR1)
    assert out.startswith("stopped")


def test_a_fault_of_storage_after_a_request_is_not_the_reason(started):
    process = started(
        "wrong",
        """
def wrong():
    try:
        time.sleep(100)
    except KeyboardInterrupt:
        raise UserError("cannot write") from None
""",
    )
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=10)
    assert (process.returncode, out) == (143, "stopped (15,)\n")


def test_a_thread_that_hangs_does_not_keep_the_process_from_its_end(started):
    process = started(
        "leave",
        """
from concurrent.futures import ThreadPoolExecutor
def leave():
    def look():
        with ThreadPoolExecutor(1) as pool:
            pool.submit(hang)
    threading.Thread(target=look, daemon=True).start()
    time.sleep(100)
""",
    )
    process.send_signal(signal.SIGTERM)
    out, words = process.communicate(timeout=10)
    assert (process.returncode, out, words) == (143, "stopped (15,)\n", "")


def test_a_process_whose_lease_is_lost_while_it_hangs_ends_with_that_sentence(started):
    lost = "threading.Timer(0.2, stopping.interrupt_main, ['the lease is lost']).start()"
    process = started("hang", lost)
    _, words = process.communicate(timeout=30)
    assert (process.returncode, words) == (2, "error: the lease is lost\n")


def test_a_process_that_ends_by_itself_is_left_alone_and_so_is_one_that_goes_on(started):
    process = started("lambda: None", "stopping.GRACE_SECONDS = 0.2")
    assert process.communicate(timeout=30) == ("", "")
    assert process.returncode == 0
    goes_on = """
stopping.GRACE_SECONDS = 0.3
run_, run = run, lambda *given: caught(*given)
def caught(*given):
    try:
        run_(*given)
    except KeyboardInterrupt:
        time.sleep(1)
        print("and goes on", not stopping.asked(), flush=True)
"""
    process = started("lambda: time.sleep(100)", goes_on)
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=30) == ("and goes on True\n", "")
    assert process.returncode == 0


def test_where_nothing_is_done_about_signals_nothing_is_changed(tmp_path):
    before = signal.set_wakeup_fd(-1)
    seen = []

    @stopping.in_time
    def run(directory, *, more):
        seen.append((directory.root, more, threading.active_count()))
        return 7

    handler = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        count = threading.active_count()
        assert run(RunDirectory(tmp_path), more=1) == 7
    finally:
        signal.signal(signal.SIGTERM, handler)
    assert seen == [(str(tmp_path), 1, count)]
    assert (signal.set_wakeup_fd(before), stopping.asked()) == (-1, False)

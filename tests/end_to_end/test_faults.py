"""The whole program, killed and crowded: nothing lost, nothing twice, the same bits."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
COMMAND = Path(sys.executable).parent / "manypaths"
SWEEP = """
name = "faults"
tasks = ["manifold-d2"]
methods = ["ns", "ns+gp1", "wgan+gp1"]
budget = { steps = 150, evaluations = 10 }
space = { preset = "lucic_wide", override.n_critic.cross = [1, 2] }
design = { replicates = 2, points = 16 }
execution = { pack = 16 }
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "sweep.toml"
    path.write_text(SWEEP)
    return path


STARTED = []


@pytest.fixture(autouse=True)
def _end_what_was_started():
    yield
    for process in STARTED:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    STARTED.clear()


def start(file, out, *options, cwd=None):
    command = [COMMAND, "run", file, "--out", out, *options]
    process = subprocess.Popen(
        command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    STARTED.append(process)
    return process


def finish(process):
    out, words = process.communicate(timeout=600)
    return process.returncode, out, words


def rows(out):
    """All results but timings, by trial."""
    frame = pd.read_parquet(out / "trials").set_index("trial_id").sort_index()
    assert frame.index.is_unique
    return frame.drop(columns="train_seconds")


def planned(out):
    return set(pd.read_parquet(out / "plan")["trial_id"])


@pytest.fixture
def undisturbed(file, tmp_path):
    code, _, words = finish(start(file, tmp_path / "undisturbed", "--in-process"))
    assert code == 0, words
    return rows(tmp_path / "undisturbed")


def kill_a_busy_worker(out, seconds=120):
    """Kill a worker that has begun a pack and not ended it."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for path in out.glob("attempts/*.json"):
            note = json.loads(path.read_text())
            if note["outcome"] == "started" and Path(f"/proc/{note['pid']}").exists():
                os.kill(note["pid"], signal.SIGKILL)
                return
        time.sleep(0.01)
    raise AssertionError("no worker was ever busy")


def wait_for_parts(out, count, process, seconds=240):
    deadline = time.monotonic() + seconds
    while len(list(out.glob("trials/*.parquet"))) < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_ten_kills_of_the_driver_then_one_run_to_the_end(file, tmp_path, undisturbed):
    out = tmp_path / "killed"
    seed = random.randrange(2**32)
    print(f"kill times from seed {seed}")
    chance = random.Random(seed)
    for _ in range(10):
        process = start(file, out)
        time.sleep(chance.uniform(0.5, 14))
        process.kill()
        process.communicate()
    code, _, words = finish(start(file, out))
    assert code == 0, words
    assert set(rows(out).index) == planned(out)
    assert rows(out).equals(undisturbed)


def test_killed_workers_are_replaced(file, tmp_path, undisturbed):
    out = tmp_path / "killed"
    process = start(file, out)
    for parts in (1, 3):
        wait_for_parts(out, parts, process)
        kill_a_busy_worker(out)
    code, _, words = finish(process)
    assert code == 0, words
    assert rows(out).equals(undisturbed)
    outcomes = [json.loads(path.read_text())["outcome"] for path in out.glob("attempts/*.json")]
    assert outcomes.count("started") in (1, 2), "a worker was to be killed in the middle of its pack"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_request_to_stop_is_obeyed_and_the_rest_follows_later(file, tmp_path, undisturbed, number):
    out = tmp_path / "stopped"
    process = start(file, out)
    wait_for_parts(out, 1, process)
    process.send_signal(number)
    code, _, words = finish(process)
    assert code == 128 + number
    assert "the same command goes on from there" in words
    assert "Traceback" not in words
    assert not (out / "lease.json").exists()
    code, _, words = finish(start(file, out))
    assert code == 0, words
    assert rows(out).equals(undisturbed)


def test_folders_of_the_same_names_do_not_shadow_ours(file, tmp_path):
    here = tmp_path / "project"
    for name in ("study", "analysis", "cluster", "search_spaces"):
        (here / name).mkdir(parents=True)
        (here / name / "__init__.py").write_text("raise RuntimeError('shadowed')")
    code, _, words = finish(start(file, "results", cwd=here))
    assert code == 0, words
    assert set(rows(here / "results").index) == planned(here / "results")
    report = subprocess.run([COMMAND, "report", "results"], cwd=here, capture_output=True, text=True, check=False)
    assert report.returncode == 0, report.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to mount a small file system")
def test_a_full_disk_loses_no_finished_row_and_says_so(file, tmp_path, undisturbed):
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", small], capture_output=True).returncode:
        pytest.skip("may not mount here")
    try:
        code, _, words = finish(start(file, small / "run", "--in-process"))
        assert code in (1, 2), words
        assert "Traceback" not in words
        done = len(list((small / "run").glob("trials/*.parquet")))
        subprocess.run(["mount", "-o", "remount,size=40m", small], check=True)
        code, _, words = finish(start(file, small / "run", "--in-process"))
        assert code == 0, words
        assert done < len(list((small / "run").glob("trials/*.parquet")))
        assert rows(small / "run").equals(undisturbed)
    finally:
        subprocess.run(["umount", "-l", small], check=False)

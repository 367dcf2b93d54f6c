"""The commands for jobs, against the job server of `test_jobs`."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

import manypaths
from tests.cluster.test_jobs import Server

ROOT = Path(__file__).parents[2]
FILE = """
name = "small"
tasks = ["manifold-d2"]
methods = ["ns"]
budget.steps = 6
budget.evaluations = 2
space.override.lr = 1e-3
execution.device = "cpu"
"""
pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::FutureWarning"
)


@pytest.fixture
def server(tmp_path, monkeypatch):
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.chdir(tmp_path)
    Path("small.toml").write_text(FILE)
    with Server() as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield server
        server.shutdown()


def called(*arguments):
    """Exit code, standard output and standard error of a command."""
    result = CliRunner().invoke(manypaths.app, arguments)
    return result.exit_code, result.stdout, result.stderr


def test_a_cluster_without_jobs_says_so(server):
    said = f"{server.address} has no jobs that were submitted\n"
    assert called("status", "--address", server.address) == (0, "", said)
    assert called("status", "--address", server.address, "--json") == (0, "[]\n", said)
    server.add("one")
    assert called("status", "--address", server.address)[2] == ""


@pytest.mark.parametrize(("out", "told"), [("runs/x", True), ("./x", True), ("/runs/x", False), ("s3://b/x", False)])
def test_a_relative_place_for_results_is_told_as_the_cluster_gets_it(server, tmp_path, out, told):
    code, _, words = called("submit", "small.toml", "--address", server.address, "--out", out, "--no-wait")
    assert code == 0
    where = tmp_path / out
    assert (
        f"--out {out} is {where}, which has to mean the same place on every machine of the cluster" in words
    ) == told
    (job,) = server.jobs
    assert re.fullmatch(r"small-[0-9a-f]{12}-[0-9a-f]{6}", job)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_several_signals_at_once_end_it_as_one_does(server, number):
    command = [sys.executable, "-m", "manypaths", "submit", "small.toml", "--address", server.address, "--out", "/x"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        end = time.monotonic() + 50
        while not any(path.endswith("/logs") for _, path, *_ in server.asked):
            assert time.monotonic() < end
            time.sleep(0.02)
        for _ in range(40):  # while it ends, too
            if process.poll() is None:
                process.send_signal(number)
            time.sleep(0.01)
        printed, words = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert words.splitlines()[-1] == (
        f"job {printed.strip()} goes on; to see or to end it: manypaths attach|stop {printed.strip()} "
        f"--address {server.address}"
    )
    assert "Exception" not in words

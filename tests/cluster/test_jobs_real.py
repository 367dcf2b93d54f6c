"""Jobs on a real Ray head of this machine, which asks for a token: submitted, followed, stopped, gone on with."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from cluster.process import processes_below
from study.executor import InProcess
from study.lease import holder
from study.progress import live
from study.store import RunDirectory
from study.sweep_run import load, run_sweep

ROOT = Path(__file__).parents[2]
TOKEN = "the-token-of-this-test"
BIN = Path(sys.executable).parent
pytestmark = [
    pytest.mark.slow,
    pytest.mark.faults,
    pytest.mark.timeout(500),
    # Ray's client leaves sockets to the end of the process
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::FutureWarning"),
]

SWEEP = """
name = "small"
tasks = ["./mine.py:points", "manifold-d2"]
methods = ["ns", "ns+gp1"]
budget.steps = {steps}
budget.evaluations = 5
space.override.lr = {{log_uniform = [1e-3, 1e-1]}}
design.kind = "table"
design.table = "tables/design.csv"
execution.pack = 2
execution.program = "recorded"
execution.device = "cpu"
"""
MINE = """
from study.metrics.samples import energy_distance
from study.tasks.base import Task

points = Task(
    shape=(1,),
    draws=1,
    sample=lambda uniforms: uniforms.round(),
    evaluate=lambda at: {"m_n64": energy_distance(at.samples, at.samples.new_tensor([[0.0], [1.0]]))},
    evaluation_samples=64,
    metrics=("m_n64",),
    primary="m_n64",
    threshold=0.05,
    anchors=(0.01, 1.0),
)
"""
HOSTILE = 'raise SystemExit("a file of the user was imported in place of ours")\n'


def free_ports(count):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count * 8)]
        # Ray gives 10002 to 19999 to its workers
        return [port for port in (s.getsockname()[1] for s in sockets) if not 10001 < port < 20000][:count]


def asked(address):
    request = urllib.request.Request(f"{address}/api/jobs/", headers={"Authorization": f"Bearer {TOKEN}"})
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


@pytest.fixture(scope="module")
def home():
    with tempfile.TemporaryDirectory(prefix="mph", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def quiet(home):
    """The environment of every process: a home of its own, listeners on loopback, and no word of a token."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "PYTHON"))}
    own = {"HOME": str(home), "RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    return kept | own | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}


@pytest.fixture(scope="module")
def head(home, quiet):
    """The address of a cluster's dashboard; the cluster asks for TOKEN."""
    port, dashboard, agent = free_ports(3)
    address = f"http://127.0.0.1:{dashboard}"
    command = [str(BIN / "ray"), "start", "--head", "--block", f"--port={port}", f"--dashboard-port={dashboard}"]
    options = [f"--dashboard-agent-listen-port={agent}", "--num-cpus=2", f"--temp-dir={home}/r"]
    options += ["--object-store-memory=80000000", "--include-dashboard=true"]
    environment = quiet | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}
    log = home / "head.log"
    with log.open("wb") as words:
        process = subprocess.Popen(
            [*command, *options], env=environment, cwd=home, stdout=words, stderr=words, start_new_session=True
        )
    try:
        end = time.monotonic() + 120
        while not asked(address):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.5)
        yield address
    finally:
        below = processes_below(process.pid)
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=20)
        for pid in [process.pid, *below]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()


@pytest.fixture
def folder(tmp_path):
    """A user's folder full of names that are ours, and the sweep's design table."""
    folder = tmp_path / "user's $(touch hit) folder"
    folder.mkdir()
    for package in ("study", "analysis", "cluster", "search_spaces", "ray"):
        (folder / package).mkdir()
        (folder / package / "__init__.py").write_text(HOSTILE)
    for module in ("torch", "numpy", "manypaths", "typer", "sitecustomize"):
        (folder / f"{module}.py").write_text(HOSTILE)
    (folder / "mine.py").write_text(MINE)
    (folder / "tables").mkdir()
    (folder / "tables" / "design.csv").write_text("lr\n0.001\n0.01\n0.03\n0.1\n")
    return folder


def write_sweep(folder, steps):
    file = folder / "small sweep.toml"
    file.write_text(SWEEP.format(steps=steps))
    return file


@pytest.fixture
def cli(quiet, folder):
    """A function that runs a command line in the user's folder, with the token unless told otherwise."""

    def call(*arguments, timeout=200, **environment):
        settings = environment if environment else {"RAY_AUTH_TOKEN": TOKEN}
        command = [sys.executable, "-P", "-m", "manypaths", *map(str, arguments)]
        return subprocess.run(
            command, env=quiet | settings, cwd=folder, capture_output=True, text=True, timeout=timeout
        )

    return call


def rows(directory):
    frame = directory.read_table("trials").to_pandas().set_index("trial_id").sort_index()
    return frame.drop(columns="train_seconds")


def in_process(file, root):
    sweep, trials = load(file)
    directory = RunDirectory(root)
    run_sweep(directory, sweep, trials, InProcess(), watch=live, say=print)
    return rows(directory)


def until(holds, seconds=90):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.2)


def test_a_sweep_from_a_hostile_folder_gives_the_bits_of_this_process(head, cli, folder, tmp_path):
    file, out = write_sweep(folder, 6), tmp_path / "the run's $(touch hit)"
    submit = ("submit", file, "--address", head, "--out", out, "--with-package")
    first = cli(*submit)
    assert first.returncode == 0, first.stderr
    name = first.stdout.strip()
    assert re.fullmatch(r"small-[0-9a-f]{12}-[0-9a-f]{6}", name)
    assert "16 of 16 trials done" in first.stderr
    assert f"job {name} succeeded" in first.stderr
    # the package that travelled was used: it is no checkout
    assert json.loads((out / "manifest.json").read_text())["commit"] is None
    expected = in_process(file, tmp_path / "here")
    assert rows(RunDirectory(out)).equals(expected)
    assert len(expected) == 16
    assert list(tmp_path.rglob("hit")) == []

    second = cli(*submit)
    assert (second.returncode, second.stdout.strip()) == (0, name)
    assert "nothing was started" in second.stderr
    for path in [first.stdout, first.stderr, second.stderr]:
        assert TOKEN not in path
    assert not any(TOKEN.encode() in path.read_bytes() for path in out.rglob("*") if path.is_file())

    listed = cli("status", "--address", head, "--json")
    assert TOKEN not in listed.stdout
    assert {"job": name, "state": "succeeded", "exit_code": 0}.items() <= next(
        job for job in json.loads(listed.stdout) if job["job"] == name
    ).items()
    shown = cli("logs", file, "--address", head)
    assert (shown.returncode, str(out) in shown.stdout) == (0, True)


def test_a_stopped_job_goes_on_when_it_is_submitted_again(head, cli, folder, tmp_path):
    file, out = write_sweep(folder, 8000), tmp_path / "run"
    directory = RunDirectory(out)
    begun = cli("submit", file, "--address", head, "--out", out, "--no-wait", "--json")
    assert begun.returncode == 0, begun.stderr
    name = json.loads(begun.stdout)["job"]
    until(lambda: directory.parts("trials"))
    same = cli("submit", file, "--address", head, "--out", out, "--no-wait", "--json")
    assert {key: json.loads(same.stdout)[key] for key in ("job", "started")} == {"job": name, "started": False}
    assert holder(directory) is not None
    stopped = cli("stop", name, "--address", head)
    assert "was stopped" in stopped.stderr, stopped.stderr
    assert holder(directory) is None  # the driver gave its lease back: it was not killed
    assert "stopped: what is finished is kept" in cli("logs", name, "--address", head).stdout
    kept, before = set(directory.parts("trials")), rows(directory)
    assert 0 < len(kept) < 8
    assert cli("attach", name, "--address", head).returncode == 143

    again = cli("submit", file, "--address", head, "--out", out)
    assert again.returncode == 0, again.stderr
    assert again.stdout.strip() == f"{name}-2"
    tried = [json.loads(path.read_text()) for path in (out / "attempts").glob("*.json")]
    assert all(sum(note["pack"] == pack and note["outcome"] == "committed" for note in tried) == 1 for pack in kept)
    after, planned = rows(directory), directory.read_table("plan", ["trial_id"])["trial_id"].to_pylist()
    assert sorted(after.index) == sorted(planned)
    assert after.loc[before.index].equals(before)


def test_a_token_is_asked_for_and_a_wrong_one_refused(head, cli, home, folder, tmp_path):
    file = write_sweep(folder, 6)
    missing = cli("status", "--address", head, RAY_USAGE_STATS_ENABLED="0")
    assert (missing.returncode, missing.stdout) == (2, "")
    assert missing.stderr.startswith(f"error: {head} asks for a token: set RAY_AUTH_TOKEN")
    wrong = cli("submit", file, "--address", head, "--out", tmp_path / "run", RAY_AUTH_TOKEN="not-the-token")
    assert wrong.returncode == 2
    assert wrong.stderr == f"error: {head} refuses the token from RAY_AUTH_TOKEN: it is another cluster's\n"
    assert not (tmp_path / "run").exists()
    path = home / ".ray" / "auth_token"
    path.parent.mkdir(exist_ok=True)
    path.write_text(TOKEN + "\n")
    try:
        assert cli("status", "--address", head, RAY_USAGE_STATS_ENABLED="0").returncode == 0
        disabled = cli("status", "--address", head, RAY_AUTH_MODE="disabled")
        assert "RAY_AUTH_MODE=disabled keeps it back" in disabled.stderr
    finally:
        path.unlink()


def test_what_a_job_ends_with_is_what_the_command_ends_with(head, cli, folder, tmp_path):
    file, out = write_sweep(folder, 6), tmp_path / "foreign"
    out.mkdir()
    (out / "thesis.txt").write_text("mine")
    refused = cli("submit", file, "--address", head, "--out", out)
    name = refused.stdout.strip()
    assert refused.returncode == 2, refused.stderr
    assert "'thesis.txt', which is not a run's" in refused.stderr
    assert f"job {name} failed with exit code 2" in refused.stderr
    assert "Traceback" not in refused.stderr
    told = cli("status", name, "--address", head)
    assert (told.returncode, "thesis.txt" in told.stdout, "Traceback" in told.stdout) == (0, True, False)
    absent = cli("submit", file, "--address", head, "--out", tmp_path / "run", "--python", "/no/such python")
    assert absent.returncode == 127
    assert cli("attach", "nobody", "--address", head).stderr.startswith(
        f"error: there is no job 'nobody' on {head}: there are "
    )


def test_whoever_attaches_can_leave_and_the_job_goes_on(head, quiet, cli, folder, tmp_path):
    file, out = write_sweep(folder, 8001), tmp_path / "run"
    command = [sys.executable, "-P", "-m", "manypaths", "submit", str(file), "--address", head, "--out", str(out)]
    with subprocess.Popen(
        command, env=quiet | {"RAY_AUTH_TOKEN": TOKEN}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        until(lambda: RunDirectory(out).parts("trials"))
        process.send_signal(signal.SIGINT)
        printed, words = process.communicate(timeout=60)
    assert (process.returncode, "goes on" in words) == (130, True)
    assert json.loads(cli("status", printed.strip(), "--address", head, "--json").stdout)["state"] == "running"
    # of the same machine, and without the cluster
    stopped = cli("stop", out)
    assert stopped.stderr.startswith("stopped process "), stopped.stderr
    assert cli("attach", out).returncode == 1
    ended = cli("attach", printed.strip(), "--address", head)
    assert ended.returncode == 143, ended.stderr
    shutil.rmtree(out)

"""What the templates and docs/clusters.md say to do, done: real Rays, in process and network namespaces of their own.

`ray stop` ends every Ray of its user that it sees. Here it is a stand-in that writes down that it was called, and the
namespace, which ends with its first process, does the rest.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

import manypaths
from study.spec import read_sweep
from study.store import RunDirectory
from study.sweep_run import load

BIN = Path(sys.executable).parent
DOCS = Path(__file__).parents[2] / "docs/clusters.md"
ALONE = ["unshare", "--pid", "--net", "--mount-proc", "--fork", "--kill-child"]
NETWORK = """
ip link set lo up
for node in 1 2 3; do ip address add "10.0.0.$node/24" dev lo; done
ip route add default dev lo src 10.0.0.1
exec bash "$0"
"""
"""Three machines' addresses, which nobody else can reach."""


def can_be_alone():
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        return False
    return subprocess.run([*ALONE, "ip", "link", "set", "lo", "up"], capture_output=True).returncode == 0


pytestmark = [
    pytest.mark.slow,
    pytest.mark.faults,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not can_be_alone(), reason="needs namespaces: unshare --pid --net, and ip"),
]

SWEEP = """
name = "small"
tasks = ["manifold-d2"]
methods = ["ns", "ns+gp1"]
budget = {{ steps = {steps}, evaluations = 5 }}
space = {{ preset = "lucic_wide" }}
design = {{ points = {points} }}
execution = {{ pack = 4, device = "cpu" }}
"""


@pytest.fixture
def place():
    """A folder with a short path, for the sockets in it, and with stand-ins for what must not really run."""
    with tempfile.TemporaryDirectory(prefix="mp", ignore_cleanup_errors=True) as folder:
        place = Path(folder)
        tool(place, "ray", f'if [[ $1 == stop ]]; then echo stop >>{place}/calls; else exec {BIN}/ray "$@"; fi')
        yield place


def tool(place, name, body):
    path = place / "tools" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/bash\n{body}\n")
    path.chmod(0o755)


def environment(place, **more):
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "SLURM_"))}
    return kept | {
        "PATH": f"{place / 'tools'}:{BIN}:{os.environ['PATH']}",
        "HOME": str(place),
        "RAY_TMPDIR": str(place),  # not where others keep theirs
        "RAY_USAGE_STATS_ENABLED": "0",
        **more,
    }


def children(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def wait_for(condition, process, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, "it ended too early"
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.2)


# --- SLURM


@pytest.fixture
def slurm(place):
    """SLURM's commands, as far as one node needs them."""
    keep = f"printf %s $RAY_AUTH_TOKEN >{place}/tools/token"
    tool(place, "srun", f'while [[ $1 == --* ]]; do shift; done\n{keep}\nexec "$@"')
    tool(place, "scontrol", f'if [[ $1 == show ]]; then echo "$3"; else echo "$*" >>{place}/calls; fi')
    tool(place, "hostname", "echo 127.0.0.1")
    return place


def submit(place, script):
    """Start the batch script as SLURM would."""
    job = {"SLURM_JOB_ID": str(10**6 + os.getpid()), "SLURM_JOB_NODELIST": "node1", "SLURM_JOB_NUM_NODES": "1"}
    return start(place, script, **job)


def start(place, script, **variables):
    with (place / "log").open("a") as log:
        return subprocess.Popen(
            [*ALONE, "bash", "-c", NETWORK, str(script)],
            env=environment(place, **variables),
            cwd=place,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def end_of(place, process, seconds):
    """Exit code and all that was said; nothing of it is left then."""
    try:
        code = process.wait(timeout=seconds)
    finally:
        process.kill()  # and with it the namespace
        process.wait()
        written = (place / "log").read_text()
        print(written)
    return code, written


def calls(place):
    path = place / "calls"
    return path.read_text().split("\n")[:-1] if path.exists() else []


def batch_script(place, *options):
    """The script for `sweep.toml`, its only change the line that a user is told to change."""
    arguments = ["template", "slurm", str(place / "sweep.toml"), "--workers", "1", "--cpus", "1", *options]
    printed = CliRunner().invoke(manypaths.app, arguments)
    assert printed.exit_code == 0
    text = printed.stdout.replace(f"export PATH={BIN}:", f"export PATH={place}/tools:{BIN}:")
    assert text != printed.stdout
    script = place / "sweep.sbatch"
    script.write_text(text)
    return script


def test_the_batch_script_hands_over_in_time_and_goes_on(slurm):
    out = slurm / "out"
    (slurm / "sweep.toml").write_text(SWEEP.format(steps=500, points=8))
    script = batch_script(slurm, "--out", str(out))
    directory, (_, trials) = RunDirectory(str(out)), load(slurm / "sweep.toml")
    packs = len(trials) // 4
    scratch = Path(f"/tmp/mp-{10**6 + os.getpid()}")
    process = submit(slurm, script)
    try:
        wait_for(lambda: directory.parts("trials"), process)
        mode = scratch.stat().st_mode
        os.kill(children(process.pid)[0], signal.SIGUSR1)
    finally:
        code, written = end_of(slurm, process, 90)
    assert code == 0
    assert mode & 0o077 == 0
    assert sorted(calls(slurm)) == [f"requeue {10**6 + os.getpid()}", "stop"]
    assert "the same command goes on from there" in written
    first = {name: (out / "trials" / f"{name}.parquet").stat().st_mtime_ns for name in directory.parts("trials")}
    assert 1 <= len(first) < packs
    assert not scratch.exists()
    token = (slurm / "tools/token").read_bytes()
    assert len(token) == 64
    for path in (path for path in slurm.rglob("*") if path.is_file() and path.parent.name != "tools"):
        assert token not in path.read_bytes(), path

    code, _ = end_of(slurm, submit(slurm, script), 150)
    assert code == 0
    rows = directory.read_table("trials", ["trial_id"])["trial_id"].to_pylist()
    assert sorted(rows) == sorted(trial.trial_id for trial in trials)
    for name, when in first.items():
        assert (out / "trials" / f"{name}.parquet").stat().st_mtime_ns == when
    assert calls(slurm)[2:] == ["stop"]


def test_the_batch_script_ends_as_the_sweep_does(slurm):
    (slurm / "sweep.toml").write_text(SWEEP.format(steps=10, points=2))
    script = batch_script(slurm)
    (slurm / "sweep.toml").write_text("name = 3")  # broken since
    code, written = end_of(slurm, submit(slurm, script), 120)
    assert code == 2
    assert "name = 3" in written
    assert calls(slurm) == ["stop"]


# --- by hand


def commands(title):
    """The commands of a section of the page, as they stand there."""
    section = re.search(rf"^## {title}\n(.*?)^## ", DOCS.read_text(), flags=re.MULTILINE | re.DOTALL)[1]
    blocks = re.findall(r"^```console\n(.*?)^```$", section, flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"^\$ (.*)$", "".join(blocks), flags=re.MULTILINE)


def test_by_hand_and_submitted_as_the_page_says(place):
    (place / "sweep.toml").write_text(SWEEP.format(steps=20, points=4))
    *begun, ended = commands("By hand")
    assert ended.startswith("ray stop")
    tunnel, *submitted = commands("Submitting")
    assert re.match(r"ssh -N -L 8265:127\.0\.0\.1:8265 10\.0\.0\.1 ", tunnel)  # this is the head: it needs none
    submitted = [line for line in submitted if not line.startswith("manypaths stop ")]  # it names nobody's job
    text = "\n".join([*begun, *submitted, ended]).replace("s3://bucket/", f"{place}/bucket/")
    assert re.findall(r"--node-ip-address=(\S+)", text) == ["10.0.0.1", "10.0.0.2", "10.0.0.3"]
    count = "import ray; ray.init('auto', log_to_driver=False); print('nodes', sum(n['Alive'] for n in ray.nodes()))"
    text = text.replace("/shared/", f"{place}/shared/")  # nothing else is changed
    text = re.sub(r"^ray stop", f'python -c "{count}"\nray stop', text, flags=re.MULTILINE)
    script = place / "by_hand.sh"
    script.write_text(f"set -euxo pipefail\n{text}\n")
    code, written = end_of(place, start(place, script), 240)
    assert code == 0
    assert "nodes 3" in written
    out = place / "shared/runs/mine"
    _, trials = load(place / "sweep.toml")
    for directory in (out, place / "bucket/runs/mine"):
        rows = RunDirectory(str(directory)).read_table("trials", ["trial_id"])["trial_id"].to_pylist()
        assert sorted(rows) == sorted(trial.trial_id for trial in trials)
    assert len(re.findall(r"^small-[0-9a-f]{12}-[0-9a-f]{6} +succeeded ", written, flags=re.MULTILINE)) == 2
    assert read_sweep(out / "sweep.toml").name == "small"
    assert list(out.rglob("report.html"))
    assert calls(place) == ["stop"]

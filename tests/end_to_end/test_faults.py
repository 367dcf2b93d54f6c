"""The whole program, killed and crowded: nothing lost, nothing twice, the same bits."""

import contextlib
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
GRACE_SECONDS = 15
"""Ten, and what a busy machine takes beyond."""

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


def start(file, out, *options, cwd=None, quicker=None):
    """Start the command; `quicker` is a line of Python that shortens some of its times first."""
    program = ["-c", f"{quicker}\nfrom manypaths import main\nmain()"] if quicker else [COMMAND]
    command = [*([sys.executable] if quicker else []), *program, "run", file, "--out", out, *options]
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


def outcomes_of(out):
    return [json.loads(path.read_text())["outcome"] for path in out.glob("attempts/*.json")]


def kill_a_busy_worker(out, seconds=120, number=signal.SIGKILL):
    """Kill a worker that has begun a pack and not ended it."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for path in out.glob("attempts/*.json"):
            note = json.loads(path.read_text())
            if note["outcome"] == "started" and Path(f"/proc/{note['pid']}").exists():
                os.kill(note["pid"], number)
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
    assert outcomes_of(out).count("started") in (1, 2), "a worker was to be killed in the middle of its pack"


@pytest.mark.faults
def test_a_worker_whose_node_is_drained_hands_its_pack_back(file, tmp_path, undisturbed):
    out = tmp_path / "drained"
    process = start(file, out)
    wait_for_parts(out, 1, process)
    kill_a_busy_worker(out, number=signal.SIGTERM)
    code, _, words = finish(process)
    assert code == 0, words
    assert rows(out).equals(undisturbed)


@pytest.mark.faults
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
@pytest.mark.parametrize("options", [[], ["--in-process"]], ids=["ray", "in process"])
def test_a_request_to_stop_is_obeyed_and_the_rest_follows_later(file, tmp_path, undisturbed, number, options):
    out = tmp_path / "stopped"
    process = start(file, out, *options)
    wait_for_parts(out, 1, process)
    begun = time.monotonic()
    process.send_signal(number)
    code, _, words = finish(process)
    assert code == 128 + number
    assert time.monotonic() - begun < GRACE_SECONDS
    assert not options or "started" not in outcomes_of(out)  # "interrupted", if the signal did not come between two
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


# Long packs


@pytest.mark.faults
def test_a_long_pack_that_is_interrupted_goes_on_where_it_was(tmp_path):
    path, quicker = tmp_path / "long.toml", "from study import worker; worker.CHECKPOINT_ABOVE_SECONDS = 0.5"
    path.write_text(
        'name = "long"\ntasks = ["manifold-d2"]\nmethods = ["ns+gp1"]\nbudget = { steps = 1500, evaluations = 5 }\n'
        'space = { preset = "lucic_wide", override.n_critic = 1 }\n'
        "design = { points = 16 }\nexecution = { pack = 16 }\n"
    )
    code, _, words = finish(start(path, tmp_path / "whole", "--in-process"))
    assert code == 0, words
    out = tmp_path / "interrupted"
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGKILL):
        seen = kept_at(out)
        process = start(path, out, "--in-process", quicker=quicker)
        wait_for_a_checkpoint(out, seen, process)
        process.send_signal(number)
        code, _, words = finish(process)
        assert code == (-number if number == signal.SIGKILL else 128 + number), words
    assert not list(out.glob("trials/*.parquet"))
    code, _, words = finish(start(path, out, "--in-process", quicker=quicker))
    assert code == 0, words
    assert rows(out).equals(rows(tmp_path / "whole"))
    assert history(out).equals(history(tmp_path / "whole"))
    remarks = [json.loads(path.read_text()).get("remarks", []) for path in out.glob("attempts/*.json")]
    assert sum("went on at step" in remark for each in remarks for remark in each) >= 1
    assert not list(out.glob("checkpoints/*"))


def history(out):
    return pd.read_parquet(out / "history").sort_values(["trial_id", "generator_steps"], ignore_index=True)


def kept_at(out):
    return {path.stat().st_mtime_ns for path in out.glob("checkpoints/*.safetensors")}


def wait_for_a_checkpoint(out, seen, process, seconds=120):
    """Wait for a checkpoint that was not there before."""
    deadline = time.monotonic() + seconds
    while kept_at(out) <= seen:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


# Memory

CROWDED = """
name = "crowded"
tasks = ["ring8"]
methods = ["ns"]
budget = {{ steps = 4, evaluations = 2 }}
space = {{ preset = "lucic_wide", override.n_critic = 1, override.width_g.cross = [16, 512], override.width_d = 16 }}
design = {{ points = 16 }}
execution = {{ pack = {pack}, device = "cpu", memory = "{memory}" }}
"""


@pytest.mark.faults
@pytest.mark.parametrize("options", [[], ["--in-process"]], ids=["ray", "in process"])
def test_a_pack_beyond_the_declared_memory_is_halved_until_it_fits(tmp_path, options):
    path = tmp_path / "crowded.toml"
    path.write_text(CROWDED.format(pack=16, memory="200 MiB"))
    code, _, words = finish(start(path, tmp_path / "run", *options))
    assert code == 0, words
    found = rows(tmp_path / "run")
    wide, narrow = found[found["width_g"] == 512], found[found["width_g"] == 16]
    assert set(narrow["capacity"]) == {16}
    capacity = wide["capacity"].iloc[0]
    assert set(wide["capacity"]) == {capacity}
    assert capacity in (2, 4, 8)
    assert set(found["status"]) == {"completed"}
    path.write_text(CROWDED.format(pack=capacity, memory="8 GiB"))
    code, _, words = finish(start(path, tmp_path / "planned", *options))
    assert code == 0, words
    assert wide["primary"].equals(rows(tmp_path / "planned").loc[wide.index, "primary"])


@pytest.mark.faults
def test_a_trial_beyond_the_declared_memory_is_oom_and_harms_nobody(tmp_path):
    path = tmp_path / "crowded.toml"
    path.write_text(CROWDED.format(pack=2, memory="12 MiB"))
    code, _, words = finish(start(path, tmp_path / "run", "--in-process"))
    assert code == 0, words
    found = rows(tmp_path / "run")
    assert found.groupby("width_g")["status"].unique().map(list).to_dict() == {16: ["completed"], 512: ["oom"]}
    lost = found[found["status"] == "oom"]
    assert set(lost["capacity"]) == {1}
    assert lost["reason"].str.contains("execution.memory = '12 MiB'", regex=False).all()


# Storage


@pytest.mark.faults
@pytest.mark.skipif(os.geteuid() != 0, reason="needs to mount a small file system")
@pytest.mark.parametrize("options", [[], ["--in-process"]], ids=["ray", "in process"])
def test_a_disk_that_is_full_for_some_seconds_loses_nothing(file, tmp_path, undisturbed, options):
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", small], capture_output=True).returncode:
        pytest.skip("may not mount here")
    try:
        out = small / "run"
        process = start(file, out, *options)
        wait_for_parts(out, 1, process)
        with contextlib.suppress(OSError), (small / "filler").open("wb", buffering=0) as filler:
            while filler.write(bytes(4096)):
                pass
        time.sleep(8)
        done = len(list(out.glob("trials/*.parquet")))
        (small / "filler").unlink()
        code, _, words = finish(process)
        assert code == 0, words
        assert done < len(list(out.glob("trials/*.parquet")))
        assert rows(out).equals(undisturbed)
        assert not [path for path in out.rglob("*") if path.suffix == ".tmp"]
    finally:
        subprocess.run(["umount", "-l", small], check=False)


HANGS = """
import ctypes, os, sys
from study.filesystem import Folder
lock, libc = ctypes.create_string_buffer(64), ctypes.CDLL(None)
def hanging(call):
    def hangs(*arguments, **options):
        while os.path.exists({marker!r}):  # in a lock of the C library, which no signal ends
            libc.pthread_mutex_lock(lock), libc.pthread_mutex_lock(lock)
        return call(*arguments, **options)
    return hangs
for name in ("publish", "read", "remove", "exists", "entries", "names", "create"):
    setattr(Folder, name, hanging(getattr(Folder, name)))
from study import lease
lease.RENEW_SECONDS = 1.0
"""


@pytest.mark.faults
@pytest.mark.skipif(sys.platform != "linux", reason="blocks in a lock of Linux's C library")
@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("options", [[], ["--in-process"]], ids=["ray", "in process"])
def test_a_request_to_stop_is_obeyed_while_storage_hangs(file, tmp_path, options, times):
    out, marker = tmp_path / "run", tmp_path / "hang"
    process = start(file, out, *options, quicker=HANGS.format(marker=str(marker)))
    wait_for_parts(out, 1, process)
    below = {pid for pid in descendants(process.pid) if not options}
    marker.touch()
    time.sleep(2)
    begun = time.monotonic()
    for _ in range(times):
        process.send_signal(signal.SIGTERM)
        time.sleep(1)
    code, _, words = finish(process)
    assert code == 128 + signal.SIGTERM, words
    assert time.monotonic() - begun < (GRACE_SECONDS if times == 1 else 3)
    assert f"stopped: what is finished is kept in {out}" in words or times == 2
    assert "Traceback" not in words
    deadline = time.monotonic() + 20
    while below & alive():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def processes():
    """By process id, its state and its parent."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            found[int(stat.parent.name)] = stat.read_text().rpartition(")")[2].split()[:2]
    return found


def alive():
    return {pid for pid, (state, _) in processes().items() if state not in "ZX"}


def descendants(top):
    parents = {pid: int(parent) for pid, (_, parent) in processes().items()}
    found = {top}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {top}


@pytest.mark.faults
@pytest.mark.parametrize("options", [[], ["--in-process"]], ids=["ray", "in process"])
def test_a_run_directory_that_vanishes_ends_the_run_which_goes_on_when_it_is_back(file, tmp_path, undisturbed, options):
    out = tmp_path / "run"
    process = start(file, out, *options)
    wait_for_parts(out, 1, process)
    out.rename(tmp_path / "elsewhere")
    code, _, words = finish(process)
    assert code == 2
    assert "is gone, removed, renamed or unmounted while it was in use" in words
    assert "Traceback" not in words
    assert not out.exists(), sorted(out.rglob("*"))
    (tmp_path / "elsewhere").rename(out)
    code, _, words = finish(start(file, out, "--in-process"))
    assert code == 0, words
    assert rows(out).equals(undisturbed)


@pytest.mark.faults
@pytest.mark.skipif(os.geteuid() != 0, reason="needs to mount")
@pytest.mark.parametrize("options", [[], ["--in-process"]], ids=["ray", "in process"])
def test_storage_that_becomes_read_only_ends_the_run_with_the_reason(file, tmp_path, undisturbed, options):
    out = tmp_path / "run"
    out.mkdir()
    if subprocess.run(["mount", "--bind", out, out], capture_output=True).returncode:
        pytest.skip("may not mount here")
    try:
        process = start(file, out, *options)
        wait_for_parts(out, 1, process)
        subprocess.run(["mount", "-o", "remount,ro,bind", out], check=True)
        code, _, words = finish(process)
        assert code == 2
        assert f"cannot write to the run directory {out}: Read-only file system" in words
        assert "Traceback" not in words
        subprocess.run(["mount", "-o", "remount,rw,bind", out], check=True)
        code, _, words = finish(start(file, out, "--in-process"))
        assert code == 0, words
        assert rows(out).equals(undisturbed)
    finally:
        subprocess.run(["umount", "-l", out], check=False)


@pytest.mark.faults
@pytest.mark.parametrize("table", ["trials", "history", "plan"])
def test_a_truncated_part_is_made_again(file, tmp_path, undisturbed, table):
    out = tmp_path / "run"
    code, _, words = finish(start(file, out, "--in-process"))
    part = min((out / table).glob("*.parquet"))
    part.write_bytes(part.read_bytes()[:-20])
    code, _, words = finish(start(file, out, "--in-process"))
    assert code == 0, words
    assert f"{part.name} is not a whole Parquet file" in words
    assert rows(out).equals(undisturbed)


# Two drivers

QUICK_LEASE = "from study import lease; lease.RENEW_SECONDS, lease.EXPIRE_SECONDS = 0.5, 4.0"


@pytest.mark.faults
def test_a_driver_that_was_suspended_leaves_the_run_to_the_one_that_took_over(file, tmp_path, undisturbed):
    out = tmp_path / "run"
    first = start(file, out, "--in-process", quicker=QUICK_LEASE)
    wait_for_parts(out, 1, first)
    code, _, words = finish(start(file, out, "--in-process", quicker=QUICK_LEASE))
    assert code == 2
    assert f"is being run by process {first.pid}" in words
    os.kill(first.pid, signal.SIGSTOP)
    time.sleep(6)
    second = start(file, out, "--in-process", quicker=QUICK_LEASE)
    wait_for_parts(out, len(list(out.glob("trials/*.parquet"))) + 1, second)
    os.kill(first.pid, signal.SIGCONT)
    code, _, words = finish(first)
    assert code == 2
    assert f"was taken over by process {second.pid}" in words
    code, _, words = finish(second)
    assert code == 0, words
    assert rows(out).equals(undisturbed)


# Losses

DEADLY = """
import os
import sys

from study.losses import Loss


def discriminator(real, fake):
    if "ray" in sys.modules:  # in a worker, not where the sweep file is checked
        os._exit(9)
    return real - fake


deadly = Loss(
    discriminator=discriminator,
    generator=lambda fake, real: fake,
    formula="none", source="ours", pitfalls="ends its process",
)
"""


def command(*arguments):
    done = subprocess.run([COMMAND, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.faults
def test_a_pack_that_always_ends_its_worker_is_lost_and_no_failure_of_the_method(tmp_path):
    (tmp_path / "deadly.py").write_text(DEADLY)
    path, out = tmp_path / "sweep.toml", tmp_path / "run"
    path.write_text(
        'name = "deadly"\ntasks = ["manifold-d2"]\nmethods = ["ns", "deadly.py:deadly+gp1"]\n'
        'budget = { steps = 6, evaluations = 2 }\nspace = { preset = "lucic_wide", override.n_critic = 1 }\n'
        "design = { points = 8 }\nexecution = { pack = 8, workers = 1 }\n"
    )
    quicker = "from study import executor; executor.REST_SECONDS = 0.01"
    code, printed, words = finish(start(path, out, "--json", quicker=quicker))
    assert code == 1, words
    assert json.loads(printed)["lost"] == 8
    assert f"8 trials were lost: {out}/attempts says why, and the same command tries them again" in words
    assert "Traceback" not in words
    assert set(rows(out)["method"]) == {"ns"}
    groups = json.loads(command("failures", out, "--json"))["groups"]
    lost = [group for group in groups if group["status"] == "lost"]
    assert [(group["count"], group["of"]) for group in lost] == [(8, 8)]
    assert "died" in lost[0]["cause"] or "without a word" in lost[0]["cause"], lost
    status = {row["method"]: row for row in json.loads(command("status", out, "--json"))["methods"]}
    name = next(method for method in status if method != "ns")
    assert (status["ns"]["lost"], status["ns"]["completed"]) == (0, 8)
    assert (status[name]["lost"], status[name]["pending"], status[name]["completed"]) == (8, 0, 0)
    assert (status[name]["success_low"], status[name]["success_high"]) in ((0.0, 1.0), (None, None))

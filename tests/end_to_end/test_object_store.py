"""The whole cycle on a server that speaks S3, on this machine's loopback."""

import os
import socket
import subprocess
import sys
import threading
import time

import pandas as pd
import pytest
from pyarrow import fs
from typer.testing import CliRunner

import manypaths
from analysis.failures import failures
from analysis.runs import load, load_results
from study import compaction, filesystem
from study.compaction import compact
from study.doctor import examine
from study.errors import UserError
from study.executor import InProcess
from study.lease import lease
from study.parts import BEING_MERGED
from study.plan import expand
from study.progress import live
from study.spec import parse_sweep
from study.store import LEASE, RunDirectory, build_table
from study.sweep_run import run_sweep

pytest.importorskip("moto.server", reason="the server that speaks S3 is not installed")

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}
SWEEP = {
    "name": "far",
    "tasks": ["manifold-d2"],
    "methods": ["ns", "ns+gp1"],
    "budget": {"steps": 6, "evaluations": 2},
    "space": {"override": {"lr": {"log_uniform": [1e-3, 1e-1]}}},
    "design": {"points": 4},
    "execution": {"pack": 2, "device": "cpu"},
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The port of a server that speaks S3, with a bucket called `runs`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("s3") / "log"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with log.open("w") as out, pytest.MonkeyPatch.context() as patch:
        process = subprocess.Popen(command, stdout=out, stderr=out, env=os.environ | CREDENTIALS)
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)
        try:
            _wait(port, process)
            server = fs.S3FileSystem(endpoint_override=f"127.0.0.1:{port}", scheme="http", allow_bucket_creation=True)
            server.create_dir("runs")
            yield port
        finally:
            process.kill()
            process.wait()


def _wait(port, process):
    for _ in range(300):
        if process.poll() is not None:
            break
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    pytest.fail("the server did not start")


@pytest.fixture
def uri(server, request):
    name = "".join(letter if letter.isalnum() else "-" for letter in request.node.name)
    return f"s3://runs/{name}?endpoint_override=127.0.0.1:{server}&scheme=http"


def run(root, **changes):
    sweep = parse_sweep(SWEEP | changes, source="far.toml")
    return run_sweep(RunDirectory(root), sweep, expand(sweep), InProcess(), watch=live, say=lambda _: None)


def by_pandas(directory, table):
    return pd.read_parquet(f"{directory._path}/{table}", filesystem=directory._fs)


@pytest.mark.timeout(240)
def test_a_run_is_made_resumed_extended_compacted_and_read_on_an_object_store(uri, tmp_path):
    _, tally = run(uri)
    assert tally.statuses.total() == 8
    directory = RunDirectory(uri)
    before = load_results(directory).trials.sort_values("trial_id", ignore_index=True)
    run(tmp_path / "here")
    here = load_results(RunDirectory(tmp_path / "here")).trials.sort_values("trial_id", ignore_index=True)
    pd.testing.assert_frame_equal(before.drop(columns="train_seconds"), here.drop(columns="train_seconds"))

    lost = directory.parts("trials")[0]
    directory.remove(f"trials/{lost}.parquet")
    assert examine(directory).missing_packs == 1
    again, _ = run(uri)
    assert again.missing == (lost,)

    assert [(found.table, found.before, found.after) for found in compact(directory) if found.before] == [
        ("history", 4, 1),
        ("trials", 4, 1),
    ]
    assert sorted(by_pandas(directory, "trials")["trial_id"]) == before["trial_id"].tolist()
    found = load_results(directory).trials.sort_values("trial_id", ignore_index=True)
    pd.testing.assert_frame_equal(found.drop(columns="train_seconds"), before.drop(columns="train_seconds"))
    resumed, tally = run(uri)
    assert (resumed.missing, tally.done) == ((), 8)

    grown, tally = run(uri, design={"points": 8})
    assert (len(grown.missing), tally.done) == (4, 16)
    diagnosis = examine(directory)
    assert (diagnosis.findings, diagnosis.sound, diagnosis.rows) == ((), True, 16)
    compact(directory)
    assert len(by_pandas(directory, "trials")) == 16
    assert load_results(directory).trials["trial_id"].nunique() == 16


@pytest.mark.timeout(120)
def test_the_commands_take_an_address_of_an_object_store(uri):
    run(uri)
    for verb in ("status", "failures", "doctor", "compact"):
        done = CliRunner().invoke(manypaths.app, [verb, uri, "--json"])
        assert done.exit_code == 0, done.output
    address, _, query = uri.partition("?")
    for pattern in (uri, f"{address[:-3]}*?{query}"):
        runs = load(pattern)
        assert (len(runs.trials), set(runs.trials["run"])) == (8, {address.rpartition("/")[2]})


def test_what_was_lost_is_told_from_an_object_store(uri):
    run(uri)
    directory = RunDirectory(uri)
    pack = directory.parts("trials")[0]
    directory.remove(f"trials/{pack}.parquet")
    directory.write_json(
        f"attempts/{pack}.z.json", {"pack": pack, "outcome": "failed", "error": "E: 3", "started": 9e9}
    )
    (group,) = [group for group in failures(directory)["groups"] if group["status"] == "lost"]
    assert (group["cause"], group["count"]) == ("E: #", 2)
    assert group["examples"][0]["again"].startswith("manypaths run FILE --out 's3://runs/")


@pytest.mark.timeout(120)
def test_of_two_drivers_on_an_object_store_one_runs(uri):
    held, refused, start = [], [], threading.Barrier(3)
    stop = threading.Event()

    def drive():
        start.wait()
        try:
            with lease(RunDirectory(uri)):
                held.append(1)
                stop.wait(60)
        except UserError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=drive) for _ in range(3)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 60
    while len(held) + len(refused) < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    stop.set()
    for thread in threads:
        thread.join()
    assert (len(held), len(refused)) == (1, 2)
    assert RunDirectory(uri).entries() == []


class Killed(BaseException):
    """Stands for kill -9: nothing that comes later is done."""


@pytest.mark.slow
@pytest.mark.timeout(300)
# the lease is given back in a thread of its own, which is stopped as well
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_stopped_at_any_request_a_compaction_loses_nothing_and_the_same_command_ends_it(uri, monkeypatch):
    directory, packs = RunDirectory(uri), ("0a", "0b", "0c", "0d")
    rows = {pack: [{"trial_id": f"{pack}.{slot}", "pack": pack} for slot in range(2)] for pack in packs}
    for table in ("plan", "trials"):
        for pack in packs:
            directory.write_part(table, pack, build_table(table, rows[pack]))
    expected = sorted(row["trial_id"] for pack in packs for row in rows[pack])
    kept = {name: directory.read(name) for name in files(directory, "trials")}
    intact = {name: getattr(filesystem.Folder, name) for name in ("publish", "remove")}
    monkeypatch.setattr(compaction, "RESULTS", ("trials",))
    step, told = 0, 0
    while True:
        directory.remove_all(files(directory, "trials"))
        for name, data in kept.items():
            directory.publish(name, data)
        with pytest.MonkeyPatch.context() as patch:
            left = [step]
            for name, function in intact.items():
                patch.setattr(filesystem.Folder, name, counted(function, left))
            try:
                compact(RunDirectory(uri))
                break
            except Killed:
                step += 1
        directory.remove(LEASE)  # whose process, here, is alive
        fresh = RunDirectory(uri)
        assert sorted(fresh.read_table("trials")["trial_id"].to_pylist()) == expected
        try:
            assert sorted(by_pandas(fresh, "trials")["trial_id"]) == expected
        except (OSError, ValueError) as error:
            assert BEING_MERGED in str(error)  # noqa: PT017 - either is right
            told += 1
        compact(fresh)
        assert sorted(by_pandas(fresh, "trials")["trial_id"]) == expected
    assert 0 < told < step
    assert sorted(by_pandas(directory, "trials")["trial_id"]) == expected


def files(directory, table):
    return [f"{table}/{entry.name}" for entry in directory.entries(table)]


def counted(function, left):
    def call(*arguments, **named):
        left[0] -= 1
        if left[0] < 0:
            raise Killed
        return function(*arguments, **named)

    return call

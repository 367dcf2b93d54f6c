import errno
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import manypaths
from study import parquet
from study.compaction import compact
from study.doctor import examine, repair
from study.errors import UserError
from study.lease import lease
from study.parts import BEING_MERGED, WARNING
from study.schema import SCHEMA_VERSION
from study.store import LEASE, MANIFEST, SWEEP, RunDirectory, build_table

PACKS = [f"{i:016x}" for i in (3, 7, 11)]
SIZE = 2


def ids(pack):
    return [f"{pack}.{slot}" for slot in range(SIZE)]


def commit(directory, pack, names=None, *, status="completed", evaluations=(0, 1)):
    names = ids(pack) if names is None else names
    history = [{"trial_id": name, "evaluation": e} for name in names for e in evaluations]
    directory.write_part("history", pack, build_table("history", history))
    done = [{"trial_id": name, "pack": pack, "status": status} for name in names]
    directory.write_part("trials", pack, build_table("trials", done))


@pytest.fixture
def directory(tmp_path):
    found = RunDirectory(tmp_path / "run")
    found.publish(SWEEP, b'name = "s"\n')
    found.write_json(MANIFEST, {"sweep": "s", "schema_version": SCHEMA_VERSION})
    plan = [{"trial_id": name, "pack": pack, "task": "t"} for pack in PACKS for name in ids(pack)]
    found.write_part("plan", "0000", build_table("plan", plan))
    for pack in PACKS:
        commit(found, pack)
    return found


def snapshot(directory):
    return {path: path.read_bytes() for path in Path(directory.root).rglob("*") if path.is_file()}


def kinds(directory):
    """What is found, by kind and place, and whether the whole is sound; looking changes nothing."""
    before = snapshot(directory)
    found = examine(RunDirectory(directory.root))
    assert snapshot(directory) == before
    return [(finding.kind, finding.where) for finding in found.findings], found.sound


def path(directory, name):
    return Path(directory.root, name)


def test_a_finished_run_is_sound(directory):
    found = examine(directory)
    assert (found.findings, found.sound, found.planned, found.rows, found.missing_packs) == ((), True, 6, 6, 0)
    assert found.next == "`manypaths run` would find nothing to do"
    compact(directory)
    assert kinds(directory) == ([], True)


def test_a_run_that_is_not_finished_is_sound_and_says_what_comes_next(directory):
    for table in ("trials", "history"):
        directory.remove(f"{table}/{PACKS[0]}.parquet")
    found = examine(directory)
    assert (found.findings, found.sound) == ((), True)
    assert found.next == "`manypaths run` would train 1 packs; 2 planned trials have no row"
    for name in directory.names("trials"):
        directory.remove(f"trials/{name}")
    assert examine(directory).missing_packs == 3


@pytest.mark.parametrize("table", ["trials", "history"])
@pytest.mark.parametrize("cut", [lambda data: data[:-9], lambda data: b"", lambda data: data[:4]])
def test_a_truncated_part_is_named(directory, table, cut):
    file = path(directory, f"{table}/{PACKS[1]}.parquet")
    file.write_bytes(cut(file.read_bytes()))
    assert kinds(directory) == ([("truncated", f"{table}/{PACKS[1]}.parquet")], False)
    assert examine(directory).missing_packs == 1


def test_a_truncated_merged_file_is_named_and_its_packs_are_missing(directory):
    compact(directory)
    (name,) = directory.listing("trials").merged
    file = path(directory, f"trials/{name}.parquet")
    file.write_bytes(file.read_bytes()[:-20])
    assert kinds(directory)[0][0] == ("truncated", f"trials/{name}.parquet")
    assert examine(RunDirectory(directory.root)).missing_packs == 3


@pytest.mark.parametrize("table", ["trials", "history"])
@pytest.mark.parametrize("merged", [False, True])
def test_damage_behind_a_whole_footer_is_found(directory, table, merged):
    if merged:
        compact(directory)
    (file, *_) = sorted(path(directory, table).iterdir())
    data = bytearray(file.read_bytes())
    data[4:200] = bytes(196)
    file.write_bytes(data)
    assert kinds(directory)[0][0] == ("truncated", f"{table}/{file.name}")
    assert examine(RunDirectory(directory.root)).missing_packs == (3 if merged else 1)


@pytest.mark.parametrize("table", ["plan", "trials", "history", "samples"])
@pytest.mark.parametrize(
    "content",
    [
        pa.table({"a": [1]}),
        pa.table({"trial_id": [1]}),
        build_table("trials", []).replace_schema_metadata({"schema_version": "abc"}),
    ],
)
def test_a_parquet_file_that_no_run_wrote_is_foreign_and_stays(directory, table, content):
    path(directory, table).mkdir(exist_ok=True)
    pq.write_table(content, path(directory, f"{table}/theirs.parquet"))
    found, sound = kinds(directory)
    assert (found, sound) == ([("foreign", f"{table}/theirs.parquet")], False)
    repair(RunDirectory(directory.root), lambda _: None)
    assert path(directory, f"{table}/theirs.parquet").is_file()


def test_a_folder_among_the_parts_is_foreign(directory):
    path(directory, "trials/sub.parquet").mkdir()
    assert ("foreign", "trials/sub.parquet") in kinds(directory)[0]
    repair(RunDirectory(directory.root), lambda _: None)
    assert path(directory, "trials/sub.parquet").is_dir()


def test_rows_without_a_status_are_told(directory):
    table = pa.table({"trial_id": ids(PACKS[0])})
    pq.write_table(table, path(directory, f"trials/{PACKS[0]}.parquet"))
    assert kinds(directory) == ([], True)  # they have no status, so that nothing is said against it


@pytest.mark.parametrize("data", [b"[1]", b'{"trials": null}', b'{"trials": [1]}', b'"x"', b"{"])
def test_a_note_of_merged_files_that_makes_no_sense_is_none(directory, data):
    directory.publish("compacted.json", data)
    assert kinds(directory) == ([], True)
    assert len(directory.read_table("trials")) == SIZE * len(PACKS)


def test_a_file_that_cannot_be_read_is_not_broken_and_stays(directory, monkeypatch):
    def away(*_, **__):
        raise OSError(errno.EIO, "Input/output error")

    before = snapshot(directory)
    with monkeypatch.context() as patch:
        patch.setattr(parquet.pq, "ParquetFile", away)
        patch.setattr(RunDirectory, "read", away)
        with pytest.raises(OSError, match="Input/output error"):
            repair(RunDirectory(directory.root), lambda _: None)
    assert snapshot(directory) == before


def test_what_is_no_run_would_be_refused(tmp_path):
    for name in "abcdef":
        (tmp_path / f"{name}.txt").write_text("mine")
    found = examine(RunDirectory(tmp_path))
    assert found.next == "`manypaths run` would refuse: it holds 'a.txt', which is not a run's"
    assert [finding.words for finding in found.findings if finding.kind == "foreign"] == [
        "is not a run's: nothing reads it (and 5 others: b.txt, c.txt, d.txt, ...)"
    ]


def test_a_truncated_plan_is_named(directory):
    path(directory, "plan/0000.parquet").write_bytes(b"PAR1")
    found, sound = kinds(directory)
    assert ("truncated", "plan/0000.parquet") in found
    assert ("missing", "plan") in found
    assert not sound


def test_history_missing_of_a_finished_pack(directory):
    directory.remove(f"history/{PACKS[2]}.parquet")
    assert kinds(directory) == ([("missing", "history")], False)
    assert examine(directory).next == "`manypaths run` would train 1 packs; 0 planned trials have no row"


def test_a_trial_missing_from_a_finished_pack(directory):
    commit(directory, PACKS[0], ids(PACKS[0])[:1])
    found = examine(directory)
    assert [(finding.kind, finding.where) for finding in found.findings] == [("missing", "trials")]
    assert ids(PACKS[0])[1] in found.findings[0].words


def test_completed_trials_without_history_contradict_and_failed_ones_do_not(directory):
    commit(directory, PACKS[0], evaluations=())
    assert kinds(directory) == ([("contradiction", "history")], False)
    commit(directory, PACKS[0], status="diverged", evaluations=())
    assert kinds(directory) == ([], True)


def test_a_copied_part_is_duplicate_and_foreign(directory):
    for table in ("trials", "history"):
        shutil.copy(path(directory, f"{table}/{PACKS[0]}.parquet"), path(directory, f"{table}/copy of it.parquet"))
    found, sound = kinds(directory)
    assert not sound
    assert ("foreign", "trials/copy of it.parquet") in found
    assert ("duplicate", "trials") in found
    assert ("duplicate", "history") in found


def test_rows_of_another_run_are_foreign(directory):
    commit(directory, PACKS[0], [*ids(PACKS[0]), "someone else's"])
    assert kinds(directory) == ([("foreign", "trials"), ("foreign", "history")], False)


def test_a_trial_planned_twice(directory):
    rows = [{"trial_id": ids(PACKS[0])[0], "pack": PACKS[0]}]
    directory.write_part("plan", "0001", build_table("plan", rows))
    assert kinds(directory) == ([("duplicate", "plan")], False)


def test_an_evaluation_that_is_there_twice(directory):
    commit(directory, PACKS[0], evaluations=(0, 1, 1))
    assert kinds(directory) == ([("duplicate", "history")], False)


def test_files_that_are_no_parts_are_foreign(directory):
    path(directory, "trials/notes.csv").write_text("a,b\n")
    assert kinds(directory) == ([("foreign", "trials/notes.csv")], False)


def test_a_users_file_beside_the_run_is_told_and_harms_nothing(directory):
    path(directory, "thoughts.md").write_text("x")
    assert kinds(directory) == ([("foreign", "thoughts.md")], True)


@pytest.mark.parametrize("where", ["trials", MANIFEST])
def test_a_newer_schema_is_left_to_the_newer_version(directory, where):
    if where == MANIFEST:
        directory.write_json(MANIFEST, {"sweep": "s", "schema_version": SCHEMA_VERSION + 1})
    else:
        content = build_table("trials", [{"trial_id": "x"}])
        newer = content.replace_schema_metadata({"schema_version": str(SCHEMA_VERSION + 1)})
        directory.write_file("trials", PACKS[0], newer)
    assert kinds(directory) == ([("newer", where)], False)
    assert "would refuse" in examine(directory).next


@pytest.mark.parametrize(
    ("data", "found"),
    [(None, ("missing", MANIFEST)), (b'{"sweep": ', ("truncated", MANIFEST)), (b"", ("truncated", MANIFEST))],
)
def test_a_manifest_that_is_gone_or_broken(directory, data, found):
    if data is None:
        directory.remove(MANIFEST)
    else:
        directory.publish(MANIFEST, data)
    assert kinds(directory) == ([found], False)


@pytest.mark.parametrize(
    ("data", "found"), [(None, ("missing", SWEEP)), (b"a = ", ("truncated", SWEEP)), (b"\xff", ("truncated", SWEEP))]
)
def test_a_sweep_file_that_is_gone_or_broken(directory, data, found):
    if data is None:
        directory.remove(SWEEP)
    else:
        directory.publish(SWEEP, data)
    assert kinds(directory) == ([found], False)


def leave(directory):
    """What a killed driver and its workers leave behind."""
    gone = subprocess.Popen([sys.executable, "-S", "-c", ""])
    gone.wait()
    held = {"token": "t", "host": socket.gethostname(), "pid": gone.pid, "born": "1", "renewed": time.time()}
    directory.write_json(LEASE, held)
    left = [
        f"trials/.{PACKS[0]}.parquet.0f.tmp",
        f"progress/{PACKS[0]}.json",
        f"checkpoints/{PACKS[0]}-16-{ids(PACKS[0])[0]}.safetensors",
    ]
    for name in left:
        directory.publish(name, b"{}")
    directory.publish("checkpoints/00000000000000ff-16-x.safetensors", b"of a pack that is not finished")
    return [*left, LEASE]


def test_leftovers_are_told_and_are_not_wrong(directory):
    leave(directory)
    places = ["trials", LEASE, "progress", "checkpoints"]
    assert kinds(directory) == ([("leftover", place) for place in places], True)


def test_a_repair_removes_what_it_says_and_nothing_else(directory):
    left = leave(directory)
    before, said = snapshot(directory), []
    found = repair(directory, said.append)
    assert said == [f"removed {directory}/{name}" for name in (left[0], LEASE, *left[1:3])]
    assert {str(file.relative_to(directory.root)) for file in before.keys() - snapshot(directory).keys()} == set(left)
    assert [(finding.kind, finding.repaired) for finding in found.findings] == [("leftover", True)] * 4
    assert kinds(directory) == ([], True)


def test_a_repair_removes_what_cannot_be_read_and_leaves_what_is_foreign(directory):
    path(directory, f"trials/{PACKS[1]}.parquet").write_bytes(b"PAR1")
    path(directory, "trials/notes.csv").write_text("a,b\n")
    said = []
    found = repair(directory, said.append)
    assert said == [f"removed {directory}/trials/{PACKS[1]}.parquet"]
    assert not found.sound
    assert kinds(directory) == ([("foreign", "trials/notes.csv"), ("leftover", "history")], False)


def test_a_repair_ends_an_interrupted_compaction(directory):
    kept = path(directory, f"trials/{PACKS[2]}.parquet").read_bytes()
    compact(directory)
    directory.publish(f"trials/{PACKS[2]}.parquet", kept)
    directory.publish(f"trials/{BEING_MERGED}.parquet", WARNING)
    assert kinds(directory) == ([("duplicate", "trials")], False)
    said = []
    assert repair(directory, said.append).sound
    assert said == [f"removed {directory}/trials/{name}.parquet" for name in (PACKS[2], BEING_MERGED)]
    assert kinds(directory) == ([], True)


def test_nothing_is_repaired_while_a_driver_is_at_work(directory):
    path(directory, f"trials/{PACKS[1]}.parquet").write_bytes(b"PAR1")
    with lease(directory):
        assert "is at work" in examine(directory).next
        with pytest.raises(UserError, match="is being run by process"):
            repair(directory, print)
    assert path(directory, f"trials/{PACKS[1]}.parquet").exists()


def test_samples_that_only_some_trials_have_are_told(directory):
    directory.write_part("samples", PACKS[0], build_table("samples", [{"trial_id": name} for name in ids(PACKS[0])]))
    directory.write_part("samples", "real-x", build_table("samples", [{"task": "t"}]))
    assert kinds(directory) == ([("missing", "samples")], True)
    rows = [{"trial_id": name} for name in ("stranger",)]
    directory.write_part("samples", PACKS[1], build_table("samples", rows))
    assert ("foreign", "samples") in kinds(directory)[0]


def test_nothing_there_is_no_run(tmp_path):
    with pytest.raises(UserError, match="is not a run directory: there is nothing"):
        examine(RunDirectory(tmp_path / "none"))


def test_the_command_says_it_and_its_exit_code_too(directory):
    def run(*arguments):
        done = CliRunner().invoke(manypaths.app, ["doctor", directory.root, *arguments])
        return done.exit_code, done.stdout

    code, out = run()
    assert (code, out) == (0, "6 of 6 planned trials have a row; `manypaths run` would find nothing to do\n")
    path(directory, f"trials/{PACKS[1]}.parquet").write_bytes(b"PAR1")
    code, out = run()
    assert code == 1
    assert out.startswith(f"truncated: trials/{PACKS[1]}.parquet: is not a whole Parquet file")
    code, out = run("--json")
    said = json.loads(out)
    assert (code, said["sound"], said["missing_packs"], said["findings"][0]["kind"]) == (1, False, 1, "truncated")
    code, out = run("--repair")
    assert code == 0
    assert out.startswith(f"repaired: trials/{PACKS[1]}.parquet")


def test_what_may_not_be_removed_is_an_error_and_not_a_silence(directory, monkeypatch):
    leave(directory)

    def refused(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "link", refused)
    with pytest.raises(OSError, match="Permission denied"):
        repair(directory, lambda _: None)


@pytest.mark.parametrize("merged", [False, True])
@pytest.mark.parametrize("table", ["trials", "history"])
def test_what_it_says_of_the_next_run_is_what_the_run_does(finished, run_here, tmp_path, table, merged):
    made, sweep = finished
    shutil.copytree(made.root, tmp_path / "run")
    directory = RunDirectory(tmp_path / "run")
    assert examine(directory).findings == ()
    if merged:
        compact(directory)
    file = next(iter(sorted(path(directory, table).iterdir())))
    file.write_bytes(file.read_bytes()[:-9])
    found = examine(RunDirectory(directory.root))
    expected = found.missing_packs
    assert expected == (len(made.parts("trials")) if merged else 1)
    if merged:
        assert found.next == "`manypaths run` would refuse: a merged file cannot be read"
        with pytest.raises(UserError, match="holds the rows of many packs and is not a whole Parquet file: put a copy"):
            run_here(directory.root, sweep)
        found = repair(RunDirectory(directory.root), lambda _: None)
        assert f"would train {expected} packs" in found.next
    prepared, _, _ = run_here(directory.root, sweep)
    assert len(prepared.missing) == expected
    repair(RunDirectory(directory.root), lambda _: None)
    assert kinds(directory) == ([], True)
    assert sorted(directory.read_table("trials")["trial_id"].to_pylist()) == sorted(
        made.read_table("trials")["trial_id"].to_pylist()
    )

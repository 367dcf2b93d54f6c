import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from study import compaction, parquet
from study.compaction import compact
from study.errors import UserError
from study.lease import lease
from study.parts import BEING_MERGED, MERGED
from study.progress import Tally
from study.schema import SCHEMA_VERSION
from study.store import RunDirectory, build_table

ROOT = Path(__file__).parents[2]
PACKS = [f"{i:016x}" for i in (3, 7, 11, 19, 40)]
SIZE, EVALUATIONS = 2, 3
SMALL = {"trials": 2 * SIZE, "history": 4 * SIZE * EVALUATIONS, "samples": 100}
"""Rows that close a merged file: two files of trials, and one pack that stays alone."""

KILLED = """
import os, shutil, signal, sys
from pathlib import Path
from study import compaction, filesystem, files
from study.store import RunDirectory

base, out = map(Path, sys.argv[1:3])
compaction.ROWS = eval(sys.argv[3])

def counted(function):
    def call(*arguments, **named):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **named)
    return call

step = 0
while True:
    root = out / str(step)
    shutil.copytree(base, root)
    child = os.fork()
    if child == 0:
        left = step
        os.fsync, os.link, Path.replace = counted(os.fsync), counted(os.link), counted(Path.replace)
        filesystem.Folder.remove = counted(filesystem.Folder.remove)
        compaction.compact(RunDirectory(root))
        os._exit(0)
    if os.waitpid(child, 0)[1] == 0:
        break
    step += 1
print(step)
"""
"""Compacts copies of a run; the first is killed before its first operation on a file, the next before its second."""


def write(root, packs=PACKS, samples=()):
    directory = RunDirectory(root)
    directory.write_json("manifest.json", {"sweep": "s", "schema_version": SCHEMA_VERSION})
    for pack in packs:
        ids = [f"{pack}.{slot}" for slot in range(SIZE)]
        commit(directory, pack, ids)
        if pack in samples:
            directory.write_part(
                "samples", pack, build_table("samples", [{"trial_id": i, "values": b"x"} for i in ids])
            )
    rows = [{"trial_id": f"{pack}.{slot}", "pack": pack} for pack in packs for slot in range(SIZE)]
    directory.write_part("plan", "0000", build_table("plan", rows))
    return directory


def commit(directory, pack, ids):
    history = [{"trial_id": i, "evaluation": e, "m": e / 3} for i in ids for e in range(EVALUATIONS)]
    directory.write_part("history", pack, build_table("history", history, ("m",)))
    done = [{"trial_id": i, "pack": pack, "status": "completed", "primary": 0.5, "m": 0.1} for i in ids]
    directory.write_part("trials", pack, build_table("trials", done, ("m",)))


def content(directory, table):
    return directory.read_table(table).to_pandas().sort_values(keys(table), ignore_index=True)


def keys(table):
    return ["trial_id", "evaluation"] if table == "history" else ["trial_id"]


def by_pandas(directory, table):
    return pd.read_parquet(f"{directory}/{table}").sort_values(keys(table), ignore_index=True)


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(compaction, "ROWS", SMALL)


def test_many_files_become_few_and_say_the_same(tmp_path):
    directory = write(tmp_path / "run", samples=PACKS[:3])
    before = {table: content(directory, table) for table in ("trials", "history", "samples")}
    parts = {table: directory.parts(table) for table in before}
    counts = {found.table: (found.before, found.after, found.removed) for found in compact(directory)}
    assert counts == {"trials": (5, 1, 0), "history": (5, 1, 0), "samples": (3, 1, 0)}
    for table, expected in before.items():
        assert len(list(Path(directory.root, table).iterdir())) == 1
        pd.testing.assert_frame_equal(content(directory, table), expected)
        pd.testing.assert_frame_equal(by_pandas(directory, table), expected)
        assert directory.parts(table) == parts[table]
        assert directory.broken_parts(table) == []


def test_a_part_is_found_wherever_it_is(tmp_path):
    directory = write(tmp_path / "run")
    before = {pack: directory.read_part("history", pack) for pack in PACKS}
    compact(directory)
    for pack in PACKS:
        assert directory.read_part("history", pack).equals(before[pack])
        assert directory.read_part("trials", pack, ["trial_id"])["trial_id"].to_pylist() == [f"{pack}.0", f"{pack}.1"]
    with pytest.raises(FileNotFoundError):
        directory.read_part("trials", "none")
    some = directory.read_table("trials", ["trial_id"], parts=PACKS[1:3])["trial_id"].to_pylist()
    assert sorted(some) == [f"{pack}.{slot}" for pack in PACKS[1:3] for slot in range(SIZE)]


def test_doing_it_again_changes_nothing(tmp_path):
    directory = write(tmp_path / "run")
    compact(directory)
    files = {path: path.stat().st_mtime_ns for path in Path(directory.root).rglob("*.parquet")}
    assert all(found.before == found.after for found in compact(directory))
    assert {path: path.stat().st_mtime_ns for path in Path(directory.root).rglob("*.parquet")} == files


@pytest.mark.usefixtures("small")
def test_merged_files_are_bounded_and_half_empty_ones_are_merged_again(tmp_path):
    directory = write(tmp_path / "run")
    compact(directory)
    assert len(directory.listing("trials").merged) == 2
    assert len(directory.listing("trials").small) == 1  # a file of its own would be no better
    later = ["00000000000000f0", "00000000000000f1", "00000000000000f2"]
    for pack in later:
        commit(directory, pack, [f"{pack}.{slot}" for slot in range(SIZE)])
    rows = [{"trial_id": f"{pack}.{slot}", "pack": pack} for pack in later for slot in range(SIZE)]
    directory.write_part("plan", "0001", build_table("plan", rows))
    compact(directory)
    listing = directory.listing("trials")
    assert (len(listing.merged), listing.small) == (4, ())
    assert listing.packs() == sorted([*PACKS, *later])
    assert len(by_pandas(directory, "trials")) == SIZE * 8


def test_many_bytes_close_a_merged_file_and_its_groups_are_read_alone(tmp_path, monkeypatch):
    directory = write(tmp_path / "run", samples=PACKS)
    values = {pack: bytes([number]) * 3000 for number, pack in enumerate(PACKS)}
    for pack, value in values.items():
        rows = [{"trial_id": f"{pack}.{slot}", "values": value} for slot in range(SIZE)]
        directory.write_part("samples", pack, build_table("samples", rows))
    monkeypatch.setattr(compaction, "BYTES", 2 * SIZE * 3000)  # two packs
    monkeypatch.setattr(parquet, "GROUP_BYTES", SIZE * 3300)  # one pack
    compact(directory)
    listing = directory.listing("samples")
    assert [len(packs) for packs in listing.merged.values()] == [2, 2]
    assert len(listing.small) == 1
    real, read = parquet.pq.ParquetFile.read_row_group, []
    monkeypatch.setattr(
        parquet.pq.ParquetFile,
        "read_row_group",
        lambda self, group, *columns, **options: read.append(group) or real(self, group, *columns, **options),
    )
    (two, *_) = listing.merged.values()
    for place, (pack, _) in enumerate(two):
        assert directory.read_part("samples", pack)["values"].to_pylist() == [values[pack]] * SIZE
        assert read.pop() == place
        assert read == []


def test_what_is_not_planned_is_not_merged(tmp_path):
    directory = write(tmp_path / "run")
    source = Path(directory.root, "trials", f"{PACKS[0]}.parquet")
    theirs = [source.with_name(f"{PACKS[0]} (copy).parquet"), source.with_name("summary.parquet")]
    for path in theirs:
        shutil.copy(source, path)
    compact(directory)
    assert all(path.is_file() for path in theirs)
    assert directory.listing("trials").covered() <= set(PACKS)
    for path in theirs:
        path.unlink()
    assert len(directory.read_table("trials")) == SIZE * len(PACKS)


def damage(directory, table):
    """Overwrite pages of the first merged file, whose footer stays whole; its name."""
    name = min(directory.listing(table).merged)
    file = Path(directory.root, table, f"{name}.parquet")
    data = bytearray(file.read_bytes())
    data[4:200] = bytes(196)
    file.write_bytes(data)
    return name


def test_a_merged_file_that_was_never_read_back_is_read_before_anything_is_removed(tmp_path, monkeypatch):
    directory = write(tmp_path / "run")

    def stopped(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(compaction, "finish", stopped)
        patch.setattr(compaction, "resume", lambda *_: [])
        with pytest.raises(KeyboardInterrupt):
            compact(directory)
    damage(directory, "history")
    again = RunDirectory(directory.root)
    assert len(again.read_table("history")) == SIZE * EVALUATIONS * len(PACKS)  # from the small files
    compact(RunDirectory(directory.root))
    for table, rows in (("history", SIZE * EVALUATIONS * len(PACKS)), ("trials", SIZE * len(PACKS))):
        assert len(RunDirectory(directory.root).read_table(table)) == rows
        assert len(by_pandas(directory, table)) == rows


def test_a_merged_file_that_alone_has_packs_is_never_removed_for_being_broken(tmp_path):
    directory = write(tmp_path / "run")
    compact(directory)
    name = damage(directory, "trials")
    directory.publish(f"trials/{BEING_MERGED}.parquet", b"x")
    with pytest.raises(UserError, match="it alone has some packs: put a copy of it back"):
        compact(RunDirectory(directory.root))
    assert Path(directory.root, "trials", f"{name}.parquet").is_file()


def test_a_writer_whose_pack_is_merged_meanwhile_takes_its_file_away(tmp_path, monkeypatch):
    directory = write(tmp_path / "run")
    compact(directory)
    late, told = RunDirectory(directory.root), []
    pack = min(directory.listing("trials").covered())
    real = RunDirectory.noted
    monkeypatch.setattr(RunDirectory, "noted", lambda self, table: real(self, table) if told else told.append(1) or [])
    late.write_part("trials", pack, build_table("trials", [{"trial_id": f"{pack}.{slot}"} for slot in range(SIZE)]))
    assert told
    assert directory.listing("trials").plain()


def test_only_finished_packs_are_merged(tmp_path):
    directory = write(tmp_path / "run")
    directory.remove(f"trials/{PACKS[0]}.parquet")
    compact(directory)
    assert directory.listing("history").small == (PACKS[0],)
    assert directory.listing("trials").packs() == PACKS[1:]


def test_a_broken_file_stays_as_it_is(tmp_path):
    directory = write(tmp_path / "run")
    path = Path(directory.root, "trials", f"{PACKS[1]}.parquet")
    path.write_bytes(path.read_bytes()[:-9])
    compact(directory)
    assert directory.listing("trials").small == (PACKS[1],)
    assert directory.broken_parts("trials") == [PACKS[1]]
    assert len(directory.listing("trials").covered()) == 4


def test_a_late_second_writer_of_a_merged_pack_changes_nothing(tmp_path):
    directory = write(tmp_path / "run")
    compact(directory)
    commit(RunDirectory(directory.root), PACKS[2], [f"{PACKS[2]}.{slot}" for slot in range(SIZE)])
    assert directory.listing("trials").plain()
    assert len(by_pandas(directory, "history")) == len(PACKS) * SIZE * EVALUATIONS


def test_if_a_pack_is_there_twice_it_is_read_once_and_compacting_removes_it(tmp_path):
    directory = write(tmp_path / "run")
    kept = Path(directory.root, "trials", f"{PACKS[2]}.parquet").read_bytes()
    compact(directory)
    directory.publish(f"trials/{PACKS[2]}.parquet", kept)
    assert len(directory.read_table("trials")) == len(PACKS) * SIZE
    assert not directory.listing("trials").plain()
    assert [found.removed for found in compact(directory) if found.table == "trials"] == [1]
    assert len(by_pandas(directory, "trials")) == len(PACKS) * SIZE


def test_widening_reaches_merged_files_and_keeps_what_they_hold(tmp_path):
    directory = write(tmp_path / "run")
    compact(directory)
    directory.widen("trials", ("m", "n"))
    assert RunDirectory(directory.root).parts("trials") == PACKS
    found = content(directory, "trials")
    assert found["n"].isna().all()
    assert found["m"].tolist() == [0.1] * SIZE * len(PACKS)


def test_a_truncated_merged_file_counts_for_nothing_and_is_named(tmp_path):
    directory = write(tmp_path / "run")
    compact(directory)
    (name,) = directory.listing("trials").merged
    path = Path(directory.root, "trials", f"{name}.parquet")
    path.write_bytes(path.read_bytes()[:-9])
    again = RunDirectory(directory.root)
    assert again.parts("trials") == []
    assert again.broken_parts("trials") == [name]
    with pytest.warns(UserWarning, match="is not a whole Parquet file"):
        assert len(again.read_table("trials")) == 0
    commit(again, PACKS[0], ["x"])
    assert again.parts("trials") == [PACKS[0]]


def test_a_file_that_claims_to_be_merged_and_is_not(tmp_path):
    directory = write(tmp_path / "run")
    source = Path(directory.root, "trials", f"{PACKS[0]}.parquet")
    shutil.copy(source, source.with_name(f"{MERGED}impostor.parquet"))
    assert directory.parts("trials") == PACKS
    assert directory.broken_parts("trials") == [f"{MERGED}impostor"]


def test_it_waits_for_no_driver_and_needs_a_run(tmp_path):
    directory = write(tmp_path / "run")
    with lease(directory), pytest.raises(UserError, match="is being run by process"):
        compact(directory)
    with pytest.raises(UserError, match="is not a run directory"):
        compact(RunDirectory(tmp_path / "none"))


def test_what_reads_back_differently_removes_nothing(tmp_path, monkeypatch):
    directory = write(tmp_path / "run")
    intact = RunDirectory.read_file

    def wrong(self, table, file, columns=None):
        found = intact(self, table, file, columns)
        return found.slice(1) if file.startswith(MERGED) else found

    monkeypatch.setattr(RunDirectory, "read_file", wrong)
    with pytest.raises(OSError, match="reads back differently"):
        compact(directory)
    monkeypatch.undo()
    assert directory.listing("history").small == tuple(PACKS)
    assert directory.listing("history").plain()
    assert len(by_pandas(directory, "history")) == len(PACKS) * SIZE * EVALUATIONS


def test_progress_counts_each_pack_once_before_and_after(tmp_path):
    directory = write(tmp_path / "run")
    tally = Tally(directory, dict.fromkeys(PACKS, SIZE))
    tally.update()
    compact(directory)
    tally.update()
    fresh = Tally(RunDirectory(directory.root), dict.fromkeys(PACKS, SIZE))
    fresh.update()
    assert tally.statuses == fresh.statuses == {"completed": SIZE * len(PACKS)}
    assert tally.seen == fresh.seen == set(PACKS)


def test_whoever_reads_meanwhile_sees_each_row_once_or_is_told(tmp_path, small):
    packs = [f"{i:016x}" for i in range(60)]
    directory = write(tmp_path / "run", packs)
    expected = sorted(f"{pack}.{slot}" for pack in packs for slot in range(SIZE))
    ours, theirs, told, stop = [], [], [], threading.Event()

    def read():
        reader = RunDirectory(directory.root)
        while not stop.is_set():
            ours.append(sorted(reader.read_table("trials", ["trial_id"])["trial_id"].to_pylist()))

    def read_plainly():
        while not stop.is_set():
            try:
                theirs.append(sorted(pd.read_parquet(f"{directory}/trials", columns=["trial_id"])["trial_id"]))
            except (OSError, ValueError) as error:
                told.append(str(error))

    threads = [threading.Thread(target=work) for work in (read, read_plainly)]
    for thread in threads:
        thread.start()
    try:
        compact(directory)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert ours
    assert all(found == expected for found in ours)
    assert all(found == expected for found in theirs)


def test_the_mark_is_an_error_that_names_itself(tmp_path):
    directory = write(tmp_path / "run")
    directory.publish(f"trials/{BEING_MERGED}.parquet", compaction.WARNING)
    with pytest.raises(pa.ArrowInvalid, match=BEING_MERGED):
        pd.read_parquet(f"{directory}/trials")
    assert len(directory.read_table("trials")) == SIZE * len(PACKS)


def test_a_listing_that_missed_a_merged_file_finds_it_by_its_note(tmp_path, monkeypatch):
    directory = write(tmp_path / "run")
    compact(directory)
    whole = RunDirectory.names

    def late(self, folder="", suffix=""):  # as a listing that passed its place before it was there
        return [name for name in whole(self, folder, suffix) if not name.startswith(MERGED)]

    monkeypatch.setattr(RunDirectory, "names", late)
    assert RunDirectory(directory.root).parts("trials") == PACKS


def test_files_that_vanish_while_they_are_read_are_looked_for_again(tmp_path, monkeypatch):
    directory = write(tmp_path / "run")
    before, intact, calls = directory.listing("trials"), RunDirectory.listing, []
    compact(directory)

    def stale(self, table):
        calls.append(table)
        return before if len(calls) < 3 else intact(self, table)

    monkeypatch.setattr(RunDirectory, "listing", stale)
    assert len(directory.read_table("trials")) == SIZE * len(PACKS)
    assert len(calls) == 3


@pytest.mark.timeout(180)
def test_killed_at_any_moment_nothing_is_lost_or_twice_and_the_same_command_ends_it(tmp_path, small):
    base = write(tmp_path / "base")
    expected = {table: content(base, table) for table in ("trials", "history")}
    done = subprocess.run(
        [sys.executable, "-c", KILLED, base.root, str(tmp_path / "killed"), repr(SMALL)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    steps = int(done.stdout)
    assert steps > 30
    errors = 0
    for step in range(steps + 1):
        directory = RunDirectory(tmp_path / "killed" / str(step))
        for table, rows in expected.items():
            pd.testing.assert_frame_equal(content(directory, table), rows)
            assert directory.parts(table) == PACKS
            try:
                pd.testing.assert_frame_equal(by_pandas(directory, table), rows)
            except pa.ArrowInvalid as error:
                assert BEING_MERGED in str(error)  # noqa: PT017 - either is right
                errors += 1
        compact(directory)
        for table, rows in expected.items():
            pd.testing.assert_frame_equal(by_pandas(directory, table), rows)
            assert directory.listing(table).plain()
        assert not directory.exists("lease.json")
    assert 0 < errors < steps


def test_a_merged_file_is_one_any_reader_reads(tmp_path):
    directory = write(tmp_path / "run")
    compact(directory)
    (name,) = directory.listing("trials").merged
    found = pq.read_schema(f"{directory}/trials/{name}.parquet")
    assert found.metadata[b"schema_version"] == str(SCHEMA_VERSION).encode()
    assert found.names[-1] == "m"

import errno
import os
import threading
from pathlib import Path

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from study import parquet, schema, store
from study.errors import UserError
from study.store import RunDirectory, arrow_schema, arrow_type, build_table

HOSTILE = ["with space", 'quote\'s "double"', "new\nline", "ünï-漢字-🙂", "$(touch x);*", "%41 #?&="]


@pytest.fixture
def directory(tmp_path):
    return RunDirectory(tmp_path / "run")


def rows(*names):
    return [{"trial_id": name, "seed": 0, "lr_g": 0.1} for name in names]


def temporaries(directory):
    return list(Path(directory.root).rglob("*.tmp"))


# Bytes


def test_a_reader_sees_the_old_content_or_the_new(directory):
    contents = [bytes([i]) * 300_000 for i in (1, 2)]
    directory.publish("a.bin", contents[0])
    stop = threading.Event()

    def write():
        turn = 0
        while not stop.is_set():
            turn += 1
            directory.publish("a.bin", contents[turn % 2])

    writer = threading.Thread(target=write)
    writer.start()
    try:
        seen = {directory.read("a.bin") for _ in range(200)}
    finally:
        stop.set()
        writer.join()
    assert seen <= set(contents)


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failing_write_keeps_the_old_content_and_leaves_nothing_behind(directory, monkeypatch, step):
    directory.publish("a.txt", b"old")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    if step == "fsync":
        monkeypatch.setattr(os, "fsync", full)
    else:
        monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        directory.publish("a.txt", b"new")
    assert directory.read("a.txt") == b"old"
    assert temporaries(directory) == []


def test_what_is_of_the_moment_waits_for_no_disk_and_results_do(directory, monkeypatch):
    waited, real = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: waited.append(descriptor) or real(descriptor))
    for name in ("progress/a.json", "attempts/a.1.json"):
        directory.write_json(name, {"pack": "a"})
        assert directory.read_json(name) == {"pack": "a"}
    assert waited == []
    for name in ("trials/a.parquet", "history/a.parquet", "checkpoints/a", "lease.json", "progress.json"):
        directory.publish(name, b"x")
    assert len(waited) == 5
    directory.makes = False
    for name in ("progress/a.json", "attempts/a.json", "trials/a.parquet"):
        Path(directory.root).rename(f"{directory.root}-away")
        with pytest.raises(FileNotFoundError):
            directory.publish(name, b"x")
        assert not Path(directory.root).exists()  # a run directory that is gone is not made anew
        Path(f"{directory.root}-away").rename(directory.root)


def test_a_file_is_created_once(directory):
    assert directory.create("a.txt", b"first")
    assert not directory.create("a.txt", b"second")
    assert directory.read("a.txt") == b"first"
    assert temporaries(directory) == []


def test_a_failing_creation_leaves_nothing_behind(directory, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "link", full)
    with pytest.raises(OSError, match="No space left"):
        directory.create("a.txt", b"new")
    assert directory.read("a.txt") is None
    assert temporaries(directory) == []


def test_what_is_not_there_is_none(directory):
    assert directory.read("none") is None
    assert directory.read_json("none.json") is None
    assert directory.names("none") == []
    assert directory.parts("trials") == []
    directory.remove("none")


def test_json_that_is_not_whole_is_none(directory):
    directory.write_json("a.json", {"b": 1})
    assert directory.read_json("a.json") == {"b": 1}
    directory.publish("a.json", b'{"b": ')
    assert directory.read_json("a.json") is None
    directory.publish("a.json", b"")
    assert directory.read_json("a.json") is None


def test_hidden_and_temporary_files_are_not_listed(directory):
    for name in ("b.parquet", ".b.parquet.0.tmp", "a.parquet", "c.txt"):
        directory.publish(f"trials/{name}", b"x")
    assert directory.names("trials") == ["a.parquet", "b.parquet", "c.txt"]
    assert directory.parts("trials") == ["a", "b"]


@pytest.mark.parametrize("name", HOSTILE)
def test_any_directory_name_will_do(tmp_path, name):
    directory = RunDirectory(tmp_path / name / "run")
    directory.write_json("manifest.json", {"a": 1})
    directory.write_part("trials", "p", build_table("trials", rows("t")))
    again = RunDirectory(directory.root)
    assert again.read_json("manifest.json") == {"a": 1}
    assert again.read_table("trials", ["trial_id"]).to_pylist() == [{"trial_id": "t"}]
    assert again.names() == ["manifest.json", "trials"]
    assert os.listdir(tmp_path) == [name]  # noqa: PTH208 - the raw name is the point


def test_a_local_uri_is_the_path_it_names(tmp_path):
    directory = RunDirectory(f"file://{tmp_path}/run")
    directory.publish("a.txt", b"x")
    assert directory.local
    assert directory.root == f"{tmp_path}/run"
    assert (tmp_path / "run" / "a.txt").read_bytes() == b"x"


def test_a_uri_that_nobody_answers_to_is_refused():
    with pytest.raises(UserError, match="cannot open the run directory gopher://x/y"):
        RunDirectory("gopher://x/y")


# Tables


@pytest.mark.parametrize("table", schema.TABLES)
def test_a_part_has_exactly_the_schema_of_its_table(directory, table):
    metrics = () if table == "plan" else ("m1", "m2")
    directory.write_part(table, "p", build_table(table, rows("t"), metrics))
    written = pq.read_schema(f"{directory}/{table}/p.parquet")
    fixed = [(column.name, arrow_type(column.type)) for column in schema.TABLES[table]]
    assert list(zip(written.names, written.types, strict=True)) == fixed + [(m, pa.float64()) for m in metrics]
    assert written.metadata[b"schema_version"] == str(schema.SCHEMA_VERSION).encode()


def test_absent_keys_are_null(directory):
    table = build_table("trials", rows("t"), ("m",))
    assert table["lr_g"].to_pylist() == [0.1]
    assert table["m"].null_count == table["status"].null_count == 1


def test_a_value_of_another_type_is_refused():
    with pytest.raises(pa.ArrowException, match="x"):
        build_table("trials", [{"seed": "x"}])


def test_an_empty_table_has_its_columns(directory):
    assert directory.read_table("trials").schema.names == [column.name for column in schema.TABLES["trials"]]
    assert directory.read_table("trials", ["status"]).schema.names == ["status"]


@pytest.mark.parametrize("damage", [lambda data: data[:-40], lambda data: data[:3], lambda _: b"", lambda _: b"PAR1"])
def test_a_broken_part_is_named_and_left_out(directory, damage):
    for name in ("a", "b"):
        directory.write_part("trials", name, build_table("trials", rows(name)))
    path = Path(f"{directory}/trials/a.parquet")
    path.write_bytes(damage(path.read_bytes()))
    assert directory.broken_parts("trials") == ["a"]
    assert [part.name for part in directory.readable_parts("trials")] == ["b"]
    with pytest.warns(UserWarning, match="not a whole Parquet file: its rows are left out"):
        assert directory.read_table("trials")["trial_id"].to_pylist() == ["b"]
    with pytest.raises(OSError, match=r"a\.parquet is not a whole Parquet file"):
        directory.read_part("trials", "a")


def test_storage_that_fails_once_costs_a_second_look(directory, monkeypatch):
    directory.write_part("trials", "a", build_table("trials", rows("t")))
    real, calls = parquet.pq.ParquetFile, []

    def once(*arguments, **options):
        calls.append(1)
        if len(calls) == 1:
            raise OSError(errno.EIO, "Input/output error")
        return real(*arguments, **options)

    monkeypatch.setattr(parquet.pq, "ParquetFile", once)
    assert directory.read_table("trials")["trial_id"].to_pylist() == ["t"]
    assert len(calls) == 2


def test_storage_that_cannot_be_read_is_an_error_and_no_broken_file(directory, monkeypatch):
    directory.write_part("trials", "a", build_table("trials", rows("t")))

    def away(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(parquet.pq, "ParquetFile", away)
    monkeypatch.setattr(RunDirectory, "read", away)
    for look in (directory.broken_parts, directory.read_table, lambda table: list(directory.readable_parts(table))):
        with pytest.raises(PermissionError):
            look("trials")


def test_a_newer_schema_is_refused(directory):
    content = build_table("trials", rows("t"))
    newer = content.replace_schema_metadata({"schema_version": str(schema.SCHEMA_VERSION + 1)})
    directory.write_part("trials", "p", newer)
    with pytest.raises(UserError, match=rf"has schema version {schema.SCHEMA_VERSION + 1}, this manypaths reads up to"):
        directory.read_table("trials")


def test_widening_adds_null_columns_and_keeps_every_value(directory):
    content = build_table("trials", [row | {"m2": 0.5} for row in rows("t", "u")], ("m2",))
    directory.write_part("trials", "p", content)
    directory.widen("trials", ("m1", "m2"))
    widened = directory.read_part("trials", "p")
    assert widened.schema.equals(arrow_schema("trials", ("m1", "m2")), check_metadata=True)
    assert widened.select(content.column_names).equals(content)
    assert widened["m1"].null_count == 2


def test_widening_by_nothing_rewrites_nothing(directory):
    directory.write_part("trials", "p", build_table("trials", rows("t"), ("m",)))
    before = Path(f"{directory}/trials/p.parquet").stat().st_mtime_ns
    directory.widen("trials", ("m",))
    assert Path(f"{directory}/trials/p.parquet").stat().st_mtime_ns == before


def test_three_readers_see_the_same_trials(finished):
    directory, _ = finished
    ours = directory.read_table("trials").to_pandas().sort_values("trial_id", ignore_index=True)
    folder = f"{directory}/trials"
    pandas = pd.read_parquet(folder).sort_values("trial_id", ignore_index=True)
    pd.testing.assert_frame_equal(pandas, ours)
    duck = duckdb.sql(f"select * from '{folder}/*.parquet' order by trial_id").fetchall()
    polars = pl.read_parquet(f"{folder}/*.parquet").sort("trial_id").rows()
    arrow = directory.read_table("trials").sort_by("trial_id").to_pylist()
    assert duck == polars == [tuple(row.values()) for row in arrow]
    assert len(duck) == 4


def test_every_file_name_of_a_run_is_known_to_the_store(finished):
    directory, _ = finished
    assert set(directory.names()) <= store.ENTRIES

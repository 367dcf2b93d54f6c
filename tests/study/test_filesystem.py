import errno
import os
import threading
import time
from pathlib import Path

import pytest

from study import filesystem
from study.filesystem import Entry, Folder, _with_options


@pytest.fixture
def folder(tmp_path):
    return Folder(tmp_path / "run")


@pytest.fixture
def without_links(monkeypatch):
    def refused(*_):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)


@pytest.mark.usefixtures("without_links")
def test_without_links_a_file_is_created_once_all_the_same(folder):
    assert folder.create("a.txt", b"first")
    assert not folder.create("a.txt", b"second")
    assert folder.read("a.txt") == b"first"
    assert folder.entries() == [Entry("a.txt", 5)]


@pytest.mark.parametrize("links", [True, False], ids=["links", "claims"])
def test_of_many_who_create_a_file_one_does(folder, links, request):
    if not links:
        request.getfixturevalue("without_links")
    won, start = [], threading.Barrier(4)

    def attempt(name):
        start.wait()
        if folder.create("lease.json", name):
            won.append(name)

    threads = [threading.Thread(target=attempt, args=(f"{i}".encode(),)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [folder.read("lease.json")] == won
    assert [entry.name for entry in folder.entries()] == ["lease.json"]


@pytest.mark.usefixtures("without_links")
def test_the_claim_of_somebody_alive_is_respected_and_that_of_the_dead_is_not(folder, monkeypatch):
    monkeypatch.setattr(filesystem, "CLAIM_TRIES", 2)
    folder.publish(".a.txt.claim-other.tmp", b"claim")
    with pytest.raises(OSError, match="others keep claiming it"):
        folder.create("a.txt", b"x")
    assert folder.read("a.txt") is None
    past = time.time() - filesystem.CLAIM_SECONDS - 5
    os.utime(Path(folder.root, ".a.txt.claim-other.tmp"), (past, past))
    assert folder.create("a.txt", b"x")


@pytest.mark.usefixtures("without_links")
def test_another_failure_than_missing_links_is_told(folder, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "link", full)
    with pytest.raises(OSError, match="No space left"):
        folder.create("a.txt", b"x")


def test_entries_say_what_is_a_file_and_how_large(folder):
    folder.publish("b/.hidden", b"xy")
    folder.publish("b/a.txt", b"abc")
    folder.publish("b/c/d", b"")
    assert folder.entries("b") == [Entry(".hidden", 2), Entry("a.txt", 3), Entry("c", None)]
    assert folder.entries("none") == []


def test_all_json_files_of_a_folder_but_those_known(folder):
    for name, data in {
        "a.json": b"{}",
        "b.json": b'{"x": 1}',
        "c.json": b'{"x"',
        "d.json": b"[]",
        "e.txt": b"{}",
    }.items():
        folder.publish(f"notes/{name}", data)
    assert folder.read_all_json("notes", without={"a.json"}) == {"b.json": {"x": 1}}
    assert folder.read_all_json("none") == {}


def test_many_files_are_removed_whether_they_are_there_or_not(folder):
    for name in "abc":
        folder.publish(f"f/{name}", b"")
    folder.remove_all(["f/a", "f/none", "f/c"])
    assert folder.names("f") == ["b"]


@pytest.mark.parametrize(
    ("uri", "asked"),
    [
        ("s3://bucket/a", "s3://bucket/a?allow_delayed_open=true"),
        ("s3://bucket/a?region=x", "s3://bucket/a?region=x&allow_delayed_open=true"),
        ("s3://bucket/a?allow_delayed_open=false", "s3://bucket/a?allow_delayed_open=false"),
        ("gs://bucket/a", "gs://bucket/a?retry_limit_seconds=30"),
        ("gcs://bucket/a?retry_limit_seconds=5", "gcs://bucket/a?retry_limit_seconds=5"),
        ("file:///a", "file:///a"),
    ],
)
def test_small_objects_are_written_with_options(uri, asked):
    assert _with_options(uri) == asked


def test_a_folder_that_is_gone_is_made_anew_only_by_who_makes_folders(tmp_path):
    folder = Folder(tmp_path / "run")
    folder.publish("a/x", b"1")
    (tmp_path / "run").rename(tmp_path / "away")
    folder.makes = False
    with pytest.raises(FileNotFoundError):
        folder.publish("a/x", b"2")
    assert not (tmp_path / "run").exists()
    (tmp_path / "away").rename(tmp_path / "run")
    folder.publish("b/x", b"3")
    assert folder.read("b/x") == b"3"

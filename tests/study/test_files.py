import os
from pathlib import Path

import pytest

from study.files import write_whole


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "a.csv"
    write_whole(path, b"old")
    write_whole(path, b"new", durable=True)
    assert path.read_bytes() == b"new"
    assert [found.name for found in tmp_path.iterdir()] == ["a.csv"]


def test_what_cannot_be_written_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "a.csv"
    write_whole(path, b"old")

    def full(*_arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_whole(path, b"new", durable=True)
    assert path.read_bytes() == b"old"
    assert [found.name for found in tmp_path.iterdir()] == ["a.csv"]


def test_a_device_is_written_to_not_replaced():
    write_whole(Path(os.devnull), b"x")
    assert not Path(os.devnull).is_file()

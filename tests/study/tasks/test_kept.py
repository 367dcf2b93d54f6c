"""What is costly is made once on a node, and what was kept is read."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from study.errors import UserError
from study.tasks.kept import kept

ROOT = Path(__file__).parents[3]

SLOWLY = """
import sys, time, torch
from pathlib import Path
from study.tasks.kept import kept

def make():
    with Path(sys.argv[1]).open("a") as file:
        file.write("made\\n")
    time.sleep(2.0)
    return {"a": torch.arange(3.0)}

print(kept("slow", "key", make)[0]["a"].tolist())
"""


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MANYPATHS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def made():
    return {"a": torch.arange(3.0), "b": torch.zeros(2, 2)}


def test_what_was_made_is_read_again(cache):
    tensors, digest = kept("some", "key", made)
    again, same = kept("some", "key", lambda: pytest.fail("made again"))
    (file,) = cache.glob("some-*.safetensors")
    assert digest == same == hashlib.sha256(file.read_bytes()).hexdigest()
    assert tensors.keys() == again.keys() == {"a", "b"}
    assert all(torch.equal(tensors[name], again[name]) for name in tensors)
    assert kept("some", "another key", lambda: {"a": torch.ones(1)})[0].keys() == {"a"}


def test_half_a_file_is_made_again(cache):
    _, digest = kept("some", "key", made)
    (file,) = cache.glob("some-*.safetensors")
    file.write_bytes(file.read_bytes()[:-5])
    assert kept("some", "key", made)[1] == digest


def test_of_processes_that_want_it_at_once_one_makes_it(cache, tmp_path):
    note = tmp_path / "note"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", SLOWLY, str(note)],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    assert [process.communicate()[0] for process in processes] == ["[0.0, 1.0, 2.0]\n"] * 3
    assert note.read_text() == "made\n"


def test_whoever_fails_leaves_it_to_the_next(cache):
    def fail():
        raise FileNotFoundError("the data")  # of the making, no matter of the cache

    with pytest.raises(FileNotFoundError, match="the data"):
        kept("some", "key", fail)
    assert kept("some", "key", made)[0].keys() == {"a", "b"}


def test_a_cache_that_cannot_be_written_is_one_sentence(cache):
    cache.write_text("a file")
    with pytest.raises(
        UserError, match=r"^cannot keep some-\w{32}\.safetensors in .*/cache: .*; MANYPATHS_CACHE names"
    ):
        kept("some", "key", made)

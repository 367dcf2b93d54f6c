import subprocess
import sys
from pathlib import Path

import pytest
import torch

from study import memory
from study.errors import UserError
from study.memory import bytes_of, limited

ROOT = str(Path(memory.__file__).parents[1])


@pytest.mark.parametrize(
    ("amount", "expected"),
    [("4 GiB", 4 * 2**30), ("500MB", 500_000_000), ("1.5 TiB", 3 * 2**39), ("2 kB", 2000), ("1 KiB", 1024)],
)
def test_an_amount_in_bytes(amount, expected):
    assert bytes_of(amount) == expected


@pytest.mark.parametrize("amount", ["", "4", "GiB", "4 gib", "-4 GiB", "4 GiB ", "0 GiB", "1e9 B", "4 KB", "0.0001 kB"])
def test_what_is_no_amount_is_refused(amount):
    with pytest.raises(ValueError, match="is no amount of memory"):
        bytes_of(amount)


def test_without_an_amount_nothing_is_limited():
    with limited(None, device="cpu") as check:
        check()


LIMITED = """
import sys
sys.path.append({root!r})
import torch
from study.errors import UserError
from study.memory import limited
torch.set_num_threads(1)

def attempt(size, kept):
    with limited(100 * 2**20, device="cpu") as check:
        kept.append(torch.ones(size * 2**20, dtype=torch.uint8))
        kept.clear()
        try:
            check()
            print("fits")
        except MemoryError as error:
            print(str(error)[:35])

for size in (60, 140, 60, 20):
    attempt(size, [])
small = [torch.ones(2**16, dtype=torch.uint8) for _ in range(16 * 60)]
small.clear()
attempt(60, [])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says how much memory a process takes")
def test_what_was_taken_at_most_is_what_counts_and_not_what_came_before():
    done = subprocess.run(
        [sys.executable, "-c", LIMITED.format(root=ROOT)], capture_output=True, text=True, check=False, timeout=50
    )
    told = done.stdout.splitlines()
    assert [told[i] for i in (0, 2, 3, 4)] == ["fits"] * 4, done.stderr
    assert told[1].startswith("out of memory: training took 14")


PRESENT = """
import sys
sys.path.append({root!r})
import torch
from study import memory
torch.set_num_threads(1)
memory._forget_peak = lambda: False
with memory.limited(100 * 2**20, device="cpu") as check:
    torch.ones(140 * 2**20, dtype=torch.uint8)
    check()
    held = torch.ones(240 * 2**20, dtype=torch.uint8)
    try:
        check()
    except MemoryError as error:
        print(error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says how much memory a process takes")
def test_where_the_peak_cannot_be_forgotten_the_present_counts():
    # in a process of its own: what this one holds may be given back in between
    done = subprocess.run(
        [sys.executable, "-c", PRESENT.format(root=ROOT)], capture_output=True, text=True, check=False, timeout=50
    )
    assert done.stdout.startswith("out of memory: training took 2"), done.stderr


def test_a_system_that_does_not_say_is_named(monkeypatch):
    def missing(*_, **__):
        raise FileNotFoundError

    monkeypatch.setattr(memory.Path, "read_text", missing)
    memory._taken_at_first.cache_clear()
    with pytest.raises(UserError, match="only Linux says how much memory"), limited(1, device="cpu"):
        raise AssertionError("limited by nothing")


def test_on_a_gpu_torch_is_told_what_part_of_it(monkeypatch):
    told = []
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: type("", (), {"total_memory": 2**34})())
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", told.append)
    with limited(2**32, device="cuda") as check:
        check()
        assert told == [0.25]
    with limited(2**40, device="cuda"):
        pass
    assert told == [0.25, 1.0, 1.0, 1.0]

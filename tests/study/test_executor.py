"""The queue: what is handed out, in which order, and how often a pack is tried by what ended it."""

import json

import pytest

from study.executor import TRIES, InProcess, Queue
from study.store import RunDirectory


@pytest.fixture
def directory(tmp_path):
    (tmp_path / "run").mkdir()
    return RunDirectory(tmp_path / "run")


def notes(directory):
    found = [directory.read_json(f"attempts/{name}") for name in directory.names("attempts")]
    return sorted((note["pack"], note["outcome"], note["error"]) for note in found)


def ends_after(directory, fault):
    """How often a pack is handed out when each try ends by one fault."""
    queue, times = Queue(directory, ["a"]), 0
    while (pack := queue.next()) is not None:
        times += 1
        queue.ended(pack, fault=fault, reason="so")
    return queue, times


def test_packs_are_handed_out_in_their_order_and_counted(directory):
    queue = Queue(directory, ["a", "b", "c"])
    assert (queue.waiting, queue.left, queue.over) == (3, True, 0)
    assert [queue.next(), queue.next()] == ["a", "b"]
    assert (queue.waiting, queue.running) == (1, {"a", "b"})
    queue.ended("b")
    assert (queue.over, queue.running) == (1, {"a"})
    assert queue.next() == "c"
    assert queue.next() is None
    queue.ended("a")
    queue.ended("c")
    assert (queue.left, queue.over, notes(directory)) == (False, 3, [])


def test_nothing_to_do_is_over_at_once(directory):
    queue = Queue(directory, [])
    assert (queue.left, queue.next()) == (False, None)


@pytest.mark.parametrize(("fault", "times"), [("failed", 3), ("crowded", 2), ("memory", 16), ("killed", 8)])
def test_each_fault_has_its_number_of_tries(directory, fault, times):
    assert TRIES[fault] == times
    queue, tried = ends_after(directory, fault)
    assert tried == times
    assert (queue.over, queue.left) == (1, False)


def test_what_no_worker_could_note_is_noted(directory):
    ends_after(directory, "killed")
    assert notes(directory) == [("a", "killed", "so")] * TRIES["killed"]


def test_an_error_of_its_own_is_noted_when_a_pack_is_given_up(directory):
    queue = Queue(directory, ["a"])
    for _ in range(TRIES["failed"] - 1):
        queue.ended(queue.next(), fault="failed", reason="FileNotFoundError: plan")
        assert notes(directory) == []  # the worker has, if it could
    queue.ended(queue.next(), fault="failed", reason="FileNotFoundError: plan")
    assert notes(directory) == [("a", "failed", "FileNotFoundError: plan")]


def test_faults_of_another_kind_do_not_use_up_tries(directory):
    queue = Queue(directory, ["a"])
    for fault in ["failed", "killed", "failed", "killed", "crowded"]:
        queue.ended(queue.next(), fault=fault)
    assert queue.next() == "a"
    queue.ended("a", fault="failed")
    assert (queue.next(), queue.over) == (None, 1)


def test_what_is_tried_again_comes_last(directory):
    queue = Queue(directory, ["a", "b"])
    queue.ended(queue.next(), fault="killed")
    assert [queue.next(), queue.next()] == ["b", "a"]


def test_want_of_memory_halves_and_a_crowd_asks_to_be_alone(directory):
    queue = Queue(directory, ["a", "b"])
    assert [queue.next(), queue.next()] == ["a", "b"]
    queue.ended("a", fault="memory")
    queue.ended("b", fault="crowded")
    assert (queue.halvings["a"], queue.halvings["b"]) == (1, 0)
    assert queue.alone == {"b"}
    queue.ended(queue.next(), fault="memory")
    assert queue.halvings["a"] == 2


def test_what_is_lost_together_waits_again_with_a_note(directory):
    queue = Queue(directory, ["a", "b", "c"])
    queue.next(), queue.next()
    queue.lose("the power went")
    assert (queue.waiting, queue.running, queue.over) == (3, set(), 0)
    assert notes(directory) == [("a", "killed", "the power went"), ("b", "killed", "the power went")]
    assert [queue.next() for _ in range(3)] == ["c", "a", "b"]


def test_an_end_that_is_told_twice_or_of_a_pack_that_does_not_run_counts_once(directory):
    told = []
    queue = Queue(directory, ["a", "b"], after=lambda pack: told.append(pack) or ())
    queue.ended("a")  # not handed out yet
    assert queue.next() == "a"
    queue.ended("a")
    queue.ended("a", fault="killed")
    queue.ended("who", fault="killed")
    assert (queue.over, queue.waiting, told, notes(directory)) == (1, 1, ["a"], [])


def test_after_is_told_of_each_pack_once_it_is_over_and_names_more(directory):
    more = {"a": ["c"], "c": ["d", "e"]}
    told = []

    def after(pack):
        told.append(pack)
        return more.get(pack, [])

    queue, handed = Queue(directory, ["a", "b"], after), []
    while queue.left:
        handed.append(queue.next())
        queue.ended(handed[-1], fault="failed" if handed[-1] == "b" else None)
    assert handed == ["a", "b", "c", "b", "d", "e", "b"]
    assert told == ["a", "c", "d", "e", "b"]
    assert queue.over == 5


def test_a_disk_that_takes_no_note_ends_nothing(directory, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(RunDirectory, "write_json", full)
    queue, tried = ends_after(directory, "killed")
    assert (tried, queue.over) == (TRIES["killed"], 1)


def test_a_note_says_when(directory):
    ends_after(directory, "crowded")
    for name in directory.names("attempts"):
        content = json.loads(directory.read(f"attempts/{name}"))
        assert set(content) == {"pack", "outcome", "error", "ended"}


def test_in_this_process_packs_run_one_by_one_and_a_failure_ends_nothing(directory, monkeypatch):
    import study.worker

    ran = []

    def run_pack(root, pack, *, device):
        ran.append((root, pack, device))
        if pack == "a":
            raise ValueError("broken")

    monkeypatch.setattr(study.worker, "run_pack", run_pack)
    InProcess().run(directory, ["a", "b"], after=lambda pack: ["c"] if pack == "a" else [])
    assert ran == [(directory.root, pack, "cpu") for pack in "abc"]


def test_a_note_makes_no_run_directory_where_there_is_none_any_more(directory, tmp_path):
    queue = Queue(directory, ["a"])
    queue.next()
    (tmp_path / "run").rename(tmp_path / "elsewhere")
    queue.ended("a", fault="killed", reason="gone")
    assert not (tmp_path / "run").exists()
    assert queue.left

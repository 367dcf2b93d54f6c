"""The queue: what is handed out, in which order, and how often a pack is tried by what ended it."""

import json

import pytest

from study.executor import TRIES, InProcess, Queue
from study.store import MANIFEST, RunDirectory


@pytest.fixture
def directory(tmp_path):
    found = RunDirectory(tmp_path / "run")
    found.write_json(MANIFEST, {})
    return found


@pytest.fixture
def clock():
    """A clock that stands still until it is set."""
    return Clock()


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def notes(directory):
    found = [directory.read_json(f"attempts/{name}") for name in directory.names("attempts")]
    return sorted((note["pack"], note["outcome"], note["error"]) for note in found)


def ends_after(directory, fault):
    """How often a pack is handed out when each try ends by one fault."""
    clock, times = Clock(), 0
    queue = Queue(directory, ["a"], clock=clock)
    while queue.left:
        pack = queue.next()
        if pack is None:
            clock.now += 1.0
            continue
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


def test_faults_of_another_kind_do_not_use_up_tries(directory, clock):
    queue = Queue(directory, ["a"], clock=clock)
    for fault in ["failed", "killed", "failed", "killed", "crowded"]:
        queue.ended(queue.next(), fault=fault)
        clock.now += 2.0
    assert queue.next() == "a"
    queue.ended("a", fault="failed")
    assert (queue.next(), queue.over) == (None, 1)


def test_what_is_tried_again_comes_last(directory):
    queue = Queue(directory, ["a", "b"])
    queue.ended(queue.next(), fault="failed")
    assert [queue.next(), queue.next()] == ["b", "a"]


@pytest.mark.parametrize("fault", ["memory", "killed"])
def test_what_the_system_ended_rests_longer_each_time_and_others_go_first(directory, clock, fault):
    rests, queue = [], Queue(directory, ["a", "b", "c"], clock=clock)
    queue.ended(queue.next(), fault=fault)
    assert (queue.waiting, [queue.next(), queue.next(), queue.next()]) == (3, ["b", "c", None])
    queue.ended("b")
    queue.ended("c")
    since = clock.now
    while queue.left:
        pack = queue.next()
        if pack is None:
            clock.now += 0.5
            continue
        rests.append(clock.now - since)
        since = clock.now
        queue.ended(pack, fault=fault)
    assert rests == [1.0, 2.0, 4.0, 8.0, 16.0, *[30.0] * 10][: TRIES[fault] - 1]


def test_nothing_rests_while_others_run_for_longer_than_that(directory, clock):
    queue = Queue(directory, ["a", "b"], clock=clock)
    queue.ended(queue.next(), fault="killed")
    assert queue.next() == "b"
    clock.now += 1.0
    assert queue.next() == "a"


def test_want_of_memory_halves_and_a_crowd_asks_to_be_alone(directory, clock):
    queue = Queue(directory, ["a", "b"], clock=clock)
    assert [queue.next(), queue.next()] == ["a", "b"]
    queue.ended("a", fault="memory")
    queue.ended("b", fault="crowded")
    assert (queue.halvings["a"], queue.halvings["b"]) == (1, 0)
    assert queue.alone == {"b"}
    assert queue.next() == "b"
    clock.now += 1.0
    queue.ended(queue.next(), fault="memory")
    assert queue.halvings["a"] == 2


def test_what_is_lost_together_waits_again_with_a_note(directory, clock):
    queue = Queue(directory, ["a", "b", "c"], clock=clock)
    queue.next(), queue.next()
    queue.lose("the power went")
    assert (queue.waiting, queue.running, queue.over) == (3, set(), 0)
    assert notes(directory) == [("a", "killed", "the power went"), ("b", "killed", "the power went")]
    clock.now += 1.0
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


# Storage that fails

FULL = OSError(28, "No space left on device")


def test_a_fault_of_storage_costs_no_try_and_stops_the_handing_out(directory, clock):
    queue = Queue(directory, ["a", "b", "c"], clock=clock)
    queue.next(), queue.next()
    queue.ended("a", fault="storage", reason="OSError: full")
    assert (queue.next(), queue.waiting, queue.over) == (None, 2, 0)
    queue.ended("b", fault="storage", reason="OSError: full")
    clock.now += 0.5
    assert [queue.next() for _ in range(3)] == ["c", "a", "b"]
    for _ in range(TRIES["failed"] - 1):
        queue.ended("a", fault="failed")
        assert queue.next() == "a"
    assert notes(directory) == []


def test_a_pack_that_alone_cannot_be_written_is_given_up(directory):
    tried, clock = 0, Clock()
    queue = Queue(directory, ["a", *(f"{i}" for i in range(100))], clock=clock)
    while queue.left:
        pack = queue.next()
        if pack is None:
            clock.now += 0.5
            continue
        tried += pack == "a"
        queue.ended(pack, fault="storage" if pack == "a" else None, reason="OSError: File name too long")
        if pack == "a":  # and another is written meanwhile
            queue._outage.forget()
    assert tried == TRIES["storage"]
    assert notes(directory) == [("a", "storage", "OSError: File name too long")]


@pytest.fixture
def packs(monkeypatch):
    """A function that says what packs do in this process; the list of those that were tried."""
    import study.worker

    tried = []

    def become(do):
        def run_pack(root, pack, *, device):
            tried.append(pack)
            do(pack)

        monkeypatch.setattr(study.worker, "run_pack", run_pack)
        monkeypatch.setattr(study.worker, "storage_fault", lambda _, error: error is FULL)
        return tried

    return become


def test_in_this_process_storage_that_fails_for_a_moment_is_waited_for(directory, packs):
    def do(_):
        if len(tried) in (1, 2):
            raise FULL

    tried, over = packs(do), []
    InProcess().run(directory, ["a", "b"], after=lambda pack: over.append(pack) or ())
    assert (tried, over) == (["a", "b", "a", "b"], ["a", "b"])


def test_in_this_process_storage_that_stays_full_ends_the_run(directory, packs, monkeypatch):
    from study import outage
    from study.errors import UserError

    def refuse(*_, **__):
        raise FULL

    def do(_):
        raise FULL

    monkeypatch.setattr(outage, "BEARABLE_SECONDS", 1.0)
    monkeypatch.setattr(outage, "write_whole", refuse)
    tried = packs(do)
    with pytest.raises(UserError, match=r"cannot write to the run directory .*: No space left on device; what is"):
        InProcess().run(directory, ["a", "b"])
    assert tried == ["a"]


def test_in_this_process_an_error_of_another_file_is_tried_again(directory, packs):
    def do(pack):
        raise ConnectionError("a data set that is far away") if pack == "a" else ValueError("the same each time")

    tried = packs(do)
    InProcess().run(directory, ["a", "b"])
    assert sorted(tried) == ["a"] * TRIES["failed"] + ["b"]

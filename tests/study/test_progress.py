import threading
import time

import pytest
from rich.progress import Progress

from study import progress as module
from study.progress import Tally, duration, live, words
from study.store import RunDirectory, build_table


@pytest.fixture
def directory(tmp_path):
    return RunDirectory(tmp_path / "run")


def finish(directory, pack, *statuses):
    directory.write_part("trials", pack, build_table("trials", [{"status": status} for status in statuses]))


def test_every_finished_pack_is_counted_once(directory):
    tally = Tally(directory, {"a": 2, "b": 1, "c": 4})
    finish(directory, "a", "completed", "diverged")
    tally.update()
    tally.update()
    assert (tally.planned, tally.done, dict(tally.statuses)) == (7, 2, {"completed": 1, "diverged": 1})
    finish(directory, "b", "oom")
    tally.update()
    assert (tally.done, tally.statuses["oom"]) == (3, 1)


def test_a_broken_part_is_counted_when_it_is_whole(directory):
    tally = Tally(directory, {"a": 1})
    directory.publish("trials/a.parquet", b"PAR1")
    tally.update()
    assert tally.done == 0
    finish(directory, "a", "completed")
    tally.update()
    assert tally.done == 1


def test_work_under_way_is_the_trained_share_of_unfinished_packs(directory):
    tally = Tally(directory, {"a": 4, "b": 2})
    for pack, trials, done in (("a", 4, 1), ("b", 2, 5)):
        directory.write_json(f"progress/{pack}.json", {"pack": pack, "trials": trials, "steps": done, "of": 10})
    assert tally.under_way() == pytest.approx(4 * 0.1 + 2 * 0.5)
    finish(directory, "b", "completed", "completed")
    tally.update()
    assert tally.under_way() == pytest.approx(0.4)


def test_a_note_of_an_earlier_version_counts_evaluations(directory):
    tally = Tally(directory, {"a": 4})
    directory.write_json("progress/a.json", {"pack": "a", "trials": 4, "evaluations": 1, "of": 2})
    assert tally.under_way() == 2.0


def test_failed_attempts_are_counted(directory):
    for name, outcome in (("a.0", "failed"), ("a.1", "committed"), ("b.0", "started"), ("b.1", "failed")):
        directory.write_json(f"attempts/{name}.json", {"outcome": outcome})
    assert Tally(directory, {}).failed_attempts() == 2


def test_the_line_says_what_went_wrong_and_how_long_it_takes(directory):
    finish(directory, "a", "completed", "diverged", "diverged", "oom")
    directory.write_json("attempts/b.0.json", {"outcome": "failed"})
    tally = Tally(directory, {"a": 4, "b": 6})
    tally.update()
    assert words(tally, 75.2, 2.0) == (
        "4 of 10 trials done, 2 diverged, 1 oom, 1 failed attempts, 2.0 trials/s, 1 min 15 s left"
    )
    assert words(tally, None, 0.0) == "4 of 10 trials done, 2 diverged, 1 oom, 1 failed attempts"


def test_a_slow_run_is_told_by_the_minute(directory):
    tally = Tally(directory, {"a": 4})
    told = [words(tally, None, rate) for rate in (0.1, 0.099, 1 / 600)]
    assert told == [f"0 of 4 trials done, {speed}" for speed in ("0.1 trials/s", "5.9 trials/min", "0.1 trials/min")]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (61, "1 min 1 s"),
        (3599.6, "1 h 0 min"),
        (3600 * 26 + 61, "26 h 1 min"),
    ],
)
def test_a_duration_has_two_units_at_most(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(("local", "least"), [(True, 0.5), (False, 10.0)])
@pytest.mark.parametrize("fails", [False, True])
def test_looking_takes_a_tenth_of_the_time_at_most(directory, monkeypatch, local, least, fails):
    tally, pauses, took = Tally(directory, {"a": 1}), [], 2.0
    now = iter(range(10**6))
    monkeypatch.setattr(module.time, "monotonic", lambda: next(now) * took)  # every question takes so long
    monkeypatch.setattr(directory, "local", local)

    def update():
        if fails:
            raise OSError("storage that is away")

    monkeypatch.setattr(tally, "update", update)

    class Stop:
        def wait(self, seconds):
            pauses.append(seconds)
            return len(pauses) == 3

        def is_set(self):
            return False

    with Progress(disable=True) as progress:
        module._watch(tally, progress, progress.add_task("trials"), Stop())
    assert pauses[0] == least
    assert min(pauses[1:]) >= 9 * took


def test_the_live_line_goes_to_standard_error(directory, capsys):
    with live(directory, {"a": 1}) as tally:
        finish(directory, "a", "completed")
    assert tally.done == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.strip().endswith("1 of 1 trials done")


def test_a_quiet_watch_counts_and_says_nothing(directory, capsys):
    with live(directory, {"a": 1}, quiet=True) as tally:
        finish(directory, "a", "completed")
    assert tally.done == 1
    assert capsys.readouterr() == ("", "")


def test_a_failing_block_still_ends_the_watch(directory):
    with pytest.raises(ZeroDivisionError, match="division"), live(directory, {"a": 1}):
        1 / 0  # noqa: B018 - any error will do


def test_storage_that_hangs_is_not_waited_for_when_the_block_is_asked_to_stop(directory, monkeypatch):
    answer, looking, begun = threading.Event(), threading.Event(), time.monotonic()

    def never(_):
        looking.set()
        answer.wait()

    def ask_to_stop():
        monkeypatch.setattr(Tally, "update", never)
        looking.wait(30)
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(module, "LAST_LOOK_SECONDS", 0.3)
    try:
        with pytest.raises(KeyboardInterrupt), live(directory, {"a": 1}):
            ask_to_stop()
        assert time.monotonic() - begun < 5
    finally:
        answer.set()

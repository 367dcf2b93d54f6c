"""Storage that fails: when it is looked at again, for how long, and in which words that ends."""

import errno
import os
import shutil

import pytest

from study import outage as module
from study.errors import UserError
from study.filesystem import Entry
from study.outage import Outage
from study.store import MANIFEST, RunDirectory


class Clock:
    def __init__(self):
        self.now = 50.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def directory(tmp_path):
    found = RunDirectory(tmp_path / "run")
    found.write_json(MANIFEST, {})
    return found


@pytest.fixture
def full(monkeypatch):
    """A function that fills the disk, or empties it."""

    def fill(full=True):
        def refuse(*_, **__):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(module, "write_whole", refuse) if full else monkeypatch.undo()

    return fill


def looks(outage, clock, seconds):
    """The times, from now on, at which a test write was tried or packs were let through."""
    found, begun = [], clock.now
    while clock.now - begun < seconds:
        before = outage._next
        if outage.over():
            return [*found, (clock.now - begun, True)]
        if outage._next != before:
            found.append((clock.now - begun, False))
        clock.now += 0.25
    return found


def test_storage_that_is_well_is_not_asked(directory, clock, full):
    full()
    assert Outage(directory, clock).over()


def test_packs_go_on_after_the_first_write_that_succeeds(directory, clock, full):
    outage = Outage(directory, clock)
    full()
    outage.begins("OSError: No space left on device")
    assert looks(outage, clock, 5.0) == [(0.5, False), (1.5, False), (3.5, False)]
    full(False)
    assert looks(outage, clock, 20.0) == [(2.5, True)]
    assert outage.over()
    assert directory.entries() == [Entry(MANIFEST, 3)]  # nothing is left of a test write


def test_after_a_minute_it_ends_in_a_sentence_with_the_systems_reason(directory, clock, full):
    outage, begun = Outage(directory, clock), clock.now
    full()
    outage.begins("OSError: something")
    sentence = (
        f"cannot write to the run directory {directory}: No space left on device; what is finished is kept, and the "
        "same command goes on from there"
    )
    with pytest.raises(UserError) as error:
        looks(outage, clock, 100.0)
    assert str(error.value) == sentence
    assert 60.0 < clock.now - begun < 60.0 + module.MOST_SECONDS + 1


def test_where_a_test_write_succeeds_but_no_pack_can_be_written_it_ends_too(directory, clock):
    outage, begun = Outage(directory, clock), clock.now

    def go_on():
        while clock.now < begun + 200:
            outage.begins("PermissionError: trials")
            looks(outage, clock, 20.0)

    with pytest.raises(UserError, match=r"cannot write to the run directory .*: PermissionError: trials; what is"):
        go_on()
    assert clock.now - begun > 60.0


def test_each_pack_that_is_written_gives_a_minute_again(directory, clock):
    outage, begun = Outage(directory, clock), clock.now
    while clock.now < begun + 200:
        outage.begins("PermissionError: one pack's own")
        assert looks(outage, clock, 20.0) == [(0.5, True)]
        outage.forget()


def test_a_run_directory_that_is_gone_ends_it_at_once_and_is_not_made_anew(directory, clock, tmp_path):
    (tmp_path / "run").rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="run is gone, removed, renamed or unmounted while it was in use: once it is"):
        Outage(directory, clock).begins("FileNotFoundError: plan")
    assert not (tmp_path / "run").exists()


def test_one_that_goes_while_storage_fails_ends_it_at_the_next_look(directory, clock, full, tmp_path):
    outage = Outage(directory, clock)
    outage.begins("OSError: stale")
    shutil.rmtree(tmp_path / "run")
    (tmp_path / "run").mkdir()  # what is left where something was unmounted
    with pytest.raises(UserError, match="is gone, removed, renamed or unmounted"):
        looks(outage, clock, 5.0)
    assert list((tmp_path / "run").iterdir()) == []


def test_storage_that_cannot_even_be_looked_at_is_waited_for(directory, clock, monkeypatch):
    def stale(*_):
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    outage = Outage(directory, clock)
    with monkeypatch.context() as patch:
        patch.setattr(RunDirectory, "exists", stale)
        outage.begins("OSError: stale")
        assert looks(outage, clock, 2.0) == [(0.5, False), (1.5, False)]
    assert looks(outage, clock, 20.0)[-1][1]

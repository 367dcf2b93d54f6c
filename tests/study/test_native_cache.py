"""The folder of compiled programs: whose it is, what stays in it, and locks."""

import errno
import io
import os
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from study.native import cache
from study.native.cache import BEGUN, LEFT_SECONDS, alone, cache_folders, kept, private_folder, publish, tidy, use

MINUTE = 60


def test_programs_are_kept_for_their_user_alone(empty_cache):
    before = os.umask(0o002)
    try:
        assert private_folder() == empty_cache
    finally:
        os.umask(before)
    assert stat.S_IMODE(empty_cache.stat().st_mode) == 0o700


def in_the_way(folder):
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.write_text("a file where a folder should be")


def nobodys(monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))


@pytest.mark.parametrize("how", ["no folder", "no home"])
def test_without_a_home_they_are_kept_among_temporary_files(empty_cache, monkeypatch, how):
    if how == "no folder":
        in_the_way(empty_cache)
    else:
        nobodys(monkeypatch)
    found = private_folder()
    assert found == cache_folders()[-1]
    assert stat.S_IMODE(found.stat().st_mode) == 0o700


def test_without_that_too_the_reason_is_that_of_the_first(empty_cache):
    for folder in cache_folders():
        in_the_way(folder)
    with pytest.raises(OSError, match=str(empty_cache)):
        private_folder()


@pytest.mark.parametrize(("folder", "parent"), [(0o777, 0o700), (0o770, 0o700), (0o700, 0o777)])
def test_a_folder_that_others_may_write_to_is_not_used(empty_cache, folder, parent):
    """What lies in it would be run."""
    empty_cache.mkdir(parents=True)
    empty_cache.chmod(folder)
    empty_cache.parent.chmod(parent)
    assert private_folder() == cache_folders()[1]


def test_nor_is_one_of_somebody_elses(empty_cache, monkeypatch):
    me = os.getuid()
    private_folder()
    monkeypatch.setattr(os, "getuid", lambda: me + 1)
    with pytest.raises(PermissionError, match="belongs to somebody else"):
        private_folder()


def test_a_parent_that_a_group_may_write_to_is_used(empty_cache):
    """All folders are made so where the umask is 002."""
    empty_cache.mkdir(parents=True, mode=0o700)
    empty_cache.parent.chmod(0o775)
    assert private_folder() == empty_cache


def test_links_are_followed_once(empty_cache, tmp_path):
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    empty_cache.parent.mkdir(parents=True)
    empty_cache.symlink_to(tmp_path / "elsewhere")
    assert private_folder() == tmp_path / "elsewhere"


def filled(folder, sizes, *, ages):
    for i, (size, age) in enumerate(zip(sizes, ages, strict=True)):
        path = folder / f"{i}.so"
        path.write_bytes(b"x" * size)
        os.utime(path, (time.time() - age,) * 2)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_what_was_used_longest_ago_goes_first(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "KEPT", 3)
    filled(tmp_path, [1] * 5, ages=[5 * MINUTE, 1 * MINUTE, 4 * MINUTE, 2 * MINUTE, 3 * MINUTE])
    use(tmp_path / "0.so")
    tidy(tmp_path)
    assert names(tmp_path) == ["0.so", "1.so", "3.so"]


def test_so_it_is_beyond_a_size_in_all(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "KEPT_BYTES", 100)
    filled(tmp_path, [40, 50, 20, 1], ages=[1 * MINUTE, 2 * MINUTE, 3 * MINUTE, 4 * MINUTE])
    tidy(tmp_path)
    assert names(tmp_path) == ["0.so", "1.so"]


def test_what_killed_processes_left_goes_after_a_day(tmp_path):
    for age in (0, 2 * LEFT_SECONDS):
        left, lock = tmp_path / f"{BEGUN}{age}", tmp_path / f".{age}.lock"
        left.mkdir()
        (left / "program.cpp").touch()
        lock.touch()
        for path in (left, lock):
            os.utime(path, (time.time() - age,) * 2)
    tidy(tmp_path)
    assert names(tmp_path) == sorted([f"{BEGUN}0", ".0.lock"])


def test_others_may_tidy_at_the_same_time(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "KEPT", 0)
    filled(tmp_path, [1] * 200, ages=range(200))
    code = f"from study.native import cache; cache.KEPT = 0; cache.tidy(cache.Path({str(tmp_path)!r}))"
    running = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(2)]
    tidy(tmp_path)
    assert [process.wait() for process in running] == [0, 0]
    assert names(tmp_path) == []


HOLDS = """
import sys, time
from pathlib import Path
from study.native.cache import alone
with alone(Path(sys.argv[1]), 60):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def held(tmp_path):
    """A lock that another process holds, and that process."""
    path = tmp_path / ".lock"
    with subprocess.Popen([sys.executable, "-c", HOLDS, str(path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield path, process
        process.kill()


def test_a_lock_is_waited_for_no_longer_than_is_said(held):
    begun = time.monotonic()
    with alone(held[0], 0.3):
        assert time.monotonic() - begun >= 0.3


def test_a_dead_process_holds_no_lock(held):
    path, process = held
    process.kill()
    process.wait()
    begun = time.monotonic()
    with alone(path, 60):
        assert time.monotonic() - begun < 30
    assert not path.exists()


def test_where_there_are_no_locks_one_goes_on_without(tmp_path, monkeypatch):
    def refused(*_):
        raise OSError("no locks here")

    monkeypatch.setattr(cache.fcntl, "flock", refused)
    begun = time.monotonic()
    with alone(tmp_path / ".lock", 60):
        assert time.monotonic() - begun < 30


def made_of(folder, content):
    path = folder / "made"
    path.write_bytes(content)
    return path


def test_a_program_is_found_by_its_key(empty_cache, tmp_path):
    folder = private_folder()
    path = publish(made_of(tmp_path, b"new"), folder, "a")
    assert publish(made_of(tmp_path, b"new"), folder, "a") == path
    assert path.read_bytes() == b"new"
    assert names(folder) == [path.name]
    assert (kept("a"), kept("b")) == (path, None)


@pytest.mark.parametrize("content", [b"", b"a prog", b"another program", b"a program and more"])
def test_one_that_is_not_as_it_was_is_removed(empty_cache, tmp_path, content):
    """A part of a program, which a full disk or a crash may leave, ends the process that loads it."""
    path = publish(made_of(tmp_path, b"a program"), private_folder(), "a")
    path.write_bytes(content)
    assert kept("a") is None
    assert not path.exists()


def test_one_under_the_name_of_another_is_not_taken_for_it(empty_cache, tmp_path):
    first, second = (publish(made_of(tmp_path, name), private_folder(), "a") for name in (b"one", b"two"))
    second.replace(first)
    assert kept("a") is None


def test_one_where_others_may_write_is_not_taken(empty_cache, tmp_path):
    path = publish(made_of(tmp_path, b"new"), private_folder(), "a")
    path.parent.chmod(0o777)
    assert kept("a") is None
    assert path.exists()


@pytest.fixture
def full(monkeypatch):
    """A function that lets folders take no more bytes, as a full disk does; empty files they take."""
    real = tempfile.TemporaryFile

    def fill(*folders):
        def opened(*, dir):
            return NoRoom() if Path(dir) in folders else real(dir=dir)

        monkeypatch.setattr(cache.tempfile, "TemporaryFile", opened)

    return fill


class NoRoom(io.BytesIO):
    def write(self, data):
        if data:
            raise OSError(errno.ENOSPC, "No space left on device")
        return 0


def test_a_full_folder_gives_way_to_the_next(empty_cache, full):
    full(empty_cache)
    assert private_folder() == empty_cache
    assert private_folder(room=1) == cache_folders()[1]


def test_where_all_are_full_the_first_is_named(empty_cache, full):
    full(*cache_folders())
    with pytest.raises(OSError, match=f"No space left on device: '{empty_cache}'"):
        private_folder(room=1)

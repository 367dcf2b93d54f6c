"""Compiling: the cache, and what happens where it is not possible."""

import os
import stat
import subprocess
import sys
import time

import pytest
import torch

from study import program as programs
from study.errors import UserError
from study.evaluate import evaluate
from study.native import build
from study.native.build import NoCompiler, cache_folders, compiler, library, missing
from study.program import make_program
from study.schema import NATIVE, RECORDED
from study.train import example_of, train
from tests.study.native_case import game_of, needs_compiler

SOURCE = 'extern "C" int answer() { return 42; }'


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setattr("tempfile.tempdir", None)  # asked anew
    for known in (build.compiler, build.missing):
        known.cache_clear()
    yield cache_folders()[0]
    for known in (build.compiler, build.missing):
        known.cache_clear()


@needs_compiler
def test_a_program_is_compiled_once_and_kept_for_its_user(empty_cache, monkeypatch):
    assert library(SOURCE).answer() == 42
    (kept,) = empty_cache.iterdir()
    assert stat.S_IMODE(empty_cache.stat().st_mode) == 0o700

    def compile_again(*_):
        raise AssertionError

    monkeypatch.setattr(build, "_compile", compile_again)
    assert library(SOURCE).answer() == 42
    assert [*empty_cache.iterdir()] == [kept]


@needs_compiler
def test_flags_compiler_and_processor_make_another_program(empty_cache, monkeypatch):
    library(SOURCE)
    monkeypatch.setattr(build, "_processor", lambda: "another")
    library(SOURCE)
    monkeypatch.setattr(build, "_version", lambda _: "another")
    library(SOURCE)
    assert len([*empty_cache.iterdir()]) == 3


@needs_compiler
def test_of_several_processes_that_want_the_same_one_compiles(empty_cache, monkeypatch):
    code = f"from study.native.build import library; raise SystemExit(library({SOURCE!r}).answer())"
    calls = empty_cache.parent / "calls"
    calls.parent.mkdir(parents=True)
    wrapper = empty_cache.parent / "counted"
    wrapper.write_text(f'#!/bin/sh\n[ "$1" = --version ] || echo >> {calls}\nexec {compiler()[0]} "$@"\n')
    wrapper.chmod(0o700)
    monkeypatch.setenv("CXX", str(wrapper))
    running = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(3)]
    assert [process.wait() for process in running] == [42] * 3
    assert calls.read_text() == "\n"
    assert len([*empty_cache.iterdir()]) == 1


def assert_refused(why):
    """Who asked for compiled programs gets no others, which have other bits."""
    game = game_of("ns")
    with pytest.raises(UserError, match=f"^program 'native': .*{why}"):
        make_program(game, example_of(game, 1), NATIVE)


def test_without_a_compiler_it_is_refused(empty_cache, monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert_refused("no C.. compiler: neither no-such-compiler, g..")


def test_so_it_is_where_the_compiler_fails(empty_cache, monkeypatch, tmp_path):
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho out of order >&2\nexit 1\n")
    broken.chmod(0o700)
    monkeypatch.setenv("CXX", str(broken))
    assert_refused("out of order")


def in_the_way(folder):
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.write_text("a file where a folder should be")


@needs_compiler
def test_so_it_is_where_nothing_can_be_kept(empty_cache):
    for folder in cache_folders():
        in_the_way(folder)
    assert_refused("exists")
    assert "exists" in missing()


@needs_compiler
def test_without_a_home_programs_are_kept_among_temporary_files(empty_cache):
    in_the_way(empty_cache)
    assert library(SOURCE).answer() == 42
    (kept,) = cache_folders()[1].iterdir()
    assert kept.suffix == ".so"
    assert stat.S_IMODE(kept.parent.stat().st_mode) == 0o700
    assert missing() is None


@needs_compiler
def test_a_folder_that_others_may_write_to_is_not_used(empty_cache):
    """What lies in it would be run."""
    empty_cache.mkdir(parents=True)
    empty_cache.chmod(0o777)
    assert library(SOURCE).answer() == 42
    assert [*empty_cache.iterdir()] == []
    cache_folders()[1].chmod(0o770)
    with pytest.raises(NoCompiler, match="others may write to"):
        library(SOURCE)


@needs_compiler
def test_what_was_used_longest_ago_goes_first(empty_cache, monkeypatch):
    monkeypatch.setattr(build, "KEPT", 2)
    sources = [f'extern "C" int answer() {{ return {i}; }}' for i in range(4)]
    for i, source in enumerate(sources[:3]):
        library(source)
        for path in empty_cache.glob("*.so"):
            os.utime(path, (path.stat().st_mtime - 10,) * 2)
        if i:
            library(sources[0])  # in use
    library(sources[3])
    assert len([*empty_cache.glob("*.so")]) == 2
    monkeypatch.setattr(build, "_compile", lambda *_: pytest.fail("it was kept"))
    assert [library(sources[i]).answer() for i in (0, 3)] == [0, 3]


@needs_compiler
def test_what_killed_processes_left_goes_after_a_day(empty_cache):
    empty_cache.mkdir(parents=True, mode=0o700)
    for age in (0, 2 * build.LEFT_SECONDS):
        left = empty_cache / f"{build.BEGUN}{age}"
        left.mkdir()
        os.utime(left, (time.time() - age,) * 2)
    library(SOURCE)
    assert [path.name for path in empty_cache.glob(f"{build.BEGUN}*")] == [f"{build.BEGUN}0"]


@needs_compiler
def test_a_kept_program_that_is_damaged_is_made_anew(empty_cache):
    compiler()
    empty_cache.mkdir(parents=True, mode=0o700)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "_compile", lambda _command, _source, path: path.write_text("no library"))
        with pytest.raises(NoCompiler, match=r"invalid ELF header|too short|not a mach-o"):
            library(SOURCE)
    assert library(SOURCE).answer() == 42  # made anew


def test_nothing_is_compiled_unasked():
    game = game_of("ns")
    program = make_program(game, example_of(game, 1))
    assert program.blocks is None
    assert program.why is None
    assert program.name == RECORDED
    assert program.discriminator(example_of(game, 1))["phi"].isfinite().all()


@needs_compiler
def test_training_asks_for_the_compiled_program(small_pack, monkeypatch):
    used = []
    monkeypatch.setattr(
        "study.train.advance",
        lambda program, *args, **kwargs: used.append(program) or programs.advance(program, *args, **kwargs),
    )
    measured = []
    monkeypatch.setattr(
        "study.train.evaluate", lambda *args, **kwargs: measured.append(kwargs["program"]) or evaluate(*args, **kwargs)
    )
    state = train(small_pack("ring8", "ns").trials, capacity=4, dtype=torch.float32, program=NATIVE)
    assert used
    assert all(program.blocks for program in used)
    assert state.program == NATIVE
    assert measured == [NATIVE] * 3

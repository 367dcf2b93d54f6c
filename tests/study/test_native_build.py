"""Compiling: the cache, and what happens where it is not possible."""

import stat
import subprocess
import sys

import pytest
import torch

from study import program as programs
from study.errors import UserError
from study.native import build
from study.native.build import NoCompiler, cache_folder, compiler, library
from study.program import make_program
from study.schema import NATIVE, RECORDED
from study.train import example_of, train
from tests.study.native_case import game_of, needs_compiler

SOURCE = 'extern "C" int answer() { return 42; }'


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    build.compiler.cache_clear()
    yield cache_folder()
    build.compiler.cache_clear()


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
def test_several_processes_may_compile_the_same_at_once(empty_cache):
    code = f"from study.native.build import library; raise SystemExit(library({SOURCE!r}).answer())"
    running = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(3)]
    assert [process.wait() for process in running] == [42] * 3
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


@needs_compiler
def test_so_it_is_where_nothing_can_be_kept(empty_cache):
    empty_cache.parent.parent.mkdir(parents=True, exist_ok=True)
    empty_cache.parent.write_text("a file where a folder should be")
    assert_refused("irectory")


@needs_compiler
def test_a_kept_program_that_is_damaged_is_made_anew(empty_cache):
    compiler()
    empty_cache.mkdir(parents=True)
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
    state = train(small_pack("ring8", "ns").trials, capacity=4, dtype=torch.float32, program=NATIVE)
    assert used
    assert all(program.blocks for program in used)
    assert state.program == NATIVE

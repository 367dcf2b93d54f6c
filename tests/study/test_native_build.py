"""Compiling: once for all processes, and what happens where it is not possible or fails."""

import errno
import os
import re
import signal
import subprocess
import sys
import time

import pytest
import torch

from study import program as programs
from study.errors import UserError
from study.evaluate import evaluate
from study.native import build, cache
from study.native.build import CompilerFailed, NoCompiler, compiler, compiler_name, library, missing
from study.native.cache import cache_folders
from study.program import make_program
from study.schema import NATIVE, RECORDED
from study.train import example_of, train
from tests.study.native_case import game_of, needs_compiler

SOURCE = 'extern "C" int answer() { return 42; }'
OTHER = 'extern "C" int answer() { return 43; }'


@pytest.fixture
def compiler_script(empty_cache, monkeypatch, tmp_path):
    """A function that puts a script in the compiler's place; $REAL stands for the compiler."""
    real = compiler()[0]

    def put(text):
        script = tmp_path / "scripted"
        script.write_text(f"#!/bin/sh\nREAL={real}\n{text}\n")
        script.chmod(0o700)
        monkeypatch.setenv("CXX", str(script))
        for known in (build.compiler, build.missing):
            known.cache_clear()

    return put


FAILS_WITH_OTHER = """
for word in "$@"; do case "$word" in *.cpp) grep -q 'return 43' "$word" && { %s; } ;; esac; done
exec $REAL "$@"
"""


@needs_compiler
def test_a_program_is_compiled_once(empty_cache, monkeypatch):
    assert library(SOURCE).answer() == 42
    (kept,) = empty_cache.iterdir()
    monkeypatch.setattr(build, "_compile", lambda *_: pytest.fail("it was kept"))
    assert library(SOURCE).answer() == 42
    assert [*empty_cache.iterdir()] == [kept]


@needs_compiler
def test_flags_compiler_and_processor_make_another_program(empty_cache, monkeypatch):
    library(SOURCE)
    library(SOURCE, quick=True)
    monkeypatch.setattr(build, "_processor", lambda: "another")
    library(SOURCE)
    monkeypatch.setattr(build, "_version", lambda _: "another")
    library(SOURCE)
    # where a compiler that is not GCC knows no quick way, the first two are one
    assert len([*empty_cache.iterdir()]) in (3, 4)


@needs_compiler
def test_of_several_processes_that_want_the_same_one_compiles(compiler_script, empty_cache, tmp_path):
    calls = tmp_path / "calls"
    compiler_script(f'[ "$1" = --version ] || echo >> {calls}\nexec $REAL "$@"')
    code = f"from study.native.build import library; raise SystemExit(library({SOURCE!r}).answer())"
    running = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(3)]
    assert [process.wait() for process in running] == [42] * 3
    assert calls.read_text() == "\n"
    assert len([*empty_cache.iterdir()]) == 1


@needs_compiler
def test_nothing_is_missing_where_programs_compile(empty_cache, monkeypatch):
    assert missing() is None
    monkeypatch.setattr(build, "_compile", lambda *_: pytest.fail("it was kept"))
    build.missing.cache_clear()
    assert missing() is None


@needs_compiler
def test_the_compiler_says_its_name_and_version():
    said = subprocess.run([*compiler(), "--version"], capture_output=True, text=True, check=True).stdout
    assert compiler_name() == said.splitlines()[0]
    assert "/" not in compiler_name()


def test_the_variable_may_have_arguments(empty_cache, monkeypatch, tmp_path):
    script = tmp_path / "wrapped"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o700)
    monkeypatch.setenv("CXX", f"{script} g++ --some-flag")
    assert compiler() == (str(script), "g++", "--some-flag")


def assert_refused(why):
    """Who asked for compiled programs gets no others, which have other bits."""
    game = game_of("ns")
    with pytest.raises(UserError, match=f"^program 'native': .*{re.escape(why)}"):
        make_program(game, example_of(game, 1), NATIVE)
    assert why in missing()


def test_without_a_compiler_it_is_refused(empty_cache, monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert_refused("no C++ compiler: neither no-such-compiler, g++")
    with pytest.raises(NoCompiler, match="no-such-compiler"):
        compiler_name()


@needs_compiler
def test_so_it_is_where_the_compiler_fails(compiler_script):
    compiler_script("echo out of order >&2; exit 1")
    assert_refused("out of order")
    with pytest.raises(NoCompiler, match="out of order"):
        compiler_name()


@needs_compiler
def test_so_it_is_where_what_it_made_cannot_be_loaded(compiler_script):
    writes_rubbish = 'for last in "$@"; do :; done; echo no library > "$last"'
    compiler_script(f'[ "$1" = --version ] && exec $REAL "$@"\n{writes_rubbish}')
    with pytest.raises(NoCompiler, match=r"invalid ELF header|too short|not a mach-o"):
        library(SOURCE)


@needs_compiler
def test_so_it_is_where_nothing_can_be_kept(empty_cache):
    for folder in cache_folders():
        folder.parent.mkdir(parents=True)
        folder.write_text("a file where a folder should be")
    assert_refused("exists")


@needs_compiler
def test_so_it_is_where_all_folders_are_full(empty_cache, monkeypatch):
    """Though what is kept there can be read."""
    library(SOURCE)
    monkeypatch.setattr(build, "ROOM", 2**62)
    monkeypatch.setattr(cache, "bytes", no_room, raising=False)
    assert_refused(f"No space left on device: '{empty_cache}'")


def no_room(count):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_so_it_is_where_the_variable_makes_no_sense(empty_cache, monkeypatch):
    monkeypatch.setenv("CXX", "g++ '")
    assert_refused("""CXX = "g++ '": No closing quotation""")


@needs_compiler
@pytest.mark.parametrize("when", ['[ "$1" = --version ]', '[ "$1" != --version ]'])
def test_so_it_is_where_the_compiler_does_not_answer(compiler_script, monkeypatch, when):
    compiler_script(f'{when} && exec sleep 50\nexec $REAL "$@"')
    monkeypatch.setattr(build, "ANSWER_SECONDS", 0.5)
    begun = time.monotonic()
    assert missing().endswith("scripted took longer than 0.5 s")
    assert time.monotonic() - begun < 20


@needs_compiler
def test_options_in_the_variable_belong_to_the_name(empty_cache, monkeypatch):
    plain, command = compiler_name(), compiler()[0]
    monkeypatch.setenv("CXX", f"{command} -mno-fma -g0")
    compiler.cache_clear()
    assert compiler_name() == f"{plain} -mno-fma -g0"


@needs_compiler
def test_one_program_may_fail_where_others_do_not(compiler_script):
    """As by a full disk: what is to be done is another than where nothing can be compiled."""
    compiler_script(FAILS_WITH_OTHER % "seq 1 99 >&2; exit 1")
    with pytest.raises(CompilerFailed, match=r"scripted failed: 1\n2\n(.*\n)*10$"):
        library(OTHER)
    assert missing() is None
    assert library(SOURCE).answer() == 42
    assert not issubclass(CompilerFailed, NoCompiler)


@needs_compiler
def test_so_may_one_whose_compiler_is_killed(compiler_script):
    compiler_script(FAILS_WITH_OTHER % "kill -9 $$")
    with pytest.raises(CompilerFailed, match=f"scripted failed: exit status -{int(signal.SIGKILL)}"):
        library(OTHER)


@needs_compiler
def test_so_may_one_that_takes_too_long_and_nothing_of_it_goes_on(compiler_script, monkeypatch, tmp_path):
    started = tmp_path / "started"
    compiler_script(FAILS_WITH_OTHER % f"sh -c 'echo $$ > {started}; exec sleep 50'")
    assert missing() is None
    monkeypatch.setattr(build, "SECONDS", 0.5)
    begun = time.monotonic()
    with pytest.raises(CompilerFailed, match=r"scripted took longer than 0.5 s"):
        library(OTHER)
    assert time.monotonic() - begun < 20
    child = int(started.read_text())
    while True:  # until whoever adopts it has noticed
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            break
        time.sleep(0.01)


@needs_compiler
def test_a_kept_program_that_is_damaged_is_made_anew(empty_cache):
    code = f"from study.native.build import library; library({SOURCE!r})"
    subprocess.run([sys.executable, "-c", code], check=True)  # in this process it would stay loaded
    (kept,) = empty_cache.iterdir()
    os.truncate(kept, kept.stat().st_size // 2)  # to load it would end the process
    assert library(SOURCE).answer() == 42
    assert [*empty_cache.iterdir()] == [kept]


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

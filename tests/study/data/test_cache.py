"""Sets are prepared once, whole or not at all, and anew when a file or an option changed."""

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from study.data import images, write
from study.data.cache import entry
from study.data.images import find, load
from study.errors import UserError
from tests.study.data import files
from tests.study.data.files import pictures

HERE = Path(__file__).parents[3]


@pytest.fixture
def cache(root):
    return root.parent / "cache"


def entries(cache):
    return sorted(path for path in cache.iterdir() if not path.name.startswith("."))


def again(*arguments, **options):
    """Load as another process would."""
    images._load.cache_clear()
    return load(*arguments, **options)


def another(code, *, wait=True):
    """Python code in a process of its own, with the folders of this one."""
    env = os.environ | {"PYTHONPATH": str(HERE)}
    process = subprocess.Popen([sys.executable, "-c", code], env=env, stderr=subprocess.PIPE, text=True)
    return process.communicate()[1] if wait else process


LOAD = "from study.data.images import load; import sys; sys.stderr.write(load('images:a').fingerprint + chr(10))"


def test_a_prepared_set_is_not_read_again(root, cache, monkeypatch):
    files.write_folder(root / "a", pictures(20))
    before = load("images:a")
    monkeypatch.setattr("study.data.pictures.decode", lambda *_: pytest.fail("decoded again"))
    after = again("images:a")
    assert after.fingerprint == before.fingerprint
    assert (after.train.pixels == before.train.pixels).all()
    (entry,) = entries(cache)
    parts = [f"{split}_{what}.npy" for split in ("selection", "test", "train") for what in ("labels", "pixels")]
    assert sorted(path.name for path in entry.iterdir()) == ["meta.json", *parts]
    assert not list(cache.glob(".*.tmp"))


def change_a_file(root):
    (root / "a" / "000003.png").write_bytes(files.encoded(pictures(1, seed=9)[0]))


def touch_a_file(root):
    os.utime(root / "a" / "000003.png", ns=(1, 1))


def rename_a_file(root):
    (root / "a" / "000003.png").rename(root / "a" / "000003b.png")


def add_a_file(root):
    shutil.copy(root / "a" / "000003.png", root / "a" / "z.png")


@pytest.mark.parametrize("change", [change_a_file, touch_a_file, rename_a_file, add_a_file])
def test_a_changed_file_is_seen(root, cache, change):
    files.write_folder(root / "a", pictures(20))
    before = load("images:a").fingerprint
    change(root)
    after = again("images:a").fingerprint
    assert (after != before) == (change in (change_a_file, add_a_file))
    assert len(entries(cache)) == 2


def test_other_options_are_another_entry(root, cache):
    files.write_folder(root / "a", pictures(20))
    sets = [load("images:a"), load("images:a", size=4), load("images:a", crop=4), load("images:a", size=4, crop=6)]
    assert len({one.fingerprint for one in sets}) == len(entries(cache)) == 4


def test_a_link_or_folder_of_the_same_content_elsewhere_is_prepared_for_itself(root, cache):
    files.write_folder(root / "a", pictures(20))
    shutil.copytree(root / "a", root / "b")
    assert load("images:a").fingerprint == load("images:b").fingerprint
    assert len(entries(cache)) == 2


def cut(name):
    def damage(folder):
        (folder / name).write_bytes((folder / name).read_bytes()[:-1])

    return damage


def remove(name):
    return lambda entry: (entry / name).unlink()


def without_a_key(entry):
    (entry / "meta.json").write_text(json.dumps({"shape": [3, 8, 8]}))


def another_shape(entry):
    meta = json.loads((entry / "meta.json").read_text())
    (entry / "meta.json").write_text(json.dumps(meta | {"shape": [1, 8, 24]}))


def a_file(entry):
    shutil.rmtree(entry)
    entry.write_bytes(b"x")


def empty(entry):
    shutil.rmtree(entry)
    entry.mkdir()


def pickled(entry):
    (entry / "train_labels.npy").write_bytes(b"\x80\x04N.")


DAMAGES = [cut("train_pixels.npy"), cut("test_labels.npy"), cut("meta.json"), remove("selection_pixels.npy")]
DAMAGES += [remove("meta.json"), without_a_key, another_shape, a_file, empty, pickled]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_entry_is_prepared_anew(root, cache, damage):
    files.write_folder(root / "a", pictures(20))
    before = load("images:a")
    pixels, (entry,) = before.train.pixels.copy(), entries(cache)
    damage(entry)
    after = again("images:a")
    assert (after.train.pixels == pixels).all()
    assert (after.shape, after.fingerprint) == (before.shape, before.fingerprint)
    assert entries(cache) == [entry]
    assert not list(cache.glob(".*.tmp/*"))


def test_two_processes_at_once_prepare_a_set_once(root, cache):
    files.write_folder(root / "a", pictures(600))
    talkative = "from study.data import write; write.PATIENCE = -1; " + LOAD
    both = [another(talkative, wait=False) for _ in range(2)]
    said = [process.communicate()[1].splitlines() for process in both]
    assert {lines[-1] for lines in said} == {load("images:a").fingerprint}
    assert sum(lines.count("preparing images:a: 600 images, once") for lines in said) == 1
    assert len(entries(cache)) == 1


def test_two_processes_without_locks_give_one_whole_entry(root, cache):
    files.write_folder(root / "a", pictures(600))
    lockless = "import fcntl; fcntl.flock = lambda *_: (_ for _ in ()).throw(OSError('no locks')); " + LOAD
    both = [another(lockless, wait=False) for _ in range(2)]
    assert {process.communicate()[1] for process in both} == {load("images:a").fingerprint + "\n"}
    assert len(entries(cache)) == 1
    assert not list(cache.glob(".*.tmp"))


def test_another_process_that_was_first_keeps_its_entry(root, cache, monkeypatch):
    files.write_folder(root / "a", pictures(20))
    original, first = write.write, []

    def slower(folder, source):
        original(folder, source)
        if not first:
            shutil.copytree(folder, cache / folder.name.split(".")[1])
            first.append(entries(cache)[0].stat().st_ino)

    monkeypatch.setattr("study.data.cache.write", slower)
    assert len(load("images:a").train.labels) == 16
    assert [path.stat().st_ino for path in entries(cache)] == first
    assert not list(cache.glob(".*.tmp"))


KILLED = f"""
import os, signal
from study.data import write
add = write.Output.add
def once(output, pixels):
    add(output, pixels)
    output.file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
write.Output.add = once
{LOAD}
"""


def test_what_a_killed_process_left_does_not_load_and_goes(root, cache):
    files.write_folder(root / "a", pictures(20))
    process = another(KILLED, wait=False)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert entries(cache) == []
    assert len(list(cache.glob(".*.tmp/*.npy"))) == 6
    assert len(load("images:a").train.labels) == 16
    assert not list(cache.glob(".*.tmp"))


def test_a_refused_source_leaves_nothing(root, cache):
    files.write_folder(root / "a", pictures(20))
    (root / "a" / "000013.png").write_bytes(files.encoded(pictures(1)[0])[:-40])
    with pytest.raises(UserError, match="000013"):
        load("images:a")
    assert entries(cache) == []
    assert not list(cache.glob(".*.tmp"))


@pytest.mark.parametrize("blocks", [[19], [12, 9], []])
def test_images_that_appear_or_vanish_meanwhile_are_refused(root, cache, blocks):
    source = find("images:a.npz", files.write_npz(root / "a.npz", pictures(20)).parent)
    stacks = [np.zeros((n, 3, 8, 8), np.uint8) for n in blocks]
    changed = replace(source, read=lambda: source.read()._replace(blocks={"train": stacks}))
    with pytest.raises(UserError, match=f"train gave {sum(blocks)} images, and 20 were counted: the files changed"):
        entry(changed, cache)
    assert entries(cache) == []


def test_a_cache_folder_that_cannot_be_made_is_one_sentence(root, monkeypatch):
    files.write_folder(root / "a", pictures(20))
    (root / "file").write_text("")
    monkeypatch.setenv("MANYPATHS_CACHE", str(root / "file" / "cache"))
    with pytest.raises(
        UserError, match=r"cannot keep the prepared images of images:a in .*/file/cache: Not a directory"
    ):
        load("images:a")


FULL = """
import resource
from study.data.cache import entry
from study.data.images import find, load
from study.errors import UserError
resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))
try:
    load("images:a")
except UserError as error:
    raise SystemExit(str(error)) from None
"""


def test_a_cache_without_room_is_one_sentence_and_keeps_nothing(root, cache):
    # a limit on the size of files fails a write as a full disk does
    files.write_folder(root / "a", pictures(600))
    assert another(FULL) == (
        f"cannot keep the prepared images of images:a in {cache}: File too large; "
        "MANYPATHS_CACHE names another folder, with room for them\n"
    )
    assert entries(cache) == []
    assert not list(cache.glob(".*.tmp"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_cache_is_one_sentence_and_still_gives_what_it_has(root, cache):
    files.write_folder(root / "a", pictures(20))
    files.write_folder(root / "b", pictures(20))
    load("images:a")
    cache.chmod(0o500)
    try:
        again("images:a")
        with pytest.raises(UserError, match=r"cannot keep the prepared images of images:b .*Permission denied"):
            load("images:b")
    finally:
        cache.chmod(0o700)


def test_long_preparation_is_said_once_and_short_is_not(root, monkeypatch, capsys):
    files.write_folder(root / "a", pictures(600))
    load("images:a")
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(write, "PATIENCE", -1)
    load("images:a", size=4)
    assert capsys.readouterr() == ("", "preparing images:a: 600 images, once\n")

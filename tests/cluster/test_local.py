"""A local Ray, really: who may write where its workers look, and what is told of packs that it lost."""

import os
import stat
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from cluster import process
from cluster.tune import RayTune
from study import executor
from study.errors import UserError
from tests.cluster.rays import below

pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::FutureWarning"),
    pytest.mark.slow,
    pytest.mark.timeout(300),
]


def open_to_others(path, top):
    """Folders from a path up to below `top` in which others may put files."""
    folders = [folder for folder in (path, *path.parents) if folder.is_relative_to(top) and folder != top]
    return [str(folder) for folder in folders if folder.exists() and folder.stat().st_mode & (stat.S_IWOTH)]


def test_nobody_else_can_put_a_module_where_workers_look(pretended, monkeypatch):
    found, top = [], Path(tempfile.gettempdir()).resolve()
    ray = RayTune(address="local", workers=1)

    def measured(_):  # told after each pack, while Ray is up
        for entry in map(Path, pretended.ran[-1]["path"]):
            if entry.is_relative_to(top):
                found.append((str(entry), open_to_others(entry, top)))

    monkeypatch.setattr(ray, "measured", measured)
    ray.run(pretended.directory, ["a"])
    assert any(entry.endswith("/empty") for entry, _ in found)
    assert [opened for _, opened in found if opened] == []


def test_no_process_is_there_that_has_nothing_to_do(pretended, monkeypatch):
    words = {"cluster.driver": "driver", "gcs_server": "store", "raylet/raylet": "raylet", "stand_in.py": "stand-in"}
    there, ray = [], RayTune(address="local", workers=2)
    others = below(os.getpid())  # of other tests, e.g. what multiprocessing keeps

    def kind(pid):
        command = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
        return next((kind for part, kind in words.items() if part in command), command)

    def measured(_):  # told after each pack, while Ray is up
        there.append(Counter(kind(pid) for pid in below(os.getpid()) if pid not in others))

    monkeypatch.setattr(ray, "measured", measured)
    ray.run(pretended.directory, list("abcdef"))
    workers = there[-1].total() - 5
    assert there[-1].items() > {"driver": 1, "store": 1, "raylet": 1, "stand-in": 2}.items()
    assert workers in (2, 3)  # Ray starts another where the first ones are slow to say that they are there
    assert all(note["preloaded"] for note in pretended.ran)
    assert {note["parent"] for note in pretended.ran} == {pretended.ran[0]["parent"]}
    assert below(os.getpid()).keys() <= others.keys()


LATE = """
import time
fit = cluster.driver.fit
cluster.driver.fit = lambda *arguments: (time.sleep(4.0), fit(*arguments))
cluster.driver.main("""


def test_workers_that_wait_for_tune_are_not_replaced(pretended, monkeypatch):
    monkeypatch.setenv("IMPORT_SECONDS", "8")  # while they import, they do not answer
    monkeypatch.setattr(process, "CODE", process.CODE.replace("\ncluster.driver.main(", LATE))
    seen, over = set(), threading.Event()

    def look():
        while not over.wait(0.1):
            seen.update(pid for pid, name in below(os.getpid()).items() if name.startswith("ray::"))

    looking = threading.Thread(target=look)
    looking.start()
    try:
        RayTune(address="local", workers=2).run(pretended.directory, list("abcd"))
    finally:
        over.set()
        looking.join()
    assert len(seen) == 2
    assert {note["pid"] for note in pretended.ran} <= seen


def test_what_rays_memory_monitor_ends_is_told_from_what_was_killed(pretended, monkeypatch):
    monkeypatch.setenv("RAY_memory_usage_threshold", "0.001")  # as if others had taken it all
    monkeypatch.setitem(executor.TRIES, "memory", 2)
    pretended.wish(seconds=60.0)
    RayTune(address="local", workers=1).run(pretended.directory, ["a"])
    told = pretended.attempts["a"]
    assert [outcome for outcome, _ in told] == ["memory"] * 2
    assert all("killed due to the node running low on memory" in words for _, words in told)


def test_what_a_node_lacks_is_said_by_name(pretended, monkeypatch, tmp_path):
    lacking = tmp_path / "lacking"
    lacking.mkdir()
    (lacking / "sitecustomize.py").write_text("import sys\nsys.modules['study.worker'] = None\n")
    monkeypatch.setenv("PYTHONPATH", str(lacking))
    RayTune(address="local", workers=1).run(pretended.directory, ["a"])
    ((outcome, words),) = pretended.attempts["a"]
    assert outcome == "failed"
    assert words.startswith("ModuleNotFoundError: import of study.worker halted")


def test_a_folder_for_temporary_files_that_is_too_long_is_one_sentence(pretended, monkeypatch, tmp_path):
    deep = tmp_path / ("d" * 60)
    deep.mkdir()
    monkeypatch.setenv("TMPDIR", str(deep))
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    began = time.monotonic()
    with pytest.raises(
        UserError, match=r"^cannot start a local Ray: .*d{60}.* too long a name .*set TMPDIR to a folder"
    ):
        RayTune(address="local", workers=1).run(pretended.directory, ["a"])
    assert time.monotonic() - began < 60

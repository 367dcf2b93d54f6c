"""Small plans for the engine's tests, and tiny sweeps to plan and run."""

import pytest

from study.executor import InProcess
from study.native import build
from study.native.cache import cache_folders
from study.plan import expand, pack
from study.progress import live
from study.spec import parse_sweep
from study.store import RunDirectory
from study.sweep_run import run_sweep


@pytest.fixture(scope="session")
def small_pack():
    """A function giving the first pack of a sweep of one task and method."""

    def make(task="manifold-d2", method="ns+gp1", *, steps=12, evaluations=3, points=4, capacity=4, **override):
        space = {"lr": {"log_uniform": [1e-3, 1e-2]}, "beta1": {"uniform": [0.0, 0.9]}, "n_critic": 2} | override
        raw = {
            "name": "small",
            "tasks": [task],
            "methods": [method],
            "budget": {"steps": steps, "evaluations": evaluations},
            "space": {"preset": "lucic_wide", "override": space},
            "design": {"points": points},
        }
        return pack(expand(parse_sweep(raw, source="test")), capacity=capacity, device="cpu")[0]

    return make


TINY = {
    "name": "tiny",
    "tasks": ["manifold-d2"],
    "methods": ["ns"],
    "budget": {"steps": 6, "evaluations": 2},
    "space": {"override": {"lr": {"log_uniform": [1e-3, 1e-1]}}},
    "design": {"points": 2},
    "execution": {"pack": 2, "device": "cpu"},
}


@pytest.fixture(scope="session")
def tiny():
    """A function giving a tiny sweep; each argument replaces a top-level key."""

    def make(**changes):
        return parse_sweep(TINY | changes, source="tiny.toml")

    return make


@pytest.fixture(scope="session")
def run_here():
    """A function running a sweep in this process; returns what `run_sweep` does, and the remarks."""

    def run(root, sweep, table=None):
        said = []
        prepared, tally = run_sweep(
            RunDirectory(root), sweep, expand(sweep, table), InProcess(), watch=live, say=said.append
        )
        return prepared, tally, said

    return run


@pytest.fixture(scope="session")
def finished(tmp_path_factory, tiny, run_here):
    """The run directory of a finished tiny sweep, and that sweep; to be read, not changed."""
    sweep = tiny(methods=["ns", "ns+gp1"])
    root = tmp_path_factory.mktemp("finished") / "run"
    run_here(root, sweep)
    return RunDirectory(root), sweep


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    """The folder that compiled programs will be kept in; nothing is known of any compiler."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setattr("tempfile.tempdir", None)  # asked anew
    for known in (build.compiler, build.missing):
        known.cache_clear()
    yield cache_folders()[0]
    for known in (build.compiler, build.missing):
        known.cache_clear()

"""Small plans for the engine's tests, and tiny sweeps to plan and run."""

import pytest

from study.executor import InProcess
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

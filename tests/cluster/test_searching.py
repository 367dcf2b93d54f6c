"""A search through a real local Ray: the same trials and rows as in this process, whenever packs end."""

import pytest

from cluster.executors import executor_of
from cluster.tune import RayTune
from study.errors import UserError
from study.executor import InProcess
from study.progress import live
from study.search import slots
from study.spec import parse_sweep
from study.store import RunDirectory
from study.sweep_run import lost, run_sweep

pytestmark = [
    pytest.mark.slow,
    pytest.mark.faults,
    # Ray leaves sockets and files to the end of the process
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::FutureWarning"),
    pytest.mark.timeout(300),
]


@pytest.fixture(scope="module")
def sweep():
    override = {"lr": {"log_uniform": [1e-3, 1.0]}, "beta1": {"uniform": [0.0, 0.9]}, "n_critic": {"cross": [1, 2]}}
    raw = {
        "name": "searching",
        "tasks": ["manifold-d2", "dirac"],
        "methods": ["ns", "ns+gp1"],
        "budget": {"steps": 6, "evaluations": 2},
        "space": {"override": override},
        "search": {"trials": 5, "batch": 2},
        "execution": {"pack": 2, "device": "cpu"},
    }
    return parse_sweep(raw, source="a.toml")


def go(root, spec, executor):
    directory = RunDirectory(root)
    prepared, tally = run_sweep(directory, spec, slots(spec, "cpu"), executor, watch=live, say=print)
    assert (tally.done, lost(prepared)) == (40, 0)
    frame = directory.read_table("trials").to_pandas().set_index("trial_id").sort_index()
    return frame.drop(columns="train_seconds")


@pytest.mark.parametrize("pruner", ["asha", "median"])
def test_tunes_schedulers_stop_hopeless_trials_each_study_for_itself(tmp_path, pruner):
    """Rates that are far too small or large on one task; the other task's values are all larger, and not compared."""
    raw = {
        "name": "pruned",
        "tasks": ["manifold-d2", "manifold-d8"],
        "methods": ["ns"],
        "budget": {"steps": 80, "evaluations": 8},
        "space": {"override": {"lr": {"log_uniform": [1e-4, 1.0]}, "beta1": {"uniform": [0.0, 0.9]}}},
        "search": {"trials": 10, "batch": 5, "sampler": "random", "pruner": pruner},
        "execution": {"pack": 1, "device": "cpu"},
    }
    spec, directory = parse_sweep(raw, source="a.toml"), RunDirectory(tmp_path / "run")
    prepared, tally = run_sweep(
        directory, spec, slots(spec, "cpu"), RayTune(device="cpu", workers=2), watch=live, say=print
    )
    assert (tally.done, lost(prepared)) == (20, 0)
    rows = directory.read_table("trials").to_pandas()
    history = directory.read_table("history").to_pandas()
    assert set(rows["status"]) == {"completed", "stopped"}
    for _, mine in rows.groupby("task"):
        assert (mine["status"] == "completed").sum() >= 1  # none is stopped for being worse than another task's
    evaluations = history.groupby("trial_id")["evaluation"].nunique()
    stopped = rows[rows["status"] == "stopped"]
    assert stopped["primary"].isna().all()
    assert stopped["success"].isna().all()
    assert (evaluations[stopped["trial_id"]] < 8).all()
    assert (evaluations[rows.loc[rows["status"] == "completed", "trial_id"]] == 8).all()
    assert (stopped["generator_steps"].to_numpy() == 10 * evaluations[stopped["trial_id"]].to_numpy()).all()


def test_a_pruner_without_ray_is_one_sentence(sweep):
    search = {"trials": 4, "batch": 2, "pruner": "asha"}
    content = sweep.model_dump(mode="json", exclude={"design", "claims", "confirmatory", "ranges"})
    spec = parse_sweep(content | {"search": search, "execution": {"pack": 1}}, source="a.toml")
    with pytest.raises(UserError, match=r"search\.pruner = 'asha' needs Ray: leave out --in-process, or the pruner"):
        executor_of(spec, None, in_process=True)


def test_ray_and_this_process_ask_for_the_same_and_measure_the_same(sweep, tmp_path):
    here = go(tmp_path / "here", sweep, InProcess())
    there = go(tmp_path / "there", sweep, RayTune(device="cpu", workers=2))
    assert here.equals(there)
    assert here.groupby(["task", "method", "n_critic"])["point"].apply(sorted).map(tuple).unique().tolist() == [
        (0, 1, 2, 3, 4)
    ]

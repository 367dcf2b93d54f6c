import json
import math
import os
import subprocess
import sys

import pytest

from analysis.imported.ray_tune import read_experiments
from study.errors import UserError

VALUE_ERROR = "Failure # 1 (occurred at 2026-11-22_13-32-44)\nray::ImplicitFunc.train() (pid=1)\nValueError: boom\n"
DIED = "Failure # 1\nray.exceptions.ActorDiedError: The actor died unexpectedly before finishing this task.\n"


def params(**more):
    return {"lr": 0.001, "opt": {"b1": 0.5, "name": "adam"}} | more


def endings(source):
    return source.ends["status"].tolist()


def test_trials_with_their_history(experiment, said, stored):
    root = experiment(
        {
            "f_0": (params(), [3.0, 0.4], None),
            "f_1": (params(lr=0.1, flag=True, none=None, list=[1, 2]), [2.0, math.nan], None),
        }
    )
    declaration = said(metric="loss")
    results, remarks = stored(read_experiments([root], declaration), declaration)
    assert results.methods == ("experiment",)
    assert results.adaptive is None  # what the generator of random and grid variants leaves behind
    assert results.trials["status"].tolist() == ["completed", "diverged"]
    assert results.trials["primary"].tolist()[0] == 0.4
    assert results.plan["opt/b1"].tolist() == [0.5, 0.5]
    assert results.plan["opt/name"].tolist() == ["adam", "adam"]
    assert results.plan["flag"].fillna("").tolist() == ["", "true"]
    assert results.plan["list"].fillna("").tolist() == ["", "[1, 2]"]
    assert results.setting("run") == "budget 2 training_iteration, prior random 1x2 points"
    history = results.history("evaluation", "generator_steps", "primary")
    assert history["generator_steps"].tolist() == [1, 2, 1, 2]
    assert history["primary"].isna().tolist() == [False, False, False, True]
    assert remarks == ["1 trial without a finite loss counted as diverged"]


@pytest.mark.parametrize(
    ("losses", "error", "options", "expected"),
    [
        ([3.0, 2.0], VALUE_ERROR, {}, "lost"),
        ([3.0, 2.0], VALUE_ERROR, {"errors": "diverged"}, "diverged"),
        ([], VALUE_ERROR, {"errors": "diverged"}, "diverged"),
        ([3.0, math.nan], VALUE_ERROR, {}, "diverged"),
        ([3.0], VALUE_ERROR.replace("ValueError: boom", "FloatingPointError: loss"), {}, "diverged"),
        ([3.0], VALUE_ERROR.replace("boom", "loss is NaN"), {}, "diverged"),
        ([3.0], DIED, {"errors": "diverged"}, "lost"),
        ([3.0], DIED.replace("ActorDied", "NodeDied"), {"errors": "diverged"}, "lost"),
        ([3.0], DIED.replace("ActorDied", "OutOfMemory"), {"errors": "diverged"}, "lost"),
        ([3.0], "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate", {}, "oom"),
        ([3.0, 2.0, 1.0], DIED, {}, None),  # an earlier attempt died, the last one made all steps
        ([], None, {}, "lost"),
        ([3.0, 2.0], None, {}, "stopped"),
        ([3.0, 2.0], None, {"early": "completed"}, "completed"),
        ([3.0, 2.0], None, {"budget": 2}, None),
        ([3.0, math.inf], None, {}, None),  # diverged by its value, and stopped for that
    ],
)
def test_endings(experiment, said, losses, error, options, expected):
    root = experiment({"a": (params(), losses, error), "b": (params(lr=0.1), [3.0, 2.0, 1.0], None)})
    source = read_experiments([root], said(metric="loss", **options))
    assert endings(source) == [expected, None]


@pytest.mark.parametrize(
    ("state", "losses", "error", "expected"),
    [
        ("TERMINATED", [3.0, 2.0, 1.0], DIED, None),
        ("TERMINATED", [3.0, 2.0], DIED, "stopped"),
        ("ERROR", [3.0, 2.0, 1.0], VALUE_ERROR, "lost"),
        ("RUNNING", [3.0, 2.0], None, "lost"),
        ("PENDING", [], None, "lost"),
        ("RUNNING", [3.0, 2.0, 1.0], None, None),  # finished after the state was last saved
    ],
)
def test_the_saved_state_is_heard(experiment, said, state, losses, error, expected):
    root = experiment(
        {"a": (params(), losses, error), "b": (params(lr=0.1), [3.0, 2.0, 1.0], None)},
        states={"a": state, "b": "TERMINATED"},
    )
    assert endings(read_experiments([root], said(metric="loss"))) == [expected, None]


MEMORY = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB"


@pytest.mark.parametrize(
    ("sibling", "options", "expected"),
    [
        ([3.0, 2.0, 1.0], {}, None),  # as long as the one without an error
        ([3.0, 2.0, 1.0, 0.9], {}, "oom"),  # another went on
        ([3.0, 2.0, 1.0, 0.9], {"budget": 3}, None),  # but this is all there was to do
        (None, {}, "oom"),  # nothing says what the end is: its own length does not
        (None, {"budget": 3}, None),
    ],
)
def test_an_error_after_the_last_result(experiment, said, sibling, options, expected):
    trials = {"a": (params(), [3.0, 2.0, 0.4], MEMORY)}
    if sibling is not None:
        trials["b"] = (params(lr=0.1), sibling, None)
    source = read_experiments([experiment(trials)], said(metric="loss", **options))
    assert endings(source)[0] == expected
    assert [remark for remark in source.remarks if "error file" in remark] == [
        "1 trial with an error file reached the last iteration all the same: judged by the value, as the error is an "
        "earlier attempt's or came after the training"
    ] * (expected is None)


def test_a_metric_that_is_a_text_is_refused(experiment, said):
    root = experiment({"a": (params(), [3.0, "oops"], None)})
    with pytest.raises(UserError, match=r"^loss of trial a is 'oops': the metric must be a number everywhere"):
        read_experiments([root], said(metric="loss"))


def test_a_half_written_state_says_nothing(experiment, said):
    root = experiment({"a": (params(), [3.0], None)}, states={"a": "ERROR"})
    (state,) = root.glob("experiment_state-*")
    state.write_text(state.read_text()[:-9])
    assert endings(read_experiments([root], said(metric="loss"))) == [None]


def test_what_is_open_is_said(experiment, said, stored):
    root = experiment(
        {"a": (params(), [3.0], VALUE_ERROR), "b": (params(lr=1), [3.0], None), "c": (params(lr=2), [3.0, 2.0], None)}
    )
    declaration = said(metric="loss")
    results, remarks = stored(read_experiments([root], declaration), declaration)
    assert remarks[0].startswith("1 trial ended in an error that may be the machine's, or without a result")
    assert remarks[1].startswith("1 trial ended before the others and counted as stopped")
    assert results.trials["reason"].dropna().tolist() == ["ended after 1 of 2 iterations"]


def test_of_a_repeated_iteration_the_last_counts(experiment, said):
    root = experiment({"a": (params(), [3.0, 2.0], None)})
    file = root / "a" / "result.json"
    row = {"loss": 1.5, "training_iteration": 2}
    file.write_text(file.read_text() + json.dumps(row) + "\n" + '{"loss": 0.1, "training_it')
    source = read_experiments([root], said(metric="loss"))
    assert source.ends["value"].tolist() == [1.5]
    assert source.history["value"].tolist() == [3.0, 1.5]


def test_progress_stands_in_for_results(experiment, said):
    root = experiment({"a": (params(), [], None)})
    (root / "a" / "progress.csv").write_text("loss,training_iteration\n3.0,1\nnan,2\n,3\n")
    source = read_experiments([root], said(metric="loss"))
    assert source.history["value"].tolist()[0] == 3.0
    assert math.isnan(source.ends["value"][0])
    assert source.ends["steps"][0] == 2


def test_the_tail(experiment, said):
    losses = [9.0] * 10 + [5.0, 1.0, 4.0, 2.0, 3.0]
    root = experiment({"a": (params(), losses, None), "b": (params(lr=1), [7.0, 8.0, 9.0, 1.0], None)})
    source = read_experiments([root], said(metric="loss", value="tail", early="completed"))
    assert source.ends["value"].tolist() == [3.0, 1.0]  # the median of the last five of fifteen; four have no tail


def test_several_experiments_are_methods(experiment, said, stored):
    roots = [experiment({"a": (params(), [0.3], None)}, name=name) for name in ("adam", "sgd")]
    declaration = said(metric="loss")
    results, _ = stored(read_experiments(roots, declaration), declaration)
    assert results.methods == ("adam", "sgd")
    assert results.plan["config"].nunique() == 1


@pytest.mark.parametrize(
    ("marks", "sampler"),
    [
        (("basic-variant-state-x.json",), "random"),
        (("searcher-state-x.pkl", "search_gen_state-x.json"), "searcher"),
        (("basic-variant-state-x.json", "pbt_policy_0.txt"), "pbt"),
        ((), None),
    ],
)
def test_searchers_are_known_by_their_files(experiment, said, stored, marks, sampler):
    root = experiment({"a": (params(), [0.3], None)}, marks=marks)
    source = read_experiments([root], said(metric="loss"))
    assert source.sampler == sampler
    declaration = said(metric="loss", sampler="random")
    if sampler == "pbt":
        with pytest.raises(UserError, match="the trials carry the marks of pbt"):
            stored(source, declaration)
    else:
        assert stored(source, declaration)[0].adaptive is None  # a searcher may draw at random, as its user knows


def test_directories_that_cannot_be(tmp_path, experiment, said):
    with pytest.raises(UserError, match="none is not a directory"):
        read_experiments([tmp_path / "none"], said(metric="loss"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"empty is no Ray Tune experiment: no folder in it has a params\.json"):
        read_experiments([tmp_path / "empty"], said(metric="loss"))
    root = experiment({"a": (params(), [3.0], None)})
    with pytest.raises(UserError, match=r"no metric: give --metric NAME, one of loss$"):
        read_experiments([root], said())
    with pytest.raises(UserError, match="unknown metric 'fid': choose from loss"):
        read_experiments([root], said(metric="fid"))
    (root / "a" / "params.json").write_text("{")
    with pytest.raises(UserError, match=r"params\.json is not JSON"):
        read_experiments([root], said(metric="loss"))


def test_nothing_is_unpickled(experiment, said, monkeypatch):
    import pickle

    def never(*_, **__):
        raise AssertionError("unpickled")

    monkeypatch.setattr(pickle, "load", never)
    monkeypatch.setattr(pickle, "loads", never)
    root = experiment({"a": (params(), [3.0], VALUE_ERROR), "b": (params(), [3.0], None)}, states={"a": "ERROR"})
    assert len(read_experiments([root], said(metric="loss")).cells) == 2
    assert not [name for name in sys.modules if name.partition(".")[0] == "cloudpickle" and "read" in name]


REAL = """
import sys
import ray
from ray import tune

def train(config):
    for i in range(8):
        if config["k"] == 2 and i == 3:
            raise ValueError("boom")
        tune.report({"loss": float("nan") if config["k"] == 1 and i > 3 else config["lr"] / (i + 1)})

ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
space = {"lr": tune.loguniform(1e-3, 1e-1), "k": tune.grid_search([0, 1, 2, 3])}
tuner = tune.Tuner(
    train,
    param_space=space,
    tune_config=tune.TuneConfig(max_concurrent_trials=2),
    run_config=tune.RunConfig(name="real", storage_path=sys.argv[1]),
)
tuner.fit()
"""


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_what_ray_itself_writes(tmp_path, said, stored):
    quiet = os.environ | {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    subprocess.run(
        [sys.executable, "-c", REAL, str(tmp_path)], env=quiet, check=True, cwd=tmp_path, capture_output=True
    )
    declaration = said(metric="loss", errors="diverged")
    results, _ = stored(read_experiments([tmp_path / "real"], declaration), declaration)
    by_k = results.outcomes("run").set_index("k")["status"].to_dict()
    assert by_k == {0: "completed", 1: "diverged", 2: "diverged", 3: "completed"}
    assert results.adaptive is None
    assert len(results.history("primary")) == 8 + 8 + 3 + 8

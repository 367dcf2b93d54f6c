import math
import re

import numpy as np
import pandas as pd
import pytest

from analysis.imported.table import read_table
from analysis.pairing import pair
from analysis.summary import summary
from study.errors import UserError


@pytest.fixture
def table(tmp_path):
    def make(name="t.csv", **columns):
        path = tmp_path / name
        frame = pd.DataFrame(columns)
        if path.suffix == ".parquet":
            frame.to_parquet(path)
        else:
            frame.to_csv(path, index=False, sep="\t" if path.suffix == ".tsv" else ",")
        return path

    return make


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.parquet"])
def test_a_table_in_any_form(table, said, stored, name):
    path = table(name, lr=[1e-4, 1e-3, 1e-2], loss=[0.2, 0.7, 5.0], nesterov=[True, False, True], layers=[1, 2, 2])
    declaration = said(metric="loss", params=["lr", "nesterov", "layers"], sampler="random", prior="mine")
    results, remarks = stored(read_table(path, declaration), declaration)
    assert remarks == []
    assert (results.tasks, results.methods, results.prior) == (("run",), ("run",), "mine")
    assert results.adaptive is None
    assert results.trials["primary"].tolist() == [0.2, 0.7, 5.0]
    assert results.trials["success"].tolist() == [True, False, False]
    assert results.plan["lr_g"].tolist() == [1e-4, 1e-3, 1e-2]
    assert results.plan["nesterov"].tolist() == ["true", "false", "true"]
    assert results.plan["layers"].tolist() == [1, 2, 2]
    assert results.facts("run").anchor_high == 3.0


def test_what_is_no_number_diverged_and_is_said(table, said, stored):
    path = table(lr=[1, 2, 3, 4], loss=[0.2, math.nan, math.inf, -math.inf])
    declaration = said(metric="loss", params=["lr"], sampler="grid")
    results, remarks = stored(read_table(path, declaration), declaration)
    assert results.trials["status"].tolist() == ["completed", "diverged", "diverged", "diverged"]
    assert results.trials["reason"].tolist()[1:] == ["loss is not finite"] * 3
    assert remarks == ["3 trials without a finite loss counted as diverged"]
    # one of four succeeded, and all four count
    assert summary(results)["success"].tolist() == [0.25]


def test_a_column_of_endings(table, said, stored):
    words = ["finished", "crashed", "oom", "pruned", "preempted", "running", None]
    path = table(lr=range(7), loss=[0.2, 0.3, 0.2, 0.1, math.nan, math.nan, 0.4], state=words)
    declaration = said(
        metric="loss",
        params=["lr"],
        status="state",
        means={"crashed": "diverged", "preempted": "lost"},
        sampler="random",
    )
    results, _ = stored(read_table(path, declaration), declaration)
    assert results.trials["status"].tolist() == ["completed", "diverged", "oom", "stopped", "completed"]
    assert results.trials["primary"].isna().tolist() == [False, True, True, True, False]
    assert results.trials["success"].tolist() == [True, False, False, None, True]
    assert len(results.plan) == 7  # what is lost or still runs is planned, without a row


def test_finished_without_a_number_still_diverged(table, said, stored):
    path = table(lr=[1, 2], loss=[0.2, math.nan], status=["finished", "finished"])
    declaration = said(metric="loss", params=["lr"], sampler="random")
    results, remarks = stored(read_table(path, declaration), declaration)
    assert results.trials["status"].tolist() == ["completed", "diverged"]
    assert remarks == ["1 trial without a finite loss counted as diverged"]


def test_methods_pair_on_equal_hyperparameters(table, said, stored):
    path = table(
        lr=[0.1, 0.2, 0.2, 0.1],
        weight=[math.nan, math.nan, 3.0, 7.0],
        loss=[0.2, 0.9, 0.3, 0.4],
        arm=["plain", "plain", "gp", "gp"],
    )
    declaration = said(metric="loss", params=["lr", "weight"], method="arm", task="=toy", sampler="random")
    results, _ = stored(read_table(path, declaration), declaration)
    pairs = pair(results.outcomes("toy"), "plain", "gp")
    found = sorted(zip(pairs.first.values, pairs.second.values, strict=True))
    assert found == [(0.2, 0.4), (0.9, 0.3)]  # by lr, which both have; the weight is only one's
    assert pairs.unpaired == 0


def test_a_repeated_configuration_is_another_seed(table, said, stored):
    path = table(lr=[0.1, 0.2, 0.1, 0.1], loss=[0.2, 0.3, 0.4, 0.5])
    declaration = said(metric="loss", params=["lr"], sampler="random")
    results, _ = stored(read_table(path, declaration), declaration)
    assert results.plan["seed"].tolist() == [0, 0, 1, 2]
    assert results.plan["point"].tolist() == [0, 1, 0, 0]
    assert results.plan["trial_id"].is_unique


def test_seeds_and_configurations_may_be_columns(table, said, stored):
    path = table(name="t.parquet", lr=[0.1, 0.1], loss=[0.2, 0.3], seed=[42, 7], id=["a", "b"])
    declaration = said(metric="loss", params=["lr"], config="id", sampler="random")
    results, _ = stored(read_table(path, declaration), declaration)
    assert results.plan["seed"].tolist() == [1, 0]
    assert results.plan["config"].tolist() == ["a", "b"]
    assert "seed" not in results.domains


def test_the_same_trial_twice_is_refused(table, said, stored):
    path = table(lr=[0.1, 0.2, 0.1], loss=[0.2, 0.3, 0.4], seed=[0, 0, 0])
    declaration = said(metric="loss", params=["lr"], sampler="random")
    with pytest.raises(
        UserError, match=r"2 trials with the task, method, configuration and seed .* trial 1 \(seed 0\)"
    ):
        stored(read_table(path, declaration), declaration)


def test_ids_do_not_depend_on_the_order_of_rows(table, said, stored):
    frame = {"lr": [0.1, 0.2, 0.3], "loss": [0.2, 0.3, 0.4]}
    declaration = said(metric="loss", params=["lr"], sampler="random")
    first, _ = stored(read_table(table(**frame), declaration), declaration)
    second, _ = stored(read_table(table(**{k: v[::-1] for k, v in frame.items()}), declaration), declaration)
    assert set(first.plan["trial_id"]) == set(second.plan["trial_id"])


# Higher is better


def test_a_maximised_metric_is_a_distance_from_the_ideal(table, said, stored):
    path = table(lr=[1, 2, 3], accuracy=[0.95, 0.6, 1.0])
    declaration = said(
        metric="accuracy", params=["lr"], maximise=True, ideal=1.0, threshold=0.9, anchors=[0.99, 0.1], sampler="random"
    )
    results, _ = stored(read_table(path, declaration), declaration)
    facts = results.facts("run")
    assert facts.metric == "1 - accuracy"
    assert (facts.threshold, facts.anchor_low, facts.anchor_high) == pytest.approx((0.1, 0.01, 0.9))
    assert results.trials["primary"].tolist() == pytest.approx([0.05, 0.4, 0.0])
    assert results.trials["success"].tolist() == [True, False, True]


def test_a_minimised_metric_below_zero_has_an_ideal(table, said, stored):
    path = table(lr=[1, 2], loss=[-9.0, -5.0])
    declaration = said(metric="loss", params=["lr"], ideal=-10, threshold=-8, anchors=[-9.5, 0], sampler="random")
    results, _ = stored(read_table(path, declaration), declaration)
    assert results.facts("run").metric == "loss + 10"
    assert results.trials["primary"].tolist() == [1.0, 5.0]
    assert results.trials["success"].tolist() == [True, False]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"maximise": True}, "accuracy is maximised: give --ideal VALUE, which nothing can exceed"),
        ({"maximise": True, "ideal": 0.9, "threshold": 0.5, "anchors": [0.8, 0.1]}, "ideal = 0.9: a trial has 0.95"),
        ({"maximise": True, "ideal": 1}, r"anchors = \[0.1, 3.0\] of task 'run': the first has to be the better one"),
        ({"anchors": [3, 0.1]}, r"anchors = \[3.0, 0.1\] of task 'run': the first has to be the better one"),
        ({"anchors": [0, 1]}, "neither the ideal nor beyond it"),
        ({"threshold": None}, "task 'run' has no --threshold X: say what counts"),
        ({"anchors": None}, "task 'run' has no --anchors GOOD BAD"),
    ],
)
def test_facts_that_cannot_be(table, said, stored, options, words):
    path = table(lr=[1, 2], accuracy=[0.95, 0.6])
    declaration = said(metric="accuracy", params=["lr"], sampler="random", **options)
    with pytest.raises(UserError, match=words):
        stored(read_table(path, declaration), declaration)


# What is refused


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "no metric: give --metric COLUMN, one of lr, loss, data"),
        ({"metric": "los"}, "unknown column of .* in metric: 'los': choose from loss"),
        ({"metric": "loss"}, "no hyperparameters: give --param COLUMN, once for each that is one of lr, data"),
        ({"metric": "loss", "params": ["rate"]}, "unknown column of .* in param: 'rate'"),
        ({"metric": "loss", "params": ["lr"], "method": "arm"}, "unknown column of .* in method: 'arm'"),
        ({"metric": "loss", "params": ["lr"], "seed": "s"}, "unknown column of .* in seed: 's'"),
        ({"metric": "loss", "params": ["lr"], "method": "data"}, "method column 'data' is empty in trial 2"),
        ({"metric": "loss", "map": {"status": "lr"}}, "hyperparameter 'lr' has the name of something else here"),
        ({"metric": "loss", "map": {"lr_g": "lr", "lr": "loss"}}, "two hyperparameters are called 'lr_g'"),
        ({"metric": "loss", "map": {"n_critic": "lr"}}, "n_critic = 0.5: this hyperparameter is a whole number here"),
        ({"metric": "loss", "map": {"beta1": "data"}}, "beta1 = 'x': this hyperparameter is a number here"),
        (
            {"metric": "loss", "params": ["lr"], "status": "data"},
            "unknown status 'x': known are completed, .*--means x=",
        ),
    ],
)
def test_columns_that_cannot_be(table, said, stored, options, words):
    path = table(lr=[0.5, 1.0], loss=[0.2, 0.3], data=["x", None])
    declaration = said(sampler="random", **options)
    with pytest.raises(UserError, match=words):
        stored(read_table(path, declaration), declaration)


def test_files_that_cannot_be(tmp_path, said):
    declaration = said(metric="loss", params=["lr"])
    with pytest.raises(UserError, match=r"cannot read the table .*none.csv: No such file"):
        read_table(tmp_path / "none.csv", declaration)


@pytest.mark.parametrize("value", ["oops", "1,5", "-", True])
def test_a_text_is_no_metric(tmp_path, said, value):
    pd.DataFrame({"lr": [1, 2, 3], "loss": [0.2, None, value]}).to_csv(tmp_path / "t.csv", index=False)
    words = (
        rf"^loss in row 3 is '?{value}'?: the metric must be a number everywhere; empty, nan and inf count as diverged$"
    )
    with pytest.raises(UserError, match=words):
        read_table(tmp_path / "t.csv", said(metric="loss", params=["lr"]))


def test_numbers_written_as_texts_are_numbers(table, said):
    path = table("t.parquet", lr=[1, 2, 3, 4, 5], loss=["0.2", " 1e-3 ", "NaN", "", "-inf"])
    values = read_table(path, said(metric="loss", params=["lr"])).ends["value"].tolist()
    assert values[:2] == [0.2, 1e-3]
    assert [math.isnan(value) for value in values[2:]] == [True, True, False]
    assert values[4] == -math.inf


def test_an_empty_hyperparameter_is_said(table, said, stored):
    path = table(
        lr=[0.1, math.nan, math.nan, 0.2, math.nan],
        decay=[1.0, 2.0, math.nan, math.nan, math.nan],
        loss=[0.2, 0.3, 0.4, 0.5, 0.6],
        method=["a", "a", "a", "b", "b"],
    )
    declaration = said(metric="loss", params=["lr", "decay"], sampler="random")
    results, remarks = stored(read_table(path, declaration), declaration)
    assert len(results.trials) == 5
    words = [remark.partition(": ")[0] for remark in remarks]
    # b has no decay at all, which is no gap
    assert words[0] == "3 trials without a value of lr counted like any other"
    assert words[1] == "1 trial without a value of decay counted like any other"
    # 0.1, 0.2 and none: configurations are matched by lr, which both have
    assert results.plan["config"].nunique() == 3
    columns = {"rate": [0.1, math.nan], "loss": [0.2, 0.3]}
    declaration = said(metric="loss", map={"lr": "rate"}, sampler="random")
    _, (remark,) = stored(read_table(table(**columns), declaration), declaration, "renamed")
    assert remark.startswith("1 trial without a value of rate counted")


def test_copies_are_said(table, said, stored):
    columns = {"lr": [0.1, 0.1, 0.2, 0.1, 0.1], "loss": [0.2, 0.2, math.nan, 0.2, 0.3], "note": ["x"] * 5}
    declaration = said(metric="loss", params=["lr"], sampler="random")
    results, remarks = stored(read_table(table(**columns), declaration), declaration)
    assert len(results.trials) == 5
    assert remarks[0].startswith("2 rows equal an earlier one in every column and counted as another seed")
    columns["note"] = list("vwxyz")
    _, remarks = stored(read_table(table("u.csv", **columns), declaration), declaration, "other")
    assert remarks == ["1 trial without a finite loss counted as diverged"]


def test_an_infinite_hyperparameter_is_refused(table, said, stored):
    declaration = said(metric="loss", params=["clip"], sampler="random")
    path = table(clip=[1.0, math.inf], loss=[0.2, 0.3])
    with pytest.raises(UserError, match="clip = inf: a hyperparameter must be finite"):
        stored(read_table(path, declaration), declaration)


@pytest.mark.parametrize("name", ["a\nb", "a\tb", "\x1b[31ma", "a\u2028b", " "])
@pytest.mark.parametrize("kind", ["method", "task"])
def test_names_stand_on_one_line(table, said, stored, kind, name):
    path = table("t.parquet", lr=[1, 2], loss=[0.2, 0.3], arm=["fine", name])
    for label in ("arm", f"={name}"):
        declaration = said(metric="loss", params=["lr"], **{kind: label})
        with pytest.raises(UserError, match=f"^{kind} {re.escape(repr(name))}: must be a name on one line"):
            stored(read_table(path, declaration), declaration)


def test_without_a_sampler_nothing_is_claimed(table, said, stored):
    declaration = said(metric="loss", params=["lr"])
    results, remarks = stored(read_table(table(lr=[1, 2], loss=[0.2, 0.3]), declaration), declaration)
    assert results.adaptive == "unknown"
    assert remarks[0].startswith("nothing is known of the sampler: no fraction of a prior can be claimed")


def test_methods_that_share_nothing_are_told(table, said, stored):
    path = table(lr=[1, 2, 3, 4], loss=[0.2, 0.3, 0.4, 0.5], method=["a", "a", "b", "b"])
    declaration = said(metric="loss", params=["lr"], sampler="random")
    _, remarks = stored(read_table(path, declaration), declaration)
    assert remarks == ["no two methods share a configuration: they cannot be compared in pairs"]


def test_many_trials_are_read_quickly(table, said, stored):
    rng = np.random.default_rng(0)
    path = table("t.parquet", lr=rng.random(20_000), beta=rng.random(20_000), loss=rng.random(20_000))
    declaration = said(metric="loss", params=["lr", "beta"], sampler="random")
    results, _ = stored(read_table(path, declaration), declaration)
    assert len(results.trials) == 20_000

import dataclasses

import numpy as np
import pandas as pd
import pytest

from analysis import maps, tunability
from analysis.collection import Runs
from analysis.planes import SEED
from study.errors import UserError

TASKS = ("ring8", "digits")


@pytest.fixture(scope="module")
def results(build):
    whole = build(tasks=TASKS, points=16)
    share = (whole.plan["point"] * 0.618) % 1.0
    rate = 10 ** (3 * share - 4)
    return dataclasses.replace(whole, plan=whole.plan.assign(lr_g=rate, lr_d=rate, beta1=(7 * share) % 1.0))


@pytest.fixture(scope="module")
def runs(results):
    return Runs({"only": results})


def test_a_map_is_the_statistic_of_each_method(runs, results):
    answer = runs.map("lr", "beta1", "ns", "wgan+gp1", task="ring8")
    expected = [maps.success_map(results, "ring8", name, "lr", "beta1") for name in ("ns", "wgan+gp1")]
    pd.testing.assert_frame_equal(answer.frame(), pd.concat(expected, ignore_index=True))
    assert answer.setting.startswith("On ring8: budget")


def test_failures_can_be_mapped_too(runs, results):
    found = runs.map("lr", "beta1", task="digits", event="failure").frame()
    outcomes = results.outcomes("digits")
    failed = outcomes["status"].isin(["diverged", "oom"]).groupby(outcomes["method"]).sum()
    assert found.groupby("method")["count"].sum().to_dict() == pytest.approx(failed.to_dict())


def test_a_map_is_drawn_with_a_number_in_each_cell_that_has_one(runs):
    answer = runs.map("lr", "beta1", "ns", "ns+gp1", task="ring8")
    axes = answer.plot()
    known = int((answer.frame()["points"] > 0).sum())
    assert len([text for text in axes.texts if text.get_text()]) == known + 2  # and both names
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("lr", "beta1")
    assert len(axes.collections) == 2


def test_tunability_is_the_statistic_of_each_method(runs, results):
    found = runs.tunability().frame()
    assert list(found["method"].unique()) == list(results.methods)
    for name in results.methods:
        expected = tunability.transfer(results, name, rng=np.random.default_rng(SEED))
        here = found.loc[found["method"] == name, expected.columns].reset_index(drop=True)
        pd.testing.assert_frame_equal(here, expected)
    assert runs.tunability("ns").plot().get_xlabel().startswith("expected best score lost")


def test_one_task_has_nothing_to_tune_for(build):
    answer = Runs({"only": build()}).tunability()
    assert answer.frame().empty
    assert answer.plot().texts[0].get_text() == "nothing to show"


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (
            lambda runs: runs.map("lr", "beta1", task="ring8", event="joy"),
            "unknown event 'joy': choose from failure, success",
        ),
        (lambda runs: runs.map("lr", "lr", task="ring8"), "a map has two different sides"),
        (lambda runs: runs.map("lr", "wd", task="ring8"), "unknown hyperparameter that varies"),
        (lambda runs: runs.tunability("n"), "unknown method 'n'"),
    ],
)
def test_what_is_not_there_is_refused(runs, ask, words):
    with pytest.raises(UserError, match=words):
        ask(runs)

import dataclasses

import numpy as np
import pandas as pd
import pytest

from analysis import intervals
from analysis.summary import COLUMNS, ESTIMATES, failure_rate, summary

INF = np.inf
FACTS = {"threshold": 2.0, "anchor_low": 1.0, "anchor_high": 100.0}


def test_a_row_by_hand(ended):
    endings = [1.0, 2.0, 10.0, 100.0, INF, "oom", "stopped", None, None, 10.0]
    row = summary(ended({"a": endings}, facts=FACTS, replicates=1, points=10)).iloc[0]
    counts = ["planned", "completed", "diverged", "oom", "stopped", "missing", "points"]
    assert row[counts].tolist() == [10, 5, 1, 1, 1, 2, 7]
    assert row["success"] == pytest.approx(2 / 7)
    assert (row["success_low"], row["success_high"]) == pytest.approx(intervals.wilson(2, 7))
    assert (row["success_worst"], row["success_best"]) == pytest.approx((2 / 10, 5 / 10))
    assert row["log_auc"] == pytest.approx((1 + (1 - np.log(2) / np.log(100)) + 0.5 + 0 + 0 + 0 + 0.5) / 7)
    assert row["failure_rate"] == pytest.approx(2 / 7)
    assert row["failure_rate_method"] == "Wilson, 7 points"
    assert row["median"] == 10.0  # 1, 2, 10, 10, 100, failed, failed


def test_failures_are_split_by_cause(ended):
    outcomes = ended({"a": [1.0, INF, INF, "oom"]}, replicates=1, points=4).outcomes("manifold-d2")
    assert failure_rate(outcomes, ("diverged",)).value == 0.5
    assert failure_rate(outcomes, ("oom",)).value == 0.25
    assert (failure_rate(outcomes, ("oom",)).low, failure_rate(outcomes, ("oom",)).high) == pytest.approx(
        intervals.wilson(1, 4)
    )


def test_failure_rates_carry_wilson_whatever_the_design(build):
    table = summary(build(replicates=8))
    assert set(table["failure_rate_method"]) == {"Wilson, 32 points"}
    assert set(table["log_auc_method"]) == {"t over 8 replicates"}


def test_the_median_of_mostly_failures_is_a_failure(ended):
    assert summary(ended({"a": [1.0, INF, INF]}, replicates=1, points=3))["median"].iloc[0] == INF


def test_one_row_per_task_and_method_in_plan_order(build):
    table = summary(build(tasks=("y", "x")))
    assert list(zip(table["task"], table["method"], strict=True)) == [
        (task, method) for task in ("y", "x") for method in ("ns+gp1", "wgan+gp1", "ns")
    ]
    assert list(table.columns) == list(COLUMNS)


def test_the_endings_add_up_to_the_plan(build):
    table = summary(build(keep=40))
    endings = table[["completed", "diverged", "oom", "stopped", "missing"]].sum(axis=1)
    pd.testing.assert_series_equal(endings, table["planned"], check_names=False)
    assert endings.sum() == 96


@pytest.mark.parametrize("columns", [None, ["trial_id", "status", "primary"]])
def test_no_trials_yet(build, columns):
    results = build(keep=0)
    if columns:
        results = dataclasses.replace(results, trials=pd.DataFrame(columns=columns))
    table = summary(results)
    assert (table["missing"] == table["planned"]).all()
    assert table[["success", "success_low", "log_auc", "log_auc_high", "failure_rate", "median"]].isna().all(axis=None)
    assert (table["success_worst"] == 0).all()
    assert (table["success_best"] == 1).all()


def test_nothing_planned(build):
    results = build()
    empty = dataclasses.replace(results, plan=results.plan.iloc[:0], trials=results.trials.iloc[:0], confirmatory=())
    assert summary(empty).empty


@pytest.mark.parametrize(("status", "primary", "success"), [("completed", 0.01, 1.0), ("diverged", np.nan, 0.0)])
def test_all_alike(build, replaced, status, primary, success):
    table = summary(replaced(build(), status, primary))
    assert (table["success"] == success).all()
    assert (table["log_auc"] == success).all()
    assert (table["success_high"] - table["success_low"] > 0.01).all()
    assert (table["log_auc_high"] - table["log_auc_low"] > 0.01).all()
    assert (table["failure_rate"] == 1 - success).all()


def test_a_single_point(build):
    table = summary(build(replicates=1, points=1))
    assert (table["success_method"] == "Wilson, 1 point").all()
    assert (table["log_auc_method"] == "Wilson, 1 point").all()


def test_the_median_has_the_interval_of_its_order_statistics(ended):
    # of 64 values, the ranks 24 and 41 hold the median with 95 % (David and Nagaraja 2003)
    table = summary(ended({"a": [float(i) for i in range(1, 65)]}, facts=FACTS, replicates=1, points=64))
    assert table[["median", "median_low", "median_high"]].iloc[0].tolist() == [32.0, 24.0, 41.0]
    assert table["median_method"].iloc[0] == "order statistics, 64 points"


def test_an_adaptive_sweep_has_numbers_without_intervals(build):
    results = build(keep=80)
    table = summary(dataclasses.replace(results, plan=results.plan.assign(sampler="tpe")))
    plain = summary(results)
    for name in ESTIMATES:
        pd.testing.assert_series_equal(table[name], plain[name])
        assert table[[f"{name}_low", f"{name}_high"]].isna().all(axis=None)
        assert set(table[f"{name}_method"]) == {"no interval: configurations chosen by tpe"}
    pd.testing.assert_series_equal(table["success_best"], plain["success_best"])

import dataclasses

import numpy as np
import pandas as pd
import pytest

from analysis import frames
from analysis.columns import VIEWS
from analysis.query import query
from analysis.runs import load_results
from tests.analysis.stored import ENDINGS, RAW, end, finished, plan


@pytest.fixture
def results(tmp_path):
    return load_results(finished(tmp_path / "run", ENDINGS))


@pytest.fixture
def trials(results):
    return frames.trials({"run": results})


def test_every_planned_trial_has_a_row_whatever_became_of_it(trials):
    # as the file of the sweep says: four of each method; one of ns has no row
    assert trials.groupby("method").size().to_dict() == {"ns": 4, "ns+gp1": 4}
    found = trials[trials["method"] == "ns"].sort_values("outcome")
    assert found["status"].tolist()[:3] == ["completed", "completed", "diverged"]
    assert found["status"].isna().tolist() == [False, False, False, True]
    assert found["outcome"].tolist()[:3] == [0.1, 3.0, np.inf]
    assert found["primary"].isna().tolist() == [False, False, True, True]


def test_success_of_a_failure_is_false_and_of_an_undecided_trial_missing(trials):
    found = trials.groupby(["method", "status"], dropna=False)["success"].apply(list)
    assert found["ns", "diverged"] == found["ns+gp1", "oom"] == [False]
    assert found["ns+gp1", "stopped"] == [pd.NA]
    # of 0.1, 3.0 and diverged one succeeds; of 0.1, 0.2 and oom two: what is undecided is in neither
    assert trials.groupby("method")["success"].mean().tolist() == pytest.approx([1 / 3, 2 / 3])


def test_a_count_by_status_shows_every_status_in_the_order_of_the_schema(trials):
    counts = trials["status"].value_counts(sort=False, dropna=False)
    assert counts.tolist() == [4, 1, 1, 1, 1]
    assert [str(name) for name in counts.index] == ["completed", "diverged", "oom", "stopped", "nan"]


def test_columns_have_the_types_that_are_promised_even_where_nothing_ended(trials, tmp_path):
    empty = frames.trials({"run": load_results(plan(tmp_path / "empty")[0])})
    fixed = {column.name: frames.TYPES[column.type] for column in VIEWS["planned"]} | dict.fromkeys(
        frames.ORDERED, "category"
    )
    for frame in (trials, empty):
        assert {name: str(frame[name].dtype) for name in fixed} == fixed
    assert empty["status"].isna().all()
    assert empty["success"].isna().all()


def test_methods_and_runs_sort_in_the_order_of_the_plan_not_of_the_alphabet(tmp_path):
    directory = finished(tmp_path / "z", {}, methods=["wgan+gp1", "ns"], confirmatory=[])
    found = frames.trials({"z": load_results(directory), "a": load_results(directory)})
    order = list(dict.fromkeys(load_results(directory).plan["method"]))
    assert list(found["method"].cat.categories) == order
    assert list(found.groupby("run").size().index) == ["z", "a"]


def test_a_trial_of_two_runs_is_there_once_for_each(results):
    found = frames.trials({"a": results, "b": results})
    assert (len(found), found["trial_id"].nunique()) == (16, 8)
    assert not found.duplicated(["run", "trial_id"]).any()


def test_what_the_files_of_an_older_version_lack_is_missing_and_typed(tmp_path):
    directory, rows = plan(tmp_path / "run")
    for method in rows:
        end(directory, rows[method], [0.1] * 4)
    for table in ("plan", "trials", "history"):
        for part in directory.parts(table):
            lacking = ("network", "depth_g", "updates", "samples_seen")
            found = directory.read_part(table, part)
            kept = [name for name in found.column_names if name not in lacking]
            directory.write_part(table, part, found.select(kept))
    results = load_results(directory)
    trials, history = frames.trials({"run": results}), frames.history({"run": results})
    assert trials[["network", "depth_g", "updates"]].isna().all(axis=None)
    assert str(trials["depth_g"].dtype) == "Int32"
    assert history["samples_seen"].isna().all()


def test_runs_with_other_metrics_are_joined_with_missing_ones(tmp_path):
    first = finished(tmp_path / "a", ENDINGS)
    second, rows = plan(tmp_path / "b", name="other")
    end(second, rows["ns"], [0.1] * 4, metrics=("w2sq", "coverage"))
    found = frames.trials({"a": load_results(first), "b": load_results(second)})
    assert found.groupby("run")["coverage"].count().to_dict() == {"a": 0, "b": 4}
    assert set(found["sweep"]) == {RAW["name"], "other"}


def test_the_frame_and_the_view_planned_hold_the_same(tmp_path):
    directory = finished(tmp_path / "run", ENDINGS)
    frame = frames.trials({"run": load_results(directory)}).drop(columns="run")
    view = query(directory, "select * from planned").to_pandas()
    assert set(frame.columns) == set(view.columns)
    for name in ("trial_id", "status", "outcome", "success", "lr_g", "w2sq"):
        both = [table.set_index("trial_id", drop=False)[name].sort_index().astype(object) for table in (frame, view)]
        assert both[0].where(both[0].notna(), None).tolist() == both[1].where(both[1].notna(), None).tolist(), name


def test_history_is_one_row_per_trial_and_evaluation(results):
    found = frames.history({"run": results})
    assert len(found) == 7 * 2
    assert {tuple(sorted(rows)) for _, rows in found.groupby("trial_id")["evaluation"]} == {(0, 1)}


def test_a_run_without_history_gives_a_frame_without_rows(results):
    bare = dataclasses.replace(results, read_history=None)
    found = frames.history({"run": bare})
    assert len(found) == 0
    assert {"run", "trial_id", "evaluation", "primary"} <= set(found.columns)


def test_every_column_is_explained(results, trials):
    table = frames.columns({"run": results})
    assert (table["meaning"].str.len() > 5).all()
    for name, frame in (("trials", trials), ("history", frames.history({"run": results}))):
        rows = table[table["table"] == name]
        types = {column: str(kind) for column, kind in frame.dtypes.items()}
        assert dict(zip(rows["column"], rows["type"], strict=True)) == types
        assert "the primary metric of manifold-d2" in rows.set_index("column").loc["w2sq", "meaning"]


def test_explaining_columns_reads_no_history(results):
    def read(_):
        raise AssertionError

    assert len(frames.columns({"run": dataclasses.replace(results, read_history=read)})) > 60

from pathlib import Path

import pyarrow as pa
import pytest

from analysis.load import load, load_sweep
from study import schema
from study.errors import UserError
from study.executor import InProcess
from study.plan import expand
from study.progress import live
from study.spec import parse_sweep
from study.store import RunDirectory
from study.sweep_run import prepare, run_sweep


@pytest.fixture(scope="module")
def sweep():
    raw = {
        "name": "tiny",
        "notice": "a first look",
        "tasks": ["manifold-d2"],
        "methods": ["ns", "ns+gp1"],
        "confirmatory": [["ns", "ns+gp1"]],
        "budget": {"steps": 6, "evaluations": 2},
        "space": {"preset": "lucic_wide", "override": {"n_critic": 1}},
        "design": {"points": 2},
        "execution": {"pack": 2, "device": "cpu"},
    }
    return parse_sweep(raw, source="tiny.toml")


@pytest.fixture
def run(tmp_path, sweep):
    directory = RunDirectory(tmp_path / "run")
    run_sweep(directory, sweep, expand(sweep), InProcess(), watch=live, say=str)
    return directory


def test_a_run_is_loaded_as_it_was_declared_and_measured(run, sweep):
    results = load(run)
    assert (results.name, results.notice) == ("tiny", "a first look")
    assert results.prior == "lucic_wide with its own n_critic"
    assert results.confirmatory == (("ns", "ns+gp1"),)
    assert sorted(results.trials["trial_id"]) == sorted(trial.trial_id for trial in expand(sweep))
    assert list(results.plan["trial_id"]) == list(run.read_table("plan")["trial_id"].to_pylist())
    assert list(results.plan.columns) == [column.name for column in schema.PLAN]
    assert results.facts("manifold-d2").threshold == 0.2


def test_the_sweep_of_a_run_is_the_sweep_that_ran(run, sweep):
    assert load_sweep(run) == sweep


def test_a_plan_without_results_is_loaded_too(tmp_path, sweep):
    directory = RunDirectory(tmp_path / "run")
    prepare(directory, sweep, expand(sweep))
    results = load(directory)
    assert (len(results.plan), len(results.trials)) == (4, 0)


def test_a_broken_part_is_left_out(run):
    path = next(Path(f"{run}/trials").glob("*.parquet"))
    path.write_bytes(path.read_bytes()[:-9])
    assert len(load(run).trials) == 2


@pytest.mark.parametrize("content", [None, "", "sweep.toml"])
def test_what_is_no_run_directory_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "run").mkdir()
    if content:
        (tmp_path / "run" / content).write_text('name = "tiny"\n')
    with pytest.raises(UserError, match=r"run is not a run directory: it has no sweep\.toml and plan"):
        load(RunDirectory(tmp_path / "run"))


def test_a_file_is_no_run_directory(tmp_path):
    (tmp_path / "run").write_text("x")
    with pytest.raises(UserError, match=r"run is a file: a run directory has to be a folder, or not to exist yet"):
        load(RunDirectory(tmp_path / "run"))


def test_a_damaged_sweep_file_is_said(run):
    run.publish("sweep.toml", b'name = "tiny\n')
    with pytest.raises(UserError, match=r"sweep\.toml is not TOML: "):
        load(run)


def test_tables_of_a_newer_version_are_refused(run):
    part = run.parts("trials")[0]
    table: pa.Table = run.read_part("trials", part)
    newer = schema.SCHEMA_VERSION + 1
    run.write_part("trials", part, table.replace_schema_metadata({"schema_version": str(newer)}))
    with pytest.raises(UserError, match=f"has schema version {newer}, this manypaths reads up to"):
        load(run)


def test_tables_that_contradict_themselves_are_refused(run):
    part = run.parts("trials")[0]
    run.write_part("trials", "twice", run.read_part("trials", part))
    with pytest.raises(
        UserError, match=r"the tables of .*run cannot be trusted: trials has trial_id '\w+' more than once"
    ):
        load(run)

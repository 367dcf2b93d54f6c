import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from analysis import load
from analysis.runs import load_results, load_sweep
from study import schema
from study.errors import UserError
from study.executor import InProcess
from study.plan import expand
from study.progress import live
from study.spec import parse_sweep
from study.store import RunDirectory
from study.sweep_run import prepare, run_sweep
from tests.analysis.stored import ENDINGS, finished

ROOT = Path(__file__).parents[2]


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
    results = load_results(run)
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
    results = load_results(directory)
    assert (len(results.plan), len(results.trials)) == (4, 0)


def test_a_broken_part_is_left_out(run):
    path = next(Path(f"{run}/trials").glob("*.parquet"))
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.warns(UserWarning, match=f"{path} is not a whole Parquet file: its rows are left out"):
        assert len(load_results(run).trials) == 2


@pytest.mark.parametrize("content", [None, "", "sweep.toml"])
def test_what_is_no_run_directory_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "run").mkdir()
    if content:
        (tmp_path / "run" / content).write_text('name = "tiny"\n')
    with pytest.raises(UserError, match=r"run is not a run directory: it has no sweep\.toml and plan"):
        load_results(RunDirectory(tmp_path / "run"))


def test_a_file_is_no_run_directory(tmp_path):
    (tmp_path / "run").write_text("x")
    with pytest.raises(UserError, match=r"run is a file: a run directory has to be a folder, or not to exist yet"):
        load_results(RunDirectory(tmp_path / "run"))


def test_a_damaged_sweep_file_is_said(run):
    run.publish("sweep.toml", b'name = "tiny\n')
    with pytest.raises(UserError, match=r"sweep\.toml is not TOML: "):
        load_results(run)


def test_tables_of_a_newer_version_are_refused(run):
    part = run.parts("trials")[0]
    table: pa.Table = run.read_part("trials", part)
    newer = schema.SCHEMA_VERSION + 1
    run.write_part("trials", part, table.replace_schema_metadata({"schema_version": str(newer)}))
    with pytest.raises(UserError, match=f"has schema version {newer}, this manypaths reads up to"):
        load_results(run)


def test_tables_that_contradict_themselves_are_refused(run):
    part = run.parts("trials")[0]
    run.write_part("trials", "twice", run.read_part("trials", part))
    with pytest.raises(
        UserError, match=r"the tables of .*run cannot be trusted: trials has trial_id '\w+' more than once"
    ):
        load_results(run)


# load: several runs by name


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of two runs, a note and a folder that is no run; the working directory is above it."""
    for name in ("a", "b"):
        finished(tmp_path / "runs" / name, ENDINGS)
    (tmp_path / "runs" / "notes.txt").write_text("no run")
    (tmp_path / "runs" / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs"


@pytest.mark.parametrize("pattern", ["runs/*", "./runs/?", "runs/[ab]", "{folder}/*", "*/*", "file://{folder}/*"])
def test_a_pattern_finds_the_runs_and_nothing_else(folder, pattern):
    assert list(load(pattern.format(folder=folder)).results) == ["a", "b"]


def test_runs_are_named_by_their_directory_and_come_once_in_the_order_given(folder):
    assert list(load("runs/b", folder / "a", "runs/*").results) == ["b", "a"]
    assert list(load(str(folder / "a") + "/").results) == ["a"]


def test_runs_of_one_name_are_named_by_their_paths(folder, tmp_path):
    finished(tmp_path / "more" / "a", ENDINGS)
    assert list(load("runs/*", "more/*").results) == [str(folder / "a"), "b", str(tmp_path / "more" / "a")]


def test_a_directory_whose_name_is_a_pattern_is_that_directory(folder, tmp_path):
    finished(tmp_path / "more" / "[ab]", ENDINGS)
    assert list(load("more/[ab]").results) == ["[ab]"]


def test_a_home_is_expanded(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    assert list(load("~/a").results) == list(load("~/[a]").results) == ["a"]


@pytest.mark.parametrize(
    ("patterns", "words"),
    [
        ((), r"load\(\) needs a run directory, or a pattern such as 'runs/\*'"),
        (("runz/*",), r"no run directory matches 'runz/\*': in runs/ there are runs/a, runs/b"),
        (("runs/empty",), r"empty is not a run directory: it has no sweep\.toml and plan"),
        (("runs/a", "runs/c"), r"c is not a run directory"),
        (("runs/notes.txt",), r"notes\.txt is a file: a run directory has to be a folder"),
        (("nowhere://x",), r"cannot open the run directory nowhere://x"),
    ],
)
def test_what_cannot_be_loaded_is_said_with_what_exists(folder, patterns, words):
    with pytest.raises(UserError, match=words) as caught:
        load(*patterns)
    assert "\n" not in str(caught.value)


def test_where_there_is_no_run_at_all_it_is_said(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"no run directory matches 'runs/\*': in runs/ there is none"):
        load("runs/*")


def test_importing_the_package_is_light_and_offers_load(tmp_path):
    code = "import sys, analysis; assert callable(analysis.load); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) & {"pandas", "numpy", "pyarrow", "scipy", "matplotlib"} == set()


def test_the_history_is_read_only_when_it_is_asked_for(folder, monkeypatch):
    tables = []
    read = RunDirectory.read_table

    def spy(self, table, *rest):
        tables.append(table)
        return read(self, table, *rest)

    monkeypatch.setattr(RunDirectory, "read_table", spy)
    runs = load("runs/*")
    assert len(runs.trials) == 16
    assert "history" not in tables
    assert len(runs.history) == 28
    assert tables.count("history") == 2
    assert runs.history is runs.history

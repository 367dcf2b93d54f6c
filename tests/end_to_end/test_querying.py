"""A run trained here, asked in SQL, exported and drawn by the command line, and the same in Python."""

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import manypaths
from analysis import load
from analysis.figures.table import FIGURES
from study.executor import InProcess
from study.plan import expand
from study.progress import live
from study.spec import parse_sweep
from study.store import RunDirectory
from study.sweep_run import run_sweep

ROOT = Path(__file__).parents[2]
SWEEP = {
    "name": "tiny",
    "tasks": ["manifold-d2"],
    "methods": ["ns", "ns+gp1"],
    "confirmatory": [["ns", "ns+gp1"]],
    "budget": {"steps": 20, "evaluations": 5},
    "space": {"override": {"lr": {"log_uniform": [1e-4, 1e-1]}, "n_critic": 1}},
    "design": {"points": 8},
    "execution": {"pack": 8, "device": "cpu"},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A finished run."""
    out = tmp_path_factory.mktemp("runs") / "tiny"
    sweep = parse_sweep(SWEEP, source="tiny.toml")
    run_sweep(RunDirectory(out), sweep, expand(sweep), InProcess(), watch=live, say=str)
    return out


@pytest.fixture
def cli(monkeypatch, capsys):
    """A function running a command line; gives its exit code, standard output and standard error."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["manypaths", *map(str, arguments)])
        capsys.readouterr()
        try:
            manypaths.main()
            code = 0
        except SystemExit as end:
            code = end.code or 0
        return code, *capsys.readouterr()

    return call


SQL = "select method, avg(success::int) as success, count(*) as n from planned group by 1 order by 1"


def test_sql_and_pandas_agree(cli, folder):
    code, printed, words = cli("query", folder, SQL, "--format", "json")
    assert (code, words) == (0, "")
    trials = load(folder).trials
    expected = trials.groupby("method")["success"].agg(["mean", "size"])
    found = {row["method"]: (row["success"], row["n"]) for row in json.loads(printed)}
    assert found == {str(name): (float(row["mean"]), int(row["size"])) for name, row in expected.iterrows()}


@pytest.mark.parametrize("form", ["table", "markdown", "csv", "json"])
def test_standard_output_is_the_result_and_nothing_else(cli, folder, form):
    code, printed, words = cli("query", folder, SQL, "--format", form)
    assert (code, words) == (0, "")
    assert "ns+gp1" in printed
    lines = {"table": 3, "markdown": 4, "csv": 3}
    assert form == "json" or len(printed.splitlines()) == lines[form]


def test_parquet_goes_to_a_file_or_a_pipe(cli, folder, tmp_path):
    assert cli("query", folder, "from history", "--format", "parquet", "--out", tmp_path / "h.parquet") == (0, "", "")
    assert len(pd.read_parquet(tmp_path / "h.parquet")) == 16 * 5
    command = [sys.executable, "-m", "manypaths", "query", str(folder), SQL, "--format", "parquet"]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, check=True)
    assert pd.read_parquet(io.BytesIO(done.stdout))["n"].tolist() == [8, 8]


def test_parquet_is_refused_to_a_terminal(cli, folder, monkeypatch, capsys):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    code, printed, words = cli("query", folder, SQL, "--format", "parquet")
    assert (code, printed) == (2, "")
    assert words == "error: --format parquet is not for a terminal: give --out FILE, or a pipe\n"


def test_without_sql_the_views_are_listed(cli, folder):
    code, printed, _ = cli("query", folder)
    assert code == 0
    assert printed.splitlines()[0].split() == ["view", "column", "type", "meaning"]
    rows = json.loads(cli("query", folder, "--format", "json")[1])
    assert {row["view"] for row in rows} == {"plan", "trials", "history", "samples", "planned"}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["query", "{run}", "selec 1"], "error: SQL: Parser Error"),
        (["query", "{run}", "drop view plan"], "error: SQL: a query reads and changes nothing, but this is DROP"),
        (["query", "{run}", "select 1", "--format", "xml"], "error: unknown format 'xml': choose from csv, "),
        (["query", "{run}", "select 1", "--out", "{run}/no/where"], "error: cannot write "),
        (["query", "{run}/plan", "select 1"], "error: "),
        (["export", "latex", "{run}", "--table", "trials"], "error: a table of trials has too many rows to print"),
        (["export", "csv", "{run}", "--table", "x"], "error: unknown table 'x': choose from "),
        (["export", "csv", "nowhere"], "error: "),
        (["figures", "{run}", "x"], "error: unknown figure 'x': choose from "),
        (["figures", "{run}", "--format", "gif"], "error: unknown format 'gif': choose from "),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(cli, folder, arguments, sentence):
    code, printed, words = cli(*(argument.format(run=folder) for argument in arguments))
    assert (code, printed) == (2, "")
    assert words.startswith(sentence)
    assert words.count("\n") == 1


def test_export_writes_a_row_per_planned_trial(cli, folder, tmp_path):
    code, printed, words = cli("export", "csv", folder)
    assert (code, words) == (0, "")
    assert len(list(csv.DictReader(io.StringIO(printed)))) == 16
    assert cli("export", "csv", folder, "--out", tmp_path / "x.csv") == (0, "", "")
    assert (tmp_path / "x.csv").read_text() == printed


@pytest.mark.parametrize("table", ["summary", "comparisons", "claims"])
def test_export_prints_tables_for_a_paper(cli, folder, table):
    for form, mark in (("latex", "\\toprule"), ("markdown", "| --- |")):
        code, printed, words = cli("export", form, folder, "--table", table)
        assert (code, words) == (0, "")
        assert mark in printed
        assert "budget 20 generator" in printed


def test_figures_are_drawn_again_and_what_is_empty_is_said(cli, folder, tmp_path):
    code, printed, words = cli("figures", folder, "success", "differences", "--format", "csv,svg", "--out", tmp_path)
    assert (code, words) == (0, "")
    names = ["success.csv", "success.svg", "differences.csv", "differences.svg"]
    assert printed.splitlines() == [str(tmp_path / name) for name in names]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)


def test_figures_can_be_listed_without_a_run(cli):
    code, printed, _ = cli("figures", "nowhere", "--list")
    assert code == 0
    assert [line.split()[0] for line in printed.splitlines()] == ["figure", *FIGURES]


def test_asking_leaves_the_run_as_it_was(cli, folder, tmp_path):
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    cli("query", folder, SQL)
    cli("export", "latex", folder)
    cli("figures", folder, "success", "--out", tmp_path)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_sql_needs_neither_torch_nor_pandas(folder):
    code = "import sys, manypaths\ntry: manypaths.main()\nexcept SystemExit: pass\nprint(*sys.modules, file=sys.stderr)"
    done = subprocess.run(
        [sys.executable, "-c", code, "query", str(folder), SQL],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "ns+gp1" in done.stdout
    assert set(done.stderr.split()) & {"torch", "ray", "pandas", "matplotlib", "scipy"} == set()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_every_figure_of_a_trained_run_is_drawn_or_has_a_reason(cli, folder, tmp_path):
    code, printed, words = cli("figures", folder, "--out", tmp_path)
    assert code == 0
    drawn = {Path(line).stem for line in printed.splitlines()}
    reasons = dict(line.split(": ", 1) for line in words.splitlines())
    assert drawn | set(reasons) == set(FIGURES)
    assert drawn & set(reasons) == set()

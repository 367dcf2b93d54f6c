"""Every method of examples/zoo.toml runs to the end, small."""

import tomllib
from pathlib import Path

import pandas as pd
import pytest

from analysis.report import write_report
from analysis.runs import load_results
from study.executor import InProcess
from study.losses import LOSSES
from study.penalties import PENALTIES
from study.plan import expand
from study.progress import live
from study.spec import parse_sweep
from study.store import RunDirectory
from study.sweep_run import lost, run_sweep
from study.techniques import TECHNIQUES

ZOO = tomllib.loads((Path(__file__).parents[2] / "examples" / "zoo.toml").read_text(encoding="utf-8"))


def test_the_zoo_has_every_loss_penalty_and_technique():
    with_data = [name for name, loss in LOSSES.items() if not loss.value]  # the others: examples/games.toml
    parts = {part for method in ZOO["methods"] for part in method.replace("r1+r2", "r1r2").split("+")}
    assert {part.replace("r1r2", "r1+r2") for part in parts} == {*with_data, *PENALTIES, *TECHNIQUES}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_method_runs_to_the_end_and_is_reported(tmp_path):
    small = {"budget": {"steps": 8, "evaluations": 2}, "design": {"points": 2}, "execution": {"pack": 2}}
    sweep = parse_sweep(ZOO | small, source="zoo.toml")
    directory = RunDirectory(str(tmp_path / "zoo"))
    prepared, _ = run_sweep(directory, sweep, expand(sweep), InProcess(), watch=live, say=print)
    assert lost(prepared) == 0
    rows = pd.read_parquet(tmp_path / "zoo" / "trials")
    assert set(rows["method"]) == set(ZOO["methods"])
    assert len(rows) == 2 * 2 * len(ZOO["methods"])
    assert set(rows["status"]) == {"completed"}
    paths = write_report(load_results(directory), tmp_path / "zoo")
    page = paths.html.read_text(encoding="utf-8")
    assert [method for method in ZOO["methods"] if method not in page] == []

import json

import pandas as pd
import pytest

from analysis.imported.stored import note, write
from analysis.imported.table import read_table
from analysis.report import write_report
from analysis.runs import load_results
from analysis.status import status
from analysis.summary import summary
from search_spaces.domains import LogUniform
from study import schema
from study.errors import UserError
from study.store import RunDirectory


@pytest.fixture
def declaration(said):
    return said(
        metric="val_loss",
        method="optimizer",
        task="data",
        params=["momentum"],
        map={"lr": "learning_rate"},
        status="state",
        means={"crashed": "lost"},
        sampler="random",
        prior="wide",
        domains={"lr": {"log_uniform": [1e-5, 1e-1]}},
    )


@pytest.fixture
def run(tmp_path, results_csv, declaration):
    directory = RunDirectory(tmp_path / "run")
    write(directory, read_table(results_csv, declaration), declaration)
    return directory


def test_the_files_are_those_of_a_run(run):
    plan, trials = (pd.read_parquet(f"{run}/{table}") for table in ("plan", "trials"))
    assert list(plan.columns) == [column.name for column in schema.PLAN] + ["momentum"]
    fixed = [column.name for column in schema.TABLES["trials"]]
    assert list(trials.columns) == [*fixed, "momentum"]
    assert len(plan) == 256
    assert len(trials) == 255
    assert plan["lr_g"].notna().all()
    assert run.read_part("plan", "imported").schema.field("point").type == "int32"


def test_results_read_back(run):
    results = load_results(run)
    assert (results.name, results.prior, results.confirmatory) == ("run", "wide", ())
    assert results.tasks == ("cifar10", "mnist")
    assert results.methods == ("adam", "sgd")
    assert results.domains == {"lr": LogUniform(1e-5, 1e-1)}
    assert results.notice.startswith("Imported from a table, ")
    assert results.adaptive is None
    assert results.history().empty
    assert summary(results)["diverged"].tolist() == [8, 8, 8, 8]


def test_status_tells_what_was_lost(run):
    found = status(run)
    assert found["planned"] == 256
    lost = {(row["task"], row["method"]): row["lost"] for row in found["methods"]}
    assert lost == {("cifar10", "adam"): 0, ("cifar10", "sgd"): 0, ("mnist", "adam"): 1, ("mnist", "sgd"): 0}
    assert sum(row["pending"] for row in found["methods"]) == 0
    assert found["driver"] is None


@pytest.mark.timeout(180)  # every figure in every form: on a busy machine most of a minute
def test_a_report_is_written(tmp_path, results_csv, said):
    few = pd.read_csv(results_csv).query("data == 'mnist'").head(24)
    few.to_csv(tmp_path / "few.csv", index=False)
    declaration = said(metric="val_loss", method="optimizer", params=["learning_rate", "momentum"])
    directory = RunDirectory(tmp_path / "few")
    write(directory, read_table(tmp_path / "few.csv", declaration), declaration)
    page = write_report(load_results(directory), tmp_path / "report").html.read_text()
    assert "Imported from a table" in page
    assert "adam" in page


def test_equal_inputs_give_equal_bytes(run, tmp_path, results_csv, declaration):
    again = RunDirectory(tmp_path / "again" / "run")
    write(again, read_table(results_csv, declaration), declaration)
    for name in ("plan/imported.parquet", "trials/imported.parquet", "manifest.json"):
        assert again.read(name) == run.read(name)


def test_an_import_replaces_an_earlier_one(run, said, experiment, results_csv, tmp_path):
    from analysis.imported.ray_tune import read_experiments

    declaration = said(metric="loss")
    write(run, read_experiments([experiment({"a": ({"lr": 1.0}, [0.2, 0.3], None)})], declaration), declaration)
    assert len(load_results(run).history()) == 2
    assert run.names("attempts") == []
    declaration = said(metric="val_loss", params=["momentum"])
    write(run, read_table(results_csv, declaration), declaration)
    assert load_results(run).history().empty
    assert len(load_results(run).plan) == 256


@pytest.mark.parametrize("name", ["sweep.toml", "holiday.jpg"])
def test_nothing_else_is_overwritten(tmp_path, results_csv, declaration, name):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / name).write_text("")
    with pytest.raises(UserError, match="full is neither empty nor an earlier import: give another --out"):
        write(RunDirectory(tmp_path / "full"), read_table(results_csv, declaration), declaration)


def test_a_mistake_leaves_nothing_behind(tmp_path, results_csv, said):
    declaration = said(metric="val_loss", params=["momentum"], anchors=[3, 1])
    with pytest.raises(UserError, match="anchors"):
        write(RunDirectory(tmp_path / "run"), read_table(results_csv, declaration), declaration)
    assert not (tmp_path / "run").exists()


def test_only_imports_have_a_note(run, tmp_path):
    assert note(run)["kind"] == "table"
    assert note(RunDirectory(tmp_path / "none")) is None
    other = RunDirectory(tmp_path / "other")
    other.write_json("manifest.json", {"sweep": "x"})
    assert note(other) is None


def test_a_damaged_import_is_said(run):
    manifest = json.loads(run.read("manifest.json"))
    del manifest["imported"]["prior"]
    run.write_json("manifest.json", manifest)
    with pytest.raises(UserError, match=r"the tables of .*run cannot be trusted: 'prior'"):
        load_results(run)


def test_columns_of_ours_keep_their_type(run, tmp_path, said):
    pd.DataFrame({"critic": [1, 5], "loss": [0.2, 0.3]}).to_csv(tmp_path / "t.csv", index=False)
    declaration = said(metric="loss", map={"n_critic": "critic"}, sampler="grid")
    directory = RunDirectory(tmp_path / "typed")
    write(directory, read_table(tmp_path / "t.csv", declaration), declaration)
    assert directory.read_part("plan", "imported").schema.field("n_critic").type == "int32"
    assert load_results(directory).plan["n_critic"].tolist() == [1, 5]

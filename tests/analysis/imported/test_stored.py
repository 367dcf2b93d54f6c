import errno
import json
from pathlib import Path

import pandas as pd
import pytest

from analysis.imported.ray_tune import read_experiments
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


def files(directory):
    return sorted(str(path.relative_to(directory.root)) for path in Path(directory.root).rglob("*"))


def test_an_import_replaces_an_earlier_one_and_its_report(run, results_csv, declaration, said):
    before = files(run)
    assert "attempts/imported-lost.json" in before
    for name in ("report.html", "summary.csv", "comparisons.csv", "figures/a.csv", "figures/a.svg", "figures/a.png"):
        run.publish(name, b"of the earlier one")
    write(run, read_table(results_csv, declaration), declaration)
    assert files(run) == before
    declaration = said(metric="val_loss", params=["momentum"], threshold=0.7)
    write(run, read_table(results_csv, declaration), declaration)
    assert run.names("attempts") == []
    assert load_results(run).facts("run").threshold == 0.7


def test_history_goes_with_the_import_that_had_it(tmp_path, experiment, said):
    declaration, directory = said(metric="loss"), RunDirectory(tmp_path / "run")
    root = experiment({"a": ({"lr": 1.0}, [0.2, 0.3], None)})
    write(directory, read_experiments([root], declaration), declaration)
    assert len(load_results(directory).history()) == 2
    (root / "a" / "result.json").unlink()
    (root / "b").mkdir()
    (root / "b" / "params.json").write_text("{}")
    (root / "b" / "result.json").write_text('{"loss": 0.2}')
    write(directory, read_experiments([root], declaration), declaration)
    assert len(load_results(directory).history()) == 1


def test_another_source_is_refused(run, said, experiment, results_csv, declaration):
    before = {name: run.read(name) for name in files(run) if "." in name}
    other = said(metric="loss")
    with pytest.raises(UserError, match=r"run is an import of .*results.csv, not of .*experiment: give another --out"):
        write(run, read_experiments([experiment({"a": ({"lr": 1.0}, [0.2], None)})], other), other)
    copy = results_csv.with_name("copy.csv")
    copy.write_bytes(results_csv.read_bytes())
    with pytest.raises(UserError, match=r"run is an import of .*results.csv, not of .*copy.csv"):
        write(run, read_table(copy, declaration), declaration)
    assert {name: run.read(name) for name in files(run) if "." in name} == before


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("room", range(4))
def test_a_full_disk_leaves_nothing_behind(tmp_path, results_csv, declaration, monkeypatch, room, again):
    directory, source = RunDirectory(tmp_path / "run"), read_table(results_csv, declaration)
    if again:
        write(directory, source, declaration)
        directory.publish("report.html", b"")
    left, publish = iter(range(room)), RunDirectory.publish

    def full(self, name, data):
        if next(left, None) is None:
            raise OSError(errno.ENOSPC, "No space left on device", name)
        publish(self, name, data)

    monkeypatch.setattr(RunDirectory, "publish", full)
    with pytest.raises(OSError, match="No space left"):
        write(directory, source, declaration)
    assert directory.names() == []
    assert (tmp_path / "run").exists() == again
    monkeypatch.setattr(RunDirectory, "publish", publish)
    write(directory, source, declaration)  # there is nothing in the way
    assert len(load_results(directory).plan) == 256


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

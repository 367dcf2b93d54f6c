import dataclasses

import pandas as pd
import pytest

from analysis import pictures
from analysis.figures import table
from analysis.figures.table import FIGURES
from analysis.pictures import write_figures
from analysis.runs import load_results
from study.errors import UserError
from study.store import RunDirectory
from tests.analysis.stored import ENDINGS, finished, plan


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return finished(tmp_path_factory.mktemp("run") / "run", ENDINGS)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_every_figure_is_drawn_or_has_a_reason(directory, tmp_path):
    drawn = write_figures(directory, forms=["csv"], out=tmp_path, processes=1)
    assert {path.stem for path in drawn.paths} | set(drawn.empty) == set(FIGURES)
    assert {path.stem for path in drawn.paths} & set(drawn.empty) == set()
    assert {path.name for path in drawn.paths} == set(contents(tmp_path))
    assert all(drawn.empty.values())


def test_the_numbers_are_those_of_the_table_of_figures(directory, tmp_path):
    write_figures(directory, ["success"], out=tmp_path)
    numbers = FIGURES["success"].numbers(load_results(directory))
    found = pd.read_csv(tmp_path / "success.csv")
    assert found["value"].tolist() == pytest.approx(numbers["value"].tolist())
    assert set(contents(tmp_path)) == {f"success.{form}" for form in ("csv", "png", "svg", "pdf")}


def test_several_processes_write_the_same_bytes_in_the_same_order(directory, tmp_path):
    names = ["success", "failures"]
    folders = [tmp_path / "one", tmp_path / "two"]
    found = [
        write_figures(directory, names, out=folder, forms=["csv", "svg"], processes=count)
        for folder, count in zip(folders, (1, 2), strict=True)
    ]
    assert contents(folders[0]) == contents(folders[1])
    assert [path.name for path in found[0].paths] == [path.name for path in found[1].paths]


def test_without_a_folder_the_runs_own_is_written(tmp_path):
    directory = finished(tmp_path / "run", ENDINGS)
    drawn = write_figures(directory, ["success"], forms=["csv"])
    assert [str(path) for path in drawn.paths] == [f"{directory}/figures/success.csv"]


def test_a_run_that_has_not_begun_says_why_a_figure_is_empty(tmp_path, monkeypatch):
    directory, _ = plan(tmp_path / "run")
    bare = {"bare": pictures.Picture(lambda results: pd.DataFrame({"task": []}), None, "What it shows.", "breaks")}
    for module in (pictures, table):
        monkeypatch.setattr(module, "FIGURES", bare)
    drawn = write_figures(directory, out=tmp_path / "out")
    assert (drawn.paths, drawn.empty) == ((), {"bare": "no trial has ended yet"})
    full = finished(tmp_path / "full", ENDINGS)
    assert write_figures(full).empty == {"bare": "nothing in this sweep to show for it (What it shows)"}


def test_a_figure_of_the_history_without_history_says_so(tmp_path, monkeypatch):
    directory = finished(tmp_path / "run", ENDINGS)
    for part in directory.parts("history"):
        directory.remove(f"history/{part}.parquet")
    bare = pictures.Picture(lambda results: pd.DataFrame({"task": []}), None, "x", "breaks", history=True)
    for module in (pictures, table):
        monkeypatch.setattr(module, "FIGURES", {"bare": bare})
    assert write_figures(directory).empty == {"bare": "no history was kept"}


@pytest.mark.parametrize(
    ("names", "forms", "words"),
    [
        (["succes"], ["csv"], "unknown figure 'succes': choose from success, "),
        (["success"], ["jpg"], "unknown format 'jpg': choose from "),
    ],
)
def test_a_wrong_name_is_refused_with_what_exists(directory, tmp_path, names, forms, words):
    with pytest.raises(UserError, match=words):
        write_figures(directory, names, forms=forms, out=tmp_path)


def test_a_folder_that_cannot_be_written_is_said(directory, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match=r"cannot write figures into .*file"):
        write_figures(directory, ["success"], out=tmp_path / "file")


def test_elsewhere_than_on_a_local_disk_a_folder_is_needed(directory):
    remote = RunDirectory(f"file://{directory.root}")
    remote.local = False
    with pytest.raises(UserError, match="is not on a local disk: say with --out where the figures go"):
        write_figures(remote)


def test_a_map_over_any_two_hyperparameters(build, tmp_path):
    whole = build(points=16)
    share = (whole.plan["point"] * 0.618) % 1.0
    varied = dataclasses.replace(whole, plan=whole.plan.assign(lr_g=10 ** (3 * share - 4), beta1=(7 * share) % 1.0))
    numbers = table.picture_of("success_map[beta1, lr]").numbers(varied)
    assert (set(numbers["x"]), set(numbers["y"])) == ({"beta1"}, {"lr"})
    assert numbers.groupby("method")["points"].sum().unique() == len(whole.plan["point"].unique())


def test_a_map_has_a_file_name_without_brackets(directory, tmp_path, monkeypatch):
    numbers = pd.DataFrame({"task": ["a"]})
    monkeypatch.setattr(table, "map_numbers", lambda results, x, y: numbers.assign(x=x, y=y))
    drawn = write_figures(directory, ["success_map[beta1, lr]"], forms=["csv"], out=tmp_path)
    assert [path.name for path in drawn.paths] == ["success_map-beta1-lr.csv"]
    assert list(pd.read_csv(drawn.paths[0]).iloc[0]) == ["a", "beta1", "lr"]


@pytest.mark.parametrize("name", ["success_map[lr]", "success_map[lr,lr,lr]", "profiles[lr,beta1]", "success_map["])
def test_what_is_no_map_is_an_unknown_figure(name):
    with pytest.raises(UserError, match="unknown figure"):
        table.picture_of(name)

import base64
import dataclasses
import html
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis import report
from analysis.comparisons import compare_all
from analysis.figures.style import FORMS, Picture
from analysis.figures.table import FIGURES
from analysis.origin import origin
from analysis.report import write_report
from analysis.runs import load_results
from analysis.summary import summary
from analysis.words import sentence
from tests.analysis.stored import end, plan

ROOT = Path(__file__).parents[2]

NOTICE = "Synthetic numbers: they show the format."
SOME = ("profiles", "failures", "differences")
"""One figure for each part of the page; all of them are drawn in tests/end_to_end/test_browser.py."""


@pytest.fixture(scope="module", autouse=True)
def figures():
    some = {name: FIGURES[name] for name in SOME}
    some["nothing"] = Picture(
        lambda results: pd.DataFrame(columns=["task"]), draw=None, alt="Nothing.", section="breaks"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "FIGURES", some)
        yield some


@pytest.fixture(scope="module")
def results(build):
    return build(tasks=("ring8", "digits"), keep=150, notice=NOTICE)


@pytest.fixture(scope="module")
def written(results, figures, tmp_path_factory):
    return write_report(results, tmp_path_factory.mktemp("report") / "deep" / "out")


@pytest.fixture(scope="module")
def text(written):
    return written.html.read_text(encoding="utf-8")


@pytest.fixture
def bare(monkeypatch):
    """Without figures, for what is not about them."""
    monkeypatch.setattr(report, "FIGURES", {})


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_files_are_those_promised(written):
    names = {f"figures/{name}.{form}" for name in SOME for form in FORMS}
    assert set(contents(written.html.parent)) == names | {"report.html", "summary.csv", "comparisons.csv"}
    assert {f"figures/{path.name}" for path in written.figures} == names


def test_the_same_results_give_the_same_bytes_in_any_row_order(results, written, tmp_path):
    shuffled = dataclasses.replace(results, trials=results.trials.sample(frac=1, random_state=9))
    np.random.seed(5)  # noqa: NPY002 - it is there to be disturbed
    write_report(shuffled, tmp_path)
    assert contents(tmp_path) == contents(written.html.parent)


def test_two_processes_give_the_same_bytes(results, written, tmp_path, monkeypatch):
    monkeypatch.setattr(report, "FIGURES", {name: FIGURES[name] for name in SOME})  # the other process has the table's
    write_report(results, tmp_path, processes=2)
    assert contents(tmp_path) == contents(written.html.parent)


def test_the_page_needs_nothing_else(text):
    assert "http:" not in text
    assert "https:" not in text
    sources = re.findall(r'(?<![\w-])(?:src|href|srcset|data|action)="([^"]{0,30})', text)
    files = [f"figures/{name}.svg" for name in SOME]  # the same pictures at their full size, to follow or not
    assert sorted(source for source in sources if source.startswith("figures/")) == sorted(files)
    pictures = [source for source in sources if not source.startswith(("#", "figures/"))]
    assert len(pictures) == len(SOME)
    assert all(source.startswith("data:image/svg+xml;base64,") for source in pictures)
    assert not re.search(r"@import|url\(|<link|<iframe|<object|<embed", text)
    assert set(re.findall(r"<script[^>]*>", text)) == {"<script>", '<script type="application/json">'}


def test_each_picture_is_the_one_that_its_file_has(written, text):
    for name in SOME:
        picture = (written.html.parent / "figures" / f"{name}.svg").read_bytes()
        assert base64.b64encode(picture).decode() in text


def test_the_page_is_small(written):
    assert written.html.stat().st_size < 5_000_000


def test_every_figure_has_a_description(text):
    images = re.findall(r"<img [^>]*>", text)
    assert len(images) == len(SOME)
    assert all(re.search(r' alt="[^"]{20,}"', image) for image in images)


def test_what_is_missing_is_said_first(text):
    assert "interim: 150 of 192 trials" in text
    assert text.index(NOTICE) < text.index("<h2>")
    assert text.index("interim: 150") < text.index("<h2>")


def test_a_finished_sweep_without_notice_has_no_banner(build, bare, tmp_path):
    page = write_report(build(), tmp_path).html.read_text(encoding="utf-8")
    assert 'class="banner"' not in page
    title = r"<b>ns\+gp1 vs wgan\+gp1</b>: "
    assert re.search(title + r'<span class="verdict">(ns\+gp1 survives more|no difference shown)</span>', page)


def test_every_comparison_has_its_sentence_confirmatory_first(results, text):
    plain = html.unescape(text)
    for task in results.tasks:
        places = [plain.index(sentence(c)) for c in compare_all(results) if c.task == task]
        assert places == sorted(places)
    assert '<span class="verdict open">interim</span>' in text


def test_the_tables_are_the_statistics(results, written):
    found = pd.read_csv(written.summary)
    expected = summary(results)
    assert list(found.columns) == list(expected.columns)
    np.testing.assert_allclose(found["log_auc"], expected["log_auc"], rtol=1e-7)
    compared = pd.read_csv(written.comparisons)
    values = [c.log_auc_difference.value for c in compare_all(results)]
    np.testing.assert_allclose(compared["log_auc_difference"], values, rtol=1e-7)


def test_names_are_text_whatever_they_hold(build, tmp_path):
    evil = "</script><script>alert(1)</script>"
    results = build(
        name=f"sweep {evil}", methods=(f"a{evil}", 'b"onload="x'), tasks=(f"t{evil}",), notice=evil, confirmatory=()
    )
    page = write_report(results, tmp_path).html.read_text(encoding="utf-8")
    assert evil not in page
    assert "alert(1)" not in re.sub(r'type="application/json">.*?</script>', "", page).replace(html.escape(evil), "")
    assert 'onload="x' not in page
    assert page.count(html.escape(evil)) >= 5  # the title, the heading, the notice, the task and a method


@pytest.mark.parametrize("keep", [0, 1])
def test_a_sweep_that_has_hardly_begun(build, tmp_path, keep):
    page = write_report(build(keep=keep), tmp_path).html.read_text(encoding="utf-8")
    assert f"interim: {keep} of 96 trials" in page
    shown = re.sub(r"<(style|script).*?</\1>", "", re.sub(r"base64,[^\"]*", "", page), flags=re.DOTALL)
    assert not re.search(r"\bnan\b", shown)


def test_nothing_planned(build, bare, tmp_path):
    results = build(confirmatory=())
    nothing = dataclasses.replace(results, plan=results.plan.iloc[:0], trials=results.trials.iloc[:0])
    assert "Nothing is planned" in write_report(nothing, tmp_path).html.read_text(encoding="utf-8")


# Taking the place of an earlier one


def test_a_report_replaces_an_earlier_one_whole_and_keeps_other_files(build, tmp_path, monkeypatch):
    write_report(build(), tmp_path)
    (tmp_path / "figures" / "success_map-lr-beta1.csv").write_text("mine")
    (tmp_path / "figures" / "differences.csv").write_text("old")
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / ".report-killed").mkdir()
    monkeypatch.setattr(report, "FIGURES", {"failures": FIGURES["failures"], "differences": nothing()})
    write_report(build(), tmp_path)
    names = {path.name for path in (tmp_path / "figures").iterdir()}
    assert names == {*(f"failures.{form}" for form in FORMS), "success_map-lr-beta1.csv", *others(SOME)}
    assert {path.name for path in tmp_path.iterdir()} == {
        *("figures", "report.html", "summary.csv", "comparisons.csv", "notes.txt")
    }


def nothing():
    return Picture(lambda results: pd.DataFrame(columns=["task"]), draw=None, alt="Nothing.", section="breaks")


def others(names):
    """Files of figures that the table no longer has: to it they are somebody else's."""
    return {f"{name}.{form}" for name in names if name == "profiles" for form in FORMS}


def test_a_report_that_fails_leaves_the_earlier_one_as_it_was(build, tmp_path, monkeypatch):
    write_report(build(), tmp_path)
    before = contents(tmp_path)
    monkeypatch.setattr(report, "page", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_report(build(keep=10), tmp_path)
    assert contents(tmp_path) == before
    assert not list(tmp_path.glob(".*"))


KILLED = """
import os, sys
from pathlib import Path
from analysis import report
from analysis.runs import load_results
from study.store import RunDirectory
steps = int(sys.argv[2])
real = Path.rename
def rename(self, target):
    global steps
    steps -= 1
    if steps < 0:
        os.kill(os.getpid(), 9)
    return real(self, target)
Path.rename = rename
report.FIGURES = {"failures": report.FIGURES["failures"]}
report.write_report(load_results(RunDirectory(sys.argv[1])), Path(sys.argv[1]))
"""


@pytest.mark.parametrize("steps", [0, 2])
def test_a_report_that_is_killed_leaves_no_page_beside_figures_of_another(tmp_path, monkeypatch, steps):
    directory, rows = plan(tmp_path / "run")
    folder = tmp_path / "run"
    end(directory, rows["ns"], [0.1, 3.0, "diverged", 0.2])
    monkeypatch.setattr(report, "FIGURES", {"failures": FIGURES["failures"]})
    write_report(load_results(directory), folder)
    old = (folder / "figures" / "failures.csv").read_bytes()
    end(directory, rows["ns+gp1"], [0.1, 3.0, "diverged", 0.2])
    command = [sys.executable, "-c", KILLED, str(folder), str(steps)]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == -9
    assert not (folder / "report.html").exists()
    assert len(list(folder.glob(".report-*"))) == 1
    for path in folder.glob("figures/*.csv"):
        assert (path.read_bytes() == old) == (steps == 0)
    write_report(load_results(directory), folder)
    assert (folder / "report.html").exists()
    assert not list(folder.glob(".report-*"))


# What ran


def test_a_box_says_what_ran(tmp_path, bare):
    directory, _ = plan(tmp_path / "run", notice="a < b")
    results, ran = load_results(directory), origin(directory)
    page = write_report(results, tmp_path / "out", origin=ran).html.read_text(encoding="utf-8")
    assert {"manypaths", "engine epoch", "begun", "torch", "Python", "platform"} <= {name for name, _ in ran.facts}
    for name, value in ran.facts:
        assert f"<dt>{name}</dt><dd>{html.escape(value)}</dd>" in page
    shown = re.search(r"<details><summary>The sweep file</summary><pre[^>]*>(.*?)</pre>", page, re.DOTALL)[1]
    assert html.unescape(shown) == (tmp_path / "run" / "sweep.toml").read_text(encoding="utf-8")
    assert contents(tmp_path / "run").keys() == {path for path in contents(tmp_path / "run") if "report" not in path}


def test_without_a_record_there_is_no_box(build, tmp_path, bare):
    assert 'class="ran"' not in write_report(build(), tmp_path).html.read_text(encoding="utf-8")

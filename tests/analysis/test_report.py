import base64
import dataclasses
import html
import re

import numpy as np
import pandas as pd
import pytest

from analysis import report
from analysis.comparisons import compare_all
from analysis.figures.style import FORMS, Picture
from analysis.figures.table import FIGURES
from analysis.report import write_report
from analysis.summary import summary
from analysis.words import sentence

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
    pictures = [source for source in sources if not source.startswith("#")]
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

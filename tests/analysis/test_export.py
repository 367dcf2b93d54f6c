import csv
import dataclasses
import io
import re

import numpy as np
import pytest

from analysis.columns import VIEWS
from analysis.comparisons import compare_all, table
from analysis.export import FORMS, TABLES, Paper, escaped, export, latex, markdown
from analysis.summary import COLUMNS, summary
from search_spaces.domains import LogUniform, Uniform
from study.claim_forms import read_claim
from study.errors import UserError
from study.statements import Registered

INF = np.inf
FACTS = {"threshold": 2.0, "anchor_low": 1.0, "anchor_high": 100.0}
PRINTED = ["summary", "comparisons"]


@pytest.fixture
def results(build):
    return build(tasks=("ring8", "fd_digits"), notice="Only a look.")


def rows(text):
    return list(csv.DictReader(io.StringIO(text)))


def cells(line):
    """The cells of a line of LaTeX, with the ampersands that are text left in."""
    return [cell.strip() for cell in re.split(r"(?<!\\)&", line.removesuffix(r" \\"))]


def body(text):
    """The rows of a LaTeX table."""
    return [cells(line) for line in text.partition("\\midrule")[2].splitlines() if line.endswith(r"\\")]


# Tidy


def test_csv_of_trials_has_a_row_per_planned_trial_with_every_column(ended):
    found = rows(
        export(ended({"a": [0.5, INF, "oom", "stopped", None]}, facts=FACTS, points=5, replicates=1), "csv", "trials")
    )
    assert [row["status"] for row in found] == ["completed", "diverged", "oom", "stopped", ""]
    assert [row["outcome"] for row in found] == ["0.5", "inf", "inf", "", ""]
    assert [row["success"] for row in found] == ["True", "False", "False", "", ""]
    assert {column.name for column in VIEWS["planned"]} <= set(found[0])


@pytest.mark.parametrize(
    ("name", "frame"), [("summary", summary), ("comparisons", lambda results: table(compare_all(results)))]
)
def test_csv_gives_the_numbers_back_to_the_last_bit(results, name, frame):
    found, numbers = rows(export(results, "csv", name)), frame(results)
    assert list(found[0]) == list(numbers.columns)
    assert len(found) == len(numbers)
    exact = "log_auc" if name == "summary" else "log_auc_difference"
    assert [float(row[exact]) for row in found] == numbers[exact].tolist()


# For a paper


def test_the_summary_by_hand(ended):
    # scores 1, 1 - ln 2/ln 100 = .85, .5, 0: log-AUC .5876; three of four finish, two at or below 2; the median of
    # 1, 2, 10 and a failure is 2, and four points have no order statistics that hold it
    text = export(ended({"a": [1.0, 2.0, 10.0, INF]}, facts=FACTS, points=4, replicates=1), "latex", "summary")
    (row,) = body(text)
    assert row[:3] == ["manifold-d2", "a", "4"]
    assert [cell.partition(" ")[0] for cell in row[3:6]] == [".50", ".59", ".25"]
    assert row[6] == r"2 [-$\infty$, $\infty$]"


@pytest.mark.parametrize("name", PRINTED)
def test_every_interval_and_its_value_are_there(results, name):
    text = export(results, "markdown", name)
    lines = [line for line in text.splitlines() if line.startswith("|")][2:]
    intervals = [re.findall(r"\[-?\d?\.\d\d, -?\d?\.\d\d\]", line) for line in lines]
    assert [len(found) for found in intervals] == [3 if name == "summary" else 2] * 6  # 2 tasks, 3 methods or pairs


@pytest.mark.parametrize("name", PRINTED)
@pytest.mark.parametrize("form", ["latex", "markdown"])
def test_the_caption_says_where_the_numbers_hold(results, form, name):
    text = export(dataclasses.replace(results, prior="wide"), form, name).replace("\\", "")
    for words in (
        "budget 1000 generator_steps",
        "prior wide (sobol 8x4 points)",
        "95 %",
        "Only a look.",
        "t over 8 replicates",
    ):
        assert words in text
    assert re.search(r"uccess on ring8 is w2sq (?:<=|\$le\$) 0\.2, its log-AUC runs from 0\.02 to 2\.", text)


def test_the_declared_pair_has_a_verdict_and_others_say_that_they_are_exploratory(results):
    found = body(export(results, "latex", "comparisons"))
    assert found[0][1:3] == ["ns+gp1", "wgan+gp1"]
    assert found[0][-1] in ("no difference shown", "ns+gp1 survives more", "wgan+gp1 survives more")
    assert [row[-1] for row in found[1:3]] == ["exploratory"] * 2


def test_what_is_undecided_gets_a_column_with_what_it_leaves_open(ended):
    text = export(ended({"a": [1.0, 5.0, "stopped", None]}, facts=FACTS, points=4, replicates=1), "latex", "summary")
    (row,) = body(text)
    assert row[-1] == "2: success .25 to .75"
    assert "interim" in text
    assert "Undecided" in text


def test_an_adaptive_sweep_is_said_to_be_one(results):
    chosen = dataclasses.replace(results, plan=results.plan.assign(sampler="tpe"))
    assert "chosen by tpe, which looks at results" in export(chosen, "latex", "summary")
    assert "adaptive: no claim" in export(chosen, "markdown", "comparisons")


@pytest.mark.parametrize("form", ["latex", "markdown"])
@pytest.mark.parametrize("name", PRINTED)
@pytest.mark.parametrize("keep", [0, 1])
def test_almost_no_trials_give_a_table(build, form, name, keep):
    assert "n/a" in export(build(keep=keep), form, name)


def test_one_method_has_nothing_to_compare(build):
    text = export(build(methods=("ns",), confirmatory=()), "latex", "comparisons")
    assert body(text) == []


@pytest.fixture
def stating(results):
    """The same results with a claim that holds, one that was stated late, and one that was taken out."""
    claim = read_claim(
        {
            "id": "first",
            "statement": "ns+gp1 survives more.",
            "source": "us",
            "measures": ["log_auc"],
            "methods": ["ns+gp1", "ns"],
            "tasks": ["ring8"],
            "direction": "higher",
            "margin": 0.0,
        }
    )
    late = dataclasses.replace(claim, id="late")
    stated = (
        Registered("first", "claims", 0, claim),
        Registered("late", "claims", 9, late),
        Registered("gone", "claims", 0, None, 7),
    )
    return dataclasses.replace(results, claims=stated)


def test_claims_are_printed_with_the_number_that_decided(stating):
    found = body(export(stating, "latex", "claims"))
    number = table(compare_all(stating)).set_index(["task", "first", "second"]).loc[("ring8", "ns+gp1", "ns")]
    assert [row[0] for row in found] == ["first", "late", "gone"]
    assert [row[1] for row in found] == ["before the run", "after the fact", "withdrawn"]
    assert found[0][3] == "ring8"
    assert found[0][4] == "log auc of ns+gp1 minus ns on ring8*"
    assert float(found[0][5].partition(" ")[0]) == pytest.approx(number["log_auc_difference"], rel=1e-3)
    assert [bool(row[6]) for row in found] == [True, False, False]
    assert [row["claim"] for row in rows(export(stating, "csv", "claims"))] == ["first", "late", "gone"]


def test_every_number_that_a_claim_was_checked_by_has_its_interval(stating):
    claim = read_claim(
        {"id": "both", "statement": "x.", "source": "us", "measures": ["log_auc", "success"], "margin": 0.0}
        | {"methods": ["ns+gp1", "ns"], "tasks": ["ring8", "fd_digits"], "direction": "higher"}
    )
    several = dataclasses.replace(stating, claims=(Registered("both", "claims", 0, claim),))
    found = rows(export(several, "csv", "claims"))
    assert [(row["task"], row["number"].partition(" of ")[0]) for row in found] == [
        *(("ring8", "log auc"), ("fd_digits", "log auc"), ("ring8", "success"), ("fd_digits", "success"))
    ]
    assert all(float(row["low"]) < float(row["value"]) < float(row["high"]) for row in found)
    assert [row["decides"] for row in found].count("True") == 1
    printed = body(export(several, "latex", "claims"))
    assert all(re.search(r"\[.+, .+\]$", row[5]) for row in printed)
    assert [bool(row[2]) for row in printed] == [bool(row[6]) for row in printed]


def test_of_a_search_the_numbers_of_claims_have_no_brackets(stating):
    chosen = dataclasses.replace(stating, plan=stating.plan.assign(sampler="tpe"))
    text = export(chosen, "latex", "claims")
    assert "[" not in "".join(row[5] for row in body(text))
    assert "without intervals" in text


def test_the_caption_names_the_ranges_of_the_prior(results):
    share = (results.plan["point"] * 0.618) % 1.0
    drawn = dataclasses.replace(
        results,
        plan=results.plan.assign(lr_g=10 ** (3 * share - 4), lr_d=10 ** (3 * share - 4)),
        prior="lucic_wide with its own lr",
        domains={"lr": LogUniform(1e-4, 1e-1), "beta1": Uniform(0.0, 0.95)},
    )
    for form in ("latex", "markdown"):
        text = export(drawn, form, "summary").replace("\\", "")
        assert "prior lucic_wide, lr 0.0001 to 0.1 (logarithmic) (sobol 8x4 points)" in text
        assert " own" not in text


def test_a_sweep_that_states_nothing_has_no_claims_to_print(results):
    assert body(export(results, "latex", "claims")) == []


# LaTeX


@pytest.mark.parametrize("name", PRINTED)
def test_latex_is_balanced_and_every_row_is_as_long_as_the_head(results, name):
    text = export(results, "latex", name)
    assert re.findall(r"\\(?:begin|end)\{(\w+)\}", text) == ["table", "tabular", "tabular", "table"]
    assert len(re.findall(r"(?<!\\)\{", text)) == len(re.findall(r"(?<!\\)\}", text))
    assert text.count("$") % 2 == 0
    width = len(re.search(r"\{@\{\}(l+)@\{\}\}", text)[1])
    assert {len(row) for row in body(text)} == {width}
    assert text.count(r"\addlinespace") == 1  # between the two tasks
    assert re.search(r"(?<![\\])[%&#_](?! needs)", re.sub(r" & ", "", text.partition("\n")[2])) is None


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a_b & 5 % #1", r"a\_b \& 5 \% \#1"),
        ("{x}$^~\\", r"\{x\}\$\textasciicircum{}\textasciitilde{}\textbackslash{}"),
        ("a < b <= c > d|e", r"a $<$ b $\le$ c $>$ d\textbar{}e"),
        ("-.05 [-.10, .00]", "$-$.05 [$-$.10, .00]"),
        ("manifold-d2 1e-3", "manifold-d2 1e-3"),
        ("∞", r"$\infty$"),
    ],
)
def test_every_sign_is_shown_as_it_is(text, shown):
    assert escaped(text) == shown


def test_a_row_that_begins_with_a_bracket_is_no_option_of_the_line_before():
    text = latex(Paper("a b/c", "x", ("A", "B"), (("x", "1"), ("[y]", "2"))))
    assert r"{}[y] & 2 \\" in text
    assert r"\label{tab:a-b-c}" in text


def test_markdown_keeps_bars_inside_cells_and_signs_inside_captions():
    text = markdown(Paper("n", "a_b *c* [d]", ("A", "B"), (("x|y", "1"),)))
    assert text.splitlines() == ["| A | B |", "| --- | --- |", r"| x\|y | 1 |", "", r"a\_b \*c\* \[d]"]


# Names


@pytest.mark.parametrize(
    ("form", "name", "words"),
    [
        ("xml", "summary", "unknown form 'xml': choose from csv, latex, markdown"),
        ("csv", "summery", "unknown table 'summery': choose from summary, "),
        ("latex", "trials", "a table of trials has too many rows to print: export it as csv, or choose from summary, "),
    ],
)
def test_what_does_not_exist_is_refused_with_what_does(results, form, name, words):
    with pytest.raises(UserError, match=words):
        export(results, form, name)


def test_every_table_has_a_tidy_form(results):
    assert set(FORMS) == {"csv", "latex", "markdown"}
    for name in TABLES:
        assert export(results, "csv", name).count("\n") > 1 or name == "claims"
    assert set(rows(export(results, "csv", "summary"))[0]) == set(COLUMNS)

"""Of a sweep whose sampler looked at results, no output states an interval, a band or a p-value about the prior."""

import csv
import dataclasses
import html
import io
import json
import re

import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text

from analysis import report
from analysis.collection import Runs
from analysis.comparisons import ADAPTIVE, EVERY_PAIR, compare_all, compare_pair, table
from analysis.explorer import explorer
from analysis.export import TABLES, export
from analysis.figures.table import FIGURES
from analysis.intervals import Estimate
from analysis.pair_report import data, pair_reports
from analysis.pair_words import paragraph, rows
from analysis.questions import verdicts
from analysis.report import write_report
from analysis.summary import summary
from study.claim_forms import read_claim
from study.errors import UserError
from study.statements import Registered

TASK = "manifold-d2"
FIRST, SECOND = "ns+gp1", "ns"

INFERENCE = re.compile(r"(^|_)(low|high|half_width|null|p|p_value|p_adjusted|p_discovery)$|^p_")
"""Names of columns, keys and attributes that hold an end of an interval, the width of a band, or a p-value."""

OTHERS = ("anchor_low", "anchor_high", "bounds_low", "bounds_high", "x_low", "x_high", "y_low", "y_high")
"""Names that end alike: anchors of the log-AUC, what undecided trials can still change, and sides of a map's cells."""

PLACES = ("low", "high", "bin", "upper", "rising")
"""Ends of a bin along a hyperparameter, and quantiles of trials in the tables of `spread` and `trajectories`."""

WRITTEN = (
    r"[-+]?\d?\.\d+ \[\s*-?[\d.]",  # an interval behind its value
    r"\bp [<=]",
    r"\bband \+-",
    r"with \d+ % power",
)
"""What an interval, a p-value, a band and a power look like in text."""

QUESTIONS = {
    "summary": lambda runs: runs.summary(),
    "profile": lambda runs: runs.profile(),
    "profile_dkw": lambda runs: runs.profile(band="dkw"),
    "success": lambda runs: runs.success(),
    "log_auc": lambda runs: runs.log_auc(),
    "compare": lambda runs: runs.compare(),
    "pair": lambda runs: runs.compare(FIRST, SECOND),
    "other_pair": lambda runs: runs.compare("wgan+gp1", SECOND),
    "range": lambda runs: runs.sensitivity("lr"),
    "levels": lambda runs: runs.sensitivity("n_critic", SECOND),
    "importance": lambda runs: runs.importance(),
    "map": lambda runs: runs.map("lr", "beta1"),
    "learning": lambda runs: runs.learning(),
    "spread": lambda runs: runs.spread(),
    "region": lambda runs: runs.region(),
    "claims": lambda runs: runs.claims(),
}
REFUSED = {
    "difference": lambda runs: runs.difference(FIRST, SECOND),
    "parts": lambda runs: runs.parts(FIRST, SECOND),
    "budget": lambda runs: runs.budget(),
    "tunability": lambda runs: runs.tunability(),
    "stochastic_order": lambda runs: runs.stochastic_order(FIRST, SECOND),
    "performance_score": lambda runs: runs.performance_score(),
}


def claims():
    stated = {"statement": "It survives more.", "source": "us", "methods": [FIRST, SECOND], "tasks": [TASK]}
    stated |= {"measures": ["log_auc"], "margin": 0.0}
    forms = [stated | {"id": name, "direction": name} for name in ("higher", "lower")]
    return tuple(Registered(form["id"], "claims", 0, read_claim(form)) for form in forms)


def make(build, *, sampler="tpe", **options):
    """Results with a learning rate, two n_critic, two seeds, claims and a history, chosen by a search."""
    found = build(critics=(1, 5), seeds=2, **options)
    rate = 10 ** (-4 + 2 * found.plan["point"].to_numpy(dtype=float) / found.plan["point"].nunique())
    plan = found.plan.assign(lr_g=rate, lr_d=rate, beta1=np.sin(rate * 4e3) ** 2, sampler=sampler)
    ended = found.trials[["trial_id", "task", "method", "primary"]]
    frames = []
    for index in range(10):
        steps = dict.fromkeys(("generator_steps", "discriminator_steps"), 100 * (index + 1))
        frames.append(ended.assign(evaluation=index, **steps, grad_norm_d=1.0, grad_norm_g=1.0))
    history = pd.concat(frames, ignore_index=True)
    return dataclasses.replace(
        found,
        plan=plan,
        claims=claims(),
        read_history=lambda names: history[list(names)] if names else history,
    )


@pytest.fixture(scope="module")
def results(build):
    return make(build)


@pytest.fixture(scope="module")
def unlooked(build):
    """The same, drawn from the prior: what the checks have to find intervals in."""
    return make(build, sampler="sobol")


@pytest.fixture(scope="module")
def runs(results):
    return Runs({"only": results})


def known(value):
    """The numbers in a value, however nested, that are not NaN."""
    if value is None or isinstance(value, str):
        return []
    if isinstance(value, dict):
        return [number for item in value.values() for number in known(item)]
    if isinstance(value, list | tuple | np.ndarray | pd.Series):
        return [number for item in value for number in known(item)]
    return [value] if value == value else []


def inferred(found, at=""):
    """Where in tables, data and dataclasses, however nested, a number stands that is an inference."""
    if dataclasses.is_dataclass(found):
        found = {field.name: getattr(found, field.name) for field in dataclasses.fields(found)}
    if isinstance(found, pd.DataFrame):
        places = PLACES[:2] if set(PLACES[2:]) & set(found.columns) else ()
        found = {name: column.tolist() for name, column in found.items() if name not in places}
    if isinstance(found, list | tuple):
        return [place for index, item in enumerate(found) for place in inferred(item, f"{at}[{index}]")]
    if not isinstance(found, dict):
        return []
    here = [
        f"{at}.{name}"
        for name, value in found.items()
        if name not in OTHERS and INFERENCE.search(str(name)) and known(value)
    ]
    return here + [place for name, value in found.items() for place in inferred(value, f"{at}.{name}")]


def written(text):
    return [match.group() for pattern in WRITTEN for match in re.finditer(pattern, text)]


# ---- the checks see what they look for


def test_the_checks_find_what_is_there_where_configurations_are_draws(unlooked):
    asked = Runs({"only": unlooked})
    for name in QUESTIONS:
        answer = QUESTIONS[name](asked)
        assert inferred(answer.frame()), name
        if answer.items and name != "region":
            assert inferred(answer.items), name
    for found in (summary(unlooked), table(compare_all(unlooked)), verdicts(unlooked)):
        assert inferred(found)
    (pair,) = pair_reports(unlooked, FIRST, SECOND)
    assert inferred(data(pair))
    assert written(paragraph(pair))
    for name in ("summary", "comparisons", "claims"):
        assert written(export(unlooked, "markdown", name).replace("\\", "")), name


def test_the_check_of_texts_knows_an_interval_from_its_absence():
    assert written("log-AUC .52 [.40, .64]") == [".52 [."]
    assert written("+.30 [-.26, .34]; p = .012; band +-.21; with 80 % power")
    assert written(".52 [no interval]; 2 of 4; (no interval: configurations chosen by a search)") == []


# ---- tables


def test_the_summary_and_the_comparisons_describe(results):
    for found in (summary(results), table(compare_all(results))):
        assert inferred(found) == []
    compared = table(compare_all(results))
    assert compared["log_auc_difference"].notna().all()
    assert compared["log_auc_difference_method"].eq("no interval: configurations chosen by a search").all()
    best = compared[[name for name in compared.columns if name.startswith("best_")]]
    assert best.isna().all(axis=None)


def test_a_comparison_describes_and_has_no_best_of_a_few(results):
    for item in (*compare_all(results), compare_pair(results, TASK, SECOND, FIRST)):
        assert inferred(item) == []
        assert (item.best, item.verdict) == ((), ADAPTIVE)


@pytest.mark.parametrize("name", [name for name in TABLES if name != "trials"])
@pytest.mark.parametrize("form", ["csv", "latex", "markdown"])
def test_exports_describe(results, name, form):
    text = export(results, form, name)
    assert "[n/a" not in text
    assert form == "csv" or "95 %" not in text.replace("\\", "")
    if form == "csv":
        rows = list(csv.DictReader(io.StringIO(text)))
        assert rows
        frame = pd.DataFrame([{key: float("nan") if cell == "" else cell for key, cell in row.items()} for row in rows])
        assert inferred(frame) == []
    else:
        assert written(text.replace("\\", "").replace("$", "")) == []


# ---- questions


@pytest.mark.parametrize("name", QUESTIONS)
def test_every_answer_describes(runs, name):
    answer = QUESTIONS[name](runs)
    assert inferred(answer.frame()) == []
    assert inferred(answer.items) == []
    assert "chosen by tpe, which looks at results" in answer.setting
    assert answer.plot() is not None


@pytest.mark.parametrize("name", REFUSED)
def test_what_only_a_prior_has_is_refused(runs, name):
    with pytest.raises(UserError, match=r"there is no .*: the configurations were chosen by tpe"):
        REFUSED[name](runs)


def test_every_question_is_asked_here():
    asked = {name for name, value in vars(Runs).items() if callable(value) and not name.startswith("_")}
    assert asked == ({*QUESTIONS, *REFUSED} - {"profile_dkw", "pair", "other_pair", "range", "levels"}) | {
        "sensitivity"
    }


def test_a_pair_outside_the_table_is_described_too(build):
    methods = tuple(f"m{index:02d}" for index in range(EVERY_PAIR + 1))
    found = build(methods=methods, replicates=2, confirmatory=())
    searched = dataclasses.replace(found, plan=found.plan.assign(sampler="tpe"))
    assert {"m05", "m09"} not in [{item.first, item.second} for item in compare_all(searched)]
    (item,) = Runs({"only": searched}).compare("m05", "m09").items
    assert inferred(item) == []
    assert (item.verdict, item.setting != "") == (ADAPTIVE, True)
    (drawn,) = Runs({"only": found}).compare("m05", "m09").items
    assert inferred(drawn) != []


# ---- claims


def test_claims_are_told_without_intervals_and_p(results):
    found = verdicts(results)
    assert [item.verdict for item in found] == ["inconclusive"] * 2
    assert inferred(found) == []
    assert all(
        item.deciding in item.findings and item.deciding.estimate.value == item.findings[0].estimate.value
        for item in found
    )


# ---- two methods


def test_two_methods_are_told_without_intervals(results):
    (pair,) = pair_reports(results, FIRST, SECOND)
    assert inferred(data(pair)) == []
    assert [data(pair)["detectable"][name] for name in ("success", "log_auc")] == [None, None]
    assert written(paragraph(pair)) == []
    assert "best score" not in paragraph(pair)
    cells = [cell for row in rows(pair) for cell in row.values()]
    assert written(" | ".join(cells)) == []
    assert not any("best of" in cell for cell in cells)


# ---- figures


@pytest.mark.parametrize("name", FIGURES)
def test_figures_and_their_captions_describe(results, unlooked, name):
    numbers = FIGURES[name].numbers(results)
    assert inferred(numbers) == []
    if len(numbers):
        caption = FIGURES[name].caption(results)
        assert "95 %" not in caption
        assert "of the prior" not in caption
    assert FIGURES[name].caption(unlooked) == FIGURES[name].alt


@pytest.mark.parametrize("name", ["spread", "sensitivity", "n_critic", "success_map", "importance", "differences"])
def test_figures_have_inferences_where_configurations_are_draws(unlooked, name):
    assert inferred(FIGURES[name].numbers(unlooked))


@pytest.mark.parametrize("name", ["spread", "sensitivity", "n_critic", "success_map", "importance", "success"])
def test_what_is_drawn_of_a_search_says_nothing_of_intervals(results, name):
    picture = FIGURES[name]
    figure = picture.draw(picture.numbers(results))
    said = [text.get_text() for text in figure.findobj(Text)]
    assert not [text for text in said if "95 %" in text or "n/a" in text or "[" in text.replace("[no interval]", "")]


# ---- the report


@pytest.fixture(scope="module")
def page(results, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "FIGURES", {})
        paths = write_report(results, tmp_path_factory.mktemp("report"))
    return paths


def test_the_report_and_its_tables_describe(page):
    text = page.html.read_text(encoding="utf-8")
    shown = html.unescape(re.sub(r"<(style|script).*?</\1>", "", text, flags=re.DOTALL))
    shown = shown.partition('<section id="reading">')[0]
    assert written(re.sub(r"<[^>]*>", "", shown)) == []
    assert "[no interval]" in shown
    assert "Wilson" not in shown
    for path in (page.summary, page.comparisons):
        assert inferred(pd.read_csv(path)) == []


def test_the_explorer_is_told_that_there_is_no_interval(results, unlooked, page):
    assert [one["adaptive"] for one in explorer(results)] == ["tpe"]
    assert [one["adaptive"] for one in explorer(unlooked)] == [None]
    text = page.html.read_text(encoding="utf-8")
    (embedded,) = re.findall(r'<script type="application/json">(.*?)</script>', text)
    assert json.loads(embedded)["adaptive"] == "tpe"


def test_an_estimate_is_what_the_checks_look_through():
    assert inferred(Estimate(0.5, 0.4, 0.6, 8, "t", 0.2), "e") == ["e.low", "e.high", "e.p_value"]
    assert inferred(Estimate(0.5, float("nan"), float("nan"), 8, "no interval")) == []

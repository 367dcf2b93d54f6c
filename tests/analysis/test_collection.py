import dataclasses

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from analysis import budgets, comparisons, profiles, summary
from analysis.answers import Answer, Look
from analysis.collection import Runs
from analysis.figures import style, table
from analysis.figures.curves import profile_numbers
from analysis.figures.single import plot
from analysis.outcomes import sample
from analysis.questions import SEED
from study.claim_forms import read_claim
from study.errors import UserError
from study.statements import Registered

TASK = "manifold-d2"
ASKED = {
    "summary": lambda runs: runs.summary(),
    "profile": lambda runs: runs.profile("ns+gp1", "wgan+gp1"),
    "success": lambda runs: runs.success(),
    "log_auc": lambda runs: runs.log_auc("ns"),
    "compare": lambda runs: runs.compare(),
    "pair": lambda runs: runs.compare("ns+gp1", "wgan+gp1"),
    "difference": lambda runs: runs.difference("ns+gp1", "ns"),
    "parts": lambda runs: runs.parts("ns+gp1", "ns"),
    "budget": lambda runs: runs.budget(),
    "range": lambda runs: runs.sensitivity("lr"),
    "levels": lambda runs: runs.sensitivity("n_critic", "ns"),
    "importance": lambda runs: runs.importance("ns+gp1"),
    "learning": lambda runs: runs.learning(),
    "spread": lambda runs: runs.spread(),
    "region": lambda runs: runs.region(),
}
"""Every question, asked once."""


def varied(results):
    """The same results with a learning rate that decides, a second number, and a history of two evaluations."""
    place = results.plan["point"].to_numpy(dtype=float) / results.plan["point"].nunique()
    plan = results.plan.assign(lr_g=10 ** (-4 + 2 * place), lr_d=10 ** (-4 + 2 * place), beta1=np.sin(place * 40) ** 2)
    return dataclasses.replace(results, plan=plan, prior="synthetic", read_history=history(results))


def history(results):
    def read(columns):
        ended = results.trials[["trial_id", "task", "method", "primary"]]
        frames = [
            ended.assign(evaluation=i, generator_steps=100 * (i + 1), discriminator_steps=100 * (i + 1))
            for i in range(10)
        ]
        whole = pd.concat(frames, ignore_index=True)
        return whole if columns is None else whole.reindex(columns=list(columns))

    return read


@pytest.fixture(scope="module")
def results(build):
    return varied(build(critics=(1, 5), seeds=2))


@pytest.fixture(scope="module")
def runs(results):
    return Runs({"only": results})


@pytest.mark.parametrize("name", ASKED)
def test_every_question_has_a_table_and_a_plot(runs, name):
    answer = ASKED[name](runs)
    frame = answer.frame()
    assert len(frame) > 0
    assert "task" in frame.columns
    assert f"On {TASK}: budget 1000 generator_steps, prior synthetic (sobol 8x4 points)" in answer.setting
    axes = answer.plot()
    assert axes.has_data()
    assert axes.get_xlabel()


@pytest.mark.parametrize("name", ASKED)
def test_the_same_question_has_the_same_answer_in_any_row_order(results, runs, name):
    shuffled = dataclasses.replace(results, trials=results.trials.sample(frac=1, random_state=3))
    first, second = ASKED[name](runs).frame(), ASKED[name](Runs({"only": shuffled})).frame()
    pd.testing.assert_frame_equal(first, second)


@pytest.mark.parametrize("name", ASKED)
def test_a_frame_may_be_changed(runs, name):
    answer = ASKED[name](runs)
    frame = answer.frame()
    frame.loc[0, "task"] = "other"
    del frame["task"]
    assert set(answer.frame()["task"]) == {TASK}


def test_the_bands_are_those_of_the_report(runs, results):
    assert SEED == table.SEED
    numbers = profile_numbers(results, rng=np.random.default_rng(SEED))
    found = runs.profile("ns+gp1").frame()
    rows = numbers[(numbers["task"] == TASK) & (numbers["method"] == "ns+gp1")]
    for name in ("tau", "fraction", "low", "high"):
        np.testing.assert_allclose(found[name], rows[name])


def test_a_methods_band_does_not_depend_on_which_others_are_asked_for(runs):
    alone, among = runs.profile("wgan+gp1").frame(), runs.profile("ns", "wgan+gp1").frame()
    among = among[among["method"] == "wgan+gp1"].reset_index(drop=True)
    pd.testing.assert_frame_equal(alone, among)


def test_a_given_generator_decides_what_is_drawn(runs):
    first, again, other = (
        runs.profile("ns", rng=np.random.default_rng(seed)).frame()["high"].tolist() for seed in (1, 1, 2)
    )
    assert first == again != other


def test_the_numbers_are_those_of_the_statistics(runs, results):
    outcomes, facts = results.outcomes(TASK), results.facts(TASK)
    drawn = sample(outcomes[outcomes["method"] == "ns"])
    assert runs.success("ns").items == (profiles.success(drawn, facts.threshold),)
    assert runs.log_auc("ns").items == (profiles.log_auc(drawn, low=facts.anchor_low, high=facts.anchor_high),)
    curve = budgets.budget_curve(drawn, facts, np.random.default_rng(SEED))
    np.testing.assert_array_equal(runs.budget("ns").frame()["score"], curve.score)
    assert runs.compare().items == comparisons.compare_task(results, TASK)
    whole = runs.summary().frame().drop(columns="order")
    pd.testing.assert_frame_equal(whole, summary.summary(results))


def test_a_pair_in_either_order_is_the_declared_comparison_with_its_verdict(runs):
    found = [runs.compare(*names).items for names in (("ns+gp1", "wgan+gp1"), ("wgan+gp1", "ns+gp1"))]
    assert found[0] == found[1]
    assert (found[0][0].first, found[0][0].verdict is not None) == ("ns+gp1", True)


def apart(results, *methods):
    """The same results with configurations of their own for some methods."""
    own = results.plan["config"].where(~results.plan["method"].isin(methods), results.plan["method"] + "'s")
    return dataclasses.replace(results, plan=results.plan.assign(config=own + results.plan["config"]))


@pytest.mark.parametrize("methods", [("ns", "ns+gp1"), ("ns+gp1", "wgan+gp1"), ()])
def test_methods_that_share_no_configuration_are_a_sentence(build, methods):
    runs = Runs({"a": apart(build(), "ns", "wgan+gp1")})
    with pytest.raises(UserError, match=f"^{TASK}: '.*' and '.*' share no configuration and seed: they cannot be"):
        runs.compare(*methods)


def test_methods_of_an_adaptive_sweep_that_share_no_configuration_are_a_sentence_too(build):
    found = apart(build(), "ns", "wgan+gp1")
    runs = Runs({"a": dataclasses.replace(found, plan=found.plan.assign(sampler="tpe"))})
    with pytest.raises(UserError, match=f"^{TASK}: 'ns' and 'ns\\+gp1' share no configuration and seed"):
        runs.compare("ns", "ns+gp1")
    assert [item.pairs for item in runs.compare().items] == [0]


def test_success_along_a_hyperparameter_counts_every_decided_point(runs):
    frame = runs.sensitivity("lr").frame()
    assert set(frame["axis"]) == {"lr"}
    assert frame.groupby("method")["points"].sum().to_dict() == dict.fromkeys(("ns", "ns+gp1", "wgan+gp1"), 32)


# What is not clear is asked back


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda runs: runs.profile("wgan-gp"), "unknown method of manifold-d2 'wgan-gp': choose from wgan"),
        (lambda runs: runs.success(task="digits"), "unknown task 'digits': choose from manifold-d2"),
        (lambda runs: runs.success(run="other"), "unknown run 'other': choose from only"),
        (lambda runs: runs.sensitivity("lrr"), "unknown varied hyperparameter 'lrr': choose from lr, "),
        (lambda runs: runs.compare("ns"), "compare takes two methods, or none for all pairs, got ns"),
        (lambda runs: runs.importance(value="loss"), "unknown value 'loss': choose from "),
    ],
)
def test_a_wrong_name_is_one_sentence_with_what_exists(runs, ask, words):
    with pytest.raises(UserError, match=words) as caught:
        ask(runs)
    assert "\n" not in str(caught.value)


def test_with_several_tasks_or_runs_one_has_to_be_named(build):
    results = build(tasks=("ring8", "digits"))
    runs = Runs({"a": results, "b": results})
    with pytest.raises(UserError, match="run= has to be given, as there are 2: a, b"):
        runs.profile("ns")
    with pytest.raises(UserError, match="task= has to be given, as there are 2: ring8, digits"):
        runs.profile("ns", run="b")
    assert set(runs.profile("ns", run="b", task="digits").frame()["task"]) == {"digits"}
    assert set(runs.summary(run="a").frame()["task"]) == {"ring8", "digits"}
    assert set(runs.summary(run="a", task="ring8").frame()["task"]) == {"ring8"}
    assert (runs.tasks, runs.methods) == (("ring8", "digits"), results.methods)


# What a reader must know


def test_an_adaptive_sweep_an_unfinished_one_and_a_notice_are_said(build):
    results = build(keep=90, notice="Only a look")
    assert "6 of 96 planned trials have no result yet: interim. Only a look." in Runs({"a": results}).success().setting
    chosen = dataclasses.replace(results, plan=results.plan.assign(sampler="tpe"))
    assert "The configurations were chosen by tpe, which looks at results" in Runs({"a": chosen}).success().setting


def test_an_adaptive_sweep_is_described_without_intervals_and_asked_nothing_of_a_prior(results):
    runs = Runs({"a": dataclasses.replace(results, plan=results.plan.assign(sampler="tpe"))})
    for answer in (runs.success(), runs.log_auc(), runs.profile()):
        frame = answer.frame()
        assert frame[["low", "high"]].isna().all(axis=None)
        assert frame["interval"].str.contains("chosen by tpe").all()
        assert answer.plot().has_data()
    assert runs.sensitivity("lr").items == ()
    assert not any(item.found for item in runs.region().items)
    for ask in ("difference", "parts", "budget"):
        with pytest.raises(UserError, match=r"there is no .*: the configurations were chosen by tpe, which looks at"):
            ASKED[ask](runs)


@pytest.mark.parametrize("name", ["summary", "profile", "success", "log_auc", "compare", "difference", "budget"])
@pytest.mark.parametrize("keep", [0, 1])
def test_almost_no_trials_give_an_answer_and_a_plot(build, name, keep):
    answer = ASKED[name](Runs({"a": varied(build(keep=keep))}))
    assert answer.plot() is not None


@pytest.mark.parametrize("name", ["summary", "profile", "success", "compare", "difference", "budget", "spread"])
def test_all_failed_is_an_answer_too(build, replaced, name):
    answer = ASKED[name](Runs({"a": varied(replaced(build(), "diverged", np.nan))}))
    assert answer.plot() is not None


def test_an_answer_is_text_and_html_with_its_setting(runs):
    answer = runs.success("ns")
    assert repr(answer) == str(answer)
    assert str(answer).splitlines()[:2] == ["Success fraction: w2sq <= 0.2", answer.setting]
    html = answer._repr_html_()
    assert "Success fraction: w2sq &lt;= 0.2" in html
    assert answer.setting in html
    assert html.count("<table") == 2


def test_a_claim_has_its_verdict_and_the_number_that_decided(results):
    stated = {"id": "c", "statement": "It survives more.", "source": "us", "measures": ["log_auc"]}
    stated |= {"methods": ["ns+gp1", "ns"], "tasks": [TASK], "direction": "higher", "margin": 0.0}
    claim = Registered("c", "claims", 0, read_claim(stated))
    answer = Runs({"a": dataclasses.replace(results, claims=(claim,))}).claims()
    (row,) = answer.frame().to_dict("records")
    (verdict,) = answer.items
    assert (row["claim"], row["verdict"], row["value"]) == ("c", verdict.verdict, verdict.deciding.estimate.value)
    assert answer.plot().has_data()
    assert len(Runs({"a": results}).claims().frame()) == 0


def test_runs_say_how_far_they_are(build):
    assert repr(Runs({"a": build(keep=90), "b": build()})) == "Runs(a: 90 of 96 trials, b: 96 of 96 trials)"


def test_runs_count_what_a_search_has_still_to_ask_for(build):
    found = dataclasses.replace(build(keep=90), unasked={("manifold-d2", "ns"): 4})
    assert repr(Runs({"a": found})) == "Runs(a: 90 of 100 trials)"


# Drawing


LOOK = Look("dots", "value", "low", "high", ("name",), "numbers")


def test_given_axes_are_drawn_into_and_given_back(runs):
    figure = Figure()
    left, right = figure.subplots(1, 2)
    assert runs.profile().plot(left) is left
    assert runs.success().plot(right) is right
    assert (left.get_xscale(), right.get_xscale()) == ("log", "linear")
    assert figure.axes == [left, right]


def test_drawing_leaves_the_settings_of_matplotlib_alone(runs):
    before = dict(mpl.rcParams)
    runs.profile().plot()
    assert dict(mpl.rcParams) == before


def test_a_method_has_the_colour_of_the_report_whoever_else_is_drawn(runs):
    alone, all_of_them = runs.profile("wgan+gp1").plot(), runs.profile().plot()
    colours = {line.get_label(): line.get_color() for line in all_of_them.get_lines()}
    assert alone.get_lines()[0].get_color() == colours["wgan+gp1"] == style.colour(1)


def test_the_dots_are_the_numbers_and_a_missing_interval_is_no_interval():
    frame = pd.DataFrame({"name": ["a", "$b$"], "value": [0.2, 0.4], "low": [0.1, np.nan], "high": [0.3, np.nan]})
    axes = plot(frame, LOOK)
    bars, dots = axes.get_lines()[0::2], axes.get_lines()[1::2]
    assert [float(dot.get_xdata()[0]) for dot in dots] == [0.2, 0.4]
    assert list(bars[0].get_xdata()) == [0.1, 0.3]
    assert np.isnan(np.asarray(bars[1].get_xdata(), dtype=float)).all()
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", r"\$b\$"]


def test_a_band_ends_where_there_is_no_interval():
    columns = {"name": "a", "x": [1.0, 2.0, 4.0], "value": [0.1, 0.2, 0.3]}
    frame = pd.DataFrame(columns | {"low": [0.0, 0.1, np.nan], "high": [0.2, 0.3, np.nan]})
    axes = plot(frame, Look("lines", "value", "low", "high", ("name",), "y", along="x", along_label="x", log=True))
    (band,) = axes.collections
    assert band.get_paths()[0].vertices[:, 0].max() == 2.0
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "2", "4"]


def test_nothing_to_show_is_said():
    empty = Answer("q", "s", (), pd.DataFrame(columns=["name", "value", "low", "high"]), LOOK)
    assert [text.get_text() for text in empty.plot().texts] == ["nothing to show"]

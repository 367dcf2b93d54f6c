"""Profiles beside controls, budget curves, spread and checkpoints: their numbers, and what is drawn of them."""

import math

import matplotlib as mpl
import numpy as np
import pytest

from analysis import budgets, profiles, variance
from analysis.figures import curves, style
from analysis.figures.table import FIGURES
from analysis.outcomes import sample
from analysis.results import Reference, Results

TASK = "manifold-d2"
TWELVE = tuple(f"loss{i}+penalty{i}@technique" for i in range(12))
NAMES = ("controls", "budgets", "spread", "checkpoints")
CONTROLS = (
    Reference("real", 0.01, "pass"),
    Reference("at the data", 0.0, "pass"),
    Reference("collapsed", 1.0, "fail"),
    Reference("one $mode$", 1e9, "fail"),
    Reference("wide", 0.15, None),
)


@pytest.fixture(scope="module")
def rich(build):
    """A function making results that every figure here has something to show of."""

    def make(*, sampler=None, **design):
        found = build(**{"seeds": 2, "confirmatory": (), **design})
        tail = found.trials["primary"]
        trials = found.trials.assign(primary_last=1.5 * tail, primary_best=0.5 * tail)
        plan = found.plan.assign(sampler=sampler) if sampler else found.plan
        return Results(found.name, plan, trials, (), None, references=dict.fromkeys(found.tasks, CONTROLS))

    return make


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "design",
    [
        {},
        {"keep": 0},
        {"keep": 12, "tasks": ("a", "b", "c")},
        {"methods": TWELVE, "points": 1},
        {"methods": ("$x$",), "tasks": ("$t",), "replicates": 1, "points": 2},
        {"tasks": ("a", "b", "c", "d", "e", "f")},
    ],
)
def test_every_figure_can_be_drawn(rich, name, design):
    picture = FIGURES[name]
    numbers = picture.numbers(rich(**design))
    if len(numbers):
        figure = style.draw(picture, numbers)
        assert style.render(figure, "svg").startswith(b"<?xml")
        assert figure.get_figheight() < 6 * len(style.task_order(numbers)) + 1


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("status", ["diverged", "stopped"])
def test_every_figure_can_be_drawn_when_nothing_finished(rich, replaced, name, status):
    failing = replaced(rich(), status, np.nan)
    failing = Results("f", failing.plan, failing.trials, (), None, references={TASK: CONTROLS})
    numbers = FIGURES[name].numbers(failing)
    if len(numbers):
        style.render(style.draw(FIGURES[name], numbers), "svg")


# ---- profiles and controls


def test_controls_stand_beside_the_profiles(rich):
    results = rich()
    numbers = FIGURES["controls"].numbers(results)
    named = numbers[numbers["control"].notna()]
    assert list(named["control"]) == [one.name for one in CONTROLS]
    assert list(named["must"]) == ["pass", "pass", "fail", "fail", "either"]
    assert list(named["tau"]) == [one.value for one in CONTROLS]
    plain = FIGURES["profiles"].numbers(results)
    drawn = numbers[numbers["control"].isna()].reset_index(drop=True)
    np.testing.assert_array_equal(drawn[["tau", "fraction"]], plain[["tau", "fraction"]])
    assert drawn["half_width"].isna().all()


def test_without_controls_there_is_no_such_figure(build):
    assert FIGURES["controls"].numbers(build()).empty


def test_a_control_beyond_the_panel_stands_at_its_edge(rich):
    profile, strip = style.draw(FIGURES["controls"], FIGURES["controls"].numbers(rich())).axes[:2]
    left, right = strip.get_xlim()
    marks = [float(line.get_xdata()[0]) for line in strip.get_lines() if line.get_marker() in {"o", "x", "D"}]
    assert marks == [left, 0.01, 0.15, 1.0, right]
    lines = {float(line.get_xdata()[0]) for line in profile.get_lines() if line.get_drawstyle() == "default"}
    assert {0.01, 0.15, 1.0, 0.2} <= lines  # the controls inside, and the threshold
    assert profile.get_xlim() == (left, right)


def test_an_odd_task_leaves_an_empty_corner(rich):
    figure = style.draw(FIGURES["controls"], FIGURES["controls"].numbers(rich(tasks=("a", "b", "c"))))
    assert [axis.axison for axis in figure.axes] == [True, True, True, True, True, False, True, False]


def test_chosen_configurations_have_a_curve_of_themselves_without_a_band(rich):
    numbers = FIGURES["profiles"].numbers(rich(sampler="tpe"))
    assert set(numbers["band"]) == {"none"}
    axis = style.draw(FIGURES["profiles"], numbers).axes[0]
    assert axis.get_ylabel() == "fraction of the trials of tpe at or below"
    assert not [patch for patch in axis.collections if isinstance(patch, mpl.collections.FillBetweenPolyCollection)]


def test_of_many_steps_an_even_choice_is_kept(ended):
    values = np.random.default_rng(0).lognormal(size=3000)
    results = ended({"m": list(values)}, replicates=1, points=3000)
    curve = FIGURES["profiles"].numbers(results)
    assert len(curve) == curves.STEPS + 1
    trials = sample(results.outcomes(TASK))
    np.testing.assert_allclose(curve["fraction"], profiles.fraction_at(trials, curve["tau"]), atol=1e-12)
    assert curve["fraction"].diff().max() <= 4 / 3000 + 1e-12
    assert (curve["tau"].iloc[0], curve["tau"].iloc[-2]) == (values.min(), values.max())


def test_what_lies_beyond_the_panel_is_said_where_it_does(ended):
    """Of 8 one is right of it, and of the other method none; 1 of 300 is less than a percent."""
    results = ended({"a": [0.1] * 7 + [1e9], "b": [0.1] * 7 + [np.inf]}, replicates=1, points=8)
    axis = style.draw(FIGURES["profiles"], FIGURES["profiles"].numbers(results)).axes[0]
    texts = {text.get_text() for text in axis.texts}
    assert {"a  100 % finish, 12 % beyond", "b  88 % finish"} <= texts
    results = ended({"a": [0.1] * 299 + [1e9]}, replicates=1, points=300)
    axis = style.draw(FIGURES["profiles"], FIGURES["profiles"].numbers(results)).axes[0]
    assert any(text.get_text() == "a  100 % finish, <1 % beyond" for text in axis.texts)


# ---- budgets


def test_where_nothing_succeeds_the_left_panel_says_so(ended):
    for value, said in ((1.0, True), (0.1, False)):
        results = ended({"m": [value] * 16}, replicates=1, points=16)
        left, right = style.draw(FIGURES["budgets"], FIGURES["budgets"].numbers(results)).axes
        assert any(text.get_text() == "no trial succeeded\n(w2sq <= 0.2)" for text in left.texts) == said
        assert not any("no trial" in text.get_text() for text in right.texts)


def test_budget_numbers_are_the_curves(rich):
    results = rich(seeds=1)
    numbers = FIGURES["budgets"].numbers(results)
    outcomes = results.outcomes(TASK)
    for method in results.methods:
        trials = sample(outcomes[outcomes["method"] == method])
        found = budgets.budget_curve(trials, results.facts(TASK), np.random.default_rng(0))
        curve = numbers[numbers["method"] == method]
        assert list(curve["size"]) == [1, 2, 4, 5, 8]
        np.testing.assert_array_equal(curve["score"], found.score)
        np.testing.assert_array_equal(curve["success"], found.success)
        assert curve["needed"].iloc[0] == budgets.needed(profiles.success(trials, 0.2).value)


def test_the_best_of_a_search_is_no_budget_curve(rich):
    assert FIGURES["budgets"].numbers(rich(sampler="tpe")).empty


def test_budget_curves_are_drawn_to_a_quarter_of_the_points(rich):
    results = rich()
    left, right = style.draw(FIGURES["budgets"], FIGURES["budgets"].numbers(results)).axes
    for axis in (left, right):
        drawn = [line for line in axis.get_lines() if line.get_marker() != "None"]
        assert len(drawn) == len(results.methods)
        assert [line.get_color() for line in drawn] == [style.colour(order) for order in range(3)]
        assert all(line.get_xdata().max() == 8 for line in drawn)
    assert next(text.get_text() for text in right.get_yticklabels()).endswith("=  .00")


# ---- spread


def test_spread_by_hand(ended):
    """Four configurations of two seeds: (1, 4), (4, 4), (1, failed), (failed, failed).

    Their medians are 2, 4, failed and failed. Seeds are those of the first two: away from their geometric mean by
    1/2, 2, 1 and 1, in logarithms sqrt(2) times as far, placed at sqrt(2 * 4).
    """
    endings = [1.0, 4.0, 4.0, 4.0, 1.0, np.inf, np.inf, np.inf]
    results = ended({"m": endings}, replicates=1, points=4, seeds=2)
    across, within = FIGURES["spread"].numbers(results).to_dict("records")
    names = ["low", "lower", "middle", "upper", "high"]
    assert [across[name] for name in names] == pytest.approx([2, 2, 4, np.inf, np.inf])
    assert (across["count"], across["failed"], across["configurations"]) == (4, 2, 4)
    place, far = math.sqrt(8), 2 ** math.sqrt(2)
    assert [within[name] for name in names] == pytest.approx([place / far, place / far, place, place, place * far])
    assert (within["count"], within["failed"]) == (4, 1)


def test_spread_carries_the_share_of_the_variance(rich):
    results = rich()
    outcomes = results.outcomes(TASK)
    for method, rows in FIGURES["spread"].numbers(results).groupby("method", sort=False):
        found = variance.components(
            outcomes[outcomes["method"] == method], results.facts(TASK), rng=np.random.default_rng(0)
        )
        assert list(rows["kind"]) == ["configurations", "seeds"]
        assert rows["icc"].iloc[0] == found.icc.value


def test_one_seed_is_no_spread(build):
    assert FIGURES["spread"].numbers(build()).empty


def test_spread_of_values_at_zero_is_drawn(ended):
    results = ended({"m": [0.0, 0.0, 0.1, 0.3]}, replicates=1, points=2, seeds=2)
    numbers = FIGURES["spread"].numbers(results)
    assert numbers["low"].iloc[0] == pytest.approx(0.02 / 100)
    style.render(style.draw(FIGURES["spread"], numbers), "svg")


# ---- checkpoints


def test_checkpoints_by_hand(ended):
    """Success is at most .2: of four the last evaluations .1 .3 .4 failed, the tails .1 .2 .4, the best .1 .1 .1."""
    base = ended({"m": [0.1, 0.2, 0.4, np.inf]}, replicates=1, points=4)
    trials = base.trials.assign(primary_last=[0.1, 0.3, 0.4, np.nan], primary_best=[0.1, 0.1, 0.1, np.nan])
    numbers = FIGURES["checkpoints"].numbers(Results("s", base.plan, trials, (), None))
    assert list(numbers["rule"]) == ["last", "tail", "best"]
    assert list(numbers["success"]) == [0.25, 0.5, 0.75]
    assert list(numbers["median"]) == [0.3, 0.2, 0.1]
    scores = np.log(2 / np.array([[0.1, 0.3, 0.4], [0.1, 0.2, 0.4], [0.1, 0.1, 0.1]])) / math.log(100)
    np.testing.assert_allclose(numbers["log_auc"], scores.sum(axis=1) / 4)


def test_trials_without_all_three_values_are_left_out(ended):
    base = ended({"m": [0.1, 0.4, None, "stopped"]}, replicates=1, points=4)
    trials = base.trials.assign(primary_last=[0.1, np.nan, np.nan], primary_best=[0.1, 0.1, np.nan])
    numbers = FIGURES["checkpoints"].numbers(Results("s", base.plan, trials, (), None))
    assert list(numbers["trials"]) == [1, 1, 1]


def test_tables_without_checkpoints_have_no_such_figure(build):
    assert FIGURES["checkpoints"].numbers(build()).empty


def test_a_dumbbell_has_three_marks(rich):
    results = rich()
    numbers = FIGURES["checkpoints"].numbers(results)
    left, right = style.draw(FIGURES["checkpoints"], numbers).axes
    for axis, column in ((left, "success"), (right, "log_auc")):
        marks = {(line.get_xdata()[0], line.get_marker()) for line in axis.get_lines() if line.get_marker() != "None"}
        expected = zip(
            numbers[column], [{"last": "<", "tail": "o", "best": "D"}[r] for r in numbers["rule"]], strict=True
        )
        assert marks == set(expected)

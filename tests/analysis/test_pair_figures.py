import numpy as np
import pandas as pd
import pytest

from analysis.dominance import profile_difference
from analysis.figures import style
from analysis.figures.differences import draw_profile_differences, profile_difference_numbers
from analysis.figures.forest import MOST, difference_numbers, draw_differences
from analysis.figures.mcnemar import discordance_numbers, draw_discordance
from analysis.figures.table import FIGURES
from analysis.pairing import pair

TASK = "manifold-d2"
TWELVE = tuple(f"loss{i}+penalty{i}@technique" for i in range(12))
SIX = tuple("abcdef")


def differences(results, **options):
    return profile_difference_numbers(results, rng=np.random.default_rng(1), **options)


def drawn(name, numbers):
    figure = style.draw(FIGURES[name], numbers)
    style.render(figure, "svg")
    return figure


def test_difference_numbers_are_the_difference_of_profiles(build):
    results = build(keep=80)
    numbers = differences(results)
    pairs = pair(results.outcomes(TASK), "ns+gp1", "wgan+gp1")
    found = profile_difference(pairs, rng=np.random.default_rng(1))
    np.testing.assert_array_equal(numbers["tau"], found.thresholds)
    np.testing.assert_array_equal(numbers["difference"], found.value)
    np.testing.assert_array_equal(numbers["low"], found.low)
    assert (numbers.loc[numbers["ahead"] == "first", "low"] > 0).all()
    assert numbers[["first", "second", "family"]].drop_duplicates().to_numpy().tolist() == [
        ["ns+gp1", "wgan+gp1", "confirmatory"]
    ]


def test_discordance_numbers_are_the_counts(arms, ended):
    facts = {"threshold": 50.0, "anchor_low": 10.0, "anchor_high": 1000.0}
    results = ended({"a": arms["A"], "b": arms["B"]}, facts=facts, replicates=1, points=10)
    (row,) = discordance_numbers(results).to_dict("records")
    assert [row[name] for name in ("both", "only_first", "only_second", "neither", "pairs")] == [3, 2, 0, 5, 10]
    assert row["mcnemar_p"] == pytest.approx(0.5)
    (mirrored,) = discordance_numbers(results, pairs=[("b", "a")]).to_dict("records")
    assert (mirrored["only_first"], mirrored["only_second"], mirrored["order_first"]) == (0, 2, 1)


def test_several_trials_a_point_have_no_p(build):
    numbers = discordance_numbers(build(seeds=2))
    assert numbers["mcnemar_p"].isna().all()
    axis = drawn("discordance", numbers).axes[0]
    assert "no p" in [text.get_text() for text in axis.texts]
    assert "several trials" in axis.get_xlabel()
    assert "McNemar" not in axis.get_xlabel()


def test_a_pair_a_point_has_a_p_and_the_axis_says_which(build):
    axis = drawn("discordance", discordance_numbers(build())).axes[0]
    assert axis.get_xlabel().endswith("right: p of the exact McNemar test")
    assert any(text.get_text().startswith("p ") for text in axis.texts)


@pytest.mark.parametrize("name", ["discordance", "differences"])
def test_long_names_leave_their_axis_in_the_figure(build, name):
    methods = tuple(f"{'loss' * 9}{i}+{'penalty' * 9}{i}" for i in range(2))
    figure = drawn(name, FIGURES[name].numbers(build(methods=methods, confirmatory=(methods,))))
    figure.draw_without_rendering()
    (label,) = [figure._supxlabel] if name == "differences" else [figure.axes[0].xaxis.label]
    box = label.get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.x1
    assert figure.axes[0].get_position().width > 0.25


@pytest.mark.parametrize("numbers", [differences, discordance_numbers])
def test_only_what_can_be_compared_has_numbers(build, numbers):
    assert list(numbers(build())["first"].unique()) == ["ns+gp1"]
    assert set(numbers(build(confirmatory=()))["second"]) == {"wgan+gp1", "ns"}
    assert numbers(build(methods=("only",), confirmatory=())).empty
    adaptive = build()
    adaptive = type(adaptive)(
        "x", adaptive.plan.assign(sampler="tpe"), adaptive.trials, adaptive.confirmatory, adaptive.notice
    )
    assert numbers(adaptive).empty
    assert list(numbers(adaptive).columns)


def test_the_order_of_methods_gives_the_colours(build):
    numbers = discordance_numbers(build(), order=("x", "y", "wgan+gp1", "ns+gp1"))
    assert numbers[["order_first", "order_second"]].to_numpy().tolist() == [[3, 2]]


@pytest.mark.parametrize("name", ["differences", "profile_differences", "discordance"])
@pytest.mark.parametrize(
    "design",
    [
        {"keep": 0},
        {"methods": TWELVE, "confirmatory": (), "points": 1},
        {"tasks": SIX, "keep": 200},
        {"methods": ("$x$", "a_b"), "confirmatory": (("$x$", "a_b"),), "tasks": ("$t",)},
    ],
)
def test_they_are_drawn_at_any_size_and_stay_small(build, name, design):
    figure = drawn(name, FIGURES[name].numbers(build(**design)))
    assert figure.get_size_inches()[1] < 25


def test_many_methods_on_many_tasks_are_cut_and_counted(build):
    pairs = ((TWELVE[0], TWELVE[1]),)
    numbers = difference_numbers(build(methods=TWELVE, tasks=SIX, points=1, confirmatory=pairs))
    figure = drawn("differences", numbers)
    assert len(numbers) == 6 * 66
    assert sum(len(axis.get_yticks()) for axis in figure.axes) <= MOST
    assert all("more, in the numbers" in axis.get_title(loc="left") for axis in figure.axes)
    assert all(axis.get_yticklabels()[0].get_fontweight() == "bold" for axis in figure.axes)


def test_more_tasks_than_pairs_are_rows(build):
    figure = drawn("differences", difference_numbers(build(tasks=SIX)))
    assert [axis.get_title(loc="left") for axis in figure.axes] == [
        "ns+gp1 vs wgan+gp1",
        "ns+gp1 vs ns",
        "wgan+gp1 vs ns",
    ]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == list(SIX)
    assert len({axis.get_xlim() for axis in figure.axes}) == 1


def test_a_drawn_difference_has_its_value_everywhere(build):
    numbers = differences(build())
    axis = draw_profile_differences(numbers).axes[0]
    (curve,) = [line for line in axis.get_lines() if line.get_drawstyle() == "steps-post"]
    x, y = np.asarray(curve.get_xdata()), np.asarray(curve.get_ydata())
    steps = pd.Series(numbers["difference"].to_numpy(), index=numbers["tau"])
    for place, height in zip(x[1:-1], y[1:-1], strict=True):
        assert height == steps[place]


def test_a_marked_lead_is_in_the_leaders_colour(ended):
    results = ended({"a": [0.05] * 40, "b": [np.inf] * 40}, replicates=1, points=40)
    axis = draw_profile_differences(differences(results)).axes[0]
    thick = [line for line in axis.get_lines() if line.get_linewidth() == 5]
    assert {line.get_color() for line in thick} == {style.colour(0)}
    assert all(line.get_ydata()[0] > 0 for line in thick)


def test_the_parts_of_a_bar_fill_it(build):
    axis = draw_discordance(discordance_numbers(build(confirmatory=()))).axes[0]
    bars = [bar for bar in axis.patches if bar.get_width() > 0]
    ends = {}
    for bar in bars:
        height = round(bar.get_y() + 0.35)
        ends[height] = max(ends.get(height, 0.0), bar.get_x() + bar.get_width())
    assert all(end == pytest.approx(1.0) for end in ends.values())


def test_an_adaptive_forest_is_open_and_says_so(build):
    base = build()
    numbers = difference_numbers(type(base)("x", base.plan.assign(sampler="tpe"), base.trials, base.confirmatory, None))
    figure = draw_differences(numbers)
    faces = {line.get_markerfacecolor() for line in figure.axes[0].get_lines() if line.get_marker() == "o"}
    assert faces == {"white"}
    assert "adaptive: no claim" in figure.get_supxlabel()

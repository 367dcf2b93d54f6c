import dataclasses
import itertools
import re
import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis import profiles
from analysis.comparisons import compare_all
from analysis.figures import curves, style
from analysis.figures.table import FIGURES
from analysis.outcomes import sample
from analysis.results import Reference

TASK = "manifold-d2"
TWELVE = tuple(f"loss{i}+penalty{i}@technique" for i in range(12))


def lines(axis):
    return [line for line in axis.get_lines() if line.get_drawstyle() == "steps-post"]


def test_no_figure_without_a_description_and_a_safe_name():
    for name, picture in FIGURES.items():
        assert re.fullmatch("[a-z_]+", name)
        assert picture.alt.endswith(".")


# ---- numbers


def test_profile_numbers_are_the_profile(build):
    results = build(keep=80)
    numbers = FIGURES["profiles"].numbers(results)
    outcomes = results.outcomes(TASK)
    for method in results.methods:
        trials = sample(outcomes[outcomes["method"] == method])
        curve = numbers[numbers["method"] == method]
        np.testing.assert_allclose(curve["fraction"], profiles.fraction_at(trials, curve["tau"]), atol=1e-12)
        assert curve["tau"].iloc[-1] == np.inf
        assert curve["missing"].iloc[0] == np.isnan(trials.values).sum()


def test_numbers_are_a_function_of_the_results(build):
    results = build(keep=80)
    for picture in FIGURES.values():
        first = picture.numbers(results)
        np.random.seed(1)  # noqa: NPY002 - it is there to be disturbed
        pd.testing.assert_frame_equal(first, picture.numbers(results))


def test_failure_numbers_add_up_to_one(build):
    numbers = FIGURES["failures"].numbers(build(tasks=("y", "x"), keep=80))
    np.testing.assert_allclose(numbers.groupby(["task", "method"])["share"].sum(), 1.0)
    assert list(numbers["task"].unique()) == ["y", "x"]


def test_difference_numbers_are_the_comparisons(build):
    results = build()
    numbers = FIGURES["differences"].numbers(results)
    assert list(numbers["log_auc_difference"]) == [c.log_auc_difference.value for c in compare_all(results)]
    assert list(numbers["family"]) == ["confirmatory", "exploratory", "exploratory"]


def test_success_numbers_carry_the_bounds(build):
    numbers = FIGURES["success"].numbers(build(keep=80))
    assert (numbers["worst"] <= numbers["value"]).all()
    assert (numbers["best"] >= numbers["value"]).all()
    assert (numbers["best"] > numbers["worst"]).all()
    assert FIGURES["log_auc"].numbers(build())[["worst", "best"]].isna().all(axis=None)


# ---- ink


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize(
    "design",
    [
        {},
        {"keep": 0},
        {"keep": 10, "tasks": ("a", "b", "c")},
        {"methods": TWELVE, "confirmatory": (), "points": 1},
        {"methods": ("only",), "confirmatory": ()},
        {"methods": ("$x$", "a_b"), "confirmatory": (("$x$", "a_b"),), "tasks": ("$t",)},
    ],
)
def test_every_figure_can_be_drawn(build, name, design):
    picture = FIGURES[name]
    numbers = picture.numbers(build(**design))
    assert "task" in numbers.columns
    if len(numbers):
        assert style.render(style.draw(picture, numbers), "svg").startswith(b"<?xml")


@pytest.mark.parametrize("name", sorted({*FIGURES} - {"samples"} - {n for n in FIGURES if FIGURES[n].history}))
def test_every_figure_has_something_to_show_somewhere(build, name):
    """Otherwise the test above would hold for a figure that is never drawn; others need a history, or samples."""
    whole = build(tasks=("a", "b"), seeds=2, critics=(1, 5), points=16, replicates=4)
    spread = (whole.plan["point"] * 0.618) % 1.0
    plan = whole.plan.assign(lr_g=10 ** (3 * spread - 4), lr_d=10 ** (3 * spread - 4), beta1=(spread * 7) % 1.0)
    trials = whole.trials.assign(primary_last=whole.trials["primary"], primary_best=whole.trials["primary"])
    references = {"a": (Reference("real against real", 0.01, "pass"),)}
    found = dataclasses.replace(whole, plan=plan, trials=trials, references=references)
    assert len(FIGURES[name].numbers(found))


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_can_be_drawn_when_nothing_is_planned(build, name):
    results = build(confirmatory=())
    nothing = type(results)("none", results.plan.iloc[:0], results.trials.iloc[:0], (), None)
    numbers = FIGURES[name].numbers(nothing)
    if len(numbers):
        style.render(style.draw(FIGURES[name], numbers), "svg")


def test_each_method_is_one_curve_told_apart_from_the_others(build):
    numbers = FIGURES["profiles"].numbers(build(methods=TWELVE, confirmatory=()))
    drawn = lines(style.draw(FIGURES["profiles"], numbers).axes[0])
    assert len({(line.get_color(), line.get_linestyle()) for line in drawn}) == len(drawn) == 12


def test_a_method_keeps_its_colour_when_others_are_absent(build):
    numbers = FIGURES["profiles"].numbers(build())
    alone = lines(style.draw(FIGURES["profiles"], numbers[numbers["method"] == "ns"]).axes[0])
    assert [line.get_color() for line in alone] == [style.colour(2)]


def test_a_drawn_curve_is_the_profile(build):
    results = build()
    numbers = FIGURES["profiles"].numbers(results)
    axis = style.draw(FIGURES["profiles"], numbers).axes[0]
    outcomes = results.outcomes(TASK)
    for line, method in zip(lines(axis), results.methods, strict=True):
        x, y = np.asarray(line.get_xdata()), np.asarray(line.get_ydata())
        trials = sample(outcomes[outcomes["method"] == method])
        np.testing.assert_allclose(y, profiles.fraction_at(trials, x), atol=1e-12)


def test_values_beyond_the_panel_still_count(ended):
    """Some below its left edge, zero and negative ones among them, and one beyond its right edge."""
    values = [1e-12, 1e-9, 0.0, -1.0, 0.1, 1.0, 1e9, np.inf]
    results = ended({"a": values}, replicates=1, points=8)
    axis = style.draw(FIGURES["profiles"], FIGURES["profiles"].numbers(results)).axes[0]
    assert axis.get_xlim()[0] > 1e-5
    assert axis.get_xlim()[1] < 1e6
    assert list(lines(axis)[0].get_ydata()) == pytest.approx([4 / 8, 5 / 8, 6 / 8, 6 / 8])
    assert any("88 % finish" in text.get_text() for text in axis.texts)


def test_only_confirmatory_pairs_are_filled(build):
    numbers = FIGURES["differences"].numbers(build())
    axis = style.draw(FIGURES["differences"], numbers).axes[0]
    faces = [line.get_markerfacecolor() for line in axis.get_lines() if line.get_marker() == "o"]
    assert [face == "white" for face in faces] == [False, True, True]


@given(st.lists(st.floats(0, 1), max_size=12).map(sorted), st.floats(0.01, 0.1))
def test_labels_keep_their_order_and_distance(heights, distance):
    moved = curves.spread(heights, distance)
    assert len(moved) == len(heights)
    assert all(b - a >= distance - 1e-9 for a, b in itertools.pairwise(moved))
    if all(b - a >= distance for a, b in itertools.pairwise(heights)):
        assert moved == pytest.approx(heights)


def test_any_name_is_one_line_of_letters_that_the_font_has():
    assert style.readable("a\nb\t c") == "a b c"
    assert style.readable("对x") == "\\u5bf9x"
    assert style.plain("$a$") == r"\$a\$"
    assert style.short("abcdefghij", 10) == "abcdefghij"
    assert style.short("abcdefghijk", 7) == "abcd…jk"


@given(st.text(), st.integers(3, 50))
def test_names_are_short_and_can_be_drawn(text, most):
    found = style.short(text, most)
    assert len(found) <= most
    assert style.readable(found) == found
    assert "\n" not in found


HOSTILE = ("对抗 方法\nof two lines", "second\t" + "very " * 60 + "long", "$x$")


@pytest.mark.parametrize("name", FIGURES)
def test_no_name_makes_matplotlib_warn(build, with_history, name):
    """Warnings are errors here."""
    whole = build(methods=HOSTILE, confirmatory=(HOSTILE[:2],), seeds=2, critics=(1, 5), points=16, replicates=2)
    spread = (whole.plan["point"] * 0.618) % 1.0
    plan = whole.plan.assign(lr_g=10 ** (3 * spread - 4), lr_d=10 ** (3 * spread - 4), beta1=(spread * 7) % 1.0)
    trials = whole.trials.assign(primary_last=whole.trials["primary"], primary_best=whole.trials["primary"])
    found = dataclasses.replace(
        whole, plan=plan, trials=trials, references={TASK: (Reference("对\n对", 0.01, "pass"),)}
    )
    if FIGURES[name].history:
        steps = dict.fromkeys(("generator_steps", "discriminator_steps", "updates"), 600)
        lived = dataclasses.replace(found, trials=trials.assign(**steps))
        found = with_history(lived, {trial_id: [2.0, 1.0, 0.5, 0.2, 0.1, 0.1] for trial_id in plan["trial_id"]})
    numbers = FIGURES[name].numbers(found)
    if len(numbers):
        style.render(style.draw(FIGURES[name], numbers), "png", dpi=40)


def test_captions_of_estimates_say_how_to_read_them():
    for name in ("success", "log_auc", "differences"):
        assert "right" in FIGURES[name].alt


# ---- files


def test_a_saved_figure_has_the_same_bytes_again(build, tmp_path):
    numbers = FIGURES["success"].numbers(build())
    written = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        written.append([path.read_bytes() for path in style.save("success", FIGURES["success"], numbers, folder)])
        names = {path.name for path in folder.iterdir()}
        assert names == {"success.csv", "success.png", "success.svg", "success.pdf"}
    assert written[0] == written[1]
    assert b"Software" not in written[0][1]
    assert b"<dc:date>" not in written[0][2]
    assert b"CreationDate" not in written[0][3]


def test_the_letters_of_a_pdf_are_in_it(build, tmp_path):
    numbers = FIGURES["success"].numbers(build())
    (path,) = style.save("success", FIGURES["success"], numbers, tmp_path, forms=("pdf",))
    content = path.read_bytes()
    assert b"/FontFile2" in content  # an embedded TrueType font
    assert b"/Type3" not in content  # which journals refuse


def test_numbers_without_rows_are_no_figure(build, tmp_path):
    numbers = FIGURES["success"].numbers(build()).iloc[:0]
    assert style.save("success", FIGURES["success"], numbers, tmp_path) == ()
    assert not list(tmp_path.iterdir())


def test_dozens_of_methods_are_drawn_without_a_warning(build):
    results = build(methods=tuple(f"loss{i}+penalty{i}" for i in range(48)), confirmatory=(), points=1)
    for picture in FIGURES.values():
        numbers = picture.numbers(results)
        if len(numbers):
            assert style.render(style.draw(picture, numbers), "png", dpi=30)


def test_drawing_leaves_the_settings_alone(build, tmp_path):
    before = dict(mpl.rcParams)
    style.save("failures", FIGURES["failures"], FIGURES["failures"].numbers(build()), tmp_path)
    assert dict(mpl.rcParams) == before


def test_importing_the_report_brings_no_plotting_state_and_no_engine():
    program = (
        "import analysis.report, sys; print([n for n in ('matplotlib.pyplot', 'torch', 'ray') if n in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"

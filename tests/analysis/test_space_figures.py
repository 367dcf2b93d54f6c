import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle

from analysis.axes import Axis
from analysis.figures import style, tiles
from analysis.figures.maps import (
    ABOVE,
    MOST,
    REACHED,
    draw_failures_map,
    failure_numbers,
    map_numbers,
    plain_failure_numbers,
)
from analysis.figures.parallel import MOST as LINES
from analysis.figures.parallel import parallel_numbers, position
from analysis.figures.sensitivity import critic_numbers
from analysis.figures.table import FIGURES
from analysis.maps import success_map
from analysis.results import Results
from analysis.sensitivity import sensitivity
from tests.analysis.drawn import BAD, FACTS, GOOD, TASK, adaptive, drawn, good_where, noisy, shuffled

NAMES = ("sensitivity", "n_critic", "success_map", "failure_map", "parallel")
WIDE = {"space": {"preset": "lucic_wide"}, "design": {"kind": "random", "points": 24}}
MANY = [
    "ns",
    "ns+gp1",
    "ns+gp0",
    "wgan+gp1",
    "wgan+clip",
    "mm",
    "hinge",
    "lsgan",
    "ns+dragan",
    "ns+r1",
    "rpgan+r1+r2",
    "hinge+sn",
]
TEXTS = {"override": {"lr": 1e-3, "optimiser": {"cross": ["adam", "sgd"]}, "n_critic": {"cross": [1, 5]}}}


def draw(name, numbers):
    return style.draw(FIGURES[name], numbers)


# ---- numbers


def test_sensitivity_numbers_are_the_sensitivity():
    results = drawn(noisy(1), **WIDE)
    found = FIGURES["sensitivity"].numbers(results)
    pd.testing.assert_frame_equal(found.drop(columns="rule"), sensitivity(results))
    assert set(found["rule"]) == {"w2sq <= 0.2"}


def test_learning_rate_by_n_critic_are_the_trials_with_that_n_critic():
    results = drawn(noisy(1, missing=0.1), **WIDE)
    found = critic_numbers(results)
    outcomes = results.outcomes(TASK)
    for (critic, method), here in found.groupby(["n_critic", "method"]):
        rows = outcomes[(outcomes["method"] == method) & (outcomes["n_critic"] == critic)]
        known = rows[rows["status"].notna()]
        assert here["points"].sum() == len(known)
        reached = (known["primary"] <= FACTS["threshold"]).sum()
        assert (here["points"] * here["success"].fillna(0)).sum() == pytest.approx(reached)
    assert list(found["n_critic"].unique()) == [1, 5]


def test_without_a_second_n_critic_there_is_no_such_figure():
    assert critic_numbers(drawn(noisy(1))).empty


def test_maps_of_any_two_hyperparameters():
    results = drawn(noisy(1), **WIDE)
    pd.testing.assert_frame_equal(
        map_numbers(results, "n_critic", "beta1").drop(columns="rule"),
        pd.concat([success_map(results, TASK, m, "n_critic", "beta1") for m in results.methods], ignore_index=True),
    )
    assert list(map_numbers(results, "penalty_weight", "lr")["method"].unique()) == ["ns+gp1"]
    assert map_numbers(drawn(space={"override": {"lr": 1e-3}})).empty


def test_a_mark_per_trial_says_how_it_ended():
    def outcome(plan):
        return np.select([plan["point"] == 0, plan["point"] == 1, plan["point"] == 2], [GOOD, BAD, np.inf], np.nan)

    results = drawn(outcome, methods=["ns"])
    found = failure_numbers(results).merge(results.plan[["trial_id", "point", "lr_g", "beta1"]], on="trial_id")
    by_point = found.set_index("point")["ending"]
    assert list(by_point.loc[[0, 1, 2, 3]]) == [REACHED, ABOVE, "diverged", "undecided"]
    np.testing.assert_array_equal(found["x_place"], found["lr_g"])
    np.testing.assert_array_equal(found["y_value"], found["beta1"])


def test_where_a_history_tells_more_the_plain_map_is_left_out():
    results = drawn(noisy(1))
    assert len(plain_failure_numbers(results)) == 64
    known = Results("x", results.plan, results.trials, (), None, read_history=lambda columns: pd.DataFrame())
    assert plain_failure_numbers(known).empty


def test_of_many_trials_some_are_drawn_and_that_is_said():
    results = drawn(noisy(1), methods=["ns"], design={"kind": "random", "points": MOST + 50})
    found = failure_numbers(results)
    assert (len(found), set(found["drawn"]), set(found["of"])) == (MOST, {MOST}, {MOST + 50})
    lines = parallel_numbers(results)
    assert lines["trial_id"].nunique() == LINES
    assert set(lines["of"]) == {MOST + 50}
    axis = style.draw(FIGURES["failure_map"], found).axes[0]
    assert axis.get_title(loc="left") == f"ns ({MOST} of {MOST + 50})"
    assert draw("parallel", lines).axes[0].get_title(loc="left") == f"ns ({LINES} of {MOST + 50} trials)"


def test_lines_are_the_decided_trials():
    results = drawn(noisy(1, missing=0.3), **WIDE)
    found = parallel_numbers(results)
    assert found["trial_id"].nunique() == len(results.trials)
    reached = results.trials.set_index("trial_id")["primary"] <= FACTS["threshold"]
    per_trial = found.drop_duplicates("trial_id").set_index("trial_id")["success"]
    pd.testing.assert_series_equal(per_trial, reached.loc[per_trial.index].rename("success"))
    assert found["position"].between(0, 1).all()
    assert found.loc[found["method"] == "ns+gp1", "axis"].nunique() == 4


def test_positions_are_coordinates():
    lr = Axis("lr_g", "lr", log=True, levels=(), low=1e-5, high=1e-1)
    assert list(position(lr, pd.Series([1e-5, 1e-3, 1e-1, np.nan]))) == pytest.approx([0, 0.5, 1, np.nan], nan_ok=True)
    text = Axis("optimiser", "optimiser", log=False, levels=("adam", "rmsprop", "sgd"), low=np.nan, high=np.nan)
    assert list(position(text, pd.Series(["sgd", "adam", "rmsprop"]))) == [1.0, 0.0, 0.5]


def test_one_hyperparameter_is_no_parallel_figure():
    assert parallel_numbers(drawn(space={"override": {"lr": {"log_uniform": [1e-4, 1e-2]}}})).empty


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_rows_does_not_matter(name):
    results = drawn(noisy(1, missing=0.1), **WIDE)
    pd.testing.assert_frame_equal(FIGURES[name].numbers(results), FIGURES[name].numbers(shuffled(results)))


@pytest.mark.parametrize("name", NAMES)
def test_numbers_have_a_task_and_are_empty_where_nothing_varies(name, build):
    results = drawn(noisy(1), **WIDE)
    assert set(FIGURES[name].numbers(results)["task"]) == {TASK}
    nothing = FIGURES[name].numbers(drawn(noisy(1), space={"override": {"lr": 1e-3}}))
    assert nothing.empty
    assert "task" in nothing.columns
    assert FIGURES[name].numbers(build()).empty
    none = Results("none", results.plan.iloc[:0], results.trials.iloc[:0], (), None)
    assert FIGURES[name].numbers(none).empty


# ---- ink


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "changes",
    [
        WIDE,
        WIDE | {"tasks": [TASK, "ring8"]},
        {"space": TEXTS, "design": {"kind": "random", "points": 4}},
        {"design": {"kind": "grid", "levels": 3}},
        {"methods": MANY, "space": {"preset": "lucic_wide"}, "design": {"kind": "random", "points": 2}},
    ],
)
def test_figures_can_be_drawn(name, changes):
    numbers = FIGURES[name].numbers(drawn(noisy(1, missing=0.2), **changes))
    if numbers.empty:  # these two spaces have no learning rate beside n_critic
        assert name == "n_critic"
        assert changes.get("space") in (TEXTS, None)
        return
    figure = draw(name, numbers)
    wide, high = figure.get_size_inches()
    assert wide <= 12.5
    assert high <= 13
    assert style.render(figure, "png").startswith(b"\x89PNG")


@pytest.mark.parametrize("name", NAMES)
def test_unfinished_sweeps_can_be_drawn(name):
    results = drawn(lambda plan: np.full(len(plan), np.nan), **WIDE)
    numbers = FIGURES[name].numbers(results)
    if name == "parallel":
        assert numbers.empty
    else:
        style.render(draw(name, numbers), "svg")


@pytest.mark.parametrize("name", NAMES)
def test_the_same_results_give_the_same_bytes(name):
    results = drawn(noisy(1), **WIDE)
    pictures = [style.render(draw(name, FIGURES[name].numbers(results)), "svg") for _ in range(2)]
    assert pictures[0] == pictures[1]


def test_a_line_per_method_at_its_success():
    numbers = FIGURES["sensitivity"].numbers(drawn(noisy(1), **WIDE))
    panel = draw("sensitivity", numbers).axes[0]
    lines = [line for line in panel.get_lines() if line.get_marker() == "o"]
    here = numbers[(numbers["axis"] == "lr") & (numbers["method"] == "ns+gp1") & (numbers["points"] > 0)]
    assert [to_hex(line.get_color()) for line in lines] == [style.colour(0).lower(), style.colour(1).lower()]
    np.testing.assert_allclose(lines[1].get_ydata(), here["success"])
    np.testing.assert_allclose(lines[1].get_xdata(), here["centre"])
    assert panel.get_xlim() == (1e-5, 1e-2)


def test_darker_cells_succeed_more_often_and_empty_ones_are_hatched():
    results = drawn(noisy(1), methods=["ns"], design={"kind": "random", "points": 6})
    numbers = map_numbers(results)
    panel = draw("success_map", numbers).axes[0]
    cells = [patch for patch in panel.patches if isinstance(patch, Rectangle)]
    shares = numbers["share"].to_numpy()
    assert [cell.get_hatch() == "///" for cell in cells] == list(np.isnan(shares))
    light = [sum(cell.get_facecolor()[:3]) for cell in cells]
    known = np.flatnonzero(~np.isnan(shares))
    assert all(light[i] > light[j] for i in known for j in known if shares[i] < shares[j])
    texts = [text.get_text() for text in panel.texts]
    assert texts == [f"{numbers['count'][i]:.3g}/{numbers['points'][i]}" for i in known]


def test_several_trials_a_point_give_whole_percent_and_points():
    results = drawn(noisy(1), methods=["ns"], design={"kind": "random", "points": 24, "seeds": 3})
    numbers = map_numbers(results)
    panel, bar = draw("success_map", numbers).axes
    known = numbers[numbers["points"] > 0]
    expected = [
        f"{100 * share:.0f} %\nof {points}" for share, points in zip(known["share"], known["points"], strict=True)
    ]
    assert [text.get_text() for text in panel.texts] == expected
    assert "a point counting by the share" in bar.get_ylabel().replace("\n", " ")


@pytest.mark.parametrize("name", ["success_map", "sensitivity", "parallel"])
def test_labels_and_titles_stay_in_the_figure(name):
    figure = draw(
        name, FIGURES[name].numbers(drawn(noisy(1), methods=["ns"], design={"kind": "random", "points": 200}))
    )
    figure.draw_without_rendering()
    for text in [*(axis.yaxis.label for axis in figure.axes), *(axis.title for axis in figure.axes)]:
        box = text.get_window_extent()
        assert not text.get_text() or min(box.x0, box.y0) >= -1
        assert box.y1 <= figure.bbox.y1 + 1


@pytest.mark.parametrize("name", ["success_map", "sensitivity", "n_critic"])
def test_where_nothing_succeeds_a_panel_says_so(name):
    results = drawn(good_where(lambda plan: plan["method"] == "never"), **WIDE)
    words = [[text.get_text() for text in axis.texts] for axis in draw(name, FIGURES[name].numbers(results)).axes]
    assert sum("no trial succeeded\n(w2sq <= 0.2)" in texts for texts in words) == len(words) - (name == "success_map")
    some = draw(name, FIGURES[name].numbers(drawn(noisy(1), **WIDE)))
    assert not any("no trial" in text.get_text() for axis in some.axes for text in axis.texts)


def test_lines_say_how_they_were_chosen_and_why_they_fan_out():
    results = drawn(noisy(1), methods=["ns"], space={"preset": "lucic_wide"}, design={"kind": "random", "points": 64})
    few = draw("parallel", parallel_numbers(results)).get_supxlabel()
    assert "n_critic lie side by side" in few.replace("\n", " ")
    assert "even choice" not in few
    results = drawn(noisy(1), methods=["ns"], design={"kind": "random", "points": LINES + 1})
    many = draw("parallel", parallel_numbers(results)).get_supxlabel()
    assert f"of more than {LINES} trials an even choice by id" in many.replace("\n", " ")
    assert "side by side" not in many


def test_marks_at_one_place_are_moved_apart_and_others_stay():
    x = np.array([0.1, 0.5, 0.1, 0.1, 0.7])
    right, up = tiles.apart(x, np.zeros(5), [3, 1, 2, 9, 0])
    assert list(np.flatnonzero((right == 0) & (up == 0))) == [1, 2, 4]  # alone, or the least key of its place
    moved = np.hypot(right, up)
    np.testing.assert_allclose(moved[[0, 3]], tiles.STEP * np.sqrt([1, 2]))
    order = [4, 2, 0, 3, 1]
    again = tiles.apart(x[order], np.zeros(5), np.array([3, 1, 2, 9, 0])[order])
    np.testing.assert_array_equal(again[0], right[order])


def test_however_many_share_a_place_they_stay_near():
    right, up = tiles.apart(np.zeros(1000), np.zeros(1000), np.arange(1000))
    assert np.hypot(right, up).max() <= tiles.REACH
    assert len(np.unique(np.round([right, up], 9), axis=1).T) == 1000


def test_seeds_and_crossings_are_marks_of_their_own():
    results = drawn(noisy(1), methods=["ns"], space={"preset": "lucic_wide"}, design={"points": 8, "seeds": 2})
    numbers = failure_numbers(results)
    marks = [xy for line in draw_failures_map(numbers).axes[0].get_lines() for xy in line.get_xydata().tolist()]
    assert len(numbers) == len(marks) == len(set(map(tuple, marks)))
    assert len(numbers.drop_duplicates(["x_place", "y_place"])) < len(numbers)


def test_shades_read_in_grey():
    from analysis.figures.maps import _shades

    red, green, blue = _shades()(np.linspace(0, 1, 50))[:, :3].T
    assert (np.diff(0.299 * red + 0.587 * green + 0.114 * blue) < 0).all()


def test_a_sampler_that_looked_at_results_is_said_in_the_figure():
    results = adaptive(drawn(noisy(1), **WIDE))
    panel = draw("sensitivity", FIGURES["sensitivity"].numbers(results)).axes[0]
    assert panel.get_ylabel() == "success among what tpe visited"
    bar = draw("success_map", FIGURES["success_map"].numbers(results)).axes[-1]
    assert bar.get_ylabel().replace("\n", " ").startswith("share of what tpe visited in the cell that succeed")


def test_importance_where_some_resamples_hold_no_good_configuration():
    """One of 64 points scores: a bootstrap lacks it in (1 - 1/64)^64, a third, of its resamples."""
    results = drawn(lambda plan: np.where(plan["point"] == 3, 1.5, 5.0), design={"kind": "random", "points": 64})
    numbers = FIGURES["importance"].numbers(results)
    assert len(numbers) == 4
    assert numbers["share"].between(0, 1).all()
    style.render(draw("importance", numbers), "svg")


def test_endings_differ_by_shape():
    looks = [line.get_marker() for line in draw_failures_map(failure_numbers(drawn(noisy(1)))).axes[0].get_lines()]
    assert len(set(looks)) >= 4


def test_an_even_choice_of_trials_does_not_depend_on_their_order():
    rows = pd.DataFrame({"trial_id": [f"{i:03d}" for i in range(100)]})
    kept = tiles.thinned(rows.sample(frac=1, random_state=1), 10)
    assert list(kept["trial_id"]) == [f"{i:03d}" for i in range(0, 100, 11)]
    assert len(tiles.thinned(rows, 100)) == 100


def test_titles_name_the_task_where_there_are_several():
    several = pd.DataFrame({"task": ["a", "b"]})
    assert tiles.title(several, "a", "ns") == "a: ns"
    assert tiles.title(several[:1], "a", "$ns$") == r"\$ns\$"
    assert len(tiles.title(several[:1], "a", "long" * 20, after=" (1 of 2)")) == tiles.TITLE

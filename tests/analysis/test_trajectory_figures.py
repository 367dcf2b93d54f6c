"""Figures of what happened on the way: their numbers against the statistics, and what is drawn of them."""

import numpy as np
import pandas as pd
import pytest

from analysis import trajectories
from analysis.figures import strips, style
from analysis.figures import trajectories as figure_of
from analysis.figures.endings import ENDINGS, MOST
from analysis.figures.table import FIGURES
from analysis.results import Results

TASK = "manifold-d2"
NAMES = ("endings", "endings_map", "budget_success", "time_to_threshold", "trajectories")
TWELVE = tuple(f"loss{i}+penalty{i}@technique" for i in range(12))


@pytest.fixture(scope="session")
def lived(build, with_history):
    """A function making results with histories of ten evaluations and two hyperparameters."""

    def make(*, facts=None, **design):
        results = build(**({"replicates": 4, "points": 4, "confirmatory": ()} | design))
        rng = np.random.default_rng(1)
        point = results.plan["point"].to_numpy()
        lr, beta1 = 10 ** rng.uniform(-4, -1, point.max() + 1), rng.uniform(0, 1, point.max() + 1)
        plan = results.plan.assign(lr_g=lr[point], beta1=beta1[point], **(facts or {}))
        status = dict(results.trials[["trial_id", "status"]].itertuples(index=False))
        done = {t: 1000 if s == "completed" else int(rng.integers(0, 1000)) for t, s in status.items()}
        values = {t: np.exp(np.linspace(1, -3, 10) + rng.normal(0, 1, 10))[: done[t] // 100] for t in status}
        steps = results.trials["trial_id"].map(done)
        trials = results.trials.assign(generator_steps=steps, discriminator_steps=steps, updates=2 * steps)
        trials["primary"] = [np.median(values[t][-5:]) if status[t] == "completed" else np.nan for t in status]
        planned = Results(results.name, plan, trials, results.confirmatory, None)
        return with_history(planned, values)

    return make


# Numbers


def test_endings_are_counted(lived):
    results = lived(tasks=("y", "x"), keep=80)
    numbers = FIGURES["endings"].numbers(results)
    assert set(ENDINGS) == set(trajectories.ENDINGS)
    assert list(numbers["task"].unique()) == ["y", "x"]
    np.testing.assert_allclose(numbers.groupby(["task", "method"])["share"].sum(), 1)
    found = trajectories.endings(results, "y").groupby(["method", "ending"]).size()
    for row in numbers[numbers["task"] == "y"].to_dict("records"):
        assert row["count"] == found.get((row["method"], row["ending"]), 0)


def test_each_trial_has_its_place_on_the_map(lived):
    results = lived()
    numbers = FIGURES["endings_map"].numbers(results)
    assert (numbers["x_label"].unique(), numbers["y_label"].unique()) == (["lr"], ["beta1"])
    assert numbers["x_log"].all()
    assert not numbers["y_log"].any()
    plan = results.plan.set_index("trial_id").loc[numbers["trial_id"]]
    np.testing.assert_array_equal(numbers[["x", "y"]].to_numpy(), plan[["lr_g", "beta1"]].to_numpy())
    ending = trajectories.endings(results, TASK).set_index("trial_id")["ending"]
    assert list(numbers["ending"]) == list(ending[numbers["trial_id"]])
    assert len(numbers) == len(results.plan)


def test_a_map_of_many_trials_shows_an_even_choice(lived):
    numbers = FIGURES["endings_map"].numbers(lived(methods=("ns", "few"), replicates=1, points=MOST + 500, keep=100))
    sizes = numbers.groupby("method").size()
    assert dict(sizes) == {"ns": MOST, "few": MOST}
    assert set(numbers["planned"]) == {MOST + 500}
    places = numbers.loc[numbers["method"] == "ns", "trial_id"].tolist()
    assert places == sorted(places)


def test_without_two_hyperparameters_there_is_no_map(build, with_history):
    results = build()
    results = with_history(results, {results.plan["trial_id"][0]: [1.0] * 5})
    assert FIGURES["endings_map"].numbers(results).empty
    assert not FIGURES["endings"].numbers(results).empty


@pytest.mark.parametrize(
    ("name", "table"),
    [("budget_success", trajectories.success_by_budget), ("time_to_threshold", trajectories.time_to_threshold)],
)
def test_curves_over_the_budget_are_the_statistics(lived, name, table):
    results = lived()
    numbers, expected = FIGURES[name].numbers(results), table(results, TASK)
    pd.testing.assert_frame_equal(numbers[list(expected.columns)], expected)
    assert list(numbers["order"].unique()) == [0, 1, 2]


def test_quartiles_count_a_failure_as_infinite(ended, with_history):
    results = ended({"ns": [1.0, 2.0, 3.0, np.inf]}, replicates=4, points=1)
    ids = list(results.plan["trial_id"])
    results = with_history(results, {ids[0]: [4, 1], ids[1]: [5, 2], ids[2]: [6, 3], ids[3]: [7]})
    numbers = FIGURES["trajectories"].numbers(results)
    found = numbers[(numbers["panel"] == "primary") & (numbers["series"] == "median")]
    # of 4 5 6 7 the first, second and third; of 1 2 3 inf likewise
    assert found[["low", "value", "high"]].to_numpy().tolist() == [[4, 5, 6], [1, 2, 3]]
    assert set(found["trials"]) == {4}


def test_when_most_have_failed_the_median_is_infinite_and_drawn(ended, with_history):
    results = ended({"ns": [1.0, np.inf, np.inf]}, replicates=3, points=1)
    ids = list(results.plan["trial_id"])
    results = with_history(results, {ids[0]: [4, 1], ids[1]: [5]})
    numbers = FIGURES["trajectories"].numbers(results)
    found = numbers[(numbers["panel"] == "primary") & (numbers["series"] == "median")]
    assert found["value"].tolist() == [5, np.inf]
    style.render(style.draw(FIGURES["trajectories"], numbers), "png", dpi=40)


def test_single_runs_go_from_the_best_to_the_worst(lived):
    results = lived(methods=("ns",))
    numbers = FIGURES["trajectories"].numbers(results)
    runs = numbers[(numbers["panel"] == "primary") & (numbers["series"] != "median")]
    chosen = runs.drop_duplicates("series").set_index("series")["trial_id"]
    final = results.outcomes(TASK).set_index("trial_id")["primary"].fillna(np.inf)
    assert list(chosen.index) == [f"run {i}" for i in range(1, len(chosen) + 1)]
    assert final[chosen].is_monotonic_increasing
    assert final[chosen.iloc[0]] == final.min()
    history = results.history().query("trial_id == @chosen.iloc[0]").sort_values("evaluation")
    assert runs.loc[runs["trial_id"] == chosen.iloc[0], "value"].tolist() == history["primary"].tolist()


def test_rising_steps_stand_with_the_curves(lived):
    results = lived()
    numbers = FIGURES["trajectories"].numbers(results).drop_duplicates("method").set_index("method")
    shares = trajectories.rising_shares(results, TASK).query("group == 'all'").set_index("method")
    pd.testing.assert_series_equal(numbers["rising"], shares["value"], check_names=False)
    pd.testing.assert_series_equal(numbers["raw"], shares["raw"], check_names=False)


def test_another_divergence_is_shown_where_one_was_measured(lived):
    results = lived(methods=("ns",))
    read = results.read_history

    def more(names):
        kept = [name for name in names if name != "kl_modes"]
        frame = read(tuple(kept))
        return frame.assign(kl_modes=frame["primary"] / 2) if "kl_modes" in names else frame

    trials = results.trials.assign(w2sq=1.0, diversity=1.0, kl_modes=1.0)
    numbers = FIGURES["trajectories"].numbers(Results("x", results.plan, trials, (), None, read_history=more))
    found = numbers[numbers["series"] == "median"].set_index(["panel", "steps"])["value"]
    assert set(numbers["name"]) == {"w2sq", "kl_modes", "grad_norm_g", "grad_norm_d"}
    np.testing.assert_allclose(found["divergence"], found["primary"] / 2)


def test_long_histories_are_thinned(ended, with_history):
    results = ended({"ns": [1.0]}, replicates=1, points=1)
    results = with_history(results, {results.plan["trial_id"][0]: np.arange(1.0, 5001)})
    numbers = FIGURES["trajectories"].numbers(results)
    found = numbers[(numbers["panel"] == "primary") & (numbers["series"] == "median")]
    assert len(found) == figure_of.MOST
    assert found["value"].iloc[[0, -1]].tolist() == [1, 5000]


@pytest.mark.parametrize("name", NAMES)
def test_without_a_history_there_is_nothing_to_show(build, name):
    assert FIGURES[name].numbers(build()).empty
    assert FIGURES[name].history


@pytest.mark.parametrize("name", NAMES)
def test_numbers_are_a_function_of_the_results(lived, name):
    first, second = (FIGURES[name].numbers(lived(keep=30)) for _ in range(2))
    pd.testing.assert_frame_equal(first, second)


# Ink


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "design",
    [
        {},
        {"keep": 1},
        {"methods": ("only",), "replicates": 1, "points": 1},
        {"methods": TWELVE, "replicates": 2},
        {"methods": ("$x$", "a_b"), "tasks": ("$t", "u")},
    ],
    ids=["plain", "one trial", "one method", "twelve", "hostile"],
)
def test_every_design_can_be_drawn(lived, name, design):
    numbers = FIGURES[name].numbers(lived(**design))
    if len(numbers):
        assert style.render(style.draw(FIGURES[name], numbers), "svg").startswith(b"<?xml")


@pytest.mark.parametrize("name", NAMES)
def test_many_tasks_and_methods_stay_a_page_wide(lived, name):
    numbers = FIGURES[name].numbers(lived(methods=TWELVE, tasks=("a", "b"), replicates=1, points=2))
    width, height = style.draw(FIGURES[name], numbers).get_size_inches()
    assert width <= 13
    assert height <= 2 * 9


@pytest.mark.parametrize("name", NAMES)
def test_all_failed_can_be_drawn(lived, replaced, name):
    results = lived(methods=("ns",))
    trials = results.trials.assign(status="diverged", primary=np.nan)
    failed = Results("x", results.plan, trials, (), None, read_history=results.read_history)
    style.render(style.draw(FIGURES[name], FIGURES[name].numbers(failed)), "png", dpi=40)


@pytest.mark.parametrize("name", NAMES)
def test_chosen_configurations_are_drawn_without_intervals(lived, name):
    results = lived(facts={"sampler": "tpe"})
    numbers = FIGURES[name].numbers(results)
    if "low" in numbers and name != "trajectories":
        assert numbers[["low", "high"]].isna().all(axis=None)
    style.render(style.draw(FIGURES[name], numbers), "png", dpi=40)


def test_a_line_of_the_budget_is_the_curve(lived):
    numbers = FIGURES["budget_success"].numbers(lived())
    drawn = style.draw(FIGURES["budget_success"], numbers).axes[0].get_lines()
    assert len(drawn) == 3
    for line, (_, curve) in zip(drawn, numbers.groupby("order"), strict=True):
        np.testing.assert_array_equal(line.get_ydata(), curve["value"])
        np.testing.assert_array_equal(line.get_xdata(), curve["steps"])


def test_bars_are_as_long_as_their_shares(lived):
    numbers = FIGURES["endings"].numbers(lived(methods=("ns",)))
    bars = style.draw(FIGURES["endings"], numbers).axes[0].patches
    assert [bar.get_width() for bar in bars] == pytest.approx(numbers["share"].tolist())


def test_seeds_and_crossings_are_marks_of_their_own(lived):
    numbers = FIGURES["endings_map"].numbers(lived(methods=("ns",), seeds=2, critics=(1, 5)))
    axis = style.draw(FIGURES["endings_map"], numbers).axes[0]
    marks = [tuple(xy) for found in axis.collections for xy in np.asarray(found.get_offsets()).tolist()]
    assert len(numbers) == len(marks) == len(set(marks)) == 4 * len(numbers.drop_duplicates(["x", "y"]))
    places = strips.Range(numbers["x_low"][0], numbers["x_high"][0], log=True).place(numbers["x"])
    assert max(min(abs(x - places)) for x, _ in marks) < 0.03


@pytest.mark.parametrize("name", ["budget_success", "time_to_threshold"])
def test_where_nothing_succeeds_a_panel_says_so(lived, name):
    for threshold, said in ((1e-9, True), (0.2, False)):
        numbers = FIGURES[name].numbers(lived(facts={"threshold": threshold}))
        texts = [text.get_text() for text in style.draw(FIGURES[name], numbers).axes[0].texts]
        assert any(text.startswith("no trial") and text.endswith("(w2sq <= 1e-09)") for text in texts) == said


def test_a_trial_beyond_the_frame_is_marked_where_it_leaves():
    _, (axis,) = style.panels(1, columns=1, width=3, heights=[2])
    strips.log_scale(axis, 0.1, 10)
    # leaves above at 1, is back at 3, is below at 4, where it ends
    figure_of._run(axis, np.arange(5.0), np.array([1, 20, np.inf, 1, 0.0]), (0.1, 10))
    marks = [np.asarray(found.get_offsets()).tolist() for found in axis.collections]
    assert marks == [[[4, 0.1]], [[1, 10]]]


def test_endings_are_told_apart_without_colour():
    assert len({look.marker for look in ENDINGS.values()}) == len(ENDINGS)
    filled = [look for name, look in ENDINGS.items() if look.hatch is None and name != "success"]
    greys = sorted(
        sum(int(look.shade[i : i + 2], 16) * w for i, w in ((1, 0.3), (3, 0.59), (5, 0.11))) for look in filled
    )
    assert np.diff(greys).min() > 20  # of 255


# Strips


def test_methods_stand_in_lines_of_equal_length():
    numbers = pd.DataFrame({"task": "t", "order": range(8), "method": [f"m{i}" for i in range(8)]})
    lines = strips.lines_of(numbers)
    assert [[name for _, name in line.methods] for line in lines] == [
        ["m0", "m1", "m2", "m3"],
        ["m4", "m5", "m6", "m7"],
    ]
    assert [line.first for line in lines] == [True, False]
    assert strips.width_of(lines) == 4
    assert strips.lines_of(numbers.iloc[:0]) == []


@pytest.mark.parametrize(
    ("low", "high", "log", "value", "place"),
    [(0, 10, False, 2.5, 0.25), (1e-4, 1e-2, True, 1e-3, 0.5), (3, 3, False, 3, 0.5), (3, 3, True, 3, 0.5)],
)
def test_places_in_a_strip(low, high, log, value, place):
    assert strips.Range(low, high, log).place(pd.Series([value])).tolist() == pytest.approx([place])


@pytest.mark.parametrize(
    ("common", "expected"),
    [
        (strips.Range(1e-5, 1e-1, log=True), [1e-5, 1e-4, 1e-3, 1e-2, 1e-1]),
        (strips.Range(1e-9, 1e-1, log=True), [1e-9, 1e-7, 1e-5, 1e-3, 1e-1]),
        (strips.Range(2e-3, 5e-2, log=True), [2e-3, 5e-3, 1e-2, 2e-2, 5e-2]),
        (strips.Range(0, 1000, log=False), [0, 1000]),
        (strips.Range(5, 5, log=False), [5]),
    ],
)
def test_ticks_are_few(common, expected):
    assert [value for value, _ in common.ticks()] == pytest.approx(expected)


@pytest.mark.parametrize(("low", "high"), [(1e-9, 1e3), (0.3, 0.8), (0.12, 0.19), (2, 30)])
def test_a_logarithmic_scale_has_two_ticks_or_more(low, high):
    _, (axis,) = style.panels(1, columns=1, width=3, heights=[2])
    strips.log_scale(axis, low, high)
    ticks = axis.get_yticks()
    assert 2 <= len(ticks) <= 7
    assert all(low <= tick <= high for tick in ticks)

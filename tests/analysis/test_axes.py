import gc

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis import axes
from analysis.axes import (
    RATIO,
    Axis,
    axes_of,
    axis_named,
    hyperparameters,
    parts_where,
    ratio,
    shown,
    tally,
    word_columns,
)
from analysis.outcomes import Sample
from analysis.results import Results
from analysis.runs import load_results
from search_spaces.domains import Choice, LogUniform, Uniform, When
from study.plan import expand
from study.store import RunDirectory
from study.sweep_run import prepare
from tests.analysis.drawn import TASK, declared, drawn, sweep_of

WIDE = {"preset": "lucic_wide"}
LR = Axis("lr_g", "lr", log=True, levels=(), low=1e-4, high=1e-2)
BETA = Axis("beta1", "beta1", log=False, levels=(), low=0.0, high=0.8)


def words(results, method=None, task=TASK):
    return {axis.word: axis for axis in axes_of(results, task, method)}


# ---- what varies


def test_a_prior_gives_scale_and_ends():
    found = words(drawn(space=WIDE), "ns+gp1")
    assert list(found) == ["lr", "beta1", "n_critic", "penalty_weight"]
    assert (found["lr"].log, found["lr"].low, found["lr"].high, found["lr"].levels) == (True, 1e-5, 1e-2, ())
    assert (found["beta1"].log, found["beta1"].low, found["beta1"].high) == (False, 0.0, 1.0)
    assert found["n_critic"].levels == (1.0, 5.0)
    assert list(words(drawn(space=WIDE), "ns")) == ["lr", "beta1", "n_critic"]


def test_a_dependent_prior_gives_each_method_its_own_ends():
    results = drawn(space=WIDE, methods=["ns+gp1", "ns+gp0"])
    ends = {
        m: (words(results, m)["penalty_weight"].low, words(results, m)["penalty_weight"].high) for m in results.methods
    }
    assert ends == {"ns+gp1": (0.1, 100.0), "ns+gp0": (0.01, 100.0)}
    both = words(results)["penalty_weight"]
    assert (both.low, both.high) == (0.01, 100.0)


def test_a_few_draws_from_a_range_are_a_range():
    assert words(drawn(design={"kind": "random", "points": 3}))["lr"].levels == ()


def test_a_grid_has_levels():
    found = words(drawn(design={"kind": "grid", "levels": 3}))
    assert found["lr"].levels == pytest.approx((1e-5, 10**-3.5, 1e-2))
    assert found["beta1"].levels == (0.0, 0.4, 0.8)


def test_listed_values_are_levels_and_unlisted_ones_only_if_few():
    listed = [round(0.1 * i, 1) for i in range(9)]
    assert words(drawn(space={"override": {"lr": 1e-3, "beta1": {"choice": listed}}}))["beta1"].levels == tuple(listed)
    results = drawn(space={"override": {"lr": 1e-3, "beta1": {"choice": listed}}})
    unknown = Results(results.name, results.plan, results.trials, (), None)
    assert words(unknown)["beta1"].levels == ()


def test_without_a_prior_values_say_the_scale():
    plan = drawn().plan
    found = words(Results("imported", plan, drawn().trials, (), None))
    assert found["lr"].log
    assert not found["beta1"].log
    assert found["lr"].low == plan["lr_g"].min()


def test_what_is_constant_within_every_method_does_not_vary():
    results = drawn(methods=["ns+gp1", "ns+gp0-prob"], space={"override": {"lr": {"log_uniform": [1e-4, 1e-2]}}})
    assert results.plan["penalty_weight"].nunique() == 2
    assert list(words(results)) == ["lr"]


def test_the_discriminators_rate_is_looked_at_as_a_quotient():
    space = {"override": {"lr": {"log_uniform": [1e-4, 1e-2]}, "lr_d_ratio": {"choice": [0.1, 1.0, 3.0]}}}
    results = drawn(space=space)
    axis = words(results)[RATIO]
    assert axis.levels == (0.1, 1.0, 3.0)
    assert set(axis.of(results.plan)) == {0.1, 1.0, 3.0}
    assert set(word_columns(results.plan)[RATIO]) == {0.1, 1.0, 3.0}
    assert list(words(drawn())) == ["lr", "beta1"]


def test_the_quotient_has_the_priors_range():
    space = {"override": {"lr": 1e-3, "lr_d_ratio": {"log_uniform": [0.1, 10.0]}}}
    axis = words(drawn(space=space))[RATIO]
    assert (axis.log, axis.low, axis.high) == (True, 0.1, 10.0)


def test_a_variant_may_draw_beyond_the_prior():
    results = drawn(methods=["ns", "ns@fast"], variant={"fast": {"lr": {"log_uniform": [1e-3, 1.0]}}})
    assert words(results, "ns")["lr"].high == 1e-2
    assert words(results, "ns@fast")["lr"].high == results.plan["lr_g"].max() > 0.1


def test_a_variant_has_the_range_that_it_declared():
    variant = {"fast": {"lr": {"log_uniform": [1e-4, 1e-3]}}, "mild": {"beta1": {"choice": [0.0, 0.5]}}}
    results = declared(methods=["ns", "ns@fast", "ns@mild"], variant=variant)
    rate = words(results, "ns@fast")["lr"]
    assert (rate.low, rate.high, rate.log) == (1e-4, 1e-3, True)
    assert (words(results, "ns")["lr"].low, words(results, "ns")["lr"].high) == (1e-5, 1e-2)
    assert words(results, "ns@mild")["beta1"].levels == (0.0, 0.5)
    assert words(results, "ns")["beta1"].levels == ()


def test_a_run_knows_what_each_method_declared(tmp_path):
    changes = {"methods": ["ns", "ns@fast"], "variant": {"fast": {"lr": {"log_uniform": [1e-4, 1e-3]}}}}
    sweep, directory = sweep_of(**changes), RunDirectory(tmp_path / "run")
    prepare(directory, sweep, expand(sweep))
    results = load_results(directory)
    assert results.domains_of("ns") == results.domains == {"lr": LogUniform(1e-5, 1e-2), "beta1": Uniform(0.0, 0.8)}
    assert results.domains_of("ns@fast") == {"lr": LogUniform(1e-4, 1e-3), "beta1": Uniform(0.0, 0.8)}
    assert results.domains_of("another") == results.domains
    assert (words(results, "ns@fast")["lr"].low, words(results, "ns@fast")["lr"].high) == (1e-4, 1e-3)


def test_methods_together_have_the_union_of_their_ranges():
    variant = {
        "fast": {"lr": {"log_uniform": [1e-3, 1.0]}},
        "sgd": {"lr": {"when": {"optimiser": {"sgd": {"log_uniform": [1e-6, 1e-4]}}}, "log_uniform": [1.0, 9.0]}},
    }
    space = {"override": {"lr": {"log_uniform": [1e-5, 1e-2]}, "optimiser": "sgd"}}
    results = declared(methods=["ns", "ns@fast", "ns@sgd"], variant=variant, space=space)
    assert (words(results)["lr"].low, words(results)["lr"].high) == (1e-6, 1.0)
    assert (words(results, "ns@sgd")["lr"].low, words(results, "ns@sgd")["lr"].high) == (1e-6, 1e-4)


def test_texts_and_truth_values_are_levels():
    results = drawn(space={"override": {"lr": 1e-3, "optimiser": {"cross": ["sgd", "adam"]}}})
    axis = words(results)["optimiser"]
    assert axis.levels == ("adam", "sgd")
    assert axis.text
    values = pd.Series(["sgd", None, "adam", "lion"])
    np.testing.assert_array_equal(axis.scaled(values), [1, np.nan, 0, np.nan])
    assert list(axis.bin(values, 5)) == [1, -1, 0, -1]
    flags = Axis("flag", "flag", log=False, levels=("False", "True"), low=np.nan, high=np.nan)
    assert list(flags.bin(pd.Series([True, False]), 5)) == [1, 0]


def test_nothing_planned_has_no_axes():
    results = drawn()
    nothing = Results("none", results.plan.iloc[:0], results.trials.iloc[:0], (), None)
    assert axes_of(nothing, TASK) == ()
    assert "lr_g" in hyperparameters(nothing)
    assert "trial_id" not in hyperparameters(nothing)


def test_an_axis_is_found_by_its_word_and_its_column():
    found = axes_of(drawn(), TASK)
    assert axis_named(found, "lr") is axis_named(found, "lr_g") is found[0]
    assert axis_named(found, "momentum") is None


def test_axes_are_found_once_and_forgotten_with_the_results():
    results = drawn()
    assert axes_of(results, TASK) is axes_of(results, TASK)
    key = id(results)
    assert key in axes._FOUND
    del results
    gc.collect()
    assert key not in axes._FOUND


# ---- bins


def test_edges_are_equally_likely_under_the_prior():
    np.testing.assert_allclose(LR.edges(4), [1e-4, 10**-3.5, 1e-3, 10**-2.5, 1e-2])
    np.testing.assert_allclose(BETA.edges(4), [0, 0.2, 0.4, 0.6, 0.8])
    assert (LR.span(), BETA.span()) == (pytest.approx(2.0), 0.8)


@given(st.floats(0, 1, exclude_max=True), st.integers(1, 12))
def test_a_draw_falls_into_the_bin_of_its_coordinate(u, bins):
    place = u * bins
    if abs(place - round(place)) < 1e-6:  # on an edge rounding decides
        return
    for axis, domain in ((LR, LogUniform(1e-4, 1e-2)), (BETA, Uniform(0.0, 0.8))):
        assert list(axis.bin(pd.Series([domain.at(u)]), bins)) == [int(place)]


def test_what_lies_outside_falls_into_the_end_bins_and_what_is_missing_into_none():
    assert list(BETA.bin(pd.Series([-1.0, 0.0, 0.4, 0.8, 2.0, np.nan]), 2)) == [0, 0, 1, 1, 1, -1]


def test_levels_are_their_own_bins():
    axis = Axis("n_critic", "n_critic", log=False, levels=(1.0, 5.0), low=1.0, high=5.0)
    assert axis.count(7) == 2
    assert list(axis.bin(pd.Series([5, 1, 2]), 7)) == [1, 0, -1]
    assert [axis.label(place, 7) for place in range(2)] == ["1", "5"]
    with pytest.raises(ValueError, match="n_critic has levels"):
        axis.edges(3)


def test_labels_are_short():
    assert LR.label(0, 2) == "0.0001 to 0.001"
    assert (shown(0.000123456), shown("adam"), shown(5.0)) == ("0.000123", "adam", "5")


# ---- dependent priors


def test_each_trial_has_one_part_of_a_dependent_prior():
    first, second, rest = LogUniform(1e-3, 1e-1), Choice((1.0, 2.0)), Uniform(0.0, 1.0)
    rows = pd.DataFrame({"penalty": ["gp1", None, "gp0", "r1"], "n_critic": [1, 5, 1, 2]})
    found = parts_where(When("penalty", {"gp1": first, "gp0": second}, rest), rows)
    assert [(part, list(mask)) for part, mask in found] == [
        (first, [True, False, False, False]),
        (rest, [False, True, False, True]),
        (second, [False, False, True, False]),
    ]
    for numbers in (rows["n_critic"], rows["n_critic"].astype(float)):
        (a, b) = parts_where(When("n_critic", {"1": first, "5": second}, None), rows.assign(n_critic=numbers))[:2]
        assert (a[0], list(a[1])) == (first, [True, False, True, False])
        assert (b[0], list(b[1])) == (second, [False, True, False, False])
    assert parts_where(None, rows)[0][0] is None


def test_a_quotient_forgives_rounding():
    frame = pd.DataFrame({"lr_g": [0.000123456789012, 3e-5], "lr_d": [0.000123456789012 * 3, 9.00000000001e-5]})
    assert list(ratio(frame)) == [3.0, 3.0]


# ---- tallies


def test_a_point_counts_by_the_mean_of_its_trials_in_a_cell():
    # point 0 has trials in cells 0 and 1, point 1 two trials in cell 1, point 2 an undecided one
    trials = Sample(np.zeros(5), np.zeros(5, dtype=np.int64), np.array([0, 0, 1, 1, 2]))
    sums, points = tally(np.array([0, 1, 1, 1, 0]), 3, [1.0, 0.0, 1.0, 0.0, np.nan], trials)
    assert list(sums) == [1.0, 0.5, 0.0]  # cell 1: 0 of point 0 and (1 + 0) / 2 of point 1
    assert list(points) == [1, 2, 0]


@given(st.integers(0, 10**6))
def test_tallies_are_those_of_a_loop(seed):
    rng = np.random.default_rng(seed)
    n, count = int(rng.integers(1, 40)), int(rng.integers(1, 5))
    trials = Sample(np.zeros(n), rng.integers(0, 2, n), rng.integers(0, 6, n))
    cells, values = rng.integers(-1, count, n), np.where(rng.random(n) < 0.2, np.nan, rng.random(n))
    sums, points = tally(cells, count, values, trials)
    for cell in range(count):
        by_point = {}
        for i in range(n):
            if cells[i] == cell and not np.isnan(values[i]):
                by_point.setdefault((trials.replicates[i], trials.points[i]), []).append(values[i])
        assert points[cell] == len(by_point)
        assert sums[cell] == pytest.approx(sum(np.mean(found) for found in by_point.values()))

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from analysis import regions
from analysis.axes import Axis, axes_of
from analysis.regions import AXES, LEAST, SAFE, _spanned, edges, safe_region
from tests.analysis.drawn import BAD, FACTS, GOOD, TASK, adaptive, declared, drawn, good_where, noisy, shuffled

DESIGN = {"kind": "sobol", "points": 16, "replicates": 8}
ONE = {"methods": ["ns"], "design": DESIGN}


def found_in(results, method="ns", seed=0):
    return safe_region(results, TASK, method, rng=np.random.default_rng(seed))


def sides(region):
    return {side.axis.word: side for side in region.sides}


def planted(plan):
    """Success in two of three decades and the lower half: 2/3 * 1/2 of the prior."""
    return plan["lr_g"].astype(float).between(1e-4, 1e-2) & (plan["beta1"] < 0.4)


# ---- what is found


def test_a_planted_box_is_found():
    """Of edges every 3/8 of a decade, 3 to 8 lie inside lr > 1e-4: 10^-3.875 to 1e-2, 5/8 of the range."""
    region = found_in(drawn(good_where(planted), **ONE))
    rate, beta = sides(region)["lr"], sides(region)["beta1"]
    assert (rate.high, beta.low, beta.high) == (1e-2, 0.0, 0.4)
    assert rate.low in (pytest.approx(10**-3.875, rel=1e-5), pytest.approx(10**-4.25, rel=1e-5))
    assert region.success >= SAFE
    assert region.folds == (8, 8)
    assert region.fraction == pytest.approx((5 if rate.low > 1e-4 else 6) / 8 * 4 / 8)
    assert "not confirmed on fresh configurations" in region.words


def test_the_search_is_as_good_as_trying_every_box():
    """Nine candidate levels each way: every box of neighbours, by loops."""
    results = drawn(noisy(2, chance=0.85, failing=0.0), methods=["ns"], design={"kind": "random", "points": 60})
    region = found_in(results)
    outcomes = results.outcomes(TASK)
    reached = (outcomes["primary"] <= FACTS["threshold"]).to_numpy()
    places, cuts = [], []
    for axis in axes_of(results, TASK, "ns"):
        cuts.append(edges(axis, 8))
        places.append(np.searchsorted(cuts[-1][1:-1], axis.of(outcomes), side="right"))
    best = (0.0, 0.0)
    spans = [(a, b) for a in range(8) for b in range(a, 8)]

    def reaches(inside, spanned):
        """Whether the bins at both ends of both sides hold a trial that is inside."""
        return all({a, b} <= set(place[inside]) for place, (a, b) in zip(places, spanned, strict=True))

    for (a, b), (c, d) in itertools.product(spans, spans):
        inside = (places[0] >= a) & (places[0] <= b) & (places[1] >= c) & (places[1] <= d)
        if inside.sum() >= LEAST and reached[inside].mean() >= SAFE and reaches(inside, ((a, b), (c, d))):
            best = max(best, ((b - a + 1) * (d - c + 1) / 64, reached[inside].mean()))
    assert (region.fraction, region.success) == (pytest.approx(best[0]), pytest.approx(best[1]))


def test_where_everything_succeeds_all_of_it_is_safe():
    region = found_in(drawn(**ONE))
    assert region.fraction == 1.0
    assert all(side.whole for side in region.sides)
    assert region.held_out.value == region.cross_validated == region.success == region.stability == 1.0
    assert "all of the prior (100 % of the prior, 128 points)" in region.words


@pytest.mark.parametrize(
    "outcome", [good_where(lambda plan: plan["lr_g"] < 0), lambda plan: np.full(len(plan), np.inf)]
)
def test_where_nothing_succeeds_nothing_is_safe(outcome):
    region = found_in(drawn(outcome, **ONE))
    assert not region.found
    assert (region.fraction, region.points, region.sides) == (0.0, 0, ())
    assert region.words == "ns on manifold-d2: no box of 10 points or more in which 90 % of the trials succeed"


def test_nine_points_are_too_few():
    tiny = {"methods": ["ns"], "design": {"kind": "random", "points": LEAST - 1}}
    assert not found_in(drawn(**tiny)).found
    assert found_in(drawn(**tiny | {"design": {"kind": "random", "points": LEAST}})).found


def test_a_crossed_structure_counts_points_not_trials():
    """Five points crossed with two structures are ten trials, and no region; one structure of ten points is one."""
    space = {"override": {"lr": {"log_uniform": [1e-5, 1e-2]}, "n_critic": {"cross": [1, 5]}}}
    few = {"methods": ["ns"], "space": space, "design": {"kind": "random", "points": 5}}
    assert not found_in(drawn(**few)).found
    five = good_where(lambda plan: plan["n_critic"] == 5)
    region = found_in(drawn(five, **few | {"design": {"kind": "random", "points": 10, "seeds": 2}}))
    assert sides(region)["n_critic"].levels == (5.0,)
    assert (region.points, region.fraction) == (10, 0.5)


def test_texts_are_chosen_among_subsets():
    space = {"override": {"lr": {"log_uniform": [1e-5, 1e-2]}, "optimiser": {"cross": ["adam", "sgd", "rmsprop"]}}}
    outcome = good_where(lambda plan: plan["optimiser"] != "rmsprop")
    region = found_in(drawn(outcome, methods=["ns"], space=space, design=DESIGN))
    assert sides(region)["optimiser"].levels == ("adam", "sgd")
    assert "optimiser = adam or sgd (67 % of the prior, 128 points)" in region.words


def test_only_the_telling_hyperparameters_bound_a_box():
    override = {
        "lr": {"log_uniform": [1e-5, 1e-2]},
        "network": "random",
        "depth_g": {"choice": [2, 4]},
        "depth_d": {"choice": [2, 4]},
        "activation_g": {"choice": ["relu", "tanh"]},
        "activation_d": {"choice": ["relu", "tanh"]},
        "width_g": {"choice": [8, 16]},
    }
    outcome = good_where(lambda plan: (plan["depth_d"] == 4) & (plan["lr_g"] > 10**-3.5))
    space = {"space": {"override": override}, "tasks": ["digits"]}
    results = drawn(outcome, methods=["ns"], design={"kind": "random", "points": 128}, **space)
    region = safe_region(results, "digits", "ns", rng=np.random.default_rng(0))
    assert len(region.sides) == 6
    bounded = [side.axis.word for side in region.sides if not side.whole]
    assert {"lr", "depth_d"} <= set(bounded)
    assert len(bounded) <= AXES
    assert sides(region)["depth_d"].levels == (4.0,)


def test_a_hyperparameter_that_some_trials_lack_bounds_nothing():
    space = {
        "override": {
            "lr": {"log_uniform": [1e-5, 1e-2]},
            "beta2": {"uniform": [0.9, 0.99]},
            "optimiser": {"cross": ["adam", "sgd"]},
        }
    }
    region = found_in(drawn(methods=["ns"], space=space, design=DESIGN))
    assert list(sides(region)) == ["lr", "optimiser"]


# ---- how sure that is


def test_a_region_found_by_luck_does_not_hold_up():
    """Success is a coin of .8 everywhere: boxes of 90 % are chance, and held-out points say so."""
    scores = []
    for seed in range(12):
        region = found_in(drawn(noisy(seed, chance=0.8, failing=0.0), **ONE))
        if region.found and not math.isnan(region.cross_validated):
            assert region.success >= SAFE
            scores.append(region.cross_validated)
    assert len(scores) >= 8
    assert np.mean(scores) == pytest.approx(0.8, abs=0.06)


def ridge(rate, beta):
    """Chance of success: a ridge along the learning rate that falls with beta1."""
    along = 1.25 - 3 * np.abs((np.log10(rate) + 5) / 3 - 0.55)
    return np.clip(along - np.maximum(0, beta / 0.8 - 0.5), 0.02, 0.98)


def true_success(sides):
    """Inside a box, on a mesh."""
    rate, beta = sides
    return ridge(*np.meshgrid(np.geomspace(rate.low, rate.high, 101), np.linspace(beta.low, beta.high, 101))).mean()


def on_the_ridge(seed, **design):
    rng = np.random.default_rng(seed)
    return drawn(lambda plan: np.where(rng.random(len(plan)) < ridge(plan["lr_g"], plan["beta1"]), GOOD, BAD), **design)


def test_cross_validation_is_less_optimistic_than_the_search():
    """The box's true success on a mesh, over 40 sweeps."""
    search, held = [], []
    for seed in range(40):
        region = found_in(on_the_ridge(seed, **ONE))
        if region.found:
            true = true_success(region.sides)
            search.append(region.success - true)
            held.append(region.cross_validated - true)
    assert len(held) >= 30
    assert np.mean(search) > 0.02
    assert abs(np.mean(held)) < np.mean(search)


@pytest.mark.parametrize("design", [DESIGN, {"kind": "random", "points": 64}])
def test_the_interval_covers_the_success_inside_the_box_that_it_judges(design):
    """At least .95, with a false alarm of one in a million were it that."""
    covered = []
    for seed in range(60):
        results = on_the_ridge(seed, methods=["ns"], design=design)
        axes, rows = axes_of(results, TASK, "ns"), results.outcomes(TASK)
        space = regions._space(axes, rows, FACTS["threshold"])
        fold, _ = regions._folds(space.trials, np.random.default_rng(seed))
        found, box = regions._judged(space, fold), regions._search(space, fold % 2 == 0)
        if found.n:
            truth = true_success([regions._side(axis, mask) for axis, mask in zip(axes, box, strict=True)])
            covered.append(found.low <= truth <= found.high)
    assert len(covered) >= 20  # of a random design half of the halves give a box
    assert stats.binomtest(sum(covered), len(covered), 0.95, alternative="less").pvalue > 1e-6


def test_what_judges_did_not_choose():
    """Other outcomes of the judging half change its count and never the box."""
    first, second = (drawn(noisy(3, chance=0.97, failing=0.0), **ONE) for _ in range(2))
    rows = first.outcomes(TASK)
    judging = second.plan["replicate"] % 2 == 1  # a fold is a replicate
    second = replace(second, trials=second.trials.assign(primary=np.where(judging, BAD, second.trials["primary"])))
    one, other = found_in(first), found_in(second)
    assert len(rows) == 128
    assert one.held_out.value > 0.9
    if other.found:
        assert (other.held_out.value, other.held_out.n) == (0.0, one.held_out.n)


def test_a_half_without_a_box_judges_nothing():
    """Twelve points hold a box of ten, six of them do not."""
    region = found_in(drawn(methods=["ns"], design={"kind": "random", "points": 12}))
    assert region.found
    assert math.isnan(region.held_out.low)
    assert region.held_out.method == "no interval: half of the points give no box"
    assert "judged" not in region.words


def test_folds_are_replicates_where_there_are_enough():
    results = drawn(noisy(3, chance=0.95, failing=0.0), **ONE)
    assert found_in(results, seed=0) == found_in(results, seed=1)
    few = drawn(noisy(3, chance=0.95, failing=0.0), methods=["ns"])
    assert found_in(few).folds[1] == 8
    assert found_in(few).held_out.method.startswith("Clopper-Pearson")
    assert found_in(drawn(methods=["ns"], design=DESIGN | {"replicates": 5})).folds == (5, 5)


def test_the_other_half_judges_with_the_exact_interval():
    """Twenty of twenty succeed: at least .025^(1/20) of the box does."""
    region = found_in(drawn(methods=["ns"], design={"kind": "random", "points": 40}))
    assert region.held_out.n == 20
    assert (region.held_out.low, region.held_out.high) == pytest.approx((0.025 ** (1 / 20), 1.0))
    assert "1.00 [.83, 1.00] in the box of one half, judged by the other" in region.words


# ---- what was never sampled

NARROW = {"override": {"lr": {"log_uniform": [1e-4, 1e-1]}, "beta1": {"uniform": [0.0, 0.9]}}}
VARIANT = {"v": {"lr": {"log_uniform": [2.6e-3, 3.1e-2]}}}


def test_the_region_of_a_variant_lies_in_its_own_range():
    results = declared(methods=["ns", "ns@v"], variant=VARIANT, space=NARROW, design=DESIGN)
    region = found_in(results, "ns@v")
    rate = sides(region)["lr"]
    assert (rate.low, rate.high, rate.whole, region.fraction) == (2.6e-3, 3.1e-2, True, 1.0)
    assert (sides(found_in(results))["lr"].low, sides(found_in(results))["lr"].high) == (1e-4, 1e-1)


def test_a_part_of_a_variants_range_is_a_part_of_its_prior():
    """Of eight bins, the upper four: half of the variant's prior, which is less of the sweep's."""
    middle = math.sqrt(2.6e-3 * 3.1e-2)
    changes = {"methods": ["ns@v"], "variant": VARIANT, "space": NARROW, "design": DESIGN}
    region = found_in(declared(good_where(lambda plan: plan["lr_g"] > middle), **changes), "ns@v")
    assert sides(region)["lr"].high == 3.1e-2
    assert sides(region)["lr"].low <= middle * 1.0001
    assert 0.5 <= region.fraction <= 5 / 8


def test_where_a_source_declares_too_much_a_side_ends_where_trials_do():
    """A declared range of three decades whose middle half alone was drawn: of its eight bins, those with trials."""
    results = drawn(methods=["ns@v"], variant=VARIANT, space=NARROW, design=DESIGN)
    side = sides(found_in(results, "ns@v"))["lr"]
    values = results.plan["lr_g"].astype(float)
    width = 3 / 8
    assert side.low <= values.min() <= side.low * 10**width
    assert side.high / 10**width <= values.max() <= side.high
    assert not side.whole


@given(seed=st.integers(0, 200), chance=st.sampled_from([0.7, 0.9, 1.0]))
@settings(max_examples=25, deadline=None)
def test_no_side_ends_in_an_empty_bin(seed, chance):
    results = drawn(noisy(seed, chance=chance, failing=0.0), methods=["ns"], design={"kind": "random", "points": 24})
    region = found_in(results)
    rows = results.outcomes(TASK)
    inside = np.logical_and.reduce(
        [np.ones(len(rows), dtype=bool), *(side.axis.of(rows).between(side.low, side.high) for side in region.sides)]
    )
    for side in region.sides:
        cuts, values = edges(side.axis, 8), side.axis.of(rows)[inside]
        assert values.min() <= cuts[cuts > side.low][0]
        assert values.max() >= cuts[cuts < side.high][-1]


def test_what_bounds_no_box_ends_where_trials_do():
    """Of six hyperparameters four can bound a box; the others go from their first trial's bin to their last's."""
    axis = Axis("a", "a", log=False, levels=(), low=0.0, high=6.0)
    np.testing.assert_array_equal(_spanned(np.array([1, 4, 2]), axis, 6), [False, True, True, True, True, False])
    text = Axis("o", "o", log=False, levels=("x", "y"), low=math.nan, high=math.nan)
    assert _spanned(np.array([1]), text, 2).all()


# ---- what is not known


def test_the_order_of_rows_does_not_matter():
    results = drawn(noisy(3, chance=0.9, missing=0.1), methods=["ns"])
    assert found_in(results).words == found_in(shuffled(results)).words
    assert found_in(results).sides == found_in(shuffled(results)).sides


def test_undecided_trials_are_said():
    outcome = noisy(3, chance=0.97, failing=0.0, missing=0.1)
    region = found_in(drawn(outcome, **ONE))
    assert region.undecided > 0
    assert region.words.endswith(f"; {region.undecided} trials are undecided")
    nothing = found_in(drawn(lambda plan: np.full(len(plan), np.nan), **ONE))
    assert nothing.words.endswith("succeed; 128 trials are undecided")


def test_a_sampler_that_looked_at_results_gives_no_region():
    region = found_in(adaptive(drawn(**ONE)))
    assert not region.found
    assert "configurations were chosen by tpe, which looked at results: no fraction of the prior" in region.words


def test_nothing_that_varies_has_no_region():
    region = found_in(drawn(methods=["ns"], space={"override": {"lr": 1e-3}}, design={"kind": "random", "points": 16}))
    assert region.words == "ns on manifold-d2: no hyperparameter varies, so there are no boxes"
    assert math.isnan(region.success)


def test_without_a_prior_the_fraction_is_that_of_the_plan():
    results = drawn(good_where(planted), **ONE)
    bare = type(results)(results.name, results.plan, results.trials, (), None)
    region = found_in(bare)
    inside = results.plan["lr_g"].between(sides(region)["lr"].low, sides(region)["lr"].high)
    inside &= results.plan["beta1"].between(sides(region)["beta1"].low, sides(region)["beta1"].high)
    assert region.fraction == pytest.approx(inside.mean())


def test_edges_are_short_inside_and_exact_at_the_ends():
    axis = Axis("lr_g", "lr", log=True, levels=(), low=1.23456789e-5, high=9.87654321e-3)
    found = edges(axis, 8)
    assert (found[0], found[-1]) == (1.23456789e-5, 9.87654321e-3)
    assert all(float(f"{edge:.6g}") == edge for edge in found[1:-1])

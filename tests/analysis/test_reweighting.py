import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from analysis import intervals
from analysis.outcomes import Sample, point_means
from analysis.reweighting import Weighted, bounded_mean, difference, importance, proportion, weighted
from search_spaces.domains import Choice, Cross, Fixed, LogUniform, Published, Uniform, When
from study.errors import UserError
from tests.analysis.drawn import adaptive, declared, drawn

CROSSED = {"space": {"preset": "lucic_wide"}}


def points(n, replicates=1):
    return Sample(np.zeros(n), np.repeat(np.arange(replicates), n // replicates), np.arange(n))


def weights_of(target, method="ns", **changes):
    results = drawn(**changes)
    rows = results.plan[results.plan["method"] == method].reset_index(drop=True)
    return importance(results, rows, target), rows


# ---- weights


def test_a_part_of_a_range_weighs_what_it_is_a_part_of():
    """One of three decades: density 3 times as high inside, 0 outside."""
    weights, rows = weights_of({"lr": LogUniform(1e-4, 1e-3)})
    inside = rows["lr_g"].between(1e-4, 1e-3)
    np.testing.assert_allclose(weights, np.where(inside, 3.0, 0.0))


def test_another_density_on_the_same_range():
    """1 / (d - c) under the target over 1 / (x ln(b / a)) under the prior."""
    weights, rows = weights_of({"lr": Uniform(1e-5, 1e-2)})
    np.testing.assert_allclose(weights, rows["lr_g"] * math.log(1e3) / (1e-2 - 1e-5))


def test_several_hyperparameters_multiply():
    weights, rows = weights_of({"lr": LogUniform(1e-4, 1e-2), "beta1": Uniform(0.0, 0.4)})
    inside = (rows["lr_g"] >= 1e-4) & (rows["beta1"] <= 0.4)
    np.testing.assert_allclose(weights, np.where(inside, 1.5 * 2.0, 0.0))


def test_choices_weigh_by_their_number():
    space = {"override": {"lr": 1e-3, "beta1": {"choice": [0.0, 0.3, 0.5]}, "optimiser": {"cross": ["adam", "sgd"]}}}
    weights, rows = weights_of({"beta1": Choice((0.0, 0.5))}, space=space)
    np.testing.assert_allclose(weights, np.where(rows["beta1"] != 0.3, 1.5, 0.0))
    weights, rows = weights_of({"optimiser": Fixed("sgd")}, space=space)
    np.testing.assert_allclose(weights, np.where(rows["optimiser"] == "sgd", 2.0, 0.0))


def test_a_dependent_prior_weighs_each_method_by_its_own_part():
    target = {"penalty_weight": When("penalty", {"gp1": LogUniform(1.0, 10.0)}, LogUniform(0.1, 10.0))}
    weights, rows = weights_of(target, "ns+gp1", methods=["ns+gp1", "ns+gp0"], **CROSSED)
    np.testing.assert_allclose(weights, np.where(rows["penalty_weight"].between(1, 10), 3.0, 0.0))
    weights, rows = weights_of(target, "ns+gp0", methods=["ns+gp1", "ns+gp0"], **CROSSED)
    np.testing.assert_allclose(weights, np.where(rows["penalty_weight"].between(0.1, 10), 2.0, 0.0))


def test_what_a_method_does_not_have_changes_nothing():
    weights, _ = weights_of({"penalty_weight": LogUniform(1.0, 10.0)}, "ns", **CROSSED)
    assert set(weights) == {1.0}


def test_what_was_sampled_and_is_asked_for_again_weighs_one():
    target = {"lr": LogUniform(1e-5, 1e-2), "n_critic": Cross((1, 5)), "beta2": Fixed(0.999)}
    assert set(weights_of(target, **CROSSED)[0]) == {1.0}
    published = {"space": {"override": {"lr": 1e-3, "penalty_weight": "published"}}}
    assert set(weights_of({"penalty_weight": Published()}, "ns+gp1", **published)[0]) == {1.0}
    assert set(weights_of({"penalty_weight": Fixed(10.0)}, "ns+gp1", **published)[0]) == {1.0}


def test_a_grid_is_weighed_by_its_levels():
    weights, rows = weights_of({"beta1": Choice((0.0, 0.4))}, design={"kind": "grid", "levels": 3})
    np.testing.assert_allclose(weights, np.where(rows["beta1"] < 0.5, 1.5, 0.0))


@settings(deadline=None, max_examples=30)
@given(st.floats(-5, -2.2), st.floats(0.1, 2.5))
def test_the_mean_weight_of_the_prior_is_one(low, decades):
    """E[p'/p] = 1: of 256 Sobol points, a range holds its share but for two, and each weighs 3 / decades."""
    decades = min(decades, -2 - low)
    target = {"lr": LogUniform(10**low, 10 ** (low + decades))}
    weights, _ = weights_of(target, methods=["ns"], design={"kind": "sobol", "points": 256})
    assert weights.mean() == pytest.approx(1, abs=2 / 256 * 3 / decades + 1e-9)


@pytest.mark.parametrize(
    ("target", "said"),
    [
        (
            {"lr": LogUniform(1e-6, 1e-3)},
            r'lr = \{"log_uniform": \[1e-06, 0.001\]\} cannot be had from lr = .* not inside',
        ),
        ({"lr": Fixed(1e-3)}, "one has a density where the other has single values: run that range"),
        ({"beta1": Choice((0.0, 0.5))}, "one has a density where the other has single values: run that range"),
        ({"n_critic": Cross((1, 2))}, "it is not inside: run that range"),
        ({"n_critic": Fixed(7)}, "it is not inside: run that range"),
        ({"beta2": Uniform(0.9, 0.999)}, "one has a density where the other has single values"),
        ({"momentum": Fixed(0.9)}, "unknown hyperparameter in the target range: 'momentum'"),
        ({"lr": When("optimiser", {"sgd": LogUniform(1e-4, 1e-2)}, None)}, "lr = nothing cannot be had"),
    ],
)
def test_what_is_not_inside_is_refused(target, said):
    with pytest.raises(UserError, match=said):
        weights_of(target, **CROSSED)


def test_without_a_prior_nothing_is_weighed():
    results = drawn()
    with pytest.raises(UserError, match=r"chosen by tpe, which looked at results: .*: run that range"):
        importance(adaptive(results), results.plan, {"lr": LogUniform(1e-4, 1e-3)})
    bare = type(results)(results.name, results.plan, results.trials, (), None)
    with pytest.raises(UserError, match="drawn was not drawn from a declared prior"):
        importance(bare, results.plan, {"lr": LogUniform(1e-4, 1e-3)})


def test_a_variant_with_a_range_of_its_own_is_noticed():
    variant = {"low": {"lr": {"log_uniform": [1e-5, 1e-4]}}, "past": {"lr": {"log_uniform": [1e-3, 1e-1]}}}
    changes = {"methods": ["ns", "ns@low", "ns@past"], "variant": variant, "design": {"kind": "random", "points": 64}}
    assert weights_of({"lr": LogUniform(1e-4, 1e-2)}, "ns", **changes)[0].max() == pytest.approx(1.5)
    for method in ("ns@low", "ns@past"):
        with pytest.raises(UserError, match=r"values do not fill it|values lie beyond it"):
            weights_of({"lr": LogUniform(1e-4, 1e-2)}, method, **changes)


@pytest.mark.parametrize("points", [4, 32])
def test_a_variant_is_weighted_from_what_it_declared(points):
    """Its range has 1.5 decades: a part of one of them weighs 1.5 inside, and what reaches beyond is refused."""
    variant = {"v": {"lr": {"log_uniform": [10**-3.2, 10**-1.7]}}}
    results = declared(methods=["ns", "ns@v"], variant=variant, design={"kind": "random", "points": points})
    rows = results.plan[results.plan["method"] == "ns@v"]
    found = importance(results, rows, {"lr": LogUniform(10**-3.0, 10**-2.0)})
    inside = rows["lr_g"].between(1e-3, 1e-2).to_numpy()
    np.testing.assert_allclose(found, np.where(inside, 1.5, 0.0))
    for target in (LogUniform(1e-4, 1e-2), LogUniform(1e-5, 1e-2)):
        with pytest.raises(UserError, match=r"cannot be had from lr = .* by weights: it is not inside"):
            importance(results, rows, {"lr": target})


def test_what_a_variant_fixes_is_not_weighted_to_a_range():
    space = {"override": {"lr": {"log_uniform": [1e-5, 1e-2]}, "lr_d_ratio": {"log_uniform": [0.1, 10.0]}}}
    results = declared(methods=["ns", "ns@ttur"], variant={"ttur": {"lr_d_ratio": 3.0}}, space=space)
    rows = results.plan[results.plan["method"] == "ns@ttur"]
    with pytest.raises(UserError, match="one has a density where the other has single values"):
        importance(results, rows, {"lr_d_ratio": LogUniform(1.0, 5.0)})


def test_few_draws_of_a_declared_prior_need_not_come_near_its_ends():
    """The rule by gaps is for sources that say nothing of one method; a declared prior is taken at its word."""
    results = declared(methods=["ns"], design={"kind": "random", "points": 64})
    rows = results.plan[results.plan["lr_g"] < 1e-3]
    target = {"lr": LogUniform(1e-5, 1e-2)}
    assert importance(results, rows, target) == pytest.approx(np.ones(len(rows)))
    with pytest.raises(UserError, match="values do not fill it"):
        importance(replace(results, priors={}), rows, target)


# ---- weighted means


def test_kish_by_hand():
    """(1 + 1 + 2 + 0)^2 / (1 + 1 + 4) = 16 / 6; the mean is (1 * 1 + 2 * 1) / 4."""
    found = weighted([1.0, 0.0, 1.0, 1.0], np.array([1.0, 1.0, 2.0, 0.0]), points(4))
    assert found.effective == pytest.approx(16 / 6)
    assert (found.value, found.points) == (0.75, 3)
    assert found.influence() == pytest.approx([0.25 / 4, -0.75 / 4, 0.5 / 4, 0.0])


@given(st.integers(0, 10**6))
def test_a_weighted_mean_is_that_of_a_loop(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 40))
    trials = Sample(np.zeros(n), rng.integers(0, 2, n), rng.integers(0, 8, n))
    values, weights = rng.random(n), rng.random(n)
    numerator = denominator = 0.0
    for key in {(r, p) for r, p in zip(trials.replicates, trials.points, strict=True)}:
        here = [i for i in range(n) if (trials.replicates[i], trials.points[i]) == key]
        numerator += np.mean([weights[i] * values[i] for i in here])
        denominator += np.mean([weights[i] for i in here])
    assert weighted(values, weights, trials).value == pytest.approx(numerator / denominator)


@pytest.mark.parametrize("replicates", [1, 8])
@pytest.mark.parametrize("scale", [1.0, 7.0])
def test_equal_weights_are_no_weights(replicates, scale):
    rng = np.random.default_rng(replicates)
    trials, values, other = points(64, replicates), rng.random(64), rng.random(64)
    reached = (values < 0.6).astype(float)
    a, b, c = (weighted(v, np.full(64, scale), trials) for v in (values, other, reached))
    for found, oracle in (
        (bounded_mean(a), intervals.bounded_mean(point_means(values, trials))),
        (difference(a, b), intervals.difference(point_means(values - other, trials))),
        (proportion(c), intervals.proportion(point_means(reached, trials))),
    ):
        assert (found.value, found.low, found.high) == pytest.approx((oracle.value, oracle.low, oracle.high))
        assert found.n == oracle.n
        assert (found.p_value is None) == (oracle.p_value is None)
        assert found.p_value is None or found.p_value == pytest.approx(oracle.p_value)


def test_weights_of_one_and_none_are_a_subset():
    rng = np.random.default_rng(3)
    trials, values, kept = points(80), rng.random(80), rng.random(80) < 0.5
    part = Sample(trials.values[kept], trials.replicates[kept], trials.points[kept])
    found = bounded_mean(weighted(values, kept.astype(float), trials))
    oracle = intervals.bounded_mean(point_means(values[kept], part))
    assert (found.value, found.low, found.high) == pytest.approx((oracle.value, oracle.low, oracle.high))
    reached = values < 0.3
    found = proportion(weighted(reached, kept.astype(float), trials))
    oracle = intervals.proportion(point_means(reached[kept], part))
    assert (found.value, found.low, found.high) == pytest.approx((oracle.value, oracle.low, oracle.high))


def test_no_variance_is_not_no_uncertainty():
    weights = np.random.default_rng(4).random(50) + 0.1
    ones = weighted(np.ones(50), weights, points(50))
    n = ones.effective
    found = proportion(ones)
    assert (found.low, found.high) == (pytest.approx(0.025 ** (1 / n)), 1.0)  # P(n of n) = p^n
    found = bounded_mean(ones)
    # 50 ones and one effective 0, which weighs 1/n: at R the sum of exp(t (1 - R) w) and exp(-t R / n) is least there
    assert 0.025 ** (1 / n) - 0.05 < found.low < 1 - 1 / n
    assert found.high == 1.0
    nothing = difference(ones, ones)
    assert (nothing.value, nothing.p_value) == (0.0, 1.0)
    assert nothing.low < 0 < nothing.high


def test_korn_and_graubard_by_hand():
    """Weights 1 and 3, 20 points of each, 10 and 4 of which succeed: (10 + 12) / 80 = .275.

    The squared influences sum to (10 (.725)^2 + 10 (.275)^2 + 9 (4 (.725)^2 + 16 (.275)^2)) / 6400 = 35.8225 / 6400,
    so the size is .275 * .725 / .0055973 = 35.62, more than Kish's 80^2 / 200 = 32, which counts.
    """
    weights = np.repeat([1.0, 3.0], 20)
    reached = np.r_[np.ones(10), np.zeros(10), np.ones(4), np.zeros(16)]
    found = proportion(weighted(reached, weights, points(40)))
    assert (found.low, found.high) == pytest.approx(intervals.clopper_pearson(0.275 * 32, 32))
    # all of the 4 among the heavy: .15, squared influences 9 (4 (.85)^2 + 16 (.15)^2) + 20 (.15)^2 = 29.7
    heavy = np.r_[np.zeros(20), np.ones(4), np.zeros(16)]
    found = proportion(weighted(heavy, weights, points(40)))
    size = 0.15 * 0.85 / (29.7 / 6400)
    assert (found.low, found.high) == pytest.approx(intervals.clopper_pearson(0.15 * size, size))
    assert found.method == "Korn-Graubard, 27 effective of 40 points"


def test_the_likelihood_ratio_is_that_of_a_slow_search():
    rng = np.random.default_rng(6)
    values, weights = rng.random(30), rng.random(30) + 0.2
    found = bounded_mean(weighted(values, weights, points(30)))
    shares = weights / weights.sum()
    n = 1 / np.sum(shares**2)
    for end, other in ((0.0, found.low), (1.0, found.high)):
        sample = np.r_[shares * (values - other), (end - other) / n]
        least = optimize.minimize_scalar(lambda t, x=sample: np.log(np.mean(np.exp(t * x))), bounds=(-2000, 2000))
        assert math.sqrt(-2 * 30 * least.fun) == pytest.approx(stats.t.ppf(0.975, n - 1), rel=1e-3)


def test_p_is_below_five_percent_exactly_when_the_difference_has_one_sign():
    rng = np.random.default_rng(8)
    for shift in np.linspace(-0.4, 0.4, 17):
        first, second = np.clip(rng.random(40) + shift, 0, 1), rng.random(40)
        weights = rng.random((2, 40)) + 0.1
        found = difference(weighted(first, weights[0], points(40)), weighted(second, weights[1], points(40)))
        assert (found.p_value < 0.05) == (found.low > 0 or found.high < 0)
        mirrored = difference(weighted(second, weights[1], points(40)), weighted(first, weights[0], points(40)))
        assert (mirrored.low, mirrored.high) == pytest.approx((-found.high, -found.low))
        assert mirrored.p_value == pytest.approx(found.p_value)


def test_no_weight_is_no_estimate():
    found = weighted(np.ones(5), np.zeros(5), points(5))
    assert (found.effective, found.points) == (0.0, 0)
    assert math.isnan(found.value)
    for estimate in (proportion(found), bounded_mean(found), difference(found, found)):
        assert estimate is intervals.NOTHING


GRID = (np.arange(20_000) + 0.5) / 20_000
WEIGHTS = {
    "falling": lambda x: np.exp(-3 * x),
    "log to linear": lambda x: 10 ** (3 * x),
    "log-normal": lambda x: np.exp(stats.norm.ppf(x)),
}
"""Of a place along the range: of 128 points 77, 37 and 52 are effective."""
CHANCES = {
    "rare": lambda x: np.full_like(x, 0.03),
    "tenth": lambda x: np.full_like(x, 0.1),
    "middle": lambda x: 0.9 - 0.8 * x,
    "sure": lambda x: np.full_like(x, 0.93),
    "rising": lambda x: 0.2 * np.exp(-4 * (1 - x)),
}


def errors(rule, truth, draw, count):
    """How often an end is on the wrong side, the greater of both ends."""
    found = [rule(*draw()) for _ in range(count)]
    return max(sum(one.high < truth for one in found), sum(one.low > truth for one in found))


def most(count):
    """The most that .025 gives in all but one of 10,000 tests."""
    return stats.binom.ppf(1 - 1e-4, count, 0.025)


@pytest.mark.parametrize("chance", CHANCES)
@pytest.mark.parametrize("kind", WEIGHTS)
def test_no_end_of_a_weighted_proportion_errs_more_often_than_promised(kind, chance):
    """Student's t errs in .23 to .40 where success is rare, in .05 to .10 in the middle."""
    rng, n = np.random.default_rng(17), 128
    weight, success = WEIGHTS[kind], CHANCES[chance]

    def draw():
        x = rng.random(n)
        return (weighted(rng.random(n) < success(x), weight(x), points(n)),)

    truth = float(np.average(success(GRID), weights=weight(GRID)))
    assert errors(proportion, truth, draw, 800) <= most(800)


@pytest.mark.parametrize("chance", ["rare", "middle"])
@pytest.mark.parametrize("kind", WEIGHTS)
def test_no_end_of_a_weighted_mean_or_difference_does(kind, chance):
    """Scores are 0 or uniform in (.3, 1), mean .65; the other method's are 0 in another half of the cases."""
    rng, n = np.random.default_rng(18), 128
    weight, success = WEIGHTS[kind], CHANCES[chance]

    def draw():
        x = rng.random(n)
        score = np.where(rng.random(n) < success(x), rng.uniform(0.3, 1.0, n), 0.0)
        other = np.where(rng.random(n) < 0.5, score, 0.0)
        return tuple(weighted(values, weight(x), points(n)) for values in (score, other))

    truth = 0.65 * float(np.average(success(GRID), weights=weight(GRID)))
    assert errors(lambda first, _: bounded_mean(first), truth, draw, 150) <= most(150)
    assert errors(difference, truth / 2, draw, 150) <= most(150)


def test_intervals_under_weights_are_not_much_wider_than_they_need_be():
    """At a mixed outcome: at most 1.35 times those of t over the effective points, which err in 5 %."""
    rng, n = np.random.default_rng(19), 256
    x = rng.random(n)
    score = rng.beta(2, 2, n) * (rng.random(n) < 0.7)
    mean = weighted(score, np.exp(-2 * x), points(n))
    half = stats.t.ppf(0.975, mean.effective - 1) * math.sqrt(float(np.sum(mean.influence() ** 2)))
    found = bounded_mean(mean)
    assert 2 * half < found.high - found.low < 1.35 * 2 * half


def test_the_value_is_that_of_the_target():
    """Success where lr > 1e-4, asked for under one of its three decades above: 1; under all of them as sampled: 2/3."""
    weights, rows = weights_of({"lr": LogUniform(1e-4, 1e-3)}, methods=["ns"], design={"kind": "sobol", "points": 64})
    reached = (rows["lr_g"] > 1e-4).to_numpy()
    trials = Sample(np.zeros(64), rows["replicate"].to_numpy(), rows["point"].to_numpy())
    assert weighted(reached, weights, trials).value == 1.0
    assert weighted(reached, np.ones(64), trials).value == pytest.approx(2 / 3, abs=1 / 64)


def test_weighted_means_know_their_points():
    found = Weighted(np.array([1.0, 0.0]), np.array([2.0, 0.0]), np.array([0, 0]))
    assert (found.points, found.value) == (1, 0.5)

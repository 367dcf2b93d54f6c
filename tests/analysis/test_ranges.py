import math

import numpy as np
import pytest

from analysis import profiles, ranges
from analysis.axes import axes_of
from analysis.comparisons import compare
from analysis.intervals import Estimate
from analysis.outcomes import sample
from analysis.ranges import (
    LEAST,
    BoxDifference,
    in_ranges,
    named_ranges,
    reweighted,
    reweighted_difference,
    signs,
    stable,
)
from search_spaces.domains import Choice, LogUniform, Uniform
from study.errors import UserError
from tests.analysis.drawn import FACTS, GOOD, TASK, declared, drawn, noisy, shuffled

POINTS = {"design": {"kind": "random", "points": 64}}
CROSSED = POINTS | {"space": {"preset": "lucic_wide"}}
LOWER = {"lr": LogUniform(1e-5, 1e-3)}


def part(results, method, condition):
    outcomes = results.outcomes(TASK)
    rows = outcomes[outcomes["method"] == method]
    return sample(rows[condition(rows)])


# ---- ranges of a variant's own

VARIANT = {"methods": ["ns", "ns@v"], "variant": {"v": {"lr": {"log_uniform": [10**-3.2, 10**-1.8]}}}}


@pytest.mark.parametrize("target", [LogUniform(1e-4, 1e-2), LogUniform(1e-5, 1e-2)])
def test_a_variant_is_not_weighted_to_where_it_drew_nothing(target):
    results = declared(noisy(1), **VARIANT)
    assert reweighted(results, TASK, "ns", {"lr": target}).success.n >= LEAST
    with pytest.raises(UserError, match="it is not inside: run that range"):
        reweighted(results, TASK, "ns@v", {"lr": target})
    (_, part) = in_ranges(results, TASK, "ns", "ns@v", {"there": {"lr": target}})
    assert "it is not inside" in part.reason


def test_a_named_range_has_to_lie_inside_what_every_method_drew():
    inside = {"beta1": {"uniform": [0.0, 1.0]}, "lr": {"log_uniform": [1e-6, 1.0]}}
    changes = POINTS | {"space": {"override": inside}} | VARIANT
    results = declared(noisy(1), **changes)
    both, one = named_ranges(results, TASK, ("ns", "ns@v")), named_ranges(results, TASK, ("ns",))
    assert any("lr" in target for target in one.values())
    assert not any("lr" in target for target in both.values())


def test_each_half_of_a_variants_range_is_its_own():
    """The medians: of ns 10^-3.5, of the variant 10^-2.5."""
    found = {part.box for part in signs(declared(noisy(1), **VARIANT), TASK, "ns", "ns@v")}
    assert {"lr in its lower half (1e-05 to 0.000316)", "lr in its lower half (0.000631 to 0.00316)"} <= found


# ---- another range


@pytest.mark.parametrize("changes", [POINTS, {"design": {"kind": "sobol", "points": 8, "replicates": 8}}])
def test_a_part_of_the_prior_is_the_trials_inside(changes):
    results = drawn(noisy(1, missing=0.1), **changes)
    found = reweighted(results, TASK, "ns", LOWER)
    inside = part(results, "ns", lambda rows: rows["lr_g"] <= 1e-3)
    success = profiles.success(inside, FACTS["threshold"])
    score = profiles.log_auc(inside, low=FACTS["anchor_low"], high=FACTS["anchor_high"])
    for mine, oracle in ((found.success, success), (found.log_auc, score)):
        assert (mine.value, mine.low, mine.high) == pytest.approx((oracle.value, oracle.low, oracle.high))
    assert found.points == len(inside.decided().values)
    # of equal weights, whose sum and sum of squares round once for each
    assert found.effective == pytest.approx(found.points, rel=4 * found.points * np.finfo(float).eps)
    thresholds, fraction = profiles.steps(inside)
    np.testing.assert_allclose(found.thresholds, thresholds)
    np.testing.assert_allclose(found.fraction, fraction)
    assert found.bounds == pytest.approx(profiles.success_bounds(inside, FACTS["threshold"]))
    assert found.failures.value == pytest.approx(np.isinf(inside.decided().values).mean())
    assert found.half_width == pytest.approx(math.sqrt(math.log(40) / (2 * found.points)))


def test_an_integral_over_the_profile_is_the_log_auc():
    results = drawn(noisy(5), **POINTS)
    found = reweighted(results, TASK, "ns", {"lr": LogUniform(1e-4, 1e-2)} | {"beta1": Uniform(0.0, 0.8)})
    tau = np.exp(np.linspace(math.log(0.02), math.log(2.0), 200_001))
    steps = np.concatenate([[0.0], found.fraction])[np.searchsorted(found.thresholds, tau, side="right")]
    assert steps[:-1].mean() == pytest.approx(found.log_auc.value, abs=1e-4)


def test_a_crossed_structure_is_weighed_within_its_points():
    results = drawn(noisy(2), **CROSSED)
    found = reweighted(results, TASK, "ns", {"n_critic": Choice((5,))})
    inside = part(results, "ns", lambda rows: rows["n_critic"] == 5)
    oracle = profiles.success(inside, FACTS["threshold"])
    assert (found.success.value, found.success.low, found.success.high) == pytest.approx(
        (oracle.value, oracle.low, oracle.high)
    )
    assert found.points == 64


def test_too_small_a_range_is_refused():
    with pytest.raises(
        UserError, match=r"ns on manifold-d2: the range leaves \d+ effective points of 64, fewer than 20"
    ):
        reweighted(drawn(noisy(1), **POINTS), TASK, "ns", {"lr": LogUniform(1e-4, 2e-4)})


def test_an_unknown_method_is_refused():
    with pytest.raises(ValueError, match="method 'x' is not planned"):
        reweighted(drawn(**POINTS), TASK, "x", LOWER)


def test_nothing_finished_leaves_nothing():
    with pytest.raises(UserError, match="the range leaves 0 effective points"):
        reweighted(drawn(lambda plan: np.full(len(plan), np.nan), **POINTS), TASK, "ns", LOWER)


# ---- differences


def test_a_difference_in_a_part_is_that_of_its_pairs():
    results = drawn(noisy(3, missing=0.1), **POINTS)
    outcomes = results.outcomes(TASK)
    inside = outcomes[outcomes["lr_g"] <= 1e-3]
    oracle = compare(inside, "ns", "ns+gp1", facts=results.facts(TASK)).log_auc_difference
    found = reweighted_difference(results, TASK, "ns", "ns+gp1", LOWER)
    assert (found.value, found.low, found.high) == pytest.approx((oracle.value, oracle.low, oracle.high))
    assert found.p_value == pytest.approx(oracle.p_value)


def test_each_method_is_weighed_by_its_own_hyperparameters():
    """ns has no weight, so only the other arm moves: its value is that of its own reweighted log-AUC."""
    results = drawn(noisy(3), **CROSSED)
    target = {"penalty_weight": LogUniform(1.0, 100.0)}
    found = reweighted_difference(results, TASK, "ns", "ns+gp1", target)
    arms = [reweighted(results, TASK, method, target).log_auc.value for method in ("ns", "ns+gp1")]
    assert found.value == pytest.approx(arms[0] - arms[1])
    assert arms[0] == pytest.approx(
        profiles.log_auc(part(results, "ns", lambda rows: rows["lr_g"] > 0), low=0.02, high=2.0).value
    )


@pytest.mark.parametrize("changes", [POINTS, CROSSED | {"methods": ["ns+gp0", "ns+gp1"]}])
def test_parts_are_those_of_a_loop(changes):
    results = drawn(noisy(4, missing=0.1), **changes)
    first, second = results.methods
    outcomes, facts = results.outcomes(TASK), results.facts(TASK)
    found = {item.box: item for item in signs(results, TASK, first, second)}
    whole = compare(outcomes, first, second, facts=facts)
    assert found["everything"].difference.value == pytest.approx(whole.log_auc_difference.value)
    assert found["everything"].points == whole.points
    for axis in axes_of(results, TASK, first):
        if axis.word == "penalty_weight":
            continue
        values = axis.of(outcomes)
        middle = axis.edges(2)[1] if not axis.levels else 3
        for box, inside in (("lower half", values < middle), ("upper half", values >= middle)):
            here = compare(outcomes[inside], first, second, facts=facts)
            name = f"{axis.word} = {1 if box == 'lower half' else 5}" if axis.levels else None
            item = next(v for k, v in found.items() if k == name or k.startswith(f"{axis.word} in its {box}"))
            assert (item.difference.value, item.difference.low, item.difference.high) == pytest.approx(
                (here.log_auc_difference.value, here.log_auc_difference.low, here.log_auc_difference.high)
            )
            assert item.points == here.points


def test_two_methods_of_their_own_ranges_are_halved_each_by_its_own():
    results = drawn(noisy(4), methods=["ns+gp0", "ns+gp1"], **CROSSED)
    boxes = [item.box for item in signs(results, TASK, "ns+gp0", "ns+gp1") if item.box.startswith("penalty")]
    assert boxes == [
        "penalty_weight in its lower half (0.01 to 1)",
        "penalty_weight in its upper half (1 to 100)",
        "penalty_weight in its lower half (0.1 to 3.16)",
        "penalty_weight in its upper half (3.16 to 100)",
    ]


def test_turning_the_methods_turns_the_sign():
    results = drawn(noisy(6), **CROSSED)
    there, back = (signs(results, TASK, *names) for names in (("ns", "ns+gp1"), ("ns+gp1", "ns")))
    values = {item.box: item.difference.value for item in back}
    assert all(values[item.box] == pytest.approx(-item.difference.value) for item in there)


def test_halves_put_together_are_all_of_it():
    found = signs(drawn(noisy(6), **POINTS), TASK, "ns", "ns+gp1")
    whole, *halves = found
    for pair in (halves[:2], halves[2:]):
        assert sum(item.points for item in pair) == whole.points
        total = sum(item.points * item.difference.value for item in pair) / whole.points
        assert total == pytest.approx(whole.difference.value)


def test_the_order_of_rows_does_not_matter():
    results = drawn(noisy(6, missing=0.1), **CROSSED)
    assert signs(results, TASK, "ns", "ns+gp1") == signs(shuffled(results), TASK, "ns", "ns+gp1")


def test_a_part_without_a_decided_pair_says_so():
    results = drawn(lambda plan: np.where(plan["lr_g"].astype(float) < 10**-3.5, np.nan, GOOD), **POINTS)
    low = next(item for item in signs(results, TASK, "ns", "ns+gp1") if "lower" in item.box)
    assert (low.points, low.few) == (0, True)
    assert low.words == "lr in its lower half (1e-05 to 0.000316): no pair with both outcomes known"


def test_methods_without_a_shared_configuration_are_refused(build):
    results = build(methods=("a", "b"), confirmatory=())
    plan = results.plan.assign(config=results.plan["method"] + results.plan["config"])
    with pytest.raises(ValueError, match="share no configuration"):
        signs(type(results)("x", plan, results.trials, (), None), "manifold-d2", "a", "b")


# ---- stability


def box(name, value, points=40, half=0.1):
    estimate = Estimate(value, value - half, value + half, points, "t")
    return BoxDifference(TASK, "a", "b", name, estimate, points)


def test_a_sign_that_is_equal_everywhere_is_stable():
    found = stable((box("everything", 0.3), box("low", 0.2), box("high", 0.05), box("tiny", -0.5, points=19)))
    assert found.stable is True
    assert (found.same, found.other, found.few, found.shown) == (("low", "high"), (), ("tiny",), 1)
    assert found.words == (
        "a survives more in 2 of 2 parts of the prior; 1 of them with a 95 % interval without 0 (unadjusted); "
        "too few points: tiny"
    )


def test_a_sign_that_turns_or_goes_is_not():
    turned = stable((box("everything", -0.3), box("low", -0.4), box("high", 0.05), box("flat", 0.0)))
    assert turned.stable is False
    assert (turned.same, turned.other, turned.none) == (("low",), ("high",), ("flat",))
    assert turned.words == (
        "b survives more in 1 of 3 parts of the prior; 1 of them with a 95 % interval without 0 (unadjusted); "
        "the other way round: high; no difference: flat"
    )
    assert stable((box("everything", 0.3), box("flat", 0.0))).stable is False
    nothing = stable((box("everything", 0.0), box("low", 0.1)))
    assert (nothing.stable, nothing.words) == (
        False,
        "there is no difference whose sign could be looked at in parts",
    )


def test_without_large_parts_nothing_is_said():
    found = stable((box("everything", 0.3), box("low", 0.2, points=10)))
    assert found.stable is None
    assert found.words == "no part of the prior has 20 points: nothing can be said of the sign in parts"
    assert stable((box("everything", 0.3),)).stable is None


# ---- named ranges


def test_the_narrow_range_inside_the_wide_one():
    results = drawn(noisy(1), **CROSSED)
    found = named_ranges(results, TASK, ("ns", "ns+gp1"))
    # narrow draws beta1 and beta2 by choice and n_critic 2, which the wide one has no trials for
    name = "narrow (lr, penalty_weight; as sampled: beta1, beta2, n_critic)"
    assert name in found
    assert list(found[name]) == ["lr", "penalty_weight"]
    assert not any(name.startswith(("lucic_wide", "published_grid")) for name in found)


def test_named_ranges_need_a_prior():
    results = drawn(noisy(1), **POINTS)
    assert named_ranges(type(results)("x", results.plan, results.trials, (), None), TASK, ("ns",)) == {}


def test_a_verdict_over_named_ranges():
    results = drawn(noisy(1), space={"preset": "lucic_wide"}, design={"kind": "random", "points": 128})
    named = {"lower": LOWER, "tiny": {"lr": LogUniform(1e-4, 1.1e-4)}, "beyond": {"lr": LogUniform(1e-7, 1e-5)}}
    everything, lower, tiny, beyond = in_ranges(results, TASK, "ns", "ns+gp1", named)
    assert everything.difference == signs(results, TASK, "ns", "ns+gp1")[0].difference
    assert lower.difference == reweighted_difference(results, TASK, "ns", "ns+gp1", LOWER)
    assert "fewer than 20: run that range" in tiny.words
    assert "not inside: run that range" in beyond.words
    assert stable((everything, lower, tiny, beyond)).few == ("tiny", "beyond")
    assert ranges.LEAST == 20

"""Verdicts: exclusive, monotone, adjusted, honest about what is missing, and wrong no more often than they say."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from analysis.claims import (
    AFTER,
    BEFORE,
    INCONCLUSIVE,
    OPPOSITES,
    REFUTED,
    SUPPORTED,
    VERDICTS,
    WITHDRAWN,
    _conjunction,
    _finding,
    as_json,
    comparisons,
    evaluate_claims,
    region,
    table,
)
from analysis.contrasts import Measured, Numbers, averaged, contrast
from analysis.intervals import Estimate
from analysis.outcomes import Sample
from study.claims import DIRECTIONS, Check, Claim
from study.statements import Extension, Registered

TASK = "manifold-d2"
Z = float(stats.norm.ppf(0.975))


def check(direction="higher", measure="log_auc", methods=("ns+gp1", "wgan+gp1"), **keys) -> Check:
    return Check(measure=measure, methods=tuple(methods), tasks=(TASK,), direction=direction, **keys)


def claim(*checks, name="c", family="claims") -> Claim:
    return Claim(id=name, statement="It is so.", source="a paper, section 1", checks=checks, family=family)


def stated(results, *claims, rows=0):
    items = tuple(Registered(item.id, item.family, rows, item) for item in claims)
    return dataclasses.replace(results, claims=items)


def normal(value: float, error: float, n: int = 64) -> Measured:
    estimate = Estimate(value, value - Z * error, value + Z * error, n, "normal")
    return Measured(estimate, lambda other: float(2 * stats.norm.sf(abs(value - other) / error)), n)


def verdict_of(given_check: Check, found: Measured) -> str:
    """The verdict on a claim of one check, in a family of its own."""
    word, _, p = _conjunction((_finding(given_check, TASK, given_check.methods, found, None),))
    return word if p < 0.05 else INCONCLUSIVE


def inside(direction: str, value: float, against: float, margin: float) -> bool:
    """What the directions mean, said again."""
    gap = value - against
    return {
        "higher": gap > margin,
        "lower": gap < -margin,
        "not_lower": gap > -margin,
        "not_higher": gap < margin,
        "equal": -margin < gap < margin,
        "differ": abs(gap) > margin,
    }[direction]


directions = st.sampled_from(sorted(DIRECTIONS))
values = st.floats(-0.6, 0.6)
errors = st.floats(0.005, 0.3)
margins = st.floats(0.0, 0.3)


@given(directions, values, errors, margins, st.sampled_from([0.0, 0.1]))
def test_a_verdict_is_where_the_whole_interval_lies(direction, value, error, margin, against):
    found = normal(value, error)
    grid = np.linspace(found.estimate.low, found.estimate.high, 2001)
    truths = {inside(direction, float(x), against, margin) for x in grid}
    near = [abs(end - bound) for end in (grid[0], grid[-1]) for bound in (against - margin, against + margin)]
    if min(near) < 1e-3 or (direction in ("equal", "differ") and margin < 1e-3):
        return  # on an end, where the grid cannot tell
    expected = INCONCLUSIVE if len(truths) > 1 else SUPPORTED if truths == {True} else REFUTED
    # an interval across the whole region of equality holds numbers of both kinds; the grid sees that too
    assert verdict_of(check(direction, against=against, margin=margin, methods=["ns"]), found) == expected


@given(directions, values, errors, margins, st.floats(0, 1), st.floats(-1, 1))
def test_a_narrower_interval_inside_never_contradicts(direction, value, error, margin, shrink, shift):
    wide = normal(value, error)
    smaller = error * max(shrink, 1e-3)
    narrow = normal(value + shift * Z * (error - smaller), smaller)
    before, after = (verdict_of(check(direction, margin=margin), found) for found in (wide, narrow))
    assert before in (INCONCLUSIVE, after)


@given(directions, values, errors, margins)
def test_opposite_statements_have_opposite_verdicts(direction, value, error, margin):
    turned = {SUPPORTED: REFUTED, REFUTED: SUPPORTED, INCONCLUSIVE: INCONCLUSIVE}
    first, second = (check(name, margin=margin) for name in (direction, OPPOSITES[direction]))
    found = normal(value, error)
    assert verdict_of(first, found) == turned[verdict_of(second, found)]


@given(directions, values, errors, margins)
def test_changing_sides_changes_the_direction_only(direction, value, error, margin):
    mirrored = {"higher": "lower", "lower": "higher", "not_lower": "not_higher", "not_higher": "not_lower"}
    first = verdict_of(check(direction, margin=margin), normal(value, error))
    assert first == verdict_of(check(mirrored.get(direction, direction), margin=margin), normal(-value, error))


def test_the_ends_of_regions():
    assert region(check("higher", against=0.5, margin=0.1, methods=["ns"])) == ((0.6,), (False, True))
    assert region(check("not_lower", margin=0.25)) == ((-0.25,), (False, True))
    assert region(check("equal", margin=0.25)) == ((-0.25, 0.25), (False, True, False))


def test_which_methods_are_compared():
    assert comparisons(check(methods=["a"])) == [("a",)]
    assert comparisons(check(methods=["a"], control="z")) == [("a", "z")]
    assert comparisons(check(methods=["a", "b", "c"])) == [("a", "b"), ("a", "c")]
    assert comparisons(check(methods=["a", "b", "c", "d"], interaction=True)) == [("a", "b", "c", "d")]


def finding(holds, p):
    blocked = None if holds is not None else "interim"
    found = _finding(check(), TASK, ("a", "b"), normal(0.5, 0.1), None)
    return dataclasses.replace(found, holds=holds, p_value=p, blocked=blocked)


def test_a_claim_is_supported_by_its_weakest_check_and_refuted_by_the_strongest_against_it():
    assert _conjunction((finding(True, 0.001), finding(True, 0.03)))[::2] == (SUPPORTED, 0.03)
    # .01 times three checks
    assert _conjunction((finding(True, 0.5), finding(False, 0.01), finding(False, 0.2)))[::2] == (
        REFUTED,
        pytest.approx(0.03),
    )
    assert _conjunction((finding(True, 0.001), finding(None, 1.0)))[::2] == (INCONCLUSIVE, 1.0)
    assert _conjunction((finding(False, 0.001), finding(None, 1.0)))[::2] == (REFUTED, pytest.approx(0.002))


def simulated(rng, truth: float, *, proportion: bool, n: int = 32) -> Measured:
    """A paired difference of the given size: two methods on n points that share how hard each point is."""
    hard = rng.normal(size=n)
    shares = [0.5 + truth / 2, 0.5 - truth / 2]
    noise = stats.norm.cdf((hard + rng.normal(size=(2, n))) / math.sqrt(2))
    if proportion:
        arms = np.stack([noise[i] < shares[i] for i in range(2)]).astype(float)
    else:
        arms = np.clip(np.stack([0.5 * noise[i] + shares[i] - 0.25 for i in range(2)]), 0, 1)
    place = Sample(np.zeros(n), np.arange(n) % 8, np.arange(n))
    return averaged(Numbers(arms, np.zeros_like(arms, dtype=bool), contrast(2), place), 0, 1, proportion=proportion)


@pytest.mark.parametrize("proportion", [True, False])
@pytest.mark.parametrize("direction", ["higher", "equal"])
def test_false_verdicts_are_rare(direction, proportion):
    """At the very end of a region either verdict is false: at 8 x 4 points each has at most 5 % (2.5 % promised)."""
    rng = np.random.default_rng(20)
    found = [verdict_of(check(direction, margin=0.1), simulated(rng, 0.1, proportion=proportion)) for _ in range(1200)]
    # 1200 at .025: the binomial interval of .999 ends at 48, which is 4 %
    for verdict in (SUPPORTED, REFUTED):
        assert found.count(verdict) <= 48, verdict


def test_what_is_true_is_found():
    rng = np.random.default_rng(21)
    found = [verdict_of(check("higher"), simulated(rng, 0.3, proportion=False)) for _ in range(200)]
    assert found.count(SUPPORTED) > 180
    assert REFUTED not in found
    found = [verdict_of(check("equal", margin=0.2), simulated(rng, 0.0, proportion=False)) for _ in range(200)]
    assert found.count(SUPPORTED) > 180


def test_a_family_of_claims_makes_a_false_verdict_in_five_percent_at_most(build):
    """Ten claims at the end of their regions, their p adjusted together: any false verdict in 5 % of the families."""
    from analysis.pairing import holm

    rng = np.random.default_rng(22)
    false = 0
    for _ in range(200):
        p = []
        for _ in range(10):
            found = simulated(rng, 0.1, proportion=False)
            p.append(_conjunction((_finding(check(margin=0.1), TASK, ("a", "b"), found, None),))[2])
        false += bool((holm(p) < 0.05).any())
    assert (
        false <= 20
    )  # 200 at .05: the binomial interval of .99 ends at 18, and p of t at 8 replicates is a little low


def test_the_same_numbers_as_the_interval_of_a_pair(build):
    results = build(replicates=8, points=8)
    (found,) = evaluate_claims(stated(results, claim(check(methods=("ns+gp1", "ns")))))
    assert found.verdict == SUPPORTED
    assert found.deciding.estimate.low > 0.05
    assert found.reason.startswith("log auc of ns+gp1 minus ns on manifold-d2 is ")
    assert found.p_value == found.p_adjusted == found.deciding.p_value
    assert found.standing == BEFORE


def test_claims_of_a_family_are_adjusted_together(build):
    results = build(replicates=8, points=8)
    strong, weak = (
        check(methods=("ns+gp1", "ns")),
        check(measure="failures", methods=("ns+gp1", "ns"), direction="lower"),
    )
    alone = {item.id: item for item in evaluate_claims(stated(results, claim(strong, name="a")))}
    both = evaluate_claims(stated(results, claim(strong, name="a"), claim(weak, name="b")))
    assert both[0].p_adjusted == pytest.approx(min(1.0, 2 * alone["a"].p_value))
    apart = evaluate_claims(stated(results, claim(strong, name="a"), claim(weak, name="b", family="other")))
    assert apart[0].p_adjusted == alone["a"].p_value
    assert "by Holm over 2 claims" in both[0].reason


def test_the_order_of_claims_does_not_matter(build):
    claims = [
        claim(check(methods=("ns+gp1", "ns")), name="a"),
        claim(check(measure="best_of", k=3), name="b"),
        claim(check(measure="spread", direction="equal"), name="c"),
    ]
    results = build()
    forth = {item.id: item for item in evaluate_claims(stated(results, *claims))}
    back = {item.id: item for item in evaluate_claims(stated(results, *reversed(claims)))}
    assert json.dumps(as_json(forth.values())) == json.dumps(as_json([back[name] for name in forth]))


def test_a_claim_that_came_after_results_has_no_standing(build):
    results = build(replicates=8, points=8)
    strong = claim(check(methods=("ns+gp1", "ns")), name="a")
    late = Registered("late", "claims", 100, claim(check(methods=("ns+gp1", "ns")), name="late"))
    unknown = Registered("unknown", "claims", None, claim(check(methods=("ns+gp1", "ns")), name="unknown"))
    results = dataclasses.replace(results, claims=(Registered("a", "claims", 0, strong), late, unknown))
    first, second, third = evaluate_claims(results)
    assert first.p_adjusted == first.p_value  # the late ones are no family of its
    assert [item.standing for item in (first, second, third)] == [BEFORE, AFTER, AFTER]
    assert (second.verdict, second.p_adjusted) == (SUPPORTED, None)


def test_taking_a_claim_out_after_results_helps_no_other(build):
    results = build(replicates=8, points=8)
    strong = claim(check(methods=("ns+gp1", "ns")), name="a")
    gone = Registered("gone", "claims", 0, None, withdrawn=64)
    results = dataclasses.replace(results, claims=(Registered("a", "claims", 0, strong), gone))
    first, second = evaluate_claims(results)
    assert first.p_adjusted == pytest.approx(2 * first.p_value)
    assert (second.verdict, second.standing) == (None, WITHDRAWN)
    assert second.reason == "changed or taken out of the file after 64 trials had rows"
    assert table([second])[0]["number"] is None


def test_a_claim_on_a_design_that_grew_after_results_is_labelled(build):
    results = build(replicates=8, points=8)
    both = claim(check(methods=("ns+gp1", "ns")), name="a")
    alone = claim(check(methods=("wgan+gp1",), against=0.01), name="b")
    controlled = claim(check(methods=("wgan+gp1",), control="ns"), name="c")
    cells = (("manifold-d2", "ns"), ("another", "wgan+gp1"))
    grown = (Extension(64, 192, 200, cells), Extension(128, 200, 208, cells))
    plain = evaluate_claims(stated(results, both, alone, controlled))
    found = evaluate_claims(dataclasses.replace(stated(results, both, alone, controlled), extensions=grown))
    label = "extended after 64 rows: no longer confirmatory"
    assert [item.standing for item in found] == [label, BEFORE, label]
    for one, other in zip(found, plain, strict=True):  # all else is as it was
        assert dataclasses.replace(one, standing=other.standing) == other
    assert [row["stated"] for row in table(found)] == [json_["standing"] for json_ in as_json(found)]


def test_an_unfinished_run_gives_no_verdict(build):
    (found,) = evaluate_claims(stated(build(replicates=8, points=8, keep=100), claim(check(methods=("ns+gp1", "ns")))))
    assert found.verdict == INCONCLUSIVE
    assert "interim: " in found.reason
    assert "have no outcome yet, and the number can still become anything from " in found.reason
    assert found.p_adjusted == 1.0


def test_a_few_lost_trials_that_can_change_nothing_leave_the_verdict(ended):
    best, worst = [0.02] * 60, [np.inf] * 60
    results = ended({"ns+gp1": [*best[:-1], None], "wgan+gp1": worst}, replicates=1, points=60)
    (found,) = evaluate_claims(stated(results, claim(check(measure="success"))))
    assert found.verdict == SUPPORTED
    # 59 of 60 against none, or all 60
    assert found.deciding.bounds == pytest.approx((59 / 60, 1.0))
    assert found.deciding.undecided == 1


def test_a_few_lost_trials_that_straddle_the_end_take_the_verdict(ended):
    # 32 of 60 succeed and 8 are lost: from 32/60 to 40/60, and .6 lies between
    results = ended({"ns": [0.02] * 32 + [None] * 8 + [np.inf] * 20}, replicates=1, points=60)
    (found,) = evaluate_claims(
        stated(results, claim(check(measure="success", methods=["ns"], against=0.55, margin=0.05)))
    )
    assert found.verdict == INCONCLUSIVE
    assert found.deciding.bounds == pytest.approx((32 / 60, 40 / 60))


def test_stopped_trials_are_undecided_too(ended):
    results = ended({"ns": [0.02] * 30 + ["stopped"] * 30}, replicates=1, points=60)
    (found,) = evaluate_claims(stated(results, claim(check(measure="success", methods=["ns"], against=0.7))))
    assert found.verdict == INCONCLUSIVE
    assert found.deciding.undecided == 30


def test_a_measure_whose_bounds_are_not_known_waits_for_all(build):
    (found,) = evaluate_claims(stated(build(keep=90), claim(check(measure="spread"))))
    assert "and what they may bring is not bounded" in found.reason


def test_adaptive_configurations_give_no_verdict(build):
    results = build(replicates=8, points=8)
    results = dataclasses.replace(results, plan=results.plan.assign(sampler="tpe"))
    (found,) = evaluate_claims(stated(results, claim(check(methods=("ns+gp1", "ns")))))
    assert found.verdict == INCONCLUSIVE
    assert "configurations were chosen by tpe, which saw results: they are no draws from the prior" in found.reason


def test_too_few_points_in_a_region_give_no_verdict(build):
    results = build(replicates=8, points=8)
    results = dataclasses.replace(results, plan=results.plan.assign(lr_g=results.plan["point"] + 1.0))
    inside_ = check(methods=("ns+gp1", "ns"), where="lr <= 19")
    (found,) = evaluate_claims(stated(results, claim(inside_)))
    assert found.verdict == INCONCLUSIVE
    assert "19 design points have such a number in the region, and 20 are needed" in found.reason
    (found,) = evaluate_claims(stated(results, claim(dataclasses.replace(inside_, where="lr <= 20"))))
    assert found.deciding.estimate.n == 20
    (nothing,) = evaluate_claims(stated(results, claim(dataclasses.replace(inside_, where="lr > 1000"))))
    assert "0 design points" in nothing.reason


@pytest.mark.parametrize(("status", "value"), [("diverged", np.nan), ("completed", 0.02)])
def test_all_alike_is_equal_only_as_far_as_the_interval_says(build, replaced, status, value):
    results = replaced(build(replicates=8, points=8), status, value)
    near, far = (claim(check("equal", measure="success", margin=margin), name=f"m{margin}") for margin in (0.01, 0.3))
    first, second = evaluate_claims(stated(results, near, far))
    assert (first.verdict, second.verdict) == (INCONCLUSIVE, SUPPORTED)
    (best,) = evaluate_claims(stated(results, claim(check(measure="best_of", k=4))))
    assert "no variance: there is no interval for best_of" in best.reason


@pytest.mark.parametrize(
    ("direction", "margin", "reason"),
    [
        ("higher", 0.05, "above 0 by more than 0.05 (p < .001)"),
        ("not_higher", 0.05, "above 0 by more than 0.05 (p < .001)"),
        ("lower", 0.05, "not below 0 by 0.05 or more (p < .001)"),
        ("lower", 0.0, "not below 0 (p < .001)"),
        ("equal", 0.05, "further than 0.05 from 0 (p < .001)"),
    ],
)
def test_the_reason_says_where_the_number_lies(ended, direction, margin, reason):
    results = ended({"ns+gp1": [0.02] * 45 + [3.0] * 15, "wgan+gp1": [3.0] * 60}, replicates=1, points=60)
    (found,) = evaluate_claims(stated(results, claim(check(direction, measure="success", margin=margin))))
    assert found.reason == f"success of ns+gp1 minus wgan+gp1 on manifold-d2 is {reason}"
    assert (found.verdict == SUPPORTED) == (direction == "higher")


def test_a_reason_without_a_verdict_is_no_double_negation(ended):
    results = ended({"ns+gp1": [0.02] * 30 + [3.0] * 30, "wgan+gp1": [0.02] * 28 + [3.0] * 32}, replicates=1, points=60)
    (found,) = evaluate_claims(stated(results, claim(check("not_higher", measure="success"))))
    assert "may or may not be above 0 by more than 0.05 (p" in found.reason


def test_no_claims_no_verdicts(build):
    assert evaluate_claims(build()) == ()
    assert table(()) == []


def test_every_verdict_is_one_of_three_and_is_json(build):
    results = build(tasks=(TASK, "digits"), seeds=2)
    claims = [
        claim(check(direction, measure=measure, **keys), name=f"{direction}-{measure}")
        for direction in DIRECTIONS
        for measure, keys in (("success", {}), ("log_auc", {}), ("improvement", {}), ("best_of", {"k": 4}))
    ]
    found = evaluate_claims(stated(results, *claims))
    assert {item.verdict for item in found} <= set(VERDICTS)
    text = json.dumps(as_json(found), allow_nan=False)
    assert [item["id"] for item in json.loads(text)] == [item.id for item in claims]
    assert [row["claim"] for row in table(found)] == [item.id for item in claims]

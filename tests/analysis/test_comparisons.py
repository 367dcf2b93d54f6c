import dataclasses
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis import budgets, comparisons, intervals
from analysis.comparisons import (
    compare,
    compare_all,
    compare_pair,
    compare_task,
    declared_pairs,
    shown_pairs,
    table,
)
from analysis.outcomes import sample
from analysis.pairing import FourWay, Record, benjamini_hochberg, mcnemar
from analysis.words import sentence
from study.statements import Extension

INF = np.inf
FACTS = {"threshold": 50.0, "anchor_low": 10.0, "anchor_high": 1000.0}
TASK = "manifold-d2"
ending = st.one_of(st.floats(1.0, 2000.0), st.just(INF))


def one(results, first="a", second="b"):
    return compare(results.outcomes(TASK), first, second, facts=results.facts(TASK))


def score(y):
    return min(1.0, max(0.0, math.log(1000 / y) / math.log(100))) if y < INF else 0.0


def test_the_reference_arms(arms, ended):
    found = one(ended({"a": arms["A"], "b": arms["B"]}, facts=FACTS, replicates=1, points=10))
    assert found.success == pytest.approx((0.5, 0.3))
    assert found.failures == pytest.approx((0.3, 0.5))
    assert found.success_difference.value == pytest.approx(0.2)
    assert found.poi_paired.value == pytest.approx(0.65)
    assert found.poi_pop.value == pytest.approx(0.605)
    assert found.record == Record(win=5, both_failed=3, tie=0, loss=2)
    assert found.finished == FourWay(both=5, only_first=2, only_second=0, neither=3)
    assert found.reached == FourWay(both=3, only_first=2, only_second=0, neither=5)
    assert found.mcnemar == pytest.approx(0.5)  # two discordant pairs, both for the first: 2 * (1/2)^2
    gaps = [score(a) - score(b) for a, b in zip(arms["A"], arms["B"], strict=True)]
    assert found.log_auc_difference.value == pytest.approx(np.mean(gaps))
    assert found.spread == pytest.approx(np.std(gaps, ddof=1))
    # fewer than five gaps lie more than a tenth of their range off the median: their variance is not believed
    ups, downs = sum(gap for gap in gaps if gap > 0), -sum(gap for gap in gaps if gap < 0)
    ends = found.log_auc_difference.low, found.log_auc_difference.high
    assert ends == pytest.approx(intervals.tango(ups, downs, 10))
    assert found.log_auc_difference.method == "Tango, 10 points"


def test_a_difference_is_the_difference_of_its_sides(build):
    results = build(seeds=2, critics=(1, 5))
    for found in compare_all(results):
        assert found.log_auc_difference.value == pytest.approx(found.log_auc[0] - found.log_auc[1])
        assert found.success_difference.value == pytest.approx(found.success[0] - found.success[1])


def test_the_best_of_a_few_is_that_of_each_method(build):
    results = build(points=32)
    found = one(results, "ns", "ns+gp1")
    assert [item.size for item in found.best] == [1, 5, 25]
    assert (found.best[0].first, found.best[0].second) == pytest.approx(found.log_auc)
    assert found.best[0].difference.low == pytest.approx(found.log_auc_difference.low)
    outcomes, facts = results.outcomes(TASK), results.facts(TASK)
    for item in found.best:
        for side, name in ((item.first, "ns"), (item.second, "ns+gp1")):
            trials = sample(outcomes[outcomes["method"] == name])
            alone = budgets.best_score(trials, item.size, facts=facts, rng=np.random.default_rng(0))
            assert side == pytest.approx(alone.value)


def test_mcnemar_is_silent_when_points_hold_several_trials(build):
    assert one(build(), "ns", "ns+gp1").mcnemar is not None
    assert one(build(seeds=2), "ns", "ns+gp1").mcnemar is None
    assert one(build(critics=(1, 5)), "ns", "ns+gp1").mcnemar is None


def test_points_not_trials_are_counted(build):
    found = one(build(seeds=2, critics=(1, 5), replicates=2, points=4), "ns", "ns+gp1")
    assert (found.pairs, found.points, found.log_auc_difference.n) == (32, 8, 8)


def test_eight_replicates_decide(build):
    found = one(build(replicates=8), "ns", "ns+gp1")
    assert found.log_auc_difference.method == found.success_difference.method == "t over 8 replicates"


@pytest.mark.parametrize("value", [1.0, INF])
def test_arms_that_never_differ_have_an_interval_with_width(ended, value):
    found = one(ended({"a": [value] * 4, "b": [value] * 4}, facts=FACTS, replicates=1, points=4))
    assert found.log_auc_difference.p_value == found.success_difference.p_value == 1.0
    assert found.log_auc_difference.method == "Tango, 4 points"
    assert found.success_difference.method == "Tango, 4 points"
    assert found.log_auc_difference.low < 0 < found.log_auc_difference.high
    assert found.success_difference.low < 0 < found.success_difference.high


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(ending, ending), min_size=10, max_size=10))
def test_swapping_the_arms_flips_the_signs(ended, rows):
    a, b = zip(*rows, strict=True)
    results = ended({"a": a, "b": b}, facts=FACTS, replicates=10, points=1)
    here, there = one(results, "a", "b"), one(results, "b", "a")
    for name in ("log_auc_difference", "success_difference"):
        first, second = getattr(here, name), getattr(there, name)
        mirrored = (-second.value, -second.high, -second.low, second.p_value)
        assert (first.value, first.low, first.high, first.p_value) == pytest.approx(mirrored, abs=1e-9)
    assert here.log_auc == there.log_auc[::-1]
    assert here.mcnemar == there.mcnemar


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(ending, ending), min_size=4, max_size=4), st.integers(0, 3))
def test_a_failure_never_helps_its_arm(ended, rows, where):
    a, b = (list(side) for side in zip(*rows, strict=True))
    before = one(ended({"a": a, "b": b}, facts=FACTS, replicates=1, points=4))
    a[where] = INF
    after = one(ended({"a": a, "b": b}, facts=FACTS, replicates=1, points=4))
    for name in ("log_auc_difference", "success_difference", "poi_paired", "poi_pop"):
        assert getattr(after, name).value <= getattr(before, name).value + 1e-12


def test_bounds_hold_every_way_it_may_end(ended):
    """a: scores 1 and unknown, b: unknown and 0. From (1 - 1 + 0 - 0)/2 to (1 - 0 + 1 - 0)/2."""
    found = one(ended({"a": [10.0, None], "b": [None, INF]}, facts=FACTS, replicates=1, points=2))
    assert found.bounds == pytest.approx((0.0, 1.0))
    assert (found.planned, found.pairs, found.missing) == (2, 0, 2)


def test_bounds_of_a_finished_comparison_are_its_difference(build):
    for found in compare_all(build()):
        assert found.bounds == pytest.approx((found.log_auc_difference.value,) * 2)


# ---- families and verdicts

STEADY = {"good": [10.0] * 8 + [11.0] * 8, "bad": [900.0] * 16, "also": [11.0] * 8 + [10.0] * 8}


def judged(ended, endings=None, **options):
    design = {"facts": FACTS, "replicates": 1, "points": 16}
    return compare_task(ended(endings or STEADY, **design, **options), TASK)


def test_a_clear_difference_gets_a_direction_whatever_the_order_of_the_pair(ended):
    for pair in (("good", "bad"), ("bad", "good")):
        found = judged(ended, confirmatory=[pair])[0]
        assert (found.first, found.second) == pair
        assert found.verdict == "good survives more"
        assert found.p_adjusted < 0.05


def test_no_difference_is_said_to_be_none_shown(ended):
    found = judged(ended, confirmatory=[("good", "also")])[0]
    assert (found.verdict, found.p_adjusted) == ("no difference shown", 1.0)


def test_only_confirmatory_pairs_are_adjusted_and_judged(ended):
    found = judged(ended, confirmatory=[("good", "also"), ("bad", "good")])
    assert [(c.first, c.second, c.confirmatory) for c in found] == [
        ("good", "also", True),
        ("bad", "good", True),
        ("bad", "also", False),
    ]
    assert found[1].p_adjusted == pytest.approx(2 * found[1].log_auc_difference.p_value)
    assert (found[2].p_adjusted, found[2].verdict) == (None, None)


def test_a_pair_with_missing_trials_is_interim(ended):
    endings = {**STEADY, "bad": [*STEADY["bad"][:15], None]}
    found = judged(ended, endings, confirmatory=[("good", "bad"), ("good", "also")])
    assert (found[0].verdict, found[0].p_adjusted) == ("interim", None)
    assert found[1].verdict == "no difference shown"


def test_an_interim_pair_still_counts_in_the_family(ended):
    """Otherwise a verdict given early could be taken back when the family is finished."""
    endings = {**STEADY, "bad": [*STEADY["bad"][:15], None], "close": [200.0, 300.0] * 8}
    found = judged(ended, endings, confirmatory=[("good", "bad"), ("good", "close")])
    interim, finished = (c.log_auc_difference.p_value for c in found[:2])
    assert interim < finished < 0.5
    assert found[1].p_adjusted == pytest.approx(2 * finished)


def test_a_stopped_trial_withholds_the_verdict(ended):
    endings = {**STEADY, "bad": [*STEADY["bad"][:15], "stopped"]}
    assert judged(ended, endings, confirmatory=[("good", "bad")])[0].verdict == "censored"


def test_a_pair_that_was_taken_out_after_results_stays_in_the_family(ended):
    design = {"facts": FACTS, "replicates": 1, "points": 16}
    results = dataclasses.replace(
        ended(STEADY, confirmatory=[("bad", "good")], **design), withdrawn=(("good", "also"), ("x", "y"))
    )
    first, second, third = compare_task(results, TASK)
    assert first.p_adjusted == pytest.approx(2 * first.log_auc_difference.p_value)  # x and y are not planned here
    assert (second.standing, second.confirmatory, second.verdict) == ("withdrawn", False, None)
    assert third.standing is None


def test_a_pair_that_was_declared_after_results_is_explored_and_labelled(ended):
    design = {"facts": FACTS, "replicates": 1, "points": 16}
    results = dataclasses.replace(ended(STEADY, **design), late=(("bad", "good"),))
    found = {frozenset((item.first, item.second)): item for item in compare_task(results, TASK)}
    late = found[frozenset(("bad", "good"))]
    assert (late.confirmatory, late.p_adjusted, late.verdict, late.standing) == (False, None, None, "after the fact")
    assert [item.standing for item in found.values()].count(None) == 2
    assert "; exploratory (declared after the fact), Benjamini-Hochberg p" in sentence(late)
    assert compare_pair(results, TASK, "good", "bad").standing == "after the fact"
    # which is compared however many methods there are
    many = {f"m{index:02}": [1.0, 2.0 + index] for index in range(13)}
    crowd = dataclasses.replace(ended(many, facts=FACTS, replicates=1, points=2), late=(("m03", "m07"),))
    assert ("m03", "m07") in [(item.first, item.second) for item in compare_all(crowd)]


def test_a_pair_on_a_design_that_grew_after_results_has_no_clean_verdict(ended):
    design = {"facts": FACTS, "replicates": 1, "points": 16}
    results = ended(STEADY, confirmatory=[("good", "bad"), ("good", "also")], **design)
    grown = dataclasses.replace(results, extensions=(Extension(24, 24, 48, ((TASK, "bad"),)),))
    label = "extended after 24 rows: no longer confirmatory"
    first, second, _ = compare_task(grown, TASK)
    assert (first.verdict, first.standing) == (f"good survives more ({label})", label)
    assert (second.verdict, second.standing) == ("no difference shown", "before the run")
    assert first.p_adjusted == compare_task(results, TASK)[0].p_adjusted
    assert f"Holm p < .001 ({label});" in sentence(first)
    assert list(table((first, second))["standing"]) == [label, "before the run"]


def test_each_task_has_its_own_family(build):
    pairs = (("ns+gp1", "ns"), ("ns+gp1", "wgan+gp1"))
    found = compare_all(build(tasks=("x", "y"), confirmatory=pairs))
    assert [c.task for c in found] == ["x"] * 3 + ["y"] * 3
    for task in ("x", "y"):
        raw = [c.log_auc_difference.p_value for c in found if c.task == task and c.confirmatory]
        adjusted = [c.p_adjusted for c in found if c.task == task and c.confirmatory]
        assert max(adjusted) <= 2 * max(raw) + 1e-12
        assert min(adjusted) == pytest.approx(min(1.0, 2 * min(raw)))


def test_a_confirmatory_pair_that_shares_nothing_is_an_error_and_an_exploratory_one_is_left_out(build):
    results = build(replicates=1, points=2, confirmatory=())
    plan = results.plan[(results.plan["method"] == "ns") == (results.plan["config"] == "c0n1")]
    trials = results.trials[results.trials["trial_id"].isin(plan["trial_id"])]
    apart = dataclasses.replace(results, plan=plan, trials=trials)
    assert [(c.first, c.second) for c in compare_all(apart)] == [("ns+gp1", "wgan+gp1")]
    with pytest.raises(ValueError, match="share no configuration"):
        compare_all(dataclasses.replace(apart, confirmatory=(("ns", "ns+gp1"),)))


def test_unpaired_trials_of_a_task_without_one_of_the_methods(build):
    results = build(tasks=("x", "y"))
    plan = results.plan[~((results.plan["task"] == "y") & (results.plan["method"] == "wgan+gp1"))]
    trials = results.trials[results.trials["trial_id"].isin(plan["trial_id"])]
    found = compare_all(dataclasses.replace(results, plan=plan, trials=trials))
    assert [(c.task, c.first, c.second, c.confirmatory) for c in found if c.task == "y"] == [
        ("y", "ns+gp1", "ns", False)
    ]


def test_all_missing_compares_without_numbers(build):
    for found in compare_all(build(keep=0)):
        assert math.isnan(found.log_auc_difference.value)
        assert found.bounds == (-1.0, 1.0)
        assert found.verdict == ("interim" if found.confirmatory else None)
        assert found.mcnemar is None or found.pairs == 0


def test_a_pair_and_its_reverse_are_one(ended):
    pairs = [("good", "bad"), ("bad", "good"), ("good", "also")]
    found = judged(ended, confirmatory=pairs)
    assert [(c.first, c.second) for c in found if c.confirmatory] == [("good", "bad"), ("good", "also")]
    assert found[0].p_adjusted == pytest.approx(2 * found[0].log_auc_difference.p_value)


def test_exploratory_pairs_hold_the_share_of_false_discoveries(build):
    found = compare_all(build(confirmatory=()))
    raw = [c.log_auc_difference.p_value for c in found]
    np.testing.assert_allclose([c.p_discovery for c in found], benjamini_hochberg(raw))
    declared, *others = compare_all(build())
    assert declared.p_discovery is None
    assert [c.p_adjusted for c in others] == [None, None]
    np.testing.assert_allclose(
        [c.p_discovery for c in others], benjamini_hochberg([c.log_auc_difference.p_value for c in others])
    )


def test_an_unfinished_exploratory_pair_has_no_p(ended):
    endings = {**STEADY, "bad": [*STEADY["bad"][:15], None]}
    found = {(c.first, c.second): c.p_discovery for c in judged(ended, endings)}
    assert found["good", "bad"] is None
    assert found["good", "also"] is not None


def test_a_pair_asked_for_is_judged_in_its_family_whatever_its_order(ended):
    results = ended(STEADY, facts=FACTS, replicates=1, points=16, confirmatory=[("good", "bad"), ("good", "also")])
    here, there = compare_pair(results, TASK, "good", "bad"), compare_pair(results, TASK, "bad", "good")
    assert here == compare_task(results, TASK)[0]
    assert (there.first, there.second, there.confirmatory) == ("bad", "good", True)
    assert (there.p_adjusted, there.verdict, there.setting) == (here.p_adjusted, here.verdict, here.setting)
    assert there.log_auc_difference.value == pytest.approx(-here.log_auc_difference.value)
    assert compare_pair(results, TASK, "bad", "also").verdict is None


def test_pairs_that_a_figure_shows(build):
    assert shown_pairs(build(), TASK) == declared_pairs(build(), TASK) == [("ns+gp1", "wgan+gp1")]
    many = build(methods=tuple("abcdefghij"), confirmatory=(), replicates=1, points=1)
    assert shown_pairs(many, TASK) == [("a", other) for other in "bcdefg"]
    assert shown_pairs(build(methods=("a",), confirmatory=()), TASK) == []


# ---- adaptive sweeps


def searched(results):
    return dataclasses.replace(results, plan=results.plan.assign(sampler="tpe"))


def test_nothing_is_claimed_of_an_adaptive_sweep(build):
    results = searched(build())
    for found in (*compare_all(results), compare_pair(results, TASK, "ns", "ns+gp1")):
        assert found.verdict == "adaptive: no claim"
        p_values = (found.p_adjusted, found.p_discovery, found.mcnemar, found.log_auc_difference.p_value)
        assert (*p_values, found.success_difference.p_value) == (None,) * 5
    rows = table(compare_all(results))
    assert rows[[name for name in rows.columns if name.startswith("p_") or name.endswith("_p")]].isna().all(axis=None)


def test_an_adaptive_sweep_whose_methods_share_nothing_is_described(build):
    """Each method has its own search, and so its own configurations."""
    results = searched(build())
    own = results.plan["method"] + results.plan["config"]
    found = compare_all(dataclasses.replace(results, plan=results.plan.assign(config=own)))
    assert [(c.first, c.second, c.pairs, c.verdict) for c in found] == [("ns+gp1", "wgan+gp1", 0, "adaptive: no claim")]


# ---- published counts

GULRAJANI = {
    # Inception score of 200 architectures: only GAN, only WGAN-GP, both and neither above it (Gulrajani et al. 2017)
    1.0: (0, 8, 192, 0),
    2.0: (0, 60, 140, 0),
    3.0: (1, 88, 110, 1),
    4.0: (1, 126, 67, 6),
    5.0: (0, 147, 42, 11),
    6.0: (0, 145, 21, 34),
    7.0: (1, 104, 5, 90),
    8.0: (1, 34, 0, 165),
    9.0: (0, 0, 0, 200),
}


def published(ended, counts, threshold):
    """The counts as results: 10 less the score is the metric, so that lower is better; above the score is below it."""
    only_first, only_second, both, neither = counts
    good, bad = 9.9 - threshold, 10.1 - threshold
    gan = [good] * only_first + [bad] * only_second + [good] * both + [bad] * neither
    wgan = [bad] * only_first + [good] * only_second + [good] * both + [bad] * neither
    facts = {"threshold": 10.0 - threshold, "anchor_low": 0.5, "anchor_high": 10.0}
    return ended({"gan": gan, "wgan+gp1": wgan}, facts=facts, replicates=1, points=200)


@pytest.mark.parametrize(("threshold", "counts"), GULRAJANI.items())
def test_published_architectures(ended, threshold, counts):
    only_first, only_second, both, neither = counts
    found = one(published(ended, counts, threshold), "gan", "wgan+gp1")
    assert found.reached == FourWay(both, only_first, only_second, neither)
    assert found.success == pytest.approx(((both + only_first) / 200, (both + only_second) / 200))
    assert found.success_difference.value == pytest.approx((only_first - only_second) / 200)
    assert found.mcnemar == mcnemar(only_first, only_second)


@pytest.mark.parametrize(("threshold", "p_value"), [(3.0, 2.9e-25), (8.0, 2.1e-9)])
def test_published_p_values(ended, threshold, p_value):
    found = one(published(ended, GULRAJANI[threshold], threshold), "gan", "wgan+gp1")
    assert found.mcnemar == pytest.approx(p_value, rel=0.02)
    assert found.success_difference.high < 0


def test_success_against_threshold_of_published_architectures():
    """Both arms' success falls with the score asked for, and the lead is largest in the middle."""
    shares = [((both + a) / 200, (both + b) / 200) for a, b, both, _ in GULRAJANI.values()]
    gan, wgan = zip(*shares, strict=True)
    assert list(gan) == sorted(gan, reverse=True)
    assert list(wgan) == sorted(wgan, reverse=True)
    lead = [b - a for a, b in shares]
    assert list(GULRAJANI)[int(np.argmax(lead))] == 5.0


# ---- the table


def test_the_table_has_the_same_columns_with_and_without_rows(build):
    full, none = table(compare_all(build())), table(())
    assert list(full.columns) == list(none.columns) == list(comparisons.COLUMNS)
    assert not full["log_auc_difference"].isna().any()
    assert none.empty


def test_the_table_says_what_the_comparisons_say(build):
    found = compare_all(build())
    rows = table(found)
    for comparison, row in zip(found, rows.to_dict("records"), strict=True):
        assert row["log_auc_difference_low"] == comparison.log_auc_difference.low
        assert row["success_second"] == comparison.success[1]
        assert row["loss"] == comparison.record.loss
        assert row["family"] == ("confirmatory" if comparison.confirmatory else "exploratory")
    assert not set(rows.columns) - set(comparisons.COLUMNS)
    assert isinstance(rows, pd.DataFrame)


@pytest.mark.parametrize(("count", "pairs"), [(12, 66), (13, 12)])
def test_of_many_methods_only_those_against_the_first_are_explored(ended, count, pairs):
    results = ended({f"m{i:02}": [1.0, 2.0 + i] for i in range(count)}, facts=FACTS, replicates=1, points=2)
    found = compare_all(results)
    assert len(found) == pairs
    if count > 12:
        assert {comparison.first for comparison in found} == {"m00"}

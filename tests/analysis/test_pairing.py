import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.nonparametric import rank_compare_2indep

from analysis import intervals, pairing
from analysis.outcomes import Sample
from analysis.pairing import FourWay, Pairs, Record
from analysis.results import Results

INF = np.inf
TEN = {"replicates": 1, "points": 10}
pairs = st.lists(st.tuples(*[st.one_of(st.sampled_from([1.0, 2.0, INF]), st.floats(0, 10))] * 2), min_size=1)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ([10, 20, INF, 40], [15, 10, 30, INF], 0.5),
        ([1, 2, 3, INF], [2, 3, 4, INF], 0.875),
        ([1, 1], [1, 1], 0.5),
        ([5, 6], [INF, INF], 1.0),
        ("A", "B", 0.65),
    ],
)
def test_probability_of_improvement(arms, first, second, expected):
    a, b = (arms[side] if isinstance(side, str) else side for side in (first, second))
    assert pairing.improvement(a, b).mean() == pytest.approx(expected)


def test_discordance_and_record_of_the_reference_arms(arms):
    assert pairing.discordance(arms["A"], arms["B"], 50) == (2, 0)
    assert pairing.record(arms["A"], arms["B"]) == Record(win=5, both_failed=3, tie=0, loss=2)


def test_both_failed_is_no_tie():
    assert pairing.record([INF, 2, 1, INF], [INF, 2, INF, 1]) == Record(win=1, both_failed=1, tie=1, loss=1)


@pytest.mark.parametrize(
    ("only_first", "only_second", "expected"),
    [(9, 1, 0.021484), (5, 5, 1.0), (6, 0, 0.03125), (12, 4, 0.076813), (0, 0, 1.0)],
)
def test_mcnemar(only_first, only_second, expected):
    assert pairing.mcnemar(only_first, only_second) == pytest.approx(expected, abs=5e-7)


def test_holm():
    np.testing.assert_allclose(pairing.holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02], atol=1e-15)
    assert pairing.holm([]).shape == (0,)


def test_holm_is_at_most_one():
    np.testing.assert_array_equal(pairing.holm([0.9, 0.6]), [1.0, 1.0])


def test_benjamini_hochberg():
    # ascending .005 .01 .03 .04, times 4 / rank: .02 .02 .04 .04
    np.testing.assert_allclose(pairing.benjamini_hochberg([0.01, 0.04, 0.03, 0.005]), [0.02, 0.04, 0.04, 0.02])
    assert pairing.benjamini_hochberg([]).shape == (0,)


@pytest.mark.parametrize("count", [1, 2, 7, 40])
def test_adjusted_p_values_are_those_of_others(count):
    p_values = np.random.default_rng(count).random(count) ** 3
    for ours, theirs in ((pairing.holm, "holm"), (pairing.benjamini_hochberg, "fdr_bh")):
        np.testing.assert_allclose(ours(p_values), multipletests(p_values, method=theirs)[1], atol=1e-12)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.floats(0.01, 0.2))
def test_holm_rejects_what_the_step_down_procedure_rejects(p_values, level):
    """The definition: go through ascending p while p <= level / (tests left)."""
    rejected = set()
    for step, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        if p_values[index] * (len(p_values) - step) > level:
            break
        rejected.add(index)
    assert rejected == set(np.flatnonzero(pairing.holm(p_values) <= level))


@settings(deadline=None)
@given(pairs)
def test_swapping_the_arms_mirrors_everything(rows):
    a, b = zip(*rows, strict=True)
    here, there = pairing.record(a, b), pairing.record(b, a)
    assert (here.win, here.loss, here.tie, here.both_failed) == (there.loss, there.win, there.tie, there.both_failed)
    assert here.win + here.loss + here.tie + here.both_failed == len(rows)
    assert pairing.improvement(a, b).mean() == pytest.approx(1 - pairing.improvement(b, a).mean())
    assert pairing.discordance(a, b, 2.0) == pairing.discordance(b, a, 2.0)[::-1]


@given(st.integers(0, 30), st.integers(0, 30))
def test_mcnemar_is_the_binomial_tail_twice(only_first, only_second):
    discordant, less = only_first + only_second, min(only_first, only_second)
    expected = 1.0 if not discordant else min(1.0, 2 * stats.binom.cdf(less, discordant, 0.5))
    assert pairing.mcnemar(only_first, only_second) == pytest.approx(expected)


def test_the_four_ways_of_the_reference_arms(arms):
    """A fails in the last 3, B in the last 5; at 50 A succeeds in its first 5, B in its first 3."""
    assert pairing.four_way(arms["A"], arms["B"]) == FourWay(both=5, only_first=2, only_second=0, neither=3)
    assert pairing.four_way(arms["A"], arms["B"], 50) == FourWay(both=3, only_first=2, only_second=0, neither=5)


@settings(deadline=None)
@given(pairs, st.floats(0, 10))
def test_four_ways_add_up(rows, tau):
    a, b = zip(*rows, strict=True)
    found, mirrored = pairing.four_way(a, b, tau), pairing.four_way(b, a, tau)
    assert found.both + found.only_first + found.only_second + found.neither == len(rows)
    assert (found.only_first, found.only_second) == (mirrored.only_second, mirrored.only_first)
    assert pairing.four_way(a, b).neither == pairing.record(a, b).both_failed


# ---- the unpaired probability of improvement


def joined(first, second, points=None):
    size = len(first)
    at = np.arange(size) if points is None else np.asarray(points)
    zeros = np.zeros(size, dtype=np.int64)
    return Pairs(*(Sample(np.asarray(side, dtype=float), zeros, at) for side in (first, second)), 0, 0, 0)


def population(first, second):
    return pairing.population_improvement(joined(first, second)).values.mean()


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ([1, 2, 3], [4, 5, 6], 1.0),
        ([1, 2, 3], [1, 2, 3], 0.5),
        ([1, 4], [2, 3], 0.5),
        ([10, 20, INF], [15, INF, INF], 2 / 3),
        ("A", "B", 0.605),
    ],
)
def test_population_improvement(arms, first, second, expected):
    a, b = (arms[side] if isinstance(side, str) else side for side in (first, second))
    assert population(a, b) == pytest.approx(expected)


@settings(deadline=None)
@given(pairs)
def test_population_improvement_is_the_count_over_all_pairs(rows):
    a, b = zip(*rows, strict=True)
    counted = [1.0 if x < y else 0.5 if x == y else 0.0 for x, y in itertools.product(a, b)]
    assert population(a, b) == pytest.approx(np.mean(counted))
    assert population(a, b) == pytest.approx(1 - population(b, a))


def test_population_improvement_is_that_of_statsmodels(arms):
    rng = np.random.default_rng(5)
    far = np.exp(rng.normal(size=(2, 60)))
    for a, b in ((arms["A"], arms["B"]), far):
        theirs = rank_compare_2indep(a, b)  # P(first larger), so that lower is better the other way round
        assert population(a, b) == pytest.approx(1 - theirs.prob1)
    ours = intervals.bounded_mean(pairing.population_improvement(joined(*far)))
    low, high = rank_compare_2indep(*far).conf_int()
    assert ours.high - ours.low == pytest.approx(high - low, rel=0.15)  # they take the arms for independent, as here


def test_the_paired_and_the_population_quantity_differ():
    """On every configuration the first is lower by a hair, and configurations differ by much."""
    b = np.arange(1.0, 11.0)
    assert pairing.improvement(b - 0.1, b).mean() == 1.0
    assert population(b - 0.1, b) == pytest.approx((45 + 10) / 100)


def test_seeds_of_a_point_share_its_weight():
    """Point 0 has two trials, 1 and 9; point 1 has 5: against 3 and 3 at the same points, (1 + 0) / 2 and 0."""
    found = pairing.population_improvement(joined([1, 9, 5], [3, 3, 3], points=[0, 0, 1]))
    assert len(found.values) == 2
    assert found.values.mean() == pytest.approx((0.5 + 0.0) / 2)


def test_the_interval_of_the_population_quantity_covers():
    """Normal scores with correlation .6, shifted by .5: P(a < b) = Phi(.5 / sqrt 2). About 95 % of 600 cover."""
    rng = np.random.default_rng(11)
    truth, hits = stats.norm.cdf(0.5 / np.sqrt(2)), 0
    for _ in range(600):
        a, b = rng.multivariate_normal([0, 0.5], [[1, 0.6], [0.6, 1]], 64).T
        found = intervals.bounded_mean(pairing.population_improvement(joined(np.exp(a), np.exp(b))))
        hits += found.low <= truth <= found.high
    assert 0.925 <= hits / 600 <= 0.975  # .95 +- 2.8 standard errors; the false-alarm rate is what is left


# ---- joining


def test_pairs_are_joined_by_configuration_and_seed_not_by_row(ended):
    results = ended({"a": [1.0, 2.0, 3.0], "b": [10.0, 20.0, 30.0]}, replicates=1, points=3)
    shuffled = results.outcomes("manifold-d2").sample(frac=1, random_state=3)
    found = pairing.pair(shuffled, "a", "b")
    np.testing.assert_array_equal(found.second.values, 10 * found.first.values)
    assert (found.unpaired, found.missing, found.stopped) == (0, 0, 0)


def test_undecided_trials_are_counted_and_kept_out(ended):
    results = ended({"a": [1.0, None, 3.0, "oom"], "b": [None, 2.0, "stopped", 1.0]}, replicates=1, points=4)
    found = pairing.pair(results.outcomes("manifold-d2"), "a", "b")
    assert (len(found.first.values), found.missing, found.stopped) == (4, 2, 1)
    decided = found.decided()
    np.testing.assert_array_equal(decided.first.values, [INF])
    np.testing.assert_array_equal(decided.second.values, [1.0])


def test_pairs_know_their_points_as_their_samples_do(build):
    found = pairing.pair(build(seeds=2, critics=(1, 5), keep=150).outcomes("manifold-d2"), "ns", "ns+gp1").decided()
    index, replicates = found.first.clusters()
    np.testing.assert_array_equal(found.clusters[0], index)
    np.testing.assert_array_equal(found.clusters[1], replicates)


def test_aligned_arms_give_the_pairs_of_each(build):
    outcomes = build(seeds=2, keep=100).outcomes("manifold-d2")
    arms = pairing.align(outcomes.sample(frac=1, random_state=1))
    for first, second in itertools.permutations(("ns", "ns+gp1", "wgan+gp1"), 2):
        ours, alone = arms.pairs(first, second), pairing.pair(outcomes, first, second)
        for one, other in ((ours.first, alone.first), (ours.second, alone.second)):
            np.testing.assert_array_equal(one.values, other.values)
        assert (ours.unpaired, ours.missing, ours.stopped) == (alone.unpaired, alone.missing, alone.stopped)


def without(results, keep):
    plan = results.plan[keep(results.plan)]
    trials = results.trials[results.trials["trial_id"].isin(plan["trial_id"])]
    return dataclasses.replace(results, plan=plan, trials=trials)


def test_trials_without_a_partner_are_counted(build):
    results = without(
        build(replicates=1, points=4), lambda plan: ~((plan["method"] == "ns") & plan["config"].isin(["c0n1", "c1n1"]))
    )
    found = pairing.pair(results.outcomes("manifold-d2"), "ns+gp1", "ns")
    assert (len(found.first.values), found.unpaired) == (2, 2)


def test_methods_that_share_nothing_are_refused(build):
    results = without(
        build(replicates=1, points=2), lambda plan: (plan["method"] == "ns") == (plan["config"] == "c0n1")
    )
    with pytest.raises(ValueError, match=r"'ns\+gp1' and 'ns' share no configuration"):
        pairing.pair(results.outcomes("manifold-d2"), "ns+gp1", "ns")


def test_an_unplanned_method_is_refused(build):
    with pytest.raises(ValueError, match=r"'hinge' is not planned here; planned: \['ns\+gp1'"):
        pairing.pair(build().outcomes("manifold-d2"), "ns", "hinge")


def test_a_configuration_planned_twice_is_refused(build):
    results = build()
    assert isinstance(results, Results)
    with pytest.raises(ValueError, match="'ns' plans a configuration and seed more than once"):
        pairing.pair(results.outcomes("manifold-d2").assign(config="same"), "ns", "wgan+gp1")

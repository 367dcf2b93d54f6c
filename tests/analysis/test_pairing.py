import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from analysis import pairing
from analysis.pairing import Record
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

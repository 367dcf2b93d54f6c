"""What claims measure: by hand, against slow loops, and against the numbers that other tables have."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis import contrasts, measures
from analysis.comparisons import compare
from analysis.contrasts import Numbers, contrast
from analysis.measures import measure
from analysis.outcomes import Sample
from analysis.pairing import improvement, pair
from study.claims import MEASURES, Check

TASK = "manifold-d2"
FACTS = {"threshold": 50.0, "anchor_low": 10.0, "anchor_high": 1000.0}


def checked(results, measure_, methods=("ns+gp1", "ns"), task=TASK, **keys):
    check = Check(measure=measure_, methods=tuple(methods), tasks=(task,), **keys)
    return measure(results, task, check, check.methods, rng=np.random.default_rng(0))


@pytest.fixture
def two(ended, arms):
    """Sets A and B of the hand-computed tables, as two methods on ten points."""
    return ended({"ns+gp1": list(arms["A"]), "ns": list(arms["B"])}, replicates=1, points=10, facts=FACTS)


def with_history(results, series, **columns):
    """Results whose trials have some series of the primary metric, shape (trials, evaluations), and other columns."""
    ids = results.plan["trial_id"].to_numpy()
    values = np.asarray(series, dtype=float)
    frame = pd.DataFrame(
        {
            "trial_id": np.repeat(ids, values.shape[1]),
            "evaluation": np.tile(np.arange(values.shape[1]), len(ids)),
            "primary": values.ravel(),
        }
    )
    frame["generator_steps"] = (frame["evaluation"] + 1) * 10
    frame["discriminator_steps"] = frame["generator_steps"]
    for name, column in columns.items():
        frame[name] = np.asarray(column, dtype=float).ravel()
    shuffled = frame.sample(frac=1, random_state=1)  # the order of rows must not matter
    return dataclasses.replace(
        results, read_history=lambda wanted: shuffled if wanted is None else shuffled[list(wanted)]
    )


def test_every_measure_that_can_be_stated_can_be_computed():
    assert set(measures._NUMBERS) == set(MEASURES)


def test_success_failures_and_improvement_by_hand(two):
    # at most 50: 5 of 10 against 3 of 10; failures 3 of 10 against 5 of 10
    assert checked(two, "success").estimate.value == pytest.approx(0.2)
    assert checked(two, "failures").estimate.value == pytest.approx(-0.2)
    # A is lower at 1, 4, 5, 6, 7 (20<22, 40<200, 50<300, 60<inf, 100<inf): 5, B at 2 and 3: 2, both failed 3
    # 5/10 + 3/20 - 1/2 = .15
    assert checked(two, "improvement").estimate.value == pytest.approx(0.15)


def test_success_in_a_range_is_never_a_failure(two):
    # A: 20 to 60 are six values, and no failure counts however high the range
    assert checked(two, "success", ["ns+gp1"], at_least=20.0, at_most=60.0).estimate.value == pytest.approx(0.6)
    assert checked(two, "success", ["ns+gp1"], at_least=20.0).estimate.value == pytest.approx(0.7)


def test_scores_between_anchors_of_either_order(two):
    # T4: (ln(1000/y) / ln 100) of B's 22, 24, 28, 200, 300
    expected = sum(math.log(1000 / y) / math.log(100) for y in (22, 24, 28, 200, 300)) / 10
    assert checked(two, "log_auc", ["ns"]).estimate.value == pytest.approx(expected)
    # the other way round 1000 scores 1 and 10 scores 0; a failure scores 0 there too
    turned = sum(math.log(y / 10) / math.log(100) for y in (22, 24, 28, 200, 300)) / 10
    assert checked(two, "log_auc", ["ns"], anchors=(1000.0, 10.0)).estimate.value == pytest.approx(turned)


def test_better_may_be_higher(two):
    # the other way round A wins where its value is higher: 2 and 3; a failure is still the worst: 5 and 5 ties
    # A higher: pairs 2, 3; B higher: 1, 4, 5; A only completed: 6, 7 -> wins 4, losses 3, ties 3: 4/10 + 3/20 - 1/2
    assert checked(two, "improvement", better="higher").estimate.value == pytest.approx(0.05)


@pytest.mark.parametrize("options", [{"seeds": 2}, {"critics": (1, 5)}, {"replicates": 2}])
def test_pairs_say_what_the_table_of_comparisons_says(build, options):
    results = build(**options)
    expected = compare(results.outcomes(TASK), "ns+gp1", "ns", facts=results.facts(TASK))
    for name, found in (("success", expected.success_difference), ("log_auc", expected.log_auc_difference)):
        measured = checked(results, name)
        assert dataclasses.asdict(measured.estimate) == pytest.approx(dataclasses.asdict(found))
        assert measured.p_value(0.0) == pytest.approx(found.p_value)
    pairs = pair(results.outcomes(TASK), "ns+gp1", "ns").decided()
    won = pairs.means(improvement(pairs.first.values, pairs.second.values)).values.mean()
    assert checked(results, "improvement").estimate.value == pytest.approx(won - 0.5)


def test_the_spread_over_seeds_by_hand(ended):
    # two seeds of two points; scores of 10, 1000, 100, 100 are 1, 0, .5, .5: standard deviations .7071 and 0
    endings = {"ns+gp1": [10.0, 1000.0, 100.0, 100.0], "ns": [100.0, 100.0, np.inf, 1000.0]}
    results = ended(endings, replicates=1, points=2, seeds=2, facts=FACTS)
    assert checked(results, "seed_spread", ["ns+gp1"]).estimate.value == pytest.approx(math.sqrt(0.5) / 2)
    assert checked(results, "seed_spread").estimate.value == pytest.approx(math.sqrt(0.5) / 2)
    assert checked(results, "seed_spread", ["ns"]).estimate.n == 2


@pytest.mark.parametrize(("points", "bounded"), [(63, False), (64, True)])
@pytest.mark.parametrize("methods", [("ns",), ("ns+gp1", "ns")])
def test_the_quartiles_of_few_points_have_no_interval(ended, points, bounded, methods):
    scores = np.random.default_rng(0).random((2, points))
    endings = {name: list(10 * 100**row) for name, row in zip(("ns+gp1", "ns"), scores, strict=True)}
    found = checked(ended(endings, replicates=1, points=points, facts=FACTS), "spread", methods)
    ranges = np.array([np.quantile(1 - row, [0.25, 0.75], method="inverted_cdf") @ [-1, 1] for row in scores])
    assert found.estimate.value == pytest.approx(ranges[1] if len(methods) == 1 else ranges[0] - ranges[1])
    assert found.estimate.n == points
    assert np.isfinite([found.estimate.low, found.estimate.high]).all() == bounded
    if not bounded:
        assert found.estimate.method == "no interval: an interquartile range needs 64 points, not 63"
        assert found.p_value(1.0) == found.p_value(0.0) == 1.0


@pytest.mark.parametrize(
    "law", [lambda rng, n: rng.beta(0.3, 1.5, n), lambda rng, n: np.clip(rng.lognormal(-2, 1, n), 0, 1)]
)
def test_the_interval_of_the_quartiles_errs_little_from_there_on(monkeypatch, law):
    """At either end in 5 % at most, with a false alarm of one in a million; at 20 points it is 8 to 12 %."""
    monkeypatch.setattr(contrasts, "RESAMPLES", 500)
    rng, studies, n = np.random.default_rng(5), 600, measures.QUARTILES
    truth = np.diff(np.quantile(law(rng, 1_000_000), [0.25, 0.75]))[0]
    wrong = np.zeros(2)
    for _ in range(studies):
        place = Sample(np.zeros(n), np.zeros(n, dtype=np.int64), np.arange(n))
        numbers = Numbers(law(rng, n)[None], np.zeros((1, n), dtype=bool), contrast(1), place)
        found = measures._spread(numbers, rng).estimate
        wrong += truth < found.low, truth > found.high
    for errors in wrong:
        assert stats.binomtest(int(errors), studies, 0.05, alternative="greater").pvalue > 1e-6


def test_one_seed_has_no_spread(two):
    assert checked(two, "seed_spread").estimate.n == 0


def test_the_best_of_some_is_that_of_the_table(ended):
    # T6 on scores: anchors 10 and 1000, two of five; weights .4 .3 .2 .1 0 on the sorted values
    values = [20.0, 30.0, 50.0, 90.0, 400.0]
    results = ended({"ns+gp1": values}, replicates=1, points=5, facts=FACTS)
    expected = sum(w * math.log(1000 / y) / math.log(100) for w, y in zip((0.4, 0.3, 0.2, 0.1, 0), values, strict=True))
    assert checked(results, "best_of", ["ns+gp1"], k=2).estimate.value == pytest.approx(expected)


SERIES = np.array(
    [
        # threshold .2 is reached at evaluation 3; intervals 0-1 falls, 1-2 rises, 2-3 falls: a third
        [1.0, 0.5, 0.6, 0.1, 0.9, 0.1, 0.1, 0.1, 0.1, 0.1],
        # reached at once: no interval
        [0.1] * 10,
        # rises by 2 %, which is noise, then by 100 %, then arrives: of three intervals one
        [1.0, 1.02, 2.04, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1],
        # never arrives
        [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 9.5],
    ]
)


def test_rising_is_counted_up_to_the_first_success_of_those_that_end_in_success(ended):
    results = with_history(ended({"ns": [0.1, 0.1, 0.1, 9.0]}, replicates=1, points=4), SERIES)
    found = checked(results, "rising", ["ns"])
    assert (found.estimate.value, found.estimate.n) == (pytest.approx(1 / 3), 2)
    # with no tolerance the second rise counts too: (1/3 + 2/3) / 2
    assert checked(results, "rising", ["ns"], tolerance=0.0).estimate.value == pytest.approx(0.5)


def random_history(ended, rng, *, length=12):
    series, other = rng.random((2, 30, length)).round(1)  # rounded: ties
    results = ended({"ns": list(series[:, -1])}, replicates=1, points=30)
    return with_history(results, series, gap=other), series, other


def test_trend_is_the_mean_of_spearman_s_correlation_with_time(ended):
    results, _, other = random_history(ended, np.random.default_rng(4))
    expected = np.mean([stats.spearmanr(np.arange(12), row).statistic for row in other])
    assert checked(results, "trend", ["ns"], metric="gap").estimate.value == pytest.approx(expected)


def test_association_is_with_what_comes_later(ended):
    results, series, other = random_history(ended, np.random.default_rng(4))
    rows = zip(series, other, strict=True)
    expected = np.mean([stats.spearmanr(gap[:-3], later[3:] - later[:-3]).statistic for later, gap in rows])
    found = checked(results, "association", ["ns"], metric="gap", later="primary", lag=3)
    assert found.estimate.value == pytest.approx(expected)


def test_a_series_that_never_changes_has_no_trend_and_a_short_one_no_number(ended):
    results = ended({"ns": [0.1] * 4}, replicates=1, points=4)
    assert checked(with_history(results, np.ones((4, 8))), "trend", ["ns"]).estimate.value == 0.0
    assert checked(with_history(results, SERIES[:, :4]), "trend", ["ns"]).estimate.n == 0
    assert checked(with_history(results, SERIES), "trend", ["ns"], steps=40).estimate.n == 0


@pytest.mark.parametrize("name", ["trend", "association"])
def test_a_trial_too_short_for_a_correlation_bounds_the_mean(ended, name):
    """24 trials fall throughout, 40 diverge after three evaluations: -1, or anything up to (40 - 24) / 64."""
    results = ended({"ns": [0.1] * 24 + [np.inf] * 40}, replicates=1, points=64)
    falling = np.tile(np.arange(10.0, 0, -1), (64, 1))
    results = with_history(results, falling, gap=falling, gain=np.tile(np.cumsum(np.arange(10)), (64, 1)))
    late = set(results.plan["trial_id"][24:])
    frame = results.history()
    kept = frame[~(frame["trial_id"].isin(late) & (frame["evaluation"] >= 3))]
    results = dataclasses.replace(results, read_history=lambda wanted: kept if wanted is None else kept[list(wanted)])
    found = checked(results, name, ["ns"], metric="gap", later="gain")
    assert found.estimate.value == pytest.approx(-1.0)
    assert (found.trials, found.undecided, found.estimate.n) == (64, 40, 24)
    assert found.least.estimate.value == pytest.approx(-1.0)
    assert found.greatest.estimate.value == pytest.approx(0.25)


def test_an_earlier_budget_looks_at_the_past(ended):
    results = with_history(ended({"ns": [0.1, 0.1, 0.1, 9.0]}, replicates=1, points=4), SERIES)
    # at 30, 35 .. 50, geometric means between evaluations: .6 .245 .1 .3 .9; .1; 2.04 .45 .1 .1 .1; 3 .. 5: two of four
    found = checked(results, "success", ["ns"], steps=50)
    assert found.estimate.value == pytest.approx(0.5)
    last = checked(results, "success", ["ns"], steps=40, at="last", at_most=0.2)
    assert last.estimate.value == pytest.approx(0.75)  # .1 .1 .1 4
    # at 45: .3, .1, .1 and 4.5
    assert checked(results, "success", ["ns"], steps=45, at="last", at_most=0.2).estimate.value == pytest.approx(0.5)


def test_an_earlier_budget_needs_evaluations_about_it(ended):
    results = with_history(ended({"ns": [0.1, 0.1, 0.1, 9.0]}, replicates=1, points=4), SERIES)
    found = checked(results, "success", ["ns"], steps=30)  # 10 apart is more than a quarter of 30
    assert (math.isnan(found.estimate.value), found.trials, found.estimate.n) == (True, 4, 4)
    assert found.estimate.method.startswith("4 of 4 trials were evaluated too seldom")
    assert found.p_value(0.0) == 1.0


def test_an_earlier_budget_is_one_that_all_trials_reach(build):
    results = with_history(build(critics=(1, 5)), np.ones((192, 25)))  # 1000 generator steps
    found = checked(results, "success", steps=2000, unit="discriminator_steps")
    assert found.estimate.method == "64 of 128 trials end before 2000 discriminator_steps, after 1000"


def test_the_last_value_and_that_of_another_column(ended):
    results = ended({"ns": [0.1, 0.1, 0.1, 9.0]}, replicates=1, points=4)
    trials = results.trials.assign(
        primary_last=[0.3, 0.1, 0.1, 0.1], primary_best=[0.3, 0.3, 0.1, 0.1], modes=[8.0] * 4
    )
    results = with_history(dataclasses.replace(results, trials=trials), SERIES, modes=np.tile([1.0, 8.0] * 5, (4, 1)))
    assert checked(results, "success", ["ns"]).estimate.value == pytest.approx(0.75)
    assert checked(results, "success", ["ns"], at="last").estimate.value == pytest.approx(0.75)
    assert checked(results, "success", ["ns"], at="best").estimate.value == pytest.approx(0.5)
    assert checked(results, "success", ["ns"], metric="modes", at_least=8.0).estimate.value == 1.0
    assert checked(results, "success", ["ns"], metric="modes", at="last", at_least=8.0).estimate.value == 1.0
    # at 30, 35 .. 50: 1, 2.8, 8, 2.8 and 1
    early = checked(results, "success", ["ns"], metric="modes", at_least=8.0, steps=50)
    assert early.estimate.value == 0.0
    with pytest.raises(ValueError, match="no column 'mode'"):
        checked(results, "success", ["ns"], metric="mode", at_least=8.0)


def test_the_region_is_about_the_first_method(build):
    results = build(replicates=8, points=4)
    plan = results.plan.assign(
        penalty_weight=np.where(results.plan["method"] == "ns+gp1", results.plan["point"], np.nan)
    )
    results = dataclasses.replace(results, plan=plan)
    assert checked(results, "log_auc", where="penalty_weight < 10").estimate.n == 10
    assert checked(results, "log_auc", ("ns", "ns+gp1"), where="penalty_weight < 10").estimate.n == 0
    whole = checked(results, "log_auc", where="penalty_weight < 32")
    assert whole.estimate == checked(results, "log_auc").estimate


@pytest.mark.parametrize("name", ["success", "log_auc", "failures", "improvement"])
def test_what_is_undecided_bounds_the_number(build, name):
    results = build(keep=90)
    found = checked(results, name)
    whole = checked(build(), name).estimate.value
    assert found.undecided > 0
    assert found.least.estimate.value <= whole <= found.greatest.estimate.value
    decided = build()
    assert checked(decided, name).least is None


def test_the_order_of_rows_does_not_matter(build):
    results = build(seeds=2)
    shuffled = dataclasses.replace(
        results, plan=results.plan.sample(frac=1, random_state=3), trials=results.trials.sample(frac=1, random_state=4)
    )
    for name, keys in (
        ("success", {}),
        ("log_auc", {}),
        ("improvement", {}),
        ("seed_spread", {}),
        ("best_of", {"k": 3}),
    ):
        assert checked(results, name, **keys).estimate == checked(shuffled, name, **keys).estimate


def test_what_cannot_be_paired_is_said(build):
    results = build()
    with pytest.raises(ValueError, match="'lsgan' is not planned on manifold-d2"):
        checked(results, "success", ("ns", "lsgan"))


@pytest.mark.parametrize(("status", "value"), [("diverged", 0.0), ("oom", 0.0)])
def test_all_failed(build, replaced, status, value):
    results = replaced(build(), status, np.nan)
    assert checked(results, "log_auc").estimate.value == value
    assert checked(results, "improvement").estimate.value == 0.0
    assert checked(results, "failures", ["ns"]).estimate.value == 1.0

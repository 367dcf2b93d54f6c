import itertools
import math

import numpy as np
import opda.nonparametric
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from analysis import budgets, intervals, profiles, unseen
from analysis.outcomes import Sample
from analysis.results import TaskFacts

FALSE_ALARM = 1e-6
FACTS = TaskFacts("w2sq", threshold=0.2, anchor_low=0.02, anchor_high=2.0)

values = st.lists(st.one_of(st.floats(1e-3, 1e3), st.just(math.inf)), min_size=1, max_size=25)


def metric(score):
    """The value that scores so much; +inf for 0."""
    score = np.asarray(score, dtype=float)
    return np.where(score == 0, np.inf, FACTS.anchor_high * (FACTS.anchor_low / FACTS.anchor_high) ** score)


def curve(sample, seed=0):
    return budgets.budget_curve(sample, FACTS, np.random.default_rng(seed))


# ---- tables worked out by hand


@pytest.mark.parametrize(
    ("outcomes", "size", "expected"),
    [
        ([20, 30, 50, 90, 400], 1, 118),  # the mean
        ([20, 30, 50, 90, 400], 2, 36),  # weights .4 .3 .2 .1 0
        ([20, 30, 50, 90, 400], 3, 26),  # weights .6 .3 .1 0 0
        ([20, 30, 50, 90, 400], 5, 20),
        ([20, 30, 50, np.inf, np.inf], 3, 26),  # three cannot all fail
        ([20, 30, 50, np.inf, np.inf], 2, np.inf),
        ([np.inf], 1, np.inf),
    ],
)
def test_expected_best(outcomes, size, expected):
    assert budgets.expected_best(outcomes, size) == pytest.approx(expected)
    assert budgets.expected_best(outcomes[::-1], size) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("successes", "n", "size", "expected"), [(3, 10, 1, 0.3), (3, 10, 2, 8 / 15), (3, 10, 3, 17 / 24), (3, 10, 8, 1)]
)
def test_success_within(successes, n, size, expected):
    assert budgets.success_within(successes, n, size) == pytest.approx(expected)


def test_nothing_succeeds_within_anything():
    assert budgets.success_within(0, 10, 5) == 0


@pytest.mark.parametrize(("success", "expected"), [(0.05, 59), (0.1, 29), (0.3, 9), (0.5, 5), (0.9, 2), (1, 1)])
def test_needed(success, expected):
    assert budgets.needed(success) == expected


def test_needed_without_successes_or_data():
    assert budgets.needed(0) == math.inf
    assert math.isnan(budgets.needed(math.nan))
    assert budgets.needed(0.95) == 1  # exactly once, whatever the rounding
    assert budgets.needed(0.5, level=0.75) == 2


def test_sizes_are_powers_of_two_and_the_familiar_ones():
    assert list(budgets.shown_sizes(32)) == [1, 2, 4, 5, 8]
    assert list(budgets.shown_sizes(128)) == [1, 2, 4, 5, 8, 16, 25, 32]
    assert list(budgets.shown_sizes(400)) == [1, 2, 4, 5, 8, 16, 25, 32, 64, 100]
    assert list(budgets.shown_sizes(1)) == list(budgets.shown_sizes(7)) == [1]


@pytest.mark.parametrize("size", [0, 6, -1])
def test_what_cannot_be_drawn_is_refused(size):
    with pytest.raises(ValueError, match="between 1 and the 5"):
        budgets.expected_best([1, 2, 3, 4, 5], size)
    with pytest.raises(ValueError, match="between 1 and the 5"):
        budgets.success_within(1, 5, size)


def test_other_nonsense_is_refused():
    with pytest.raises(ValueError, match="NaN"):
        budgets.expected_best([1, np.nan], 1)
    with pytest.raises(ValueError, match="between 0 and 5"):
        budgets.success_within(6, 5, 1)
    for success, level in ((1.5, 0.95), (-0.1, 0.95), (0.5, 1.0)):
        with pytest.raises(ValueError, match="needed takes"):
            budgets.needed(success, level)


# ---- oracles


@settings(deadline=None)
@given(values, st.data())
def test_expected_best_is_the_mean_over_all_draws(outcomes, data):
    outcomes = outcomes[:9]
    size = data.draw(st.integers(1, len(outcomes)))
    every = [min(drawn) for drawn in itertools.combinations(outcomes, size)]
    assert budgets.expected_best(outcomes, size) == pytest.approx(np.mean(every), rel=1e-9)


@pytest.mark.parametrize("size", [1, 2, 100, 2500, 9_999, 10_000])
def test_ten_thousand_values_overflow_nothing(size):
    """The lowest of B out of 1..n is (n + 1) / (B + 1) on average."""
    found = budgets.expected_best(np.arange(1, 10_001), size)
    assert found == pytest.approx(10_001 / (size + 1), rel=1e-9)
    assert budgets.draw_weights(10_000, size).sum() == pytest.approx(1)


@settings(deadline=None)
@given(st.integers(1, 300), st.data())
def test_success_within_is_the_hypergeometric_tail(n, data):
    successes, size = data.draw(st.integers(0, n)), data.draw(st.integers(1, n))
    expected = stats.hypergeom(n, successes, size).sf(0)
    assert budgets.success_within(successes, n, size) == pytest.approx(expected, abs=1e-9)
    assert budgets._hits(n, size)[successes] == pytest.approx(expected, abs=1e-9)


@given(st.floats(0.001, 0.999))
def test_needed_is_the_first_budget_that_suffices(success):
    found = int(budgets.needed(success))
    assert (1 - success) ** found <= 0.05 * (1 + 1e-9)
    assert found == 1 or (1 - success) ** (found - 1) > 0.05 * (1 - 1e-9)


@settings(deadline=None)
@given(values)
def test_a_larger_budget_never_gets_less(outcomes):
    sample = Sample(np.array(outcomes), np.zeros(len(outcomes), dtype=np.int64), np.arange(len(outcomes)))
    found = curve(sample)
    assert np.all(np.diff(found.score) >= -1e-12)
    assert np.all(np.diff(found.success) >= -1e-12)
    assert np.all((found.median[1:] <= found.median[:-1]) | np.isinf(found.median[:-1]))
    assert np.all((found.median_low <= found.median) & (found.median <= found.median_high))


def test_one_configuration_is_the_log_auc_and_the_success_fraction(sampled):
    rng = np.random.default_rng(0)
    outcomes = np.where(rng.random(96) < 0.2, np.inf, rng.lognormal(-1, 1, 96))
    for sample in (sampled(outcomes), sampled(outcomes, points=np.repeat(np.arange(32), 3))):
        found = curve(sample)
        assert found.score[0] == pytest.approx(profiles.log_auc(sample, low=0.02, high=2.0).value, abs=1e-12)
        assert found.success[0] == pytest.approx(profiles.success(sample, 0.2).value, abs=1e-12)
        assert found.median[0] == profiles.quantile(sample, 0.5)


def test_the_curve_is_its_parts(sampled):
    rng = np.random.default_rng(1)
    outcomes = rng.lognormal(-1, 1, 40)
    found = curve(sampled(outcomes))
    scores = profiles.utility(outcomes, low=0.02, high=2.0)
    for position, size in enumerate(found.sizes):
        assert found.score[position] == pytest.approx(-budgets.expected_best(-scores, int(size)))
        within = budgets.success_within(int(np.sum(outcomes <= 0.2)), 40, int(size))
        assert found.success[position] == pytest.approx(within)
    back = profiles.utility(found.metric, low=0.02, high=2.0)
    np.testing.assert_allclose(back, found.score, atol=1e-12)
    alone = budgets.best_score(sampled(outcomes), 4, facts=FACTS, rng=np.random.default_rng(0))
    assert alone.value == pytest.approx(found.score[2])
    assert (alone.low, alone.high) == pytest.approx((found.low[2], found.high[2]), abs=0.02)  # another draw


# ---- nested seeds


def test_two_seeds_of_a_configuration_are_not_two_tries(sampled):
    """One point of eight succeeds with both seeds: two tries hit it in C(7,1) / C(8,2) = 1/4 of the draws."""
    outcomes = np.full(16, 1.0)
    outcomes[:2] = 0.1
    found = curve(sampled(outcomes, points=np.repeat(np.arange(8), 2)))
    assert list(found.sizes) == [1, 2]
    assert found.success == pytest.approx([1 / 8, 1 / 4])


def test_nested_seeds_are_the_mean_over_all_draws_of_points_and_trials(sampled, monkeypatch):
    """Every pair of points, every trial of each; the random choices of trials come as close as their number allows."""
    monkeypatch.setattr(budgets, "ASSIGNMENTS", 4000)
    held = [[0.1, 1.0], [0.05], [np.inf, 0.3, 0.15], [1.5], [0.4, 0.1], [np.inf], [0.9, 0.7], [0.19, np.inf]]
    sample = sampled(np.concatenate(held), points=np.repeat(np.arange(8), [len(trials) for trials in held]))
    scores, successes = [], []
    for pair in itertools.combinations(held, 2):
        draws = list(itertools.product(*pair))  # each pair of points counts the same, whatever it holds
        best = [min(drawn) for drawn in draws]
        scores.append(np.mean(profiles.utility(best, low=0.02, high=2.0)))
        successes.append(np.mean(np.array(best) <= 0.2))
    found = curve(sample)
    assert found.score[1] == pytest.approx(np.mean(scores), abs=0.01)
    assert found.success[1] == pytest.approx(np.mean(successes), abs=0.01)


def test_every_trial_of_a_point_takes_its_turn(sampled):
    sample = sampled(np.arange(12.0), points=np.repeat(np.arange(4), 3))
    chosen = budgets._assigned(sample, np.random.default_rng(0))
    assert len(chosen) >= budgets.ASSIGNMENTS
    assert len(chosen) % 3 == 0
    assert (sample.points[chosen] == np.arange(4)).all()
    np.testing.assert_array_equal(np.bincount(chosen.ravel()), np.full(12, len(chosen) // 3))


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.floats(0.01, 3), st.integers(0, 9)), min_size=8, max_size=30), st.randoms())
def test_the_order_of_rows_does_not_matter(rows, random):
    shuffled = list(rows)
    random.shuffle(shuffled)
    found = []
    for given_rows in (rows, shuffled):
        outcomes, points = (np.array(column) for column in zip(*given_rows, strict=True))
        found.append(curve(Sample(outcomes, np.zeros(len(rows), dtype=np.int64), points.astype(np.int64))))
    np.testing.assert_allclose(found[0].score, found[1].score, atol=1e-12)
    np.testing.assert_allclose(found[0].low, found[1].low, atol=1e-9)
    np.testing.assert_allclose(found[0].success, found[1].success, atol=1e-12)


# ---- bands of the median


def test_the_median_of_the_best_by_hand(sampled):
    """Of 1..10: one try has the median 5; two are at the quantile 1 - 2^(-1/2) = .293, so 3; four at .159, so 2.

    The band is .4295 wide at 10 points: for one try from the quantile .0705 (1) to .9295 (10).
    """
    median, low, high = budgets.median_of_best(sampled(np.arange(1.0, 11.0)), [1, 2, 4])
    assert list(median) == [5, 3, 2]
    assert list(low) == [1, -np.inf, -np.inf]
    assert list(high) == [10, 8, 6]  # quantiles .9295, .7224, .5886


@pytest.mark.parametrize("failures", [0, 9])
def test_the_band_is_that_of_opda(sampled, failures):
    outcomes = np.random.default_rng(failures).lognormal(size=41)  # odd: a median on a step would hang on rounding
    outcomes[:failures] = np.inf
    sizes = [1, 2, 3, 5, 10, 20]
    bands = opda.nonparametric.EmpiricalDistribution.confidence_bands(outcomes, 0.95, method="dkw")
    upper, middle, lower = (band.quantile_tuning_curve(sizes, minimize=True) for band in bands)
    median, low, high = budgets.median_of_best(sampled(outcomes), sizes)
    np.testing.assert_array_equal(median, middle)
    np.testing.assert_array_equal(low, lower)
    np.testing.assert_array_equal(high, upper)


def test_the_band_of_the_median_covers_at_every_budget_at_once():
    """Log-normal outcomes, one in five failed: the quantile p of all is the quantile p / .8 of the log-normal."""
    studies, n, rng = 600, 48, np.random.default_rng(2)
    sizes = budgets.shown_sizes(n)
    truth = np.exp(stats.norm.ppf(np.minimum(-np.expm1(-math.log(2) / sizes) / 0.8, 1)))
    covered = 0
    for outcomes in np.where(rng.random((studies, n)) < 0.2, np.inf, rng.lognormal(size=(studies, n))):
        sample = Sample(outcomes, np.zeros(n, dtype=np.int64), np.arange(n))
        _, low, high = budgets.median_of_best(sample, sizes)
        covered += bool(np.all((low <= truth) & (truth <= high)))
    assert stats.binomtest(covered, studies, 0.95, alternative="less").pvalue > FALSE_ALARM


# ---- intervals of the score


LAWS = {
    "coin": lambda rng, size: (rng.random(size) < 0.05) * 1.0,
    "fair coin": lambda rng, size: (rng.random(size) < 0.5) * 1.0,
    "failures and uniform": lambda rng, size: np.where(rng.random(size) < 0.3, 0.0, rng.random(size)),
    "failures mostly": lambda rng, size: np.where(rng.random(size) < 0.95, 0.0, rng.random(size)),
    "skewed": lambda rng, size: rng.beta(0.5, 3, size),
    "high": lambda rng, size: rng.beta(5, 1, size),
    "narrow": lambda rng, size: rng.normal(0.5, 0.02, size).clip(0, 1),
}
"""Scores as sweeps have them: few or many successes, few that did not fail, a long tail, all nearly alike."""


def expected(law, size):
    """The expected best of so many, `1 - integral of F^size`, from 400,000 draws."""
    ordered = np.sort(LAWS[law](np.random.default_rng(99), 400_000))
    fraction = np.arange(1, len(ordered)) / len(ordered)
    return ordered[-1] - fraction**size @ np.diff(ordered)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize(("n", "size"), [(32, 1), (32, 4), (64, 16), (128, 16)])
def test_the_interval_covers_at_least_what_it_promises(monkeypatch, law, n, size):
    """A false alarm, were coverage .95 exactly, has a chance of one in a million per case."""
    monkeypatch.setattr(unseen, "DRAWS", 400)
    studies, rng, covered = 120, np.random.default_rng(n + size), 0
    truth = expected(law, size)
    for scores in LAWS[law](rng, (studies, n)):
        sample = Sample(metric(scores), np.zeros(n, dtype=np.int64), np.arange(n))
        found = budgets.best_score(sample, size, facts=FACTS, rng=rng)
        assert found.low <= found.value <= found.high
        covered += found.low - 1e-9 <= truth <= found.high + 1e-9
    assert stats.binomtest(covered, studies, 0.95, alternative="less").pvalue > FALSE_ALARM


@pytest.mark.slow
@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize(("n", "size"), [(16, 2), (32, 8), (128, 4), (512, 64)])
def test_the_interval_covers_in_many_sweeps(law, n, size):
    """Of 1,500 sweeps a coverage of .93 would be found out with a chance of .9."""
    studies, rng, covered = 1500, np.random.default_rng(n + size), 0
    truth = expected(law, size)
    for scores in LAWS[law](rng, (studies, n)):
        sample = Sample(metric(scores), np.zeros(n, dtype=np.int64), np.arange(n))
        found = budgets.best_score(sample, size, facts=FACTS, rng=rng)
        covered += found.low - 1e-9 <= truth <= found.high + 1e-9
    assert stats.binomtest(covered, studies, 0.95, alternative="less").pvalue > 0.01


@pytest.mark.parametrize("twins", [True, False])
def test_the_interval_covers_with_two_seeds_of_each_point(monkeypatch, twins):
    """Twins score alike: n points, not 2n; otherwise the interval is wider than need be."""
    monkeypatch.setattr(unseen, "DRAWS", 400)
    studies, n, size, rng, covered = 120, 32, 4, np.random.default_rng(8), 0
    truth = expected("failures and uniform", size)
    for _ in range(studies):
        scores = LAWS["failures and uniform"](rng, (n, 1 if twins else 2)) * np.ones((1, 2))
        sample = Sample(metric(scores).ravel(), np.zeros(2 * n, dtype=np.int64), np.repeat(np.arange(n), 2))
        found = budgets.best_score(sample, size, facts=FACTS, rng=rng)
        covered += found.low <= truth <= found.high
    assert stats.binomtest(covered, studies, 0.95, alternative="less").pvalue > FALSE_ALARM


@pytest.mark.parametrize(("successes", "size"), [(3, 1), (3, 4), (16, 2), (31, 8)])
def test_of_successes_and_failures_it_is_clopper_and_pearsons(sampled, successes, size):
    """The best of B scores 1 with a chance of `1 - (1 - p)^B`, which rises with p."""
    scores = np.repeat([1.0, 0.0], [successes, 32 - successes])
    found = budgets.best_score(sampled(metric(scores)), size, facts=FACTS, rng=np.random.default_rng(0))
    exact = stats.binomtest(successes, 32).proportion_ci(0.95, method="exact")
    low, high = (1 - (1 - end) ** size for end in (exact.low, exact.high))
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.02)


def test_the_ends_are_integrals_over_the_distribution_function():
    """For each random distribution, `1 - integral of F^size` on a fine grid."""
    rng = np.random.default_rng(3)
    scores, size = np.array([0.9, 0.6, 0.6, 0.1]), 3
    drawn = rng.dirichlet(np.ones(5), size=6)
    reached = np.concatenate([np.zeros((6, 1)), np.cumsum(drawn[:, :-1], axis=1)], axis=1)
    grid = (np.arange(100_000) + 0.5) / 100_000
    for top, offset in ((0.0, 0.0), (1.0, drawn[:, -1:])):
        found = budgets._best_of(reached + offset, scores, size)
        for row, value in zip(drawn, found, strict=True):
            places = np.append(scores, top)
            below = ((places[:, None] <= grid) * row[:, None]).sum(axis=0)
            assert value == pytest.approx(1 - np.mean(below**size), abs=1e-4)


def test_the_expected_best_is_unbiased():
    """The same law: 400 studies of 20 points, against the closed form within five standard errors."""
    studies, size, failed, rng = 400, 5, 0.3, np.random.default_rng(4)
    scores = np.where(rng.random((studies, 20)) < failed, 0.0, rng.random((studies, 20)))
    found = [-budgets.expected_best(-row, size) for row in scores]
    truth = 1 - (1 - failed ** (size + 1)) / ((size + 1) * (1 - failed))
    assert np.mean(found) == pytest.approx(truth, abs=5 * np.std(found) / math.sqrt(studies))


def test_groups_of_the_worse_trials_change_no_interval(sampled, monkeypatch):
    """3,000 points in about 300 groups, against all of them apart: both have the error of 2,000 resamples."""
    rng = np.random.default_rng(5)
    sample = sampled(rng.lognormal(-1, 1, 3000))
    grouped = [budgets.best_score(sample, size, facts=FACTS, rng=np.random.default_rng(6)) for size in (1, 30, 300)]
    monkeypatch.setattr(unseen, "APART", 10_000)
    apart = [budgets.best_score(sample, size, facts=FACTS, rng=np.random.default_rng(7)) for size in (1, 30, 300)]
    for one, other in zip(grouped, apart, strict=True):
        width = other.high - other.low
        assert one.value == other.value
        assert abs(one.low - other.low) < 0.1 * width
        assert abs(one.high - other.high) < 0.1 * width


def test_an_interval_for_every_budget_and_no_value_beyond_all_points(sampled):
    sample = sampled(np.random.default_rng(0).lognormal(-1, 1, 32))
    four, all_of_them, many = (
        budgets.best_score(sample, size, facts=FACTS, rng=np.random.default_rng(0)) for size in (4, 32, 33)
    )
    assert four.low < four.value < four.high
    assert four.method == "Gaffke, 32 points"
    assert all_of_them.low < all_of_them.value < all_of_them.high
    assert math.isnan(many.value)
    assert "33" in many.method


@pytest.mark.parametrize(("outcome", "score"), [(np.inf, 0.0), (0.01, 1.0), (0.2, 0.5)])
def test_no_variance_is_not_no_uncertainty(sampled, outcome, score):
    """Of 32 points that score the same, a part U of the prior may score anything: beta(1, 32), .975 below q.

    1 - q = .025^(1/32) = .8911. One try gets s (1 - q) to s + (1 - s) q, two s (1 - q^2) to s + (1 - s)(1 - (1 - q)^2).
    """
    one, two = (
        budgets.best_score(sampled([outcome] * 32), size, facts=FACTS, rng=np.random.default_rng(0)) for size in (1, 2)
    )
    q = 1 - 0.025 ** (1 / 32)
    assert one.value == pytest.approx(score)
    assert (one.low, one.high) == pytest.approx((score * (1 - q), score + (1 - score) * q), abs=0.02)
    assert (two.low, two.high) == pytest.approx(
        (score * (1 - q**2), score + (1 - score) * (1 - (1 - q) ** 2)), abs=0.03
    )


# ---- degenerate inputs


@pytest.mark.parametrize("outcomes", [[], [np.nan, np.nan]])
def test_nothing_decided_gives_no_curve(sampled, outcomes):
    found = curve(sampled(outcomes))
    assert (len(found.sizes), len(found.score), found.n, found.method) == (0, 0, 0, "no trials")
    assert budgets.best_score(sampled(outcomes), 1, facts=FACTS, rng=np.random.default_rng(0)) == intervals.NOTHING
    assert all(math.isnan(part[0]) for part in budgets.median_of_best(sampled(outcomes), [1]))


def test_a_single_trial_gives_a_curve_of_one(sampled):
    found = curve(sampled([0.2]))
    assert (list(found.sizes), found.success[0], found.n) == ([1], 1.0, 1)
    assert found.score[0] == pytest.approx(0.5)
    assert found.metric[0] == pytest.approx(0.2)
    # a part of the prior that is uniform on 0 to 1 may score anything: .5 * .025, and .5 + .5 * .975
    assert (found.low[0], found.high[0]) == pytest.approx((0.0125, 0.9875), abs=0.01)


def test_failures_only_score_nothing(sampled):
    found = curve(sampled([np.inf] * 16))
    assert (found.score == 0).all()
    assert (found.success == 0).all()
    assert np.isinf(found.median).all()

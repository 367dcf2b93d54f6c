import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from analysis import variance
from analysis.results import Results

FALSE_ALARM = 1e-6
TASK = "manifold-d2"
LOW, HIGH = 0.02, 2.0


def metric(score):
    """The value that scores so much between the anchors of the synthetic results."""
    return HIGH * (LOW / HIGH) ** np.asarray(score, dtype=float)


@pytest.fixture(scope="module")
def nested(ended):
    """A function making `Results` of one method from a table of scores: a row per configuration, a column per seed.

    NaN has no row among the trials, +inf diverged.
    """

    def make(scores, *, replicates=1, adaptive=None, history=None):
        scores = np.asarray(scores, dtype=float)
        endings = [
            None if np.isnan(score) else np.inf if np.isinf(score) else float(metric(score)) for score in scores.ravel()
        ]
        found = ended({"m": endings}, replicates=replicates, points=len(scores) // replicates, seeds=scores.shape[1])
        plan = found.plan.assign(sampler=adaptive) if adaptive else found.plan
        return Results(found.name, plan, found.trials, (), None, read_history=history)

    return make


def split(results, seed=0):
    return variance.decompose(results, TASK, "m", rng=np.random.default_rng(seed))


# ---- tables worked out by hand, in tenths of the score, so that variances are hundredths


@pytest.mark.parametrize(
    ("table", "between", "seed", "icc"),
    [
        ([[1, 1], [3, 3]], 2, 0, 1),
        ([[1, 3], [1, 3]], 0, 2, 0),  # cut off from -1
        ([[0, 2], [4, 6]], 7, 2, 7 / 9),
        ([[0, 0, 3], [6, 6, 9]], 17, 3, 0.85),
        ([[1, 2], [3, 4], [5, 6]], 3.75, 0.5, 15 / 17),
    ],
)
def test_components(nested, table, between, seed, icc):
    found = split(nested(np.array(table) / 10)).components
    assert found.between.value == pytest.approx(between / 100)
    assert found.seed.value == pytest.approx(seed / 100)
    assert found.icc.value == pytest.approx(icc)


def test_a_failure_scores_nothing(nested):
    """[[.0, .2], [.4, .6]] again, its zero being a failure."""
    found = split(nested([[np.inf, 0.2], [0.4, 0.6]])).components
    assert found.between.value == pytest.approx(0.07)
    assert found.seed.value == pytest.approx(0.02)


def test_unequal_seeds_by_hand(nested):
    """Configurations (.0, .2, .4), (.6, .8), (.1): means .2, .7, .1, the mean of all .35.

    MSB = (3 * .15^2 + 2 * .35^2 + .25^2) / 2 = .1875; MSW = (.08 + .02 + 0) / (6 - 3) = .1 / 3;
    k = (6 - (9 + 4 + 1) / 6) / 2 = 11 / 6; between = (.1875 - .1 / 3) * 6 / 11.
    """
    found = split(nested([[0.0, 0.2, 0.4], [0.6, 0.8, np.nan], [0.1, np.nan, np.nan]]))
    assert found.components.seed.value == pytest.approx(0.1 / 3)
    assert found.components.between.value == pytest.approx((0.1875 - 0.1 / 3) * 6 / 11)
    assert (found.configurations, found.repeated) == (3, 2)
    assert found.note == "Configurations have 1 to 3 decided seeds, and each seed counts once."


# ---- oracles


scores = st.lists(st.lists(st.floats(0, 1), min_size=1, max_size=4), min_size=2, max_size=8)


@settings(deadline=None, max_examples=60)
@given(scores)
def test_the_mean_squares_are_those_of_an_analysis_of_variance(nested, table):
    width = max(2, *(len(row) for row in table))
    padded = np.array([row + [np.nan] * (width - len(row)) for row in table])
    found = split(nested(padded)).components
    held = np.array([len(row) for row in table])
    if held.max() < 2:
        assert found is None
        return
    assert 0 <= found.between.value <= 1
    k = (held.sum() - np.sum(held**2) / held.sum()) / (len(table) - 1)
    within = sum(np.sum((np.array(row) - np.mean(row)) ** 2) for row in table) / (held.sum() - len(table))
    assert found.seed.value == pytest.approx(within, abs=1e-9)
    if within > 1e-6:
        ratio = stats.f_oneway(*table).statistic
        assert found.between.value == pytest.approx(max(0, within * (ratio - 1) / k), abs=1e-6)


def test_points_are_resampled_with_all_their_configurations(build):
    """Two values of n_critic per point: four configurations of two points, resampled as two."""
    found = variance.decompose(
        build(replicates=1, points=2, critics=(1, 5), seeds=2), TASK, "ns", rng=np.random.default_rng(0)
    )
    assert found.configurations == 4
    assert found.components.seed.n == 2


def test_the_bootstrap_against_a_slow_loop(nested):
    """The same law: sums over drawn points, against an analysis of variance of each drawn table."""
    rng = np.random.default_rng(0)
    table = rng.uniform(0.2, 0.8, (12, 1)) + rng.uniform(-0.1, 0.1, (12, 2))
    found = split(nested(table)).components
    draws = []
    for _ in range(1500):
        drawn = table[rng.integers(12, size=12)]
        seed = drawn.var(axis=1, ddof=1).mean()
        between = max(0, (2 * drawn.mean(axis=1).var(ddof=1) - seed) / 2)
        draws.append((between, seed, between / (between + seed)))
    for estimate, column in zip((found.between, found.seed, found.icc), np.array(draws).T, strict=True):
        low, high = np.quantile(column, [0.025, 0.975])
        assert abs(estimate.low - low) < 0.12 * (high - low)  # the error of a 2.5 % quantile of 1,500 draws
        assert abs(estimate.high - high) < 0.12 * (high - low)


@settings(deadline=None, max_examples=25)
@given(st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(nested, random):
    results = nested(np.random.default_rng(1).uniform(0, 1, (6, 3)))
    order = list(range(len(results.plan)))
    random.shuffle(order)
    shuffled = Results("s", results.plan.iloc[order], results.trials.iloc[order[::-1]], (), None)
    first, second = (split(given_results).components for given_results in (results, shuffled))
    for one, other in ((first.between, second.between), (first.icc, second.icc)):
        assert (one.value, one.low, one.high) == pytest.approx((other.value, other.low, other.high), abs=1e-12)


@pytest.mark.parametrize(("n", "k", "nominal"), [(16, 4, 0.90), (32, 2, 0.92), (64, 2, 0.95)])
def test_intervals_cover_as_measured(monkeypatch, n, k, nominal):
    """Uniform effects of standard deviation .2 and .1, so variances of .04 and .01 and a share of .8."""
    studies, rng = 200, np.random.default_rng(n)
    groups = np.repeat(np.arange(n), k)
    covered = np.zeros(3)
    for _ in range(studies):
        effects = rng.uniform(-1, 1, n) * 0.2 * math.sqrt(3)
        seeds = rng.uniform(-1, 1, (n, k)) * 0.1 * math.sqrt(3)
        sums = variance._squares((effects[:, None] + seeds).ravel(), groups, groups, n)
        blocks = [variance._split(counts @ sums) for counts in variance.point_draws(n, rng=rng, resamples=400)]
        low, high = np.quantile(np.concatenate(blocks, axis=1), [0.025, 0.975], axis=1)
        truth = np.array([0.04, 0.01, 0.8])
        covered += (low <= truth) & (truth <= high)
    for hits in covered:
        assert stats.binomtest(int(hits), studies, nominal).pvalue > FALSE_ALARM


# ---- what cannot be split


def test_one_seed_gives_no_spread_of_seeds(nested):
    for table in ([[0.1], [0.5]], [[0.1, 0.4]], [[0.1, np.nan], [np.nan, 0.4]], [[np.nan, np.nan], [np.nan, np.nan]]):
        found = split(nested(table))
        assert found.components is None
        assert found.note == "The spread of seeds needs two configurations and one of them with two decided seeds."


def test_no_variance_is_not_no_uncertainty(nested):
    found = split(nested([[0.5, 0.5]] * 4)).components
    assert (found.between.value, found.seed.value) == (0, 0)
    assert math.isnan(found.icc.value)
    assert math.isnan(found.seed.high)
    assert found.seed.method == "no interval: the points are alike"


def test_chosen_configurations_are_said_to_be_chosen(nested):
    assert "chosen by tpe" in split(nested([[0.1, 0.2], [0.5, 0.9]], adaptive="tpe")).note


def test_an_unknown_method_is_refused(nested):
    with pytest.raises(ValueError, match=r"'x' is not planned.*\['m'\]"):
        variance.decompose(nested([[0.1, 0.2], [0.3, 0.4]]), TASK, "x", rng=np.random.default_rng(0))


# ---- the noise of measuring


def past(results, series):
    """A history: for each trial of the plan, the scores of its evaluations."""
    rows = [
        {"trial_id": name, "task": TASK, "method": "m", "evaluation": index, "primary": float(metric(score))}
        for name, trial in zip(results.plan["trial_id"], series, strict=True)
        for index, score in enumerate(trial)
    ]
    frame = pd.DataFrame(rows).sample(frac=1, random_state=0)
    return Results(
        results.name, results.plan, results.trials, (), None, read_history=lambda columns: frame[list(columns)]
    )


def test_noise_by_hand(nested):
    """Ten evaluations, of which the last five count: .2 .4 .4 .5 .3 has differences .2 0 .1 -.2, so .09 / 4 / 2."""
    results = past(nested([[0.4]]), [[0.9, 0.0, 0.9, 0.0, 0.9, 0.2, 0.4, 0.4, 0.5, 0.3]])
    assert variance.evaluation_noise(results, TASK, "m").value == pytest.approx(0.09 / 8)


def test_a_failed_trial_has_no_noise_and_a_missing_one_does_not_count(nested):
    results = past(nested([[0.4], [np.inf], [np.nan]]), [[0.3, 0.5], [0.9], [0.0, 0.9]])
    found = variance.evaluation_noise(results, TASK, "m")
    assert found.value == pytest.approx((0.04 / 2 + 0) / 2)
    assert found.n == 2


def test_noise_is_bounded_from_above_also_where_training_moves(nested):
    """Uniform noise of variance .1^2 / 3; a drift of .01 between evaluations adds .01^2 / 2."""
    rng = np.random.default_rng(0)
    noise = 0.5 + rng.uniform(-0.1, 0.1, (200, 30))
    drift = 0.01 * np.arange(30)
    still, moving = (
        variance.evaluation_noise(past(nested(np.full((200, 1), 0.5)), series), TASK, "m")
        for series in (noise, noise + drift)
    )
    error = (still.high - still.low) / 4
    assert still.value == pytest.approx(0.01 / 3, abs=5 * error)
    assert moving.value == pytest.approx(0.01 / 3 + 0.0001 / 2, abs=5 * error)
    steps = np.diff(noise[:, -6:], axis=1)  # a fifth of thirty
    assert still.value == pytest.approx(np.mean(steps**2) / 2)
    assert moving.value == pytest.approx(np.mean((steps + 0.01) ** 2) / 2)


def test_the_last_fifth_of_many_evaluations_counts(nested):
    """Of 50 evaluations the last ten: nine differences of .1."""
    series = np.full(50, 0.9)
    series[40:] = 0.3 + 0.1 * (np.arange(10) % 2)
    results = past(nested([[0.4]]), [series])
    assert variance.evaluation_noise(results, TASK, "m").value == pytest.approx(0.005)


def test_without_a_history_nothing_is_known_of_noise(nested, build):
    assert split(nested([[0.1, 0.2], [0.5, 0.9]])).evaluation is None
    assert variance.evaluation_noise(past(nested([[0.4]]), [[0.4]]), TASK, "m") is None
    assert variance.evaluation_noise(past(nested([[np.inf]]), [[0.4, 0.5]]), TASK, "m") is None

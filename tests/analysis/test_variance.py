import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from analysis import unseen, variance
from analysis.results import Results
from analysis.summary import summary

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


def test_the_extremes_against_a_slow_loop(monkeypatch):
    """Each share of the prior by loops: configurations as they are, and the one that was not seen at its worst."""
    rng = np.random.default_rng(0)
    table = [[0.2, 0.3, 0.7], [0.6, 0.8], [0.1], [0.3, 0.4]]
    shares = rng.dirichlet(np.ones(5), size=7)
    monkeypatch.setattr(unseen, "shares", lambda sizes, rng: shares)
    configs = np.repeat(np.arange(4), [len(row) for row in table])
    moments = variance._moments(np.concatenate(table), configs, configs, 4)
    low, high = variance._extremes(moments, rng)
    means = [np.mean(row) for row in table]
    squares = [np.var(row) * len(row) for row in table]
    spare, inverse = [2, 1, 0, 1], [1 / 3, 1 / 2, 1, 1 / 2]
    most = np.mean([2 / 3, 1 / 2, 0, 1 / 2])  # 2, 1 or 0 of 3, 2 or 1 seeds at the other end: (1 * 2) / 3, (1 * 1) / 2

    def parts(share, mean, square):
        """Of the five, the last one being the mean of the others in its numbers of seeds."""
        m, s = [*means, mean], [*squares, square]
        k, i = [*spare, 1.0], [*inverse, np.mean(inverse)]
        seed = sum(w * x for w, x in zip(share, s, strict=True)) / sum(w * x for w, x in zip(share, k, strict=True))
        centre = sum(w * x for w, x in zip(share, m, strict=True))
        spread = sum(w * (x - centre) ** 2 for w, x in zip(share, m, strict=True))
        between = max(spread - seed * sum(w * x for w, x in zip(share, i, strict=True)), 0)
        return between, seed, between / (between + seed)

    for row, share in enumerate(shares):
        apart = parts(share, 1.0, 0.0)  # the mean of all is .4375, so 1 is farther than 0
        alike = parts(share, float(np.mean(means)), most)
        assert high[:, row] == pytest.approx([apart[0], alike[1], apart[2]])
        assert low[:, row] == pytest.approx([alike[0], apart[1], alike[2]])


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


@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_rows_changes_no_digit(build, seed):
    """Four seeds of each point, whose sum differs by rounding with their order."""
    results = build(seeds=4, methods=("ns",), confirmatory=())
    order = np.random.default_rng(seed).permutation(len(results.plan))
    shuffled = Results("s", results.plan.iloc[order], results.trials.iloc[order[::-1]], (), None)
    first, second = (
        variance.decompose(found, TASK, "ns", rng=np.random.default_rng(0)) for found in (results, shuffled)
    )
    assert first == second
    frames = (summary(found) for found in (results, shuffled))
    pd.testing.assert_frame_equal(*frames, check_exact=True)


def uniform(rng, n, k):
    return 0.5 + rng.uniform(-0.35, 0.35, (n, 1)) + rng.uniform(-0.15, 0.15, (n, k))


def failing(rng, n, k):
    """Three in ten configurations always fail, of the others one seed in ten."""
    lost = (rng.random((n, 1)) < 0.3) | (rng.random((n, k)) < 0.1)
    return np.where(lost, 0.0, np.clip(rng.beta(2, 2, (n, 1)) + rng.normal(0, 0.05, (n, k)), 0, 1))


def unsteady(rng, n, k):
    """Configurations hardly differ, and one seed in twenty fails."""
    return np.where(rng.random((n, k)) < 0.05, 0.0, 0.8 + rng.normal(0, 0.03, (n, 1)) + rng.normal(0, 0.02, (n, k)))


def coins(rng, n, k):
    return (rng.random((n, k)) < rng.beta(1, 1, (n, 1))) * 1.0


@pytest.mark.parametrize("law", [uniform, failing, unsteady, coins])
@pytest.mark.parametrize(("n", "k"), [(8, 2), (16, 4), (64, 2)])
def test_intervals_cover_at_least_what_they_promise(monkeypatch, law, n, k):
    """Each component, with a false alarm of one in a million were its coverage .95; the truth from 400,000 seeds."""
    monkeypatch.setattr(unseen, "DRAWS", 400)
    studies, rng = 100, np.random.default_rng(n)
    big = law(rng, 200_000, 2)
    seed = big.var(axis=1, ddof=1).mean()
    between = big.mean(axis=1).var() - seed / 2
    truth = np.array([between, seed, between / (between + seed)])
    groups, covered = np.repeat(np.arange(n), k), np.zeros(3)
    for _ in range(studies):
        drawn = variance._extremes(variance._moments(law(rng, n, k).ravel(), groups, groups, n), rng)
        low, high = np.quantile(drawn[0], 0.025, axis=1), np.quantile(drawn[1], 0.975, axis=1)
        covered += (low <= truth) & (truth <= high)
    for hits in covered:
        assert stats.binomtest(int(hits), studies, 0.95, alternative="less").pvalue > FALSE_ALARM


# ---- what cannot be split


def test_one_seed_gives_no_spread_of_seeds(nested):
    for table in ([[0.1], [0.5]], [[0.1, 0.4]], [[0.1, np.nan], [np.nan, 0.4]], [[np.nan, np.nan], [np.nan, np.nan]]):
        found = split(nested(table))
        assert found.components is None
        assert found.note == "The spread of seeds needs two configurations and one of them with two decided seeds."


def test_no_variance_is_not_no_uncertainty(nested):
    """Four alike: a part U of the prior, .975 of them below q = 1 - .025^(1/4), may have the largest variance, .5."""
    found = split(nested([[0.5, 0.5]] * 4)).components
    assert (found.between.value, found.seed.value) == (0, 0)
    assert (found.seed.low, found.seed.high) == pytest.approx((0.0, 0.5 * (1 - 0.025**0.25)), abs=0.02)
    assert math.isnan(found.icc.value)
    assert math.isnan(found.icc.high)
    assert found.icc.method == "no interval: the scores are alike"


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

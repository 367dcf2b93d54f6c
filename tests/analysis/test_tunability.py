import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from analysis import tunability, unseen
from analysis.budgets import expected_best
from analysis.figures import style
from analysis.figures.table import FIGURES
from analysis.figures.tunability import tunability_numbers
from analysis.results import Results
from analysis.tunability import ALL, SPLIT, UNSPLIT, expected_choice, gain, ranks, scores, transfer
from study.errors import UserError

LOW, HIGH = 0.02, 2.0


def metric(utility):
    """The metric's value that has a utility between the anchors."""
    return LOW * (HIGH / LOW) ** (1 - np.asarray(utility, dtype=float))


@pytest.fixture(scope="module")
def scored(build):
    """A function making `Results` of utilities, {task: shape (points, seeds)}; NaN did not finish, -inf failed."""

    def make(utilities, **columns) -> Results:
        shape = np.shape(next(iter(utilities.values())))
        base = build(
            tasks=tuple(utilities), methods=("ns",), confirmatory=(), replicates=1, points=shape[0], seeds=shape[1]
        )
        values = np.concatenate([np.ravel(table) for table in utilities.values()]).astype(float)
        trials = base.trials.assign(
            status=np.where(np.isinf(values), "diverged", "completed"),
            primary=np.where(np.isinf(values), np.nan, metric(np.where(np.isfinite(values), values, 0))),
        )
        columns = {name: np.tile(np.repeat(v, shape[1]), len(utilities)) for name, v in columns.items()}
        return Results("scored", base.plan.assign(**columns), trials[~np.isnan(values)], (), None)

    return make


def slowly(chosen_by, score, there, size):
    """Over all draws of `size` from the configurations, each as often as it is there."""
    pool = [i for i, count in enumerate(there) for _ in range(count)]
    found = []
    for draw in itertools.combinations(range(len(pool)), size):
        best = max(chosen_by[pool[i]] for i in draw)
        found.append(np.mean([score[pool[i]] for i in draw if chosen_by[pool[i]] == best]))
    return np.mean(found)


@given(
    st.lists(st.tuples(st.integers(0, 3), st.floats(0, 1), st.integers(0, 2)), min_size=2, max_size=5),
    st.integers(1, 3),
)
def test_the_expected_choice_is_the_mean_over_all_draws(rows, size):
    chosen_by, score, there = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    there = there.astype(np.int64)
    there[0] += max(0, size - there.sum())
    weights = np.stack([np.full(len(rows), size), there])
    found = expected_choice(chosen_by, score, weights, size)
    assert found == pytest.approx([slowly(chosen_by, score, row, size) for row in weights])


@pytest.mark.parametrize(("size", "expected"), [(1, 118), (2, 36), (3, 26), (5, 20)])
def test_the_expected_best_by_hand(size, expected):
    # Y = 20, 30, 50, 90, 400: weights of the sorted values for two are .4 .3 .2 .1 0, for three .6 .3 .1 0 0
    values = -np.array([20.0, 30, 50, 90, 400])
    assert -expected_choice(values, values, np.ones((1, 5), dtype=np.int64), size)[0] == pytest.approx(expected)
    assert expected_best(-values, size) == pytest.approx(expected)  # the other place that knows it


def test_large_samples_do_not_overflow():
    values = np.arange(20_000.0)
    found = expected_choice(values, values, np.ones((1, 20_000), dtype=np.int64), 16)[0]
    assert found == pytest.approx(16 * 20_001 / 17 - 1, rel=1e-9)  # the expected maximum of 16 of 1 .. n is 16 (n+1)/17


# Transfer


def test_tasks_that_want_opposite_things(scored):
    # utilities i/15 and 1 - i/15: the mean is 1/2 for all 16, so that what is best on average is any of them, worth
    # 1/2; the expected best of 2 of 0 .. 15 is 2 * 17/3 - 1 = 31/3, so 31/45 on each task. Lost: 31/45 - 1/2
    up = np.arange(16)[:, None] / 15
    found = transfer(scored({"one": up, "two": 1 - up}), "ns", rng=np.random.default_rng(0))
    assert list(found["task"]) == ["one", "two", ALL]
    assert found["tuned"].tolist() == pytest.approx([31 / 45] * 3)
    assert found["transferred"].tolist() == pytest.approx([1 / 2] * 3, abs=1e-6)
    assert found["loss"].tolist() == pytest.approx([31 / 45 - 1 / 2] * 3, abs=1e-6)
    assert (found["size"] == 2).all()
    assert (found["n"] == 16).all()


def test_equal_tasks_lose_nothing(scored):
    same = np.random.default_rng(0).random((64, 1))
    found = transfer(scored({"one": same, "two": same}), "ns", rng=np.random.default_rng(0))
    assert np.abs(found[["loss", "low"]].to_numpy()).max() < 1e-12
    assert (found["high"] > 0.04).all()  # one configuration in 65 may be the best of a task and no good on the other
    assert (found["size"] == 8).all()


def test_phi_is_the_mean_over_tasks_and_adkins_with_all_configurations(scored):
    rng = np.random.default_rng(2)
    tables = {name: rng.random((24, 1)) for name in ("one", "two", "three")}
    results = scored(tables)
    found = transfer(results, "ns", rng=rng)
    assert found["loss"].iloc[-1] == pytest.approx(found["loss"].iloc[:-1].mean())
    # a search among all of them is the published definition: mean of the maxima less the maximum of the mean
    table = np.concatenate(list(tables.values()), axis=1)
    means, whole = scores(results, results.tasks, "ns").means, np.ones((1, 24), dtype=np.int64)
    tuned, transferred = (
        np.mean([expected_choice(by, worth, whole, 24) for by, worth in zip(way(means).T, means.T, strict=True)])
        for way in (tunability._tuned, tunability._transferred)
    )
    assert tuned - transferred == pytest.approx(table.max(axis=0).mean() - table.mean(axis=1).max())


def test_failures_are_the_worst_and_stay(scored):
    # of 16, 15 failed on both tasks: a search of 2 finds the good one with chance 1/8
    table = np.full((16, 1), -np.inf)
    table[3] = 1.0
    found = transfer(scored({"one": table, "two": table}), "ns", rng=np.random.default_rng(0))
    assert found["tuned"].tolist() == pytest.approx([1 / 8] * 3)


def test_what_is_not_decided_everywhere_is_left_out(scored):
    rng = np.random.default_rng(0)
    one, two = rng.random((20, 1)), rng.random((20, 1))
    one[2], two[5] = np.nan, np.nan
    found = scores(scored({"one": one, "two": two}), ("one", "two"), "ns")
    assert len(found.configs) == 18
    assert not {"c2n1", "c5n1"} & set(found.configs)


def test_seeds_are_split_so_that_luck_is_not_skill(scored):
    # only noise: any configuration is worth .5. Split, the best of 8 is worth that; unsplit, what it scored
    rng = np.random.default_rng(4)
    split, unsplit = [], []
    for _ in range(10):
        noise = {task: np.clip(rng.normal(0.5, 0.1, (64, 2)), 0, 1) for task in ("one", "two")}
        split.append(transfer(scored(noise), "ns", rng=rng)["tuned"].iloc[-1])
        unsplit.append(transfer(scored({k: v[:, :1] for k, v in noise.items()}), "ns", rng=rng)["tuned"].iloc[-1])
    error = 0.1 / np.sqrt(64 * 2) * 3 / np.sqrt(10) * 2  # at most twice that of the mean of all, in three deviations
    assert np.mean(split) == pytest.approx(0.5, abs=error)
    assert np.mean(unsplit) > 0.6  # .5 + 1.42 * .1, the expected maximum of 8 normals
    assert transfer(scored(noise), "ns", rng=rng)["split"].unique().tolist() == [SPLIT]
    assert transfer(scored({k: v[:, :1] for k, v in noise.items()}), "ns", rng=rng)["split"].iloc[0] == UNSPLIT


def halves(table):
    """`Scores` of one task or more from utilities, shape (configurations, seeds, tasks)."""
    n, seeds, _ = table.shape
    parts = [table[:, side::2].mean(axis=1) for side in (0, 1)] if seeds > 1 else [table.mean(axis=1)] * 2
    return tunability.Scores(tuple(map(str, range(n))), np.stack(parts), np.arange(n), split=seeds > 1)


def searched(found, way, size):
    """The expected score of a search of stated size on each task."""
    whole = np.ones((1, len(found.configs)), dtype=np.int64)
    return np.mean(
        [
            [expected_choice(by, worth[:, task], whole, size)[0] for task, by in enumerate(way(chosen).T)]
            for chosen, worth in tunability._roles(found)
        ],
        axis=0,
    )


def ridge(rng, n, seeds):
    q = np.clip(1.1 - 2.5 * np.abs(rng.random((n, 1)) - 0.4), 0, 1)
    return np.clip(q + rng.normal(0, 0.1, (n, seeds)), 0, 1)[:, :, None]


def unsteady(rng, n, seeds):
    """All are about as good, and one seed in twenty fails: the worst case for an interval that sees few of those."""
    good = np.clip(0.8 + rng.normal(0, 0.05, (n, 1)) + rng.normal(0, 0.02, (n, seeds)), 0, 1)
    return np.where(rng.random((n, seeds)) < 0.05, 0.0, good)[:, :, None]


def rare(rng, n, seeds):
    return (np.where(rng.random((n, 1)) < 0.9, 0, rng.random((n, 1))) * (rng.random((n, seeds)) > 0.05))[:, :, None]


def edge(rng, n, seeds):
    """The better a configuration, the more of its seeds fail."""
    q = rng.random((n, 1))
    return np.where(rng.random((n, seeds)) < 0.6 * q**4, 0.0, q)[:, :, None]


@pytest.mark.parametrize("law", [ridge, unsteady, rare, edge])
@pytest.mark.parametrize(("n", "seeds"), [(16, 2), (64, 1), (128, 2)])
def test_the_interval_of_the_best_covers(monkeypatch, law, n, seeds):
    """At least .95, with a false alarm of one in a million were it that; the default's score is a number."""
    monkeypatch.setattr(unseen, "DRAWS", 400)
    rng, studies = np.random.default_rng(n), 100
    truth = searched(halves(law(rng, 100_000, seeds)), tunability._tuned, n // 8)[0]
    covered = 0
    for _ in range(studies):
        found = halves(law(rng, n, seeds))
        best = float(tunability._search(found, tunability._tuned)[0])
        low, high = tunability._ends_of_best(found, best, rng)
        covered += low <= truth <= high
    assert stats.binomtest(int(covered), studies, 0.95, alternative="less").pvalue > 1e-6


@pytest.mark.parametrize("seeds", [1, 2])
@pytest.mark.parametrize(("noise", "failing"), [(0.02, 0.0), (0.1, 0.05)])
def test_the_interval_of_the_loss_covers(monkeypatch, seeds, noise, failing):
    """On each task and for their mean, at 32 configurations of two tasks that want different things."""
    monkeypatch.setattr(unseen, "DRAWS", 400)
    rng, studies, n = np.random.default_rng(seeds), 100, 32

    def draw(n):
        a, b = rng.random((2, n))
        good = np.stack([np.clip(1.2 - 2 * a, 0, 1), np.clip(1.2 - 2 * np.abs(a - 0.3) - b, 0, 1)], axis=1)
        noisy = np.clip(good[:, None] + rng.normal(0, noise, (n, seeds, 2)), 0, 1)
        return halves(np.where(rng.random((n, seeds, 2)) < failing, 0.0, noisy))

    big, ways = draw(100_000), (tunability._tuned, tunability._transferred)
    one, other = (searched(big, way, 4) for way in ways)
    truth = tunability._with_mean(one - other)
    covered = np.zeros(3)
    for _ in range(studies):
        found = draw(n)
        one, other = (tunability._search(found, way) for way in ways)
        low, high = np.transpose(tunability._ends_of_loss(found, tunability._with_mean(one - other), rng))
        covered += (low <= truth) & (truth <= high)
    for hits in covered:
        assert stats.binomtest(int(hits), studies, 0.95, alternative="less").pvalue > 1e-6


def test_too_little_to_transfer(scored, build):
    rng = np.random.default_rng(0)
    assert transfer(scored({"one": np.ones((64, 1))}), "ns", rng=rng).empty
    assert transfer(scored({"one": np.ones((15, 1)), "two": np.ones((15, 1))}), "ns", rng=rng).empty
    assert transfer(build(tasks=("one", "two"), keep=0), "ns", rng=rng).empty


def test_the_order_of_rows_does_not_matter(scored):
    rng = np.random.default_rng(0)
    results = scored({"one": rng.random((64, 2)), "two": rng.random((64, 2))})
    mixed = Results(
        results.name,
        pd.concat([part.iloc[::-1] for _, part in results.plan.groupby("task", sort=False)]),
        results.trials.sample(frac=1, random_state=0),
        (),
        None,
    )
    first, second = (transfer(r, "ns", rng=np.random.default_rng(1)) for r in (results, mixed))
    pd.testing.assert_frame_equal(first, second, check_exact=True)


@pytest.mark.parametrize("seeds", [1, 2])
def test_configurations_of_near_ranks_may_count_as_equal(monkeypatch, scored, seeds):
    """Against each configuration apart; estimates are the same, and ends by a fiftieth of the interval's width."""
    rng = np.random.default_rng(seeds)
    q = rng.random((1200, 1))
    tables = {
        task: np.where(rng.random((1200, seeds)) < 0.1, 0.0, np.clip(q + rng.normal(0, 0.3, (1200, seeds)), 0, 1))
        for task in ("one", "two")
    }
    results = scored(tables)
    grouped = transfer(results, "ns", rng=np.random.default_rng(1))
    monkeypatch.setattr(unseen, "APART", 10_000)
    apart = transfer(results, "ns", rng=np.random.default_rng(1))
    assert grouped["loss"].tolist() == apart["loss"].tolist()
    width = (apart["high"] - apart["low"]).min()
    for end in ("low", "high"):
        np.testing.assert_allclose(grouped[end], apart[end], atol=width / 50)


def test_shares_are_those_of_points(scored):
    """Four configurations of two points: alike within a point, what was not seen as a mean one, summing to 1."""
    found = tunability.Scores(tuple("abcd"), np.zeros((2, 4, 1)), np.array([0, 1, 1, 1]), split=False)
    drawn = tunability._shares(found, np.random.default_rng(0))
    raw = unseen.shares(np.ones(2), rng=np.random.default_rng(0))
    expected = np.stack([raw[:, 0], raw[:, 1], raw[:, 1], raw[:, 1], 2 * raw[:, 2]], axis=1)
    np.testing.assert_allclose(drawn, expected / expected.sum(axis=1, keepdims=True))


# Gain


def test_the_gain_over_given_values(scored):
    # beta1 = i/15, utility i/15; the default .5 is nearest to 7/15 and 8/15: the first of them, 7/15; best of 2: 31/45
    up = np.arange(16)[:, None] / 15
    results = scored({"one": up}, beta1=up[:, 0] * 0.9, lr_g=10.0 ** -np.arange(16))
    row = gain(results, "one", "ns", rng=np.random.default_rng(0), default={"beta1": 0.9 * 0.49}).iloc[0]
    assert row["default"] == pytest.approx(7 / 15)
    assert row["gain"] == pytest.approx(31 / 45 - 7 / 15)
    assert row["low"] < row["gain"] < row["high"]
    assert row["chosen"] == "nearest to the values given"
    # lr in decades: 3e-4 is nearest to 1e-4 on a linear scale, but log10 = -3.5, nearest to 1e-3 and 1e-4 alike
    near = gain(results, "one", "ns", rng=np.random.default_rng(0), default={"lr": 3.2e-4}).iloc[0]
    assert near["default"] == pytest.approx(3 / 15)


def test_the_default_may_be_a_level(scored):
    utilities = np.r_[np.full(15, 0.2), 0.9][:, None]
    results = scored({"one": utilities}, optimiser=np.array(["adam"] * 15 + ["sgd"]))
    # a categorical level that only one configuration has
    row = gain(results, "one", "ns", rng=np.random.default_rng(0), default={"optimiser": "sgd"}).iloc[0]
    assert row["default"] == pytest.approx(0.9)
    assert row["gain"] < 0


def test_without_values_the_default_was_tuned_elsewhere(scored):
    rng = np.random.default_rng(0)
    one, two = rng.random((32, 1)), rng.random((32, 1))
    row = gain(scored({"one": one, "two": two}), "one", "ns", rng=rng).iloc[0]
    assert row["default"] == pytest.approx(float(one[two[:, 0].argmax(), 0]))
    assert row["chosen"] == "best on average over the other tasks"
    assert gain(scored({"one": one}), "one", "ns", rng=rng).empty


def test_an_unknown_word_of_the_default_is_refused(scored):
    up = np.arange(16)[:, None] / 15
    results = scored({"one": up}, beta1=up[:, 0])
    with pytest.raises(UserError, match="unknown hyperparameter of the default 'beta3': choose from beta1"):
        gain(results, "one", "ns", rng=np.random.default_rng(0), default={"beta3": 1})
    with pytest.raises(UserError, match="'beta3': none varies for ns on one"):
        gain(scored({"one": up}), "one", "ns", rng=np.random.default_rng(0), default={"beta3": 1})


# Ranks


def test_ranks_are_scipys(scored):
    rng = np.random.default_rng(0)
    tables = {name: rng.random((40, 1)) for name in ("one", "two", "three")}
    found = ranks(scored(tables), "ns")
    assert list(zip(found["first"], found["second"], strict=True)) == [
        ("one", "two"),
        ("one", "three"),
        ("two", "three"),
    ]
    first = found.iloc[0]
    assert first["spearman"] == pytest.approx(stats.spearmanr(tables["one"][:, 0], tables["two"][:, 0]).statistic)
    assert first["kendall"] == pytest.approx(stats.kendalltau(tables["one"][:, 0], tables["two"][:, 0]).statistic)
    assert first["low"] < first["spearman"] < first["high"]


def test_the_interval_of_bonett_and_wright_by_hand():
    # rho .5, n 28: atanh .5 = .549306; s = sqrt(1.125/25) = .212132, times 1.959964 = .415771: tanh of both ends
    low, high = tunability._bonett_wright(0.5, 28)
    assert low == pytest.approx(np.tanh(0.133535), abs=1e-6)
    assert high == pytest.approx(np.tanh(0.965077), abs=1e-6)


def test_the_interval_of_bonett_and_wright_covers():
    rng = np.random.default_rng(0)
    rho = 0.6
    truth = 6 / np.pi * np.arcsin(rho / 2)  # Spearman's of a bivariate normal
    x, e = rng.normal(size=(2, 1000, 50))
    y = rho * x + np.sqrt(1 - rho**2) * e
    order = [np.argsort(np.argsort(v, axis=1), axis=1) for v in (x, y)]
    found = [np.corrcoef(a, b)[0, 1] for a, b in zip(*order, strict=True)]
    hits = sum(low <= truth <= high for low, high in (tunability._bonett_wright(r, 50) for r in found))
    assert 930 <= hits <= 967  # .95 of 1000: within three deviations of 7


@pytest.mark.parametrize("second", [np.ones((16, 1)), np.full((16, 1), np.nan)])
def test_no_rank_correlation_without_ranks(scored, second):
    found = ranks(scored({"one": np.arange(16)[:, None] / 15, "two": second}), "ns")
    assert found[["spearman", "low", "high", "kendall"]].isna().all(axis=None)


def test_equal_ranks_correlate_wholly(scored):
    up = np.arange(16)[:, None] / 15
    row = ranks(scored({"one": up, "two": up**2}), "ns").iloc[0]
    assert (row["spearman"], row["low"], row["high"], row["kendall"]) == pytest.approx((1, 1, 1, 1))


@pytest.mark.parametrize("ask", [gain, transfer, ranks])
def test_what_a_sampler_chose_by_results_stands_for_no_search(scored, ask):
    results = scored({"one": np.ones((16, 1)), "two": np.ones((16, 1))})
    chosen = Results("tpe", results.plan.assign(sampler="tpe"), results.trials, (), None)
    options = {} if ask is ranks else {"rng": np.random.default_rng(0)}
    with pytest.raises(UserError, match=r"there is no .*: the configurations were chosen by tpe"):
        ask(chosen, *(["one"] if ask is gain else []), "ns", **options)


# The figure


def test_the_figure_has_a_panel_for_each_task_and_their_mean(build):
    results = build(tasks=("one", "two"), points=8, methods=("ns", "ns+gp1"), confirmatory=())
    numbers = tunability_numbers(results, rng=np.random.default_rng(0))
    assert numbers.groupby("method")["task"].apply(list).to_dict() == {
        name: ["one", "two", ALL] for name in ("ns", "ns+gp1")
    }
    figure = style.draw(FIGURES["tunability"], numbers)
    titles = [axis.get_title(loc="left") for axis in figure.axes]
    assert titles[:3] == ["one", "two", ALL]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["ns", "ns+gp1"]


def test_the_figure_is_empty_where_nothing_transfers(build):
    rng = np.random.default_rng(0)
    assert tunability_numbers(build(), rng=rng).empty
    two = build(tasks=("one", "two"), points=8)
    tpe = Results("tpe", two.plan.assign(sampler="tpe"), two.trials, (), None)
    assert tunability_numbers(tpe, rng=rng).empty

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from analysis import unseen


def test_shares_are_those_of_points_and_of_one_more():
    """Of 4 points: each share, and that of what was not seen, is beta(1, 4), so 1/5 with a variance of 4 / 150."""
    drawn = unseen.shares(np.ones(4), rng=np.random.default_rng(0))
    assert drawn.shape == (2000, 5)
    assert drawn.sum(axis=1) == pytest.approx(np.ones(2000))
    assert drawn.mean(axis=0) == pytest.approx(np.full(5, 0.2), abs=5 * (4 / 150 / 2000) ** 0.5)
    assert stats.kstest(drawn[:, -1], stats.beta(1, 4).cdf).pvalue > 1e-6


def test_a_group_has_the_share_of_its_points():
    drawn = unseen.shares([3.0, 0.5, 0.5], rng=np.random.default_rng(0))
    for column, size in ((0, 3), (1, 0.5), (3, 1)):
        assert stats.kstest(drawn[:, column], stats.beta(size, 5 - size).cdf).pvalue > 1e-6


@pytest.mark.parametrize(("points", "draws"), [(10, 2000), (3999, 1000), (20_000, 400)])
def test_more_points_are_drawn_less_often(points, draws):
    assert len(unseen.shares(np.ones(points), rng=np.random.default_rng(0))) == draws


def test_the_estimate_lies_in_its_interval():
    """Of 0 .. 1000 the quantiles .025 and .975 are 25 and 975."""
    draws = np.arange(1001.0)
    assert unseen.ends(500.0, draws, draws + 1) == pytest.approx((25.0, 976.0))
    assert unseen.ends(10.0, draws, draws) == pytest.approx((10.0, 975.0))
    assert unseen.ends(990.0, draws, draws) == pytest.approx((25.0, 990.0))


@pytest.mark.parametrize(("successes", "n"), [(0, 5), (3, 10), (10, 10), (28, 29)])
def test_exact_is_scipys(successes, n):
    found = unseen.exact(np.repeat([1.0, 0.0], [successes, n - successes]))
    other = stats.binomtest(successes, n).proportion_ci(0.95, method="exact")
    assert (found.low, found.high) == pytest.approx((other.low, other.high))
    assert (found.value, found.n, found.method) == (successes / n, n, f"Clopper-Pearson, {n} points")


@pytest.mark.parametrize("share", [0.02, 0.3, 0.9, 0.97])
def test_exact_covers_at_every_truth(share):
    """By summing the chances of the counts whose interval holds the truth: no simulation."""
    n = 23
    found = [unseen.exact(np.repeat([1.0, 0.0], [k, n - k])) for k in range(n + 1)]
    chances = stats.binom(n, share).pmf(np.arange(n + 1))
    assert sum(c for c, one in zip(chances, found, strict=True) if one.low <= share <= one.high) >= 0.95


@given(
    st.lists(st.tuples(st.integers(0, 2), st.floats(0, 1)), min_size=1, max_size=3), st.integers(1, 3), st.floats(0, 1)
)
def test_a_choice_is_the_mean_over_all_draws(rows, size, worth):
    """Every sequence of draws from the configurations, what comes before them and what comes last."""
    chosen_by, score = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    shares = np.random.default_rng(len(rows)).dirichlet(np.ones(len(rows) + 2), size=2)
    first, rest = shares[:, -2:-1], shares[:, :-2]
    found = unseen.choice(chosen_by, score, rest, first, worth, size)
    ranks = np.concatenate([chosen_by, [9.0, -1.0]])
    values = np.concatenate([score, [worth, 0.0]])
    for row, value in zip(shares, found, strict=True):
        total = 0.0
        for draw in itertools.product(range(len(ranks)), repeat=size):
            best = max(ranks[i] for i in draw)
            total += np.prod(row[list(draw)]) * np.mean([values[i] for i in draw if ranks[i] == best])
        assert value == pytest.approx(total, abs=1e-9)


def test_groups_are_fine_at_first_and_then_of_ranks_that_differ_by_two_percent():
    found = unseen.group_of(np.arange(20_000))
    assert (found[: unseen.APART] == np.arange(unseen.APART)).all()
    steps = np.diff(found)
    assert (steps >= 0).all()
    for group in np.unique(found):
        ranks = np.flatnonzero(found == group)
        assert ranks[-1] < 1.02 * ranks[0] or len(ranks) == 1


@pytest.mark.parametrize("ties", [None, 3])
@pytest.mark.parametrize("size", [2, 16])
def test_a_choice_among_groups_is_that_among_all(monkeypatch, ties, size):
    rng = np.random.default_rng(0)
    chosen_by = rng.random(3000) if ties is None else rng.random(3000).round(ties)
    score = np.where(rng.random(3000) < 0.05, 0.0, np.clip(chosen_by + rng.normal(0, 0.1, 3000), 0, 1))
    drawn = unseen.shares(np.ones(3000), rng=rng)
    arguments = (chosen_by, score, drawn[:, :-1], drawn[:, -1:], 1.0, size)
    grouped = unseen.choice(*arguments)
    monkeypatch.setattr(unseen, "APART", 10_000)
    apart = unseen.choice(*arguments)
    assert grouped == pytest.approx(apart, abs=apart.std() / 10)
    assert np.quantile(grouped, [0.025, 0.975]) == pytest.approx(
        np.quantile(apart, [0.025, 0.975]), abs=apart.std() / 20
    )


def test_the_mean_of_many_points_has_the_width_of_a_t_interval():
    values = np.random.default_rng(0).random(900)
    drawn = unseen.shares(np.ones(900), rng=np.random.default_rng(1))
    low, high = unseen.ends(float(values.mean()), drawn[:, :-1] @ values, drawn[:, :-1] @ values + drawn[:, -1])
    usual = 2 * 1.9626 * values.std(ddof=1) / 30
    assert usual < high - low < 1.15 * usual

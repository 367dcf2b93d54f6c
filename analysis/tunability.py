"""What tuning is worth: the gain over a default, and whether what is tuned on one task serves on another.

Everything is on the utility scale, 0 to 1 with a failure at 0, so that no gain is infinite and none is dropped. Tuning
is a search among a stated number of configurations. A configuration is chosen by one half of its seeds and scored by
the other, and then the other way round, since the best of noisy scores is better than it is; with one seed it cannot
be, and every number says so.

The intervals hold whatever the distribution of scores, see `unseen`: what a search finds hangs on few configurations,
and a bootstrap of them ends too early. In simulations .95 or more of them cover. They are wide, above all below: what
was chosen for one half of its seeds may fail with the other, and few of the chosen can show that.

References: Probst, Boulesteix and Bischl 2019 (tunability); Adkins, Bowling and White 2024 (sensitivity across tasks).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import gammaln

from analysis import unseen
from analysis.answers import of_a_prior
from analysis.axes import Axis, axes_of
from analysis.outcomes import FloatArray, IntArray, code
from analysis.profiles import utility
from analysis.results import Results
from study.errors import UserError, unknown

BUDGET = 16
"""Configurations that tuning looks at, where there are eight times as many."""

NORMAL = 1.959964
"""The normal quantile of a two-sided interval of 95 %."""

DIGITS = 12
"""Decimals that count when means are ranked: beyond them, equal means differ by rounding."""

ALL = "all tasks"
"""What stands in the column `task` of a mean over the tasks."""

SPLIT, UNSPLIT = "seeds", "none: one seed, so optimistic"

Way = Callable[[FloatArray], FloatArray]
"""Of what is known of the configurations on each task, what a search goes by there; both (configs, tasks)."""

GAINS = ("task", "method", "size", "best", "default", "gain", "low", "high", "config", "chosen", "split", "n")
TRANSFERS = ("task", "method", "size", "tuned", "transferred", "loss", "low", "high", "split", "n")
RANKS = ("method", "first", "second", "spearman", "low", "high", "kendall", "n")


@dataclass(frozen=True)
class Scores:
    """A method's utilities on configurations that are decided on each of some tasks.

    Attributes:
        configs: The configurations, in alphabetical order.
        halves: The mean over each half of the seeds, shape (2, configs, tasks); twice all of them without a split.
        points: shape (configs,), the design point of each, counted from 0.
        split: True where every configuration has two seeds or more on every task.
    """

    configs: tuple[str, ...]
    halves: FloatArray
    points: IntArray
    split: bool

    @property
    def means(self) -> FloatArray:
        """Over all seeds, up to an odd one's weight; shape (configs, tasks)."""
        return np.asarray(self.halves.mean(axis=0), dtype=np.float64)

    @property
    def size(self) -> int:
        """The search that this many configurations can stand for: an eighth of them, `BUDGET` at most."""
        return min(BUDGET, len(self.configs) // 8)


def scores(results: Results, tasks: tuple[str, ...], method: str) -> Scores:
    """The utilities of a method on the configurations that some tasks share; undecided ones are left out."""
    tables = [_utilities(results, task, method).set_index("config") for task in tasks]
    shared = sorted(set.intersection(*(set(table.index) for table in tables)))
    tables = [table.loc[shared] for table in tables]
    first, second = (
        np.stack([table[half].to_numpy(dtype=np.float64) for table in tables], axis=1) for half in ("first", "second")
    )
    split = bool(shared) and all(bool((table["seeds"] >= 2).all()) for table in tables)
    both = (first + second) / 2
    clusters = tables[0]["cluster"].to_numpy(dtype=object).astype(str)
    return Scores(
        configs=tuple(str(name) for name in shared),
        halves=np.stack([first, second] if split else [both, both]),
        points=np.unique(clusters, return_inverse=True)[1].reshape(-1).astype(np.int64),
        split=split,
    )


def gain(
    results: Results,
    task: str,
    method: str,
    *,
    rng: np.random.Generator,
    default: Mapping[str, float | str] | None = None,
) -> pd.DataFrame:
    """What a search gains over a default: expected best utility of `size` configurations, less the default's.

    Args:
        results: The results.
        task: Name of a task.
        method: Name of a method planned on it.
        rng: Source of the shares that the interval draws.
        default: Word of a hyperparameter to its usual value; the default is the configuration nearest to it, each
            hyperparameter's range taken as 1. Without it, the configuration that is best on average over the *other*
            tasks: what someone would have used who had tuned elsewhere, and whose score here nobody has chosen by.

    Returns:
        One row, columns `GAINS`; none with fewer than 16 decided configurations, or without a default where there is
        no other task. `gain` has an interval of 95 % at least, see `unseen`, which is that of `best`: the default's
        score is the one that it had in this run, a number.

    Raises:
        UserError: If the default names a hyperparameter that does not vary, or configurations were chosen by results.
    """
    of_a_prior(results, "gain by tuning")
    found = scores(results, (task,), method)
    chosen = _default(results, task, method, default)
    if chosen is None or found.size < 2:
        return pd.DataFrame(columns=list(GAINS))
    usual = _utility_of(results, task, method, chosen)
    best = float(_search(found, _tuned)[0])
    low, high = (end - usual for end in _ends_of_best(found, best, rng))
    row = {
        **{"task": task, "method": method, "size": found.size, "best": best, "default": usual},
        **{"gain": best - usual, "low": low, "high": high, "config": chosen},
        "chosen": "nearest to the values given" if default else "best on average over the other tasks",
        **{"split": SPLIT if found.split else UNSPLIT, "n": len(found.configs)},
    }
    return pd.DataFrame([row], columns=list(GAINS))


def transfer(results: Results, method: str, *, rng: np.random.Generator) -> pd.DataFrame:
    """What is lost by tuning once for all tasks instead of for each: Phi and its part on each task.

    `tuned` is the expected utility of the best of `size` configurations on a task, `transferred` that of the one of
    them which is best on average over all tasks, and `loss` is their difference; its mean over tasks is Phi of Adkins,
    Bowling and White 2024, with a search of stated size in place of all configurations.

    Args:
        results: The results.
        method: Name of a method.
        rng: Source of the shares that the intervals draw; beyond `unseen.APART` configurations those of near ranks
            count as equal there, which moves no end by a thousandth.

    Returns:
        A row per task that the method is planned on and one for `ALL`, columns `TRANSFERS`; none with fewer than two
        tasks or 16 configurations that are decided on all of them.

    Raises:
        UserError: Configurations were chosen by results, so that they cannot stand for a search of another size.
    """
    of_a_prior(results, "tunability")
    tasks = tuple(task for task in results.tasks if method in results.methods_of(task))
    found = scores(results, tasks, method) if len(tasks) > 1 else None
    if found is None or found.size < 2:
        return pd.DataFrame(columns=list(TRANSFERS))
    tuned, transferred = (_with_mean(_search(found, way)) for way in (_tuned, _transferred))
    loss = tuned - transferred
    ends = _ends_of_loss(found, loss, rng)
    return pd.DataFrame(
        {
            "task": [*tasks, ALL],
            "method": method,
            "size": found.size,
            "tuned": tuned,
            "transferred": transferred,
            "loss": loss,
            "low": [low for low, _ in ends],
            "high": [high for _, high in ends],
            "split": SPLIT if found.split else UNSPLIT,
            "n": len(found.configs),
        }
    )


def ranks(results: Results, method: str) -> pd.DataFrame:
    """Whether configurations rank alike on two tasks: Spearman's and Kendall's correlation of their utilities.

    Returns:
        A row per pair of tasks, columns `RANKS`; Spearman's with the 95 % interval of Bonett and Wright 2000. NaN with
        fewer than four shared configurations or where all of them score the same.

    Raises:
        UserError: Configurations were chosen by results.
    """
    from scipy import stats  # slow to import, and only this needs it

    of_a_prior(results, "correlation of ranks")
    tasks = [task for task in results.tasks if method in results.methods_of(task)]
    rows = []
    for first, second in itertools.combinations(tasks, 2):
        means = scores(results, (first, second), method).means
        n, usable = len(means), len(means) >= 4 and bool((np.ptp(means, axis=0) > 0).all())
        rho = float(stats.spearmanr(means[:, 0], means[:, 1]).statistic) if usable else math.nan
        tau = float(stats.kendalltau(means[:, 0], means[:, 1]).statistic) if usable else math.nan
        rows.append((method, first, second, rho, *_bonett_wright(rho, n), tau, n))
    return pd.DataFrame(rows, columns=list(RANKS))


def _bonett_wright(rho: float, n: int) -> tuple[float, float]:
    if not math.isfinite(rho):
        return math.nan, math.nan
    if abs(rho) >= 1:
        return rho, rho
    half = NORMAL * math.sqrt((1 + rho * rho / 2) / (n - 3))
    return math.tanh(math.atanh(rho) - half), math.tanh(math.atanh(rho) + half)


def _utilities(results: Results, task: str, method: str) -> pd.DataFrame:
    """A row per decided configuration: its point, its number of seeds, and the mean utility of each half of them."""
    facts, outcomes = results.facts(task), results.outcomes(task)
    mine = outcomes[outcomes["method"] == method].sort_values(["config", "seed", "trial_id"])
    values = code(mine["status"].to_numpy(dtype=object), mine["primary"].to_numpy(dtype=np.float64))
    mine = mine.assign(score=utility(values, low=facts.anchor_low, high=facts.anchor_high))[~np.isnan(values)]
    place = mine.groupby("config").cumcount()
    halves = [mine[place % 2 == side].groupby("config")["score"].mean() for side in (0, 1)]
    group = mine.groupby("config")
    cluster = group["replicate"].first().astype(str) + "/" + group["point"].first().astype(str)
    first = halves[0].reindex(cluster.index)
    second = halves[1].reindex(cluster.index).fillna(first)
    table = pd.DataFrame({"cluster": cluster, "seeds": group.size(), "first": first, "second": second})
    return table.rename_axis("config").reset_index()


def _roles(found: Scores) -> tuple[tuple[FloatArray, FloatArray], ...]:
    """What is chosen by and what it is worth, shape (configs, tasks) each: each half of the seeds by the other."""
    first, second = found.halves
    return ((first, second), (second, first)) if found.split else ((first, first),)


def _search(found: Scores, way: Way) -> FloatArray:
    """The expected score of a search on each task, shape (tasks,): the U-statistic, without replacement."""
    whole = np.ones((1, len(found.configs)), dtype=np.int64)
    sides = [
        [float(expected_choice(column, worth[:, task], whole, found.size)[0]) for task, column in enumerate(way(by).T)]
        for by, worth in _roles(found)
    ]
    return np.asarray(np.mean(sides, axis=0), dtype=np.float64)


def _tuned(chosen_by: FloatArray) -> FloatArray:
    """What a search for each task goes by there, shape (configs, tasks)."""
    return chosen_by


def _transferred(chosen_by: FloatArray) -> FloatArray:
    """What one search for all tasks goes by on each, shape (configs, tasks): the mean over all."""
    average = chosen_by.mean(axis=1, keepdims=True).round(DIGITS)
    return np.asarray(np.broadcast_to(average, chosen_by.shape), dtype=np.float64)


def _with_mean(numbers: FloatArray) -> FloatArray:
    """Numbers of tasks, the last axis, and their mean."""
    return np.concatenate([numbers, numbers.mean(axis=-1, keepdims=True)], axis=-1)


def _ends_of_best(found: Scores, best: float, rng: np.random.Generator) -> tuple[float, float]:
    """Both ends of the interval of the expected best on one task.

    At the upper end what was not seen is chosen first and is worth 1. At the lower it is never chosen; of split seeds
    half of it is chosen first and is worth 0: a configuration that shines in one half of its seeds and fails in the
    other is the best by the one half, but cannot also be by the other.
    """
    drawn = _shares(found, rng)
    part = drawn[:, -1:]
    failing = part / 2 if found.split else 0 * part
    lowest, highest = (_drawn(found, _tuned, drawn, first, worth)[0] for first, worth in ((failing, 0.0), (part, 1.0)))
    return unseen.ends(best, lowest, highest)


def _ends_of_loss(found: Scores, loss: FloatArray, rng: np.random.Generator) -> list[tuple[float, float]]:
    """Both ends of the interval of what is lost on each task, and of the mean over tasks.

    At the upper end what was not seen is the best of each task and never the best of all. At the lower it is both, and
    nothing is lost; of split seeds half of it is what only the search for all tasks chooses, by luck of the seeds.
    """
    drawn = _shares(found, rng)
    part, never = drawn[:, -1:], np.zeros((len(drawn), 1))
    alone = (never, part / 2) if found.split else (part, part)
    lowest, highest = (
        _with_mean((_drawn(found, _tuned, drawn, one, 1.0) - _drawn(found, _transferred, drawn, other, 1.0)).T).T
        for one, other in (alone, (part, never))
    )
    return [unseen.ends(*row) for row in zip(loss.tolist(), lowest, highest, strict=True)]


def _shares(found: Scores, rng: np.random.Generator) -> FloatArray:
    """Random shares of the prior, shape (draws, configs + 1), those of a point's configurations alike.

    It is the transpose of a contiguous array, as `unseen.choice` likes it.
    """
    held = np.bincount(found.points)
    drawn = unseen.shares(np.ones(len(held)), rng=rng)
    drawn[:, -1] *= held.mean()
    spread = np.ascontiguousarray(drawn.T[np.append(found.points, len(held))])
    spread /= spread.sum(axis=0)
    return np.asarray(spread.T, dtype=np.float64)


def _drawn(found: Scores, way: Way, drawn: FloatArray, first: FloatArray, worth: float) -> FloatArray:
    """What a search finds where a part of the prior is chosen first and is worth so much, shape (tasks, draws)."""
    sides = [
        [unseen.choice(column, score[:, task], drawn[:, :-1], first, worth, found.size) for task, column in columns]
        for by, score in _roles(found)
        for columns in [list(enumerate(way(by).T))]
    ]
    return np.asarray(np.mean(sides, axis=0), dtype=np.float64)


def expected_choice(chosen_by: FloatArray, score: FloatArray, weights: IntArray, size: int) -> FloatArray:
    """The expected score of the one of `size` configurations, drawn without replacement, that is chosen as the best.

    Args:
        chosen_by: shape (configs,), the highest is chosen; among equal ones each is as likely.
        score: shape (configs,), what it is worth.
        weights: shape (weightings, configs), how often each configuration is there.
        size: Configurations drawn; no more than there are in any weighting.

    Returns:
        shape (weightings,). With `score` equal to `chosen_by` this is the U-statistic of the expected best.
    """
    order = np.argsort(-chosen_by, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(chosen_by[order]) != 0])
    there = weights[:, order]
    counts = np.add.reduceat(there, starts, axis=1)
    totals = np.add.reduceat(there * score[order], starts, axis=1)
    total = counts.sum(axis=1)
    table = _log_choose(int(total.max()), size)
    left = total[:, None] - np.concatenate([np.zeros_like(counts[:, :1]), np.cumsum(counts, axis=1)], axis=1)
    none_better = np.exp(table[left] - table[total][:, None])
    likely = none_better[:, :-1] - none_better[:, 1:]
    return np.asarray(np.sum(likely * totals / np.maximum(counts, 1), axis=1), dtype=np.float64)


def _log_choose(most: int, size: int) -> FloatArray:
    """Logarithms of how many ways there are to draw `size` of 0, 1, ..., `most`; shape (most + 1,)."""
    n = np.arange(most + 1, dtype=np.float64)
    ways = gammaln(n + 1) - gammaln(size + 1) - gammaln(np.maximum(n - size, 0) + 1)
    return np.where(n >= size, ways, -np.inf)


def _default(results: Results, task: str, method: str, given: Mapping[str, float | str] | None) -> str | None:
    """The default configuration, decided on the task; None where there is none."""
    if given:
        return _nearest(results, task, method, given)
    others = tuple(t for t in results.tasks if t != task and method in results.methods_of(t))
    if not others:
        return None
    elsewhere = scores(results, others, method)
    here = set(scores(results, (task,), method).configs)
    average = elsewhere.means.mean(axis=1).round(DIGITS)
    ranked = [elsewhere.configs[i] for i in np.argsort(-average, kind="stable") if elsewhere.configs[i] in here]
    return ranked[0] if ranked else None


def _nearest(results: Results, task: str, method: str, given: Mapping[str, float | str]) -> str | None:
    axes = {axis.word: axis for axis in axes_of(results, task, method)}
    for word in given:
        if word not in axes:
            raise (
                unknown("hyperparameter of the default", word, axes)
                if axes
                else UserError(f"unknown hyperparameter of the default {word!r}: none varies for {method} on {task}")
            )
    here = set(scores(results, (task,), method).configs)
    planned = results.plan[(results.plan["task"] == task) & (results.plan["method"] == method)]
    rows = planned[planned["config"].isin(here)].drop_duplicates("config").sort_values("config")
    if rows.empty:
        return None
    distance = sum(_distance(axes[word], axes[word].of(rows), value) for word, value in given.items())
    return str(rows["config"].iloc[int(np.argmin(distance))])


def _distance(axis: Axis, column: pd.Series, value: float | str) -> FloatArray:
    """Squared distance of each configuration from a value along one axis, whose range is 1; 1 if not the level."""
    wanted = axis.scaled(pd.Series([value]))[0]
    gap = axis.scaled(column) - wanted
    apart = (gap != 0).astype(np.float64) if axis.levels else (gap / (axis.span() or 1.0)) ** 2
    return np.asarray(np.where(np.isnan(gap), 1.0, apart), dtype=np.float64)


def _utility_of(results: Results, task: str, method: str, config: str) -> float:
    table = _utilities(results, task, method)
    return float(table.loc[table["config"] == config, ["first", "second"]].to_numpy(dtype=np.float64).mean())

"""Two methods on the same configurations and seeds: the pairs, and what can be counted on them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from analysis.outcomes import FloatArray, IntArray, Points, Sample, code
from study.schema import Status

KEY = ["config", "seed"]
"""What two trials share when they are a pair."""


@dataclass(frozen=True)
class Pairs:
    """The planned pairs of two methods.

    Attributes:
        first: Outcomes of the first method, an entry per pair.
        second: Outcomes of the second method, in the same order.
        unpaired: Planned trials of either method without a partner in the plan.
        missing: Planned trials of either method, paired or not, without a row.
        stopped: Trials of either method, paired or not, that a pruner stopped.
    """

    first: Sample
    second: Sample
    unpaired: int
    missing: int
    stopped: int

    def decided(self) -> Pairs:
        """The pairs with both outcomes known; the counts stay."""
        known = ~(np.isnan(self.first.values) | np.isnan(self.second.values))
        if known.all():
            return self
        first, second = (
            Sample(arm.values[known], arm.replicates[known], arm.points[known]) for arm in (self.first, self.second)
        )
        return Pairs(first, second, self.unpaired, self.missing, self.stopped)

    @cached_property
    def clusters(self) -> tuple[IntArray, IntArray]:
        """The index of each pair's point, shape (pairs,), and each point's replicate, shape (points,); found once."""
        points, replicates = self.first.points, self.first.replicates
        span = int(np.ptp(points)) + 1 if len(points) else 1
        _, place, index = np.unique(replicates * span + points, return_index=True, return_inverse=True)
        return index.astype(np.int64), replicates[place]

    def means(self, values: npt.ArrayLike) -> Points:
        """The mean of a number per pair, shape (pairs,), over the pairs of each point."""
        index, replicates = self.clusters
        sizes = np.bincount(index, minlength=len(replicates))
        totals = np.bincount(index, weights=np.asarray(values, dtype=np.float64), minlength=len(replicates))
        return Points(totals / sizes, replicates)


@dataclass(frozen=True)
class Record:
    """How the pairs ended, from the first method's side; the lower primary metric wins."""

    win: int
    both_failed: int
    tie: int
    loss: int


@dataclass(frozen=True)
class FourWay:
    """In how many pairs something holds for both methods, for one of them only, and for neither."""

    both: int
    only_first: int
    only_second: int
    neither: int


@dataclass(frozen=True)
class Arms:
    """Every method of a task side by side, aligned once: a row per configuration and seed, a column per method.

    Attributes:
        methods: Names, a column each, in plan order.
        planned: shape (rows, methods), where a trial is planned.
        values: shape (rows, methods), coded outcomes; NaN where undecided or not planned.
        points: shape (rows, methods), index of the trial's point in `replicates`; 0 where not planned.
        replicates: shape (points,), the replicate of each point.
        missing: shape (methods,), planned trials without a row.
        stopped: shape (methods,), trials that a pruner stopped.
        repeated: Methods that plan a configuration and seed more than once: they cannot be paired.
    """

    methods: tuple[str, ...]
    planned: npt.NDArray[np.bool_]
    values: FloatArray
    points: IntArray
    replicates: IntArray
    missing: IntArray
    stopped: IntArray
    repeated: frozenset[str]

    def share(self, first: str, second: str) -> bool:
        """Whether two methods have a configuration and seed in common."""
        return bool((self.planned[:, self._column(first)] & self.planned[:, self._column(second)]).any())

    def pairs(self, first: str, second: str) -> Pairs:
        """The planned pairs of two methods, none where they share no configuration and seed.

        Raises:
            ValueError: A method is not planned, or plans a configuration and seed twice.
        """
        a, b = self._column(first), self._column(second)
        rows = self.planned[:, a] & self.planned[:, b]
        points = self.points[rows, a]  # both sides take the first one's, so that they agree on what is independent
        sides = [Sample(self.values[rows, column], self.replicates[points], points) for column in (a, b)]
        return Pairs(
            sides[0],
            sides[1],
            unpaired=int(self.planned[:, [a, b]].sum()) - 2 * int(rows.sum()),
            missing=int(self.missing[a] + self.missing[b]),
            stopped=int(self.stopped[a] + self.stopped[b]),
        )

    def _column(self, method: str) -> int:
        if method not in self.methods:
            raise ValueError(f"method {method!r} is not planned here; planned: {list(self.methods)}")
        if method in self.repeated:
            raise ValueError(f"method {method!r} plans a configuration and seed more than once")
        return self.methods.index(method)


def align(outcomes: pd.DataFrame) -> Arms:
    """Every method of a task, side by side.

    Args:
        outcomes: `Results.outcomes` of the task.
    """
    methods = tuple(str(name) for name in outcomes["method"].unique())
    column = outcomes["method"].map({name: i for i, name in enumerate(methods)}).to_numpy(dtype=np.int64)
    row = outcomes.groupby(KEY, sort=True, dropna=False).ngroup().to_numpy(dtype=np.int64)
    places = outcomes.groupby(["replicate", "point"], sort=True)
    size = (int(row.max(initial=-1)) + 1, len(methods))
    planned, values, points = np.zeros(size, dtype=np.bool_), np.full(size, np.nan), np.zeros(size, dtype=np.int64)
    planned[row, column] = True
    values[row, column] = code(outcomes["status"].to_numpy(dtype=object), outcomes["primary"].to_numpy(dtype=float))
    points[row, column] = places.ngroup().to_numpy(dtype=np.int64)
    counts = np.bincount(row * len(methods) + column, minlength=planned.size).reshape(size)
    status = outcomes["status"]
    return Arms(
        methods=methods,
        planned=planned,
        values=values,
        points=points,
        replicates=places["replicate"].first().to_numpy(dtype=np.int64),
        missing=np.bincount(column[status.isna()], minlength=len(methods)),
        stopped=np.bincount(column[(status == Status.STOPPED.value).to_numpy()], minlength=len(methods)),
        repeated=frozenset(name for name, most in zip(methods, counts.max(axis=0, initial=0), strict=True) if most > 1),
    )


def pair(outcomes: pd.DataFrame, first: str, second: str) -> Pairs:
    """Join two methods on configuration and seed.

    Args:
        outcomes: `Results.outcomes` of a task.
        first: Name of a method.
        second: Name of another.

    Raises:
        ValueError: A method is not planned, plans a configuration and seed twice, or the methods share none.
    """
    found = align(outcomes).pairs(first, second)
    if not len(found.first.values):
        raise ValueError(f"{first!r} and {second!r} share no configuration and seed: they cannot be compared in pairs")
    return found


def record(first: npt.ArrayLike, second: npt.ArrayLike) -> Record:
    """Wins, ties and losses of paired outcomes, shape (pairs,) each; both failed is counted apart from a tie."""
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    failed = np.isinf(a) & np.isinf(b)
    return Record(
        win=int(np.sum(a < b)),
        both_failed=int(failed.sum()),
        tie=int(np.sum((a == b) & ~failed)),
        loss=int(np.sum(a > b)),
    )


def four_way(first: npt.ArrayLike, second: npt.ArrayLike, tau: float = np.inf) -> FourWay:
    """Pairs in which both, one or none of the outcomes is finite and at or below a threshold.

    Args:
        first: shape (pairs,), coded outcomes.
        second: shape (pairs,), those of the other method.
        tau: The threshold; the default asks who did not fail.
    """
    a, b = ((np.asarray(side) <= tau) & np.isfinite(side) for side in (first, second))
    return FourWay(int(np.sum(a & b)), int(np.sum(a & ~b)), int(np.sum(b & ~a)), int(np.sum(~a & ~b)))


def improvement(first: npt.ArrayLike, second: npt.ArrayLike) -> FloatArray:
    """1 where the first of a pair is lower, 0 where the second is, 1/2 where they tie or both failed.

    Its mean is the paired probability of improvement. Reference: Bouthillier et al. 2021.
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    return np.where(a == b, 0.5, (a < b).astype(np.float64))


def population_improvement(pairs: Pairs) -> Points:
    """What each point adds to the unpaired probability of improvement, shape (points,); its mean is that probability.

    P(Y_first < Y_second) + P(Y_first = Y_second) / 2 for configurations that are drawn apart, not shared: another
    quantity than the paired one. A point counts by where its outcomes lie among all outcomes of the other method; the
    sum of both places less the mean is the projection of the two-sample U-statistic, so that an interval of its mean
    knows of the pairing. References: Mann and Whitney 1947; Hoeffding 1948 for the projection.
    """
    index, replicates = pairs.clusters
    if not len(replicates):
        return Points(np.empty(0), replicates)
    weights = 1.0 / (np.bincount(index)[index] * len(replicates))
    above = pairs.means(_share_above(pairs.first.values, pairs.second.values, weights)).values
    below = pairs.means(1.0 - _share_above(pairs.second.values, pairs.first.values, weights)).values
    return Points(above + below - above.mean(), replicates)


def discordance(first: npt.ArrayLike, second: npt.ArrayLike, threshold: float) -> tuple[int, int]:
    """Pairs in which only the first, and in which only the second, ends at or below the threshold."""
    found = four_way(first, second, threshold)
    return found.only_first, found.only_second


def mcnemar(only_first: int, only_second: int) -> float:
    """Exact two-sided p of McNemar's test; 1 without discordant pairs. Reference: McNemar 1947."""
    discordant = only_first + only_second
    return float(stats.binomtest(only_first, discordant).pvalue) if discordant else 1.0


def holm(p_values: npt.ArrayLike) -> FloatArray:
    """Holm's adjusted p-values, in the order given. Reference: Holm 1979."""
    given = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(given, kind="stable")
    stepped = np.maximum.accumulate(given[order] * np.arange(len(given), 0, -1))
    adjusted = np.empty_like(given)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


def benjamini_hochberg(p_values: npt.ArrayLike) -> FloatArray:
    """Adjusted p-values, in the order given, that hold the share of false discoveries.

    Reference: Benjamini and Hochberg 1995.
    """
    given = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(-given, kind="stable")
    stepped = np.minimum.accumulate(given[order] * len(given) / np.arange(len(given), 0, -1))
    adjusted = np.empty_like(given)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


def _share_above(these: FloatArray, others: FloatArray, weights: FloatArray) -> FloatArray:
    """The weight of the others above each of these, ties counting half; shape of these."""
    values, index = np.unique(others, return_inverse=True)
    mass = np.bincount(index, weights=weights)
    below = np.concatenate([[0.0], np.cumsum(mass)])
    middle = (below[np.searchsorted(values, these, "left")] + below[np.searchsorted(values, these, "right")]) / 2
    return np.asarray(1.0 - middle, dtype=np.float64)

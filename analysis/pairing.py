"""Two methods on the same configurations and seeds: the pairs, and what can be counted on them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from analysis.outcomes import FloatArray, Sample, code
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
        first, second = (
            Sample(arm.values[known], arm.replicates[known], arm.points[known]) for arm in (self.first, self.second)
        )
        return Pairs(first, second, self.unpaired, self.missing, self.stopped)


@dataclass(frozen=True)
class Record:
    """How the pairs ended, from the first method's side; the lower primary metric wins."""

    win: int
    both_failed: int
    tie: int
    loss: int


def pair(outcomes: pd.DataFrame, first: str, second: str) -> Pairs:
    """Join two methods on configuration and seed.

    Args:
        outcomes: `Results.outcomes` of a task.
        first: Name of a method.
        second: Name of another.

    Raises:
        ValueError: A method is not planned, plans a configuration and seed twice, or the methods share none.
    """
    arms = [_arm(outcomes, name) for name in (first, second)]
    joined = arms[0].merge(arms[1], on=KEY, suffixes=("_first", "_second")).sort_values(KEY, ignore_index=True)
    if joined.empty:
        raise ValueError(f"{first!r} and {second!r} share no configuration and seed: they cannot be compared in pairs")
    both = pd.concat(arms)
    return Pairs(
        _side(joined, "first"),
        _side(joined, "second"),
        unpaired=len(both) - 2 * len(joined),
        missing=int(both["status"].isna().sum()),
        stopped=int((both["status"] == Status.STOPPED.value).sum()),
    )


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


def improvement(first: npt.ArrayLike, second: npt.ArrayLike) -> FloatArray:
    """1 where the first of a pair is lower, 0 where the second is, 1/2 where they tie or both failed."""
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    return np.where(a == b, 0.5, (a < b).astype(np.float64))


def discordance(first: npt.ArrayLike, second: npt.ArrayLike, threshold: float) -> tuple[int, int]:
    """Pairs in which only the first, and in which only the second, ends at or below the threshold."""
    a, b = np.asarray(first) <= threshold, np.asarray(second) <= threshold
    return int(np.sum(a & ~b)), int(np.sum(b & ~a))


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


def _arm(outcomes: pd.DataFrame, method: str) -> pd.DataFrame:
    rows = outcomes.loc[outcomes["method"] == method, [*KEY, "replicate", "point", "status", "primary"]]
    if rows.empty:
        raise ValueError(f"method {method!r} is not planned here; planned: {list(outcomes['method'].unique())}")
    if rows.duplicated(KEY).any():
        raise ValueError(f"method {method!r} plans a configuration and seed more than once")
    return rows


def _side(joined: pd.DataFrame, side: str) -> Sample:
    """One method's outcomes; both sides take the first one's points, so that they agree on what is independent."""
    return Sample(
        code(joined[f"status_{side}"].to_numpy(dtype=object), joined[f"primary_{side}"].to_numpy(dtype=np.float64)),
        joined["replicate_first"].to_numpy(dtype=np.int64),
        joined["point_first"].to_numpy(dtype=np.int64),
    )

"""Where one method is ahead of another: the difference of their robustness profiles at every threshold at once.

`D(tau) = R_first(tau) - R_second(tau)` over the same configurations, with a band that holds at all thresholds together:
wherever its lower edge is above 0, the first method has more of the prior at or below that threshold. Where each
is shown to be ahead somewhere, the profiles cross: which method survives more depends on how good is good enough.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analysis import intervals
from analysis.intervals import LEVEL, TINY
from analysis.outcomes import FloatArray, IntArray
from analysis.pairing import Pairs
from analysis.profiles import RESAMPLES

GRID = 512
"""Most thresholds at which profiles are compared: quantiles of all finite outcomes."""

CELLS = 2_000_000
"""Numbers held at once while resampling."""

DOMINATES, CROSSES, UNDECIDED = "dominates", "crosses", "undecided"
AHEAD = "ahead in part"


@dataclass(frozen=True)
class ProfileDifference:
    """The difference of two robustness profiles with a simultaneous band; arrays have shape (thresholds,).

    Attributes:
        thresholds: Ascending; the last is +inf, where the difference is that of the shares that did not fail.
        value: D at and right of each threshold, until the next one, -1 to 1.
        half_width: Half-width of the band, the same at every threshold.
        band: Name of the band.
        n: Design points.
    """

    thresholds: FloatArray
    value: FloatArray
    half_width: float
    band: str
    n: int

    @property
    def low(self) -> FloatArray:
        """Lower edge of the band."""
        return np.maximum(self.value - self.half_width, -1.0)

    @property
    def high(self) -> FloatArray:
        """Upper edge of the band."""
        return np.minimum(self.value + self.half_width, 1.0)


@dataclass(frozen=True)
class Dominance:
    """What a band of the difference of two profiles shows.

    Attributes:
        kind: "dominates" where one method is shown to be ahead, or level, at every threshold between the anchors and
            ahead at some; "crosses" where each is shown to be ahead somewhere; "ahead in part" where one is, and the
            other nowhere; else "undecided".
        leader: The one method that is shown to be ahead somewhere, 0 for the first and 1 for the second; None for
            "crosses" and "undecided".
        first: Ranges of thresholds [from, to) at which the first is shown to be ahead; to may be +inf.
        second: Those of the second.
    """

    kind: str
    leader: int | None
    first: tuple[tuple[float, float], ...]
    second: tuple[tuple[float, float], ...]


def profile_difference(pairs: Pairs, *, rng: np.random.Generator) -> ProfileDifference:
    """The difference of the profiles of two methods on their decided pairs, with its bootstrap-sup band over points.

    Points are resampled, each with all its trials. The band's half-width is the 95 % quantile of the largest deviation
    of a resampled difference from the difference. Where resampling sees no variance, it is the sum of two half-widths
    of Dvoretzky, Kiefer and Wolfowitz, at half the error each. Under a Sobol design it is wider than need be.

    Args:
        pairs: The pairs of two methods, undecided ones are left out.
        rng: Source of the resampling.
    """
    known = pairs.decided()
    index, replicates = known.clusters
    n = len(replicates)
    if n == 0:
        return ProfileDifference(np.array([np.inf]), np.array([np.nan]), np.nan, "no trials", 0)
    thresholds = grid(np.concatenate([known.first.values, known.second.values]))
    cells = [np.searchsorted(thresholds, arm.values, side="left") for arm in (known.first, known.second)]
    shares = 1.0 / np.bincount(index)[index]
    size = len(thresholds) + 1  # the last cell holds the failures, which are at or below no threshold
    value = np.cumsum(_counted(cells[0], shares, size) - _counted(cells[1], shares, size))[:-1] / n
    half = float(np.quantile(_deviations(cells, index, shares, value, rng=rng), LEVEL, method="inverted_cdf"))
    band = f"bootstrap over {intervals.counted(n)}"
    if half <= TINY:
        half, band = 2 * intervals.dkw(n, level=(1 + LEVEL) / 2), f"DKW, {intervals.counted(n)}"
    at_infinity = value[-1:] if len(value) else np.zeros(1)
    return ProfileDifference(np.append(thresholds, np.inf), np.append(value, at_infinity), half, band, n)


def dominance(difference: ProfileDifference, *, low: float, high: float) -> Dominance:
    """What the band shows.

    No band of finite width can lie above 0 where no outcome is that good yet, so "everywhere" is between the anchors of
    the log-AUC. Two equal methods are said to differ anywhere at all in about 5 % of sweeps.

    Args:
        difference: The difference with its band.
        low: The anchor that scores 1.
        high: The anchor that scores 0.
    """
    first = _stretches(difference.thresholds, difference.low > TINY)
    second = _stretches(difference.thresholds, difference.high < -TINY)
    leader = None if bool(first) == bool(second) else 0 if first else 1
    if leader is None:
        return Dominance(CROSSES if first else UNDECIDED, None, first, second)
    lead = difference.value if leader == 0 else -difference.value
    last = np.searchsorted(difference.thresholds, [low, high], side="right") - 1  # a step holds until the next one
    between = np.concatenate([[0.0], lead])[last[0] + 1 : last[1] + 2] - difference.half_width
    everywhere = bool((between >= -TINY).all() and (between > TINY).any())
    return Dominance(DOMINATES if everywhere else AHEAD, leader, first, second)


def grid(values: FloatArray) -> FloatArray:
    """At most `GRID` of the finite values, evenly by rank, both ends among them; shape (thresholds,), ascending."""
    finite = np.unique(values[np.isfinite(values)])
    if len(finite) <= GRID:
        return finite
    return np.asarray(finite[np.linspace(0, len(finite) - 1, GRID).astype(np.int64)], dtype=np.float64)


def _deviations(
    cells: list[IntArray], index: IntArray, shares: FloatArray, value: FloatArray, *, rng: np.random.Generator
) -> FloatArray:
    """The largest deviation of each resampled difference, shape (resamples,), in chunks of bounded memory.

    A resample is counted into the cells between thresholds, not multiplied out: a finer grid costs next to nothing.
    """
    n, size = int(index.max()) + 1, len(value) + 1
    order = np.argsort(index, kind="stable")
    sides, places, weights = [side[order] for side in cells], index[order], shares[order]
    step = max(1, CELLS // max(len(index), size))
    found = []
    for start in range(0, RESAMPLES, step):
        rows = min(step, RESAMPLES - start)
        drawn = rng.integers(0, n, size=(rows, n), dtype=np.int64)
        offsets = np.arange(rows)[:, None]
        if len(index) == n:  # one pair per point: no weights to carry
            totals = [_counted(side[drawn] + offsets * size, None, rows * size) for side in sides]
        else:
            times = np.bincount((drawn + offsets * n).ravel(), minlength=rows * n).reshape(rows, n)
            carried = times[:, places] * weights
            totals = [_counted(side + offsets * size, carried, rows * size) for side in sides]
        resampled = np.cumsum((totals[0] - totals[1]).reshape(rows, size), axis=1)[:, :-1] / n
        found.append(np.abs(resampled - value).max(axis=1, initial=0.0))
    return np.concatenate(found)


def _counted(cells: IntArray, weights: FloatArray | None, size: int) -> FloatArray:
    """The weight, or number, in each cell, shape (size,)."""
    counts = np.bincount(cells.ravel(), weights=None if weights is None else weights.ravel(), minlength=size)
    return counts.astype(np.float64)


def _stretches(
    thresholds: FloatArray, holds: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]
) -> tuple[tuple[float, float], ...]:
    """The ranges [from, to) in which something holds, by neighbouring thresholds."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], holds, [False]]).astype(np.int8)))
    ends = np.append(thresholds, np.inf)
    return tuple((float(ends[a]), float(ends[b])) for a, b in edges.reshape(-1, 2))

"""How outcomes become numbers: a failure is +inf and stays in the denominator, an undecided trial is NaN.

The unit of independence is the design point: a point's trials (its seeds, and the structures that it is crossed with)
are averaged before anything else happens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from study.schema import Status

if TYPE_CHECKING:
    import pandas as pd

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

FAILURES = (Status.DIVERGED.value, Status.OOM.value)
"""Endings that are outcomes and rank worst."""


@dataclass(frozen=True)
class Points:
    """One number per design point.

    Attributes:
        values: shape (points,), the mean over the trials of each point.
        replicates: shape (points,), the independent scrambling that each point belongs to.
    """

    values: FloatArray
    replicates: IntArray


@dataclass(frozen=True)
class Sample:
    """Coded outcomes of one method on one task, an entry per planned trial.

    Attributes:
        values: shape (trials,), the primary metric; +inf for a failure, NaN for an undecided trial.
        replicates: shape (trials,), the independent scrambling of the trial's point.
        points: shape (trials,), the trial's point; counted within or across replicates, both work.
    """

    values: FloatArray
    replicates: IntArray
    points: IntArray

    def known(self) -> npt.NDArray[np.bool_]:
        """Which outcomes are known, shape (trials,)."""
        return ~np.isnan(self.values)

    def decided(self) -> Sample:
        """The trials whose outcome is known."""
        known = self.known()
        return Sample(self.values[known], self.replicates[known], self.points[known])

    def clusters(self) -> tuple[IntArray, IntArray]:
        """The index of each trial's point, shape (trials,), and each point's replicate, shape (points,)."""
        if len(self.points) == 0:
            return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
        first = int(self.points.min())
        span = int(self.points.max()) - first + 1
        keys, index = np.unique(self.replicates * span + (self.points - first), return_inverse=True)
        return index.reshape(-1).astype(np.int64), (keys // span).astype(np.int64)


def code(status: npt.ArrayLike, primary: npt.ArrayLike) -> FloatArray:
    """The number that stands for each outcome.

    Args:
        status: shape (trials,), how each trial ended; a missing value for a trial without a row.
        primary: shape (trials,), the primary metric, null unless completed.

    Returns:
        shape (trials,): the metric if completed, +inf if failed, NaN if stopped or missing.
    """
    endings = np.asarray(status, dtype=object)
    coded = np.where(endings == Status.COMPLETED.value, np.asarray(primary, dtype=np.float64), np.nan)
    return np.where(np.isin(endings.astype(str), FAILURES), np.inf, coded)


def sample(rows: pd.DataFrame) -> Sample:
    """The coded outcomes of some rows of `Results.outcomes`."""
    return Sample(
        code(rows["status"].to_numpy(dtype=object), rows["primary"].to_numpy(dtype=np.float64)),
        rows["replicate"].to_numpy(dtype=np.int64),
        rows["point"].to_numpy(dtype=np.int64),
    )


def point_means(values: npt.ArrayLike, trials: Sample) -> Points:
    """The mean of a number over the trials of each point.

    Args:
        values: shape (trials,), a number per trial of `trials`; none may be NaN.
        trials: The sample that says which trial belongs to which point.
    """
    index, replicates = trials.clusters()
    numbers = np.asarray(values, dtype=np.float64)
    order = np.lexsort((numbers, index))  # the order of rows must not matter, not to the last digit
    totals = np.bincount(index[order], weights=numbers[order], minlength=len(replicates))
    return Points(totals / np.bincount(index, minlength=len(replicates)), replicates)


def trial_weights(trials: Sample) -> FloatArray:
    """The share of each trial in a mean over points, shape (trials,), summing to 1."""
    index, replicates = trials.clusters()
    return 1.0 / (np.bincount(index)[index] * len(replicates))

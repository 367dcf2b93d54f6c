"""Almost stochastic order: how much of the distance between two methods' scores goes the other way.

The first method's scores are stochastically larger where each of their quantiles is at least that of the second's. The
violation ratio is the part of the squared Wasserstein distance that comes from quantiles where they are not: 0 where
the first is ahead at every quantile, 1 where the second is, 1/2 where neither is. A failure scores 0, the worst.

Its interval joins the percentiles of a bootstrap over points with the published normal bound, value + z times the
bootstrap's standard deviation. That bound alone is below 1/2 or above it in 19 to 27 of 100 sweeps of two equal
methods, both ends counted; the joined interval in 3 to 10, at 32 to 256 points. What it says of other values than 1/2
is rougher: of a ratio that is 0 or 1 in truth the inner end is off in up to 20 of 100 sweeps.

References: del Barrio, Cuesta-Albertos and Matran 2018; Dror, Shlomov and Reichart 2019.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import special

from analysis import intervals
from analysis.answers import Answer, Look, chosen, of_a_prior, setting
from analysis.intervals import LEVEL, Estimate
from analysis.outcomes import FloatArray
from analysis.pairing import Pairs, pair
from analysis.profiles import utility
from analysis.questions import SEED
from analysis.results import Results

NEUTRAL = 0.5
"""The ratio of two equal samples, and the value that an interval is read against."""

RESAMPLES = 1000
"""Bootstrap resamples of the design points."""

CELLS = 2_000_000
"""Numbers held at once while resampling."""

UNDECIDED = "undecided"


def violation(first: FloatArray, second: FloatArray) -> FloatArray:
    """The violation ratio of the order first >= second, shape (...,); 0 to 1, 1/2 where both samples are equal.

    Args:
        first: shape (..., n), scores of the first method, higher is better, in any order.
        second: shape (..., n), scores of the second; as many.

    Raises:
        ValueError: The samples differ in size, or are empty.
    """
    if first.shape != second.shape or not first.shape[-1]:
        raise ValueError(f"two samples of one size are compared, got {first.shape} and {second.shape}")
    gaps = np.sort(first, axis=-1) - np.sort(second, axis=-1)
    squares = gaps**2
    whole = squares.sum(axis=-1)
    against = np.where(gaps < 0, squares, 0.0).sum(axis=-1)
    differ = whole > intervals.TINY**2
    return np.where(differ, against / np.where(differ, whole, 1.0), NEUTRAL)


def stochastic_order(first: FloatArray, second: FloatArray, *, rng: np.random.Generator) -> Estimate:
    """The violation ratio of two paired samples with its interval; points are resampled, both methods' together.

    Args:
        first: shape (points,), the mean score of the first method at each design point, 0 to 1, higher is better.
        second: shape (points,), those of the second at the same points.
        rng: Source of the resampling.

    Returns:
        The ratio; without an interval where too few points differ, see `intervals.vary`.
    """
    n = len(first)
    if n == 0:
        return intervals.NOTHING
    order = np.lexsort((second, first))  # the rows' own order must not matter to what is drawn
    first, second = first[order], second[order]
    value = float(violation(first, second))
    if not intervals.vary(first - second):
        why = f"no interval: fewer than {min(intervals.DIFFERING, n // 2)} of {n} points differ from the most common"
        return Estimate(value, np.nan, np.nan, n, why if n > 1 else "no interval: 1 point")
    drawn = _resampled(first, second, rng)
    tail = (1 - LEVEL) / 2
    half = -float(special.ndtri(tail)) * float(drawn.std(ddof=1))
    below, above = np.quantile(drawn, [tail, 1 - tail])
    low, high = max(0.0, min(float(below), value - half)), min(1.0, max(float(above), value + half))
    return Estimate(value, low, high, n, f"bootstrap over {intervals.counted(n)}, joined with its normal bound")


def _resampled(first: FloatArray, second: FloatArray, rng: np.random.Generator) -> FloatArray:
    """The ratio of each resample, shape (resamples,), in chunks of bounded memory."""
    n = len(first)
    step = max(1, CELLS // n)
    found = []
    for start in range(0, RESAMPLES, step):
        rows = rng.integers(0, n, size=(min(step, RESAMPLES - start), n), dtype=np.int64)
        found.append(violation(first[rows], second[rows]))
    return np.concatenate(found)


def of_pairs(pairs: Pairs, *, low: float, high: float, rng: np.random.Generator) -> Estimate:
    """The violation ratio of two methods on their decided pairs, a point's trials averaged first.

    Args:
        pairs: The pairs of two methods, undecided ones are left out.
        low: The anchor that scores 1.
        high: The anchor that scores 0.
        rng: Source of the resampling.
    """
    known = pairs.decided()
    a, b = (known.means(utility(arm.values, low=low, high=high)).values for arm in (known.first, known.second))
    return stochastic_order(a, b, rng=rng)


def asked(results: Results, task: str, first: str, second: str, *, rng: np.random.Generator | None) -> Answer[Estimate]:
    """How nearly the scores of one method are above those of another at every quantile.

    Raises:
        UserError: A method is not planned on the task, or configurations were chosen by results.
    """
    of_a_prior(results, "stochastic order")
    facts = results.facts(task)
    names = chosen(results, task, (first, second))
    draws = np.random.default_rng(SEED) if rng is None else rng
    found = of_pairs(pair(results.outcomes(task), *names), low=facts.anchor_low, high=facts.anchor_high, rng=draws)
    numbers = {"violation": found.value, "low": found.low, "high": found.high, "interval": found.method}
    row = {"task": task, "first": first, "second": second, "points": found.n, "ahead": ahead(found, first, second)}
    label = f"part of the distance that goes against {first}"
    look = Look("dots", "violation", "low", "high", ("first", "second"), label, mark=NEUTRAL)
    question = f"Almost stochastic order of the scores: {first} over {second}"
    return Answer(question, setting(results, [task]), (found,), pd.DataFrame([row | numbers]), look)


def ahead(found: Estimate, first: str, second: str) -> str:
    """Which of two methods is almost stochastically ahead: whose interval is on its side of 1/2."""
    if found.high < NEUTRAL:
        return first
    return second if found.low > NEUTRAL else UNDECIDED

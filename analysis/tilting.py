"""Intervals of the expected best of some scores, by weighting the points that were seen.

The number is followed through the distributions that lie nearest to the sample: point i gets a weight in proportion to
exp(t L_i), where L_i is what the point contributes (its pseudo-value less the mean). An interval ends where the
likelihood ratio of t against 0 reaches the quantile of Student's t (Efron 1981, nonparametric tilting; Owen 1988). So
the variance is that of the distribution which is tested, as in Wilson's interval, and an end stays where scores can be.

What lies between and beyond the scores that were seen is allowed for as Clopper and Pearson allow for one more success:
at an upper end each score counts as the next higher one (the highest as so much more as it lies above the second), at a
lower end as the next lower; of two methods, half of the way each. And no end is nearer than what the points can have
missed (`intervals.missed`): where all scores are alike, a rare better or worse one has left no trace.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from analysis.intervals import LEVEL, missed, missed_p
from analysis.outcomes import FloatArray

RESOLUTION = 0.005
"""Added at either end: where nearly every choice of points holds the best score there is, an expectation so near to it
rests on failures that hardly ever all coincide, and smaller differences are beyond the sample."""

FARTHEST = 200.0
"""Greatest tilt, in standard deviations of what points contribute; all weight is on the outermost point long before."""

STEPS = 50
"""Bisections."""


@dataclass(frozen=True)
class Arm:
    """The scores of a method, as they enter a difference.

    Attributes:
        sign: 1 or -1.
        scores: shape (assignments, points), 0 to 1: of each point one trial at a time.
    """

    sign: int
    scores: FloatArray


@dataclass(frozen=True)
class Tilted:
    """The expected best score of one method, or the difference of two, and the distributions near the sample.

    Attributes:
        value: The number.
        influence: shape (points,), what each point contributes, in standard deviations; they sum to 0.
        ranked: The arms' scores, ascending in each assignment.
        order: The points in that order, of each arm.
        signs: How the arms enter.
        size: Scores among which the best is taken.
    """

    value: float
    influence: FloatArray
    ranked: tuple[FloatArray, ...]
    order: tuple[np.ndarray[tuple[int, ...], np.dtype[np.int64]], ...]
    signs: tuple[int, ...]
    size: int

    def end(self, side: int) -> float:
        """The lower end, side -1, or the upper one, side 1."""
        wanted = -float(special.stdtrit(len(self.influence) - 1, (1 - LEVEL) / 2))
        inside, outside = 0.0, FARTHEST
        for _ in range(STEPS):
            middle = (inside + outside) / 2
            inside, outside = (inside, middle) if self._root(side * middle) > wanted else (middle, outside)
        lowest = 0.0 if len(self.signs) == 1 else -1.0
        seen, beyond = self._number(side * outside, side), self._with(missed(len(self.influence)), side)
        return min(1.0, max(lowest, side * max(side * seen, side * beyond)))

    def p_value(self, other: float) -> float:
        """Two-sided p-value of another number: the level at which the interval ends there."""
        side = 1 if other > self.value else -1
        if side * (self._number(0.0, side) - other) >= 0:
            return 1.0
        tilt = _first(lambda middle: side * (self._number(side * middle, side) - other) >= 0, FARTHEST)
        part = _first(lambda middle: side * (self._with(middle, side) - other) >= 0, 1.0)
        of_seen = 2 * float(special.stdtr(len(self.influence) - 1, -self._root(side * tilt)))
        return max(of_seen, missed_p(len(self.influence), part))

    def _with(self, part: float, side: int) -> float:
        """The number if a part of the prior that no point is in had the best scores there are, or the worst."""
        moved = 0.0
        for sign, ranked in zip(self.signs, self.ranked, strict=True):
            score = _best(ranked, np.ones(ranked.shape), self.size)
            # of fewer tries than `size` the best is at least in proportion: it grows ever more slowly with them
            shift = (1 - (1 - part) ** self.size) * (1 - score) if side * sign > 0 else -part * score
            moved += sign * shift
        return self.value + moved

    def _root(self, tilt: float) -> float:
        """The signed root of the likelihood ratio, without its sign, with one degree of freedom taken off."""
        exponents = tilt * self.influence
        most = float(exponents.max())
        ratio = most + math.log(float(np.exp(exponents - most).mean()))
        return math.sqrt(2 * (len(exponents) - 1) * max(ratio, 0.0))

    def _number(self, tilt: float, side: int) -> float:
        """The number under a tilt, with what an end on that side allows for."""
        exponents = tilt * self.influence
        weights = np.exp(exponents - exponents.max())
        moved = 0.0
        for sign, ranked, order in zip(self.signs, self.ranked, self.order, strict=True):
            beyond = _beyond(ranked, 1 / len(self.signs), side * sign)
            moved += sign * (_best(beyond, weights[order], self.size) - _best(ranked, np.ones(order.shape), self.size))
        return self.value + moved + side * RESOLUTION


def tilted(arms: Sequence[Arm], pseudo: FloatArray, size: int) -> Tilted:
    """The distributions near a sample, along what its points contribute to the expected best.

    Args:
        arms: One method, or two that are compared on the same points.
        pseudo: shape (points,), the jackknife's pseudo-values of the number, not all equal.
        size: Scores among which the best is taken, at least 1.
    """
    influence = pseudo - pseudo.mean()
    order = tuple(np.argsort(arm.scores, axis=1, kind="stable") for arm in arms)
    ranked = tuple(np.take_along_axis(arm.scores, at, axis=1) for arm, at in zip(arms, order, strict=True))
    spread = float(influence.std())
    return Tilted(float(pseudo.mean()), influence / spread, ranked, order, tuple(arm.sign for arm in arms), size)


def _first(reached: Callable[[float], bool], most: float) -> float:
    """Where, from 0 up to `most`, something is reached first, by bisection."""
    inside, outside = 0.0, most
    for _ in range(STEPS):
        middle = (inside + outside) / 2
        inside, outside = (inside, middle) if reached(middle) else (middle, outside)
    return outside


def _best(ranked: FloatArray, weights: FloatArray, size: int) -> float:
    """Expected highest of some scores drawn by weight, with replacement; both shape (assignments, points)."""
    below = np.cumsum(weights, axis=1)
    below /= below[:, -1:]
    return float((np.diff(below**size, axis=1, prepend=0.0) * ranked).sum(axis=1).mean())


def _beyond(ranked: FloatArray, part: float, side: int) -> FloatArray:
    """Scores moved a part of the way to the next ones: upwards for side 1, downwards for side -1."""
    gaps = np.diff(ranked, axis=1)
    if side > 0:
        return np.minimum(ranked + part * np.concatenate([gaps, gaps[:, -1:]], axis=1), 1.0)
    return np.maximum(ranked - part * np.concatenate([gaps[:, :1], gaps], axis=1), 0.0)

"""The same question for other ranges: profiles weighted to a range inside the prior, and signs of differences in parts.

A verdict on robustness is a statement about a prior. What it owes to the choice of ranges shows here, without a run.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis import intervals, reweighting
from analysis.axes import Axis, BoolArray, axes_of
from analysis.intervals import NOTHING, TINY, Estimate
from analysis.outcomes import FloatArray, Sample, point_means, sample
from analysis.pairing import KEY, pair
from analysis.profiles import utility
from analysis.results import Results
from analysis.reweighting import Target, Weighted, column, importance, weighted
from analysis.words import interval, signed
from search_spaces.spaces import SPACES
from study.errors import UserError

LEAST = 20
"""Points below which a part of the prior is too small to say anything about: run that range instead."""

HALVES = ("lower half", "upper half")
EVERYTHING = "everything"


@dataclass(frozen=True)
class Reweighted:
    """How much of another range a method survives, from the trials of the sampled one.

    Attributes:
        task: Name of the task.
        method: Name of the method.
        points: Design points that the range gives weight.
        effective: Kish's effective number of points, at least 20.
        success: The success fraction under the range.
        log_auc: The log-AUC under the range.
        failures: The failure rate under the range.
        bounds: The success fraction if every undecided trial failed, and if every one succeeded.
        thresholds: shape (steps,), where the weighted profile steps up, ascending.
        fraction: shape (steps,), the weighted profile at and right of each threshold.
        half_width: Of a simultaneous band around it, Dvoretzky-Kiefer-Wolfowitz at the effective number of points:
            exact for a part of the sampled prior, an approximation for another density on it.
    """

    task: str
    method: str
    points: int
    effective: float
    success: Estimate
    log_auc: Estimate
    failures: Estimate
    bounds: tuple[float, float]
    thresholds: FloatArray
    fraction: FloatArray
    half_width: float


@dataclass(frozen=True)
class BoxDifference:
    """The paired difference of the log-AUC between two methods in a part of the prior.

    Attributes:
        task: Name of the task.
        first: Name of the method that differences are positive for when it survives more.
        second: Name of the other method.
        box: The part in words, "everything" for all of it.
        difference: The difference with its interval, unadjusted.
        points: Design points that it rests on; effective ones where they are weighted.
        reason: Why there is no difference, None where there is one.
    """

    task: str
    first: str
    second: str
    box: str
    difference: Estimate
    points: int
    reason: str | None = None

    @property
    def few(self) -> bool:
        """Whether the part is too small to say anything about."""
        return self.points < LEAST

    @property
    def words(self) -> str:
        """The difference as a sentence."""
        few = f"; too few: at least {LEAST} points" if self.few else ""
        number = f"{signed(self.difference.value)} {interval(self.difference)} ({self.difference.method}{few})"
        return f"{self.box}: {self.reason or number}"


@dataclass(frozen=True)
class Stability:
    """Whether a difference has one sign in every part of the prior.

    Attributes:
        stable: True if every part with enough points has the sign of all of it; None if no part has enough.
        same: Parts with that sign.
        other: Parts with the opposite sign.
        none: Parts without a difference.
        few: Parts with too few points.
        shown: How many of `same` have an interval without 0, unadjusted.
        words: A sentence.
    """

    stable: bool | None
    same: tuple[str, ...]
    other: tuple[str, ...]
    none: tuple[str, ...]
    few: tuple[str, ...]
    shown: int
    words: str


def reweighted(results: Results, task: str, method: str, target: Target) -> Reweighted:
    """The robustness profile of a method under a range inside the sampled prior.

    Args:
        results: The results.
        task: Name of a task.
        method: Name of a method planned on it.
        target: Hyperparameter, by the sweep file's word, to its domain; what is absent stays as it was sampled.

    Raises:
        UserError: The target is not inside what was sampled, there is no prior, or fewer than 20 effective points.
    """
    rows, facts = _rows(results, task, method), results.facts(task)
    weights, trials = importance(results, rows, target), sample(rows)
    known = trials.known()
    decided, kept = trials.decided(), weights[known]

    def mean(values: FloatArray | BoolArray) -> Weighted:
        return weighted(values, kept, decided)

    reached = mean(decided.values <= facts.threshold)
    _check_size(reached, f"{method} on {task}")
    low, high = facts.anchor_low, facts.anchor_high
    return Reweighted(
        task=task,
        method=method,
        points=reached.points,
        effective=reached.effective,
        success=reweighting.proportion(reached),
        log_auc=reweighting.bounded_mean(mean(utility(decided.values, low=low, high=high))),
        failures=reweighting.proportion(mean(np.isinf(decided.values))),
        bounds=_bounds(trials, weights, facts.threshold),
        **_profile(decided, kept),
        half_width=intervals.dkw(math.floor(reached.effective + 1e-9)),
    )


def reweighted_difference(results: Results, task: str, first: str, second: str, target: Target) -> Estimate:
    """The paired difference of the log-AUC under a range inside the sampled prior.

    Each method is weighted by its own hyperparameters; the pairs are those that both methods decided.

    Raises:
        UserError: As for `reweighted`.
        ValueError: The methods share no configuration and seed.
    """
    arms = _arms(results, task, first, second)
    points, means = _part(arms.points, arms.known), []
    for scores, rows in zip(arms.scores, arms.rows, strict=True):
        mean = weighted(scores[arms.known], importance(results, rows, target)[arms.known], points)
        _check_size(mean, f"{first} and {second} on {task}")
        means.append(mean)
    return reweighting.difference(means[0], means[1])


def signs(results: Results, task: str, first: str, second: str) -> tuple[BoxDifference, ...]:
    """The paired difference of the log-AUC in every half of each varied range and at every level.

    Args:
        results: The results.
        task: Name of a task.
        first: Name of a method.
        second: Name of another, which shares configurations with it.

    Returns:
        "everything" first, then the parts, in the order of the plan's columns. A hyperparameter that each method draws
        for itself, such as a penalty's weight, is halved for each by its own range.

    Raises:
        ValueError: The methods share no configuration and seed.
    """
    arms = _arms(results, task, first, second)
    sides = [axes_of(results, task, method) for method in (first, second)]
    boxes = [(EVERYTHING, np.ones(len(arms.known), dtype=bool)), *_boxes(sides, arms.rows)]
    return tuple(_difference(arms, (task, first, second), name, inside) for name, inside in boxes)


def in_ranges(
    results: Results, task: str, first: str, second: str, ranges: Mapping[str, Target]
) -> tuple[BoxDifference, ...]:
    """The paired difference of the log-AUC as sampled ("everything") and under each of some named ranges.

    A range that the sampled prior cannot answer for has a `reason`.

    Args:
        results: The results.
        task: Name of a task.
        first: Name of a method.
        second: Name of another, which shares configurations with it.
        ranges: Name to range, for instance `named_ranges`.
    """
    arms = _arms(results, task, first, second)
    names = (task, first, second)
    found = [_difference(arms, names, EVERYTHING, np.ones(len(arms.known), dtype=bool))]
    for name, target in ranges.items():
        try:
            estimate = reweighted_difference(results, task, first, second, target)
            found.append(BoxDifference(*names, name, estimate, estimate.n))
        except UserError as error:
            found.append(BoxDifference(*names, name, NOTHING, 0, str(error)))
    return tuple(found)


def named_ranges(results: Results, task: str, methods: tuple[str, ...]) -> dict[str, Target]:
    """The named priors as far as they lie inside the sampled one, each with the words of what could not be narrowed.

    Args:
        results: The results.
        task: Name of a task.
        methods: Methods that have to have an answer, planned on it.

    Returns:
        Name, such as "narrow (lr; as sampled: beta1)", to range; empty where there is no prior.
    """
    rows = [_rows(results, task, method) for method in methods]
    found: dict[str, Target] = {}
    for name, space in SPACES.items():
        target = {word: domain for word, domain in space.domains.items() if _varied(results, rows, word)}
        weighs = {word: _weighs(results, rows, {word: domain}) for word, domain in target.items()}
        inside = {word: target[word] for word in target if weighs[word] is not None}
        narrower = [word for word in inside if weighs[word]]
        left = [word for word in target if word not in inside]
        if narrower:
            rest = f"; as sampled: {', '.join(left)}" if left else ""
            found[f"{name} ({', '.join(narrower)}{rest})"] = inside
    return found


def stable(parts: tuple[BoxDifference, ...]) -> Stability:
    """Whether a difference has one sign in every part of the prior that has enough points.

    Args:
        parts: "everything" first, as `signs` and `in_ranges` give them.
    """
    whole, *others = parts
    direction = _sign(whole)
    enough = [part for part in others if not part.few]
    by_sign = {sign: tuple(part.box for part in enough if _sign(part) == sign) for sign in (-1, 0, 1)}
    same = by_sign[direction] if direction else ()
    shown = sum(_sign(part) == direction and _apart(part) for part in enough) if direction else 0
    found = Stability(
        stable=(bool(direction) and len(same) == len(enough)) if enough else None,
        same=same,
        other=by_sign[-direction] if direction else (*by_sign[-1], *by_sign[1]),
        none=by_sign[0],
        few=tuple(part.box for part in others if part.few),
        shown=shown,
        words="",
    )
    return replace(found, words=_stability(whole, found))


@dataclass(frozen=True)
class _Arms:
    """The pairs of two methods with what they need to be looked at in parts; everything in one order."""

    rows: tuple[pd.DataFrame, pd.DataFrame]
    points: Sample
    scores: tuple[FloatArray, FloatArray]
    known: BoolArray


def _arms(results: Results, task: str, first: str, second: str) -> _Arms:
    outcomes, facts = results.outcomes(task), results.facts(task)
    both = outcomes[outcomes["method"].isin([first, second])]
    pair(both, first, second)  # refuses what cannot be paired
    a, b = (both[both["method"] == method] for method in (first, second))
    shared = a[KEY].merge(b[KEY], on=KEY).sort_values(KEY, ignore_index=True)
    rows = (shared.merge(a, on=KEY, how="left"), shared.merge(b, on=KEY, how="left"))
    values = [sample(frame).values for frame in rows]
    known = ~(np.isnan(values[0]) | np.isnan(values[1]))
    scores = [utility(found, low=facts.anchor_low, high=facts.anchor_high) for found in values]
    return _Arms(rows, sample(rows[0]), (scores[0], scores[1]), known)


def _boxes(sides: list[tuple[Axis, ...]], rows: tuple[pd.DataFrame, pd.DataFrame]) -> Iterator[tuple[str, BoolArray]]:
    """The halves and levels along every hyperparameter that varies for either method, each with its pairs."""
    for word in dict.fromkeys(axis.word for axes in sides for axis in axes):
        labels = [
            _places(axis)[axis.bin(axis.of(frame), len(HALVES))]
            for axes, frame in zip(sides, rows, strict=True)
            for axis in axes
            if axis.word == word
        ]
        names = [_places(axis)[:-1] for axes in sides for axis in axes if axis.word == word]
        for name in dict.fromkeys(np.concatenate(names)):
            # where two methods draw from ranges of their own, each half concerns the one that it is a half of
            yield f"{word} {name}", np.logical_and.reduce([found == name for found in labels if name in found])


def _places(axis: Axis) -> npt.NDArray[np.object_]:
    """The parts along a hyperparameter in words, and last, at -1, that of a trial without it: none."""
    count = axis.count(len(HALVES))
    ends = [axis.label(place, len(HALVES)) for place in range(count)]
    words = [f"= {end}" if axis.levels else f"in its {HALVES[i]} ({end})" for i, end in enumerate(ends)]
    return np.array([*words, None], dtype=object)


def _difference(arms: _Arms, names: tuple[str, str, str], box: str, inside: BoolArray) -> BoxDifference:
    kept = inside & arms.known
    points = point_means((arms.scores[0] - arms.scores[1])[kept], _part(arms.points, kept))
    reason = None if kept.any() else "no pair with both outcomes known"
    return BoxDifference(*names, box, intervals.difference(points), len(points.values), reason)


def _part(trials: Sample, kept: BoolArray) -> Sample:
    return Sample(trials.values[kept], trials.replicates[kept], trials.points[kept])


def _rows(results: Results, task: str, method: str) -> pd.DataFrame:
    outcomes = results.outcomes(task)
    rows = outcomes[outcomes["method"] == method]
    if rows.empty:
        raise ValueError(f"method {method!r} is not planned on {task}; planned: {list(results.methods_of(task))}")
    return rows


def _check_size(mean: Weighted, what: str) -> None:
    if mean.effective < LEAST - TINY:
        raise UserError(
            f"{what}: the range leaves {mean.effective:.3g} effective points of {len(mean.weights)}, fewer than "
            f"{LEAST}: run that range"
        )


def _bounds(trials: Sample, weights: FloatArray, threshold: float) -> tuple[float, float]:
    known = trials.known()
    reached = trials.values <= threshold
    return weighted(reached, weights, trials).value, weighted(reached | ~known, weights, trials).value


def _profile(decided: Sample, weights: FloatArray) -> dict[str, FloatArray]:
    index, replicates = decided.clusters()
    share = weights / np.bincount(index, minlength=len(replicates))[index]
    kept = share > 0
    share = share[kept]
    values, place = np.unique(decided.values[kept], return_inverse=True)
    fraction = np.cumsum(np.bincount(place, weights=share)) / share.sum()
    finite = np.isfinite(values)
    return {"thresholds": values[finite], "fraction": np.minimum(fraction[finite], 1.0)}


def _varied(results: Results, rows: list[pd.DataFrame], word: str) -> bool:
    priors = (results.domains_of(frame["method"].iloc[0]) for frame in rows)
    return any(word in prior and column(frame, word) is not None for prior, frame in zip(priors, rows, strict=True))


def _weighs(results: Results, rows: list[pd.DataFrame], target: Target) -> bool | None:
    """Whether a range gives trials different weights; None where the sampled prior cannot answer for it."""
    try:
        found = [importance(results, frame, target) for frame in rows]
    except UserError:
        return None
    return any(np.ptp(weights) > TINY for weights in found if len(weights))


def _sign(part: BoxDifference) -> int:
    value = part.difference.value
    return 0 if math.isnan(value) or abs(value) <= TINY else int(math.copysign(1, value))


def _apart(part: BoxDifference) -> bool:
    return part.difference.low > 0 or part.difference.high < 0


def _stability(whole: BoxDifference, found: Stability) -> str:
    if found.stable is None:
        return f"no part of the prior has {LEAST} points: nothing can be said of the sign in parts"
    if not _sign(whole):
        return "there is no difference whose sign could be looked at in parts"
    enough = len(found.same) + len(found.other) + len(found.none)
    better = whole.first if _sign(whole) > 0 else whole.second
    parts = [f"{better} survives more in {len(found.same)} of {enough} parts of the prior"]
    parts += [f"{found.shown} of them with a 95 % interval without 0 (unadjusted)"] if found.same else []
    lists = {"the other way round": found.other, "no difference": found.none, "too few points": found.few}
    return "; ".join([*parts, *(f"{what}: {', '.join(boxes)}" for what, boxes in lists.items() if boxes)])

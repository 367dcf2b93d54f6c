"""The safe region: the largest axis-aligned box of the prior in which a method succeeds nine times in ten.

A box found by search is optimistic: it was chosen because its trials succeeded. So the search is repeated on folds and
scored on what was held out. That score has no interval, since the boxes differ: what has one is a single box, which one
half of the points give and the other half judge. Even so only fresh configurations confirm the region (`confirmation`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import pandas as pd

from analysis import unseen
from analysis.axes import Axis, BoolArray, axes_of, parts_where, shown
from analysis.intervals import NOTHING, TINY, Estimate
from analysis.outcomes import FloatArray, IntArray, Points, Sample, point_means, sample
from analysis.results import Results
from analysis.words import interval, percent, share

SAFE = 0.9
"""The success that a region has to reach."""

LEAST = 10
"""Design points that a region has to hold."""

FOLDS = 8
"""Folds of the cross-validation: whole replicates where there are at least 4, else points. Every other one judges."""

REPLICATES = 4

AXES = 4
"""Most hyperparameters that bound a box: those along which success varies most; the others stay as wide as they are."""

BINS = {1: 8, 2: 8, 3: 8, 4: 6}
"""Bins of a range, whose edges are the candidates, by the number of hyperparameters that can bound the box."""

SUBSETS = 5
"""Up to so many texts, every subset is a candidate; of more, each by itself and all of them."""

DIGITS = 6
"""Significant digits of an edge between two bins."""

Box = tuple[BoolArray, ...]
"""For each axis, which of its bins are inside."""


@dataclass(frozen=True)
class Side:
    """A region along one hyperparameter.

    Attributes:
        axis: The hyperparameter.
        low: Lower end, in its unit; NaN for texts.
        high: Upper end, likewise.
        levels: Its levels inside; empty for a range.
        whole: Whether that is everything that was sampled.
    """

    axis: Axis
    low: float
    high: float
    levels: tuple[float | str, ...]
    whole: bool

    @property
    def words(self) -> str:
        """The side as a reader sees it."""
        if self.axis.levels:
            return f"{self.axis.word} = {' or '.join(shown(level) for level in self.levels)}"
        return f"{self.axis.word} {shown(self.low)} to {shown(self.high)}"


@dataclass(frozen=True)
class Region:
    """The safe region of a method on a task, or that there is none.

    Attributes:
        task: Name of the task.
        method: Name of the method.
        sides: One per varied hyperparameter; empty where there is no region.
        fraction: Its probability under the prior; the share of planned trials where no prior says it. 0 for none.
        points: Design points inside with a decided trial.
        success: Success inside, on the trials that it was found on: optimistic. NaN for none.
        cross_validated: Success of held-out points inside the boxes that were found without them; NaN without any.
        held_out: Success inside the box that one half of the points gives, counted on the other half, with the exact
            interval. It is about that box, which fewer points chose, and holds whatever the search does.
        stability: Mean overlap (intersection over union, as probabilities) of the folds' boxes with the region.
        folds: Folds that found a box, and all folds.
        undecided: Trials of the method whose outcome is not known; they are in no number.
        words: What can be said of it.
    """

    task: str
    method: str
    sides: tuple[Side, ...]
    fraction: float
    points: int
    success: float
    cross_validated: float
    held_out: Estimate
    stability: float
    folds: tuple[int, int]
    undecided: int
    words: str

    @property
    def found(self) -> bool:
        """Whether there is a region."""
        return bool(self.sides)


@dataclass(frozen=True)
class _Space:
    """The decided trials of a method in bins; everything has an entry per trial, `masks` and so on one per axis."""

    axes: tuple[Axis, ...]
    cells: IntArray
    success: BoolArray
    trials: Sample
    masks: tuple[FloatArray, ...]
    crossed: tuple[bool, ...]
    seeds: int

    def subset(self, kept: BoolArray) -> tuple[IntArray, BoolArray]:
        return self.cells[kept], self.success[kept]


def safe_region(results: Results, task: str, method: str, *, rng: np.random.Generator) -> Region:
    """The largest box of the prior in which a method's trials succeed nine times in ten.

    The search is exact over boxes whose edges cut each range into equally likely bins, along the up to four
    hyperparameters in which success varies most; it holds at least ten points, and the bins at both ends of each of
    its sides hold a trial inside of it: it does not reach into what was never sampled.

    Args:
        results: The results.
        task: Name of a task.
        method: Name of a method planned on it.
        rng: Source of the folds and halves, where there are too few replicates to be them.
    """
    outcomes = results.outcomes(task)
    rows = outcomes[outcomes["method"] == method]
    if results.adaptive:
        reason = f"configurations were chosen by {results.adaptive}, which looked at results: no fraction of the prior"
        return _nothing(task, method, reason, rows)
    axes = tuple(axis for axis in axes_of(results, task, method) if axis.of(rows).notna().all())
    if not axes:
        return _nothing(task, method, "no hyperparameter varies, so there are no boxes", rows)
    space = _space(axes, rows, results.facts(task).threshold)
    everything = np.ones(len(space.success), dtype=bool)
    box = _search(space, everything)
    if box is None:
        reason = f"no box of {LEAST} points or more in which {percent(SAFE)} of the trials succeed"
        return _nothing(task, method, reason, rows)
    return _region(results, task, method, space, box, rows, rng)


def _region(
    results: Results, task: str, method: str, space: _Space, box: Box, rows: pd.DataFrame, rng: np.random.Generator
) -> Region:
    fold, folds = _folds(space.trials, rng)
    score, boxes = _cross_validated(space, fold, folds)
    inside = _inside(box, space.cells)
    points = _points(space, inside)
    found = Region(
        task=task,
        method=method,
        sides=tuple(_side(axis, mask) for axis, mask in zip(space.axes, box, strict=True)),
        fraction=_fraction(results, space.axes, box, rows),
        points=len(points.values),
        success=float(points.values.mean()),
        cross_validated=score,
        held_out=_judged(space, fold),
        stability=sum(_overlap(box, other) for other in boxes) / folds,
        folds=(len(boxes), folds),
        undecided=len(rows) - len(space.success),
        words="",
    )
    return replace(found, words=_words(found))


def edges(axis: Axis, bins: int) -> FloatArray:
    """Candidate edges of a range: equally likely bins, rounded inside so that a sweep file can say them."""
    found = axis.edges(bins)
    found[1:-1] = [float(f"{edge:.{DIGITS}g}") for edge in found[1:-1]]
    return found


def _space(axes: tuple[Axis, ...], rows: pd.DataFrame, threshold: float) -> _Space:
    everything = sample(rows)
    known = everything.known()
    trials, decided = everything.decided(), rows[known]
    index, replicates = trials.clusters()
    cells = _cells(axes, decided)
    counts = [_size(axis, len(axes)) for axis in axes]
    return _Space(
        axes=axes,
        cells=cells,
        success=trials.values <= threshold,
        trials=trials,
        masks=tuple(_candidates(axis, count) for axis, count in zip(axes, counts, strict=True)),
        crossed=tuple(
            bool(axis.levels) and _varies(cells[:, place], index, len(replicates)) for place, axis in enumerate(axes)
        ),
        seeds=max(1, decided["seed"].nunique()),
    )


def _cells(axes: tuple[Axis, ...], rows: pd.DataFrame) -> IntArray:
    columns = [
        axis.bin(axis.of(rows), 0)
        if axis.levels
        else np.searchsorted(edges(axis, _size(axis, len(axes)))[1:-1], axis.of(rows).to_numpy(np.float64), "right")
        for axis in axes
    ]
    return np.stack(columns, axis=1).astype(np.int64)


def _size(axis: Axis, axes: int) -> int:
    return axis.count(BINS[min(axes, AXES)])


def _varies(cells: IntArray, index: IntArray, points: int) -> bool:
    """Whether a level changes within a point: the structure that points are crossed with."""
    low, high = np.full(points, np.iinfo(np.int64).max), np.full(points, -1)
    np.minimum.at(low, index, cells)
    np.maximum.at(high, index, cells)
    return bool((high > low).any())


def _candidates(axis: Axis, count: int) -> FloatArray:
    """What a box may keep of an axis, shape (candidates, count), 1 for a bin inside: neighbours, subsets of texts."""
    if axis.text:
        single = np.vstack([np.eye(count), np.ones((1, count))])
        return np.array([m for m in product((0.0, 1.0), repeat=count) if any(m)]) if count <= SUBSETS else single
    return np.array([[float(a <= i <= b) for i in range(count)] for a in range(count) for b in range(a, count)])


def _search(space: _Space, kept: BoolArray) -> Box | None:
    """The most probable candidate box that is safe on some trials; of equals the one with the highest success."""
    cells, success = space.subset(kept)
    chosen = _telling(space, cells, success)
    masks = [space.masks[place] for place in chosen]
    shape = tuple(mask.shape[1] for mask in masks)
    key = np.ravel_multi_index(tuple(cells[:, place] for place in chosen), shape)
    size = math.prod(shape)
    volume, need = np.ones(()), np.full((), float(LEAST * space.seeds))
    total, good = (np.bincount(part, minlength=size).reshape(shape).astype(np.float64) for part in (key, key[success]))
    for place, mask in zip(chosen, masks, strict=True):
        total, good = (np.tensordot(counts, mask, axes=(0, 1)) for counts in (total, good))
        volume = np.multiply.outer(volume, mask.mean(axis=1))
        need = np.multiply.outer(need, mask.sum(axis=1) if space.crossed[place] else np.ones(len(mask)))
    fits = (total >= need) & (good >= SAFE * total - TINY)
    for dimension, place in enumerate(chosen):
        fits &= _sampled(total, dimension, space.masks[place], space.axes[place])
    if not fits.any():
        return None
    largest = fits & (volume >= volume[fits].max() - TINY)
    best = np.unravel_index(np.argmax(np.where(largest, good / np.maximum(total, 1), -1.0)), volume.shape)
    box = [_spanned(cells[:, place], space.axes[place], mask.shape[1]) for place, mask in enumerate(space.masks)]
    for place, mask, candidate in zip(chosen, masks, best, strict=True):
        box[place] = mask[candidate] > 0
    return tuple(box)


def _sampled(total: FloatArray, dimension: int, mask: FloatArray, axis: Axis) -> BoolArray:
    """Whether the trials of each box reach the ends of its side along one dimension; of texts, every one of them."""
    count = mask.shape[1]
    singles = [int(np.flatnonzero((mask == row).all(axis=1))[0]) for row in np.eye(count)]
    ends = mask.copy()
    if not axis.text:
        ends[:, 1:-1] *= 1 - mask[:, :-2] * mask[:, 2:]
    elif count > SUBSETS:
        ends[:] = 0  # all of many texts is no side at all
    empty = (np.take(total, singles, axis=dimension) == 0).astype(np.float64)
    found: BoolArray = np.moveaxis(np.tensordot(empty, ends, axes=(dimension, 1)), -1, dimension) == 0
    return found


def _spanned(cells: IntArray, axis: Axis, count: int) -> BoolArray:
    """All of a hyperparameter that bounds no box, from the first bin to the last that hold a trial."""
    bins = np.arange(count)
    return np.ones(count, dtype=bool) if axis.text else (bins >= cells.min()) & (bins <= cells.max())


def _telling(space: _Space, cells: IntArray, success: BoolArray) -> list[int]:
    """The axes along which success varies most, in the plan's order."""
    if len(space.axes) <= AXES:
        return list(range(len(space.axes)))
    spread = []
    for place, mask in enumerate(space.masks):
        count = np.bincount(cells[:, place], minlength=mask.shape[1])
        good = np.bincount(cells[success, place], minlength=mask.shape[1])
        spread.append(float(np.sum(good**2 / np.maximum(count, 1))))  # the sum of squares between bins, but a constant
    return sorted(sorted(range(len(spread)), key=lambda place: (-spread[place], place))[:AXES])


def _inside(box: Box, cells: IntArray) -> BoolArray:
    inside: BoolArray = np.logical_and.reduce([mask[cells[:, place]] for place, mask in enumerate(box)])
    return inside


def _points(space: _Space, inside: BoolArray) -> Points:
    part = Sample(space.trials.values[inside], space.trials.replicates[inside], space.trials.points[inside])
    return point_means(space.success[inside], part)


def _cross_validated(space: _Space, fold: IntArray, folds: int) -> tuple[float, list[Box]]:
    """Success of held-out points in the boxes found without them, and those boxes."""
    held, boxes = np.zeros(len(fold), dtype=bool), []
    for number in range(folds):
        box = _search(space, fold != number)
        if box is not None:
            boxes.append(box)
            held |= (fold == number) & _inside(box, space.cells)
    return (float(_points(space, held).values.mean()) if held.any() else math.nan), boxes


def _judged(space: _Space, fold: IntArray) -> Estimate:
    """Success inside the box of one half of the folds, counted on the other half."""
    judging = fold % 2 == 1
    box = _search(space, ~judging)
    if box is None:
        return replace(NOTHING, method="no interval: half of the points give no box")
    inside = judging & _inside(box, space.cells)
    if not inside.any():
        return replace(NOTHING, method="no interval: the box of half of the points holds none of the others")
    return unseen.exact(_points(space, inside).values)


def _folds(trials: Sample, rng: np.random.Generator) -> tuple[IntArray, int]:
    """The fold of each trial: its replicate's, or its point's."""
    index, replicates = trials.clusters()
    names, which = np.unique(replicates, return_inverse=True)
    if len(names) >= REPLICATES:
        return (which % FOLDS)[index].astype(np.int64), min(FOLDS, len(names))
    folds = min(FOLDS, len(replicates))
    return (rng.permutation(len(replicates)) % folds)[index].astype(np.int64), folds


def _side(axis: Axis, mask: BoolArray) -> Side:
    whole = bool(mask.all())
    if axis.levels:
        levels = tuple(level for level, kept in zip(axis.levels, mask, strict=True) if kept)
        numbers = [level for level in levels if not isinstance(level, str)] or [math.nan]
        return Side(axis, min(numbers), max(numbers), levels, whole)
    ends, places = edges(axis, len(mask)), np.flatnonzero(mask)
    return Side(axis, float(ends[places[0]]), float(ends[places[-1] + 1]), (), whole)


def _fraction(results: Results, axes: tuple[Axis, ...], box: Box, rows: pd.DataFrame) -> float:
    """The box's probability: by its sides where they were drawn independently, else the share of planned trials."""
    drawn = rows["sampler"].isin(["sobol", "random"]).all()
    domains = results.domains_of(rows["method"].iloc[0])
    plain = [len(parts_where(domains.get(axis.word), rows)) == 1 for axis in axes]
    if drawn and all(plain) and all(axis.word in domains for axis in axes):
        return float(math.prod(mask.mean() for mask in box))
    return float(_inside(box, _cells(axes, rows)).mean())


def _overlap(first: Box, second: Box) -> float:
    both, a, b = (
        math.prod(float(mask.mean()) for mask in masks)
        for masks in ([m & n for m, n in zip(first, second, strict=True)], first, second)
    )
    return both / (a + b - both)


def _nothing(task: str, method: str, reason: str, rows: pd.DataFrame) -> Region:
    undecided = int((~sample(rows).known()).sum())
    words = f"{method} on {task}: {reason}{_interim(undecided)}"
    return Region(task, method, (), 0.0, 0, math.nan, math.nan, NOTHING, math.nan, (0, 0), undecided, words)


def _words(region: Region) -> str:
    bounded = [side.words for side in region.sides if not side.whole]
    box = ", ".join(bounded) if bounded else "all of the prior"
    held = region.held_out
    judged = f"{share(held.value)} {interval(held)} in the box of one half, judged by the other; " if held.n else ""
    return (
        f"{region.method} on {region.task}: {box} ({percent(region.fraction)} of the prior, {region.points} points); "
        f"success {share(region.success)} where it was found, cross-validated {share(region.cross_validated)}; {judged}"
        f"{region.folds[0]} of {region.folds[1]} folds find a box, overlap {share(region.stability)}; not confirmed on "
        f"fresh configurations{_interim(region.undecided)}"
    )


def _interim(undecided: int) -> str:
    return f"; {undecided} trials are undecided" if undecided else ""

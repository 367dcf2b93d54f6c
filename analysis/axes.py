"""The hyperparameters that a sweep varies, as axes to look along: scale, range, levels, and bins of equal probability.

Whatever looks along a hyperparameter (sensitivity, maps, importance, regions, filters) takes its axes from here: all of
them agree on what is varied, what is logarithmic and what is a category.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.outcomes import FloatArray, IntArray, Sample
from analysis.results import PLAN_COLUMNS, Results
from search_spaces.domains import Domain, LogUniform, Uniform, When, values_of

BoolArray = npt.NDArray[np.bool_]
Level = TypeVar("Level", float, str)

WORDS = {"lr_g": "lr"}
"""Column to the sweep file's word for it, where they differ."""

RATIO = "lr_d_ratio"
"""The discriminator's learning rate over the generator's, which is what sweeps draw; no table has it as a column."""

FEW = 6
"""Up to so many different numbers of unknown origin are levels, each looked at by itself; more are a range."""

MANY = 12
"""Up to so many different numbers are levels where the prior lists them one by one."""

WIDE = 20.0
"""Positive values so many times apart are looked at in logarithms, where no prior says which and they are even so."""

_VISITED = ("grid", "table")
"""Designs that visit some values of a range again and again, which makes them levels."""

_FOUND: dict[int, dict[tuple[str, str | None], tuple[Axis, ...]]] = {}
"""Axes of the results that still exist, by their identity."""

_NOT_HYPERPARAMETERS = {
    *PLAN_COLUMNS,
    *("sweep", "loss", "penalty", "technique", "pack", "capacity", "engine_epoch", "schema_version"),
    *("slot", "key", "evaluations"),
} - {"n_critic"}


@dataclass(frozen=True)
class Axis:
    """One hyperparameter that varies.

    Attributes:
        name: Its column, or `RATIO`, which `of` computes.
        word: What readers and conditions call it: the sweep file's word.
        log: True where equal ratios are equal steps.
        levels: Its values where there are few, or where they are texts, in order; empty for a range.
        low: Lower end of the prior's range, or the least value seen where no prior says it; NaN for texts.
        high: Upper end, likewise.
    """

    name: str
    word: str
    log: bool
    levels: tuple[float | str, ...]
    low: float
    high: float

    @property
    def text(self) -> bool:
        """Whether its levels are texts, which have no order."""
        return bool(self.levels) and isinstance(self.levels[0], str)

    def of(self, frame: pd.DataFrame) -> pd.Series:
        """Its values in a frame of plan or outcomes: the column, or what is computed from two."""
        return frame[self.name] if self.name in frame.columns else ratio(frame)

    def scaled(self, values: pd.Series) -> FloatArray:
        """Values as numbers in which equal steps are equally likely: log10 of a logarithmic one, a level's index.

        NaN for a missing value and for one that is none of the levels.
        """
        if self.levels:
            index = {level: float(place) for place, level in enumerate(self.levels)}
            known = values.map(str, na_action="ignore") if self.text else values.astype("float64")
            return known.map(index).to_numpy(dtype=np.float64)
        numbers = values.to_numpy(dtype=np.float64)
        return np.log10(numbers) if self.log else numbers

    def edges(self, bins: int) -> FloatArray:
        """Edges, in the hyperparameter's own unit, of bins equally likely under the prior; shape (bins + 1,).

        Raises:
            ValueError: For an axis with levels, which are their own bins.
        """
        if self.levels:
            raise ValueError(f"{self.word} has levels {self.levels}, not bins")
        if self.log:
            return np.geomspace(self.low, self.high, bins + 1)
        return np.linspace(self.low, self.high, bins + 1)

    def count(self, bins: int) -> int:
        """How many bins there are where so many are asked for: a level is its own."""
        return len(self.levels) or bins

    def bin(self, values: pd.Series, bins: int) -> IntArray:
        """The bin of each value, 0 to bins - 1, or its level's index; -1 for a missing one."""
        if self.levels:
            found = self.scaled(values)
            return np.where(np.isnan(found), -1, found).astype(np.int64)
        numbers = values.to_numpy(dtype=np.float64)
        inner = self.edges(bins)[1:-1]
        return np.where(np.isnan(numbers), -1, np.searchsorted(inner, numbers, side="right")).astype(np.int64)

    def label(self, place: int, bins: int) -> str:
        """A bin in words: its level, or both its ends."""
        if self.levels:
            return shown(self.levels[place])
        edges = self.edges(bins)
        return f"{shown(float(edges[place]))} to {shown(float(edges[place + 1]))}"

    def span(self) -> float:
        """Length of the range in its scale: decades of a logarithmic one, units of a linear one."""
        return float(np.log10(self.high / self.low)) if self.log else float(self.high - self.low)


def shown(value: float | str) -> str:
    """A value of a hyperparameter as a reader sees it: three significant digits."""
    return value if isinstance(value, str) else f"{value:.3g}"


def axes_of(results: Results, task: str, method: str | None = None) -> tuple[Axis, ...]:
    """The hyperparameters that vary within at least one method on a task, or within one, in the order of the plan.

    The discriminator's learning rate appears as its quotient with the generator's, which is what a sweep draws, and not
    at all where that is fixed. Found once for the same results, as a dozen figures ask.
    """
    if id(results) not in _FOUND:
        _FOUND[id(results)] = {}
        weakref.finalize(results, _FOUND.pop, id(results), None)
    known = _FOUND[id(results)]
    if (task, method) not in known:
        known[task, method] = _axes_of(results, task, method)
    return known[task, method]


def _axes_of(results: Results, task: str, method: str | None) -> tuple[Axis, ...]:
    rows = results.plan[results.plan["task"] == task]
    if method is not None:
        rows = rows[rows["method"] == method]
    columns = _columns(results, rows)
    found = {name: values for name, values in columns.items() if _varies(values, rows["method"])}
    return tuple(_axis(name, values, rows, results) for name, values in found.items())


def axis_named(axes: tuple[Axis, ...], name: str) -> Axis | None:
    """The axis with a word or column, None where there is none."""
    return next((axis for axis in axes if name in (axis.word, axis.name)), None)


def hyperparameters(results: Results) -> tuple[str, ...]:
    """Columns of the plan that are hyperparameters: ours, and whatever an imported table has beside."""
    return tuple(str(name) for name in results.plan.columns if name not in _NOT_HYPERPARAMETERS)


def word_columns(frame: pd.DataFrame) -> Mapping[str, pd.Series]:
    """The sweep file's words as columns: each hyperparameter by both names, lr_d_ratio computed."""
    found: dict[str, pd.Series] = {str(name): frame[name] for name in frame.columns}
    if "lr_g" in found:
        found["lr"] = found["lr_g"]
        if "lr_d" in found:
            found[RATIO] = ratio(frame)
    return found


def ratio(frame: pd.DataFrame) -> pd.Series:
    """The quotient of both learning rates, to nine digits: both were rounded to twelve before they were kept."""
    exact = (frame["lr_d"].astype("float64") / frame["lr_g"].astype("float64")).rename(RATIO)
    short = {value: float(f"{value:.9g}") for value in exact.dropna().unique()}
    return exact.map(short).astype("float64")


def parts_where(domain: Domain | When | None, rows: pd.DataFrame) -> list[tuple[Domain | None, BoolArray]]:
    """The plain domains that a prior consists of for some trials, each with the trials that it holds for.

    Args:
        domain: The prior of a hyperparameter; None where it has none.
        rows: Trials, with the columns that a dependent prior depends on.

    Returns:
        Domains, or None where the prior says nothing, and masks of shape (rows,) that exclude each other.
    """
    if not isinstance(domain, When):
        return [(domain, np.ones(len(rows), dtype=bool))]
    choice = rows[domain.name] if domain.name in rows.columns else pd.Series(None, index=rows.index, dtype=object)
    cases = choice.map(_case).to_numpy(dtype=object)
    found: dict[Domain | None, BoolArray] = {}
    for case in dict.fromkeys(cases):
        part = domain.cases.get(str(case), domain.otherwise)
        found[part] = found.get(part, np.zeros(len(rows), dtype=bool)) | (cases == case)
    return list(found.items())


def tally(cells: IntArray, count: int, values: npt.ArrayLike, trials: Sample) -> tuple[FloatArray, IntArray]:
    """A number summed over the points in each cell, where a point counts by the mean of its trials there.

    Args:
        cells: shape (trials,), the cell of each trial, 0 to count - 1; -1 for a trial in none.
        count: Number of cells.
        values: shape (trials,), a number per trial; NaN for an undecided one, which counts nowhere.
        trials: The sample that says which trial belongs to which point.

    Returns:
        The sums and the numbers of points, shape (count,) each.
    """
    numbers = np.asarray(values, dtype=np.float64)
    kept = (cells >= 0) & ~np.isnan(numbers)
    index, replicates = trials.clusters()
    key = cells[kept] * len(replicates) + index[kept]
    size = count * len(replicates)
    sums, sizes = np.bincount(key, weights=numbers[kept], minlength=size), np.bincount(key, minlength=size)
    means = np.divide(sums, sizes, out=np.zeros(size), where=sizes > 0).reshape(count, -1)
    return means.sum(axis=1), (sizes.reshape(count, -1) > 0).sum(axis=1).astype(np.int64)


def _case(value: object) -> str:
    """A choice as the cases of a dependent prior name it: a whole number without a point, nothing for none."""
    if value is None or value != value:
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _columns(results: Results, rows: pd.DataFrame) -> dict[str, pd.Series]:
    names = hyperparameters(results)
    drawn = "lr_g" in names and "lr_d" not in results.domains
    return {
        RATIO if name == "lr_d" and drawn else name: ratio(rows) if name == "lr_d" and drawn else rows[name]
        for name in names
    }


def _varies(values: pd.Series, methods: pd.Series) -> bool:
    known = values.notna().to_numpy()
    found = values.to_numpy()[known]
    if not len(found) or bool((found == found[0]).all()):
        return False
    return bool(values[known].groupby(methods[known]).nunique().max() > 1)


def _axis(name: str, values: pd.Series, rows: pd.DataFrame, results: Results) -> Axis:
    word = WORDS.get(name, name)
    known = values.dropna()
    parts = _parts(name, word, rows.loc[known.index], results)
    if not pd.api.types.is_numeric_dtype(known) or pd.api.types.is_bool_dtype(known):
        return Axis(name, word, log=False, levels=_levels(set(map(str, known)), parts), low=np.nan, high=np.nan)
    ranges = [part for part in parts if isinstance(part, Uniform | LogUniform)]
    visited = bool(rows["sampler"].isin(_VISITED).all())
    low, high, log = _support(known, ranges)
    most = MANY if parts and not ranges else FEW
    levels = _levels(set(known.astype("float64")), [] if ranges else parts) if known.nunique() <= most else ()
    return Axis(name, word, log, levels if visited or not ranges else (), low, high)


def _parts(name: str, word: str, rows: pd.DataFrame, results: Results) -> list[Domain]:
    """The plain domains that some trials drew a hyperparameter from, each method from its own."""
    found: list[Domain | None] = []
    for method in rows["method"].unique():
        domains = results.domains_of(method)
        domain = domains.get(word, domains.get(name))
        if isinstance(domain, When):
            needed = [domain.name] if domain.name in rows.columns else []
            found += [part for part, _ in parts_where(domain, rows.loc[rows["method"] == method, needed])]
        else:
            found.append(domain)
    return [part for part in dict.fromkeys(found) if part is not None]


def _levels(seen: set[Level], parts: list[Domain]) -> tuple[Level, ...]:
    """The values that a prior lists, drawn yet or not; those seen, where they are others."""
    kind = type(next(iter(seen)))
    listed = {kind(value) for part in parts for value in values_of(part)}
    return tuple(sorted(listed if seen <= listed else seen))


def _support(values: pd.Series, ranges: list[Uniform | LogUniform]) -> tuple[float, float, bool]:
    """Both ends and whether the scale is logarithmic: the prior's where it has a range, else from the values."""
    low, high = float(values.min()), float(values.max())
    if not ranges:
        wide = low > 0 and high / low >= WIDE
        return low, high, wide and _lopsided(np.log(values)) < _lopsided(values)
    ends = [float(end) for part in ranges for end in values_of(part)]
    low, high = min(low, *ends), max(high, *ends)  # a source may declare less than it drew from
    return low, high, low > 0 and isinstance(ranges[0], LogUniform)


def _lopsided(values: pd.Series) -> float:
    """How far the median lies from the middle of the range, as a share of it: 0 for what is spread evenly."""
    low, high = float(values.min()), float(values.max())
    return abs(float(values.median()) - (low + high) / 2) / (high - low)

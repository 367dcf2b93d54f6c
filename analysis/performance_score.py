"""How near each method comes to the fastest one, over all tasks of a run: performance profiles and their score.

A method's cost on a task is the median number of steps until the best of a few configurations, drawn from the prior,
first meets the threshold; infinite where more than half of such searches never do. Its ratio is that cost over the
least of all methods; the profile of a method is the share of tasks where the ratio is at most r, and its score is the
mean height of the profile between 1 and `R_MAX`.

Both depend on which methods are compared: a new one that is faster changes the ratios of all. A task that a method
never solved stays in the denominator, with an infinite ratio.

References: Dolan and More 2002 (profiles); Gould and Scott 2016 (their dependence on who is compared); Dahl et al. 2023
(AlgoPerf: time to a target, the best of five trials, the median of studies, the area up to four times the fastest).
The integral is in closed form here, and the median is that of all searches instead of three.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis import horizon, intervals
from analysis.answers import Answer, Look, of_a_prior, setting
from analysis.budgets import median_of_best
from analysis.intervals import Estimate
from analysis.outcomes import FAILURES, FloatArray, Points, Sample, sample
from analysis.results import Results
from study.errors import UserError, unknown

R_MAX = 4.0
"""A method so many times slower than the fastest scores nothing on a task."""

TRIES = 5
"""Configurations that a search tries."""

BOUNDS = {"decided": np.nan, "at once": 0.0, "never": np.inf}
"""What stands for the time of an undecided trial: nothing, the least that it can become, and the most."""


@dataclass(frozen=True)
class Performance:
    """A method over all tasks of a run.

    Attributes:
        method: Its name.
        costs: shape (tasks,), steps until a search meets the threshold; +inf for never, NaN with nothing decided.
        ratios: shape (tasks,), costs over the least of all methods, at least 1; +inf for never.
        score: Mean over tasks of the area under the step at the ratio, 0 to 1; the interval speaks of tasks like these.
        worst: The score if this method's undecided trials never met the threshold, and those of all others at once.
        best: The score the other way round.
    """

    method: str
    costs: FloatArray
    ratios: FloatArray
    score: Estimate
    worst: float
    best: float

    def share(self, r: npt.ArrayLike) -> FloatArray:
        """The performance profile: share of tasks on which the ratio is at most r, of the shape of r."""
        known = self.ratios[~np.isnan(self.ratios)]
        return np.asarray((known <= np.asarray(r, dtype=np.float64)[..., None]).mean(axis=-1), dtype=np.float64)


def ratios(costs: FloatArray) -> FloatArray:
    """Each method's cost over the least on a task; +inf where it is infinite, so also where all are.

    Args:
        costs: shape (methods, tasks), at least 0; +inf for a task that was not solved, NaN for an undecided one.

    Returns:
        shape (methods, tasks), at least 1; NaN where the cost is.
    """
    known = np.where(np.isnan(costs), np.inf, costs)
    least = known.min(axis=0, initial=np.inf)
    with np.errstate(invalid="ignore", divide="ignore"):
        found = np.where(costs == least, 1.0, costs / least)  # nothing over nothing is as fast as the fastest
    return np.where(np.isposinf(costs), np.inf, found)


def points_of(ratio: FloatArray, *, r_max: float = R_MAX) -> FloatArray:
    """The area under a step that rises at a ratio, as a share of that from 1 to `r_max`: (r_max - r) / (r_max - 1).

    Args:
        ratio: Any shape, at least 1.
        r_max: Above 1.

    Returns:
        The same shape, 0 to 1; their mean over tasks is the score.

    Raises:
        ValueError: r_max is no number above 1.
    """
    if not 1 < r_max < np.inf:
        raise ValueError(f"r_max must be a finite number above 1, got {r_max}")
    return np.clip((r_max - ratio) / (r_max - 1), 0.0, 1.0)


def performance(
    results: Results, *, tries: int = TRIES, r_max: float = R_MAX, unit: str | None = None
) -> tuple[Performance, ...]:
    """Every method's costs, ratios and score over all tasks, in plan order.

    Args:
        results: The results, with their history.
        tries: Configurations that a search tries, at least 1.
        r_max: The ratio from which on a task scores nothing, above 1.
        unit: What steps are counted in, one of `horizon.UNITS`; None for what each task's budget is counted in.
    """
    tables = {name: _costs(results, stand_in, tries, unit) for name, stand_in in BOUNDS.items()}
    found = ratios(tables["decided"])
    area = points_of(found, r_max=r_max)
    return tuple(
        Performance(
            method,
            tables["decided"][place],
            found[place],
            score(area[place]),
            worst=_among(tables["never"], tables["at once"], place, r_max),
            best=_among(tables["at once"], tables["never"], place, r_max),
        )
        for place, method in enumerate(results.methods)
    )


def score(area: FloatArray) -> Estimate:
    """The mean over tasks of what each adds to the score, shape (tasks,); the task is the unit of its interval.

    Wilson's whatever the tasks: of 3 to 12 of them with skewed ratios, t over the tasks errs in 7 to 11 % at one end
    where 2.5 % is promised, Wilson's in 5 % at most.
    """
    known = area[~np.isnan(area)]
    found = intervals.wilson_mean(Points(known, np.zeros(len(known), dtype=np.int64)))
    return replace(found, method=found.method.replace("point", "task")) if found.n else found


def _among(own: FloatArray, others: FloatArray, place: int, r_max: float) -> float:
    """A method's score with its own row of one table of costs and everybody else's of another."""
    costs = others.copy()
    costs[place] = own[place]
    return score(points_of(ratios(costs)[place], r_max=r_max)).value


def _costs(results: Results, stand_in: float, tries: int, unit: str | None) -> FloatArray:
    """The cost of every method on every task, shape (methods, tasks); NaN where nothing is decided."""
    times = [reached(results, task, unit=unit) for task in results.tasks]
    table = np.full((len(results.methods), len(results.tasks)), np.nan)
    for column, (rows, found) in enumerate(times):
        filled = np.where(np.isnan(found.values), stand_in, found.values)
        for row, method in enumerate(results.methods):
            here = rows == method
            arm = Sample(filled[here], found.replicates[here], found.points[here])
            table[row, column] = median_of_best(arm, [tries])[0][0]
    return table


def reached(results: Results, task: str, *, unit: str | None = None) -> tuple[npt.NDArray[np.object_], Sample]:
    """The method of each planned trial of a task, and the steps until its metric first met the threshold.

    +inf for a trial that ended without; NaN for one without a row or a history, or stopped, whether it had met the
    threshold or not: to count only those that had would be to count the fast ones. A trial that met the threshold and
    was lost afterwards has met it, which is where this score differs from success.
    """
    found = horizon.curves(results, task, unit=unit)
    trials = sample(found.rows)
    with np.errstate(invalid="ignore"):
        met = np.where(found.values <= results.facts(task).threshold, found.steps, np.inf)
    first = met.min(axis=1, initial=np.inf)
    broken = found.rows["status"].isin(FAILURES).to_numpy()
    decided = broken | (trials.known() & (found.counts > 0))
    methods = found.rows["method"].to_numpy(dtype=object)
    return methods, Sample(np.where(decided, first, np.nan), trials.replicates, trials.points)


def asked(
    results: Results, methods: Sequence[str], *, tries: int, r_max: float, unit: str | None
) -> Answer[Performance]:
    """How near each method comes to the fastest over all tasks of a run; the fastest of all methods, shown or not.

    Raises:
        UserError: A method is not planned, a number or unit is none, there is no history, or configurations were chosen
            by results.
    """
    of_a_prior(results, "performance score")
    _check(results, methods, tries, r_max, unit)
    items = performance(results, tries=tries, r_max=r_max, unit=unit)
    items = tuple(item for item in items if not methods or item.method in methods)
    rows = [row for item in items for row in _rows(results, item, r_max)]
    look = Look("dots", "score", "low", "high", ("method", "task"), f"area under the profile up to {r_max:g} times")
    question = f"How near the best of {tries} configurations comes to the fastest method's, in steps to the threshold"
    return Answer(question, setting(results, results.tasks), items, pd.DataFrame(rows), look)


def _rows(results: Results, item: Performance, r_max: float) -> list[dict[str, object]]:
    """A method's score, and below it what each task adds."""
    key = {"method": item.method, "order": results.methods.index(item.method)}
    ends = {"score": item.score.value, "low": item.score.low, "high": item.score.high, "interval": item.score.method}
    bounds = {"worst": item.worst, "best": item.best, "cost": np.nan, "ratio": np.nan}
    rows: list[dict[str, object]] = [{"task": "all tasks", **key, **ends, **bounds}]
    area = points_of(item.ratios, r_max=r_max)
    for task, cost, ratio, part in zip(results.tasks, item.costs, item.ratios, area, strict=True):
        rows.append({"task": task, **key, "score": part, "interval": "", "cost": cost, "ratio": ratio})
    return rows


def _check(results: Results, methods: Sequence[str], tries: int, r_max: float, unit: str | None) -> None:
    for method in methods:
        if method not in results.methods:
            raise unknown("method", method, results.methods)
    if unit is not None and unit not in horizon.UNITS:
        raise unknown("unit", unit, horizon.UNITS)
    if tries < 1:
        raise UserError(f"tries = {tries}: a search tries at least 1 configuration")
    if not 1 < r_max < np.inf:
        raise UserError(f"r_max = {r_max}: the ratio that scores nothing is a finite number above 1, 4 as a rule")
    if not any(horizon.curves(results, task, unit=unit).counts.any() for task in results.tasks):
        raise UserError("there is no performance score: no history says when a trial met the threshold")

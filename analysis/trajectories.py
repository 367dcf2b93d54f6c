"""What happened on the way: how trials ended, whether divergences fell at every step, and when the threshold was met.

A trial that fails early for want of training is another matter than one that was there and lost it, and a success that
came by a detour is another than one that came straight. All of this is read off the history; the unit of independence
stays the design point. Where configurations were chosen by what was seen (`Results.adaptive`), shares are of the trials
that were run and have no interval.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special

from analysis import horizon, intervals
from analysis.horizon import Curves
from analysis.intervals import Estimate
from analysis.outcomes import FAILURES, FloatArray, Points, Sample, sample
from analysis.pairing import KEY
from analysis.profiles import utility
from analysis.results import Results, TaskFacts
from study.records import TAIL_LEAST
from study.schema import Status

ENDINGS = ("success", "never reached", "reached and lost", "collapsed", "diverged", "oom", "undecided")
"""How a trial can end, see `endings`."""

BETTER = 0.25
"""Log score (0 at the anchor of an untrained generator, 1 at that of a perfect one) from which a trial had got away."""

GAP = 0.5
"""Of a trial's steps: as many without an evaluation may hide that it was at the threshold and lost it."""

RISE = 0.95
"""Confidence that an interval called rising is no noise."""

GROUPS = ("all", "successful", "failed")
"""Trials whose rising steps are averaged."""

BoolArray = npt.NDArray[np.bool_]


def endings(results: Results, task: str) -> pd.DataFrame:
    """How each planned trial of a task ended: columns `trial_id`, `method` and `ending`.

    The ending is the first of these that holds:

    - `diverged`, `oom`: as its status says;
    - `success`: the primary value, a median over the last evaluations, is at or below the threshold;
    - `undecided`: without a row, stopped, or completed above the threshold without a history;
    - `collapsed`: the primary value is at or above the anchor that scores 0 (about what an untrained or constant
      generator has), though some evaluation had scored `BETTER` or more on the way from there to the other anchor, in
      logarithms. What is stored is one number of the generator, so a loss of modes that costs less than that is not
      called a collapse;
    - `reached and lost`: some evaluation was at or below the threshold;
    - `never reached`: none was; where more than `GAP` of the trial's steps lie between two evaluations, or before the
      first, nobody knows, and it is `undecided`.
    """
    found = horizon.curves(results, task)
    return found.rows[["trial_id", "method"]].assign(ending=_endings(found, results.facts(task)))


def _endings(found: Curves, facts: TaskFacts) -> npt.NDArray[np.object_]:
    status = found.rows["status"].to_numpy(dtype=object)
    primary = found.rows["primary"].to_numpy(dtype=np.float64)
    best = np.where(np.isnan(found.values), np.inf, found.values).min(axis=1, initial=np.inf)
    better = utility(best, low=facts.anchor_low, high=facts.anchor_high) >= BETTER
    completed = status == Status.COMPLETED.value
    with np.errstate(invalid="ignore"):
        cases: dict[str, BoolArray] = {
            "diverged": status == Status.DIVERGED.value,
            "oom": status == Status.OOM.value,
            "success": completed & (primary <= facts.threshold),
            "undecided": ~completed | (found.counts == 0),
            "collapsed": better & (primary >= facts.anchor_high),
            "reached and lost": best <= facts.threshold,
            "never reached": _followed(found),
        }
    return np.select(list(cases.values()), list(cases), default="undecided").astype(object)


def _followed(found: Curves) -> BoolArray:
    """Which trials were evaluated after each `GAP` of their steps at least, shape (trials,)."""
    if not found.counts.any():
        return np.zeros(len(found.counts), dtype=np.bool_)
    apart = np.diff(found.steps, axis=1, prepend=0.0)
    return np.asarray((found.counts > 0) & (np.nan_to_num(apart).max(axis=1) <= GAP * found.done), dtype=np.bool_)


def untrained_share(results: Results, task: str, method: str) -> Estimate | None:
    """Of a method's failures, the share that never reached the threshold and did not break either: not trained yet.

    Returns:
        A share of the design points with failures, a point's failures averaged first; None where nothing failed, or
        where the history of a trial does not say how.
    """
    found = horizon.curves(results, task)
    ending, own = _endings(found, results.facts(task)), (found.rows["method"] == method).to_numpy()
    failed = own & ~np.isin(ending, ("success", "undecided"))
    unknown = own & (ending == "undecided") & (found.rows["status"] == Status.COMPLETED.value) & (found.counts > 0)
    if not failed.any() or not found.counts.any() or unknown.any():
        return None
    arm = Arm(sample(found.rows[failed]))
    return _stated(results, intervals.wilson_mean(arm.means(ending[failed] == "never reached")))


class Arm:
    """The trials of one method, for many means over their points."""

    def __init__(self, trials: Sample) -> None:
        """Find the point of each trial once."""
        self._index, self._replicates = trials.clusters()

    def means(self, values: npt.ArrayLike, known: BoolArray | None = None) -> Points:
        """The mean of a number over the known trials of each point that has some; see `outcomes.point_means`."""
        numbers = np.asarray(values, dtype=np.float64)
        known = np.ones(len(numbers), dtype=bool) if known is None else known
        count = len(self._replicates)
        sizes = np.bincount(self._index, weights=known, minlength=count)
        totals = np.bincount(self._index, weights=np.where(known, numbers, 0.0), minlength=count)
        seen = sizes > 0
        return Points(totals[seen] / sizes[seen], self._replicates[seen])


def _stated(results: Results, found: Estimate) -> Estimate:
    """An estimate as it may be stated: without an interval where configurations were chosen by results."""
    if results.adaptive is None:
        return found
    return Estimate(
        found.value, math.nan, math.nan, found.n, f"no interval: configurations chosen by {results.adaptive}"
    )


# Over the budget


def success_by_budget(results: Results, task: str, *, budgets: Sequence[float] | None = None) -> pd.DataFrame:
    """The success fraction as it was at earlier budgets.

    Args:
        results: The results, with their history.
        task: Name of a task.
        budgets: In the unit of the plan's budget; None for a grid of evaluations, see `horizon.budgets_of`.

    Returns:
        A row per method and budget: `task`, `method`, `unit`, `steps`, `value` with `low`, `high` and `interval`, the
        `points` that it rests on and the trials `undecided`. Without a history, no rows.
    """
    found, facts = horizon.curves(results, task), results.facts(task)

    def look(steps: float) -> tuple[BoolArray, BoolArray]:
        coded = horizon.coded_at(found, steps)
        return coded <= facts.threshold, ~np.isnan(coded)

    return _over(results, task, found, horizon.budgets_of(found) if budgets is None else budgets, look)


def time_to_threshold(results: Results, task: str, *, budgets: Sequence[float] | None = None) -> pd.DataFrame:
    """The cumulative incidence of a first evaluation at or below the threshold, with failure as a competing event.

    A trial that diverged will never reach the threshold: it stays in the denominator. Taking it for censored, as
    Kaplan and Meier's estimator would, promises its share to the others. Every decided trial is followed to the end of
    the budget, so that the incidence is the plain share of those that got there (Kalbfleisch and Prentice 1980, ch. 8).

    Args:
        results: The results, with their history.
        task: Name of a task.
        budgets: In the unit of the plan's budget; None for a grid of all evaluations.

    Returns:
        Columns as of `success_by_budget`, and `failed`: the share that had diverged, or did not fit into memory,
        without having reached the threshold.
    """
    found = horizon.curves(results, task)
    first = _first_success(found, results.facts(task))
    rows, columns = np.arange(len(first)), np.minimum(first, max(0, found.steps.shape[1] - 1))
    reached = np.full(len(first), np.inf)
    if found.steps.size:
        reached = np.where(first < found.counts, found.steps[rows, columns], np.inf)
    broken = found.rows["status"].isin(FAILURES).to_numpy()
    failed = broken & np.isinf(reached)
    decided = ~np.isnan(sample(found.rows).values) & ((found.counts > 0) | broken)
    grid = np.unique(found.steps[~np.isnan(found.steps)]) if budgets is None else np.asarray(budgets)
    table = _over(results, task, found, _thin(grid), lambda steps: (reached <= steps, decided))
    lost = _over(results, task, found, _thin(grid), lambda steps: (failed & (found.done < steps), decided))
    return table.assign(failed=lost["value"])


def _thin(grid: FloatArray) -> FloatArray:
    places = np.linspace(0, max(0, len(grid) - 1), min(horizon.BUDGETS, len(grid))).round().astype(np.int64)
    return np.asarray(grid[places], dtype=np.float64)


def _over(
    results: Results,
    task: str,
    found: Curves,
    budgets: Sequence[float] | FloatArray,
    look: Callable[[float], tuple[BoolArray, BoolArray]],
) -> pd.DataFrame:
    """The mean of what `look` sees of each trial at each budget, by method; it gives values and which are known."""
    seen = [look(float(steps)) for steps in budgets]
    rows = []
    for method in results.methods_of(task) if found.counts.any() else ():
        here = (found.rows["method"] == method).to_numpy()
        arm = Arm(sample(found.rows[here]))
        for steps, (values, known) in zip(budgets, seen, strict=True):
            points = arm.means(values[here], known[here])
            estimate = _stated(results, intervals.proportion(points))
            rows.append(
                {"task": task, "method": method, "unit": found.unit, "steps": float(steps)}
                | _columns(estimate)
                | {"undecided": int(np.sum(~known[here]))}
            )
    return pd.DataFrame(rows, columns=["task", "method", "unit", "steps", *_columns(intervals.NOTHING), "undecided"])


def _columns(found: Estimate) -> dict[str, object]:
    ends = {"value": found.value, "low": found.low, "high": found.high}
    return ends | {"interval": found.method, "points": found.n}


def _first_success(found: Curves, facts: TaskFacts) -> npt.NDArray[np.int64]:
    """Index of each trial's first evaluation at or below the threshold; the number of evaluations where none is."""
    below = found.values <= facts.threshold
    first = np.argmax(below, axis=1) if below.shape[1] else np.zeros(len(below), dtype=np.int64)
    return np.where(below.any(axis=1), first, below.shape[1]).astype(np.int64)


# Rising steps


def rising_steps(results: Results, task: str, *, metric: str = "primary") -> pd.DataFrame:
    """The share of evaluation intervals in which a divergence rises, of each trial.

    Counted are the intervals up to the first evaluation at or below the threshold: once there, a trial only wanders
    (a direct minimiser of the divergence rises in about a third of the intervals then). An interval rises if the
    metric's logarithm (the metric itself, where it is not positive throughout the task) grows by more than noise does:
    by more than Student's t at confidence `RISE` times the root mean square of the changes between the trial's last
    evaluations, those that its primary value is the median of. That noise holds the trial's own late oscillations too,
    so the share errs downwards; of pure noise it calls 1 in 20 intervals rising.

    Args:
        results: The results, with their history.
        task: Name of a task.
        metric: A column of the history.

    Returns:
        A row per planned trial: `trial_id`, `method`, `ending`, the `intervals` counted, the `share` of them that rise,
        and the share `raw` in which the metric grows at all, noise or not. Both are NaN for a trial with fewer than
        five evaluations, without an interval before its first success, or undecided.
    """
    found, facts = horizon.curves(results, task, *({metric} - {"primary"})), results.facts(task)
    ending = _endings(found, facts)
    values = found.others.get(metric, found.values)
    if np.nanmin(values, initial=np.inf) > 0:
        values = np.log(values)
    changes = np.diff(values, axis=1)
    counted = (np.arange(1, changes.shape[1] + 1) <= _first_success(found, facts)[:, None]) & ~np.isnan(changes)
    limits = {"share": _noise(values, found), "raw": np.zeros(len(values))}
    count = np.where((found.counts >= TAIL_LEAST) & (ending != "undecided"), counted.sum(axis=1), 0)
    rising = {name: np.sum(counted & (changes > limit[:, None]), axis=1) for name, limit in limits.items()}
    shares = {name: np.where(count > 0, rises / np.maximum(count, 1), np.nan) for name, rises in rising.items()}
    return found.rows[["trial_id", "method"]].assign(ending=ending, intervals=count, **shares)


def _noise(values: FloatArray, found: Curves) -> FloatArray:
    """What a change has to exceed to be no noise, shape (trials,)."""
    limit = np.full(len(values), np.nan)
    for count in np.unique(found.counts[found.counts >= TAIL_LEAST]):
        here = found.counts == count
        length = horizon.tail_length(int(count))
        late = np.diff(values[here, count - length : count], axis=1)
        factor = float(special.stdtrit(late.shape[1], RISE))
        limit[here] = factor * np.sqrt(np.mean(late**2, axis=1))
    return limit


def rising_shares(results: Results, task: str, *, metric: str = "primary") -> pd.DataFrame:
    """The mean share of rising intervals, by method and for all, successful and failed trials.

    Returns:
        A row per method and group of `GROUPS`: `task`, `method`, `group`, `value` with `low`, `high` and `interval`,
        the `points` and `trials` that it rests on, and over those trials the mean share `raw` and the mean number of
        `intervals`. Trials without a share are left out: they have nothing that could rise.
    """
    table = rising_steps(results, task, metric=metric)
    outcomes = results.outcomes(task)
    rows = [
        {"task": task, "method": method, "group": group} | _rising(results, table[here], sample(outcomes[here]))
        for method in results.methods_of(task)
        for group in GROUPS
        for here in [_members(table, method, group)]
    ]
    return pd.DataFrame(rows)


def _members(table: pd.DataFrame, method: str, group: str) -> BoolArray:
    success = table["ending"] == "success"
    inside = {"all": success | ~success, "successful": success, "failed": ~success}[group]
    found: BoolArray = ((table["method"] == method) & table["share"].notna() & inside).to_numpy(dtype=bool)
    return found


def _rising(results: Results, table: pd.DataFrame, trials: Sample) -> dict[str, object]:
    estimate = _stated(results, intervals.bounded_mean(Arm(trials).means(table["share"].to_numpy(dtype=np.float64))))
    means = {name: float(table[name].mean()) for name in ("raw", "intervals")}
    return _columns(estimate) | {"trials": len(table)} | means


def rising_difference(
    results: Results, task: str, method: str, control: str, *, metric: str = "primary", group: str = "all"
) -> Estimate:
    """The difference of a method's share of rising intervals and a control's, on equal configurations and seeds.

    A method that minimises the divergence itself (the loss `energy`, say) at the same batch and rates rises now and
    then as well, from the noise of its gradients: only what goes beyond it says that another way was taken.

    Args:
        results: The results, with their history.
        task: Name of a task.
        method: Name of a method.
        control: Name of another.
        metric: A column of the history.
        group: Which trials of the method, one of `GROUPS`; of the control, all.

    Returns:
        The difference over pairs of which both have a share; no trials where there are none.

    Raises:
        ValueError: A method is not planned on the task, or the group is none.
    """
    planned = results.methods_of(task)
    for name in (method, control):
        if name not in planned:
            raise ValueError(f"method {name!r} is not planned on {task}; planned: {list(planned)}")
    if group not in GROUPS:
        raise ValueError(f"unknown group {group!r}; known: {list(GROUPS)}")
    table = rising_steps(results, task, metric=metric)
    table = table.assign(**results.outcomes(task)[[*KEY, "replicate", "point"]])
    arms = [table[_members(table, method, group)], table[_members(table, control, "all")]]
    joined = arms[0].merge(arms[1], on=KEY, suffixes=("", "_control")).sort_values(KEY, ignore_index=True)
    pairs = Sample(
        (joined["share"] - joined["share_control"]).to_numpy(dtype=np.float64),
        joined["replicate"].to_numpy(dtype=np.int64),
        joined["point"].to_numpy(dtype=np.int64),
    )
    return _stated(results, intervals.difference(Arm(pairs).means(pairs.values)))

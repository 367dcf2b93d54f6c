"""A sweep as it stood at earlier budgets: outcomes recomputed from the history.

A trial's primary value is the median over the last fifth of its evaluations, at least five. At an earlier budget D all
trials are measured at the same places, which lie in D as those evaluations lie in a whole budget: of 25 even ones, and
of any number that lie late, at .84 D, .88 D, .92 D, .96 D and D, whatever the steps at which a trial itself was
evaluated. Counting back a trial's own evaluations instead would reach further back in those with fewer of them by D,
those with a larger n_critic, say, and call them worse. A value between two evaluations is interpolated, in the
logarithm where both are positive, and behind the last one it is the last. A whole trial has the value of its row. A
trial that diverges later has not diverged yet.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.outcomes import FloatArray, IntArray, code
from analysis.results import Results
from study import schema
from study.records import TAIL_LEAST, TAIL_SHARE
from study.schema import Status
from study.trial import LATE, MOST

UNITS = ("generator_steps", "discriminator_steps", "updates")
"""What a budget may be counted in; updates are both players' together."""

BUDGETS = 25
"""Most budgets that are looked at by default."""

COARSEST = 0.25
"""Evaluations that are farther apart than this share of a budget do not say how a trial stood there."""

STEPS = ("generator_steps", "discriminator_steps")


BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Curves:
    """The evaluations of a task's planned trials; a row per trial, a column per evaluation, NaN beyond its last one.

    Attributes:
        rows: `Results.outcomes` of the task.
        unit: What `steps` counts, one of `UNITS`.
        even: Of how many even evaluations those of the last fifth lie as the trials' last ones do.
        steps: shape (trials, evaluations), the part of the budget that was spent at each evaluation.
        values: shape (trials, evaluations), the primary metric.
        counts: shape (trials,), how many evaluations each trial has; 0 without a history.
        done: shape (trials,), steps that each trial made, of one that diverged up to there; where its row does not say,
            those of its last evaluation.
        others: Further columns of the history, shaped as `values`.
    """

    rows: pd.DataFrame
    unit: str
    even: int
    steps: FloatArray
    values: FloatArray
    counts: IntArray
    done: FloatArray
    others: Mapping[str, FloatArray]


def unit_of(results: Results, task: str) -> str:
    """What the budget of a task is counted in; generator steps, where its plan says something else."""
    units = results.plan.loc[results.plan["task"] == task, "budget_unit"].unique()
    return str(units[0]) if len(units) == 1 and units[0] in UNITS else UNITS[0]


def curves(results: Results, task: str, *others: str, unit: str | None = None) -> Curves:
    """A task's history as matrices; evaluations in their order, whatever the order of rows. Made once per `Results`.

    Args:
        results: The results, with their history.
        task: Name of a task.
        others: Further columns of the history.
        unit: What to count steps in, one of `UNITS`; None for what the plan's budget is counted in.

    Raises:
        ValueError: For an unknown unit or column.
    """
    unit = unit or unit_of(results, task)
    if unit not in UNITS:
        raise ValueError(f"a budget is counted in {', '.join(UNITS)}, not in {unit}")
    of_trials = {column.name for column in schema.TABLES["trials"]}
    known = {*(column.name for column in schema.HISTORY), *(set(results.trials.columns) - of_trials)}
    for name in others:
        if name not in known:
            raise ValueError(f"the history has no column {name!r}: take a metric, a loss or a norm of a gradient")
    key = (task, others, unit)
    if key not in results.memory:
        results.memory[key] = _curves(results, task, others, unit)
    found: Curves = results.memory[key]
    return found


def _curves(results: Results, task: str, others: tuple[str, ...], unit: str) -> Curves:
    rows = results.outcomes(task)
    history = results.history("trial_id", "evaluation", *STEPS, "primary", *others)
    trial = pd.Index(rows["trial_id"].astype(object)).get_indexer(pd.Index(history["trial_id"].astype(object)))
    order = np.lexsort((history["evaluation"].to_numpy(dtype=np.int64), trial))
    order = order[np.searchsorted(trial[order], 0) :]  # trials of other tasks have -1
    trial = trial[order]
    counts = np.bincount(trial, minlength=len(rows)).astype(np.int64)
    place = np.arange(len(trial)) - np.repeat(np.cumsum(counts) - counts, counts)

    def matrix(values: FloatArray) -> FloatArray:
        found = np.full((len(rows), int(counts.max(initial=0))), np.nan)
        found[trial, place] = values[order]
        return found

    steps = matrix(_in_unit(history, unit))
    values, *further = (matrix(history[name].to_numpy(dtype=np.float64)) for name in ("primary", *others))
    done = _done(rows, steps, unit)
    even = MOST if _late(results, task) else steps.shape[1]
    return Curves(rows, unit, even, steps, values, counts, done, dict(zip(others, further, strict=True)))


def _late(results: Results, task: str) -> bool:
    """True where a task's trials were planned to be evaluated late in their budgets."""
    planned = results.plan[results.plan["task"] == task]
    return "schedule" in planned and bool((planned["schedule"] == LATE).any())


def coded_at(found: Curves, steps: float) -> FloatArray:
    """The coded outcome of each trial after some steps, shape (trials,): see `outcomes.code`.

    NaN where a trial has no row, was stopped by then, or was evaluated too seldom to say.
    """
    ended = found.rows["status"].notna().to_numpy()
    final = code(found.rows["status"].to_numpy(dtype=object), found.rows["primary"].to_numpy(dtype=np.float64))
    # a trial that diverged after so many steps was still sound there
    over = ended & (whole(found, steps) | (~_completed(found) & (found.done < steps)))
    now = np.where(ended, tail_at(found, steps), np.nan)
    return np.where(over, final, now)


def whole(found: Curves, steps: float) -> BoolArray:
    """Which trials had completed after some steps, shape (trials,)."""
    return np.asarray(_completed(found) & (found.done <= steps), dtype=np.bool_)


def _completed(found: Curves) -> BoolArray:
    return (found.rows["status"] == Status.COMPLETED.value).to_numpy(dtype=np.bool_)


def tail_at(found: Curves, steps: float, name: str | None = None) -> FloatArray:
    """Each trial's median over the places that stand for some steps, or for its end if that came before.

    Args:
        found: The curves.
        steps: The budget.
        name: One of `others`; None for the primary metric.

    Returns:
        shape (trials,), NaN where evaluations are more than `COARSEST` of the budget apart, or begin too late.
    """
    if not found.counts.any():
        return np.full(len(found.rows), np.nan)
    budget, count = _reached(found, steps), found.even
    places = range(count - tail_length(count) + 1, count + 1)
    return np.asarray(np.median([_between(found, budget * k / count, budget, name) for k in places], axis=0))


def last_at(found: Curves, steps: float, name: str | None = None) -> FloatArray:
    """Each trial's value after some steps, or at its end if that came before; otherwise as `tail_at`."""
    budget = _reached(found, steps)
    return _between(found, budget, budget, name) if found.counts.any() else np.full(len(budget), np.nan)


def _reached(found: Curves, steps: float) -> FloatArray:
    return np.where(whole(found, steps), found.done, float(steps))


def _between(found: Curves, places: FloatArray, budget: FloatArray, name: str | None) -> FloatArray:
    """Each trial's value at a place of its own, shape (trials,)."""
    values = found.values if name is None else found.others[name]
    rows, passed = np.arange(len(places)), np.sum(found.steps < places[:, None], axis=1)
    left, right = np.maximum(passed - 1, 0), np.minimum(passed, np.maximum(found.counts - 1, 0))
    start, end = found.steps[rows, left], found.steps[rows, right]
    first, second = values[rows, left], values[rows, right]
    share = np.divide(places - start, end - start, out=np.zeros(len(places)), where=end > start)
    with np.errstate(invalid="ignore"):
        straight = np.where(share > 0, (1 - share) * first + share * second, first)
        positive = (first > 0) & (second > 0)
    found_there = np.where(end == places, second, straight)
    curved = positive & (end != places) & (end > start)
    found_there[curved] = first[curved] ** (1 - share[curved]) * second[curved] ** share[curved]
    near = (passed > 0) & (np.maximum(end, places) - start <= COARSEST * budget)
    return np.where((end == places) | near, found_there, np.nan)


def tail_length(count: int) -> int:
    """How many of a trial's evaluations its primary value is the median of."""
    return min(count, max(TAIL_LEAST, int(np.ceil(TAIL_SHARE * count))))


def budgets_of(found: Curves, *, most: int = BUDGETS) -> FloatArray:
    """Budgets at which every trial that was still sound was evaluated often enough, ascending; the last is the whole.

    Args:
        found: The curves.
        most: How many at most, evenly spaced among the evaluations.

    Returns:
        shape (budgets,); empty without a history.
    """
    if not found.counts.any():
        return np.empty(0)
    sound = found.steps[_completed(found) & (found.counts > 0)]
    # the first place of a budget lies at this share of it
    begin = sound[:, 0] * found.even / (found.even - tail_length(found.even) + 1)
    apart = np.nan_to_num(np.diff(sound, axis=1)).max(axis=1, initial=0.0) / COARSEST
    steps = np.unique(found.steps[~np.isnan(found.steps)])
    least = min(steps[-1], np.maximum(begin, apart).max(initial=-np.inf))
    known = steps[steps >= least]
    places = np.linspace(0, len(known) - 1, min(most, len(known))).round().astype(np.int64)
    return np.asarray(known[places], dtype=np.float64)


def outcomes_at(results: Results, task: str, steps: int, *, unit: str = UNITS[0]) -> pd.DataFrame:
    """`Results.outcomes` as they were after some steps.

    Args:
        results: The results, with their history.
        task: Name of a task.
        steps: The earlier budget, at least 1.
        unit: What it is counted in, one of `UNITS`.

    Returns:
        The rows of `Results.outcomes` with `status` and `primary` as of then: completed if the trial was sound with a
        value, diverged if it had diverged by then, missing where it has no row or was evaluated too seldom to say.

    Raises:
        ValueError: For an unknown unit, or steps below 1.
    """
    if unit not in UNITS or steps < 1:
        raise ValueError(f"a budget is at least 1 of {' or '.join(UNITS)}, got {steps} {unit}")
    found = curves(results, task, unit=unit)
    coded = coded_at(found, steps)
    stopped = ((found.rows["status"] == Status.STOPPED.value) & (found.done < steps)).to_numpy()
    ended = np.isinf(coded) | stopped
    status = found.rows["status"].mask(~ended & np.isnan(coded))
    return found.rows.assign(
        status=status.mask(np.isfinite(coded), Status.COMPLETED.value),
        primary=np.where(np.isfinite(coded), coded, np.nan),
    )


def unmeasured(results: Results, task: str, then: pd.DataFrame) -> BoolArray:
    """Which rows of `outcomes_at` miss an outcome for want of evaluations, not of the trial; shape (rows,)."""
    now = results.outcomes(task).set_index("trial_id")["status"].reindex(then["trial_id"]).notna()
    return np.asarray(now.to_numpy() & then["status"].isna().to_numpy(), dtype=np.bool_)


def too_coarse(count: int, of: int, steps: int, unit: str) -> str:
    """Why nothing is said about an earlier budget at which so many trials of some are unmeasured."""
    return (
        f"{count} of {of} trials were evaluated too seldom, at distances above {COARSEST:.0%} of the budget or not at "
        f"all, to say how they stood after {steps} {unit.replace('_', ' ')}"
    )


def common_steps(results: Results, task: str, unit: str) -> int | None:
    """The generator or discriminator steps that every trial of a task is planned to make at least; None if all do."""
    totals = planned_steps(results.plan[results.plan["task"] == task], unit)
    return int(totals.min()) if totals.nunique() > 1 else None


def planned_steps(planned: pd.DataFrame, unit: str) -> pd.Series:
    """Generator or discriminator steps that each row of a plan buys: whole steps of the generator."""
    critic = planned["n_critic"].astype("float64").fillna(1.0)
    budget = planned["budget_steps"].astype("float64")
    generator = pd.Series(np.nan, index=planned.index)
    for name, each in zip(UNITS, (0 * critic + 1.0, critic, 1 + critic), strict=True):
        generator = generator.where(planned["budget_unit"] != name, budget // each)
    return generator * critic if unit == STEPS[1] else generator


def _in_unit(frame: pd.DataFrame, unit: str) -> FloatArray:
    if unit == UNITS[2]:
        return np.asarray(sum(frame[name].to_numpy(dtype=np.float64) for name in STEPS), dtype=np.float64)
    return frame[unit].to_numpy(dtype=np.float64)


def _done(rows: pd.DataFrame, steps: FloatArray, unit: str) -> FloatArray:
    """Steps of each trial; where its row does not say, those of its last evaluation."""
    seen: FloatArray = np.nan_to_num(steps).max(axis=1, initial=0.0)
    if not {*STEPS} <= set(rows.columns):
        return seen
    said = _in_unit(rows, unit)
    return np.where(np.isnan(said), seen, said)

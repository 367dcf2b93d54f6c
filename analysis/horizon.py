"""A sweep as it stood at earlier budgets: outcomes recomputed from the history.

The primary value at a budget follows the rule of the trials table: the median over the evaluations of the last fifth of
that budget, at least five of them. A trial that diverges later has not diverged yet.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.outcomes import FloatArray, IntArray, code
from analysis.results import Results
from study import schema
from study.records import TAIL_LEAST, TAIL_SHARE
from study.schema import Status

UNITS = ("generator_steps", "discriminator_steps", "updates")
"""What a budget may be counted in; updates are both players' together."""

BUDGETS = 25
"""Most budgets that are looked at by default."""

STEPS = ("generator_steps", "discriminator_steps")


@dataclass(frozen=True)
class Curves:
    """The evaluations of a task's planned trials; a row per trial, a column per evaluation, NaN beyond its last one.

    Attributes:
        rows: `Results.outcomes` of the task.
        unit: What `steps` counts, one of `UNITS`.
        steps: shape (trials, evaluations), the part of the budget that was spent at each evaluation.
        values: shape (trials, evaluations), the primary metric.
        counts: shape (trials,), how many evaluations each trial has; 0 without a history.
        done: shape (trials,), steps that each trial made, of one that diverged up to there; where its row does not say,
            those of its last evaluation.
        others: Further columns of the history, shaped as `values`.
    """

    rows: pd.DataFrame
    unit: str
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
    return Curves(rows, unit, steps, values, counts, done, dict(zip(others, further, strict=True)))


def coded_at(found: Curves, steps: float) -> FloatArray:
    """The coded outcome of each trial after some steps, shape (trials,): see `outcomes.code`.

    NaN where a trial has no row, has fewer than five evaluations by then (unless it has no more at its end), or was
    stopped by then.
    """
    ended = found.rows["status"].notna().to_numpy()
    final = code(found.rows["status"].to_numpy(dtype=object), found.rows["primary"].to_numpy(dtype=np.float64))
    alive = (found.rows["status"] == Status.COMPLETED.value).to_numpy()
    # a trial that diverged after so many steps was still sound there
    whole = ended & np.where(alive, found.done <= steps, found.done < steps)
    now = np.where(ended, tail_at(found, steps), np.nan)
    return np.where(whole, final, now)


def tail_at(found: Curves, steps: float) -> FloatArray:
    """Each trial's median over the last fifth of its evaluations up to some steps, at least five; NaN for fewer."""
    counts = np.sum(found.steps <= steps, axis=1)
    medians = np.full(len(counts), np.nan)
    for count in np.unique(counts[counts >= TAIL_LEAST]):
        here = counts == count
        medians[here] = np.median(found.values[here, count - tail_length(int(count)) : count], axis=1)
    return medians


def tail_length(count: int) -> int:
    """How many of a trial's evaluations its primary value is the median of."""
    return min(count, max(TAIL_LEAST, int(np.ceil(TAIL_SHARE * count))))


def budgets_of(found: Curves, *, most: int = BUDGETS) -> FloatArray:
    """Budgets at which every trial that was still sound had five evaluations, ascending; the last is the whole one.

    Args:
        found: The curves.
        most: How many at most, evenly spaced among the evaluations.

    Returns:
        shape (budgets,); empty without a history.
    """
    if not found.counts.any():
        return np.empty(0)
    sound = (found.rows["status"] == Status.COMPLETED.value).to_numpy() & (found.counts > 0)
    rows = np.flatnonzero(sound)
    fifth = found.steps[rows, np.minimum(found.counts[rows], TAIL_LEAST) - 1]
    steps = np.unique(found.steps[~np.isnan(found.steps)])
    known = steps[steps >= fifth.max(initial=-np.inf)]
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
        value, diverged if it had diverged by then, missing where it has no row or fewer than five evaluations by then
        (unless it has no more than that at its end).

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


def tail_medians(history: pd.DataFrame, column: str = "primary") -> pd.Series:
    """Each trial's median of a column over the last fifth of its evaluations, at least five; indexed by trial id.

    Trials with fewer than five evaluations are left out.
    """
    ordered = history.sort_values(["trial_id", "evaluation"], kind="stable")
    group = ordered.groupby("trial_id", sort=False)
    count = group["evaluation"].transform("size")
    kept = np.maximum(TAIL_LEAST, np.ceil(TAIL_SHARE * count))
    last = count - group.cumcount()
    tail = ordered[(count >= TAIL_LEAST) & (last <= kept)]
    found: pd.Series = tail.groupby("trial_id", sort=False)[column].median()
    return found


def common_discriminator_steps(results: Results, task: str) -> int | None:
    """The discriminator steps that every trial of a task is planned to make at least; None where all make the same."""
    planned = results.plan[results.plan["task"] == task]
    totals = _planned_discriminator_steps(planned)
    return int(totals.min()) if totals.nunique() > 1 else None


def _planned_discriminator_steps(planned: pd.DataFrame) -> pd.Series:
    critic = planned["n_critic"].astype("float64").fillna(1.0)
    steps = planned["budget_steps"].astype("float64")
    each = {UNITS[0]: critic, UNITS[1]: 0 * critic + 1.0, UNITS[2]: critic / (1 + critic)}
    factor = pd.Series(np.nan, index=planned.index)
    for unit, factors in each.items():
        factor = factor.where(planned["budget_unit"] != unit, factors)
    return (steps * factor).map(np.floor)


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

"""From a source and a declaration to the tables of a run: the plan, the trials, the history."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.imported.declared import Declaration, Facts
from analysis.imported.identity import identify, name_in
from analysis.imported.source import LOST, PENDING, Source
from analysis.imported.source import trials as in_words
from analysis.outcomes import FAILURES, FloatArray
from analysis.results import DESIGNS
from study.errors import UserError, unknown
from study.schema import IDENTITY, PLAN, SCHEMA_VERSION, Status

PLAN_ONLY = {column.name for column in PLAN} - {column.name for column in IDENTITY}
"""Columns of the plan that the trials have not."""

UNKNOWN = "unknown"
"""The sampler of which nothing is known: it may have looked at results."""

PACK, LOST_PACK = "imported", "imported-lost"
WHOLE = ("run as imported", 1)
"""The budget of a trial of which nothing else is known."""


@dataclass(frozen=True)
class Tables:
    """The tables of a run, and what the user should know about how they came to be.

    Attributes:
        plan: One row per trial, the schema's columns and one for each hyperparameter that it has not.
        trials: The same for those that ended.
        history: Their evaluations; empty without any.
        prior: Name of what the configurations were drawn from, or None.
        metric: Name of the metric that is analysed.
        sampler: How the configurations were chosen.
        lost: Why trials were lost, or None.
        remarks: A sentence each.
    """

    plan: pd.DataFrame
    trials: pd.DataFrame
    history: pd.DataFrame
    prior: str | None
    metric: str
    sampler: str
    lost: str | None
    remarks: tuple[str, ...]


@dataclass(frozen=True)
class Scale:
    """From the metric's own unit to one in which lower is better and the best possible is 0 or more.

    Attributes:
        name: Name of what is analysed, e.g. "1 - accuracy".
        sign: 1, or -1 where higher is better.
        ideal: What is subtracted, in the metric's own unit.
    """

    name: str
    sign: float
    ideal: float

    def of(self, values: FloatArray) -> FloatArray:
        """The distances of values from the ideal; an infinite value stays infinite."""
        return np.asarray(self.sign * (values - self.ideal), dtype=np.float64)


def build(source: Source, declaration: Declaration, *, name: str) -> Tables:
    """Decide what every trial is and how it ended.

    Raises:
        UserError: For whatever is missing or contradicts itself, in one sentence.
    """
    sampler = _sampler(source, declaration)
    source, left_out = _drawn(source, sampler)
    identity, params = identify(source, declaration, name)
    scale = _scale(source, declaration)
    plan = pd.concat([identity, params], axis=1).assign(
        sweep=name,
        replicate=0,
        sampler=sampler,
        pack=np.where(source.ends["status"] == LOST, LOST_PACK, PACK),
        schema_version=SCHEMA_VERSION,
        metric=scale.name,
        budget_unit=declaration.unit or (source.budget or WHOLE)[0],
        budget_steps=declaration.budget or (source.budget or WHOLE)[1],
    )
    plan = plan.join(_facts(identity["task"], declaration, scale), on="task")
    ends, counted = _ends(source, declaration, scale, plan)
    trials = pd.concat([plan.drop(columns=[name for name in plan if name in PLAN_ONLY]), ends], axis=1)
    written = ~ends["status"].isin([LOST, PENDING])
    remarks = (
        *source.remarks,
        *left_out,
        *counted,
        *_gaps(source, declaration, identity, params),
        *_looks(sampler, identity),
    )
    return Tables(
        plan=plan,
        trials=trials[written],
        history=_history(source, scale, plan, written.to_numpy()),
        prior=declaration.prior,
        metric=scale.name,
        sampler=sampler,
        lost=_why_lost(source.ends),
        remarks=remarks,
    )


def _why_lost(ends: pd.DataFrame) -> str | None:
    """Why the first lost trial that says so was lost; None where none was lost."""
    lost = ends[ends["status"] == LOST]
    reasons = lost["reason"].dropna()
    return None if lost.empty else str(reasons.iloc[0]) if len(reasons) else "lost where it was made"


def _sampler(source: Source, declaration: Declaration) -> str:
    seen, said = source.sampler, declaration.sampler
    if said in DESIGNS and seen is not None and seen != said and seen not in (*DESIGNS, "searcher"):
        raise UserError(
            f"sampler = {said!r}: the trials carry the marks of {seen}, which looks at results; leave out --sampler"
        )
    return said or seen or UNKNOWN


def _drawn(source: Source, sampler: str) -> tuple[Source, list[str]]:
    """Without the configurations that somebody put in by hand, if the others are draws: they would not be."""
    by_hand = ~source.ends["drawn"].to_numpy()
    if sampler not in DESIGNS or not by_hand.any():
        return source, []
    kept = np.flatnonzero(~by_hand)
    if not len(kept):
        raise UserError(f"all trials of {source.origin} were put in by hand: no sampler {sampler!r} drew them")
    place = {int(old): new for new, old in enumerate(kept)}
    history = source.history
    if history is not None:
        history = history[history["trial"].isin(kept)].assign(trial=lambda rows: rows["trial"].map(place))
    changed = {
        "cells": source.cells.iloc[kept].reset_index(drop=True),
        "ends": source.ends.iloc[kept].reset_index(drop=True),
        "history": history,
    }
    remark = f"{in_words(int(by_hand.sum()))} put in by hand, not drawn by {sampler}, left out"
    return Source(**{f.name: changed.get(f.name, getattr(source, f.name)) for f in fields(Source)}), [remark]


def _scale(source: Source, declaration: Declaration) -> Scale:
    maximise = declaration.maximise if declaration.maximise is not None else bool(source.maximise)
    ideals = {declaration.facts_of(task).ideal for task in (*declaration.tasks, "")}
    if len(ideals) > 1:
        raise UserError("ideal differs between tasks: give one for all of them, the metric's best possible value")
    ideal = ideals.pop()
    if maximise and ideal is None:
        raise UserError(
            f"{source.metric} is maximised: give --ideal VALUE, which nothing can exceed (1 for an accuracy); what is "
            "analysed is the distance from it"
        )
    if not ideal and not maximise:
        return Scale(source.metric, 1.0, 0.0)
    if maximise:
        return Scale(f"{ideal:g} - {source.metric}", -1.0, float(ideal or 0.0))
    sign = "-" if ideal and ideal > 0 else "+"
    return Scale(f"{source.metric} {sign} {abs(ideal or 0.0):g}", 1.0, float(ideal or 0.0))


def _facts(task: pd.Series, declaration: Declaration, scale: Scale) -> pd.DataFrame:
    """A row per task: threshold and anchors in the scale of what is analysed."""
    for name in declaration.tasks:
        if name not in set(task):
            raise unknown("task in tasks:", name, task.unique())
    return pd.DataFrame(
        {name: _task_facts(str(name), declaration.facts_of(str(name)), scale) for name in task.unique()},
        index=["threshold", "anchor_low", "anchor_high"],
    ).T.astype(np.float64)


def _task_facts(task: str, facts: Facts, scale: Scale) -> tuple[float, float, float]:
    if facts.threshold is None or facts.anchors is None:
        missing = "--threshold X" if facts.threshold is None else "--anchors GOOD BAD"
        raise UserError(f"task {task!r} has no {missing}: say what counts, before you look at what comes out")
    threshold, low, high = (float(v) for v in scale.of(np.array([facts.threshold, *facts.anchors])))
    if not 0 < low < high:
        raise UserError(
            f"anchors = {list(facts.anchors)} of task {task!r}: the first has to be the better one, and neither the "
            f"ideal nor beyond it (as {scale.name}: 0 < {low:g} < {high:g} does not hold)"
        )
    return threshold, low, high


def _ends(source: Source, declaration: Declaration, scale: Scale, plan: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """How every trial ended, columns of `schema.OUTCOME`; what has neither a finite value nor a reason diverged."""
    primary = scale.of(source.ends["value"].to_numpy(dtype=np.float64))
    finite = np.isfinite(primary)
    given = source.ends["status"].to_numpy(dtype=object)
    open_ = np.array([status in (None, Status.COMPLETED.value) for status in given])
    status = np.where(open_, np.where(finite, Status.COMPLETED.value, Status.DIVERGED.value), given)
    done = status == Status.COMPLETED.value
    _check_ideal(primary[done & finite], scale)
    success = (primary <= plan["threshold"].to_numpy(dtype=np.float64)) & done
    empty = open_ & ~finite
    reasons = np.where(done, np.array(None, dtype=object), source.ends["reason"].to_numpy(dtype=object))
    frame = pd.DataFrame(
        {
            "status": status,
            "reason": np.where(empty, f"{source.metric} is not finite", reasons),
            "generator_steps": source.ends["steps"],
            "primary": np.where(done, primary, np.nan),
            "primary_last": np.where(done & (declaration.value != "tail"), primary, np.nan),
            "success": [
                bool(won) if end == Status.COMPLETED.value or end in FAILURES else None
                for won, end in zip(success, status, strict=True)
            ],
        }
    )
    count = int(empty.sum())
    return frame, [f"{in_words(count)} without a finite {source.metric} counted as diverged"] if count else []


def _check_ideal(primary: FloatArray, scale: Scale) -> None:
    if (scale.ideal or scale.sign < 0) and len(primary) and primary.min() < 0:
        best = scale.ideal + scale.sign * primary.min()
        raise UserError(f"ideal = {scale.ideal:g}: a trial has {best:g}, which is better; give a value nothing exceeds")


def _history(source: Source, scale: Scale, plan: pd.DataFrame, written: npt.NDArray[np.bool_]) -> pd.DataFrame:
    if source.history is None:
        return pd.DataFrame()
    rows = source.history[written[source.history["trial"].to_numpy(dtype=np.int64)]].sort_values(["trial", "step"])
    values = scale.of(rows["value"].to_numpy(dtype=np.float64))
    found: pd.DataFrame = plan.loc[rows["trial"], ["trial_id", "task", "method"]].reset_index(drop=True)
    return found.assign(
        evaluation=rows.groupby("trial").cumcount().to_numpy(),
        generator_steps=rows["step"].to_numpy(dtype=np.float64),
        primary=np.where(np.isfinite(values), values, np.nan),
    )


def _gaps(source: Source, declaration: Declaration, identity: pd.DataFrame, params: pd.DataFrame) -> Iterator[str]:
    """Cells of a table that are empty in a hyperparameter of the method; elsewhere that is how spaces branch."""
    for name in params if source.kind == "table" else ():
        known = params[name].notna()
        count = int((~known & known.groupby(identity["method"]).transform("any")).sum())
        if count:
            column = name_in(source, declaration, str(name))
            yield (
                f"{in_words(count)} without a value of {column} counted like any other: an empty cell equals an empty "
                f"cell where configurations are matched; what is shown along {column} leaves them out, and a safe "
                f"region says nothing of {column}"
            )


def _looks(sampler: str, identity: pd.DataFrame) -> Iterator[str]:
    """What the answers cannot say."""
    if sampler not in DESIGNS:
        how = "nothing is known of the sampler" if sampler == UNKNOWN else f"the sampler {sampler} looked at results"
        yield (
            f"{how}: no fraction of a prior can be claimed; if the configurations were drawn beforehand, say how, "
            f"--sampler {', '.join(DESIGNS)}"
        )
    pairs: Mapping[str, set[str]] = {str(name): set(rows) for name, rows in identity.groupby("method")["config"]}
    names = list(pairs)
    if len(names) > 1 and not any(pairs[a] & pairs[b] for i, a in enumerate(names) for b in names[i + 1 :]):
        yield "no two methods share a configuration: they cannot be compared in pairs"

"""What a sweep planned and what came of it: two tables, checked once, and the views that statistics start from."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from search_spaces.domains import Domain, When
from study import schema
from study.statements import AFTER, BEFORE, EXTENDED, WITHDRAWN, Extension, Registered

PLAN_COLUMNS = (
    *("trial_id", "task", "method", "config", "point", "replicate", "seed", "n_critic", "sampler"),
    *("budget_unit", "budget_steps", "metric", "threshold", "anchor_low", "anchor_high"),
)
"""Columns of the plan that the analysis reads; others may be there and are kept."""

TRIAL_COLUMNS = ("trial_id", "status", "primary")
"""Columns of the trials that the analysis reads; others may be there and are kept."""


@dataclass(frozen=True)
class TaskFacts:
    """What a task fixes before any result exists.

    Attributes:
        metric: Name of the primary metric, lower is better.
        threshold: Success is primary <= threshold, in units of the metric.
        anchor_low: Value of the metric that scores 1 in the log-AUC, same unit.
        anchor_high: Value of the metric that scores 0 in the log-AUC, same unit.
    """

    metric: str
    threshold: float
    anchor_low: float
    anchor_high: float

    def __post_init__(self) -> None:
        """Refuse facts that no profile could be drawn with."""
        if not 0 < self.anchor_low < self.anchor_high < np.inf:
            raise ValueError(
                f"log-AUC anchors need 0 < anchor_low < anchor_high, got {self.anchor_low} and {self.anchor_high}"
            )
        if not np.isfinite(self.threshold):
            raise ValueError(f"the success threshold must be finite, got {self.threshold}")


DESIGNS = ("sobol", "random", "grid", "table")
"""How configurations are chosen before any result exists; every other sampler looked at results."""


@dataclass(frozen=True)
class Reference:
    """A generator of known quality, measured before the sweep: one of a task's controls.

    Attributes:
        name: What stands in for the generator.
        value: The primary metric's value.
        must: "pass" or "fail" the threshold; None where either is acceptable.
    """

    name: str
    value: float
    must: str | None


@dataclass(frozen=True)
class Results:
    """A sweep's plan and its trials.

    Attributes:
        name: The sweep's name.
        plan: One row per planned trial, columns of `schema.PLAN`.
        trials: The rows that exist, columns of `schema.TABLES["trials"]` and one per metric.
        confirmatory: Pairs of methods whose comparison was declared before the sweep ran.
        notice: What a reader must know before any number, or None.
        prior: Name of the prior that the configurations were drawn from, or None.
        domains: The prior: hyperparameter, in the words of the sweep file, to its domain.
        priors: Method to the prior that it declared for itself, as a variant does; use `domains_of`.
        references: Task to its controls.
        claims: What the sweep states, with when it was first stated.
        late: Pairs that were declared confirmatory after results, which makes them exploratory.
        withdrawn: Pairs that were confirmatory and taken out after results.
        extensions: How the plan grew after results.
        unasked: Trials that a search has still to ask for, by task and method; they are in no table.
        read_history: Reads some columns of the history, all for None; None where there is none. Use `history`.
        read_samples: Reads the generated samples of some trials, with the real ones of every task; None where there are
            none. Use `samples`.
    """

    name: str
    plan: pd.DataFrame
    trials: pd.DataFrame
    confirmatory: tuple[tuple[str, str], ...]
    notice: str | None
    prior: str | None = None
    domains: Mapping[str, Domain | When] = field(default_factory=dict)
    priors: Mapping[str, Mapping[str, Domain | When]] = field(default_factory=dict)
    references: Mapping[str, tuple[Reference, ...]] = field(default_factory=dict)
    claims: tuple[Registered, ...] = ()
    late: tuple[tuple[str, str], ...] = ()
    withdrawn: tuple[tuple[str, str], ...] = ()
    extensions: tuple[Extension, ...] = ()
    unasked: Mapping[tuple[str, str], int] = field(default_factory=dict)
    read_history: Callable[[tuple[str, ...] | None], pd.DataFrame] | None = None
    read_samples: Callable[[tuple[str, ...]], pd.DataFrame] | None = None

    def __post_init__(self) -> None:
        """Refuse tables whose numbers could not be trusted.

        Raises:
            ValueError: A column is missing, an id is duplicated or unknown, a status is unknown, a metric disagrees
                with its status, a task has two sets of facts, or a confirmatory pair names an unplanned method.
        """
        _check_columns("plan", self.plan, PLAN_COLUMNS)
        _check_columns("trials", self.trials, TRIAL_COLUMNS)
        _check_ids(self.plan["trial_id"], self.trials["trial_id"])
        _check_outcomes(self.trials)
        for task in self.tasks:
            self.facts(task)
        for pair in self.confirmatory:
            if pair[0] == pair[1] or not set(pair) <= set(self.methods):
                raise ValueError(f"confirmatory pair {pair} needs two planned methods; planned: {list(self.methods)}")

    @cached_property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks, in plan order."""
        return tuple(str(name) for name in self.plan["task"].unique())

    @cached_property
    def methods(self) -> tuple[str, ...]:
        """Names of all methods, in plan order."""
        return tuple(str(name) for name in self.plan["method"].unique())

    @cached_property
    def adaptive(self) -> str | None:
        """Name of a sampler that looked at results while it chose configurations; None where none did.

        Such configurations are no draws from a prior: fractions of them say nothing of how much of it survives.
        """
        strange = [str(name) for name in self.plan["sampler"].unique() if name not in DESIGNS]
        return strange[0] if strange else None

    @cached_property
    def memory(self) -> dict[Hashable, Any]:
        """For what is computed from these results more than once and never changed: a key to it."""
        return {}

    def history(self, *columns: str) -> pd.DataFrame:
        """One row per trial and evaluation, columns of `schema.HISTORY` and metrics; read when it is asked for.

        Args:
            columns: The columns to read, all without any; nothing else is read from disk.

        Returns:
            A fresh frame, which may be changed; an empty one where no history was kept.
        """
        if self.read_history is None:
            return pd.DataFrame(columns=list(columns) or [column.name for column in schema.HISTORY])
        return self.read_history(columns or None).copy()

    def samples(self, *trial_ids: str) -> pd.DataFrame:
        """The generated samples that were kept of some trials, and real ones of every task.

        Args:
            trial_ids: The trials; only what is written with theirs is read from disk.

        Returns:
            Columns of `schema.SAMPLES`, where `values` holds float32 arrays of shape (count, *shape). A trial without
            samples has no row; rows of real samples have no trial_id. An empty frame where no samples were kept.
        """
        if self.read_samples is None:
            return pd.DataFrame(columns=[column.name for column in schema.SAMPLES])
        return self.read_samples(trial_ids)

    @property
    def open(self) -> int:
        """Trials without a row: planned ones, and those that a search has still to ask for."""
        return len(self.plan) - len(self.trials) + sum(self.unasked.values())

    def domains_of(self, method: str) -> Mapping[str, Domain | When]:
        """The prior of one method: its own where it declared one, else that of the sweep."""
        return self.priors.get(method, self.domains)

    def extended(self, tasks: Sequence[str], methods: Sequence[str]) -> int | None:
        """How many rows there were when some methods first got more trials on some tasks; None if they never did."""
        grown = (item.rows for item in self.extensions if any(t in tasks and m in methods for t, m in item.cells))
        return next(grown, None)

    def standing(self, task: str, first: str, second: str) -> str | None:
        """When two methods' comparison was declared, in words of `study.statements`; None if it never was."""
        same = {first, second}
        if same in map(set, self.confirmatory):
            rows = self.extended((task,), (first, second))
            return BEFORE if rows is None else EXTENDED.format(rows=rows)
        if same in map(set, self.late):
            return AFTER
        return WITHDRAWN if same in map(set, self.withdrawn) else None

    def methods_of(self, task: str) -> tuple[str, ...]:
        """Names of the methods planned on a task, in plan order."""
        return tuple(str(name) for name in self._planned(task)["method"].unique())

    def facts(self, task: str) -> TaskFacts:
        """What the plan fixed for a task.

        Raises:
            ValueError: The task is not planned, or its trials disagree about its facts.
        """
        key = ("facts", task)
        if key not in self.memory:
            self.memory[key] = self._facts(task)
        facts: TaskFacts = self.memory[key]
        return facts

    def outcomes(self, task: str) -> pd.DataFrame:
        """One row per planned trial of a task with what became of it; a trial without a row has a missing status."""
        key = ("outcomes", task)
        if key not in self.memory:
            planned = self._planned(task)
            news = [name for name in self.trials.columns if name == "trial_id" or name not in planned.columns]
            self.memory[key] = planned.merge(self.trials[news], on="trial_id", how="left", validate="one_to_one")
        found: pd.DataFrame = self.memory[key]
        return found.copy(deep=False)  # whoever writes into it has a copy then

    def setting(self, task: str) -> str:
        """Budget and design of a task in words, as a claim has to state them."""
        planned = self._planned(task)
        budgets = planned[["budget_steps", "budget_unit"]].drop_duplicates().itertuples(index=False)
        budget = " and ".join(f"{steps} {unit}" for steps, unit in budgets)
        sizes = planned[["replicate", "point"]].drop_duplicates().groupby("replicate").size()
        balanced = sizes.nunique() == 1
        count = f"{len(sizes)}x{sizes.iloc[0]}" if balanced else f"{sizes.sum()} (in {len(sizes)} replicates)"
        design = f"{'/'.join(planned['sampler'].unique())} {count} points"
        parts = [f"budget {budget}", f"prior {self.prior} ({design})" if self.prior else f"prior {design}"]
        critics = sorted(planned["n_critic"].dropna().unique())
        if len(critics) > 1:
            parts.append("n_critic " + " and ".join(f"{critic:g}" for critic in critics))
        if planned["seed"].nunique() > 1:
            parts.append(f"{planned['seed'].nunique()} seeds")
        return ", ".join(parts)

    def _facts(self, task: str) -> TaskFacts:
        found = self._planned(task)[["metric", "threshold", "anchor_low", "anchor_high"]].drop_duplicates()
        if len(found) != 1:
            raise ValueError(f"task {task!r} needs one metric, threshold and pair of anchors, found {len(found)}")
        row = found.iloc[0]
        return TaskFacts(
            str(row["metric"]), float(row["threshold"]), float(row["anchor_low"]), float(row["anchor_high"])
        )

    def _planned(self, task: str) -> pd.DataFrame:
        planned = self.plan[self.plan["task"] == task]
        if planned.empty:
            raise ValueError(f"task {task!r} is not planned; planned: {list(self.tasks)}")
        return planned


def _check_columns(table: str, frame: pd.DataFrame, needed: tuple[str, ...]) -> None:
    absent = [name for name in needed if name not in frame.columns]
    if absent:
        raise ValueError(f"{table} lacks the columns {absent}")


def _check_ids(planned: pd.Series, found: pd.Series) -> None:
    for table, ids in (("plan", planned), ("trials", found)):
        twice = ids[ids.duplicated()]
        if len(twice):
            raise ValueError(f"{table} has trial_id {twice.iloc[0]!r} more than once")
    strangers = found[~found.isin(planned)]
    if len(strangers):
        raise ValueError(f"{len(strangers)} trials are not in the plan, the first is {strangers.iloc[0]!r}")


def _check_outcomes(trials: pd.DataFrame) -> None:
    known = [status.value for status in schema.Status]
    unknown = trials.loc[~trials["status"].isin(known), "status"]
    if len(unknown):
        raise ValueError(f"unknown status {unknown.iloc[0]!r}; known: {known}")
    completed = trials["status"] == schema.Status.COMPLETED.value
    primary = trials["primary"].astype("float64")
    empty = trials.loc[completed & ~np.isfinite(primary), "trial_id"]
    if len(empty):
        raise ValueError(f"completed trial {empty.iloc[0]!r} has no finite primary metric")
    valued = trials.loc[~completed & primary.notna(), "trial_id"]
    if len(valued):
        raise ValueError(f"trial {valued.iloc[0]!r} did not complete but has a primary metric")

"""Many trials as columns: a million of them fit in memory, and a `Trial` is made where one is asked for."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from search_spaces.hyperparameters import ARCHITECTURE
from study.trial import Hyperparameters, Trial

IntArray = NDArray[np.integer[Any]]
HASH = "S16"
"""The numpy type of a content hash."""

HASHES = ("trial_id", "config", "key")
INDICES = ("seed", "point", "replicate")
NUMBERS = tuple(
    field.name for field in fields(Hyperparameters) if field.name not in ("optimiser", "n_critic", *ARCHITECTURE)
)
"""Hyperparameters that may differ between trials of one pack."""


@dataclass(frozen=True, eq=False)
class Trials(Sequence[Trial]):
    """A sequence of n trials.

    Attributes:
        kinds: A trial of each kind, in the order of their first appearance; trials of one kind differ in `NUMBERS`,
            `HASHES` and `INDICES` alone, and may share a pack.
        columns: Arrays of shape (n,): `kind`, an index into `kinds`; `HASHES` as bytes; `INDICES`; and those of
            `NUMBERS` that any trial has, NaN where a trial has none.
    """

    kinds: tuple[Trial, ...]
    columns: Mapping[str, NDArray[Any]]

    @classmethod
    def of(cls, trials: Iterable[Trial]) -> Trials:
        """Any trials as columns; those that are so already as they are."""
        if isinstance(trials, cls):
            return trials
        members = list(trials)
        kinds: dict[tuple[object, ...], int] = {}
        firsts: list[Trial] = []
        codes = []
        for trial in members:
            key = (trial.structure, trial.task_version, trial.fingerprint, trial.sampler)
            if key not in kinds:
                kinds[key] = len(kinds)
                firsts.append(trial)
            codes.append(kinds[key])
        columns: dict[str, NDArray[Any]] = {"kind": np.array(codes, np.int32)}
        columns |= {name: np.array([getattr(trial, name) for trial in members], HASH) for name in HASHES}
        columns |= {name: np.array([getattr(trial, name) for trial in members], np.int32) for name in INDICES}
        for name in NUMBERS:
            values = np.array([getattr(trial.hyperparameters, name) for trial in members], np.float64)
            if not np.isnan(values).all():
                columns[name] = values
        return cls(tuple(firsts), columns)

    def __len__(self) -> int:
        """How many trials there are."""
        return len(self.columns["kind"])

    @overload
    def __getitem__(self, index: int) -> Trial: ...

    @overload
    def __getitem__(self, index: slice) -> Trials: ...

    def __getitem__(self, index: int | slice) -> Trial | Trials:
        """One trial, or some of them as columns."""
        if isinstance(index, slice):
            return self.take(index)
        at = range(len(self))[index]
        numbers = {name: _number(self.columns[name][at]) for name in NUMBERS if name in self.columns}
        kind = self.kinds[self.columns["kind"][at]]
        trial_id, config, key = (self.columns[name][at].decode() for name in HASHES)
        seed, point, replicate = (int(self.columns[name][at]) for name in INDICES)
        trial: Trial = replace(
            kind,
            hyperparameters=replace(kind.hyperparameters, **numbers),
            **{"seed": seed, "point": point, "replicate": replicate, "config": config, "key": key},
        )
        vars(trial)["trial_id"] = trial_id  # known: a cached property need not hash again
        return trial

    def __iter__(self) -> Iterator[Trial]:
        """The trials, one after the other."""
        return (self[index] for index in range(len(self)))

    def __eq__(self, other: object) -> bool:
        """True for the same trials in the same order."""
        return isinstance(other, Trials) and len(self) == len(other) and all(map(Trial.__eq__, self, other))

    def take(self, chosen: slice | IntArray | NDArray[np.bool_]) -> Trials:
        """Some of the trials: those of a slice, of an array of indices, or where an array of truths has True."""
        return Trials(self.kinds, {name: column[chosen] for name, column in self.columns.items()})

    def find(self, trial_id: str) -> int | None:
        """Where the trial with an id is; None if there is none."""
        found = np.flatnonzero(self.columns["trial_id"] == trial_id.encode())
        return int(found[0]) if len(found) else None

    def cells(self) -> dict[tuple[str, str], int]:
        """The number of trials by task and method, in the order of their first appearance."""
        counts: dict[tuple[str, str], int] = {}
        if len(self):
            found, firsts, numbers = np.unique(self.columns["kind"], return_index=True, return_counts=True)
            for place in np.argsort(firsts):
                kind = self.kinds[found[place]]
                counts[kind.task, kind.label] = counts.get((kind.task, kind.label), 0) + int(numbers[place])
        return counts

    def cell(self, task: str, label: str) -> Trials:
        """The trials of a method on a task."""
        inside = np.array([(kind.task, kind.label) == (task, label) for kind in self.kinds], np.bool_)
        return self.take(inside[self.columns["kind"]])

    def points(self) -> int:
        """How many design points the trials visit, those of different replicates apart."""
        pairs = self.columns["replicate"].astype(np.int64) << 32 | self.columns["point"].astype(np.int64)
        return len(np.unique(pairs))

    def values(self, name: str) -> NDArray[Any]:
        """A hyperparameter of `Hyperparameters`, of every trial: shape (n,), numbers, or texts with None for none."""
        if name in NUMBERS:
            numbers: NDArray[Any] = self.columns.get(name, np.full(len(self), np.nan))
            return numbers
        by_kind = np.array([getattr(kind.hyperparameters, name) for kind in self.kinds], object)
        texts: NDArray[Any] = by_kind[self.columns["kind"]]
        return texts


def _number(value: np.float64) -> float | None:
    return None if math.isnan(value) else float(value)

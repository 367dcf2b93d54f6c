"""Running a search: asks each study for a batch, and for the next one when the results of that are there.

Nothing is kept beside the run directory's own tables. The plan says what was asked for, a part of it for each batch;
the rows say how it ended; from both, in order, a study asks for the same next batch whenever it is asked.
"""

from __future__ import annotations

import math
import statistics
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from search_spaces.adaptive import Tried
from study.errors import UserError
from study.records import Row, metric_columns, trial_from_row
from study.schema import Status
from study.search import (
    UNASKED,
    Configuration,
    Numbers,
    Study,
    asked_next,
    batch_size,
    key_of,
    numbers_of,
    searched,
    studies_of,
    trials_of,
)
from study.spec import Sweep, to_toml
from study.store import SWEEP, Part, RunDirectory
from study.sweep_run import Prepared, flat, packs_of, resolve_device, write_plan
from study.trials import Trials

MAY_CHANGE = ("notice", "ranges", "execution", "tasks", "methods", "search.trials")
"""Settings that may be others when a search goes on: none of them changes what was asked for."""


@dataclass
class Batch:
    """Configurations that were asked for together.

    Attributes:
        start: The point at which it begins.
        asked: The configurations, in order.
        numbers: `study.search.numbers_of` each.
        ids: The trials of each, seed by seed.
        packs: Names of their packs.
    """

    start: int
    asked: Sequence[Configuration]
    numbers: Sequence[Numbers]
    ids: list[list[str]]
    packs: list[str]


@dataclass
class Standing:
    """How far a study is.

    Attributes:
        study: The study.
        size: Configurations to ask for at a time.
        batches: Its batches, by the point at which they begin.
    """

    study: Study
    size: int
    batches: dict[int, Batch] = field(default_factory=dict)


class Search:
    """The search of a sweep in its run directory."""

    def __init__(self, directory: RunDirectory, sweep: Sweep) -> None:
        """Take up a search where its run directory stands.

        Args:
            directory: The run directory.
            sweep: The sweep, which has a table [search].

        Raises:
            UserError: If the run directory was begun with another search.
        """
        self._directory, self._sweep = directory, sweep
        self._standings = {
            study.key: Standing(study, batch_size(sweep, study, resolve_device(sweep))) for study in studies_of(sweep)
        }
        self._of_pack: dict[str, Standing] = {}
        self._outcomes: dict[str, float] = {}
        self._asked: list[str] = []
        self._packs: dict[str, int] = {}

    def begin(self) -> Trials:
        """Every trial that is planned or can be asked for now; those of a plan that exists are in it afterwards."""
        _check_same(self._directory, self._sweep)
        planned = self._read_plan()
        self._note([row for part in self._directory.readable_parts("trials", list(_OUTCOME)) for row in _rows(part)])
        fresh = not planned and not self._outcomes
        if not fresh and not all(standing.batches for standing in self._standings.values()):
            for table in ("history", "trials"):
                self._directory.widen(table, metric_columns(self._sweep.tasks))
        for standing in self._standings.values():
            for trials in self._advance(standing):
                planned += trials
                if not fresh:
                    self._plan(trials)
        return Trials.of(planned)

    def prepared(self, found: Prepared) -> Prepared:
        """A run directory as it was prepared, with what is still to be asked for; its counts follow the search."""
        self._packs = dict(found.packs) | {UNASKED: self._unasked()}
        return replace(found, packs=self._packs)

    def after(self, pack: str) -> list[str]:
        """Tell a study how a pack ended; names of packs that it asks for now.

        A study waits for what infrastructure lost: going on without would make its course depend on the loss.
        """
        parts = self._directory.readable_parts("trials", list(_OUTCOME), parts={pack})
        self._note([row for part in parts for row in _rows(part)])
        names = [name for trials in self._advance(self._of_pack[pack]) for name in self._plan(trials)]
        self._asked += names
        self._packs[UNASKED] = self._unasked()
        return names

    def ended(self, found: Prepared) -> Prepared:
        """A run directory with what was asked for since, for `study.sweep_run.lost`."""
        left = [UNASKED] if self._packs[UNASKED] else []
        return replace(found, missing=(*found.missing, *self._asked, *left))

    def _unasked(self) -> int:
        trials = searched(self._sweep).trials
        asked = [sum(len(batch.asked) for batch in standing.batches.values()) for standing in self._standings.values()]
        return sum(max(0, trials - count) for count in asked) * self._sweep.design.seeds

    def _read_plan(self) -> list[Any]:
        """The planned trials; the batches that they make are noted."""
        trials = []
        parts = {part.name: part.table.to_pylist() for part in self._directory.readable_parts("plan")}
        for name in sorted(parts, key=lambda name: (len(name), name)):
            groups: dict[tuple[object, ...], list[Row]] = {}
            for row in parts[name]:
                trial = trial_from_row(row)
                trials.append(trial)
                groups.setdefault(key_of(trial), []).append(row)
            for key, rows in groups.items():
                if key not in self._standings:
                    raise UserError(
                        f"{self._directory} was begun with {rows[0]['method']} on {rows[0]['task']} and a structure "
                        "that the file has not any more: a search may only get more, so choose another --out"
                    )
                self._take_up(self._standings[key], rows)
        return trials

    def _take_up(self, standing: Standing, rows: Sequence[Row]) -> None:
        """Note the batch that rows of one part of a plan make."""
        seeds = self._sweep.design.seeds
        ordered = sorted(rows, key=lambda row: (row["point"], row["seed"]))
        configurations = [ordered[place : place + seeds] for place in range(0, len(ordered), seeds)]
        start, packs = int(ordered[0]["point"]), list(dict.fromkeys(row["pack"] for row in rows))
        standing.batches[start] = Batch(
            start,
            [standing.study.read_back(group[0]) for group in configurations],
            [numbers_of(group[0]) for group in configurations],
            [[row["trial_id"] for row in group] for group in configurations],
            packs,
        )
        self._of_pack |= dict.fromkeys(packs, standing)
        if start == 0 and searched(self._sweep).batch == "auto":
            # it began on another device, maybe; how many were asked for then may be all that `trials` left
            standing.size = max(1, int(rows[0]["capacity"]) // seeds)

    def _note(self, rows: Sequence[Row]) -> None:
        stopped = {row["pack"] for row in rows if row["status"] == Status.STOPPED}
        columns = ["trial_id", "evaluation", "primary"]
        parts = self._directory.readable_parts("history", columns, parts=stopped) if stopped else ()
        measured = sorted((row for part in parts for row in _rows(part)), key=lambda row: int(row["evaluation"]))
        last = {row["trial_id"]: row["primary"] for row in measured}
        self._outcomes |= {row["trial_id"]: _outcome(row, last) for row in rows}

    def _advance(self, standing: Standing) -> list[Trials]:
        """Ask a study for whatever it can be asked for now: mostly one batch, or none while it waits for results."""
        found = []
        start, past, starts = 0, list[list[Tried]](), list[int]()
        while start in standing.batches or start < searched(self._sweep).trials:
            starts.append(start)
            if start not in standing.batches:
                found.append(self._ask(standing, past, starts))
            batch = standing.batches[start]
            if not all(name in self._outcomes for ids in batch.ids for name in ids):
                break
            past.append(
                [
                    Tried(asked, median_of_seeds(self._outcomes[name] for name in ids))
                    for asked, ids in zip(batch.asked, batch.ids, strict=True)
                ]
            )
            start += len(batch.asked)
        return found

    def _ask(self, standing: Standing, past: Sequence[Sequence[Tried]], starts: Sequence[int]) -> Trials:
        start, study, sweep = starts[-1], standing.study, self._sweep
        later = [other - start for other in standing.batches if other > start]  # where a part of the plan was lost
        count = min([standing.size, *later] if later else [standing.size, searched(sweep).trials - start])
        asked = asked_next(sweep, study, past, count=count, starts=starts)
        before = [numbers for other in starts[:-1] for numbers in standing.batches[other].numbers]
        trials = trials_of(sweep, study, asked, before=before)
        seeds, ids = sweep.design.seeds, trials.columns["trial_id"].astype(str).tolist()
        packs = packs_of(sweep, trials).names
        grouped = [ids[place : place + seeds] for place in range(0, len(ids), seeds)]
        # as it will be read from the plan, whose numbers differ in the last digit: going on must not depend on stops
        rows = [asdict(trial.hyperparameters) for trial in trials[::seeds]]
        kept = [study.read_back(row) for row in rows]
        standing.batches[start] = Batch(start, kept, [numbers_of(row) for row in rows], grouped, packs)
        self._of_pack |= dict.fromkeys(packs, standing)
        return trials

    def _plan(self, trials: Trials) -> list[str]:
        """Add a batch to the plan; names of its packs."""
        packs = packs_of(self._sweep, trials)
        write_plan(self._directory, self._sweep, packs)
        self._packs |= dict(zip(packs.names, packs.sizes.tolist(), strict=True))
        return packs.names


_OUTCOME = ("trial_id", "pack", "status", "primary")


def _rows(part: Part) -> list[Row]:
    rows: list[Row] = part.table.to_pylist()
    return rows


def _outcome(row: Row, last: Mapping[str, float]) -> float:
    """The value of a trial, of one that was stopped the last that was measured; infinity for a failure."""
    value = {Status.COMPLETED: row["primary"], Status.STOPPED: last.get(row["trial_id"])}.get(row["status"])
    return math.inf if value is None else float(value)


def median_of_seeds(outcomes: Iterable[float]) -> float | None:
    """What a sampler is told of the seeds of a configuration: their median, of two middle ones the worse.

    Args:
        outcomes: Primary values, infinity for failures, which are worse than any value.

    Returns:
        The value; None where it is a failure.
    """
    middle = statistics.median_high(outcomes)
    return middle if math.isfinite(middle) else None


def _check_same(directory: RunDirectory, sweep: Sweep) -> None:
    """Refuse a file whose search would have asked for something else than the plan holds."""
    stored = directory.read(SWEEP)
    if not stored:
        return
    try:
        before, now = flat(tomllib.loads(stored.decode())), flat(tomllib.loads(to_toml(sweep)))
    except ValueError:
        return  # it cannot be read, and is written anew
    added = [key for key in now if key not in before and not key.startswith("variant.")]
    for key in [*before, *added]:
        if before.get(key) != now.get(key) and not key.startswith(MAY_CHANGE):
            raise UserError(
                f"{directory} was begun with another search: {key} was {before.get(key, 'not set')} and is "
                f"{now.get(key, 'not set')}; it may only get more trials, tasks and methods, so choose another --out"
            )

"""What can be wrong with a run directory: it is read once, and each check says what it finds.

Whatever can be told from the files is told: other packages, such as torch, are not needed.
"""

from __future__ import annotations

import contextlib
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from study.errors import UserError
from study.lease import holder
from study.parquet import BrokenFileError, ForeignFileError
from study.parts import BEING_MERGED, MERGED, Listing
from study.schema import SCHEMA_VERSION, TABLES, Status
from study.search import unasked
from study.spec import parse_sweep
from study.store import ENTRIES, FOLDERS, LEASE, MANIFEST, RESULTS, SWEEP, RunDirectory, filled

IMPORTED = "imported"
"""A manifest's key that a run of somebody else's results has; such a run has no sweep file."""

SHOWN = 3
"""Names that a finding gives."""


@dataclass(frozen=True)
class Finding:
    """One thing that is not as it should be.

    Attributes:
        kind: missing, duplicate, truncated, foreign, newer, contradiction or leftover.
        where: The file or folder, relative to the run directory.
        words: What is the matter, in a sentence.
        wrong: False for what is merely left over or not ours, and harms nothing.
        files: What a repair would remove.
        repaired: True if that was done.
    """

    kind: str
    where: str
    words: str
    wrong: bool = True
    files: tuple[str, ...] = ()
    repaired: bool = False


@dataclass(frozen=True)
class Examined:
    """A run directory while it is looked at; every table is read once."""

    directory: RunDirectory

    @cached_property
    def faults(self) -> dict[str, dict[str, BrokenFileError]]:
        """Files of each table that are not what they should be, and why."""
        return {table: self.directory.faults(table, thorough=True) for table in TABLES}

    @cached_property
    def listings(self) -> dict[str, Listing]:
        """The files of each table; a merged one that is broken holds nothing."""
        return {table: self.directory.listing(table) for table in self.faults}

    @cached_property
    def broken(self) -> dict[str, set[str]]:
        """Files of each table that nothing is read of."""
        return {table: set(found) for table, found in self.faults.items()}

    @cached_property
    def plan(self) -> dict[str, list[str]]:
        """Planned trial ids by pack."""
        found: dict[str, list[str]] = {}
        for trial, pack in _pairs(self.whole("plan", ["trial_id", "pack"])):
            found.setdefault(pack, []).append(trial)
        return found

    def completed(self) -> set[str]:
        """Planned trials that completed, of packs whose rows can be read."""
        status = dict(self.rows)
        planned = (trial for pack in self.done & self.plan.keys() for trial in self.plan[pack])
        return {trial for trial in planned if status.get(trial) == Status.COMPLETED.value}

    @cached_property
    def rows(self) -> list[tuple[str, str]]:
        """Trial id and status of every row of `trials`."""
        return list(_pairs(self.whole("trials", ["trial_id", "status"])))

    @cached_property
    def done(self) -> set[str]:
        """Packs whose rows can be read."""
        return set(self.listings["trials"].packs()) - self.broken["trials"]

    def missing_packs(self) -> int:
        """Packs that `run` would train: as it does itself, those without rows or without history."""
        histories = set(self.listings["history"].packs()) - self.broken["history"]
        return len(self.plan.keys() - (self.done if self.imported else self.done & histories))

    def unasked(self) -> int:
        """Trials that a search has still to ask for; 0 where there is no sweep file that says so."""
        with contextlib.suppress(UserError, ValueError):
            sweep = parse_sweep(tomllib.loads((self.directory.read(SWEEP) or b"").decode()), source=SWEEP, stored=True)
            return sum(unasked(sweep, Counter(_pairs(self.whole("plan", ["task", "method"])))).values())
        return 0

    @cached_property
    def driver(self) -> str | None:
        """Who is running it now."""
        found = holder(self.directory)
        return f"process {found['pid']} on {found['host']} is at work" if found else None

    @cached_property
    def imported(self) -> bool:
        """Whether it holds somebody else's results."""
        return IMPORTED in (self.directory.read_json(MANIFEST) or {})

    def whole(self, table: str, columns: Sequence[str]) -> Iterator[Any]:
        """The files of a table that can be read, a table of Arrow each."""
        found = self.directory.readable_parts(table, columns)
        return (filled(table, part.table, columns) for part in found if part.name not in self.broken[table])

    def history(self) -> Iterator[tuple[str, int, int]]:
        """Trial id, rows and different evaluations of every trial in `history`."""
        for part in self.whole("history", ["trial_id", "evaluation"]):
            counts = part.group_by("trial_id").aggregate([("evaluation", "count"), ("evaluation", "count_distinct")])
            yield from zip(*(counts[name].to_pylist() for name in _COUNTED), strict=True)

    def sampled(self) -> set[str]:
        """Trial ids with generated samples."""
        found = (trial for part in self.whole("samples", ["trial_id"]) for trial in part["trial_id"].to_pylist())
        return {trial for trial in found if trial is not None}


_COUNTED = ("trial_id", "evaluation_count", "evaluation_count_distinct")


def _pairs(tables: Iterable[Any]) -> Iterator[tuple[str, str]]:
    for table in tables:
        yield from zip(*(column.to_pylist() for column in table.columns), strict=True)


def newer_files(run: Examined) -> Iterator[Finding]:
    """What a newer version wrote."""
    version = (run.directory.read_json(MANIFEST) or {}).get("schema_version", 0)
    if isinstance(version, int) and version > SCHEMA_VERSION:
        words = f"has schema version {version}, this manypaths reads up to {SCHEMA_VERSION}: use the newer one"
        yield Finding("newer", MANIFEST, words)
    for table in TABLES:
        try:
            run.directory.faults(table)
        except UserError as error:
            yield Finding("newer", table, str(error))


def _essentials(run: Examined) -> Iterator[Finding]:
    if run.directory.read_json(MANIFEST) is None:
        there = run.directory.exists(MANIFEST)
        words = "is no whole JSON file" if there else "is not there"
        yield Finding("truncated" if there else "missing", MANIFEST, f"{words}: `manypaths run` writes it anew")
    if not run.imported:
        yield from _sweep_file(run)
    if not run.plan:
        yield Finding("missing", "plan", "has no trials: `manypaths run` plans them from the sweep file")


def _sweep_file(run: Examined) -> Iterator[Finding]:
    text = run.directory.read(SWEEP)
    if text is None:
        yield Finding("missing", SWEEP, "is not there: `manypaths run` of the sweep file puts it back")
        return
    try:
        tomllib.loads(text.decode())
    except ValueError as error:
        yield Finding("truncated", SWEEP, f"is not TOML ({error}): `manypaths run` of the sweep file puts it back")


def _names(run: Examined) -> Iterator[Finding]:
    others = [entry.name for entry in run.directory.entries() if entry.name not in ENTRIES]
    others = [name for name in others if not name.startswith(".")]
    if others:
        yield Finding("foreign", others[0], f"is not a run's: nothing reads it{_beside(others)}", wrong=False)
    for table in TABLES:
        for entry in run.directory.entries(table):
            hidden = entry.name.startswith((".", "_"))
            if entry.bytes is None or not (hidden or entry.name.endswith(".parquet")):
                words = "is not a part: who reads the folder with another program stumbles over it"
                yield Finding("foreign", f"{table}/{entry.name}", words)


def _broken(run: Examined) -> Iterator[Finding]:
    for table, found in run.faults.items():
        for name, error in sorted(found.items()):
            file = f"{table}/{name}.parquet"
            if isinstance(error, ForeignFileError):
                yield Finding("foreign", file, str(error).partition(f"{file} ")[2])
                continue
            what = "its packs run again" if table in RESULTS else "planned again"
            if name.startswith(MERGED):
                what = f"refused; with `--repair` this file goes, and {what}"
            yield Finding(
                "truncated", file, f"is not a whole Parquet file: with `manypaths run`, {what}", files=(file,)
            )


def _twice(run: Examined) -> Iterator[Finding]:
    for table in RESULTS:
        listing = run.listings[table]
        needless = listing.needless()
        if needless or listing.marked:
            files = tuple(f"{table}/{name}.parquet" for name in [*needless, *[BEING_MERGED] * listing.marked])
            words = f"an interrupted compaction left {len(needless)} files whose rows another has: " + (
                "`manypaths compact` goes on with it"
            )
            yield Finding("duplicate", table, words, files=files)


def _foreign_parts(run: Examined) -> Iterator[Finding]:
    for table in RESULTS:
        names = set(run.listings[table].packs()) - run.plan.keys() - run.broken[table]
        held = {pack: name for name, packs in run.listings[table].merged.items() for pack, _ in packs}
        for name in sorted(name for name in names if table != "samples" or not name.startswith("real-")):
            words = "is not of a planned pack: its rows count where it lies"
            if name in held:
                words = f"of pack {name}, {words}"
            yield Finding("foreign", f"{table}/{held.get(name, name)}.parquet", words)


def _trials(run: Examined) -> Iterator[Finding]:
    planned = Counter(trial for trials in run.plan.values() for trial in trials)
    rows = Counter(trial for trial, _ in run.rows)
    yield from _about("duplicate", "plan", [trial for trial, n in planned.items() if n > 1], "planned more than once")
    yield from _about("duplicate", "trials", [trial for trial, n in rows.items() if n > 1], "in more than one row")
    yield from _about("foreign", "trials", rows.keys() - planned.keys(), "with a row and without a plan")
    short = [trial for pack in run.done & run.plan.keys() for trial in run.plan[pack] if trial not in rows]
    yield from _about(
        "missing", "trials", short, "without a row, though their pack has rows: remove the file that has them"
    )


def _history(run: Examined) -> Iterator[Finding]:
    if run.imported:
        return
    absent = run.done & run.plan.keys() - set(run.listings["history"].packs())
    yield from _about("missing", "history", absent, "packs with rows in `trials` and no history", unit="")
    begun = set(run.listings["history"].packs()) & run.plan.keys() - set(run.listings["trials"].packs())
    words = "packs have a history and no rows yet: `manypaths run` writes both"
    yield from _about("leftover", "history", begun, words, unit="", wrong=False)
    planned = {trial for trials in run.plan.values() for trial in trials}
    seen, twice, foreign = set(), [], []
    for trial, rows, evaluations in run.history():
        twice += [trial] if trial in seen or rows != evaluations else []
        foreign += [] if trial in planned else [trial]
        seen.add(trial)
    yield from _about("duplicate", "history", twice, "with an evaluation in more than one row")
    yield from _about("foreign", "history", foreign, "with a history and without a plan")
    elsewhere = {trial for pack in run.plan.keys() & (set(run.broken["history"]) | absent) for trial in run.plan[pack]}
    silent = run.completed() - seen - elsewhere
    yield from _about("contradiction", "history", silent, "completed, and without a row of history")


def _samples(run: Examined) -> Iterator[Finding]:
    planned = {trial for trials in run.plan.values() for trial in trials}
    sampled = run.sampled()
    yield from _about("foreign", "samples", sampled - planned, "with samples and without a plan")
    tasks = dict(_pairs(run.whole("plan", ["trial_id", "task"])))
    kept = {tasks[trial] for trial in sampled & planned}
    silent = [trial for trial in run.completed() - sampled if tasks[trial] in kept]
    words = "completed, and without the samples that others of their task have"
    yield from _about("missing", "samples", silent, words, wrong=False)


def _leftovers(run: Examined) -> Iterator[Finding]:
    if run.driver:  # what would be left over may be at work
        return
    for folder in ("", *(folder for folder in FOLDERS if folder != "ray")):
        names = (f"{folder}/{entry.name}".lstrip("/") for entry in run.directory.entries(folder))
        files = [name for name in names if name.rpartition("/")[2].startswith(".") and name.endswith(".tmp")]
        yield from _left(folder or ".", files, "unfinished writes")
    if run.directory.exists(LEASE):
        yield from _left(LEASE, [LEASE], "lease of a driver that is gone")
    progress = [f"progress/{name}" for name in run.directory.names("progress")]
    yield from _left("progress", progress, "notes of progress, with nobody at work")
    kept = run.directory.names("checkpoints")
    done = [f"checkpoints/{name}" for name in kept if name.partition("-")[0].partition(".")[0] in run.done]
    yield from _left("checkpoints", done, "checkpoints of finished packs")


CHECKS: tuple[Callable[[Examined], Iterator[Finding]], ...] = (
    *(_essentials, _names, _broken, _twice, _foreign_parts, _trials, _history, _samples, _leftovers),
)


def _left(where: str, files: Sequence[str], what: str) -> Iterator[Finding]:
    if files:
        words = f"{len(files)} {what}: {_some(file.rpartition('/')[2] for file in files)}"
        yield Finding("leftover", where, words, wrong=False, files=tuple(files))


def _about(
    kind: str, where: str, names: Iterable[str], words: str, *, unit: str = "trials ", wrong: bool = True
) -> Iterator[Finding]:
    names = sorted(names)
    if names:
        yield Finding(kind, where, f"{len(names)} {unit}{words}: {_some(names)}", wrong=wrong)


def _beside(names: Sequence[str]) -> str:
    return f" (and {len(names) - 1} others: {_some(names[1:])})" if len(names) > 1 else ""


def _some(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")

"""What is wrong with a run directory, what is left over in it, what `run` would do next; changes nothing unasked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from study import compaction
from study.checks import CHECKS, Examined, Finding, newer_files
from study.errors import UserError
from study.lease import lease
from study.manifest import foreign_entry
from study.parts import MERGED
from study.store import LEASE, RESULTS, RunDirectory


@dataclass(frozen=True)
class Diagnosis:
    """Everything found.

    Attributes:
        findings: What is not as it should be.
        planned: Planned trials.
        rows: Trials with a row.
        missing_packs: Packs that `run` would train.
        unasked: Trials that a search has still to ask for, beside the planned ones.
        driver: Who is running it now, in words; None if nobody is.
        stranger: What keeps it from being taken for a run; None if nothing does.
    """

    findings: tuple[Finding, ...]
    planned: int
    rows: int
    missing_packs: int
    unasked: int
    driver: str | None
    stranger: str | None = None

    @property
    def unrepaired(self) -> tuple[Finding, ...]:
        """What is still not as it should be."""
        return tuple(found for found in self.findings if not found.repaired)

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong, or it was repaired."""
        return not any(found.wrong for found in self.unrepaired)

    @property
    def next(self) -> str:
        """What `run` of the sweep file would do."""
        if self.driver:
            return f"`manypaths run` would refuse: {self.driver}"
        if any(found.kind == "newer" for found in self.findings):
            return "`manypaths run` would refuse: a newer manypaths wrote this"
        if self.stranger:
            return f"`manypaths run` would refuse: it holds {self.stranger!r}, which is not a run's"
        if any(found.kind == "truncated" and f"/{MERGED}" in found.where for found in self.unrepaired):
            return "`manypaths run` would refuse: a merged file cannot be read"
        if not self.planned:
            return "`manypaths run` would plan the sweep and run all of it"
        later = f"ask for {self.unasked} trials more"
        if not self.missing_packs:
            return f"`manypaths run` would {later if self.unasked else 'find nothing to do'}"
        open_ = self.planned - self.rows
        more = f" and {later}" if self.unasked else ""
        return f"`manypaths run` would train {self.missing_packs} packs{more}; {open_} planned trials have no row"

    def as_json(self) -> dict[str, Any]:
        """The diagnosis as JSON data."""
        findings = [{key: value for key, value in asdict(found).items() if key != "files"} for found in self.findings]
        counts = {"planned": self.planned, "rows": self.rows, "missing_packs": self.missing_packs}
        counts |= {"unasked": self.unasked}
        return {"sound": self.sound, "findings": findings} | counts | {"driver": self.driver, "next": self.next}


def examine(directory: RunDirectory) -> Diagnosis:
    """Look at a run directory and change nothing.

    Raises:
        UserError: If there is nothing there.
    """
    if not directory.names():
        raise UserError(f"{directory} is not a run directory: there is nothing; `manypaths run` makes one")
    run = Examined(directory)
    newer = list(newer_files(run))
    if newer:  # what a newer version means by its columns is not known here
        return Diagnosis(tuple(newer), 0, 0, 0, 0, run.driver)
    findings = [found for check in CHECKS for found in check(run)]
    planned = {trial for trials in run.plan.values() for trial in trials}
    rows = planned & {trial for trial, _ in run.rows}
    missing, later = run.missing_packs(), run.unasked()
    stranger = foreign_entry(directory)
    return Diagnosis(tuple(findings), len(planned), len(rows), missing, later, run.driver, stranger)


def repair(directory: RunDirectory, say: Callable[[str], None]) -> Diagnosis:
    """Remove what is left over and what cannot be read, and say so; nothing else is ever changed.

    Raises:
        UserError: As `examine`, and if a driver is at work.
    """
    before = examine(directory)
    if any(found.files for found in before.findings):
        with lease(directory):
            for found in before.findings:
                _remove(directory, found, say)
    after = examine(directory)
    done = [replace(found, repaired=True) for found in before.findings if found.files]
    return replace(after, findings=(*done, *after.findings))


def _remove(directory: RunDirectory, found: Finding, say: Callable[[str], None]) -> None:
    if not found.files:
        return
    if found.where in RESULTS and found.kind == "duplicate":
        for name in compaction.resume(directory, found.where):  # in its own order: the mark last
            say(f"removed {directory}/{found.where}/{name}.parquet")
        return
    for name in found.files:
        if name != LEASE:  # which was taken over and given back
            directory.remove(name)
        say(f"removed {directory}/{name}")

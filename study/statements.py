"""What a run remembers of what its file states: claims and confirmatory pairs, when each came, and how the plan grew.

A verdict has its error only where the statement and the design were fixed before any result. So the manifest keeps, for
every statement, the number of trials that had a row when it was first seen, and every growth of the plan after results.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from study.claims import Claim, digest_of
from study.trial import digest

BEFORE, AFTER, WITHDRAWN = "before the run", "after the fact", "withdrawn"
"""When something was stated."""

EXTENDED = "extended after {rows} rows: no longer confirmatory"
"""What was stated before the run, on a design that was made larger after results."""

Record = dict[str, Any]
"""A statement as the manifest keeps it: `kind`, `id`, `hash`, `family`, `rows`, `withdrawn`, `planned`; of a pair also
its `methods`."""

Counts = dict[str, dict[str, int]]
"""Planned trials by task and method."""


@dataclass(frozen=True)
class Registered:
    """A claim as a run directory knows it.

    Attributes:
        id: The claim's id.
        family: The claim's family.
        rows: Trials that had a row when the claim was first seen: 0 if it was stated before the run; None where the
            run does not know, which counts as later.
        claim: The claim, resolved; None if the file no longer has it.
        withdrawn: Trials that had a row when it was found changed or gone; None while the file has it.
    """

    id: str
    family: str
    rows: int | None
    claim: Claim | None
    withdrawn: int | None = None


@dataclass(frozen=True)
class Extension:
    """A growth of the plan after results.

    Attributes:
        rows: Trials that had a row then.
        before: Trials that were planned before it.
        after: Trials that were planned after it.
        cells: Task and method of whatever had trials before and got more.
    """

    rows: int
    before: int
    after: int
    cells: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Declared:
    """Confirmatory pairs by when they were stated.

    Attributes:
        before: Those of the file that were stated before the run.
        late: Those of the file that came after results.
        withdrawn: Those that were stated before the run and taken out after results.
    """

    before: tuple[tuple[str, str], ...]
    late: tuple[tuple[str, str], ...]
    withdrawn: tuple[tuple[str, str], ...]


def statements(claims: Sequence[Claim], pairs: Sequence[Sequence[str]]) -> list[Record]:
    """What a file states, as records without a time; a pair and its reverse are one."""
    found = [
        {"kind": "claim", "id": claim.id, "hash": digest_of(claim), "family": claim.family} for claim in claims
    ] + [
        {
            "kind": "pair",
            "id": " vs ".join(pair),
            "hash": _pair_hash(pair),
            "family": "confirmatory",
            "methods": list(pair),
        }
        for pair in pairs
    ]
    return list({record["hash"]: record for record in reversed(found)}.values())[::-1]


def _pair_hash(pair: Sequence[str]) -> str:
    return digest(sorted(pair))


def known(manifest: Mapping[str, Any], pairs: Sequence[Sequence[str]]) -> list[Record]:
    """The records of a manifest.

    Args:
        manifest: The manifest; one that was written before pairs were noted has records of its claims at most.
        pairs: Confirmatory pairs of the stored file, which then count as stated before the run.
    """
    if "stated" in manifest:
        return list(manifest["stated"])
    claims = [{"kind": "claim", **record} for record in manifest.get("claims", [])]
    return claims + [{**record, "rows": 0, "withdrawn": None} for record in statements((), pairs)]


def note(
    records: Sequence[Record], stated: Sequence[Record], rows: int, planned: int
) -> tuple[list[Record], list[str]]:
    """What a run remembers of its statements, brought up to date.

    Args:
        records: What it remembered.
        stated: The `statements` of its file now.
        rows: How many trials have a row now.
        planned: How many trials are planned now.

    Returns:
        What it remembers now, and a sentence for each statement that came or went after results.
    """
    now = {record["hash"] for record in stated}
    kept, remarks = [], []
    for record in records:
        if record["hash"] in now:
            kept.append({**record, "withdrawn": None})
        elif record["withdrawn"] is not None:
            kept.append(dict(record))
        elif rows:
            kept.append({**record, "withdrawn": rows})
            remarks.append(f"{_named(record)} was changed or taken out after {rows} trials had rows: that is noted")
    seen = {record["hash"] for record in kept}
    for record in stated:
        if record["hash"] in seen:
            continue
        kept.append({**record, "rows": rows, "planned": planned, "withdrawn": None})
        if rows:
            is_said = "its verdict is" if record["kind"] == "claim" else "it is exploratory,"
            remarks.append(f"{_named(record)} came after {rows} trials had rows: {is_said} labelled {AFTER!r}")
    return kept, remarks


def _named(record: Record) -> str:
    return f"{'claim' if record['kind'] == 'claim' else 'confirmatory pair'} {record['id']!r}"


def registered(records: Sequence[Record], claims: Sequence[Claim]) -> tuple[Registered, ...]:
    """The resolved claims of a run's file with when they were first seen, then those that it no longer has."""
    noted = {record["hash"]: record for record in records if record["kind"] == "claim"}
    present = {digest_of(claim): claim for claim in claims}
    return (
        *(
            Registered(claim.id, claim.family, noted[key]["rows"] if key in noted else None, claim)
            for key, claim in present.items()
        ),
        *(
            Registered(record["id"], record["family"], record["rows"], None, record["withdrawn"] or 0)
            for key, record in noted.items()
            if key not in present
        ),
    )


def declared(records: Sequence[Record], pairs: Sequence[tuple[str, str]]) -> Declared:
    """The confirmatory pairs of a run's file, and those that it no longer has, by when they were stated."""
    noted = {record["hash"]: record for record in records if record["kind"] == "pair"}
    first = {key for key, record in noted.items() if record["rows"] == 0}
    present = {_pair_hash(pair) for pair in pairs}
    return Declared(
        tuple(pair for pair in pairs if _pair_hash(pair) in first),
        tuple(pair for pair in pairs if _pair_hash(pair) not in first),
        tuple((str(a), str(b)) for key in noted if key in first - present for a, b in [noted[key]["methods"]]),
    )


def counted(cells: Mapping[tuple[str, str], int]) -> Counts:
    """How many trials of each method are planned on each task, given the numbers by task and method."""
    counts: Counts = {}
    for (task, method), count in cells.items():
        counts.setdefault(task, {})[method] = count
    return counts


def brought_up_to_date(
    manifest: Mapping[str, Any],
    stated: Sequence[Record],
    pairs: Sequence[Sequence[str]],
    rows: int,
    before: Counts,
    after: Counts,
) -> tuple[Record, list[str]]:
    """A manifest that remembers what is stated now and how the plan grew.

    Args:
        manifest: The manifest as it is.
        stated: The `statements` of the file now.
        pairs: As `known` takes them.
        rows: How many trials have a row now.
        before: Trials that were planned when it was written.
        after: Trials that are planned now.

    Returns:
        The manifest as it should be, and what a user has to know, a sentence each.
    """
    records, remarks = note(known(manifest, pairs), stated, rows, _total(after))
    grown, extended = _grown(before, after), list(manifest.get("extensions", []))
    if rows and grown:
        sizes = {"before": _total(before), "after": _total(after)}
        extended.append({"rows": rows, **sizes, "cells": [list(cell) for cell in grown]})
        if any(record["rows"] == 0 for record in records):
            remarks.append(f"the design grew after {rows} trials had rows: verdicts on it are labelled so")
    kept = {key: value for key, value in manifest.items() if key != "claims"}  # an older version's records
    return kept | {"stated": records, "planned": after, "extensions": extended}, remarks


def _grown(before: Counts, after: Counts) -> list[tuple[str, str]]:
    """Tasks and methods that had trials and have more: new ones change nothing of what was planned for the others."""
    return [
        (task, method)
        for task, counts in after.items()
        for method, count in counts.items()
        if 0 < before.get(task, {}).get(method, 0) < count
    ]


def _total(counts: Counts) -> int:
    return sum(sum(cell.values()) for cell in counts.values())


def extensions(manifest: Mapping[str, Any]) -> tuple[Extension, ...]:
    """The extensions that a manifest remembers, in order."""
    return tuple(
        Extension(item["rows"], item["before"], item["after"], tuple((task, method) for task, method in item["cells"]))
        for item in manifest.get("extensions", [])
    )

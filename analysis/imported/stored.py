"""An import as a run directory, and such a directory read back: everything else reads it like any other run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from analysis.imported.declared import Declaration
from analysis.imported.identity import ALIASES
from analysis.imported.rows import LOST_PACK, PACK, Tables, build
from analysis.imported.source import Source
from analysis.results import Results
from search_spaces.domains import Domain, When
from study.errors import UserError
from study.forms import read_domain, write_domain
from study.schema import SCHEMA_VERSION
from study.store import MANIFEST, RunDirectory, arrow_schema, build_table

KEY = "imported"
"""The manifest's entry that makes a run directory an imported one."""

TITLES = {"table": "a table", "optuna": "an Optuna study", "ray": "a Ray Tune experiment"}


def write(directory: RunDirectory, source: Source, declaration: Declaration) -> Tables:
    """Write a source as a run; an earlier import in the same directory is replaced.

    Raises:
        UserError: If the directory holds something else, or the source and the declaration do not go together.
    """
    if note(directory) is None and directory.names():
        raise UserError(f"{directory} is neither empty nor an earlier import: give another --out")
    name = str(directory).rstrip("/").rpartition("/")[2]
    tables = build(source, declaration, name=name)
    frames = {"history": tables.history, "trials": tables.trials, "plan": tables.plan}
    for table, frame in frames.items():
        if frame.empty and table == "history":
            directory.remove(f"{table}/{PACK}.parquet")
        else:
            directory.write_part(table, PACK, _table(table, frame))
    attempt = f"attempts/{LOST_PACK}.json"
    directory.remove(attempt)
    if tables.lost is not None:
        directory.write_json(attempt, {"pack": LOST_PACK, "outcome": "failed", "reason": tables.lost})
    directory.write_json(MANIFEST, {"schema_version": SCHEMA_VERSION, KEY: _note(name, source, declaration, tables)})
    return tables


def note(directory: RunDirectory) -> dict[str, Any] | None:
    """What the manifest says of an import; None for every other directory."""
    try:
        found = (directory.read_json(MANIFEST) or {}).get(KEY)
    except OSError:  # it cannot be read at all: whoever reads it as a run says so
        return None
    return found if isinstance(found, dict) else None


def results(
    directory: RunDirectory,
    said: Mapping[str, Any],
    read_history: Callable[[tuple[str, ...] | None], pd.DataFrame],
) -> Results:
    """An imported run's results.

    Args:
        directory: The run directory.
        said: Its `note`.
        read_history: Reads some columns of its history.

    Raises:
        UserError: If its tables contradict themselves.
    """
    try:
        return Results(
            name=said["name"],
            plan=directory.read_table("plan").to_pandas(),
            trials=directory.read_table("trials").to_pandas(),
            confirmatory=(),
            notice=said["notice"],
            prior=said["prior"],
            domains={name: read_domain(raw) for name, raw in said["domains"].items()},
            read_history=read_history if directory.parts("history") else None,
        )
    except (ValueError, KeyError) as error:
        raise UserError(f"the tables of {directory} cannot be trusted: {error}") from None


def _note(name: str, source: Source, declaration: Declaration, tables: Tables) -> dict[str, Any]:
    facts = tables.plan[["task", "metric", "threshold", "anchor_low", "anchor_high"]].drop_duplicates()
    return {
        "name": name,
        "kind": source.kind,
        "source": source.origin,
        "notice": f"Imported from {TITLES[source.kind]}, {source.origin}: trained and measured elsewhere.",
        "prior": tables.prior,
        "sampler": tables.sampler,
        "domains": {key: write_domain(domain) for key, domain in domains(source, declaration).items()},
        "facts": {row.pop("task"): row for row in facts.to_dict("records")},
        "remarks": list(tables.remarks),
    }


def domains(source: Source, declaration: Declaration) -> dict[str, Domain | When]:
    """The domains of the source in our words, and over them those that were declared."""
    theirs = {name: ours for ours, name in declaration.map.items()}
    words = {column: word for word, column in ALIASES.items()}
    found = {theirs.get(name, name): domain for name, domain in source.domains.items()} | dict(declaration.domains)
    return {words.get(name, name): domain for name, domain in found.items()}


def _table(name: str, frame: pd.DataFrame) -> Any:  # noqa: ANN401  # pyarrow, which has no types, stays in study.store
    """A frame as an Arrow table: the schema's columns, null where it lacks them, then its own that have any value."""
    types = {field.name: str(field.type) for field in arrow_schema(name)}
    columns = {str(column): _values(frame[column], types.get(column, "")) for column in frame}
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    table = build_table(name, rows)
    for column, values in columns.items():
        if column not in types and any(value is not None for value in values):
            table = table.append_column(column, [values])
    return table


def _values(column: pd.Series, kind: str) -> list[object]:
    """Python's values of a column, None where one is missing."""
    whole = kind.startswith("int")
    values = column.astype(object).where(column.notna(), None)
    return [int(value) if whole and value is not None else value for value in values]

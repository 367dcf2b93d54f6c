"""An import as a run directory, and such a directory read back: everything else reads it like any other run."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
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
from study.store import MANIFEST, REPORT, RunDirectory, arrow_schema, build_table

KEY = "imported"
"""The manifest's entry that makes a run directory an imported one."""

ATTEMPT = f"attempts/{LOST_PACK}.json"
IMPORTED = ("history", "trials", "plan")
"""The tables of an import."""

FORMS = (".csv", ".png", ".svg", ".pdf")
"""Files of figures."""

TITLES = {"table": "a table", "optuna": "an Optuna study", "ray": "a Ray Tune experiment"}


def write(directory: RunDirectory, source: Source, declaration: Declaration) -> Tables:
    """Write a source as a run; an earlier import of the same source is replaced, and its report removed.

    The manifest goes first and comes last: a write that fails or is killed leaves nothing that reads as a run.

    Raises:
        UserError: If the directory holds something else, or the source and the declaration do not go together.
        OSError: If it cannot be written; what was written is removed.
    """
    _check_free(directory, source)
    name = str(directory).rstrip("/").rpartition("/")[2]
    tables = build(source, declaration, name=name)
    was_there = directory.local and Path(directory.root).exists()
    _clear(directory)
    try:
        _publish(directory, tables)
        manifest = {"schema_version": SCHEMA_VERSION, KEY: _note(name, source, declaration, tables)}
        directory.write_json(MANIFEST, manifest)
    except BaseException:
        with contextlib.suppress(OSError):  # the first error is the one to tell
            _clear(directory)
        if directory.local and not was_there:
            _remove_empty(Path(directory.root))
        raise
    return tables


def _check_free(directory: RunDirectory, source: Source) -> None:
    """Nothing but an earlier import of the same source may be there."""
    said = note(directory)
    if said is None and directory.names():
        raise UserError(f"{directory} is neither empty nor an earlier import: give another --out")
    if said is not None and (said.get("kind"), said.get("source")) != (source.kind, source.origin):
        raise UserError(
            f"{directory} is an import of {said.get('source')}, not of {source.origin}: give another --out, or delete "
            "that one"
        )


def _publish(directory: RunDirectory, tables: Tables) -> None:
    frames = {"history": tables.history, "trials": tables.trials, "plan": tables.plan}
    for table, frame in frames.items():
        if not frame.empty or table != "history":
            directory.write_part(table, PACK, _table(table, frame))
    if tables.lost is not None:
        directory.write_json(ATTEMPT, {"pack": LOST_PACK, "outcome": "failed", "reason": tables.lost})


def _clear(directory: RunDirectory) -> None:
    """Remove what an import writes and what is made of it: the manifest, the tables, the report and its figures."""
    tables = [f"{table}/{PACK}.parquet" for table in IMPORTED]
    figures = [f"figures/{name}" for form in FORMS for name in directory.names("figures", form)]
    for name in (MANIFEST, *REPORT, *figures, *tables, ATTEMPT):
        directory.remove(name)
    for folder in ("figures", "attempts", *IMPORTED) if directory.local else ():
        _remove_empty(Path(directory.root) / folder)


def _remove_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):  # it is not there, or something else is in it
        folder.rmdir()


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

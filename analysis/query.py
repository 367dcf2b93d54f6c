"""SQL over a run's tables: DuckDB reads the Parquet where it lies, and can neither write nor see anything else."""

from __future__ import annotations

import base64
import json
import math
import re
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb

from analysis.columns import VIEWS, describe
from study.errors import UserError, unknown
from study.schema import SCHEMA_VERSION, Column
from study.store import RunDirectory

STARTS = {"select", "with", "from", "pivot", "pivot_wider"}
"""How a statement of type MULTI, a PIVOT whose columns depend on the data, begins when it only reads."""

CLOSED = (
    "set python_enable_replacements = false",
    "set temp_directory = ''",
    "set enable_external_access = false",
    "set lock_configuration = true",
)
"""What is forbidden once the views are there: variables of this process, files, the net, and allowing them again."""

MOST = 5_000_000
"""Most rows of an answer, which is held in memory."""

OFFLINE: dict[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
}

JOINED = """
create view planned as
select plan.*, trials.* exclude ({shared}),
       case when trials.status = 'completed' then trials."primary"
            when trials.status in ('diverged', 'oom') then 'inf'::double end as outcome
from plan left join trials using (trial_id)
"""

Table = Any
"""A table of pyarrow, which only `study.store` imports."""


def query(directory: RunDirectory, sql: str) -> Table:
    """The rows that one reading statement gives, as an Arrow table.

    The views are the run's tables of files (`plan`, `trials`, `history`, `samples`) and `planned`: every planned trial,
    its outcome null where it has none yet. Files on a local disk are read in place, only the columns that the statement
    needs; files elsewhere are loaded, only the tables that it names. Broken files are left out, as everywhere.

    Raises:
        UserError: If it is no run directory or written by a newer version, or the statement is wrong, is not one
            statement, does more than read, or gives two columns the same name.
    """
    check(directory)
    used = _used(sql)
    try:
        return _answer(directory, used, sql, in_place=_readable_in_place(directory))
    except duckdb.Error as error:
        if not any(directory.broken_parts(table) for table in used):
            raise _mistake(error) from None
    try:
        return _answer(directory, used, sql, in_place=False)
    except duckdb.Error as error:
        raise _mistake(error) from None


def views(directory: RunDirectory) -> dict[str, list[Column]]:
    """The views of a run, each with the columns that it has.

    Raises:
        UserError: If it is no run directory.
    """
    check(directory)
    with _connect(directory, tuple(VIEWS), in_place=_readable_in_place(directory)) as connection:
        primary = "select metric, list(distinct task order by task) from plan group by metric"
        tasks = dict(connection.execute(primary).fetchall())
        return {
            view: describe(view, connection.sql(f"select * from {view} limit 0").columns, primary=tasks)
            for view in VIEWS
        }


def listing(directory: RunDirectory) -> list[dict[str, str]]:
    """The columns of `views`, a row each."""
    return [
        {"view": view, "column": column.name, "type": column.type, "meaning": column.meaning}
        for view, columns in views(directory).items()
        for column in columns
    ]


def check(directory: RunDirectory) -> None:
    """Refuse what is no run directory."""
    try:
        found = directory.parts("plan")
    except OSError as error:
        raise UserError(f"cannot read the run directory {directory}: {error.strerror or error}") from None
    if not found:
        raise UserError(f"{directory} is not a run directory: it has no plan; `manypaths run` makes one")


def _used(sql: str) -> tuple[str, ...]:
    """The views that a statement may need: those it names, all if it names none."""
    named = tuple(view for view in VIEWS if re.search(rf"\b{view}\b", sql, re.IGNORECASE))
    return named or tuple(VIEWS)


def _readable_in_place(directory: RunDirectory) -> bool:
    return directory.local and not re.search(r"[*?\[\]{}]", str(directory.root))  # they would be patterns


def _answer(directory: RunDirectory, used: Sequence[str], sql: str, *, in_place: bool) -> Table:
    with _connect(directory, used, in_place=in_place) as connection:
        _refuse_writing(connection, sql)
        relation = connection.sql(sql)
        names = relation.columns
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise UserError(f"SQL: two columns of the result are called {twice[0]!r}: rename one (AS) or EXCLUDE it")
        answer = relation.limit(MOST + 1).to_arrow_table()
        if len(answer) > MOST:
            raise UserError(f"SQL: the answer has more than {MOST:,} rows: aggregate it, or end it with LIMIT")
        return answer


def _connect(directory: RunDirectory, used: Sequence[str], *, in_place: bool) -> duckdb.DuckDBPyConnection:
    """A database in memory with some views, which sees these tables and nothing else."""
    files = sorted({"plan", "trials"} | set(used) if "planned" in used else set(used))
    tables = [name for name in files if name != "planned"]
    connection = duckdb.connect(":memory:", config=OFFLINE)
    for table in tables:
        found = directory.listing(table)
        if in_place and found.packs() and found.plain():
            _view_of_files(connection, directory, table)
        else:
            connection.register(table, directory.read_table(table))
    if "planned" in used:
        columns = [set(connection.sql(f"select * from {table} limit 0").columns) for table in ("plan", "trials")]
        shared = ", ".join(f'"{name}"' for name in sorted(columns[0] & columns[1]))
        connection.execute(JOINED.format(shared=shared))
    folders = ", ".join(_quoted(f"{directory.root}/{table}/") for table in tables)
    connection.execute(f"set allowed_directories = [{folders}]")
    for setting in CLOSED:
        connection.execute(setting)
    return connection


def _view_of_files(connection: duckdb.DuckDBPyConnection, directory: RunDirectory, table: str) -> None:
    files = _quoted(f"{directory.root}/{table}/*.parquet")
    newest = connection.execute(
        f"select max(decode(value)::int) from parquet_kv_metadata({files}) where decode(key) = 'schema_version'"
    ).fetchone()
    if newest and newest[0] is not None and newest[0] > SCHEMA_VERSION:
        raise UserError(
            f"{directory}/{table} has schema version {newest[0]}, this manypaths reads up to {SCHEMA_VERSION}: "
            "use the newer manypaths"
        )
    connection.execute(
        f"create view {table} as select * from read_parquet({files}, union_by_name = true, hive_partitioning = false)"
    )


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _refuse_writing(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    statements = connection.extract_statements(sql)
    if len(statements) != 1:
        raise UserError(f"SQL: one statement is needed, found {len(statements)}")
    kind = statements[0].type.name
    first = re.sub(r"--[^\n]*|/\*.*?\*/", " ", sql, flags=re.DOTALL).split(maxsplit=1)[0].lower()
    if kind != "SELECT" and not (kind == "MULTI" and first in STARTS):
        raise UserError(f"SQL: a query reads and changes nothing, but this is {kind}: begin with SELECT")


def _mistake(error: duckdb.Error) -> UserError:
    """DuckDB's complaint in a line, with what exists."""
    first, *others = str(error).splitlines()
    hints = [line for line in others if line.startswith(("Candidate", "Did you mean"))]
    said = " ".join([first, *hints[:1]])
    return UserError(f"SQL: {said} (views: {', '.join(VIEWS)}; `manypaths query RUN` lists their columns)")


# Forms


def write(table: Table, form: str) -> bytes:
    """Rows as the bytes of a file.

    Args:
        table: What `query` gave.
        form: One of `FORMATS`.

    Raises:
        UserError: For an unknown form.
    """
    check_format(form)
    return FORMATS[form](table)


def check_format(form: str) -> None:
    """Refuse a form that does not exist, before anything is asked."""
    if form not in FORMATS:
        raise unknown("format", form, FORMATS)


def _text(table: Table) -> bytes:
    rows = [list(table.column_names), *_cells(table, missing="-")]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    return _lines(lines)


def _markdown(table: Table) -> bytes:
    head = list(table.column_names)
    rows = [head, ["---"] * len(head), *_cells(table, missing="")]
    return _lines("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)


def _json(table: Table) -> bytes:
    rows = [{name: _plain(value) for name, value in row.items()} for row in table.to_pylist()]
    return (json.dumps(rows, indent=1, default=str, allow_nan=False) + "\n").encode()


def _plain(value: object) -> object:
    """What JSON can hold. It has no infinity: a word, as null would make a failure look undecided."""
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value


def _csv(table: Table) -> bytes:
    return _written(lambda rows, path: rows.write_csv(path), table)


def _parquet(table: Table) -> bytes:
    return _written(lambda rows, path: rows.write_parquet(path), table)


def _written(work: Callable[[duckdb.DuckDBPyRelation, str], object], table: Table) -> bytes:
    with tempfile.TemporaryDirectory() as folder, duckdb.connect(":memory:", config=OFFLINE) as connection:
        path = Path(folder, "rows")
        work(connection.from_arrow(table), str(path))
        return path.read_bytes()


def _cells(table: Table, *, missing: str) -> Iterable[list[str]]:
    columns = [[_cell(value, missing) for value in column.to_pylist()] for column in table.columns]
    return (list(row) for row in zip(*columns, strict=True))


def _cell(value: object, missing: str) -> str:
    if value is None:
        return missing
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    return " ".join(str(value).split("\n"))


def _lines(lines: Iterable[str]) -> bytes:
    return ("\n".join(lines) + "\n").encode()


FORMATS: Mapping[str, Callable[[Table], bytes]] = {
    "table": _text,
    "markdown": _markdown,
    "csv": _csv,
    "json": _json,
    "parquet": _parquet,
}
"""Form to the function that writes it."""

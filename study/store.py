"""The run directory: the one place that reads and writes Parquet, on a local disk or any Arrow file system.

Files are built in memory and published whole under their final name, so a reader sees the old content or the new and
a killed writer leaves nothing that looks finished. Small files may have been merged into few (`study.compaction`):
here a part is a pack's rows, whatever file holds them.
"""

from __future__ import annotations

import json
import os
import time
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from study.errors import UserError
from study.filesystem import REQUESTS, Folder
from study.parts import BEING_MERGED, MERGED, Listing, Packs, Piece, packs_of
from study.schema import SCHEMA_VERSION, TABLES

SWEEP, MANIFEST, LEASE, COMPACTED = "sweep.toml", "manifest.json", "lease.json", "compacted.json"
FOLDERS = ("plan", "trials", "history", "attempts", "progress", "checkpoints", "samples", "figures", "files", "ray")
REPORT = ("report.html", "summary.csv", "comparisons.csv")
ENTRIES = {SWEEP, MANIFEST, LEASE, COMPACTED, *FOLDERS, *REPORT}
"""Everything that belongs in a run directory."""

RESULTS = ("history", "samples", "trials")
"""Tables with a part of each pack, which can be merged; the last is the commit."""

PART_FORMAT: dict[str, dict[str, Any]] = {
    # many parts of few rows and many columns: what a column costs beside its numbers is what reading them costs
    "trials": {"compression": "none", "use_dictionary": False, "write_statistics": False, "store_schema": False},
    "plan": {"compression": "zstd"},
    "history": {"compression": "zstd", "write_statistics": False},
    "samples": {"compression": "zstd", "use_dictionary": False, "write_statistics": False},
}
"""How each table's parts are encoded."""

ROWS = {"plan": 2**14}
"""Rows of a group that is read at once, where it is not all of a small file: a worker reads its own pack's."""

MERGED_FORMAT: dict[str, Any] = {"compression": "zstd"}
"""How files of many packs are encoded."""

AT_ONCE = 256
"""Files whose rows are in memory together where one after the other is looked at."""

PATIENCE = (0.0, 0.1, 0.3, 1.0, 3.0)
"""Seconds to wait before reading a table again whose files were merged meanwhile; NFS shows old names for a while."""


def arrow_type(name: str) -> pa.DataType:
    """The Arrow type of a column's type name in the schema."""
    return pa.list_(pa.int32()) if name == "list<int32>" else pa.type_for_alias(name)


def arrow_schema(table: str, metrics: Sequence[str] = ()) -> pa.Schema:
    """The Arrow schema of a table, with the sweep's metric columns at the end."""
    fields = [pa.field(c.name, arrow_type(c.type)) for c in TABLES[table]]
    fields += [pa.field(name, pa.float64()) for name in metrics]
    return pa.schema(fields, metadata={"schema_version": str(SCHEMA_VERSION)})


@dataclass(frozen=True)
class Part:
    """Rows of one file of a table.

    Attributes:
        name: The file's name, without suffix.
        table: The rows.
        packs: The packs they belong to.
    """

    name: str
    table: pa.Table
    packs: tuple[str, ...] = ()


class RunDirectory(Folder):
    """A run directory by path or URI; every file name of a run comes from here."""

    def __init__(self, root: str | Path) -> None:
        """Open a run directory, which need not exist yet; see `Folder`."""
        super().__init__(root)
        self._held: dict[str, Packs] = {}

    # Files

    def listing(self, table: str) -> Listing:
        """The files of a table now, and which packs the merged ones hold."""
        names = [name.removesuffix(".parquet") for name in self.names(table, ".parquet")]
        noted = self.noted(table) if table in RESULTS else []  # read after the names: see docs/storage.md
        merged, broken = {}, []
        for name in sorted({name for name in names if name.startswith(MERGED)} | set(noted)):
            try:
                if name in names or self.exists(f"{table}/{name}.parquet"):
                    merged[name] = self._packs_in(table, name)
            except FileNotFoundError:
                continue
            except OSError:
                broken.append(name)
        small = tuple(name for name in names if not name.startswith((MERGED, BEING_MERGED)))
        return Listing(small, merged, tuple(broken), BEING_MERGED in names)

    def noted(self, table: str) -> list[str]:
        """Merged files that there are, or were to be, of a table; noted before the first small file is removed."""
        names: list[str] = (self.read_json(COMPACTED) or {}).get(table, [])
        return names

    def _packs_in(self, table: str, name: str) -> Packs:
        """What a merged file holds; asked once, for the name changes with it."""
        key = f"{table}/{name}"
        if key not in self._held:
            with self._opened(table, name) as file:
                said = (file.schema_arrow.metadata or {}).get(b"packs", b"null")
            try:
                self._held[key] = packs_of(json.loads(said))
            except ValueError as error:
                raise OSError(f"{self}/{key}.parquet is not a merged file: {error}") from None
        return self._held[key]

    def _opened(self, table: str, file: str) -> pq.ParquetFile:
        path = f"{self._path}/{table}/{file}.parquet"
        try:
            # files are many and small: one request for all columns
            found = pq.ParquetFile(path, filesystem=self._fs, pre_buffer=True)
        except pa.ArrowInvalid as error:
            raise OSError(f"{path} is not a whole Parquet file: {error}") from None
        _refuse_newer(found.schema_arrow.metadata or {}, path)
        return found

    def read_file(self, table: str, file: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Read one file of a table.

        Raises:
            UserError: If it was written by a newer version.
            OSError: If it is not a whole Parquet file (pyarrow's ArrowInvalid is a ValueError and an OSError here).
        """
        try:
            # threads between small files, not inside
            with self._opened(table, file) as opened:
                found = opened.read(columns=columns, use_threads=file.startswith(MERGED))
        except pa.ArrowInvalid as error:
            raise OSError(f"{self}/{table}/{file}.parquet is not a whole Parquet file: {error}") from None
        kept = {key: value for key, value in (found.schema.metadata or {}).items() if key != b"packs"}
        return found.replace_schema_metadata(kept or None)

    def read_rows(self, table: str, file: str, rows: range) -> pa.Table:
        """Some rows of a file, one after the other; the groups of rows that hold none of them are not read."""
        with self._opened(table, file) as opened:
            sizes = [opened.metadata.row_group(group).num_rows for group in range(opened.num_row_groups)]
            starts = np.cumsum([0, *sizes])
            wanted = [g for g in range(len(sizes)) if starts[g] < rows.stop and starts[g + 1] > rows.start]
            found = opened.read_row_groups(wanted, use_threads=False)
        return found.slice(rows.start - starts[wanted[0]], len(rows))

    def write_file(self, table: str, file: str, content: pa.Table, packs: Packs | None = None) -> None:
        """Publish one file of a table; with `packs`, a merged one that holds these in the order of its rows."""
        said = dict(content.schema.metadata or {})
        if packs is not None:
            said[b"packs"] = json.dumps(packs).encode()
        sink = pa.BufferOutputStream()
        form = PART_FORMAT[table] if packs is None else MERGED_FORMAT
        with pq.ParquetWriter(sink, content.schema.with_metadata(said), **form) as writer:
            writer.write_table(content.replace_schema_metadata(said), row_group_size=ROWS.get(table, 2**17))
            writer.add_key_value_metadata(said)  # which the schema, where it is stored, would give too
        self.publish(f"{table}/{file}.parquet", sink.getvalue().to_pybytes())

    # Tables

    def write_part(self, table: str, part: str, content: pa.Table) -> None:
        """Publish a pack's rows, unless a merged file has them already: a second writer changes nothing."""
        if table in RESULTS and any(part in dict(self._merged(table, name)) for name in self.noted(table)):
            return
        self.write_file(table, part, content)

    def _merged(self, table: str, name: str) -> Packs:
        try:
            return self._packs_in(table, name)
        except OSError:
            return ()

    def parts(self, table: str) -> list[str]:
        """Names of a table's parts, in order, each once."""
        return self.listing(table).packs()

    def read_part(self, table: str, part: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Read one part.

        Raises:
            UserError: If it was written by a newer version.
            OSError: If it is not there or not in a whole Parquet file.
        """
        try:
            return self.read_file(table, part, columns)
        except OSError:
            for piece in self.listing(table).pieces({part}):
                if piece.file != part:
                    return self._read(table, piece, columns)
            raise

    def _read(self, table: str, piece: Piece, columns: Sequence[str] | None) -> pa.Table:
        found = self.read_file(table, piece.file, columns)
        return found if piece.spans is None else pa.concat_tables([found.slice(*span) for span in piece.spans])

    def _found(
        self, table: str, pieces: Sequence[Piece], columns: Sequence[str] | None
    ) -> Iterator[tuple[Piece, pa.Table | OSError]]:
        """What reading each piece gives, in order; some files at a time, side by side."""

        def read(piece: Piece) -> pa.Table | OSError:
            try:
                return self._read(table, piece, columns)
            except OSError as error:
                return error

        with ThreadPoolExecutor(os.cpu_count() if self.local else REQUESTS) as pool:
            for first in range(0, len(pieces), AT_ONCE):
                some = pieces[first : first + AT_ONCE]
                yield from zip(some, pool.map(read, some), strict=True)

    def readable_parts(
        self, table: str, columns: Sequence[str] | None = None, *, parts: Collection[str] | None = None
    ) -> Iterator[Part]:
        """The rows of every file, or of some parts; broken files are left out (`broken_parts` names them)."""
        for piece, found in self._found(table, self.listing(table).pieces(parts), columns):
            if not isinstance(found, OSError):
                yield Part(piece.file, found, piece.packs)

    def broken_parts(self, table: str) -> list[str]:
        """Files that are not whole Parquet files and whose rows no other has."""
        listing = self.listing(table)
        broken = [piece.file for piece, found in self._found(table, listing.pieces(), ["trial_id"]) if _bad(found)]
        return sorted([*broken, *listing.broken])

    def read_table(
        self, table: str, columns: Sequence[str] | None = None, *, parts: Collection[str] | None = None
    ) -> pa.Table:
        """A whole table, or some parts of it, joined; an empty table with the fixed columns if there are none.

        Raises:
            UserError: If it was written by a newer version.
            OSError: If its files keep changing.
        """
        wanted = None if parts is None else set(parts)
        for seconds in PATIENCE:
            time.sleep(seconds)
            listing = self.listing(table)
            found = list(self._found(table, listing.pieces(wanted), columns))
            if not any(isinstance(rows, FileNotFoundError) for _, rows in found):
                break
        else:
            raise OSError(f"the files of {self}/{table} keep changing: try again")
        self._warn_of(table, [*listing.broken, *(piece.file for piece, rows in found if isinstance(rows, OSError))])
        tables = [rows for _, rows in found if not isinstance(rows, OSError)]
        if not tables:
            empty = arrow_schema(table).empty_table()
            return empty.select(list(columns)) if columns else empty
        return joined(tables)

    def _warn_of(self, table: str, broken: Iterable[str]) -> None:
        for name in broken:
            warnings.warn(
                f"{self}/{table}/{name}.parquet is not a whole Parquet file: its rows are left out, and "
                "`manypaths run` of the sweep file makes them again",
                stacklevel=3,
            )

    def widen(self, table: str, metrics: Sequence[str]) -> None:
        """Rewrite the files of a table that lack some of the given metric columns, adding them as nulls."""
        listing, schema = self.listing(table), arrow_schema(table, metrics)
        for name in [piece.file for piece in listing.pieces()]:
            try:
                content = self.read_file(table, name)
            except OSError:
                continue
            missing = [metric for metric in metrics if metric not in content.column_names]
            if missing:
                nulls = {metric: pa.nulls(len(content), pa.float64()) for metric in missing}
                columns = dict(zip(content.column_names, content.columns, strict=True)) | nulls
                wide = pa.table({f.name: columns[f.name] for f in schema}, schema=schema)
                self.write_file(table, name, wide, listing.merged.get(name))


def _bad(found: pa.Table | OSError) -> bool:
    return isinstance(found, OSError) and not isinstance(found, FileNotFoundError)


def _refuse_newer(metadata: Mapping[bytes, bytes], path: str) -> None:
    version = int(metadata.get(b"schema_version", b"0"))
    if version > SCHEMA_VERSION:
        raise UserError(
            f"{path} has schema version {version}, this manypaths reads up to {SCHEMA_VERSION}: "
            "use the newer manypaths or another --out"
        )


def joined(tables: Sequence[pa.Table]) -> pa.Table:
    """The rows of some tables, one after the other; columns that one lacks are null."""
    return pa.concat_tables(tables, promote_options="permissive")


def build_table(table: str, rows: Iterable[Mapping[str, Any]], metrics: Sequence[str] = ()) -> pa.Table:
    """Rows as an Arrow table with the table's exact schema; absent keys are null."""
    schema = arrow_schema(table, metrics)
    rows = list(rows)
    return pa.table({f.name: pa.array([row.get(f.name) for row in rows], f.type) for f in schema}, schema=schema)


def table_of_columns(table: str, columns: Mapping[str, NDArray[Any] | tuple[NDArray[Any], Sequence[Any]]]) -> pa.Table:
    """Columns as an Arrow table with the table's exact schema.

    Args:
        table: Its name.
        columns: For each column an array of shape (rows,), NaN for null and bytes for texts; or an array of indices
            and the few values that they stand for, None for null.

    Returns:
        The table; absent columns are null.
    """
    schema = arrow_schema(table)
    rows = max((len(part[0] if isinstance(part, tuple) else part) for part in columns.values()), default=0)

    def made(name: str, kind: pa.DataType) -> pa.Array:
        content = columns.get(name, (np.zeros(rows, np.int8), [None]))
        if isinstance(content, tuple):
            return pa.array(content[1], kind).take(pa.array(content[0]))
        return pa.array(content, from_pandas=True).cast(kind)

    return pa.table({f.name: made(f.name, f.type) for f in schema}, schema=schema)


def read_design_table(path: Path) -> list[dict[str, Any]]:
    """Rows of a design table, a Parquet or CSV file.

    Raises:
        UserError: If it cannot be read, has no rows, or has an empty cell or NaN.
    """
    try:
        table = pq.read_table(path) if path.suffix == ".parquet" else pa.csv.read_csv(path)
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"cannot read the design table {path}: {str(error).splitlines()[0]}") from None
    if not len(table):
        raise UserError(f"the design table {path} has no rows")
    rows: list[dict[str, Any]] = table.to_pylist()
    for index, row in enumerate(rows):
        for name, value in row.items():
            if value is None or value != value:
                raise UserError(
                    f"the design table {path} has no value for {name} in row {index + 1}: every cell is needed"
                )
    return rows


def parquet_header(path: Path) -> tuple[int, list[str]]:
    """Number of rows and names of columns of any Parquet file.

    Raises:
        UserError: If it cannot be read.
    """
    try:
        with pq.ParquetFile(path) as file:
            return file.metadata.num_rows, file.schema_arrow.names
    except (OSError, ValueError, pa.ArrowException) as error:
        raise UserError(f"cannot read {path}: {str(error).splitlines()[0]}") from None


def read_columns(path: Path, columns: Sequence[str], *, rows: int = 256) -> Iterator[dict[str, list[Any]]]:
    """Some columns of any Parquet file as Python values, so many rows at a time.

    Raises:
        UserError: If it cannot be read.
    """
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=rows, columns=list(columns)):
                yield batch.to_pydict()
    except (OSError, ValueError, pa.ArrowException) as error:
        raise UserError(f"cannot read {path}: {str(error).splitlines()[0]}") from None

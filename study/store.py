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
from numpy.typing import NDArray

from study.files import write_whole
from study.filesystem import REQUESTS
from study.parquet import KEY, BrokenFileError, ForeignFileError, ParquetFolder
from study.parts import BEING_MERGED, MERGED, Listing, Packs, Piece, packs_of
from study.schema import SCHEMA_VERSION, TABLES

SWEEP, MANIFEST, LEASE, COMPACTED = "sweep.toml", "manifest.json", "lease.json", "compacted.json"
FOLDERS = ("plan", "trials", "history", "attempts", "progress", "checkpoints", "samples", "figures", "files", "ray")
REPORT = ("report.html", "summary.csv", "comparisons.csv")
ENTRIES = {SWEEP, MANIFEST, LEASE, COMPACTED, *FOLDERS, *REPORT}
"""Everything that belongs in a run directory."""

OF_THE_MOMENT = ("attempts", "progress")
"""Folders of what is told about packs while they run. Nothing is lost with it, so nobody waits until a disk has it:
that takes longer than training to the next evaluation may."""

RESULTS = ("history", "samples", "trials")
"""Tables with a part of each pack, which can be merged; the last is the commit."""

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


class RunDirectory(ParquetFolder):
    """A run directory by path or URI; every file name of a run comes from here."""

    def __init__(self, root: str | Path) -> None:
        """Open a run directory, which need not exist yet; see `Folder`."""
        super().__init__(root)
        self._held: dict[str, Packs] = {}
        self._bad: dict[str, BrokenFileError] = {}

    # Files

    def publish(self, name: str, data: bytes) -> None:
        """As `Folder.publish`; what is of the moment alone may be gone after the machine failed."""
        if not self.local or name.partition("/")[0] not in OF_THE_MOMENT:
            super().publish(name, data)
            return
        path = Path(self._path, name)
        path.parent.mkdir(parents=self.makes, exist_ok=True)
        write_whole(path, data)

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
            except BrokenFileError as error:
                self._bad[f"{table}/{name}"] = error
                broken.append(name)
        small = tuple(name for name in names if not name.startswith((MERGED, BEING_MERGED)))
        return Listing(small, merged, tuple(broken), BEING_MERGED in names)

    def noted(self, table: str) -> list[str]:
        """Merged files that there are, or were to be, of a table; noted before the first small file is removed."""
        if self.local and not Path(self._path, COMPACTED).exists():
            return []  # as nearly always, when a pack is written: reading takes long to find that out
        names = (self.read_json(COMPACTED) or {}).get(table)
        return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []

    def _packs_in(self, table: str, name: str) -> Packs:
        """What a merged file holds; asked once, for the name changes with it. One that was found broken stays so."""
        key = f"{table}/{name}"
        if key in self._bad:
            raise self._bad[key]
        if key not in self._held:
            said = self.looked_at(table, name, lambda file: (file.schema_arrow.metadata or {}).get(b"packs", b"null"))
            try:
                self._held[key] = packs_of(json.loads(said))
            except ValueError as error:
                raise BrokenFileError(f"{self}/{key}.parquet is not a merged file: {error}") from None
        return self._held[key]

    def write_merged(self, table: str, name: str, content: pa.Table, packs: Packs) -> None:
        """Publish a merged file that holds these packs, in the order of its rows."""
        self._bad.pop(f"{table}/{name}", None)
        self.write_file(table, name, content, json.dumps(packs).encode())

    # Tables

    def write_part(self, table: str, part: str, content: pa.Table) -> None:
        """Publish a pack's rows, unless a merged file has them already: a second writer changes nothing."""
        if self._is_merged(table, part):
            return
        self.write_file(table, part, content)
        if self._is_merged(table, part):  # since it was asked
            self.remove(f"{table}/{part}.parquet")

    def _is_merged(self, table: str, part: str) -> bool:
        return table in RESULTS and any(part in dict(self._merged(table, name)) for name in self.noted(table))

    def _merged(self, table: str, name: str) -> Packs:
        try:
            return self._packs_in(table, name)
        except (FileNotFoundError, BrokenFileError):
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
        if piece.spans is None:
            return self.read_file(table, piece.file, columns)
        return self.read_spans(table, piece.file, piece.spans, columns)

    def _found(
        self, table: str, pieces: Sequence[Piece], columns: Sequence[str] | None
    ) -> Iterator[tuple[Piece, pa.Table | OSError]]:
        """What reading each piece gives, in order; some files at a time, side by side.

        Raises:
            OSError: If storage cannot be read; a file that is gone or broken is an answer.
        """

        def read(piece: Piece) -> pa.Table | OSError:
            try:
                return self._read(table, piece, columns)
            except FileNotFoundError as error:
                return error
            except BrokenFileError as error:
                if piece.file.startswith(MERGED):  # others may hold what it held
                    self._bad[f"{table}/{piece.file}"] = error
                return error

        with ThreadPoolExecutor(os.cpu_count() if self.local else REQUESTS) as pool:
            for first in range(0, len(pieces), AT_ONCE):
                some = pieces[first : first + AT_ONCE]
                yield from zip(some, pool.map(read, some), strict=True)

    def readable_parts(
        self, table: str, columns: Sequence[str] | None = None, *, parts: Collection[str] | None = None
    ) -> Iterator[Part]:
        """The rows of every file, or of some parts; broken files are left out (`broken_parts` names them)."""
        elsewhere: set[str] = set()
        for piece, found in self._found(table, self.listing(table).pieces(parts), columns):
            if not isinstance(found, OSError):
                yield Part(piece.file, found, piece.packs)
            elif f"{table}/{piece.file}" in self._bad:
                elsewhere.update(piece.packs)
        if elsewhere:
            yield from self.readable_parts(table, columns, parts=elsewhere)

    def broken_parts(self, table: str) -> list[str]:
        """Files that are not whole Parquet files and whose rows no other has."""
        return sorted(name for name, error in self.faults(table).items() if not isinstance(error, ForeignFileError))

    def faults(self, table: str, *, thorough: bool = False) -> dict[str, BrokenFileError]:
        """Files that are not what they should be, and why.

        Args:
            table: The table.
            thorough: True to decode all columns, not the first alone.
        """
        listing = self.listing(table)
        found = {name: self._bad[f"{table}/{name}"] for name in listing.broken}
        for piece, rows in self._found(table, listing.pieces(), [KEY]):
            if isinstance(rows, BrokenFileError):
                found[piece.file] = rows
        if thorough:
            for name in [*listing.small, *listing.merged]:
                try:
                    self.check_file(table, name)
                except FileNotFoundError:
                    continue
                except BrokenFileError as error:
                    found[name] = error
                    if name in listing.merged:
                        self._bad[f"{table}/{name}"] = error
        return found

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
            if not any(isinstance(rows, FileNotFoundError) or self._is_bad(table, piece) for piece, rows in found):
                break
        else:
            raise OSError(f"the files of {self}/{table} keep changing: try again")
        broken = {piece.file: rows for piece, rows in found if isinstance(rows, BrokenFileError)}
        there = set(listing.packs())
        missed = [name for name in listing.broken if not self._packs_of_bad(table, name) <= there]
        self._warn_of(table, {name: self._bad[f"{table}/{name}"] for name in missed} | broken)
        tables = [rows for _, rows in found if not isinstance(rows, OSError)]
        if not tables:
            empty = arrow_schema(table).empty_table()
            return empty.select(list(columns)) if columns else empty
        return joined(tables)

    def _is_bad(self, table: str, piece: Piece) -> bool:
        return f"{table}/{piece.file}" in self._bad

    def _packs_of_bad(self, table: str, name: str) -> set[str]:
        """The packs that a broken merged file held; if even that cannot be told, a set of something that is no pack."""
        return {pack for pack, _ in self._held.get(f"{table}/{name}", (("", 0),))}

    def _warn_of(self, table: str, broken: Mapping[str, BrokenFileError]) -> None:
        for name, error in broken.items():
            words = f"{error}: its rows are left out"
            if not isinstance(error, ForeignFileError):
                repair = f"`manypaths doctor {self} --repair` and then " if name.startswith(MERGED) else ""
                words = (
                    f"{self}/{table}/{name}.parquet is not a whole Parquet file: its rows are left out, and {repair}"
                    "`manypaths run` of the sweep file makes them again"
                )
            warnings.warn(words, stacklevel=3)

    def widen(self, table: str, metrics: Sequence[str]) -> None:
        """Rewrite the files of a table that lack some of the given metric columns, adding them as nulls."""
        listing, schema = self.listing(table), arrow_schema(table, metrics)
        for name in [piece.file for piece in listing.pieces()]:
            try:
                content = self.read_file(table, name)
            except (FileNotFoundError, BrokenFileError):
                continue
            missing = [metric for metric in metrics if metric not in content.column_names]
            if missing:
                nulls = {metric: pa.nulls(len(content), pa.float64()) for metric in missing}
                columns = dict(zip(content.column_names, content.columns, strict=True)) | nulls
                wide = pa.table({f.name: columns[f.name] for f in schema}, schema=schema)
                if name in listing.merged:
                    self.write_merged(table, name, wide, listing.merged[name])
                else:
                    self.write_file(table, name, wide)


def filled(table: str, found: pa.Table, columns: Sequence[str]) -> pa.Table:
    """Some columns of a file; one that it lacks, or that has another type than the table's, is null."""
    schema = arrow_schema(table)

    def made(name: str) -> object:
        kind = schema.field(name).type
        there = name in found.column_names and found.schema.field(name).type == kind
        return found[name] if there else pa.nulls(len(found), kind)

    return pa.table({name: made(name) for name in columns})


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

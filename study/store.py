"""The run directory: the one place that reads and writes Parquet, on a local disk or any Arrow file system.

Files are built in memory and published whole under their final name, so a reader sees the old content or the new and
a killed writer leaves nothing that looks finished.
"""

from __future__ import annotations

import contextlib
import json
import os
import uuid
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from pyarrow import fs

from study.errors import UserError
from study.files import write_whole
from study.schema import SCHEMA_VERSION, TABLES

SWEEP, MANIFEST, LEASE = "sweep.toml", "manifest.json", "lease.json"
FOLDERS = ("plan", "trials", "history", "attempts", "progress", "checkpoints", "samples", "figures", "files", "ray")
REPORT = ("report.html", "summary.csv", "comparisons.csv")
ENTRIES = {SWEEP, MANIFEST, LEASE, *FOLDERS, *REPORT}
"""Everything that belongs in a run directory."""


PART_FORMAT: dict[str, dict[str, Any]] = {
    # many parts of few rows and many columns: what a column costs beside its numbers is what reading them costs
    "trials": {"compression": "none", "use_dictionary": False, "write_statistics": False, "store_schema": False},
    "plan": {"compression": "zstd"},
    "history": {"compression": "zstd", "write_statistics": False},
    "samples": {"compression": "zstd", "use_dictionary": False, "write_statistics": False},
}
"""How each table's parts are encoded."""


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
    """One Parquet file of a table."""

    name: str
    table: pa.Table


class RunDirectory:
    """A run directory by path or URI; every file name of a run comes from here."""

    def __init__(self, root: str | Path) -> None:
        """Open a run directory, which need not exist yet.

        Args:
            root: A path, or a URI such as s3://bucket/runs/x.

        Raises:
            UserError: For a URI that no file system answers to.
        """
        try:
            if "://" in str(root):
                self._fs, self._path = fs.FileSystem.from_uri(str(root))
            else:
                self._fs, self._path = fs.LocalFileSystem(), str(Path(root).absolute())
        except (OSError, ValueError, pa.ArrowException) as error:
            raise UserError(f"cannot open the run directory {root}: {error}") from None
        self.local = isinstance(self._fs, fs.LocalFileSystem)
        if self.local and Path(self._path).is_file():
            raise UserError(f"{self._path} is a file: a run directory has to be a folder, or not to exist yet")
        self.root = self._path if self.local else str(root)

    def __str__(self) -> str:
        """The path or URI, as messages show it."""
        return self.root

    # Bytes

    def publish(self, name: str, data: bytes) -> None:
        """Write a file whole: readers see what was there before or all of `data`."""
        target = f"{self._path}/{name}"
        if not self.local:
            with self._fs.open_output_stream(target) as stream:
                stream.write(data)
            return
        path = Path(target)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, data, durable=True)

    def create(self, name: str, data: bytes) -> bool:
        """Write a file only if there is none; False if there is. Exact on a local disk, best effort elsewhere."""
        if not self.local:
            if self.read(name) is not None:
                return False
            self.publish(name, data)
            return True
        path = Path(self._path) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
        try:
            temporary.write_bytes(data)
            os.link(temporary, path)
        except FileExistsError:
            return False
        finally:
            temporary.unlink(missing_ok=True)
        return True

    def read(self, name: str) -> bytes | None:
        """A file's content, or None if there is no such file."""
        try:
            with self._fs.open_input_stream(f"{self._path}/{name}") as stream:
                content: bytes = stream.read()
                return content
        except FileNotFoundError:
            return None

    def remove(self, name: str) -> None:
        """Delete a file if it is there."""
        with contextlib.suppress(FileNotFoundError):
            self._fs.delete_file(f"{self._path}/{name}")

    def names(self, folder: str = "", suffix: str = "") -> list[str]:
        """Names inside a folder in order, hidden and temporary ones left out."""
        selector = fs.FileSelector(f"{self._path}/{folder}".rstrip("/"), allow_not_found=True)
        found = [info.base_name for info in self._fs.get_file_info(selector)]
        return sorted(name for name in found if not name.startswith(".") and name.endswith(suffix))

    def read_json(self, name: str) -> dict[str, Any] | None:
        """A JSON file's content; None if it is missing or not (yet) JSON."""
        data = self.read(name)
        try:
            content: dict[str, Any] | None = json.loads(data) if data else None
        except ValueError:
            return None
        return content

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        """Publish a JSON file."""
        self.publish(name, (json.dumps(content, indent=1, sort_keys=True) + "\n").encode())

    # Tables

    def write_part(self, table: str, part: str, content: pa.Table) -> None:
        """Publish one Parquet file of a table."""
        sink = pa.BufferOutputStream()
        with pq.ParquetWriter(sink, content.schema, **PART_FORMAT[table]) as writer:
            writer.write_table(content)
            writer.add_key_value_metadata(content.schema.metadata)  # which store_schema would have written
        self.publish(f"{table}/{part}.parquet", sink.getvalue().to_pybytes())

    def parts(self, table: str) -> list[str]:
        """Names of a table's parts, in order."""
        return [name.removesuffix(".parquet") for name in self.names(table, ".parquet")]

    def read_part(self, table: str, part: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Read one part.

        Raises:
            UserError: If it was written by a newer version.
            OSError: If it is not a whole Parquet file (pyarrow's ArrowInvalid is a ValueError and an OSError here).
        """
        path = f"{self._path}/{table}/{part}.parquet"
        try:
            # parts are many and small: one request for all columns, and threads between parts, not inside
            with pq.ParquetFile(path, filesystem=self._fs, pre_buffer=True) as file:
                _refuse_newer(file.schema_arrow.metadata or {}, path)
                return file.read(columns=columns, use_threads=False)
        except pa.ArrowInvalid as error:
            raise OSError(f"{path} is not a whole Parquet file: {error}") from None

    def readable_parts(self, table: str, columns: Sequence[str] | None = None) -> Iterator[Part]:
        """The whole parts of a table; broken ones are left out (`broken_parts` names them)."""
        for part in self.parts(table):
            try:
                yield Part(part, self.read_part(table, part, columns))
            except OSError:
                continue

    def _tables(self, table: str, columns: Sequence[str] | None, parts: Sequence[str]) -> Iterator[pa.Table]:
        """The tables of those parts that can be read, side by side and in order; a warning for each of the others."""

        def read(part: str) -> pa.Table | OSError:
            try:
                return self.read_part(table, part, columns)
            except OSError as error:
                return error

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for part, found in zip(parts, pool.map(read, parts), strict=True):
                if not isinstance(found, OSError):
                    yield found
                elif not isinstance(found, FileNotFoundError):
                    warnings.warn(
                        f"{self}/{table}/{part}.parquet is not a whole Parquet file: its rows are left out, and "
                        "`manypaths run` of the sweep file makes them again",
                        stacklevel=4,
                    )

    def broken_parts(self, table: str) -> list[str]:
        """Parts that are not whole Parquet files."""
        broken = []
        for part in self.parts(table):
            try:
                self.read_part(table, part, ["trial_id"])
            except OSError:
                broken.append(part)
        return broken

    def read_table(
        self, table: str, columns: Sequence[str] | None = None, *, parts: Sequence[str] | None = None
    ) -> pa.Table:
        """A whole table, or some parts of it, joined; an empty table with the fixed columns if there are none."""
        tables = list(self._tables(table, columns, self.parts(table) if parts is None else parts))
        if not tables:
            empty = arrow_schema(table).empty_table()
            return empty.select(list(columns)) if columns else empty
        return pa.concat_tables(tables, promote_options="permissive")

    def widen(self, table: str, metrics: Sequence[str]) -> None:
        """Rewrite the parts of a table that lack some of the given metric columns, adding them as nulls."""
        for part in self.readable_parts(table):
            missing = [name for name in metrics if name not in part.table.column_names]
            if missing:
                nulls = {name: pa.nulls(len(part.table), pa.float64()) for name in missing}
                columns = dict(zip(part.table.column_names, part.table.columns, strict=True)) | nulls
                self.write_part(
                    table,
                    part.name,
                    pa.table(
                        {f.name: columns[f.name] for f in arrow_schema(table, metrics)},
                        schema=arrow_schema(table, metrics),
                    ),
                )


def _refuse_newer(metadata: Mapping[bytes, bytes], path: str) -> None:
    version = int(metadata.get(b"schema_version", b"0"))
    if version > SCHEMA_VERSION:
        raise UserError(
            f"{path} has schema version {version}, this manypaths reads up to {SCHEMA_VERSION}: "
            "use the newer manypaths or another --out"
        )


def build_table(table: str, rows: Iterable[Mapping[str, Any]], metrics: Sequence[str] = ()) -> pa.Table:
    """Rows as an Arrow table with the table's exact schema; absent keys are null."""
    schema = arrow_schema(table, metrics)
    rows = list(rows)
    return pa.table({f.name: pa.array([row.get(f.name) for row in rows], f.type) for f in schema}, schema=schema)


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

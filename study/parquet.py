"""Parquet files, one at a time: those of a run directory, and those that users hand over."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from study.errors import UserError
from study.filesystem import Folder
from study.parts import MERGED, Spans
from study.schema import SCHEMA_VERSION

Seen = TypeVar("Seen")
KEY = "trial_id"
"""The column that every table has."""

PART_FORMAT: dict[str, dict[str, Any]] = {
    # many parts of few rows and many columns: what a column costs beside its numbers is what reading them costs
    "trials": {"compression": "none", "use_dictionary": False, "write_statistics": False, "store_schema": False},
    "plan": {"compression": "zstd"},
    "history": {"compression": "zstd", "use_dictionary": False, "write_statistics": False},
    "samples": {"compression": "zstd", "use_dictionary": False, "write_statistics": False},
}
"""How each table's parts are encoded."""

MERGED_FORMAT: dict[str, Any] = {"compression": "zstd"}
"""How files of many packs are encoded."""

GROUP_ROWS, GROUP_BYTES = {"plan": 2**11}, 2**24
"""Rows of a group, and bytes, that are read at once where it is not all of a small file: a pack's are in few groups."""


class BrokenFileError(OSError):
    """A file that can be read and is not what it should be. Storage that cannot be read is another matter."""


class ForeignFileError(BrokenFileError):
    """Something in a table's folder that no run wrote."""


class ParquetFolder(Folder):
    """A folder of tables, each a folder of Parquet files."""

    def looked_at(self, table: str, file: str, look: Callable[[pq.ParquetFile], Seen]) -> Seen:
        """What a look at a file gives.

        Args:
            table: The table.
            file: The file's name, without suffix.
            look: The look. Called again, on the bytes of the file, if it fails.

        Raises:
            UserError: If it was written by a newer version.
            BrokenFileError: If it is not a whole Parquet file of a table.
            OSError: If it cannot be read, or is not there.
        """
        name = f"{table}/{file}.parquet"
        try:
            # files are many and small: one request for all columns
            with pq.ParquetFile(f"{self._path}/{name}", filesystem=self._fs, pre_buffer=True) as opened:
                return self._checked(opened, name, look)
        except (FileNotFoundError, BrokenFileError):
            raise
        except (OSError, pa.ArrowException):
            if self.local and Path(self._path, name).is_dir():
                raise ForeignFileError(f"{self}/{name} is a folder") from None
        data = self.read(name)  # whether storage failed or the content is wrong, reading the bytes alone tells
        if data is None:
            raise FileNotFoundError(f"{self}/{name}")
        try:
            with pq.ParquetFile(pa.BufferReader(data)) as opened:
                return self._checked(opened, name, look)
        except BrokenFileError:
            raise
        except (OSError, pa.ArrowException) as error:
            raise BrokenFileError(f"{self}/{name} is not a whole Parquet file: {error}") from None

    def _checked(self, opened: pq.ParquetFile, name: str, look: Callable[[pq.ParquetFile], Seen]) -> Seen:
        schema = opened.schema_arrow
        place = schema.get_field_index(KEY)
        if place < 0 or not pa.types.is_string(schema.field(place).type):
            raise ForeignFileError(f"{self}/{name} is no part of a run: it has no texts in a column {KEY}")
        _refuse_newer(schema.metadata or {}, f"{self}/{name}")
        return look(opened)

    def read_file(self, table: str, file: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Read one file of a table; raises as `looked_at`."""
        # threads between small files, not inside
        found = self.looked_at(table, file, lambda opened: opened.read(columns, use_threads=file.startswith(MERGED)))
        return _without_packs(found)

    def read_spans(
        self, table: str, file: str, spans: Sequence[tuple[int, int]], columns: Sequence[str] | None = None
    ) -> pa.Table:
        """Some rows of a file, each span a first row and a number of rows; groups that hold none of them are not read.

        Raises:
            OSError: As `looked_at`.
        """
        return _without_packs(self.looked_at(table, file, lambda opened: _spans_of(opened, spans, columns)))

    def check_file(self, table: str, file: str) -> None:
        """Decode everything in a file; raises as `looked_at`."""
        self.looked_at(table, file, _decode)

    def write_file(self, table: str, file: str, content: pa.Table, packs: bytes | None = None) -> None:
        """Publish one file of a table; with `packs`, a merged one that says that it holds these."""
        said = dict(content.schema.metadata or {})
        if packs is not None:
            said[b"packs"] = packs
        sink = pa.BufferOutputStream()
        form = PART_FORMAT[table] if packs is None else MERGED_FORMAT
        with pq.ParquetWriter(sink, content.schema.with_metadata(said), **form) as writer:
            writer.write_table(content.replace_schema_metadata(said), row_group_size=_group_size(table, content))
            writer.add_key_value_metadata(said)  # which the schema, where it is stored, would give too
        self.publish(f"{table}/{file}.parquet", sink.getvalue().to_pybytes())


def _group_size(table: str, content: pa.Table) -> int:
    rows = GROUP_ROWS.get(table, 2**17)
    size = int(content.nbytes)
    return max(1, min(rows, GROUP_BYTES * len(content) // max(1, size)))


def _spans_of(opened: pq.ParquetFile, spans: Spans, columns: Sequence[str] | None) -> pa.Table:
    found, start, pieces = opened.metadata, 0, []
    for group in range(found.num_row_groups):
        rows = found.row_group(group).num_rows
        wanted = [(max(first, start), min(first + count, start + rows)) for first, count in spans]
        wanted = [(first, end) for first, end in wanted if first < end]
        if wanted:
            read = opened.read_row_group(group, columns, use_threads=False)
            pieces += [read.slice(first - start, end - first) for first, end in wanted]
        start += rows
    return pa.concat_tables(pieces) if pieces else opened.schema_arrow.empty_table()


def _decode(opened: pq.ParquetFile) -> None:
    for _ in opened.iter_batches(use_threads=False):
        pass


def _without_packs(found: pa.Table) -> pa.Table:
    kept = {key: value for key, value in (found.schema.metadata or {}).items() if key != b"packs"}
    return found.replace_schema_metadata(kept or None)


def _refuse_newer(metadata: Mapping[bytes, bytes], path: str) -> None:
    said = metadata.get(b"schema_version", b"0")
    if not said.isdigit():
        raise ForeignFileError(f"{path} is no part of a run: it says schema version {said.decode(errors='replace')!r}")
    if int(said) > SCHEMA_VERSION:
        raise UserError(
            f"{path} has schema version {int(said)}, this manypaths reads up to {SCHEMA_VERSION}: "
            "use the newer manypaths or another --out"
        )


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

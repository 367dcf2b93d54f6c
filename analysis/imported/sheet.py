"""A CSV, TSV or Parquet file as a frame of Python values; whatever is wrong with the file is said in one sentence."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from study.errors import UserError
from study.parquet import parquet_header, read_columns

SEPARATORS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars"}
"""What stands between cells in files that are called tables; only the first two are read."""

TOO_LONG = re.compile(r"Expected (\d+) fields in line (\d+), saw (\d+)")


def read_sheet(path: Path) -> pd.DataFrame:
    """Read a table whole.

    Args:
        path: A .parquet file; a .tsv file, tabs between cells; any other with commas. Text is UTF-8.

    Returns:
        Its cells as Python values, None or NaN where empty; a column has the name that the file gives it.

    Raises:
        UserError: If it cannot be read, has no rows, or has two columns of the same name.
    """
    cells = _read_parquet(path) if path.suffix == ".parquet" else _read_text(path)
    if cells.empty:
        raise UserError(f"the table {path} has no rows")
    return cells.rename(columns=str).astype(object)


def _read_parquet(path: Path) -> pd.DataFrame:
    _, names = parquet_header(path)
    _check_names(path, names)
    parts = [pd.DataFrame(part, dtype=object) for part in read_columns(path, names, rows=65536)]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=names, dtype=object)


def _read_text(path: Path) -> pd.DataFrame:
    separator = "\t" if path.suffix == ".tsv" else ","
    try:
        head = pd.read_csv(
            path, sep=separator, encoding="utf-8-sig", header=None, nrows=1, dtype=str, keep_default_na=False
        )
        _check_header(path, list(head.iloc[0]), separator)
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            return pd.read_csv(path, sep=separator, encoding="utf-8-sig", index_col=False, low_memory=False)
    except (OSError, ValueError, pd.errors.ParserWarning) as error:
        raise UserError(_reason(path, error)) from None


def _reason(path: Path, error: Exception) -> str:
    """What is wrong with a text file, without the parser's own words."""
    if isinstance(error, pd.errors.EmptyDataError):
        return f"the table {path} is empty"
    if isinstance(error, UnicodeDecodeError):
        return f"the table {path} is not UTF-8 text: save it as UTF-8, e.g. iconv -f latin1 -t utf-8"
    long = TOO_LONG.search(str(error))
    if long:
        expected, line, seen = long.groups()
        return f"line {line} of the table {path} has {seen} cells instead of {expected}: quote a cell with a separator"
    if isinstance(error, pd.errors.ParserWarning):
        return f"the rows of the table {path} have more cells than its first line has names: every column needs one"
    if isinstance(error, pd.errors.ParserError):
        return f"the table {path} is damaged: look for a quotation mark that is not closed"
    return f"cannot read the table {path}: {getattr(error, 'strerror', None) or 'not a table'}"


def _check_header(path: Path, names: Sequence[str], separator: str) -> None:
    """One name with another separator in it means that the cells were not told apart."""
    other = next((sign for sign in SEPARATORS if sign != separator and len(names) == 1 and sign in names[0]), None)
    if other is not None:
        raise UserError(
            f"the cells of the table {path} are separated by {SEPARATORS[other]}: save it with commas (.csv) or tabs "
            "(.tsv) between cells, and points in numbers"
        )
    _check_names(path, names)


def _check_names(path: Path, names: Sequence[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name and name in seen:  # a nameless column gets a name from its place
            raise UserError(f"the table {path} has two columns called {name!r}: rename one of them")
        seen.add(name)

"""Any CSV or Parquet table of finished trials as a source."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from analysis.imported.declared import GIVEN, Declaration
from analysis.imported.sheet import read_sheet
from analysis.imported.source import ENDINGS, PENDING, Source, as_text, ends_of, is_missing, measured
from study.errors import UserError, unknown
from study.schema import Status

COLUMNS = ("method", "task", "seed", "status")
"""What a column of that very name is taken for, unless told otherwise."""

WORDS = {
    **dict.fromkeys(("complete", "finished", "terminated", "succeeded", "success", "ok"), Status.COMPLETED.value),
    **{"pruned": Status.STOPPED.value, "running": PENDING, "waiting": PENDING},
}
"""Endings in the words of other tools. What "failed" and "crashed" mean only the user can say: outcome or accident."""


def read_table(path: Path, declaration: Declaration) -> Source:
    """Read a table: one row per trial.

    Args:
        path: A .parquet file; a .tsv file, tabs between cells; any other with commas.
        declaration: Names its columns.

    Raises:
        UserError: If it cannot be read, a column does not exist, nothing says what the hyperparameters are, or the
            metric is a text somewhere.
    """
    cells = read_sheet(path)
    for option in ("metric", "config", *COLUMNS):
        _check(option, getattr(declaration, option), cells, path)
    for name in (*declaration.params, *declaration.map.values()):
        _check("param", name, cells, path)
    if declaration.metric is None:
        raise UserError(f"no metric: give --metric COLUMN, one of {', '.join(map(str, cells.columns))}")
    if not declaration.params and not declaration.map and declaration.config is None:
        rest = [name for name in cells.columns if name not in (declaration.metric, *COLUMNS)]
        raise UserError(f"no hyperparameters: give --param COLUMN, once for each that is one of {', '.join(rest)}")
    status = declaration.status or ("status" if "status" in cells.columns else None)
    return Source(
        kind="table",
        origin=str(path),
        name=re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem).strip("-.") or "table",
        cells=cells,
        hyperparameters=(),
        metric=declaration.metric,
        ends=ends_of(
            [
                measured(value, f"{declaration.metric} in row {row + 1}")
                for row, value in enumerate(cells[declaration.metric])
            ],
            statuses=[_ending(value, declaration) for value in cells[status]] if status else None,
        ),
        remarks=_remarks(cells),
    )


def _remarks(cells: pd.DataFrame) -> tuple[str, ...]:
    """Rows that are there again; where a column says the seed, they are refused as the same trial."""
    count = int(cells.astype(str).duplicated().sum())
    if not count:
        return ()
    rows = "1 row equals" if count == 1 else f"{count} rows equal"
    return (
        f"{rows} an earlier one in every column and counted as another seed of the same configuration: drop what is "
        "only a copy; with --seed COLUMN a repetition is refused",
    )


def _check(option: str, name: str | None, cells: pd.DataFrame, path: Path) -> None:
    if name is not None and not name.startswith(GIVEN) and name not in cells.columns:
        raise unknown(f"column of {path} in {option}:", name, cells.columns)


def _ending(value: object, declaration: Declaration) -> str | None:
    """Our word for what the status column says; None where it says nothing."""
    if is_missing(value):
        return None
    word = as_text(value)
    found = declaration.means.get(word) or WORDS.get(word.lower(), word.lower())
    if found not in ENDINGS:
        known = ", ".join((*ENDINGS, *WORDS, *declaration.means))
        raise UserError(f"unknown status {word!r}: known are {known}; say what it is, e.g. --means {word}=diverged")
    return found

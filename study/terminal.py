"""What commands print: data on standard output, words on standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TextIO

from study.errors import UserError
from study.files import write_whole


def say(sentence: str) -> None:
    """Print words."""
    print(sentence, file=sys.stderr, flush=True)


def show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Print a Python warning in one sentence, for `warnings.showwarning`; users do not need its place in the code."""
    say(f"warning: {message}")


def show_json(content: object) -> None:
    """Print JSON; NaN and infinity have no place in it."""
    print(json.dumps(content, indent=1, allow_nan=False))


def show_rows(rows: Iterable[Mapping[str, Any]]) -> None:
    """Print a table with aligned columns; the keys of the first row are its head."""
    rows = [{key: "-" if value is None else str(value) for key, value in row.items()} for row in rows]
    if not rows:
        return
    widths = {key: max(len(key), *(len(row[key]) for row in rows)) for key in rows[0]}
    for row in [{key: key for key in widths}, *rows]:
        print("  ".join(row[key].ljust(width) for key, width in widths.items()).rstrip())


def show_entries(entries: list[dict[str, Any]], *, json_: bool) -> None:
    """Print entries of a catalogue: the first value as a head, the others indented below it."""
    if json_:
        show_json(entries)
        return
    for entry in entries:
        head, *rest = entry.items()
        print(head[1])
        for key, value in rest:
            for line in value if isinstance(value, list) else [value]:
                print(f"    {key}: {line}")


def deliver(content: bytes, out: Path | None) -> None:
    """Write content into a file, or to standard output without one.

    Raises:
        UserError: If the file cannot be written.
    """
    if out is None:
        sys.stdout.buffer.write(content)
        sys.stdout.flush()
        return
    try:
        write_whole(out, content)
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror or error}") from None

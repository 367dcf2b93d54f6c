"""Which file of a table to read for which packs, while small files are being merged into few.

A table is a folder of files. A small one holds a pack and has its name; a merged one holds many packs and says which,
in the order of its rows. For a time both may be there: readers take each pack from one file only.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass

MERGED = "0-"
"""How names of merged files begin: they sort before every pack's, which are hexadecimal."""

BEING_MERGED = "~being-compacted"
"""There while a table's folder holds packs twice. It is no Parquet file, so that who reads the folder without knowing
of merged files gets an error that names it, not rows twice or too few; it sorts behind every part."""

WARNING = (
    b"Some packs are in this folder twice until `manypaths compact` of the run has ended; it goes on where it was.\n"
)

Spans = Sequence[tuple[int, int]]
"""First rows and numbers of rows."""

Packs = tuple[tuple[str, int], ...]
"""The packs of a merged file and their numbers of rows, in the order of its rows."""


@dataclass(frozen=True)
class Piece:
    """Rows of one file that are to be read.

    Attributes:
        file: The file's name, without suffix.
        packs: The packs they belong to.
        spans: First row and number of rows, of each pack; None for all rows of the file.
    """

    file: str
    packs: tuple[str, ...]
    spans: tuple[tuple[int, int], ...] | None = None


@dataclass(frozen=True)
class Listing:
    """The files of a table.

    Attributes:
        small: Files of a pack each, in order of names.
        merged: Merged files that can be read, and what they hold.
        broken: Merged files that cannot be read.
        marked: Whether the folder says that it is being compacted.
    """

    small: tuple[str, ...]
    merged: Mapping[str, Packs]
    broken: tuple[str, ...] = ()
    marked: bool = False

    def covered(self) -> set[str]:
        """The packs that merged files hold."""
        return {pack for packs in self.merged.values() for pack, _ in packs}

    def packs(self) -> list[str]:
        """Every pack, once and in order."""
        return sorted({*self.small, *self.covered()})

    def needless(self) -> list[str]:
        """Files whose packs are all held by another: what an interrupted or overlapping compaction leaves."""
        pieces = self.pieces()
        return sorted({*self.small, *self.merged} - {piece.file for piece in pieces})

    def plain(self) -> bool:
        """True if each row is in one file, so that reading the whole folder is right."""
        files = [pack for packs in self.merged.values() for pack, _ in packs] + [*self.small]
        return not self.marked and len(files) == len(set(files))

    def pieces(self, wanted: Container[str] | None = None) -> list[Piece]:
        """What to read to get every pack once, or some packs.

        Where several files hold a pack, the one that holds most packs gives its rows: all hold the same.
        """
        taken: set[str] = set()
        found = []
        for file, packs in sorted(self.merged.items(), key=lambda item: (-len(item[1]), item[0])):
            spans, names, first = [], [], 0
            for pack, rows in packs:
                if pack not in taken and (wanted is None or pack in wanted):
                    spans.append((first, rows))
                    names.append(pack)
                first += rows
            taken |= {pack for pack, _ in packs}
            if names:
                found.append(Piece(file, tuple(names), tuple(spans) if len(names) < len(packs) else None))
        small = (name for name in self.small if name not in taken and (wanted is None or name in wanted))
        return found + [Piece(name, (name,)) for name in small]


def packs_of(raw: object) -> Packs:
    """The packs of a merged file from what its metadata says, read from JSON.

    Raises:
        ValueError: If it says something else.
    """
    if not isinstance(raw, list) or not all(_is_entry(entry) for entry in raw):
        raise ValueError("it does not say which packs it holds")
    return tuple((entry[0], entry[1]) for entry in raw)


def _is_entry(entry: object) -> bool:
    return isinstance(entry, Sequence) and len(entry) == 2 and isinstance(entry[0], str) and isinstance(entry[1], int)

"""Merging the many small files of a run into few, while others read them and whatever stops it.

For each merged file, in this order: its name is noted in `compacted.json`; the folder is marked, by a file that is no
Parquet; the merged file is published, and read back; the small files it replaces are removed; so is the mark. Our
readers take each pack from one file at any of these moments. Others, who read the whole folder, get all rows once or
an error that names the mark. After a kill the same command goes on. docs/storage.md says why it is done so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from study.errors import UserError
from study.lease import lease
from study.parquet import BrokenFileError
from study.parts import BEING_MERGED, MERGED, WARNING, Packs
from study.store import COMPACTED, RESULTS, Part, RunDirectory, joined
from study.trial import digest

ROWS = {"trials": 2**17, "history": 2**20, "samples": 2**13}
BYTES = 2**27
"""Rows or bytes that close a merged file: what whoever reads or makes one holds in memory."""


@dataclass(frozen=True)
class Compaction:
    """What became of one table.

    Attributes:
        table: The table.
        before: Files that there were.
        after: Files that there are.
        removed: Files that an earlier compaction, interrupted, had left behind.
    """

    table: str
    before: int
    after: int
    removed: int


def compact(directory: RunDirectory) -> list[Compaction]:
    """Merge the small files of finished packs; run it again whenever there are many.

    Raises:
        UserError: If it is no run directory, a driver is at work, or a newer version wrote it.
        OSError: If it cannot be written, or a merged file reads back differently: then its small files stay.
    """
    if not directory.parts("plan"):
        raise UserError(f"{directory} is not a run directory: it has no plan; `manypaths run` makes one")
    with lease(directory):
        return [_compact_table(directory, table) for table in RESULTS]


def _compact_table(directory: RunDirectory, table: str) -> Compaction:
    before = directory.listing(table)
    resume(directory, table)
    for some in _groups(directory, table):
        if len(some) > 1:
            _merge(directory, table, some)
    after = directory.listing(table)
    counts = [len(found.small) + len(found.merged) + len(found.broken) for found in (before, after)]
    return Compaction(table, counts[0], counts[1], len(before.needless()))


def resume(directory: RunDirectory, table: str) -> list[str]:
    """Finish what an interrupted compaction began; what was removed.

    Raises:
        UserError: If a merged file is broken and some packs are nowhere else.
    """
    listing = directory.listing(table)
    for name in listing.merged if listing.marked else ():  # the last may never have been read back
        try:
            directory.check_file(table, name)
        except BrokenFileError as error:
            others = {pack for other, packs in listing.merged.items() if other != name for pack, _ in packs}
            if {pack for pack, _ in listing.merged[name]} - {*listing.small, *others}:
                raise UserError(
                    f"{error}, and it alone has some packs: put a copy of it back, or let "
                    f"`manypaths doctor {directory} --repair` remove it: `manypaths run` then trains its packs again"
                ) from None
            directory.remove(f"{table}/{name}.parquet")
    return finish(directory, table)


def finish(directory: RunDirectory, table: str) -> list[str]:
    """Remove the small files that merged ones replace, and then the mark; what was removed."""
    listing = directory.listing(table)
    needless = listing.needless()
    directory.remove_all(f"{table}/{name}.parquet" for name in needless)
    if listing.marked:
        directory.remove(f"{table}/{BEING_MERGED}.parquet")
    return needless + ([BEING_MERGED] if listing.marked else [])


def _groups(directory: RunDirectory, table: str) -> Iterator[list[Part]]:
    """The rows that go into each merged file, in order of packs: those of finished packs, in files worth merging."""
    # what is not planned is somebody else's, or a copy, and stays what it is
    finished = set(directory.parts("trials")) & set(directory.read_table("plan", ["pack"])["pack"].unique().to_pylist())
    sizes = {entry.name.removesuffix(".parquet"): entry.bytes or 0 for entry in directory.entries(table)}
    merged = directory.listing(table).merged
    full = {part for name, packs in merged.items() if _is_full(table, packs, sizes.get(name, 0)) for part, _ in packs}
    wanted = {part for part in directory.parts(table) if part in finished} - full
    group: list[Part] = []
    rows = size = 0
    for part in directory.readable_parts(table, parts=wanted):
        group.append(part)
        rows, size = rows + len(part.table), size + part.table.nbytes
        if rows >= ROWS[table] or size >= BYTES:
            yield group
            group, rows, size = [], 0, 0
    yield group


def _is_full(table: str, packs: Packs, size: int) -> bool:
    """Whether a merged file, of so many bytes on disk, is large enough to stay as it is."""
    return 2 * sum(rows for _, rows in packs) > ROWS[table] or 4 * size > BYTES


def _merge(directory: RunDirectory, table: str, parts: Sequence[Part]) -> None:
    held = directory.listing(table).merged
    packs: Packs = tuple(
        entry
        for part in parts
        for entry in (
            [(part.name, len(part.table))]
            if part.name not in held
            else [(pack, rows) for pack, rows in held[part.name] if pack in part.packs]
        )
    )
    name = f"{MERGED}{digest(sorted(pack for pack, _ in packs))}"
    rows = joined([part.table for part in parts])
    _note(directory, table, name)
    directory.publish(f"{table}/{BEING_MERGED}.parquet", WARNING)
    directory.write_merged(table, name, rows, packs)
    if not directory.read_file(table, name).equals(rows):
        directory.remove(f"{table}/{name}.parquet")
        finish(directory, table)
        raise OSError(f"{directory}/{table}/{name}.parquet reads back differently: nothing else was changed")
    finish(directory, table)


def _note(directory: RunDirectory, table: str, name: str) -> None:
    """Note a merged file that is to be, beside those that are."""
    noted = directory.read_json(COMPACTED) or {}
    there = directory.listing(table).merged
    directory.write_json(COMPACTED, noted | {table: sorted({*there, name})})

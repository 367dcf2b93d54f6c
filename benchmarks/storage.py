"""A run of 100,000 trials in packs of 16: listing, loading and compacting its 6,250 files per table.

Written, read as packs left them, compacted, and read again. `results` reads a smaller run with more readers.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from benchmarks import results
from benchmarks.record import Found, Line
from study.compaction import Compaction, compact
from study.progress import Tally
from study.store import RunDirectory, build_table

TRIALS, PACK = 100_000, 16
SECONDS, LISTING = "<= 10", "<= 1"
COLUMNS = ["trial_id", "evaluation", "primary"]


def run(*, quick: bool = False) -> Found:
    count = 320 if quick else TRIALS
    with tempfile.TemporaryDirectory() as folder:
        directory = RunDirectory(Path(folder, "run"))
        results.write(directory, count, PACK)
        directory.write_part("plan", "0000", build_table("plan", [{"trial_id": "planned", "pack": "p"}]))
        before = readings(directory, "as packs left them")
        done: list[Compaction] = []
        merging = timed("compacting both tables, every merged file read back", lambda: done.extend(compact(directory)))
        after = readings(RunDirectory(directory.root), "compacted")
    files = {found.table: f"{found.table} {found.before:,} and then {found.after}" for found in done if found.before}
    rows = f"trials: {count:,} rows; history: {count * results.EVALUATIONS:,} rows"
    remarks = (
        f"{rows}; files: {', '.join(files.values())}",
        "processor seconds of all threads, for they stand other work on the machine; wall seconds in brackets",
        "once each, on a local disk, files in the page cache",
    )
    found = Found((*before, merging, *after), remarks, {"trials": count})
    found.show()
    return found


def readings(directory: RunDirectory, state: str) -> list[Line]:
    def tally() -> None:
        Tally(directory, {}).update()

    work: dict[str, tuple[Callable[[], object], str]] = {
        "which packs are done": (lambda: directory.parts("trials"), LISTING),
        "counting trials by status": (tally, SECONDS),
        "looking for broken files": (lambda: directory.broken_parts("trials"), SECONDS),
        "trials into pandas": (lambda: directory.read_table("trials").to_pandas(), SECONDS),
        "trials by pd.read_parquet": (lambda: pd.read_parquet(f"{directory.root}/trials"), ""),
        "history, three columns": (lambda: directory.read_table("history", COLUMNS), SECONDS),
    }
    return [timed(f"{state}: {name}", call, required) for name, (call, required) in work.items()]


def timed(what: str, call: Callable[[], object], required: str = "") -> Line:
    """A call by its processor time, its wall time in brackets."""
    begun, before = time.perf_counter(), time.process_time()
    call()
    processor, wall = time.process_time() - before, time.perf_counter() - begun
    return Line(f"{what} ({wall:.3g} s)", processor, "s", required)

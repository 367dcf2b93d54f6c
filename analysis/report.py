"""The report: figures, tables and sentences in one directory, the page in one file that needs nothing else.

The same results give the same bytes: no clock, no host, no unseeded draw enters.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

from analysis.comparisons import compare_all, table
from analysis.figures.style import DPI, draw, render, write_csv
from analysis.figures.table import FIGURES
from analysis.findings import find
from analysis.origin import Origin
from analysis.page import Drawing, page
from analysis.pictures import draw_all
from analysis.results import Results
from analysis.summary import summary
from study.files import write_whole

HTML, SUMMARY, COMPARISONS, FOLDER = "report.html", "summary.csv", "comparisons.csv", "figures"
BEGUN = ".report-"
"""What the name of a folder begins with that a report is made in."""


@dataclass(frozen=True)
class ReportPaths:
    """Where a report was written.

    Attributes:
        html: The page.
        summary: One row per task and method.
        comparisons: One row per task and pair of methods.
        figures: Each figure's numbers and pictures; those that the results have nothing for are not written.
    """

    html: Path
    summary: Path
    comparisons: Path
    figures: tuple[Path, ...]


def write_report(results: Results, out: Path, *, processes: int = 1, origin: Origin | None = None) -> ReportPaths:
    """Write figures/*.{csv,png,svg,pdf}, summary.csv, comparisons.csv and report.html into a directory.

    All of it is made in a folder of its own beside them and then takes the place of an earlier report at once: stopped
    at any moment, no page stands beside figures of another one.

    Args:
        results: The results; unfinished ones give a report that says so.
        out: The directory; made if it does not exist. An earlier report in it is replaced; other files in `figures`,
            such as figures that were asked for by name, stay.
        processes: Processes that draw, this one and others, which are started: more than 1 only in a program whose
            main module may be imported again.
        origin: What ran, for a box on the page.

    Raises:
        OSError: If it cannot be written; an earlier report is still there.
    """
    with _workshop(out) as made:
        names = _write(results, made, processes, origin)
        _swap(made, out)
    return ReportPaths(out / HTML, out / SUMMARY, out / COMPARISONS, tuple(out / FOLDER / name for name in names))


def drawings(results: Results) -> list[Drawing]:
    """Every picture that the results have something for, as the page shows it; nothing is written."""
    found = []
    for name, picture in FIGURES.items():
        numbers = picture.numbers(results)
        if not numbers.empty:
            figure = draw(picture, numbers)
            svg, png = (render(figure, form) for form in ("svg", "png"))
            found.append(Drawing(name, picture.section, picture.caption(results), svg, png, DPI))
    return found


def _write(results: Results, folder: Path, processes: int, origin: Origin | None) -> list[str]:
    """Write a whole report into an empty folder; the names of the figures' files."""
    (folder / FOLDER).mkdir()
    drawn = draw_all(results, FIGURES, folder / FOLDER, processes=processes)
    rows, comparisons = summary(results), compare_all(results)
    write_csv(rows, folder / SUMMARY)
    write_csv(table(comparisons), folder / COMPARISONS)
    shown = [_drawing(results, name, paths) for name, paths in drawn.items() if paths]
    text = page(results, rows, find(results, comparisons), shown, origin=origin)
    write_whole(folder / HTML, text.encode())
    return [path.name for paths in drawn.values() for path in paths]


def _drawing(results: Results, name: str, paths: tuple[Path, ...]) -> Drawing:
    files = {path.suffix[1:]: path for path in paths}
    picture = FIGURES[name]
    svg, png = (files[form].read_bytes() for form in ("svg", "png"))
    return Drawing(name, picture.section, picture.caption(results), svg, png, DPI)


@contextmanager
def _workshop(out: Path) -> Iterator[Path]:
    """A new folder inside `out`, removed in the end, as are those of reports that were killed.

    A lock says that a folder is in use: the system takes it back from a process however that ends.
    """
    out.mkdir(parents=True, exist_ok=True)
    for left in out.glob(f"{BEGUN}*"):
        with contextlib.suppress(OSError), _locked(left):  # another report is at work in it, or has just ended
            shutil.rmtree(left, ignore_errors=True)
    made = Path(mkdtemp(prefix=BEGUN, dir=out))
    try:
        with contextlib.ExitStack() as held:
            with contextlib.suppress(OSError):  # without locks nobody can take another one's folder for a left one
                held.enter_context(_locked(made))
            yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


def _swap(made: Path, out: Path) -> None:
    """Put a report in the place of another one: its page goes first and comes last, each step a rename."""
    _keep_others(out / FOLDER, made / FOLDER)
    (out / HTML).unlink(missing_ok=True)
    with contextlib.suppress(FileNotFoundError):
        (out / FOLDER).rename(made / "before")
    for name in (FOLDER, SUMMARY, COMPARISONS, HTML):
        (made / name).rename(out / name)


def _keep_others(before: Path, after: Path) -> None:
    """Take over what is in a folder of figures and is none of a report's."""
    for path in before.iterdir() if before.is_dir() else ():
        if path.stem not in FIGURES:
            (shutil.copytree if path.is_dir() else shutil.copy2)(path, after / path.name)

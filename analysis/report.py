"""The report: figures, tables and sentences in one directory, the page in one file that needs nothing else.

The same results give the same bytes: no clock, no host, no unseeded draw enters.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from analysis.comparisons import compare_all, table
from analysis.figures.style import DPI, save, write_csv
from analysis.figures.table import FIGURES
from analysis.findings import find
from analysis.page import Drawing, page
from analysis.results import Results
from analysis.summary import summary
from study.files import write_whole

SHOWN = ("svg", "png")
"""What the page is made of."""


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


def write_report(results: Results, out: Path, *, processes: int = 1) -> ReportPaths:
    """Write figures/*.{csv,png,svg,pdf}, summary.csv, comparisons.csv and report.html into a directory.

    Args:
        results: The results; unfinished ones give a report that says so.
        out: The directory; made if it does not exist, files of the same names are replaced.
        processes: Processes that draw, this one and others, which are started: more than 1 only in a program whose
            main module may be imported again.
    """
    folder = out / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    drawn = _figures(results, folder, processes)
    rows, comparisons = summary(results), compare_all(results)
    paths = ReportPaths(
        html=out / "report.html",
        summary=out / "summary.csv",
        comparisons=out / "comparisons.csv",
        figures=tuple(path for found in drawn.values() for path in found),
    )
    write_csv(rows, paths.summary)
    write_csv(table(comparisons), paths.comparisons)
    drawings = [_drawing(name, found) for name, found in drawn.items() if found]
    write_whole(paths.html, page(results, rows, find(results, comparisons), drawings).encode())
    return paths


def drawings(results: Results) -> list[Drawing]:
    """Every picture that the results have something for, as the page shows it; no file is left."""
    with TemporaryDirectory() as folder:
        numbers = {name: picture.numbers(results) for name, picture in FIGURES.items()}
        drawn = {name: save(name, FIGURES[name], numbers[name], Path(folder), SHOWN) for name in FIGURES}
        return [_drawing(name, found) for name, found in drawn.items() if found]


def _figures(results: Results, folder: Path, processes: int) -> dict[str, tuple[Path, ...]]:
    """Compute every figure here, and draw it in another process while the next one is computed, or here."""
    if processes < 2:
        return {name: _save(name, picture.numbers(results), folder) for name, picture in FIGURES.items()}
    numbers, begun = {}, {}
    # not forked: threads that read Parquet may hold locks
    with ProcessPoolExecutor(processes - 1, mp_context=get_context("spawn")) as pool:
        for name, picture in FIGURES.items():
            numbers[name] = picture.numbers(results)
            begun[name] = pool.submit(_save, name, numbers[name], folder)
        here = {name: _save(name, numbers[name], folder) for name, drawn in begun.items() if drawn.cancel()}
        return {name: here[name] if name in here else drawn.result() for name, drawn in begun.items()}


def _save(name: str, numbers: pd.DataFrame, folder: Path) -> tuple[Path, ...]:
    return save(name, FIGURES[name], numbers, folder)


def _drawing(name: str, paths: tuple[Path, ...]) -> Drawing:
    files = {path.suffix[1:]: path for path in paths}
    picture = FIGURES[name]
    return Drawing(name, picture.section, picture.alt, files["svg"].read_bytes(), files["png"].read_bytes(), DPI)

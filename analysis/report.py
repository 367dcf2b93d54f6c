"""The report: figures, tables and sentences in one directory, the page in one file that needs nothing else.

The same results give the same bytes: no clock, no host, no unseeded draw enters.
"""

from __future__ import annotations

import base64
from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path

import jinja2
import pandas as pd

from analysis import words
from analysis.comparisons import Comparison, compare_all, table
from analysis.figures.style import draw, render, save, write_csv
from analysis.figures.table import FIGURES
from analysis.intervals import Estimate
from analysis.results import Results
from analysis.summary import summary
from study.schema import Status

TEMPLATE = "report.html.j2"

PICTURES = 3_000_000
"""Bytes of vector pictures on the page; above it all become small bitmaps, to keep the page below 5 MB."""

SMALL = 75
"""Dots per inch of those bitmaps."""

ENDINGS = (*(status.value for status in Status), "missing")


@dataclass(frozen=True)
class ReportPaths:
    """Where a report was written.

    Attributes:
        html: The page.
        summary: One row per task and method.
        comparisons: One row per task and pair of methods.
        figures: Each figure's numbers and pictures.
    """

    html: Path
    summary: Path
    comparisons: Path
    figures: tuple[Path, ...]


def write_report(results: Results, out: Path) -> ReportPaths:
    """Write figures/*.{csv,png,svg}, summary.csv, comparisons.csv and report.html into a directory.

    Args:
        results: The results; unfinished ones give a report that says so.
        out: The directory; made if it does not exist, files of the same names are replaced.
    """
    folder = out / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    numbers = {name: picture.numbers(results) for name, picture in FIGURES.items()}
    paths = ReportPaths(
        html=out / "report.html",
        summary=out / "summary.csv",
        comparisons=out / "comparisons.csv",
        figures=tuple(path for name, picture in FIGURES.items() for path in save(name, picture, numbers[name], folder)),
    )
    rows, comparisons = summary(results), compare_all(results)
    write_csv(rows, paths.summary)
    write_csv(table(comparisons), paths.comparisons)
    paths.html.write_bytes(page(results, rows, comparisons, numbers).encode())
    return paths


def page(
    results: Results, rows: pd.DataFrame, comparisons: tuple[Comparison, ...], numbers: dict[str, pd.DataFrame]
) -> str:
    """The report as HTML.

    Args:
        results: The results.
        rows: Their `summary`.
        comparisons: Their comparisons.
        numbers: Name of each figure to its numbers.
    """
    pictures = _pictures(results.tasks, numbers)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(TEMPLATE).render(
        name=results.name,
        notice=results.notice,
        planned=len(results.plan),
        finished=len(results.trials),
        endings={ending: int(rows[ending].sum()) for ending in ENDINGS},
        tasks=[_task(results, task, rows[rows["task"] == task], comparisons, pictures[task]) for task in results.tasks],
    )


def _task(
    results: Results,
    task: str,
    rows: pd.DataFrame,
    comparisons: tuple[Comparison, ...],
    pictures: list[tuple[str, str]],
) -> dict[str, object]:
    here = [comparison for comparison in comparisons if comparison.task == task]
    return {
        "name": task,
        "facts": results.facts(task),
        "setting": results.setting(task),
        "endings": [ending for ending in ENDINGS if ending in ENDINGS[:3] or rows[ending].sum()],
        "rows": [_row(row) for row in rows.to_dict("records")],
        "pictures": pictures,
        "confirmatory": [(c.verdict, words.sentence(c)) for c in here if c.confirmatory],
        "exploratory": [words.sentence(c) for c in here if not c.confirmatory],
    }


def _row(row: dict[Hashable, object]) -> dict[str, object]:
    """A row of the summary as the page shows it."""
    shown: dict[str, object] = {name: row[name] for name in ("method", "planned", *ENDINGS)}
    shown["success"] = _estimate(row, "success")
    shown["log_auc"] = _estimate(row, "log_auc")
    shown["failure_rate"] = _estimate(row, "failure_rate")
    worst, best = (float(str(row[name])) for name in ("success_worst", "success_best"))
    shown["bounds"] = f"{words.share(worst)} to {words.share(best)}" if best > worst else None
    shown["median"] = words.number(float(str(row["median"])))
    return shown


def _estimate(row: dict[Hashable, object], name: str) -> dict[str, str]:
    value, low, high = (float(str(row[f"{name}{end}"])) for end in ("", "_low", "_high"))
    method = str(row[f"{name}_method"])
    ends = words.interval(Estimate(value, low, high, 0, method)) if value == value else ""
    return {"value": words.share(value), "interval": ends, "method": method}


def _pictures(tasks: tuple[str, ...], numbers: dict[str, pd.DataFrame]) -> dict[str, list[tuple[str, str]]]:
    """Each task's figures as pairs of a data address and a description."""
    drawn = [
        (task, name, draw(FIGURES[name], rows))
        for task in tasks
        for name in FIGURES
        for rows in [numbers[name][numbers[name]["task"] == task]]
        if len(rows)
    ]
    form, files = "svg+xml", [render(figure, "svg") for _, _, figure in drawn]
    if sum(map(len, files)) > PICTURES:
        form, files = "png", [render(figure, "png", dpi=SMALL) for _, _, figure in drawn]
    found: dict[str, list[tuple[str, str]]] = {task: [] for task in tasks}
    for (task, name, _), file in zip(drawn, files, strict=True):
        address = f"data:image/{form};base64,{base64.b64encode(file).decode()}"
        found[task].append((address, f"{FIGURES[name].alt} Task {task}."))
    return found

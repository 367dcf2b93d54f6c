"""Every figure from a run's tables, as files: the numbers beside the picture, on a screen, in a page, in a paper."""

from __future__ import annotations

import functools
import multiprocessing
import os
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from analysis.figures.style import FORMS, Picture, save
from analysis.figures.table import FIGURES, picture_of
from analysis.results import Results
from analysis.runs import load_results
from study.errors import UserError, unknown
from study.store import RunDirectory

FEW = 4
"""Up to so many figures are drawn in this process: another one takes two seconds to begin."""


@dataclass(frozen=True)
class Drawn:
    """What became of figures.

    Attributes:
        paths: The files, in the order of the figures asked for and of the forms.
        empty: Name of each figure that has nothing to show, to the reason.
    """

    paths: tuple[Path, ...]
    empty: Mapping[str, str]


def write_figures(
    directory: RunDirectory,
    names: Sequence[str] = (),
    *,
    forms: Sequence[str] = FORMS,
    out: Path | None = None,
    processes: int | None = None,
) -> Drawn:
    """Draw figures from a run's tables and write them as NAME.FORM; the same run gives the same bytes.

    Args:
        directory: The run directory.
        names: Names of `FIGURES`, or `success_map[x,y]`; all of the table without any.
        forms: What to write, of `FORMS`.
        out: Folder to write into, made if it does not exist; without it the run's own `figures`.
        processes: How many draw side by side; as many as there are processors without it.

    Raises:
        UserError: For an unknown figure or form, a directory that is no run, or a folder that cannot be written.
    """
    for name in names:
        picture_of(name)
    for form in forms:
        if form not in FORMS:
            raise unknown("format", form, FORMS)
    if out is None and not directory.local:
        raise UserError(f"{directory} is not on a local disk: say with --out where the figures go")
    folder = out or Path(directory.root, "figures")
    results = load_results(directory)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        wanted = list(dict.fromkeys(names)) or [*FIGURES]
        written = _drawn(results, str(directory), wanted, tuple(forms), folder, processes)
    except OSError as error:
        raise UserError(f"cannot write figures into {folder}: {error.strerror or error}") from None
    empty = {name: _reason(picture_of(name), results) for name, paths in zip(wanted, written, strict=True) if not paths}
    return Drawn(tuple(path for paths in written for path in paths), empty)


def _drawn(
    results: Results, root: str, names: Sequence[str], forms: tuple[str, ...], folder: Path, processes: int | None
) -> list[tuple[Path, ...]]:
    count = min(processes or os.cpu_count() or 1, len(names))
    if count < 2 or (processes is None and len(names) <= FEW):
        return [_draw(results, name, forms, folder) for name in names]
    # fresh processes: one that is forked while Arrow's threads hold a lock would wait for ever
    with ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn")) as pool:
        work = [pool.submit(_draw_apart, root, name, forms, folder) for name in names]
        return [item.result() for item in work]


def _draw(results: Results, name: str, forms: tuple[str, ...], folder: Path) -> tuple[Path, ...]:
    picture = picture_of(name)
    return save("-".join(re.findall(r"\w+", name)), picture, picture.numbers(results), folder, forms)


def _draw_apart(root: str, name: str, forms: tuple[str, ...], folder: Path) -> tuple[Path, ...]:
    return _draw(_results_apart(root), name, forms, folder)


@functools.cache
def _results_apart(root: str) -> Results:
    """The run's results, read once by each process of a pool, which lives as long as one call of `write_figures`."""
    return load_results(RunDirectory(root))


def _reason(picture: Picture, results: Results) -> str:
    """Why a figure has nothing to show."""
    if results.trials.empty:
        return "no trial has ended yet"
    if picture.history and results.history("trial_id").empty:
        return "no history was kept"
    subject = re.split(r"[:.]", picture.alt)[0]
    return f"nothing in this sweep to show for it ({subject})"

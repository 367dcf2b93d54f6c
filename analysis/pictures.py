"""Every figure from a run's tables, as files: the numbers beside the picture, on a screen, in a page, in a paper."""

from __future__ import annotations

import multiprocessing
import os
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

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
    pictures = {name: picture_of(name) for name in names or FIGURES}
    for form in forms:
        if form not in FORMS:
            raise unknown("format", form, FORMS)
    if out is None and not directory.local:
        raise UserError(f"{directory} is not on a local disk: say with --out where the figures go")
    folder = out or Path(directory.root, "figures")
    results = load_results(directory)
    count = processes or (1 if len(pictures) <= FEW else os.cpu_count() or 1)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        written = draw_all(results, pictures, folder, forms=tuple(forms), processes=count)
    except OSError as error:
        raise UserError(f"cannot write figures into {folder}: {error.strerror or error}") from None
    empty = {name: _reason(pictures[name], results) for name, paths in written.items() if not paths}
    return Drawn(tuple(path for paths in written.values() for path in paths), empty)


def draw_all(
    results: Results,
    pictures: Mapping[str, Picture],
    folder: Path,
    *,
    forms: tuple[str, ...] = FORMS,
    processes: int = 1,
) -> dict[str, tuple[Path, ...]]:
    """Compute every figure here, and draw it in another process while the next one is computed, or here.

    Args:
        results: The results.
        pictures: Name to figure; other processes take the figure from the table by its name.
        folder: An existing folder.
        forms: What to write, of `FORMS`.
        processes: Processes that draw, this one and others, which are started: more than 1 only in a program whose
            main module may be imported again.

    Returns:
        Name to its files, none for a figure that has nothing to show.
    """
    count = min(processes, len(pictures))
    if count < 2:
        return {name: _save(name, item, item.numbers(results), folder, forms) for name, item in pictures.items()}
    numbers, begun = {}, {}
    # fresh processes: one that is forked while Arrow's threads hold a lock would wait for ever
    with ProcessPoolExecutor(count - 1, mp_context=multiprocessing.get_context("spawn")) as pool:
        for name, picture in pictures.items():
            numbers[name] = picture.numbers(results)
            begun[name] = pool.submit(_save_apart, name, numbers[name], folder, forms)
        here = {
            name: _save(name, pictures[name], numbers[name], folder, forms)
            for name, drawn in begun.items()
            if drawn.cancel()
        }
        return {name: here[name] if name in here else drawn.result() for name, drawn in begun.items()}


def file_name(name: str) -> str:
    """What the files of a figure are called, before the dot."""
    return "-".join(re.findall(r"\w+", name))


def _save(name: str, picture: Picture, numbers: pd.DataFrame, folder: Path, forms: tuple[str, ...]) -> tuple[Path, ...]:
    return save(file_name(name), picture, numbers, folder, forms)


def _save_apart(name: str, numbers: pd.DataFrame, folder: Path, forms: tuple[str, ...]) -> tuple[Path, ...]:
    return _save(name, picture_of(name), numbers, folder, forms)


def _reason(picture: Picture, results: Results) -> str:
    """Why a figure has nothing to show."""
    if results.trials.empty:
        return "no trial has ended yet"
    if picture.history and results.history("trial_id").empty:
        return "no history was kept"
    subject = re.split(r"[:.]", picture.alt)[0]
    return f"nothing in this sweep to show for it ({subject})"

"""Parallel coordinates: each trial a line across its hyperparameters, successes against what did not succeed."""

from __future__ import annotations

import textwrap
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.axes import Axis, axes_of, shown
from analysis.figures import style
from analysis.figures.tiles import thinned, tiles, title
from analysis.outcomes import FloatArray, IntArray, sample
from analysis.results import Results

WIDTH, HEIGHT = 3.0, 2.3
MOST = 150
"""Most lines of a panel."""

LETTERS = 34
"""Letters of hyperparameters' names that fit side by side below a panel."""

LETTERS_INCH = 14
"""Letters of a note that fit into an inch."""

WITHIN = 0.1
"""Height that the lines through one level take."""

COLUMNS = (
    *("task", "method", "order", "trial_id", "success", "axis", "place", "value", "position", "bottom", "top"),
    *("levels", "drawn", "of"),
)


def parallel_numbers(results: Results) -> pd.DataFrame:
    """One row per drawn trial and varied hyperparameter: its value, and how far up that is on the axis, 0 to 1.

    Of a method's more than 150 decided trials, as many are kept, evenly spaced in the order of their ids. No rows for a
    method that varies fewer than two hyperparameters.
    """
    frames = [
        frame
        for task in results.tasks
        for outcomes in [results.outcomes(task)]
        for method in results.methods_of(task)
        for frame in _lines(results, task, method, outcomes[outcomes["method"] == method])
    ]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=list(COLUMNS))


def _lines(results: Results, task: str, method: str, rows: pd.DataFrame) -> list[pd.DataFrame]:
    axes = axes_of(results, task, method)
    decided = rows[sample(rows).known()]
    if len(axes) < 2 or decided.empty:
        return []
    kept = thinned(decided, MOST)
    names: dict[str, Any] = {
        "task": task,
        "method": method,
        "order": results.methods.index(method),
        "success": sample(kept).values <= results.facts(task).threshold,
        "drawn": len(kept),
        "of": len(decided),
    }
    return [
        kept[["trial_id"]].assign(
            **names,
            axis=axis.word,
            place=place,
            levels=len(axis.levels),
            value=axis.of(kept).astype(object),
            position=position(axis, axis.of(kept)),
            bottom=shown(axis.levels[0] if axis.levels else axis.low),
            top=shown(axis.levels[-1] if axis.levels else axis.high),
        )[list(COLUMNS)]
        for place, axis in enumerate(axes)
    ]


def position(axis: Axis, values: pd.Series) -> FloatArray:
    """How far up values are on an axis, 0 to 1: in its scale, or by the index of their level; NaN for a missing one."""
    places = axis.scaled(values)
    if axis.levels:
        return places / max(1, len(axis.levels) - 1)
    low, high = axis.scaled(pd.Series([axis.low, axis.high]))
    return np.asarray((places - low) / (high - low), dtype=np.float64)


def draw_parallel(numbers: pd.DataFrame) -> Figure:
    """A panel per task and method: lines in the method's colour reached the threshold, grey ones did not."""
    cells = list(numbers[["task", "method"]].drop_duplicates().itertuples(index=False, name=None))
    handles = [
        Line2D([], [], color="#222222", linewidth=1.6, label="reached the threshold (in the method's colour)"),
        Line2D([], [], color="#999999", linewidth=0.9, linestyle="--", label="did not, failures included"),
    ]
    figure, panels, _ = tiles(len(cells), width=WIDTH, height=HEIGHT, handles=handles)
    notes = _notes(numbers)
    if notes:
        figure.supxlabel(textwrap.fill(notes, int(figure.get_figwidth() * LETTERS_INCH)), fontsize=7.5, color="#555555")
    for panel, (task, method) in zip(panels, cells, strict=True):
        here = numbers[(numbers["task"] == task) & (numbers["method"] == method)]
        _panel(panel, here)
        part, whole = here["drawn"].iloc[0], here["of"].iloc[0]
        some = f" ({part} of {whole} trials)" if part < whole else f" ({whole} trials)"
        panel.set_title(title(numbers, task, method, after=some, most=LETTERS), fontsize=9, pad=15)
    return figure


def _notes(numbers: pd.DataFrame) -> str:
    """What a reader would ask about the lines: which trials they are, and why they fan out at a level."""
    notes = []
    if (numbers["drawn"] < numbers["of"]).any():
        notes.append(f"of more than {MOST} trials an even choice by id, which has nothing to do with the design")
    crossed = dict.fromkeys(numbers.loc[numbers["levels"] > 0, "axis"])
    if crossed:
        notes.append(f"lines through one level of {', '.join(map(style.plain, crossed))} lie side by side to be seen")
    return "; ".join(notes)


def _panel(panel: Axes, numbers: pd.DataFrame) -> None:
    table = numbers.pivot_table(index="trial_id", columns="place", values="position", dropna=False, sort=True)
    success = numbers.drop_duplicates("trial_id").set_index("trial_id")["success"].loc[table.index].to_numpy(bool)
    ends = numbers.drop_duplicates("place").sort_values("place")
    lines, x = _spread(table.to_numpy(np.float64), ends["levels"].to_numpy(np.int64)), np.arange(table.shape[1])
    shade = style.colour(int(numbers["order"].iloc[0]))
    if (~success).any():
        panel.plot(x, lines[~success].T, color="#aaaaaa", linewidth=0.6, linestyle=(0, (4, 2)), zorder=1)
    if success.any():
        panel.plot(x, lines[success].T, color=shade, linewidth=0.9, alpha=0.8, zorder=2)
    long = sum(map(len, ends["axis"])) > LETTERS
    names = [style.plain(name) for name in ends["axis"]]
    panel.set_xticks(x, names, fontsize=7, rotation=30 if long else 0, ha="right" if long else "center")
    panel.tick_params(axis="x", length=0, pad=10)
    for place, bottom, top in zip(x, ends["bottom"], ends["top"], strict=True):
        for height, end, side in ((1.02, top, "bottom"), (-0.02, bottom, "top")):
            panel.text(float(place), height, style.plain(end), ha="center", va=side, fontsize=6.5, color="#555555")
    panel.set_yticks([])
    panel.set_ylim(0, 1)
    panel.set_xlim(-0.25, len(x) - 0.75)
    panel.grid(visible=True, axis="x", color="#888888")
    for side in ("left", "bottom"):
        panel.spines[side].set_visible(False)


def _spread(lines: FloatArray, levels: IntArray) -> FloatArray:
    """Positions in which the lines through a level lie beside each other, in the order of the trials' ids."""
    offsets = np.linspace(0, 1, len(lines))[:, None] * WITHIN
    return np.where(levels > 0, lines * (1 - WITHIN) + offsets, lines)

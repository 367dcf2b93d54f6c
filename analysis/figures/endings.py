"""How trials ended: stacked bars by status and by what happened on the way, and where in the space they ended so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis import horizon, trajectories
from analysis.axes import Axis, axes_of, axis_named
from analysis.figures import strips, style
from analysis.figures.tiles import apart
from analysis.maps import usual_pair
from analysis.outcomes import FloatArray
from analysis.results import Results
from analysis.summary import summary
from study.schema import Status


@dataclass(frozen=True)
class Look:
    """How an ending is drawn: colour, hatch and the number's ink in a bar, marker on a map."""

    shade: str
    hatch: str | None = None
    ink: str = "#333333"
    marker: str = "o"


FAILED = "#D55E00"
STATUSES = {
    Status.DIVERGED.value: Look(FAILED, ink="white"),
    Status.OOM.value: Look("#CC79A7"),
    Status.STOPPED.value: Look("#E69F00"),
    "missing": Look("#ffffff", "////"),
    Status.COMPLETED.value: Look("#c9dbe6"),
}
"""Status to its look, in the order of the stack: failures first, so that their bars share a foot."""

ENDINGS = {
    "diverged": Look(FAILED, ink="white", marker="X"),
    "oom": Look("#CC79A7", marker="P"),
    "collapsed": Look("#5c2d5e", ink="white", marker="s"),
    "reached and lost": Look("#E69F00", "\\\\\\", marker="^"),
    "never reached": Look("#b5b5b5", "...", marker="v"),
    "undecided": Look("#ffffff", "////", marker="_"),
    "success": Look("#c9dbe6", marker="o"),
}
"""Ending, as in `trajectories.ENDINGS`, to its look, in the order of the stack."""

ROW = 0.27
SIDE = 1.8
"""Width and height of a method's map, inches."""

WIDTH, MARGINS = 7.6, (0.7, 0.4)
"""Least width of a line of maps, and what labels take of its width and height, inches."""

MOST = 1000
"""Most trials of a method on its map: with more, marks hide each other and files grow."""


def failure_numbers(results: Results) -> pd.DataFrame:
    """One row per task, method and status: its count and its share of the planned trials."""
    table = summary(results)
    found = table.melt(
        id_vars=["task", "method", "planned"],
        value_vars=list(STATUSES),
        var_name="ending",
        value_name="count",
        ignore_index=False,
    ).sort_index(kind="stable", ignore_index=True)
    found["share"] = found["count"].astype("float64") / found["planned"].astype("float64")
    return found


def ending_numbers(results: Results) -> pd.DataFrame:
    """One row per task, method and ending of `trajectories.endings`; none for a task without a history."""
    rows = []
    for task in _with_history(results):
        table = trajectories.endings(results, task)
        counts = table.groupby(["method", "ending"]).size()
        planned = table["method"].value_counts()
        for method in results.methods_of(task):
            for ending in ENDINGS:
                count, of = int(counts.get((method, ending), 0)), int(planned[method])
                rows.append((task, method, of, ending, count, count / of))
    return pd.DataFrame(rows, columns=["task", "method", "planned", "ending", "count", "share"])


def _with_history(results: Results) -> list[str]:
    return [task for task in results.tasks if horizon.curves(results, task).counts.any()]


def draw_failures(numbers: pd.DataFrame) -> Figure:
    """A bar per method, a panel per task; a bar's full length is the planned trials."""
    return _bars(numbers, STATUSES)


def draw_endings(numbers: pd.DataFrame) -> Figure:
    """As `draw_failures`, cut by what happened on the way."""
    return _bars(numbers, ENDINGS)


def _bars(numbers: pd.DataFrame, looks: Mapping[str, Look]) -> Figure:
    tasks = style.task_order(numbers)
    methods = [numbers.loc[numbers["task"] == task, "method"].nunique() for task in tasks]
    heights = [ROW * count + 0.85 for count in methods] or [1.0]
    heights[0] += 0.3  # the legend
    figure, axes = style.panels(len(tasks), columns=1, width=7.6, heights=heights)
    for axis, task in zip(axes, tasks, strict=True):
        _panel(axis, numbers[numbers["task"] == task], looks)
        axis.set_title(style.plain(task))
    if axes:
        handles, names = axes[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside upper right", ncols=len(looks), fontsize=8, columnspacing=1.0)
    return figure


def _panel(axis: Axes, numbers: pd.DataFrame, looks: Mapping[str, Look]) -> None:
    methods = [str(name) for name in numbers["method"].unique()]
    start = [0.0] * len(methods)
    for ending, look in looks.items():
        rows = numbers[numbers["ending"] == ending]
        shares = [float(value) for value in rows["share"]]
        axis.barh(
            range(len(methods)),
            shares,
            left=start,
            height=0.7,
            color=look.shade,
            edgecolor="#999999" if look.shade == "#ffffff" else "white",
            linewidth=0.6,
            hatch=look.hatch,
            label=ending,
            zorder=2,
        )
        for height, (left, length) in enumerate(zip(start, shares, strict=True)):
            if length >= 0.06:
                _number(axis, left + length / 2, height, int(rows["count"].iloc[height]), look)
        start = [left + length for left, length in zip(start, shares, strict=True)]
    axis.set_yticks(range(len(methods)), [style.name(name) for name in methods])
    axis.set_ylim(len(methods) - 0.4, -0.6)
    axis.set_xlim(0, 1)
    axis.set_xlabel("share of planned trials")
    axis.grid(visible=False, axis="y")


def _number(axis: Axes, x: float, y: float, count: int, look: Look) -> None:
    box = {"facecolor": look.shade, "edgecolor": "none", "pad": 0.8} if look.hatch else None
    axis.text(x, y, str(count), ha="center", va="center", fontsize=8, color=look.ink, bbox=box, zorder=3)


# The map


def ending_map_numbers(results: Results) -> pd.DataFrame:
    """One row per trial: its place in two hyperparameters (learning rate and beta1, if they vary) and its ending.

    Of more than `MOST` trials of a method an even choice, in the order of their ids, is kept; `planned` counts all.
    None for a task without a history, or on which fewer than two hyperparameters vary.
    """
    frames = []
    for task in _with_history(results):
        pair = usual_pair(results, task)
        sides = [axis_named(axes_of(results, task), name) for name in pair or ()]
        if sides and all(side is not None for side in sides):
            frames.append(_places(results, task, [side for side in sides if side is not None]))
    columns = ["task", "method", "order", "trial_id", "x", "y", "ending", "planned"]
    columns += [f"{name}_{what}" for name in "xy" for what in ("label", "log", "low", "high")]
    return pd.concat(frames, ignore_index=True)[columns] if frames else pd.DataFrame(columns=columns)


def _places(results: Results, task: str, sides: list[Axis]) -> pd.DataFrame:
    found = trajectories.endings(results, task)
    rows = results.outcomes(task)
    for name, side in zip("xy", sides, strict=True):
        words = bool(side.levels) and isinstance(side.levels[0], str)
        found[name] = side.scaled(side.of(rows)) if words else side.of(rows)
        key = f" ({', '.join(f'{i}: {level}' for i, level in enumerate(side.levels))})" if words else ""
        ends = (0.0, float(len(side.levels) - 1)) if words else (side.low, side.high)
        about: dict[str, Any] = {"label": side.word + key, "log": side.log, "low": ends[0], "high": ends[1]}
        found = found.assign(**{f"{name}_{what}": about[what] for what in about})
    order = {method: place for place, method in enumerate(results.methods)}
    found = found.assign(task=task, order=found["method"].map(order))
    found["planned"] = found.groupby("method")["trial_id"].transform("size")
    found = found.sort_values(["order", "trial_id"], kind="stable")
    place, size = found.groupby("order").cumcount(), found["planned"]
    # an even choice of MOST out of so many: those at which the count of what is kept rises
    kept = (place + 1) * MOST // size > place * MOST // size
    return found[kept | (size <= MOST)]


def draw_ending_map(numbers: pd.DataFrame) -> Figure:
    """A strip per method, lines of strips per task; a mark per trial says by its shape how it ended."""
    lines = strips.lines_of(numbers)
    across = strips.width_of(lines)
    heights = [SIDE + (0.35 if line.first else 0.1) for line in lines] or [1.0]
    heights[0] += 0.35  # the legend
    figure, axes = style.panels(len(lines), columns=1, width=max(WIDTH, SIDE * across), heights=heights)
    for axis, line in zip(axes, lines, strict=True):
        _map(axis, numbers[numbers["task"] == line.task], line, across)
    _legend(figure, numbers)
    return figure


def _map(axis: Axes, rows: pd.DataFrame, line: strips.Line, across: int) -> None:
    facts = rows.iloc[0]
    strips.dress(axis, len(line.methods), across)
    side = strips.Range(float(facts["x_low"]), float(facts["x_high"]), bool(facts["x_log"]))
    for position, (order, method) in enumerate(line.methods):
        here = rows[rows["order"] == order]
        _marks(axis, *_spread(here, side, strips.start_of(position), across), here)
        strips.title(axis, position, method)
    strips.mark(axis, len(line.methods), side)
    axis.set_yscale("log" if facts["y_log"] else "linear")
    axis.set_xlabel(style.plain(facts["x_label"]), labelpad=1)
    axis.set_ylabel(style.plain(facts["y_label"]))
    if line.first:
        axis.set_title(style.plain(line.task), pad=20)


def _spread(rows: pd.DataFrame, side: strips.Range, start: float, across: int) -> tuple[FloatArray, FloatArray]:
    """Where marks stand: at their place, and beside it where several have the same, of which the worst stays."""
    facts = rows.iloc[0]
    rank = rows["ending"].map(list(ENDINGS).index).to_numpy() * len(rows) + np.arange(len(rows))
    upright = strips.Range(float(facts["y_low"]), float(facts["y_high"]), bool(facts["y_log"]))
    x, y = side.place(rows["x"]), upright.place(rows["y"])
    right, up = apart(x, y, rank)
    wide = max(WIDTH, SIDE * across) - MARGINS[0]
    return start + x + right / (72 * wide / across), upright.value(y + up / (72 * (SIDE - MARGINS[1])))


def _marks(axis: Axes, x: FloatArray, y: FloatArray, rows: pd.DataFrame) -> None:
    ending = rows["ending"].to_numpy(dtype=object)
    for name, look in reversed(ENDINGS.items()):
        here = ending == name
        axis.scatter(x[here], y[here], **_mark(look), s=9 if len(rows) > 200 else 20, linewidths=0.4)


def _mark(look: Look) -> dict[str, Any]:
    face = "#333333" if look.shade == "#ffffff" else look.shade
    return {"marker": look.marker, "color": face} | ({"edgecolors": "#555555"} if look.marker != "_" else {})


def _legend(figure: Figure, numbers: pd.DataFrame) -> None:
    handles = [
        figure.axes[0].scatter([], [], **_mark(look), s=24, linewidths=0.4, label=ending)
        for ending, look in ENDINGS.items()
        if (numbers["ending"] == ending).any()
    ]
    columns = max(1, len(handles))
    figure.legend(handles=handles, loc="outside upper right", ncols=columns, fontsize=8, columnspacing=1.0)

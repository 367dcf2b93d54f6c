"""How much each hyperparameter decides: a bar per method and hyperparameter, with its interval and its null line."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis import importance
from analysis.answers import without
from analysis.figures import style
from analysis.results import Results

ROW = 0.27
"""Height of a method's row, inches."""

COLUMN = 1.18
"""From the start of one hyperparameter's column to that of the next, where 1 is a share of 1."""

ROOMY = 4
"""Up to so many columns have room for any name."""

COLUMNS = (*importance.COLUMNS, "order")


def importance_numbers(results: Results, *, rng: np.random.Generator) -> pd.DataFrame:
    """A row per task, method and hyperparameter that varies: `importance.shares`, and the method's place in the plan.

    No row where fewer than two hyperparameters vary or fewer than 30 configurations are decided, and no interval where
    a sampler that looked at results chose them.
    """
    tables = [
        importance.shares(results, task, method, rng=rng).assign(order=results.methods.index(method))
        for task in results.tasks
        for method in results.methods_of(task)
    ]
    filled = [table for table in tables if len(table)]
    table = pd.concat(filled, ignore_index=True) if filled else pd.DataFrame(columns=list(COLUMNS))
    return without(table, ("low", "high"), results)


def draw_importance(numbers: pd.DataFrame) -> Figure:
    """A panel per task, a row per method, a column per hyperparameter; bars above their null line are filled."""
    tasks = style.task_order(numbers)
    heights = [ROW * int(numbers.loc[numbers["task"] == task, "method"].nunique()) + 1.15 for task in tasks]
    figure, axes = style.panels(len(tasks), columns=1, width=7.6, heights=heights)
    for axis, task in zip(axes, tasks, strict=True):
        _panel(axis, numbers[numbers["task"] == task])
        axis.set_title(style.plain(task))
    return figure


def _panel(axis: Axes, numbers: pd.DataFrame) -> None:
    methods = list(dict.fromkeys(numbers.sort_values("order")["method"]))
    names = list(numbers.groupby("axis")["share"].mean().sort_values(ascending=False, kind="stable").index)
    for place in range(len(names)):
        axis.axvspan(COLUMN * place, COLUMN * place + 1, color="#f5f5f5", zorder=0)
        axis.axvline(COLUMN * place, color="#999999", linewidth=0.8, zorder=1)
    for row in numbers.to_dict("records"):
        _bar(axis, row, methods.index(row["method"]), COLUMN * names.index(row["axis"]))
    crowded = len(names) > ROOMY
    for place, name in enumerate(names):  # long names of narrow columns go up and down, past each other
        height = -1.15 if crowded and place % 2 else -0.62
        axis.text(COLUMN * place + 0.02, height, style.plain(name), va="bottom", fontsize=7 if crowded else 8, zorder=4)
    searched = bool(numbers["low"].isna().all())
    _dress(axis, methods, len(names), "" if searched else " with 95 % interval; dotted: chance exceeds it in 5 %")


def _bar(axis: Axes, row: dict[Hashable, Any], height: float, start: float) -> None:
    shade, above = style.colour(int(row["order"])), bool(row["above"])
    face = shade if above else "white"
    axis.barh(height, row["share"], 0.58, left=start, color=face, edgecolor=shade, linewidth=1.2, zorder=2)
    ends = [start + row["low"], start + row["high"]]
    if above:  # a rim, so that the line is seen on a bar of any colour
        axis.plot(ends, [height, height], color="white", linewidth=3.6, zorder=3)
    axis.plot(ends, [height, height], color="#222222", linewidth=1.4, zorder=4)
    line = start + min(float(row["null"]), 1.0)
    axis.plot(
        [line, line], [height - 0.42, height + 0.42], color="black", linewidth=1.8, linestyle=(0, (1.2, 0.8)), zorder=5
    )


def _dress(axis: Axes, methods: list[str], columns: int, ends: str) -> None:
    axis.set_yticks(range(len(methods)), [style.name(name) for name in methods])
    axis.set_ylim(len(methods) - 0.4, -1.9 if columns > ROOMY else -1.35)
    starts = COLUMN * np.arange(columns)
    ticks = np.sort(np.concatenate([starts, starts + 1]))
    labels = ["0", "1"] * columns if columns <= ROOMY else ["0", "1"] + [""] * (2 * columns - 2)
    axis.set_xticks(ticks, labels, fontsize=8)
    axis.set_xlim(-0.03, float(starts[-1]) + 1.03)
    axis.set_xlabel(f"share of importance{ends}")
    axis.grid(visible=False)
    axis.spines["left"].set_visible(False)

"""How trials ended: one stacked bar per task and method, failures by cause."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures import style
from analysis.results import Results
from analysis.summary import summary
from study.schema import Status

SHADES = {
    Status.DIVERGED.value: "#D55E00",
    Status.OOM.value: "#CC79A7",
    Status.STOPPED.value: "#E69F00",
    "missing": "#ffffff",
    Status.COMPLETED.value: "#c9dbe6",
}
"""Ending to colour, in the order of the stack: failures first, so that their bars share a foot."""

INK = {Status.DIVERGED.value: "white"}
ROW = 0.27


def failure_numbers(results: Results) -> pd.DataFrame:
    """One row per task, method and ending: its count and its share of the planned trials."""
    table = summary(results)
    found = table.melt(
        id_vars=["task", "method", "planned"],
        value_vars=list(SHADES),
        var_name="ending",
        value_name="count",
        ignore_index=False,
    ).sort_index(kind="stable", ignore_index=True)
    found["share"] = found["count"].astype("float64") / found["planned"].astype("float64")
    return found


def draw_failures(numbers: pd.DataFrame) -> Figure:
    """A bar per method, a panel per task; a bar's full length is the planned trials."""
    tasks = style.task_order(numbers)
    methods = [numbers.loc[numbers["task"] == task, "method"].nunique() for task in tasks]
    heights = [ROW * count + 0.85 for count in methods] or [1.0]
    heights[0] += 0.3  # the legend
    figure, axes = style.panels(len(tasks), columns=1, width=7.6, heights=heights)
    for axis, task in zip(axes, tasks, strict=True):
        _panel(axis, numbers[numbers["task"] == task])
        axis.set_title(style.plain(task))
    if axes:
        handles, names = axes[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside upper right", ncols=len(SHADES), fontsize=8)
    return figure


def _panel(axis: Axes, numbers: pd.DataFrame) -> None:
    methods = [str(name) for name in numbers["method"].unique()]
    start = [0.0] * len(methods)
    for ending, shade in SHADES.items():
        rows = numbers[numbers["ending"] == ending]
        shares = [float(value) for value in rows["share"]]
        axis.barh(
            range(len(methods)),
            shares,
            left=start,
            height=0.7,
            color=shade,
            edgecolor="#999999" if ending == "missing" else "white",
            linewidth=0.6,
            hatch="////" if ending == "missing" else None,
            label=ending,
            zorder=2,
        )
        for height, (left, length) in enumerate(zip(start, shares, strict=True)):
            if length >= 0.06:
                _number(axis, left + length / 2, height, int(rows["count"].iloc[height]), ending)
        start = [left + length for left, length in zip(start, shares, strict=True)]
    axis.set_yticks(range(len(methods)), [style.plain(name) for name in methods])
    axis.set_ylim(len(methods) - 0.4, -0.6)
    axis.set_xlim(0, 1)
    axis.set_xlabel("share of planned trials")
    axis.grid(visible=False, axis="y")


def _number(axis: Axes, x: float, y: float, count: int, ending: str) -> None:
    box = {"facecolor": "white", "edgecolor": "none", "pad": 0.8} if ending == "missing" else None
    axis.text(
        x, y, str(count), ha="center", va="center", fontsize=8, color=INK.get(ending, "#333333"), bbox=box, zorder=3
    )

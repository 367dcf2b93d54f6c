"""Success against the training budget: as it would have been judged at each budget, and when it first came."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis import trajectories
from analysis.figures import style
from analysis.figures.curves import spread
from analysis.results import Results
from analysis.words import percent

HEIGHT = 3.6
LABEL = 0.05
"""Least distance of two labels, as a fraction of a panel's height."""

JUDGED, FIRST = "share of trials that succeed at this budget", "share of trials that have reached the threshold"
NONE = {JUDGED: "no trial succeeds at any budget", FIRST: "no trial reached the threshold"}
"""What a panel says whose lines are at 0."""


def success_over_budget(results: Results) -> pd.DataFrame:
    """One row per task, method and budget: `trajectories.success_by_budget`."""
    return _numbers(results, trajectories.success_by_budget, JUDGED)


def reached_over_budget(results: Results) -> pd.DataFrame:
    """One row per task, method and budget: `trajectories.time_to_threshold`."""
    return _numbers(results, trajectories.time_to_threshold, FIRST)


def _numbers(results: Results, count: Callable[[Results, str], pd.DataFrame], label: str) -> pd.DataFrame:
    frames, places = [], {method: place for place, method in enumerate(results.methods)}
    for task in results.tasks:
        facts, table = results.facts(task), count(results, task)
        order = table["method"].map(places)
        success = f"{facts.metric} <= {facts.threshold:.4g}"
        frames.append(table.assign(order=order, label=label, success=success, adaptive=results.adaptive or ""))
    frames = [frame for frame in frames if len(frame)]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=["task"])


def draw_over_budget(numbers: pd.DataFrame) -> Figure:
    """One panel per task, a line and its ribbon per method; a line that still rises had not finished training."""
    tasks = style.task_order(numbers)
    columns = 1 if len(tasks) == 1 else 2
    rows = max(1, -(-len(tasks) // columns))
    width = 7.6 if columns == 1 else 6.2
    figure, axes = style.panels(len(tasks), columns=columns, width=width, heights=[HEIGHT] * rows)
    for axis, task in zip(axes, tasks, strict=True):
        _panel(axis, numbers[numbers["task"] == task])
        axis.set_title(style.plain(task))
    return figure


def _panel(axis: Axes, numbers: pd.DataFrame) -> None:
    groups = [(int(str(order)), curve) for order, curve in numbers.groupby("order", sort=True)]
    ink = max(0.04, 0.3 / max(1, len(groups)))
    for order, curve in groups:
        steps, value, low, high = (curve[name].to_numpy(dtype=np.float64) for name in ("steps", "value", "low", "high"))
        shade = style.colour(order)
        axis.fill_between(steps, low, high, color=shade, alpha=ink, linewidth=0)
        axis.plot(
            *(steps, value),
            color=shade,
            linestyle=style.line(order),
            marker=style.marker(order),
            markersize=3.2,
            linewidth=1.5,
        )
    facts = numbers.iloc[0]
    if numbers["value"].isna().all():
        style.empty(axis)
    elif numbers["value"].max() == 0:
        style.no_success(axis, facts["success"], words=NONE[facts["label"]])
    axis.set_ylim(-0.015, 1.015)
    axis.set_xlim(left=0)
    unit = str(facts["unit"]).replace("_", " ")
    axis.set_xlabel(f"budget: {unit} (success: {style.plain(facts['success'])})")
    chosen = f"\n(chosen by {style.plain(facts['adaptive'])}: no intervals)" if facts["adaptive"] else ""
    axis.set_ylabel(style.plain(facts["label"]).replace(" that ", "\nthat ") + chosen)
    _labels(axis, groups)


def _labels(axis: Axes, groups: list[tuple[int, pd.DataFrame]]) -> None:
    """Name each curve right of its end, with the share of trials that broke before they got there where it is known."""
    last = [(float(curve["value"].iloc[-1]), -order, curve.iloc[-1]) for order, curve in groups]
    ends = sorted((end for end in last if end[0] == end[0]), key=lambda end: end[:2])
    for height, (end, negative, row) in zip(spread([end for end, _, _ in ends], LABEL), ends, strict=True):
        shade = style.colour(-negative)
        broke = f"  ({percent(float(row['failed']))} broke first)" if row.get("failed", 0) > 0 else ""
        axis.annotate(
            f"{style.name(row['method'])}  {percent(end)}{broke}",
            xy=(1.0, end),
            xycoords=axis.get_yaxis_transform(),
            xytext=(1.05, height),
            textcoords=axis.get_yaxis_transform(),
            va="center",
            fontsize=8,
            color=shade,
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": shade, "linewidth": 0.7, "relpos": (0, 0.5)},
        )

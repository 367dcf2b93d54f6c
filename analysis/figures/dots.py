"""One number with its interval per task and method: the success fraction and the log-AUC."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures import style
from analysis.intervals import Estimate
from analysis.results import Results
from analysis.summary import summary
from analysis.words import interval, share

ROW = 0.27
"""Height of a method's row, inches."""

COLUMNS = ("task", "method", "order", "value", "low", "high", "interval", "worst", "best", "label")


def success_numbers(results: Results) -> pd.DataFrame:
    """One row per task and method: its success fraction, and its bounds over what is undecided."""
    found = _numbers(results, "success")
    table = summary(results)
    found["worst"], found["best"] = table["success_worst"], table["success_best"]
    found["label"] = [_success_label(results, task) for task in found["task"]]
    return found


def log_auc_numbers(results: Results) -> pd.DataFrame:
    """One row per task and method: its log-AUC."""
    found = _numbers(results, "log_auc")
    found["label"] = [_log_auc_label(results, task) for task in found["task"]]
    return found


def _numbers(results: Results, name: str) -> pd.DataFrame:
    table = summary(results)
    found = table[["task", "method"]].copy()
    found["order"] = [results.methods.index(str(method)) for method in table["method"]]
    for column, end in (("value", ""), ("low", "_low"), ("high", "_high"), ("interval", "_method")):
        found[column] = table[f"{name}{end}"]
    return found.reindex(columns=list(COLUMNS))


def _success_label(results: Results, task: str) -> str:
    facts = results.facts(task)
    return f"success fraction: {facts.metric} <= {facts.threshold:.4g}"


def _log_auc_label(results: Results, task: str) -> str:
    facts = results.facts(task)
    return f"log-AUC between {facts.metric} {facts.anchor_low:.4g} (scores 1) and {facts.anchor_high:.4g} (scores 0)"


def draw_dots(numbers: pd.DataFrame) -> Figure:
    """A dot and an interval per method, a panel per task; a pale bar spans what undecided trials leave open."""
    tasks = style.task_order(numbers)
    heights = [ROW * int((numbers["task"] == task).sum()) + 1.0 for task in tasks] or [1.0]
    figure, axes = style.panels(len(tasks), columns=1, width=7.6, heights=heights)
    for axis, task in zip(axes, tasks, strict=True):
        _panel(axis, numbers[numbers["task"] == task])
        axis.set_title(style.plain(task))
    return figure


def _panel(axis: Axes, numbers: pd.DataFrame) -> None:
    for height, row in enumerate(numbers.itertuples(index=False)):
        order = int(row.order)  # type: ignore[arg-type]  # the stubs do not know a tuple's columns
        value, low, high, worst, best = (
            float(getattr(row, name)) for name in ("value", "low", "high", "worst", "best")
        )
        if best > worst:
            axis.barh(height, best - worst, left=worst, height=0.62, color="#e9e9e9", zorder=1)
        if value == value:
            axis.plot([low, high], [height, height], color=style.colour(order), linewidth=2.2, zorder=2)
            axis.plot(value, height, marker=style.marker(order), color=style.colour(order), markersize=6.5, zorder=3)
            note = f"{share(value)} {interval(Estimate(value, low, high, 0, ''))}"
            axis.text(1.03, height, note, transform=axis.get_yaxis_transform(), va="center", fontsize=8)
    if numbers["value"].isna().all():
        style.empty(axis)
    axis.set_yticks(range(len(numbers)), [style.name(name) for name in numbers["method"]])
    axis.set_ylim(len(numbers) - 0.4, -0.6)
    axis.set_xlim(-0.015, 1.015)
    axis.set_xlabel(style.plain(numbers["label"].iloc[0]))
    axis.grid(visible=False, axis="y")

"""The paired differences of the log-AUC: a forest, one row per pair of methods."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.comparisons import compare_all, table
from analysis.figures import style
from analysis.results import Results
from analysis.words import share, signed

ROW = 0.25
CONFIRMATORY, EXPLORATORY = "#0072B2", "#777777"

COLUMNS = (
    *("task", "first", "second", "family", "verdict", "p_adjusted", "missing", "pairs"),
    *(f"log_auc_difference{end}" for end in ("", "_low", "_high", "_method", "_p")),
)


def difference_numbers(results: Results) -> pd.DataFrame:
    """One row per task and pair of methods, confirmatory pairs first."""
    return table(compare_all(results))[list(COLUMNS)]


def draw_differences(numbers: pd.DataFrame) -> Figure:
    """A row per pair, a panel per task; filled marks are confirmatory, open ones exploratory."""
    tasks = style.task_order(numbers)
    heights = [ROW * int((numbers["task"] == task).sum()) + 1.0 for task in tasks] or [1.5]
    figure, axes = style.panels(max(1, len(tasks)), columns=1, width=7.6, heights=heights)
    if not tasks:
        axes[0].set_axis_off()
        style.empty(axes[0], "no pair of methods to compare")
    for axis, task in zip(axes, tasks, strict=False):
        _panel(axis, numbers[numbers["task"] == task])
        axis.set_title(style.plain(task))
    return figure


def _panel(axis: Axes, numbers: pd.DataFrame) -> None:
    axis.axvline(0, color="#555555", linewidth=1, zorder=1)
    for height, row in enumerate(numbers.to_dict("records")):
        value, low, high = (float(row[f"log_auc_difference{end}"]) for end in ("", "_low", "_high"))
        if value != value:
            continue
        declared = row["family"] == "confirmatory"
        shade = CONFIRMATORY if declared else EXPLORATORY
        axis.plot([low, high], [height, height], color=shade, linewidth=2.2 if declared else 1.3, zorder=2)
        face = shade if declared else "white"
        axis.plot(value, height, marker="o", color=shade, markerfacecolor=face, markersize=6, zorder=3)
        note = f"{signed(value)} [{share(low)}, {share(high)}]"
        axis.text(1.03, height, note, transform=axis.get_yaxis_transform(), va="center", fontsize=8)
    if numbers["log_auc_difference"].isna().all():
        style.empty(axis)
    _dress(axis, numbers)


def _dress(axis: Axes, numbers: pd.DataFrame) -> None:
    names = [style.plain(f"{row['first']} vs {row['second']}") for row in numbers.to_dict("records")]
    axis.set_yticks(range(len(names)), names)
    for label, family in zip(axis.get_yticklabels(), numbers["family"], strict=True):
        label.set_fontweight("bold" if family == "confirmatory" else "normal")
    ends = numbers[["log_auc_difference_low", "log_auc_difference_high"]].to_numpy(dtype="float64")
    known = [0.0, *(float(end) for end in ends.ravel() if end == end)]
    margin = 0.05 * (max(known) - min(known)) or 1.0
    axis.set_xlim(min(known) - margin, max(known) + margin)
    axis.set_ylim(len(names) - 0.4, -0.6)
    axis.set_xlabel("paired difference of log-AUC; right of 0 the first method survives more (filled: confirmatory)")
    axis.grid(visible=False, axis="y")

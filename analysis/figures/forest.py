"""The paired differences of the log-AUC: a forest, one row per task and pair of methods."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.comparisons import ADAPTIVE, compare_all, table
from analysis.figures import style
from analysis.intervals import Estimate
from analysis.results import Results
from analysis.words import ends

ROW = 0.23
"""Height of a row, inches."""

PART = 26
"""Most letters of a method's name beside a row."""

MOST = 66
"""Rows of a figure; of more, each panel shows its first ones and says how many there are."""

CONFIRMATORY, EXPLORATORY = "#0072B2", "#777777"

COLUMNS = (
    *("task", "first", "second", "family", "verdict", "p_adjusted", "p_discovery", "missing", "pairs"),
    *(f"log_auc_difference{end}" for end in ("", "_low", "_high", "_method", "_p")),
)


def difference_numbers(results: Results) -> pd.DataFrame:
    """One row per task and pair of methods, confirmatory pairs first."""
    return table(compare_all(results))[list(COLUMNS)]


def draw_differences(numbers: pd.DataFrame) -> Figure:
    """A row per pair and a panel per task, or the other way round where there are more tasks than pairs.

    Filled marks are confirmatory, open ones exploratory; all panels have the same scale.
    """
    panels = _panels(numbers)
    most = max(4, MOST // len(panels)) if panels else MOST
    heights = [ROW * min(most, len(rows)) + 0.95 for _, rows, _ in panels] or [1.5]
    figure, axes = style.panels(max(1, len(panels)), columns=1, width=7.6, heights=heights)
    if not panels:
        axes[0].set_axis_off()
        style.empty(axes[0], "no pair of methods to compare")
    for axis, (title, rows, labels) in zip(axes, panels, strict=False):
        shown = rows.iloc[:most]
        _panel(axis, shown, labels[:most], _limits(numbers))
        left = len(rows) - len(shown)
        axis.set_title(style.plain(title) + (f" (and {left} more, in the numbers)" if left else ""))
    if panels:
        figure.supxlabel(_label(numbers), fontsize=9)
    return figure


def _panels(numbers: pd.DataFrame) -> list[tuple[str, pd.DataFrame, list[str]]]:
    """Title, rows and the rows' names of each panel."""
    pairs = pd.Series([f"{a} vs {b}" for a, b in zip(numbers["first"], numbers["second"], strict=True)], dtype=object)
    tasks = numbers["task"].astype(object).reset_index(drop=True)
    rows = numbers.reset_index(drop=True)
    short = rows[["first", "second"]].astype(object).map(style.short, most=PART).agg(" vs ".join, axis=1)
    titles, names = (pairs, tasks) if tasks.nunique() > pairs.nunique() else (tasks, short)
    return [(title, rows[titles == title], list(names[titles == title])) for title in titles.unique()]


def _panel(axis: Axes, numbers: pd.DataFrame, names: list[str], limits: tuple[float, float]) -> None:
    axis.axvline(0, color="#555555", linewidth=1, zorder=1)
    for height, row in enumerate(numbers.to_dict("records")):
        value, low, high = (float(row[f"log_auc_difference{end}"]) for end in ("", "_low", "_high"))
        if value != value:
            continue
        declared = row["family"] == "confirmatory" and row["verdict"] != ADAPTIVE
        shade = CONFIRMATORY if declared else EXPLORATORY
        axis.plot([low, high], [height, height], color=shade, linewidth=2.2 if declared else 1.3, zorder=2)
        face = shade if declared else "white"
        axis.plot(value, height, marker="o", color=shade, markerfacecolor=face, markersize=6, zorder=3)
        note = ends(Estimate(value, low, high, 0, ""))
        axis.text(1.03, height, note, transform=axis.get_yaxis_transform(), va="center", fontsize=8)
    if numbers["log_auc_difference"].isna().all():
        style.empty(axis)
    axis.set_yticks(range(len(names)), [style.plain(name) for name in names])
    for label, family in zip(axis.get_yticklabels(), numbers["family"], strict=True):
        label.set_fontweight("bold" if family == "confirmatory" else "normal")
    axis.set_xlim(*limits)
    axis.set_ylim(len(names) - 0.4, -0.6)
    axis.grid(visible=False, axis="y")


def _limits(numbers: pd.DataFrame) -> tuple[float, float]:
    ends = numbers[["log_auc_difference_low", "log_auc_difference_high"]].to_numpy(dtype="float64")
    known = [0.0, *(float(end) for end in ends.ravel() if end == end)]
    margin = 0.05 * (max(known) - min(known)) or 1.0
    return min(known) - margin, max(known) + margin


def _label(numbers: pd.DataFrame) -> str:
    text = "paired difference of log-AUC; right of 0 the first method survives more"
    return f"{text} ({ADAPTIVE})" if (numbers["verdict"] == ADAPTIVE).any() else f"{text} (filled: confirmatory)"

"""What is lost by tuning once for all tasks, against what tuning reaches: the sensitivity-performance plane."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis import tunability
from analysis.figures import style
from analysis.results import Results

WIDTH, HEIGHT = 3.8, 3.1
"""Of a panel, inches."""

COLUMNS = (*tunability.TRANSFERS, "order")


def tunability_numbers(results: Results, *, rng: np.random.Generator) -> pd.DataFrame:
    """A row per task and method, and one per method for all tasks: `tunability.transfer`, and the method's place.

    No row with fewer than two tasks, fewer than 16 shared configurations, or an adaptive sampler, whose configurations
    cannot stand for a search of another size.
    """
    if results.adaptive or len(results.tasks) < 2:
        return pd.DataFrame(columns=list(COLUMNS))
    tables = [
        tunability.transfer(results, method, rng=rng).assign(order=place)
        for place, method in enumerate(results.methods)
    ]
    filled = [table for table in tables if len(table)]
    return pd.concat(filled, ignore_index=True) if filled else pd.DataFrame(columns=list(COLUMNS))


def draw_tunability(numbers: pd.DataFrame) -> Figure:
    """A panel per task and one for their mean, a mark per method; right is better, lower is less to tune for."""
    tasks = sorted(style.task_order(numbers), key=lambda task: task == tunability.ALL)
    across = min(2, len(tasks))
    figure, axes = style.panels(len(tasks), columns=2, width=WIDTH, heights=[HEIGHT] * -(-len(tasks) // across))
    ends = numbers[["low", "high"]].to_numpy(dtype=np.float64)
    reach = min(0.0, float(ends.min())), max(0.05, float(ends.max()))
    for axis, task in zip(axes, tasks, strict=True):
        _panel(axis, numbers[numbers["task"] == task])
        axis.set_title(style.plain(task))
        axis.set_ylim(reach[0] - 0.05 * (reach[1] - reach[0]), reach[1] + 0.05 * (reach[1] - reach[0]))
    handles, labels = _legend(axes)
    figure.legend(handles, labels, loc="outside lower center", ncols=min(4, len(labels)), fontsize=8)
    return figure


def _panel(axis: Axes, numbers: pd.DataFrame) -> None:
    axis.axhline(0, color="#555555", linewidth=1, zorder=1)
    for row in numbers.sort_values("order").to_dict("records"):
        order, at = int(row["order"]), float(row["tuned"])
        axis.plot([at, at], [row["low"], row["high"]], color=style.colour(order), linestyle=style.line(order), zorder=2)
        axis.plot(
            [at],
            [row["loss"]],
            marker=style.MARKERS[order % len(style.MARKERS)],
            markerfacecolor="white" if order >= len(style.COLOURS) else style.colour(order),
            color=style.colour(order),
            linestyle="none",
            markersize=7,
            zorder=3,
            label=style.name(row["method"]),
        )
    size = int(numbers["size"].min())
    axis.set_xlim(-0.02, 1.02)
    axis.set_xlabel(f"expected best utility of {size} configurations")
    axis.set_ylabel("lost by tuning for all tasks")


def _legend(axes: list[Axes]) -> tuple[list[Artist], list[str]]:
    """Each method once, whichever panels it is in."""
    found = {label: handle for axis in axes for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    return list(found.values()), list(found)

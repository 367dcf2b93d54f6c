"""Small panels, several to a row: what looks along hyperparameters has many."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter

from analysis.axes import Axis
from analysis.figures import style
from analysis.outcomes import FloatArray

ACROSS = 4
"""Most panels side by side."""

STEP, REACH = 2.6, 12.0
"""Distance of marks that share a place, and most that one is moved, points."""

GOLDEN = np.pi * (3 - np.sqrt(5))
"""The golden angle."""

TITLE, LEAST = 28, 16
"""Letters of a title that fit above a panel, and how many a name has at least."""

LEGEND = 0.25
"""Height of a row of a legend above the panels, inches."""


def tiles(count: int, *, width: float, height: float, handles: Sequence[Line2D] = ()) -> tuple[Figure, list[Axes], int]:
    """A figure of equal panels.

    Args:
        count: Number of panels, at least 1.
        width: Width of a panel in inches.
        height: Height of a panel in inches.
        handles: Entries of a legend above them.

    Returns:
        The figure, its panels, and how many stand side by side.
    """
    columns = count if count <= ACROSS else 3 if count in (5, 6, 9) else ACROSS
    across = max(1, int(width * columns / _entry(handles)))
    heights = [height] * -(-count // columns)
    heights[0] += LEGEND * -(-len(handles) // across)
    figure, axes = style.panels(count, columns=columns, width=width, heights=heights)
    if handles:
        figure.legend(handles=list(handles), loc="outside upper left", ncols=min(across, len(handles)), fontsize=8)
    return figure, axes, columns


def _entry(handles: Sequence[Line2D]) -> float:
    """Width of the widest entry of a legend, inches."""
    return 0.6 + 0.075 * max((len(str(handle.get_label())) for handle in handles), default=0)


def title(numbers: pd.DataFrame, *names: object, after: str = "", most: int = TITLE) -> str:
    """A panel's title: its names, and the task's where the figure has several, cut to fit before what stands after."""
    task = str(names[0])
    several = numbers["task"].nunique() > 1
    text = ": ".join(str(name) for name in (names if several else names[1:])) or task
    return style.name(text, max(LEAST, most - len(after))) + after


def thinned(rows: pd.DataFrame, most: int) -> pd.DataFrame:
    """At most so many trials, evenly spaced in the order of their ids, which have nothing to do with the design."""
    ordered = rows.sort_values("trial_id", ignore_index=True)
    if len(ordered) <= most:
        return ordered
    return ordered.iloc[np.linspace(0, len(ordered) - 1, most).round().astype(np.int64)].reset_index(drop=True)


def apart(x: FloatArray, y: FloatArray, first: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    """How far to move marks so that those at the same place are all seen.

    They follow a spiral with the density of a sunflower's: each is about `STEP` from its neighbours, less where so
    many share a place that the spiral would be wider than `REACH`.

    Args:
        x: Places, shape (marks,).
        y: shape (marks,).
        first: Keys, shape (marks,), all different: at each place the mark with the least stays where it is.

    Returns:
        Two arrays of shape (marks,), in points; 0 for a mark alone at its place.
    """
    _, place, size = np.unique(np.column_stack([x, y]), axis=0, return_inverse=True, return_counts=True)
    place = place.reshape(-1)
    order = np.lexsort((np.asarray(first), place))
    rank = np.empty(len(order), dtype=np.float64)
    rank[order] = np.arange(len(order)) - (np.cumsum(size) - size)[place[order]]
    radius = np.sqrt(rank) * np.minimum(STEP, REACH / np.sqrt(size))[place]
    return radius * np.cos(rank * GOLDEN), radius * np.sin(rank * GOLDEN)


def places(axis: Axis, values: pd.Series) -> FloatArray:
    """Where values stand on a drawn axis: themselves, or the index of their level."""
    return axis.scaled(values) if axis.levels else values.to_numpy(dtype=np.float64)


def logarithmic(panel: Axes, *, side: str) -> None:
    """Make one side of a panel logarithmic, with labels at powers of ten only."""
    getattr(panel, f"set_{side}scale")("log")
    ticks = getattr(panel, f"{side}axis")
    ticks.set_major_locator(LogLocator(numticks=6))
    ticks.set_minor_formatter(NullFormatter())

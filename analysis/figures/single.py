"""One table into one pair of axes: what `.plot(ax)` of an answer draws, with a legend and nothing in the margins."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.answers import Look
from analysis.figures import style
from analysis.words import share

SIZE = (6.4, 4.0)
"""Width and height of a figure that is made for the axes, inches."""

ROW = 0.3
"""Height of a row of dots, inches."""

FEW = 8
"""Up to so many values of a logarithmic axis are its ticks."""

PAIR = ("first", "second")
"""Columns that name two methods."""


def plot(table: pd.DataFrame, look: Look, ax: Axes | None = None) -> Axes:
    """Draw a table into axes, or into those of a new figure; an empty one says that there is nothing to show."""
    if ax is None:
        height = SIZE[1] if look.kind != "dots" else 1.0 + ROW * max(1, len(table))
        with mpl.rc_context(style.STYLE):  # type: ignore[arg-type]  # the stubs know every key's own type
            ax = Figure(figsize=(SIZE[0], height), layout="constrained").subplots()
    if table[look.value].notna().any():
        {"dots": _dots, "cells": _cells}.get(look.kind, _series)(ax, table, look)
    else:
        style.empty(ax, "nothing to show")
    return ax


def _dots(ax: Axes, table: pd.DataFrame, look: Look) -> None:
    """A row per row of the table, the first on top."""
    if look.mark is not None:
        ax.axvline(look.mark, color="#555555", linewidth=1, zorder=1)
    places = np.arange(len(table))
    value = table[look.value].to_numpy(dtype=np.float64)
    for place, order, middle, low, high in zip(
        places, _orders(table, np.zeros(len(table))), value, *_ends(table, look), strict=True
    ):
        ax.plot([low, high], [place, place], color=style.colour(order), linewidth=2, zorder=2)
        ax.plot(middle, place, marker=style.marker(order), color=style.colour(order), zorder=3)
    if look.chance:
        label = "what chance exceeds in 5 % of cases"
        ax.plot(table[look.chance], places, linestyle="", marker="|", markersize=14, color="#555555", label=label)
        ax.legend(frameon=False, fontsize="small", loc="lower right", bbox_to_anchor=(1.0, 1.0))
    join = " vs " if look.names == PAIR else ", "
    ax.set_yticks(places, [_name(row, join) for row in table[list(look.names)].to_numpy()])
    ax.set_ylim(len(table) - 0.5, -0.5)
    ax.set_xlabel(style.plain(look.label))


def _series(ax: Axes, table: pd.DataFrame, look: Look) -> None:
    """A line and its band per series, in the order of the table."""
    if look.mark is not None:
        ax.axhline(look.mark, color="#555555", linewidth=1, zorder=1)
    steps = look.kind == "steps"
    for place, (name, rows) in enumerate(table.groupby(list(look.names), sort=False, observed=True)):
        order = _orders(rows, np.full(len(rows), place))[0]
        finite = rows[np.isfinite(rows[str(look.along)].astype("float64"))]
        x, y = (finite[str(column)].to_numpy(dtype=np.float64) for column in (look.along, look.value))
        (line,) = ax.plot(x, y, drawstyle="steps-post" if steps else "default", linewidth=1.6)
        line.set(color=style.colour(order), linestyle=style.line(order), label=_name(name, " - "))
        low, high = _ends(finite, look)
        band = ax.fill_between(x, low, high, step="post" if steps else None, alpha=0.15, linewidth=0)
        band.set_color(style.colour(order))
    if look.log:
        _log(ax, np.unique(table[str(look.along)].to_numpy(dtype=np.float64)))
    ax.set_xlabel(style.plain(look.along_label))
    ax.set_ylabel(style.plain(look.label))
    ax.legend(frameon=False, fontsize="small")


def _cells(ax: Axes, table: pd.DataFrame, look: Look) -> None:
    """A grid of shares per series, side by side; darker is more, and each cell says how much."""
    start, ticks = 0.0, []
    for name, rows in table.groupby(list(look.names), sort=False, observed=True):
        grid = rows.pivot(index="y_bin", columns="x_bin", values=look.value).to_numpy(dtype=np.float64)
        up, across = grid.shape
        edges = start + np.arange(across + 1)
        ax.pcolormesh(edges, np.arange(up + 1), grid, cmap="Blues", vmin=0, vmax=1.4, edgecolors="white", linewidth=1)
        for (row, column), value in np.ndenumerate(grid):
            text = "" if np.isnan(value) else share(value)
            ax.text(start + column + 0.5, row + 0.5, text, ha="center", va="center", fontsize="x-small")
        ax.text(start + across / 2, up + 0.1, _name(name, " - "), ha="center", va="bottom", fontsize="small")
        labels = rows.drop_duplicates("x_bin").sort_values("x_bin")["x_label"]
        ticks += [(start + place + 0.5, style.plain(label)) for place, label in enumerate(labels)]
        start += across + 0.5
    sides = table.drop_duplicates("y_bin").sort_values("y_bin")["y_label"]
    ax.set_yticks(np.arange(len(sides)) + 0.5, list(map(style.plain, sides)), fontsize="x-small")
    ax.set_xticks([place for place, _ in ticks], [text for _, text in ticks], rotation=90, fontsize="x-small")
    ax.set_ylim(0, len(sides) + 0.6)
    ax.set_xlabel(style.plain(table["x"].iloc[0]))
    ax.set_ylabel(style.plain(table["y"].iloc[0]))
    ax.grid(visible=False)
    ax.set_title(style.plain(look.label), fontsize="small")


def _ends(table: pd.DataFrame, look: Look) -> tuple[np.ndarray, np.ndarray]:
    """Both ends of each interval, NaN where it has none: nothing is drawn there."""
    if look.low is None or look.high is None:
        return np.full(len(table), np.nan), np.full(len(table), np.nan)
    return table[look.low].to_numpy(dtype=np.float64), table[look.high].to_numpy(dtype=np.float64)


def _orders(table: pd.DataFrame, otherwise: np.ndarray) -> list[int]:
    """Places of the rows' methods in the plan, which decide their colours; others where rows are not of a method."""
    return [int(order) for order in (table["order"] if "order" in table.columns else otherwise)]


def _log(ax: Axes, values: np.ndarray) -> None:
    """A logarithmic axis; where there are few values, they are its ticks."""
    ax.set_xscale("log")
    if len(values) <= FEW:
        ax.set_xticks(values, [f"{value:.3g}" for value in values])
        ax.minorticks_off()


def _name(parts: object, join: str) -> str:
    return style.plain(join.join(str(part) for part in (parts if isinstance(parts, tuple | np.ndarray) else (parts,))))

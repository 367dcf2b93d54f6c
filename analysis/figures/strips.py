"""Small multiples without a panel each: a line of methods side by side in one axis, each in a strip of its own.

A hundred panels take matplotlib minutes and a page of tick labels; a strip takes neither. Values are placed in the
strip of their method by their place in a common range.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from analysis.figures import style
from analysis.outcomes import FloatArray

ACROSS = 6
"""Most strips side by side."""

MARGIN = 0.8
"""Left of the strips, inches."""

GAP = 0.1
"""Between strips, in widths of a strip."""

POWERS = 4
"""Most intervals between the powers of ten below a strip."""

LETTERS = 11.5
"""Letters of a title that fit into an inch."""


@dataclass(frozen=True)
class Line:
    """Methods side by side.

    Attributes:
        task: Their task.
        methods: Position in the plan and name of each.
        first: True for the first line of the task.
    """

    task: str
    methods: tuple[tuple[int, str], ...]
    first: bool


@dataclass(frozen=True)
class Range:
    """What strips have in common: the ends of their width, as values, and whether equal ratios are equal steps."""

    low: float
    high: float
    log: bool

    def place(self, values: pd.Series) -> FloatArray:
        """Values as places in a strip, 0 to 1."""
        numbers, ends = values.to_numpy(dtype=np.float64), np.array([self.low, self.high])
        if self.log:
            numbers, ends = np.log10(numbers), np.log10(ends)
        width = float(ends[1] - ends[0])
        return np.asarray((numbers - ends[0]) / width if width > 0 else np.full(len(numbers), 0.5), dtype=np.float64)

    def value(self, places: FloatArray) -> FloatArray:
        """The values at places, which `place` gives; those of a range without width are its end."""
        ends = np.log10([self.low, self.high]) if self.log else np.array([self.low, self.high])
        found = ends[0] + places * (ends[1] - ends[0])
        return np.asarray(10.0**found if self.log else found, dtype=np.float64)

    def ticks(self) -> list[tuple[float, str]]:
        """Values to mark, with their labels: powers of ten of a logarithmic range, both ends of another.

        A range that holds fewer than two powers is marked at 1, 2 and 5 too.
        """
        if not self.log:
            return [
                (value, f"{value:.4g}" if abs(value) < 1e4 else f"{value:g}")
                for value in dict.fromkeys((self.low, self.high))
            ]
        first, last = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
        if last <= first:
            fine = [digit * 10.0**power for power in range(first - 1, last + 1) for digit in (1, 2, 5)]
            return [(value, f"{value:.3g}") for value in fine if self.low <= value <= self.high]
        step = max(1, -(-(last - first) // POWERS))
        return [(10.0**power, f"$10^{{{power}}}$") for power in range(first, last + 1, step)]

    def fine(self) -> list[float]:
        """Values of the small marks: the digits between the powers of ten of a logarithmic range."""
        if not self.log:
            return []
        powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)))
        values = [digit * 10.0**power for power in powers for digit in range(2, 10)]
        return [value for value in values if self.low <= value <= self.high]


def lines_of(numbers: pd.DataFrame) -> list[Line]:
    """The lines of a table with columns `task`, `order` and `method`, tasks in its order, methods in the plan's."""
    found = []
    for task in style.task_order(numbers):
        pairs = numbers.loc[numbers["task"] == task, ["order", "method"]].drop_duplicates().sort_values("order")
        methods = [(int(order), str(method)) for order, method in pairs.itertuples(index=False)]
        # lines of equal length: 8 methods are 4 and 4, not 6 and 2
        length = -(-len(methods) // -(-len(methods) // ACROSS))
        parts = [tuple(methods[i : i + length]) for i in range(0, len(methods), length)]
        found += [Line(task, part, first=i == 0) for i, part in enumerate(parts)]
    return found


def width_of(lines: list[Line]) -> int:
    """Strips in the longest of some lines."""
    return max((len(line.methods) for line in lines), default=1)


def start_of(position: int) -> float:
    """Where the strip at a position begins."""
    return position * (1 + GAP)


def dress(axis: Axes, count: int, strips: int) -> None:
    """Make an axis one of so many strips, of which it has the first few, with a thin line left of each."""
    axis.set_xlim(-0.03, start_of(strips) - GAP + 0.03)
    axis.grid(visible=False, axis="x")
    axis.set_xticks([])
    axis.spines["bottom"].set_visible(False)
    for position in range(count):
        begin = start_of(position)
        axis.axvline(begin - 0.03, color="#cccccc", linewidth=0.8, zorder=0)
        axis.plot(
            *([begin - 0.03, begin + 1.03], [0, 0]),
            transform=axis.get_xaxis_transform(),
            color="#777777",
            linewidth=0.8,
            clip_on=False,
        )


def mark(axis: Axes, count: int, common: Range) -> None:
    """Put the ticks of the common range below each strip."""
    marks = [
        (start_of(position) + float(common.place(pd.Series([value]))[0]), label)
        for position in range(count)
        for value, label in common.ticks()
    ]
    small = [start_of(i) + place for i in range(count) for place in common.place(pd.Series(common.fine(), dtype=float))]
    axis.set_xticks([place for place, _ in marks], [label for _, label in marks], fontsize=7)
    axis.set_xticks(small, minor=True)
    for (place, _), label in zip(marks, axis.get_xticklabels(), strict=True):
        inside = place % (1 + GAP)
        label.set_horizontalalignment("left" if inside < 0.02 else "right" if inside > 0.98 else "center")


def log_scale(axis: Axes, low: float, high: float) -> None:
    """Make the upright scale logarithmic between two ends, with a few plain ticks."""
    axis.set_yscale("log")
    axis.set_ylim(low, high)
    first, last = math.ceil(math.log10(low)), math.floor(math.log10(high))
    marks = [10.0**power for power in range(first, last + 1, max(1, -(-(last - first) // 4)))]
    labels = [f"$10^{{{power}}}$" for power in range(first, last + 1, max(1, -(-(last - first) // 4)))]
    if len(marks) < 2:
        fine = [digit * 10.0**power for power in range(first - 1, last + 1) for digit in (1, 2, 5)]
        marks = [mark for mark in fine if low <= mark <= high]
        marks = marks if len(marks) > 1 else [low, high]
        labels = [f"{mark:.2g}" for mark in marks]
    axis.set_yticks(marks, labels)
    axis.set_yticks([], minor=True)


def title(axis: Axes, position: int, text: str, *, second: str = "") -> None:
    """Name a strip, above it; a second line is set smaller."""
    across = round((axis.get_xlim()[1] + GAP) / (1 + GAP))
    figure = axis.get_figure(root=True)
    inches = 0.0 if figure is None else (figure.get_figwidth() - MARGIN) / across
    shown = style.name(text, max(8, int(LETTERS * inches)))
    height = 1.03
    if second:
        axis.text(
            start_of(position),
            height,
            style.plain(second),
            transform=axis.get_xaxis_transform(),
            fontsize=7.5,
            va="bottom",
        )
        height += 0.115
    axis.text(
        *(start_of(position), height, shown),
        transform=axis.get_xaxis_transform(),
        fontsize=8.5,
        fontweight="bold",
        va="bottom",
    )

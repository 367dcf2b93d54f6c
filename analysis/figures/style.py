"""How figures look: one style, and one colour and line for each method throughout a report."""

from __future__ import annotations

import functools
import io
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font

from analysis.results import Results
from analysis.words import percent
from study.files import write_whole

FONT = "DejaVu Sans"

STYLE: dict[str, object] = {
    "axes.axisbelow": True,
    "axes.edgecolor": "#777777",
    "axes.grid": True,
    "axes.labelcolor": "#333333",
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "figure.facecolor": "white",
    "font.family": FONT,  # comes with matplotlib, so the same letters everywhere
    "font.size": 9,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "path.simplify": False,
    "pdf.fonttype": 42,  # letters that a printer's program can read and search
    "svg.fonttype": "path",
    "svg.hashsalt": "manypaths",  # otherwise the ids inside an SVG are random
    "xtick.color": "#555555",
    "ytick.color": "#333333",
}
"""Settings of matplotlib that hold while a figure is drawn and saved, and never longer."""

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito's palette without its yellow and black: told apart with any colour vision, readable on white."""

LINES = ("-", "--", ":", "-.")
MARKERS = ("o", "s", "^", "D")
"""Line and marker of the first six methods, of the next six, and so on."""

NAME = 40
"""Most letters of a method's name beside a panel."""

DPI = 150
FORMS = ("csv", "png", "svg", "pdf")
"""What a figure is written as: its numbers, and the picture for a screen, a page of the web and a paper."""

METADATA: dict[str, dict[str, str | None]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}
"""What a picture says about its making: nothing, so that equal numbers give equal bytes."""


@dataclass(frozen=True)
class Picture:
    """A figure: the function returning its numbers and the function drawing them.

    Attributes:
        numbers: Results to the table that is drawn; has a column `task`. Without rows there is nothing to show: the
            sweep has not what the figure is about, say two methods or a second value of n_critic.
        draw: That table, or some tasks of it, to the figure; it has at least one row.
        alt: What the figure shows, for those who cannot see it; also its caption: a sentence that says how to read it.
        section: Where it stands in the report: "compare" (which method survives more), "profiles" (how much survives)
            or "breaks" (where and how it breaks).
        history: True where it needs the history, which is read for it.
        searched: What it shows of configurations that a search chose, which have no intervals and are no draws from a
            prior; None where that is the same, or nothing.
    """

    numbers: Callable[[Results], pd.DataFrame]
    draw: Callable[[pd.DataFrame], Figure]
    alt: str
    section: str
    history: bool = False
    searched: str | None = None

    def caption(self, results: Results) -> str:
        """What the figure shows of some results."""
        return self.alt if results.adaptive is None or self.searched is None else self.searched


def colour(order: int) -> str:
    """The colour of the method at a position of the plan."""
    return COLOURS[order % len(COLOURS)]


def line(order: int) -> str:
    """The line style of the method at a position of the plan."""
    return LINES[order // len(COLOURS) % len(LINES)]


def marker(order: int) -> str:
    """The marker of the method at a position of the plan."""
    return MARKERS[order // len(COLOURS) % len(MARKERS)]


def draw(picture: Picture, numbers: pd.DataFrame) -> Figure:
    """Draw a figure in the common style, without touching matplotlib's global state."""
    with mpl.rc_context(STYLE):  # type: ignore[arg-type]  # the stubs know every key's own type
        return picture.draw(numbers)


def render(figure: Figure, form: str, *, dpi: int = DPI) -> bytes:
    """A figure as the bytes of a file, "png", "svg" or "pdf"; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    with mpl.rc_context(STYLE), warnings.catch_warnings():  # type: ignore[arg-type]  # the stubs know every key's type
        # of dozens of methods panels are crowded, and drawn as they are: nothing that a reader of warnings could change
        warnings.filterwarnings("ignore", "constrained_layout not applied")
        figure.savefig(buffer, format=form, dpi=dpi, metadata=METADATA[form])
    return buffer.getvalue()


def save(
    name: str, picture: Picture, numbers: pd.DataFrame, directory: Path, forms: Sequence[str] = FORMS
) -> tuple[Path, ...]:
    """Write NAME.csv, NAME.png and so on into a directory, which must exist; nothing for numbers without rows."""
    if numbers.empty:
        return ()
    paths = tuple(directory / f"{name}.{form}" for form in forms)
    figure = draw(picture, numbers) if set(forms) - {"csv"} else None
    for path in paths:
        if figure is None or path.suffix == ".csv":
            write_csv(numbers, path)
        else:
            write_whole(path, render(figure, path.suffix[1:]))
    return paths


def write_csv(numbers: pd.DataFrame, path: Path) -> None:
    """Write a table with eight significant digits and the same line ends everywhere."""
    write_whole(path, numbers.to_csv(index=False, float_format="%.8g", lineterminator="\n").encode())


def panels(count: int, *, columns: int, width: float, heights: list[float]) -> tuple[Figure, list[Axes]]:
    """A figure with one panel per task.

    Args:
        count: Number of panels.
        columns: Most panels side by side.
        width: Width of a panel in inches.
        heights: Height of each row of panels in inches.
    """
    across = max(1, min(columns, count))
    figure = Figure(figsize=(width * across, sum(heights)), layout="constrained")
    grid = figure.subplots(len(heights), across, squeeze=False, height_ratios=heights)
    axes = [axis for line_of_axes in grid for axis in line_of_axes]
    for unused in axes[count:]:
        unused.set_axis_off()
    return figure, axes[:count]


def readable(text: object) -> str:
    r"""A name on one line, in letters that the font has: another one is written as its code, `\u5bf9`.

    matplotlib draws the same box for all letters that it lacks, so that names could not be told apart, and warns.
    """
    known = _letters()
    line_of_text = " ".join(str(text).split())
    return "".join(letter if ord(letter) in known else f"\\u{ord(letter):04x}" for letter in line_of_text)


@functools.cache
def _letters() -> frozenset[int]:
    """Codes of the letters that the font has upright, bold and slanted."""
    plain_face = FontProperties(family=FONT)
    bold, slanted = FontProperties(family=FONT, weight="bold"), FontProperties(family=FONT, style="italic")
    codes = (get_font(findfont(face)).get_charmap() for face in (plain_face, bold, slanted))
    return frozenset.intersection(*map(frozenset, codes))


def plain(text: object) -> str:
    """A text as it is, on one line: matplotlib would read what stands between dollar signs as mathematics."""
    return readable(text).replace("$", r"\$")


def short(text: object, most: int) -> str:
    """A text of at most so many letters; of a longer one both ends, which tell it from others."""
    whole = readable(text)
    head = (most - 1) * 2 // 3
    return whole if len(whole) <= most else f"{whole[:head]}…{whole[len(whole) - (most - 1 - head) :]}"


def name(text: object, most: int = NAME) -> str:
    """A method's name beside a panel, as it is and at most so long."""
    return plain(short(text, most))


def some(share: float) -> str:
    """A share above 0 in whole percent, which is never 0 %."""
    return percent(share) if share >= 0.005 else "<1 %"


def empty(axis: Axes, text: str = "no finished trials yet") -> None:
    """Say in a panel that there is nothing to show."""
    axis.text(
        *(0.5, 0.5, text),
        transform=axis.transAxes,
        ha="center",
        va="center",
        color="#666666",
        style="italic",
        bbox={"facecolor": "white", "edgecolor": "none"},
    )


def no_success(
    axis: Axes, rule: str, *, words: str = "no trial succeeded", at: tuple[float, float] = (0.5, 0.5)
) -> None:
    """Say in a panel that no trial succeeded, which lines at 0 would leave to be found out.

    Args:
        axis: The panel.
        rule: What success is, say "w2sq <= 0.2".
        words: The sentence before it.
        at: Middle of the text, as fractions of the panel.
    """
    axis.text(
        *(*at, f"{words}\n({plain(rule)})"),
        transform=axis.transAxes,
        ha="center",
        va="center",
        color="#444444",
        fontsize=7.5,
        style="italic",
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.9, "pad": 2.0},
        zorder=6,
    )


def task_order(numbers: pd.DataFrame) -> list[str]:
    """The tasks of a table of numbers, in its order."""
    return [str(task) for task in numbers["task"].unique()]

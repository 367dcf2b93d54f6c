"""Where in a plane of two hyperparameters a method succeeds, and where and how it fails."""

from __future__ import annotations

import textwrap
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from analysis import maps
from analysis.answers import without
from analysis.axes import axes_of, axis_named, shown
from analysis.figures import style
from analysis.figures.tiles import apart, logarithmic, places, thinned, tiles, title
from analysis.outcomes import FloatArray
from analysis.results import Results
from analysis.words import percent
from study.schema import Status

WIDTH, HEIGHT = 2.75, 2.45
MARGINS = 0.6
"""What labels take of them, inches."""

MOST = 600
"""Most trials of a panel; more would hide each other."""

LETTERS = 24
"""Letters of the colour bar's label beside a row of panels."""

TITLE = 24
"""Letters of a title that fit above a panel beside the colour bar."""

LONG = 12
"""Characters of a level's name that fit below a cell."""

REACHED, ABOVE, UNDECIDED = "reached the threshold", "finished above it", "undecided"
LOOKS: dict[str, dict[str, Any]] = {
    REACHED: {"marker": "o", "color": "#0072B2", "markersize": 3.4},
    ABOVE: {"marker": "o", "color": "#888888", "markersize": 4.0, "fillstyle": "none", "markeredgewidth": 0.8},
    Status.DIVERGED.value: {"marker": "x", "color": "#D55E00", "markersize": 4.2},
    Status.OOM.value: {"marker": "s", "color": "#CC79A7", "markersize": 4.0},
    UNDECIDED: {"marker": ".", "color": "#bbbbbb", "markersize": 2.5},
}
"""Ending to marker, in the order of drawing."""

FAILURE_COLUMNS = (
    *("task", "method", "order", "trial_id", "ending", "x", "y", "x_value", "y_value", "x_place", "y_place"),
    *("x_log", "y_log", "x_levels", "y_levels", "drawn", "of"),
)


def map_numbers(results: Results, x: str | None = None, y: str | None = None) -> pd.DataFrame:
    """One row per task, method and cell of two hyperparameters: successes, points, share and its interval.

    Args:
        results: The results.
        x: A hyperparameter, by the sweep file's word; without both, the learning rate and beta1, or the two that most
            methods of a task vary.
        y: Another one.

    Returns:
        Columns of `maps.COLUMNS`, and in `rule` what success is; no rows for methods that do not vary both, and no
        intervals where a sampler that looked at results chose the configurations.
    """
    frames = [
        maps.success_map(results, task, method, *pair, outcomes=outcomes).assign(rule=_rule(results, task))
        for task, method, pair, outcomes in _pairs(results, x, y)
    ]
    table = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=[*maps.COLUMNS, "rule"])
    return without(table, ("low", "high"), results)


def _rule(results: Results, task: str) -> str:
    facts = results.facts(task)
    return f"{facts.metric} <= {facts.threshold:.4g}"


def failure_numbers(results: Results, x: str | None = None, y: str | None = None) -> pd.DataFrame:
    """One row per trial: where it lies in the plane of two hyperparameters, and how it ended.

    Of a method's more than 600 trials, as many are kept, evenly spaced in the order of their ids.

    Args:
        results: The results.
        x: As for `map_numbers`.
        y: As for `map_numbers`.
    """
    frames = [_trials(results, *found) for found in _pairs(results, x, y)]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=list(FAILURE_COLUMNS))


def plain_failure_numbers(results: Results) -> pd.DataFrame:
    """`failure_numbers` where there is no history, from which `endings.ending_map_numbers` tells more endings apart."""
    return failure_numbers(results) if results.read_history is None else pd.DataFrame(columns=list(FAILURE_COLUMNS))


def _pairs(results: Results, x: str | None, y: str | None) -> list[tuple[str, str, tuple[str, str], pd.DataFrame]]:
    found = []
    for task in results.tasks:
        outcomes = results.outcomes(task)
        pair = (x, y) if x is not None and y is not None else maps.usual_pair(results, task)
        for method in results.methods_of(task):
            axes = axes_of(results, task, method)
            if pair is not None and all(axis_named(axes, name) for name in pair):
                found.append((task, method, pair, outcomes))
    return found


def _trials(results: Results, task: str, method: str, pair: tuple[str, str], outcomes: pd.DataFrame) -> pd.DataFrame:
    axes = {name: axis for axis in axes_of(results, task, method) for name in (axis.name, axis.word)}
    rows = thinned(outcomes[outcomes["method"] == method], MOST)
    found = rows[["task", "method", "trial_id"]].assign(
        order=results.methods.index(method),
        ending=_endings(rows, results.facts(task).threshold),
        drawn=len(rows),
        of=int((outcomes["method"] == method).sum()),
    )
    for side, name in zip("xy", pair, strict=True):
        axis = axes[name]
        values = axis.of(rows)
        found[side], found[f"{side}_value"], found[f"{side}_place"] = axis.word, values, places(axis, values)
        found[f"{side}_log"] = axis.log and not axis.levels
        found[f"{side}_levels"] = "|".join(shown(level) for level in axis.levels)
    return found[list(FAILURE_COLUMNS)]


def _endings(rows: pd.DataFrame, threshold: float) -> list[str]:
    finished = np.where(rows["primary"].to_numpy(np.float64) <= threshold, REACHED, ABOVE)
    named = {Status.DIVERGED.value: Status.DIVERGED.value, Status.OOM.value: Status.OOM.value}
    return [
        str(word) if status == Status.COMPLETED.value else named.get(str(status), UNDECIDED)
        for status, word in zip(rows["status"], finished, strict=True)
    ]


def draw_map(numbers: pd.DataFrame) -> Figure:
    """A panel per task and method: darker cells succeed more often; in each the successes of its points.

    Where a point has several trials, of which some succeed, cells say the share instead, and how many points it is of.
    """
    cells = list(numbers[["task", "method"]].drop_duplicates().itertuples(index=False, name=None))
    figure, panels, columns = tiles(len(cells), width=WIDTH, height=HEIGHT)
    shades, whole = _shades(), bool((numbers["count"] % 1 == 0).all())
    for place, (panel, (task, method)) in enumerate(zip(panels, cells, strict=True)):
        here = numbers[(numbers["task"] == task) & (numbers["method"] == method)]
        _cells(panel, here, shades, whole=whole, first=place % columns == 0)
        if here["count"].sum() == 0 < here["points"].sum():
            up = int(here["y_bin"].max()) + 1
            style.no_success(panel, here["rule"].iloc[0], at=(0.5, (up + 1) // 2 / up if up > 1 else 0.85))
        panel.set_title(title(numbers, task, method, most=TITLE), fontsize=9)
    bar = figure.colorbar(ScalarMappable(Normalize(0, 1), shades), ax=panels, aspect=30, fraction=0.03, pad=0.01)
    what = "succeed" if numbers["event"].iloc[0] == "success" else "fail"
    visited = numbers["visited"].dropna()
    among = "the points of the cell" if visited.empty else f"what {visited.iloc[0]} visited in the cell"
    told = "k/n: k of n points" if whole else f"% of n points, a point counting by the share of its trials that {what}"
    rows = -(-len(panels) // columns)
    label = [style.plain(f"share of {among} that {what}"), f"({told})"]
    bar.set_label("\n".join(textwrap.fill(line, LETTERS * min(rows, 2)) for line in label), fontsize=7.5)
    return figure


def _shades() -> Colormap:
    """White to dark blue: its lightness falls steadily, so it reads in grey."""
    return ListedColormap(mpl.colormaps["Blues"](np.linspace(0.0, 0.95, 256)))


def _cells(panel: Axes, numbers: pd.DataFrame, shades: Colormap, *, whole: bool, first: bool) -> None:
    across, up = int(numbers["x_bin"].max()) + 1, int(numbers["y_bin"].max()) + 1
    size = 8 if max(across, up) <= 4 else 6.5
    for row in numbers.to_dict("records"):
        i, j, share = int(row["x_bin"]), int(row["y_bin"]), float(row["share"])
        count, points = float(row["count"]), int(row["points"])
        known = share == share
        face = shades(share) if known else "white"
        panel.add_patch(
            Rectangle(
                (i, j),
                1,
                1,
                facecolor=face,
                edgecolor="white" if known else "#bbbbbb",
                hatch="" if known else "///",
                linewidth=0.8,
            )
        )
        if known:
            ink = "white" if share > 0.55 else "#222222"
            panel.text(
                i + 0.5,
                j + 0.5,
                f"{count:.0f}/{points}" if whole else f"{percent(share)}\nof {points}",
                ha="center",
                va="center",
                fontsize=size,
                color=ink,
            )
    panel.set_xlim(0, across)
    panel.set_ylim(0, up)
    panel.grid(visible=False)
    _ticks(panel, numbers, "x", across)
    _ticks(panel, numbers, "y", up)
    panel.set_xlabel(style.plain(numbers["x"].iloc[0]))
    if first:
        panel.set_ylabel(style.plain(numbers["y"].iloc[0]))


def _ticks(panel: Axes, numbers: pd.DataFrame, side: str, count: int) -> None:
    """Edges below the lines between cells, or levels below their middles."""
    table = numbers.drop_duplicates(f"{side}_bin").sort_values(f"{side}_bin")
    low, high = table[f"{side}_low"].to_numpy(np.float64), table[f"{side}_high"].to_numpy(np.float64)
    if np.isnan(low).any() or np.array_equal(low, high):
        labels = [style.plain(label[:LONG]) for label in table[f"{side}_label"]]
        at = np.arange(count) + 0.5
    else:
        labels = [shown(float(edge)) for edge in (*low, high[-1])]
        at = np.arange(count + 1).astype(np.float64)
    long = side == "x" and sum(map(len, labels)) > 22
    getattr(panel, f"set_{side}ticks")(at, labels, fontsize=7, rotation=45 if long else 0)


def draw_failures_map(numbers: pd.DataFrame) -> Figure:
    """A panel per task and method, a mark per trial, by how it ended."""
    cells = list(numbers[["task", "method"]].drop_duplicates().itertuples(index=False, name=None))
    present = set(numbers["ending"])
    handles = [
        Line2D([], [], linestyle="", label=ending, **look) for ending, look in LOOKS.items() if ending in present
    ]
    figure, panels, columns = tiles(len(cells), width=WIDTH, height=HEIGHT, handles=handles)
    for place, (panel, (task, method)) in enumerate(zip(panels, cells, strict=True)):
        here = numbers[(numbers["task"] == task) & (numbers["method"] == method)]
        _scatter(panel, here, first=place % columns == 0)
        part, whole = here["drawn"].iloc[0], here["of"].iloc[0]
        some = f" ({part} of {whole})" if part < whole else ""
        panel.set_title(title(numbers, task, method, after=some), fontsize=9)
    return figure


def _spread(numbers: pd.DataFrame) -> tuple[FloatArray, FloatArray]:
    """Where marks stand: at their place, and beside it where several have the same."""
    ends = list(LOOKS)
    rank = numbers["ending"].map(ends.index).to_numpy() * len(numbers) + np.arange(len(numbers))
    x, y = (numbers[f"{side}_place"].to_numpy(dtype=np.float64) for side in "xy")
    found = []
    for side, place, moved, inches in zip("xy", (x, y), apart(x, y, rank), (WIDTH, HEIGHT), strict=True):
        log = bool(numbers[f"{side}_log"].iloc[0])
        scaled = np.log10(place) if log else place
        levels = str(numbers[f"{side}_levels"].iloc[0])
        span = float(levels.count("|") + 1 if levels else np.nanmax(scaled) - np.nanmin(scaled)) or 1.0
        at = scaled + moved * span / (72 * (inches - MARGINS))
        found.append(10**at if log else at)
    return found[0], found[1]


def _scatter(panel: Axes, numbers: pd.DataFrame, *, first: bool) -> None:
    x, y = _spread(numbers)
    for ending, look in LOOKS.items():
        here = (numbers["ending"] == ending).to_numpy()
        panel.plot(x[here], y[here], linestyle="", **look)
    for side in "xy":
        levels = str(numbers[f"{side}_levels"].iloc[0])
        if levels:
            names = levels.split("|")
            getattr(panel, f"set_{side}ticks")(range(len(names)), [style.plain(name[:LONG]) for name in names])
            getattr(panel, f"set_{side}lim")(-0.5, len(names) - 0.5)
        elif bool(numbers[f"{side}_log"].iloc[0]):
            logarithmic(panel, side=side)
    panel.set_xlabel(style.plain(numbers["x"].iloc[0]))
    if first:
        panel.set_ylabel(style.plain(numbers["y"].iloc[0]))

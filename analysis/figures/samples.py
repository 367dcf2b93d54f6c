"""What generators made: samples of the best, the median, the worst and a failed trial of each method."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures import style
from analysis.results import Results
from analysis.words import number
from study.schema import Status

FINISHED = ("best", "median", "worst")
KINDS = (*FINISHED, "failed")
"""Rows of a picture: places among the trials that finished, by the primary metric, and one that did not."""

REAL = "real"
CANDIDATES = 12
"""Failed trials that are asked for samples, those of middling life first: who failed at once has none."""

CELL = (0.8, 1.5)
"""Least and greatest width of a cell, inches."""

ACROSS = 13
"""Most cells side by side; further methods go below."""

NOTE = 0.2
"""Height of a cell's note, in widths of a cell."""

LETTERS = 11
"""Of a column's name that fit into an inch."""

MARGIN = 0.12
"""Around real points, as a share of their range; generated points beyond it stand at the edge."""

COLUMNS = (
    *("task", "method", "order", "trial", "trial_id", "metric", "primary", "status", "generator_steps"),
    *("count", "shape", "shown", "values"),
)


@dataclass(frozen=True, eq=False)
class Pixels:
    """Samples inside a table of numbers; as text, in a CSV, it says what there is and where.

    Attributes:
        values: shape (count, *shape of a sample).
    """

    values: npt.NDArray[np.float32]

    def __str__(self) -> str:
        """What there is, and where the numbers are."""
        count, *shape = self.values.shape
        return f"{count} of {'x'.join(map(str, shape))}: in samples/"


def sample_numbers(results: Results) -> pd.DataFrame:
    """One row per task, method and kind of trial in `KINDS` that has samples, and a first one with real samples.

    Best, median and worst are by the primary metric, among the trials that completed and have samples; the failed one
    diverged after about half of the failed trials' steps, and shows its last sound evaluation. `values` holds
    `Pixels`; `shown` says what of a sample can be seen.
    """
    rows = [row for task in results.tasks for row in _of_task(results, task)]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _of_task(results: Results, task: str) -> Iterator[dict[str, object]]:
    outcomes = results.outcomes(task)
    chosen = {method: _candidates(outcomes[outcomes["method"] == method]) for method in results.methods_of(task)}
    wanted = dict.fromkeys(trial_id for kinds in chosen.values() for ids in kinds.values() for trial_id in ids)
    kept = results.samples(*wanted)
    kept = kept[kept["task"] == task]
    stored = kept.dropna(subset="trial_id").set_index("trial_id")
    if stored.empty:
        return
    real = kept[kept["trial_id"].isna()]
    metric = results.facts(task).metric
    for values in real["values"].head(1).to_list():
        yield {"task": task, "order": -1, "trial": REAL, "metric": metric} | _shown(values)
    known = outcomes.set_index("trial_id")
    for method, kinds in chosen.items():
        for kind, ids in kinds.items():
            trial_id = next((trial_id for trial_id in ids if trial_id in stored.index), None)
            if trial_id is not None:
                yield {
                    **{"task": task, "method": method, "order": results.methods.index(method), "trial": kind},
                    **{"trial_id": trial_id, "metric": metric, "primary": known.loc[trial_id, "primary"]},
                    **{"status": known.loc[trial_id, "status"]},
                    **{"generator_steps": stored.loc[trial_id, "generator_steps"]},
                    **_shown(stored.loc[trial_id, "values"]),
                }


def _candidates(outcomes: pd.DataFrame) -> dict[str, list[str]]:
    """Trials of each kind, the one to show first; a later one stands in for those without samples."""
    finished = outcomes[outcomes["status"] == Status.COMPLETED.value].sort_values(["primary", "trial_id"])
    failed = outcomes[outcomes["status"] == Status.DIVERGED.value]
    if "generator_steps" in failed.columns:
        failed = failed.sort_values(["generator_steps", "trial_id"])
    ids, lost = list(finished["trial_id"]), list(failed["trial_id"])
    middle = (len(lost) - 1) / 2
    near = sorted(range(len(lost)), key=lambda place: (abs(place - middle), -place))[:CANDIDATES]
    found = {"best": ids[:1], "median": ids[(len(ids) - 1) // 2 :][:1], "worst": ids[-1:]}
    return found | {"failed": [lost[place] for place in near]}


def _shown(samples: object) -> dict[str, object]:
    values = np.asarray(samples, dtype=np.float32)
    count, *shape = values.shape
    if len(shape) > 1:
        shown = "images"
    else:
        shown = {1: "values in order, against their rank", 2: "points"}.get(shape[0], "the first two coordinates")
    return {"count": count, "shape": "x".join(map(str, shape)), "shown": shown, "values": Pixels(values)}


def draw_samples(numbers: pd.DataFrame) -> Figure:
    """A column per method, a row per kind of trial, real samples in the first column."""
    blocks = [block for task in style.task_order(numbers) for block in _blocks(numbers[numbers["task"] == task])]
    across = max((len(orders) for _, orders in blocks), default=1)
    cell = float(np.clip(9.6 / across, *CELL))
    kinds = [[kind for kind in KINDS if kind in set(rows["trial"])] for rows, _ in blocks]
    heights = [cell * len(shown) * (1 + NOTE) + 0.65 for shown in kinds] or [1.0]
    figure, axes = style.panels(len(blocks), columns=1, width=cell * across + 0.9, heights=heights)
    for axis, (rows, orders), shown in zip(axes, blocks, kinds, strict=True):
        _block(axis, rows, orders, shown, across, letters=int(cell * LETTERS))
    return figure


def _blocks(rows: pd.DataFrame) -> list[tuple[pd.DataFrame, list[int]]]:
    """The columns of one task, cut where they do not fit side by side; each part begins with the real samples."""
    real = [-1] if (rows["order"] == -1).any() else []
    methods = [int(order) for order in sorted(set(rows["order"]) - {-1})]
    size = ACROSS - len(real)
    return [(rows, [*real, *methods[i : i + size]]) for i in range(0, len(methods), size)]


def _block(axis: Axes, rows: pd.DataFrame, orders: list[int], kinds: list[str], across: int, *, letters: int) -> None:
    axis.set_xlim(0, across)
    axis.set_ylim(len(kinds) * (1 + NOTE), 0)
    axis.set_aspect("equal")
    axis.set_axis_off()
    first = rows.iloc[0]
    shown = "" if first["shown"] == "images" else f" ({first['shown']})"
    title = f"{first['task']}, by {first['metric']}{shown}"
    axis.set_title(style.plain(title), pad=30)
    real = rows.loc[rows["order"] == -1, "values"]
    reference = real.iloc[0].values if len(real) else None
    for height, kind in enumerate(kinds):
        top = height * (1 + NOTE)
        axis.text(-0.05, top + 0.5, kind, ha="right", va="center", fontsize=8)
        for place, order in enumerate(orders):
            here = rows[(rows["order"] == order) & ((rows["trial"] == kind) | (rows["trial"] == REAL))]
            if order == -1 and height:
                continue
            if here.empty:
                _note(axis, place, top + 0.5, "none" if kind == "failed" else "")
                continue
            row = here.iloc[0]
            _cell(axis, row["values"].values, place, top, reference=reference)
            _note(axis, place, top + 1 + NOTE / 2 - 0.02, "" if order == -1 else _value(row))
    names = {-1: REAL} | dict(rows.loc[rows["order"] >= 0, ["order", "method"]].itertuples(index=False))
    for place, order in enumerate(orders):
        label = _wrapped(names[order], letters)
        axis.text(place + 0.5, -0.06, label, ha="center", va="bottom", fontsize=7.5, fontweight="bold")


def _wrapped(name: str, letters: int) -> str:
    """A name in two lines of so many letters at most, the rest left out."""
    name = style.readable(name)
    if len(name) > 2 * letters:
        name = f"{name[: 2 * letters - 1]}…"
    return "\n".join(style.plain(part) for part in (name[:letters], name[letters:]) if part)


def _value(row: pd.Series) -> str:
    return (
        number(float(row["primary"]))
        if row["status"] == Status.COMPLETED.value
        else f"step {row['generator_steps']:.0f}"
    )


def _note(axis: Axes, place: int, height: float, text: str) -> None:
    axis.text(place + 0.5, height, text, ha="center", va="center", fontsize=7, color="#555555")


def _cell(
    axis: Axes,
    values: npt.NDArray[np.float32],
    place: int,
    top: float,
    *,
    reference: npt.NDArray[np.float32] | None,
) -> None:
    """Draw samples into the square of side .94 at a place."""
    left, right, bottom = place + 0.03, place + 0.97, top + 0.97
    if values.ndim > 2:
        axis.imshow(
            _sheet(values), extent=(left, right, bottom, top + 0.03), interpolation="nearest", aspect="auto", zorder=2
        )
        return
    axis.plot(
        [left, right, right, left, left], [top + 0.03, top + 0.03, bottom, bottom, top + 0.03], color="#bbbbbb", lw=0.7
    )
    points = _plane(values)
    true = points if reference is None else _plane(reference)
    low, high = true.min(axis=0), true.max(axis=0)
    margin = MARGIN * np.maximum(high - low, 1e-12)
    beyond = float(np.mean(~((points >= low - margin) & (points <= high + margin)).all(axis=1)))
    if beyond > 0:
        box = {"facecolor": "white", "edgecolor": "none", "pad": 0.5, "alpha": 0.85}
        text = f"{style.some(beyond)} outside"
        axis.text(left + 0.04, top + 0.07, text, va="top", fontsize=6, color="#222222", bbox=box, zorder=4)
    for cloud, shade, size in ((true if reference is not None else true[:0], "#c4c4c4", 4.0), (points, "#0072B2", 2.0)):
        inside = (np.clip(cloud, low - margin, high + margin) - low + margin) / (high - low + 2 * margin)
        axis.scatter(
            left + inside[:, 0] * (right - left),
            bottom - inside[:, 1] * (bottom - top - 0.03),
            s=size,
            color=shade,
            linewidths=0,
            zorder=3,
        )


def _plane(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Points as points of the plane: their first two coordinates; of numbers, each and its rank."""
    if values.shape[1] > 1:
        return values[:, :2].astype(np.float64)
    ordered = np.sort(values[:, 0]).astype(np.float64)
    return np.stack([ordered, (np.arange(len(ordered)) + 0.5) / len(ordered)], axis=1)


def _sheet(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Images (n, channels, h, w) with values in [-1, 1] as one of (rows, columns, 3) in [0, 1], white lines between."""
    count, channels, height, width = values.shape
    side = int(np.ceil(np.sqrt(count)))
    sheet = np.ones((-(-count // side) * (height + 1) - 1, side * (width + 1) - 1, 3))
    colours = np.moveaxis(np.clip((values.astype(np.float64) + 1) / 2, 0, 1), 1, -1)
    colours = colours[..., :3] if channels >= 3 else np.repeat(colours[..., :1], 3, axis=-1)
    for index, image in enumerate(colours):
        row, column = index // side * (height + 1), index % side * (width + 1)
        sheet[row : row + height, column : column + width] = image
    return sheet

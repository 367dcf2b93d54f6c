"""The difference of two robustness profiles: a panel per pair, above 0 where the first method is ahead."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.comparisons import declared_pairs, drawn_pairs
from analysis.dominance import profile_difference
from analysis.figures import style
from analysis.intervals import TINY
from analysis.pairing import Pairs
from analysis.results import Results

WIDTH, HEIGHT = 4.6, 2.7
INK = "#333333"
FIRST, SECOND = "first", "second"

COLUMNS = (
    *("task", "first", "second", "order_first", "order_second", "family", "metric", "tau", "difference"),
    *("low", "high", "half_width", "band", "points", "ahead", "threshold", "anchor_low", "anchor_high"),
)


def profile_difference_numbers(
    results: Results,
    *,
    rng: np.random.Generator,
    pairs: Sequence[tuple[str, str]] | None = None,
    order: Sequence[str] | None = None,
) -> pd.DataFrame:
    """One row per task, pair and threshold: the difference of the two profiles with its simultaneous band.

    Args:
        results: The results; an adaptive sweep has no profiles of a prior, and gives no rows.
        rng: Source of the bands.
        pairs: Pairs of methods; None for the confirmatory ones, or where there are none those with the first method.
        order: All methods, whose places give the colours; None for those of the results.

    Returns:
        Columns `COLUMNS`; tau = +inf is the difference of the shares that did not fail; `ahead` is "first" or "second"
        where the band shows that one to be ahead.
    """
    frames = [
        _rows(results, task, names, planned, order or results.methods, rng)
        for task, names, planned in drawn_pairs(results, pairs)
    ]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=list(COLUMNS))


def _rows(
    results: Results,
    task: str,
    names: tuple[str, str],
    planned: Pairs,
    order: Sequence[str],
    rng: np.random.Generator,
) -> pd.DataFrame:
    facts, found = results.facts(task), profile_difference(planned, rng=rng)
    ahead = np.where(found.low > TINY, FIRST, np.where(found.high < -TINY, SECOND, ""))
    return pd.DataFrame(
        {
            "task": task,
            "first": names[0],
            "second": names[1],
            "order_first": order.index(names[0]),
            "order_second": order.index(names[1]),
            "family": "confirmatory" if set(names) in map(set, declared_pairs(results, task)) else "exploratory",
            "metric": facts.metric,
            "tau": found.thresholds,
            "difference": found.value,
            "low": found.low,
            "high": found.high,
            "half_width": found.half_width,
            "band": found.band,
            "points": found.n,
            "ahead": ahead,
            "threshold": facts.threshold,
            "anchor_low": facts.anchor_low,
            "anchor_high": facts.anchor_high,
        },
        columns=list(COLUMNS),
    )


def draw_profile_differences(numbers: pd.DataFrame) -> Figure:
    """A panel per task and pair; thick lines at its edge mark where one method is shown to be ahead."""
    groups = [rows for _, rows in numbers.groupby(["task", "first", "second"], sort=False)]
    columns = 1 if len(groups) < 2 else 2
    heights = [HEIGHT] * max(1, -(-len(groups) // columns))
    figure, axes = style.panels(len(groups), columns=columns, width=WIDTH if columns > 1 else 7.6, heights=heights)
    reach = 1.12 * max(float(np.nanmax(np.abs(numbers[["low", "high"]].to_numpy(dtype=float)), initial=0.1)), 0.1)
    for axis, rows in zip(axes, groups, strict=True):
        _panel(axis, rows, reach)
    return figure


def _panel(axis: Axes, rows: pd.DataFrame, reach: float) -> None:
    facts = rows.iloc[0]
    left, right = float(facts["anchor_low"]) / 3, float(facts["anchor_high"]) * 3
    axis.set_xscale("log")
    axis.set_xlim(left, right)
    axis.set_ylim(-reach, reach)
    axis.axvspan(facts["anchor_low"], facts["anchor_high"], color="#f5f5f5", zorder=0)
    axis.axhline(0, color="#555555", linewidth=1, zorder=1)
    if facts["threshold"] > 0:
        axis.axvline(facts["threshold"], color="#555555", linewidth=1, linestyle=(0, (2, 2)), zorder=1)
    if rows["difference"].isna().all():
        style.empty(axis)
    else:
        _curve(axis, rows, left, right, reach)
    for name, place, edge in (("first", 0.97, "top"), ("second", 0.03, "bottom")):
        shade = style.colour(int(facts[f"order_{name}"]))
        text = f"{style.name(facts[name])} ahead"
        note = axis.text(0.02, place, text, transform=axis.transAxes, va=edge, fontsize=8, color=shade, zorder=4)
        note.set_fontweight("bold")
        note.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 1.5, "alpha": 0.8})
    axis.set_title(style.plain(facts["task"]))
    axis.set_xlabel(f"{style.plain(facts['metric'])} (shaded: range of the log-AUC)")
    axis.set_ylabel("difference of profiles")


def _curve(axis: Axes, rows: pd.DataFrame, left: float, right: float, reach: float) -> None:
    """The steps between two thresholds with their band, and the marks of who is ahead."""
    tau = rows["tau"].to_numpy(dtype=np.float64)
    inside = (tau > left) & (tau < right)
    before = np.flatnonzero(tau <= left)[-1:]
    kept = np.concatenate([before, np.flatnonzero(inside)])
    half = float(rows["half_width"].iloc[0])
    x, y = tau[kept], rows["difference"].to_numpy(dtype=np.float64)[kept]
    ahead = rows["ahead"].to_numpy(dtype=object)[kept]
    if not len(before):
        x, y, ahead = np.concatenate([[left], x]), np.concatenate([[0.0], y]), np.concatenate([[""], ahead])
    x, y, ahead = np.append(np.maximum(x, left), right), np.append(y, y[-1]), np.append(ahead, ahead[-1])
    axis.fill_between(x, y - half, y + half, step="post", color="#999999", alpha=0.3, linewidth=0)
    axis.step(x, y, where="post", color=INK, linewidth=1.5)
    for name, place in ((FIRST, reach), (SECOND, -reach)):
        shade = style.colour(int(rows[f"order_{name}"].iloc[0]))
        for start, end in zip(x[:-1][ahead[:-1] == name], x[1:][ahead[:-1] == name], strict=True):
            axis.plot([start, end], [place, place], color=shade, linewidth=5, solid_capstyle="butt", zorder=3)

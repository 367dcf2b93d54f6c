"""The robustness profiles: one panel per task, one step curve with its band per method."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis import profiles
from analysis.figures import style
from analysis.outcomes import sample
from analysis.results import Results
from analysis.words import percent

HEIGHT = 4.2
LABEL = 0.042
"""Least distance of two labels, as a fraction of a panel's height."""

COLUMNS = (
    *("task", "method", "order", "metric", "tau", "fraction", "low", "high", "plateau"),
    *("points", "band", "half_width", "missing", "threshold", "anchor_low", "anchor_high"),
)


def profile_numbers(results: Results, *, rng: np.random.Generator) -> pd.DataFrame:
    """One row per task, method and step of its profile; tau = +inf is the plateau."""
    frames = [
        _profile_rows(results, task, method, outcomes[outcomes["method"] == method], rng)
        for task in results.tasks
        for outcomes in [results.outcomes(task)]
        for method in results.methods_of(task)
    ]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=list(COLUMNS))


def _profile_rows(
    results: Results, task: str, method: str, rows: pd.DataFrame, rng: np.random.Generator
) -> pd.DataFrame:
    facts = results.facts(task)
    found = profiles.profile(sample(rows), rng=rng)
    ends = [np.clip(found.plateau + side, 0.0, 1.0) for side in (-found.half_width, found.half_width)]
    return pd.DataFrame(
        {
            "task": task,
            "method": method,
            "order": results.methods.index(method),
            "metric": facts.metric,
            "tau": np.append(found.thresholds, np.inf),
            "fraction": np.append(found.fraction, found.plateau),
            "low": np.append(found.low, ends[0]),
            "high": np.append(found.high, ends[1]),
            "plateau": found.plateau,
            "points": found.n,
            "band": found.band,
            "half_width": found.half_width,
            "missing": int(rows["status"].isna().sum()),
            "threshold": facts.threshold,
            "anchor_low": facts.anchor_low,
            "anchor_high": facts.anchor_high,
        },
        columns=list(COLUMNS),
    )


def draw_profiles(numbers: pd.DataFrame) -> Figure:
    """One panel per task; a curve further up and left survives more of the prior."""
    tasks = style.task_order(numbers)
    columns = 1 if len(tasks) == 1 else 2
    rows = max(1, -(-len(tasks) // columns))
    figure, axes = style.panels(
        len(tasks), columns=columns, width=7.6 if columns == 1 else 6.2, heights=[HEIGHT] * rows
    )
    for axis, task in zip(axes, tasks, strict=True):
        _panel(axis, numbers[numbers["task"] == task])
        axis.set_title(style.plain(task), pad=16)  # above the threshold's note
    return figure


def _panel(axis: Axes, numbers: pd.DataFrame) -> None:
    facts = numbers.iloc[0]
    left, right = _limits(numbers)
    axis.set_xscale("log")
    axis.set_xlim(left, right)
    axis.set_ylim(-0.01, 1.01)
    axis.set_xlabel(f"{style.plain(facts['metric'])} (lower is better; shaded: range of the log-AUC)")
    axis.set_ylabel("fraction of the prior at or below")
    axis.axvspan(facts["anchor_low"], facts["anchor_high"], color="#f5f5f5", zorder=0)
    if facts["threshold"] > 0:
        axis.axvline(facts["threshold"], color="#555555", linewidth=1, linestyle=(0, (2, 2)), zorder=1)
        note = f" success: <= {facts['threshold']:.4g}"
        axis.text(facts["threshold"], 1.015, note, transform=axis.get_xaxis_transform(), fontsize=7.5, color="#555555")
    drawn = numbers[numbers["plateau"].notna()]
    if drawn.empty:
        style.empty(axis)
    groups = [curve for _, curve in drawn.groupby("order", sort=True)]
    ink = max(0.04, 0.3 / max(1, len(groups)))  # many bands on top of each other must not hide the curves
    curves = [(curve, _curve(axis, curve, left=left, right=right, ink=ink)) for curve in groups]
    _labels(axis, curves)


def _curve(axis: Axes, curve: pd.DataFrame, *, left: float, right: float, ink: float) -> float:
    """Draw one method's steps and band between the limits, and return where it leaves the panel."""
    order = int(curve["order"].iloc[0])
    tau = curve["tau"].to_numpy(dtype=np.float64)
    inside = (tau > left) & (tau < right)
    steps = curve["fraction"].to_numpy(dtype=np.float64)
    at_left = steps[tau <= left][-1] if (tau <= left).any() else 0.0
    held = np.concatenate([[at_left], steps[inside]])
    fraction = np.append(held, held[-1])
    x = np.concatenate([[left], tau[inside], [right]])
    half, shade = float(curve["half_width"].iloc[0]), style.colour(order)
    low, high = np.clip(fraction - half, 0.0, 1.0), np.clip(fraction + half, 0.0, 1.0)
    axis.fill_between(x, low, high, step="post", color=shade, alpha=ink, linewidth=0)
    axis.step(x, fraction, where="post", color=shade, linestyle=style.line(order), linewidth=1.6)
    return float(fraction[-1])


def _labels(axis: Axes, curves: list[tuple[pd.DataFrame, float]]) -> None:
    """Name each curve at its right end, with the share of trials that finished."""
    ends = sorted(((end, curve) for curve, end in curves), key=lambda item: (item[0], -item[1]["order"].iloc[0]))
    heights = spread([end for end, _ in ends], LABEL)
    for height, (end, curve) in zip(heights, ends, strict=True):
        shade = style.colour(int(curve["order"].iloc[0]))
        text = f"{curve['method'].iloc[0]}  {percent(curve['plateau'].iloc[0])} finish"
        axis.annotate(
            style.plain(text),
            xy=(1.0, end),
            xycoords=axis.get_yaxis_transform(),
            xytext=(1.05, height),
            textcoords=axis.get_yaxis_transform(),
            va="center",
            fontsize=8,
            color=shade,
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": shade, "linewidth": 0.7, "shrinkA": 1, "shrinkB": 0},
        )


def spread(heights: list[float], distance: float) -> list[float]:
    """Move ascending heights apart until neighbours are at least a distance apart, as little as that takes.

    Labels that touch form a block, which keeps the mean of the places that its labels would like.
    """
    blocks: list[list[float]] = []
    for height in heights:
        blocks.append([height])
        while len(blocks) > 1 and _bottom(blocks[-1], distance) < _top(blocks[-2], distance) + distance:
            blocks[-2:] = [blocks[-2] + blocks[-1]]
    return [_bottom(block, distance) + step * distance for block in blocks for step in range(len(block))]


def _bottom(block: list[float], distance: float) -> float:
    return sum(block) / len(block) - distance * (len(block) - 1) / 2


def _top(block: list[float], distance: float) -> float:
    return sum(block) / len(block) + distance * (len(block) - 1) / 2


def _limits(numbers: pd.DataFrame) -> tuple[float, float]:
    """From below the anchors to above them, further where curves still rise, but never by more than two decades."""
    facts = numbers.iloc[0]
    low, high = float(facts["anchor_low"]), float(facts["anchor_high"])
    tau = numbers["tau"].to_numpy(dtype=np.float64)
    seen = tau[np.isfinite(tau) & (tau > 0)]
    if facts["threshold"] > 0:
        seen = np.append(seen, float(facts["threshold"]))
    least, most = (float(seen.min()), float(seen.max())) if len(seen) else (low, high)
    return max(low / 100, min(low, least)) / 1.5, min(high * 100, max(high, most)) * 1.5

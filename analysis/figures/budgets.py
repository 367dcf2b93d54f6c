"""Budget curves: what trying so many configurations gets, as a chance of success and as the best score."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis import budgets, profiles
from analysis.figures import style
from analysis.figures.curves import spread
from analysis.intervals import LEVEL
from analysis.outcomes import sample
from analysis.results import Results
from analysis.words import number, share

HEIGHT = 3.4
LABEL = 0.06
"""Least distance of two labels, as a fraction of a panel's height."""

CURVES = ("score", "low", "high", "metric", "success", "median", "median_low", "median_high")
COLUMNS = (
    *("task", "method", "order", "size", *CURVES, "points", "interval", "needed"),
    *("name", "threshold", "anchor_low", "anchor_high"),
)


def budget_numbers(results: Results, *, rng: np.random.Generator) -> pd.DataFrame:
    """One row per task, method and budget up to a quarter of the points, see `budgets.BudgetCurve`.

    `needed` is the number of configurations after which at least one succeeds with 95 %, `name` the metric. Without
    rows where a sampler chose configurations by their results: the best of such a sequence is no best of the prior.
    """
    if results.adaptive is not None:
        return pd.DataFrame(columns=list(COLUMNS))
    frames = [
        _rows(results, task, method, outcomes[outcomes["method"] == method], rng)
        for task in results.tasks
        for outcomes in [results.outcomes(task)]
        for method in results.methods_of(task)
    ]
    frames = [frame for frame in frames if len(frame)]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=list(COLUMNS))


def _rows(results: Results, task: str, method: str, rows: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    facts, trials = results.facts(task), sample(rows)
    found = budgets.budget_curve(trials, facts, rng)
    return pd.DataFrame(
        {
            "task": task,
            "method": method,
            "order": results.methods.index(method),
            "size": found.sizes,
            **{name: getattr(found, name) for name in CURVES},
            "points": found.n,
            "interval": found.method,
            "needed": budgets.needed(profiles.success(trials, facts.threshold).value),
            "name": facts.metric,
            "threshold": facts.threshold,
            "anchor_low": facts.anchor_low,
            "anchor_high": facts.anchor_high,
        },
        columns=list(COLUMNS),
    )


def draw_budgets(numbers: pd.DataFrame) -> Figure:
    """A row per task: left the chance that one of so many configurations succeeds, right the expected best score."""
    tasks = style.task_order(numbers)
    figure, axes = style.panels(2 * len(tasks), columns=2, width=4.9, heights=[HEIGHT] * len(tasks) or [1.0])
    for position, task in enumerate(tasks):
        here = numbers[numbers["task"] == task]
        left, right = axes[2 * position : 2 * position + 2]
        left.set_title(style.plain(task))
        _success(left, here)
        _score(right, here)
        for axis in (left, right):
            _dress(axis, here)
    return figure


def _success(axis: Axes, numbers: pd.DataFrame) -> None:
    facts = numbers.iloc[0]
    axis.axhline(LEVEL, color="#555555", linewidth=1, linestyle=(0, (2, 2)), zorder=1)
    for order, curve in numbers.groupby("order", sort=True):
        _line(axis, curve["size"], curve["success"], int(str(order)))
    rule = f"{facts['name']} <= {facts['threshold']:.4g}"
    if numbers["success"].max() == 0:
        style.no_success(axis, rule)
    axis.set_ylabel("chance that one succeeds")
    axis.set_xlabel(f"configurations tried (success: {style.plain(rule)})")


def _score(axis: Axes, numbers: pd.DataFrame) -> None:
    facts = numbers.iloc[0]
    groups = [(int(str(order)), curve) for order, curve in numbers.groupby("order", sort=True)]
    ink = max(0.05, 0.3 / max(1, len(groups)))
    for order, curve in groups:
        _line(axis, curve["size"], curve["score"], order)
        size, low, high = (curve[name].to_numpy(dtype=np.float64) for name in ("size", "low", "high"))
        axis.fill_between(size, low, high, color=style.colour(order), alpha=ink, linewidth=0)
    _labels(axis, groups)
    ticks = np.linspace(0, 1, 5)
    metric = facts["anchor_high"] * (facts["anchor_low"] / facts["anchor_high"]) ** ticks
    axis.set_yticks(ticks, [f"{number(value)}  =  {share(tick)}" for tick, value in zip(ticks, metric, strict=True)])
    axis.set_ylabel("expected best: metric = score")
    axis.set_xlabel(f"configurations tried (metric: {style.plain(facts['name'])})")


def _line(axis: Axes, sizes: pd.Series, values: pd.Series, order: int) -> None:
    look = {"color": style.colour(order), "linestyle": style.line(order), "marker": style.marker(order)}
    axis.plot(sizes, values, linewidth=1.5, markersize=3.2, **look)  # type: ignore[arg-type]  # the stubs want one type


def _labels(axis: Axes, groups: list[tuple[int, pd.DataFrame]]) -> None:
    """Name each curve right of its end."""
    ends = sorted((float(curve["score"].iloc[-1]), -order, str(curve["method"].iloc[0])) for order, curve in groups)
    right = float(axis.get_xlim()[1])
    heights = spread([end for end, _, _ in ends], LABEL)
    for height, (end, negative, name) in zip(heights, ends, strict=True):
        shade = style.colour(-negative)
        axis.annotate(
            style.name(name),
            xy=(1.0, end),
            xycoords=axis.get_yaxis_transform(),
            xytext=(1.06, height),
            textcoords=axis.get_yaxis_transform(),
            va="center",
            fontsize=8,
            color=shade,
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": shade, "linewidth": 0.7, "relpos": (0, 0.5)},
        )
    axis.set_xlim(right=right)


def _dress(axis: Axes, numbers: pd.DataFrame) -> None:
    most = int(numbers["size"].max())
    powers = [2**power for power in range(most.bit_length())]
    axis.set_xscale("log", base=2)
    axis.set_xlim(0.88, max(most, 2) * 1.12)
    axis.set_xticks(powers, [str(power) for power in powers])
    axis.set_ylim(-0.015, 1.015)

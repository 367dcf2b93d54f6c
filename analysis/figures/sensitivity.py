"""Success along one hyperparameter at a time: a panel each, or one per n_critic, a line per method."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.answers import without
from analysis.axes import axes_of, axis_named
from analysis.figures import style
from analysis.figures.tiles import logarithmic, tiles, title
from analysis.results import Results
from analysis.sensitivity import HALF, along, sensitivity

WIDTH, HEIGHT = 3.0, 2.35
RATE, CRITIC = "lr", "n_critic"
ENDS = ("success_low", "success_high")
BASIN = ("basin", "basin_low", "basin_high")
COLUMNS = (
    *("task", "method", "order", "n_critic", "axis", "log", "bin", "label", "low", "high", "centre"),
    *("success", "success_low", "success_high", "points", "undecided", "visited", "rule"),
)


def sensitivity_numbers(results: Results) -> pd.DataFrame:
    """One row per task, method, varied hyperparameter and bin: success there with its interval, and the basin.

    The columns of `sensitivity`, and in `rule` what success is. Where a sampler that looked at results chose the
    configurations, there are no intervals and no basin: bins of theirs are no slices of a prior.
    """
    found = without(sensitivity(results), (*ENDS, *BASIN), results)
    return found.assign(rule=found["task"].map({task: _rule(results, task) for task in results.tasks}))


def _rule(results: Results, task: str) -> str:
    facts = results.facts(task)
    return f"{facts.metric} <= {facts.threshold:.4g}"


def critic_numbers(results: Results) -> pd.DataFrame:
    """One row per task, n_critic, method and bin of the learning rate; no rows where n_critic does not vary."""
    frames = [
        frame
        for task in results.tasks
        for outcomes in [results.outcomes(task)]
        for method in results.methods_of(task)
        for frame in _by_critic(results, task, method, outcomes[outcomes["method"] == method])
    ]
    if not frames:
        return pd.DataFrame(columns=list(COLUMNS))
    found = pd.concat(frames, ignore_index=True)
    ranks = {task: rank for rank, task in enumerate(results.tasks)}
    order = found.assign(rank=found["task"].map(ranks)).sort_values(["rank", "n_critic", "order", "bin"]).index
    return without(found.loc[order, list(COLUMNS)].reset_index(drop=True), ENDS, results)


def _by_critic(results: Results, task: str, method: str, rows: pd.DataFrame) -> list[pd.DataFrame]:
    axes = axes_of(results, task, method)
    rate, critic = axis_named(axes, RATE), axis_named(axes, CRITIC)
    if rate is None or critic is None:
        return []
    threshold, order = results.facts(task).threshold, results.methods.index(method)
    names: dict[str, Any] = {"task": task, "method": method, "order": order, "axis": RATE, "log": rate.log}
    values = sorted(rows[CRITIC].dropna().unique())
    return [
        along(rows[rows[CRITIC] == value], rate, threshold).assign(
            **names, visited=results.adaptive, n_critic=int(value), rule=_rule(results, task)
        )
        for value in values
    ]


def draw_sensitivity(numbers: pd.DataFrame) -> Figure:
    """A panel per task and hyperparameter; where a line is high, a method survives that slice of the prior."""
    return _draw(numbers, "axis", str)


def draw_critic(numbers: pd.DataFrame) -> Figure:
    """A panel per task and value of n_critic: success against the learning rate."""
    return _draw(numbers, "n_critic", lambda name: f"n_critic {name}")


def _draw(numbers: pd.DataFrame, split: str, named: Callable[[object], str]) -> Figure:
    cells = list(numbers[["task", split]].drop_duplicates().itertuples(index=False, name=None))
    methods = numbers[["method", "order"]].drop_duplicates().sort_values("order")
    handles = [
        Line2D([], [], **_look(int(order)), label=style.name(method))
        for method, order in methods.itertuples(index=False, name=None)
    ]
    figure, panels, columns = tiles(len(cells), width=WIDTH, height=HEIGHT, handles=handles)
    for place, (panel, (task, name)) in enumerate(zip(panels, cells, strict=True)):
        here = numbers[(numbers["task"] == task) & (numbers[split] == name)]
        _panel(panel, here, first=place % columns == 0)
        panel.set_title(title(numbers, task, named(name)), fontsize=9)
        if split != "axis":
            panel.set_xlabel(style.plain(here["axis"].iloc[0]))
    return figure


def _look(order: int) -> dict[str, Any]:
    return {
        "color": style.colour(order),
        "linestyle": style.line(order),
        "marker": style.marker(order),
        "markersize": 3.5,
        "linewidth": 1.4,
    }


def _panel(panel: Axes, numbers: pd.DataFrame, *, first: bool) -> None:
    levels = bool((numbers["low"].isna() | (numbers["low"] == numbers["high"])).all())
    groups = [group for _, group in numbers.groupby("order", sort=True)]
    ink = max(0.04, 0.3 / len(groups))
    names = list(dict.fromkeys(numbers.sort_values(["centre", "bin"])["label"])) if levels else []
    for place, group in enumerate(groups):
        if levels:
            _levels(panel, group, names, shift=0.5 * ((place + 0.5) / len(groups) - 0.5))
        else:
            _line(panel, group, ink)
    if levels:
        long = max(map(len, names)) * len(names) > 24
        panel.set_xticks(range(len(names)), [style.plain(name) for name in names], rotation=30 if long else 0)
        panel.set_xlim(-0.5, len(names) - 0.5)
    else:
        if bool(numbers["log"].all()):
            logarithmic(panel, side="x")
        panel.set_xlim(float(numbers["low"].min()), float(numbers["high"].max()))
    panel.axhline(HALF, color="#777777", linewidth=0.8, linestyle=(0, (2, 2)), zorder=1)
    panel.set_ylim(-0.03, 1.03)
    if first:
        visited = numbers["visited"].dropna()
        among = "success fraction" if visited.empty else f"success among what {visited.iloc[0]} visited"
        panel.set_ylabel(style.plain(among))
    if numbers["success"].isna().all():
        style.empty(panel)
    elif numbers["success"].max() == 0:
        style.no_success(panel, numbers["rule"].iloc[0], at=(0.5, 0.72))


def _line(panel: Axes, group: pd.DataFrame, ink: float) -> None:
    known = group[group["points"] > 0]
    order = int(group["order"].iloc[0])
    x, y, low, high = (
        known[name].to_numpy(np.float64) for name in ("centre", "success", "success_low", "success_high")
    )
    panel.fill_between(x, low, high, color=style.colour(order), alpha=ink, linewidth=0)
    panel.plot(x, y, **_look(order))


def _levels(panel: Axes, group: pd.DataFrame, names: list[str], *, shift: float) -> None:
    known = group[group["points"] > 0]
    order = int(group["order"].iloc[0])
    x = np.array([names.index(label) for label in known["label"]]) + shift
    y, low, high = (known[name].to_numpy(np.float64) for name in ("success", "success_low", "success_high"))
    panel.vlines(x, low, high, color=style.colour(order), linewidth=1.4)
    panel.plot(x, y, **(_look(order) | {"linestyle": ""}))

"""How trials of each method went: quartiles over training, and how often a divergence rose on the way."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis import horizon, trajectories
from analysis.figures import strips, style
from analysis.horizon import Curves
from analysis.outcomes import FloatArray, code
from analysis.results import Results
from analysis.words import percent
from study import schema

QUARTILES = {"low": 0.25, "value": 0.5, "high": 0.75}
RUNS = 5
"""Single trials that are drawn of each method: from the best to the worst, at even ranks."""

MOST = 200
"""Most evaluations of a curve that are kept, at even distances."""

DIVERGENCES = ("distance_sq", "fd_", "fid_", "jsd", "kid_", "kl_", "mmd", "reverse_kl", "sliced", "w1", "w2")
"""Beginnings of the names of metrics that are divergences, of which one is shown beside the primary."""

NORMS = ("grad_norm_g", "grad_norm_d")
PANELS = {"primary": 1.55, "divergence": 1.15, "norm": 1.15}
"""Kind of panel to its height in inches, in their order."""

STRIP = 1.75
"""Width of a strip, inches."""

DECADES = 8
"""Most decades that a panel spans."""

COLUMNS = (
    *("task", "method", "order", "panel", "name", "series", "trial_id", "unit", "steps", "value", "low", "high"),
    *("threshold", "trials", "rising", "rising_low", "rising_high", "raw"),
)


def trajectory_numbers(results: Results) -> pd.DataFrame:
    """One row per task, method, quantity, series and evaluation.

    The series "median" has the quartiles of the decided trials in `low`, `value` and `high`, a failed trial counting as
    infinite from its failure on; the others are single trials. `rising` is the mean share of evaluation intervals,
    before a first success, in which the primary metric rises by more than noise, `raw` the share in which it rises at
    all: `trajectories.rising_shares`. None for a task without a history.
    """
    frames = [frame for task in results.tasks for frame in _of_task(results, task)]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=list(COLUMNS))


def _of_task(results: Results, task: str) -> list[pd.DataFrame]:
    second = _second(results, task)
    names = [*NORMS, *([second] if second else [])]
    found = horizon.curves(results, task, *names)
    if not found.counts.any():
        return []
    table = trajectories.rising_shares(results, task)
    rising = table[table["group"] == "all"].set_index("method")
    metric = results.facts(task).metric
    panels = {("primary", metric): found.values} | {("norm", name): found.others[name] for name in NORMS}
    if second:
        panels["divergence", second] = found.others[second]
    shown = {key: values for key, values in panels.items() if not np.isnan(values).all()}
    frames = []
    for method in results.methods_of(task):
        frame = _of_method(found, method, shown)
        facts: dict[str, Any] = {
            "task": task,
            "method": method,
            "order": results.methods.index(method),
            "unit": found.unit,
        }
        of = rising.loc[method]
        low, high = (math.nan if results.adaptive else of[end] for end in ("low", "high"))
        shares = {"rising": of["value"], "rising_low": low, "rising_high": high, "raw": of["raw"]}
        threshold = results.facts(task).threshold
        frames.append(frame.assign(**facts, **shares, threshold=threshold).reindex(columns=list(COLUMNS)))
    return [frame for frame in frames if len(frame)]


def _second(results: Results, task: str) -> str | None:
    """Another divergence that the task measured, None without one."""
    fixed = {column.name for column in schema.TABLES["trials"]} | set(results.plan.columns)
    rows = results.trials[results.trials["trial_id"].isin(results.plan.loc[results.plan["task"] == task, "trial_id"])]
    others = [str(name) for name in rows.columns if name not in fixed and name != results.facts(task).metric]
    return next((name for name in others if name.startswith(DIVERGENCES) and rows[name].notna().any()), None)


def _of_method(found: Curves, method: str, panels: Mapping[tuple[str, str], FloatArray]) -> pd.DataFrame:
    coded = code(found.rows["status"].to_numpy(dtype=object), found.rows["primary"].to_numpy(dtype=np.float64))
    usable = ~np.isnan(coded) & ((found.counts > 0) | np.isinf(coded))
    here = np.flatnonzero((found.rows["method"] == method).to_numpy() & usable)
    if not len(here) or not found.counts[here].any():
        return pd.DataFrame()
    kept = np.unique(np.linspace(0, found.counts[here].max() - 1, MOST).round().astype(np.int64))
    steps = np.nanmedian(found.steps[here][:, kept], axis=0)
    identities = found.rows["trial_id"].to_numpy(dtype=object)
    order = here[np.lexsort((identities[here].astype(str), coded[here]))]
    chosen = order[np.unique(np.linspace(0, len(order) - 1, RUNS).round().astype(np.int64))]
    frames = []
    for (panel, name), values in panels.items():
        lost = np.isnan(values[here][:, kept]) & np.isinf(coded[here])[:, None]
        curves = _quartiles(np.where(lost, np.inf, values[here][:, kept]))
        about: dict[str, Any] = {"panel": panel, "name": name, "trials": len(here)}
        frames.append(pd.DataFrame({"steps": steps, **curves}).assign(series="median", **about))
        for rank, trial in enumerate(chosen, start=1):
            run = pd.DataFrame({"steps": found.steps[trial, kept], "value": values[trial, kept]}).dropna()
            frames.append(run.assign(series=f"run {rank}", trial_id=identities[trial], **about))
    return pd.concat(frames, ignore_index=True)


def _quartiles(values: FloatArray) -> dict[str, FloatArray]:
    """Quartiles of each column, the smallest value with so much at or below it; NaN is left out."""
    ordered, known = np.sort(values, axis=0), np.sum(~np.isnan(values), axis=0)
    places = {
        name: np.maximum(np.ceil(level * known - 1e-9).astype(np.int64) - 1, 0) for name, level in QUARTILES.items()
    }
    return {name: np.where(known > 0, ordered[place, np.arange(len(place))], np.nan) for name, place in places.items()}


def draw_trajectories(numbers: pd.DataFrame) -> Figure:
    """A strip per method: the primary metric above, another divergence and the norms of gradients below."""
    lines = strips.lines_of(numbers)
    across = strips.width_of(lines)
    of_task = {task: [p for p in PANELS if p in set(rows["panel"])] for task, rows in numbers.groupby("task")}
    rows = [(line, panel) for line in lines for panel in of_task[line.task]]
    heights = [PANELS[panel] + (0.65 if panel == "primary" else 0.0) for _, panel in rows] or [1.0]
    figure, axes = style.panels(len(rows), columns=1, width=max(7.6, STRIP * across + 0.9), heights=heights)
    for axis, (line, panel) in zip(axes, rows, strict=True):
        here = numbers[(numbers["task"] == line.task) & (numbers["panel"] == panel)]
        _panel(axis, here, line, across, last=panel == of_task[line.task][-1])
        if panel == "primary" and line.first:
            axis.set_title(style.plain(line.task), pad=32)
    return figure


def _panel(axis: Axes, numbers: pd.DataFrame, line: strips.Line, across: int, *, last: bool) -> None:
    strips.dress(axis, len(line.methods), across)
    low, high = _limits(numbers)
    strips.log_scale(axis, low, high)
    budget = strips.Range(0.0, float(numbers["steps"].max()), log=False)
    primary = numbers["panel"].iloc[0] == "primary"
    for position, (order, method) in enumerate(line.methods):
        rows = numbers[numbers["order"] == order]
        for name, curve in rows.groupby("name", sort=False):
            _curves(axis, curve, strips.start_of(position), budget, (low, high), order, dashed=name == NORMS[1])
        if primary and len(rows):
            facts = rows.iloc[0]
            strips.title(axis, position, method, second=_rises(facts))
    if primary and float(numbers["threshold"].iloc[0]) > 0:
        axis.axhline(
            float(numbers["threshold"].iloc[0]), color="#555555", linewidth=0.9, linestyle=(0, (2, 2)), zorder=1
        )
    if numbers["panel"].iloc[0] == "norm":
        axis.set_ylabel("gradient norm\n— G   - - D\nthin: trials' G", fontsize=7)
    else:
        axis.set_ylabel(_wrapped(str(numbers["name"].iloc[0])), fontsize=8)
    if last:
        strips.mark(axis, len(line.methods), budget)
        axis.set_xlabel(str(numbers["unit"].iloc[0]).replace("_", " "), labelpad=1)


def _rises(facts: pd.Series) -> str:
    if not math.isfinite(facts["rising"]):
        return "no interval before success"
    return f"rising steps: {percent(facts['rising'])} (raw {percent(facts['raw'])})"


def _wrapped(name: str) -> str:
    """A long name in lines of about a panel's height."""
    words, lines = name.split("_"), [""]
    for word in words:
        if lines[-1] and len(lines[-1]) + len(word) > 14:
            lines.append("")
        lines[-1] += f"{word}_"
    return "\n".join(map(style.plain, lines)).rstrip("_")


def _curves(
    axis: Axes,
    rows: pd.DataFrame,
    start: float,
    budget: strips.Range,
    ends: tuple[float, float],
    order: int,
    *,
    dashed: bool,
) -> None:
    """Draw one quantity of one method into its strip: runs thin, the median thick with its quartiles."""
    shade = "#444444" if dashed else style.colour(order)
    for series, curve in rows.groupby("series", sort=True):
        x = start + budget.place(curve["steps"])
        if series != "median":
            if not dashed:
                _run(axis, x, curve["value"].to_numpy(dtype=np.float64), ends)
            continue
        value, low, high = (np.clip(curve[name].to_numpy(dtype=np.float64), *ends) for name in ("value", "low", "high"))
        axis.fill_between(x, low, high, color=shade, alpha=0.12 if dashed else 0.28, linewidth=0, zorder=1)
        axis.plot(x, value, color=shade, linewidth=1.7, linestyle="--" if dashed else "-", zorder=3)


def _run(axis: Axes, x: FloatArray, value: FloatArray, ends: tuple[float, float]) -> None:
    """Draw a single trial; a small triangle at the frame is where it goes beyond, until it comes back."""
    far = ends[0] / 1e6, ends[1] * 1e6
    axis.plot(x, np.clip(value, *far), color="#888888", linewidth=0.5, alpha=0.7, zorder=2)
    for edge, beyond, marker in ((ends[0], value < ends[0], "v"), (ends[1], value > ends[1], "^")):
        leaves = beyond & ~np.concatenate([[False], beyond[:-1]])
        if leaves.any():
            at = np.full(int(leaves.sum()), edge)
            axis.scatter(x[leaves], at, marker=marker, s=8, linewidths=0, color="#666666", clip_on=False, zorder=4)


def _limits(numbers: pd.DataFrame) -> tuple[float, float]:
    """Ends that hold the medians and quartiles, but not more decades than can be read."""
    of = numbers[numbers["series"] == "median"]
    values = np.concatenate([of[name].to_numpy(dtype=np.float64) for name in QUARTILES])
    if (numbers["panel"] == "primary").any():
        values = np.append(values, numbers["threshold"].to_numpy(dtype=np.float64)[:1])
    seen = values[np.isfinite(values) & (values > 0)]
    if not len(seen):
        return 0.1, 10.0
    low, high = float(seen.min()), float(seen.max())
    middle = float(np.median(seen))
    low, high = max(low, middle / 10 ** (DECADES / 2)), min(high, middle * 10 ** (DECADES / 2))
    return low / 1.6, high * 1.6

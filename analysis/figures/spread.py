"""What spreads a method's results: its configurations or the seed, as two boxes and a lane for failures."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures import style
from analysis.outcomes import FloatArray, code
from analysis.results import Results, TaskFacts
from analysis.summary import stated
from analysis.variance import components
from analysis.words import percent, share

ROW = 0.46
LANE = 0.1
"""Width of the failures' lane, as a fraction of the logarithmic axis left of it."""

KINDS = ("configurations", "seeds")
QUANTILES = {"low": 0.05, "lower": 0.25, "middle": 0.5, "upper": 0.75, "high": 0.95}
"""Ends of the whiskers and of the box, and the line in it."""

COLUMNS = (
    *("task", "method", "order", "kind", *QUANTILES, "count", "failed", "configurations"),
    *("variance_between", "variance_seed", "icc", "icc_low", "icc_high", "interval"),
    *("metric", "threshold", "anchor_low", "anchor_high"),
)


def spread_numbers(results: Results, *, rng: np.random.Generator) -> pd.DataFrame:
    """Two rows per task and method, "configurations" and "seeds", where configurations have several seeds.

    A configuration stands for itself with the median over its decided seeds; half of them failed is failed, +inf,
    and stays in the quantiles. Seeds are those of configurations without a failed one: each as its ratio to its
    configuration's geometric mean, widened by `sqrt(k / (k - 1))` for the mean being of the same k seeds, and placed at
    the middle configuration that did not fail. Quantiles are in units of the metric, which is held at a hundredth of
    the lower anchor from below. Where a sampler that looked at results chose the configurations, their share in the
    variance has no interval. `failed` counts configurations that failed, and configurations that failed with some
    of their seeds only. The variances are those of the score, see `analysis.variance`.
    """
    rows = [
        row
        for task in results.tasks
        for outcomes in [results.outcomes(task)]
        for method in results.methods_of(task)
        for row in _rows(results, task, method, outcomes[outcomes["method"] == method], rng)
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _rows(
    results: Results, task: str, method: str, outcomes: pd.DataFrame, rng: np.random.Generator
) -> list[dict[str, object]]:
    facts = results.facts(task)
    found = components(outcomes, facts, rng=rng)
    if found is None:
        return []
    configs, seeds, mixed = _spreads(outcomes, facts)
    icc = stated(found.icc, results.adaptive)
    failed = int(np.isinf(configs).sum())
    same = {
        "task": task,
        "method": method,
        "order": results.methods.index(method),
        "configurations": len(configs),
        "variance_between": found.between.value,
        "variance_seed": found.seed.value,
        "icc": icc.value,
        "icc_low": icc.low,
        "icc_high": icc.high,
        "interval": icc.method,
        "metric": facts.metric,
        "threshold": facts.threshold,
        "anchor_low": facts.anchor_low,
        "anchor_high": facts.anchor_high,
    }
    return [
        same | {"kind": kind, "count": len(values), "failed": count} | _quantiles(values)
        for kind, values, count in zip(KINDS, (configs, seeds), (failed, mixed), strict=True)
    ]


def _quantiles(values: FloatArray) -> dict[str, float]:
    if len(values) == 0:
        return dict.fromkeys(QUANTILES, float("nan"))
    found = np.quantile(values, list(QUANTILES.values()), method="inverted_cdf")
    return dict(zip(QUANTILES, (float(value) for value in found), strict=True))


def _spreads(outcomes: pd.DataFrame, facts: TaskFacts) -> tuple[FloatArray, FloatArray, int]:
    """Each configuration's median, the placed seeds, and the number of configurations that failed with some seeds."""
    values = code(outcomes["status"].to_numpy(dtype=object), outcomes["primary"].to_numpy(dtype=np.float64))
    known = ~np.isnan(values)
    config = pd.factorize(outcomes["config"].to_numpy()[known], sort=True)[0]
    logs = np.log(np.maximum(values[known], facts.anchor_low / 100))
    order = np.lexsort((logs, config))
    config, logs = config[order], logs[order]
    held = np.bincount(config)
    first = np.cumsum(held) - held
    middle = (logs[first + (held - 1) // 2] + logs[first + held // 2]) / 2
    lost = np.bincount(config, weights=np.isinf(logs)).astype(np.int64)
    whole = (lost == 0) & (held >= 2)
    finite = np.where(np.isinf(logs), 0.0, logs)
    away = (logs - (np.bincount(config, weights=finite) / held)[config])[whole[config]]
    widened = away * np.sqrt(held / np.maximum(held - 1, 1))[config][whole[config]]
    place = np.median(middle[np.isfinite(middle)]) if np.isfinite(middle).any() else np.nan
    return np.exp(middle), np.exp(place + widened), int(np.sum((lost > 0) & (lost < held)))


def draw_spread(numbers: pd.DataFrame) -> Figure:
    """Two boxes per method, a panel per task: filled across configurations, hatched across seeds of one of them."""
    tasks = style.task_order(numbers)
    heights = [ROW * numbers.loc[numbers["task"] == task, "method"].nunique() + 1.2 for task in tasks] or [1.0]
    figure, axes = style.panels(len(tasks), columns=1, width=7.6, heights=heights)
    for axis, task in zip(axes, tasks, strict=True):
        _panel(axis, numbers[numbers["task"] == task])
        axis.set_title(style.plain(task), pad=14)
    return figure


def _panel(axis: Axes, numbers: pd.DataFrame) -> None:
    facts = numbers.iloc[0]
    left, right = _limits(numbers)
    edge = right * (right / left) ** LANE
    axis.set_xscale("log")
    axis.set_xlim(left, edge)
    axis.axvspan(right, edge, color="#f0f0f0", zorder=0)
    axis.text((right * edge) ** 0.5, 1.02, "failed", transform=axis.get_xaxis_transform(), ha="center", fontsize=7.5)
    if left < facts["threshold"] < right:
        axis.axvline(facts["threshold"], color="#555555", linewidth=1, linestyle=(0, (2, 2)), zorder=1)
        note = f"success: <= {facts['threshold']:.4g}"
        axis.text(facts["threshold"], 1.02, note, transform=axis.get_xaxis_transform(), fontsize=7.5, color="#555555")
    methods = [str(name) for name in numbers["method"].unique()]
    for height, method in enumerate(methods):
        rows = numbers[numbers["method"] == method]
        for step, (_, row) in zip((-0.19, 0.19), rows.iterrows(), strict=True):
            _box(axis, row, height + step, left=left, right=right, edge=edge)
        row = rows.iloc[0]
        ends = "" if np.isnan(row["icc_low"]) else f" [{share(row['icc_low'])}, {share(row['icc_high'])}]"
        note = f"{share(row['icc'])}{ends}"
        axis.text(1.03, height, note, transform=axis.get_yaxis_transform(), va="center", fontsize=8)
    axis.text(1.03, 1.02, "share of configurations in the variance", transform=axis.transAxes, fontsize=7.5)
    axis.set_yticks(range(len(methods)), [style.name(name) for name in methods])
    axis.set_ylim(len(methods) - 0.4, -0.6)
    axis.set_xlabel(
        f"{style.plain(facts['metric'])}: filled across configurations, hatched across seeds of one\n"
        "failed: configurations that lost half of their seeds (filled), some but not all (hatched)"
    )
    axis.grid(visible=False, axis="y")


def _box(axis: Axes, row: pd.Series, height: float, *, left: float, right: float, edge: float) -> None:
    """One box with its whiskers, which enter the lane where they reach failures, and its share of failures there."""
    shade, across = style.colour(int(row["order"])), row["kind"] == KINDS[0]
    lane = (right * edge) ** 0.5
    whisker, lower, middle, upper, top = (
        lane if np.isinf(row[name]) else float(np.clip(row[name], left, right)) for name in QUANTILES
    )
    if row["count"]:
        axis.plot([whisker, top], [height, height], color=shade, linewidth=1.2, zorder=2)
        axis.barh(
            height,
            upper - lower,
            left=lower,
            height=0.3,
            facecolor=shade if across else "white",
            edgecolor=shade,
            hatch=None if across else "/////",
            zorder=3,
        )
        line = "white" if across else "#222222"
        axis.plot([middle, middle], [height - 0.15, height + 0.15], color=line, linewidth=1.8, zorder=4)
    box = {"facecolor": "white", "edgecolor": "none", "pad": 0.6, "alpha": 0.85}
    text = percent(row["failed"] / row["configurations"])
    axis.text(lane, height, text, ha="center", va="center", fontsize=7, bbox=box, zorder=5)


def _limits(numbers: pd.DataFrame) -> tuple[float, float]:
    """From below the least to above the greatest finite quantile, and the threshold with them."""
    found = numbers[list(QUANTILES)].to_numpy(dtype=np.float64).ravel()
    seen = np.append(found[np.isfinite(found) & (found > 0)], numbers[["threshold"]].to_numpy(dtype=np.float64).max())
    seen = seen[seen > 0] if (seen > 0).any() else numbers[["anchor_low", "anchor_high"]].iloc[0].to_numpy()
    return float(seen.min()) / 1.4, float(seen.max()) * 1.4

"""How much the choice of a trial's checkpoint matters: the last evaluation, the median of the tail, the best one."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis import profiles
from analysis.figures import style
from analysis.outcomes import Sample, code, point_means
from analysis.results import Results
from analysis.words import share

ROW = 0.27

RULES = {"primary_last": ("last", "<", "white"), "primary": ("tail", "o", None), "primary_best": ("best", "D", "white")}
"""Column of the trials to the rule's name, its marker and what fills it (None: the method's colour)."""

COLUMNS = (
    *("task", "method", "order", "rule", "success", "log_auc", "median", "trials", "points"),
    *("metric", "threshold", "anchor_low", "anchor_high"),
)


def checkpoint_numbers(results: Results) -> pd.DataFrame:
    """One row per task, method and rule: success fraction, log-AUC and median if that value were the trial's result.

    Over the trials that have all three values, failures counting as failures under each. Empty where the trials do not
    have the columns, as in tables of other programs.
    """
    if not set(RULES) <= set(results.trials.columns):
        return pd.DataFrame(columns=list(COLUMNS))
    rows = [
        row
        for task in results.tasks
        for outcomes in [results.outcomes(task)]
        for method in results.methods_of(task)
        for row in _rows(results, task, method, outcomes[outcomes["method"] == method])
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _rows(results: Results, task: str, method: str, outcomes: pd.DataFrame) -> list[dict[str, object]]:
    status = outcomes["status"].to_numpy(dtype=object)
    values = {column: code(status, outcomes[column].to_numpy(dtype=np.float64)) for column in RULES}
    known = ~np.isnan(np.stack(list(values.values()))).any(axis=0)
    if not known.any():
        return []
    facts = results.facts(task)
    replicates, points = (outcomes[name].to_numpy(dtype=np.int64)[known] for name in ("replicate", "point"))
    rows: list[dict[str, object]] = []
    for column, (rule, _, _) in RULES.items():
        trials = Sample(values[column][known], replicates, points)
        scores = profiles.utility(trials.values, low=facts.anchor_low, high=facts.anchor_high)
        rows.append(
            {
                "task": task,
                "method": method,
                "order": results.methods.index(method),
                "rule": rule,
                "success": float(point_means(trials.values <= facts.threshold, trials).values.mean()),
                "log_auc": float(point_means(scores, trials).values.mean()),
                "median": profiles.quantile(trials, 0.5),
                "trials": int(known.sum()),
                "points": len(trials.clusters()[1]),
                "metric": facts.metric,
                "threshold": facts.threshold,
                "anchor_low": facts.anchor_low,
                "anchor_high": facts.anchor_high,
            }
        )
    return rows


def draw_checkpoints(numbers: pd.DataFrame) -> Figure:
    """A row per method with a mark for each rule, a row of panels per task: success fraction and log-AUC."""
    tasks = style.task_order(numbers)
    heights = [ROW * numbers.loc[numbers["task"] == task, "method"].nunique() + 0.95 for task in tasks] or [1.0]
    heights[0] += 0.3  # the legend
    figure, axes = style.panels(2 * len(tasks), columns=2, width=4.6, heights=heights)
    for position, task in enumerate(tasks):
        here = numbers[numbers["task"] == task]
        facts = here.iloc[0]
        left, right = axes[2 * position : 2 * position + 2]
        _panel(left, here, "success")
        _panel(right, here, "log_auc")
        left.set_title(style.plain(task))
        left.set_xlabel(f"success fraction: {style.plain(facts['metric'])} <= {facts['threshold']:.4g}")
        right.set_xlabel(f"log-AUC between {facts['anchor_low']:.4g} (1) and {facts['anchor_high']:.4g} (0)")
        right.tick_params(labelleft=False)
    if axes:
        _legend(figure)
    return figure


def _panel(axis: Axes, numbers: pd.DataFrame, column: str) -> None:
    methods = [str(name) for name in numbers["method"].unique()]
    for height, method in enumerate(methods):
        rows = numbers[numbers["method"] == method]
        shade = style.colour(int(rows["order"].iloc[0]))
        values = dict(zip(rows["rule"], rows[column].astype("float64"), strict=True))
        ends = [min(values.values()), max(values.values())]
        axis.plot(ends, [height, height], color=shade, linewidth=1.8, zorder=2)
        for rule, marker, face in RULES.values():
            axis.plot(
                *(values[rule], height),
                marker=marker,
                color=shade,
                markerfacecolor=face or shade,
                markersize=6.5 if rule == "tail" else 6,
                zorder=4 if rule == "tail" else 3,
            )
        note = f"{share(values['last'])}  {share(values['tail'])}  {share(values['best'])}"
        axis.text(1.03, height, note, transform=axis.get_yaxis_transform(), va="center", fontsize=8)
    axis.set_yticks(range(len(methods)), [style.name(name) for name in methods])
    axis.set_ylim(len(methods) - 0.4, -0.6)
    axis.set_xlim(-0.02, 1.02)
    axis.grid(visible=False, axis="y")


def _legend(figure: Figure) -> None:
    words = {"last": "last evaluation", "tail": "median of the last fifth (what counts)", "best": "best evaluation"}
    marks = [
        Line2D([], [], linestyle="", marker=marker, color="#444444", markerfacecolor=face or "#444444")
        for _, marker, face in RULES.values()
    ]
    names = [words[rule] for rule, _, _ in RULES.values()]
    figure.legend(marks, names, loc="outside upper right", ncols=3, fontsize=8)

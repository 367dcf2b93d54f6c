"""Where two methods disagree: in how many pairs both, one alone or none succeeds; a bar per pair of methods."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from analysis.comparisons import declared_pairs, drawn_pairs
from analysis.figures import style
from analysis.pairing import Pairs, four_way, mcnemar
from analysis.results import Results
from analysis.words import p_value

ROW = 0.42
BOTH, NEITHER = "#8c8c8c", "#f2f2f2"
PARTS = ("both", "only_first", "only_second", "neither")
HATCHES = {"both": "", "only_first": "///", "only_second": "...", "neither": ""}
WORDS = {"both": "both succeed", "only_first": "only the first", "only_second": "only the second", "neither": "neither"}
LONG = 26
"""Most letters of two names on one line."""

NARROW = 0.045
"""Share of a bar below which its part has no room for its number."""

COLUMNS = (
    *("task", "first", "second", "order_first", "order_second", "family", "metric", "threshold", "pairs"),
    *(*PARTS, "mcnemar_p"),
)


def discordance_numbers(
    results: Results, *, pairs: Sequence[tuple[str, str]] | None = None, order: Sequence[str] | None = None
) -> pd.DataFrame:
    """One row per task and pair of methods: how the decided pairs of trials succeeded.

    Args:
        results: The results; an adaptive sweep gives no rows.
        pairs: Pairs of methods; None for the confirmatory ones, or where there are none those with the first method.
        order: All methods, whose places give the colours; None for those of the results.

    Returns:
        Columns `COLUMNS`; `mcnemar_p` is missing where points hold several trials, as these are not independent.
    """
    found = [
        _row(results, task, names, planned.decided(), order or results.methods)
        for task, names, planned in drawn_pairs(results, pairs)
    ]
    return pd.DataFrame(found, columns=list(COLUMNS))


def _row(results: Results, task: str, names: tuple[str, str], found: Pairs, order: Sequence[str]) -> dict[str, object]:
    facts = results.facts(task)
    counts = four_way(found.first.values, found.second.values, facts.threshold)
    single = len(found.clusters[1]) == len(found.first.values)
    return {
        "task": task,
        "first": names[0],
        "second": names[1],
        "order_first": order.index(names[0]),
        "order_second": order.index(names[1]),
        "family": "confirmatory" if set(names) in map(set, declared_pairs(results, task)) else "exploratory",
        "metric": facts.metric,
        "threshold": facts.threshold,
        "pairs": len(found.first.values),
        **vars(counts),
        "mcnemar_p": mcnemar(counts.only_first, counts.only_second) if single else None,
    }


def draw_discordance(numbers: pd.DataFrame) -> Figure:
    """A bar per pair, a panel per task; the coloured parts are where the methods disagree."""
    tasks = style.task_order(numbers)
    heights = [ROW * int((numbers["task"] == task).sum()) + 1.0 for task in tasks] or [1.0]
    figure, axes = style.panels(len(tasks), columns=1, width=7.6, heights=heights)
    for axis, task in zip(axes, tasks, strict=True):
        _panel(axis, numbers[numbers["task"] == task])
        axis.set_title(style.plain(task))
    handles = [
        Patch(facecolor=shade, hatch=HATCHES[name], edgecolor="#333333", linewidth=0.5, label=WORDS[name])
        for name, shade in zip(PARTS, (BOTH, "white", "white", NEITHER), strict=True)
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(PARTS), fontsize=8)
    return figure


def _panel(axis: Axes, numbers: pd.DataFrame) -> None:
    rows = numbers.to_dict("records")
    for height, row in enumerate(rows):
        shades = (BOTH, style.colour(row["order_first"]), style.colour(row["order_second"]), NEITHER)
        left = 0.0
        for name, shade in zip(PARTS, shades, strict=True):
            share = row[name] / row["pairs"] if row["pairs"] else 0.0
            axis.barh(
                height, share, left=left, height=0.7, color=shade, hatch=HATCHES[name], edgecolor="#333333", lw=0.5
            )
            if share >= NARROW:
                box = {"facecolor": "white", "edgecolor": "none", "pad": 1.0, "alpha": 0.85}
                axis.text(left + share / 2, height, f"{row[name]}", ha="center", va="center", fontsize=8, bbox=box)
            left += share
        single = _single(row["mcnemar_p"])
        note = p_value(row["mcnemar_p"]) if single else "no p" if row["pairs"] else "nothing decided"
        axis.text(1.02, height, note, transform=axis.get_yaxis_transform(), va="center", fontsize=8)
    axis.set_yticks(range(len(rows)), [_names(row["first"], row["second"]) for row in rows])
    for label, row in zip(axis.get_yticklabels(), rows, strict=True):
        label.set_fontweight("bold" if row["family"] == "confirmatory" else "normal")
    axis.set_ylim(len(rows) - 0.4, -0.6)
    axis.set_xlim(0, 1)
    facts = numbers.iloc[0]
    lines = [f"share of pairs; success: {style.plain(facts['metric'])} <= {facts['threshold']:.4g}"]
    decided = numbers.loc[numbers["pairs"] > 0, "mcnemar_p"].map(_single)
    if decided.any():
        lines.append("right: p of the exact McNemar test")
    if not decided.all():
        lines.append("no p: points hold several trials, which are not independent")
    axis.set_xlabel("\n".join(lines))
    axis.grid(visible=False, axis="y")


def _single(p: object) -> bool:
    """Whether there is a p: a pair of trials at each point."""
    return p is not None and p == p


def _names(first: str, second: str) -> str:
    """Two methods beside their bar, in two lines where they are long."""
    parts = style.name(first), style.name(second)
    return ("\nvs " if sum(map(len, parts)) > LONG else " vs ").join(parts)

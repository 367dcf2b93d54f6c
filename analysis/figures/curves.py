"""The robustness profiles, one step curve per method: by themselves, and beside generators of known quality."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis import profiles
from analysis.figures import style
from analysis.intervals import TINY
from analysis.outcomes import sample
from analysis.results import Results
from analysis.words import number, percent

HEIGHT = 4.2
LABEL = 0.042
"""Least distance of two labels, as a fraction of a panel's height."""

STEPS = 1000
"""Most steps of a curve that are kept: with more, neighbours differ by less than the pen's width."""

ROW = 0.17
"""Height of a control's row, inches."""

MUST = {"pass": ("o", "-"), "fail": ("x", "--"), "either": ("D", ":")}
"""What a control must do to the marker and the line that show it."""

COLUMNS = (
    *("task", "method", "order", "metric", "tau", "fraction", "low", "high", "plateau"),
    *("points", "band", "half_width", "missing", "threshold", "anchor_low", "anchor_high", "adaptive"),
)
CONTROLS = (*COLUMNS, "control", "must")


def profile_numbers(results: Results, *, rng: np.random.Generator) -> pd.DataFrame:
    """One row per task, method and step of its profile; tau = +inf is the plateau.

    Of more than `STEPS` steps an even choice is kept. Where a sampler chose configurations by their results
    (`adaptive`) the curve describes its trials and has no band: they are no draws from the prior.
    """
    frames = [
        _profile_rows(results, task, method, outcomes[outcomes["method"] == method], rng=rng)
        for task in results.tasks
        for outcomes in [results.outcomes(task)]
        for method in results.methods_of(task)
    ]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=list(COLUMNS))


def control_numbers(results: Results) -> pd.DataFrame:
    """Of the tasks with controls: the rows of `profile_numbers`, without bands, and one per control.

    A control has its value in `tau`, its name in `control`, "pass", "fail" or "either" in `must`, and no method.
    """
    frames: list[pd.DataFrame] = []
    for task in results.tasks:
        references = results.references.get(task, ())
        outcomes = results.outcomes(task) if references else None
        if outcomes is not None:
            for method in results.methods_of(task):
                frames.append(_profile_rows(results, task, method, outcomes[outcomes["method"] == method], rng=None))
            frames.append(
                pd.DataFrame(
                    [(task, one.value, one.name, one.must or "either") for one in references],
                    columns=["task", "tau", "control", "must"],
                )
            )
    found = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()
    return found.reindex(columns=list(CONTROLS))


def _profile_rows(
    results: Results, task: str, method: str, rows: pd.DataFrame, *, rng: np.random.Generator | None
) -> pd.DataFrame:
    """One method's profile; without a generator it has no band."""
    facts, trials = results.facts(task), sample(rows)
    thresholds, fraction = profiles.steps(trials)
    kept = np.unique(np.linspace(0, len(thresholds) - 1, min(STEPS, len(thresholds))).astype(np.int64))
    points = len(trials.decided().clusters()[1])
    plateau = float("nan") if points == 0 else float(fraction[-1]) if len(fraction) else 0.0
    half, band = float("nan"), "none"
    if rng is not None and results.adaptive is None:
        half, band = profiles.half_width(trials, rng=rng)
    curve = np.append(fraction[kept], plateau)
    return pd.DataFrame(
        {
            "task": task,
            "method": method,
            "order": results.methods.index(method),
            "metric": facts.metric,
            "tau": np.append(thresholds[kept], np.inf),
            "fraction": curve,
            "low": np.clip(curve - half, 0.0, 1.0),
            "high": np.clip(curve + half, 0.0, 1.0),
            "plateau": plateau,
            "points": points,
            "band": band,
            "half_width": half,
            "missing": int(rows["status"].isna().sum()),
            "threshold": facts.threshold,
            "anchor_low": facts.anchor_low,
            "anchor_high": facts.anchor_high,
            "adaptive": results.adaptive or "",
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


def draw_controls(numbers: pd.DataFrame) -> Figure:
    """The profiles above a strip with a row per control: where a curve stands at a control, so much does better."""
    tasks = style.task_order(numbers)
    columns = 1 if len(tasks) == 1 else 2
    here = [numbers[numbers["task"] == task] for task in tasks]
    counts = [int(frame["control"].notna().sum()) for frame in here]
    longest = [max(counts[row : row + columns]) for row in range(0, len(tasks), columns)]
    heights = [height for rows in longest for height in (HEIGHT, ROW * rows + 0.9)] or [1.0]
    width = 7.6 if columns == 1 else 6.2
    figure, axes = style.panels(len(heights) * columns, columns=columns, width=width, heights=heights)
    places = [position // columns * 2 * columns + position % columns for position in range(len(tasks))]
    for task, frame, place in zip(tasks, here, places, strict=True):
        _controls(axes[place], axes[place + columns], frame, rows=longest[place // (2 * columns)])
        axes[place].set_title(style.plain(task), pad=16)
    for place in set(range(len(axes))) - {place + row for place in places for row in (0, columns)}:
        axes[place].set_axis_off()
    return figure


def _controls(axis: Axes, strip: Axes, numbers: pd.DataFrame, *, rows: int) -> None:
    """Draw one task's profiles into an axis, its controls into the strip of so many rows, their lines into both."""
    controls = numbers[numbers["control"].notna()].sort_values(["tau", "control"], kind="stable")
    curves = numbers[numbers["control"].isna()]
    _panel(axis, curves, also=controls["tau"].to_numpy(dtype=np.float64))
    axis.set_xlabel("")
    axis.tick_params(labelbottom=False)
    left, right = axis.get_xlim()
    strip.set_xscale("log")
    strip.set_xlim(left, right)
    strip.set_ylim(rows - 0.4, -0.6)
    strip.set_yticks([])
    strip.set_xlabel(f"{style.plain(curves['metric'].iloc[0])}\n● must pass the threshold, x must fail it, ◇ either")
    threshold = float(curves["threshold"].iloc[0])
    if threshold > 0:
        strip.axvline(threshold, color="#555555", linewidth=1, linestyle=(0, (2, 2)), zorder=1)
    for height, (value, name, must) in enumerate(controls[["tau", "control", "must"]].itertuples(index=False)):
        marker, line = MUST[must]
        if left < value < right:
            axis.axvline(value, color="#999999", linewidth=0.8, linestyle=line, zorder=1)
            strip.plot([value, value], [-0.6, height], color="#bbbbbb", linewidth=0.8, linestyle=line, zorder=1)
        at = min(max(float(value), left), right)  # a value beyond the panel stands at its edge
        face = "white" if must == "either" else "#333333"
        strip.plot(at, height, marker=marker, color="#333333", markerfacecolor=face, markersize=4.5, clip_on=False)
        note = f"{style.plain(name)}  {number(float(value))}"
        strip.text(1.05, height, note, transform=strip.get_yaxis_transform(), va="center", fontsize=7.5)


def _panel(axis: Axes, numbers: pd.DataFrame, *, also: Sequence[float] | np.ndarray = ()) -> None:
    facts = numbers.iloc[0]
    left, right = _limits(numbers, also)
    axis.set_xscale("log")
    axis.set_xlim(left, right)
    axis.set_ylim(-0.01, 1.01)
    axis.set_xlabel(f"{style.plain(facts['metric'])}\n(lower is better; shaded: range of the log-AUC)")
    of = f"trials of {facts['adaptive']}" if facts["adaptive"] else "prior"
    axis.set_ylabel(f"fraction of the {style.plain(of)} at or below")
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
    if half == half:
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
        axis.annotate(
            f"{style.name(curve['method'].iloc[0])}  {_finish(float(curve['plateau'].iloc[0]), end)}",
            xy=(1.0, end),
            xycoords=axis.get_yaxis_transform(),
            xytext=(1.05, height),
            textcoords=axis.get_yaxis_transform(),
            va="center",
            fontsize=8,
            color=shade,
            annotation_clip=False,
            arrowprops={
                **{"arrowstyle": "-", "color": shade, "linewidth": 0.7},
                **{"shrinkA": 1, "shrinkB": 0, "relpos": (0, 0.5)},
            },
        )


def _finish(plateau: float, end: float) -> str:
    """The share of trials that finished, and what of them lies right of the panel, where the curve ends lower."""
    return f"{percent(plateau)} finish" + (f", {style.some(plateau - end)} beyond" if plateau - end > TINY else "")


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


def _limits(numbers: pd.DataFrame, also: Sequence[float] | np.ndarray) -> tuple[float, float]:
    """From below the anchors to above them, further where curves still rise, but never by more than two decades."""
    facts = numbers.iloc[0]
    low, high = float(facts["anchor_low"]), float(facts["anchor_high"])
    tau = np.append(numbers["tau"].to_numpy(dtype=np.float64), also)
    seen = tau[np.isfinite(tau) & (tau > 0)]
    if facts["threshold"] > 0:
        seen = np.append(seen, float(facts["threshold"]))
    least, most = (float(seen.min()), float(seen.max())) if len(seen) else (low, high)
    return max(low / 100, min(low, least)) / 1.5, min(high * 100, max(high, most)) * 1.5

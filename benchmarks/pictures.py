"""The figures of docs/speed.md: for each a function from recorded results to numbers, and one that draws these."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures import style

ARMS = {
    "native": "manypaths, compiled",
    "JAX": "JAX: vmap, jit and scan",
    "recorded": "manypaths, recorded operations",
    "plain": "plain PyTorch loop, one GAN",
}
"""Programs in the order of their colours."""
TUNE = {
    "warm": "manypaths run, compiled by an earlier sweep",
    "ours": "manypaths run",
    "reused": "Ray Tune, reuse_actors=True",
    "new": "Ray Tune, a new process for each trial",
}
"""Arms of the benchmark of sweeps."""
WAYS = ("captured", "recorded", "JAX", "plain")
"""Programs on a GPU, likewise."""
OTHERS = "#999999"

Results = Mapping[str, Mapping[str, Any]]
"""What the files of results/ hold, by name."""


@dataclass(frozen=True)
class Chart:
    """A figure.

    Attributes:
        numbers: From recorded results to a table, without rows where nothing was measured.
        draw: From the table to the figure.
        alt: What it shows.
    """

    numbers: Callable[[Results], pd.DataFrame]
    draw: Callable[[pd.DataFrame], Figure]
    alt: str


def drawn(chart: Chart, numbers: pd.DataFrame) -> bytes:
    """The figure as SVG; equal numbers give equal bytes."""
    with mpl.rc_context(style.STYLE):  # type: ignore[arg-type]  # the stubs know every key's own type
        return style.render(chart.draw(numbers), "svg")


# Throughput against pack size


def throughput_numbers(results: Results) -> pd.DataFrame:
    """One row per method, program and pack size: milliseconds of a trial-step and trial-steps per second of a core."""
    details = results.get("engine", {}).get("details", {})
    rows = [
        (row["method"], arm, row["capacity"], milliseconds)
        for row in details.get("capacities", ())
        for arm, milliseconds in row["ms"].items()
        if arm != "plain"
    ]
    for method in dict.fromkeys(row["method"] for row in details.get("capacities", ())):
        plain = [row["ms"]["plain"] for row in details["capacities"] if row["method"] == method]
        rows.append((method, "plain", 1, statistics.median(plain)))
    rows += [(method, "JAX", capacity, found) for (method, capacity), found in of_jax(details).items()]
    table = pd.DataFrame(rows, columns=["method", "arm", "capacity", "milliseconds"])
    table["per_second"] = 1000 / table["milliseconds"]
    order = {name: i for i, name in enumerate(ARMS)}
    return table.sort_values(
        ["method", "arm", "capacity"], key=lambda column: column.map(order) if column.name == "arm" else column
    ).reset_index(drop=True)


def of_jax(details: Mapping[str, Any]) -> dict[tuple[str, int], float]:
    """JAX's milliseconds of a trial-step by method and pack size: means of processes, with the faster draws."""
    found: dict[tuple[str, int], dict[str, list[float]]] = {}
    for row in details.get("jax", ()):
        if row["arm"] == "jax":
            by_draws = found.setdefault((row["method"], row["capacity"]), {})
            by_draws.setdefault(row["draws"], []).append(row["milliseconds"])
    return {key: min(map(statistics.mean, by_draws.values())) for key, by_draws in found.items()}


def draw_throughput(numbers: pd.DataFrame) -> Figure:
    """Trial-steps per second against pack size, a panel per method."""
    methods = list(numbers["method"].unique())
    figure, axes = style.panels(len(methods), columns=2, width=4.0, heights=[3.4])
    for axis, method in zip(axes, methods, strict=True):
        _lines(axis, numbers[numbers["method"] == method], ARMS, "arm", "per_second")
        axis.set_title(method)
        axis.set_xlabel("trials in a pack")
        axis.set_ylim(0.8 * float(numbers["per_second"].min()), 1.25 * float(numbers["per_second"].max()))
    axes[0].set_ylabel("trial-steps per second of one core")
    figure.legend(*axes[0].get_legend_handles_labels(), fontsize=8, loc="outside lower center", ncols=len(ARMS))
    return figure


def _lines(axis: Axes, numbers: pd.DataFrame, arms: Mapping[str, str], by: str, value: str) -> None:
    """A line for each program; one that has no packs goes straight across."""
    for order, (arm, words) in enumerate(arms.items()):
        rows = numbers[numbers[by] == arm]
        look: dict[str, Any] = {"color": style.colour(order), "label": words}
        if arm == "plain" and len(rows):
            axis.axhline(float(rows[value].iloc[0]), linestyle="--", linewidth=1.5, **look)
        elif len(rows):
            axis.plot(rows["capacity"], rows[value], marker=style.MARKERS[order], markersize=4.5, **look)
    axis.set_xscale("log", base=2)
    axis.set_yscale("log")
    ticks = sorted(numbers["capacity"].unique())
    axis.set_xticks(ticks, [str(tick) for tick in ticks])
    axis.minorticks_off()


# The core's limit


def limit_numbers(results: Results) -> pd.DataFrame:
    """One row per program, of the first method, and per measure of the core: GFLOP/s."""
    details = results.get("engine", {}).get("details", {})
    found, table = details.get("limit"), throughput_numbers(results)
    if not found:
        return pd.DataFrame(columns=["what", "kind", "gigaflops"])
    first = table[table["method"] == details["capacities"][0]["method"]]
    best = first.groupby("arm", sort=False)["milliseconds"].min()
    rows = [(ARMS[arm], "program", found["flops"] / best[arm] / 1e6) for arm in ARMS if arm in best]
    rows.append(("torch.mm of 512 x 512", "core", found["torch_gigaflops"]))
    rows.append(("this core's peak", "core", found["peak_gigaflops"]))
    return pd.DataFrame(rows, columns=["what", "kind", "gigaflops"])


def draw_limit(numbers: pd.DataFrame) -> Figure:
    """A bar for each program, and for what the core was measured to do."""
    most = float(numbers["gigaflops"].max())
    notes = [f"{value:.0f}, {value / most:.0%} of the peak" for value in numbers["gigaflops"]]
    colours = [style.colour(i) if kind == "program" else OTHERS for i, kind in enumerate(numbers["kind"])]
    return _bars(numbers["what"], numbers["gigaflops"], notes, colours, "GFLOP/s, of the arithmetic that a step needs")


# Whole sweeps


def sweep_numbers(results: Results) -> pd.DataFrame:
    """One row per arm: wall seconds, and how often manypaths' go into them."""
    seconds = results.get("sweep", {}).get("details", {}).get("seconds", {})
    rows = [
        (TUNE[arm], seconds[arm][-1] if arm == "warm" else statistics.mean(seconds[arm]))
        for arm in TUNE
        if arm in seconds
    ]
    table = pd.DataFrame(rows, columns=["what", "seconds"])
    table["ratio"] = table["seconds"] / statistics.mean(seconds["ours"]) if rows else []
    return table


def draw_sweep(numbers: pd.DataFrame) -> Figure:
    """A bar for each arm."""
    notes = [
        f"{seconds:,.0f} s" if ratio <= 1 else f"{seconds:,.0f} s, {ratio:.1f} x"
        for seconds, ratio in zip(numbers["seconds"], numbers["ratio"], strict=True)
    ]
    colours = [style.colour(0) if what.startswith("manypaths") else OTHERS for what in numbers["what"]]
    return _bars(numbers["what"], numbers["seconds"], notes, colours, "wall seconds of the whole sweep")


def _bars(what: pd.Series, values: pd.Series, notes: list[str], colours: list[str], label: str) -> Figure:
    figure, (axis,) = style.panels(1, columns=1, width=7.6, heights=[0.36 * len(what) + 0.7])
    axis.barh(range(len(what)), values, color=colours, height=0.62)
    for place, (value, note) in enumerate(zip(values, notes, strict=True)):
        axis.annotate(note, (value, place), xytext=(4, 0), textcoords="offset points", va="center", fontsize=8)
    axis.set_yticks(range(len(what)), list(what))
    axis.set_xlim(0, 1.32 * float(values.max()))
    axis.invert_yaxis()
    axis.grid(visible=False)
    axis.set_xlabel(label)
    return figure


# A GPU


def gpu_numbers(results: Results) -> pd.DataFrame:
    """One row per program and pack size: trial-steps per second of a card."""
    details = results.get("gpu", {}).get("details", {})
    rows = [(row["way"], row["capacity"], row["rate"]) for row in details.get("packs", ()) if row.get("rate")]
    rows += [("JAX", row["capacity"], row["rate"]) for row in details.get("jax", ())]
    rows += [("plain", 1, row["rate"]) for row in details.get("plain", ()) if row["networks"] == "mlp"]
    table = pd.DataFrame(rows, columns=["way", "capacity", "per_second"])
    return table.groupby(["way", "capacity"], sort=False, as_index=False).max()  # JAX: of its faster draws


def draw_gpu(numbers: pd.DataFrame) -> Figure:
    """Trial-steps per second against pack size."""
    figure, (axis,) = style.panels(1, columns=1, width=6.0, heights=[3.6])
    words = {"captured": "manypaths, a CUDA graph", **{way: ARMS[way] for way in WAYS[1:]}}
    _lines(axis, numbers, words, "way", "per_second")
    axis.set_xlabel("trials in a pack")
    axis.set_ylabel("trial-steps per second of one card")
    axis.legend(fontsize=7.5)
    return figure


CHARTS = {
    "throughput": Chart(
        throughput_numbers,
        draw_throughput,
        "Trial-steps per second of one core against the number of trials in a pack, by program: higher is better.",
    ),
    "limit": Chart(
        limit_numbers,
        draw_limit,
        "Arithmetic that a step needs, per second of each program at its best pack size, beside what the core can do.",
    ),
    "sweep": Chart(sweep_numbers, draw_sweep, "Wall seconds of a whole sweep: shorter is better."),
    "gpu": Chart(
        gpu_numbers,
        draw_gpu,
        "Trial-steps per second of one card against the number of trials in a pack, by program: higher is better.",
    ),
}
"""Figures by the name of their files in docs/speed/."""

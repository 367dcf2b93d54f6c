"""Ten thousand trials by one command, `examples/headline.toml`, and the report of them that docs/headline.md keeps."""

from __future__ import annotations

import shutil
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.memory import toml
from benchmarks.record import Found, Line
from benchmarks.sweep import wall

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "headline.toml"
PAGE = ROOT / "docs" / "headline.md"
KEPT = PAGE.with_suffix("")
"""The folder of what is kept of the report."""
TABLES = ("summary.csv", "comparisons.csv")
FIGURES = {
    "profiles": "Which part of the prior reaches a score, for every score, by method.",
    "success": "Success fraction of each method, with intervals.",
    "log_auc": "Area under the profile of each method, with intervals.",
    "differences": "Differences between methods at equal points, with intervals.",
    "sensitivity": "Success against each hyperparameter, by method.",
    "importance": "Which hyperparameters a method's score depends on.",
}
"""Figures of the report that the page shows, and what is to be seen there."""
SMALL = {"budget": {"steps": 50}, "design": {"replicates": 2, "points": 4}}
"""A quick run's."""

HEAD = """# Ten thousand trials

What the platform is for, at its full size, as an example to look at: by
[examples/headline.toml](../examples/headline.toml), {trials:,} GANs are trained for {steps:,} generator steps each,
with five methods at the same points of one prior, on two tasks that need no data. Two commands do it, and the second
needs nothing but the Parquet files of the first:

```console
$ manypaths run examples/headline.toml --out runs/headline
$ manypaths report runs/headline
```

Written by `python -m benchmarks headline`, which runs these. {where}

| what | measured |
|---|---|
"""
ON_CPU = "It was run on a CPU; on a GPU it has not been run."
RESULTS = """
Of {planned:,} planned trials {completed:,} were completed, {diverged:,} diverged, {oom:,} ran out of memory and
{missing:,} are missing; failures count and rank worst. All numbers hold for this prior, these tasks and this budget:
{steps:,} generator steps are few for `ring8`, and a threshold that hardly a trial reaches tells methods apart less well
than the whole profile does.

## How much survives

Success fraction and area under the profile on a logarithmic axis (log-AUC), each with its 95 % interval; all columns
are in [summary.csv](headline/summary.csv).

| task | method | success | log-AUC | failures |
|---|---|---|---|---|
"""
COMPARED = """
## Does another method survive more?

The comparisons that the file names before the run, at equal points, p values adjusted by Holm's method; those and all
others are in [comparisons.csv](headline/comparisons.csv).

| task | first | second | verdict | difference of log-AUC | difference of success | p |
|---|---|---|---|---|---|---|
"""


def run(*, quick: bool = False) -> Found:
    sweep = tomllib.loads(EXAMPLE.read_text())
    if quick:
        sweep |= SMALL
    with tempfile.TemporaryDirectory() as folder:
        file, out = Path(folder, "sweep.toml"), Path(folder, "run")
        file.write_text(toml(sweep))
        command = [sys.executable, "-m", "manypaths"]
        training = wall([*command, "run", str(file), "--out", str(out)], {})
        reporting = wall([*command, "report", str(out)], {})
        counts = pd.read_csv(out / TABLES[0])[["planned", "completed", "diverged", "oom", "missing"]].sum()
        (device,) = pd.read_parquet(out / "trials", columns=["device"])["device"].unique()
        if not quick:
            _keep(out)
    what = f"{counts.planned:,} trials x {sweep['budget']['steps']:,} generator steps"
    lines = (
        Line(f"{what}, the whole command", training, "s"),
        Line("trials a second, from the command to its end", counts.planned / training, "trials/s"),
        Line("the report", reporting, "s"),
    )
    remarks = ("as examples/headline.toml says, on all cores; compiled programs of earlier sweeps were used if any",)
    details = {"counts": {name: int(count) for name, count in counts.items()}, "steps": sweep["budget"]["steps"]}
    found = Found(lines, remarks, details | {"device": device})
    found.show()
    return found


def _keep(out: Path) -> None:
    KEPT.mkdir(exist_ok=True)
    for name in TABLES:
        shutil.copyfile(out / name, KEPT / name)
    for name in FIGURES:
        shutil.copyfile(out / "figures" / f"{name}.png", KEPT / f"{name}.png")


def text(content: Mapping[str, Any], origin: str) -> str:
    """The page, from what was recorded and from the tables that were kept.

    Args:
        content: Of results/headline.json.
        origin: A line on commit and machine.
    """
    details = content["details"]
    head = HEAD.format(
        trials=details["counts"]["planned"], steps=details["steps"], where=ON_CPU if details["device"] == "cpu" else ""
    )
    lines = (Line(**line) for line in content["lines"])
    summary, compared = (pd.read_csv(KEPT / name) for name in TABLES)
    return "".join(
        [
            head,
            *(f"| {line.what} | {line.text} |\n" for line in lines),
            origin,
            RESULTS.format(**details["counts"], steps=details["steps"]),
            *_rows(summary),
            COMPARED,
            *_rows_compared(compared[compared["family"] == "confirmatory"]),
            *(f"\n![{words}]({KEPT.name}/{name}.png)\n" for name, words in FIGURES.items()),
        ]
    )


def _rows(summary: pd.DataFrame) -> Iterator[str]:
    for row in summary.to_dict("records"):
        cells = [_interval(row, "success"), _interval(row, "log_auc"), f"{row['failure_rate']:.1%}"]
        yield f"| {row['task']} | {row['method']} | {' | '.join(cells)} |\n"


def _rows_compared(compared: pd.DataFrame) -> Iterator[str]:
    for row in compared.to_dict("records"):
        names = [row["task"], row["first"], row["second"], row["verdict"]]
        cells = [_interval(row, f"{what}_difference") for what in ("log_auc", "success")]
        p = row["p_adjusted"]
        yield f"| {' | '.join([*names, *cells, '< .001' if p < 0.001 else f'{p:.3f}'])} |\n"


def _interval(row: Mapping[str, Any], name: str) -> str:
    return f"{row[name]:.3f} [{row[f'{name}_low']:.3f}, {row[f'{name}_high']:.3f}]"

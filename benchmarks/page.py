"""python -m benchmarks page: docs/speed.md and its figures, from the files of results/."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from analysis.figures import style
from benchmarks import headline
from benchmarks.engine import PLAIN
from benchmarks.evaluations import WITH, WITHOUT
from benchmarks.pictures import CHARTS, Results, drawn
from benchmarks.record import RESULTS, Line
from benchmarks.sweep import WORDS

PAGE = Path(__file__).parents[1] / "docs" / "speed.md"
FIGURES = PAGE.with_suffix("")
"""The folder of the figures, each with its numbers."""

HEAD = """# Speed

How fast trials are trained, what other ways to train the same GANs take beside it in one run, and how much of the
machine is used. Written by `python -m benchmarks page` from what `make bench` left in
[benchmarks/results](../benchmarks/results/README.md): each section from one run, of the commit that it names. Beside
each figure lie its numbers.
"""

ENGINE = """
## A step

Two MLPs, 64 wide, on the ring of eight Gaussians, batch 64, n_critic 1, Adam, one thread: processor time of a
trial-step, random numbers included, evaluations left out. The plain loop is one GAN in PyTorch with fused Adam, written
as well as we can. JAX is the same mathematics in vmap, jit and scan. All take turns within one run.
"""

JAX = """
JAX is no dependency of this project. To measure it too, give it a Python of its own:

```console
$ python3 -m venv ~/jax && ~/jax/bin/pip install jax==0.10.2
$ MANYPATHS_JAX_PYTHON=~/jax/bin/python make bench engine
```
"""

LIMIT = """
## How far it is from what the core can do

The multiplications that the mathematics needs are counted by hand, 30 matrix products of a trial-step, and divided by
the time that each program takes for the whole step. The core's peak is measured in the same run: multiply-adds on
registers that wait for nothing, by the same compiler. Instructions are not counted: the machines at hand hide their
counters.
"""

SWEEP = """
## Whole sweeps

Wall time of whole commands on two cores, imports, starting Ray, planning, compiling, training and writing included,
against what one would write in Ray Tune without this project: a function trainable around the plain loop.
"""

AROUND = """
## Around the step
"""

EVALUATIONS = """
## Evaluations

What evaluations take of the time of training between them, as many as a trial has by default.
"""

GPU = """
## On a GPU

"""
NO_GPU = """Not measured: `make bench-gpu` is ready and was not run. It compares plain loops, several processes that
share the card, JAX, and packs, in one run on one card.
"""


def results() -> dict[str, dict[str, Any]]:
    """What the files of results/ hold, by name."""
    return {file.stem: json.loads(file.read_text()) for file in sorted(RESULTS.glob("*.json"))}


def text(found: Results) -> str:
    """The page."""
    parts = [HEAD, *_summary(found)]
    if "engine" in found:
        engine = found["engine"]
        parts += [ENGINE, _figure("throughput", found), *_steps(engine), *_table(engine["lines"], but=PLAIN)]
        parts += [*_remarks(engine, "JAX"), JAX, LIMIT, _figure("limit", found), *_remarks(engine, "", but="JAX")]
        parts += [origin(engine)]
    if "sweep" in found:
        parts += [SWEEP, _figure("sweep", found), *_whole(found["sweep"])]
    if "startup" in found:
        parts += [AROUND, *_whole(found["startup"])]
    if "evaluations" in found:
        evaluations = found["evaluations"]
        parts += [EVALUATIONS, *_by_task(evaluations["lines"]), *_remarks(evaluations), origin(evaluations)]
    parts.append(GPU)
    if "gpu" in found:
        parts += [_figure("gpu", found), *_whole(found["gpu"])]
    else:
        parts.append(NO_GPU)
    return "".join(parts)


def _summary(found: Results) -> Iterator[str]:
    """The main ratios in words, those to others as how often our time goes into theirs."""
    if "engine" in found:
        plain = [row["ratio"]["native"] for row in found["engine"]["details"]["capacities"] if "native" in row["ratio"]]
        jax = [1 / ours for ours in _ratios(found["engine"], "JAX")]
        yield f"\n- A trial-step takes {_range(plain)} times less processor time than in a plain PyTorch loop"
        yield f", and {_range(jax)} times less than in JAX.\n" if jax else ".\n"
    if "sweep" in found:
        new, reused = (_range(_ratios(found["sweep"], WORDS[arm])) for arm in ("new", "reused"))
        yield f"- A sweep takes {new} times less than in Ray Tune with a process for each trial, {reused} times less"
        yield " than there with processes that are used again.\n"
    if "evaluations" in found:
        penalised, plain = (
            _range(100 * share for share in _ratios(found["evaluations"], how)) for how in (WITH, WITHOUT)
        )
        yield f"- By task, evaluations take at most {penalised} % of the time of training with a penalty, and {plain} %"
        yield " without, from 1,000 steps on.\n"


def _ratios(content: Mapping[str, Any], words: str) -> list[float]:
    """Measured ratios of which the words tell."""
    return [line["measured"] for line in content["lines"] if line["unit"] == "x" and words in line["what"]]


def _range(values: Iterable[float]) -> str:
    found = list(values)
    low, high = f"{min(found):.2g}", f"{max(found):.2g}"
    return low if low == high else f"{low} to {high}"


def _by_task(lines: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Lines that begin with a task, a row for each."""
    rows: dict[str, list[Line]] = {}
    for line in (Line(**line) for line in lines):
        rows.setdefault(line.what.partition(": ")[0], []).append(line)
    heads = [line.what.partition(": ")[2] for line in next(iter(rows.values()))]
    yield f"\n| task | {' | '.join(heads)} | required |\n|{'---|' * (len(heads) + 2)}\n"
    for task, found in rows.items():
        verdicts = ", ".join(line.verdict for line in found if line.required)
        yield f"| {task} | {' | '.join(line.text for line in found)} | {verdicts} |\n"


def _figure(name: str, found: Results) -> str:
    chart = CHARTS[name]
    return "" if chart.numbers(found).empty else f"\n![{chart.alt}]({FIGURES.name}/{name}.svg)\n"


def _whole(content: Mapping[str, Any]) -> Iterator[str]:
    """All that a file says."""
    yield from _table(content["lines"])
    yield from _remarks(content)
    yield origin(content)


def _steps(engine: Mapping[str, Any]) -> Iterator[str]:
    """Milliseconds of a trial-step and how often they go into the plain loop's, by method, program and pack size."""
    rows = engine["details"]["capacities"]
    sizes = sorted({row["capacity"] for row in rows})
    yield "\nMilliseconds of a trial-step, and how often they go into those of the plain loop, by pack size:\n"
    yield f"\n| method | program | {' | '.join(map(str, sizes))} | required |\n|{'---|' * (len(sizes) + 3)}\n"
    for method in dict.fromkeys(row["method"] for row in rows):
        by_size = {row["capacity"]: row for row in rows if row["method"] == method}
        for program in ("native", "recorded"):
            cells = [_step(by_size[size], program) for size in sizes]
            lines = [Line(**line) for line in engine["lines"] if line["what"].startswith(f"{method}, {program}, ")]
            bound = [line for line in lines if line.required and line.what.endswith(PLAIN)]
            worst = min(bound, key=lambda line: (line.verdict.endswith("holds"), line.measured), default=None)
            if any(cells):
                yield f"| {method} | {program} | {' | '.join(cells)} | {_where(worst) if worst else ''} |\n"


def _where(line: Line) -> str:
    """The verdict on a line, and the pack size of which it is."""
    return f"{line.verdict}, {line.text} at {line.what.partition('capacity ')[2].partition(':')[0]}"


def _step(row: Mapping[str, Any], program: str) -> str:
    return f"{row['ms'][program]:.3g} ({row['ratio'][program]:.3g} x)" if program in row["ratio"] else ""


def _table(lines: Iterable[Mapping[str, Any]], but: str | None = None) -> Iterator[str]:
    """Lines as a table, those left out whose words end so."""
    yield "\n| what | measured | required |\n|---|---|---|\n"
    for line in (Line(**line) for line in lines):
        if but is None or not line.what.endswith(but):
            yield f"| {line.what} | {line.text} | {line.verdict} |\n"


def _remarks(content: Mapping[str, Any], start: str = "", but: str | None = None) -> Iterator[str]:
    yield "\n"
    for remark in content["remarks"]:
        if remark.startswith(start) and (but is None or not remark.startswith(but)):
            yield f"- {remark}\n"


def origin(content: Mapping[str, Any]) -> str:
    """By what command, from what and where something was measured."""
    machine = content["machine"]
    return (
        f"\n`{content['command']}`, commit {content['commit']}, {machine['processor']}, {machine['cores']} cores, "
        f"torch {machine['versions']['torch']}; load before: {machine.get('load_before', 'not recorded')}.\n"
    )


def write() -> None:
    """Write the pages, and the figures that there are numbers for, with their numbers; others go."""
    found = results()
    PAGE.write_text(text(found))
    if "headline" in found:
        headline.PAGE.write_text(headline.text(found["headline"], origin(found["headline"])))
    FIGURES.mkdir(exist_ok=True)
    for name, chart in CHARTS.items():
        numbers, files = chart.numbers(found), (FIGURES / f"{name}.csv", FIGURES / f"{name}.svg")
        if numbers.empty:
            for file in files:
                file.unlink(missing_ok=True)
        else:
            style.write_csv(numbers, files[0])
            files[1].write_bytes(drawn(chart, numbers))

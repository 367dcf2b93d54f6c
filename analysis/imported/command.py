"""`manypaths import`: reads arguments, calls the readers, writes a run directory; light to import."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from study.errors import UserError

if TYPE_CHECKING:
    from analysis.imported.declared import Declaration
    from analysis.imported.source import Source

app = typer.Typer(
    help="Make a run directory of results from elsewhere: every answer, without training.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Out = Annotated[str | None, typer.Option(help="Run directory, a path or URI.", show_default="runs/NAME")]
Mapped = Annotated[Path | None, typer.Option("--mapping", metavar="FILE", help="The options, in TOML.")]
Metric = Annotated[str | None, typer.Option(help="Name of the metric.")]
Maximise = Annotated[bool | None, typer.Option("--maximise/--minimise", help="Which is better, high or low.")]
Ideal = Annotated[float | None, typer.Option(help="A value that nothing can be better than.")]
Threshold = Annotated[float | None, typer.Option(help="Success is this value or better.")]
Anchors = Annotated[
    tuple[float, float] | None, typer.Option(metavar="GOOD BAD", help="The values that score 1 and 0 in the log-AUC.")
]
Method = Annotated[str | None, typer.Option(metavar="COLUMN|=NAME", help="What names the method, or its name.")]
Task = Annotated[str | None, typer.Option(metavar="COLUMN|=NAME", help="What names the task, or its name.")]
Config = Annotated[str | None, typer.Option(metavar="COLUMN", help="What methods share when they are compared.")]
Seed = Annotated[str | None, typer.Option(metavar="COLUMN", help="The seed.")]
Sampler = Annotated[str | None, typer.Option(help="How configurations were chosen: random, sobol, grid, table, tpe...")]
Prior = Annotated[str | None, typer.Option(help="A name for what they were drawn from.")]
Budget = Annotated[int | None, typer.Option(metavar="STEPS", help="Steps of a whole trial.")]
Unit = Annotated[str | None, typer.Option(help="What those are steps of.")]
Params = Annotated[list[str] | None, typer.Option("--param", metavar="COLUMN", help="A hyperparameter; repeat.")]
Map = Annotated[list[str] | None, typer.Option("--map", metavar="OURS=THEIRS", help="Rename a hyperparameter; repeat.")]
Errors = Annotated[str | None, typer.Option(metavar="lost|diverged", help="What an error of a trial's own counts as.")]


@app.command("table")
def import_table(
    source: Annotated[Path, typer.Argument(metavar="FILE", help="A CSV, TSV or Parquet file, one row per trial.")],
    out: Out = None,
    mapping: Mapped = None,
    metric: Metric = None,
    maximise: Maximise = None,
    ideal: Ideal = None,
    threshold: Threshold = None,
    anchors: Anchors = None,
    method: Method = None,
    task: Task = None,
    config: Config = None,
    seed: Seed = None,
    status: Annotated[str | None, typer.Option(metavar="COLUMN", help="How each trial ended.")] = None,
    means: Annotated[
        list[str] | None, typer.Option(metavar="WORD=STATUS", help="A word of that column in ours; repeat.")
    ] = None,
    sampler: Sampler = None,
    prior: Prior = None,
    budget: Budget = None,
    unit: Unit = None,
    param: Params = None,
    map_: Map = None,
) -> None:
    """Any table of finished trials."""
    declaration = _declaration(locals())
    from analysis.imported.table import read_table

    _write(read_table(source, declaration), declaration, out)


@app.command("optuna")
def import_optuna(
    source: Annotated[str, typer.Argument(metavar="STORAGE", help="sqlite:///study.db, or a journal file.")],
    study: Annotated[list[str] | None, typer.Option(metavar="NAME", help="A study; repeat, each is a method.")] = None,
    out: Out = None,
    mapping: Mapped = None,
    metric: Metric = None,
    ideal: Ideal = None,
    threshold: Threshold = None,
    anchors: Anchors = None,
    method: Method = None,
    task: Task = None,
    seed: Seed = None,
    sampler: Sampler = None,
    prior: Prior = None,
    budget: Budget = None,
    unit: Unit = None,
    param: Params = None,
    map_: Map = None,
    errors: Errors = None,
) -> None:
    """Studies of an Optuna storage."""
    declaration = _declaration(locals())
    from analysis.imported.optuna_study import read_studies

    _write(read_studies(source, study or [], declaration), declaration, out)


@app.command("ray")
def import_ray(
    sources: Annotated[
        list[Path], typer.Argument(metavar="EXPERIMENT...", help="Experiment directories; each is a method.")
    ],
    out: Out = None,
    mapping: Mapped = None,
    metric: Metric = None,
    maximise: Maximise = None,
    ideal: Ideal = None,
    threshold: Threshold = None,
    anchors: Anchors = None,
    method: Method = None,
    task: Task = None,
    seed: Seed = None,
    sampler: Sampler = None,
    prior: Prior = None,
    budget: Budget = None,
    unit: Unit = None,
    param: Params = None,
    map_: Map = None,
    errors: Errors = None,
    early: Annotated[
        str | None, typer.Option(metavar="stopped|completed", help="What a trial that ended early counts as.")
    ] = None,
    value: Annotated[
        str | None, typer.Option(metavar="last|tail", help="Judge by the last value, or the median of the last fifth.")
    ] = None,
) -> None:
    """Experiments of Ray Tune."""
    declaration = _declaration(locals())
    from analysis.imported.ray_tune import read_experiments

    _write(read_experiments(sources, declaration), declaration, out)


def _declaration(given: dict[str, Any]) -> Declaration:
    """The arguments of a command and its mapping file as one declaration."""
    from analysis.imported.declared import declare, read_mapping

    given = {name: value for name, value in given.items() if name not in ("source", "sources", "study", "out")}
    mapping = given.pop("mapping")
    given["params"] = tuple(given.pop("param") or ())
    given["map"] = _pairs("--map", given.pop("map_"))
    given["means"] = _pairs("--means", given.pop("means", None))
    return declare(read_mapping(mapping) if mapping else {}, given)


def _pairs(option: str, texts: Sequence[str] | None) -> dict[str, str]:
    found = {}
    for text in texts or ():
        left, equals, right = text.partition("=")
        if not (left and equals and right):
            raise UserError(f"{option} {text!r}: must be two names with = between them")
        found[left] = right
    return found


def _write(source: Source, declaration: Declaration, out: str | None) -> None:
    from analysis.imported.source import trials
    from analysis.imported.stored import write
    from study.store import RunDirectory

    directory = RunDirectory(out or f"runs/{source.name}")
    tables = write(directory, source, declaration)
    for remark in tables.remarks:
        typer.echo(f"note: {remark}", file=sys.stderr)
    typer.echo(f"{trials(len(tables.plan))}, {len(tables.trials)} ended", file=sys.stderr)
    typer.echo(str(directory))

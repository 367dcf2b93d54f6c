"""What the columns of a run's tables mean: one list for frames, SQL and documents."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from study.schema import OUTCOME, TABLES, Column

RUN = Column("run", "string", "the run directory's name; its path where two runs have the same name")
CODED = Column(
    "outcome",
    "float64",
    "primary if completed, +inf if it failed (diverged, oom): what ranks and quantiles need; null while undecided",
)
"""Columns that are computed: neither is in a file."""

VIEWS: Mapping[str, tuple[Column, ...]] = {**TABLES, "planned": (*TABLES["plan"], *OUTCOME, CODED)}
"""View to its fixed columns: the tables of files, and `planned`: the plan with what became of each trial."""

MEASURED = {
    "plan": "as in the imported table",
    "trials": "a metric: median over the last 20 % of the evaluations, at least 5; null unless completed",
    "history": "a metric: its value at the evaluation",
}
MEASURED |= {"planned": MEASURED["trials"], "samples": ""}
"""Table to the meaning of the columns that depend on the sweep; samples have none."""


def describe(table: str, names: Iterable[str], *, primary: Mapping[str, Iterable[str]] | None = None) -> list[Column]:
    """The columns of a table that exist, with their meaning.

    Args:
        table: Name of a view.
        names: Names of its columns.
        primary: Metric to the tasks whose primary metric it is, where that is known.
    """
    fixed = {column.name: column for column in (RUN, *VIEWS[table])}
    return [fixed.get(name) or _measured(table, name, (primary or {}).get(name, ())) for name in names]


def _measured(table: str, name: str, tasks: Iterable[str]) -> Column:
    owners = ", ".join(tasks)
    note = f"; the primary metric of {owners}" if owners else ""
    return Column(name, "float64", MEASURED[table] + note)

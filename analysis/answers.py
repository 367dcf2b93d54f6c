"""Answers to questions about a run: the numbers as the statistics return them, as a tidy table, and as a plot."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

import pandas as pd

from analysis.results import Results
from study.errors import UserError, unknown

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Item = TypeVar("Item")

ADAPTIVE = (
    "the configurations were chosen by {sampler}, which looks at results: they are no draws from a prior, and no "
    "fraction here is a fraction of a prior"
)
"""What has to be said of a sweep whose sampler looked at results."""


@dataclass(frozen=True)
class Look:
    """How a table is drawn.

    Attributes:
        kind: "dots": a dot and its interval per row; "lines": a line and its band per series; "steps": the same with
            right-continuous steps, as a distribution function has; "cells": a grid per series, whose places are the
            columns `x_bin` and `y_bin`, named by `x_label` and `y_label` along `x` and `y`.
        value: Column of the number.
        low: Column of its interval's lower end; None without one.
        high: Column of the upper end.
        names: Columns that name a row of dots, or a series.
        label: What the numbers are, on their axis.
        along: Column that lines run along; None for dots.
        along_label: What it is.
        log: True where equal ratios of it are equal steps.
        mark: Where a line marks a value to compare with, as no difference; None without one.
        chance: Column of what chance reaches, marked in the row; None without one.
    """

    kind: Literal["dots", "lines", "steps", "cells"]
    value: str
    low: str | None
    high: str | None
    names: tuple[str, ...]
    label: str
    along: str | None = None
    along_label: str = ""
    log: bool = False
    mark: float | None = None
    chance: str | None = None


@dataclass(frozen=True, repr=False)
class Answer(Generic[Item]):
    """What was asked, under which setting, and the numbers.

    Attributes:
        question: What the numbers are, in words.
        setting: Task, budget, prior and design, which any statement has to name, and what else a reader must know.
        items: The numbers as the statistics return them.
        table: The same as a tidy table.
        look: How it is drawn.
    """

    question: str
    setting: str
    items: tuple[Item, ...]
    table: pd.DataFrame
    look: Look

    def frame(self) -> pd.DataFrame:
        """The numbers as a tidy table; a copy, which may be changed."""
        return self.table.copy()

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw the numbers into the given axes, or into those of a new figure (`.figure`); returns the axes."""
        from analysis.figures.single import plot  # matplotlib takes half a second, which a table does not need

        return plot(self.table, self.look, ax)

    def __repr__(self) -> str:
        """The answer as text, with its setting."""
        return f"{self.question}\n{self.setting}\n{self.table.to_string(index=False)}"

    def _repr_html_(self) -> str:
        """The answer as a notebook shows it."""
        head = pd.DataFrame({"": [self.question, self.setting]}).to_html(index=False, header=False, border=0)
        return head + self.table.to_html(index=False, na_rep="", border=0)


def setting(results: Results, tasks: Iterable[str]) -> str:
    """What any statement about some tasks has to name, and what else a reader must know, in sentences."""
    sentences = [f"On {task}: {results.setting(task)}" for task in tasks]
    if results.adaptive:
        sentences.append(ADAPTIVE.format(sampler=results.adaptive).capitalize())
    if results.open:
        planned = results.open + len(results.trials)
        sentences.append(f"{results.open} of {planned} planned trials have no result yet: interim")
    return " ".join(f"{sentence.rstrip('.')}." for sentence in [*sentences, results.notice] if sentence)


def of_a_prior(results: Results, what: str) -> None:
    """Refuse a question about the prior where a sampler that looked at results chose the configurations.

    Raises:
        UserError: With that sampler's name.
    """
    if results.adaptive:
        raise UserError(f"there is no {what}: {ADAPTIVE.format(sampler=results.adaptive)}")


def without(table: pd.DataFrame, ends: Sequence[str], results: Results) -> pd.DataFrame:
    """A table with these columns emptied where a sampler that looked at results chose the configurations."""
    return table if results.adaptive is None else table.assign(**dict.fromkeys(ends, float("nan")))


def chosen(results: Results, task: str, methods: Sequence[str]) -> tuple[str, ...]:
    """Methods of a task, all where none is named.

    Raises:
        UserError: A method is not planned on the task.
    """
    planned = results.methods_of(task)
    for method in methods:
        if method not in planned:
            raise unknown(f"method of {task}", method, planned)
    return tuple(methods) or planned

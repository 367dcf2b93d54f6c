"""Questions with two sides: success over two hyperparameters, and what tuning for all tasks costs on each of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis import maps, tunability
from analysis.answers import Answer, Look, chosen, of_a_prior, setting, without
from analysis.results import Results
from study.errors import unknown

SEED = 20_240_517
"""Seed of what is drawn at random where no generator is given: the one of the report's figures."""


def over_two(
    results: Results, task: str, x: str, y: str, methods: Sequence[str], *, event: str = "success"
) -> Answer[object]:
    """How often something happens over two hyperparameters, in cells that are equally likely under the prior.

    Args:
        results: The results.
        task: Name of a task.
        x: A hyperparameter that the methods vary, by the sweep file's word.
        y: Another one.
        methods: Names of methods, all of the task without any.
        event: One of `maps.EVENTS`.

    Returns:
        A table with the columns of `maps.COLUMNS`, a row per method and cell; without intervals where a sampler that
        looked at results chose the configurations.

    Raises:
        UserError: For an unknown event or method, or a hyperparameter that does not vary for one of them.
    """
    if event not in maps.EVENTS:
        raise unknown("event", event, maps.EVENTS)
    names = chosen(results, task, methods)
    table = pd.concat([maps.success_map(results, task, name, x, y, event=event) for name in names], ignore_index=True)
    of = "what the search visited" if results.adaptive else "the prior"
    look = Look("cells", "share", "low", "high", ("method",), f"share of {event} in cells of {of}")
    question = f"{event.capitalize()} over {x} and {y}"
    return Answer(question, setting(results, [task]), (), without(table, ("low", "high"), results), look)


def transfer(results: Results, methods: Sequence[str], *, rng: np.random.Generator | None = None) -> Answer[object]:
    """What is lost on each task by tuning a method once for all tasks: `tunability.transfer` for some methods.

    Raises:
        UserError: For an unknown method, or configurations that a sampler chose that looked at results.
    """
    of_a_prior(results, "tunability")
    for method in methods:
        if method not in results.methods:
            raise unknown("method", method, results.methods)
    names = methods or results.methods
    tables = [
        tunability.transfer(results, name, rng=np.random.default_rng(SEED) if rng is None else rng).assign(
            order=results.methods.index(name)
        )
        for name in names
    ]
    filled = [table for table in tables if len(table)]
    table = pd.concat(filled, ignore_index=True) if filled else tables[0]
    label = "expected best score lost by tuning once for all tasks"
    look = Look("dots", "loss", "low", "high", ("method", "task"), label, mark=0.0)
    question = "What tuning once for all tasks loses on each"
    return Answer(question, setting(results, results.tasks), (), table, look)

"""A run's trials as Optuna has them: for each task and method the trials that ended, and what they were drawn from."""

from __future__ import annotations

import datetime
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from analysis.axes import RATIO, WORDS, axes_of, axis_named, hyperparameters, parts_where, ratio
from analysis.results import Results
from search_spaces.domains import Domain, LogUniform, Uniform, Value, When, values_of
from study.errors import UserError
from study.forms import write_domain
from study.schema import Status

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

TRIAL_ATTRIBUTES = (
    *("trial_id", "config", "replicate", "point", "seed", "sampler"),
    *("status", "reason", "success", "diverged_step", "train_seconds", "device"),
)
"""Columns that become user attributes of every trial that has them."""

STATES = {
    Status.COMPLETED.value: "COMPLETE",
    Status.DIVERGED.value: "FAIL",
    Status.OOM.value: "FAIL",
    Status.STOPPED.value: "PRUNED",
}
"""Our status to Optuna's state. A trial without a status has no outcome and is not exported."""

FROM_PRIOR, WIDENED, SEEN = "the prior", "the prior, widened to the values seen", "the values seen: no prior lists them"
"""Where a parameter's distribution comes from."""

TIMES = "a trial's end is when it was exported and its start that many train_seconds before: only those are known"
ADAPTIVE = "configurations were chosen by {sampler}, which looks at results: they are no draws from the prior"

CLOSE = 1e-8
"""Relative distance of numbers that are equal but for rounding: a quotient is kept to nine digits."""


@dataclass(frozen=True)
class Parameter:
    """A hyperparameter that a method's trials draw.

    Attributes:
        word: The sweep file's word for it.
        distribution: Optuna's form of what it is drawn from, the same for every trial.
        values: Row of the outcomes to its value there; rows that lack it are absent.
        origin: Where the distribution comes from, in words.
    """

    word: str
    distribution: BaseDistribution
    values: Mapping[int, Value]
    origin: str


@dataclass(frozen=True)
class Draft:
    """A study before it is written.

    Attributes:
        name: sweep/task/method.
        metric: What the values are, lower is better.
        attributes: The study's user attributes.
        trials: The trials that ended, in the order of the plan.
        missing: Trials without an outcome, which are left out: planned ones, and those that a search has still to ask
            for.
    """

    name: str
    metric: str
    attributes: Mapping[str, Any]
    trials: tuple[FrozenTrial, ...]
    missing: int


def drafts(results: Results) -> list[Draft]:
    """The studies of a run, a task's methods in the order of the plan; those without any outcome are left out.

    Raises:
        UserError: If there is none, or two have the same name.
    """
    curves = _curves(results)
    cells = [(task, method) for task in results.tasks for method in results.methods_of(task)]
    found = [draft for draft in (_draft(results, *cell, curves) for cell in cells) if draft.trials]
    if not found:
        raise UserError(f"no trial of {results.name} has ended: there is nothing to export yet")
    (name, count) = Counter(draft.name for draft in found).most_common(1)[0]
    if count > 1:
        raise UserError(f"two studies would be called {name!r}: rename a task or method that has a slash in its name")
    return found


def _curves(results: Results) -> dict[str, dict[int, float]]:
    """The primary metric of every trial by generator step, where it was measured."""
    history = results.history("trial_id", "generator_steps", "primary").dropna()
    found: dict[str, dict[int, float]] = {}
    for trial_id, step, value in history.sort_values("generator_steps").itertuples(index=False):
        found.setdefault(str(trial_id), {})[int(step)] = float(value)
    return found


def _draft(results: Results, task: str, method: str, curves: Mapping[str, Mapping[int, float]]) -> Draft:
    planned = results.outcomes(task)
    planned = planned[planned["method"] == method]
    rows = planned[planned["status"].notna()].reset_index(drop=True)
    drawn, fixed = _parameters(results, task, method, rows)
    now = datetime.datetime.now()
    trials = [_trial(row, place, drawn, fixed, curves, now) for place, row in enumerate(rows.to_dict("records"))]
    missing = len(planned) - len(rows) + results.unasked.get((task, method), 0)
    about = _about(results, task, method, drawn) | {"planned": len(rows) + missing, "missing": missing}
    return Draft(f"{results.name}/{task}/{method}", results.facts(task).metric, about, tuple(trials), missing)


def _about(results: Results, task: str, method: str, drawn: Sequence[Parameter]) -> dict[str, Any]:
    """What a study's reader must know, as its user attributes."""
    facts = results.facts(task)
    domains = results.domains_of(method)
    found = {
        "sweep": results.name,
        "task": task,
        "method": method,
        "setting": results.setting(task),
        "metric": facts.metric,
        "threshold": facts.threshold,
        "anchor_low": facts.anchor_low,
        "anchor_high": facts.anchor_high,
        "prior": results.prior,
        "domains": {entry.word: write_domain(domains[entry.word]) for entry in drawn if entry.word in domains},
        "distributions": {entry.word: entry.origin for entry in drawn},
        "adaptive": ADAPTIVE.format(sampler=results.adaptive) if results.adaptive else None,
        "notice": results.notice,
        "times": TIMES,
    }
    return {name: value for name, value in found.items() if value is not None}


def _trial(
    row: Mapping[Any, Any],
    place: int,
    drawn: Sequence[Parameter],
    fixed: Mapping[str, Mapping[int, Value]],
    curves: Mapping[str, Mapping[int, float]],
    now: datetime.datetime,
) -> FrozenTrial:
    import optuna

    curve = curves.get(str(row["trial_id"]), {})
    state = optuna.trial.TrialState[STATES[row["status"]]]
    here = [entry for entry in drawn if place in entry.values]
    trial = optuna.trial.create_trial(
        state=state,
        value=_value(row, curve),
        params={entry.word: entry.values[place] for entry in here},
        distributions={entry.word: entry.distribution for entry in here},
        user_attrs={name: values[place] for name, values in fixed.items() if place in values}
        | {name: _plain(row[name]) for name in TRIAL_ATTRIBUTES if not _absent(row.get(name))},
        intermediate_values=dict(curve),
    )
    seconds = row.get("train_seconds")
    trial.datetime_start = now - datetime.timedelta(seconds=0.0 if _absent(seconds) else float(str(seconds)))
    trial.datetime_complete = now
    return trial


def _value(row: Mapping[Any, Any], curve: Mapping[int, float]) -> float | None:
    """A completed trial's primary metric; of a stopped one, the last that was measured; a failed one has none."""
    if row["status"] == Status.COMPLETED.value:
        return float(row["primary"])
    return curve[max(curve)] if row["status"] == Status.STOPPED.value and curve else None


def _plain(value: Any) -> Any:  # noqa: ANN401  # any cell of a table
    """A cell as JSON can hold it."""
    return value.item() if hasattr(value, "item") else value


def _absent(value: object) -> bool:
    return value is None or value is pd.NA or value != value


# What hyperparameters are drawn from


def _parameters(
    results: Results, task: str, method: str, rows: pd.DataFrame
) -> tuple[list[Parameter], dict[str, dict[int, Value]]]:
    """The hyperparameters that a method's trials draw; and those that are fixed, word to row to value."""
    drawn, fixed = [], {}
    axes, domains = axes_of(results, task, method), results.domains_of(method)
    for column in hyperparameters(results) if len(rows) else ():
        word, cells = _drawn_column(column, rows, domains)
        if word == RATIO:
            fixed[column] = _values(rows[column])
        known = cells.dropna()
        domain = domains.get(word, domains.get(column))
        found = parts_where(domain, rows)
        parts = [part for part, mask in found if part is not None and mask[known.index.to_numpy()].any()]
        values = _values(_snapped(known, parts) if word == RATIO else known)
        axis = axis_named(axes, word)
        distribution, origin = _distribution(list(values.values()), parts, log=axis is not None and axis.log)
        if distribution is None:
            fixed[word] = values
        else:
            drawn.append(Parameter(word, distribution, values, origin))
    return drawn, fixed


def _drawn_column(column: str, rows: pd.DataFrame, domains: Mapping[str, Domain | When]) -> tuple[str, pd.Series]:
    """What a sweep draws of a column: of the discriminator's learning rate, its quotient with the generator's."""
    if column == "lr_d" and "lr_g" in rows.columns and "lr_d" not in domains:
        return RATIO, ratio(rows)
    return WORDS.get(column, column), rows[column]


def _values(cells: pd.Series) -> dict[int, Value]:
    """Row to value of the rows that have one: numbers as Python's, everything else as texts."""
    known = cells.dropna()
    numeric = pd.api.types.is_numeric_dtype(known) and not pd.api.types.is_bool_dtype(known)
    plain = known.tolist() if numeric else [str(value) for value in known]
    return dict(zip(known.index.tolist(), plain, strict=True))


def _snapped(cells: pd.Series, parts: Sequence[Domain]) -> pd.Series:
    """Numbers that were computed, and are within rounding of a number that the prior names, as that number."""
    named = [float(value) for part in parts for value in values_of(part)]

    def near(value: float) -> float:
        closest = min(named, key=lambda other: abs(other - value), default=value)
        return closest if math.isclose(closest, value, rel_tol=CLOSE) else value

    return cells.map(near)


def _distribution(
    values: Sequence[Value], parts: Sequence[Domain], *, log: bool
) -> tuple[BaseDistribution | None, str]:
    """What values are drawn from, with its origin; None for what is the same in all trials and in the prior.

    Args:
        values: Those of all trials that have one.
        parts: The plain domains that they were drawn from, none where no prior says.
        log: Whether a range that no prior says is logarithmic.
    """
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    seen = set(values)
    text = any(isinstance(value, str) for value in seen)
    ranges = [part for part in parts if isinstance(part, Uniform | LogUniform)]
    named = list(dict.fromkeys(_named(value, text=text) for part in parts for value in values_of(part)))
    if not ranges and len({*named, *seen} if seen <= {*named} else seen) < 2:
        return None, ""
    if not ranges and seen <= {*named}:
        return CategoricalDistribution(named), FROM_PRIOR
    if text:
        return CategoricalDistribution(sorted(map(str, seen))), SEEN
    numbers, ends = [float(value) for value in seen], [float(value) for value in named] if ranges else []
    low, high = min([*numbers, *ends]), max([*numbers, *ends])
    log = low > 0 and (isinstance(ranges[0], LogUniform) if ranges else log)
    inside = ranges and math.isclose(low, min(ends), rel_tol=CLOSE) and math.isclose(high, max(ends), rel_tol=CLOSE)
    return FloatDistribution(low, high, log=log), FROM_PRIOR if inside else WIDENED if ranges else SEEN


def _named(value: Value, *, text: bool) -> Value:
    """A value of the prior as the tables keep it: a text, or a number to twelve digits."""
    return str(value) if text else float(f"{value:.12g}") if isinstance(value, float) else value

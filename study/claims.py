"""Claims: what a sweep file states before it runs.

A claim is one statement of a paper in machine form. It holds where all its checks hold; a check is one number, of one
method, of two, or of a layout of four, against a margin that was fixed before the run. What the numbers are is said in
`MEASURES`; `study.claim_forms` reads claims, `study.statements` remembers when each was stated, and `analysis.claims`
computes and judges them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search_spaces.conditions import ConditionError, parse_condition
from study.errors import UserError
from study.trial import digest
from study.trials import Trials

MARGIN = 0.05
"""Differences of a log-AUC or of a fraction below this are practically equal, unless a claim says otherwise."""

LEAST = 20
"""Design points that a region has to hold: fewer say nothing about it."""

FAMILY = "claims"
"""The family of claims that name none."""

DIRECTIONS = {
    "higher": "above {against} by more than {margin}",
    "lower": "below {against} by more than {margin}",
    "not_lower": "not below {against} by {margin} or more",
    "not_higher": "not above {against} by {margin} or more",
    "equal": "within {margin} of {against}",
    "differ": "further than {margin} from {against}",
}
"""What a check may state of its number, and how that reads."""

AT = ("tail", "last", "best")
"""Which value of a metric stands for a trial: the median of the last fifth, the last, or at the evaluation that is best
on the selection split (the primary metric's only)."""

UNITS = ("generator_steps", "discriminator_steps")
"""What an earlier budget may be counted in."""


@dataclass(frozen=True)
class Measure:
    """What a measure is and which keys it takes.

    Attributes:
        meaning: One line.
        low: Least value of the number for one method.
        high: Greatest value.
        takes: Keys that it takes beside those of every check.
        needs: Those of them that have to be given.
        alone: True where a single method has such a number.
        layouts: True where numbers of four methods make an interaction.
        seeds: True where it needs several seeds of a configuration.
    """

    meaning: str
    low: float
    high: float
    takes: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    alone: bool = True
    layouts: bool = False
    seeds: bool = False


_VALUE = ("metric", "at", "steps", "unit")
_SCORE = (*_VALUE, "anchors")
_TIME = ("metric", "steps", "unit")
MEASURES: dict[str, Measure] = {
    "success": Measure(
        "share of configurations whose metric is in the wanted range; of the primary metric, at most the threshold",
        *(0.0, 1.0),
        takes=(*_VALUE, "at_most", "at_least"),
        layouts=True,
    ),
    "log_auc": Measure(
        "mean score: 1 at the good anchor, 0 at the bad one and for a failure, linear in the metric's logarithm",
        *(0.0, 1.0),
        takes=_SCORE,
        layouts=True,
    ),
    "failures": Measure(
        "share of configurations that diverged or ran out of memory", 0.0, 1.0, takes=("steps", "unit"), layouts=True
    ),
    "improvement": Measure(
        "probability that the first method's metric is better on the same configuration, ties counting half, minus 1/2",
        *(-0.5, 0.5),
        takes=(*_VALUE, "better"),
        alone=False,
    ),
    "best_of": Measure("expected best score among k configurations", 0.0, 1.0, takes=(*_SCORE, "k"), needs=("k",)),
    "spread": Measure("interquartile range of the score over configurations", 0.0, 1.0, takes=_SCORE),
    "seed_spread": Measure(
        "standard deviation of the score over the seeds of a configuration, mean over configurations",
        *(0.0, math.sqrt(0.5)),
        takes=_SCORE,
        seeds=True,
    ),
    "rising": Measure(
        "share of the intervals between evaluations, up to the first success, in which the metric rises, of trials "
        "that end in success",
        *(0.0, 1.0),
        takes=(*_TIME, "tolerance"),
    ),
    "trend": Measure("Spearman's correlation of a metric with time, within a trial", -1.0, 1.0, takes=_TIME),
    "association": Measure(
        "Spearman's correlation, within a trial, of a metric with what another one gains over the next evaluations",
        *(-1.0, 1.0),
        takes=(*_TIME, "later", "lag"),
        needs=("metric", "later"),
    ),
}
"""What a check may measure."""

COURSE = ("rising", "trend", "association")
"""Measures of how training went, not of where it ended."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """One number that has to be as stated.

    Attributes:
        measure: Key of `MEASURES`.
        methods: One method (against a number), two (the first minus the second), or more (the first minus each of the
            others, all of which have to hold); with `interaction`, four: (1st - 2nd) - (3rd - 4th).
        tasks: Tasks on each of which it has to hold; empty for all tasks of the sweep.
        direction: Key of `DIRECTIONS`.
        margin: How far from `against` counts; at least 0, in the measure's unit.
        against: The number that the measure is compared with; 0 between methods.
        where: The region, a condition on the first method's hyperparameters; None for all of the prior.
        range: Name of a region of the file's [ranges], joined to `where`; None without.
        control: A method whose number is taken off a single method's, at the same configuration; None without.
        interaction: True for the layout of four methods.
        metric: Name of a metric column; None for the task's primary metric.
        at: Which value of the metric, one of `AT`.
        steps: An earlier budget at which trials are looked at; None for the end.
        unit: What `steps` counts, one of `UNITS`.
        at_most: Success is a value of at most this; None for no such bound, or the threshold of a primary metric.
        at_least: Success is a value of at least this; None for no such bound.
        anchors: Values of the metric that score 1 and 0, both positive; None for the task's own.
        better: "lower" or "higher": which values of the metric are better.
        k: Configurations of which the best counts.
        tolerance: Relative rise that is still evaluation noise.
        later: Name of the metric that follows.
        lag: Evaluations after which it is looked at.
    """

    measure: str
    methods: tuple[str, ...]
    tasks: tuple[str, ...] = ()
    direction: str = "higher"
    margin: float = MARGIN
    against: float = 0.0
    where: str | None = None
    range: str | None = None
    control: str | None = None
    interaction: bool = False
    metric: str | None = None
    at: str = "tail"
    steps: int | None = None
    unit: str = "generator_steps"
    at_most: float | None = None
    at_least: float | None = None
    anchors: tuple[float, float] | None = None
    better: str = "lower"
    k: int | None = None
    tolerance: float = 0.05
    later: str | None = None
    lag: int = 1


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A statement that a sweep tests.

    Attributes:
        id: Its name in the file, unique there.
        statement: What it says, in words.
        source: Paper and section.
        checks: The numbers that have to be as stated, all of them.
        family: Claims of one family share the chance of a false verdict (Holm).
    """

    id: str
    statement: str
    source: str
    checks: tuple[Check, ...]
    family: str = FAMILY


def looks_back(check: Check) -> bool:
    """True where a check is about how trials stood on their way, not at their end alone."""
    return check.steps is not None or check.at == "best" or check.measure in COURSE


def differences(check: Check) -> bool:
    """True where a check is about a difference, between methods or from a control."""
    return len(check.methods) > 1 or check.control is not None


def write_claim(claim: Claim) -> dict[str, Any]:
    """The sweep file's form of a claim, everything said in its measures; defaults are left out."""
    defaults = {field.name: field.default for field in fields(Check)}
    checks = [
        {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(check).items()}
        for check in claim.checks
    ]
    measures = [{key: value for key, value in check.items() if value not in (defaults[key], [])} for check in checks]
    own = {"id": claim.id, "statement": claim.statement, "source": claim.source, "family": claim.family}
    return own | {"measures": measures}


def resolved(claims: Sequence[Claim], *, tasks: Sequence[str], ranges: Mapping[str, str]) -> tuple[Claim, ...]:
    """Claims that say by themselves what they say: tasks named, and named ranges written out as conditions."""
    return tuple(
        replace(claim, checks=tuple(_resolved(check, tuple(tasks), ranges) for check in claim.checks))
        for claim in claims
    )


def _resolved(check: Check, tasks: tuple[str, ...], ranges: Mapping[str, str]) -> Check:
    where = check.where
    if check.range is not None:
        where = f"({ranges[check.range]}) and ({where})" if where else ranges[check.range]
    return replace(check, tasks=check.tasks or tasks, where=where, range=None)


def digest_of(claim: Claim) -> str:
    """Content hash of a resolved claim: its words, and whatever decides its verdict; not its place in the file."""
    return digest(write_claim(claim))


@dataclass(frozen=True)
class Region:
    """How much of a sweep a check looks at.

    Attributes:
        claim: The claim's id.
        measure: The check's measure.
        method: The method that the region's condition is about.
        task: Name of the task.
        where: The condition; None for all of the prior.
        points: Design points in the region, the units of independence.
        planned: Design points of the method on the task.
    """

    claim: str
    measure: str
    method: str
    task: str
    where: str | None
    points: int
    planned: int


def regions(claims: Sequence[Claim], trials: Trials) -> list[Region]:
    """The region of every check of some resolved claims on every task, in the order of the claims."""
    found = []
    for claim in claims:
        for check in claim.checks:
            for task in check.tasks:
                cell = trials.cell(task, check.methods[0])
                points = cell.take(_inside(check.where, cell)).points()
                found.append(
                    Region(claim.id, check.measure, check.methods[0], task, check.where, points, cell.points())
                )
    return found


def region_rows(claims: Sequence[Claim], trials: Trials) -> list[dict[str, Any]]:
    """The regions as rows, those of one claim that are alike once."""
    rows = [
        {
            "claim": region.claim,
            "task": region.task,
            "method": region.method,
            "region": region.where or "all of the prior",
            "points": region.points,
            "of": region.planned,
        }
        for region in regions(claims, trials)
    ]
    return [row for index, row in enumerate(rows) if row not in rows[:index]]


def _inside(where: str | None, trials: Trials) -> NDArray[np.bool_]:
    if where is None or not len(trials):
        return np.ones(len(trials), np.bool_)
    condition = parse_condition(where)
    try:
        return condition.holds({name: _hyperparameter(trials, name) for name in condition.names})
    except ConditionError as error:
        raise UserError(str(error)) from None


def _hyperparameter(trials: Trials, name: str) -> NDArray[Any]:
    if name == "lr_d_ratio":
        ratios = trials.values("lr_d") / trials.values("lr_g")
        # as the analysis has it, of rates rounded to twelve digits
        return np.array([float(f"{ratio:.9g}") for ratio in ratios.tolist()])
    return trials.values("lr_g" if name == "lr" else name)


def refuse_small_regions(claims: Sequence[Claim], trials: Trials) -> None:
    """Refuse claims about regions that hold too few design points for any verdict.

    Raises:
        UserError: With the region, its points, and what to change.
    """
    for region in regions(claims, trials):
        if region.points < LEAST:
            place = f"the region {region.where!r} of {region.method}" if region.where else "the design"
            change = "widen the region, or raise" if region.where else "raise"
            raise UserError(
                f"claims.{region.claim}: {place} holds {region.points} of {region.planned} design points on "
                f"{region.task}, and a claim needs {LEAST}: {change} design.points or design.replicates"
            )

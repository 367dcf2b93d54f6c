"""The sweep file's form of claims: strictly read, one sentence for whatever may not be."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any, TypeVar

from search_spaces.conditions import parse_condition
from search_spaces.hyperparameters import HYPERPARAMETERS
from study.claims import AT, DIRECTIONS, FAMILY, MEASURES, UNITS, Check, Claim, differences
from study.errors import UserError, unknown
from study.trial import Hyperparameters

T = TypeVar("T")


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("must be a text in quotes")
    return value


def _texts(value: object) -> tuple[str, ...]:
    items = value if isinstance(value, list | tuple) else [value]
    if not items or not all(isinstance(item, str) for item in items):
        raise ValueError("must be a list of names")
    if len(set(items)) != len(items):
        raise ValueError("names something twice")
    return tuple(items)


def _number(value: object, low: float = -math.inf) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < low:
        raise ValueError("must be a number" + (f", at least {low:g}" if low > -math.inf else ""))
    return float(value)


def _whole(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 10**12:
        raise ValueError("must be a whole number, at least 1")
    return value


def _truth(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def _one_of(*names: str) -> Callable[[object], str]:
    def read(value: object) -> str:
        if value not in names:
            raise ValueError(f"must be one of {', '.join(names)}")
        return str(value)

    return read


def _anchors(value: object) -> tuple[float, float]:
    numbers = [_number(item) for item in value] if isinstance(value, list | tuple) else []
    if len(numbers) != 2 or min(numbers) <= 0 or numbers[0] == numbers[1]:
        raise ValueError("must be two different positive numbers, the value that scores 1 and the one that scores 0")
    return numbers[0], numbers[1]


def _condition(value: object) -> str:
    text = _text(value)
    known = {*HYPERPARAMETERS, *(field.name for field in fields(Hyperparameters))}
    for name in parse_condition(text).names:
        if name not in known:
            raise unknown("hyperparameter in a condition:", name, known)
    return text


_READERS: dict[str, Callable[[object], Any]] = {
    "measure": _one_of(*MEASURES),
    "methods": _texts,
    "tasks": _texts,
    "direction": _one_of(*DIRECTIONS),
    "margin": lambda value: _number(value, 0.0),
    "against": _number,
    "where": _condition,
    "range": _text,
    "control": _text,
    "interaction": _truth,
    "metric": _text,
    "at": _one_of(*AT),
    "steps": _whole,
    "unit": _one_of(*UNITS),
    "at_most": _number,
    "at_least": _number,
    "anchors": _anchors,
    "better": _one_of("lower", "higher"),
    "k": _whole,
    "tolerance": lambda value: _number(value, 0.0),
    "later": _text,
    "lag": _whole,
}
_OWN = ("id", "statement", "source", "family", "measures")
_ALWAYS = ("measure", "methods", "tasks", "direction", "margin", "against", "where", "range", "control", "interaction")


def read_claim(raw: object) -> Claim:
    """Turn an entry of [[claims]] into a claim.

    Whatever a check may say can stand in the claim itself, for all its measures, or in one of them.

    Raises:
        UserError: One sentence for the first thing that may not be.
    """
    if isinstance(raw, Claim):
        return raw
    if not isinstance(raw, Mapping):
        raise UserError("claims must be tables: begin each with [[claims]]")
    name = raw.get("id")
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise UserError(f"claims.id = {name!r}: each claim needs an id of letters, digits, '.', '_' and '-'")
    where = f"claims.{name}"
    given = {"family": FAMILY, **raw}
    own = {key: _read(where, key, given.get(key), _text) for key in ("statement", "source", "family")}
    measures = raw.get("measures")
    if not isinstance(measures, list | tuple) or not measures:
        raise UserError(f"{where}.measures is missing: a list of {', '.join(MEASURES)}, or of tables with a measure")
    shared = {key: value for key, value in raw.items() if key not in _OWN}
    entries = [{"measure": entry} if isinstance(entry, str) else entry for entry in measures]
    checks = tuple(_read_check(where, shared, entry) for entry in entries)
    used = {key for check in checks for key in (*_ALWAYS, *MEASURES[check.measure].takes)}
    for key in shared:
        if key not in used:
            raise UserError(f"{where}.{key}: none of its measures takes {key}")
    return Claim(id=name, checks=checks, **own)


def _read_check(where: str, shared: Mapping[str, object], entry: object) -> Check:
    if not isinstance(entry, Mapping):
        raise UserError(f"{where}.measures must hold names or tables with a measure, got {entry!r}")
    given = {**shared, **entry}
    for key in given:
        if key not in _READERS:
            near = difflib.get_close_matches(key, (*_OWN, *_READERS), n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise UserError(f"unknown key {key!r} in {where}: {hint}known are {', '.join((*_OWN, *_READERS))}")
    for key in ("measure", "methods"):
        if key not in given:
            raise UserError(f"{where}.{key} is missing")
    read = {key: _read(where, key, value, _READERS[key]) for key, value in given.items()}
    taken = MEASURES[read["measure"]].takes
    for key in [key for key in read if key not in (*_ALWAYS, *taken)]:
        if key in entry:
            raise UserError(f"{where}.{key}: the measure {read['measure']} takes no {key}, but {', '.join(taken)}")
        del read[key]  # said for all measures of the claim, of which this one has no use for it
    check = Check(**read)
    _check_sense(where, check)
    return check


def _read(where: str, key: str, value: object, reader: Callable[[object], T]) -> T:
    if value is None:
        raise UserError(f"{where}.{key} is missing")
    try:
        return reader(value)
    except (ValueError, UserError) as error:
        raise UserError(f"{where}.{key} = {value!r}: {error}") from None


def _check_sense(where: str, check: Check) -> None:
    """Refuse a check whose parts do not go together."""
    measure, named = MEASURES[check.measure], check.metric is not None
    missing = [key for key in measure.needs if getattr(check, key) is None]
    boundless = check.at_most is None and check.at_least is None
    layouts = ", ".join(name for name, entry in MEASURES.items() if entry.layouts)
    faults = (
        (bool(missing), f"the measure {check.measure} needs {', '.join(missing)}"),
        (
            check.measure == "success" and named and boundless,
            "success of a metric other than the primary one needs at_most or at_least",
        ),
        (
            "anchors" in measure.takes and named and check.anchors is None,
            "the score of a metric other than the primary one needs anchors, the values that score 1 and 0",
        ),
        (
            check.at == "best" and (named or check.steps is not None),
            "at = 'best' is known of the primary metric only, and at the end",
        ),
        (not measure.alone and len(check.methods) == 1, f"the measure {check.measure} compares two methods"),
        (
            check.interaction and (len(check.methods) != 4 or not measure.layouts),
            f"interaction takes four methods, (1st - 2nd) - (3rd - 4th), and one of the measures {layouts}",
        ),
        (
            check.control is not None and len(check.methods) > 1,
            "control is for a single method: two methods are each other's",
        ),
        (
            check.against != 0.0 and differences(check),
            "against is for a single method without a control: a difference is compared with 0",
        ),
        (check.direction == "equal" and check.margin == 0.0, "no number is shown to be equal up to a margin of 0"),
    )
    for broken, fault in faults:
        if broken:
            raise UserError(f"{where}: {fault}")


def check_claims(
    claims: Sequence[Claim],
    *,
    methods: Sequence[str],
    tasks: Sequence[str],
    ranges: Mapping[str, str],
    metrics: Callable[[str], Iterable[str]] | None,
    steps: tuple[int, str],
    seeds: int | None,
) -> None:
    """Refuse claims that the sweep cannot test.

    Args:
        claims: The claims.
        methods: The sweep's methods.
        tasks: Its tasks.
        ranges: Its [ranges].
        metrics: Metrics of a task by name; None where tasks are not to be looked up.
        steps: The sweep's budget and its unit.
        seeds: The design's seeds; None where unknown.

    Raises:
        UserError: One sentence for the first fault.
    """
    for name, condition in ranges.items():
        _read("ranges", name, condition, _condition)
    names = [claim.id for claim in claims]
    for claim in claims:
        where = f"claims.{claim.id}"
        if names.count(claim.id) > 1:
            raise UserError(f"two claims have the id {claim.id!r}: each needs its own")
        for check in claim.checks:
            for key, used, known in (
                ("methods", [*check.methods, *([check.control] if check.control else [])], methods),
                ("tasks", check.tasks, tasks),
                ("range", [check.range] if check.range else [], ranges or ["none: there is no [ranges]"]),
            ):
                for item in used:
                    if item not in known:
                        raise unknown(f"name in {where}.{key}:", item, known)
            _check_measured(where, check, metrics=metrics, tasks=check.tasks or tasks, steps=steps, seeds=seeds)


def _check_measured(
    where: str,
    check: Check,
    *,
    metrics: Callable[[str], Iterable[str]] | None,
    tasks: Sequence[str],
    steps: tuple[int, str],
    seeds: int | None,
) -> None:
    for task in tasks if metrics else ():
        for metric in (check.metric, check.later):
            if metrics and metric is not None and metric not in metrics(task):
                raise unknown(f"metric in {where} on {task}:", metric, metrics(task))
    if check.steps is not None and check.unit == steps[1] and check.steps > steps[0]:
        raise UserError(f"{where}.steps = {check.steps}: trials end after {steps[0]} {steps[1]}")
    if MEASURES[check.measure].seeds and seeds == 1:
        raise UserError(f"{where}: the measure {check.measure} needs design.seeds of at least 2")

"""What a user says about results that were made elsewhere: on the command line, in a mapping file, or both."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from analysis.imported.source import ENDINGS
from search_spaces.domains import Domain, DomainError, When
from study.errors import UserError, unknown
from study.forms import read_domain

GIVEN = "="
"""What a text begins with that is a name itself, not the name of a column."""


@dataclass(frozen=True)
class Facts:
    """What decides about success, in the metric's own unit.

    Attributes:
        threshold: Success is this or better.
        anchors: The values that score 1 and 0, in this order.
        ideal: A value that nothing can be better than; the distance from it is what is analysed.
    """

    threshold: float | None = None
    anchors: tuple[float, float] | None = None
    ideal: float | None = None


@dataclass(frozen=True)
class Declaration:
    """What the source does not say itself; None and empty where the user said nothing.

    Attributes:
        facts: For every task.
        tasks: For one task each; what is None there is as for every task.
        metric: Name of the metric.
        maximise: True where higher is better, False where lower is.
        method: Column that names the method, or "=NAME".
        task: Column that names the task, or "=NAME".
        config: Column that names the configuration.
        seed: Column of the seed.
        status: Column of the ending.
        sampler: How the configurations were chosen.
        prior: Name of what they were drawn from.
        budget: Steps of a whole trial.
        unit: What those are steps of.
        params: Hyperparameters, by their names in the source.
        map: Our name of a hyperparameter to the source's.
        means: The source's word for an ending to ours.
        domains: Hyperparameter, by our name, to its domain.
        errors: What a trial that ended in an error counts as, "lost" or "diverged".
        early: What a trial that ended before the others counts as, "stopped" or "completed".
        value: Which of its values a trial is judged by, "last" or "tail".
    """

    facts: Facts = Facts()
    tasks: Mapping[str, Facts] = field(default_factory=dict)
    metric: str | None = None
    maximise: bool | None = None
    method: str | None = None
    task: str | None = None
    config: str | None = None
    seed: str | None = None
    status: str | None = None
    sampler: str | None = None
    prior: str | None = None
    budget: int | None = None
    unit: str | None = None
    params: tuple[str, ...] = ()
    map: Mapping[str, str] = field(default_factory=dict)
    means: Mapping[str, str] = field(default_factory=dict)
    domains: Mapping[str, Domain | When] = field(default_factory=dict)
    errors: str | None = None
    early: str | None = None
    value: str | None = None

    def facts_of(self, task: str) -> Facts:
        """The facts of a task, its own before those of every task."""
        own = self.tasks.get(task, Facts())
        found = {f.name: getattr(own, f.name) for f in fields(Facts)}
        return Facts(**{name: getattr(self.facts, name) if value is None else value for name, value in found.items()})


def _number(where: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UserError(f"{where} = {value!r}: must be a number")
    if not math.isfinite(value):
        raise UserError(f"{where} = {value!r}: must be a finite number")
    return float(value)


def _anchors(where: str, value: object) -> tuple[float, float]:
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise UserError(f"{where} = {value!r}: must be two numbers, the value that scores 1 and the one that scores 0")
    return _number(where, value[0]), _number(where, value[1])


def _text(where: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise UserError(f"{where} = {value!r}: must be a text")
    return value


def _truth(where: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise UserError(f"{where} = {value!r}: must be true or false")
    return value


def _steps(where: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UserError(f"{where} = {value!r}: must be a whole number, at least 1")
    return value


def _names(where: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list | tuple):
        raise UserError(f"{where} = {value!r}: must be a list of texts")
    return tuple(_text(where, entry) for entry in value)


def _texts(where: str, value: object) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise UserError(f"{where} = {value!r}: must be a table of texts")
    return {str(name): _text(f"{where}.{name}", entry) for name, entry in value.items()}


def _means(where: str, value: object) -> dict[str, str]:
    found = _texts(where, value)
    for word, ending in found.items():
        if ending not in ENDINGS:
            raise unknown(f"ending in {where}.{word}:", ending, ENDINGS)
    return found


def _domains(where: str, value: object) -> dict[str, Domain | When]:
    if not isinstance(value, Mapping):
        raise UserError(f"{where} = {value!r}: must be a table of domains")
    found = {}
    for name, raw in value.items():
        try:
            found[str(name)] = read_domain(raw)
        except (ValueError, DomainError) as error:
            raise UserError(f"{where}.{name}: {error}") from None
    return found


def _one_of(*choices: str) -> Callable[[str, object], str]:
    def read(where: str, value: object) -> str:
        if value not in choices:
            raise UserError(f"{where} = {value!r}: must be one of {', '.join(choices)}")
        return str(value)

    return read


_FACTS: dict[str, Callable[[str, Any], Any]] = {"threshold": _number, "anchors": _anchors, "ideal": _number}

_READERS: dict[str, Callable[[str, Any], Any]] = {
    **dict.fromkeys(("metric", "method", "task", "config", "seed", "status", "sampler", "prior", "unit"), _text),
    **{"maximise": _truth, "budget": _steps, "params": _names, "map": _texts, "means": _means, "domains": _domains},
    **{
        "errors": _one_of("lost", "diverged"),
        "early": _one_of("stopped", "completed"),
        "value": _one_of("last", "tail"),
    },
}


def read_mapping(path: Path) -> dict[str, Any]:
    """The content of a mapping file.

    Raises:
        UserError: If it cannot be read or is not TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not a UTF-8 text file"
        raise UserError(f"cannot read the mapping file {path}: {reason}") from None
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path} is not TOML: {error}") from None


def declare(content: Mapping[str, Any], options: Mapping[str, Any]) -> Declaration:
    """A mapping file's content and the command line's options as one declaration; options go first.

    Args:
        content: Names as in `Declaration`, with those of `Facts` beside them, and tables of `Facts` under `tasks`.
        options: The same names; None and empty ones say nothing, tables add to those of the file.

    Raises:
        UserError: For an unknown name or a value that may not be.
    """
    tasks = content.get("tasks", {})
    plain = _read("", {name: value for name, value in content.items() if name != "tasks"})
    said = _read("--", {name: value for name, value in options.items() if value is not None and value not in ((), {})})
    merged = plain | {
        name: {**plain.get(name, {}), **value} if isinstance(value, Mapping) else value for name, value in said.items()
    }
    if not isinstance(tasks, Mapping) or any(not isinstance(entry, Mapping) for entry in tasks.values()):
        raise UserError("tasks must be tables, e.g. [tasks.cifar10]")
    facts = {name: merged.pop(name) for name in _FACTS if name in merged}
    own = {str(task): Facts(**_read(f"tasks.{task}.", entry, _FACTS)) for task, entry in tasks.items()}
    return Declaration(facts=Facts(**facts), tasks=own, **merged)


def _read(
    where: str, raw: Mapping[str, Any], readers: Mapping[str, Callable[[str, Any], Any]] | None = None
) -> dict[str, Any]:
    known = readers or {**_READERS, **_FACTS}
    for name in raw:
        if name not in known:
            raise unknown("key of the mapping file", f"{where}{name}", known)
    return {name: known[name](f"{where}{name}", value) for name, value in raw.items()}

"""The sweep file's forms of a domain: from TOML's values to domains and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from search_spaces.domains import Choice, Cross, Domain, Fixed, LogUniform, Published, Uniform, When

FORMS = (
    "a number, {uniform = [low, high]}, {log_uniform = [low, high]}, {choice = [...]}, {cross = [...]} or 'published'"
)


def read_domain(raw: object) -> Domain | When:
    """Turn what a sweep file says of a hyperparameter into a domain.

    Raises:
        ValueError: With the rule, for anything else than the documented forms.
    """
    if isinstance(raw, Domain | When):
        return raw
    if isinstance(raw, bool) or not isinstance(raw, int | float | str | dict):
        raise ValueError(f"must be {FORMS}")
    if raw == "published":
        return Published()
    if not isinstance(raw, dict):
        return Fixed(raw)
    if "when" in raw:
        return _read_when(raw)
    if len(raw) != 1 or next(iter(raw)) not in _READERS:
        raise ValueError(f"must be {FORMS}")
    kind, argument = next(iter(raw.items()))
    if not isinstance(argument, list):
        raise ValueError(f"{kind} takes a list, got {argument!r}")
    return _READERS[kind](argument)


def _interval(kind: type[Uniform] | type[LogUniform], name: str, argument: list[Any]) -> Domain:
    if len(argument) != 2 or any(isinstance(x, bool) or not isinstance(x, int | float) for x in argument):
        raise ValueError(f"{name} takes two numbers, written without quotes, got {argument}")
    return kind(float(argument[0]), float(argument[1]))


_READERS: dict[str, Callable[[list[Any]], Domain]] = {
    "uniform": lambda argument: _interval(Uniform, "uniform", argument),
    "log_uniform": lambda argument: _interval(LogUniform, "log_uniform", argument),
    "choice": lambda argument: Choice(tuple(argument)),
    "cross": lambda argument: Cross(tuple(argument)),
}
CONDITIONS = {"optimiser": "structure", "n_critic": "structure", "penalty": "method"}
"""What a domain may depend on; methods share a configuration, so only a method's own numbers may follow its penalty."""


def _read_when(raw: Mapping[str, Any]) -> When:
    when = raw["when"]
    if not isinstance(when, dict) or len(when) != 1 or next(iter(when)) not in CONDITIONS:
        raise ValueError(f"'when' names exactly one of {', '.join(CONDITIONS)}, e.g. when.optimiser.sgd = {{...}}")
    name, cases = next(iter(when.items()))
    if not isinstance(cases, dict):
        raise ValueError(f"when.{name} needs a domain for each value, e.g. when.{name}.VALUE = {{...}}")
    rest = {key: value for key, value in raw.items() if key != "when"}
    read = {case: read_domain(domain) for case, domain in cases.items()}
    otherwise = read_domain(rest) if rest else None
    if any(isinstance(domain, When | Cross) for domain in [*read.values(), otherwise]):
        raise ValueError("a 'when' takes plain domains: no 'when' or 'cross' inside")
    return When(name, read, otherwise)  # type: ignore[arg-type]  # no When among them: refused just above


def write_domain(domain: Domain | When) -> object:
    """The sweep file's form of a domain."""
    match domain:
        case Fixed(value):
            return value
        case Uniform(low, high):
            return {"uniform": [low, high]}
        case LogUniform(low, high):
            return {"log_uniform": [low, high]}
        case Choice(values):
            return {"choice": list(values)}
        case Cross(values):
            return {"cross": list(values)}
        case Published():
            return "published"
        case When(name, cases, otherwise):
            rest = write_domain(otherwise) if otherwise is not None else {}
            inner = {case: write_domain(part) for case, part in cases.items()}
            return {"when": {name: inner}} | (rest if isinstance(rest, dict) else {"choice": [rest]})

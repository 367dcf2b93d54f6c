"""The sweep file: what it may say, and one sentence for whatever it may not."""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    field_validator,
    model_validator,
)

from search_spaces.domains import (
    Choice,
    Cross,
    Domain,
    DomainError,
    Fixed,
    LogUniform,
    Published,
    Uniform,
    When,
    values_of,
)
from search_spaces.hyperparameters import HYPERPARAMETERS, STRUCTURE
from search_spaces.spaces import SPACES
from study.errors import UserError, unknown
from study.methods import parse_method
from study.penalties import PENALTIES
from study.tasks.table import TASKS
from study.trial import BUDGET_UNITS

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
    return When(name, read, otherwise)  # type: ignore[arg-type]


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


AnyDomain = Annotated[Any, BeforeValidator(read_domain), PlainSerializer(write_domain)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class BudgetTable(_Table):
    """[budget]: how long each trial trains and how often it is measured."""

    unit: str = "generator_steps"
    steps: int = Field(gt=0)
    evaluations: int = Field(default=25, gt=0)

    @field_validator("unit")
    @classmethod
    def _known(cls, unit: str) -> str:
        if unit not in BUDGET_UNITS:
            raise ValueError(f"must be one of {', '.join(BUDGET_UNITS)}")
        return unit


def _check_domains(domains: Mapping[str, Domain | When]) -> None:
    for name, domain in domains.items():
        if name not in HYPERPARAMETERS:
            raise unknown("hyperparameter", name, HYPERPARAMETERS)
        entry = HYPERPARAMETERS[name]
        for value in values_of(domain):
            fault = entry.fault(value)
            # a uniform interval may touch an excluded end: it is drawn with probability zero
            if fault and not (isinstance(domain, Uniform) and value in (entry.low, entry.high)):
                raise UserError(f"{name} = {json.dumps(value)}: {fault}")
        _check_kind(name, domain)


def _check_kind(name: str, domain: Domain | When) -> None:
    role = HYPERPARAMETERS[name].role
    if role == "structure" and not isinstance(domain, Fixed | Cross):
        raise UserError(f"{name} changes the program: give one value or cross it, e.g. {name} = {{ cross = [...] }}")
    if role != "structure" and isinstance(domain, Cross):
        raise UserError(f"{name} = {{cross = ...}}: only {' and '.join(STRUCTURE)} are crossed; use choice here")
    if role != "method" and isinstance(domain, Published):
        raise UserError(f"{name} = 'published': only a method's own hyperparameters have a published value")
    if isinstance(domain, When):
        if CONDITIONS[domain.name] == "method" and role != "method":
            raise UserError(f"{name} depends on {domain.name}: methods share {name}, so only n_critic or optimiser go")
        if domain.name == "penalty":
            for case in domain.cases:
                if case not in PENALTIES:
                    raise unknown(f"penalty in {name}.when:", case, PENALTIES)


class SpaceTable(_Table):
    """[space]: the prior."""

    preset: str | None = None
    override: dict[str, AnyDomain] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _complete(self) -> SpaceTable:
        if self.preset is not None and self.preset not in SPACES:
            raise unknown("space.preset", self.preset, SPACES)
        _check_domains(self.override)
        if "lr" not in self.domains:
            raise UserError("space has no lr: give a preset or override.lr")
        return self

    @property
    def domains(self) -> dict[str, Domain | When]:
        """Hyperparameter to domain, preset and overrides together."""
        preset = SPACES[self.preset].domains if self.preset else {}
        return {**preset, **self.override}

    @property
    def title(self) -> str:
        """The prior's name, as a statement about robustness quotes it."""
        changed = ", ".join(self.override)
        return (self.preset or "own") + (f" with its own {changed}" if self.preset and changed else "")


class DesignTable(_Table):
    """[design]: which configurations are visited."""

    kind: Literal["sobol", "random", "grid", "table"] = "sobol"
    replicates: int = Field(default=1, gt=0)
    points: int = Field(default=16, gt=0)
    levels: int = Field(default=3, gt=1)
    table: str | None = None
    seeds: int = Field(default=1, gt=0)
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _consistent(self) -> DesignTable:
        given = self.model_fields_set
        if self.kind == "sobol" and self.points & (self.points - 1):
            low = 1 << (self.points.bit_length() - 1)
            raise UserError(
                f"design.points = {self.points}: a sobol design needs a power of two, e.g. {low} or {2 * low}"
            )
        if (self.kind == "table") != (self.table is not None):
            raise UserError(
                f"design.kind = {self.kind!r} with design.table = {self.table!r}: a table design names a file"
            )
        for key, kinds in {"points": "sobol random", "replicates": "sobol random", "levels": "grid"}.items():
            if key in given and self.kind not in kinds.split():
                raise UserError(f"design.{key} = {getattr(self, key)}: a {self.kind} design has no {key}")
        return self


class ExecutionTable(_Table):
    """[execution]: where and how; changes no trial's id."""

    pack: Literal["auto"] | Annotated[int, Field(gt=0)] = "auto"
    workers: Literal["auto"] | Annotated[int, Field(gt=0)] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"


class Sweep(_Table):
    """A sweep file.

    Attributes:
        name: Used for the run directory and in every row.
        notice: A remark that the report shows first.
        tasks: Names of tasks.
        methods: Names of methods, with @variant where one of `variant` applies.
        confirmatory: Pairs of methods whose comparison was the reason for the sweep; the rest is exploratory.
        budget: How long.
        space: The prior.
        design: Which configurations.
        variant: Hyperparameters that a `method@variant` sets differently.
        execution: Where and how.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)
    notice: str | None = None
    tasks: tuple[str, ...] = Field(min_length=1, strict=False)
    methods: tuple[str, ...] = Field(min_length=1, strict=False)
    confirmatory: tuple[tuple[str, str], ...] = Field(default=(), strict=False)
    budget: BudgetTable
    space: SpaceTable
    design: DesignTable = DesignTable()
    variant: dict[str, dict[str, AnyDomain]] = Field(default_factory=dict)
    execution: ExecutionTable = ExecutionTable()

    @field_validator("confirmatory", mode="before")
    @classmethod
    def _pairs(cls, pairs: object) -> object:
        if not isinstance(pairs, list | tuple) or any(not isinstance(p, list | tuple) or len(p) != 2 for p in pairs):
            raise ValueError("must be a list of pairs of methods, e.g. [['wgan+gp1', 'ns+gp1']]")
        return tuple(tuple(pair) for pair in pairs)

    @model_validator(mode="after")
    def _known(self) -> Sweep:
        for key in ("tasks", "methods"):
            repeated = [value for value in getattr(self, key) if getattr(self, key).count(value) > 1]
            if repeated:
                raise UserError(f"{key} names {repeated[0]!r} twice: each may appear once")
        for task in self.tasks:
            if task not in TASKS:
                raise unknown("task", task, TASKS)
        for domains in self.variant.values():
            _check_domains(domains)
        for method in self.methods:
            self.split_method(method)
        return self

    @model_validator(mode="after")
    def _planned_pairs(self) -> Sweep:
        for pair in self.confirmatory:
            for method in pair:
                if method not in self.methods:
                    raise unknown(f"method in confirmatory pair {list(pair)}:", method, self.methods)
            if pair[0] == pair[1]:
                raise UserError(f"confirmatory pair {list(pair)} compares a method with itself")
        return self

    def split_method(self, label: str) -> tuple[str, str | None]:
        """Cut a label like wgan+gp1@ttur into the method's name and its variant, both checked to exist."""
        method, _, variant = label.partition("@")
        parse_method(method)
        if variant and variant not in self.variant:
            raise unknown(
                f"variant in method {label!r}: [variant.{variant}] is missing;", variant, self.variant or ["-"]
            )
        return method, variant or None


def read_sweep(path: Path) -> Sweep:
    """Read and validate a sweep file.

    Raises:
        UserError: For a missing, unreadable or non-TOML file, and for anything in it that may not be.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not a UTF-8 text file"
        raise UserError(f"cannot read the sweep file {path}: {reason}") from None
    if not text.strip():
        raise UserError(f"the sweep file {path} is empty: start from examples/quickstart.toml")
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path} is not TOML: {error}") from None
    return parse_sweep(raw, source=str(path))


def parse_sweep(raw: Mapping[str, Any], *, source: str) -> Sweep:
    """Validate the content of a sweep file; `source` names it in messages.

    Raises:
        UserError: One sentence for the first thing that may not be.
    """
    try:
        return Sweep.model_validate(raw)
    except ValidationError as error:
        raise UserError(f"{source}: {_sentence(error)}") from None
    except (UserError, DomainError) as error:
        raise UserError(f"{source}: {error}") from None


def _sentence(error: ValidationError) -> str:
    first = error.errors()[0]
    location = [
        str(part) for part in first["loc"] if not str(part).startswith(("literal[", "constrained-", "int", "function-"))
    ]
    key = ".".join(location)
    if first["type"] == "extra_forbidden":
        known = sorted(_keys(Sweep, location[:-1]))
        near = difflib.get_close_matches(location[-1], known, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        return f"unknown key {key!r}: {hint}known here are {', '.join(known)}"
    if first["type"] == "missing":
        return f"{key} is missing"
    value = first["input"]
    message = re.sub(r"^Value error, ", "", first["msg"])
    shown = json.dumps(value, default=str)
    return f"{key} = {shown if len(shown) < 120 else shown[:117] + '...'}: {message[0].lower() + message[1:]}"


def _keys(model: type[BaseModel], location: list[str]) -> set[str]:
    for part in location:
        inner = model.model_fields[part].annotation
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return set(HYPERPARAMETERS)
        model = inner
    return set(model.model_fields)


def to_toml(sweep: Sweep) -> str:
    """The normalised sweep file: every setting, defaults included, one line each."""
    return "".join(f"{key} = {value}\n" for key, value in _leaves(sweep.model_dump(mode="json"), ()))


def _leaves(content: object, path: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    if isinstance(content, dict):
        for key, value in content.items():
            yield from _leaves(value, (*path, key))
    elif content is not None:
        # JSON's numbers, strings and arrays are TOML's too
        yield (
            ".".join(part if re.fullmatch(r"[\w-]+", part, re.ASCII) else json.dumps(part) for part in path),
            json.dumps(content),
        )

"""The sweep file: what it may say, and one sentence for whatever it may not."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from search_spaces.domains import Domain, DomainError, When
from search_spaces.hyperparameters import HYPERPARAMETERS
from search_spaces.spaces import SPACES
from study import user_files
from study.claim_forms import check_claims, read_claim
from study.claims import Claim, looks_back, resolved, write_claim
from study.errors import UserError, unknown
from study.forms import read_domain, write_domain
from study.memory import bytes_of
from study.methods import parse_method
from study.paths import normal_paths
from study.prior_checks import check_domains
from study.refusals import sentence
from study.search_checks import check_search, check_searching
from study.tasks.table import get_task
from study.toml_text import toml_lines
from study.trial import BUDGET_UNITS, EVEN, LATE, MOST, Budget, Schedule, default_evaluations

DATA_ROOT = "MANYPATHS_DATA"
"""Environment variable: the folder with the user's data sets."""

AnyDomain = Annotated[Any, BeforeValidator(read_domain), PlainSerializer(write_domain)]
AnyClaim = Annotated[Any, BeforeValidator(read_claim), PlainSerializer(write_claim)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class BudgetTable(_Table):
    """[budget]: how long each trial trains, and how often and when it is measured."""

    unit: str = "generator_steps"
    steps: int = Field(gt=0, le=10**12)
    evaluations: Literal["auto"] | Annotated[int, Field(gt=0)] = "auto"
    schedule: Schedule = EVEN

    @field_validator("unit")
    @classmethod
    def _known(cls, unit: str) -> str:
        if unit not in BUDGET_UNITS:
            raise ValueError(f"must be one of {', '.join(BUDGET_UNITS)}")
        return unit

    def settled(self, *, watched: bool) -> BudgetTable:
        """With what the file leaves out; `watched` if something asks how trials stood on their way."""
        count = self.evaluations
        even = self.schedule == EVEN and (count != "auto" or "schedule" in self.model_fields_set)
        if count == "auto" and (watched or even):
            count = MOST
        # from so many on there is no difference, which must not make one
        schedule = EVEN if even or (count != "auto" and count >= MOST) else LATE
        return self.model_copy(update={"evaluations": count, "schedule": schedule})

    def of(self, task: str, n_critic: int) -> Budget:
        """The budget of a task's trials with so many updates of the discriminator in a step."""
        count = self.evaluations
        if count == "auto":
            count = default_evaluations(self.unit, self.steps, get_task(task).evaluation_steps)
        schedule: Schedule = self.schedule if count < MOST else EVEN
        found = Budget(unit=self.unit, steps=self.steps, evaluations=count, schedule=schedule)
        few = max(1, found.generator_steps(n_critic))
        return replace(found, evaluations=few) if self.evaluations == "auto" and few < count else found


def _stored(info: ValidationInfo) -> bool:
    """True for the file of a run that is only looked at: nothing of the user's is read or run for it."""
    return bool(info.context and info.context.get("stored"))


class SpaceTable(_Table):
    """[space]: the prior."""

    preset: str | None = None
    override: dict[str, AnyDomain] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _complete(self, info: ValidationInfo) -> SpaceTable:
        if self.preset is not None and self.preset not in SPACES:
            raise unknown("space.preset", self.preset, SPACES)
        check_domains("space.override", self.override, stored=_stored(info))
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


_SIZES = {"points": ("sobol", "random"), "replicates": ("sobol", "random"), "levels": ("grid",)}
"""What sizes a design, and the kinds that it sizes."""


class DesignTable(_Table):
    """[design]: which configurations are visited."""

    kind: Literal["sobol", "random", "grid", "table"] = "sobol"
    replicates: int = Field(default=1, gt=0, le=2**20)
    points: int = Field(default=16, gt=0, le=2**20)
    levels: int = Field(default=3, gt=1, le=2**10)
    table: str | None = None
    seeds: int = Field(default=1, gt=0, le=2**20)
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _consistent(self) -> DesignTable:
        if self.kind == "sobol" and self.points & (self.points - 1):
            low = 1 << (self.points.bit_length() - 1)
            raise UserError(
                f"design.points = {self.points}: a sobol design needs a power of two, e.g. {low} or {2 * low}"
            )
        if (self.kind == "table") != (self.table is not None):
            raise UserError(
                f"design.kind = {self.kind!r} with design.table = {self.table!r}: a table design names a file"
            )
        for key, kinds in _SIZES.items():
            if key in self.model_fields_set and self.kind not in kinds:
                raise UserError(f"design.{key} = {getattr(self, key)}: a {self.kind} design has no {key}")
        return self


class SearchTable(_Table):
    """[search]: configurations that are asked for, batch by batch, once the results of those before are there."""

    kind: Literal["optuna"] = "optuna"
    sampler: str = "tpe"
    trials: int = Field(gt=0, le=2**20)
    batch: Literal["auto"] | Annotated[int, Field(gt=0, le=2**16)] = "auto"
    seed: int = Field(default=0, ge=0)
    options: dict[str, Any] = Field(default_factory=dict)
    pruner: str = "none"
    pruner_options: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _possible(self, info: ValidationInfo) -> SearchTable:
        check_search(self, stored=_stored(info))
        return self


class ExecutionTable(_Table):
    """[execution]: where and how; changes no trial's id."""

    pack: Literal["auto"] | Annotated[int, Field(gt=0)] = "auto"
    workers: Literal["auto"] | Annotated[int, Field(gt=0)] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    gpu: Literal["auto"] | Annotated[float, Field(gt=0, le=1)] = "auto"
    data: str | None = None
    samples: int = Field(default=16, ge=0, le=2**16)
    memory: str | None = None
    program: Literal["auto", "native", "recorded", "captured"] = "auto"

    @field_validator("memory")
    @classmethod
    def _an_amount(cls, amount: str | None) -> str | None:
        try:
            return amount if amount is None or bytes_of(amount) else None
        except ValueError as error:
            raise UserError(f"execution.memory: {error}") from None


class Sweep(_Table):
    """A sweep file.

    Attributes:
        name: Used for the run directory and in every row.
        notice: A remark that the report shows first.
        tasks: Names of tasks.
        methods: Names of methods, with @variant where one of `variant` applies.
        confirmatory: Pairs of methods whose comparison was the reason for the sweep; the rest is exploratory.
        claims: Statements that the sweep tests.
        ranges: Named regions, each a condition, that claims refer to.
        budget: How long.
        space: The prior.
        design: Which configurations.
        search: What asks for configurations instead of a design.
        variant: Hyperparameters that a `method@variant` sets differently.
        execution: Where and how; `data` is the folder with the user's data sets.
    """

    name: str = Field(max_length=100)
    notice: str | None = None
    tasks: tuple[str, ...] = Field(min_length=1, strict=False)
    methods: tuple[str, ...] = Field(min_length=1, strict=False)
    confirmatory: tuple[tuple[str, str], ...] = Field(default=(), strict=False)
    claims: tuple[AnyClaim, ...] = Field(default=(), strict=False)
    ranges: dict[str, str] = Field(default_factory=dict)
    budget: BudgetTable
    space: SpaceTable
    design: DesignTable = DesignTable()
    search: SearchTable | None = None
    variant: dict[str, dict[str, AnyDomain]] = Field(default_factory=dict)
    execution: ExecutionTable = ExecutionTable()

    @field_validator("name")
    @classmethod
    def _a_folders(cls, name: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
            raise ValueError("must begin with a letter or digit and hold only letters, digits, '.', '_' and '-'")
        return name

    @field_validator("confirmatory", mode="before")
    @classmethod
    def _pairs(cls, pairs: object) -> object:
        if not isinstance(pairs, list | tuple) or any(not isinstance(p, list | tuple) or len(p) != 2 for p in pairs):
            raise ValueError("must be a list of pairs of methods, e.g. [['wgan+gp1', 'ns+gp1']]")
        return tuple(tuple(pair) for pair in pairs)

    @model_validator(mode="after")
    def _known(self, info: ValidationInfo) -> Sweep:
        for key in ("tasks", "methods"):
            repeated = [value for value in getattr(self, key) if getattr(self, key).count(value) > 1]
            if repeated:
                raise UserError(f"{key} names {repeated[0]!r} twice: each may appear once")
        for name, domains in self.variant.items():
            check_domains(f"variant.{name}", domains, stored=_stored(info))
        if not _stored(info):
            for task in self.tasks:
                get_task(task)
            for method in self.methods:
                self.split_method(method)
        return self

    @model_validator(mode="after")
    def _learns(self) -> Sweep:
        if "lr" not in self.space.domains and self.design.kind != "table":
            raise UserError("space has no lr: give a preset or override.lr")
        return self

    @model_validator(mode="after")
    def _measured(self) -> Sweep:
        prunes = self.search is not None and self.search.pruner != "none"
        watched = prunes or any(looks_back(check) for claim in self.claims for check in claim.checks)
        return self.model_copy(update={"budget": self.budget.settled(watched=watched)})

    @model_validator(mode="after")
    def _searches(self) -> Sweep:
        if self.search is not None:
            check_searching(self, self.search)
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

    @model_validator(mode="after")
    def _testable(self, info: ValidationInfo) -> Sweep:
        check_claims(
            self.claims,
            methods=self.methods,
            tasks=self.tasks,
            ranges=self.ranges,
            metrics=None if _stored(info) else lambda task: get_task(task).metrics,
            steps=(self.budget.steps, self.budget.unit),
            seeds=self.design.seeds,
        )
        return self

    @property
    def stated(self) -> tuple[Claim, ...]:
        """The claims, each complete in itself: its tasks named, its range written out."""
        return resolved(self.claims, tasks=self.tasks, ranges=self.ranges)

    def split_method(self, label: str) -> tuple[str, str | None]:
        """Cut a label like wgan+gp1@ttur into the method's name and its variant, both checked to exist."""
        method, at, variant = label.partition("@")
        parse_method(method)
        if at and variant not in self.variant:
            raise unknown(
                f"variant in method {label!r}:", variant, self.variant or ["none: there is no [variant.NAME]"]
            )
        own = parse_method(method).defaults
        for name in self.variant.get(variant, {}):
            if HYPERPARAMETERS[name].role == "method" and name not in own:
                raise UserError(f"method {label!r}: variant.{variant}.{name} has no effect, {method} has no {name}")
        return method, variant or None


def read_sweep(path: Path) -> Sweep:
    """Read and validate a sweep file.

    Raises:
        UserError: For a missing, unreadable or non-TOML file, and for anything in it that may not be.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")  # some editors begin a file with a mark
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not a UTF-8 text file"
        raise UserError(f"cannot read the sweep file {path}: {reason}") from None
    if not text.strip():
        raise UserError(f"the sweep file {path} is empty: start from examples/quickstart.toml")
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path} is not TOML: {error}") from None
    raw = _with_normal_paths(raw, str(path))
    execution = raw.get("execution")
    if isinstance(execution, dict) and isinstance(execution.get("data"), str):
        # tasks are looked up while the file is validated, and some look for their data
        os.environ[DATA_ROOT] = str((path.parent / execution["data"]).absolute())
    for file in files_named(raw):
        user_files.provide_from(path.parent, file)
    return parse_sweep(raw, source=str(path))


def files_named(raw: Mapping[str, Any]) -> list[str]:
    """The user's files that the content of a sweep file names."""
    return user_files.files_in(_texts([raw.get(key) for key in ("tasks", "methods", "space", "variant")]))


def _texts(content: object) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    elif isinstance(content, Mapping):
        yield from (text for part in content.values() for text in _texts(part))
    elif isinstance(content, list | tuple):
        yield from (text for part in content for text in _texts(part))


def parse_sweep(raw: Mapping[str, Any], *, source: str, stored: bool = False) -> Sweep:
    """Validate the content of a sweep file; `source` names it in messages.

    Of a stored one, the file of a run that is only looked at, tasks, methods and networks are taken as they are: no
    file of the user's is read, and nothing in it is run.

    Raises:
        UserError: One sentence for the first thing that may not be.
    """
    given = raw if stored else _with_normal_paths(raw, source)
    try:
        return Sweep.model_validate(given, context={"stored": stored})
    except ValidationError as error:
        raise UserError(f"{source}: {sentence(error.errors(), _keys)}") from None
    except (UserError, DomainError) as error:
        raise UserError(f"{source}: {error}") from None


def _with_normal_paths(raw: Mapping[str, Any], source: str) -> dict[str, Any]:
    try:
        return normal_paths(raw)
    except UserError as error:
        raise UserError(f"{source}: {error}") from None


def _keys(location: Sequence[str]) -> set[str]:
    table: type[BaseModel] = Sweep
    for part in location:
        annotation = table.model_fields[part].annotation
        inner = (get_args(annotation) or (annotation,))[0]  # of a table that may be absent, the table
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return set(HYPERPARAMETERS)
        table = inner
    return set(table.model_fields)


def to_toml(sweep: Sweep) -> str:
    """The normalised sweep file: every setting that plays a part, defaults included, one line each."""
    unused = {key for key, kinds in _SIZES.items() if sweep.design.kind not in kinds}
    if sweep.search is not None:
        unused = set(DesignTable.model_fields) - {"seeds"}
    empty = {key for key in ("claims", "ranges") if not getattr(sweep, key)}
    even = {"schedule"} if sweep.budget.schedule == EVEN else set()  # which runs from before it could be said have not
    content = sweep.model_dump(mode="json", exclude={"design": unused, "budget": even, **dict.fromkeys(empty, True)})
    return toml_lines(content)

"""Adaptive search as part of a sweep: which studies it has, what each searches, and the trials that they ask for.

A study is a method on a task with one structure, so that the trials of a batch fit one pack. Everything here is a pure
function of the sweep and of the results so far; `study.searching` is what runs it.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from search_spaces.adaptive import SAMPLERS, Tried, ask
from search_spaces.domains import Choice, Cross, Domain, DomainError, Fixed, LogUniform, Uniform, Value, When
from search_spaces.hyperparameters import ARCHITECTURE, HYPERPARAMETERS, SHARED, STRUCTURE
from study.capacity import capacity_of
from study.errors import UserError
from study.methods import parse_method
from study.plan import expand
from study.spec import DesignTable, SearchTable, SpaceTable, Sweep
from study.tasks.table import get_task
from study.trial import Trial, digest, rounded
from study.trials import Trials
from study.user_files import without_folders

Configuration = Mapping[str, Value]
Numbers = tuple[float | None, ...]
UNASKED = "not asked for yet"
"""Stands for the pack of trials that a search will ask for."""

MARGIN = 1e-6
"""Part of an interval that is left out at an end which itself may not be taken, or is a namesake's: samplers like to
try ends."""


@dataclass(frozen=True)
class Study:
    """Trials that are asked for together.

    Attributes:
        task: Name of the task.
        label: The method's name as the sweep file writes it.
        structure: What all its trials have in common, hyperparameter to value.
        fixed: Other hyperparameters that have one value.
        space: Those that are searched.
    """

    task: str
    label: str
    structure: Configuration
    fixed: Configuration
    space: Mapping[str, Uniform | LogUniform | Choice]

    @property
    def title(self) -> str:
        """The study in words."""
        words = "".join(f", {name} {value}" for name, value in self.structure.items())
        return f"{self.label} on {self.task}{words}"

    @property
    def key(self) -> tuple[object, ...]:
        """What distinguishes the studies of a sweep."""
        return (self.task, self.label, *sorted(self.structure.items()))

    def read_back(self, row: Mapping[str, Value]) -> dict[str, Value]:
        """What was asked for, of a planned row."""
        found: dict[str, Value] = {}
        for name, domain in self.space.items():
            value = {"lr": row["lr_g"]}.get(name, row.get(name, 0.0))
            if name == "lr_d_ratio":  # kept as the product
                value = float(row["lr_d"]) / float(row["lr_g"])
            found[name] = _nearest(domain, value)
        return found

    def seed(self, seed: int, start: int) -> int:
        """The seed of the batch that begins at a point of this study, in [0, 2^32)."""
        files = {name: without_folders(str(value)) for name, value in self.structure.items()}
        return int(digest([seed, without_folders(self.task), without_folders(self.label), files, start])[:8], 16)


def key_of(trial: Trial) -> tuple[object, ...]:
    """The key of the study that a trial is of."""
    names = {name: getattr(trial.hyperparameters, name) for name in STRUCTURE}
    return (trial.task, trial.label, *sorted((name, value) for name, value in names.items() if value is not None))


def _nearest(domain: Domain, value: Value) -> Value:
    if isinstance(domain, Choice):
        return min(domain.values, key=lambda choice: abs(float(choice) - float(value)))
    if isinstance(domain, Uniform | LogUniform):
        return min(max(float(value), domain.low), domain.high)
    return value


def searched(sweep: Sweep) -> SearchTable:
    """The table [search] of a sweep that has one."""
    if sweep.search is None:
        raise UserError("this sweep has no [search]")
    return sweep.search


def name_of(search: SearchTable) -> str:
    """What the column `sampler` says: a pruner looks at results even where its sampler does not."""
    return search.sampler if search.pruner == "none" else f"{search.sampler}+{search.pruner}"


def studies_of(sweep: Sweep) -> list[Study]:
    """The studies of a sweep: tasks, methods and structures, the last fastest.

    Raises:
        UserError: If one has nothing to search, not what the sampler needs, or is another's double.
    """
    found = [
        _study(sweep, task, label, structure)
        for task in sweep.tasks
        for label in sweep.methods
        for structure in _structures(sweep, label)
    ]
    sampler = searched(sweep).sampler
    for study in found:
        numbers = [name for name, domain in study.space.items() if not isinstance(domain, Choice)]
        if not study.space:
            raise UserError(f"{study.title}: [search] has nothing to search, the space fixes every hyperparameter")
        if len(numbers) < SAMPLERS[sampler].numbers:
            raise UserError(
                f"{study.title}: search.sampler = {sampler!r} needs {SAMPLERS[sampler].numbers} or more intervals to "
                f"search, here are {len(numbers)} ({', '.join(numbers) or 'choices only'}): take tpe"
            )
    for one, other in itertools.combinations(found, 2):
        same = (one.task, one.structure) == (other.task, other.structure)
        if same and _name(one) == _name(other) and not (_continuous(one) and _continuous(other)):
            raise UserError(
                f"methods {one.label} and {other.label} may ask for the same trial: search one of them over an interval"
            )
    return _apart(found)


def _name(study: Study) -> str:
    return study.label.partition("@")[0]


def _apart(studies: Sequence[Study]) -> list[Study]:
    """Studies of which no two variants of a method have an end in common: asked for by both, it were one trial."""
    found, namesakes = list[Study](), Counter[tuple[object, ...]]()
    for study in studies:
        key = (study.task, _name(study), *study.structure.items())
        margin = MARGIN * namesakes[key]
        namesakes[key] += 1
        inside = {name: _inside(domain, margin) for name, domain in study.space.items()}
        found.append(replace(study, space=inside) if margin else study)
    return found


def _inside(domain: Uniform | LogUniform | Choice, margin: float) -> Uniform | LogUniform | Choice:
    """An interval without a part of it at each end."""
    if isinstance(domain, Choice):
        return domain
    return type(domain)(float(domain.at(margin)), float(domain.at(1 - margin)))


def _continuous(study: Study) -> bool:
    return any(not isinstance(domain, Choice) for domain in study.space.values())


def _domain(sweep: Sweep, label: str, name: str) -> Domain | When | None:
    variant = sweep.split_method(label)[1]
    changes = sweep.variant[variant] if variant else {}
    return changes.get(name, sweep.space.domains.get(name))


def _structures(sweep: Sweep, label: str) -> Iterator[dict[str, Value]]:
    """Every combination of crossed choices."""
    levels: dict[str, Sequence[Value]] = {}
    for name in STRUCTURE:
        domain = _domain(sweep, label, name)
        default = HYPERPARAMETERS[name].default
        if isinstance(domain, Choice):
            raise UserError(
                f"space.{name} is drawn, but a study's trials have one structure: {{cross = [...]}} instead"
            )
        if isinstance(domain, Cross):
            levels[name] = domain.values
        elif isinstance(domain, Fixed):
            levels[name] = (domain.value,)
        elif name not in ARCHITECTURE and default is not None:
            levels[name] = (default,)
    for values in itertools.product(*levels.values()):
        yield {
            name: int(value) if HYPERPARAMETERS[name].integer else value
            for name, value in zip(levels, values, strict=True)
        }


def _study(sweep: Sweep, task: str, label: str, structure: Configuration) -> Study:
    method = parse_method(sweep.split_method(label)[0])
    labels_known = get_task(task).rank is None
    own = [name for name in method.defaults if not (name == "labelled" and labels_known)]
    fixed: dict[str, Value] = {}
    space: dict[str, Uniform | LogUniform | Choice] = {}
    for name in (*SHARED, *own):
        domain = _domain(sweep, label, name)
        if isinstance(domain, When):
            case = str({**structure, "penalty": method.penalty or ""}[domain.name])
            if domain.cases.get(case, domain.otherwise) is None:
                raise UserError(f"{name} depends on {domain.name}, but says nothing for {domain.name} = {case}")
            domain = domain.cases.get(case, domain.otherwise)
        if name == "beta2" and structure["optimiser"] == "sgd":
            continue  # which has none
        if isinstance(domain, Choice) and len(domain.values) == 1:
            domain = Fixed(domain.values[0])
        if isinstance(domain, Fixed):
            fixed[name] = domain.value
        elif isinstance(domain, Uniform | LogUniform | Choice):
            space[name] = _open(name, domain)
    return Study(task, label, structure, fixed, space)


def _open(name: str, domain: Uniform | LogUniform | Choice) -> Uniform | LogUniform | Choice:
    """A domain without ends that its hyperparameter may not take."""
    if isinstance(domain, Choice):
        return domain
    margin, fault = MARGIN * (domain.high - domain.low), HYPERPARAMETERS[name].fault
    low = domain.low + margin if fault(domain.low) else domain.low
    high = domain.high - margin if fault(domain.high) else domain.high
    return type(domain)(low, high)


def unasked(sweep: Sweep, planned: Mapping[tuple[str, str], int]) -> dict[tuple[str, str], int]:
    """How many trials a sweep's search has still to ask for; nothing of a sweep that does not search.

    Args:
        sweep: The sweep.
        planned: Planned trials by task and method.

    Returns:
        The trials by task and method, those with none left out.
    """
    if sweep.search is None:
        return {}
    whole = sweep.search.trials * sweep.design.seeds
    left = {
        (task, label): whole * len(list(_structures(sweep, label))) - planned.get((task, label), 0)
        for task in sweep.tasks
        for label in sweep.methods
    }
    return {key: count for key, count in left.items() if count > 0}


def numbers_of(row: Mapping[str, Any]) -> Numbers:
    """The numbers of a planned row that all methods have: the same configuration always has the same."""
    return tuple(row[name] for name in ("lr_g", "lr_d", "beta1", "beta2"))


def trials_of(sweep: Sweep, study: Study, asked: Sequence[Configuration], *, before: Sequence[Numbers]) -> Trials:
    """The trials of some configurations of a study, with every seed.

    Args:
        sweep: The sweep.
        study: The study.
        asked: The configurations.
        before: `numbers_of` those that it asked for earlier: random draws are those of the values that methods share,
            and a repetition has its own.
    """
    seeds, found = sweep.design.seeds, _drawn(sweep, study, asked)
    counts = Counter(before)
    # not what was asked for but what was planned is compared: of a ratio only the product is kept, which is rounded
    repeated = {
        _shared(values): [values] * counts[numbers_of(asdict(trial.hyperparameters))]
        for values, trial in zip(asked, found[::seeds], strict=True)
    }
    earlier = [values for copies in repeated.values() for values in copies]
    if earlier:
        found = _drawn(sweep, study, [*earlier, *asked])[len(earlier) * seeds :]
    kinds = tuple(replace(kind, sampler=name_of(searched(sweep))) for kind in found.kinds)
    point = found.columns["point"] + np.int32(len(before) - len(earlier))
    return Trials(kinds, {**found.columns, "point": point})


def _drawn(sweep: Sweep, study: Study, asked: Sequence[Configuration]) -> Trials:
    """The trials that a table of configurations has."""
    variant = sweep.split_method(study.label)[1]
    rows = [{**study.structure, **study.fixed, **values} for values in asked]
    alone = sweep.model_copy(
        update={
            "tasks": (study.task,),
            "methods": (study.label,),
            "space": SpaceTable(),
            "design": DesignTable(kind="table", table="asked", seeds=sweep.design.seeds),
            "variant": {variant: {}} if variant else {},
            "search": None,
        }
    )
    return expand(alone, rows)


def _shared(values: Configuration) -> tuple[Value, ...]:
    return tuple(_tidy(values[name]) for name in SHARED if name in values)


def batch_size(sweep: Sweep, study: Study, device: str) -> int:
    """How many configurations a study asks for at a time: as many as a pack has room for, with all their seeds."""
    batch = searched(sweep).batch
    if batch != "auto":
        return batch
    capacity = sweep.execution.pack
    if capacity == "auto":
        capacity = capacity_of(trials_of(sweep, study, [_middle(study)], before=()).kinds[0], device)
    return max(1, capacity // sweep.design.seeds)


def _middle(study: Study) -> Configuration:
    return {name: _tidy(domain.at(0.5)) for name, domain in study.space.items()}


def _tidy(value: Value) -> Value:
    return rounded(value) if isinstance(value, float) else value


def slots(sweep: Sweep, device: str) -> Trials:
    """What a search will fill, study by study: trials whose searched hyperparameters stand for any; a batch is a kind.

    Their ids are empty and belong to no trial.

    Raises:
        UserError: As `studies_of`, and for a combination that cannot be trained.
    """
    search, seeds = searched(sweep), sweep.design.seeds
    parts, kinds = [], list[Trial]()
    for study in studies_of(sweep):
        one = trials_of(sweep, study, [_middle(study)], before=())
        points = np.repeat(np.arange(search.trials, dtype=np.int32), seeds)
        batches = points // batch_size(sweep, study, device)
        columns = {name: np.repeat(column[:1], len(points)) for name, column in one.columns.items()}
        columns |= {name: np.zeros(len(points), columns[name].dtype) for name in ("trial_id", "config", "key")}
        columns |= {"point": points, "seed": np.tile(np.arange(seeds, dtype=np.int32), search.trials)}
        parts.append(columns | {"kind": batches + np.int32(len(kinds))})
        kinds += [one.kinds[0]] * (int(batches[-1]) + 1)
    names = dict.fromkeys(name for part in parts for name in part)
    blank = {name: [part.get(name, np.full(len(part["kind"]), np.nan)) for part in parts] for name in names}
    return Trials(tuple(kinds), {name: np.concatenate(columns) for name, columns in blank.items()})


def asked_next(
    sweep: Sweep, study: Study, past: Sequence[Sequence[Tried]], *, count: int, starts: Sequence[int]
) -> list[dict[str, Value]]:
    """The configurations that a study asks for next.

    Args:
        sweep: The sweep.
        study: The study.
        past: Its batches so far, in order, and how they ended.
        count: How many to ask for.
        starts: Where each batch so far begins, and this one.

    Raises:
        UserError: If the past is not what the sampler would have asked for, where it has to know.
    """
    search = searched(sweep)
    try:
        found = ask(
            search.sampler,
            study.space,
            past,
            count=count,
            seeds=[study.seed(search.seed, start) for start in starts],
            anchor=get_task(study.task).anchors[1],
            options=search.options,
        )
    except DomainError as error:
        raise UserError(f"{study.title}: the search cannot go on: {error}; choose another --out") from None
    return [{name: _tidy(value) for name, value in values.items()} for values in found]

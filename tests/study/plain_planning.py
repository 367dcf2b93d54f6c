"""Planning trial by trial: slow, plain, and what the columns of `study.plan` have to equal."""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from search_spaces.designs import DRAWN
from search_spaces.domains import (
    Choice,
    Cross,
    Domain,
    Fixed,
    LogUniform,
    Published,
    Uniform,
    Value,
    When,
    grid_coordinates,
)
from search_spaces.hyperparameters import ARCHITECTURE, HYPERPARAMETERS, SHARED, STRUCTURE
from study.capacity import capacity_of, work_of
from study.errors import UserError
from study.methods import Method, parse_method
from study.plan import Pack, fingerprint
from study.prng import root_key
from study.schema import ENGINE_EPOCH, SCHEMA_VERSION
from study.spec import Sweep
from study.tasks.table import get_task
from study.trial import Hyperparameters, Trial, digest, rounded, shared_config

Coordinates = Mapping[str, float]
"""A design point: hyperparameter to its coordinate in [0, 1)."""


@dataclass(frozen=True)
class Configuration:
    """One draw from the prior, crossed with one structure: what all methods of a sweep share.

    Attributes:
        point: Index of the design point inside its replicate.
        replicate: Index of the replicate.
        shared: Values of shared and structural hyperparameters.
        own: Values of the methods' own hyperparameters that a table fixes.
        coordinates: The point's coordinates, for the methods' own hyperparameters; empty for a table.
        copy: How many earlier configurations have the same shared values (0 but in some grids and tables).
    """

    point: int
    replicate: int
    shared: Mapping[str, Value]
    own: Mapping[str, Value]
    coordinates: Coordinates
    copy: int = 0


def expand(sweep: Sweep, table: Sequence[Mapping[str, Value]] | None = None) -> list[Trial]:
    """Every trial of a sweep, in a fixed order.

    Args:
        sweep: The validated sweep file.
        table: The rows of a table design, hyperparameter to value.

    Raises:
        UserError: For a combination that cannot be trained.
    """
    trials = [
        _trial(sweep, task, label, configuration, seed)
        for configuration in configurations(sweep, table)
        for seed in range(sweep.design.seeds)
        for task in sweep.tasks
        for label in sweep.methods
    ]
    return trials


def configurations(sweep: Sweep, table: Sequence[Mapping[str, Value]] | None = None) -> list[Configuration]:
    """The configurations of a sweep's design, in a fixed order."""
    found: list[Configuration] = []
    seen: Counter[str] = Counter()
    for candidate in _candidates(sweep, table):
        name = shared_config(candidate.shared)
        found.append(
            Configuration(
                candidate.point, candidate.replicate, candidate.shared, candidate.own, candidate.coordinates, seen[name]
            )
        )
        seen[name] += 1
    return found


def _candidates(sweep: Sweep, table: Sequence[Mapping[str, Value]] | None) -> Iterator[Configuration]:
    domains = sweep.space.domains
    if sweep.design.kind == "table":
        yield from _from_table(domains, table or [])
        return
    for replicate, index, coordinates in _points(sweep):
        for structure in _structures(domains, coordinates):
            shared = structure | _shared(domains, structure, coordinates)
            yield Configuration(index, replicate, shared, {}, coordinates)


def _points(sweep: Sweep) -> Iterator[tuple[int, int, Coordinates]]:
    """Replicate, index and coordinates of every design point."""
    design = sweep.design
    if design.kind == "grid":
        levels = {
            name: grid_coordinates(domain, design.levels)
            for name, domain in sweep.space.domains.items()
            if HYPERPARAMETERS[name].role == "shared"
            or (name in STRUCTURE and isinstance(domain, Choice))
            or _used(sweep, name)
        }
        combined = itertools.product(*levels.values())
        yield from ((0, index, dict(zip(levels, values, strict=True))) for index, values in enumerate(combined))
        return
    owners = {name: entry.dimension for name, entry in HYPERPARAMETERS.items() if entry.dimension is not None}
    for replicate in range(design.replicates):
        points = DRAWN[design.kind](design.points, seed=design.seed, replicate=replicate)
        for index, point in enumerate(points):
            yield replicate, index, {name: float(point[dimension]) for name, dimension in owners.items()}


def _from_table(domains: Mapping[str, Domain | When], table: Sequence[Mapping[str, Value]]) -> Iterator[Configuration]:
    for index, row in enumerate(table):
        given = {name: _clean(name, value) for name, value in row.items()}
        rest = {name: domain for name, domain in domains.items() if name not in given}
        for structure in _structures(rest, {}):
            structure |= {name: given[name] for name in STRUCTURE if name in given}
            shared = structure | _shared(
                rest | {name: Fixed(given[name]) for name in SHARED if name in given}, structure, {}
            )
            own = {name: value for name, value in given.items() if name not in shared}
            yield Configuration(index, 0, shared, own, {})


def _used(sweep: Sweep, name: str) -> bool:
    return any(name in parse_method(sweep.split_method(label)[0]).defaults for label in sweep.methods)


def _structures(domains: Mapping[str, Domain | When], coordinates: Coordinates) -> list[dict[str, Value]]:
    levels: dict[str, Sequence[Value]] = {}
    for name in STRUCTURE:
        domain = domains.get(name)
        if isinstance(domain, Cross):
            levels[name] = [_clean(name, value) for value in domain.values]
        elif domain is not None or name not in ARCHITECTURE:
            levels[name] = [_value(name, domain, {}, coordinates)]
    return [dict(zip(levels, values, strict=True)) for values in itertools.product(*levels.values())]


def _shared(
    domains: Mapping[str, Domain | When], structure: Mapping[str, Value], coordinates: Coordinates
) -> dict[str, Value]:
    return {name: _value(name, domains.get(name), structure, coordinates) for name in SHARED}


def _plain(name: str, domain: Domain | When | None, context: Mapping[str, Value]) -> Domain | None:
    """The domain that holds where a `when` is decided by `context`."""
    if not isinstance(domain, When):
        return domain
    case = str(context.get(domain.name))
    found = domain.cases.get(case, domain.otherwise)
    if found is None:
        raise UserError(f"{name} depends on {domain.name}, but says nothing for {domain.name} = {case}")
    return found


def _value(name: str, domain: Domain | When | None, context: Mapping[str, Value], coordinates: Coordinates) -> Value:
    """The value of a hyperparameter at a point; `context` decides a `when`."""
    domain = _plain(name, domain, context)
    default = HYPERPARAMETERS[name].default
    if isinstance(domain, Fixed):
        return _clean(name, domain.value)
    if isinstance(domain, Uniform | LogUniform | Choice):
        if name not in coordinates:
            raise UserError(f"{name} is drawn, but the design table has no column for it: add the column or fix {name}")
        return _clean(name, domain.at(coordinates[name]))
    if default is None:
        raise UserError(f"{name} has no value: give it one in [space.override]")
    return default


def _clean(name: str, value: Value) -> Value:
    entry = HYPERPARAMETERS[name]
    fault = entry.fault(value)
    if fault:
        raise UserError(f"{name} = {value}: {fault}")
    if isinstance(value, str):
        return value
    return int(value) if entry.integer else rounded(float(value))


def _trial(sweep: Sweep, task: str, label: str, configuration: Configuration, seed: int) -> Trial:
    name, variant = sweep.split_method(label)
    changes = sweep.variant[variant] if variant else {}
    hyperparameters = _hyperparameters(sweep, task, parse_method(name), changes, configuration)
    return Trial(
        task=task,
        task_version=get_task(task).version,
        fingerprint=fingerprint(task, name, hyperparameters.network),
        method=name,
        label=label,
        hyperparameters=hyperparameters,
        budget=sweep.budget.of(task, hyperparameters.n_critic),
        seed=seed,
        config=digest([dict(configuration.shared), configuration.copy]),
        point=configuration.point,
        replicate=configuration.replicate,
        key=root_key(f"{shared_config(configuration.shared)}/{configuration.copy}/{seed}"),
        sampler=sweep.design.kind,
    )


def _hyperparameters(
    sweep: Sweep, task: str, method: Method, changes: Mapping[str, Domain | When], configuration: Configuration
) -> Hyperparameters:
    shared = dict(configuration.shared)
    for name in STRUCTURE:
        if name in changes:
            shared[name] = _value(name, changes[name], shared, configuration.coordinates)
    context: dict[str, Value] = {**shared, "penalty": method.penalty or ""}
    for name in SHARED:
        domain = changes.get(name, sweep.space.domains.get(name))
        # a range that follows the structure follows the variant's
        if name in changes or (isinstance(domain, When) and configuration.coordinates):
            shared[name] = _value(name, domain, context, configuration.coordinates)
    own: dict[str, Any] = {name: shared[name] for name in ARCHITECTURE if name in shared}
    for name, published in method.defaults.items():
        if name == "labelled" and get_task(task).rank is None:
            continue  # all labels are known
        if name in configuration.own and name not in changes:
            own[name] = float(configuration.own[name])
            continue
        domain = _plain(name, changes.get(name, sweep.space.domains.get(name)), context)
        if domain is None or isinstance(domain, Published):
            own[name] = rounded(float(published))
        else:
            own[name] = float(_value(name, domain, context, configuration.coordinates))
    lr, optimiser = float(shared["lr"]), str(shared["optimiser"])
    lr_d = lr * float(shared["lr_d_ratio"])
    if not math.isfinite(lr_d):
        raise UserError(f"lr = {lr:g} times lr_d_ratio = {shared['lr_d_ratio']}: the product must be a finite number")
    return Hyperparameters(
        lr_g=lr,
        lr_d=rounded(lr_d),
        beta1=float(shared["beta1"]),
        beta2=None if optimiser == "sgd" else float(shared["beta2"]),
        optimiser=optimiser,
        n_critic=int(shared["n_critic"]),
        **own,
    )


def pack(trials: Iterable[Trial], *, capacity: int | None, device: str) -> list[Pack]:
    """Group trials of equal structure into packs, costliest first so that the last ones to run are short.

    Args:
        trials: The trials to pack.
        capacity: Slots of every pack; None takes them from the table of measured capacities.
        device: Kind of device, for that table.
    """
    groups: dict[tuple[object, ...], list[Trial]] = defaultdict(list)
    for trial in trials:
        groups[trial.structure].append(trial)
    packs = []
    for members in groups.values():
        slots = capacity or capacity_of(members[0], device)
        packs += [Pack(tuple(members[i : i + slots]), slots) for i in range(0, len(members), slots)]
    return sorted(packs, key=lambda p: -work_of(p.trials[0]))


def plan_rows(pack: Pack, sweep: str) -> list[dict[str, Any]]:
    """Rows of `plan` for a pack."""
    return [
        _identity(trial, pack.name, pack.capacity, sweep)
        | dict(get_task(trial.task).facts)
        | {
            "slot": slot,
            "key": trial.key,
            "budget_unit": trial.budget.unit,
            "budget_steps": trial.budget.steps,
            "evaluations": trial.budget.evaluations,
            "schedule": trial.budget.schedule,
        }
        for slot, trial in enumerate(pack.trials)
    ]


def _identity(trial: Trial, pack: str, capacity: int, sweep: str) -> dict[str, Any]:
    method = parse_method(trial.method)
    return asdict(trial.hyperparameters) | {
        "trial_id": trial.trial_id,
        "sweep": sweep,
        "task": trial.task,
        "method": trial.label,
        "loss": method.loss,
        "penalty": method.penalty,
        "technique": "+".join(method.techniques) or None,
        "config": trial.config,
        "point": trial.point,
        "replicate": trial.replicate,
        "seed": trial.seed,
        "pack": pack,
        "capacity": capacity,
        "sampler": trial.sampler,
        "engine_epoch": ENGINE_EPOCH,
        "schema_version": SCHEMA_VERSION,
    }

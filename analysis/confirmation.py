"""A safe region put to the test: a sweep of fresh configurations inside it, and what they confirm."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import special

from analysis.intervals import LEVEL
from analysis.outcomes import point_means, sample
from analysis.regions import SAFE, Region, Side, safe_region
from analysis.results import Results
from analysis.words import percent, share
from search_spaces.domains import Choice, Cross, Domain, Fixed, LogUniform, Uniform, Value, When, parts_of, values_of
from search_spaces.hyperparameters import HYPERPARAMETERS
from study.errors import UserError, unknown
from study.forms import write_domain
from study.methods import parse_method
from study.spec import Sweep, parse_sweep, to_toml

POINTS = 64
"""Fresh configurations of a confirmation, one size and one look: to look at 32 and then at 64 would confirm a region
with success .9 by chance in 6 %, more than 5 %. With success .97, 64 confirm 70 % of regions and 32 confirm 38 %."""

SUFFIX = "-region"
MARKER = "Fresh configurations inside the region that "
"""How the notice of a confirmation sweep begins, by which its run is known."""

LONGEST = 100
"""Characters of a sweep's name."""

SEED = 20_240_519
"""Seed of the folds that a region is cross-validated with: the same run gives the same sweep."""


@dataclass(frozen=True)
class Confirmation:
    """What fresh configurations inside a region say.

    Attributes:
        task: Name of the task.
        method: Name of the method.
        points: Planned points.
        successes: Points all of whose trials succeeded.
        undecided: Points with a trial whose outcome is not known and none that failed; they count as failures.
        lower: Exact one-sided lower bound of the success inside, at 95 %.
        confirmed: Whether that bound reaches 90 %.
        words: A sentence.
    """

    task: str
    method: str
    points: int
    successes: int
    undecided: int
    lower: float
    confirmed: bool
    words: str


def lower_bound(successes: int, n: int, *, level: float = LEVEL) -> float:
    """Exact one-sided lower confidence bound of a proportion.

    Args:
        successes: Number of successes, 0 to n.
        n: Number of independent trials, at least 1.
        level: Confidence.

    Returns:
        A bound in [0, 1): 29 of 29 give .902, 28 of 28 .899. Reference: Clopper and Pearson 1934.
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"a bound needs n >= 1 and 0 <= successes <= n, got {successes} of {n}")
    return float(special.betaincinv(successes, n - successes + 1, 1 - level)) if successes else 0.0


def allowed_failures(n: int) -> int:
    """The most failures among n points with which a region is still confirmed; -1 where n are too few."""
    failures = -1
    while failures + 1 <= n and lower_bound(n - failures - 1, n) >= SAFE:
        failures += 1
    return failures


def confirm(results: Results) -> Confirmation:
    """What the fresh configurations of a confirmation sweep say of the region.

    A point counts as a success if all of its trials succeed, which is exact with one trial per point and on the safe
    side with more. The bound takes independent draws.

    Args:
        results: The finished confirmation sweep: one task, one method.

    Raises:
        UserError: There are several tasks or methods, or the configurations were not drawn at random.
    """
    if len(results.tasks) != 1 or len(results.methods) != 1:
        raise UserError(
            f"a confirmation has one task and one method, {results.name} has {len(results.tasks)} and "
            f"{len(results.methods)}"
        )
    samplers = set(results.plan["sampler"])
    if samplers != {"random"}:
        raise UserError(
            f"a confirmation needs configurations drawn afresh and at random (design.kind = 'random'), {results.name} "
            f"has {' and '.join(sorted(samplers)) or 'none'}"
        )
    task, method = results.tasks[0], results.methods[0]
    trials = sample(results.outcomes(task))
    reached = trials.values <= results.facts(task).threshold
    worst = point_means(reached, trials).values
    best = point_means(reached | ~trials.known(), trials).values
    successes, possible = int((worst == 1).sum()), int((best == 1).sum())
    lower = lower_bound(successes, len(worst))
    found = Confirmation(
        task, method, len(worst), successes, possible - successes, lower, confirmed=lower >= SAFE, words=""
    )
    return replace(found, words=_verdict(found))


def confirmation_of(results: Results) -> Confirmation | None:
    """What a run says of a region, if it is one of `confirmation_sweep`, drawn at random; None for any other run."""
    marked = (results.notice or "").startswith(MARKER) and set(results.plan["sampler"]) == {"random"}
    return confirm(results) if marked and len(results.tasks) == len(results.methods) == 1 else None


def confirmation_sweep(sweep: Sweep, region: Region, method: str, *, points: int = POINTS, seed: int) -> str:
    """The sweep file of fresh configurations inside a region.

    Args:
        sweep: The sweep that the region was found in.
        region: The region.
        method: Name of the method that it belongs to.
        points: Fresh design points, drawn at random, so that the exact bound holds.
        seed: Seed of the fresh design, another than the sweep's.

    Returns:
        TOML: the task, the method and the budget of the sweep, and a space that is the box. Structures that points are
        crossed with stay crossed, each as often as the others.

    Raises:
        UserError: There is no region, the sweep's configurations come from a table or do not vary what the region
            bounds, or the box holds no configuration that is fresh.
    """
    if not region.found:
        raise UserError(f"there is no region to confirm: {region.words}")
    if sweep.design.kind == "table":
        raise UserError(f"the design table {sweep.design.table} says which configurations there are: none are fresh")
    if seed == sweep.design.seed:
        raise UserError(f"a confirmation needs another seed than the sweep's, {seed}")
    space, variant = _spaces(sweep, method)
    for side in region.sides:
        _narrow(space, variant, side)
    if not any(isinstance(p, Uniform | LogUniform) for domain in (space | variant).values() for p in parts_of(domain)):
        raise UserError("the box draws nothing from a range, so none of its configurations is fresh: add seeds instead")
    changed = {word: write_domain(domain) for word, domain in variant.items()}
    label = sweep.split_method(method)[1]
    content: dict[str, Any] = {
        "name": sweep.name[: LONGEST - len(SUFFIX)] + SUFFIX,
        "notice": f"{MARKER}{sweep.name} found for {method} on {region.task}.",
        "tasks": [region.task],
        "methods": [method],
        "budget": sweep.budget.model_dump(),
        "space": {"override": {word: write_domain(domain) for word, domain in space.items()}},
        "design": {"kind": "random", "points": points, "seed": seed},
        "variant": {label: changed} if label else {},
        "execution": sweep.execution.model_dump(),
    }
    return to_toml(parse_sweep(content, source="the confirmation sweep"))


def confirm_region(sweep: Sweep, results: Results, *, method: str, task: str | None = None) -> tuple[str, str]:
    """The confirmation sweep of a run's safe region, and what to know of it in words.

    Args:
        sweep: The run's sweep, from its file.
        results: The run.
        method: The method whose region it is.
        task: The task, which may be left out where there is one.

    Raises:
        UserError: The run is not of that sweep, it has no such method or task, or there is no region to confirm.
    """
    if results.name != sweep.name:
        raise UserError(f"the run is one of {results.name!r}, the file describes {sweep.name!r}: they belong together")
    if task is None and len(results.tasks) > 1:
        raise UserError(f"a region belongs to one task: choose one by --task, of {', '.join(results.tasks)}")
    chosen = task or results.tasks[0]
    if chosen not in results.tasks:
        raise unknown("task", chosen, results.tasks)
    if method not in results.methods_of(chosen):
        raise unknown(f"method on {chosen}", method, results.methods_of(chosen))
    region = safe_region(results, chosen, method, rng=np.random.default_rng(SEED))
    text = confirmation_sweep(sweep, region, method, seed=sweep.design.seed + 1)
    return text, (
        f"{region.words}\nsave it beside the sweep file and run it: {percent(SAFE)} are confirmed at 95 % if at most "
        f"{allowed_failures(POINTS)} of its {POINTS} fresh points fail"
    )


def _spaces(sweep: Sweep, method: str) -> tuple[dict[str, Domain | When], dict[str, Domain | When]]:
    """What a method draws from: the sweep's space without what other methods have, and what its variant changes."""
    name, label = sweep.split_method(method)
    parsed = parse_method(name)
    needed = {word for word, entry in HYPERPARAMETERS.items() if entry.role != "method"} | set(parsed.defaults)
    space = {word: _plain(domain, parsed.penalty) for word, domain in sweep.space.domains.items() if word in needed}
    return space, {word: _plain(domain, parsed.penalty) for word, domain in sweep.variant.get(label or "", {}).items()}


def _plain(domain: Domain | When, penalty: str | None) -> Domain | When:
    """A domain that follows the penalty is, for one method, the domain of its own."""
    if not isinstance(domain, When) or domain.name != "penalty":
        return domain
    return domain.cases.get(penalty or "", domain.otherwise) or domain


def _narrow(space: dict[str, Domain | When], variant: dict[str, Domain | When], side: Side) -> None:
    """Narrow the domain of one hyperparameter to a side of the box."""
    word = side.axis.word
    table = variant if word in variant else space
    if word not in table:
        raise UserError(f"the sweep file says nothing of {word}, which the run varies: is it the run's file?")
    domain = table[word]
    if not isinstance(domain, When):
        table[word] = _narrowed(domain, side)
        return
    # a structure whose own range lies outside of the box is no longer part of it
    owner = variant if domain.name in variant else space
    structure = owner.get(domain.name, Fixed(HYPERPARAMETERS[domain.name].default or ""))
    cases = {
        str(value): _narrowed(part, side)
        for value in (values_of(structure) if not isinstance(structure, When) else [])
        for part in [domain.cases.get(str(value), domain.otherwise)]
        if part is not None and _meets(part, side)
    }
    table[word] = When(domain.name, cases, None)
    if isinstance(structure, Choice | Cross):
        owner[domain.name] = type(structure)(tuple(value for value in structure.values if str(value) in cases))


def _narrowed(domain: Domain, side: Side) -> Domain:
    match domain:
        case Uniform(low, high) | LogUniform(low, high):
            ends = max(low, side.low), min(high, side.high)
            return type(domain)(*ends) if ends[0] < ends[1] else Fixed(ends[0])
        case Choice(values) | Cross(values):
            return type(domain)(tuple(value for value in values if _holds(side, value)))
        case _:
            return domain


def _meets(domain: Domain, side: Side) -> bool:
    """Whether a domain and a side of the box have anything in common."""
    match domain:
        case Uniform(low, high) | LogUniform(low, high):
            return max(low, side.low) < min(high, side.high)
        case Fixed() | Choice() | Cross():
            return any(_holds(side, value) for value in values_of(domain))
        case _:
            return True


def _holds(side: Side, value: Value | float) -> bool:
    if isinstance(value, str):
        return value in side.levels
    levels = [float(f"{level:.9g}") for level in side.levels if not isinstance(level, str)]
    return float(f"{value:.9g}") in levels if side.levels else side.low <= value <= side.high


def _verdict(found: Confirmation) -> str:
    inside = (
        f"{found.method} on {found.task}, fresh configurations inside its region: {found.successes} of {found.points}"
    )
    bound = f"{inside} succeed, so at 95 % success there is at least {share(found.lower)}"
    if found.undecided:
        return f"{bound} (interim: {found.undecided} points are undecided and count as failures)"
    return f"{bound}: {'confirmed' if found.confirmed else 'not confirmed'} at {percent(SAFE)}"

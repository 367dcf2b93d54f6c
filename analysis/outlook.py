"""What a sweep will cost and how sharp its answers will be, before anything runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from analysis.power import POWER, Sharpness, pairs_needed, sharpness
from study.capacity import seconds_of
from study.choice import chosen, slower
from study.errors import UserError
from study.plan import Packs, draws_architecture
from study.progress import duration
from study.spec import SearchTable, Sweep
from study.trial import EVEN, LAST, LATE, MOST

FILL_WARNING = 0.7
"""Below this share of filled slots, a plan is worth a remark."""

UNALIASED = 32
"""Sobol points from which no hyperparameter of networks follows one of the most used; see the registry."""

COSTLY = 0.1
"""Of the time of training: evaluations that take more are worth a remark."""

SHARPER = "for independent points; a Sobol design of 8 or more replicates is usually sharper"
"""What has to be said with every number of `sharpness`."""


def outlook(sweep: Sweep, packs: Packs, *, workers: int, device: str) -> dict[str, Any]:
    """The size, cost and sharpness of a plan.

    Args:
        sweep: The sweep.
        packs: Its packs.
        workers: Packs in flight.
        device: Kind of device.

    Returns:
        JSON data: counts of `trials`, `packs`, `points` (the units of independence), the share of `filled` slots,
        `programs` (packs by what will train them where this machine is like the workers'), `cells` (trials by task and
        method), `evaluations` of a trial by task (`count`, `schedule`), `seconds` expected on the given workers and
        what evaluations take of them for each second of training, `evaluations_over_training` (both None for a device
        without measured costs), the half-widths of 95 % intervals to come (`success_half_width` at a success of one
        half, `profile_half_width`), what the points can show in all (`sharpness`), and `remarks`. Of a sweep that
        searches, trials are slots: nothing of points is there, and `search` has the number of `studies`, the `trials`
        and seeds of each, and the `batch`.
    """
    trials, capacities = packs.trials, packs.capacities.tolist()
    points = trials.points()
    filled = len(trials) / sum(capacities)
    programs = [chosen(sweep.execution.program, kind, device) for kind in packs.kinds]
    each = zip(packs.kinds, capacities, programs, strict=True)
    costs = [seconds_of(kind, capacity, device, program) for kind, capacity, program in each]
    known = [cost for cost in costs if cost is not None]
    measured = len(known) == len(costs)
    share = sum(cost.evaluations for cost in known) / sum(cost.training for cost in known) if measured else None
    sharp = sharpness(points)
    plan: dict[str, Any] = {
        "name": sweep.name,
        "prior": sweep.space.title,
        "trials": len(trials),
        "packs": len(packs),
        "points": points,
        "filled": filled,
        "cells": [
            {"task": task, "method": method, "trials": count} for (task, method), count in trials.cells().items()
        ],
        "device": device,
        "workers": workers,
        "seconds": _seconds(sweep, packs, [sum(cost) for cost in known], workers) if measured else None,
        "evaluations": _measured(packs),
        "evaluations_over_training": share,
        "success_half_width": sharp.success[0.5],
        "profile_half_width": sharp.profile,
        "sharpness": _sharpness(sharp),
        "programs": {name: programs.count(name) for name in dict.fromkeys(programs)},
        "remarks": _remarks(sweep, packs, filled, points, slower(sweep.execution.program, packs.kinds, device))
        + _costly(sweep, share or 0.0)
        + _late(sweep, packs),
    }
    if sweep.search is None:
        return plan
    of_points = ("points", "success_half_width", "profile_half_width", "sharpness")
    slots = {name: value for name, value in plan.items() if name not in of_points}
    return slots | {"search": _search(sweep.search, packs, sweep.design.seeds)}


def _costly(sweep: Sweep, share: float) -> list[str]:
    """A remark where evaluations take long."""
    if share <= COSTLY:
        return []
    count = sweep.budget.evaluations
    # late ones are as few as do
    enough = int(count * COSTLY / share) if count != "auto" and sweep.budget.schedule == EVEN else 0
    fewer = f"fewer of them (budget.evaluations = {count}; {enough} would take a tenth) or " if enough else ""
    return [f"evaluations take {share:.1%} of the time of training: {fewer}longer trials make it less"]


def _measured(packs: Packs) -> list[dict[str, Any]]:
    """How often trials are measured, by task: once, unless budgets of few steps make a difference."""
    each = [(kind.task, kind.budget.evaluations, kind.budget.schedule) for kind in packs.kinds]
    return [{"task": task, "count": count, "schedule": schedule} for task, count, schedule in dict.fromkeys(each)]


def _late(sweep: Sweep, packs: Packs) -> list[str]:
    """A remark where the file does not say how often to measure, and that is seldom on the way."""
    late = [kind for kind in packs.kinds if kind.budget.schedule == LATE] if sweep.budget.evaluations == "auto" else []
    paces = {(kind.task, kind.hyperparameters.n_critic) for kind in late}
    uneven = {kind.task for kind in late if sum(task == kind.task for task, _ in paces) > 1}
    few = [kind for kind in late if kind.budget.evaluations < 2 * LAST or kind.task in uneven]
    if not few:
        return []
    early = sorted({max(0, kind.budget.evaluations - LAST) for kind in few})
    tasks = ", ".join(dict.fromkeys(kind.task for kind in few))
    first, *others, last = ["the way there", "how trials ended", *(["equal discriminator steps"] if uneven else [])]
    most = min(MOST, *(kind.generator_steps for kind in few))
    return [
        f"trials of {tasks} have {' or '.join(map(str, early))} evaluations before the last fifth of their budget, "
        f"which say little of {', '.join([first, *others])} and {last}: budget.evaluations = {most} says more and "
        "takes longer"
    ]


def _seconds(sweep: Sweep, packs: Packs, costs: Sequence[float], workers: int) -> float:
    """The time that packs take, no less than those that some take one after the other: a study's wait for results."""
    if sweep.search is None:
        longest = max(costs)
    else:
        chains: dict[tuple[object, ...], float] = {}
        for kind, cost in zip(packs.kinds, costs, strict=True):
            chains[kind.structure] = chains.get(kind.structure, 0.0) + cost
        longest = max(chains.values())
    return max(sum(costs) / workers, longest)


def _search(search: SearchTable, packs: Packs, seeds: int) -> dict[str, Any]:
    """What a search will do."""
    return {
        "sampler": search.sampler,
        "studies": len({kind.structure for kind in packs.trials.kinds}),
        "trials": search.trials,
        "seeds": seeds,
        "batch": search.batch,
    }


def size_lines(found: Mapping[str, Any]) -> list[str]:
    """The size and cost of a plan in words."""
    expected = f"about {duration(found['seconds'])}" if found["seconds"] is not None else "not measured for this sweep"
    if "search" in found:
        return _search_lines(found, found["search"], expected)
    return [
        f"{found['trials']} trials in {found['packs']} packs ({found['filled']:.0%} of slots filled), "
        f"prior {found['prior']}, {found['points']} points",
        _often(found),
        f"expected time: {expected} on {found['workers']} {found['device']} workers, and some seconds to start",
    ]


def _search_lines(found: Mapping[str, Any], search: Mapping[str, Any], expected: str) -> list[str]:
    batch = "a pack" if search["batch"] == "auto" else search["batch"]
    seeds = f" with {search['seeds']} seeds each" if search["seeds"] > 1 else ""
    return [
        f"a search by {search['sampler']}: {search['studies']} studies (a task, a method and a structure each) of "
        f"{search['trials']} configurations{seeds}, asked for in batches of {batch}: slots, not points",
        f"{found['trials']} trials in {found['packs']} packs ({found['filled']:.0%} of slots filled), "
        f"prior {found['prior']}",
        _often(found),
        f"expected time: {expected} on {found['workers']} {found['device']} workers, a study's batches in turn",
    ]


def _often(found: Mapping[str, Any]) -> str:
    """How often trials are measured: tasks that are measured alike together."""
    tasks: dict[tuple[int, str], list[str]] = {}
    for each in found["evaluations"]:
        tasks.setdefault((each["count"], each["schedule"]), []).append(each["task"])
    listed = []
    for (count, schedule), names in tasks.items():
        where = f"{', '.join(names)} " if len(tasks) > 1 else ""
        listed.append(f"{where}{count}, {'late' if schedule == LATE else 'evenly spaced'}")
    return f"evaluations of a trial: {'; '.join(listed)}"


def sharpness_lines(found: Mapping[str, Any]) -> list[str]:
    """The sharpness of an `outlook` in a few lines."""
    if "search" in found:
        return ["no intervals to come: what a search visits says nothing of how much of a prior survives"]
    sharp = found["sharpness"]

    def listed(name: str) -> str:
        return " / ".join("none" if value is None else f"{value:.2f}" for value in sharp[name].values())

    return [
        f"95 % intervals to come: success +-{listed('success')} at {' / '.join(sharp['success'])}, "
        f"whole profile +-{sharp['profile']:.2f}",
        f"paired differences found with {POWER * 100:.0f} % power: success {listed('success_difference')} at "
        f"discordance {' / '.join(sharp['success_difference'])}, log-AUC {listed('log_auc_difference')} at "
        f"standard deviation {' / '.join(sharp['log_auc_difference'])}",
        f"({SHARPER})",
    ]


def needed(sweep: Sweep, found: Mapping[str, Any], difference: float, discordance: float) -> dict[str, Any]:
    """The points and trials after which a paired difference of success would be found.

    Args:
        sweep: The sweep, whose replicates are only taken whole.
        found: Its `outlook`.
        difference: Of the success fractions of two methods.
        discordance: Share of pairs in which exactly one of them succeeds.

    Returns:
        JSON data: `detect`, `discordance` and `power`; `pairs`, independent points that it takes; `replicates`, None
        where a design has none; `points` and `trials` of the whole sweep with so many; `enough`, whether it has them;
        and `seconds` expected, None where costs are not measured.

    Raises:
        UserError: The discordance is not in (0, 1], the difference not in (0, discordance], or the sweep searches.
    """
    if sweep.search is not None:
        raise UserError("--detect with [search]: a search draws no points from a prior, so none are enough")
    if not 0 < discordance <= 1:
        raise UserError(f"--discordance {discordance:g}: a share of pairs, above 0 and at most 1")
    if not 0 < difference <= discordance:
        raise UserError(
            f"--detect {difference:g}: a difference of success fractions is above 0 and at most the share of pairs "
            f"that differ, --discordance {discordance:g}"
        )
    pairs = pairs_needed(difference, discordance=discordance)
    whole = sweep.design.points if sweep.design.kind in ("sobol", "random") else 1
    points = -(-pairs // whole) * whole
    trials = points * found["trials"] // found["points"]
    return {
        "detect": difference,
        "discordance": discordance,
        "power": POWER,
        "pairs": pairs,
        "replicates": points // whole if whole > 1 else None,
        "points": points,
        "trials": trials,
        "enough": found["points"] >= pairs,
        "seconds": None if found["seconds"] is None else found["seconds"] * trials / found["trials"],
    }


def needed_lines(sweep: Sweep, wanted: Mapping[str, Any]) -> list[str]:
    """What `needed` found, in words."""
    replicates = wanted["replicates"]
    whole = f"in whole replicates {wanted['points']} ({replicates} replicates of {sweep.design.points}), "
    verdict = "this plan has enough" if wanted["enough"] else "this plan has fewer"
    return [
        f"to find a difference of success of {wanted['detect']:g} with {wanted['power'] * 100:.0f} % power at "
        f"discordance {wanted['discordance']:g}: {wanted['pairs']} points; {whole if replicates else ''}"
        f"{wanted['trials']} trials; {verdict}",
        f"({SHARPER})",
    ]


def _sharpness(sharp: Sharpness) -> dict[str, Any]:
    """As JSON data: numbers that are keys become texts, and what cannot be found is null."""
    tables = ("success", "success_difference", "log_auc_difference")
    found: dict[str, Any] = {
        name: {f"{key:g}": None if value != value else value for key, value in getattr(sharp, name).items()}
        for name in tables
    }
    return found | {"profile": sharp.profile, "power": POWER, "note": SHARPER}


def _remarks(sweep: Sweep, packs: Packs, filled: float, points: int, slow: str | None) -> list[str]:
    remarks = [slow] if slow else []
    if filled < FILL_WARNING:
        remarks.append(
            f"only {filled:.0%} of the slots are filled (packs of {packs.capacities.max()}): more points or "
            "replicates cost nothing until they are"
            if sweep.search is None
            else f"only {filled:.0%} of the slots are filled (packs of {packs.capacities.max()}): a larger "
            "search.batch costs nothing until they are"
        )
    if sweep.search is not None:
        return remarks
    if sweep.design.kind == "sobol" and sweep.design.replicates < 8:
        remarks.append(
            f"fewer than 8 replicates ({sweep.design.replicates}): from 8 on, intervals over replicates are sharper"
        )
    if sweep.design.kind == "sobol" and sweep.design.points < UNALIASED and draws_architecture(sweep):
        remarks.append(
            f"networks are drawn with {sweep.design.points} sobol points in a replicate, so few that a depth "
            f"may follow the learning rate: take {UNALIASED}, or kind = 'random'"
        )
    if points < 64:
        remarks.append(f"{points} points are few for a verdict: 128 (8 replicates of 16) are usual")
    return remarks

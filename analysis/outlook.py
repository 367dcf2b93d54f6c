"""What a sweep will cost and how sharp its answers will be, before anything runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from analysis.intervals import dkw, wilson
from study.capacity import seconds_of
from study.plan import Pack, draws_architecture
from study.spec import Sweep

FILL_WARNING = 0.7
UNALIASED = 32
"""Sobol points from which no hyperparameter of networks follows one of the most used; see the registry."""
"""Below this share of filled slots, a plan is worth a remark."""


def outlook(sweep: Sweep, packs: Sequence[Pack], *, workers: int, device: str) -> dict[str, Any]:
    """The size, cost and sharpness of a plan.

    Args:
        sweep: The sweep.
        packs: Its packs.
        workers: Packs in flight.
        device: Kind of device.

    Returns:
        JSON data: counts of `trials`, `packs`, `points` (the units of independence), the share of `filled` slots,
        `cells` (trials by task and method), `seconds` expected on the given workers (None for a device without
        measured costs), the half-widths of 95 % intervals to come (`success_half_width` at a success of one half,
        `profile_half_width`), and `remarks`.
    """
    trials = [trial for pack in packs for trial in pack.trials]
    points = len({(trial.replicate, trial.point) for trial in trials})
    filled = len(trials) / sum(pack.capacity for pack in packs)
    costs = [seconds_of(pack.trials[0], pack.capacity, device) for pack in packs]
    known = [cost for cost in costs if cost is not None]
    low, high = wilson(points / 2, points)
    cells = Counter((trial.task, trial.label) for trial in trials)
    return {
        "name": sweep.name,
        "prior": sweep.space.title,
        "trials": len(trials),
        "packs": len(packs),
        "points": points,
        "filled": filled,
        "cells": [{"task": task, "method": method, "trials": count} for (task, method), count in cells.items()],
        "device": device,
        "workers": workers,
        "seconds": max(sum(known) / workers, max(known)) if len(known) == len(costs) else None,
        "success_half_width": (high - low) / 2,
        "profile_half_width": dkw(points),
        "remarks": _remarks(sweep, packs, filled, points),
    }


def _remarks(sweep: Sweep, packs: Sequence[Pack], filled: float, points: int) -> list[str]:
    remarks = []
    if filled < FILL_WARNING:
        remarks.append(
            f"only {filled:.0%} of the slots are filled (packs of {max(p.capacity for p in packs)}): more points or "
            "replicates cost nothing until they are"
        )
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

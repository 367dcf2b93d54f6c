"""The least cost of moving masses from some sources to a few sinks: a linear programme, solved exactly.

Costs are taken as whole numbers of a unit some 14 digits below the largest of a problem. Then sums are exact, there is
one least cost, and all ways to find it agree to the last bit.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from study.metrics import compiled

BITS = 62
"""Of whole numbers: the largest cost times all masses stays within them."""
FINEST = 46
"""Bits of the largest cost, at most: sums of some dozens are whole numbers as float64 too."""
LARGEST_SCALE = 1000
"""Of costs, as a power of two: below 2^-950 they are as good as equal."""


def least_costs(
    masses: NDArray[np.int64], costs: NDArray[np.float64], capacities: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Least costs (c,) of moving all masses to sinks, which they fill.

    Args:
        masses: Of the sources, (c, n), not negative.
        costs: Of a unit of mass from each source to each sink, (c, n, m) or, the same for all problems, (n, m); not
            negative.
        capacities: Of the sinks, (m,); they add up to the masses of each problem, and to less than 2^40.

    Returns:
        Shape (c,), nan where a cost is not finite. The cost of a unit is rounded to 2^-46 of the problem's largest or,
        if that is more, to 2^-62 times the mass.

    Raises:
        ValueError: The masses do not fill the sinks.
    """
    if (masses.sum(1) != capacities.sum()).any():
        raise ValueError("masses must fill the sinks")
    largest = costs.max((-2, -1), keepdims=True)
    finite = np.isfinite(largest)
    bits = min(FINEST, BITS - int(capacities.sum()).bit_length())
    exponents = np.minimum(bits - np.frexp(np.where(finite, largest, 0.0))[1], LARGEST_SCALE)
    scaled = np.where(finite, costs, 0.0) * np.ldexp(1.0, exponents)
    whole = np.rint(scaled, out=scaled).astype(np.int64)
    whole = np.broadcast_to(whole, (len(masses), *costs.shape[-2:]))
    totals = compiled.transport(masses, whole, capacities)
    if totals is None:
        found = [transport(*problem, capacities) for problem in zip(masses, whole, strict=True)]
        totals = np.array(found, dtype=np.int64)
    return np.where(finite.ravel(), np.ldexp(totals.astype(np.float64), -exponents.ravel()), math.nan)


def transport(masses: NDArray[np.int64], costs: NDArray[np.int64], capacities: NDArray[np.int64]) -> int:
    """The least cost of one problem in whole numbers: masses (n,), costs (n, m), capacities (m,).

    By shortest augmenting paths (Edmonds and Karp 1972): sources start at their cheapest sinks; what is too much of a
    sink goes on along a path of sinks, on each arc of which that source moves for which it costs least.
    """
    n, m = costs.shape
    if (masses == 1).all():  # an assignment to as many places as a sink takes
        from scipy.optimize import linear_sum_assignment  # slow to import, and only needed here

        places = costs.repeat(capacities, axis=1)
        return int(places[linear_sum_assignment(places)].sum())
    flow = np.zeros((m, n), dtype=np.int64)
    flow[costs.argmin(1), np.arange(n)] = masses
    while (excess := flow.sum(1) - capacities).any():
        moves = np.where(flow[:, None] > 0, costs.T[None] - costs.T[:, None], NONE)  # from sink, to sink, source
        path = _path(moves.min(2), int(excess.argmax()), excess < 0)
        arcs = [(j, k, int(moves[j, k].argmin())) for j, k in pairwise(path)]
        amount = min(excess[path[0]], -excess[path[-1]], *(flow[j, i] for j, _, i in arcs))
        for j, k, i in arcs:
            flow[j, i] -= amount
            flow[k, i] += amount
    return int((flow * costs.T).sum())


NONE = 2**BITS
"""In place of a cost, where there is no way."""


def _path(steps: NDArray[np.int64], start: int, room: NDArray[np.bool_]) -> list[int]:
    """The cheapest path by steps (m, m) from a sink to one of those with room, by the algorithm of Bellman and Ford."""
    distance = np.full(len(steps), NONE)
    distance[start] = 0
    before = np.full(len(steps), start)
    for _ in range(len(steps)):
        along = np.where((distance[:, None] < NONE) & (steps < NONE), distance[:, None] + steps, NONE)
        nearer = along.min(0) < distance
        if not nearer.any():
            break
        before = np.where(nearer, along.argmin(0), before)
        distance = np.minimum(distance, along.min(0))
    path = [int(np.where(room, distance, NONE).argmin())]
    while path[-1] != start:
        path.append(int(before[path[-1]]))
    return path[::-1]

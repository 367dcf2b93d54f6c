"""The least cost of a transport against scipy's linear programme and assignment, compiled and not."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment, linprog

from study.metrics import compiled
from study.metrics.transport import FINEST, least_costs, transport
from tests.study.native_case import needs_compiler

either = pytest.mark.usefixtures("with_and_without_compiled_code")


def by_linear_programme(masses, costs, capacities):
    n, m = costs.shape
    sources, sinks = np.kron(np.eye(n), np.ones(m)), np.kron(np.ones(n), np.eye(m))
    # the last constraint follows from the others; with it, rounding could make them contradict each other
    constraints = np.concatenate([sources, sinks])[:-1]
    amounts = np.concatenate([masses, capacities])[:-1] / capacities.sum()
    return linprog(costs.ravel(), A_eq=constraints, b_eq=amounts, method="highs-ds").fun


def squares(points):
    return np.square(points[:, None] - points).sum(-1)


RING = np.stack([np.cos(np.arange(8) * np.pi / 4), np.sin(np.arange(8) * np.pi / 4)], 1)
GRID = np.stack(np.meshgrid(np.arange(5.0), np.arange(5.0)), -1).reshape(-1, 2)
LINE = np.arange(6.0)[:, None]
CENTRES = {"ring": RING, "grid": GRID, "line": LINE}


def counts_of(kind, m, n, trials=6):
    generator = np.random.default_rng(0)
    if kind == "all in one":
        return np.eye(m, dtype=np.int64)[:trials] * n
    share = generator.dirichlet(np.full(m, 0.2), trials) if kind == "skewed" else np.full((trials, m), 1 / m)
    return np.stack([generator.multinomial(n, row) for row in share])


@either
@pytest.mark.parametrize("kind", ["even", "skewed", "all in one"])
@pytest.mark.parametrize("centres", CENTRES)
def test_evening_out_counts_costs_what_a_linear_programme_says(centres, kind):
    cost, m, n = squares(CENTRES[centres]), len(CENTRES[centres]), 600
    counts, capacities = counts_of(kind, m, n), np.full(m, n)
    found = least_costs(counts * m, cost, capacities) / (n * m)
    # of scipy's a basis is only optimal to 1e-7
    expected = [by_linear_programme(row * m, cost, capacities) for row in counts]
    assert found == pytest.approx(expected, abs=1e-7 * cost.max())


@either
@pytest.mark.parametrize("kind", ["even", "apart", "in one place", "all the same"])
def test_samples_to_few_points_are_an_assignment(kind):
    generator = np.random.default_rng(1)
    x = {
        "even": RING[generator.integers(8, size=(4, 64))] + 0.05 * generator.standard_normal((4, 64, 2)),
        "apart": 3 * generator.standard_normal((4, 64, 2)),
        "in one place": RING[3] + 1e-3 * generator.standard_normal((4, 64, 2)),
        "all the same": np.broadcast_to(generator.standard_normal((4, 1, 2)), (4, 64, 2)),
    }[kind]
    costs = np.square(x[:, :, None] - RING).sum(-1)
    found = least_costs(np.ones((4, 64), dtype=np.int64), costs, np.full(8, 8))
    places = costs.repeat(8, axis=2)
    expected = [one[linear_sum_assignment(one)].sum() for one in places]
    # 64 costs rounded to half of 2^-46 of the largest, and summed in float64
    assert found == pytest.approx(expected, abs=64 * costs.max() * 2.0**-45)


masses_of = st.lists(st.integers(0, 40), min_size=1, max_size=6)


@needs_compiler
@settings(deadline=None, max_examples=60)
@given(masses_of, st.integers(1, 10), st.integers(0, 2**32 - 1), st.sampled_from([1, 3, 2**40]))
def test_compiled_and_plain_code_find_the_same_number(masses, m, seed, largest):
    generator = np.random.default_rng(seed)
    masses = np.array(masses) * m
    costs = generator.integers(0, largest, size=(len(masses), m), endpoint=True)
    capacities = generator.multinomial(masses.sum(), np.full(m, 1 / m))
    (found,) = compiled.transport(masses[None], costs[None], capacities)
    assert found == transport(masses, costs, capacities)
    exact = by_linear_programme(masses, costs.astype(float) / largest, capacities) if masses.sum() else 0
    assert found / largest == pytest.approx(exact * masses.sum(), abs=1e-7 * max(1, masses.sum()))


@needs_compiler
def test_units_are_assigned_alike_with_and_without_a_compiler():
    costs = np.random.default_rng(2).integers(0, 2**FINEST, size=(3, 48, 6))
    ones, capacities = np.ones((3, 48), dtype=np.int64), np.full(6, 8)
    found = compiled.transport(ones, costs, capacities)
    assert found.tolist() == [transport(*one, capacities) for one in zip(ones, costs, strict=True)]


@either
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_cost_that_is_not_finite_makes_its_problem_nan_and_no_other(bad):
    costs = np.random.default_rng(3).random((3, 8, 4))
    ones, capacities = np.ones((3, 8), dtype=np.int64), np.full(4, 2)
    clean = least_costs(ones, costs, capacities)
    costs[1, 2, 3] = bad
    found = least_costs(ones, costs, capacities)
    assert math.isnan(found[1])
    assert found[[0, 2]].tolist() == clean[[0, 2]].tolist()


@either
@pytest.mark.parametrize("scale", [1e-320, 1e-200, 1e200, 1e300])
def test_costs_may_be_of_any_size(scale):
    costs = np.random.default_rng(4).random((8, 4))
    ones, capacities = np.ones((1, 8), dtype=np.int64), np.full(4, 2)
    plain, scaled = least_costs(ones, costs, capacities)[0], least_costs(ones, costs * scale, capacities)[0]
    # far below 2^-950 all costs are as good as 0
    assert scaled == pytest.approx(plain * scale if scale > 1e-280 else 0, rel=1e-12, abs=1e-300)


@either
def test_equal_costs_and_no_cost():
    ones, capacities = np.ones((2, 8), dtype=np.int64), np.full(4, 2)
    assert least_costs(ones, np.zeros((8, 4)), capacities).tolist() == [0, 0]
    assert least_costs(ones, np.full((8, 4), 3.0), capacities) == pytest.approx([24, 24], rel=1e-13)
    assert least_costs(ones[:0], np.zeros((8, 4)), capacities).tolist() == []


@either
def test_what_a_problem_costs_does_not_depend_on_the_others():
    costs = np.random.default_rng(5).random((5, 12, 3)) * np.logspace(-3, 3, 5)[:, None, None]
    masses, capacities = np.full((5, 12), 2), np.array([4, 8, 12])
    together = least_costs(masses, costs, capacities)
    for i in range(5):
        assert least_costs(masses[i : i + 1], costs[i : i + 1], capacities)[0] == together[i]


def test_masses_that_do_not_fill_the_sinks_are_refused():
    with pytest.raises(ValueError, match="masses must fill the sinks"):
        least_costs(np.ones((1, 5), dtype=np.int64), np.zeros((5, 2)), np.array([2, 2]))

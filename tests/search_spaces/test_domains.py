import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search_spaces.domains import (
    Choice,
    Cross,
    DomainError,
    Fixed,
    LogUniform,
    Published,
    Uniform,
    When,
    grid_coordinates,
    parts_of,
    values_of,
)

UNIT = st.floats(0.0, 1.0)
BOUNDS = st.tuples(st.floats(-1e9, 1e9), st.floats(-1e9, 1e9)).filter(lambda b: b[0] < b[1])
POSITIVE = st.tuples(st.floats(1e-30, 1e30), st.floats(1e-30, 1e30)).filter(lambda b: b[0] < b[1])
VALUES = st.lists(st.one_of(st.integers(-9, 9), st.sampled_from(["adam", "sgd"])), min_size=1, max_size=6, unique=True)


@given(BOUNDS, UNIT)
def test_a_uniform_value_lies_in_the_closed_interval(bounds, u):
    assert bounds[0] <= Uniform(*bounds).at(u) <= bounds[1]


@given(POSITIVE, UNIT)
def test_a_log_uniform_value_lies_in_the_closed_interval(bounds, u):
    assert bounds[0] <= LogUniform(*bounds).at(u) <= bounds[1]


@given(VALUES, UNIT)
def test_a_choice_gives_one_of_its_values(values, u):
    assert Choice(tuple(values)).at(u) in values


@pytest.mark.parametrize("domain", [Uniform(0.25, 3.0), LogUniform(0.25, 3.0)])
def test_both_ends_of_an_interval_are_reached(domain):
    assert domain.at(0.0) == 0.25
    assert domain.at(1.0) == 3.0


@given(VALUES)
def test_every_value_of_a_choice_owns_an_equal_share_of_the_unit_interval(values):
    n = len(values)
    domain = Choice(tuple(values))
    assert [domain.at((i + 0.5) / n) for i in range(n)] == values
    assert domain.at(0.0) == values[0]
    assert domain.at(1.0) == values[-1]


def test_uniform_is_linear_in_the_value_and_log_uniform_in_its_logarithm():
    assert Uniform(1.0, 5.0).at(0.25) == 2.0
    assert LogUniform(1e-4, 1e-2).at(0.5) == pytest.approx(1e-3, rel=1e-14)
    assert LogUniform(1.0, 16.0).at(0.25) == pytest.approx(2.0, rel=1e-14)


@given(POSITIVE, UNIT, UNIT)
def test_a_larger_coordinate_never_gives_a_smaller_value(bounds, u, v):
    low, high = sorted([u, v])
    assert LogUniform(*bounds).at(low) <= LogUniform(*bounds).at(high)


def test_a_fixed_domain_ignores_the_coordinate():
    assert {Fixed(0.5).at(u) for u in (0.0, 0.3, 1.0)} == {0.5}


@pytest.mark.parametrize("kind", [Uniform, LogUniform])
@pytest.mark.parametrize(
    ("bounds", "rule"),
    [
        ((2.0, 1.0), r"low < high, got low = 2, high = 1"),
        ((1.0, 1.0), r"low < high, got low = 1, high = 1"),
        ((1.0, math.inf), r"finite bounds, got \[1, inf\]"),
        ((math.nan, 1.0), r"finite bounds, got \[nan, 1\]"),
        ((-math.inf, 1.0), r"finite bounds, got \[-inf, 1\]"),
    ],
)
def test_bounds_that_are_not_finite_and_in_order_are_refused(kind, bounds, rule):
    with pytest.raises(DomainError, match=rule):
        kind(*bounds)


@pytest.mark.parametrize("low", [0.0, -0.5])
def test_a_logarithm_starts_above_zero(low):
    with pytest.raises(DomainError, match=rf"log_uniform needs low > 0, got low = {low:g}$"):
        LogUniform(low, 1.0)


@pytest.mark.parametrize(("kind", "name"), [(Choice, "choice"), (Cross, "cross")])
def test_lists_need_distinct_numbers_or_texts(kind, name):
    with pytest.raises(DomainError, match=rf"{name} needs at least one value, got \[\]"):
        kind(())
    with pytest.raises(DomainError, match=rf"{name} needs distinct values, got \[1, 2, 1\.0\]"):
        kind((1, 2, 1.0))
    with pytest.raises(DomainError, match=rf"{name} takes numbers and texts, got \[3\]"):
        kind((1, [3]))


def test_grid_levels_of_an_interval_include_both_ends_and_of_a_choice_every_value():
    assert grid_coordinates(Uniform(0.0, 1.0), 3) == [0.0, 0.5, 1.0]
    coordinates = grid_coordinates(Choice((1, 2, 3, 4)), 99)
    assert [Choice((1, 2, 3, 4)).at(u) for u in coordinates] == [1, 2, 3, 4]
    assert len(grid_coordinates(Fixed(1), 5)) == len(grid_coordinates(Published(), 5)) == 1


def test_a_dependent_domain_has_as_many_levels_as_its_richest_case():
    domain = When("optimiser", {"sgd": Choice((1, 2))}, Uniform(0.0, 1.0))
    assert grid_coordinates(domain, 3) == [0.0, 0.5, 1.0]


def test_the_parts_of_a_domain_are_itself_or_every_case():
    assert parts_of(Fixed(3)) == [Fixed(3)]
    assert parts_of(When("optimiser", {"sgd": Fixed(1)}, None)) == [Fixed(1)]
    assert parts_of(When("optimiser", {"sgd": Fixed(1)}, Uniform(0, 2))) == [Fixed(1), Uniform(0, 2)]


@pytest.mark.parametrize(
    ("domain", "values"),
    [
        (Fixed("adam"), ["adam"]),
        (Uniform(0.0, 2.0), [0.0, 2.0]),
        (LogUniform(1.0, 2.0), [1.0, 2.0]),
        (Choice((3, 4, 5)), [3, 4, 5]),
        (Cross((1, 5)), [1, 5]),
        (Published(), []),
    ],
)
def test_range_checks_see_every_value_and_bound(domain, values):
    assert values_of(domain) == values

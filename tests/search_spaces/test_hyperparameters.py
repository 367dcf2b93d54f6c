import itertools
import math

import numpy as np
import pytest
from scipy.stats import qmc

from search_spaces.hyperparameters import DIMENSIONS, HYPERPARAMETERS

FIRST = ("lr", "beta1", "penalty_weight", "beta2", "lr_d_ratio", "clip")


def test_each_drawn_hyperparameter_owns_one_dimension_of_the_design():
    dimensions = [entry.dimension for entry in HYPERPARAMETERS.values() if entry.dimension is not None]
    assert len(set(dimensions)) == len(dimensions)
    assert all(0 <= dimension < DIMENSIONS for dimension in dimensions)


def test_structure_and_only_structure_owns_no_dimension():
    assert [name for name, entry in HYPERPARAMETERS.items() if entry.dimension is None] == ["n_critic", "optimiser"]
    assert all((entry.dimension is None) == (entry.role == "structure") for entry in HYPERPARAMETERS.values())


def fixes_a_half(points, a, b):
    """True if knowing the quarter that coordinate a lies in tells which half coordinate b lies in."""
    quarter, half = np.floor(4 * points[:, a]), np.floor(2 * points[:, b])
    return any(len(np.unique(half[quarter == q])) < 2 for q in range(4))


@pytest.mark.parametrize("n", [16, 32, 64])
def test_the_most_used_names_are_unaliased(n):
    points = qmc.Sobol(DIMENSIONS, scramble=False).random(n)
    owned = [HYPERPARAMETERS[name].dimension for name in FIRST]
    assert [pair for pair in itertools.permutations(owned, 2) if fixes_a_half(points, *pair)] == []


def test_the_alias_check_sees_the_aliases_of_a_plain_numbering():
    points = qmc.Sobol(DIMENSIONS, scramble=False).random(16)
    assert any(fixes_a_half(points, 0, other) for other in range(1, DIMENSIONS))


@pytest.mark.parametrize("name", HYPERPARAMETERS)
def test_a_default_obeys_its_own_rule(name):
    entry = HYPERPARAMETERS[name]
    assert entry.default is None or entry.fault(entry.default) is None


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("lr", 0, "must be above 0"),
        ("lr", -1e-3, "must be above 0"),
        ("lr", math.nan, "must be finite"),
        ("lr", math.inf, "must be finite"),
        ("lr", 10**400, "must be finite"),
        ("lr", True, "must be a number, written without quotes"),
        ("lr", "1e-3", "must be a number, written without quotes"),
        ("beta1", 1, "must be at least 0 and below 1"),
        ("beta2", -0.1, "must be at least 0 and below 1"),
        ("penalty_weight", -1, "must be at least 0"),
        ("n_critic", 0, "must be at least 1"),
        ("n_critic", 1.5, "must be a whole number"),
        ("n_critic", math.inf, "must be finite"),
        ("optimiser", "adan", "must be one of adam, rmsprop, sgd"),
        ("optimiser", 1, "must be one of adam, rmsprop, sgd"),
    ],
)
def test_an_illegal_value_is_told_its_rule(name, value, rule):
    assert HYPERPARAMETERS[name].fault(value) == rule


@pytest.mark.parametrize(
    ("name", "value"),
    [("lr", 1e30), ("beta1", 0), ("penalty_weight", 0.0), ("n_critic", 5.0), ("optimiser", "sgd"), ("clip", 1e-9)],
)
def test_a_legal_value_has_no_fault(name, value):
    assert HYPERPARAMETERS[name].fault(value) is None

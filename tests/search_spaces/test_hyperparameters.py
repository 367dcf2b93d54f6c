import itertools
import math

import numpy as np
import pytest
from scipy.stats import qmc

from search_spaces.hyperparameters import ARCHITECTURE, DIMENSIONS, HYPERPARAMETERS

FIRST = ("lr", "beta1", "penalty_weight", "beta2", "lr_d_ratio", "clip")


def test_each_drawn_hyperparameter_owns_one_dimension_of_the_design():
    dimensions = [entry.dimension for entry in HYPERPARAMETERS.values() if entry.dimension is not None]
    assert len(set(dimensions)) == len(dimensions)
    assert all(0 <= dimension < DIMENSIONS for dimension in dimensions)


def test_only_what_is_always_crossed_owns_no_dimension():
    crossed = [name for name, entry in HYPERPARAMETERS.items() if entry.dimension is None]
    assert crossed == ["n_critic", "optimiser", "network"]
    assert all(HYPERPARAMETERS[name].role == "structure" for name in crossed)


def test_the_architecture_is_what_a_trial_may_do_without():
    parts = [f"{part}_{player}" for part in ("depth", "width", "activation", "norm") for player in "gd"]
    assert list(ARCHITECTURE) == ["network", *parts]
    assert all(HYPERPARAMETERS[name].role == "structure" for name in ARCHITECTURE)


@pytest.mark.parametrize(
    ("name", "legal", "illegal"),
    [
        ("depth_g", [1, 20], [0, 2.5, "deep"]),
        ("activation_d", ["relu", "softplus"], ["swish", 1]),
        ("norm_d", ["none", "layer"], ["virtual", True]),
        ("network", ["dcgan", "nets.py:small"], [3]),
        ("labelled", [0, 100], [-1, 2.5]),
    ],
)
def test_the_values_of_an_architecture(name, legal, illegal):
    assert [HYPERPARAMETERS[name].fault(value) for value in legal] == [None] * len(legal)
    assert all(HYPERPARAMETERS[name].fault(value) for value in illegal)


def fixes_a_half(points, a, b):
    """True if knowing the quarter that coordinate a lies in tells which half coordinate b lies in."""
    quarter, half = np.floor(4 * points[:, a]), np.floor(2 * points[:, b])
    return any(len(np.unique(half[quarter == q])) < 2 for q in range(4))


@pytest.mark.parametrize("n", [16, 32, 64])
def test_the_most_used_names_are_unaliased(n):
    points = qmc.Sobol(DIMENSIONS, scramble=False).random(n)
    owned = [HYPERPARAMETERS[name].dimension for name in FIRST]
    assert [pair for pair in itertools.permutations(owned, 2) if fixes_a_half(points, *pair)] == []


@pytest.mark.parametrize("n", [32, 64, 128])
def test_what_networks_look_like_is_unaliased_with_the_most_used_names(n):
    points = qmc.Sobol(DIMENSIONS, scramble=False).random(n)
    first = [HYPERPARAMETERS[name].dimension for name in FIRST]
    drawn = [HYPERPARAMETERS[name].dimension for name in ARCHITECTURE[1:]]
    pairs = [*itertools.product(first, drawn), *itertools.product(drawn, first)]
    pairs += itertools.permutations(drawn, 2) if n >= 64 else []
    assert [pair for pair in pairs if fixes_a_half(points, *pair)] == []


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

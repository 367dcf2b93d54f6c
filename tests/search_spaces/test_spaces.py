import pytest

from search_spaces.domains import Cross, Fixed, Published, Uniform, parts_of, values_of
from search_spaces.hyperparameters import HYPERPARAMETERS
from search_spaces.spaces import SPACES

ENTRIES = [(space, name) for space in SPACES for name in SPACES[space].domains]


@pytest.mark.parametrize(("space", "name"), ENTRIES)
def test_every_value_of_a_named_prior_is_legal(space, name):
    entry = HYPERPARAMETERS[name]
    for part in parts_of(SPACES[space].domains[name]):
        for value in values_of(part):
            open_end = isinstance(part, Uniform) and value in (entry.low, entry.high)
            assert open_end or entry.fault(value) is None, (name, value)


@pytest.mark.parametrize(("space", "name"), ENTRIES)
def test_structure_is_crossed_and_nothing_else_is(space, name):
    domain = SPACES[space].domains[name]
    if HYPERPARAMETERS[name].role == "structure":
        assert isinstance(domain, Cross | Fixed)
    else:
        assert not any(isinstance(part, Cross | Published) for part in parts_of(domain))


@pytest.mark.parametrize("space", SPACES)
def test_every_range_has_a_source(space):
    assert SPACES[space].sources.keys() == SPACES[space].domains.keys()
    assert all(SPACES[space].sources.values())
    assert SPACES[space].summary


@pytest.mark.parametrize("space", SPACES)
def test_a_named_prior_says_something_of_the_learning_rate(space):
    assert "lr" in SPACES[space].domains


def test_the_wide_prior_has_the_published_bounds():
    domains = SPACES["lucic_wide"].domains
    assert values_of(domains["lr"]) == [1e-5, 1e-2]
    assert values_of(domains["beta1"]) == [0.0, 1.0]
    assert values_of(domains["n_critic"]) == [1, 5]
    assert values_of(domains["penalty_weight"].cases["gp1"]) == [0.1, 100.0]
    assert values_of(domains["clip"]) == [1e-3, 1.0]

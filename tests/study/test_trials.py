import dataclasses

import numpy as np
import pytest

from study.plan import expand, pack
from study.trials import HASHES, INDICES, NUMBERS, Trials


@pytest.fixture
def some(tiny):
    space = {"override": {"lr": {"log_uniform": [1e-3, 1e-1]}, "n_critic": {"cross": [1, 5]}, "optimiser": "sgd"}}
    return expand(tiny(tasks=["manifold-d2", "ring8"], methods=["ns", "wgan+gp1"], space=space))


def test_trials_are_a_sequence(some):
    everything = list(some)
    assert len(some) == len(everything) == 16
    assert [some[place] for place in range(16)] == everything
    assert some[-1] == everything[-1]
    assert list(some[3:12:4]) == everything[3:12:4]
    assert list(some[::-1]) == everything[::-1]
    assert everything[5] in some
    with pytest.raises(IndexError):
        some[16]


def test_trials_made_into_columns_are_the_same_trials(some):
    again = Trials.of(list(some))
    assert again == some
    assert again != some[::-1]
    assert again != list(some)
    assert len(again.kinds) == 8
    assert {name for name in (*HASHES, *INDICES) if (again.columns[name] != some.columns[name]).any()} == set()
    assert Trials.of(some) is some


def test_no_trials_are_columns_too():
    none = Trials.of([])
    assert (len(none), list(none), none.cells(), none.points()) == (0, [], {}, 0)
    assert list(pack([], capacity=4, device="cpu")) == []


def test_a_trial_has_plain_values_and_no_number_that_its_kind_lacks(some):
    for trial in some:
        values = dataclasses.asdict(trial.hyperparameters)
        assert {type(value) for value in values.values()} <= {float, int, str, type(None)}
        assert values["beta2"] is None
        assert (values["penalty_weight"] is None) == (trial.method == "ns")
        assert {type(getattr(trial, name)) for name in INDICES} == {int}


def test_cells_and_points_are_counted(some):
    assert some.cells() == {(t, m): 4 for t in ("manifold-d2", "ring8") for m in ("ns", "wgan+gp1")}
    assert some.points() == 2
    ring = some.cell("ring8", "ns")
    assert {(trial.task, trial.label) for trial in ring} == {("ring8", "ns")}
    assert len(ring) == 4
    assert len(some.cell("ring8", "none")) == 0


def test_points_of_replicates_are_apart(tiny):
    assert expand(tiny(design={"points": 4, "replicates": 3, "seeds": 2})).points() == 12


def test_a_trial_is_found_by_its_id(some):
    assert [some.find(trial.trial_id) for trial in some] == list(range(16))
    assert some.find("0" * 16) is None


@pytest.mark.parametrize("name", [*NUMBERS, "optimiser", "n_critic", "network", "depth_g"])
def test_the_values_of_a_hyperparameter_are_those_of_the_trials(some, name):
    expected = [getattr(trial.hyperparameters, name) for trial in some]
    found = [None if value != value else value for value in some.values(name).tolist()]
    assert found == expected


def test_some_trials_are_taken(some):
    assert list(some.take(np.array([3, 0, 3]))) == [some[3], some[0], some[3]]
    chosen = np.arange(16) % 2 == 1
    assert list(some.take(chosen)) == list(some)[1::2]


# Packs


def test_packs_are_a_sequence_that_knows_its_names(some):
    packs = pack(some, capacity=3, device="cpu")
    assert len(packs) == 8
    assert [one.name for one in packs] == packs.names
    assert packs.sizes.tolist() == [len(one.trials) for one in packs]
    assert packs[1:3] == [packs[1], packs[2]]
    assert packs[-1] == list(packs)[-1]
    with pytest.raises(IndexError):
        packs[8]


def test_a_pack_is_found_by_a_trial_of_it(some):
    packs = pack(some, capacity=3, device="cpu")
    for trial in some:
        assert trial in packs.holding(trial.trial_id).trials

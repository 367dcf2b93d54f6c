import hashlib
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from study.schema import ENGINE_EPOCH
from study.trial import Budget, Hyperparameters, Trial, digest, rounded, shared_config

TRIAL = Trial(
    task="manifold-d2",
    task_version=1,
    method="ns+gp1",
    label="ns+gp1@ttur",
    hyperparameters=Hyperparameters(
        lr_g=1e-3, lr_d=4e-3, beta1=0.5, beta2=0.999, optimiser="adam", n_critic=2, penalty_weight=10.0
    ),
    budget=Budget(unit="generator_steps", steps=100, evaluations=5),
    seed=0,
    config="c" * 16,
    point=3,
    replicate=1,
    key="0123456789abcdef",
    sampler="sobol",
)


def test_the_id_is_the_hash_of_the_documented_content():
    text = (
        '{"budget":{"evaluations":5,"steps":100,"unit":"generator_steps"},"engine_epoch":'
        f'{ENGINE_EPOCH},"hyperparameters":'
        '{"beta1":0.5,"beta2":0.999,"lr_d":0.004,"lr_g":0.001,"n_critic":2,'
        '"optimiser":"adam","penalty_weight":10.0},"key":"0123456789abcdef","method":"ns+gp1",'
        '"task":["manifold-d2",1]}'
    )
    assert TRIAL.trial_id == hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


@pytest.mark.parametrize(
    "change",
    [
        {"task": "manifold-d8"},
        {"task_version": 2},
        {"method": "ns+gp0"},
        {"hyperparameters": replace(TRIAL.hyperparameters, lr_g=1.1e-3)},
        {"hyperparameters": replace(TRIAL.hyperparameters, penalty_weight=1.0)},
        {"budget": Budget(unit="generator_steps", steps=101, evaluations=5)},
        {"budget": Budget(unit="generator_steps", steps=100, evaluations=4)},
        {"budget": Budget(unit="updates", steps=100, evaluations=5)},
        {"key": "0123456789abcdee"},
    ],
    ids=str,
)
def test_whatever_decides_the_outcome_changes_the_id(change):
    assert replace(TRIAL, **change).trial_id != TRIAL.trial_id


@pytest.mark.parametrize(
    "change", [{"label": "ns+gp1"}, {"point": 9}, {"replicate": 0}, {"seed": 4}, {"config": "d"}, {"sampler": "grid"}]
)
def test_no_name_or_index_enters_the_id(change):
    assert replace(TRIAL, **change).trial_id == TRIAL.trial_id


@pytest.mark.parametrize(("unit", "steps"), [("generator_steps", 100), ("discriminator_steps", 33), ("updates", 25)])
def test_a_budget_pays_for_whole_generator_steps(unit, steps):
    assert Budget(unit=unit, steps=100, evaluations=1).generator_steps(n_critic=3) == steps


def test_trials_of_one_structure_differ_only_in_numbers():
    assert replace(TRIAL, hyperparameters=replace(TRIAL.hyperparameters, lr_g=1.0), seed=5).structure == TRIAL.structure
    for change in ({"task": "ring8"}, {"label": "ns+gp1"}, {"budget": Budget(unit="updates", steps=1, evaluations=1)}):
        assert replace(TRIAL, **change).structure != TRIAL.structure
    assert replace(TRIAL, hyperparameters=replace(TRIAL.hyperparameters, n_critic=1)).structure != TRIAL.structure
    assert replace(TRIAL, hyperparameters=replace(TRIAL.hyperparameters, optimiser="sgd")).structure != TRIAL.structure


def test_a_digest_does_not_see_the_order_of_keys():
    assert digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1})
    assert shared_config({"lr": 1.0, "beta1": 0.5}) == shared_config({"beta1": 0.5, "lr": 1.0})


def test_a_digest_refuses_what_json_has_no_word_for():
    with pytest.raises(ValueError, match="Out of range float"):
        digest([float("nan")])


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_rounding_twice_is_rounding_once_and_moves_the_value_by_half_a_unit_of_the_12th_digit(value):
    assert rounded(rounded(value)) == rounded(value)
    assert abs(rounded(value) - value) <= 0.51e-11 * abs(value)


def test_two_ways_of_writing_a_number_give_one_trial():
    assert rounded(0.1 + 0.2) == rounded(0.3)


def test_the_digest_is_json_hashed_by_blake2b():
    content = {"n": [1, None, "x"]}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    assert digest(content) == hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

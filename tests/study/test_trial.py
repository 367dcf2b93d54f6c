import hashlib
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from study.capacity import CPU_MILLISECONDS, seconds_of
from study.schema import ENGINE_EPOCH
from study.spec import BudgetTable
from study.trial import Budget, Hyperparameters, Trial, default_evaluations, digest, rounded, shared_config

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
        {"budget": Budget(unit="generator_steps", steps=100, evaluations=5, schedule="late")},
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


@pytest.mark.parametrize(
    ("steps", "evaluations", "schedule", "stops"),
    [
        (100, 4, "even", [25, 50, 75, 100]),
        # five in the last fifth of 1,000, where the last five of 25 even ones lie
        (1000, 5, "late", [840, 880, 920, 960, 1000]),
        (1000, 2, "late", [960, 1000]),
        # and what is left evenly before: 800 / 2
        (1000, 7, "late", [400, 800, 840, 880, 920, 960, 1000]),
        # of few steps each is another: a twenty-fifth of 6 is no step, nor is a sixth of 80 % of them
        (6, 5, "late", [2, 3, 4, 5, 6]),
        (6, 6, "late", [1, 2, 3, 4, 5, 6]),
        (30, 11, "late", [4, 8, 12, 16, 20, 24, 25, 26, 27, 28, 30]),
    ],
)
def test_evaluations_lie_where_the_schedule_says(steps, evaluations, schedule, stops):
    budget = Budget(unit="generator_steps", steps=steps, evaluations=evaluations, schedule=schedule)
    assert budget.stops(n_critic=1) == stops


@given(st.data(), st.integers(1, 10**6), st.sampled_from([1, 2, 5]))
def test_late_evaluations_are_steps_of_the_budget_each_once_and_its_end_is_measured(data, steps, n_critic):
    evaluations = data.draw(st.integers(1, min(steps, 60)))
    budget = Budget(unit="discriminator_steps", steps=steps * n_critic, evaluations=evaluations, schedule="late")
    stops = budget.stops(n_critic)
    assert len(set(stops)) == evaluations
    assert stops == sorted(stops)
    assert stops[0] >= 1
    assert stops[-1] == steps
    if steps >= 25:  # a whole step for each twenty-fifth
        assert sum(stop > 0.8 * steps for stop in stops) >= min(5, evaluations)


@pytest.mark.parametrize("steps", [25, 1000, 5001, 10**9 + 7])
def test_from_25_evaluations_on_late_ones_are_even(steps):
    late, even = (
        Budget(unit="generator_steps", steps=steps, evaluations=25, schedule=schedule) for schedule in ("late", "even")
    )
    assert late.stops(1) == even.stops(1)


@pytest.mark.parametrize(
    ("unit", "steps", "each", "count"),
    [
        ("generator_steps", 3, 30, 5),
        ("generator_steps", 1000, 30, 5),
        ("generator_steps", 1799, 30, 5),
        ("generator_steps", 1800, 30, 6),
        ("generator_steps", 7500, 30, 25),
        ("generator_steps", 10**6, 30, 25),
        ("generator_steps", 200, 2, 10),
        # a discriminator's update is two thirds of a step at n_critic 1, an update of either is half of one
        ("discriminator_steps", 2700, 30, 6),
        ("updates", 3600, 30, 6),
    ],
)
def test_a_budget_has_so_many_evaluations_by_default(unit, steps, each, count):
    assert default_evaluations(unit, steps, each) == count


LEAST = {"generator_steps": 1000, "discriminator_steps": 2000, "updates": 2500}
"""Steps from which on no task has more evaluations by default than a tenth of the time allows. Of the other units it
takes more than with n_critic 1: with a larger one they buy less time where generators' updates are the dear ones."""


@pytest.mark.parametrize("unit", LEAST)
@pytest.mark.parametrize("n_critic", [1, 5])
@pytest.mark.parametrize("penalised", [False, True], ids=["plain", "penalised"])
@pytest.mark.parametrize(
    ("program", "task"), [(name, task) for name, costs in CPU_MILLISECONDS.items() for task in costs]
)
def test_by_default_evaluations_take_a_tenth_of_the_time_of_training_at_most(program, task, unit, n_critic, penalised):
    """By the measured costs."""
    hyperparameters = replace(TRIAL.hyperparameters, n_critic=n_critic, penalty_weight=1.0 if penalised else None)
    for steps in (LEAST[unit], 3 * LEAST[unit] + 1, 100 * LEAST[unit]):
        budget = BudgetTable(unit=unit, steps=steps).settled(watched=False).of(task, n_critic)
        trial = replace(TRIAL, task=task, method="ns", hyperparameters=hyperparameters, budget=budget)
        cost = seconds_of(trial, 32, "cpu", program)
        assert cost.evaluations <= 0.1 * cost.training


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

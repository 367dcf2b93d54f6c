from dataclasses import replace

import pytest

from study.capacity import CPU_CAPACITY, CPU_MILLISECONDS, PART_COSTS, capacity_of, relative_cost, seconds_of
from study.losses import LOSSES
from study.penalties import PENALTIES
from study.plan import expand
from study.tasks.table import TASKS
from study.techniques import TECHNIQUES


@pytest.fixture
def trial(tiny):
    return expand(tiny(methods=["ns+gp1"]))[0]


@pytest.mark.parametrize("task", TASKS)
def test_every_task_has_a_measured_cost_and_a_capacity(task):
    assert len(CPU_MILLISECONDS[task]) == 4
    assert min(CPU_MILLISECONDS[task]) > 0
    assert capacity_of(task, "ns", "cpu") == CPU_CAPACITY
    assert capacity_of(task, "ns", "cuda") >= CPU_CAPACITY


def test_the_cost_of_a_pack_adds_up(trial, monkeypatch):
    monkeypatch.setitem(CPU_MILLISECONDS, "manifold-d2", (1.0, 2.0, 3.0, 10.0))
    # 6 steps of one penalised discriminator update and one generator update, 2 evaluations, 4 slots
    assert seconds_of(trial, 4, "cpu") == pytest.approx(4 * (6 * (2.0 + 3.0) + 2 * 10.0) / 1000)
    plain = replace(trial, hyperparameters=replace(trial.hyperparameters, penalty_weight=None, n_critic=5))
    assert seconds_of(plain, 1, "cpu") == pytest.approx((6 * (5 * 1.0 + 3.0) + 2 * 10.0) / 1000)


def test_parts_that_cost_multiply(trial, monkeypatch):
    monkeypatch.setitem(CPU_MILLISECONDS, "manifold-d2", (1.0, 2.0, 3.0, 10.0))
    monkeypatch.setattr("study.capacity.PART_COSTS", {"consensus": 5.0, "mmd-rq": 3.0})
    assert relative_cost("mmd-rq+witness+consensus") == 15.0
    costly = replace(trial, method="ns+gp1+consensus")
    assert seconds_of(costly, 4, "cpu") == pytest.approx(4 * (6 * (2.0 + 3.0) * 5 + 2 * 10.0) / 1000)


def test_every_part_that_costs_exists():
    assert set(PART_COSTS) <= {*LOSSES, *PENALTIES, *TECHNIQUES}


def test_what_was_not_measured_is_not_known(trial):
    assert seconds_of(trial, 4, "cuda") is None
    assert seconds_of(replace(trial, task="a user's"), 4, "cpu") is None

from dataclasses import replace

import pytest

from study.capacity import CPU_MILLISECONDS, PART_COSTS, capacity_of, relative_cost, seconds_of, work_of
from study.losses import LOSSES
from study.penalties import PENALTIES
from study.plan import expand
from study.tasks.table import TASKS
from study.techniques import TECHNIQUES
from study.user_files import provide

WIDE = b"""
import torch
from study.tasks.base import Task

images = Task(
    shape=(3, 32, 32),
    draws=1,
    sample=lambda u: u.expand(*u.shape[:-1], 3072),
    evaluate=lambda at: {"m": at.samples.double().mean((1, 2)).abs()},
    evaluation_samples=2,
    metrics=("m",),
    primary="m",
    threshold=0.1,
    anchors=(0.01, 1.0),
)
"""


@pytest.fixture
def trial(tiny):
    return expand(tiny(methods=["ns+gp1"]))[0]


@pytest.mark.parametrize("task", TASKS)
def test_every_task_has_a_measured_cost_and_a_capacity(task):
    assert [len(costs[task]) for costs in CPU_MILLISECONDS.values()] == [4, 4]
    assert min(min(costs[task]) for costs in CPU_MILLISECONDS.values()) > 0


@pytest.mark.parametrize(
    ("task", "override", "cpu", "cuda"),
    [
        ("manifold-d2", {}, 32, 256),
        ("ring8", {"depth_g": 3}, 32, 256),
        ("digits", {}, 32, 256),
        ("digits", {"network": "mlp"}, 32, 256),
        ("digits", {"network": "dcgan"}, 16, 64),
        ("wide.py:images", {}, 32, 256),
        ("wide.py:images", {"network": "dcgan"}, 1, 1),
    ],
)
def test_networks_and_image_size_make_the_capacity(tiny, task, override, cpu, cuda):
    provide("wide.py", WIDE)
    space = {"override": {"lr": 1e-3} | override}
    trial = expand(tiny(tasks=[task], space=space))[0]
    assert (capacity_of(trial, "cpu"), capacity_of(trial, "cuda")) == (cpu, cuda)


def test_work_grows_with_steps_updates_networks_and_method(tiny):
    def work(method="ns", **override):
        return work_of(expand(tiny(tasks=["ring8"], methods=[method], space={"override": {"lr": 1e-3} | override}))[0])

    # 6 steps of 2 updates on a generator of 2-64-64-2 and a discriminator of 2-64-64-1
    generator, discriminator = 2 * 64 + 64 + 64 * 64 + 64 + 64 * 2 + 2, 2 * 64 + 64 + 64 * 64 + 64 + 64 + 1
    assert work() == 6 * 2 * (generator + discriminator)
    assert work(n_critic=5) == 3 * work()
    assert work("ns+consensus") == PART_COSTS["recorded"]["consensus"] * work()
    assert work(width_d=32) == 6 * 2 * (generator + 2 * 32 + 32 + 32 * 32 + 32 + 32 + 1)


@pytest.fixture
def costs(monkeypatch):
    for factor, program in ((1.0, "recorded"), (0.5, "native")):
        monkeypatch.setitem(CPU_MILLISECONDS, program, {"manifold-d2": (factor, 2 * factor, 3 * factor, 10 * factor)})


def test_the_cost_of_a_pack_adds_up(trial, costs):
    # 6 steps of one penalised discriminator update and one generator update, 2 evaluations, 4 slots
    assert seconds_of(trial, 4, "cpu", "recorded") == pytest.approx((4 * 6 * (2.0 + 3.0) / 1000, 4 * 2 * 10.0 / 1000))
    assert seconds_of(trial, 4, "cpu", "native") == pytest.approx((4 * 6 * (1.0 + 1.5) / 1000, 4 * 2 * 5.0 / 1000))
    plain = replace(trial, hyperparameters=replace(trial.hyperparameters, penalty_weight=None, n_critic=5))
    assert seconds_of(plain, 1, "cpu", "recorded") == pytest.approx((6 * (5 * 1.0 + 3.0) / 1000, 2 * 10.0 / 1000))


def test_parts_that_cost_multiply(trial, costs, monkeypatch):
    monkeypatch.setitem(PART_COSTS, "recorded", {"consensus": 5.0, "mmd-rq": 3.0})
    monkeypatch.setitem(PART_COSTS, "native", {"consensus": 7.0, "mmd-rq": 11.0})
    assert relative_cost("mmd-rq+witness+consensus", "recorded") == 15.0
    assert relative_cost("mmd-rq+witness+consensus", "native") == 77.0
    costly = replace(trial, method="ns+gp1+consensus")
    for program, factor, parts in (("recorded", 1.0, 5.0), ("native", 0.5, 7.0)):
        training, evaluations = 4 * 6 * (2.0 + 3.0) * factor * parts / 1000, 4 * 2 * 10.0 * factor / 1000
        assert seconds_of(costly, 4, "cpu", program) == pytest.approx((training, evaluations))


def test_every_part_that_costs_exists():
    assert PART_COSTS.keys() == CPU_MILLISECONDS.keys()
    for costs in PART_COSTS.values():
        assert set(costs) <= {*LOSSES, *PENALTIES, *TECHNIQUES}


def test_what_was_not_measured_is_not_known(trial):
    assert seconds_of(trial, 4, "cuda", "recorded") is None
    assert seconds_of(replace(trial, task="a user's"), 4, "cpu", "recorded") is None

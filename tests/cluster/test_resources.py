"""What a pack asks of a node, how many fit, and what can never be had."""

import math
import os
import random

import pytest

from cluster.resources import CROWD, HEADROOM, Ask, ask_of, cores, refusal, room


@pytest.mark.parametrize(
    ("ask", "node", "packs"),
    [
        (Ask(1, 0), (4.0, 0.0), 4),
        (Ask(1, 0), (3.9, 2.0), 3),
        (Ask(1, 0), (0.0, 8.0), 0),
        (Ask(1, 1), (8.0, 2.0), 2),
        (Ask(1, 1), (1.0, 2.0), 1),  # each pack needs a CPU too
        (Ask(1, 1), (8.0, 0.0), 0),
        (Ask(1, 0.5), (8.0, 2.0), 4),
        (Ask(1, 0.5), (3.0, 2.0), 3),
        (Ask(1, 1 / 3), (8.0, 1.0), 3),  # a third three times is one
        (Ask(1, 0.3), (8.0, 1.0), 3),
        (Ask(1, 0.4), (8.0, 2.0), 4),  # not five: no pack has a part of each of two GPUs
        (Ask(1, 0.6), (8.0, 3.0), 3),
    ],
)
def test_how_many_packs_a_node_has_room_for(ask, node, packs):
    assert ask.fits(node) == packs


def test_room_is_the_sum_over_nodes():
    assert room(Ask(1, 0.5), [(4.0, 1.0), (4.0, 0.0), (1.0, 1.0)]) == 2 + 0 + 1
    assert room(Ask(1, 0), []) == 0


def test_a_cpu_sweep_asks_for_no_gpu_whatever_was_measured():
    assert ask_of("cpu", taken=0.5) == Ask(1, 0)


def test_the_users_part_of_a_gpu_is_what_a_pack_gets():
    assert ask_of("cuda", gpu=0.25, taken=0.9) == Ask(1, 0.25)


@pytest.mark.parametrize(
    ("taken", "beside"), [(0.0, 1), (0.9, 1), (0.41, 1), (0.4, 2), (0.2, 4), (0.05, 16), (1e-6, CROWD), (1.7, 1)]
)
def test_a_measured_pack_shares_its_gpu_with_as_many_as_fit(taken, beside):
    assert ask_of("cuda", taken=taken) == Ask(1, 1 / beside)


def test_shares_never_promise_more_memory_than_there_is():
    draw = random.Random(1)
    for _ in range(200):
        taken = draw.uniform(0.001, 1.0)
        packs = ask_of("cuda", taken=taken).fits((64.0, 1.0))
        assert 1 <= packs <= CROWD
        assert packs == 1 or packs * taken * HEADROOM <= 1 + 1e-9
        # and no more are kept out than need be
        assert packs == CROWD or (packs + 1) * taken * HEADROOM > 1 - 1e-9
        assert math.isclose(round(1 / ask_of("cuda", taken=taken).gpu), 1 / ask_of("cuda", taken=taken).gpu)


def test_what_no_node_has_is_refused_with_what_they_have():
    said = refusal(Ask(1, 1), "cuda", [(4.0, 0.0), (8.0, 0.0)], grows=False)
    assert said == (
        "execution.device = 'cuda': a pack needs 1 CPU and 1 GPU on one node, and none of the Ray cluster's 2 nodes "
        "has that: 8 CPU and 0 GPU; 4 CPU and 0 GPU"
    )
    # not on one node, though the cluster has both
    assert "0 CPU and 4 GPU" in refusal(Ask(1, 0.5), "cuda", [(4.0, 0.0), (0.0, 4.0)], grows=False)
    assert refusal(Ask(1, 0), "cpu", [(0.0, 0.0)], grows=False).endswith("1 nodes has that: 0 CPU and 0 GPU")
    assert refusal(Ask(1, 0), "cpu", [], grows=False).endswith("there are none")


def test_only_eight_of_many_nodes_are_told():
    assert refusal(Ask(1, 1), "cuda", [(float(i), 0.0) for i in range(500)], grows=False).count("GPU;") == 7


def test_what_can_be_had_or_may_come_is_not_refused():
    assert refusal(Ask(1, 1), "cuda", [(4.0, 0.0), (1.0, 1.0)], grows=False) is None
    assert refusal(Ask(1, 1), "cuda", [(0.0, 0.0)], grows=True) is None


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 8),
        ({"cpu.max": "max 100000\n"}, 8),
        ({"cpu.max": "250000 100000\n"}, 2),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu.max": "6400000 100000\n"}, 8),
        ({"cpu.max": ""}, 8),
        ({"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 8),
        ({"cpu/cpu.cfs_quota_us": "300000\n"}, 8),
    ],
)
def test_cpus_are_those_that_this_process_may_use(tmp_path, monkeypatch, files, expected):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    assert cores(tmp_path) == expected


def test_of_a_machine_a_process_may_be_bound_to_a_part(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3}, raising=False)
    assert cores() == 1
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert cores() == 1

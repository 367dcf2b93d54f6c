"""Small plans for the engine's tests."""

import pytest

from study.plan import expand, pack
from study.spec import parse_sweep


@pytest.fixture(scope="session")
def small_pack():
    """A function giving the first pack of a sweep of one task and method."""

    def make(task="manifold-d2", method="ns+gp1", *, steps=12, evaluations=3, points=4, capacity=4, **override):
        space = {"lr": {"log_uniform": [1e-3, 1e-2]}, "beta1": {"uniform": [0.0, 0.9]}, "n_critic": 2} | override
        raw = {
            "name": "small",
            "tasks": [task],
            "methods": [method],
            "budget": {"steps": steps, "evaluations": evaluations},
            "space": {"preset": "lucic_wide", "override": space},
            "design": {"points": points},
        }
        return pack(expand(parse_sweep(raw, source="test")), capacity=capacity, device="cpu")[0]

    return make

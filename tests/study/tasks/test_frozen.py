import math

import pytest
import torch

from study.losses import LOSSES
from study.networks.mlp import mlp
from study.plan import expand, pack
from study.spec import parse_sweep
from study.tasks.base import Snapshot
from study.tasks.frozen import LOG4, POINTS, apart, best, frozen, on_line
from study.tasks.table import get_task
from study.train import train


def softplus(t):
    return math.log1p(math.exp(t))


def sigmoid(t):
    return 1 / (1 + math.exp(-t))


def measured(critic, *, offset=1.0):
    """Values of one trial whose critic maps points (m, 2) to outputs (m,)."""
    task = frozen(offset=offset)
    return task.evaluate(
        Snapshot(
            {"shift": torch.tensor([[offset, 0.0]])},
            torch.empty(1, 0, 2),
            critic=lambda x: critic(x[0])[None, :, None],
            slope=lambda x: torch.func.grad(lambda points: critic(points).sum())(x[0])[None],
        )
    )


@pytest.mark.parametrize(("a", "b", "offset"), [(0.5, 1.0, 1.0), (4.0, 8.0, 1.0), (-1.0, 0.25, 3.0), (2.0, 1.5, -2.0)])
def test_linear_critic(a, b, offset):
    values = measured(lambda x: a - b * x[:, 0] + 0 * x[:, 1], offset=offset)
    on_fake = a - b * offset
    expected = {
        "value": -softplus(-a) - softplus(on_fake),
        "value_gap": softplus(-a) + softplus(on_fake),
        "grad_mm": sigmoid(on_fake) * b,
        "grad_ns": sigmoid(-on_fake) * b,
        "grad_wgan": b,
        "selection": softplus(-a) + softplus(on_fake),
    }
    assert {name: float(value) for name, value in values.items()} == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("offset", [0.0, 1.0])
def test_slopes_are_those_of_the_losses(offset):
    network = mlp([2, 8, 1])
    uniforms = torch.rand(network.size, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    parameters = {name: 4 * value for name, value in network.initialise(uniforms).items()}

    def critic(x):
        return network.apply(parameters, x)[:, 0]

    values = measured(critic, offset=offset)
    along = (torch.arange(POINTS, dtype=torch.float64) + 0.5) / POINTS
    for name in ("mm", "ns", "wgan"):
        moved = torch.tensor(offset, dtype=torch.float64, requires_grad=True)
        outputs = critic(torch.stack([moved.expand(POINTS), along], 1))
        (slope,) = torch.autograd.grad(LOSSES[name].generator(outputs, outputs).mean(), moved)
        assert float(values[f"grad_{name}"]) == pytest.approx(abs(float(slope)), rel=1e-9)


def test_best_value_is_that_of_the_divergence():
    # -log 4 + 2 JSD: JSD is log 2 where supports are disjoint and 0 where the distributions are one
    assert best(0.0) == -LOG4 == pytest.approx(-1.386294, abs=5e-7)
    assert best(1.0) == best(-3.0) == best(1e-6) == 0


def right_with(p):
    return lambda x: (1 - 2 * (x[:, 0] > 0.5).double()) * math.log(p / (1 - p)) + 0 * x.sum(1)


def by_chance(p):
    """Either side on every other of the points."""
    return lambda x: (1 - 2 * ((x[:, 1] * POINTS).floor() % 2)) * math.log(p / (1 - p)) + 0 * x.sum(1)


MAKERS = {
    "D right and certain": (1.0, right_with(1 - 1e-12)),
    "D right with 0.99": (1.0, right_with(0.99)),
    "D right with 0.9": (1.0, right_with(0.9)),
    "slope of 1, 0 halfway": (1.0, lambda x: 0.5 - x[:, 0] + 0 * x[:, 1]),
}
TOGETHER = {
    "D = 0.6 or 0.4 by chance": (0.0, by_chance(0.6)),
    "D = 0.75 or 0.25 by chance": (0.0, by_chance(0.75)),
    "D = 0.9 or 0.1 by chance": (0.0, by_chance(0.9)),
}


@pytest.mark.parametrize(("offset", "makers"), [(1.0, MAKERS), (0.0, TOGETHER)])
def test_controls_measure_as_recorded(offset, makers):
    recorded = {control.name: control.value for control in frozen(offset=offset).controls}
    for name, (where, critic) in (makers | {"D = 1/2": (offset, lambda x: 0 * x.sum(1))}).items():
        # "certain" is so but for 1e-12, and logits are exact to 1e-12 of themselves
        assert float(measured(critic, offset=where)["value_gap"]) == pytest.approx(recorded.pop(name), abs=1e-10)
    assert not recorded


@pytest.mark.parametrize("offset", [0.0, 0.5, 1.0, 8.0, -2.0])
def test_threshold_lies_between_the_controls_of_every_offset(offset):
    task = frozen(offset=offset)
    for control in task.controls:
        if control.must:
            assert (control.value <= task.threshold) == (control.must == "pass")


def test_slope_control_tells_the_offset():
    assert {c.name: c.value for c in apart(4.0)}["slope of 1, 0 halfway"] == pytest.approx(2 * softplus(-2))


def test_generated_line_is_uniform_and_beside_the_data():
    task = frozen(offset=2.0)
    z = torch.randn(4000, 1, generator=torch.Generator().manual_seed(0))
    fake = task.generator.apply(task.generator.initialise(torch.rand(2)), z)
    assert (fake[:, 0] == 2).all()
    assert torch.equal(on_line(z)[:, 1], fake[:, 1])
    # Kolmogorov and Smirnov at 1e-6: 2.7 / sqrt(n)
    sorted_u = fake[:, 1].sort().values
    assert float((sorted_u - (torch.arange(4000) + 0.5) / 4000).abs().max()) < 2.7 / math.sqrt(4000)
    real = task.sample(torch.tensor([[0.25], [0.75]]))
    assert real.tolist() == [[0, 0.25], [0, 0.75]]


def trained(task, method, steps, **override):
    raw = {
        "name": "small",
        "tasks": [task],
        "methods": [method],
        "budget": {"steps": steps, "evaluations": 5},
        "space": {"override": {"lr": 0.003, "beta1": 0.5, "n_critic": 1} | override},
        "design": {"points": 1, "seeds": 2},
    }
    return train(pack(expand(parse_sweep(raw, source="test")), capacity=2, device="cpu")[0].trials, capacity=2)


def column(state, name):
    return torch.tensor([evaluation.values[name].tolist() for evaluation in state.evaluations])


def test_saturating_slope_vanishes_and_the_other_does_not():
    state = trained("frozen", "ns", 250)
    gap, mm, ns = (column(state, name) for name in ("value_gap", "grad_mm", "grad_ns"))
    assert (gap[-1] < frozen().threshold).all()
    assert (gap >= 0).all()
    assert (mm[1:] < mm[:-1]).all()
    assert (mm[-1] < 0.05).all()
    assert (ns[-1] > 1).all()
    assert torch.equal(state.tensors["theta"], torch.tensor([[1.0, 0.0]] * 2))
    assert (column(state, "grad_norm_g") == 0).all()


def test_on_one_line_nothing_is_found():
    state = trained("frozen[offset=0]", "ns", 100)
    # no discriminator is better than -log 4, which rounding in float32 may pass by 1e-7
    assert (column(state, "value") <= -LOG4 + 1e-6).all()
    assert (column(state, "value_gap")[-1] < get_task("frozen[offset=0]").threshold).all()

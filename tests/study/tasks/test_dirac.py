import math

import pytest
import torch

from study.tasks.base import Snapshot
from study.tasks.dirac import CONTROLS, START, STEP, THRESHOLD, TIME, dirac, evaluate

NOTHING = torch.empty(1, 0, 1)


def measured(theta):
    return evaluate(Snapshot({"theta": torch.as_tensor(theta, dtype=torch.float64).reshape(-1, 1)}, NOTHING))["w2sq"]


def circle(radius):
    """The median over an even turn, off the axes so that no angle is counted twice."""
    angles = 2 * math.pi * (torch.arange(4000, dtype=torch.float64) + 0.25) / 4000
    return float(measured(radius * angles.cos()).quantile(0.5))


RECORDED = {control.name: control.value for control in CONTROLS}


@pytest.mark.parametrize(
    ("name", "theta"), [("at the data", 0), ("half of the start's distance", 0.5), ("start", -START), ("start", START)]
)
def test_control_at_a_point(name, theta):
    assert float(measured(theta)) == RECORDED[name]


@pytest.mark.parametrize(
    ("name", "radius"),
    [
        ("circle through the start", START),
        ("ring of ns at a step of 0.01", math.sqrt(2 * STEP)),
        ("shrinking circle of ns at t = 1000", math.sqrt(8 / TIME)),
    ],
)
def test_control_on_a_circle(name, radius):
    # 4000 angles leave the median open by the slope of cos^2, at most 1, times their distance of 2 pi / 4000.
    assert circle(radius) == pytest.approx(RECORDED[name], rel=4 * math.pi / 4000)


def test_every_control_is_measured():
    assert len(RECORDED) == 6


def test_unpenalised_flow_shrinks_as_recorded():
    def slope(theta, psi):
        u = theta * psi
        return psi / (1 + math.exp(u)), -theta / (1 + math.exp(-u))

    def moved(state, step, along):
        return [x + step * v for x, v in zip(state, along, strict=True)]

    r0, h, steps = 0.2, 0.125, 16000
    state = [r0, 0.0]
    for _ in range(steps):  # Runge-Kutta at angular speed 1/2 loses a share (h / 2)^6 / 72 of r^2 a step, 1.3e-5 in all
        a = slope(*state)
        b = slope(*moved(state, h / 2, a))
        c = slope(*moved(state, h / 2, b))
        d = slope(*moved(state, h, c))
        state = [x + h / 6 * (p + 2 * q + 2 * r + s) for x, p, q, r, s in zip(state, a, b, c, d, strict=True)]
    # With u = r^2 sin(2 phi) / 2, d(r^2)/dt = -2 u tanh(u / 2) makes 1 / r^2 grow by (1 - cos(4 phi)) / 8: the second
    # part sways by 1/16, and what is left out is a share of r^4.
    found = 1 / (state[0] ** 2 + state[1] ** 2)
    assert found == pytest.approx(1 / r0**2 + steps * h / 8, abs=1 / 16 + 275 * r0**4)


def test_threshold_is_where_the_reasoning_says():
    assert math.sqrt(THRESHOLD) == pytest.approx(START / 100)
    assert pytest.approx(40000) == 4 / THRESHOLD
    assert -math.log(THRESHOLD) == pytest.approx(9.2, abs=0.05)
    assert dirac().anchors == (pytest.approx((START / 1000) ** 2), START**2)


def test_start_is_on_either_side_with_any_slope():
    task = dirac()
    uniforms = torch.rand(200, 1, generator=torch.Generator().manual_seed(0))
    theta = torch.cat([task.generator.initialise(u)["theta"] for u in uniforms])
    assert set(theta.tolist()) == {-START, START}
    # 200 tosses: five standard deviations
    assert abs(float(theta.mean())) < 5 / math.sqrt(200)
    psi = torch.cat([task.discriminator.initialise(u)["psi"] for u in uniforms])
    assert psi.shape == (200, 1)
    assert -1 < float(psi.min()) < -0.9 < 0.9 < float(psi.max()) < 1


def test_networks_are_a_point_and_a_slope():
    task = dirac()
    assert (task.generator.size, task.discriminator.size, task.data_width) == (1, 1, 1)
    z = torch.randn(5, 1, generator=torch.Generator().manual_seed(0))
    assert torch.equal(task.generator.apply({"theta": torch.tensor([0.3])}, z), torch.full((5, 1), 0.3))
    assert torch.equal(task.discriminator.apply({"psi": torch.tensor([[-2.0]])}, z), -2 * z)
    assert torch.equal(task.sample(torch.rand(4, 8, 1)), torch.zeros(4, 8, 1))


def test_side_of_the_data_is_told():
    values = evaluate(Snapshot({"theta": torch.tensor([[-0.5], [0.25]])}, torch.empty(2, 0, 1)))
    assert values["theta"].tolist() == [-0.5, 0.25]
    assert values["w2sq"].tolist() == values["selection"].tolist() == [0.25, 0.0625]

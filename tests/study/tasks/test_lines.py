import math

import pytest
import torch

from study.errors import UserError
from study.networks.mlp import mlp
from study.tasks.base import Snapshot
from study.tasks.lines import SAMPLES, lines
from study.tasks.table import get_task

TASK = lines()


def snapshot(theta, critic):
    """Generators at some places, and a critic of a batch of points (m, 2) for all of them."""
    theta = torch.as_tensor(theta, dtype=torch.float64).reshape(-1, 1)
    latent = torch.randn(len(theta), SAMPLES, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    samples = torch.func.vmap(TASK.generator.apply)({"theta": theta}, latent)
    slope = torch.func.grad(lambda points: critic(points).sum())
    return Snapshot({"theta": theta}, samples, critic=torch.func.vmap(critic), slope=torch.func.vmap(slope))


def tilted(a, b, c=0.0):
    return lambda points: (points @ points.new_tensor([[a], [b]])) + c


def measured(theta, critic=None):
    return TASK.evaluate(snapshot(theta, critic or tilted(1.0, 0.0)))


RECORDED = {
    "at the data": 0.0,
    "a hundredth of the way left": 0.01,
    "half way": 0.5,
    "start": 1.0,
    "as far on the other side": -1.0,
}


@pytest.mark.parametrize("offset", [0.25, 1.0, 8.0])
def test_controls_are_distances(offset):
    task = lines(offset=offset)
    recorded = {control.name: control.value for control in task.controls}
    for name, place in RECORDED.items():
        assert float(measured(offset * place)["w1"]) == recorded.pop(name)
    angles = 2 * math.pi * (torch.arange(4000, dtype=torch.float64) + 0.25) / 4000
    median = float((offset * angles.cos()).abs().quantile(0.5))
    # 4000 angles leave the median open by the slope of cos, at most 1, times their distance.
    assert median == pytest.approx(recorded.pop("circle through the start"), abs=offset * 2 * math.pi / 4000)
    assert not recorded
    assert (task.threshold, task.anchors) == (0.1 * offset, (0.01 * offset, offset))


def test_divergence_is_log_two_until_the_lines_meet():
    assert measured([0.0, 1e-30, -0.5, 7.0])["jsd"].tolist() == [0.0, *[math.log(2)] * 3]


def test_generator_starts_at_the_offset_and_is_uniform_along_the_line():
    task = get_task("lines[offset=3]")
    assert task.generator.initialise(torch.tensor([0.2]))["theta"].tolist() == [3.0]
    uniform = torch.rand(200, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    made = task.generator.apply({"theta": torch.tensor([3.0]).double()}, torch.special.ndtri(uniform))
    torch.testing.assert_close(made, torch.cat([torch.full_like(uniform, 3.0), uniform], 1), rtol=0, atol=1e-14)
    assert torch.equal(task.sample(uniform), torch.cat([torch.zeros_like(uniform), uniform], 1))


def test_slopes_of_a_linear_critic_have_closed_forms():
    theta, a, c = torch.tensor([0.5, 2.0]), -1.5, 0.3
    values = measured(theta, tilted(a, 0.0, c))
    outputs = a * theta.double() + c
    expected = {
        "grad_mm_n1024": -a * torch.sigmoid(outputs),
        "grad_ns_n1024": -a * torch.sigmoid(-outputs),
        "grad_wgan_n1024": torch.full_like(outputs, -a),
    }
    for name, value in expected.items():
        torch.testing.assert_close(values[name], value, rtol=1e-6, atol=0)  # the critic's numbers are float32


def test_slopes_are_the_losses_derivatives_in_theta():
    critic = mlp([2, 16, 1])
    weights = critic.initialise(torch.rand(critic.size, generator=torch.Generator().manual_seed(1)))
    weights = {name: value.double() for name, value in weights.items()}

    def output(points):
        return critic.apply(weights, points)

    at = snapshot([0.7], output)
    along = at.samples[0, :, 1:]
    theta = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    logits = output(torch.cat([theta.expand(SAMPLES, 1), along], 1))
    softplus = torch.nn.functional.softplus
    losses = {
        "grad_mm_n1024": -softplus(logits).mean(),
        "grad_ns_n1024": softplus(-logits).mean(),
        "grad_wgan_n1024": -logits.mean(),
    }
    values = TASK.evaluate(at)
    for name, loss in losses.items():
        (expected,) = torch.autograd.grad(loss, theta, retain_graph=True)
        assert float(values[name]) == pytest.approx(float(expected), rel=1e-10)


def test_sure_critic_stops_minimax_and_not_the_others():
    # Real points at +10, the generator's at -10: the picture of parallel manifolds and a well-trained critic.
    values = measured([1.0], tilted(-20.0, 0.0, 10.0))
    assert 0 < float(values["grad_mm_n1024"]) < 20 * math.exp(-10)
    assert float(values["grad_ns_n1024"]) == pytest.approx(20, rel=1e-4)
    assert float(values["grad_wgan_n1024"]) == pytest.approx(20, rel=1e-6)


def test_broken_trial_is_told_in_every_column():
    values = measured([1.0, math.nan, math.inf])
    for name, value in values.items():
        assert torch.isfinite(value).tolist() == [True, False, False], name


def test_offset_must_be_positive():
    with pytest.raises(UserError, match="offset = 0: the lines must start at a positive distance"):
        get_task("lines[offset=0]")

import functools
import math

import numpy as np
import pytest
import torch

from study.tasks.base import Snapshot
from study.tasks.gaussians import FRESH, TRAINING, evaluate, fakes, optimal, points, sample, two_gaussians

MEANS = ([0.4, 0.9], [1.3, 1.2])
COVARIANCES = ([[1, 0.5], [0.5, 1]], [[1, 0.7], [0.7, 1]])
SIDES = [
    torch.distributions.MultivariateNormal(torch.tensor(m, dtype=torch.float64), torch.tensor(c, dtype=torch.float64))
    for m, c in zip(MEANS, COVARIANCES, strict=True)
]


def ratio(x):
    """log p_r - log p_g by another library."""
    return SIDES[0].log_prob(x) - SIDES[1].log_prob(x)


def seen():
    """The 200 points, and which of them are real."""
    return torch.cat(points("training", TRAINING)).double(), torch.arange(2 * TRAINING) < TRAINING


def neighbours(k):
    x, real = seen()

    def critic(points):
        near = torch.cdist(points, x).topk(k, largest=False).indices
        return torch.logit(real[near].double().mean(-1).clamp(1e-12, 1 - 1e-12))

    return critic


@functools.cache
def regression():
    """Coefficients of the logistic regression on the 200 points, by Newton's method."""
    x, real = seen()
    design, w = torch.cat([x, torch.ones(len(x), 1)], 1).double(), torch.zeros(3, dtype=torch.float64)
    for _ in range(30):
        p = torch.sigmoid(design @ w)
        w = w + torch.linalg.solve(design.T @ (design * (p * (1 - p))[:, None]), design.T @ (real.double() - p))
    return w


MAKERS = {
    "optimal": ratio,
    "logistic regression": lambda x: x @ regression()[:2] + regression()[2],
    "twenty nearest neighbours": neighbours(20),
    "half of the logit": lambda x: ratio(x) / 2,
    "a quarter of the logit": lambda x: ratio(x) / 4,
    "three times the logit": lambda x: 3 * ratio(x),
    "D = 1/2": lambda x: 0 * x[..., 0],
    "nearest point by heart": neighbours(1),
    "the wrong way round": lambda x: -ratio(x),
}


def measured(*critics):
    """Values of trials whose critics map points (m, 2) to outputs (m,)."""

    def outputs(x):
        return torch.stack([critic(part)[:, None] for critic, part in zip(critics, x.double(), strict=True)])

    def slope(x):
        return torch.stack(
            [
                torch.func.grad(lambda p, critic=critic: critic(p).sum())(part)
                for critic, part in zip(critics, x.double(), strict=True)
            ]
        )

    return evaluate(
        Snapshot({"shift": torch.zeros(len(critics), 2)}, torch.empty(len(critics), 0, 2), critic=outputs, slope=slope)
    )


@pytest.mark.parametrize("control", two_gaussians().controls, ids=lambda control: control.name)
def test_control_measures_as_recorded(control):
    # four decimals are recorded; float32 rounding of the points is far below
    assert float(measured(MAKERS[control.name])["d_mse_n4096"]) == pytest.approx(control.value, abs=6e-5)


def test_every_control_has_a_maker():
    assert {control.name for control in two_gaussians().controls} == set(MAKERS)


def test_optimal_logit_is_the_log_ratio_of_densities():
    x = torch.randn(50, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(optimal(x), ratio(x), rtol=1e-12, atol=1e-12)


def test_errors_are_expectations_over_the_mixture():
    # E (D* - 1/2)^2 and E |D* - 1/2| over the plane, by a fine grid; smooth integrands make the sum all but exact
    axis = torch.arange(-6, 8, 0.02, dtype=torch.float64)
    x = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1)
    weight = (SIDES[0].log_prob(x).exp() + SIDES[1].log_prob(x).exp()) / 2 * 0.02**2
    off = ratio(x).sigmoid() - 0.5
    assert float(weight.sum()) == pytest.approx(1, abs=1e-5)
    values = measured(lambda x: 0 * x[..., 0])
    # |D* - 1/2| is in (0, 1/2): of 4096 draws the mean has at most this standard error
    error = 0.25 / math.sqrt(2 * FRESH)
    assert float(values["d_mae_n4096"]) == pytest.approx(float((weight * off.abs()).sum()), abs=4 * error)
    assert float(values["d_mse_n4096"]) == pytest.approx(float((weight * off**2).sum()), abs=4 * error / 2)
    assert float(values["selection"]) == pytest.approx(float((weight * off**2).sum()), abs=4 * error / 2)
    assert float(values["selection"]) != float(values["d_mse_n4096"])


def test_loss_gap_is_what_was_learned_by_heart():
    # certain of every point seen, and 1/2 elsewhere: log 4 on fresh draws, 0 on those seen
    x, real = seen()

    def critic(points):
        near = torch.cdist(points, x).min(-1)
        return torch.where(near.values < 1e-9, torch.where(real[near.indices], 30.0, -30.0), 0.0).double()

    values = measured(critic, lambda x: 0 * x[..., 0])
    assert values["loss_gap_n4096"].tolist() == pytest.approx([math.log(4), 0], abs=1e-9)
    assert values["slope_mean_n4096"].tolist() == [0, 0]


def test_slope_of_a_linear_critic():
    assert float(measured(lambda x: 3 * x[..., 0] - 4 * x[..., 1])["slope_mean_n4096"]) == pytest.approx(5)


@pytest.mark.parametrize(("which", "count"), [("training", TRAINING), ("test", FRESH), ("selection", FRESH)])
@pytest.mark.parametrize("side", [0, 1])
def test_points_are_draws_of_their_gaussian(which, count, side):
    x = points(which, count)[side].double()
    assert x.shape == (count, 2)
    error = 4 / math.sqrt(count)
    assert x.mean(0).tolist() == pytest.approx(MEANS[side], abs=error)
    # a covariance's standard error is sqrt((1 + rho^2) / n), at most sqrt(2 / n)
    assert np.allclose(x.T.cov(), COVARIANCES[side], atol=error * math.sqrt(2))


def test_splits_share_no_point():
    everything = torch.cat(
        [torch.cat(points(*split)) for split in (("training", 100), ("test", 2048), ("selection", 2048))]
    )
    assert len(torch.unique(everything, dim=0)) == len(everything)


def test_training_sees_each_fixed_point_equally_often():
    uniforms = (torch.arange(1000)[:, None] + 0.5) / 1000
    for drawn, expected in (
        (sample(uniforms), points("training", TRAINING).real),
        (fakes(torch.special.ndtri(uniforms.double())), points("training", TRAINING).fake),
    ):
        found, counts = torch.unique(drawn, dim=0, return_counts=True)
        assert (counts == 10).all()
        assert torch.equal(found.float(), torch.unique(expected, dim=0))


def test_network_is_the_published_one():
    task = two_gaussians()
    assert [shape for shape in task.discriminator.shapes.values() if len(shape) == 2] == [(2, 64), (64, 64), (64, 1)]
    parameters = task.discriminator.initialise(torch.rand(task.discriminator.size))
    # tanh is odd: without biases the function is too
    odd = {name: value if value.ndim == 2 else 0 * value for name, value in parameters.items()}
    x = torch.randn(9, 2, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(task.discriminator.apply(odd, -x), -task.discriminator.apply(odd, x))
    assert task.losses == ("mm", "ns")
    assert task.batch == 20

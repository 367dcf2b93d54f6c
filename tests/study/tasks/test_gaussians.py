import functools
import math

import numpy as np
import pytest
import torch

from study.tasks.base import Snapshot
from study.tasks.gaussians import (
    FRESH,
    KEPT,
    TRAINING,
    evaluate,
    fakes,
    gaussian,
    lattice,
    optimal,
    points,
    sample,
    two_gaussians,
)

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
    return torch.cat(points("training")).double(), torch.arange(2 * TRAINING) < TRAINING


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
    assert float(measured(MAKERS[control.name])["d_mse_n754"]) == pytest.approx(control.value, abs=6e-5)


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
    # |D* - 1/2| is in (0, 1/2): one standard error of as many as 2 x 2048 draws, at most, which a lattice keeps below
    error = 0.25 / math.sqrt(2 * 2048)
    assert float(values["d_mae_n754"]) == pytest.approx(float((weight * off.abs()).sum()), abs=error)
    assert float(values["d_mse_n754"]) == pytest.approx(float((weight * off**2).sum()), abs=error / 2)
    # the same lattice elsewhere: what it errs by, four standard deviations
    shifts = torch.rand(64, 2, 1, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    elsewhere = [
        torch.cat([gaussian(lattice(shift, KEPT), side).double() for side, shift in enumerate(pair)]) for pair in shifts
    ]
    spread = torch.stack([(ratio(x).sigmoid() - 0.5).square().mean() for x in elsewhere]).std()
    assert float(values["selection"]) == pytest.approx(float((weight * off**2).sum()), abs=4 * float(spread))
    assert float(values["selection"]) != float(values["d_mse_n754"])


def test_loss_gap_is_what_was_learned_by_heart():
    # certain of every point seen, and 1/2 elsewhere: log 4 on fresh draws, 0 on those seen
    x, real = seen()

    def critic(points):
        near = torch.cdist(points, x).min(-1)
        return torch.where(near.values < 1e-9, torch.where(real[near.indices], 30.0, -30.0), 0.0).double()

    values = measured(critic, lambda x: 0 * x[..., 0])
    assert values["loss_gap_n754"].tolist() == pytest.approx([math.log(4), 0], abs=1e-9)
    assert values["slope_mean_n754"].tolist() == [0, 0]


def test_slope_of_a_linear_critic():
    assert float(measured(lambda x: 3 * x[..., 0] - 4 * x[..., 1])["slope_mean_n754"]) == pytest.approx(5)


@pytest.mark.parametrize(("which", "count"), [("training", TRAINING), ("test", FRESH), ("selection", KEPT)])
@pytest.mark.parametrize("side", [0, 1])
def test_points_are_of_their_gaussian(which, count, side):
    x = points(which)[side].double()
    assert x.shape == (count, 2)
    error = 4 / math.sqrt(count)
    assert x.mean(0).tolist() == pytest.approx(MEANS[side], abs=error)
    # a covariance's standard error is sqrt((1 + rho^2) / n), at most sqrt(2 / n)
    assert np.allclose(x.T.cov(), COVARIANCES[side], atol=error * math.sqrt(2))


def test_splits_share_no_point():
    everything = torch.cat([torch.cat(points(which)) for which in ("training", "test", "selection")])
    assert len(torch.unique(everything, dim=0)) == len(everything)


@pytest.mark.parametrize(("n", "g"), [(FRESH, 233), (KEPT, 55)])
def test_lattice_integrates_waves_exactly(n, g):
    # the mean of exp(2 pi i (a x + b y)) over a lattice with generator (1, g) is 0 unless n divides a + b g
    x = lattice(torch.tensor([[0.3, 0.7]], dtype=torch.float64), n)
    assert ((x >= 0) & (x < 1)).all()
    for a in range(-9, 10):
        for b in range(-9, 10):
            mean = torch.exp(2j * math.pi * (a * x[:, 0] + b * x[:, 1])).mean()
            # n terms of size 1, whose angles are rounded at up to 2 pi * 18
            assert abs(float(mean.abs()) - ((a + b * g) % n == 0)) < 2 * math.pi * 18 * 2.3e-16 * 4


@pytest.mark.parametrize("name", [name for name in MAKERS if name != "optimal"])
def test_lattice_is_as_good_as_2048_draws(name):
    generator = torch.Generator().manual_seed(0)

    def errors(x):
        return (MAKERS[name](x).sigmoid() - optimal(x).sigmoid()).square()

    def uniforms(count):
        return torch.rand(count, 2, generator=generator, dtype=torch.float64)

    def mean_square(squares):
        """Of the deviations of many means."""
        return torch.stack(squares).var()

    shifts = 64
    found = sum(
        mean_square([errors(gaussian(lattice(uniforms(1), FRESH), side).double()).mean() for _ in range(shifts)])
        for side in (0, 1)
    )
    drawn = sum(errors(gaussian(uniforms(2**13), side).double()).var() / 2048 for side in (0, 1))
    # a variance of 64 has a standard error of sqrt(2 / 63), and the other next to none
    assert found < drawn * (1 + 3 * math.sqrt(2 / (shifts - 1)))


def test_training_sees_each_fixed_point_equally_often():
    uniforms = (torch.arange(1000)[:, None] + 0.5) / 1000
    for drawn, expected in (
        (sample(uniforms), points("training").real),
        (fakes(torch.special.ndtri(uniforms.double())), points("training").fake),
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

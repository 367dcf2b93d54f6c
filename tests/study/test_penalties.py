"""Every penalty on critics whose gradient is known; adding a penalty without an oracle fails here."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from study.penalties import PENALTIES, squared_slope

# value for a linear critic w.x, by |w|: the same wherever the points are
LINEAR = {
    "gp1": {3.0: 4.0, 0.5: 0.25, 0.0: 1.0},
    "gp0": {3.0: 9.0, 0.5: 0.25, 0.0: 0.0},
    "r1": {3.0: 4.5, 0.5: 0.125, 0.0: 0.0},
    "dragan": {3.0: 4.0, 0.5: 0.25, 0.0: 1.0},
}
B, D = 6, 3


def test_every_penalty_has_an_oracle():
    assert LINEAR.keys() == PENALTIES.keys()


def penalise(name, critic, real, fake, scale=0.5, seed=0):
    penalty = PENALTIES[name]
    noise = torch.rand(len(real), penalty.draws(real.shape[1]), generator=torch.Generator().manual_seed(seed))
    points = penalty.points(real, fake, noise.to(real), torch.tensor(scale, dtype=real.dtype))
    return penalty.value(squared_slope(critic, points)), points


def data(seed=1):
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(B, D, generator=g, dtype=torch.float64) for _ in range(2)]


@pytest.mark.parametrize("name", PENALTIES)
@pytest.mark.parametrize("norm", [3.0, 0.5, 0.0])
def test_linear_critic(name, norm):
    w = torch.tensor([1.0, -2.0, 2.0], dtype=torch.float64) / 3 * norm
    values, _ = penalise(name, lambda x: x @ w, *data())
    assert values.shape == (B,)
    # 1e-12 inside the root moves the one-centred value at 0 by 2e-6
    assert values.tolist() == pytest.approx([LINEAR[name][norm]] * B, abs=3e-6)


@pytest.mark.parametrize("name", PENALTIES)
def test_gradient_with_respect_to_the_weights_is_finite_where_the_slope_is_zero(name):
    real, fake = data()
    w = torch.zeros(D, dtype=torch.float64)
    gradient = torch.func.grad(lambda w: penalise(name, lambda x: x @ w, real, fake)[0].mean())(w)
    assert torch.isfinite(gradient).all()


def half_square(x):
    return x.square().sum(1) / 2


def test_quadratic_critic_at_the_real_samples():
    real, fake = data()
    values, _ = penalise("r1", half_square, real, fake)
    assert torch.allclose(values, real.square().sum(1) / 2, atol=1e-12)


def test_quadratic_critic_on_the_line_between_opposite_points():
    n = 200_000
    e = torch.zeros(n, D, dtype=torch.float64)
    e[:, 0] = 1
    # the norm on the line from e to -e is |2a - 1|: mean square 1/3, mean (|2a - 1| - 1)^2 = 1/3, sd of both below 0.3
    for name in ("gp0", "gp1"):
        values, points = penalise(name, half_square, e, -e)
        assert abs(values.mean().item() - 1 / 3) < 6 * 0.3 / n**0.5
        assert points[:, 1:].abs().max() == 0


@settings(deadline=None)
@given(st.floats(0.1, 10))
def test_zero_centred_penalties_shrink_with_the_square_of_the_scale(s):
    real, fake = data()
    for name in ("gp0", "r1"):
        base, _ = penalise(name, lambda x: torch.tanh(x).sum(1), real, fake)
        scaled, _ = penalise(name, lambda x: torch.tanh(x / s).sum(1), s * real, s * fake)
        assert torch.allclose(scaled * s**2, base, rtol=1e-9)


def test_dragan_perturbs_each_real_sample_forwards_by_at_most_the_scale():
    real, fake = data()
    _, points = penalise("dragan", half_square, real, fake, scale=0.5)
    shift = points - real
    assert shift.min() >= 0
    assert 0 < shift.max() <= 0.5 * real.std(correction=0)
    _, still = penalise("dragan", half_square, real, fake, scale=0.0)
    assert torch.equal(still, real)


def test_interpolation_coefficient_is_one_per_sample():
    real, fake = torch.ones(B, D, dtype=torch.float64), torch.zeros(B, D, dtype=torch.float64)
    _, points = penalise("gp1", half_square, real, fake)
    assert (points == points[:, :1]).all()
    assert len(points[:, 0].unique()) == B

"""Every penalty on critics whose gradient is known; a new entry, centre or kind of points without an oracle fails."""

import math
import statistics
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from study.penalties import CENTRES, NOISE_SCALE, PENALTIES, POINTS, TARGETS, penalty_value, squared_slope

B, D = 6, 3
F64 = torch.float64
NORMS = (3.0, 0.5, 0.0)

# value before the weight and its derivative along w, for a linear critic w.x of norm 3, 1/2 and 0 with C = 0 at the
# points: phi(t) and phi'(t) on the logit; phi(t / 4) and phi'(t / 4) / 4 on the probability, where D (1 - D) = 1/4 and
# its own derivative vanishes; halved for r1 and r2; twice half for both
ONE = ((4.0, 0.25, 1.0), (4.0, -1.0, 0.0))
ZERO = ((9.0, 0.25, 0.0), (6.0, 1.0, 0.0))
HALF = ((4.5, 0.125, 0.0), (3.0, 0.5, 0.0))
LINEAR = {
    "gp1": ONE,
    "gp1-real": ONE,
    "gp0": ZERO,
    "gp0-prob": ((9 / 16, 1 / 64, 0.0), (3 / 8, 1 / 16, 0.0)),
    "gp0-real": ZERO,
    "lp": ((4.0, 0.0, 0.0), (4.0, 0.0, 0.0)),
    "r1": HALF,
    "r2": HALF,
    "r1+r2": ZERO,
    "dragan": ONE,
    "dragan-gauss": ONE,
    "dragan-prob": ((1 / 16, 49 / 64, 1.0), (-1 / 8, -7 / 16, 0.0)),
    "dragan-sym": ONE,
    "witness": ONE,
}

PUBLISHED = {  # weight and noise scale
    "gp1": (10, None),
    "gp1-real": (10, None),
    "gp0": (10, None),
    "gp0-prob": (100, None),
    "gp0-real": (10, None),
    "lp": (10, None),
    "r1": (20, None),  # the authors' code: 10 without the 1/2
    "r2": (20, None),
    "r1+r2": (1, None),
    "dragan": (10, 0.5),
    "dragan-gauss": (10, 0.5),
    "dragan-prob": (10, 0.5),
    "dragan-sym": (10, 1),
    "witness": (1, None),
}

# of norms 3, 1, 1/2 and 0
CENTRE_VALUES = {"one": (4, 0, 0.25, 1), "zero": (9, 1, 0.25, 0), "one-sided": (4, 0, 0, 0)}


def flat(rows):
    return [x for row in rows for x in row]


def spread(rows):
    return statistics.pstdev(flat(rows))


def normal(u):
    return statistics.NormalDist().inv_cdf(u)


# sample i, coordinate j, from lists of rows r, f, u and a scale s
POINT_VALUES = {
    "line": lambda r, f, u, s: [[u[i][0] * r[i][j] + (1 - u[i][0]) * f[i][j] for j in range(D)] for i in range(B)],
    "real": lambda r, f, u, s: r,
    "fake": lambda r, f, u, s: f,
    "both": lambda r, f, u, s: r + f,
    "around-uniform": lambda r, f, u, s: [
        [r[i][j] + u[i][0] * s * spread(r) * u[i][1 + j] for j in range(D)] for i in range(B)
    ],
    "around-gauss": lambda r, f, u, s: [[r[i][j] + s * normal(u[i][j]) for j in range(D)] for i in range(B)],
    "around-symmetric": lambda r, f, u, s: [
        [r[i][j] + s * spread(r) * (u[i][j] - 0.5) for j in range(D)] for i in range(B)
    ],
}


@pytest.mark.parametrize(
    ("table", "oracles"),
    [(PENALTIES, LINEAR), (PENALTIES, PUBLISHED), (CENTRES, CENTRE_VALUES), (POINTS, POINT_VALUES)],
    ids=["value", "published", "centre", "points"],
)
def test_every_entry_has_an_oracle(table, oracles):
    assert oracles.keys() == table.keys()


def generator(seed):
    return torch.Generator().manual_seed(seed)


def data(n=B, d=D, seed=1):
    g = generator(seed)
    return [torch.randn(n, d, generator=g, dtype=F64) + shift for shift in (0, 1)]


def uniforms(where, n=B, d=D, seed=0):
    return torch.rand(n, POINTS[where].draws(d), generator=generator(seed), dtype=F64).clamp(1e-9, 1 - 1e-9)


def scalar(value):
    return torch.tensor(value, dtype=F64)


def penalise(name, critic, real, fake, scale=0.5, seed=0):
    noise = uniforms(PENALTIES[name].where, *real.shape, seed=seed)
    return penalty_value(PENALTIES[name], critic, real, fake, noise, scalar(scale))


def points(where, real, fake, scale=0.5, seed=0):
    return POINTS[where].build(real, fake, uniforms(where, *real.shape, seed=seed), scalar(scale))


def mlp(parameters, x):
    """Two smooth layers; parameters (d + 2, h)."""
    return torch.tanh(x @ parameters[:-2] + parameters[-2]) @ parameters[-1]


def parameters(seed=7, d=D, h=5):
    return torch.randn(d + 2, h, generator=generator(seed), dtype=F64)


def half_square(x):
    return x.square().sum(1) / 2


# the entries


@pytest.mark.parametrize("name", PENALTIES)
def test_an_entry_is_made_of_known_parts_and_says_what_it_is(name):
    penalty = PENALTIES[name]
    assert penalty.centre in CENTRES
    assert penalty.where in POINTS
    assert penalty.on in TARGETS
    assert penalty.formula.startswith("weight")
    assert penalty.source
    assert penalty.pitfalls


@pytest.mark.parametrize("name", PENALTIES)
def test_published_weight_and_noise(name):
    assert (PENALTIES[name].weight, PENALTIES[name].noise_scale) == PUBLISHED[name]


def test_the_noise_of_dragan_is_that_of_its_authors():
    assert PENALTIES["dragan"].noise_scale == PENALTIES["dragan-prob"].noise_scale == NOISE_SCALE == 0.5


@pytest.mark.parametrize("name", PENALTIES)
def test_an_entry_has_a_noise_scale_if_and_only_if_it_moves_the_points(name):
    one, two = (points(PENALTIES[name].where, *data(), scale=scale) for scale in (1.0, 2.0))
    assert torch.equal(one, two) == (PENALTIES[name].noise_scale is None)


def test_only_the_witness_is_for_some_losses():
    assert {name: p.losses for name, p in PENALTIES.items() if p.losses} == {
        "witness": ("mmd-rbf", "mmd-rq", "mmd-energy")
    }


def test_the_module_does_without_torch():
    code = "import sys, study.penalties; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# values


@pytest.mark.parametrize("name", PENALTIES)
@pytest.mark.parametrize("i", range(3), ids=NORMS)
def test_linear_critic(name, i):
    # real, generated and noise are multiples of (1, 1, 1), to which w is orthogonal: C = 0 at all points
    direction = torch.tensor([1.0, 1.0, -2.0], dtype=F64) / math.sqrt(6)
    real, fake = (x[:, :1].expand(-1, D) for x in data())
    noise = uniforms(PENALTIES[name].where)[:, :1].expand(-1, POINTS[PENALTIES[name].where].draws(D))

    def value(w):
        return penalty_value(PENALTIES[name], lambda x: x @ w, real, fake, noise, scalar(0.5))

    values, slopes = LINEAR[name]
    w = NORMS[i] * direction
    # 1e-12 inside the root moves the one-centred value at 0 by 2e-6
    assert value(w).item() == pytest.approx(values[i], abs=3e-6)
    gradient = torch.func.grad(value)(w)
    assert torch.allclose(gradient, slopes[i] * direction, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", [name for name in PENALTIES if PENALTIES[name].on == "logit"])
@pytest.mark.parametrize("i", range(3), ids=NORMS)
def test_linear_critic_wherever_the_points_are(name, i):
    w = torch.tensor([1.0, -2.0, 2.0], dtype=F64) / 3 * NORMS[i]
    assert penalise(name, lambda x: x @ w, *data()).item() == pytest.approx(LINEAR[name][0][i], abs=3e-6)


@pytest.mark.parametrize(("name", "value"), [("gp0-prob", 9 / 16), ("dragan-prob", 1 / 16)])
def test_on_the_probability_the_slope_is_that_of_the_logit_times_d_one_minus_d(name, value):
    # C = log 3, so D = 3/4 and D (1 - D) = 3/16: a slope of 4 becomes 3/4
    real, fake = (torch.zeros(B, D, dtype=F64) for _ in range(2))
    w = torch.tensor([0.0, 4.0, 0.0], dtype=F64)
    found = penalise(name, lambda x: x @ w + math.log(3), real, fake)
    assert found.item() == pytest.approx(value, abs=1e-9)


def test_a_confident_discriminator_hardly_feels_a_penalty_on_the_probability():
    # C = 8 and a slope of 4: D (1 - D) = 3.3524e-4, so the slope is 1.341e-3
    w = torch.tensor([4.0, 0.0, 0.0], dtype=F64)
    zeros = torch.zeros(B, D, dtype=F64)
    assert penalise("gp0-prob", lambda x: x @ w + 8, zeros, zeros).sqrt().item() == pytest.approx(1.341e-3, rel=1e-3)


@pytest.mark.parametrize("centre", CENTRES)
def test_centres(centre):
    squared = torch.tensor([9.0, 1.0, 0.25, 0.0], dtype=F64)
    # 1e-12 inside the root
    assert CENTRES[centre](squared).tolist() == pytest.approx(CENTRE_VALUES[centre], abs=3e-6)


@pytest.mark.parametrize("centre", CENTRES)
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_centres_have_a_finite_derivative_everywhere(centre, dtype):
    squared = torch.tensor([0.0, 1e-30, 1.0, 1e30], dtype=dtype)
    assert torch.isfinite(torch.func.grad(lambda s: CENTRES[centre](s).sum())(squared)).all()


def test_quadratic_critic_at_samples():
    # the gradient of |x|^2 / 2 is x
    real, fake = data()
    on_real, on_fake = (x.square().sum().item() / B for x in (real, fake))
    expected = {"r1": on_real / 2, "gp0-real": on_real, "r2": on_fake / 2, "r1+r2": on_real / 2 + on_fake / 2}
    expected["gp1-real"] = sum((math.hypot(*row) - 1) ** 2 for row in real.tolist()) / B
    for name, value in expected.items():
        assert penalise(name, half_square, real, fake).item() == pytest.approx(value, rel=1e-9)


def test_quadratic_critic_on_the_line_between_opposite_points():
    n = 200_000
    e = torch.zeros(n, D, dtype=F64)
    e[:, 0] = 1
    # the norm on the line from e to -e is |2a - 1|, uniform: mean square 1/3, mean (|2a - 1| - 1)^2 = 1/3, sd of both
    # sqrt(1/5 - 1/9) < 0.3; never above 1
    for name in ("gp0", "gp1"):
        assert abs(penalise(name, half_square, e, -e).item() - 1 / 3) < 6 * 0.3 / n**0.5
    assert penalise("lp", half_square, e, -e).item() == 0
    # twice the points, twice the norm t = 2v: mean max(0, 2v - 1)^2 over uniform v is 1/6, mean of its square 1/10
    assert abs(penalise("lp", half_square, 2 * e, -2 * e).item() - 1 / 6) < 6 * math.sqrt(1 / 10 - 1 / 36) / n**0.5
    assert points("line", e, -e)[:, 1:].abs().max() == 0


@settings(deadline=None)
@given(st.floats(0.1, 10))
def test_zero_centred_penalties_shrink_with_the_square_of_the_scale(s):
    real, fake = data()
    for name in (name for name, penalty in PENALTIES.items() if penalty.centre == "zero"):
        base = penalise(name, lambda x: torch.tanh(x).sum(1), real, fake)
        scaled = penalise(name, lambda x: torch.tanh(x / s).sum(1), s * real, s * fake)
        assert torch.allclose(scaled * s**2, base, rtol=1e-9)


def test_conventions():
    real, fake = data()
    value = {name: penalise(name, lambda x: mlp(parameters(), x), real, fake).item() for name in PENALTIES}
    # 0-GP-sample with lambda is R1 with gamma = 2 lambda, and R1 + R2 share one gamma
    assert 3.7 * value["gp0-real"] == pytest.approx(7.4 * value["r1"], rel=1e-12)
    assert value["r1+r2"] == pytest.approx(value["r1"] + value["r2"], rel=1e-12)


def test_two_entries_never_agree_on_a_common_critic():
    # slopes on both sides of 1, or lp would be gp1 or 0; the witness is gp1 of another function
    real, fake = data()
    values = {name: penalise(name, lambda x: 3 * mlp(parameters(), x), real, fake).item() for name in PENALTIES}
    assert values.pop("witness") == values["gp1"]
    assert len({round(value, 9) for value in values.values()}) == len(values)


# gradients


@pytest.mark.parametrize("name", PENALTIES)
def test_the_gradient_is_finite_where_the_slope_is_zero(name):
    # dead rectifiers: the slope is exactly zero, whatever the point
    hidden = torch.randn(D, 4, generator=generator(3), dtype=F64)

    def value(weights):
        return penalise(name, lambda x: torch.relu(x @ weights[:D] + weights[D]) @ weights[D + 1], *data())

    weights = torch.cat([hidden, torch.full((1, 4), -100.0, dtype=F64), torch.ones(1, 4, dtype=F64)])
    assert torch.isfinite(torch.func.grad(value)(weights)).all()
    assert torch.isfinite(torch.func.grad(value)(torch.zeros_like(weights))).all()


@pytest.mark.parametrize("name", PENALTIES)
def test_the_gradient_reaches_the_discriminator_and_not_the_generator(name):
    real, latent = data()
    theta = torch.eye(D, dtype=F64, requires_grad=True)
    phi = (3 * parameters()).requires_grad_()
    value = penalise(name, lambda x: mlp(phi, x), real, latent @ theta)
    on_phi, on_theta = torch.autograd.grad(value, [phi, theta], allow_unused=True)
    assert on_theta is None
    assert on_phi.abs().max() > 1e-3


@pytest.mark.parametrize("name", PENALTIES)
def test_a_pack_of_trials_equals_a_loop(name):
    trials = 3
    phi = torch.stack([3 * parameters(seed=seed) for seed in range(trials)])
    real, fake = (torch.stack(found) for found in zip(*(data(seed=seed) for seed in range(trials)), strict=True))
    noise = torch.stack([uniforms(PENALTIES[name].where, seed=seed) for seed in range(trials)])
    scale = torch.tensor([0.1, 0.5, 2.0], dtype=F64)

    def value(phi, real, fake, noise, scale):
        return penalty_value(PENALTIES[name], lambda x: mlp(phi, x), real, fake, noise, scale)

    both = torch.func.grad_and_value(value)
    packed = torch.func.vmap(both)(phi, real, fake, noise, scale)
    for i in range(trials):
        for found, single in zip(packed, both(phi[i], real[i], fake[i], noise[i], scale[i]), strict=True):
            assert torch.allclose(found[i], single, rtol=1e-12, atol=1e-12)


def test_the_slope_is_one_number_per_sample_over_all_its_dimensions():
    x = torch.arange(24, dtype=F64).reshape(2, 3, 2, 2)
    found = squared_slope(lambda x: x.square().sum((1, 2, 3)) / 2, x)
    assert found.tolist() == [sum(i * i for i in range(12)), sum(i * i for i in range(12, 24))]


@pytest.mark.parametrize("name", PENALTIES)
def test_samples_of_several_dimensions_are_samples_of_as_many_numbers(name):
    real, fake = data(d=12)
    phi, noise = 3 * parameters(d=12), uniforms(PENALTIES[name].where, d=12)
    arguments = (noise, scalar(0.5))
    image = penalty_value(
        PENALTIES[name],
        lambda x: mlp(phi, x.flatten(1)),
        real.reshape(B, 3, 2, 2),
        fake.reshape(B, 3, 2, 2),
        *arguments,
    )
    flat_value = penalty_value(PENALTIES[name], lambda x: mlp(phi, x), real, fake, *arguments)
    assert torch.allclose(image, flat_value, rtol=1e-12)


# points


@pytest.mark.parametrize("where", POINTS)
def test_points(where):
    real, fake = data()
    noise = uniforms(where)
    found = POINTS[where].build(real, fake, noise, scalar(0.7))
    expected = POINT_VALUES[where](real.tolist(), fake.tolist(), noise.tolist(), 0.7)
    assert flat(found.tolist()) == pytest.approx(flat(expected), abs=1e-9)
    assert found.shape == (len(expected), D)


@pytest.mark.parametrize("where", [where for where in POINTS if where.startswith("around")])
def test_without_noise_the_points_are_the_real_samples(where):
    real, fake = data()
    assert torch.equal(points(where, real, fake, scale=0.0), real)


def test_interpolation_coefficient_is_one_per_sample():
    real, fake = torch.ones(B, D, dtype=F64), torch.zeros(B, D, dtype=F64)
    found = points("line", real, fake)
    assert (found == found[:, :1]).all()
    assert len(found[:, 0].unique()) == B


def test_the_segment_of_dragan_is_one_per_sample_and_its_noise_one_per_coordinate():
    real, fake = data()
    noise = uniforms("around-uniform")
    shift = POINTS["around-uniform"].build(real, fake, noise, scalar(1.0)) - real
    share = shift / noise[:, 1:]
    assert torch.allclose(share, share[:, :1].expand(-1, D), rtol=1e-9)
    assert len((share[:, 0] * 1e6).round().unique()) == B


@pytest.mark.parametrize(("where", "low", "high"), [("around-uniform", 0.0, 1.0), ("around-symmetric", -0.5, 0.5)])
def test_uniform_noise_stays_in_its_range_and_fills_it(where, low, high):
    real, fake = data(n=4000)
    shift = (points(where, real, fake, scale=0.5) - real) / (0.5 * real.std(correction=0))
    assert low <= shift.min()
    assert shift.max() <= high
    # 12000 draws; the product of two uniforms exceeds 0.9 with probability 0.1 + 0.9 log 0.9 = 0.0052
    assert shift.min() < low + 0.1
    assert shift.max() > high - 0.1


def test_gaussian_noise_has_the_scale_as_its_standard_deviation_in_the_units_of_the_data():
    n = 20_000
    real, fake = (100 * x for x in data(n=n))
    shift = points("around-gauss", real, fake, scale=0.3) - real
    size = shift.numel()
    assert abs(shift.mean().item()) < 6 * 0.3 / size**0.5
    assert abs(shift.std().item() - 0.3) < 6 * 0.3 / (2 * size) ** 0.5


@pytest.mark.parametrize("where", ["around-uniform", "around-symmetric"])
def test_the_spread_is_one_number_of_the_batch_and_not_one_per_coordinate(where):
    # a constant coordinate is perturbed as much as the others
    real = torch.tensor([[0.0, 5.0], [4.0, 5.0]], dtype=F64)
    # values 0, 5, 4, 5: mean 3.5, mean square 16.5, so variance 4.25
    noise = torch.full((2, POINTS[where].draws(2)), 0.75, dtype=F64)
    share = {"around-uniform": 0.75 * 0.75, "around-symmetric": 0.25}[where]
    shift = POINTS[where].build(real, real, noise, scalar(1.0)) - real
    assert torch.allclose(shift, torch.full_like(shift, share * math.sqrt(4.25)), rtol=1e-12)


# the papers' formulas once more, one sample at a time


def slope_norm(critic, point):
    point = point.detach().requires_grad_()
    (slope,) = torch.autograd.grad(critic(point), point, create_graph=True)
    return slope.norm(2)


def wgan_gp(critic, real, fake, noise, _scale):
    total = 0
    for x, x_tilde, (e,) in zip(real, fake, noise, strict=True):
        total = total + (slope_norm(critic, e * x + (1 - e) * x_tilde) - 1) ** 2
    return total / len(real)


def authors_dragan(critic, real, _fake, noise, scale):
    perturbed = real + scale * real.std(unbiased=False) * noise[:, 1:]
    total = 0
    for x, x_p, a in zip(real, perturbed, noise[:, 0], strict=True):
        total = total + (slope_norm(critic, x + a * (x_p - x)) - 1) ** 2
    return total / len(real)


def half_gamma_r1(critic, real, _fake, _noise, _scale):
    return sum(slope_norm(critic, x) ** 2 for x in real) / (2 * len(real))


@pytest.mark.parametrize(("name", "reference"), [("gp1", wgan_gp), ("dragan", authors_dragan), ("r1", half_gamma_r1)])
def test_agrees_with_the_papers_formula_sample_by_sample(name, reference):
    real, fake = data()
    phi = (3 * parameters()).requires_grad_()
    noise = uniforms(PENALTIES[name].where)
    ours = penalty_value(PENALTIES[name], lambda x: mlp(phi, x), real, fake, noise, scalar(0.5))
    theirs = reference(lambda x: mlp(phi, x), real, fake, noise, 0.5)
    # 1e-12 inside the root
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-9)
    assert torch.allclose(*(torch.autograd.grad(value, phi)[0] for value in (ours, theirs)), rtol=1e-8)

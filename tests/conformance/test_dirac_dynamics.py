"""The implemented updates on the Dirac-GAN, against the closed forms of their linearisation at the equilibrium.

Mescheder, Geiger and Nowozin 2018 let the discriminator be large on generated samples; here it is large on real ones,
so that psi has the other sign. Eigenvalues do not feel that.
"""

import functools
import math

import pytest
import torch
from torch.func import jacrev

from study.game import Game
from study.methods import parse_method
from study.optimisers import OPTIMISERS
from study.step import MEASURED, discriminator_update, generator_update, joint_update, vectorise
from study.tasks.dirac import dirac
from study.train import NUMBERS

C = 0.5  # f'(0), f(t) = -log(1 + exp(-t))
CURVATURE = -0.25  # f''(0)
EXACT = 1e-12  # some dozens of float64 roundings of numbers of order one
INSIDE = {"clip": 1e9}  # a box that nothing reaches


@functools.cache
def game(method):
    return Game(dirac(), parse_method(method), OPTIMISERS["sgd"], 1)


def unit_noise(of):
    """Uniforms whose normal quantiles are half +1 and half -1: first and second moment as N(0, 1) has them."""
    signs = torch.ones(of.task.batch, max(of.noise_draws, 1), dtype=torch.float64)
    signs[::2] = -1
    return torch.special.ndtr(signs)


def trial(method, state, h, *, count=2, **numbers):
    """The tensors of one trial at a state (2,) = (theta, psi), or (4,) with the last plain steps behind it."""
    of = game(method)
    b, zero = of.task.batch, torch.zeros((), dtype=torch.float64)
    found = dict.fromkeys((*NUMBERS, "progress", *MEASURED), zero)
    for name, value in zip(("theta", "phi", "theta_step", "phi_step"), state.split(1), strict=False):
        found[name] = value
    for name in ("theta", "phi"):
        found |= dict.fromkeys((f"{name}_first", f"{name}_second"), torch.zeros(1, dtype=torch.float64))
    for player in "dg":
        found[f"latent_{player}"] = torch.zeros(b, 1, dtype=torch.float64)
        found[f"real_{player}"] = torch.zeros(b, 1, dtype=torch.float64)
        found[f"noise_{player}"] = unit_noise(of)
        found[f"lr_{player}"] = torch.as_tensor(h, dtype=torch.float64)
        found[f"count_{player}"] = torch.tensor(float(count), dtype=torch.float64)
    return found | {name: torch.as_tensor(value, dtype=torch.float64) for name, value in (INSIDE | numbers).items()}


def state_of(tensors, size):
    return torch.cat([tensors[name] for name in ("theta", "phi", "theta_step", "phi_step")[:size]])


def together(method, h, **numbers):
    """The simultaneous update as a map of the state."""

    def step(state):
        tensors = trial(method, state, h, **numbers)
        return state_of(tensors | joint_update(game(method), tensors), len(state))

    return step


def in_turn(method, h, n_d=1, **numbers):
    """The engine's step: n_d discriminator updates, then the generator's.

    The published order is theta first. That shifts the cycle of updates, M = A B instead of B A, and no eigenvalue.
    """

    def step(state):
        tensors = trial(method, state, h, **numbers)
        for _ in range(n_d):
            tensors |= discriminator_update(game(method), tensors)
        return state_of(tensors | generator_update(game(method), tensors), len(state))

    return step


def jacobian(step, size=2):
    return jacrev(step)(torch.zeros(size, dtype=torch.float64))


def modulus(step, size=2):
    return float(torch.linalg.eigvals(jacobian(step, size)).abs().max())


def field(method, h=0.1, **numbers):
    """The linearised vector field (J - I) / h of the simultaneous update."""
    return (jacobian(together(method, h, **numbers)) - torch.eye(2, dtype=torch.float64)) / h


def assert_eigenvalues(matrix, first, second, tolerance=EXACT):
    """By trace and determinant, which rounding does not split where two eigenvalues meet."""
    assert float(matrix.trace()) == pytest.approx((first + second).real, abs=tolerance)
    assert float(torch.linalg.det(matrix)) == pytest.approx((first * second).real, abs=tolerance)


def pair(trace_half, c=C):
    """a +- sqrt(a^2 - c^2)."""
    root = complex(trace_half**2 - c**2) ** 0.5
    return trace_half + root, trace_half - root


UNDAMPED = [
    ("mm", C),
    ("ns", C),
    ("ns+smooth", C),  # moves the target of C(0) = 0, which psi does not reach
    ("ns+lp", C),  # silent below slope 1
    ("wgan+clip", 1),
    # L_D = 1 + relu(1 + u) and L_G = -u: as wgan while |u| < 1
    ("hinge", 1),
    # L_D = sp(u) and L_G = sp(-u), for C(0) = 0 and all samples are alike: as ns
    ("rpgan", C),
    ("ragan", C),
]


@pytest.mark.parametrize(("method", "c"), UNDAMPED)
def test_without_a_penalty_the_eigenvalues_are_imaginary(method, c):
    found = torch.linalg.eigvals(field(method, smoothing=0.1, penalty_weight=3.0))
    assert float(found.real.abs().max()) < EXACT
    assert sorted(found.imag.tolist()) == pytest.approx([-c, c], abs=EXACT)


# A zero-centred penalty on a linear critic is the same at any points: each damps as r1 of this times the weight does.
FACTORS = {"r1": 1, "r2": 1, "r1+r2": 2, "gp0-real": 2, "gp0": 2}
DAMPED = [
    *((f"{loss}+{penalty}", factor) for loss in ("mm", "ns", "rpgan", "ragan") for penalty, factor in FACTORS.items()),
    *((f"{loss}+gp0-prob", 2 / 16) for loss in ("mm", "ns")),
]


@pytest.mark.parametrize(("method", "factor"), DAMPED)
@pytest.mark.parametrize("weight", [0.1, 0.3, 0.5, 1.0, 2.0])
def test_zero_centred_penalties_damp(method, factor, weight):
    assert_eigenvalues(field(method, penalty_weight=weight), *pair(-factor * weight / 2))


def test_critical_damping_is_at_one_and_more_is_slower():
    assert_eigenvalues(field("ns+r1", penalty_weight=1.0), -0.5, -0.5)
    slow = float(torch.linalg.eigvals(field("ns+r1", penalty_weight=2.0)).real.max())
    assert slow == pytest.approx(-1 + math.sqrt(0.75), abs=EXACT)
    assert slow == pytest.approx(-0.134, abs=5e-4)


@pytest.mark.parametrize("method", ["mm+noise", "ns+noise"])
@pytest.mark.parametrize("s", [0.3, 0.7, math.sqrt(2), 2.0])
def test_instance_noise_damps(method, s):
    # L_D = mean sp(-psi s n) + sp(psi (theta + s n')) is const + c psi theta + |f''(0)| s^2 psi^2 to second order: half
    # of the damping is the noise on real samples, half that on generated ones. That in L_G is of third order.
    assert_eigenvalues(field(method, instance_noise=s), *pair(CURVATURE * s**2))
    halfway = field(method, instance_noise=2 * s, progress=0.5)
    assert_eigenvalues(halfway, *pair(CURVATURE * s**2))


def test_printed_eigenvalues_of_instance_noise():
    found = torch.linalg.eigvals(field("ns+noise", instance_noise=0.7))
    assert found.real.tolist() == pytest.approx([-0.1225] * 2, abs=5e-5)
    assert sorted(found.imag.tolist()) == pytest.approx([-0.485, 0.485], abs=5e-4)


def test_instance_noise_does_not_damp_a_loss_without_curvature():
    assert_eigenvalues(field("wgan+clip+noise", instance_noise=1.0), 1j, -1j)


@pytest.mark.parametrize(("method", "c"), [("mm", C), ("ns", C), ("wgan+clip", 1)])
@pytest.mark.parametrize("weight", [0.3, 1.0, 5.0])
def test_consensus_damps_by_c_squared(method, c, weight):
    found = field(f"{method}+consensus", consensus_weight=weight)
    assert_eigenvalues(found, complex(-weight * c**2, c), complex(-weight * c**2, -c), tolerance=100 * EXACT)


def test_least_squares_on_a_slope_through_the_origin_have_no_restoring_force():
    # 0-1: L_D = 1/2 + u^2 / 2, L_G = (u - 1)^2 / 2: theta' = psi (1 - u), psi' = -theta u. Both eigenvalues are 0,
    # though of the two only the discriminator's row is: theta runs while psi stands.
    assert field("lsgan").tolist() == [[0, pytest.approx(1, abs=EXACT)], [0, 0]]
    # Pearson: L_D = 1/2 + (u + 1)^2 / 2, L_G = u^2 / 2: the other way round
    assert field("lsgan-pearson").tolist() == [[0, 0], [pytest.approx(-1, abs=EXACT), 0]]


@pytest.mark.parametrize("weight", [0.35, 10.0])
def test_one_centred_penalty_repels_from_the_equilibrium(weight):
    # weight (n - 1)^2 with n = sqrt(psi^2 + e^2), e = 1e-6: the slope has second derivative 2 weight (1 - 1 / e) at 0
    found = field("wgan+gp1", penalty_weight=weight)
    assert float(found[1, 1]) == pytest.approx(2 * weight * (1e6 - 1), rel=1e-9)


@pytest.mark.parametrize("method", ["mm", "wgan+clip", "ns"])
def test_flow_keeps_or_shrinks_the_radius(method):
    h = 0.5
    for theta, psi in ((1.0, 0.4), (-0.7, 2.0), (1.5, -1.5), (0.2, 0.1)):
        state = torch.tensor([theta, psi], dtype=torch.float64)
        flow = (together(method, h)(state) - state) / h
        u = theta * psi
        expected = -u * math.tanh(u / 2) if method == "ns" else 0.0
        assert float(flow @ state) == pytest.approx(expected, abs=EXACT)


@pytest.mark.parametrize(("method", "c"), [("mm", C), ("ns", C), ("wgan+clip", 1)])
@pytest.mark.parametrize("h", [0.01, 0.1, 1.0])
def test_both_at_once_diverge_for_every_step(method, c, h):
    assert modulus(together(method, h)) == pytest.approx(math.sqrt(1 + h**2 * c**2), abs=EXACT)


def bisect(unstable, low, high):
    assert not unstable(low)
    assert unstable(high)
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if unstable(middle) else (middle, high)
    return high


@pytest.mark.parametrize(("method", "c"), [("mm", C), ("ns", C), ("wgan+clip", 1)])
@pytest.mark.parametrize("n_d", [1, 2, 5])
def test_in_turn_the_modulus_is_one_up_to_two(method, c, n_d):
    def alpha(h):
        return math.sqrt(n_d) * h * c

    unit = 1 / alpha(1)
    for share in (0.1, 0.5, 1.0, 1.9):
        assert modulus(in_turn(method, share * unit, n_d)) == pytest.approx(1, abs=EXACT)
    # Just above 2 by a share d the modulus is 1 + 2 sqrt(2 d): 1e-6 is passed at d = 1.3e-13. At 2 the eigenvalues
    # meet, where rounding of 1e-15 moves them by 3e-8.
    found = bisect(lambda h: modulus(in_turn(method, h, n_d)) > 1 + 1e-6, unit, 3 * unit)
    assert alpha(found) == pytest.approx(2, rel=1e-9)


@pytest.mark.parametrize("weight", [0.1, 0.3, 0.6, 0.9])
def test_step_size_up_to_which_r1_converges_both_at_once(weight):
    found = bisect(lambda h: modulus(together("ns+r1", h, penalty_weight=weight)) > 1, 0.01, 10.0)
    assert found == pytest.approx(4 * weight, rel=1e-9)


@pytest.mark.parametrize("weight", [0.1, 0.3, 0.6, 0.9])
@pytest.mark.parametrize("n_d", [1, 2, 5])
def test_r1_in_turn(weight, n_d):
    # psi -> a psi - h c theta, n_d times, a = 1 - h weight; then theta -> theta + h c psi
    for h in (0.1, 0.2, 1.0):
        a = 1 - h * weight
        total = sum(a**k for k in range(n_d))
        found = jacobian(in_turn("ns+r1", h, n_d, penalty_weight=weight))
        trace, determinant = 1 + a**n_d - h**2 * C**2 * total, a**n_d
        assert float(found.trace()) == pytest.approx(trace, abs=EXACT)
        assert float(torch.linalg.det(found)) == pytest.approx(determinant, abs=EXACT)
        if trace**2 < 4 * determinant:
            expected = (1 - h * weight) ** (n_d / 2)
            assert modulus(in_turn("ns+r1", h, n_d, penalty_weight=weight)) == pytest.approx(expected, abs=EXACT)


@pytest.mark.parametrize("weight", [0.1, 0.3, 0.6, 0.9])
def test_step_size_up_to_which_r1_converges_in_turn(weight):
    found = bisect(lambda h: modulus(in_turn("ns+r1", h, penalty_weight=weight)) > 1, 0.01, 10.0)
    assert found == pytest.approx((math.sqrt(weight**2 + 4 * C**2) - weight) / C**2, rel=1e-9)
    if weight == 0.3:
        assert found == pytest.approx(2.976, abs=5e-4)


TWO_SCALES = [(1, 1.005, 0.975), (2, 1.010, 0.949), (5, 1.025, 0.866), (10, 1.049, 0.707)]


@pytest.mark.parametrize(("ratio", "plain", "damped"), TWO_SCALES)
def test_two_time_scales_both_at_once(ratio, plain, damped):
    h = 0.2
    step = together("ns", h, lr_d=ratio * h)
    assert modulus(step) == pytest.approx(math.sqrt(1 + ratio * h**2 * C**2), abs=EXACT)
    assert modulus(step) == pytest.approx(plain, abs=5e-4)
    assert modulus(together("ns+r1", h, lr_d=ratio * h, penalty_weight=0.3)) == pytest.approx(damped, abs=5e-4)


@pytest.mark.parametrize("ratio", [1, 2, 5, 10])
def test_two_time_scales_in_turn(ratio):
    # The printed moduli are of simultaneous updates. In turn the determinant is 1 - h_d weight and the trace
    # 2 - h_d weight - h_d h c^2: at ratio 10 no longer complex, hence 0.8 and not sqrt(0.4).
    h, weight = 0.2, 0.3
    assert modulus(in_turn("ns", h, lr_d=ratio * h)) == pytest.approx(1, abs=EXACT)
    determinant = 1 - ratio * h * weight
    half = (1 + determinant - ratio * h**2 * C**2) / 2
    expected = max(abs(z) for z in pair(half, math.sqrt(determinant)))
    assert modulus(in_turn("ns+r1", h, lr_d=ratio * h, penalty_weight=weight)) == pytest.approx(expected, abs=EXACT)
    assert expected == pytest.approx(0.8 if ratio == 10 else math.sqrt(determinant), abs=EXACT)


@pytest.mark.parametrize(("method", "c"), [("mm", C), ("ns", C), ("wgan+clip", 1)])
@pytest.mark.parametrize("h", [0.1, 0.5, 0.9, 1.5, 2.5])
def test_extragradient(method, c, h):
    # I + h A + h^2 A^2, where A has eigenvalues +- i c
    found = modulus(together(f"{method}+extragradient", h))
    assert found == pytest.approx(math.sqrt((1 - h**2 * c**2) ** 2 + h**2 * c**2), abs=EXACT)
    assert (found < 1) == (h * c < 1)


@pytest.mark.parametrize("h", [0.1, 0.3, 0.5])
def test_optimistic(h):
    method = "wgan+clip+optimistic"
    # Both at once: z^2 - (1 + 2 m) z + m, m = +- i h.
    roots = [z for m in (1j * h, -1j * h) for z in _roots([1, -(1 + 2 * m), m])]
    assert spectrum(together(method, h)) == pytest.approx(sorted(abs(z) for z in roots), abs=1e-7)
    # In turn: (z - 1) psi = -h (2 - 1/z) theta and (z - 1) theta = h (2 z - 1) psi, a cubic. The fourth root is 0: what
    # the generator last added is h psi.
    roots = _roots([1, 4 * h**2 - 2, 1 - 4 * h**2, h**2])
    found = spectrum(in_turn(method, h))
    assert found == pytest.approx(sorted([0.0, *(abs(z) for z in roots)]), abs=1e-7)
    assert max(found) < 1


def test_step_size_up_to_which_optimism_converges_in_turn():
    # at z = -1 the cubic is -4 + 9 h^2
    found = bisect(lambda h: modulus(in_turn("wgan+clip+optimistic", h), 4) > 1, 0.1, 1.0)
    assert found == pytest.approx(2 / 3, rel=1e-9)


def spectrum(step):
    return sorted(torch.linalg.eigvals(jacobian(step, 4)).abs().tolist())


def _roots(coefficients):
    """Eigenvalues of the companion matrix."""
    n = len(coefficients) - 1
    matrix = torch.diag(torch.ones(n - 1, dtype=torch.complex128), -1)
    matrix[0] = -torch.tensor(coefficients[1:], dtype=torch.complex128)
    return torch.linalg.eigvals(matrix).tolist()


def run(method, states, steps, *, h, at_once, keep=None, carried=(), **numbers):
    """Trajectories (steps, c, 2) of c trials by the recorded program; h is one number or one per trial."""
    c = len(states)
    one = trial(method, torch.zeros(2, dtype=torch.float64), 0.1, count=1, **numbers)
    shared = ("count_d", "count_g", "progress")
    tensors = {name: value if name in shared else value.expand(c, *value.shape).clone() for name, value in one.items()}
    tensors["theta"], tensors["phi"] = torch.tensor(states, dtype=torch.float64).split(1, 1)
    tensors |= dict.fromkeys(("lr_d", "lr_g"), torch.as_tensor(h, dtype=torch.float64).expand(c).clone())
    for name in carried:
        tensors[name] = tensors[name.partition("_")[0]]
    updates = [joint_update] if at_once else [discriminator_update, generator_update]
    programs = [vectorise(lambda one, update=update: update(game(method), one), tensors) for update in updates]
    seen = []
    for step in range(steps):
        tensors |= dict.fromkeys(("count_d", "count_g"), torch.tensor(step + 1.0, dtype=torch.float64))
        for program in programs:
            tensors |= program(tensors)
        seen.append(torch.cat([tensors[name] for name in keep or ("theta", "phi")], 1))
    return torch.stack(seen)


def test_ring_of_the_non_saturating_game():
    # A step changes r^2 by -2 h u tanh(u / 2) + h^2 |v|^2, on average over the angle -h r^4 / 8 + h^2 r^2 / 4.
    steps = torch.tensor([0.05, 0.1, 0.2, 0.4], dtype=torch.float64)
    starts = [[math.sqrt(2 * h), 0.0] for h in steps.tolist()]
    late = run("ns", starts, 8000, h=steps, at_once=True)[-4000:]
    found = late.square().sum(2).mean(0).sqrt()
    # the next order: u and |v|^2 are off by shares of u^2 = h^2, and the speed around the ring likewise
    for h, radius, printed in zip(steps.tolist(), found.tolist(), (0.316, 0.447, 0.63, 0.89), strict=True):
        assert radius == pytest.approx(math.sqrt(2 * h), rel=max(h**2, 1e-3))
        assert radius == pytest.approx(printed, abs=0.0005 if printed < 0.5 else 0.005)


def test_one_centred_penalty_never_comes_to_rest():
    # For psi to change sign, theta has to pass 2 weight, if h < 1 / (2 weight); until it does, theta runs on.
    weight, h = 0.35, 0.2
    late = run("wgan+gp1", [[1.0, 1.0], [0.01, 0.5], [-0.3, -1.0]], 3000, h=h, at_once=False, penalty_weight=weight)
    late = late[-1000:]
    turns = (late[1:, :, 1].sign() != late[:-1, :, 1].sign()).sum(0)
    assert int(turns.min()) > 10
    assert float(late[..., 0].abs().amax(0).min()) > 2 * weight


@pytest.mark.parametrize(("weight", "printed", "digit"), [(0.0, 727, 1), (0.1, 0.002, 0.001), (1.0, 0.49, 0.01)])
def test_historical_averaging_on_the_bilinear_game(weight, printed, digit):
    path = run(
        "wgan+clip+history",
        [[1.0, 1.0]],
        5000,
        h=0.05,
        at_once=True,
        carried=("theta_mean", "phi_mean"),
        history_weight=weight,
    )
    found = float(path[-1].norm())
    assert found == pytest.approx(printed, abs=digit / 2)
    if not weight:
        assert found == pytest.approx(math.sqrt(2) * (1 + 0.05**2) ** 2500, rel=1e-9)


def test_average_of_a_closed_orbit_is_the_equilibrium():
    # psi moves by -h theta a step, so the sum over theta telescopes; theta^2 + psi^2 - h theta psi stays what it was
    h, steps = 0.1, 4000
    keep = ("theta", "phi", "theta_average")
    path = run("wgan+clip+average", [[1.0, 0.5]], steps, h=h, at_once=False, keep=keep, carried=keep[2:])
    theta, psi, average = path[:, 0].unbind(1)
    first = 1 + 0.25 - h * 0.5
    assert (theta.square() + psi.square() - h * theta * psi).tolist() == pytest.approx([first] * steps, rel=1e-9)
    bound = 2 * math.sqrt(first / (1 - h / 2)) / (h * torch.arange(2, steps + 2))
    assert (average.abs() <= bound).all()
    assert float(theta[-100:].abs().max()) > 0.9

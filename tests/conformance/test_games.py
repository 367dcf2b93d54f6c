"""Facts about whole games, with the implemented losses: what an optimised discriminator measures, and whose slope it
leaves to the generator."""

import math
from dataclasses import replace

import pytest
import torch

from study.game import Game
from study.losses import LOSSES
from study.methods import parse_method
from study.optimisers import OPTIMISERS
from study.plan import expand, pack
from study.prng import key_words
from study.spec import parse_sweep
from study.step import discriminator_update, generator_update, vectorise
from study.tasks.dirac import THRESHOLD, dirac
from study.train import _hyperparameters, draw, start, train

LOG4 = math.log(4)

# how often each of a few points is among 8 real and 8 generated samples
PAIRS = {
    "equal": ([3, 2, 2, 1], [3, 2, 2, 1]),
    "close": ([3, 2, 2, 1], [2, 3, 1, 2]),
    "far": ([5, 1, 1, 1], [1, 1, 2, 4]),
    "partly disjoint": ([4, 2, 2, 0], [0, 2, 3, 3]),
    "disjoint": ([5, 3, 0, 0], [0, 0, 4, 4]),
}


def expand_counts(counts):
    return torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))


def loss_of(name, logits, counts):
    real, fake = (logits[expand_counts(side)] for side in counts)
    return LOSSES[name].discriminator(real, fake).mean()


def optimised(name, counts, *, steps=60):
    """Newton's method on one logit per point: the loss is a sum of convex functions of one logit each.

    Where one side is absent the optimum is at infinity and each step goes towards it by 1 or more: 60 steps leave
    exp(-60) of it.
    """
    logits = torch.zeros(len(counts[0]), dtype=torch.float64)
    for _ in range(steps):
        logits.requires_grad_(True)
        (slope,) = torch.autograd.grad(loss_of(name, logits, counts), logits, create_graph=True)
        (curvature,) = torch.autograd.grad(slope.sum(), logits)
        logits = (logits - slope / curvature).detach()
    return logits


def divergence(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a)


def shares(counts):
    return [[n / 8 for n in side] for side in counts]


def jsd(p, q):
    middle = [(a + b) / 2 for a, b in zip(p, q, strict=True)]
    return (divergence(p, middle) + divergence(q, middle)) / 2


@pytest.mark.parametrize("name", ["mm", "ns"])
@pytest.mark.parametrize("counts", PAIRS.values(), ids=PAIRS)
def test_optimal_discriminator_measures_the_jensen_shannon_divergence(name, counts):
    logits = optimised(name, counts)
    assert float(-loss_of(name, logits, counts)) == pytest.approx(-LOG4 + 2 * jsd(*shares(counts)), abs=1e-12)
    for logit, p, q in zip(logits.sigmoid().tolist(), *shares(counts), strict=True):
        assert logit == pytest.approx(p / (p + q), abs=1e-12)


def test_bounds_of_the_idealised_game():
    assert float(-loss_of("mm", optimised("mm", PAIRS["equal"]), PAIRS["equal"])) == pytest.approx(-LOG4, abs=1e-12)
    assert float(-loss_of("mm", optimised("mm", PAIRS["disjoint"]), PAIRS["disjoint"])) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("counts", [PAIRS["equal"], PAIRS["close"], PAIRS["far"]], ids=["equal", "close", "far"])
def test_saturating_and_non_saturating_losses_add_up_to_the_divergence(counts):
    fake = optimised("ns", counts)[expand_counts(counts[1])]
    mm, ns = (float(LOSSES[name].generator(fake, fake).mean()) for name in ("mm", "ns"))
    p, q = shares(counts)
    assert mm + ns == pytest.approx(divergence(q, p), abs=1e-12)
    # the saturating loss is the generated side of the value: log 2 below KL(q | (p + q) / 2)
    assert mm == pytest.approx(divergence(q, [(a + b) / 2 for a, b in zip(p, q, strict=True)]) - math.log(2), abs=1e-12)


@pytest.mark.parametrize("name", ["mm", "ns"])
def test_slope_at_a_generated_logit(name):
    # -sigmoid(C) and -sigmoid(-C), each the other's mirror image
    logits = torch.tensor([-8.0, -2.0, 0.0, 2.0, 8.0], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(LOSSES[name].generator(logits, logits).sum(), logits)
    expected = [-3.4e-4, -0.119, -0.5, -0.881, -0.9997]
    halves = [5e-6, 5e-4, 1e-12, 5e-4, 5e-5]  # of the last printed digit
    way = 1 if name == "mm" else -1
    for found, value, half in zip(slope.tolist(), expected[::way], halves[::way], strict=True):
        assert found == pytest.approx(value, abs=half)


def test_saturating_slope_vanishes_as_the_discriminator_learns_and_the_other_does_not():
    # Generator frozen at theta = 1, so u = psi: the discriminator's flow is u' = -sigmoid(u), and u - exp(-u) falls by
    # t. A step of h errs by h^2 / 2 |F''| sigmoid^2 <= e^h h^2 / 8 in it, for F'' = -exp(-u) and s (1 - s) <= 1/4.
    h, steps = 0.05, 6000
    of = {name: Game(dirac(), parse_method(name), OPTIMISERS["sgd"], 1) for name in ("mm", "ns")}
    trial = expand(sweep("ns"))[0]
    trial = replace(trial, hyperparameters=replace(trial.hyperparameters, beta1=0.0, lr_d=h, lr_g=0.0))
    keys, dtype = key_words([trial.key]), torch.float64
    tensors = start(of["ns"], keys, _hyperparameters([trial], device="cpu", dtype=dtype), dtype=dtype)
    tensors |= _hyperparameters([trial], device="cpu", dtype=dtype)
    tensors |= {name: drawn[:, 0, 0] for name, drawn in draw(of["ns"], keys, range(1), dtype=dtype).items()}
    tensors |= dict.fromkeys(("count_d", "count_g", "progress"), torch.ones((), dtype=dtype))
    tensors |= {"theta": torch.ones(1, 1, dtype=dtype), "phi": -torch.ones(1, 1, dtype=dtype)}
    program = vectorise(lambda one: discriminator_update(of["ns"], one), tensors)
    slopes = {name: vectorise(lambda one, game=game: generator_update(game, one), tensors) for name, game in of.items()}

    def level(u):
        return u - math.exp(-u)

    seen = []
    for step in range(steps + 1):
        if step % 600 == 0:
            u = float(tensors["phi"])
            found = {name: float(slope(tensors)["grad_norm_g"]) for name, slope in slopes.items()}
            assert found["mm"] == pytest.approx(-u / (1 + math.exp(-u)), rel=1e-12)
            assert found["ns"] == pytest.approx(-u / (1 + math.exp(u)), rel=1e-12)
            assert level(-1) - level(u) == pytest.approx(step * h, rel=h * math.exp(h) / 8, abs=1e-12)
            seen.append(found)
        tensors["phi"] = program(tensors)["phi"]
    mm, ns = ([found[name] for found in seen] for name in ("mm", "ns"))
    assert mm == sorted(mm, reverse=True)
    assert ns == sorted(ns)
    # level(u) = level(-1) - 300 puts u between -log(301 + e) and -log(301 + e - 5.8)
    assert mm[-1] < 0.02 < 0.26 < mm[0]
    assert ns[-1] > 5.6


def sweep(method, **override):
    space = {"lr": 0.1, "beta1": 0.0, "optimiser": "sgd", "n_critic": 1} | override
    return parse_sweep(
        {
            "name": "small",
            "tasks": ["dirac"],
            "methods": [method],
            "budget": {"steps": 400, "evaluations": 20},
            "space": {"override": space},
            "design": {"points": 1, "seeds": 4},
        },
        source="test",
    )


def trained(method, **override):
    chosen = pack(expand(sweep(method, **override)), capacity=4, device="cpu")[0]
    return train(chosen.trials, capacity=4)


def test_without_a_penalty_the_generator_does_not_arrive():
    state = trained("ns")
    theta, psi = state.tensors["theta"].double(), state.tensors["phi"].double()
    # t = 40. From |u| <= r^2 / 2 and 2 u tanh(u / 2) <= u^2 the flow has 1 / r^2 <= 1 / r0^2 + t / 4 with r0^2 >= 1.
    # Alternating steps stay on the flow of a game that differs by a share of h.
    radius = (theta.square() + psi.square())[:, 0]
    assert float(radius.min()) > 1 / (1 + 40 / 4) * (1 - 2 * 0.1)
    late = torch.tensor([evaluation.values["w2sq"].tolist() for evaluation in state.evaluations[-8:]])
    assert (late.median(0).values > THRESHOLD).all()


def test_with_r1_it_does():
    state = trained("ns+r1", penalty_weight=0.5)
    # theta^2 falls by exp(-0.5) per unit of time, t = 40, from r^2 <= 2; a factor of ten for the shape of the orbit
    assert float(state.evaluations[-1].values["w2sq"].max()) < 2 * math.exp(-0.5 * 40) * 10 < THRESHOLD
    for evaluation in state.evaluations:
        theta = torch.from_numpy(evaluation.values["theta"])
        assert torch.equal(theta.square(), torch.from_numpy(evaluation.values["w2sq"]))
    assert torch.equal(theta, state.tensors["theta"][:, 0].double())
    assert state.evaluations[0].values["w2sq"].min() > 0


EVERYTHING = [
    *("mm", "ns+smooth", "wgan+clip", "wgan+gp1", "hinge", "lsgan", "lsgan-pearson", "rpgan+r1+r2", "ragan+gp0"),
    *("ns+dragan", "ns+dragan-gauss", "ns+dragan-prob", "ns+dragan-sym", "ns+lp", "ns+gp0-prob", "ns+gp1-real"),
    *("ns+noise", "ns+history", "ns+gradclip", "ns+consensus", "ns+simultaneous", "ns+extragradient"),
    *("ns+optimistic", "ns+ema", "ns+average"),
]


@pytest.mark.parametrize("method", EVERYTHING)
def test_whatever_runs_on_two_numbers_stays_finite(method):
    trials = [
        replace(trial, budget=replace(trial.budget, steps=5, evaluations=1)) for trial in expand(sweep(method, lr=0.01))
    ]
    state = train(trials, capacity=4)
    assert torch.isfinite(state.tensors["theta"]).all()
    assert torch.isfinite(state.tensors["phi"]).all()

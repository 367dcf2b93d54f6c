import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog

from study.errors import UserError
from study.losses import LOSSES
from study.plan import expand, pack
from study.spec import parse_sweep
from study.tasks.base import Snapshot
from study.tasks.finite import MATRICES, START, finite, gap_of, nearest_start
from study.tasks.table import get_task
from study.train import train

every_game = pytest.mark.parametrize("name", MATRICES)


def programme(payoffs):
    """The least v that a mixture p of rows can hold every column of payoffs below: its value and p."""
    a = np.array(payoffs, dtype=float)
    n, m = a.shape
    found = linprog(
        c=[0.0] * n + [1.0],
        A_ub=np.hstack([a.T, -np.ones((m, 1))]),
        b_ub=np.zeros(m),
        A_eq=[[1.0] * n + [0.0]],
        b_eq=[1.0],
        bounds=[(0, 1)] * n + [(None, None)],
    )
    assert found.success
    return float(found.fun), found.x[:n]


@every_game
def test_equilibria_are_those_of_the_linear_programme(name):
    game = MATRICES[name]
    value, p = programme(game.payoffs)
    assert value == pytest.approx(float(game.value), abs=1e-9)
    # the discriminator's programme is that of the game seen from its side
    other, q = programme(-np.array(game.payoffs).T)
    assert -other == pytest.approx(value, abs=1e-9)
    assert gap_of(game, p, q) == pytest.approx(0, abs=1e-9)
    assert sum(game.p) == sum(game.q) == 1
    assert gap_of(game, game.p, game.q) == 0  # exactly, in fractions
    assert (
        sum(a * p * q for row, p in zip(game.payoffs, game.p, strict=True) for a, q in zip(row, game.q, strict=True))
        == game.value
    )


def test_the_uneven_game_by_hand():
    # the first column pays 2 p - (1 - p), the second -p + (1 - p); equal at p = 2/5, where both pay 1/5
    game = MATRICES["uneven"]
    assert gap_of(game, [0.4, 0.6], [0.4, 0.6]) == pytest.approx(0)
    # p = q = 1/2: columns pay .5 and 0, rows the same: .5 - 0
    assert gap_of(game, [0.5, 0.5], [0.5, 0.5]) == 0.5
    assert gap_of(game, [1, 0], [1, 0]) == 3  # columns 2 and -1, rows 2 and -1


def test_morra_has_a_stretch_of_equilibria():
    game = MATRICES["morra"]
    for s, inside in ((4 / 7, True), (0.59, True), (3 / 5, True), (0.56, False), (0.61, False)):
        mixture = [0, s, 1 - s, 0]
        assert (gap_of(game, mixture, mixture) < 1e-9) == inside


shares = st.lists(st.floats(0.01, 1), min_size=2, max_size=2)


@given(shares, shares)
def test_the_gap_bounds_how_far_the_value_is_off(p, q):
    game = MATRICES["uneven"]
    p, q = np.array(p) / sum(p), np.array(q) / sum(q)
    gap = gap_of(game, p, q)
    assert gap >= -1e-12
    assert abs(p @ np.array(game.payoffs) @ q - float(game.value)) <= gap + 1e-12


def players(name, seed=0, count=4):
    game, generator = MATRICES[name], torch.Generator().manual_seed(seed)
    x, y = (torch.randn(count, size, generator=generator).double() for size in (len(game.p), len(game.q)))
    return game, x, y


@every_game
@pytest.mark.parametrize("loss", ["zerosum", "mm", "ns"])
def test_losses_are_the_value_or_rise_and_fall_with_it(name, loss):
    task, (game, x, y) = get_task(f"finite[game={name}]" if name != "uneven" else "finite"), players(name, count=8)
    a, found = torch.tensor(game.payoffs).double(), []
    for one, other in zip(x, y, strict=True):
        fake = task.generator.apply({"x": one}, torch.zeros(5, 1).double())
        real = task.sample(torch.rand(5, 1)).double()
        assert not real.any()
        on_real, on_fake = (task.discriminator.apply({"y": other}, s).squeeze(-1) for s in (real, fake))
        value = float(one.softmax(0) @ a @ other.softmax(0))
        own = float(LOSSES[loss].generator(on_fake, on_real).mean())
        against = float(LOSSES[loss].discriminator(on_real, on_fake).mean())
        if loss == "zerosum":
            assert (own, against) == (pytest.approx(value), pytest.approx(-value))
        found.append((value, own, -against))
    by_value = sorted(found)
    for first, second in itertools.pairwise(by_value):
        assert first[1] <= second[1]
        assert first[2] <= second[2]


@every_game
def test_mixtures_are_read_off(name):
    task, (game, x, y) = finite(name), players(name)
    values = task.evaluate(
        Snapshot(
            {"x": x}, torch.empty(4, 0, 3), critic=lambda s: torch.func.vmap(task.discriminator.apply)({"y": y}, s)
        )
    )
    for i in range(4):
        p, q = x[i].softmax(0).numpy(), y[i].softmax(0).numpy()
        assert float(values["gap"][i]) == pytest.approx(gap_of(game, p, q), abs=1e-9)
        value = p @ np.array(game.payoffs) @ q
        assert float(values["value"][i]) == pytest.approx(value, abs=1e-9)
        assert float(values["value_error"][i]) == pytest.approx(abs(value - float(game.value)), abs=1e-9)
    assert torch.equal(values["selection"], values["gap"])


@every_game
def test_starts_are_near_a_random_pure_choice(name):
    task, game = finite(name), MATRICES[name]
    uniforms = torch.rand(300, len(game.p), generator=torch.Generator().manual_seed(0))
    logits = torch.stack([task.generator.initialise(u)["x"] for u in uniforms])
    assert torch.equal(logits.sort(1).values[:, -1], torch.full((300,), START))
    assert logits.sum(1).tolist() == [START] * 300
    assert (logits > 0).double().mean(0).tolist() == pytest.approx([1 / len(game.p)] * len(game.p), abs=0.12)
    assert task.anchors[1] == nearest_start(game) == pytest.approx(100 * task.threshold)


@every_game
def test_the_slope_at_real_samples_is_the_distance_of_the_mixture(name):
    task, (game, _, y) = finite(name), players(name)
    width = task.shape[0]
    slope = torch.func.grad(lambda s: task.discriminator.apply({"y": y[0]}, s).sum())(torch.zeros(1, width).double())
    off = y[0].softmax(0) - torch.tensor([float(share) for share in game.q]).double()
    torch.testing.assert_close(slope[0], torch.cat([torch.zeros(len(game.p) + 1).double(), off]))


def trained(method, *, steps=800, **override):
    raw = {
        "name": "small",
        "tasks": ["finite"],
        "methods": [method],
        "budget": {"steps": steps, "evaluations": 10},
        "space": {"override": {"lr": 0.5, "beta1": 0.0, "optimiser": "sgd", "n_critic": 1} | override},
        "design": {"points": 1, "seeds": 4},
    }
    (chosen,) = pack(expand(parse_sweep(raw, source="test")), capacity=4, device="cpu")
    return [
        {key: torch.from_numpy(value) for key, value in found.values.items()}
        for found in train(chosen.trials, capacity=4).evaluations
    ]


@pytest.mark.parametrize("method", ["zerosum+extragradient", "ns+extragradient", "zerosum+optimistic"])
def test_looking_ahead_finds_the_value_of_the_linear_programme(method):
    # near the equilibrium V = 5 (p - .4)(q - .4) + .2, and a logit moves p by .24, twice, for there are two: a step of
    # .5 turns by .5 * .576 = .29 (half of that with ns), and looking ahead shrinks the distance by .29^2 / 2 = 4 %
    last = trained(method)[-1]
    assert float(last["gap"].max()) < finite().threshold
    assert last["value"].tolist() == pytest.approx([0.2] * 4, abs=0.01)


def test_plain_steps_in_turn_circle():
    seen = torch.stack([found["gap"] for found in trained("zerosum")])
    assert (seen[-5:].median(0).values > finite().threshold).all()


def test_a_game_that_there_is_not_and_other_losses_are_refused():
    with pytest.raises(UserError, match=r"unknown game of 'finite': 'chess': choose from morra, pennies, rock, uneven"):
        get_task("finite[game=chess]")
    with pytest.raises(UserError, match="finite is for zerosum, mm, ns"):
        trained("wgan+gp1")

import math

import pytest
import torch

from study.errors import UserError
from study.losses import LOSSES
from study.plan import expand, pack
from study.prng import Role, key_words, uniform
from study.spec import parse_sweep
from study.tasks.base import Snapshot
from study.tasks.games import HEUSEL_START, SALIMANS_START, bilinear, heusel, salimans
from study.tasks.table import get_task
from study.train import train

# V, dV/dx and dV/dy by hand
VALUES = {
    "bilinear": lambda x, y: (x * y, y, x),
    "salimans": lambda x, y: (
        ((x if x < 0 else x * x) - 1) * (y - 1),
        (1 if x < 0 else 2 * x) * (y - 1),
        (x if x < 0 else x * x) - 1,
    ),
    "heusel": lambda x, y: ((1 + x * x) * (100 - y * y), 2 * x * (100 - y * y), -2 * y * (1 + x * x)),
}
EQUILIBRIA = {"bilinear": 0.0, "salimans": 1.0, "heusel": 0.0}
every_game = pytest.mark.parametrize("name", VALUES)


def play(name, x, y, steps, *, h, h_x=None, weight=0.0, both=False):
    """Plain descent of x and ascent of y, y first, with historical averaging of a weight; numbers alone."""
    mean_x, mean_y, h_x = x, y, h_x or h
    for t in range(1, steps + 1):
        new_y = y + h * (VALUES[name](x, y)[2] - 2 * weight * (y - mean_y))
        new_x = x - h_x * (VALUES[name](x, y if both else new_y)[1] + 2 * weight * (x - mean_x))
        x, y = new_x, new_y
        mean_x, mean_y = mean_x + (x - mean_x) / (t + 1), mean_y + (y - mean_y) / (t + 1)
    return x, y


def distance_sq(name, x, y):
    return (x - EQUILIBRIA[name]) ** 2 + (y - EQUILIBRIA[name]) ** 2


def trials(name, method, steps, *, evaluations=1, **override):
    space = {"lr": 0.05, "beta1": 0.0, "optimiser": "sgd", "n_critic": 1} | override
    raw = {
        "name": "small",
        "tasks": [name],
        "methods": [method],
        "budget": {"steps": steps, "evaluations": evaluations},
        "space": {"override": space},
        "design": {"points": 1, "seeds": 3},
    }
    return pack(expand(parse_sweep(raw, source="test")), capacity=3, device="cpu")[0].trials


def trained(*args, **override):
    """What the evaluations of three seeds found, in float64."""
    state = train(trials(*args, **override), capacity=3, dtype=torch.float64)
    return [{key: torch.from_numpy(value) for key, value in found.values.items()} for found in state.evaluations]


def starts(found):
    """(x, y) of each of some trials before the first step, drawn from their keys."""
    networks = get_task(found[0].task).generator, get_task(found[0].task).discriminator
    numbers = [
        uniform(key_words([trial.key for trial in found]), role=role, steps=range(1), updates=1, count=1)
        for role in (Role.GENERATOR_START, Role.DISCRIMINATOR_START)
    ]
    return [
        tuple(
            float(*network.initialise(u[i, 0, 0].double()).values())
            for network, u in zip(networks, numbers, strict=True)
        )
        for i in range(len(found))
    ]


@every_game
def test_losses_are_the_value_and_its_negative(name):
    task = get_task(name)
    for x, y in ((0.3, -0.7), (-1.2, 2.0), (1.0, 1.0), (0.0, 4.0)):
        fake = task.generator.apply({"x": torch.tensor([x], dtype=torch.float64)}, torch.zeros(5, 1).double())
        real = task.sample(torch.rand(5, 1)).double()
        on_real, on_fake = (
            task.discriminator.apply({"y": torch.tensor([y], dtype=torch.float64)}, s).squeeze(-1) for s in (real, fake)
        )
        value = VALUES[name](x, y)[0]
        assert LOSSES["zerosum"].generator(on_fake, on_real).tolist() == pytest.approx([value] * 5, abs=1e-12)
        assert LOSSES["zerosum"].discriminator(on_real, on_fake).tolist() == pytest.approx([-value] * 5, abs=1e-12)


@every_game
def test_slope_at_real_samples_is_the_distance_of_y(name):
    task, y = get_task(name), torch.tensor([2.5])
    slope = torch.func.grad(lambda s: task.discriminator.apply({"y": y}, s).sum())(torch.zeros(1, 3))
    assert slope.tolist() == [[0, 0, 2.5 - EQUILIBRIA[name]]]


@every_game
def test_starts_are_no_closer_than_stated(name):
    task = get_task(name)
    start = {"bilinear": 1.0, "salimans": SALIMANS_START, "heusel": HEUSEL_START}[name]
    uniforms = torch.rand(200, 1, generator=torch.Generator().manual_seed(0))
    x = torch.cat([task.generator.initialise(u)["x"] for u in uniforms]) - EQUILIBRIA[name]
    y = torch.cat([task.discriminator.initialise(u)["y"] for u in uniforms]) - EQUILIBRIA[name]
    assert set(y.tolist()) == {-start, start}
    assert -start < float(x.min()) < -0.9 * start < 0.9 * start < float(x.max()) < start
    assert task.anchors == (pytest.approx(1e-6 * start**2), start**2)
    assert task.threshold == pytest.approx(1e-4 * start**2)


@every_game
def test_both_players_are_read_off(name):
    task = get_task(name)
    x, y = torch.tensor([[0.25], [-1.5]]), torch.tensor([[3.0], [0.5]])
    values = task.evaluate(
        Snapshot(
            {"x": x}, torch.empty(2, 0, 3), critic=lambda s: torch.func.vmap(task.discriminator.apply)({"y": y}, s)
        )
    )
    assert values["x"].tolist() == [0.25, -1.5]
    assert values["y"].tolist() == [3.0, 0.5]
    expected = [distance_sq(name, 0.25, 3.0), distance_sq(name, -1.5, 0.5)]
    assert values["distance_sq"].tolist() == values["selection"].tolist() == expected


def test_both_at_once_grow_by_the_modulus():
    seen = trained("bilinear", "zerosum+simultaneous", 200, evaluations=20, lr=0.1)
    first = seen[0]["distance_sq"]
    for i, values in enumerate(seen):
        # 200 steps of roundings, each a share of 2e-16
        torch.testing.assert_close(values["distance_sq"], first * (1 + 0.1**2) ** (10 * i), rtol=1e-12, atol=0)


def test_in_turn_the_orbit_is_closed():
    h = 0.3
    seen = trained("bilinear", "zerosum", 300, evaluations=60, lr=h)
    # y' = y + h x and x' = x - h y' keep this form
    form = torch.stack([v["x"].square() + v["y"].square() + h * v["x"] * v["y"] for v in seen])
    torch.testing.assert_close(form, form[:1].expand_as(form), rtol=1e-12, atol=0)
    # between the axes of the ellipse, on which the form is 1 +- h / 2 times the squared distance
    distance = torch.stack([v["distance_sq"] for v in seen])
    assert (distance >= form / (1 + h / 2) - 1e-12).all()
    assert (distance <= form / (1 - h / 2) + 1e-12).all()
    assert (distance > bilinear().threshold).all()


@every_game
@pytest.mark.parametrize("method", ["zerosum", "zerosum+simultaneous", "zerosum+history"])
def test_training_is_plain_descent_and_ascent(name, method):
    h = 0.001 if name == "heusel" else 0.05
    weight, own = (0.7, {"history_weight": 0.7}) if "history" in method else (0.0, {})
    last = trained(name, method, 60, lr=h, **own)[-1]
    found = [(float(x), float(y)) for x, y in zip(last["x"], last["y"], strict=True)]
    for start, end in zip(starts(trials(name, method, 60, lr=h, **own)), found, strict=True):
        expected = play(name, *start, 60, h=h, weight=weight, both="simultaneous" in method)
        # 60 steps, each of which multiplies roundings of 1e-16 by 1.2 at most
        assert end == pytest.approx(expected, rel=1e-10, abs=1e-11)


def test_averaging_comes_to_rest_where_plain_descent_does_not():
    # Salimans et al. 2016, section 3.3: small weights converge, none circles or diverges, large ones are stuck
    starts = [(-0.9, 3.0), (-0.5, -1.0), (0.5, 3.0), (1.0, -1.0), (2.9, 3.0)]
    threshold = salimans().threshold
    for both in (True, False):
        for x, y in starts:
            ends = {
                weight: distance_sq("salimans", *play("salimans", x, y, 20000, h=0.02, weight=weight, both=both))
                for weight in (0.1, 5.0)
            }
            assert ends[0.1] < threshold < ends[5.0]
    # plain: the distance at most of the last steps, which take the orbit round
    x, y = play("salimans", 1.0, 3.0, 20000, h=0.02)
    for _ in range(600):
        x, y = play("salimans", x, y, 1, h=0.02)
        assert distance_sq("salimans", x, y) > 0.9 > threshold


def test_two_step_sizes_pay_on_the_saddle():
    # near the saddle a step multiplies x by 1 - 200 lr_g and y by 1 - 2 lr_d
    ends = {
        ratio: trained("heusel", "zerosum", 500, lr=lr, lr_d_ratio=ratio)[-1]["distance_sq"].max()
        for lr, ratio in ((1e-4, 100.0), (1e-3, 1.0))
    }
    assert ends[100.0] < 2 * 0.98**1000 * 1.1 < heusel().threshold
    assert ends[1.0] > 0.998**1000 * 0.9 > heusel().threshold


def test_r1_damps_as_in_the_dirac_game():
    h, weight = 0.1, 0.5
    first, second = trained("bilinear", "zerosum+r1+simultaneous", 2, evaluations=2, lr=h, penalty_weight=weight)
    torch.testing.assert_close(second["y"], first["y"] + h * (first["x"] - weight * first["y"]), rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(second["x"], first["x"] - h * first["y"], rtol=1e-12, atol=1e-14)


RECORDED = {name: {control.name: control.value for control in get_task(name).controls} for name in VALUES}
SHARED = {"equilibrium", "half of the start's distance", "nearest start"}


@pytest.mark.parametrize("start", [1.0, 2.0])
def test_controls_of_the_bilinear_game(start):
    recorded = {control.name: control.value for control in bilinear(start=start).controls}
    for name, weight, digits in (("averaging of weight 0.1", 0.1, 1e-3), ("averaging of weight 1", 1.0, 1e-3)):
        end = distance_sq("bilinear", *play("bilinear", 0.0, start, 5000, h=0.05, weight=weight))
        assert end == pytest.approx(recorded[name], rel=digits)  # four digits are recorded
    assert recorded["circle through the start"] == recorded["nearest start"] == start**2
    assert len(recorded) == 6


def test_controls_of_the_game_of_salimans():
    recorded = RECORDED["salimans"]
    for weight, name in ((0.1, "averaging of weight 0.1"), (5.0, "averaging of weight 5")):
        end = distance_sq("salimans", *play("salimans", 1.0, 3.0, 20000, h=0.02, weight=weight))
        assert end == pytest.approx(recorded[name], rel=0.05)  # two digits are recorded
    # The orbit x^2 / 4 - log(x) / 2 + (y - 1)^2 / 2 = 1 / 4 + 2, looked for along log(x), where its squared distance
    # has a slope of at most 10
    nearest = math.inf
    for i in range(-60000, 20000):
        x = math.exp(i * 1e-4)
        rest = 2 * (2.25 - x * x / 4 + i * 1e-4 / 2)
        if rest >= 0:
            nearest = min(nearest, (x - 1) ** 2 + rest)
    assert nearest == pytest.approx(recorded["nearest point of an orbit"], abs=1e-3 / 2 + 5e-4)
    assert set(recorded) == SHARED | {
        "nearest point of an orbit",
        "averaging of weight 0.1",
        "averaging of weight 5",
    }


def test_controls_of_the_saddle():
    recorded = RECORDED["heusel"]
    for name, h_x, h in (
        ("1e-4 for x and 0.01 for y", 1e-4, 0.01),
        ("0.01 for both", 0.01, 0.01),
        ("0.001 for both", 0.001, 0.001),
    ):
        end = distance_sq("heusel", *play("heusel", 1.0, 1.0, 1000, h=h, h_x=h_x))
        assert end == pytest.approx(recorded[name], abs=5e-5)
    assert set(recorded) == SHARED | {"1e-4 for x and 0.01 for y", "0.01 for both", "0.001 for both"}
    assert heusel().anchors[1] == recorded["nearest start"]


def test_start_is_an_option():
    task = get_task("bilinear[start=2]")
    assert task.anchors == (pytest.approx(4e-6), 4.0)
    assert float(task.discriminator.initialise(torch.tensor([0.7]))["y"]) == 2


@pytest.mark.parametrize("start", ["0", "-1"])
def test_a_start_that_is_no_distance_is_refused(start):
    with pytest.raises(UserError, match=r"bilinear\[start=.*: start is a distance"):
        get_task(f"bilinear[start={start}]")


def test_losses_of_data_are_refused():
    with pytest.raises(UserError, match="bilinear is for zerosum"):
        trained("bilinear", "ns", 1)

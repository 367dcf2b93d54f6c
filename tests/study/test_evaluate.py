"""What an evaluation looks at: samples of the networks as they are, with classes and running statistics."""

from dataclasses import replace

import pytest
import torch

from study import evaluate as module
from study import evaluation_program as programs
from study.errors import UserError
from study.evaluate import evaluate
from study.game import Game, generator_parameters
from study.layers import NORMALISATION_EPSILON
from study.methods import parse_method
from study.native import mapped
from study.native import program as native_program
from study.native.build import NoCompiler
from study.networks.base import split
from study.optimisers import OPTIMISERS
from study.prng import Role, key_words, normal
from study.schema import NATIVE, RECORDED
from study.tasks.table import get_task
from study.train import NUMBERS, start, train
from tests.study.native_case import keys_of, needs_compiler

KEYS = key_words(["0123456789abcdef", "fedcba9876543210"])


def watched(task, method, architecture=(), **changes):
    """A game whose evaluations leave what they look at in a list."""
    seen = []

    def look(at):
        seen.append(at)
        return {"m": at.samples.double().mean((1, 2))}

    task = replace(get_task(task), evaluate=look, metrics=("m",), primary="m", **changes)
    return Game(task, parse_method(method), OPTIMISERS["adam"], 1, architecture), seen


def parameters(network, seed=0):
    return torch.randn(2, network.size, generator=torch.Generator().manual_seed(seed)) / 4


def test_a_task_without_a_selection_metric_selects_by_its_primary():
    game, _ = watched("ring8", "ns", evaluation_samples=16)
    values = evaluate(game, {"theta": parameters(game.generator), "phi": torch.zeros(2, 1)}, KEYS, index=0)
    assert torch.equal(values["selection"], values["m"])


@pytest.mark.parametrize(
    ("name", "value", "sizes"), [("AT_ONCE", 60, [7] * 42 + [6]), ("LAYER", {"cpu": 1}, [128, 128, 44])]
)
def test_pieces_are_the_samples_that_one_pass_makes(monkeypatch, name, value, sizes):
    game, seen = watched("ring8", "ns", evaluation_samples=300)
    tensors = {"theta": parameters(game.generator).double(), "phi": torch.zeros(2, 1)}
    evaluate(game, tensors, KEYS, index=3)
    monkeypatch.setattr(module, name, value)
    passes = []
    apply = programs.generator_input
    monkeypatch.setattr(
        programs, "generator_input", lambda game, z, label: passes.append(len(z)) or apply(game, z, label)
    )
    evaluate(game, tensors, KEYS, index=3)
    assert passes == sizes
    assert seen[0].samples.shape == (2, 300, 2)
    # another block size of a matrix product rounds differently: float64, 64 terms of order 1
    assert torch.allclose(seen[0].samples, seen[1].samples, rtol=0, atol=64 * 2**-52)


def test_a_conditional_generator_is_asked_for_classes_like_the_datas():
    game, seen = watched("ring8", "ns+cond", evaluation_samples=4000)
    theta = parameters(game.generator)
    evaluate(game, {"theta": theta, "phi": torch.zeros(2, 1)}, KEYS, index=0)
    labels = seen[0].labels
    shares = torch.stack([(labels == k).double().mean(1) for k in range(8)], 1)
    # binomial: five standard deviations of sqrt(1/8 * 7/8 / 4000)
    assert ((shares - 1 / 8).abs() < 5 * 0.0053).all()
    own = split(theta[0], game.generator.shapes)
    latent = normal(KEYS, role=Role.EVALUATION, steps=range(1), updates=1, count=4000 * 2).view(2, 4000, 2)
    shown = torch.cat([latent[0], torch.eye(8)[labels[0]]], 1)
    assert torch.allclose(game.generator.apply(own, shown), seen[0].samples[0], atol=1e-5)


def test_the_critic_of_a_snapshot_is_the_trials_own():
    game, seen = watched("ring8", "ns+sn", evaluation_samples=8)
    phi, theta = parameters(game.discriminator, 1), parameters(game.generator)
    power = torch.nn.functional.normalize(torch.ones(2, 64 + 64 + 1), dim=1)
    evaluate(game, {"theta": theta, "phi": phi, "power": power}, KEYS, index=0)
    x = torch.randn(2, 5, 2, generator=torch.Generator().manual_seed(2))
    outputs, slope = seen[0].critic(x), seen[0].slope(x)
    assert outputs.shape == (2, 5, 1)
    from study.game import Critic

    for i in range(2):
        points = x[i].clone().requires_grad_()
        expected = Critic(game, phi[i], power[i])(points)
        (gradient,) = torch.autograd.grad(expected.sum(), points)
        assert torch.allclose(outputs[i, :, 0], expected, atol=1e-5)
        assert torch.allclose(slope[i], gradient, atol=1e-5)


def test_running_statistics_are_what_batches_were_normalised_by(small_pack):
    # one generator step: running values are 0.9 of the start's 0 and 1 and 0.1 of the batch's own
    override = {"norm_g": "batch", "n_critic": 1}
    pack = small_pack("ring8", "ns", steps=1, evaluations=1, points=2, capacity=2, **override)
    state = train(pack.trials, capacity=2, dtype=torch.float64)
    game = Game(get_task("ring8"), parse_method("ns"), OPTIMISERS["adam"], 1, (("norm_g", "batch"),))
    keys = key_words([trial.key for trial in pack.trials])
    latent = normal(keys, role=Role.LATENT_G, steps=range(1), updates=1, count=64 * 2).view(2, 64, 2).double()
    for slot in range(2):
        w = generator_parameters(game, {}, state.tensors["theta"][slot])
        running = split(state.tensors["statistics"][slot], game.generator.statistics_shapes)
        first = latent[slot] @ w["weight0"]
        assert torch.allclose(running["mean0"], 0.1 * first.mean(0), atol=1e-12)
        assert torch.allclose(running["variance0"], 0.9 + 0.1 * first.var(0, correction=0), atol=1e-12)


@pytest.mark.parametrize("technique", ["ema", "average"])
def test_running_statistics_of_an_average_are_its_own(small_pack, technique):
    override = {"norm_g": "batch", "n_critic": 1, "ema_decay": 0.5, "lr": 0.1}
    pack = small_pack("ring8", f"ns+{technique}", steps=1, evaluations=1, points=2, capacity=2, **override)
    state = train(pack.trials, capacity=2, dtype=torch.float64)
    game = Game(get_task("ring8"), parse_method("ns"), OPTIMISERS["adam"], 1, (("norm_g", "batch"),))
    latent = normal(
        key_words([trial.key for trial in pack.trials]), role=Role.LATENT_G, steps=range(1), updates=1, count=64 * 2
    )
    for slot in range(2):
        w = split(state.tensors["theta_average"][slot], game.generator.shapes)
        running = split(state.tensors["statistics"][slot], game.generator.statistics_shapes)
        first = latent[slot].view(64, 2).double() @ w["weight0"]
        assert torch.allclose(running["mean0"], 0.1 * first.mean(0), atol=1e-12)
        assert not torch.equal(state.tensors["theta"][slot], state.tensors["theta_average"][slot])


def test_batch_normalisation_is_measured_by_its_running_statistics():
    game, seen = watched("ring8", "ns", (("norm_g", "batch"), ("depth_g", 1)), evaluation_samples=8)
    theta = parameters(game.generator)
    mean, variance = torch.randn(2, 64), torch.rand(2, 64) + 0.5
    tensors = {"theta": theta, "phi": torch.zeros(2, 1), "statistics": torch.cat([mean, variance], 1)}
    evaluate(game, tensors, KEYS, index=0)
    latent = normal(KEYS, role=Role.EVALUATION, steps=range(1), updates=1, count=16).view(2, 8, 2)
    for i in range(2):
        w = split(theta[i], game.generator.shapes)
        hidden = (latent[i] @ w["weight0"] - mean[i]) / (variance[i] + NORMALISATION_EPSILON).sqrt()
        hidden = torch.nn.functional.leaky_relu(hidden * w["gain0"] + w["bias0"], 0.2)
        assert torch.allclose(seen[0].samples[i], hidden @ w["weight1"] + w["bias1"], atol=1e-5)


@pytest.mark.parametrize("name", ["digits", "digits-ssl"])
def test_labels_are_known_of_the_first_samples_alone(small_pack, name):
    from study.train import draw

    game = Game(get_task(name), parse_method("ssl"), OPTIMISERS["adam"], 1)
    everything = draw(game, KEYS, range(3), dtype=torch.float32)["label_d"]
    labelled = torch.tensor([20.0, 1e9])
    some = draw(game, KEYS, range(3), dtype=torch.float32, labelled=labelled)["label_d"]
    assert torch.equal(some[1], everything[1])
    known = some[0] >= 0
    assert torch.equal(some[0][known], everything[0][known])
    # 20 of 901 images, 192 draws: 4.3 expected, and 0 to 15 within five standard deviations
    assert 0 < int(known.sum()) < 15
    assert int((everything < 0).sum()) == 0


def test_data_that_change_are_told_how_much_of_the_budget_is_spent():
    from study.train import draw

    task = replace(get_task("ring8"), over_time=True, sample=lambda u: u[..., -1:].expand(*u.shape[:-1], 2))
    game = Game(task, parse_method("ns"), OPTIMISERS["adam"], 2)
    real = draw(game, KEYS, range(3, 6), dtype=torch.float64, total=8)["real_d"]
    assert real.shape == (2, 3, 2, 64, 2)
    assert torch.equal(real[:, :, 0, 0, 0], torch.tensor([[3 / 8, 4 / 8, 5 / 8]] * 2, dtype=torch.float64))


def state_of(game, capacity=3, dtype=torch.float32):
    """A pack as it starts, its critics and running statistics moved so that there is something to see."""
    keys = keys_of(capacity)
    tensors = start(game, keys, dict.fromkeys(NUMBERS, torch.full((capacity,), 0.5, dtype=dtype)), dtype=dtype)
    moved = torch.linspace(0.5, 1.5, capacity, dtype=dtype)[:, None]
    return keys, tensors | {name: moved * tensors[name] for name in ("statistics",) if name in tensors}


METHODS = ["ns", "ns+cond", "ns+vbn", "ns+sn", "ns+mix", "ns+ema", "ns+minibatch"]


@needs_compiler
@pytest.mark.parametrize("method", METHODS)
def test_compiled_samples_are_the_recorded_ones(method):
    game, seen = watched("ring8", method, evaluation_samples=300)
    keys, tensors = state_of(game)
    for program in (RECORDED, NATIVE):
        evaluate(game, tensors, keys, index=3, program=program)
    # draws to 5e-7, through three layers of weights below 1 and in another order of sums
    torch.testing.assert_close(seen[1].samples, seen[0].samples, rtol=0, atol=1e-5)
    assert seen[1].labels is seen[0].labels is None or torch.equal(seen[1].labels, seen[0].labels)
    assert (seen[1].native, seen[1].whole) == (True, method != "ns+minibatch")
    assert (seen[0].native, seen[0].whole) == (False, False)


@needs_compiler
def test_compiled_batch_normalisation_uses_running_statistics():
    game, seen = watched("ring8", "ns", (("norm_g", "batch"),), evaluation_samples=150)
    keys, tensors = state_of(game)
    for program in (RECORDED, NATIVE):
        evaluate(game, tensors, keys, index=0, program=program)
    torch.testing.assert_close(seen[1].samples, seen[0].samples, rtol=0, atol=1e-5)


@needs_compiler
@pytest.mark.parametrize("method", ["ns", "ns+sn", "wgan+gp1"])
@pytest.mark.parametrize("count", [1, 127, 128, 129, 500])
def test_compiled_discriminators_see_what_recorded_ones_see(method, count):
    game, seen = watched("ring8", method, evaluation_samples=8)
    keys, tensors = state_of(game, dtype=torch.float64)
    for program in (RECORDED, NATIVE):
        evaluate(game, tensors, keys, index=0, program=program)
    points = torch.randn(count, 2, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    for x in (points.expand(3, -1, -1), torch.stack([points, 2 * points, -points])):
        outputs, slope = seen[0].critic(x), seen[0].slope(x)
        # three layers of up to 64 terms
        close = {"rtol": 0, "atol": 200 * 2**-52}
        torch.testing.assert_close(seen[1].critic(x), outputs, **close)
        torch.testing.assert_close(seen[1].slope(x), slope, **close)
        for at in seen:
            both = at.critic_and_slope(x)
            torch.testing.assert_close(both[0], outputs, **close)
            torch.testing.assert_close(both[1], slope, **close)


@needs_compiler
def test_in_float64_compiled_evaluations_have_the_same_draws_to_the_last_bit():
    game, seen = watched("ring8", "ns", evaluation_samples=300)
    keys, tensors = state_of(game, dtype=torch.float64)
    for program in (RECORDED, NATIVE):
        evaluate(game, tensors, keys, index=5, program=program)
    torch.testing.assert_close(seen[1].samples, seen[0].samples, rtol=0, atol=200 * 2**-52)


CLOSE = {
    "ring8": 1e-3,
    "grid25": 1e-3,
    "swissroll": 1e-4,
    "mixture1d": 1e-2,
    "digits": 1e-3,
    "digits-critic": 1e-2,
    "two-gaussians": 1e-4,
    "lines": 1e-4,
    "frozen": 1e-4,
    "flipped": 1e-2,
    "manifold[d=8, generator=mlp]": 1e-3,
}
"""By how much, relative to 1 or to itself, a value may change where some samples round to another cell or neighbour."""


@needs_compiler
@pytest.mark.parametrize("name", CLOSE)
def test_values_of_tasks_are_those_of_recorded_evaluations(name):
    game = Game(get_task(name), parse_method("ns"), OPTIMISERS["adam"], 1)
    keys, tensors = state_of(game)
    recorded = evaluate(game, tensors, keys, index=1)
    native = evaluate(game, tensors, keys, index=1, program=NATIVE)
    assert native.keys() == recorded.keys()
    for metric, value in recorded.items():
        torch.testing.assert_close(native[metric], value, rtol=CLOSE[name], atol=CLOSE[name], msg=metric)


@needs_compiler
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e30])
@pytest.mark.parametrize("name", ["ring8", "digits", "digits-critic"])
def test_a_diverged_trial_leaves_compiled_neighbours_alone(name, bad):
    game = Game(get_task(name), parse_method("ns"), OPTIMISERS["adam"], 1)
    keys, tensors = state_of(game)
    clean = evaluate(game, tensors, keys, index=0, program=NATIVE)
    tensors = {key: value.clone() for key, value in tensors.items()}
    for key in ("theta", "phi"):
        tensors[key][1] = bad
    values = evaluate(game, tensors, keys, index=0, program=NATIVE)
    for metric, value in values.items():
        assert torch.equal(value[[0, 2]], clean[metric][[0, 2]]), metric
        assert bad == 1e30 or value[1].isnan(), metric


@needs_compiler
def test_compiled_values_belong_to_the_trial_whatever_its_place():
    game = Game(get_task("ring8"), parse_method("ns"), OPTIMISERS["adam"], 1)
    keys, tensors = state_of(game, 4)
    together = evaluate(game, tensors, keys, index=2, program=NATIVE)
    order = torch.tensor([2, 0, 3, 1])
    moved = evaluate(game, {name: t[order] for name, t in tensors.items()}, keys[order], index=2, program=NATIVE)
    for metric, value in together.items():
        assert torch.equal(moved[metric], value[order]), metric


def test_who_asks_for_compiled_programs_gets_no_others(monkeypatch):
    def nothing(*_, **__):
        raise NoCompiler("there is none")

    game, _ = watched("ring8", "ns", evaluation_samples=16)
    keys, tensors = state_of(game)
    monkeypatch.setattr(mapped, "library", nothing)
    monkeypatch.setattr(native_program, "library", nothing)
    with pytest.raises(UserError, match="program 'native': there is none"):
        evaluate(game, tensors, keys, index=0, program=NATIVE)

"""The packed, recorded training step against a plain loop written with torch.optim and autograd."""

from dataclasses import replace
from itertools import cycle

import numpy as np
import pytest
import torch

from study.game import Game, components
from study.losses import LOSSES
from study.methods import parse_method
from study.networks.base import flatten, split
from study.optimisers import OPTIMISERS
from study.penalties import PENALTIES
from study.prng import key_words
from study.step import MEASURED, SHARED, constrain, discriminator_update, generator_update, joint_update
from study.tasks.table import get_task
from study.techniques import MIXTURE, TECHNIQUES
from study.train import NUMBERS, PackState, draw, measure, start, train
from tests.study import plain_training
from tests.study.plain_training import Plain

DEVICES = {"wgan": "gp1", "mmd-energy": "witness"}
# a game without data has closed forms instead: tests/study/tasks/test_games.py
WITH_DATA = [loss for loss in LOSSES if not LOSSES[loss].value]
BY_LOSS = [f"{loss}+{DEVICES[loss]}" if LOSSES[loss].needs_lipschitz else loss for loss in WITH_DATA]
BY_PENALTY = [f"{(PENALTIES[penalty].losses or ['ns'])[0]}+{penalty}" for penalty in PENALTIES]
BY_TECHNIQUE = [f"ns+{technique}" for technique in TECHNIQUES]
COMBINATIONS = {
    "ns+simultaneous+optimistic": ("sgd", 2),
    "ssl+smooth": ("adam", 1),
    "ns+gp0+consensus+simultaneous": ("sgd", 1),
    "rpgan+r1+r2+ema": ("adam", 1),
    "ssl+sn+fm-l1": ("adam", 2),
    "ssl+gp0-prob": ("rmsprop", 1),
    "wgan+gp1+extragradient": ("adam", 1),
    "wgan+clip": ("rmsprop", 2),
    "wgan+sn+mix": ("sgd", 2),
    "ns+gp1+gradclip+consensus": ("adam", 2),
    "ragan+noise+optimistic": ("adam", 1),
    "mmd-rq+witness+noise": ("rmsprop", 1),
    "mmd-energy+lp+gradclip": ("adam", 2),
    "hinge+sn": ("adam", 2),
    "ns+dragan+smooth+history": ("adam", 1),
    "lsgan+minibatch+average": ("adam", 1),
    "mm+r2+vbn+simultaneous": ("adam", 2),
    "ns+history+extragradient": ("sgd", 2),
    "ns+clip+gradclip+mix": ("adam", 1),
    "rpgan+history+mix+average": ("sgd", 1),
    "ns+clip+gradclip+mix3": ("adam", 1),
    "hinge+sn+mix3": ("sgd", 2),
    "rpgan+noise+consensus+optimistic": ("sgd", 2),
    "ns+sn+consensus": ("rmsprop", 1),
    "wgan+sn+minibatch+fm-first": ("sgd", 2),
    "wgan+clip+history": ("sgd", 2),
    "ns+sn+simultaneous": ("adam", 1),
    "ns+r1+r2+cond": ("adam", 2),
    "wgan+gp1+cond+sn+consensus": ("adam", 1),
    "hinge+cond+minibatch+mix": ("sgd", 1),
    "energy+noise+ema": ("adam", 2),
    # plain gradient descent would let rounding grow tenfold every few steps, past the kinks of |m_i - m_j|
    "ns+minibatch": ("adam", 2),
}
METHODS = [*dict.fromkeys([*BY_LOSS, *BY_PENALTY, *BY_TECHNIQUE])]
STRUCTURES = cycle([("adam", 1), ("rmsprop", 2), ("adam", 2), ("sgd", 1), ("adam", 1), ("rmsprop", 1), ("sgd", 2)])
CASES = dict(zip(METHODS, STRUCTURES, strict=False)) | COMBINATIONS
# plain gradient descent steps as far as the gradient is long; RMSprop's first step is 1 / sqrt(1 - beta2) times lr
RATES = {"adam": [5e-4, 2e-3], "rmsprop": [1e-4, 3e-4], "sgd": [5e-3, 2e-2]}

SPACE = {
    "lr": {"log_uniform": RATES["adam"]},
    "beta1": {"uniform": [0.0, 0.9]},
    "beta2": {"uniform": [0.9, 0.999]},
    "lr_d_ratio": {"log_uniform": [0.4, 0.9]},
    "penalty_weight": {"log_uniform": [0.5, 5.0]},
    "clip": {"uniform": [0.05, 0.1]},
    "noise_scale": {"uniform": [0.3, 1.0]},
    "smoothing": {"uniform": [0.1, 0.3]},
    "instance_noise": {"uniform": [0.1, 0.5]},
    "history_weight": {"uniform": [0.1, 1.0]},
    "ema_decay": {"uniform": [0.8, 0.95]},
    "grad_clip": {"log_uniform": [0.01, 0.1]},
    "consensus_weight": {"uniform": [0.2, 1.0]},
    "mix_entropy": {"uniform": [0.1, 0.5]},
}
"""Every number matters to 50 steps, and differs between the trials of a pack."""


def length_of(method, n_critic):
    """Steps of a comparison: a mixture costs MIXTURE^2 plain games a step, consensus a second derivative."""
    techniques = parse_method(method).techniques
    return 4 // n_critic if {"mix", "mix3"} & {*techniques} else 10 if "consensus" in techniques else 50 // n_critic


def compare(pack):
    """A padded pack against plain training of each of its trials.

    Both compute the same numbers in float64 by other operations in another order, which leaves a relative rounding of
    some 1e-15 in a gradient. That moves a parameter by 1e-15 lr, but for a gradient that is zero and only rounded to
    1e-16 or so: Adam and RMSprop divide it by no more than itself and 1e-8, which moves the parameter by 1e-8 lr, 1e-11
    a step at these rates and 5e-10 in 50. A wrong factor, sign or order shows at the size of the steps, 1e-4 and more.
    Where such a parameter has a gradient in turn, Adam would let its rounding grow to whole steps: a relativistic or
    Wasserstein critic with historical averaging is therefore compared under plain gradient descent.
    """
    state = train(pack.trials, capacity=pack.capacity, dtype=torch.float64)
    game = game_of(pack.trials[0].task, pack.trials[0].method)
    for slot, trial in enumerate(pack.trials):
        expected = Plain(trial).train()
        begin = begin_of(game, trial)
        for name, value in expected.items():
            difference = (state.tensors[name][slot] - value).abs()
            assert (difference <= 1e-9 + 1e-9 * value.abs()).all(), (name, slot, difference.max())
        for name in ("theta", *([] if game.method.loss_entry.direct else ["phi"])):
            assert (expected[name] - begin[name]).abs().max() > 1e-5


def game_of(task, method, optimiser="adam"):
    return Game(get_task(task), parse_method(method), OPTIMISERS[optimiser], 1)


def begin_of(game, trial):
    constants = {"clip": torch.tensor([trial.hyperparameters.clip or 0.0]).double()}
    begin = start(game, key_words([trial.key]), constants, dtype=torch.float64)
    return {name: value[0] for name, value in begin.items()}


def test_every_loss_penalty_and_technique_has_a_reference():
    parsed = [parse_method(method) for method in CASES]
    assert {method.loss for method in parsed} == set(WITH_DATA) == set(plain_training.LOSSES)
    assert {method.penalty for method in parsed} - {None} == set(PENALTIES) == set(plain_training.PENALTIES)
    assert {part for method in parsed for part in method.techniques} == set(TECHNIQUES) == plain_training.TECHNIQUES


def test_every_optimiser_and_several_updates_of_the_discriminator_are_compared():
    assert {optimiser for optimiser, _ in CASES.values()} == set(OPTIMISERS)
    assert sum(n_critic == 2 for _, n_critic in CASES.values()) > len(CASES) / 3


@pytest.mark.parametrize(("method", "structure"), CASES.items(), ids=list(CASES))
def test_a_padded_pack_equals_plain_training(small_pack, method, structure):
    optimiser, n_critic = structure
    space = SPACE | {"optimiser": optimiser, "n_critic": n_critic, "lr": {"log_uniform": RATES[optimiser]}}
    steps = length_of(method, n_critic)
    compare(small_pack("ring8", method, steps=steps, evaluations=1, points=2, capacity=3, **space))


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("method", ["ns+mix", "ns+consensus"])
def test_nor_do_the_costly_methods_differ_after_fifty_steps(small_pack, method):
    compare(small_pack("ring8", method, steps=50, evaluations=1, points=2, capacity=3, **SPACE))


@pytest.mark.parametrize(
    "method", ["ns+dragan", "ssl+noise", "mmd-rbf+witness", "ns+vbn+average", "hinge+sn+minibatch"]
)
def test_image_data(small_pack, method):
    compare(small_pack("digits", method, steps=10, evaluations=1, points=2, capacity=2, **SPACE))


@pytest.mark.parametrize("method", ["ssl", "ns+gp1"])
def test_data_without_labels(small_pack, method):
    compare(small_pack("manifold-d2", method, steps=20, evaluations=1, points=2, capacity=2, **SPACE))


def one_trial(game, seed=0):
    """The tensors of one trial before its first update, all hyperparameters at a half."""
    keys = key_words([f"{seed:016x}"])
    half = torch.tensor([0.5], dtype=torch.float64)
    tensors = start(game, keys, dict.fromkeys(NUMBERS, half), dtype=torch.float64) | dict.fromkeys(NUMBERS, half)
    tensors |= {name: drawn[:, 0, 0] for name, drawn in draw(game, keys, range(1), dtype=torch.float64).items()}
    shared = {"count_d": half[0] * 2, "count_g": half[0] * 2, "progress": half[0] * 0}
    assert set(shared) == set(SHARED)
    return {name: value[0] for name, value in tensors.items()} | shared


@pytest.mark.parametrize("penalty", PENALTIES)
def test_the_penalty_moves_the_discriminator_and_never_the_generator(penalty):
    loss = (PENALTIES[penalty].losses or ["ns"])[0]
    plain, penalised = (game_of("ring8", name, "sgd") for name in (loss, f"{loss}+{penalty}"))
    trial = one_trial(penalised)
    trial["phi"] = trial["phi"] * 4  # at the start slopes are below 1, where lp has nothing to say
    without, with_it = discriminator_update(plain, trial), discriminator_update(penalised, trial)
    assert not torch.allclose(without["phi"], with_it["phi"])
    assert "theta" not in with_it
    assert torch.equal(generator_update(plain, trial)["theta"], generator_update(penalised, trial)["theta"])


@pytest.mark.parametrize("penalty", ["gp1", "r2", "r1+r2"])
def test_not_even_where_both_move_at_once(penalty):
    plain, penalised = (game_of("ring8", f"{name}+simultaneous", "sgd") for name in ("ns", f"ns+{penalty}"))
    trial = one_trial(penalised)
    without, with_it = joint_update(plain, trial), joint_update(penalised, trial)
    assert not torch.allclose(without["phi"], with_it["phi"])
    assert torch.equal(without["theta"], with_it["theta"])


def test_each_update_moves_its_own_player_alone():
    for method in ("ns+gp1", "ns+sn+mix", "rpgan+history+consensus", "ns+optimistic+ema"):
        game = game_of("ring8", method)
        trial = one_trial(game)
        of_d, of_g = discriminator_update(game, trial), generator_update(game, trial)
        assert not {name for name in of_d if name.startswith("theta") or name.endswith("_g")}
        assert not {name for name in of_g if name.startswith(("phi", "power")) or name.endswith("_d")}
        assert set(MEASURED) <= set(of_d) | set(of_g)


def test_split_and_flatten_are_inverse():
    network = get_task("ring8").generator
    flat = torch.arange(network.size, dtype=torch.float32)
    assert torch.equal(flatten(split(flat, network.shapes)), flat)


@pytest.mark.parametrize("method", ["wgan+clip", "ns+gp1+clip+extragradient", "ns+clip+optimistic", "wgan+clip+mix"])
def test_clipping_covers_every_parameter_before_the_first_step_and_after_each(small_pack, method):
    pack = small_pack("ring8", method, steps=3, evaluations=3, points=2, capacity=2, clip=0.02)
    largest = []

    def networks(phi):
        return phi[:, :-MIXTURE] if "mix" in method else phi

    train(pack.trials, capacity=2, after_evaluation=lambda state: largest.append(networks(state.tensors["phi"])))
    game, keys = game_of("ring8", method), key_words([trial.key for trial in pack.trials])
    begin = start(game, keys, {"clip": torch.full((2,), 0.02)}, dtype=torch.float32)
    for phi in (networks(begin["phi"]), *largest):
        assert phi.abs().max() == np.float32(0.02)


def test_clipping_leaves_the_weights_of_a_mixture_alone():
    clipped = constrain(parse_method("wgan+clip+mix"), torch.full((20,), 7.0), {"clip": torch.tensor(0.1)})
    assert torch.equal(clipped, torch.tensor([0.1] * (20 - MIXTURE) + [7.0] * MIXTURE))


# evaluation


def measured(game, tensors, index=0):
    keys = key_words(["0123456789abcdef", "fedcba9876543210"])
    state = PackState(tensors | dict.fromkeys(("phi", *MEASURED), torch.zeros(2)))
    state.evaluations = [None] * index
    return measure(game, state, keys).values


@pytest.mark.parametrize("technique", ["ema", "average"])
@pytest.mark.parametrize("task", ["ring8", "manifold-d2"])
def test_what_is_measured_is_the_average(task, technique):
    averaged, plain = game_of(task, f"ns+{technique}"), game_of(task, "ns")
    g = torch.Generator().manual_seed(0)
    size = (2, plain.generator.size)
    theta, average = torch.randn(size, generator=g), torch.randn(size, generator=g)
    found = measured(averaged, {"theta": theta, "theta_average": average})
    expected, other = measured(plain, {"theta": average}), measured(plain, {"theta": theta})
    for name, value in found.items():
        assert np.array_equal(value, expected[name])
    primary = plain.task.primary
    assert (found[primary] != other[primary]).all()


def test_samples_of_a_mixture_come_from_its_members_in_proportion_to_their_weights():
    game = game_of("ring8", "ns+mix")
    seen = []

    def look(at):
        seen.append(at.samples)
        return game.task.evaluate(at)

    watched = replace(game, task=replace(game.task, evaluate=look))
    shapes = game.generator.shapes
    members = []
    for i in range(MIXTURE):
        constant = {name: torch.zeros(shape) for name, shape in shapes.items()}
        constant["bias2"] += i
        members.append(flatten(constant))
    shares = torch.tensor([[0.4, 0.3, 0.2, 0.1, 0.0], [0.2, 0.2, 0.2, 0.2, 0.2]])
    theta = torch.cat([torch.cat(members).expand(2, -1), shares.log().clamp(min=-100)], 1)
    for index in range(2):
        measured(watched, {"theta": theta}, index)
    n = game.task.evaluation_samples
    for samples in seen:
        found = torch.stack([(samples == i).all(-1).double().mean(1) for i in range(MIXTURE)], 1)
        # counts are binomial: five standard deviations, and none at all where the weight is e^-100
        assert ((found - shares).abs() <= 5 * (shares * (1 - shares) / n).sqrt()).all()
        assert torch.equal(found.sum(1), torch.ones(2, dtype=torch.float64))
    assert not torch.equal(seen[0], seen[1])


def test_a_mixture_of_equals_is_measured_as_one_of_them():
    mixed, plain = game_of("ring8", "ns+mix"), game_of("ring8", "ns")
    theta = torch.randn(2, plain.generator.size, generator=torch.Generator().manual_seed(1))
    copies = torch.cat([theta.repeat(1, MIXTURE), torch.randn(2, MIXTURE)], 1)
    networks, _ = components(copies[0], MIXTURE)
    assert all(torch.equal(network, theta[0]) for network in networks)
    found, expected = measured(mixed, {"theta": copies}), measured(plain, {"theta": theta})
    for name, value in found.items():
        assert np.array_equal(value, expected[name])


@pytest.mark.parametrize("technique", TECHNIQUES)
def test_a_technique_changes_what_is_trained_or_measured(small_pack, technique):
    small = {"steps": 4, "evaluations": 1, "points": 2, "capacity": 2, "grad_clip": 1e-3}  # a bound that binds
    with_it, without = (
        train(small_pack("ring8", method, **small).trials, capacity=2) for method in (f"ns+{technique}", "ns")
    )
    (measured, otherwise) = (state.evaluations[-1].values["w2sq_by_modes_n4096"] for state in (with_it, without))
    assert (measured != otherwise).all()

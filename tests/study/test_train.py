"""What must hold of a pack: a result belongs to the trial and not to where, when or beside whom it ran."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from study import checkpoint
from study import train as module
from study.game import Game
from study.methods import parse_method
from study.optimisers import OPTIMISERS
from study.outcome import outcomes
from study.prng import key_words
from study.tasks.table import get_task
from study.train import NUMBERS, draw, schedule, start, train

ANYTHING = ["ns+gp1", "wgan+gp1", "ns", "wgan+clip", "ns+dragan", "mm", "ns+r1", "wgan+gp0"]
ANYTHING_BUT_AFFINE = [
    "ns+mix",
    "ssl+sn",
    "mmd-rbf",
    "ns+vbn",
    "ns+consensus",
    "wgan+gp1+extragradient",
    "ns+noise",
    "rpgan+r1+r2+optimistic+ema",
    "hinge+sn",
    "hinge+minibatch+history",
]


def bits(state, slot):
    """Everything that training made of a slot, as bytes."""
    trained = {name: tensor[slot].numpy().tobytes() for name, tensor in state.tensors.items()}
    measured = {(i, n): v[slot].tobytes() for i, e in enumerate(state.evaluations) for n, v in e.values.items()}
    return trained | measured


@pytest.mark.parametrize("method", ANYTHING)
def test_neighbours_position_threads_and_blocks_change_no_bit(small_pack, method, monkeypatch):
    no_bit_changes(small_pack(method=method, points=8, capacity=8, steps=20), monkeypatch)


@pytest.mark.parametrize("method", ANYTHING_BUT_AFFINE)
def test_nor_do_they_where_more_is_carried_along(small_pack, method, monkeypatch):
    no_bit_changes(small_pack("ring8", method, points=4, capacity=4, steps=5, evaluations=2), monkeypatch)


@pytest.mark.parametrize(
    ("method", "networks"),
    [
        ("ns+gp1", {"network": "dcgan"}),
        ("wgan+gp1+cond", {"network": "dcgan", "width_d": 8}),
        ("ns+ema", {"network": "resnet", "width_g": 8, "width_d": 8}),
        ("ns+r1", {"network": "random", "depth_d": 4, "norm_d": "layer", "width_g": 8, "width_d": 8}),
        ("ns+mix", {"norm_g": "batch", "depth_g": 1}),
    ],
)
def test_nor_do_they_in_other_networks(small_pack, method, networks, monkeypatch):
    no_bit_changes(small_pack("digits", method, points=4, capacity=4, steps=3, evaluations=1, **networks), monkeypatch)


@pytest.mark.parametrize("method", ["ns+fm", "ns+minibatch", "ssl+fm-first", "ns+r1", "ns+cond+minibatch"])
@pytest.mark.parametrize("network", ["dcgan", "resnet", "random"])
def test_networks_take_a_batch_in_any_layout(small_pack, method, network):
    wide = {"width_g": 8, "width_d": 8}
    pack = small_pack("digits", method, points=2, capacity=2, steps=1, evaluations=1, network=network, **wide)
    assert len(train(pack.trials, capacity=2).evaluations) == 1


def no_bit_changes(pack, monkeypatch):
    trials, capacity = pack.trials, pack.capacity
    one, some = capacity // 2 + 1, slice(1, capacity - 1)
    reference = train(trials, capacity=capacity)
    turned = train(trials[::-1], capacity=capacity)
    alone = train(trials[one : one + 1], capacity=capacity)
    torch.set_num_threads(2)
    threaded = train(trials[some], capacity=capacity)
    torch.set_num_threads(1)
    monkeypatch.setitem(module.DRAWS_AT_ONCE, "cpu", 1)
    blocked = train(trials, capacity=capacity)
    for slot in range(capacity):
        assert bits(reference, slot) == bits(turned, capacity - 1 - slot) == bits(blocked, slot)
    assert bits(reference, one) == bits(alone, 0)
    assert bits(reference, 1) == bits(threaded, 0)
    assert bits(reference, 0) != bits(reference, 1)


@pytest.mark.parametrize("task", ["digits", "ring8", "manifold-d64"])
def test_bits_hold_on_every_kind_of_task(small_pack, task):
    pack = small_pack(task, points=4, capacity=4, steps=6, evaluations=2)
    reference = train(pack.trials, capacity=4)
    assert bits(reference, 3) == bits(train(pack.trials[3:], capacity=4), 0)


PAIRED = ["ns+gp1", "wgan+gp1", "rpgan+r1+r2", "ns+gp1+noise+ema", "ns+gp1+simultaneous", "ns+mix", "mmd-rbf", "ns+vbn"]


def test_methods_of_one_configuration_see_the_same_data_and_start_alike(small_pack):
    packs = {method: small_pack("ring8", method) for method in PAIRED}
    keys = {tuple(trial.key for trial in pack.trials) for pack in packs.values()}
    assert len(keys) == 1
    ids = [trial.trial_id for pack in packs.values() for trial in pack.trials]
    assert len(set(ids)) == len(ids)
    words = key_words([*keys.pop()])
    games = {method: game_of(method) for method in PAIRED}
    starts = {
        method: start(game, words, dict.fromkeys(NUMBERS, torch.ones(4)), dtype=torch.float32)
        for method, game in games.items()
    }
    draws = {method: draw(game, words, range(2), dtype=torch.float32) for method, game in games.items()}
    for method, game in games.items():
        for name in ("real_d", "latent_d", "latent_g"):
            assert torch.equal(draws[method][name], draws["ns+gp1"][name])
        alike = {"theta": method != "ns+vbn", "phi": method != "mmd-rbf"}
        for name, network in (("theta", game.generator), ("phi", game.discriminator)):
            if alike[name]:  # a network of the same form; of a mixture, the first
                assert torch.equal(starts[method][name][:, : network.size], starts["ns+gp1"][name])
    points = draws["ns+gp1"]["noise_d"]
    assert torch.equal(draws["ns+gp1+noise+ema"]["noise_d"][..., : points.shape[-1]], points)


def game_of(method):
    return Game(get_task("ring8"), parse_method(method), OPTIMISERS["adam"], 2)


def with_lr(trial, lr):
    return replace(trial, hyperparameters=replace(trial.hyperparameters, lr_g=lr, lr_d=lr))


def test_a_diverging_member_is_marked_with_its_step_and_harms_nobody(small_pack):
    pack = small_pack(points=4, capacity=4, steps=20)
    wild = [pack.trials[0], with_lr(pack.trials[1], 1e30), *pack.trials[2:]]
    healthy, state = train(pack.trials, capacity=4), train(wild, capacity=4)
    found = outcomes(state, wild)
    assert [outcome.diverged_step is None for outcome in found] == [True, False, True, True]
    # the first update moves every parameter by 1e30, the second squares that beyond float32
    assert found[1].diverged_step == 1
    assert found[1].reason == "discriminator loss or parameters not finite"
    for slot in (0, 2, 3):
        assert bits(state, slot) == bits(healthy, slot)


def test_a_large_but_finite_rate_ends_as_measured(small_pack):
    pack = small_pack(points=1, capacity=2, steps=20)
    state = train([with_lr(pack.trials[0], 10.0)], capacity=2)
    assert outcomes(state, pack.trials)[0].diverged_step is None
    assert np.isfinite(state.evaluations[-1].values["w2sq"][0])


def test_the_step_of_divergence_is_the_first_with_a_value_that_is_not_finite(small_pack):
    pack = small_pack(points=2, capacity=2, steps=12, evaluations=12)
    trials = [with_lr(pack.trials[0], 1e30), pack.trials[1]]
    state = train(trials, capacity=2)
    step = outcomes(state, trials)[0].diverged_step
    finite = [np.isfinite(e.values["loss_d"][0] + e.values["loss_g"][0]) for e in state.evaluations]
    assert finite.index(False) + 1 == step


def test_a_pack_of_diverged_trials_stops_early(small_pack):
    pack = small_pack(points=2, capacity=2, steps=100, evaluations=10)
    trials = [with_lr(trial, 1e30) for trial in pack.trials]
    assert train(trials, capacity=2).step == 10


def test_a_trial_that_was_not_sound_once_has_diverged_for_good(small_pack, monkeypatch):
    pack = small_pack("ring8", "ns", steps=8, evaluations=4, points=2, capacity=2)
    measured, saved = module.measure, []

    def measure(*args, **kwargs):
        found = measured(*args, **kwargs)
        if found.step == 4:
            found.values["selection"] = np.array([np.nan, 0.0])
        return found

    def save(state):
        saved.append(checkpoint.to_bytes(state, pack.trials, capacity=2, device="cpu"))

    monkeypatch.setattr(module, "measure", measure)
    whole = train(pack.trials, capacity=2, samples=1, after_evaluation=save)
    assert whole.kept.steps.tolist() == [2, 8]
    later = checkpoint.from_bytes(saved[1], pack.trials, capacity=2, device="cpu")
    assert train(pack.trials, capacity=2, samples=1, state=later).kept.steps.tolist() == [2, 8]


def test_a_pack_that_had_diverged_whole_is_not_trained_on(small_pack):
    pack = small_pack("ring8", "ns", steps=8, evaluations=4)
    wild = [with_lr(trial, 1e30) for trial in pack.trials]
    ended = train(wild, capacity=4)
    assert len(ended.evaluations) == 1
    assert len(train(wild, capacity=4, state=ended).evaluations) == 1


def test_a_metric_that_is_not_finite_is_a_divergence(small_pack, monkeypatch):
    pack = small_pack(points=2, capacity=2, steps=6, evaluations=3)
    task = module.get_task("manifold-d2")

    def broken(at):
        values = task.evaluate(at)
        return values | {"spread": torch.tensor([float("nan"), 1.0], dtype=torch.float64)}

    monkeypatch.setattr(module, "get_task", lambda _: replace(task, evaluate=broken))
    found = outcomes(train(pack.trials, capacity=2), pack.trials)
    assert (found[0].diverged_step, found[0].reason) == (2, "spread not finite")
    assert found[1].diverged_step is None


def test_schedule_is_even_and_ends_with_the_budget(small_pack):
    trial = small_pack(steps=1000, evaluations=7).trials[0]
    steps = schedule(trial)
    assert steps[-1] == 1000
    assert len(steps) == 7
    assert set(np.diff([0, *steps])) <= {142, 143}


def test_a_pack_takes_one_structure_and_no_more_than_its_capacity(small_pack):
    pack = small_pack(points=4, capacity=4)
    with pytest.raises(ValueError, match="capacity 3 takes 1 to 3"):
        train(pack.trials, capacity=3)
    mixed = [pack.trials[0], replace(pack.trials[1], method="ns", label="ns")]
    with pytest.raises(ValueError, match="one structure"):
        train(mixed, capacity=4)


def test_training_leaves_global_random_state_alone(small_pack):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    pack = small_pack(points=2, capacity=2, steps=2, evaluations=1)
    first = train(pack.trials, capacity=2)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(99)
    assert bits(train(pack.trials, capacity=2), 0) == bits(first, 0)


def test_the_prior_run_of_the_calibration_reaches_the_manifold(small_pack):
    """Orders of magnitude: the squared distance starts at 4 and falls below a tenth within 1000 steps at 1e-2."""
    pack = small_pack(
        method="ns+r1", points=2, capacity=2, steps=1000, evaluations=4, lr=0.01, beta1=0.5, penalty_weight=1.0
    )
    values = [evaluation.values["distance_sq"][0] for evaluation in train(pack.trials, capacity=2).evaluations]
    assert values[-1] < 0.4

"""Compiled programs against the recorded ones that they stand for, and what must hold of both."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from study import program as programs
from study.losses import LOSSES
from study.native.blocks import blocks_of
from study.native.program import compiled
from study.native.views import Unsupported
from study.outcome import outcomes
from study.penalties import PENALTIES
from study.program import advance, make_program
from study.schema import NATIVE
from study.step import SHARED, vectorise
from study.techniques import TECHNIQUES
from study.train import example_of, train
from tests.study.native_case import game_of, keys_of, middle, needs_compiler, sound_until, updates_of

ROOT = Path(__file__).parents[2]

pytestmark = [needs_compiler, pytest.mark.slow]

BY_LOSS = [f"{loss}+gp1" if entry.needs_lipschitz else loss for loss, entry in LOSSES.items() if not entry.value]
BY_PENALTY = [f"{(PENALTIES[penalty].losses or ['ns'])[0]}+{penalty}" for penalty in PENALTIES]
METHODS = [*dict.fromkeys([*BY_LOSS, *BY_PENALTY, *(f"ns+{technique}" for technique in TECHNIQUES)])]
OTHERS = [("ns+gp1", "rmsprop"), ("wgan+gp1", "sgd"), ("ns+sn+optimistic", "sgd")]
SOME = ["ns", "ns+gp1", "wgan+gp1", "ns+dragan", "rpgan+r1+r2", "hinge+sn", "ns+gp0-prob", "ns+simultaneous"]


def assert_alike(found, expected, tolerance):
    """Two results by name, to a share of each tensor's largest number, of a loss's terms for losses."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        scale = value.abs().max() + (6.0 if name.startswith("loss") else 1e-30)  # an MMD is a difference of such terms
        assert found[name].shape == value.shape
        assert found[name].dtype is value.dtype
        assert (found[name] - value).abs().max() <= tolerance * scale, name


@pytest.mark.parametrize(("method", "optimiser"), [*((method, "adam") for method in METHODS), *OTHERS])
def test_an_update_equals_the_recorded_one(method, optimiser):
    """The same numbers in another order.

    A sum of n terms rounds to n eps of their sizes, and a gradient goes through some 10 such sums of up to 128 terms:
    3e-13 of the largest numbers.
    """
    game = game_of(method, optimiser=optimiser)
    pack = middle(game, 3, torch.float64)
    for update in updates_of(game).values():
        assert_alike(compiled(update, pack, SHARED)(pack), vectorise(update, pack)(pack), 3e-13)


@pytest.mark.parametrize("method", SOME)
def test_in_single_precision_it_is_as_exact_as_the_recorded_one(method):
    """Both against double precision: 10 sums of up to 128 terms round to 8e-5 at most, and by far not all one way."""
    game = game_of(method)
    pack = middle(game, 3, torch.float32)
    exact = {name: value.double() if value.is_floating_point() else value for name, value in pack.items()}
    for update in updates_of(game).values():
        expected = vectorise(update, exact)(exact)
        found = {name: value.double() for name, value in compiled(update, pack, SHARED)(pack).items()}
        assert_alike(found, expected, 1e-5)


def both(game, capacity, dtype):
    example = example_of(game, capacity, dtype=dtype)
    compiled_one, recorded = make_program(game, example, NATIVE), make_program(game, example)
    assert compiled_one.blocks
    assert compiled_one.why is None
    assert recorded.blocks is None
    return compiled_one, recorded


@pytest.mark.parametrize("method", [*SOME, "ns+extragradient", "wgan+clip", "ns+cond", "ns+noise", "ns+ema", "ssl"])
def test_ten_steps_with_draws_made_outside_equal_the_recorded_ones(method):
    """In float64; Adam divides a gradient that is zero but for rounding, 1e-16, by no less than 1e-8: 1e-11 a step."""
    game = replace(game_of(method, "digits-ssl" if method == "ssl" else "ring8"), n_critic=2)
    native, recorded = both(game, 3, torch.float64)
    pack, keys = sound_until(middle(game, 3, torch.float64, lr=1e-4), 4, 2), keys_of(3)
    results = [advance(program, game, keys, pack, range(4, 14), total=20) for program in (native, recorded)]
    kept = [{name: result[name] for name in native.blocks.state} for result in results]
    assert_alike(*kept, 1e-9)
    assert (kept[0]["theta"] - pack["theta"]).abs().max() > 1e-4


TASKS = ["ring8", "digits", "manifold-d64", "grid25", "swissroll", "lines", "mixture1d", "ring8-sequential"]


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("method", ["ns+dragan-gauss", "ns+noise+simultaneous"])
def test_draws_made_inside_are_those_made_outside(task, method):
    """To the last few bits of float32, in which functions of the same uniform numbers round differently."""
    game = replace(game_of(method, task), n_critic=2)
    native, recorded = both(game, 3, torch.float32)
    assert native.blocks.drawn == ()
    pack, keys = sound_until(middle(game, 3, torch.float32), 2**20, 2), keys_of(3)
    results = [
        advance(program, game, keys, pack, range(2**20, 2**20 + 2), total=2**21) for program in (native, recorded)
    ]
    kept = [{name: result[name] for name in native.blocks.state} for result in results]
    assert_alike(*kept, 3e-5)


@pytest.mark.parametrize("method", ["ns+gp1", "wgan+gp1", "ns+sn", "mmd-rbf", "ns+minibatch"])
def test_neither_neighbours_nor_capacity_nor_blocks_change_a_bit(method):
    game = replace(game_of(method), n_critic=2)
    program = make_program(game, example_of(game, 1, dtype=torch.float32), NATIVE)
    pack, keys = middle(game, 32, torch.float32), keys_of(32)

    def part(slots, tensors=pack, steps=range(5)):
        some = {name: value if name in SHARED else value[slots] for name, value in tensors.items()}
        return advance(program, game, keys[slots], some, steps, total=9)

    whole, first, middle_ones = part(slice(None)), part(slice(0, 1)), part(slice(3, 11))
    in_two = part(slice(3, 11), tensors=part(slice(None), steps=range(2)) | {}, steps=range(2, 5))
    for name in program.blocks.state:
        assert torch.equal(whole[name][:1], first[name])
        assert torch.equal(whole[name][3:11], middle_ones[name])
        assert torch.equal(whole[name][3:11], in_two[name])


def test_a_pack_of_one_trains_to_the_bits_of_a_pack_of_many(small_pack):
    pack = small_pack("ring8", "ns+gp1", points=4, capacity=4, steps=20)
    many, one = (train(some, capacity=c, program=NATIVE) for some, c in ((pack.trials, 8), (pack.trials[2:3], 1)))
    for name, tensor in many.tensors.items():
        assert torch.equal(tensor[2:3], one.tensors[name]), name


def test_a_diverging_trial_becomes_not_finite_and_harms_nobody(small_pack):
    pack = small_pack("ring8", "ns+gp1", points=4, capacity=4, steps=10)
    wild = replace(pack.trials[1], hyperparameters=replace(pack.trials[1].hyperparameters, lr_d=1e30, lr_g=1e30))
    trials = [pack.trials[0], wild, *pack.trials[2:]]
    healthy, state = (train(some, capacity=4, program=NATIVE) for some in (pack.trials, trials))
    recorded = train(trials, capacity=4)
    found, expected = (outcomes(result, trials) for result in (state, recorded))
    assert [outcome.diverged_step for outcome in found] == [outcome.diverged_step for outcome in expected]
    assert found[1].diverged_step == 1
    for name, tensor in state.tensors.items():
        assert torch.equal(tensor[[0, 2, 3]], healthy.tensors[name][[0, 2, 3]])


def test_a_trial_that_is_not_sound_any_more_is_left_as_it_is():
    game = replace(game_of("ns"), n_critic=2)
    program = make_program(game, example_of(game, 1, dtype=torch.float32), NATIVE)
    keys, pack = keys_of(4), sound_until(middle(game, 4, torch.float32), 5, 2)
    healthy = advance(program, game, keys, pack, range(5, 8), total=9)
    pack["sound_d"][1] -= 1
    pack["sound_g"][2] -= 1
    found = advance(program, game, keys, pack, range(5, 8), total=9)
    for name in program.blocks.state:
        assert torch.equal(found[name][[0, 3]], healthy[name][[0, 3]])
        assert torch.equal(found[name][[1, 2]], pack[name][[1, 2]])
    assert not torch.equal(found["theta"][0], pack["theta"][0])


def test_what_is_recorded_must_be_all_that_happens():
    pack = {"x": torch.ones(2, 3)}
    with pytest.raises(Unsupported, match="y follows from something that is not recorded"):
        compiled(lambda trial: {"y": trial["x"] + torch.from_numpy(trial["x"].numpy() * 2)}, pack, ())
    with pytest.raises(Unsupported, match=r"cannot be recorded: .* may not read a value"):
        compiled(lambda trial: {"y": trial["x"] if trial["x"].sum() > 0 else -trial["x"]}, pack, ())


def test_tensors_that_do_not_fit_are_refused():
    game = game_of("ns")
    blocks = make_program(game, example_of(game, 1, dtype=torch.float32), NATIVE).blocks
    pack = middle(game, 2, torch.float32)
    with pytest.raises(ValueError, match=r"theta must have 3 times 4482 numbers of torch.float32 on the CPU, got"):
        blocks(pack, keys_of(3), range(1), total=1, updates=1)
    with pytest.raises(ValueError, match=r"theta must have 2 times 4482 numbers of torch.float32 on the CPU, got"):
        blocks(pack | {"theta": pack["theta"].double()}, keys_of(2), range(1), total=1, updates=1)


def test_convolutions_keep_the_recorded_program(small_pack):
    game = replace(game_of("ns", "digits"), architecture=(("network", "dcgan"),))
    program = make_program(game, example_of(game, 2), NATIVE)
    assert program.blocks is None
    assert "convolution" in program.why


def test_the_compiled_program_can_be_read():
    """A function for each update and a block of steps around them."""
    game = game_of("ns+gp1")
    assert blocks_of is programs.blocks_of
    program = make_program(game, example_of(game, 1), NATIVE)
    assert {"theta", "phi", "loss_d", "sound_g"} <= {*program.blocks.state}
    assert {"lr_d", "beta1", "penalty_weight"} <= {*program.blocks.read}


def test_what_trains_does_not_hang_on_what_was_read_before():
    """In a new process: data that a task reads at its first use are no operation of the update."""
    script = (
        "from study.game import Game\n"
        "from study.methods import parse_method\n"
        "from study.optimisers import OPTIMISERS\n"
        "from study.program import make_program\n"
        "from study.tasks.table import get_task\n"
        "from study.train import example_of\n"
        "game = Game(get_task('flipped'), parse_method('ns'), OPTIMISERS['adam'], 1)\n"
        "print(make_program(game, example_of(game, 1), 'native').why)\n"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True)
    assert found.stdout == "None\n"

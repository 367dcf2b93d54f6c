"""Going on from a checkpoint changes no bit, and what is not the pack's own checkpoint is not gone on from."""

import json

import pytest
import torch
from safetensors.torch import load, save

from study import checkpoint
from study import train as module
from study.checkpoint import UnusableError
from study.train import train


def saved_of(pack, *, between=False, samples=0):
    """The state at the end, and a checkpoint after each evaluation, or after each block of steps."""
    found, options = [], {"capacity": pack.capacity, "samples": samples}

    def keep(state):
        found.append(checkpoint.to_bytes(state, pack.trials, capacity=pack.capacity, device="cpu"))

    return train(pack.trials, **options, **{"after_block" if between else "after_evaluation": keep}), found


def restored(data, pack, **changes):
    return checkpoint.from_bytes(data, pack.trials, **({"capacity": pack.capacity, "device": "cpu"} | changes))


def bits(state):
    """Everything that training made, as bytes."""
    trained = {name: tensor.numpy().tobytes() for name, tensor in state.tensors.items()}
    measured = {(i, n): v.tobytes() for i, e in enumerate(state.evaluations) for n, v in e.values.items()}
    return trained | measured | {"step": state.step, "kept": state.kept and state.kept.values.tobytes()}


def resumed_is_whole(pack, **how):
    whole, saved = saved_of(pack, samples=4, **how)
    assert len(saved) >= pack.trials[0].budget.evaluations
    for data in saved:
        assert bits(train(pack.trials, capacity=pack.capacity, samples=4, state=restored(data, pack))) == bits(whole)


@pytest.mark.parametrize("method", ["ns+gp1", "ns+sn+ema", "ns+history+optimistic", "ns+noise+average"])
def test_resuming_from_any_checkpoint_changes_no_bit(small_pack, method):
    resumed_is_whole(small_pack(method=method, points=4, capacity=4, steps=20, evaluations=4))


@pytest.mark.parametrize("method", ["wgan+sn+mix", "ns+history+vbn+extragradient", "rpgan+r1+r2+simultaneous"])
def test_nor_does_it_with_several_or_normalised_generators(small_pack, method):
    resumed_is_whole(small_pack("ring8", method, points=2, capacity=2, steps=4, evaluations=4))


@pytest.mark.parametrize(
    ("method", "networks"),
    [
        ("wgan+gp1+ema", {"network": "dcgan", "width_g": 8, "width_d": 8}),
        ("hinge+sn", {"network": "resnet", "width_g": 8, "width_d": 8}),
        ("ns+r1", {"norm_g": "batch", "depth_g": 1}),
    ],
)
def test_nor_does_it_in_convolutional_and_normalised_networks(small_pack, method, networks):
    resumed_is_whole(small_pack("digits", method, points=2, capacity=2, steps=3, evaluations=3, **networks))


@pytest.mark.parametrize("method", ["ns+gp1", "ns+sn+ema"])
def test_nor_does_it_between_evaluations(small_pack, method, monkeypatch):
    monkeypatch.setitem(module.DRAWS_AT_ONCE, "cpu", 1)  # a block for each step
    pack = small_pack(method=method, points=4, capacity=4, steps=6, evaluations=2)
    resumed_is_whole(pack, between=True)


def test_nor_does_it_where_evaluations_are_late(small_pack, monkeypatch):
    monkeypatch.setitem(module.DRAWS_AT_ONCE, "cpu", 1)
    pack = small_pack(steps=12, evaluations="auto")
    assert module.schedule(pack.trials[0]) == [8, 9, 10, 11, 12]
    resumed_is_whole(pack, between=True)


def test_short_packs_are_resumed_too(small_pack):
    pack = small_pack(points=2, capacity=4, steps=4, evaluations=2)
    resumed_is_whole(pack)


@pytest.fixture(scope="module")
def one(small_pack):
    """A pack, and a checkpoint of it."""
    pack = small_pack(steps=4, evaluations=2)
    return pack, saved_of(pack)[1][0]


def test_a_truncated_checkpoint_is_no_checkpoint(one):
    pack, data = one
    for cut in (0, 5, 8, 100, len(data) // 2, len(data) - 1):
        with pytest.raises(UnusableError, match="not a whole safetensors file"):
            restored(data[:cut], pack)


@pytest.mark.parametrize("place", [-1, -1000, -20_000])
def test_a_checkpoint_with_one_wrong_bit_is_no_checkpoint(one, place):
    pack, data = one
    broken = bytearray(data)
    broken[place] ^= 1
    with pytest.raises(UnusableError, match="not what was written"):
        restored(bytes(broken), pack)


@pytest.mark.parametrize("content", [{}, {"tensor.theta": torch.zeros(4, 3)}])
def test_a_foreign_file_is_no_checkpoint(one, content):
    with pytest.raises(UnusableError, match="its kind is not said, here it is manypaths checkpoint 1"):
        restored(save(content), one[0])


def test_a_checkpoint_of_other_trials_is_not_used(one, small_pack):
    pack, data = one
    for trials in (pack.trials[:3], pack.trials[::-1], small_pack(steps=8, evaluations=2).trials):
        with pytest.raises(UnusableError, match="its trials is"):
            checkpoint.from_bytes(data, trials, capacity=4, device="cpu")


def test_a_checkpoint_of_another_capacity_is_not_used(one):
    with pytest.raises(UnusableError, match="its capacity is 4, here it is 8"):
        restored(one[1], one[0], capacity=8)


def test_a_checkpoint_of_another_engine_torch_or_processor_is_not_used(one, monkeypatch):
    pack, data = one
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "ENGINE_EPOCH", 10**6)
        with pytest.raises(UnusableError, match=r"its engine epoch is .*, here it is 1000000"):
            restored(data, pack)
    with monkeypatch.context() as patch:
        patch.setattr(torch, "__version__", "0.0.1")
        with pytest.raises(UnusableError, match=r"its torch is .*, here it is 0\.0\.1"):
            restored(data, pack)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "VSX")
    with pytest.raises(UnusableError, match=r"its device is cpu .*, here it is cpu VSX"):
        restored(data, pack)


def test_a_checkpoint_of_another_program_is_not_used(one, monkeypatch):
    pack, data = one
    said = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
    other = save(load(data), said | {"program": "native by c++ 0.1"})
    for reason, here in (("no C++ compiler", "native"), (None, "native by ")):
        monkeypatch.setattr(checkpoint, "missing", lambda reason=reason: reason)
        monkeypatch.setattr(checkpoint, "compiler_name", lambda: "g++ 12.2.0")
        with pytest.raises(UnusableError, match=rf"its program is native by c\+\+ 0.1, here are recorded, {here}"):
            restored(other, pack)
        assert restored(data, pack).program == "recorded"


def rewritten(pack, data, **changes):
    """The checkpoint with other tensors, and the right digest of them; None leaves one out."""
    said = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
    tensors = {name: value for name, value in (load(data) | changes).items() if value is not None}
    return save(tensors, said | {"digest": checkpoint._digest(tensors)})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tensor.theta": torch.zeros(4, 3)}, r"its theta is \(\(4, 3\)"),
        ({"tensor.theta": None}, "its theta is missing"),
        ({"tensor.more": torch.zeros(4)}, "its more is .*, here it is unknown"),
        ({"step": torch.tensor(5)}, "are not of the schedule"),
        ({"steps": torch.tensor([3])}, "are not of the schedule"),
    ],
)
def test_a_checkpoint_that_training_never_passes_through_is_not_used(one, changes, words):
    with pytest.raises(UnusableError, match=words):
        restored(rewritten(*one, **changes), one[0])

"""Saving a half-trained pack and going on from it without changing a bit.

A file says what it is of: the trials, the capacity, the engine, torch and the hardware. One that is of anything else,
is not whole, or was damaged, is not used.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from study.native.build import compiler_name, missing
from study.samples import Kept
from study.schema import CAPTURED, ENGINE_EPOCH, NATIVE, RECORDED
from study.train import Evaluation, PackState, fresh, schedule
from study.trial import Trial


class UnusableError(Exception):
    """A checkpoint that cannot be gone on from; the message says why."""


def to_bytes(state: PackState, trials: Sequence[Trial], *, capacity: int, device: str) -> bytes:
    """A pack's state as a safetensors file; the arguments are those of `study.train.train`."""
    tensors = {f"tensor.{name}": value for name, value in state.tensors.items()}
    for name in state.evaluations[0].values if state.evaluations else ():
        stacked = np.stack([evaluation.values[name] for evaluation in state.evaluations])
        tensors[f"evaluation.{name}"] = torch.from_numpy(stacked)
    tensors["steps"] = torch.tensor([evaluation.step for evaluation in state.evaluations], dtype=torch.int64)
    tensors["step"] = torch.tensor(state.step)
    tensors["seconds"] = torch.tensor(state.seconds, dtype=torch.float64)
    if state.kept is not None:
        kept = {"values": state.kept.values, "steps": state.kept.steps}
        tensors |= {f"kept.{name}": torch.from_numpy(array) for name, array in kept.items()}
    # each with memory of its own and in order, as the format wants them
    tensors = {
        name: value.detach().cpu().clone(memory_format=torch.contiguous_format) for name, value in tensors.items()
    }
    said = {"program": _program(state.program), "digest": _digest(tensors)}
    return save(tensors, _identity(trials, capacity, device) | said)


def from_bytes(data: bytes, trials: Sequence[Trial], *, capacity: int, device: str) -> PackState:
    """The state in a safetensors file.

    Raises:
        UnusableError: If the file is not whole, is damaged, or is of something else than these arguments.
    """
    try:
        tensors = load(data)
    except SafetensorError as error:
        raise UnusableError(f"it is not a whole safetensors file ({error})") from None
    said = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")]).get("__metadata__") or {}
    for name, wanted in _identity(trials, capacity, device).items():
        if said.get(name) != wanted:
            raise UnusableError(f"its {name} is {said.get(name, 'not said')}, here it is {wanted}")
    if said.get("digest") != _digest(tensors):
        raise UnusableError("its content is not what was written")
    programs = {_program(name): name for name in (RECORDED, NATIVE, CAPTURED)}
    if said.get("program") not in programs:
        raise UnusableError(f"its program is {said.get('program', 'not said')}, here are {', '.join(programs)}")
    state = replace(_state(tensors, device), program=programs[said["program"]])
    _check(state, fresh(trials, capacity=capacity, device=device), trials[0])
    return state


def _identity(trials: Sequence[Trial], capacity: int, device: str) -> dict[str, str]:
    """What has to be the same for the bits to be: a trial's id has its task, method, numbers, seed and budget."""
    ids = hashlib.blake2b(" ".join(trial.trial_id for trial in trials).encode(), digest_size=16).hexdigest()
    cpu = torch.backends.cpu.get_cpu_capability()
    return {
        "kind": "manypaths checkpoint 1",
        "trials": ids,
        "capacity": str(capacity),
        "engine epoch": str(ENGINE_EPOCH),
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name() if device == "cuda" else f"cpu {cpu}",
    }


def _program(name: str) -> str:
    """What of a program its bits depend on."""
    return f"{name} by {compiler_name()}" if name == NATIVE and not missing() else name


def _digest(tensors: Mapping[str, Tensor]) -> str:
    """Of names, types, shapes and every byte."""
    found = hashlib.blake2b(digest_size=16)
    for name in sorted(tensors):
        found.update(f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)};".encode())
        found.update(tensors[name].reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def _state(tensors: Mapping[str, Tensor], device: str) -> PackState:
    """Tensors of a file as a state, where the file is one of ours."""
    series = {n.removeprefix("evaluation."): t.numpy() for n, t in tensors.items() if n.startswith("evaluation.")}
    evaluations = [
        Evaluation(int(step), {name: array[i] for name, array in series.items()})
        for i, step in enumerate(tensors["steps"])
    ]
    trained = {n.removeprefix("tensor."): t.to(device) for n, t in tensors.items() if n.startswith("tensor.")}
    kept = Kept(tensors["kept.values"].numpy(), tensors["kept.steps"].numpy()) if "kept.values" in tensors else None
    return PackState(trained, int(tensors["step"]), evaluations, float(tensors["seconds"]), kept)


def _check(state: PackState, beginning: PackState, trial: Trial) -> None:
    """Refuse a state that training these trials never passes through: other tensors, or other steps."""
    found, wanted = (
        {name: (tuple(value.shape), value.dtype) for name, value in one.tensors.items()} for one in (state, beginning)
    )
    if found != wanted:
        name = min(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))
        raise UnusableError(f"its {name} is {found.get(name, 'missing')}, here it is {wanted.get(name, 'unknown')}")
    stops, done = schedule(trial), [evaluation.step for evaluation in state.evaluations]
    after = [*stops, stops[-1]][len(done)]
    if done != stops[: len(done)] or not (done[-1] if done else 0) <= state.step <= after:
        raise UnusableError(f"its evaluations at {done} and step {state.step} are not of the schedule {stops}")

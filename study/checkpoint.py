"""Saving a half-trained pack and going on from it without changing a bit."""

from __future__ import annotations

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from study.samples import Kept
from study.train import Evaluation, PackState


def to_bytes(state: PackState) -> bytes:
    """A pack's state as a safetensors file."""
    tensors = {f"tensor.{name}": value.contiguous() for name, value in state.tensors.items()}
    for name in state.evaluations[0].values if state.evaluations else ():
        stacked = np.stack([evaluation.values[name] for evaluation in state.evaluations])
        tensors[f"evaluation.{name}"] = torch.from_numpy(stacked)
    tensors["steps"] = torch.tensor([evaluation.step for evaluation in state.evaluations], dtype=torch.int64)
    tensors["step"] = torch.tensor(state.step)
    tensors["seconds"] = torch.tensor(state.seconds, dtype=torch.float64)
    if state.kept is not None:
        kept = {"values": state.kept.values, "steps": state.kept.steps}
        tensors |= {f"kept.{name}": torch.from_numpy(array) for name, array in kept.items()}
    return save(tensors)


def from_bytes(data: bytes, *, device: str) -> PackState | None:
    """The state in a safetensors file, or None if the file is not whole."""
    try:
        tensors = load(data)
    except SafetensorError:
        return None
    series = {n.removeprefix("evaluation."): t.numpy() for n, t in tensors.items() if n.startswith("evaluation.")}
    evaluations = [
        Evaluation(int(step), {name: array[i] for name, array in series.items()})
        for i, step in enumerate(tensors["steps"])
    ]
    trained = {n.removeprefix("tensor."): t.to(device) for n, t in tensors.items() if n.startswith("tensor.")}
    kept = Kept(tensors["kept.values"].numpy(), tensors["kept.steps"].numpy()) if "kept.values" in tensors else None
    return PackState(trained, int(tensors["step"]), evaluations, float(tensors["seconds"]), kept)

"""Generated samples that are kept to be looked at: which ones, and as rows. They are no result and change none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from study.lazy import torch
from study.prng import Role, key_words, root_key, uniform
from study.tasks.table import get_task

if TYPE_CHECKING:
    from torch import Tensor

    from study.tasks.base import Task
    from study.trial import Trial

NUMBERS = 32
"""Of points with few coordinates more samples are kept: so many numbers for each sample that is asked for."""


@dataclass(frozen=True)
class Kept:
    """Samples of the trials of a pack.

    Attributes:
        values: Shape (trials, n, d), float32: of each trial's last evaluation before it diverged.
        steps: Shape (trials,), generator steps done at that evaluation; 0 where there was none.
    """

    values: npt.NDArray[np.float32]
    steps: npt.NDArray[np.int64]


def of_each_trial(task: str, samples: int) -> int:
    """Samples to keep of each trial where the sweep file says `samples`; 0 where a task's evaluations make none."""
    found = get_task(task)
    return min(found.evaluation_samples, samples * max(1, NUMBERS // found.data_width))


def keep(before: Kept | None, now: Tensor, ended: npt.NDArray[np.bool_], *, step: int) -> Kept | None:
    """What is kept after one more evaluation.

    Args:
        before: What was kept until then.
        now: Shape (trials, n, d), the samples of this evaluation; nothing changes where n is 0.
        ended: Shape (trials,), whether each has diverged: it keeps what it had.
        step: Generator steps done.
    """
    if not now.numel():
        return before
    values = now.float().cpu().numpy()
    if before is None or before.values.shape != values.shape:
        before = Kept(np.zeros_like(values), np.zeros(len(values), dtype=np.int64))
    sound = ~ended & np.isfinite(values).all((1, 2))
    return Kept(np.where(sound[:, None, None], values, before.values), np.where(sound, step, before.steps))


def sample_rows(kept: Kept | None, trials: Sequence[Trial]) -> list[dict[str, Any]]:
    """Rows of `samples`: of every trial that was sound at one evaluation at least."""
    if kept is None:
        return []
    return [
        {"trial_id": trial.trial_id, "task": trial.task, "method": trial.label, "generator_steps": int(steps)}
        | _encoded(get_task(trial.task), values)
        for trial, values, steps in zip(trials, kept.values, kept.steps, strict=True)
        if steps
    ]


def real_row(task: str, count: int) -> dict[str, Any]:
    """The row of `samples` that holds real samples of a task, the same ones whenever and wherever it is made."""
    return {"task": task} | _encoded(get_task(task), _real(get_task(task), count))


@cache
def _real(task: Task, count: int) -> npt.NDArray[np.float32]:
    """Real samples (count, d)."""
    draws = task.draws
    keys = key_words([root_key("real samples")])
    uniforms = uniform(keys, role=Role.DATA, steps=range(1), updates=1, count=count * draws).view(count, draws)
    if task.over_time:  # as the data are at the end of the budget
        uniforms = torch.cat([uniforms, torch.full((count, 1), 1 - 2.0**-24)], 1)
    found: npt.NDArray[np.float32] = task.sample(uniforms).float().cpu().numpy()
    return found


def decoded(content: bytes, encoding: str, count: int, shape: Sequence[int]) -> npt.NDArray[np.float32]:
    """Stored samples as an array (count, *shape)."""
    stored = np.frombuffer(content, dtype="<f4" if encoding == "float32" else np.uint8)
    values = stored if encoding == "float32" else stored / np.float32(127.5) - 1
    return values.astype(np.float32).reshape(count, *shape)


def _encoded(task: Task, values: npt.NDArray[np.float32]) -> dict[str, Any]:
    """Samples (n, d) as they are stored: a byte for each number of images in [-1, 1], four bytes for any other."""
    if len(task.shape) > 1 and np.abs(_real(task, len(values))).max() <= 1:
        encoding, stored = "uint8", np.rint((np.clip(values, -1, 1) + 1) * 127.5).astype(np.uint8)
        content = stored.tobytes()
    else:
        encoding, content = "float32", values.astype("<f4").tobytes()
    return {"count": len(values), "shape": list(task.shape), "encoding": encoding, "values": content}

"""Training a pack: trials of equal structure, in one program, measured on a schedule.

A result belongs to the trial and not to its neighbours: packs have a fixed capacity, short ones are padded, every
random number is a function of the trial's own key, and a member that diverges is marked and left to itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.func import vmap

from study.methods import parse_method
from study.networks import flatten, split
from study.optimisers import OPTIMISERS
from study.outcome import outcomes
from study.prng import Role, key_words, normal, uniform
from study.step import (
    TRAINED,
    Game,
    Tensors,
    constrain,
    discriminator_update,
    generator_update,
    vectorise,
)
from study.tasks.base import Task
from study.tasks.table import get_task
from study.trial import Trial

DRAWS_AT_ONCE = {"cpu": 2**18, "cuda": 2**24}
"""Random numbers drawn in one block: on a CPU few enough to stay in its cache. Does not change any result."""


@dataclass(frozen=True)
class Evaluation:
    """What one evaluation measured, arrays of shape (c,) for the c slots of the pack."""

    step: int
    values: dict[str, NDArray[np.float64]]


@dataclass
class PackState:
    """Everything that training carries along; saving and restoring it changes no bit.

    Attributes:
        tensors: Trained tensors (c, p) and counters (c,).
        step: Generator steps done.
        evaluations: Evaluations done.
        seconds: Wall seconds spent.
    """

    tensors: Tensors
    step: int = 0
    evaluations: list[Evaluation] = field(default_factory=list)
    seconds: float = 0.0


def schedule(trial: Trial) -> list[int]:
    """Generator steps after which a trial is evaluated, evenly spaced and ending with the budget."""
    count = trial.budget.evaluations
    return [trial.generator_steps * (i + 1) // count for i in range(count)]


def train(
    trials: Sequence[Trial],
    *,
    capacity: int,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    state: PackState | None = None,
    after_evaluation: Callable[[PackState], None] = lambda _: None,
) -> PackState:
    """Train a pack to the end of its budget.

    Args:
        trials: At most `capacity` trials of equal structure.
        capacity: Slots of the program; spare ones repeat the first trial.
        device: "cpu" or "cuda".
        dtype: Arithmetic of the training step.
        state: Where to go on from; None starts afresh.
        after_evaluation: Called with the state after each evaluation.

    Returns:
        The state at the end, or where every trial of the pack had diverged.
    """
    if not 1 <= len(trials) <= capacity or len({trial.structure for trial in trials}) != 1:
        raise ValueError(f"a pack of capacity {capacity} takes 1 to {capacity} trials of one structure")
    slots = [*trials, *[trials[0]] * (capacity - len(trials))]
    game = _game(trials[0])
    keys = key_words([trial.key for trial in slots], device=device)
    constants = _hyperparameters(slots, device=device, dtype=dtype)
    started = time.perf_counter()
    state = state or PackState(start(game, keys, constants, dtype=dtype))
    step_d, step_g = _program(*_structure_key(trials[0])[:3], capacity, device, dtype)
    before = state.seconds
    for stop in schedule(trials[0])[len(state.evaluations) :]:
        for block in blocks(range(state.step, stop), numbers_per_step(game) * capacity, device):
            draws = draw(game, keys, block, dtype=dtype)
            tensors = state.tensors | constants
            for i, step in enumerate(block):
                for j in range(game.n_critic):
                    tensors["real"] = draws["real"][:, i, j]
                    tensors["noise"] = draws["noise"][:, i, j]
                    tensors["latent"] = draws["latent_d"][:, i, j]
                    tensors["count"] = _count(step * game.n_critic + j + 1, device, dtype)
                    tensors |= step_d(tensors)
                tensors["latent"] = draws["latent_g"][:, i, 0]
                tensors["count"] = _count(step + 1, device, dtype)
                tensors |= step_g(tensors)
            state.tensors = {name: tensors[name] for name in CARRIED}
        state.step = stop
        state.evaluations.append(evaluate(game.task, state, keys))
        state.seconds = before + time.perf_counter() - started
        after_evaluation(state)
        if all(outcome.diverged_step for outcome in outcomes(state, trials)):
            break
    return state


CARRIED = (*TRAINED, "sound_d", "sound_g", "loss_d", "loss_g", "grad_norm_d", "grad_norm_g")
"""Tensors of a pack's state: what is trained, the counters of finite updates, and the last values of each update."""


def start(game: Game, keys: Tensor, constants: Tensors, *, dtype: torch.dtype) -> Tensors:
    """Starting parameters, moments at zero and counters at zero for every slot."""
    generator, discriminator = game.task.generator, game.task.discriminator
    tensors: Tensors = {}
    for name, network, role in (
        ("theta", generator, Role.GENERATOR_START),
        ("phi", discriminator, Role.DISCRIMINATOR_START),
    ):
        uniforms = uniform(keys, role=role, steps=range(1), updates=1, count=network.size)[:, 0, 0].to(dtype)
        tensors[name] = vmap(lambda u, net=network: flatten(net.initialise(u)))(uniforms)
        tensors |= {f"{name}_{moment}": torch.zeros_like(tensors[name]) for moment in ("first", "second")}
    tensors["phi"] = vmap(lambda phi, clip: constrain(game.method, phi, {"clip": clip}))(
        tensors["phi"], constants["clip"]
    )
    zero = torch.zeros(len(keys), dtype=dtype, device=keys.device)
    return tensors | {name: zero for name in CARRIED if name not in tensors}


def draw(game: Game, keys: Tensor, steps: range, *, dtype: torch.dtype) -> Tensors:
    """All random numbers of some steps: tensors of shape (c, steps, updates in the step, b, ...)."""
    task, batch = game.task, game.task.batch
    shape = (len(keys), len(steps), game.n_critic, batch, -1)

    def numbers(kind: Callable[..., Tensor], role: Role, updates: int, each: int) -> Tensor:
        return kind(keys, role=role, steps=steps, updates=updates, count=batch * each)

    noise = noise_width(game)
    return {
        "real": task.sample(numbers(uniform, Role.DATA, game.n_critic, task.draws).view(shape)).to(dtype),
        "latent_d": numbers(normal, Role.LATENT_D, game.n_critic, task.latent).view(shape).to(dtype),
        "noise": (
            numbers(uniform, Role.PENALTY, game.n_critic, noise).view(shape)
            if noise
            else torch.empty((*shape[:-1], 0), device=keys.device)
        ).to(dtype),
        "latent_g": numbers(normal, Role.LATENT_G, 1, task.latent).view(len(keys), len(steps), 1, batch, -1).to(dtype),
    }


def noise_width(game: Game) -> int:
    """Uniform numbers that the method's penalty needs per sample."""
    penalty = game.method.penalty_entry
    return penalty.draws(game.task.data_width) if penalty else 0


def numbers_per_step(game: Game) -> int:
    """Random numbers that one trial needs for one generator step."""
    task = game.task
    return task.batch * (game.n_critic * (task.draws + task.latent + noise_width(game)) + task.latent)


def blocks(steps: range, numbers: int, device: str) -> Iterator[range]:
    """Cut steps into blocks whose draws fit the device."""
    size = max(1, DRAWS_AT_ONCE[device] // max(1, numbers))
    for first in range(steps.start, steps.stop, size):
        yield range(first, min(first + size, steps.stop))


@torch.no_grad()
def evaluate(task: Task, state: PackState, keys: Tensor) -> Evaluation:
    """Measure every slot now, on draws that belong to this evaluation."""
    index = len(state.evaluations)
    theta = vmap(lambda flat: split(flat, task.generator.shapes))(state.tensors["theta"])
    latent = normal(
        keys,
        role=Role.EVALUATION,
        steps=range(index, index + 1),
        updates=1,
        count=task.evaluation_samples * task.latent,
    ).view(len(keys), task.evaluation_samples, task.latent)
    fake = vmap(task.generator.apply)(theta, latent.to(state.tensors["theta"].dtype))
    values = task.evaluate(theta, fake)
    values |= {name: state.tensors[name] for name in CARRIED if name not in TRAINED}
    return Evaluation(state.step, {name: value.double().cpu().numpy() for name, value in values.items()})


def _hyperparameters(slots: Sequence[Trial], *, device: str, dtype: torch.dtype) -> Tensors:
    """Each numeric hyperparameter as a tensor (c,); zero where a method has none, where it is not read."""
    rows = [asdict(trial.hyperparameters) for trial in slots]
    names = [name for name in rows[0] if name not in ("optimiser", "n_critic")]
    return {
        name: torch.tensor([row[name] or 0.0 for row in rows], dtype=torch.float64, device=device).to(dtype)
        for name in names
    }


def _count(number: int, device: str, dtype: torch.dtype) -> Tensor:
    return torch.tensor(float(number), dtype=dtype, device=device)


def _structure_key(trial: Trial) -> tuple[str, str, str, int]:
    return trial.task, trial.method, trial.hyperparameters.optimiser, trial.hyperparameters.n_critic


def _game(trial: Trial) -> Game:
    task, method, optimiser, n_critic = _structure_key(trial)
    return Game(get_task(task), parse_method(method), OPTIMISERS[optimiser], n_critic)


Program = tuple[Callable[[Tensors], Tensors], Callable[[Tensors], Tensors]]


@cache
def _program(task: str, method: str, optimiser: str, capacity: int, device: str, dtype: torch.dtype) -> Program:
    """The two updates of a pack, recorded once for each structure and process."""
    game = Game(get_task(task), parse_method(method), OPTIMISERS[optimiser], 1)
    keys = torch.zeros(capacity, 2, dtype=torch.int64, device=device)
    scalar = torch.ones(capacity, dtype=dtype, device=device)
    names = ("lr_g", "lr_d", "beta1", "beta2", "penalty_weight", "clip", "noise_scale")
    constants = dict.fromkeys(names, scalar / 2)
    draws = draw(game, keys, range(1), dtype=dtype)
    example = start(game, keys, constants, dtype=dtype) | constants | {"count": _count(1, device, dtype)}
    example |= {"real": draws["real"][:, 0, 0], "noise": draws["noise"][:, 0, 0], "latent": draws["latent_d"][:, 0, 0]}
    return (
        vectorise(lambda trial: discriminator_update(game, trial), example),
        vectorise(lambda trial: generator_update(game, trial), example),
    )

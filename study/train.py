"""Training a pack: trials of equal structure, in one program, measured on a schedule.

A result belongs to the trial and not to its neighbours: packs have a fixed capacity, short ones are padded, every
random number is a function of the trial's own key, and a member that diverges is marked and left to itself.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.func import vmap

from search_spaces.hyperparameters import STRUCTURE
from study.evaluate import evaluate
from study.game import Game
from study.layers import power_shapes, power_size, power_start
from study.methods import parse_method
from study.native.blocks import Blocks, Recipe, blocks_of
from study.native.build import NoCompiler
from study.native.views import Unsupported
from study.networks.base import Network, flatten, split
from study.optimisers import OPTIMISERS
from study.outcome import outcomes
from study.prng import Role, key_words, normal, uniform
from study.samples import Kept, keep
from study.step import (
    MEASURED,
    SHARED,
    Tensors,
    constrain,
    discriminator_update,
    generator_update,
    joint_update,
    vectorise,
)
from study.tasks.table import get_task
from study.trial import Hyperparameters, Trial

NUMBERS = tuple(name for name in Hyperparameters.__dataclass_fields__ if name not in STRUCTURE)
"""The hyperparameters that enter the updates as tensors."""

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
        tensors: Trained tensors (c, p) and counters (c,); replaced, never changed in place.
        step: Generator steps done.
        evaluations: Evaluations done.
        seconds: Wall seconds spent.
        kept: Generated samples of each trial, where some are kept.
    """

    tensors: Tensors
    step: int = 0
    evaluations: list[Evaluation] = field(default_factory=list)
    seconds: float = 0.0
    kept: Kept | None = None


@cache
def _keep_freed_memory() -> None:
    """Tell glibc to keep what is freed: fresh pages for every large tensor cost more.

    Ten per cent of a step at capacity 128. Where there is no glibc, nothing happens.
    """
    with contextlib.suppress(OSError, AttributeError):
        for option, size in ((M_MMAP_THRESHOLD, 2**25), (M_TRIM_THRESHOLD, 2**31 - 1)):
            ctypes.CDLL("libc.so.6").mallopt(option, size)


M_MMAP_THRESHOLD, M_TRIM_THRESHOLD = -3, -1
"""Of malloc.h; the first takes at most 32 MiB."""


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
    samples: int = 0,
    after_evaluation: Callable[[PackState], None] = lambda _: None,
    after_block: Callable[[PackState], None] = lambda _: None,
) -> PackState:
    """Train a pack to the end of its budget.

    Args:
        trials: At most `capacity` trials of equal structure.
        capacity: Slots of the program; spare ones repeat the first trial.
        device: "cpu" or "cuda".
        dtype: Arithmetic of the training step.
        state: Where to go on from; None starts afresh.
        samples: Generated samples of each trial's last evaluation to keep in the state. Does not change any result.
        after_evaluation: Called with the state after each evaluation.
        after_block: Called with the state after each block of steps, from which it can go on too.

    Returns:
        The state at the end, or where every trial of the pack had diverged.
    """
    _keep_freed_memory()
    game, keys, constants = _set_up(trials, capacity, device, dtype)
    started = time.perf_counter()
    state = state or fresh(trials, capacity=capacity, device=device, dtype=dtype)
    program = program_of(replace(game, n_critic=1), capacity, device, dtype)
    total = trials[0].generator_steps
    before = state.seconds
    made: list[Tensor] = []
    for stop in schedule(trials[0])[len(state.evaluations) :]:
        for block in blocks(range(state.step, stop), numbers_per_step(game) * capacity, device):
            tensors = advance(program, game, keys, state.tensors | constants, block, total=total)
            state.tensors = {name: tensors[name] for name in state.tensors}
            state.step = block.stop
            state.seconds = before + time.perf_counter() - started
            after_block(state)
        state.evaluations.append(measure(game, state, keys, look=made.append))
        ended = [outcome.diverged_step is not None for outcome in outcomes(state, trials)]
        state.kept = keep(state.kept, made.pop()[: len(trials), :samples], ended, step=stop)
        state.seconds = before + time.perf_counter() - started
        after_evaluation(state)
        if all(ended):
            break
    return state


def advance(program: Program, game: Game, keys: Tensor, tensors: Tensors, steps: range, *, total: int) -> Tensors:
    """Take some steps of `total`: the tensors of a pack, hyperparameters included, after them."""
    device, dtype = str(keys.device), tensors["theta"].dtype

    def drawn() -> Tensors:
        return draw(game, keys, steps, dtype=dtype, total=total, labelled=tensors["labelled"])

    if program.blocks:
        outside = drawn() if program.blocks.drawn else {}
        return tensors | program.blocks(tensors | outside, keys, steps, total=total, updates=game.n_critic)
    draws, tensors = drawn(), dict(tensors)
    for i, step in enumerate(steps):
        for name in OF_GENERATOR & draws.keys():
            tensors[name] = draws[name][:, i, 0]
        tensors["progress"] = _scalar(step / total, device, dtype)
        tensors["count_g"] = _scalar(step + 1, device, dtype)
        for j in range(game.n_critic):
            for name in OF_DISCRIMINATOR & draws.keys():
                tensors[name] = draws[name][:, i, j]
            tensors["count_d"] = _scalar(step * game.n_critic + j + 1, device, dtype)
            together = game.at_once and j == game.n_critic - 1
            tensors |= program.both(tensors) if together else program.discriminator(tensors)
        if not game.at_once:
            tensors |= program.generator(tensors)
    return tensors


def fresh(
    trials: Sequence[Trial], *, capacity: int, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> PackState:
    """The state that training a pack begins with; see `train`."""
    game, keys, constants = _set_up(trials, capacity, device, dtype)
    return PackState(start(game, keys, constants, dtype=dtype))


def _set_up(trials: Sequence[Trial], capacity: int, device: str, dtype: torch.dtype) -> tuple[Game, Tensor, Tensors]:
    """What the trials of a pack have in common, their keys and their hyperparameters."""
    if not 1 <= len(trials) <= capacity or len({trial.structure for trial in trials}) != 1:
        raise ValueError(f"a pack of capacity {capacity} takes 1 to {capacity} trials of one structure")
    slots = [*trials, *[trials[0]] * (capacity - len(trials))]
    keys = key_words([trial.key for trial in slots], device=device)
    return _game(trials[0]), keys, _hyperparameters(slots, device=device, dtype=dtype)


OF_DISCRIMINATOR = {"real_d", "latent_d", "noise_d", "label_d"}
OF_GENERATOR = {"real_g", "latent_g", "noise_g", "label_g"}
"""Draws of a step; those with labels only where the method looks at them."""


def start(game: Game, keys: Tensor, constants: Tensors, *, dtype: torch.dtype) -> Tensors:
    """What every slot carries along, at the start.

    Parameters, moments at zero and counters at zero, and what techniques need: means over time, the last steps, the
    reference batch, the vectors of spectral normalisation.
    """
    tensors: Tensors = {}
    method = game.method
    for name, network, role in (
        ("theta", game.generator, Role.GENERATOR_START),
        ("phi", game.discriminator, Role.DISCRIMINATOR_START),
    ):
        tensors[name] = _parameters(game, network, keys, role, dtype)
    tensors["phi"] = vmap(lambda phi, clip: constrain(method, phi, {"clip": clip}))(tensors["phi"], constants["clip"])
    for name in ("theta", "phi"):
        memories = ("first", "second", *(["step"] if method.has("optimistic") else []))
        tensors |= {f"{name}_{memory}": torch.zeros_like(tensors[name]) for memory in memories}
        if method.has("history"):
            tensors[f"{name}_mean"] = tensors[name]
    if method.has("ema", "average"):
        tensors["theta_average"] = tensors["theta"]
    if method.has("vbn"):
        numbers = normal(keys, role=Role.REFERENCE, steps=range(1), updates=1, count=game.task.batch * game.task.latent)
        tensors["reference"] = numbers.view(len(keys), game.task.batch, game.task.latent).to(dtype)
    if method.has("sn"):
        shapes = power_shapes(game.discriminator.shapes)
        size = power_size(game.discriminator.shapes)
        numbers = uniform(keys, role=Role.POWER, steps=range(1), updates=1, count=game.components * size)[:, 0, 0]
        one = vmap(lambda u: flatten(power_start(split(u, shapes))))
        tensors["power"] = torch.cat([one(piece) for piece in numbers.to(dtype).chunk(game.components, 1)], 1)
    if game.generator.statistics_shapes:
        tensors["statistics"] = _standard_statistics(game, len(keys), dtype, keys.device)
    return tensors | dict.fromkeys(MEASURED, torch.zeros(len(keys), dtype=dtype, device=keys.device))


def _standard_statistics(game: Game, count: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Running means 0 and variances 1, where batch normalisation starts."""
    one = [
        torch.full((math.prod(shape),), float(name.startswith("variance")), dtype=dtype, device=device)
        for name, shape in game.generator.statistics_shapes.items()
    ]
    return torch.cat(one * game.components).repeat(count, 1)


def _parameters(game: Game, network: Network, keys: Tensor, role: Role, dtype: torch.dtype) -> Tensor:
    # a step of its own for each member of a mixture: the first starts where a network alone would
    uniforms = uniform(keys, role=role, steps=range(game.components), updates=1, count=network.size).to(dtype)
    networks = [vmap(lambda u: flatten(network.initialise(u)))(u) for u in uniforms[:, :, 0].unbind(1)]
    equal_weights = [] if game.components == 1 else [uniforms.new_zeros(len(keys), game.components)]
    return torch.cat([*networks, *equal_weights], 1)


def draw(
    game: Game, keys: Tensor, steps: range, *, dtype: torch.dtype, total: int = 1, labelled: Tensor | None = None
) -> Tensors:
    """All random numbers of some steps of `total`: tensors of shape (c, steps, updates in the step, b, ...).

    Labels are known of the first `labelled` (c,) samples of the data; of all, where it is not given.
    """
    numbers = torch.arange(steps.start, steps.stop, device=keys.device)
    found: Tensors = {}
    for player, count in (("d", game.n_critic), ("g", 1)):
        updates = torch.arange(count, device=keys.device)
        found |= draw_of(game, player, keys, numbers, updates, dtype=dtype, share=numbers / total, labelled=labelled)
    return found


def draw_of(
    game: Game,
    player: str,
    keys: Tensor,
    steps: Tensor,
    updates: Tensor,
    *,
    dtype: torch.dtype,
    share: Tensor,
    labelled: Tensor | None = None,
) -> Tensors:
    """The random numbers of a player's updates; steps (s,), shares of the budget (s,), and updates (u,) by number."""
    task, batch = game.task, game.task.batch
    data, latent, penalty, instance, wanted = ROLES[player]

    def numbers(kind: Callable[..., Tensor], role: Role, each: int) -> Tensor:
        shape = (len(keys), len(steps), len(updates), batch, each)
        if not each:
            return torch.empty(shape, device=keys.device)
        return kind(keys, role=role, steps=steps, updates=updates, count=batch * each).view(shape)

    found = {f"latent_{player}": numbers(normal, latent, task.latent).to(dtype)}
    # each by a role of its own, so that a method's penalty sees the same points with and without noise
    points = numbers(uniform, penalty, game.penalty_draws if wanted(game) else 0)
    noise = numbers(uniform, instance, game.instance_draws)
    found[f"noise_{player}"] = torch.cat([points, noise], -1).to(dtype)
    seen = player == "d" or game.generator_sees_real
    uniforms = numbers(uniform, data, task.draws if seen or game.labels else 0)
    if task.over_time:
        uniforms = torch.cat([uniforms, share[:, None, None, None].expand(*uniforms.shape[:-1], 1)], -1)
    if seen:
        found[f"real_{player}"] = task.sample(uniforms).to(dtype)
    else:
        found["real_g"] = torch.empty((len(keys), len(steps), 1, 0), device=keys.device, dtype=dtype)
    if game.labels:
        found[f"label_{player}"] = _known(game, uniforms, labelled)
    return found


ROLES: dict[str, tuple[Role, Role, Role, Role, Callable[[Game], int]]] = {
    "d": (Role.DATA, Role.LATENT_D, Role.PENALTY, Role.NOISE_D, lambda game: game.noise_draws),
    "g": (Role.DATA_G, Role.LATENT_G, Role.PENALTY_G, Role.NOISE_G, lambda game: game.noise_draws_g),
}
"""What a player's draws are for: data, latents, a penalty's points, noise on samples; and whether it has points."""


def _known(game: Game, uniforms: Tensor, labelled: Tensor | None) -> Tensor:
    """Classes of the samples that are drawn by some uniforms (c, ..., draws), -1 where they are not known."""
    task = game.task
    if task.label is None:
        raise ValueError(f"task {task.name!r} has no labels")
    labels = task.label(uniforms)
    if game.conditional or task.rank is None or labelled is None:
        return labels
    return torch.where(task.rank(uniforms) < labelled[:, None, None, None], labels, -1)


def numbers_per_step(game: Game) -> int:
    """Random numbers that one trial needs for one generator step."""
    task = game.task
    of_discriminator = task.draws + task.latent + game.noise_draws
    of_generator = task.latent + game.noise_draws_g + (task.draws if game.generator_sees_real else 0)
    drawn = game.n_critic * of_discriminator + of_generator
    # of images, the samples that are looked up take more memory than the numbers drawn for it
    return task.batch * max(drawn, (game.n_critic + 1) * task.data_width // 4)


def blocks(steps: range, numbers: int, device: str) -> Iterator[range]:
    """Cut steps into blocks whose draws fit the device."""
    size = max(1, DRAWS_AT_ONCE[device] // max(1, numbers))
    for first in range(steps.start, steps.stop, size):
        yield range(first, min(first + size, steps.stop))


def measure(
    game: Game, state: PackState, keys: Tensor, *, look: Callable[[Tensor], None] = lambda _: None
) -> Evaluation:
    """Measure every slot now: the task's metrics, and what the updates said of themselves."""
    values = evaluate(game, state.tensors, keys, index=len(state.evaluations), look=look)
    values |= {name: state.tensors[name] for name in MEASURED}
    return Evaluation(state.step, {name: value.double().cpu().numpy() for name, value in values.items()})


def _hyperparameters(slots: Sequence[Trial], *, device: str, dtype: torch.dtype) -> Tensors:
    """Each numeric hyperparameter as a tensor (c,); zero where a method has none, where it is not read."""
    rows = [asdict(trial.hyperparameters) for trial in slots]
    return {
        name: torch.tensor([row[name] or 0.0 for row in rows], dtype=torch.float64, device=device).to(dtype)
        for name in NUMBERS
    }


def _scalar(number: float, device: str, dtype: torch.dtype) -> Tensor:
    return torch.tensor(number, dtype=dtype, device=device)


def _game(trial: Trial) -> Game:
    h = trial.hyperparameters
    task, method = get_task(trial.task), parse_method(trial.method)
    return Game(task, method, OPTIMISERS[h.optimiser], h.n_critic, h.architecture, trial.fingerprint)


def example_of(game: Game, capacity: int, *, device: str = "cpu", dtype: torch.dtype = torch.float32) -> Tensors:
    """Tensors that the updates of a pack take, of the right shapes and some values."""
    keys = torch.zeros(capacity, 2, dtype=torch.int64, device=device)
    constants = dict.fromkeys(NUMBERS, torch.full((capacity,), 0.5, dtype=dtype, device=device))
    example = start(game, keys, constants, dtype=dtype) | constants
    example |= {name: drawn[:, 0, 0] for name, drawn in draw(game, keys, range(1), dtype=dtype).items()}
    return example | dict.fromkeys(SHARED, _scalar(0.5, device, dtype))


@dataclass(frozen=True)
class Program:
    """The updates of a pack: each player's, and both at once where the method moves them so.

    Attributes:
        discriminator: The discriminator's update.
        generator: The generator's.
        both: Of both at once.
        blocks: Whole blocks of steps, compiled, which then run in place of these; None where that is not possible.
        why: The reason where it is not.
    """

    discriminator: Callable[[Tensors], Tensors]
    generator: Callable[[Tensors], Tensors]
    both: Callable[[Tensors], Tensors]
    blocks: Blocks | None = None
    why: str | None = None


@cache
def program_of(game: Game, capacity: int, device: str, dtype: torch.dtype) -> Program:
    """The updates of a pack, recorded once for each structure and process; `game` has n_critic 1, whatever it is."""
    example = example_of(game, capacity, device=device, dtype=dtype)
    blocks, why = _compiled(game, example, device, dtype)

    def recorded(update: Callable[[Game, Tensors], Tensors]) -> Callable[[Tensors], Tensors]:
        return unused if blocks else vectorise(lambda trial: update(game, trial), example)

    def unused(_tensors: Tensors) -> Tensors:
        raise RuntimeError(f"method {game.method.name!r} has no such update")

    return Program(
        recorded(discriminator_update),
        unused if game.at_once else recorded(generator_update),
        recorded(joint_update) if game.at_once else unused,
        blocks,
        why,
    )


def _compiled(game: Game, example: Tensors, device: str, dtype: torch.dtype) -> tuple[Blocks | None, str | None]:
    """Blocks of steps as a compiled program, or the reason why there is none."""
    if device != "cpu" or os.environ.get("MANYPATHS_PROGRAM") == "eager":
        return None, "not asked for"

    def drawing(player: str) -> Callable[[Tensors], Tensors]:
        def draw_one(trial: Tensors) -> Tensors:
            key, step, update = trial["key"][None], trial["step"][None], trial["update"][None]
            share, known = step / trial["total"], trial["labelled"][None]
            drawn = draw_of(game, player, key, step, update, dtype=dtype, share=share, labelled=known)
            return {name: tensor[0, 0, 0] for name, tensor in drawn.items()}

        return draw_one

    recipe = Recipe(
        discriminator=lambda trial: discriminator_update(game, trial),
        generator=None if game.at_once else lambda trial: generator_update(game, trial),
        both=(lambda trial: joint_update(game, trial)) if game.at_once else None,
        # in float64, which is for proofs, to the last bit the same draws as everywhere
        draws={player: drawing(player) for player in ROLES if dtype is torch.float32},
        example=example,
        shared=SHARED,
    )
    try:
        return blocks_of(recipe), None
    except (Unsupported, NoCompiler) as error:
        return None, str(error)

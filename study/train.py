"""Training a pack: trials of equal structure, in one program, measured on a schedule.

A result belongs to the trial and not to its neighbours: packs have a fixed capacity, short ones are padded, every
random number is a function of the trial's own key, and a member that diverges is marked and left to itself.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache, lru_cache, partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.func import vmap

from search_spaces.hyperparameters import STRUCTURE
from study.draws import draw
from study.evaluate import evaluate
from study.game import Game
from study.graphs import captured
from study.layers import power_shapes, power_size, power_start
from study.methods import parse_method
from study.networks.base import Network, flatten, split
from study.optimisers import OPTIMISERS
from study.outcome import diverged, unsound
from study.prng import Role, key_words, normal, uniform
from study.program import Program, advance, make_program
from study.samples import Kept, keep
from study.schema import CAPTURED, RECORDED
from study.step import MEASURED, SHARED, Tensors, constrain
from study.tasks.table import get_task
from study.trial import Hyperparameters, Trial

NUMBERS = tuple(name for name in Hyperparameters.__dataclass_fields__ if name not in STRUCTURE)
"""The hyperparameters that enter the updates as tensors."""

DRAWS_AT_ONCE = {"cpu": 2**18, "cuda": 2**24}
"""Random numbers drawn in one block: on a CPU few enough to stay in its cache. Does not change any result."""

LONGER = 8
"""Times as many steps in a block of a program that draws itself: handing a pack over and back costs a few of its steps,
and what waits for the end of a block, such as Ctrl-C, shall not wait for seconds."""

PROGRAMS = 32
"""Programs that are kept: about a megabyte each, and a worker may meet thousands of structures."""


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
        program: What trains it, "native", "recorded" or "captured".
    """

    tensors: Tensors
    step: int = 0
    evaluations: list[Evaluation] = field(default_factory=list)
    seconds: float = 0.0
    kept: Kept | None = None
    program: str = RECORDED


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
    """Generator steps after which a trial is evaluated; the last is the end of its budget."""
    return trial.budget.stops(trial.hyperparameters.n_critic)


def train(
    trials: Sequence[Trial],
    *,
    capacity: int,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
    program: str = RECORDED,
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
        program: "native" to train by a program compiled for this CPU, where its operations can be; "recorded"; or
            "captured" to train by recorded operations as graphs of a GPU.
        state: Where to go on from; None starts afresh.
        samples: Generated samples of each trial's last evaluation to keep in the state. Does not change any result.
        after_evaluation: Called with the state after each evaluation.
        after_block: Called with the state after each block of steps, from which it can go on too.

    Returns:
        The state at the end, or where every trial of the pack had diverged.

    Raises:
        UserError: If a program is to be compiled and nothing can be on this machine.
    """
    _keep_freed_memory()
    game, keys, constants = _set_up(trials, capacity, device, dtype)
    started = time.perf_counter()
    state = state or fresh(trials, capacity=capacity, device=device, dtype=dtype)
    made_of = program_of(game.of_one, capacity, device, dtype, program)
    state.program = CAPTURED if program == CAPTURED else made_of.name
    run: Callable[..., Tensors] = partial(advance, made_of, game)
    if program == CAPTURED:
        run = captured(made_of, game, example_of(game, capacity, device=device, dtype=dtype))
    kind, numbers = trials[0], numbers_per_step(game) * capacity
    before, ended = state.seconds, diverged(state, trials)
    made: list[Tensor] = []
    for stop in schedule(kind)[len(state.evaluations) :]:
        if ended.all():
            break
        for block in blocks(range(state.step, stop), numbers // (LONGER if made_of.draws_itself else 1), device):
            tensors = run(keys, state.tensors | constants, block, total=kind.generator_steps)
            state.tensors = {name: tensors[name] for name in state.tensors}
            state.step = block.stop
            state.seconds = before + time.perf_counter() - started
            after_block(state)
        state.evaluations.append(measure(game, state, keys, look=made.append))
        ended |= unsound(state.evaluations[-1], kind)[: len(trials)]
        state.kept = keep(state.kept, made.pop()[: len(trials), :samples], ended, step=stop)
        state.seconds = before + time.perf_counter() - started
        after_evaluation(state)
    return state


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
    index = len(state.evaluations)
    values = evaluate(game, state.tensors, keys, index=index, look=look, program=state.program)
    # together, for each transfer from a GPU waits for it
    measured = torch.stack([state.tensors[name] for name in MEASURED])
    found = torch.stack([value.to(keys.device, torch.float64) for value in values.values()])
    rows = torch.cat([found, measured]).cpu().numpy()
    return Evaluation(state.step, dict(zip((*values, *MEASURED), rows, strict=True)))


def _hyperparameters(slots: Sequence[Trial], *, device: str, dtype: torch.dtype) -> Tensors:
    """Each numeric hyperparameter as a tensor (c,); zero where a method has none, where it is not read."""
    rows = [asdict(trial.hyperparameters) for trial in slots]
    return {
        name: torch.tensor([row[name] or 0.0 for row in rows], dtype=torch.float64, device=device).to(dtype)
        for name in NUMBERS
    }


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
    return example | dict.fromkeys(SHARED, torch.tensor(0.5, dtype=dtype, device=device))


@lru_cache(maxsize=PROGRAMS)
def program_of(game: Game, capacity: int, device: str, dtype: torch.dtype, program: str = RECORDED) -> Program:
    """The updates of a pack, made once for each structure in use; `game` has n_critic 1, whatever it is."""
    return make_program(game, example_of(game, capacity, device=device, dtype=dtype), program)

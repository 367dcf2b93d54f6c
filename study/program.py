"""The program that trains a pack: compiled for this machine's CPU where that works, recorded operations elsewhere.

`Program.name` says which of the two it is, and `Program.why` the reason if it is the second though the first was asked
for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from study.draws import OF_DISCRIMINATOR, OF_GENERATOR, ROLES, draw, draw_of
from study.errors import UserError
from study.game import Game
from study.native.blocks import Blocks, Recipe, blocks_of
from study.native.build import NoCompiler
from study.native.views import Unsupported
from study.schema import NATIVE, RECORDED
from study.step import SHARED, Tensors, discriminator_update, generator_update, joint_update, vectorise


@dataclass(frozen=True)
class Program:
    """The updates of a pack: each player's, and both at once where the method moves them so.

    Attributes:
        discriminator: The discriminator's update.
        generator: The generator's.
        both: Of both at once.
        blocks: Whole blocks of steps, compiled, for `advance` to run in place of these; None where that does not work.
        why: The reason where it was to be compiled and is not.
    """

    discriminator: Callable[[Tensors], Tensors]
    generator: Callable[[Tensors], Tensors]
    both: Callable[[Tensors], Tensors]
    blocks: Blocks | None = None
    why: str | None = None

    @property
    def name(self) -> str:
        """Which of the two it is, as the column `program` says it."""
        return NATIVE if self.blocks else RECORDED

    @property
    def draws_itself(self) -> bool:
        """True where the random numbers of a block of steps take no memory."""
        return self.blocks is not None and not self.blocks.drawn


def make_program(game: Game, example: Tensors, program: str = RECORDED) -> Program:
    """The updates of a pack.

    Args:
        game: What its trials have in common.
        example: Tensors of the right shapes.
        program: "native" to compile it, where all its operations can be translated; or "recorded".

    Raises:
        UserError: If it is to be compiled and nothing can be on this machine.
    """
    blocks, why = _compiled(game, example) if program == NATIVE else (None, None)

    def recorded(update: Callable[[Game, Tensors], Tensors]) -> Callable[[Tensors], Tensors]:
        made: list[Callable[[Tensors], Tensors]] = []  # at its first use, which there is none of beside a compiled one

        def updated(tensors: Tensors) -> Tensors:
            if not made:
                made.append(vectorise(lambda trial: update(game, trial), example))
            return made[0](tensors)

        return updated

    def unused(_tensors: Tensors) -> Tensors:
        raise RuntimeError(f"method {game.method.name!r} has no such update")

    return Program(
        recorded(discriminator_update),
        unused if game.at_once else recorded(generator_update),
        recorded(joint_update) if game.at_once else unused,
        blocks,
        why,
    )


def _compiled(game: Game, example: Tensors) -> tuple[Blocks | None, str | None]:
    """Blocks of steps as a compiled program, or the reason why there is none."""
    device, dtype = example["theta"].device, example["theta"].dtype
    if device.type != "cpu":
        return None, f"the device is {device.type}"

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
        drawn=OF_DISCRIMINATOR | OF_GENERATOR,
        example=example,
        shared=SHARED,
    )
    try:
        return blocks_of(recipe), None
    except Unsupported as error:
        return None, str(error)
    except NoCompiler as error:  # who asked for it must not get other bits
        raise UserError(f"program {NATIVE!r}: {error}") from None


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


def _scalar(number: float, device: str, dtype: torch.dtype) -> Tensor:
    return torch.full((), number, dtype=dtype, device=device)  # which waits for no device

"""Finite zero-sum games: two players mix over a few choices each, and a linear programme gives what that is worth.

The generator mixes by p = softmax(x) and wants V(p, q) = p^T A q small, the discriminator mixes by q = softmax(y) and
wants it large. Von Neumann's theorem gives the game a value that both can secure, the one that its linear programme has
at the optimum; unless there is a saddle among the entries, only mixtures secure it. What a pair of mixtures lacks is
its gap, what both players together could gain by their best replies: 0 at equilibria and nowhere else.

They are played as the games of `study.tasks.games`: a generated sample is (p, 1, 0), a real one is all 0, and the
discriminator is C(s) = -s_1^2 s_p^T A q + s_q^T (q - q*), s_1 being the 1. With the loss `zerosum` L_G = V and L_D = -V
exactly. `mm` and `ns` are increasing functions of V for the one and falling ones for the other, so best replies, and
with them the equilibria, stay what they are; their steps are shorter.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from study.errors import unknown
from study.lazy import torch
from study.metrics.trials import all_finite_or_nan
from study.networks.base import Network, Parameters
from study.tasks.base import Control, Snapshot, Task

if TYPE_CHECKING:
    from torch import Tensor

START = 2.0
"""By how much the logit of one choice, a random one, is ahead at the start: near a pure choice, where no game rests."""

RELATIVE_THRESHOLD = 0.01
"""Over the gap of the nearest start."""


@dataclass(frozen=True, eq=False)
class Matrix:
    """A finite zero-sum game.

    Attributes:
        payoffs: What the discriminator gets of the generator; a row for each choice of the generator.
        p: An equilibrium's mixture of the generator; exact.
        q: That of the discriminator.
        value: What both secure, the optimum of the linear programme; exact.
        about: One line.
    """

    payoffs: tuple[tuple[int, ...], ...]
    p: tuple[Fraction, ...]
    q: tuple[Fraction, ...]
    value: Fraction
    about: str


def _over(denominator: int, *numerators: int) -> tuple[Fraction, ...]:
    return tuple(Fraction(numerator, denominator) for numerator in numerators)


MATRICES: dict[str, Matrix] = {
    "uneven": Matrix(
        ((2, -1), (-1, 1)),
        _over(5, 2, 3),
        _over(5, 2, 3),
        Fraction(1, 5),
        "matching coins of unequal worth: neither the uniform mixture nor 0 is right",
    ),
    "pennies": Matrix(
        ((1, -1), (-1, 1)), _over(2, 1, 1), _over(2, 1, 1), Fraction(0), "matching pennies, both mix evenly"
    ),
    "rock": Matrix(
        ((0, 1, -1), (-1, 0, 1), (1, -1, 0)),
        _over(3, 1, 1, 1),
        _over(3, 1, 1, 1),
        Fraction(0),
        "rock, paper, scissors",
    ),
    "morra": Matrix(
        ((0, -2, 3, 0), (2, 0, 0, -3), (-3, 0, 0, 4), (0, 3, -4, 0)),
        _over(70, 0, 41, 29, 0),
        _over(70, 0, 41, 29, 0),
        Fraction(0),
        "two-finger Morra: several equilibria, all mixtures (0, s, 1 - s, 0) with s from 4/7 to 3/5, of one value",
    ),
}
"""Games by name; each equilibrium is checked against its linear programme by a test."""


def gap_of(game: Matrix, p: Sequence[float], q: Sequence[float]) -> float:
    """What both players together could gain by their best replies to mixtures p and q; at least 0."""
    columns = [sum(a * share for a, share in zip(column, p, strict=True)) for column in zip(*game.payoffs, strict=True)]
    rows = [sum(a * share for a, share in zip(row, q, strict=True)) for row in game.payoffs]
    return float(max(columns) - min(rows))


def _pure(count: int, place: int, ahead: float) -> list[float]:
    """A mixture in which one choice's logit is ahead of the others'."""
    whole = math.exp(ahead) + count - 1
    return [(math.exp(ahead) if i == place else 1.0) / whole for i in range(count)]


def nearest_start(game: Matrix) -> float:
    """The least gap that a trial starts with."""
    n, m = len(game.payoffs), len(game.payoffs[0])
    found = min(gap_of(game, _pure(n, i, START), _pure(m, j, START)) for i in range(n) for j in range(m))
    return round(found, 12)  # equal on every machine, whatever its exp does to the last digit


def _ahead(uniform: Tensor) -> Tensor:
    """Logits of which one, where the uniform number is largest, is `START` and the others are 0."""
    places = torch.arange(uniform.shape[-1], device=uniform.device)
    return torch.where(places == uniform.argmax(-1, keepdim=True), START, 0.0).to(uniform.dtype)


def minimiser(game: Matrix) -> Network:
    """G(z) = (softmax(x), 1, 0)."""
    n, m = len(game.payoffs), len(game.payoffs[0])

    def apply(parameters: Parameters, latent: Tensor) -> Tensor:
        p = parameters["x"].softmax(-1).expand(len(latent), n)
        return torch.cat([p, torch.ones_like(p[:, :1]), p.new_zeros(len(latent), m)], 1)

    return Network(shapes={"x": (n,)}, initialise=lambda uniform: {"x": _ahead(uniform)}, apply=apply)


def maximiser(game: Matrix) -> Network:
    """C(s) = -s_1^2 s_p^T A q + s_q^T (q - q*), q = softmax(y)."""
    n, m = len(game.payoffs), len(game.payoffs[0])

    def apply(parameters: Parameters, s: Tensor) -> Tensor:
        q = parameters["y"].softmax(-1)
        value = s[:, :n] @ (s.new_tensor(game.payoffs) @ q)
        off = s[:, n + 1 :] @ (q - s.new_tensor([float(share) for share in game.q]))
        return (off - s[:, n].square() * value)[:, None]

    return Network(shapes={"y": (m,)}, initialise=lambda uniform: {"y": _ahead(uniform)}, apply=apply)


def sample(uniforms: Tensor, *, width: int) -> Tensor:
    """Real samples (..., width), all 0; the uniforms (..., 1) give the shape alone."""
    return torch.zeros_like(uniforms).expand(*uniforms.shape[:-1], width)


def evaluate(at: Snapshot, *, game: Matrix) -> dict[str, Tensor]:
    """The gap of both players' mixtures, their value and its distance from the game's, each (c,), in units of payoff.

    q is read off the critic at the unit vectors of its coordinates, as it is also where a technique averages x.
    """
    x = at.parameters["x"].double()
    p = x.softmax(-1)
    payoffs, resting, probes = _constants(game, p.device)
    q = at.critic(probes.expand(len(p), *probes.shape)).double()[:, :, 0] + resting
    columns, rows = (p[:, :, None] * payoffs).sum(1), (payoffs * q[:, None, :]).sum(2)
    value = (columns * q).sum(1)
    gap = (columns.amax(1) - rows.amin(1)).clamp(min=0)  # below 0 by rounding alone
    values = {"gap": gap, "value_error": (value - float(game.value)).abs(), "value": value, "selection": gap}
    return all_finite_or_nan(values, torch.cat([x, q], 1))


@functools.cache
def _constants(game: Matrix, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Payoffs (n, m), the equilibrium's q (m,), and samples (m, n + 1 + m) at which a discriminator says q - q*."""
    n, m = len(game.payoffs), len(game.payoffs[0])
    numbers = [*game.payoffs, [float(share) for share in game.q]]
    *payoffs, resting = (torch.tensor(row, dtype=torch.float64, device=device) for row in numbers)
    choices = torch.eye(m, dtype=torch.float64, device=device)
    return torch.stack(payoffs), resting, torch.cat([choices.new_zeros(m, n + 1), choices], 1)


def finite(game: str = "uneven") -> Task:
    """The task `finite`: a finite zero-sum game, one of `MATRICES`, that ends well where nobody can gain any more.

    Raises:
        UserError: For a game that there is not.
    """
    if game not in MATRICES:
        raise unknown("game of 'finite':", game, MATRICES)
    chosen = MATRICES[game]
    width = len(chosen.payoffs) + 1 + len(chosen.payoffs[0])
    nearest = nearest_start(chosen)
    return Task(
        summary=f"a finite zero-sum game against its linear programme: {chosen.about}",
        source="von Neumann (1928); Nash (1950), reviewed in Barnett (2018); payoffs, start and threshold: ours",
        shape=(width,),
        latent=1,
        batch=1,
        generator=minimiser(chosen),
        discriminator=maximiser(chosen),
        draws=1,
        sample=functools.partial(sample, width=width),
        metrics=("gap", "value_error", "value"),
        primary="gap",
        evaluation_samples=0,
        evaluate=functools.partial(evaluate, game=chosen),
        looks_at_critic=True,
        losses=("zerosum", "mm", "ns"),
        threshold=RELATIVE_THRESHOLD * nearest,
        anchors=(RELATIVE_THRESHOLD / 100 * nearest, nearest),
        reasoning=REASONING,
        controls=_controls(chosen, nearest),
    )


def _controls(game: Matrix, nearest: float) -> tuple[Control, ...]:
    n, m = len(game.payoffs), len(game.payoffs[0])
    tilted = gap_of(game, _tilted(game.p), _tilted(game.q))
    best_pure = min(gap_of(game, _pure(n, i, 50.0), _pure(m, j, 50.0)) for i in range(n) for j in range(m))
    return (
        Control(name="equilibrium", value=0.0, must="pass", why="the optimum of the linear programme"),
        Control(name="a tenth off", value=tilted, must="fail", why="both move a tenth of their weight to one choice"),
        Control(name="nearest start", value=nearest, must="fail", why="untrained: both near a pure choice"),
        Control(name="best pair of pure choices", value=best_pure, must="fail", why="what no mixing gets"),
    )


def _tilted(mixture: Sequence[Fraction]) -> list[float]:
    """A mixture with a tenth of its weight moved to the last choice."""
    return [0.9 * float(share) + 0.1 * (i == len(mixture) - 1) for i, share in enumerate(mixture)]


REASONING = (
    "The gap, max over columns of p^T A less min over rows of A q, is what both together could gain by their best "
    "replies, and bounds how far the value of their play is from that of the linear programme. On an orbit around the "
    "equilibrium it stays away from 0. The threshold is a hundredth of the nearest start's gap, score 0 that start, "
    "score 1, the floor being 0, by convention a ten-thousandth of it. Which choice each player prefers at the start "
    "is all that seeds can differ in."
)

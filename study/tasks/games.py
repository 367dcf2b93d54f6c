"""Games without data: two numbers, one player each, and a value that one wants small and the other large.

x minimises V(x, y) and y maximises it; whether the players come to rest at the equilibrium, circle it or run away has
closed forms. They are played by the machinery of GANs: samples have three coordinates, a real one is (0, 0, 0) and a
generated one (x, 1, 0), and the discriminator is C(s) = -s_1^2 V(s_0, y) + s_2 (y - y*). With the loss `zerosum` then
L_G = V(x, y) and L_D = -V(x, y) exactly. The last coordinate is 0 in both: evaluations read y by it, and it makes
y - y* the slope at real samples, as in the Dirac-GAN: r1 of weight w adds w / 2 (y - y*)^2 to L_D.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING

from study.errors import UserError
from study.lazy import torch
from study.metrics.trials import all_finite_or_nan
from study.networks.base import Network, Parameters
from study.tasks.base import Control, Snapshot, Task

if TYPE_CHECKING:
    from torch import Tensor


Value = Callable[["Tensor", "Tensor"], "Tensor"]
RELATIVE_THRESHOLD = 1e-4
"""Over the squared distance of the nearest start: a hundredth of the distance."""
SALIMANS_START = 2.0
"""Far enough for x to start on either branch of f."""
HEUSEL_START = 1.0


def minimiser(equilibrium: float, start: float) -> Network:
    """G(z) = (x, 1, 0); x starts uniform within `start` of its equilibrium."""

    def initialise(uniform: Tensor) -> dict[str, Tensor]:
        return {"x": equilibrium + start * (2 * uniform - 1)}

    def apply(parameters: Parameters, latent: Tensor) -> Tensor:
        x = parameters["x"].expand(len(latent), 1)
        return torch.cat([x, torch.ones_like(x), torch.zeros_like(x)], 1)

    return Network(shapes={"x": (1,)}, initialise=initialise, apply=apply)


def maximiser(value: Value, equilibrium: float, start: float) -> Network:
    """C(s) = -s_1^2 V(s_0, y) + s_2 (y - y*); y starts at a distance of `start` from y*, on a random side."""

    def initialise(uniform: Tensor) -> dict[str, Tensor]:
        side = torch.where(uniform < 0.5, -start, start)
        return {"y": (equilibrium + side).to(uniform.dtype)}

    def apply(parameters: Parameters, s: Tensor) -> Tensor:
        y = parameters["y"]
        return s[:, 2:] * (y - equilibrium) - s[:, 1:2].square() * value(s[:, :1], y)

    return Network(shapes={"y": (1,)}, initialise=initialise, apply=apply)


def sample(uniforms: Tensor) -> Tensor:
    """Real samples (..., 3), all 0; the uniforms (..., 1) give the shape alone."""
    return torch.zeros_like(uniforms).expand(*uniforms.shape[:-1], 3)


def evaluate(at: Snapshot, *, equilibrium: float) -> dict[str, Tensor]:
    """Both players' numbers and their squared distance from (equilibrium, equilibrium), each (c,).

    y is read off the critic at (0, 0, 1). It is the last y also where a technique averages x over time, so that such a
    pair does not come to rest where y does not. There is nothing to overfit in a closed form, so the selection metric
    is the primary itself.
    """
    x = at.parameters["x"].double().flatten()
    off = at.critic(_probe(x.device).expand(len(x), 1, 3)).double().flatten()
    distance = (x - equilibrium).square() + off.square()
    values = {"distance_sq": distance, "x": x, "y": off + equilibrium, "selection": distance}
    return all_finite_or_nan(values, distance[:, None])  # squares of float32 do not overflow in float64


@functools.cache
def _probe(device: torch.device) -> Tensor:
    return torch.tensor([0.0, 0.0, 1.0], device=device)


def _game(
    value: Value,
    *,
    equilibrium: float,
    start: float,
    summary: str,
    source: str,
    reasoning: str,
    controls: tuple[Control, ...],
) -> Task:
    nearest = start**2
    return Task(
        summary=summary,
        source=source,
        shape=(3,),
        latent=1,
        batch=1,
        generator=minimiser(equilibrium, start),
        discriminator=maximiser(value, equilibrium, start),
        draws=1,
        sample=sample,
        metrics=("distance_sq", "x", "y"),
        primary="distance_sq",
        evaluation_samples=0,
        evaluate=functools.partial(evaluate, equilibrium=equilibrium),
        looks_at_critic=True,
        losses=("zerosum",),
        threshold=RELATIVE_THRESHOLD * nearest,
        anchors=(RELATIVE_THRESHOLD / 100 * nearest, nearest),
        reasoning=reasoning + SHARED_REASONING,
        controls=(
            Control(name="equilibrium", value=0.0, must="pass", why="where neither player can gain"),
            Control(name="half of the start's distance", value=nearest / 4, must="fail", why="on the way, or passing"),
            Control(name="nearest start", value=nearest, must="fail", why="untrained: x at its equilibrium, y off it"),
            *controls,
        ),
    )


def _bilinear(x: Tensor, y: Tensor) -> Tensor:
    return x * y


def _salimans(x: Tensor, y: Tensor) -> Tensor:
    return (torch.where(x < 0, x, x * x) - 1) * (y - 1)


def _heusel(x: Tensor, y: Tensor) -> Tensor:
    return (1 + x * x) * (100 - y * y)


def bilinear(start: float = 1.0) -> Task:
    """The task `bilinear`: V = x y, with y at a distance of `start` from the equilibrium (0, 0) and x within it.

    Raises:
        UserError: For a start that is no distance.
    """
    if start <= 0:
        raise UserError(f"bilinear[start={start:g}]: start is a distance from the equilibrium and must be above 0")
    nearest = start**2
    return _game(
        _bilinear,
        equilibrium=0.0,
        start=start,
        summary="min over x, max over y of x y: an equilibrium that plain descent circles or leaves",
        source="Barnett (2018), existence is not convergence; start, threshold and anchors: ours",
        reasoning=(
            "With a step h both players at once grow by a factor sqrt(1 + h^2) a step; in turn they stay on "
            "x^2 + y^2 + h x y = const, up to h = 2. "
        ),
        controls=(
            Control(name="circle through the start", value=nearest, must="fail", why="the orbit of small steps"),
            Control(
                name="averaging of weight 0.1",
                value=1.695e-6 * nearest,
                must="pass",
                why="historical averaging, 5000 steps of 0.05 in turn from (0, start)",
            ),
            Control(
                name="averaging of weight 1",
                value=0.1187 * nearest,
                must="fail",
                why="the same with a weight that ties the players to their past",
            ),
        ),
    )


def salimans() -> Task:
    """The task `salimans`: V = (f(x) - 1)(y - 1), f(x) = x below 0 and x^2 above; equilibrium (1, 1)."""
    return _game(
        _salimans,
        equilibrium=1.0,
        start=SALIMANS_START,
        summary="(f(x) - 1)(y - 1), f(x) = x below 0 and x^2 above: a game that historical averaging brings to rest",
        source="Salimans et al. (2016), section 3.3; that x descends, start, threshold and anchors: ours",
        reasoning=(
            "Where x > 0 the flow keeps x^2 / 4 - log(x) / 2 + (y - 1)^2 / 2: closed orbits around (1, 1). Historical "
            "averaging with a small weight comes to rest, with a large one it ties the players to their past. "
        ),
        controls=(
            Control(
                name="nearest point of an orbit",
                value=0.978,
                must="fail",
                why="the smallest that plain descent's flow comes to, at x = 0.0111, from the nearest start",
            ),
            Control(
                name="averaging of weight 0.1",
                value=1.27e-6,
                must="pass",
                why="historical averaging, 20000 steps of 0.02 in turn from (1, 3)",
            ),
            Control(name="averaging of weight 5", value=2.2, must="fail", why="the same, tied to the past"),
        ),
    )


def heusel() -> Task:
    """The task `heusel`: V = (1 + x^2)(100 - y^2), saddle (0, 0), a hundred times steeper in x than in y."""
    return _game(
        _heusel,
        equilibrium=0.0,
        start=HEUSEL_START,
        summary="(1 + x^2)(100 - y^2): a saddle a hundred times steeper in x than in y, so that two step sizes pay",
        source="Heusel et al. (2017), the toy example; start, threshold and anchors: ours",
        reasoning=(
            "At the saddle a step multiplies x by 1 - 200 lr_g and y by 1 - 2 lr_d: one rate for both is too large for "
            "x or too small for y. "
        ),
        controls=(
            Control(
                name="1e-4 for x and 0.01 for y",
                value=0.0,
                must="pass",
                why="two time scales, 1000 steps in turn from (1, 1), as are the next two: 4e-18",
            ),
            Control(name="0.01 for both", value=0.5865, must="fail", why="x changes sign and hardly shrinks"),
            Control(name="0.001 for both", value=0.01804, must="fail", why="y is still on its way"),
        ),
    )


SHARED_REASONING = (
    "The distance is that of both players together: on an orbit each comes by its equilibrium again and again. The "
    "threshold is a hundredth of the nearest start's distance, score 0 that start, score 1, the floor being 0, by "
    "convention a thousandth of its distance. y starts on a random side, x at random within the same distance, "
    "for the start is all that seeds can differ in."
)

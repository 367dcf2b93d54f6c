"""A frozen generator on parallel lines: what an optimised discriminator measures, and the slope it leaves behind.

Real samples are (0, u) and generated ones (offset, u), u uniform in (0, 1) (Arjovsky, Chintala and Bottou 2017, example
1). The discriminator alone is trained. Goodfellow et al. (2014): its best value E log D(r) + E log(1 - D(f)) is
-log 4 + 2 JSD, which is 0 for any offset and -log 4 for none. Arjovsky and Bottou (2017): the closer it comes to that,
the smaller the slope that the minimax loss leaves to the generator.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING

from study.lazy import torch
from study.metrics.trials import all_finite_or_nan, each
from study.networks.mlp import mlp
from study.tasks.base import Control, Snapshot, Task
from study.tasks.critics import ONE_LOGIT, show, show_both, standing

if TYPE_CHECKING:
    from torch import Tensor


POINTS = 512
"""Evenly spaced points on either line, which expectations are taken over: no chance is left in them."""
BATCH = 64
LOG4 = math.log(4)
THRESHOLD = 0.1


def sample(uniforms: Tensor) -> Tensor:
    """Real samples (..., 2) for uniforms (..., 1)."""
    return torch.cat([torch.zeros_like(uniforms), uniforms], -1)


def on_line(latent: Tensor) -> Tensor:
    """Points (b, 2) of the real line for latents (b, 1), uniform by the normal distribution function."""
    return sample(torch.special.ndtr(latent))


def evaluate(at: Snapshot, *, offset: float) -> dict[str, Tensor]:
    """Values of the discriminators on both lines, each (c,); of the parameters only whether they are finite.

    Expectations are over fixed points, the same for selection.
    """
    shift = at.parameters["shift"]
    along = (torch.arange(POINTS, dtype=torch.float64, device=shift.device) + 0.5) / POINTS
    lines = torch.stack([torch.stack([torch.full_like(along, x), along], 1) for x in (0.0, offset)])
    real = show(at, at.critic, lines[0], trials=len(shift), batch=BATCH)[..., 0]
    fake, slope = (found[..., 0] for found in show_both(at, lines[1], trials=len(shift), batch=BATCH))
    value = each(_value, real, fake)
    gap = best(offset) - value
    values = {
        "value_gap": gap,
        "value": value,
        "grad_mm": each(lambda c, s: (c.sigmoid() * s).mean().abs(), fake, slope),
        "grad_ns": each(lambda c, s: ((-c).sigmoid() * s).mean().abs(), fake, slope),
        "grad_wgan": each(lambda s: s.mean().abs(), slope),
        "selection": gap,
    }
    return all_finite_or_nan(values, real, fake, slope, shift)


def _value(real: Tensor, fake: Tensor) -> Tensor:
    softplus = torch.nn.functional.softplus
    return -softplus(-real).mean() - softplus(fake).mean()


def best(offset: float) -> float:
    """The best discriminator's value: -log 4 + 2 JSD, where the divergence is log 2 between lines and 0 on one."""
    return 0.0 if offset else -LOG4


def frozen(offset: float = 1.0) -> Task:
    """The task `frozen`, with the generated line at a distance of `offset`; 0 puts it on the real one."""
    return Task(
        name="frozen",
        version=1,
        summary="a generator that stands still on a line beside the data: what does the discriminator make of it?",
        source=(
            "Goodfellow et al. (2014), theorem 1; Arjovsky and Bottou (2017); lines: Arjovsky et al. (2017), example "
            "1; primary metric, threshold and anchors: ours"
        ),
        shape=(2,),
        latent=1,
        batch=BATCH,
        generator=standing(on_line, (offset, 0.0)),
        discriminator=mlp([2, 64, 64, 1]),
        draws=1,
        sample=sample,
        metrics=("value_gap", "value", "grad_mm", "grad_ns", "grad_wgan"),
        primary="value_gap",
        evaluation_samples=0,
        evaluation_steps=10,
        evaluate=functools.partial(evaluate, offset=offset),
        looks_at_critic=True,
        losses=ONE_LOGIT,
        threshold=THRESHOLD,
        anchors=(THRESHOLD / 100, LOG4),
        reasoning=REASONING,
        controls=apart(offset) if offset else TOGETHER,
    )


REASONING = (
    "Success says that the discriminator is nearly optimal: its value is within 0.1 nats of the best, -log 4 + 2 JSD, "
    "which it cannot exceed. Between lines that is to be right with a probability of 0.95; on one line, where the "
    "start already is close, not to be surer than 0.66 by chance. The generator does not learn: whatever "
    "hyperparameters it has are without effect, and mm and ns are the same training. grad_mm, grad_ns and grad_wgan "
    "say how steep each generator's loss is in the offset at the present discriminator; the one to read is that of the "
    "loss that trained it. A critic of another loss is no probability and need not succeed. Score 0 is D = 1/2, "
    "score 1, the floor being 0, by convention a hundredth of the threshold."
)


def apart(offset: float) -> tuple[Control, ...]:
    """Controls where the lines do not meet; the slopes that they leave are known as well."""
    return (
        Control(name="D right and certain", value=0.0, must="pass", why="the optimum; no slope but that of wgan"),
        Control(name="D right with 0.99", value=-2 * math.log(0.99), must="pass", why="close to the optimum"),
        Control(name="D right with 0.9", value=-2 * math.log(0.9), must="fail", why="on the way"),
        Control(name="D = 1/2", value=LOG4, must="fail", why="close to the start: sees nothing"),
        Control(
            name="slope of 1, 0 halfway",
            value=2 * math.log1p(math.exp(-abs(offset) / 2)),
            must=None,
            why="what wgan with a penalty learns, from which the offset is known and no probability",
        ),
    )


TOGETHER = (
    Control(name="D = 1/2", value=0.0, must="pass", why="the optimum where there is nothing to tell apart"),
    Control(name="D = 0.6 or 0.4 by chance", value=-math.log(4 * 0.24), must="pass", why="hardly sure of anything"),
    Control(name="D = 0.75 or 0.25 by chance", value=-math.log(4 * 0.1875), must="fail", why="sure of nothing real"),
    Control(name="D = 0.9 or 0.1 by chance", value=-math.log(4 * 0.09), must="fail", why="learned its batch by heart"),
)
"""Controls where the lines are one: D takes either value on half of the points, real and generated alike."""

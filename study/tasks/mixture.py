"""Four Gaussians on the line, where divergences between data and generator are known as well as samples allow.

Densities in one dimension need no estimate of a ratio: exact probabilities of narrow bins stand against a histogram.
Mixture, bins and metrics are ours.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, NamedTuple

from study.lazy import torch
from study.metrics.divergence import histogram_of_ordered, jsd, kl
from study.metrics.trials import all_finite_or_nan, finite_or_nan, in_order
from study.networks.mlp import mlp
from study.tasks.base import Control, Snapshot, Task

if TYPE_CHECKING:
    from torch import Tensor


MEANS = (-3.0, -1.0, 1.0, 3.0)
SD = 0.4
"""Of every mode: neighbours are five apart, and between them the density falls to 9 % of the peak."""
SAMPLES = 4096
LOW, HIGH, BINS = -5.0, 5.0, 50
"""Bins half a standard deviation wide; all else, of which the data have 3e-7, is one more."""


def sample(uniforms: Tensor) -> Tensor:
    """Real samples (..., 1) for uniforms (..., 2): the first chooses the mode, the other makes the noise."""
    means = torch.tensor(MEANS, device=uniforms.device, dtype=uniforms.dtype)[label(uniforms)]
    return torch.add(means, torch.mul(torch.special.ndtri(uniforms[..., 1]), SD))[..., None]


def label(uniforms: Tensor) -> Tensor:
    """The modes (...,) that `sample` chooses by the same uniforms."""
    return (uniforms[..., 0] * len(MEANS)).long().clamp(max=len(MEANS) - 1)


def cumulative(x: Tensor) -> Tensor:
    """Probability of the data below x (...,), float64."""
    below: Tensor = torch.special.ndtr(_standard(x)).mean(-1)
    return below


def partial_mean(x: Tensor) -> Tensor:
    """Part E[X; X <= x] of the data's mean that lies below x (...,), float64."""
    z = _standard(x)
    density = torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi)
    below: Tensor = (z.new_tensor(MEANS) * torch.special.ndtr(z) - SD * density).mean(-1)
    return below


def _standard(x: Tensor) -> Tensor:
    x = x.double()
    return (x[..., None] - x.new_tensor(MEANS)) / SD


@functools.cache
def edges() -> Tensor:
    """Edges of the bins, shape (51,)."""
    return torch.linspace(LOW, HIGH, BINS + 1, dtype=torch.float64)


@functools.cache
def probabilities() -> Tensor:
    """Exact probabilities of the bins and, last, of what is outside of them: shape (51,)."""
    below = cumulative(edges())
    return torch.cat([below.diff(), 2 * below[:1]])  # the mixture is symmetric, and so are the bins


class Quantiles(NamedTuple):
    """Quantiles 0, 1/n, ..., 1 of the data, the outer ones infinite, and `partial_mean` there, (n + 1,) each."""

    points: Tensor
    parts: Tensor


@functools.cache
def quantiles(n: int) -> Quantiles:
    """Quantiles of the data, to the last bit."""
    share = torch.arange(1, n, dtype=torch.float64) / n
    low, high = torch.full_like(share, 2 * LOW), torch.full_like(share, 2 * HIGH)
    for _ in range(60):  # halvings of an interval of 20: to the last bit
        middle = (low + high) / 2
        below = cumulative(middle) < share
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    ends, far = share.new_zeros(1), share.new_full((1,), math.inf)  # the mean of all the data, too, is 0
    return Quantiles(torch.cat([-far, low, far]), torch.cat([ends, partial_mean(low), ends]))


def w1(x: Tensor) -> Tensor:
    """1-Wasserstein distance between samples (c, n, 1) and the data's distribution itself, exact, shape (c,)."""
    return w1_of_ordered(in_order(x[..., 0]))


def w1_of_ordered(x: Tensor) -> Tensor:
    """`w1` of samples (c, n) in increasing order.

    The i-th smallest of n samples answers for the quantiles from (i - 1)/n to i/n. Where the data's quantile function
    crosses that sample, the integral of the distance between them changes sign.
    """
    points, n = x.double(), x.shape[1]
    known = Quantiles(*(part.to(x.device) for part in quantiles(n)))
    lower, upper = known.parts[:-1], known.parts[1:]
    share = torch.arange(n + 1, dtype=torch.float64, device=x.device) / n
    # all its quantiles above the sample, or all below: the integral of quantiles less or more than the sample
    above, below = points <= known.points[:-1], points >= known.points[1:]
    distance = torch.where(above, (upper - lower) - points / n, points / n - (upper - lower))
    crossed = ~(above | below)
    at = points[crossed]
    _, place = crossed.nonzero().unbind(1)
    crossing = cumulative(at).clamp(share[place], share[place + 1])
    weight = 2 * crossing - share[place] - share[place + 1]
    distance[crossed] = at * weight - (2 * partial_mean(at) - lower[place] - upper[place])
    return finite_or_nan(distance.sum(1), x)


def evaluate(at: Snapshot) -> dict[str, Tensor]:
    """Metrics of generated samples (c, 2 * 4096, 1), each (c,); parameters are not looked at.

    The reference is the distribution itself, so there is no split to overfit; selection looks at the other half of the
    samples.
    """
    looked_at, kept_for_selection = (in_order(half) for half in torch.split(at.samples[..., 0], SAMPLES, 1))
    exact = probabilities().to(at.samples.device)
    shares = histogram_of_ordered(looked_at, edges())
    values = {
        "jsd_n4096": jsd(shares, exact),
        "kl_n4096": kl(shares, exact),
        "w1_n4096": w1_of_ordered(looked_at),
        "selection": jsd(histogram_of_ordered(kept_for_selection, edges()), exact),
    }
    return all_finite_or_nan(values, at.samples)


def mixture1d() -> Task:
    """The task `mixture1d`."""
    return Task(
        name="mixture1d",
        version=1,
        summary="four Gaussians on the line, at -3, -1, 1 and 3, standard deviation 0.4: how small is the divergence?",
        source="ours",
        shape=(1,),
        latent=1,
        batch=64,
        generator=mlp([1, 64, 64, 1]),
        discriminator=mlp([1, 64, 64, 1]),
        draws=2,
        sample=sample,
        label=label,
        classes=len(MEANS),
        metrics=("jsd_n4096", "kl_n4096", "w1_n4096"),
        primary="jsd_n4096",
        evaluation_samples=2 * SAMPLES,
        evaluation_steps=20,
        evaluate=evaluate,
        threshold=THRESHOLD,
        anchors=ANCHORS,
        reasoning=REASONING,
        controls=CONTROLS,
    )


THRESHOLD = 0.05

REASONING = (
    "The Jensen-Shannon divergence, in nats, of a histogram of 4096 samples to the exact probabilities of its bins. "
    "On one bounded scale it sees a missing mode, modes too wide or too narrow, a shift, and mass between modes. W1, "
    "in the column w1_n4096 and exact too, hardly sees the shape of modes and is mostly chance in their weights, but "
    "tells distances where the divergence is near its bound. Of real samples the divergence is 50 / (8 * 4096) = "
    "0.0015 on average to leading order, a little less because some bins are nearly empty. The threshold lies below "
    "the mildest failures, modes twice as wide and no modes at all (both 0.061, sd 0.002). One mode twice as heavy as"
    " the others passes; w1_n4096 sees it. Score 1 is that floor, score 0 the bound, log 2, which disjoint "
    "distributions have. kl_n4096 has the generator's histogram first; beyond the outer bins, where the data have "
    "1e-7, it pays 16 nats."
)

ANCHORS = (BINS / (8 * SAMPLES), math.log(2))

CONTROLS = (
    Control(name="real", value=0.0014, must="pass", why="chance in the counts per bin"),
    Control(name="one mode twice as heavy", value=0.0145, must=None, why="all modes there; w1_n4096 sees it"),
    Control(name="modes half as wide again", value=0.029, must=None, why="modes still apart"),
    Control(name="modes twice as wide", value=0.061, must="fail", why="joined up"),
    Control(name="modes half as wide", value=0.088, must="fail", why="collapsed within every mode"),
    Control(name="shifted by a standard deviation", value=0.087, must="fail", why="all modes off by 0.4"),
    Control(name="outer mode missing", value=0.094, must="fail", why="a quarter of the mass; W1 is 1.0"),
    Control(name="inner mode missing", value=0.092, must="fail", why="a quarter of the mass; W1 is 0.6"),
    Control(name="no modes", value=0.061, must="fail", why="uniform from -4 to 4"),
    Control(name="one Gaussian", value=0.098, must="fail", why="right mean and variance, no modes"),
    Control(name="one mode only", value=0.370, must="fail", why="collapse to a mode"),
    Control(name="constant", value=0.676, must="fail", why="collapse to the data's mean, between modes"),
    Control(name="far away", value=math.log(2), must="fail", why="the bound, from wherever; W1 tells how far"),
)

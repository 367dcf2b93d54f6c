"""Parallel manifolds: the data on a line or plane through the origin, the generator's start on a parallel one.

The idea that a GAN can reach a low-dimensional manifold along a path on which no divergence guides it is from Fedus et
al. (2018), where the generator's latent space may also have more dimensions than the manifold; dimensions, networks and
numbers are our own reconstruction. An affine generator's distribution is a Gaussian and its distance to the data has a
closed form; a perceptron's is measured on samples.
"""

from __future__ import annotations

import functools
import math
from dataclasses import replace
from typing import TYPE_CHECKING

from study.errors import UserError
from study.lazy import torch
from study.metrics.gaussian import distance_sq_affine, spread_affine, w2sq_affine
from study.metrics.manifold import (
    distance_sq_samples,
    lowest_spread_samples,
    spread_of,
    spread_samples,
    w2sq_moments,
)
from study.metrics.trials import all_finite_or_nan
from study.networks.base import Network, split
from study.networks.mlp import mlp
from study.prng import Role, key_words, normal, root_key
from study.tasks.base import Control, Snapshot, Task

if TYPE_CHECKING:
    from torch import Tensor


BATCH = 64
START_DISTANCE = 2.0
"""Distance of the starting manifold from the data's."""
START_NOISE = 0.05
"""Standard deviation of the starting weights about the data's."""
THRESHOLD = 0.2
NEAREST = 0.5
"""The least distance of a start: nearer, and it would be a milder failure than half of the spread."""
SAMPLES = 2048
"""Samples per value, where there is no closed form."""
AFFINE: tuple[str, ...] = ("w2sq", "distance_sq", "spread")
SAMPLED: tuple[str, ...] = ("w2sq_n2048", "distance_sq_n2048", "spread_n2048", "lowest_spread_n2048")
"""Names of metrics by parameters, and by samples."""
PRESETS = (2, 8, 32, 64)
"""Ambient dimensions of the tasks that have a name of their own."""


def manifold_dimension(d: int) -> int:
    """Dimension k of the data manifold in ambient dimension d, unless another is asked for."""
    return 1 if d == 2 else 2


def floor(k: int, n: int = BATCH) -> float:
    """Expected squared W2 between N(0, I_k) and a Gaussian fitted to n of its samples: k/n + k (k + 1) / (4 n).

    The mean errs by k/n. A covariance I + E costs |E|_F^2 / 4 to leading order, and E |E|_F^2 = k (k + 1) / n.
    """
    return k / n + k * (k + 1) / (4 * n)


def fitted_samples(k: int) -> int:
    """Real samples n that a Gaussian is fitted to for the low anchor: a batch for every three entries of a covariance.

    With one batch for any k the floor, which grows with k^2, would pass the threshold at k = 6.
    """
    return BATCH * max(3, k * (k + 1) // 2) // 3


@functools.cache
def frame(d: int, k: int = 0, basis: str = "axes") -> Tensor:
    """Orthonormal columns (d, k + 1): the data's basis A, and the direction of the offset at the start.

    The first coordinate axes, or some fixed directions drawn without regard to them. The choice matters: Adam scales
    each coordinate by itself, so in a basis that mixes them, (1, 1)/sqrt(2) say, the unpenalised loss no longer
    collapses along the line, and an offset spread over 64 coordinates is gone sooner than one along a single axis.
    """
    count = (k or manifold_dimension(d)) + 1
    if basis == "axes":
        return torch.eye(d)[:, :count]
    key = key_words([root_key("the manifold's random basis")])
    numbers = normal(key, role=Role.DATA, steps=range(1), updates=1, count=d * count).view(d, count).double()
    columns, corner = torch.linalg.qr(numbers)
    return torch.mul(columns, corner.diagonal().sign()).float()  # the one factorisation with a positive diagonal


def affine_generator(d: int, k: int, *, latent: int, start: str, offset: float, basis: str = "axes") -> Network:
    """The generator W z + b.

    A parallel start is near W = (A, 0) with b at the offset along its direction; the starting bias is not random, and
    the uniforms that fall to it are not used. The noise about W lifts samples by k d 0.05^2 (squared, on average)
    whatever the latent dimension. A random start is torch's: all weights uniform in +-1/sqrt(latent).
    """
    network = mlp([latent, d])
    noise = START_NOISE * math.sqrt(k / latent)

    def parallel(uniform: Tensor) -> dict[str, Tensor]:
        axes = frame(d, k, basis).to(uniform.device)
        weight = split(uniform, network.shapes)["weight0"]
        mean = torch.nn.functional.pad(axes[:, :k].T, (0, 0, 0, latent - k))
        return {
            "weight0": mean + noise * torch.special.ndtri(weight),
            "bias0": offset * axes[:, k].to(uniform.dtype),
        }

    initialise = parallel if start == "parallel" else network.initialise
    return Network(shapes=network.shapes, initialise=initialise, apply=network.apply)


def moved(network: Network, d: int, k: int, *, offset: float, basis: str = "axes") -> Network:
    """A perceptron whose last bias starts moved by the offset along its direction, also in any other form."""
    bias = f"bias{network.hidden}"

    def initialise(uniform: Tensor) -> dict[str, Tensor]:
        start = network.initialise(uniform)
        return start | {bias: start[bias] + offset * frame(d, k, basis)[:, k].to(uniform.device, uniform.dtype)}

    def rebuild(**changes: int | str | bool | None) -> Network:
        return moved(network.rebuild(**changes), d, k, offset=offset, basis=basis)

    return replace(network, initialise=initialise, rebuild=rebuild)


def sample(uniforms: Tensor, *, d: int, k: int = 0, basis: str = "axes") -> Tensor:
    """Real samples A u (..., d) for uniforms (..., k)."""
    columns = frame(d, k, basis)[:, :-1].to(uniforms.device)
    return torch.mul(torch.special.ndtri(uniforms)[..., None, :], columns).sum(-1)


def evaluate(at: Snapshot, *, d: int, k: int = 0, basis: str = "axes") -> dict[str, Tensor]:
    """Closed-form metrics of parameters (c, ...) of affine generators, each (c,); samples are not looked at.

    There is nothing to overfit in a closed form, so the selection metric is the primary itself.
    """
    weight, bias = at.parameters["weight0"].mT, at.parameters["bias0"]
    columns = frame(d, k, basis)[:, :-1].to(weight.device)
    w2sq = w2sq_affine(weight, bias, columns)
    return {
        "w2sq": w2sq,
        "distance_sq": distance_sq_affine(weight, bias, columns),
        "spread": spread_affine(weight, columns),
        "selection": w2sq,
    }


def evaluate_samples(at: Snapshot, *, d: int, k: int, basis: str = "axes") -> dict[str, Tensor]:
    """Metrics of generated samples (c, 2 * 2048, d), each (c,); parameters are not looked at.

    w2sq_n2048 compares moments: of a perfect sampler it is k/n + k (k + 1) / (4 n), n = 2048, on average, and it bounds
    the squared W2 distance from below. The reference is exact, so selection looks at the other half of the samples.
    """
    columns = frame(d, k, basis)[:, :-1].to(at.samples.device)
    looked_at, kept_for_selection = at.samples[:, :SAMPLES], at.samples[:, SAMPLES:]
    spread = spread_of(looked_at, columns)
    values = {
        "w2sq_n2048": w2sq_moments(looked_at, columns, spread),
        "distance_sq_n2048": distance_sq_samples(looked_at, columns),
        "spread_n2048": spread_samples(looked_at, columns, spread),
        "lowest_spread_n2048": lowest_spread_samples(looked_at, columns, spread),
        "selection": w2sq_moments(kept_for_selection, columns),
    }
    return all_finite_or_nan(values, at.samples)


def controls(k: int, offset: float = START_DISTANCE) -> tuple[Control, ...]:
    """The table of controls; all values are exact but the first, an expectation to leading order.

    Measured on n = 2048 samples they are higher by chance, by `floor(k, n)` on average or less.
    """
    n = fitted_samples(k)
    return (
        Control(
            name="fitted to one batch" if n == BATCH else f"fitted to {n} samples",
            value=floor(k, n),
            must="pass",
            why=f"the Gaussian fitted to {n} real samples; no {'batch' if n == BATCH else 'sample of that size'} "
            "can tell a generator from it",
        ),
        Control(
            name="half the spread", value=0.25 * k, must="fail", why="on the manifold, collapsed to half its scale"
        ),
        Control(
            name="one dimension missing",
            value=1.0,
            must="fail",
            why="on the manifold, no spread along one direction; the distance to the manifold says 0",
        ),
        Control(
            name="collapsed to a point",
            value=float(k),
            must="fail",
            why="every sample is the data's mean, on the manifold",
        ),
        Control(
            name="parallel manifold",
            value=offset**2,
            must="fail",
            why=f"right in shape, off by {offset:g}: the start but for noise",
        ),
    )


def preset(d: int, /) -> Task:
    """The task `manifold-d2`, `-d8`, `-d32` or `-d64`: an affine generator of as many dimensions as the data have."""
    k = manifold_dimension(d)
    task = _task(d, k, generator="affine", latent=k, start="parallel", offset=START_DISTANCE)
    return replace(task, name=f"manifold-d{d}")


def manifold(
    *,
    d: int = 128,
    k: int = 0,
    generator: str = "affine",
    latent: int = 0,
    start: str = "parallel",
    offset: float = START_DISTANCE,
    basis: str = "axes",
) -> Task:
    """The task `manifold`, the family that `manifold-d2` and the like are of.

    Args:
        d: Ambient dimension.
        k: Dimension of the data's manifold; 0 for `manifold_dimension`.
        generator: "affine", measured by its parameters, or "mlp", measured on samples.
        latent: Dimension of the generator's input; 0 for k.
        start: "parallel", off the manifold by the offset, or "random".
        offset: Distance at a parallel start.
        basis: "axes", the data along the first coordinate axes and the offset along the next, or "random" directions.

    Raises:
        UserError: For what cannot be, and for a second name of the same task.
    """
    _refuse(d, k, generator, latent, start, offset, basis)
    k = k or manifold_dimension(d)
    return _task(d, k, generator=generator, latent=latent or k, start=start, offset=offset, basis=basis)


def _refuse(d: int, k: int, generator: str, latent: int, start: str, offset: float, basis: str) -> None:
    usual = manifold_dimension(d)
    rules = [
        (d < 2, f"d = {d}: a manifold needs an ambient dimension of 2 or more"),
        (k and not 1 <= k < d, f"k = {k}: the manifold's dimension must be from 1 to {d - 1}, below d = {d}"),
        (k == usual, f"k = {k} is what d = {d} has anyway: leave it out"),
        (generator not in ("affine", "mlp"), f"generator = {generator!r}: choose from affine, mlp"),
        (
            latent and latent < (k or usual),
            f"latent = {latent}: it must be k = {k or usual} or more, to fill the manifold",
        ),
        (latent == (k or usual), f"latent = {latent} is k anyway: leave it out"),
        (start not in ("parallel", "random"), f"start = {start!r}: choose from parallel, random"),
        (basis not in ("axes", "random"), f"basis = {basis!r}: choose from axes, random"),
        (start == "random" and offset != START_DISTANCE, f"offset = {offset:g} is for start=parallel: leave it out"),
        (offset < NEAREST, f"offset = {offset:g}: the start must be off by {NEAREST:g} or more"),
        (
            d in PRESETS
            and (k, generator, latent, start, offset, basis) == (0, "affine", 0, "parallel", START_DISTANCE, "axes"),
            f"d = {d} and nothing else is the task manifold-d{d}: write that",
        ),
    ]
    for broken, sentence in rules:
        if broken:
            raise UserError(sentence)


def _task(d: int, k: int, *, generator: str, latent: int, start: str, offset: float, basis: str = "axes") -> Task:
    affine, parallel = generator == "affine", start == "parallel"
    metrics = AFFINE if affine else SAMPLED
    if affine:
        network = affine_generator(d, k, latent=latent, start=start, offset=offset, basis=basis)
    else:
        network = mlp([latent, 64, 64, d])
        network = moved(network, d, k, offset=offset, basis=basis) if parallel else network
    # What the start costs: its distance, and as a point the data's spread too. A random one is taken for a point at 0.
    high = (offset**2 if parallel else 0.0) + (0 if affine and parallel else k)
    width = "" if latent == k else f", with {latent} latent dimensions"
    width += "" if basis == "axes" else ", in directions that mix the coordinates"
    return Task(
        name="manifold",
        version=1,
        summary=(
            f"{'an affine generator' if affine else 'a perceptron'} has to reach a {k}-dimensional Gaussian in {d} "
            f"dimensions from a {start} start{f' {offset:g} away' if parallel else ''}{width}"
        ),
        source="idea: Fedus et al. (2018), Many Paths to Equilibrium; the reconstruction is ours",
        shape=(d,),
        latent=latent,
        batch=BATCH,
        generator=network,
        discriminator=mlp([d, 64, 64, 1]),
        draws=k,
        sample=functools.partial(sample, d=d, k=k, basis=basis),
        metrics=metrics,
        primary=metrics[0],
        evaluation_samples=0 if affine else 2 * SAMPLES,
        evaluation_steps=2 if affine else 20,
        evaluate=functools.partial(evaluate if affine else evaluate_samples, d=d, k=k, basis=basis),
        threshold=THRESHOLD,
        anchors=(floor(k, fitted_samples(k)), high),
        reasoning=_reasoning(k, affine=affine, parallel=parallel),
        controls=controls(k, offset),
    )


def _reasoning(k: int, *, affine: bool, parallel: bool) -> str:
    n = fitted_samples(k)
    form = (
        "The squared W2 distance has a closed form here and"
        if affine
        else "The squared W2 distance between Gaussians of the moments of 2048 samples and of the data, a lower bound,"
    )
    fitted = "one batch" if n == BATCH else f"{n} samples"
    high = "the start" if affine else "a point at the offset, which the start nearly is"
    return (
        f"{form} sees both distance and collapse; the distance to the manifold alone calls a collapsed generator a "
        f"success. The threshold lies below the mildest failure, half of the spread ({0.25 * k:g}). Score 1 is what "
        f"fitting a Gaussian to {fitted} would reach, 0 {high if parallel else 'all samples at the mean of the data'}."
        + ("" if affine else " Samples with the right moments and another shape pass.")
        + ("" if parallel else " With few dimensions, a start can be near the data by luck.")
    )

"""Parallel manifolds: the data on a line or plane through the origin, the generator's start on a parallel one.

The idea that a GAN can reach a low-dimensional manifold along a path on which no divergence guides it is from Fedus et
al. (2018); dimensions, networks and numbers are our own reconstruction. The generator is affine, so its distribution is
a Gaussian and its distance to the data has a closed form.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from study.lazy import torch
from study.metrics.gaussian import distance_sq_affine, spread_affine, w2sq_affine
from study.networks.base import Network, Parameters, split
from study.networks.mlp import mlp
from study.tasks.base import Control, Task

if TYPE_CHECKING:
    from torch import Tensor


BATCH = 64
START_DISTANCE = 2.0
"""Distance of the starting manifold from the data's."""
START_NOISE = 0.05
"""Standard deviation of the starting weights about the data's."""


def manifold_dimension(d: int) -> int:
    """Dimension k of the data manifold in ambient dimension d."""
    return 1 if d == 2 else 2


def floor(k: int, n: int = BATCH) -> float:
    """Expected squared W2 between N(0, I_k) and a Gaussian fitted to n of its samples: k/n + k (k + 1) / (4 n).

    The mean errs by k/n. A covariance I + E costs |E|_F^2 / 4 to leading order, and E |E|_F^2 = k (k + 1) / n.
    """
    return k / n + k * (k + 1) / (4 * n)


@functools.cache
def frame(d: int) -> Tensor:
    """Orthonormal columns (d, k + 1): the data's basis A, and the direction of the offset at the start.

    The first coordinate axes. The choice matters: Adam scales each coordinate by itself, so in a basis that mixes
    them, (1, 1)/sqrt(2) say, the unpenalised loss no longer collapses along the line.
    """
    return torch.eye(d)[:, : manifold_dimension(d) + 1]


def affine_generator(d: int) -> Network:
    """The generator W z + b, started near W = A with b at `START_DISTANCE` along the offset direction.

    The starting bias is not random; the uniforms that fall to it are not used.
    """
    k = manifold_dimension(d)
    network = mlp([k, d])

    def initialise(uniform: Tensor) -> dict[str, Tensor]:
        start = frame(d).to(uniform.device)
        weight = split(uniform, network.shapes)["weight0"]
        return {
            "weight0": start[:, :k].T + START_NOISE * torch.special.ndtri(weight),
            "bias0": START_DISTANCE * start[:, k].to(uniform.dtype),
        }

    return Network(shapes=network.shapes, initialise=initialise, apply=network.apply)


def sample(uniforms: Tensor, *, d: int) -> Tensor:
    """Real samples A u (..., d) for uniforms (..., k)."""
    basis = frame(d)[:, : manifold_dimension(d)].to(uniforms.device)
    return torch.mul(torch.special.ndtri(uniforms)[..., None, :], basis).sum(-1)


def evaluate(parameters: Parameters, samples: Tensor, *, d: int) -> dict[str, Tensor]:
    """Closed-form metrics of generator parameters (c, ...), each (c,); samples are not looked at.

    There is nothing to overfit in a closed form, so the selection metric is the primary itself.
    """
    weight, bias = parameters["weight0"].mT, parameters["bias0"]
    basis = frame(d)[:, : manifold_dimension(d)].to(weight.device)
    w2sq = w2sq_affine(weight, bias, basis)
    return {
        "w2sq": w2sq,
        "distance_sq": distance_sq_affine(weight, bias, basis),
        "spread": spread_affine(weight, basis),
        "selection": w2sq,
    }


def controls(d: int) -> tuple[Control, ...]:
    """The table of controls; all values are exact but the first, an expectation to leading order."""
    k = manifold_dimension(d)
    return (
        Control(
            name="fitted to one batch",
            value=floor(k),
            must="pass",
            why="the Gaussian fitted to 64 real samples; no batch can tell a generator from it",
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
            value=START_DISTANCE**2,
            must="fail",
            why="right in shape, off by 2: the start but for noise",
        ),
    )


def manifold(d: int) -> Task:
    """The task in ambient dimension d, a power of two."""
    k = manifold_dimension(d)
    return Task(
        name=f"manifold-d{d}",
        version=1,
        summary=f"an affine generator has to reach a {k}-dimensional Gaussian in {d} dimensions from a parallel start",
        source="idea: Fedus et al. (2018), Many Paths to Equilibrium; the reconstruction is ours",
        latent=k,
        batch=BATCH,
        generator=affine_generator(d),
        discriminator=mlp([d, 64, 64, 1]),
        draws=k,
        sample=functools.partial(sample, d=d),
        metrics=("w2sq", "distance_sq", "spread"),
        primary="w2sq",
        evaluation_samples=0,
        evaluate=functools.partial(evaluate, d=d),
        threshold=0.2,
        anchors=(floor(k), START_DISTANCE**2),
        reasoning=(
            "The squared W2 distance has a closed form here and sees both distance and collapse; the distance to the "
            "manifold alone calls a collapsed generator a success. The threshold lies below the mildest failure, half "
            f"of the spread ({0.25 * k:g}). Score 1 is what fitting a Gaussian to one batch would reach, 0 the start."
        ),
        controls=controls(d),
    )

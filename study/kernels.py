"""Kernels on critic features, and the maximum mean discrepancy (MMD) they define.

A kernel here is a function of squared distances. With k(x, y) read as k(|x - y|^2),

    MMD^2(p, q) = E k(x, x') + E k(y, y') - 2 E k(x, y)      x, x' ~ p and y, y' ~ q independent,

the squared distance between the means of p and q in the kernel's feature space (Gretton et al. 2012, lemma 6).
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import TYPE_CHECKING

from study.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

Kernel = Callable[["Tensor"], "Tensor"]
"""Maps squared distances of any shape to kernel values of that shape."""

BANDWIDTHS = (2.0, 5.0, 10.0, 20.0, 40.0, 80.0)
"""Standard deviations of the Gaussian mixture, from MMD GAN's code; Li et al. 2017 use 1, 2, 4, 8, 16."""
EXPONENTS = (0.1, 1.0, 10.0)
"""Exponents of the rational quadratic mixture, from MMD GAN's code, without its optional linear term."""
ROOT_EPSILON = 1e-5
"""Added inside the energy kernel's root, as in MMD GAN's code: at distance 0 the root has no derivative."""


def gaussian(squared: Tensor) -> Tensor:
    """Sum over s in BANDWIDTHS of exp(-d^2 / (2 s^2)): at most 6 (Binkowski et al. 2018, "mix_rbf" in the code)."""
    return functools.reduce(operator.add, [torch.exp(squared / (-2 * s**2)) for s in BANDWIDTHS])


def rational_quadratic(squared: Tensor) -> Tensor:
    """Sum over a in EXPONENTS of (1 + d^2 / (2 a))^-a: at most 3 (Binkowski et al. 2018, "mix_rq" in the code)."""
    return functools.reduce(operator.add, [(1 + squared / (2 * a)) ** -a for a in EXPONENTS])


def energy(squared: Tensor) -> Tensor:
    """-sqrt(d^2 + ROOT_EPSILON): its MMD^2 is the energy distance 2 E|x - y| - E|x - x'| - E|y - y'|.

    Unbounded: features twice as large give twice the MMD^2. The code adds |x| + |y|, which makes the kernel positive
    definite and cancels in MMD^2 and in the witness's slope (Binkowski et al. 2018, "distance" in the code).
    """
    return -torch.sqrt(squared + ROOT_EPSILON)


def squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """Squared Euclidean distances (m, n) between features (m, k) and (n, k).

    From inner products, since differences would need (m, n, k); about the mean of y, since inner products lose the
    digits of a common offset.

    Raises:
        ValueError: If the features are not two matrices of the same width.
    """
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1]:
        raise ValueError(f"a kernel needs features (m, k) and (n, k), got {tuple(x.shape)} and {tuple(y.shape)}")
    centre = y.mean(0).detach()  # distances do not depend on it, so neither do their derivatives
    x, y = x - centre, y - centre
    squared = x.square().sum(1)[:, None] + y.square().sum(1) - 2 * (x @ y.T)
    return squared.clamp(min=0)  # rounding


def mmd2_unbiased(kernel: Kernel, x: Tensor, y: Tensor) -> Tensor:
    """Unbiased estimate () of MMD^2 from features (m, k) and (n, k): a U-statistic, so it can be negative.

    Args:
        kernel: Of squared distances.
        x: Features of one sample, at least two rows.
        y: Features of the other, at least two rows.

    Raises:
        ValueError: If the features are not two matrices of the same width with two rows or more.

    Reference: Gretton et al. 2012, lemma 6.
    """
    if min(len(x), len(y)) < 2:
        raise ValueError(f"an unbiased MMD needs two samples or more on either side, got {len(x)} and {len(y)}")
    within = [_mean_off_diagonal(kernel(squared_distances(sample, sample))) for sample in (x, y)]
    return within[0] + within[1] - 2 * kernel(squared_distances(x, y)).mean()


def witness(kernel: Kernel, points: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """The function (p,) of points (p, k) that tells x (m, k) from y (n, k): mean k(point, x_j) - mean k(point, y_j).

    Large where x is denser. Reference: Gretton et al. 2012.
    """
    return kernel(squared_distances(points, x)).mean(1) - kernel(squared_distances(points, y)).mean(1)


def _mean_off_diagonal(gram: Tensor) -> Tensor:
    n = len(gram)
    return (gram.sum() - gram.diagonal().sum()) / (n * (n - 1))

"""Comparisons of features, whatever extractor they come from: all of them, in float64, without subsets or shuffling.

The Frechet distance is `gaussian.frechet`. The same names as for Inception features stand for other numbers on any
other extractor, so the extractor belongs in the name of a metric, as do n and the reference.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from study.lazy import torch
from study.metrics.trials import ROWS, distances, each, finite_or_nan, rows

if TYPE_CHECKING:
    from torch import Tensor


class Neighbourhoods(NamedTuple):
    """What `precision_recall` returns, each of shape (c,), a share.

    Attributes:
        precision: Samples within the k-th neighbour's distance of a reference point (Kynkäänniemi et al. 2019).
        recall: Reference points within the k-th neighbour's distance of a sample.
        coverage: Reference points that have a sample within their own k-th neighbour's distance (Naeem et al. 2020);
            a lone outlier among the samples, with its large ball, does not raise it.
    """

    precision: Tensor
    recall: Tensor
    coverage: Tensor


def kid(features: Tensor, reference: Tensor) -> Tensor:
    """Unbiased squared maximum mean discrepancy with the kernel (x.y / k + 1)^3 (Binkowski et al. 2018).

    The estimate from all pairs, of which torch-fidelity's mean over random subsets is a noisy version.

    Args:
        features: Shape (c, n, k), n at least 2.
        reference: Shape (m, k), finite, m at least 2.

    Returns:
        Shape (c,). Can be negative; of a perfect sampler the mean is 0 for any n.

    Raises:
        ValueError: If there are fewer than two samples on either side.
    """
    _require(features.shape[1], len(reference), minimum=2, what="an unbiased KID")
    reference = reference.double()
    own = _mean_off_diagonal(reference)

    def one(trial: Tensor) -> Tensor:
        return _mean_off_diagonal(trial) + own - 2 * rows(lambda part: _cubic(part @ reference.T, part), trial).mean()

    return finite_or_nan(each(one, features), features)


def inception_score(logits: Tensor, *, splits: int = 10) -> Tensor:
    """Inception score exp(E KL(p(y|x) || p(y))) (Salimans et al. 2016): from 1 to the number of classes.

    Args:
        logits: Shape (c, n, k), before the softmax.
        splits: Consecutive parts whose scores are averaged, each with a marginal p(y) of its own; samples are not
            shuffled, as they come in no order. The score rises with the size of a part.

    Returns:
        Shape (c,).

    Raises:
        ValueError: If there are fewer samples than splits.
    """
    n = logits.shape[1]
    _require(n, minimum=splits, what=f"an Inception score of {splits} splits")
    bounds = [i * n // splits for i in range(splits + 1)]

    def one(trial: Tensor) -> Tensor:
        scores = []
        for low, high in pairwise(bounds):
            conditional = trial[low:high].log_softmax(1)
            marginal = conditional.logsumexp(0) - math.log(high - low)
            scores.append((conditional.exp() * (conditional - marginal)).sum(1).mean().exp())
        return torch.stack(scores).mean()

    return finite_or_nan(each(one, logits), logits)


def precision_recall(features: Tensor, reference: Tensor, *, k: int = 3) -> Neighbourhoods:
    """Precision, recall and coverage by k-th nearest neighbours.

    A perfect sampler does not reach 1: of n samples against m = n, coverage is 1 - 2^-k on average.

    Args:
        features: Of samples, shape (c, n, f), n above k.
        reference: Of real data, shape (m, f), finite, m above k.
        k: The neighbour, not counting the point itself, whose distance is the radius of a point's ball.

    Raises:
        ValueError: If there are k samples or fewer on either side.
    """
    _require(features.shape[1], len(reference), minimum=k + 1, what=f"a {k}-th neighbour")
    reference = reference.double()
    real = _radii(reference, k)

    def one(trial: Tensor) -> Tensor:
        generated = _radii(trial, k)
        precise = torch.zeros(len(trial), dtype=torch.bool, device=trial.device)
        recalled, covered = [], []
        for points, radii in zip(torch.split(reference, ROWS), torch.split(real, ROWS), strict=True):
            between = distances(points, trial)
            inside = between <= radii[:, None]
            precise |= inside.any(0)
            recalled.append((between <= generated).any(1))
            covered.append(inside.any(1))
        return torch.stack([hit.double().mean() for hit in (precise, torch.cat(recalled), torch.cat(covered))])

    values = finite_or_nan(each(one, features).reshape(len(features), 3), features)
    return Neighbourhoods(*values.unbind(1))


def _radii(x: Tensor, k: int) -> Tensor:
    """Distance (n,) of each point (n, f) to its k-th nearest other one."""
    return rows(lambda part: distances(part, x).topk(k + 1, largest=False).values.amax(1), x)


def _cubic(products: Tensor, features: Tensor) -> Tensor:
    return (products / features.shape[1] + 1) ** 3


def _mean_off_diagonal(x: Tensor) -> Tensor:
    n = len(x)
    total = rows(lambda part: _cubic(part @ x.T, part).sum(1), x).sum()
    return (total - _cubic(x.square().sum(1), x).sum()) / (n * (n - 1))


def _require(*sizes: int, minimum: int, what: str) -> None:
    if min(sizes) < minimum:
        raise ValueError(f"{what} needs {minimum} samples or more, got {' and '.join(map(str, sizes))}")

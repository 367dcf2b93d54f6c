"""What stabilising techniques do to activations, weights and gradients: functions of one trial's tensors.

All are pure, run under `torch.func.vmap` and inside derivatives, and have finite derivatives where everything is zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Literal

from study.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor


NORMALISATION_EPSILON = 1e-5
"""Added to a variance before its root; the codes of Salimans et al. 2016 and of Gulrajani et al. 2017."""
TINY = 1e-12
"""A spectral norm below this counts as zero."""


def minibatch_similarity(m: Tensor) -> Tensor:
    """How close each sample is to the others of its batch (Salimans et al. 2016, section 3.2).

    Args:
        m: Shape (n, B, C): B kernels of C dimensions for each sample.

    Returns:
        Shape (n, B): sum over j != i of exp(-|m_i - m_j|_1) in each kernel. The paper's sum has the constant term j = i
        as well; the released code takes it out, as here.
    """
    distance = torch.zeros((), dtype=m.dtype, device=m.device)
    # one dimension after the other, samples last: C values for every pair at once do not fit a cache
    for x in m.permute(2, 1, 0).unbind(0):
        distance = distance + (x[:, :, None] - x[:, None, :]).abs()
    # masked, not subtracted: 1 + s - 1 rounds small similarities away
    others = 1 - torch.eye(len(m), dtype=m.dtype, device=m.device)
    return (torch.exp(-distance) * others).sum(-1).T


def batch_norm(x: Tensor, gain: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Batch normalisation (Ioffe and Szegedy 2015) as in training: by the batch's own statistics.

    Args:
        x: Shape (n, k), or maps (n, k, h, w), whose statistics are over samples and positions.
        gain: Shape (k,).
        bias: Shape (k,).

    Returns:
        The normalised batch, and the means (k,) and biased variances (k,) it was normalised by.
    """
    axes = (0, *_positions(x))
    mean = x.mean(axes, keepdim=True)
    centred = x - mean
    variance = centred.square().mean(axes, keepdim=True)
    result = _scaled(centred * torch.rsqrt(variance + NORMALISATION_EPSILON), gain, bias)
    return result, mean.flatten(), variance.flatten()


def batch_norm_self(x: Tensor, gain: Tensor, bias: Tensor) -> Tensor:
    """What `batch_norm` makes of a batch, alone."""
    return batch_norm(x, gain, bias)[0]


def batch_norm_by(x: Tensor, mean: Tensor, variance: Tensor, gain: Tensor, bias: Tensor) -> Tensor:
    """Batch normalisation as in evaluation: by given means (k,) and biased variances (k,); the rest as `batch_norm`."""
    scale = torch.rsqrt(variance + NORMALISATION_EPSILON)
    return _scaled((x - _per_channel(mean, x)) * _per_channel(scale, x), gain, bias)


def layer_norm(x: Tensor, gain: Tensor, bias: Tensor) -> Tensor:
    """Layer normalisation: each sample over all its channels and positions (Ba et al. 2016).

    Gain and bias (k,) belong to channels, as in the code of Gulrajani et al. 2017. Shapes as in `batch_norm`.
    """
    return _scaled(_standardised(x, (1, *_positions(x))), gain, bias)


def instance_norm(x: Tensor, gain: Tensor, bias: Tensor) -> Tensor:
    """Instance normalisation: each channel of each sample over its positions (Ulyanov et al. 2016); maps alone."""
    return _scaled(_standardised(x, _positions(x)), gain, bias)


def virtual_batch_norm(x: Tensor, reference: Tensor, gain: Tensor, bias: Tensor) -> Tensor:
    """Normalise each sample by the statistics of a reference batch and itself (Salimans et al. 2016, section 3.5).

    With w = 1/(n + 1), m = w x + (1 - w) mean(reference) and s = w x^2 + (1 - w) mean(reference^2), the result is
    (x - m) / sqrt(s - m^2 + eps) * gain + bias; in maps, x and x^2 in m and s are means over the sample's positions. A
    sample does not see the other samples of its batch.

    Args:
        x: Live samples (b, k) or (b, k, h, w).
        reference: The same layer's values for the reference batch, (n, k) or (n, k, h, w), themselves not yet
            normalised.
        gain: Shape (k,).
        bias: Shape (k,).

    Returns:
        The shape of `x`.
    """
    w, positions = 1 / (len(reference) + 1), _positions(x)
    axes = (0, *positions)
    mean = reference.mean(axes, keepdim=True)
    variance = (reference - mean).square().mean(axes, keepdim=True)
    own = x.mean(positions, keepdim=True) if positions else x
    offset = own - mean
    # x - m and s - m^2 written by the offset: the difference of squares can round to below zero
    mixed = (1 - w) * (variance + w * offset.square())
    centred = (1 - w) * offset
    if positions:
        within = x - own
        mixed = mixed + w * within.square().mean(positions, keepdim=True)
        centred = centred + within
    return _scaled(centred * torch.rsqrt(mixed + NORMALISATION_EPSILON), gain, bias)


def _positions(x: Tensor) -> tuple[int, ...]:
    return tuple(range(2, x.ndim))


def _per_channel(values: Tensor, x: Tensor) -> Tensor:
    return values.reshape(-1, *(1 for _ in _positions(x))) if x.ndim > 2 else values


def _scaled(x: Tensor, gain: Tensor, bias: Tensor) -> Tensor:
    return x * _per_channel(gain, x) + _per_channel(bias, x)


def _standardised(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    centred = x - x.mean(axes, keepdim=True)
    return centred * torch.rsqrt(centred.square().mean(axes, keepdim=True) + NORMALISATION_EPSILON)


def power_shapes(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Shapes of the vectors u of spectral normalisation, one per weight matrix; `split` cuts a flat state by them.

    A weight has shape (..., outputs) and is read as the matrix W (outputs, inputs); u has shape (outputs,).
    """
    return {name: shape[-1:] for name, shape in shapes.items() if len(shape) >= 2}


def power_size(shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Numbers in all the vectors u of parameters of these shapes, and uniforms needed to start them."""
    return sum(math.prod(shape) for shape in power_shapes(shapes).values())


def power_start(uniform: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Unit vectors u in directions drawn uniformly, from uniform numbers of `power_shapes`."""
    return {name: _direction(torch.special.ndtri(piece)) for name, piece in uniform.items()}


def power_iterate(parameters: Mapping[str, Tensor], u: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """One power iteration for each weight, v = W^T u / |W^T u| and u = W v / |W v|, through which no gradient flows.

    Miyato et al. 2018, algorithm 1: once per discriminator update, and not at generator steps or at evaluation.
    """
    updated = {}
    for name, old in u.items():
        matrix = _matrix(parameters[name].detach())
        new = _times(matrix, _direction(_times(matrix.T, old.detach())))
        # a vector that became zero would stay zero
        updated[name] = torch.where(torch.linalg.vector_norm(new) > TINY, _direction(new), old.detach())
    return updated


def spectrally_normalised(parameters: Mapping[str, Tensor], u: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Divide each weight that has a vector u by sigma = u^T W v, v = W^T u / |W^T u| (Miyato et al. 2018).

    Gradients flow through W in sigma, not through u and v. v is made from u anew, so that u alone is carried: sigma
    is half an iteration ahead of the published code's. A weight whose sigma is zero is left as it is.
    """
    return {name: _normalised(value, u[name]) if name in u else value for name, value in parameters.items()}


def _normalised(weight: Tensor, u: Tensor) -> Tensor:
    matrix, u = _matrix(weight), u.detach()
    v = _direction(_times(matrix.detach().T, u))
    sigma = (u * _times(matrix, v)).sum()
    return weight / torch.where(sigma > TINY, sigma, torch.ones_like(sigma))


def _times(matrix: Tensor, vector: Tensor) -> Tensor:
    # not @: of one row, a mapped product's last bits depend on where in memory the slot begins
    return (matrix * vector).sum(1)


def _matrix(weight: Tensor) -> Tensor:
    return weight.reshape(-1, weight.shape[-1]).transpose(0, 1)


def _direction(x: Tensor) -> Tensor:
    return x / _length(x)


def _length(x: Tensor) -> Tensor:
    # bounded inside the root: a norm has no second derivative at zero
    return torch.sqrt(x.square().sum().clamp(min=TINY**2))


def clip_gradients(gradients: Mapping[str, Tensor], bound: Tensor) -> dict[str, Tensor]:
    """Shrink each variable's gradient to a norm of at most `bound`, of shape () and positive.

    Per variable and not over all of them, as the code of Binkowski et al. 2018 (MMD GANs) does, with bound 1.
    """
    return {name: gradient * (bound / torch.maximum(_length(gradient), bound)) for name, gradient in gradients.items()}


_NORMS: dict[str, Callable[[Tensor], Tensor]] = {
    "squared": lambda difference: difference.square().sum(),
    "absolute": lambda difference: difference.abs().mean(),
}


def feature_distance(real: Tensor, fake: Tensor, norm: Literal["squared", "absolute"]) -> Tensor:
    """Distance () of the mean features of two batches (b, k), feature matching's loss for the generator.

    Salimans et al. 2016, section 3.1: the squared Euclidean distance in the text, the mean absolute difference in
    their code for CIFAR-10 and SVHN. Weight 1, in place of the adversarial loss.
    """
    return _NORMS[norm](real.mean(0) - fake.mean(0))


def mixture_weights(logits: Tensor) -> Tensor:
    """Probabilities (T,) of the members of a mixture with logits (T,) (Arora et al. 2017, MIX+GAN)."""
    return torch.softmax(logits, 0)


def mixture_entropy(logits: Tensor) -> Tensor:
    """-(1/T) sum log w of a mixture's probabilities w, shape (): smallest, log T, where they are equal.

    Both players add it to their losses, with weight 0.1 in the code of Arora et al. 2017.
    """
    return -torch.log_softmax(logits, 0).mean()


def mixture_choice(weights: Tensor, uniform: Tensor) -> Tensor:
    """Draw members of a mixture with probabilities (T,) by uniforms (b,): one-hot rows (b, T)."""
    # the last edge is left out: rounded below one, it would leave a row without a member
    edges = weights.cumsum(0)[:-1]
    index = (uniform[:, None] >= edges).sum(1)
    chosen: Tensor = index[:, None] == torch.arange(len(weights), device=weights.device)
    return chosen.to(weights.dtype)


def historical_distance(flat: Tensor, mean: Tensor) -> Tensor:
    """Squared distance () of parameters (p,) from their mean over time (p,) (Salimans et al. 2016, section 3.3)."""
    return (flat - mean).square().sum()


def running_mean(mean: Tensor, flat: Tensor, count: Tensor | int) -> Tensor:
    """The mean (p,) of one more vector than the `count` that `mean` is the mean of; any finite mean starts it."""
    return mean + (flat - mean) / (count + 1)

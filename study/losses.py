"""GAN losses on the critic's outputs, one value per sample where the loss has one; the training step takes the mean.

Notation: C is the critic's logit, D = sigmoid(C) its probability of "real", sp(t) = log(1 + exp(t)), r and f the real
and the generated samples, h(x) the critic's features. Every loss is to be minimised. Written with softplus, since
log(sigmoid) loses its gradient where the critic is confident.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from study.kernels import Kernel, energy, gaussian, mmd2_unbiased, rational_quadratic, witness
from study.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

FEATURES = 16
"""Width of the critic's last layer for the MMD losses, as in MMD GAN's code."""


def _logit(points: Tensor, _real: Tensor, _fake: Tensor) -> Tensor:
    return points


@dataclass(frozen=True, kw_only=True)
class Loss:
    """A pair of losses.

    Attributes:
        discriminator: Maps outputs on real and on generated samples to losses (b,), or () for the whole batch.
        generator: Maps outputs on generated and on real samples, in this order, to losses (b,) or ().
        sees_real: True where the generator's loss looks at its second argument.
        outputs: Width of the critic's last layer. At 1 the functions get outputs (b,), at k > 1 (b, k), and at None,
            which stands for the task's number of classes, (b, K).
        scalar: Maps outputs at points (m,) or (m, k), on real and on generated samples to (m,): the function of x
            whose slope gradient penalties look at.
        probability: True where sigmoid(scalar) is the discriminator's probability of "real".
        smoothed: The discriminator's loss with the targets 1 - smoothing on real and 0 on generated samples: maps
            outputs on real and on generated samples and smoothing () to losses (b,). None where targets are no
            probabilities.
        supervised: Maps outputs (b, K) and labels (b,), int64 with -1 for unlabelled, to a loss () that is added to
            the discriminator's.
        hyperparameters: The hyperparameters it adds, with their published (or, where it says so, our) values.
        direct: True where the functions get the samples themselves, (b, d), and the discriminator plays no part.
        value: True where the two losses are a game's value and its negative, for tasks that are games without data.
        needs_lipschitz: True where the loss is meaningless without a device that bounds the critic's slope.
        formula: Both losses in a line.
        source: Paper and section.
        pitfalls: What is easily got wrong, and which codes differ.

    Outputs that would be broadcast against each other raise ValueError.
    """

    discriminator: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[[Tensor, Tensor], Tensor]
    sees_real: bool = False
    outputs: int | None = 1
    scalar: Callable[[Tensor, Tensor, Tensor], Tensor] = _logit
    probability: bool = False
    smoothed: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None
    supervised: Callable[[Tensor, Tensor], Tensor] | None = None
    hyperparameters: Mapping[str, float] = field(default_factory=dict)
    direct: bool = False
    value: bool = False
    needs_lipschitz: bool = False
    formula: str
    source: str
    pitfalls: str


Pair = Callable[["Tensor", "Tensor"], "Tensor"]


def _aligned(loss: Pair) -> Pair:
    """The same loss, refusing (b,) against (b, 1): their difference would silently be (b, b)."""

    def checked(first: Tensor, second: Tensor) -> Tensor:
        if first.ndim != 1 or first.shape != second.shape:
            shapes = f"{tuple(first.shape)} and {tuple(second.shape)}"
            raise ValueError(f"a loss needs one logit per sample, (b,) for real and for generated ones, got {shapes}")
        return loss(first, second)

    return checked


def _sp(t: Tensor) -> Tensor:
    return torch.nn.functional.softplus(t)


@_aligned
def _cross_entropy(real: Tensor, fake: Tensor) -> Tensor:
    return _sp(-real) + _sp(fake)


def _cross_entropy_smoothed(real: Tensor, fake: Tensor, smoothing: Tensor) -> Tensor:
    # (1 - s) sp(-C) + s sp(C) = sp(-C) + s C
    return _cross_entropy(real, fake) + smoothing * real


@_aligned
def _relativistic(winner: Tensor, loser: Tensor) -> Tensor:
    return _sp(loser - winner)


@_aligned
def _relativistic_average(winner: Tensor, loser: Tensor) -> Tensor:
    return (_sp(loser.mean() - winner) + _sp(loser - winner.mean())) / 2


def _log_evidence(classes: Tensor) -> Tensor:
    return torch.logsumexp(classes, -1)


def _class_cross_entropy(classes: Tensor, labels: Tensor) -> Tensor:
    labelled = (labels >= 0).to(classes.dtype)
    each = torch.nn.functional.cross_entropy(classes, labels.clamp(min=0), reduction="none")
    return (labelled * each).sum() / labelled.sum().clamp(min=1)


def _mmd(kernel: Kernel, *, formula: str, needs_lipschitz: bool, pitfalls: str) -> Loss:
    return Loss(
        discriminator=lambda real, fake: -mmd2_unbiased(kernel, real, fake),
        generator=lambda fake, real: mmd2_unbiased(kernel, real, fake),
        sees_real=True,
        outputs=FEATURES,
        scalar=lambda points, real, fake: witness(kernel, points, real, fake),
        needs_lipschitz=needs_lipschitz,
        formula=f"L_D = -MMD^2_u(h(r), h(f));  L_G = MMD^2_u(h(r), h(f));  {formula}",
        source="Li et al. 2017; Binkowski et al. 2018, with the constants of the latter's code",
        pitfalls=f"The unbiased estimate can be negative: no clamp, no root. Penalties act on the witness. {pitfalls}",
    )


_BOUNDED = (
    "The published critic also has a penalty of weight 1 on the witness's slope and one on its activations; the "
    "code's "
    "defaults for both are 0."
)

LOSSES: dict[str, Loss] = {
    "mm": Loss(
        discriminator=_cross_entropy,
        generator=lambda fake, _real: -_sp(fake),
        probability=True,
        smoothed=_cross_entropy_smoothed,
        formula="L_D = E sp(-C(r)) + E sp(C(f));  L_G = -E sp(C(f))",
        source="Goodfellow et al. 2014, eq. 1 (minimax, saturating)",
        pitfalls="mimicry's minimax generator loss is ns. TF-GAN smooths the real targets by default.",
    ),
    "ns": Loss(
        discriminator=_cross_entropy,
        generator=lambda fake, _real: _sp(-fake),
        probability=True,
        smoothed=_cross_entropy_smoothed,
        formula="L_D = E sp(-C(r)) + E sp(C(f));  L_G = E sp(-C(f))",
        source="Goodfellow et al. 2014, section 3 (non-saturating)",
        pitfalls="Some codes halve L_D. Smoothing belongs to L_D's real side; TF-GAN's 0.25 gives a target of 0.875.",
    ),
    "wgan": Loss(
        discriminator=_aligned(lambda real, fake: fake - real),
        generator=lambda fake, _real: -fake,
        needs_lipschitz=True,
        formula="L_D = E C(f) - E C(r);  L_G = -E C(f)",
        source="Arjovsky, Chintala and Bottou 2017, algorithm 1 (Wasserstein)",
        pitfalls="-L_D is a distance up to an unknown scale. GAN_stability's critic has the opposite sign.",
    ),
    "lsgan": Loss(
        discriminator=_aligned(lambda real, fake: ((real - 1).square() + fake.square()) / 2),
        generator=lambda fake, _real: (fake - 1).square() / 2,
        formula="L_D = 1/2 E (C(r) - 1)^2 + 1/2 E C(f)^2;  L_G = 1/2 E (C(f) - 1)^2",
        source="Mao et al. 2017, 0-1 coding",
        pitfalls="Not the coding that minimises Pearson's chi^2. compare_gan codes sigmoid(C); others drop a half.",
    ),
    "lsgan-pearson": Loss(
        discriminator=_aligned(lambda real, fake: ((real - 1).square() + (fake + 1).square()) / 2),
        generator=lambda fake, _real: fake.square() / 2,
        formula="L_D = 1/2 E (C(r) - 1)^2 + 1/2 E (C(f) + 1)^2;  L_G = 1/2 E C(f)^2",
        source="Mao et al. 2017, coding a = -1, b = 1, c = 0 (Pearson's chi^2)",
        pitfalls="The generator aims at 0, not at 1; the divergence needs b - c = 1 and b - a = 2.",
    ),
    "hinge": Loss(
        discriminator=_aligned(lambda real, fake: torch.relu(1 - real) + torch.relu(1 + fake)),
        generator=lambda fake, _real: -fake,
        formula="L_D = E relu(1 - C(r)) + E relu(1 + C(f));  L_G = -E C(f)",
        source="Lim and Ye 2017 (geometric GAN), large-sample limit",
        pitfalls="The generator has no hinge; one code gives it relu(1 - C(f)). At C = 0 and at equilibrium L_D is 2.",
    ),
    "rpgan": Loss(
        discriminator=_relativistic,
        generator=_relativistic,
        sees_real=True,
        formula="L_D = E sp(-(C(r_i) - C(f_i)));  L_G = E sp(-(C(f_i) - C(r_i)))",
        source="Jolicoeur-Martineau 2019; Huang et al. 2024 (R3GAN), the code",
        pitfalls=(
            "Pairs in order, not all pairs; one objective for both players in R3GAN's text, this swap in its code. "
            "C matters up to a constant: accuracy at threshold 0 means nothing."
        ),
    ),
    "ragan": Loss(
        discriminator=_relativistic_average,
        generator=_relativistic_average,
        sees_real=True,
        formula="L_D = 1/2 [E sp(-(C(r) - mean C(f))) + E sp(C(f) - mean C(r))];  L_G = the same with r and f swapped",
        source="Jolicoeur-Martineau 2019, with the 1/2 of the author's code",
        pitfalls=(
            "The author's README feeds mean C(f) - C(r) into the second term, which is the first term again. "
            "C matters up to a constant."
        ),
    ),
    "mmd-rbf": _mmd(
        gaussian,
        formula="k = sum exp(-d^2 / (2 s^2)), s in 2, 5, 10, 20, 40, 80",
        needs_lipschitz=False,
        pitfalls=f"Flat where features are far apart for every s. {_BOUNDED}",
    ),
    "mmd-rq": _mmd(
        rational_quadratic,
        formula="k = sum (1 + d^2 / (2 a))^-a, a in 0.1, 1, 10",
        needs_lipschitz=False,
        pitfalls=f"The code's mix_rq_dot adds a linear term. {_BOUNDED}",
    ),
    "mmd-energy": _mmd(
        energy,
        formula="k = -d, so MMD^2 = 2 E|h(r) - h(f)| - E|h(r) - h(r')| - E|h(f) - h(f')|",
        needs_lipschitz=True,  # ours: doubling the features doubles the loss, so the critic gains without bound
        pitfalls="Grows with the scale of the features. d is sqrt(d^2 + 1e-5): the root has no slope at 0.",
    ),
    "ssl": Loss(
        discriminator=lambda real, fake: _cross_entropy(_log_evidence(real), _log_evidence(fake)) / 2,
        generator=lambda fake, _real: _sp(-_log_evidence(fake)),
        outputs=None,
        scalar=lambda points, _real, _fake: _log_evidence(points),
        probability=True,
        smoothed=lambda real, fake, smoothing: (
            _cross_entropy_smoothed(_log_evidence(real), _log_evidence(fake), smoothing) / 2
        ),
        supervised=_class_cross_entropy,
        hyperparameters={"labelled": 100},
        formula=(
            "D = Z / (Z + 1), Z = sum_k exp l_k;  L_D = 1/2 E sp(-log Z(r)) + 1/2 E sp(log Z(f)) + E_labelled "
            "[log Z - l_y];  L_G = E sp(-log Z(f))"
        ),
        source="Salimans et al. 2016, semi-supervised learning, with the 1/2 of the authors' code",
        pitfalls=(
            "K logits, not K + 1: l_{K+1} is fixed at 0. The authors train the generator by feature matching "
            "instead. The paper's loss has no 1/2. Of the batch's real samples those count as labelled that are among "
            "the first `labelled` of the data, as many of each class, where theirs come in batches of their own; of "
            "data without end all are. Without labels it is ns with half the discriminator's loss."
        ),
    ),
    "energy": Loss(
        discriminator=lambda real, fake: -mmd2_unbiased(energy, real, fake),
        generator=lambda fake, real: mmd2_unbiased(energy, real, fake),
        sees_real=True,
        scalar=lambda points, real, fake: witness(energy, points, real, fake),
        direct=True,
        formula="L_G = 2 E |r - f| - E |r - r'| - E |f - f'| over the batch;  the discriminator stands still",
        source="Szekely and Rizzo 2013 (energy distance); as a control arm: ours",
        pitfalls="No adversary: a divergence minimised directly, the control for claims about paths. |d| is "
        "sqrt(|d|^2 + 1e-5), as in mmd-energy, which has it on features.",
    ),
    "zerosum": Loss(
        discriminator=_aligned(lambda real, fake: fake - real),
        generator=lambda fake, _real: -fake,
        value=True,
        formula="L_D = E C(f) - E C(r);  L_G = -E C(f): the value of a game between two players, and its negative",
        source="Barnett 2018 and Salimans et al. 2016, section 3.3, for games without data",
        pitfalls="wgan without its condition on slopes; for tasks that are games, refused for all others.",
    ),
}

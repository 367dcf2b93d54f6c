"""GAN losses, on discriminator logits, one value per sample; the training step takes the mean.

Notation: C is the discriminator's logit, D = sigmoid(C) its probability of "real", sp(t) = log(1 + exp(t)). Every loss
is to be minimised. Written with softplus, since log(sigmoid) loses its gradient where the discriminator is confident.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from study.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Loss:
    """A pair of losses.

    Attributes:
        discriminator: Maps logits on real (b,) and on generated samples (b,) to the discriminator's losses (b,).
        generator: Maps logits on generated samples (b,) to the generator's losses (b,).
        needs_lipschitz: True where the loss is meaningless without a device that bounds the discriminator's slope.
        formula: Both losses in a line.
        source: Paper and section.
    """

    discriminator: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[[Tensor], Tensor]
    needs_lipschitz: bool
    formula: str
    source: str


def _cross_entropy(real: Tensor, fake: Tensor) -> Tensor:
    return torch.nn.functional.softplus(-real) + torch.nn.functional.softplus(fake)


LOSSES: dict[str, Loss] = {
    "mm": Loss(
        discriminator=_cross_entropy,
        generator=lambda fake: -torch.nn.functional.softplus(fake),
        needs_lipschitz=False,
        formula="L_D = E sp(-C(real)) + E sp(C(fake));  L_G = -E sp(C(fake))",
        source="Goodfellow et al. 2014, eq. 1 (minimax, saturating)",
    ),
    "ns": Loss(
        discriminator=_cross_entropy,
        generator=lambda fake: torch.nn.functional.softplus(-fake),
        needs_lipschitz=False,
        formula="L_D = E sp(-C(real)) + E sp(C(fake));  L_G = E sp(-C(fake))",
        source="Goodfellow et al. 2014, section 3 (non-saturating)",
    ),
    "wgan": Loss(
        discriminator=lambda real, fake: fake - real,
        generator=lambda fake: -fake,
        needs_lipschitz=True,
        formula="L_D = E C(fake) - E C(real);  L_G = -E C(fake)",
        source="Arjovsky, Chintala and Bottou 2017, algorithm 1 (Wasserstein)",
    ),
}

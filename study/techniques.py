"""What a method may have beside its loss and penalty: constraints, training techniques and ways to move."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Technique:
    """A further part of a method.

    Attributes:
        hyperparameters: The hyperparameters it adds, with their published (or, where it says so, our) values.
        bounds_slope: True where it makes a Wasserstein loss meaningful.
        formula: In a line.
        source: Paper and section.
        pitfalls: What is easily got wrong, and what codes do differently.
    """

    hyperparameters: Mapping[str, float] = field(default_factory=dict)
    bounds_slope: bool = False
    formula: str
    source: str
    pitfalls: str


FEATURE_MATCHING: dict[str, tuple[int, Literal["squared", "absolute"]]] = {
    "fm": (-1, "squared"),
    "fm-l1": (-1, "absolute"),
    "fm-first": (0, "squared"),
}
"""Feature matching: which hidden layer of the discriminator, in which norm."""
MIXTURE = 5
"""Generators and discriminators of a mixture; the MIX+GAN authors' code."""

MIXTURES = {"mix": MIXTURE, "mix3": 3}
"""Techniques that mix networks: how many of each player's."""


def _mixture(count: int) -> Technique:
    return Technique(
        hyperparameters={"mix_entropy": 0.1},
        formula=f"{count} generators, {count} discriminators: sum_ij w_i v_j L(D_j, G_i) for both players, each "
        f"plus mix_entropy (-1/{count}) sum log of its own weights",
        source="Arora et al. 2017 (MIX+GAN), in the form of the authors' code",
        pitfalls="the weights are trained parameters with a gradient of their own; samples come from generator i "
        "with "
        "probability w_i; the authors' threshold on the discriminator's loss is left out; with fm or mmd, "
        "which are not linear in the samples' law, every generator matches all of the data; history and ema act "
        "on the "
        "weights' logits too",
    )


TECHNIQUES: dict[str, Technique] = {
    "clip": Technique(
        hyperparameters={"clip": 0.01},
        bounds_slope=True,
        formula="every discriminator parameter clamped to [-clip, clip] after each of its updates and, ours, "
        "before the first",
        source="Arjovsky, Chintala and Bottou 2017, algorithm 1",
        pitfalls="biases too; the critic's value estimates the Wasserstein distance only up to an unknown scale",
    ),
    "cond": Technique(
        formula="the generator gets z and an embedding of the class, divided by its length; the discriminator has a "
        "logit for each class, of which the sample's own counts",
        source="Mescheder, Geiger and Nowozin 2018, authors' code; Thanh-Tung and Tran 2019 for ImageNet",
        pitfalls="needs data with classes; generated samples of a discriminator update are asked for the classes of "
        "the real ones beside them, those of a generator update for classes drawn like the data's; the embedding is as "
        "wide as z, theirs 256",
    ),
    "sn": Technique(
        bounds_slope=True,
        formula="every weight matrix of the discriminator, the last too, divided by its largest singular value",
        source="Miyato et al. 2018, algorithm 1",
        pitfalls="one power iteration before each discriminator update, none before the generator's; the gradient "
        "flows through the singular value but not through its vectors; the right vector follows from the left at "
        "every "
        "use, half an iteration ahead of published codes",
    ),
    "gradclip": Technique(
        hyperparameters={"grad_clip": 1.0},
        formula="the gradient of each variable of both players scaled down to norm at most grad_clip",
        source="Binkowski et al. 2018 (MMD GANs), authors' code",
        pitfalls="each variable by itself, not the norm of all together",
    ),
    "minibatch": Technique(
        formula="the last layer sees the features f and o_b(x_i) = sum over j != i of exp(-|M_ib - M_jb|_1), M = f T",
        source="Salimans et al. 2016, section 3.2; 16 kernels of 5 dimensions for small networks are ours, theirs 100",
        pitfalls="real and generated batches go through separately; the self term is left out, as in their code; the "
        "discriminator's output depends on the batch; T starts like any weight, theirs is normalised with a "
        "learned scale "
        "and a start that depends on the data",
    ),
    "smooth": Technique(
        hyperparameters={"smoothing": 0.1},
        formula="the discriminator's target of real samples is 1 - smoothing, of generated ones 0",
        source="Salimans et al. 2016, section 3.4",
        pitfalls="one-sided, and in the discriminator's loss alone; TensorFlow's GAN library smooths by 0.25 towards "
        "1/2 unless told not to",
    ),
    "noise": Technique(
        hyperparameters={"instance_noise": 0.1},
        formula="N(0, s^2 I) on every input of the discriminator, s = instance_noise (1 - share of the budget spent)",
        source="Sonderby et al. 2017 and Arjovsky and Bottou 2017, section 3; 0.1 and the linear schedule are ours",
        pitfalls="in units of the data: its meaning changes with their scale; a penalty's points are made of "
        "noisy samples",
    ),
    "history": Technique(
        hyperparameters={"history_weight": 0.1},
        formula="each player's loss gains history_weight |w - mean of its past w|^2",
        source="Salimans et al. 2016, section 3.3; no weight is given there, 0.1 is ours",
        pitfalls="a large weight freezes the players at their past",
    ),
    "vbn": Technique(
        formula="hidden layers of the generator normalised by a fixed reference batch and the sample itself",
        source="Salimans et al. 2016, section 3.5, in the form of the authors' code",
        pitfalls="the reference batch goes through all layers at every step, its activations change with the weights",
    ),
    "fm": Technique(
        formula="L_G = |mean h(real) - mean h(fake)|_2^2, h the discriminator's last hidden layer",
        source="Salimans et al. 2016, section 3.1",
        pitfalls="replaces the generator's loss, whatever the discriminator's; h is without minibatch's similarities",
    ),
    "fm-l1": Technique(
        formula="L_G = mean over units of |mean h(real) - mean h(fake)|, h the discriminator's last hidden layer",
        source="Salimans et al. 2016, in the form of the authors' code for semi-supervised learning",
        pitfalls="replaces the generator's loss, whatever the discriminator's; h is without minibatch's similarities",
    ),
    "fm-first": Technique(
        formula="L_G = |mean h(real) - mean h(fake)|_2^2, h the discriminator's first hidden layer",
        source="Salimans et al. 2016, section 3.1; the layer is ours",
        pitfalls="replaces the generator's loss, whatever the discriminator's; h is without minibatch's similarities",
    ),
    "mix": _mixture(MIXTURES["mix"]),
    "mix3": _mixture(MIXTURES["mix3"]),
    "consensus": Technique(
        hyperparameters={"consensus_weight": 1.0},
        formula="both players' losses gain consensus_weight / 2 |v|^2, v = (grad_G L_G, grad_D L_D)",
        source="Mescheder, Nowozin and Geiger 2017; the weight is that of Mescheder et al. 2018's Dirac-GAN code",
        pitfalls="a penalty is part of L_D here, but its points are not differentiated",
    ),
    "simultaneous": Technique(
        formula="the generator and the discriminator's last update move from the same point",
        source="the usual setting of game theory, one of two in Mescheder et al. 2018; without it, players alternate",
        pitfalls="with n_critic above 1, the updates before the last are the discriminator's alone",
    ),
    "extragradient": Technique(
        formula="both players step, and the gradients at that point move them from where they were",
        source="Korpelevich 1976; Gidel et al. 2019; the same batch serves both gradients and moments move once (ours)",
        pitfalls="both players move at once; twice the cost of the last update",
    ),
    "optimistic": Technique(
        formula="w <- w + 2 step_t - step_(t-1), step being what the optimiser would add",
        source="Daskalakis et al. 2018, algorithm 1 with Adam; with sgd at beta1 0 it is optimistic gradient descent",
        pitfalls="the first step is a plain one (ours; algorithm 1 doubles it)",
    ),
    "ema": Technique(
        hyperparameters={"ema_decay": 0.999},
        formula="what is measured is the generator's moving average, average <- d average + (1 - d) parameters",
        source="Yazici et al. 2019; decay 0.999 as in Mescheder et al. 2018's code",
        pitfalls="training is untouched; a short run remembers its start: 0.999^1000 is 0.37",
    ),
    "average": Technique(
        formula="what is measured is the mean of the generator's parameters over all steps",
        source="averaging of no-regret learning, Freund and Schapire 1999",
        pitfalls="guarantees hold for convex games; networks are not",
    ),
}

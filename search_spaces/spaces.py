"""Named priors, each range with its source. A statement about robustness always names its prior."""

from __future__ import annotations

from dataclasses import dataclass

from search_spaces.domains import Choice, Cross, Domain, Fixed, LogUniform, Uniform, When

LUCIC = "Lucic et al. 2018, wide range, as in the authors' code (compare_gan v1)"
LUCIC_NARROW = "Lucic et al. 2018, narrow range, as in the authors' code (compare_gan v1)"
OURS = "chosen here, no paper's range"


@dataclass(frozen=True)
class Space:
    """A named prior.

    Attributes:
        summary: One line.
        domains: Hyperparameter to domain.
        sources: Hyperparameter to where its range comes from.
    """

    summary: str
    domains: dict[str, Domain | When]
    sources: dict[str, str]


ONE_CENTRED = (
    "gp1",
    "gp1-real",
    "lp",
    "dragan",
    "dragan-gauss",
    "dragan-prob",
    "dragan-sym",
    "witness",
)
ZERO_CENTRED = ("gp0", "gp0-real")
HALVED = ("r1", "r2", "r1+r2")


def _weights(one_centred: Domain, zero_centred: Domain, halved: Domain, on_probability: Domain) -> When:
    ranges = ((ONE_CENTRED, one_centred), (ZERO_CENTRED, zero_centred), (HALVED, halved))
    cases: dict[str, Domain] = {name: domain for names, domain in ranges for name in names}
    cases["gp0-prob"] = on_probability  # a weight of 16 there is 1 on the logit
    return When(name="penalty", cases=cases, otherwise=one_centred)


TECHNIQUES: dict[str, Domain] = {
    "smoothing": Uniform(0.0, 0.3),
    "instance_noise": LogUniform(0.01, 1.0),
    "history_weight": LogUniform(1e-3, 1.0),
    "ema_decay": Choice((0.9, 0.99, 0.999)),
    "grad_clip": LogUniform(0.1, 10.0),
    "consensus_weight": LogUniform(0.01, 10.0),
    "mix_entropy": LogUniform(0.01, 1.0),
}
"""What the wide prior draws for techniques; only methods that have one look at its number."""


SPACES: dict[str, Space] = {
    "lucic_wide": Space(
        summary="the optimisation rows of the wide range of Lucic et al. 2018",
        domains={
            "lr": LogUniform(1e-5, 1e-2),
            "beta1": Uniform(0.0, 1.0),
            "beta2": Fixed(0.999),
            "n_critic": Cross((1, 5)),
            "penalty_weight": _weights(
                LogUniform(0.1, 100.0), LogUniform(0.01, 100.0), LogUniform(0.01, 100.0), LogUniform(1.0, 1000.0)
            ),
            "clip": LogUniform(1e-3, 1.0),
            "noise_scale": LogUniform(0.05, 2.0),
            **TECHNIQUES,
        },
        sources={
            "lr": LUCIC,
            "beta1": LUCIC,
            "beta2": "the library default that study left unchanged",
            "n_critic": LUCIC + "; crossed here, drawn there",
            "penalty_weight": LUCIC + " for the one-centred; zero-centred and halved " + OURS,
            "clip": LUCIC,
            "noise_scale": OURS,
            **dict.fromkeys(TECHNIQUES, OURS),
        },
    ),
    "narrow": Space(
        summary="around common settings: a decade of learning rates, few decay rates, moderate weights",
        domains={
            "lr": LogUniform(1e-4, 1e-3),
            "beta1": Choice((0.0, 0.5)),
            "beta2": Choice((0.9, 0.99, 0.999)),
            "n_critic": Cross((1, 2, 5)),
            "penalty_weight": _weights(
                LogUniform(1.0, 10.0), LogUniform(0.1, 10.0), LogUniform(0.1, 20.0), Choice((10.0, 100.0, 500.0))
            ),
            "clip": LogUniform(1e-2, 1.0),
        },
        sources={
            "lr": LUCIC_NARROW,
            "beta1": OURS,
            "beta2": OURS,
            "n_critic": OURS,
            "penalty_weight": LUCIC_NARROW + " for the one-centred; zero-centred and halved " + OURS,
            "clip": LUCIC_NARROW,
        },
    ),
    "published_grid": Space(
        summary="values that published studies fixed, for a grid design",
        domains={
            "lr": Choice((1e-4, 2e-4, 1e-3)),
            "beta1": Choice((0.0, 0.5, 0.9)),
            "beta2": Choice((0.9, 0.999)),
            "n_critic": Cross((1, 5)),
            "penalty_weight": _weights(
                Choice((1.0, 10.0)), Choice((1.0, 10.0)), Choice((0.1, 1.0, 20.0)), Fixed(100.0)
            ),
            "clip": Choice((0.01, 0.1)),
        },
        sources={
            "lr": "Miyato et al. 2018, settings A to F, section 4",
            "beta1": "Miyato et al. 2018, settings A to F; 0 from Gulrajani et al. 2017, algorithm 1",
            "beta2": "Miyato et al. 2018, settings A to F",
            "n_critic": "Miyato et al. 2018, settings A to F",
            "penalty_weight": OURS,
            "clip": "0.01 from Arjovsky, Chintala and Bottou 2017; 0.1 " + OURS,
        },
    ),
}

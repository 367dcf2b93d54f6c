"""Every loss against values worked out by hand; adding a loss without an oracle fails here."""

import math

import pytest
import torch

from study.losses import LOSSES

REAL, FAKE = [2.0, -1.0, 0.5], [-1.5, 0.3, -2.0]


def sp(t):
    """log(1 + exp t), for moderate t."""
    return math.log1p(math.exp(t))


def mean(values):
    return sum(values) / len(values)


CROSS_ENTROPY = mean([sp(-c) for c in REAL]) + mean([sp(c) for c in FAKE])
# loss on REAL and FAKE: discriminator, generator (written out from the papers' formulas)
ORACLE = {
    "mm": (CROSS_ENTROPY, -mean([sp(c) for c in FAKE])),
    "ns": (CROSS_ENTROPY, mean([sp(-c) for c in FAKE])),
    "wgan": (mean(FAKE) - mean(REAL), -mean(FAKE)),
}
# the same to six digits, as worked out independently
DIGITS = {"mm": (1.032321, -0.394232), "ns": (1.032321, 1.460899), "wgan": (-1.566667, 1.066667)}
# losses where the discriminator says 0 everywhere
AT_ZERO = {"mm": (math.log(4), -math.log(2)), "ns": (math.log(4), math.log(2)), "wgan": (0.0, 0.0)}
# gradient of the generator's loss with respect to the logit at -60 and 60
SLOPES = {"mm": (0.0, -1.0), "ns": (-1.0, 0.0), "wgan": (-1.0, -1.0)}


def test_every_loss_has_an_oracle():
    assert ORACLE.keys() == DIGITS.keys() == AT_ZERO.keys() == SLOPES.keys() == LOSSES.keys()


def both(name, real, fake):
    loss = LOSSES[name]
    real, fake = torch.tensor(real, dtype=torch.float64), torch.tensor(fake, dtype=torch.float64)
    return loss.discriminator(real, fake).mean().item(), loss.generator(fake).mean().item()


@pytest.mark.parametrize("name", LOSSES)
def test_loss_equals_its_formula(name):
    assert both(name, REAL, FAKE) == pytest.approx(ORACLE[name], abs=1e-12)
    assert both(name, REAL, FAKE) == pytest.approx(DIGITS[name], abs=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_loss_where_the_discriminator_is_undecided(name):
    assert both(name, [0.0, 0.0], [0.0, 0.0]) == pytest.approx(AT_ZERO[name], abs=1e-12)


@pytest.mark.parametrize("name", LOSSES)
def test_generator_gradient_survives_confident_discriminators(name):
    slope = torch.func.grad(lambda c: LOSSES[name].generator(c).sum())(torch.tensor([-60.0, 60.0]))
    assert slope.tolist() == pytest.approx(SLOPES[name], abs=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_losses_are_finite_values_per_sample_at_extremes(name):
    logits = torch.tensor([-60.0, 0.0, 60.0])
    for values in (LOSSES[name].discriminator(logits, logits.flip(0)), LOSSES[name].generator(logits)):
        assert values.shape == (3,)
        assert torch.isfinite(values).all()


def test_losses_differ_pairwise():
    assert len({both(name, REAL, FAKE) for name in LOSSES}) == len(LOSSES)

"""How sharp a design's answers will be, and how many points an answer takes: closed forms, before anything runs.

All numbers hold for independent points. A scrambled Sobol design of 8 or more replicates is usually sharper: its
variance was measured four times lower in four dimensions. Power is the chance that a two-sided test at 5 % finds a
difference of the given size; the design detects what it finds with 80 %.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy import special

from analysis.intervals import LEVEL, dkw, missed, wilson

POWER = 0.8
"""Chance with which a difference that "can be detected" is found."""

DISCORDANCES = (0.3, 0.4, 0.5)
"""Shares of pairs in which one method only succeeds, as found between methods that differ."""

SPREADS = (0.2, 0.3, 0.4)
"""Standard deviations, over points, of the paired difference of the log-AUC, likewise."""

SHARES = (0.5, 0.8, 0.9)
"""Success fractions whose intervals are told beforehand."""


@dataclass(frozen=True)
class Sharpness:
    """What so many independent points show.

    Attributes:
        points: Design points.
        success: Success fraction to the half-width of its 95 % interval (Wilson).
        profile: Half-width of the band of a whole profile (Dvoretzky-Kiefer-Wolfowitz).
        success_difference: Discordance to the paired difference of success that is found with 80 %; NaN for none.
        log_auc_difference: Standard deviation of the paired differences to the difference of log-AUC so found.
    """

    points: int
    success: dict[float, float]
    profile: float
    success_difference: dict[float, float]
    log_auc_difference: dict[float, float]


def sharpness(points: int) -> Sharpness:
    """What so many independent points show, at the usual success fractions, discordances and deviations."""
    ends = {share: wilson(share * points, points) for share in SHARES}
    return Sharpness(
        points=points,
        success={share: (high - low) / 2 for share, (low, high) in ends.items()},
        profile=dkw(points),
        success_difference={share: detectable(points, discordance=share) for share in DISCORDANCES},
        log_auc_difference={spread: detectable_mean(points, spread=spread) for spread in SPREADS},
    )


def detectable(points: int, *, discordance: float, power: float = POWER) -> float:
    """The least paired difference of success fractions that a two-sided test at 5 % finds with the given power.

    Args:
        points: Independent pairs, at least 1.
        discordance: Share of pairs in which exactly one method succeeds, in (0, 1].
        power: In (.5, 1).

    Returns:
        The difference, at most `discordance`; NaN where even that is not found.

    Raises:
        ValueError: For numbers outside these ranges. Inverse of `pairs_needed`.
    """
    _check(points=points, discordance=discordance, power=power)
    z, zb = _z(power)
    root = points - z * z + zb * zb
    if root < 0:
        return math.nan
    found = math.sqrt(discordance) * (z * math.sqrt(points) + zb * math.sqrt(root)) / (points + zb * zb)
    return found if found <= discordance else math.nan


def pairs_needed(difference: float, *, discordance: float, power: float = POWER) -> int:
    """Pairs after which McNemar's test finds a difference of success fractions with the given power.

    `n = ((z_a sqrt(psi) + z_b sqrt(psi - d^2)) / d)^2` with the discordance psi. Reference: Connor 1987.

    Args:
        difference: Of the success fractions, 0 < difference <= discordance.
        discordance: Share of pairs in which exactly one method succeeds, in (0, 1].
        power: In (.5, 1).

    Raises:
        ValueError: For numbers outside these ranges.
    """
    _check(discordance=discordance, power=power)
    if not 0 < difference <= discordance:
        raise ValueError(
            f"a paired difference of success lies in (0, {discordance}], the discordance: got {difference}"
        )
    z, zb = _z(power)
    root = z * math.sqrt(discordance) + zb * math.sqrt(discordance - difference**2)
    return _up((root / difference) ** 2)


def unpaired_needed(first: float, second: float, *, power: float = POWER) -> int:
    """Points per method after which two success fractions over different configurations are told apart.

    Args:
        first: Success fraction of one method, in [0, 1].
        second: Of the other, a different one.
        power: In (.5, 1). Reference: Fleiss, Levin and Paik 2003.

    Raises:
        ValueError: For numbers outside these ranges.
    """
    _check(power=power)
    if not (0 <= first <= 1 and 0 <= second <= 1) or first == second:
        raise ValueError(f"two different fractions in [0, 1] are needed, got {first} and {second}")
    z, zb = _z(power)
    middle = (first + second) / 2
    root = z * math.sqrt(2 * middle * (1 - middle)) + zb * math.sqrt(first * (1 - first) + second * (1 - second))
    return _up((root / (first - second)) ** 2)


def noether(probability: float, *, error: float = 0.05) -> int:
    """Pairs after which a paired probability of improvement is told from one half, one-sided, both errors alike.

    Args:
        probability: In (.5, 1]. Reference: Noether 1987, as in Bouthillier et al. 2021.
        error: Of either kind, in (0, .5).

    Raises:
        ValueError: For numbers outside these ranges.
    """
    if not 0.5 < probability <= 1 or not 0 < error < 0.5:
        raise ValueError(f"noether takes 0.5 < probability <= 1 and 0 < error < 0.5, got {probability} and {error}")
    z = -float(special.ndtri(error))
    return _up((2 * z / (math.sqrt(6) * (probability - 0.5))) ** 2)


def detectable_mean(points: int, *, spread: float, power: float = POWER) -> float:
    """The least paired difference of means, as of the log-AUC, that is found with the given power.

    Args:
        points: Independent pairs, at least 1.
        spread: Standard deviation of the differences over points, not negative.
        power: In (.5, 1).

    Raises:
        ValueError: For numbers outside these ranges.

    Returns:
        The difference, from the interval by t or, where differences are much alike, from what points can have missed
        (`intervals.missed`): it ends above 0 from part / (1 - part) on.
    """
    _check(points=points, power=power)
    if not spread >= 0:
        raise ValueError(f"a standard deviation is not negative, got {spread}")
    (z, zb), error, part = _z(power), spread / math.sqrt(points), missed(points)
    return max((z + zb) * error, part / (1 - part) + zb * error)


def half_width_needed(half_width: float, *, share: float) -> int:
    """Points after which a success fraction is known to plus or minus a half-width (normal approximation).

    Args:
        half_width: In (0, 1).
        share: The success fraction, in (0, 1).

    Raises:
        ValueError: For numbers outside these ranges.
    """
    if not 0 < half_width < 1 or not 0 < share < 1:
        raise ValueError(f"half-width and share lie in (0, 1), got {half_width} and {share}")
    z = -float(special.ndtri((1 - LEVEL) / 2))
    return _up(z * z * share * (1 - share) / half_width**2)


def band_needed(half_width: float) -> int:
    """Points after which a whole profile is known to plus or minus a half-width (Dvoretzky-Kiefer-Wolfowitz).

    Raises:
        ValueError: For a half-width that is not in (0, 1).
    """
    if not 0 < half_width < 1:
        raise ValueError(f"a half-width lies in (0, 1), got {half_width}")
    return _up((dkw(1) / half_width) ** 2)


def _z(power: float) -> tuple[float, float]:
    """Normal quantiles of the test's level and of its power."""
    return -float(special.ndtri((1 - LEVEL) / 2)), float(special.ndtri(power))


def _up(value: float) -> int:
    return max(1, math.ceil(value * (1 - 1e-12)))  # rounding must not cost a point


def _check(*, points: int = 1, discordance: float = 1.0, power: float) -> None:
    if points < 1:
        raise ValueError(f"at least 1 point is needed, got {points}")
    if not 0 < discordance <= 1:
        raise ValueError(f"a discordance lies in (0, 1], got {discordance}")
    if not 0.5 < power < 1:
        raise ValueError(f"a power lies in (0.5, 1), got {power}")

"""Designs: which points of the unit cube a sweep visits. Pure functions of their arguments."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from search_spaces.hyperparameters import DIMENSIONS

Points = NDArray[np.float64]


def _generator(seed: int, replicate: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence([seed, replicate]))


def sobol(points: int, *, seed: int, replicate: int) -> Points:
    """A scrambled Sobol sequence (Matousek's linear scrambling and a digital shift): shape (points, 64) in [0, 1).

    Always all 64 dimensions, so that a hyperparameter's column does not depend on which others are drawn; a longer
    sequence begins with the shorter one.
    """
    from scipy.stats import qmc  # most of a second, and only planning needs it

    return qmc.Sobol(DIMENSIONS, scramble=True, rng=_generator(seed, replicate)).random(points)


def random(points: int, *, seed: int, replicate: int) -> Points:
    """Independent uniform points: shape (points, 64) in [0, 1); a longer design begins with the shorter one."""
    return _generator(seed, replicate).random((points, DIMENSIONS))


def grid(levels: Mapping[str, Sequence[float]]) -> list[dict[str, float]]:
    """Every combination of each name's coordinates, the last name varying fastest."""
    return [dict(zip(levels, values, strict=True)) for values in itertools.product(*levels.values())]


DRAWN = {"sobol": sobol, "random": random}
"""Designs drawn from the prior, by name."""

"""Designs: which points of the unit cube a sweep visits. Pure functions of their arguments."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from search_spaces.hyperparameters import DIMENSIONS

Points = NDArray[np.float64]
ALL = tuple(range(DIMENSIONS))
BLOCK = 2**14
"""Points drawn at a time; a power of two, as a Sobol sequence wants it."""


def _generator(seed: int, replicate: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence([seed, replicate]))


def sobol(points: int, *, seed: int, replicate: int, dimensions: Sequence[int] = ALL) -> Points:
    """A scrambled Sobol sequence (Matousek's linear scrambling and a digital shift) in [0, 1).

    Always of all 64 dimensions, so that a hyperparameter's column does not depend on which others are drawn; a longer
    sequence begins with the shorter one.

    Args:
        points: Their number.
        seed: Of the design.
        replicate: Index of the independent scrambling.
        dimensions: The columns that are wanted.

    Returns:
        Shape (points, wanted dimensions).
    """
    from scipy.stats import qmc  # most of a second, and only planning needs it

    engine = qmc.Sobol(DIMENSIONS, scramble=True, rng=_generator(seed, replicate))
    return _in_blocks(engine.random, points, dimensions)


def random(points: int, *, seed: int, replicate: int, dimensions: Sequence[int] = ALL) -> Points:
    """Independent uniform points in [0, 1), as `sobol` takes and gives them; longer designs begin with shorter ones."""
    generator = _generator(seed, replicate)
    return _in_blocks(lambda count: generator.random((count, DIMENSIONS)), points, dimensions)


def _in_blocks(draw: Callable[[int], Points], points: int, dimensions: Sequence[int]) -> Points:
    """Some dimensions of many points, so many at a time that all dimensions of a million are never held."""
    wanted = list(dimensions)
    sizes = [min(BLOCK, points - begun) for begun in range(0, points, BLOCK)]
    return np.concatenate([draw(size)[:, wanted] for size in sizes])


def grid(levels: Mapping[str, Sequence[float]]) -> dict[str, Points]:
    """Every combination of each name's coordinates, the last name varying fastest.

    Returns:
        For each name its coordinate in every combination: shape (combinations,).
    """
    axes = np.meshgrid(*(np.asarray(values, np.float64) for values in levels.values()), indexing="ij")
    return {name: axis.ravel() for name, axis in zip(levels, axes, strict=True)}


DRAWN = {"sobol": sobol, "random": random}
"""Designs drawn from the prior, by name."""

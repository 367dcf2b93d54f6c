"""Which images are held out: a fixed tenth, chosen by hashing an image's index."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from study.data.contents import SPLITS
from study.errors import UserError


def splitmix64(index: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Output number `index` of SplitMix64 with seed 0 (Steele, Lea and Flood 2014): distinct for distinct indices."""
    z = (index + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def assign(place: str, counts: Mapping[str, int]) -> dict[str, NDArray[np.int8]]:
    """Which split each image goes to.

    Splits of the source's own stay as they are. Those it lacks, selection first, get a tenth (rounded down) of the
    training images each, in the order of `splitmix64` of the image's index: a function of the number of images alone.

    Args:
        place: What messages call the source.
        counts: Images in each split of the source; "train" is needed.

    Returns:
        For each split of the source, its images' places in `SPLITS`, shape (count,).

    Raises:
        UserError: If a split would have no image.
    """
    given = {split: np.full(count, SPLITS.index(split), dtype=np.int8) for split, count in counts.items()}
    lacking = [split for split in SPLITS if split not in counts]
    tenth = counts["train"] // 10
    if not all(counts.values()) or (lacking and not tenth):
        have = ", ".join(f"{count} in {split}" for split, count in counts.items())
        raise UserError(
            f"{place} has too few images ({have}): every split needs one, and the training images need to be at "
            "least ten to hold a tenth out"
        )
    order = np.argsort(splitmix64(np.arange(counts["train"], dtype=np.uint64)))
    for i, split in enumerate(lacking):
        given["train"][order[i * tenth : (i + 1) * tenth]] = SPLITS.index(split)
    return given

"""The order in which labels become known to semi-supervised losses."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def turns(classes: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many of each one's class (n,) came before it, (n,)."""
    found = np.zeros(len(classes), dtype=np.int64)
    for label in np.unique(classes):
        found[classes == label] = np.arange((classes == label).sum())
    return found


def places(classes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Each one's place (n,) in an order that takes the classes (n,) in turn, lowest first, while they last.

    Of K classes, the first K places hold one of each, the first 10 K ten of each.
    """
    order = np.lexsort((classes, turns(classes)))
    found = np.empty_like(order)
    found[order] = np.arange(len(order))
    return found

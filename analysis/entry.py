"""Where Python enters: light to import, since the command line imports this package too."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from analysis.collection import Runs


def load(*patterns: str | Path) -> Runs:
    """Load runs by their directories, patterns such as "runs/*" allowed; see `analysis.runs.load`."""
    from analysis import runs  # pandas takes most of a second, which the command line does not always need

    return runs.load(*patterns)

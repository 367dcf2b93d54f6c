"""Where packs run: the protocol, and its simplest member, which runs them here one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from study.store import RunDirectory


class Executor(Protocol):
    """Runs packs. A pack that fails is left without rows and with a note in `attempts`; it does not raise."""

    def run(self, directory: RunDirectory, packs: Sequence[str]) -> None:
        """Run packs, each by `run_pack` on the run directory, and return when none is left to try.

        Args:
            directory: The run directory, reachable from wherever packs run.
            packs: Names of planned packs, costliest first.

        Raises:
            KeyboardInterrupt: If asked to stop; what was committed stays.
        """
        ...


class InProcess:
    """Runs packs in this process, for tests, debugging and machines without ray."""

    def __init__(self, *, device: str = "cpu") -> None:
        """Run on a kind of device, "cpu" or "cuda"."""
        self.device = device

    def run(self, directory: RunDirectory, packs: Sequence[str]) -> None:
        """Run the packs one after the other."""
        from study.worker import run_pack  # and torch: not before there is something to train

        for pack in packs:
            try:
                run_pack(directory.root, pack, device=self.device)
            except Exception:  # noqa: BLE001 - whatever it was, the attempt's note has it and the sweep goes on
                continue

"""Storage that fails for a while: how long that is borne, and in which words it ends."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from study.errors import UserError
from study.files import write_whole
from study.store import MANIFEST, RunDirectory

BEARABLE_SECONDS = 60.0
"""How long storage may fail before the run ends."""

FIRST_SECONDS, MOST_SECONDS = 0.5, 8.0
"""The pauses between two looks at storage that fails: each is twice the one before, from the first to the most."""

TRIED_BYTES = 2**18
"""The size of a test write: more than most packs' rows take."""


def gone(directory: RunDirectory) -> str:
    """The sentence about a run directory that is not where it was."""
    return (
        f"the run directory {directory} is gone, removed, renamed or unmounted while it was in use: once it is back, "
        "the same command goes on from what it holds"
    )


def unwritable(directory: RunDirectory, reason: OSError | str) -> str:
    """The sentence about a run directory that cannot be written.

    Args:
        directory: The run directory.
        reason: Why, the system's error or some words.
    """
    if isinstance(reason, OSError):
        reason = os.strerror(reason.errno) if reason.errno else str(reason)  # Arrow's say it, and more
    return (
        f"cannot write to the run directory {directory}: {reason}; "
        "what is finished is kept, and the same command goes on from there"
    )


class Outage:
    """Whether packs could be written lately, and if not, whether it is time to try again."""

    def __init__(self, directory: RunDirectory, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with storage that is well.

        Args:
            directory: The run directory.
            clock: Seconds, from wherever.
        """
        self._directory, self._clock = directory, clock
        self._since: float | None = None
        self._next, self._pause, self._borne = 0.0, FIRST_SECONDS, 0.0

    def begins(self, reason: str) -> None:
        """Note that a pack could not be written.

        Args:
            reason: Why, in a line.

        Raises:
            UserError: If the run directory is gone, or if packs could not be written for too long, although a test
                write could.
        """
        if self._since is not None:
            return
        with suppress(OSError):
            self._look_for_it()
        if self._borne > BEARABLE_SECONDS:
            raise UserError(unwritable(self._directory, reason))
        self._since = self._clock()
        self._rest()

    def over(self) -> bool:
        """Whether packs may be handed out: at once while storage is well, otherwise after a pause and a test write.

        Raises:
            UserError: If the run directory is gone, or has not been writable for too long.
        """
        if self._since is None:
            return True
        if self._clock() < self._next:
            return False
        try:
            self._look_for_it()
            self._try()
        except OSError as error:
            if self._borne + self._clock() - self._since > BEARABLE_SECONDS:
                raise UserError(unwritable(self._directory, error)) from None
            self._rest()
            return False
        self._borne += self._clock() - self._since
        self._since = None
        return True

    def forget(self) -> None:
        """Note that a pack was written."""
        self._borne, self._pause = 0.0, FIRST_SECONDS
        if self._since is not None:
            self._since = self._clock()

    def _rest(self) -> None:
        self._next = self._clock() + self._pause
        self._pause = min(2 * self._pause, MOST_SECONDS)

    def _look_for_it(self) -> None:
        if not self._directory.exists(MANIFEST):  # where it was unmounted there is an empty folder
            raise UserError(gone(self._directory))

    def _try(self) -> None:
        name = f".storage.{uuid.uuid4().hex}.tmp"
        content = os.urandom(TRIED_BYTES)  # which no file system makes small
        if self._directory.local:
            write_whole(Path(self._directory.root, name), content, durable=True)  # and makes no folder
        else:
            self._directory.publish(name, content)
        self._directory.remove(name)

"""The table of tasks: a name, and what makes the task when it is asked for."""

from __future__ import annotations

import functools
from collections.abc import Callable

from study.errors import unknown
from study.tasks.base import Task
from study.tasks.digits import digits
from study.tasks.dirac import dirac
from study.tasks.manifold import manifold
from study.tasks.ring import ring8

TASKS: dict[str, Callable[[], Task]] = {
    "dirac": functools.cache(dirac),
    **{f"manifold-d{d}": functools.cache(functools.partial(manifold, d)) for d in (2, 8, 32, 64)},
    "ring8": functools.cache(ring8),
    "digits": functools.cache(digits),
}
"""Task name to a factory that always returns the same object."""


def get_task(name: str) -> Task:
    """The task of that name.

    Raises:
        UserError: There is no such task; the message lists those that exist.
    """
    if name not in TASKS:
        raise unknown("task", name, TASKS)
    return TASKS[name]()

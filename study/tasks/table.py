"""The table of tasks: a name, and what makes the task when it is asked for."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from study import user_files
from study.data.images import PREFIX, SETS, cache_folder, root
from study.errors import UserError, unknown
from study.tasks.base import Task
from study.tasks.color_digits import color_digits
from study.tasks.digits import digits
from study.tasks.digits_critic import digits_critic
from study.tasks.digits_ssl import digits_ssl
from study.tasks.dirac import dirac
from study.tasks.finite import finite
from study.tasks.flipped import flipped
from study.tasks.frozen import frozen
from study.tasks.games import bilinear, heusel, salimans
from study.tasks.gaussians import two_gaussians
from study.tasks.grid import grid25
from study.tasks.lines import lines
from study.tasks.manifold import PRESETS, manifold, preset
from study.tasks.mixture import mixture1d
from study.tasks.mnist import color_mnist, mnist, stacked_mnist
from study.tasks.names import call, cut
from study.tasks.pictures import from_path, from_set
from study.tasks.ring import ring8, ring8_sequential
from study.tasks.stacked_digits import stacked_digits
from study.tasks.swissroll import swissroll

TASKS: dict[str, Callable[..., Task]] = {
    "dirac": dirac,
    **{f"manifold-d{d}": functools.partial(preset, d) for d in PRESETS},
    "manifold": manifold,
    "lines": lines,
    "ring8": ring8,
    "ring8-sequential": ring8_sequential,
    "grid25": grid25,
    "swissroll": swissroll,
    "mixture1d": mixture1d,
    "digits": digits,
    "color-digits": color_digits,
    "stacked-digits": stacked_digits,
    "digits-critic": digits_critic,
    "digits-ssl": digits_ssl,
    "flipped": flipped,
    "frozen": frozen,
    "two-gaussians": two_gaussians,
    "bilinear": bilinear,
    "salimans": salimans,
    "heusel": heusel,
    "finite": finite,
}
"""Task name to a function that makes it; what the function takes by name are the task's options."""
FILES: dict[str, Callable[..., Task]] = {
    "mnist": mnist,
    "color-mnist": color_mnist,
    "stacked-mnist": stacked_mnist,
    **{name: functools.partial(from_set, name) for name in SETS if name != "mnist"},
}
"""The same for tasks on the user's images, whose files are read when one is made; besides these, `images:PATH`."""


def get_task(name: str) -> Task:
    """The task of a name such as `ring8`, `manifold[d=64, k=4]` or `my_tasks.py:rings3d`; always the same object.

    Raises:
        UserError: There is no such task; the message lists those that exist.
    """
    if name in TASKS:
        return _named(name)
    head, _ = cut(name)
    if user_files.is_reference(head):
        return _users(name, user_files.digest_of(head))
    if head in FILES or head.startswith(PREFIX):
        return _of_files(name, root(), cache_folder())
    if head not in TASKS:
        raise unknown("task", head, [*TASKS, *FILES, "images:PATH", "FILE.py:NAME"])
    return _named(name)


@functools.cache
def _named(name: str) -> Task:
    head, options = cut(name)
    return replace(call(name, TASKS[head], options), name=name)


@functools.cache
def _of_files(name: str, _root: Path, _cache: Path) -> Task:
    head, options = cut(name)
    make = FILES[head] if head in FILES else functools.partial(from_path, head)
    return replace(call(name, make, options), name=name)


@functools.cache
def _users(name: str, digest: str) -> Task:
    head, options = cut(name)
    found = user_files.find(head)
    task = found if isinstance(found, Task) and not options else _called(name, found, options)
    if not isinstance(task, Task):
        raise UserError(f"{head!r} must be a Task or a function that returns one, not {type(task).__name__}")
    task = replace(task, name=name, fingerprint="+".join(part for part in (task.fingerprint, digest) if part))
    from study import tryout  # and torch: only for what users bring

    fault = tryout.task_fault(task)
    if fault:
        raise UserError(f"task {name!r}: {fault}")
    return task


def _called(name: str, make: object, options: Mapping[str, str]) -> object:
    if not callable(make):
        return make
    try:
        with user_files.aside():
            return call(name, make, options)
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # noqa: BLE001  # a user's program may raise anything
        raise UserError(f"task {name!r} cannot be made: {user_files.sentence(error)}") from None

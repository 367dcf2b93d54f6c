"""Which networks a trial has: the task's own or those of a family, with the changes that hyperparameters ask for."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING

from study import user_files
from study.errors import UserError, unknown
from study.networks.base import Network
from study.networks.table import NETWORKS, Family, Pair

if TYPE_CHECKING:
    from study.tasks.base import Task
    from study.trial import Architecture


def family(name: str) -> Family:
    """A family of networks: of the table, or of a user's file.

    Raises:
        UserError: There is no such family.
    """
    if name in NETWORKS:
        return NETWORKS[name]
    if not user_files.is_reference(name):
        raise unknown("network", name, [*NETWORKS, "FILE.py:NAME"])
    found = user_files.find(name)
    if not callable(found):
        raise UserError(f"{name!r} must be a function that gives a generator and a discriminator")
    return functools.partial(_users, name, found)


def _users(name: str, make: Callable[..., object], latent: int, shape: tuple[int, ...], *, bounded: bool) -> Pair:
    try:
        with user_files.aside():
            found = make(latent, shape, bounded=bounded)
    except (Exception, SystemExit) as error:  # noqa: BLE001  # a user's program may raise anything
        raise UserError(f"{name!r} makes no networks: {user_files.sentence(error)}") from None
    if not (isinstance(found, tuple) and len(found) == 2 and all(isinstance(network, Network) for network in found)):
        raise UserError(f"{name!r} must give a pair of Network objects: a generator and a discriminator")
    return Pair(*found)


def networks(task: Task, architecture: Architecture) -> Pair:
    """The generator and the discriminator of a task, changed as an architecture says.

    Raises:
        ValueError: Where there is no such form, in a few words.
    """
    changes = dict(architecture)
    pair = Pair(task.generator, task.discriminator)
    if "network" in changes:
        pair = family(str(changes["network"]))(task.latent, task.shape, bounded=task.bounded)
    return Pair(_changed(pair.generator, changes, "g"), _changed(pair.discriminator, changes, "d"))


def _changed(network: Network, changes: dict[str, int | str], player: str) -> Network:
    own = {name.removesuffix(f"_{player}"): value for name, value in changes.items() if name.endswith(f"_{player}")}
    return network.rebuild(**own) if own else network

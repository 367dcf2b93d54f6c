"""The address of a Ray cluster: what may be given, and whether anybody answers there."""

from __future__ import annotations

import os
import socket
import time

from study.errors import UserError

CONNECT_SECONDS = 5.0
RETURN_SECONDS = 30.0
"""How long a head that is gone is waited for: one that is watched over is started again within seconds."""

AUTO, LOCAL = "auto", "local"
"""Ray's words for the Ray that runs on this machine, and for a Ray of one's own."""


def cluster_address(given: str | None) -> str | None:
    """Where the cluster's head is, in the order in which `ray.init` looks.

    Args:
        given: What the user said: HOST:PORT, "auto", "local", or None to leave it to `RAY_ADDRESS`, which Ray sets
            for jobs.

    Returns:
        HOST:PORT, an IPv6 host in brackets; "auto" to let Ray find this machine's; None for a Ray of one's own.

    Raises:
        UserError: If it is no such address.
    """
    named, address = "--address", given
    if given is None or given == AUTO:
        found = os.environ.get("RAY_ADDRESS", "").strip()
        named, address = ("RAY_ADDRESS", found) if found else (named, given)
    if address is None or address == LOCAL:
        return None
    if address != AUTO:
        _check(f"{named} {address}", address)
    return address


def _check(said: str, address: str) -> None:
    if address.startswith("ray://"):
        raise UserError(
            f"{said}: Ray's client is not used; run on a machine of the cluster with --address HOST:PORT of its head, "
            "or from elsewhere with `manypaths submit FILE --address http://HEAD:8265`"
        )
    host, _, port = address.rpartition(":")
    if "://" not in address and ":" in host.strip("[]") and not (host.startswith("[") and host.endswith("]")):
        raise UserError(f"{said}: an IPv6 address stands in brackets, e.g. [fd00::1]:6379")
    if "://" in address or not host.strip("[]") or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise UserError(
            f"{said}: must be HOST:PORT of a Ray head, e.g. 10.0.0.1:6379, or auto for the one of this machine, "
            "or local for one of its own"
        )


def fault_at(address: str, *, seconds: float = CONNECT_SECONDS) -> str | None:
    """Knock at a head's door, as Ray itself would for minutes before it says anything.

    Args:
        address: HOST:PORT.
        seconds: How long to wait for it to be opened.

    Returns:
        Why nobody can be reached there; None if somebody can.
    """
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=seconds).close()
    except (OSError, UnicodeError) as error:
        return getattr(error, "strerror", None) or str(error)
    return None


def check_answers(given: str | None) -> str | None:
    """Where the cluster's head is, as `cluster_address` says, if somebody is there.

    Raises:
        UserError: If it is no address, or nobody can be reached there; whether "auto" finds anybody, Ray will say.
    """
    address = cluster_address(given)
    if address not in (None, AUTO) and (fault := fault_at(address)):
        raise UserError(f"cannot reach the Ray cluster at {address}: {fault}")
    return address


def wait_for(address: str, stop: list[int], reason: str) -> None:
    """Wait for a head that was lost to come back.

    Args:
        address: HOST:PORT.
        stop: Signals received; the first ends the waiting.
        reason: How it was lost, for the message.

    Raises:
        UserError: If it does not come back within `RETURN_SECONDS`.
    """
    end = time.monotonic() + RETURN_SECONDS
    while (fault := fault_at(address, seconds=1.0)) and not stop:
        if time.monotonic() > end:
            raise UserError(
                f"the Ray cluster at {address} was lost ({reason}) and has not come back ({fault}): what is finished "
                "is kept, and the same command goes on from there"
            )
        time.sleep(0.5)

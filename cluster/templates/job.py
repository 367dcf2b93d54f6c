"""A sweep as the templates see it, how large its cluster is to be, and what may not go into a manifest."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from cluster.shipping import Shipment
from study.errors import UserError
from study.spec import Sweep

NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
"""What Kubernetes takes for a name (RFC 1123)."""

WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@+-]*")
"""One word without anything that a shell, YAML or a batch system could take for more than a name."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """A sweep to be run elsewhere.

    Attributes:
        sweep: The sweep.
        file: The sweep file, absolute.
        out: The run directory, an absolute path or a URI; empty if nobody has said it yet.
    """

    sweep: Sweep
    file: Path
    out: str


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How large a cluster is.

    Attributes:
        workers: Machines that are there from the start, beside the head where that is one of its own; at least 1.
        max_workers: Machines at most.
        cpus: CPUs of each.
        gpus: GPUs of each.
        memory: Memory of each, GiB; 0 where the machine's type decides.
    """

    workers: int
    max_workers: int
    cpus: int
    gpus: int
    memory: int = 0


def cluster_name(shipment: Shipment) -> str:
    """The name of whatever is made for a sweep: the same sweep and the same files, the same name."""
    return f"manypaths-{shipment.hash}"


def check_sizes(sizes: Sizes, sweep: Sweep) -> None:
    """Refuse sizes that the sweep could not use.

    Raises:
        UserError: Naming the option.
    """
    if sizes.max_workers < sizes.workers:
        raise UserError(f"--max-workers {sizes.max_workers}: must be at least --workers, {sizes.workers}")
    device = sweep.execution.device
    if sizes.gpus and device != "cuda":
        raise UserError(
            f'--gpus {sizes.gpus} with execution.device = "{device}": the device is chosen where the sweep is planned, '
            'a machine without GPU here; write device = "cuda" into [execution]'
        )
    if not sizes.gpus and device == "cuda":
        raise UserError('--gpus 0 with execution.device = "cuda": every worker needs at least one GPU')


def check_uri(out: str) -> None:
    """The run directory where machines share no disk.

    Raises:
        UserError: If it is none that all of them reach.
    """
    if "://" not in out:
        given = f"{out} is a path" if out else "is missing"
        raise UserError(f"--out {given}: these machines share no disk, so give a URI, e.g. s3://bucket/runs/NAME")
    if out.startswith("file:"):
        raise UserError(f"--out {out}: these machines share no disk, so give s3://, gs:// or the like")


def check_word(option: str, value: str, *, rule: re.Pattern[str] = WORD) -> str:
    """A name that goes into a manifest.

    Raises:
        UserError: If it could be taken for more than a name.
    """
    if not rule.fullmatch(value):
        what = "lower-case letters, digits and -" if rule is NAME else "letters, digits and . _ / : @ + -"
        raise UserError(f"--{option} {value!r}: may hold only {what}, beginning with a letter or digit")
    return value


def run_command(file: str, out: str) -> str:
    """The shell command that runs a sweep on a cluster, up to its address; every word quoted once."""
    return shlex.join(["manypaths", "run", file, "--out", out])


def default_image() -> str:
    """The name that docs/clusters.md gives the image of this version."""
    return f"manypaths:{metadata.version('manypaths')}"

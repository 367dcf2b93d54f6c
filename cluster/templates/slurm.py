"""A SLURM batch script that starts a Ray on the nodes of its job, runs a sweep on it and queues itself again."""

from __future__ import annotations

import re
import shlex
import sys
from importlib import resources
from pathlib import Path

from cluster.templates.job import Job, Sizes, check_sizes, check_word, run_command
from study.errors import UserError

GRACE = 120
"""Seconds before the end of the job at which it is told."""

SHORTEST = 300
"""Seconds of the shortest job that gets anywhere: Ray starts, something is trained, and the notice is given."""

TIME = re.compile(r"(\d+-)?\d{1,3}(:\d{2}){0,2}")


def slurm(job: Job, sizes: Sizes, *, time: str, partition: str | None = None) -> str:
    """The batch script.

    Args:
        job: The sweep; its `out` is a URI, or a path on a disk that all nodes have, as is the sweep file.
        sizes: `workers` is the number of nodes; such a job does not grow.
        time: The job's time limit, as SLURM writes it, e.g. 24:00:00 or 2-12:00:00.
        partition: Where it queues; None for the default.

    Raises:
        UserError: For what SLURM or the sweep could not use.
    """
    check_sizes(sizes, job.sweep)
    if not TIME.fullmatch(time):
        raise UserError(f"--time {time!r}: must be a SLURM time, e.g. 24:00:00 or 2-12:00:00")
    if _seconds(time) < SHORTEST:
        raise UserError(
            f"--time {time} is {_seconds(time)} seconds: must be at least {SHORTEST}, for {GRACE} before its end the "
            "job is told to stop, and would queue itself again without having trained anything"
        )
    options = {
        "job-name": f"manypaths-{job.sweep.name}",
        "output": "%x-%j.log",
        "open-mode": "append",
        "nodes": sizes.workers,
        "ntasks-per-node": 1,
        "cpus-per-task": sizes.cpus,
        "mem": f"{sizes.memory}G",
        "time": time,
        "signal": f"B:USR1@{GRACE}",
    }
    if sizes.gpus:
        options["gpus-per-node"] = sizes.gpus
    if partition is not None:
        options["partition"] = check_word("partition", partition)
    environment = Path(sys.executable).parent
    lines = [
        "#!/bin/bash",
        *(f"#SBATCH --{name}={value}" for name, value in options.items()),
        "#SBATCH --exclusive",
        "#SBATCH --requeue",
        "",
        "# what is in single quotes is meant as it stands, and a trap calls its function",
        "# shellcheck disable=SC2016,SC2317",
        "",
        "# where manypaths, ray and python are, on every node",
        f"export PATH={shlex.quote(str(environment))}:$PATH",
        f"cpus={sizes.cpus} gpus={sizes.gpus}",
        f"sweep=({run_command(str(job.file), job.out)})",
        "",
    ]
    body = resources.files("cluster.templates").joinpath("sweep.sbatch").read_text(encoding="utf-8")
    return "\n".join(lines) + body


def _seconds(time: str) -> int:
    """A time as SLURM reads it: M, M:S, H:M:S, D-H, D-H:M or D-H:M:S (sbatch's manual page, --time)."""
    days, dash, rest = time.rpartition("-")
    parts = [int(part) for part in rest.split(":")]
    units = (3600, 60, 1) if dash or len(parts) == 3 else (60, 1)
    return 86400 * int(days or 0) + sum(part * unit for part, unit in zip(parts, units, strict=False))

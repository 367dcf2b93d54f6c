"""Which executor a command line asks for."""

from __future__ import annotations

import os

from cluster.process import Process
from study.errors import UserError
from study.executor import Executor, InProcess
from study.spec import DATA_ROOT, Sweep
from study.sweep_run import resolve_device


def executor_of(sweep: Sweep, address: str | None, *, in_process: bool, ahead: Process | None = None) -> Executor:
    """Where the packs of a sweep run.

    Args:
        sweep: The sweep.
        address: A Ray cluster; None for a local Ray.
        in_process: True for this process, without Ray.
        ahead: A driver's process for that address, which was started before.

    Raises:
        UserError: If the sweep asks for what only Ray has, or nobody answers at the address.
    """
    device = resolve_device(sweep)
    if in_process and sweep.search is not None and sweep.search.pruner != "none":
        raise UserError(f"search.pruner = {sweep.search.pruner!r} needs Ray: leave out --in-process, or the pruner")
    if in_process:
        return InProcess(device=device)
    from cluster.address import check_answers
    from cluster.tune import RayTune  # and Ray: seconds

    check_answers(address)  # before anything is written
    workers = None if sweep.execution.workers == "auto" else sweep.execution.workers
    data = os.environ.get(DATA_ROOT) if sweep.execution.data else None
    gpu = None if sweep.execution.gpu == "auto" else sweep.execution.gpu
    asked = sweep.execution.device != "auto"
    return RayTune(device=device, workers=workers, address=address, data=data, gpu=gpu, asked=asked, ahead=ahead)

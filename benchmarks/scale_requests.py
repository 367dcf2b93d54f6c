"""The requests that packs make of an object store, counted by a server that speaks S3 and logs them."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from study.plan import expand
from study.progress import Tally
from study.spec import parse_sweep
from study.store import RunDirectory
from study.sweep_run import packs_of, prepare

RUNNING = 20
"""Packs that a driver is made to believe to be running."""


def requests_of_packs(content: Mapping[str, Any], packs: int, finished: int) -> dict[str, float]:
    """Requests to a server that speaks S3, by what they are for; none where the server is not installed.

    Args:
        content: A sweep file's content; its budget, design and packs are made small.
        packs: How many packs are trained.
        finished: How many finished packs a listing is made to find.
    """
    try:
        import moto.server  # noqa: F401  # only whether it is there
    except ImportError:
        return {}
    from study.worker import run_pack  # and torch

    small = {
        "budget": {"steps": 10, "evaluations": 2},
        "design": {"kind": "random", "points": 4 * packs},
        "execution": {"pack": 4, "device": "cpu"},
    }
    spec = parse_sweep({**content, **small}, source="scale")
    with _server() as (uri, count):
        directory = RunDirectory(f"{uri[0]}/run{uri[1]}")
        trials = expand(spec)
        before = count()
        prepare(directory, spec, trials)
        found = {f"preparing {len(packs_of(spec, trials))} packs, all": float((count() - before).total())}
        names = packs_of(spec, trials).names[: packs + 1]
        run_pack(directory.root, names[0])  # reads what is read once in a process
        before = count()
        for name in names[1:]:
            run_pack(directory.root, name)
        each = count() - before
        found |= {f"each pack, {kind}": number / packs for kind, number in sorted(each.items())}
        found["each pack, all"] = each.total() / packs
        tally = Tally(directory, {})
        poll = _poll(tally, count)
        for number in range(RUNNING):
            content = {"pack": f"{number:016x}", "trials": 4, "steps": 1, "of": 2, "outcome": "started"}
            directory.write_json(f"progress/{number:016x}.json", content)
            directory.write_json(f"attempts/{number:016x}.00000000.json", content)
        found["a look at the progress, nothing running"] = poll
        found["a look at the progress, each running pack"] = (_poll(tally, count) - poll) / RUNNING
        for number in range(finished):
            directory.publish(f"trials/{number:016x}.parquet", b"")
        before = count()
        directory.parts("trials")
        found[f"listing {finished:,} finished packs"] = float((count() - before).total())
    return found


def _poll(tally: Tally, count: Callable[[], Counter[str]]) -> float:
    """Requests of one look at a run's progress; the first look reads more and is not counted."""
    for _ in range(2):
        before = count()
        tally.update()
        tally.under_way()
        tally.failed_attempts()
    return float((count() - before).total())


@contextmanager
def _server() -> Iterator[tuple[tuple[str, str], Callable[[], Counter[str]]]]:
    """A server that speaks S3, with a bucket: the two halves of a URI, and a function that counts its requests."""
    from pyarrow import fs

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    os.environ.update(
        AWS_ACCESS_KEY_ID="test",
        AWS_SECRET_ACCESS_KEY="test",
        AWS_DEFAULT_REGION="us-east-1",
        AWS_EC2_METADATA_DISABLED="true",
    )
    with tempfile.NamedTemporaryFile("w+") as log:
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            for _ in range(300):
                try:
                    socket.create_connection(("127.0.0.1", port), timeout=1).close()
                    break
                except OSError:
                    time.sleep(0.2)
            far = fs.S3FileSystem(endpoint_override=f"127.0.0.1:{port}", scheme="http", allow_bucket_creation=True)
            far.create_dir("runs")
            yield ("s3://runs", f"?endpoint_override=127.0.0.1:{port}&scheme=http"), lambda: _counted(Path(log.name))
        finally:
            process.kill()
            process.wait()


def _counted(log: Path) -> Counter[str]:
    """The requests of a server's log by kind."""
    found: Counter[str] = Counter()
    for method, path in re.findall(r'"(?:\x1b\[[0-9;]*m)*([A-Z]+) (\S+) HTTP', log.read_text(errors="replace")):
        found["LIST" if method == "GET" and "list-type=" in path else method] += 1
    return found

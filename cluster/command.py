"""The commands for clusters: read arguments, call the package, print; light to import."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cluster.templates.command import app as templates
from study.errors import UserError
from study.options import Address, Json, SweepFile, interrupt, without_key
from study.terminal import say, show_json, show_rows

if TYPE_CHECKING:
    from cluster.jobs import Cluster, Job

app = typer.Typer(rich_markup_mode=None)
app.add_typer(templates, name="template")
Target = Annotated[
    str,
    typer.Argument(
        metavar="TARGET", help="A run directory; with --address a job's name or a sweep file.", callback=without_key
    ),
]


@app.command()
def submit(
    file: SweepFile,
    address: Annotated[str, typer.Option(metavar="URL", help="The cluster's dashboard, e.g. http://HEAD:8265.")],
    out: Annotated[str, typer.Option(help="Run directory, a URI or a path that every machine of the cluster has.")],
    with_package: Annotated[
        bool, typer.Option("--with-package", help="Send this manypaths along; it comes before an installed one.")
    ] = False,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Follow the log, and end as the job does.")] = True,
    again: Annotated[bool, typer.Option("--again", help="Start anew even if the sweep's job succeeded.")] = False,
    python: Annotated[str, typer.Option(metavar="PROGRAM", help="The Python interpreter on the cluster.")] = "python",
    json_: Json = False,
) -> None:
    """Run a sweep as a job of a Ray cluster, and attach to the job; to the same one if it is there already."""
    from cluster.jobs import Cluster
    from cluster.shipping import destination, shipment_of

    shipment, where = shipment_of(file), destination(out)
    if "://" not in out and not Path(out).is_absolute():
        say(f"--out {out} is {where}, which has to mean the same place on every machine of the cluster")
    cluster = Cluster(address)
    job, new = cluster.submit(shipment, where, with_package=with_package, python=python, again=again)
    if json_:
        show_json({"job": job.id, "started": new, "state": job.state})
    else:
        print(job.id, flush=True)
    say("started" if new else f"nothing was started: {job.words}")
    if wait:
        with _detaching(cluster, job):
            _end(cluster.follow(job.id, _words))


@app.command()
def logs(
    target: Target,
    address: Address = None,
    follow: Annotated[bool, typer.Option("--follow", help="Go on until the job, or the run, ends.")] = False,
) -> None:
    """Print what a job's driver said; of a run directory, what was tried and how it ended."""
    from cluster import runs

    if address is None:
        directory = runs.opened(target)
        with _interruptible():
            if not runs.follow(directory, _data, wait=follow):
                say(f"nothing was tried in {directory} yet")
        return
    cluster, job = _job(address, target)
    if not follow:
        _data(cluster.log(job.id))
        return
    with _detaching(cluster, job):
        cluster.follow(job.id, _data)


@app.command()
def attach(target: Target, address: Address = None) -> None:
    """Follow a job until it ends and end with its exit code; of a run directory, 1 if trials are missing then."""
    from cluster import runs

    if address is not None:
        cluster, job = _job(address, target)
        with _detaching(cluster, job):
            _end(cluster.follow(job.id, _data))
    directory = runs.opened(target)
    with _interruptible():
        runs.follow(directory, _data, wait=True)
    left = runs.missing(directory)
    say(f"nobody is running {directory}: {f'{left} trials have no row' if left else 'all trials are done'}")
    raise typer.Exit(1 if left else 0)


@app.command()
def stop(target: Target, address: Address = None) -> None:
    """Ask a job, or whoever of this machine runs a run directory, to stop; what is finished is kept."""
    from cluster import runs

    if address is None:
        say(runs.stop(runs.opened(target)))
        return
    cluster, job = _job(address, target)
    say((cluster.stop(job.id, say=say) if job.under_way else job).words)


def job_status(address: str, target: str | None, *, json_: bool) -> None:
    """Say how a cluster's jobs stand, or one of them."""
    if target is None:
        from cluster.jobs import Cluster

        cluster = Cluster(address)
        rows = [job.row for job in reversed(cluster.jobs())]
        show_json(rows) if json_ else show_rows(rows)
        if not rows:
            say(f"{cluster.address} has no jobs that were submitted")
        return
    _, job = _job(address, target)
    if json_:
        show_json(job.row | {"words": job.words, "last_lines": job.last_lines})
        return
    show_rows([job.row])
    print("\n".join(["", job.words, *job.last_lines]))


def _job(address: str, target: str) -> tuple[Cluster, Job]:
    """A job by its name, or the last one of a sweep file."""
    from cluster.jobs import Cluster
    from cluster.shipping import shipment_of

    cluster = Cluster(address)
    if target.endswith(".toml") or Path(target).is_file():
        return cluster, cluster.latest(shipment_of(Path(target)))
    if Path(target).is_dir():
        raise UserError(f"{target} is a folder: with --address give a job's name or the sweep file, or leave it out")
    return cluster, cluster.job(target)


def _data(text: str) -> None:
    print(text, end="", flush=True)


def _words(text: str) -> None:
    print(text, end="", flush=True, file=sys.stderr)


def _end(job: Job) -> None:
    """End as a job did."""
    say(job.words)
    raise typer.Exit(job.code or 0)


@contextmanager
def _interruptible() -> Iterator[None]:
    """A signal ends the command, and more of them do not disturb its end."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt_once)
    try:
        yield
    except KeyboardInterrupt as stop:
        raise typer.Exit(128 + int(stop.args[0])) from None


def _interrupt_once(number: int, frame: object) -> None:
    for other in (signal.SIGINT, signal.SIGTERM):
        signal.signal(other, signal.SIG_IGN)
    interrupt(number, frame)


@contextmanager
def _detaching(cluster: Cluster, job: Job) -> Iterator[None]:
    """A signal ends the following, not the job."""
    with _interruptible():
        try:
            yield
        except KeyboardInterrupt:
            where = f"{job.id} --address {cluster.address}"
            say(f"\njob {job.id} goes on; to see or to end it: manypaths attach|stop {where}")
            raise

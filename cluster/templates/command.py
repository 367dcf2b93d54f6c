"""The command `template`: read arguments, call the package, print; light to import."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from study.errors import UserError
from study.options import SweepFile

if TYPE_CHECKING:
    from cluster.templates.clouds import Machines
    from cluster.templates.job import Job, Sizes

app = typer.Typer(
    help="Print what a sweep needs elsewhere, filled in: a manifest, a batch script, a cluster file, a Dockerfile.",
    no_args_is_help=True,
)

Uri = Annotated[str | None, typer.Option(help="The run directory, a URI that all machines reach.")]
Image = Annotated[str | None, typer.Option(help="Container image.", show_default="manypaths:VERSION")]
Workers = Annotated[int, typer.Option(min=1, max=10**4, help="Machines from the start.")]
MaxWorkers = Annotated[
    int | None, typer.Option(min=1, max=10**4, help="Machines at most.", show_default="no more than --workers")
]
Cpus = Annotated[int, typer.Option(min=1, max=10**4, help="CPUs of each worker.")]
Memory = Annotated[int, typer.Option(min=1, max=10**5, help="Memory of each worker, GiB.")]
Gpus = Annotated[
    int | None,
    typer.Option(min=0, max=100, help="GPUs of each worker.", show_default='1 if execution.device = "cuda", else 0'),
]
Machine = Annotated[
    str | None, typer.Option(help="The workers' machine type.", show_default="one of 8 CPUs, with a GPU if asked for")
]
Region = Annotated[str | None, typer.Option(help="Where the machines are.", show_default="Ray's own default")]
Spot = Annotated[bool, typer.Option("--spot", help="Cheaper workers that may be taken away.")]


@app.command()
def kuberay(
    file: SweepFile,
    out: Uri = None,
    image: Image = None,
    workers: Workers = 2,
    max_workers: MaxWorkers = None,
    cpus: Cpus = 8,
    memory: Memory = 16,
    gpus: Gpus = None,
    namespace: Annotated[str, typer.Option(help="Where the pods live.")] = "default",
    claim: Annotated[
        str | None, typer.Option(help="A PersistentVolumeClaim, mounted at /runs: --out is /runs/NAME then.")
    ] = None,
    service_account: Annotated[str | None, typer.Option(help="Whose rights, e.g. to a bucket, the pods have.")] = None,
) -> None:
    """A RayJob and its ConfigMap, for `kubectl create`; needs the KubeRay operator, 1.5.1 or later."""
    from cluster.templates.job import default_image
    from cluster.templates.kuberay import kuberay as manifests
    from cluster.templates.text import to_yaml

    job = _job(file, out)
    if claim is not None and out is None:
        job = _moved(job, f"/runs/{job.sweep.name}")
    documents = manifests(
        job,
        _sizes(job, workers, max_workers, cpus, gpus, memory),
        image=image or default_image(),
        namespace=namespace,
        claim=claim,
        service_account=service_account,
    )
    print(to_yaml(documents), end="")


@app.command()
def slurm(
    file: SweepFile,
    out: Annotated[
        str | None, typer.Option(help="Run directory, a path that all nodes have or a URI.", show_default="runs/NAME")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, max=10**4, help="Nodes.")] = 2,
    cpus: Cpus = 8,
    memory: Memory = 16,
    gpus: Gpus = None,
    time: Annotated[str, typer.Option(help="Time limit of the job; it queues itself again.")] = "24:00:00",
    partition: Annotated[str | None, typer.Option(help="Where it queues.", show_default="SLURM's own default")] = None,
) -> None:
    """A batch script for `sbatch`, which stops before its time is up, queues itself again and goes on."""
    from cluster.templates.slurm import slurm as script

    job = _job(file, out)
    if out is None:
        job = _moved(job, str(Path("runs", job.sweep.name).absolute()))
    print(script(job, _sizes(job, workers, workers, cpus, gpus, memory), time=time, partition=partition), end="")


@app.command()
def aws(
    file: SweepFile,
    out: Uri = None,
    image: Image = None,
    workers: Workers = 2,
    max_workers: MaxWorkers = None,
    cpus: Cpus = 8,
    gpus: Gpus = None,
    machine: Machine = None,
    region: Region = None,
    spot: Spot = False,
) -> None:
    """A cluster file for `ray up`, of machines at AWS."""
    from cluster.templates.clouds import Machines

    job = _job(file, out)
    hired = Machines(machine=machine, region=region, spot=spot)
    _print_cloud("aws", job, _sizes(job, workers, max_workers, cpus, gpus), hired, image)


@app.command()
def gcp(
    file: SweepFile,
    out: Uri = None,
    image: Image = None,
    workers: Workers = 2,
    max_workers: MaxWorkers = None,
    cpus: Cpus = 8,
    gpus: Gpus = None,
    machine: Machine = None,
    region: Region = None,
    spot: Spot = False,
    project: Annotated[str | None, typer.Option(help="Whose machines they are.")] = None,
    boot_image: Annotated[
        str | None, typer.Option(help="What machines boot; with GPUs, one with a driver.", show_default="common-cpu")
    ] = None,
) -> None:
    """A cluster file for `ray up`, of machines at GCP."""
    from cluster.templates.clouds import Machines

    job = _job(file, out)
    hired = Machines(machine=machine, region=region, spot=spot, project=project, boot_image=boot_image)
    _print_cloud("gcp", job, _sizes(job, workers, max_workers, cpus, gpus), hired, image)


@app.command()
def docker() -> None:
    """A Dockerfile for the image of all these; its context is a checkout of this version."""
    from cluster.templates.docker import dockerfile

    print(dockerfile(), end="")


def _job(file: Path, out: str | None) -> Job:
    from cluster.shipping import destination
    from cluster.templates.job import Job
    from study.sweep_run import load

    if out is not None and (not out.strip() or not out.isprintable()):
        raise UserError(f"--out {out!r}: must be a path or a URI")
    sweep, _ = load(file)
    return Job(sweep=sweep, file=file.absolute(), out=destination(out) if out else "")


def _moved(job: Job, out: str) -> Job:
    import dataclasses

    return dataclasses.replace(job, out=out)


def _sizes(job: Job, workers: int, max_workers: int | None, cpus: int, gpus: int | None, memory: int = 0) -> Sizes:
    from cluster.templates.job import Sizes

    wanted = int(job.sweep.execution.device == "cuda") if gpus is None else gpus
    return Sizes(workers=workers, max_workers=max_workers or workers, cpus=cpus, memory=memory, gpus=wanted)


def _print_cloud(provider: str, job: Job, sizes: Sizes, hired: Machines, image: str | None) -> None:
    from cluster.templates.clouds import cloud
    from cluster.templates.job import default_image
    from cluster.templates.text import to_yaml

    print(to_yaml([cloud(provider, job, sizes, hired, image=image or default_image())]), end="")

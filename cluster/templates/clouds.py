"""Cluster files for `ray up`: a head that trains nothing, and workers that come and go, on AWS or GCP."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from cluster.shipping import Shipment, shipment_of
from cluster.templates.job import Job, Sizes, check_sizes, check_uri, check_word, cluster_name, run_command
from study.errors import UserError

DEFAULT_CPUS = 8
"""CPUs of the machines in MACHINES."""

MACHINES = {"aws": ("m7i.2xlarge", "g6.2xlarge"), "gcp": ("n2-standard-8", "g2-standard-8")}
"""Eight CPUs and 32 GiB of each provider; without a GPU, and with one NVIDIA L4."""

HEADS = {"aws": "m7i.large", "gcp": "n2-standard-2"}
REGIONS = {"aws": "us-west-2", "gcp": "us-west1"}
CLIENTS = {"aws": "boto3", "gcp": "google-api-python-client google-auth cryptography"}
"""What Ray's autoscaler needs on the head, to start workers."""

GCP_IMAGE = "projects/deeplearning-platform-release/global/images/family/common-cpu"
DISK = 100
"""GiB of every machine's disk: the image, and Ray's logs."""

AUTH = "export RAY_AUTH_MODE=token && "
"""The token is a file on every machine, which `ray up` copies from the user's home."""

AWAIT = 'import ray; ray.init("auto", log_to_driver=False); exit(sum(n["Alive"] for n in ray.nodes()) <= {workers})'
ADDRESS = "import ray.util; print(ray.util.get_node_ip_address())"


@dataclass(frozen=True, kw_only=True)
class Machines:
    """What is hired.

    Attributes:
        machine: The workers' machine type; None for one of 8 CPUs, with a GPU if asked for.
        region: None for Ray's own default.
        project: GCP's project; None for AWS.
        boot_image: What GCP's machines boot; one with a driver for GPUs. None for AWS, or Ray's own default.
        spot: Workers that the provider may take away; their packs run again.
    """

    machine: str | None = None
    region: str | None = None
    project: str | None = None
    boot_image: str | None = None
    spot: bool = False


def cloud(provider: str, job: Job, sizes: Sizes, hired: Machines, *, image: str) -> dict[str, Any]:
    """The content of a cluster file.

    Args:
        provider: "aws" or "gcp".
        job: The sweep; its `out` is a URI.
        sizes: `workers` machines from the start, `max_workers` at most; the machine type decides the memory.
        hired: What machines.
        image: The container image of all machines.

    Raises:
        UserError: For what the provider or the sweep could not use.
    """
    check_sizes(sizes, job.sweep)
    check_uri(job.out)
    check_word("image", image)
    for option in ("machine", "region", "project"):
        if (value := getattr(hired, option)) is not None:
            check_word(option, value)
    if hired.machine is None and (sizes.cpus != DEFAULT_CPUS or sizes.gpus > 1):
        raise UserError(f"--cpus {sizes.cpus} --gpus {sizes.gpus}: name the machine type that has them, with --machine")
    shipment = shipment_of(job.file)
    worker = hired.machine or MACHINES[provider][min(sizes.gpus, 1)]
    found, node = PROVIDERS[provider](hired, gpus=sizes.gpus)
    resources = {"CPU": sizes.cpus} | ({"GPU": sizes.gpus} if sizes.gpus else {})
    return {
        "cluster_name": cluster_name(shipment),
        "max_workers": sizes.max_workers,
        "idle_timeout_minutes": 5,
        "provider": found,
        "auth": {"ssh_user": "ubuntu"},
        "docker": {"image": image, "container_name": "manypaths", "pull_before_run": True},
        "available_node_types": {
            "head": {"resources": {"CPU": 0}, "max_workers": 0, "node_config": node(HEADS[provider], spot=False)},
            "worker": {
                "resources": resources,
                "min_workers": sizes.workers,
                "max_workers": sizes.max_workers,
                "node_config": node(worker, spot=hired.spot),
            },
        },
        "head_node_type": "head",
        "file_mounts": _mounts(job, shipment),
        **_commands(provider, f"sweep/{shipment.sweep}", job.out, sizes),
    }


def _mounts(job: Job, shipment: Shipment) -> dict[str, str]:
    """What lies where on the machines, and where it comes from; also Ray's token, which no file of ours holds."""
    mounts = {"~/.ray/auth_token": "~/.ray/auth_token", f"~/sweep/{shipment.sweep}": str(job.file)}
    table = job.sweep.design.table
    for path in shipment.files:
        folder, _, kept = path.rpartition("/files/")
        if folder:
            mounts[f"~/sweep/{path}"] = str(job.file.parent / unquote(kept))
        elif path != shipment.sweep and table:
            mounts[f"~/sweep/{path}"] = str(job.file.parent / table)
    return mounts


def _commands(provider: str, file: str, out: str, sizes: Sizes) -> dict[str, list[str]]:
    """Shell commands; the provider's defaults would install another Ray."""
    sweep = run_command(file, out)
    script = [
        "set -eu",
        "cd",
        "export RAY_AUTH_MODE=token",
        f"until python -c {shlex.quote(AWAIT.format(workers=sizes.workers))}; do sleep 5; done",
        f"head=$(python -c {shlex.quote(ADDRESS)})",
        f'exec {sweep} --address "$head:6379"',
    ]
    start = f"{AUTH}ulimit -n 65536 && ray start"
    head = "--head --port=6379 --num-cpus=0 --autoscaling-config=~/ray_bootstrap_config.yaml --dashboard-host=127.0.0.1"
    return {
        "setup_commands": [],
        "head_setup_commands": [
            f"python -m pip install --user --quiet {CLIENTS[provider]}",
            f"printf '%s\\n' {shlex.join(script)} > ~/run.sh",
        ],
        "worker_setup_commands": [],
        "head_start_ray_commands": ["ray stop", f"{start} {head}"],
        "worker_start_ray_commands": ["ray stop", f'{start} --address="$RAY_HEAD_IP:6379"'],
    }


Node = Callable[..., dict[str, Any]]


def _aws(hired: Machines, *, gpus: int) -> tuple[dict[str, Any], Node]:
    def node(machine: str, *, spot: bool) -> dict[str, Any]:
        disk = [{"DeviceName": "/dev/sda1", "Ebs": {"VolumeSize": DISK}}]
        market = {"InstanceMarketOptions": {"MarketType": "spot"}} if spot else {}
        return {"InstanceType": machine, "BlockDeviceMappings": disk, **market}

    return {"type": "aws", "region": hired.region or REGIONS["aws"], "cache_stopped_nodes": False}, node


def _gcp(hired: Machines, *, gpus: int) -> tuple[dict[str, Any], Node]:
    if hired.project is None:
        raise UserError("--project is missing: gcp has to know whose machines they are")
    if gpus and hired.boot_image is None:
        raise UserError("--boot-image is missing: machines with GPUs have to boot an image with NVIDIA's driver")
    image = check_word("boot-image", hired.boot_image or GCP_IMAGE)

    def node(machine: str, *, spot: bool) -> dict[str, Any]:
        boot = {"diskSizeGb": DISK, "sourceImage": image}
        disk = {"boot": True, "autoDelete": True, "type": "PERSISTENT", "initializeParams": boot}
        scheduling: dict[str, Any] = {"preemptible": True} if spot else {}
        if gpus and machine != HEADS["gcp"]:
            scheduling["onHostMaintenance"] = "TERMINATE"  # machines with GPUs cannot be moved
        return {"machineType": machine, "disks": [disk]} | ({"scheduling": [scheduling]} if scheduling else {})

    region = hired.region or REGIONS["gcp"]
    provider = {"type": "gcp", "region": region, "availability_zone": f"{region}-a", "project_id": hired.project}
    return provider, node


PROVIDERS = {"aws": _aws, "gcp": _gcp}

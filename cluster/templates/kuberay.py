"""A KubeRay RayJob that runs a sweep, and the ConfigMap that brings it there.

Keys as in the custom resource definition of KubeRay 1.7, `ray.io/v1`; `authOptions` needs KubeRay 1.5.1.
"""

from __future__ import annotations

import base64
from importlib import metadata
from typing import Any

from cluster.shipping import Shipment, shipment_of
from cluster.templates.job import (
    NAME,
    Job,
    Sizes,
    check_sizes,
    check_uri,
    check_word,
    cluster_name,
    run_command,
)
from study.errors import UserError

FOLDER = "/sweep"
SCRIPT = "run.sh"
LARGEST = 10**6
"""Bytes in a ConfigMap; Kubernetes allows a MiB, keys and encoding included."""

RETRIES = 3
"""Each is a new cluster that goes on from what is in the run directory. It may overlap with the last: two writers of a
pack write the same file."""


def kuberay(
    job: Job,
    sizes: Sizes,
    *,
    image: str,
    namespace: str,
    claim: str | None = None,
    service_account: str | None = None,
) -> list[dict[str, Any]]:
    """The manifests, in the order in which to create them.

    Args:
        job: The sweep; its `out` is a URI, or a path below /runs with a claim.
        sizes: Workers; the head has none of the CPUs and trains nothing.
        image: The image of all pods.
        namespace: Where they live.
        claim: A PersistentVolumeClaim that all pods mount at /runs; None without one.
        service_account: Whose rights, e.g. to a bucket, the pods have; None for the namespace's default.

    Raises:
        UserError: For what Kubernetes or the sweep could not use.
    """
    _check(job, sizes, image, namespace, claim, service_account)
    shipment = shipment_of(job.file)
    _check_size(shipment)
    name = cluster_name(shipment)
    labels = {"app.kubernetes.io/name": "manypaths", "app.kubernetes.io/instance": name}
    about = {"name": name, "namespace": namespace, "labels": labels}
    keys = {
        path: f"file-{index}" if path != shipment.sweep else "sweep.toml" for index, path in enumerate(shipment.files)
    }
    pod = _Pod(name, image, keys, claim, service_account)
    script = f'exec {run_command(f"{FOLDER}/{shipment.sweep}", job.out)} --address "$RAY_ADDRESS"\n'
    return [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": about, "immutable": True}
        | _contents(shipment, keys, script),
        {"apiVersion": "ray.io/v1", "kind": "RayJob", "metadata": dict(about), "spec": _spec(sizes, pod)},
    ]


def _check(job: Job, sizes: Sizes, image: str, namespace: str, claim: str | None, service_account: str | None) -> None:
    check_sizes(sizes, job.sweep)
    check_word("image", image)
    for option, value in (("namespace", namespace), ("claim", claim), ("service-account", service_account)):
        if value is not None:
            check_word(option, value, rule=NAME)
    if claim is None:
        check_uri(job.out)
        return
    where = f"--claim {claim} with --out {job.out}: the claim is mounted at /runs"
    if "://" not in job.out and not job.out.startswith("/runs/"):
        raise UserError(f"{where}, so give --out /runs/NAME")
    if "://" in job.out and not (job.sweep.execution.data or "").startswith("/runs/"):
        raise UserError(f"{where}, where nothing would be read or written; leave one of them out")


def _check_size(shipment: Shipment) -> None:
    size = sum(map(len, shipment.files.values()))
    if size > LARGEST:
        raise UserError(
            f"the sweep file and what it names are {size} bytes: a ConfigMap holds {LARGEST}; `manypaths submit` ships "
            "them to a cluster that runs"
        )


def _contents(shipment: Shipment, keys: dict[str, str], script: str) -> dict[str, Any]:
    data, binary = {SCRIPT: script}, {}
    for path, content in shipment.files.items():
        try:
            data[keys[path]] = content.decode()
        except UnicodeDecodeError:
            binary[keys[path]] = base64.b64encode(content).decode()
    return {"data": data} | ({"binaryData": binary} if binary else {})


def _spec(sizes: Sizes, pod: _Pod) -> dict[str, Any]:
    grows = sizes.max_workers > sizes.workers
    scaling = {"enableInTreeAutoscaling": True, "autoscalerOptions": {"idleTimeoutSeconds": 120}} if grows else {}
    worker: dict[str, Any] = {"cpu": sizes.cpus, "memory": f"{sizes.memory}Gi"}
    if sizes.gpus:
        worker["nvidia.com/gpu"] = sizes.gpus
    return {
        # no word of the user's in it: KubeRay and Ray put it through two shells, which quote differently
        "entrypoint": f"bash {FOLDER}/{SCRIPT}",
        "submissionMode": "K8sJobMode",
        "backoffLimit": RETRIES,
        "shutdownAfterJobFinishes": True,
        "ttlSecondsAfterFinished": 600,
        "rayClusterSpec": {
            "rayVersion": metadata.version("ray"),
            "authOptions": {"mode": "token"},
            **scaling,
            "headGroupSpec": {
                "rayStartParams": {"num-cpus": "0"},
                "template": pod.template("ray-head", {"cpu": 2, "memory": "8Gi"}, head=True),
            },
            "workerGroupSpecs": [
                {
                    "groupName": "workers",
                    "replicas": sizes.workers,
                    "minReplicas": sizes.workers,
                    "maxReplicas": sizes.max_workers,
                    "rayStartParams": {},
                    "template": pod.template("ray-worker", worker, head=False),
                }
            ],
        },
    }


class _Pod:
    """What the head's pod and the workers' have in common."""

    def __init__(
        self, name: str, image: str, keys: dict[str, str], claim: str | None, service_account: str | None
    ) -> None:
        items = [{"key": SCRIPT, "path": SCRIPT}, *({"key": key, "path": path} for path, key in keys.items())]
        self.image, self.service_account = image, service_account
        self.volumes: list[dict[str, Any]] = [{"name": "sweep", "configMap": {"name": name, "items": items}}]
        self.mounts: list[dict[str, Any]] = [{"name": "sweep", "mountPath": FOLDER, "readOnly": True}]
        if claim:
            self.volumes.append({"name": "runs", "persistentVolumeClaim": {"claimName": claim}})
            self.mounts.append({"name": "runs", "mountPath": "/runs"})

    def template(self, name: str, resources: dict[str, Any], *, head: bool) -> dict[str, Any]:
        """A pod template; requests equal limits, so that no neighbour's load changes what a pack has."""
        ports = {"gcs-server": 6379, "dashboard": 8265, "client": 10001}
        container = {
            "name": name,
            "image": self.image,
            "env": [{"name": "RAY_USAGE_STATS_ENABLED", "value": "0"}],
            "resources": {"requests": dict(resources), "limits": dict(resources)},
            "securityContext": {"allowPrivilegeEscalation": False},
            "volumeMounts": self.mounts,
        }
        if head:
            container["ports"] = [{"containerPort": port, "name": called} for called, port in ports.items()]
        account = {"serviceAccountName": self.service_account} if self.service_account else {}
        security = {"runAsNonRoot": True, "fsGroup": 1000}
        spec = {**account, "securityContext": security, "containers": [container], "volumes": self.volumes}
        return {"spec": spec}

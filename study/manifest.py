"""What a run directory says of itself: versions, commit, hardware, the hash of the specification, the controls."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from study.native.build import NoCompiler, compiler_name
from study.schema import ENGINE_EPOCH, SCHEMA_VERSION
from study.spec import Sweep, to_toml
from study.store import ENTRIES, MANIFEST, RunDirectory
from study.tasks.table import get_task
from study.trial import digest


def manifest(sweep: Sweep) -> dict[str, Any]:
    """What ran where: versions, commit, hardware and the hash of the specification."""
    return {
        "sweep": sweep.name,
        "schema_version": SCHEMA_VERSION,
        "engine_epoch": ENGINE_EPOCH,
        "specification": digest(to_toml(sweep)),
        "versions": {name: metadata.version(name) for name in ("manypaths", "torch", "numpy", "pyarrow", "scipy")},
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "processor": platform.machine(),
        "compiler": _compiler(),
        "controls": controls(sweep),
        "stated": [],
        "commit": _commit(),
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _compiler() -> str | None:
    """What programs are compiled by on this machine, options included; None where there is nothing."""
    try:
        return compiler_name()
    except NoCompiler:
        return None


def _commit() -> str | None:
    """The commit of the code that runs, with + if it has changes; None where it is not a git checkout."""
    folder = Path(__file__).resolve().parent
    try:
        command = ["git", "-C", str(folder), "describe", "--always", "--abbrev=12", "--dirty=+", "--exclude=*"]
        return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def controls(sweep: Sweep) -> dict[str, list[dict[str, Any]]]:
    """What the sweep's tasks say of generators of known quality, for whoever reads the results without the tasks."""
    return {
        name: [{"name": c.name, "value": c.value, "must": c.must} for c in get_task(name).controls]
        for name in sweep.tasks
    }


def foreign_entry(directory: RunDirectory) -> str | None:
    """Something that says that a folder is no run's, so that nothing is to be written there; None if nothing does."""
    found = directory.read_json(MANIFEST)
    if found is not None:
        return None if {"sweep", "schema_version"} <= found.keys() else MANIFEST
    try:
        json.loads(directory.read(MANIFEST) or b"")
    except ValueError:  # there is none, or it is truncated
        return next(iter(sorted(set(directory.names()) - ENTRIES)), None)
    return MANIFEST

"""What travels to a cluster with a sweep: its file, the user's files that it names, and this package if asked.

Ray puts the folder that travels first on every import path. So it holds nothing of the user's at its top: only a
folder with the sweep, and this package where it is sent along, which then comes before whatever is installed there.
"""

from __future__ import annotations

import shlex
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path, PurePosixPath
from urllib.parse import quote

from study import user_files
from study.errors import UserError
from study.options import without_key
from study.spec import Sweep, files_named, to_toml
from study.sweep_run import load
from study.trial import digest

FOLDER = "shipped"
ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ("manypaths.py", "search_spaces", "study", "analysis", "cluster")


@dataclass(frozen=True)
class Shipment:
    """What travels.

    Attributes:
        name: The sweep's name.
        hash: Of the specification and of the content of the files that it names, 16 hexadecimal digits.
        sweep: Where the sweep file lies among `files`.
        files: Paths, relative and with forward slashes, and contents.
    """

    name: str
    hash: str
    sweep: str
    files: Mapping[str, bytes]


def shipment_of(path: Path) -> Shipment:
    """Read a sweep file, check it as `run` would, and gather what it needs.

    Raises:
        UserError: As `study.sweep_run.load`, and for what cannot travel.
    """
    sweep, trials = load(path)
    _check_travels(sweep)
    content = path.read_bytes()
    files = {}
    if sweep.design.table:
        files[f"{FOLDER}/{sweep.design.table}"] = (path.parent / sweep.design.table).read_bytes()
    drawn = {trial.hyperparameters.network or "" for trial in trials}  # a design table may name networks
    named = [*files_named(tomllib.loads(content.decode("utf-8-sig"))), *user_files.files_in(sorted(drawn))]
    for file in named:
        # where `study.user_files` looks for the files that a run keeps
        files[f"{FOLDER}/files/{quote(file, safe='')}"] = user_files.content_of(file)
    hashed = digest([to_toml(sweep), {name: digest(data.hex()) for name, data in files.items()}])
    target = f"{FOLDER}/{sweep.name}.toml"
    return Shipment(sweep.name, hashed, target, files | {target: content})


def _check_travels(sweep: Sweep) -> None:
    table, data = sweep.design.table, sweep.execution.data
    if table and Path(table).is_absolute():
        raise UserError(f"design.table = {table!r}: must be relative to the sweep file, or it cannot travel with it")
    if data and not Path(data).is_absolute():
        raise UserError(
            f"execution.data = {data!r}: must be an absolute path that every machine of the cluster has; data do not "
            "travel with a sweep"
        )


def package_files() -> dict[str, bytes]:
    """This package as it stands here, with the name and version by which an installed one would be known."""
    files = {}
    for entry in PACKAGE:
        top = ROOT / entry
        for path in [top] if top.is_file() else sorted(top.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                files[path.relative_to(ROOT).as_posix()] = path.read_bytes()
    version = metadata.version("manypaths")
    about = f"Metadata-Version: 2.1\nName: manypaths\nVersion: {version}\n"
    return files | {f"manypaths-{version}.dist-info/METADATA": about.encode()}


def write_files(files: Mapping[str, bytes], folder: Path) -> None:
    """Lay files out in an empty folder."""
    for name, content in files.items():
        path = folder / PurePosixPath(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def destination(out: str) -> str:
    """A run directory as the cluster is to see it: a URI as it is, a path made absolute.

    Raises:
        UserError: If it would carry a password to where everybody can read it.
    """
    if "://" not in out:
        return str(Path(out).absolute())
    return without_key(out).rstrip("/")


def entrypoint(shipment: Shipment, out: str, *, python: str) -> str:
    """The shell's command for the job: what the user gave is quoted, and the program takes the shell's place."""
    # -P: not even the folder that it is started in is searched; $RAY_ADDRESS is set by Ray inside a job
    command = [python, "-P", "-m", "manypaths", "run", shipment.sweep, "--out", out]
    return f'exec {shlex.join(command)} --address "$RAY_ADDRESS"'

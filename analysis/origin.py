"""What ran: the program and the machine that made a run, and the sweep file, as the run directory recorded them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from analysis.imported import stored
from study.store import MANIFEST, SWEEP, RunDirectory


@dataclass(frozen=True)
class Origin:
    """What a run says of its making.

    Attributes:
        facts: What, and what it was, in words; only what is on record.
        sweep: The text of the sweep file, normalised; None for an import.
    """

    facts: tuple[tuple[str, str], ...]
    sweep: str | None


def origin(directory: RunDirectory) -> Origin:
    """What a run directory says of its making; an import says where it came from."""
    said = stored.note(directory)
    if said is not None:
        return Origin((("imported from", str(said.get("source"))),), None)
    text = directory.read(SWEEP)
    return Origin(_facts(directory.read_json(MANIFEST) or {}), None if text is None else text.decode())


def _facts(manifest: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    versions, commit = manifest.get("versions", {}), manifest.get("commit")
    changed = " (with changes of its own)" if str(commit).endswith("+") else ""
    facts = {
        "manypaths": versions.get("manypaths"),
        "commit": f"{str(commit).rstrip('+')}{changed}" if commit else None,
        "engine epoch": manifest.get("engine_epoch"),
        "begun": manifest.get("created"),
        "torch": versions.get("torch"),
        "Python": manifest.get("python"),
        "platform": manifest.get("platform"),
    }
    return tuple((name, str(value)) for name, value in facts.items() if value is not None)

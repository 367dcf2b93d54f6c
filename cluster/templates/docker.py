"""The image that pods and virtual machines run."""

from __future__ import annotations

from importlib import metadata, resources


def dockerfile() -> str:
    """A Dockerfile whose context is a checkout of this version."""
    text = resources.files("cluster.templates").joinpath("Dockerfile").read_text(encoding="utf-8")
    return f"# manypaths {metadata.version('manypaths')}\n{text}"

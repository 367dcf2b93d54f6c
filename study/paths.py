"""Paths that a sweep file names: none leaves the folder it is relative to, and each is written in one way.

What is meant is decided by the text alone, so that it is the same here and on a cluster: a link is the user's own and
is followed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from study.errors import UserError
from study.user_files import climbs, files_in, normal_path, normalised

OF_REFERENCES = ("tasks", "methods", "confirmatory", "space", "variant")
"""Keys below which FILE.py:NAME may stand."""

IMAGES = "images:"


def normal_paths(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The content of a sweep file with `./own.py:x` written as `own.py:x`; what is no text is left to others.

    Raises:
        UserError: For a path that climbs out of its folder.
    """
    content = {key: _with_references(key, value) if key in OF_REFERENCES else value for key, value in raw.items()}
    if isinstance(raw.get("claims"), list | tuple):
        content["claims"] = [_claim(claim) for claim in raw["claims"]]
    for table, key, write in (("design", "table", normal_path), ("execution", "data", str)):
        found = content.get(table)
        if isinstance(found, Mapping) and isinstance(found.get(key), str):
            _check(f"{table}.{key}", found[key], found[key])
            content[table] = {**found, key: write(found[key])}
    return content


def _with_references(key: str, value: object) -> object:
    """Some content, at a dotted key, with the references in its texts checked and written in one way."""
    if isinstance(value, str):
        return _reference(key, value)
    if isinstance(value, Mapping):
        return {name: _with_references(f"{key}.{name}", inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_with_references(key, inner) for inner in value]
    return value


def _claim(claim: object) -> object:
    if not isinstance(claim, Mapping):
        return claim
    named = {key: _with_references(f"claims.{key}", claim[key]) for key in ("methods", "tasks") if key in claim}
    return {**claim, **named}


def _reference(key: str, text: str) -> str:
    for file in files_in([text]):
        _check(key, text, file)
    if key == "tasks" and text.startswith(IMAGES):
        _check(key, text, text.removeprefix(IMAGES).partition("[")[0].strip(), "the folder with the data")
    return normalised(text)


def _check(key: str, value: str, path: str, folder: str = "the folder of the sweep file") -> None:
    if climbs(path):
        raise UserError(f"{key} = {value!r}: a relative path stays below {folder}; give an absolute one")

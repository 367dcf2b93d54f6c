"""Text in TOML, one line for each value: what the standard library reads and does not write."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping


def toml_lines(content: Mapping[str, object]) -> str:
    """The lines of a document, with dotted keys; what is None is left out."""
    leaves = (leaf for name, value in content.items() for leaf in _leaves(value, (name,)))
    return "".join(f"{key} = {value}\n" for key, value in leaves)


def _leaves(content: object, path: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    if isinstance(content, dict) and content:
        for key, value in content.items():
            yield from _leaves(value, (*path, key))
    elif content is not None:
        yield (
            ".".join(part if re.fullmatch(r"[\w-]+", part, re.ASCII) else _toml(part) for part in path),
            _toml(content),
        )


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_toml(key)} = {_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    # JSON's numbers, strings and arrays are TOML's too, but for surrogate pairs and a bare delete character
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")

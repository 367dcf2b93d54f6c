"""Names with options, `NAME[key=value, ...]`: what a function's keyword arguments are, written in a sweep file."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Mapping
from typing import TypeVar

from study.errors import UserError, unknown

NAME = re.compile(r"(?P<head>[^\[\]]+)(?:\[(?P<options>[^\[\]]*)\])?")
Option = int | float | str | bool
Made = TypeVar("Made")


def cut(name: str) -> tuple[str, dict[str, str]]:
    """A name without its options, and the options as texts.

    Raises:
        UserError: The name has another form.
    """
    match = NAME.fullmatch(name)
    if match is None:
        raise UserError(f"{name!r} is not of the form NAME or NAME[key=value, ...]")
    options: dict[str, str] = {}
    for piece in (match["options"] or "").split(","):
        key, equals, value = (part.strip() for part in piece.partition("="))
        if not piece.strip() and match["options"] is None:
            continue
        if not (key and equals and value) or key in options:
            raise UserError(f"{name!r}: options have the form [key=value, ...], each key once")
        options[key] = value
    return match["head"].strip(), options


def call(name: str, make: Callable[..., Made], options: Mapping[str, str]) -> Made:
    """Call a function with options, each turned into the type of the argument's default.

    Raises:
        UserError: For an unknown option, a value of another type, and a way to write the name that is not the one: two
            names for the same thing would give it two identities.
    """
    defaults = {
        key: parameter.default
        for key, parameter in inspect.signature(make).parameters.items()
        if parameter.default is not inspect.Parameter.empty
    }
    values = {}
    for key, text in options.items():
        if key not in defaults:
            raise unknown(f"option of {name!r}:", key, defaults or ["none"])
        values[key] = _typed(name, key, text, defaults[key])
    head = cut(name)[0]
    changed = {key: values[key] for key in defaults if key in values and values[key] != defaults[key]}
    canonical = head + (f"[{', '.join(f'{key}={_text(value)}' for key, value in changed.items())}]" if changed else "")
    if name != canonical:
        raise UserError(f"{name!r}: it has one way to be written, {canonical!r}")
    return make(**values)


def _typed(name: str, key: str, text: str, default: Option) -> Option:
    kind = type(default)
    try:
        if kind is bool:
            return {"true": True, "false": False}[text]
        value = kind(text)
        if not isinstance(value, float) or math.isfinite(value):
            return value
    except (ValueError, KeyError):
        pass
    words = {int: "a whole number", float: "a number", bool: "true or false"}
    raise UserError(f"{name!r}: {key} = {text!r} must be {words.get(kind, 'a text')}") from None


def _text(value: Option) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.12g}" if isinstance(value, float) else str(value)

"""What may not be in a sweep file, in one sentence."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any


def sentence(faults: Sequence[Mapping[str, Any]], keys: Callable[[Sequence[str]], Collection[str]]) -> str:
    """The fault that says most: which key, which value, which rule, and what exists instead.

    Args:
        faults: As pydantic tells them.
        keys: The keys that are known below some others.
    """
    # a key that is missing may be there under a wrong name, which says more
    first, *others = sorted(map(dict, faults), key=lambda fault: fault["type"] != "extra_forbidden")
    location, alike = [str(part) for part in first["loc"]], [first]
    if location[-1:] and re.match(
        r"literal\[|constrained-int$", location[-1]
    ):  # one member of a union: join their rules
        location = location[:-1]
        alike += [other for other in others if other["loc"][:-1] == first["loc"][:-1]]
        first["msg"] += "".join(f", or {other['msg'].lower()}" for other in alike[1:])
    key = ".".join(location)
    if first["type"] == "extra_forbidden":
        known = sorted(keys(location[:-1]))
        near = difflib.get_close_matches(location[-1], known, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        return f"unknown key {key!r}: {hint}known here are {', '.join(known)}"
    if first["type"] == "missing":
        return f"{key} is missing"
    value = first["input"]
    message = re.sub("^Value error, | after validation, not 0| or instance of .*", "", first["msg"])
    message = (message[0].lower() + message[1:]).replace("tuple", "list").replace("dictionary", "table")
    whole = isinstance(value, float) and value.is_integer() and abs(value) < 2**53
    if whole and any(fault["type"] == "int_type" for fault in alike):
        message += f", written without point and exponent: {value:.0f}"
    shown = json.dumps(value, default=str)
    return f"{key} = {shown if len(shown) < 120 else shown[:117] + '...'}: {message}"

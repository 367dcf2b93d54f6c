"""The error that is the user's to mend."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake in what the user gave: one sentence naming the key, the value, the rule and what exists instead."""


def unknown(kind: str, name: str, existing: Iterable[str]) -> UserError:
    """The error for a name that does not exist: lists those that do, nearest first."""
    names = sorted(existing)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.4)
    ordered = near + [other for other in names if other not in near]
    return UserError(f"unknown {kind} {name!r}: choose from {', '.join(ordered)}")

"""What the p-values of a task's comparisons allow to say, adjusted together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from analysis.pairing import benjamini_hochberg, holm
from study.statements import BEFORE

if TYPE_CHECKING:
    from analysis.comparisons import Comparison

SIGNIFICANT = 0.05
"""Adjusted p below which a confirmatory comparison gets a direction."""

INTERIM = "interim"
CENSORED = "censored"
NO_DIFFERENCE = "no difference shown"


def judged(declared: Sequence[Comparison], *, withdrawn: int = 0) -> list[Comparison]:
    """Adjust a task's confirmatory comparisons (Holm 1979) and say what they allow.

    An unfinished one counts with p = 1, which can only raise the others' adjusted p: a verdict given before the whole
    family is finished stays true when it is.

    Args:
        declared: The comparisons.
        withdrawn: How many more there were before results, which count with p = 1: to take one out helps no other.
    """
    raw = [item.log_auc_difference.p_value if _unfinished(item) is None else 1.0 for item in declared]
    adjusted = holm([*(1.0 if p is None else p for p in raw), *[1.0] * withdrawn])
    return [_verdict(item, float(p)) for item, p in zip(declared, adjusted[: len(declared)], strict=True)]


def explored(others: Sequence[Comparison]) -> list[Comparison]:
    """Adjust a task's exploratory comparisons for the share of false discoveries; an unfinished one has no p."""
    raw = [item.log_auc_difference.p_value if _unfinished(item) is None else None for item in others]
    known = iter(benjamini_hochberg([p for p in raw if p is not None]))
    adjusted = [None if p is None else float(next(known)) for p in raw]
    return [replace(item, p_discovery=p) for item, p in zip(others, adjusted, strict=True)]


def _unfinished(comparison: Comparison) -> str | None:
    if comparison.missing:
        return INTERIM
    return CENSORED if comparison.stopped else None


def _verdict(comparison: Comparison, adjusted: float) -> Comparison:
    unfinished = _unfinished(comparison)
    if unfinished is not None:
        return replace(comparison, verdict=unfinished)
    better = comparison.first if comparison.log_auc_difference.value > 0 else comparison.second
    more = "survives more" if max(comparison.success) > 0 else "scores higher, and neither reaches the threshold"
    said = f"{better} {more}" if adjusted < SIGNIFICANT else NO_DIFFERENCE
    label = "" if comparison.standing in (None, BEFORE) else f" ({comparison.standing})"
    return replace(comparison, p_adjusted=adjusted, verdict=f"{said}{label}")

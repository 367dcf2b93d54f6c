"""Numbers as a reader sees them, and the sentence that states a comparison."""

from __future__ import annotations

import math

from analysis.comparisons import ADAPTIVE, Comparison
from analysis.intervals import Estimate
from study.statements import AFTER, BEFORE, WITHDRAWN

NONE = "n/a"

_DECLARED = {AFTER: " (declared after the fact)", WITHDRAWN: " (declared before the run, withdrawn after results)"}


def share(value: float) -> str:
    """A fraction between -1 and 1 with two decimals and no leading zero: `.66`, `-.05`, `1.00`."""
    if not math.isfinite(value):
        return NONE
    text = f"{value:.2f}"
    text = text.lstrip("-") if float(text) == 0 else text
    return text.replace("0.", ".", 1) if abs(float(text)) < 1 else text


def signed(value: float) -> str:
    """Like `share`, with the sign of what rounds to more than 0."""
    text = share(value)
    return text if not math.isfinite(value) or text.startswith("-") or float(text) == 0 else f"+{text}"


def percent(value: float) -> str:
    """A fraction in whole percent: `15 %`."""
    return f"{value * 100:.0f} %" if math.isfinite(value) else NONE


def number(value: float) -> str:
    """Four significant digits; a failure as the infinity that it ranks as."""
    if math.isnan(value):
        return NONE
    return f"{'-' * (value < 0)}∞" if math.isinf(value) else f"{value:.4g}"


def p_value(value: float | None) -> str:
    """A p-value with its relation: `p = .012`, `p < .001`."""
    if value is None or math.isnan(value):
        return f"p {NONE}"
    if value < 0.001:
        return "p < .001"
    return f"p = {value:.3f}".replace("0.", ".", 1)


def interval(estimate: Estimate) -> str:
    """Both ends in brackets: `[.26, .34]`; where there is no interval, that."""
    if math.isnan(estimate.low):
        return "[no interval]"
    return f"[{share(estimate.low)}, {share(estimate.high)}]"


def difference(estimate: Estimate) -> str:
    """A difference with its interval and what that was taken over: `+.30 [.26, .34] (t over 8 replicates)`."""
    return f"{ends(estimate)} ({estimate.method})"


def ends(estimate: Estimate) -> str:
    """A difference with its interval where it has one: `+.30 [.26, .34]`."""
    if math.isnan(estimate.low):
        return signed(estimate.value)
    return f"{signed(estimate.value)} {interval(estimate)}"


def sentence(comparison: Comparison) -> str:
    """A comparison as a claim: where, with what prior, which methods, and every number that it rests on."""
    auc, success = comparison.log_auc_difference, comparison.success_difference
    tally = comparison.record
    parts = [
        f"log-AUC {_versus(comparison.log_auc)}, paired difference {difference(auc)}",
        f"success ({comparison.metric} <= {comparison.threshold:.4g}) {_versus(comparison.success)}, "
        f"difference {difference(success)}",
        f"failures {percent(comparison.failures[0])} vs {percent(comparison.failures[1])}",
        f"win/both failed/tie/loss {tally.win}/{tally.both_failed}/{tally.tie}/{tally.loss}",
        _decision(comparison),
        _coverage(comparison),
    ]
    where = f"On {comparison.task}, {comparison.setting}, {comparison.first} vs {comparison.second}: "
    return where + "; ".join(parts) + "."


def _versus(pair: tuple[float, float]) -> str:
    return f"{share(pair[0])} vs {share(pair[1])}"


def _decision(comparison: Comparison) -> str:
    if comparison.verdict == ADAPTIVE:
        return f"{ADAPTIVE}, as configurations that a search chose are no draws from the prior"
    if comparison.p_adjusted is not None:
        label = "" if comparison.standing in (None, BEFORE) else f" ({comparison.standing})"
        return f"Holm {p_value(comparison.p_adjusted)}{label}"
    if comparison.confirmatory:
        return f"{comparison.verdict}, no p"
    kind = f"exploratory{_DECLARED.get(comparison.standing or '', '')}"
    if comparison.p_discovery is not None:
        return f"{kind}, Benjamini-Hochberg {p_value(comparison.p_discovery)}"
    if comparison.missing or comparison.stopped:
        return f"{kind}, unfinished, no p"
    return f"{kind}, unadjusted {p_value(comparison.log_auc_difference.p_value)}"


def _coverage(comparison: Comparison) -> str:
    text = f"missing {comparison.missing}"
    if comparison.stopped:
        text += f", stopped {comparison.stopped}"
    if comparison.unpaired:
        text += f", unpaired {comparison.unpaired}"
    if comparison.pairs < comparison.planned:
        text += f" (the difference of log-AUC can still end between {share(comparison.bounds[0])} and "
        text += f"{share(comparison.bounds[1])})"
    return text

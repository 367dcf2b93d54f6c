"""Verdicts on claims that a sweep stated: supported, refuted or inconclusive, each with the number that decided.

A check states that a number lies in a region of the line, which its direction and margin m give around what it is
compared with, a (0 for a difference):

| direction | the number is  | direction  | the number is           |
|-----------|----------------|------------|-------------------------|
| higher    | above a + m    | not_lower  | above a - m             |
| lower     | below a - m    | not_higher | below a + m             |
| equal     | from a - m to a + m | differ | below a - m or above a + m |

It is supported where its interval lies inside that region, refuted where it lies outside, and inconclusive where it
holds an end of the region. So no interval gives two verdicts, and a narrower one inside it gives the same verdict, or
turns inconclusive into a verdict. `equal` is the equivalence test by two one-sided tests (Schuirmann 1987), `not_lower`
that of non-inferiority. With intervals at 95 % each wrong verdict has a chance of at most 2.5 %.

In p-values: p is that of the nearest end (of both, for a number between two), and there is a verdict below .05. A claim
is supported where all its checks are, by the largest of their p (an intersection-union test, Berger 1982, which needs
no adjustment), and refuted where one is, by the least of their p times the number of checks (Bonferroni). Claims of one
family that were stated before any result share the chance of a wrong verdict: their p are adjusted by Holm (1979),
which is to look at wider intervals. What has no p yet counts as p = 1, and so does a claim that was taken out after
results: neither helps another one. A claim whose configurations became more after results keeps its verdict and its
place in the family, and is labelled: whoever looks and goes on until a verdict comes has a larger error (Armitage,
McPherson and Rowe 1969).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from analysis.contrasts import Measured
from analysis.intervals import Estimate
from analysis.measures import measure
from analysis.pairing import holm
from analysis.results import Results
from analysis.words import number, p_value
from study.claims import DIRECTIONS, LEAST, Check, Claim, digest_of
from study.statements import AFTER, BEFORE, EXTENDED, WITHDRAWN, Registered

SUPPORTED, REFUTED, INCONCLUSIVE = "supported", "refuted", "inconclusive"
VERDICTS = (SUPPORTED, REFUTED, INCONCLUSIVE)
OPPOSITES = {
    **{"higher": "not_higher", "lower": "not_lower", "equal": "differ"},
    **{"not_higher": "higher", "not_lower": "lower", "differ": "equal"},
}
"""What a number does that does not do what a direction says."""

OVER_TIME = ("trend", "association")
"""Measures that a trial without enough evaluations does not have, though it may have ended."""

ALPHA = 0.05
"""Adjusted p below which there is a verdict."""


@dataclass(frozen=True)
class Finding:
    """What came of one check on one task.

    Attributes:
        task: Name of the task.
        measure: Key of `study.claims.MEASURES`.
        methods: One method, two, or the four of an interaction.
        number: What the number is, in words.
        statement: Where it should lie, in words.
        opposite: Where it lies if the claim is refuted, in words.
        estimate: The number with its interval at 95 %.
        planned: Planned trials (pairs, configurations) in the region.
        undecided: Those of them without an outcome.
        bounds: Least and greatest that the number could become when they have one.
        holds: True where the estimate is as stated, False where not; None where `blocked`.
        p_value: Of the nearest number that would turn `holds`; 1 where `blocked`.
        blocked: Why there can be no verdict; None where there can.
    """

    task: str
    measure: str
    methods: tuple[str, ...]
    number: str
    statement: str
    opposite: str
    estimate: Estimate
    planned: int
    undecided: int
    bounds: tuple[float, float]
    holds: bool | None
    p_value: float
    blocked: str | None


@dataclass(frozen=True)
class Verdict:
    """What a sweep says of a claim.

    Attributes:
        id: The claim's id.
        statement: The claim in words.
        source: Paper and section.
        standing: When it was stated: `BEFORE`, `AFTER` or `WITHDRAWN`; `EXTENDED` if it was before the run, and its
            configurations became more after results.
        family: Name of its family.
        verdict: One of `VERDICTS`; None for a claim that was withdrawn.
        reason: Why, in one sentence; the number itself is that of `deciding`.
        deciding: The finding that decided; None for a claim that was withdrawn.
        findings: All findings.
        p_value: Of the verdict that the estimates point to; None for a claim that was withdrawn.
        p_adjusted: The same, adjusted over the family; None for a claim that was not stated before the run.
    """

    id: str
    statement: str
    source: str
    standing: str
    family: str
    verdict: str | None
    reason: str
    deciding: Finding | None
    findings: tuple[Finding, ...]
    p_value: float | None
    p_adjusted: float | None


def evaluate_claims(results: Results) -> tuple[Verdict, ...]:
    """A verdict on every claim of a sweep, in the file's order; then those that it no longer states.

    Bootstraps draw from a generator that is seeded by the claim itself, so that no other claim changes a verdict.
    """
    found = [_unadjusted(results, item) for item in results.claims]
    before = [index for index, item in enumerate(results.claims) if item.rows == 0]
    judged = list(found)
    for family in dict.fromkeys(verdict.family for verdict in found):
        members = [index for index in before if found[index].family == family]
        adjusted = dict(zip(members, holm([_p_value(found[index]) for index in members]), strict=True))
        for index in [index for index, verdict in enumerate(found) if verdict.family == family]:
            p = adjusted.get(index)
            judged[index] = _judged(found[index], None if p is None else float(p), len(members))
    return tuple(judged)


def table(verdicts: Sequence[Verdict]) -> list[dict[str, Any]]:
    """One row per claim for a reader: its verdict, the number that decided, and why."""
    return [
        {
            "claim": verdict.id,
            "stated": verdict.standing,
            "verdict": verdict.verdict,
            "number": _shown(verdict.deciding.estimate) if verdict.deciding else None,
            "reason": verdict.reason,
        }
        for verdict in verdicts
    ]


def as_json(verdicts: Sequence[Verdict]) -> list[dict[str, Any]]:
    """The verdicts as JSON data, whole; None for what is no number or infinite."""
    return [{key: _plain(value) for key, value in asdict(verdict).items()} for verdict in verdicts]


def _p_value(verdict: Verdict) -> float:
    return 1.0 if verdict.p_value is None else verdict.p_value


def _unadjusted(results: Results, item: Registered) -> Verdict:
    if item.claim is None:
        reason = f"changed or taken out of the file after {item.withdrawn} trials had rows"
        return Verdict(item.id, "", "", WITHDRAWN, item.family, None, reason, None, (), None, None)
    claim = item.claim
    findings = tuple(_findings(results, claim))
    verdict, deciding, p_value = _conjunction(findings)
    standing = _standing(results, claim) if item.rows == 0 else AFTER
    return Verdict(
        *(
            claim.id,
            claim.statement,
            claim.source,
            standing,
            claim.family,
            verdict,
            "",
            deciding,
            findings,
            p_value,
            None,
        )
    )


def _standing(results: Results, claim: Claim) -> str:
    """How a claim stands that was stated before the run: whoever sees a verdict may go on until it pleases."""
    looked = [
        results.extended(check.tasks, (*check.methods, *([check.control] if check.control else [])))
        for check in claim.checks
    ]
    rows = min((count for count in looked if count is not None), default=None)
    return BEFORE if rows is None else EXTENDED.format(rows=rows)


def _findings(results: Results, claim: Claim) -> Iterator[Finding]:
    for position, check in enumerate(claim.checks):
        for task in check.tasks:
            for methods in comparisons(check):
                rng = np.random.default_rng([int(digest_of(claim), 16), position])
                yield _finding(check, task, methods, measure(results, task, check, methods, rng=rng), results.adaptive)


def comparisons(check: Check) -> list[tuple[str, ...]]:
    """The methods of every number of a check: all of an interaction, else the first with each of the others."""
    if check.control is not None:
        return [(check.methods[0], check.control)]
    if check.interaction or len(check.methods) == 1:
        return [check.methods]
    return [(check.methods[0], other) for other in check.methods[1:]]


def _finding(check: Check, task: str, methods: tuple[str, ...], found: Measured, adaptive: str | None) -> Finding:
    ends, truths = region(check)
    sides = [_side(ends, item) for item in (found, found.least, found.greatest) if item is not None]
    estimate = found.estimate
    blocked = _blocked(check, found, adaptive, straddles=len({side for side, _ in sides}) > 1)
    low, high = (item.estimate.value if item else estimate.value for item in (found.least, found.greatest))
    return Finding(
        task=task,
        measure=check.measure,
        methods=methods,
        number=_number(check, task, methods),
        statement=_statement(check, check.direction),
        opposite=_statement(check, OPPOSITES[check.direction]),
        estimate=estimate,
        planned=found.trials,
        undecided=found.undecided,
        bounds=(low, high),
        holds=None if blocked else truths[sides[0][0]],
        p_value=1.0 if blocked else max(p for _, p in sides),
        blocked=blocked,
    )


def region(check: Check) -> tuple[tuple[float, ...], tuple[bool, ...]]:
    """The ends of a check's region, ascending, and whether a number below, between and above them is as stated."""
    low, high = check.against - check.margin, check.against + check.margin
    return {
        "higher": ((high,), (False, True)),
        "lower": ((low,), (True, False)),
        "not_lower": ((low,), (False, True)),
        "not_higher": ((high,), (True, False)),
        "equal": ((low, high), (False, True, False)),
        "differ": ((low, high), (True, False, True)),
    }[check.direction]


def _side(ends: tuple[float, ...], found: Measured) -> tuple[int, float]:
    """How many ends lie below the estimate, and the p-value of the end next to it on either side."""
    value = found.estimate.value
    if math.isnan(value):
        return 0, 1.0
    below = sum(end < value for end in ends)
    return below, max(found.p_value(end) for end in ends[max(0, below - 1) : below + 1])


def _blocked(check: Check, found: Measured, adaptive: str | None, *, straddles: bool) -> str | None:
    """Why no verdict can be given, whatever the number is."""
    estimate = found.estimate
    if adaptive is not None:
        return f"configurations were chosen by {adaptive}, which saw results: they are no draws from the prior"
    if found.undecided and (found.least is None or straddles or math.isnan(estimate.value)):
        could = "what they may bring is not bounded"
        if found.least is not None and found.greatest is not None:
            low, high = number(found.least.estimate.value), number(found.greatest.estimate.value)
            could = f"the number can still become anything from {low} to {high}"
        lack = "have too few evaluations" if check.measure in OVER_TIME else "have no outcome yet"
        return f"interim: {found.undecided} of {found.trials} {lack}, and {could}"
    if estimate.n < LEAST:
        return f"{estimate.n} design points have such a number in the region, and {LEAST} are needed"
    if math.isnan(estimate.low):
        return f"{estimate.method}: there is no interval for {check.measure}"
    return None


def _conjunction(findings: tuple[Finding, ...]) -> tuple[str, Finding, float]:
    """The verdict that a claim's findings point to, the finding that decides, and its p-value."""
    against = [finding for finding in findings if finding.holds is False]
    if against:
        deciding = min(against, key=lambda finding: finding.p_value)
        return REFUTED, deciding, min(1.0, deciding.p_value * len(findings))
    blocked = [finding for finding in findings if finding.blocked]
    if blocked:
        return INCONCLUSIVE, blocked[0], 1.0
    deciding = max(findings, key=lambda finding: finding.p_value)
    return SUPPORTED, deciding, deciding.p_value


def _judged(verdict: Verdict, adjusted: float | None, family: int) -> Verdict:
    """The verdict that the adjusted p allows, with its reason."""
    deciding = verdict.deciding
    if deciding is None or verdict.p_value is None or verdict.verdict is None:
        return verdict
    if verdict.verdict == INCONCLUSIVE:
        return replace(verdict, p_adjusted=adjusted, reason=f"{deciding.number}: {deciding.blocked}")
    p = verdict.p_value if adjusted is None else adjusted
    decided = p < ALPHA
    plain = min(deciding.statement, deciding.opposite, key=lambda text: text.startswith("not "))
    says = {SUPPORTED: f"is {deciding.statement}", REFUTED: f"is {deciding.opposite}"}[verdict.verdict]
    says = says if decided else f"may or may not be {plain}"
    shown = p_value(p) + (f" by Holm over {family} claims" if adjusted is not None and family > 1 else "")
    return replace(
        verdict,
        verdict=verdict.verdict if decided else INCONCLUSIVE,
        p_adjusted=adjusted,
        reason=f"{deciding.number} {says} ({shown})",
    )


def _number(check: Check, task: str, methods: tuple[str, ...]) -> str:
    """What is measured, in words."""
    who = methods[0]
    if len(methods) == 2:
        who = f"{methods[0]} minus {methods[1]}"
    if len(methods) == 4:
        who = f"({methods[0]} minus {methods[1]}) minus ({methods[2]} minus {methods[3]})"
    if check.measure == "improvement":
        who = f"{methods[0]} over {methods[1]}"
    what = check.measure if check.k is None else f"best of {check.k}"
    of = f" in {check.metric}" if check.metric else ""
    when = f" at {check.steps} {check.unit}" if check.steps else ""
    where = f" where {check.where}" if check.where else ""
    return f"{what.replace('_', ' ')}{of} of {who} on {task}{when}{where}"


def _statement(check: Check, direction: str) -> str:
    """Where a number lies that is as a direction says, in words."""
    text = DIRECTIONS[direction].format(against=number(check.against), margin=number(check.margin))
    return text if check.margin > 0 else text.partition(" by ")[0]


def _shown(estimate: Estimate) -> str:
    return f"{number(estimate.value)} [{number(estimate.low)}, {number(estimate.high)}]"


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

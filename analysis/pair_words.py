"""Two methods on a task as a reader sees them: an aligned table, and a paragraph that states the claim."""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis import words
from analysis.best_of import BestOf
from analysis.comparisons import Comparison
from analysis.dominance import CROSSES, DOMINATES, Dominance
from analysis.pairing import FourWay
from analysis.ranges import stable

if TYPE_CHECKING:
    from analysis.pair_report import PairReport
    from analysis.parity import EqualSteps


def rows(report: PairReport) -> list[dict[str, str]]:
    """The comparison as a table: a quantity per row, the methods and their difference side by side."""
    found, tally = report.comparison, report.comparison.record
    table = _scores(found, "")
    table.append(_row("failures", (words.percent(found.failures[0]), words.percent(found.failures[1]))))
    if report.equal_steps.comparison is not None:
        table += _scores(report.equal_steps.comparison, f", {report.equal_steps.steps} D steps")
    apart = f"both failed {tally.both_failed}, ties {tally.tie}"
    table.append(_row("lower on a configuration", (str(tally.win), str(tally.loss)), apart))
    table.append(_counts("finished", found.finished, ""))
    table.append(_counts("succeeded", found.reached, _mcnemar(found)))
    for name, estimate in (("paired", found.poi_paired), ("apart", found.poi_pop)):
        sides = words.share(estimate.value), words.share(1 - estimate.value)
        table.append(_row(f"P(lower), {name}", sides, words.interval(estimate), estimate.method))
    table.append(_row("verdict", ("", ""), found.verdict or "none: exploratory", _decided(found)))
    columns = {"first": found.first, "second": found.second}
    return [{columns.get(name, name): value for name, value in row.items()} for row in table]


def paragraph(report: PairReport) -> str:
    """The comparison as a claim with every number that it rests on, and its verdict."""
    found = report.comparison
    first = [words.sentence(found)]
    if report.region is not None:
        first.append(f"Only where {report.region}, chosen afterwards: exploratory.")
    verdict = [f"Verdict: {found.verdict}."] if found.verdict is not None else []
    return " ".join([*first, further(report), *verdict])


def further(report: PairReport) -> str:
    """What else a reader has to know of a comparison, beyond its sentence and its verdict."""
    found, sentences = report.comparison, []
    if found.best:
        best = [f"{item.size}: {words.share(item.first)} vs {words.share(item.second)}" for item in _known(found)]
        sentences.append(f"Expected best score of so many configurations: {', '.join(best) or 'n/a'}.")
    if report.dominance is not None:
        sentences += [_stand(report, report.dominance), f"In parts: {stable(report.parts).words}.", _detectable(report)]
    return " ".join([*sentences, _equal_steps(report.equal_steps)])


def _decided(found: Comparison) -> str:
    """What a verdict rests on, or why there is none."""
    if found.p_adjusted is not None:
        return f"Holm {words.p_value(found.p_adjusted)}"
    if found.p_discovery is not None:
        return f"Benjamini-Hochberg {words.p_value(found.p_discovery)}"
    return "no p"


def _known(found: Comparison) -> list[BestOf]:
    return [item for item in found.best if item.first == item.first]


def _row(quantity: str, sides: tuple[str, str], difference: str = "", by: str = "") -> dict[str, str]:
    return {"quantity": quantity, "first": sides[0], "second": sides[1], "difference": difference, "by": by}


def _scores(found: Comparison, when: str) -> list[dict[str, str]]:
    """Log-AUC, success and the expected best at one budget."""
    lines = [
        ("log-AUC", found.log_auc, found.log_auc_difference),
        (f"success ({found.metric} <= {found.threshold:.4g})", found.success, found.success_difference),
        *((f"expected best of {item.size}", (item.first, item.second), item.difference) for item in found.best[1:]),
    ]
    return [
        _row(f"{name}{when}", (words.share(a), words.share(b)), words.ends(estimate), estimate.method)
        for name, (a, b), estimate in lines
    ]


def _counts(name: str, counts: FourWay, by: str) -> dict[str, str]:
    rest = f"both {counts.both}, neither {counts.neither}"
    return _row(f"alone {name}", (str(counts.only_first), str(counts.only_second)), rest, by)


def _mcnemar(found: Comparison) -> str:
    return "" if found.mcnemar is None else f"exact McNemar {words.p_value(found.mcnemar)}"


def _stand(report: PairReport, found: Dominance) -> str:
    names = (report.comparison.first, report.comparison.second)
    width = f"band +-{words.share(report.difference.half_width)}, {report.difference.band}"
    if found.kind == CROSSES:
        where = [f"{name} {_ranges(part)}" for name, part in zip(names, (found.first, found.second), strict=True)]
        return f"The profiles cross: ahead is {where[0]}, but {where[1]} ({width})."
    if found.leader is None:
        return f"At no threshold is either profile shown to be ahead ({width})."
    part = _ranges((found.first, found.second)[found.leader])
    ahead = f"the profile of {names[found.leader]} is ahead {part}"
    if found.kind == DOMINATES:
        return f"{names[found.leader]} dominates between the anchors: {ahead}, behind nowhere ({width})."
    return f"{ahead[0].upper()}{ahead[1:]}, nowhere else either is shown to be ({width})."


def _ranges(parts: tuple[tuple[float, float], ...]) -> str:
    count = f"in {len(parts)} ranges of thresholds" if len(parts) > 1 else "at thresholds"
    return f"{count} from {words.number(parts[0][0])} to {words.number(parts[-1][1])}"


def _detectable(report: PairReport) -> str:
    points = f"{report.comparison.points} independent points"
    texts = [
        f"a difference of {name} of {words.share(value)}"
        for name, value in (("log-AUC", report.log_auc_detectable), ("success", report.success_detectable))
        if value == value
    ]
    if not texts:
        return f"What {points} can detect is not known: no pair differs."
    return f"At the spread and discordance seen, {points} find {' and '.join(texts)} with 80 % power."


def _equal_steps(view: EqualSteps) -> str:
    if view.comparison is None:
        return f"At equal discriminator steps: {view.words}."
    found = view.comparison
    sides = [
        f"{name} {words.share(a)} vs {words.share(b)}"
        for name, (a, b) in (("log-AUC", found.log_auc), ("success", found.success))
    ]
    best = [f"best of {item.size} {words.share(item.first)} vs {words.share(item.second)}" for item in _known(found)]
    gap = words.difference(found.log_auc_difference)
    return f"At equal discriminator steps, {view.words}: {', '.join([*sides, *best[1:]])}; difference of log-AUC {gap}."

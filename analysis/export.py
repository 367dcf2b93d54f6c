"""Tables for elsewhere: tidy CSV with everything, and LaTeX or Markdown with what a paper prints."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, replace

import pandas as pd

from analysis import frames, intervals, words
from analysis.answers import setting
from analysis.comparisons import compare_all, table
from analysis.findings import prior_of
from analysis.intervals import Estimate
from analysis.questions import claimed
from analysis.results import Results
from analysis.summary import ESTIMATES, summary
from study.errors import UserError, unknown

Row = dict[Hashable, object]

SIGNS = {
    **{sign: f"\\{sign}" for sign in "&%#_{}"},
    **{"$": r"\$", "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
    **{"<": "$<$", ">": "$>$", "|": r"\textbar{}", "∞": r"$\infty$", '"': "''"},
}
"""What LaTeX would read as a command, or sets as another sign, to what shows it."""


@dataclass(frozen=True)
class Paper:
    """A table as a paper prints it.

    Attributes:
        name: What it is a table of; its label in LaTeX.
        caption: What the numbers are, and under which prior, budget and design.
        head: Names of the columns.
        rows: Cells, as many per row as the head; a row's first cell is its group, and repeats within it.
    """

    name: str
    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Export:
    """A table that can be exported: with everything, and as a paper prints it (None if no paper would)."""

    tidy: Callable[[Results], pd.DataFrame]
    paper: Callable[[Results], Paper] | None


def export(results: Results, form: str, name: str) -> str:
    """A table as text.

    Args:
        results: The results.
        form: "csv", "latex" or "markdown".
        name: One of `TABLES`.

    Raises:
        UserError: For a form or table that does not exist, or a table that no paper would print.
    """
    if form not in FORMS:
        raise unknown("form", form, FORMS)
    if name not in TABLES:
        raise unknown("table", name, TABLES)
    return FORMS[form](results, name)


def _csv(results: Results, name: str) -> str:
    return TABLES[name].tidy(results).to_csv(index=False, lineterminator="\n")


def _paper(results: Results, name: str) -> Paper:
    make = TABLES[name].paper
    if make is None:
        printed = ", ".join(key for key, entry in TABLES.items() if entry.paper)
        raise UserError(f"a table of {name} has too many rows to print: export it as csv, or choose from {printed}")
    return make(results)


# What a paper prints


def summary_paper(results: Results) -> Paper:
    """How much of the prior each method survives: a row per task and method."""
    found = summary(results).to_dict("records")
    undecided = any(_number(row, "success_best") > _number(row, "success_worst") for row in found)
    head = ("Task", "Method", "Points", "Success", "Log-AUC", "Failed", "Median")
    caption = (
        f"Robustness of each method: the fraction of the {_population(results)} that succeeds, the area under the "
        "robustness profile over the logarithm of the metric, the share of trials that failed (they count as the worst "
        f"outcome), and the median of the metric{_brackets(results)}"
    )
    return Paper(
        f"{results.name}-summary",
        _caption(results, caption, [str(row[f"{name}_method"]) for row in found for name in ESTIMATES]),
        (*head, "Undecided") if undecided else head,
        tuple(_summary_cells(row, undecided=undecided) for row in found),
    )


def _summary_cells(row: Row, *, undecided: bool) -> tuple[str, ...]:
    cells = (
        *(str(row[name]) for name in ("task", "method", "points")),
        *(_estimate(row, name) for name in ("success", "log_auc", "failure_rate")),
        _median(row),
    )
    if not undecided:
        return cells
    count = int(_number(row, "missing") + _number(row, "stopped"))
    ends = f"{words.share(_number(row, 'success_worst'))} to {words.share(_number(row, 'success_best'))}"
    return (*cells, f"{count}: success {ends}" if count else "0")


def comparisons_paper(results: Results) -> Paper:
    """Paired differences: a row per task and pair of methods, confirmatory pairs first."""
    found = table(compare_all(results)).to_dict("records")
    judged = (
        ". Pairs that were declared before the sweep have Holm's p and a verdict; all others are exploratory and have "
        "an unadjusted p"
    )
    caption = "Paired differences between methods on shared configurations, first minus second"
    caption += _brackets(results) + ("" if results.adaptive else judged)
    methods = [str(row[f"{name}_difference_method"]) for row in found for name in ("log_auc", "success")]
    return Paper(
        f"{results.name}-comparisons",
        _caption(results, caption, methods),
        ("Task", "First", "Second", "Pairs", "Log-AUC", "Success", "p", "Verdict"),
        tuple(_comparison_cells(row) for row in found),
    )


def _comparison_cells(row: Row) -> tuple[str, ...]:
    declared = row["family"] == "confirmatory"
    p = row["p_adjusted"] if declared else row["log_auc_difference_p"]
    return (
        *(str(row[name]) for name in ("task", "first", "second", "pairs")),
        *(_estimate(row, f"{name}_difference", write=words.signed) for name in ("log_auc", "success")),
        _p_value(None if p is None else float(str(p))),
        str(row["verdict"]) if declared else "exploratory",
    )


def claims_paper(results: Results) -> Paper:
    """The verdicts on what the sweep stated: a row per claim."""
    found = claimed(results).frame().to_dict("records")
    caption = (
        "Verdicts on the claims that the sweep stated, each with all numbers that it was checked by"
        f"{_brackets(results)}; a star marks the one that decided"
    )
    if results.adaptive is None:
        caption += ", and p is adjusted over the claims of a family that were stated before the run"
    return Paper(
        f"{results.name}-claims",
        _caption(results, caption, [str(row["interval"]) for row in found]),
        ("Claim", "Stated", "Verdict", "Task", "What", "Number", "p"),
        tuple(_claim_cells(row) for row in found),
    )


def _claim_cells(row: Row) -> tuple[str, ...]:
    """A number of a claim; verdict and p stand beside the one that decided."""
    p_adjusted = math.nan if row["p_adjusted"] is None else _number(row, "p_adjusted")
    decides = bool(row["decides"]) or not row["task"]
    verdict = row["stated"] if row["verdict"] is None else row["verdict"]
    said = "" if math.isnan(p_adjusted) or not decides else _p_value(p_adjusted)
    star = "*" if decides and row["task"] else ""
    return (
        *(str(row["claim"]), str(row["stated"]), str(verdict) if decides else "", str(row["task"] or "")),
        *(f"{row['number'] or ''}{star}", _claimed_number(row), said),
    )


def _claimed_number(row: Row) -> str:
    value, low, high = (_number(row, name) for name in ("value", "low", "high"))
    if not row["task"] or value != value:
        return words.NONE
    return words.number(value) + (f" [{words.number(low)}, {words.number(high)}]" if low == low else "")


def _brackets(results: Results) -> str:
    return ", without intervals" if results.adaptive else ", with 95 % intervals in brackets"


def _population(results: Results) -> str:
    return "trials" if results.adaptive else "prior"


def _p_value(value: float | None) -> str:
    return words.p_value(value).removeprefix("p ").removeprefix("= ")


def _estimate(row: Row, name: str, *, write: Callable[[float], str] = words.share) -> str:
    value, low, high = (_number(row, f"{name}{end}") for end in ("", "_low", "_high"))
    if value != value or low != low:
        return write(value)
    return f"{write(value)} {words.interval(Estimate(value, low, high, 0, ''))}"


def _median(row: Row) -> str:
    value, low, high = (_number(row, f"median{end}") for end in ("", "_low", "_high"))
    least = words.number(low) if low >= 0 else f"-{words.number(-low)}"  # few points have no lower end
    ends = f" [{least}, {words.number(high)}]" if low == low else ""
    return words.number(value) + ends


def _number(row: Row, name: str) -> float:
    return float(str(row[name]))


def _caption(results: Results, what: str, methods: list[str]) -> str:
    """What the numbers are, what success is on each task, which intervals they have, and where they hold."""
    bare = (
        re.sub(r"\d+ points?$", "points", re.sub(r", \d+ points?$", "", method))
        for method in methods
        if method != intervals.NOTHING.method
    )
    named = "; ".join(dict.fromkeys(bare))
    facts = (
        f"success on {task} is {fact.metric} <= {fact.threshold:.4g}, its log-AUC runs from {fact.anchor_low:.4g} to "
        f"{fact.anchor_high:.4g}"
        for task in results.tasks
        for fact in [results.facts(task)]
    )
    sentences = [what, f"Intervals: {named}" if named else "", *(fact[0].upper() + fact[1:] for fact in facts)]
    stated = replace(results, prior=prior_of(results, results.tasks))
    return " ".join([*(f"{sentence}." for sentence in sentences if sentence), setting(stated, results.tasks)])


# Forms


def latex(paper: Paper) -> str:
    """A table for LaTeX with booktabs; a line apart where the group changes."""
    lines = [
        "% needs \\usepackage{booktabs}",
        r"\begin{table}",
        r"\centering",
        f"\\caption{{{escaped(paper.caption)}}}",
        f"\\label{{tab:{re.sub(r'[^A-Za-z0-9-]+', '-', paper.name)}}}",
        f"\\begin{{tabular}}{{@{{}}{'l' * len(paper.head)}@{{}}}}",
        r"\toprule",
        _latex_row(paper.head),
        r"\midrule",
    ]
    for place, row in enumerate(paper.rows):
        again = place > 0 and row[0] == paper.rows[place - 1][0]
        if place and not again:
            lines.append(r"\addlinespace")
        lines.append(_latex_row(("", *row[1:]) if again else row))
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}", ""])


def escaped(text: str) -> str:
    """Text as LaTeX shows it; a minus before a number is one."""
    signs = "".join(SIGNS.get(letter, letter) for letter in text.replace("<=", "\0"))
    return re.sub(r"(?<![\w$])-(?=\.?\d)", "$-$", signs.replace("\0", r"$\le$"))


def _latex_row(cells: tuple[str, ...]) -> str:
    return " & ".join(f"{{}}{cell}" if cell.startswith("[") else cell for cell in map(escaped, cells)) + r" \\"


def markdown(paper: Paper) -> str:
    """A table for Markdown, its caption below."""
    rows = [paper.head, ("---",) * len(paper.head), *paper.rows]
    lines = ("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)
    return "\n".join([*lines, "", re.sub(r"([*_<\[])", r"\\\1", paper.caption), ""])


FORMS: Mapping[str, Callable[[Results, str], str]] = {
    "csv": _csv,
    "latex": lambda results, name: latex(_paper(results, name)),
    "markdown": lambda results, name: markdown(_paper(results, name)),
}
"""Form to the function that writes a table in it."""

TABLES: Mapping[str, Export] = {
    "summary": Export(summary, summary_paper),
    "comparisons": Export(lambda results: table(compare_all(results)), comparisons_paper),
    "claims": Export(lambda results: claimed(results).frame(), claims_paper),
    "trials": Export(lambda results: frames.trials({results.name: results}).drop(columns="run"), None),
}
"""Name to table, the one that a form is for first."""

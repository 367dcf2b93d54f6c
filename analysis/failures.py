"""What did not complete, by cause: how many, which, and the command that runs one again."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pandas as pd

from analysis.results import Results
from analysis.runs import load_results
from analysis.status import last_attempts
from study.executor import TRIES
from study.lease import holder
from study.schema import Status
from study.store import SWEEP, RunDirectory
from study.trial import Hyperparameters

LOST = "lost"
EXAMPLES = 3
INTERRUPTED = "interrupted"
NO_WORD = "ended without a word: stopped, killed, or its machine went away; the next run goes on with it"
KEYS = ["task", "method", "status", "cause"]
ENDINGS = (Status.DIVERGED.value, Status.OOM.value, LOST)

TAKEN = TRIES.keys() - {"failed"}
"""How attempts end that somebody else notes, since the worker was gone."""

CHANGING = (
    (re.compile(r"0x[0-9a-fA-F]+|\b[0-9a-f]{16,}\b"), "..."),
    (re.compile(r"(?:[\w.~-]*/){2,}[\w.-]*"), "..."),
    (re.compile(r"(?<![\w.])\d+(?:\.\d+)?(?![\w.]*\w)"), "#"),
)
"""What differs between reasons that are the same: addresses and ids, paths, numbers that stand alone."""


def failures(directory: RunDirectory) -> dict[str, Any]:
    """What diverged, ran out of memory or was lost.

    Returns:
        JSON data: `name`, `planned` (with what a search has still to ask for), and `groups`, the largest first, each
        with `task`, `method`, `status`, `cause` (the reason without what changes from trial to trial), `count`, `of`
        (the part of `planned` that is of that task and method),
        `steps` (first, median and last step of those that diverged, or None), and `examples`, each with `trial_id`,
        `reason`, `hyperparameters` and `again`, the command that runs it again.

    Raises:
        UserError: If it is not a run directory.
    """
    results = load_results(directory)
    plan, rows = results.plan, results.trials
    failed = rows[rows["status"].isin(ENDINGS)]
    columns = ["trial_id", "task", "method", "status", "reason", "diverged_step"]
    known = failed.reindex(columns=columns)
    found = pd.concat([frame for frame in (known, _lost(directory, results)) if len(frame)] or [known])
    found["cause"] = [cause_of(reason) for reason in found["reason"]]
    planned = Counter(zip(plan["task"], plan["method"], strict=True)) + Counter(results.unasked)
    settings = _hyperparameters(plan)
    again = _again(directory)
    groups: list[dict[str, Any]] = [
        dict(zip(KEYS, key, strict=True))
        | {"count": len(group), "of": planned[key[0], key[1]], "steps": _steps(group["diverged_step"])}
        | {"examples": [_example(row, settings, again) for row in _first(group)]}
        for key, group in found.groupby(KEYS, sort=True)
    ]
    groups.sort(key=lambda group: -group["count"])
    return {"name": results.name, "planned": planned.total(), "groups": groups}


def lines_of(found: Mapping[str, Any]) -> list[str]:
    """The groups in words."""
    lines = []
    for group in found["groups"]:
        lines.append(f"{group['count']} of {group['of']}  {group['task']}  {group['method']}  {group['status']}")
        steps = group["steps"]
        spread = f" (step {steps['first']} to {steps['last']}, median {steps['median']:g})" if steps else ""
        lines.append(f"    {group['cause']}{spread}")
        for example in group["examples"]:
            values = ", ".join(f"{name} = {value}" for name, value in example["hyperparameters"].items())
            lines.append(f"    {example['trial_id']}  {values}")
        first = group["examples"][0]
        lines += [f"    said: {first['reason']}"] if first["reason"] != group["cause"] else []
        lines.append(f"    again: {first['again']}")
    return lines


def cause_of(reason: object) -> str:
    """A reason without what changes from trial to trial: the first line, with numbers, paths and addresses left out."""
    if not isinstance(reason, str) or not reason.strip():
        return "no reason given"
    text = reason.strip().splitlines()[0]
    for pattern, mark in CHANGING:
        text = pattern.sub(mark, text)
    return text


def _lost(directory: RunDirectory, results: Results) -> pd.DataFrame:
    """Trials of packs without rows whose last attempt was lost, or interrupted and nobody is at work now."""
    driven = holder(directory) is not None
    reasons = {pack: _reason(note, driven=driven) for pack, note in last_attempts(directory).items()}
    plan = results.plan
    open_ = plan[~plan["trial_id"].isin(results.trials["trial_id"])]
    reason = open_["pack"].map(lambda pack: reasons.get(pack))
    found, said = open_[reason.notna()], reason[reason.notna()].astype(object)
    status = said.map(lambda words: INTERRUPTED if words == NO_WORD else LOST)
    return found[["trial_id", "task", "method"]].assign(status=status, reason=said, diverged_step=float("nan"))


def _reason(note: Mapping[str, Any], *, driven: bool) -> str | None:
    """Why a pack without rows has none; None if it was asked to stop, or may be running or tried again."""
    if note.get("outcome") == "failed" or (note.get("outcome") in TAKEN and not driven):
        return str(note.get("error") or note.get("reason") or "no reason given")
    if note.get("outcome") == "started" and not driven:
        return NO_WORD
    return None


def _hyperparameters(plan: pd.DataFrame) -> pd.DataFrame:
    """The hyperparameters by trial id: what differs between trials, or everything where nothing does."""
    names = [name for name in Hyperparameters.__dataclass_fields__ if name in plan and plan[name].notna().any()]
    varied = [name for name in names if plan[name].nunique(dropna=False) > 1]
    return plan.set_index("trial_id")[varied or names]


def _first(group: pd.DataFrame) -> list[dict[str, Any]]:
    return [
        {str(key): value for key, value in row.items()}
        for row in group.sort_values("trial_id").head(EXAMPLES).to_dict("records")
    ]


def _example(row: Mapping[str, Any], settings: pd.DataFrame, again: str) -> dict[str, Any]:
    values = settings.loc[row["trial_id"]].dropna()
    return {
        "trial_id": row["trial_id"],
        "reason": row["reason"] if isinstance(row["reason"], str) else None,
        "hyperparameters": {str(name): _plain(value) for name, value in values.items()},
        "again": f"{again} --trial {shlex.quote(row['trial_id'])}",
    }


def _plain(value: Any) -> Any:  # noqa: ANN401 - a cell of a table
    value = value.item() if hasattr(value, "item") else value
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _steps(steps: pd.Series[Any]) -> dict[str, float] | None:
    known = steps.dropna().astype(float)
    if known.empty:
        return None
    return {"first": int(known.min()), "median": float(known.median()), "last": int(known.max())}


def _again(directory: RunDirectory) -> str:
    """The command that runs a trial again, without the trial. FILE stands for a sweep file that is not here."""
    text = directory.read(SWEEP) if directory.local else None
    table = tomllib.loads(text.decode()).get("design", {}).get("table") if text else None
    file = shlex.quote(f"{directory.root}/{SWEEP}") if text and not table else "FILE"
    return f"manypaths run {file} --out {shlex.quote(str(directory))}"

"""How a run stands: counts by method, coverage, and interim success with its interval."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from analysis.confirmation import confirmation_of
from analysis.runs import load_results
from analysis.summary import summary
from study.executor import TRIES
from study.lease import holder
from study.schema import Status
from study.store import RunDirectory

COUNTS = ("planned", *(status.value for status in Status), "running", "lost", "pending")


def status(directory: RunDirectory) -> dict[str, Any]:
    """How a run stands.

    Returns:
        JSON data: `name`, `driver` (who runs it now, or None), `planned`, `done`, `coverage` in [0, 1], `unasked` (of
        the planned trials, those that a search has still to ask for), and `methods`, a row per task and method with
        COUNTS and the interim `success` with `success_low` and `success_high`; `region`, of a sweep that puts a safe
        region to the test, what it says of it.

    Raises:
        UserError: If it is not a run directory.
    """
    results = load_results(directory)
    driver = holder(directory)
    open_trials = results.plan[~results.plan["trial_id"].isin(results.trials["trial_id"])]
    states = pack_states(directory, driven=driver is not None)
    ends = open_trials["pack"].map(lambda name: states.get(name, "pending"))
    rows = summary(results)
    for state in ("running", "lost", "pending"):
        found = open_trials[ends == state].groupby(["task", "method"]).size()
        rows[state] = [int(found.get(key, 0)) for key in zip(rows["task"], rows["method"], strict=True)]
    later = [results.unasked.get(key, 0) for key in zip(rows["task"], rows["method"], strict=True)]
    rows = rows.assign(planned=rows["planned"] + later, pending=rows["pending"] + later)
    kept = ["task", "method", *COUNTS, "success", "success_low", "success_high"]
    done = len(results.trials)
    confirmed = confirmation_of(results)
    return {
        "name": results.name,
        "driver": {key: driver[key] for key in ("host", "pid")} if driver else None,
        "planned": done + results.open,
        "done": done,
        "coverage": done / (done + results.open),
        "unasked": sum(results.unasked.values()),
        "methods": _json_rows(rows[kept]),
        "region": confirmed.words if confirmed else None,
    }


def rows_of(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The methods of a `status` as rows to print, success with its interval in one cell."""
    rows = []
    for row in found["methods"]:
        value, low, high = (row[f"success{end}"] for end in ("", "_low", "_high"))
        ends = f" [{low:.2f}, {high:.2f}]" if low is not None else ""
        shown = {key: count for key, count in row.items() if not key.startswith("success")}
        rows.append(shown | {"success": "-" if value is None else f"{value:.2f}{ends}"})
    return rows


def lines_of(found: Mapping[str, Any]) -> list[str]:
    """The rest of a `status` in words."""
    driver = found["driver"]
    who = f"being run by process {driver['pid']} on {driver['host']}" if driver else "nobody is running it"
    done = f"{found['done']} of {found['planned']} trials done ({found['coverage']:.0%}); {who}"
    later = f"the search has still to ask for {found['unasked']} of them"
    return [done, *([later] if found["unasked"] else []), *([found["region"]] if found["region"] else [])]


def pack_states(directory: RunDirectory, *, driven: bool) -> Mapping[str, str]:
    """Unfinished packs that are running now (a driver is at work and they have begun), or lost: tried and failed."""
    states = {
        pack: "lost"
        for pack, note in last_attempts(directory).items()
        # while a driver is at work, what it lost is tried again
        if note.get("outcome") == "failed" or (note.get("outcome") in TRIES and not driven)
    }
    if driven:
        states |= {file.removesuffix(".json"): "running" for file in directory.names("progress", ".json")}
    return states


def last_attempts(directory: RunDirectory) -> dict[str, Mapping[str, Any]]:
    """The note of the last attempt at each pack: what came of it before does not matter any more."""
    last: dict[str, Mapping[str, Any]] = {}
    for note in directory.read_all_json("attempts").values():
        pack = str(note.get("pack", ""))
        if _told(note) >= _told(last.get(pack, {})):
            last[pack] = note
    return last


def _told(note: Mapping[str, Any]) -> float:
    """When an attempt's note was written."""
    return float(note.get("ended") or note.get("started") or 0.0)


def _json_rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as JSON data: NaN is null."""
    return [
        {str(name): None if value != value else value for name, value in row.items()}
        for row in frame.to_dict("records")
    ]

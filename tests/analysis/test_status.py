import json
import os
import socket

import pytest

from analysis import load
from analysis.page import page
from analysis.runs import load_results
from analysis.status import COUNTS, lines_of, pack_states, status
from analysis.summary import summary
from analysis.watch import sentences
from study.executor import InProcess
from study.lease import lease
from study.plan import expand
from study.progress import live
from study.search import slots
from study.spec import parse_sweep
from study.store import RunDirectory
from study.sweep_run import prepare, run_sweep


@pytest.fixture
def planned(tmp_path):
    """A prepared run of two methods with two trials each, and its packs by method."""
    raw = {
        "name": "tiny",
        "tasks": ["manifold-d2"],
        "methods": ["ns", "ns+gp1"],
        "budget": {"steps": 6, "evaluations": 2},
        "space": {"override": {"lr": {"log_uniform": [1e-3, 1e-1]}}},
        "design": {"points": 2},
        "execution": {"pack": 2, "device": "cpu"},
    }
    sweep = parse_sweep(raw, source="tiny.toml")
    directory = RunDirectory(tmp_path / "run")
    prepare(directory, sweep, expand(sweep))
    packs = {row["method"]: row["pack"] for row in directory.read_table("plan").to_pylist()}
    return directory, packs


def counts(found, method):
    row = next(row for row in found["methods"] if row["method"] == method)
    return {name: row[name] for name in COUNTS if row[name]}


def test_a_plan_that_nobody_began_is_pending(planned):
    found = status(planned[0])
    assert (found["name"], found["driver"], found["planned"], found["done"], found["coverage"]) == (
        "tiny",
        None,
        4,
        0,
        0,
    )
    assert counts(found, "ns") == {"planned": 2, "pending": 2}
    assert [row["success"] for row in found["methods"]] == [None, None]
    json.dumps(found, allow_nan=False)


def test_a_partial_run_says_what_is_done(planned):
    directory, packs = planned
    InProcess().run(directory, [packs["ns"]])
    found = status(directory)
    assert (found["done"], found["coverage"]) == (2, 0.5)
    assert counts(found, "ns") == {"planned": 2, "completed": 2}
    assert counts(found, "ns+gp1") == {"planned": 2, "pending": 2}
    row = found["methods"][0]
    assert 0 <= row["success_low"] <= row["success"] <= row["success_high"] <= 1
    json.dumps(found, allow_nan=False)


def test_what_a_search_has_still_to_ask_for_is_planned_and_pending(tmp_path):
    raw = {
        "name": "searching",
        "tasks": ["manifold-d2"],
        "methods": ["ns", "ns+gp1"],
        "budget": {"steps": 6, "evaluations": 2},
        "space": {"override": {"lr": {"log_uniform": [1e-3, 1e-1]}}},
        "search": {"trials": 5, "batch": 2},
        "execution": {"pack": 2, "device": "cpu"},
    }
    sweep, directory = parse_sweep(raw, source="a.toml"), RunDirectory(tmp_path / "run")

    class OneBatch:
        def run(self, directory, packs, *, after=None):
            for pack in packs:
                InProcess().run(directory, [pack])

    run_sweep(directory, sweep, slots(sweep, "cpu"), OneBatch(), watch=live, say=print)
    found = status(directory)
    assert (found["planned"], found["done"], found["unasked"], found["coverage"]) == (10, 4, 6, 0.4)
    assert counts(found, "ns") == {"planned": 5, "completed": 2, "pending": 3}
    assert any("ask for 6 " in line for line in lines_of(found))
    text = page(load_results(directory), summary(load_results(directory)), sentences(load_results(directory)), ())
    assert "interim: 4 of 10 trials" in text
    assert "<b>6</b> not asked for yet" in text
    assert "6 of 10 planned trials have no result yet: interim" in load(directory.root).profile("ns").setting


def test_a_failed_pack_is_lost_until_it_is_run(planned):
    directory, packs = planned
    directory.write_json("attempts/a.json", {"pack": packs["ns+gp1"], "outcome": "failed"})
    assert counts(status(directory), "ns+gp1") == {"planned": 2, "lost": 2}
    InProcess().run(directory, list(packs.values()))
    assert counts(status(directory), "ns+gp1") == {"planned": 2, "completed": 2}


def test_what_came_of_a_pack_last_counts(planned):
    directory, packs = planned
    for name, ended, outcome in (("a", 1.0, "failed"), ("b", 2.0, "interrupted")):
        directory.write_json(f"attempts/{name}.json", {"pack": packs["ns"], "outcome": outcome, "ended": ended})
    assert pack_states(directory, driven=False) == {}
    directory.write_json("attempts/0.json", {"pack": packs["ns"], "outcome": "killed", "ended": 3.0})
    assert pack_states(directory, driven=False) == {packs["ns"]: "lost"}
    assert pack_states(directory, driven=True) == {}


def test_packs_are_running_only_while_somebody_runs_them(planned):
    directory, packs = planned
    directory.write_json(f"progress/{packs['ns']}.json", {"pack": packs["ns"]})
    assert counts(status(directory), "ns") == {"planned": 2, "pending": 2}
    with lease(directory):
        found = status(directory)
    assert found["driver"] == {"host": socket.gethostname(), "pid": os.getpid()}
    assert counts(found, "ns") == {"planned": 2, "running": 2}


@pytest.mark.parametrize("outcome", ["started", "interrupted", "committed"])
def test_only_a_failed_attempt_loses_a_pack(planned, outcome):
    directory, packs = planned
    directory.write_json("attempts/a.json", {"pack": packs["ns"], "outcome": outcome})
    assert pack_states(directory, driven=False) == {}


def test_a_pack_that_is_tried_again_is_running(planned):
    directory, packs = planned
    directory.write_json("attempts/a.json", {"pack": packs["ns"], "outcome": "failed"})
    directory.write_json(f"progress/{packs['ns']}.json", {"pack": packs["ns"]})
    assert pack_states(directory, driven=True) == {packs["ns"]: "running"}


def test_a_sweep_of_an_adaptive_sampler_has_no_interval(planned):
    directory, packs = planned
    InProcess().run(directory, list(packs.values()))
    for table, parts in {table: directory.parts(table) for table in ("plan", "trials")}.items():
        for part in parts:
            rows = directory.read_part(table, part)
            place = rows.column_names.index("sampler")
            directory.write_part(table, part, rows.set_column(place, "sampler", [["tpe"] * len(rows)]))
    found = status(directory)
    assert [row["success_low"] for row in found["methods"]] == [None, None]
    assert all(row["success"] is not None for row in found["methods"])
    json.dumps(found, allow_nan=False)

import dataclasses
import json
import shlex
import shutil
import time

import pandas as pd
import pytest
from typer.testing import CliRunner

import manypaths
from analysis.failures import NO_WORD, cause_of, failures, lines_of
from analysis.runs import load_results
from study.errors import UserError
from study.executor import InProcess
from study.lease import lease
from study.plan import expand
from study.progress import live
from study.spec import parse_sweep
from study.store import RunDirectory
from study.sweep_run import run_sweep

SWEEP = {
    "name": "failing",
    "tasks": ["manifold-d2"],
    "methods": ["ns", "ns+gp1"],
    "budget": {"steps": 6, "evaluations": 2},
    "space": {"override": {"lr": {"log_uniform": [1e-3, 1e-1]}}},
    "design": {"points": 4},
    "execution": {"pack": 2, "device": "cpu"},
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder of a finished run; to be copied."""
    root = tmp_path_factory.mktemp("made") / "run"
    sweep = parse_sweep(SWEEP, source="test")
    run_sweep(RunDirectory(root), sweep, expand(sweep), InProcess(), watch=live, say=lambda _: None)
    return root


@pytest.fixture
def directory(made, tmp_path):
    shutil.copytree(made, tmp_path / "run with space")
    return RunDirectory(tmp_path / "run with space")


def spoil(directory, pack, *outcomes):
    """Give the trials of a pack other endings: (status, reason, diverged_step) each."""
    table = directory.read_part("trials", pack)
    rows = table.to_pylist()
    for row, (status, reason, step) in zip(rows, outcomes, strict=True):
        row |= {"status": status, "reason": reason, "diverged_step": step, "success": False}
        row |= dict.fromkeys(("primary", "primary_last", "primary_best"))
    directory.write_part("trials", pack, type(table).from_pylist(rows, schema=table.schema))
    return [row["trial_id"] for row in rows]


def lose(directory, pack, **note):
    """Take a pack's rows away and leave an attempt that ended so."""
    ids = directory.read_part("trials", pack, ["trial_id"])["trial_id"].to_pylist()
    directory.remove(f"trials/{pack}.parquet")
    directory.write_json(f"attempts/{pack}.last.json", {"pack": pack, "started": time.time() + 60} | note)
    return ids


def test_a_run_without_failures_has_no_groups(directory):
    assert failures(directory) == {"name": "failing", "planned": 8, "groups": []}
    assert lines_of(failures(directory)) == []


def test_failures_are_grouped_by_cause_not_by_wording(directory):
    a, b, *_ = directory.parts("trials")
    words = ("Tried to allocate 2.00 GiB at 0x7f12", "Tried to allocate 512 GiB at 0xab")
    first = spoil(directory, a, *(("oom", said, None) for said in words))
    spoil(directory, b, ("diverged", "w2sq not finite", 3), ("diverged", "spread not finite", 5))
    groups = failures(directory)["groups"]
    assert sorted((group["status"], group["cause"], group["count"]) for group in groups) == [
        ("diverged", "spread not finite", 1),
        ("diverged", "w2sq not finite", 1),
        ("oom", "Tried to allocate # GiB at ...", 2),
    ]
    assert groups[0]["count"] == 2
    assert [example["trial_id"] for example in groups[0]["examples"]] == sorted(first)
    assert all(group["of"] == 4 for group in groups)


def test_examples_have_the_hyperparameters_that_differ(directory):
    pack = directory.parts("trials")[0]
    ids = spoil(directory, pack, ("diverged", "x", 3), ("diverged", "x", 6))
    (group,) = failures(directory)["groups"]
    assert group["steps"] == {"first": 3, "median": 4.5, "last": 6}
    plan = directory.read_table("plan").to_pandas().set_index("trial_id")
    for example in group["examples"]:
        assert example["hyperparameters"]["lr_g"] == plan.loc[example["trial_id"], "lr_g"]
        assert "optimiser" not in example["hyperparameters"]  # the same everywhere
        assert None not in example["hyperparameters"].values()
    assert [example["trial_id"] for example in group["examples"]] == sorted(ids)


def test_what_a_search_has_still_to_ask_for_is_planned(directory, monkeypatch):
    for pack in directory.parts("trials"):
        spoil(directory, pack, ("diverged", "x", 3), ("diverged", "x", 6))
    unasked = {("manifold-d2", "ns"): 3, ("dirac", "ns"): 2}
    searching = dataclasses.replace(load_results(directory), unasked=unasked)
    monkeypatch.setattr("analysis.failures.load_results", lambda _: searching)
    found = failures(directory)
    assert found["planned"] == 8 + 5
    assert {group["method"]: group["of"] for group in found["groups"]} == {"ns": 4 + 3, "ns+gp1": 4}


def test_many_examples_are_three(directory):
    packs = directory.parts("trials")
    for pack in packs:
        spoil(directory, pack, ("diverged", "x", 3), ("diverged", "x", 6))
    groups = failures(directory)["groups"]
    assert [(group["count"], len(group["examples"])) for group in groups] == [(4, 3), (4, 3)]


def test_lost_trials_have_the_reason_of_the_last_attempt(directory):
    a, b, *_ = directory.parts("trials")
    directory.write_json(f"attempts/{a}.old.json", {"pack": a, "outcome": "failed", "error": "old", "started": 1.0})
    ids = lose(directory, a, outcome="failed", error="OSError: [Errno 28] No space left on device: '/mnt/a/b.parquet'")
    (group,) = failures(directory)["groups"]
    assert (group["status"], group["count"]) == ("lost", 2)
    assert group["cause"] == "OSError: [Errno #] No space left on device: '...'"
    assert {example["trial_id"] for example in group["examples"]} == set(ids)
    lose(directory, b, outcome="interrupted", error="KeyboardInterrupt")
    assert len(failures(directory)["groups"]) == 1  # was asked to stop: pending, not lost


def test_an_attempt_that_ended_without_a_word_is_lost_unless_it_may_still_run(directory):
    lose(directory, directory.parts("trials")[0], outcome="started")
    (group,) = failures(directory)["groups"]
    assert (group["status"], group["cause"]) == ("interrupted", NO_WORD)
    with lease(directory):
        assert failures(directory)["groups"] == []


def test_the_command_it_names_runs_the_trial_again(directory):
    pack = directory.parts("trials")[0]
    (wanted, _) = lose(directory, pack, outcome="failed", error="x")
    (group,) = failures(directory)["groups"]
    again = next(example["again"] for example in group["examples"] if example["trial_id"] == wanted)
    program, *arguments = shlex.split(again)
    assert program == "manypaths"
    done = CliRunner().invoke(manypaths.app, [*arguments, "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["trial_id"] == wanted
    assert "no stored row to compare with" in done.stderr


def test_a_sweep_with_a_design_table_names_no_file_that_is_not_there(directory):
    text = directory.read("sweep.toml").decode()
    others = "\n".join(line for line in text.splitlines() if not line.startswith("design."))
    directory.publish("sweep.toml", f'design = {{ kind = "table", table = "points.csv" }}\n{others}'.encode())
    spoil(directory, directory.parts("trials")[0], ("diverged", "x", 3), ("diverged", "x", 3))
    (group,) = failures(directory)["groups"]
    assert group["examples"][0]["again"].startswith("manypaths run FILE --out ")


@pytest.mark.parametrize(
    ("reason", "cause"),
    [
        ("w2sq not finite", "w2sq not finite"),
        ("generator loss or parameters not finite", "generator loss or parameters not finite"),
        ("CUDA out of memory. Tried to allocate 20.00 MiB.", "CUDA out of memory. Tried to allocate # MiB."),
        ("cannot open /data/sets/x-1/train.npz", "cannot open ..."),
        ("trial 0be266caaca64e98 has 3 rows", "trial ... has # rows"),
        ("first line 1\nsecond line", "first line #"),
        (None, "no reason given"),
        (float("nan"), "no reason given"),
        ("  ", "no reason given"),
        (pd.NA, "no reason given"),
    ],
)
def test_a_cause_leaves_out_what_changes(reason, cause):
    assert cause_of(reason) == cause


def test_the_command_prints_groups_or_json(directory):
    spoil(directory, directory.parts("trials")[0], ("diverged", "x 1", 3), ("diverged", "x 2", 3))
    done = CliRunner().invoke(manypaths.app, ["failures", directory.root])
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert lines[0].startswith("2 of 4  manifold-d2  ns")
    assert lines[1] == "    x # (step 3 to 3, median 3)"
    assert any(line.startswith("    again: manypaths run ") for line in lines)
    done = CliRunner().invoke(manypaths.app, ["failures", directory.root, "--json"])
    assert json.loads(done.stdout)["groups"][0]["count"] == 2


def test_nothing_failed_is_said_in_words(directory):
    done = CliRunner().invoke(manypaths.app, ["failures", directory.root])
    assert (done.exit_code, done.stdout) == (0, "")
    assert "nothing diverged, ran out of memory or was lost" in done.stderr


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(UserError, match="is not a run directory"):
        failures(RunDirectory(tmp_path))

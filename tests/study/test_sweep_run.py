import errno
import json
import sys
from pathlib import Path

import pandas as pd
import pytest

from study import outage, schema, worker
from study.errors import UserError
from study.lease import lease
from study.native.build import compiler
from study.plan import expand
from study.replay import replay
from study.spec import to_toml
from study.store import RunDirectory
from study.sweep_run import lost, manifest, prepare
from study.tasks.table import get_task
from tests.study.native_case import needs_compiler

FOUR = {"design": {"points": 4}, "execution": {"pack": 4, "device": "cpu"}}


@pytest.fixture
def root(tmp_path):
    return tmp_path / "run"


@pytest.fixture
def calls(monkeypatch):
    """The trials of every pack that is trained, in order."""
    real, seen = worker.train, []

    def train(trials, **options):
        seen.append([trial.trial_id for trial in trials])
        return real(trials, **options)

    monkeypatch.setattr(worker, "train", train)
    return seen


def results(directory, **where):
    """Trial id to its row, without what may differ between runs; `where` selects rows."""
    rows = directory.read_table("trials").to_pylist()
    chosen = [row for row in rows if all(row[key] == value for key, value in where.items())]
    return {row.pop("trial_id"): row for row in chosen if row.pop("train_seconds") >= 0}


def measured(directory, **where):
    """Trial id to what was measured."""
    return {
        name: {key: value for key, value in row.items() if key not in ("pack", "sweep", "point", "config", "sampler")}
        for name, row in results(directory, **where).items()
    }


def planned_ids(sweep, table=None):
    return sorted(trial.trial_id for trial in expand(sweep, table))


# Once each


def test_a_run_ends_with_the_planned_ids_once_each(root, tiny, run_here, calls):
    sweep = tiny(methods=["ns", "ns+gp1"], **FOUR)
    prepared, tally, said = run_here(root, sweep)
    ids = prepared.directory.read_table("trials")["trial_id"].to_pylist()
    assert sorted(ids) == planned_ids(sweep)
    assert (tally.planned, tally.done, dict(tally.statuses)) == (8, 8, {"completed": 8})
    assert (lost(prepared), said, len(calls)) == (0, [], 2)


def test_running_again_trains_nothing_and_changes_nothing(root, tiny, run_here, calls):
    run_here(root, tiny())
    before = {path: path.read_bytes() for path in root.rglob("*.parquet")}
    calls.clear()
    prepared, tally, said = run_here(root, tiny())
    assert (calls, prepared.missing, tally.done, said) == ([], (), 2, [])
    assert {path: path.read_bytes() for path in root.rglob("*.parquet")} == before


def test_a_deleted_part_runs_again_to_the_same_bits(root, tiny, run_here, calls):
    sweep = tiny(methods=["ns", "ns+gp1"], **FOUR)
    directory = run_here(root, sweep)[0].directory
    before = results(directory)
    directory.remove(f"trials/{directory.parts('trials')[0]}.parquet")
    calls.clear()
    run_here(root, sweep)
    assert results(directory) == before
    assert len(calls) == 1


@pytest.mark.parametrize("table", ["trials", "history"])
def test_a_truncated_part_is_said_and_runs_again(root, tiny, run_here, calls, table):
    directory = run_here(root, tiny())[0].directory
    before, history = results(directory), directory.read_table("history")
    path = next((root / table).glob("*.parquet"))
    path.write_bytes(path.read_bytes()[:-50])
    calls.clear()
    *_, said = run_here(root, tiny())
    assert said == [f"{path} is not a whole Parquet file: its pack runs again"]
    assert results(directory) == before
    assert directory.read_table("history") == history
    assert len(calls) == 1


def test_the_run_directory_holds_the_normalised_file_and_what_ran(finished):
    directory, sweep = finished
    assert directory.read("sweep.toml").decode() == to_toml(sweep)
    found = directory.read_json("manifest.json")
    assert found["sweep"] == "tiny"
    assert found["schema_version"] == schema.SCHEMA_VERSION
    assert {"torch", "numpy", "pyarrow", "manypaths"} <= found["versions"].keys()


def test_metric_columns_are_null_exactly_where_nothing_was_measured(finished):
    directory, _ = finished
    for row in results(directory).values():
        assert row["status"] == "completed"
        assert row["w2sq"] == row["primary"] > 0
        assert row["penalty_weight"] == (10.0 if row["penalty"] else None)


# Growing


@pytest.mark.parametrize(
    ("change", "extra"),
    [
        ({"design": {"points": 2, "seeds": 2}}, 2),
        ({"design": {"points": 4}}, 2),
        ({"design": {"points": 2, "replicates": 3}}, 4),
        ({"methods": ["ns", "ns+gp1"]}, 2),
        ({"tasks": ["manifold-d2", "ring8"]}, 2),
    ],
    ids=str,
)
def test_a_plan_that_grows_is_appended(root, tiny, run_here, calls, change, extra):
    directory = run_here(root, tiny())[0].directory
    before, parts = results(directory), directory.parts("trials")
    calls.clear()
    prepared, tally, said = run_here(root, tiny(**change))
    assert said == [f"the file plans {extra} trials more than {root} was begun with: they are appended"]
    assert sorted(name for pack in calls for name in pack) == sorted(set(planned_ids(tiny(**change))) - set(before))
    after = results(directory)
    assert sorted(after) == planned_ids(tiny(**change))
    assert {name: {key: after[name][key] for key in row} for name, row in before.items()} == before
    assert (tally.done, lost(prepared)) == (2 + extra, 0)
    assert set(parts) < set(directory.parts("trials"))
    assert directory.read("sweep.toml").decode() == to_toml(tiny(**change))


def test_every_part_has_the_columns_of_a_grown_sweep(root, tiny, run_here):
    run_here(root, tiny())
    directory = run_here(root, tiny(tasks=["manifold-d2", "ring8"]))[0].directory
    for table in ("trials", "history"):
        schemas = [part.table.schema for part in directory.readable_parts(table)]
        assert len(schemas) == 2
        assert schemas[0].equals(schemas[1], check_metadata=True)
    for row in results(directory, task="manifold-d2").values():
        assert [row[name] for name in get_task("ring8").metrics] == [None] * len(get_task("ring8").metrics)


def test_a_lost_plan_part_is_planned_again_beside_the_others(root, tiny, run_here):
    run_here(root, tiny())
    directory = run_here(root, tiny(methods=["ns", "ns+gp1"]))[0].directory
    before = results(directory)
    directory.remove("plan/0000.parquet")
    prepared, *_ = run_here(root, tiny(methods=["ns", "ns+gp1"]))
    assert sorted(directory.read_table("plan")["trial_id"].to_pylist()) == sorted(before)
    assert (results(directory), prepared.missing) == (before, ())


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({"budget": {"steps": 7, "evaluations": 2}}, "budget.steps was 6 and is 7"),
        (
            {"budget": {"steps": 6}},
            r"budget.evaluations was 2 and is auto \(with budget.evaluations = 2 in the file it goes on\)",
        ),
        ({"methods": ["ns+gp1"]}, r"methods was \['ns'\] and is \['ns\+gp1'\]"),
        ({"design": {"points": 1}}, "design.points was 2 and is 1"),
        ({"design": {"points": 2, "seed": 3}}, "design.seed was 0 and is 3"),
        (
            {"space": {"override": {"lr": {"log_uniform": [1e-3, 0.2]}}}},
            r"space.override.lr.log_uniform was \[0.001, 0.1\] and is \[0.001, 0.2\]",
        ),
        (
            {"space": {"override": {"lr": {"log_uniform": [1e-3, 1e-1]}, "beta1": 0.1}}},
            "space.override.beta1 was not set and is 0.1",
        ),
    ],
    ids=str,
)
def test_any_other_change_is_refused_with_the_first_difference(root, tiny, run_here, calls, change, difference):
    directory = run_here(root, tiny())[0].directory
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    calls.clear()
    with pytest.raises(UserError, match=f"was begun with another plan: {difference}; .*choose another --out"):
        run_here(root, tiny(**change))
    assert calls == []
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before
    assert directory.read("lease.json") is None


def test_a_remark_or_another_pack_size_changes_no_plan(root, tiny, run_here, calls):
    run_here(root, tiny())
    calls.clear()
    *_, said = run_here(root, tiny(notice="read this first", execution={"pack": 64, "device": "cpu"}))
    assert (calls, said) == ([], [])
    assert 'notice = "read this first"' in (root / "sweep.toml").read_text()


# Failure is data


def test_a_diverging_learning_rate_is_a_row_and_harms_no_neighbour(tmp_path, tiny, run_here):
    def run(name, *rates):
        sweep = tiny(design={"kind": "table", "table": "x.csv"}, execution=FOUR["execution"], methods=["ns", "ns+gp1"])
        prepared, tally, _ = run_here(tmp_path / name, sweep, [{"lr": rate} for rate in rates])
        return prepared.directory, tally

    directory, tally = run("with", 0.01, 1e30, 0.02)
    assert dict(tally.statuses) == {"completed": 4, "diverged": 2}
    rows = directory.read_table("trials").to_pylist()
    for row in rows:
        if row["lr_g"] == 1e30:
            assert (row["status"], row["success"]) == ("diverged", False)
            assert 1 <= row["diverged_step"] <= 6
            assert "not finite" in row["reason"]
            assert [row[name] for name in ("primary", "primary_last", "primary_best", "w2sq", "spread")] == [None] * 5
    without, _ = run("without", 0.01, 0.02)
    assert len(measured(without)) == 4
    assert measured(directory, status="completed") == measured(without)


def test_a_failing_pack_is_lost_and_the_next_run_repairs_it(root, tiny, run_here, monkeypatch):
    sweep = tiny(methods=["ns", "ns+gp1"])
    real = worker.train

    def train(trials, **options):
        if trials[0].label == "ns":
            raise ValueError("boom")
        return real(trials, **options)

    monkeypatch.setattr(worker, "train", train)
    prepared, tally, _ = run_here(root, sweep)
    assert (lost(prepared), tally.done) == (2, 2)
    outcomes = [json.loads(path.read_text()) for path in (root / "attempts").iterdir()]
    assert sorted(note.get("error", "-") for note in outcomes) == ["-", "ValueError: boom"]
    monkeypatch.setattr(worker, "train", real)
    prepared, tally, _ = run_here(root, sweep)
    assert (lost(prepared), tally.done) == (0, 4)
    assert sorted(results(prepared.directory)) == planned_ids(sweep)


def test_a_disk_that_fills_while_training_ends_the_run_and_leaves_nothing_half_written(
    root, tiny, run_here, monkeypatch
):
    monkeypatch.setattr(outage, "BEARABLE_SECONDS", 0.3)
    real = RunDirectory.publish

    def publish(self, name, data):
        if name.startswith("trials/"):
            raise OSError(errno.ENOSPC, "No space left on device")
        real(self, name, data)

    monkeypatch.setattr(RunDirectory, "publish", publish)
    with pytest.raises(UserError, match=r"cannot write to the run directory .*No space left on device; what is finish"):
        run_here(root, tiny())
    assert not (root / "trials").exists()
    note = json.loads(next((root / "attempts").iterdir()).read_text())
    assert (note["outcome"], note["error"]) == ("failed", "OSError: [Errno 28] No space left on device")
    monkeypatch.setattr(RunDirectory, "publish", real)
    prepared, *_ = run_here(root, tiny())
    assert sorted(results(prepared.directory)) == planned_ids(tiny())


def test_a_disk_that_is_full_at_the_start_is_said(root, tiny, run_here, monkeypatch):
    def publish(self, name, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(RunDirectory, "publish", publish)
    with pytest.raises(UserError, match=r"cannot write to the run directory .*run: No space left on device"):
        run_here(root, tiny())


# Directories that are not ours


def test_a_directory_with_something_else_is_refused_and_left_alone(root, tiny, run_here):
    root.mkdir()
    (root / "thesis.tex").write_text("x")
    with pytest.raises(UserError, match=r"run holds 'thesis\.tex', which is not a run's: choose an empty or new --out"):
        run_here(root, tiny())
    assert [path.name for path in root.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("content", ["{}", "[1]", '"x"', '{"name": "a web page"}'])
def test_a_manifest_of_another_program_is_refused(root, tiny, run_here, content):
    root.mkdir()
    (root / "manifest.json").write_text(content)
    with pytest.raises(UserError, match=r"run holds 'manifest\.json', which is not a run's"):
        run_here(root, tiny())


def test_the_results_of_another_sweep_are_refused(root, tiny, run_here):
    run_here(root, tiny())
    with pytest.raises(UserError, match="holds the results of sweep 'tiny', not 'other': choose another --out"):
        run_here(root, tiny(name="other"))


def test_the_results_of_a_newer_version_are_refused(root, tiny, run_here):
    newer = manifest(tiny()) | {"schema_version": schema.SCHEMA_VERSION + 1}
    RunDirectory(root).write_json("manifest.json", newer)
    sentence = f"has schema version {schema.SCHEMA_VERSION + 1}, this manypaths writes {schema.SCHEMA_VERSION}"
    with pytest.raises(UserError, match=sentence):
        run_here(root, tiny())


def test_an_out_that_is_a_file_or_lies_below_one_is_refused(tmp_path, tiny, run_here):
    file = tmp_path / "file"
    file.write_text("x")
    with pytest.raises(UserError, match=f"{file} is a file: a run directory has to be a folder"):
        run_here(file, tiny())
    with pytest.raises(UserError, match=f"cannot write to the run directory {file / 'run'}: .*Not a directory"):
        run_here(file / "run", tiny())
    assert file.read_text() == "x"


def test_a_directory_that_may_not_be_written_is_refused(root, tiny, run_here, monkeypatch):
    def refuse(self, *_, **__):
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(UserError, match=f"cannot write to the run directory {root}: Permission denied"):
        run_here(root, tiny())


def test_a_second_driver_is_refused(root, tiny, run_here, calls):
    with lease(RunDirectory(root)), pytest.raises(UserError, match=f"{root} is being run by process"):
        run_here(root, tiny())
    assert calls == []


def test_the_lease_is_given_back(finished):
    assert finished[0].read("lease.json") is None


def test_preparing_plans_everything_and_trains_nothing(root, tiny, calls):
    sweep = tiny(methods=["ns", "ns+gp1"])
    prepared = prepare(RunDirectory(root), sweep, expand(sweep))
    assert prepared.missing == tuple(prepared.packs)
    assert sum(prepared.packs.values()) == 4
    assert (calls, lost(prepared)) == ([], 4)


# One trial alone


def test_a_trial_trained_again_alone_equals_its_row(finished):
    directory, sweep = finished
    for name, stored in results(directory).items():
        row, same = replay(directory, sweep, expand(sweep), name)
        assert same is True
        assert {key: row[key] for key in ("trial_id", "primary", "w2sq")} == {
            "trial_id": name,
            "primary": stored["primary"],
            "w2sq": stored["w2sq"],
        }


@needs_compiler
def test_so_does_one_that_a_compiled_program_trained(root, tiny, run_here):
    sweep = tiny(execution={"pack": 2, "device": "cpu", "program": "native"})
    directory = run_here(root, sweep)[0].directory
    recorded = tiny(execution={"pack": 2, "device": "cpu", "program": "recorded"})
    for name, stored in results(directory).items():
        assert stored["program"] == "native"
        assert replay(directory, recorded, expand(recorded), name)[1] is True  # as its row says, whatever the file says


def test_a_row_that_was_tampered_with_is_noticed(root, tiny, run_here):
    directory = run_here(root, tiny())[0].directory
    part = directory.parts("trials")[0]
    table = directory.read_part("trials", part)
    place = table.column_names.index("primary_last")
    changed = table.set_column(
        place, table.schema.field(place), [[x + 1e-9 for x in table["primary_last"].to_pylist()]]
    )
    directory.write_part("trials", part, changed)
    assert replay(directory, tiny(), expand(tiny()), table["trial_id"][0].as_py())[1] is False


def test_a_trial_without_a_row_is_trained_and_compared_with_nothing(root, tiny, run_here, finished):
    name = next(iter(results(finished[0], method="ns")))
    row, same = replay(RunDirectory(root), tiny(), expand(tiny()), name)
    assert same is None
    assert row["primary"] == results(finished[0])[name]["primary"]


def test_an_unknown_trial_is_refused(root, tiny):
    with pytest.raises(UserError, match="unknown trial 'abc': the column trial_id of "):
        replay(RunDirectory(root), tiny(), expand(tiny()), "abc")


def test_a_truncated_plan_is_planned_again_and_said(tiny, run_here, tmp_path):
    sweep = tiny()
    run_here(tmp_path, sweep)
    plan = tmp_path / "plan" / "0000.parquet"
    ids = set(pd.read_parquet(plan)["trial_id"])
    plan.write_bytes(plan.read_bytes()[:300])
    _, _, said = run_here(tmp_path, sweep)
    assert any("0000.parquet is not a whole Parquet file: planned again" in sentence for sentence in said)
    assert set(pd.read_parquet(tmp_path / "plan")["trial_id"]) == ids
    assert set(pd.read_parquet(tmp_path / "trials")["trial_id"]) == ids


def test_a_broken_manifest_is_written_anew_and_said(tiny, run_here, tmp_path):
    sweep = tiny()
    run_here(tmp_path, sweep)
    (tmp_path / "manifest.json").write_text("{x")
    (tmp_path / "report.html").write_text("")
    _, _, said = run_here(tmp_path, sweep)
    assert any("manifest.json was missing or broken" in sentence for sentence in said)
    assert json.loads((tmp_path / "manifest.json").read_text())["sweep"] == sweep.name


def test_the_manifest_names_the_compiler_with_its_options(tiny, empty_cache, monkeypatch):
    monkeypatch.setattr("study.native.build._version", lambda _: "g++ 12\nmore")
    monkeypatch.setenv("CXX", f"{sys.executable} -mno-fma")
    assert manifest(tiny())["compiler"] == "g++ 12 -mno-fma"
    compiler.cache_clear()
    monkeypatch.setenv("CXX", "'")
    assert manifest(tiny())["compiler"] is None

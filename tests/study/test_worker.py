import errno

import pytest
import torch

from study import worker
from study.plan import expand
from study.records import plan_rows
from study.store import RunDirectory, build_table
from study.sweep_run import packs_of
from study.worker import run_pack

CAPACITY = 4


@pytest.fixture
def prepared(tmp_path, tiny):
    """A function planning one pack of four trials into a fresh directory: the directory and the pack's name."""

    def make(folder="run", **changes):
        sweep = tiny(**({"design": {"points": 4}, "execution": {"pack": CAPACITY, "device": "cpu"}} | changes))
        packs = packs_of(sweep, expand(sweep))
        directory = RunDirectory(tmp_path / folder)
        directory.write_part("plan", "0000", build_table("plan", [r for p in packs for r in plan_rows(p, "tiny")]))
        return directory, packs[0].name

    return make


def table(directory, name, pack):
    rows = directory.read_part(name, pack)
    return rows.drop_columns("train_seconds") if name == "trials" else rows


def notes(directory):
    return [directory.read_json(f"attempts/{file}") for file in directory.names("attempts")]


def failing_above(capacity, error):
    real = worker.train

    def train(trials, **options):
        if options["capacity"] > capacity:
            raise error
        return real(trials, **options)

    return train


def test_a_pack_is_committed_with_its_history_and_a_note(prepared):
    directory, pack = prepared()
    assert run_pack(directory.root, pack) == {"completed": 4}
    assert directory.parts("history") == directory.parts("trials") == [pack]
    assert directory.read_part("history", pack).num_rows == 4 * 2
    assert [(note["outcome"], note["pack"]) for note in notes(directory)] == [("committed", pack)]
    assert directory.names("progress") == directory.names("checkpoints") == []


def test_running_a_pack_twice_changes_nothing(prepared):
    directory, pack = prepared()
    run_pack(directory.root, pack)
    before = [table(directory, name, pack) for name in ("trials", "history")]
    run_pack(directory.root, pack)
    assert [table(directory, name, pack) for name in ("trials", "history")] == before


def test_trials_is_written_after_history(prepared, monkeypatch):
    directory, pack = prepared()
    real, written = RunDirectory.write_part, []

    def write_part(self, name, part, content):
        written.append(name)
        real(self, name, part, content)

    monkeypatch.setattr(RunDirectory, "write_part", write_part)
    run_pack(directory.root, pack)
    assert written == ["history", "trials"]


def test_progress_is_shown_at_every_evaluation(prepared, monkeypatch):
    directory, pack = prepared()
    real, shown = RunDirectory.write_json, []

    def write_json(self, name, content):
        shown.extend([content["evaluations"]] if name.startswith("progress/") else [])
        real(self, name, content)

    monkeypatch.setattr(RunDirectory, "write_json", write_json)
    run_pack(directory.root, pack)
    assert shown == [0, 1, 2]


# Out of memory


def test_a_pack_that_does_not_fit_is_halved_and_says_so(prepared, monkeypatch):
    directory, pack = prepared()
    monkeypatch.setattr(worker, "train", failing_above(2, torch.OutOfMemoryError("CUDA out of memory. Tried")))
    assert run_pack(directory.root, pack) == {"completed": 4}
    halved = directory.read_part("trials", pack).to_pylist()
    assert [row["capacity"] for row in halved] == [2] * 4
    assert {row["pack"] for row in halved} == {pack}
    planned = [row["trial_id"] for row in directory.read_part("plan", "0000").to_pylist()]
    assert [row["trial_id"] for row in halved] == planned
    # the bits promised for equal id, capacity and device: those of a plan made at that capacity
    other, first = prepared("planned at two", execution={"pack": 2, "device": "cpu"})
    run_pack(other.root, first)
    alike = {row["trial_id"]: row["primary"] for row in other.read_part("trials", first).to_pylist()}
    assert len(alike) == 2
    assert {row["trial_id"]: row["primary"] for row in halved if row["trial_id"] in alike} == alike


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried\nmore"),
        MemoryError("out of memory"),
        RuntimeError("[enforce] can't allocate memory: x"),
    ],
    ids=["cuda", "python", "cpu"],
)
def test_a_trial_that_does_not_fit_alone_is_a_row(prepared, monkeypatch, error):
    directory, pack = prepared()
    monkeypatch.setattr(worker, "train", failing_above(0, error))
    assert run_pack(directory.root, pack) == {"oom": 4}
    for row in directory.read_part("trials", pack).to_pylist():
        assert (row["status"], row["capacity"], row["success"], row["primary"]) == ("oom", 1, False, None)
        assert row["reason"] == str(error).splitlines()[0]
    assert directory.read_part("history", pack).num_rows == 0


def test_an_odd_capacity_is_halved_too(prepared, monkeypatch):
    directory, pack = prepared(execution={"pack": 3, "device": "cpu"})
    monkeypatch.setattr(worker, "train", failing_above(1, MemoryError()))
    assert run_pack(directory.root, pack) == {"completed": 3}
    assert set(directory.read_part("trials", pack)["capacity"].to_pylist()) == {1}


# Failures


def test_another_error_is_noted_and_raised(prepared, monkeypatch):
    directory, pack = prepared()
    monkeypatch.setattr(worker, "train", failing_above(0, RuntimeError("shapes do not match")))
    with pytest.raises(RuntimeError, match="shapes do not match"):
        run_pack(directory.root, pack)
    assert [(n["outcome"], n["error"]) for n in notes(directory)] == [("failed", "RuntimeError: shapes do not match")]
    assert directory.parts("trials") == directory.parts("history") == []


def test_an_interruption_is_not_a_failure(prepared, monkeypatch):
    directory, pack = prepared()
    monkeypatch.setattr(worker, "train", failing_above(0, KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        run_pack(directory.root, pack)
    assert [note["outcome"] for note in notes(directory)] == ["interrupted"]


def test_an_interruption_on_a_full_disk_is_an_interruption(prepared, monkeypatch):
    directory, pack = prepared()
    real = RunDirectory.publish

    def interrupted(*_, **__):
        def full(*_):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(RunDirectory, "publish", full)
        raise KeyboardInterrupt

    monkeypatch.setattr(worker, "train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_pack(directory.root, pack)
    monkeypatch.setattr(RunDirectory, "publish", real)
    assert [note["outcome"] for note in notes(directory)] == ["started"]


# Checkpoints


def stopping_after(count):
    real = worker.train

    def train(trials, *, after_evaluation, state, **options):
        def after(now):
            after_evaluation(now)
            if len(now.evaluations) == count:
                raise KeyboardInterrupt

        return real(trials, after_evaluation=after, state=state, **options)

    return train


@pytest.mark.parametrize("method", ["ns", "ns+gp1"])
def test_a_pack_resumed_from_any_checkpoint_is_bit_equal(prepared, monkeypatch, method):
    changes = {"methods": [method], "budget": {"steps": 12, "evaluations": 4}}
    directory, pack = prepared("undisturbed", **changes)
    run_pack(directory.root, pack)
    expected = [table(directory, name, pack) for name in ("trials", "history")]
    monkeypatch.setattr(worker, "CHECKPOINT_ABOVE_SECONDS", 0.0)
    real, resumed_at = worker.train, []
    directory, pack = prepared("interrupted", **changes)
    for count in (1, 2, 3):
        monkeypatch.setattr(worker, "train", real)
        monkeypatch.setattr(worker, "train", stopping_after(count))
        with pytest.raises(KeyboardInterrupt):
            run_pack(directory.root, pack)
        assert len(directory.names("checkpoints")) == 1

    def train(trials, *, state, **options):
        resumed_at.append(state.step)
        return real(trials, state=state, **options)

    monkeypatch.setattr(worker, "train", train)
    run_pack(directory.root, pack)
    assert resumed_at == [9]
    assert [table(directory, name, pack) for name in ("trials", "history")] == expected
    assert directory.names("checkpoints") == []


def test_a_broken_checkpoint_is_begun_anew(prepared, monkeypatch):
    directory, pack = prepared()
    run_pack(directory.root, pack)
    expected = table(directory, "trials", pack)
    first = directory.read_part("plan", "0000")["trial_id"][0].as_py()
    monkeypatch.setattr(worker, "CHECKPOINT_ABOVE_SECONDS", 0.0)
    directory.publish(f"checkpoints/{pack}-{CAPACITY}-{first}.safetensors", b"not whole")
    run_pack(directory.root, pack)
    assert table(directory, "trials", pack) == expected


def test_a_short_pack_keeps_no_checkpoint(prepared, monkeypatch):
    directory, pack = prepared()
    monkeypatch.setattr(worker, "train", stopping_after(1))
    with pytest.raises(KeyboardInterrupt):
        run_pack(directory.root, pack)
    assert directory.names("checkpoints") == []

import errno
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from study import train as module_of_training
from study import worker
from study.errors import UserError
from study.plan import expand
from study.records import plan_table
from study.spec import to_toml
from study.store import SWEEP, RunDirectory
from study.sweep_run import packs_of
from study.worker import run_pack, storage_fault
from tests.study.native_case import needs_compiler

CAPACITY = 4


@pytest.fixture
def prepared(tmp_path, tiny):
    """A function planning one pack of four trials into a fresh directory: the directory and the pack's name."""

    def make(folder="run", **changes):
        sweep = tiny(**({"design": {"points": 4}, "execution": {"pack": CAPACITY, "device": "cpu"}} | changes))
        packs = packs_of(sweep, expand(sweep))
        directory = RunDirectory(tmp_path / folder)
        directory.write_part("plan", "0000", plan_table(packs, "tiny"))
        directory.publish(SWEEP, to_toml(sweep).encode())
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
    assert run_pack(directory.root, pack).statuses == {"completed": 4}
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


@pytest.mark.parametrize(("rate", "status", "asked"), [(1e-4, "stopped", [1]), (1e38, "diverged", [])])
def test_a_pruner_is_asked_about_a_trial_that_trains_and_not_about_one_that_diverged(prepared, rate, status, asked):
    directory, pack = prepared(
        design={"points": 1},
        execution={"pack": 1, "device": "cpu"},
        space={"override": {"lr": {"log_uniform": [rate / 2, rate]}}},
    )
    heard = []
    found = run_pack(directory.root, pack, stop=lambda _trial, done, _value: heard.append(done) or True)
    assert (found.statuses, heard) == ({status: 1}, asked)


def test_trials_is_written_after_history(prepared, monkeypatch):
    directory, pack = prepared()
    real, written = RunDirectory.write_part, []

    def write_part(self, name, part, content):
        written.append(name)
        real(self, name, part, content)

    monkeypatch.setattr(RunDirectory, "write_part", write_part)
    run_pack(directory.root, pack)
    assert written == ["history", "trials"]


@pytest.mark.parametrize(("seconds", "expected"), [(0.0, [(0, 6), (3, 6), (5, 6), (6, 6)]), (60.0, [(0, 6)])])
def test_progress_is_shown_in_steps_but_not_all_the_time(prepared, monkeypatch, seconds, expected):
    """Evaluations after 5 and 6 steps, and 3 steps at once: where they lie says nothing of what is done."""
    monkeypatch.setattr(worker, "PROGRESS_SECONDS", seconds)
    monkeypatch.setattr("study.train.blocks", lambda steps, *_: (range(i, min(i + 3, steps.stop)) for i in steps[::3]))
    directory, pack = prepared(budget={"steps": 6, "evaluations": 2, "schedule": "late"})
    real, shown = RunDirectory.write_json, []

    def write_json(self, name, content):
        shown.extend([(content["steps"], content["of"])] if name.startswith("progress/") else [])
        real(self, name, content)

    monkeypatch.setattr(RunDirectory, "write_json", write_json)
    run_pack(directory.root, pack)
    assert shown == expected


def test_after_the_first_note_of_progress_there_are_at_most_25_however_many_blocks_there_are(prepared, monkeypatch):
    monkeypatch.setattr(worker, "PROGRESS_SECONDS", 0.0)
    monkeypatch.setattr("study.train.blocks", lambda steps, *_: (range(i, i + 1) for i in steps))
    directory, pack = prepared(budget={"steps": 100, "evaluations": 2})
    real, shown = RunDirectory.write_json, []

    def write_json(self, name, content):
        shown.extend([content["steps"]] if name.startswith("progress/") else [])
        real(self, name, content)

    monkeypatch.setattr(RunDirectory, "write_json", write_json)
    run_pack(directory.root, pack)
    assert shown == [0, *range(4, 101, 4)]


# Out of memory


def test_a_pack_that_does_not_fit_is_halved_and_says_so(prepared, monkeypatch):
    directory, pack = prepared()
    monkeypatch.setattr(worker, "train", failing_above(2, torch.OutOfMemoryError("CUDA out of memory. Tried")))
    assert run_pack(directory.root, pack).statuses == {"completed": 4}
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
    assert run_pack(directory.root, pack).statuses == {"oom": 4}
    for row in directory.read_part("trials", pack).to_pylist():
        assert (row["status"], row["capacity"], row["success"], row["primary"]) == ("oom", 1, False, None)
        assert row["reason"] == str(error).splitlines()[0]
    assert directory.read_part("history", pack).num_rows == 0


def test_an_odd_capacity_is_halved_too(prepared, monkeypatch):
    directory, pack = prepared(execution={"pack": 3, "device": "cpu"})
    monkeypatch.setattr(worker, "train", failing_above(1, MemoryError()))
    assert run_pack(directory.root, pack).statuses == {"completed": 3}
    assert set(directory.read_part("trials", pack)["capacity"].to_pylist()) == {1}


def test_a_pack_that_needs_more_than_is_declared_is_halved_before_it_is_tried(prepared, monkeypatch):
    directory, pack = prepared()
    (Path(directory.root) / "sweep.toml").write_text('execution = { memory = "3 MB" }')
    real, tried = worker.train, []
    monkeypatch.setattr(worker, "bytes_taken", lambda trial, *, capacity, samples: capacity * 1_500_000)
    monkeypatch.setattr(
        worker, "train", lambda trials, **options: tried.append(options["capacity"]) or real(trials, **options)
    )
    assert run_pack(directory.root, pack).statuses == {"completed": 4}
    assert tried == [2, 2]
    monkeypatch.setattr(worker, "bytes_taken", lambda trial, *, capacity, samples: capacity * 3_000_001)
    assert run_pack(directory.root, pack).statuses == {"oom": 4}
    assert tried == [2, 2]
    reasons = set(directory.read_part("trials", pack)["reason"].to_pylist())
    assert reasons == {"out of memory: training takes 2.9 MiB (execution.memory = '3 MB')"}


@pytest.mark.parametrize(("halvings", "capacity"), [(1, 2), (2, 1), (3, 1), (16, 1)])
def test_what_the_system_ended_is_tried_smaller_and_in_the_end_alone_but_is_no_result(prepared, halvings, capacity):
    directory, pack = prepared()
    assert run_pack(directory.root, pack, halvings=halvings).statuses == {"completed": 4}
    assert set(directory.read_part("trials", pack)["capacity"].to_pylist()) == {capacity}


@pytest.mark.parametrize("may_halve", [True, False])
def test_a_gpu_that_is_shared_is_not_halved_for(prepared, monkeypatch, may_halve):
    directory, pack = prepared()
    freed = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: freed.append(1))
    monkeypatch.setattr(worker, "_share_taken", lambda _: 0.5)
    real = failing_above(2, torch.OutOfMemoryError("CUDA out of memory. Tried"))
    monkeypatch.setattr(worker, "train", lambda trials, **options: real(trials, **options | {"device": "cpu"}))
    if may_halve:
        assert run_pack(directory.root, pack, device="cuda").statuses == {"completed": 4}
        assert freed == [1]
        assert set(directory.read_part("trials", pack)["capacity"].to_pylist()) == {2}
    else:
        with pytest.raises(torch.OutOfMemoryError):
            run_pack(directory.root, pack, device="cuda", may_halve=False)
        assert directory.parts("trials") == []


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


def interrupt():
    raise KeyboardInterrupt


def stopping_after(count, act=interrupt):
    real = worker.train

    def train(trials, *, after_evaluation, state, **options):
        def after(now):
            after_evaluation(now)
            if len(now.evaluations) == count:
                act()

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
    remarks = [note["remarks"][0] for note in notes(directory) if note["outcome"] == "committed"]
    assert remarks == [f"went on at step 9 from checkpoints/{checkpoint_of(directory, pack)}"]


def checkpoint_of(directory, pack):
    first = directory.read_part("plan", "0000")["trial_id"][0].as_py()
    return f"{pack}-{CAPACITY}-{first}.safetensors"


@pytest.mark.parametrize(
    "content", [b"not whole", b"", save({"theta": torch.zeros(2)})], ids=["broken", "empty", "foreign"]
)
def test_a_broken_checkpoint_is_begun_anew(prepared, content):
    directory, pack = prepared()
    run_pack(directory.root, pack)
    expected = table(directory, "trials", pack)
    directory.publish(f"checkpoints/{checkpoint_of(directory, pack)}", content)
    run_pack(directory.root, pack)
    assert table(directory, "trials", pack) == expected
    assert directory.names("checkpoints") == []
    remark = next(note["remarks"][0] for note in notes(directory) if "remarks" in note)
    assert remark.startswith(f"begun anew, since checkpoints/{checkpoint_of(directory, pack)} cannot be used: it")


# Which program trains


def asking_for(program):
    return {"pack": CAPACITY, "device": "cpu", "program": program}


@needs_compiler
def test_rows_say_what_trained_them(prepared):
    for program in ("native", "recorded"):
        directory, pack = prepared(program, execution=asking_for(program))
        run_pack(directory.root, pack)
        assert directory.read_part("trials", pack)["program"].to_pylist() == [program] * 4


@needs_compiler
def test_a_compiled_pack_goes_on_to_the_same_bits_unless_it_shall_not_be_compiled(prepared, monkeypatch):
    changes = {"budget": {"steps": 12, "evaluations": 4}, "execution": asking_for("native")}
    directory, pack = prepared("undisturbed", **changes)
    run_pack(directory.root, pack)
    expected = [table(directory, name, pack) for name in ("trials", "history")]
    monkeypatch.setattr(worker, "CHECKPOINT_ABOVE_SECONDS", 0.0)
    remarks = {}
    for program in ("native", "recorded"):
        directory, pack = prepared(f"interrupted, then {program}", **changes)
        with monkeypatch.context() as patch:
            patch.setattr(worker, "train", stopping_after(2))
            with pytest.raises(KeyboardInterrupt):
                run_pack(directory.root, pack)
        sweep = directory.read(SWEEP).replace(b'program = "native"', f'program = "{program}"'.encode())
        directory.publish(SWEEP, sweep)
        run_pack(directory.root, pack)
        remarks[program] = [note["remarks"][0] for note in notes(directory) if note["outcome"] == "committed"]
        assert directory.read_part("trials", pack)["program"].to_pylist() == [program] * 4
        if program == "native":
            assert [table(directory, name, pack) for name in ("trials", "history")] == expected
    assert remarks["native"][0].startswith("went on at step 6 from")
    assert remarks["recorded"][0].endswith("its program is native, recorded is asked for")


@needs_compiler
def test_a_checkpoint_of_recorded_operations_is_gone_on_from_by_them(prepared, monkeypatch):
    """Not every program can be compiled: of one that could not, nothing else can go on."""
    directory, pack = prepared(budget={"steps": 12, "evaluations": 4}, execution=asking_for("recorded"))
    monkeypatch.setattr(worker, "CHECKPOINT_ABOVE_SECONDS", 0.0)
    with monkeypatch.context() as patch:
        patch.setattr(worker, "train", stopping_after(2))
        with pytest.raises(KeyboardInterrupt):
            run_pack(directory.root, pack)
    directory.publish(SWEEP, directory.read(SWEEP).replace(b'"recorded"', b'"native"'))
    run_pack(directory.root, pack)
    assert directory.read_part("trials", pack)["program"].to_pylist() == ["recorded"] * 4


def test_where_nothing_can_be_compiled_the_pack_says_so(prepared, monkeypatch):
    monkeypatch.setattr("study.choice.missing", lambda: "no C++ compiler")
    directory, pack = prepared(execution=asking_for("native"))
    with pytest.raises(UserError, match=r"execution\.program = 'native': no C\+\+ compiler"):
        run_pack(directory.root, pack)
    assert [note["outcome"] for note in notes(directory)] == ["failed"]


def test_a_short_pack_keeps_no_checkpoint(prepared, monkeypatch):
    directory, pack = prepared()
    monkeypatch.setattr(worker, "train", stopping_after(1))
    with pytest.raises(KeyboardInterrupt):
        run_pack(directory.root, pack)
    assert directory.names("checkpoints") == []


def test_between_evaluations_a_checkpoint_is_kept_when_it_is_time(prepared, monkeypatch):
    monkeypatch.setitem(module_of_training.DRAWS_AT_ONCE, "cpu", 1)  # a block for each step
    directory, pack = prepared("undisturbed", budget={"steps": 12, "evaluations": 2})
    run_pack(directory.root, pack)
    expected = [table(directory, name, pack) for name in ("trials", "history")]
    monkeypatch.setattr(worker, "CHECKPOINT_ABOVE_SECONDS", 0.0)
    directory, pack = prepared("killed", budget={"steps": 12, "evaluations": 2})
    real, steps = worker.train, []

    def train(trials, *, after_block, **options):
        def after(state):
            after_block(state)
            if state.step in (3, 9) and state.step not in steps:
                steps.append(state.step)
                raise ConnectionError("the machine is gone")

        return real(trials, after_block=after, **options)

    monkeypatch.setattr(worker, "train", train)
    for count in (1, 2):
        with pytest.raises(ConnectionError):
            run_pack(directory.root, pack)
        assert len(steps) == count
    run_pack(directory.root, pack)
    said = {remark for note in notes(directory) for remark in note.get("remarks", [])}
    assert {remark.partition(" from")[0] for remark in said} == {"went on at step 3", "went on at step 9"}
    assert [table(directory, name, pack) for name in ("trials", "history")] == expected


def test_an_interrupted_pack_that_takes_long_keeps_what_it_had(prepared, monkeypatch):
    monkeypatch.setitem(module_of_training.DRAWS_AT_ONCE, "cpu", 1)
    directory, pack = prepared(budget={"steps": 12, "evaluations": 2})
    real = worker.train

    def train(trials, *, after_block, **options):
        def after(state):
            state.seconds += 1000.0  # as if a step took so long
            after_block(state)
            if state.step == 4:
                raise SystemExit(1)  # Ray's answer to SIGTERM

        return real(trials, after_block=after, **options)

    monkeypatch.setattr(worker, "train", train)
    with pytest.raises(SystemExit):
        run_pack(directory.root, pack)
    assert [note["outcome"] for note in notes(directory)] == ["interrupted"]
    assert directory.names("checkpoints") == [checkpoint_of(directory, pack)]
    monkeypatch.setattr(worker, "train", real)
    run_pack(directory.root, pack)
    assert any("went on at step 4" in remark for note in notes(directory) for remark in note.get("remarks", []))


# Storage


def test_a_run_directory_that_is_gone_is_not_made_again(prepared, monkeypatch):
    directory, pack = prepared()
    root = Path(directory.root)
    with monkeypatch.context() as patch:
        patch.setattr(worker, "train", stopping_after(1, lambda: root.rename(root.with_name("moved"))))
        with pytest.raises(FileNotFoundError, match="the run directory is gone"):
            run_pack(directory.root, pack)
    assert not root.exists()
    with pytest.raises(FileNotFoundError, match="the run directory is gone"):
        run_pack(directory.root, pack)
    assert not root.exists()
    root.with_name("moved").rename(root)
    assert run_pack(directory.root, pack).statuses == {"completed": 4}


@pytest.mark.parametrize("number", [errno.ESTALE, errno.EROFS, errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("table_name", ["history", "trials"])
def test_storage_that_fails_leaves_no_row_and_the_reason(prepared, monkeypatch, number, table_name):
    directory, pack = prepared()
    real = RunDirectory.publish

    def publish(self, name, data):
        if name.startswith(f"{table_name}/"):
            raise OSError(number, os.strerror(number))
        real(self, name, data)

    with monkeypatch.context() as patch:
        patch.setattr(RunDirectory, "publish", publish)
        with pytest.raises(OSError, match=os.strerror(number)):
            run_pack(directory.root, pack)
    assert directory.parts("trials") == []
    assert [(note["outcome"], os.strerror(number) in note["error"]) for note in notes(directory)] == [("failed", True)]
    assert run_pack(directory.root, pack).statuses == {"completed": 4}


def error_of(number, file=None):
    return OSError(number, os.strerror(number), file)


def test_errors_of_storage_are_told_from_a_packs_own(prepared):
    directory, _ = prepared()
    inside, outside = f"{directory.root}/trials/x.parquet", "/data/mnist.npz"
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.ESTALE, errno.EIO):
        assert storage_fault(directory, error_of(number))
        assert storage_fault(directory, error_of(number, inside))
        assert storage_fault(directory, error_of(number, Path(inside)))
        assert not storage_fault(directory, error_of(number, outside))
        assert not storage_fault(directory, error_of(number, f"{directory.root}-2/x"))
    assert not storage_fault(directory, FileNotFoundError(errno.ENOENT, "No such file", outside))
    assert not storage_fault(directory, OSError("not a whole Parquet file"))
    assert not storage_fault(directory, ValueError("no"))
    assert sorted(path.name for path in Path(directory.root).iterdir()) == ["plan", SWEEP]


@pytest.mark.parametrize("emptied", [False, True], ids=["gone", "unmounted"])
def test_any_error_is_of_storage_that_is_gone_and_nothing_is_made_at_its_place(prepared, emptied):
    directory, _ = prepared()
    root = Path(directory.root)
    root.rename(root.with_name("moved"))
    if emptied:
        root.mkdir()
    assert storage_fault(directory, OSError("the network is down"))
    assert (sorted(root.iterdir()) if emptied else root.exists()) == ([] if emptied else False)


def test_storage_that_cannot_be_written_is_at_fault(prepared, monkeypatch):
    directory, _ = prepared()

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(worker, "write_whole", full)
    assert storage_fault(directory, OSError("no number"))
    assert not storage_fault(directory, ValueError("no"))


def test_an_object_store_is_asked_by_an_object(prepared, monkeypatch):
    directory, _ = prepared()
    monkeypatch.setattr(directory, "local", False)
    root = Path(directory.root)
    assert not storage_fault(directory, OSError("AWS Error SLOW_DOWN"))
    assert sorted(path.name for path in root.iterdir()) == ["plan", SWEEP]
    root.rename(root.with_name("moved"))
    assert storage_fault(directory, OSError("AWS Error NETWORK_CONNECTION"))

"""Samples are kept beside the results: the ones that were measured, of every trial, and without any effect."""

from dataclasses import replace
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch

from study import checkpoint, worker
from study.errors import UserError
from study.evaluate import evaluate
from study.executor import InProcess
from study.game import Game
from study.methods import parse_method
from study.optimisers import OPTIMISERS
from study.plan import expand
from study.prng import key_words
from study.progress import live
from study.samples import Kept, decoded, keep, of_each_trial, real_row, sample_rows
from study.spec import parse_sweep
from study.store import RunDirectory
from study.sweep_run import run_sweep
from study.tasks.ring import ORDER, SD, centres
from study.tasks.table import get_task
from study.train import train

CHANGES = {"tasks": ["ring8", "digits"], "methods": ["ns"], "budget": {"steps": 4, "evaluations": 2}}
EXECUTION = {"pack": 2, "device": "cpu"}


@pytest.fixture(scope="module")
def kept(tmp_path_factory, tiny, run_here):
    """The directory of a finished sweep of two tasks."""
    root = tmp_path_factory.mktemp("kept") / "run"
    run_here(root, tiny(**CHANGES))
    return RunDirectory(root)


def rows(directory, task):
    table = directory.read_table("samples").to_pandas()
    return table[(table["task"] == task) & table["trial_id"].notna()]


def values(row):
    return decoded(row["values"], row["encoding"], row["count"], row["shape"])


def with_lr(trial, lr):
    return replace(trial, hyperparameters=replace(trial.hyperparameters, lr_g=lr, lr_d=lr))


# What is kept


@pytest.mark.parametrize(
    ("task", "asked", "count"),
    [
        ("ring8", 16, 16 * 32 // 2),
        ("mixture1d", 16, 16 * 32),
        ("digits", 16, 16),
        ("digits", 0, 0),
        ("ring8", 10_000, 8192),  # no more than an evaluation makes
        ("salimans", 16, 0),
        ("manifold-d2", 16, 0),
    ],
)
def test_points_are_many_and_images_few(task, asked, count):
    assert of_each_trial(task, asked) == count


def test_what_is_kept_is_what_the_last_evaluation_measured(small_pack):
    pack = small_pack("ring8", "ns", steps=6, evaluations=3)
    trials = pack.trials[:3]
    state = train(trials, capacity=4, samples=20)
    game = Game(get_task("ring8"), parse_method("ns"), OPTIMISERS["adam"], pack.trials[0].hyperparameters.n_critic)
    keys, seen = key_words([trial.key for trial in (*trials, trials[0])]), []
    again = evaluate(game, state.tensors, keys, index=2, look=seen.append)
    assert np.array_equal(again[get_task("ring8").primary].numpy(), state.evaluations[2].values["w2sq_by_modes_n4096"])
    assert np.array_equal(state.kept.values, seen[0][:3, :20].numpy())
    assert list(state.kept.steps) == [6, 6, 6]


def test_a_trial_keeps_the_same_samples_beside_others(small_pack):
    pack = small_pack("ring8", "ns+gp1", steps=4, evaluations=2)
    together = train(pack.trials, capacity=4, samples=8)
    for slot, trial in enumerate(pack.trials):
        alone = train([trial], capacity=4, samples=8)
        assert np.array_equal(alone.kept.values[0], together.kept.values[slot])


def test_a_trial_that_diverged_keeps_what_it_had():
    now = torch.tensor([[[1.0], [2.0]], [[3.0], [4.0]], [[5.0], [6.0]]])
    first = keep(None, now, np.array([False, False, True]), step=10)
    second = keep(first, now + 10, np.array([False, True, True]), step=20)
    assert list(second.steps) == [20, 10, 0]  # sound, sound until 10, never
    assert second.values[:2].tolist() == [[[11.0], [12.0]], [[3.0], [4.0]]]


def test_samples_that_are_not_finite_are_not_kept():
    first = keep(None, torch.tensor([[[1.0]], [[2.0]]]), np.array([False, False]), step=1)
    second = keep(first, torch.tensor([[[float("nan")]], [[3.0]]]), np.array([False, False]), step=2)
    assert second.values.ravel().tolist() == [1.0, 3.0]
    assert list(second.steps) == [1, 2]


def test_where_nothing_is_asked_for_nothing_is_kept(small_pack):
    pack = small_pack("ring8", "ns", steps=2, evaluations=1, points=1, capacity=1)
    assert train(pack.trials, capacity=1).kept is None
    assert sample_rows(None, pack.trials) == []


def test_a_trial_that_diverged_at_once_has_no_row_and_harms_no_other(small_pack):
    pack = small_pack("ring8", "ns", steps=4, evaluations=2)
    wild = [pack.trials[0], with_lr(pack.trials[1], 1e30), pack.trials[2]]
    state = train(wild, capacity=4, samples=4)
    assert [row["trial_id"] for row in sample_rows(state.kept, wild)] == [wild[0].trial_id, wild[2].trial_id]


def test_a_checkpoint_holds_them(small_pack):
    pack = small_pack("ring8", "ns", steps=4, evaluations=2, points=2, capacity=2)
    saved = []

    def save(state):
        saved.append(checkpoint.to_bytes(state, pack.trials, capacity=2, device="cpu"))

    whole = train(pack.trials, capacity=2, samples=4, after_evaluation=save)
    half = checkpoint.from_bytes(saved[0], pack.trials, capacity=2, device="cpu")
    assert list(half.kept.steps) == [2, 2]
    resumed = train(pack.trials, capacity=2, samples=4, state=half)
    assert np.array_equal(resumed.kept.values, whole.kept.values)
    # of a trial that diverged in between, those of the checkpoint are all there is
    assert np.array_equal(keep(half.kept, torch.ones(2, 4, 2), np.array([True, True]), step=4).values, half.kept.values)


def test_another_number_than_in_a_checkpoint_begins_anew():
    before = Kept(np.ones((1, 3, 2), dtype=np.float32), np.array([5]))
    assert keep(before, torch.zeros(1, 4, 2), np.array([True]), step=9).steps.tolist() == [0]
    assert keep(before, torch.zeros(1, 0, 2), np.array([False]), step=9) is before


# What they cost


def test_no_result_knows_of_them(tmp_path, tiny, run_here, kept):
    run_here(tmp_path / "none", tiny(**CHANGES, execution=EXECUTION | {"samples": 0}))
    without = RunDirectory(tmp_path / "none")
    assert without.parts("samples") == []
    for table in ("plan", "history", "trials"):
        frames = [directory.read_table(table).to_pandas() for directory in (kept, without)]
        frames = [frame.drop(columns="train_seconds", errors="ignore") for frame in frames]
        pd.testing.assert_frame_equal(*frames, check_exact=True)


@pytest.mark.parametrize("method", ["ns+mix", "ns+cond+ema"])
def test_nor_does_a_bit_of_training(small_pack, method):
    pack = small_pack("ring8", method, steps=4, evaluations=2, points=2, capacity=2)
    plain, watched = (train(pack.trials, capacity=2, samples=samples) for samples in (0, 32))
    assert all(torch.equal(plain.tensors[name], watched.tensors[name]) for name in plain.tensors)
    for one, other in zip(plain.evaluations, watched.evaluations, strict=True):
        assert all(np.array_equal(one.values[name], other.values[name], equal_nan=True) for name in one.values)


# Files


def test_every_trial_has_its_samples_in_one_file_a_pack(kept):
    packs = kept.parts("trials")
    assert set(packs) < set(kept.parts("samples"))
    assert len(kept.parts("samples")) == len(packs) + 2  # real samples of two tasks
    trials = kept.read_table("trials").to_pandas()
    table = kept.read_table("samples").to_pandas()
    assert sorted(table["trial_id"].dropna()) == sorted(trials["trial_id"])
    assert set(table.dropna(subset="trial_id")["generator_steps"]) == {4}
    assert sorted(table.loc[table["trial_id"].isna(), "task"]) == ["digits", "ring8"]


def test_images_take_a_byte_a_number_and_points_four(kept):
    digits, ring = rows(kept, "digits").iloc[0], rows(kept, "ring8").iloc[0]
    assert (digits["encoding"], list(digits["shape"]), digits["count"]) == ("uint8", [1, 8, 8], 16)
    assert len(digits["values"]) == 16 * 64
    assert (ring["encoding"], list(ring["shape"]), ring["count"]) == ("float32", [2], 256)
    assert len(ring["values"]) == 256 * 2 * 4
    assert values(digits).shape == (16, 1, 8, 8)
    assert np.abs(values(digits)).max() <= 1


def test_bytes_are_the_nearest_to_the_numbers():
    numbers = real_row("digits", 16)
    exact = values(numbers)
    levels = np.round((exact + 1) * 127.5)
    assert np.array_equal(levels, np.frombuffer(numbers["values"], np.uint8).reshape(levels.shape))
    # digits have 17 levels of ink; half a step of 2 / 255 is what a byte may miss them by
    ink = (exact + 1) * 8
    assert np.abs(ink - ink.round()).max() <= 8 / 255 + 1e-6


def test_real_samples_are_the_same_wherever_they_are_made(kept):
    table = kept.read_table("samples").to_pandas()
    stored = table[table["trial_id"].isna() & (table["task"] == "ring8")].iloc[0]
    again = real_row("ring8", 256)
    assert again["values"] == stored["values"]
    off = np.linalg.norm(values(again)[:, None] - centres().numpy(), axis=2)
    assert off.min(axis=1).max() < 6 * SD
    assert len(set(off.argmin(axis=1))) == 8


def test_real_samples_of_data_that_change_are_the_last():
    last = values(real_row("ring8-sequential", 64))
    assert np.linalg.norm(last - centres()[ORDER[-1]].numpy(), axis=1).max() < 6 * SD


def test_other_tools_read_them(kept):
    pattern = str(Path(kept.root, "samples", "*.parquet"))
    expected = kept.read_table("samples").num_rows
    assert len(pd.read_parquet(Path(kept.root, "samples"))) == expected
    assert len(pl.read_parquet(pattern)) == expected
    found = duckdb.sql(f"select trial_id, shape[1], octet_length(values) from '{pattern}' where task = 'ring8'")
    assert {row[1:] for row in found.fetchall()} == {(2, 2048)}


@pytest.mark.parametrize(("task", "method"), [("salimans", "zerosum"), ("manifold-d2", "ns")])
def test_a_task_without_samples_has_no_file_and_no_trouble(tmp_path, tiny, run_here, task, method):
    _, tally, _ = run_here(tmp_path / "run", tiny(tasks=[task], methods=[method]))
    assert set(tally.statuses) <= {"completed", "diverged"}
    assert tally.done == tally.planned
    assert RunDirectory(tmp_path / "run").parts("samples") == []


def test_samples_are_written_before_the_commit(tmp_path, tiny, monkeypatch):
    real, written = RunDirectory.write_part, []

    def write_part(self, name, part, content):
        written.append(name)
        if name == "samples" and not part.startswith("real-"):
            raise OSError("disk full")
        real(self, name, part, content)

    monkeypatch.setattr(RunDirectory, "write_part", write_part)
    sweep, directory = tiny(tasks=["ring8"]), RunDirectory(tmp_path / "run")
    run = {"watch": live, "say": lambda _: None}
    run_sweep(directory, sweep, expand(sweep), InProcess(), **run)
    assert written[:4] == ["plan", "history", "samples", "samples"]  # the real ones, then the pack's
    assert "trials" not in written  # however often it is tried
    assert directory.parts("trials") == []
    monkeypatch.setattr(RunDirectory, "write_part", real)
    _, tally = run_sweep(directory, sweep, expand(sweep), InProcess(), **run)
    assert tally.statuses == {"completed": 2}
    assert len(rows(directory, "ring8")) == 2


def test_the_halves_of_a_pack_share_its_file(tmp_path, tiny, run_here, monkeypatch):
    real = worker.train

    def train_small(trials, **options):
        if options["capacity"] > 1:
            raise MemoryError
        return real(trials, **options)

    monkeypatch.setattr(worker, "train", train_small)
    run_here(tmp_path / "run", tiny(tasks=["ring8"]))
    directory = RunDirectory(tmp_path / "run")
    assert len([part for part in directory.parts("samples") if not part.startswith("real-")]) == 1
    assert len(rows(directory, "ring8")) == 2


def test_a_sweep_that_grows_keeps_them(tmp_path, tiny, run_here):
    root = tmp_path / "run"
    run_here(root, tiny(tasks=["ring8"]))
    directory = RunDirectory(root)
    before = {part: directory.read(f"samples/{part}.parquet") for part in directory.parts("samples")}
    run_here(root, tiny(tasks=["ring8", "digits"], execution=EXECUTION | {"samples": 4}))
    assert all(directory.read(f"samples/{part}.parquet") == data for part, data in before.items())
    assert set(rows(directory, "digits")["count"]) == {4}
    assert set(rows(directory, "ring8")["count"]) == {256}


# The sweep file


def test_their_number_changes_no_trial(tiny):
    plans = [expand(tiny(execution=EXECUTION | {"samples": samples})) for samples in (0, 16, 64)]
    assert plans[0] == plans[1] == plans[2]


@pytest.mark.parametrize("samples", [-1, 1.5, "many"])
def test_a_number_that_is_none_is_refused(samples):
    raw = {
        "name": "x",
        "tasks": ["ring8"],
        "methods": ["ns"],
        "budget": {"steps": 9},
        "execution": {"samples": samples},
    }
    with pytest.raises(UserError, match=r"execution\.samples = "):
        parse_sweep(raw | {"space": {"override": {"lr": 0.1}}}, source="x")

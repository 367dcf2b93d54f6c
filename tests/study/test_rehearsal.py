import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from study import rehearsal
from study.plan import expand, pack
from study.rehearsal import bytes_taken
from study.spec import parse_sweep
from study.store import RunDirectory
from study.train import PROGRAMS, program_of

ROOT = str(Path(rehearsal.__file__).parents[1])

SWEEP = """
name = "wide"
tasks = ["ring8"]
methods = ["ns"]
budget = { steps = 2, evaluations = 1 }
space = { preset = "lucic_wide", override.width_g.cross = WIDTHS, override.width_d = 8, override.n_critic = 1 }
design = { points = 1 }
execution = { pack = 1, device = "cpu", memory = "LIMIT" }
"""


def trial_of(**override):
    """The first trial of a sweep whose space is overridden so."""
    raw = {"name": "one", "tasks": ["ring8"], "methods": ["ns"], "budget": {"steps": 8, "evaluations": 2}}
    override = {"width_g": 8, "width_d": 8, "n_critic": 1} | override
    raw |= {"design": {"points": 1}, "space": {"preset": "lucic_wide", "override": override}}
    return pack(expand(parse_sweep(raw, source="test")), capacity=1, device="cpu")[0].trials[0]


def test_it_is_at_least_what_has_to_be_there():
    narrow, wide = (bytes_taken(trial_of(width_g=width), capacity=1, samples=0) for width in (8, 1024))
    parameters = 4 * 1024 * 1024  # of the square layer between two of that width, in float32
    assert wide - narrow > 3 * parameters  # with both of Adam's moments
    assert wide - narrow < 20 * parameters


def test_a_larger_pack_takes_more():
    trial = trial_of()
    one, two, four = (bytes_taken(trial, capacity=capacity, samples=0) for capacity in (1, 2, 4))
    assert one < two < four < 4.1 * one


def test_which_trial_of_a_structure_is_tried_does_not_matter():
    trial = trial_of()
    other = replace(trial, key="f" * 32, seed=3, point=7, hyperparameters=replace(trial.hyperparameters, lr_g=1e30))
    found = bytes_taken(trial, capacity=2, samples=4)
    rehearsal._bytes_taken.cache_clear()
    assert bytes_taken(other, capacity=2, samples=4) == found


def test_a_rehearsal_is_short_and_remembered(monkeypatch):
    rehearsal._bytes_taken.cache_clear()
    real, steps = rehearsal.train, []

    def train(trials, **options):
        steps.append(trials[0].generator_steps)
        return real(trials, **options)

    monkeypatch.setattr(rehearsal, "train", train)
    trial = trial_of()
    long = replace(trial, budget=replace(trial.budget, steps=10**9))
    assert bytes_taken(long, capacity=1, samples=0) == bytes_taken(long, capacity=1, samples=0)
    assert steps == [1, 1, rehearsal.STEPS]


def test_nothing_is_told_to_the_terminal(capfd):
    rehearsal._bytes_taken.cache_clear()
    bytes_taken(trial_of(), capacity=1, samples=0)
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(sys.platform == "win32", reason="runs the command in a process of its own")
def test_two_hundred_structures_one_after_the_other_fare_as_each_does_alone(tmp_path):
    widths = list(range(8, 208))
    limit = bytes_taken(trial_of(width_g=108), capacity=1, samples=16)  # in the middle, to the byte

    def statuses(widths, name):
        file, out = tmp_path / f"{name}.toml", tmp_path / name
        file.write_text(SWEEP.replace("WIDTHS", str(widths)).replace("LIMIT", f"{limit / 1000:.3f} kB"))
        code = "import sys; sys.path.append(sys.argv.pop(1)); from manypaths import main; main()"
        command = [sys.executable, "-c", code, ROOT, "run", str(file), "--out", str(out), "--in-process"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        rows = RunDirectory(out).read_table("trials", ["width_g", "status"]).to_pylist()
        return {row["width_g"]: row["status"] for row in rows}

    together = statuses(widths, "together")
    assert len(together) == len(widths)
    assert {together[width] for width in widths if width <= 108} == {"completed"}
    assert {together[width] for width in widths if width > 108} == {"oom"}
    for width in (8, 108, 109):
        assert statuses([width], f"alone-{width}") == {width: together[width]}


def test_programs_that_are_kept_are_few():
    assert program_of.cache_info().maxsize == PROGRAMS
    assert PROGRAMS <= 64


def test_one_thread_or_two_ask_for_the_same():
    trial = trial_of()
    found = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        rehearsal._bytes_taken.cache_clear()
        found.append(bytes_taken(trial, capacity=2, samples=0))
    torch.set_num_threads(1)
    assert found[0] == found[1]

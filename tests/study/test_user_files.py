"""A user's own tasks, losses, penalties and networks, from the file to the results."""

import json
import re
import textwrap

import pyarrow.parquet as pq
import pytest

from study import user_files
from study.errors import UserError
from study.executor import InProcess
from study.methods import parse_method
from study.progress import live
from study.store import RunDirectory
from study.sweep_run import load, run_sweep
from study.tasks.table import get_task

TASK = """
    import torch
    from study.tasks.base import Task

    def sample(uniforms):
        angle = 6.283185307179586 * uniforms[..., 0]
        return torch.stack([angle.cos(), angle.sin()], -1)

    def evaluate(at):
        off = at.samples.double().norm(dim=-1) - 1
        return {"off_circle_n256": off.square().mean(1)}

    def circle(radius: float = 1.0):
        return Task(
            shape=(2,),
            latent=2,
            draws=1,
            sample=lambda uniforms: radius * sample(uniforms),
            evaluate=evaluate,
            evaluation_samples=256,
            metrics=("off_circle_n256",),
            primary="off_circle_n256",
            threshold=0.01,
            anchors=(0.001, 1.0),
        )
"""
PARTS = """
    import torch
    from study.losses import Loss
    from study.penalties import Penalty
    from study.networks.mlp import mlp

    def root(t):
        return torch.sqrt(1 + t * t)

    cauchy = Loss(
        discriminator=lambda real, fake: root(real - 1) + root(fake + 1),
        generator=lambda fake, real: root(fake - 1),
        formula="sqrt(1 + t^2)", source="ours", pitfalls="none known",
    )
    gp2 = Penalty(centre="zero", where="real", weight=2.0, formula="w |g|^2", source="ours", pitfalls="none known")

    def small(latent, shape, *, bounded):
        return mlp([latent, 8, shape[0]]), mlp([shape[0], 8, 1])

    def single(latent, shape, *, bounded):
        return mlp([latent, 8, shape[0]])
    number = 3
"""
SWEEP = """
    name = "own"
    tasks = ["tasks/mine.py:circle", "tasks/mine.py:circle[radius=2]"]
    methods = ["ns", "parts.py:cauchy+parts.py:gp2"]
    [budget]
    steps = 4
    evaluations = 2
    [space.override]
    lr = { log_uniform = [1e-3, 1e-2] }
    network = "parts.py:small"
    [design]
    points = 2
    [execution]
    device = "cpu"
    pack = 2
"""


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text))
    return path


@pytest.fixture
def sweep_file(tmp_path):
    write(tmp_path / "study/tasks/mine.py", TASK)
    write(tmp_path / "study/parts.py", PARTS)
    return write(tmp_path / "study/sweep.toml", SWEEP)


def run(file, out):
    sweep, trials = load(file)
    run_sweep(RunDirectory(str(out)), sweep, trials, InProcess(), watch=live, say=lambda _: None)
    return trials


def test_a_sweep_of_nothing_but_the_users_own(sweep_file, tmp_path, monkeypatch):
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    trials = run(sweep_file, tmp_path / "run")
    rows = pq.read_table(tmp_path / "run/trials").to_pylist()
    assert {row["trial_id"] for row in rows} == {trial.trial_id for trial in trials}
    assert {row["task"] for row in rows} == {"tasks/mine.py:circle", "tasks/mine.py:circle[radius=2]"}
    assert {(row["loss"], row["penalty"]) for row in rows} == {("ns", None), ("parts.py:cauchy", "parts.py:gp2")}
    assert {row["network"] for row in rows} == {"parts.py:small"}
    assert {row["penalty_weight"] for row in rows} == {None, 2.0}
    assert all(row["off_circle_n256"] == row["primary"] for row in rows)


def test_workers_take_the_files_from_the_run_directory(sweep_file, tmp_path):
    run(sweep_file, tmp_path / "run")
    for file in sweep_file.parent.rglob("*.py"):
        file.unlink()
    user_files._provided.clear()
    for part in (tmp_path / "run/trials").iterdir():
        part.unlink()
    from study.worker import run_pack

    plan = pq.read_table(tmp_path / "run/plan").to_pylist()
    counts = run_pack(str(tmp_path / "run"), plan[0]["pack"])
    assert counts == {"completed": 2}


def test_a_changed_file_is_another_trial(sweep_file):
    before = {trial.trial_id for trial in load(sweep_file)[1]}
    assert {trial.trial_id for trial in load(sweep_file)[1]} == before
    write(sweep_file.parent / "tasks/mine.py", TASK.replace("0.01", "0.02"))
    assert before.isdisjoint(trial.trial_id for trial in load(sweep_file)[1])


def test_a_changed_loss_changes_the_trials_that_have_it(sweep_file):
    def ids():
        return {trial.trial_id: trial.method for trial in load(sweep_file)[1]}

    write(sweep_file, SWEEP.replace('network = "parts.py:small"\n', "\n"))
    before = ids()
    write(sweep_file.parent / "parts.py", PARTS + "\n    other = 1\n")
    kept = before.keys() & ids().keys()
    assert {before[name] for name in kept} == {"ns"}
    assert len(kept) == len(before) / 2


def test_a_run_is_not_continued_with_another_file(sweep_file, tmp_path):
    run(sweep_file, tmp_path / "run")
    write(sweep_file.parent / "tasks/mine.py", TASK.replace("0.01", "0.02"))
    with pytest.raises(UserError, match="was begun with another plan"):
        run(sweep_file, tmp_path / "run")


def test_a_users_module_shadows_nothing(tmp_path):
    import json as before

    write(tmp_path / "json.py", "import study.losses\nvalue = 7\n")
    user_files.provide_from(tmp_path, "json.py")
    assert user_files.find("json.py:value") == 7
    import json as after

    assert after is before is json


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (("tasks/mine.py:circle", "tasks/nine.py:circle"), "cannot read 'tasks/nine.py' in "),
        (("mine.py:circle[radius=2]", "mine.py:disc"), "'tasks/mine.py' has no 'disc': it has torch, Task, sample"),
        (("[radius=2]", "[radios=2]"), "unknown option of 'tasks/mine.py:circle[radios=2]': 'radios': choose from rad"),
        (("parts.py:small", "parts.py:number"), "'parts.py:number' must be a function that gives a generator and a"),
        (("parts.py:small", "parts.py:single"), "'parts.py:single' must give a pair of Network objects"),
        (("parts.py:cauchy", "parts.py:gp2"), "'parts.py:gp2' must be a Loss here, not Penalty"),
        (("parts.py:gp2", "parts.py:cauchy"), "'parts.py:cauchy' must be a Penalty here, not Loss"),
        (("mine.py:circle[radius=2]", "mine.py:sample"), "task 'tasks/mine.py:sample' cannot be made: TypeError: "),
        (("mine.py:circle[radius=2]", "mine.py:torch"), "'tasks/mine.py:torch' must be a Task or a function that"),
    ],
)
def test_a_reference_with_a_fault_is_refused_in_one_sentence(sweep_file, change, sentence):
    write(sweep_file, SWEEP.replace(*change, 1))
    with pytest.raises(UserError, match=re.escape(sentence)) as caught:
        load(sweep_file)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (("import torch", "import torch, nothing_of_the_kind"), "does not run: ModuleNotFoundError: No module named"),
        (("def evaluate(at):", "def evaluate(at)"), "does not run: SyntaxError: expected ':' (line 9)"),
        (("at.samples", "at.simples"), "AttributeError: 'Snapshot' object has no attribute 'simples' (line 10)"),
        (("shape=(2,)", "shape=(3,)"), "sample gives (2, 3, 2) for uniforms (2, 3, 1): must be (2, 3, 3)"),
        (("mean(1)", "mean()"), "evaluate gives off_circle_n256 of shape () for 2 trials: must be (2,)"),
        (('metrics=("off_circle_n256",)', 'metrics=("off",)'), "evaluate gives off_circle_n256, and metrics names off"),
        (('primary="off_circle_n256"', 'primary="on"'), "primary = 'on': must be one of off_circle_n256"),
        (("anchors=(0.001, 1.0)", "anchors=(1.0, 0.1)"), "anchors = (1.0, 0.1): the first, which scores 1, must be"),
        (("threshold=0.01,", ""), "missing 1 required keyword-only argument: 'threshold' (line "),
    ],
)
def test_a_task_with_a_fault_is_refused_at_the_desk(sweep_file, change, sentence):
    write(sweep_file.parent / "tasks/mine.py", TASK.replace(*change, 1))
    with pytest.raises(UserError, match=re.escape(sentence)) as caught:
        load(sweep_file)
    assert "\n" not in str(caught.value)


def test_a_reference_is_found_in_the_current_folder_too(sweep_file, monkeypatch):
    user_files._provided.clear()
    monkeypatch.chdir(sweep_file.parent)
    task = get_task("tasks/mine.py:circle")
    assert task is get_task("tasks/mine.py:circle")
    assert (task.name, task.data_width) == ("tasks/mine.py:circle", 2)
    assert task.fingerprint == user_files.digest_of("tasks/mine.py:circle")
    assert parse_method("parts.py:cauchy+parts.py:gp2+ema").penalty_entry.weight == 2.0

"""A user's own tasks, losses, penalties and networks, from the file to the results."""

import json
import re
import textwrap

import pyarrow.parquet as pq
import pytest

from analysis.runs import load_results
from study import user_files
from study.errors import UserError
from study.executor import InProcess
from study.methods import parse_method
from study.progress import live
from study.spec import to_toml
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
    counts = run_pack(str(tmp_path / "run"), plan[0]["pack"]).statuses
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
        (
            ("at.samples", "at.simples"),
            "AttributeError: 'Snapshot' object has no attribute 'simples' (tasks/mine",
        ),
        (("shape=(2,)", "shape=(3,)"), "sample gives (2, 3, 2) for uniforms (2, 3, 1): must be (2, 3, 3)"),
        (("mean(1)", "mean()"), "evaluate gives off_circle_n256 of shape () for 2 trials: must be (2,)"),
        (('metrics=("off_circle_n256",)', 'metrics=("off",)'), "primary = 'off_circle_n256': must be one of off"),
        (('{"off_circle_n256":', '{"off":'), "evaluate gives off, and metrics names off_circle_n256"),
        (('{"off_circle_n256":', '{"lr_g":'), "evaluate gives lr_g, and metrics names off_circle_n256"),
        (
            ('metrics=("off_circle_n256",)', 'metrics=("off_circle_n256", "lr_g")'),
            "metrics names 'lr_g', which is",
        ),
        (("threshold=0.01", "threshold='0.01'"), "threshold = '0.01', anchors = (0.001, 1.0): must be a number, and"),
        (("anchors=(0.001,", "anchors=(0.0,"), "anchors = (0.0, 1.0): must be a number, and two above 0"),
        (("latent=2,", "latent=2, batch=0,"), "batch = 0: must be a whole number from 1"),
        (("latent=2,", "latent=2, evaluation_steps=0.5,"), "evaluation_steps = 0.5: must be a whole number from 1"),
        (("off.square().mean(1)}", "off.square().mean(1) * float('nan')}"), "[nan, nan] for networks that are not"),
        (('return {"off_circle_n256": off', "return {0: off"), "evaluate gives 0, and metrics names off_circle"),
        (('return {"off_circle_n256": off.square().mean(1)}', "return off"), "evaluate must give a dictionary of"),
        (("radius * sample(uniforms)", "torch.randn(*uniforms.shape[:-1], 2)"), "sample draws random numbers of its"),
        (("import torch", "import sys, torch; sys.exit(3)"), "does not run: SystemExit: 3"),
        (("latent=2,", "latent=2, classes=3,"), "classes = 3 without label: give both or neither"),
        (("latent=2,", "latent=2, classes=3, label=lambda u: u[..., 0],"), "label gives torch.float32 of (2, 500) for"),
        (
            ("latent=2,", "latent=2, classes=3, label=lambda u: (4 * u[..., 0]).long(),"),
            "label gives 0 to 3: must be",
        ),
        (("latent=2,", "latent=2, label=lambda u: (4 * u[..., 0]).long(),"), "label without classes: classes = 1 must"),
        (('primary="off_circle_n256"', 'primary="on"'), "primary = 'on': must be one of off_circle_n256"),
        (("anchors=(0.001, 1.0)", "anchors=(1.0, 0.1)"), "anchors = (1.0, 0.1): must be a number, and two above"),
        (("threshold=0.01,", ""), "missing 1 required keyword-only argument: 'threshold' (tasks/mine.py, line "),
    ],
)
def test_a_task_with_a_fault_is_refused_at_the_desk(sweep_file, change, sentence):
    write(sweep_file.parent / "tasks/mine.py", TASK.replace(*change, 1))
    with pytest.raises(UserError, match=re.escape(sentence)) as caught:
        load(sweep_file)
    assert "\n" not in str(caught.value)


def test_data_outside_their_bounds_are_refused(sweep_file):
    write(sweep_file.parent / "tasks/mine.py", TASK.replace("latent=2,", "latent=2, bounded=True,"))
    with pytest.raises(UserError, match=r"circle\[radius=2\]': sample gives -2 to .*: must be in \[-1, 1\]"):
        load(sweep_file)


def test_a_reference_of_the_command_line_is_found_in_the_current_folder(sweep_file, monkeypatch):
    user_files._provided.clear()
    monkeypatch.chdir(sweep_file.parent / "tasks")
    user_files.provide_here("mine.py:circle")
    user_files.provide_here("../parts.py:cauchy+./../parts.py:gp2")
    task = get_task("mine.py:circle")
    assert task is get_task("mine.py:circle")
    assert (task.name, task.data_width) == ("mine.py:circle", 2)
    assert task.fingerprint == user_files.digest_of("mine.py:circle")
    assert parse_method("../parts.py:cauchy+../parts.py:gp2+ema").penalty_entry.weight == 2.0
    with pytest.raises(UserError, match=r"cannot read 'none\.py' in .*: No such file"):
        user_files.provide_here("none.py:x")


def test_nothing_is_taken_from_the_current_folder_unasked(sweep_file, monkeypatch):
    """As in a worker, which is started anywhere."""
    user_files._provided.clear()
    monkeypatch.chdir(sweep_file.parent)
    with pytest.raises(UserError, match=r"'parts\.py' is not among the files that the sweep names and the run keeps"):
        parse_method("parts.py:cauchy")


@pytest.mark.parametrize("name", ["./tasks/mine.py", "tasks//mine.py", "tasks/./x/../mine.py"])
def test_a_detour_changes_neither_the_trials_nor_what_the_run_keeps(sweep_file, tmp_path, name):
    before, plain = ids(sweep_file), to_toml(load(sweep_file)[0])
    write(sweep_file, SWEEP.replace("tasks/mine.py", name).replace('"parts.py', '"./parts.py'))
    assert ids(sweep_file) == before
    assert to_toml(load(sweep_file)[0]) == plain
    run(sweep_file, tmp_path / "run")
    assert sorted(path.name for path in (tmp_path / "run/files").iterdir()) == ["parts.py", "tasks%2Fmine.py"]
    assert {row["task"] for row in pq.read_table(tmp_path / "run/trials", columns=["task"]).to_pylist()} == {
        "tasks/mine.py:circle",
        "tasks/mine.py:circle[radius=2]",
    }


def test_a_worker_takes_hidden_files_and_each_by_its_own_name(sweep_file, tmp_path, monkeypatch):
    """In an empty folder, with what the process knew of files forgotten."""
    write(sweep_file.parent / ".own.py", TASK)
    write(sweep_file, SWEEP.replace("tasks/mine.py", ".own.py"))
    trials = run(sweep_file, tmp_path / "run")
    for part in (tmp_path / "run/trials").iterdir():
        part.unlink()
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    user_files._provided.clear()
    from study.worker import run_pack

    packs = {row["pack"] for row in pq.read_table(tmp_path / "run/plan", columns=["pack"]).to_pylist()}
    assert sum(run_pack(str(tmp_path / "run"), pack).statuses["completed"] for pack in packs) == len(trials)


def test_what_a_run_keeps_is_taken_though_the_named_file_was_changed_since(sweep_file, tmp_path, capsys):
    own = sweep_file.parent / "tasks/mine.py"
    write(sweep_file, SWEEP.replace("tasks/mine.py", str(own)))
    before = {trial.trial_id for trial in run(sweep_file, tmp_path / "run")}
    capsys.readouterr()
    assert ids(tmp_path / "run/sweep.toml") == before
    assert capsys.readouterr().err == ""
    own.write_text(own.read_text().replace("0.01", "0.02"))
    assert ids(tmp_path / "run/sweep.toml") == before
    assert capsys.readouterr().err == (
        f"{own} was changed since {tmp_path / 'run'} was given its copy: the copy is what is run\n"
    )
    # the user's own sweep file asks for the file as it is now, which the run refuses
    with pytest.raises(UserError, match="was begun with another plan"):
        run(sweep_file, tmp_path / "run")


def test_a_folder_of_the_users_that_is_called_files_holds_no_copies(tmp_path):
    write(tmp_path / "own.py", "value = 1")
    write(tmp_path / "files/own.py", "value = 2")
    for name in ("own.py", "files/own.py"):
        user_files.provide_from(tmp_path, name)
    assert (user_files.find("own.py:value"), user_files.find("files/own.py:value")) == (1, 2)


def test_a_link_is_followed_and_a_climbing_path_is_not(sweep_file, tmp_path):
    write(tmp_path / "outside.py", "value = 3")
    (sweep_file.parent / "linked.py").symlink_to(tmp_path / "outside.py")
    user_files.provide_from(sweep_file.parent, "linked.py")
    assert user_files.find("linked.py:value") == 3
    with pytest.raises(UserError, match="a relative path stays below the folder of the sweep file"):
        user_files.provide_from(sweep_file.parent, "../outside.py")


def test_a_network_outside_that_a_design_table_names_is_refused(sweep_file):
    text = SWEEP.replace('network = "parts.py:small"\n', "\n").replace("points = 2", 'kind = "table"\ntable = "t.csv"')
    write(sweep_file, text)
    write(sweep_file.parent.parent / "parts.py", PARTS)
    write(sweep_file.parent / "t.csv", "lr,network\n0.001,../parts.py:small\n")
    with pytest.raises(UserError, match=r"'\.\./parts\.py': a relative path stays below"):
        load(sweep_file)


def ids(file):
    return {trial.trial_id for trial in load(file)[1]}


def test_neither_the_folder_nor_the_name_of_a_file_is_part_of_a_trial(sweep_file):
    before = ids(sweep_file)
    (sweep_file.parent / "tasks/mine.py").rename(sweep_file.parent / "other.py")
    write(sweep_file, SWEEP.replace("tasks/mine.py", "other.py"))
    assert ids(sweep_file) == before


def test_a_text_that_looks_like_a_reference_is_none(sweep_file):
    write(sweep_file, 'notice = "see analysis.py:main"\n' + textwrap.dedent(SWEEP))
    assert ids(sweep_file)


def test_a_variants_network_is_part_of_its_trials(sweep_file, tmp_path):
    text = SWEEP.replace('network = "parts.py:small"\n', "\n").replace('"ns",', '"ns", "ns@small",')
    write(sweep_file, textwrap.dedent(text) + '[variant.small]\nnetwork = "parts.py:small"\n')
    trials = run(sweep_file, tmp_path / "run")
    own = {trial.trial_id: trial.fingerprint for trial in trials if trial.label == "ns@small"}
    assert all(user_files.digest_of("parts.py:small") in fingerprint for fingerprint in own.values())
    assert pq.read_table(tmp_path / "run/trials").num_rows == len(trials)


def test_a_network_named_in_a_design_table_travels_too(sweep_file, tmp_path, monkeypatch):
    text = SWEEP.replace('network = "parts.py:small"\n', "\n").replace("points = 2", 'kind = "table"\ntable = "t.csv"')
    write(sweep_file, text)
    write(sweep_file.parent / "t.csv", "lr,network\n0.001,parts.py:small\n0.002,mlp\n")
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.chdir(folder)
    user_files._provided.clear()
    trials = run(sweep_file, tmp_path / "run")
    assert {trial.hyperparameters.network for trial in trials} == {"parts.py:small", "mlp"}
    assert sorted(path.name for path in (tmp_path / "run/files").iterdir()) == ["parts.py", "tasks%2Fmine.py"]


def test_what_else_lies_among_the_files_harms_nothing(sweep_file, tmp_path):
    run(sweep_file, tmp_path / "run")
    (tmp_path / "run/files/folder.py").mkdir()
    (tmp_path / "run/files/nowhere.py").symlink_to(tmp_path / "gone")
    for part in (tmp_path / "run/trials").iterdir():
        part.unlink()
    assert run(sweep_file, tmp_path / "run")


def test_a_loss_that_changed_within_a_process_trains_anew(sweep_file, tmp_path):
    write(sweep_file, SWEEP.replace('"ns", ', ""))
    run(sweep_file, tmp_path / "first")
    write(sweep_file.parent / "parts.py", PARTS.replace("root(real - 1)", "root(real - 2)"))
    run(sweep_file, tmp_path / "second")
    first, second = (pq.read_table(tmp_path / name / "trials")["primary"].to_pylist() for name in ("first", "second"))
    assert set(first).isdisjoint(second)


def test_a_dataclass_with_postponed_annotations_can_be_had(tmp_path):
    content = """
        from __future__ import annotations
        from dataclasses import dataclass

        @dataclass
        class Point:
            x: float

        point = Point(2.0)
    """
    write(tmp_path / "points.py", textwrap.dedent(content).lstrip())
    user_files.provide_from(tmp_path, "points.py")
    assert user_files.find("points.py:point").x == 2.0


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (("mlp([latent, 8, shape[0]])", "mlp([latent, 8, 3])"), "tried out: RuntimeError: "),
        (("mlp([shape[0], 8, 1])", "mlp([shape[0], 8, 2])"), "tried out: "),
        (
            ("return mlp([latent, 8", "return 1 / 0, mlp([latent, 8"),
            "makes no networks: ZeroDivisionError: division by",
        ),
        (("def small(latent, shape, *, bounded)", "def small(latent)"), "makes no networks: TypeError: small()"),
        (("root(real - 1)", "rote(real - 1)"), "tried out: NameError: name 'rote' is not defined (parts.py, li"),
        (("root(real - 1)", "root(real - 1) if real.sum() > 0 else real"), "tried out: "),
        (('centre="zero"', 'centre="nowhere"'), "tried out: KeyError: 'nowhere'"),
        (
            ("generator=lambda", 'hyperparameters={"nonsense": 1.0}, generator=lambda'),
            "unknown hyperparameter of 'parts.py:cauchy': 'nons",
        ),
    ],
)
def test_parts_with_a_fault_are_refused_at_the_desk(sweep_file, change, sentence):
    write(sweep_file.parent / "parts.py", PARTS.replace(*change, 1))
    with pytest.raises(UserError, match=re.escape(sentence)) as caught:
        load(sweep_file)
    assert "\n" not in str(caught.value)


def test_a_finished_run_is_read_without_the_users_program(sweep_file, tmp_path, monkeypatch):
    run(sweep_file, tmp_path / "run")
    folder = tmp_path / "elsewhere"
    write(folder / "parts.py", "raise RuntimeError('not asked for')")
    monkeypatch.chdir(folder)
    user_files._provided.clear()
    results = load_results(RunDirectory(str(tmp_path / "run")))
    assert len(results.trials) == 8
    assert user_files._provided == {}


def test_the_sweep_file_of_a_run_can_be_run_again(sweep_file, tmp_path, monkeypatch):
    trials = run(sweep_file, tmp_path / "run")
    for file in sweep_file.parent.rglob("*.py"):
        file.unlink()
    user_files._provided.clear()
    again = load(tmp_path / "run/sweep.toml")[1]
    assert [trial.trial_id for trial in again] == [trial.trial_id for trial in trials]


def test_what_a_users_program_prints_is_no_data(sweep_file, capsys):
    write(sweep_file.parent / "tasks/mine.py", TASK.replace("import torch", "import torch; print('hello')", 1))
    load(sweep_file)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "hello" in shown.err

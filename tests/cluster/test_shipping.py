import os
import shlex
import subprocess
import sys

import pytest

from cluster.shipping import FOLDER, destination, entrypoint, package_files, shipment_of, write_files
from study import user_files
from study.errors import UserError
from study.sweep_run import load

FILE = """
name = "small"
tasks = ["manifold-d2"]
methods = ["ns"]
budget.steps = 6
budget.evaluations = 2
execution.device = "cpu"
"""
TASK = """
from study.metrics.samples import energy_distance
from study.tasks.base import Task

points = Task(
    shape=(1,),
    draws=1,
    sample=lambda uniforms: uniforms.round(),
    evaluate=lambda at: {"m_n64": energy_distance(at.samples, at.samples.new_tensor([[0.0], [1.0]]))},
    evaluation_samples=64,
    metrics=("m_n64",),
    primary="m_n64",
    threshold=0.05,
    anchors=(0.01, 1.0),
)
"""


@pytest.fixture
def file(tmp_path):
    (tmp_path / "user").mkdir()
    return tmp_path / "user" / "sweep.toml"


def ids(path):
    return [trial.trial_id for trial in load(path)[1]]


def test_only_what_the_sweep_names_travels_and_none_of_it_at_the_top(file):
    file.write_text(FILE.replace('"manifold-d2"', '"tasks/torch.py:points"') + "space.override.lr = 1e-3\n")
    (file.parent / "tasks").mkdir()
    (file.parent / "tasks" / "torch.py").write_text(TASK)
    (file.parent / "secret.txt").write_text("mine")
    shipment = shipment_of(file)
    assert set(shipment.files) == {f"{FOLDER}/small.toml", f"{FOLDER}/files/tasks%2Ftorch.py"}
    assert shipment.sweep == f"{FOLDER}/small.toml"


@pytest.mark.parametrize("where", [".", "deep/er", "./deep/../deeper"])
def test_a_design_table_means_the_same_where_it_arrives(file, tmp_path, where):
    (file.parent / "deep").mkdir()
    table = file.parent / where / "design.csv"
    table.parent.mkdir(parents=True, exist_ok=True)
    table.write_text("lr\n0.001\n0.02\n")
    named = f"{where}/design.csv"
    lr = "space.override.lr = {log_uniform = [1e-3, 1e-1]}\n"
    file.write_text(FILE + lr + f'design.kind = "table"\ndesign.table = "{named}"\n')
    shipment = shipment_of(file)
    arrived = tmp_path / "arrived"
    arrived.mkdir()
    write_files(shipment.files, arrived)
    assert all(arrived in path.resolve().parents for path in arrived.rglob("*"))
    assert sorted(path.name for path in arrived.iterdir()) == [FOLDER]
    expected = ids(file)
    table.unlink()
    assert ids(arrived / shipment.sweep) == expected


def test_the_hash_is_of_what_is_asked_for(file):
    def hashed(text, task=TASK):
        file.write_text(text)
        (file.parent / "mine.py").write_text(task)
        return shipment_of(file).hash

    plain = FILE.replace('"manifold-d2"', '"mine.py:points"') + "space.override.lr = 1e-3\n"
    first = hashed(plain)
    assert hashed("# a remark\n" + plain.replace("= 6", "=    6")) == first
    assert hashed(plain.replace("1e-3", "2e-3")) != first
    assert hashed(plain, TASK + "\n# another\n") != first
    assert hashed(plain) == first


@pytest.mark.parametrize(
    ("extra", "sentence"),
    [
        ('design.kind = "table"\ndesign.table = "{folder}/design.csv"\n', "must be relative to the sweep file"),
        ('execution.data = "data"\n', "execution.data = 'data': must be an absolute path"),
    ],
)
def test_what_cannot_travel_is_refused(file, extra, sentence):
    (file.parent / "design.csv").write_text("lr\n0.001\n")
    lr = "space.override.lr = {log_uniform = [1e-3, 1e-1]}\n"
    file.write_text(FILE + lr + extra.replace("{folder}", str(file.parent)))
    with pytest.raises(UserError, match=sentence):
        shipment_of(file)


def test_the_package_comes_first_and_knows_its_version(tmp_path):
    """A process that begins as a job does, in a folder where another `study` waits."""
    arrived, elsewhere = tmp_path / "arrived", tmp_path / "elsewhere"
    write_files(package_files(), arrived)
    (elsewhere / "study").mkdir(parents=True)
    (elsewhere / "study" / "__init__.py").write_text("raise SystemExit(3)")
    code = "import manypaths, study; from importlib.metadata import version as of"
    code += "; print(manypaths.__file__, study.__file__, of('manypaths'))"
    environment = os.environ | {"PYTHONPATH": f"{arrived}{os.pathsep}{elsewhere}"}
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=elsewhere, env=environment, capture_output=True, text=True, check=True
    )
    program, package, version = done.stdout.split()
    assert (program, package) == (str(arrived / "manypaths.py"), str(arrived / "study" / "__init__.py"))
    assert f"manypaths-{version}.dist-info/METADATA" in package_files()
    assert not any("__pycache__" in name or name.endswith(".pyc") for name in package_files())


@pytest.mark.parametrize("out", ["/a b/$(touch hit)", "/x'; touch hit; '", "s3://bucket/`touch hit`", "/n\ntouch hit"])
def test_nothing_of_the_users_is_a_shells_to_interpret(file, tmp_path, out):
    file.write_text(FILE + "space.override.lr = 1e-3\n")
    command = entrypoint(shipment_of(file), out, python="echo")
    assert shlex.split(command)[-3:] == [out, "--address", "$RAY_ADDRESS"]
    said = subprocess.run(
        command, shell=True, cwd=tmp_path, env=os.environ | {"RAY_ADDRESS": "1.2.3.4:5"}, capture_output=True, text=True
    )
    assert said.stdout.rstrip("\n").endswith(f"--out {out} --address 1.2.3.4:5")
    assert not (tmp_path / "hit").exists()


def test_destinations(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert destination("runs/x") == str(tmp_path / "runs/x")
    assert destination("s3://bucket/runs/x/") == "s3://bucket/runs/x"
    with pytest.raises(UserError, match="holds a key or password") as refused:
        destination("s3://key:secret@bucket/runs")
    assert "secret" not in str(refused.value)


def own_sweep(file, name):
    file.write_text(FILE.replace('"manifold-d2"', f'"{name}:points"') + "space.override.lr = 1e-3\n")
    return file


def test_a_detour_in_a_files_name_changes_neither_the_job_nor_what_travels(file):
    (file.parent / "mine.py").write_text(TASK)
    plain, detour = shipment_of(own_sweep(file, "mine.py")), shipment_of(own_sweep(file, "./mine.py"))
    assert plain.hash == detour.hash
    assert set(plain.files) == set(detour.files) == {f"{FOLDER}/small.toml", f"{FOLDER}/files/mine.py"}


def test_the_job_takes_what_was_shipped_though_its_machine_has_the_file_as_it_is_now(file, tmp_path, capsys):
    own, arrived = file.parent / "mine.py", tmp_path / "arrived"
    own.write_text(TASK)
    shipment = shipment_of(own_sweep(file, str(own)))
    expected = ids(file)
    write_files(shipment.files, arrived)
    own.write_text(TASK.replace("0.05", "0.06"))
    user_files._provided.clear()
    assert ids(arrived / shipment.sweep) == expected
    assert capsys.readouterr().err.startswith(f"{own} was changed since {arrived / FOLDER} was given its copy")
    assert ids(file) != expected


def test_a_table_outside_the_sweeps_folder_does_not_travel(file):
    (file.parent.parent / "design.csv").write_text("lr\n0.001\n")
    file.write_text(FILE + 'space.override.lr = 1.0\ndesign.kind = "table"\ndesign.table = "../design.csv"\n')
    with pytest.raises(UserError, match=r"design\.table = '\.\./design\.csv': a relative path stays below"):
        shipment_of(file)

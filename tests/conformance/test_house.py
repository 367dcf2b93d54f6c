"""Rules of the house that no linter checks."""

import ast
import os
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("search_spaces", "study", "analysis", "cluster")
SOURCES = sorted([ROOT / "manypaths.py", *(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))])
SOURCE = pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
WITHOUT_RAY = sorted(
    module.name
    for package in ("search_spaces", "study", "analysis")
    for module in pkgutil.walk_packages([str(ROOT / package)], f"{package}.")
)

IMPORT_ALL = """
import builtins, importlib, socket, sys
sys.modules["ray"] = None
import numpy, torch

def refuse(*_, **__):
    raise AssertionError("importing opened a socket")

writes, opened = [], builtins.open
def guarded(file, mode="r", *rest, **named):
    if any(letter in mode for letter in "wax+"):
        writes.append(str(file))
    return opened(file, mode, *rest, **named)

def states():
    numbers = numpy.random.get_state()
    return numbers[1].tolist(), numbers[2], torch.get_rng_state().tolist(), torch.get_default_dtype()

import matplotlib.font_manager  # builds a cache of its own the first time
before = states()
socket.socket.connect = socket.socket.bind = refuse
builtins.open = guarded
for name in sys.argv[1:]:
    importlib.import_module(name)
assert states() == before, "importing drew random numbers or changed a default"
assert not writes, writes
print(len(sys.argv) - 1)
"""


def test_everything_but_cluster_is_imported_without_ray_and_does_nothing(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL, *WITHOUT_RAY],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, f"{len(WITHOUT_RAY)}\n"), done.stderr
    assert list(tmp_path.iterdir()) == []


@SOURCE
def test_a_file_has_at_most_400_lines(path):
    assert len(path.read_text().splitlines()) <= 400


GLOBAL_STATE = re.compile(
    r"np\.random\.(?!default_rng|Generator|SeedSequence)\w+"
    r"|numpy\.random\.(?!default_rng|Generator|SeedSequence)\w+"
    r"|torch\.(?:cuda\.)?manual_seed|torch\.rand\w*\((?!.*generator=)|torch\.seed\b|^import random\b|^from random\b"
    r"|torch\.set_default",
    re.MULTILINE,
)


@SOURCE
def test_no_global_generator_or_default_is_used(path):
    assert GLOBAL_STATE.findall(path.read_text()) == []


@pytest.mark.parametrize(
    "line",
    ["np.random.seed(0)", "x = np.random.normal()", "torch.manual_seed(1)", "torch.randn(3)", "import random"],
)
def test_the_search_for_global_generators_finds_one(line):
    assert GLOBAL_STATE.search(line)


@pytest.mark.parametrize("line", ["np.random.default_rng(0)", "torch.randn(3, generator=g)", "import randomly"])
def test_the_search_for_global_generators_lets_explicit_ones_pass(line):
    assert not GLOBAL_STATE.search(line)


@pytest.mark.parametrize("path", [path for path in SOURCES if path.name == "__init__.py"], ids=lambda p: p.parent.name)
def test_an_init_file_is_a_docstring_and_imports(path):
    first, *rest = ast.parse(path.read_text()).body
    assert isinstance(first, ast.Expr)
    assert isinstance(first.value, ast.Constant)
    assert all(isinstance(node, ast.Import | ast.ImportFrom) for node in rest)


@SOURCE
def test_input_is_not_checked_by_assert(path):
    # optimised Python removes them
    assert not [node.lineno for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Assert)]


def test_pyarrow_is_the_stores_and_its_file_systems():
    # others may hold arrays in memory
    door = re.compile(r"^\s*(?:import pyarrow|from pyarrow)|\.read_parquet\(|\.to_parquet\(", re.MULTILINE)
    names = [path.name for path in SOURCES if door.search(path.read_text())]
    assert names == ["filesystem.py", "parquet.py", "store.py"]


def test_parquet_is_read_and_written_in_one_place_and_file_systems_are_opened_in_another():
    doors = {r"pyarrow\.parquet|\.read_parquet\(": ["parquet.py"], r"from pyarrow import fs": ["filesystem.py"]}
    for door, names in doors.items():
        assert [path.name for path in SOURCES if re.search(door, path.read_text())] == names


def test_pydantic_reads_the_sweep_file_and_nothing_else():
    assert [path.name for path in SOURCES if re.search(r"^(?:import|from) pydantic", path.read_text(), re.M)] == [
        "spec.py"
    ]


def test_every_file_of_the_readme_tree_exists():
    tree = (ROOT / "README.md").read_text().partition("\n## The tree\n")[2].partition("```text\n")[2]
    folder, missing = ROOT, []
    for line in tree.partition("```")[0].splitlines():
        name = line.split()[0]
        folder = ROOT if not line.startswith(" ") else folder
        missing += [] if (folder / name).exists() else [line]
        folder = ROOT / name if not line.startswith(" ") and name.endswith("/") else folder
    assert missing == []
    assert tree

"""Every benchmark runs, on tiny sizes, and leaves what was recorded alone."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import __main__ as command
from benchmarks.engine import JAX_PYTHON

ROOT = Path(__file__).parents[2]
ELSEWHERE = {"chaos": "tests/end_to_end/test_chaos.py"}
"""What has a test of its own, for it takes minutes."""
NAMES = [name for name in (*command.TOGETHER, *command.ALONE) if name not in ELSEWHERE]

FOLDERS = ("benchmarks/results", "docs/speed", "docs/headline")


def recorded():
    files = [path for folder in FOLDERS for path in (ROOT / folder).iterdir()]
    return {path: path.read_bytes() for path in [*files, *(ROOT.glob("docs/*.md"))]}


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", NAMES)
def test_it_runs(name):
    before = recorded()
    environment = {key: value for key, value in os.environ.items() if key != JAX_PYTHON}
    line = [sys.executable, "-m", "benchmarks", name, "--quick"]
    done = subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith(f"# {name}\n")
    assert recorded() == before


def test_what_is_tested_elsewhere_is():
    for name, file in ELSEWHERE.items():
        assert f'"benchmarks", "{name}", "--quick"' in (ROOT / file).read_text()


def test_make_knows_every_benchmark():
    (listed,) = (
        line.partition(":=")[2].split()
        for line in (ROOT / "Makefile").read_text().splitlines()
        if line.startswith("BENCHMARKS :=")
    )
    assert set(listed) == {*command.TOGETHER, *command.ALONE} - {"chaos", "gpu"}  # which have targets of their own


def test_every_module_that_runs_is_listed():
    modules = {path.stem for path in (ROOT / "benchmarks").glob("*.py") if "\ndef run(" in path.read_text()}
    assert modules == {*command.TOGETHER, *command.ALONE}


def test_an_unknown_name_is_refused(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["benchmarks", "nope"])
    with pytest.raises(SystemExit):
        command.main()
    assert "no benchmark 'nope': choose from all, engine" in capsys.readouterr().err

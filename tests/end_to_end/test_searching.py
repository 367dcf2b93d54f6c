"""A search from its file to what is said of it, by the command line; killed on the way and taken up again."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from analysis import load
from study.store import RunDirectory

pytestmark = pytest.mark.timeout(180)
ROOT = Path(__file__).parents[2]
EXAMPLE = (ROOT / "examples/search.toml").read_text()
SMALLER = {
    "steps = 800": "steps = 10",
    "evaluations = 25": "evaluations = 2",
    "trials = 64": "trials = 6",
    "pack = 16": "pack = 3",
}


def manypaths(*arguments, folder):
    command = [sys.executable, str(ROOT / "manypaths.py"), *map(str, arguments)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the example, smaller, as a file and a run."""
    made = tmp_path_factory.mktemp("search")
    text = EXAMPLE
    for old, new in SMALLER.items():
        assert old in text
        text = text.replace(old, new)
    (made / "search.toml").write_text(text)
    done = manypaths("run", "search.toml", "--out", "run", "--in-process", "--json", folder=made)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["planned"], told["done"], told["lost"]) == (24, 24, 0)
    return made


def plan(directory):
    rows = RunDirectory(directory).read_table("plan").to_pylist()
    return sorted((row["method"], row["n_critic"], row["point"], row["trial_id"], row["pack"]) for row in rows)


def test_the_plan_says_that_it_is_one_of_slots(folder):
    done = manypaths("plan", "search.toml", folder=folder)
    assert "a search by tpe: 4 studies (a task, a method and a structure each) of 6 configurations" in done.stdout
    assert "slots, not points" in done.stdout
    assert "95 % intervals" not in done.stdout
    found = json.loads(manypaths("plan", "search.toml", "--json", folder=folder).stdout)
    assert found["search"] == {"sampler": "tpe", "studies": 4, "trials": 6, "seeds": 1, "batch": "auto"}
    assert (found["trials"], found["packs"], found["filled"], "sharpness" in found) == (24, 8, 1.0, False)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["plan", "search.toml", "--detect", "0.2"], "--detect with [search]: a search draws no points from a prior"),
        (["plan", "search.toml", "--confirm-region", "run", "--method", "ns+gp1"], "chosen by tpe"),
        (["compare", "run", "ns+gp1", "wgan+gp1"], "(tpe asked for each method's own)"),
    ],
)
def test_what_needs_draws_from_a_prior_is_refused_and_says_why(folder, arguments, words):
    done = manypaths(*arguments, folder=folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_the_results_are_marked(folder):
    runs = load(str(folder / "run"))
    assert [results.adaptive for results in runs.results.values()] == ["tpe"]
    status = json.loads(manypaths("status", "run", "--json", folder=folder).stdout)
    assert status["done"] == 24


def test_a_trial_of_a_search_can_be_trained_again(folder):
    name = RunDirectory(folder / "run").read_table("trials")["trial_id"][-1].as_py()
    done = manypaths("run", "search.toml", "--out", "run", "--trial", name, folder=folder)
    assert (done.returncode, "equal, to the bit" in done.stderr) == (0, True)


def test_killed_it_goes_on_to_the_same_trials(folder):
    command = [sys.executable, str(ROOT / "manypaths.py"), "run", "search.toml", "--out", "killed", "--in-process"]
    process = subprocess.Popen(command, cwd=folder, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    rows = folder / "killed" / "trials"
    while process.poll() is None and (not rows.exists() or len(list(rows.glob("*.parquet"))) < 4):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(RunDirectory(folder / "killed").parts("trials")) < 8  # it was on its way
    done = manypaths("run", "search.toml", "--out", "killed", "--in-process", folder=folder)
    assert done.returncode == 0, done.stderr
    assert plan(folder / "killed") == plan(folder / "run")

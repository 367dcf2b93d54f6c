"""`manypaths import`, and the page about it: what it shows runs as it stands."""

import re
import shlex
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.storages.journal import JournalFileBackend, JournalStorage

from analysis.runs import load_results
from study.store import RunDirectory

PAGE = (Path(__file__).parents[3] / "docs/importing.md").read_text()
BLOCKS = [
    line
    for block in re.findall(r"^```sh\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
    for line in block.replace("\\\n", " ").splitlines()
]


@pytest.fixture
def there(tmp_path, monkeypatch, results_csv, experiment):
    """A folder with the files that the page speaks of."""
    monkeypatch.chdir(tmp_path)
    (mapping,) = re.findall(r"^```TOML\n# (\S+)\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
    Path(mapping[0]).write_text(mapping[1])
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storages = {"sqlite:///study.db": ["one"], "journal.log": ["adam", "sgd"]}
    for address, names in storages.items():
        storage = address if "://" in address else JournalStorage(JournalFileBackend(address))
        for name in names:
            study = optuna.create_study(storage=storage, study_name=name, sampler=optuna.samplers.RandomSampler(seed=0))
            study.optimize(lambda trial: trial.suggest_float("x", 0, 1) + 0.1, n_trials=10)
    rng = np.random.default_rng(0)
    experiment({f"f_{i}": ({"lr": float(rng.random())}, [2.0, float(rng.random())], None) for i in range(10)})
    return tmp_path


def test_the_commands_of_the_page_run(there, command):
    assert len(BLOCKS) == 6
    for line in BLOCKS:
        code, out, _ = command(*shlex.split(line)[1:])
        assert code == 0, line
        if shlex.split(line)[1] == "import":
            assert load_results(RunDirectory(out.strip())).trials["status"].eq("completed").any()
    assert sorted(path.name for path in (there / "runs").iterdir()) == [
        "accuracy",
        "experiment",
        "optimizers",
        "study",
        "two",
    ]
    accuracy = load_results(RunDirectory("runs/accuracy"))
    assert accuracy.facts("cifar10").threshold == pytest.approx(0.2)
    assert accuracy.facts("mnist").threshold == pytest.approx(0.1)
    assert len(load_results(RunDirectory("runs/two")).methods) == 2


def test_everything_reads_an_import(there, command):
    command(*shlex.split(BLOCKS[0])[1:])
    assert command("status", "runs/optimizers")[0] == 0
    code, out, error = command("query", "runs/optimizers", "select count(*) as n from trials")
    assert (code, error) == (0, "")
    assert "256" in out
    assert command("compare", "runs/optimizers", "adam", "sgd")[0] == 0


def test_without_out_the_run_has_the_sources_name(there, command):
    code, out, error = command("import", "optuna", "sqlite:///study.db", "--threshold", 0.5, "--anchors", 0.1, 3)
    assert code == 0
    assert out.strip() == str(there / "runs/one")
    assert "nothing is known of the sampler" in error
    assert error.endswith("10 trials, 10 ended\n")


def test_one_trial_is_one_trial(there, command):
    Path("one.csv").write_text("lr,loss\n0.1,0.2\n")
    facts = ("--metric", "loss", "--param", "lr", "--threshold", 0.5, "--anchors", 0.1, 3, "--sampler", "random")
    assert command("import", "table", "one.csv", *facts)[2] == "1 trial, 1 ended\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["table", "results.csv"], "no metric: give --metric COLUMN"),
        (["table", "results.csv", "--map", "lr"], "--map 'lr': must be two names with = between them"),
        (["table", "results.csv", "--mapping", "none.toml"], "cannot read the mapping file none.toml"),
        (["table", "results.csv", "--threshold", "nan"], "--threshold = nan: must be a finite number"),
        (["optuna", "study.db"], "study.db is an SQLite database, not a journal: did you mean sqlite:///study.db?"),
        (["ray", "experiment", "--metric", "loss", "--errors", "x"], "--errors = 'x': must be one of lost, diverged"),
    ],
)
def test_mistakes_are_one_sentence(there, command, arguments, words):
    code, out, error = command("import", *arguments)
    assert (code, out) == (2, "")
    assert error.startswith(f"error: {words}")
    assert error.count("\n") == 1

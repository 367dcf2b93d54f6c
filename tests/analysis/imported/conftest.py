"""Results of others, made by hand in their own formats."""

import json

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import manypaths
from analysis.imported.declared import declare
from analysis.imported.stored import write
from analysis.runs import load_results
from study.errors import UserError
from study.store import RunDirectory

FACTS = {"threshold": 0.5, "anchors": [0.1, 3.0]}


@pytest.fixture(scope="session")
def said():
    """A function making a declaration with facts, of options by their names."""
    return lambda **options: declare({}, FACTS | options)


@pytest.fixture
def stored(tmp_path):
    """A function writing a source as a run and reading it back: the results and the remarks."""

    def make(source, declaration, name="run"):
        directory = RunDirectory(tmp_path / name)
        tables = write(directory, source, declaration)
        return load_results(directory), list(tables.remarks)

    return make


@pytest.fixture
def command():
    """A function running `manypaths ...`: exit code, standard output, standard error."""

    def run(*arguments):
        found = CliRunner().invoke(manypaths.app, [str(argument) for argument in arguments])
        if isinstance(found.exception, UserError):
            return 2, found.stdout, f"error: {found.exception}\n"
        if found.exception and not isinstance(found.exception, SystemExit):
            raise found.exception
        return found.exit_code, found.stdout, found.stderr

    return run


@pytest.fixture
def results_csv(tmp_path):
    """A table of 64 configurations, each with two optimisers on two data sets; every eighth diverged, one crashed."""
    rng = np.random.default_rng(0)
    rows = []
    for index in range(64):
        rate, momentum = float(10 ** rng.uniform(-5, -1)), float(rng.random())
        for optimizer in ("adam", "sgd"):
            for data in ("cifar10", "mnist"):
                loss = 0.2 + 0.4 * abs(np.log10(rate) + 3) + 0.3 * momentum * rng.random() + 0.2 * (optimizer == "sgd")
                rows.append(
                    {
                        "learning_rate": rate,
                        "momentum": momentum,
                        "optimizer": optimizer,
                        "data": data,
                        "val_loss": np.nan if index % 8 == 0 else loss,
                        "accuracy": np.nan if index % 8 == 0 else max(0.0, 1.1 - 0.5 * loss) * 0.9,
                        "state": "crashed" if len(rows) == 5 else "finished",
                    }
                )
    path = tmp_path / "results.csv"
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


@pytest.fixture
def experiment(tmp_path):
    """A function writing a Ray Tune experiment: name to (params, losses, error text or None)."""

    def make(trials, *, name="experiment", states=None, marks=("basic-variant-state-2026-11-22_13-32-39.json",)):
        root = tmp_path / name
        root.mkdir(exist_ok=True)
        for trial, (params, losses, error) in trials.items():
            folder = root / trial
            folder.mkdir()
            (folder / "params.json").write_text(json.dumps(params))
            rows = [
                {
                    "loss": loss,
                    "training_iteration": i + 1,
                    "trial_id": trial,
                    "done": False,
                    "time_total_s": 0.1,
                    "config": params,
                }
                for i, loss in enumerate(losses)
            ]
            (folder / "result.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
            if error is not None:
                (folder / "error.txt").write_text(error)
                (folder / "error.pkl").write_bytes(b"\x80\x05not a pickle that anybody may open")
        for mark in marks:
            (root / mark).write_bytes(b"\x80\x05likewise")
        if states is not None:
            entries = [
                [
                    json.dumps(
                        {"relative_logdir": trial, "status": state, "storage": {"_type": "CLOUDPICKLE_FALLBACK"}}
                    ),
                    "{}",
                ]
                for trial, state in states.items()
            ]
            (root / "experiment_state-2026-11-22_13-32-39.json").write_text(json.dumps({"trial_data": entries}))
        return root

    return make

import dataclasses
import json
import math
import sys
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState
from typer.testing import CliRunner

import manypaths
from analysis.axes import ratio
from analysis.importance import divergences, sheet
from analysis.optuna_drafts import drafts
from analysis.optuna_export import export_studies
from analysis.runs import load_results
from search_spaces.domains import Choice, Fixed, LogUniform, Uniform
from study.errors import UserError
from study.store import RunDirectory
from tests.analysis.stored import ENDINGS, end, finished, plan

SPACE = {
    "lr": {"log_uniform": [1e-3, 1e-1]},
    "beta1": {"uniform": [0.0, 0.95]},
    "beta2": {"choice": [0.9, 0.999]},
    "lr_d_ratio": {"choice": [0.3, 1.0, 3.0]},
    "n_critic": {"cross": [1, 5]},
    "penalty_weight": {"log_uniform": [0.1, 100.0]},
}
DRAWN = {
    "lr": FloatDistribution(1e-3, 1e-1, log=True),
    "beta1": FloatDistribution(0.0, 0.95),
    "beta2": CategoricalDistribution([0.9, 0.999]),
    "lr_d_ratio": CategoricalDistribution([0.3, 1.0, 3.0]),
    "n_critic": CategoricalDistribution([1, 5]),
}
SWEEP = {"space": {"override": SPACE}, "design": {"points": 16, "seeds": 2}, "execution": {"pack": 64, "device": "cpu"}}
"""16 points crossed with two n_critic, two seeds: 64 trials of each method."""

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")


@pytest.fixture(autouse=True)
def _quiet():
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    yield
    optuna.logging.set_verbosity(before)


def endings(rows, seed=0):
    """Outcomes that get worse with the learning rate; one in five failed."""
    rng = np.random.default_rng(seed)
    values = [float(0.1 * (row["lr_g"] / 0.01) ** 0.8 * np.exp(rng.normal(0, 0.2))) for row in rows]
    return ["diverged" if failed else value for value, failed in zip(values, rng.random(len(rows)) < 0.2, strict=True)]


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A finished run of two methods, one with a penalty."""
    folder = tmp_path_factory.mktemp("swept")
    _, rows = plan(folder / "drawn", **SWEEP)
    given = {name: endings(rows[name], place) for place, name in enumerate(rows)}
    return finished(folder / "run", given, **SWEEP)


@pytest.fixture
def mixed(tmp_path):
    """A run with an ending of every kind."""
    return finished(tmp_path / "run", ENDINGS)


@pytest.fixture
def address(tmp_path):
    return f"sqlite:///{tmp_path / 'x.db'}"


@pytest.fixture
def journal(tmp_path):
    return str(tmp_path / "x.log")


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


def opened(address):
    """Name to study, of a storage."""
    storage = address
    if "://" not in address:
        storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(address))
    names = optuna.get_all_study_names(storage)
    return {name: optuna.load_study(study_name=name, storage=storage) for name in names}


def drafted(results, method):
    (found,) = [draft for draft in drafts(results) if draft.name.endswith(f"/{method}")]
    return found


# What studies hold


def test_every_ending_has_its_state(mixed, journal):
    export_studies(load_results(mixed), journal)
    found = opened(journal)
    assert list(found) == ["tiny/manifold-d2/ns", "tiny/manifold-d2/ns+gp1"]
    first, second = (study.get_trials() for study in found.values())
    assert [(trial.state.name, trial.value) for trial in first] == [
        ("COMPLETE", 0.1),
        ("COMPLETE", 3.0),
        ("FAIL", None),
    ]
    # the stopped one's history ends at 1
    assert [(trial.state.name, trial.value) for trial in second] == [
        ("COMPLETE", 0.1),
        ("COMPLETE", 0.2),
        ("FAIL", None),
        ("PRUNED", 1.0),
    ]
    assert [trial.user_attrs["status"] for trial in second] == ["completed", "completed", "oom", "stopped"]
    assert [trial.user_attrs.get("success") for trial in second] == [True, True, False, None]
    assert all(study.direction == optuna.study.StudyDirection.MINIMIZE for study in found.values())


def test_what_a_search_has_still_to_ask_for_is_planned_and_missing(mixed):
    results = load_results(mixed)
    results = dataclasses.replace(results, unasked={("manifold-d2", "ns"): 5})
    counts = {draft.name: (draft.attributes["planned"], draft.attributes["missing"]) for draft in drafts(results)}
    assert counts == {"tiny/manifold-d2/ns": (4 + 5, 1 + 5), "tiny/manifold-d2/ns+gp1": (4, 0)}
    assert drafted(results, "ns").missing == 6


def test_trials_say_which_they_are(mixed):
    found, results = drafted(load_results(mixed), "ns"), load_results(mixed)
    rows = results.trials[results.trials["method"] == "ns"]
    for trial, row in zip(found.trials, rows.to_dict("records"), strict=True):
        assert {name: trial.user_attrs[name] for name in ("trial_id", "config", "seed")} == {
            name: row[name] for name in ("trial_id", "config", "seed")
        }
        assert "device" not in trial.user_attrs  # it is not known here
        assert json.loads(json.dumps(trial.user_attrs)) == trial.user_attrs
    assert found.missing == found.attributes["missing"] == 1
    assert found.attributes["planned"] == 4


def test_a_study_says_what_its_numbers_rest_on(mixed):
    results = load_results(mixed)
    about = drafted(results, "ns").attributes
    facts = results.facts("manifold-d2")
    assert (about["metric"], about["threshold"]) == (facts.metric, facts.threshold)
    assert about["setting"] == results.setting("manifold-d2")
    assert about["prior"] == results.prior
    assert about["domains"]["lr"] == {"log_uniform": [1e-3, 1e-1]}
    assert about["distributions"]["lr"] == "the prior"
    assert "adaptive" not in about


def test_of_a_search_studies_say_that_it_looked_at_results(build):
    results = build()
    searched = dataclasses.replace(results, plan=results.plan.assign(sampler="tpe"))
    assert drafts(searched)[0].attributes["adaptive"].startswith("configurations were chosen by tpe, which looks at")
    assert drafts(searched)[0].trials[0].user_attrs["sampler"] == "tpe"


def test_the_metric_is_there_by_generator_step_where_it_was_measured(ended, with_history):
    results = ended({"ns": [0.5, np.inf]}, replicates=1, points=2)
    first, second = results.plan["trial_id"]
    found = with_history(results, {first: [3.0, 1.0, 0.5], second: [4.0, np.nan]}, steps=10)
    done, failed = drafted(found, "ns").trials
    assert done.intermediate_values == {10: 3.0, 20: 1.0, 30: 0.5}
    assert failed.intermediate_values == {10: 4.0}


def test_a_trials_duration_is_what_it_took(ended):
    results = ended({"ns": [0.5, 0.6]}, replicates=1, points=2)
    timed = dataclasses.replace(results, trials=results.trials.assign(train_seconds=[12.5, np.nan]))
    first, second = drafted(timed, "ns").trials
    assert first.duration.total_seconds() == 12.5
    assert second.duration.total_seconds() == 0
    assert "train_seconds" in drafted(timed, "ns").attributes["times"]


# What hyperparameters are drawn from


def test_distributions_are_those_of_the_sweep_file(swept):
    results = load_results(swept)
    weight = {"penalty_weight": FloatDistribution(0.1, 100.0, log=True)}
    for method, expected in (("ns", DRAWN), ("ns+gp1", DRAWN | weight)):
        found = drafted(results, method)
        assert len(found.trials) == 64
        assert all(trial.distributions == expected for trial in found.trials)
        assert set(found.attributes["distributions"].values()) == {"the prior"}


def test_hyperparameters_are_the_plans_to_the_bit(swept):
    results = load_results(swept)
    rows = results.plan[results.plan["method"] == "ns+gp1"]
    trials = drafted(results, "ns+gp1").trials
    for word, column in (("lr", "lr_g"), ("beta1", "beta1"), ("beta2", "beta2"), ("penalty_weight", "penalty_weight")):
        assert [trial.params[word] for trial in trials] == rows[column].tolist()
    assert [trial.params["n_critic"] for trial in trials] == rows["n_critic"].tolist()
    assert {trial.params["lr_d_ratio"] for trial in trials} == {0.3, 1.0, 3.0}
    assert [trial.params["lr_d_ratio"] * trial.params["lr"] for trial in trials] == pytest.approx(
        rows["lr_d"].tolist(), rel=1e-11
    )
    assert [trial.user_attrs["lr_d"] for trial in trials] == rows["lr_d"].tolist()


def test_a_quotient_from_a_range_lies_in_it(tmp_path):
    space = {"lr": {"log_uniform": [1e-3, 1e-1]}, "lr_d_ratio": {"log_uniform": [0.1, 10.0]}}
    results = load_results(finished(tmp_path / "run", {"ns": [0.1] * 4}, space={"override": space}))
    trials = drafted(results, "ns").trials
    assert all(trial.distributions["lr_d_ratio"] == FloatDistribution(0.1, 10.0, log=True) for trial in trials)
    rows = results.plan[results.plan["method"] == "ns"]
    assert [trial.params["lr_d_ratio"] for trial in trials] == ratio(rows).tolist()


def test_what_is_fixed_is_an_attribute(tmp_path):
    space = {"beta1": {"uniform": [0.0, 0.9]}, "beta2": 0.97, "n_critic": 2, "lr": 0.01}
    results = load_results(finished(tmp_path / "run", {"ns": [0.1] * 4}, space={"override": space}))
    for trial in drafted(results, "ns").trials:
        assert set(trial.params) == {"beta1"}
        found = {name: trial.user_attrs[name] for name in ("lr", "beta2", "n_critic", "lr_d_ratio", "optimiser")}
        assert found == {"lr": 0.01, "beta2": 0.97, "n_critic": 2, "lr_d_ratio": 1.0, "optimiser": "adam"}


def test_one_trial_is_enough_for_a_distribution(tmp_path):
    results = load_results(finished(tmp_path / "run", {"ns": [0.1, None, None, None]}))
    (trial,) = drafted(results, "ns").trials
    assert trial.distributions["lr"] == FloatDistribution(1e-3, 1e-1, log=True)


def test_a_weight_follows_its_penalty(tmp_path):
    # lucic_wide: .1 to 100 one-centred, .01 to 100 for halved ones
    methods = ["ns+gp1", "ns+r1"]
    sweep = {"methods": methods, "confirmatory": [], "space": {"preset": "lucic_wide"}, "execution": {"pack": 8}}
    results = load_results(finished(tmp_path / "run", {name: [0.1] * 8 for name in methods}, **sweep))
    found = [drafted(results, name).trials[0].distributions["penalty_weight"] for name in methods]
    assert found == [FloatDistribution(0.1, 100.0, log=True), FloatDistribution(0.01, 100.0, log=True)]


@pytest.fixture
def columns(ended):
    """A function giving the draft of trials with such hyperparameters, drawn from such domains."""

    def make(cells, domains=None):
        count = len(next(iter(cells.values())))
        results = ended({"ns": [0.5] * count}, replicates=1, points=count)
        changed = dataclasses.replace(results, plan=results.plan.assign(**cells), domains=domains or {})
        return drafted(changed, "ns")

    return make


def test_without_a_prior_it_is_the_range_that_was_seen_and_says_so(columns):
    found = columns({"dropout": [0.1, 0.2, 0.5], "decay": [1e-6, 1e-4, 1e-2], "act": ["relu", "elu", "relu"]})
    assert found.trials[0].distributions == {
        "dropout": FloatDistribution(0.1, 0.5),
        "decay": FloatDistribution(1e-6, 1e-2, log=True),
        "act": CategoricalDistribution(["elu", "relu"]),
    }
    assert found.attributes["distributions"]["dropout"] == "the values seen: no prior lists them"


def test_a_value_outside_the_prior_widens_it_and_says_so(columns):
    found = columns(
        {"lr_g": [1e-4, 1e-2], "beta1": [0.1, 0.2], "depth_g": [7, 3], "beta2": [0.5, 0.6]},
        {"lr": LogUniform(1e-3, 1e-1), "beta1": Uniform(0, 1), "depth_g": Choice((1, 3)), "beta2": Fixed(0.9)},
    )
    assert found.trials[0].distributions == {
        "lr": FloatDistribution(1e-4, 1e-1, log=True),
        "beta1": FloatDistribution(0.0, 1.0),
        "depth_g": FloatDistribution(3, 7),
        "beta2": FloatDistribution(0.5, 0.6),
    }
    assert found.attributes["distributions"] == {
        "lr": "the prior, widened to the values seen",
        "beta1": "the prior",
        "depth_g": "the values seen: no prior lists them",
        "beta2": "the values seen: no prior lists them",
    }


def test_rounding_at_an_end_of_the_prior_is_no_widening(columns):
    low = 1 / 3  # kept as .333333333333, which is less
    found = columns({"lr_g": [float(f"{low:.12g}"), 0.5]}, {"lr": LogUniform(low, 1.0)})
    assert found.trials[0].params["lr"] == float(f"{low:.12g}")
    assert found.attributes["distributions"] == {"lr": "the prior"}


def test_a_hyperparameter_that_a_trial_lacks_is_not_among_its_parameters(columns):
    found = columns({"momentum": [0.1, np.nan, 0.3], "fixed": [2.0, np.nan, 2.0]})
    assert [trial.params for trial in found.trials] == [{"momentum": 0.1}, {}, {"momentum": 0.3}]
    assert ["fixed" in trial.user_attrs for trial in found.trials] == [True, False, True]


# There and back


@pytest.mark.timeout(240)  # an Optuna database takes its time, more so on a busy machine
@pytest.mark.parametrize("kind", ["address", "journal"])
def test_an_import_of_the_export_has_the_same_outcomes(swept, command, request, tmp_path, kind):
    where = request.getfixturevalue(kind)
    assert command("export", "optuna", swept, where)[0] == 0
    before = load_results(swept)
    for method in before.methods:
        out = tmp_path / method
        facts = ("--threshold", 0.2, "--anchors", 0.02, 2.0, "--seed", "user:seed", "--sampler", "sobol")
        name = f"tiny/manifold-d2/{method}"
        code, _, error = command("import", "optuna", where, "--study", name, "--out", out, *facts)
        assert code == 0, error
        after = load_results(RunDirectory(out))
        (task,) = after.tasks
        assert after.facts(task).metric == before.facts("manifold-d2").metric
        ours, theirs = before.outcomes("manifold-d2"), after.outcomes(task)
        ours = ours[ours["method"] == method].reset_index(drop=True)
        assert theirs["status"].tolist() == ours["status"].tolist()
        assert theirs["primary"].equals(ours["primary"])
        assert {"completed", "diverged"} == set(ours["status"])
        for column in ("lr_g", "beta1", "beta2", "n_critic", "seed", "penalty_weight"):
            if ours[column].notna().any():
                assert pd.Series(theirs[column]).tolist() == ours[column].tolist(), column
        assert after.domains["lr"] == LogUniform(1e-3, 1e-1)
        assert set(after.domains["n_critic"].values) == {1, 5}


@pytest.mark.filterwarnings("ignore:Argument ``normalize``")
def test_optunas_importances_are_ours(tmp_path, journal):
    sweep = SWEEP | {"design": {"points": 64}, "methods": ["ns"], "confirmatory": []}
    _, rows = plan(tmp_path / "drawn", **sweep)
    # between the anchors, without failures, which Optuna would leave out and we count as the worst
    values = [0.05 * (row["lr_g"] / 0.01) ** 0.4 * row["n_critic"] ** 0.3 for row in rows["ns"]]
    assert 0.02 < min(values) < max(values) < 2.0
    results = load_results(finished(tmp_path / "run", {"ns": values}, **sweep))
    # Optuna's cells span a parameter's distribution, ours the values: without a prior of the ranges these are the same
    listed = {name: domain for name, domain in results.domains.items() if not isinstance(domain, Uniform | LogUniform)}
    results = dataclasses.replace(results, domains=listed, priors={})
    export_studies(results, journal)
    (study,) = opened(journal).values()
    theirs = optuna.importance.get_param_importances(study, normalize=False)
    rows = sheet(results, "manifold-d2", "ns")
    ours = divergences(rows, np.ones((1, len(rows.losses))))[0]
    # the same sums in another order
    assert dict(zip([axis.word for axis in rows.axes], ours, strict=True)) == pytest.approx(theirs, rel=1e-10)
    assert max(theirs, key=theirs.get) == "lr"


# Writing


def test_a_second_export_of_the_same_changes_nothing(mixed, address, command):
    assert command("export", "optuna", mixed, address)[0] == 0
    before = {name: study.get_trials() for name, study in opened(address).items()}
    code, out, error = command("export", "optuna", mixed, address)
    assert (code, out.split()) == (0, list(before))
    assert error.endswith("2 of 2 studies were there already, with the same trials\n")
    assert {name: study.get_trials() for name, study in opened(address).items()} == before


def test_other_trials_are_refused_unless_told_to_replace_them(mixed, address, command):
    command("export", "optuna", mixed, address)
    study = opened(address)["tiny/manifold-d2/ns+gp1"]
    study.add_trial(optuna.trial.create_trial(value=1.0))
    code, out, error = command("export", "optuna", mixed, address)
    assert (code, out) == (2, "")
    assert error == (
        f"error: {address} has a study 'tiny/manifold-d2/ns+gp1' with other trials: give --overwrite to replace it, or "
        "another storage\n"
    )
    assert len(opened(address)["tiny/manifold-d2/ns+gp1"].trials) == 5
    code, out, _ = command("export", "optuna", mixed, address, "--overwrite", "--json")
    assert [entry["written"] for entry in json.loads(out)] == [False, True]
    assert len(opened(address)["tiny/manifold-d2/ns+gp1"].trials) == 4


def test_a_run_that_went_on_is_another_study(tmp_path, journal, command):
    directory, rows = plan(tmp_path / "run")
    end(directory, rows["ns"], [0.1, 0.2, None, None])
    code, out, error = command("export", "optuna", directory, journal)
    assert (code, out) == (0, "tiny/manifold-d2/ns\n")
    assert error.splitlines() == [
        "no trial has ended of tiny/manifold-d2/ns+gp1: no study",
        "2 trials without an outcome left out of the studies",
    ]
    end(directory, rows["ns+gp1"], [0.1, 0.2, 0.3, 0.4])
    end(directory, rows["ns"], [0.1, 0.2, 0.3, "diverged"])
    assert command("export", "optuna", directory, journal)[0] == 2
    assert list(opened(journal)) == ["tiny/manifold-d2/ns"]  # refused before anything was written
    assert command("export", "optuna", directory, journal, "--overwrite")[0] == 0
    states = [trial.state for trial in opened(journal)["tiny/manifold-d2/ns"].trials]
    assert states == [TrialState.COMPLETE] * 3 + [TrialState.FAIL]


def test_json_counts_the_trials(mixed, journal, command):
    code, out, _ = command("export", "optuna", mixed, journal, "--json")
    assert code == 0
    assert json.loads(out) == [
        {
            "study": "tiny/manifold-d2/ns",
            "trials": {"COMPLETE": 2, "FAIL": 1},
            "missing": 1,
            "written": True,
        },
        {
            "study": "tiny/manifold-d2/ns+gp1",
            "trials": {"COMPLETE": 2, "FAIL": 1, "PRUNED": 1},
            "missing": 0,
            "written": True,
        },
    ]


def test_other_studies_of_the_storage_stay(mixed, address):
    other = optuna.create_study(storage=address, study_name="mine")
    other.add_trial(optuna.trial.create_trial(value=1.0))
    export_studies(load_results(mixed), address, overwrite=True)
    assert len(opened(address)) == 3
    assert [trial.value for trial in opened(address)["mine"].trials] == [1.0]


def test_a_write_that_fails_leaves_no_half_a_study(mixed, address, monkeypatch):
    add, told = optuna.study.Study.add_trial, []

    def full(study, trial):
        told.append(study.study_name)
        if len(told) > 4:
            raise OSError(28, "No space left on device")
        add(study, trial)

    monkeypatch.setattr(optuna.study.Study, "add_trial", full)
    with pytest.raises(UserError, match=r"cannot write studies into sqlite:.*: .*No space left on device$"):
        export_studies(load_results(mixed), address)
    assert told[-1] == "tiny/manifold-d2/ns+gp1"
    assert list(opened(address)) == ["tiny/manifold-d2/ns"]


def test_nothing_to_export_makes_no_file(tmp_path, address, command):
    directory, _ = plan(tmp_path / "run")
    assert command("export", "optuna", directory, address) == (
        2,
        "",
        "error: no trial of tiny has ended: there is nothing to export yet\n",
    )
    assert not (tmp_path / "x.db").exists()


def test_a_search_is_said_to_be_one(mixed, journal, command, monkeypatch):
    results = load_results(mixed)
    searched = dataclasses.replace(results, plan=results.plan.assign(sampler="tpe"))
    monkeypatch.setattr("analysis.runs.load_results", lambda directory: searched)
    code, _, error = command("export", "optuna", mixed, journal)
    assert code == 0
    assert error.splitlines()[-1] == (
        "configurations were chosen by tpe, which looks at results: they are no draws from the prior"
    )


@pytest.mark.parametrize(
    ("storage", "words"),
    [
        (
            "sqlite:///{}/none/x.db",
            "cannot write studies into sqlite:///{}/none/x.db: unable to open database file",
        ),
        ("{}/none/x.log", "cannot write studies into {}/none/x.log: [Errno 2] No such file or directory"),
        ("{}", "cannot write studies into {}: [Errno 21] Is a directory"),
        ("sqlite://", "sqlite:// names no file, so nothing would remain: give e.g. sqlite:///study.db"),
        ("gopher://host/x", "cannot write studies into gopher://host/x: Can't load plugin: sqlalchemy.dialects:gopher"),
        ("://", "cannot write studies into ://: Could not parse SQLAlchemy URL"),
        ("{}/new.db", "{}/new.db is an SQLite database, not a journal: did you mean sqlite:///{}/new.db?"),
        ("{}/base", "{}/base is an SQLite database, not a journal: did you mean sqlite:///{}/base?"),
        ("{}/text", "{}/text is a file of something else: give sqlite:///FILE.db, or a new journal's name"),
        (
            "sqlite:///{}/text",
            "cannot write studies into sqlite:///{}/text: file is not a database",
        ),
        ("foo://me:secret@host/x", "cannot write studies into foo://me:***@host/x: "),
    ],
)
def test_mistakes_are_one_sentence_and_spoil_nothing(mixed, tmp_path, command, storage, words):
    (tmp_path / "base").write_bytes(b"SQLite format 3\0" + bytes(84))
    (tmp_path / "text").write_text("a diary\n")
    code, out, error = command("export", "optuna", mixed, storage.format(tmp_path))
    assert (code, out) == (2, "")
    assert error.startswith("error: " + words.format(tmp_path, tmp_path))
    assert error.count("\n") == 1
    assert "secret" not in error
    assert (tmp_path / "text").read_text() == "a diary\n"
    assert not Path(tmp_path / "new.db").exists()


@pytest.mark.parametrize(
    ("storage", "module", "package"),
    [
        ("postgresql+psycopg://me:secret@host/x", "psycopg", "psycopg"),
        ("postgresql+psycopg2://me:secret@host/x", "psycopg2", "psycopg2"),
        ("mysql+pymysql://me:secret@host/x", "pymysql", "pymysql"),
        ("mysql://me:secret@host/x", "MySQLdb", "mysqlclient"),
    ],
)
def test_what_a_database_needs_is_named_as_pip_calls_it(mixed, command, monkeypatch, storage, module, package):
    monkeypatch.setitem(sys.modules, module, None)  # as if it were not installed
    code, _, error = command("export", "optuna", mixed, storage)
    hidden = storage.replace("secret", "***")
    reason = f"it needs a package that is not installed: pip install {package}"
    assert (code, error) == (2, f"error: cannot write studies into {hidden}: {reason}\n")


def test_names_that_would_be_the_same_are_refused(build):
    results = build(tasks=("one", "two"), methods=("first", "second"), confirmatory=(), replicates=1, points=2)
    names = {"task": {"one": "a", "two": "a/b"}, "method": {"first": "b/c", "second": "c"}}
    results = dataclasses.replace(results, plan=results.plan.replace(names))
    with pytest.raises(UserError, match="two studies would be called 'synthetic/a/b/c'"):
        drafts(results)


def test_ten_thousand_trials_are_drafted_without_copying_the_table_each_time(build):
    results = build(methods=("ns",), confirmatory=(), replicates=100, points=100)
    (found,) = drafts(results)
    assert len(found.trials) == 10_000
    assert not any(math.isnan(trial.value) for trial in found.trials if trial.state == TrialState.COMPLETE)

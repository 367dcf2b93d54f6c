import math
import warnings

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages.journal import JournalFileBackend, JournalStorage
from optuna.trial import TrialState, create_trial

from analysis.axes import axes_of
from analysis.imported.optuna_study import HIDDEN, PASSWORD, read_studies
from search_spaces.domains import Choice, LogUniform, Uniform
from study.errors import UserError

DISTRIBUTIONS = {
    "lr": FloatDistribution(1e-5, 1e-1, log=True),
    "layers": IntDistribution(1, 8),
    "act": CategoricalDistribution(["relu", None, True]),
}


@pytest.fixture(autouse=True)
def _quiet():
    optuna.logging.set_verbosity(optuna.logging.ERROR)


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/study.db"


def trial(lr=1e-3, layers=2, act="relu", **options):
    return create_trial(
        params={"lr": lr, "layers": layers, "act": act}, distributions=DISTRIBUTIONS, **{"value": 0.3} | options
    )


def study_in(storage, trials, name="first", **options):
    study = optuna.create_study(storage=storage, study_name=name, **options)
    for one in trials:
        study.add_trial(one)
    return study


def test_every_ending(url, said, stored):
    study = study_in(
        url,
        [
            trial(lr=1e-3, value=0.3),
            trial(lr=1e-4, value=math.inf),
            trial(lr=1e-2, value=None, state=TrialState.FAIL),
            trial(lr=2e-2, value=0.9, state=TrialState.PRUNED, intermediate_values={0: 3.0, 4: 0.9}),
            trial(lr=3e-2, value=None, state=TrialState.RUNNING),
        ],
    )
    study.enqueue_trial({"lr": 1e-3})
    declaration = said(sampler="random")
    results, remarks = stored(read_studies(url, [], declaration), declaration)
    assert results.plan["lr_g"].tolist() == [1e-3, 1e-4, 1e-2, 2e-2, 3e-2]
    assert results.trials["status"].tolist() == ["completed", "diverged", "diverged", "stopped"]
    reasons = results.trials["reason"].fillna("").tolist()
    assert reasons == ["", "value is not finite", "failed in Optuna", "pruned in Optuna"]
    assert results.methods == ("first",)
    assert remarks == [
        "1 trial still waiting, without a configuration, left out",
        "1 trial failed in Optuna: failures count as diverged; --errors lost leaves their outcome open",
        "1 trial pruned: these count as stopped, which leaves the outcome open",
        "1 trial still running: these are pending, without an outcome",
        "1 trial without a finite value counted as diverged",
    ]
    history = results.history("generator_steps", "primary")
    assert history.to_numpy().tolist() == [[0, 3.0], [4, 0.9]]


def test_failures_may_be_the_machines(url, said, stored):
    study_in(url, [trial(), trial(lr=1e-2, value=None, state=TrialState.FAIL)])
    declaration = said(sampler="random", errors="lost")
    results, remarks = stored(read_studies(url, [], declaration), declaration)
    assert (len(results.plan), len(results.trials)) == (2, 1)
    assert remarks == ["1 trial failed in Optuna: failures count as lost, which leaves the outcome open"]


def test_distributions_become_domains(url, said, stored):
    study_in(url, [trial(act=None), trial(lr=1e-2, act=True, layers=8), trial(lr=1e-4)])
    declaration = said(sampler="random")
    results, _ = stored(read_studies(url, [], declaration), declaration)
    assert results.domains == {
        "lr": LogUniform(1e-5, 1e-1),
        "layers": Uniform(1.0, 8.0),
        "act": Choice(("relu", "None", "true")),
    }
    (lr,) = (axis for axis in axes_of(results, "run") if axis.word == "lr")
    assert (lr.log, lr.low, lr.high) == (True, 1e-5, 1e-1)
    assert results.plan["act"].tolist() == ["None", "true", "relu"]


def test_a_renamed_parameter_keeps_its_domain(url, said, stored):
    study_in(url, [trial(), trial(layers=3)])
    declaration = said(sampler="random", map={"depth": "layers"})
    results, _ = stored(read_studies(url, [], declaration), declaration)
    assert results.domains["depth"] == Uniform(1.0, 8.0)
    assert results.plan["depth"].tolist() == [2, 3]


def test_a_domain_that_changed_is_all_that_it_was(url, said):
    wider = {"lr": FloatDistribution(1e-6, 1e-2, log=True)}
    study_in(url, [trial(), create_trial(params={"lr": 1e-6}, distributions=wider, value=0.2)])
    source = read_studies(url, [], said())
    assert source.domains["lr"] == LogUniform(1e-6, 1e-1)
    assert source.cells["layers"].tolist() == [2, None]  # the second trial has none


def test_a_maximised_study(url, said, stored):
    study_in(url, [trial(value=0.95)], direction="maximize")
    declaration = said(sampler="random", ideal=1, threshold=0.9, anchors=[0.99, 0.1], metric="accuracy")
    results, _ = stored(read_studies(url, [], declaration), declaration)
    assert results.facts("run").metric == "1 - accuracy"
    assert results.trials["primary"].tolist() == pytest.approx([0.05])


def test_several_studies_are_methods(tmp_path, said, stored):
    path = str(tmp_path / "journal.log")
    storage = JournalStorage(JournalFileBackend(path))
    study_in(storage, [trial(lr=1e-3), trial(lr=1e-2)], "adam")
    study_in(storage, [trial(lr=1e-3), trial(lr=1e-2)], "sgd")
    declaration = said(sampler="random")
    results, remarks = stored(read_studies(path, ["adam", "sgd"], declaration), declaration)
    assert results.methods == ("adam", "sgd")
    assert results.plan["config"].nunique() == 2
    assert remarks == []
    with pytest.raises(UserError, match="has 2 studies: give --study NAME, one or more of adam, sgd"):
        read_studies(path, [], declaration)
    with pytest.raises(UserError, match=r"unknown study in .*: 'adm': choose from adam, sgd"):
        read_studies(path, ["adm"], declaration)


def test_a_user_attribute_may_name_the_method(url, said, stored):
    study_in(url, [trial(user_attrs={"arm": "a"}), trial(user_attrs={"arm": "b"})])
    declaration = said(sampler="random", method="user:arm")
    results, _ = stored(read_studies(url, [], declaration), declaration)
    assert results.methods == ("a", "b")


# Samplers


def objective(trial):
    return abs(math.log10(trial.suggest_float("lr", 1e-5, 1e-1, log=True)) + 3) + trial.suggest_float("b", 0, 1)


def samplers():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {
            "tpe": optuna.samplers.TPESampler(seed=0, n_startup_trials=3),
            "nsga2": optuna.samplers.NSGAIISampler(seed=0, population_size=4),
            "grid": optuna.samplers.GridSampler({"lr": [1e-4, 1e-3, 1e-2], "b": [0.0, 1.0]}, seed=0),
            "sobol": optuna.samplers.QMCSampler(seed=0),
            None: optuna.samplers.RandomSampler(seed=0),
        }


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", samplers(), ids=str)
def test_samplers_are_known_by_their_marks(url, said, name):
    study = optuna.create_study(storage=url, study_name="s", sampler=samplers()[name])
    study.optimize(objective, n_trials=12)
    assert read_studies(url, [], said()).sampler == name


def test_marks_are_believed(url, said, stored):
    study_in(url, [trial(system_attrs={"tpe:relative_params:0": "{}"}), trial(lr=1e-2)])
    declaration = said()
    results, remarks = stored(read_studies(url, [], declaration), declaration)
    assert results.adaptive == "tpe"
    assert remarks[-1].startswith("the sampler tpe looked at results")
    declaration = said(sampler="random")
    with pytest.raises(UserError, match="sampler = 'random': the trials carry the marks of tpe"):
        stored(read_studies(url, [], declaration), declaration)


def test_what_was_put_in_by_hand_is_no_draw(url, said, stored):
    by_hand = trial(lr=1e-4, system_attrs={"fixed_params": {"lr": 1e-4}}, intermediate_values={0: 7.0})
    study_in(url, [by_hand, trial(intermediate_values={0: 5.0})])
    declaration = said(sampler="random")
    results, remarks = stored(read_studies(url, [], declaration), declaration)
    assert results.plan["lr_g"].tolist() == [1e-3]
    assert results.history("primary")["primary"].tolist() == [5.0]
    assert remarks == ["1 trial put in by hand, not drawn by random, left out"]
    declaration = said(sampler="tpe")
    results, _ = stored(read_studies(url, [], declaration), declaration, "all")
    assert len(results.plan) == 2


def test_only_trials_put_in_by_hand(url, said, stored):
    study_in(url, [trial(system_attrs={"fixed_params": {}})])
    declaration = said(sampler="random")
    with pytest.raises(UserError, match=r"all trials of .* were put in by hand: no sampler 'random' drew them"):
        stored(read_studies(url, [], declaration), declaration)


def test_of_repeated_attempts_the_last_counts(url, said, stored):
    again = {"failed_trial": 0, "retry_history": [0], "fixed_params": {"lr": 1e-3}}
    study_in(url, [trial(value=None, state=TrialState.FAIL), trial(value=0.3, system_attrs=again)])
    declaration = said(sampler="random")
    results, remarks = stored(read_studies(url, [], declaration), declaration)
    assert results.trials["status"].tolist() == ["completed"]
    assert remarks == ["1 trial tried again by Optuna left out: the last attempt of each counts"]


# What is refused, and what is left alone


def test_storages_that_cannot_be(tmp_path, said, url):
    for origin in (f"sqlite:///{tmp_path}/none.db", str(tmp_path / "none.log")):
        with pytest.raises(UserError, match=r"there is no file .*none"):
            read_studies(origin, [], said())
    assert not list(tmp_path.glob("none*"))
    (tmp_path / "text.db").write_text("not a database, whatever its name says")
    with pytest.raises(UserError, match=r"cannot read sqlite:///.*text.db as an Optuna storage"):
        read_studies(f"sqlite:///{tmp_path}/text.db", [], said())
    (tmp_path / "text.log").write_text("not a journal\nat all\n")
    with pytest.raises(UserError, match=r"cannot read .*text.log as an Optuna storage"):
        read_studies(str(tmp_path / "text.log"), [], said())
    optuna.create_study(storage=url, study_name="empty")
    with pytest.raises(UserError, match="has no trials in empty"):
        read_studies(url, [], said())


def test_a_database_by_its_path_is_told_its_address(tmp_path, url, said):
    study_in(url, [trial()])
    with pytest.raises(UserError, match=rf"not a journal: did you mean {url}\?$"):
        read_studies(f"{tmp_path}/study.db", [], said())


def test_a_run_says_which_studies_and_no_password(url, said):
    study_in(url, [trial()])
    assert read_studies(url, [], said()).origin == f"first in {url}"
    assert PASSWORD.sub(HIDDEN, "mysql://me:se:cret@host:3306/db") == "mysql://me:***@host:3306/db"
    assert PASSWORD.sub(HIDDEN, url) == url


def test_several_objectives_are_refused(url, said):
    optuna.create_study(storage=url, study_name="two", directions=["minimize", "maximize"])
    with pytest.raises(UserError, match="study 'two' has 2 objectives"):
        read_studies(url, [], said())


def test_studies_must_agree_about_what_is_better(url, said):
    study_in(url, [trial()], "low")
    study_in(url, [trial()], "high", direction="maximize")
    with pytest.raises(UserError, match="one of the studies is minimised and another maximised"):
        read_studies(url, ["low", "high"], said())


def test_the_storage_is_not_written_to(tmp_path, url, said):
    study_in(url, [trial()])
    before = (tmp_path / "study.db").read_bytes()
    read_studies(url, [], said())
    assert (tmp_path / "study.db").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["study.db"]

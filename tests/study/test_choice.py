"""Which program trains a trial: a matter of the file, of the trial's own budget, and of whether there is a compiler."""

from dataclasses import replace

import pytest

from study import choice
from study.choice import PAYS_FROM, chosen, pays, slower
from study.errors import UserError
from study.plan import expand
from study.schema import CAPTURED, NATIVE, RECORDED
from study.trial import Budget


@pytest.fixture
def trial_of(tiny):
    """A function giving a trial of so many generator steps, at n_critic 1."""
    trial = expand(tiny())[0]
    return lambda steps: replace(trial, budget=Budget(unit="generator_steps", steps=steps, evaluations=1))


@pytest.fixture
def compiles(monkeypatch):
    monkeypatch.setattr(choice, "missing", lambda: None)


@pytest.fixture
def compiles_nothing(monkeypatch):
    monkeypatch.setattr(choice, "missing", lambda: "no C++ compiler")


def test_long_trials_are_compiled_and_short_ones_are_not(trial_of, compiles):
    short, long = trial_of(PAYS_FROM // 2 - 1), trial_of(PAYS_FROM // 2)
    assert (pays(short), pays(long)) == (False, True)
    assert (chosen("auto", short, "cpu"), chosen("auto", long, "cpu")) == (RECORDED, NATIVE)
    assert chosen("auto", long, "cuda") == RECORDED


def test_more_updates_of_the_discriminator_make_a_trial_long(trial_of):
    trial = trial_of(PAYS_FROM // 6 + 1)
    assert not pays(trial)
    assert pays(replace(trial, hyperparameters=replace(trial.hyperparameters, n_critic=5)))


def test_the_file_has_the_last_word(trial_of, compiles):
    assert chosen("native", trial_of(1), "cpu") == NATIVE
    assert chosen("recorded", trial_of(10**6), "cpu") == RECORDED


def test_without_a_compiler_operations_are_recorded_unless_the_file_forbids_it(trial_of, compiles_nothing):
    long = trial_of(10**6)
    assert chosen("auto", long, "cpu") == RECORDED
    with pytest.raises(UserError, match=r"^execution\.program = 'native': no C\+\+ compiler; 'auto' takes"):
        chosen("native", long, "cpu")


def test_nothing_is_compiled_for_a_gpu(trial_of, compiles):
    with pytest.raises(UserError, match=r"^execution\.program = 'native': the device is cuda"):
        chosen("native", trial_of(1), "cuda")


def test_graphs_are_a_gpus_and_only_where_they_are_asked_for(trial_of, compiles):
    assert chosen("captured", trial_of(1), "cuda") == CAPTURED
    assert chosen("auto", trial_of(10**6), "cuda") == RECORDED
    for ask in (lambda: chosen("captured", trial_of(1), "cpu"), lambda: slower("captured", [trial_of(1)], "cpu")):
        with pytest.raises(
            UserError, match=r"^execution\.program = 'captured': graphs are a GPU's, and the device is cpu"
        ):
            ask()


def test_what_is_slow_is_said_where_it_matters(trial_of, compiles_nothing):
    long, short = trial_of(10**6), trial_of(1)
    assert "no C++ compiler" in slower("auto", [short, long], "cpu")
    assert slower("auto", [short], "cpu") is None
    assert slower("auto", [long], "cuda") is None
    assert slower("recorded", [long], "cpu") is None
    with pytest.raises(UserError, match=r"^execution\.program = 'native': no C\+\+ compiler"):
        slower("native", [short], "cpu")


def test_nothing_is_said_where_programs_can_be_compiled(trial_of, compiles):
    assert slower("auto", [trial_of(10**6)], "cpu") is None
    assert slower("native", [trial_of(10**6)], "cpu") is None

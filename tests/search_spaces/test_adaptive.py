import math
import warnings

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search_spaces.adaptive import SAMPLERS, Tried, ask, missing_package, option_fault, told
from search_spaces.domains import Choice, DomainError, LogUniform, Uniform

SPACE = {"lr": LogUniform(1e-5, 1e-1), "beta1": Uniform(0.0, 0.99), "ratio": Choice((0.1, 1.0, 10.0))}
NUMBERS = {"lr": SPACE["lr"], "beta1": SPACE["beta1"]}
CHEAP = ("tpe", "cmaes", "random")


def bowl(values):
    """Best at lr 1e-3 and beta1 0.5; fails above lr 2e-2."""
    if values["lr"] > 2e-2:
        return None
    return (math.log10(values["lr"]) + 3) ** 2 + (values["beta1"] - 0.5) ** 2


def tried(batch):
    return [Tried(values, bowl(values)) for values in batch]


def course(sampler, sizes, *, space=SPACE, options=None, seed=0, anchor=5.0):
    """The batches of a study."""
    past = []
    for index, count in enumerate(sizes):
        seeds = range(seed, seed + index + 1)
        past.append(tried(ask(sampler, space, past, count=count, seeds=seeds, anchor=anchor, options=options)))
    return past


@pytest.mark.parametrize("sampler", CHEAP)
def test_the_next_batch_is_a_function_of_the_past(sampler):
    past = course(sampler, [4, 4, 4])
    again = course(sampler, [4, 4, 4])
    assert past == again
    assert past != course(sampler, [4, 4, 4], seed=1)
    assert len({item.values["lr"] for batch in past for item in batch}) == 12


def test_a_gaussian_process_asks_for_the_same_again_too():
    sizes, options = [3, 2], {"n_startup_trials": 3, "deterministic_objective": True}
    assert course("gp", sizes, space=NUMBERS, options=options) == course("gp", sizes, space=NUMBERS, options=options)


@pytest.mark.parametrize("sampler", CHEAP)
def test_what_is_asked_for_lies_in_its_domain(sampler):
    for batch in course(sampler, [5, 5, 5]):
        for item in batch:
            assert 1e-5 <= item.values["lr"] <= 1e-1
            assert 0.0 <= item.values["beta1"] <= 0.99
            assert item.values["ratio"] in (0.1, 1.0, 10.0)


@pytest.mark.parametrize("sampler", ["tpe", "random"])
@pytest.mark.parametrize("seed", [0, 7])
def test_one_at_a_time_asks_what_optunas_own_loop_asks(sampler, seed):
    """The loop of Optuna's documentation, its sampler renewed before each trial, as it is here."""
    titles = {"tpe": optuna.samplers.TPESampler, "random": optuna.samplers.RandomSampler}
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study, expected = optuna.create_study(), []
    for number in range(25):
        study.sampler = titles[sampler](seed=seed + number)
        trial = study.ask()
        lr = trial.suggest_float("lr", 1e-5, 1e-1, log=True)
        beta1 = trial.suggest_float("beta1", 0.0, 0.99)
        values = {"lr": lr, "beta1": beta1, "ratio": trial.suggest_categorical("ratio", (0.1, 1.0, 10.0))}
        value = bowl(values)
        # nothing fails in this oracle, so it knows of no penalty
        study.tell(trial, 100.0 + lr if value is None else value)
        expected.append(values)
    past = []
    for number in range(25):
        (values,) = ask(sampler, SPACE, past, count=1, seeds=range(seed, seed + number + 1), anchor=5.0)
        value = bowl(values)
        past.append([Tried(values, 100.0 + values["lr"] if value is None else value)])
    assert [batch[0].values for batch in past] == expected


def test_cmaes_one_at_a_time_asks_what_optunas_own_loop_asks():
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study, past = optuna.create_study(), []
    distributions = {
        "lr": optuna.distributions.FloatDistribution(1e-5, 1e-1, log=True),
        "beta1": optuna.distributions.FloatDistribution(0.0, 0.99),
    }
    for number in range(25):
        study.sampler = optuna.samplers.CmaEsSampler(seed=number)
        trial = study.ask(distributions)
        (values,) = ask("cmaes", NUMBERS, past, count=1, seeds=range(number + 1), anchor=5.0)
        assert values == trial.params
        value = bowl(values) or 100.0
        study.tell(trial, value)
        past.append([Tried(values, value)])


@pytest.mark.parametrize("sampler", ["tpe", "cmaes"])
def test_a_sampler_that_learns_ends_near_the_best_and_away_from_failures(sampler):
    past = course(sampler, [8] * 12)
    random = course("random", [8] * 12)

    def late(batches):
        return [item for batch in batches[-4:] for item in batch]

    def middle(batches):
        values = sorted(math.inf if item.outcome is None else item.outcome for item in late(batches))
        return values[len(values) // 2]

    assert middle(past) < middle(random) / 2
    assert sum(item.outcome is None for item in late(past)) <= sum(item.outcome is None for item in late(random))


def test_where_everything_fails_but_a_corner_tpe_finds_the_corner():
    space, past = {"lr": LogUniform(1e-6, 1.0), "beta1": Uniform(0.0, 0.9)}, []
    for index in range(10):
        batch = ask("tpe", space, past, count=8, seeds=range(index + 1), anchor=1.0)
        past.append([Tried(v, 0.5 if v["lr"] < 1e-4 else None) for v in batch])
    late = [item for batch in past[-3:] for item in batch]
    assert sum(item.outcome is not None for item in late) > 0.6 * len(late)  # a third of the prior


def test_a_study_with_failures_only_goes_on():
    for sampler in CHEAP:
        past = [[Tried(values, None) for values in ask(sampler, SPACE, [], count=12, seeds=[0], anchor=2.0)]]
        assert len(ask(sampler, SPACE, past, count=3, seeds=[0, 1], anchor=2.0)) == 3


OUTCOMES = st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6)), min_size=1, max_size=20)


@given(OUTCOMES, st.floats(-10, 10))
def test_a_failure_is_told_as_worse_than_every_value_and_no_better_than_the_anchor(outcomes, anchor):
    values = told([Tried({}, outcome) for outcome in outcomes], anchor=anchor)
    failed = {value for value, outcome in zip(values, outcomes, strict=True) if outcome is None}
    measured = [outcome for outcome in outcomes if outcome is not None]
    assert [value for value, outcome in zip(values, outcomes, strict=True) if outcome is not None] == measured
    assert len(failed) <= 1
    for value in failed:
        assert value >= anchor
        assert all(value > other for other in measured)
        assert math.isfinite(value)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.sampled_from(CHEAP), st.integers(0, 2**32 - 5))
def test_no_batch_depends_on_what_comes_after_it(sizes, sampler, seed):
    whole = course(sampler, sizes, seed=seed)
    for end in range(1, len(sizes)):
        past = whole[:end]
        asked = ask(sampler, SPACE, past, count=sizes[end], seeds=range(seed, seed + end + 1), anchor=5.0)
        assert tried(asked) == whole[end]


def test_cmaes_does_not_go_on_from_a_past_that_is_not_its_own():
    past = course("cmaes", [4, 4, 4])
    past[1][2] = Tried(past[1][2].values | {"lr": 0.05}, 0.1)
    with pytest.raises(DomainError, match=r"cmaes asks for lr = .* where lr = 0\.05.* was tried: the options"):
        ask("cmaes", SPACE, past, count=4, seeds=range(4), anchor=5.0)


def test_a_generation_of_cmaes_is_a_batch_so_that_none_of_it_is_wasted():
    past = course("cmaes", [20] * 6, space=NUMBERS)
    spread = [max(item.values["beta1"] for item in b) - min(item.values["beta1"] for item in b) for b in past]
    assert spread[-1] < spread[0]
    assert past == course("cmaes", [20] * 6, space=NUMBERS, options={"popsize": 20})


def test_numbers_of_the_past_may_have_been_rounded():
    past = course("cmaes", [4, 4])
    rough = [[Tried(i.values | {"lr": float(f"{i.values['lr']:.12g}")}, i.outcome) for i in batch] for batch in past]
    seeds = range(3)
    assert ask("cmaes", SPACE, rough, count=4, seeds=seeds, anchor=5.0) == ask(
        "cmaes", SPACE, past, count=4, seeds=seeds, anchor=5.0
    )


@pytest.mark.parametrize(
    ("sampler", "options", "words"),
    [
        ("tpe", {"gamma": 1}, "gamma: tpe has no such option, only n_startup_trials, n_ei_candidates,"),
        ("random", {"popsize": 1}, "popsize: random has no options"),
        ("tpe", {"n_startup_trials": -1}, "must be finite and at least 0"),
        ("tpe", {"n_startup_trials": 2.5}, "must be a whole number"),
        ("tpe", {"n_startup_trials": True}, "must be a whole number"),
        ("tpe", {"n_startup_trials": math.inf}, "must be a whole number"),
        ("tpe", {"n_startup_trials": math.nan}, "must be a whole number"),
        ("tpe", {"prior_weight": math.inf}, "must be finite and at least 1e-06"),
        ("tpe", {"prior_weight": math.nan}, "must be finite and at least 1e-06"),
        ("tpe", {"prior_weight": [1]}, "must be a number"),
        ("tpe", {"multivariate": 1}, "must be true or false"),
        ("tpe", {"prior_weight": 0.0}, "must be finite and at least 1e-06"),
        ("tpe", {"group": True, "multivariate": False}, "only with multivariate"),
        ("cmaes", {"lr_adapt": True, "with_margin": True}, "one of them at most"),
    ],
)
def test_a_wrong_option_is_one_sentence(sampler, options, words):
    assert words in option_fault(sampler, options)


@pytest.mark.parametrize(
    ("sampler", "options"),
    [
        ("tpe", {"n_startup_trials": 2, "n_ei_candidates": 8, "prior_weight": 0.5, "constant_liar": False}),
        ("tpe", {"multivariate": True, "group": True}),
        ("tpe", {"group": True}),
        ("cmaes", {"popsize": 5, "n_startup_trials": 2}),
        ("cmaes", {"use_separable_cma": True}),
        ("cmaes", {"with_margin": True}),
        ("cmaes", {"lr_adapt": True}),
    ],
)
def test_every_option_that_is_let_through_is_taken(sampler, options):
    assert option_fault(sampler, options) is None
    assert len(course(sampler, [3, 3], options=options)[1]) == 3


def test_nothing_is_said_or_warned_of_and_optunas_own_words_are_as_they_were(capfd):
    optuna.logging.set_verbosity(optuna.logging.INFO)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for sampler in CHEAP:
            course(sampler, [2, 2], options={"with_margin": True} if sampler == "cmaes" else None)
    assert optuna.logging.get_verbosity() == optuna.logging.INFO
    assert capfd.readouterr().err == ""


def test_a_sampler_without_its_package_is_named(monkeypatch):
    assert [missing_package(name) for name in SAMPLERS] == [None] * 4
    monkeypatch.setattr("search_spaces.adaptive.find_spec", lambda name: None)
    assert [missing_package(name) for name in SAMPLERS] == [None, "cmaes", "torch", None]

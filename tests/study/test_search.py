import dataclasses
import tomllib

import pytest

from search_spaces.domains import Choice, LogUniform, Uniform
from study.errors import UserError
from study.plan import expand
from study.search import asked_next, batch_size, key_of, numbers_of, slots, studies_of, trials_of
from study.spec import parse_sweep, to_toml
from study.sweep_run import load, packs_of

RAW = {
    "name": "searching",
    "tasks": ["manifold-d2"],
    "methods": ["ns", "wgan+gp1"],
    "budget": {"steps": 6, "evaluations": 2},
    "space": {"preset": "lucic_wide", "override": {"n_critic": 1}},
    "search": {"trials": 6, "batch": 2},
    "execution": {"device": "cpu"},
}


def sweep(**changes):
    return parse_sweep(RAW | changes, source="a.toml")


def space(**override):
    return {"preset": "lucic_wide", "override": {"n_critic": 1} | override}


def refused(**changes):
    with pytest.raises(UserError) as caught:
        studies_of(sweep(**changes))
    assert "\n" not in str(caught.value)
    return str(caught.value)


# The table


def test_the_normalised_file_says_what_was_searched_and_reads_back():
    found = sweep(search={"trials": 4, "options": {"n_startup_trials": 2}}, design={"seeds": 2})
    text = to_toml(found)
    assert parse_sweep(tomllib.loads(text), source="b.toml") == found
    assert 'search.sampler = "tpe"' in text
    assert "search.options.n_startup_trials = 2" in text
    assert [line for line in text.splitlines() if line.startswith("design")] == ["design.seeds = 2"]


def test_a_file_without_a_search_is_normalised_as_before():
    assert "search" not in to_toml(
        parse_sweep({k: v for k, v in RAW.items() if k != "search"} | {"name": "a"}, source="a")
    )


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({}, "search.trials is missing"),
        ({"trials": 0}, "search.trials = 0: input should be greater than 0"),
        ({"trials": "many"}, 'search.trials = "many"'),
        ({"trials": 4, "batch": 0}, "search.batch = 0: input should be 'auto', or input should be greater than 0"),
        ({"trials": 4, "kind": "ax"}, "search.kind = \"ax\": input should be 'optuna'"),
        ({"trials": 4, "sampler": "tp"}, "unknown search.sampler 'tp'"),
        ({"trials": 4, "sampelr": "tpe"}, "unknown key 'search.sampelr': did you mean 'sampler'?"),
        ({"trials": 4, "seed": -1}, "search.seed = -1"),
        ({"trials": 4, "options": {"gamma": 1}}, "search.options.gamma: tpe has no such option, only n_startup_trials"),
        ({"trials": 4, "options": {"n_startup_trials": "a"}}, "search.options.n_startup_trials = 'a': must be a whole"),
        (3, "search = 3: input should be a valid table"),
        ({"trials": 4, "pruner": "hyperband"}, "unknown search.pruner 'hyperband'"),
        (
            {"trials": 4, "batch": 2, "pruner": "asha"},
            "search.pruner = 'asha': only a trial alone in its pack can be stopped",
        ),
        (
            {"trials": 4, "pruner": "median"},
            "search.pruner = 'median' with search.batch = 'auto', which is a pack, so one trial at a time: say how "
            "many trials of a study are trained side by side, several, e.g. search.batch = 8 for 8 workers",
        ),
        (
            {"trials": 4, "pruner_options": {"grace_period": 2}},
            "search.pruner_options.grace_period: none has no options",
        ),
        (
            {"trials": 4, "pruner": "asha", "pruner_options": {"reduction_factor": 1}},
            "search.pruner_options.reduction_factor = 1: must be finite and at least 2",
        ),
    ],
)
def test_a_wrong_table_is_one_sentence(table, words):
    with pytest.raises(UserError) as caught:
        sweep(search=table)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"confirmatory": [["ns", "wgan+gp1"]]}, "[search] with confirmatory pairs: a search looks at results while"),
        (
            {"claims": [{"id": "a", "statement": "success_at_least", "method": "ns", "value": 0.5}]},
            "[search] with [[claims]]: a search looks at results while",
        ),
        ({"design": {"points": 4}}, "[search] with design.points: a search asks for its own points"),
        ({"design": {"kind": "sobol"}}, "[search] with design.kind"),
    ],
)
def test_a_search_takes_no_claim_and_no_design(changes, words):
    with pytest.raises(UserError) as caught:
        sweep(**changes)
    assert words in str(caught.value) or "claims" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_package_is_one_sentence_at_the_desk_and_nothing_to_who_only_looks(monkeypatch):
    monkeypatch.setattr("search_spaces.adaptive.find_spec", lambda name: None)
    raw = RAW | {"search": {"trials": 4, "sampler": "cmaes"}}
    with pytest.raises(UserError, match=r"'cmaes' needs the package cmaes, which is not installed: pip install cmaes"):
        parse_sweep(raw, source="a.toml")
    assert parse_sweep(raw, source="a.toml", stored=True).search.sampler == "cmaes"


def test_a_pruned_search_that_was_begun_without_a_batch_can_still_be_looked_at():
    raw = RAW | {"search": {"trials": 4, "pruner": "asha"}, "execution": {"pack": 1}}
    assert parse_sweep(raw, source="a.toml", stored=True).search.batch == "auto"


def test_a_grace_longer_than_the_budget_is_one_sentence():
    search = {"trials": 4, "batch": 2, "pruner": "median", "pruner_options": {"grace_period": 3}}
    with pytest.raises(UserError, match=r"grace_period = 3: more than the 2 evaluations of budget\.evaluations"):
        sweep(search=search, execution={"pack": 1})
    assert (
        sweep(search=search | {"pruner_options": {"grace_period": 2}}, execution={"pack": 1}).search.pruner == "median"
    )


# Studies


def test_a_study_is_a_task_a_method_and_a_structure():
    found = studies_of(
        sweep(
            tasks=["manifold-d2", "dirac"],
            space=space(n_critic={"cross": [1, 5]}, optimiser={"cross": ["adam", "sgd"]}),
        )
    )
    assert len(found) == len({study.key for study in found}) == 2 * 2 * 4
    assert found[0].title == "ns on manifold-d2, n_critic 1, optimiser adam"


def test_what_is_searched_follows_the_prior_its_conditions_and_the_method():
    override = {
        "lr": {"log_uniform": [1e-4, 1e-2], "when": {"optimiser": {"sgd": {"log_uniform": [1e-2, 1.0]}}}},
        "beta2": {"uniform": [0.9, 1.0]},
        "lr_d_ratio": {"choice": [1, 4]},
        "optimiser": {"cross": ["adam", "sgd"]},
    }
    adam, sgd, wgan, _ = studies_of(sweep(space=space(**override)))
    assert adam.space["lr"] == LogUniform(1e-4, 1e-2)
    assert sgd.space["lr"] == LogUniform(1e-2, 1.0)
    assert "beta2" not in sgd.space
    assert adam.space["lr_d_ratio"] == Choice((1, 4))
    assert set(wgan.space) - set(adam.space) == {"penalty_weight"}
    assert adam.space["beta2"].low == 0.9
    assert 0.9999 < adam.space["beta2"].high < 1  # 1 is no decay


def test_a_variant_has_a_study_of_its_own_with_its_own_ranges():
    plain, ttur = studies_of(
        sweep(methods=["ns", "ns@ttur"], variant={"ttur": {"lr_d_ratio": {"uniform": [2.0, 8.0]}, "n_critic": 3}})
    )
    assert "lr_d_ratio" not in plain.space
    assert ttur.space["lr_d_ratio"] == Uniform(2.0, 8.0)
    assert (plain.structure["n_critic"], ttur.structure["n_critic"]) == (1, 3)


def test_variants_of_a_method_cannot_ask_for_the_same_ends():
    ratio = {"lr_d_ratio": {"log_uniform": [0.1, 7.3]}}
    other = {"a": {"lr_d_ratio": {"uniform": [1.0, 7.3]}}, "b": {"lr_d_ratio": 7.3, "beta2": {"choice": [0.9, 0.99]}}}
    found = studies_of(sweep(methods=["ns", "ns@a", "ns@b", "wgan+gp1"], variant=other, space=space(**ratio)))
    spaces = [study.space for study in found]
    assert spaces[0]["lr_d_ratio"] == LogUniform(0.1, 7.3)
    assert spaces[0]["lr"] == spaces[3]["lr"]  # of another method nothing can be the same
    assert spaces[2]["beta2"] == Choice((0.9, 0.99))
    for name in ("lr", "beta1"):
        lows, highs = zip(*((mine[name].low, mine[name].high) for mine in spaces[:3]), strict=True)
        assert list(lows) == sorted({f"{low:.12g}": low for low in lows}.values())  # no two, each inside the former
        assert list(highs) == sorted({f"{high:.12g}": high for high in highs}.values(), reverse=True)
        assert lows[2] == pytest.approx(lows[0], rel=1e-4, abs=1e-4)
        assert highs[2] == pytest.approx(highs[0], rel=1e-4)
    assert 7.2999 < spaces[1]["lr_d_ratio"].high < 7.3


def test_what_cannot_be_searched_is_one_sentence():
    assert "nothing to search" in refused(space={"override": {"lr": 0.1}})
    assert "nothing to search" in refused(space={"override": {"lr": {"choice": [0.1]}}})
    one = {"override": {"lr": {"log_uniform": [1e-3, 1e-2]}}}
    words = refused(space=one, methods=["ns"], search={"trials": 4, "sampler": "cmaes"})
    assert "'cmaes' needs 2 or more intervals to search, here are 1 (lr)" in words
    assert "drawn, but a study's trials have one structure" in refused(
        space=space(depth_g={"choice": [2, 3]}, network="mlp")
    )
    choices = {"override": {"lr": {"choice": [0.1, 0.01]}}}
    assert "may ask for the same trial" in refused(methods=["ns", "ns@a"], space=choices, variant={"a": {"beta1": 0.5}})
    when = {"when": {"optimiser": {"sgd": {"log_uniform": [1e-2, 1.0]}}}}
    assert "says nothing for optimiser = adam" in refused(space={"override": {"lr": when}})


# Trials


def test_trials_are_those_that_a_table_with_the_same_numbers_would_have(tmp_path):
    asked = [{"lr": 1e-3, "beta1": 0.25}, {"lr": 2e-3, "beta1": 0.5}, {"lr": 1e-3, "beta1": 0.25}]
    found = sweep(design={"seeds": 2}, methods=["ns"])
    (study,) = studies_of(found)
    trials = trials_of(found, study, asked, before=())
    rows = [values | {"beta2": 0.999, "n_critic": 1, "optimiser": "adam"} for values in asked]
    plain = parse_sweep(
        {k: v for k, v in RAW.items() if k != "search"}
        | {"methods": ["ns"], "design": {"kind": "table", "table": "x.csv", "seeds": 2}},
        source="b",
    )
    expected = expand(plain, rows)
    assert [t.trial_id for t in trials] == [t.trial_id for t in expected]
    assert [t.config for t in trials] == [t.config for t in expected]
    assert [(t.point, t.seed) for t in trials] == [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1)]
    assert {t.sampler for t in trials} == {"tpe"}
    assert len({t.trial_id for t in trials}) == 6


def test_batches_asked_for_one_after_the_other_make_the_trials_of_all_together():
    found = sweep(
        space=space(penalty_weight={"choice": [1, 10]}, lr={"choice": [1e-3, 1e-2]}, beta1=0.5), methods=["ns+gp1"]
    )
    (study,) = studies_of(found)
    asked = [{"lr": lr, "penalty_weight": w} for lr, w in [(1e-3, 1), (1e-3, 10), (1e-2, 1), (1e-3, 10), (1e-3, 10)]]
    whole = trials_of(found, study, asked, before=())
    parts = []
    for values in asked:
        before = [numbers_of(dataclasses.asdict(trial.hyperparameters)) for trial in parts]
        parts += trials_of(found, study, [values], before=before)
    assert list(whole) == parts
    assert len({t.trial_id for t in parts}) == 5


def test_what_was_asked_for_can_be_read_from_the_plan():
    ratio = {"lr_d_ratio": {"log_uniform": [0.1, 10.0]}}
    found = sweep(space=space(**ratio), search={"trials": 6, "batch": 6, "sampler": "random"})
    for study in studies_of(found):
        asked = asked_next(found, study, [], count=6, starts=[0])
        for trial, values in zip(trials_of(found, study, asked, before=()), asked, strict=True):
            row = {name: getattr(trial.hyperparameters, name) for name in ("lr_g", "lr_d", "beta1", "penalty_weight")}
            assert study.read_back(row) == pytest.approx(values, rel=1e-11)
            assert key_of(trial) == study.key


def test_no_two_studies_ask_for_the_same_and_the_seed_matters():
    found = sweep(space=space(n_critic={"cross": [1, 5]}), tasks=["manifold-d2", "dirac"])
    first = [asked_next(found, study, [], count=1, starts=[0])[0]["lr"] for study in studies_of(found)]
    other = sweep(search=RAW["search"] | {"seed": 1})
    assert len(set(first)) == 8
    assert asked_next(other, studies_of(other)[0], [], count=1, starts=[0])[0]["lr"] not in first


def test_a_pruner_is_named_in_the_rows_so_that_even_a_random_search_is_marked():
    search = {"trials": 4, "batch": 2, "sampler": "random", "pruner": "asha"}
    for table, name in ((search, "random+asha"), (search | {"pruner": "none"}, "random")):
        found = sweep(search=table, execution={"pack": 1, "device": "cpu"}, methods=["ns"])
        assert {trial.sampler for trial in slots(found, "cpu")} == {name}


# Slots


def test_a_batch_is_what_a_pack_has_room_for_with_all_seeds():
    for pack, seeds, size in ((8, 1, 8), (8, 2, 4), (8, 3, 2), (2, 3, 1)):
        found = sweep(search={"trials": 9}, execution={"pack": pack, "device": "cpu"}, design={"seeds": seeds})
        assert batch_size(found, studies_of(found)[0], "cpu") == size
    automatic = sweep(search={"trials": 9})
    (capacity,) = {p.capacity for p in packs_of(automatic, slots(automatic, "cpu"))}
    assert batch_size(automatic, studies_of(automatic)[0], "cpu") == capacity


def test_slots_are_counted_by_study_and_packed_by_batch():
    found = sweep(search={"trials": 5, "batch": 2}, design={"seeds": 3}, execution={"pack": 8, "device": "cpu"})
    trials = slots(found, "cpu")
    packs = packs_of(found, trials)
    assert trials.cells() == {("manifold-d2", "ns"): 15, ("manifold-d2", "wgan+gp1"): 15}
    assert sorted(packs.sizes.tolist()) == [3, 3, 6, 6, 6, 6]


def test_a_file_is_loaded_as_its_slots_and_a_combination_that_cannot_be_trained_refused(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text(to_toml(sweep()))
    assert len(load(path)[1]) == 12
    path.write_text(to_toml(sweep(budget={"steps": 6, "evaluations": 20})))
    with pytest.raises(UserError, match=r"a\.toml: budget.evaluations = 20: more than the 6 generator steps"):
        load(path)

import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from study.errors import UserError
from study.plan import expand, pack
from study.schema import ENGINE_EPOCH
from study.spec import parse_sweep, to_toml
from study.sweep_run import load
from study.tasks.table import get_task
from study.trial import Trial

ROOT = Path(__file__).parents[2]
LR = {"log_uniform": [1e-3, 1e-1]}


def ids(sweep, table=None):
    return [trial.trial_id for trial in expand(sweep, table)]


def space(**override):
    return {"override": {"lr": LR} | override}


# Same file, same plan


def test_expanding_twice_gives_the_same_trials_in_the_same_order(tiny):
    sweep = tiny(methods=["ns", "wgan+gp1"], space=space(n_critic={"cross": [1, 5]}), design={"points": 4, "seeds": 2})
    assert expand(sweep) == expand(sweep)
    assert len(set(ids(sweep))) == 2 * 2 * 4 * 2


def test_another_process_plans_the_same_trials(tiny, tmp_path):
    sweep = tiny(methods=["ns", "wgan+gp1"], space={"preset": "lucic_wide"}, design={"points": 4, "replicates": 2})
    path = tmp_path / "a.toml"
    path.write_text(to_toml(sweep))
    code = (
        "import sys; from pathlib import Path; from study.sweep_run import load\n"
        "print(*(t.trial_id for t in load(Path(sys.argv[1]))[1]))"
    )
    environment = os.environ | {"PYTHONHASHSEED": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ids(sweep)


def hashed(text):
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def compact(content):
    return json.dumps(content, sort_keys=True, separators=(",", ":"))


@pytest.mark.parametrize(("copy", "seed"), [(0, 0), (0, 1), (1, 0)])
def test_the_recipe_of_ids_keys_and_configurations_stays_what_it_was(tiny, copy, seed):
    sweep = tiny(methods=["ns+gp1"], space={"override": {"lr": 1e-3}}, design={"points": 2, "seeds": 2})
    trial = next(t for t in expand(sweep) if (t.point, t.seed) == (copy, seed))
    shared = {"lr": 0.001, "beta1": 0.5, "beta2": 0.999, "lr_d_ratio": 1.0, "n_critic": 1, "optimiser": "adam"}
    key = hashed(f"{hashed(compact(shared))}/{copy}/{seed}")
    assert trial.key == key
    assert trial.config == hashed(compact([shared, copy]))
    numbers = {
        "lr_g": 0.001,
        "lr_d": 0.001,
        "beta1": 0.5,
        "beta2": 0.999,
        "optimiser": "adam",
        "n_critic": 1,
        "penalty_weight": 10.0,
    }
    content = {
        "task": ["manifold-d2", get_task("manifold-d2").version],
        "method": "ns+gp1",
        "hyperparameters": numbers,
        "budget": {"unit": "generator_steps", "steps": 6, "evaluations": 2},
        "key": key,
        "engine_epoch": ENGINE_EPOCH,
    }
    assert trial.trial_id == hashed(compact(content))


# One changed number changes what it concerns


def test_a_penalty_weight_concerns_only_methods_that_have_it(tiny):
    methods = ["ns", "wgan+clip", "ns+gp1", "wgan+gp0"]
    before = expand(tiny(methods=methods))
    after = expand(
        tiny(methods=methods, space=space(penalty_weight={"when": {"penalty": {"gp1": 1.0}}, "choice": [10]}))
    )
    changed = {a.label for a, b in zip(before, after, strict=True) if a.trial_id != b.trial_id}
    assert changed == {"ns+gp1"}


def test_crossing_another_structure_keeps_the_old_trials(tiny):
    old = ids(tiny(space=space(n_critic={"cross": [1]})))
    new = ids(tiny(space=space(n_critic={"cross": [1, 5]})))
    assert set(old) < set(new)
    assert len(new) == 2 * len(old)


@pytest.mark.parametrize("value", [{"uniform": [0.0, 0.9]}, 0.4], ids=["drawn", "fixed"])
def test_a_further_hyperparameter_moves_no_other(tiny, value):
    before, after = expand(tiny()), expand(tiny(space=space(beta1=value)))
    assert [t.hyperparameters.lr_g for t in before] == [t.hyperparameters.lr_g for t in after]
    assert not {t.trial_id for t in before} & {t.trial_id for t in after}


@pytest.mark.parametrize(
    "change",
    [
        {"design": {"points": 4}},
        {"design": {"points": 2, "replicates": 2}},
        {"design": {"points": 2, "seeds": 2}},
        {"methods": ["ns+gp1", "ns"]},
        {"tasks": ["ring8", "manifold-d2"]},
        {"name": "renamed"},
        {"notice": "a remark", "execution": {"pack": 64, "device": "cuda"}},
    ],
    ids=str,
)
def test_a_plan_that_grows_keeps_the_old_trials(tiny, change):
    assert set(ids(tiny())) <= set(ids(tiny(**change)))


@pytest.mark.parametrize(
    "change",
    [
        {"budget": {"steps": 7, "evaluations": 2}},
        {"budget": {"steps": 6, "evaluations": 3}},
        {"budget": {"steps": 6, "evaluations": 2, "unit": "discriminator_steps"}},
        {"design": {"points": 2, "seed": 1}},
        {"space": {"override": {"lr": {"log_uniform": [1e-3, 2e-1]}}}},
    ],
    ids=str,
)
def test_a_changed_trial_has_a_new_id(tiny, change):
    assert not set(ids(tiny())) & set(ids(tiny(**change)))


# Pairing


def test_methods_share_configurations_and_keys(tiny):
    trials = expand(tiny(methods=["ns", "wgan+clip", "ns+gp1"], design={"points": 4, "seeds": 2}))
    for attribute in ("config", "key"):
        by_label = {
            label: [getattr(t, attribute) for t in trials if t.label == label]
            for label in ("ns", "wgan+clip", "ns+gp1")
        }
        assert by_label["ns"] == by_label["wgan+clip"] == by_label["ns+gp1"]
        assert len(set(by_label["ns"])) == (4 if attribute == "config" else 8)


def test_methods_of_one_penalty_share_its_drawn_weight(tiny):
    sweep = tiny(methods=["ns+gp1", "wgan+gp1", "ns+r1"], space={"preset": "lucic_wide"}, design={"points": 8})
    weights = {m: [t.hyperparameters.penalty_weight for t in expand(sweep) if t.label == m] for m in sweep.methods}
    assert weights["ns+gp1"] == weights["wgan+gp1"] != weights["ns+r1"]
    assert len(set(weights["ns+gp1"])) == 8
    assert all(0.1 <= weight <= 100 for weight in weights["ns+gp1"])
    assert all(0.01 <= weight <= 100 for weight in weights["ns+r1"])


@pytest.mark.parametrize(
    ("method", "numbers"),
    [
        ("ns", (None, None, None)),
        ("ns+gp1", (10.0, None, None)),
        ("mm+gp0", (10.0, None, None)),
        ("ns+r1", (20.0, None, None)),
        ("ns+dragan", (10.0, None, 0.5)),
        ("wgan+clip", (None, 0.01, None)),
    ],
)
@pytest.mark.parametrize("said", [{}, {"penalty_weight": "published", "clip": "published"}], ids=["unsaid", "said"])
def test_a_method_has_its_published_numbers_and_no_others(tiny, method, numbers, said):
    h = expand(tiny(methods=[method], space=space(**said)))[0].hyperparameters
    assert (h.penalty_weight, h.clip, h.noise_scale) == numbers


# Ranges that depend on a choice, and variants


def test_a_range_may_depend_on_the_optimiser(tiny):
    lr = {"when": {"optimiser": {"sgd": 0.25}}, "choice": [0.125]}
    trials = expand(tiny(space={"override": {"lr": lr, "optimiser": {"cross": ["adam", "sgd"]}}}))
    assert {(t.hyperparameters.optimiser, t.hyperparameters.lr_g) for t in trials} == {("adam", 0.125), ("sgd", 0.25)}


def test_a_range_may_depend_on_n_critic(tiny):
    lr = {"when": {"n_critic": {"5": 0.25}}, "choice": [0.125]}
    trials = expand(tiny(space={"override": {"lr": lr, "n_critic": {"cross": [1, 5]}}}))
    assert {(t.hyperparameters.n_critic, t.hyperparameters.lr_g) for t in trials} == {(1, 0.125), (5, 0.25)}


def test_a_weight_may_depend_on_the_penalty_and_be_the_published_one_for_some(tiny):
    weight = {"when": {"penalty": {"gp1": "published", "r1": 3}}, "choice": [7]}
    trials = expand(tiny(methods=["ns+gp1", "ns+gp0", "ns+r1"], space=space(penalty_weight=weight)))
    found = {t.label: t.hyperparameters.penalty_weight for t in trials}
    assert found == {"ns+gp1": 10.0, "ns+gp0": 7.0, "ns+r1": 3.0}


def test_a_case_that_says_nothing_is_refused(tiny):
    lr = {"when": {"optimiser": {"sgd": 0.1}}}
    with pytest.raises(UserError, match="lr depends on optimiser, but says nothing for optimiser = adam"):
        expand(tiny(space={"override": {"lr": lr}}))


def test_sgd_has_no_second_moment(tiny):
    h = expand(tiny(space=space(optimiser="sgd")))[0].hyperparameters
    assert (h.optimiser, h.beta2) == ("sgd", None)


def test_a_variant_changes_what_it_says_and_stays_paired(tiny):
    sweep = tiny(methods=["ns", "ns@ttur", "ns@sgd"], variant={"ttur": {"lr_d_ratio": 4}, "sgd": {"optimiser": "sgd"}})
    base, ttur, sgd = expand(sweep)[:3]
    assert (base.label, ttur.label, sgd.label) == ("ns", "ns@ttur", "ns@sgd")
    assert ttur.hyperparameters == replace(base.hyperparameters, lr_d=pytest.approx(4 * base.hyperparameters.lr_g))
    assert sgd.hyperparameters == replace(base.hyperparameters, optimiser="sgd", beta2=None)
    assert base.config == ttur.config == sgd.config
    assert base.key == ttur.key == sgd.key


def test_a_variant_that_changes_nothing_is_refused(tiny):
    with pytest.raises(UserError, match="methods ns and ns@same are the same: a variant has to change something"):
        expand(tiny(methods=["ns", "ns@same"], variant={"same": {"lr_d_ratio": 1}}))


# Budgets


@pytest.mark.parametrize(
    ("unit", "expected"),
    [
        ("generator_steps", {1: 60, 5: 60}),
        ("discriminator_steps", {1: 60, 5: 12}),
        ("updates", {1: 30, 5: 10}),
    ],
)
def test_a_budget_is_counted_in_its_unit(tiny, unit, expected):
    sweep = tiny(budget={"unit": unit, "steps": 60, "evaluations": 2}, space=space(n_critic={"cross": [1, 5]}))
    assert {t.hyperparameters.n_critic: t.generator_steps for t in expand(sweep)} == expected


def test_more_evaluations_than_steps_are_refused(tiny):
    sweep = tiny(budget={"unit": "updates", "steps": 12, "evaluations": 3}, space=space(n_critic={"cross": [1, 5]}))
    sentence = "budget.evaluations = 3: more than the 2 generator steps that 12 updates make at n_critic 5"
    with pytest.raises(UserError, match=sentence):
        expand(sweep)


# Grids and tables


def test_a_grid_visits_every_choice_level_and_structure_once(tiny):
    override = {"lr": {"log_uniform": [1e-4, 1e-2]}, "beta1": {"choice": [0.0, 0.5]}, "n_critic": {"cross": [1, 5]}}
    trials = expand(tiny(space={"override": override}, design={"kind": "grid"}))
    found = Counter((t.hyperparameters.lr_g, t.hyperparameters.beta1, t.hyperparameters.n_critic) for t in trials)
    assert found == Counter({(lr, b, n): 1 for lr in (1e-4, 1e-3, 1e-2) for b in (0.0, 0.5) for n in (1, 5)})


def test_a_grid_may_depend_on_a_choice(tiny):
    lr = {"when": {"optimiser": {"sgd": {"choice": [0.1, 1.0]}}}, "choice": [1e-3, 1e-2]}
    override = {"lr": lr, "optimiser": {"cross": ["adam", "sgd"]}}
    trials = expand(tiny(space={"override": override}, design={"kind": "grid"}))
    found = [(t.hyperparameters.optimiser, t.hyperparameters.lr_g) for t in trials]
    assert sorted(found) == [("adam", 1e-3), ("adam", 1e-2), ("sgd", 0.1), ("sgd", 1.0)]


def test_a_grid_has_no_axis_for_what_no_method_has(tiny):
    assert len(expand(tiny(space=space(penalty_weight={"uniform": [1, 10]}), design={"kind": "grid"}))) == 3


@pytest.fixture
def tabled(tmp_path, tiny):
    """A function writing a table design and its sweep file, and loading them."""

    def make(content, suffix=".csv", **changes):
        path = tmp_path / f"design{suffix}"
        if suffix == ".csv":
            path.write_text(content)
        else:
            pd.DataFrame(content).to_parquet(path)
        file = tmp_path / "a.toml"
        file.write_text(to_toml(tiny(design={"kind": "table", "table": path.name}, **changes)))
        return load(file)[1]

    return make


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_table_design_is_its_rows(tabled, suffix):
    content = "lr,beta1,n_critic\n0.001,0.5,1\n1e30,0.0,5\n"
    rows = {"lr": [1e-3, 1e30], "beta1": [0.5, 0.0], "n_critic": [1, 5]}
    trials = tabled(content if suffix == ".csv" else rows, suffix)
    found = [(t.hyperparameters.lr_g, t.hyperparameters.beta1, t.hyperparameters.n_critic, t.point) for t in trials]
    assert found == [(1e-3, 0.5, 1, 0), (1e30, 0.0, 5, 1)]
    assert {t.sampler for t in trials} == {"table"}


def test_the_same_table_in_two_formats_is_the_same_plan(tabled):
    assert tabled("lr\n0.001\n0.01\n") == tabled({"lr": [1e-3, 1e-2]}, ".parquet")


def test_repeated_rows_are_independent_repeats(tabled):
    trials = tabled("lr\n0.01\n0.01\n")
    assert len({t.key for t in trials}) == len({t.config for t in trials}) == len({t.trial_id for t in trials}) == 2
    assert trials[0].hyperparameters == trials[1].hyperparameters


def test_a_table_gives_weights_to_the_methods_that_have_them(tabled):
    trials = tabled("lr,penalty_weight\n0.01,3\n", methods=["ns", "ns+gp1", "ns+gp0"])
    assert [t.hyperparameters.penalty_weight for t in trials] == [None, 3.0, 3.0]


def test_a_structure_that_no_column_gives_is_crossed_with_the_rows(tabled):
    trials = tabled("lr\n0.01\n0.02\n", space=space(n_critic={"cross": [1, 5]}))
    assert [(t.hyperparameters.lr_g, t.hyperparameters.n_critic) for t in trials] == [
        (0.01, 1),
        (0.01, 5),
        (0.02, 1),
        (0.02, 5),
    ]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("beta1\n0.5\n", r"design\.csv has no column lr: the space draws lr"),
        ("lr\n0.1\nnan\n", r"has no value for lr in row 2: every cell is needed"),
        ("lr,beta1\n0.1,0.5\n0.2,\n", r"has no value for beta1 in row 2"),
        ("lr,lrr\n0.1,1\n", r"unknown column in design table .*design\.csv: 'lrr': choose from lr, "),
        ("lr\n-1\n", r"lr = -1: must be above 0"),
        ("lr\ninf\n", r"lr = inf: must be finite"),
        ("lr\nx\n", r"lr = x: must be a number"),
        ("lr\ntrue\n", r"lr = True: must be a number"),
        ("lr,n_critic\n0.1,1.5\n", r"n_critic = 1\.5: must be a whole number"),
        ("lr\n", r"design\.csv has no rows"),
        ("", r"cannot read the design table .*design\.csv"),
        ("lr,beta1\n0.1\n", r"cannot read the design table .*design\.csv"),
    ],
)
def test_a_table_that_may_not_be_is_refused(tabled, content, sentence):
    with pytest.raises(UserError, match=sentence) as caught:
        tabled(content)
    assert "\n" not in str(caught.value)


def test_a_missing_cell_of_a_parquet_table_is_refused(tabled):
    with pytest.raises(UserError, match="has no value for lr in row 2"):
        tabled({"lr": [0.1, None]}, ".parquet")


def test_a_missing_table_is_refused(tmp_path, tiny):
    file = tmp_path / "a.toml"
    file.write_text(to_toml(tiny(design={"kind": "table", "table": "none.csv"})))
    with pytest.raises(UserError, match=r"cannot read the design table .*none\.csv"):
        load(file)


# Packs


@pytest.fixture
def mixed(tiny):
    return expand(
        tiny(
            tasks=["manifold-d2", "ring8"],
            methods=["ns", "ns+gp1"],
            space=space(n_critic={"cross": [1, 5]}),
            design={"points": 4, "replicates": 3},
        )
    )


def test_packs_are_a_partition_into_full_slots_of_one_structure(mixed):
    packs = pack(mixed, capacity=5, device="cpu")
    assert sorted(t.trial_id for p in packs for t in p.trials) == sorted(t.trial_id for t in mixed)
    assert {p.capacity for p in packs} == {5}
    assert all(len({t.structure for t in p.trials}) == 1 for p in packs)
    assert Counter(len(p.trials) for p in packs) == {5: 16, 2: 8}


def test_packs_do_not_depend_on_the_order_of_other_structures(mixed):
    plain = [t for t in mixed if t.task == "ring8"]
    names = {p.name for p in pack(mixed, capacity=5, device="cpu") if p.trials[0].task == "ring8"}
    assert {p.name for p in pack(plain, capacity=5, device="cpu")} == names


def test_the_costliest_packs_come_first(mixed):
    costs = [
        t.generator_steps * (1 + t.hyperparameters.n_critic)
        for t in (p.trials[0] for p in pack(mixed, capacity=5, device="cpu"))
    ]
    assert costs == sorted(costs, reverse=True)
    assert costs[0] > costs[-1]


def test_a_pack_is_named_by_its_content(tiny):
    trials = expand(tiny(design={"points": 4}))
    names = {
        pack(members, capacity=capacity, device="cpu")[0].name
        for members, capacity in ((trials, 4), (trials, 8), (trials[:3], 4), (trials[::-1], 4))
    }
    assert len(names) == 4
    assert pack(trials, capacity=4, device="cpu")[0].name in names


def variant_sweep(**changes):
    raw = {
        "name": "v",
        "tasks": ["manifold-d2"],
        "methods": ["ns", "ns@a"],
        "budget": {"steps": 10, "evaluations": 2},
        "space": {"override": {"lr": 0.001}},
        "design": {"points": 2},
    }
    return parse_sweep(raw | changes, source="test")


def test_a_range_that_follows_the_structure_follows_the_variants_structure():
    lr = {"when": {"optimiser": {"sgd": 0.5}}, "choice": [0.001]}
    sweep = variant_sweep(space={"override": {"lr": lr}}, variant={"a": {"optimiser": "sgd"}})
    rates = {trial.label: trial.hyperparameters.lr_g for trial in expand(sweep)}
    assert rates == {"ns": 0.001, "ns@a": 0.5}


def test_a_variant_of_a_number_the_method_lacks_is_refused():
    with pytest.raises(UserError, match=r"method 'ns@a': variant\.a\.penalty_weight has no effect, ns has no penalty_"):
        variant_sweep(variant={"a": {"penalty_weight": 3.0}})


def test_parts_of_a_method_have_one_order():
    with pytest.raises(UserError, match=r"'ns\+clip\+gp1': its parts have one order, write 'ns\+gp1\+clip'"):
        variant_sweep(methods=["ns+clip+gp1"])


def test_a_product_of_rates_beyond_the_numbers_is_refused():
    sweep = variant_sweep(space={"override": {"lr": 1e300, "lr_d_ratio": 1e300}}, variant={"a": {"beta1": 0.1}})
    with pytest.raises(UserError, match=r"lr = 1e\+300 times lr_d_ratio = 1e\+300"):
        expand(sweep)


# A method that a task has no use for


@pytest.mark.parametrize(
    ("task", "method", "sentence"),
    [
        ("manifold-d2", "ns+vbn", "vbn normalises hidden layers, and the generator has none"),
        ("manifold-d2", "ns+mix", "the task measures one network's parameters or outputs, and mix has several"),
        ("dirac", "ns+sn", "sn leaves a discriminator of one weight nothing but its sign"),
        ("dirac", "ns+fm", "feature matching looks at hidden layers, and the discriminator has none"),
        (
            "dirac",
            "mmd-rbf",
            "the method needs a discriminator of another form than the task's, which comes in one only",
        ),
        ("dirac", "ns+minibatch", "the method needs a discriminator of another form than the task's, which comes in"),
    ],
)
def test_a_method_that_the_task_cannot_use_is_refused(tiny, task, method, sentence):
    with pytest.raises(UserError) as caught:
        expand(tiny(tasks=[task], methods=["ns", method]))
    assert str(caught.value).startswith(f"{method} on {task}: {sentence}")


# Large plans


def test_many_trials_are_planned_without_an_object_for_each(tiny, monkeypatch):
    made = []
    real = Trial.__init__
    monkeypatch.setattr(Trial, "__init__", lambda self, **given: (made.append(1), real(self, **given))[1])
    design = {"kind": "random", "points": 500, "seeds": 2}
    trials = expand(tiny(methods=["ns", "wgan+gp1"], space=space(n_critic={"cross": [1, 5]}), design=design))
    packs = pack(trials, capacity=50, device="cpu")
    assert (len(trials), len(packs), len(set(packs.names))) == (4000, 80, 80)
    assert len(made) == 4  # one of each method and n_critic

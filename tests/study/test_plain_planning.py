"""Plans made of columns are those that are made trial by trial: ids, order, packs and rows, to the bit."""

import random

import numpy as np
import pytest

from study import user_files
from study.errors import UserError
from study.plan import expand, pack
from study.records import plan_table
from study.spec import parse_sweep
from study.store import build_table
from tests.study import plain_planning as plain

LR = {"log_uniform": [1e-5, 1e-1]}
BASE = {
    "name": "plain",
    "tasks": ["manifold-d2"],
    "methods": ["ns"],
    "budget": {"steps": 60, "evaluations": 2},
    "space": {"override": {"lr": LR}},
    "design": {"points": 8},
}
MANY = ["ns", "ns+gp1", "ns+r1", "ns+dragan", "wgan+clip", "wgan+gp1", "rpgan+r1+r2", "ns+smooth+ema", "ns+noise"]
VARIANTS = {
    "ttur": {"lr_d_ratio": 4},
    "sgd": {"optimiser": "sgd"},
    "five": {"n_critic": 5, "lr": {"when": {"n_critic": {"5": {"uniform": [0.1, 0.2]}}}, "choice": [0.5]}},
    "deep": {"depth_d": 3, "beta1": {"uniform": [0.0, 0.5]}},
    "weak": {"penalty_weight": {"log_uniform": [0.1, 1.0]}},
    "said": {"penalty_weight": "published"},
}
WHEN = {
    "lr": {"when": {"optimiser": {"sgd": {"log_uniform": [1e-3, 1.0]}, "adam": 3e-4}}, **LR},
    "penalty_weight": {"when": {"penalty": {"gp1": "published", "r1": 3}}, "uniform": [0.5, 9.0]},
    "optimiser": {"cross": ["adam", "sgd", "rmsprop"]},
    "n_critic": {"cross": [1, 5]},
}


PAIR = WHEN | {"optimiser": {"cross": ["adam", "rmsprop"]}}


def override(**domains):
    return {"override": {"lr": LR} | domains}


SWEEPS = {
    "one method": {},
    "several of all": {"tasks": ["ring8", "manifold-d2"], "methods": MANY, "design": {"points": 4, "seeds": 3}},
    "replicates": {"methods": ["ns", "wgan+gp1"], "design": {"points": 4, "replicates": 5, "seed": 7}},
    "random": {"methods": ["ns", "wgan+gp1"], "design": {"kind": "random", "points": 7, "replicates": 2}},
    "preset": {"methods": MANY, "space": {"preset": "lucic_wide"}},
    "preset and override": {"methods": MANY, "space": {"preset": "lucic_wide", "override": {"beta2": 0.9, "lr": 2e-4}}},
    "crossed": {
        "methods": MANY,
        "space": override(
            n_critic={"cross": [1, 5, 2]}, optimiser={"cross": ["sgd", "adam"]}, beta1={"uniform": [0, 1]}
        ),
    },
    "ratio": {"space": override(lr_d_ratio={"log_uniform": [0.1, 10]})},
    "ratio of choices": {"space": override(lr={"choice": [0.1, 0.3]}, lr_d_ratio={"choice": [0.7, 3]})},
    "ratio that follows": {
        "space": override(
            n_critic={"cross": [1, 5]}, lr_d_ratio={"when": {"n_critic": {"1": {"uniform": [1, 2]}, "5": 3}}}
        )
    },
    "networks drawn": {
        "tasks": ["ring8"],
        "methods": ["ns", "wgan+gp1"],
        "design": {"points": 16},
        "space": override(
            depth_g={"choice": [2, 3]},
            width_d={"choice": [32, 64]},
            norm_d={"choice": ["none", "layer"]},
            n_critic={"cross": [1, 2]},
        ),
    },
    "networks crossed": {
        "tasks": ["ring8"],
        "space": override(activation_g={"cross": ["relu", "tanh"]}, network={"cross": ["mlp"]}, depth_d=2),
    },
    "following": {"methods": MANY, "space": {"override": WHEN}},
    "variants": {
        "methods": ["ns", "ns@ttur", "ns@sgd", "ns@five", "ns+gp1", "ns+gp1@weak", "ns+gp1@sgd", "ns+r1@weak"],
        "variant": VARIANTS,
        "space": {"override": PAIR},
    },
    "variants of networks": {
        "tasks": ["ring8", "grid25"],
        "methods": ["ns", "ns@deep", "wgan+gp1@deep", "wgan+gp1@said"],
        "variant": VARIANTS,
        "space": {"preset": "lucic_wide"},
    },
    "grid": {
        "methods": ["ns", "ns+gp1"],
        "space": override(beta1={"choice": [0.0, 0.5]}, penalty_weight={"log_uniform": [1, 10]}),
        "design": {"kind": "grid"},
    },
    "grid that follows": {"methods": ["ns+gp0"], "space": {"override": WHEN}, "design": {"kind": "grid", "levels": 4}},
    "grid that collapses": {
        "space": override(
            lr={"when": {"optimiser": {"sgd": {"choice": [0.1, 1.0]}}}, "choice": [1e-3]}, optimiser="adam"
        ),
        "design": {"kind": "grid", "seeds": 2},
    },
    "labels": {
        "tasks": ["digits-ssl", "manifold-d2"],
        "methods": ["ssl"],
        "space": override(labelled={"choice": [100, 500]}),
    },
    "labels published": {"tasks": ["digits-ssl"], "methods": ["ssl"]},
    "steps of the discriminator": {
        "budget": {"steps": 60, "evaluations": 2, "unit": "updates"},
        "space": override(n_critic={"cross": [1, 5]}),
    },
    "tasks with options": {"tasks": ["manifold-d2", "manifold-d8", "mixture1d"], "methods": ["hinge", "lsgan+gp0"]},
    "whole numbers": {"space": override(lr=1, lr_d_ratio=2, beta1=0), "methods": ["ns", "ns+gp1"]},
    "extreme numbers": {"space": override(lr={"choice": [1e-300, 1e300, 1 / 3, 123456789012345.6, 1e22]})},
    "one number for all": {"space": override(lr=0.25), "design": {"points": 4, "seeds": 2}},
}
TABLES = {
    "rates": ({}, [{"lr": 0.001}, {"lr": 0.01}, {"lr": 0.001}]),
    "structure": (
        {"methods": ["ns", "wgan+gp1", "ns+dragan"]},
        [
            {"lr": 1e-3, "n_critic": 1, "optimiser": "adam", "penalty_weight": 3},
            {"lr": 1e30, "n_critic": 5, "optimiser": "sgd", "penalty_weight": 0.1},
            {"lr": 1, "n_critic": 5, "optimiser": "adam", "penalty_weight": 7.5},
        ],
    ),
    "crossed with the rest": (
        {"methods": ["ns+gp1", "ns+gp1@sgd"], "variant": VARIANTS, "space": {"override": PAIR | {"lr": LR}}},
        [{"lr": 0.1, "lr_d_ratio": 2.5, "penalty_weight": 1}, {"lr": 0.2, "lr_d_ratio": 1 / 3, "penalty_weight": 1}],
    ),
    "rates that follow": (
        {"space": {"override": {"lr": {"when": {"optimiser": {"sgd": 0.5, "adam": 0.25}}}}}},
        [{"optimiser": "sgd", "beta1": 0.5}, {"optimiser": "adam", "beta1": 0.5}, {"optimiser": "sgd", "beta1": 0.5}],
    ),
    "networks": (
        {"tasks": ["ring8"]},
        [{"lr": 0.1, "depth_g": 2, "network": "mlp"}, {"lr": 0.1, "depth_g": 3, "network": "mlp"}],
    ),
}


def check(raw, table=None, *, capacity=5):
    sweep = parse_sweep(BASE | raw, source="plain.toml")
    expected, found = plain.expand(sweep, table), expand(sweep, table)
    assert list(found) == expected
    assert [trial.trial_id for trial in found] == [trial.trial_id for trial in expected]
    assert all(vars(trial).pop("trial_id") == trial.trial_id for trial in found)  # what was kept is what it hashes to
    slow, fast = plain.pack(expected, capacity=capacity, device="cpu"), pack(found, capacity=capacity, device="cpu")
    assert list(fast) == slow
    assert fast.names == [one.name for one in slow]
    rows = build_table("plan", [row for one in slow for row in plain.plan_rows(one, sweep.name)])
    table_of_columns = plan_table(fast, sweep.name)
    assert table_of_columns.schema.equals(rows.schema, check_metadata=True)
    assert table_of_columns.to_pylist() == rows.to_pylist()
    return found


@pytest.mark.parametrize("name", SWEEPS)
def test_a_plan_of_columns_is_the_plan_of_its_trials(name):
    check(SWEEPS[name])


@pytest.mark.parametrize("name", TABLES)
def test_a_table_planned_in_columns_is_the_plan_of_its_trials(name):
    raw, table = TABLES[name]
    check({"design": {"kind": "table", "table": "t.csv"}} | raw, table)


def test_trials_of_users_files_have_the_ids_of_their_contents():
    user_files.provide("own/loss.py", b"from study.losses import LOSSES\nmine = LOSSES['ns']\n")
    user_files.provide("nets.py", b"from study.networks.table import FAMILIES\nnet = FAMILIES['mlp']\n")
    found = check({"methods": ["own/loss.py:mine", "own/loss.py:mine+gp1"], "design": {"points": 4, "seeds": 2}})
    assert all(trial.fingerprint for trial in found)


def drawn_sweep(rng):
    methods = rng.sample(MANY, rng.randint(1, 4))
    variants = rng.sample(["ttur", "sgd", "five"], rng.randint(0, 3))
    domains = {
        "lr": rng.choice([LR, WHEN["lr"], 0.01, {"choice": [0.1, 0.2, 0.30000000000000004]}]),
        "beta1": rng.choice([0.5, {"uniform": [0.0, 0.9]}, {"choice": [0, 0.9]}]),
        "beta2": rng.choice([0.99, {"uniform": [0.9, 0.999]}]),
        "lr_d_ratio": rng.choice([1, 1.0, 3, {"log_uniform": [0.1, 10]}, {"choice": [1, 2]}]),
        "n_critic": rng.choice([1, {"cross": [1, 5]}, {"cross": [2, 3, 1]}]),
        "optimiser": rng.choice(["adam", "sgd", {"cross": ["adam", "sgd"]}]),
        "penalty_weight": rng.choice([WHEN["penalty_weight"], "published", {"log_uniform": [0.1, 10]}, 2]),
    }
    kept = {name: domain for name, domain in domains.items() if name == "lr" or rng.random() < 0.6}
    design = rng.choice(
        [{"points": 4, "replicates": 2}, {"kind": "random", "points": 5}, {"kind": "grid", "levels": 2}]
    )
    return {
        "tasks": rng.sample(["manifold-d2", "ring8", "mixture1d"], rng.randint(1, 3)),
        "methods": [*methods, *(f"{methods[0]}@{variant}" for variant in variants)],
        "variant": VARIANTS,
        "space": {"override": kept},
        "design": design | {"seeds": rng.randint(1, 3), "seed": rng.randint(0, 9)},
    }


@pytest.mark.parametrize("seed", range(30))
def test_any_sweep_planned_in_columns_is_the_plan_of_its_trials(seed):
    rng = random.Random(seed)
    raw, capacity = drawn_sweep(rng), rng.choice([None, 1, 3, 50])
    sweep = parse_sweep(BASE | raw, source="plain.toml")
    expected = plain.expand(sweep)
    if len({trial.trial_id for trial in expected}) < len(expected):
        with pytest.raises(UserError, match="are the same: a variant has to change something"):
            expand(sweep)
        return
    check(raw, capacity=capacity)


def test_what_is_left_of_a_plan_is_packed_as_it_is_trial_by_trial():
    sweep = parse_sweep(BASE | SWEEPS["crossed"], source="plain.toml")
    expected, found = plain.expand(sweep), expand(sweep)
    chosen = [place for place in range(len(found)) if place % 3]
    slow = plain.pack([expected[place] for place in chosen], capacity=4, device="cpu")
    assert list(pack([found[place] for place in chosen], capacity=4, device="cpu")) == slow
    assert list(pack(found.take(np.array(chosen)), capacity=4, device="cpu")) == slow

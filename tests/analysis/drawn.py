"""Results of sweeps that were drawn from their priors, with outcomes that a function of the plan gives."""

import functools
import json
from dataclasses import replace

import numpy as np
import pandas as pd

from analysis.results import Results
from analysis.runs import priors
from study import schema
from study.plan import expand, pack
from study.records import plan_table
from study.spec import parse_sweep

TASK = "manifold-d2"
RAW = {
    "name": "drawn",
    "tasks": [TASK],
    "methods": ["ns", "ns+gp1"],
    "budget": {"steps": 1000},
    "space": {"override": {"lr": {"log_uniform": [1e-5, 1e-2]}, "beta1": {"uniform": [0.0, 0.8]}}},
    "design": {"kind": "random", "points": 32},
}
FACTS = {"threshold": 0.2, "anchor_low": 0.02, "anchor_high": 2.0}
GOOD, BAD = 0.1, 1.0
"""Values of the metric on either side of the threshold; log-AUC scores ln 20 / ln 100 and ln 2 / ln 100."""


def sweep_of(**changes):
    return parse_sweep(RAW | changes, source="drawn.toml")


@functools.lru_cache(maxsize=32)
def _plan(raw: str) -> pd.DataFrame:
    sweep = parse_sweep(json.loads(raw), source="drawn.toml")
    packs = pack(expand(sweep), capacity=16, device="cpu")
    plan = pd.DataFrame(plan_table(packs, sweep.name).to_pylist())
    for column in schema.PLAN:
        if column.name not in plan.columns:
            plan[column.name] = None
    return plan[[column.name for column in schema.PLAN]].assign(**FACTS)


def drawn(outcome=lambda plan: np.full(len(plan), GOOD), **changes) -> Results:
    """Results of `RAW` with changes.

    `outcome` gives an array from the plan: a number completed with it, +inf diverged, NaN has no row.
    """
    sweep = sweep_of(**changes)
    plan = _plan(json.dumps(RAW | changes)).copy()
    values = np.asarray(outcome(plan), dtype=float)
    trials = plan[[column.name for column in schema.IDENTITY]].copy()
    trials["status"] = np.where(np.isinf(values), "diverged", "completed")
    trials["primary"] = np.where(np.isinf(values), np.nan, values)
    trials = trials[~np.isnan(values)].reset_index(drop=True)
    return Results(sweep.name, plan, trials, (), None, sweep.space.title, dict(sweep.space.domains))


def declared(outcome=lambda plan: np.full(len(plan), GOOD), **changes) -> Results:
    """What `drawn` gives, with the prior of every method as a run knows it."""
    return replace(drawn(outcome, **changes), priors=priors(sweep_of(**changes)))


def good_where(condition):
    """An outcome that succeeds where a condition on the plan holds."""
    return lambda plan: np.where(condition(plan), GOOD, BAD)


def noisy(seed, chance=0.5, failing=0.2, missing=0.0):
    """An outcome that succeeds, fails and is missing at random."""

    def outcome(plan):
        rng = np.random.default_rng(seed)
        order = np.argsort(plan["trial_id"].to_numpy(dtype=object).astype(str))
        values = np.where(rng.random(len(plan)) < chance, GOOD, BAD)
        values = np.where(rng.random(len(plan)) < failing, np.inf, values)
        values = np.where(rng.random(len(plan)) < missing, np.nan, values)
        placed = np.empty(len(plan))
        placed[order] = values
        return placed

    return outcome


def shuffled(results: Results, seed=0) -> Results:
    """The same results in another order of rows, the plan's order of tasks and methods kept."""
    rng = np.random.default_rng(seed)
    plan = results.plan.iloc[rng.permutation(len(results.plan))]
    keys = [
        plan[name].map({value: i for i, value in enumerate(results.plan[name].unique())}) for name in ("task", "method")
    ]
    plan = plan.iloc[np.lexsort((keys[1].to_numpy(), keys[0].to_numpy()))]
    trials = results.trials.iloc[rng.permutation(len(results.trials))]
    return Results(
        results.name,
        plan.reset_index(drop=True),
        trials.reset_index(drop=True),
        results.confirmatory,
        results.notice,
        results.prior,
        results.domains,
    )


def adaptive(results: Results) -> Results:
    """The same results as if a sampler had looked at them."""
    plan = results.plan.assign(sampler="tpe")
    return Results(results.name, plan, results.trials, (), None, results.prior, results.domains)

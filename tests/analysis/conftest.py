"""Synthetic results: a design that crosses points with seeds and structures, and outcomes with a known law."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import pandas as pd
import pytest

from analysis.outcomes import Sample
from analysis.results import Results
from study import schema

METHODS = ("ns+gp1", "wgan+gp1", "ns")
FACTS = {"metric": "w2sq", "threshold": 0.2, "anchor_low": 0.02, "anchor_high": 2.0}
FAILURE = 0.15
"""Chance of divergence of the first method; each next one adds .1 and half a unit of log metric."""


class Build(Protocol):
    def __call__(self, **options: object) -> Results: ...


def make_plan(*, tasks, methods, replicates, points, seeds, critics) -> pd.DataFrame:
    rows = []
    for task in tasks:
        for method in methods:
            for replicate in range(replicates):
                for index in range(points):
                    point = replicate * points + index
                    for critic in critics:
                        for seed in range(seeds):
                            config = f"c{point}n{critic}"
                            rows.append(
                                {
                                    "trial_id": f"{task}/{method}/{config}/{seed}",
                                    "sweep": "synthetic",
                                    "task": task,
                                    "method": method,
                                    "config": config,
                                    "point": point,
                                    "replicate": replicate,
                                    "seed": seed,
                                    "n_critic": critic,
                                    "sampler": "sobol",
                                    "budget_unit": "generator_steps",
                                    "budget_steps": 1000,
                                    **FACTS,
                                }
                            )
    plan = pd.DataFrame(rows)
    for column in schema.PLAN:
        if column.name not in plan.columns:
            plan[column.name] = np.nan
    return plan[[column.name for column in schema.PLAN]]


def draw_trials(plan: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Outcomes whose law depends on the method's place: later ones fail more often and end higher."""
    trials = plan[[column.name for column in schema.IDENTITY]].copy()
    place = plan["method"].map({name: i for i, name in enumerate(plan["method"].unique())}).to_numpy(dtype=float)
    level = pd.Series(rng.normal(0, 1.0, plan["point"].nunique()), index=plan["point"].unique())
    primary = np.exp(np.log(0.08) + 0.5 * place + plan["point"].map(level) + rng.normal(0, 0.3, len(plan)))
    failed = rng.random(len(plan)) < FAILURE + 0.1 * place
    trials["status"] = np.where(failed, np.where(rng.random(len(plan)) < 0.2, "oom", "diverged"), "completed")
    trials["primary"] = np.where(failed, np.nan, primary)
    return trials


@pytest.fixture(scope="session")
def build() -> Build:
    """A function making `Results`; `keep` is the number of trials that have a row, None for all."""

    def make(
        *,
        tasks=("manifold-d2",),
        methods=METHODS,
        replicates=8,
        points=4,
        seeds=1,
        critics=(1,),
        keep=None,
        confirmatory=(("ns+gp1", "wgan+gp1"),),
        notice=None,
        name="synthetic",
        seed=0,
    ) -> Results:
        plan = make_plan(
            tasks=tasks, methods=methods, replicates=replicates, points=points, seeds=seeds, critics=critics
        )
        rng = np.random.default_rng(seed)
        trials = draw_trials(plan, rng)
        if keep is not None:
            kept = np.sort(rng.permutation(len(plan))[:keep])
            trials = trials.iloc[kept].reset_index(drop=True)
        return Results(name, plan, trials, tuple(confirmatory), notice)

    return make


@pytest.fixture(scope="session")
def replaced():
    """A function giving every trial of `Results` the same ending."""

    def change(results: Results, status: str, primary: float) -> Results:
        trials = results.trials.assign(status=status, primary=primary)
        return Results(results.name, results.plan, trials, results.confirmatory, results.notice)

    return change


A = [20, 25, 30, 40, 50, 60, 100, np.inf, np.inf, np.inf]
B = [22, 24, 28, 200, 300, np.inf, np.inf, np.inf, np.inf, np.inf]


@pytest.fixture(scope="session")
def arms() -> dict[str, np.ndarray]:
    """The two sets of outcomes that the hand-computed tables are about; paired by position."""
    return {"A": np.array(A, dtype=float), "B": np.array(B, dtype=float)}


@pytest.fixture(scope="session")
def sampled():
    """A function making a `Sample`: one trial per point in one replicate, unless told otherwise."""

    def make(values, points=None, replicates=None) -> Sample:
        size = len(values)
        return Sample(
            np.asarray(values, dtype=float),
            np.zeros(size, dtype=np.int64) if replicates is None else np.asarray(replicates, dtype=np.int64),
            np.arange(size) if points is None else np.asarray(points, dtype=np.int64),
        )

    return make


@pytest.fixture(scope="session")
def ended(build):
    """A function making `Results` of one task with given endings, {method: one per planned trial}.

    A number completed with it, +inf diverged, a word is a status, None has no row.
    """

    def make(endings, *, confirmatory=(), facts=None, **design) -> Results:
        base = build(methods=tuple(endings), confirmatory=(), **design)
        plan = base.plan.assign(**(facts or {}))
        given = [ending for method in endings for ending in endings[method]]
        words = [e is None or isinstance(e, str) for e in given]
        status = [
            e if word else "diverged" if e == np.inf else "completed" for e, word in zip(given, words, strict=True)
        ]
        primary = [e if s == "completed" else np.nan for e, s in zip(given, status, strict=True)]
        trials = base.trials.assign(status=status, primary=np.array(primary, dtype=float))
        exists = np.array([e is not None for e in given])
        return Results(base.name, plan, trials[exists], tuple(confirmatory), None)

    return make


@pytest.fixture(scope="session")
def with_history():
    """A function giving `Results` a history: {trial_id: values at evaluations `steps` apart}, its rows in no order.

    The column `other` has the negative of each value.
    """

    def make(results: Results, histories, *, steps=100, critic=1, trials=None) -> Results:
        tasks = dict(results.plan[["trial_id", "task"]].itertuples(index=False))
        rows = [
            (trial_id, tasks[trial_id], index, steps * (index + 1), steps * critic * (index + 1), value, -value)
            for trial_id, values in histories.items()
            for index, value in enumerate(values)
        ]
        columns = ["trial_id", "task", "evaluation", "generator_steps", "discriminator_steps", "primary", "other"]
        frame = pd.DataFrame(rows, columns=columns).sample(frac=1, random_state=1, ignore_index=True)
        for norm in ("grad_norm_g", "grad_norm_d"):
            frame[norm] = frame["primary"].abs()
        trials = results.trials if trials is None else trials
        return Results(
            results.name,
            results.plan,
            trials,
            results.confirmatory,
            None,
            domains=results.domains,
            read_history=lambda names: frame[list(names)] if names else frame,
        )

    return make

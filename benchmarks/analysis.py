"""The whole analysis of a large sweep: 10,000 trials of each of ten methods, every interval, band and curve.

Outcomes are drawn, not trained; what is timed is what `report` computes before it draws, without the history.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable

import numpy as np
import pandas as pd

from analysis import ranges
from analysis.budgets import budget_curve
from analysis.comparisons import compare_all
from analysis.dominance import dominance, profile_difference
from analysis.figures.tunability import tunability_numbers
from analysis.frames import trials as trials_frame
from analysis.importance import shares
from analysis.outcomes import sample
from analysis.pairing import align
from analysis.profiles import profile
from analysis.results import Results
from analysis.sensitivity import sensitivity
from analysis.summary import summary
from benchmarks.record import Found, Line
from search_spaces.domains import LogUniform, Uniform
from study import schema

TRIALS, REPLICATES = 10_000, 8
TASK, OTHER = "manifold-d2", "manifold-d16"
METHODS = ("ns", "ns+gp1", "ns+gp0", "ns+r1", "ns+dragan", "wgan+gp1", "wgan+gp0", "wgan+clip", "hinge+gp1", "ls+gp1")
REQUIRED = "<= 20"
SEED = 0


def run(*, quick: bool = False) -> Found:
    count = 160 if quick else TRIALS
    results = synthetic(count)
    lines, total, total_processor = [], 0.0, 0.0
    for name, work in parts(results).items():
        begun, before = time.perf_counter(), _processor_seconds()
        work()
        wall, processor = time.perf_counter() - begun, _processor_seconds() - before
        total, total_processor = total + wall, total_processor + processor
        lines.append(Line(f"{name} (processor {processor:.2f} s)", wall, "s"))
    whole = Line(f"all parts (processor {total_processor:.1f} s)", total, "s", "" if quick else REQUIRED)
    remark = f"{len(METHODS)} methods x {count:,} trials, each of another point, in {REPLICATES} replicates"
    found = Found((whole, *lines), (f"{remark}; one process",), {"trials": len(results.plan)})
    found.show()
    return found


def parts(results: Results) -> dict[str, Callable[[], object]]:
    """What is computed, by name; each part begins from the two tables."""
    facts, two = results.facts(TASK), on_two_tasks(results)

    def samples() -> list[object]:
        outcomes = results.outcomes(TASK)
        return [sample(rows) for _, rows in outcomes.groupby("method", sort=False)]

    def differences() -> None:
        rng, arms = np.random.default_rng(SEED), align(results.outcomes(TASK))
        for second in results.methods[1:]:
            found = profile_difference(arms.pairs(results.methods[0], second), rng=rng)
            dominance(found, low=facts.anchor_low, high=facts.anchor_high)

    return {
        "frame of the trials": lambda: trials_frame({results.name: results}),
        "summary": lambda: summary(results),
        "profiles with bands": lambda: [profile(drawn, rng=np.random.default_rng(SEED)) for drawn in samples()],
        "comparisons of all pairs": lambda: compare_all(results),
        "differences of profiles with bands, first method with every other": differences,
        "budget curves": lambda: [budget_curve(drawn, facts, np.random.default_rng(SEED)) for drawn in samples()],
        "sensitivity": lambda: sensitivity(results),
        "importance with its null lines": lambda: [
            shares(results, TASK, name, rng=np.random.default_rng(SEED)) for name in results.methods
        ],
        "parts of the prior, first method with every other": lambda: [
            ranges.signs(results, TASK, results.methods[0], second) for second in results.methods[1:]
        ],
        "tunability, half of the configurations on two tasks": lambda: tunability_numbers(
            two, rng=np.random.default_rng(SEED)
        ),
    }


def synthetic(count: int) -> Results:
    """A finished sweep with as many trials per method, whose methods differ and whose learning rate decides."""
    rng = np.random.default_rng(SEED)
    point = np.arange(count)
    lr, beta1 = 10 ** rng.uniform(-5, -2, count), rng.uniform(0, 1, count)
    base = pd.DataFrame(
        {
            **{"sweep": "benchmark", "task": TASK, "config": [f"{i:016x}" for i in point], "point": point},
            **{"replicate": point % REPLICATES, "seed": 0, "pack": "p", "capacity": 16, "lr_g": lr, "lr_d": lr},
            **{"beta1": beta1, "beta2": 0.999, "optimiser": "adam", "n_critic": np.where(point % 2, 1, 5)},
            **{"sampler": "sobol", "engine_epoch": 1, "schema_version": 1, "budget_unit": "generator_steps"},
            **{"budget_steps": 1000, "evaluations": 25, "metric": "w2sq", "threshold": 0.2},
            **{"anchor_low": 0.02, "anchor_high": 2.0},
        }
    )
    frames = [base.assign(method=name, trial_id=[f"{name}/{i}" for i in point]) for name in METHODS]
    plan = pd.concat(frames, ignore_index=True).reindex(columns=[column.name for column in schema.PLAN])
    level = np.log(0.05) + np.abs(np.log10(lr) + 3.5) + rng.normal(0, 0.5, count)
    place = np.repeat(np.arange(len(METHODS)), count)
    score = np.tile(level, len(METHODS)) + 0.1 * place + rng.normal(0, 0.5, len(plan))
    failed = rng.random(len(plan)) < 0.05 + 0.02 * place
    trials = plan[[column.name for column in schema.IDENTITY]].assign(
        status=np.where(failed, "diverged", "completed"), primary=np.where(failed, np.nan, np.exp(score))
    )
    domains = {"lr": LogUniform(1e-5, 1e-2), "beta1": Uniform(0.0, 1.0)}
    return Results("benchmark", plan, trials, ((METHODS[0], METHODS[1]),), None, "benchmark", domains)


def on_two_tasks(results: Results) -> Results:
    """As many trials, of the first half of the configurations on the task and on another one, where they do as well."""
    half = results.plan["point"].max() // 2 + 1
    plans = [results.plan[results.plan["point"] < half].assign(task=task) for task in (TASK, OTHER)]
    plans[1] = plans[1].assign(trial_id=plans[1]["trial_id"] + "/2")
    noise = np.exp(np.random.default_rng(SEED).normal(0, 1, len(plans[1])))
    here = results.trials[results.trials["trial_id"].isin(plans[0]["trial_id"])]
    there = here.assign(task=OTHER, trial_id=here["trial_id"] + "/2", primary=here["primary"] * noise)
    plan, trials = (pd.concat(pair, ignore_index=True) for pair in (plans, (here, there)))
    return Results(results.name, plan, trials, (), None, results.prior, results.domains)


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime

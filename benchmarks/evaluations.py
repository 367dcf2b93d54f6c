"""What evaluations cost against the training between them, at the default schedule of 25, by compiled programs.

Each task's pack is trained by `ns+gp1` (or by a loss of its own, and gp1) with n_critic 1, so that generators and
critics are trained ones, and measured every so many steps; both are processor time of one thread, in one process, in
turn.
"""

from __future__ import annotations

import torch

from benchmarks.costs import MORE_STRETCHES, STRETCHES, periods_of, stretches
from benchmarks.record import Found, Line
from study.capacity import capacity_of
from study.native.build import missing
from study.plan import expand
from study.schema import NATIVE, RECORDED
from study.spec import BudgetTable, parse_sweep
from study.tasks.base import Task
from study.tasks.table import TASKS, get_task
from study.trial import Trial

STEPS = 200
"""Between two evaluations."""
BUDGET, ALLOWED = 5000, 0.1
"""Generator steps of a trial, and what evaluations may take of the time of training it."""
QUICK = ("ring8", "manifold-d2")
"""Tasks of a quick run."""
SAMPLED = "manifold[d=8, generator=mlp]"
"""Besides all tasks: a manifold that is measured on samples."""


def run(*, quick: bool = False) -> Found:
    torch.set_num_threads(1)
    program = RECORDED if missing() else NATIVE
    lines, details = [], {}
    for name in QUICK if quick else (*TASKS, SAMPLED):
        found = stretches(
            _trials(name, periods=1 + (1 if quick else periods_of(name)), steps=1 if quick else STEPS), program
        )
        if found is None:  # its steps are not compiled
            continue
        step, evaluation = found
        multiply_adds = products(get_task(name))
        details[name] = {"step_ms": step, "evaluation_ms": evaluation, "multiply_adds_of_samples": multiply_adds}
        lines.append(Line(f"{name}: an evaluation of one trial", evaluation, "ms"))
        share = evaluation * _evaluations() / (step * BUDGET)
        required = f"<= {ALLOWED}" if program == NATIVE else ""
        lines.append(Line(f"{name}: evaluations over training of {BUDGET:,} steps", share, "x", required))
        enough = BUDGET * share / ALLOWED
        lines.append(Line(f"{name}: {ALLOWED:.0%} at most from a budget of", enough, "steps"))
        print(
            f"{name:30} {step:.4f} ms a step, {evaluation:.3f} ms an evaluation, {share:.1%} of {BUDGET:,} steps, "
            f"{ALLOWED:.0%} of {enough:,.0f}",
            flush=True,
        )
    remarks = (
        f"program {program}; milliseconds of one core for each slot of a full pack, the least of {STRETCHES} stretches "
        f"of {STEPS} steps and of as many evaluations, of {MORE_STRETCHES} for games of a few numbers; "
        f"{_evaluations()} evaluations a trial are the default",
        "ns+gp1, or the task's own loss and gp1, n_critic 1: without a penalty, steps take some two thirds of that, "
        "and with a larger n_critic several times as much",
        "an evaluation makes as many samples as its metric's name says, twice where selection has its own: their "
        "products of matrices alone, in the details, take 1 ms for every 10^8 multiplications at 200 GFLOP/s",
    )
    found_all = Found(tuple(lines), remarks, details)
    found_all.show()
    return found_all


def products(task: Task) -> int:
    """Multiplications that make the samples of one trial's evaluation, as far as matrices tell."""
    return task.evaluation_samples * sum(
        shape[0] * shape[1] for shape in task.generator.shapes.values() if len(shape) == 2
    )


def _evaluations() -> int:
    default: int = BudgetTable.model_fields["evaluations"].default
    return default


def _trials(task: str, *, periods: int, steps: int) -> list[Trial]:
    loss = (get_task(task).losses or ("ns",))[0]
    sweep = {
        "name": "evaluations",
        "tasks": [task],
        "methods": [f"{loss}+gp1"],
        "budget": {"steps": periods * steps, "evaluations": periods},
        "space": {"override": {"lr": {"log_uniform": [1e-4, 1e-3]}, "n_critic": 1}},
        "design": {"kind": "random", "points": 64},
    }
    trials = expand(parse_sweep(sweep, source="evaluations"))
    return trials[: capacity_of(trials[0], "cpu")]

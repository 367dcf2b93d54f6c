"""What evaluations cost against the training between them by default, by compiled programs.

Each task's pack is trained by `ns+gp1` and by `ns` (or by a loss of its own) with n_critic 1, so that generators and
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

STEPS, TIMES = 200, 3
"""Between two evaluations, and how many times as many stretches of them as costs are measured by."""
BUDGET, ALLOWED = 1000, 0.1
"""Generator steps of a short trial, and what evaluations may take of the time of training it and of longer ones."""
WITH, WITHOUT = (
    f"evaluations over training of {BUDGET:,} steps or more {how} a penalty, at most" for how in ("with", "without")
)
"""Words of the lines."""
LONGEST = 10_000
"""A budget that has all evaluations there are by default, whatever the task."""
QUICK = ("ring8", "manifold-d2")
"""Tasks of a quick run."""
SAMPLED = "manifold[d=8, generator=mlp]"
"""Besides all tasks: a manifold that is measured on samples."""


def run(*, quick: bool = False) -> Found:
    torch.set_num_threads(1)
    program = RECORDED if missing() else NATIVE
    lines, details = [], {}
    for name in QUICK if quick else (*TASKS, SAMPLED):
        found = [_found(name, penalty, program, quick=quick) for penalty in ("+gp1", "")]
        if None in found:  # its steps are not compiled
            continue
        penalised, plain = [pair for pair in found if pair]
        details[name] = {
            "step_ms": penalised[0],
            "evaluation_ms": penalised[1],
            "without_penalty": {"step_ms": plain[0], "evaluation_ms": plain[1]},
            "multiply_adds_of_samples": products(get_task(name)),
        }
        lines += _lines(name, penalised, plain, f"<= {ALLOWED}" if program == NATIVE else "")
        print(name, *(line.text for line in lines[-4:]), sep="   ", flush=True)
    remarks = (
        f"program {program}; milliseconds of one core for each slot of a full pack, the least of {TIMES * STRETCHES} "
        f"stretches of {STEPS} steps and of as many evaluations, of {TIMES * MORE_STRETCHES} for games of few numbers",
        "by default a trial has as many evaluations as its task's `evaluation_steps` allow, but five at least, which "
        "the median at its end is of, and 25 at most",
        "ns+gp1 and ns, or the task's own loss, n_critic 1: with a larger n_critic steps take several times as much, "
        "so the shares are smaller; an evaluation's time is that with a penalty",
        "an evaluation makes as many samples as its metric's name says, more where selection has its own: their "
        "products of matrices alone, in the details, take 1 ms for every 10^8 multiplications at 200 GFLOP/s",
    )
    found_all = Found(tuple(lines), remarks, details)
    found_all.show()
    return found_all


def _found(task: str, penalty: str, program: str, *, quick: bool) -> tuple[float, float] | None:
    """Milliseconds of a step and of an evaluation; None if another program trained."""
    periods, steps = (2, 1) if quick else (1 + TIMES * periods_of(task), STEPS)
    return stretches(_trials(task, penalty, periods=periods, steps=steps), program)


def _lines(name: str, penalised: tuple[float, float], plain: tuple[float, float], required: str) -> list[Line]:
    """What a task's milliseconds, with a penalty and without, come to."""
    parts = [evaluation / step for step, evaluation in (penalised, plain)]
    once, most = most_often(name, BUDGET, BUDGET), most_often(name, BUDGET, LONGEST)
    return [
        Line(f"{name}: an evaluation of one trial", penalised[1], "ms"),
        Line(f"{name}: evaluations of {BUDGET:,} steps", once * BUDGET, ""),
        *(
            Line(f"{name}: {what}", most * part, "x", required)
            for what, part in zip((WITH, WITHOUT), parts, strict=True)
        ),
    ]


def most_often(task: str, least: int, most: int) -> float:
    """Evaluations for each step, of budgets between two, of the one that has most of them by default."""
    budgets = (BudgetTable(steps=steps).settled(watched=False).of(task, 1) for steps in range(least, most + 1))
    return max(budget.evaluations / budget.steps for budget in budgets)


def products(task: Task) -> int:
    """Multiplications that make the samples of one trial's evaluation, as far as matrices tell."""
    return task.evaluation_samples * sum(
        shape[0] * shape[1] for shape in task.generator.shapes.values() if len(shape) == 2
    )


def _trials(task: str, penalty: str, *, periods: int, steps: int) -> list[Trial]:
    loss = (get_task(task).losses or ("ns",))[0]
    sweep = {
        "name": "evaluations",
        "tasks": [task],
        "methods": [f"{loss}{penalty}"],
        "budget": {"steps": periods * steps, "evaluations": periods},
        "space": {"override": {"lr": {"log_uniform": [1e-4, 1e-3]}, "n_critic": 1}},
        "design": {"kind": "random", "points": 64},
    }
    trials = expand(parse_sweep(sweep, source="evaluations"))
    return trials[: capacity_of(trials[0], "cpu")]

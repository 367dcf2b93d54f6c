"""What a step and an evaluation cost on one core, by task and program: the tables of `study/capacity.py`, to be pasted.

Whole packs are trained; what an update of one player costs follows from steps with one and with three updates of the
discriminator.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from itertools import pairwise

import torch

from benchmarks.record import Found, Line
from study.capacity import capacity_of
from study.native.build import missing
from study.plan import expand
from study.schema import NATIVE, RECORDED
from study.spec import parse_sweep
from study.tasks.table import TASKS, get_task
from study.train import PackState, train
from study.trial import Trial

STEPS = {RECORDED: 8, NATIVE: 100}
"""Of a stretch."""
STRETCHES = 4
TINY, MORE_STRETCHES = 64, 100
"""Parameters of a discriminator up to which steps take so little that there is time for more stretches."""
QUICK = ("dirac", "manifold-d2")
"""Tasks of a quick run."""


def run(*, quick: bool = False) -> Found:
    torch.set_num_threads(1)
    programs = (RECORDED,) if missing() else (RECORDED, NATIVE)
    tables: dict[str, dict[str, tuple[float, ...]]] = {name: {} for name in programs}
    for task in QUICK if quick else TASKS:
        for program in programs:
            found = costs(task, program, quick=quick)
            if found:
                tables[program][task] = found
        print(task, {name: table[task] for name, table in tables.items() if task in table}, flush=True)
    for name, table in tables.items():
        print(pasted(f"{name.upper()}_MILLISECONDS", table))
    remarks = (
        "milliseconds of one core for each slot, in packs of the capacity that the task has on a CPU, draws included",
        f"the least of {STRETCHES} stretches, of {MORE_STRETCHES} for games of a few numbers; a task whose steps "
        "cannot be compiled has no native costs",
    )
    found = Found(tuple(_lines(tables)), remarks, tables)
    found.show()
    return found


def _lines(tables: Mapping[str, Mapping[str, tuple[float, ...]]]) -> Iterator[Line]:
    for task, (_, penalised, generator, _) in tables.get(NATIVE, {}).items():
        _, before, other, _ = tables[RECORDED][task]
        what = f"{task}: a step with a penalty, recorded over native"
        yield Line(what, (before + other) / (penalised + generator), "x")


def costs(task: str, program: str, *, quick: bool) -> tuple[float, ...]:
    """Milliseconds of a discriminator update without and with a penalty, a generator update, an evaluation.

    Nothing where the program is not the one that trains the task.
    """
    loss = (get_task(task).losses or ("ns",))[0]
    plain, penalised = (_of_method(task, method, program, quick=quick) for method in (loss, f"{loss}+gp1"))
    return (plain[0], penalised[0], *plain[1:]) if plain and penalised else ()


def _of_method(task: str, method: str, program: str, *, quick: bool) -> tuple[float, float, float] | None:
    """A discriminator update, a generator update and an evaluation; None if another program trained."""
    found = [stretches(_trials(task, method, updates, program, quick=quick), program) for updates in (1, 3)]
    if None in found:
        return None
    (one, evaluation), (three, _) = [pair for pair in found if pair]
    discriminator = max(0.0, (three - one) / 2)
    return discriminator, max(0.0, one - discriminator), evaluation


def _trials(task: str, method: str, updates: int, program: str, *, quick: bool) -> list[Trial]:
    periods = 1 + (1 if quick else periods_of(task))
    sweep = {
        "name": "costs",
        "tasks": [task],
        "methods": [method],
        "budget": {"steps": periods * (1 if quick else STEPS[program]), "evaluations": periods},
        "space": {"override": {"lr": {"log_uniform": [1e-4, 1e-3]}, "n_critic": updates}},
        "design": {"kind": "random", "points": 64},
    }
    trials = expand(parse_sweep(sweep, source="costs"))
    return trials[: capacity_of(trials[0], "cpu")]


def periods_of(task: str) -> int:
    """Stretches that count."""
    return MORE_STRETCHES if get_task(task).discriminator.size <= TINY else STRETCHES


def stretches(trials: list[Trial], program: str) -> tuple[float, float] | None:
    """Processor milliseconds of a step and of an evaluation, for each slot; None if another program trained.

    The least of the stretches between evaluations, for a busy machine only adds; the first does not count.
    """
    marks: list[tuple[float, float]] = []  # when the last block before an evaluation had ended, and it
    trained = 0.0

    def after_block(_state: PackState) -> None:
        nonlocal trained
        trained = time.process_time()

    def after_evaluation(_state: PackState) -> None:
        marks.append((trained, time.process_time()))

    capacity = len(trials)
    callbacks = {"after_block": after_block, "after_evaluation": after_evaluation}
    state = train(trials, capacity=capacity, program=program, **callbacks)
    if state.program != program:
        return None
    each = capacity * trials[0].generator_steps / len(marks)
    training = min(block - before for (_, before), (block, _) in pairwise(marks))
    measuring = min(end - block for block, end in marks[1:])
    return 1000 * training / each, 1000 * measuring / capacity


def pasted(name: str, table: Mapping[str, tuple[float, ...]]) -> str:
    """A table as Python, with two significant digits."""
    rows = []
    for task, values in table.items():
        numbers = ", ".join(f"{float(f'{value:.2g}'):g}" for value in values)
        rows.append(f'    "{task}": ({numbers}),')
    return "\n".join([f"{name} = {{", *rows, "}"])

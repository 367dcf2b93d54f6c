"""Some runs together: their tables as frames, and the questions that can be asked of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from analysis import frames, performance_score, planes, questions, stochastic_order
from analysis.answers import Answer
from analysis.budgets import BudgetCurve
from analysis.claims import Verdict
from analysis.comparisons import Comparison
from analysis.dominance import Dominance, ProfileDifference
from analysis.intervals import Estimate
from analysis.performance_score import Performance
from analysis.profiles import Profile
from analysis.questions import Draws
from analysis.ranges import BoxDifference
from analysis.regions import Region
from analysis.results import Results
from analysis.sensitivity import Basin
from analysis.variance import Decomposition
from study.errors import UserError, unknown


@dataclass(frozen=True, repr=False)
class Runs:
    """Some runs, to be looked at and asked.

    Every question takes `task` and `run` by name; either may be left out where there is only one. Methods are named in
    full, e.g. "ns+gp1"; without any, all are meant. What is drawn at random comes from `rng`; without it from a
    generator with a fixed seed, so that the same question has the same answer, which is that of the report.

    Attributes:
        results: Name of each run, see the column `run`, to its results.
    """

    results: Mapping[str, Results]

    def __repr__(self) -> str:
        """The runs and how far they are."""
        counts = (f"{name}: {len(r.trials)} of {len(r.trials) + r.open} trials" for name, r in self.results.items())
        return f"Runs({', '.join(counts)})"

    # Tables

    @cached_property
    def trials(self) -> pd.DataFrame:
        """One row per run and planned trial; `columns` says what is in it.

        A trial without a result has a missing `status`. A failed one has no `primary`, but `success` False and
        `outcome` +inf: means of `primary` are means of what survived. The same trial in two sweeps has the same
        `trial_id`, and is there once for each run.
        """
        return frames.trials(self.results)

    @cached_property
    def plan(self) -> pd.DataFrame:
        """One row per run and planned trial, only with what was planned."""
        return frames.plan(self.results)

    @cached_property
    def history(self) -> pd.DataFrame:
        """One row per run, trial and evaluation; read from disk when it is first asked for."""
        return frames.history(self.results)

    @property
    def columns(self) -> pd.DataFrame:
        """What the columns of `trials` and `history` mean, with their types: a row each."""
        return frames.columns(self.results)

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks of all runs, in plan order."""
        return tuple(dict.fromkeys(task for results in self.results.values() for task in results.tasks))

    @property
    def methods(self) -> tuple[str, ...]:
        """Names of the methods of all runs, in plan order."""
        return tuple(dict.fromkeys(method for results in self.results.values() for method in results.methods))

    # Questions

    def summary(self, *, task: str | None = None, run: str | None = None) -> Answer[dict[str, object]]:
        """How the trials of each method ended, its success, log-AUC, failure rate and median, on all tasks or one."""
        results = self._run(run)
        return questions.overview(results, results.tasks if task is None else (_task(results, task),))

    def profile(
        self,
        *methods: str,
        task: str | None = None,
        run: str | None = None,
        band: str = "bootstrap",
        rng: Draws = None,
    ) -> Answer[Profile]:
        """Robustness profiles: the fraction of the prior at or below each value of the metric.

        Args:
            methods: Names of methods, all without any.
            task: Name of a task.
            run: Name of a run.
            band: "bootstrap", or "dkw", which is wider and always valid.
            rng: Source of the resampling.
        """
        return questions.profile(*self._one(task, run), methods, band=band, rng=rng)

    def success(self, *methods: str, task: str | None = None, run: str | None = None) -> Answer[Estimate]:
        """Success fractions with their intervals."""
        return questions.success(*self._one(task, run), methods)

    def log_auc(self, *methods: str, task: str | None = None, run: str | None = None) -> Answer[Estimate]:
        """Areas under the profiles over the logarithm of the metric, 0 to 1, with their intervals."""
        return questions.log_auc(*self._one(task, run), methods)

    def compare(self, *methods: str, task: str | None = None, run: str | None = None) -> Answer[Comparison]:
        """Paired differences of two methods, or of all pairs; a declared pair has its adjusted p and verdict."""
        return questions.compare(*self._one(task, run), methods)

    def difference(
        self, first: str, second: str, *, task: str | None = None, run: str | None = None, rng: Draws = None
    ) -> Answer[ProfileDifference | Dominance]:
        """The difference of two profiles at every threshold: whether one method is ahead at all of them."""
        return questions.difference(*self._one(task, run), first, second, rng=rng)

    def stochastic_order(
        self, first: str, second: str, *, task: str | None = None, run: str | None = None, rng: Draws = None
    ) -> Answer[Estimate]:
        """Almost stochastic order: how much of the distance between two methods' scores goes against the first."""
        return stochastic_order.asked(*self._one(task, run), first, second, rng=rng)

    def performance_score(
        self,
        *methods: str,
        run: str | None = None,
        tries: int = performance_score.TRIES,
        r_max: float = performance_score.R_MAX,
        unit: str | None = None,
    ) -> Answer[Performance]:
        """How near each method comes to the fastest one in steps to the threshold, over all tasks of a run.

        Args:
            methods: Names of methods to show, all without any; the fastest is sought among all of them.
            run: Name of a run.
            tries: Configurations that a search tries, at least 1.
            r_max: Ratio to the fastest from which on a task scores nothing, above 1.
            unit: "generator_steps", "discriminator_steps" or "updates"; None for what budgets are counted in.
        """
        return performance_score.asked(self._run(run), methods, tries=tries, r_max=r_max, unit=unit)

    def parts(
        self, first: str, second: str, *, task: str | None = None, run: str | None = None
    ) -> Answer[BoxDifference]:
        """The difference of two methods in parts of the prior: whether its sign depends on the range."""
        return questions.parts(*self._one(task, run), first, second)

    def budget(
        self, *methods: str, task: str | None = None, run: str | None = None, rng: Draws = None
    ) -> Answer[BudgetCurve]:
        """What the best of so many configurations gets."""
        return questions.budget(*self._one(task, run), methods, rng=rng)

    def sensitivity(self, word: str, *methods: str, task: str | None = None, run: str | None = None) -> Answer[Basin]:
        """Success along one hyperparameter, by the sweep file's word: "lr", "beta1", ..."""
        return questions.sensitivity(*self._one(task, run), word, methods)

    def importance(
        self,
        *methods: str,
        task: str | None = None,
        run: str | None = None,
        value: str = "utility",
        rng: Draws = None,
    ) -> Answer[object]:
        """Which hyperparameters decide, of the score ("utility"), the metric ("log_metric") or "success"."""
        return questions.importance(*self._one(task, run), methods, value=value, rng=rng)

    def map(
        self,
        x: str,
        y: str,
        *methods: str,
        task: str | None = None,
        run: str | None = None,
        event: str = "success",
    ) -> Answer[object]:
        """Success over two hyperparameters, by the sweep file's words, in cells; or "failure" as the event."""
        return planes.over_two(*self._one(task, run), x, y, methods, event=event)

    def tunability(self, *methods: str, run: str | None = None, rng: Draws = None) -> Answer[object]:
        """What is lost on each task by tuning a method once for all tasks of a run instead of for each."""
        return planes.transfer(self._run(run), methods, rng=rng)

    def learning(self, *methods: str, task: str | None = None, run: str | None = None) -> Answer[object]:
        """The success fraction as it was at earlier budgets."""
        return questions.learning(*self._one(task, run), methods)

    def spread(
        self, *methods: str, task: str | None = None, run: str | None = None, rng: Draws = None
    ) -> Answer[Decomposition]:
        """The variance of the score, split into that of configurations and of seeds."""
        return questions.spread(*self._one(task, run), methods, rng=rng)

    def region(
        self, *methods: str, task: str | None = None, run: str | None = None, rng: Draws = None
    ) -> Answer[Region]:
        """The safe region of each method: where in the prior it succeeds nine times in ten."""
        return questions.region(*self._one(task, run), methods, rng=rng)

    def claims(self, *, run: str | None = None) -> Answer[Verdict]:
        """The verdict on every claim that the sweep stated, with the number that decided; on all tasks."""
        return questions.claimed(self._run(run))

    def _one(self, task: str | None, run: str | None) -> tuple[Results, str]:
        results = self._run(run)
        return results, _task(results, task)

    def _run(self, run: str | None) -> Results:
        if run is None:
            if len(self.results) > 1:
                raise UserError(f"run= has to be given, as there are {len(self.results)}: {', '.join(self.results)}")
            return next(iter(self.results.values()))
        if run not in self.results:
            raise unknown("run", run, self.results)
        return self.results[run]


def _task(results: Results, task: str | None) -> str:
    """The task that is meant."""
    if task is None:
        if len(results.tasks) > 1:
            raise UserError(f"task= has to be given, as there are {len(results.tasks)}: {', '.join(results.tasks)}")
        return results.tasks[0]
    if task not in results.tasks:
        raise unknown("task", task, results.tasks)
    return task

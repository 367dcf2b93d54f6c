"""Stopping hopeless trials early: Ray Tune's schedulers say which, and their workers ask after each evaluation.

A trial that Tune itself stopped would be gone before its rows are written. So Tune is only asked: what it would stop is
noted in Ray's own key-value store, where the worker finds it, ends the trial and publishes it as any other.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from typing import Any

from study.store import SWEEP, RunDirectory
from study.trial import Trial, digest

TIME, VALUE, STUDY = "evaluation", "value", "study"
"""What a worker reports: evaluations done, the primary value at the last, and what the trial is compared with."""

EARLIEST = 5
"""Part of the evaluations, as a divisor, before which nothing is stopped unless the file says otherwise."""


def pruner_of(root: str) -> dict[str, Any] | None:
    """The pruner that a run's sweep file asks for, with its options; None for none.

    Args:
        root: The run directory.
    """
    content = tomllib.loads((RunDirectory(root).read(SWEEP) or b"").decode())
    search = content.get("search", {})
    if search.get("pruner", "none") == "none":
        return None
    evaluations = content["budget"]["evaluations"]
    grace = {"grace_period": max(1, evaluations // EARLIEST)}
    return {"name": search["pruner"], "evaluations": evaluations, "options": grace | search.get("pruner_options", {})}


def pruning(base: Any, pruner: Mapping[str, Any] | None) -> Any:
    """A scheduler that also says which trials are hopeless among those of their study.

    Args:
        base: The scheduler that it would be without.
        pruner: As `pruner_of` gives it.
    """
    if pruner is None:
        return base
    from ray.experimental.internal_kv import _internal_kv_del, _internal_kv_put
    from ray.tune.schedulers import TrialScheduler

    how, studies, known = dict(pruner), dict[str, Any](), set[str]()

    class Pruning(type(base)):  # type: ignore[misc]  # of whatever the scheduler is
        """Asks a scheduler of Tune's for each study.

        What is noted is of one try at a pack: where that ends in an error, or its driver dies, the next one is not to
        find it.
        """

        def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
            _internal_kv_del(_key(trial.config["pack"]))
            super().on_trial_add(tune_controller, trial)

        def on_trial_result(self, tune_controller: Any, trial: Any, result: Any) -> str:
            if STUDY not in result:
                return str(TrialScheduler.CONTINUE)
            asked = studies.setdefault(result[STUDY], _scheduler(how))
            if trial.trial_id not in known:
                known.add(trial.trial_id)
                asked.on_trial_add(tune_controller, trial)
            if asked.on_trial_result(tune_controller, trial, result) == TrialScheduler.STOP:
                _internal_kv_put(_key(trial.config["pack"]), b"1")
            return str(TrialScheduler.CONTINUE)

        def on_trial_complete(self, tune_controller: Any, trial: Any, result: Any) -> None:
            _internal_kv_del(_key(trial.config["pack"]))
            super().on_trial_complete(tune_controller, trial, result)

        def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
            _internal_kv_del(_key(trial.config["pack"]))
            super().on_trial_error(tune_controller, trial)

    return Pruning()


def _scheduler(pruner: Mapping[str, Any]) -> Any:
    """Tune's scheduler by the name that a sweep file gives it."""
    from ray.tune.schedulers import AsyncHyperBandScheduler, MedianStoppingRule

    named: dict[str, Any] = {"metric": VALUE, "mode": "min", "time_attr": TIME}
    if pruner["name"] == "median":
        return MedianStoppingRule(**named, **pruner["options"])
    return AsyncHyperBandScheduler(**named, max_t=pruner["evaluations"], **pruner["options"])


def _key(pack: str) -> str:
    return f"manypaths-stop-{pack}"


def question(pack: str) -> Callable[[Trial, int, float], bool]:
    """What the worker of a pack asks after each evaluation: whether to end its trial; see `study.worker.Stop`."""
    from ray import tune
    from ray.experimental.internal_kv import _internal_kv_get

    def stop(trial: Trial, evaluations: int, value: float) -> bool:
        study = digest([str(part) for part in trial.structure])
        tune.report({STUDY: study, TIME: evaluations, VALUE: value})  # comes back when Tune has decided
        return _internal_kv_get(_key(pack)) is not None

    return stop

"""Which of the packs that wait Tune gives to a worker that is free."""

from __future__ import annotations

from typing import Any


def sparing() -> Any:
    """A scheduler that runs packs in the order in which they were named, and lets workers get ready.

    Tune starts a process for each pack that waits, as far as there is room, and ends it when a worker that is free
    takes the pack. Its own scheduler gives such a worker the first pack, for which a process was started first: where
    packs take less time than processes need to start, no second worker ever gets ready.
    """
    from ray.tune.experiment import Trial
    from ray.tune.schedulers import FIFOScheduler

    class Sparing(FIFOScheduler):
        """Gives a worker that is free the first pack for which no process is being started."""

        def __init__(self) -> None:
            super().__init__()
            self._waiting: dict[str, Any] = {}

        def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
            self._waiting[trial.trial_id] = trial

        def choose_trial_to_run(self, tune_controller: Any) -> Any:
            for trial in list(self._waiting.values()):
                if trial.status != Trial.PENDING:
                    del self._waiting[trial.trial_id]
            controller, trials = tune_controller._tune_controller, list(self._waiting.values())
            starts, actors = controller._actor_manager.is_actor_started, controller._trial_to_actor
            unstarted = (trial for trial in trials if trial not in actors or not starts(actors[trial]))
            return next(unstarted, trials[-1] if trials else None)

    return Sparing()

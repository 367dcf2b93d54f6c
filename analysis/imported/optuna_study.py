"""An Optuna study, from its database or its journal, as a source. Nothing is written to either."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from analysis.imported.declared import Declaration
from analysis.imported.source import LOST, PENDING, Source, cells_of, ends_of
from analysis.imported.source import trials as in_words
from search_spaces.adaptive import quiet
from search_spaces.domains import Choice, Domain, Fixed, LogUniform, Uniform
from study.errors import UserError, unknown
from study.schema import Status

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.storages import BaseStorage
    from optuna.study import Study
    from optuna.trial import FrozenTrial

ATTRIBUTE = "user:"
"""What precedes a user attribute's name, so that it differs from a parameter's."""

STUDY = "study"
"""The column with the study's name."""

MARKS = {
    "tpe:": "tpe",
    "gp:": "gp",
    "cma:": "cmaes",
    "sepcma:": "cmaes",
    "cmawm:": "cmaes",
    "NSGAIISampler:": "nsga2",
    "NSGAIIISampler:": "nsga3",
    "nsga2:": "nsga2",
    "nsga3:": "nsga3",
    "BaseGASampler:": "genetic",
}
"""What the attributes begin with that a sampler which looks at results leaves at trials."""

PASSWORD, HIDDEN = re.compile(r"(://[^:/@]*:)[^@/]*@"), r"\1***@"
"""A password in the address of a storage, and what reports show of it."""

SQLITE = b"SQLite format 3\0"
"""What such a file begins with."""

GRID, QMC, FIXED, RETRIED = "grid_id", "qmc:", "fixed_params", "retry_history"


def read_studies(origin: str, names: Sequence[str], declaration: Declaration) -> Source:
    """Read one study, or several as methods of one run.

    Args:
        origin: A storage's address such as sqlite:///study.db, or the path of a journal.
        names: Names of studies; may be left out where there is only one.
        declaration: Decides what a failed trial counts as.

    Raises:
        UserError: If there is no such storage or study, a study has several objectives, or they disagree about what
            is better.
    """
    with quiet():
        storage = _storage(origin)
        studies = [_open(storage, name) for name in _names(storage, origin, names)]
        return _source(origin, studies, _marks(storage, studies), declaration)


def _storage(origin: str) -> BaseStorage:
    import optuna
    from optuna.storages.journal import JournalFileBackend, JournalStorage

    path = Path(origin.removeprefix("sqlite:///") if origin.startswith("sqlite:///") else origin)
    if ("://" not in origin or origin.startswith("sqlite:///")) and not path.is_file():
        raise UserError(f"there is no file {path}: give a storage's address, e.g. sqlite:///study.db, or a journal")
    if "://" not in origin and _is_sqlite(path):
        raise UserError(f"{origin} is an SQLite database, not a journal: did you mean sqlite:///{origin}?")
    try:
        if "://" in origin:
            return optuna.storages.RDBStorage(origin, skip_table_creation=True)
        return JournalStorage(JournalFileBackend(origin))
    except Exception as error:  # noqa: BLE001  # every database has exceptions of its own
        raise UserError(f"cannot read {origin} as an Optuna storage: {_first(error)}") from None


def _is_sqlite(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(SQLITE)) == SQLITE


def _names(storage: BaseStorage, origin: str, names: Sequence[str]) -> list[str]:
    import optuna

    try:
        found = sorted(optuna.get_all_study_names(storage))
    except Exception as error:  # noqa: BLE001  # as above
        raise UserError(f"cannot read {origin} as an Optuna storage: {_first(error)}") from None
    if not found:
        raise UserError(f"{origin} has no study")
    if not names and len(found) > 1:
        raise UserError(f"{origin} has {len(found)} studies: give --study NAME, one or more of {', '.join(found)}")
    for name in names:
        if name not in found:
            raise unknown(f"study in {origin}:", name, found)
    return list(names or found)


def _open(storage: BaseStorage, name: str) -> Study:
    import optuna

    study = optuna.load_study(study_name=name, storage=storage)
    if len(study.directions) > 1:
        raise UserError(f"study {name!r} has {len(study.directions)} objectives: only studies with one can be imported")
    return study


def _marks(storage: BaseStorage, studies: Sequence[Study]) -> set[str]:
    """What samplers left at the studies themselves."""
    ids = [storage.get_study_id_from_name(study.study_name) for study in studies]
    return {key for study_id in ids for key in storage.get_study_system_attrs(study_id)}


def _source(origin: str, studies: Sequence[Study], marks: set[str], declaration: Declaration) -> Source:
    from optuna.study import StudyDirection
    from optuna.trial import TrialState

    trials = [(study, trial) for study in studies for trial in study.get_trials(deepcopy=False)]
    directions = {study.direction for study in studies}
    if len(directions) > 1:
        raise UserError("one of the studies is minimised and another maximised: import them apart")
    superseded = {
        (study.study_name, number) for study, trial in trials for number in trial.system_attrs.get(RETRIED, ())
    }
    waiting = [trial for _, trial in trials if trial.state == TrialState.WAITING]
    kept = [
        (study, trial)
        for study, trial in trials
        if trial.state != TrialState.WAITING and (study.study_name, trial.number) not in superseded
    ]
    if not kept:
        raise UserError(f"{origin} has no trials in {', '.join(study.study_name for study in studies)}")
    found = [trial for _, trial in kept]
    return Source(
        kind="optuna",
        origin=f"{', '.join(study.study_name for study in studies)} in {PASSWORD.sub(HIDDEN, origin)}",
        name="-".join(study.study_name for study in studies).replace("/", "-").replace(" ", "-"),
        cells=cells_of([_cells(study, trial) for study, trial in kept]),
        hyperparameters=tuple(dict.fromkeys(name for trial in found for name in trial.params)),
        metric=declaration.metric or (studies[0].metric_names or ["value"])[0],
        ends=ends_of(
            [_value(trial) for trial in found],
            statuses=[_status(trial, declaration) for trial in found],
            reasons=[_reason(trial) for trial in found],
            steps=[float(trial.last_step) if trial.last_step is not None else math.nan for trial in found],
            drawn=[FIXED not in trial.system_attrs or RETRIED in trial.system_attrs for trial in found],
        ),
        maximise=directions.pop() == StudyDirection.MAXIMIZE,
        sampler=_sampler(marks, found),
        history=_history(found),
        domains=_domains(found),
        remarks=(*_remarks(waiting, superseded), *_counted(found, declaration)),
    )


def _cells(study: Study, trial: FrozenTrial) -> dict[str, Any]:
    params = {name: "None" if value is None else value for name, value in trial.params.items()}
    return params | {ATTRIBUTE + name: value for name, value in trial.user_attrs.items()} | {STUDY: study.study_name}


def _value(trial: FrozenTrial) -> float:
    return float(trial.values[0]) if trial.state.is_finished() and trial.values else math.nan


def _status(trial: FrozenTrial, declaration: Declaration) -> str | None:
    from optuna.trial import TrialState

    if trial.state == TrialState.FAIL:
        return declaration.errors or Status.DIVERGED.value
    states = {TrialState.COMPLETE: None, TrialState.PRUNED: Status.STOPPED.value, TrialState.RUNNING: PENDING}
    return states[trial.state]


def _reason(trial: FrozenTrial) -> str | None:
    from optuna.trial import TrialState

    reasons = {TrialState.FAIL: "failed in Optuna", TrialState.PRUNED: "pruned in Optuna"}
    return reasons.get(trial.state)


def _sampler(marks: set[str], trials: Sequence[FrozenTrial]) -> str | None:
    """The sampler that left its marks; one that looks at results goes first. Random search leaves none."""
    keys = {key for trial in trials for key in trial.system_attrs}
    for mark, name in MARKS.items():
        if any(key.startswith(mark) for key in keys):
            return name
    if GRID in keys:
        return "grid"
    return "sobol" if any(key.startswith(QMC) for key in marks) else None


def _history(trials: Sequence[FrozenTrial]) -> pd.DataFrame | None:
    rows = [
        (place, step, value) for place, trial in enumerate(trials) for step, value in trial.intermediate_values.items()
    ]
    return pd.DataFrame(rows, columns=["trial", "step", "value"]) if rows else None


def _domains(trials: Sequence[FrozenTrial]) -> dict[str, Domain]:
    """Each parameter's domain; of one that changed while the study ran, all that it ever was."""
    seen: dict[str, dict[BaseDistribution, None]] = {}
    for trial in trials:
        for name, distribution in trial.distributions.items():
            seen.setdefault(name, {})[distribution] = None
    return {name: _domain(list(forms)) for name, forms in seen.items()}


def _domain(forms: Sequence[BaseDistribution]) -> Domain:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(forms[0], CategoricalDistribution):
        return Choice(tuple(_choice(value) for value in forms[0].choices))
    ranges = [form for form in forms if isinstance(form, FloatDistribution | IntDistribution)]
    low, high = min(form.low for form in ranges), max(form.high for form in ranges)
    if low == high:
        return Fixed(low)
    kind = LogUniform if ranges[0].log else Uniform
    return kind(float(low), float(high))


def _choice(value: object) -> float | int | str:
    if isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, int | float | str) else str(value)


def _remarks(waiting: Sequence[FrozenTrial], superseded: set[tuple[str, int]]) -> Iterator[str]:
    if waiting:
        yield f"{in_words(len(waiting))} still waiting, without a configuration, left out"
    if superseded:
        yield f"{in_words(len(superseded))} tried again by Optuna left out: the last attempt of each counts"


def _counted(trials: Sequence[FrozenTrial], declaration: Declaration) -> Iterator[str]:
    """How many trials have no value that counts, and what they count as."""
    from optuna.trial import TrialState

    count = Counter(trial.state for trial in trials)
    if count[TrialState.FAIL]:
        as_what = (
            "lost, which leaves the outcome open"
            if declaration.errors == LOST
            else "diverged; --errors lost leaves their outcome open"
        )
        yield f"{in_words(count[TrialState.FAIL])} failed in Optuna: failures count as {as_what}"
    if count[TrialState.PRUNED]:
        yield f"{in_words(count[TrialState.PRUNED])} pruned: these count as stopped, which leaves the outcome open"
    if count[TrialState.RUNNING]:
        yield f"{in_words(count[TrialState.RUNNING])} still running: these are pending, without an outcome"


def _first(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]

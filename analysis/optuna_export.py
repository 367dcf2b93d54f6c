"""A run as Optuna studies, one per task and method: what optuna-dashboard and Optuna's own analyses start from."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.imported.optuna_study import HIDDEN, PASSWORD, SQLITE
from analysis.imported.source import trials as in_words
from analysis.optuna_drafts import ADAPTIVE, Draft, drafts
from analysis.results import Results
from search_spaces.adaptive import quiet
from study.errors import UserError

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from optuna.study import Study
    from optuna.trial import FrozenTrial

NO_MEMORY = ("sqlite://", "sqlite:///", "sqlite:///:memory:")
"""Addresses of a database that ends with the process."""

DATABASES = (".db", ".sqlite", ".sqlite3")
"""How a database's file is called, which is no journal."""

PACKAGES = {"MySQLdb": "mysqlclient"}
"""Module of a database to what pip calls it, where that is not the same."""

LINE = 1_000_000
"""Bytes that are read of a file at most to see what it is."""


@dataclass(frozen=True)
class Exported:
    """A study that is in the storage.

    Attributes:
        study: Its name.
        states: Optuna's state to the number of its trials.
        missing: Trials without an outcome, which are left out.
        written: False where the storage had exactly this study.
    """

    study: str
    states: Mapping[str, int]
    missing: int
    written: bool


def export_studies(results: Results, address: str, *, overwrite: bool = False) -> tuple[Exported, ...]:
    """Write a run's trials into an Optuna storage, a study per task and method.

    Args:
        results: The results.
        address: A database's URL such as sqlite:///x.db, or the path of a journal.
        overwrite: Whether studies of the same names that differ are replaced.

    Returns:
        The studies, in the order of the plan; a method without any outcome has none.

    Raises:
        UserError: If no trial has ended, the storage cannot be written, or it has other studies of these names.
    """
    found = drafts(results)
    with quiet(), _open(address) as storage, _told(address):
        there = [_existing(storage, draft) for draft in found]
        same = [study is not None and _same(study, draft) for study, draft in zip(there, found, strict=True)]
        differing = [d.name for d, s, equal in zip(found, there, same, strict=True) if s is not None and not equal]
        if differing and not overwrite:
            raise UserError(
                f"{PASSWORD.sub(HIDDEN, address)} has a study {differing[0]!r} with other trials: "
                "give --overwrite to replace it, or another storage"
            )
        for draft, equal in zip(found, same, strict=True):
            if not equal:
                _write(storage, draft, replace=draft.name in differing)
    return tuple(
        Exported(draft.name, Counter(trial.state.name for trial in draft.trials), draft.missing, not equal)
        for draft, equal in zip(found, same, strict=True)
    )


@contextmanager
def _told(address: str) -> Iterator[None]:
    """Whatever a storage raises, in one sentence."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # noqa: BLE001  # every database has exceptions of its own
        cause = error.__cause__ or error
        reason = (str(cause).splitlines() or [type(cause).__name__])[0]
        if isinstance(cause, ModuleNotFoundError) and cause.name:
            reason = f"it needs a package that is not installed: pip install {PACKAGES.get(cause.name, cause.name)}"
        raise UserError(PASSWORD.sub(HIDDEN, f"cannot write studies into {address}: {reason}")) from None


@contextmanager
def _open(address: str) -> Iterator[BaseStorage]:
    from optuna.storages import RDBStorage
    from optuna.storages.journal import JournalFileBackend, JournalStorage

    _check(address)
    with _told(address):
        storage = RDBStorage(address) if "://" in address else JournalStorage(JournalFileBackend(address))
    try:
        yield storage
    finally:
        if isinstance(storage, RDBStorage):
            storage.remove_session()
            storage.engine.dispose()


def _check(address: str) -> None:
    """Refuse what would keep nothing, and a file that is something else."""
    if address in NO_MEMORY:
        raise UserError(f"{address} names no file, so nothing would remain: give e.g. sqlite:///study.db")
    if "://" in address:
        return
    path, start = Path(address), b""
    if path.is_file():
        with _told(address), path.open("rb") as file:
            start = file.readline(LINE)
    if start.startswith(SQLITE) or path.suffix in DATABASES:
        raise UserError(f"{address} is an SQLite database, not a journal: did you mean sqlite:///{address}?")
    if start and not _is_journal(start):
        raise UserError(f"{address} is a file of something else: give sqlite:///FILE.db, or a new journal's name")


def _is_journal(line: bytes) -> bool:
    with suppress(ValueError):
        found = json.loads(line)
        return isinstance(found, dict) and "op_code" in found
    return False


def _existing(storage: BaseStorage, draft: Draft) -> Study | None:
    """The storage's study of the same name."""
    import optuna

    with suppress(KeyError):
        return optuna.load_study(study_name=draft.name, storage=storage)
    return None


def _same(study: Study, draft: Draft) -> bool:
    """Whether a study has just these trials; when they were exported makes no difference."""
    theirs = study.get_trials(deepcopy=False)
    return study.user_attrs == dict(draft.attributes) and list(map(_content, theirs)) == list(
        map(_content, draft.trials)
    )


def _content(trial: FrozenTrial) -> tuple[object, ...]:
    found = (trial.state, trial.values, trial.params, trial.distributions, trial.user_attrs)
    return (*found, trial.intermediate_values)


def _write(storage: BaseStorage, draft: Draft, *, replace: bool) -> None:
    """Write a study; one that could not be written whole is taken out again."""
    import optuna

    if replace:
        optuna.delete_study(study_name=draft.name, storage=storage)
    study = optuna.create_study(study_name=draft.name, storage=storage, direction="minimize")
    try:
        study.set_metric_names([draft.metric])
        for name, value in draft.attributes.items():
            study.set_user_attr(name, value)
        study.add_trials(draft.trials)
    except BaseException:
        with suppress(Exception):  # the first error is the one to tell
            optuna.delete_study(study_name=draft.name, storage=storage)
        raise


def sentences(results: Results, studies: Sequence[Exported]) -> Iterator[str]:
    """What was left out, was there already, or must be known, in words."""
    names = {study.study for study in studies}
    cells = [f"{results.name}/{task}/{method}" for task in results.tasks for method in results.methods_of(task)]
    empty = [name for name in cells if name not in names]
    if empty:
        yield f"no trial has ended of {', '.join(empty)}: no study"
    missing = sum(study.missing for study in studies)
    if missing:
        yield f"{in_words(missing)} without an outcome left out of the studies"
    same = sum(not study.written for study in studies)
    if same:
        yield f"{same} of {len(studies)} studies were there already, with the same trials"
    if results.adaptive:
        yield ADAPTIVE.format(sampler=results.adaptive)


def as_json(studies: Sequence[Exported]) -> list[dict[str, object]]:
    """The studies as JSON holds them."""
    return [
        {"study": study.study, "trials": dict(study.states), "missing": study.missing, "written": study.written}
        for study in studies
    ]

"""Running a sweep: prepare the run directory, do what is missing, say how it stands."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from search_spaces.domains import Value
from search_spaces.hyperparameters import HYPERPARAMETERS
from study import user_files
from study.claims import refuse_small_regions
from study.errors import UserError, unknown
from study.executor import Executor
from study.lease import lease
from study.manifest import controls, foreign_entry, manifest
from study.parquet import read_design_table
from study.parts import MERGED
from study.plan import Packs, draws_architecture, expand, needed_columns, pack
from study.progress import Tally
from study.records import metric_columns, plan_table
from study.schema import ENGINE_EPOCH, SCHEMA_VERSION
from study.search import slots
from study.spec import Sweep, read_sweep, to_toml
from study.statements import Counts, brought_up_to_date, counted, statements
from study.stopping import in_time
from study.store import MANIFEST, SWEEP, RunDirectory
from study.trials import Trials

if TYPE_CHECKING:
    from study.searching import Search

NVIDIA = ("/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/dxg", "/dev/nvhost-gpu", "/dev/kfd")
"""One of these exists on Linux wherever torch can find a GPU: a driver's, Windows' below WSL, Tegra's, AMD's."""


@dataclass(frozen=True)
class Prepared:
    """A run directory ready to run.

    Attributes:
        directory: The run directory, whose plan covers the sweep.
        packs: Every planned pack and its trials' number, in plan order.
        missing: Packs without rows, in plan order.
        remarks: What was noticed on the way, one sentence each.
    """

    directory: RunDirectory
    packs: Mapping[str, int]
    missing: tuple[str, ...]
    remarks: tuple[str, ...]


class Watch(Protocol):
    """Counts, and may show, the progress of some packs while a block runs."""

    def __call__(
        self, directory: RunDirectory, packs: Mapping[str, int], *, quiet: bool
    ) -> AbstractContextManager[Tally]:
        """Watch the packs of a run directory, silently if asked."""
        ...


def load(path: Path) -> tuple[Sweep, Trials]:
    """Read a sweep file and expand it; of one that searches, the trials are the slots that it will fill.

    Raises:
        UserError: For anything in the file or its design table that may not be.
    """
    sweep = read_sweep(path)
    table = _design_rows(sweep, path.parent) if sweep.design.table else None
    try:
        trials = expand(sweep, table) if sweep.search is None else slots(sweep, resolve_device(sweep))
        refuse_small_regions(sweep.stated, trials)
        return sweep, trials
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _design_rows(sweep: Sweep, folder: Path) -> list[dict[str, Value]]:
    path = folder / str(sweep.design.table)
    rows = read_design_table(path)
    for file in user_files.files_in({str(row.get("network")) for row in rows}):
        user_files.provide_from(folder, file)
    for name in rows[0]:
        if name not in HYPERPARAMETERS:
            raise unknown(f"column in design table {path}:", name, HYPERPARAMETERS)
    missing = [name for name in needed_columns(sweep) if name not in rows[0]]
    if missing:
        raise UserError(
            f"the design table {path} has no column {missing[0]}: the space draws {missing[0]}, so the table has to "
            f"hold it, or [space.override] to fix it"
        )
    return rows


def resolve_device(sweep: Sweep) -> str:
    """The kind of device that packs are planned for: cuda where there is one, unless the file says otherwise."""
    if sweep.execution.device != "auto":
        return sweep.execution.device
    if sys.platform == "linux" and not any(Path(path).exists() for path in NVIDIA):
        return "cpu"  # without asking torch, whose import takes seconds
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def packs_of(sweep: Sweep, trials: Trials) -> Packs:
    """The packs of a sweep on the device it asks for."""
    # architectures that are drawn hardly ever meet their like: packs would stay empty
    chosen = 1 if draws_architecture(sweep) else None
    capacity = chosen if sweep.execution.pack == "auto" else sweep.execution.pack
    return pack(trials, capacity=capacity, device=resolve_device(sweep))


def prepare(directory: RunDirectory, sweep: Sweep, trials: Trials, search: Search | None = None) -> Prepared:
    """Make or check the run directory, and plan whatever its plan lacks.

    Args:
        directory: The run directory.
        sweep: The sweep.
        trials: Its trials, or the slots of one that searches.
        search: Asks for the trials of the latter.

    Raises:
        UserError: If the directory holds something else, or a plan that the sweep does not contain, or cannot be
            written.
    """
    remarks: list[str] = []
    try:
        _check_owner(directory, sweep)
        broken = _broken_results(directory)
        remarks += _drop_broken_plans(directory)
        if directory.parts("trials") and directory.read_json(MANIFEST) is None:
            directory.write_json(MANIFEST, manifest(sweep))
            remarks.append(f"{directory}/{MANIFEST} was missing or broken: written anew")
        counts, (rows, whole) = _counts(directory), _finished(directory)
        planned = trials if search is None else search.begin()
        if directory.parts("plan"):
            remarks += _extend(directory, sweep, planned)
            _note_controls(directory, sweep)
        else:
            directory.write_json(MANIFEST, manifest(sweep))
            write_plan(directory, sweep, packs_of(sweep, planned))
        remarks += _note_statements(directory, sweep, rows, counts, counted(trials.cells()))
        user_files.ship(directory, _files_of(trials))
        if directory.read(SWEEP) != to_toml(sweep).encode():
            directory.publish(SWEEP, to_toml(sweep).encode())
    except OSError as error:
        raise UserError(f"cannot write to the run directory {directory}: {error.strerror or error}") from None
    packs = _grouped(directory, "pack")
    remarks += [
        f"{directory}/{table}/{name}.parquet is not a whole Parquet file: its pack runs again"
        for table, name in broken
        if name in packs
    ]
    done = (whole & set(directory.parts("history"))) - {name for _, name in broken}
    missing = tuple(name for name in packs if name not in done)
    return Prepared(directory, packs, missing, tuple(remarks))


def _files_of(trials: Trials) -> list[str]:
    """The users' files that some trials are made of."""
    texts = {text for trial in trials.kinds for text in (trial.task, trial.method, trial.hyperparameters.network or "")}
    return sorted(user_files.files_in(texts))


def _broken_results(directory: RunDirectory) -> list[tuple[str, str]]:
    """Table and name of files that are not whole; the pack of each runs again.

    Raises:
        UserError: If it is one that many packs were merged into: whether to train them all again is not ours to say.
    """
    broken = [(table, name) for table in ("history", "trials") for name in directory.broken_parts(table)]
    for table, name in broken:
        if name.startswith(MERGED):
            raise UserError(
                f"{directory}/{table}/{name}.parquet holds the rows of many packs and is not a whole Parquet file: put "
                f"a copy of it back, or let `manypaths doctor {directory} --repair` remove it, and then "
                "`manypaths run` trains its packs again"
            )
    return broken


def _drop_broken_plans(directory: RunDirectory) -> list[str]:
    """Remove plan parts that are not whole: the plan is a function of the file, which plans them again."""
    broken = directory.broken_parts("plan")
    for name in broken:
        directory.remove(f"plan/{name}.parquet")
    return [
        f"{directory}/plan/{name}.parquet is not a whole Parquet file: planned again from the file" for name in broken
    ]


def _check_owner(directory: RunDirectory, sweep: Sweep) -> None:
    foreign = foreign_entry(directory)
    if foreign:
        raise UserError(f"{directory} holds {foreign!r}, which is not a run's: choose an empty or new --out")
    found = directory.read_json(MANIFEST)
    if found and found["schema_version"] > SCHEMA_VERSION:
        raise UserError(
            f"{directory} has schema version {found['schema_version']}, this manypaths writes {SCHEMA_VERSION}: "
            "use the newer manypaths or another --out"
        )
    if found and found["sweep"] != sweep.name:
        raise UserError(
            f"{directory} holds the results of sweep {found['sweep']!r}, not {sweep.name!r}: choose another --out"
        )


def _finished(directory: RunDirectory) -> tuple[int, set[str]]:
    """How many trials have a row that can be read, and their packs."""
    rows, packs = 0, set[str]()
    for part in directory.readable_parts("trials", ["trial_id"]):
        rows += part.table.num_rows
        packs.update(part.packs)
    return rows, packs


def _grouped(directory: RunDirectory, *columns: str) -> dict[Any, int]:
    """The planned trials by some columns, in plan order."""
    found = directory.read_table("plan", columns).group_by(list(columns), use_threads=False)
    counts = found.aggregate([([], "count_all")]).to_pydict()
    keys = counts[columns[0]] if len(columns) == 1 else zip(*(counts[name] for name in columns), strict=True)
    return dict(zip(keys, counts["count_all"], strict=True))


def _extend(directory: RunDirectory, sweep: Sweep, trials: Trials) -> list[str]:
    old = np.array(directory.read_table("plan", ["trial_id"])["trial_id"].to_pylist(), np.bytes_)
    new = trials.columns["trial_id"]
    if len(old) == len(new) and np.array_equal(np.sort(old), np.sort(new)):
        return []
    if not np.isin(old, new).all():
        raise UserError(
            f"{directory} was begun with another plan: {_first_difference(directory, sweep)}; "
            f"a plan may only grow, so choose another --out"
        )
    extra = trials.take(~np.isin(new, old))
    metrics = metric_columns(sorted({kind.task for kind in trials.kinds}))
    for table in ("history", "trials"):
        directory.widen(table, metrics)
    write_plan(directory, sweep, packs_of(sweep, extra))
    return [f"the file plans {len(extra)} trials more than {directory} was begun with: they are appended"]


def _note_controls(directory: RunDirectory, sweep: Sweep) -> None:
    """Add the controls of tasks that the manifest does not have yet; what it has stays."""
    noted = directory.read_json(MANIFEST) or {}
    before = noted.get("controls", {})
    after = controls(sweep) | before
    if after != before:
        directory.write_json(MANIFEST, noted | {"controls": after})


def _counts(directory: RunDirectory) -> Counts:
    """The planned trials that the manifest remembers; where it does not, those of the plan."""
    noted: Counts = (directory.read_json(MANIFEST) or {}).get("planned", {})
    return noted or counted(_grouped(directory, "task", "method"))


def _note_statements(directory: RunDirectory, sweep: Sweep, rows: int, before: Counts, after: Counts) -> list[str]:
    """Remember what was stated before any result, what came or went later, and how the plan grew in between."""
    noted = directory.read_json(MANIFEST) or {}
    stored = {} if "stated" in noted else tomllib.loads((directory.read(SWEEP) or b"").decode())
    stated = statements(sweep.stated, sweep.confirmatory)
    told, remarks = brought_up_to_date(noted, stated, stored.get("confirmatory", []), rows, before, after)
    if told != noted:
        directory.write_json(MANIFEST, told)
    return remarks


def _first_difference(directory: RunDirectory, sweep: Sweep) -> str:
    before = flat(tomllib.loads((directory.read(SWEEP) or b"").decode()))
    now = flat(tomllib.loads(to_toml(sweep)))
    ignored = ("notice", "confirmatory", "claims", "ranges", "execution")
    for key in [*before, *(key for key in now if key not in before)]:
        old, new = before.get(key, "not set"), now.get(key, "not set")
        if old != new and not key.startswith(ignored):
            way = f" (with {key} = {old} in the file it goes on)" if new == "auto" else ""
            return f"{key} was {old} and is {new}{way}"
    return (
        "the same file gave other trials there (a file of yours that it names, your images, its design table, a task's "
        f"version or the engine's epoch is another; here {ENGINE_EPOCH})"
    )


def flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The content of a sweep file, setting by setting, with dotted keys."""
    found: dict[str, Any] = {}
    for key, value in content.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return found


def write_plan(directory: RunDirectory, sweep: Sweep, packs: Packs) -> None:
    """Add a part to the plan of a run."""
    last = max((int(part) for part in directory.parts("plan") if part.isdigit()), default=-1)
    directory.write_part("plan", f"{last + 1:04d}", plan_table(packs, sweep.name))


@in_time
def run_sweep(
    directory: RunDirectory,
    sweep: Sweep,
    trials: Trials,
    executor: Executor,
    *,
    watch: Watch,
    say: Callable[[str], None],
) -> tuple[Prepared, Tally]:
    """Run whatever a sweep lacks.

    Args:
        directory: The run directory.
        sweep: The sweep.
        trials: Its trials.
        executor: Where packs run.
        watch: A context manager that counts, and may show, progress while packs run; `study.progress.live`.
        say: Told each remark, one sentence.

    Returns:
        The run directory as it was found, and the counts at the end.

    Raises:
        UserError: As `prepare`, and if another driver is at work.
        KeyboardInterrupt: If asked to stop.
    """
    try:
        _check_owner(directory, sweep)
        with lease(directory):
            search = _search(directory, sweep)
            prepared = prepare(directory, sweep, trials, search)
            prepared = search.prepared(prepared) if search else prepared
            for remark in prepared.remarks:
                say(remark)
            with watch(directory, prepared.packs, quiet=not prepared.missing) as tally:
                if prepared.missing:
                    executor.run(directory, prepared.missing, after=search.after if search else None)
            return search.ended(prepared) if search else prepared, tally
    except OSError as error:
        raise UserError(f"cannot write to the run directory {directory}: {error.strerror or error}") from None


def _search(directory: RunDirectory, sweep: Sweep) -> Search | None:
    if sweep.search is None:
        return None
    from study.searching import Search  # which is made of this module's parts

    return Search(directory, sweep)


def lost(prepared: Prepared) -> int:
    """Trials of a run that have no row now; packs that had theirs at the beginning are not looked at again."""
    if not prepared.missing:
        return 0
    parts = prepared.directory.readable_parts("trials", ["trial_id"], parts=set(prepared.missing))
    done = {name for part in parts for name in part.packs}
    return sum(prepared.packs[name] for name in prepared.missing if name not in done)

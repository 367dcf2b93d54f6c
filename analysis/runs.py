"""From run directories to `Results` and `Runs`: the one place where analysis meets files."""

from __future__ import annotations

import contextlib
import functools
import tomllib
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from analysis.imported import stored
from analysis.results import Reference, Results
from search_spaces.domains import Domain, When
from study.errors import UserError
from study.samples import decoded
from study.search import unasked
from study.spec import Sweep, parse_sweep
from study.statements import declared, extensions, known, registered
from study.store import MANIFEST, SWEEP, RunDirectory

if TYPE_CHECKING:
    from analysis.collection import Runs


def load(*patterns: str | Path) -> Runs:
    """Load runs to work with them in Python.

    Args:
        patterns: Run directories by path or URI, or patterns of them such as "runs/*". What a pattern matches and is
            no run directory is left out; a directory that is named has to be one.

    Raises:
        UserError: If nothing matches, something named is no run directory, or a run's tables cannot be trusted.
    """
    from analysis.collection import Runs  # the statistics take as long to import as a small run to load

    if not patterns:
        raise UserError("load() needs a run directory, or a pattern such as 'runs/*'")
    found = {found.root: found for pattern in patterns for found in _matches(str(pattern))}
    names = [_split(root)[0].rstrip("/").rpartition("/")[2] for root in found]
    counts = Counter(names)
    return Runs(
        {
            name if counts[name] == 1 else root: load_results(directory)
            for name, (root, directory) in zip(names, found.items(), strict=True)
        }
    )


def _matches(pattern: str) -> list[RunDirectory]:
    """The run directories that a pattern stands for, in the order of their names."""
    address, _ = _split(pattern)
    if not any(sign in address for sign in "*?[") or ("://" not in pattern and Path(pattern).expanduser().exists()):
        return [RunDirectory(pattern if "://" in pattern else Path(pattern).expanduser())]
    found = [RunDirectory(root) for root in _candidates(pattern)]
    if not found:
        runs = sorted(str(path.parent) for path in Path("runs").glob(f"*/{MANIFEST}"))
        raise UserError(f"no run directory matches {pattern!r}: in runs/ there {_are(runs)}")
    return found


def _candidates(pattern: str) -> Iterator[str]:
    """The folders that a pattern matches and that hold a run; beyond the local disk only a last name is a pattern."""
    if "://" not in pattern:
        path = Path(pattern).expanduser()
        found = Path(path.anchor).glob(str(path.relative_to(path.anchor)))
        yield from (
            str(folder) for folder in sorted(found) if (folder / MANIFEST).is_file() and (folder / "plan").is_dir()
        )
        return
    address, query = _split(pattern)
    parent, _, last = address.rstrip("/").rpartition("/")
    above = RunDirectory(parent + query)
    for name in above.names():
        with contextlib.suppress(OSError):  # a file has nothing below it
            if fnmatch(name, last) and above.read(f"{name}/{MANIFEST}") and above.names(f"{name}/plan"):
                yield f"{parent}/{name}{query}"


def _split(pattern: str) -> tuple[str, str]:
    """An address or pattern, and what a URI says after it, such as ?region=x, where a question mark is no sign."""
    address, mark, query = pattern.partition("?")
    return (address, mark + query) if "://" in pattern and "=" in query else (pattern, "")


def _are(names: list[str]) -> str:
    if not names:
        return "is none"
    return f"{'is' if len(names) == 1 else 'are'} {', '.join(names[:8])}{', ...' if len(names) > 8 else ''}"


def load_sweep(directory: RunDirectory) -> Sweep:
    """The sweep that a run directory belongs to.

    Raises:
        UserError: If it is not a run directory.
    """
    try:
        text = directory.read(SWEEP)
    except OSError as error:
        raise UserError(f"cannot read the run directory {directory}: {error.strerror or error}") from None
    if text is None or not directory.parts("plan"):
        raise UserError(f"{directory} is not a run directory: it has no {SWEEP} and plan; `manypaths run` makes one")
    try:
        return parse_sweep(tomllib.loads(text.decode()), source=f"{directory}/{SWEEP}", stored=True)
    except ValueError as error:
        raise UserError(f"{directory}/{SWEEP} is not TOML: {error}") from None


def load_results(directory: RunDirectory) -> Results:
    """Read a run's plan and trials; its history is read when it is asked for.

    Raises:
        UserError: If it is not a run directory, or its tables were written by a newer version or contradict themselves.
    """
    said = stored.note(directory)
    if said is not None:
        return stored.results(directory, said, _history_reader(directory))
    sweep, manifest = load_sweep(directory), directory.read_json(MANIFEST)
    if manifest is None:
        warnings.warn(
            f"{directory}/{MANIFEST} is missing or broken: when claims and comparisons were stated is unknown",
            stacklevel=2,
        )
        manifest = {}
    records = known(manifest, sweep.confirmatory)
    pairs = declared(records, sweep.confirmatory)
    plan = _frame(directory, "plan")
    try:
        return Results(
            name=sweep.name,
            plan=plan,
            trials=_frame(directory, "trials"),
            confirmatory=pairs.before,
            late=pairs.late,
            withdrawn=pairs.withdrawn,
            extensions=extensions(manifest),
            notice=sweep.notice,
            prior=sweep.space.title,
            domains=_domains(sweep),
            priors=priors(sweep),
            references=_references(directory),
            claims=registered(records, sweep.stated),
            unasked=unasked(sweep, Counter(zip(plan["task"], plan["method"], strict=True))),
            read_history=_history_reader(directory),
            read_samples=_samples_reader(directory),
        )
    except ValueError as error:
        raise UserError(f"the tables of {directory} cannot be trusted: {error}") from None


def _domains(sweep: Sweep) -> dict[str, Domain | When]:
    return dict(sweep.space.domains)


def priors(sweep: Sweep) -> dict[str, dict[str, Domain | When]]:
    """Method to what it draws from: the sweep's space, and over it what its variant changes."""
    changes = {method: sweep.variant.get(method.partition("@")[2], {}) for method in sweep.methods}
    return {method: {**sweep.space.domains, **changed} for method, changed in changes.items()}


def _references(directory: RunDirectory) -> dict[str, tuple[Reference, ...]]:
    """What the run's tasks said of generators of known quality when they were planned."""
    tasks = (directory.read_json(MANIFEST) or {}).get("controls", {})
    return {
        task: tuple(Reference(str(item["name"]), float(item["value"]), item["must"]) for item in controls)
        for task, controls in tasks.items()
    }


def _history_reader(directory: RunDirectory) -> Callable[[tuple[str, ...] | None], pd.DataFrame]:
    @functools.cache
    def read(columns: tuple[str, ...] | None) -> pd.DataFrame:
        return _frame(directory, "history", columns)

    return read


def _samples_reader(directory: RunDirectory) -> Callable[[tuple[str, ...]], pd.DataFrame]:
    def read(trial_ids: tuple[str, ...]) -> pd.DataFrame:
        planned = directory.read_table("plan", ["trial_id", "pack"]).to_pandas()
        packs = set(planned.loc[planned["trial_id"].isin(trial_ids), "pack"])
        real = {part for part in directory.parts("samples") if part.startswith("real-")}
        found: pd.DataFrame = directory.read_table("samples", parts=sorted(packs | real)).to_pandas()
        found = found[found["trial_id"].isna() | found["trial_id"].isin(trial_ids)].reset_index(drop=True)
        rows = found[["values", "encoding", "count", "shape"]].itertuples(index=False)
        return found.assign(values=pd.Series([decoded(*row) for row in rows], index=found.index, dtype=object))

    return read


def _frame(directory: RunDirectory, table: str, columns: Sequence[str] | None = None) -> pd.DataFrame:
    frame: pd.DataFrame = directory.read_table(table, columns).to_pandas()
    return frame

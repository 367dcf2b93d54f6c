"""From a sweep to its trials and packs: a pure function of the file."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from search_spaces.domains import Choice, Cross, Domain, Fixed, Published, Value, When
from search_spaces.hyperparameters import ARCHITECTURE, HYPERPARAMETERS, SHARED, STRUCTURE
from study import user_files
from study.capacity import capacity_of, work_of
from study.configurations import Column, Configurations, column, object_texts, product, used
from study.errors import UserError
from study.methods import parse_method
from study.misfits import misfit
from study.spec import Sweep
from study.tasks.table import get_task
from study.trial import Hyperparameters, Trial, canonical, digest, hashes
from study.trials import HASH, NUMBERS, Trials
from study.user_files import without_folders


@dataclass(frozen=True)
class Pack:
    """Trials of equal structure that are trained together."""

    trials: tuple[Trial, ...]
    capacity: int

    @property
    def name(self) -> str:
        """Content hash: the name of the pack's files."""
        return digest([self.capacity, [trial.trial_id for trial in self.trials]])


@dataclass(frozen=True, eq=False)
class Packs(Sequence[Pack]):
    """Packs, costliest first; each is made where it is asked for.

    Attributes:
        trials: Their trials, pack by pack.
        bounds: Where each pack begins, and the end: shape (packs + 1,).
        capacities: Slots of each pack: shape (packs,).
    """

    trials: Trials
    bounds: NDArray[np.int64]
    capacities: NDArray[np.int64]

    def __len__(self) -> int:
        """How many packs there are."""
        return len(self.capacities)

    @overload
    def __getitem__(self, index: int) -> Pack: ...

    @overload
    def __getitem__(self, index: slice) -> list[Pack]: ...

    def __getitem__(self, index: int | slice) -> Pack | list[Pack]:
        """One pack, or some of them."""
        if isinstance(index, slice):
            return [self[place] for place in range(len(self))[index]]
        place = range(len(self))[index]
        members = self.trials[int(self.bounds[place]) : int(self.bounds[place + 1])]
        return Pack(tuple(members), int(self.capacities[place]))

    @cached_property
    def names(self) -> list[str]:
        """The packs' names."""
        ids = self.trials.columns["trial_id"].astype(str).tolist()
        ends = itertools.pairwise(self.bounds.tolist())
        return hashes(
            f'[{capacity},["' + '","'.join(ids[start:end]) + '"]]'
            for capacity, (start, end) in zip(self.capacities.tolist(), ends, strict=True)
        )

    def holding(self, trial_id: str) -> Pack:
        """The pack that has a trial."""
        (place,) = np.flatnonzero(self.trials.columns["trial_id"] == trial_id.encode())
        return self[int(np.searchsorted(self.bounds, place, side="right")) - 1]

    @property
    def sizes(self) -> NDArray[np.int64]:
        """How many trials each pack has: shape (packs,)."""
        return np.diff(self.bounds)

    @property
    def kinds(self) -> list[Trial]:
        """A trial of each pack's kind."""
        return [self.trials.kinds[kind] for kind in self.trials.columns["kind"][self.bounds[:-1]].tolist()]


def expand(sweep: Sweep, table: Sequence[Mapping[str, Value]] | None = None) -> Trials:
    """Every trial of a sweep, in a fixed order: configurations, seeds, tasks, and methods fastest.

    Args:
        sweep: The validated sweep file.
        table: The rows of a table design, hyperparameter to value.

    Raises:
        UserError: For a combination that cannot be trained.
    """
    found = Configurations(sweep, table)
    trials = _assembled(sweep, found)
    _refuse_misfits(trials.kinds)
    _refuse_short_budgets(trials.kinds)
    _refuse_twins(trials)
    return trials


def _assembled(sweep: Sweep, found: Configurations) -> Trials:
    """The trials of every cell and seed, laid out in the order of a sweep."""
    shape = (len(found), sweep.design.seeds, len(sweep.tasks), len(sweep.methods))
    columns: dict[str, NDArray[Any]] = {"kind": np.zeros(shape, np.int32), "trial_id": np.zeros(shape, HASH)}
    keys = [found.keys(seed) for seed in range(sweep.design.seeds)]
    kinds: list[Trial] = []
    for m, label in enumerate(sweep.methods):
        cells: dict[bool, tuple[dict[str, Column], list[str]]] = {}
        for t, name in enumerate(sweep.tasks):
            known = get_task(name).rank is None  # all labels are
            if known not in cells:
                made = _hyperparameters(sweep, label, found, labels_known=known)
                cells[known] = (made, list(object_texts(_spelt(made), len(found))))
            made, texts = cells[known]
            here, codes = _kinds(sweep, name, label, found, made)
            columns["kind"][:, :, t, m] = codes[:, None] + len(kinds)
            kinds += here
            for s, of_seed in enumerate(keys):
                columns["trial_id"][:, s, t, m] = _ids(here, codes, texts, of_seed)
            for field in NUMBERS:
                if field in made:
                    columns.setdefault(field, np.full(shape, np.nan))[:, :, t, m] = made[field].numbers[:, None]

    def spread(values: NDArray[Any]) -> NDArray[Any]:
        """What configurations have, for each of their trials."""
        return np.broadcast_to(values.reshape(-1, 1, 1, 1), shape)

    columns["seed"] = np.broadcast_to(np.arange(shape[1], dtype=np.int32)[:, None, None], shape)
    columns["key"] = np.broadcast_to(np.array(keys, HASH).T[:, :, None, None], shape)
    columns["point"] = spread(found.point.astype(np.int32))
    columns["replicate"] = spread(found.replicate.astype(np.int32))
    columns["config"] = spread(np.array(found.config, HASH))
    return _in_order_of_appearance(kinds, {name: values.reshape(-1) for name, values in columns.items()})


def _in_order_of_appearance(kinds: Sequence[Trial], columns: dict[str, NDArray[Any]]) -> Trials:
    present, firsts = np.unique(columns["kind"], return_index=True)
    order = present[np.argsort(firsts)]
    new = np.zeros(len(kinds), np.int32)
    new[order] = np.arange(len(order))
    return Trials(tuple(kinds[place] for place in order), columns | {"kind": new[columns["kind"]]})


def _hyperparameters(sweep: Sweep, label: str, found: Configurations, *, labels_known: bool) -> dict[str, Column]:
    """The columns of `Hyperparameters` that a method has."""
    name, variant = sweep.split_method(label)
    method = parse_method(name)
    changes = sweep.variant[variant] if variant else {}
    shared = _changed(sweep, changes, found)
    context = shared | {"penalty": found.constant(method.penalty or "")}
    made = {name: shared[name] for name in ("n_critic", "optimiser", "beta1", *ARCHITECTURE) if name in shared}
    for name, published in method.defaults.items():
        if name == "labelled" and labels_known:
            continue
        if name in found.own and name not in changes:
            values = found.own[name]
        else:
            domain = changes.get(name, sweep.space.domains.get(name))
            values = found.value(name, domain, context, published)
        made[name] = _as_floats(values)
    lr_d = shared["lr"] if shared["lr_d_ratio"].values == (1.0,) else product(shared["lr"], shared["lr_d_ratio"])
    wrong = np.flatnonzero(~np.isfinite(lr_d.numbers))
    if len(wrong):
        lr, ratio = (shared[name].numbers[wrong[0]] for name in ("lr", "lr_d_ratio"))
        raise UserError(f"lr = {lr:g} times lr_d_ratio = {ratio}: the product must be a finite number")
    return made | {"lr_g": shared["lr"], "lr_d": lr_d, "beta2": _unless_sgd(shared["beta2"], shared["optimiser"])}


def _changed(sweep: Sweep, changes: Mapping[str, Domain | When], found: Configurations) -> dict[str, Column]:
    """What methods share, as a variant changes it."""
    shared = dict(found.shared)
    if not changes:
        return shared
    for name in STRUCTURE:
        if name in changes:
            shared[name] = found.value(name, changes[name], shared)
    context = dict(shared)
    for name in SHARED:
        domain = changes.get(name, sweep.space.domains.get(name))
        # a range that follows the structure follows the variant's
        if name in changes or (isinstance(domain, When) and found.follows):
            shared[name] = found.value(name, domain, context)
    return shared


def _as_floats(found: Column) -> Column:
    """A column of numbers, whole ones as floats too."""
    if not any(isinstance(value, int) for value in found.values):
        return found
    return column([float(value) for value in found.values if value is not None], found.codes)


def _unless_sgd(beta2: Column, optimiser: Column) -> Column:
    """The second moment's decay, but for the optimiser that has none."""
    is_sgd = np.array([value == "sgd" for value in optimiser.values])[optimiser.codes]
    if not is_sgd.any():
        return beta2
    return Column([*beta2.values, None], np.where(is_sgd, len(beta2.values), beta2.codes), [*beta2.words, "null"])


def _spelt(made: Mapping[str, Column]) -> dict[str, Column]:
    """Hyperparameters as they enter an id: where a file lies is nothing."""
    spelt = dict(made)
    if "network" in made:
        network = made["network"]
        spelt["network"] = column([without_folders(str(value)) for value in network.values], network.codes)
    return spelt


def _kinds(
    sweep: Sweep, task: str, label: str, found: Configurations, made: Mapping[str, Column]
) -> tuple[list[Trial], NDArray[np.int64]]:
    """A trial of each structure that a method has on a task, and which of them each configuration has."""
    codes = np.zeros(len(found), np.int64)
    for name in STRUCTURE:
        if name in made:
            values = made[name].values
            distinct = list(dict.fromkeys(values))
            alike = np.array([distinct.index(value) for value in values], np.int64)
            codes = codes * len(distinct) + alike[made[name].codes]
    _, firsts, codes = np.unique(codes, return_index=True, return_inverse=True)
    method, version = sweep.split_method(label)[0], get_task(task).version
    kinds = []
    for first in firsts.tolist():
        numbers: dict[str, Any] = {name: part.values[part.codes[first]] for name, part in made.items()}
        hyperparameters = Hyperparameters(**numbers)
        kinds.append(
            Trial(
                task=task,
                task_version=version,
                fingerprint=fingerprint(task, method, hyperparameters.network),
                method=method,
                label=label,
                hyperparameters=hyperparameters,
                budget=sweep.budget.of(task, hyperparameters.n_critic),
                seed=0,
                config=found.config[first],
                point=int(found.point[first]),
                replicate=int(found.replicate[first]),
                key="",
                sampler=sweep.design.kind,
            )
        )
    return kinds, codes


def _ids(kinds: Sequence[Trial], codes: NDArray[np.int64], texts: Sequence[str], keys: Sequence[str]) -> list[str]:
    """The ids of a method's trials on a task with one seed: what `Trial.trial_id` hashes, put together from parts."""
    around = [_around(kind) for kind in kinds]
    head, _ = around[0]
    tails = [tail for _, tail in around]
    if len(set(tails)) == 1:
        tail = tails[0]
        return hashes([f'{head}{text}}},"key":"{key}{tail}' for text, key in zip(texts, keys, strict=True)])
    rows = zip(texts, keys, codes.tolist(), strict=True)
    return hashes([f'{head}{text}}},"key":"{key}{tails[code]}' for text, key, code in rows])


def _around(kind: Trial) -> tuple[str, str]:
    """What stands before the hyperparameters and after the key in the text that an id is the hash of."""
    identity = kind.identity
    before = canonical({name: value for name, value in identity.items() if name < "hyperparameters"})
    after = canonical({name: value for name, value in identity.items() if name > "key"})
    return f'{before[:-1]},"hyperparameters":{{', f'",{after[1:]}'


def _refuse_misfits(kinds: Iterable[Trial]) -> None:
    seen = dict.fromkeys((t.task, t.label, t.method, t.hyperparameters.architecture) for t in kinds)
    for name, label, method, architecture in seen:
        parsed = get_task(name), parse_method(method)
        fault = misfit(*parsed, architecture)
        if not fault and user_files.files_in([method, str(dict(architecture).get("network"))]):
            from study import tryout  # and torch: only for what users bring

            fault = tryout.update_fault(*parsed, architecture)
        if fault:
            changed = "".join(f", {key} = {value}" for key, value in architecture)
            raise UserError(f"{label} on {name}{changed}: {fault}")


def _refuse_short_budgets(kinds: Iterable[Trial]) -> None:
    for trial in kinds:
        steps = trial.generator_steps
        if trial.budget.evaluations > steps:
            n_critic = trial.hyperparameters.n_critic
            raise UserError(
                f"budget.evaluations = {trial.budget.evaluations}: more than the {steps} generator steps that "
                f"{trial.budget.steps} {trial.budget.unit} make at n_critic {n_critic}"
            )


def _refuse_twins(trials: Trials) -> None:
    ids = trials.columns["trial_id"]
    _, which, counts = np.unique(ids, return_index=True, return_counts=True)
    if len(which) < len(ids):
        twin = ids[which[counts > 1].min()]
        twins = sorted({trials.kinds[kind].label for kind in trials.columns["kind"][ids == twin].tolist()})
        raise UserError(f"methods {' and '.join(twins)} are the same: a variant has to change something")


def needed_columns(sweep: Sweep) -> list[str]:
    """Columns that a table design has to have: whatever the space does not fix to one value or leave as published."""
    return [
        name
        for name, domain in sweep.space.domains.items()
        if not isinstance(domain, Fixed | Published | Cross)
        and (HYPERPARAMETERS[name].role != "method" or used(sweep, name))
    ]


def draws_architecture(sweep: Sweep) -> bool:
    """True where a sweep draws what its networks look like from the prior."""
    return any(isinstance(sweep.space.domains.get(name), Choice) for name in ARCHITECTURE)


def fingerprint(task: str, method: str, network: str | None) -> str | None:
    """Content hashes of the user's files that a trial is made of, joined; None without any."""
    references = [part for part in (*method.split("+"), str(network)) if user_files.is_reference(part)]
    return "+".join([get_task(task).fingerprint or "", *map(user_files.digest_of, references)]).strip("+") or None


def pack(trials: Iterable[Trial], *, capacity: int | None, device: str) -> Packs:
    """Group trials of equal structure into packs, costliest first so that the last ones to run are short.

    Args:
        trials: The trials to pack.
        capacity: Slots of every pack; None takes them from the table of measured capacities.
        device: Kind of device, for that table.
    """
    found = Trials.of(trials)
    codes = found.columns["kind"]
    order = np.argsort(codes, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(codes[order])) + 1) if len(order) else []
    members, sizes, slots = [order[:0]], [0], list[int]()
    for group in sorted(groups, key=lambda group: (-work_of(found.kinds[codes[group[0]]]), group[0])):
        room = capacity or capacity_of(found.kinds[codes[group[0]]], device)
        members.append(group)
        sizes += [min(room, len(group) - begun) for begun in range(0, len(group), room)]
        slots += [room] * (len(sizes) - 1 - len(slots))
    bounds = np.cumsum(sizes, dtype=np.int64)
    return Packs(found.take(np.concatenate(members)), bounds, np.array(slots, np.int64))

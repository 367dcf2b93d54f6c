"""What exists: methods, tasks and priors, with one line and the source each, or in full."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from search_spaces.domains import Domain, When
from search_spaces.hyperparameters import HYPERPARAMETERS
from search_spaces.spaces import SPACES
from study import user_files
from study.errors import unknown
from study.forms import write_domain
from study.losses import LOSSES
from study.methods import Method, parse_method
from study.penalties import PENALTIES
from study.tasks.names import cut
from study.tasks.table import FILES, TASKS, get_task
from study.techniques import TECHNIQUES

Entry = dict[str, Any]


def methods_list() -> list[Entry]:
    """Every loss, penalty and technique in a few lines."""
    return [
        {key: entry[key] for key in ("name", "kind", "formula", "adds", "source") if key in entry}
        for entry in (*map(_loss, LOSSES), *map(_penalty, PENALTIES), *map(_technique, TECHNIQUES), TWO_TIME_SCALES)
    ]


def method_page(name: str) -> list[Entry]:
    """One part in full, or a whole method: its parts, and the hyperparameters it adds with their published values."""
    part = name.removeprefix("+")
    if part == TWO_TIME_SCALES["name"]:
        return [TWO_TIME_SCALES]
    for table, page in ((LOSSES, _loss), (PENALTIES, _penalty), (TECHNIQUES, _technique)):
        if part in table:
            return [page(part)]
    method = parse_method(name)
    penalties = [_penalty(method.penalty)] if method.penalty else []
    return [_loss(method.loss), *penalties, *map(_technique, method.techniques)]


def _loss(name: str) -> Entry:
    loss = parse_method(name).loss_entry if user_files.is_reference(name) else LOSSES[name]
    looks_at = "logits" if loss.outputs == 1 else "a logit for each class" if loss.outputs is None else None
    return {
        "name": name,
        "kind": "loss",
        "formula": loss.formula,
        "evaluated on": (looks_at or f"{loss.outputs} features")
        + (", the generator's on real samples too" if loss.sees_real else ""),
        "needs": "a penalty, clip or sn: it bounds the discriminator's slope"
        if loss.needs_lipschitz
        else "nothing else",
        "pitfalls": loss.pitfalls,
        "source": loss.source,
    }


def _penalty(name: str) -> Entry:
    penalty = Method(name, "ns", name).penalty_entry or PENALTIES[name]
    added = {"penalty_weight": penalty.weight}
    if penalty.noise_scale is not None:
        added["noise_scale"] = penalty.noise_scale
    return {
        "name": f"+{name}",
        "kind": "penalty",
        "formula": penalty.formula,
        "centre": penalty.centre,
        "evaluated at": f"{penalty.where}, on the {penalty.on}",
        "weight convention": f"penalty_weight times {penalty.factor:g} times the mean over the points",
        "adds": _added(added),
        **({"only for": ", ".join(penalty.losses)} if penalty.losses else {}),
        "pitfalls": penalty.pitfalls,
        "source": penalty.source,
    }


def _technique(name: str) -> Entry:
    technique = TECHNIQUES[name]
    return {
        "name": f"+{name}",
        "kind": "technique",
        "formula": technique.formula,
        **({"adds": _added(technique.hyperparameters)} if technique.hyperparameters else {}),
        "pitfalls": technique.pitfalls,
        "source": technique.source,
    }


def _added(values: Mapping[str, float]) -> list[str]:
    return [f"{name} = {value:g}: {HYPERPARAMETERS[name].meaning}" for name, value in values.items()]


TWO_TIME_SCALES: Entry = {
    "name": "lr_d_ratio",
    "kind": "two time scales: a hyperparameter of every method",
    "formula": "the discriminator's learning rate is lr_d_ratio times the generator's",
    "source": "Heusel et al. 2017 (TTUR)",
}


def tasks_list() -> list[Entry]:
    """Every task in a few lines; those on the user's files without reading any."""
    return [*(_task_line(name) for name in TASKS), *(_files_line(name) for name in FILES), *ELSEWHERE]


def _files_line(name: str) -> Entry:
    make = FILES[name]
    described = (inspect.getdoc(getattr(make, "func", make)) or "").partition("\n")[0]
    return {"name": name, "summary": described, **_options(name), "source": "your files: docs/tasks.md says which"}


def _options(name: str) -> Entry:
    make = {**TASKS, **FILES}.get(cut(name)[0])
    parameters = inspect.signature(make).parameters.values() if make else ()
    options = [f"{p.name}={p.default}" for p in parameters if p.default is not p.empty]
    return {"options": ", ".join(options)} if options else {}


ELSEWHERE: tuple[Entry, ...] = (
    {"name": "images:PATH", "summary": "any folder, .npz or Parquet of images", "source": "docs/tasks.md"},
    {"name": "FILE.py:NAME", "summary": "a task of your own", "source": "docs/own.md"},
)


def _task_line(name: str) -> Entry:
    task = get_task(name)
    success = f"{task.primary} <= {task.threshold:g}"
    return {"name": name, "summary": task.summary, "success": success, **_options(name), "source": task.source}


def task_page(name: str) -> list[Entry]:
    """One task: what success means, why, and its table of controls."""
    task = get_task(name)
    controls = [
        f"{control.value:8.3g}  {control.name} ({f'must {control.must}' if control.must else 'free'}): {control.why}"
        for control in task.controls
    ]
    return [
        _task_line(name)
        | {
            "metrics": ", ".join(task.metrics),
            "log-AUC anchors": f"{task.anchors[0]:g} scores 1, {task.anchors[1]:g} scores 0",
            "batch": task.batch,
            "reasoning": task.reasoning,
            "control": controls,
        }
    ]


def spaces_list() -> list[Entry]:
    """Every named prior in a line, with its sources."""
    return [
        {"name": name, "summary": space.summary, "source": sorted(set(space.sources.values()))}
        for name, space in SPACES.items()
    ]


def space_page(name: str) -> list[Entry]:
    """One prior: every range with its source."""
    if name not in SPACES:
        raise unknown("space", name, SPACES)
    space = SPACES[name]
    ranges = [
        {"name": key, "range": _words(domain), "source": space.sources[key]} for key, domain in space.domains.items()
    ]
    return [{"name": name, "summary": space.summary}, *ranges]


def _words(domain: Domain | When) -> str | list[str]:
    if isinstance(domain, When):
        return [f"{_words(part)} if {domain.name} is {case}" for case, part in domain.cases.items()]
    form = write_domain(domain)
    return " ".join(f"{key} {value}" for key, value in form.items()) if isinstance(form, dict) else str(form)

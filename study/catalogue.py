"""What exists: methods, tasks and priors, with one line and the source each, or in full."""

from __future__ import annotations

from typing import Any

from search_spaces.domains import Domain, When
from search_spaces.hyperparameters import HYPERPARAMETERS
from search_spaces.spaces import SPACES
from study.errors import unknown
from study.forms import write_domain
from study.losses import LOSSES
from study.methods import TECHNIQUES, parse_method
from study.penalties import PENALTIES
from study.tasks.table import TASKS, get_task

Entry = dict[str, Any]


def methods_list() -> list[Entry]:
    """Every loss, penalty and technique."""
    losses = [
        {
            "name": name,
            "kind": "loss",
            "formula": loss.formula,
            "needs": "a penalty or clip: it bounds the discriminator's slope"
            if loss.needs_lipschitz
            else "nothing else",
            "source": loss.source,
        }
        for name, loss in LOSSES.items()
    ]
    penalties = [
        {"name": f"+{name}", "kind": "penalty", "formula": p.formula, "weight": p.weight, "source": p.source}
        for name, p in PENALTIES.items()
    ]
    techniques = [
        {"name": f"+{name}", "kind": "technique", "formula": t.formula, t.hyperparameter: t.default, "source": t.source}
        for name, t in TECHNIQUES.items()
    ]
    return losses + penalties + techniques


def method_page(name: str) -> list[Entry]:
    """One method: its parts, and the hyperparameters it adds with their published values."""
    method = parse_method(name)
    parts = {method.loss, *(f"+{part}" for part in (method.penalty, *method.techniques) if part)}
    added: Entry = {
        "name": f"{name} adds",
        **{key: f"{value:g} published; {HYPERPARAMETERS[key].meaning}" for key, value in method.defaults.items()},
    }
    return [entry for entry in methods_list() if entry["name"] in parts] + ([added] if method.defaults else [])


def tasks_list() -> list[Entry]:
    """Every task in a few lines."""
    return [_task_line(name) for name in TASKS]


def _task_line(name: str) -> Entry:
    task = get_task(name)
    success = f"{task.primary} <= {task.threshold:g}"
    return {"name": name, "summary": task.summary, "success": success, "source": task.source}


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

"""Which methods, tasks and networks do not go together, and why."""

from __future__ import annotations

from study.architecture import networks
from study.methods import Method
from study.networks.base import Network
from study.networks.table import Pair
from study.tasks.base import Task
from study.techniques import FEATURE_MATCHING
from study.trial import Architecture

FORM = "{} needs a {} of another form than the task's, which comes in one only"


def misfit(task: Task, method: Method, architecture: Architecture) -> str | None:
    """Why a method cannot be trained on a task with these networks, in words; None if it can."""
    fault = _of_task(task, method, architecture)
    if fault:
        return fault
    try:
        pair = networks(task, architecture)
    except ValueError as error:
        return str(error)
    return _of_generator(task, method, pair.generator, architecture) or _of_discriminator(task, method, pair)


def _of_task(task: Task, method: Method, architecture: Architecture) -> str | None:
    if task.losses and method.loss not in task.losses:
        return f"{task.name} is for {', '.join(task.losses)}"
    if method.loss_entry.value and not (task.losses and method.loss in task.losses):
        return f"{method.loss} is for games without data, and {task.name} has data: write wgan with a penalty instead"
    if method.mixture and (task.looks_at_critic or not task.evaluation_samples):
        return f"the task measures one network's parameters or outputs, and {method.mixture} has several"
    measured = [name for name, _ in architecture if task.looks_at_critic or not name.endswith("_d")]
    if measured and not task.evaluation_samples:
        return f"the task measures its own networks' parameters: {measured[0]} cannot be changed"
    if method.has("cond") and (task.label is None or task.over_time):
        return f"cond needs classes, {'the same throughout' if task.label else 'and the task has none'}"
    return None


def _of_generator(task: Task, method: Method, generator: Network, architecture: Architecture) -> str | None:
    if method.has("vbn") and not generator.hidden:
        return "vbn normalises hidden layers, and the generator has none"
    chosen = dict(architecture).get("norm_g", "none")
    if method.has("vbn") and (generator.batch_coupled or chosen != "none"):
        return "vbn takes the place of the generator's normalisation: set norm_g = 'none'"
    forms: dict[str, dict[str, object]] = {"vbn": {"norm": "virtual"}, "cond": {"labels": task.classes}}
    for part, changes in forms.items():
        if method.has(part) and not _comes_as(generator, changes):
            return FORM.format(part, "generator")
    return None


def _of_discriminator(task: Task, method: Method, pair: Pair) -> str | None:
    network = pair.discriminator
    if method.has(*FEATURE_MATCHING) and not network.hidden:
        return "feature matching looks at hidden layers, and the discriminator has none"
    if method.has("sn") and network.size == 1:
        return "sn leaves a discriminator of one weight nothing but its sign"
    if method.penalty and network.batch_coupled:
        return (
            f"batch normalisation in the discriminator lets samples see each other, and {method.penalty} takes the "
            "gradient of each sample by itself: set norm_d = 'layer' or 'none'"
        )
    if method.has("minibatch") and not _comes_as(network, {"minibatch": True}):
        return FORM.format("the method", "discriminator")
    outputs = task.classes if method.has("cond") else method.loss_entry.outputs
    if outputs != 1 and not _comes_as(network, {"outputs": 2}):
        return FORM.format("the method", "discriminator")
    return None


def _comes_as(network: Network, changes: dict[str, object]) -> bool:
    try:
        network.rebuild(**changes)
    except ValueError:
        return False
    return True

import subprocess
import sys
from typing import NamedTuple

import pytest
import torch

from study.errors import UserError
from study.tasks.base import Snapshot, Task
from study.tasks.table import TASKS, get_task

CAPACITY = 5

every_task = pytest.mark.parametrize("name", TASKS)


class Trials(NamedTuple):
    """Untrained networks of some trials: parameters (c, ...) of both players, and samples (c, n, d)."""

    theta: dict[str, torch.Tensor]
    phi: dict[str, torch.Tensor]
    samples: torch.Tensor


def trials(task: Task, *, seed=0, count=CAPACITY) -> Trials:
    generator = torch.Generator().manual_seed(seed)

    def starts(network):
        found = [network.initialise(torch.rand(network.size, generator=generator)) for _ in range(count)]
        return {key: torch.stack([start[key] for start in found]) for key in network.shapes}

    theta = starts(task.generator)
    latent = torch.randn(count, task.evaluation_samples, task.latent, generator=generator)
    samples = [task.generator.apply({key: value[i] for key, value in theta.items()}, latent[i]) for i in range(count)]
    return Trials(theta, starts(task.discriminator), torch.stack(samples))


def take(found: Trials, index) -> Trials:
    theta, phi = ({key: value[index] for key, value in part.items()} for part in (found.theta, found.phi))
    return Trials(theta, phi, found.samples[index])


def evaluate(task: Task, found: Trials) -> dict[str, torch.Tensor]:
    def outputs(phi, x):
        return task.discriminator.apply(phi, x)

    def slope(phi, x):
        return torch.func.grad(lambda points: outputs(phi, points).sum())(x)

    return task.evaluate(
        Snapshot(
            found.theta,
            found.samples,
            critic=lambda x: torch.func.vmap(outputs)(found.phi, x.float()),
            slope=lambda x: torch.func.vmap(slope)(found.phi, x.float()),
        )
    )


@every_task
def test_factory_is_cached_and_named(name):
    task = get_task(name)
    assert task is get_task(name)
    assert task.name == name
    assert task.version >= 1
    assert task.primary in task.metrics
    assert len(set(task.metrics)) == len(task.metrics)
    assert task.summary
    assert task.source
    assert task.reasoning


@every_task
def test_threshold_lies_between_the_controls(name):
    task = get_task(name)
    assert {control.must for control in task.controls} >= {"pass", "fail"}
    for control in task.controls:
        assert control.must in ("pass", "fail", None)
        if control.must is not None:
            assert (control.value <= task.threshold) == (control.must == "pass"), control.name
    assert 0 < task.anchors[0] < task.threshold < task.anchors[1]


@every_task
def test_shapes_agree(name):
    task = get_task(name)
    d = task.data_width
    found = trials(task)
    assert found.samples.shape == (CAPACITY, task.evaluation_samples, d)
    assert {key: tuple(value.shape[1:]) for key, value in found.theta.items()} == dict(task.generator.shapes)
    score = task.discriminator.initialise(torch.rand(task.discriminator.size))
    real = task.sample(torch.rand(task.batch, task.draws + task.over_time))
    assert real.dtype == torch.float32
    assert task.discriminator.apply(score, real).shape == (task.batch, 1)


@every_task
@pytest.mark.parametrize("leading", [(), (7,), (2, 3), (3, 2, 64)])
def test_sample_is_equal_for_any_leading_shape(name, leading):
    task = get_task(name)
    uniforms = torch.rand(*leading, task.draws + task.over_time, generator=torch.Generator().manual_seed(1))
    x = task.sample(uniforms)
    assert x.shape == (*leading, task.data_width)
    singly = torch.stack([task.sample(u) for u in uniforms.reshape(-1, uniforms.shape[-1])])
    assert torch.equal(x.reshape(singly.shape), singly)


@every_task
def test_evaluation_returns_the_declared_columns(name):
    task = get_task(name)
    values = evaluate(task, trials(task))
    assert tuple(values) == (*task.metrics, "selection")
    for value in values.values():
        assert value.dtype == torch.float64
        assert value.shape == (CAPACITY,)
        assert torch.isfinite(value).all()
    assert (values[task.primary] > task.threshold).all()


@every_task
def test_evaluation_is_deterministic_and_blind_to_batch_mates(name):
    task = get_task(name)
    found = trials(task)
    together = evaluate(task, found)
    state = torch.random.get_rng_state()
    # a critic is run anew, in a pack as large as the trained one: another size may round differently
    sizes = [[3], [4, 0], [1] * 7] if not task.looks_at_critic else [[3] * CAPACITY, [4, 0, 0, 1, 1]]
    for index in ([2, 1, 0, 4, 3], *sizes):
        apart = evaluate(task, take(found, index))
        for key, value in apart.items():
            assert torch.equal(value, together[key][index]), (key, index)
    assert torch.equal(state, torch.random.get_rng_state())


@every_task
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), 1e30])
def test_a_trial_that_is_not_finite_is_told_and_disturbs_nobody(name, bad):
    task = get_task(name)
    found = trials(task)
    clean = evaluate(task, found)
    for value in (*found.theta.values(), *(found.phi.values() if task.looks_at_critic else ())):
        value[2].view(-1)[0] = bad
    if found.samples.numel():
        found.samples[2, -1, 0] = bad
    values = evaluate(task, found)
    for key, value in values.items():
        others = [0, 1, 3, 4]
        assert torch.equal(value[others], clean[key][others]), key
        if bad == 1e30:
            assert not value[2] <= task.threshold or key not in (task.primary, "selection")
        else:
            assert not torch.isfinite(value[2]), key


@every_task
def test_nothing_changes_its_arguments(name):
    task = get_task(name)
    found = trials(task)
    before = {key: value.clone() for key, value in found.theta.items()}, found.samples.clone()
    evaluate(task, found)
    assert all(torch.equal(found.theta[key], before[0][key]) for key in found.theta)
    assert torch.equal(found.samples, before[1])


@every_task
def test_generator_starts_equal_under_vmap(name):
    task = get_task(name)
    uniforms = torch.rand(3, task.generator.size, generator=torch.Generator().manual_seed(0))
    stacked = torch.func.vmap(task.generator.initialise)(uniforms)
    for i, uniform in enumerate(uniforms):
        for key, value in task.generator.initialise(uniform).items():
            assert torch.equal(stacked[key][i], value)


def test_unknown_name_is_refused_with_the_nearest_first():
    with pytest.raises(UserError, match=r"'manifold-d65'.*: choose from manifold-d64, .*ring8"):
        get_task("manifold-d65")


def test_import_and_listing_read_no_file():
    program = (
        "import builtins, io, pathlib\n"
        "import study.tasks.table as table\n"
        "def refuse(*a, **k): raise AssertionError(a)\n"
        "builtins.open = io.open = refuse\n"
        "pathlib.Path.read_bytes = refuse\n"
        "[make() for make in table.TASKS.values()]\n"
        "from study.tasks import digits, digits_classifier, digits_data\n"
        "assert digits_data.load.cache_info().currsize == 0\n"
        "assert digits_classifier.load.cache_info().currsize == 0\n"
        "assert digits.references.cache_info().currsize == 0\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=50)

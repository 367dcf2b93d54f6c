import functools
import math

import pytest
import torch

from study.errors import UserError
from study.metrics.modes import HIGH_QUALITY_CEILING
from study.tasks.base import Snapshot
from study.tasks.ring import MODES, ORDER, RADIUS, SAMPLES, SD, centres, evaluate, label_in_turn, ring8, sample
from study.tasks.table import get_task


def mixture(generator, *, modes=range(MODES), sd=SD):
    kept = centres()[torch.tensor(list(modes))]
    index = torch.randint(len(kept), (SAMPLES,), generator=generator)
    return kept[index] + sd * torch.randn(SAMPLES, 2, generator=generator, dtype=torch.float64)


def polar(radius, angle):
    return torch.stack([radius * angle.cos(), radius * angle.sin()], -1)


def ring(generator):
    return polar(RADIUS, 2 * math.pi * torch.rand(SAMPLES, generator=generator, dtype=torch.float64))


def disc(generator):
    radius, angle = torch.rand(2, SAMPLES, generator=generator, dtype=torch.float64)
    return polar(RADIUS * radius.sqrt(), 2 * math.pi * angle)


def gaussian(generator):
    return RADIUS / math.sqrt(2) * torch.randn(SAMPLES, 2, generator=generator, dtype=torch.float64)


def origin(generator):
    return torch.zeros(SAMPLES, 2, dtype=torch.float64)


MAKERS = {
    "real": mixture,
    "modes without spread": functools.partial(mixture, sd=0.0),
    "ten times the spread": functools.partial(mixture, sd=10 * SD),
    "continuous ring": ring,
    "one mode missing": functools.partial(mixture, modes=range(7)),
    "two opposite modes missing": functools.partial(mixture, modes=[0, 1, 2, 4, 5, 6]),
    "two adjacent modes missing": functools.partial(mixture, modes=range(6)),
    "every other mode missing": functools.partial(mixture, modes=[0, 2, 4, 6]),
    "filled disc": disc,
    "one Gaussian": gaussian,
    "one mode only": functools.partial(mixture, modes=[3]),
    "constant origin": origin,
}
REPEATS = 8


@functools.cache
def measured(name, *, seed=1, repeats=REPEATS):
    generator = torch.Generator().manual_seed(seed)
    samples = torch.stack([torch.cat([MAKERS[name](generator) for _ in range(2)]) for _ in range(repeats)])
    return evaluate(Snapshot({}, samples))


@pytest.mark.parametrize("control", ring8().controls, ids=lambda control: control.name)
def test_control_measures_as_recorded(control):
    values = measured(control.name)[ring8().primary]
    # Four standard errors of the mean of 8, and half of the last recorded digit.
    tolerance = 4 * float(values.std()) / math.sqrt(REPEATS) + 0.005
    assert float(values.mean()) == pytest.approx(control.value, abs=tolerance)


def test_every_control_has_a_maker():
    assert {control.name for control in ring8().controls} == set(MAKERS)


def test_threshold_separates_single_evaluations_of_controls():
    # Not only on average: the worst of 8 real samples passes and the best of 8 continuous rings fails.
    primary = ring8().primary
    assert (
        float(measured("real")[primary].max()) < ring8().threshold < float(measured("continuous ring")[primary].min())
    )


def test_anchors_are_the_real_floor_and_full_collapse():
    low, high = ring8().anchors
    assert low == next(control.value for control in ring8().controls if control.name == "real")
    assert high == pytest.approx(float(measured("one mode only")[ring8().primary].mean()), rel=1e-3)


def test_perfect_sampler_reaches_the_ceilings():
    values = measured("real")
    n = REPEATS * SAMPLES
    share = float(values["high_quality_n4096"].mean())
    assert share == pytest.approx(HIGH_QUALITY_CEILING, abs=4 * math.sqrt(0.9889 * 0.0111 / n))
    assert (values["modes_n4096"] == MODES).all()
    # A variance estimated from 2 n numbers has a relative error of about 1 / sqrt(n); truncation makes it smaller.
    assert float(values["variance_ratio_n4096"].mean()) == pytest.approx(1, abs=4 / math.sqrt(n))


def test_what_the_primary_forgives_the_other_metrics_see():
    assert float(measured("modes without spread")["variance_ratio_n4096"].max()) < 1e-12
    assert float(measured("ten times the spread")["high_quality_n4096"].max()) < 0.1
    assert float(measured("one mode missing")["modes_n4096"].max()) == MODES - 1
    assert float(measured("continuous ring")["high_quality_n4096"].max()) < 0.1


def test_selection_looks_at_the_other_half():
    generator = torch.Generator().manual_seed(0)
    real, collapsed = mixture(generator), mixture(generator, modes=[0])
    values = evaluate(Snapshot({}, torch.cat([real, collapsed])[None]))
    assert float(values[ring8().primary]) < ring8().threshold < float(values["selection"])


def test_real_samples_have_the_stated_scale():
    generator = torch.Generator().manual_seed(0)
    uniforms = torch.rand(20000, 3, generator=generator, dtype=torch.float64)
    x = sample(uniforms)
    index = (uniforms[:, 0] * MODES).long()
    residual = x - centres()[index]
    # The sample standard deviation of 40000 normals has a relative error of 1 / sqrt(80000).
    assert float(residual.square().mean().sqrt()) == pytest.approx(SD, rel=4 / math.sqrt(80000))
    assert centres().norm(dim=1).tolist() == pytest.approx([1.41443] * MODES, abs=1e-5)


def test_default_is_the_published_scale():
    assert (pytest.approx(2 / 1.414), pytest.approx(0.02 / 1.414)) == (RADIUS, SD)
    task = get_task("ring8")
    assert (task.version, task.threshold, task.anchors) == (1, 0.1, (0.03, 2 * RADIUS**2))
    assert "Radius 1.414, standard deviation 0.0141" in task.summary


@pytest.mark.parametrize("control", ["real", "continuous ring", "one mode missing", "constant origin"])
def test_scale_changes_units_and_nothing_else(control):
    task, usual = get_task("ring8[scale=10]"), ring8()
    # A scale of 10 is 5 times the usual, areas 25 times; products of five numbers are rounded at 1e-16 each.
    assert task.threshold == pytest.approx(25 * usual.threshold, rel=1e-12)
    assert task.anchors == pytest.approx([25 * anchor for anchor in usual.anchors], rel=1e-12)
    assert [c.value for c in task.controls] == pytest.approx([25 * c.value for c in usual.controls], rel=1e-12)
    samples = torch.cat([MAKERS[control](torch.Generator().manual_seed(0)) for _ in range(2)])[None]
    found, expected = task.evaluate(Snapshot({}, 5 * samples)), usual.evaluate(Snapshot({}, samples))
    for name, value in found.items():
        area = 25 if name.startswith(("w2sq", "selection")) else 1
        assert float(value) == pytest.approx(area * float(expected[name]), rel=1e-9), name


def test_real_samples_scale_but_for_the_ratio():
    uniforms = torch.rand(500, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = sample(uniforms)
    torch.testing.assert_close(get_task("ring8[scale=10]").sample(uniforms), 5 * x, rtol=1e-12, atol=0)
    # Thanh-Tung and Tran scale the centres and not the noise.
    theirs = get_task("ring8[scale=10, ratio=500]").sample(uniforms)
    middle = centres()[(uniforms[:, 0] * MODES).long()]
    torch.testing.assert_close(theirs, 5 * middle + (x - middle), rtol=0, atol=1e-12)


def test_narrower_modes_lower_blur_alone():
    task = get_task("ring8[ratio=500]")
    changed = {c.name: c.value - was.value for c, was in zip(task.controls, ring8().controls, strict=True)}
    # Blur of ten deviations costs 2 (10 sd)^2 = 0.04, of which a 25th is left.
    assert changed.pop("ten times the spread") == pytest.approx(-0.04 * 24 / 25, rel=1e-3)
    assert set(changed.values()) == {0.0}
    generator = torch.Generator().manual_seed(1)
    blurred = torch.stack([torch.cat([mixture(generator, sd=2 * SD) for _ in range(2)]) for _ in range(REPEATS)])
    values = task.evaluate(Snapshot({}, blurred))[task.primary]
    recorded = next(c.value for c in task.controls if c.name == "ten times the spread")
    assert float(values.mean()) == pytest.approx(recorded, abs=4 * float(values.std()) / math.sqrt(REPEATS) + 0.005)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("ring8[scale=0]", "scale = 0: the scale of ring8 must be positive"),
        ("ring8[ratio=50]", "ratio = 50: ring8 was measured for modes whose radius is 100"),
        ("ring8-sequential[cycles=0]", "cycles = 0: the modes of ring8-sequential must be shown once or more"),
        ("ring8-sequential[scale=-1]", "scale = -1: the scale of ring8 must be positive"),
    ],
)
def test_what_cannot_be_is_refused(name, sentence):
    with pytest.raises(UserError, match=sentence):
        get_task(name)


PUBLISHED_ORDER = [(1, 0), (-1, 0), (0, 1), (0, -1), (0.5, 0.5), (0.5, -0.5), (-0.5, 0.5), (-0.5, -0.5)]


def at(spent, *, count=200):
    """Numbers (count, 3) at a moment of training."""
    uniforms = torch.rand(count, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return torch.cat([uniforms, torch.full((count, 1), spent, dtype=torch.float64)], 1)


@pytest.mark.parametrize("cycles", [1, 3])
def test_modes_come_one_at_a_time_in_the_published_order(cycles):
    task = get_task(f"ring8-sequential[cycles={cycles}]")
    assert task.over_time
    stages = MODES * cycles
    for stage in range(stages):
        x = task.sample(at((stage + 0.5) / stages))
        direction = torch.tensor(PUBLISHED_ORDER[stage % MODES], dtype=torch.float64)
        centre = RADIUS * direction / direction.norm()
        # Two normals beyond 6 deviations have a probability of 2e-9, among 400.
        assert float((x - centre).abs().max()) < 6 * SD
        assert set(task.label(at((stage + 0.5) / stages)).tolist()) == {ORDER[stage % MODES]}


def test_every_mode_gets_an_equal_share_of_the_budget():
    steps = 1600
    spent = torch.arange(steps, dtype=torch.float64) / steps
    numbers = torch.cat([torch.full((steps, 2), 0.5, dtype=torch.float64), spent[:, None]], 1)
    assert label_in_turn(numbers, cycles=2).bincount(minlength=MODES).tolist() == [steps // MODES] * MODES
    assert int(label_in_turn(at(1.0, count=1), cycles=2)) == ORDER[-1]


def test_sequential_noise_and_metrics_are_those_of_the_ring():
    task, ring = get_task("ring8-sequential"), get_task("ring8")
    numbers = at(0.0)
    torch.testing.assert_close(
        torch.special.ndtr((task.sample(numbers) - centres()[0]) / SD), numbers[:, :2], rtol=0, atol=1e-12
    )
    assert (task.threshold, task.anchors, task.controls) == (ring.threshold, ring.anchors, ring.controls)
    real = MAKERS["real"](torch.Generator().manual_seed(0)).repeat(2, 1)[None]
    last = MAKERS["one mode only"](torch.Generator().manual_seed(0)).repeat(2, 1)[None]
    assert float(task.evaluate(Snapshot({}, real))[task.primary]) < task.threshold
    # What a generator scores that follows the data and forgets: nearly the upper anchor.
    assert float(task.evaluate(Snapshot({}, last))[task.primary]) == pytest.approx(task.anchors[1], rel=1e-3)


def test_sequential_scale_is_the_rings():
    task = get_task("ring8-sequential[scale=10, ratio=500]")
    assert task.controls == get_task("ring8[scale=10, ratio=500]").controls
    x = task.sample(at(0.0))
    torch.testing.assert_close(x - 5 * centres()[0], get_task("ring8-sequential").sample(at(0.0)) - centres()[0])

import functools
import math

import pytest
import torch

from study.metrics.modes import HIGH_QUALITY_CEILING
from study.tasks.ring import MODES, RADIUS, SAMPLES, SD, centres, evaluate, ring8, sample


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
    return evaluate({}, samples)


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
    values = evaluate({}, torch.cat([real, collapsed])[None])
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

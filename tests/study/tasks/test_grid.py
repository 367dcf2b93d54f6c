import functools
import math

import pytest
import torch

from study.errors import UserError
from study.metrics.modes import HIGH_QUALITY_CEILING
from study.tasks.base import Snapshot
from study.tasks.grid import FEW, MODES, SAMPLES, SD, STEP, centres, grid25, label, sample
from study.tasks.table import get_task

HALF = 2.5 * STEP


def mixture(generator, *, modes=range(MODES), sd=SD):
    kept = centres()[torch.tensor(list(modes))]
    index = torch.randint(len(kept), (SAMPLES,), generator=generator)
    return kept[index] + sd * torch.randn(SAMPLES, 2, generator=generator, dtype=torch.float64)


def without(*missing):
    return [mode for mode in range(MODES) if mode not in missing]


def square(generator):
    return HALF * (2 * torch.rand(SAMPLES, 2, generator=generator, dtype=torch.float64) - 1)


def joined(generator):
    return torch.stack([mixture(generator)[:, 0], square(generator)[:, 1]], 1)


def gaussian(generator):
    return math.sqrt(2) * STEP * torch.randn(SAMPLES, 2, generator=generator, dtype=torch.float64)


MAKERS = {
    "real": mixture,
    "modes without spread": functools.partial(mixture, sd=0.0),
    "ten times the spread": functools.partial(mixture, sd=10 * SD),
    "middle mode missing": functools.partial(mixture, modes=without(12)),
    "corner mode missing": functools.partial(mixture, modes=without(0)),
    "two opposite corners missing": functools.partial(mixture, modes=without(0, 24)),
    "one row missing": functools.partial(mixture, modes=range(5, 25)),
    "every other mode missing": functools.partial(mixture, modes=range(0, 25, 2)),
    "first half twice as heavy": functools.partial(mixture, modes=[*range(25), *range(13)]),
    "lines": joined,
    "filled square": square,
    "one Gaussian": gaussian,
    "one mode only": functools.partial(mixture, modes=[12]),
    "corner mode only": functools.partial(mixture, modes=[24]),
}
REPEATS = 8
TASK = grid25()


@functools.cache
def measured(name, *, seed=1):
    generator = torch.Generator().manual_seed(seed)
    made = [torch.cat([MAKERS[name](generator) for _ in range(2)]) for _ in range(REPEATS)]
    return TASK.evaluate(Snapshot({}, torch.stack(made)[:, : TASK.evaluation_samples]))


@pytest.mark.parametrize("control", TASK.controls, ids=lambda control: control.name)
def test_control_measures_as_recorded(control):
    values = measured(control.name)[TASK.primary]
    # Four standard errors of the mean, and half of the last recorded digit.
    error = float(values.std()) / math.sqrt(REPEATS)
    assert float(values.mean()) == pytest.approx(control.value, abs=4 * error + 0.0005)


def test_every_control_has_a_maker():
    assert {control.name for control in TASK.controls} == set(MAKERS)


def test_threshold_separates_single_evaluations_of_controls():
    assert float(measured("real")[TASK.primary].max()) < TASK.threshold
    assert float(measured("middle mode missing")[TASK.primary].min()) > TASK.threshold


def test_anchors_are_the_real_floor_and_full_collapse():
    low, high = TASK.anchors
    assert low == next(control.value for control in TASK.controls if control.name == "real")
    # Squared distances of the centres from the middle: 2 (0 + 1 + 1 + 4 + 4) / 5 steps^2 on average.
    assert high == pytest.approx(float(centres().square().sum(1).mean()), rel=1e-12)
    assert high == pytest.approx(4 * (2 / 2.828) ** 2, rel=1e-12)
    # All samples on the middle mode have its spread, 2 sd^2, on top.
    spread = pytest.approx(high + 2 * SD**2, rel=1e-3)
    assert float(measured("one mode only")[TASK.primary].mean()) == spread


def test_perfect_sampler_reaches_the_ceilings():
    values = measured("real")
    n = REPEATS * FEW
    share = float(values["high_quality_n2500"].mean())
    assert pytest.approx(0.9889, abs=5e-5) == HIGH_QUALITY_CEILING
    assert share == pytest.approx(HIGH_QUALITY_CEILING, abs=4 * math.sqrt(0.9889 * 0.0111 / n))
    # A mode has 99 +- 10 high-quality samples: fewer than 11 is 9 deviations off.
    assert (values["modes_n2500"] == MODES).all()
    assert (values["modes_min11_n2500"] == MODES).all()
    # A variance estimated from 2 n numbers has a relative error of about 1 / sqrt(n); truncation makes it smaller.
    assert float(values["variance_ratio_n2500"].mean()) == pytest.approx(1, abs=4 / math.sqrt(n))
    # 2 n KL is chi-square with 24 degrees of freedom, of deviation sqrt(48).
    floor = 24 / (2 * FEW)
    assert float(values["reverse_kl_n2500"].mean()) == pytest.approx(floor, abs=4 * floor * math.sqrt(2 / 24 / REPEATS))


def test_what_the_primary_forgives_the_other_metrics_see():
    assert float(measured("modes without spread")["variance_ratio_n2500"].max()) < 1e-12
    assert float(measured("ten times the spread")["high_quality_n2500"].max()) < 0.1
    assert float(measured("corner mode missing")["modes_n2500"].max()) == MODES - 1
    assert float(measured("one mode only")["reverse_kl_n2500"].min()) == pytest.approx(math.log(25), rel=1e-12)
    heavy = 26 / 38 * math.log(25 * 2 / 38) + 12 / 38 * math.log(25 / 38)
    found = measured("first half twice as heavy")["reverse_kl_n2500"]
    assert float(found.mean()) == pytest.approx(heavy, abs=4 * float(found.std()) / math.sqrt(REPEATS) + 24 / 5000)


def test_captured_rules_differ_by_the_number_they_ask_for():
    # On every mode but the first 100 of the 2500 samples; there 10, one less than the stricter rule asks for.
    kept = torch.cat([torch.full((10,), 0), torch.arange(1, MODES).repeat_interleave(100), torch.full((90,), 1)])
    values = TASK.evaluate(Snapshot({}, centres()[kept].repeat(5, 1)[None, : TASK.evaluation_samples]))
    assert (float(values["modes_n2500"]), float(values["modes_min11_n2500"])) == (25, 24)


def test_selection_looks_at_samples_of_its_own():
    generator = torch.Generator().manual_seed(0)
    real, collapsed = mixture(generator), mixture(generator, modes=[0])
    values = TASK.evaluate(Snapshot({}, torch.cat([real, collapsed[:FEW]])[None]))
    assert float(values[TASK.primary]) < TASK.threshold
    corner = next(control.value for control in TASK.controls if control.name == "corner mode only")
    assert float(values["selection"]) == pytest.approx(corner, rel=1e-3)


@pytest.mark.parametrize("scale", [1.0, 2.828, 10.0])
def test_real_samples_invert_to_their_uniforms(scale):
    task = grid25(scale=scale)
    uniforms = torch.rand(1000, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = task.sample(uniforms)
    axis = scale * torch.tensor([-4.0, -2.0, 0.0, 2.0, 4.0], dtype=torch.float64) / 2.828
    index = (uniforms[:, 0] * 25).long()
    residual = x - torch.stack([axis[index // 5], axis[index % 5]], 1)
    # The standard deviation is 0.05 / 2.828 of the scale; differences of numbers of order 10 are good to 1e-14 / sd.
    found = torch.special.ndtr(residual / (scale * 0.05 / 2.828))
    torch.testing.assert_close(found, uniforms[:, 1:], rtol=0, atol=1e-11)


def test_modes_are_equally_likely_and_labels_name_them():
    uniforms = torch.rand(2500, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    uniforms[:, 0] = (torch.arange(2500) + 0.5) / 2500
    found = label(uniforms)
    assert found.bincount().tolist() == [100] * 25
    nearest = (sample(uniforms)[:, None] - centres()).square().sum(-1).argmin(1)
    # Half a step is 20 deviations.
    assert torch.equal(nearest, found)


@pytest.mark.parametrize("control", ["real", "filled square", "one mode only"])
def test_scale_changes_units_and_nothing_else(control):
    task = get_task("grid25[scale=10]")
    assert task.threshold == pytest.approx(100 * TASK.threshold, rel=1e-12)
    assert task.anchors == pytest.approx([100 * anchor for anchor in TASK.anchors], rel=1e-12)
    assert [c.value for c in task.controls] == pytest.approx([100 * c.value for c in TASK.controls], rel=1e-12)
    samples = torch.cat([MAKERS[control](torch.Generator().manual_seed(0)) for _ in range(2)])[None]
    found, expected = task.evaluate(Snapshot({}, 10 * samples)), TASK.evaluate(Snapshot({}, samples))
    for name, value in found.items():
        area = 100 if name.startswith(("w2sq", "selection")) else 1
        assert float(value) == pytest.approx(area * float(expected[name]), rel=1e-9), name


def test_scale_must_be_positive():
    with pytest.raises(UserError, match="scale = 0: the scale of grid25 must be positive"):
        get_task("grid25[scale=0]")

import functools
import math

import numpy as np
import pytest
import torch
from sklearn.datasets import make_swiss_roll

from study.errors import UserError
from study.tasks.base import Snapshot
from study.tasks.swissroll import REFERENCE, SAMPLES, SD, curve, draws, sample, swissroll
from study.tasks.table import get_task

FIRST, LAST = 1.5 * math.pi, 4.5 * math.pi
"""The angle at either end of the curve."""


def uniform(generator, *shape):
    return torch.rand(*shape, generator=generator, dtype=torch.float64)


def roll(generator, *, low=0.0, high=1.0, noise=1.0):
    where = low + (high - low) * uniform(generator, SAMPLES)
    return curve(where) + noise * SD * torch.randn(SAMPLES, 2, generator=generator, dtype=torch.float64)


def gap(generator):
    where = 0.9 * uniform(generator, SAMPLES)
    where = torch.where(where < 0.45, where, where + 0.1)
    return curve(where) + SD * torch.randn(SAMPLES, 2, generator=generator, dtype=torch.float64)


def even(generator):
    # From one angle to another the curve is as long as half of the difference of their squares, to 1 % here.
    angle = (FIRST**2 + (LAST**2 - FIRST**2) * uniform(generator, SAMPLES)).sqrt()
    return curve((angle - FIRST) / (LAST - FIRST))


def polar(generator, radius):
    angle = 2 * math.pi * uniform(generator, SAMPLES)
    return torch.stack([radius * angle.cos(), radius * angle.sin()], -1)


def moments():
    """Mean and covariance of the data: integrals of t cos t, t sin t and their products over the angles, and noise."""

    def mean(integral):
        return (integral(LAST) - integral(FIRST)) / (LAST - FIRST) / 7.5

    x = mean(lambda t: math.cos(t) + t * math.sin(t))
    y = mean(lambda t: math.sin(t) - t * math.cos(t))
    # t^2 cos^2 t = t^2 / 2 + t^2 cos 2t / 2, and so on
    half = mean(lambda t: t**3 / 6) / 7.5
    turned = mean(lambda t: (t**2 / 2 * math.sin(2 * t) + t / 2 * math.cos(2 * t) - math.sin(2 * t) / 4) / 2) / 7.5
    mixed = mean(lambda t: (-(t**2) / 2 * math.cos(2 * t) + t / 2 * math.sin(2 * t) + math.cos(2 * t) / 4) / 2) / 7.5
    covariance = torch.tensor([[half + turned - x * x, mixed - x * y], [mixed - x * y, half - turned - y * y]])
    return torch.tensor([x, y]).double(), covariance.double() + SD**2 * torch.eye(2).double()


def gaussian(generator):
    mean, covariance = moments()
    normal = torch.randn(SAMPLES, 2, generator=generator, dtype=torch.float64)
    return mean + normal @ torch.linalg.cholesky(covariance).T


def constant(point):
    return lambda _generator: point.expand(SAMPLES, 2)


MAKERS = {
    "real": roll,
    "no noise": functools.partial(roll, noise=0.0),
    "five times the noise": functools.partial(roll, noise=5.0),
    "first tenth missing": functools.partial(roll, low=0.1),
    "last tenth missing": functools.partial(roll, high=0.9),
    "a tenth in the middle missing": gap,
    "first half missing": functools.partial(roll, low=0.5),
    "second half missing": functools.partial(roll, high=0.5),
    "even along the curve": even,
    "filled disc": lambda generator: polar(generator, LAST / 7.5 * uniform(generator, SAMPLES).sqrt()),
    "right radii, any angle": lambda generator: polar(
        generator, (FIRST + (LAST - FIRST) * uniform(generator, SAMPLES)) / 7.5
    ),
    "one Gaussian": gaussian,
    "constant mean": constant(moments()[0]),
    "constant start of the curve": constant(curve(torch.zeros((), dtype=torch.float64))),
}
REPEATS = 16
TASK = swissroll()


@functools.cache
def measured(name, *, seed=1):
    generator = torch.Generator().manual_seed(seed)
    samples = torch.stack([MAKERS[name](generator) for _ in range(REPEATS)])
    return TASK.evaluate(Snapshot({}, samples))


@pytest.mark.parametrize("control", TASK.controls, ids=lambda control: control.name)
def test_control_measures_as_recorded(control):
    values = measured(control.name)[TASK.primary]
    # Four standard errors of the mean of 16, and half of the last recorded digit.
    digit = 0.0005 if control.value > 0.1 else 0.00005
    tolerance = 4 * float(values.std()) / math.sqrt(REPEATS) + digit
    assert float(values.mean()) == pytest.approx(control.value, abs=tolerance)


def test_every_control_has_a_maker():
    assert {control.name for control in TASK.controls} == set(MAKERS)


def test_threshold_separates_single_evaluations_of_controls():
    for split in (TASK.primary, "selection"):
        assert float(measured("real")[split].max()) < TASK.threshold
        assert float(measured("first tenth missing")[split].min()) > TASK.threshold


def test_splits_agree_on_the_controls():
    for name in MAKERS:
        values = measured(name)
        # Either reference is 8192 points: the mean along any direction errs by 0.9 / sqrt(8192) = 0.01, so distances
        # of size w do by 2 w 0.01, and their squares by the same and what real samples score, three times over.
        square = float(values[TASK.primary].mean())
        tolerance = 3 * (2 * math.sqrt(2 * square) * 0.01 + 0.001)
        assert float(values["selection"].mean()) == pytest.approx(square, abs=tolerance), name


def test_upper_anchor_is_half_of_the_total_variance():
    variance = float(moments()[1].trace())
    # rounded to two digits
    assert TASK.anchors[1] == pytest.approx(variance / 2, abs=0.005)
    assert TASK.anchors[0] == next(control.value for control in TASK.controls if control.name == "real")


def test_blur_is_one_for_the_data_and_counts_the_noise():
    def blur(name):
        return float(measured(name)["blur_n512"].mean())

    # 512 * 16 distances with a relative deviation of sqrt(pi / 2 - 1) = 0.76, and 2 % for the gaps between points.
    assert blur("real") == pytest.approx(1, abs=4 * 0.76 / math.sqrt(512 * REPEATS) + 0.025)
    assert blur("five times the noise") == pytest.approx(5, abs=5 * 4 * 0.76 / math.sqrt(512 * REPEATS) + 0.05)
    # On the curve a point is at most half of a gap from the next, 0.006 and as much again at the outer end.
    assert blur("no noise") < 0.012 / (SD * math.sqrt(2 / math.pi))


def test_samples_are_those_of_scikit_learn():
    n = 500
    found = make_swiss_roll(n_samples=n, noise=0.25, random_state=np.random.RandomState(3))[0][:, [0, 2]] / 7.5
    state = np.random.RandomState(3)
    along, _ = state.uniform(size=n), state.uniform(size=n)
    normal = torch.from_numpy(state.standard_normal(size=(3, n)))
    uniforms = torch.stack([torch.from_numpy(along), *torch.special.ndtr(normal[[0, 2]])], 1)
    # ndtri of ndtr loses what ndtr rounds near 1: 1e-16 over the density at 4 deviations, 1e-4.
    torch.testing.assert_close(sample(uniforms), torch.from_numpy(found), rtol=0, atol=1e-10)


def test_moments_of_the_references_are_the_datas():
    mean, covariance = moments()
    test, selection = draws()
    assert not torch.equal(test, selection)
    for split in (test, selection):
        assert split.shape == (REFERENCE, 2)
        # Four deviations of a mean of 8192, and of a covariance, whose entries are bounded by 1.9^2 and vary by less.
        error = 4 * covariance.diagonal().sqrt() / math.sqrt(REFERENCE)
        assert ((split.mean(0) - mean).abs() < error).all()
        assert float((split.T.cov() - covariance).abs().max()) < 4 * 1.9**2 / 2 / math.sqrt(REFERENCE)


def test_references_are_drawn_once():
    before = draws()
    state = torch.random.get_rng_state()
    draws.cache_clear()
    assert all(torch.equal(old, new) for old, new in zip(before, draws(), strict=True))
    assert torch.equal(state, torch.random.get_rng_state())


@pytest.mark.parametrize("control", ["real", "filled disc", "constant mean"])
def test_scale_changes_units_and_nothing_else(control):
    task = get_task("swissroll[scale=10]")
    assert task.threshold == pytest.approx(100 * TASK.threshold, rel=1e-12)
    assert task.anchors == pytest.approx([100 * anchor for anchor in TASK.anchors], rel=1e-12)
    assert [c.value for c in task.controls] == pytest.approx([100 * c.value for c in TASK.controls], rel=1e-12)
    samples = MAKERS[control](torch.Generator().manual_seed(0))[None]
    found, expected = task.evaluate(Snapshot({}, 10 * samples)), TASK.evaluate(Snapshot({}, samples))
    for name, value in found.items():
        assert float(value) == pytest.approx((1 if name == "blur_n512" else 100) * float(expected[name]), rel=1e-9)
    uniforms = uniform(torch.Generator().manual_seed(0), 50, 3)
    torch.testing.assert_close(task.sample(uniforms), 10 * sample(uniforms), rtol=1e-12, atol=0)


def test_scale_must_be_positive():
    with pytest.raises(UserError, match="scale = -2: the scale of swissroll must be positive"):
        get_task("swissroll[scale=-2]")

import functools
import math

import numpy as np
import pytest
import torch
from scipy.stats import binom, norm

from study.tasks.base import Snapshot
from study.tasks.mixture import (
    BINS,
    HIGH,
    LOW,
    MEANS,
    SAMPLES,
    SD,
    cumulative,
    edges,
    label,
    mixture1d,
    probabilities,
    quantiles,
    sample,
    w1,
)

COUNT = 2 * SAMPLES


def mixture(generator, *, modes=(0, 1, 2, 3), sd=SD, shift=0.0):
    kept = torch.tensor(MEANS, dtype=torch.float64)[list(modes)]
    index = torch.randint(len(kept), (COUNT,), generator=generator)
    return (kept[index] + shift + sd * torch.randn(COUNT, generator=generator, dtype=torch.float64))[:, None]


def constant(value):
    return lambda _generator: torch.full((COUNT, 1), value, dtype=torch.float64)


def even(generator):
    return 8 * torch.rand(COUNT, 1, generator=generator, dtype=torch.float64) - 4


def gaussian(generator):
    return math.sqrt(5 + SD**2) * torch.randn(COUNT, 1, generator=generator, dtype=torch.float64)


MAKERS = {
    "real": mixture,
    "one mode twice as heavy": functools.partial(mixture, modes=(0, 0, 1, 2, 3)),
    "modes half as wide again": functools.partial(mixture, sd=1.5 * SD),
    "modes twice as wide": functools.partial(mixture, sd=2 * SD),
    "modes half as wide": functools.partial(mixture, sd=SD / 2),
    "shifted by a standard deviation": functools.partial(mixture, shift=SD),
    "outer mode missing": functools.partial(mixture, modes=(0, 1, 2)),
    "inner mode missing": functools.partial(mixture, modes=(0, 1, 3)),
    "no modes": even,
    "one Gaussian": gaussian,
    "one mode only": functools.partial(mixture, modes=(2,)),
    "constant": constant(0.0),
    "far away": constant(20.0),
}
REPEATS = 16
TASK = mixture1d()


@functools.cache
def measured(name, *, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return TASK.evaluate(Snapshot({}, torch.stack([MAKERS[name](generator) for _ in range(REPEATS)])))


def mean_and_error(name, metric=TASK.primary):
    values = measured(name)[metric]
    return float(values.mean()), float(values.std()) / math.sqrt(REPEATS)


@pytest.mark.parametrize("control", TASK.controls, ids=lambda control: control.name)
def test_control_measures_as_recorded(control):
    mean, error = mean_and_error(control.name)
    # Four standard errors of the mean of 16, and half of the last recorded digit.
    digit = 0.00005 if control.value < 0.02 else 0.0005
    assert mean == pytest.approx(control.value, abs=4 * error + digit)


def test_every_control_has_a_maker():
    assert {control.name for control in TASK.controls} == set(MAKERS)


def test_threshold_separates_single_evaluations_of_controls():
    for split in (TASK.primary, "selection"):
        assert float(measured("real")[split].max()) < TASK.threshold
        assert min(float(measured(name)[split].min()) for name in ("modes twice as wide", "no modes")) > TASK.threshold


def test_probabilities_are_those_of_the_mixture():
    below = sum(norm.cdf(edges().numpy(), mean, SD) for mean in MEANS) / 4
    found = probabilities().numpy()
    # Two distribution functions of order 1, each rounded at 1e-16.
    assert found[:-1] == pytest.approx(np.diff(below), abs=1e-15)
    assert found[-1] == pytest.approx(sum(norm.cdf(LOW, mean, SD) + norm.sf(HIGH, mean, SD) for mean in MEANS) / 4)
    assert found.sum() == pytest.approx(1, abs=1e-14)


def divergence(p, q, weight):
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = p * np.log(2 * p / (p + q)) + q * np.log(2 * q / (p + q))
    return float((weight * np.where(p == 0, q * math.log(2), terms)).sum()) / 2


def test_real_samples_score_the_expected_divergence():
    counts = np.arange(SAMPLES + 1)
    expected = sum(divergence(counts / SAMPLES, q, binom.pmf(counts, SAMPLES, q)) for q in probabilities().numpy())
    mean, error = mean_and_error("real")
    assert mean == pytest.approx(expected, abs=4 * error)
    # The anchor is the leading order of it, which counts every bin in full.
    assert TASK.anchors[0] == BINS / (8 * SAMPLES)
    assert 0.8 * TASK.anchors[0] < expected < TASK.anchors[0]


def test_divergences_of_simple_generators_are_exact():
    assert TASK.anchors[1] == math.log(2)
    # A constant 0 is at the edge of two bins and counts for the upper one, (0, 0.2); 20 is outside of them all.
    bins = {"constant": sum(norm.cdf(0.2, mean, SD) - norm.cdf(0, mean, SD) for mean in MEANS) / 4}
    bins["far away"] = sum(norm.cdf(LOW, mean, SD) + norm.sf(HIGH, mean, SD) for mean in MEANS) / 4
    for name, q in bins.items():
        # The tails of 1e-7 are differences of distribution functions of order 1, rounded at 1e-16.
        assert mean_and_error(name, "kl_n4096") == (pytest.approx(-math.log(q), rel=1e-8), 0)
        exact = (math.log(2 / (1 + q)) + q * math.log(2 * q / (1 + q)) + (1 - q) * math.log(2)) / 2
        assert mean_and_error(name) == (pytest.approx(exact, rel=1e-8), 0)
    # Without an outer mode, all mass of which is missing, the others weigh 4/3 of what they should: KL is log 4/3.
    mean, error = mean_and_error("outer mode missing", "kl_n4096")
    # Chance adds (bins - 1) / (2 n); modes overlap a little, 0.006 of each.
    assert mean == pytest.approx(math.log(4 / 3), abs=4 * error + BINS / (2 * SAMPLES) + 0.006)


def numerically(points):
    """W1 as the area between the distribution functions, on a grid of 1e-4."""
    x = np.arange(-12, 12, 1e-4) + 5e-5
    exact = sum(norm.cdf(x, mean, SD) for mean in MEANS) / 4
    empirical = np.searchsorted(np.sort(points), x, side="right") / len(points)
    return np.abs(exact - empirical).sum() * 1e-4


@pytest.mark.parametrize("name", ["real", "one Gaussian", "outer mode missing", "constant"])
@pytest.mark.parametrize("count", [1, 2, 7, 500])
def test_w1_is_the_area_between_distribution_functions(name, count):
    points = MAKERS[name](torch.Generator().manual_seed(count))[:count]
    # The rule of midpoints errs at most by the step times the jumps and, where the sign changes, its square: 2e-4.
    assert float(w1(points[None])) == pytest.approx(numerically(points[:, 0].numpy()), abs=2e-4)


def test_w1_of_a_far_point_is_the_distance_to_the_mean():
    assert mean_and_error("far away", "w1_n4096") == (pytest.approx(20, rel=1e-12), 0)


def test_w1_tells_weights_that_the_divergence_forgives():
    real, heavy = (mean_and_error(name, "w1_n4096")[0] for name in ("real", "one mode twice as heavy"))
    # Weights 2/5, 1/5, 1/5, 1/5: 0.15 over the first gap, 0.1 and 0.05 over the others, each of length 2.
    assert heavy == pytest.approx(0.6, abs=4 * mean_and_error("one mode twice as heavy", "w1_n4096")[1] + 0.01)
    assert real < 0.1


def test_selection_looks_at_the_other_half():
    generator = torch.Generator().manual_seed(0)
    both = torch.cat([mixture(generator)[:SAMPLES], gaussian(generator)[:SAMPLES]])
    values = TASK.evaluate(Snapshot({}, both[None]))
    assert float(values[TASK.primary]) < TASK.threshold < float(values["selection"])


def test_real_samples_invert_to_their_uniforms():
    uniforms = torch.rand(1000, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    uniforms[:, 0] = (torch.arange(1000) + 0.5) / 1000
    modes = label(uniforms)
    assert modes.bincount().tolist() == [250] * 4
    residual = sample(uniforms)[:, 0] - torch.tensor([-3.0, -1.0, 1.0, 3.0], dtype=torch.float64)[modes]
    torch.testing.assert_close(torch.special.ndtr(residual / 0.4), uniforms[:, 1], rtol=0, atol=1e-14)


def slow_w1(points):
    """The integral of |quantile - sample| over the quantiles that each sample answers for, by scipy."""
    ordered, total = np.sort(points), 0.0
    grid = np.linspace(-12, 12, 400_001)
    below = sum(norm.cdf(grid, mean, SD) for mean in MEANS) / 4
    for i, point in enumerate(ordered):
        share = (np.arange(2000) + 0.5) / 2000 / len(points) + i / len(points)
        total += np.abs(np.interp(share, below, grid) - point).mean() / len(points)
    return total


def test_w1_of_samples_on_quantiles_and_of_many_alike():
    shares = torch.arange(1, 8, dtype=torch.float64) / 8
    on_quantiles = quantiles(8).points[1:-1]
    torch.testing.assert_close(cumulative(on_quantiles), shares, rtol=0, atol=1e-14)
    for points in (on_quantiles, on_quantiles[:1].repeat(8), torch.full((8,), -3.0), torch.full((8,), 40.0)):
        # the rule of midpoints on 2000 parts of each share, and quantiles to 6e-5 of a grid; outer ones reach far
        assert float(w1(points[None, :, None])) == pytest.approx(slow_w1(points.numpy()), abs=1e-3)

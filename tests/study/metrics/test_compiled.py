"""Compiled code for metrics is the same to the last bit as what runs without a compiler, but for its covariances."""

import math

import pytest
import torch

from study.metrics import compiled
from study.metrics.classes import labels
from study.metrics.gaussian import moments_ddof1
from study.metrics.modes import (
    mode_counts,
    mode_variance_ratios,
    nearest_mode,
    ring_modes,
    w2sq_by_modes,
    w2sq_to_modes,
)
from study.metrics.samples import mean_nearest_distance, mean_spacing
from study.native import build
from tests.study.native_case import needs_compiler


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


CENTRES = normal(7, 2, seed=1)
IMAGES = normal(40, 30, seed=2)
IN_PLANE = {
    "nearest distance": lambda x: nearest_mode(x, CENTRES).square,
    "nearest mode": lambda x: nearest_mode(x, CENTRES).mode,
    "by modes": lambda x: w2sq_by_modes(x, CENTRES),
    "to modes": lambda x: w2sq_to_modes(x, CENTRES),
    "captured": lambda x: ring_modes(x, CENTRES, sd=0.2).captured,
    "high quality": lambda x: ring_modes(x, CENTRES, sd=0.2).high_quality,
    "variance": lambda x: ring_modes(x, CENTRES, sd=0.2).variance_ratio,
    "counts": lambda x: mode_counts(x, CENTRES, sd=0.2),
    "variances": lambda x: mode_variance_ratios(x, CENTRES, sd=0.2),
    "to points": lambda x: mean_nearest_distance(x, CENTRES),
}
IN_SPACE = {
    "to rows": lambda x: mean_nearest_distance(x, IMAGES),
    "spacing": mean_spacing,
    "labels": labels,
}
CASES = {**{name: (metric, 2) for name, metric in IN_PLANE.items()}, **{n: (m, 30) for n, m in IN_SPACE.items()}}


def samples(d, dtype):
    """Ordinary ones, copies, some that are alike, huge ones, and some that are not finite."""
    x = normal(7, 90, d).to(dtype)
    x[1] = x[1, :1]
    x[2] = 3 + 1e-4 * x[2]
    x[3] *= 1e25
    x[4, 5, 1] = math.nan
    x[5, 6, 0] = math.inf
    x[6, :60] = x[6, 60:61]
    return x


@needs_compiler
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", CASES)
def test_without_a_compiler_it_is_the_same_to_the_last_bit(name, dtype, monkeypatch):
    metric, d = CASES[name]
    x = samples(d, dtype)
    assert compiled.code()
    found = metric(x)
    monkeypatch.setattr(compiled, "code", lambda: None)
    expected = metric(x)
    assert found.dtype is expected.dtype
    assert torch.equal(found.isnan(), expected.isnan())
    assert torch.equal(found.nan_to_num(), expected.nan_to_num())


@needs_compiler
@pytest.mark.parametrize("name", CASES)
def test_parts_of_samples_are_looked_at_where_they_lie(name):
    metric, d = CASES[name]
    x = normal(4, 150, d)
    some = x[1:, 20:110]
    assert not some.is_contiguous()
    assert torch.equal(metric(some), metric(some.clone()))
    wide = normal(4, 90, 2 * d)[..., ::2]
    assert torch.equal(metric(wide), metric(wide.clone()))


@needs_compiler
def test_what_is_known_of_the_nearest_is_used_in_parts():
    x = normal(4, 150, 2)
    nearest = nearest_mode(x, CENTRES).part(slice(20, 110))
    some = x[:, 20:110]
    assert torch.equal(w2sq_by_modes(some, CENTRES, nearest), w2sq_by_modes(some, CENTRES))
    assert torch.equal(w2sq_to_modes(some, CENTRES, nearest), w2sq_to_modes(some, CENTRES))
    assert torch.equal(mode_counts(some, CENTRES, sd=0.2, nearest=nearest), mode_counts(some, CENTRES, sd=0.2))


@needs_compiler
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("n", "d"), [(2, 1), (64, 3), (65, 16), (200, 17), (131, 40)])
def test_covariances_are_those_of_all_products(n, d, dtype):
    x = (2 + normal(3, n, d)).to(dtype)
    mean, covariance = compiled.covariance(x)
    expected = moments_ddof1(x)
    # sums of n terms of order 10, in another order
    assert torch.allclose(mean, expected.mean, rtol=0, atol=10 * n * 2**-52)
    assert torch.allclose(covariance, expected.covariance, rtol=0, atol=10 * n * 2**-52)
    assert torch.equal(covariance, covariance.mT)


@needs_compiler
def test_covariances_belong_to_their_trials():
    x = normal(4, 50, 5)
    clean = compiled.covariance(x)[1]
    x[1, 3, 2] = math.nan
    found = compiled.covariance(x)[1]
    assert found[1].isnan().any()
    assert torch.equal(found[[0, 2, 3]], clean[[0, 2, 3]])
    assert torch.equal(compiled.covariance(x[2:3])[1], clean[2:3])


def test_a_mode_that_is_none_is_refused():
    x = normal(2, 10, 2)
    nearest = nearest_mode(x, CENTRES)
    with pytest.raises(ValueError, match="there are 2 centres and no number"):
        mode_counts(x, CENTRES[:2], sd=1.0, nearest=nearest)
    with pytest.raises(ValueError, match="a nearest centre each"):
        mode_counts(x[:, :5], CENTRES, sd=1.0, nearest=nearest)


def test_without_a_compiler_there_is_no_code(monkeypatch):
    def nothing(_source):
        raise build.NoCompiler("there is none")

    monkeypatch.setattr(compiled, "library", nothing)
    compiled.code.cache_clear()
    try:
        assert compiled.code() is None
        assert compiled.nearest(normal(1, 3, 2), CENTRES) is None
    finally:
        compiled.code.cache_clear()


def test_nothing_is_waited_for_where_nothing_can_be_compiled(monkeypatch):
    monkeypatch.setattr(compiled, "missing", lambda: "the compiler does not answer")
    monkeypatch.setattr(compiled, "library", lambda _: pytest.fail("it was asked"))
    compiled.code.cache_clear()
    try:
        assert compiled.code() is None
    finally:
        compiled.code.cache_clear()

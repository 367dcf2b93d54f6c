import math

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from study.metrics import gaussian as gaussian_module
from study.metrics import modes, samples, trials
from study.metrics.gaussian import (
    Gaussian,
    distance_sq_affine,
    frechet,
    moments_ddof1,
    root,
    spread_affine,
    w2sq_affine,
    w2sq_gaussian,
)
from study.metrics.modes import HIGH_QUALITY_CEILING, TRUNCATED_VARIANCE, ring_modes, w2sq_by_modes
from study.metrics.samples import mean_nearest_distance, mean_pairwise_distance, mean_spacing, w2sq_samples
from study.metrics.trials import eigenvalues, nuclear_norm

EPS = 2.0**-52
CENTRES = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]], dtype=torch.float64)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gaussian(c, k, *, seed=0):
    x = normal(c, 3 * k, k, seed=seed)
    return Gaussian(normal(c, k, seed=seed + 1), moments_ddof1(x).covariance)


BASIS = torch.linalg.qr(normal(6, 2, seed=9))[0]

OF_SAMPLES = {
    "frechet": lambda x: frechet(x, Gaussian(torch.zeros(2), torch.eye(2))),
    "w2sq_samples": lambda x: w2sq_samples(x, normal(40, 2, seed=5)),
    "w2sq_by_modes": lambda x: w2sq_by_modes(x, CENTRES),
    "modes": lambda x: ring_modes(x, CENTRES, sd=0.3).captured,
    "high_quality": lambda x: ring_modes(x, CENTRES, sd=0.3).high_quality,
    "variance_ratio": lambda x: ring_modes(x, CENTRES, sd=0.3).variance_ratio,
    "mean_nearest_distance": lambda x: mean_nearest_distance(x, normal(30, 2, seed=6)),
    "mean_spacing": mean_spacing,
    "mean_pairwise_distance": mean_pairwise_distance,
}
OF_PARAMETERS = {
    "w2sq_affine": lambda x: w2sq_affine(x[..., :-1], x[..., -1], BASIS),
    "distance_sq_affine": lambda x: distance_sq_affine(x[..., :-1], x[..., -1], BASIS),
    "spread_affine": lambda x: spread_affine(x, BASIS),
}
CASES = {name: (f, (40, 2)) for name, f in OF_SAMPLES.items()} | {
    name: (f, (6, 3)) for name, f in OF_PARAMETERS.items()
}

every_metric = pytest.mark.parametrize("name", CASES)


@every_metric
def test_is_float64_with_one_value_per_trial(name):
    metric, shape = CASES[name]
    for dtype in (torch.float32, torch.float64):
        values = metric(normal(5, *shape).to(dtype))
        assert values.shape == (5,)
        assert values.dtype == torch.float64
        assert torch.isfinite(values).all()
    assert metric(torch.empty(0, *shape)).shape == (0,)


@every_metric
@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=9))
def test_trial_is_bit_identical_whatever_its_batch_mates(name, index):
    metric, shape = CASES[name]
    x = normal(6, *shape)
    assert torch.equal(metric(x[index]), metric(x)[index])


@every_metric
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("everything", [True, False])
def test_bad_trial_is_nan_and_disturbs_nobody(name, bad, everything):
    metric, shape = CASES[name]
    x = normal(4, *shape)
    clean = metric(x)
    x[1].view(-1)[slice(None) if everything else slice(3, 4)] = bad
    values = metric(x)
    assert not torch.isfinite(values[1])
    assert torch.equal(values[[0, 2, 3]], clean[[0, 2, 3]])


@every_metric
@pytest.mark.parametrize("scale", [1e160, 1e300])
def test_overflow_raises_nothing_and_disturbs_nobody(name, scale):
    metric, shape = CASES[name]
    x = normal(3, *shape)
    clean = metric(x)
    x[0] *= scale
    assert torch.equal(metric(x)[1:], clean[1:])


def test_ill_matrices_give_nan_where_lapack_raises():
    x = torch.eye(3, dtype=torch.float64).repeat(3, 1, 1)
    x[1, 0, 0] = math.nan
    assert eigenvalues(x).isnan().all(-1).tolist() == [False, True, False]
    assert nuclear_norm(x).isnan().tolist() == [False, True, False]
    assert nuclear_norm(x)[0] == 3


def test_w2sq_gaussian_closed_forms():
    eye, zero = torch.eye(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    unit = Gaussian(zero, eye)
    others = Gaussian(torch.stack([zero, eye[0], zero]), torch.stack([eye, 4 * eye, 0 * eye]))
    # |e1|^2 + tr(I + 4 I - 2 * 2 I) = 1 + 3 = 4; a point has the distance tr I = 3.
    torch.testing.assert_close(w2sq_gaussian(unit, others), torch.tensor([0.0, 4, 3]).double(), atol=20 * EPS, rtol=0)


def test_w2sq_gaussian_of_commuting_covariances_compares_standard_deviations():
    q = torch.linalg.qr(normal(5, 5))[0]
    a, b = normal(5, seed=1).abs(), normal(5, seed=2).abs()
    zero = torch.zeros(5, dtype=torch.float64)
    value = w2sq_gaussian(Gaussian(zero, q @ a.diag() @ q.T), Gaussian(zero[None], (q @ b.diag() @ q.T)[None]))
    torch.testing.assert_close(value, (a.sqrt() - b.sqrt()).square().sum()[None], atol=1e-12, rtol=0)


def test_w2sq_gaussian_is_zero_on_itself_symmetric_and_never_negative():
    a, b = gaussian(6, 5), gaussian(6, 5, seed=3)
    # The root of an eigenvalue in error by EPS times the scale (here up to 10) is in error by EPS over the smallest.
    assert float(w2sq_gaussian(a, a).max()) < 1e-12
    torch.testing.assert_close(w2sq_gaussian(a, b), w2sq_gaussian(b, a), atol=0, rtol=1e-12)
    assert (w2sq_gaussian(a, b) > 0).all()


def test_w2sq_gaussian_matches_a_general_matrix_square_root():
    a, b = gaussian(4, 5), gaussian(4, 5, seed=3)
    for i, value in enumerate(w2sq_gaussian(a, b)):
        cross = scipy.linalg.sqrtm((a.covariance[i] @ b.covariance[i]).numpy()).real
        mean = (a.mean[i] - b.mean[i]).square().sum()
        expected = float(mean + a.covariance[i].trace() + b.covariance[i].trace()) - 2 * np.trace(cross)
        assert float(value) == pytest.approx(expected, rel=1e-10)


def test_root_of_a_singular_covariance():
    x = normal(7, 2) @ normal(2, 5, seed=1)
    covariance = moments_ddof1(x).covariance
    half = root(covariance)
    torch.testing.assert_close(half @ half, covariance, atol=1e-13, rtol=0)


def test_moments_match_numpy():
    x = normal(3, 20, 4)
    for trial, mean, covariance in zip(x, *moments_ddof1(x), strict=True):
        np.testing.assert_allclose(mean, trial.mean(0), atol=1e-15)
        np.testing.assert_allclose(covariance, np.cov(trial.numpy(), rowvar=False, ddof=1), atol=1e-14)


def test_frechet_of_standardised_features_is_exactly_the_oracle():
    # Features rescaled to have the moments of N(e1, 4 I_3) exactly; against N(0, I_3) the distance is 4.
    x = normal(50, 3)
    mean, covariance = moments_ddof1(x)
    white = (x - mean) @ torch.linalg.inv(root(covariance))
    shifted = 2 * white + torch.tensor([1.0, 0, 0])
    reference = Gaussian(torch.zeros(3), torch.eye(3))
    assert float(frechet(shifted[None], reference)[0]) == pytest.approx(4, abs=1e-12)
    assert float(frechet(white[None], reference)[0]) == pytest.approx(0, abs=1e-12)


def test_frechet_depends_on_dtype_only_by_the_rounding_of_its_input():
    x = normal(2, 100, 4)
    reference = moments_ddof1(normal(100, 4, seed=1))
    torch.testing.assert_close(frechet(x.float(), reference), frechet(x, reference), rtol=1e-5, atol=1e-6)


def test_w2sq_affine_is_the_gaussian_formula():
    weight, bias = normal(5, 6, 3), normal(5, 6, seed=1)
    data = Gaussian(torch.zeros(6, dtype=torch.float64), BASIS @ BASIS.T)
    expected = w2sq_gaussian(data, Gaussian(bias, weight @ weight.mT))
    # The Gaussian formula takes the root of eigenvalues that are 0 but for rounding: 6 sqrt(EPS) at the scale of 10.
    torch.testing.assert_close(w2sq_affine(weight, bias, BASIS), expected, rtol=0, atol=2e-6)


def test_affine_closed_forms():
    k = BASIS.shape[1]
    normal_direction = normal(6, seed=4)
    normal_direction -= BASIS @ (BASIS.T @ normal_direction)
    offset = 2 * normal_direction / normal_direction.norm()
    rotation = torch.linalg.qr(normal(k, k, seed=7))[0]
    zero = torch.zeros(6, dtype=torch.float64)
    weight = torch.stack([BASIS, BASIS @ rotation, 0.5 * BASIS, 0 * BASIS, BASIS])
    bias = torch.stack([zero, zero, zero, zero, offset])
    close = {"atol": 30 * EPS, "rtol": 0}
    torch.testing.assert_close(w2sq_affine(weight, bias, BASIS), torch.tensor([0, 0, 0.25 * k, k, 4]).double(), **close)
    torch.testing.assert_close(distance_sq_affine(weight, bias, BASIS), torch.tensor([0, 0, 0, 0, 4]).double(), **close)
    torch.testing.assert_close(spread_affine(weight, BASIS), torch.tensor([1, 1, 0.25, 0, 1]).double(), **close)


def test_affine_distance_and_spread_are_those_of_samples():
    weight, bias, n = normal(6, 3), normal(6, seed=1), 200_000
    x = normal(n, 3, seed=2) @ weight.T + bias
    off = (x - x @ BASIS @ BASIS.T).square().sum(1)
    along = (x @ BASIS).var(0)
    distance = float(distance_sq_affine(weight[None], bias[None], BASIS)[0])
    assert distance == pytest.approx(float(off.mean()), abs=4 * float(off.std()) / n**0.5)
    assert float(spread_affine(weight[None], BASIS)[0]) == pytest.approx(float(along.mean()), rel=4 * (2 / n) ** 0.5)


def test_w2sq_samples_closed_forms():
    y = normal(30, 2)
    order = torch.randperm(30, generator=torch.Generator().manual_seed(0))
    shift = torch.tensor([3.0, 4.0])
    values = w2sq_samples(torch.stack([y, y[order], y[order] + shift]), y)
    torch.testing.assert_close(values, torch.tensor([0.0, 0, 25]).double(), atol=1e-13, rtol=0)


def test_w2sq_samples_on_the_line_matches_sorted_points():
    x, y = normal(3, 25, 1), normal(25, 1, seed=1)
    expected = (x.sort(1).values - y.sort(0).values).square().mean((1, 2))
    torch.testing.assert_close(w2sq_samples(x, y), expected, atol=1e-14, rtol=0)


def test_w2sq_samples_is_symmetric():
    x, y = normal(25, 2), normal(25, 2, seed=1)
    torch.testing.assert_close(w2sq_samples(x[None], y), w2sq_samples(y[None], x), atol=1e-14, rtol=0)


def test_w2sq_by_modes_matches_an_assignment_of_points_on_modes():
    # Samples that sit on the centres: the first step is free, the second an assignment to two points per mode.
    index = torch.randint(4, (6, 8), generator=torch.Generator().manual_seed(0))
    x = CENTRES[index]
    torch.testing.assert_close(w2sq_by_modes(x, CENTRES), w2sq_samples(x, CENTRES.repeat(2, 1)), atol=1e-12, rtol=0)


def test_w2sq_by_modes_adds_the_distance_to_the_nearest_mode():
    x = (CENTRES + torch.tensor([0.1, 0.2], dtype=torch.float64))[None]
    assert float(w2sq_by_modes(x, CENTRES)[0]) == pytest.approx(0.05, abs=1e-12)
    all_on_one = CENTRES[:1].expand(8, 2)[None]
    # Two neighbours at squared distance 2, the opposite mode at 4: (0 + 2 + 2 + 4) / 4.
    assert float(w2sq_by_modes(all_on_one, CENTRES)[0]) == pytest.approx(2, abs=1e-12)


def slow_modes(x, centres, sd, minimum):
    members = [[] for _ in centres]
    for point in x.tolist():
        distances = [math.dist(point, centre) for centre in centres.tolist()]
        nearest = min(range(len(distances)), key=distances.__getitem__)
        if distances[nearest] <= 3 * sd:
            members[nearest].append(point)
    squares, freedom = 0.0, 0
    for points in members:
        if len(points) > 1:
            mean = np.mean(points, axis=0)
            squares += float(((np.array(points) - mean) ** 2).sum())
            freedom += 2 * (len(points) - 1)
    captured = sum(len(points) >= minimum for points in members)
    variance = squares / freedom if freedom else 0.0
    return captured, sum(map(len, members)) / len(x), variance / (TRUNCATED_VARIANCE * sd**2)


@pytest.mark.parametrize("minimum", [1, 4])
@pytest.mark.parametrize("sd", [0.01, 0.1, 0.4])
def test_ring_modes_match_a_slow_loop(sd, minimum):
    x = 0.7 * normal(4, 60, 2)
    captured, high_quality, ratio = ring_modes(x, CENTRES, sd=sd, minimum=minimum)
    for i, trial in enumerate(x):
        expected = slow_modes(trial, CENTRES, sd, minimum)
        got = (float(captured[i]), float(high_quality[i]), float(ratio[i]))
        assert got == pytest.approx(expected, rel=1e-12)


def test_perfect_sampler_reaches_the_ceilings_of_ring_modes():
    n, sd = 40_000, 0.05
    index = torch.randint(4, (n,), generator=torch.Generator().manual_seed(0))
    captured, high_quality, ratio = ring_modes((CENTRES[index] + sd * normal(n, 2))[None], CENTRES, sd=sd)
    assert pytest.approx(0.9889, abs=5e-5) == HIGH_QUALITY_CEILING
    assert float(captured[0]) == 4
    assert float(high_quality[0]) == pytest.approx(HIGH_QUALITY_CEILING, abs=4 * math.sqrt(0.0111 / n))
    # 2 n squares of a normal have a relative error of 1 / sqrt(n); truncation makes it smaller.
    assert float(ratio[0]) == pytest.approx(1, abs=4 / math.sqrt(n))


def test_truncated_variance_is_that_of_a_truncated_normal():
    x = normal(400_000, 2)
    inside = x[x.square().sum(1) <= 9]
    assert float(inside.square().mean()) == pytest.approx(TRUNCATED_VARIANCE, rel=4 / math.sqrt(len(inside)))


def test_ring_modes_without_any_near_sample_are_zero_not_nan():
    values = ring_modes(torch.zeros(1, 10, 2), CENTRES, sd=0.01)
    assert [float(value) for value in values] == [0, 0, 0]


def slow_distances(x, y):
    return np.array([[math.dist(a, b) for b in y.tolist()] for a in x.tolist()])


def test_neighbour_metrics_match_slow_loops():
    x, y = normal(20, 3), normal(15, 3, seed=1)
    between, within = slow_distances(x, y), slow_distances(x, x)
    assert float(mean_nearest_distance(x[None], y)[0]) == pytest.approx(between.min(1).mean(), rel=1e-14)
    assert float(mean_pairwise_distance(x[None])[0]) == pytest.approx(within.sum() / (20 * 19), rel=1e-14)
    np.fill_diagonal(within, math.inf)
    assert float(mean_spacing(x[None])[0]) == pytest.approx(within.min(1).mean(), rel=1e-14)


def test_copies_are_seen_exactly():
    y = normal(30, 4).float()
    copies = y[torch.arange(60) % 30][None]
    assert float(mean_nearest_distance(copies, y)[0]) == 0
    assert float(mean_spacing(copies)[0]) == 0
    assert float(mean_pairwise_distance(y[:1].expand(10, 4)[None])[0]) == 0


def test_every_metric_is_in_the_suite():
    helpers = {
        "each",
        "finite_or_nan",
        "eigenvalues",
        "nuclear_norm",
        "root",
        "moments_ddof1",
        "project",
        "nearest_mode",
    }
    helpers |= {"transport_to_uniform", "w2sq_gaussian", "ring_modes"}
    functions = {
        name
        for module in (gaussian_module, modes, samples, trials)
        for name, f in vars(module).items()
        if getattr(f, "__module__", "") == module.__name__
    }
    public = {name for name in functions if name[0].islower()}
    assert public - helpers == set(CASES) - {"modes", "high_quality", "variance_ratio"}

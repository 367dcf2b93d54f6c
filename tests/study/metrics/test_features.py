import math

import numpy as np
import pytest
import torch

from study.metrics import fidelity
from study.metrics.features import inception_score, kid, precision_recall
from study.metrics.gaussian import frechet, moments_ddof1

fidelity.mend_torchvision()

from torch_fidelity import metric_fid, metric_isc, metric_kid, metric_prc  # noqa: E402  # importable only by now


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def fid_of_torch_fidelity(x, y):
    statistics = [metric_fid.fid_features_to_statistics(side) for side in (x, y)]
    return metric_fid.fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]


@pytest.mark.parametrize("k", [4, 48])
def test_frechet_is_torch_fidelitys_at_unequal_sizes(k):
    x, y = 1.2 * normal(200, k) + 0.3, normal(150, k, seed=1)
    value = float(frechet(x[None], moments_ddof1(y))[0])
    assert value == pytest.approx(fid_of_torch_fidelity(x, y), rel=1e-10)
    # From float32 features it takes the mean in float32: 2^-24 of the largest entries, some hundred times.
    assert value == pytest.approx(fid_of_torch_fidelity(x.float(), y.float()), rel=1e-5)


def slow_kid(x, y):
    def kernel(a, b):
        return (sum(s * t for s, t in zip(a, b, strict=True)) / len(a) + 1) ** 3

    def within(side):
        return np.mean([kernel(a, b) for i, a in enumerate(side) for j, b in enumerate(side) if i != j])

    return within(x) + within(y) - 2 * np.mean([kernel(a, b) for a in x for b in y])


def test_kid_at_unequal_sizes_matches_a_slow_loop():
    x, y = normal(12, 5) + 0.5, normal(9, 5, seed=1)
    assert float(kid(x[None], y)[0]) == pytest.approx(slow_kid(x.tolist(), y.tolist()), rel=1e-11)


def test_kid_is_torch_fidelitys_of_one_subset_that_is_everything():
    x, y = normal(120, 16) + 0.2, normal(120, 16, seed=1)
    options = {"kid_subsets": 1, "kid_subset_size": 120, "verbose": False}
    value = float(kid(x[None], y)[0])
    theirs = metric_kid.kid_features_to_metric(x, y, **options)["kernel_inception_distance_mean"]
    assert value == pytest.approx(theirs, rel=1e-11)
    # In float32 every kernel value, of the order of 1, is rounded to 2^-24, and so are the sums of their rows.
    rounded = metric_kid.kid_features_to_metric(x.float(), y.float(), **options)["kernel_inception_distance_mean"]
    assert value == pytest.approx(rounded, abs=1e-5)


def test_kid_is_symmetric_unbiased_and_grows_with_a_shift():
    x, y = normal(60, 4), normal(40, 4, seed=1)
    assert float(kid(x[None], y)[0]) == pytest.approx(float(kid(y[None], x)[0]), rel=1e-12)
    assert (kid(torch.stack([x, x + 0.5, x + 1]), y).diff() > 0).all()
    trials = 300
    pairs = [kid(normal(1, 30, 4, seed=2 * i), normal(20, 4, seed=2 * i + 1)) for i in range(trials)]
    values = torch.cat(pairs)
    assert float(values.mean()) == pytest.approx(0, abs=4 * float(values.std()) / math.sqrt(trials))


def test_inception_score_is_torch_fidelitys_without_its_shuffle():
    logits = 2 * normal(103, 7)
    for splits in (1, 4, 10):
        theirs = metric_isc.isc_features_to_metric(logits, splits=splits, shuffle=False)["inception_score_mean"]
        assert float(inception_score(logits[None], splits=splits)[0]) == pytest.approx(theirs, rel=1e-13)


def test_inception_score_closed_forms():
    sure = 1000 * torch.eye(5).double().repeat(4, 1)  # each class in turn, with certainty
    assert float(inception_score(sure[None], splits=4)[0]) == pytest.approx(5, rel=1e-14)
    assert float(inception_score(sure[:, :1].expand(20, 5)[None], splits=1)[0]) == pytest.approx(1, rel=1e-14)
    assert float(inception_score(sure.sort(0).values[None], splits=1)[0]) < 5
    # Certain of one of two classes in the proportions p and 1 - p: the exponential of their entropy.
    mixed = sure[[0, 0, 0, 1]]
    entropy = -0.75 * math.log(0.75) - 0.25 * math.log(0.25)
    assert float(inception_score(mixed[None], splits=1)[0]) == pytest.approx(math.exp(entropy), rel=1e-14)


def slow_neighbourhoods(x, y, k):
    def radius(side, i):
        return sorted(math.dist(side[i], other) for j, other in enumerate(side) if j != i)[k - 1]

    real, generated = ([radius(side, i) for i in range(len(side))] for side in (y, x))
    precision = np.mean([any(math.dist(a, b) <= r for b, r in zip(y, real, strict=True)) for a in x])
    recall = np.mean([any(math.dist(a, b) <= r for a, r in zip(x, generated, strict=True)) for b in y])
    coverage = np.mean([any(math.dist(a, b) <= r for a in x) for b, r in zip(y, real, strict=True)])
    return precision, recall, coverage


@pytest.mark.parametrize("k", [1, 3, 5])
def test_precision_recall_and_coverage_at_unequal_sizes_match_a_slow_loop(k):
    x, y = 1.5 * normal(30, 3), normal(22, 3, seed=1)
    values = [float(value[0]) for value in precision_recall(x[None], y, k=k)]
    assert values == pytest.approx(slow_neighbourhoods(x.tolist(), y.tolist(), k), rel=1e-15)
    swapped = precision_recall(y[None], x, k=k)
    assert [float(swapped.recall[0]), float(swapped.precision[0])] == values[:2]


@pytest.mark.parametrize("save_cpu_ram", [True, False])
def test_precision_and_recall_are_torch_fidelitys(save_cpu_ram):
    # Both only count, and no two distances of these points are as close as rounding.
    x, y = 1.3 * normal(400, 16), normal(300, 16, seed=1)
    theirs = metric_prc.prc_features_to_metric(x, y, verbose=False, save_cpu_ram=save_cpu_ram)
    ours = precision_recall(x[None], y)
    # It takes the mean in float32.
    assert float(ours.precision[0]) == pytest.approx(theirs["precision"], rel=1e-6)
    assert float(ours.recall[0]) == pytest.approx(theirs["recall"], rel=1e-6)
    assert 0 < theirs["precision"] < theirs["recall"] < 1


def test_precision_of_nan_is_nan_where_torch_fidelity_says_0():
    x, y = normal(50, 4), normal(50, 4, seed=1)
    x[3, 1] = math.nan
    theirs = metric_prc.prc_features_to_metric(torch.full_like(x, math.nan), y, verbose=False)
    assert theirs["precision"] == theirs["recall"] == 0
    assert all(value.isnan().all() for value in precision_recall(x[None], y))


def test_neighbourhoods_of_the_data_themselves_of_copies_and_of_something_else():
    y = normal(60, 3)
    memorised, one, far = y, y[:1].expand(60, 3), y + 100
    values = precision_recall(torch.stack([memorised, one, far]), y)
    assert values.precision.tolist() == [1, 1, 0]
    assert values.recall.tolist() == [1, pytest.approx(1 / 60), 0]
    assert values.coverage[0] == 1
    assert 1 / 60 <= float(values.coverage[1]) < 0.5
    assert values.coverage[2] == 0


def test_an_outlier_raises_recall_but_not_coverage():
    y = normal(40, 2)
    outlier = torch.tensor([[60.0, 0.0]]).double()
    collapsed = y[(y - outlier).square().sum(1).argmax()]
    x = torch.cat([collapsed + 1e-3 * normal(39, 2, seed=1), outlier])
    values = precision_recall(x[None], y)
    assert float(values.recall[0]) == 1  # the outlier's ball reaches to the collapsed samples, past all the data
    assert float(values.coverage[0]) < 0.5


@pytest.mark.parametrize(("n", "m", "k"), [(50, 50, 3), (30, 60, 5)])
def test_coverage_of_a_perfect_sampler_is_that_of_naeem_et_al(n, m, k):
    trials = 200
    values = torch.cat(
        [
            precision_recall(normal(1, n, 2, seed=2 * i), normal(m, 2, seed=2 * i + 1), k=k).coverage
            for i in range(trials)
        ]
    )
    # All orders of the m - 1 + n other points by their distance to a real one are alike; the first k are real.
    expected = 1 - math.prod((m - i) / (n + m - i) for i in range(1, k + 1))
    assert float(values.mean()) == pytest.approx(expected, abs=4 * float(values.std()) / math.sqrt(trials))


def test_too_few_samples_are_refused():
    x = normal(1, 3, 2)
    with pytest.raises(ValueError, match="a 3-th neighbour needs 4 samples or more, got 3 and 9"):
        precision_recall(x, normal(9, 2))
    with pytest.raises(ValueError, match="unbiased KID needs 2 samples or more, got 3 and 1"):
        kid(x, normal(1, 2))
    with pytest.raises(ValueError, match="10 splits needs 10 samples or more, got 3"):
        inception_score(x)

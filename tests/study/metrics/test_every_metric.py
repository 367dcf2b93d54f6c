"""What every metric promises, whichever it is: the shape, the neighbours, the nan."""

import importlib
import math
import pkgutil

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from study import kernels, metrics
from study.metrics.classes import class_counts, covered, labels, modes_of_digits
from study.metrics.divergence import (
    entropy,
    histogram,
    histogram_of_ordered,
    jsd,
    jsd_on_grid,
    kl,
    kl_on_grid,
    kl_to_uniform,
)
from study.metrics.features import inception_score, kid, precision_recall
from study.metrics.gaussian import Gaussian, distance_sq_affine, frechet, spread_affine, w2sq_affine
from study.metrics.images import ms_ssim, ms_ssim_diversity
from study.metrics.manifold import distance_sq_samples, lowest_spread_samples, spread_samples, w2sq_moments
from study.metrics.modes import (
    lowest_variance_ratio,
    mode_counts,
    mode_variance_ratios,
    ring_modes,
    typical_variance_ratio,
    w2sq_by_modes,
    w2sq_to_modes,
)
from study.metrics.samples import (
    energy_distance,
    mean_nearest_distance,
    mean_pairwise_distance,
    mean_spacing,
    mmd2_unbiased,
    w2sq_samples,
)
from study.metrics.sliced import (
    coupled,
    planar_directions,
    sliced_w1,
    sliced_w2sq,
    sliced_w2sq_to_each,
    w1_line,
    w2sq_line,
)
from study.metrics.trials import in_order


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


CENTRES = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]], dtype=torch.float64)
BASIS = torch.linalg.qr(normal(6, 2, seed=9))[0]
OTHERS = normal(30, 2, seed=5)
AXES = planar_directions(7)
EDGES = [torch.linspace(-2, 2, 5), torch.linspace(-1, 1, 4)]
CELLS = torch.full((13,), 1 / 13, dtype=torch.float64)
IMAGE = normal(1, 2, 9, 9, seed=8)


def stacked_counts(x):
    """Counts of the 1000 modes, with every three rows of logits as the channels of one image."""
    return class_counts(modes_of_digits(*labels(x).unflatten(1, (-1, 3)).unbind(2)), 1000)


OF_PLANE = {
    "frechet": lambda x: frechet(x, Gaussian(torch.zeros(2), torch.eye(2))),
    "w2sq_samples": lambda x: w2sq_samples(x, normal(40, 2, seed=5)),
    "energy_distance": lambda x: energy_distance(x, OTHERS),
    "mmd2_unbiased": lambda x: mmd2_unbiased(x, OTHERS, kernels.gaussian),
    "sliced_w1": lambda x: sliced_w1(x, OTHERS, planar_directions(7)),
    "sliced_w2sq": lambda x: sliced_w2sq(x, OTHERS, planar_directions(7)),
    "sliced_w2sq_to_each": lambda x: sliced_w2sq_to_each(x, (coupled(40, OTHERS, AXES),) * 2, AXES)[1],
    "w2sq_by_modes": lambda x: w2sq_by_modes(x, CENTRES),
    "w2sq_to_modes": lambda x: w2sq_to_modes(x, CENTRES),
    "ring_modes.captured": lambda x: ring_modes(x, CENTRES, sd=0.3).captured,
    "ring_modes.high_quality": lambda x: ring_modes(x, CENTRES, sd=0.3).high_quality,
    "ring_modes.variance_ratio": lambda x: ring_modes(x, CENTRES, sd=0.3).variance_ratio,
    "mode_counts": lambda x: mode_counts(x, CENTRES, sd=0.3)[:, 1],
    "mode_variance_ratios": lambda x: mode_variance_ratios(x, CENTRES, sd=0.3)[:, 1],
    "lowest_variance_ratio": lambda x: lowest_variance_ratio(mode_variance_ratios(x, CENTRES, sd=0.3)),
    "typical_variance_ratio": lambda x: typical_variance_ratio(mode_variance_ratios(x, CENTRES, sd=0.3)),
    "mean_nearest_distance": lambda x: mean_nearest_distance(x, OTHERS),
    "mean_spacing": mean_spacing,
    "mean_pairwise_distance": mean_pairwise_distance,
    "histogram": lambda x: histogram(x, EDGES)[:, 4],
    "jsd of a histogram": lambda x: jsd(histogram(x, EDGES), CELLS),
}
OF_LINE = {
    "w1_line": lambda x: w1_line(x, OTHERS[:, :1]),
    "histogram_of_ordered": lambda x: histogram_of_ordered(in_order(x[..., 0]), EDGES[0])[:, 1],
    "w2sq_line": lambda x: w2sq_line(x, OTHERS[:, :1]),
}
OF_CELLS = {
    "entropy": lambda x: entropy(x.abs()),
    "kl": lambda x: kl(x.abs(), CELLS),
    "jsd": lambda x: jsd(x.abs(), CELLS),
    "kl_on_grid": lambda x: kl_on_grid(x.abs(), CELLS, 0.1),
    "jsd_on_grid": lambda x: jsd_on_grid(x.abs(), CELLS, 0.1),
    "kl_to_uniform": lambda x: kl_to_uniform(x.abs()),
}
OF_LOGITS = {
    "inception_score": lambda x: inception_score(x, splits=4),
    "class_counts": lambda x: class_counts(labels(x, confidence=0.3), 6)[:, 2],
    "covered": lambda x: covered(class_counts(labels(x, confidence=0.3), 6), minimum=3),
    "covered modes of digits": lambda x: covered(stacked_counts(x)),
}
OF_FEATURES = {
    "kid": lambda x: kid(x, normal(20, 6, seed=3)),
    "precision_recall.precision": lambda x: precision_recall(x, normal(20, 6, seed=3)).precision,
    "precision_recall.recall": lambda x: precision_recall(x, normal(20, 6, seed=3)).recall,
    "precision_recall.coverage": lambda x: precision_recall(x, normal(20, 6, seed=3)).coverage,
    "distance_sq_samples": lambda x: distance_sq_samples(x, BASIS),
    "spread_samples": lambda x: spread_samples(x, BASIS),
    "lowest_spread_samples": lambda x: lowest_spread_samples(x, BASIS),
    "w2sq_moments": lambda x: w2sq_moments(x, BASIS),
}
OF_IMAGES = {
    "ms_ssim": lambda x: ms_ssim(x[:, 0], IMAGE, scales=3),
    "ms_ssim_diversity": lambda x: ms_ssim_diversity(x, batch=2, batches=2, scales=3),
}
OF_PARAMETERS = {
    "w2sq_affine": lambda x: w2sq_affine(x[..., :-1], x[..., -1], BASIS),
    "distance_sq_affine": lambda x: distance_sq_affine(x[..., :-1], x[..., -1], BASIS),
    "spread_affine": lambda x: spread_affine(x, BASIS),
}
SHAPES = [
    (OF_PLANE, (40, 2)),
    (OF_LINE, (40, 1)),
    (OF_CELLS, (13,)),
    (OF_LOGITS, (42, 6)),
    (OF_FEATURES, (40, 6)),
    (OF_IMAGES, (4, 2, 9, 9)),
    (OF_PARAMETERS, (6, 3)),
]
CASES = {name: (metric, shape) for table, shape in SHAPES for name, metric in table.items()}

HELPERS = {
    "gaussian": {"root", "moments_ddof1", "moments_of_trials", "w2sq_gaussian", "project"},
    "modes": {"nearest_mode", "mode_shares", "high_quality_ceiling", "truncated_variance"},
    "sliced": {"planar_directions", "random_directions", "coupled"},
    "compiled": {"code", "nearest", "moments", "nearest_rows", "largest", "covariance", "transport"},
    "transport": {"least_costs", "transport"},
    "manifold": {"spread_of"},
    "images": {"quantise"},
    "classes": {"labels", "modes_of_digits"},
    "divergence": {"mean_kl_to_uniform"},
    "trials": {
        *("each", "by_rows", "rows", "finite_or_nan", "all_finite_or_nan", "in_order", "nearest_point"),
        *("distances", "nearest_distances", "eigenvalues", "nuclear_norm"),
    },
    "fidelity": {"weights_file", "check", "features", "mend_torchvision"},
}
"""Public functions that are not metrics, by module."""

every_metric = pytest.mark.parametrize("name", CASES)
either = pytest.mark.usefixtures("with_and_without_compiled_code")


def test_every_metric_is_in_the_suite():
    for module in pkgutil.iter_modules(metrics.__path__):
        members = vars(importlib.import_module(f"study.metrics.{module.name}"))
        here = {name for name, member in members.items() if getattr(member, "__module__", "").endswith(module.name)}
        public = {name for name in here if name[0].islower()} - HELPERS.get(module.name, set())
        assert public <= {name.split(".")[0] for name in CASES}


@either
@every_metric
def test_is_float64_with_one_value_per_trial(name):
    metric, shape = CASES[name]
    for dtype in (torch.float32, torch.float64):
        values = metric(normal(5, *shape).to(dtype))
        assert values.shape == (5,)
        assert values.dtype == torch.float64
        assert torch.isfinite(values).all()
    assert metric(torch.empty(0, *shape)).shape == (0,)


@either
@every_metric
@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=9))
def test_trial_is_bit_identical_whatever_its_batch_mates(name, index):
    metric, shape = CASES[name]
    x = normal(6, *shape)
    assert torch.equal(metric(x[index]), metric(x)[index])


@either
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


@either
@every_metric
@pytest.mark.parametrize("scale", [1e160, 1e300])
def test_overflow_raises_nothing_and_disturbs_nobody(name, scale):
    metric, shape = CASES[name]
    x = normal(3, *shape)
    clean = metric(x)
    x[0] *= scale
    assert torch.equal(metric(x)[1:], clean[1:])

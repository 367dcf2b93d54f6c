import itertools
import math

import numpy as np
import pytest
import torch

from study.metrics.images import WEIGHTS, ms_ssim, ms_ssim_diversity, quantise


def images(*shape, seed=0):
    """Smooth images in [-1, 1], which have something in common at every scale."""
    noise = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.tanh(noise.cumsum(-1).cumsum(-2) / 8)


def slow_window(size):
    """Wang et al. (2004): an 11 x 11 circular Gaussian of 1.5 pixels with unit sum."""
    middle = (size - 1) / 2
    weights = np.array(
        [[math.exp(-((i - middle) ** 2 + (j - middle) ** 2) / (2 * 1.5**2)) for j in range(size)] for i in range(size)]
    )
    return weights / weights.sum()


def slow_terms(x, y, window):
    """Means over all windows of the contrast-structure term and of SSIM, equations 13 to 16 of Wang et al. (2004)."""
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    size = min(window, *x.shape)
    w, contrasts, similarities = slow_window(size), [], []
    for i in range(x.shape[0] - size + 1):
        for j in range(x.shape[1] - size + 1):
            a, b = x[i : i + size, j : j + size], y[i : i + size, j : j + size]
            mean_a, mean_b = (w * a).sum(), (w * b).sum()
            variances = (w * (a - mean_a) ** 2).sum() + (w * (b - mean_b) ** 2).sum()
            covariance = (w * (a - mean_a) * (b - mean_b)).sum()
            contrasts.append((2 * covariance + c2) / (variances + c2))
            similarities.append(contrasts[-1] * (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1))
    return np.mean(contrasts), np.mean(similarities)


def slow_half(x):
    x = np.pad(x, [(0, size % 2) for size in x.shape], mode="edge")
    return (x[::2, ::2] + x[1::2, ::2] + x[::2, 1::2] + x[1::2, 1::2]) / 4


def slow_ms_ssim(x, y, *, window=11, scales=5):
    values = []
    for channel_x, channel_y in zip(x, y, strict=True):
        a, b = (127.5 * (channel.numpy() + 1) for channel in (channel_x, channel_y))
        value, total = 1.0, sum(WEIGHTS) / sum(WEIGHTS[:scales])
        for scale in range(scales):
            if scale:
                a, b = slow_half(a), slow_half(b)
            term = slow_terms(a, b, window)[scale == scales - 1]
            value *= max(term, 0.0) ** (WEIGHTS[scale] * total)
        values.append(value)
    return np.mean(values)


@pytest.mark.parametrize(
    ("shape", "window", "scales"),
    [((3, 20, 20), 11, 5), ((1, 17, 26), 11, 5), ((2, 9, 9), 11, 3), ((1, 8, 8), 7, 3), ((1, 13, 13), 11, 1)],
)
def test_ms_ssim_matches_a_slow_loop_from_the_published_formulas(shape, window, scales):
    x, y = images(2, *shape), images(2, *shape, seed=1)
    y[1] = 0.7 * x[1] + 0.3 * y[1]
    values = ms_ssim(x, y, window=window, scales=scales)
    expected = [slow_ms_ssim(a, b, window=window, scales=scales) for a, b in zip(x, y, strict=True)]
    # Variances are differences of squares of up to 255^2, so off by 1e-11 next to c2 = 58.5 or more.
    assert values.tolist() == pytest.approx(expected, abs=1e-11)
    assert float(values[1]) > 0.2


def test_ms_ssim_is_1_on_itself_and_symmetric():
    x, y = images(4, 3, 24, 24), images(4, 3, 24, 24, seed=1)
    torch.testing.assert_close(ms_ssim(x, x), torch.ones(4).double(), rtol=0, atol=1e-11)
    torch.testing.assert_close(ms_ssim(x, y), ms_ssim(y, x), rtol=0, atol=1e-13)
    assert ((ms_ssim(x, y) >= 0) & (ms_ssim(x, y) < 1)).all()


def test_ms_ssim_of_constant_images_is_their_luminance():
    grey = torch.tensor([0.0, 0.7, 1.0, 100.0, 255.0], dtype=torch.float64)
    x = (grey / 127.5 - 1)[:, None, None, None].expand(5, 3, 32, 32)
    for i, j in itertools.product(range(5), repeat=2):
        a, b = float(grey[i]), float(grey[j])
        luminance = (2 * a * b + 2.55**2) / (a**2 + b**2 + 2.55**2)
        # Contrast is c2 / c2 but for 1e-11 of rounding in variances that are 0.
        assert float(ms_ssim(x[i : i + 1], x[j : j + 1])[0]) == pytest.approx(luminance**0.1333, abs=1e-11)


def test_ms_ssim_falls_with_noise():
    x, noise = images(1, 1, 32, 32), images(1, 1, 32, 32, seed=2).flip(-1)
    values = [float(ms_ssim(x, (1 - share) * x + share * noise)[0]) for share in (0, 0.2, 0.5, 0.8)]
    assert values == sorted(values, reverse=True)
    assert values[0] - values[-1] > 0.3


def test_a_negative_image_has_no_similarity_not_nan():
    x = images(1, 1, 20, 20)
    assert float(ms_ssim(x, -x)[0]) == 0


def test_one_image_is_compared_with_all_and_a_broken_one_is_nan_alone():
    x, y = images(3, 1, 20, 20), images(1, 1, 20, 20, seed=1)
    values = ms_ssim(x, y)
    assert torch.equal(values, ms_ssim(x, y.repeat(3, 1, 1, 1)))
    x[1, 0, 3, 3] = math.nan
    assert ms_ssim(x, y).isnan().tolist() == [False, True, False]


def test_sizes_that_allow_the_scales():
    for side, scales in ((17, 5), (9, 4), (5, 3), (3, 2), (2, 1)):
        x = images(1, 1, side, side)
        assert float(ms_ssim(x, x, scales=scales)[0]) == pytest.approx(1, abs=1e-11)
        with pytest.raises(ValueError, match=f"{scales} scales need images of more than {side - 1} pixels"):
            ms_ssim(x[..., 1:], x[..., 1:], scales=scales)
    with pytest.raises(ValueError, match="1 to 5 scales, not 6"):
        ms_ssim(x, x, scales=6)


def test_diversity_is_the_mean_over_ordered_pairs_of_different_images_within_batches():
    x = images(1, 7, 2, 18, 18)
    batches = (x[0, :3], x[0, 3:6])
    pairs = [(batch[i], batch[j]) for batch in batches for i in range(3) for j in range(3) if i != j]
    expected = np.mean([float(ms_ssim(a[None], b[None])[0]) for a, b in pairs])
    assert float(ms_ssim_diversity(x, batch=3, batches=2)[0]) == pytest.approx(expected, abs=1e-13)


def test_diversity_of_three_constant_images_is_that_of_compare_gans_own_test():
    grey = torch.tensor([1.0, 0.7, 0.0], dtype=torch.float64)
    x = (grey / 127.5 - 1)[:, None, None, None].expand(3, 3, 64, 64)
    # Its expected value, 0.989989, is given to 0.001; the closed form of the pairs' luminances says the same.
    luminance = [(2 * a * b + 2.55**2) / (a**2 + b**2 + 2.55**2) for a, b in ((1, 0.7), (1, 0), (0.7, 0))]
    expected = sum(value**0.1333 for value in luminance) / 3
    value = float(ms_ssim_diversity(x[None], batch=3, batches=1)[0])
    assert value == pytest.approx(expected, abs=1e-11)
    assert value == pytest.approx(0.989989, abs=1e-6)


def test_diversity_orders_variety_and_collapse():
    varied = images(8, 1, 20, 20)
    few = varied[[0, 1] * 4]
    same = varied[:1].expand(8, 1, 20, 20)
    values = ms_ssim_diversity(torch.stack([varied, few, same]), batch=4, batches=2)
    assert float(values[0]) < float(values[1]) < float(values[2])
    assert float(values[2]) == pytest.approx(1, abs=1e-11)


def test_too_few_images_are_refused():
    with pytest.raises(ValueError, match="5 batches of 64 images need two each and 320, got 319"):
        ms_ssim_diversity(torch.zeros(1, 319, 1, 32, 32))
    with pytest.raises(ValueError, match="need two each"):
        ms_ssim_diversity(torch.zeros(1, 5, 1, 32, 32), batch=1, batches=5)


def test_quantised_images_are_the_nearest_bytes():
    x = torch.tensor([-1.0, -1 + 1.2 / 255, 0.9999, 1.0, 1.7, -40.0, math.nan, math.inf, -math.inf])
    assert quantise(x).tolist() == [0, 1, 255, 255, 255, 0, 128, 255, 0]
    every = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(quantise(every.float() / 127.5 - 1), every)

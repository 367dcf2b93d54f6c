import colorsys
import functools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from study.tasks import digits_data
from study.tasks.base import Snapshot
from study.tasks.color_digits import FEW, SAMPLES, color_digits
from study.tasks.digit_sets import colours, tint, value
from tests.study.tasks.digit_images import class_means, fitted, noisy, pick, tinted, untrained

N = SAMPLES
TASK = color_digits()


def train():
    return digits_data.load().train.images


def real(g, **options):
    return tinted(pick(train(), N, g), g, **options)


def of_class(digit, g, *, missing):
    images, labels = digits_data.load().train
    return tinted(pick(images[(labels != digit) if missing else (labels == digit)], N, g), g)


def each_digit_its_own(g):
    images, labels = digits_data.load().train
    index = torch.randint(len(images), (N,), generator=g)
    return tint(images[index], labels[index] / 10)


MAKERS = {
    "memorised training set": real,
    "fresh images": lambda g: tinted(pick(digits_data.load().selection.images, N, g), g),
    "no 8": functools.partial(of_class, 8, missing=True),
    "no 9": functools.partial(of_class, 9, missing=True),
    "no 3": functools.partial(of_class, 3, missing=True),
    "six colours": lambda g: real(g, hues=lambda u: (6 * u).floor() / 6),
    "a sixth of the colours missing": lambda g: real(g, hues=lambda u: u * 5 / 6),
    "half of the colours": lambda g: real(g, hues=lambda u: u / 2),
    "one colour": lambda g: real(g, hues=torch.zeros_like),
    "grey images": lambda g: pick(train(), N, g).repeat(1, 3),
    "each digit its colour": each_digit_its_own,
    "noisy images": lambda g: noisy(real(g), g),
    "class means": lambda g: tinted(pick(class_means(), N, g), g),
    "50 images copied": lambda g: pick(real(g)[:50], N, g),
    "Gaussian fitted to pixels": lambda g: fitted(torch.cat([real(g), real(g)]), N, g),
    "uniform noise": lambda g: 2 * torch.rand(N, 192, generator=g) - 1,
    "constant image": lambda g: torch.cat([real(g), real(g)]).mean(0).expand(N, -1),
    "untrained generator": lambda g: untrained(TASK, N, g),
    "one class only": functools.partial(of_class, 0, missing=False),
}
REPEATS = 4


@functools.cache
def measured(name):
    generator = torch.Generator().manual_seed(1)
    return TASK.evaluate(Snapshot({}, torch.stack([MAKERS[name](generator) for _ in range(REPEATS)])))


@pytest.mark.parametrize("control", TASK.controls, ids=lambda control: control.name)
def test_control_measures_as_recorded(control):
    values = measured(control.name)[TASK.primary]
    # Recorded: the mean of 16 draws. Four standard errors of the difference of both means, the last of three digits,
    # and 0.1 because a standard deviation of four draws can be far too small.
    tolerance = 4 * float(values.std()) * math.sqrt(1 / REPEATS + 1 / 16) + 0.1 + 0.01 * control.value
    assert float(values.mean()) == pytest.approx(control.value, abs=tolerance)


def test_every_control_has_a_maker():
    assert {control.name for control in TASK.controls} == set(MAKERS)


@pytest.mark.parametrize("digit", range(10))
def test_threshold_lies_below_every_missing_digit(digit):
    generator = torch.Generator().manual_seed(digit)
    samples = torch.stack([of_class(digit, generator, missing=True) for _ in range(3)])
    assert float(TASK.evaluate(Snapshot({}, samples))[TASK.primary].median()) > TASK.threshold


def test_the_other_metrics_see_what_they_are_for():
    n = FEW
    perfect = measured("memorised training set")
    # 9 / 2n, and what unequal numbers of digits add; its standard deviation is sqrt(9 / 2) / n
    assert float(perfect[f"kl_digits_n{n}"].mean()) == pytest.approx(9 / (2 * n), abs=4 * math.sqrt(4.5) / n)
    missing = float(measured("no 8")[f"kl_digits_n{n}"].mean())
    assert missing == pytest.approx(math.log(10 / 9), abs=0.01)  # misread digits fill some of the gap
    assert float(measured("one class only")[f"kl_digits_n{n}"].mean()) == pytest.approx(math.log(10), abs=1e-9)
    spread = f"colour_spread_n{n}"
    assert float(perfect[spread].mean()) == pytest.approx(1, abs=0.02)
    assert float(measured("grey images")[spread].max()) == 0
    assert float(measured("one colour")[spread].max()) < 0.05
    assert float(perfect["novelty_n128"].max()) == 0
    assert float(measured("fresh images")["novelty_n128"].mean()) == pytest.approx(1, abs=4 * 0.33 / math.sqrt(128))


@given(st.floats(0, 1), st.lists(st.floats(-1, 1), min_size=1, max_size=5))
def test_tint_is_the_hue_of_the_colour_circle_and_its_brightness_the_image(hue, pixels):
    images = torch.tensor([pixels])
    found = tint(images, torch.tensor([hue])).reshape(3, -1).double()
    for i, pixel in enumerate(pixels):
        expected = colorsys.hsv_to_rgb(hue, 1, (pixel + 1) / 2)
        # float32: six times the rounding of the hue
        assert ((found[:, i] + 1) / 2).tolist() == pytest.approx(expected, abs=2e-6)
    assert value(found.reshape(1, -1))[0].tolist() == pytest.approx(pixels, abs=2e-6)


def test_colours_are_what_channels_have_above_their_mean():
    images = torch.tensor([[1.0, 1, -1, -1, -1, -1], [0.0, 0, 0, 0, 0, 0], [1, -1, -1, -1, -1, -1]])
    expected = [[2 / 3, -1 / 3, -1 / 3], [0, 0, 0], [1 / 3, -1 / 6, -1 / 6]]
    assert torch.allclose(colours(images), torch.tensor(expected, dtype=torch.float64))


def test_labels_are_the_digits_of_the_sampled_images():
    uniforms = torch.rand(500, 2, generator=torch.Generator().manual_seed(3))
    images, labels = digits_data.load().train
    index = (uniforms[:, 0].double() * 901).long()
    assert torch.equal(TASK.label(uniforms), labels[index])
    assert torch.allclose(value(TASK.sample(uniforms)), images[index], atol=1e-6)

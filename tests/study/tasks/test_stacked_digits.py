import functools
import math
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import xlogy
from scipy.stats import poisson

from study.metrics.divergence import mean_kl_to_uniform
from study.tasks import digits_data
from study.tasks.base import Snapshot
from study.tasks.digit_sets import DIGITS
from study.tasks.stacked import Stacked
from study.tasks.stacked_digits import LIMITS, SAMPLES, stacked_digits
from tests.study.tasks.digit_images import class_means, fitted, noisy, of_modes, pick, planted, untrained

N = SAMPLES
FLOOR, CEILING = mean_kl_to_uniform(N, 1000), 1000 * (1 - 0.999**N)
"""Of a perfect sampler: its mean KL, and the modes that it shows."""
TASK = stacked_digits()


def three(images, generator, first=None):
    """Independent channels, the first perhaps of other images."""
    return torch.cat([pick(images if first is None or i else first, N, generator) for i in range(3)], 1)


def train(generator):
    return digits_data.load().train.images


def without(digit):
    images, labels = digits_data.load().train
    return images[labels != digit]


def even(generator):
    """Digits whose sum is even: any two of them can be any pair."""
    pair = torch.randint(10, (N, 2), generator=generator)
    last = pair.sum(1) % 2 + 2 * torch.randint(5, (N,), generator=generator)
    return of_modes(100 * pair[:, 0] + 10 * pair[:, 1] + last, generator)


MAKERS = {
    "memorised training set": lambda g: three(train(g), g),
    "fresh images": lambda g: three(digits_data.load().selection.images, g),
    "900 modes": lambda g: planted(900, N, g),
    "no red 8": lambda g: three(train(g), g, without(8)),
    "no 8": lambda g: three(without(8), g),
    "noisy images": lambda g: noisy(three(train(g), g), g),
    "class means": lambda g: three(class_means(), g),
    "Gaussian fitted to pixels": lambda g: torch.cat([fitted(train(g), N, g) for _ in range(3)], 1),
    "500 modes": lambda g: planted(500, N, g),
    "even sums": even,
    "uniform noise": lambda g: 2 * torch.rand(N, 192, generator=g) - 1,
    "100 modes": lambda g: planted(100, N, g),
    "50 images copied": lambda g: pick(three(train(g), g)[:50], N, g),
    "untrained generator": lambda g: untrained(TASK, N, g),
    "grey images": lambda g: pick(train(g), N, g).repeat(1, 3),
    "constant image": lambda g: train(g).mean(0).repeat(N, 3),
}
REPEATS = 4


@functools.cache
def measured(name):
    generator = torch.Generator().manual_seed(1)
    return TASK.evaluate(Snapshot({}, torch.stack([MAKERS[name](generator) for _ in range(REPEATS)])))


@pytest.mark.parametrize("control", TASK.controls, ids=lambda control: control.name)
def test_control_measures_as_recorded(control):
    values = measured(control.name)[TASK.primary]
    # Recorded: the mean of 128 draws. Four standard errors of the difference of both means, the last of three digits,
    # and 0.02 because a standard deviation of four draws can be far too small.
    tolerance = 4 * float(values.std()) * math.sqrt(1 / REPEATS + 1 / 128) + 0.02 + 0.01 * control.value
    assert float(values.mean()) == pytest.approx(control.value, abs=tolerance)


def test_every_control_has_a_maker():
    assert {control.name for control in TASK.controls} == set(MAKERS)


def test_a_perfect_sampler_meets_floor_and_ceiling():
    values = measured("memorised training set")
    # Given their sum, the samples of modes are nearly independent Poisson numbers less what follows from the sum. The
    # classifier and unequal numbers of digits in the training set (86 to 93 of 901, whose own KL is 0.001 a channel)
    # add a little.
    counts, mean = np.arange(N + 1), N / 1000
    each, weights = xlogy(counts / N, counts / mean), poisson.pmf(counts, mean)
    spread = weights @ (each - weights @ each) ** 2 - (weights @ (each * (counts - mean))) ** 2 / mean
    sd = math.sqrt(1000 * spread)
    kl, modes = (float(values[f"{name}_n{N}"].mean()) for name in ("kl_modes", "modes"))
    assert kl == pytest.approx(FLOOR + 0.003, abs=4 * sd / math.sqrt(REPEATS) + 0.003)
    assert modes == pytest.approx(CEILING, abs=4 * math.sqrt((1000 - CEILING) / REPEATS))


def test_anchors_here_and_in_claims_are_what_was_measured():
    values = {control.name: control.value for control in TASK.controls}
    assert TASK.anchors == pytest.approx((values["memorised training set"], values["constant image"]), abs=0.1)
    assert TASK.anchors[0] == pytest.approx(values["memorised training set"], abs=0.005)
    expected = {f"modes_n{N}": (CEILING, 1.0), f"kl_modes_n{N}": (FLOOR, math.log(1000))}
    for file, count in (("23-zero-centred-penalty-keeps-modes", 2), ("29-relativistic-pairing-covers-modes", 1)):
        content = tomllib.loads(Path("examples/claims", f"{file}.toml").read_text(encoding="utf-8"))
        of_task = [claim for claim in content["claims"] if claim.get("tasks", content["tasks"]) == [TASK.name]]
        measures = [measure for claim in of_task for measure in claim["measures"]]
        assert len(measures) == count
        for measure in measures:
            assert measure["anchors"] == pytest.approx(expected[measure["metric"]], rel=2e-3)


@pytest.mark.parametrize("count", [1, 10, 300])
def test_planted_modes_are_counted_within_the_classifiers_errors(count):
    values = TASK.evaluate(Snapshot({}, planted(count, N, torch.Generator().manual_seed(2))[None]))
    found, kl = float(values[f"modes_n{N}"]), float(values[f"kl_modes_n{N}"])
    # the classifier is right on all but a few of the 901 training digits: at most 1 % of channels, 3 % of triples
    assert count <= found <= count + 0.03 * N
    # mass moved out of the planted modes lowers log(1000 / count) by less than its share times log(1000 * n), and the
    # uneven draw adds its own floor
    assert math.log(1000 / count) - 0.03 * math.log(1000 * N) < kl < math.log(1000 / count) + count / N + 0.02


def test_labels_are_the_modes_that_the_classifier_sees_in_the_same_samples():
    uniforms = torch.rand(2000, 3, generator=torch.Generator().manual_seed(3))
    images, modes = TASK.sample(uniforms), TASK.label(uniforms)
    assert modes.dtype == torch.int64
    seen = DIGITS.logits(images.reshape(-1, 64)).argmax(1).reshape(-1, 3) @ torch.tensor([100, 10, 1])
    assert float((seen == modes).double().mean()) > 0.97  # 1 % of channels, as above
    digits, labels = digits_data.load().train
    first = (uniforms[0].double() * 901).long()
    assert torch.equal(images[0], digits[first].flatten())
    assert int(modes[0]) == int(labels[first] @ torch.tensor([100, 10, 1]))


def test_frechet_distance_sees_what_modes_do_not_and_the_other_way_round():
    name = f"fd_digitsnet_logits30_n{N}"
    real = float(measured("memorised training set")[name].mean())
    assert float(measured("even sums")[name].mean()) < 1.2 * real
    for bad in ("Gaussian fitted to pixels", "noisy images", "class means"):
        assert float(measured(bad)[name].mean()) > 3 * real


def test_the_worse_of_both_decides():
    names = f"kl_modes_n{N}", f"fd_digitsnet_logits30_n{N}"
    for maker in MAKERS:
        values = measured(maker)
        kl, fd = (values[name] / limit for name, limit in zip(names, LIMITS, strict=True))
        assert torch.equal(values[TASK.primary], torch.maximum(kl, fd))
        assert torch.isclose(values["selection"], values[TASK.primary], rtol=0.5).all()
    assert float(measured("even sums")[f"fd_digitsnet_logits30_n{N}"].max()) < LIMITS[1]
    assert float(measured("Gaussian fitted to pixels")[f"kl_modes_n{N}"].max()) < LIMITS[0]


def test_novelty_is_0_for_copies_and_1_for_fresh_digits():
    assert float(measured("memorised training set")["novelty_n64"].max()) == 0
    # 192 digits of 451, compared with the mean over other 445: their distances spread by a third of the mean
    assert float(measured("fresh images")["novelty_n64"].mean()) == pytest.approx(1, abs=4 * 0.33 / math.sqrt(192))


def test_the_stricter_count_is_there_where_samples_allow_it():
    many = Stacked(DIGITS, 20000)
    assert "modes_over10_sure_n20000" in many.metrics
    assert not any("over10" in name for name in TASK.metrics)
    generator = torch.Generator().manual_seed(4)
    half = torch.cat([planted(100, 20000, generator)])[None]
    values = many.evaluate(Snapshot({}, half))
    # of 200 samples a mode the classifier's errors, 3 %, fall into many modes, and few get more than ten of them
    assert 100 <= float(values["modes_over10_sure_n20000"]) <= 110
    assert float(values["modes_n20000"]) > 110


def test_ten_samples_are_not_more_than_ten():
    many = Stacked(DIGITS, 20000)
    image = three(class_means(), torch.Generator().manual_seed(5))[:1]
    other = torch.full((1, 192), -1.0)
    found = []
    for copies in (10, 11):
        rows = torch.cat([image.expand(copies, -1), other.expand(20000 - copies, -1)])
        found.append(float(many.evaluate(Snapshot({}, rows[None]))["modes_over10_sure_n20000"]))
    assert found[1] - found[0] == 1

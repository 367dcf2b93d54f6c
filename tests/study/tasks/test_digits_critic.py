import functools
import math

import numpy as np
import pytest
import torch

from study.tasks import digits_data
from study.tasks.base import Snapshot
from study.tasks.digits import digits
from study.tasks.digits_critic import FAKES, METRICS, digits_critic, evaluate, frechet_to_test, positions, ranked_above

REPEATS = 4


def fresh(generator):
    images = digits_data.load().selection.images
    return images[torch.randint(len(images), (FAKES,), generator=generator)]


def untrained(generator):
    network = digits().generator
    parameters = network.initialise(torch.rand(network.size, generator=generator))
    return network.apply(parameters, torch.randn(FAKES, 16, generator=generator))


@functools.cache
def fakes(make=fresh):
    generator = torch.Generator().manual_seed(1)
    return torch.stack([make(generator) for _ in range(REPEATS)])


def measured(critic, slope=torch.zeros_like, samples=None):
    """Values of trials with one critic, which maps images (..., 64) to outputs (...,)."""
    samples = fakes() if samples is None else samples
    return evaluate(Snapshot({}, samples, critic=lambda x: critic(x.double())[..., None], slope=slope))


def nearness(images):
    return -torch.cdist(images, digits_data.load().train.images.double()).amin(-1)


def by_heart(count):
    known = digits_data.load().train.images[digits_data.places() < count].double()
    return lambda images: (torch.cdist(images, known).amin(-1) < 1e-6).double()


def contrast(images):
    return images.square().mean(-1)


MAKERS = {
    "contrast": contrast,
    "ink": lambda x: x.mean(-1),
    "D = 1/2": lambda x: 0 * x[..., 0],
    "a fifth by heart": lambda x: by_heart(180)(x),
    "by heart": lambda x: by_heart(901)(x),
    "nearness": nearness,
}


@pytest.mark.parametrize("control", digits_critic().controls, ids=lambda control: control.name)
def test_control_measures_as_recorded(control):
    at_start = control.name == "contrast at the start"
    critic = contrast if at_start else MAKERS[control.name]
    values = measured(critic, samples=fakes(untrained) if at_start else None)["rank_gap"]
    # Recorded: the mean of 6 draws. Four standard errors of the difference of both means, and half of the last digit.
    tolerance = 4 * float(values.std()) * math.sqrt(1 / REPEATS + 1 / 6) + 5e-4
    assert float(values.mean()) == pytest.approx(control.value, abs=tolerance)


def test_every_control_has_a_maker():
    assert {control.name for control in digits_critic().controls} == {*MAKERS, "contrast at the start"}


def test_ranks_are_the_area_under_the_curve():
    from sklearn.metrics import roc_auc_score

    generator = torch.Generator().manual_seed(0)
    real, fake = (torch.randint(0, 12, (n,), generator=generator).double() + i for i, n in enumerate((90, 70)))
    expected = roc_auc_score(np.r_[np.ones(90), np.zeros(70)], torch.cat([real, fake]).numpy())
    ordered = fake.sort().values
    assert float(ranked_above(real, ordered)) == pytest.approx(expected, abs=1e-12)
    assert float(ranked_above(real + 20, ordered)) == 1
    assert float(ranked_above(real - 20, ordered)) == 0


def test_low_anchor_is_chance_and_the_threshold_three_deviations():
    # Ranks of n real images under a perfect generator are uniform, with variance 1 / (12 n); E|N(0, 1)| = sqrt(2 / pi)
    deviation = math.sqrt((1 / 901 + 1 / 445) / 12)
    task = digits_critic()
    assert task.anchors[0] == pytest.approx(math.sqrt(2 / math.pi) * deviation, abs=5e-4)
    assert task.threshold == pytest.approx(3 * deviation, abs=5e-4)


def test_scale_and_constant_of_outputs_change_no_rank():
    first, second = (measured(lambda x, k=k, c=c: k * contrast(x) + c) for k, c in ((1.0, 0.0), (64.0, -128.0)))
    for name in ("rank_gap", "rank_train", "rank_heldout_n445", "selection"):
        assert torch.equal(first[name], second[name])
    assert float(second["gap_logit"][0]) == pytest.approx(64 * float(first["gap_logit"][0]), rel=1e-9)


def test_outputs_and_shares_are_of_their_own_images():
    data = digits_data.load()
    heldout = by_heart(901)

    def critic(x):  # 2 on training images, -1 elsewhere
        return 3 * heldout(x) - 1

    values = {name: float(value[0]) for name, value in measured(critic).items()}
    expected = {
        "logit_train": 2,
        "logit_heldout_n445": -1,
        "logit_fakes_n1024": -1,
        "gap_logit": 3,
        "accuracy_train": 1,
        "accuracy_heldout_n445": 0,
        "accuracy_fakes_n1024": 1,
        "gap_accuracy": 1,
        "rank_train": 1,
        "rank_heldout_n445": 0.5,
        "rank_gap": 0.5,
        "selection": 0.5,
    }
    assert {name: values[name] for name in expected} == pytest.approx(expected)
    assert len(data.test.images) == 445
    assert set(values) == {*METRICS, "selection"}


def test_selection_looks_at_the_selection_split():
    kept = digits_data.load().selection.images.double()
    critic = MAKERS["by heart"]
    values = measured(lambda x: critic(x) + (torch.cdist(x, kept).amin(-1) < 1e-6), samples=fakes() + 0.001)
    # all of the training and selection images above everything, the test images nowhere
    assert float(values["selection"][0]) == 0
    assert float(values["rank_gap"][0]) == 0.5


def test_slopes_are_norms_where_they_are_said_to_be():
    # C(x) = |x|^2 / 2 has slope x
    images, labels = (part.numpy()[:450] for part in digits_data.load().train)
    values = measured(lambda x: x.square().sum(-1) / 2, slope=lambda x: x)
    norms = np.linalg.norm(images.astype(float), axis=1)
    one = fakes()[0, :450].double().numpy()
    t = positions(450).numpy()[:, None]
    line = np.linalg.norm(t * images + (1 - t) * one, axis=1)
    by_class = np.array([norms[labels == k].mean() for k in range(10)])
    by_tenth = np.array([line[(t[:, 0] >= k / 10) & (t[:, 0] < (k + 1) / 10)].mean() for k in range(10)])
    expected = {
        "slope_mean_real_n450": norms.mean(),
        "slope_max_real_n450": norms.max(),
        "slope_mean_fake_n450": np.linalg.norm(one, axis=1).mean(),
        "slope_max_fake_n450": np.linalg.norm(one, axis=1).max(),
        "slope_mean_line_n450": line.mean(),
        "slope_max_line_n450": line.max(),
        "slope_variation_classes_n450": by_class.std() / by_class.mean(),
        "slope_variation_line_n450": by_tenth.std() / by_tenth.mean(),
    }
    # points between are made in float32
    assert {name: float(values[name][0]) for name in expected} == pytest.approx(expected, rel=1e-5)


def test_even_slopes_do_not_vary():
    values = measured(contrast, slope=lambda x: torch.ones_like(x) / 8)
    assert values["slope_mean_line_n450"].tolist() == pytest.approx([1] * REPEATS)
    assert values["slope_variation_classes_n450"].tolist() == pytest.approx([0] * REPEATS, abs=1e-12)
    assert values["slope_variation_line_n450"].tolist() == pytest.approx([0] * REPEATS, abs=1e-12)


def test_positions_fill_the_line_evenly():
    # multiples of the golden ratio leave no gap wider than three times the mean one
    t = positions(450).sort().values
    assert float((t[1:] - t[:-1]).max()) < 3 / 450
    assert torch.bincount((t * 10).long()).tolist() == pytest.approx([45] * 10, abs=3)


def test_distance_is_that_of_digits():
    samples = torch.cat([fakes(), fakes(untrained)[:, :]], 1)
    assert samples.shape[1] == 2048
    expected = digits().evaluate(Snapshot({}, samples))["fd_digitsnet_logits_n2048"]
    assert torch.equal(frechet_to_test(Snapshot({}, samples)), expected)


def test_data_and_networks_are_those_of_digits():
    task = digits_critic()
    assert task.sample is digits().sample
    assert task.generator.shapes == digits().generator.shapes
    assert task.discriminator.shapes == digits().discriminator.shapes
    assert task.label is None

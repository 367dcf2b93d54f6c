import math

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from study.errors import UserError
from study.tasks import mnist_classifier
from study.tasks.base import Snapshot
from study.tasks.digits_data import FOLD_OF
from study.tasks.table import get_task
from tests.study.data import files

SAMPLES = 1000


def enlarged():
    """The digits of 8 x 8 pixels on 28 x 28: three times as large, two pixels of black around them."""
    images, labels = load_digits(return_X_y=True)
    large = (images.reshape(-1, 8, 8) * 255 / 16).round().astype(np.uint8).repeat(3, 1).repeat(3, 2)
    return np.pad(large, ((0, 0), (2, 2), (2, 2))), labels


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A data root with an MNIST of real digits, and one cache for all tests: the classifier is trained once."""
    root = tmp_path_factory.mktemp("mnist")
    images, labels = enlarged()
    test = np.arange(len(labels)) % len(FOLD_OF) == 0
    files.write_mnist(root / "data" / "mnist", (images[~test], labels[~test]), (images[test], labels[test]))
    return root


@pytest.fixture
def root(folder, monkeypatch):
    monkeypatch.setenv("MANYPATHS_DATA", str(folder / "data"))
    monkeypatch.setenv("MANYPATHS_CACHE", str(folder / "cache"))
    return folder


def uniforms(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


NAMES = [
    f"mnist[samples={SAMPLES}]",
    f"mnist[features=pixels, samples={SAMPLES}]",
    f"stacked-mnist[samples={SAMPLES}]",
    f"color-mnist[samples={SAMPLES}]",
    f"color-mnist[construction=tinted, samples={SAMPLES}]",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_task_is_made_sampled_and_evaluated(root, name):
    task = get_task(name)
    assert task is get_task(name)
    assert task.shape[1:] == (32, 32)
    for leading in ((), (7,), (2, 3)):
        numbers = uniforms(*leading, task.draws)
        x = task.sample(numbers)
        assert x.shape == (*leading, task.data_width)
        assert x.dtype == torch.float32
        singly = torch.stack([task.sample(u) for u in numbers.reshape(-1, task.draws)])
        assert torch.equal(x.reshape(singly.shape), singly)
        assert task.label(numbers).shape == leading
    samples = task.sample(uniforms(3, SAMPLES, task.draws))
    values = task.evaluate(Snapshot({}, samples))
    assert tuple(values) == (*task.metrics, "selection")
    alone = task.evaluate(Snapshot({}, samples[[2]]))
    broken = samples.clone()
    broken[1, 0, 0] = math.nan
    told = task.evaluate(Snapshot({}, broken))
    for key, value in values.items():
        assert value.shape == (3,)
        assert torch.isfinite(value).all()
        assert torch.equal(alone[key], value[[2]])
        assert torch.isnan(told[key][1])
        assert torch.equal(told[key][[0, 2]], value[[0, 2]])
    black = task.evaluate(Snapshot({}, torch.full((1, SAMPLES, task.data_width), -1.0)))
    assert float(black[task.primary]) > task.threshold
    assert float(black[task.primary]) > float(values[task.primary].max())


@pytest.mark.parametrize("name", NAMES[:2])
def test_controls_lie_where_they_must(root, name):
    task = get_task(name)
    assert {control.must for control in task.controls} >= {"pass", "fail"}
    for control in task.controls:
        if control.must:
            assert (control.value <= task.threshold) == (control.must == "pass"), control


def test_tinted_controls_are_measured_on_the_users_digits(root):
    task = get_task(NAMES[-1])
    values = {control.name: control for control in task.controls}
    assert task.controls[0].name == "training images"
    assert {"no 8", "one colour", "mean image"} < set(values)
    assert values["one colour"].must == values["mean image"].must == "fail"
    assert values["training images"].value <= task.threshold < values["one colour"].value
    # other draws of as many: a Frechet distance of so few samples varies by some tenths of itself
    plain = torch.stack([uniforms(SAMPLES, seed=5), torch.full((SAMPLES,), 0.5)], -1)
    for name, numbers in {"training images": uniforms(SAMPLES, 2, seed=6), "one colour": plain}.items():
        again = float(task.evaluate(Snapshot({}, task.sample(numbers)[None]))[task.primary])
        assert again == pytest.approx(values[name].value, rel=0.4)


def test_images_are_in_the_middle_of_black_and_labels_theirs(root):
    task = get_task(NAMES[1])
    numbers = uniforms(200, 1)
    framed = task.sample(numbers).reshape(200, 32, 32)
    assert (framed[:, :4] == -1).all()  # two of the padding and two of the writer's own
    images, labels = enlarged()
    by_image = {image.tobytes(): label for image, label in zip(images, labels, strict=True)}
    inside = ((framed[:, 2:30, 2:30] + 1) * 127.5).round().to(torch.uint8).numpy()
    assert task.label(numbers).tolist() == [by_image[image.tobytes()] for image in inside]


def test_planted_modes_are_counted(root):
    task = get_task(f"stacked-mnist[samples={SAMPLES}]")
    many = uniforms(20000, 3, seed=1)
    modes = task.label(many)
    wanted = torch.unique(modes)[:50]
    chosen = many[torch.isin(modes, wanted)]
    samples = task.sample(chosen[torch.arange(SAMPLES) % len(chosen)])
    values = task.evaluate(Snapshot({}, samples[None]))
    # the classifier misreads at most 3 % of the channels that it was trained on: 9 % of the triples go elsewhere
    assert 45 <= float(values[f"modes_n{SAMPLES}"]) <= 50 + 0.09 * SAMPLES
    assert float(values[f"kl_modes_n{SAMPLES}"]) == pytest.approx(math.log(1000 / 50), abs=0.5)


def test_classifier_is_trained_once_kept_and_said(root, monkeypatch, capsys):
    first = mnist_classifier.classifier()
    assert first.accuracy >= mnist_classifier.LEAST
    monkeypatch.setattr(mnist_classifier, "_train", None)  # would fail if called
    mnist_classifier._classifier.cache_clear()
    capsys.readouterr()
    second = mnist_classifier.classifier()
    assert mnist_classifier.classifier() is second
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert first.sha256 in said
    assert f"{first.accuracy:.2%} of its selection split" in said
    assert all(torch.equal(first.parameters[key], second.parameters[key]) for key in first.parameters)


def test_classifier_is_the_same_trained_anew_whatever_the_threads(root, monkeypatch):
    monkeypatch.setattr(mnist_classifier, "UPDATES", 100)
    state = torch.random.get_rng_state()
    first = mnist_classifier._train()
    torch.set_num_threads(2)
    second = mnist_classifier._train()
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert torch.equal(state, torch.random.get_rng_state())


def test_fingerprint_names_data_and_classifier(root):
    tasks = [get_task(name) for name in NAMES]
    data = tasks[1].fingerprint
    sha256 = mnist_classifier.classifier().sha256[:16]
    assert [task.fingerprint for task in tasks if task is not tasks[1]] == [f"{data}+{sha256}"] * 4


def test_labels_that_do_not_fit_are_refused(tmp_path, monkeypatch):
    images, _ = enlarged()
    labels = np.random.default_rng(0).integers(0, 10, len(images))
    files.write_mnist(tmp_path / "data" / "mnist", (images[:500], labels[:500]), (images[500:600], labels[500:600]))
    monkeypatch.setenv("MANYPATHS_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("MANYPATHS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(mnist_classifier, "UPDATES", 100)
    with pytest.raises(UserError, match=r"gets .*% of its selection split right: counting modes by it needs 90%"):
        get_task("stacked-mnist")


def test_missing_files_and_wrong_options_are_refused(tmp_path, root, monkeypatch):
    with pytest.raises(UserError, match="construction = 'striped' must be stacked or tinted"):
        get_task("color-mnist[construction=striped]")
    with pytest.raises(UserError, match="samples = 10 must be at least 1000"):
        get_task("stacked-mnist[samples=10]")
    monkeypatch.setenv("MANYPATHS_DATA", str(tmp_path / "none"))
    for name in ("mnist", "stacked-mnist", "color-mnist"):
        with pytest.raises(UserError, match="mnist"):
            get_task(name)


def test_defaults_follow_the_protocol(root):
    task = get_task("stacked-mnist")
    assert task.evaluation_samples == 26000
    assert task.metrics[:3] == ("kl_modes_n26000", "modes_n26000", "modes_over10_sure_n26000")
    # 999 / 52000 and, to the next order, 1000^2 / 12 / 26000^2
    assert task.anchors[0] == pytest.approx(999 / 52000 + 0.000123, abs=6e-5)
